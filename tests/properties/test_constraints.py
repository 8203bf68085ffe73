"""Rules and conditions against the slow and obvious reading: one row at a time, every value of every cell."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from rule_cases import OPS, all_rows, cases, several, slowly

from dpsynth.errors import SchemaError, UsageError
from dpsynth.expressions import Expression, parse
from dpsynth.schema import Column, Constraint, Schema
from dpsynth.table import Table


@pytest.mark.slow
@given(cases())
@settings(max_examples=100)
def test_an_expression_reads_back_from_its_own_spelling(case: tuple[Schema, Expression]) -> None:
    _, expression = case
    assert parse(str(expression)) == expression or str(parse(str(expression))) == str(expression)


@pytest.mark.slow
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


@pytest.mark.slow
@given(several(), st.integers(0, 2**32 - 1))
@settings(max_examples=120)
def test_several_rules_are_kept_or_the_fewest_that_contradict_each_other_are_named(
    case: tuple[Schema, list[Expression]], seed: int
) -> None:
    schema, expressions = case
    codes, _, rows = all_rows(schema)
    wants = np.array([[slowly(e, row, schema) is not False for row in rows] for e in expressions])
    constraints = tuple(Constraint(rule=str(e)) for e in expressions)
    try:
        ruled = replace(schema, constraints=constraints)
    except SchemaError as error:
        assume("too" not in str(error) and "cannot be decided" not in str(error))
        guilty = [int(n) - 1 for n in re.findall(r"constraint (\d+)", str(error))]
        assert not wants[guilty].all(axis=0).any()
        fewest = next(
            n
            for n in range(1, 5)
            if any(not wants[list(s)].all(axis=0).any() for s in combinations(range(len(wants)), n))
        )
        assert len(guilty) == fewest if fewest < 3 else len(guilty) >= 3
        for one in guilty:
            assert wants[[other for other in guilty if other != one]].all(axis=0).any()  # none is too many
        return
    possible = np.zeros(schema.sizes, dtype=bool)
    np.logical_or.at(possible, tuple(codes.T), wants.all(axis=0))
    assert possible.any()
    assert np.array_equal(_joined(ruled, ruled.rules.masks), possible)
    records = Table(ruled, codes).decode(rng=np.random.default_rng(seed))
    assert np.array_equal(Table.encode(records).codes, codes)
    assert np.array_equal(ruled.rules.holds(records.columns), possible[tuple(codes.T)])


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    texts: list[str] = []
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


SUMS = (
    "z == x + y",
    "x == z - y",
    "z - y == x",
    "x + y + z <= 5",
    "z >= x + y",
    "w == x + y + z",
    "w > x - y + 1",
    "w < z + y",
    "x < 1 or z == x + y",
    "y is missing or w == z - y",
    "x <= y",
    "z != x",
    "w == 1.5",
    "y > 0.3",
)


@pytest.mark.slow
@given(st.lists(st.sampled_from(SUMS), min_size=1, max_size=3, unique=True), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
@example(texts=["z == x + y", "w == x + y + z"], seed=0)
@example(texts=["z == x + y", "w == 1.5", "w == x + y + z"], seed=0)
def test_continuous_sums_hold_as_floats_add_up(texts: list[str], seed: int) -> None:
    """Odd bins, so that hardly any edge is a sum of edges; what a reader computes from the file has to agree to the last bit."""
    columns = (
        Column(name="x", type="number", minimum=0, maximum=0.7, bins=3),
        Column(name="y", type="number", minimum=0.1, maximum=1.3, bins=3, missing=True),
        Column(name="z", type="number", minimum=0, maximum=2.1, bins=4),
        Column(name="w", type="number", minimum=-1, maximum=3.3, bins=3),
    )
    try:
        schema = Schema(table="t", columns=columns, constraints=tuple(Constraint(rule=text) for text in texts))
    except SchemaError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert "more sums than one" in refused or "contradict" in refused
        return
    codes = np.array(list(product(*map(range, schema.sizes))) * 3, dtype=np.int32)
    records = Table(schema, codes).decode(rng=np.random.default_rng(seed))
    assert np.array_equal(Table.encode(records).codes, codes)
    possible = _joined(schema, schema.rules.masks)[tuple(codes.T)]
    assert possible.any()
    assert schema.rules.holds(records.columns)[possible].all()
    frame = records.to_frame()[possible]
    for text in texts:
        if " or " not in text:
            gaps = frame[[name for name in "xyzw" if name in text]].isna().any(axis=1)
            assert (frame.eval(text) | gaps).all()
    rng, free = np.random.default_rng(seed), replace(schema, constraints=())
    for _ in range(10):  # what values without rules happen to keep is possible
        assert possible[schema.rules.holds(Table(free, codes).decode(rng=rng).columns)].all()
