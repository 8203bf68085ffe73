"""What the recipes share: merging rare cells, guessing counts, and choosing which marginals are worth measuring.

Everything here works on public facts and noisy answers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import reduce
from itertools import combinations

import numpy as np

from dpsynth.coarsening import Coarse, groups_of
from dpsynth.curator import Curator
from dpsynth.errors import UsageError
from dpsynth.mechanisms.base import Columns, IntArray, Measurement
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.mechanisms.noisy_max import anything
from dpsynth.models.graphical import GraphicalModel
from dpsynth.models.inference import joint
from dpsynth.models.junction_tree import triangulated
from dpsynth.schema import Schema

_ERROR = 0.8  # L1 error per cell in standard deviations of its noise; set against half a distance, which measured best
_LINK_CELLS = 1_000_000
_WIDEST = 20  # columns in one clique
_REFUSALS = 200  # candidates in a row that do not fit, after which no more are tried
_WORK = 2**24  # products that a guess may take
_LIKELY = 3  # marginals measured per column, when their noise has to be guessed before they are chosen


def check_pairs(schema: Schema, *, largest: int | None, together: int) -> None:
    """Refuses a table of which all pairs of columns cannot be counted.

    Args:
        largest: Cells of one pair, at most.
        together: Cells of all pairs, at most.
    Raises:
        UsageError: some pair, or all of them, have more.
    """
    sizes = np.array(schema.sizes, dtype=np.float64)
    top = np.sort(sizes)[::-1]
    if largest is not None and len(top) > 1 and top[0] * top[1] > largest:
        raise UsageError(
            "two columns have too many cells to be counted together: declare fewer values or bins, or try --synthesizer wide"
        )
    if (sizes.sum() ** 2 - (sizes**2).sum()) / 2 > together:
        raise UsageError("the columns have too many cells to be counted in pairs: declare fewer values or bins")


def merged(schema: Schema, ones: Sequence[Measurement], *, least: float, room: int = _LINK_CELLS) -> list[Coarse]:
    """Coarse columns in place of those with cells that few rows have.

    Of a column that constraints speak of only cells are merged that are alike to all of them. Columns of very many cells
    stay as they are, because they would need large tables to tie them to their coarse ones.

    Args:
        ones: A measurement of each column alone.
        least: Standard deviations of the noise that a cell must have in rows.
        room: Cells, at most, of the tables that tie columns to their coarse ones, all together.
    """
    out = []
    for m in ones:
        (column,) = m.columns
        declared = schema.modelled[column]
        ordered = (declared.is_numeric or declared.type == "ordinal") and not declared.missing
        groups, counts = np.zeros(len(m.values), dtype=np.int64), m.values.astype(np.float64)
        found = 0
        for part in _alike(schema, column, ordered=ordered):
            groups[part] = found + groups_of(counts[part], least=least * m.sigma, ordered=ordered)
            found = int(groups[part].max()) + 1
        cells = len(groups) * (int(groups.max()) + 1)
        if groups.max() + 1 < len(groups) and cells <= room:
            room -= cells
            out.append(Coarse(column=column, groups=groups))
    return out


def _alike(schema: Schema, column: int, *, ordered: bool) -> list[IntArray]:
    """The cells of a column in parts that are alike to every constraint; runs of neighbours where it is ordered."""
    slices = [
        np.moveaxis(mask, columns.index(column), 0).reshape(mask.shape[columns.index(column)], -1)
        for columns, mask in schema.rules.masks
        if column in columns
    ]
    if not slices:
        return [np.arange(schema.sizes[column])]
    kinds = np.unique(np.concatenate(slices, axis=1), axis=0, return_inverse=True)[1].ravel()
    if ordered:
        return list(np.split(np.arange(len(kinds)), np.flatnonzero(np.diff(kinds)) + 1))
    return [np.flatnonzero(kinds == kind) for kind in dict.fromkeys(kinds.tolist())]


def in_use(schema: Schema, coarse: Sequence[Coarse]) -> list[int]:
    """For each column of the schema the index of what is measured in its place: its coarse column, or itself."""
    out = list(range(len(schema.sizes)))
    for index, made in enumerate(coarse, start=len(out)):
        out[made.column] = index
    return out


def pairs_of(columns: Sequence[int], sizes: Sequence[int]) -> list[Columns]:
    """All pairs of columns that have more than one cell, each in increasing order."""
    telling = [column for column in columns if sizes[column] > 1]
    return [(min(pair), max(pair)) for pair in combinations(telling, 2)]


def expected_alone(ones: GraphicalModel, candidates: Sequence[Columns]) -> Iterator[IntArray]:
    """The counts of each pair in whole rows, if its columns were independent."""
    cells = ones.probabilities()
    single = {column: joint(ones.tree, cells, (column,)) for column in {c for pair in candidates for c in pair}}
    for a, b in candidates:
        yield np.rint(ones.total * np.multiply.outer(single[a], single[b])).astype(np.int64)


def expected_of(model: GraphicalModel, candidates: Sequence[Columns]) -> Iterator[IntArray]:
    """The counts of each candidate in whole rows, as a model has them."""
    cells = model.probabilities()
    for columns in candidates:
        try:
            table = joint(model.tree, cells, columns, most=_WORK)
        except UsageError:  # too far apart: as if they were independent
            table = reduce(np.multiply.outer, [joint(model.tree, cells, (column,)) for column in columns])
        yield np.rint(model.total * table).astype(np.int64)


def worth_measuring(
    distances: Mapping[Columns, float],
    *,
    sizes: Sequence[int],
    held: Sequence[Columns],
    sigma: float,
    max_cells: int,
    admits: Callable[[Columns], bool] = anything,
) -> list[Columns]:
    """Marginals to measure: those first of which measuring is expected to repair most.

    Of a distance s, noise of total error e leaves about e s / (s + e) after shrinkage, so that s^2 / (s + e) is gained.

    Args:
        distances: Noisy L1 distance of each candidate from the model, in rows, times its weight.
        sizes: Cells of each column.
        held: Column sets that the model holds already.
        sigma: Noise on a cell if the round's budget is spent on three marginals a column, in rows.
        max_cells: Of all cliques of a model that holds everything; what would exceed it is left out.
    """
    cells = {columns: math.prod(sizes[column] for column in columns) for columns in distances}

    def gain(columns: Columns) -> float:
        signal, error = distances[columns] / 2, _ERROR * sigma * cells[columns]
        return signal * signal / (signal + error) if signal > 0 else 0.0

    promising = [columns for columns in sorted(distances, key=gain, reverse=True) if distances[columns] > 0]
    return that_fit(promising, sizes=sizes, held=held, max_cells=max_cells, admits=admits)


def that_fit(
    candidates: Iterable[Columns],
    *,
    sizes: Sequence[int],
    held: Sequence[Columns],
    max_cells: int,
    admits: Callable[[Columns], bool] = anything,
) -> list[Columns]:
    """The candidates, one after another, as long as a model that holds them all has at most `max_cells` cells."""
    wanted = list(candidates)

    def fits(groups: Sequence[Columns]) -> tuple[bool, bool]:
        """Whether its cells are few enough, and its cliques narrow enough."""
        cliques = triangulated(sizes, [*held, *groups])
        cells = sum(math.prod(sizes[c] for c in clique) for clique in cliques)
        return cells <= max_cells, max(map(len, cliques), default=0) <= max(_WIDEST, *map(len, held), 0)

    if admits is anything and len(wanted) < len(sizes) and all(fits(wanted)):  # a tree, nearly always
        return wanted
    chosen: list[Columns] = []
    refused = 0
    for columns in wanted:
        small, narrow = fits([*chosen, columns])
        if small and narrow and admits(columns):
            chosen.append(columns)
            refused = 0
        elif (refused := refused + (not small)) > _REFUSALS:
            break
    return chosen


def guessed_sigma(curator: Curator, *, rho: Fraction) -> float:
    """Noise on a cell if `rho` is spent on three marginals a column, in rows."""
    return math.sqrt(curator.unit.l2_squared * _LIKELY * len(curator.schema.sizes) / (2 * rho))


def measured(curator: Curator, chosen: Sequence[Columns], *, rho: Fraction) -> list[Measurement]:
    """The chosen marginals, all with the same noise, for `rho` in all."""
    mechanism = DiscreteGaussian.calibrated(rho=rho / max(1, len(chosen)), l2_squared=curator.unit.l2_squared)
    return [curator.measure(columns, mechanism) for columns in chosen]
