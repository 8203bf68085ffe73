"""Marginals, the least-squares problem and its solution, against slow and obvious ones."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import lsq_linear

from attacks.people import Group, People, Rows
from attacks.reconstruction import Bit, Marginals, Reconstruction, within_bounds
from attacks.suite import stream
from dpsynth import Column, PersonRecords, Records, ReviewSample, Schema

QUASI, SECRET = "quasi_identifier", "sensitive"
SCHEMA = Schema(
    table="t",
    columns=(
        Column(name="a", type="category", values=tuple("0123456789"), role=QUASI),
        Column(name="b", type="category", values=tuple("0123456789"), role=QUASI),
        Column(name="c", type="category", values=tuple("0123456789"), role=QUASI),
        Column(name="s", type="category", values=("no", "yes"), role=SECRET),
        Column(name="w", type="number", minimum=0, maximum=80, bins=8, missing=True, role=SECRET),
    ),
)
KNOWN = [0, 1, 2]


def rows(number: int, rng: np.random.Generator) -> Records:
    columns: dict[str, np.ndarray] = {name: rng.integers(0, 10, number).astype(np.int32) for name in "abc"}
    columns["s"] = rng.integers(0, 2, number).astype(np.int32)
    columns["w"] = np.where(rng.random(number) < 0.1, np.nan, rng.uniform(0, 80, number))
    return Records(SCHEMA, columns)


def persons(records: Records) -> PersonRecords:
    return PersonRecords(records=records, person=np.arange(len(records)), persons=len(records))


def test_bounds_are_kept_and_the_optimum_is_found() -> None:
    rng = np.random.default_rng(0)
    matrix = sparse.random(80, 40, density=0.2, random_state=0, format="csr")
    matrix.data[:] = rng.uniform(0.2, 1, len(matrix.data))
    answers = np.stack([matrix @ rng.integers(0, 2, 40) + rng.normal(0, 0.3, 80) for _ in range(2)], axis=1)
    found = within_bounds(matrix, answers, np.full((40, 2), 0.5))
    assert found.min() >= 0
    assert found.max() <= 1
    for mine, wanted in zip(found.T, answers.T, strict=True):
        best = lsq_linear(matrix.toarray(), wanted, bounds=(0, 1)).cost
        assert 0.5 * np.sum((matrix @ mine - wanted) ** 2) == pytest.approx(best, rel=0.01)


def test_where_nothing_is_asked_nothing_moves() -> None:
    start = np.full((3, 1), 0.3)
    assert (within_bounds(sparse.csr_matrix((0, 3)), np.zeros((0, 1)), start) == start).all()


def test_queries_ask_for_what_the_table_says() -> None:
    """Each row of the problem, once more by a loop over cells."""
    rng = np.random.default_rng(0)
    table, users = Rows.of(rows(60, rng)), Rows.of(rows(25, rng))
    bits = [Bit.of(table, 3)]
    marginals = Marginals.of(table, KNOWN, bits, rng)
    matrix, answers = marginals._queries(users)
    expected = []
    for chosen in marginals.sets:
        for cell in np.unique(users.cells[:, chosen], axis=0):
            mine = (users.cells[:, chosen] == cell).all(axis=1)
            theirs = (table.cells[:, chosen] == cell).all(axis=1)
            if theirs.any():
                weight = np.sqrt(theirs.sum()) / mine.sum()
                yes = bits[0].of_rows(table)[theirs].mean()
                expected.append([*(weight * mine), weight * mine.sum() * yes])
    found = np.concatenate([matrix.toarray(), answers], axis=1)
    order = [np.lexsort(np.round(table, 9).T) for table in (found, np.array(expected))]
    assert found[order[0]] == pytest.approx(np.array(expected)[order[1]])


def test_facts_are_as_even_as_they_can_be() -> None:
    table = Rows.of(rows(400, np.random.default_rng(0)))
    for place in (3, 4):
        share = Bit.of(table, place).of_rows(table).mean()
        assert abs(share - 0.5) < 0.1
    assert not Bit.of(table, 3).ordered
    assert Bit.of(table, 4).ordered


def test_the_marginals_of_a_copy_give_secrets_away() -> None:
    """Persons with three quasi-identifiers of ten values: 330 equations for 100 of them settle nearly everything."""
    rng = np.random.default_rng(0)
    sample = ReviewSample(fit=persons(rows(100, rng)), control=persons(rows(100, rng)))
    people = People.of(sample, rng=rng)
    finding = Reconstruction().run(people, people.fit.rows, rng=stream(0, "x"))
    assert finding.variants["s"].fit is not None
    assert finding.variants["s"].control is not None
    assert finding.variants["s"].fit.value > 0.9
    assert 0.3 < finding.variants["s"].control.value < 0.7
    assert finding.p_value is not None
    assert finding.p_value < 0.01


@pytest.mark.parametrize(("fitted", "held"), [(150, 40), (40, 150)])
def test_both_sums_have_equally_many_persons(fitted: int, held: int) -> None:
    """A fact that follows from nothing is guessed right as often on either side, however unequal they are."""
    rng = np.random.default_rng(1)
    sample = ReviewSample(fit=persons(rows(fitted, rng)), control=persons(rows(held, rng)))
    finding = Reconstruction().run(People.of(sample, rng=rng), Rows.of(rows(100, rng)), rng=stream(0, "x"))
    for measure in finding.variants.values():
        assert measure.persons == 2 * min(fitted, held)
        assert 0.0 in measure.interval


@pytest.mark.parametrize("role", [QUASI, "other"])
def test_without_two_kinds_of_columns_there_is_nothing_to_reconstruct(role: str) -> None:
    schema = Schema(table="t", columns=(Column(name="a", type="boolean", role=role),))
    records = Records(schema, {"a": np.array([0, 1], dtype=np.int32)})
    people = People.of(ReviewSample(fit=persons(records), control=persons(records)), rng=np.random.default_rng(0))
    finding = Reconstruction().run(people, people.fit.rows, rng=stream(0, "x"))
    assert finding.gap is not None
    assert finding.gap.status == "not_applicable"


def test_values_that_nobody_else_has_are_no_obstacle() -> None:
    """Users whose cells the synthetic table does not show, and a secret that is always the same."""
    rng = np.random.default_rng(0)
    records = rows(50, rng)
    table = Records(SCHEMA, {**records.columns, "a": np.zeros(50, dtype=np.int32), "s": np.zeros(50, dtype=np.int32)})
    sample = ReviewSample(fit=persons(rows(50, rng)), control=persons(rows(50, rng)))
    finding = Reconstruction().run(People.of(sample, rng=rng), Rows.of(table), rng=stream(0, "x"))
    assert finding.p_value is not None
    assert finding.p_value > 0.01


@pytest.mark.parametrize("persons_rows", [1, 3])
def test_order_does_not_matter(tables: ModuleType, persons_rows: int) -> None:
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(200, rng, rows=persons_rows), rng)
    table = sample.fit.records.take(np.arange(60))

    def moved(side: PersonRecords) -> PersonRecords:
        order, names = rng.permutation(len(side.records)), rng.permutation(side.persons)
        return PersonRecords(records=side.records.take(order), person=names[side.person][order], persons=side.persons)

    other = ReviewSample(fit=moved(sample.fit), control=moved(sample.control))
    results = [
        Reconstruction().run(People.of(who, rng=stream(0, "p")), Rows.of(of).sorted(), rng=stream(0, "x"))
        for who, of in ((sample, table), (other, table.take(rng.permutation(60))))
    ]
    assert results[0] == results[1]


def test_a_person_with_several_rows_counts_once() -> None:
    rng = np.random.default_rng(0)
    schema = Schema(table="t", columns=SCHEMA.columns, entity="person", unit_column="who", max_rows=4)
    records = Records(schema, rows(40, rng).columns)
    group = Group.of(PersonRecords(records=records, person=np.repeat(np.arange(10), 4), persons=10))
    bits = [Bit.of(group.rows, 3)]
    right = Marginals.of(group.rows, KNOWN, bits, rng).right(group, bits)
    assert right.shape == (10, 1)
