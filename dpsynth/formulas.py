"""Formulas: expressions over the cells and values of a schema's columns.

"not" is pushed down to the claims, so that a formula is built of "all" and "any" over two kinds of leaves: what the
cells decide, and bounds on a number or on a sum of several. Numbers on a grid (integers, declared decimals) are counted in
grid steps, in which every bound is a whole number and none is strict. Continuous sums are floats, added in the order in
which the rule is written: what `total == a + b` says about floats is what a reader of the file computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

from dpsynth.errors import UsageError
from dpsynth.expressions import (
    FLIPPED,
    MAX_TERMS,
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
    refuse,
    shown,
)
from dpsynth.schema import Column
from dpsynth.schema.quoting import quoted
from dpsynth.schema.vocabulary import OTHER

if TYPE_CHECKING:
    from dpsynth.schema import Schema

BoolArray: TypeAlias = npt.NDArray[np.bool_]
FloatArray: TypeAlias = npt.NDArray[np.float64]
Values: TypeAlias = npt.NDArray[Any]
Columns: TypeAlias = tuple[int, ...]
Terms: TypeAlias = tuple[tuple[int, int], ...]

MAX_ALTERNATIVES = 4096  # ways to keep a rule, written as "or" of "and"
_LARGEST_SUM = 2**50  # grid steps: sums of such sums are exact in float64


@dataclass(frozen=True, eq=False)
class InCells:
    """What cells alone decide; truth has the sizes of the columns as its shape."""

    columns: Columns
    truth: BoolArray


@dataclass(frozen=True)
class Bound:
    """left <= right + limit, or < where `strict`. Missing counts as `when_missing`.

    Args:
        left, right: Sums: sign (1 or -1) and column, in the order written; no column comes twice. Empty sums are 0.
    """

    left: Terms
    right: Terms
    limit: float
    strict: bool
    grid: bool
    when_missing: bool

    @property
    def columns(self) -> Columns:
        return tuple(sorted(column for _, column in self.left + self.right))

    @property
    def mirrored(self) -> Bound:
        """The bound that makes an equality of this one, if it is not strict."""
        return Bound(self.right, self.left, -self.limit, self.strict, self.grid, self.when_missing)


@dataclass(frozen=True, eq=False)
class AllOf:
    """All parts hold."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, eq=False)
class AnyOf:
    """At least one part holds."""

    parts: tuple[Formula, ...]


Formula: TypeAlias = InCells | Bound | AllOf | AnyOf


def columns_of(formula: Formula) -> Columns:
    """The columns that a formula speaks of, in order."""
    if isinstance(formula, InCells | Bound):
        return formula.columns
    return tuple(sorted({column for part in formula.parts for column in columns_of(part)}))


def bounds_of(formula: Formula) -> list[Bound]:
    """The bounds that a formula is built of."""
    if isinstance(formula, AllOf | AnyOf):
        return [bound for part in formula.parts for bound in bounds_of(part)]
    return [formula] if isinstance(formula, Bound) else []


def opposite(formula: Formula) -> Formula:
    """What holds where the formula does not."""
    if isinstance(formula, AllOf):
        return AnyOf(tuple(map(opposite, formula.parts)))
    if isinstance(formula, AnyOf):
        return AllOf(tuple(map(opposite, formula.parts)))
    if isinstance(formula, InCells):
        return InCells(formula.columns, ~formula.truth)
    limit = -formula.limit - formula.grid
    strict = not formula.grid and not formula.strict
    return Bound(formula.right, formula.left, limit, strict, formula.grid, not formula.when_missing)


def alternatives(formula: Formula) -> list[tuple[InCells | Bound, ...]]:
    """Conjunctions of leaves of which at least one has to hold.

    Raises:
        UsageError: there are too many.
    """
    if isinstance(formula, InCells | Bound):
        return [(formula,)]
    parts = [alternatives(part) for part in formula.parts]
    count = math.prod(map(len, parts)) if isinstance(formula, AllOf) else sum(map(len, parts))
    if count > MAX_ALTERNATIVES:
        raise UsageError(f"it can be kept in more than {MAX_ALTERNATIVES} ways: split it or shorten its lists")
    if isinstance(formula, AnyOf):
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

    def formula(self, expression: Expression, *, negate: bool = False) -> Formula:
        if isinstance(expression, Not):
            return self.formula(expression.part, negate=not negate)
        if isinstance(expression, And | Or):
            parts = tuple(self.formula(part, negate=negate) for part in expression.parts)
            return AllOf(parts) if isinstance(expression, And) != negate else AnyOf(parts)
        if isinstance(expression, Comparison):
            op = OPPOSITE[expression.op] if negate else expression.op
            return self._comparison(expression.left, op, expression.right, expression.at)
        if isinstance(expression, Membership):
            op = "!=" if expression.negated != negate else "=="
            sides = [
                self._comparison(Place(expression.column), op, value, expression.at) for value in expression.values
            ]
            if all(isinstance(side, InCells) for side in sides):
                join = np.logical_and if op == "!=" else np.logical_or
                truths = [side.truth for side in sides if isinstance(side, InCells)]
                return InCells(columns_of(sides[0]), reduce(join, truths))
            return AllOf(tuple(sides)) if op == "!=" else AnyOf(tuple(sides))
        index = self._index(expression.column, expression.at)
        truth = np.zeros(self.columns[index].size, dtype=bool)
        if self.columns[index].missing:
            truth[-1] = True
        return InCells((index,), ~truth if expression.negated != negate else truth)

    def _index(self, name: str, at: int) -> int:
        if name in self.dropped:
            refuse(name, at, " is a column that synthetic rows do not have")
        for index, column in enumerate(self.columns):
            if column.name == name:
                return index
        refuse(name, at, " is not a declared column: put texts in quotes")

    def _comparison(self, left: Place, op: Op, right: Place | Value, at: int) -> Formula:
        if left.more or (isinstance(right, Place) and right.more):
            return self._numbers(left, op, right, at)
        index = self._index(left.column, at)
        column = self.columns[index]
        if isinstance(right, Place):
            other = self._index(right.column, at)
            if column.is_numeric and self.columns[other].is_numeric:
                return self._numbers(left, op, right, at)
            if left.plus or right.plus:
                refuse(left.column, at, ": a number can be added to a numeric column only")
            return self._cells_of_two(index, other, op, at)
        if column.is_numeric:
            return self._numbers(left, op, right, at)
        if left.plus:
            refuse(left.column, at, ": a number can be added to a numeric column only")
        return self._cells_of_one(index, op, right, at)

    def _sum(self, side: Place | Value, first: Column, at: int) -> tuple[Terms, Fraction]:
        """A side of a comparison of numbers: its columns, which count in the steps of the first one, and its number."""
        if not isinstance(side, Place):
            return (), _number(first, side, at)
        terms = tuple((sign, self._index(name, at)) for sign, name in side.terms)
        for _, index in terms:
            column = self.columns[index]
            if not column.is_numeric:
                refuse(column.name, at, f" is {_article(column)}: only numbers can be added")
            if not _share_steps(first, column):
                refuse(first.name, at, f" and {quoted(column.name)} need the same type and decimals to compare")
        return terms, side.plus

    def _check_times(self, terms: Terms, others: Terms, right: Place | Value, at: int) -> None:
        """Refuses sums of dates or times that are neither a time, compared with one, nor how long it is between two."""
        times = [sign for sign, index in terms if self.columns[index].is_time]
        times += [-sign for sign, index in others if self.columns[index].is_time]
        wanted = int(isinstance(right, str))
        if not times or sum(times) == wanted:
            return
        column = next(self.columns[index] for _, index in terms + others if self.columns[index].is_time)
        if len(terms) == 1 and not isinstance(right, Place):
            _refuse_value(column, right, at)
        refuse(column.name, at, f" is {_article(column)}: add days or seconds to it, or subtract another {column.type}")

    def _numbers(self, left: Place, op: Op, right: Place | Value, at: int) -> Formula:
        """left op right, as bounds."""
        first = self.columns[self._index(left.column, at)]
        (terms, plus), (others, other_plus) = self._sum(left, first, at), self._sum(right, first, at)
        self._check_times(terms, others, right, at)
        value = other_plus - plus
        columns = [index for _, index in terms + others]
        for index in columns:
            if columns.count(index) > 1:
                alone = len(terms) == len(others) == 1
                why = " is compared with itself" if alone else " comes twice in one comparison"
                refuse(self.columns[index].name, at, why)
        if len(columns) > MAX_TERMS:
            refuse(first.name, at, f" is compared in a sum of more than {MAX_TERMS} columns")
        decimals = first.grid
        grid = decimals is not None
        if not grid and op in ("==", "!="):
            if others and value:
                refuse(first.name, at, ": equality with an added number needs integers or declared decimals")
            if min(len(terms), len(others)) != 1 and len(columns) > 1:
                refuse(first.name, at, ": equality of sums needs one column alone on one side, or declared decimals")
        if grid and len(columns) > 2:
            ends = [self.columns[index].binning.edges[[0, -1]] for index in columns]
            if sum(float(np.abs(end).max()) for end in ends) + abs(value) > _LARGEST_SUM / 10 ** (decimals or 0):
                refuse(first.name, at, " is part of a sum that is too large to add exactly: use fewer decimals")
        exact_limit = value * 10 ** (decimals or 0)

        def at_most(strict: bool) -> Bound:
            limit = float(math.ceil(exact_limit) - 1 if strict else math.floor(exact_limit)) if grid else float(value)
            return Bound(terms, others, limit, strict and not grid, grid, self.when_missing)

        def at_least(strict: bool) -> Bound:
            limit = (
                float(-math.floor(exact_limit) - 1 if strict else -math.ceil(exact_limit)) if grid else -float(value)
            )
            return Bound(others, terms, limit, strict and not grid, grid, self.when_missing)

        if op == "==":
            return AllOf((at_most(False), at_least(False)))
        if op == "!=":
            return AnyOf((at_most(True), at_least(True)))
        return at_most(op == "<") if op in ("<", "<=") else at_least(op == ">")

    def _cells_of_one(self, index: int, op: Op, value: Value, at: int) -> Formula:
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
        return InCells((index,), np.append(truth, np.full(int(column.missing), self.when_missing)))

    def _cells_of_two(self, left: int, right: int, op: Op, at: int) -> Formula:
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
        return InCells((left, right), whole)

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


def conjuncts(expression: Expression, schema: Schema, *, when_missing: bool) -> list[Formula]:
    """The formulas of the parts of an expression that are joined by "and".

    Args:
        when_missing: What a comparison with a missing value counts as: True for a rule, False for a condition.
    Raises:
        UsageError: the expression does not fit the columns.
    """
    if isinstance(expression, And):
        return [f for part in expression.parts for f in conjuncts(part, schema, when_missing=when_missing)]
    binder = _Binder(schema.modelled, frozenset(column.name for column in schema.dropped), when_missing)
    return [binder.formula(expression)]


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


def _number(column: Column, value: Value, at: int) -> Fraction:
    """What a numeric column is compared with; of dates and times, their number."""
    if column.is_time and isinstance(value, str):
        try:
            return column.clock.number(value)
        except ValueError:
            refuse(value, at, " is no date or time in ISO 8601, such as '2020-01-31' or '2020-01-31T12:00:00'")
    if isinstance(value, Fraction):
        return value
    _refuse_value(column, value, at)


def _refuse_value(column: Column, value: Value, at: int) -> NoReturn:
    wanted = "ISO 8601 texts in quotes" if column.is_time else "numbers"
    refuse(column.name, at, f" is {_article(column)} and compares with {wanted}, not with {shown(value)}")


def _share_steps(one: Column, other: Column) -> bool:
    """Whether numbers of two columns count the same; whole numbers count how long it is between dates or times."""
    if one.is_time and other.is_time:
        return one.type == other.type and one.clock.unit == other.clock.unit
    if one.is_time or other.is_time:
        return "integer" in (one.type, other.type)
    return one.grid == other.grid


# ---- what a formula says about values ------------------------------------------------------------------------------


def in_steps(column: Column, values: Values) -> Values:
    """Values in the units of bounds: grid steps where there is a grid; codes stay codes."""
    decimals = column.grid
    if not column.is_numeric or decimals is None:
        return values
    return np.rint(values * 10.0**decimals) if decimals else values


def from_steps(column: Column, steps: FloatArray) -> FloatArray:
    """Values from the units of bounds."""
    return steps / 10.0 ** (column.grid or 0)


def sum_of(terms: Terms, values: Mapping[int, Values]) -> FloatArray:
    """A sum for each row, added in the order written; `values` as `in_steps` gives them."""
    total: FloatArray = np.zeros(1)
    for sign, column in terms:
        total = total + values[column] if sign > 0 else total - values[column]
    return total


def truth_of(formula: Formula, values: Mapping[int, Values]) -> BoolArray:
    """Whether each row keeps the formula; `values` as `in_steps` gives them."""
    if isinstance(formula, InCells):
        index = [values[column] for column in formula.columns]
        cells = tuple(np.where(np.isnan(v), -1, 0) if v.dtype.kind == "f" else v for v in index)
        found: BoolArray = formula.truth[cells]
        return found
    if isinstance(formula, Bound):
        left, right = sum_of(formula.left, values), sum_of(formula.right, values) + formula.limit
        keeps: BoolArray = np.less(left, right) if formula.strict else np.less_equal(left, right)
        return keeps | np.isnan(left) | np.isnan(right) if formula.when_missing else keeps
    join = np.logical_and if isinstance(formula, AllOf) else np.logical_or
    return reduce(join, [truth_of(part, values) for part in formula.parts], np.array(isinstance(formula, AllOf)))
