"""Batches are Poisson batches of the stated rate and noise has the stated size, and less of either is noticed.

Seeds are fixed, so a test passes always or never. On a fresh seed a correct program fails each with a chance below
`FALSE_ALARM`.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from dpsynth.mechanisms.dp_sgd import SampledGaussian, gaussian

FALSE_ALARM = 1e-9
PERSONS, BATCHES = 400, 4_000
Batches = npt.NDArray[np.bool_]


def mechanism(rate: str = "1/20", noise: str = "3", clip: float = 2.0) -> SampledGaussian:
    return SampledGaussian(noise_multiplier=Fraction(noise), rate=Fraction(rate), steps=1, clip=clip)


def binomial_p_value(sizes: npt.NDArray[np.int64], rate: float) -> float:
    """Chance that sizes of Poisson batches are as far from binomial, in mean or in spread, as these."""
    mean, variance = PERSONS * rate, PERSONS * rate * (1 - rate)
    first = 2 * stats.norm.sf(abs(sizes.mean() - mean) / np.sqrt(variance / len(sizes)))
    spread = ((sizes - mean) ** 2).sum() / variance
    kurtosis = 2 + (1 - 6 * rate * (1 - rate)) / variance  # variance of one squared standardised size
    second = 2 * stats.norm.sf(abs(spread - len(sizes)) / np.sqrt(kurtosis * len(sizes)))
    return 2 * float(min(first, second))


def poisson(rate: str) -> Callable[[Any], Batches]:
    return lambda rng: np.array([mechanism(rate).batch(PERSONS, rng=rng) for _ in range(BATCHES)])


def fixed_size(rng: Any) -> Batches:
    """Planted: batches of exactly the expected size, accounted as Poisson batches."""
    order = np.argsort(rng.words(PERSONS * BATCHES).reshape(BATCHES, PERSONS), axis=1)
    return order < PERSONS // 20


def test_batches_are_poisson_batches_of_the_stated_rate(seeded: Any) -> None:
    batches = poisson("1/20")(seeded(1))
    assert binomial_p_value(batches.sum(axis=1), 0.05) > FALSE_ALARM
    each = batches.sum(axis=0)  # nobody is favoured: a chi-square over persons
    assert stats.chi2.sf(((each - BATCHES * 0.05) ** 2 / (BATCHES * 0.0475)).sum(), PERSONS) > FALSE_ALARM
    together = batches[:, :-1] & batches[:, 1:]  # and coins of neighbours are independent
    assert stats.binomtest(int(together.sum()), together.size, 0.05**2).pvalue > FALSE_ALARM
    following = batches[:-1] & batches[1:]
    assert stats.binomtest(int(following.sum()), following.size, 0.05**2).pvalue > FALSE_ALARM


@pytest.mark.parametrize("planted", [fixed_size, poisson("106/2000"), poisson("94/2000")])
def test_batches_of_another_kind_are_noticed(planted: Callable[[Any], Batches], seeded: Any) -> None:
    assert binomial_p_value(planted(seeded(1)).sum(axis=1), 0.05) < FALSE_ALARM


def chi_square_p_value(noise: npt.NDArray[np.float64], sigma: float) -> float:
    total = float((noise**2).sum()) / sigma**2
    return 2 * float(min(stats.chi2.sf(total, len(noise)), stats.chi2.cdf(total, len(noise))))


def test_noise_has_the_stated_size_and_shape(seeded: Any) -> None:
    m = mechanism()
    noise = m.add_noise(np.full(200_000, 0.7), rng=seeded(7)) - 0.7
    assert m.sigma == 6
    assert chi_square_p_value(noise, 6.0) > FALSE_ALARM
    assert chi_square_p_value(noise, 6.0 / 0.97) < FALSE_ALARM  # 3 % too quiet is noticed
    assert chi_square_p_value(noise, 6.0 * 0.97) < FALSE_ALARM
    assert stats.kstest(noise / 6, "norm").pvalue > FALSE_ALARM
    assert stats.kstest(noise / 6, "t", args=(40,)).pvalue < stats.kstest(noise / 6, "norm").pvalue
    pairs = np.corrcoef(noise[:-1], noise[1:])[0, 1] * np.sqrt(len(noise))
    assert 2 * stats.norm.sf(abs(pairs)) > FALSE_ALARM


def test_the_tails_of_the_noise_are_there(seeded: Any) -> None:
    draws = gaussian(2_000_000, rng=seeded(3))
    for height in (3.0, 4.0, 4.5):
        beyond = int((np.abs(draws) > height).sum())
        assert stats.binomtest(beyond, len(draws), 2 * stats.norm.sf(height)).pvalue > FALSE_ALARM
    assert np.isfinite(draws).all()
