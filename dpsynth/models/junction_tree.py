"""Junction trees: exact marginals of a distribution that is a product of factors over few columns each.

Source: Lauritzen and Spiegelhalter, JRSS B 50 (1988); Koller and Friedman, Probabilistic Graphical Models (2009),
chapters 9 and 10. Everything is in logarithms and float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from dpsynth.mechanisms.base import Columns

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A clique's link to its parent.

    Args:
        child, parent: Indices of the two cliques.
        shared: The columns that both have.
        child_sums, parent_sums: Axes of each table that are summed out to leave the shared columns.
        child_view, parent_view: Shape of a table over the shared columns, laid into each clique's axes.
    """

    child: int
    parent: int
    shared: Columns
    child_sums: tuple[int, ...]
    parent_sums: tuple[int, ...]
    child_view: tuple[int, ...]
    parent_view: tuple[int, ...]


class JunctionTree:
    """The cliques of a triangulated graph, joined into one tree.

    Args:
        sizes: Cells of each column.
        groups: Column sets each of which has to lie inside some clique.
    """

    def __init__(self, sizes: Sequence[int], groups: Iterable[Columns]) -> None:
        self.sizes = tuple(sizes)
        self.cliques = _cliques(self.sizes, groups)
        self.edges = _join(self.cliques, self.sizes)
        self.shapes = tuple(tuple(self.sizes[column] for column in clique) for clique in self.cliques)

    @property
    def cells(self) -> int:
        """Numbers that one set of factors holds."""
        return sum(math.prod(shape) for shape in self.shapes)

    def holder(self, columns: Columns) -> int:
        """The smallest clique that contains `columns`.

        Raises:
            ValueError: none does.
        """
        holders = [i for i, clique in enumerate(self.cliques) if set(columns) <= set(clique)]
        if not holders:
            raise ValueError(f"no clique holds the columns {columns}")
        return min(holders, key=lambda i: math.prod(self.shapes[i]))

    def sums(self, clique: int, columns: Columns) -> tuple[int, ...]:
        """The axes of a clique's table that are summed out to leave `columns`."""
        return _sums(self.cliques[clique], set(columns))

    def view(self, clique: int, columns: Columns) -> tuple[int, ...]:
        """Shape that lays a table over `columns` into a clique's axes."""
        return _view(self.cliques[clique], set(columns), self.sizes)

    def calibrate(self, factors: Sequence[FloatArray]) -> tuple[float, list[FloatArray]]:
        """Marginals of the normalised product of the factors.

        Args:
            factors: Logarithm of one factor a clique, in the shape of `shapes`.
        Returns:
            Logarithm of the normalising constant, and the probability of each cell of each clique.
        """
        beliefs = list(factors)
        upward: dict[int, FloatArray] = {}
        for edge in reversed(self.edges):
            upward[edge.child] = _log_sum(beliefs[edge.child], edge.child_sums)
            beliefs[edge.parent] = beliefs[edge.parent] + upward[edge.child].reshape(edge.parent_view)
        for edge in self.edges:
            downward = _log_sum(beliefs[edge.parent], edge.parent_sums).reshape(edge.child_view)
            beliefs[edge.child] = beliefs[edge.child] + (downward - upward[edge.child])
        log_total = float(_log_sum(beliefs[0], tuple(range(beliefs[0].ndim))).item())
        return log_total, [np.exp(belief - log_total) for belief in beliefs]


def _log_sum(values: FloatArray, axes: tuple[int, ...]) -> FloatArray:
    """log(sum(exp(values))) over `axes`, which stay as axes of length one."""
    if not axes:
        return values
    top: FloatArray = values.max(axis=axes, keepdims=True)
    total: FloatArray = np.log(np.exp(values - top).sum(axis=axes, keepdims=True)) + top
    return total


def _cliques(sizes: Sequence[int], groups: Iterable[Columns]) -> tuple[Columns, ...]:
    """Maximal cliques of a triangulation of the graph in which each group is connected.

    Columns are eliminated one by one: next the one that adds the fewest cells of new pairs (so a graph without long
    cycles gains none), of these the one with the smallest clique, of these the first.
    """
    neighbours: dict[int, set[int]] = {column: set() for column in range(len(sizes))}
    for group in groups:
        for a, b in combinations(group, 2):
            neighbours[a].add(b)
            neighbours[b].add(a)

    def price(column: int) -> tuple[int, int, int]:
        around = neighbours[column]
        fill = sum(sizes[a] * sizes[b] for a, b in combinations(around, 2) if b not in neighbours[a])
        return fill, sizes[column] * math.prod(sizes[n] for n in around), column

    found: list[set[int]] = []
    while neighbours:
        column = min(neighbours, key=price)
        around = neighbours.pop(column)
        for a in around:
            neighbours[a] |= around - {a}
            neighbours[a].discard(column)
        clique = around | {column}
        if not any(clique <= other for other in found):
            found.append(clique)
    return tuple(tuple(sorted(clique)) for clique in found)


def _join(cliques: Sequence[Columns], sizes: Sequence[int]) -> tuple[Edge, ...]:
    """A tree over the cliques by their largest shared column sets (Prim), each edge after its parent's."""
    joined, rest, edges = [0], set(range(1, len(cliques))), []
    while rest:
        parent, child = max(
            ((p, c) for p in joined for c in rest),
            key=lambda pair: (len(set(cliques[pair[0]]) & set(cliques[pair[1]])), -pair[1], -pair[0]),
        )
        shared = set(cliques[parent]) & set(cliques[child])
        edges.append(
            Edge(
                child=child,
                parent=parent,
                shared=tuple(sorted(shared)),
                child_sums=_sums(cliques[child], shared),
                parent_sums=_sums(cliques[parent], shared),
                child_view=_view(cliques[child], shared, sizes),
                parent_view=_view(cliques[parent], shared, sizes),
            )
        )
        joined.append(child)
        rest.remove(child)
    return tuple(edges)


def _sums(clique: Columns, kept: set[int]) -> tuple[int, ...]:
    """Axes of a clique's table that are summed out to leave the kept columns."""
    return tuple(axis for axis, column in enumerate(clique) if column not in kept)


def _view(clique: Columns, kept: set[int], sizes: Sequence[int]) -> tuple[int, ...]:
    """Shape of a table over the kept columns, laid into the clique's axes."""
    return tuple(sizes[column] if column in kept else 1 for column in clique)
