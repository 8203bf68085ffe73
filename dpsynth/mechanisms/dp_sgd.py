"""DP-SGD: noisy sums of clipped gradients over Poisson batches of persons, with their cost.

Each step takes every person into its batch by a coin of its own, adds up one clipped gradient a person, and adds Gaussian
noise. The cost is that of Poisson batches because the batches are Poisson batches. Noise is floating point, the one
exception to exact noise here: every report of such a release says so.

Sources:
    [MTZ19]  Mironov, Talwar, Zhang. Renyi differential privacy of the sampled Gaussian mechanism. arXiv:1908.10530.
             Theorems 4 and 5: at every order the divergence of the mixture from the Gaussian is the larger one of the
             two directions; Section 3.3: how it is computed, as dp-accounting does.
    [M17]    Mironov. Renyi differential privacy. arXiv:1702.07476. Proposition 11 (a chain of two neighbours),
             Proposition 9 (orders), Proposition 1 (composition).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dpsynth.errors import UsageError
from dpsynth.privacy import NANO, ORDERS, Cost, Neighbours
from dpsynth.randomness import Rng

FloatVector = npt.NDArray[np.float64]
BoolVector = npt.NDArray[np.bool_]

_SIGNIFICANT = 2**10  # the noise multiplier has 11 significant bits: rounding it up costs less than 0.2 % of the loss
_SMALLEST, _LARGEST = -6, 40  # powers of two between which it lies
_HIGHEST = 1000  # above this order the bound without sampling is taken: nothing is gained there, and sums get long
_GRID = 2.0**-20  # of the standard deviation: the noisy sum is a multiple of it
_BLOCK = 2**16  # draws at a time


@dataclass(frozen=True, kw_only=True)
class SampledGaussian:
    """A fixed schedule of steps, each a sum over a Poisson batch of persons with Gaussian noise.

    Args:
        noise_multiplier: Standard deviation of the noise over `clip`.
        rate: Chance of each person to be in a batch, in (0, 1].
        steps: How many batches.
        clip: Most that one person may contribute to a step, in L2.
        is_amplified: Whether the cost counts on the secrecy of the batches, and is a Renyi curve; if not it is the zCDP
            cost of the same noise on all persons, which is never less.
    """

    noise_multiplier: Fraction
    rate: Fraction
    steps: int
    clip: float = 1.0
    is_amplified: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.noise_multiplier, Fraction) or not isinstance(self.rate, Fraction):
            raise TypeError("the noise multiplier and the rate must be fractions")
        if self.noise_multiplier <= 0 or not 0 < self.rate <= 1 or self.steps < 1:
            raise ValueError("noise and steps must be positive, and the rate in (0, 1]")
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise ValueError("the clipping bound must be positive")

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise on each coordinate of a step's sum."""
        return float(self.noise_multiplier) * self.clip

    def cost(self, *, neighbours: Neighbours) -> Cost:
        """What all steps cost together, whatever is asked in them."""
        if not self.is_amplified:
            return Cost.zcdp(self.steps * _distance_squared(neighbours) / (2 * self.noise_multiplier**2))
        return Cost(extra=_curve(self.noise_multiplier, self.rate, self.steps, neighbours))

    @classmethod
    def for_zcdp(
        cls, rho: Fraction, *, neighbours: Neighbours, rate: Fraction, steps: int, clip: float = 1.0
    ) -> SampledGaussian:
        """The least noise, on the grid, whose cost without the secrecy of the batches is at most `rho`."""
        if rho <= 0:
            raise ValueError("rho must be positive")
        wanted = steps * _distance_squared(neighbours) / (2 * rho)
        multiplier = _least(lambda noise: noise**2 >= wanted)
        return cls(noise_multiplier=multiplier, rate=rate, steps=steps, clip=clip, is_amplified=False)

    @classmethod
    def at_order(
        cls, order: Fraction, nano: int, *, neighbours: Neighbours, rate: Fraction, steps: int, clip: float = 1.0
    ) -> SampledGaussian:
        """The least noise, on the grid, whose loss at one of `ORDERS` is at most `nano`."""

        def fits(noise: Fraction) -> bool:
            return _losses(noise, rate, steps, neighbours, (order,))[0] <= nano

        return cls(noise_multiplier=_least(fits), rate=rate, steps=steps, clip=clip)

    @classmethod
    def within(
        cls, curve: Sequence[int], *, neighbours: Neighbours, rate: Fraction, steps: int, clip: float = 1.0
    ) -> SampledGaussian:
        """The least noise, on the grid, whose loss is within a Renyi curve at each of `ORDERS`."""

        def fits(noise: Fraction) -> bool:
            losses = _curve(noise, rate, steps, neighbours)
            return all(mine <= allowed for mine, allowed in zip(losses, curve, strict=True))

        middle = min(range(len(ORDERS)), key=lambda place: abs(ORDERS[place] - 16))
        first = cls.at_order(ORDERS[middle], curve[middle], neighbours=neighbours, rate=rate, steps=steps, clip=clip)
        multiplier = first.noise_multiplier if fits(first.noise_multiplier) else _least(fits)
        return cls(noise_multiplier=multiplier, rate=rate, steps=steps, clip=clip)

    def batch(self, persons: int, *, rng: Rng) -> BoolVector:
        """Who is in one batch: an independent coin for each, of chance `rate` rounded down to 64 bits."""
        if self.rate == 1:
            return np.ones(persons, dtype=bool)
        chosen: BoolVector = rng.words(persons) < np.uint64(self.rate * 2**64)
        return chosen

    def add_noise(self, total: FloatVector, *, rng: Rng) -> FloatVector:
        """A step's sum with independent noise on each coordinate, rounded to a grid that does not depend on it.

        The grid, a millionth of the standard deviation, hides the last bits, from which attacks on floating-point noise
        read the sum (Mironov, CCS 2012): everywhere but in tails of chance 1e-13 all its points can come from any sum.
        """
        out = np.empty(total.size)
        for start in range(0, total.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            out[part] = gaussian(out[part].size, rng=rng)
        step = self.sigma * _GRID
        found: FloatVector = np.rint((total + self.sigma * out) / step) * step
        return found

    def pld_epsilon(self, delta: float, *, neighbours: Neighbours) -> float:
        """Epsilon at `delta` of all steps by privacy loss distributions: for display, never what is charged.

        Raises:
            UsageError: the steps are not Poisson batches of tables that differ in one person more or less.
        """
        import dp_accounting
        from dp_accounting.pld import PLDAccountant

        if not self.is_amplified or neighbours != "add_remove":
            raise UsageError(
                "no loss distribution is known for these steps: batches must count, and neighbours be add_remove"
            )
        accountant = PLDAccountant(value_discretization_interval=1e-4)
        step = dp_accounting.PoissonSampledDpEvent(
            float(self.rate), dp_accounting.GaussianDpEvent(float(self.noise_multiplier))
        )
        accountant.compose(step, self.steps)
        return float(accountant.get_epsilon(delta))


def gaussian(size: int, *, rng: Rng) -> FloatVector:
    """Standard normal draws in float64, each the quantile of a uniform number of 63 bits, and a sign."""
    from scipy.special import ndtri

    words = rng.words(size)
    tail = ((words >> np.uint64(1)).astype(np.float64) + 0.5) * 2.0**-64
    found: FloatVector = ndtri(tail)
    return np.where(words & np.uint64(1), -found, found)


# ---- the curve -----------------------------------------------------------------------------------------------------


def _distance_squared(neighbours: Neighbours) -> int:
    """By how much one person can move a step's sum, squared, in units of `clip`."""
    return 1 if neighbours == "add_remove" else 4


def _least(fits: Callable[[Fraction], bool]) -> Fraction:
    """The smallest noise multiplier on the grid that fits; more noise never fits less well.

    Raises:
        UsageError: none does.
    """

    def at(place: int) -> Fraction:
        power, step = divmod(place, _SIGNIFICANT)
        return Fraction(_SIGNIFICANT + step, _SIGNIFICANT) * Fraction(2) ** power

    low, high = _SMALLEST * _SIGNIFICANT - 1, _LARGEST * _SIGNIFICANT
    if not fits(at(high)):
        raise UsageError("the budget is too small to train with: raise epsilon, or choose another synthesizer")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(at(middle)) else (middle, high)
    return at(high)


@lru_cache(maxsize=64)
def _curve(noise: Fraction, rate: Fraction, steps: int, neighbours: Neighbours) -> tuple[int, ...]:
    """The loss of all steps at each of `ORDERS`, in nano-units, rounded up, and never less at a larger order."""
    losses = list(_losses(noise, rate, steps, neighbours, ORDERS))
    for place in range(len(losses) - 2, -1, -1):
        losses[place] = min(losses[place], losses[place + 1])  # [M17] Proposition 9
    return tuple(losses)


def _losses(
    noise: Fraction, rate: Fraction, steps: int, neighbours: Neighbours, orders: Sequence[Fraction]
) -> tuple[int, ...]:
    """The loss at each of some orders, in nano-units, rounded up.

    Under "add_remove" it is that of [MTZ19]; under "replace" the chain over the table without the person, by [M17]
    Proposition 11 with p = q = 2. Neither exceeds the loss of the same noise on all persons, which bounds every mixture
    with the same coins (joint quasi-convexity, van Erven and Harremoes 2014, Theorem 13).
    """
    plain = [Fraction(steps * _distance_squared(neighbours)) * order / (2 * noise**2) for order in orders]
    out = [math.ceil(loss * NANO) for loss in plain]
    low = [
        place for place, order in enumerate(orders) if order <= _HIGHEST and rate < 1 and out[place] > steps
    ]  # else nothing is gained
    if not low:
        return tuple(out)
    if neighbours == "add_remove":
        found = _sampled(noise, rate, [float(orders[place]) for place in low])
    else:
        twice = _sampled(noise, rate, [float(2 * orders[place]) for place in low])
        below = _sampled(noise, rate, [float(2 * orders[place] - 1) for place in low])
        factors = [float((orders[place] - Fraction(1, 2)) / (orders[place] - 1)) for place in low]
        found = [factor * a + b for factor, a, b in zip(factors, twice, below, strict=True)]
    for place, loss in zip(low, found, strict=True):
        if math.isfinite(loss):
            error = 1e-12 / float(orders[place] - 1)  # far above what float64 gets wrong in one step
            out[place] = min(out[place], math.ceil(Fraction(steps) * Fraction(loss * (1 + 1e-9) + error) * NANO))
    return tuple(out)


def _sampled(noise: Fraction, rate: Fraction, orders: Sequence[float]) -> list[float]:
    """The Renyi loss of one step at each order, one person more or less; infinite where an accountant gives up.

    At whole orders two programs compute it, dp-accounting and Opacus, and the larger number counts: a mistake in one of
    them, or in a version of one, must not become a mistake in a ledger. Between them Opacus' series can take minutes.
    """
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant
    from opacus.accountants.analysis.rdp import compute_rdp

    accountant = RdpAccountant(list(orders))
    logging.getLogger("absl").addFilter(_not_of_an_order)  # a second time changes nothing
    accountant.compose(dp_accounting.PoissonSampledDpEvent(float(rate), dp_accounting.GaussianDpEvent(float(noise))))
    found = [float(loss) if math.isfinite(loss) else math.inf for loss in accountant._rdp]
    whole = [place for place, order in enumerate(orders) if order.is_integer()]
    if whole:
        asked = [orders[place] for place in whole]
        theirs = np.atleast_1d(compute_rdp(q=float(rate), noise_multiplier=float(noise), steps=1, orders=asked))
        for place, other in zip(whole, theirs, strict=True):
            if math.isfinite(other):  # it gives up at some orders above a thousand
                found[place] = max(found[place], float(other))
    return found


def _not_of_an_order(record: logging.LogRecord) -> bool:
    """Drops dp-accounting's warning that a series at one order did not converge: the bound without sampling stands in."""
    return not str(record.msg).startswith("_compute_log_a_frac failed to converge")
