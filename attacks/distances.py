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
from typing import ParamSpec, TypeAlias, TypeVar

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
BLOCK = 2**18  # distances computed at a time: two megabytes, which stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Points:
    """Rows as points.

    Args:
        near: Whole numbers; shape (rows, coordinates).
        wide: Codes of columns with many levels; shape (rows, columns).
    """

    near: FloatMatrix
    wide: IntVector

    def __len__(self) -> int:
        return len(self.near)

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Points:
        return Points(self.near[rows], self.wide[rows])

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
                where[:, number] = _position(column, values[:, number], self.synthetic.values[:, place])
        return placed(columns, values, where)


def _position(column: Column, values: FloatVector, synthetic: FloatVector) -> FloatVector:
    """Where numbers lie in [0, 1], NaN where missing."""
    low, high = float(column.binning.edges[0]), float(column.binning.edges[-1])
    there = values != MISSING
    value = np.where(there, values, low)
    where = (value - low) / (high - low) if high > low else np.zeros(len(values))
    known = synthetic[synthetic != MISSING]
    if len(known):
        levels, counts = np.unique(known, return_counts=True)
        where = (where + np.interp(value, levels, (np.cumsum(counts) - counts / 2) / len(known))) / 2
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
    """Squared distances in whole steps, some queries at a time: (which queries, shape (queries, base))."""
    lengths = np.einsum("ij,ij->i", base.near, base.near)
    turned = np.ascontiguousarray(-2.0 * base.near.T)
    size = max(BLOCK // max(len(base), 1), 1)
    for start in range(0, len(queries), size):
        part = slice(start, min(start + size, len(queries)))
        near = queries.near[part]
        squared = near @ turned
        squared += lengths
        squared += np.einsum("ij,ij->i", near, near)[:, None]
        for mine, theirs in zip(queries.wide[part].T, base.wide.T, strict=True):
            squared += float(UNIT) ** 2 * (mine[:, None] != theirs[None, :])
        yield part, squared


@one_thread
def nearest(queries: Points, base: Points, *, k: int = 1) -> FloatMatrix:
    """Distances to the `k` nearest points of `base`, ascending, in units of a column; shape (queries, k).

    Where `base` has fewer points than `k`, the farthest one is repeated.
    """
    found = np.empty((len(queries), k))
    within = min(k, len(base))
    for part, squared in blocks(queries, base):
        if k == 1:
            found[part, 0] = squared.min(axis=1)
            continue
        few = np.sort(np.partition(squared, within - 1, axis=1)[:, :within], axis=1)
        found[part] = few[:, np.minimum(np.arange(k), within - 1)]
    return np.sqrt(found) / UNIT


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
