"""What a counting backend does."""

from __future__ import annotations

from typing import Protocol

from dpsynth.mechanisms.base import Columns, IntArray


class Counter(Protocol):
    """Counts rows by the values of some columns. What it returns is exact and private."""

    def count(self, columns: Columns) -> IntArray:
        """Rows in each cell; shape = the cells of each column in turn."""
        ...
