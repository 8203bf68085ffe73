"""Intervals for rates, for their differences and for areas under curves: numbers in, numbers out.

The trial is a person. A person's rows are scored together, so the values averaged here are one a person, and what
persons contribute may be any number in [0, 1]: `Rate` carries how many yes-or-no trials would be equally telling.

Sources: Wilson, J. Am. Stat. Assoc. 22 (1927) 209; Newcombe, Stat. Med. 17 (1998) 873, method 10; Clopper and Pearson,
Biometrika 26 (1934) 404; DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837; those of the bounds on a privacy
loss stand beside them. Coverage is simulated in tests/statistical/attacking/.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from attacks.tradeoff import Approximate, Gaussian, Renyi, lower_limit

FloatVector: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Two ends, and the chance that the truth lies between them, after all corrections.

    Args:
        low, high: The ends; either may be infinite where nothing is known.
        confidence: Chance that both ends hold, in (0, 1).
    """

    low: float
    high: float
    confidence: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError("an interval needs low <= high")
        if not 0 < self.confidence < 1:
            raise ValueError("confidence must lie in (0, 1)")

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A mean of numbers in [0, 1], and how much is known about it.

    Args:
        value: The mean.
        trials: The number of independent yes-or-no trials that would pin it down equally well.
        persons: How many persons stand behind it.
        most: The most trials that it could stand on, however many persons there were: an attack may look at a random
            part of many.
    """

    value: float
    trials: float
    persons: int
    most: float = math.inf

    @classmethod
    def over_persons(cls, values: FloatVector) -> Rate:
        """The mean over persons, each of whom contributes one number in [0, 1].

        Yes-or-no contributions give as many trials as persons. Fractions vary less, so they count for more, but never
        for more than ten trials a person: a spread of zero is no proof of infinite knowledge.
        """
        persons = len(values)
        return cls.varying(float(np.mean(values)), float(np.var(values)) / persons, persons)

    @classmethod
    def varying(cls, value: float, variance: float, persons: int) -> Rate:
        """A mean that so many persons make, and the variance of that mean."""
        return cls(value=value, trials=_trials(value, variance, persons), persons=persons)

    def interval(self, confidence: float) -> Interval:
        """Wilson's interval, which keeps its width where the rate is 0 or 1."""
        z = normal_quantile(0.5 + confidence / 2)
        n, p = self.trials, self.value
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(max(p * (1 - p), 0) / n + z * z / (4 * n * n))
        low = 0.0 if p <= 0 else min(max(centre - half, 0.0), p)
        high = 1.0 if p >= 1 else max(min(centre + half, 1.0), p)
        return Interval(low=low, high=high, confidence=confidence)

    def surely(self, confidence: float) -> Interval:
        """The same, nowhere narrower than the exact interval: also where few trials meet a rare event.

        Wilson's lower end of one success is about 0.09 of a trial, where one success comes in 9 of 100 cases.
        """
        near = self.interval(confidence)
        one_side, hits = 0.5 + confidence / 2, self.value * self.trials
        low = clopper_pearson_low(hits, self.trials, confidence=one_side)
        high = clopper_pearson_high(hits, self.trials, confidence=one_side)
        return Interval(low=min(near.low, low), high=max(near.high, high), confidence=confidence)


@dataclass(frozen=True, kw_only=True)
class Quantile(Rate):
    """A quantile of numbers in [0, 1], and how much is known about it.

    Args:
        level: Which one, in (0, 1).
        ordered: The numbers, ascending, one for each person.
    """

    level: float
    ordered: FloatVector = field(compare=False, repr=False)

    @classmethod
    def over_persons_at(cls, level: float, values: FloatVector) -> Quantile:
        """The least number that at least this share of the persons do not exceed."""
        ordered, persons = np.sort(values), len(values)
        place = max(math.ceil(round(level * persons, 9)), 1) - 1
        return cls(value=float(ordered[place]), trials=persons, persons=persons, level=level, ordered=ordered)

    def interval(self, confidence: float) -> Interval:
        """Between two of the numbers, or to the end of [0, 1] where so many persons say no more; ties are harmless.

        Source: the number of persons below the true quantile is binomial: David and Nagaraja, Order Statistics (2003),
            section 7.1 (from memory); a test counts how often it covers.
        """
        tail = (1 - confidence) / 2
        low, high = (int(stats.binom.ppf(p, self.persons, self.level)) for p in (tail, 1 - tail))
        padded = np.concatenate([[0.0], self.ordered, [1.0]])
        return Interval(low=float(padded[low]), high=float(padded[high + 1]), confidence=confidence)


def _trials(mean: float, variance_of_mean: float, persons: int) -> float:
    """How many yes-or-no trials with this mean would have this variance, between a tenth and ten a person."""
    most = 10.0 * persons
    if mean in (0.0, 1.0):
        return float(persons)
    if variance_of_mean <= 0:
        return most
    return min(max(mean * (1 - mean) / variance_of_mean, persons / 10), most)


def normal_quantile(probability: float) -> float:
    """The point below which a standard normal value falls with this probability."""
    return NormalDist().inv_cdf(probability)


def difference(fit: Rate, control: Rate, confidence: float) -> Interval:
    """Where `fit - control` lies: Newcombe's interval from the limits of two independent rates, or quantiles."""
    f, c = fit.interval(confidence), control.interval(confidence)
    d = fit.value - control.value
    low = d - math.hypot(fit.value - f.low, c.high - control.value)
    high = d + math.hypot(f.high - fit.value, control.value - c.low)
    return Interval(low=max(low, -1.0), high=min(high, 1.0), confidence=confidence)


def clopper_pearson(successes: int, trials: int, *, confidence: float) -> Interval:
    """The exact interval of a binomial proportion: covers at least as often as it says.

    Raises:
        ValueError: `successes` is outside 0 .. trials.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes ({successes}) must lie in 0 .. trials ({trials})")
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(stats.beta.ppf(tail, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(stats.beta.ppf(1 - tail, successes + 1, trials - successes))
    return Interval(low=low, high=high, confidence=confidence)


def area(fit: FloatVector, control: FloatVector) -> Rate:
    """The chance that a person of the fit side scores higher than one of the control side; ties count half.

    The variance is DeLong's, and the interval Wilson's at the number of trials with that variance, so that it keeps
    its width where the sides are separated completely.
    """
    ranks = stats.rankdata(np.concatenate([fit, control]))
    n, m = len(fit), len(control)
    of_fit = (ranks[:n] - stats.rankdata(fit)) / m  # share of control persons whom this person beats
    of_control = 1 - (ranks[n:] - stats.rankdata(control)) / n
    value = float(of_fit.mean())
    variance = float(of_fit.var() / n + of_control.var() / m)
    trials = min(n, m) if variance <= 0 else value * (1 - value) / variance
    return Rate(value=value, trials=max(min(trials, 10.0 * (n + m)), 1.0), persons=n + m)


def control_persons_needed(fit: Rate, control: Rate, *, at_most: float, confidence: float) -> int | None:
    """About how many control persons more would bring the upper end of `fit - control` down to `at_most`.

    Assumes that the rates stay as they are. Where control persons alone cannot do it, both sides are made to grow in
    proportion and the control persons among them are counted. No side grows beyond `Rate.most`.

    Returns:
        0 if the end is there already; None if no number suffices, because the difference itself lies above it, or because
        the attack would not look at so many.
    """
    if fit.value - control.value >= at_most:
        return None
    most = min(2.0**20, max(1.0, control.most / control.trials))
    for fit_grows in (False, True):

        def high(factor: float, fit_grows: bool = fit_grows) -> float:
            more_fit = _grown(fit, factor if fit_grows else 1.0)
            return difference(more_fit, _grown(control, factor), confidence).high

        low_factor, high_factor = 1.0, 1.0
        while high(high_factor) > at_most and high_factor < most:
            low_factor, high_factor = high_factor, min(high_factor * 2, most)
        if high(high_factor) > at_most:
            continue
        for _ in range(40):
            middle = (low_factor + high_factor) / 2
            low_factor, high_factor = (low_factor, middle) if high(middle) <= at_most else (middle, high_factor)
        return math.ceil(control.persons * high_factor - 1e-6) - control.persons
    return None


def fitted_persons_would_do(fit: Rate, control: Rate, *, at_most: float, confidence: float) -> bool:
    """Whether more fitted persons alone could bring the upper end of `fit - control` down to `at_most`."""
    return difference(_grown(fit, 2.0**20), control, confidence).high <= at_most


def _grown(rate: Rate, factor: float) -> Rate:
    return replace(rate, trials=max(rate.trials, min(rate.trials * factor, rate.most)))


# ---- counts that carry noise -------------------------------------------------------------------------------------


def noisy_rate_interval(hits: int, persons: int, *, sigma: float, confidence: float) -> Interval | None:
    """Where a rate lies when both its count and its denominator carry noise of standard deviation `sigma`.

    Covers the sampling error of `persons` independent trials and both noises, the latter to first order. The ends are
    not clipped to [0, 1]: a clipped end would hide how much noise there is.

    Returns:
        None if the noisy number of persons is not clearly above its own noise: then nothing can be said.
    """
    spread = _spread(hits, persons, sigma, confidence)
    if spread is None:
        return None
    rate, deviation = spread
    half = normal_quantile(0.5 + confidence / 2) * deviation
    return Interval(low=rate - half, high=rate + half, confidence=confidence)


def excess_interval(
    hits_fit: int, hits_control: int, persons_fit: int, persons_control: int, sigma: float, confidence: float
) -> Interval | None:
    """Where the success rate on fit persons minus that on control persons lies, from noisy counts.

    Args:
        hits_fit, hits_control: Noisy numbers of persons on whom the attack succeeded.
        persons_fit, persons_control: Noisy numbers of persons.
        sigma: Standard deviation of the noise on each of the four.
        confidence: Chance that both ends hold. Each end alone holds with (1 + confidence) / 2.
    Returns:
        The interval, sampling error and all four noises included; None if a side is too small to be seen.
    """
    fit = _spread(hits_fit, persons_fit, sigma, confidence)
    control = _spread(hits_control, persons_control, sigma, confidence)
    if fit is None or control is None:
        return None
    half = normal_quantile(0.5 + confidence / 2) * math.hypot(fit[1], control[1])
    excess = fit[0] - control[0]
    return Interval(low=excess - half, high=excess + half, confidence=confidence)


def _spread(hits: int, persons: int, sigma: float, confidence: float) -> tuple[float, float] | None:
    """A rate and its standard deviation.

    Noise can make a rate look like 0, and its sampling error would vanish with it. So the sampling error is taken at a
    rate nearer to one half by as much as the noise may have moved it, from Wilson's centre.
    """
    z = normal_quantile(0.5 + confidence / 2)
    fewest = persons - z * sigma
    if fewest < max(persons / 2, 1):
        return None
    rate, noise = hits / persons, sigma / fewest
    centre = (hits + z * z / 2) / (persons + z * z)
    worst = min(max(0.5, centre - noise), centre + noise)
    worst = min(max(worst, 0.0), 1.0)
    variance = worst * (1 - worst) / persons + (sigma / persons) ** 2 * (1 + max(rate, 0.0) ** 2)
    return rate, math.sqrt(variance)


# ---- lower bounds on a privacy loss ------------------------------------------------------------------------------
#
# A game is played many times: a table with a canary, or without, goes in, and an attacker guesses which. Whatever a
# mechanism promises bounds the pairs (true-positive rate, false-positive rate) that any attacker can reach, so a pair
# that was reached bounds what the mechanism can truthfully promise. `trials` games are played on each side. Both rates
# are tested jointly against the promise's whole curve (`attacks.tradeoff`). The rule that turns scores into guesses must
# not depend on the games that are counted; `bounds_at_ranks` is for rules that do.


def clopper_pearson_low(successes: float, trials: float, *, confidence: float) -> float:
    """The one-sided lower limit of a binomial proportion: it lies below the truth with probability `confidence`.

    Source: Clopper and Pearson 1934, as quantile of a beta distribution; checked against the manuals of the R packages
        GenBinomApps and stests, which state the same quantiles.
    """
    return 0.0 if successes <= 0 else float(stats.beta.ppf(1 - confidence, successes, trials - successes + 1))


def clopper_pearson_high(successes: float, trials: float, *, confidence: float) -> float:
    """The one-sided upper limit, the mirror image of `clopper_pearson_low`."""
    return 1 - clopper_pearson_low(trials - successes, trials, confidence=confidence)


def epsilon_lower_bound(hits: int, false_alarms: int, trials: int, *, delta: float, confidence: float) -> float:
    """Lower bound on epsilon shown by a membership game, whatever the mechanism.

    Under (epsilon, delta)-DP tpr <= e^epsilon fpr + delta, and the same with 1 - fpr and 1 - tpr in their places; both
    are tested at once.

    Args:
        hits: Tables with the canary that the attacker called so, out of `trials`.
        false_alarms: Tables without it that he called so, out of `trials`.
        trials: Games on each side.
        delta: Delta of the claim under test, in [0, 1).
        confidence: Chance that the bound holds, in (0, 1).
    Returns:
        A bound >= 0. Zero means no evidence of leakage, not evidence of none.
    Raises:
        ValueError: a count, `delta` or `confidence` is out of range.
    Source: the test is `tradeoff.lower_limit`. Clopper-Pearson limits of each rate with half of the error, as in Nasr et
        al., S&P 2021, arXiv:2101.04535, are valid too and need about twice as many games for the same bound.
    """
    if not 0 <= delta < 1:
        raise ValueError(f"delta ({delta}) must lie in [0, 1)")
    return lower_limit(hits, false_alarms, trials, Approximate(delta), confidence=confidence)


_ORDERS = tuple((1 + np.append(1e-6, np.geomspace(0.02, 2e3, 60))).tolist())
ZCDP = Renyi(_ORDERS, _ORDERS)
"""Zero-concentrated DP; the loss is rho. Any set of orders gives a true bound."""


def rho_lower_bound(hits: int, false_alarms: int, trials: int, *, confidence: float) -> float:
    """Lower bound on rho, for zero-concentrated DP, shown by a membership game, whatever the mechanism.

    A guess is a post-processing with two outcomes, so the Renyi divergence of the two guesses is at most rho a at every
    order a, in both directions. With unlimited games and Gaussian noise the bound comes to two thirds of the true rho
    (2 / pi where rho is small): a claim that is too low by less than a factor of 1.6 is never contradicted.

    Args:
        hits, false_alarms, trials, confidence: As in `epsilon_lower_bound`.
    Returns:
        A bound >= 0. Zero means no evidence of leakage, not evidence of none.
    Source: Bun and Steinke, arXiv:1605.02065, Definition 1.1 and Lemma 2.2 (data processing). Riess et al., PMLR 306
        (2026), show that no test can refute more of a Renyi claim than two outcomes do at all orders (abstract read).
    """
    return lower_limit(hits, false_alarms, trials, ZCDP, confidence=confidence)


def mu_lower_bound(hits: int, false_alarms: int, trials: int, *, confidence: float) -> float:
    """Lower bound on mu if the mechanism is Gaussian: finds bugs, and decides nothing.

    It is sharper than `rho_lower_bound` because it assumes the shape of the trade-off between the two rates. Discrete
    Gaussian noise and private selection do not have exactly this shape, so a mu above the claim is a reason to look,
    never a failure by itself.

    Args:
        hits, false_alarms, trials, confidence: As in `epsilon_lower_bound`.
    Returns:
        A bound >= 0.
    Source: Dong, Roth, Su, arXiv:1905.02383, equation 6, as Nasr et al., USENIX Security 2023, arXiv:2302.07956, use it.
    """
    return lower_limit(hits, false_alarms, trials, GAUSSIAN, confidence=confidence)


GAUSSIAN = Gaussian()


def gaussian_epsilon(mu: float, *, delta: float) -> float:
    """The epsilon at which a Gaussian mechanism of parameter mu satisfies (epsilon, delta)-DP exactly; at least 0.

    Source: delta = Phi(-eps / mu + mu / 2) - e^eps Phi(-eps / mu - mu / 2): Dong, Roth, Su, arXiv:1905.02383,
        Corollary 2.13; checked against the manual of the R package fdp (gdp_to_epsdelta).
    """
    if mu < 0 or not 0 < delta < 1:
        raise ValueError("mu must be at least 0 and delta inside (0, 1)")

    def excess(epsilon: float) -> float:
        first = float(stats.norm.logcdf(-epsilon / mu + mu / 2))
        second = epsilon + float(stats.norm.logcdf(-epsilon / mu - mu / 2))
        return math.exp(first) * -math.expm1(min(second - first, 0.0)) - delta

    if mu == 0 or excess(0.0) <= 0:
        return 0.0
    low, high = 0.0, 1.0
    while excess(high) > 0:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high
