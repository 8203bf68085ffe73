"""Partition selection: which values occur, published only where many units have them.

Each value that occurs gets a noisy number of units, and is published where that number reaches a threshold. A value that
one unit alone has is published with a probability that is bounded by `delta0`; on all other outcomes the noisy numbers
are those of a discrete Gaussian mechanism over the values that both neighbouring tables have.

Sources: Korolova, Kenthapadi, Mishra, Ntoulas. Releasing search queries and clicks privately. WWW 2009. Desfontaines,
Voss, Gipson, Mandayam. Differentially private partition selection. PoPETs 2022, arXiv:2006.03684 (one value a unit).
[BS16] Definition 8.1 for delta0-approximate rho-zCDP.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext
from fractions import Fraction

from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian, IntVector
from dpsynth.privacy import Cost
from dpsynth.randomness import Rng

_FORTY, _FIFTEEN_UP = Context(prec=40), Context(prec=15, rounding=ROUND_CEILING)
_DOWN = Context(prec=40, rounding=ROUND_FLOOR)
_PI = Decimal("3.14159265358979323846264338327950288")  # cut off, not rounded
_WIDEST = Decimal(10) ** -15  # a smaller difference of 1 and the ratio would have lost too many of the 40 digits
_MARGIN = 1 + Decimal(10) ** -20  # far above the rounding of the others
_SMALLEST = Decimal(10) ** -1000  # stands for everything below it


def tail(sigma_squared: Fraction, least: int) -> Fraction:
    """An upper bound, at most 1, of the probability that discrete Gaussian noise is at least `least`, at least 1.

    With w(z) = exp(-z^2 / (2 s)), the weights from m on fall at least as fast as a geometric series with the ratio
    w(m + 1) / w(m), and by Poisson's summation all weights together are at least sqrt(2 pi s), and at least 1.
    """
    if least < 1:
        raise ValueError("the bound is for positive noise")
    with localcontext(_FORTY):
        s = Decimal(sigma_squared.numerator) / Decimal(sigma_squared.denominator)
        first, ratio = (-(Decimal(least) ** 2) / (2 * s)).exp(), (-Decimal(2 * least + 1) / (2 * s)).exp()
        if ratio >= 1 - _WIDEST:
            return Fraction(1)
        total = max(Decimal(1), _DOWN.sqrt(2 * _PI * s) / _MARGIN)
        bound = max(_SMALLEST, _FIFTEEN_UP.plus(first / (1 - ratio) / total * _MARGIN))
    return min(Fraction(1), Fraction(bound))


def threshold(sigma_squared: Fraction, chance: Fraction) -> int:
    """The least m, at least 1, for which noise of m or more is proven to have at most probability `chance`, above 0."""
    low, high = 0, 1
    while tail(sigma_squared, high) > chance:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if tail(sigma_squared, middle) > chance else (low, middle)
    return high


@dataclass(frozen=True, kw_only=True)
class PartitionSelection:
    """Noise on the number of units that have each value, and the number from which on a value is published.

    Args:
        noise: The noise on each number.
        least: The threshold, at least 2: a value that one unit has needs noise of at least `least` - 1.
    """

    noise: DiscreteGaussian
    least: int

    def __post_init__(self) -> None:
        if self.least < 2:
            raise ValueError("with a threshold below 2 a value of one unit is published without any noise")

    @classmethod
    def calibrated(cls, *, rho: Fraction, delta0: Fraction, l2_squared: int, values: int) -> PartitionSelection:
        """The least noise whose cost is at most `rho` and `delta0`.

        Args:
            l2_squared: Squared L2 sensitivity of the numbers of units.
            values: Different values of one unit, at most.
        """
        if not 0 < delta0 < 1:
            raise ValueError("delta0 must be above 0 and below 1")
        noise = DiscreteGaussian.calibrated(rho=rho, l2_squared=l2_squared)
        return cls(noise=noise, least=1 + threshold(noise.sigma_squared, delta0 / values))

    def cost(self, *, l2_squared: int, values: int) -> Cost:
        """delta0-approximate rho-zCDP.

        Of two neighbouring tables each has at most `values` values that the other lacks, each with one unit. That none
        of them is published has a probability of at least 1 - `values` * tail, by a union bound. Given that, and because
        the noise on different values is independent, the output is a function of the noisy numbers of the values that
        both tables have.
        """
        chance = values * tail(self.noise.sigma_squared, self.least - 1)
        return self.noise.cost(l2_squared=l2_squared) + Cost.zcdp(Fraction(0), delta0=min(Fraction(1), chance))

    def published(self, units: IntVector, *, rng: Rng) -> IntVector:
        """The noisy number of units of each value; -1 where it stays below the threshold.

        Args:
            units: How many units have each value; at least 1, because absent values are not asked about.
        """
        if len(units) and units.min() < 1:
            raise ValueError("a value that no unit has must not be asked about")
        noisy = self.noise.add_noise(units, rng=rng)
        noisy[noisy < self.least] = -1
        return noisy
