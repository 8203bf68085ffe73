"""How useful the synthetic table is.

A `Tally` compares released rows with the noisy measurements: both are already private, so the result is class P1 and
free. `against_rows` compares them with the true rows: class P3, for
internal eyes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dpsynth import Measurement, Schema, Table
from dpsynth.coarsening import Coarse
from dpsynth.counting.memory import MemoryCounter
from dpsynth.models.estimation import combined

Columns: TypeAlias = tuple[int, ...]

GROUPING = ("quasi_identifier", "sensitive")
"""Roles of columns whose values are groups of people."""
_MOST_PAIRS = 5_000  # that are compared with real rows
_MOST_VALUES = 12  # of a column whose values are looked at as groups


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far one marginal of the synthetic table is from what it was measured to be.

    Args:
        columns: Which columns of the schema, as indices; the marginal may be over their merged cells.
        tv: Total variation distance in [0, 1].
        noise: What the noise of the measurement alone would make it, in expectation; may exceed 1.
    """

    columns: tuple[int, ...]
    tv: float
    noise: float


@dataclass(frozen=True, kw_only=True)
class Group:
    """How large one group of people came out. Class P1.

    Args:
        column, cell: The group: rows with this code in this column.
        measured: Its share by the noisy count, cut off at zero.
        synthetic: Its share of the synthetic rows.
        noise: Standard deviation of the measured share.
        inflation: Most that cutting noisy counts off at zero adds to its share in expectation: as if nobody were in it.
        drowned: The noisy count is below ten standard deviations: its noise is more than a tenth of it.
    """

    column: int
    cell: int
    measured: float
    synthetic: float
    noise: float
    inflation: float
    drowned: bool


@dataclass(frozen=True, kw_only=True)
class TrueGroup:
    """The same against the true rows. Class P3.

    Args:
        rows: True rows of the group; none where a release has made it up.
        true, synthetic: Its shares.
        within: Mean distance of the other columns' distributions inside the group; None without rows in it on both sides.
    """

    column: int
    cell: int
    rows: int
    true: float
    synthetic: float
    within: float | None


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The synthetic table against the true rows. Class P3.

    Args:
        alone, pairs: Distances by columns, as indices.
        groups: Groups of people that have true rows, or synthetic ones.
    """

    alone: Mapping[Columns, float]
    pairs: Mapping[Columns, float]
    groups: tuple[TrueGroup, ...]

    @property
    def means(self) -> dict[int, float]:
        """Mean distances by number of columns."""
        parts = {1: self.alone, 2: self.pairs}
        return {ways: float(np.mean(list(found.values()))) for ways, found in parts.items() if found}


class Tally:
    """How many synthetic rows are in each cell of each measured marginal; rows come part by part.

    What was measured twice counts by its inverse variance.

    Args:
        measurements: The noisy counts.
        coarse: The columns that follow the schema's in the measurements.
    """

    def __init__(self, schema: Schema, measurements: Sequence[Measurement], *, coarse: Sequence[Coarse] = ()) -> None:
        self._schema, self._coarse = schema, coarse
        self._measured = combined(measurements)
        self._counts = {columns: np.zeros(m.values.shape, np.int64) for columns, m in self._measured.items()}
        self.rows = 0

    def add(self, part: Table) -> None:
        """Counts more rows."""
        counter = MemoryCounter(part)
        counter.coarsen(self._coarse)
        for columns, count in self._counts.items():
            count += counter.count(columns)
        self.rows += len(part)

    def distances(self, total: float) -> list[Distance]:
        """Distances of the synthetic marginals from the noisy ones, in the order of the measurements.

        Tables in which merging left a column one cell are left out: they would agree whatever the rows are.

        Args:
            total: Estimated number of rows that were measured; turns counts into shares.
        """
        declared = [*range(len(self._schema.sizes)), *(made.column for made in self._coarse)]
        out = []
        for m in self._measured.values():
            if len(m.columns) > 1 and min(m.values.shape) == 1:
                continue
            found = self._counts[m.columns] / max(1, self.rows)
            tv = min(1.0, float(np.abs(found - m.values / total).sum()) / 2)
            noise = float(np.sqrt(m.variance).sum()) * math.sqrt(2 / math.pi) / total / 2
            out.append(Distance(columns=tuple(declared[column] for column in m.columns), tv=tv, noise=noise))
        return out

    def groups(self, total: float) -> list[Group]:
        """How large each declared group of people came out, against the noisy count of it, in the order of the schema.

        Groups are the values of `grouping` columns.

        Args:
            total: As for `distances`.
        """
        out = []
        for column in grouping(self._schema):
            if (column,) not in self._measured:
                continue
            measured, found = self._measured[column,], self._counts[column,]
            sigmas = np.sqrt(measured.variance).tolist()
            for cell, (count, sigma) in enumerate(zip(measured.values.tolist(), sigmas, strict=True)):
                out.append(
                    Group(
                        column=column,
                        cell=cell,
                        measured=min(1.0, max(0, count) / total),
                        synthetic=float(found[cell]) / max(1, self.rows),
                        noise=sigma / total,
                        inflation=inflation(0, sigma) / total,
                        drowned=count < 10 * sigma,
                    )
                )
        return out


def inflation(rows: float, sigma: float) -> float:
    """How many rows a group gains in expectation when its noisy count is cut off at zero; less the more it has.

    E[max(0, t + N(0, s^2))] - t = s phi(t / s) - t Phi(-t / s), the mean of a normal variable that is censored at zero
    (Tobin, Econometrica 26, 1958); s / sqrt(2 pi) for t = 0. Where models then scale counts down to a total, less is left.
    On the bias of such post-processing: Zhu, Van Hentenryck and Fioretto, arXiv:2010.04327.

    Args:
        rows: True size of the group.
        sigma: Standard deviation of the noise, in rows; taken for normal.
    """
    ratio = rows / sigma
    density = math.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    return sigma * density - rows * math.erfc(ratio / math.sqrt(2)) / 2


def grouping(schema: Schema) -> list[int]:
    """Columns whose values make groups of people that a reader would ask about: few declared values, and a role."""
    return [
        index
        for index, column in enumerate(schema.modelled)
        if column.role in GROUPING and not column.is_numeric and column.size <= _MOST_VALUES
    ]


def against_rows(synthetic: Table, real: Table) -> Truth:
    """Total variation distances from the true rows, by column, by pair and within groups.

    All pairs are compared, or, of very many, evenly spaced ones in the order of the schema.
    """
    columns = range(len(real.schema.sizes))
    alone: dict[Columns, float] = {(column,): tv_distance(synthetic, real, (column,)) for column in columns}
    sets = list(combinations(columns, 2))
    chosen = sets[:: -(-len(sets) // _MOST_PAIRS) or 1]
    pairs: dict[Columns, float] = {subset: tv_distance(synthetic, real, subset) for subset in chosen}
    return Truth(alone=alone, pairs=pairs, groups=tuple(_within(synthetic, real)))


def _within(synthetic: Table, real: Table) -> Iterator[TrueGroup]:
    """Groups among the true and the synthetic rows, and how far the other columns are apart inside each."""
    for column in grouping(real.schema):
        others = [other for other in range(len(real.schema.sizes)) if other != column]
        for cell in range(real.schema.sizes[column]):
            theirs, ours = (table.codes[table.codes[:, column] == cell] for table in (real, synthetic))
            if not len(theirs) and not len(ours):
                continue
            there, here = Table(real.schema, theirs), Table(synthetic.schema, ours)
            distances = [tv_distance(here, there, (other,)) for other in others]
            yield TrueGroup(
                column=column,
                cell=cell,
                rows=len(theirs),
                true=len(theirs) / len(real),
                synthetic=len(ours) / max(1, len(synthetic)),
                within=float(np.mean(distances)) if distances and len(ours) and len(theirs) else None,
            )


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
