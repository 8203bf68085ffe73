"""MST: a maximum spanning tree of column pairs, chosen and measured privately.

Source: McKenna, Miklau, Sheldon. Winning the NIST contest: a scalable and general approach to differentially private
synthetic data. Journal of Privacy and Confidentiality 11(3), 2021, arXiv:2108.04978. Estimation and sampling are our
own (`dpsynth.models`), and so are the shares of the budget (`docs/engine.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from dpsynth.curator import Curator
from dpsynth.mechanisms.base import Columns
from dpsynth.mechanisms.noisy_max import NoisyMax
from dpsynth.models.graphical import GraphicalModel, frame
from dpsynth.privacy import Cost
from dpsynth.schema import Schema
from dpsynth.synthesizers.base import Marginals, Progress, silent
from dpsynth.synthesizers.measuring import measured, one_way
from dpsynth.synthesizers.selection import (
    at_least,
    check_pairs,
    columns_first,
    expected_alone,
    fitting,
    in_use,
    merged,
    pairs_of,
    surely_left,
)

_MAX_CELLS = 10_000_000  # of all cliques together: about a gigabyte while a model is fitted


@dataclass(frozen=True, kw_only=True)
class Mst(Marginals):
    """Measures every one-way marginal, then the pairs along a spanning tree that independence explains worst.

    Args:
        one_way_share: Part of rho for the one-way marginals, at least; more where the noise is large against the table.
        selection_share: Part of rho for choosing the tree; the pairs get the rest.
        least: Standard deviations of the noise that a cell must have in rows, or it is merged with others.
    """

    one_way_share: Fraction = Fraction(1, 4)
    selection_share: Fraction = Fraction(1, 10)
    least: float = 3.0
    name: str = "mst"

    def __post_init__(self) -> None:
        if min(self.one_way_share, self.selection_share, 1 - self.one_way_share - self.selection_share) <= 0:
            raise ValueError("the shares of the one-way marginals, the selection and the pairs must be positive")

    def check(self, schema: Schema) -> None:
        check_pairs(schema, largest=10_000_000, together=1_000_000_000)

    def fit(self, curator: Curator, *, budget: Cost, progress: Progress = silent) -> GraphicalModel:
        edges = len(curator.schema.sizes) - 1
        progress("one-way marginals, with all of the budget")
        if edges == 0:  # one column: nothing to select, no pair to measure
            return GraphicalModel.fitted(curator.schema, one_way(curator, rho=budget.rho), groups=[])
        ones, columns_took = columns_first(
            curator, rho=budget.rho, share=self.one_way_share, choosing=self.selection_share
        )
        coarse = merged(curator.schema, ones, least=self.least)
        curator.coarsen(coarse)
        independent = GraphicalModel.fitted(curator.schema, ones, groups=[], coarse=coarse)
        sizes, held = frame(curator.schema, [], coarse)
        candidates = pairs_of(in_use(curator.schema, coarse), sizes)
        rest = 1 - columns_took - self.selection_share
        left = surely_left(share=self.one_way_share, choosing=self.selection_share)
        progress(f"choosing a tree of pairs, {at_least(left)}")
        chosen: list[Columns] = []
        rho = budget.rho * (1 - columns_took)
        if candidates:
            mechanism = NoisyMax.calibrated(rho=budget.rho * self.selection_share / edges, sensitivity=curator.unit.l1)
            expected = expected_alone(independent, candidates)
            picked = curator.select(candidates, expected, mechanism, picks=edges, forest=True)
            chosen = list(fitting((candidates[i] for i in picked), sizes=sizes, held=held, max_cells=_MAX_CELLS))
            rho = budget.rho * rest
        progress(f"measuring, {at_least(left - self.selection_share)}")
        more = measured(curator, chosen, rho=rho) if chosen else one_way(curator, rho=rho)
        progress("fitting")
        return GraphicalModel.fitted(curator.schema, ones + more, groups=chosen, coarse=coarse)
