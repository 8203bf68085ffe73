"""What a synthesizer is: a recipe of what to measure and how to share the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from dpsynth.curator import Curator
from dpsynth.ledger import Basis
from dpsynth.models.base import Model
from dpsynth.privacy import Cap, Cost
from dpsynth.schema import Schema

Progress = Callable[[str], None]  # is told which step begins, in words that quote public facts only


def silent(step: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """How far a synthesizer's promise is kept by what runs: public facts about the program, printed in every report.

    Args:
        noise, selection, randomness: What is done, in words.
        floating_point: Whether noise is made in floating-point arithmetic; such a release is at best needs_human.
        known_violations: Documented ways in which the program breaks its promise; such a release is at best needs_human.
        claimed_by: Whose proof the cost rests on, if another tool's: "" where it is ours.
    """

    noise: str
    selection: str
    randomness: str
    floating_point: bool = False
    known_violations: tuple[str, ...] = ()
    claimed_by: str = ""

    @property
    def basis(self) -> Basis:
        """What a charge for it rests on, as the ledger keeps it."""
        if self.claimed_by or self.known_violations:
            return "claimed"
        return "floating_point" if self.floating_point else "proven"


EXACT = Implementation(
    noise="exact discrete Gaussian, integer arithmetic (arXiv:2004.00010)",
    selection="exact Gumbel noise on integer scores (exponential mechanism, arXiv:2004.07223, arXiv:1905.04273), "
    "or exact discrete Gaussian noise on every score",
    randomness="operating system's entropy for noise, selection and split; no seed exists",
)
"""Recipes that ask the curator for noisy counts and nothing else."""


class Synthesizer(Protocol):
    """Settings only: no data, no state."""

    @property
    def name(self) -> str: ...

    @property
    def implementation(self) -> Implementation: ...

    def check(self, schema: Schema) -> None:
        """Refuses, from the schema alone, a table that is too large for this recipe.

        Raises:
            UsageError: it is.
        """
        ...

    def cost(self, schema: Schema, *, promise: Cap, share: Fraction) -> Cost:
        """What to reserve for this recipe, so that together with the rest of the promise's zCDP cost it keeps the promise.

        Args:
            promise: The (epsilon, delta) of the whole release.
            share: Part of the promise's zCDP cost that this recipe may use, in (0, 1]; what is left is spent elsewhere.
        Raises:
            UsageError: this recipe cannot keep such a promise.
        """
        ...

    def fit(self, curator: Curator, *, budget: Cost, progress: Progress = silent) -> Model:
        """Asks the curator questions that cost at most `budget`, and builds a model from the answers."""
        ...


class Marginals:
    """What the recipes that ask for noisy counts alone have in common."""

    @property
    def implementation(self) -> Implementation:
        return EXACT

    def cost(self, schema: Schema, *, promise: Cap, share: Fraction) -> Cost:
        """A zCDP cost."""
        return promise.cost.share(share)
