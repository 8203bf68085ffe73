"""Rows that the constraints of a schema allow, as unlike each other as they can be.

A planted person whom a constraint forbids would be invisible in synthetic rows: a model that keeps the constraints never
writes such a row, and an audit would call that privacy. Class P0: made from the schema alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dpsynth import Schema, SchemaError, UsageError

BoolVector: TypeAlias = npt.NDArray[np.bool_]
Codes: TypeAlias = npt.NDArray[np.int32]

MOST_STEPS = 50_000  # cells that are tried for one row
_TANGLED = "the constraints are too tangled to make tables for an audit: use fewer"


@dataclass(frozen=True)
class _Tied:
    """Columns that constraints tie to each other, in order, and what the first of them may hold together.

    Args:
        columns: Which.
        prefixes: For each column the masks to look at as soon as it has a cell: of which columns, and over their cells
            whether a row can go on.
    """

    columns: tuple[int, ...]
    prefixes: tuple[tuple[tuple[tuple[int, ...], npt.NDArray[np.bool_]], ...], ...]


@dataclass(frozen=True, eq=False)
class Allowed:
    """The rows, as cells of all modelled columns, in which some values keep all constraints of a schema."""

    schema: Schema

    @property
    def free(self) -> BoolVector:
        """The columns that no constraint mentions; shape (columns,)."""
        free = np.ones(len(self.schema.sizes), dtype=bool)
        for columns, _ in self.schema.rules.masks:
            free[list(columns)] = False
        return free

    def holds(self, rows: Codes) -> BoolVector:
        """Which of these rows are allowed; shape (rows,)."""
        kept = np.ones(len(rows), dtype=bool)
        for columns, mask in self.schema.rules.masks:
            kept &= mask[tuple(rows[:, column] for column in columns)]
        return kept

    def row(self, wanted: Sequence[Sequence[int]], *, unlike: Codes | None = None) -> Codes:
        """An allowed row.

        Args:
            wanted: For each column its cells, the most wanted one first; of two rows that differ the one is taken that
                has the more wanted cell in the first column in which they do.
            unlike: A row from which it differs in as many columns as it can; that comes before what is wanted.
        Raises:
            SchemaError: there is no allowed row.
            UsageError: none was found in reasonable time.
        """
        out = np.array([next(_ordered(wanted, unlike, column)) for column in range(len(wanted))], dtype=np.int32)
        for tied in self._tied:
            try:
                out[list(tied.columns)] = self._cells(tied, wanted, unlike)
            except _TooLong:
                raise UsageError(_TANGLED) from None
        return out

    def repaired(self, rows: Codes) -> Codes:
        """The same rows where they are allowed; elsewhere columns that constraints tie have other cells, as near as can be.

        Raises:
            SchemaError, UsageError: as `row`.
        """
        out = np.array(rows, dtype=np.int32)
        broken = np.flatnonzero(~self.holds(out))
        for tied in self._tied:
            columns = np.array(tied.columns)
            found, place = np.unique(out[np.ix_(broken, columns)], axis=0, return_inverse=True)
            mended = np.empty_like(found)
            for number, cells in enumerate(found):
                wanted: list[Sequence[int]] = [()] * len(self.schema.sizes)
                for column, cell in zip(tied.columns, cells.tolist(), strict=True):
                    wanted[column] = np.argsort(
                        abs(np.arange(self.schema.sizes[column]) - cell), kind="stable"
                    ).tolist()
                try:
                    mended[number] = self._cells(tied, wanted, None)
                except _TooLong:
                    raise UsageError(_TANGLED) from None
            out[np.ix_(broken, columns)] = mended[place.ravel()]
        return out

    def _cells(self, tied: _Tied, wanted: Sequence[Sequence[int]], unlike: Codes | None) -> list[int]:
        """Allowed cells of tied columns. If the row that is most unlike is too hard to find, one that is unlike enough."""
        key = (tied.columns, b"" if unlike is None else unlike.tobytes())
        most = len(tied.columns)
        found = None
        try:
            while found is None and self._least.setdefault(key, most if unlike is None else 0) < most:
                found = _first(tied, wanted, unlike, self._least[key])
                self._least[key] += found is None
        except _TooLong:
            self._least[key] = most
        found = _first(tied, wanted, unlike, most) if found is None else found
        if found is None:
            raise SchemaError("no row can keep all constraints: take back what contradicts the rest")
        return found

    @cached_property
    def _least(self) -> dict[tuple[tuple[int, ...], bytes], int]:
        """In how many tied columns every allowed row agrees with another one, as far as that is known."""
        return {}

    @cached_property
    def _tied(self) -> list[_Tied]:
        masks = self.schema.rules.masks
        groups: list[set[int]] = []
        for columns, _ in masks:
            met = [group for group in groups if group & set(columns)]
            groups = [group for group in groups if group not in met] + [set(columns).union(*met)]
        out = []
        for group in groups:
            prefixes: dict[int, list[tuple[tuple[int, ...], npt.NDArray[np.bool_]]]] = {column: [] for column in group}
            for columns, mask in masks:
                if columns[0] in group:
                    for last in range(len(columns)):
                        rest = tuple(range(last + 1, len(columns)))
                        prefixes[columns[last]].append((columns[: last + 1], np.asarray(mask.any(axis=rest))))
            order = tuple(sorted(group))
            out.append(_Tied(order, tuple(tuple(prefixes[column]) for column in order)))
        return out


class _TooLong(Exception):
    """The search for a row was given up."""


def _ordered(wanted: Sequence[Sequence[int]], unlike: Codes | None, column: int) -> Iterator[int]:
    """The cells of a column in the order in which they are tried: that of the row to be unlike comes last."""
    if unlike is None:
        return iter(wanted[column])
    there = int(unlike[column])
    return chain((cell for cell in wanted[column] if cell != there), (there,))


def _first(tied: _Tied, wanted: Sequence[Sequence[int]], unlike: Codes | None, agreeing: int) -> list[int] | None:
    """The first cells of these columns, in the order in which they are wanted, that constraints allow; None for none.

    Args:
        agreeing: In how many columns they may agree with `unlike`.
    Raises:
        _TooLong: too many cells were tried.
    """
    row: dict[int, int] = {}
    spent: list[int] = []  # agreements, column by column
    waiting: list[Iterator[int]] = [_ordered(wanted, unlike, tied.columns[0])]
    steps = 0
    while waiting:
        place = len(waiting) - 1
        column = tied.columns[place]
        del spent[place:]
        for cell in waiting[-1]:
            steps += 1
            if steps > MOST_STEPS:
                raise _TooLong
            row[column] = cell
            costs = int(unlike is not None and cell == unlike[column])
            if sum(spent) + costs <= agreeing and all(
                mask[tuple(row[c] for c in columns)] for columns, mask in tied.prefixes[place]
            ):
                spent.append(costs)
                break
        else:
            waiting.pop()
            continue
        if len(waiting) == len(tied.columns):
            return [row[c] for c in tied.columns]
        waiting.append(_ordered(wanted, unlike, tied.columns[len(waiting)]))
    return None
