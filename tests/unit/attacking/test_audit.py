"""The plan of an audit, its control generators, and how results become a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest

from attacks.audit import (
    ERROR,
    Audit,
    AuditItem,
    Plan,
    SmallLeak,
    _judged,
    audit_generator,
    games_of,
    plan_of,
)
from attacks.canary import CanaryResult, Claim, Conjunctions, NoisyCounts, play
from attacks.fits import fits_for, fits_needed, fits_of_perfect
from attacks.generators import claim_of
from attacks.leaky import LittleNoise, copying, one_column
from attacks.neighbours import shuffled
from dpsynth import Cap, Cost, OperationError, Rehearsal, Schema, Trial, UsageError

MakeSchema = Callable[..., Schema]
CLAIM = Claim(epsilon=1.0, delta=1e-6)
PLAN = Plan(
    fits={"alone": 200, "one_run": 1}, left_out=(), errors={"alone": ERROR / 2, "one_run": ERROR / 2}, attackers=1
)


def result(hits: int, false_alarms: int, *, claim: Claim = CLAIM, trials: int = 75) -> CanaryResult:
    return CanaryResult(
        pair="alone", claim=claim, fits=200, trials=trials, hits=hits, false_alarms=false_alarms, confidence=0.9995
    )


def judged(found: CanaryResult, control: CanaryResult) -> AuditItem:
    return _judged("worst_case.alone.rows", "rows", found, control, control, PLAN)


class TestOneAttacker:
    CAUGHT = result(75, 0)
    MISSED = result(40, 38)

    def test_a_contradiction_fails_whatever_the_control_says(self) -> None:
        for control in (self.CAUGHT, self.MISSED):
            item = judged(result(75, 0), control)
            assert item.status == "fail"
            assert item.low > 1

    def test_no_contradiction_passes_only_beside_a_leak_that_was_caught(self) -> None:
        assert judged(result(40, 35), self.CAUGHT).status == "pass"
        item = judged(result(40, 35), self.MISSED)
        assert item.status == "incomplete"
        assert "copies its rows would not have been caught" in item.sentence

    def test_what_no_attacker_could_show_is_incomplete(self) -> None:
        large = Claim(epsilon=6.0, delta=1e-6)
        item = judged(result(75, 0, claim=large), result(75, 0, claim=large))
        assert item.status == "incomplete"
        assert item.needs is not None
        assert item.needs > 1000

    def test_the_curve_counts_where_epsilon_does_not_decide(self) -> None:
        cost = Cost.zcdp(Fraction(1, 1000))
        claim = Claim(epsilon=3.0, delta=1e-6, cost=cost)
        item = judged(result(60, 20, claim=claim), result(75, 0, claim=claim))
        assert item.status == "fail"
        assert item.low < item.claim
        assert "rho of at least" in item.sentence

    def test_what_a_small_leak_showed_is_said_and_decides_nothing(self) -> None:
        for control, status in ((self.CAUGHT, "pass"), (self.MISSED, "incomplete")):
            for seen, said in ((True, "one leaked column: seen"), (False, "one leaked column: not seen by this mode")):
                power = SmallLeak(leak="one leaked column", seen=seen, low=0.5)
                item = _judged("worst_case.alone.rows", "rows", result(40, 35), control, control, PLAN, power)
                assert item.status == status
                assert item.sentence.endswith(f"; {said}")
                assert item.to_json()["power"] == {"leak": "one leaked column", "seen": seen, "low": 0.5}
        assert judged(result(40, 35), self.CAUGHT).to_json()["power"] is None


def audit_of(*states: tuple[str, Any]) -> Audit:
    item = judged(result(40, 35), result(75, 0))
    items = tuple(replace(item, id=id, status=status) for id, status in states)
    return Audit(generator="g", claim=CLAIM, plan=PLAN, items=items)


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        ((("worst_case.a.rows", "pass"), ("one_run.rows", "pass")), "pass"),
        ((("worst_case.a.rows", "pass"), ("one_run.rows", "incomplete")), "pass"),
        ((("worst_case.a.rows", "pass"), ("worst_case.b.rows", "incomplete")), "incomplete"),
        ((("worst_case.a.rows", "pass"), ("records.nearest", "incomplete")), "incomplete"),
        ((("worst_case.a.rows", "incomplete"), ("one_run.rows", "pass")), "incomplete"),
        ((("worst_case.a.rows", "incomplete"), ("one_run.rows", "fail")), "fail"),
        ((("worst_case.a.rows", "pass"), ("records.nearest", "fail")), "fail"),
        ((("one_run.rows", "pass"),), "incomplete"),
        ((), "incomplete"),
    ],
)
def test_verdicts(states: tuple[tuple[str, Any], ...], verdict: str) -> None:
    found = audit_of(*states)
    assert found.verdict == verdict
    assert found.to_json()["verdict"] == verdict


class TestPlan:
    def test_the_error_of_all_items_is_one_in_a_thousand(self, make_schema: MakeSchema) -> None:
        for schema in (make_schema((2, 2)), make_schema((3, 2, 3), max_rows=2)):
            pairs, _ = games_of(schema)
            for with_records in (False, True):
                for with_counts in (False, True):
                    plan = plan_of(pairs, fits=1000, with_counts=with_counts, with_records=with_records)
                    assert sum(plan.errors.values()) == pytest.approx(ERROR)
                    attackers = 2 if with_counts else 1
                    used = sum(
                        (1 - plan.confidence(game)) * (1 if game == "records" else attackers) for game in plan.fits
                    )
                    assert used == pytest.approx(ERROR)
                    assert plan.total <= 1000
                    assert plan.total > 1000 - 2 * len(pairs) - 2

    def test_fits_are_shared_equally(self, make_schema: MakeSchema) -> None:
        pairs, _ = games_of(make_schema((3, 2, 3)))
        assert plan_of(pairs, fits=1000, with_counts=True).fits == {
            "alone": 326,
            "nobody_else": 326,
            "torn": 326,
            "one_run": 20,
        }
        with_records = plan_of(pairs, fits=1000, with_counts=True, with_records=True).fits
        assert with_records["records"] >= 500
        assert with_records["alone"] == 160

    def test_too_few_fits_and_wrong_games_are_refused(self, make_schema: MakeSchema) -> None:
        schema = make_schema((2, 2))
        pairs, left_out = games_of(schema, skip=["nobody_else"])
        assert ([pair.name for pair in pairs], left_out) == (["alone"], ["nobody_else"])
        with pytest.raises(UsageError):
            plan_of(pairs, fits=16, with_counts=False)
        assert plan_of(pairs, fits=17, with_counts=False).fits["alone"] == 16
        for skip in (["torn"], ["alone", "nobody_else"]):
            with pytest.raises(UsageError):
                games_of(schema, skip=skip)


class TestGeneratorsThatLeak:
    def test_copied_rows_are_rows_of_the_table(self, make_schema: MakeSchema, make_frame: Callable[..., Any]) -> None:
        schema = make_schema((4, 3))
        frame = make_frame([[0, 1], [3, 2]], columns=2)
        trial = copying(schema, rows=50, seed=(1,)).run(frame)
        rows = {tuple(row) for row in trial.rows.to_frame().itertuples(index=False)}
        assert rows == {("0", "1"), ("3", "2")}
        assert len(trial.rows) == 50
        assert len(copying(schema, rows=50, seed=(1,)).run(frame.iloc[:0]).rows) == 0
        assert len(copying(schema, rows=None, seed=(1,)).run(frame).rows) == 2

    def test_both_are_caught_by_the_attackers_they_are_made_for(self, make_schema: MakeSchema) -> None:
        schema = make_schema((3, 2))
        pair = games_of(schema, rows=50)[0][0]
        generator = Rehearsal(schema, synthesizer="independent", epsilon=3, delta="1e-6")
        quiet = LittleNoise(pair, generator.run(pair.present), (1,))
        claim = claim_of(generator)
        assert play(pair, quiet.run, NoisyCounts(pair), claim=claim, fits=160).exceeds
        copies = copying(schema, rows=50, seed=(1,))
        assert play(pair, copies.run, Conjunctions(pair), claim=claim, fits=160).exceeds

    def test_one_column_leaks_and_no_other(self, make_schema: MakeSchema, make_frame: Callable[..., Any]) -> None:
        """The other columns come from the same rows whatever the table holds."""
        schema = make_schema((5, 5, 5))
        others = np.array([[1, 1, 1], [2, 2, 2]], dtype=np.int32)
        frame = make_frame([[4, 4, 4], [3, 3, 3]], columns=3)
        leaked: set[str] = set()
        for seed in range(12):
            leaky = one_column(schema, others, rows=60, seed=(seed,))
            rows = leaky.run(frame).rows.to_frame()
            (column,) = [name for name in schema.names if set(rows[name]) == {"3", "4"}]
            assert all(set(rows[name]) == {"1", "2"} for name in schema.names if name != column)
            assert len(set(rows.itertuples(index=False))) == 8  # each column by itself
            empty = leaky.run(frame.iloc[:0]).rows.to_frame()
            assert set(empty[column]) == set("01234")
            leaked.add(column)
        assert leaked == set(schema.names)
        alone = one_column(make_schema((1, 4, 1)), np.zeros((0, 3), dtype=np.int32), rows=20, seed=(1,))
        assert set(alone.run(frame.iloc[:0]).rows.to_frame()["c1"]) == set("0123")

    def test_one_column_is_caught_where_many_rows_are_written_and_missed_where_few_are(
        self, make_schema: MakeSchema
    ) -> None:
        pair = games_of(make_schema((3, 2)), rows=50)[0][0]
        for rows, seen in ((50, True), (5, False)):
            leaky = one_column(pair.schema, pair.bulk, rows=rows, seed=(1,))
            assert play(pair, leaky.run, Conjunctions(pair), claim=CLAIM, fits=160).exceeds == seen

    def test_a_tenth_of_the_noise_is_a_tenth(self, make_schema: MakeSchema) -> None:
        schema = make_schema((3, 2))
        pair = games_of(schema, rows=50)[0][0]
        trial = Rehearsal(schema, synthesizer="independent", epsilon="0.1", delta="1e-6").run(pair.present)
        quiet = LittleNoise(pair, trial, (2,))
        first = trial.measurements[0]
        (move,) = pair.shift(first.columns)
        for frame, expected in ((pair.present, move.mean + move.by / 2), (pair.absent, move.mean - move.by / 2)):
            seen = [quiet.run(frame).measurements[0].values[move.cell] for _ in range(600)]
            sigma = first.sigma / 10
            assert abs(np.mean(seen) - expected) < 5 * sigma / 600**0.5  # once in 3 million
            assert 0.85 < np.std(seen) / sigma < 1.15


class Failing:
    """A generator that fails where somebody is alone."""

    name, epsilon, delta, cost = "failing", 1.0, 1e-6, None

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    def run(self, frame: pd.DataFrame) -> Trial:
        if len(frame) < 2:
            raise OperationError("the program failed")
        raise AssertionError("no game may begin before all have been tried")


def test_a_generator_is_tried_everywhere_before_the_first_game(make_schema: MakeSchema) -> None:
    schema = make_schema((2, 2))
    copies = copying(schema, rows=20, seed=(1,))
    failing = Failing(schema)
    calls = 0

    def run(frame: pd.DataFrame) -> Trial:
        nonlocal calls
        calls += 1
        return copies.run(frame) if len(frame) >= 2 else Failing.run(failing, frame)

    failing.run = run  # type: ignore[method-assign]
    with pytest.raises(OperationError, match="--skip nobody_else"):
        audit_generator(failing, fits=1000, rows=20)
    assert calls == 3


class ByPlace:
    """A generator that copies the rows in some places of its file, and never looks at the others."""

    name, epsilon, delta, cost = "by place", 1.0, 1e-6, None

    def __init__(self, schema: Schema, place: Callable[[int], slice]) -> None:
        self.schema, self._place = schema, place
        self._copies = copying(schema, rows=50, seed=(1,))

    def run(self, frame: pd.DataFrame) -> Trial:
        return self._copies.run(frame.iloc[self._place(len(frame))])


@pytest.mark.parametrize(
    ("place", "neighbours"),
    [
        pytest.param(lambda rows: slice(4 * rows // 5), "add_remove", id="the first four fifths"),
        pytest.param(lambda rows: slice(4 * rows // 5), "replace", id="the first four fifths, replaced"),
        pytest.param(lambda rows: slice(rows // 5, None), "add_remove", id="all but the first fifth"),
        pytest.param(lambda rows: slice(1), "add_remove", id="the first row"),
    ],
)
def test_copies_are_seen_wherever_they_are_taken(
    place: Callable[[int], slice], neighbours: str, make_schema: MakeSchema
) -> None:
    """Splits by position are common. The rows are dealt with fresh coins, so the outcome is drawn anew each time: a
    copied person shows in half of 77 fits (0.8 of them hold it, 0.7 of these write it) and never without, and 22 hits
    contradict, which 77 fits miss once in five million; the first row is the person wherever nobody else is."""
    leaky = ByPlace(make_schema((3, 4), neighbours=neighbours), place)
    assert audit_generator(leaky, fits=421, rows=50).verdict == "fail"


def test_rows_are_dealt_in_every_order_and_none_is_lost() -> None:
    frame = pd.DataFrame({"a": [1.5, np.nan, 3.0], "b": pd.array(["x", None, "x"], dtype="string")})
    seen = set()
    for _ in range(200):  # one of 6 orders is missing with a chance below 1e-14
        dealt = shuffled(frame)
        assert list(dealt.index) == [0, 1, 2]
        assert dealt.dtypes.equals(frame.dtypes)
        seen.add(tuple(dealt["a"].fillna(0)))
        assert sorted(dealt["b"].fillna("").tolist()) == ["", "x", "x"]
    assert len(seen) == 6
    assert len(shuffled(frame.iloc[:0])) == 0


def test_a_table_is_known_in_any_order(make_schema: MakeSchema) -> None:
    for neighbours in ("add_remove", "replace"):
        for pair in games_of(make_schema((3, 2, 3), max_rows=2, neighbours=neighbours), rows=5)[0]:
            for _ in range(5):
                assert pair.is_present(shuffled(pair.present))
                assert not pair.is_present(shuffled(pair.absent))


def test_how_many_fits_are_needed() -> None:
    for epsilon in (0.5, 2.0, 4.0):
        claim = Claim(epsilon=epsilon, delta=1e-6, cost=Cap.of(epsilon, 1e-6).cost)
        exact = fits_needed(claim, confidence=0.9998)
        about = fits_of_perfect(claim, more_than=16, confidence=0.9998)
        assert exact is not None
        assert about is not None
        assert exact <= about <= 1.25 * exact + 8
    leaky = result(40, 1)
    fits = fits_for(CLAIM, leaky, more_than=200, confidence=0.9995)
    assert fits is not None
    assert 200 < fits < 1000
    assert fits_for(CLAIM, result(40, 39), more_than=200, confidence=0.9995) is None
    assert fits_of_perfect(Claim(epsilon=40.0, delta=1e-6), more_than=200, confidence=0.9995) is None
