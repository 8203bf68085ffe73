"""What a counting backend does, and the rows that it hands out to the curator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from dpsynth.coarsening import Coarse
from dpsynth.errors import BoundToProcess
from dpsynth.mechanisms.base import Columns, IntArray
from dpsynth.schema import Schema
from dpsynth.table import Records, Values

BoolVector = npt.NDArray[np.bool_]
IntVector = npt.NDArray[np.int64]
FloatVector = npt.NDArray[np.float64]

MOST_PERSONS = 200_000
"""Persons of each side that a review looks at, at most."""


@dataclass(frozen=True, kw_only=True, repr=False)
class PersonRecords:
    """Rows that belong to persons (to units, in general).

    Args:
        records: The rows.
        person: Whose each row is, in 0 .. persons - 1; shape (rows,).
        persons: How many persons there are; each has at least one row.
    """

    records: Records
    person: IntVector
    persons: int

    @classmethod
    def grouped(cls, records: Records, ids: Sequence[object]) -> PersonRecords:
        """Rows by the ids of their persons, who are numbered in the order in which their first rows come."""
        number: dict[object, int] = {}
        person = np.fromiter((number.setdefault(unit, len(number)) for unit in ids), np.int64, len(ids))
        return cls(records=records, person=person, persons=len(number))

    def part(self, chosen: BoolVector) -> PersonRecords:
        """The rows of the chosen persons, who are numbered anew; `chosen` has shape (persons,)."""
        if chosen.all():
            return self
        rows = chosen[self.person]
        renumbered = np.cumsum(chosen) - 1
        return PersonRecords(
            records=self.records.take(rows), person=renumbered[self.person[rows]], persons=int(chosen.sum())
        )

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise BoundToProcess("private rows cannot be copied or pickled")


@dataclass(frozen=True, kw_only=True, repr=False)
class ReviewSample:
    """The two sides of the split: persons the model learned from, and persons it never saw. Private, class P3.

    Of a large table those persons of each side whose keyed hashes are smallest, at most `MOST_PERSONS`. One person's
    coming or going then changes who is in it by that person and at most one other, who takes or leaves the last place.
    """

    fit: PersonRecords
    control: PersonRecords

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise BoundToProcess("private rows cannot be copied or pickled")


class Counter(Protocol):
    """Counts rows by the values of some columns. What it returns is exact and private."""

    def coarsen(self, coarse: Sequence[Coarse]) -> None:
        """Puts coarse columns after the declared ones, in place of those that were there."""
        ...

    def count(self, columns: Columns) -> IntArray:
        """Rows in each cell; shape = the cells of each column in turn."""
        ...

    def count_each(self, asked: Sequence[Columns]) -> Iterator[IntArray]:
        """The same for one marginal after another."""
        ...


class Store(Counter, Protocol):
    """The private rows of one table: bounded by person and split. What it returns is exact and private.

    Counts are of the fit side. A column is open while its schema leaves its domain to discovery (`Column.is_open`).
    """

    def distinct(self, name: str) -> tuple[list[str], IntVector]:
        """Of an open category column: the texts on the fit side, sorted, and how many persons have each."""
        ...

    def histogram(self, name: str, edges: FloatVector) -> IntVector:
        """Of an open numeric column: rows of the fit side in each half-open interval; shape (edges - 1,).

        The outer intervals hold everything beyond them; rows without a number are nowhere.
        """
        ...

    def settle(self, schema: Schema) -> None:
        """Takes the completed schema, once, before anything is counted or handed out; also where nothing was open."""
        ...

    def numbers(self, name: str) -> tuple[FloatVector, IntVector]:
        """The different numbers of a numeric column on the fit side, and how many rows have each; none for missing."""
        ...

    def unit_sizes(self) -> IntVector:
        """Units of the fit side with 1, 2, ... `max_rows` rows; shape (max_rows,)."""
        ...

    def sample(self) -> ReviewSample:
        """Both sides, by person."""
        ...

    def everybody(self) -> PersonRecords:
        """The fit side, whole and in memory: for what cannot be learned from counts."""
        ...

    def close(self) -> None:
        """Lets go of the rows and of whatever holds them; may be called twice."""
        ...


def content_of(columns: Mapping[str, Values], texts: Mapping[str, Sequence[bytes | None]] | None = None) -> list[bytes]:
    """Each row's values as bytes: equal bytes for equal rows. What decides about rows is made of it, in every engine.

    Args:
        columns: Numbers, NaN where missing, or cell codes.
        texts: What stands in the cells of open categories; None where missing. They count by digests: a code would say in
            which order they came.
    """
    if not columns and not texts:
        return []
    numbers = [np.asarray(column, dtype=np.float64) for column in columns.values()]
    for cells in (texts or {}).values():
        digest = {c: hashlib.blake2b(b"" if c is None else b"=" + c, digest_size=16).digest() for c in set(cells)}
        said = np.frombuffer(
            b"".join(digest[c] for c in cells), dtype=np.float64
        )  # bits: no arithmetic is done on them
        numbers += list(said.reshape(-1, 2).T)
    rows = np.column_stack(numbers)
    content: list[bytes] = rows.view(f"V{8 * rows.shape[1]}").ravel().tolist()
    return content
