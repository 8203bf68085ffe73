"""The most that a declared guarantee allows each number of an attack to be.

Let F(q) be the highest rate at which anything can be said about a person whose record was used that would be said
without it at rate q (`dpsynth.tpr_bound`; F is concave and rises). Three statements carry every ceiling:

1. Let g(x) in [0, 1] depend on the synthetic table, on person x's own rows, and on what x's coin does not touch: all rows
   of both sides, and the other persons' coins. Then E[g(x) | x fitted] <= F(E[g(x) | x held back]), because a number in
   [0, 1] is the chance of a yes. F is concave, so by Jensen's inequality the means over persons obey the same.
2. Ranks among the persons of both sides are such functions where scores are. Of the share q of all persons who rank
   highest let TPR(q) and FPR(q) be the shares of each side, and p the share of fitted persons: p TPR + (1 - p) FPR = q,
   and partial integration gives AUC = 1/2 + the integral of TPR - FPR over q, exactly, in every single run. So the
   expected AUC is the area under the curve of expected rates, which lies below F.
3. Where what is said about all persons adds up to one whatever the coins, as shares of the synthetic rows do, both rates
   are tied to one another and F alone bounds each of them: no rate has to be measured.

The bounds hold for expectations over the release's noise. One release may lie above, as one throw of a coin does; that
persons share one synthetic table is not in the intervals. So what passes a ceiling is an ordinary failure of a review.

Where x's coin touches more than x (a threshold learned from half of the answers, the split of columns that told other
persons apart best, estimates from everybody's rows of a random part), it moves one person among all. Under "replace"
another person takes x's place, which is one more.

Source of 1: Kulynych et al., NeurIPS 2025 (success without the record as baseline); the rest is proven here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from attacks.intervals import Rate
from dpsynth import Cost, tpr_bound

CELLS = 24  # of the false-positive rate, when the area is added up
STEPS = 16  # of a bisection


@dataclass(frozen=True, kw_only=True)
class Allowed:
    """What a guarantee allows a number to be.

    Args:
        most: Rounded up, in [0, 1].
        least: Rounded down, in [0, 1]; 0 where only success is bounded.
    """

    most: float
    least: float = 0.0


class Bound(Protocol):
    """Why a guarantee bounds a number, and by what."""

    def allowed(self, cost: Cost, *, confidence: float) -> Allowed | None:
        """What a declared cost allows; None where nothing is proven.

        Args:
            confidence: Of the interval at whose upper end a rate without the person's record is taken.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class PerPerson:
    """The number is `times` the mean over fitted persons of a function that is the same for everybody (statement 1).

    Args:
        without: Its mean over persons held back.
        times: What the mean is multiplied with, for a number that is a sum or a share of fewer persons.
    """

    without: Rate
    times: float = 1.0

    def allowed(self, cost: Cost, *, confidence: float) -> Allowed:
        return Allowed(most=min(1.0, self.times * tpr_bound(cost, self.without.surely(confidence).high)))


@dataclass(frozen=True)
class Area:
    """The number is an AUC of scores, or the chance that a fitted person ranks above another (statement 2)."""

    def allowed(self, cost: Cost, *, confidence: float) -> Allowed:
        return Allowed(most=_area(cost))


@dataclass(frozen=True, kw_only=True)
class Divided:
    """The number is f / (f + c), where persons divide a whole and get f on average if fitted, c if not (statement 3).

    Args:
        fit, control: How many persons there are.
    """

    fit: int
    control: int

    def allowed(self, cost: Cost, *, confidence: float) -> Allowed:
        return Allowed(most=_part(cost, self.fit, self.control), least=1 - _part(cost, self.control, self.fit))


@dataclass(frozen=True)
class Unproven:
    """Nothing is proven about the number.

    Args:
        reason: Why not, in words.
    """

    reason: str

    def allowed(self, cost: Cost, *, confidence: float) -> None:
        return None


@lru_cache(maxsize=64)
def _area(cost: Cost) -> float:
    """The area under the highest true-positive rates, rounded up.

    A concave curve lies below its tangent in the middle of a cell, so the area of a cell is at most its width times the
    height there. Cells are narrower towards both ends, where the curve bends.
    """
    edges = np.sin(np.linspace(0, np.pi / 2, CELLS + 1)) ** 2
    heights = [tpr_bound(cost, float(middle)) for middle in (edges[1:] + edges[:-1]) / 2]
    return min(1.0, float(np.diff(edges) @ np.array(heights)) + 1e-12)


@lru_cache(maxsize=64)
def _part(cost: Cost, ours: int, others: int) -> float:
    """The largest f / (f + c) with `ours` f + `others` c = 1 and f <= F(c), rounded up.

    As the part grows f rises and c falls, so it is found by bisection. At one half f = c, which is always possible.
    """
    low, high = 0.5, 1.0
    for _ in range(STEPS):
        part = (low + high) / 2
        whole = ours * part + others * (1 - part)
        possible = part / whole <= tpr_bound(cost, (1 - part) / whole)
        low, high = (part, high) if possible else (low, part)
    return high
