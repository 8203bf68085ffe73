"""Column and Schema: everything about a table that is public, read from TOML and checked strictly.

A schema is written by a person and never learned from rows. What it leaves open stays open (`blanks`); what it says
wrongly is refused in one sentence that names the column and the key. Everything else in dpsynth sees the table only
through it.

    schema.py      Schema: the table; from_toml.py and to_toml.py: its text
    column.py      Column
    constraint.py  Constraint: a rule between columns
    read.py        Read: how a CSV file is to be read
    checks.py      checks of single keys, each of which refuses in one sentence
    vocabulary.py  the words and limits; quoting.py: names as messages show them
"""

from dpsynth.schema.column import Column
from dpsynth.schema.constraint import Constraint
from dpsynth.schema.read import Read
from dpsynth.schema.schema import Schema

__all__ = ["Column", "Constraint", "Read", "Schema"]
