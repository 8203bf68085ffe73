"""How persons lie to a synthetic table: one pass over all pairs of rows, for all attacks that compare them.

Distances are sums over columns, so those over the quasi-identifiers, over the sensitive columns and over the rest are
computed once and added up as each attack needs them. Equal rows are looked at once and counted as often as they occur.
What was computed for a table is kept as long as the table is: the attacks run one after another on the same.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from attacks.distances import (
    Factors,
    FloatMatrix,
    FloatVector,
    IntMatrix,
    IntVector,
    Metric,
    lowest,
    one_thread,
    pairs,
    passes,
    smallest,
)
from attacks.people import MISSING, Group, People, Rows, fingerprints, joined, keys, roles
from dpsynth import attack_generator

NEIGHBOURS = 20  # nearest rows that are looked at
VOTERS = 5  # nearest rows that vote on a sensitive value
WITHIN = 0.05  # of the interquartile range: a number so near is guessed
FOREIGN = 2500  # fitted persons who are compared with the reference


@dataclass(frozen=True, eq=False)
class Distinct:
    """The different rows of a table.

    Args:
        first: One row of each kind; shape (kinds,).
        kind: Which kind each row is; shape (rows,).
        counts: How many rows each kind has; shape (kinds,).
    """

    first: IntVector
    kind: IntVector
    counts: IntVector

    @classmethod
    def of(cls, words: npt.NDArray[np.uint64]) -> Distinct:
        combined = np.bitwise_xor.reduce(words, axis=1)
        _, first, kind, counts = np.unique(combined, return_index=True, return_inverse=True, return_counts=True)
        return cls(first, kind.reshape(-1), counts)


@dataclass(frozen=True, eq=False)
class Nearness:
    """What one pass finds. Rows are those of the fitted persons, then those of the persons held back.

    Args:
        closest: Distances to the nearest rows of the table, ascending, in units of a column; shape (rows, 20).
        linked: Chance that a table row nearest on the quasi-identifiers carries all sensitive values; shape (rows,).
        met: Chance that a table row nearest on the quasi-identifiers and one nearest on the rest are the same.
        given: How far the nearest row of the table is on the columns that are not sensitive, in units of a column.
        guessed: For each sensitive column, the chance that a row nearest on the other columns carries the same cell.
        voted: The same for the cell that most of the five nearest rows carry, with all rows as near as the fifth; shared
            among cells with as many votes. Empty, as is `close`, where people are compared with others than the table.
        close: For each sensitive number, the chance that a row nearest on the other columns carries nearly the same.
        pairs: The real rows nearest to each table row, with all ties: (kind of table row, kind of real row).
        least: How far each kind of table row is from them, in squared steps.
        real, table: Which kinds of rows there are.
    """

    closest: FloatMatrix
    linked: FloatVector
    met: FloatVector
    given: FloatVector
    guessed: dict[int, FloatVector]
    voted: dict[int, FloatVector]
    close: dict[int, FloatVector]
    pairs: tuple[IntVector, IntVector]
    least: FloatVector
    real: Distinct
    table: Distinct


class _Kept:
    """What was found for some people and a table; the first to ask computes it, and others wait."""

    def __init__(self, people: People) -> None:
        self.people = people
        self._lock = threading.Lock()
        self._found: Nearness | None = None

    def found(self, table: Rows) -> Nearness:
        with self._lock:
            if self._found is None:
                everybody = joined(self.people.fit, self.people.control).rows
                self._found = _nearness(everybody, table, tolerances(self.people.reference.rows))
            return self._found


_KEPT: WeakKeyDictionary[Rows, list[_Kept]] = WeakKeyDictionary()
_LOCK = threading.Lock()


def nearness(people: People, table: Rows) -> Nearness:
    """How the persons of both sides lie to the table. Computed once for the same people and table."""
    with _LOCK:
        entries = _KEPT.setdefault(table, [])
        if (kept := next((entry for entry in entries if entry.people is people), None)) is None:
            entries.append(kept := _Kept(people))
    return kept.found(table)


class _Foreign:
    """The same for fitted persons and the reference in the place of a table."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: tuple[Group, Nearness] | None = None

    def found(self, people: People) -> tuple[Group, Nearness]:
        with self._lock:
            if self._found is None:
                asked = people.fit.at_most(FOREIGN, attack_generator(0xF0E1))
                self._found = asked, _nearness(asked.rows, people.reference.rows)
            return self._found


_FOREIGN: WeakKeyDictionary[People, _Foreign] = WeakKeyDictionary()


def foreign(people: People) -> tuple[Group, Nearness]:
    """Fitted persons, all or a random choice, and how they lie to the reference: for attackers without a release.

    Computed once for the same people, and the choice is the same for all attacks.
    """
    with _LOCK:
        kept = _FOREIGN.setdefault(people, _Foreign())
    return kept.found(people)


def tolerances(reference: Rows) -> dict[int, float]:
    """How far off a guess of each sensitive number may be: a part of the interquartile range of these rows.

    Columns are left out in which none of the rows has a number.
    """
    found = {}
    for place in roles(reference)[1] if linkable(reference) else []:
        values = reference.values[:, place]
        known = values[values != MISSING]
        if reference.columns[place].is_numeric and len(known):
            low, high = np.quantile(known, (0.25, 0.75))
            found[place] = WITHIN * float(high - low)
    return found


def linkable(table: Rows) -> bool:
    """Whether the table has columns to link by and others to learn."""
    return all(roles(table))


def distinct(*tables: Rows) -> list[Distinct]:
    """The different rows of each of several tables."""
    return [Distinct.of(words) for words in fingerprints([table.values for table in tables])]


@one_thread
def _nearness(rows: Rows, table: Rows, within: dict[int, float] | None = None) -> Nearness:
    """How rows lie to a table; with tolerances of numbers also what reports alone are about."""
    ours, theirs = distinct(rows, table)
    queries, base = rows.take(ours.first), table.take(theirs.first)
    watch = _Watch(queries, base, theirs.counts, within)
    metric, columns = Metric(table), len(table.columns)
    known, secret = roles(table) if linkable(table) else ([], [])
    others = [place for place in range(columns) if place not in known and place not in secret]
    parts = [
        (
            Factors.of(metric.points(queries, places).light(columns)),
            Factors.turned(metric.points(base, places).light(columns)),
        )
        if places
        else None
        for places in (known, secret, others)
    ]
    given = [part for part in parts if part is not None]
    unit, kind = given[0][0].squared_unit, given[0][0].near.dtype.type
    for block, room in passes(len(queries), len(base), kind, len(given)):
        filled = iter(room)
        on_known, on_secret, on_others = (
            None if part is None else part[0].times(block, part[1], out=next(filled)) for part in parts
        )
        if on_known is None or on_secret is None:
            assert on_others is not None  # without roles all columns are others
            watch.see(block, on_others)
            continue
        by_known = watch.link(block, on_known)
        on_rest = on_secret if on_others is None else np.add(on_secret, on_others, out=on_secret)
        watch.meet(block, on_known, on_rest, by_known)
        watch.guess(block, on_known if on_others is None else np.add(on_others, on_known, out=on_others))
        watch.see(block, np.add(on_rest, on_known, out=on_rest))
    return watch.found(ours, theirs, unit)


@dataclass(eq=False)
class _Watch:
    """Takes down what is asked about distances while they go by, block after block of queries.

    Args:
        queries, base: The different rows of both sides.
        weights: How often each base row occurs.
        within: Tolerances of sensitive numbers; None where neither votes nor tolerances are asked for.
    """

    queries: Rows
    base: Rows
    weights: IntVector
    within: dict[int, float] | None
    places: list[int] = field(init=False)

    def __post_init__(self) -> None:
        number, columns = len(self.queries), len(self.base)
        self.places = roles(self.base)[1] if linkable(self.base) else []
        self._weight = self.weights.astype(np.float64)
        self._closest = np.empty((number, NEIGHBOURS))
        self._linked, self._met = np.zeros(number), np.zeros(number)
        self._given = np.zeros(number)
        self._guessed = {place: np.zeros(number) for place in self.places}
        self._ballots = {place: self._numbered(place) for place in self.places if self.within is not None}
        self._voted = {place: np.zeros(number) for place in self._ballots}
        self._close = {place: np.zeros(number) for place in self.within or ()}
        self._wanted, self._offered = keys(self.queries.cells[:, self.places], self.base.cells[:, self.places])
        self._least = np.full(columns, np.inf)
        self._candidates: list[tuple[FloatVector, IntVector, IntVector]] = []

    def see(self, block: slice, squared: FloatMatrix) -> None:
        """Distances over all columns."""
        self._closest[block] = nearest_of(squared, smallest(squared, NEIGHBOURS), self.weights)
        here = squared.min(axis=0)
        better = np.flatnonzero(here <= self._least)
        self._least[better] = here[better]
        row, place = pairs(squared[:, better] == here[better])
        self._candidates.append((here[better][place], better[place], row + block.start))

    def link(self, block: slice, on_known: FloatMatrix) -> tuple[FloatVector, FloatVector]:
        """Distances over the quasi-identifiers. Gives the least of each query, and how many rows are so near."""
        rows = on_known.shape[0]
        least, query, point = lowest(on_known)
        weight = self._weight[point]
        by_known: FloatVector = np.bincount(query, weights=weight, minlength=rows).astype(np.float64)
        pays = self._wanted[block][query] == self._offered[point]
        self._linked[block] = np.bincount(query, weights=weight * pays, minlength=rows) / by_known
        return least, by_known

    def meet(
        self, block: slice, on_known: FloatMatrix, on_rest: FloatMatrix, by_known: tuple[FloatVector, FloatVector]
    ) -> None:
        """Distances over all columns that are no quasi-identifiers, beside what `link` gave."""
        rows = on_rest.shape[0]
        _, query, point = lowest(on_rest)
        weight = self._weight[point]
        by_rest = np.bincount(query, weights=weight, minlength=rows)
        near = on_known[query, point] == by_known[0][query]
        both = np.bincount(query, weights=weight * near, minlength=rows)
        self._met[block] = both / (by_known[1] * by_rest)

    def guess(self, block: slice, on_given: FloatMatrix) -> None:
        """Distances over all columns that are not sensitive."""
        rows = on_given.shape[0]
        self._given[block], query, point = lowest(on_given)
        weight = self._weight[point]
        total = np.bincount(query, weights=weight, minlength=rows)
        for place in self.places:
            right = self.queries.cells[block, place][query] == self.base.cells[point, place]
            self._guessed[place][block] = np.bincount(query, weights=weight * right, minlength=rows) / total
        for place, tolerance in (self.within or {}).items():
            own, offered = self.queries.values[block, place][query], self.base.values[point, place]
            near = _close(own, offered, tolerance)
            self._close[place][block] = np.bincount(query, weights=weight * near, minlength=rows) / total
        if self.within is not None:
            self._vote(block, on_given)

    def _numbered(self, place: int) -> tuple[IntVector, IntVector, int]:
        """Numbers for the cells of a column that the base has, and one more that stands for any other.

        Of the queries and of the base; the last one is how many there are, never many more than rows of the base.
        """
        levels, offered = np.unique(self.base.cells[:, place], return_inverse=True)
        own = np.minimum(np.searchsorted(levels, self.queries.cells[:, place]), len(levels) - 1)
        known = levels[own] == self.queries.cells[:, place]
        return np.where(known, own, len(levels)), offered.reshape(-1), len(levels) + 1

    def _vote(self, block: slice, on_given: FloatMatrix) -> None:
        fifth = nearest_of(on_given, smallest(on_given, VOTERS), self.weights)[:, VOTERS - 1, None]
        query, point = pairs(on_given <= fifth.astype(on_given.dtype))
        for place, (own, offered, size) in self._ballots.items():
            ballot = query * size + offered[point]
            votes = np.bincount(ballot, weights=self._weight[point], minlength=len(fifth) * size).reshape(-1, size)
            won = votes == votes.max(axis=1, keepdims=True)
            self._voted[place][block] = won[np.arange(len(fifth)), own[block]] / won.sum(axis=1)

    def found(self, ours: Distinct, theirs: Distinct, squared_unit: float) -> Nearness:
        """Everything by row instead of by kind of row."""
        least = [distance for distance, _, _ in self._candidates]
        distance, base, query = (
            np.concatenate([np.zeros(0), *least]),
            np.concatenate([np.zeros(0, dtype=np.int64), *(b for _, b, _ in self._candidates)]),
            np.concatenate([np.zeros(0, dtype=np.int64), *(q for _, _, q in self._candidates)]),
        )
        nearest = distance == self._least[base]
        kind = ours.kind
        return Nearness(
            closest=np.sqrt(self._closest / squared_unit)[kind],
            linked=self._linked[kind],
            met=self._met[kind],
            given=np.sqrt(self._given / squared_unit)[kind],
            guessed={place: guessed[kind] for place, guessed in self._guessed.items()},
            voted={place: voted[kind] for place, voted in self._voted.items()},
            close={place: close[kind] for place, close in self._close.items()},
            pairs=(base[nearest], query[nearest]),
            least=self._least,
            real=ours,
            table=theirs,
        )


def _close(own: FloatVector, offered: FloatVector, tolerance: float) -> npt.NDArray[np.bool_]:
    """Whether numbers are at most so far apart; two that are missing are equal, and one is far from any number."""
    there = (own != MISSING) & (offered != MISSING)
    apart = np.abs(np.where(there, own, 0.0) - np.where(there, offered, 0.0))
    return np.asarray((own == offered) | (there & (apart <= tolerance)))


def nearest_of(squared: FloatMatrix, places: IntMatrix, counts: IntVector) -> FloatMatrix:
    """The nearest so many distances, each point counted as often as it occurs; shape (queries, neighbours).

    Args:
        squared: Shape (queries, points).
        places: Where the smallest of each row stand.
        counts: How often each point occurs.
    """
    few = np.take_along_axis(squared, places, axis=1)
    order = np.argsort(few, axis=1, kind="stable")
    few = np.take_along_axis(few, order, axis=1).astype(np.float64)
    last = few.shape[1] - 1
    if counts.max(initial=1) == 1:
        return few[:, np.minimum(np.arange(NEIGHBOURS), last)]
    reached = np.cumsum(counts[np.take_along_axis(places, order, axis=1)], axis=1)
    at = [np.minimum((reached <= rank).sum(axis=1), last) for rank in range(NEIGHBOURS)]
    return np.take_along_axis(few, np.stack(at, axis=1), axis=1)
