"""Nearest record: do synthetic rows lie nearer to fitted persons than to persons held back, or suspiciously farther?

For each synthetic row the nearest real record of either side is found, and the person whose it is gets a point. If
nothing leaked, points fall on the two sides as coins did. Both directions count: a copy draws points to the fit side,
and a filter that removed rows "too close" to fitted persons leaves a hole around them. Ties share the point.

Such distances see little of what a model that keeps marginals gives away, so this attack may fail a release and can
never pass one.

Reported besides, and never judged: how much nearer a person's nearest synthetic row is than the second nearest
(nearest-neighbour distance ratio), as quantiles of both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from attacks import permutation
from attacks.base import CONFIDENCE, FAMILY, Criterion, Finding, Measure, Threat
from attacks.ceilings import Divided
from attacks.figures import Figures, quantiles, sorted_out
from attacks.intervals import FloatVector, Interval, normal_quantile
from attacks.nearness import Nearness, nearness
from attacks.people import BoolVector, Group, People, Rows, joined

CLOSEST = {"all rows": 1.0, "closest tenth": 0.1, "closest hundredth": 0.01}
QUANTILES = (0.01, 0.05, 0.25)  # of the ratio of distances
RATIO = "nearest-neighbour distance ratio"


@dataclass(frozen=True, kw_only=True)
class NearestRecord:
    """Share of synthetic rows whose nearest record belongs to a fitted person, as if both sides were equally many."""

    id: ClassVar[str] = "nearest_record"
    criterion: ClassVar[Criterion] = "regurgitation"
    measure: ClassVar[str] = "share of synthetic rows nearest to a fitted person (one half if nothing leaked)"
    fail_only: ClassVar[bool] = True
    two_sided: ClassVar[bool] = True
    holds_reference: ClassVar[bool] = False
    threat: ClassVar[Threat] = Threat(
        knows="the synthetic table, and the records of fitted persons and of others",
        wants="to see that synthetic rows cluster around fitted persons, or avoid them",
    )

    def run(self, people: People, synthetic: Rows, *, rng: np.random.Generator) -> Finding:
        pool = joined(people.fit, people.control)
        near = nearness(people, synthetic)
        kind, real = near.pairs
        share = 1 / np.bincount(kind, weights=near.real.counts[real], minlength=len(near.least))[kind]
        points: dict[str, FloatVector] = {}
        for name, part in CLOSEST.items():
            close = near.least <= np.quantile(near.least[near.table.kind], part, method="lower")
            worth = share * near.table.counts[kind] * close[kind]
            each = np.bincount(real, weights=worth, minlength=len(near.real.counts)).astype(np.float64)
            points[name] = np.round(pool.total(each[near.real.kind]), 9)
        member = np.arange(pool.persons) < people.fit.persons
        values = np.stack(list(points.values()), axis=1)
        tested = permutation.linear(values, member, rng=rng, two_sided=True)
        variants = {
            name: _share(point[member], point[~member], float(p), 1 - (1 - CONFIDENCE) / len(points) / FAMILY)
            for (name, point), p in zip(points.items(), tested.p_values, strict=True)
        }
        hit = points["closest hundredth"] > 0
        figures, omitted = sorted_out(_ratios(pool, member, near))
        return Finding(
            variants=variants,
            p_value=tested.p_value,
            trials=len(synthetic),
            figures=figures,
            omitted=omitted,
            exposed=(hit[member], hit[~member]),
        )

    def without(self, people: People, *, rng: np.random.Generator) -> dict[str, float]:
        """Chance: one half."""
        return {}


def _ratios(pool: Group, member: BoolVector, near: Nearness) -> Figures:
    """Quantiles over persons of the least ratio of distances to the nearest and the second nearest synthetic row.

    A ratio is 1 where both are equally near, also where both equal the record: neither stands out.
    """
    if near.table.counts.sum() < 2:
        return {RATIO: "the synthetic table has one row only"}
    first, second = near.closest[:, 0], near.closest[:, 1]
    ratio: FloatVector = np.divide(first, second, out=np.ones(len(first)), where=second > 0)
    return quantiles(-pool.best(-np.round(ratio, 9)), member, QUANTILES, RATIO)


def _share(fit: FloatVector, control: FloatVector, p_value: float, confidence: float) -> Measure:
    """Points a fitted person gets, as a share of points a person of either side gets; persons are the clusters.

    The interval is symmetric in the log ratio of the two means. Half a point is added to each side, so that a side
    without points still has one.
    """
    means = [(side.sum() + 0.5) / len(side) for side in (fit, control)]
    variance = sum(
        (side.var() / len(side) + 0.25 / len(side) ** 2) / mean**2
        for side, mean in zip((fit, control), means, strict=True)
    )
    ratio = float(np.log(means[0] / means[1]))
    half = normal_quantile(0.5 + confidence / 2) * float(np.sqrt(variance))
    low, middle, high = (1 / (1 + float(np.exp(-x))) for x in (ratio - half, ratio, ratio + half))
    return Measure(
        estimate=middle,
        interval=Interval(low=low, high=high, confidence=confidence),
        chance=0.5,
        persons=len(fit) + len(control),
        p_value=p_value,
        bound=Divided(fit=len(fit), control=len(control)),
    )
