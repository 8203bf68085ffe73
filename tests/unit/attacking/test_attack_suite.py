"""What the suite does at its edges, and the rules by which results are judged."""

from __future__ import annotations

import math
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from types import ModuleType
from unittest import mock

import numpy as np
import pytest

from attacks import (
    ATTACKS,
    AttackResult,
    Interval,
    Measure,
    PositiveControl,
    Rate,
    linkage,
    nearness,
    reconstruction,
    record_linkage,
    run_suite,
)
from attacks.base import Attack, Finding, Gap, excess, holm
from attacks.ceilings import Unproven
from attacks.people import People, Rows
from attacks.suite import CROWDED, STARTED, SuiteResult, _controlled, _Leaky, _Room
from dpsynth import Column, Cost, PersonRecords, Records, ReviewSample, Schema, tpr_bound
from dpsynth.cli.attack import _item, _sentence
from reports.collect import advised, review_evidence
from reports.policy import Policy
from reports.render.numbers import number


def measured(**changes: object) -> AttackResult:
    """A result that found nothing with plenty of persons."""
    fit, control = (Rate(value=0.02, trials=n, persons=n) for n in (4000, 3000))
    interval = Interval(low=-0.01, high=0.01, confidence=0.95)
    seen = PositiveControl(
        estimate=0.9, interval=Interval(low=0.8, high=1.0, confidence=0.95), p_value=0.001, detected=True
    )
    attack = ATTACKS["exact_match"]
    result = AttackResult(
        id=attack.id,
        criterion=attack.criterion,
        threat=attack.threat,
        measure=attack.measure,
        status="measured",
        estimate=0.0,
        interval=interval,
        fit=fit,
        control=control,
        positive_control=seen,
        n=7000,
        p_value=0.5,
        p_adjusted=1.0,
    )
    return replace(result, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "high", "missing"), [(0.0, 1e39, False), pytest.param(-1e300, 1e300, True, marks=pytest.mark.slow)]
)
def test_numbers_may_be_as_large_as_a_file_can_hold(low: float, high: float, missing: bool) -> None:
    """Above 3.4e38 there is no float32; and nothing may be said on stderr on the way."""
    columns = (
        Column(name="x", type="number", minimum=low, maximum=high, bins=8, role="sensitive", missing=missing),
        Column(name="g", type="category", values=("a", "b", "c"), role="quasi_identifier"),
    )
    schema = Schema(table="t", columns=columns)

    def persons(seed: int) -> PersonRecords:
        rng = np.random.default_rng(seed)
        x = np.where(rng.random(200) < 0.3, high, high / 1000) * rng.random(200)
        x = np.where(rng.random(200) < 0.5, x, np.maximum(-x, low))
        x[rng.random(200) < (0.1 if missing else 0.0)] = np.nan
        records = Records(schema, {"x": x, "g": rng.integers(0, 3, 200).astype(np.int32)})
        return PersonRecords(records=records, person=np.arange(200), persons=200)

    fit, control = persons(1), persons(2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        suite = run_suite(ReviewSample(fit=fit, control=control), fit.records, seed=0)
    assert all(result.estimate is not None and math.isfinite(result.estimate) for result in suite)
    assert "exact_match" in suite.leaks


def test_nothing_found_passes_when_the_interval_is_narrow() -> None:
    assert measured().judge(at_most=0.02) == "pass"
    assert measured().judge(at_most=0.005) == "incomplete"


def test_a_leak_fails_unless_it_is_tolerated() -> None:
    leak = measured(estimate=0.05, interval=Interval(low=0.03, high=0.07, confidence=0.95), p_adjusted=0.01)
    assert leak.leak
    assert leak.judge(at_most=0.1) == "fail"
    assert leak.judge(at_most=0.1, tolerance=0.04) == "pass"


def test_significance_alone_is_no_leak_and_neither_is_an_interval() -> None:
    assert not measured(p_adjusted=0.01).leak
    assert not measured(interval=Interval(low=0.01, high=0.07, confidence=0.95), p_adjusted=0.2).leak


def test_a_hole_is_a_leak_where_both_directions_count() -> None:
    hole = measured(
        two_sided=True, chance=0.5, estimate=0.2, interval=Interval(low=0.1, high=0.3, confidence=0.95), p_adjusted=0.01
    )
    assert hole.leak
    assert hole.judge(at_most=0.6) == "fail"
    assert not replace(hole, two_sided=False).leak


def test_an_attack_that_can_only_fail_never_passes() -> None:
    assert measured(fail_only=True).judge(at_most=1.0) == "incomplete"


def test_a_blind_attack_never_passes() -> None:
    seen = measured().positive_control
    assert seen is not None
    assert measured(positive_control=replace(seen, detected=False)).judge(at_most=1.0) == "incomplete"
    assert measured(positive_control=None).judge(at_most=1.0) == "incomplete"


def test_what_was_not_measured_is_not_judged() -> None:
    assert measured(status="incomplete").judge(at_most=1.0) == "incomplete"
    assert measured(status="not_applicable").judge(at_most=1.0) == "not_applicable"


def test_more_control_persons_count_those_who_are_not_judged(tables: ModuleType) -> None:
    """Membership judges half of them; so do torn columns, of whom nobody says so but the numbers."""
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(400, rng), rng)
    results = run_suite(sample, tables.population(300, rng).records)
    result = results["membership"]
    assert result.estimate is not None
    assert result.control is not None
    narrow = result.estimate + 0.03
    more = result.more_control_persons(at_most=narrow)
    assert more is not None
    assert more > 100
    assert result.judge(at_most=narrow) == "incomplete"
    assert result.controls == sample.control.persons == pytest.approx(2 * result.control.persons, abs=1)
    half = replace(result, controls=result.control.persons).more_control_persons(at_most=narrow)
    assert half == pytest.approx(more / 2, rel=0.02)  # halves of an odd number differ
    torn = results["linkage"].measures[linkage.WORST].control
    assert torn is not None
    assert torn.persons == sample.control.persons // 2


def advice(result: AttackResult) -> str | None:
    """What the internal review says, at the command line and inside a release."""
    found = advised(SuiteResult(results=(result,), seed=0), Policy.load("internal-test"))
    evidence = review_evidence(found, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert evidence.value(f"review.{result.id}.needs") == found[result.id].needs
    return found[result.id].needs


def test_figures_stand_in_the_internal_evidence_with_both_sides_and_reasons() -> None:
    sides = (Rate(value=0.3, trials=90, persons=90), Rate(value=0.2, trials=60, persons=60))
    alone = Measure(estimate=0.6, interval=Interval(low=0.5, high=0.7, confidence=0.95), chance=0.5, persons=150)
    judged = excess(*sides)
    result = measured(
        measures={"judged": judged, "both": judged, "AUC": alone}, variants=("judged",), omitted={"none": "too few"}
    )
    assert list(result.figures) == ["both", "AUC"]
    found = SuiteResult(results=(result,), seed=0)
    evidence = review_evidence(found, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    both, area, none = evidence.rows("review.exact_match.figures")
    assert {leaf.cls for row in (both, area, none) for leaf in row.values()} == {"P3"}
    assert [row["name"].value for row in (both, area, none)] == ["both", "AUC (0.5 if nothing leaked)", "none"]
    for side, rate in zip(("attack", "control"), sides, strict=True):
        ends = rate.interval(0.95)
        assert (both[side].value, both[side].low, both[side].high) == (rate.value, ends.low, ends.high)
        assert both[side].n == rate.persons
        assert side not in area
    assert (both["value"].value, both["value"].low) == (judged.estimate, judged.interval.low)
    assert (area["value"].value, none["value"].value, none["value"].missing) == (0.6, None, "too few")
    assert "review" not in evidence.shareable().tree


@pytest.mark.parametrize(("persons", "needed"), [(60, True), (3000, False)])
def test_a_review_says_how_many_more_persons_a_policy_needs(persons: int, needed: bool) -> None:
    """With about so many, the same rates pass."""

    def result(persons: int) -> AttackResult:
        fit, control = (Rate(value=0.5, trials=n, persons=n) for n in (4000, persons))
        measure = excess(fit, control)
        return measured(interval=measure.interval, measures={"x": measure}, variants=("x",), controls=persons)

    said = advice(result(persons))
    assert (said is not None) == needed
    if said is not None:
        assert said.endswith("to tell whether it stays within 0.1")
        more = int(said.split()[2].replace(",", ""))
        assert result(persons).judge(at_most=0.1) == "incomplete"
        assert result(persons + more).judge(at_most=0.1) == "pass"
        assert result(persons + more // 2).judge(at_most=0.1) == "incomplete"
        assert advice(result(persons + more)) is None


SIDES = ((0.40, 0.36, 300), (0.6, 0.4, 10))


@pytest.mark.parametrize(
    ("estimate", "low", "most", "words"),
    [
        (
            0.21,
            0.0999,
            math.inf,
            "needs about 6 more control persons, and as many more fitted ones in proportion, to tell whether a leaky",
        ),
        (0.21, 0.08, math.inf, "needs about 1,191 more control persons"),
        (0.21, 0.08, 4500.0, "looks at too few persons to tell whether a leaky copy stays within 0.1"),
        (0.09, 0.05, math.inf, "even a leaky copy stays within 0.1"),
        (0.1000001, 0.08, math.inf, "however many there are"),
        (0.21, 0.11, math.inf, None),
    ],
)
def test_a_threshold_that_a_leaky_copy_would_keep_passes_nothing(
    estimate: float, low: float, most: float, words: str | None
) -> None:
    copy = PositiveControl(
        estimate=estimate, interval=Interval(low=low, high=0.3, confidence=0.95), p_value=0.001, detected=True
    )
    fit, control = (Rate(value=0.02, trials=n, persons=n) for n in (4000, 3000))
    measure = excess(fit, control).limited(most, most)
    result = measured(
        interval=measure.interval, measures={"x": measure}, variants=("x",), controls=3000, positive_control=copy
    )
    assert result.judge(at_most=0.1) == ("pass" if words is None else "incomplete")
    said = advice(result)
    assert (said is None) == (words is None)
    assert words is None or words in str(said)


def test_persons_who_are_beyond_the_threshold_in_one_way_are_not_asked_for_again() -> None:
    pairs = {"x": (0.02, 0.02), "y": (0.5, 0.37)}
    measures = {
        name: excess(*(Rate(value=value, trials=40, persons=40) for value in values)) for name, values in pairs.items()
    }
    result = measured(interval=measures["y"].interval, measures=measures, variants=("x", "y"), controls=40)
    assert result.judge(at_most=0.1) == "incomplete"
    assert "needs other persons" in str(advice(result))
    assert advice(replace(result, estimate=0.13)) is None, "the gate fails it"
    assert advice(replace(result, p_adjusted=0.001, interval=Interval(low=0.02, high=0.3, confidence=0.95))) is None


def test_the_larger_of_two_needs_is_named() -> None:
    """The attack itself lacks some persons, and its leaky copy many; or the other way round."""
    fit, control = (Rate(value=0.5, trials=n, persons=n) for n in (4000, 400))
    measure = excess(fit, control)

    def said(low: float) -> tuple[int, str]:
        interval = Interval(low=low, high=0.3, confidence=0.95)
        copy = PositiveControl(estimate=0.2, interval=interval, p_value=0.001, detected=True)
        result = measured(
            interval=Interval(low=-0.1, high=0.12, confidence=0.95),
            measures={"x": measure},
            variants=("x",),
            controls=400,
            positive_control=copy,
        )
        words = str(result.advice(at_most=measure.interval.high - 0.02))
        return int(words.split()[2].replace(",", "")), words

    few, many = said(0.19), said(-0.3)
    assert 0 < few[0] < many[0]
    assert few[1].endswith(f"to tell whether it stays within {measure.interval.high - 0.02:g}")
    assert "to tell whether a leaky copy stays" in many[1]


def test_figures_that_decide_nothing_do_not_count_for_how_many_persons_are_needed() -> None:
    judged, figure = (
        excess(Rate(value=f, trials=n, persons=n), Rate(value=c, trials=n, persons=n)) for f, c, n in SIDES
    )
    alone = measured(interval=judged.interval, measures={"x": judged}, variants=("x",), controls=300)
    both = replace(alone, measures={"x": judged, "precision": figure})
    assert (alone.more_control_persons(at_most=0.1) or 0) > 1000
    assert both.more_control_persons(at_most=0.1) == alone.more_control_persons(at_most=0.1)


@pytest.mark.parametrize(("most", "words"), [(math.inf, "needs about"), (9000.0, "too few persons to tell")])
def test_nobody_is_sent_for_persons_whom_the_attack_would_not_look_at(most: float, words: str) -> None:
    fit, control = (Rate(value=value, trials=4000, persons=4000) for value in (0.46, 0.37))
    measure = excess(fit, control).limited(most, most)
    result = measured(interval=measure.interval, measures={"x": measure}, variants=("x",), controls=4000)
    assert (result.more_control_persons(at_most=0.1) is None) == (most < math.inf)
    said = advice(result)
    assert said is not None
    assert words in said


def test_advice_asks_for_fitted_persons_where_no_more_control_persons_are_looked_at() -> None:
    fit, control = (Rate(value=0.5, trials=n, persons=n) for n in (150, 5000))
    measure = excess(fit, control).limited(math.inf, 5000.0)
    result = measured(interval=measure.interval, measures={"x": measure}, variants=("x",), controls=5000)
    assert measure.interval.high > 0.07
    assert result.more_control_persons(at_most=0.07) is None
    assert "needs more fitted persons" in (result.advice(at_most=0.07) or "")
    assert "however many" in (
        replace(result, measures={"x": measure.limited(160.0, 5000.0)}).advice(at_most=0.07) or ""
    )


ENOUGH = {"reconstruction": 5000, "record_linkage": 4000, "membership": 10_000, "exact_match": None}


@pytest.mark.parametrize("attack", ENOUGH)
@pytest.mark.parametrize("rows", [1, 5])
def test_advice_ends_where_an_attack_looks_at_a_random_part(attack: str, rows: int) -> None:
    """Of any number of persons: what it says to bring, it looks at."""
    limit = ENOUGH[attack]

    def room(fit: int, control: int) -> _Room:
        people = mock.Mock()
        for side, persons in (("fit", fit), ("control", control)):
            setattr(people, side, mock.Mock(persons=persons, rows=range(persons * rows)))
        return _Room.of(attack, people)

    few = room(400, 100).more()
    assert few == "needs about 300 more control persons, and as many more fitted ones in proportion"
    if limit is None:
        assert room(10**6, 10**6).more().startswith("needs about 3,000,000 more control persons")
        return
    most = limit // rows
    last = room(100, most - most // 10).more().replace(",", "")
    assert last.startswith(f"needs about {most // 10} more control persons")
    assert room(most, 50).more() == "needs about 150 more control persons"
    assert room(50, 2 * most).more() == "needs about 150 more fitted persons"
    assert "however many there are" in room(most, 2 * most).more()
    measure = excess(*(Rate(value=0.5, trials=n, persons=n) for n in (most, most // 2)))
    limits = room(most, most // 2).limits(measure)
    assert limits.fit is not None
    assert limits.control is not None
    assert (limits.fit.most, limits.control.most) == (most, pytest.approx(most, abs=1))


def test_an_attack_looks_at_no_more_rows_than_its_limit(tables: ModuleType) -> None:
    """The limits of which advice is given are those of the attacks: twice the persons, and no more are judged."""
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(1200, rng), rng)
    people, table = People.of(sample, rng=rng), Rows.of(tables.population(200, rng).records).sorted()
    with (
        mock.patch.object(record_linkage, "MOST_ROWS", 200),
        mock.patch.object(reconstruction, "MOST_USERS", 200),
        mock.patch.object(linkage, "TARGETS", 100),
    ):
        for name in ("record_linkage", "reconstruction", "linkage"):
            found = ATTACKS[name].run(people, table, rng=np.random.default_rng(1))
            for variant, measure in found.variants.items():
                assert measure.fit is not None
                assert measure.control is not None
                judged = (measure.fit.persons, measure.control.persons)
                if name == "linkage" and variant not in (linkage.TORN, linkage.WORST):
                    assert judged == (people.fit.persons, people.control.persons)
                    continue
                assert max(judged) <= 200
                if name == "linkage":
                    assert judged == (100, 100)
                    assert (measure.fit.most, measure.control.most) == (measure.fit.trials, measure.control.trials)


def test_ten_persons_stay_ten_however_many_there_are(tables: ModuleType) -> None:
    """Who is sent for more persons would find the same ten trials, and as many ends of columns as before."""
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(400, rng), rng)
    found = run_suite(sample, tables.population(300, rng).records)["vulnerable_records"]
    assert found.status == "measured"
    assert found.estimate is not None
    said = found.advice(at_most=found.estimate + 0.01)
    assert said is not None
    assert "however many there are" in said


def test_holm_as_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


# ---- edges -------------------------------------------------------------------------------------------------------


def test_results_come_in_a_fixed_order_with_progress(tables: ModuleType) -> None:
    rng = np.random.default_rng(1)
    sample = tables.split(tables.population(160, rng), rng)
    heard: list[str] = []
    results = run_suite(sample, sample.fit.records, progress=heard.append)
    assert heard == list(STARTED)
    assert [result.id for result in results] == list(ATTACKS)
    assert sorted(STARTED) == sorted(ATTACKS)
    assert {result.status for result in results if result.id != "vulnerable_records"} == {"measured"}
    assert "more control persons" in (results["vulnerable_records"].needs or "")  # ranks among 80 say too little
    assert set(results.leaks) >= {"exact_match", "nearest_record", "membership", "linkage"}
    assert results["linkage"].criterion == "linkability"


def test_same_seed_same_result(tables: ModuleType) -> None:
    rng = np.random.default_rng(2)
    sample, fresh = tables.split(tables.population(160, rng), rng), tables.population(90, rng).records
    assert run_suite(sample, fresh, seed=5) == run_suite(sample, fresh, seed=5)
    first, other = (tables.found(sample, fresh, seed=seed, only=("membership",)) for seed in (5, 6))
    assert first != other


@pytest.mark.parametrize(("fit", "control", "needs"), [(0, 0, "fitted"), (1, 60, "fitted"), (60, 1, "39 more control")])
def test_too_few_persons_are_incomplete(tables: ModuleType, fit: int, control: int, needs: str) -> None:
    rng = np.random.default_rng(0)
    sides = [tables.side(tables.population(100, rng), np.arange(100) < size) for size in (fit, control)]
    for result in run_suite(ReviewSample(fit=sides[0], control=sides[1]), tables.population(50, rng).records):
        assert result.status == "incomplete"
        assert result.needs is not None
        assert needs in result.needs
        assert result.estimate is result.interval is result.p_value is None
        assert result.judge(at_most=1.0) == "incomplete"


def test_no_synthetic_rows_are_incomplete(tables: ModuleType) -> None:
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(200, rng), rng)
    for result in run_suite(sample, Records.empty(sample.fit.records.schema)):
        assert result.status == "incomplete"
        assert "no rows" in result.note


@pytest.mark.parametrize("rows", [1, 2])
def test_hardly_any_synthetic_rows_are_no_trouble(tables: ModuleType, rows: int) -> None:
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(200, rng), rng)
    results = run_suite(sample, tables.population(rows, rng).records)
    assert not results.leaks


def one_column(column: Column, values: np.ndarray) -> tuple[ReviewSample, Records]:
    """Persons with one row of one column, half of them fitted, and as many synthetic rows."""
    schema = Schema(table="t", columns=(column,))
    third = len(values) // 3
    tables = [
        Records(schema, {column.name: part})
        for part in (values[:third], values[third : 2 * third], values[2 * third :])
    ]
    fit, control = (PersonRecords(records=t, person=np.arange(third), persons=third) for t in tables[:2])
    return ReviewSample(fit=fit, control=control), tables[2]


@pytest.mark.parametrize("kind", ["constant", "number", "category", "missing"])
def test_one_column_is_no_trouble(kind: str) -> None:
    rng = np.random.default_rng(0)
    number = Column(name="x", type="number", minimum=-1, maximum=1, missing=True)
    cases = {
        "constant": (Column(name="x", type="category", values=("a",)), np.zeros(300, dtype=np.int32)),
        "number": (number, rng.uniform(-1, 1, size=300)),
        "category": (
            Column(name="x", type="category", values=tuple("abc")),
            rng.integers(3, size=300).astype(np.int32),
        ),
        "missing": (number, np.full(300, np.nan)),
    }
    results = run_suite(*one_column(*cases[kind]))
    assert not results.leaks
    assert results["linkage"].status == "not_applicable"
    assert results["attribute_inference"].status == "not_applicable"


def test_two_columns_without_roles(tables: ModuleType) -> None:
    rng = np.random.default_rng(0)
    schema = Schema(table="t", columns=tuple(Column(name=n, type="number", minimum=0, maximum=1) for n in "ab"))
    rows = Records(schema, {n: rng.random(300) for n in "ab"})
    person = np.arange(150)
    fit, control = (
        PersonRecords(records=rows.take(part), person=person, persons=150) for part in (person, person + 150)
    )
    leaky = run_suite(ReviewSample(fit=fit, control=control), fit.records)
    assert {result.status for result in leaky} == {"measured"}
    assert set(leaky.leaks) >= {"exact_match", "nearest_record", "membership", "linkage"}


def test_one_complete_record_is_listed_whatever_the_p_value_says(tables: ModuleType) -> None:
    """B7b: statistics cannot see one leaked record; a person has to be told of it all the same."""
    rng = np.random.default_rng(0)
    sample, fresh = tables.split(tables.population(400, rng), rng), tables.population(200, rng).records
    one = tables.joined(fresh, sample.fit.records.take(np.array([0])))
    honest, leaky = (tables.found(sample, table, only=("exact_match",))["exact_match"] for table in (fresh, one))
    assert honest.warning == ""
    assert "1 complete record" in leaky.warning
    assert leaky.p_value > 0.05
    assert leaky.figures["unique copies"].estimate == pytest.approx(1 / sample.fit.persons)


def test_a_copy_of_the_control_is_no_leak_but_a_warning(tables: ModuleType) -> None:
    """B18: one-sided attacks stay silent, and say that the control was used."""
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(400, rng), rng)
    results = run_suite(sample, sample.control.records)
    assert set(results.leaks) <= {"nearest_record"}  # this one looks both ways
    assert "the control may have been used" in results["exact_match"].note
    for name in ("exact_match", "linkage", "attribute_inference"):
        assert results[name].estimate is not None
        assert results[name].p_value > 0.05


def test_the_positive_control_is_what_it_says(tables: ModuleType) -> None:
    """It sees the leak, and an attack on a table in which nobody differs sees nothing in it and says so."""
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(300, rng), rng)
    for result in run_suite(sample, tables.population(150, rng).records):
        assert result.positive_control is not None
        assert result.positive_control.detected, result.id
    schema = Schema(table="t", columns=tuple(Column(name=n, type="boolean") for n in "ab"))
    alike = Records(schema, {n: rng.integers(2, size=200).astype(np.int32) for n in "ab"})
    person = np.arange(100)
    fit, control = (
        PersonRecords(records=alike.take(part), person=person, persons=100) for part in (person, person + 100)
    )
    for result in run_suite(ReviewSample(fit=fit, control=control), alike.take(person)):
        assert result.status == "incomplete"
        assert result.note
        assert result.judge(at_most=1.0) == "incomplete"


def test_large_tables_are_attacked_through_a_sample(tables: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attacks.suite.MOST_ROWS", 150)
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(800, rng, rows=3), rng)
    results = run_suite(sample, sample.fit.records)
    assert results["nearest_record"].trials == 150
    assert results["exact_match"].n == 800
    assert "exact_match" in results.leaks
    assert "nearest_record" in results.leaks


@pytest.mark.parametrize("rows", [100, 400])
def test_large_crowds_are_attacked_through_a_sample_in_the_leaky_copy_too(
    tables: ModuleType, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    """However small the table under attack is: what more persons show is not what so many would have shown."""
    monkeypatch.setattr("attacks.suite.MOST_ROWS", 150)
    monkeypatch.setattr("attacks.suite.ATTACKS", {name: ATTACKS[name] for name in ("exact_match", "nearest_record")})
    monkeypatch.setattr("attacks.suite.STARTED", ("nearest_record", "exact_match"))
    asked: dict[str, list[int]] = {}

    def spied(attack: Attack, leaky: _Leaky, seed: int) -> PositiveControl | None:
        asked[attack.id] = [side.persons for side in (leaky.people.fit, leaky.people.control)]
        return _controlled(attack, leaky, seed)

    monkeypatch.setattr("attacks.suite._controlled", spied)
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(800, rng), rng)
    run_suite(sample, tables.population(rows, rng).records)
    assert max(asked["nearest_record"]) == 150
    assert sum(asked["exact_match"]) == 800


# ---- positive controls, and two attacks at a time ----------------------------------------------------------------


def without_controls(results: SuiteResult) -> list[AttackResult]:
    return [replace(result, positive_control=None) for result in results]


def controls(results: SuiteResult) -> list[PositiveControl | None]:
    return [result.positive_control for result in results]


@pytest.fixture(scope="module")
def town(tables: ModuleType) -> tuple[ReviewSample, Records]:
    rng = np.random.default_rng(7)
    return tables.split(tables.population(420, rng), rng), tables.population(300, rng).records


def test_a_small_control_asks_about_a_choice_of_persons(tables: ModuleType) -> None:
    """The leaky table stays as dense as the one under attack."""
    rng = np.random.default_rng(0)
    people = People.of(tables.split(tables.population(6000, rng, rows=2), rng), rng=rng)
    leaky = _Leaky(people, Rows.of(tables.population(4000, rng).records), 0)
    for attack, persons in (("linkage", 1000), ("vulnerable_records", 2500)):
        assert leaky.some(attack).fit.persons == leaky.some(attack).control.persons == persons
    assert leaky.some("linkage") is leaky.some("membership")
    assert leaky.table is leaky.table
    assert len(leaky.table) == 4000
    rows = {row.tobytes() for row in people.fit.rows.values}
    assert all(row.tobytes() in rows for row in leaky.table.values)


def test_in_a_crowd_nobody_is_alone_though_some_of_it_are(tables: ModuleType) -> None:
    """Why a copy of a part of the persons is no control: in a few hundred combinations of values that part is unique."""
    rng = np.random.default_rng(1)
    sizes, persons = (8, 8, 8), 900
    columns = tuple(
        Column(name=f"c{i}", type="category", values=tuple(map(str, range(size)))) for i, size in enumerate(sizes)
    )
    schema = Schema(table="t", columns=columns)

    def side(number: int) -> PersonRecords:
        codes = {f"c{i}": rng.integers(size, size=number).astype(np.int32) for i, size in enumerate(sizes)}
        return PersonRecords(records=Records(schema, codes), person=np.arange(number), persons=number)

    people = People.of(ReviewSample(fit=side(persons), control=side(persons)), rng=rng)
    part = people.some(90, rng)
    found = [
        ATTACKS["exact_match"].run(asked, asked.fit.rows, rng=rng).variants["values, all columns"].estimate
        for asked in (people, part)
    ]
    assert found[0] < 0.1 < 0.3 < found[1]


def test_tables_of_few_persons_have_controls_of_full_size(
    town: tuple[ReviewSample, Records], monkeypatch: pytest.MonkeyPatch
) -> None:
    people = People.of(town[0], rng=np.random.default_rng(0))
    assert _Leaky(people, Rows.of(town[1]), 0).some("linkage") is people
    usual = run_suite(*town)
    monkeypatch.setattr("attacks.suite.CONTROL_PERSONS", 10**9)
    assert run_suite(*town) == usual


def test_a_small_control_changes_nothing_but_itself(
    town: tuple[ReviewSample, Records], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = run_suite(*town)
    monkeypatch.setattr("attacks.suite.CONTROL_PERSONS", 120)
    small = run_suite(*town)
    assert [r.estimate for r in small] == [r.estimate for r in full]
    assert [r.p_value for r in small] == [r.p_value for r in full]
    differ = {a.id for a, b in zip(small, full, strict=True) if a.positive_control != b.positive_control}
    assert differ >= {"nearest_record", "membership", "linkage", "attribute_inference"}
    assert not differ & set(CROWDED)
    for result, whole in zip(small, full, strict=True):
        assert result.positive_control is not None
        assert whole.positive_control is not None
        assert result.positive_control.detected or not whole.positive_control.detected, result.id
        if result.id in differ:
            assert result.positive_control.detected
            assert result.positive_control.interval.low > result.chance + 0.1


@pytest.mark.parametrize(
    ("seen", "p_value", "sizes"),
    [(0.6, 0.001, [120]), (0.6, 0.04, [120, 210]), (0.12, 0.001, [120, 210]), (None, None, [120, 210])],
    ids=["clear", "undetected", "faint", "gap"],
)
def test_what_a_small_control_does_not_show_clearly_is_looked_for_at_full_size(
    town: tuple[ReviewSample, Records],
    seen: float | None,
    p_value: float | None,
    sizes: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is found there counts, whatever it is."""
    people, asked = People.of(town[0], rng=np.random.default_rng(0)), []
    assert people.fit.persons > 200
    sizes = [min(size, people.fit.persons) if size == 120 else people.fit.persons for size in sizes]

    def run(_: object, people: People, table: Rows, *, rng: np.random.Generator) -> Finding:
        asked.append(people.fit.persons)
        if len(asked) == 2:
            return Finding(
                variants={"x": excess(*(Rate(value=v, trials=9e3, persons=9000) for v in (0.3, 0.0)))}, p_value=0.001
            )
        if seen is None:
            return Finding(gap=Gap(status="incomplete", reason="few"))
        rates = [Rate(value=value, trials=200, persons=200) for value in (seen, 0.0)]
        return Finding(variants={"x": excess(*rates)}, p_value=p_value)

    monkeypatch.setattr("attacks.suite.CONTROL_PERSONS", 120)
    monkeypatch.setattr("attacks.membership.Membership.run", run)
    control = _controlled(ATTACKS["membership"], _Leaky(people, Rows.of(town[1]), 0), 0)
    assert control is not None
    assert asked == sizes
    assert control.detected
    assert control.estimate == (0.3 if len(sizes) == 2 else seen)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3, 9])
def test_results_do_not_depend_on_what_runs_at_the_same_time(
    town: tuple[ReviewSample, Records], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attacks.suite.CONTROL_PERSONS", 120)
    usual = run_suite(*town)
    monkeypatch.setattr("attacks.suite.WORKERS", workers)
    heard: list[str] = []
    assert run_suite(*town, progress=heard.append) == usual
    assert heard == list(STARTED)


def test_an_attack_that_errs_ends_the_suite(
    town: tuple[ReviewSample, Records], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr("attacks.linkage.Linkage.run", broken)
    heard: list[str] = []
    with pytest.raises(ZeroDivisionError, match="planted"):
        run_suite(*town, progress=heard.append)
    assert heard == list(STARTED)[: len(heard)]

    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_suite(*town, progress=interrupted)


def test_distances_are_computed_once_whoever_asks_first(
    town: tuple[ReviewSample, Records], monkeypatch: pytest.MonkeyPatch
) -> None:
    people, table = People.of(town[0], rng=np.random.default_rng(0)), Rows.of(town[1])
    computed: list[int] = []
    plain, ready = nearness._nearness, threading.Barrier(4)

    def counted(*asked: Rows) -> nearness.Nearness:
        computed.append(1)
        return plain(*asked)

    def asks(_: int) -> nearness.Nearness:
        ready.wait()
        return nearness.nearness(people, table)

    monkeypatch.setattr(nearness, "_nearness", counted)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(asks, range(4)))
    assert len(computed) == 1
    assert all(one is found[0] for one in found)
    assert nearness.nearness(People.of(town[0], rng=np.random.default_rng(1)), table) is not found[0]


# ---- what a release tells ------------------------------------------------------------------------------------------


def test_ceilings_are_the_guarantee_at_the_control_rate(tables: ModuleType) -> None:
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(200, rng), rng)
    cost = Cost.zcdp(Fraction(1, 50))
    results = run_suite(sample, sample.fit.records, cost=cost)
    exact = results["exact_match"]
    assert exact.control is not None
    error = 0.05 / 10 / len(exact.variants)
    assert exact.ceiling == tpr_bound(cost, exact.control.interval(1 - error).high)
    assert exact.above_ceiling  # a copy at rho 0.02: somebody has to look for a mistake
    assert "guarantee" in exact.note
    assert exact.judge(at_most=1.0, tolerance=1.0) == "fail"
    generous = run_suite(sample, sample.fit.records, cost=Cost.zcdp(Fraction(10**4)))
    assert not any(result.above_ceiling for result in generous)
    assert {result.ceiling for result in generous} == {1.0, None}  # shown, though it says nothing
    plain = run_suite(sample, sample.fit.records)
    assert all(result.ceiling is None and not result.above_ceiling for result in plain)
    assert not any(result.no_ceiling for result in plain)
    assert [r.estimate for r in plain] == [r.estimate for r in results] == [r.estimate for r in generous]


def test_each_number_has_a_ceiling_or_a_reason_why_not(tables: ModuleType) -> None:
    rng = np.random.default_rng(1)
    sample = tables.split(tables.population(200, rng), rng)
    results = run_suite(sample, sample.fit.records, cost=Cost.zcdp(Fraction(1, 50)))
    for result in results:
        assert (result.ceiling is None) == bool(result.no_ceiling), result.id
        for name in result.variants:
            measure = result.measures[name]
            assert measure.bound is not None, (result.id, name)
            assert (measure.ceiling is None) == isinstance(measure.bound, Unproven)
            assert measure.ceiling is None or measure.floor is None or measure.floor < measure.chance < measure.ceiling
    assert {result.id for result in results if result.no_ceiling} == {"vulnerable_records", "reconstruction"}
    nearest = results["nearest_record"]
    assert nearest.floor is not None
    assert nearest.ceiling is not None
    assert 0 < nearest.floor < 0.5 < nearest.ceiling < 1
    figures = {name: measure.ceiling for name, measure in results["membership"].measures.items()}
    areas = {ceiling for name, ceiling in figures.items() if name.startswith("AUC")}
    assert areas == {figures["AUC, combined"]}
    assert figures["TPR at FPR 0.1"] == figures["false positive rate 0.1"]


def test_whatever_shows_a_number_shows_what_is_allowed(tables: ModuleType) -> None:
    """Text, JSON and internal evidence, of an attack with rates, of one that divides a whole, and of one without."""
    rng = np.random.default_rng(2)
    sample = tables.split(tables.population(300, rng), rng)
    results = run_suite(sample, sample.fit.records, cost=Cost.zcdp(Fraction(1, 50)))
    evidence = review_evidence(results, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    rates, share, none = (results[name] for name in ("record_linkage", "nearest_record", "reconstruction"))
    assert rates.ceiling is not None
    assert f"the guarantee allows {number(rates.ceiling, 'up')};" in _sentence(rates)
    assert evidence.value("review.record_linkage.ceiling") == _item(rates)["ceiling"] == rates.ceiling
    assert share.ceiling is not None
    assert share.floor is not None
    assert f"allows {number(share.floor, 'down')} to {number(share.ceiling, 'up')};" in _sentence(share)
    assert [_item(share)[key] for key in ("floor", "ceiling")] == [share.floor, share.ceiling]
    ends = [evidence.value(f"review.nearest_record.{key}") for key in ("least", "most")]
    assert ends == [share.floor - 0.5, share.ceiling - 0.5]  # beside the excess
    assert f"no ceiling: {none.no_ceiling};" in _sentence(none)
    assert evidence.value("review.reconstruction.no_ceiling") == _item(none)["no_ceiling"] == none.no_ceiling != ""
    assert evidence.get("review.reconstruction.ceiling") is None


def test_every_incomplete_result_says_what_it_needs(tables: ModuleType) -> None:
    rng = np.random.default_rng(0)
    schema = Schema(table="t", columns=tuple(Column(name=n, type="boolean") for n in "abc"))
    alike = Records(schema, {n: rng.integers(2, size=200).astype(np.int32) for n in "abc"})
    person = np.arange(100)
    fit, control = (
        PersonRecords(records=alike.take(part), person=person, persons=100) for part in (person, person + 100)
    )
    results = run_suite(ReviewSample(fit=fit, control=control), alike.take(person))
    assert "incomplete" in {result.status for result in results}
    for result in results:
        if result.status == "incomplete":
            assert result.needs is not None
            assert "needs about" in result.needs, result.id
