"""Coarse columns: cells that noise would drown are merged before anything is measured together with others.

A coarse column is one more column, a function of a declared one, chosen from noisy counts or from public facts. Each row
has one cell of it, so it changes no sensitivity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class Coarse:
    """A column made from another one by merging cells.

    Args:
        column: The column it is made from.
        groups: The coarse cell of each cell, in 0 .. size - 1, each at least once; shape (cells,).
    """

    column: int
    groups: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        numbered = self.groups.min() >= 0 and self.groups.max() < len(self.groups)
        if not numbered or not np.bincount(self.groups).all():
            raise ValueError("groups must be numbered from 0, and none may be empty")

    @property
    def size(self) -> int:
        """The number of coarse cells."""
        return int(self.groups.max()) + 1

    @property
    def mask(self) -> BoolArray:
        """Which cells lie in which coarse cell; shape (cells, coarse cells)."""
        return np.asarray(self.groups[:, None] == np.arange(self.size))


def groups_of(counts: npt.NDArray[np.float64], *, least: float, ordered: bool) -> npt.NDArray[np.int64]:
    """Merges cells until nearly each has `least` rows; shape (cells,), numbered from 0.

    Args:
        counts: Noisy rows in each cell.
        ordered: Whether only neighbours may be merged; else all small cells become one.
    """
    if not ordered:
        large = counts >= least
        return np.where(large, np.cumsum(large) - 1, large.sum()).astype(np.int64)
    groups = np.zeros(len(counts), dtype=np.int64)
    held = current = 0.0
    for cell, count in enumerate(counts):
        groups[cell] = current
        held += max(float(count), 0.0)
        if held >= least:
            held, current = 0.0, current + 1
    if groups[-1] == current and current > 0:  # what is left over joins the last full group
        groups[groups == current] -= 1
    return groups
