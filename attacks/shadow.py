"""Shadow models: what a generator gives away about the most exposed persons of a real table.

A handful of targets is chosen before anything is fitted. Then the whole generator runs many times; in every run each
target is in the table or not by a fair coin of its own, and everybody else is always in. One set of runs serves all
targets, because half of them contain any given one, independently of the others. An attacker who knows everybody else's
rows, the values of the target and the coins of the other targets guesses from each result whether the target was in.

Under "replace" a person made from the schema stands in for an absent target, so that the tables are neighbours in the
sense that the schema declares.

Everything here is class P3: it is made from real rows without noise, and the runs themselves are as private as the rows.
The number of a target, and where its rows stand in the file, is class P4: reports may show counts by group only.

Attackers, all on the same runs:

- "conjunctions" counts the synthetic rows that share the target's values on each set of columns, for all sets at once by
  a superset sum, and learns which counts speak;
- "nearest" looks at the distances from the target to the nearest synthetic rows, in both directions: a filter that drops
  rows "too close" leaves a hole;
- "noisy counts" reads the measurements of our own generators: the likelihood ratio of all of them, given everybody else;
- "attribute" guesses a sensitive value of the target from its other values, with and without the target in the table:
  the difference is what the person's participation caused.

A third of the runs teaches the attackers, a sixth chooses rule and threshold, and the rest, which neither has seen, is
counted.

Sources: one fixed data set, one target in or out, many fits: Stadler, Oprisanu, Troncoso, USENIX Security 2022,
arXiv:2011.07018; counts of a target's values as features: Houssiau et al., TAPAS, arXiv:2211.06550; independent random
inclusion of many records, so that one set of runs serves all: Carlini et al., S&P 2022, arXiv:2112.03570. The bounds are
those of `attacks.intervals`. The features, the choice of targets and the code are our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from attacks.canary import Claim
from attacks.distances import UNIT, Metric, blocks, one_thread
from attacks.generators import Generator
from attacks.intervals import (
    Interval,
    Rate,
    area,
    clopper_pearson_high,
    difference,
    epsilon_lower_bound,
)
from attacks.people import MISSING, BoolVector, FloatMatrix, FloatVector, Group, IntMatrix, IntVector, Rows, keys, roles
from attacks.suite import stream
from attacks.tradeoff import Approximate, rough_limit
from dpsynth import (
    Column,
    Curator,
    Measurement,
    PersonRecords,
    PrivacyUnit,
    Records,
    Schema,
    Table,
    Trial,
    UsageError,
    advantage_bound,
)

if TYPE_CHECKING:
    import pandas as pd

BoolMatrix: TypeAlias = npt.NDArray[np.bool_]
Reason: TypeAlias = Literal["isolated", "extreme", "rare"]
Method: TypeAlias = Literal["conjunctions", "nearest", "noisy counts", "attribute"]

CONFIDENCE = 0.999  # of the certified bounds, all targets and methods together
SIMULTANEOUS = 0.95  # of areas and advantages, all together: to be read, not to be judged
PARTS = (2, 1, 3)  # of the runs: for learning, for choosing rule and threshold, for counting; fixed beforehand
FEWEST_FITS = 48
MOST_FITS = 2**20  # what `fits_needed` looks up to

NEIGHBOURS = 5  # whose mean distance says how isolated a person is
COMPARED = 4_000  # persons among whom neighbours are sought
CONSIDERED = 20_000  # persons whose isolation is measured, those with the rarest values first
MOST_ROWS = 4  # of one target that the attackers look at
WIDEST = 18  # bits: up to here all sets of columns are counted
NARROW = 14  # bits of a random choice of columns where there are more
FEWEST_CHOICES, MOST_CHOICES = 4, 8  # of such choices
MOST_FEATURES = 2_048  # that a learner is given, the most telling of the learning runs
TREE_FEATURES = 64
CAUTIOUS, BOLD = "logistic regression, cautious", "logistic regression, bold"
CHUNK = 2**19  # counts held at a time: two megabytes
RANKS = (1, 2, 5, 20)  # of the nearest synthetic rows
RANKED = 2_000  # rows among which numbers are ranked to be placed


# ---- results -----------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True, kw_only=True)
class ShadowItem:
    """What one attacker could tell about one target. Class P3.

    Args:
        target: Number of the target.
        reason: Why this target was chosen.
        method: Which attacker.
        rule: What he went by, in words; chosen on runs that are not counted.
        claim: What the generator promises.
        trials: Runs that were counted, as many with the target as without.
        hits, false_alarms: Of these, how many were taken for runs with the target; for "attribute": in how many the
            sensitive value was guessed right, with the target in the table and without.
        area: Chance that a run with the target scores higher than one without (AUC).
        area_interval: Where it lies, all targets and methods together.
        confidence: Chance that the certified bounds of this item hold, corrected for the number of items.
        simultaneous: The same for the intervals that are no certified bounds.
    """

    target: int
    reason: Reason
    method: Method
    rule: str
    claim: Claim
    trials: int
    hits: int
    false_alarms: int
    area: Rate
    area_interval: Interval
    confidence: float
    simultaneous: float

    @property
    def advantage(self) -> float:
        """True-positive minus false-positive rate; for "attribute" what the person's participation caused."""
        return (self.hits - self.false_alarms) / self.trials

    @property
    def interval(self) -> Interval:
        """Where the advantage of this rule lies (Newcombe), all targets and methods together."""
        present, absent = (
            Rate(value=count / self.trials, trials=self.trials, persons=self.trials)
            for count in (self.hits, self.false_alarms)
        )
        found = difference(present, absent, self.simultaneous)
        return Interval(low=found.low, high=found.high, confidence=SIMULTANEOUS)

    @cached_property
    def epsilon(self) -> float:
        """Certified lower bound on epsilon at the claim's delta."""
        return epsilon_lower_bound(
            self.hits, self.false_alarms, self.trials, delta=self.claim.delta, confidence=self.confidence
        )

    @property
    def estimate(self) -> float:
        """About what epsilon this attacker saw; half a run is added to every count. At least 0."""
        tpr, fpr = ((count + 0.5) / (self.trials + 1) for count in (self.hits, self.false_alarms))
        return Approximate(self.claim.delta).loss(tpr, fpr)

    @property
    def allowed(self) -> float:
        """The highest true-positive rate that the claim allows at the false-positive rate that was seen.

        The latter is taken at its upper limit, one-sided. For "attribute": the highest success with the person in the
        table, given the success without.
        """
        fpr = clopper_pearson_high(self.false_alarms, self.trials, confidence=self.confidence)
        return float(self.claim.highest(np.array([fpr]))[0])

    @cached_property
    def exceeds(self) -> bool:
        """Whether the claim is contradicted. A true claim is with a chance of at most 1 - `confidence`."""
        return self.claim.contradicted(self.hits, self.false_alarms, self.trials, confidence=self.confidence)

    @property
    def perfect(self) -> ShadowItem:
        """What an attacker who never errs would have shown with so many runs."""
        return replace(self, hits=self.trials, false_alarms=0)

    @property
    def ceiling(self) -> float:
        """The largest epsilon that so many runs can certify."""
        return self.perfect.epsilon

    @property
    def conclusive(self) -> bool:
        """Whether so many runs could have contradicted the claim at all."""
        return self.perfect.exceeds


@dataclass(frozen=True, kw_only=True)
class ShadowResult:
    """What the attackers could tell about all targets. Class P3.

    Args:
        claim: What the generator promises.
        fits: How often it was run.
        targets: Who was attacked: class P4, for the eyes of the data's owner.
        methods: Which attackers were tried on each.
        items: One for each target and method, in this order.
        confidence: Chance that all certified bounds hold together.
        advantage_allowed: The largest advantage that the claim allows anybody.
    """

    claim: Claim
    fits: int
    targets: tuple[Target, ...] = field(repr=False)
    methods: tuple[Method, ...]
    items: tuple[ShadowItem, ...]
    confidence: float
    advantage_allowed: float
    privacy_class: Literal["P3"] = "P3"

    @property
    def exceeds(self) -> bool:
        """Whether the claim is contradicted; a true one is with a chance of at most 1 - confidence."""
        return any(item.exceeds for item in self.items)

    @property
    def conclusive(self) -> bool:
        """Whether any item could have contradicted the claim."""
        return any(item.conclusive for item in self.items)

    @property
    def epsilon(self) -> float:
        """Certified lower bound on epsilon, the highest over all items."""
        return max(item.epsilon for item in self.items)

    def of(self, method: Method) -> tuple[ShadowItem, ...]:
        """The items of one method, the most striking first."""
        return tuple(sorted((i for i in self.items if i.method == method), key=_striking, reverse=True))

    def worst(self, method: Method) -> ShadowItem:
        """Its most striking item: the one with the highest certified bound, or else the highest estimate."""
        return self.of(method)[0]

    def counts(self) -> Mapping[Reason, Mapping[str, int]]:
        """By group of targets: how many there are, about how many a leak was shown, and beyond the claim."""
        groups: dict[Reason, dict[str, int]] = {}
        for target in self.targets:
            mine = [item for item in self.items if item.target == target.number]
            group = groups.setdefault(target.reason, {"targets": 0, "leak shown": 0, "beyond the claim": 0})
            group["targets"] += 1
            group["leak shown"] += any(item.epsilon > 0 for item in mine)
            group["beyond the claim"] += any(item.exceeds for item in mine)
        return groups

    def fits_needed(self) -> int | None:
        """About how many runs would let a perfect attacker contradict the claim; None if a million would not."""

        def enough(fits: int) -> bool:
            side = fits * PARTS[2] // (2 * sum(PARTS))
            return self.claim.contradicted(side, 0, side, confidence=self.items[0].confidence)

        low, high = FEWEST_FITS // 2, FEWEST_FITS
        while not enough(high):
            low, high = high, 2 * high
            if high > MOST_FITS:
                return None
        while high - low > max(high // 50, 1):
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high


def _striking(item: ShadowItem) -> tuple[float, float]:
    return item.epsilon, item.advantage


def advantage_allowed(claim: Claim) -> float:
    """The largest true-positive minus false-positive rate that a claim allows anybody.

    Source: under (epsilon, delta)-DP the two lines of `attacks.tradeoff.Approximate` meet where tpr = 1 - fpr =
        (e^epsilon + delta) / (e^epsilon + 1), and the region that they bound is convex and symmetric about that
        diagonal; under a curve `dpsynth.advantage_bound`.
    """
    allowed = 1.0
    if claim.epsilon < 700:  # e^700 is about the largest float
        grown = math.exp(claim.epsilon)
        allowed = min((grown - 1 + 2 * claim.delta) / (grown + 1), 1.0)
    return allowed if claim.cost is None else min(allowed, advantage_bound(claim.cost))


# ---- the table ---------------------------------------------------------------------------------------------------


class _ReadOnly:
    """In place of a reservation, for reading rows under the door's rules: pays for no question."""

    def __init__(self, unit: PrivacyUnit) -> None:
        self._unit = unit

    @property
    def unit(self) -> PrivacyUnit:
        return self._unit

    def start(self) -> None:
        """Nothing to record."""

    def require_started(self) -> None:
        """Nothing to check."""

    def spend(self, cost: object, *, purpose: str) -> None:
        raise AssertionError("rows that are read for attacks answer no charged question")


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
    door = Curator.of_frame(frame.assign(**{position: np.arange(len(frame))}), numbered, _ReadOnly(numbered.unit))
    sample = door.review_sample().fit
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


@dataclass(frozen=True)
class _Game:
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
    def of(cls, frame: pd.DataFrame, schema: Schema, *, targets: int, seed: int) -> _Game:
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
        """The table in which these targets are present, the rows in the order of the file."""
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


# ---- attackers ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Score:
    """What an attacker goes by: one number for each run, higher where the target was in.

    Args:
        rule: In words.
        values: Shape (fits,).
        learned: Whether the learning runs went into it, so that it cannot be chosen by them.
    """

    rule: str
    values: FloatVector
    learned: bool


@dataclass(frozen=True)
class _Coins:
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
    def tossed(cls, fits: int, targets: int, *, rng: np.random.Generator) -> _Coins:
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


@dataclass(frozen=True, eq=False)
class Sight:
    """A synthetic table as the attackers on rows read it, made once for all targets.

    Args:
        columns: What the columns are, in the order of their names.
        numbers: Values of numeric columns, by place.
        near: Coordinates of numeric columns, as `attacks.distances` has them; shape (coordinates, rows) for each.
        cells: Codes of all columns, shape (columns, rows).
    """

    columns: tuple[Column, ...]
    numbers: Mapping[int, FloatVector]
    near: Mapping[int, FloatMatrix]
    cells: npt.NDArray[np.int32]

    @classmethod
    def of(cls, rows: Rows, metric: Metric) -> Sight:
        numeric = [place for place, column in enumerate(rows.columns) if column.is_numeric]
        return cls(
            rows.columns,
            {place: np.ascontiguousarray(rows.values[:, place]) for place in numeric},
            {place: np.ascontiguousarray(metric.points(rows, [place]).near.T) for place in numeric},
            np.ascontiguousarray(rows.cells.T, dtype=np.int32),
        )

    def __len__(self) -> int:
        return int(self.cells.shape[1])

    def take(self, row: int) -> Sight:
        """One of the rows."""
        one = slice(row, row + 1)
        return Sight(
            self.columns,
            {place: values[one] for place, values in self.numbers.items()},
            {place: values[:, one] for place, values in self.near.items()},
            self.cells[:, one],
        )

    def agreeing(self, other: Sight, place: int) -> list[BoolVector]:
        """Bits of one column, for each row: equal to the one row of `other`; for numbers not above, and not below."""
        if place not in self.numbers:
            return [self.cells[place] == other.cells[place, 0]]
        here, there = self.numbers[place], other.numbers[place][0]
        if there == MISSING:
            return [here == MISSING] * 2
        return [here <= there, (here >= there) & (here != MISSING)]

    def distances(self, other: Sight, places: Sequence[int]) -> FloatVector:
        """Squared distances of all rows from the one row of `other` on these columns, in whole steps."""
        differing = np.zeros(len(self), dtype=np.int32)
        squared = np.zeros(len(self))
        for place in places:
            if place in self.near:
                for here, there in zip(self.near[place], other.near[place][:, 0], strict=True):
                    apart = here - there
                    apart *= apart
                    squared += apart
            else:
                differing += self.cells[place] != other.cells[place, 0]
        squared += differing * float(UNIT) ** 2
        return squared


class Agreement:
    """On how many synthetic rows a target's values stand together, for every set of columns.

    A category gives one bit, equal or not; a number gives two, not above and not below. Of tables with more than 18 bits
    random choices of columns are used, each of up to 14 bits.

    Args:
        target: The target's rows.
        rng: For the choice of columns.
    """

    def __init__(self, target: Sight, *, rng: np.random.Generator) -> None:
        self._rows = [target.take(row) for row in range(len(target))]
        self._choices = _choices(target.columns, rng)
        widths = [sum(_bits(target.columns[place]) for place in chosen) for chosen in self._choices]
        self._ends = np.cumsum([0, *(1 << width for width in widths)]).tolist()
        self._seen: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []

    @property
    def size(self) -> int:
        """The number of counts."""
        return int(self._ends[-1])

    def __len__(self) -> int:
        return len(self._seen)

    def observe(self, synthetic: Sight) -> None:
        """Keeps how often each pattern of agreement occurs, over the target's rows together."""
        masks: list[npt.NDArray[np.int32]] = []
        for row in self._rows:
            bits = {place: synthetic.agreeing(row, place) for chosen in self._choices for place in chosen.tolist()}
            for start, chosen in zip(self._ends, self._choices, strict=False):
                masks.append(_mask([bit for place in chosen.tolist() for bit in bits[place]], len(synthetic)) + start)
        every = np.concatenate(masks)
        if self.size <= 2 * len(every):
            counts = np.bincount(every, minlength=self.size)
            patterns = np.flatnonzero(counts)
            counts = counts[patterns]
        else:
            patterns, counts = np.unique(every, return_counts=True)
        small = np.uint16 if max(self.size, len(every)) < 2**16 else np.uint32  # these add up to a large part of memory
        self._seen.append((patterns.astype(small), counts.astype(small)))

    def counts(self, fits: range) -> npt.NDArray[np.float32]:
        """For each of these runs the number of rows that agree on each set; shape (size, fits)."""
        out = np.zeros((self.size, len(fits)), dtype=np.float32)
        for place, fit in enumerate(fits):
            cells, counts = self._seen[fit]
            out[cells, place] = counts
        for start, end in pairwise(self._ends):
            superset_sums(out[start:end])
        return out

    def features(self, coins: _Coins, target: int) -> FloatMatrix:
        """Roots of the counts; where they are many, those that tell most about the target in the learning runs."""
        kept: IntVector | slice = slice(None)
        if self.size > MOST_FEATURES:
            strength = self._strength(coins, target)
            kept = np.sort(np.lexsort((np.arange(self.size), -strength))[:MOST_FEATURES])
        parts = [np.sqrt(self.counts(part)[kept]).T for part in self._chunks(len(self))]
        return np.concatenate(parts).astype(np.float64)

    def _chunks(self, stop: int) -> Iterator[range]:
        step = max(CHUNK // self.size, 8)
        for start in range(0, stop, step):
            yield range(start, min(start + step, stop))

    def _strength(self, coins: _Coins, target: int) -> FloatVector:
        """The size of each count's t-statistic for the target's coin, given the other coins."""
        learning = coins.learning.stop
        design = np.column_stack([coins.inside[:learning, target], coins.design(target)[:learning]]).astype(np.float64)
        cross, squares = np.zeros((self.size, design.shape[1])), np.zeros(self.size)
        for part in self._chunks(learning):
            counts = self.counts(part)
            squares += counts.sum(axis=1)  # of roots
            cross += np.sqrt(counts, out=counts) @ design[part.start : part.stop].astype(np.float32)
        slopes = cross @ np.linalg.pinv(design.T @ design)
        rest = np.maximum(squares - np.einsum("ij,ij->i", slopes, cross), 1e-3)
        return np.asarray(np.round(np.abs(slopes[:, 0]) / np.sqrt(rest), 6))


def superset_sums(counts: npt.NDArray[np.float32]) -> None:
    """Turns counts of exact patterns into counts of patterns that contain each, in place; shape (2 ** bits, fits).

    A pattern is the set of bits in its number. One bit at a time: a row that agrees on more agrees on less.
    """
    step = 1
    while step < len(counts):
        halves = counts.reshape(-1, 2, step * counts.shape[1])
        halves[:, 0] += halves[:, 1]
        step *= 2


def _mask(bits: Sequence[BoolVector], rows: int) -> npt.NDArray[np.int32]:
    """The bits of each row as a number, the first one lowest."""
    mask = np.zeros(rows, dtype=np.int32)
    for start in range(0, len(bits), 8):  # a byte at a time is several times as fast
        byte = np.zeros(rows, dtype=np.uint8)
        for place, bit in enumerate(bits[start : start + 8]):
            byte |= bit.view(np.uint8) << np.uint8(place)
        mask |= byte.astype(np.int32) << np.int32(start)
    return mask


def _bits(column: Column) -> int:
    return 2 if column.is_numeric else 1


def _choices(columns: Sequence[Column], rng: np.random.Generator) -> list[IntVector]:
    """Sets of columns that fit into a table of counts: all together, or random ones that cover all, in turns."""
    places = np.array([place for place, column in enumerate(columns) if column.size > 1], dtype=np.int64)
    if sum(_bits(columns[place]) for place in places) <= WIDEST:
        return [places]
    choices: list[IntVector] = []
    while len(choices) < FEWEST_CHOICES:
        chosen: list[int] = []
        for place in rng.permutation(places).tolist():
            if sum(_bits(columns[p]) for p in [*chosen, place]) > NARROW:
                choices.append(np.sort(np.array(chosen)))
                chosen = []
            chosen.append(place)
        choices.append(np.sort(np.array(chosen)))
    return choices[:MOST_CHOICES]


class Nearest:
    """How far the synthetic rows lie from each target, and what they say about its sensitive values.

    Distances are those of `attacks.distances`. The guesses are, for each row of the target and each sensitive column,
    the cell most common among the rows nearest on all other columns, and the cell most likely by frequencies: that of
    the cell, times, for each other column, that of the target's cell there among the rows with the sensitive cell; half
    a row is added to every count.

    Args:
        targets: The rows of each target.
        secret: Where the sensitive columns stand.
    """

    def __init__(self, targets: Sequence[Sight], secret: Sequence[int]) -> None:
        self._targets = [[target.take(row) for row in range(len(target))] for target in targets]
        self._columns = targets[0].columns
        self._secret = list(secret)
        self._known = [place for place in range(len(self._columns)) if place not in self._secret]
        if not self._known:
            self._secret = []
        self.distances: list[list[FloatVector]] = [[] for _ in targets]
        self.guesses: list[list[BoolVector]] = [[] for _ in targets]

    def rules(self, target: int) -> list[str]:
        """What the guesses about a target go by, in words."""
        names = [self._columns[place].name for place in self._secret]
        return [
            f"{name}, {how}" for _ in self._targets[target] for name in names for how in ("nearest rows", "frequencies")
        ]

    def observe(self, synthetic: Sight) -> None:
        """Keeps distances and guesses of one run."""
        tables = {place: self._together(synthetic, place) for place in self._secret}
        secret = {place: synthetic.cells[place] for place in self._secret}
        for target, rows in enumerate(self._targets):
            nearest: list[FloatVector] = []
            right: list[bool] = []
            for row in rows:
                squared = synthetic.distances(row, self._known)
                closest = np.flatnonzero(squared == squared.min()) if self._secret and len(squared) else None
                for place in self._secret:
                    if closest is None:
                        right += [False, False]
                        continue
                    among = np.bincount(secret[place][closest])
                    likely = sum(tables[place][known][:, row.cells[known, 0]] for known in self._known)
                    likely = np.round(likely + tables[place][place][:, 0], 9)
                    right += [int(np.argmax(guess)) == row.cells[place, 0] for guess in (among, likely)]
                squared += synthetic.distances(row, self._secret)
                nearest.append(_smallest(squared, len(self._columns)))
            self.distances[target].append(np.min(nearest, axis=0))
            self.guesses[target].append(np.array(right, dtype=bool))

    def _together(self, synthetic: Sight, secret: int) -> dict[int, FloatMatrix]:
        """For each known column the logarithm of the frequency of its cells given the sensitive cell.

        Shape (sensitive cells, cells); for the sensitive column itself that of its own cells, shape (cells, 1).
        """
        size = self._columns[secret].size
        held = np.bincount(synthetic.cells[secret], minlength=size).astype(np.float64)[:, None]
        out = {secret: np.log(held + 0.5)}
        for place in self._known:
            width = self._columns[place].size
            pairs = synthetic.cells[secret] * np.int64(width) + synthetic.cells[place]
            counts = np.bincount(pairs, minlength=size * width).reshape(size, width)
            out[place] = np.log((counts + 0.5) / (held + 0.5 * width))
        return out


def _smallest(squared: FloatVector, columns: int) -> FloatVector:
    """Distances to the nearest rows by rank, and how many rows lie at no distance; farther than any where none is."""
    out = np.full(len(RANKS) + 1, math.sqrt(columns) + 1)
    out[-1] = np.count_nonzero(squared == 0)
    there = [rank for rank in RANKS if rank <= len(squared)]
    if there:
        part = np.partition(squared, [rank - 1 for rank in there])
        out[: len(there)] = np.sqrt(part[[rank - 1 for rank in there]]) / UNIT
    return out


class WhiteBox:
    """Reads the noisy counts: for each target the logarithm of the likelihood ratio, given everybody else.

    The score is the sum of (noisy - expected) d / sigma^2 over the cells that the target moves by d, where the expected
    count is that of everybody else plus d / 2. It is the best there is for Gaussian noise, up to rows that the curator
    cuts at random from persons who have too many: those count by their chance to stay.

    Args:
        codes: Cells of all rows, columns as the schema has them; shape (rows, columns).
        person: Whose each row is.
        targets: Persons under attack.
        standing_in: Cells of the rows that stand in for each; empty where nobody does.
        max_rows: Rows that count, of each person.
    """

    def __init__(
        self,
        codes: IntMatrix,
        person: IntVector,
        targets: IntVector,
        standing_in: Sequence[IntMatrix],
        max_rows: int,
    ) -> None:
        held = np.bincount(person)[person]
        stays = np.minimum(1.0, max_rows / held)
        others = ~np.isin(person, targets)
        self._codes, self._stays = codes[others], stays[others]
        self._moving: list[tuple[IntMatrix, float]] = []
        for rows in [*(codes[person == target] for target in targets), *standing_in]:
            self._moving.append((rows, min(1.0, max_rows / max(len(rows), 1))))
        self._targets, self._replaced = len(targets), bool(standing_in)
        self._known: dict[Any, tuple[IntVector, FloatVector, FloatMatrix]] = {}
        self.scores: list[FloatVector] = []
        self.chosen: list[frozenset[tuple[int, ...]]] = []

    def observe(self, trial: Trial, inside: BoolVector) -> None:
        """Keeps the scores of one run; each target's own coin is not used for its score."""
        there = inside.astype(np.float64)
        present = np.concatenate([there, 1 - there]) if self._replaced else there
        score = np.zeros(self._targets)
        for measurement in trial.measurements:
            cells, always, moving = self._cells(measurement, trial.coarse)
            moves = moving[: self._targets] - (moving[self._targets :] if self._replaced else 0.0)
            left = measurement.values.ravel()[cells] - always - present @ moving
            # what is left over if the target is half there, whether it was there or not
            score += (moves @ left + (there - 0.5) * np.einsum("ij,ij->i", moves, moves)) / float(
                measurement.sigma_squared
            )
        self.scores.append(score)
        self.chosen.append(frozenset(measurement.columns for measurement in trial.measurements))

    def _cells(self, measurement: Measurement, coarse: Sequence[Any]) -> tuple[IntVector, FloatVector, FloatMatrix]:
        """Cells in which a target or who stands in for it has a row, others' counts there, and these rows' counts."""
        width = self._codes.shape[1]
        made = [coarse[c - width] for c in measurement.columns if c >= width]
        merging = tuple((this.column, this.groups.tobytes()) for this in made)
        key = (measurement.columns, merging)
        if key not in self._known:
            if len(self._known) > 4096:
                self._known.clear()
            shape = measurement.values.shape
            moving = [_flat(rows, measurement.columns, coarse, shape) for rows, _ in self._moving]
            cells = np.unique(np.concatenate(moving))
            counts = np.zeros((len(moving), len(cells)))
            for counted, mine, (_, stays) in zip(counts, moving, self._moving, strict=True):
                np.add.at(counted, np.searchsorted(cells, mine), stays)
            flat = _flat(self._codes, measurement.columns, coarse, shape)
            place = np.minimum(np.searchsorted(cells, flat), len(cells) - 1)
            hit = cells[place] == flat
            always = np.bincount(place[hit], weights=self._stays[hit], minlength=len(cells))
            self._known[key] = (cells.astype(np.int64), always.astype(np.float64), counts)
        return self._known[key]


def _flat(codes: IntMatrix, columns: Sequence[int], coarse: Sequence[Any], shape: tuple[int, ...]) -> IntVector:
    """In which cell of a marginal each row lies, its cells numbered through."""

    def of(column: int) -> IntVector:
        if column < codes.shape[1]:
            return np.asarray(codes[:, column], dtype=np.int64)
        made = coarse[column - codes.shape[1]]
        return np.asarray(made.groups[of(made.column)], dtype=np.int64)

    return np.asarray(np.ravel_multi_index([of(column) for column in columns], shape), dtype=np.int64)


# ---- learning ----------------------------------------------------------------------------------------------------


@one_thread
def _taught(features: FloatMatrix, coins: _Coins, target: int, *, seed: int) -> list[_Score]:
    """Scores learned from features of the learning runs; shape (fits, features)."""
    learning = slice(0, coins.learning.stop)
    known, truth = coins.design(target), coins.inside[learning, target]
    others, *_ = np.linalg.lstsq(
        np.column_stack([known, coins.inside[:, target]])[learning].astype(np.float64), features[learning], rcond=None
    )
    x = features - known @ others[:-1]
    spread = x[learning].std(axis=0)
    x = x[:, spread > 1e-9] / spread[spread > 1e-9]
    if not x.shape[1] or truth.all() or not truth.any():
        return [_Score("nothing to learn from", np.zeros(len(features)), True)]
    x -= x[learning].mean(axis=0)
    slopes = x[learning][truth].mean(axis=0) - x[learning][~truth].mean(axis=0)
    strongest = np.lexsort((np.arange(len(slopes)), -np.round(np.abs(slopes), 9)))
    scores = [
        _Score("sum of all", x @ slopes, True),
        _Score("strongest alone", x[:, strongest[0]] * np.sign(slopes[strongest[0]]), True),
    ]
    scores += [_Score(name, x @ w, True) for name, w in _logistic(x[learning], truth)]
    few = x[:, np.sort(strongest[:TREE_FEATURES])]
    scores.append(_Score("trees", _trees(few, learning, truth, seed=seed), True))
    return scores


def _logistic(x: FloatMatrix, truth: BoolVector) -> Iterator[tuple[str, FloatVector]]:
    """Weights of two L2-regularised logistic regressions, one cautious, one bold."""
    from sklearn.linear_model import LogisticRegression

    x = x / math.sqrt(x.shape[1])
    for name, c in ((CAUTIOUS, 0.1), (BOLD, 10.0)):
        yield name, np.asarray(LogisticRegression(C=c, max_iter=2000).fit(x, truth).coef_[0])


def _trees(x: FloatMatrix, learning: slice, truth: BoolVector, *, seed: int) -> FloatVector:
    from sklearn.ensemble import ExtraTreesClassifier

    trees = ExtraTreesClassifier(n_estimators=20, min_samples_leaf=3, random_state=seed)
    return np.asarray(np.round(trees.fit(x[learning], truth).predict_proba(x)[:, 1], 9))


# ---- judging -----------------------------------------------------------------------------------------------------


def _chosen(
    scores: Sequence[_Score], coins: _Coins, target: int, claim: Claim, confidence: float
) -> tuple[_Score, float]:
    """The score and threshold that would show most if the rates of runs that are not counted held for those that are."""
    inside = coins.inside[:, target]
    trials = len(_counted(coins, target)[0])

    def worth(score: _Score, threshold: float, part: slice) -> tuple[float, float]:
        there, guess = inside[part], score.values[part] > threshold
        rates = [(guess[side].sum() + 0.5) / (side.sum() + 1) for side in (there, ~there)]
        hits, false_alarms = (round(trials * rate) for rate in rates)
        return rough_limit(hits, false_alarms, trials, claim.kind, confidence=confidence), rates[0] - rates[1]

    best: tuple[tuple[float, float], _Score, float] | None = None
    for score in scores:
        part = coins.choosing if score.learned else slice(0, coins.choosing.stop)
        for threshold in _thresholds(score.values[part], inside[part]):
            found = worth(score, threshold, part)
            if best is None or found > best[0]:
                best = found, score, threshold
    if best is None:
        raise AssertionError("there is always a score with a threshold")
    return best[1], best[2]


def _thresholds(scores: FloatVector, inside: BoolVector) -> list[float]:
    """Between the means of both sides, and at their ends."""
    if inside.all() or not inside.any():
        return [float(np.median(scores))]
    without, present = scores[~inside], scores[inside]
    low, high = float(without.mean()), float(present.mean())
    between = [low + (high - low) * share for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    ends = [*np.quantile(without, (0.95, 1.0)), *np.nextafter(np.quantile(present, (0.0, 0.05)), -np.inf)]
    return sorted({*between, *map(float, ends)})


def _item(
    target: Target,
    method: Method,
    scores: Sequence[_Score],
    coins: _Coins,
    *,
    claim: Claim,
    confidence: float,
    items: int,
) -> ShadowItem:
    corrected = 1 - (1 - confidence) / items
    score, threshold = _chosen(scores, coins, target.number, claim, corrected)
    present, absent = (score.values[side] for side in _counted(coins, target.number))
    simultaneous = 1 - (1 - SIMULTANEOUS) / items
    under_curve = area(present, absent)
    found = under_curve.interval(simultaneous)
    return ShadowItem(
        target=target.number,
        reason=target.reason,
        method=method,
        rule=score.rule,
        claim=claim,
        trials=len(present),
        hits=int((present > threshold).sum()),
        false_alarms=int((absent > threshold).sum()),
        area=under_curve,
        area_interval=Interval(low=found.low, high=found.high, confidence=SIMULTANEOUS),
        confidence=corrected,
        simultaneous=simultaneous,
    )


def _counted(coins: _Coins, target: int) -> tuple[IntVector, IntVector]:
    """The runs that count, with the target and without: as many of each, the first ones."""
    inside = coins.inside[coins.counting, target]
    runs = np.arange(coins.counting.start, coins.counting.stop)
    trials = max(int(min(inside.sum(), (~inside).sum())), 1)
    return runs[inside][:trials], runs[~inside][:trials]


# ---- the audit ---------------------------------------------------------------------------------------------------


def audit_records(
    frame: pd.DataFrame,
    generator: Generator,
    *,
    claim: Claim,
    fits: int,
    targets: int = 10,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    progress: Callable[[int], None] | None = None,
) -> ShadowResult:
    """Runs a generator `fits` times, each target in or out by a coin, and bounds what it tells about each of them.

    Privacy: the whole result is class P3, the targets in it are P4. Nothing is charged, so nothing of it may be
    published, and the runs are no releases.

    Args:
        frame: The real table, as a data file of the generator's schema holds it.
        generator: What is put to the test, with fresh noise in every run.
        claim: What it promises each person of this table.
        fits: At least 48. Half of them are counted, a quarter with each target and a quarter without, on average.
        targets: How many persons are attacked, at most all.
        seed: For the choice of targets, the coins, and the attackers; with it the result follows from the runs.
        confidence: Chance that all certified bounds hold together.
        progress: Told how many fits are done.
    Raises:
        UsageError: there are too few fits, targets or persons.
        DataFileError: the frame does not fit the schema.
    """
    if fits < FEWEST_FITS:
        raise UsageError(f"fits ({fits}) must be at least {FEWEST_FITS}")
    if targets < 1:
        raise UsageError(f"targets ({targets}) must be at least 1")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence ({confidence}) must lie in (0, 1)")
    schema = generator.schema
    game = _Game.of(frame, schema, targets=targets, seed=seed)
    coins = _Coins.tossed(fits, len(game.targets), rng=stream(seed, "shadow", "coins"))
    others = game.people.rows.take(~np.isin(game.people.person, game.persons))
    metric = Metric(others.at_most(RANKED, stream(seed, "shadow", "ranks")))
    mine = [Sight.of(game.of_target(target.number), metric) for target in game.targets]
    agreement = [
        Agreement(rows, rng=stream(seed, "shadow", "columns", str(number))) for number, rows in enumerate(mine)
    ]
    nearest = Nearest(mine, roles(game.people.rows)[1])
    white_box = WhiteBox(game.codes, game.people.person, game.persons, game.standing_in, max_rows=schema.unit.max_rows)
    for done, inside in enumerate(coins.inside):
        trial = generator.run(game.table(inside))
        synthetic = Sight.of(Rows.of(trial.rows), metric)
        for each in agreement:
            each.observe(synthetic)
        nearest.observe(synthetic)
        white_box.observe(trial, inside)
        if progress is not None:
            progress(done + 1)
    methods: list[Method] = ["conjunctions", "nearest"]
    if any(white_box.chosen):
        methods.append("noisy counts")
    if nearest.rules(0):
        methods.append("attribute")
    coin = int(stream(seed, "shadow", "trees").integers(2**31))
    items = []
    for target in game.targets:
        number = target.number
        scores: dict[Method, list[_Score]] = {
            "conjunctions": _taught(agreement[number].features(coins, number), coins, number, seed=coin),
            "nearest": _taught(np.stack(nearest.distances[number]), coins, number, seed=coin),
            "noisy counts": _from_counts(white_box, coins, number, seed=coin),
            "attribute": [
                _Score(rule, values.astype(np.float64), False)
                for rule, values in zip(nearest.rules(number), np.stack(nearest.guesses[number]).T, strict=True)
            ],
        }
        items += [
            _item(
                target,
                method,
                scores[method],
                coins,
                claim=claim,
                confidence=confidence,
                items=len(game.targets) * len(methods),
            )
            for method in methods
        ]
    return ShadowResult(
        claim=claim,
        fits=fits,
        targets=game.targets,
        methods=tuple(methods),
        items=tuple(items),
        confidence=confidence,
        advantage_allowed=advantage_allowed(claim),
    )


def _from_counts(white_box: WhiteBox, coins: _Coins, target: int, *, seed: int) -> list[_Score]:
    """The likelihood ratio alone, and together with which marginals were chosen."""
    ratio = np.stack(white_box.scores)[:, target]
    scores = [_Score("likelihood ratio", ratio, False)]
    learning = white_box.chosen[: coins.learning.stop]
    seen = sorted({columns for chosen in learning for columns in chosen})
    shares = {columns: sum(columns in chosen for chosen in learning) / len(learning) for columns in seen}
    sometimes = [columns for columns, share in shares.items() if 0.02 < share < 0.98]
    if sometimes:
        choices = np.array([[columns in chosen for columns in sometimes] for chosen in white_box.chosen], dtype=float)
        taught = _taught(np.column_stack([ratio, choices]), coins, target, seed=seed)
        scores += [
            replace(score, rule="likelihood ratio and choice of marginals")
            for score in taught
            if score.rule == CAUTIOUS
        ]
    return scores
