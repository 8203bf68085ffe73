"""Intervals against published numbers and slow recomputation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest

from attacks.intervals import (
    ZCDP,
    Interval,
    Rate,
    area,
    clopper_pearson,
    clopper_pearson_high,
    clopper_pearson_low,
    control_persons_needed,
    difference,
    epsilon_lower_bound,
    excess_interval,
    gaussian_epsilon,
    mu_lower_bound,
    noisy_rate_interval,
    rho_lower_bound,
)
from dpsynth import Cost, tpr_bound


def of_count(successes: int, trials: int) -> Rate:
    return Rate.over_persons(np.repeat([1.0, 0.0], [successes, trials - successes]))


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(successes: int, trials: int, low: float, high: float) -> None:
    """Newcombe, Stat. Med. 17 (1998) 857, table I, method 3."""
    interval = of_count(successes, trials).interval(0.95)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_difference_as_published(first: tuple[int, int], second: tuple[int, int], low: float, high: float) -> None:
    """Newcombe, Stat. Med. 17 (1998) 873, table II, method 10."""
    interval = difference(of_count(*first), of_count(*second), 0.95)
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


@pytest.mark.parametrize(("trials", "upper"), [(33, 0.087), (50, 0.058), (100, 0.030), (1000, 0.003)])
def test_no_success_is_not_no_risk(trials: int, upper: float) -> None:
    interval = clopper_pearson(0, trials, confidence=0.90)
    assert interval.low == 0
    assert interval.high == pytest.approx(1 - 0.05 ** (1 / trials))
    assert interval.high == pytest.approx(upper, abs=5e-4)


def test_clopper_pearson_refuses_impossible_counts() -> None:
    with pytest.raises(ValueError, match="successes"):
        clopper_pearson(3, 2, confidence=0.95)


def test_clopper_pearson_is_the_mirror_of_itself() -> None:
    low, high = clopper_pearson(3, 20, confidence=0.95), clopper_pearson(17, 20, confidence=0.95)
    assert low.low == pytest.approx(1 - high.high)
    assert low.high == pytest.approx(1 - high.low)


def test_an_interval_needs_its_ends_in_order() -> None:
    with pytest.raises(ValueError, match="low <= high"):
        Interval(low=1.0, high=0.0, confidence=0.95)
    assert 0.5 in Interval(low=0.0, high=1.0, confidence=0.95)
    assert 2.0 not in Interval(low=0.0, high=1.0, confidence=0.95)


def test_area_is_the_share_of_pairs_and_its_variance_is_delongs() -> None:
    rng = np.random.default_rng(0)
    fit, control = rng.integers(5, size=30).astype(float), rng.integers(4, size=20).astype(float)
    pairs = np.array([[(f > c) + 0.5 * (f == c) for c in control] for f in fit])
    rate = area(fit, control)
    assert rate.value == pytest.approx(pairs.mean())
    variance = pairs.mean(axis=1).var() / 30 + pairs.mean(axis=0).var() / 20
    assert rate.value * (1 - rate.value) / rate.trials == pytest.approx(variance)


def test_area_of_unrelated_scores_has_the_textbook_error() -> None:
    rng = np.random.default_rng(1)
    rate = area(rng.random(4000), rng.random(3000))
    expected = math.sqrt((4000 + 3000 + 1) / (12 * 4000 * 3000))
    assert math.sqrt(rate.value * (1 - rate.value) / rate.trials) == pytest.approx(expected, rel=0.03)


def test_separated_sides_keep_an_interval() -> None:
    interval = area(np.ones(40), np.zeros(30)).interval(0.95)
    assert interval.high == 1
    assert 0.85 < interval.low < 1


def test_fractions_count_for_more_than_yes_or_no_but_not_for_certainty() -> None:
    assert of_count(30, 100).trials == pytest.approx(100)
    assert Rate.over_persons(np.tile([0.2, 0.4], 50)).trials > 500
    assert Rate.over_persons(np.full(100, 0.3)).trials == 1000
    assert Rate.over_persons(np.zeros(100)).trials == 100


@pytest.mark.parametrize(("fit", "control"), [(0.02, 0.02), (0.10, 0.06), (0.5, 0.5)])
def test_persons_needed_are_enough_and_not_many_too_many(fit: float, control: float) -> None:
    ours, theirs = Rate(value=fit, trials=3000, persons=3000), Rate(value=control, trials=200, persons=200)
    at_most = fit - control + 0.012
    more = control_persons_needed(ours, theirs, at_most=at_most, confidence=0.95)
    assert more is not None
    assert more > 0

    def high(persons: int) -> float:
        return difference(ours, Rate(value=control, trials=persons, persons=persons), 0.95).high

    if high(10**6) <= at_most:  # control persons alone are enough
        assert high(200 + more) <= at_most < high(200 + more - 3)


def test_no_number_of_persons_helps_against_a_leak() -> None:
    ours, theirs = Rate(value=0.3, trials=100, persons=100), Rate(value=0.1, trials=100, persons=100)
    assert control_persons_needed(ours, theirs, at_most=0.1, confidence=0.95) is None


def test_nothing_more_is_needed_when_the_end_is_there() -> None:
    rate = Rate(value=0.0, trials=10_000, persons=10_000)
    assert control_persons_needed(rate, rate, at_most=0.1, confidence=0.95) == 0


def test_noise_alone_makes_the_width() -> None:
    """With rates near 0 and many persons only the noise is left: sigma / n on each side."""
    interval = excess_interval(0, 0, 100_000, 50_000, 400.0, 0.90)
    assert interval is not None
    assert interval.high == pytest.approx(1.6449 * math.hypot(400 / 100_000, 400 / 50_000), rel=0.01)
    assert interval.low == pytest.approx(-interval.high)


def test_sampling_alone_makes_the_width() -> None:
    interval = excess_interval(5000, 4000, 10_000, 10_000, 0.0, 0.95)
    assert interval is not None
    half = 1.96 * math.sqrt((0.25 + 0.24) / 10_000)
    assert (interval.low, interval.high) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-4)


@pytest.mark.parametrize(("fit", "control"), itertools.product((-50, 0, 30), repeat=2))
def test_a_side_that_noise_hides_gives_nothing(fit: int, control: int) -> None:
    assert excess_interval(0, 0, fit, control, 40.0, 0.95) is None
    assert noisy_rate_interval(0, control, sigma=40.0, confidence=0.95) is None


def test_noisy_counts_may_be_negative() -> None:
    interval = noisy_rate_interval(-30, 2000, sigma=40.0, confidence=0.90)
    assert interval is not None
    assert interval.low < -30 / 2000 < interval.high


# ---- lower bounds on a privacy loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("successes", "trials"), [(0, 20), (3, 20), (17, 20), (20, 20), (250, 1000)])
def test_one_sided_limits_are_the_ends_of_the_two_sided_interval(successes: int, trials: int) -> None:
    both = clopper_pearson(successes, trials, confidence=0.9)
    assert clopper_pearson_low(successes, trials, confidence=0.95) == pytest.approx(both.low)
    assert clopper_pearson_high(successes, trials, confidence=0.95) == pytest.approx(both.high)


@pytest.mark.parametrize(("successes", "trials"), [(1, 20), (7, 50), (49, 50)])
def test_one_sided_limits_are_where_the_binomial_tail_is_the_error(successes: int, trials: int) -> None:
    def at_least(p: float) -> float:
        return sum(math.comb(trials, n) * p**n * (1 - p) ** (trials - n) for n in range(successes, trials + 1))

    assert at_least(clopper_pearson_low(successes, trials, confidence=0.99)) == pytest.approx(0.01)
    high = clopper_pearson_high(successes - 1, trials, confidence=0.99)
    assert 1 - at_least(high) == pytest.approx(0.01)


@pytest.mark.parametrize("fits", [20, 100, 1000, 10_000])
def test_what_a_perfect_attack_can_show(fits: int) -> None:
    """Half of the fits on each side, no error, 95 %: ln(x / (1 - x)) for x = 0.05^(1 / fits), nearly."""
    x = 0.05 ** (1 / fits)
    bound = epsilon_lower_bound(fits // 2, 0, fits // 2, delta=0, confidence=0.95)
    assert 0.95 * math.log(x / (1 - x)) < bound <= math.log(x / (1 - x))


def test_delta_counts() -> None:
    """At delta 0.1 a tenth of the hits is free."""
    bounds = [epsilon_lower_bound(80, 10, 100, delta=delta, confidence=0.99) for delta in (0.0, 0.1, 0.2, 0.7)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] < math.log(0.8 / 0.1)
    assert 1 < bounds[1] < math.log(0.7 / 0.1)
    assert bounds[-1] == 0


def test_calling_absent_counts_as_much_as_calling_present() -> None:
    assert epsilon_lower_bound(100, 60, 100, delta=0, confidence=0.95) == pytest.approx(
        epsilon_lower_bound(40, 0, 100, delta=0, confidence=0.95), rel=0.05
    )
    assert epsilon_lower_bound(100, 60, 100, delta=0, confidence=0.95) > 1


@pytest.mark.parametrize("counts", [(5, 5, 10), (0, 10, 10), (0, 0, 10), (10, 10, 10)])
def test_no_advantage_shows_nothing(counts: tuple[int, int, int]) -> None:
    assert epsilon_lower_bound(*counts, delta=0, confidence=0.95) == 0
    assert rho_lower_bound(*counts, confidence=0.95) == 0
    assert mu_lower_bound(*counts, confidence=0.95) == 0


@pytest.mark.parametrize("counts", [(11, 0, 10), (0, -1, 10), (0, 0, 0)])
def test_impossible_games_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="trials"):
        epsilon_lower_bound(*counts, delta=0, confidence=0.95)
    with pytest.raises(ValueError, match="trials"):
        rho_lower_bound(*counts, confidence=0.95)


@pytest.mark.parametrize(("delta", "confidence"), [(-0.1, 0.9), (1.0, 0.9), (0, 0), (0, 1)])
def test_settings_out_of_range_are_refused(delta: float, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"delta|confidence"):
        epsilon_lower_bound(5, 1, 10, delta=delta, confidence=confidence)


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(300, 0, 300), (250, 50, 300), (60, 0, 300), (300, 240, 300), (180, 100, 300)])
def test_a_bound_on_rho_is_below_what_the_rates_say(counts: tuple[int, int, int]) -> None:
    """Two ways to the same border: `tpr_bound` looks for the rate that a cost allows."""
    hits, false_alarms, trials = counts
    rho = Fraction(rho_lower_bound(*counts, confidence=0.95))
    assert rho > 0
    assert tpr_bound(Cost.zcdp(rho), (false_alarms + 0.5) / (trials + 1)) < (hits + 0.5) / (trials + 1)


def test_a_loss_of_rho_is_a_divergence_by_hand() -> None:
    """At order 1 it is the Kullback-Leibler divergence, and no other order shows more for these rates."""
    p, q = 0.8, 0.2
    by_hand = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    assert ZCDP.loss(p, q) == pytest.approx(by_hand, rel=1e-4)
    highest = ZCDP.highest(by_hand, np.array([q]))
    assert highest[0] == pytest.approx(p, abs=1e-4)


@pytest.mark.parametrize(
    ("mu", "epsilon"), [(0.142, 0.5), (0.268, 1.0), (0.502, 2.0), (0.925, 4.0), (1.666, 8.0), (2.0, 10.0)]
)
def test_gaussian_epsilon_is_the_analytic_one(mu: float, epsilon: float) -> None:
    """delta = 1e-5: Phi(mu / 2 - eps / mu) - e^eps Phi(-mu / 2 - eps / mu), by hand and as tabulated to three digits."""
    exact = gaussian_epsilon(mu, delta=1e-5)
    phi = NormalDist().cdf
    assert phi(mu / 2 - exact / mu) - math.exp(exact) * phi(-mu / 2 - exact / mu) == pytest.approx(1e-5, rel=1e-6)
    assert exact == pytest.approx(epsilon, abs=0.005)


def test_gaussian_epsilon_at_its_ends() -> None:
    assert gaussian_epsilon(0.0, delta=1e-5) == 0
    assert gaussian_epsilon(1e-6, delta=1e-5) == 0
    assert gaussian_epsilon(40.0, delta=1e-9) > 800
    with pytest.raises(ValueError, match="delta"):
        gaussian_epsilon(1.0, delta=0.0)


def test_mu_is_the_distance_of_two_quantiles() -> None:
    normal = NormalDist()
    estimate = normal.inv_cdf(0.9) - normal.inv_cdf(0.2)
    assert 0.75 * estimate < mu_lower_bound(90, 20, 100, confidence=0.95) < estimate
    assert mu_lower_bound(9000, 2000, 10_000, confidence=0.95) == pytest.approx(estimate, rel=0.03)
