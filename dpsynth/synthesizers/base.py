"""What a synthesizer is: a recipe of what to measure and how to share the budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dpsynth.curator import Curator
from dpsynth.models.base import Model
from dpsynth.privacy import Cost
from dpsynth.schema import Schema

Progress = Callable[[str], None]  # is told which step begins, in words that quote public facts only


def silent(step: str) -> None:
    """Tells nobody."""


class Synthesizer(Protocol):
    """Settings only: no data, no state."""

    @property
    def name(self) -> str: ...

    def check(self, schema: Schema) -> None:
        """Refuses, from the schema alone, a table that is too large for this recipe.

        Raises:
            UsageError: it is.
        """
        ...

    def fit(self, curator: Curator, *, budget: Cost, progress: Progress = silent) -> Model:
        """Asks the curator questions that cost at most `budget`, a zCDP cost, and builds a model from the answers."""
        ...
