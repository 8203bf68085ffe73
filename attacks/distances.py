"""Distances between rows, in whole numbers.

Every column is worth one unit of squared distance at most: numbers by how far apart they are, categories by being
different, a missing value by being a level of its own. Coordinates are rounded to whole steps, so a matrix product in
float64 is exact whatever its blocks and its order of summation: equal distances compare equal, ties are ties, and no
person's distance depends on whose row stands next to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from attacks.people import MISSING, Rows, keys
from dpsynth import Column

FloatVector: TypeAlias = npt.NDArray[np.float64]
FloatMatrix: TypeAlias = npt.NDArray[np.float64]
IntVector: TypeAlias = npt.NDArray[np.int64]
IntMatrix: TypeAlias = npt.NDArray[np.int64]

UNIT = 2**20  # steps for which two numbers, or two categories, are as far apart as they can be
APART = 741455  # UNIT / sqrt(2): two different one-hot vectors of this length lie UNIT apart
WIDE = 32  # a category with more levels than this is compared level by level instead
FEW = 6  # columns; distances over fewer are cheap, and need fine steps
BLOCK = 2**19  # distances computed at a time: two megabytes or four, which stay near the processor
TILE = 2**12  # points of a base that are looked at together where only the nearest one counts
LOOKED_UP = 2**23  # distances between levels and points that are computed beforehand, at most
GROUP = 16  # numbers looked at together when the smallest are sought


@dataclass(frozen=True, eq=False)
class Points:
    """Rows as points.

    Args:
        near: Whole numbers; shape (rows, coordinates).
        wide: Codes of columns with many levels; shape (rows, columns).
        unit: Steps to a unit.
    """

    near: FloatMatrix
    wide: IntVector
    unit: int = UNIT

    def __len__(self) -> int:
        return len(self.near)

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Points:
        return Points(self.near[rows], self.wide[rows], self.unit)

    def light(self, columns: int) -> Points:
        """The same points on a coarser grid, on which float32 is exact and twice as fast.

        Squared distances over `columns` columns, and all that is added up on the way, stay below 2^24: about 580 steps
        to a unit for 20 columns. With few columns that would be too coarse, and float64 is fast enough.
        """
        if columns < FEW:
            return self
        unit = max(int((2**24 / (2.5 * columns)) ** 0.5), 1)
        near = np.rint(self.near * (unit / UNIT)).astype(np.float32)
        return Points(near, self.wide.astype(np.int32), unit)  # type: ignore[arg-type]

    def distinct(self) -> tuple[Points, IntVector]:
        """The different points, and which of them each row is."""
        number = keys(np.concatenate([self.near, self.wide], axis=1))[0] if len(self) else np.zeros(0, dtype=np.int64)
        _, first, which = np.unique(number, return_index=True, return_inverse=True)
        return self.take(first), which.reshape(-1)


def placed(columns: Sequence[Column], codes: FloatMatrix | IntMatrix, where: FloatMatrix) -> Points:
    """Rows as points.

    Args:
        columns: What the columns are.
        codes: Codes of categories; shape (rows, columns), not looked at where a column is numeric.
        where: Positions of numbers in [0, 1], NaN where missing; shape (rows, columns), looked at only there.
    """
    near: list[FloatMatrix] = []
    wide: list[IntVector] = []
    for place, column in enumerate(columns):
        code, position = codes[:, place], where[:, place]
        if column.is_numeric:
            there = ~np.isnan(position)
            coordinates = [np.where(there, np.round(UNIT * np.where(there, position, 0.0)), float(UNIT // 2))]
            if column.missing:
                coordinates.append(np.where(there, 0.0, float(UNIT)))
            near.append(np.stack(coordinates, axis=1).astype(np.float64))
        elif column.size > WIDE:
            wide.append(code.astype(np.int64))
        elif column.size <= 2:
            near.append((code * float(UNIT))[:, None].astype(np.float64))
        else:
            near.append(np.where(code[:, None] == np.arange(column.size), float(APART), 0.0))
    return Points(
        np.concatenate(near, axis=1) if near else np.zeros((len(codes), 0)),
        np.stack(wide, axis=1) if wide else np.zeros((len(codes), 0), dtype=np.int64),
    )


@dataclass(frozen=True, eq=False)
class Metric:
    """How far apart rows are, as the attacker sees it, who has the synthetic table and the public schema.

    A number is placed half by its position between the declared bounds and half by its rank among the synthetic
    values: the first keeps a copy with a little noise close, the second keeps a skewed column from collapsing.

    Args:
        synthetic: The table whose ranks are used.
    """

    synthetic: Rows

    def points(self, rows: Rows, places: list[int] | None = None) -> Points:
        """Rows as points, on the columns at these places or on all."""
        chosen = list(range(len(rows.columns))) if places is None else places
        columns = [rows.columns[place] for place in chosen]
        values = rows.values[:, chosen]
        where = np.zeros(values.shape)
        for number, (place, column) in enumerate(zip(chosen, columns, strict=True)):
            if column.is_numeric:
                where[:, number] = _position(column, values[:, number], self.synthetic.ranks[place])
        return placed(columns, values, where)

    def widths(self) -> list[int]:
        """How many coordinates each column has."""
        return [_width(column) for column in self.synthetic.columns]


def _width(column: Column) -> int:
    if column.is_numeric:
        return 2 if column.missing else 1
    return 0 if column.size > WIDE else 1 if column.size <= 2 else column.size


def _position(column: Column, values: FloatVector, ranks: tuple[FloatVector, FloatVector] | None) -> FloatVector:
    """Where numbers lie in [0, 1], NaN where missing."""
    low, high = float(column.binning.edges[0]), float(column.binning.edges[-1])
    there = values != MISSING
    value = np.where(there, values, low)
    where = (value - low) / (high - low) if high > low else np.zeros(len(values))
    if ranks is not None and len(ranks[0]):
        where = (where + np.interp(value, *ranks)) / 2
    return np.where(there, where, np.nan)


P = ParamSpec("P")
R = TypeVar("R")
_THREADS = ThreadpoolController()


def one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Keeps matrix products on one thread.

    Products this small are slower on several, and slower by far where other programs want the cores too.
    """

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with _THREADS.limit(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return limited


def blocks(queries: Points, base: Points) -> Iterator[tuple[slice, FloatMatrix]]:
    """Squared distances in whole steps, some queries at a time: (which queries, shape (queries, base)).

    Each block overwrites the one before it.
    """
    ours, theirs = Factors.of(queries), Factors.turned(base)
    for part, (squared,) in passes(len(queries), len(base), ours.near.dtype.type, 1):
        yield part, ours.times(part, theirs, out=squared)


def passes(queries: int, base: int, kind: type[np.floating[Any]], buffers: int) -> Iterator[tuple[slice, list[Any]]]:
    """Some queries at a time, with room for their distances that is used again: (which, arrays of (queries, base))."""
    size = max(min(BLOCK // max(base, 1), queries), 1)
    room = [np.empty((size, base), dtype=kind) for _ in range(buffers)]
    for start in range(0, queries, size):
        end = min(start + size, queries)
        yield slice(start, end), [one[: end - start] for one in room]


@dataclass(frozen=True, eq=False)
class Factors:
    """Points with their squared lengths, so that a matrix product gives squared distances.

    Args:
        near: (x, 1, |x|^2) a row for queries, (-2 y, |y|^2, 1) a column for the base.
        wide: As in `Points`.
        squared_unit: Steps of a unit, squared.
        apart: For the base: what each level of each wide column is away from all points, and the levels; None for a
            column that has too many. Shape (levels + 1, base), the last row for levels that the base does not have.
    """

    near: FloatMatrix
    wide: IntVector
    squared_unit: float
    apart: tuple[tuple[IntVector, FloatMatrix] | None, ...] = ()

    @classmethod
    def of(cls, points: Points) -> Factors:
        lengths, ones = _lengths(points)
        near = np.concatenate([points.near, ones, lengths], axis=1)
        return cls(near, points.wide, float(points.unit) ** 2)

    @classmethod
    def turned(cls, points: Points) -> Factors:
        lengths, ones = _lengths(points)
        near = np.ascontiguousarray(np.concatenate([-2 * points.near, lengths, ones], axis=1).T)
        squared_unit = float(points.unit) ** 2
        apart = tuple(_apart(column, near.dtype.type(squared_unit)) for column in points.wide.T)
        return cls(near, points.wide, squared_unit, apart)

    def times(self, part: slice, base: Factors, out: FloatMatrix | None = None) -> FloatMatrix:
        """Squared distances of some queries from all points of the base; shape (queries, base)."""
        squared: FloatMatrix = np.matmul(self.near[part], base.near, out=out)
        for mine, theirs, apart in zip(self.wide[part].T, base.wide.T, base.apart, strict=True):
            if apart is None:
                unit = squared.dtype.type(self.squared_unit)
                np.add(squared, unit, out=squared, where=mine[:, None] != theirs[None, :])
                continue
            levels, rows = apart
            level = np.minimum(np.searchsorted(levels, mine), len(levels) - 1)
            for row, number in zip(squared, np.where(levels[level] == mine, level, len(levels)).tolist(), strict=True):
                row += rows[number]
        return squared


def _apart(codes: IntVector, squared_unit: np.floating[Any]) -> tuple[IntVector, FloatMatrix] | None:
    """The levels of a column, and their squared distances from all points, and from those none of which is equal."""
    levels = np.unique(codes)
    if not len(codes) or (len(levels) + 1) * len(codes) > LOOKED_UP:
        return None
    different = np.concatenate([levels[:, None] != codes[None, :], np.ones((1, len(codes)), dtype=bool)])
    return levels, different * squared_unit


def _lengths(points: Points) -> tuple[FloatMatrix, FloatMatrix]:
    lengths = np.einsum("ij,ij->i", points.near, points.near)[:, None]
    return lengths, np.ones_like(lengths)


def smallest(squared: FloatMatrix, k: int) -> IntMatrix:
    """Where the `k` smallest numbers of each row stand, in no order; shape (rows, k), or fewer where there are fewer.

    They are among the k groups of numbers with the smallest minima, and looking at every 16th number for the first step
    costs little more than one pass.
    """
    rows, columns = squared.shape
    k = min(k, columns)
    groups = columns // GROUP
    if groups <= 2 * k:
        return np.argpartition(squared, k - 1, axis=1)[:, :k]
    body = squared[:, : groups * GROUP].reshape(rows, GROUP, groups)
    chosen = np.argpartition(body.min(axis=1), k - 1, axis=1)[:, :k]
    places = (chosen[:, None, :] + groups * np.arange(GROUP)[None, :, None]).reshape(rows, -1)
    rest = np.broadcast_to(np.arange(groups * GROUP, columns), (rows, columns - groups * GROUP))
    places = np.concatenate([places, rest], axis=1)
    best = np.argpartition(np.take_along_axis(squared, places, axis=1), k - 1, axis=1)[:, :k]
    return np.take_along_axis(places, best, axis=1)


def lowest(squared: FloatMatrix) -> tuple[FloatVector, IntVector, IntVector]:
    """The smallest number of each row, and where it stands: pairs (row, column) of all ties, ascending by row.

    As in `smallest`, groups of columns are looked at first; where a good part of them holds a tie, all columns are.
    """
    rows, columns = squared.shape
    groups = columns // GROUP
    body, rest = squared[:, : groups * GROUP].reshape(rows, GROUP, groups), squared[:, groups * GROUP :]
    if not groups:
        least = squared.min(axis=1)
        return least, *pairs(squared == least[:, None])
    minima = body.min(axis=1)
    least = minima.min(axis=1)
    if rest.shape[1]:
        least = np.minimum(least, rest.min(axis=1))
    row, group = pairs(minima == least[:, None])
    if len(row) * GROUP > rows * columns // GROUP:
        return least, *pairs(squared == least[:, None])
    found, place = pairs(body[row, :, group] == least[row, None])
    late, after = pairs(rest == least[:, None])
    query = np.concatenate([row[found], late])
    point = np.concatenate([place * groups + group[found], after + groups * GROUP])
    order = np.argsort(query, kind="stable")
    return least, query[order], point[order]


def pairs(mask: npt.NDArray[np.bool_]) -> tuple[IntVector, IntVector]:
    """Where the mask is true: rows and columns."""
    return np.divmod(np.flatnonzero(mask), max(mask.shape[1], 1))


@one_thread
def nearest(queries: Points, base: Points, *, k: int = 1) -> FloatMatrix:
    """Distances to the `k` nearest points of `base`, ascending, in units of a column; shape (queries, k).

    Where `base` has fewer points than `k`, the farthest one is repeated.
    """
    if k == 1:
        return np.sqrt(_least(queries, base)[:, None]) / queries.unit
    found = np.empty((len(queries), k))
    within = min(k, len(base))
    for part, squared in blocks(queries, base):
        few = np.sort(np.take_along_axis(squared, smallest(squared, within), axis=1), axis=1)
        found[part] = few[:, np.minimum(np.arange(k), within - 1)]
    return np.sqrt(found) / queries.unit


def _least(queries: Points, base: Points) -> FloatVector:
    """Squared distances to the nearest point of `base`, some points at a time: it may be too large to stay near by."""
    least = np.full(len(queries), np.inf)
    for start in range(0, len(base), TILE):
        some = base.take(np.arange(start, min(start + TILE, len(base))))
        for part, squared in blocks(queries, some):
            np.minimum(least[part], squared.min(axis=1), out=least[part])
    return least


@one_thread
def ties(queries: Points, base: Points) -> tuple[IntVector, IntVector, FloatVector]:
    """All nearest points of `base`: pairs (query, point), and each query's squared distance in whole steps."""
    query, point, least = [], [], np.empty(len(queries))
    for part, squared in blocks(queries, base):
        least[part] = squared.min(axis=1)
        i, j = np.divmod(np.flatnonzero(squared == least[part, None]), len(base))
        query.append(i + part.start)
        point.append(j)
    none = np.zeros(0, dtype=np.int64)
    return np.concatenate([none, *query]), np.concatenate([none, *point]), least
