"""The slow and obvious way to count, which judges the others."""

from __future__ import annotations

import numpy as np

from dpsynth.mechanisms.base import Columns, IntArray
from dpsynth.table import Table


class ReferenceCounter:
    """One row at a time."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def count(self, columns: Columns) -> IntArray:
        counts = np.zeros([self._table.schema.sizes[column] for column in columns], dtype=np.int64)
        for row in self._table.codes:
            counts[tuple(row[column] for column in columns)] += 1
        return counts
