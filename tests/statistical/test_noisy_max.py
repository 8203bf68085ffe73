"""Private selection: its frequencies against the softmax of the scores, its cost against OpenDP and against the truth.

The winner's coins are OpenDP's, from the system's entropy: the statistical tests are fresh draws in each run and fail
wrongly with probability FALSE_ALARM each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dpsynth.mechanisms.noisy_max import NoisyMax, opendp_noisy_max
from dpsynth.privacy import ORDERS, Cost

FALSE_ALARM = 1e-9
DRAWS = 6_000

Floats = npt.NDArray[np.float64]


def softmax(scores: Sequence[int], scale: Fraction) -> Floats:
    powers = np.array(scores, dtype=float) / float(scale)
    chances: Floats = np.exp(powers - powers.max())
    return chances / chances.sum()


def frequency_p_value(counts: npt.NDArray[np.int64], chances: Floats) -> float:
    """Chi-square over the outcomes that are expected 100 times and more, the others together as one."""
    expected = chances * counts.sum()
    rare = expected < 100
    seen = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] < 100:  # too few for chi-square: an exact test, and the rest without them
        p_rare = stats.binomtest(int(seen[-1]), int(counts.sum()), min(1.0, float(expected[-1] / counts.sum()))).pvalue
        seen, expected = seen[:-1], expected[:-1] * (seen[:-1].sum() / max(1e-300, expected[:-1].sum()))
    else:
        p_rare = 1.0
    statistic = ((seen - expected) ** 2 / expected).sum()
    p_value = stats.chi2.sf(statistic, len(seen) - 1) if len(seen) > 1 else 1.0
    return float(min(1.0, 2 * min(p_value, p_rare)))


GAMES = {  # scores, scale
    "even": ((5, 5, 5, 5), Fraction(2)),
    "graded": ((0, 1, 2, 3, 4, 5), Fraction(2)),
    "one ahead": ((10, 0, 0, 0), Fraction(6)),
    "negative": ((-30, -20, -25), Fraction(23, 4)),
    "fine scale": ((100, 101, 105), Fraction(601, 256)),
    "large": ((10**6, 10**6 + 4_000, 10**6 + 9_000), Fraction(5_000)),
}


def _play(mechanism: NoisyMax, scores: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.bincount([mechanism.pick(scores) for _ in range(DRAWS)], minlength=len(scores))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in ("graded", "negative") else pytest.mark.slow) for name in GAMES]
)
def test_frequencies_are_the_softmax_of_the_scores(name: str) -> None:
    scores, scale = GAMES[name]
    counts = _play(NoisyMax(scale=scale), scores)
    assert frequency_p_value(counts, softmax(scores, scale)) > FALSE_ALARM
    if name != "even":  # a scale off by a half is noticed, except with probability below 1e-9
        for factor in (Fraction(1, 3), Fraction(2, 3), Fraction(3, 2), Fraction(3)):
            assert frequency_p_value(counts, softmax(scores, scale * factor)) < FALSE_ALARM


@pytest.mark.slow
def test_a_favoured_place_is_noticed() -> None:
    scores, scale = GAMES["even"]
    counts = _play(NoisyMax(scale=scale), scores)
    favoured = counts.copy()
    favoured[0], favoured[-1] = counts[0] + counts[-1] // 4, counts[-1] - counts[-1] // 4
    assert frequency_p_value(favoured, softmax(scores, scale)) < FALSE_ALARM


# ---- cost ----------------------------------------------------------------------------------------------------------

SCALES = [Fraction(1, 256), Fraction(1), Fraction(7, 4), Fraction(10), Fraction(1317, 256), Fraction(12_345_678, 256)]


@pytest.mark.parametrize("sensitivity", [1, 2, 5, 10])
@pytest.mark.parametrize("scale", SCALES)
def test_the_cost_is_opendp_s_own_and_never_below(scale: Fraction, sensitivity: int) -> None:
    import opendp.domains as domains
    import opendp.measurements as measurements
    import opendp.measures as measures
    import opendp.metrics as metrics
    import opendp.mod as mod

    mod.enable_features("contrib")
    theirs = measurements.make_noisy_max(
        domains.vector_domain(domains.atom_domain(T="i64")),
        metrics.linf_distance(T="i64", monotonic=False),
        measures.zero_concentrated_divergence(),
        scale=float(scale),
    ).map(sensitivity)
    ours = float(NoisyMax(scale=scale).cost(sensitivity=sensitivity).rho)
    assert opendp_noisy_max(scale).map(sensitivity) == theirs  # of the very measurement that makes the choice
    assert theirs * (1 - 1e-12) <= ours <= theirs * (1 + 1e-9)  # theirs is a float, rounded up


def covers(cost: Cost, scale: Fraction, scores: Sequence[int], moved: Sequence[int]) -> bool:
    """Whether a cost bounds the exact Renyi divergence of two selections, in both directions, at every order."""
    p, q = np.log(softmax(scores, scale)), np.log(softmax(moved, scale))
    for order, nano in zip(ORDERS, cost.curve(), strict=True):
        a = float(order)
        for x, y in ((p, q), (q, p)):
            divergence = np.logaddexp.reduce(a * x + (1 - a) * y) / (a - 1)
            if divergence > nano * 1e-9 * (1 + 1e-9) + 1e-9:
                return False
    return True


neighbours = st.integers(1, 5).flatmap(
    lambda sensitivity: st.tuples(
        st.just(sensitivity),
        st.lists(st.tuples(st.integers(-30, 30), st.integers(-sensitivity, sensitivity)), min_size=1, max_size=6),
    )
)


@given(neighbours, st.integers(64, 5_000))
@settings(max_examples=50)
def test_the_cost_bounds_what_a_move_of_every_score_reveals(
    game: tuple[int, list[tuple[int, int]]], steps: int
) -> None:
    sensitivity, pairs = game
    scale = Fraction(steps, 256)
    cost = NoisyMax(scale=scale).cost(sensitivity=sensitivity)
    assert covers(cost, scale, [score for score, _ in pairs], [score + move for score, move in pairs])


def test_the_one_sided_factor_is_noticed_when_scores_move_apart() -> None:
    """Half of the scores rise and half fall, as L1 distances of marginals do: the cost for monotone scores is a lie."""
    scale, sensitivity = Fraction(4), 2
    scores, moved = [0, 0], [sensitivity, -sensitivity]
    honest = NoisyMax(scale=scale).cost(sensitivity=sensitivity)
    one_sided = Cost.zcdp(Fraction(sensitivity**2) / (8 * scale**2))
    assert covers(honest, scale, scores, moved)
    assert not covers(one_sided, scale, scores, moved)
    assert covers(one_sided, scale, scores, [sensitivity, 0])  # where it would have been right: one score moves
    assert not covers(honest, scale / 3, scores, moved)  # a third of the noise


def test_the_cost_is_tight_for_small_moves() -> None:
    """At order near 1 and little privacy loss, half of rho would not do."""
    scale = Fraction(50)
    honest = NoisyMax(scale=scale).cost(sensitivity=1)
    assert covers(honest, scale, [0, 0], [1, -1])
    assert not covers(honest.share(Fraction(9, 10)), scale, [0, 0], [1, -1])


# ---- calibration ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sensitivity", [1, 2, 5, 10])
@pytest.mark.parametrize("rho", ["1e-12", "1e-7", "0.00021", "0.01", "1/3", "2", "1000000"])
def test_calibration_takes_the_smallest_scale_that_the_budget_allows(rho: str, sensitivity: int) -> None:
    allowed = Fraction(rho)
    mechanism = NoisyMax.calibrated(rho=allowed, sensitivity=sensitivity)
    assert mechanism.cost(sensitivity=sensitivity).rho <= allowed
    assert mechanism.cost(sensitivity=sensitivity).is_zcdp
    if mechanism.scale > Fraction(1, 256):
        quieter = NoisyMax(scale=mechanism.scale - Fraction(1, 256))
        assert quieter.cost(sensitivity=sensitivity).rho > allowed


@given(st.fractions(Fraction(1, 10**9), 100), st.integers(1, 20))
def test_calibration_never_passes_the_budget(rho: Fraction, sensitivity: int) -> None:
    mechanism = NoisyMax.calibrated(rho=rho, sensitivity=sensitivity)
    assert mechanism.cost(sensitivity=sensitivity).rho <= rho
    assert float(mechanism.scale) == mechanism.scale  # OpenDP is given exactly this scale


@pytest.mark.parametrize("scale", ["0", "-1", "1/3", "1/512", str(2**44)])
def test_a_scale_that_opendp_would_not_get_exactly_is_refused(scale: str) -> None:
    with pytest.raises(ValueError, match="scale"):
        NoisyMax(scale=Fraction(scale))


@pytest.mark.parametrize(("rho", "sensitivity"), [("0", 1), ("-1", 1), ("1", 0), ("1", -1)])
def test_calibration_to_nothing_is_refused(rho: str, sensitivity: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        NoisyMax.calibrated(rho=Fraction(rho), sensitivity=sensitivity)


def test_scores_of_any_integer_type_are_taken() -> None:
    mechanism = NoisyMax(scale=Fraction(1, 16))
    assert mechanism.pick(np.array([0, 50, 20])) == 1  # other outcomes have probability below e^-400
    assert mechanism.pick([-(2**40), 0, -1]) == 1
    assert isinstance(mechanism.pick([3, 1]), int)
    assert math.isclose(softmax([0, 50, 20], Fraction(1, 16))[1], 1.0)
