"""Exact discrete Gaussian noise, with its cost.

The sampler is the rejection sampler of Canonne, Kamath, Steinke (NeurIPS 2020, arXiv:2004.00010), Algorithms 1 to 3,
run on whole arrays. Every decision is a comparison of integers with uniform integers from the random source, so the
distribution is exact: no floating point, no table, nothing to add to delta. `docs/noise.md` derives it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from dpsynth.privacy import Cost
from dpsynth.randomness import Rng

IntVector = npt.NDArray[np.int64]
BoolVector = npt.NDArray[np.bool_]

_INT64 = 2**63 - 1
_BITS = 12  # significant bits of sigma squared: rounding up costs less than 0.05 % of rho


@dataclass(frozen=True, kw_only=True)
class DiscreteGaussian:
    """Adds independent discrete Gaussian noise, P(z) proportional to exp(-z^2 / (2 sigma^2)) on the integers.

    Args:
        sigma_squared: The parameter sigma^2 of the noise, in squared rows; its variance is at most this.
    """

    sigma_squared: Fraction

    def __post_init__(self) -> None:
        if not isinstance(self.sigma_squared, Fraction) or self.sigma_squared <= 0:
            raise ValueError(f"sigma_squared ({self.sigma_squared}) must be a positive fraction")

    @classmethod
    def calibrated(cls, *, rho: Fraction, l2_squared: int) -> DiscreteGaussian:
        """The least noise, on a grid of 12 significant bits, whose cost is at most `rho`."""
        if rho <= 0 or l2_squared <= 0:
            raise ValueError("rho and the sensitivity must be positive")
        wanted = Fraction(l2_squared) / (2 * rho)
        exponent = math.floor(math.log2(wanted)) + 1 - _BITS
        unit = Fraction(2) ** exponent
        return cls(sigma_squared=math.ceil(wanted / unit) * unit)

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise in rows, for estimates and displays."""
        return math.sqrt(self.sigma_squared)

    def cost(self, *, l2_squared: int) -> Cost:
        """rho = l2_squared / (2 sigma^2): arXiv:2004.00010, Theorem 4, for a vector of counts (their Section 2.3)."""
        return Cost.zcdp(Fraction(l2_squared) / (2 * self.sigma_squared))

    def add_noise(self, counts: IntVector, *, rng: Rng) -> IntVector:
        """`counts` with independent noise on each; any shape."""
        flat = np.asarray(counts, dtype=np.int64)
        return flat + sample(self.sigma_squared, flat.size, rng=rng).reshape(flat.shape)


def sample(sigma_squared: Fraction, size: int, *, rng: Rng) -> IntVector:
    """`size` independent draws of the discrete Gaussian with parameter `sigma_squared`, exactly.

    Algorithm 3: propose y from the discrete Laplace distribution of scale t = floor(sigma) + 1 and accept it with
    probability exp(-(|y| - sigma^2 / t)^2 / (2 sigma^2)). With sigma^2 = p / q the exponent is
    (|y| t q - p)^2 / (2 p q t^2), a ratio of integers.
    """
    p, q = sigma_squared.numerator, sigma_squared.denominator
    t = math.isqrt(p // q) + 1
    divisor = 2 * p * q * t * t
    widest = (math.isqrt(_INT64) + min(p, _INT64)) // (t * q)  # |y| up to here: (|y| t q - p)^2 fits 63 bits
    fits = divisor <= _INT64 and widest > 40 * t
    out = np.empty(size, dtype=np.int64)
    todo = np.arange(size)
    while todo.size:
        y = _discrete_laplace(t, todo.size, rng=rng)
        magnitude = np.abs(y)
        if fits and magnitude.max() <= widest - 1:
            root = magnitude * (t * q) - p
            accepted = bernoulli_exp(root * root, divisor, rng=rng)
        else:  # wider than 63 bits: the same decision on Python's integers
            exponents = [(int(m) * t * q - p) ** 2 for m in magnitude]
            accepted = np.array([_bernoulli_exp_big(e, divisor, rng=rng) for e in exponents], dtype=bool)
        out[todo[accepted]] = y[accepted]
        todo = todo[~accepted]
    return out


def uniform_below(bound: int, size: int, *, rng: Rng) -> IntVector:
    """`size` independent uniform integers in [0, bound), exactly: masked words, redrawn while too large."""
    shift = np.uint64(64 - max(1, (bound - 1).bit_length()))
    out = np.empty(size, dtype=np.int64)
    todo = np.arange(size)
    while todo.size:
        drawn = rng.words(todo.size) >> shift
        good = drawn < np.uint64(bound)
        out[todo[good]] = drawn[good].astype(np.int64)
        todo = todo[~good]
    return out


def bernoulli_exp(numerators: IntVector, divisor: int, *, rng: Rng) -> BoolVector:
    """Independent coins that are true with probability exp(-numerator / divisor), exactly. Algorithm 1.

    Args:
        numerators: Non-negative, shape (n,).
        divisor: In 1 .. 2**63 - 1.
    """
    alive = np.ones(numerators.shape, dtype=bool)
    ones, rest = np.divmod(numerators, divisor)
    # exp(-(ones + rest/divisor)): first `ones` coins of probability exp(-1), all of which must be true
    left = ones.copy()
    todo = np.flatnonzero(left > 0)
    while todo.size:
        success = _bernoulli_exp_below_one(np.ones(todo.size, dtype=np.int64), 1, rng=rng)
        alive[todo[~success]] = False
        todo = todo[success]
        left[todo] -= 1
        todo = todo[left[todo] > 0]
    todo = np.flatnonzero(alive)
    alive[todo] = _bernoulli_exp_below_one(rest[todo], divisor, rng=rng)
    return alive


def _bernoulli_exp_below_one(numerators: IntVector, divisor: int, *, rng: Rng) -> BoolVector:
    """Coins of probability exp(-g), g = numerator / divisor in [0, 1].

    Draw coins of probability g/1, g/2, g/3 ... until the first one that is false; the result is true when it was an
    odd one. A coin of probability g/k is drawn as two independent ones, of probability g and 1/k.
    """
    odd = np.zeros(numerators.shape, dtype=bool)
    todo = np.arange(numerators.size)
    k = 0
    while todo.size:
        k += 1
        going_on = uniform_below(divisor, todo.size, rng=rng) < numerators[todo]
        if k > 1:
            going_on &= uniform_below(k, todo.size, rng=rng) == 0
        odd[todo[~going_on]] = k % 2 == 1
        todo = todo[going_on]
    return odd


def _discrete_laplace(t: int, size: int, *, rng: Rng) -> IntVector:
    """Draws with P(y) proportional to exp(-|y| / t), for an integer t. Algorithm 2."""
    out = np.empty(size, dtype=np.int64)
    todo = np.arange(size)
    while todo.size:
        u = uniform_below(t, todo.size, rng=rng)
        kept = bernoulli_exp(u, t, rng=rng)
        todo_kept, u = todo[kept], u[kept]
        v = _geometric_exp1(u.size, rng=rng)
        negative = (rng.words(u.size) >> np.uint64(63)).astype(bool)
        y = u + t * v
        good = ~(negative & (y == 0))
        out[todo_kept[good]] = np.where(negative, -y, y)[good]
        done = np.zeros(size, dtype=bool)
        done[todo_kept[good]] = True
        todo = todo[~done[todo]]
    return out


def _geometric_exp1(size: int, *, rng: Rng) -> IntVector:
    """How many coins of probability exp(-1) come up true before the first false one."""
    count = np.zeros(size, dtype=np.int64)
    todo = np.arange(size)
    while todo.size:
        todo = todo[_bernoulli_exp_below_one(np.ones(todo.size, dtype=np.int64), 1, rng=rng)]
        count[todo] += 1
    return count


def _bernoulli_exp_big(numerator: int, divisor: int, *, rng: Rng) -> bool:
    """One coin of probability exp(-numerator / divisor) for integers of any size."""
    ones, rest = divmod(numerator, divisor)
    for _ in range(ones):
        if not _bernoulli_exp_below_one(np.ones(1, dtype=np.int64), 1, rng=rng)[0]:
            return False
    k = 1
    while _uniform_below_big(divisor * k, rng=rng) < rest:
        k += 1
    return k % 2 == 1


def _uniform_below_big(bound: int, *, rng: Rng) -> int:
    bits = bound.bit_length()
    while True:
        drawn = 0
        for word in rng.words(-(-bits // 64)):
            drawn = drawn << 64 | int(word)
        drawn >>= -bits % 64
        if drawn < bound:
            return drawn
