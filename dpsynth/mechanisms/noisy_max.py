"""Exact private selection among integer scores, with its cost.

Each score gets Gumbel noise and the highest win. The noise is a real number whose bits are revealed as far as the order
of the winners needs: 64 bits and floating-point bounds nearly always decide, and where they do not, more bits are drawn
and compared in decimals of growing length, until they do. `docs/noise.md` derives it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from itertools import islice

import numpy as np
import numpy.typing as npt

from dpsynth.privacy import Cost
from dpsynth.randomness import Rng

_STEPS = 256  # a scale is a multiple of 1/256, which a float holds exactly
_EDGE = np.uint64(2**32)  # a first word this near to either end of its range bounds nothing
_SLACK = 2.0**-28  # of a Gumbel variable in floating point, hundreds of times what the first word leaves open


def anything(_: object) -> bool:
    """Admits all."""
    return True


class Forest:
    """Column sets that close no cycle."""

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def admits(self, columns: tuple[int, ...]) -> bool:
        """Takes the columns in, unless two of them are connected already."""
        first, *others = {self._root(column) for column in columns}
        if len(others) < len(columns) - 1:
            return False
        self._parent.update(dict.fromkeys(others, first))
        return True

    def _root(self, column: int) -> int:
        while column in self._parent:
            column = self._parent[column]
        return column


@dataclass(frozen=True, kw_only=True)
class NoisyMax:
    """Picks the indices of high scores; the exponential mechanism by exact Gumbel noise.

    Args:
        scale: Scale of the noise, in units of the score, a positive multiple of 1/256.
    """

    scale: Fraction

    def __post_init__(self) -> None:
        if self.scale <= 0 or (self.scale * _STEPS).denominator != 1 or self.scale >= 2**44:
            raise ValueError(f"scale ({self.scale}) must be a positive multiple of 1/{_STEPS} below 2**44")

    @classmethod
    def calibrated(cls, *, rho: Fraction, sensitivity: int) -> NoisyMax:
        """The least noise on the grid of scales whose cost for one pick is at most `rho`."""
        if rho <= 0 or sensitivity <= 0:
            raise ValueError("rho and the sensitivity must be positive")
        steps = max(1, int(sensitivity * _STEPS / float(2 * rho) ** 0.5))
        while cls(scale=Fraction(steps, _STEPS)).cost(sensitivity=sensitivity).rho > rho:
            steps += 1
        return cls(scale=Fraction(steps, _STEPS))

    def cost(self, *, sensitivity: int, picks: int = 1) -> Cost:
        """rho = picks (2 sensitivity / scale)^2 / 8, for scores that need not move in one direction.

        With this noise one selection is the exponential mechanism with epsilon = 2 sensitivity / scale, which is
        (epsilon^2 / 8)-zCDP: Cesar and Rogers, ALT 2021, arXiv:2004.07223. The first k of one noisy ranking are
        distributed as k exponential mechanisms one after the other, each without the earlier winners: Durfee and
        Rogers, NeurIPS 2019, arXiv:1905.04273, Section 4.1. It is OpenDP's privacy map too, and a test compares them.
        """
        return Cost.zcdp(picks * Fraction((2 * sensitivity) ** 2) / (8 * self.scale**2))

    def top(
        self,
        scores: Sequence[int] | npt.NDArray[np.int64],
        count: int,
        *,
        rng: Rng,
        admits: Callable[[int], bool] = anything,
    ) -> list[int]:
        """Indices of the `count` highest noisy scores that are admitted, the highest first; fewer if there are no more.

        Args:
            admits: Asked about one index after another, from the highest noisy score down; what it admits is taken. It
                may depend on what it admitted before and on nothing else, and what it has refused it must refuse for
                good, as "closes a cycle" does. Then each winner is an exponential mechanism's among the indices that
                are still admissible, because the law of a Gumbel ranking (Plackett-Luce) of some items, given the
                items above them, is that of a ranking of these items alone. Refused ones cost nothing.
        Raises:
            ValueError: there is no score, or `count` is not positive.
        """
        if count < 1 or len(scores) < 1:
            raise ValueError(f"count ({count}) and the number of scores ({len(scores)}) must be positive")
        return list(islice(filter(admits, self._ranking(np.asarray(scores, dtype=np.int64), rng=rng)), count))

    def _ranking(self, exact: npt.NDArray[np.int64], *, rng: Rng) -> Iterator[int]:
        """All indices by falling noisy score, as far as somebody asks."""
        behind = (exact.max() - exact).view(np.uint64)  # modulo 2**64 there is no overflow
        words = rng.words(exact.size)
        noisy, slack = _gumbel(words)
        distance = behind / float(self.scale)
        noisy -= distance
        slack += distance * 2.0**-50
        low, high = noisy - slack, noisy + slack
        order = np.argsort(-noisy)
        rest = np.append(np.maximum.accumulate(high[order][::-1])[::-1][1:], -math.inf)  # highest bound further down
        lowest = math.inf
        undecided: list[int] = []
        for index, above in zip(order.tolist(), rest.tolist(), strict=True):
            undecided.append(index)
            lowest = min(lowest, float(low[index]))
            if lowest <= above and above > -math.inf:  # nothing is further down than the last
                continue
            if len(undecided) > 1:
                rivals = [
                    _Rival(i, Fraction(-int(behind[i])) / self.scale, int(words[i]), low[i], high[i], rng)
                    for i in undecided
                ]
                undecided = [rival.index for rival in sorted(rivals, reverse=True)]
            yield from undecided
            undecided, lowest = [], math.inf


def _gumbel(words: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Gumbel variables -ln(-ln(1 - V)) for the uniform numbers V that begin with `words`, and how far they may be off.

    Near one, 1 - V is computed from the inverted word, so that the exponential variable -ln(1 - V) has a relative error
    below 2**-31 from the bits not yet drawn and far less from rounding.
    """
    inside = np.clip(words, _EDGE, ~_EDGE)
    below, above = np.minimum(inside, 2**63) * 2.0**-64, ~inside * 2.0**-64
    exponential = np.where(inside >> np.uint64(63), -np.log(above), -np.log1p(-below))
    return -np.log(exponential), np.where(inside == words, _SLACK, math.inf)


class _Rival:
    """A noisy score between two bounds, which draw closer while another one lies between them."""

    def __init__(self, index: int, distance: Fraction, word: int, low: float, high: float, rng: Rng) -> None:
        self.index = index
        self._distance, self._word, self._bits, self._rng = distance, word, 64, rng
        self._low, self._high = Decimal.from_float(float(low)), Decimal.from_float(float(high))

    def __lt__(self, other: _Rival) -> bool:
        while True:
            if self._high < other._low:
                return True
            if other._high < self._low:
                return False
            self._reveal()
            other._reveal()

    def _reveal(self) -> None:
        self._word, self._bits = self._word << 64 | int(self._rng.words(1)[0]), self._bits + 64
        digits = Context(prec=self._bits + 40, traps=[])  # word / 2**bits is exact; of the rest bits + 17 places are
        distance = digits.divide(Decimal(self._distance.numerator), Decimal(self._distance.denominator))
        bounds = []
        for taken in (self._word + 1, self._word):  # the noise is -ln(-ln(1 - V)), which falls with V
            survival = digits.divide(Decimal(2**self._bits - taken), Decimal(2**self._bits))
            exponential = digits.minus(digits.ln(survival))
            bounds.append(digits.subtract(distance, digits.ln(exponential)))
        slack = Decimal((0, (1,), -self._bits))
        self._low, self._high = digits.subtract(bounds[0], slack), digits.add(bounds[1], slack)
