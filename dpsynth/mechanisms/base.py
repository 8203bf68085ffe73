"""Measurement: the noisy answer to one question, public from here on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

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
