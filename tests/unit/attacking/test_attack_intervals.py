"""Intervals against published numbers and slow recomputation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from attacks.intervals import (
    Interval,
    Rate,
    area,
    clopper_pearson,
    control_persons_needed,
    difference,
    excess_interval,
    noisy_rate_interval,
)


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
