"""Schemas with rules, drawn by hypothesis, and the slow and obvious reading of a rule that judges the fast one."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st

from dpsynth.expressions import And, Comparison, Expression, Gap, Membership, Not, Or, Place
from dpsynth.schema import Column, Schema
from dpsynth.table import Records, storage

COLUMNS = (
    Column(name="a", type="integer", minimum=0, maximum=5, edges=(0, 1, 4, 5), missing=True),
    Column(name="b", type="integer", minimum=0, maximum=5, bins=2),
    Column(name="c", type="integer", minimum=-1, maximum=3),
    Column(name="low cost", type="number", minimum=0, maximum=0.6, bins=2, decimals=1),
    Column(name="high cost", type="number", minimum=0.2, maximum=0.8, bins=3, decimals=1, missing=True),
    Column(name="town", type="category", values=("A", "B's", "C"), missing=True, unknown="other"),
    Column(name="born", type="category", values=("C", "A")),
    Column(name="in", type="ordinal", values=("lo", "mid", "hi"), unknown="other"),
    Column(name="out", type="ordinal", values=("lo", "mid", "hi"), missing=True),
    Column(name="ill", type="boolean", missing=True),
)
KIND = {
    "a": "i",
    "b": "i",
    "c": "i",
    "low cost": "d",
    "high cost": "d",
    "town": "c",
    "born": "c",
    "in": "o",
    "out": "o",
}
OPS = ("==", "!=", "<", "<=", ">", ">=")


def step_of(kind: str | None) -> st.SearchStrategy[Fraction]:
    return st.integers(-3, 8).map(lambda n: Fraction(n, 10 if kind == "d" else 2))


@st.composite
def claims(draw: st.DrawFn, columns: tuple[Column, ...]) -> Expression:
    column = draw(st.sampled_from(columns))
    kind = KIND.get(column.name)
    others = [other for other in columns if other.name != column.name and kind and KIND.get(other.name) == kind]
    numeric = ["sum"] * (2 * bool(others) * column.is_numeric)
    shape = draw(st.sampled_from(["value", "value", "members", "gap", *numeric, *["column"] * 3 * bool(others)]))
    if shape == "gap":
        return Gap(column.name, draw(st.booleans()))
    if shape == "sum":
        names = draw(st.permutations([column.name, *(other.name for other in others)]))
        more = [(draw(st.sampled_from((1, -1))), name) for name in names[1:]]
        here = draw(st.integers(0, len(more)))
        left = Place(names[0], draw(step_of(kind)), tuple(more[:here]))
        if here == len(more):
            return Comparison(left, draw(st.sampled_from(OPS)), draw(step_of(kind)))
        right = Place(more[here][1], draw(step_of(kind)), tuple(more[here + 1 :]))
        return Comparison(left, draw(st.sampled_from(OPS)), right)
    ops = st.sampled_from(OPS if column.type not in ("category", "boolean") else OPS[:2])
    step = step_of(kind)
    plus = Fraction(0)
    if column.is_numeric and draw(st.booleans()):
        plus = draw(step)
    if shape == "column":
        other = draw(st.sampled_from(others))
        shift = draw(step) if column.is_numeric and draw(st.booleans()) else Fraction(0)
        return Comparison(Place(column.name, plus), draw(ops), Place(other.name, shift))
    if column.is_numeric:
        values: st.SearchStrategy[Any] = step
    elif column.type == "boolean":
        values = st.booleans()
    else:
        values = st.sampled_from(column.labels)
    if shape == "members":
        return Membership(column.name, tuple(draw(st.lists(values, min_size=1, max_size=3))), draw(st.booleans()))
    return Comparison(Place(column.name, plus), draw(ops), draw(values))


@st.composite
def cases(draw: st.DrawFn, most: int = 3) -> tuple[Schema, Expression]:
    columns = tuple(draw(st.lists(st.sampled_from(COLUMNS), min_size=1, max_size=most, unique_by=lambda c: c.name)))
    leaf = claims(columns)
    expression = draw(
        st.recursive(
            leaf,
            lambda parts: st.one_of(
                parts.map(Not),
                st.lists(parts, min_size=2, max_size=3).map(lambda p: And(tuple(p))),
                st.lists(parts, min_size=2, max_size=3).map(lambda p: Or(tuple(p))),
            ),
            max_leaves=5,
        )
    )
    return Schema(table="t", columns=columns, basis="test"), expression


@st.composite
def several(draw: st.DrawFn) -> tuple[Schema, list[Expression]]:
    """Columns, and rules that often meet inside their bins."""
    pool = [column for column in COLUMNS if KIND.get(column.name) in ("i", "d")] + [COLUMNS[5], COLUMNS[9]]
    columns = tuple(draw(st.lists(st.sampled_from(pool), min_size=2, max_size=3, unique_by=lambda c: c.name)))
    rules = draw(st.lists(claims(columns), min_size=1, max_size=4))
    return Schema(table="t", columns=columns, basis="test"), rules


# ---- the slow and obvious reading ----------------------------------------------------------------------------------


def slowly(expression: Expression, row: Mapping[str, Any], schema: Schema) -> bool | None:
    """True, false, or None for unknown, as SQL has it; numbers in the row are fractions, missing is None."""
    if isinstance(expression, Not):
        found = slowly(expression.part, row, schema)
        return None if found is None else not found
    if isinstance(expression, And | Or):
        parts = [slowly(part, row, schema) for part in expression.parts]
        decisive = isinstance(expression, Or)
        return decisive if decisive in parts else None if None in parts else not decisive
    if isinstance(expression, Gap):
        return (row[expression.column] is None) != expression.negated
    if isinstance(expression, Membership):
        some = Or(tuple(Comparison(Place(expression.column), "==", value) for value in expression.values))
        return slowly(Not(some) if expression.negated else some, row, schema)
    column = schema.column(expression.left.column)
    left, right = (
        (added(side, row) if column.is_numeric else row[side.column]) if isinstance(side, Place) else side
        for side in (expression.left, expression.right)
    )
    if left is None or right is None:
        return None
    if column.is_numeric:
        pass
    elif column.type == "boolean":
        left = left == "true"
    elif column.type == "ordinal" and expression.op not in ("==", "!="):
        if "other" in (left, right):
            return None
        left, right = column.labels.index(left), column.labels.index(right)
    return {
        "==": left == right,
        "!=": left != right,
        "<": not isinstance(left, str) and left < right,
        "<=": not isinstance(left, str) and left <= right,
        ">": not isinstance(left, str) and left > right,
        ">=": not isinstance(left, str) and left >= right,
    }[expression.op]


def added(side: Place, row: Mapping[str, Any]) -> Fraction | None:
    """A sum of numbers, None where one is missing."""
    numbers = [(sign, row[name]) for sign, name in side.terms]
    return None if any(n is None for _, n in numbers) else sum((s * n for s, n in numbers), side.plus)


def everything(column: Column) -> list[tuple[int, float, Any]]:
    """(cell, value as in Records, value for `slowly`) of all values of a column."""
    out: list[tuple[int, float, Any]] = []
    if column.is_numeric:
        bins = column.binning
        assert bins.starts is not None
        scale = 10 ** (bins.decimals or 0)
        for step in range(bins.starts[0], bins.starts[-1]):
            cell = int(np.searchsorted(bins.starts, step, side="right")) - 1
            out.append((cell, step / scale, Fraction(step, scale)))
        return out + [(bins.size, np.nan, None)] * column.missing
    return [(code, code, label) for code, label in enumerate(column.labels)] + (
        [(column.size - 1, column.size - 1, None)] if column.missing else []
    )


def all_rows(schema: Schema) -> tuple[np.ndarray, Records, list[dict[str, Any]]]:
    found = list(product(*(everything(column) for column in schema.modelled)))
    codes = np.array([[cell for cell, _, _ in row] for row in found], dtype=np.int32)
    arrays = {
        column.name: np.array([row[i][1] for row in found], dtype=storage(column))
        for i, column in enumerate(schema.modelled)
    }
    rows = [{column.name: row[i][2] for i, column in enumerate(schema.modelled)} for row in found]
    return codes, Records(schema, arrays), rows
