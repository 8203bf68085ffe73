"""The slow and obvious way to count, which judges the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dpsynth.coarsening import Coarse
from dpsynth.mechanisms.base import Columns, IntArray
from dpsynth.table import Table


class ReferenceCounter:
    """One row at a time."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._coarse: Sequence[Coarse] = ()

    def coarsen(self, coarse: Sequence[Coarse]) -> None:
        self._coarse = coarse

    def count(self, columns: Columns) -> IntArray:
        sizes = [*self._table.schema.sizes, *(made.size for made in self._coarse)]
        counts = np.zeros([sizes[column] for column in columns], dtype=np.int64)
        for row in self._table.codes:
            cells = [*row, *(made.groups[row[made.column]] for made in self._coarse)]
            counts[tuple(cells[column] for column in columns)] += 1
        return counts

    def count_each(self, asked: Sequence[Columns]) -> Iterator[IntArray]:
        return map(self.count, asked)
