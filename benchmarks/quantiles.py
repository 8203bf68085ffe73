"""Bounds and bins by private quantiles: the peer of discovery's tree, for `discovery.py` alone.

Quantiles are found one inside another: the middle one first, then those of the rows below it and of the rows above it, so
that a row has a part in one question a level. Each question is an exponential mechanism over the reach of the column. The
measure that it starts from is even over the parts of the grid that the tree starts from, or between declared bounds: what is
right for small numbers and for large ones when nothing is known.

Sources: Kaplan, Schnapp, Stemmer, Differentially private approximate quantiles, ICML 2022, arXiv:2110.05429 (the recursion);
Smith, STOC 2011 (the question); Cesar and Rogers, ALT 2021, arXiv:2004.07223 (epsilon^2 / 8 of zCDP by its bounded range).

It is drawn with floating-point numbers from a seedless NumPy source: a measure of utility, never a release.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from dpsynth.discovery import FloatVector, _after, _grid, _on_grid, _word
from dpsynth.schema import Column


def bins_by_quantiles(
    column: Column, values: FloatVector, *, rho: Fraction, l2_squared: int, bins: int, outer: float
) -> Column:
    """The open column with edges at private quantiles, between declared bounds where there are any.

    Args:
        values: Its values as steps (`Column.step`), without missing ones; shape (rows,).
        rho: What all its questions may cost together.
        l2_squared: Squared number of rows by which neighbouring tables differ, summed over disjoint questions.
        bins: How many.
        outer: Part of the rows beyond a bound that is not declared, on its side; extreme rows are out of reach.
    """
    low, high = (0.0 if bound is not None else outer for bound in (column.minimum, column.maximum))
    wanted = np.linspace(low, 1 - high, bins + 1)
    wanted = wanted[(wanted > 0) & (wanted < 1)]
    levels = math.ceil(math.log2(len(wanted) + 1))
    epsilon = math.sqrt(8 * float(rho) / levels / l2_squared)
    grid = _grid(column)
    found = _between(np.sort(values), wanted, grid, epsilon=epsilon, rng=np.random.default_rng())
    edges = _on_grid(column, np.array([*([] if low else [grid[0]]), *found, *([] if high else [grid[-1]])]))
    if len(edges) < 2:
        edges = np.array([edges[0], _after(column, float(edges[0]))])
    words = tuple(edges.tolist() if column.type == "number" else (_word(column, edge) for edge in edges))
    return replace(
        column, minimum=None, maximum=None, bins=None, edges=words, discover=(), source="discover", basis="quantiles"
    )


def _between(
    values: FloatVector, wanted: FloatVector, grid: FloatVector, *, epsilon: float, rng: np.random.Generator
) -> list[float]:
    """Quantiles `wanted`, ascending, of sorted values inside the grid."""
    if not len(wanted):
        return []
    middle = len(wanted) // 2
    at = float(wanted[middle])
    cut = _quantile(values, at, grid, epsilon=epsilon, rng=rng)
    place = int(np.searchsorted(values, cut, side="left"))
    below = np.append(grid[grid < cut], cut)
    above = np.append(cut, grid[grid > cut])
    return [
        *_between(values[:place], wanted[:middle] / at, below, epsilon=epsilon, rng=rng),
        cut,
        *_between(values[place:], (wanted[middle + 1 :] - at) / (1 - at), above, epsilon=epsilon, rng=rng),
    ]


def _quantile(values: FloatVector, at: float, grid: FloatVector, *, epsilon: float, rng: np.random.Generator) -> float:
    """One quantile by the exponential mechanism; its question moves by max(at, 1 - at) with a row."""
    if len(grid) < 2:
        return float(grid[0])
    points = np.unique(np.concatenate([grid, values]))
    points = points[(points >= grid[0]) & (points <= grid[-1])]
    widths = np.diff(points)
    part = np.clip(np.searchsorted(grid, points[:-1], side="right") - 1, 0, len(grid) - 2)
    measure = np.log(widths) - np.log(np.diff(grid)[part])
    below = np.searchsorted(values, points[:-1], side="right")
    score = -np.abs(below - at * len(values))
    weights = measure + epsilon * score / (2 * max(at, 1 - at))
    chosen = int(np.argmax(weights + rng.gumbel(size=len(weights))))
    return float(points[chosen] + rng.random() * widths[chosen])
