"""The words and limits of a schema."""

from __future__ import annotations

from dpsynth.dates import TIMES

FORMAT = "dpsynth.schema/1"
NUMERIC = ("integer", "number", *TIMES)
CATEGORICAL = ("category", "ordinal")
DROPPED = ("identifier", "text")
TYPES = (*NUMERIC, *CATEGORICAL, "boolean", *DROPPED)
ROLES = ("direct_identifier", "quasi_identifier", "sensitive", "other")
DISCOVER = "discover"
TRUE_TEXTS = ("true", "True", "TRUE", "1")
FALSE_TEXTS = ("false", "False", "FALSE", "0")
OTHER = "other"
NO_VALUE = "no common value"
"""The label of a category of which discovery finds no value; with dots after it where that is a missing mark."""

MAX_DECIMALS = 15
LONGEST_LABEL = 200
"""Characters of a text that discovery may make a category; longer ones follow the column's `unknown` rule."""
MAX_COLUMN_CELLS = 2**16
MAX_DISCOVERED = 256
"""Values that discovery may find in a column, at most."""
MAX_CELLS = 2**20
MAX_ROWS = 10**6
MAX_TURNS = 2**20
