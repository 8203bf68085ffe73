"""The cycles that dates follow, counted with noise beside whatever a recipe asks.

A recipe models the cells of a date: which month of which year, say. Which day of the week it is, no cell can tell. So the
days of the week are counted on their own, for a small fixed part of the budget, and the model draws the days inside its
cells accordingly. This is the same for every recipe of our own, and none has to know of it.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from dpsynth.curator import Curator
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.models.base import Model
from dpsynth.models.stored import StoredModel
from dpsynth.schema import Schema
from dpsynth.synthesizers.base import Synthesizer

SHARE = Fraction(1, 20)
"""Of the zCDP cost that is left for learning, for all cycles together: with few phases, such noise hardly shows."""


def asked(schema: Schema) -> list[tuple[int, str]]:
    """The cycles that columns ask for: which column, as an index into the modelled ones, and which cycle."""
    return [(place, cycle) for place, column in enumerate(schema.modelled) for cycle in column.cycles or ()]


def part_for(schema: Schema, recipe: Synthesizer) -> Fraction:
    """The part of a recipe's budget that its cycles take: none where no column asks, or where it has no model of ours."""
    return SHARE if asked(schema) and not recipe.implementation.claimed_by else Fraction(0)


def with_cycles(model: Model, curator: Curator, *, rho: Fraction) -> Model:
    """The model, with the cycles that the schema asks for, counted for `rho` in all; nothing is asked where it is 0.

    Privacy: one-way counts, each at an equal part of `rho` (`Curator.measure_cycle`).
    """
    if not rho or not isinstance(model, StoredModel):
        return model
    cycles = asked(curator.schema)
    mechanism = DiscreteGaussian.calibrated(rho=rho / len(cycles), l2_squared=curator.unit.l2_squared)
    counts = tuple(curator.measure_cycle(column, cycle, mechanism) for column, cycle in cycles)
    return replace(model, cycles=counts)
