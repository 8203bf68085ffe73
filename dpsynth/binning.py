"""The cells of a numeric column: half-open intervals, the last one closed.

A column whose values lie on a grid (integers, or numbers with a declared number of decimals) is counted in grid steps,
in exact arithmetic: which values a bin holds never depends on how a float was rounded. Nothing here looks at rows; the
edges follow from the schema alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dpsynth.privacy import exact

if TYPE_CHECKING:
    from dpsynth.density import Spread

FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]
CodeVector = npt.NDArray[np.int32]
BoolVector = npt.NDArray[np.bool_]

DEFAULT_BINS = 32
LARGEST_INTEGER = 2**53  # float64 keeps every integer up to here apart
ONE_CELL_EACH = 64  # an integer column with at most this many values gets one cell a value


@dataclass(frozen=True, kw_only=True, eq=False)
class Bins:
    """Intervals that cut a numeric domain into cells 0 .. size - 1; code `size` is the missing cell.

    A cell that holds a single value ends at the next float, or where it begins if it is the last one.

    Args:
        edges: Where the bins begin, and where the last one ends; shape (size + 1,), increasing.
        decimals: Values are multiples of 10 ** -decimals; None for a continuous column.
        starts: The first grid step of each bin, and one past the last bin's last; shape (size + 1,); None likewise.
    """

    edges: FloatVector
    decimals: int | None = None
    starts: IntVector | None = None

    @classmethod
    def of(
        cls,
        *,
        minimum: int | float,
        maximum: int | float,
        bins: int | None = None,
        edges: Sequence[int | float] | None = None,
        decimals: int | None = None,
        atoms: Sequence[int | float] = (),
    ) -> Bins:
        """The bins of a declared domain: the given edges, or equal parts.

        Without `bins` and `edges`, a grid of at most 64 integers gets one cell a value, everything else 32 parts (or
        one cell a value where the grid has fewer).

        Args:
            decimals: 0 for an integer column.
            atoms: Values that are then taken out of their bins, to have a cell of their own each.
        Raises:
            ValueError: a bin would hold no value, or the grid is too fine for float64; the text says which.
        """
        low, high = exact(minimum), exact(maximum)
        if decimals is None:
            cuts = [exact(edge) for edge in edges] if edges else _equal_parts(low, high, bins or DEFAULT_BINS)
            floats = _floats(cuts)
            if not np.all(np.diff(floats) > 0):
                raise ValueError("its bins are too narrow for floating-point numbers to tell apart")
            return cls(edges=_with_atoms(floats, atoms))
        step = Fraction(1, 10**decimals)
        first, last = math.ceil(low / step), math.floor(high / step)
        if max(abs(first), abs(last)) > LARGEST_INTEGER:
            raise ValueError(f"its bounds are too wide for {decimals} decimals" if decimals else _TOO_LARGE)
        count = last - first + 1
        if count < 1:
            raise ValueError(f"no number with {decimals} decimals lies between its minimum and its maximum")
        if bins is None and edges is None:
            bins = count if decimals == 0 and count <= ONE_CELL_EACH else min(DEFAULT_BINS, count)
        if edges is None and bins is not None and bins > count:
            raise ValueError(f"bins ({bins}) are more than the {count} values it can have")
        if edges is None and bins == count:
            starts = list(range(first, last + 2))
            cuts = [start * step for start in starts[:-1]] + [max(high, last * step)]
        else:
            cuts = [exact(edge) for edge in edges] if edges else _equal_parts(low, high, bins or 1)
            starts = [math.ceil(cut / step) for cut in cuts[:-1]] + [last + 1]
        for cut, (start, end) in zip(cuts, pairwise(starts), strict=False):
            if start >= end:
                raise ValueError(f"the bin that starts at {float(cut):g} holds no value with {decimals} decimals")
        cut_at = dict(zip(starts, cuts, strict=True))
        for atom in atoms:
            place = exact(atom) / step
            if place.denominator != 1:
                raise ValueError(f"the atom {float(atom):g} has more than {decimals} decimals")
            if not first <= place <= last:
                raise ValueError(f"the atom {float(atom):g} must lie between its minimum and its maximum")
            for start in (int(place), int(place) + 1):
                cut_at.setdefault(start, start * step)
        starts, cuts = sorted(cut_at), [cut_at[start] for start in sorted(cut_at)]
        return cls(edges=_floats(cuts), decimals=decimals, starts=np.array(starts, dtype=np.int64))

    @property
    def size(self) -> int:
        """The number of cells, the missing one not counted."""
        return len(self.edges) - 1

    def clamp(self, values: FloatVector) -> FloatVector:
        """The nearest allowed value: inside the bounds, on the grid, and never a negative zero; NaN stays NaN."""
        inside = np.clip(values, self.edges[0], self.edges[-1])
        if self.starts is not None and self.decimals is not None:
            scale = 10.0**self.decimals
            inside = np.clip(np.rint(inside * scale), self.starts[0], self.starts[-1] - 1) / scale
        return inside + 0.0

    def encode(self, values: FloatVector) -> CodeVector:
        """The cell of each value; values beyond the bounds go to the nearest cell, NaN to cell `size`."""
        codes = np.searchsorted(self._lower_bounds[1:], values, side="right").astype(np.int32)
        codes[np.isnan(values)] = self.size
        return codes

    def decode(self, codes: CodeVector, *, rng: np.random.Generator, density: Spread | None = None) -> FloatVector:
        """A value of each cell, as its density has it; NaN for cell `size`.

        `encode` gives back the codes: a drawn value never leaves its cell by rounding.

        Args:
            density: How values lie inside cells; None if uniformly.
        """
        cell = np.minimum(codes, self.size - 1)
        share = rng.random(len(codes))
        values = self.placed(cell, share if density is None else density.place(cell, share))
        values[codes == self.size] = np.nan
        return values

    def placed(self, cell: CodeVector, place: FloatVector) -> FloatVector:
        """The value at a place of each cell.

        Args:
            place: From 0, where the cell begins, to below 1.
        """
        values: FloatVector
        if self.starts is not None and self.decimals is not None:  # a place of 53 bits reaches all of 2**53 steps
            steps = np.diff(self.starts)[cell]
            values = np.minimum(np.floor(place * steps), steps - 1)
            values += self.starts[:-1].astype(np.float64)[cell]
            values /= 10.0**self.decimals
        else:
            low, high = self.edges[:-1], self.edges[1:]
            values = np.clip(low[cell] * (1 - place) + high[cell] * place, low[cell], np.nextafter(high, low)[cell])
        return values

    @cached_property
    def is_point(self) -> BoolVector:
        """Which cells hold a single value; shape (size,)."""
        if self.starts is not None:
            return np.equal(np.diff(self.starts), 1)
        closed = np.arange(self.size) == self.size - 1
        return np.less_equal(self.edges[1:], np.where(closed, self.edges[:-1], np.nextafter(self.edges[:-1], np.inf)))

    @property
    def widths(self) -> FloatVector:
        """How wide each cell is, in grid steps or (by half, so that it stays finite) in numbers; shape (size,)."""
        if self.starts is not None:
            return np.diff(self.starts).astype(np.float64)
        return self.edges[1:] / 2 - self.edges[:-1] / 2

    def interval(self, code: int) -> tuple[float, float, bool]:
        """The smallest and the largest value of a cell, and whether it reaches the largest."""
        if self.starts is None or self.decimals is None:
            if self.is_point[code]:
                return float(self.edges[code]), float(self.edges[code]), True
            return float(self.edges[code]), float(self.edges[code + 1]), code == self.size - 1
        scale = 10.0**self.decimals
        return float(self.starts[code] / scale), float((self.starts[code + 1] - 1) / scale), True

    @property
    def _lower_bounds(self) -> FloatVector:
        """The smallest value of each cell."""
        if self.starts is None or self.decimals is None:
            return self.edges[:-1]
        return self.starts[:-1] / 10.0**self.decimals


_TOO_LARGE = f"its bounds must be between -{LARGEST_INTEGER} and {LARGEST_INTEGER}, where every integer is kept exactly"


def _equal_parts(low: Fraction, high: Fraction, parts: int) -> list[Fraction]:
    return [low + (high - low) * i / parts for i in range(parts + 1)]


def _with_atoms(edges: FloatVector, atoms: Sequence[int | float]) -> FloatVector:
    """Edges with each atom between two of its own: itself and the next float, or itself twice at the end.

    Raises:
        ValueError: an atom lies outside.
    """
    values = np.array([float(atom) for atom in atoms]) + 0.0  # and no negative zero
    for atom in values:
        if not edges[0] <= atom <= edges[-1]:
            raise ValueError(f"the atom {atom:g} must lie between its minimum and its maximum")
    ends = np.nextafter(values, np.inf)
    cuts = np.unique(np.concatenate([edges, values, ends[ends < edges[-1]]]))
    return np.append(cuts, cuts[-1]) if edges[-1] in values else cuts


def _floats(cuts: Iterable[Fraction]) -> FloatVector:
    return np.array([float(cut) for cut in cuts], dtype=np.float64)
