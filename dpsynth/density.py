"""How values lie inside the bins of a numeric column, so that the edges of the bins cannot be seen in synthetic rows.

A model knows the mass of each bin. Spread evenly, the masses make a histogram with a step at every edge. Here they make a
density that is linear on either side of a knot in each bin, meets that of the neighbours at the edges, and keeps the mass
of every bin. It is made of masses that are public already, so it costs nothing, and it looks at no row.

At an edge the density is the geometric mean of the two bins beside it, which is exact for an exponential tail in equal
bins and for a power law in bins that grow by a constant factor. A bin between a high and a low edge has its knot where
the density is the geometric mean of the two, and so a bent slope as such tails do; any other bin has it in the middle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dpsynth.binning import Bins
from dpsynth.dates import CYCLES, Clock

FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.integer]

LEAST = 0.05  # of its mean, that the density of a bin has everywhere: no part of a bin is ruled out

_STEEPEST = 30.0  # logarithm of a ratio: what is steeper is cut to `LEAST` anyway
_FITTINGS = 20  # rounds: cycles hang together little, so few are needed
_RAREST = 1e-3  # of the mean of its cycle, that each phase has at least: no day is ruled out


class Spread(Protocol):
    """How values lie inside the cells of a column; places and shares are counted from 0 to 1 a cell."""

    def share(self, cells: IntVector, places: FloatVector) -> FloatVector:
        """The share of the mass of each of these cells that lies before a place."""
        ...

    def place(self, cells: IntVector, shares: FloatVector) -> FloatVector:
        """Where the shares of the mass of each of these cells are reached: the inverse of `share`, below 1."""
        ...

    def height(self, cells: IntVector, places: FloatVector) -> FloatVector:
        """The density at a place of each of these cells, relative to its mean in the cell."""
        ...

    def ceiling(self, cells: IntVector) -> FloatVector:
        """The largest density in each of these cells, relative to its mean in the cell."""
        ...


@dataclass(frozen=True, eq=False)
class Density:
    """A `Spread` that is linear on either side of a knot; densities are relative to their mean in the cell.

    Args:
        knot: Where the two pieces meet, in (0, 1); shape (cells,).
        first, middle, last: The density where the cell begins, at the knot, and where it ends; each shape (cells,).
    """

    knot: FloatVector
    first: FloatVector
    middle: FloatVector
    last: FloatVector

    @classmethod
    def of(cls, bins: Bins, masses: FloatVector) -> Density:
        """The density that follows from the masses of the cells.

        Cells that hold one value, or no mass, have no slope, and their neighbours none towards them.

        Args:
            masses: Of each cell, in any unit, not negative; shape (size,).
        """
        has_slope = (masses > 0) & ~bins.is_point & (bins.widths > 0)  # between the least floats half a width is none
        log_height = np.log(np.where(has_slope, masses, 1.0)) - np.log(np.where(has_slope, bins.widths, 1.0))
        ratio = np.exp(np.clip(np.diff(log_height) / 2, -_STEEPEST, _STEEPEST))  # the edge over the cell before it
        joined = has_slope[1:] & has_slope[:-1]
        first, last = np.ones(bins.size), np.ones(bins.size)
        last[:-1][joined], first[1:][joined] = ratio[joined], 1 / ratio[joined]
        begins, ends = np.append(True, ~joined), np.append(~joined, True)
        first = np.where(begins & ~ends, 2 - last, first)  # a straight line to where nothing is known
        last = np.where(ends & ~begins, 2 - first, last)
        first, last = np.maximum(first, LEAST), np.maximum(last, LEAST)
        return cls._bent(np.where(has_slope, first, 1.0), np.where(has_slope, last, 1.0))

    @classmethod
    def _bent(cls, first: FloatVector, last: FloatVector) -> Density:
        """The density with these ends and mean 1; ends that leave the middle too little are lowered."""
        bend = np.sqrt(first) * np.sqrt(last)
        low, high = np.minimum(first, last), np.maximum(first, last)
        bent = (low + high > 2) & (low + bend < 2) & (high + bend > 2)
        middle = np.where(bent, bend, 2 - (first + last) / 2)
        knot = np.divide(2 - last - middle, first - last, out=np.full(len(first), 0.5), where=bent)
        deep = middle < LEAST
        lower = np.divide(4 - 4 * LEAST, first + last - 2 * LEAST, out=np.ones(len(first)), where=deep)
        first, last = (LEAST + (end - LEAST) * lower for end in (first, last))
        return cls(knot, first, np.where(deep, LEAST, middle), last)

    def share(self, cells: IntVector, places: FloatVector) -> FloatVector:
        knot, first, middle, last = (part[cells] for part in (self.knot, self.first, self.middle, self.last))
        before, behind = np.minimum(places, knot), np.maximum(places - knot, 0.0)
        rise, fall = (middle - first) / knot, (last - middle) / (1 - knot)
        found: FloatVector = before * (first + before * rise / 2) + behind * (middle + behind * fall / 2)
        return np.clip(found, 0.0, 1.0)

    def place(self, cells: IntVector, shares: FloatVector) -> FloatVector:
        knot, first, middle, last = (part[cells] for part in (self.knot, self.first, self.middle, self.last))
        reached = knot * (first + middle) / 2
        behind = shares > reached
        start = np.where(behind, middle, first)
        rise = np.where(behind, (last - middle) / (1 - knot), (middle - first) / knot)
        rest = np.where(behind, shares - reached, shares)
        root = np.sqrt(np.maximum(start * start + 2 * rise * rest, 0.0))
        found: FloatVector = np.where(behind, knot, 0.0) + 2 * rest / (start + root)
        return np.clip(found, 0.0, np.nextafter(1.0, 0.0))

    def height(self, cells: IntVector, places: FloatVector) -> FloatVector:
        knot, first, middle, last = (part[cells] for part in (self.knot, self.first, self.middle, self.last))
        way = np.where(places <= knot, places / knot, (places - knot) / (1 - knot))
        start, end = np.where(places <= knot, first, middle), np.where(places <= knot, middle, last)
        found: FloatVector = start * (1 - way) + end * way
        return found

    def ceiling(self, cells: IntVector) -> FloatVector:
        found: FloatVector = np.maximum(np.maximum(self.first, self.last), self.middle)[cells]
        return found


@dataclass(frozen=True, eq=False)
class Seasonal:
    """A `Spread` of dates or times that also follows their cycles: a height for every day, or every hour, of each cell.

    Args:
        starts: The first grid step of each cell, and one past the last cell's last; shape (cells + 1,).
        cuts: The first step of each day or hour, cut where a cell begins, and one past the last; increasing.
        reached: The share of its cell before each cut, plus the number of the cell; shape of `cuts`.
    """

    starts: FloatVector
    cuts: FloatVector
    reached: FloatVector

    @classmethod
    def of(
        cls, bins: Bins, masses: FloatVector, spread: Spread, clock: Clock, counts: Mapping[str, IntVector]
    ) -> Seasonal:
        """The heights that keep the masses of the cells and come nearest to the counts of each cycle.

        Within a cell they start as `spread` has them, and are scaled to the counts of one cycle and to the masses after
        the other (iterative proportional fitting, Deming and Stephan 1940).

        Args:
            masses: Of each cell, not negative; shape (size,).
            counts: Of each phase of each cycle; noisy ones may be negative.
        """
        assert bins.starts is not None
        turn = clock.turn(counts)
        first, last = int(bins.starts[0]), int(bins.starts[-1])
        turns = np.arange(-(-first // turn) * turn, last, turn)
        cuts = np.unique(np.concatenate([bins.starts, turns])).astype(np.float64)
        low, starts = cuts[:-1], bins.starts.astype(np.float64)
        cell = np.searchsorted(starts[1:], low, side="right")
        begin, end = ((edge - starts[cell]) / bins.widths[cell] for edge in (low, cuts[1:]))
        weights = np.maximum(spread.share(cell, end) - spread.share(cell, begin), 1e-12)
        phases = {cycle: clock.phases(cycle, low) for cycle in counts}
        kept = np.maximum(masses, 1e-9 * max(masses.sum(), 1e-300))
        weights *= kept[cell]
        for _ in range(_FITTINGS):
            for cycle, phase in phases.items():
                wanted = np.maximum(counts[cycle], 0.0)
                wanted = wanted / max(wanted.sum(), 1.0) + _RAREST / CYCLES[cycle]
                found = np.bincount(phase, weights, minlength=CYCLES[cycle])
                weights *= np.divide(wanted, found, out=np.ones(len(found)), where=found > 0)[phase]
            weights *= (kept / np.bincount(cell, weights, minlength=bins.size))[cell]
        reached = np.append(0.0, np.cumsum(weights / kept[cell]))
        reached[np.searchsorted(cuts, starts)] = np.arange(bins.size + 1)
        return cls(starts, cuts, np.maximum.accumulate(reached))

    def share(self, cells: IntVector, places: FloatVector) -> FloatVector:
        width = self.starts[cells + 1] - self.starts[cells]
        found = np.interp(self.starts[cells] + places * width, self.cuts, self.reached)
        return np.clip(found - cells, 0.0, 1.0)

    def place(self, cells: IntVector, shares: FloatVector) -> FloatVector:
        width = self.starts[cells + 1] - self.starts[cells]
        found = np.interp(cells + shares, self.reached, self.cuts)
        return np.clip((found - self.starts[cells]) / width, 0.0, np.nextafter(1.0, 0.0))

    def height(self, cells: IntVector, places: FloatVector) -> FloatVector:
        at = self.starts[cells] + places * (self.starts[cells + 1] - self.starts[cells])
        turn = np.searchsorted(self.cuts, at, side="right") - 1
        found: FloatVector = self._heights[np.clip(turn, 0, len(self._heights) - 1)]
        return found

    def ceiling(self, cells: IntVector) -> FloatVector:
        first = np.searchsorted(self.cuts, self.starts[:-1])
        found: FloatVector = np.maximum.reduceat(self._heights, first)[cells]
        return found

    @cached_property
    def _heights(self) -> FloatVector:
        """The density between each two cuts; shape (cuts - 1,)."""
        cell = np.searchsorted(self.starts[1:], self.cuts[:-1], side="right")
        return np.diff(self.reached) / np.diff(self.cuts) * np.diff(self.starts)[cell]
