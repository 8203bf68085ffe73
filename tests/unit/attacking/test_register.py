"""The register counts what it says, and finds a group that is more exposed than others."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from attacks import run_suite
from attacks.people import Group, People
from attacks.register import Exposed, Register
from attacks.suite import stream
from dpsynth import PersonRecords, Records, ReviewSample


def exposed(tables: ModuleType, seed: int, *, rate: float, in_group: float, name: str = "attack") -> Exposed:
    """Persons of whom a share is hit by luck on both sides, and those of region "a" on the fit side more often."""
    rng = np.random.default_rng(seed)
    sides = [Group.of(tables.side(tables.population(600, rng), np.ones(600, dtype=bool))) for _ in range(2)]
    hits = [rng.random(600) < rate for _ in sides]
    place = [column.name for column in sides[0].rows.columns].index("region")
    inside = sides[0].any(sides[0].rows.cells[:, place] == 0)
    hits[0] |= inside & (rng.random(600) < in_group)
    return Exposed(name, sides[0], sides[1], hits[0], hits[1])


def test_counts_by_hand(tables: ModuleType) -> None:
    one = exposed(tables, 0, rate=0.1, in_group=0.0)
    register = Register.of([one])
    assert [(e.fit, e.control) for e in register.everybody] == [(600, 600)]
    assert register.everybody[0].exposed_fit == one.fit_hits.sum()
    assert register.everybody[0].exposed_control == one.control_hits.sum()
    assert register.times == ((~one.fit_hits).sum(), one.fit_hits.sum())
    group = next(entry for entry in register.groups if (entry.column, entry.cell) == ("sex", "true"))
    place = [column.name for column in one.fit.rows.columns].index("sex")
    inside = one.fit.rows.cells[:, place] == 1
    assert (group.fit, group.exposed_fit) == (inside.sum(), (inside & one.fit_hits).sum())
    assert {entry.column for entry in register.groups} <= {"age", "region", "sex", "school"}  # quasi-identifiers
    assert all(min(entry.fit, entry.control) >= 20 for entry in register.groups)


def test_a_group_that_is_more_exposed_stands_out(tables: ModuleType) -> None:
    """A tenth of everybody is hit by luck, and half of region "a" because of the release."""
    register = Register.of([exposed(tables, 1, rate=0.1, in_group=0.5)])
    assert {(group.column, group.cell) for group in register.standing_out} == {("region", "a")}


@pytest.mark.slow
def test_luck_and_what_hits_everybody_alike_do_not_stand_out(tables: ModuleType) -> None:
    """60 tables with two attacks each. Correct registers fail this with a chance of 0.0007 at the stated 5 in 100."""
    alarms = 0
    for seed in range(60):
        pair = [exposed(tables, 100 + seed, rate=rate, in_group=0.0, name=str(rate)) for rate in (0.1, 0.5)]
        alarms += bool(Register.of(pair).standing_out)
    assert alarms <= 9


def test_a_skewed_base_rate_is_no_exposure(tables: ModuleType) -> None:
    """An attack that is right about region "a" on both sides tells of the population, and of nobody."""
    one = exposed(tables, 2, rate=0.1, in_group=0.0)
    place = [column.name for column in one.fit.rows.columns].index("region")
    both = [group.any(group.rows.cells[:, place] == 0) for group in (one.fit, one.control)]
    easy = Exposed("easy", one.fit, one.control, one.fit_hits | both[0], one.control_hits | both[1])
    assert not Register.of([easy]).standing_out


def test_the_suite_names_the_right_persons(tables: ModuleType) -> None:
    """Forty fitted persons of one group are copied: exact match is right about them and about nobody else."""
    rng = np.random.default_rng(3)
    sample, fresh = tables.split(tables.population(600, rng), rng), tables.population(300, rng).records
    copied = np.flatnonzero(sample.fit.records.columns["sex"] == 1)[:40]
    results = run_suite(sample, tables.joined(fresh, sample.fit.records.take(copied)))
    named = {number for number, by in results.register.persons if "exact_match" in by}
    assert named >= set(copied.tolist())
    assert len(named - set(copied.tolist())) <= 5
    groups = {(g.column, g.cell) for g in results.register.standing_out if g.attack == "exact_match"}
    assert ("sex", "true") in groups
    assert ("sex", "false") not in groups
    assert sum(results.register.times) == sample.fit.persons


def test_numbers_are_those_of_the_sample(tables: ModuleType) -> None:
    """Shuffled rows and persons with several rows: the register still points at whom the sample calls so."""
    rng = np.random.default_rng(4)
    population = tables.population(80, rng, rows=3)
    whole = tables.side(population, np.ones(80, dtype=bool))
    order = rng.permutation(len(whole.records))
    shuffled = PersonRecords(records=whole.records.take(order), person=whole.person[order], persons=80)
    group = Group.of(shuffled)
    chosen = group.take(np.arange(20, 50))
    for person in range(chosen.persons):
        mine = np.sort(chosen.rows.values[chosen.person == person], axis=0)
        theirs = Group.of(tables.side(population, np.arange(80) == chosen.origin[person])).rows.values
        assert (mine == np.sort(theirs, axis=0)).all()


def test_a_sample_of_persons_keeps_their_numbers(tables: ModuleType) -> None:
    rng = np.random.default_rng(5)
    sample = tables.split(tables.population(400, rng), rng)
    people = People.of(sample, rng=stream(0, "people")).at_most(60, stream(0, "limit"))
    assert len(people.fit.rows) <= 60
    ages = sample.fit.records.columns["age"][people.fit.origin]
    place = [column.name for column in people.fit.rows.columns].index("age")
    assert (people.fit.rows.values[:, place] == ages).all()


def test_nothing_to_register(tables: ModuleType) -> None:
    assert Register.of([]) == Register()
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(100, rng), rng)
    empty = ReviewSample(fit=sample.fit, control=sample.control)
    assert run_suite(empty, Records.empty(sample.fit.records.schema)).register == Register()


def test_labels_name_the_cells(tables: ModuleType) -> None:
    register = Register.of([exposed(tables, 6, rate=0.5, in_group=0.0)])
    cells = {(entry.column, entry.cell) for entry in register.groups}
    assert ("school", "missing") in cells
    assert ("age", "20 to 25") in cells or any(column == "age" and " to " in cell for column, cell in cells)
    assert ("sex", "false") in cells


def test_order_of_persons_does_not_matter(tables: ModuleType) -> None:
    rng = np.random.default_rng(7)
    sample, fresh = tables.split(tables.population(160, rng), rng), tables.population(80, rng).records
    moved = rng.permutation(sample.fit.persons)
    other = PersonRecords(
        records=sample.fit.records.take(moved), person=np.arange(sample.fit.persons), persons=sample.fit.persons
    )
    first = run_suite(sample, fresh).register
    second = run_suite(ReviewSample(fit=other, control=sample.control), fresh).register
    assert first.groups == second.groups
    assert {number for number, _ in first.persons} == {int(moved[number]) for number, _ in second.persons}
