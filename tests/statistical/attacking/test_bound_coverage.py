"""Lower bounds lie above the truth at most as often as they say, on mechanisms whose loss is known.

Each case simulates 2,000 audits at 95 %. With bounds that fail exactly 5 % of the time more than `MOST` failures come
with a chance of 1e-3 on a fresh seed; the seeds are fixed. Wrong bounds are shown to fail the same rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from attacks.canary import Claim
from attacks.intervals import ZCDP, epsilon_lower_bound, gaussian_epsilon, mu_lower_bound, rho_lower_bound
from attacks.one_run import contradicted, epsilon_shown, guesses_for, p_value
from attacks.tradeoff import Approximate, Family, Gaussian, contradicts, limit_at_ranks
from dpsynth import Cost, tpr_bound

AUDITS, CONFIDENCE = 2_000, 0.95
MOST = int(stats.binom.isf(1e-3, AUDITS, 1 - CONFIDENCE))
Scores = npt.NDArray[np.float64]


def response(epsilon: float, delta: float = 0.0) -> tuple[float, float]:
    """The rates of randomised response that gives everything away with probability delta, at its best guess."""
    right = math.exp(epsilon) / (1 + math.exp(epsilon))
    return delta + (1 - delta) * right, (1 - delta) * (1 - right)


def failures(
    rates: tuple[float, float], trials: int, bound: Callable[[int, int, int], float], truth: float, *, seed: int
) -> int:
    """How many of the simulated audits give a bound above the truth."""
    rng = np.random.default_rng(seed)
    hits, alarms = (rng.binomial(trials, rate, AUDITS).tolist() for rate in rates)
    counts = list(zip(hits, alarms, strict=True))
    above = {c: bound(*c, trials) > truth for c in set(counts)}
    return sum(above[c] for c in counts)


def test_the_rule_is_strict() -> None:
    assert MOST == 131
    assert stats.binom.cdf(MOST, AUDITS, 0.08) < 0.01  # a bound that fails 8 % of the time is found out


@pytest.mark.slow
@pytest.mark.parametrize("trials", [25, 60])
@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 0.0), (2.0, 0.0), (1.0, 0.1)])
def test_epsilon_of_randomised_response(epsilon: float, delta: float, trials: int) -> None:
    """The worst that (epsilon, delta) allows: the bound is sharp here, so it fails nearly as often as it may."""

    def bound(hits: int, alarms: int, games: int, confidence: float = CONFIDENCE) -> float:
        return epsilon_lower_bound(hits, alarms, games, delta=delta, confidence=confidence)

    failed = failures(response(epsilon, delta), trials, bound, epsilon, seed=1)
    assert 0.1 * MOST < failed <= MOST


@pytest.mark.slow
@pytest.mark.parametrize("mu", [0.45, 1.5])
@pytest.mark.parametrize("threshold", [0.1, 0.5])
def test_mu_of_gaussian_noise(mu: float, threshold: float) -> None:
    rates = float(stats.norm.sf((threshold - 1) * mu)), float(stats.norm.sf(threshold * mu))
    failed = failures(rates, 60, lambda *c: mu_lower_bound(*c, confidence=CONFIDENCE), mu, seed=2)
    assert 0.1 * MOST < failed <= MOST


@pytest.mark.slow
@pytest.mark.parametrize("delta", [1e-2, 1e-1])
def test_epsilon_of_gaussian_noise_at_its_delta(delta: float) -> None:
    """Its exact epsilon; no threshold shows all of it, so failures are rarer."""
    mu = 1.5
    rates = float(stats.norm.sf(-0.5 * mu)), float(stats.norm.sf(0.5 * mu))
    truth = gaussian_epsilon(mu, delta=delta)
    failed = failures(rates, 40, lambda *c: epsilon_lower_bound(*c, delta=delta, confidence=CONFIDENCE), truth, seed=3)
    assert failed <= MOST


@pytest.mark.slow
def test_rho_of_gaussian_noise() -> None:
    rates = float(stats.norm.sf(-0.5)), float(stats.norm.sf(0.5))
    rng = np.random.default_rng(4)
    counts = list(zip(*(rng.binomial(40, rate, 30).tolist() for rate in rates), strict=True))
    bounds = {c: rho_lower_bound(*c, 40, confidence=CONFIDENCE) for c in set(counts)}
    assert sum(bounds[c] > 0.5 for c in counts) == 0


@pytest.mark.slow
def test_wrong_bounds_would_be_noticed() -> None:
    """The estimate itself, and a bound at a tenth of its confidence's error too much."""

    def estimate(hits: int, alarms: int, trials: int) -> float:
        return Approximate(0.0).loss((hits + 0.5) / (trials + 1), (alarms + 0.5) / (trials + 1))

    assert failures(response(1.0), 60, estimate, 1.0, seed=5) > MOST
    sure = lambda *c: epsilon_lower_bound(*c, delta=0.0, confidence=0.85)  # noqa: E731
    assert failures(response(1.0), 60, sure, 1.0, seed=5) > MOST
    ignored = lambda *c: epsilon_lower_bound(*c, delta=0.0, confidence=CONFIDENCE)  # noqa: E731
    assert failures(response(0.5, 0.3), 60, ignored, 0.5, seed=5) > MOST  # delta forgotten


# ---- by hand -------------------------------------------------------------------------------------------------------


def exact_chance(region: npt.NDArray[np.bool_], tpr: float, fpr: float) -> float:
    n = len(region) - 1
    counts = np.arange(n + 1)
    return float(stats.binom.pmf(counts, n, tpr) @ region @ stats.binom.pmf(counts, n, fpr))


@pytest.mark.parametrize("family", [Approximate(0.0), Approximate(0.05), Gaussian()], ids=repr)
@pytest.mark.parametrize("loss", [0.7, 1.4])
def test_no_pair_of_rates_on_the_curve_is_rejected_too_often(family: Family, loss: float) -> None:
    """Every outcome of 12 games a side, every pair of rates: not simulated but added up."""
    n = 12
    region = np.array(
        [
            [
                contradicts(h, f, n, lambda q: family.highest(loss, q), order=family, confidence=CONFIDENCE)
                for f in range(n + 1)
            ]
            for h in range(n + 1)
        ]
    )
    assert region.any()
    fpr = np.linspace(0, 1, 201)
    tpr = family.highest(loss, fpr)
    chances = [exact_chance(region, p, q) for p, q in zip(tpr, fpr, strict=True)]
    assert max(chances) <= 1 - CONFIDENCE
    assert max(chances) > 0.2 * (1 - CONFIDENCE)
    below = [exact_chance(region, max(p - 0.1, q), q) for p, q in zip(tpr, fpr, strict=True) if p > q]
    assert max(below) <= 1 - CONFIDENCE


def test_a_perfect_game_shows_what_it_can() -> None:
    """n right guesses on each side have a chance of right^(2 n) under randomised response."""
    for n in (10, 60, 300):
        right = 0.001 ** (1 / (2 * n))
        possible = math.log(right / (1 - right))
        assert 0.95 * possible < epsilon_lower_bound(n, 0, n, delta=0.0, confidence=0.999) <= possible


def test_the_joint_test_beats_two_limits() -> None:
    """Clopper-Pearson limits of both rates, each with half of the error, need about twice as many games."""

    def two_limits(hits: int, alarms: int, trials: int) -> float:
        low = stats.beta.ppf(0.0005, hits, trials - hits + 1)
        high = stats.beta.ppf(0.9995, alarms + 1, trials - alarms)
        return Gaussian().loss(float(low), float(high))

    for share in (0.6, 0.7, 0.9):
        n = 400
        hits, alarms = round(share * n), round((1 - share) * n)
        joint = mu_lower_bound(hits, alarms, n, confidence=0.999)
        assert joint > two_limits(hits, alarms, n)
        assert joint > 0.95 * two_limits(round(share * 1.9 * n), round((1 - share) * 1.9 * n), round(1.9 * n))


@pytest.mark.parametrize("cost", [Cost.zcdp(Fraction(1, 10)), Cost.zcdp(Fraction(2)), Cost.approximate(1, "0.01")])
def test_a_claims_curve_is_that_of_its_cost(cost: Cost) -> None:
    """`highest` may allow more than `tpr_bound` by rounding; that it allows less is due to orders near one."""
    claim = Claim(epsilon=50.0, delta=0.02, cost=cost)
    fpr = np.random.default_rng(0).random(40) ** 3
    bound = np.array([tpr_bound(cost, float(q)) for q in fpr])
    assert np.abs(claim.highest(fpr) - bound).max() < 5e-3
    if cost.is_zcdp:
        truth = stats.norm.cdf(stats.norm.ppf(fpr) + math.sqrt(2 * cost.rho))
        assert (claim.highest(fpr) >= truth).all()  # Gaussian noise of that rho keeps the promise
    else:
        assert (claim.highest(fpr) >= bound).all()


# ---- many thresholds -----------------------------------------------------------------------------------------------


def some_threshold_contradicts(absent: Scores, present: Scores, mu: float) -> bool:
    """Whether any threshold, tested as if it had been chosen beforehand, contradicts the truth: as some tools do it."""
    n = len(absent)
    counts = {(int((present > t).sum()), int((absent > t).sum())) for t in np.concatenate([absent, present])}
    curve = lambda fpr: Gaussian().highest(mu, fpr)  # noqa: E731
    return any(contradicts(h, f, n, curve, order=Gaussian(), confidence=CONFIDENCE) for h, f in counts)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "two-valued", "ties"])
def test_limits_at_ranks_hold(kind: str) -> None:
    rng = np.random.default_rng(6)
    mu, n, failed, audits = 1.0, 50, 0, 400
    for _ in range(audits):
        absent, present = rng.normal(0, 1, n), rng.normal(mu, 1, n)
        if kind == "two-valued":
            absent, present = (absent > 0.5).astype(float), (present > 0.5).astype(float)
        elif kind == "ties":
            absent, present = np.round(absent), np.round(present)
        failed += limit_at_ranks(absent, present, Gaussian(), confidence=CONFIDENCE) > mu
    assert failed <= stats.binom.isf(1e-3, audits, 1 - CONFIDENCE)


@pytest.mark.slow
def test_the_best_of_all_thresholds_does_not_hold() -> None:
    rng = np.random.default_rng(7)
    mu, n, audits = 0.5, 25, 60
    failed = sum(some_threshold_contradicts(rng.normal(0, 1, n), rng.normal(mu, 1, n), mu) for _ in range(audits))
    assert failed > stats.binom.isf(1e-3, audits, 1 - CONFIDENCE)


def test_ranks_show_most_of_what_is_there() -> None:
    rng = np.random.default_rng(8)
    shown = [
        limit_at_ranks(rng.normal(0, 1, 350), rng.normal(1.4, 1, 350), Gaussian(), confidence=0.999) for _ in range(9)
    ]
    assert np.median(shown) > 0.9
    assert limit_at_ranks(np.zeros(60), np.ones(60), Gaussian(), confidence=0.999) > 2
    assert limit_at_ranks(np.zeros(60), np.zeros(60), ZCDP, confidence=0.999) == 0
    with pytest.raises(ValueError, match="equally many"):
        limit_at_ranks(np.zeros(3), np.zeros(4), ZCDP, confidence=0.9)


# ---- one run -------------------------------------------------------------------------------------------------------


def test_one_run_of_randomised_response() -> None:
    """Each coin is told rightly with probability e^eps / (1 + e^eps): the worst there is, and sharp without delta."""
    rng = np.random.default_rng(9)
    for epsilon in (0.5, 2.0):
        correct = rng.binomial(100, math.exp(epsilon) / (1 + math.exp(epsilon)), AUDITS).tolist()
        shown = {v: epsilon_shown(100, 100, v, delta=0.0, confidence=CONFIDENCE) for v in set(correct)}
        failed = sum(shown[v] > epsilon for v in correct)
        assert 0.3 * MOST < failed <= MOST
        wrong = {v: epsilon_shown(100, 100, v, delta=0.0, confidence=0.85) for v in set(correct)}
        assert sum(wrong[v] > epsilon for v in correct) > MOST


def test_one_run_that_gives_away_everything_with_probability_delta() -> None:
    """All coins at once with probability delta: what the delta term is there for."""
    rng = np.random.default_rng(10)
    persons, guesses, epsilon, delta = 60, 60, 1.0, 0.1
    right = rng.binomial(guesses, math.exp(epsilon) / (1 + math.exp(epsilon)), AUDITS)
    correct = np.where(rng.random(AUDITS) < delta, guesses, right)
    failed = sum(p_value(persons, guesses, int(v), epsilon=epsilon, delta=delta) <= 0.05 for v in correct)
    assert failed <= MOST
    forgotten = sum(p_value(persons, guesses, int(v), epsilon=epsilon, delta=0.0) <= 0.05 for v in correct)
    assert forgotten > MOST


@pytest.mark.parametrize(("persons", "guesses", "correct", "delta"), [(100, 50, 45, 0.0), (400, 100, 95, 1e-5)])
def test_one_run_by_hand(persons: int, guesses: int, correct: int, delta: float) -> None:
    """The corollary's formula, term by term."""
    epsilon = 1.3
    right = math.exp(epsilon) / (1 + math.exp(epsilon))
    mass = [math.comb(guesses, w) * right**w * (1 - right) ** (guesses - w) for w in range(guesses + 1)]
    tail = sum(mass[correct:])
    worst = max(sum(mass[correct - i : correct]) / i for i in range(1, correct + 1))
    expected = tail + 2 * persons * delta * worst
    assert p_value(persons, guesses, correct, epsilon=epsilon, delta=delta) == pytest.approx(expected, rel=1e-9)


def test_what_perfect_guesses_can_show() -> None:
    """ln(x / (1 - x)) for x = 0.05^(1 / r), as tabulated to two digits."""
    for guesses, shown in ((20, 1.82), (50, 2.78), (100, 3.49), (1000, 5.81)):
        assert epsilon_shown(guesses, guesses, guesses, delta=0.0, confidence=0.95) == pytest.approx(shown, abs=0.006)


def test_a_claim_with_a_curve_is_held_to_all_of_it() -> None:
    """At delta 1e-2 nothing can be shown with 400 coins; the same cost at a smaller delta can be contradicted."""
    cost = Cost.zcdp(Fraction(1, 10))
    curve, bare = Claim.of(cost, delta=1e-2), Claim(epsilon=1.0, delta=1e-2)
    assert not contradicted(bare, 400, 100, 100, confidence=0.999)
    assert contradicted(curve, 400, 100, 100, confidence=0.999)
    assert not contradicted(curve, 400, 100, 85, confidence=0.999)
    assert guesses_for(curve, 400, confidence=0.999) == 120  # twice as many as a perfect attacker needs
    assert guesses_for(bare, 400, confidence=0.999) == 100
