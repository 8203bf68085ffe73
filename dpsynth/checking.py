"""Compares a data file with its schema: which declared facts the rows break, and how often.

The answer is exact, so it is as private as the rows (class P3). It is for the person who writes the schema and who may
see the data anyway; no value is printed, and nothing of it may reach a release. A bound changed because of it is
`source = "data"`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from dpsynth.reading.cells import MISSING, UNKNOWN, VALUE, Cells
from dpsynth.schema import Column, Schema
from dpsynth.schema.quoting import quoted
from dpsynth.sources import Data, blocks, check_header


@dataclass(frozen=True)
class CheckReport:
    """What a data file does against its schema. Private, class P3.

    Args:
        lines: A sentence for each declared fact that rows break, with the number of rows; empty when there is none.
    """

    lines: tuple[str, ...]

    @property
    def mismatch(self) -> bool:
        """Whether any row breaks a declared fact."""
        return bool(self.lines)


def check(schema: Schema, data: Data) -> CheckReport:
    """Reads a file, or a table of a database, and counts the cells that break what the schema declares.

    Raises:
        IncompleteSchema: the schema has blanks; a draft without blanks can be checked.
        DataFileError: its container, header or storage types do not fit.
        OperationError: it cannot be read.
    """
    schema.require_complete(may_be_draft=True)
    check_header(data, schema)
    broken: Counter[tuple[str, str]] = Counter()
    rows_of: Counter[bytes] = Counter()
    rows = lines = nobody = 0
    for block in blocks(data, schema):
        rows += block.rows
        lines += block.broken
        for column in schema.modelled:
            for fact, where in _breaches(column, block.cells[column.name]).items():
                broken[column.name, fact] += int(np.count_nonzero(where))
        if block.units is not None:
            rows_of.update(unit for unit in block.units if unit is not None)
            nobody += sum(unit is None for unit in block.units)
    found = [f"column {quoted(name)}: {fact} ({_rows(n)})" for (name, fact), n in broken.items() if n]
    if lines:
        found.append(f"the file: not a row with one cell for each column, dropped ({_rows(lines)})")
    if nobody:
        found.append(f"unit column {quoted(str(schema.unit_column))}: missing, row dropped ({_rows(nobody)})")
    surplus = [n for n in rows_of.values() if n > schema.unit.max_rows]
    if surplus:
        found.append(
            f"unit column {quoted(str(schema.unit_column))}: more than max_rows rows, surplus rows dropped "
            f"({len(surplus)} of {len(rows_of)} units)"
        )
    if schema.rows_at_most is not None and rows > schema.rows_at_most:
        found.append(f"the table: more rows than rows_at_most allows ({_rows(rows)})")
    return CheckReport(tuple(found))


def _breaches(column: Column, cells: Cells) -> dict[str, np.ndarray]:
    """Which cells break which declared fact, and what reading does about it; shape (rows,) each."""
    rule = {"missing": "taken as missing", "other": 'taken as "other"', "drop_row": "row dropped"}[column.unknown or ""]
    what = {"integer": "not a whole number", "number": "not a number", "boolean": "not a declared spelling"}
    what |= {"date": "not a date in the declared format", "datetime": "not a time in the declared format"}
    facts = {
        f"{what.get(column.type, 'not a declared value')}, {rule}": cells.kinds == UNKNOWN,
        f"missing although missing is not declared, {rule}": (cells.kinds == MISSING) & (not column.missing),
    }
    if column.is_numeric and column.is_complete:
        values, is_value = cells.values, cells.kinds == VALUE
        facts |= {
            "below the minimum, moved up to it": is_value & (values < column.binning.edges[0]),
            "above the maximum, moved down to it": is_value & (values > column.binning.edges[-1]),
        }
    return facts


def _rows(n: int) -> str:
    return f"{n} row" if n == 1 else f"{n} rows"
