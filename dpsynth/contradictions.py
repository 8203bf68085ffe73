"""Whether any row keeps some masks over cells, and which few of many rules contradict each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from itertools import combinations

import numpy as np

from dpsynth.formulas import BoolArray, Columns

MAX_JOINED = 2**24  # combinations of cells that are looked at together
_MAX_PAIRS = 5000  # that are tried before only a minimal set is looked for


def has_row(masks: Sequence[tuple[Columns, BoolArray]]) -> bool | None:
    """Whether some combination of cells is in all masks; None where that takes too many cells to say.

    Columns are eliminated one after another, the one that leaves the smallest table first (Dechter, Bucket elimination,
    Artificial Intelligence 113, 1999).

    Args:
        masks: Columns in increasing order, and which of their cells are allowed, one axis a column.
    """
    left = list(masks)
    sizes = {column: size for columns, mask in left for column, size in zip(columns, mask.shape, strict=True)}
    while sizes:
        tied = {column: {c for columns, _ in left if column in columns for c in columns} for column in sizes}
        cells = {column: math.prod(sizes[c] for c in together) for column, together in tied.items()}
        column = min(cells, key=lambda c: (cells[c], c))
        if cells[column] > MAX_JOINED:
            return None
        together = tuple(sorted(tied[column]))
        joined = np.ones([sizes[c] for c in together], dtype=bool)
        for columns, mask in left:
            if column in columns:
                joined &= mask.reshape([sizes[c] if c in columns else 1 for c in together])
        rest = tuple(c for c in together if c != column)
        left = [(columns, mask) for columns, mask in left if column not in columns]
        left.append((rest, np.asarray(joined.any(axis=together.index(column)))))
        del sizes[column]
    return all(bool(mask) for _, mask in left)


def smallest(
    rules: Sequence[int], *, contradict: Callable[[Collection[int]], bool], meet: Callable[[int, int], bool]
) -> tuple[int, ...]:
    """Rules that contradict each other: one that no row can keep, else a pair, else a set in which none is too many.

    Args:
        rules: Which contradict each other all together.
        contradict: Whether some of them do.
        meet: Whether two have a column in common; if not, they cannot contradict each other.
    """
    for rule in rules:
        if contradict((rule,)):
            return (rule,)
    pairs = [pair for pair in combinations(rules, 2) if meet(*pair)]
    for pair in pairs[:_MAX_PAIRS]:
        if contradict(pair):
            return pair
    kept = list(rules)
    for rule in rules:
        without = [other for other in kept if other != rule]
        if contradict(without):
            kept = without
    return tuple(kept)


def refusal(names: Sequence[str]) -> str:
    """What is wrong with rules that contradict each other, in a sentence."""
    if len(names) == 1:
        return f"no row can keep {names[0]}: correct it, or take it out"
    listed = f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{listed} contradict each other: no row can keep {'both' if len(names) == 2 else 'all of them'}"
