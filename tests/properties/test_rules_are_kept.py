"""Every synthetic row keeps every rule: all our synthesizers, conditions and balance, on random schemas with random rules.

The rows learned from know nothing of the rules. Synthetic rows are judged by the slow reading, value by value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rule_cases import all_rows, claims, several, slowly

from dpsynth.errors import SchemaError, UsageError
from dpsynth.expressions import Expression, parse
from dpsynth.models.base import Model
from dpsynth.models.graphical import GraphicalModel, check_constraints
from dpsynth.privacy import Cost
from dpsynth.schema import Column, Constraint, Schema
from dpsynth.synthesizers.registry import SYNTHESIZERS
from dpsynth.table import Records, Table

ROWS = 80
NETWORKS = ("ardm", "vae")
Fit = Callable[..., Model]


@pytest.fixture(scope="module")
def fitted(open_curator: Callable[..., Any]) -> Fit:
    def work(name: str, schema: Schema, seed: int) -> Model:
        free = replace(schema, constraints=())
        rng = np.random.default_rng(seed)
        codes = np.stack([rng.integers(size, size=60, dtype=np.int32) for size in schema.sizes], axis=1)
        frame = Table(free, codes).decode(rng=rng).to_frame()
        curator = open_curator(frame, schema, seed=seed)
        return SYNTHESIZERS[name]().fit(curator, budget=Cost.zcdp(Fraction(1, 10)))

    return work


@st.composite
def ruled(draw: st.DrawFn) -> tuple[Schema, list[Expression]]:
    """A schema with rules that some row can keep."""
    schema, rules = draw(several())
    try:
        schema = replace(schema, constraints=tuple(Constraint(rule=str(rule)) for rule in rules))
        check_constraints(schema)
    except SchemaError:
        assume(False)
    return schema, rules


def as_rows(records: Records) -> list[dict[str, Any]]:
    """Rows for the slow reading: numbers on their grid as fractions, labels, None where missing."""
    out: dict[str, list[Any]] = {}
    for column in records.schema.modelled:
        values = records.columns[column.name]
        if column.is_numeric:
            scale = 10 ** (column.decimals or 0)
            out[column.name] = [None if np.isnan(v) else Fraction(round(v * scale), scale) for v in values]
        else:
            out[column.name] = [None if v == column.missing_code else column.labels[v] for v in values]
    return [dict(zip(out, row, strict=True)) for row in zip(*out.values(), strict=True)]


def broken(records: Records, rules: Sequence[Expression]) -> list[str]:
    """Rules that some row breaks."""
    rows = as_rows(records)
    return [str(rule) for rule in rules if any(slowly(rule, row, records.schema) is False for row in rows)]


def check(model: Model, rules: Sequence[Expression], seed: int) -> None:
    table = model.sample(ROWS, rng=np.random.default_rng(seed))
    records = table.decode(rng=np.random.default_rng(seed))
    assert len(records) == ROWS
    assert broken(records, rules) == []
    assert np.array_equal(Table.encode(records).codes, table.codes)


@pytest.mark.parametrize("name", [name for name in SYNTHESIZERS if name not in NETWORKS])
@given(case=ruled(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_every_synthesizer_keeps_every_rule(
    fitted: Fit, name: str, case: tuple[Schema, list[Expression]], seed: int
) -> None:
    schema, rules = case
    check(fitted(name, schema, seed), rules, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@given(case=ruled(), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=4)
def test_every_network_keeps_every_rule(
    fitted: Fit, name: str, case: tuple[Schema, list[Expression]], seed: int
) -> None:
    schema, rules = case
    check(fitted(name, schema, seed), rules, seed)


@pytest.mark.slow
@given(case=ruled(), seed=st.integers(0, 2**32 - 1), data=st.data())
@settings(max_examples=30)
def test_conditions_and_balance_keep_every_rule_beside_what_they_ask(
    fitted: Fit, case: tuple[Schema, list[Expression]], seed: int, data: st.DataObject
) -> None:
    schema, rules = case
    model = fitted("mst", schema, seed)
    assert isinstance(model, GraphicalModel)
    where = data.draw(claims(schema.modelled))
    kinds = [column for column in schema.modelled if not column.is_numeric]
    balance = data.draw(st.sampled_from([None, *kinds])) if kinds else None
    _, _, rows = all_rows(schema)
    kept = [row for row in rows if all(slowly(rule, row, schema) is not False for rule in rules)]
    met = [row for row in kept if slowly(where, row, schema) is True]
    if balance is not None:
        met = [row for row in met if row[balance.name] is not None]
    try:
        table = model.sample(
            ROWS, rng=np.random.default_rng(seed), where=str(where), balance=balance.name if balance else None
        )
    except UsageError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert not met or "too unlikely" in refused or "too many" in refused or "more than" in refused, refused
        return
    assert met
    records = table.decode(rng=np.random.default_rng(seed))
    assert broken(records, rules) == []
    found = as_rows(records)
    assert all(slowly(where, row, schema) is True for row in found)
    if balance is not None:
        counts = [sum(row[balance.name] == label for row in found) for label in {row[balance.name] for row in met}]
        assert sum(counts) == ROWS
        assert max(counts) - min(counts) <= 1


PARTS = ("net", "tax", "gross")


@pytest.mark.slow
@pytest.mark.parametrize("decimals", [2, None])
@pytest.mark.parametrize("name", SYNTHESIZERS)
def test_sums_hold_in_every_row_of_every_synthesizer(fitted: Fit, name: str, decimals: int | None) -> None:
    """To the cent, or to the last bit of what a reader of the file adds up."""
    columns = tuple(
        Column(name=part, type="number", minimum=0, maximum=top, bins=6, decimals=decimals, missing=part == "tax")
        for part, top in zip(PARTS, (700, 190, 1000), strict=True)
    )
    rules = ("gross == net + tax", "tax <= net", "net + tax <= 950 or tax is missing")
    schema = Schema(table="t", columns=columns, constraints=tuple(Constraint(rule=rule) for rule in rules))
    records = fitted(name, schema, 3).sample(1000, rng=np.random.default_rng(1)).decode(rng=np.random.default_rng(2))
    net, tax, gross = (records.columns[part] for part in PARTS)
    there = ~np.isnan(tax)
    assert there.sum() > 100
    if decimals is None:
        assert np.array_equal((net + tax)[there], gross[there])
        assert np.all(tax[there] <= net[there])
    else:
        assert broken(records, [parse(rule) for rule in rules]) == []
    assert len(np.unique(gross)) > 900  # values of their own, not corners of cells
