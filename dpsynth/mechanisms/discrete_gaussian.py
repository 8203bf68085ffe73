"""Exact discrete Gaussian noise, with its cost.

A draw is the inverse of the distribution function at a uniform real number whose bits are revealed as far as needed:
nearly always 63 bits and one look into a table of integers decide, and where they do not, more bits are drawn and
compared with closer bounds, until they do. Noise wider than 32 rows is put together from a narrow draw and uniform low
bits, and corrected by rejection. Every number that decides is an integer with a proven error, so the distribution is
exact: no tail is cut and nothing is added to delta. `docs/noise.md` derives it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dpsynth.privacy import Cost
from dpsynth.randomness import Rng

IntVector = npt.NDArray[np.int64]
BoolVector = npt.NDArray[np.bool_]

_SIGNIFICANT = 12  # bits of sigma squared: rounding up costs less than 0.05 % of rho
_BITS = 63  # of a uniform number in one word; the lowest bit of the word is the sign, or unused
_CELLS = 12  # bits of a uniform number that choose a cell of the guide to a table
_STEPS = 11  # bits after the point of an exponent that a coin's first look considers
_FAR = 300  # the narrow draw up to which that look's arithmetic fits 63 bits
_BLOCK = 2**15  # draws at a time: what fits a processor's cache


@dataclass(frozen=True, kw_only=True)
class DiscreteGaussian:
    """Adds independent discrete Gaussian noise, P(z) proportional to exp(-z^2 / (2 sigma^2)) on the integers.

    Args:
        sigma_squared: The parameter sigma^2 of the noise, in squared rows, below 2**100; its variance is at most this.
    """

    sigma_squared: Fraction

    def __post_init__(self) -> None:
        if not isinstance(self.sigma_squared, Fraction) or not 0 < self.sigma_squared < 2**100:
            raise ValueError(f"sigma_squared ({self.sigma_squared}) must be a positive fraction below 2**100")

    @classmethod
    def calibrated(cls, *, rho: Fraction, l2_squared: int) -> DiscreteGaussian:
        """The least noise, on a grid of 12 significant bits, whose cost is at most `rho`."""
        if rho <= 0 or l2_squared <= 0:
            raise ValueError("rho and the sensitivity must be positive")
        wanted = Fraction(l2_squared) / (2 * rho)
        exponent = math.floor(math.log2(wanted)) + 1 - _SIGNIFICANT
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
    """`size` independent draws of the discrete Gaussian with parameter `sigma_squared`, exactly."""
    out = np.empty(size, dtype=np.int64)
    shift = max(0, (int(sigma_squared).bit_length() - 9) // 2)  # sigma / 2**shift is below 32, and at least 16 or whole
    for start in range(0, size, _BLOCK):
        block = out[start : start + _BLOCK]
        if shift:
            _fill_wide(block, sigma_squared, shift, rng=rng)
        else:
            words = rng.words(block.size)
            block[:] = _signed(_table(sigma_squared, 1).draw(words, rng=rng), words)
    return out


def _fill_wide(out: IntVector, sigma_squared: Fraction, shift: int, *, rng: Rng) -> None:
    """Fills `out` with draws z = ±(2**shift x + y) from a narrow draw x >= 0 and a uniform y below 2**shift.

    x has probability proportional to exp(-(2**shift x)^2 / (2 sigma^2)), so a proposal that is kept with probability
    exp(-((2**shift x + y)^2 - (2**shift x)^2) / (2 sigma^2)) is distributed as it should be; minus zero is not kept.
    """
    table = _table(sigma_squared / 4**shift, 2)
    filled = 0
    while filled < out.size:
        missing = out.size - filled
        words = rng.words(3 * (missing + missing // 32 + 8)).reshape(3, -1)  # 1 to 3 % are not kept
        x = table.draw(words[0], rng=rng)
        y = (words[1] >> np.uint64(64 - shift)).view(np.int64)
        z = _signed((x << shift) + y, words[0])
        kept = _kept(x, y, words[2], sigma_squared, shift, rng=rng)
        kept &= (z != 0) | (words[0] & np.uint64(1) == 0)
        found = z[kept][:missing]
        out[filled : filled + found.size] = found
        filled += found.size


def _signed(magnitudes: IntVector, words: npt.NDArray[np.uint64]) -> IntVector:
    minus = (words & np.uint64(1)).view(np.int64)
    return (magnitudes ^ -minus) + minus


# ---- the narrow draw -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """The law on 0, 1, 2 ... with weights zero / 2, w(1), w(2) ..., where w(k) = exp(-k^2 / (2 sigma^2)).

    `bounds[k]` <= 2**63 P(X <= k) < `bounds[k]` + 2. `guide[c]` is the draw for all uniform numbers whose first bits
    are c, or -1 where they are not enough.
    """

    sigma_squared: Fraction
    zero: int
    bounds: IntVector
    guide: npt.NDArray[np.int16]

    def draw(self, words: npt.NDArray[np.uint64], *, rng: Rng) -> IntVector:
        """How many k have P(X <= k) <= U, for the uniform numbers U that begin with the first 63 bits of `words`."""
        drawn: IntVector = self.guide[words >> np.uint64(64 - _CELLS)].astype(np.int64)
        todo = np.flatnonzero(drawn < 0)
        if todo.size:
            u = (words[todo] >> np.uint64(1)).view(np.int64)
            least, most = _ranks(self.bounds, u, u)
            drawn[todo] = least
            for i in todo[(least < most) | (most == self.bounds.size)]:
                drawn[i] = self._reveal(int(words[i]) >> 1, rng=rng)
        return drawn

    def _reveal(self, u: int, *, rng: Rng) -> int:
        bits = _BITS
        while True:
            u, bits = u << 64 | int(rng.words(1)[0]), bits + 64
            bounds = _cumulative(self.sigma_squared, self.zero, bits)
            least, most = bisect_right(bounds, u - 2), bisect_right(bounds, u)
            if least == most < len(bounds):
                return least


def _ranks(bounds: IntVector, first: IntVector, last: IntVector) -> tuple[IntVector, IntVector]:
    """How many probabilities are surely <= U, and how many may be, where `first` <= 2**63 U < `last` + 1."""
    return np.searchsorted(bounds, first - 2, side="right"), np.searchsorted(bounds, last, side="right")


@lru_cache(maxsize=256)  # about 10 kB each
def _table(sigma_squared: Fraction, zero: int) -> _Table:
    bounds = np.array(_cumulative(sigma_squared, zero, _BITS), dtype=np.int64)
    first = np.arange(2**_CELLS) << (_BITS - _CELLS)
    least, most = _ranks(bounds, first, first + (2 ** (_BITS - _CELLS) - 1))
    guide = np.where((least == most) & (most < bounds.size), least, -1).astype(np.int16)
    return _Table(sigma_squared, zero, bounds, guide)


def _cumulative(sigma_squared: Fraction, zero: int, bits: int) -> list[int]:
    """Integers b(k) <= 2**bits P(X <= k) < b(k) + 2 for the law of `_Table`, until P(X > k) is about 2**-bits.

    In units of 2**-precision: the step g = w(1) is up to 2 too small, so the ratio w(k+1) / w(k) = g^(2k+1) is up to
    7k + 2 too small, w(k) up to 4k^2, and twice their sum up to 8k^3. Once w(n) rounds to 0 the rest of the weights,
    each at most the ratio times the one before, sum to at most 4n^2 / (1 - ratio).
    """
    precision = bits + 64
    one = 1 << precision
    ratio = _exp(sigma_squared.denominator, 2 * sigma_squared.numerator, precision)
    change = ratio * ratio >> precision
    weight, total = one, zero * one
    sums = []
    while weight:
        sums.append(total)
        weight = weight * ratio >> precision
        ratio = ratio * change >> precision
        total += 2 * weight
    n = len(sums)
    rest = 4 * n * n * one // (one - ratio - 7 * n - 2) + 1
    most = total + 8 * n**3 + 2 * rest
    return [(below << bits) // most for below in sums]


# ---- coins ---------------------------------------------------------------------------------------------------------


def _kept(
    x: IntVector, y: IntVector, words: npt.NDArray[np.uint64], sigma_squared: Fraction, shift: int, *, rng: Rng
) -> BoolVector:
    """Coins that are true with probability exp(-e) for e = y (y + 2**(shift+1) x) / (2 sigma^2).

    The first look takes the first 26 bits of y, which give s <= 2**11 e < s + 2, and a table of exponentials.
    """
    table = _exponentials()
    u = (words >> np.uint64(1)).view(np.int64)
    v = y << (26 - shift) if shift <= 26 else y >> (shift - 26)
    scale = int(2 ** (2 * shift + 37) / sigma_squared)  # 2**38 / (2 (sigma / 2**shift)^2), at most 2**29
    s = (v * (v + (np.minimum(x, _FAR) << 27)) >> 30) * scale >> (60 - _STEPS)
    kept: BoolVector = u < table[s + 2]
    doubtful = ~kept & (u - 2 < table[s]) | (x > _FAR)
    for i in np.flatnonzero(doubtful):
        low, high = int(y[i]), int(x[i]) << shift + 1
        exponent = Fraction(low * (low + high)) / (2 * sigma_squared)
        kept[i] = _coin(int(u[i]), exponent.numerator, exponent.denominator, rng=rng)
    return kept


def _coin(u: int, numerator: int, denominator: int, *, rng: Rng) -> bool:
    """Whether the uniform number that begins with the 63 bits of `u` is below exp(-numerator / denominator)."""
    bits = _BITS
    while True:
        bound = _exp(numerator, denominator, bits)
        if u < bound:
            return True
        if u >= bound + 2:
            return False
        u, bits = u << 64 | int(rng.words(1)[0]), bits + 64


@lru_cache(maxsize=1)
def _exponentials() -> IntVector:
    """b(s) <= 2**63 exp(-s / 2**11) < b(s) + 2, for the exponents (2 * 300 + 1) / (2 * 16^2) and less of a first look."""
    step = _exp(1, 2**_STEPS, _BITS + 64)
    value = 1 << _BITS + 64
    bounds = []
    for _ in range(5 * 2**_STEPS // 4):
        bounds.append(min(value >> 64, 2**63 - 1))
        value = value * step >> _BITS + 64  # up to 3 s too small
    return np.array(bounds, dtype=np.int64)


def _exp(numerator: int, denominator: int, bits: int) -> int:
    """An integer b >= 0 with b <= 2**bits exp(-numerator / denominator) < b + 2.

    The alternating series at the exponent halved until it is below 1/256, then as many squarings. With k terms the
    series is off by less than 2k units of 2**-precision, and a squaring doubles that and adds less than 2.
    """
    if numerator > bits * denominator:
        return 0
    halvings = (numerator // denominator).bit_length() + 8
    precision = bits + halvings + 32
    denominator <<= halvings
    total = term = 1 << precision
    k = 0
    while term:
        k += 1
        term = term * numerator // (denominator * k)
        total += -term if k % 2 else term
    for _ in range(halvings):
        total = total * total >> precision
    return max(0, total - (2 * k + 2 << halvings) >> halvings + 32)
