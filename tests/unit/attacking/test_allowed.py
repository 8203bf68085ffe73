"""Planted persons are chosen among the rows that constraints allow."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from time import process_time
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st

from attacks import allowed
from attacks.allowed import Allowed
from attacks.neighbours import worst_cases
from attacks.one_run import lineup
from dpsynth import Column, Constraint, Rehearsal, Schema, SchemaError, Table, UsageError

LETTERS = "abcd"


def schema_of(*rules: str, sizes: tuple[int, ...] = (3, 3, 3, 2), **words: Any) -> Schema:
    columns = tuple(
        Column(name=f"c{i}", type="category", values=tuple(LETTERS[:size]), basis="test")
        for i, size in enumerate(sizes)
    )
    return Schema(table="t", columns=columns, constraints=tuple(Constraint(rule=rule) for rule in rules), **words)


VISITS = Schema(
    table="visits",
    columns=(
        Column(name="start", type="integer", minimum=0, maximum=99, bins=5, basis="test"),
        Column(name="end", type="integer", minimum=0, maximum=99, bins=4, missing=True, basis="test"),
        Column(name="kind", type="category", values=("day", "night", "long"), basis="test"),
        Column(name="paid", type="boolean", basis="test"),
        Column(name="town", type="category", values=("x", "y"), basis="test"),
        Column(name="sex", type="category", values=("f", "m"), basis="test"),
    ),
    constraints=(Constraint(rule="end >= start"), Constraint(rule="kind != 'long' or end >= start + 50")),
)
EQUAL = "c0 == 'a' and c1 == 'a' or c0 == 'b' and c1 == 'b' or c0 == 'c' and c1 == 'c'"
SCHEMAS = {
    "none of the last cells together": schema_of("not (c0 == 'c' and c1 == 'c' and c2 == 'c')"),
    "none of the first cells": schema_of("c0 != 'a'", "c1 != 'a' or c2 == 'b'"),
    "two columns equal": schema_of(EQUAL),
    "one column fixed": schema_of("c1 == 'b'", neighbours="replace"),
    "one row": schema_of("c0 == 'b'", "c1 == 'c'", "c2 == 'a'", "c3 == 'b'"),
    "dates": VISITS,
    "dates of persons": replace(VISITS, entity="person", unit_column="who", max_rows=2, neighbours="replace"),
}


@st.composite
def ruled(draw: st.DrawFn) -> Schema:
    """Up to four rules, each of which forbids some cells of two or three columns together."""
    sizes = (3, 2, 3, 2)
    rules = []
    for _ in range(draw(st.integers(1, 4))):
        columns = sorted(draw(st.sets(st.integers(0, 3), min_size=1, max_size=3)))
        cells = [f"c{c} == '{LETTERS[draw(st.integers(0, sizes[c] - 1))]}'" for c in columns]
        rules.append(f"not ({' and '.join(cells)})")
    try:
        return schema_of(*rules, sizes=sizes)
    except SchemaError:
        reject()  # the schema itself refuses them


@given(ruled())
def test_the_rows_found_are_those_of_a_loop_over_all(schema: Schema) -> None:
    every = np.array(list(product(*map(range, schema.sizes))), dtype=np.int32)
    known = Allowed(schema)
    columns = {name: every[:, i] for i, name in enumerate(schema.names)}
    assert np.array_equal(known.holds(every), schema.rules.holds(columns))
    possible = every[known.holds(every)]
    assume(len(possible))
    first = known.row([range(size) for size in schema.sizes])
    assert first.tolist() == min(possible.tolist())
    other = known.row([range(size - 1, -1, -1) for size in schema.sizes], unlike=first)
    assert known.holds(other[None])[0]
    assert (other == first).sum() == (possible == first).sum(axis=1).min()


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_row_of_the_worst_cases_keeps_the_constraints(name: str) -> None:
    schema = SCHEMAS[name]
    for pair in worst_cases(schema, rows=9):
        rows = [*pair.bulk, pair.target] + ([] if pair.other is None else [pair.other])
        codes = np.array(rows, dtype=np.int32)
        made = Table(schema, codes).decode(rng=np.random.default_rng(0))
        assert schema.rules.holds(made.columns).all()
        assert np.array_equal(Table.encode(made).codes, codes)
        if name != "one row":
            assert pair.other is None or not np.array_equal(pair.other, pair.target)
            assert not (pair.bulk == pair.target).all(axis=1).any() or pair.name == "torn"


def test_without_constraints_the_tables_are_what_they_were() -> None:
    schema = schema_of()
    alone, _, torn = worst_cases(schema, rows=4)
    assert alone.bulk.tolist() == [[0] * 4] * 4
    assert alone.target.tolist() == [2, 2, 2, 1]
    assert torn.bulk.tolist() == [[0, 0, 1, 1]] * 2 + [[1, 1, 0, 0]] * 2


def test_selection_is_torn_by_columns_that_no_constraint_mentions() -> None:
    assert [pair.name for pair in worst_cases(schema_of("c0 != 'a'"), rows=4)] == ["alone", "nobody else", "torn"]
    torn = worst_cases(schema_of("c0 != 'a'"), rows=4)[2]
    assert set(torn.bulk[:, 0].tolist()) == {1}
    assert np.ptp(torn.bulk[:, 1:], axis=0).tolist() == [1, 1, 1]
    assert len(worst_cases(schema_of("c0 != 'a' or c1 != 'a'"), rows=4)) == 2


@pytest.mark.parametrize("rows", [0, 20])
@pytest.mark.parametrize("name", SCHEMAS)
def test_all_persons_of_one_run_keep_the_constraints(name: str, rows: int) -> None:
    schema = SCHEMAS[name]
    line = lineup(schema, persons=60, rows=rows, rng=np.random.default_rng(0))
    for codes in (line.bulk, line.heads, line.heads if line.tails is None else line.tails):
        assert Allowed(schema).holds(codes).all()
    assert (line.tails is None) == (schema.neighbours == "add_remove")
    if name == "none of the last cells together":
        assert len(np.unique(line.heads, axis=0)) >= 7  # without the bulk's cells there are no more


def test_without_an_allowed_row_one_sentence() -> None:
    """Three columns of two cells that all differ: no pair of rules shows it."""
    differ = [f"not (c{i} == '{x}' and c{j} == '{x}')" for i, j in ((0, 1), (0, 2), (1, 2)) for x in "ab"]
    with pytest.raises(SchemaError, match="contradict each other: no row can keep all of them"):
        worst_cases(schema_of(*differ, sizes=(2, 2, 2)))


def test_a_search_that_takes_too_long_takes_a_row_that_is_unlike_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """First without counting agreements; only if that fails as well it is given up in one sentence."""
    schema, count = SCHEMAS["none of the last cells together"], allowed._first

    def hurried(tied: Any, wanted: Any, unlike: Any, agreeing: int) -> Any:
        if unlike is not None and agreeing < len(tied.columns):
            raise allowed._TooLong
        return count(tied, wanted, unlike, agreeing)

    with mock.patch.object(allowed, "_first", hurried):
        assert worst_cases(schema, rows=2)[0].target.tolist() == [2, 2, 1, 1]
    monkeypatch.setattr(allowed, "MOST_STEPS", 2)
    with pytest.raises(UsageError, match="too tangled"):
        worst_cases(schema)


def test_many_tied_columns_are_quick() -> None:
    """Twelve columns of which each equals the one before: every row agrees in all or in none."""
    sizes = (4,) * 12
    rules = [f"not (c{i} == '{x}' and c{i + 1} != '{x}')" for i in range(11) for x in LETTERS]
    started = process_time()
    schema = schema_of(*rules, sizes=sizes)
    alone = worst_cases(schema, rows=3)[0]
    assert alone.target.tolist() == [3] * 12
    lineup(schema, persons=500, rows=10, rng=np.random.default_rng(0))
    assert process_time() - started < 5


def test_the_attacker_of_rows_sees_a_copy_where_constraints_forbid_the_last_cells() -> None:
    """The canary is one that the model may write: with little noise, a model that keeps the rules shows it."""
    schema = SCHEMAS["none of the last cells together"]
    generous = Rehearsal(schema, synthesizer="mst", epsilon=200, delta="1e-6", rows=200)
    pair = worst_cases(schema, rows=50)[0]
    written = generous.run(pair.present).rows
    assert (Table.encode(written).codes == pair.target).all(axis=1).any()
