"""What formulas say about combinations of cells, and values in a combination that keep them.

A conjunction of bounds in a combination of cells is a system of linear inequalities, all combinations at once. Its
columns are eliminated one after another (Fourier and Motzkin; Schrijver, Theory of Linear and Integer Programming, 1986,
12.2); what is left says whether any values keep it, and drawn in the other order each column has an interval that never
runs dry. On a grid that is exact as long as, of each pair of inequalities that is joined, one has the column with factor 1
or -1 (Pugh, The Omega Test, Supercomputing 1991, 2.3): the order is chosen so, and rules without such an order are
refused. Between continuous columns floats may miss by a rounding what numbers keep: there a combination counts as possible
where values were found that keep the formula as floats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeAlias

import numpy as np

from dpsynth.errors import UsageError
from dpsynth.formulas import (
    AllOf,
    BoolArray,
    Bound,
    Columns,
    FloatArray,
    Formula,
    InCells,
    Terms,
    Values,
    alternatives,
    bounds_of,
    opposite,
    sum_of,
    truth_of,
)
from dpsynth.schema import Column
from dpsynth.schema.quoting import quoted

MAX_MASK = 2**22  # combinations of cells of the columns of one rule
SHARES = (1 / 2, 1 / 4, 3 / 4, 1 / 8, 7 / 8, 0.0, 1.0)  # of each interval, where values are looked for in floats
_MAX_ROWS = 1000  # inequalities of a system
_CHUNK = 2**15  # combinations of cells that are decided at once

Leaf: TypeAlias = InCells | Bound
Factors: TypeAlias = tuple[int, ...]
_Stage: TypeAlias = dict[Factors, tuple[FloatArray, BoolArray]]


@dataclass(frozen=True, eq=False)
class Span:
    """What the cells of a numeric column hold, the missing cell included.

    Args:
        low, high: Smallest and largest value (in grid steps), shape (size,); 0 where missing.
        open: Whether `high` is not reached.
        missing: Which cell is the missing one.
    """

    low: FloatArray
    high: FloatArray
    open: BoolArray
    missing: BoolArray

    @classmethod
    def of(cls, column: Column) -> Span:
        bins, gap = column.binning, column.missing
        grid = bins.starts is not None
        low = bins.edges[:-1] if bins.starts is None else bins.starts[:-1]
        high = np.where(bins.is_point, low, bins.edges[1:] if bins.starts is None else bins.starts[1:] - 1)
        half_open = ~bins.is_point & (not grid)
        half_open[-1] = False
        missing = np.arange(column.size) == bins.size
        pad = [0.0] * gap
        return cls(
            np.append(low, pad) * 1.0,
            np.append(high, pad) * 1.0,
            np.append(half_open, np.zeros(int(gap), bool)),
            missing,
        )

    def shaped(self, shape: Sequence[int]) -> Span:
        low, high = self.low.reshape(shape), self.high.reshape(shape)
        return Span(low, high, self.open.reshape(shape), self.missing.reshape(shape))

    def at(self, cells: Values) -> Span:
        return Span(self.low[cells], self.high[cells], self.open[cells], self.missing[cells])

    def holds(self, values: FloatArray) -> BoolArray:
        """Whether each value lies in its cell; any does in the missing one."""
        inside: BoolArray = (self.low <= values) & ((values < self.high) | ((values == self.high) & ~self.open))
        return inside | self.missing


Spans: TypeAlias = Mapping[int, Span]


def masks_of(formula: Formula, columns: Columns, table: tuple[Column, ...]) -> tuple[BoolArray, BoolArray]:
    """Exact masks (possible, certain) over the cells of `columns`, which are all that the formula uses.

    Raises:
        UsageError: there are too many cells or alternatives, or sums that are tied too tightly to decide.
    """
    sizes = [table[column].size for column in columns]
    if math.prod(sizes) > MAX_MASK:
        names = ", ".join(quoted(table[column].name) for column in columns)
        raise UsageError(
            f"{names} have {math.prod(sizes)} combinations of cells, more than {MAX_MASK}: declare fewer, wider bins"
        )
    flat = {column: Span.of(table[column]) for column in columns if table[column].is_numeric}
    laid = {}
    for axis, column in enumerate(columns):
        if column in flat:
            shape = [-1 if other == axis else 1 for other in range(len(columns))]
            laid[column] = flat[column].shaped(shape)
    possible, certain = (np.broadcast_to(mask, sizes).copy() for mask in _on_cells(formula, columns, sizes, laid))
    bounds = bounds_of(formula)
    in_floats = any(not bound.grid and len(bound.columns) > 1 for bound in bounds)
    if len(bounds) > 1 or (in_floats and len(columns) > 2):  # a bound on two numbers is decided by its ends
        undecided = np.argwhere(possible & ~certain)
        for start in range(0, len(undecided), _CHUNK):
            cells = undecided[start : start + _CHUNK].astype(np.int32)
            where = tuple(cells.T)
            codes = {column: cells[:, axis] for axis, column in enumerate(columns)}
            possible[where] = _satisfiable(formula, codes, flat, in_floats=in_floats)
            certain[where] = ~_satisfiable(opposite(formula), codes, flat, in_floats=False)
    return possible, certain & possible


def _on_cells(formula: Formula, columns: Columns, sizes: Sequence[int], spans: Spans) -> tuple[BoolArray, BoolArray]:
    """Masks over the cells of `columns` that bracket the truth: what is not possible, and what is certain, is so."""
    if isinstance(formula, InCells):
        shape = [size if column in formula.columns else 1 for column, size in zip(columns, sizes, strict=True)]
        truth = formula.truth.reshape(shape)
        return truth, truth
    if isinstance(formula, Bound):
        return _bound_on(formula, spans)
    join = np.logical_and if isinstance(formula, AllOf) else np.logical_or
    both = [_on_cells(part, columns, sizes, spans) for part in formula.parts]
    return reduce(join, [possible for possible, _ in both]), reduce(join, [certain for _, certain in both])


def _bound_on(bound: Bound, spans: Spans) -> tuple[BoolArray, BoolArray]:
    """Where a bound is possible, and where certain; the spans broadcast against each other."""
    missing = reduce(np.logical_or, [spans[column].missing for column in bound.columns])
    (least, least_open), (most, most_open) = _ends(bound.left, spans, -1), _ends(bound.left, spans, 1)
    (low, low_open), (high, high_open) = _ends(bound.right, spans, -1), _ends(bound.right, spans, 1)
    low, high = low + bound.limit, high + bound.limit
    possible = (least < high) | ((least == high) & ~(least_open | high_open) & (not bound.strict))
    apart = (most_open | low_open) & (len(bound.columns) < 3)  # a sum of floats may round up to what it cannot reach
    certain = (most < low) | ((most == low) & (apart | (not bound.strict)))
    return np.where(missing, bound.when_missing, possible), np.where(missing, bound.when_missing, certain)


def _ends(terms: Terms, spans: Spans, side: int) -> tuple[FloatArray, BoolArray]:
    """The lowest (-1) or highest (1) value of a sum, and whether it is not reached."""
    ends = {c: spans[c].high if sign == side else spans[c].low for sign, c in terms}
    unreached = [spans[c].open for sign, c in terms if sign == side]
    return sum_of(terms, ends), reduce(np.logical_or, unreached, np.zeros(1, dtype=bool))


def _satisfiable(formula: Formula, codes: Mapping[int, Values], spans: Spans, *, in_floats: bool) -> BoolArray:
    """Whether some values in each combination of cells keep the formula; one flag a combination.

    Args:
        in_floats: Count values only that keep it as floats.
    """
    found = np.zeros(len(next(iter(codes.values()))), dtype=bool)
    for leaves in alternatives(formula):
        left = np.flatnonzero(~found)
        if not len(left):
            break
        system = System.of(leaves, {column: cells[left] for column, cells in codes.items()}, spans)
        if not in_floats:
            found[left] = system.feasible
            continue
        for share in SHARES:
            found[left] |= system.values(np.full((len(system.columns), len(left)), share))[1]
            if np.array_equal(found[left], system.feasible):
                break
    return found


# ---- systems of bounds ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Definition:
    """A column as the sum of others: what an equality says of it.

    Args:
        sign, minuend, subtrahend, limit: column = sign * (minuend + limit - subtrahend).
    """

    column: int
    sign: int
    minuend: Terms
    subtrahend: Terms
    limit: float

    @property
    def inputs(self) -> set[int]:
        """The columns that it is computed from."""
        return {column for _, column in self.minuend + self.subtrahend}

    def value(self, values: Mapping[int, Values]) -> FloatArray:
        """What the column has to be; NaN where an input is missing."""
        return self.sign * (sum_of(self.minuend, values) + self.limit - sum_of(self.subtrahend, values))


def definitions(leaves: Iterable[Leaf]) -> tuple[Definition, ...]:
    """Columns that equalities among the leaves define by others, each at most once, in the order to compute them.

    Raises:
        UsageError: a sum of continuous columns has no column left to define: floats could not keep it.
    """
    bounds = [leaf for leaf in leaves if isinstance(leaf, Bound) and not leaf.strict]
    seen: set[Bound] = set()
    found: dict[int, Definition] = {}
    for bound in bounds:
        if bound.mirrored in seen:
            chosen = next((d for d in _solutions(bound) if _is_new(d, found)), None)
            if chosen is not None:
                found[chosen.column] = chosen
            elif not bound.grid and len(bound.columns) > 2:
                raise UsageError("continuous columns are the result of more sums than one: declare their decimals")
        seen.add(bound)
    ordered: list[Definition] = []
    while len(ordered) < len(found):
        done = {definition.column for definition in ordered}
        ordered += [d for d in found.values() if d.column not in done and d.inputs & set(found) <= done]
    return tuple(ordered)


def _solutions(bound: Bound) -> list[Definition]:
    """Ways to compute one column of an equality; the one alone on its side first, in floats no other."""
    sides = ((bound.left, bound.right, bound.limit), (bound.right, bound.left, -bound.limit))
    alone = [Definition(side[0][1], 1, other, (), limit) for side, other, limit in sides if len(side) == 1]
    solved = [
        Definition(column, sign, other, tuple(term for term in side if term[1] != column), limit)
        for side, other, limit in sides
        for sign, column in side
    ]
    return alone + solved if bound.grid else alone


def _is_new(definition: Definition, found: Mapping[int, Definition]) -> bool:
    """Whether a column is not defined yet, and none of what defines it is defined by it."""
    waiting, reached = list(definition.inputs), set[int]()
    while waiting:
        column = waiting.pop()
        if column not in reached:
            reached.add(column)
            waiting += found[column].inputs if column in found else ()
    return definition.column not in found and definition.column not in reached


@dataclass(frozen=True, eq=False)
class _Rows:
    """Inequalities: for factors of all columns, sum of factor times value <= limit, or < where strict; each an array."""

    found: _Stage

    def add(self, factors: Factors, limit: FloatArray, strict: BoolArray, *, grid: bool) -> None:
        shared = math.gcd(*factors)
        if shared > 1:
            factors, limit = tuple(factor // shared for factor in factors), limit / shared
            limit = np.floor(limit) if grid else limit
        if factors in self.found:
            old, was_strict = self.found[factors]
            strict = np.where(limit < old, strict, np.where(limit == old, strict | was_strict, was_strict))
            limit = np.minimum(limit, old)
        self.found[factors] = (limit, strict)
        if len(self.found) > _MAX_ROWS:
            raise UsageError("it ties too many numbers to each other in sums: use fewer sums")


@dataclass(frozen=True, eq=False)
class System:
    """Bounds on numbers, for many combinations of cells at once.

    Args:
        leaves: What has to hold, all of it.
        codes, spans: The cells of each combination, and what cells hold.
        columns: The numeric columns, in the order in which they can be drawn.
        grids: For each of them, whether its values are grid steps.
        stages: For each of them, the inequalities between it and those before it.
        feasible: Whether any values keep all of it; shape (combinations,).
    """

    leaves: tuple[Leaf, ...]
    codes: Mapping[int, Values]
    spans: Spans
    columns: Columns
    grids: tuple[bool, ...]
    stages: tuple[_Stage, ...]
    feasible: BoolArray

    @classmethod
    def of(cls, leaves: Iterable[Leaf], codes: Mapping[int, Values], spans: Spans) -> System:
        """The system in combinations of cells.

        Raises:
            UsageError: sums are tied too tightly to each other to decide.
        """
        leaves = tuple(leaves)
        bounds = [leaf for leaf in leaves if isinstance(leaf, Bound)]
        columns = tuple(sorted({column for bound in bounds for column in bound.columns}))
        grid = {column: bound.grid for bound in bounds for column in bound.columns}
        place = {column: i for i, column in enumerate(columns)}
        count = len(next(iter(codes.values())))
        feasible, free = np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
        rows = _Rows({})
        here = {column: spans[column].at(codes[column]) for column in columns}
        for column, span in here.items():
            unit = np.zeros(len(columns), dtype=int)
            unit[place[column]] = 1
            high, low = np.where(span.missing, np.inf, span.high), np.where(span.missing, np.inf, -span.low)
            rows.add(tuple(unit.tolist()), high, span.open, grid=True)
            rows.add(tuple((-unit).tolist()), low, free, grid=True)
        for leaf in leaves:
            if isinstance(leaf, InCells):
                feasible &= leaf.truth[tuple(codes[column] for column in leaf.columns)]
                continue
            missing = np.logical_or.reduce([here[column].missing for column in leaf.columns])
            feasible &= ~missing | leaf.when_missing
            factors = np.zeros(len(columns), dtype=int)
            for terms, side in ((leaf.left, 1), (leaf.right, -1)):
                for sign, column in terms:
                    factors[place[column]] += side * sign
            limit = np.where(missing, np.inf, leaf.limit)
            rows.add(tuple(factors.tolist()), limit, np.full(count, leaf.strict), grid=leaf.grid)
        last = [place[d.column] for d in reversed(definitions(leaves)) if not grid[d.column]]
        order: list[int] = []
        stages: list[_Stage] = []
        while len(order) < len(columns):
            i = next((i for i in last if i not in order), None)
            i = _next(rows, [grid[column] for column in columns], order) if i is None else i
            stage, rows = _eliminated(rows, i, grid=grid[columns[i]])
            order.append(i)
            stages.append(stage)
        for limit, strict in rows.found.values():
            feasible &= (limit > 0) | ((limit == 0) & ~strict)
        order.reverse()
        drawn = tuple(columns[i] for i in order)
        sorted_stages = tuple(
            {tuple(factors[i] for i in order): row for factors, row in stage.items()} for stage in reversed(stages)
        )
        return cls(leaves, codes, spans, drawn, tuple(grid[column] for column in drawn), sorted_stages, feasible)

    def values(self, shares: FloatArray) -> tuple[dict[int, FloatArray], BoolArray]:
        """A value for each column (in the units of bounds), and where they keep all leaves and lie in their cells.

        Args:
            shares: Where each value lies between the least and the largest that those before it leave, in [0, 1];
                shape (columns, combinations).
        """
        out: dict[int, FloatArray] = {}
        spans = {column: self.spans[column].at(self.codes[column]) for column in self.columns}
        for i, (column, grid, stage) in enumerate(zip(self.columns, self.grids, self.stages, strict=True)):
            low, high = np.full(shares.shape[1], -np.inf), np.full(shares.shape[1], np.inf)
            low_open, high_open = np.zeros(len(low), dtype=bool), np.zeros(len(low), dtype=bool)
            for factors, (limit, strict) in stage.items():
                rest = limit
                for factor, other in zip(factors[:i], self.columns[:i], strict=True):
                    rest = rest - factor * out[other] if factor else rest
                end = rest / factors[i] + 0.0
                if factors[i] > 0:
                    end = np.floor(end) if grid else end
                    high_open = np.where(end < high, strict, high_open | (strict & (end == high)))
                    high = np.minimum(high, end)
                else:
                    end = np.ceil(end) if grid else end
                    low_open = np.where(end > low, strict, low_open | (strict & (end == low)))
                    low = np.maximum(low, end)
            gone = spans[column].missing
            low, high, share = np.where(gone, 0, low), np.where(gone, 0, high), shares[i]
            if grid:
                value = np.minimum(low + np.floor(share * (high - low + 1)), high)
            else:
                value = low * (1 - share) + high * share
                value = np.minimum(value, np.where(high_open, np.nextafter(high, -np.inf), high))
                value = np.maximum(value, np.where(low_open, np.nextafter(low, np.inf), low))
            out[column] = value
        present = {column: np.where(spans[column].missing, np.nan, value) for column, value in out.items()}
        for definition in definitions(self.leaves):
            value = definition.value(present)
            present[definition.column] = np.where(np.isnan(value), present[definition.column], value)
        kept = self.feasible & truth_of(AllOf(self.leaves), {**self.codes, **present})
        for column, value in present.items():
            kept = kept & spans[column].holds(value)
        return present, kept


def _eliminated(rows: _Rows, i: int, *, grid: bool) -> tuple[_Stage, _Rows]:
    """The inequalities that have a column, and what they and all others say of the other columns."""
    stage = {factors: row for factors, row in rows.found.items() if factors[i]}
    out = _Rows({factors: row for factors, row in rows.found.items() if not factors[i]})
    for upper, (above, above_strict) in stage.items():
        for lower, (below, below_strict) in stage.items():
            if upper[i] > 0 > lower[i]:
                p, q = -lower[i], upper[i]
                shared = math.gcd(p, q)
                p, q = p // shared, q // shared
                joined = tuple(p * a + q * b for a, b in zip(upper, lower, strict=True))
                out.add(joined, p * above + q * below, above_strict | below_strict, grid=grid)
    return stage, out


def _next(rows: _Rows, grids: Sequence[bool], done: Sequence[int]) -> int:
    """The column to eliminate: one for which that is exact, and that makes the fewest inequalities.

    Raises:
        UsageError: there is none.
    """
    best: tuple[int, int] | None = None
    for i, grid in enumerate(grids):
        if i in done:
            continue
        above = [factors[i] for factors in rows.found if factors[i] > 0]
        below = [-factors[i] for factors in rows.found if factors[i] < 0]
        if grid and max(above, default=1) > 1 and max(below, default=1) > 1 and not _is_lone(rows, i):
            continue
        cost = len(above) * len(below)
        if best is None or cost < best[0]:
            best = cost, i
    if best is None:
        raise UsageError("it ties whole numbers to each other in sums that cannot be decided: use fewer sums")
    return best[1]


def _is_lone(rows: _Rows, i: int) -> bool:
    """Whether all inequalities of a column are on it alone, so that nothing is lost by rounding them."""
    return all(sum(map(bool, factors)) == 1 for factors in rows.found if factors[i])
