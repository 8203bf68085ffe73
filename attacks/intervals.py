"""Intervals for rates, for their differences and for areas under curves: numbers in, numbers out.

The trial is a person. A person's rows are scored together, so the values averaged here are one a person, and what
persons contribute may be any number in [0, 1]: `Rate` carries how many yes-or-no trials would be equally telling.

Sources: Wilson, J. Am. Stat. Assoc. 22 (1927) 209; Newcombe, Stat. Med. 17 (1998) 873, method 10; Clopper and Pearson,
Biometrika 26 (1934) 404; DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837. Coverage is simulated in
tests/statistical/attacking/test_interval_coverage.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

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
    """

    value: float
    trials: float
    persons: int

    @classmethod
    def over_persons(cls, values: FloatVector) -> Rate:
        """The mean over persons, each of whom contributes one number in [0, 1].

        Yes-or-no contributions give as many trials as persons. Fractions vary less, so they count for more, but never
        for more than ten trials a person: a spread of zero is no proof of infinite knowledge.
        """
        persons = len(values)
        mean = float(np.mean(values))
        return cls(value=mean, trials=_trials(mean, float(np.var(values)) / persons, persons), persons=persons)

    def interval(self, confidence: float) -> Interval:
        """Wilson's interval, which keeps its width where the rate is 0 or 1."""
        z = normal_quantile(0.5 + confidence / 2)
        n, p = self.trials, self.value
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(max(p * (1 - p), 0) / n + z * z / (4 * n * n))
        low = 0.0 if p <= 0 else min(max(centre - half, 0.0), p)
        high = 1.0 if p >= 1 else max(min(centre + half, 1.0), p)
        return Interval(low=low, high=high, confidence=confidence)


def _trials(mean: float, variance_of_mean: float, persons: int) -> float:
    """How many yes-or-no trials with this mean would have this variance, between a tenth and ten a person."""
    most = 10.0 * persons
    if variance_of_mean <= 0:
        return float(persons) if mean in (0.0, 1.0) else most
    return min(max(mean * (1 - mean) / variance_of_mean, persons / 10), most)


def normal_quantile(probability: float) -> float:
    """The point below which a standard normal value falls with this probability."""
    return NormalDist().inv_cdf(probability)


def difference(fit: Rate, control: Rate, confidence: float) -> Interval:
    """Where `fit - control` lies: Newcombe's interval from the Wilson limits of two independent rates."""
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
    proportion and the control persons among them are counted.

    Returns:
        0 if the end is there already; None if no number suffices, because the difference itself lies above it.
    """
    if fit.value - control.value >= at_most:
        return None
    for fit_grows in (False, True):

        def high(factor: float, fit_grows: bool = fit_grows) -> float:
            more_fit = _grown(fit, factor if fit_grows else 1.0)
            return difference(more_fit, _grown(control, factor), confidence).high

        low_factor, high_factor = 1.0, 1.0
        while high(high_factor) > at_most and high_factor < 2**20:
            low_factor, high_factor = high_factor, high_factor * 2
        if high(high_factor) > at_most:
            continue
        for _ in range(40):
            middle = (low_factor + high_factor) / 2
            low_factor, high_factor = (low_factor, middle) if high(middle) <= at_most else (middle, high_factor)
        return math.ceil(control.persons * high_factor - 1e-6) - control.persons
    return None


def _grown(rate: Rate, factor: float) -> Rate:
    return Rate(value=rate.value, trials=rate.trials * factor, persons=rate.persons)


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
