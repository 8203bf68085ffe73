"""Whom the attack watches, how ranks become chances, and whose the ends of columns are."""

from __future__ import annotations

from itertools import combinations
from types import ModuleType

import numpy as np
import pytest

from attacks.people import MISSING, Group, People, Rows, joined
from attacks.suite import stream
from attacks.vulnerable import SHARES, Ends, Exposure, VulnerableRecords, together, unexpected
from dpsynth import Column, PersonRecords, Records, ReviewSample, Schema


def schema(*, max_rows: int | None = None) -> Schema:
    columns = (
        Column(name="a", type="number", minimum=-100, maximum=100, missing=True),
        Column(name="b", type="category", values=tuple("xyz")),
    )
    if max_rows is None:
        return Schema(table="t", columns=columns)
    return Schema(table="t", columns=columns, entity="person", unit_column="who", max_rows=max_rows)


def group(a: list[float], b: list[int], person: list[int] | None = None) -> Group:
    who = np.arange(len(a)) if person is None else np.array(person)
    records = Records(schema(max_rows=3 if person else None), {"a": np.array(a), "b": np.array(b, dtype=np.int32)})
    return Group.of(PersonRecords(records=records, person=who, persons=int(who.max()) + 1))


def ends(pool: Group, a: list[float]) -> Ends:
    return Ends.of(pool, Rows.of(Records(schema(), {"a": np.array(a), "b": np.zeros(len(a), dtype=np.int32)})))


@pytest.mark.parametrize("above", [[0, 1, 5], [2, 2, 2], [1, 1, 6], [0, 0, 0]])
def test_chance_of_high_ranks_is_counted_right(above: list[int]) -> None:
    """Three targets among six others: all 84 ways to mix them, ties with others counted against the targets."""

    def highest(places: tuple[int, ...], number: int) -> int:
        return places[number - 1] - (number - 1)  # others above the one of that number

    ways = list(combinations(range(9), 3))
    ordered = sorted(above)
    one = np.mean([highest(places, 1) <= ordered[0] for places in ways])
    three = np.mean([highest(places, 3) <= ordered[2] for places in ways])
    expected = min(1.0, one / SHARES["one"], three / SHARES["several"])
    assert together(np.array(above), 6) == pytest.approx(expected)


def test_shares_of_the_error_add_up() -> None:
    assert sum(SHARES.values()) == pytest.approx(1.0)


def test_the_most_exposed_are_watched() -> None:
    """Somebody far from all others, the only one with a category, and the one with the smallest value."""
    rng = np.random.default_rng(0)
    a = [*np.round(rng.normal(0, 5, 60), 2), 70.0, 1.5, -30.0]
    pool = group(a, [*([0, 1] * 30), 0, 2, 1])
    watched = pool.rows.values[Exposure.of(pool, rng).most_exposed(0, pool.persons), 0]
    assert {70.0, 1.5, -30.0} <= set(watched)
    assert len(watched) == len(set(watched)) == 10


def test_each_person_is_watched_once_and_few_persons_are_all_watched() -> None:
    rng = np.random.default_rng(0)
    pool = group([90.0, 91.0, -90.0, 1.0, 2.0, 3.0], [0, 1, 2, 0, 0, 0], person=[0, 0, 0, 1, 2, 3])
    rows = Exposure.of(pool, rng).most_exposed(0, pool.persons)
    assert sorted(pool.person[rows]) == [0, 1, 2, 3]


def test_a_person_does_not_keep_oneself_company() -> None:
    """Isolation against the obvious computation; one person has three equal rows far from everybody."""
    rng = np.random.default_rng(0)
    pool = group([80.0, 80.0, 80.0, *rng.normal(0, 5, 30)], [0] * 33, person=[0, 0, 0, *range(1, 31)])
    exposure = Exposure.of(pool, rng)
    where = exposure.points.near / exposure.points.unit
    apart = np.sqrt(((where[:, None] - where[None]) ** 2).sum(axis=2))
    apart[pool.person[:, None] == pool.person[None, :]] = np.inf
    expected = np.sort(apart, axis=1)[:, :5].mean(axis=1)
    assert exposure.isolation == pytest.approx(expected, abs=1e-5)
    assert pool.rows.values[np.argmax(exposure.isolation), 0] == 80.0


def test_being_alone_is_no_surprise() -> None:
    """Scores do not rise with isolation where closeness follows it; a repeated record scores highest."""
    rng = np.random.default_rng(0)
    alone = rng.gamma(2, 1, 2000)
    near = alone**0.6 * rng.lognormal(0, 0.2 + 0.1 * (alone > 2), 2000)
    near[-1], alone[-1] = 0.0, 12.0
    scores = unexpected(near, alone, learn=1999)
    assert abs(np.corrcoef(alone[:-1], scores[:-1])[0, 1]) < 0.1
    assert np.argmax(scores) == 1999


def test_identical_rows_everywhere_surprise_nobody() -> None:
    assert (unexpected(np.zeros(50), np.zeros(50), learn=40) == 0).all()


def test_ends_belong_to_those_who_reach_no_farther() -> None:
    pool = group([1.0, 2.0, 9.0, 0.0, 3.0, 8.0], [0] * 6)
    member = np.isin(pool.rows.values[:, 0], [1.0, 2.0, 9.0])
    for synthetic, shares in (([1.0, 9.0], (1.0, 0.0)), ([2.0, 9.0], (0.5, 0.0)), ([0.0, 8.0], (0.0, 1.0))):
        fit, control, _ = ends(pool, synthetic).tested(member, np.random.default_rng(0))
        assert (fit.value, control.value) == shares


def test_declared_bounds_are_public() -> None:
    pool = group([-100.0, 5.0, 100.0], [0] * 3)
    assert ends(pool, [-100.0, 100.0]).number == 0
    assert ends(pool, [-100.0, 5.0]).number == 1
    assert ends(pool, [np.nan, np.nan]).number == 0


def test_chance_of_ends_is_exact() -> None:
    """Two ends, each of one person: both are fitted with chance 3/6 * 2/5 = 1/5 when three of six are."""
    pool = group([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0] * 6)
    member = np.isin(pool.rows.values[:, 0], [1.0, 6.0, 3.0])
    fit, control, p_value = ends(pool, [1.0, 6.0]).tested(member, np.random.default_rng(0))
    assert (fit.value, control.value) == (1.0, 0.0)
    assert p_value * SHARES["ends"] == pytest.approx(0.2, abs=0.05)


def test_whom_to_watch_does_not_depend_on_the_release(tables: ModuleType) -> None:
    """The list is made from real rows alone: the function that makes it never sees a synthetic row."""
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(200, rng), rng)
    people = People.of(sample, rng=rng)
    pool = joined(people.fit, people.control)
    lists = [Exposure.of(pool, np.random.default_rng(1)).most_exposed(0, people.fit.persons) for _ in range(2)]
    assert (lists[0] == lists[1]).all()
    assert (pool.person[lists[0]] < people.fit.persons).all()


@pytest.mark.parametrize("copied", [False, True])
def test_odd_values_are_taken(copied: bool) -> None:
    """A column of gaps, a constant, ties, numbers below zero, far more persons on one side."""
    columns = (
        Column(name="gone", type="number", minimum=0, maximum=1, missing=True),
        Column(name="same", type="integer", minimum=-5, maximum=5),
        Column(name="debt", type="number", minimum=-10, maximum=0, missing=True),
        Column(name="kind", type="category", values=tuple("abc"), missing=True),
    )
    rng = np.random.default_rng(0)

    def rows(number: int) -> Records:
        return Records(
            Schema(table="odd", columns=columns),
            {
                "gone": np.full(number, np.nan),
                "same": np.zeros(number),
                "debt": np.where(rng.random(number) < 0.3, np.nan, -rng.integers(0, 10, number)),
                "kind": rng.integers(0, 4, number).astype(np.int32),
            },
        )

    fit, control = (PersonRecords(records=rows(n), person=np.arange(n), persons=n) for n in (40, 300))
    people = People.of(ReviewSample(fit=fit, control=control), rng=rng)
    table = Rows.of(fit.records if copied else rows(60)).sorted()
    finding = VulnerableRecords().run(people, table, rng=stream(0, "x"))
    assert finding.p_value is not None
    assert finding.p_value > 0.01  # so many ties that even a copy shows nobody
    assert (people.fit.rows.values[:, 1] == MISSING).sum() > 0


@pytest.mark.parametrize("rows", [1, 3])
def test_order_does_not_matter(tables: ModuleType, rows: int) -> None:
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(300, rng, rows=rows), rng)
    table = sample.fit.records.take(np.arange(80))

    def moved(side: PersonRecords) -> PersonRecords:
        order, names = rng.permutation(len(side.records)), rng.permutation(side.persons)
        return PersonRecords(records=side.records.take(order), person=names[side.person][order], persons=side.persons)

    other = ReviewSample(fit=moved(sample.fit), control=moved(sample.control))
    turned = table.take(rng.permutation(len(table)))
    results = [
        VulnerableRecords().run(People.of(who, rng=stream(0, "p")), Rows.of(rows_of).sorted(), rng=stream(0, "x"))
        for who, rows_of in ((sample, table), (other, turned))
    ]
    assert results[0] == results[1]


def test_the_register_learns_who_stood_out(tables: ModuleType) -> None:
    """Persons, not rows: of a copy, only watched persons of the fitted side."""
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(400, rng, rows=2), rng)
    people = People.of(sample, rng=rng)
    finding = VulnerableRecords().run(people, people.fit.rows, rng=stream(0, "x"))
    assert finding.exposed is not None
    fit, control = finding.exposed
    assert (len(fit), len(control)) == (people.fit.persons, people.control.persons)
    assert finding.variants["ten persons"].fit is not None
    assert fit.sum() == round(10 * finding.variants["ten persons"].fit.value)
    assert fit.sum() >= 5
    assert control.sum() <= 1
