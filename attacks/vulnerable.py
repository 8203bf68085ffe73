"""Vulnerable records: does the synthetic table come suspiciously close to one of the ten most exposed fitted persons?

A rate cannot show that one single record was repeated. A short list can, if it was written before anybody looked at the
synthetic table: fitted persons who are most alone, who hold a category that nobody else has, or who hold the largest or
the smallest value of a column. Each of them is ranked among the persons held back by how near synthetic rows come.

Somebody who is alone is not like somebody held back at random. So what being alone does to closeness is learned from
the persons held back, its size and its spread, and taken out first. And the ten most exposed persons held back are
looked at in the same way: where they stand out too, the synthetic table reaches into empty regions without having
learned them from anybody, and only what sets the two lists apart counts.

Beside that, the largest and the smallest synthetic value of each column are compared with those of both sides. A
program that reads its bounds off the data repeats those of the fitted persons; one that does not hits either side's
with equal ease, which is tested by shuffling who was fitted. Declared bounds are public and do not count.

Most leaks concern nobody in particular, so this attack may fail a release and never pass one.

Sources: whom to attack first, by mean distance to the five nearest records: Meeus, Guepin, Cretu, de Montjoye, ESORICS
    2023, arXiv:2306.10308.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy import stats

from attacks import permutation
from attacks.base import ALPHA, Criterion, Finding, Threat, excess
from attacks.ceilings import Unproven
from attacks.distances import Metric, Points, blocks, nearest, one_thread, placed, smallest
from attacks.intervals import Rate
from attacks.people import MISSING, BoolVector, FloatMatrix, FloatVector, Group, IntVector, People, Rows, joined

TARGETS = 10
BY_CATEGORY = 1  # of the targets, at most so many for a category of their own
BY_EXTREME = 1  # and for the largest or smallest value of a column
SEVERAL = 3  # so many of the targets together are stronger evidence than one
NEIGHBOURS = 5
BASIS = (500, 2000)  # real rows among which neighbours are looked for, fewest and most
DISTANCES = 40_000_000  # about so many are measured for that
RANKED = 3000  # persons held back among whom the targets are ranked
STEADY = 0.5  # the least spread that is believed in, as a share of the usual one
SHARED = 60  # a value that more persons have or pass tells nothing about either side
SHARES = {"one": 0.8, "several": 0.1, "ends": 0.1}  # of the error: what each of three ways to stand out may use
FAR = 8  # spreads beyond which a number does not get farther out
SELECTED = Unproven("who is watched depends on who was fitted, and nobody held back was chosen among fitted persons")


@dataclass(frozen=True, kw_only=True)
class VulnerableRecords:
    """Watches the ten most exposed fitted persons, and the ends of the columns."""

    id: ClassVar[str] = "vulnerable_records"
    criterion: ClassVar[Criterion] = "regurgitation"
    measure: ClassVar[str] = "share of the most exposed fitted persons, or values, that the release comes too close to"
    fail_only: ClassVar[bool] = True
    two_sided: ClassVar[bool] = False
    holds_reference: ClassVar[bool] = False
    threat: ClassVar[Threat] = Threat(
        knows="the synthetic table, and the records of a few persons who are unlike all others",
        wants="to see the record of such a person in the synthetic table",
    )

    @one_thread
    def run(self, people: People, synthetic: Rows, *, rng: np.random.Generator) -> Finding:
        """Whom to watch is chosen from real rows alone. Every synthetic row and every person is used."""
        pool = joined(people.fit, people.control)
        fitted = people.fit.persons
        exposure = Exposure.of(pool, rng)
        watched = exposure.most_exposed(0, fitted), exposure.most_exposed(fitted, pool.persons)
        ranked = np.sort(fitted + rng.permutation(people.control.persons)[:RANKED])
        seen = exposure.closeness(synthetic, ranked, watched)
        chances, others = [together(above, seen.among) for above in seen.above]
        allowed = max(int(ALPHA / TARGETS * (seen.among + 1)), 1)  # a target stands out if it ranks so high or higher
        standing = seen.above[0] < allowed
        warnings = []
        if others < ALPHA:
            apart = stats.mannwhitneyu(*seen.scores, alternative="greater", method="exact")
            chances = max(chances, float(apart.pvalue))
            warnings.append("exposed persons held back stand out too: rows reach where nobody was learned from")
        elif chances < ALPHA:
            number = max(int(standing.sum()), 1)
            whom = "one of the most exposed fitted persons" if number == 1 else f"{number} of the most exposed persons"
            warnings.append(f"synthetic rows come suspiciously close to {whom}: somebody has to look at this")
        found = {
            "ten persons": (
                replace(Rate.over_persons(standing.astype(np.float64)), most=len(standing)),
                Rate(value=(allowed - 1) / seen.among, trials=seen.among, persons=seen.among),
                chances,
            )
        }
        ends = Ends.of(pool, synthetic)
        if ends.number:
            found["ends of columns"] = ends.tested(np.arange(pool.persons) < fitted, rng)
        variants = {name: excess(*sides, p_value=min(p, 1.0), bound=SELECTED) for name, (*sides, p) in found.items()}
        return Finding(
            variants=variants,
            p_value=min(measure.p_value for measure in variants.values() if measure.p_value is not None),
            trials=len(standing) + ends.number,
            warning="; ".join(warnings),
            exposed=exposure.hit(watched[0][standing], watched[1][seen.above[1] < allowed], fitted),
        )

    def without(self, people: People, *, rng: np.random.Generator) -> dict[str, float]:
        """As often as a person held back stands out, which is how often was chosen."""
        return {}


def together(above: IntVector, among: int) -> float:
    """Chance that targets rank so high if they rank like anybody: one by far, or several together.

    Args:
        above: For each target, how many others rank at least as high.
        among: How many others there are.
    Returns:
        The chance that a draw of so many ranks has one as high as the highest, or several as high as the third,
        whichever stands out more for its share of the error; at most 1.
    """
    ordered, chances = np.sort(above), [1.0]
    for number, share in ((1, SHARES["one"]), (SEVERAL, SHARES["several"])):
        if len(ordered) >= number:
            best = int(ordered[number - 1]) + number  # so many places, taken by targets or by others
            chances.append(float(stats.hypergeom.sf(number - 1, among + len(above), len(above), best)) / share)
    return min(chances)


@dataclass(frozen=True, kw_only=True)
class Closeness:
    """How the watched persons of each side rank among others held back.

    Args:
        above: For each target, how many others rank at least as high.
        among: How many others there are.
        scores: For each target, how much nearer the synthetic table comes than expected.
    """

    above: tuple[IntVector, ...]
    among: int
    scores: tuple[FloatVector, ...]


@dataclass(frozen=True, eq=False)
class Exposure:
    """How much alone each row of the pool is, seen from real rows only.

    Args:
        pool: Persons of both sides, those fitted first.
        metric: Places rows by the ranks of real values.
        points: The rows as points.
        isolation: Mean distance to the nearest rows of other persons; shape (rows,).
        remoteness: The same where numbers are measured by their spread, so that long tails are far away.
    """

    pool: Group
    metric: Metric
    points: Points
    isolation: FloatVector
    remoteness: FloatVector

    @classmethod
    def of(cls, pool: Group, rng: np.random.Generator) -> Exposure:
        """Measures isolation against a random choice of the pool's rows."""
        metric = Metric(pool.rows)
        points = metric.points(pool.rows).light(len(pool.rows.columns))
        basis = np.arange(len(pool.rows))
        most = int(np.clip(DISTANCES // max(len(basis), 1), *BASIS))
        if len(basis) > most:
            basis = np.sort(rng.choice(len(basis), most, replace=False))
        isolation, remoteness = (_isolation(view, pool.person, basis) for view in (points, _by_spread(pool.rows)))
        return cls(pool, metric, points, isolation, remoteness)

    def most_exposed(self, first: int, end: int) -> IntVector:
        """Rows to watch among those of the persons numbered `first` to `end` - 1: one a person."""
        mine = np.flatnonzero((self.pool.person >= first) & (self.pool.person < end))
        by_isolation, by_remoteness = (
            mine[np.argsort(-far[mine], kind="stable")] for far in (self.isolation, self.remoteness)
        )
        alone = self._only_holders()
        chosen: dict[int, int] = {}
        for rows, most in (
            (by_isolation[alone[by_isolation]], BY_CATEGORY),
            (self._extremes(mine), BY_CATEGORY + BY_EXTREME),
            (np.stack([by_isolation, by_remoteness], axis=1).reshape(-1), TARGETS),
        ):
            for row in rows:
                if len(chosen) == most:
                    break
                chosen.setdefault(int(self.pool.person[row]), int(row))
        return np.array(list(chosen.values()), dtype=np.int64)

    def _only_holders(self) -> BoolVector:
        """Rows with a category that no other person has."""
        found = np.zeros(len(self.pool.rows), dtype=bool)
        for place, column in enumerate(self.pool.rows.columns):
            if not column.is_numeric:
                code, person = self.pool.rows.cells[:, place], self.pool.person
                first = np.full(int(code.max(initial=0)) + 1, len(person))
                last = np.full(len(first), -1)
                np.minimum.at(first, code, person)
                np.maximum.at(last, code, person)
                found |= (first == last)[code]
        return found

    def _extremes(self, mine: IntVector) -> IntVector:
        """Rows with a largest or smallest value of a column that is no declared bound, the remotest first."""
        found = []
        for place, column in enumerate(self.pool.rows.columns):
            values = self.pool.rows.values[mine, place]
            there = np.flatnonzero(values != MISSING)
            if column.is_numeric and len(there):
                low, high = (float(edge) for edge in column.binning.edges[[0, -1]])
                for extreme in (values[there].min(), values[there].max()):
                    holders = mine[values == extreme]
                    if low < extreme < high and len(holders) == 1:
                        found.append(int(holders[0]))
        rows = np.unique(np.array(found, dtype=np.int64))
        return rows[np.argsort(-self.remoteness[rows], kind="stable")]

    def hit(self, fit: IntVector, control: IntVector, fitted: int) -> tuple[BoolVector, BoolVector]:
        """Which persons of each side have one of these rows; the first `fitted` persons were fitted."""
        found = np.isin(np.arange(self.pool.persons), self.pool.person[np.concatenate([fit, control])])
        return found[:fitted], found[fitted:]

    def closeness(self, synthetic: Rows, ranked: IntVector, watched: tuple[IntVector, IntVector]) -> Closeness:
        """Ranks the watched rows among these persons held back, those watched left out."""
        out = np.isin(ranked, self.pool.person[watched[1]])
        chosen = np.zeros(self.pool.persons, dtype=bool)
        chosen[ranked[~out]] = True
        controls = np.flatnonzero(chosen[self.pool.person])
        rows = np.concatenate([controls, *watched])
        released = self.metric.points(synthetic).light(len(synthetic.columns))
        near = nearest(self.points.take(rows), released)[:, 0]
        surprise = unexpected(near, self.isolation[rows], learn=len(controls))
        best = np.full(self.pool.persons, -np.inf)
        np.maximum.at(best, self.pool.person[controls], surprise[: len(controls)])
        others = np.sort(best[chosen])
        scores = tuple(np.split(surprise[len(controls) :], [len(watched[0])]))
        above = tuple(len(others) - np.searchsorted(others, side, side="left") for side in scores)
        return Closeness(above=above, among=len(others), scores=scores)


def unexpected(near: FloatVector, alone: FloatVector, *, learn: int) -> FloatVector:
    """How much nearer the synthetic table comes to a row than to others as much alone, in units of their spread.

    Args:
        near: Distance of each row to the nearest synthetic one.
        alone: Distance of each row to other people.
        learn: The first so many rows are those from whom is learned what is usual.
    """
    usual = float(np.median(alone[:learn])) or float(np.mean(alone[:learn])) or 1.0
    x, y = np.log(alone + usual), np.log(near + usual / 10)
    residual = y - _line(x, y, learn)
    spread = np.abs(residual)
    expected = np.maximum(_line(x, spread, learn), STEADY * float(spread[:learn].mean()) + 1e-9)
    return np.round(-residual / expected, 9)


def _line(x: FloatVector, y: FloatVector, learn: int) -> FloatVector:
    """The least-squares line through the first `learn` points, at all points."""
    centre, level = x[:learn].mean(), y[:learn].mean()
    varying = float(np.sum((x[:learn] - centre) ** 2))
    slope = float(np.sum((x[:learn] - centre) * (y[:learn] - level))) / varying if varying > 1e-12 else 0.0
    line: FloatVector = level + slope * (x - centre)
    return line


def _by_spread(rows: Rows) -> Points:
    """Rows as points, a number as far from the median as it is in units of the columns' usual distance from it.

    Everything is scaled down, so that no column is worth more than one unit of distance. Categories with very many
    levels are left out.
    """
    where = np.full(rows.values.shape, np.nan)
    for place, column in enumerate(rows.columns):
        there = rows.values[:, place] != MISSING
        if column.is_numeric and there.any():
            away = rows.values[there, place] - np.median(rows.values[there, place])
            spread = 2 * float(np.sort(np.abs(away)).mean())  # sorted: the same sum in any order of rows
            where[there, place] = np.clip(away / spread if spread > 0 else away, -FAR, FAR)
    points = placed(rows.columns, rows.values, where)
    return Points(np.rint(points.near / (2 * FAR)), points.wide[:, :0]).light(len(rows.columns))


def _isolation(points: Points, person: IntVector, basis: IntVector) -> FloatVector:
    """Mean distance of each row to the nearest rows of the basis that are another person's, in units of a column."""
    base, holder = points.take(basis), person[basis]
    first, end = np.searchsorted(holder, person), np.searchsorted(holder, person, side="right")
    within = min(NEIGHBOURS, len(basis) - int((end - first).max(initial=0)))
    isolation = np.zeros(len(points))
    if within < 1:
        return isolation
    for part, squared in blocks(points, base):
        for offset in range(int((end[part] - first[part]).max(initial=0))):
            own = np.flatnonzero(first[part] + offset < end[part])
            squared[own, first[part][own] + offset] = np.inf
        few = np.sort(np.take_along_axis(squared, smallest(squared, within), axis=1), axis=1)
        isolation[part] = np.sqrt(few.astype(np.float64)).mean(axis=1)
    return np.round(isolation / points.unit, 9)


@dataclass(frozen=True, eq=False)
class Ends:
    """Whose the largest and the smallest synthetic values are.

    Args:
        number: How many ends of columns were looked at: those that are no declared bound.
        beyond: For each end that somebody has and not too many have or pass, the persons with a value farther out.
        holders: And those with this very value.
    """

    number: int
    beyond: list[IntVector]
    holders: list[IntVector]

    @classmethod
    def of(cls, pool: Group, synthetic: Rows) -> Ends:
        """Looks up the ends of the synthetic columns among the persons of both sides."""
        number, beyond, holders = 0, [], []
        for place, column in enumerate(synthetic.columns):
            ours, theirs = synthetic.values[:, place], pool.rows.values[:, place]
            ours, there = ours[ours != MISSING], theirs != MISSING
            if not column.is_numeric or not len(ours):
                continue
            low, high = (float(edge) for edge in column.binning.edges[[0, -1]])
            for end, sign in ((float(ours.min()), -1), (float(ours.max()), 1)):
                if low < end < high:
                    number += 1
                    same = there & (theirs == end)
                    out, on = (np.unique(pool.person[rows]) for rows in (there & (sign * theirs > sign * end), same))
                    if len(on) and len(out) + len(on) <= SHARED:
                        beyond.append(out)
                        holders.append(on)
        return cls(number, beyond, holders)

    def tested(self, member: BoolVector, rng: np.random.Generator) -> tuple[Rate, Rate, float]:
        """Shares of ends that are also the fit side's and the control side's, and the chance of their difference."""
        involved = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *self.beyond, *self.holders]))
        labels = np.concatenate([member[involved, None].astype(np.float64), _relabelled(involved, member, rng)], axis=1)
        places = [[np.searchsorted(involved, persons) for persons in end] for end in (self.beyond, self.holders)]
        taken = [np.zeros(labels.shape[1]), np.zeros(labels.shape[1])]
        for beyond, holders in zip(*places, strict=True):
            for count, side in zip(taken, (labels, 1 - labels), strict=True):
                count += (side[beyond].sum(axis=0) == 0) & (side[holders].sum(axis=0) > 0)
        tested = permutation.ranked((taken[0] - taken[1])[None, :])
        fit, control = (
            Rate(value=float(count[0]) / self.number, trials=self.number, persons=persons, most=self.number)
            for count, persons in zip(taken, (int(member.sum()), int((~member).sum())), strict=True)
        )
        return fit, control, tested.p_value / SHARES["ends"]


def _relabelled(persons: IntVector, member: BoolVector, rng: np.random.Generator) -> FloatMatrix:
    """Who of these persons is fitted when as many of all are drawn anew; ones and zeros, a column a shuffle."""
    labels = np.empty((len(persons), permutation.PERMUTATIONS))
    left = np.full(permutation.PERMUTATIONS, member.sum(), dtype=np.float64)
    for place in range(len(persons)):
        labels[place] = rng.random(permutation.PERMUTATIONS) * (len(member) - place) < left
        left -= labels[place]
    return labels
