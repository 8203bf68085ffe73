"""The measurement of power says what the suite says, and sees more where more leaks."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest

from attacks import ATTACKS, Claim, run_suite
from attacks.planted import GRADED, HONEST, LEAKS
from attacks.power import AuditPower, Caught, Detection, Power, audit_power, measure_power, results_on
from dpsynth import Cost, PersonRecords, Schema

DOSES = {one.id: one for one in GRADED}
CLAIM = Claim.of(Cost.zcdp(Fraction(1, 10)), delta=1e-6)


@pytest.fixture
def one_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite of one attack, where it matters how often it is asked and not what else there is."""
    monkeypatch.setattr("attacks.power.ATTACKS", {"exact_match": ATTACKS["exact_match"]})


def persons(tables: ModuleType, number: int, *, rows: int = 1) -> PersonRecords:
    drawn = tables.population(number, np.random.default_rng(7), rows=rows)
    return PersonRecords(records=drawn.records, person=drawn.person, persons=number)


def test_results_are_those_of_the_suite(tables: ModuleType) -> None:
    """All that decides whether a leak was shown is the same, number for number."""
    rng = np.random.default_rng(1)
    sample, fresh = tables.split(tables.population(200, rng), rng), tables.population(100, rng).records
    table = LEAKS["B6 5%"](sample, fresh, rng)
    suite = run_suite(sample, table, seed=3)
    short = {result.id: result for result in results_on(sample, table, seed=3)}
    for result in suite:
        if result.estimate is None:
            assert result.id not in short
            continue
        mine = short[result.id]
        assert (mine.estimate, mine.interval, mine.p_value, mine.p_adjusted) == (
            result.estimate,
            result.interval,
            result.p_value,
            result.p_adjusted,
        )
        assert mine.leak == result.leak


@pytest.mark.usefixtures("one_attack")
def test_a_copy_is_seen_and_fresh_rows_are_not(tables: ModuleType) -> None:
    power = measure_power(
        persons(tables, 500), fit=150, control=150, runs=5, leaks=[DOSES["100 %"]], honest=[HONEST["G1"]]
    )
    assert power.privacy_class == "P3"
    assert power["100 %"].seen == 5
    assert power.false_alarms.seen <= 2  # 3 in 5 have a chance of 0.001
    assert power["100 %"].by_attack["exact_match"] == 5
    assert (power.fit, power.control) == power.asked == (150, 150)
    assert power.sentences[0].startswith("a copy of 100 % of the persons: seen 5 times in 5")


@pytest.mark.usefixtures("one_attack")
def test_a_measurement_from_a_schema_alone_is_public_and_repeats(tables: ModuleType) -> None:
    told: list[tuple[int, int]] = []

    def measured(progress: object = None) -> Power:
        return measure_power(
            tables.schema(), fit=60, control=60, runs=5, leaks=[DOSES["one outlier"]], honest=[], progress=progress
        )

    first = measured(lambda done, of: told.append((done, of)))
    assert first == measured()
    assert first.privacy_class == "P0"
    assert told == [(n, 5) for n in range(1, 6)]
    assert first["one outlier"].listed == 5  # whatever the p-values say
    assert "not by this mode" in str(first)


@pytest.mark.usefixtures("one_attack")
def test_too_few_persons_make_smaller_tables_and_the_result_says_so(tables: ModuleType) -> None:
    power = measure_power(persons(tables, 205, rows=3), fit=200, control=100, runs=5, leaks=[DOSES["1 %"]], honest=[])
    assert power.asked == (200, 100)
    assert (power.fit, power.control) == (81, 40)
    assert "too few persons for 200 and 100" in str(power)


def test_what_cannot_be_measured_is_refused(tables: ModuleType) -> None:
    with pytest.raises(ValueError, match="must be at least 5"):
        measure_power(tables.schema(), fit=100, control=100, runs=4)
    with pytest.raises(ValueError, match="too few"):
        measure_power(persons(tables, 60), fit=100, control=100, runs=5)


def detection(seen: int, *, leaks: bool = True) -> Detection:
    return Detection(id="x", title="a copy of 1 % of the persons", leaks=leaks, runs=50, seen=seen, listed=50)


def test_sentences() -> None:
    assert str(detection(49)) == "a copy of 1 % of the persons: seen 49 times in 50 (at least 89 % of such leaks)"
    assert str(detection(1)) == (
        "a copy of 1 % of the persons: not by this mode "
        "(seen 1 time in 50; a row listed for a person to look at 50 times in 50)"
    )
    assert str(detection(1, leaks=False)).endswith("1 false alarm in 50 (at most 11 % of such tables)")


def test_so_few_could_be_false_alarms() -> None:
    """Exact lower ends: 6 of 50 is 4.5 in 100, 7 of 50 is 5.8."""
    assert detection(6).by_chance
    assert not detection(7).by_chance


@pytest.mark.slow
def test_more_is_seen_of_more(tables: ModuleType) -> None:
    """Doses of 4.2 on the same persons; each step down may be chance with 12 runs, a fall by four may not (0.002)."""
    doses = ["one average person", "0.5 %", "2 %", "5 %", "100 %"]
    power = measure_power(
        tables.schema(), fit=400, control=400, runs=12, leaks=[DOSES[name] for name in doses], honest=[]
    )
    seen = [power[name].seen for name in doses]
    assert seen[0] <= 3  # 4 false alarms in 12 have a chance of 0.002
    assert seen[-1] == 12
    assert all(later >= earlier - 3 for earlier, later in pairwise(seen))


# ---- audits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("design", [{"fits": 160}, {"canaries": 1000}])
def test_an_honest_mechanism_is_not_contradicted_and_a_broken_one_is(design: dict[str, int]) -> None:
    """At 99.9 % one of 20 honest audits is contradicted with a chance of 0.02 at most; a hundredfold loss is plain."""
    power = audit_power(CLAIM, factors=[100.0, 1.0], audits=20, **design)
    honest, broken = power.caught
    assert (honest.factor, broken.factor) == (1.0, 100.0)
    assert honest.caught == 0
    assert broken.caught == 20
    assert power.smallest_factor == 100.0


def test_claims_without_a_curve_are_tested_by_their_worst_mechanism() -> None:
    power = audit_power(Claim(epsilon=0.5, delta=1e-6), fits=240, factors=[1.0, 8.0], audits=10)
    assert [one.caught for one in power.caught] == [0, 10]
    assert "8 times its epsilon" in str(power)


def test_the_smallest_factor_is_that_from_which_on_all_are_caught() -> None:
    def power(*caught: int) -> AuditPower:
        rates = tuple(Caught(factor=2.0**n, audits=10, caught=number) for n, number in enumerate(caught))
        return AuditPower(kind="fits", trials=160, claim=CLAIM, confidence=0.999, caught=rates)

    assert power(0, 9, 10).smallest_factor == 2.0
    assert power(0, 9, 3, 10).smallest_factor == 8.0
    assert power(0, 9, 3).smallest_factor is None


def test_an_audit_is_of_one_kind() -> None:
    for wrong in ({}, {"fits": 100, "canaries": 100}):
        with pytest.raises(ValueError, match="either fits or canaries"):
            audit_power(CLAIM, **wrong)


def test_schema_of_the_stand_in_is_never_the_users(tables: ModuleType) -> None:
    """`audit_power` takes a claim and nothing else: no table can enter it."""
    assert isinstance(tables.schema(), Schema)
    assert audit_power(CLAIM, fits=16, factors=[1.0], audits=1).caught[0].audits == 1
