"""Exact answers from a junction tree: any marginal, and the tree after evidence.

Source: Koller and Friedman, Probabilistic Graphical Models (2009), chapter 10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from string import ascii_letters

import numpy as np

from dpsynth.errors import UsageError
from dpsynth.mechanisms.base import Columns
from dpsynth.models.junction_tree import NEVER, FloatArray, JunctionTree

MAX_CELLS = 2**24  # of one table, or of all cliques of a tree, made to answer a question


def joint(tree: JunctionTree, cells: Sequence[FloatArray], columns: Columns, *, most: int = 2**28) -> FloatArray:
    """The probability of each combination of the cells of `columns`, in their order.

    Inside one clique it is read off. Else the cliques between those that hold the columns, each summed to what is asked
    and what it shares with the next, are multiplied together from the ends to the middle.

    Args:
        cells: Probability of each cell of each clique, as `tree.calibrate` gives them.
        columns: Different from each other.
        most: Products that one step on the way may take.
    Raises:
        UsageError: that would be too much work.
    """
    asked = set(columns)
    holders = [i for i, clique in enumerate(tree.cliques) if asked <= set(clique)]
    if holders:
        smallest = min(holders, key=lambda i: cells[i].size)
        return _summed(tree.cliques[smallest], cells[smallest], columns)
    near = _between(tree, asked)
    root = max(near, key=lambda clique: cells[clique].size)
    order: list[tuple[int, int | None]] = [(root, None)]
    for clique, above in order:
        order += [(other, clique) for other in near[clique] if other != above]
    messages: dict[int, list[tuple[Columns, FloatArray]]] = {clique: [] for clique in near}
    for clique, above in reversed(order):
        upward = set() if above is None else near[clique][above]
        told = messages.pop(clique)
        needed = asked.union(upward, *(axes for axes, _ in told))
        axes = tuple(column for column in tree.cliques[clique] if column in needed)
        table = _summed(tree.cliques[clique], cells[clique], axes)
        while told:
            their_axes, message = told.pop()
            needed = asked.union(upward, *(later for later, _ in told))
            axes, table = _product(tree, axes, table, their_axes, message, kept=needed, most=most)
        if above is None:
            return _summed(axes, table, columns)
        new = tuple(axis for axis, column in enumerate(axes) if column not in upward)
        below = table.sum(axis=new, keepdims=True)
        messages[above].append((axes, np.divide(table, below, out=np.zeros_like(table), where=below > 0)))
    raise AssertionError("the root comes last")


def _product(
    tree: JunctionTree,
    axes: Columns,
    table: FloatArray,
    others: Columns,
    other: FloatArray,
    *,
    kept: set[int],
    most: int,
) -> tuple[Columns, FloatArray]:
    """Two tables multiplied cell by cell and summed to the columns that are kept."""
    both = sorted({*axes, *others})
    if math.prod(tree.sizes[column] for column in both) > most or len(both) > len(ascii_letters):
        raise UsageError("these columns are too many or too far apart to be counted together: ask for fewer")
    letter = dict(zip(both, ascii_letters, strict=False))
    out = tuple(column for column in both if column in kept)
    left, right, to = ("".join(letter[column] for column in some) for some in (axes, others, out))
    return out, np.einsum(f"{left},{right}->{to}", table, other)


def _between(tree: JunctionTree, asked: set[int]) -> dict[int, dict[int, set[int]]]:
    """The smallest part of the tree that holds the asked columns: each clique's neighbours, and what they share."""
    near: dict[int, dict[int, set[int]]] = {i: {} for i in range(len(tree.cliques))}
    for edge in tree.edges:
        near[edge.child][edge.parent] = near[edge.parent][edge.child] = set(edge.shared)
    ends = [i for i in near if len(near[i]) == 1]
    while ends:
        end = ends.pop()
        if len(near[end]) != 1:
            continue
        ((other, shared),) = near[end].items()
        if asked & set(tree.cliques[end]) <= shared:
            del near[end], near[other][end]
            ends.append(other)
    return near


def _summed(axes: Columns, table: FloatArray, columns: Columns) -> FloatArray:
    """A table over `axes`, summed to one over `columns`, in their order."""
    left = tuple(column for column in axes if column in columns)
    table = table.sum(axis=tuple(axis for axis, column in enumerate(axes) if column not in columns))
    return table.transpose([left.index(column) for column in columns])


def widened(
    tree: JunctionTree, factors: Sequence[FloatArray], evidence: Sequence[tuple[Columns, FloatArray]]
) -> tuple[JunctionTree, list[FloatArray]]:
    """The tree and the logarithms of its factors after multiplying by `evidence`: weights over the cells of columns.

    Raises:
        UsageError: the tree that holds all of it has more than MAX_CELLS cells.
    """
    held = [any(set(columns) <= set(clique) for clique in tree.cliques) for columns, _ in evidence]
    wide = tree if all(held) else JunctionTree(tree.sizes, [*tree.cliques, *(columns for columns, _ in evidence)])
    if wide.cells > max(MAX_CELLS, tree.cells):
        raise UsageError("the condition ties too many columns together: compare fewer or coarser columns")
    with np.errstate(divide="ignore"):
        logs = [(columns, np.maximum(np.log(weights), NEVER)) for columns, weights in evidence]
    out = [np.zeros(shape) for shape in wide.shapes] if wide is not tree else [factor.copy() for factor in factors]
    for columns, log in [*logs, *(zip(tree.cliques, factors, strict=True) if wide is not tree else ())]:
        clique = wide.holder(columns)
        ranked = log.transpose(np.argsort(columns))
        out[clique] += ranked.reshape(wide.view(clique, columns))
    return wide, out
