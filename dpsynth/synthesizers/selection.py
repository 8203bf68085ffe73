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
from dpsynth.mechanisms.noisy_max import Forest, NoisyMax, anything
from dpsynth.models.estimation import combined, noisy_total, on_simplex
from dpsynth.models.graphical import GraphicalModel
from dpsynth.models.inference import joint
from dpsynth.models.junction_tree import FloatArray, triangulated
from dpsynth.schema import Schema
from dpsynth.synthesizers.measuring import one_way

_ABSOLUTE = 0.8  # mean of the absolute value of a standard normal number
_ERROR = 0.4  # what shrinkage leaves of noise: error of a cell in standard deviations, which measured best
_PENALTY = 0.24  # standard deviations a cell that a ranking takes off a distance (`docs/engine.md`)
_HIGHEST_PENALTY = 2.0**60
_BELOW = 2  # scales of a ranking's noise below which a distance, less its penalty, speaks against measuring
_LINK_CELLS = 1_000_000
_WIDEST = 20  # columns in one clique
_REFUSALS = 200  # candidates in a row that do not fit, after which no more are tried
_WORK = 2**24  # products that a guess may take
_EVEN, _FALL = 180.0, 0.75  # rows, in deviations of noise, at which columns get half of rho; how fast that falls
_SINGLES = Fraction(9, 10)  # of what is not spent on choosing, at most, goes to columns
_FURTHER = 20  # marginals that are looked at beyond twice the best number, in case more together repair more
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


def columns_first(
    curator: Curator, *, rho: Fraction, share: Fraction, choosing: Fraction
) -> tuple[list[Measurement], Fraction]:
    """The one-way marginals, and the part of `rho` that they took: more where noise is large against the table.

    A part is spent, and its noisy total says how many rows there are. Where they are few for the noise, an error in every
    column weighs more than what pairs could tell, so that the columns are measured once more. The curve follows what was
    best for `aim` on five tables (`docs/engine.md`): half of rho for 180 times as many rows as the noise on a cell would
    have standard deviations if columns got everything; nearly all for 20, a fifth for 1,100.

    The split follows from noisy answers, and the budget is fixed beforehand: costs of zCDP that are chosen that way add up
    as if they had been fixed (Whitehouse, Ramdas, Rogers, Wu, ICML 2023, Theorem 1), and the reservation refuses more.

    Args:
        rho: The whole budget.
        share: The part of it that is spent first.
        choosing: The part of it that choosing marginals takes.
    """
    found = one_way(curator, rho=rho * share)
    noise = sigma_of_one(curator, rho=rho / len(found))  # of columns that get everything, whatever was spent first
    part = 1 / (1 + (noisy_total(found) / noise / _EVEN) ** _FALL)
    wanted = min(Fraction(round(20 * part), 20), _SINGLES * (1 - choosing))
    if wanted <= share:
        return found, share
    return found + one_way(curator, rho=rho * (wanted - share)), wanted


def surely_left(*, share: Fraction, choosing: Fraction) -> Fraction:
    """The part of the budget that `columns_first` leaves at least, choosing included: a public fact, for progress."""
    return 1 - max(share, _SINGLES * (1 - choosing))


def at_least(part: Fraction) -> str:
    """What progress says is left of the budget; rounded down."""
    return f"at least {math.floor(100 * part)}% of the budget left"


def merged(schema: Schema, ones: Sequence[Measurement], *, least: float, room: int = _LINK_CELLS) -> list[Coarse]:
    """Coarse columns in place of those with cells that few rows have.

    Of a column that constraints speak of only cells are merged that are alike to all of them. Columns of very many cells
    stay as they are, because they would need large tables to tie them to their coarse ones.

    Args:
        ones: Measurements of each column alone.
        least: Standard deviations of the noise that a cell must have in rows.
        room: Cells, at most, of the tables that tie columns to their coarse ones, all together.
    """
    out = []
    for (column,), table in combined(ones).items():
        ordered = schema.modelled[column].in_order
        groups, counts = np.zeros(len(table.values), dtype=np.int64), table.values
        sigma, found = math.sqrt(table.variance[0]), 0
        for part in _alike(schema, column, ordered=ordered):
            groups[part] = found + groups_of(counts[part], least=least * sigma, ordered=ordered)
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


def errors_of_columns(ones: Sequence[Measurement], coarse: Sequence[Coarse]) -> list[float]:
    """About how many rows the noise moves in the estimate of each column alone, those of `coarse` last.

    A cell of the estimate is off by 0.8 standard deviations, and by no more than the rows that it has.
    """
    total = noisy_total(ones)

    def error(counts: FloatArray, variance: FloatArray) -> float:
        return float(np.minimum(_ABSOLUTE * np.sqrt(variance), on_simplex(counts, total)).sum())

    tables = combined(ones)
    out = [error(tables[(column,)].values, tables[(column,)].variance) for column in range(len(tables))]
    for made in coarse:
        fine = tables[(made.column,)]
        counts, variance = (np.bincount(made.groups, weights=part) for part in (fine.values, fine.variance))
        out.append(error(counts.astype(np.float64), variance.astype(np.float64)))
    return out


def worth_measuring(
    distances: Mapping[Columns, float],
    *,
    weights: Mapping[Columns, float] | None = None,
    errors: Sequence[float],
    sizes: Sequence[int],
    held: Sequence[Columns],
    sigma: float,
    max_cells: int,
    admits: Callable[[Columns], bool] = anything,
) -> list[Columns]:
    """Marginals to measure: as many as are expected to repair most together, those first that repair most.

    A distance is partly the noise in the columns alone, which measuring them together is a poor cure for: it is left out.
    Of what remains, s rows, noise of total error e leaves about e s / (s + e) after shrinkage, so that s^2 / (s + e) is
    gained. Each further marginal makes the noise of all larger.

    Args:
        distances: Noisy L1 distance of each candidate from the model, in rows.
        weights: How much each candidate matters, positive; only their ratios count. None for all alike.
        errors: Rows by which each column alone was off, as `errors_of_columns` has them.
        sizes: Cells of each column.
        held: Column sets that the model holds already.
        sigma: Noise on a cell if one marginal gets the whole budget, in rows.
        max_cells: Of all cliques of a model that holds everything; what would exceed it is left out.
    """
    signals = {columns: (far - sum(errors[c] for c in columns)) / 2 for columns, far in distances.items()}
    promising = [columns for columns, signal in signals.items() if signal > 0]
    signal = np.array([signals[columns] for columns in promising])
    weight = np.array([weights[columns] if weights else 1.0 for columns in promising])
    error = _ERROR * sigma * np.array([math.prod(sizes[column] for column in columns) for columns in promising])

    def gains(which: Sequence[int] | slice, together: int) -> FloatArray:
        out: FloatArray = weight[which] * signal[which] ** 2 / (signal[which] + math.sqrt(together) * error[which])
        return out

    order = np.argsort(-gains(slice(None), _LIKELY * len(errors)), kind="stable").tolist()
    places = {promising[place]: place for place in order}
    taken: list[int] = []
    best, most = 0, 0.0
    for columns in fitting(places, sizes=sizes, held=held, max_cells=max_cells, admits=admits):
        taken.append(places[columns])
        gain = float(gains(taken, len(taken)).sum())
        if gain > most:
            best, most = len(taken), gain
        elif len(taken) > 2 * best + _FURTHER:
            break
    return [promising[place] for place in taken[:best]]


def ranked(
    curator: Curator,
    candidates: Sequence[Columns],
    model: GraphicalModel,
    *,
    rho: Fraction,
    whole: Fraction,
    sigma: float,
    errors: Sequence[float],
    sizes: Sequence[int],
    held: Sequence[Columns],
    max_cells: int,
) -> list[Columns]:
    """Marginals to measure, from one noisy ranking of how far each lies from the model: where noise is large for the table.

    The noise of a ranking grows with the root of its picks, that of scores with the root of all candidates. As many are
    picked as the root of the rows that stand out of the noise: 27 of 105 pairs of 39,000 rows at epsilon 0.1; fewer where
    the rest lies so far below its penalty that measuring nothing is better. Of a distance
    the noise in the columns alone is taken off, and part of what measuring will add, as in AIM (arXiv:2201.12677, Section
    4.1), so that small marginals win where signals are alike.

    Args:
        rho: For the ranking.
        whole: The budget of the recipe.
        sigma: Noise on a cell if one marginal gets all that is left for measuring, in rows.
        errors, sizes, held, max_cells: As for `worth_measuring`.
    """
    picks = min(len(candidates), max(1, round(math.sqrt(model.total / sigma_of_one(curator, rho=whole)))))
    noise = _PENALTY * sigma * math.sqrt(picks)
    off = [sum(errors[c] for c in columns) + noise * math.prod(sizes[c] for c in columns) for columns in candidates]
    mechanism = NoisyMax.calibrated(rho=rho / picks, sensitivity=curator.unit.l1)
    picked = curator.select(
        candidates,
        expected_of(model, candidates),
        mechanism,
        picks=picks,
        penalties=np.rint(np.minimum(off, _HIGHEST_PENALTY)).astype(np.int64),
        nothing=-round(_BELOW * mechanism.scale),
    )
    return list(fitting((candidates[i] for i in picked), sizes=sizes, held=held, max_cells=max_cells))


def fitting(
    candidates: Iterable[Columns],
    *,
    sizes: Sequence[int],
    held: Sequence[Columns],
    max_cells: int,
    admits: Callable[[Columns], bool] = anything,
) -> Iterator[Columns]:
    """Those of the candidates, one after another, that are admitted and fit with all before them into the bound."""
    wanted = list(candidates)
    if admits is anything and len(wanted) < len(sizes):
        forest = Forest()
        if all(map(forest.admits, [*held, *wanted])) and all(_fits(sizes, [*held, *wanted], held, max_cells)):
            yield from wanted  # each part of a forest is one, and has fewer cells
            return
    chosen: list[Columns] = []
    refused = 0
    for columns in wanted:
        small, narrow = _fits(sizes, [*held, *chosen, columns], held, max_cells)
        if small and narrow and admits(columns):
            chosen.append(columns)
            refused = 0
            yield columns
        elif (refused := refused + (not small)) > _REFUSALS:
            return


def _fits(
    sizes: Sequence[int], groups: Sequence[Columns], held: Sequence[Columns], max_cells: int
) -> tuple[bool, bool]:
    """Whether the cells of a model of those groups are few enough, and its cliques narrow enough."""
    cliques = triangulated(sizes, groups)
    cells = sum(math.prod(sizes[c] for c in clique) for clique in cliques)
    return cells <= max_cells, max(map(len, cliques), default=0) <= max(_WIDEST, *map(len, held), 0)


def sigma_of_one(curator: Curator, *, rho: Fraction) -> float:
    """Noise on a cell if `rho` is spent on one marginal, in rows."""
    return math.sqrt(curator.unit.l2_squared / (2 * rho))


def guessed_sigma(curator: Curator, *, rho: Fraction) -> float:
    """Noise on a cell if `rho` is spent on three marginals a column, in rows."""
    return sigma_of_one(curator, rho=rho) * math.sqrt(_LIKELY * len(curator.schema.sizes))
