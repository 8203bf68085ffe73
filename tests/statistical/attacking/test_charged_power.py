"""Published attacks: rare successes where nothing leaked, many where something did, on tables that look real."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from attacks import charged_results, excess_interval, qualified_tests
from dpsynth import AttackCounts, PersonRecords, Records

NAMES = ("exact_match", "membership", "linkage", "attribute_inference")


def rates(synthetic: Records, *sides: PersonRecords) -> dict[str, list[float]]:
    return {test.id: [float(test.succeeds(side).mean()) for side in sides] for test in qualified_tests(synthetic)}


@pytest.mark.parametrize("rows", [1, 4])
def test_successes_are_rare_where_nothing_leaked(tables: ModuleType, rows: int) -> None:
    rng = np.random.default_rng(31)
    sample = tables.split(tables.population(3000, rng, rows=rows), rng, control=0.4)
    fresh = tables.population(1800, rng, rows=rows).records
    for synthetic in (fresh, tables.CLEAN["G2"](sample, fresh, rng)):
        for name, (fit, control) in rates(synthetic, sample.fit, sample.control).items():
            assert control < 0.08, name
            assert abs(fit - control) < 0.03, name


@pytest.mark.parametrize("leak", ["B2", "B2 cells", "B4 10%"])
@pytest.mark.parametrize("rows", [1, 4])
def test_copies_make_a_large_excess_for_each_attack(tables: ModuleType, rows: int, leak: str) -> None:
    rng = np.random.default_rng(32)
    sample = tables.split(tables.population(3000 // rows, rng, rows=rows), rng, control=0.4)
    synthetic = tables.LEAKS[leak](sample, sample.fit.records, rng)
    for name, (fit, control) in rates(synthetic, sample.fit, sample.control).items():
        assert control < 0.10, name
        assert fit - control > 0.25, name


def test_oversampling_does_not_hide_a_copy(tables: ModuleType) -> None:
    """Every row repeated ten times is no common row: the tree of pairs would not repeat it."""
    rng = np.random.default_rng(33)
    sample = tables.split(tables.population(1000, rng), rng, control=0.4)
    fit = sample.fit.records
    synthetic = fit.take(rng.integers(len(fit), size=10 * len(fit)))
    found = rates(synthetic, sample.fit, sample.control)
    for name in ("exact_match", "membership", "linkage"):
        assert found[name][0] - found[name][1] > 0.25, name


def counts(hits: np.ndarray, persons: tuple[int, int], sigma: float, rng: np.random.Generator) -> AttackCounts:
    noisy = np.rint(hits + rng.normal(0, sigma, hits.shape)).astype(np.int64)
    sizes = [round(n + float(rng.normal(0, sigma))) for n in persons]
    return AttackCounts(
        tests=NAMES,
        hits_fit=noisy[0],
        hits_control=noisy[1],
        persons_fit=sizes[0],
        persons_control=sizes[1],
        sigma=sigma,
    )


def test_noisy_counts_become_rates_and_an_excess() -> None:
    rng = np.random.default_rng(34)
    hits = np.array([[3000.0, 100.0, 0.0, 1500.0], [50.0, 70.0, 0.0, 60.0]])
    for result, fit, control in zip(charged_results(counts(hits, (3547, 2365), 40.0, rng)), *hits, strict=True):
        assert result is not None
        assert result.fit == pytest.approx(fit / 3547, abs=0.05)
        assert result.control == pytest.approx(control / 2365, abs=0.06)
        assert result.excess == pytest.approx(result.fit - result.control)
        assert result.excess in result.interval
        assert 0 <= result.control_at_most <= 1
        assert result.control_at_most > result.control
        assert result.success


def test_too_few_persons_for_the_noise_give_nothing() -> None:
    rng = np.random.default_rng(35)
    results = charged_results(counts(np.zeros((2, 4)), (50, 30), 40.0, rng))
    assert results == (None, None, None, None)


@pytest.mark.parametrize("rate", [0.005, 0.02])
def test_an_honest_release_stays_below_a_tenth(rate: float) -> None:
    """At the demo's size: 3,547 and 2,365 persons, noise of 40, one end at 95 %. The chance to fail is about 1 in 1000.

    Of 20,000 releases 20 would fail; more than 45 have a chance below 10^-6 if the rate is 0.001.
    """
    rng = np.random.default_rng(36)
    releases, n, m = 20_000, 3547, 2365
    hits = [rng.binomial(k, rate, releases) + np.rint(rng.normal(0, 40, releases)) for k in (n, m)]
    sizes = [k + np.rint(rng.normal(0, 40, releases)) for k in (n, m)]
    failed = 0
    for fit, control, ours, theirs in zip(*hits, *sizes, strict=True):
        interval = excess_interval(int(fit), int(control), int(ours), int(theirs), 40.0, 0.90)
        assert interval is not None
        failed += interval.high > 0.10
    assert failed <= 45
