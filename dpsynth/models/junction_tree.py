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

NEVER = (
    -1e6
)  # logarithm of a factor that rules a cell out: exp of it and of its neighbours is zero, and sums stay finite


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
        self._set_up(sizes, triangulated(sizes, groups))

    @classmethod
    def of_cliques(cls, sizes: Sequence[int], cliques: Sequence[Columns]) -> JunctionTree:
        """The tree over these cliques, in this order.

        Raises:
            ValueError: they are not the maximal cliques of a triangulated graph.
        """
        if sorted(triangulated(sizes, cliques)) != sorted(cliques):
            raise ValueError("the cliques must be those of a triangulated graph")
        tree = cls.__new__(cls)
        tree._set_up(sizes, cliques)
        return tree

    def _set_up(self, sizes: Sequence[int], cliques: Sequence[Columns]) -> None:
        self.sizes = tuple(sizes)
        self.cliques = tuple(cliques)
        self.edges = _join(self.cliques, self.sizes)
        self.shapes = tuple(tuple(self.sizes[column] for column in clique) for clique in self.cliques)
        self._holding: dict[int, list[int]] = {}
        for index, clique in enumerate(self.cliques):
            for column in clique:
                self._holding.setdefault(column, []).append(index)

    @property
    def cells(self) -> int:
        """Numbers that one set of factors holds."""
        return sum(math.prod(shape) for shape in self.shapes)

    def holder(self, columns: Columns) -> int:
        """The smallest clique that contains `columns`.

        Raises:
            ValueError: none does.
        """
        near = self._holding.get(columns[0], []) if columns else range(len(self.cliques))
        holders = [i for i in near if set(columns) <= set(self.cliques[i])]
        if not holders:
            raise ValueError(f"no clique holds the columns {columns}")
        return min(holders, key=lambda i: math.prod(self.shapes[i]))

    def sums(self, clique: int, columns: Columns) -> tuple[int, ...]:
        """The axes of a clique's table that are summed out to leave `columns`."""
        return _sums(self.cliques[clique], set(columns))

    def view(self, clique: int, columns: Columns) -> tuple[int, ...]:
        """Shape that lays a table over `columns` into a clique's axes."""
        return _view(self.cliques[clique], set(columns), self.sizes)

    def factors(self, potentials: Iterable[tuple[Columns, FloatArray]]) -> list[FloatArray]:
        """One factor a clique: logarithms of factors over few columns each, added where they fit.

        Args:
            potentials: Column sets in increasing order, each inside some clique.
        """
        out = [np.zeros(shape) for shape in self.shapes]
        for columns, potential in potentials:
            clique = self.holder(columns)
            out[clique] += potential.reshape(self.view(clique, columns))
        return [np.maximum(factor, NEVER) for factor in out]

    def tour(self) -> list[tuple[Edge, bool]]:
        """Every edge twice, down to the child and back up, in the order of a walk around the tree from the root."""
        below: dict[int, list[Edge]] = {}
        for edge in self.edges:
            below.setdefault(edge.parent, []).append(edge)
        out: list[tuple[Edge, bool]] = []
        todo: list[tuple[Edge, bool]] = [(edge, True) for edge in reversed(below.get(0, []))]
        while todo:
            edge, down = todo.pop()
            out.append((edge, down))
            if down:
                todo.append((edge, False))
                todo.extend((child, True) for child in reversed(below.get(edge.child, [])))
        return out

    def pass_on(self, edge: Edge, beliefs: Sequence[FloatArray], *, down: bool) -> None:
        """Makes the child's table agree with the parent's on the columns they share, or the other way round.

        Args:
            beliefs: A table of counts or probabilities a clique; changed in place.
        """
        parent, child = beliefs[edge.parent], beliefs[edge.child]
        above, below = parent.sum(axis=edge.parent_sums, keepdims=True), child.sum(axis=edge.child_sums, keepdims=True)
        if down:
            told, now, view, table = above, below, edge.child_view, child
        else:
            told, now, view, table = below, above, edge.parent_view, parent
        ratio = np.divide(told.ravel(), now.ravel(), out=np.zeros(now.size), where=now.ravel() > 0)
        table *= ratio.reshape(view)

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


def triangulated(sizes: Sequence[int], groups: Iterable[Columns]) -> tuple[Columns, ...]:
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

    prices = {column: price(column) for column in neighbours}
    found: list[set[int]] = []
    while neighbours:
        column = min(prices.values())[2]
        around = neighbours.pop(column)
        del prices[column]
        stale = set(around)
        for a in around:
            if not around <= neighbours[a] | {a}:
                stale |= neighbours[a]
            neighbours[a] |= around - {a}
            neighbours[a].discard(column)
        for a in stale & neighbours.keys():
            prices[a] = price(a)
        found.append(around | {column})
    by_column: dict[int, list[set[int]]] = {}
    kept: list[set[int]] = []
    for clique in found:
        if not any(clique <= other for other in by_column.get(min(clique), [])):
            kept.append(clique)
            for member in clique:
                by_column.setdefault(member, []).append(clique)
    return tuple(tuple(sorted(clique)) for clique in kept)


def _join(cliques: Sequence[Columns], sizes: Sequence[int]) -> tuple[Edge, ...]:
    """A tree over the cliques by their largest shared column sets (Prim), each edge after its parent's."""
    members = [set(clique) for clique in cliques]
    best = {child: (len(members[0] & members[child]), 0) for child in range(1, len(cliques))}
    edges = []
    while best:
        child = max(best, key=lambda c: (best[c][0], -c))
        parent = best.pop(child)[1]
        shared = members[parent] & members[child]
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
        for other, (known, _) in best.items():
            common = len(members[child] & members[other])
            if common > known:
                best[other] = (common, child)
    return tuple(edges)


def _sums(clique: Columns, kept: set[int]) -> tuple[int, ...]:
    """Axes of a clique's table that are summed out to leave the kept columns."""
    return tuple(axis for axis, column in enumerate(clique) if column not in kept)


def _view(clique: Columns, kept: set[int], sizes: Sequence[int]) -> tuple[int, ...]:
    """Shape of a table over the kept columns, laid into the clique's axes."""
    return tuple(sizes[column] if column in kept else 1 for column in clique)
