"""MST: a maximum spanning tree of column pairs, chosen and measured privately.

Source: McKenna, Miklau, Sheldon. Winning the NIST contest: a scalable and general approach to differentially private
synthetic data. Journal of Privacy and Confidentiality 11(3), 2021, arXiv:2108.04978. Estimation and sampling are our
own (`dpsynth.models`), and so are the shares of the budget (`docs/engine.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np

from dpsynth.curator import Curator
from dpsynth.mechanisms.base import Columns, IntArray
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.mechanisms.noisy_max import NoisyMax
from dpsynth.models.graphical import GraphicalModel
from dpsynth.privacy import Cost
from dpsynth.synthesizers.independent import one_way


@dataclass(frozen=True, kw_only=True)
class Mst:
    """Measures every one-way marginal, then the pairs along a spanning tree that independence explains worst.

    Args:
        one_way_share: Part of rho for the one-way marginals.
        selection_share: Part of rho for choosing the tree; the pairs get the rest.
    """

    one_way_share: Fraction = Fraction(1, 4)
    selection_share: Fraction = Fraction(1, 10)
    name: str = "mst"

    def __post_init__(self) -> None:
        if min(self.one_way_share, self.selection_share, 1 - self.one_way_share - self.selection_share) <= 0:
            raise ValueError("the shares of the one-way marginals, the selection and the pairs must be positive")

    def fit(self, curator: Curator, *, budget: Cost) -> GraphicalModel:
        edges = len(curator.schema.sizes) - 1
        if edges == 0:  # one column: nothing to select, no pair to measure
            return GraphicalModel.fitted(curator.schema, one_way(curator, rho=budget.rho), groups=[])
        ones = one_way(curator, rho=budget.rho * self.one_way_share)
        independent = GraphicalModel.fitted(curator.schema, ones, groups=[])
        tree = _select(curator, independent, rho=budget.rho * self.selection_share / edges)
        rest = budget.rho * (1 - self.one_way_share - self.selection_share)
        mechanism = DiscreteGaussian.calibrated(rho=rest / edges, l2_squared=curator.unit.l2_squared)
        pairs = [curator.measure(pair, mechanism) for pair in tree]
        return GraphicalModel.fitted(curator.schema, ones + pairs, groups=tree)


def _select(curator: Curator, independent: GraphicalModel, *, rho: Fraction) -> list[Columns]:
    """A spanning tree of pairs, one private choice after another, each for `rho`."""
    single = {
        clique[0]: cells for clique, cells in zip(independent.tree.cliques, independent.probabilities(), strict=True)
    }
    columns = range(len(single))
    expected: dict[Columns, IntArray] = {
        (a, b): np.rint(independent.total * np.outer(single[a], single[b])).astype(np.int64)
        for a, b in combinations(columns, 2)
    }
    mechanism = NoisyMax.calibrated(rho=rho, sensitivity=curator.unit.l1)
    component = list(columns)
    chosen: list[Columns] = []
    while len(chosen) < len(component) - 1:
        candidates = [pair for pair in expected if component[pair[0]] != component[pair[1]]]
        a, b = candidates[curator.select(candidates, [expected[pair] for pair in candidates], mechanism)]
        chosen.append((a, b))
        component = [component[a] if c == component[b] else c for c in component]
    return chosen
