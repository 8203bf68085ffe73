"""Exact private selection: OpenDP's noisy max on integer scores, with its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

from dpsynth.privacy import Cost

_STEPS = 256  # a scale is a multiple of 1/256, which a float holds exactly


@dataclass(frozen=True, kw_only=True)
class NoisyMax:
    """Picks the index of a high score; the exponential mechanism by exact Gumbel noise.

    Args:
        scale: Scale of the noise, in units of the score, a positive multiple of 1/256.
    """

    scale: Fraction

    def __post_init__(self) -> None:
        if self.scale <= 0 or (self.scale * _STEPS).denominator != 1 or self.scale >= 2**44:
            raise ValueError(f"scale ({self.scale}) must be a positive multiple of 1/{_STEPS} below 2**44")

    @classmethod
    def calibrated(cls, *, rho: Fraction, sensitivity: int) -> NoisyMax:
        """The least noise on the grid of scales whose cost is at most `rho`."""
        if rho <= 0 or sensitivity <= 0:
            raise ValueError("rho and the sensitivity must be positive")
        steps = max(1, int(sensitivity * _STEPS / float(2 * rho) ** 0.5))
        while cls(scale=Fraction(steps, _STEPS)).cost(sensitivity=sensitivity).rho > rho:
            steps += 1
        return cls(scale=Fraction(steps, _STEPS))

    def cost(self, *, sensitivity: int) -> Cost:
        """rho = (2 sensitivity / scale)^2 / 8, for scores that need not move in one direction.

        With this noise the selection is the exponential mechanism with epsilon = 2 sensitivity / scale, which is
        (epsilon^2 / 8)-zCDP: Cesar and Rogers, ALT 2021, arXiv:2004.07223; it is OpenDP's own privacy map too, and a
        test compares the two.
        """
        return Cost.zcdp(Fraction((2 * sensitivity) ** 2) / (8 * self.scale**2))

    def pick(self, scores: Sequence[int]) -> int:
        """Index of the winner; the coins are OpenDP's own, from the operating system's entropy."""
        return int(opendp_noisy_max(self.scale)([int(score) for score in scores]))


@lru_cache(maxsize=64)
def opendp_noisy_max(scale: Fraction) -> Any:
    """OpenDP's measurement for integer scores that are not monotone, under zCDP."""
    import opendp.domains
    import opendp.measurements
    import opendp.measures
    import opendp.metrics
    import opendp.mod

    opendp.mod.enable_features("contrib")
    return opendp.measurements.make_noisy_max(
        opendp.domains.vector_domain(opendp.domains.atom_domain(T="i64")),
        opendp.metrics.linf_distance(T="i64", monotonic=False),
        opendp.measures.zero_concentrated_divergence(),
        scale=float(scale),
    )
