"""Linkage: do the quasi-identifiers of a fitted person lead to a synthetic row that tells the rest of the record?

There is no true link in a synthetic table, so a link counts only if it pays: the row reached must carry the withheld
values. Games are played, each on fitted persons and on persons held back:

* by quasi-identifiers: take the synthetic rows nearest on the quasi-identifiers and read off all sensitive values;
* from two sides: take the synthetic rows nearest on the quasi-identifiers, and those nearest on all other columns, and
  see whether they are the same row;
* the same for 20 ways to tear the columns apart, drawn at random, and for the worst one that a search finds. It searches
  with one half of the targets, labels included, and is judged on the other half.

Where several rows are equally near, one of them is meant at random, and the success is the chance of the right one. The
torn columns are compared cell by cell, and a row is the nearer the more cells agree.

Reported besides, and never judged: the same games, and that of the quasi-identifiers against the rest, where the row has
to be truly like the person in all columns (equal, or in the next cell of an ordered column: a link that pays), and where
five rows may be named from either side (one of them the same).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from attacks import permutation
from attacks.base import Criterion, Finding, Gap, Measure, Threat, per_person
from attacks.figures import Figures, compared, sorted_out
from attacks.intervals import FloatVector, Rate
from attacks.nearness import foreign, linkable, nearness
from attacks.people import BoolVector, FloatMatrix, Group, IntMatrix, IntVector, People, Rows, joined
from attacks.people import roles as roles  # other attacks ask here
from dpsynth import Column

KNOWN, SIDES = "all sensitive values by quasi-identifiers", "same row from two sides"
TORN, WORST = "same row from two random sides", "same row from the two worst sides"
DECLARED = "same row by quasi-identifiers and by the rest"  # reported, not judged: `SIDES` is that, with all persons
SPLITS = 20
NAMED = 5  # rows that may be named from either side
GAP = -9  # where a missing value is placed, which is near none
TARGETS = 500  # persons a side who are linked across torn columns, and as many with whom the worst split is sought
CANDIDATES = 2500  # synthetic rows that they may be linked to
STEPS = 3  # columns that the search moves from one side to the other, at most
BLOCK = 200  # targets at a time
Bytes: TypeAlias = npt.NDArray[np.uint8]
Words: TypeAlias = npt.NDArray[np.uint64]
Counts: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
BoolMatrix: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Linkage:
    """Links persons to synthetic rows by what outsiders may know."""

    id: ClassVar[str] = "linkage"
    criterion: ClassVar[Criterion] = "linkability"
    measure: ClassVar[str] = "share of a person's rows that link to the right withheld values"
    fail_only: ClassVar[bool] = False
    two_sided: ClassVar[bool] = False
    holds_reference: ClassVar[bool] = False
    threat: ClassVar[Threat] = Threat(
        knows="the synthetic table and the person's quasi-identifiers (in the other games, in two separate sources)",
        wants="to reach the synthetic row that carries the person's other values",
    )

    def run(self, people: People, synthetic: Rows, *, rng: np.random.Generator) -> Finding:
        if not linkable(synthetic):
            reason = "linkage needs a quasi-identifier and another column"
            return Finding(gap=Gap(status="not_applicable", reason=reason))
        pool = joined(people.fit, people.control)
        member = np.arange(pool.persons) < people.fit.persons
        near = nearness(people, synthetic)
        paid = {KNOWN: np.round(pool.mean(near.linked), 9), SIDES: np.round(pool.mean(near.met), 9)}
        tested = permutation.linear(np.stack(list(paid.values()), axis=1), member, rng=rng)
        variants = {
            name: _excess(hit, member, min(2 * float(p), 1.0))
            for (name, hit), p in zip(paid.items(), tested.p_values, strict=True)
        }
        p_value = tested.p_value
        figures: Figures = {"links that pay, and among five": "the table has two columns only"}
        if len(synthetic.columns) > 2:
            torn = Torn.of(pool, member, synthetic, rng)
            games = {TORN: torn.at_random(rng), WORST: torn.at_worst(), DECLARED: torn.as_declared()}
            found = {name: games[name].same for name in (TORN, WORST)}
            figures = {
                f"{name}, {what}": compared(hit, torn.member)
                for name, game in games.items()
                for what, hit in game.further.items()
            }
            on_torn = permutation.linear(np.stack(list(found.values()), axis=1), torn.member, rng=rng)
            p_value = min(p_value, on_torn.p_value)
            variants |= {
                name: torn.limits(_excess(hit, torn.member, min(2 * float(p), 1.0)))
                for (name, hit), p in zip(found.items(), on_torn.p_values, strict=True)
            }
            p_value = min(2 * p_value, 1.0)  # two tests on different persons
        certain = np.maximum(paid[KNOWN], paid[SIDES]) > 0.5
        measured, omitted = sorted_out(figures)
        return Finding(
            variants=variants,
            p_value=p_value,
            trials=2 * len(pool.rows),
            figures=measured,
            omitted=omitted,
            exposed=(certain[member], certain[~member]),
        )

    def without(self, people: People, *, rng: np.random.Generator) -> dict[str, float]:
        """Links to reference persons, none of whom is the person sought."""
        asked, near = foreign(people)
        return {KNOWN: float(asked.mean(near.linked).mean()), SIDES: float(asked.mean(near.met).mean())}


def _excess(hit: FloatVector, member: BoolVector, p_value: float) -> Measure:
    return per_person(Rate.over_persons(hit[member]), Rate.over_persons(hit[~member]), p_value=p_value)


def matches(
    query: IntVector,
    point: IntVector,
    wanted: IntVector,
    which: IntVector,
    offered: IntVector,
) -> FloatVector:
    """For each query, the share of the table's rows at its nearest points that offer what is wanted.

    Args:
        query, point: Pairs of a query and a point nearest to it.
        wanted: What each query wants; shape (queries,).
        which: The point of each table row; shape (rows,).
        offered: What each table row offers; shape (rows,).
    """
    kinds = 1 + max(int(wanted.max(initial=0)), int(offered.max(initial=0)))
    pairs, counts = np.unique(which * kinds + offered, return_counts=True)
    sought = point * kinds + wanted[query]
    place = np.minimum(np.searchsorted(pairs, sought), len(pairs) - 1)
    found = np.where(pairs[place] == sought, counts[place], 0)
    rows = np.bincount(which)[point]
    return np.bincount(query, weights=found, minlength=len(wanted)) / np.bincount(
        query, weights=rows, minlength=len(wanted)
    )


@dataclass(frozen=True, eq=False)
class Torn:
    """Targets whose columns are torn into two sources.

    Args:
        cells: One row of each target, targets that are judged first; shape (targets, columns).
        member: Which of the judged targets were fitted; shape (judged,).
        helper: The same for those with whom the worst split is sought.
        table: Candidates.
    """

    cells: IntMatrix
    member: BoolVector
    helper: BoolVector
    table: Rows

    @classmethod
    def of(cls, pool: Group, member: BoolVector, table: Rows, rng: np.random.Generator) -> Torn:
        """Draws targets, one row of each, and candidates."""
        sides: tuple[list[IntVector], list[IntVector]] = ([], [])
        for side in (member, ~member):
            persons = rng.permutation(np.flatnonzero(side))
            half = min(len(persons) // 2, TARGETS)
            sides[0].append(np.sort(persons[half : 2 * half]))
            sides[1].append(np.sort(persons[:half]))
        judged, helpers = (np.concatenate(side) for side in sides)
        starts = np.searchsorted(pool.person, np.arange(pool.persons + 1))
        row = starts[:-1] + rng.integers(2**31, size=pool.persons) % np.diff(starts)
        return cls(
            pool.rows.cells[row[np.concatenate([judged, helpers])]],
            member[judged],
            member[helpers],
            table.at_most(CANDIDATES, rng),
        )

    def limits(self, measure: Measure) -> Measure:
        """A measure of these targets, with the most trials of each side: no more than `TARGETS` persons are judged."""
        trials = [
            rate.trials * TARGETS / max(int(side.sum()), 1)
            for rate, side in ((measure.fit, self.member), (measure.control, ~self.member))
            if rate is not None
        ]
        return measure.limited(*trials) if len(trials) == 2 else measure

    def at_random(self, rng: np.random.Generator) -> Game:
        """The game with random splits."""
        return self._played(np.stack([_split(self.cells.shape[1], rng) for _ in range(SPLITS)]))

    def as_declared(self) -> Game:
        """The game with quasi-identifiers on one side and the rest on the other."""
        known, _ = roles(self.table)
        return self._played(np.isin(np.arange(self.cells.shape[1]), known)[None, :])

    def at_worst(self) -> Game:
        """The game with the split that tells the helpers' two sides apart best."""
        helpers, columns = self.cells[len(self.member) :], self.cells.shape[1]
        table = self.table.cells

        def gains(met: FloatMatrix) -> FloatVector:
            gained: FloatVector = np.round(met[:, self.helper].mean(axis=1) - met[:, ~self.helper].mean(axis=1), 12)
            return gained

        best = np.arange(columns) % 2 == 0
        most = float(gains(same_row(helpers, table, best[None, :]))[0])
        for _ in range(STEPS):
            found = gains(one_moved(helpers, table, best))
            found[(best.sum() == 1) & best | (best.sum() == columns - 1) & ~best] = -np.inf  # would leave a side empty
            if found.max() <= most:
                break
            most = float(found.max())
            best = best ^ (np.arange(columns) == np.argmax(found))
        return self._played(best[None, :])

    def _played(self, splits: BoolMatrix) -> Game:
        """The game on the judged targets; splits of shape (splits, columns)."""
        judged, table = self.cells[: len(self.member)], self.table.cells
        mine, theirs = (
            np.stack(
                [on_a_line(column, cells) for column, cells in zip(self.table.columns, side.T, strict=True)], axis=1
            )
            for side in (judged, table)
        )
        return Game.of(judged, table, splits, alike(mine, theirs))


@dataclass(frozen=True, eq=False)
class Game:
    """What it comes to when columns are torn, for each target the mean over splits; shape (targets,).

    Args:
        same: Chance that the nearest row of one side and that of the other are the same row.
        further: The same where the row has to be like the person, where five rows may be named from either side, and both.
    """

    same: FloatVector
    further: dict[str, FloatVector]

    @classmethod
    def of(cls, rows: IntMatrix, table: IntMatrix, splits: BoolMatrix, like: Words) -> Game:
        """Plays it.

        Args:
            rows, table, splits: As for `same_row`.
            like: Which table rows are like which rows; shape (rows, words).
        """
        shape = len(splits), len(rows)
        same, paying = np.empty((2, *shape))
        drawn, all_shared, like_shared = np.empty((3, 4, *shape))
        for part, number, one, other, everybody in _torn(rows, table, splits):
            near, too = one.least(everybody)[0], other.least(everybody)[0]
            same[number, part], paying[number, part] = _met(near, too), _met(near, too, like[part])
            named, named_too = one.first(near, everybody, NAMED), other.first(too, everybody, NAMED)
            drawn[:, number, part] = *_drawn(*named), *_drawn(*named_too)
            all_shared[:, number, part] = _shared(named, named_too, everybody)
            like_shared[:, number, part] = _shared(named, named_too, like[part])
        among, paying_among = (_met_among(drawn, shared) for shared in (all_shared, like_shared))
        means = [np.round(met.mean(axis=0), 9) for met in (same, paying, among, paying_among)]
        names = ("like the person", f"among {NAMED}", f"among {NAMED}, like the person")
        return cls(means[0], dict(zip(names, means[1:], strict=True)))


def _split(columns: int, rng: np.random.Generator) -> BoolVector:
    """Which columns are on the first side: any choice but none and all."""
    while True:
        first = rng.random(columns) < 0.5
        if 0 < first.sum() < columns:
            return first


def same_row(rows: IntMatrix, table: IntMatrix, splits: BoolMatrix) -> FloatMatrix:
    """Chance that a table row that agrees in most columns of one side and one for the other side are the same row.

    Args:
        rows: Cells of those who are linked; shape (rows, columns).
        table: Cells of those they may be linked to; shape (table rows, columns).
        splits: Which columns are on the first side; shape (splits, columns).
    Returns:
        Shape (splits, rows).
    """
    met = np.empty((len(splits), len(rows)))
    for part, number, one, other, everybody in _torn(rows, table, splits):
        met[number, part] = _met(one.least(everybody)[0], other.least(everybody)[0])
    return met


def _torn(rows: IntMatrix, table: IntMatrix, splits: BoolMatrix) -> Iterator[tuple[slice, int, Sums, Sums, Words]]:
    """For some rows at a time and each split, in how many columns of either side pairs differ, and all pairs."""
    steps = _steps(splits)
    for part, facts, everybody in _compared(rows, table):
        one, other = Sums(), Sums()
        for fact in facts:
            other.add(fact)
        for number, joining, leaving in steps:
            for place in joining:
                one.add(facts[place])
                other.remove(facts[place])
            for place in leaving:
                one.remove(facts[place])
                other.add(facts[place])
            yield part, number, one, other, everybody


def one_moved(rows: IntMatrix, table: IntMatrix, first: BoolVector) -> FloatMatrix:
    """The same for each column moved to the other side; shape (columns, rows).

    A sum grows or shrinks by one where the column differs, so only pairs with the least sum, and those with one more,
    can come to have the least.

    Args:
        rows, table: As for `same_row`.
        first: Which columns are on the first side, at least one on each; shape (columns,).
    """
    met = np.empty((len(first), len(rows)))
    for part, facts, everybody in _compared(rows, table):
        one, other = Sums(), Sums()
        for fact, here in zip(facts, first, strict=True):
            (one if here else other).add(fact)
        from_one, from_other = one.two_least(everybody), other.two_least(everybody)
        for place, fact in enumerate(facts):
            losing, gaining = (from_one, from_other) if first[place] else (from_other, from_one)
            same = ~fact
            met[place, part] = _met(_now_least(*losing, fact), _now_least(*gaining, same))
    return met


def _now_least(least: Words, next_to: Words, ahead: Words) -> Words:
    """The pairs with the least sum when some pairs get ahead of the others by one: of the least those, if there are any.

    If there are none, all of the least, and those that catch up with them.
    """
    first = least & ahead
    return _or_else(first, least | (next_to & ahead))


def _or_else(chosen: Words, otherwise: Words) -> Words:
    """These pairs, and for rows that have none of them the others; shape (rows, words)."""
    none = np.bitwise_or.reduce(chosen, axis=1, keepdims=True) == 0
    return chosen | (otherwise & _all_if(none))


def _all_if(truth: BoolMatrix) -> Words:
    """All bits set where it is true, none elsewhere."""
    return np.asarray(-truth.astype(np.int64)).view(np.uint64)


def _met(near: Words, too: Words, among: Words | None = None) -> FloatVector:
    """Chance that a pair of the one kind and a pair of the other are the same, and among these; shape (rows,)."""
    both = near & too if among is None else near & too & among
    met: FloatVector = _counted(both) / (_counted(near) * _counted(too))
    return met


def _drawn(sure: Words, tied: Words) -> tuple[FloatVector, FloatVector]:
    """How many pairs are tied, and how many of these are drawn so that there are `NAMED`; shape (rows,) each."""
    number = _counted(tied)
    return number, np.minimum(NAMED - _counted(sure), number)


def _shared(one: tuple[Words, Words], other: tuple[Words, Words], among: Words) -> list[FloatVector]:
    """How many of these pairs are sure of both kinds, tied of one and sure of the other, the reverse, and tied of both."""
    return [_counted(mine & theirs & among) for theirs in other for mine in one]


def _met_among(drawn: FloatMatrix, shared: FloatMatrix) -> FloatMatrix:
    """Chance that `NAMED` pairs of the one kind and as many of the other share one; any shape behind the first axis.

    Those tied for the last places are drawn, of the one kind independently of the other.

    Args:
        drawn: How many are tied and drawn of the one kind, and of the other.
        shared: What `_shared` counts.
    """
    tied, few, tied_too, few_too = drawn
    sure, told, told_too, common = shared
    none = np.zeros(sure.shape)
    for both in range(NAMED + 1):  # of the common ones that the first draw takes, and the second has to avoid
        ways = _choose(common, np.full(common.shape, float(both))) * _choose(tied - told - common, few - both)
        none += ways * _choose(tied_too - told_too - both, few_too)
    none /= _choose(tied, few) * _choose(tied_too, few_too)
    return np.where(sure > 0, 1.0, 1.0 - none)


def _choose(n: FloatMatrix, k: FloatMatrix) -> FloatMatrix:
    """Number of ways to choose k of n, k at most `NAMED`; 0 where there is none."""
    ways = np.where((k < 0) | (k > n), 0.0, 1.0)
    for step in range(NAMED):
        ways *= np.where(step < k, (n - step) / (step + 1), 1.0)
    return ways


def alike(rows: IntMatrix, table: IntMatrix) -> Words:
    """Which pairs are at most one apart in all columns; shape (rows, words), a bit a pair."""
    everywhere = _packed(np.ones((1, len(table)), dtype=bool))
    for mine, theirs in zip(rows.T, table.T, strict=True):
        levels, which = np.unique(mine, return_inverse=True)
        everywhere = everywhere & _packed(np.abs(levels[:, None] - theirs[None, :]) <= 1)[which.reshape(-1)]
    return everywhere


def on_a_line(column: Column, cells: IntVector) -> IntVector:
    """Places of cells on a line: one apart where one is next to the other, farther where not; gaps are far from all."""
    place = np.where(column.missing & (cells == column.size - 1), GAP, cells)
    return place if column.is_numeric or column.type == "ordinal" else 2 * place


def _compared(rows: IntMatrix, table: IntMatrix) -> Iterator[tuple[slice, list[Words], Words]]:
    """Some rows at a time: which, for each column where they differ from the table rows, and all pairs."""
    columns = range(rows.shape[1])
    levels, which = zip(*(np.unique(rows[:, place], return_inverse=True) for place in columns), strict=True)
    differs = [_packed(levels[place][:, None] != table[None, :, place]) for place in columns]  # from each level
    everybody = _packed(np.ones((1, len(table)), dtype=bool))
    for start in range(0, len(rows), BLOCK):
        part = slice(start, min(start + BLOCK, len(rows)))
        yield part, [differs[place][which[place].reshape(-1)[part]] for place in columns], everybody


class Sums:
    """How many of some yes-or-no facts are true of each pair of rows, for the 64 pairs of a word at once."""

    def __init__(self) -> None:
        self._digits: list[Words] = []  # in binary, the lowest first; each of shape (rows, words), a bit a pair
        self._facts = 0

    def add(self, fact: Words) -> None:
        """Adds one where the fact is true."""
        self._facts += 1
        if self._facts.bit_length() > len(self._digits):
            self._digits.append(np.zeros_like(fact))
        for digit in self._digits:
            carried = digit & fact
            digit ^= fact
            fact = carried

    def remove(self, fact: Words) -> None:
        """Takes back what `add` added."""
        self._facts -= 1
        for digit in self._digits:
            digit ^= fact
            fact = digit & fact

    def least(self, among: Words) -> tuple[Words, list[BoolMatrix]]:
        """The pairs with the least sum of each row, among these, and the digits of that sum, the highest first.

        Shape (rows, words) and (rows, 1).
        """
        digits = []
        for digit in reversed(self._digits):
            fewer = ~digit
            fewer &= among
            none = np.bitwise_or.reduce(fewer, axis=1, keepdims=True) == 0
            among = fewer | (among & _all_if(none))
            digits.append(none)
        return among, digits

    def first(self, least: Words, among: Words, number: int) -> tuple[Words, Words]:
        """The pairs with the `number` least sums of each row: those surely so, and those tied for the last places.

        Args:
            least: What `least` found among these.
            among: The pairs that are looked at.
        """
        sure, tied = np.zeros_like(least), least.copy()
        for _ in range(number - 1):
            short = np.flatnonzero(_counted(sure | tied) < number)
            if not len(short):
                break
            sure[short] |= tied[short]
            tied[short] = self._of(short).least(among & ~sure[short])[0]
        return sure, tied

    def _of(self, rows: IntVector) -> Sums:
        """The sums of some rows."""
        some = Sums()
        some._digits = [digit[rows] for digit in self._digits]
        return some

    def two_least(self, among: Words) -> tuple[Words, Words]:
        """The pairs with the least sum of each row, among these, and those with one more. Something has been added."""
        least, digits = self.least(among)
        more, carry = among, np.ones_like(digits[0])
        for digit, known in zip(self._digits, reversed(digits), strict=True):
            more = more & ~(digit ^ _all_if(known ^ carry))
            carry = known & carry
        return least, more


def _packed(facts: BoolMatrix) -> Words:
    """64 to a word, the last word filled up with zeros; shape (rows, words)."""
    room = np.zeros((len(facts), -(-facts.shape[1] // 64) * 64), dtype=bool)
    room[:, : facts.shape[1]] = facts
    return np.packbits(room, axis=1).view(np.uint64)


def _steps(splits: BoolMatrix) -> list[tuple[int, IntVector, IntVector]]:
    """An order of the splits in which few columns change sides: (split, columns that join the first side, that leave)."""
    at, left, steps = np.zeros(splits.shape[1], dtype=bool), list(range(len(splits))), []
    while left:
        number = left.pop(int(np.argmin((splits[left] != at).sum(axis=1))))
        first = splits[number]
        steps.append((number, np.flatnonzero(first & ~at), np.flatnonzero(at & ~first)))
        at = first
    return steps


def _counted(bits: Words) -> FloatVector:
    """How many bits of each row are set: a product, which is the quickest sum of small numbers, and exact."""
    counted = np.bitwise_count(bits).astype(np.float32) @ np.ones(bits.shape[1], dtype=np.float32)
    return np.asarray(counted, dtype=np.float64)
