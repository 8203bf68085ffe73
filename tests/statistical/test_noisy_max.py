"""Private selection: its frequencies against the softmax of the scores, its cost against OpenDP and against the truth.

Every statistical judgement is a p-value; a correct sampler gets below `FALSE_ALARM` with at most that probability on
fresh words, and our seeds are fixed. OpenDP's coins are the system's own, so the comparison with it is a fresh draw.
"""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from decimal import FloatOperation, Inexact, localcontext
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dpsynth.mechanisms.noisy_max import Forest, NoisyMax, _gumbel, _Rival
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


def _play(mechanism: NoisyMax, scores: Sequence[int], rng: Any) -> npt.NDArray[np.int64]:
    return np.bincount([mechanism.top(scores, 1, rng=rng)[0] for _ in range(DRAWS)], minlength=len(scores))


@pytest.mark.parametrize("name", GAMES)
def test_frequencies_are_the_softmax_of_the_scores(name: str, seeded: type) -> None:
    scores, scale = GAMES[name]
    counts = _play(NoisyMax(scale=scale), scores, seeded(1))
    assert frequency_p_value(counts, softmax(scores, scale)) > FALSE_ALARM
    if name != "even":  # a scale off by a half is noticed
        for factor in (Fraction(1, 3), Fraction(2, 3), Fraction(3, 2), Fraction(3)):
            assert frequency_p_value(counts, softmax(scores, scale * factor)) < FALSE_ALARM


def test_a_favoured_place_is_noticed(seeded: type) -> None:
    scores, scale = GAMES["even"]
    counts = _play(NoisyMax(scale=scale), scores, seeded(2))
    favoured = counts.copy()
    favoured[0], favoured[-1] = counts[0] + counts[-1] // 4, counts[-1] - counts[-1] // 4
    assert frequency_p_value(favoured, softmax(scores, scale)) < FALSE_ALARM


@pytest.mark.parametrize("name", ["graded", pytest.param("fine scale", marks=pytest.mark.slow)])
def test_picks_are_distributed_as_opendp_s(name: str, seeded: type) -> None:
    scores, scale = GAMES[name]
    theirs = np.bincount([opendp_top(scale, 1)(list(scores))[0] for _ in range(DRAWS)], minlength=len(scores))
    ours = _play(NoisyMax(scale=scale), scores, seeded(3))
    assert stats.chi2_contingency(np.array([ours, theirs]), correction=False).pvalue > FALSE_ALARM
    far = _play(NoisyMax(scale=scale * 2), scores, seeded(3))
    assert stats.chi2_contingency(np.array([far, theirs]), correction=False).pvalue < FALSE_ALARM


# ---- several winners -----------------------------------------------------------------------------------------------


def plackett_luce(scores: Sequence[int], scale: Fraction, count: int) -> dict[tuple[int, ...], float]:
    """The chance of each ordered list of winners: softmax among those that are left, pick after pick."""
    chances = {}
    for order in itertools.permutations(range(len(scores)), count):
        chance, left = 1.0, list(range(len(scores)))
        for winner in order:
            chance *= softmax([scores[i] for i in left], scale)[left.index(winner)]
            left.remove(winner)
        chances[order] = chance
    return chances


def ranking_p_value(seen: Counter[tuple[int, ...]], chances: dict[tuple[int, ...], float]) -> float:
    assert seen.keys() <= chances.keys()
    return frequency_p_value(np.array([seen[order] for order in chances]), np.array(list(chances.values())))


RANKINGS = [  # scores, scale, how many win
    ((0, 1, 2, 3), Fraction(2), 2),
    ((0, 1, 2, 3), Fraction(2), 4),
    ((5, 5, 5), Fraction(1), 3),
    ((-4, 40, 38, 0, 33), Fraction(1500, 256), 3),
]


@pytest.mark.parametrize(("scores", "scale", "count"), RANKINGS)
def test_rankings_follow_the_plackett_luce_law(
    scores: Sequence[int], scale: Fraction, count: int, seeded: type
) -> None:
    rng, mechanism = seeded(4), NoisyMax(scale=scale)
    seen = Counter(tuple(mechanism.top(scores, count, rng=rng)) for _ in range(2 * DRAWS))
    assert ranking_p_value(seen, plackett_luce(scores, scale, count)) > FALSE_ALARM
    if len(set(scores)) > 1:
        for factor in (Fraction(3, 4), Fraction(4, 3)):
            assert ranking_p_value(seen, plackett_luce(scores, scale * factor, count)) < FALSE_ALARM
        backwards = Counter({order[::-1]: times for order, times in seen.items()})
        assert ranking_p_value(backwards, plackett_luce(scores, scale, count)) < FALSE_ALARM


def test_a_ranking_of_many_scores_agrees_with_their_order_statistics(seeded: type) -> None:
    """Among n equal scores and one ahead by a, that one is first with probability e^a / (n + e^a), over 300 rankings."""
    n, rng, mechanism = 20_000, seeded(5), NoisyMax(scale=Fraction(7))
    scores = np.zeros(n + 1, dtype=np.int64)
    scores[1234] = round(7 * math.log(n))
    tops = [mechanism.top(scores, 50, rng=rng) for _ in range(300)]
    assert all(len(set(top)) == 50 for top in tops)
    chance = math.exp(scores[1234] / 7) / (n + math.exp(scores[1234] / 7))
    assert stats.binomtest(sum(top[0] == 1234 for top in tops), 300, chance).pvalue > FALSE_ALARM
    others = np.array([i for top in tops for i in top if i != 1234])
    assert stats.kstest(others, stats.uniform(0, n + 1).cdf).pvalue > FALSE_ALARM


@pytest.mark.parametrize(("scores", "count"), [([1, 2, 3], 0), ([1, 2, 3], -1), ([], 1)])
def test_nothing_to_pick_or_to_pick_from_is_refused(scores: list[int], count: int, seeded: type) -> None:
    with pytest.raises(ValueError, match="count"):
        NoisyMax(scale=Fraction(1)).top(scores, count, rng=seeded(1))


def test_no_more_winners_come_than_there_are_scores(seeded: type) -> None:
    assert sorted(NoisyMax(scale=Fraction(1)).top([1, 2, 3], 9, rng=seeded(1))) == [0, 1, 2]
    assert NoisyMax(scale=Fraction(1)).top([1, 2, 3], 2, rng=seeded(1), admits=lambda index: index == 2) == [2]


# ---- winners that must be admitted ----------------------------------------------------------------------------------

PAIRS = list(itertools.combinations(range(4), 2))
FOREST_SCORES, FOREST_SCALE = (9, 8, 7, 6, 2, 0), Fraction(4)  # the best three close a cycle: (0, 1), (0, 2), (1, 2)


def acyclic(pairs: Sequence[tuple[int, int]]) -> bool:
    """Whether the pairs close no cycle, by a search of its own."""
    part = list(range(4))
    for a, b in pairs:
        if part[a] == part[b]:
            return False
        part = [part[a] if label == part[b] else label for label in part]
    return True


def forest_law(scale: Fraction) -> dict[tuple[int, ...], float]:
    """The chance of each ordered spanning tree: one exponential mechanism after another among what stays admissible."""
    chances: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(3):
        longer = {}
        for order, chance in chances.items():
            left = [i for i in range(len(PAIRS)) if i not in order and acyclic([PAIRS[j] for j in (*order, i)])]
            for place, share in zip(left, softmax([FOREST_SCORES[i] for i in left], scale), strict=True):
                longer[(*order, place)] = chance * share
        chances = longer
    return chances


def law_with_cycles_dropped(scale: Fraction) -> dict[tuple[int, ...], float]:
    """The fault: three winners of the whole ranking, kept only where they happen to be a tree."""
    law = {
        order: chance
        for order, chance in plackett_luce(FOREST_SCORES, scale, 3).items()
        if acyclic([PAIRS[i] for i in order])
    }
    return {order: chance / sum(law.values()) for order, chance in law.items()}


def test_a_forest_is_chosen_by_exponential_mechanisms_one_after_the_other(seeded: type) -> None:
    """All 96 ordered spanning trees of four columns; each fault in the law, or in the scale, is noticed."""
    rng, mechanism = seeded(11), NoisyMax(scale=FOREST_SCALE)
    seen: Counter[tuple[int, ...]] = Counter()
    for _ in range(4 * DRAWS):
        admits = Forest().admits
        chosen = mechanism.top(FOREST_SCORES, 3, rng=rng, admits=lambda i, admits=admits: admits(PAIRS[i]))
        seen[tuple(chosen)] += 1
    law = forest_law(FOREST_SCALE)
    assert len(law) == 96
    assert math.isclose(sum(law.values()), 1)
    assert ranking_p_value(seen, law) > FALSE_ALARM
    assert ranking_p_value(seen, law_with_cycles_dropped(FOREST_SCALE)) < FALSE_ALARM
    for factor in (Fraction(4, 5), Fraction(5, 4)):
        assert ranking_p_value(seen, forest_law(FOREST_SCALE * factor)) < FALSE_ALARM
    ignored = Counter(tuple(mechanism.top(FOREST_SCORES, 3, rng=rng)) for _ in range(DRAWS))
    assert not ignored.keys() <= law.keys()


@given(st.lists(st.sets(st.integers(0, 6), min_size=1, max_size=3).map(sorted).map(tuple), max_size=12))
def test_a_forest_admits_what_closes_no_cycle_and_refuses_for_good(sets: list[tuple[int, ...]]) -> None:
    """Against a search through the graph; a set of three columns counts as two links."""
    forest, part = Forest(), list(range(7))
    for columns in sets:
        free = len({part[column] for column in columns}) == len(columns)
        assert forest.admits(columns) == free
        if free:
            part = [columns[0] + 10 if label in {part[column] for column in columns} else label for label in part]
        if len(columns) > 1:
            assert not forest.admits(columns)  # now they are connected, and stay so


# ---- what decides: bounds, and bits revealed as needed --------------------------------------------------------------


class First:
    """Words that are given for the first call; later ones follow from a seed."""

    def __init__(self, first: Sequence[int], later: Any) -> None:
        self.first: list[int] | None = list(first)
        self.later = later

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        if self.first is None:
            return self.later.words(count)
        given, self.first = self.first, None
        return np.array(given, dtype=np.uint64)


def exact_gumbel(word: int, bits: int) -> tuple[mpmath.mpf, mpmath.mpf]:
    """The least and the greatest Gumbel variable whose uniform number begins with these bits."""
    ends = [mpmath.mpf(2**bits - word - d) / 2**bits for d in (1, 0)]
    low, high = (-mpmath.log(-mpmath.log(end)) if 0 < end < 1 else mpmath.inf for end in ends)
    return (-mpmath.inf if word == 2**bits - 1 else low), high


WORDS = [0, 1, 2**32 - 1, 2**32, 2**32 + 1, 2**50 + 3, 2**62, 2**63 - 1, 2**63, 2**63 + 1, 3 * 2**62, 2**64 - 2**32 - 1]
WORDS += [2**64 - 2**32, 2**64 - 2**32 + 1, 2**64 - 2, 2**64 - 1]


def test_the_first_bounds_enclose_the_exact_variable(seeded: type) -> None:
    """Also with floating-point functions that are a million times worse than those of any system."""
    words = np.concatenate([np.array(WORDS, dtype=np.uint64), seeded(6).words(2_000)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noise, slack = _gumbel(words)
    with mpmath.workdps(60):
        for word, value, off in zip(words, noise, slack, strict=True):
            low, high = exact_gumbel(int(word), 64)
            assert float(value) - off * 0.9 <= low
            assert high <= float(value) + off * 0.9
    assert np.isinf(slack).sum() < len(WORDS)


def test_revealed_bounds_close_in_on_the_exact_variable_whatever_decimals_the_program_set(seeded: type) -> None:
    with mpmath.workdps(700), localcontext() as program:
        program.prec = 3
        program.traps[Inexact] = program.traps[FloatOperation] = True
        for distance in (Fraction(0), Fraction(-1, 3), Fraction(-(2**62) * 256, 3)):
            for word in WORDS:
                rival = _Rival(0, distance, word, -math.inf, math.inf, seeded(7))
                for _ in range(3):
                    rival._reveal()
                    low, high = exact_gumbel(rival._word, rival._bits)
                    shift = mpmath.mpf(distance.numerator) / distance.denominator
                    mine = [mpmath.mpf(str(bound)) for bound in (rival._low, rival._high)]
                    assert mine[0] <= low + shift <= high + shift <= mine[1]
                if 1 < word < 2**64 - 2:
                    assert mine[1] - mine[0] < 1e-35


@pytest.mark.parametrize("word", WORDS)
def test_scores_with_the_same_first_word_are_ranked_by_the_bits_that_follow(word: int, seeded: type) -> None:
    """Equal scores with equal first words: every order is as likely as any other, though the first look sees nothing."""
    rng, mechanism = seeded(8), NoisyMax(scale=Fraction(1))
    seen = Counter(tuple(mechanism.top([3, 3, 3], 3, rng=First([word] * 3, rng))) for _ in range(90))
    chances = dict.fromkeys(itertools.permutations(range(3)), 1 / 6)
    assert stats.chisquare([seen[order] for order in chances]).pvalue > FALSE_ALARM


def test_a_near_tie_is_decided_as_the_exact_comparison_does(seeded: type) -> None:
    """First words that leave score and noise together a unit in the last place apart, or less."""
    generator, rng, outcomes = np.random.default_rng(9), seeded(9), Counter[tuple[bool, bool]]()
    with mpmath.workdps(200):
        for _ in range(200):
            ahead = int(generator.integers(0, 4))
            word = int(generator.integers(2**40, 2**62))
            level = exact_gumbel(word, 64)[0] - ahead
            other = int((1 - mpmath.exp(-mpmath.exp(-level))) * 2**64) + int(generator.integers(-3, 4))
            one = _Rival(0, Fraction(0), word, -math.inf, math.inf, rng)
            two = _Rival(1, Fraction(ahead), other, -math.inf, math.inf, rng)
            less = one < two
            middles = [sum(exact_gumbel(rival._word, rival._bits)) / 2 for rival in (one, two)]
            assert less == (middles[0] < middles[1] + ahead)
            outcomes[less, one._bits > 128] += 1
    assert min(outcomes[less, False] for less in (True, False)) > 30
    assert _Rival(0, Fraction(0), 7, 1.0, 2.0, rng) < _Rival(1, Fraction(0), 7, 2.5, 3.0, rng)


def test_half_a_million_scores_are_ranked_in_seconds(seeded: type) -> None:
    """0.15 s of processor time on the machine of `docs/noise.md`."""
    start = time.process_time()
    NoisyMax(scale=Fraction(100)).top(np.arange(500_000) % 1_000, 999, rng=seeded(1))
    assert time.process_time() - start < 2


# ---- cost ----------------------------------------------------------------------------------------------------------

SCALES = [Fraction(1, 256), Fraction(1), Fraction(7, 4), Fraction(10), Fraction(1317, 256), Fraction(12_345_678, 256)]


def opendp_top(scale: Fraction, count: int) -> Any:
    import opendp.domains as domains
    import opendp.measurements as measurements
    import opendp.measures as measures
    import opendp.metrics as metrics
    import opendp.mod as mod

    mod.enable_features("contrib")
    return measurements.make_noisy_top_k(
        domains.vector_domain(domains.atom_domain(T="i64")),
        metrics.linf_distance(T="i64", monotonic=False),
        measures.zero_concentrated_divergence(),
        k=count,
        scale=float(scale),
    )


@pytest.mark.parametrize("picks", [1, 2, 7, 999])
@pytest.mark.parametrize("sensitivity", [1, 2, 5, 10])
@pytest.mark.parametrize("scale", SCALES)
def test_the_cost_is_opendp_s_and_never_below(scale: Fraction, sensitivity: int, picks: int) -> None:
    theirs = opendp_top(scale, picks).map(sensitivity)
    ours = float(NoisyMax(scale=scale).cost(sensitivity=sensitivity, picks=picks).rho)
    assert theirs * (1 - 1e-12) <= ours <= theirs * (1 + 1e-9)  # theirs is a float, rounded up


def test_the_cost_of_two_picks_bounds_the_exact_divergence_of_the_rankings() -> None:
    scale, scores, moved = Fraction(3), (0, 1, 0, 2), (1, 0, 1, 1)
    honest = NoisyMax(scale=scale).cost(sensitivity=1, picks=2)
    one = NoisyMax(scale=scale).cost(sensitivity=1)
    p, q = (np.log(list(plackett_luce(s, scale, 2).values())) for s in (scores, moved))
    worst = [np.logaddexp.reduce(a * p + (1 - a) * q) / (a - 1) / a for a in map(float, ORDERS[:5])]
    assert float(one.rho) < max(worst) <= float(honest.rho)  # and the cost of one pick is not enough for two


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
    assert float(mechanism.scale) == mechanism.scale


@pytest.mark.parametrize("scale", ["0", "-1", "1/3", "1/512", str(2**44)])
def test_a_scale_that_no_float_holds_exactly_is_refused(scale: str) -> None:
    with pytest.raises(ValueError, match="scale"):
        NoisyMax(scale=Fraction(scale))


@pytest.mark.parametrize(("rho", "sensitivity"), [("0", 1), ("-1", 1), ("1", 0), ("1", -1)])
def test_calibration_to_nothing_is_refused(rho: str, sensitivity: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        NoisyMax.calibrated(rho=Fraction(rho), sensitivity=sensitivity)


def test_scores_of_any_integer_type_and_range_are_taken(seeded: type) -> None:
    mechanism, rng = NoisyMax(scale=Fraction(1, 16)), seeded(1)
    assert mechanism.top(np.array([0, 50, 20]), 1, rng=rng) == [1]  # other outcomes have probability below e^-400
    assert mechanism.top(np.array([0, 50, 20], dtype=np.int32), 1, rng=rng) == [1]
    assert mechanism.top([-(2**63), 0, 2**63 - 1], 3, rng=rng) == [2, 1, 0]
    assert isinstance(mechanism.top([3, 1], 1, rng=rng)[0], int)
    assert math.isclose(softmax([0, 50, 20], Fraction(1, 16))[1], 1.0)
