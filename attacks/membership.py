"""Membership inference without access to the model: was this person's record used?

Six scores a row, made from the synthetic table and from reference persons whom the attacker knows, none of whom was
fitted: how near the closest synthetic row lies, the same in relation to how isolated the record is, the ratio of local
densities, and how much more often the synthetic table than the reference shows the record's values, two columns at a
time and three. A person is scored by the best row and by the mean over rows.

A combiner then learns from one half of the persons, labels included, how to tell the sides apart, and is judged on the
other half. No real attacker knows so many labels: this is meant to be stronger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar, TypeAlias

import numpy as np
from scipy import stats

from attacks import permutation
from attacks.base import CONFIDENCE, Criterion, Finding, Measure, Threat, excess
from attacks.distances import Metric, nearest
from attacks.intervals import Rate, area
from attacks.people import BoolVector, FloatMatrix, FloatVector, Group, IntMatrix, IntVector, People, Rows, joined, keys

NEIGHBOUR = 5  # densities are taken from the distance to this neighbour
TRIPLES = 300  # at most so many three-column marginals
OPERATING_POINTS = (0.1, 0.01, 0.001)
LOWEST = 0.001  # reported, not judged: too few persons
Rule: TypeAlias = Callable[[FloatVector, BoolVector], float]  # from scores and answers to a threshold

# Each half of the persons teaches the rule that judges the other, so accusations are not quite independent. Simulated on
# tables that leak nothing: independent trials would miss at each end about as often as they say, with this never.
SHARED = 1.2
RIDGE = 0.02  # weight of the penalty, in persons a person


@dataclass(frozen=True, kw_only=True)
class Membership:
    """Tells fitted persons from persons held back."""

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
        scores = _scores(asked, people.reference.rows, synthetic, rng)
        ranks = np.stack([stats.rankdata(score) for score in scores.values()], axis=1) / (asked.persons + 1)
        half = _halves(member, rng)
        combiner = Combiner(ranks, half)

        def statistics(labels: FloatMatrix) -> FloatMatrix:
            top = (ranks >= np.quantile(ranks, 0.99, axis=0)).astype(np.float64)
            return np.concatenate([ranks.T @ labels, top.T @ labels, combiner.separation(labels)])

        tested = permutation.relabelled(statistics, member, half, rng=rng)
        rules: dict[str, Rule] = {"best threshold": _best_threshold}
        rules |= {f"false positive rate {rate:g}": _threshold_at(rate) for rate in OPERATING_POINTS}
        measures = {name: _excess(combiner.accused(member, rule), member) for name, rule in rules.items()}
        variants = {name: measure for name, measure in measures.items() if name != f"false positive rate {LOWEST:g}"}
        combined = combiner.scores(member.astype(np.float64)[:, None])[:, 0]
        figures = {
            f"AUC, {name}": _plain(area(score[member], score[~member]), 0.5)
            for name, score in {"combined": combined, **scores}.items()
        }
        for rate in OPERATING_POINTS:
            at = measures[f"false positive rate {rate:g}"]
            if at.fit is not None and at.control is not None:
                figures[f"TPR at FPR {rate:g}"] = _plain(at.fit, rate)
                figures[f"FPR meant to be {rate:g}"] = _plain(at.control, rate)
        return Finding(
            variants=variants,
            p_value=tested.p_value,
            trials=asked.persons,
            figures=figures,
        )

    def without(self, people: People, *, rng: np.random.Generator) -> dict[str, float]:
        """Chance: a coin decided who was fitted, so without the release both sides are accused equally often."""
        return {}


def _excess(accused: BoolVector, member: BoolVector) -> Measure:
    rates = [Rate.over_persons(accused[side].astype(np.float64)) for side in (member, ~member)]
    fit, control = (replace(rate, trials=rate.trials / SHARED) for rate in rates)
    return excess(fit, control)


def _plain(rate: Rate, chance: float) -> Measure:
    return Measure(estimate=rate.value, interval=rate.interval(CONFIDENCE), chance=chance, persons=rate.persons)


# ---- scores ------------------------------------------------------------------------------------------------------


def _scores(asked: Group, reference: Rows, synthetic: Rows, rng: np.random.Generator) -> dict[str, FloatVector]:
    """Each person's scores, higher for a member."""
    metric = Metric(synthetic)
    points, ours, theirs = metric.points(asked.rows), metric.points(synthetic), metric.points(reference)
    near = nearest(points, ours, k=NEIGHBOUR)
    alone = nearest(points, theirs, k=NEIGHBOUR)
    usual = float(np.median(alone[:, 0])) or 1.0
    pairs, triples = (_marginals(asked.rows.cells, reference.cells, synthetic.cells, k, rng) for k in (2, 3))
    by_row = {
        "closeness": -near[:, 0],
        "closeness for isolation": -near[:, 0] / (alone[:, 0] + usual),
        "density": np.log((alone[:, -1] + usual / 10) / (near[:, -1] + usual / 10)),
        "pairs of columns": pairs,
        "triples of columns": triples,
    }
    scores = {}
    for name, score in by_row.items():
        score = np.round(score, 9)  # sums taken in another order must still tie
        scores[f"{name}, best row"] = asked.best(score)
        if len(asked.rows) > asked.persons:
            scores[f"{name}, mean row"] = asked.mean(score)
    return scores


def _marginals(
    rows: IntMatrix, reference: IntMatrix, synthetic: IntMatrix, k: int, rng: np.random.Generator
) -> FloatVector:
    """Mean log ratio of how common a row's values are among synthetic and among reference rows, `k` columns at a time."""
    places = list(combinations(range(rows.shape[1]), k))
    if len(places) > TRIPLES:
        places = [places[i] for i in np.sort(rng.choice(len(places), TRIPLES, replace=False))]
    total = np.zeros(len(rows))
    for chosen in places:
        among, common, known = _counted(rows, synthetic, reference, chosen)
        total += np.log((common[among] + 1) / (len(synthetic) + 1)) - np.log((known[among] + 1) / (len(reference) + 1))
    return total / max(len(places), 1)


def _counted(
    rows: IntMatrix, synthetic: IntMatrix, reference: IntMatrix, chosen: tuple[int, ...]
) -> tuple[IntVector, IntVector, IntVector]:
    """The cell of each row, and how often each cell occurs in the two tables."""
    picked = [table[:, chosen] for table in (rows, synthetic, reference)]
    top = np.max([table.max(axis=0, initial=0) for table in picked], axis=0) + 1
    if np.prod(top.astype(np.float64)) < 2**18:
        numbers = [np.ravel_multi_index(tuple(table.T), tuple(top)) for table in picked]
    else:
        numbers = keys(*picked)
    cells = 1 + max(int(number.max(initial=0)) for number in numbers)
    return numbers[0], np.bincount(numbers[1], minlength=cells), np.bincount(numbers[2], minlength=cells)


# ---- the combiner ------------------------------------------------------------------------------------------------


class Combiner:
    """A linear rule over the ranks of all scores, learned on one half of the persons and applied to the other.

    Ranks enter as normal scores and as two steps for the top tenth and the top hundredth, so that a few leaked records
    weigh as much as a small shift of all. Learning is ridge regression, which a thousand shuffles of the labels repeat
    at the price of a matrix product. Weights below zero are dropped: being less like the synthetic table is never a
    sign of having been fitted (where it is, the control was used, or rows were filtered; other attacks look there).
    """

    def __init__(self, ranks: FloatMatrix, half: IntVector) -> None:
        steps = [stats.norm.ppf(ranks), ranks > 0.9, ranks > 0.99]
        x = np.concatenate([np.asarray(step, dtype=np.float64) for step in steps], axis=1)
        self._parts: list[tuple[IntVector, IntVector, FloatMatrix, FloatMatrix]] = []
        for number in (0, 1):
            learn, apply = np.flatnonzero(half != number), np.flatnonzero(half == number)
            centre, spread = x[learn].mean(axis=0), x[learn].std(axis=0)
            z = (x - centre) / np.where(spread > 1e-9, spread, np.inf)
            normal = z[learn].T @ z[learn] + RIDGE * len(learn) * np.eye(x.shape[1])
            self._parts.append((learn, apply, z, np.linalg.solve(normal, z[learn].T)))

    def _rule(self, labels: FloatMatrix, part: int) -> FloatMatrix:
        """The score of every person by the rule learned for one part; shape (persons, shuffles)."""
        learn, _, z, solved = self._parts[part]
        weights = np.maximum(solved @ (labels[learn] - labels[learn].mean(axis=0)), 0.0)
        scores: FloatMatrix = np.round(z @ weights, 9)
        return scores

    def scores(self, labels: FloatMatrix) -> FloatMatrix:
        """Each person's rank in the own half, by the rule learned in the other; in (0, 1), shape (persons, shuffles)."""
        scores = np.empty_like(labels)
        for part, (_, apply, _, _) in enumerate(self._parts):
            scores[apply] = stats.rankdata(self._rule(labels, part)[apply], axis=0) / (len(apply) + 1)
        return scores

    def separation(self, labels: FloatMatrix) -> FloatMatrix:
        """How high members rank; shape (1, shuffles)."""
        total: FloatMatrix = np.round((self.scores(labels) * labels).sum(axis=0, keepdims=True), 9)
        return total

    def accused(self, member: BoolVector, threshold: Rule) -> BoolVector:
        """Whom the rule calls a member, rule and threshold both learned in the other half; shape (persons,)."""
        accused = np.zeros(len(member), dtype=bool)
        labels = member.astype(np.float64)[:, None]
        for part, (learn, apply, _, _) in enumerate(self._parts):
            score = self._rule(labels, part)[:, 0]
            accused[apply] = score[apply] >= threshold(score[learn], member[learn])
        return accused


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
