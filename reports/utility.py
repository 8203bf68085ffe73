"""How useful the synthetic table is.

`against_measurements` compares released rows with the noisy measurements: both are already private, so the result is
class P1 and free. `against_rows` compares them with the true rows: class P3, for internal eyes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from dpsynth import Measurement, Table
from dpsynth.coarsening import Coarse
from dpsynth.counting.memory import MemoryCounter

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far one marginal of the synthetic table is from what it was measured to be.

    Args:
        columns: Which columns, as indices.
        tv: Total variation distance in [0, 1].
        noise: What the noise of the measurement alone would make it, in expectation; may exceed 1.
    """

    columns: tuple[int, ...]
    tv: float
    noise: float


def against_measurements(
    synthetic: Table, measurements: Sequence[Measurement], total: float, *, coarse: Sequence[Coarse] = ()
) -> list[Distance]:
    """Distances of the synthetic marginals from the noisy ones, in the order of the measurements.

    Args:
        total: Estimated number of rows that were measured; turns counts into shares.
        coarse: The columns that follow the schema's in the measurements.
    """
    counter = MemoryCounter(synthetic)
    counter.coarsen(coarse)
    out = []
    for m in measurements:
        found = counter.count(m.columns) / max(1, len(synthetic))
        tv = min(1.0, float(np.abs(found - m.values / total).sum()) / 2)
        noise = m.values.size * m.sigma * math.sqrt(2 / math.pi) / total / 2
        out.append(Distance(columns=m.columns, tv=tv, noise=noise))
    return out


def against_rows(synthetic: Table, real: Table) -> dict[int, float]:
    """Mean total variation distance of all one-way and all two-way marginals, by number of columns."""
    columns = range(len(real.schema.sizes))
    return {
        ways: float(np.mean([tv_distance(synthetic, real, subset) for subset in combinations(columns, ways)]))
        for ways in (1, 2)
        if len(columns) >= ways
    }


def tv_distance(first: Table, second: Table, columns: tuple[int, ...]) -> float:
    """Total variation distance of two tables' marginals over `columns`, in [0, 1]."""
    return float(np.abs(shares(first, columns) - shares(second, columns)).sum()) / 2


def shares(table: Table, columns: tuple[int, ...]) -> FloatArray:
    """The share of rows in each cell of a marginal; all zero for an empty table."""
    sizes = [table.schema.sizes[column] for column in columns]
    cells = np.zeros(len(table), dtype=np.int64)
    for column, size in zip(columns, sizes, strict=True):
        cells = cells * size + table.codes[:, column]
    counts = np.bincount(cells, minlength=math.prod(sizes)).reshape(sizes)
    return counts / max(1, len(table))
