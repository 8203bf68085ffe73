"""Rules between columns, and conditions on rows: what their expressions say about the cells and values of a schema.

**Missing.** A comparison with a missing value is neither true nor false, as in SQL. A condition asks for rows where the
expression is true; a rule forbids rows where it is false. So `start <= end` is a rule that a row without `end` keeps,
and a condition that it does not meet. `is missing` is always true or false.

**Cells.** A model knows cells, not values. Of each combination of cells a rule says whether it is `possible` (some
values in it keep the rule) and `certain` (all do); both are exact. Inside cells that are possible and not certain,
values are drawn until the rule holds, and where that takes too long, computed: comparisons are bounds on differences,
and closing such bounds under addition leaves each column an interval that never runs dry (Dill 1989, difference
bound matrices; Cormen et al., Introduction to Algorithms, on systems of difference constraints).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, reduce
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dpsynth.errors import SchemaError, UsageError
from dpsynth.expressions import (
    FLIPPED,
    OPPOSITE,
    And,
    Comparison,
    Expression,
    Membership,
    Not,
    Op,
    Or,
    Place,
    Value,
    parse,
    refuse,
    shown,
)
from dpsynth.schema import OTHER, Column, quoted

if TYPE_CHECKING:
    from dpsynth.schema import Schema

BoolArray: TypeAlias = npt.NDArray[np.bool_]
FloatArray: TypeAlias = npt.NDArray[np.float64]
Codes: TypeAlias = npt.NDArray[np.int32]
Values: TypeAlias = npt.NDArray[Any]
Columns: TypeAlias = tuple[int, ...]

MAX_MASK = 2**22  # combinations of cells of the columns of one rule
MAX_ALTERNATIVES = 4096  # ways to keep a rule, written as "or" of "and"
_ROUNDS = 100  # of drawing values again until rules inside a cell hold
_TRIES = 40  # of computing them, each with other values: floats may miss an implied equality by a rounding
_CHUNK = 2**15  # combinations of cells that are decided at once

# ---- formulas: expressions over the cells and values of a schema --------------------------------------------------
#
# "not" is pushed down to the claims, so that a formula is built of "all" and "any" over two kinds of leaves: what the
# cells decide, and bounds on one number or on the difference of two. Numbers on a grid (integers, declared decimals)
# are counted in grid steps, in which every bound is a whole number and none is strict.


@dataclass(frozen=True, eq=False)
class _InCells:
    """What cells alone decide; truth has the sizes of the columns as its shape."""

    columns: Columns
    truth: BoolArray


@dataclass(frozen=True)
class _Bound:
    """left - right <= limit, or < where `strict`; a column that is None counts as 0. Missing counts as `when_missing`."""

    left: int | None
    right: int | None
    limit: float
    strict: bool
    grid: bool
    when_missing: bool

    @property
    def columns(self) -> Columns:
        return tuple(sorted({column for column in (self.left, self.right) if column is not None}))


@dataclass(frozen=True, eq=False)
class _All:
    parts: tuple[_Formula, ...]


@dataclass(frozen=True, eq=False)
class _Any:
    parts: tuple[_Formula, ...]


_Formula: TypeAlias = _InCells | _Bound | _All | _Any


def _columns(formula: _Formula) -> Columns:
    if isinstance(formula, _InCells | _Bound):
        return formula.columns
    return tuple(sorted({column for part in formula.parts for column in _columns(part)}))


def _bounds(formula: _Formula) -> list[_Bound]:
    if isinstance(formula, _All | _Any):
        return [bound for part in formula.parts for bound in _bounds(part)]
    return [formula] if isinstance(formula, _Bound) else []


def _opposite(formula: _Formula) -> _Formula:
    if isinstance(formula, _All):
        return _Any(tuple(map(_opposite, formula.parts)))
    if isinstance(formula, _Any):
        return _All(tuple(map(_opposite, formula.parts)))
    if isinstance(formula, _InCells):
        return _InCells(formula.columns, ~formula.truth)
    limit = -formula.limit - formula.grid
    strict = not formula.grid and not formula.strict
    return _Bound(formula.right, formula.left, limit, strict, formula.grid, not formula.when_missing)


def _alternatives(formula: _Formula) -> list[tuple[_InCells | _Bound, ...]]:
    """Conjunctions of leaves of which at least one has to hold.

    Raises:
        UsageError: there are too many.
    """
    if isinstance(formula, _InCells | _Bound):
        return [(formula,)]
    parts = [_alternatives(part) for part in formula.parts]
    count = math.prod(map(len, parts)) if isinstance(formula, _All) else sum(map(len, parts))
    if count > MAX_ALTERNATIVES:
        raise UsageError(f"it can be kept in more than {MAX_ALTERNATIVES} ways: split it or shorten its lists")
    if isinstance(formula, _Any):
        return [leaves for part in parts for leaves in part]
    return [tuple(leaf for leaves in choice for leaf in leaves) for choice in product(*parts)]


@dataclass(frozen=True)
class _Binder:
    """Turns expressions into formulas over a schema's columns.

    Args:
        when_missing: What a comparison with a missing value counts as: True for a rule, False for a condition.
    """

    columns: tuple[Column, ...]
    dropped: frozenset[str]
    when_missing: bool

    def formula(self, expression: Expression, *, negate: bool = False) -> _Formula:
        if isinstance(expression, Not):
            return self.formula(expression.part, negate=not negate)
        if isinstance(expression, And | Or):
            parts = tuple(self.formula(part, negate=negate) for part in expression.parts)
            return _All(parts) if isinstance(expression, And) != negate else _Any(parts)
        if isinstance(expression, Comparison):
            op = OPPOSITE[expression.op] if negate else expression.op
            return self._comparison(expression.left, op, expression.right, expression.at)
        if isinstance(expression, Membership):
            op = "!=" if expression.negated != negate else "=="
            sides = [
                self._comparison(Place(expression.column), op, value, expression.at) for value in expression.values
            ]
            if all(isinstance(side, _InCells) for side in sides):
                join = np.logical_and if op == "!=" else np.logical_or
                truths = [side.truth for side in sides if isinstance(side, _InCells)]
                return _InCells(_columns(sides[0]), reduce(join, truths))
            return _All(tuple(sides)) if op == "!=" else _Any(tuple(sides))
        index = self._index(expression.column, expression.at)
        truth = np.zeros(self.columns[index].size, dtype=bool)
        if self.columns[index].missing:
            truth[-1] = True
        return _InCells((index,), ~truth if expression.negated != negate else truth)

    def _index(self, name: str, at: int) -> int:
        if name in self.dropped:
            refuse(name, at, " is a column that synthetic rows do not have")
        for index, column in enumerate(self.columns):
            if column.name == name:
                return index
        refuse(name, at, " is not a declared column: put texts in quotes")

    def _comparison(self, left: Place, op: Op, right: Place | Value, at: int) -> _Formula:
        index = self._index(left.column, at)
        column = self.columns[index]
        if isinstance(right, Place):
            other = self._index(right.column, at)
            if column.is_numeric and self.columns[other].is_numeric:
                if _decimals(column) != _decimals(self.columns[other]):
                    refuse(left.column, at, f" and {quoted(right.column)} need the same type and decimals to compare")
                return self._numbers(index, other, op, right.plus - left.plus, at)
            if left.plus or right.plus:
                refuse(left.column, at, ": a number can be added to a numeric column only")
            return self._cells_of_two(index, other, op, at)
        if column.is_numeric:
            if not isinstance(right, Fraction):
                refuse(left.column, at, f" is {_article(column)} and compares with numbers, not with {shown(right)}")
            return self._numbers(index, None, op, right - left.plus, at)
        if left.plus:
            refuse(left.column, at, ": a number can be added to a numeric column only")
        return self._cells_of_one(index, op, right, at)

    def _numbers(self, left: int, right: int | None, op: Op, value: Fraction, at: int) -> _Formula:
        """left - right op value, as bounds."""
        if left == right:
            refuse(self.columns[left].name, at, " is compared with itself")
        decimals = _decimals(self.columns[left])
        grid = decimals is not None
        if not grid and right is not None and value and op in ("==", "!="):
            refuse(self.columns[left].name, at, ": equality with an added number needs integers or declared decimals")
        exact_limit = value * 10 ** (decimals or 0)

        def at_most(strict: bool) -> _Bound:
            limit = float(math.ceil(exact_limit) - 1 if strict else math.floor(exact_limit)) if grid else float(value)
            return _Bound(left, right, limit, strict and not grid, grid, self.when_missing)

        def at_least(strict: bool) -> _Bound:
            limit = (
                float(-math.floor(exact_limit) - 1 if strict else -math.ceil(exact_limit)) if grid else -float(value)
            )
            return _Bound(right, left, limit, strict and not grid, grid, self.when_missing)

        if op == "==":
            return _All((at_most(False), at_least(False)))
        if op == "!=":
            return _Any((at_most(True), at_least(True)))
        return at_most(op == "<") if op in ("<", "<=") else at_least(op == ">")

    def _cells_of_one(self, index: int, op: Op, value: Value, at: int) -> _Formula:
        column = self.columns[index]
        labels = column.labels
        if column.type == "boolean":
            if not isinstance(value, bool):
                refuse(column.name, at, f" is a boolean and compares with true and false, not with {shown(value)}")
            value = labels[value]
        if not isinstance(value, str):
            refuse(column.name, at, f" is {_article(column)} and compares with texts in quotes, not {shown(value)}")
        if value not in labels:
            refuse(column.name, at, f" has no declared value {quoted(value)}")
        truth = self._ordered(column, np.arange(len(labels)), op, np.array(labels.index(value)), at, column.other_code)
        return _InCells((index,), np.append(truth, np.full(int(column.missing), self.when_missing)))

    def _cells_of_two(self, left: int, right: int, op: Op, at: int) -> _Formula:
        if left == right:
            refuse(self.columns[left].name, at, " is compared with itself")
        if left > right:
            left, right, op = right, left, FLIPPED[op]
        one, two = self.columns[left], self.columns[right]
        if one.type != two.type or one.is_numeric:
            refuse(one.name, at, f" and {quoted(two.name)} are of different types")
        if one.type == "ordinal" and one.values != two.values:
            refuse(one.name, at, f" and {quoted(two.name)} have different declared orders")
        ranks = {label: rank for rank, label in enumerate(dict.fromkeys(one.labels + two.labels))}
        rows, across = (np.array([ranks[label] for label in column.labels]) for column in (one, two))
        unplaced = ranks.get(OTHER) if "other" in (one.unknown, two.unknown) else None
        truth = self._ordered(one, rows[:, None], op, across[None, :], at, unplaced)
        whole = np.full((one.size, two.size), self.when_missing)
        whole[: len(one.labels), : len(two.labels)] = truth
        return _InCells((left, right), whole)

    def _ordered(self, column: Column, left: Values, op: Op, right: Values, at: int, unplaced: int | None) -> BoolArray:
        """Compares codes of labels; "other", unplaced in any order, counts there as missing does."""
        truth: BoolArray = _COMPARE[op](left, right)
        if op in ("==", "!="):
            return truth
        if column.type != "ordinal":
            refuse(column.name, at, f" is {_article(column)}, which has no order: use ==, != or in")
        return (
            truth if unplaced is None else np.where((left == unplaced) | (right == unplaced), self.when_missing, truth)
        )


_COMPARE: dict[Op, Callable[[Values, Values], BoolArray]] = {
    "==": np.equal,
    "!=": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}


def _article(column: Column) -> str:
    return f"{'an' if column.type[0] in 'aeiou' else 'a'} {column.type}"


def _decimals(column: Column) -> int | None:
    return 0 if column.type == "integer" else column.decimals


# ---- what a formula says about cells -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Span:
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
    def of(cls, column: Column) -> _Span:
        bins, gap = column.binning, column.missing
        grid = bins.starts is not None
        low = bins.edges[:-1] if bins.starts is None else bins.starts[:-1]
        high = bins.edges[1:] if bins.starts is None else bins.starts[1:] - 1
        half_open = np.full(bins.size, not grid)
        half_open[-1] = False
        missing = np.arange(column.size) == bins.size
        pad = [0.0] * gap
        return cls(
            np.append(low, pad) * 1.0,
            np.append(high, pad) * 1.0,
            np.append(half_open, np.zeros(int(gap), bool)),
            missing,
        )

    def shaped(self, shape: Sequence[int]) -> _Span:
        low, high = self.low.reshape(shape), self.high.reshape(shape)
        return _Span(low, high, self.open.reshape(shape), self.missing.reshape(shape))

    def at(self, cells: Values) -> _Span:
        return _Span(self.low[cells], self.high[cells], self.open[cells], self.missing[cells])


_ORIGIN = _Span(np.zeros(1), np.zeros(1), np.zeros(1, bool), np.zeros(1, bool))
Spans: TypeAlias = Mapping[int, _Span]


def _bound_on(bound: _Bound, spans: Spans) -> tuple[BoolArray, BoolArray]:
    """Where a bound is possible, and where certain; the spans broadcast against each other."""
    left = _ORIGIN if bound.left is None else spans[bound.left]
    right = _ORIGIN if bound.right is None else spans[bound.right]
    missing = left.missing | right.missing
    least, most = right.high + bound.limit, right.low + bound.limit
    possible = (left.low < least) | ((left.low == least) & ~right.open & (not bound.strict))
    certain = (left.high < most) | ((left.high == most) & (left.open | (not bound.strict)))
    return np.where(missing, bound.when_missing, possible), np.where(missing, bound.when_missing, certain)


def _on_cells(formula: _Formula, columns: Columns, sizes: Sequence[int], spans: Spans) -> tuple[BoolArray, BoolArray]:
    """Masks over the cells of `columns` that bracket the truth: what is not possible, and what is certain, is so."""
    if isinstance(formula, _InCells):
        shape = [size if column in formula.columns else 1 for column, size in zip(columns, sizes, strict=True)]
        truth = formula.truth.reshape(shape)
        return truth, truth
    if isinstance(formula, _Bound):
        return _bound_on(formula, spans)
    join = np.logical_and if isinstance(formula, _All) else np.logical_or
    both = [_on_cells(part, columns, sizes, spans) for part in formula.parts]
    return reduce(join, [possible for possible, _ in both]), reduce(join, [certain for _, certain in both])


def _masks(formula: _Formula, columns: Columns, table: tuple[Column, ...]) -> tuple[BoolArray, BoolArray]:
    """Exact masks (possible, certain) over the cells of `columns`, which are all that the formula uses.

    Raises:
        UsageError: there are too many cells or alternatives.
    """
    sizes = [table[column].size for column in columns]
    if math.prod(sizes) > MAX_MASK:
        names = ", ".join(quoted(table[column].name) for column in columns)
        raise UsageError(f"{names} have {math.prod(sizes)} combinations of cells, more than {MAX_MASK}: use wider bins")
    flat = {column: _Span.of(table[column]) for column in columns if table[column].is_numeric}
    laid = {}
    for axis, column in enumerate(columns):
        if column in flat:
            shape = [-1 if other == axis else 1 for other in range(len(columns))]
            laid[column] = flat[column].shaped(shape)
    possible, certain = (np.broadcast_to(mask, sizes).copy() for mask in _on_cells(formula, columns, sizes, laid))
    if len(_bounds(formula)) > 1:  # a single bound is decided by its ends; several may exclude each other
        for mask, claim, open_value in ((possible, formula, True), (certain, _opposite(formula), False)):
            undecided = np.argwhere(possible & ~certain)
            for start in range(0, len(undecided), _CHUNK):
                cells = undecided[start : start + _CHUNK].astype(np.int32)
                where = tuple(cells.T)
                codes = {column: cells[:, axis] for axis, column in enumerate(columns)}
                mask[where] = _satisfiable(claim, codes, flat) == open_value
    return possible, certain


def _satisfiable(formula: _Formula, codes: Mapping[int, Values], spans: Spans) -> BoolArray:
    """Whether some values in each combination of cells keep the formula; one flag a combination."""
    found = np.zeros(len(next(iter(codes.values()))), dtype=bool)
    for leaves in _alternatives(formula):
        left = np.flatnonzero(~found)
        if len(left):
            chosen = {column: cells[left] for column, cells in codes.items()}
            found[left] = _Box.of(leaves, chosen, spans).feasible
    return found


@dataclass(frozen=True, eq=False)
class _Box:
    """Bounds on all differences of some numbers, closed under addition, for many combinations of cells at once.

    Args:
        columns: The numeric columns; number 0 is the origin, column i of these is number i + 1.
        limit, strict: v[i] - v[j] <= limit[i, j], or < where strict; shape (numbers, numbers, combinations).
        feasible: Whether any values keep all of it; shape (combinations,).
    """

    columns: Columns
    limit: FloatArray
    strict: BoolArray
    feasible: BoolArray

    @classmethod
    def of(cls, leaves: Iterable[_InCells | _Bound], codes: Mapping[int, Values], spans: Spans) -> _Box:
        count = len(next(iter(codes.values())))
        leaves = list(leaves)
        columns = tuple(sorted({c for leaf in leaves if isinstance(leaf, _Bound) for c in leaf.columns}))
        number = {column: i + 1 for i, column in enumerate(columns)}
        limit = np.full((len(columns) + 1, len(columns) + 1, count), np.inf)
        strict = np.zeros(limit.shape, dtype=bool)
        feasible = np.ones(count, dtype=bool)
        here = {column: spans[column].at(codes[column]) for column in columns}

        def tighten(i: int, j: int, value: Values, is_strict: Values) -> None:
            better = (value < limit[i, j]) | ((value == limit[i, j]) & is_strict & ~strict[i, j])
            limit[i, j] = np.where(better, value, limit[i, j])
            strict[i, j] = np.where(better, is_strict, strict[i, j])

        for i in range(len(columns) + 1):
            limit[i, i] = 0
        for column, i in number.items():
            span = here[column]
            tighten(i, 0, np.where(span.missing, np.inf, span.high), span.open)
            tighten(0, i, np.where(span.missing, np.inf, -span.low), np.zeros(count, bool))
        for leaf in leaves:
            if isinstance(leaf, _InCells):
                feasible &= leaf.truth[tuple(codes[column] for column in leaf.columns)]
                continue
            missing = np.logical_or.reduce([here[column].missing for column in leaf.columns])
            feasible &= ~missing | leaf.when_missing
            i = 0 if leaf.left is None else number[leaf.left]
            j = 0 if leaf.right is None else number[leaf.right]
            tighten(i, j, np.where(missing, np.inf, leaf.limit), np.full(count, leaf.strict))
        numbers = range(len(columns) + 1)
        for k in numbers:  # Floyd and Warshall
            for i in numbers:
                for j in numbers:
                    tighten(i, j, limit[i, k] + limit[k, j], strict[i, k] | strict[k, j])
        for i in numbers:
            feasible &= (limit[i, i] > 0) | ((limit[i, i] == 0) & ~strict[i, i])
        return cls(columns, limit, strict, feasible)

    def draw(self, grids: Sequence[bool], *, rng: np.random.Generator) -> list[FloatArray]:
        """Values that keep the bounds, column by column, each uniform over what the ones before leave it.

        Args:
            grids: For each column, whether its values are grid steps.
        """
        gone = np.isinf(self.limit[1:, 0])  # missing: no bound ties it to anything
        high, low = np.where(gone, 0, self.limit[1:, 0]), np.where(gone, 0, -self.limit[0, 1:])
        high_open, low_open = self.strict[1:, 0].copy(), self.strict[0, 1:].copy()
        out: list[FloatArray] = []
        for i, grid in enumerate(grids):
            share = rng.random(len(self.feasible))
            if grid:
                value = np.minimum(low[i] + np.floor(share * (high[i] - low[i] + 1)), high[i])
            else:
                value = low[i] * (1 - share) + high[i] * share
                value = np.minimum(value, np.where(high_open[i], np.nextafter(high[i], -np.inf), high[i]))
                value = np.maximum(value, np.where(low_open[i], np.nextafter(low[i], np.inf), low[i]))
            out.append(value)
            for j in range(i + 1, len(grids)):
                above, its_strict = value + self.limit[j + 1, i + 1], self.strict[j + 1, i + 1]
                high_open[j] = np.where(above < high[j], its_strict, high_open[j] | (its_strict & (above == high[j])))
                high[j] = np.minimum(high[j], above)
                below, its_strict = value - self.limit[i + 1, j + 1], self.strict[i + 1, j + 1]
                low_open[j] = np.where(below > low[j], its_strict, low_open[j] | (its_strict & (below == low[j])))
                low[j] = np.maximum(low[j], below)
        return out


# ---- what a formula says about values ------------------------------------------------------------------------------


def _steps(column: Column, values: Values) -> Values:
    """Values in the units of bounds: grid steps where there is a grid; codes stay codes."""
    decimals = _decimals(column)
    if not column.is_numeric or decimals is None:
        return values
    return np.rint(values * 10.0**decimals) if decimals else values


def _unsteps(column: Column, steps: FloatArray) -> FloatArray:
    return steps / 10.0 ** (_decimals(column) or 0)


def _truth(formula: _Formula, values: Mapping[int, Values]) -> BoolArray:
    """Whether each row keeps the formula; `values` as `_steps` gives them."""
    if isinstance(formula, _InCells):
        index = [values[column] for column in formula.columns]
        cells = tuple(np.where(np.isnan(v), -1, 0) if v.dtype.kind == "f" else v for v in index)
        found: BoolArray = formula.truth[cells]
        return found
    if isinstance(formula, _Bound):
        zero = np.zeros(1)
        left = zero if formula.left is None else values[formula.left]
        right = (zero if formula.right is None else values[formula.right]) + formula.limit
        keeps: BoolArray = np.less(left, right) if formula.strict else np.less_equal(left, right)
        return keeps | np.isnan(left) | np.isnan(right) if formula.when_missing else keeps
    join = np.logical_and if isinstance(formula, _All) else np.logical_or
    return reduce(join, [_truth(part, values) for part in formula.parts], np.array(isinstance(formula, _All)))


@dataclass(frozen=True, eq=False)
class _Parts:
    """What of each cell of one numeric column keeps a formula: intervals, or points where no interval does.

    Args:
        low, high: Ends of each part, in grid steps (both included) or numbers (both left out, unless they are equal).
        ladder: Cumulative measure of the parts, cell by cell: values (grid) or length.
        measure, first: For each cell but the missing one, the measure of its parts, and that of all cells before.
        is_points: Whether a cell keeps single points only, so that its measure counts points.
    """

    low: FloatArray
    high: FloatArray
    ladder: FloatArray
    measure: FloatArray
    first: FloatArray
    is_points: BoolArray

    @classmethod
    def of(cls, index: int, column: Column, formula: _Formula) -> _Parts:
        bins = column.binning
        bounds = _bounds(formula)
        low: FloatArray
        cell: npt.NDArray[np.int64]
        upper = np.array([bound.limit for bound in bounds if bound.left is not None])
        lower = np.array([-bound.limit for bound in bounds if bound.left is None])
        if bins.starts is not None:
            cuts = np.concatenate([upper + 1, lower])
            cuts = cuts[(cuts > bins.starts[0]) & (cuts < bins.starts[-1])]
            low = np.unique(np.concatenate([bins.starts[:-1], cuts])).astype(np.float64)
            high = np.append(low[1:], bins.starts[-1]) - 1
            weight = high - low + 1
            cell = np.searchsorted(bins.starts[1:], low, side="right")
            keep = _truth(formula, {index: low})
        else:
            cuts = np.concatenate([upper, lower])
            cuts = cuts[(cuts > bins.edges[0]) & (cuts < bins.edges[-1])]
            points = np.unique(np.concatenate([bins.edges, cuts]))
            low, high = np.concatenate([points[:-1], points]), np.concatenate([points[1:], points])
            weight = high - low
            cell = bins.encode(low).astype(np.int64)
            keep = _truth(formula, {index: low / 2 + high / 2})
        keep = np.broadcast_to(keep, low.shape)
        has_length = np.bincount(cell[keep & (weight > 0)], minlength=bins.size) > 0
        keep = keep & ((weight > 0) | ~has_length[cell])
        order = np.flatnonzero(keep)[np.argsort(cell[keep], kind="stable")]
        low, high, cell, weight = low[order], high[order], cell[order], weight[order]
        weight = np.where(has_length[cell], weight, 1.0)
        measure = np.bincount(cell, weights=weight, minlength=bins.size).astype(np.float64, copy=False)
        ladder = np.cumsum(weight)
        return cls(low, high, ladder, measure, np.cumsum(measure) - measure, ~has_length)

    def share_of(self, whole: _Parts) -> FloatArray:
        """The share of `whole` that is kept, in each cell."""
        same_kind = np.where(self.is_points & ~whole.is_points, 0.0, self.measure)
        return np.divide(same_kind, whole.measure, out=np.zeros_like(same_kind), where=whole.measure > 0)

    def draw(self, column: Column, codes: Codes, *, rng: np.random.Generator) -> FloatArray:
        """A value of each cell, uniform over its parts; where it has none, over all of it."""
        values = column.binning.decode(codes, rng=rng)
        rows = np.flatnonzero(np.append(self.measure, np.zeros(1))[np.minimum(codes, len(self.measure))] > 0)
        if not len(rows):
            return values
        cell = codes[rows]
        place = self.first[cell] + rng.random(len(rows)) * self.measure[cell]
        part = np.minimum(np.searchsorted(self.ladder, place, side="right"), len(self.low) - 1)
        low, high, share = self.low[part], self.high[part], rng.random(len(rows))
        if column.binning.starts is not None:
            drawn = np.minimum(low + np.floor(share * (high - low + 1)), high)
        else:
            inner = low * (1 - share) + high * share
            drawn = np.where(low == high, low, np.clip(inner, np.nextafter(low, high), np.nextafter(high, low)))
        values[rows] = _unsteps(column, drawn)
        return values


# ---- rules ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rule:
    """One formula and what it says about cells: masks over the cells of its columns."""

    name: str
    formula: _Formula
    columns: Columns
    possible: BoolArray
    certain: BoolArray

    @classmethod
    def of(cls, name: str, formula: _Formula, table: tuple[Column, ...]) -> _Rule:
        columns = _columns(formula)
        return cls(name, formula, columns, *_masks(formula, columns, table))

    @cached_property
    def is_partial(self) -> bool:
        """Whether some cells hold both values that keep it and values that break it."""
        return bool(np.any(self.possible & ~self.certain))


@dataclass(frozen=True, eq=False)
class _Knot:
    """Rules that share numeric columns inside cells, so that their values have to be drawn together."""

    rules: tuple[_Rule, ...]
    columns: Columns

    @cached_property
    def alternatives(self) -> list[tuple[_InCells | _Bound, ...]]:
        return _alternatives(_All(tuple(rule.formula for rule in self.rules)))


@dataclass(frozen=True, eq=False)
class Given:
    """A condition on rows, in the form that a model and a sampler need.

    Args:
        weights: Over the cells of few columns each, the chance that values of the cell meet the condition; where
            columns are tied to each other inside cells, whether they can.
        rules: What values have to keep in the end.
        proposal: What values keep when rows are proposed by `weights`.
        rest: What proposed rows have to keep beside, each by itself; None when the weights say it all.
    """

    weights: list[tuple[Columns, FloatArray]]
    rules: Rules
    proposal: Rules
    rest: Rules | None


@dataclass(frozen=True, eq=False)
class Rules:
    """What rows have to keep: rules of a schema, conditions, or both.

    Args:
        table: The modelled columns.
        rules: All of which have to hold.
    """

    table: tuple[Column, ...]
    rules: tuple[_Rule, ...]

    @classmethod
    def of(cls, schema: Schema) -> Rules:
        """The constraints of a schema without blanks in the columns they use.

        Raises:
            SchemaError: one is misspelled, says something that no row can keep, or needs too many cells.
        """
        found: list[tuple[str, _Formula]] = []
        rules: list[_Rule] = []
        for number, constraint in enumerate(schema.constraints, start=1):
            name = f"constraint {number}"
            try:
                found += [(name, f) for f in _conjuncts(constraint.expression, schema, when_missing=True)]
            except UsageError as error:
                raise SchemaError(f"{name}: {error}") from None
        for name, formula in _joined(found):
            try:
                rules.append(_Rule.of(name, formula, schema.modelled))
            except UsageError as error:
                raise SchemaError(f"{name}: {error}") from None
        made = cls(schema.modelled, tuple(rules))
        made._require_possible()
        return made

    def given(self, text: str, schema: Schema) -> Given:
        """These rules and a condition.

        Raises:
            UsageError: the condition is misspelled or needs too many cells.
        """
        formulas = _conjuncts(parse(text), schema, when_missing=False)
        joined = _joined(("the condition", formula) for formula in formulas)
        asked = tuple(_Rule.of(name, formula, self.table) for name, formula in joined)
        both = Rules(self.table, self.rules + asked)
        tied = {column for knot in both._knots for column in knot.columns}
        rest = tuple(rule for rule in asked if rule.is_partial and tied & set(rule.columns))
        proposal = Rules(self.table, tuple(rule for rule in both.rules if rule not in rest))
        weights = [
            (rule.columns, rule.possible.astype(np.float64) if rule in rest else both._weight(rule, self))
            for rule in asked
        ]
        return Given(weights, both, proposal, Rules(self.table, rest) if rest else None)

    def holds(self, columns: Mapping[str, Values]) -> BoolArray:
        """Which rows keep all of it.

        Args:
            columns: The columns of `table.Records`.
        """
        count = len(next(iter(columns.values()), ()))
        values = {i: _steps(column, columns[column.name]) for i, column in enumerate(self.table)}
        return _keeps(self.rules, values, count)

    @cached_property
    def masks(self) -> list[tuple[Columns, BoolArray]]:
        """Which cells are possible: a mask for each set of columns that rules tie to each other.

        Where several rules meet inside cells, their masks are those of all together.
        """
        masks: dict[Columns, BoolArray] = {}

        def add(columns: Columns, mask: BoolArray) -> None:
            masks[columns] = masks[columns] & mask if columns in masks else mask

        for rule in self.rules:
            add(rule.columns, rule.possible)
        for knot in self._knots:
            columns = tuple(sorted({column for rule in knot.rules for column in rule.columns}))
            if len(knot.rules) == 1:
                continue
            names = " and ".join(dict.fromkeys(rule.name for rule in knot.rules))
            try:
                joint, _ = _masks(_All(tuple(rule.formula for rule in knot.rules)), columns, self.table)
            except UsageError as error:
                raise SchemaError(f"{names} together: {error}") from None
            apart = np.ones(joint.shape, dtype=bool)
            for rule in knot.rules:
                shape = [size if c in rule.columns else 1 for c, size in zip(columns, joint.shape, strict=True)]
                apart &= rule.possible.reshape(shape)
            if not np.array_equal(joint, apart):
                add(columns, joint)
        return list(masks.items())

    def values(self, codes: Codes, *, rng: np.random.Generator) -> dict[str, Values]:
        """A value for every cell, which keeps the rules wherever its row's cells can; numbers uniform over what they may be.

        Args:
            codes: Shape (rows, columns).
        Returns:
            The columns of `table.Records`.
        """
        drawn = {i: self._draw(i, codes[:, i], rng=rng) for i in range(len(self.table))}
        for knot in self._knots:
            self._settle(drawn, codes, knot, rng=rng)
        return {column.name: drawn[i] for i, column in enumerate(self.table)}

    @cached_property
    def _knots(self) -> list[_Knot]:
        """Partial rules over several columns, with the partial rules over one column that meet them."""
        partial = [rule for rule in self.rules if rule.is_partial]
        knots: list[set[int]] = []
        numeric = [{column for bound in _bounds(rule.formula) for column in bound.columns} for rule in partial]
        for rule, columns in zip(partial, numeric, strict=True):
            if len(rule.columns) > 1:
                met = [knot for knot in knots if knot & columns]
                knots = [knot for knot in knots if not knot & columns] + [set(columns).union(*met)]
        return [
            _Knot(
                tuple(rule for rule, columns in zip(partial, numeric, strict=True) if columns & knot),
                tuple(sorted(knot)),
            )
            for knot in knots
        ]

    @cached_property
    def _parts(self) -> dict[int, _Parts]:
        """For each numeric column that a rule on it alone splits inside cells, what is left of each cell."""
        alone: dict[int, list[_Formula]] = {}
        for rule in self.rules:
            if len(rule.columns) == 1 and rule.is_partial:
                alone.setdefault(rule.columns[0], []).append(rule.formula)
        return {i: _Parts.of(i, self.table[i], _All(tuple(formulas))) for i, formulas in alone.items()}

    def _weight(self, rule: _Rule, before: Rules) -> FloatArray:
        """The chance that values which keep the rules `before` keep a rule, in each cell of its columns."""
        if len(rule.columns) > 1 or not rule.is_partial:
            return rule.possible.astype(np.float64)
        index = rule.columns[0]
        column = self.table[index]
        whole = before._parts.get(index) or _Parts.of(index, column, _All(()))
        share = self._parts[index].share_of(whole)
        return np.append(share, rule.certain[len(share) :])

    def _draw(self, index: int, codes: Codes, *, rng: np.random.Generator) -> Values:
        column = self.table[index]
        if not column.is_numeric:
            return codes.copy()
        parts = self._parts.get(index)
        return column.binning.decode(codes, rng=rng) if parts is None else parts.draw(column, codes, rng=rng)

    def _settle(self, drawn: dict[int, Values], codes: Codes, knot: _Knot, *, rng: np.random.Generator) -> None:
        """Draws the values of a knot again in rows that break it and can keep it."""
        used = sorted({column for rule in knot.rules for column in rule.columns})
        rows = np.flatnonzero(~_keeps(knot.rules, {i: _steps(self.table[i], drawn[i]) for i in used}, len(codes)))
        can = np.ones(len(rows), dtype=bool)
        for rule in knot.rules:
            can &= rule.possible[tuple(codes[rows, column] for column in rule.columns)]
        rows = rows[can]
        for _ in range(_ROUNDS):
            if not len(rows):
                return
            values = {i: drawn[i][rows] for i in used}
            values |= {i: self._draw(i, codes[rows, i], rng=rng) for i in knot.columns}
            keeps = _keeps(knot.rules, {i: _steps(self.table[i], v) for i, v in values.items()}, len(rows))
            for i in knot.columns:
                drawn[i][rows[keeps]] = values[i][keeps]
            rows = rows[~keeps]
        spans = {i: _Span.of(self.table[i]) for i in knot.columns}
        for leaves in knot.alternatives * _TRIES:
            if not len(rows):
                return
            box = _Box.of(leaves, {i: codes[rows, i] for i in used}, spans)
            values = {i: drawn[i][rows] for i in used}
            grids = [_decimals(self.table[i]) is not None for i in box.columns]
            for i, steps in zip(box.columns, box.draw(grids, rng=rng), strict=True):
                values[i] = np.where(np.isnan(values[i]), np.nan, _unsteps(self.table[i], steps))
            keeps = box.feasible & _keeps(
                knot.rules, {i: _steps(self.table[i], v) for i, v in values.items()}, len(rows)
            )
            for i in box.columns:
                drawn[i][rows[keeps]] = values[i][keeps]
            rows = rows[~keeps]

    def _require_possible(self) -> None:
        """Refuses rules that no row can keep, as far as looking at pairs of a rule and a column shows it."""
        allowed = [np.ones(column.size, dtype=bool) for column in self.table]
        changed = True
        while changed:
            changed = False
            for columns, mask in self.masks:
                left = mask.copy()
                for axis, column in enumerate(columns):
                    left &= allowed[column].reshape([-1 if other == axis else 1 for other in range(len(columns))])
                for axis, column in enumerate(columns):
                    kept = left.any(axis=tuple(other for other in range(len(columns)) if other != axis))
                    changed |= bool(np.any(allowed[column] & ~kept))
                    allowed[column] = allowed[column] & kept
                if not left.any():
                    guilty = dict.fromkeys(rule.name for rule in self.rules if set(rule.columns) & set(columns))
                    raise SchemaError(f"no row can keep {' and '.join(guilty)}: take back what contradicts the rest")


def _conjuncts(expression: Expression, schema: Schema, *, when_missing: bool) -> list[_Formula]:
    """The formulas of the parts of an expression that are joined by "and"."""
    if isinstance(expression, And):
        return [f for part in expression.parts for f in _conjuncts(part, schema, when_missing=when_missing)]
    binder = _Binder(schema.modelled, frozenset(column.name for column in schema.dropped), when_missing)
    return [binder.formula(expression)]


def _joined(found: Iterable[tuple[str, _Formula]]) -> list[tuple[str, _Formula]]:
    """Formulas by name, those over one column made one a column: apart, each might leave a cell what another takes."""
    single: dict[Columns, list[tuple[str, _Formula]]] = {}
    several: list[tuple[str, _Formula]] = []
    for name, formula in found:
        columns = _columns(formula)
        if len(columns) == 1:
            single.setdefault(columns, []).append((name, formula))
        else:
            several.append((name, formula))
    return [
        (" and ".join(dict.fromkeys(name for name, _ in parts)), _All(tuple(formula for _, formula in parts)))
        for parts in single.values()
    ] + several


def _keeps(rules: Iterable[_Rule], values: Mapping[int, Values], count: int) -> BoolArray:
    return reduce(np.logical_and, [_truth(rule.formula, values) for rule in rules], np.ones(count, dtype=bool))
