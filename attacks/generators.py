"""What an audit runs: anything that turns a data frame into synthetic rows under a promise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from attacks.canary import Claim
from dpsynth import Cost, Schema, Trial

if TYPE_CHECKING:
    import pandas as pd


class Generator(Protocol):
    """A generator that can be run again and again: `dpsynth.Rehearsal` for our own, `dpsynth.Program` for any other."""

    @property
    def name(self) -> str: ...

    @property
    def schema(self) -> Schema: ...

    @property
    def epsilon(self) -> float: ...

    @property
    def delta(self) -> float: ...

    @property
    def cost(self) -> Cost | None:
        """The curve behind (epsilon, delta), where the generator has one; then it leaves its noisy counts, too."""
        ...

    def run(self, frame: pd.DataFrame) -> Trial:
        """The whole pipeline on one table, with fresh noise."""
        ...


def claim_of(generator: Generator) -> Claim:
    """What a generator promises, in the sharpest form that it states."""
    return Claim(epsilon=generator.epsilon, delta=generator.delta, cost=generator.cost)
