"""Counting in memory: one pass of NumPy's bincount for each marginal."""

from __future__ import annotations

import math

import numpy as np

from dpsynth.mechanisms.base import Columns, IntArray
from dpsynth.table import Table

_KEPT_CELLS = 5_000_000  # 40 MB


class MemoryCounter:
    """Keeps the table by columns, so that each pass reads only what it counts, and what it counted while it is small.

    A selection asks for the same marginals round after round.
    """

    def __init__(self, table: Table) -> None:
        self._sizes = table.schema.sizes
        self._rows = len(table)
        self._columns = [np.ascontiguousarray(column, dtype=np.int32) for column in table.codes.T]
        self._kept: dict[Columns, IntArray] = {}
        self._room = _KEPT_CELLS

    def count(self, columns: Columns) -> IntArray:
        if columns in self._kept:
            return self._kept[columns]
        shape = [self._sizes[column] for column in columns]
        if math.prod(shape) >= 2**31:
            raise ValueError(f"a marginal of {math.prod(shape)} cells is too large to count in memory")
        cell = np.zeros(self._rows, dtype=np.int32)
        for column, size in zip(columns, shape, strict=True):
            cell = cell * np.int32(size) + self._columns[column]
        counts = np.bincount(cell, minlength=math.prod(shape)).astype(np.int64, copy=False).reshape(shape)
        if counts.size <= self._room:
            self._room -= counts.size
            counts.flags.writeable = False
            self._kept[columns] = counts
        return counts
