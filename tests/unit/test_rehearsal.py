"""A rehearsal does what a release does, charges nobody, and leaves nothing that could be published."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dpsynth import (
    SYNTHESIZERS,
    BoundToProcess,
    BudgetExceeded,
    Cap,
    Cost,
    Curator,
    DataFileError,
    GraphicalModel,
    IncompleteSchema,
    Independent,
    PrivacyRefusal,
    Rehearsal,
    Schema,
    Trial,
    UnitMismatch,
    UsageError,
    read_for_attack,
)
from dpsynth.persons import SHARE
from dpsynth.reading import read_frame
from dpsynth.rehearsal import rows_to_sample
from dpsynth.synthesizers.base import Marginals
from dpsynth.throw_away import ThrowAway

MakeSchema = Callable[..., Schema]
MakeFrame = Callable[..., pd.DataFrame]
SIZES = (3, 2, 4)


@pytest.fixture
def schema(make_schema: MakeSchema) -> Schema:
    return make_schema(SIZES, max_rows=2)


@pytest.fixture
def frame(make_frame: MakeFrame) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return make_frame(rng.integers(0, SIZES, size=(300, 3)), columns=3, who=np.arange(300) // 2)


def rehearsal(schema: Schema, synthesizer: Any = "independent", **words: Any) -> Rehearsal:
    return Rehearsal(schema, synthesizer=synthesizer, **{"epsilon": 2, "delta": "1e-6"} | words)


@dataclass(frozen=True)
class Spy(Marginals):
    """Fits an honest model and tells what it saw."""

    seen: Callable[[Curator, Cost, Any], None]
    factor: Fraction = Fraction(1)
    name: str = "spy"

    def check(self, schema: Schema) -> None:
        pass

    def fit(self, curator: Curator, *, budget: Cost, progress: object = None) -> Any:
        model = Independent().fit(curator, budget=replace(budget, rho=budget.rho * self.factor))
        self.seen(curator, budget, model)
        return model


@pytest.mark.parametrize("name", SYNTHESIZERS)
def test_every_recipe_leaves_rows_and_its_noisy_counts(name: str, schema: Schema, frame: pd.DataFrame) -> None:
    game = rehearsal(schema, name)
    trial = game.run(frame)
    assert trial.rows.schema == schema.released()
    assert 150 < len(trial.rows) < 450  # the noisy number of rows: 300 +- 18 for the networks, less for the others
    assert trial.measurements
    assert (game.name, game.epsilon, game.delta, game.schema) == (name, 2.0, 1e-6, schema)
    total = Cost.zero()
    for measurement in trial.measurements:
        total = total + measurement.cost
    assert game.cost is not None
    assert total.fits(game.cost)


def test_the_budget_is_the_one_of_a_release(schema: Schema, frame: pd.DataFrame) -> None:
    from reports.pipeline import Settings

    budgets: list[Cost] = []
    game = rehearsal(schema, Spy(lambda curator, budget, model: budgets.append(budget)))
    game.run(frame)
    promise = Settings(epsilon=2, delta="1e-6").promise
    assert budgets == [promise.cost]
    assert game.cost == promise.cost
    assert promise.cost.epsilon("1e-6") <= 2


def test_rows_are_those_of_a_release(schema: Schema, frame: pd.DataFrame) -> None:
    totals: list[int] = []
    spy = Spy(lambda curator, budget, model: totals.append(round(model.total)))
    assert len(rehearsal(schema, spy).run(frame).rows) == totals[-1]
    few = rehearsal(replace(schema, rows_at_most=20), spy)
    assert len(few.run(frame).rows) == 20
    assert len(rehearsal(schema, rows=7).run(frame).rows) == 7
    model: Any = type("M", (), {"total": 1e12})()
    assert rows_to_sample(model, schema) == 20_000_000


def test_persons_are_counted_and_dealt_as_in_a_release(schema: Schema, make_frame: MakeFrame) -> None:
    """Their part of the budget is a release's, their counts are there to be read, and constant columns are constant."""
    from reports.pipeline import Settings

    first, *others = schema.columns
    synthetic = replace(schema, synthetic_units=True, columns=(replace(first, per_unit=True), *others))
    rng = np.random.default_rng(0)
    frame = make_frame(rng.integers(2, size=(400, 3)), columns=3, who=np.repeat(np.arange(200), 2))
    budgets: list[Cost] = []
    game = rehearsal(synthetic, Spy(lambda curator, budget, model: budgets.append(budget)), epsilon=20)
    trial = game.run(frame)
    promise = Settings(epsilon=20, delta="1e-6").promise.cost
    assert budgets == [promise.share(1 - SHARE)]
    assert game.cost == promise.share(1 - SHARE) + promise.share(SHARE)
    assert len(trial.sizes) == synthetic.max_rows == 2
    assert np.abs(np.array(trial.sizes) - [0, 200]).max() < 8 * trial.sizes_sigma
    assert rehearsal(schema).run(frame).sizes == ()


def test_what_a_ledger_sets_aside_limits_discovery(make_schema: MakeSchema) -> None:
    plain = make_schema((3, 2))
    first = replace(plain.columns[0], values=None, unknown="other", discover=("values",))
    opened = replace(plain, columns=(first, *plain.columns[1:]))
    free, bound = (rehearsal(opened, most_delta0=most).cost for most in (None, Fraction(1, 10**9)))
    assert free is not None
    assert bound is not None
    assert bound.delta0 == Fraction(1, 10**10) < free.delta0
    assert bound.rho == free.rho


def test_noise_is_fresh_every_time(schema: Schema, frame: pd.DataFrame) -> None:
    game = rehearsal(schema)
    first, second = (game.run(frame).measurements[0].values for _ in range(2))
    assert not np.array_equal(first, second) or not np.array_equal(first, game.run(frame).measurements[0].values)


def test_the_limits_of_a_person_hold(schema: Schema, make_frame: MakeFrame) -> None:
    """All rows of one person: two of them count, and with little noise that is seen."""
    one = make_frame([[0, 0, 0]] * 500, columns=3, who=[1] * 500)
    totals = [rehearsal(schema, epsilon=50).run(one).measurements[0].values.sum() for _ in range(5)]
    assert np.median(totals) < 50


def test_overspending_is_refused(schema: Schema, frame: pd.DataFrame) -> None:
    with pytest.raises(BudgetExceeded):
        rehearsal(schema, Spy(lambda *_: None, factor=Fraction(2))).run(frame)


def test_nothing_of_the_model_stays(schema: Schema, frame: pd.DataFrame) -> None:
    kept: list[weakref.ref[Any]] = []

    def seen(curator: Curator, budget: Cost, model: Any) -> None:
        kept.extend([weakref.ref(curator), weakref.ref(model)])

    trial = rehearsal(schema, Spy(seen)).run(frame)
    gc.collect()
    assert [ref() for ref in kept] == [None, None]
    assert not hasattr(trial, "save")
    assert not hasattr(trial, "sample")


def test_a_curator_that_was_kept_answers_nothing_more(schema: Schema, frame: pd.DataFrame) -> None:
    kept: list[Curator] = []
    rehearsal(schema, Spy(lambda curator, *_: kept.append(curator))).run(frame)
    with pytest.raises(PrivacyRefusal):
        kept[0].review_sample()
    with pytest.raises(PrivacyRefusal):
        Independent().fit(kept[0], budget=Cost.zcdp(Fraction(1, 10**9)))


def test_a_trial_is_neither_copied_nor_stored(schema: Schema, frame: pd.DataFrame) -> None:
    trial = rehearsal(schema).run(frame)
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(BoundToProcess):
            way(trial)
    assert "rows" not in repr(trial)


def test_bad_settings_are_refused_before_any_row(make_schema: MakeSchema, schema: Schema, frame: pd.DataFrame) -> None:
    with pytest.raises(IncompleteSchema):
        rehearsal(replace(schema, status="draft"))
    with pytest.raises(IncompleteSchema):
        rehearsal(replace(schema, max_rows=None))
    for words in ({"epsilon": 0}, {"delta": 0}, {"delta": 1}, {"rows": 0}, {"synthesizer": "no such"}):
        with pytest.raises(UsageError):
            rehearsal(schema, **words)
    with pytest.raises(DataFileError):
        rehearsal(schema).run(frame.drop(columns="c1"))


class TestThrowAway:
    LIMIT = Cap.of(1, "1e-6").cost

    def test_it_refuses_what_passes_its_limit(self, schema: Schema) -> None:
        purse = ThrowAway(self.LIMIT, unit=schema.unit)
        purse.start()
        purse.spend(self.LIMIT.share(Fraction(2, 3)), purpose="a")
        with pytest.raises(BudgetExceeded):
            purse.spend(self.LIMIT.share(Fraction(1, 2)), purpose="b")
        purse.spend(self.LIMIT.share(Fraction(1, 3)), purpose="c")
        assert purse.spent == self.LIMIT

    def test_it_has_to_be_started_once(self, schema: Schema) -> None:
        purse = ThrowAway(self.LIMIT, unit=schema.unit)
        with pytest.raises(PrivacyRefusal):
            purse.spend(Cost.zero(), purpose="too early")
        purse.start()
        with pytest.raises(PrivacyRefusal):
            purse.start()
        purse.close()
        with pytest.raises(PrivacyRefusal):
            purse.require_started()

    def test_it_is_bound_to_its_process(self, schema: Schema) -> None:
        purse = ThrowAway(self.LIMIT, unit=schema.unit)
        with pytest.raises(BoundToProcess):
            copy.copy(purse)
        child = os.fork()
        if child == 0:
            try:
                purse.start()
            except BoundToProcess:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

    def test_another_unit_is_refused(self, make_schema: MakeSchema, schema: Schema, frame: pd.DataFrame) -> None:
        purse = ThrowAway(self.LIMIT, unit=make_schema(SIZES, max_rows=3).unit)
        with pytest.raises(UnitMismatch):
            Curator.of_frame(frame, schema, purse)

    def test_a_model_that_was_fitted_on_one_by_hand_refuses_to_be_saved(
        self, schema: Schema, frame: pd.DataFrame, tmp_path: Path
    ) -> None:
        """Whoever imports this module can open a curator on a throw-away purse: what comes of it says so."""
        for name in SYNTHESIZERS:
            curator = Curator.of_frame(frame, schema, ThrowAway(self.LIMIT, unit=schema.unit))
            model = SYNTHESIZERS[name]().fit(curator, budget=self.LIMIT)
            assert all(measurement.throw_away for measurement in model.measurements)
            with pytest.raises(PrivacyRefusal, match="no ledger knows"):
                model.save(tmp_path / "model")
        assert not (tmp_path / "model").exists()

    def test_a_model_made_of_a_trial_refuses_to_be_saved(
        self, schema: Schema, frame: pd.DataFrame, tmp_path: Path
    ) -> None:
        trial = rehearsal(schema).run(frame)
        model = GraphicalModel.fitted(schema.released(), trial.measurements, [])
        with pytest.raises(PrivacyRefusal):
            model.save(tmp_path / "model")

    def test_a_purse_of_one_s_own_opens_no_curator(self, schema: Schema, frame: pd.DataFrame, tmp_path: Path) -> None:
        """A ledger's reservation or a throw-away purse, and nothing that only looks like one."""
        limit = self.LIMIT

        class Generous:
            unit = schema.unit
            started = 0

            def start(self) -> None:
                self.started += 1

            def require_started(self) -> None:
                pass

            def spend(self, cost: Cost, *, purpose: str, basis: str = "proven") -> None:
                assert cost.fits(limit)

        frame.to_csv(tmp_path / "data.csv", index=False)
        purse: Any = Generous()
        ways: list[Callable[[], Curator]] = [
            lambda: Curator.of_frame(frame, schema, purse),
            lambda: Curator.open(tmp_path / "data.csv", schema, purse),
            lambda: Curator(read_frame(frame, schema), schema, purse, holdout=Fraction(0)),
        ]
        for way in ways:
            with pytest.raises(PrivacyRefusal, match="reservation only"):
                way()
        assert not purse.started


def test_rows_read_for_an_attack_are_those_of_a_release(schema: Schema, make_frame: MakeFrame) -> None:
    """At most two rows of each person, by person; nothing can be asked."""
    frame = make_frame([[0, 1, 2]] * 7 + [[1, 0, 3]], columns=3, who=[1] * 7 + [2])
    read = read_for_attack(frame, schema)
    assert read.persons == 2
    assert np.bincount(read.person).tolist() == [2, 1]


def test_a_trial_needs_no_measurements(schema: Schema, frame: pd.DataFrame) -> None:
    rows = rehearsal(schema).run(frame).rows
    assert Trial(rows=rows).measurements == ()
