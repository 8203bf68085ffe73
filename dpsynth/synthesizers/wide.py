"""Wide: a tree of pairs for tables of hundreds of columns, chosen in one shot.

Of all pairs only the few that a tree can hold are looked at more closely: one noisy ranking of all pairs gives a spanning
forest (a charged screen), noise on the distances of these says which are worth measuring, and those are measured once.
A table of a thousand columns has half a million pairs; scoring each with noise of its own would drown all of them.
The idea of a tree chosen by mutual dependence goes back to Chow and Liu, IEEE Trans. Information Theory 14(3), 1968.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from dpsynth.curator import Curator
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
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
    errors_of_columns,
    expected_alone,
    in_use,
    merged,
    pairs_of,
    sigma_of_one,
    surely_left,
    worth_measuring,
)

_MAX_CELLS = 10_000_000  # of all cliques together: about a gigabyte while a model is fitted


@dataclass(frozen=True, kw_only=True)
class Wide(Marginals):
    """Measures every one-way marginal, then those pairs of a spanning forest that are worth their noise.

    Args:
        one_way_share: Part of rho for the one-way marginals, at least; more where the noise is large against the table.
        screen_share: Part of rho for ranking all pairs.
        score_share: Part of rho for the distances of the pairs in the forest; measuring gets the rest.
        max_pair_cells: A pair with more cells, after rare cells are merged, is not considered.
        least: Standard deviations of the noise that a cell must have in rows, or it is merged with others.
    """

    one_way_share: Fraction = Fraction(1, 4)
    screen_share: Fraction = Fraction(1, 5)
    score_share: Fraction = Fraction(1, 20)
    max_pair_cells: int = 1_000_000
    least: float = 3.0
    name: str = "wide"

    def __post_init__(self) -> None:
        shares = (self.one_way_share, self.screen_share, self.score_share)
        if min(*shares, 1 - sum(shares)) <= 0:
            raise ValueError(
                "the shares of the one-way marginals, the screen, the scores and the rest must be positive"
            )

    def check(self, schema: Schema) -> None:
        check_pairs(schema, largest=None, together=20_000_000_000)

    def fit(self, curator: Curator, *, budget: Cost, progress: Progress = silent) -> GraphicalModel:
        schema = curator.schema
        most = len(schema.sizes) - 1
        progress("one-way marginals, with all of the budget")
        if most == 0:  # nothing to measure together
            return GraphicalModel.fitted(schema, one_way(curator, rho=budget.rho), groups=[])
        choosing = self.screen_share + self.score_share
        found, columns_took = columns_first(curator, rho=budget.rho, share=self.one_way_share, choosing=choosing)
        coarse = merged(schema, found, least=self.least)
        curator.coarsen(coarse)
        model = GraphicalModel.fitted(schema, found, groups=[], coarse=coarse)
        sizes, held = frame(schema, [], coarse)
        pairs = pairs_of(in_use(schema, coarse), sizes)
        pairs = [(a, b) for a, b in pairs if sizes[a] * sizes[b] <= self.max_pair_cells]
        rest = budget.rho * (1 - columns_took)
        left = surely_left(share=self.one_way_share, choosing=choosing)
        progress(f"ranking pairs, {at_least(left)}")
        if pairs:
            mechanism = NoisyMax.calibrated(rho=budget.rho * self.screen_share / most, sensitivity=curator.unit.l1)
            kept = curator.select(pairs, expected_alone(model, pairs), mechanism, picks=most, forest=True)
            pairs = [pairs[i] for i in kept]
            noise = DiscreteGaussian.calibrated(
                rho=budget.rho * self.score_share, l2_squared=len(pairs) * curator.unit.l1**2
            )
            scores = curator.score(pairs, expected_alone(model, pairs), noise)
            rest -= budget.rho * choosing
            pairs = worth_measuring(
                {pair: float(score) for pair, score in zip(pairs, scores, strict=True)},
                errors=errors_of_columns(found, coarse),
                sizes=sizes,
                held=held,
                sigma=sigma_of_one(curator, rho=rest),
                max_cells=_MAX_CELLS,
            )
        progress(f"measuring, {at_least(left - choosing)}")
        found += measured(curator, pairs, rho=rest) if pairs else one_way(curator, rho=rest)
        progress("fitting")
        return GraphicalModel.fitted(schema, found, groups=[*held, *pairs], coarse=coarse)
