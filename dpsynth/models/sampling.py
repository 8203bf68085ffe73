"""Rows from a calibrated junction tree, by whole columns.

Cliques are filled in from the root. Of the rows that agree on the columns shared with the parent, each combination of
new columns gets as many as its conditional probability says, rounded up or down by systematic sampling (evenly spaced
quantiles with one random offset a group), so counts are off by less than one row a cell and right in expectation.
Which of these rows get which combination is a fresh random order for each clique: columns that hang on the same parent
stay independent given it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dpsynth.mechanisms.base import Columns, IntArray
from dpsynth.models.junction_tree import FloatArray, JunctionTree

Codes = npt.NDArray[np.int32]


def draw(tree: JunctionTree, cells: Sequence[FloatArray], rows: int, *, rng: np.random.Generator) -> Codes:
    """Rows that follow the tree's distribution.

    Args:
        cells: Probability of each cell of each clique, as `tree.calibrate` gives them.
    Returns:
        Shape (rows, columns), kept column by column; the order of the rows says nothing.
    """
    codes = np.zeros((rows, len(tree.sizes)), dtype=np.int32, order="F")
    places = np.arange(rows, dtype=np.uint64)
    steps: list[tuple[int, Columns]] = [(0, ())] + [(edge.child, edge.shared) for edge in tree.edges]
    for clique, shared in steps:
        columns = tree.cliques[clique]
        new = tuple(column for column in columns if column not in shared)
        sizes = [tree.sizes[column] for column in new]
        table = np.transpose(cells[clique], [columns.index(column) for column in shared + new])
        table = table.reshape(math.prod(tree.sizes[column] for column in shared), -1)
        group = _ravel(codes, shared, tree.sizes)
        held = np.bincount(group, minlength=len(table)) if shared else np.array([rows])
        counts = _counts(table, held, rng=rng).ravel()
        order = _shuffled_groups(group, len(table), places, rng=rng)
        filled = np.flatnonzero(counts)
        for column, values in zip(new, np.unravel_index(filled % table.shape[1], sizes), strict=True):
            narrow = np.min_scalar_type(tree.sizes[column])  # scattered bytes stay in the cache, words do not
            scattered = np.empty(rows, dtype=narrow)
            scattered[order] = np.repeat(values.astype(narrow), counts[filled])
            codes[:, column] = scattered
    return codes


def _counts(table: FloatArray, held: IntArray, *, rng: np.random.Generator) -> IntArray:
    """How many of the rows that each group holds go to each combination; shape (groups, combinations)."""
    heights = np.cumsum(table, axis=1)
    tops = heights[:, -1:]
    even = np.linspace(0, 1, table.shape[1] + 1)[1:]  # for a group so unlikely that its cells underflow
    heights = np.where(tops > 0, heights / np.where(tops > 0, tops, 1), even)
    reached = np.ceil(heights * held[:, None] - rng.random(len(held))[:, None]).astype(np.int64)
    reached = np.where(heights >= 1, held[:, None], reached)  # whatever rounding does, nothing is left over
    reached[:, -1] = held
    return np.diff(np.maximum(reached, 0), axis=1, prepend=0)


def _shuffled_groups(
    group: IntArray, groups: int, places: npt.NDArray[np.uint64], *, rng: np.random.Generator
) -> IntArray:
    """All rows, group after group, in a random order within each.

    One sort of integers that hold the group, random bits and the row says it all, several times faster than a
    permutation and a stable sort by group. With r random bits two rows of a group tie, and keep their order, with a
    chance of 2**-r; r is 64 less the bits of the two numbers, and at least 15 for all sizes that are allowed.

    Args:
        group: The group of each row; overwritten, because fresh memory costs as much as the arithmetic.
        places: 0, 1, ... rows - 1.
    """
    row_bits = max(1, (len(group) - 1).bit_length())
    random_bits = 64 - row_bits - (groups - 1).bit_length()
    keys = rng.integers(0, 2**64 - 1, size=len(group), dtype=np.uint64, endpoint=True)
    keys >>= np.uint64(64 - random_bits)
    if groups > 1:
        group <<= random_bits
        keys |= group.view(np.uint64)
    keys <<= np.uint64(row_bits)
    keys |= places
    keys.sort()
    keys &= np.uint64(2**row_bits - 1)
    return keys.view(np.int64)


def _ravel(codes: Codes, columns: Columns, sizes: Sequence[int]) -> IntArray:
    """Each row's cell in the table over `columns`, counted in C order."""
    cell = np.zeros(len(codes), dtype=np.int64)
    for column in columns:
        cell *= sizes[column]
        cell += codes[:, column]
    return cell
