"""What a counting backend does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from dpsynth.coarsening import Coarse
from dpsynth.mechanisms.base import Columns, IntArray


class Counter(Protocol):
    """Counts rows by the values of some columns. What it returns is exact and private."""

    def coarsen(self, coarse: Sequence[Coarse]) -> None:
        """Puts coarse columns after the declared ones, in place of those that were there."""
        ...

    def count(self, columns: Columns) -> IntArray:
        """Rows in each cell; shape = the cells of each column in turn."""
        ...

    def count_each(self, asked: Sequence[Columns]) -> Iterator[IntArray]:
        """The same for one marginal after another."""
        ...
