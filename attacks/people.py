"""Rows and persons, in the form in which the attacks read them.

Everything is put into one canonical order (columns by name, rows by content, persons by the content of their rows), and
random choices are made in that order. So the result of an attack cannot depend on the order of rows, of columns or of
persons, nor on index labels or storage types: no rule has to be remembered for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dpsynth import Column, PersonRecords, Records, ReviewSample, Table, attack_generator

FloatVector: TypeAlias = npt.NDArray[np.float64]
FloatMatrix: TypeAlias = npt.NDArray[np.float64]
IntVector: TypeAlias = npt.NDArray[np.int64]
IntMatrix: TypeAlias = npt.NDArray[np.int64]
BoolVector: TypeAlias = npt.NDArray[np.bool_]
BoolMatrix: TypeAlias = npt.NDArray[np.bool_]

MISSING = np.inf  # in `Rows.values`: a level of its own, equal to itself, outside every column's bounds


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows at full resolution and as cells, columns in the order of their names.

    Args:
        columns: What the columns are.
        values: Shape (rows, columns): numbers as they are, categories as codes, `MISSING` where a number is missing.
        cells: Shape (rows, columns): codes of `Table.encode`.
    """

    columns: tuple[Column, ...]
    values: FloatMatrix
    cells: IntMatrix

    @classmethod
    def of(cls, records: Records) -> Rows:
        """The rows of `records`, in their order."""
        schema = records.schema
        order = sorted(range(len(schema.names)), key=lambda place: schema.names[place])
        columns = tuple(schema.modelled[place] for place in order)
        values = np.empty((len(records), len(columns)))
        for place, column in enumerate(columns):
            values[:, place] = records.columns[column.name]
        values[np.isnan(values)] = MISSING
        values += 0.0  # -0.0 and 0.0 are one number
        cells = Table.encode(records).codes[:, order].astype(np.int64)
        return cls(columns, values, np.ascontiguousarray(cells))

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def ranks(self) -> tuple[tuple[FloatVector, FloatVector] | None, ...]:
        """For each numeric column its different values, ascending, and the share of rows below each of them.

        Half of the rows with the value itself are counted, rows without a value are not. None for other columns.
        """
        return tuple(
            _ranks(values) if column.is_numeric else None
            for column, values in zip(self.columns, self.values.T, strict=True)
        )

    def take(self, rows: IntVector | BoolVector) -> Rows:
        """The chosen rows."""
        return Rows(self.columns, self.values[rows], self.cells[rows])

    def sorted(self) -> Rows:
        """The same rows in the order of their content."""
        return self.take(np.lexsort(self.values.T[::-1])) if len(self.columns) else self

    def at_most(self, rows: int, rng: np.random.Generator) -> Rows:
        """A random choice of that many rows, or all."""
        return self if len(self) <= rows else self.take(np.sort(rng.choice(len(self), rows, replace=False)))

    def places(self, *roles: str) -> list[int]:
        """Where the columns with one of these roles stand."""
        return [place for place, column in enumerate(self.columns) if column.role in roles]


def _ranks(values: FloatVector) -> tuple[FloatVector, FloatVector]:
    known = values[values != MISSING]
    levels, counts = np.unique(known, return_counts=True)
    return levels, (np.cumsum(counts) - counts / 2) / max(len(known), 1)


def stacked(*tables: Rows) -> Rows:
    """The rows of several tables, one after another."""
    return Rows(
        tables[0].columns, np.concatenate([t.values for t in tables]), np.concatenate([t.cells for t in tables])
    )


def roles(table: Rows) -> tuple[list[int], list[int]]:
    """Where the columns stand that an outsider may know, and those worth learning.

    A schema without quasi-identifiers leaves an outsider every column that is not sensitive; one without sensitive
    columns makes every column that is no quasi-identifier worth learning.
    """
    known, secret = table.places("quasi_identifier", "direct_identifier"), table.places("sensitive")
    if not known:
        known = [place for place in range(len(table.columns)) if place not in secret]
    if not secret:
        secret = [place for place in range(len(table.columns)) if place not in known]
    if not secret and len(known) > 1:  # no roles at all: the last column in order of names is to be learned
        known, secret = known[:-1], known[-1:]
    return known, secret


@dataclass(frozen=True, eq=False)
class Group:
    """Persons with their rows, sorted by person.

    Args:
        rows: All rows, those of one person side by side.
        person: Whose each row is; shape (rows,), ascending, each of 0 .. persons - 1 at least once.
        origin: The number that each person had in the sample; shape (persons,). Attacks do not look at it: it tells
            afterwards who was exposed.
    """

    rows: Rows
    person: IntVector
    origin: IntVector

    @classmethod
    def of(cls, sample: PersonRecords) -> Group:
        """The persons of one side, in canonical order; persons without rows are left out."""
        rows, person = Rows.of(sample.records), np.asarray(sample.person, dtype=np.int64)
        if not len(rows):
            return cls(rows, person, person)
        order = np.lexsort(rows.values.T[::-1])
        content = np.empty(len(rows), dtype=np.int64)  # equal rows share a number, and numbers follow content
        in_order = rows.values[order]
        content[order] = np.concatenate([[0], np.cumsum(np.any(in_order[1:] != in_order[:-1], axis=1))])
        by_person = np.lexsort((content, person))
        counts = np.bincount(person)
        counts = counts[counts > 0]
        profile = np.full((len(counts), int(counts.max())), -1, dtype=np.int64)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        numbers = np.unique(person)
        owner = np.repeat(np.arange(len(counts)), counts)
        profile[owner, within] = content[by_person]
        place = np.empty(len(counts), dtype=np.int64)
        in_place = np.lexsort(profile.T[::-1])
        place[in_place] = np.arange(len(counts))
        final = np.lexsort((within, place[owner]))
        return cls(rows.take(by_person[final]), place[owner][final], numbers[in_place])

    @property
    def persons(self) -> int:
        return int(self.person[-1]) + 1 if len(self.person) else 0

    @property
    def _starts(self) -> IntVector:
        return np.flatnonzero(np.diff(self.person, prepend=-1))

    def best(self, scores: FloatVector) -> FloatVector:
        """Each person's largest row score; shape (persons,)."""
        return np.maximum.reduceat(scores, self._starts) if len(scores) else np.zeros(0)

    def mean(self, scores: FloatVector) -> FloatVector:
        """Each person's mean row score; shape (persons,)."""
        return self.total(scores) / np.bincount(self.person, minlength=self.persons)

    def total(self, scores: FloatVector) -> FloatVector:
        """Each person's sum of row scores; shape (persons,)."""
        return np.bincount(self.person, weights=scores, minlength=self.persons).astype(np.float64)

    def any(self, hits: BoolVector) -> BoolVector:
        """Whether any row of the person is a hit; shape (persons,)."""
        return np.bincount(self.person[hits], minlength=self.persons) > 0

    def take(self, persons: IntVector) -> Group:
        """Some of the persons, in ascending order."""
        chosen = np.zeros(self.persons, dtype=bool)
        chosen[persons] = True
        kept = chosen[self.person]
        return Group(self.rows.take(kept), (np.cumsum(chosen) - 1)[self.person[kept]], self.origin[chosen])

    def at_most(self, rows: int, rng: np.random.Generator) -> Group:
        """A random choice of persons who have about that many rows together, or all of them."""
        if len(self.rows) <= rows:
            return self
        return self.some(max(int(self.persons * rows / len(self.rows)), 1), rng)

    def some(self, persons: int, rng: np.random.Generator) -> Group:
        """A random choice of so many persons, or all of them."""
        return self if self.persons <= persons else self.take(rng.permutation(self.persons)[:persons])


@dataclass(frozen=True, eq=False)
class People:
    """Who is asked about, and who is compared with them.

    Args:
        fit: Persons the model learned from.
        control: All persons it never saw, those of the evaluation half first.
        evaluation: The half of them that attacks are judged on when the attacker holds the other half.
        reference: That other half: people of the same population whom the attacker knows.
    """

    fit: Group
    control: Group
    evaluation: Group
    reference: Group

    @classmethod
    def of(cls, sample: ReviewSample, *, rng: np.random.Generator) -> People:
        """Both sides of the split; a random half of the control persons becomes the reference."""
        fit, control = Group.of(sample.fit), Group.of(sample.control)
        order = rng.permutation(control.persons)
        half = (control.persons + 1) // 2
        evaluation, reference = control.take(order[:half]), control.take(order[half:])
        return cls(fit, joined(evaluation, reference), evaluation, reference)

    def at_most(self, rows: int, rng: np.random.Generator) -> People:
        """A random choice of persons with about that many rows on each side, for attacks that compare all pairs."""
        if max(len(self.fit.rows), len(self.control.rows)) <= rows:
            return self
        evaluation = self.evaluation.at_most(rows // 2, rng)
        reference = self.reference.at_most(rows // 2, rng)
        return People(self.fit.at_most(rows, rng), joined(evaluation, reference), evaluation, reference)

    def some(self, persons: int, rng: np.random.Generator) -> People:
        """A random choice of so many persons on each side, or all of them."""
        if max(self.fit.persons, self.control.persons) <= persons:
            return self
        if self.control.persons <= persons:
            return People(self.fit.some(persons, rng), self.control, self.evaluation, self.reference)
        evaluation = self.evaluation.some((persons + 1) // 2, rng)
        reference = self.reference.some(persons // 2, rng)
        return People(self.fit.some(persons, rng), joined(evaluation, reference), evaluation, reference)


def joined(*groups: Group) -> Group:
    """All persons of several groups, those of the first one first."""
    offsets = np.cumsum([0, *(group.persons for group in groups)])
    person = [group.person + offset for group, offset in zip(groups, offsets[:-1], strict=True)]
    return Group(
        stacked(*(group.rows for group in groups)),
        np.concatenate(person),
        np.concatenate([group.origin for group in groups]),
    )


def keys(*tables: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> list[IntVector]:
    """Numbers that are equal for equal rows, across tables of shape (rows, columns) with the same columns."""
    together = np.concatenate(tables)
    number = np.zeros(len(together), dtype=np.int64)
    for column in together.T:
        levels, level = np.unique(column, return_inverse=True)
        _, number = np.unique(number * len(levels) + level.reshape(-1), return_inverse=True)
        number = number.reshape(-1)
    return list(np.split(number, np.cumsum([len(table) for table in tables])[:-1]))


def fingerprints(tables: Sequence[npt.NDArray[np.float64] | npt.NDArray[np.int64]]) -> list[npt.NDArray[np.uint64]]:
    """One random 64-bit word for each value of each column; shape (rows, columns) for each table.

    The exclusive-or of some columns' words names the combination of their values, so any choice of columns costs one
    pass. Two different combinations among n share a word with chance n^2 / 2^65: one in 10^7 for a million rows.
    """
    words = attack_generator(0x5EED)
    together = np.concatenate(list(tables))
    printed = np.empty(together.shape, dtype=np.uint64)
    for place, column in enumerate(np.ascontiguousarray(together.T)):
        if column.dtype == np.int64 and column.min(initial=0) >= 0 and column.max(initial=0) < len(column):
            levels, level = 1 + int(column.max(initial=0)), column  # codes number themselves
        else:
            different, level = np.unique(column, return_inverse=True)
            levels = len(different)
        printed[:, place] = words.integers(0, 2**64, size=levels, dtype=np.uint64)[level.reshape(-1)]
    return list(np.split(printed, np.cumsum([len(table) for table in tables])[:-1]))
