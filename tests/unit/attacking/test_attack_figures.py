"""Figures that decide nothing: each against its definition, moved by a copy, and unmoved by a fresh sample."""

from __future__ import annotations

import math
from itertools import combinations, pairwise, permutations, product
from types import ModuleType
from unittest import mock

import numpy as np
import pytest

from attacks import attribute
from attacks.attribute import AttributeInference, attributed
from attacks.base import Finding, Measure
from attacks.disclosure import CUSTOMARY, disclosure
from attacks.distances import Metric, Points
from attacks.figures import compared, foremost, precision, quantiles, sorted_out
from attacks.intervals import Quantile, difference
from attacks.linkage import GAP, NAMED, Game, Linkage, Words, alike, on_a_line
from attacks.membership import Membership
from attacks.nearest_record import QUANTILES, RATIO, NearestRecord
from attacks.nearness import VOTERS, WITHIN, nearness, tolerances
from attacks.people import MISSING, People, Rows, joined, roles
from attacks.record_linkage import RecordLinkage
from attacks.suite import stream
from dpsynth import Column, PersonRecords, Records, ReviewSample, Schema

ATTACKERS = (NearestRecord(), Membership(), Linkage(), RecordLinkage(), AttributeInference())


@pytest.fixture(scope="module")
def town(tables: ModuleType) -> tuple[People, Rows]:
    """Persons with up to three rows, and a synthetic table with rows of some of them, twice."""
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(70, rng, rows=3), rng)
    again = sample.fit.records.take(np.repeat(np.arange(8), 2))
    return People.of(sample, rng=rng), Rows.of(
        tables.joined(tables.population(25, rng, rows=3).records, again)
    ).sorted()


def sides(figure: Measure | str) -> tuple[float, float]:
    assert isinstance(figure, Measure)
    assert figure.fit is not None
    assert figure.control is not None
    assert figure.estimate == pytest.approx(figure.fit.value - figure.control.value)
    assert figure.estimate in figure.interval
    assert figure.persons == figure.fit.persons + figure.control.persons
    return figure.fit.value, figure.control.value


def member(people: People) -> np.ndarray:
    return np.arange(people.fit.persons + people.control.persons) < people.fit.persons


def worst_of_each(people: People, risk: np.ndarray) -> tuple[float, float]:
    pool = joined(people.fit, people.control)
    each = np.array([risk[pool.person == who].max() for who in range(pool.persons)])
    return each[member(people)].mean(), each[~member(people)].mean()


# ---- pieces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.01, 0.05, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("persons", [1, 4, 20, 133])
def test_a_quantile_is_the_least_number_that_so_many_do_not_exceed(level: float, persons: int) -> None:
    values = np.random.default_rng(persons).integers(0, 9, persons) / 9
    found = Quantile.over_persons_at(level, values)
    assert found.value == min(v for v in values if (values <= v).mean() >= level - 1e-12)
    assert found.value in found.interval(0.95)


def test_a_quantile_of_few_persons_may_be_anything() -> None:
    ends = Quantile.over_persons_at(0.01, np.full(20, 0.5)).interval(0.95)
    assert (ends.low, ends.high) == (0.0, 0.5)


def test_speaking_of_everybody_is_a_mean() -> None:
    rng = np.random.default_rng(0)
    right, who = rng.random(60), rng.random(60) < 0.4
    spoken, mean = precision(right, rng.random(60), who, 1.0), compared(right, who)
    assert sides(spoken) == pytest.approx(sides(mean))
    assert isinstance(spoken, Measure)
    assert (spoken.interval.low, spoken.interval.high) == pytest.approx((mean.interval.low, mean.interval.high))


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 1.0])
def test_ties_at_the_last_place_are_broken_in_all_ways(share: float) -> None:
    confidence, right = np.array([3.0, 2.0, 2.0, 2.0, 1.0]), np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    places = round(5 * share)
    means = [
        right[list(order[:places])].mean()
        for order in permutations(range(5))
        if all(confidence[a] >= confidence[b] for a, b in pairwise(order))
    ]
    weights = foremost(confidence, share)
    assert weights.sum() == pytest.approx(places)
    assert right @ weights / weights.sum() == pytest.approx(np.mean(means))


def test_each_side_has_its_own_most_confident() -> None:
    rng = np.random.default_rng(1)
    right, who = np.round(rng.random(900), 2), rng.random(900) < 0.7
    confidence = rng.random(900) + who  # an attacker who is surer of all fitted persons
    figure = precision(right, confidence, who, 0.1)
    expected = []
    for side in (who, ~who):
        order = np.argsort(-confidence[side])
        places, rest = divmod(0.1 * side.sum(), 1)
        top = right[side][order]
        expected.append((top[: int(places)].sum() + rest * top[int(places)]) / (0.1 * side.sum()))
    assert sides(figure) == pytest.approx(tuple(expected))


def test_too_few_of_the_most_confident_are_no_figure() -> None:
    who = np.arange(300) < 200
    said = precision(np.ones(300), np.zeros(300), who, 0.01)
    assert said == "fewer than 10 persons are the most confident 1% of a side"
    assert sorted_out({"a": said, "b": compared(np.ones(300), who)})[1] == {"a": said}


# ---- nearest records ---------------------------------------------------------------------------------------------


def test_ratios_of_distances(town: tuple[People, Rows]) -> None:
    people, table = town
    near = nearness(people, table).closest
    ratio = np.array([1.0 if second == 0 else first / second for first, second in near[:, :2]])
    assert (near[:, 0] == 0).any()
    assert (near[:, 1] == 0).any()  # somebody's row stands there twice
    pool = joined(people.fit, people.control)
    least = np.array([ratio[pool.person == who].min() for who in range(pool.persons)])
    found = NearestRecord().run(people, table, rng=stream(0, "x")).figures
    for level in QUANTILES:
        expected = [
            np.quantile(least[side], level, method="inverted_cdf") for side in (member(people), ~member(people))
        ]
        assert sides(found[f"{RATIO}, {level:.0%} quantile"]) == pytest.approx(expected, abs=1e-8)


def test_one_synthetic_row_has_no_second(town: tuple[People, Rows]) -> None:
    people, table = town
    found = NearestRecord().run(people, table.take(np.arange(1)), rng=stream(0, "x"))
    assert (found.figures, found.omitted) == ({}, {RATIO: "the synthetic table has one row only"})


# ---- membership --------------------------------------------------------------------------------------------------


def test_a_false_positive_rate_that_so_few_cannot_teach_is_left_out(town: tuple[People, Rows]) -> None:
    found = Membership().run(*town, rng=stream(0, "x"))
    assert not any(name.startswith("TPR") for name in found.figures)
    assert set(found.omitted) == {f"TPR at FPR {rate}" for rate in (0.1, 0.01, 0.001)}
    assert "cannot teach" in found.omitted["TPR at FPR 0.1"]


# ---- linkage -----------------------------------------------------------------------------------------------------


def chances(differing: list[np.ndarray]) -> list[tuple[dict[frozenset[int], float], ...]]:
    """Every set of rows that may be named from either side, and its chance; nearest row, and the five nearest."""
    named = []
    for number in (1, NAMED):
        both = []
        for differ in differing:
            order = np.sort(differ)
            last = order[min(number, len(order)) - 1]
            sure, tied = np.flatnonzero(differ < last), np.flatnonzero(differ == last)
            draws = list(combinations(tied.tolist(), min(number, len(differ)) - len(sure)))
            both.append({frozenset([*sure.tolist(), *draw]): 1 / len(draws) for draw in draws})
        named.append(tuple(both))
    return named


@pytest.mark.parametrize(("candidates", "codes"), [(3, 2), (5, 2), (9, 2), (9, 3), (9, 9)])
def test_five_named_from_either_side_by_trying_all_draws(candidates: int, codes: int) -> None:
    rng = np.random.default_rng(candidates * codes)
    rows, table = rng.integers(codes, size=(30, 5)), rng.integers(codes, size=(candidates, 5))
    splits = np.array([[1, 1, 0, 0, 0], [0, 1, 0, 1, 1]], dtype=bool)
    game = Game.of(rows, table, splits, alike(rows, table))
    names = ("like the person", f"among {NAMED}", f"among {NAMED}, like the person")
    for row in range(30):
        like = {j for j in range(candidates) if (np.abs(rows[row] - table[j]) <= 1).all()}
        expected = np.zeros(4)
        for first in splits:
            differs = rows[row] != table
            for at, (one, other) in enumerate(chances([differs[:, first].sum(1), differs[:, ~first].sum(1)])):
                for (mine, p), (theirs, q) in product(one.items(), other.items()):
                    expected[2 * at] += p * q * bool(mine & theirs) / len(splits)
                    expected[2 * at + 1] += p * q * bool(mine & theirs & like) / len(splits)
        found = [game.same[row], *(game.further[name][row] for name in names)]
        assert found == pytest.approx([expected[0], expected[1], expected[2], expected[3]], abs=1e-8)


def unpacked(words: Words, number: int) -> np.ndarray:
    return np.unpackbits(words.view(np.uint8), axis=1)[:, :number].astype(bool)


def test_who_is_like_a_person() -> None:
    """Equal, or in the next cell of an ordered column; a gap is like a gap alone."""
    columns = (
        Column(name="n", type="integer", minimum=0, maximum=5, bins=6, missing=True),
        Column(name="o", type="ordinal", values=tuple("abcd")),
        Column(name="c", type="category", values=tuple("abcd")),
    )
    cells = np.array(list(product(range(7), range(4), range(4))))
    placed = np.stack([on_a_line(column, cells[:, at]) for at, column in enumerate(columns)], axis=1)
    found = unpacked(alike(placed, placed), len(cells))
    for i, j in product(range(len(cells)), repeat=2):
        (n, o, c), (n_too, o_too, c_too) = cells[i], cells[j]
        number = n == n_too or (6 not in (n, n_too) and abs(n - n_too) == 1)
        assert found[i, j] == (number and abs(o - o_too) <= 1 and c == c_too)
    assert GAP < -1


# ---- record linkage and disclosure -------------------------------------------------------------------------------


def test_disclosure_is_what_its_definitions_say(town: tuple[People, Rows]) -> None:
    """By loops over rows and persons; persons have several rows, and a person is as exposed as the worst of them."""
    people, table = town
    known, secret = table.places("quasi_identifier")[:2], table.places("sensitive")
    pool, fitted = joined(people.fit, people.control), member(people)
    sample = people.fit.rows.cells
    risks = {name: np.zeros(len(pool.rows)) for name in ("f", "F", "a", "b")}
    for at, (row, who) in enumerate(zip(pool.rows.cells, pool.person, strict=True)):
        same = {int(p) for other, p in zip(pool.rows.cells, pool.person, strict=True) if (other == row)[known].all()}
        in_sample = {p for p in same if fitted[p]} | {int(who)}
        there = [other for other in table.cells if (other == row)[known].all()]
        new = any(
            any(other[place] == row[place] for other in there) and (sample[:, place] == row[place]).mean() < 0.5
            for place in secret
        )
        risks["f"][at] = bool(there) / len(in_sample)
        risks["F"][at] = bool(there) / len(same)
        risks["a"][at] = new * people.fit.persons / pool.persons / len(in_sample)
        risks["b"][at] = new / len(same)
    found = disclosure(people, table, known, secret)
    figures = dict(zip(("f", "f above", "F above", "F", "identity"), found.values(), strict=True))
    assert sides(figures["f"]) == pytest.approx(worst_of_each(people, risks["f"]))
    assert sides(figures["F"]) == pytest.approx(worst_of_each(people, risks["F"]))
    assert sides(figures["f above"]) == pytest.approx(worst_of_each(people, 1.0 * (risks["f"] > CUSTOMARY)))
    assert sides(figures["F above"]) == pytest.approx(worst_of_each(people, 1.0 * (risks["F"] > CUSTOMARY)))
    a, b = (worst_of_each(people, risks[which]) for which in "ab")
    assert sides(figures["identity"]) == pytest.approx(a if a[0] > b[0] else b)
    assert 0 < b[0] < 1


def test_a_rare_person_is_as_much_at_risk_whatever_the_size_of_the_sides() -> None:
    """Everybody is drawn from the same population, and the synthetic table shows every combination."""
    column = Column(name="c", type="category", values=tuple(f"v{i}" for i in range(300)), role="quasi_identifier")
    schema = Schema(table="t", columns=(column, Column(name="s", type="boolean", role="sensitive")))
    rng = np.random.default_rng(0)

    def side(persons: int) -> PersonRecords:
        values = {"c": rng.integers(0, 300, persons), "s": rng.random(persons) < 0.2}
        records = Records(schema, {name: value.astype(np.int32) for name, value in values.items()})
        return PersonRecords(records=records, person=np.arange(persons), persons=persons)

    table = Rows.of(side(20_000).records)
    for sizes in ((3000, 600), (600, 3000)):
        people = People.of(ReviewSample(fit=side(sizes[0]), control=side(sizes[1])), rng=rng)
        for name, figure in disclosure(people, table, *roles(table)).items():
            assert isinstance(figure, Measure)
            assert abs(figure.estimate) < 0.05, (sizes, name)
            assert sides(figure)[0] > 0.005


# ---- attribute inference -----------------------------------------------------------------------------------------


def squared(queries: Points, base: Points) -> np.ndarray:
    near = ((queries.near[:, None, :].astype(np.int64) - base.near[None].astype(np.int64)) ** 2).sum(axis=2)
    wide = (queries.wide[:, None, :] != base.wide[None]).sum(axis=2)
    return np.asarray(near + queries.unit**2 * wide)


def test_votes_and_near_numbers(town: tuple[People, Rows]) -> None:
    people, table = town
    pool, secret = joined(people.fit, people.control), table.places("sensitive")
    given = [place for place in range(len(table.columns)) if place not in secret]
    metric = Metric(table)
    known, others = table.places("quasi_identifier"), table.places("other")
    assert sorted(known + others) == given
    parts = [
        squared(*(metric.points(rows, places).light(len(table.columns)) for rows in (pool.rows, table)))
        for places in (known, others)
    ]
    apart, found = parts[0] + parts[1], nearness(people, table)
    within = tolerances(people.reference.rows)
    unit = metric.points(table, known).light(len(table.columns)).unit
    assert found.given == pytest.approx(np.sqrt(apart.min(axis=1)) / unit)
    assert set(within) == {place for place in secret if table.columns[place].is_numeric}
    for place in secret:
        for row in range(len(pool.rows)):
            last = np.sort(apart[row])[VOTERS - 1]
            votes = np.bincount(table.cells[apart[row] <= last, place], minlength=table.columns[place].size)
            winners = np.flatnonzero(votes == votes.max())
            expected = (pool.rows.cells[row, place] in winners) / len(winners)
            assert found.voted[place][row] == pytest.approx(expected)
            if place in within:
                own, offered = pool.rows.values[row, place], table.values[apart[row] == apart[row].min(), place]
                close = [
                    value == own or (MISSING not in (value, own) and abs(value - own) <= within[place])
                    for value in offered
                ]
                assert found.close[place][row] == pytest.approx(np.mean(close))


def test_the_surest_are_those_with_most_votes_and_then_the_nearest(town: tuple[People, Rows]) -> None:
    people, table = town
    pool, fitted, near = joined(people.fit, people.control), member(people), nearness(people, table)
    place, rng = table.places("sensitive")[0], np.random.default_rng(0)
    guess, votes = pool.rows.cells[rng.permutation(len(pool.rows)), place], rng.integers(1, 3, len(pool.rows)) / 2
    right, confidence = np.zeros(pool.persons), []
    for who in range(pool.persons):
        rows = np.flatnonzero(pool.person == who)
        best = max((votes[row], -round(near.given[row], 9)) for row in rows)
        confidence.append(best)
        hits = [
            guess[row] == pool.rows.cells[row, place]
            for row in rows
            if (votes[row], -round(near.given[row], 9)) == best
        ]
        right[who] = np.mean(hits)
    order = sorted(set(confidence))
    ranked = np.array([order.index(one) for one in confidence], dtype=np.float64)
    with mock.patch.multiple(attribute, SUREST=(0.5,)):
        found = attribute._figures(table, pool, fitted, near, place, (guess, votes))
    expected = precision(right, ranked, fitted, 0.5)
    assert sides(found["forest, precision on the surest 50%"]) == pytest.approx(sides(expected))


def test_tolerance_is_a_part_of_the_interquartile_range(town: tuple[People, Rows]) -> None:
    reference = town[0].reference.rows
    for place, tolerance in tolerances(reference).items():
        known = [value for value in reference.values[:, place] if value != MISSING]
        assert tolerance == pytest.approx(WITHIN * (np.quantile(known, 0.75) - np.quantile(known, 0.25)))


def test_attribution_by_equal_quasi_identifiers(town: tuple[People, Rows]) -> None:
    people, table = town
    rows, known = people.fit.rows, table.places("quasi_identifier")[1:]
    for place in table.places("sensitive"):
        found = attributed(rows, table, known, place)
        for row in range(len(rows)):
            same = [other for other in table.cells if (other == rows.cells[row])[known].all()]
            expected = np.mean([other[place] == rows.cells[row, place] for other in same]) if same else 0.0
            assert found[row] == pytest.approx(expected)


# ---- all attacks -------------------------------------------------------------------------------------------------


def found(attacker: object, sample: ReviewSample, table: Records) -> Finding:
    people = People.of(sample, rng=stream(0, "p"))
    return attacker.run(people, Rows.of(table).sorted(), rng=stream(0, "x"))  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("attacker", ATTACKERS, ids=lambda attacker: attacker.id)
def test_a_copy_moves_figures_and_a_fresh_sample_does_not(tables: ModuleType, attacker: object) -> None:
    """A copy moves all of them the known way, most beyond their intervals; a fresh sample none beyond 99.9 %.

    There are about 40 figures, so a fresh seed would fail with a chance of about 4 in 100.
    """
    rng = np.random.default_rng(4)
    sample = tables.split(tables.population(2400, rng), rng)
    copy, fresh = (
        {name: figure for name, figure in found(attacker, sample, table).figures.items() if figure.fit is not None}
        for table in (sample.fit.records, tables.population(1200, rng).records)
    )
    assert copy.keys() == fresh.keys()
    moved = []
    for name, figure in copy.items():
        way = -1 if name.startswith(RATIO) else 1
        assert way * figure.estimate > 0, name
        moved.append(0 not in figure.interval)
        one, other = fresh[name].fit, fresh[name].control
        assert one is not None
        assert other is not None
        assert 0 in difference(one, other, 0.999), name
    assert np.mean(moved) > 0.7


@pytest.mark.parametrize("attacker", ATTACKERS, ids=lambda attacker: attacker.id)
def test_order_does_not_matter(tables: ModuleType, attacker: object) -> None:
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(200, rng, rows=2), rng)
    table = sample.fit.records.take(np.arange(90))

    def moved(side: PersonRecords) -> PersonRecords:
        order, names = rng.permutation(len(side.records)), rng.permutation(side.persons)
        return PersonRecords(records=side.records.take(order), person=names[side.person][order], persons=side.persons)

    other = ReviewSample(fit=moved(sample.fit), control=moved(sample.control))
    results = found(attacker, sample, table), found(attacker, other, table.take(rng.permutation(90)))
    assert results[0].figures
    assert results[0].figures == results[1].figures
    assert results[0].omitted == results[1].omitted


@pytest.mark.parametrize("attacker", ATTACKERS, ids=lambda attacker: attacker.id)
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_constants_gaps_and_few_rows_are_no_trouble(attacker: object, rows: int) -> None:
    columns = (
        Column(name="q", type="category", values=tuple("ab"), role="quasi_identifier"),
        Column(name="k", type="integer", minimum=0, maximum=9, bins=5, role="quasi_identifier"),
        Column(name="gone", type="number", minimum=0, maximum=1, bins=4, missing=True, role="sensitive"),
        Column(name="same", type="number", minimum=0, maximum=1, bins=4, role="sensitive"),
    )
    schema = Schema(table="t", columns=columns)

    def records(number: int) -> Records:
        gaps, ones = np.full(number, np.nan), np.ones(number)
        return Records(schema, {"q": np.zeros(number, np.int32), "k": 3 * ones, "gone": gaps, "same": ones / 2})

    fit, control = (PersonRecords(records=records(n), person=np.arange(n), persons=n) for n in (60, 45))
    finding = found(attacker, ReviewSample(fit=fit, control=control), records(rows))
    for name, figure in finding.figures.items():
        assert math.isfinite(figure.estimate), name
        if not name.startswith(("AUC", "identity")):
            assert figure.estimate == pytest.approx(0.0, abs=0.05), name
    if isinstance(attacker, AttributeInference):
        assert "gone, nearest row, within 5% of the interquartile range" in finding.omitted
        assert "same, nearest row, within 5% of the interquartile range" in finding.figures


def test_quantiles_compare_two_sides() -> None:
    values, who = np.concatenate([np.linspace(0, 1, 101), np.linspace(0.5, 1, 101)]), np.arange(202) < 101
    figure = quantiles(values, who, (0.25,), "x")["x, 25% quantile"]
    assert sides(figure) == (0.25, 0.625)
    assert isinstance(figure, Measure)
    assert figure.interval.high < 0
