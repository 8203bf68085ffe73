"""Whom a shadow-model attack attacks, and the tables that coins make of them.

Targets are chosen before anything is fitted: persons who stand alone, who hold the largest or smallest numbers, or who
have the rarest values. In every run each of them is in the table or not by a fair coin; everybody else is always in.
Class P3; which person a target is, is class P4 (`attacks.shadow`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from attacks.distances import UNIT, Metric, blocks, one_thread
from attacks.people import MISSING, BoolVector, FloatMatrix, FloatVector, Group, IntMatrix, IntVector, Rows, keys
from attacks.suite import stream
from dpsynth import Column, PersonRecords, Records, Schema, Table, UsageError, read_for_attack

if TYPE_CHECKING:
    import pandas as pd

BoolMatrix: TypeAlias = npt.NDArray[np.bool_]
Reason: TypeAlias = Literal["isolated", "extreme", "rare"]

PARTS = (2, 1, 3)  # of the runs: for learning, for choosing rule and threshold, for counting; fixed beforehand
NEIGHBOURS = 5  # whose mean distance says how isolated a person is
COMPARED = 4_000  # persons among whom neighbours are sought
CONSIDERED = 20_000  # persons whose isolation is measured, those with the rarest values first
MOST_ROWS = 4  # of one target that the attackers look at


# ---- targets -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Target:
    """A person under attack. Class P4.

    Args:
        number: Which target this is, from 0; says nothing about the person.
        reason: Why the person was chosen.
        rows: Where the person's rows stand in the file, from 0.
    """

    number: int
    reason: Reason
    rows: tuple[int, ...] = field(repr=False)


def persons_of(frame: pd.DataFrame, schema: Schema) -> tuple[Group, list[IntVector]]:
    """All persons of a data frame in canonical order, and where in the frame the rows of each stand.

    Rows are read by the rules under which a release reads them, but nobody's are cut to `max_rows`. Those that a release
    would drop are left out of the persons, and still among the places: another program may see them.
    """
    sample, where = _numbered(frame, schema)
    people = Group.of(sample)
    if schema.unit_column is None:
        return people, [where[[number]] for number in people.origin.tolist()]
    unread = tuple(Column(name=c.name, type="text") if c.is_modelled else c for c in schema.columns)
    everybody, places = _numbered(frame, replace(schema, columns=unread, constraints=()))
    name_of = dict(zip(places.tolist(), everybody.person.tolist(), strict=True))
    first = dict(zip(sample.person.tolist()[::-1], where.tolist()[::-1], strict=True))
    names = [name_of[first[number]] for number in people.origin.tolist()]
    by_name = np.argsort(everybody.person, kind="stable")
    rows = np.split(places[by_name], np.cumsum(np.bincount(everybody.person, minlength=everybody.persons))[:-1])
    return people, [np.sort(rows[name]) for name in names]


def _numbered(frame: pd.DataFrame, schema: Schema) -> tuple[PersonRecords, IntVector]:
    """The rows that can be read, by person, and where each stands, which travels through the reader as a column."""
    position = max(schema.file_names) + "~"  # longer than all names that start like it
    numbered = replace(
        schema,
        columns=(*schema.columns, Column(name=position, type="integer", minimum=0, maximum=max(len(frame), 1), bins=1)),
        max_rows=1 if schema.unit_column is None else 10**6,
        status=None,
    )
    sample = read_for_attack(frame.assign(**{position: np.arange(len(frame))}), numbered)
    where = np.asarray(sample.records.columns[position], dtype=np.int64)
    records = Records(schema, {name: sample.records.columns[name] for name in schema.names})
    return PersonRecords(records=records, person=sample.person, persons=sample.persons), where


def most_exposed(people: Group, how_many: int, *, rng: np.random.Generator) -> list[tuple[int, Reason]]:
    """Persons in canonical order, and why each was chosen, before any model is fitted.

    Three lists take turns: persons far from their five nearest neighbours; holders of a column's smallest or largest
    number, those with the widest gap to the next person first; holders of the rarest categories.
    """
    rarity = _rarity(people)
    lists: dict[Reason, Iterator[int]] = {
        "isolated": iter(_by_isolation(people, rarity, rng)),
        "extreme": iter(_by_gap(people)),
        "rare": iter(np.lexsort((-rarity[1], rarity[0])).tolist()),
    }
    chosen: dict[int, Reason] = {}
    while len(chosen) < min(how_many, people.persons):
        for reason, ranking in lists.items():
            found = next((person for person in ranking if person not in chosen), None)
            if found is not None and len(chosen) < how_many:
                chosen[found] = reason
    return sorted(chosen.items())


def _rarity(people: Group) -> tuple[FloatVector, FloatVector]:
    """How many persons hold a person's rarest category, and how surprising the person's categories are together."""
    fewest = np.full(people.persons, float(people.persons))
    surprise = np.zeros(len(people.rows))
    for place, column in enumerate(people.rows.columns):
        if not column.is_numeric:
            cell = people.rows.cells[:, place]
            pairs = np.unique(np.stack([people.person, cell], axis=1), axis=0)
            holders = np.bincount(pairs[:, 1], minlength=column.size).astype(np.float64)[cell]
            np.minimum.at(fewest, people.person, holders)
            surprise -= np.log(holders / people.persons)
    return fewest, people.best(np.round(surprise, 9))


@one_thread
def _by_isolation(people: Group, rarity: tuple[FloatVector, FloatVector], rng: np.random.Generator) -> list[int]:
    """Persons by their mean distance to the nearest others, the farthest first."""
    first = np.flatnonzero(np.diff(people.person, prepend=-1))
    rank = np.lexsort((-rarity[1], rarity[0]))[:CONSIDERED]
    considered = np.sort(rank)
    base = np.sort(rng.permutation(people.persons)[:COMPARED])
    points = Metric(people.rows).points(people.rows)
    rows = np.flatnonzero(np.isin(people.person, considered))
    within = min(NEIGHBOURS, max(len(base) - 1, 1))
    isolation = np.full(people.persons, -1.0)
    whose = people.person[rows]
    for part, squared in blocks(points.take(rows), points.take(first[base])):
        squared[whose[part][:, None] == base[None, :]] = np.inf
        near = np.partition(squared, within - 1, axis=1)[:, :within]
        distance = np.round(np.sqrt(np.sort(near, axis=1)).mean(axis=1) / UNIT, 9)
        np.maximum.at(isolation, whose[part], np.where(np.isfinite(distance), distance, 0.0))
    order = np.lexsort((considered, -isolation[considered]))
    return [int(person) for person in considered[order]]


def _by_gap(people: Group) -> list[int]:
    """Holders of a column's smallest or largest number by how far the next person's lies, the widest gap first."""
    gaps: list[tuple[float, int]] = []
    for place, column in enumerate(people.rows.columns):
        if not column.is_numeric:
            continue
        values = people.rows.values[:, place]
        low, high = float(column.binning.edges[0]), float(column.binning.edges[-1])
        for sign in (1.0, -1.0):
            best = people.best(np.where(values == MISSING, -np.inf, sign * values))
            if people.persons > 1 and high > low:
                second, largest = np.partition(best, -2)[-2:]
                if np.isfinite(second) and largest > second:
                    gaps.append((-(largest - second) / (high - low), int(np.argmax(best))))
    return [person for _, person in sorted(gaps)]


# ---- tables and coins --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Game:
    """Who is attacked, who stands in for them, and the tables that coins make of it.

    Args:
        schema: The schema of the table.
        people: Everybody, in canonical order.
        targets: Persons under attack.
        codes: Cells of everybody's rows, columns as the schema has them.
        standing_in: Cells of the rows that stand in for each target; none under "add_remove".
        everything: All rows of the frame, then those that stand in.
        always: Rows of `everything` that are in every table.
        present, absent: For each target its rows in `everything`, and those of whoever stands in.
    """

    schema: Schema
    people: Group
    targets: tuple[Target, ...]
    persons: IntVector
    codes: IntMatrix
    standing_in: tuple[IntMatrix, ...]
    everything: pd.DataFrame
    always: IntVector
    present: tuple[IntVector, ...]
    absent: tuple[IntVector, ...]

    @classmethod
    def of(cls, frame: pd.DataFrame, schema: Schema, *, targets: int, seed: int) -> Game:
        people, where = persons_of(frame, schema)
        if people.persons < 2:
            raise UsageError("a shadow-model attack needs a table with at least two persons")
        if not people.rows.columns:
            raise UsageError("a shadow-model attack needs a column that is modelled")
        chosen = most_exposed(people, targets, rng=stream(seed, "shadow", "targets"))
        present = tuple(where[person] for person, _ in chosen)
        found = tuple(
            Target(number=number, reason=reason, rows=tuple(rows.tolist()))
            for number, ((_, reason), rows) in enumerate(zip(chosen, present, strict=True))
        )
        in_order = [people.rows.columns.index(column) for column in schema.modelled]
        standing_in: list[IntMatrix] = []
        absent: list[IntVector] = [np.zeros(0, dtype=np.int64) for _ in chosen]
        everything = frame
        if schema.neighbours == "replace":
            rng = stream(seed, "shadow", "standing in")
            for number, rows in enumerate(present):
                cells = np.stack([rng.integers(size, size=len(rows)) for size in schema.sizes], axis=1)
                made = _made_rows(frame, schema, cells.astype(np.int32), rows, rng)
                absent[number] = np.arange(len(rows)) + len(everything)
                everything = _joined(everything, made)
                standing_in.append(cells)
        always = np.setdiff1d(np.arange(len(frame)), np.concatenate(present))
        return cls(
            schema,
            people,
            found,
            np.array([person for person, _ in chosen]),
            people.rows.cells[:, in_order],
            tuple(standing_in),
            everything.reset_index(drop=True),
            always,
            present,
            tuple(absent),
        )

    def table(self, inside: BoolVector) -> pd.DataFrame:
        """The table in which these targets are present; `neighbours.shuffled` deals its rows."""
        parts = [self.present[n] if there else self.absent[n] for n, there in enumerate(inside)]
        rows = np.sort(np.concatenate([self.always, *parts]))
        return self.everything.take(rows).reset_index(drop=True)

    def of_target(self, number: int) -> Rows:
        """The rows of a target that the attackers look at: different ones, a few at most."""
        rows = self.people.rows.take(self.people.person == self.persons[number])
        return rows.take(np.sort(np.unique(keys(rows.values)[0], return_index=True)[1])[:MOST_ROWS])


def _made_rows(
    frame: pd.DataFrame, schema: Schema, codes: npt.NDArray[np.int32], rows: IntVector, rng: np.random.Generator
) -> pd.DataFrame:
    """Rows of these cells for a data file, under the unit id of the rows whose place they take."""
    made = Table(schema.released(), codes).decode(rng=rng).to_frame()
    for column in schema.dropped:
        made[column.name] = [""] * len(made)
    if schema.unit_column is not None:
        made[schema.unit_column] = frame[schema.unit_column].iloc[rows].array
    return made[list(frame.columns)]


def _joined(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Both frames' rows; a column keeps its storage type where the new values fit into it."""
    import pandas as pd

    columns = {}
    for name in first.columns:
        old, new = first[name], second[name]
        if pd.api.types.is_float_dtype(old.dtype) and pd.api.types.is_numeric_dtype(new.dtype):
            new = new.astype(old.dtype)
        elif isinstance(old.dtype, pd.CategoricalDtype) or (old.dtype != new.dtype and new.isna().any()):
            old, new = old.astype(object), new.astype(object)
        columns[name] = pd.concat([old, new], ignore_index=True)
    return pd.DataFrame(columns)


@dataclass(frozen=True)
class Coins:
    """Who was in, run by run.

    Args:
        inside: Shape (fits, targets).
        learning, choosing, counting: The parts of the runs.
    """

    inside: BoolMatrix
    learning: slice
    choosing: slice
    counting: slice

    @classmethod
    def tossed(cls, fits: int, targets: int, *, rng: np.random.Generator) -> Coins:
        ends = [fits * sum(PARTS[:n]) // sum(PARTS) for n in range(4)]
        parts = [slice(a, b) for a, b in pairwise(ends)]
        return cls(rng.random((fits, targets)) < 0.5, *parts)

    def design(self, target: int) -> FloatMatrix:
        """What is known of each run but the target's coin: a constant, and the other coins where runs suffice."""
        fits, targets = self.inside.shape
        constant = np.ones((fits, 1))
        if self.learning.stop < 4 * (targets + 1):
            return constant
        return np.column_stack([constant, np.delete(self.inside, target, axis=1)])
