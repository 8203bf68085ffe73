"""Exact tests of two rates against what a privacy promise allows.

A promise says for each false-positive rate q how high the true-positive rate p of any attacker may be: p <= F(q). Of n
games on each side he was right h times and wrong f times. The test asks how often a truthful promise would be
contradicted as strongly: the largest chance, over all pairs (F(q), q), of an outcome in the region of those that say at
least as much as (h, f). Both counts are judged together, and both directions of the promise, because F has them both.
That takes half as many games as two separate limits, each with half of the error.

Why it holds. The region is fixed by the outcome alone, and with an outcome it has every one with more hits or fewer false
alarms, so its chance rises with p and falls with q: under a truthful promise it is largest on the curve. Outcomes are
ordered by a statistic fixed beforehand, so a chance of at most alpha happens with a chance of at most alpha, and the least
theta whose curve is not rejected is a lower limit (Buehler, J. Am. Stat. Assoc. 52 (1957) 482). Only q within a
Clopper-Pearson interval of its own are tried, and the error of that interval is paid for: Berger and Boos, J. Am. Stat.
Assoc. 89 (1994) 1012. Between two tried values of q the chance is at most that at the higher p and the lower q, so no
peak is missed.

The order is by the loss at one-sided Clopper-Pearson limits of both rates, each at 1/sqrt(2) of the normal quantile of the
whole error; that choice decides how sharp the limit is and not whether it holds. The test and the code are our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import special, stats

FloatVector: TypeAlias = npt.NDArray[np.float64]
Curve: TypeAlias = Callable[[FloatVector], FloatVector]

_CELLS = 32  # into which an interval of q is cut at first
_SPLITS = 6  # how often a cell is cut in four before the promise counts as not rejected
_MOST_CELLS = 600  # open at the same time, from which on it counts as not rejected
_STEPS = 20  # of the search for a loss that is just rejected, at few values of q; which is then proven at all
_BACK = 0.003  # of that loss, by which it is lowered if the proof fails, and then by twice as much
_NUISANCE = 0.05  # of the error, for the interval of q
_TAIL = 1e-5  # of the error, for false alarms so far out that they are not looked at


class Family(Protocol):
    """Curves that rise with a privacy loss: one kind of promise."""

    def highest(self, loss: float, fpr: FloatVector) -> FloatVector:
        """The highest true-positive rate at each false-positive rate."""
        ...

    def loss(self, tpr: float, fpr: float) -> float:
        """The least loss that allows this pair; 0 if tpr <= fpr."""
        ...


@dataclass(frozen=True)
class Approximate:
    """(epsilon, delta)-DP at one delta; the loss is epsilon.

    tpr <= e^epsilon fpr + delta, and the same for the opposite guess: the privacy region of Kairouz, Oh, Viswanath,
    arXiv:1311.0776.
    """

    delta: float

    def highest(self, loss: float, fpr: FloatVector) -> FloatVector:
        here = np.exp(min(loss, 700.0)) * fpr + self.delta
        mirrored = 1 - np.exp(-loss) * (1 - self.delta - fpr)
        return np.asarray(np.clip(np.minimum(here, mirrored), 0, 1), dtype=np.float64)

    def loss(self, tpr: float, fpr: float) -> float:
        ratios = [(p - self.delta) / q for p, q in ((tpr, fpr), (1 - fpr, 1 - tpr)) if p > self.delta and q > 0]
        return max([0.0, *(math.log(ratio) for ratio in ratios)])


@dataclass(frozen=True)
class Gaussian:
    """mu-GDP; the loss is mu. Source: Dong, Roth, Su, arXiv:1905.02383, equation 6."""

    def highest(self, loss: float, fpr: FloatVector) -> FloatVector:
        return np.asarray(special.ndtr(special.ndtri(fpr) + loss), dtype=np.float64)

    def loss(self, tpr: float, fpr: float) -> float:
        return max(0.0, float(special.ndtri(tpr) - special.ndtri(fpr))) if tpr > fpr else 0.0


@dataclass(frozen=True)
class Renyi:
    """Renyi divergences of at most `per_order` times the loss at each order, in both directions; guesses are coins.

    Source: data processing, Bun and Steinke, arXiv:1605.02065, Definition 1.1 and Lemma 2.2.

    Args:
        orders: Above 1.
        per_order: What a loss of 1 allows at each; for zero-concentrated DP these are the orders themselves.
    """

    orders: tuple[float, ...]
    per_order: tuple[float, ...]

    def highest(self, loss: float, fpr: FloatVector) -> FloatVector:
        low, high = fpr.copy(), np.ones_like(fpr)
        for _ in range(26):
            middle = (low + high) / 2
            inside = self._losses(middle, fpr) <= loss
            low, high = np.where(inside, middle, low), np.where(inside, high, middle)
        return high

    def loss(self, tpr: float, fpr: float) -> float:
        return float(self._losses(np.array([tpr]), np.array([fpr]))[0]) if tpr > fpr else 0.0

    def _losses(self, tpr: FloatVector, fpr: FloatVector) -> FloatVector:
        """The largest divergence, as a loss, of coins with these chances; shape as theirs."""
        a = np.array(self.orders)[:, None]
        scale = (a - 1) * np.array(self.per_order)[:, None]
        best = np.zeros_like(tpr)
        with np.errstate(divide="ignore", invalid="ignore"):  # a coin may be certain
            logs = [(np.log(p), np.log1p(-p)) for p in (tpr, fpr)]
            for (p1, p0), (q1, q0) in (logs, logs[::-1]):
                heads = np.where(np.isneginf(p1), -np.inf, a * p1 + (1 - a) * q1)
                tails = np.where(np.isneginf(p0), -np.inf, a * p0 + (1 - a) * q0)
                best = np.maximum(best, np.max(np.logaddexp(heads, tails) / scale, axis=0))
        return np.asarray(best, dtype=np.float64)


# ---- the test ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def lower_limit(hits: int, false_alarms: int, trials: int, family: Family, *, confidence: float) -> float:
    """The least loss that the games do not contradict: at most the truth with probability `confidence`.

    Raises:
        ValueError: a count is outside 0 .. trials, or the confidence out of range.
    """
    game = _Game.of(hits, false_alarms, trials, family, confidence=confidence)

    def curve(loss: float) -> Curve:
        return lambda fpr: family.highest(loss, fpr)

    if game is None or game.peak(curve(0.0)) > game.error:
        return 0.0
    low, high = 0.0, max(family.loss((hits + 0.5) / (trials + 1), (false_alarms + 0.5) / (trials + 1)), 1e-6)
    while game.peak(curve(high)) <= game.error:
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if game.peak(curve(middle)) <= game.error else (low, middle)
    back = _BACK
    while back < 1 and not game.rejects(curve(low * (1 - back))):
        back *= 2
    proven, open_ = low * max(1 - back, 0.0), low * (1 - back / 2)
    for _ in range(3 if back > _BACK else 0):
        middle = (proven + open_) / 2
        proven, open_ = (middle, open_) if game.rejects(curve(middle)) else (proven, middle)
    return proven


def contradicts(hits: int, false_alarms: int, trials: int, curve: Curve, *, order: Family, confidence: float) -> bool:
    """Whether the games contradict a promise; a truthful one with probability at most 1 - `confidence`.

    Args:
        curve: The highest true-positive rate that is promised, at each false-positive rate.
        order: By whose loss outcomes are ordered; it should be of a kind with the promise.
    """
    tpr, fpr = (hits + 0.5) / (trials + 1), (false_alarms + 0.5) / (trials + 1)
    game = _Game.of(hits, false_alarms, trials, order, confidence=confidence)
    if game is None or tpr <= float(curve(np.array([fpr]))[0]):  # nothing to contradict it with
        return False
    return game.peak(curve) <= game.error and game.rejects(curve)


def rough_limit(hits: int, false_alarms: int, trials: int, family: Family, *, confidence: float) -> float:
    """About `lower_limit`, at once: the statistic by which outcomes are ordered. Good for choosing, proves nothing."""
    lows, highs = _limits(trials, confidence)
    return family.loss(float(lows[hits]), float(highs[false_alarms]))


@dataclass(frozen=True)
class _Game:
    """An outcome, and the region of those that say at least as much.

    Args:
        trials: Games on each side.
        alarms: Numbers of false alarms that are looked at; shape (alarms,).
        critical: For each the fewest hits in the region.
        low, high: Values of the false-positive rate that are tried.
        error: What chance of the region rejects.
    """

    trials: int
    alarms: npt.NDArray[np.int64]
    critical: npt.NDArray[np.int64]
    low: float
    high: float
    error: float

    @classmethod
    def of(cls, hits: int, false_alarms: int, trials: int, order: Family, *, confidence: float) -> _Game | None:
        """None if there are no more hits, by far enough to matter, than false alarms."""
        if not (trials > 0 and 0 <= hits <= trials and 0 <= false_alarms <= trials):
            raise ValueError(f"hits ({hits}) and false alarms ({false_alarms}) must lie in 0 .. trials ({trials})")
        if not 0 < confidence < 1:
            raise ValueError(f"confidence ({confidence}) must lie in (0, 1)")
        lows, highs = _limits(trials, confidence)
        least = order.loss(float(lows[hits]), float(highs[false_alarms]))
        if least <= 0:
            return None
        error = 1 - confidence
        side = _NUISANCE * error / 2
        n, f = trials, false_alarms
        low = 0.0 if f == 0 else float(stats.beta.ppf(side, f, n - f + 1))
        high = 1.0 if f == n else float(stats.beta.ppf(1 - side, f + 1, n - f))
        first, last = stats.binom.ppf(_TAIL * error, n, low), stats.binom.isf(_TAIL * error, n, high)
        alarms = np.arange(max(int(first), 0), min(int(last), n) + 1)
        critical = np.searchsorted(lows, order.highest(least, highs[alarms]) * (1 - 1e-12))
        critical = np.where(alarms <= f, np.minimum(critical, hits), critical)  # what rounding may have lost
        return cls(n, alarms, critical, low, high, error * (1 - _NUISANCE - 2 * _TAIL))

    def peak(self, curve: Curve) -> float:
        """The largest chance of the region at a few places of the curve: at most the largest of all."""
        fpr = _spread(self.low, self.high, 24)
        return float(self._chance(curve(fpr), fpr).max())

    def rejects(self, curve: Curve) -> bool:
        """Whether the region has a small chance everywhere on the curve."""
        edges = _spread(self.low, self.high, _CELLS)
        left, right = edges[:-1], edges[1:]
        for _ in range(_SPLITS + 1):
            open_ = self._chance(curve(right), left) > self.error
            if not open_.any():
                return True
            left, right = left[open_], right[open_]
            if 4 * len(left) > _MOST_CELLS:
                return False
            middle = (left + right) / 2
            if (self._chance(curve(middle), middle) > self.error).any():
                return False
            cuts = [left, (left + middle) / 2, middle, (middle + right) / 2, right]
            left, right = np.concatenate(cuts[:-1]), np.concatenate(cuts[1:])
        return False

    def _chance(self, tpr: FloatVector, fpr: FloatVector) -> FloatVector:
        """Of the region, for each pair of rates."""
        n = self.trials
        with np.errstate(divide="ignore", invalid="ignore"):
            ways = special.xlogy(self.alarms, fpr[:, None]) + special.xlog1py(n - self.alarms, -fpr[:, None])
            alarms = np.exp(_log_choose(n)[self.alarms] + ways)
        values, place = np.unique(self.critical, return_inverse=True)
        inside = values[None, :]
        with np.errstate(invalid="ignore"):
            hit = np.where(inside <= 0, 1.0, np.where(inside > n, 0.0, _at_least(inside, n, tpr[:, None])))
        return np.asarray((alarms * hit[:, place]).sum(axis=1), dtype=np.float64)


def _at_least(hits: npt.NDArray[np.int64], trials: int, chance: FloatVector) -> FloatVector:
    """The chance of at least so many hits, which are in 1 .. trials."""
    k = np.clip(hits, 1, trials)
    return np.asarray(special.betainc(k, trials - k + 1.0, chance), dtype=np.float64)


def _spread(low: float, high: float, cells: int) -> FloatVector:
    """Cell edges from low to high, equally far apart in standard deviations of a count."""
    angles = np.linspace(math.asin(math.sqrt(low)), math.asin(math.sqrt(high)), cells + 1)
    edges = np.sin(angles) ** 2
    edges[0], edges[-1] = low, high
    return np.asarray(edges, dtype=np.float64)


@lru_cache(maxsize=64)
def _limits(trials: int, confidence: float) -> tuple[FloatVector, FloatVector]:
    """One-sided Clopper-Pearson limits of both rates for every count; shape (trials + 1,) each."""
    error = float(special.ndtr(special.ndtri(1 - confidence) / math.sqrt(2)))
    counts = np.arange(trials + 1)
    lows = np.zeros(trials + 1)
    lows[1:] = stats.beta.ppf(error, counts[1:], trials - counts[1:] + 1)
    return lows, 1 - lows[::-1]


@lru_cache(maxsize=64)
def _log_choose(trials: int) -> FloatVector:
    counts = np.arange(trials + 1.0)
    return np.asarray(
        special.gammaln(trials + 1) - special.gammaln(counts + 1) - special.gammaln(trials - counts + 1),
        dtype=np.float64,
    )


# ---- many thresholds ---------------------------------------------------------------------------------------------

SHARES = (0.02, 0.1, 0.25, 0.5, 0.75)
"""Of the false alarms: where thresholds are put when none was chosen beforehand."""
_GRID = special.ndtr(np.linspace(-7, 7, 281))


def limit_at_ranks(
    absent: FloatVector,
    present: FloatVector,
    family: Family,
    *,
    confidence: float,
    shares: tuple[float, ...] = SHARES,
) -> float:
    """The least loss that scores do not contradict, when the same games choose the threshold and count.

    Thresholds are the k-th largest scores of the table without the person, for ranks k fixed beforehand. Whatever the
    scores, the rate of false alarms above such a threshold is Beta(k, n - k + 1) distributed, or smaller with ties, and
    the hits above it are binomial. So the chance of as many hits under a promise is one integral, with nothing left to
    maximise over, and a union bound over the ranks is exact because their number does not depend on the scores. The
    customary alternative, a union bound over the points of the ROC's Pareto frontier (as in TAPAS, arXiv:2211.06550),
    has as many points as the scores make, and no proof; on Gaussian scores it also shows less, because there are many.

    Args:
        absent, present: Scores, higher for the person; equally many, none used to make the score.
        shares: Ranks, as shares of the number of scores.
    """
    n = len(absent)
    if n == 0 or len(present) != n:
        raise ValueError("both tables need equally many scores")
    falling = np.sort(absent)[::-1]
    ranks = sorted({max(1, math.ceil(share * n)) for share in shares})
    each = (1 - confidence) / len(shares)
    return max(_limit_at_rank(int((present > falling[k - 1]).sum()), k, n, family, error=each) for k in ranks)


def _limit_at_rank(hits: int, rank: int, trials: int, family: Family, *, error: float) -> float:
    edges = np.append(stats.beta.ppf(_GRID, rank, trials - rank + 1), 1.0)
    mass = np.diff(np.concatenate([[0.0], _GRID, [1.0]]))

    def excluded(loss: float) -> bool:
        """The chance of so many hits, with the false alarms at the upper edge of each cell of their distribution."""
        if hits == 0:
            return False
        tpr = np.maximum(family.highest(loss, edges), edges)
        return float(mass @ special.betainc(hits, trials - hits + 1.0, tpr)) <= error

    if not excluded(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while excluded(high):
        low, high = high, 2 * high
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if excluded(middle) else (low, middle)
    return low
