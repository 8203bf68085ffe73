"""Rules and conditions against the slow and obvious reading: one row at a time, every value of every cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dpsynth.errors import SchemaError, UsageError
from dpsynth.expressions import And, Comparison, Expression, Gap, Membership, Not, Or, Place, parse
from dpsynth.schema import Column, Constraint, Schema
from dpsynth.table import Records, Table, storage

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


@st.composite
def claims(draw: st.DrawFn, columns: tuple[Column, ...]) -> Expression:
    column = draw(st.sampled_from(columns))
    kind = KIND.get(column.name)
    others = [other for other in columns if other.name != column.name and kind and KIND.get(other.name) == kind]
    shape = draw(st.sampled_from(["value", "value", "members", "gap", *["column"] * 4 * bool(others)]))
    if shape == "gap":
        return Gap(column.name, draw(st.booleans()))
    ops = st.sampled_from(OPS if column.type not in ("category", "boolean") else OPS[:2])
    step = st.integers(-3, 8).map(lambda n: Fraction(n, 10 if kind == "d" else 2))
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
    left, right = row[column.name], expression.right
    right = row[right.column] if isinstance(right, Place) else right
    if left is None or right is None:
        return None
    if column.is_numeric:
        left += expression.left.plus
        right += expression.right.plus if isinstance(expression.right, Place) else 0
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


# ---- the tests -----------------------------------------------------------------------------------------------------


@given(cases())
@settings(max_examples=100)
def test_an_expression_reads_back_from_its_own_spelling(case: tuple[Schema, Expression]) -> None:
    _, expression = case
    assert parse(str(expression)) == expression or str(parse(str(expression))) == str(expression)


@given(cases())
@settings(max_examples=100)
def test_a_rule_holds_where_it_is_not_false(case: tuple[Schema, Expression]) -> None:
    """Values, and both masks over cells: possible where some value of the cells keeps the rule, certain where all do."""
    schema, expression = case
    codes, records, rows = all_rows(schema)
    want = np.array([slowly(expression, row, schema) is not False for row in rows])
    try:
        ruled = replace(schema, constraints=(Constraint(rule=str(expression)),))
    except SchemaError:
        assert not want.any()  # the only reason for which these are refused
        return
    assert np.array_equal(ruled.rules.holds(records.columns), want)
    assert np.array_equal(Table.encode(records).codes, codes)
    possible, certain = np.zeros(schema.sizes, dtype=bool), np.ones(schema.sizes, dtype=bool)
    np.logical_or.at(possible, tuple(codes.T), want)
    np.logical_and.at(certain, tuple(codes.T), want)
    assert np.array_equal(_joined(ruled, [(rule.columns, rule.certain) for rule in ruled.rules.rules]), certain)
    assert np.array_equal(_joined(ruled, ruled.rules.masks), possible)


def _joined(schema: Schema, masks: list[tuple[tuple[int, ...], np.ndarray]]) -> np.ndarray:
    whole = np.ones(schema.sizes, dtype=bool)
    for columns, mask in masks:
        whole &= mask.reshape([size if i in columns else 1 for i, size in enumerate(schema.sizes)])
    return whole


@given(cases(), st.integers(0, 2**32 - 1))
@settings(max_examples=80)
def test_values_keep_the_rules_wherever_their_cells_can(case: tuple[Schema, Expression], seed: int) -> None:
    schema, expression = case
    try:
        ruled = replace(schema, constraints=(Constraint(rule=str(expression)),))
    except SchemaError:
        assume(False)
    codes = all_rows(schema)[0]
    table = Table(ruled, codes)
    records = table.decode(rng=np.random.default_rng(seed))
    assert np.array_equal(Table.encode(records).codes, codes)
    assert np.array_equal(ruled.rules.holds(records.columns), _joined(ruled, ruled.rules.masks)[tuple(codes.T)])


@given(cases(), st.data())
@settings(max_examples=100)
def test_a_condition_holds_where_it_is_true(case: tuple[Schema, Expression], data: st.DataObject) -> None:
    """Alone and on top of a rule: what may be proposed, with which weight, and what is left to check."""
    schema, expression = case
    codes, records, rows = all_rows(schema)
    want = np.array([slowly(expression, row, schema) is True for row in rows])
    given_it = schema.rules.given(str(expression), schema)
    assert np.array_equal(given_it.rules.holds(records.columns), want)
    kept = given_it.proposal.holds(records.columns)
    rest = np.ones(len(rows), bool) if given_it.rest is None else given_it.rest.holds(records.columns)
    assert np.array_equal(kept & rest, want)
    cell = np.ravel_multi_index(tuple(codes.T), schema.sizes)
    size = int(np.prod(schema.sizes))
    share = np.bincount(cell, weights=want, minlength=size) / np.bincount(cell, minlength=size)
    weight = np.ones(schema.sizes)
    for columns, part in given_it.weights:
        weight = weight * part.reshape([n if i in columns else 1 for i, n in enumerate(schema.sizes)])
    if given_it.rest is None:
        np.testing.assert_allclose(weight.ravel(), share, atol=1e-12)  # the exact share of values that meet it
    else:
        assert np.all((weight.ravel() > 0) | (share == 0))


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                "a",
                "b",
                "in",
                "not",
                "(",
                ")",
                "==",
                "<=",
                "1",
                "2.5",
                "'x'",
                ",",
                "and",
                "or",
                "is",
                "missing",
                "+",
                "-",
            ]
        )
    ).map(" ".join)
)
@settings(max_examples=100)
def test_any_text_is_read_or_refused_in_one_sentence(text: str) -> None:
    refused = None
    try:
        found = parse(text)
    except UsageError as error:
        refused = str(error)
    if refused is None:
        assert str(parse(str(found))) == str(found)
    else:
        assert "\n" not in refused
        assert "character" in refused


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(OPS), st.integers(0, 2), st.integers(-2, 2)),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=100)
@example(links=[(0, "<=", 1, -1), (1, "<=", 0, 1)], seed=0)  # an equality that only both together imply
def test_continuous_columns_keep_chains_and_equalities(links: list[tuple[int, str, int, int]], seed: int) -> None:
    """Different bins, half-open ends, one column with a missing cell: what the mask allows can always be drawn."""
    columns = (
        Column(name="x", type="number", minimum=0, maximum=4, bins=2),
        Column(name="y", type="number", minimum=0, maximum=4, bins=3, missing=True),
        Column(name="z", type="number", minimum=1, maximum=3, bins=1),
    )
    texts = []
    for left, op, right, plus in links:
        assume(left != right)
        shift = f" + {plus}" if plus > 0 else f" - {-plus}" if plus < 0 else ""
        texts.append(f"{'xyz'[left]} {op} {'xyz'[right]}{'' if op in ('==', '!=') else shift}")
    try:
        schema = Schema(table="t", columns=columns, constraints=tuple(Constraint(rule=text) for text in texts))
    except SchemaError:
        assume(False)
    codes = np.array(list(product(*map(range, schema.sizes))) * 3, dtype=np.int32)
    records = Table(schema, codes).decode(rng=np.random.default_rng(seed))
    assert np.array_equal(Table.encode(records).codes, codes)
    possible = _joined(schema, schema.rules.masks)[tuple(codes.T)]
    assert np.array_equal(schema.rules.holds(records.columns) & possible, possible)
