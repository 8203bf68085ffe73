"""Each column by itself: the baseline that every other recipe has to beat."""

from __future__ import annotations

from dataclasses import dataclass

from dpsynth.curator import Curator
from dpsynth.models.graphical import GraphicalModel
from dpsynth.privacy import Cost
from dpsynth.schema import Schema
from dpsynth.synthesizers.base import Marginals, Progress, silent
from dpsynth.synthesizers.measuring import one_way


@dataclass(frozen=True, kw_only=True)
class Independent(Marginals):
    """Measures every one-way marginal."""

    name: str = "independent"

    def check(self, schema: Schema) -> None:
        """Nothing is too large for it that a schema can declare."""

    def fit(self, curator: Curator, *, budget: Cost, progress: Progress = silent) -> GraphicalModel:
        progress("one-way marginals, with all of the budget")
        return GraphicalModel.fitted(curator.schema, one_way(curator, rho=budget.rho), groups=[])
