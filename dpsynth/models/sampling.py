"""Rows from a calibrated junction tree, by whole columns.

Cliques are filled in from the root. Of the rows that agree on the columns shared with the parent, each combination of
new columns gets as many as its conditional probability says, rounded up or down by systematic sampling (evenly spaced
quantiles with one random offset a group), so counts are off by less than one row a cell and right in expectation.
Which of these rows get which combination is a fresh random order for each clique: columns that hang on the same parent
stay independent given it. Where a group leaves no choice, as merged cells mostly do, nothing is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dpsynth.mechanisms.base import Columns, IntArray
from dpsynth.models.junction_tree import FloatArray, JunctionTree

Codes = npt.NDArray[np.int32]
_AT_ONCE = 2**17  # cells of a table whose counts are worked out together: a few megabytes
_NEAR = 2**15  # rows whose keys are made together: a quarter of a megabyte, which stays near the processor


def draw(tree: JunctionTree, cells: Sequence[FloatArray], rows: int, *, rng: np.random.Generator) -> Codes:
    """Rows that follow the tree's distribution.

    Args:
        cells: Probability of each cell of each clique, as `tree.calibrate` gives them.
    Returns:
        Shape (rows, columns), kept column by column; the order of the rows says nothing.
    """
    codes = np.zeros((rows, len(tree.sizes)), dtype=np.int32, order="F")
    places, keys, cell = (
        np.arange(rows, dtype=np.uint64),
        np.empty(rows, dtype=np.uint64),
        np.empty(rows, dtype=np.int64),
    )
    steps: list[tuple[int, Columns]] = [(0, ())] + [(edge.child, edge.shared) for edge in tree.edges]
    for clique, shared in steps:
        columns = tree.cliques[clique]
        new = tuple(column for column in columns if column not in shared)
        sizes = [tree.sizes[column] for column in new]
        table = np.transpose(cells[clique], [columns.index(column) for column in shared + new])
        table = table.reshape(math.prod(tree.sizes[column] for column in shared), -1)
        group = _ravel(codes, shared, tree.sizes, out=cell)
        drawn: IntArray | slice = slice(None)  # the rows that have a choice
        forced = np.count_nonzero(table, axis=1) == 1
        if forced.any():
            for column, values in zip(new, np.unravel_index(table.argmax(axis=1), sizes), strict=True):
                codes[:, column] = values.astype(np.int32)[group]
            drawn = np.flatnonzero(~forced[group])
            group = group[drawn]
        order, held = _shuffled_groups(group, len(table), places, keys[: len(group)], rng=rng)
        counts = _counts(table, held, rng=rng).ravel()
        filled = np.flatnonzero(counts)
        for column, values in zip(new, np.unravel_index(filled % table.shape[1], sizes), strict=True):
            narrow = np.min_scalar_type(tree.sizes[column])  # scattered bytes stay in the cache, words do not
            scattered = np.empty(len(group), dtype=narrow)
            scattered[order] = np.repeat(values.astype(narrow), counts[filled])
            codes[drawn, column] = scattered
    return codes


def _counts(table: FloatArray, held: IntArray, *, rng: np.random.Generator) -> IntArray:
    """How many of the rows that each group holds go to each combination; shape (groups, combinations)."""
    counts = np.empty(table.shape, dtype=np.int64)
    even = np.linspace(0, 1, table.shape[1] + 1)[1:]  # for a group so unlikely that its cells underflow
    step = max(1, _AT_ONCE // table.shape[1])
    for start in range(0, len(table), step):
        part = slice(start, start + step)
        heights = np.cumsum(table[part], axis=1)
        tops = heights[:, -1:].copy()
        heights = np.divide(heights, tops, out=np.broadcast_to(even, heights.shape).copy(), where=tops > 0)
        ours = held[part, None]
        reached = np.ceil(heights * ours - rng.random((len(ours), 1))).astype(np.int64)
        reached = np.where(heights >= 1, ours, reached)  # whatever rounding does, nothing is left over
        reached[:, -1:] = ours
        counts[part] = np.diff(np.maximum(reached, 0), axis=1, prepend=0)
    return counts


def _shuffled_groups(
    group: IntArray,
    groups: int,
    places: npt.NDArray[np.uint64],
    keys: npt.NDArray[np.uint64],
    *,
    rng: np.random.Generator,
) -> tuple[IntArray, IntArray]:
    """All rows, group after group, in a random order within each; and how many rows each group has, shape (groups,).

    One sort of integers that hold the group, random bits and the row says it all, several times faster than a
    permutation and a stable sort by group. With r random bits two rows of a group tie, and keep their order, with a
    chance of 2**-r; r is 64 less the bits of the two numbers, and at least 15 for all sizes that are allowed.

    Args:
        group: The group of each row; overwritten, because fresh memory costs as much as the arithmetic.
        places: 0, 1, ... up to rows - 1 at least.
        keys: Room for as many numbers as rows, which the order is written to.
    """
    row_bits, group_bits = max(1, (len(group) - 1).bit_length()), (groups - 1).bit_length()
    random_bits = np.uint64(2 ** (64 - group_bits) - 2**row_bits)
    for start in range(0, len(group), _NEAR):
        part = slice(start, min(start + _NEAR, len(group)))
        bits = rng.integers(0, 2**64 - 1, size=part.stop - start, dtype=np.uint64, endpoint=True)
        bits &= random_bits
        if groups > 1:
            group[part] <<= 64 - group_bits
            bits |= group[part].view(np.uint64)
        np.bitwise_or(bits, places[part], out=keys[part])
    keys.sort()
    starts = np.searchsorted(
        keys, np.arange(groups, dtype=np.uint64) << np.uint64(64 - group_bits if group_bits else 0)
    )
    keys &= np.uint64(2**row_bits - 1)
    return keys.view(np.int64), np.diff(starts, append=len(group))


def _ravel(codes: Codes, columns: Columns, sizes: Sequence[int], *, out: IntArray) -> IntArray:
    """Each row's cell in the table over `columns`, counted in C order; written to `out`."""
    out[:] = codes[:, columns[0]] if columns else 0
    for column in columns[1:]:
        out *= sizes[column]
        out += codes[:, column]
    return out
