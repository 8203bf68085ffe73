"""Planted generators work on any schema, copy what they say they copy, and leave the schema's domain never."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from attacks.planted import (
    GRADED,
    HONEST,
    LEAKS,
    Planted,
    copied_rank,
    copied_share,
    invented,
    rarest_persons,
    rarity,
    side,
    tree_model,
)
from dpsynth import Column, Constraint, PersonRecords, Records, ReviewSample, Schema, Table

ALL = [*LEAKS.values(), *HONEST.values(), *GRADED]


def plain(*, max_rows: int = 1) -> Schema:
    """One column of each type, some with gaps."""
    columns = (
        Column(name="z", type="integer", minimum=-3, maximum=40, missing=True, role="quasi_identifier"),
        Column(name="y", type="number", minimum=0, maximum=1, decimals=2, role="sensitive"),
        Column(name="x", type="category", values=("a",)),
        Column(name="w", type="ordinal", values=("low", "middle", "high"), missing=True, role="sensitive"),
        Column(name="v", type="boolean", role="quasi_identifier"),
    )
    units = {} if max_rows == 1 else {"entity": "person", "unit_column": "who", "max_rows": max_rows}
    return Schema(table="plain", columns=columns, **units)


def numbers_only() -> Schema:
    return Schema(table="n", columns=tuple(Column(name=n, type="number", minimum=0, maximum=9) for n in "ab"))


def sides(schema: Schema, seed: int = 0, persons: int = 60) -> tuple[ReviewSample, Records]:
    rng = np.random.default_rng(seed)
    everybody = invented(schema, 3 * persons, rng)
    number = np.arange(3 * persons)
    fit, control, fresh = (side(everybody, number // persons == part) for part in range(3))
    return ReviewSample(fit=fit, control=control), fresh.records


@pytest.mark.parametrize("schema", [plain(), plain(max_rows=4), numbers_only()], ids=["row", "person", "numbers"])
@pytest.mark.parametrize("planted", ALL, ids=lambda one: one.id)
def test_every_generator_makes_rows_of_every_schema_that_it_applies_to(schema: Schema, planted: object) -> None:
    """`Records` refuse a value outside its domain, so making them is the test."""
    if not planted.applies(schema):
        pytest.skip("needs other columns")
    sample, fresh = sides(schema)
    rng = np.random.default_rng(1)
    before = sample.fit.persons
    sample, fresh = planted.setting(sample, fresh, rng)
    table = planted(sample, fresh, rng)
    assert table.schema == schema
    assert len(table) > 0
    assert sample.fit.persons in (before, before // 5)


def ruled() -> Schema:
    """Rules over cells, inside bins, and a sum: hardly any row that ignores them keeps them."""
    columns = (
        *plain().columns,
        *(Column(name=name, type="number", minimum=0, maximum=9, bins=6, decimals=1, role="other") for name in "abc"),
        Column(name="t", type="category", values=tuple("pqr"), role="quasi_identifier"),
    )
    rules = ("a == b + c", "b <= c", "z >= 7 or v == false", "t != 'q' or w == 'low'", "a > 0.5")
    return Schema(table="ruled", columns=columns, constraints=tuple(Constraint(rule=rule) for rule in rules))


@pytest.mark.slow
@pytest.mark.parametrize("planted", ALL, ids=lambda one: one.id)
def test_planted_rows_keep_the_constraints(planted: Planted) -> None:
    """Invented persons, what is made of them, and what a setting makes of both."""
    schema = ruled()
    if not planted.applies(schema):
        pytest.skip("needs other columns")
    sample, fresh = sides(schema, persons=40)
    free = replace(schema, constraints=())
    assert not schema.rules.holds(sides(free, persons=40)[1].columns).all()  # rules that would be broken without care
    rng = np.random.default_rng(1)
    sample, fresh = planted.setting(sample, fresh, rng)
    for rows in (sample.fit.records, sample.control.records, fresh, planted(sample, fresh, rng)):
        assert len(rows)
        assert schema.rules.holds(rows.columns).all()


def test_constraints_leave_what_is_shared_shared_and_what_is_uneven_uneven() -> None:
    schema = ruled()
    sample, fresh = LEAKS["B3"].setting(*sides(schema, persons=200), np.random.default_rng(0))
    assert len(set(rows_of(fresh))) < 40
    assert set(rows_of(fresh)) & set(rows_of(sample.fit.records))
    cells = Table.encode(sides(schema, persons=200)[1]).codes
    assert all(len(np.unique(column)) > 1 for column in np.delete(cells, 2, axis=1).T)


def rows_of(records: Records) -> list[tuple[float, ...]]:
    stacked = np.stack([np.asarray(values, dtype=np.float64) for values in records.columns.values()], axis=1)
    return [tuple(row) for row in np.nan_to_num(stacked, nan=-1e9).tolist()]


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_a_share_of_persons_is_copied_with_all_their_rows(share: float) -> None:
    sample, fresh = sides(plain(max_rows=4), persons=50)
    table = copied_share(share)(sample, fresh, np.random.default_rng(0))
    known = set(rows_of(table))
    mine = rows_of(sample.fit.records)
    whole = [
        person for person in range(50) if all(mine[row] in known for row in np.flatnonzero(sample.fit.person == person))
    ]
    assert len(whole) >= max(round(50 * share), 1)
    assert share == 1.0 or len(table) == len(fresh)


def test_the_rarest_person_holds_the_rarest_row() -> None:
    sample, fresh = sides(plain(), persons=80)
    order = rarest_persons(sample.fit)
    assert sorted(order) == list(range(80))
    rare = rarity(sample.fit.records)
    assert rare[sample.fit.person == order[0]].max() == rare.max()
    assert rare[sample.fit.person == order[-1]].max() == rare.min()
    table = copied_rank(0.0)(sample, fresh, np.random.default_rng(0))
    assert rows_of(sample.fit.records)[int(np.argmax(rare))] in set(rows_of(table))


def test_rarity_is_what_it_says() -> None:
    """Two columns, four rows: minus the logarithms of how often each value occurs."""
    schema = Schema(table="t", columns=tuple(Column(name=n, type="category", values=tuple("abc")) for n in "pq"))
    rows = Records(schema, {"p": np.array([0, 0, 0, 1], np.int32), "q": np.array([0, 1, 1, 1], np.int32)})
    expected = -np.log(np.array([3 / 4 * 1 / 4, 3 / 4 * 3 / 4, 3 / 4 * 3 / 4, 1 / 4 * 3 / 4]))
    assert rarity(rows) == pytest.approx(expected)


def test_the_tree_keeps_columns_in_their_places() -> None:
    """Names in reverse order, so that a mistaken order would show: each column keeps its own frequencies."""
    sample, _ = sides(plain(), persons=400)
    rows = sample.fit.records
    drawn = Table.encode(tree_model(rows, 4000, np.random.default_rng(0))).codes
    for place, cells in enumerate(Table.encode(rows).codes.T):
        size = rows.schema.sizes[place]
        ours, theirs = np.bincount(cells, minlength=size) / 400, np.bincount(drawn[:, place], minlength=size) / 4000
        assert np.abs(ours - theirs).sum() / 2 < 0.1


def test_invented_columns_depend_on_one_another() -> None:
    """And persons do not: two halves look alike."""
    schema = plain(max_rows=3)
    everybody = invented(schema, 4000, np.random.default_rng(0))
    assert everybody.persons == 4000
    assert set(np.bincount(everybody.person)) == {1, 2, 3}
    codes = Table.encode(everybody.records).codes
    related = np.corrcoef(codes[:, [0, 3, 4]].T)
    assert (np.abs(related[np.triu_indices(3, 1)]) > 0.1).sum() >= 1
    half = everybody.person < 2000
    for cells in codes.T:
        first, second = (
            np.bincount(part, minlength=cells.max() + 1) / len(part) for part in (cells[half], cells[~half])
        )
        assert np.abs(first - second).sum() / 2 < 0.1
    assert np.isnan(everybody.records.columns["z"]).mean() == pytest.approx(0.05, abs=0.015)


def test_the_same_coins_make_the_same_table(tables: ModuleType) -> None:
    rng = np.random.default_rng(0)
    sample, fresh = tables.split(tables.population(80, rng), rng), tables.population(40, rng).records
    for planted in (*LEAKS.values(), *GRADED):
        first, second = (planted(sample, fresh, np.random.default_rng(3)) for _ in range(2))
        assert rows_of(first) == rows_of(second), planted.id


def test_nobody_is_left_out_when_a_side_is_cut() -> None:
    sample, _ = sides(plain(max_rows=4), persons=30)
    chosen = np.arange(30) % 3 == 0
    cut = side(sample.fit, chosen)
    assert isinstance(cut, PersonRecords)
    assert cut.persons == 10
    assert set(cut.person) == set(range(10))
    assert len(cut.records) == int(chosen[sample.fit.person].sum())
