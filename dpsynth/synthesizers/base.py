"""What a synthesizer is: a recipe of what to measure and how to share the budget."""

from __future__ import annotations

from typing import Protocol

from dpsynth.curator import Curator
from dpsynth.models.base import Model
from dpsynth.privacy import Cost


class Synthesizer(Protocol):
    """Settings only: no data, no state."""

    @property
    def name(self) -> str: ...

    def fit(self, curator: Curator, *, budget: Cost) -> Model:
        """Asks the curator questions that cost at most `budget`, a zCDP cost, and builds a model from the answers."""
        ...
