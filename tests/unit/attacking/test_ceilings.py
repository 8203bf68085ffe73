"""Ceilings against closed forms, slow recomputation, and the identity that the one for areas rests on."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from attacks.base import Finding, Measure, beyond, per_person
from attacks.ceilings import Area, Divided, PerPerson, Unproven
from attacks.intervals import Interval, Rate, area, clopper_pearson
from attacks.singling_out import _newcomers
from dpsynth import Cost, tpr_bound

COSTS = [Cost.zcdp(Fraction(rho)) for rho in ("1/100", "1/2", "3")] + [Cost.approximate("1", "1/1000")]
SURE = 0.999


@pytest.mark.parametrize("epsilon", ["0.1", "1", "3"])
def test_ceilings_of_pure_differential_privacy(epsilon: str) -> None:
    """The area below min(e^eps q, 1 - e^-eps (1 - q)), and rates whose ratio is at most e^eps."""
    cost, right = Cost.approximate(epsilon, 0), math.exp(float(epsilon)) / (1 + math.exp(float(epsilon)))
    assert right <= Area().allowed(cost, confidence=SURE).most <= right + 2e-3
    for fit, control in ((500, 500), (80, 4000)):
        allowed = Divided(fit=fit, control=control).allowed(cost, confidence=SURE)
        assert right <= allowed.most <= right + 1e-4
        assert 1 - right - 1e-4 <= allowed.least <= 1 - right


def test_nothing_spent_allows_nothing_and_everything_spent_all() -> None:
    none, all_ = Cost.zero(), Cost(delta0=Fraction(1))
    assert Area().allowed(none, confidence=SURE).most == pytest.approx(0.5, abs=1e-4)
    assert Divided(fit=7, control=900).allowed(none, confidence=SURE).most == pytest.approx(0.5, abs=1e-4)
    for bound in (Area(), Divided(fit=7, control=900), PerPerson(without=Rate(value=0.0, trials=9, persons=9))):
        assert bound.allowed(all_, confidence=SURE).most == 1.0
    assert Divided(fit=7, control=900).allowed(all_, confidence=SURE).least == 0.0
    assert Unproven("words").allowed(none, confidence=SURE) is None


@pytest.mark.parametrize("cost", COSTS)
def test_an_area_is_rounded_up(cost: Cost) -> None:
    """Rectangles as high as the right end of each cell hold it, trapezoids lie within."""
    grid = np.linspace(0, 1, 129)
    heights = np.array([tpr_bound(cost, float(fpr)) for fpr in grid])
    most = Area().allowed(cost, confidence=SURE).most
    assert np.trapezoid(heights, grid) <= most <= heights[1:].mean()


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize(("fit", "control"), [(200, 200), (30, 3000), (3000, 30)])
def test_a_divided_whole_is_rounded_to_the_safe_side(cost: Cost, fit: int, control: int) -> None:
    allowed = Divided(fit=fit, control=control).allowed(cost, confidence=SURE)
    for part in np.linspace(0.01, 0.99, 29):
        whole = fit * part + control * (1 - part)
        f, c = float(part / whole), float((1 - part) / whole)
        if f <= tpr_bound(cost, c) and c <= tpr_bound(cost, f):
            assert allowed.least <= part <= allowed.most


def test_a_rate_is_bounded_at_the_far_end_of_that_without_the_person() -> None:
    rate, cost = Rate(value=0.02, trials=300, persons=300), COSTS[0]
    most = tpr_bound(cost, rate.interval(SURE).high)
    assert PerPerson(without=rate).allowed(cost, confidence=SURE).most == most
    assert PerPerson(without=rate, times=3).allowed(cost, confidence=SURE).most == 3 * most
    assert PerPerson(without=rate, times=90).allowed(cost, confidence=SURE).most == 1.0


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_an_auc_is_one_half_and_the_gap_of_the_rates(fit: int, control: int, levels: int, seed: int) -> None:
    """AUC = 1/2 + the integral of TPR - FPR over the share of persons who rank highest; ties are broken at random."""
    scores = np.random.default_rng(seed).integers(levels, size=fit + control).astype(np.float64)
    gaps, steps = [0.0], [0.0]
    for level in np.unique(scores)[::-1]:
        gaps.append(float((scores[:fit] >= level).mean() - (scores[fit:] >= level).mean()))
        steps.append(float((scores >= level).mean()))
    assert area(scores[:fit], scores[fit:]).value == pytest.approx(0.5 + np.trapezoid(gaps, steps))


def test_only_numbers_beyond_their_ends_are_beyond() -> None:
    def measure(fit: float, ceiling: float | None) -> Measure:
        rate, there = Rate(value=fit, trials=1000, persons=1000), Interval(low=0.0, high=1.0, confidence=0.95)
        bound = PerPerson(without=rate) if ceiling is not None else Unproven("words")
        return Measure(estimate=fit, interval=there, chance=0.0, persons=9, fit=rate, bound=bound, ceiling=ceiling)

    found = {
        "above": measure(0.5, 0.4),
        "near": measure(0.5, 0.49),
        "below": measure(0.5, 0.9),
        "?": measure(0.9, None),
    }
    assert beyond(found) == {"above"}
    for low, high, passed in ((0.7, 0.8, True), (0.5, 0.7, False), (0.2, 0.3, True), (0.35, 0.5, False)):
        there = Interval(low=low, high=high, confidence=0.95)
        share = Measure(estimate=low, interval=there, chance=0.5, persons=9, ceiling=0.6, floor=0.4)
        assert bool(beyond({"share": share})) is passed


def test_ceilings_are_compared_more_surely_the_more_there_are() -> None:
    """What one variant shows, nine more may hide: each is given a tenth of the error."""
    rate, there = Rate(value=0.5, trials=1000, persons=1000), Interval(low=0.0, high=1.0, confidence=0.95)
    bound = PerPerson(without=rate)
    ceiling = rate.interval(1 - 0.05 / 10 / 3).low
    one = Measure(estimate=0.5, interval=there, chance=0.0, persons=9, fit=rate, bound=bound, ceiling=ceiling)
    assert beyond({"one": one})
    assert not beyond({str(number): one for number in range(10)})
    assert beyond({"one": one} | {str(number): Measure(estimate=0.5, interval=there, chance=0.0, persons=9, bound=Unproven("")) for number in range(9)})  # fmt: skip


@pytest.mark.parametrize("crowd", [2, 4, 5])
def test_who_would_be_alone_in_the_fitted_crowd_is_counted_right(crowd: int) -> None:
    """Against all draws of `crowd - 1` of five fitted persons."""
    rng = np.random.default_rng(crowd)
    fit, control = rng.random((9, 5)) < 0.3, rng.random((9, 4)) < 0.4
    draws = [list(draw) for draw in combinations(range(5), crowd - 1)]
    expected = np.mean([
        [np.mean([mine[person] and not theirs[draw].any() for draw in draws]) for mine, theirs in zip(control, fit, strict=True)]
        for person in range(4)
    ])  # fmt: skip
    found = _newcomers(sparse.csr_matrix(fit.astype(float)), sparse.csr_matrix(control.astype(float)), crowd)
    assert found.value == pytest.approx(expected)
    assert found.persons == 4


def test_one_success_among_few_persons_accuses_nobody() -> None:
    """At the limit of epsilon 1 it comes in 7 honest tables of 100; Wilson's interval alone would call it too much."""
    cost, without = Cost.approximate("1", 0), Rate(value=0.0013, trials=200_000, persons=200_000)
    assert 1 - (1 - tpr_bound(cost, without.value)) ** 20 > 0.06

    def accused(hits: int) -> bool:
        measure = per_person(Rate(value=hits / 20, trials=20, persons=20), without)
        return bool(beyond(Finding(variants={"one": measure}).under(cost).variants))

    assert [accused(hits) for hits in (1, 3)] == [False, True]


@given(st.integers(1, 500), st.floats(0, 1))
def test_what_is_sure_is_never_narrower_than_either_interval(trials: int, share: float) -> None:
    hits = round(share * trials)
    rate = Rate(value=hits / trials, trials=trials, persons=trials)
    sure, wilson, exact = rate.surely(SURE), rate.interval(SURE), clopper_pearson(hits, trials, confidence=SURE)
    assert sure.low <= min(wilson.low, exact.low) + 1e-9
    assert sure.high >= max(wilson.high, exact.high) - 1e-9
