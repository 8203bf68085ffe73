"""Each column by itself: the baseline that every other recipe has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from dpsynth.curator import Curator
from dpsynth.mechanisms.base import Measurement
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.models.graphical import GraphicalModel
from dpsynth.privacy import Cost
from dpsynth.schema import Schema
from dpsynth.synthesizers.base import Marginals, Progress, silent


@dataclass(frozen=True, kw_only=True)
class Independent(Marginals):
    """Measures every one-way marginal with the same noise."""

    name: str = "independent"

    def check(self, schema: Schema) -> None:
        """Nothing is too large for it that a schema can declare."""

    def fit(self, curator: Curator, *, budget: Cost, progress: Progress = silent) -> GraphicalModel:
        progress("one-way marginals, with all of the budget")
        return GraphicalModel.fitted(curator.schema, one_way(curator, rho=budget.rho), groups=[])


def one_way(curator: Curator, *, rho: Fraction) -> list[Measurement]:
    """Every one-way marginal, with the same noise, for `rho` in all."""
    columns = range(len(curator.schema.sizes))
    mechanism = DiscreteGaussian.calibrated(rho=rho / len(columns), l2_squared=curator.unit.l2_squared)
    return [curator.measure((column,), mechanism) for column in columns]
