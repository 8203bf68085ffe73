"""Measurement and CycleCounts: the noisy answers to one question each, public from here on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.privacy import Cost

IntArray = npt.NDArray[np.int64]
Columns = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A marginal with noise.

    Args:
        columns: Which columns were counted together, as indices into the schema's modelled columns, increasing.
        values: Noisy counts in rows, shape = the cells of each column in turn; may be negative.
        sigma_squared: Parameter of the noise on each cell, in squared rows.
        cost: What it cost.
        throw_away: Whether no ledger was charged for it (`dpsynth.throw_away`): a model made of it cannot be saved.
    """

    columns: Columns
    values: IntArray
    sigma_squared: Fraction
    cost: Cost
    throw_away: bool = False

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise on each cell, in rows."""
        return math.sqrt(self.sigma_squared)


@dataclass(frozen=True, kw_only=True)
class CycleCounts:
    """How many rows have a date or time in each phase of a cycle, with noise.

    Args:
        column: Which, as an index into the schema's modelled columns.
        cycle: One of `dates.CYCLES`.
        values: Noisy counts in rows, shape (phases,); may be negative.
        sigma_squared: Parameter of the noise on each phase, in squared rows.
        cost: What it cost.
        throw_away: As for `Measurement`.
    """

    column: int
    cycle: str
    values: IntArray
    sigma_squared: Fraction
    cost: Cost
    throw_away: bool = False

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "column": self.column,
            "cycle": self.cycle,
            "values": self.values.tolist(),
            "sigma_squared": str(self.sigma_squared),
            "rho": str(self.cost.rho),
        }


def by_column(cycles: Iterable[CycleCounts]) -> dict[int, dict[str, IntArray]]:
    """The counts of each cycle of each column."""
    out: dict[int, dict[str, IntArray]] = {}
    for counts in cycles:
        out.setdefault(counts.column, {})[counts.cycle] = counts.values
    return out
