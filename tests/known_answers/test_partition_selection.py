"""The tail and the threshold of partition selection against sums of the exact probabilities, with 50 digits."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import mpmath
import pytest

from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.mechanisms.partition_selection import PartitionSelection, tail, threshold

VARIANCES = [Fraction(v) for v in ("0.001", "0.04", "0.3", "1", "2.5", "17/3", "100", "4000.1", "90000")]


@pytest.fixture(autouse=True)
def _fifty_digits() -> None:
    mpmath.mp.dps = 50


def _mp(value: Fraction) -> mpmath.mpf:
    return mpmath.mpf(value.numerator) / value.denominator


@cache
def exact_tails(variance: Fraction) -> list[mpmath.mpf]:
    """P(Z >= t) for t = 0, 1, ... 40 standard deviations and more: sums of exp(-z^2 / (2 variance)), smallest first."""
    with mpmath.workdps(50):
        q, weights = mpmath.exp(-1 / (2 * _mp(variance))), [mpmath.mpf(1)]
        step = q
        for _ in range(40 * (int(variance**0.5) + 1)):  # weights[z + 1] = weights[z] * q^(2 z + 1)
            weights.append(weights[-1] * step)
            step *= q * q
        sums = [mpmath.mpf(0)]
        for weight in reversed(weights):
            sums.append(sums[-1] + weight)
        sums.reverse()  # sums[t] is the weight of all z >= t
        total = 2 * sums[1] + 1
        return [part / total for part in sums[:-1]]


def test_the_judge_agrees_with_the_theta_function() -> None:
    for variance in VARIANCES[1:]:
        q = mpmath.exp(-1 / (2 * _mp(variance)))
        assert exact_tails(variance)[0] == pytest.approx((1 + 1 / mpmath.jtheta(3, 0, q)) / 2, rel=1e-20)


@pytest.mark.parametrize("variance", VARIANCES, ids=str)
def test_the_tail_is_never_below_the_exact_one_and_close_to_it(variance: Fraction) -> None:
    exact, sigma = exact_tails(variance), float(variance) ** 0.5
    most = int(30 * sigma) + 3
    for t in sorted({*range(1, min(most, 40)), *range(1, most, max(1, most // 60))}):
        bound = _mp(tail(variance, t))
        assert bound >= exact[t], t
        if variance >= 1 and t >= 3 * sigma:
            assert bound <= exact[t] * mpmath.mpf("1.1"), t


@pytest.mark.parametrize("least", [1, 10**4, 10**9, 10**15])
@pytest.mark.parametrize("variance", [Fraction(1, 10**6), Fraction(1), Fraction(10**20), Fraction(10**40)], ids=str)
def test_the_tail_is_an_upper_bound_at_any_size(variance: Fraction, least: int) -> None:
    """Even where digits run out: it is never 0, and for noise far wider than the threshold it is at least a third."""
    bound = tail(variance, least)
    assert 0 < bound <= 1
    if variance >= 100 * least**2:
        assert bound >= Fraction(1, 3)
    assert tail(variance, least + 1) <= bound


@pytest.mark.parametrize("chance", ["0.4", "0.05", "1e-3", "1e-6", "1e-8", "1e-12", "1e-20"])
@pytest.mark.parametrize("variance", VARIANCES, ids=str)
def test_the_threshold_is_the_least_that_is_proven_and_near_the_least_there_is(variance: Fraction, chance: str) -> None:
    found = threshold(variance, Fraction(chance))
    assert tail(variance, found) <= Fraction(chance)
    assert found == 1 or tail(variance, found - 1) > Fraction(chance)
    exact = exact_tails(variance)
    optimum = next(t for t in range(1, len(exact)) if exact[t] <= _mp(Fraction(chance)))
    assert optimum <= found
    if Fraction(chance) <= Fraction(1, 10**6):  # as in every release: a tenth of a tenth of delta, and less
        assert found <= optimum + 3


def test_a_planted_bound_that_is_too_low_is_noticed() -> None:
    """The Gaussian tail of the same variance, for which the discrete one is sometimes taken, is below the exact one."""
    exact = exact_tails(Fraction(1))
    gaussian = [mpmath.erfc(t / mpmath.sqrt(2)) / 2 for t in range(8)]
    assert all(wrong < right for wrong, right in zip(gaussian[1:], exact[1:8], strict=True))


@pytest.mark.parametrize("values", [1, 2, 5, 100])
@pytest.mark.parametrize("rho", ["0.0003", "0.024", "1"])
def test_what_is_calibrated_costs_no_more_than_was_given_and_hardly_less(rho: str, values: int) -> None:
    delta0 = Fraction("1e-8")
    made = PartitionSelection.calibrated(rho=Fraction(rho), delta0=delta0, l2_squared=2 * values, values=values)
    cost = made.cost(l2_squared=2 * values, values=values)
    assert cost.is_zcdp
    assert Fraction(rho) * Fraction(999, 1000) < cost.rho <= Fraction(rho)
    assert cost.rho == Fraction(2 * values) / (2 * made.noise.sigma_squared)
    assert 0 < cost.delta0 <= delta0
    assert cost.delta0 == values * tail(made.noise.sigma_squared, made.least - 1)
    lower = PartitionSelection(noise=DiscreteGaussian(sigma_squared=made.noise.sigma_squared), least=made.least - 1)
    assert lower.cost(l2_squared=2 * values, values=values).delta0 > delta0
