"""How a recipe spends rho on several marginals at once.

A marginal of k cells with noise of standard deviation s is wrong by about k s rows in all, and costs 1 / s^2. The sum of
errors for a given cost is least with shares in proportion to k^(2/3) (Lagrange; Zhang et al., PrivSyn, USENIX Security
2021). Many cells of large tables are empty, and estimation finds that out, so they err by less than their size: shares in
proportion to k^(1/3) do for one-way marginals (the ablation in `docs/engine.md`). Marginals of more columns get the same
noise each: unequal shares made classifiers worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from dpsynth.curator import Curator
from dpsynth.mechanisms.base import Columns, Measurement
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian

_ROOT = 1 / 3  # of the number of a column's cells: what its share grows with
_PARTS = 16  # of the share of a column with one cell, to which shares are rounded


def one_way(curator: Curator, *, rho: Fraction) -> list[Measurement]:
    """Every one-way marginal for `rho` in all; columns with more cells get more of it."""
    weights = [round(_PARTS * size**_ROOT) for size in curator.schema.sizes]
    whole = sum(weights)
    return [_measured(curator, (c,), rho=rho * Fraction(weight, whole)) for c, weight in enumerate(weights)]


def measured(curator: Curator, chosen: Sequence[Columns], *, rho: Fraction) -> list[Measurement]:
    """The chosen marginals, all with the same noise, for `rho` in all."""
    return [_measured(curator, columns, rho=rho / len(chosen)) for columns in chosen]


def _measured(curator: Curator, columns: Columns, *, rho: Fraction) -> Measurement:
    return curator.measure(columns, DiscreteGaussian.calibrated(rho=rho, l2_squared=curator.unit.l2_squared))
