"""DP-SGD is attacked where it is weakest, at its noisy sums, and the same audit catches its classic mistakes.

The attacker knows all other rows, sees the weights before each step and the noisy sum after it, and projects the sums on
the gradient that the planted person would have had: the white box of Nasr et al., IEEE S&P 2021. The noise follows from
seeds, so an honest recipe passes always or never; on fresh seeds it would fail with a chance of at most 1e-3 an audit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fractions import Fraction
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from attacks.canary import CanaryResult, Claim, Conjunctions, NoisyCounts, play
from attacks.neighbours import Pair, worst_cases
from benchmarks import mistakes
from dpsynth import Cost, Schema
from dpsynth.curator import PersonBatch, Training
from dpsynth.mechanisms.dp_sgd import SampledGaussian
from dpsynth.neural.ardm import Ardm
from dpsynth.neural.gradients import ClippedGradients
from dpsynth.neural.vae import Vae

OpenCurator = Callable[..., Any]
MakeSchema = Callable[..., Schema]
FloatVector = npt.NDArray[np.float64]

ROWS = 100  # in the table, the planted person's not counted
FITS = 160  # 60 on each table for the bound
FEW = 80  # 30 on each: enough for mistakes that show in every fit
CLAIM = Claim.of(Cost.zcdp(Fraction(1)), delta=1e-6)
SMALL: dict[str, Any] = {"steps": 4, "hidden": 8, "rate": Fraction(1), "device": "cpu"}
RECIPES = {"ardm": Ardm(**SMALL, looks=4), "vae": Vae(**SMALL, latent=2)}
"""Everybody is in every batch: nothing protects but the noise."""

every_network = pytest.mark.parametrize("name", RECIPES)


@pytest.fixture(autouse=True)
def _quick_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpsynth.models.network._CALIBRATION_ROWS", 100)


@dataclass
class Game:
    """Fits a recipe and keeps, beside the model, how far each noisy sum went along the planted person's gradient."""

    recipe: Any
    schema: Schema
    pair: Pair
    open_curator: OpenCurator
    seed: int = 0
    along: list[float] = field(default_factory=list)

    def __call__(self, frame: pd.DataFrame) -> Any:
        self.along, honest = [], Training.noisy_sum

        def noisy_sum(training: Training, question: ClippedGradients) -> FloatVector:
            found = honest(training, question)
            self.along.append(self._along(question, found, training.mechanism))
            return found

        curator = self.open_curator(frame, self.schema, seed=self.seed)
        self.seed += 1
        with mock.patch.object(Training, "noisy_sum", noisy_sum):
            model = self.recipe.fit(curator, budget=CLAIM.cost)
        return SimpleNamespace(model=model, along=tuple(self.along), measurements=model.measurements, coarse=())

    def _along(self, question: ClippedGradients, found: FloatVector, mechanism: SampledGaussian) -> float:
        """The log-likelihood ratio of a noisy sum, as well as it is known without the coins of the person."""
        expected = self._sum(question, self.pair.bulk, 1)
        mine = self._sum(question, self.pair.target[None], self.pair.counted)
        return float((found - expected - mine / 2) @ mine) / mechanism.sigma**2

    def _sum(self, question: ClippedGradients, codes: npt.NDArray[np.int32], copies: int) -> FloatVector:
        """What these persons add on average over their coins."""
        guesses = 2
        rows = np.repeat(np.repeat(codes[:, None], copies, axis=1), guesses, axis=0)
        batch = PersonBatch(
            codes=np.ascontiguousarray(rows, dtype=np.int32),
            present=np.ones(rows.shape[:2], dtype=bool),
            coins=np.random.default_rng(7).integers(0, 2**63, len(rows)).astype(np.uint64),
        )
        return question.clipped_sum(batch, clip=1.0) / guesses


class Steps:
    """Reads noisy sums."""

    def observe(self, output: Any) -> tuple[float, ...]:
        return tuple(output.along)

    def learn(self, absent: Sequence[Any], present: Sequence[Any]) -> Sequence[Callable[[Any], float]]:
        return [sum]


class Rows:
    """Reads synthetic rows."""

    def __init__(self, pair: Pair) -> None:
        self._inner = Conjunctions(pair)
        self._rng = np.random.default_rng(5)

    def observe(self, output: Any) -> Any:
        return self._inner.observe(output.model.sample(200, rng=self._rng))

    def learn(self, absent: Sequence[Any], present: Sequence[Any]) -> Sequence[Callable[[Any], float]]:
        return self._inner.learn(absent, present)


@pytest.fixture
def audit(open_curator: OpenCurator, make_schema: MakeSchema) -> Callable[..., CanaryResult]:
    def work(name: str, attacker: Any = None, *, max_rows: int | None = None, fits: int = FITS) -> CanaryResult:
        schema = make_schema((3, 2, 3), max_rows=max_rows)
        pair = next(pair for pair in worst_cases(schema, rows=ROWS) if pair.name == "alone")
        game = Game(RECIPES[name], schema, pair, open_curator)
        reads = Steps() if attacker is None else attacker(pair)
        found = play(pair, game, reads, claim=CLAIM, fits=fits)
        print(f"{name}, {max_rows}: {found.hits} and {found.false_alarms} of {found.trials}, {fits} fits")
        return found

    return work


@pytest.mark.slow
@every_network
@pytest.mark.parametrize("max_rows", [6])
def test_an_honest_network_keeps_its_promise(
    name: str, max_rows: int | None, audit: Callable[..., CanaryResult]
) -> None:
    result = audit(name, max_rows=max_rows)
    assert not result.exceeds
    assert result.conclusive
    assert result.epsilon > 0  # the attacker is no straw man


@pytest.mark.slow
@pytest.mark.parametrize("attacker", [NoisyCounts, Rows])
def test_its_counts_and_its_rows_keep_it_too(attacker: Any, audit: Callable[..., CanaryResult]) -> None:
    assert not audit("ardm", attacker, fits=80).exceeds


def tenth_of_the_noise() -> AbstractContextManager[Any]:
    """Noise on the sums divided by ten; the noisy counts are honest."""
    honest = SampledGaussian.add_noise

    def add_noise(self: SampledGaussian, total: FloatVector, *, rng: Any) -> FloatVector:
        return total + (honest(self, total, rng=rng) - total) / 10

    return mock.patch.object(SampledGaussian, "add_noise", add_noise)


def clipped_by_row() -> AbstractContextManager[Any]:
    """Each row of a person clipped by itself: a person counts as often as there are rows."""
    honest = ClippedGradients.clipped_sum

    def clipped_sum(self: ClippedGradients, batch: PersonBatch, *, clip: float) -> FloatVector:
        rows = batch.present
        apart = PersonBatch(
            codes=batch.codes[rows][:, None],
            present=np.ones((int(rows.sum()), 1), dtype=bool),
            coins=np.repeat(batch.coins, rows.sum(axis=1)),
        )
        return honest(self, apart, clip=clip)

    return mock.patch.object(ClippedGradients, "clipped_sum", clipped_sum)


@pytest.mark.slow
@every_network
@pytest.mark.parametrize(("mistake", "max_rows"), [(tenth_of_the_noise, None), (clipped_by_row, 6)])
def test_mistakes_of_training_are_caught(
    name: str,
    mistake: Callable[[], AbstractContextManager[Any]],
    max_rows: int | None,
    audit: Callable[..., CanaryResult],
) -> None:
    with mistake():
        assert audit(name, max_rows=max_rows, fits=FEW).exceeds


@pytest.mark.slow
def test_too_little_noise_on_its_counts_is_caught(audit: Callable[..., CanaryResult]) -> None:
    with mistakes.tenth_of_the_noise():
        assert audit("ardm", NoisyCounts, fits=FEW).exceeds
