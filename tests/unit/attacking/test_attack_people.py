"""Rows and persons in canonical order."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from attacks.people import MISSING, Group, People, Rows, fingerprints, joined, keys
from dpsynth import PersonRecords


def shuffled(sample: PersonRecords, seed: int) -> PersonRecords:
    """The same persons in another order, their rows scattered."""
    rng = np.random.default_rng(seed)
    rows, names = rng.permutation(len(sample.records)), rng.permutation(sample.persons)
    return PersonRecords(records=sample.records.take(rows), person=names[sample.person][rows], persons=sample.persons)


def people_of(tables: ModuleType, persons: int, *, control: float = 0.5) -> People:
    rng = np.random.default_rng(4)
    return People.of(tables.split(tables.population(persons, rng, rows=3), rng, control=control), rng=rng)


@pytest.mark.parametrize("control", [0.1, 0.5, 0.9])
def test_some_people_are_so_many_on_each_side(tables: ModuleType, control: float) -> None:
    people = people_of(tables, 200, control=control)
    some = people.some(31, np.random.default_rng(0))
    assert some.fit.persons == min(people.fit.persons, 31)
    assert some.control.persons == min(people.control.persons, 31)
    assert some.evaluation.persons + some.reference.persons == some.control.persons
    assert 0 <= some.evaluation.persons - some.reference.persons <= 1
    assert set(some.control.origin) == set(some.evaluation.origin) | set(some.reference.origin)
    for side in ("fit", "evaluation", "reference"):
        assert set(getattr(some, side).origin) <= set(getattr(people, side).origin)
        assert getattr(some, side).rows.values.shape[0] == len(getattr(some, side).person)
    assert people.some(200, np.random.default_rng(0)) is people


@pytest.fixture(scope="module")
def sides(tables: ModuleType) -> tuple[PersonRecords, PersonRecords]:
    rng = np.random.default_rng(3)
    sample = tables.split(tables.population(120, rng, rows=4), rng)
    return sample.fit, sample.control


def test_order_says_nothing(sides: tuple[PersonRecords, PersonRecords]) -> None:
    first = Group.of(sides[0])
    for seed in range(5):
        other = Group.of(shuffled(sides[0], seed))
        assert (other.rows.values == first.rows.values).all()
        assert (other.person == first.person).all()


def test_rows_stay_with_their_persons(sides: tuple[PersonRecords, PersonRecords]) -> None:
    def profiles(rows: Rows, person: np.ndarray) -> list[list[tuple[float, ...]]]:
        return sorted(sorted(map(tuple, rows.values[person == p].tolist())) for p in range(int(person.max()) + 1))

    group = Group.of(sides[0])
    assert profiles(group.rows, group.person) == profiles(Rows.of(sides[0].records), sides[0].person)
    assert group.persons == sides[0].persons


def test_persons_are_summed_up(sides: tuple[PersonRecords, PersonRecords]) -> None:
    group = Group.of(sides[0])
    scores = np.random.default_rng(0).normal(size=len(group.rows))
    for person in range(group.persons):
        own = scores[group.person == person]
        assert group.best(scores)[person] == own.max()
        assert group.mean(scores)[person] == pytest.approx(own.mean())
        assert group.total(scores)[person] == pytest.approx(own.sum())
        assert group.any(scores > 1)[person] == (own > 1).any()


def test_reference_and_evaluation_share_nobody(tables: ModuleType) -> None:
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(101, rng, rows=3), rng)
    people = People.of(sample, rng=np.random.default_rng(1))
    assert people.evaluation.persons + people.reference.persons == people.control.persons
    assert 0 <= people.evaluation.persons - people.reference.persons <= 1
    both = joined(people.evaluation, people.reference)
    assert sorted(map(tuple, both.rows.values)) == sorted(map(tuple, people.control.rows.values))


def test_some_persons_are_taken_whole(tables: ModuleType) -> None:
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(300, rng, rows=4), rng)
    people = People.of(sample, rng=rng).at_most(200, rng)
    assert 150 < len(people.fit.rows) < 260
    assert len(people.control.rows) == len(people.evaluation.rows) + len(people.reference.rows)
    assert people.fit.person[-1] + 1 == people.fit.persons == len(np.unique(people.fit.person))


def test_nobody(tables: ModuleType) -> None:
    sample = tables.split(tables.population(10, np.random.default_rng(0)), np.random.default_rng(0), control=0.0)
    people = People.of(sample, rng=np.random.default_rng(0))
    assert (people.control.persons, people.evaluation.persons, people.reference.persons) == (0, 0, 0)


def test_missing_numbers_equal_themselves(tables: ModuleType) -> None:
    records = tables.population(200, np.random.default_rng(0)).records
    rows = Rows.of(records)
    place = [column.name for column in rows.columns].index("balance")
    assert (np.isnan(records.columns["balance"]) == (rows.values[:, place] == MISSING)).all()
    assert [column.name for column in rows.columns] == sorted(column.name for column in rows.columns)


def test_keys_name_equal_rows() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(3, size=(50, 3)), rng.integers(3, size=(20, 3))
    ours, theirs = keys(first, second)
    for i, row in enumerate(first):
        assert ((first == row).all(axis=1) == (ours == ours[i])).all()
        assert ((second == row).all(axis=1) == (theirs == ours[i])).all()


def test_fingerprints_name_equal_combinations() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(3, size=(60, 4)), rng.integers(3, size=(20, 4))
    words = fingerprints([first, second])
    for places in ([0], [1, 3], [0, 1, 2, 3]):
        ours, theirs = (np.bitwise_xor.reduce(table[:, places], axis=1) for table in words)
        for i, row in enumerate(first):
            assert ((second[:, places] == row[places]).all(axis=1) == (theirs == ours[i])).all()
