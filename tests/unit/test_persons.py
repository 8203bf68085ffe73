"""Synthetic persons: sizes as measured, columns that stay constant, rows that stay what they were."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dpsynth.errors import IntegrityError
from dpsynth.fakes import Fakes
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.persons import UnitSizes, deal
from dpsynth.schema import Column, Constraint, Schema
from dpsynth.table import Records, Table

COLUMNS = (
    Column(name="sex", type="category", values=("F", "M"), missing=True, per_unit=True),
    Column(name="age", type="integer", minimum=0, maximum=99, bins=10, missing=True, per_unit=True),
    Column(name="visits", type="integer", minimum=0, maximum=199, bins=10),
)


def schema_of(*columns: Column, max_rows: int = 5, constraints: tuple[Constraint, ...] = ()) -> Schema:
    return Schema(
        table="t", columns=columns, entity="person", unit_column="who", max_rows=max_rows, synthetic_units=True,
        constraints=constraints,
    )  # fmt: skip


def drawn(schema: Schema, rows: int, seed: int = 0) -> Records:
    rng = np.random.default_rng(seed)
    codes = np.column_stack([rng.integers(0, size, rows) for size in schema.sizes]).astype(np.int32)
    if schema.constraints:
        keeps = np.ones(len(codes), dtype=bool)
        for columns, mask in schema.rules.masks:
            keeps &= mask[tuple(codes[:, list(columns)].T)]
        codes = codes[keeps]
    return Table(schema, np.asfortranarray(codes)).decode(rng=rng)


def sizes(*counts: int) -> UnitSizes:
    return UnitSizes(counts=counts, sigma=3.0)


@pytest.mark.parametrize("counts", [(500, 300, 100, 50, 50), (0, 0, 0, 0, 1000), (1000, 0, 0, 0, 0), (1, 0, 0, 900, 0)])
def test_rows_per_person_follow_the_counts(counts):
    """With a handful of groups, of some hundred rows each, a few units at the ends of groups come out smaller."""
    records = drawn(schema_of(*COLUMNS), 6000)
    measured = sizes(*counts)
    dealt = deal(records, measured, rng=np.random.default_rng(1))
    assert dealt.sizes.sum() == 6000
    assert dealt.sizes.min() >= 1
    assert dealt.sizes.max() <= 5
    assert dealt.counts(5).sum() == len(dealt.sizes)
    assert measured.distance(dealt.counts(5)) < 0.03
    assert sizes(*counts[::-1]).distance(dealt.counts(5)) > 0.3 or counts == counts[::-1]


def test_constant_columns_are_constant_and_rows_stay_in_their_cells():
    records = drawn(schema_of(*COLUMNS), 3000)
    dealt = deal(records, sizes(100, 100, 100, 100, 100), rng=np.random.default_rng(2))
    for name in ("sex", "age"):
        values = np.nan_to_num(np.asarray(dealt.records.columns[name], dtype=np.float64), nan=-1)
        lowest = np.full(len(dealt.sizes), np.inf)
        np.minimum.at(lowest, dealt.person, values)
        assert (values == lowest[dealt.person]).all()
    assert (Table.encode(dealt.records).codes == Table.encode(records).codes).all()
    assert (dealt.records.columns["visits"] == records.columns["visits"]).all()
    assert (dealt.records.columns["age"] != records.columns["age"]).any()


def test_a_rule_between_columns_holds_after_dealing():
    """Ages that a rule ties to another column are not moved, and persons have one age all the same."""
    rule = Constraint(rule="visits >= age")
    schema = schema_of(*COLUMNS, constraints=(rule,))
    records = drawn(schema, 4000)
    dealt = deal(records, sizes(0, 0, 0, 0, 100), rng=np.random.default_rng(3))
    assert schema.rules.holds(dealt.records.columns).all()
    assert (np.nan_to_num(dealt.records.columns["age"], nan=-1) == np.nan_to_num(records.columns["age"], nan=-1)).all()
    for person in range(50):
        assert len(set(np.nan_to_num(dealt.records.columns["age"][dealt.person == person], nan=-1))) == 1
    free = deal(Records(schema_of(*COLUMNS), records.columns), sizes(0, 0, 0, 0, 100), rng=np.random.default_rng(3))
    assert not schema.rules.holds(free.records.columns).all()  # without the rule the same dealing would break it


def test_without_constant_columns_sizes_are_met_to_a_row():
    records = drawn(schema_of(*(Column(name=c.name, type="boolean") for c in COLUMNS)), 1000)
    dealt = deal(records, sizes(100, 100, 100, 100, 0), rng=np.random.default_rng(4))
    assert np.bincount(dealt.sizes).tolist()[1:] == [100, 100, 100, 100]


def test_persons_are_in_no_order():
    """The number of a person says nothing about size or group: rank correlation within 6 / sqrt(persons)."""
    records = drawn(schema_of(*COLUMNS), 9000)
    dealt = deal(records, sizes(100, 100, 100, 100, 100), rng=np.random.default_rng(5))
    count = len(dealt.sizes)
    assert abs(np.corrcoef(np.arange(count), dealt.sizes)[0, 1]) < 6 / np.sqrt(count)
    first = np.unique(dealt.person, return_index=True)[1]
    assert abs(np.corrcoef(np.arange(count), records.columns["sex"][first])[0, 1]) < 6 / np.sqrt(count)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_rows(rows):
    records = drawn(schema_of(*COLUMNS), rows)
    dealt = deal(records, sizes(0, 0, 0, 0, 9), rng=np.random.default_rng(6))
    assert (len(dealt.records), len(dealt.person)) == (rows, rows)


def test_noise_makes_no_nonsense():
    """Counts below zero, and no sum at all."""
    assert sizes(-50, 200, -3, 100, -1).shares.tolist() == pytest.approx([0, 0.7032, 0, 0.2968, 0], abs=1e-3)
    assert sizes(-5, 0, 3).shares.tolist() == pytest.approx([1, 0, 0], abs=1e-6)
    many = UnitSizes(
        counts=tuple(
            np.random.default_rng(0).normal(0, 35, 1000).astype(int) + np.eye(1, 1000, 3, dtype=int)[0] * 50_000
        ),
        sigma=35,
    )
    assert many.shares[3] > 0.98


def test_sizes_are_measured_for_what_they_cost(make_schema, make_frame, open_curator):
    frame = make_frame([(0, 0)] * 9, columns=2, who=["a"] * 4 + ["b", "b", "c", "d", "e"])
    curator = open_curator(frame, make_schema((2, 2), max_rows=3), seed=1)
    found = UnitSizes.measured(curator, rho=Fraction(10**6))
    assert found.counts == (3, 1, 1)  # at this rho noise other than 0 has a chance below exp(-10^5)
    assert found.shares.tolist() == pytest.approx([0.6, 0.2, 0.2])
    assert found.sigma == DiscreteGaussian.calibrated(rho=Fraction(10**6), l2_squared=1).sigma


def test_they_are_kept_with_the_model(tmp_path: Path):
    schema = schema_of(*COLUMNS)
    found = sizes(5, -1, 3, 0, 0)
    found.save(tmp_path)
    assert UnitSizes.load(tmp_path, schema) == found
    for text in ("", "[]", '{"format": "dpsynth.persons/1", "counts": [1], "sigma": 1}', '{"format": "x"}'):
        (tmp_path / "persons.json").write_text(text)
        with pytest.raises(IntegrityError, match="rows per person"):
            UnitSizes.load(tmp_path, schema)


def test_fakes_of_a_person_are_those_of_a_person():
    more = (
        Column(name="who", type="identifier", format="P-#####"),
        Column(name="name", type="identifier", format="name", per_unit=True, unique=True),
        Column(name="email", type="identifier", format="email"),
        Column(name="visit", type="identifier", format="uuid", unique=True),
    )
    schema = schema_of(*COLUMNS, *more)
    person = np.random.default_rng(0).permutation(np.repeat(np.arange(100), 3))
    made = {
        n: np.array(a.to_pylist())
        for n, a in Fakes(schema, 300, rng=np.random.default_rng(1)).part(300, person).items()
    }
    assert list(made) == ["who", "name", "email", "visit"]
    for name in ("who", "name", "email"):  # an e-mail address follows the name beside it
        assert all(len(set(made[name][person == n])) == 1 for n in range(100))
    assert len(set(made["who"])) == len(set(made["name"])) == 100
    assert len(set(made["visit"])) == 300
    plain = Fakes(schema_of(*COLUMNS), 300, rng=np.random.default_rng(1)).part(300, person)["who"].to_pylist()
    assert set(plain) == set(range(1, 101))
    assert all(len({plain[row] for row in np.flatnonzero(person == n)}) == 1 for n in range(100))
