"""AIM: measure what the model explains worst, as long as it fits, in few rounds.

After McKenna, Mullins, Sheldon, Miklau. AIM: an adaptive and iterative mechanism for differentially private synthetic
data. PVLDB 15(11), 2022, arXiv:2201.12677. What is kept: start from the one-way marginals, score the candidates of the
workload against the model, choose within a bound on the model's size, measure, fit, go on. What is different, with what
it gave in `docs/engine.md`: cells that noise would drown are merged first; all candidates are scored at once, with noise
on each score, so that a round chooses many marginals and shares its budget among them knowingly; the first round takes
a spanning forest, the next what that leaves unexplained; where noise is large for the table, one ranking chooses all; and
the estimate shrinks each table towards the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

from dpsynth.curator import Curator
from dpsynth.errors import UsageError
from dpsynth.mechanisms.base import Columns
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.mechanisms.noisy_max import Forest, anything
from dpsynth.models.estimation import noisy_total
from dpsynth.models.graphical import GraphicalModel, frame
from dpsynth.privacy import Cost
from dpsynth.schema import Schema
from dpsynth.schema.quoting import quoted
from dpsynth.synthesizers.base import Marginals, Progress, silent
from dpsynth.synthesizers.measuring import measured, one_way
from dpsynth.synthesizers.selection import (
    at_least,
    check_pairs,
    columns_first,
    errors_of_columns,
    expected_of,
    guessed_sigma,
    in_use,
    merged,
    ranked,
    sigma_of_one,
    surely_left,
    worth_measuring,
)

_CELL_ROWS = 20_000_000  # cells of the model times rows of noise on a cell of a marginal
_LEAST_CELLS = 200_000
_TRIPLES = range(
    2_000, 5_001
)  # cells of a triple, with a standard deviation of noise a cell, from which triples are looked at, and at most
_TRIPLES_COLUMNS = 20  # beyond, there are too many triples to score each
_SCARCE = Fraction(2, 5)  # of rho for columns, from which the rest is too little for scores and for a second round
_ROUNDS_IF_SCARCE = (Fraction(0), Fraction(0), Fraction(1))
_ROUNDS = (Fraction(0), Fraction(1, 3), Fraction(2, 3))
_ROUNDS_WITH_TRIPLES = (Fraction(1, 5), Fraction(2, 5), Fraction(2, 5))
"""Parts of three rounds, so that progress is the same for every table; a round without a part is left out."""
_MOST_COLUMNS = 60  # beyond, finding the cliques takes longer than all the rest


@dataclass(frozen=True, kw_only=True)
class Aim(Marginals):
    """Measures the one-way marginals, then round by round the marginals of the workload that promise most.

    Args:
        workload: Names of two or more columns that matter together, with a positive weight each; None for all pairs,
            with weight one, and, where the noise is small enough to show them, the triples of at most 5,000 cells.
        max_cells: Of all cliques of the model together; nothing is measured that would need more. The more noise, the
            smaller the model that serves best: fewer are used from 10 rows of noise a cell on, down to a tenth.
        one_way_share: Part of rho for the one-way marginals, at least; more where the noise is large against the table.
        selection_share: Part of rho for choosing, in all rounds.
        round_shares: Parts of the rest for the measurements of each round; they add up to one. None for a third and two
            thirds; with triples, for a fifth and twice two fifths; where the columns took two fifths of rho, for one
            round, whose marginals are ranked and not scored if all weigh the same.
        least: Standard deviations of the noise that a cell must have in rows, or it is merged with others.
    """

    workload: Mapping[tuple[str, ...], float] | None = None
    max_cells: int = 2_000_000
    one_way_share: Fraction = Fraction(1, 5)
    selection_share: Fraction = Fraction(1, 20)
    round_shares: tuple[Fraction, ...] | None = None
    least: float = 3.0
    name: str = "aim"

    def __post_init__(self) -> None:
        if min(self.one_way_share, self.selection_share, 1 - self.one_way_share - self.selection_share) <= 0:
            raise ValueError("the shares of the one-way marginals, the selection and the rounds must be positive")
        if self.round_shares is not None and (sum(self.round_shares) != 1 or min(self.round_shares) <= 0):
            raise ValueError("the shares of the rounds must be positive and add up to one")

    def check(self, schema: Schema) -> None:
        if len(schema.sizes) > _MOST_COLUMNS:
            raise UsageError(f"aim is for tables of at most {_MOST_COLUMNS} columns: use --synthesizer wide")
        check_pairs(schema, largest=10_000_000, together=1_000_000_000)
        if any(math.prod(schema.sizes[column] for column in columns) > 10_000_000 for columns in self._weights(schema)):
            raise UsageError("the workload has columns with too many cells to be counted together: name fewer of them")

    def fit(self, curator: Curator, *, budget: Cost, progress: Progress = silent) -> GraphicalModel:
        schema = curator.schema
        weights = self._weights(schema)
        progress("one-way marginals, with all of the budget")
        if not weights:  # one column: nothing to measure together
            return GraphicalModel.fitted(schema, one_way(curator, rho=budget.rho), groups=[])
        found, columns_took = columns_first(
            curator, rho=budget.rho, share=self.one_way_share, choosing=self.selection_share
        )
        round_shares = self.round_shares or (_ROUNDS if columns_took < _SCARCE else _ROUNDS_IF_SCARCE)
        for_pairs = unspent = budget.rho * (1 - columns_took - self.selection_share)
        sigma = guessed_sigma(curator, rho=for_pairs)
        if self.workload is None and (triples := _triples(schema, round(noisy_total(found) / sigma))):
            weights |= triples
            round_shares = self.round_shares or _ROUNDS_WITH_TRIPLES
        max_cells = round(min(self.max_cells, max(_LEAST_CELLS, _CELL_ROWS / sigma)))
        coarse = merged(schema, found, least=self.least, room=max_cells // 4)
        curator.coarsen(coarse)
        used = in_use(schema, coarse)
        weights = {tuple(sorted(used[c] for c in columns)): w for columns, w in weights.items()}
        sizes, held = frame(schema, [], coarse)
        errors = errors_of_columns(found, coarse)
        candidates = [columns for columns in weights if all(sizes[column] > 1 for column in columns)]
        by_rank = round_shares is _ROUNDS_IF_SCARCE and len(set(weights.values())) == 1  # a ranking knows no weights
        rho_of_choosing = budget.rho * self.selection_share / sum(share > 0 for share in round_shares)
        model = GraphicalModel.fitted(schema, found, groups=[], coarse=coarse)
        for number, share in enumerate(round_shares, start=1):
            last = number == len(round_shares)
            progress(f"round {number} of {len(round_shares)}, {at_least(self._surely_left(number))}")
            if not share:
                continue
            if not candidates:  # nothing to choose from: what that would have cost goes to the measurements
                unspent += rho_of_choosing
            rho = unspent if last else for_pairs * share
            sigma = sigma_of_one(curator, rho=rho)
            chosen: list[Columns] = []
            if candidates and by_rank:
                chosen = ranked(
                    curator,
                    candidates,
                    model,
                    rho=rho_of_choosing,
                    whole=budget.rho,
                    sigma=sigma,
                    errors=errors,
                    sizes=sizes,
                    held=held,
                    max_cells=max_cells,
                )
            elif candidates:
                noise = DiscreteGaussian.calibrated(
                    rho=rho_of_choosing, l2_squared=len(candidates) * curator.unit.l1**2
                )
                scores = curator.score(candidates, expected_of(model, candidates), noise)
                known = {m.columns for m in found}
                chosen = worth_measuring(
                    {c: float(s) for c, s in zip(candidates, scores, strict=True) if c not in known},
                    weights=weights,
                    errors=errors,
                    sizes=sizes,
                    held=held,
                    sigma=sigma,
                    max_cells=max_cells,
                    admits=anything if last else Forest().admits,
                )
            if chosen:
                found += measured(curator, chosen, rho=rho)
                unspent -= rho
            elif last:  # nothing hangs together: what is left makes the columns better
                found += one_way(curator, rho=rho)
            held += chosen
            model = GraphicalModel.fitted(schema, found, groups=held, coarse=coarse)
        return model

    def _surely_left(self, number: int) -> Fraction:
        """The part of the budget that is left at least when a round begins, whatever the noisy answers decide."""
        left = surely_left(share=self.one_way_share, choosing=self.selection_share)
        possible = (self.round_shares,) if self.round_shares else (_ROUNDS_IF_SCARCE, _ROUNDS, _ROUNDS_WITH_TRIPLES)
        parts = [sum(shares[number - 1 :], Fraction(0)) for shares in possible]
        return left if number == 1 else (left - self.selection_share) * min(parts)

    def _weights(self, schema: Schema) -> dict[Columns, float]:
        """The workload by index, each set in increasing order."""
        if self.workload is None:
            return dict.fromkeys(combinations(range(len(schema.sizes)), 2), 1.0)
        out: dict[Columns, float] = {}
        for names, weight in self.workload.items():
            for name in names:
                if name not in schema.names:
                    raise UsageError(f"the workload names {quoted(name)}, which synthetic rows do not have")
            if len(set(names)) < max(2, len(names)) or not 0 < weight < math.inf:
                raise UsageError(
                    "each part of a workload must name two or more columns, once each, and a positive weight"
                )
            out[tuple(sorted(schema.index(name) for name in names))] = weight
        return out


def _triples(schema: Schema, cells: int) -> dict[Columns, float]:
    """The triples of at most so many cells, with weight one; none where only small ones would be worth a look."""
    sizes = schema.sizes
    if cells < _TRIPLES.start or len(sizes) > _TRIPLES_COLUMNS:
        return {}
    most = min(cells, _TRIPLES.stop - 1)
    sets = combinations(range(len(sizes)), 3)
    return {columns: 1.0 for columns in sets if math.prod(sizes[column] for column in columns) <= most}
