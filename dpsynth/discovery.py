"""Discovery: what a schema leaves open is learned from the rows, under the budget of the release.

Values of a category are those that enough units have (`mechanisms.partition_selection`); rarer ones fold into "other".
Bounds and bins of a number or a date come from a tree: rows are counted, with noise, in the cells of a grid that is the
same for every table, and cells that hold much are cut finer, round after round. Each round counts disjoint cells that cover
everything, so it costs what one marginal costs, and what is counted again is averaged.

Source of the idea: Cormode, Procopiuc, Srivastava, Shen, Yu. Differentially private spatial decompositions. ICDE 2012,
arXiv:1103.5170; the weights of the rounds and the rules for cutting are our own, chosen by measurement (`docs/discovery.md`).

Privacy: every choice is made from public facts and noisy counts. One unit moves each question by what
`Curator.find_values` and `Curator.find_rows` say.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import count, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.binning import DEFAULT_BINS, ONE_CELL_EACH
from dpsynth.curator import Curator
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.mechanisms.partition_selection import PartitionSelection
from dpsynth.privacy import Cap, Cost, exact
from dpsynth.schema import Column, Schema
from dpsynth.schema.vocabulary import MAX_DISCOVERED, NO_VALUE

FloatVector = npt.NDArray[np.float64]

_A_COLUMN, _MOST = Fraction(1, 50), Fraction(3, 10)
RELEASES = 10
"""A release takes at most one part in so many of the delta0 that its promise sets aside."""

_FIRST = Fraction(1, 2)  # part of a column's rho for the first look
_ROUNDS = 3  # in which heavy cells are cut
_PARTS = 8  # into which a heavy cell is cut
_EMPTY = 1e-4  # chance that empty cells of a column are taken for ones that hold rows
_LIKELY = 4.0  # standard deviations that do where no run reaches what that chance asks for
_LONGEST_RUN = 7  # cells that are looked at together, as a power of two, less one
_NEAR = 2.0  # standard deviations that do beside cells that surely hold rows
_AWAY, _TOWARDS_ZERO = 3, 8  # cells that are looked at together there
_NOTHING = 0.5  # standard deviations up to which the outer part of such cells is taken for empty
_CLEAR = 4.0  # standard deviations of its noise that a cell must hold to be cut


@dataclass(frozen=True, kw_only=True)
class Discovered:
    """One column that was completed: what was found, and how.

    Args:
        column: The completed column.
        facts: What was open: "values", or among "minimum", "maximum", "bins".
        sigma: Standard deviation of the noise on each count, in units or rows; of the last look.
        least: What a noisy count needed to be taken for a value or for rows that are there.
        rho, delta0: What it cost.
    """

    column: Column
    facts: tuple[str, ...]
    sigma: float
    least: int
    rho: Fraction
    delta0: Fraction


def share_for(schema: Schema) -> Fraction:
    """The part of a release's rho that discovery gets unless told otherwise: 2 % an open column, at most 30 %."""
    return min(_MOST, _A_COLUMN * sum(column.is_open for column in schema.columns))


def setting(share: Fraction) -> dict[str, str]:
    """The share as one of a generator's settings; none where nothing is open."""
    return {"discovery_share": str(share)} if share else {}


def budget_for(schema: Schema, *, promise: Cap, share: Fraction, most_delta0: Fraction | None = None) -> Cost:
    """What discovery may cost: nothing where nothing is open.

    Args:
        share: Part of the promise's zCDP cost, in (0, 1).
        most_delta0: What the ledger sets aside for all its releases, if that is less than the promise does.
    """
    if not schema.is_open:
        return Cost.zero()
    values = any("values" in column.discover for column in schema.columns)
    delta0 = promise.delta0 if most_delta0 is None else min(promise.delta0, most_delta0)
    return Cost.zcdp(promise.cost.rho * share, delta0=delta0 / RELEASES if values else Fraction(0))


def discover(
    curator: Curator, *, budget: Cost, progress: Callable[[str], None] = lambda step: None
) -> tuple[Discovered, ...]:
    """Completes the curator's schema, column after column, with an equal part of the budget each."""
    schema = curator.schema
    columns = [column for column in schema.columns if column.is_open]
    if not columns:
        return ()
    rho = budget.rho / len(columns)
    values = sum("values" in column.discover for column in columns)
    found = []
    for column in columns:
        progress(f"discovering {', '.join(column.discover)} of {column.name}")
        if "values" in column.discover:
            found.append(_values(curator, column, rho=rho, delta0=budget.delta0 / values))
        else:
            found.append(_numbers(curator, column, rho=rho))
    curator.complete(schema.completed(one.column for one in found))
    return tuple(found)


def _done(column: Column, **facts: Any) -> Column:
    basis = column.basis or "discovered under the budget of the release"
    return replace(column, discover=(), source="discover", basis=basis, **facts)


# ---- values --------------------------------------------------------------------------------------------------------


def _values(curator: Curator, column: Column, *, rho: Fraction, delta0: Fraction) -> Discovered:
    """Texts in their own order, of which none says who came first."""
    unit = curator.unit
    l2_squared, values = unit.touched(unit.max_rows), unit.max_rows
    mechanism = PartitionSelection.calibrated(rho=rho, delta0=delta0, l2_squared=l2_squared, values=values)
    found = sorted(curator.find_values(column.name, mechanism), key=lambda value: -value.units)[:MAX_DISCOVERED]
    texts = tuple(sorted(value.text for value in found)) or (_no_value(curator.schema),)
    cost = mechanism.cost(l2_squared=l2_squared, values=values)
    return Discovered(
        column=_done(column, values=texts),
        facts=column.discover,
        sigma=mechanism.noise.sigma,
        least=mechanism.least,
        rho=cost.rho,
        delta0=cost.delta0,
    )


def _no_value(schema: Schema) -> str:
    """The label of a category of which no value is common: it needs one."""
    return next(text for n in count() if (text := NO_VALUE + "." * n) not in schema.read.missing)


# ---- numbers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Cells:
    """Half-open intervals that cover everything, with estimated numbers of rows.

    Args:
        edges: Shape (cells + 1,).
        rows: Noisy number of rows in each; shape (cells,).
        variance: Of that noise; shape (cells,).
    """

    edges: FloatVector
    rows: FloatVector
    variance: FloatVector

    @property
    def total(self) -> float:
        return max(1.0, float(self.rows.sum()))


def _numbers(curator: Curator, column: Column, *, rho: Fraction) -> Discovered:
    """Bounds, and bins where those are open, by counting ever finer cells where rows are."""
    wanted = column.bins or DEFAULT_BINS
    l2_squared = curator.unit.l2_squared
    spent = Fraction(0)

    def look(edges: FloatVector, part: Fraction) -> _Cells:
        nonlocal spent
        mechanism = DiscreteGaussian.calibrated(rho=rho * part, l2_squared=l2_squared)
        spent += mechanism.cost(l2_squared=l2_squared).rho
        noisy = curator.find_rows(column.name, edges, mechanism).astype(np.float64)
        return _Cells(edges, noisy, np.full(len(noisy), float(mechanism.sigma_squared)))

    coarse = cells = look(_grid(column), _FIRST)
    for _ in range(_ROUNDS):
        cells = _averaged(cells, look(_cut(column, cells, wanted), (1 - _FIRST) / _ROUNDS))
    sigma = float(np.sqrt(cells.variance.max()))
    cells, least = _trimmed(column, _summed(coarse, cells), cells, wanted)
    cells = _stretched(column, cells)
    return Discovered(
        column=_done(column, **_domain(column, cells, wanted)),
        facts=column.discover,
        sigma=sigma,
        least=least,
        rho=spent,
        delta0=Fraction(0),
    )


def _step(column: Column) -> float | None:
    """The step of the grid on which a column's values lie; None for a continuous one."""
    return None if column.grid is None else 10.0**-column.grid


def _after(column: Column, value: float) -> float:
    """The next value after one that the column can have."""
    if column.grid is None:
        return float(np.nextafter(value, np.inf))
    return float((exact(value) * 10**column.grid + 1) / 10**column.grid)


def _grid(column: Column) -> FloatVector:
    """Where every table is first looked at, in declared bounds; each atom is looked at alone.

    Between two declared bounds equal parts of them join the cells of every other table: declared bounds are often far wider
    than what most rows have, and then lie all in one part.
    """
    low, high = (_snapped(column, bound, up) for bound, up in ((column.minimum, True), (column.maximum, False)))
    edges = _decades(column) if column.is_time else _powers(column)
    if low is not None and high is not None:
        inside = edges[(edges > low) & (edges < high)]
        edges = np.union1d(_on_grid(column, _parts(low, high, 2 * _PARTS)), inside)
    atoms = [float(column.step(atom)) for atom in column.atoms or ()]
    edges = np.unique(np.concatenate([edges, atoms, [_after(column, atom) for atom in atoms]]))
    if low is not None:
        edges = np.concatenate([[low], edges[edges > low]])
    if high is not None:
        edges = np.concatenate([edges[edges < high], [high]])
    return edges


def _powers(column: Column) -> FloatVector:
    """Zero, which is a cell of its own, and one, two and five times the powers of ten."""
    places = range(-15 if column.grid is None else -column.grid, 16)
    positive = np.array([float(f"{digit}e{place}") for place in places for digit in (1, 2, 5)])
    positive = positive[positive <= 2 * column.reach[1]]
    return np.unique(np.concatenate([-positive[::-1], [0.0, _after(column, 0.0)], positive]))


def _decades(column: Column) -> FloatVector:
    """The first days of the years 1800, 1810, ... 2200, as far as the column's format can write them."""
    first, last = column.reach
    days = np.array([column.step(f"{year}-01-01") for year in range(1800, 2201, 10)], dtype=np.float64)
    return np.concatenate([[first], days[(days > first) & (days <= last)], [last + 1]])


def _snapped(column: Column, bound: float | str | None, up: bool) -> float | None:
    """A declared bound as the nearest value inside it that the column can have."""
    if bound is None:
        return None
    number = column.step(bound)
    if (step := _step(column)) is None:
        return number
    scale = 10 ** (column.grid or 0)
    return float((math.ceil if up else math.floor)(exact(number) * scale) * exact(step))


def _parts(low: float, high: float, parts: int) -> FloatVector:
    """Edges of equal parts, also of intervals so wide that their length is no finite number."""
    share = np.arange(parts + 1) / parts
    return low * (1 - share) + high * share


def _on_grid(column: Column, edges: FloatVector) -> FloatVector:
    """Edges that values of the column can have, each once."""
    if column.type == "number":
        return np.unique(edges if column.decimals is None else np.round(edges, column.decimals) + 0.0)
    return np.unique(np.ceil(edges))


def _cut(column: Column, cells: _Cells, wanted: int) -> FloatVector:
    """The edges of the next round: those there are, and more inside cells that clearly hold more than half a bin."""
    heavy = cells.rows > np.maximum(cells.total / (2 * wanted), _CLEAR * np.sqrt(cells.variance))
    inner = [
        _on_grid(column, _parts(low, high, _PARTS))
        for low, high in zip(cells.edges[:-1][heavy], cells.edges[1:][heavy], strict=True)
        if high != np.nextafter(low, np.inf)
    ]
    return np.unique(np.concatenate([cells.edges, *inner]))


def _averaged(before: _Cells, now: _Cells) -> _Cells:
    """What is known of the finer cells: a cell that was not cut is the mean of both counts, weighted by precision."""
    first = np.searchsorted(now.edges, before.edges[:-1])
    same = np.diff(np.append(first, len(now.rows))) == 1
    rows, variance = now.rows.copy(), now.variance.copy()
    place = first[same]
    weight = variance[place] / (variance[place] + before.variance[same])
    rows[place] = weight * before.rows[same] + (1 - weight) * rows[place]
    variance[place] = weight * before.variance[same]
    return _Cells(now.edges, rows, variance)


def _summed(before: _Cells, now: _Cells) -> _Cells:
    """What is known of the coarser cells: of one that was cut the mean of its own count and of its parts' sum."""
    first = np.searchsorted(now.edges, before.edges[:-1])
    rows, variance = np.add.reduceat(now.rows, first), np.add.reduceat(now.variance, first)
    whole = np.diff(np.append(first, len(now.rows))) == 1  # its own count is part of the average already
    weight = np.where(whole, 1.0, before.variance / (variance + before.variance))
    return _Cells(
        before.edges,
        weight * rows + (1 - weight) * before.rows,
        weight**2 * variance + (1 - weight) ** 2 * before.variance,
    )


def _trimmed(column: Column, coarse: _Cells, cells: _Cells, wanted: int) -> tuple[_Cells, int]:
    """Without the outer cells that may be empty, where the bound on that side is open; and what one cell had to hold.

    Coming from a side, the first run of 1, 2, 4 ... coarse cells that together hold clearly more than their noise is where
    rows begin. An empty table would show such a run with a chance of at most `_EMPTY`; where there is none, the bounds are
    those of the cell below one. Beside it what is likely to hold rows is kept, and from the outermost cell goes what is
    likely to hold none, or less than half a bin: a bound that is too wide leaves a bin too wide, one that is too narrow
    moves all rows beyond it.
    """
    lengths = [2**n for n in range(_LONGEST_RUN) if 2**n <= len(coarse.rows)]
    clear = math.sqrt(2 * math.log(len(lengths) * len(coarse.rows) / _EMPTY))
    for least in (clear, _LIKELY):  # where nothing is clear, what is likely is better than nothing
        first = _reached(coarse.rows, coarse.variance, lengths, least)
        back = _reached(coarse.rows[::-1], coarse.variance[::-1], lengths, least)
        if first is not None and back is not None:
            zero = _zero(column, coarse)
            first = _widened(coarse.rows, coarse.variance, first, zero)
            back = _widened(coarse.rows[::-1], coarse.variance[::-1], back, len(coarse.rows) - 1 - zero)
            break
    held = math.ceil(clear * math.sqrt(coarse.variance.max()))
    if first is None or back is None:
        start = end = max(0, int(np.searchsorted(cells.edges, 1.0, side="left")) - 1) % len(cells.rows)
    else:
        low, high = coarse.edges[first], coarse.edges[len(coarse.edges) - 1 - back]
        start, stop = np.searchsorted(cells.edges, [low, high]).tolist()
        inner = slice(start, stop)
        few = cells.total / (2 * wanted)
        skipped = _empty(cells.rows[inner], cells.variance[inner], clear, few)
        behind = _empty(cells.rows[inner][::-1], cells.variance[inner][::-1], clear, few)
        if skipped + behind < stop - start:
            start, stop = start + skipped, stop - behind
        end = stop - 1
    start = start if column.minimum is None else 0
    end = max(start, end) if column.maximum is None else len(cells.rows) - 1
    kept = slice(start, end + 1)
    return _Cells(cells.edges[start : end + 2], cells.rows[kept], cells.variance[kept]), held


def _reached(rows: FloatVector, variance: FloatVector, lengths: list[int], least: float) -> int | None:
    """Where rows begin, coming from the start; None where no run of cells holds clearly more than its noise."""
    ends = []
    for length in lengths:
        window = np.ones(length)
        z = np.convolve(rows, window, "valid") / np.sqrt(np.convolve(variance, window, "valid"))
        ends += [int(hit) + length for hit in np.flatnonzero(z >= least)[:1]]
    if not ends:
        return None
    sums, spread = np.cumsum(rows[: min(ends)][::-1]), np.cumsum(variance[: min(ends)][::-1])
    return min(ends) - 1 - int(np.flatnonzero(sums >= least * np.sqrt(spread))[0])


def _zero(column: Column, cells: _Cells) -> int:
    """The cell of zero alone; one far outside where there is none."""
    place = int(np.searchsorted(cells.edges, 0.0))
    alone = (
        not column.is_time
        and place < len(cells.rows)
        and cells.edges[place : place + 2].tolist()
        == [
            0.0,
            _after(column, 0.0),
        ]
    )
    return place if alone else -len(cells.rows)


def _widened(rows: FloatVector, variance: FloatVector, first: int, zero: int) -> int:
    """The first cell where what is likely to hold rows is kept, too: zero alone, and runs beside the cells that do.

    Cells towards zero are narrow, so more of them are looked at together than of cells away from it.
    """
    if 0 <= zero < first and rows[zero] >= _NEAR * math.sqrt(variance[zero]):
        return _widened(rows, variance, zero, zero)
    while first:
        beside = min(first - zero, _TOWARDS_ZERO) if 0 <= zero < first else _AWAY
        before = slice(max(0, first - beside), first)
        z = np.cumsum(rows[before][::-1]) / np.sqrt(np.cumsum(variance[before][::-1]))
        if not (z >= _NEAR).any():
            break
        first -= int(np.flatnonzero(z >= _NEAR)[-1]) + 1
    return first


def _empty(rows: FloatVector, variance: FloatVector, clear: float, few: float) -> int:
    """How many cells at the start hold nothing that noise could not be, or surely no more than a few rows of that kind."""
    sums, spread = np.cumsum(rows), np.sqrt(np.cumsum(variance))
    empty = (sums <= _NOTHING * spread) | ((sums <= clear * spread) & (sums + spread <= few))
    return int(np.flatnonzero(empty)[-1]) + 1 if empty.any() else 0


def _stretched(column: Column, cells: _Cells) -> _Cells:
    """With cells that hold nothing up to the atoms outside: that an atom is a value of the column is declared."""
    atoms = [float(column.step(atom)) for atom in column.atoms or ()]
    last = [_after(column, atom) for atom in atoms] if column.maximum is None else []
    before = [atom for atom in [min(atoms, default=math.inf)] if atom < cells.edges[0]]
    behind = [after for after in [max(last, default=-math.inf)] if after > cells.edges[-1]]
    first, end = np.zeros(len(before)), np.zeros(len(behind))
    return _Cells(
        np.concatenate([before, cells.edges, behind]),
        np.concatenate([first, cells.rows, end]),
        np.concatenate([first, cells.variance, end]),
    )


def _domain(column: Column, cells: _Cells, wanted: int) -> dict[str, Any]:
    """Bounds and bins in the words of a schema."""
    low, high = float(cells.edges[0]), float(cells.edges[-1])
    if column.type != "number":
        last = high if column.maximum is not None else high - 1
        values = int(last - low) + 1
        bounds = {"minimum": _word(column, low), "maximum": _word(column, last)}
        if "bins" not in column.discover:
            return {**bounds, "bins": None if column.bins is None else min(column.bins, values)}
        if values <= ONE_CELL_EACH:
            return bounds
        cuts = [int(edge) for edge in _merged(cells, wanted)]
        if column.maximum is None:  # the last edge is a value of the last bin
            alone = cuts[-1] - cuts[-2] == 1
            if not alone:
                cuts[-1] -= 1
            elif cuts[-2] in map(column.step, column.atoms or ()) or (column.is_time and cuts[-1] > column.reach[1]):
                cuts[-2:] = [cuts[-2]]
        return {"minimum": None, "maximum": None, "edges": tuple(_word(column, cut) for cut in cuts)}
    step = _step(column)
    if "bins" not in column.discover:
        wide = wanted * (step or 1e-12 * max(abs(low), abs(high), 1e-12))  # what equal parts need at least
        if high - low < wide and column.maximum is None:
            high = low + wide
        elif high - low < wide:
            low = high - wide
        return {"minimum": low, "maximum": high, "bins": wanted}
    return {"minimum": None, "maximum": None, "edges": tuple(_merged(cells, wanted))}


def _word(column: Column, step: float) -> int | str:
    """A bound of a column that counts in whole numbers, in the word of a schema."""
    return column.clock.iso(step) if column.is_time else int(step)


def _merged(cells: _Cells, wanted: int) -> list[float]:
    """Edges of at most `wanted` bins of about equal mass; a cell that holds more than its part stays alone."""
    rows = np.maximum(cells.rows, 0.0)
    part = rows.sum() / wanted
    edges, held = [float(cells.edges[0])], 0.0
    for (low, high), mass in zip(pairwise(cells.edges.tolist()), rows.tolist(), strict=True):
        if mass >= part and edges[-1] < low:
            edges.append(low)
            held = 0.0
        held += mass
        if held >= part:
            edges.append(high)
            held = 0.0
    if edges[-1] != cells.edges[-1]:
        edges.append(float(cells.edges[-1]))
    return _fewer(edges, cells, wanted)


def _fewer(edges: list[float], cells: _Cells, wanted: int) -> list[float]:
    """Takes out the edge between the two neighbours that hold least together, until there are few enough bins."""
    height = np.concatenate([[0.0], np.cumsum(np.maximum(cells.rows, 0.0))])
    while len(edges) - 1 > wanted:
        at = np.interp(edges, cells.edges, height)
        del edges[1 + int(np.argmin(at[2:] - at[:-2]))]
    return edges
