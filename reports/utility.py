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

_MOST_PAIRS = 5_000  # that are compared with real rows


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

    Of what was measured twice the last counts. Tables in which merging left a column one cell are left out: they would
    agree whatever the rows are.

    Args:
        total: Estimated number of rows that were measured; turns counts into shares.
        coarse: The columns that follow the schema's in the measurements.
    """
    counter = MemoryCounter(synthetic)
    counter.coarsen(coarse)
    out = []
    for m in {m.columns: m for m in measurements}.values():
        if len(m.columns) > 1 and min(m.values.shape) == 1:
            continue
        found = counter.count(m.columns) / max(1, len(synthetic))
        tv = min(1.0, float(np.abs(found - m.values / total).sum()) / 2)
        noise = m.values.size * m.sigma * math.sqrt(2 / math.pi) / total / 2
        out.append(Distance(columns=m.columns, tv=tv, noise=noise))
    return out


def against_rows(synthetic: Table, real: Table) -> dict[int, float]:
    """Mean total variation distance of one-way and two-way marginals, by number of columns.

    All of them, or, of very many pairs, evenly spaced ones in the order of the schema.
    """
    columns = range(len(real.schema.sizes))
    out = {}
    for ways in (1, 2):
        sets = list(combinations(columns, ways))
        if sets:
            sets = sets[:: -(-len(sets) // _MOST_PAIRS)]
            out[ways] = float(np.mean([tv_distance(synthetic, real, subset) for subset in sets]))
    return out


def tv_distance(first: Table, second: Table, columns: tuple[int, ...]) -> float:
    """Total variation distance of two tables' marginals over `columns`, in [0, 1]; an empty table has no share of a cell.

    Only cells that hold rows are looked at, so that the work grows with the rows, not with the cells.
    """
    cells = np.concatenate([_cells(first, columns), _cells(second, columns)])
    occupied, place = np.unique(cells, return_inverse=True)
    shares = [
        np.bincount(part, minlength=len(occupied)) / max(1, len(part)) for part in np.split(place.ravel(), [len(first)])
    ]
    return float(np.abs(shares[0] - shares[1]).sum()) / 2


def _cells(table: Table, columns: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Each row's cell in the table over `columns`, counted in C order."""
    cells = np.zeros(len(table), dtype=np.int64)
    for column in columns:
        cells = cells * table.schema.sizes[column] + table.codes[:, column]
    return cells
