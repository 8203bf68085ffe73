"""Classic mistakes planted in the training of networks, each caught by an audit of a step or two, and one fit of many persons.

The mistakes that `test_network_canary.py` does not plant: noise used twice, domains from the data, a wrong sensitivity,
and numbers of rows that nobody noised. Where a mistake shows in every fit, 28 fits contradict a claim of epsilon 1 at
delta 1e-6: 11 on each table count. Each planted audit stands beside the same audit of the honest recipe. Its noise
follows from seeds, so it passes always or never; on fresh seeds an honest recipe would fail with a chance of at most 1e-3
an audit, shared out over all attackers (`CONFIDENCE`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any
from unittest import mock
from weakref import WeakKeyDictionary

import network_game
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from network_game import Game, sum_of, watched

from attacks.canary import CONFIDENCE, CanaryResult, Claim, play_all
from attacks.neighbours import worst_cases
from attacks.one_run import PRIOR, OneRunResult, _judged, audit_one_run, lineup
from benchmarks import mistakes
from dpsynth import SYNTHESIZERS, Cap, Cost, Schema, attack_generator
from dpsynth.curator import PersonBatch, Training, clipped_sum
from dpsynth.mechanisms.dp_sgd import SampledGaussian
from dpsynth.neural.ardm import Ardm
from dpsynth.neural.gradients import Gradients
from dpsynth.neural.recipe import DpSgd
from dpsynth.neural.vae import Vae

OpenCurator = Callable[..., Any]
MakeSchema = Callable[..., Schema]
FloatVector = npt.NDArray[np.float64]

FITS = 28
MORE = 40  # 15 on each table: enough for epsilon 3.5
SMALL, LARGER = (Claim.of(Cost.zcdp(Fraction(1, part)), delta=1e-6) for part in (40, 4))  # epsilon 1.0 and 3.5
TIGHT = 1e-4  # a clipping bound that every gradient passes by far
SETTINGS: dict[str, Any] = {"steps": 2, "hidden": 8, "rate": Fraction(1), "device": "cpu", "clip": TIGHT}
RECIPES = {"ardm": Ardm(**SETTINGS, looks=6), "vae": Vae(**SETTINGS, latent=2)}
EPOCH = 10  # persons in a batch, where their number says how many batches there are

every_network = pytest.mark.parametrize("name", RECIPES)


def test_every_network_of_the_registry_is_audited_here() -> None:
    assert {name for name, make in SYNTHESIZERS.items() if isinstance(make(), DpSgd)} == RECIPES.keys()


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with network_game.quick():
        yield


# ---- attackers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """Someone who reads one number off a training."""

    score: Callable[[Any], float]

    def observe(self, output: Any) -> float:
        return self.score(output)

    def learn(self, absent: Sequence[float], present: Sequence[float]) -> Sequence[Callable[[float], float]]:
        return [float]


LOOKS: dict[str, Look] = {
    "along the person's gradient": Look(lambda output: sum(output.along)),
    "length of the sums": Look(lambda output: float(np.log(np.linalg.norm(output.sums[0]) + 1e-9))),
    "whether sums change": Look(lambda output: float(np.any(np.diff(output.sums, axis=0)))),
    "sums without noise": Look(lambda output: -float(sum((found == 0).sum() for found in output.sums))),
    "number of steps": Look(lambda output: float(len(output.sums))),
    "empty counts": Look(lambda output: -float(sum((m.values == 0).sum() for m in output.measurements))),
    "number of rows": Look(lambda output: float(output.model.total)),
}


# ---- mistakes ------------------------------------------------------------------------------------------------------


def noise_used_again() -> AbstractContextManager[Any]:
    """The noise of every step of a training from the same words: new ones for each training."""
    honest, starts = SampledGaussian.add_noise, WeakKeyDictionary[Any, int]()

    def add_noise(self: SampledGaussian, total: FloatVector, *, rng: Any) -> FloatVector:
        if rng not in starts:
            starts[rng] = int(rng.words(1)[0])
        return honest(self, total, rng=mistakes.Repeating(starts[rng]))

    return mock.patch.object(SampledGaussian, "add_noise", add_noise)


def noise_where_something_is() -> AbstractContextManager[Any]:
    """Coordinates to which nobody adds anything get no noise, as if the data said which parameters there are."""
    honest = SampledGaussian.add_noise

    def add_noise(self: SampledGaussian, total: FloatVector, *, rng: Any) -> FloatVector:
        return np.where(total != 0, honest(self, total, rng=rng), 0.0)

    return mock.patch.object(SampledGaussian, "add_noise", add_noise)


def clipping_left_out() -> AbstractContextManager[Any]:
    """Gradients as long as they are, with noise for the bound."""
    honest = clipped_sum

    def unclipped(question: Gradients, batch: PersonBatch, *, clip: float) -> FloatVector:
        return honest(question, batch, clip=1e3)

    return mock.patch("dpsynth.curator.clipped_sum", unclipped)


def a_tenth_of_the_bound() -> AbstractContextManager[Any]:
    """Noise for a bound ten times as small as the one that gradients are clipped to."""
    return mock.patch("dpsynth.mechanisms.dp_sgd._distance_squared", return_value=Fraction(1, 100))


def as_many_batches_as_the_table_has() -> AbstractContextManager[Any]:
    """Training ends when batches of a fixed size would have gone through the table once: its row count says when."""
    honest = DpSgd._trained

    def trained(self: DpSgd, training: Training, *words: Any) -> FloatVector:
        steps = math.ceil(len(training._rows) / EPOCH)
        assert steps <= self.steps, "no more than what was paid for"
        return honest(replace(self, steps=steps), training, *words)

    return mock.patch.object(DpSgd, "_trained", trained)


def a_row_count_from_the_table() -> AbstractContextManager[Any]:
    """The model knows how many rows there are, and draws as many."""
    honest = DpSgd.fit

    def fit(self: DpSgd, curator: Any, *, budget: Cost, **words: Any) -> Any:
        return replace(honest(self, curator, budget=budget, **words), total=float(curator._store.everybody().persons))

    return mock.patch.object(DpSgd, "fit", fit)


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A mistake, and the audit that catches it."""

    plant: Callable[[], AbstractContextManager[Any]]
    attacker: str
    which: str = "nobody else"
    rows: int = EPOCH
    claim: Claim = SMALL
    fits: int = FITS


FAULTS = {
    "noise used again": Fault(plant=noise_used_again, attacker="whether sums change"),
    "noise where something is": Fault(plant=noise_where_something_is, attacker="sums without noise"),
    "domain from data": Fault(plant=mistakes.domain_from_data, attacker="empty counts"),
    "clipping left out": Fault(plant=clipping_left_out, attacker="length of the sums"),
    "a tenth of the bound": Fault(
        plant=a_tenth_of_the_bound, attacker="along the person's gradient", claim=LARGER, fits=2 * MORE
    ),
    "steps from the row count": Fault(
        plant=as_many_batches_as_the_table_has, attacker="number of steps", which="alone"
    ),
    "exact row count": Fault(plant=a_row_count_from_the_table, attacker="number of rows", which="alone"),
}


@pytest.fixture
def game(open_curator: OpenCurator, make_schema: MakeSchema) -> Callable[..., Game]:
    def work(name: str, which: str = "nobody else", rows: int = EPOCH, claim: Claim = SMALL) -> Game:
        schema = make_schema((3, 2, 3))
        pair = next(pair for pair in worst_cases(schema, rows=rows) if pair.name == which)
        return Game(RECIPES[name], schema, pair, open_curator, claim)

    return work


def audit(game: Game, fits: int) -> Mapping[str, CanaryResult]:
    """By all who look at the sums, who share the error."""
    each = 1 - (1 - CONFIDENCE) / len(LOOKS)
    results = play_all(game.pair, game, LOOKS, claim=game.claim, fits=fits, confidence=each)
    for attacker, found in results.items():
        print(f"{attacker}: {found.hits} and {found.false_alarms} of {found.trials}, {fits} fits")
    return results


@pytest.mark.slow
@every_network
@pytest.mark.parametrize("fault", FAULTS)
def test_a_mistake_of_training_is_caught(name: str, fault: str, game: Callable[..., Game]) -> None:
    case = FAULTS[fault]
    with case.plant():
        results = audit(game(name, case.which, case.rows, case.claim), case.fits)
    assert results[case.attacker].exceeds


@pytest.mark.slow
@every_network
@pytest.mark.parametrize(("which", "claim", "fits"), [("nobody else", LARGER, MORE), ("alone", SMALL, FITS)])
def test_the_same_audits_let_an_honest_training_pass(
    name: str, which: str, claim: Claim, fits: int, game: Callable[..., Game]
) -> None:
    results = audit(game(name, which, claim=claim), fits)
    assert all(found.conclusive and not found.exceeds for found in results.values())


# ---- one fit -------------------------------------------------------------------------------------------------------

PERSONS = 140
BUDGET = Cap.of(1, "1e-6").cost
ONE = Claim(epsilon=1.0, delta=1e-6, cost=BUDGET)


@pytest.fixture
def one_run(open_curator: OpenCurator, make_schema: MakeSchema) -> Callable[..., dict[str, OneRunResult]]:
    def work(name: str, *, sums: bool) -> dict[str, OneRunResult]:
        """By counts and rows as every recipe, and by the noisy sum of a step, if that is asked for."""
        schema = make_schema((PERSONS, PERSONS))
        recipe: Any = replace(RECIPES[name], steps=1, marginal_share=Fraction(3, 4))
        line = lineup(schema, persons=PERSONS, rows=0, rng=attack_generator(0, 0))
        scores: dict[str, FloatVector] = {}

        def look(question: Gradients, found: FloatVector, mechanism: SampledGaussian) -> None:
            each = np.stack([sum_of(question, row[None], 1, clip=mechanism.clip) for row in line.heads])
            off = found - each.sum(axis=0) / 2
            weighed = each @ each.T / mechanism.sigma**2 + np.eye(len(each)) / PRIOR
            scores["linear"] = np.linalg.solve(weighed, each @ off / mechanism.sigma**2)
            scores["along"] = each @ off

        def run(frame: pd.DataFrame) -> Any:
            same = pd.testing.assert_frame_equal
            columns = list(frame)
            same(*(t.sort_values(columns, ignore_index=True) for t in (frame, line.frame)))  # the persons of the look
            with watched(look) if sums else nullcontext():
                model = recipe.fit(open_curator(frame, schema, seed=3), budget=BUDGET)
            rng = np.random.default_rng(3)
            rows = model.sample(max(1, round(model.total)), rng=rng).decode(rng=rng)
            return SimpleNamespace(rows=rows, measurements=model.measurements)

        results = audit_one_run(schema, run, claim=ONE, persons=PERSONS)
        if sums:
            results["noisy sum"] = _judged("noisy sum", [(line.coins, scores)], claim=ONE, confidence=CONFIDENCE)
        for attacker, found in results.items():
            print(f"{name}, {attacker}: {dict(found.correct)} of {found.guesses} right, one fit")
        return results

    return work


IN_ONE_FIT: dict[str, tuple[Callable[[], AbstractContextManager[Any]], str]] = {
    "noise / 10": (mistakes.tenth_of_the_noise, "noisy counts"),
    "domain from data": (mistakes.domain_from_data, "noisy counts"),
    "clipping left out": (clipping_left_out, "noisy sum"),
}


@pytest.mark.slow
@every_network
def test_one_fit_catches_mistakes_of_a_network_and_lets_an_honest_one_pass(
    name: str, one_run: Callable[..., dict[str, OneRunResult]]
) -> None:
    for found in one_run(name, sums=True).values():
        assert found.conclusive
        assert not found.exceeds
    for fault, (plant, attacker) in IN_ONE_FIT.items():
        with plant():
            assert one_run(name, sums=attacker == "noisy sum")[attacker].exceeds, fault
