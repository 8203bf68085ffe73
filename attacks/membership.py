"""Membership inference without access to the model: was this person's record used?

Scores a row, made from the synthetic table and from reference persons whom the attacker knows, none of whom was fitted:

* how near the closest synthetic row lies, and the same in relation to how isolated the record is;
* the ratio of local densities, and the share of synthetic rows among the 20 nearest of both tables;
* how much more often the synthetic table than the reference shows the record's values, two columns at a time and three,
  and on the column sets that the release is known to have measured;
* how sure trees are, taught to tell synthetic rows from reference rows, that the record is synthetic;
* how much better each value follows from the others by a rule learned from synthetic rows than by one learned from the
  reference.

A person is scored by the best row and by the mean over rows. A combiner then learns from one half of the persons, labels
included, how to tell the sides apart, and is judged on the other half. No real attacker knows so many labels: this is
meant to be stronger. Its true positive rates are reported at thresholds that the persons held back of the other half
set; beside each stands the false positive rate that it came to.

A filter that drops synthetic rows "too close" to fitted persons leaves a hole around them. A second combiner looks for
holes, among persons whose own row the table does not hold.

Sources: share among neighbours: Ward, Wang, Cheng, arXiv:2406.13012; densities in relation to a reference: van Breugel,
Sun, Qian, van der Schaar, AISTATS 2023, arXiv:2302.12580 (abstracts read).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from attacks import permutation
from attacks.base import CONFIDENCE, Criterion, Finding, Measure, Threat, per_person
from attacks.ceilings import Area, Bound, PerPerson
from attacks.distances import Factors, Metric, one_thread, passes, smallest
from attacks.intervals import Rate, area
from attacks.nearness import NEIGHBOURS, distinct, nearest_of, nearness
from attacks.people import BoolVector, FloatMatrix, FloatVector, Group, IntMatrix, IntVector, People, Rows, joined, keys

NEIGHBOUR = 5  # densities are taken from the distance to this neighbour
TRIPLES = 300  # at most so many three-column marginals
TREES = 5  # of each of the two forests that tell synthetic rows from reference rows
STIFFNESS = 0.02  # of the rules that predict one column from the others
OPERATING_POINTS = (0.1, 0.01, 0.001)
LOWEST = 0.001  # reported, not judged: too few persons
HOLE = "in a hole"
FEWEST = 20  # persons a half among whom a hole can be looked for
Rule: TypeAlias = Callable[[FloatVector, BoolVector], float]  # from scores and answers to a threshold

# Each half of the persons teaches the rule that judges the other, so accusations are not quite independent. Simulated on
# tables that leak nothing: independent trials would miss at each end about as often as they say, with this never.
SHARED = 1.2
RIDGE = 0.02  # weight of the penalty, in persons a person


@dataclass(frozen=True, kw_only=True)
class Membership:
    """Tells fitted persons from persons held back.

    Args:
        focal: Sets of column names that the release is known to have measured, if it is.
    """

    focal: tuple[tuple[str, ...], ...] = ()

    id: ClassVar[str] = "membership"
    criterion: ClassVar[Criterion] = "membership"
    measure: ClassVar[str] = "true positive rate minus false positive rate"
    fail_only: ClassVar[bool] = False
    two_sided: ClassVar[bool] = False
    holds_reference: ClassVar[bool] = True
    threat: ClassVar[Threat] = Threat(
        knows="the synthetic table, the person's own record, other people of the population, and half of the answers",
        wants="to tell whether the person's record was used",
    )

    def run(self, people: People, synthetic: Rows, *, rng: np.random.Generator) -> Finding:
        asked = joined(people.fit, people.evaluation)
        member = np.arange(asked.persons) < people.fit.persons
        scores, local, repeated = _scores(people, asked, synthetic, self.focal, rng)
        ranks = _ranked(np.stack(list(scores.values()), axis=1))
        half = _halves(member, rng)
        everybody = np.arange(asked.persons)
        combiner = Combiner(ranks, half, everybody)
        elsewhere = np.flatnonzero(~repeated)
        searched = np.bincount(half[elsewhere], minlength=2).min() >= FEWEST
        holes = Combiner(_ranked(-local[elsewhere]), half, elsewhere) if searched else None
        top = ranks >= np.quantile(ranks, 0.99, axis=0)
        linear = np.concatenate([ranks - ranks.mean(axis=0), top - top.mean(axis=0)], axis=1).T
        combiners = [combiner] if holes is None else [combiner, holes]
        weights = np.concatenate([linear, *(one.weights() for one in combiners)])
        ends = np.cumsum([len(linear), *(len(one.weights()) for one in combiners)])

        def statistics(labels: FloatMatrix) -> FloatMatrix:
            sums = np.split(weights @ labels, ends[:-1])
            separations = [one.separation(sums_of) for one, sums_of in zip(combiners, sums[1:], strict=True)]
            return np.concatenate([np.round(sums[0], 9), *separations])

        tested = permutation.relabelled(statistics, member, half, rng=rng)
        rules: dict[str, Rule] = {"best threshold": _best_threshold}
        rules |= {f"false positive rate {rate:g}": _threshold_at(rate) for rate in OPERATING_POINTS}
        accused = {name: combiner.accused(member, rule) for name, rule in rules.items()}
        measures = {name: _excess(called, member) for name, called in accused.items()}
        variants = {name: measure for name, measure in measures.items() if name != f"false positive rate {LOWEST:g}"}
        if holes is not None and min(member[elsewhere].sum(), (~member[elsewhere]).sum()) >= FEWEST:
            in_hole = holes.accused(member, _best_threshold)
            bound = _among(in_hole, ~repeated, member)
            variants[HOLE] = replace(_excess(in_hole[elsewhere], member[elsewhere]), bound=bound)
        combined = combiner.scores(member.astype(np.float64)[:, None])[:, 0]
        figures = {
            f"AUC, {name}": _plain(area(score[member], score[~member]), 0.5, Area())
            for name, score in {"combined": combined, **scores}.items()
        }
        taught = min(int((~member & (half == number)).sum()) for number in (0, 1))
        omitted = {}
        for rate in OPERATING_POINTS:
            if taught * rate >= 1:
                figures[f"TPR at FPR {rate:g}"] = measures[f"false positive rate {rate:g}"]
            else:
                omitted[f"TPR at FPR {rate:g}"] = f"{taught:,} control persons in a half cannot teach its threshold"
        certain = accused["false positive rate 0.01"]
        return Finding(
            variants=variants,
            p_value=tested.p_value,
            trials=asked.persons,
            figures=figures,
            omitted=omitted,
            exposed=(certain[member], certain[~member]),
        )

    def without(self, people: People, *, rng: np.random.Generator) -> dict[str, float]:
        """Chance: a coin decided who was fitted, so without the release both sides are accused equally often."""
        return {}


def _excess(accused: BoolVector, member: BoolVector) -> Measure:
    rates = [Rate.over_persons(accused[side].astype(np.float64)) for side in (member, ~member)]
    fit, control = (replace(rate, trials=rate.trials / SHARED) for rate in rates)
    return per_person(fit, control)


def _among(accused: BoolVector, asked: BoolVector, member: BoolVector) -> PerPerson:
    """What bounds the share of accused persons among those asked about, whom the synthetic table chose.

    Being asked about and accused is said of everybody; of fitted persons the share asked about is as observed.
    """
    without = Rate.over_persons((accused & asked)[~member].astype(np.float64))
    return PerPerson(without=without, times=1 / float(asked[member].mean()))


def _plain(rate: Rate, chance: float, bound: Bound | None = None) -> Measure:
    return Measure(
        estimate=rate.value, interval=rate.interval(CONFIDENCE), chance=chance, persons=rate.persons, bound=bound
    )


# ---- scores ------------------------------------------------------------------------------------------------------


def _scores(
    people: People, asked: Group, synthetic: Rows, focal: tuple[tuple[str, ...], ...], rng: np.random.Generator
) -> tuple[dict[str, FloatVector], FloatMatrix, BoolVector]:
    """Each person's scores, higher for a member; those that a hole would turn round; whose own row the table holds."""
    reference = people.reference.rows
    near = nearness(people, synthetic).closest[: len(asked.rows)]
    alone = _closest(asked.rows, reference, synthetic)
    usual = float(np.median(alone[:, 0])) or 1.0
    by_row = {
        "closeness": -near[:, 0],
        "closeness for isolation": -near[:, 0] / (alone[:, 0] + usual),
        "density": np.log((alone[:, NEIGHBOUR - 1] + usual / 10) / (near[:, NEIGHBOUR - 1] + usual / 10)),
        "share among neighbours": _share(near, alone),
    }
    local = len(by_row)
    chosen = {
        "pairs of columns": _some(len(synthetic.columns), 2, rng),
        "triples of columns": _some(len(synthetic.columns), 3, rng),
        "measured columns": _places(synthetic, focal),
    }
    counter = Counter(asked.rows.cells, reference.cells, synthetic.cells)
    by_row |= {name: counter.ratios(places) for name, places in chosen.items() if places or name != "measured columns"}
    by_row["told from the reference"] = _told_apart(asked.rows, reference, synthetic, rng)
    by_row["predicted from other columns"] = _predicted(asked.rows, reference, synthetic)
    scores = {}
    for name, score in by_row.items():
        score = np.round(score, 9)  # sums taken in another order must still tie
        scores[f"{name}, best row"] = asked.best(score)
        if len(asked.rows) > asked.persons:
            scores[f"{name}, mean row"] = asked.mean(score)
    by_person = np.stack([asked.best(np.round(score, 9)) for score in list(by_row.values())[:local]], axis=1)
    return scores, by_person, asked.any(near[:, 0] == 0)


@one_thread
def _closest(rows: Rows, reference: Rows, synthetic: Rows) -> FloatMatrix:
    """Distances to the nearest reference rows, as the synthetic table's ranks make them; shape (rows, neighbours)."""
    ours, theirs = distinct(rows, reference)
    metric, columns = Metric(synthetic), len(synthetic.columns)
    queries = Factors.of(metric.points(rows.take(ours.first)).light(columns))
    base = Factors.turned(metric.points(reference.take(theirs.first)).light(columns))
    found = np.empty((len(ours.first), NEIGHBOURS))
    for part, (squared,) in passes(len(found), len(theirs.first), queries.near.dtype.type, 1):
        queries.times(part, base, out=squared)
        found[part] = nearest_of(squared, smallest(squared, NEIGHBOURS), theirs.counts)
    distances: FloatMatrix = np.sqrt(found / queries.squared_unit)[ours.kind]
    return distances


def _share(near: FloatMatrix, alone: FloatMatrix) -> FloatVector:
    """Share of synthetic rows among the nearest of both tables together; those as far as the last one share its places."""
    last = np.partition(np.concatenate([near, alone], axis=1), NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1, None]
    ours, theirs = (near < last).sum(axis=1), (alone < last).sum(axis=1)
    tied, tied_all = (near == last).sum(axis=1), (near == last).sum(axis=1) + (alone == last).sum(axis=1)
    share: FloatVector = (ours + (NEIGHBOURS - ours - theirs) * tied / tied_all) / NEIGHBOURS
    return share


def _some(columns: int, k: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """All sets of `k` columns, or a random choice of them."""
    places = list(combinations(range(columns), k))
    if len(places) > TRIPLES:
        places = [places[i] for i in np.sort(rng.choice(len(places), TRIPLES, replace=False))]
    return places


def _places(table: Rows, sets: tuple[tuple[str, ...], ...]) -> list[tuple[int, ...]]:
    """Where the columns of each set stand; columns that the table does not have are left out."""
    where = {column.name: place for place, column in enumerate(table.columns)}
    found = {tuple(sorted({where[name] for name in names if name in where})) for names in sets}
    return sorted(places for places in found if places)


class Counter:
    """Counts how common values of rows are in two tables, some columns at a time."""

    def __init__(self, rows: IntMatrix, reference: IntMatrix, synthetic: IntMatrix) -> None:
        together = np.concatenate([rows, synthetic, reference])
        self._columns = np.ascontiguousarray(together.T)
        self._sizes = together.max(axis=0, initial=0) + 1
        self._ends = len(rows), len(rows) + len(synthetic)
        self._logs = np.log(np.arange(max(len(synthetic), len(reference)) + 2) + 1.0)
        self._shift = float(np.log(len(synthetic) + 1) - np.log(len(reference) + 1))

    def ratios(self, sets: list[tuple[int, ...]]) -> FloatVector:
        """Mean log ratio of how common a row's values are among synthetic and among reference rows."""
        total = np.zeros(self._ends[0])
        for chosen in sets:
            cell, common, known = self._counted(chosen)
            total += (self._logs[common] - self._logs[known])[cell]
        return total / max(len(sets), 1) - self._shift

    def _counted(self, chosen: tuple[int, ...]) -> tuple[IntVector, IntVector, IntVector]:
        """The cell of each row, and how often each cell occurs in the synthetic and in the reference table."""
        if np.prod(self._sizes[list(chosen)].astype(np.float64)) < 2**18:
            number = self._columns[chosen[0]]
            for place in chosen[1:]:
                number = number * self._sizes[place] + self._columns[place]
        else:
            (number,) = keys(self._columns[list(chosen)].T)
        start, end = self._ends
        cells = 1 + int(number.max(initial=0))
        counts = (np.bincount(part, minlength=cells) for part in (number[start:end], number[end:]))
        return number[:start], *counts


def _told_apart(rows: Rows, reference: Rows, synthetic: Rows, rng: np.random.Generator) -> FloatVector:
    """Log odds that a row is synthetic, by trees that learned to tell synthetic rows from reference rows.

    Two forests learn from one half of both tables each, and their log odds are averaged. The rows asked about are in
    neither table, so no forest has seen them, unless the synthetic table repeats them.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    inputs = _inputs(np.concatenate([table.values for table in (synthetic, reference, rows)]))
    x, asked = np.split(inputs, [len(synthetic) + len(reference)])
    y, total = np.arange(len(x)) < len(synthetic), np.zeros(len(rows))
    half = _halves(y, rng)
    for number in (0, 1):
        learn = half == number
        if len(np.unique(y[learn])) < 2:
            continue
        forest = ExtraTreesClassifier(n_estimators=TREES, max_features="sqrt", random_state=int(rng.integers(2**31)))
        odds = forest.fit(x[learn], y[learn]).predict_proba(asked)[:, 1]
        total += np.log((odds + 1 / TREES) / (1 - odds + 1 / TREES))
    return total


def _inputs(values: FloatMatrix) -> npt.NDArray[np.float32]:
    """Values for trees, which read float32: each column's in [-1, 1] whatever its numbers, and gaps below them."""
    there = np.isfinite(values)
    known = np.where(there, values, 0.0)
    largest = np.abs(known).max(axis=0, initial=np.finfo(np.float64).tiny)
    return np.where(there, known / largest, -2.0).astype(np.float32)


@one_thread
def _predicted(rows: Rows, reference: Rows, synthetic: Rows) -> FloatVector:
    """By how much the errors of predicting each column from all others fall when the rule is learned from synthetic rows.

    The rules are linear in positions of numbers and indicators of categories, so one inverse of the covariance matrix
    holds them all: what the others do not tell of a column is that column's part of the inverse times the row.
    """
    metric = Metric(synthetic)
    points = [metric.points(table) for table in (rows, synthetic, reference)]
    x, *taught = (p.near / p.unit for p in points)
    if not x.shape[1]:
        return np.zeros(len(rows))
    ends = np.cumsum([0, *metric.widths()])
    errors = []
    for table in taught:
        mean = table.mean(axis=0)
        covariance = (table - mean).T @ (table - mean) / max(len(table), 1)
        inverse = np.linalg.inv(covariance + STIFFNESS * np.eye(x.shape[1]))
        left = (x - mean) @ inverse
        error = np.zeros(len(x))
        for start, end in pairwise(ends.tolist()):
            if end > start:
                part = np.linalg.solve(inverse[start:end, start:end], left[:, start:end].T)
                error += (part**2).sum(axis=0)
        errors.append(error)
    difference: FloatVector = errors[1] - errors[0]
    return difference


# ---- the combiner ------------------------------------------------------------------------------------------------


def _ranked(scores: FloatMatrix) -> FloatMatrix:
    """Ranks in (0, 1), column by column."""
    ranks: FloatMatrix = stats.rankdata(scores, axis=0) / (len(scores) + 1)
    return ranks


class Combiner:
    """A linear rule over the ranks of all scores, learned on one half of the persons and applied to the other.

    Ranks enter as normal scores and as two steps for the top tenth and the top hundredth, so that a few leaked records
    weigh as much as a small shift of all. Learning is ridge regression, which a thousand shuffles of the labels repeat
    at the price of a matrix product. Weights below zero are dropped: being less like the synthetic table is never a
    sign of having been fitted (where it is, the control was used, or rows were filtered: a combiner of its own looks).

    Args:
        ranks: Shape (persons looked at, scores).
        half: 0 or 1 for each person; shape (persons,).
        who: Which persons are looked at.
    """

    def __init__(self, ranks: FloatMatrix, half: IntVector, who: IntVector) -> None:
        steps = [stats.norm.ppf(ranks), ranks > 0.9, ranks > 0.99]
        x = np.concatenate([np.asarray(step, dtype=np.float64) for step in steps], axis=1)
        self._persons = len(half)
        self._parts: list[_Part] = []
        for number in (0, 1):
            learn, apply = np.flatnonzero(half[who] != number), np.flatnonzero(half[who] == number)
            centre, spread = x[learn].mean(axis=0), x[learn].std(axis=0)
            z = (x - centre) / np.where(spread > 1e-9, spread, np.inf)
            normal = z[learn].T @ z[learn] + RIDGE * len(learn) * np.eye(x.shape[1])
            taught = np.linalg.solve(normal, z[learn].T)
            mine = z[apply] - z[apply].mean(axis=0)
            self._parts.append(
                _Part(who[learn], who[apply], z[learn], z[apply], taught, mine.T, mine.T @ mine / len(apply))
            )

    def scores(self, labels: FloatMatrix) -> FloatMatrix:
        """Each person's rank in the own half, by the rule learned in the other; in (0, 1), shape (persons, shuffles)."""
        scores = np.zeros_like(labels)
        for part in self._parts:
            scores[part.apply] = stats.rankdata(part.applied(part.rule(labels)), axis=0) / (len(part.apply) + 1)
        return scores

    def weights(self) -> FloatMatrix:
        """What the labels are multiplied with before `separation`; shape (4 features, persons)."""
        found = []
        for part in self._parts:
            taught, centred = np.zeros((2, len(part.taught), self._persons))
            taught[:, part.learn], centred[:, part.apply] = part.taught, part.centred
            found += [taught, centred]
        return np.concatenate(found)

    def separation(self, sums: FloatMatrix) -> FloatMatrix:
        """How much higher members score than others, in standard deviations of all scores; shape (1, shuffles).

        Args:
            sums: `weights() @ labels`, labels of shape (persons, shuffles).
        """
        total = np.zeros(sums.shape[1])
        halves = np.split(sums, 4)
        for part, taught, mine in zip(self._parts, halves[::2], halves[1::2], strict=True):
            rule = np.maximum(taught, 0.0)
            spread = np.sqrt(np.maximum((rule * (part.covariance @ rule)).sum(axis=0), 0))
            gain = (mine * rule).sum(axis=0)
            total += np.divide(gain, spread, out=np.zeros_like(gain), where=spread > 1e-9)
        separation: FloatMatrix = np.round(total[None, :], 9)
        return separation

    def accused(self, member: BoolVector, threshold: Rule) -> BoolVector:
        """Whom the rule calls a member, rule and threshold both learned in the other half; shape (persons,)."""
        accused = np.zeros(self._persons, dtype=bool)
        labels = member.astype(np.float64)[:, None]
        for part in self._parts:
            known = member[part.learn]
            if known.all() or not known.any():
                continue
            rule = part.rule(labels)
            limit = threshold(np.round(part.learned_from @ rule, 9)[:, 0], known)
            accused[part.apply] = part.applied(rule)[:, 0] >= limit
        return accused


@dataclass(frozen=True, eq=False)
class _Part:
    """One half learned from, the other applied to.

    Args:
        learn, apply: Which persons they are.
        learned_from, applied_to: Their standardised scores; shape (persons, features).
        taught: Turns labels of those learned from into weights; shape (features, persons).
        centred: `applied_to`, each feature with mean 0; shape (features, persons).
        covariance: Of these.
    """

    learn: IntVector
    apply: IntVector
    learned_from: FloatMatrix
    applied_to: FloatMatrix
    taught: FloatMatrix
    centred: FloatMatrix
    covariance: FloatMatrix

    def rule(self, labels: FloatMatrix) -> FloatMatrix:
        """Weights, by what is known about those learned from; shape (features, shuffles)."""
        rule: FloatMatrix = np.maximum(self.taught @ labels[self.learn], 0.0)
        return rule

    def applied(self, rule: FloatMatrix) -> FloatMatrix:
        """Scores of those applied to; shape (persons, shuffles)."""
        scores: FloatMatrix = np.round(self.applied_to @ rule, 9)
        return scores


def _halves(member: BoolVector, rng: np.random.Generator) -> IntVector:
    """0 or 1 for each person, as many of each on both sides."""
    half = np.zeros(len(member), dtype=np.int64)
    for side in (member, ~member):
        persons = rng.permutation(np.flatnonzero(side))
        half[persons[: len(persons) // 2]] = 1
    return half


def _best_threshold(scores: FloatVector, member: BoolVector) -> float:
    """Where the two sides are farthest apart."""
    order = np.argsort(-scores, kind="stable")
    gain = np.cumsum(np.where(member[order], 1 / member.sum(), -1 / (~member).sum()))
    last = np.append(np.diff(scores[order]) != 0, True)  # equal scores fall on the same side
    return float(scores[order][np.argmax(np.where(last, gain, -np.inf))])


def _threshold_at(rate: float) -> Rule:
    """The lowest threshold that accuses at most this share of persons held back."""

    def threshold(scores: FloatVector, member: BoolVector) -> float:
        control = np.sort(scores[~member])[::-1]
        return float(np.nextafter(control[int(rate * len(control))], np.inf))

    return threshold
