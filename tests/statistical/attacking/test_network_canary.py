"""DP-SGD is attacked where it is weakest, at its noisy sums, and the same audit catches its classic mistakes.

The attacker knows all other rows, sees the weights before each step and the noisy sum after it, and projects the sums on
the gradient that the planted person would have had: the white box of Nasr et al., IEEE S&P 2021. The noise follows from
seeds, so an honest recipe passes always or never; on fresh seeds it would fail with a chance of at most 1e-3 an audit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from fractions import Fraction
from typing import Any
from unittest import mock

import network_game
import numpy as np
import numpy.typing as npt
import pytest
from network_game import CLAIM, Game

from attacks.canary import CanaryResult, Claim, Conjunctions, NoisyCounts, play
from attacks.neighbours import Pair, worst_cases
from benchmarks import mistakes
from dpsynth import SYNTHESIZERS, Cap, Schema
from dpsynth.curator import PersonBatch, clipped_sum
from dpsynth.mechanisms.dp_sgd import SampledGaussian
from dpsynth.neural.ardm import Ardm
from dpsynth.neural.gradients import Gradients
from dpsynth.neural.recipe import DpSgd
from dpsynth.neural.vae import Vae

OpenCurator = Callable[..., Any]
MakeSchema = Callable[..., Schema]
FloatVector = npt.NDArray[np.float64]

ROWS = 100  # in the table, the planted person's not counted
FITS = 160  # 60 on each table for the bound
FEW = 80  # 30 on each: enough for mistakes that show in every fit
SMALL: dict[str, Any] = {"steps": 4, "hidden": 8, "rate": Fraction(1), "device": "cpu"}
RECIPES = {"ardm": Ardm(**SMALL, looks=4), "vae": Vae(**SMALL, latent=2)}
"""Everybody is in every batch: nothing protects but the noise."""

MANY_STEPS = {name: replace(recipe, steps=16) for name, recipe in RECIPES.items()}
POISSON = {name: replace(recipe, steps=16, rate=Fraction(1, 1000)) for name, recipe in RECIPES.items()}
"""Batches as for a table declared to be large: what they cost counts on who is in them being chance."""

every_network = pytest.mark.parametrize("name", RECIPES)


def test_every_network_of_the_registry_is_audited_here() -> None:
    """`test_canary.py` and `test_one_run.py` leave these out and take all others."""
    assert {name for name, make in SYNTHESIZERS.items() if isinstance(make(), DpSgd)} == RECIPES.keys()


@pytest.fixture(autouse=True)
def _quick() -> Iterator[None]:
    with network_game.quick():
        yield


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
    def work(
        name: str,
        attacker: Any = None,
        *,
        max_rows: int | None = None,
        fits: int = FITS,
        recipes: Mapping[str, DpSgd] = RECIPES,
        which: str = "alone",
        rows: int = ROWS,
    ) -> CanaryResult:
        schema = make_schema((3, 2, 3), max_rows=max_rows)
        pair = next(pair for pair in worst_cases(schema, rows=rows) if pair.name == which)
        claim = CLAIM
        if recipes is POISSON:
            claim = Claim.of(recipes[name].cost(schema, promise=Cap.of(1, "1e-6"), share=Fraction(1)), delta=1e-6)
        game = Game(recipes[name], schema, pair, open_curator, claim)
        reads = Steps() if attacker is None else attacker(pair)
        found = play(pair, game, reads, claim=claim, fits=fits)
        print(f"{name}, {max_rows}: {found.hits} and {found.false_alarms} of {found.trials}, {fits} fits")
        return found

    return work


@pytest.mark.slow
@every_network
@pytest.mark.parametrize("max_rows", [6])
def test_an_honest_network_keeps_its_promise(
    name: str, max_rows: int | None, audit: Callable[..., CanaryResult]
) -> None:
    result = audit(name, max_rows=max_rows, fits=2 * FITS)
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
    honest = clipped_sum

    def by_row(question: Gradients, batch: PersonBatch, *, clip: float) -> FloatVector:
        rows = batch.present
        apart = PersonBatch(
            codes=batch.codes[rows][:, None],
            present=np.ones((int(rows.sum()), 1), dtype=bool),
            coins=np.repeat(batch.coins, rows.sum(axis=1)),
        )
        return honest(question, apart, clip=clip)

    return mock.patch("dpsynth.curator.clipped_sum", by_row)


def composition_forgotten() -> AbstractContextManager[Any]:
    """Each step gets noise as if it were the only one."""
    honest = SampledGaussian.add_noise

    def add_noise(self: SampledGaussian, total: FloatVector, *, rng: Any) -> FloatVector:
        return total + (honest(self, total, rng=rng) - total) / self.steps**0.5

    return mock.patch.object(SampledGaussian, "add_noise", add_noise)


def batches_of_a_fixed_size(size: int = 128) -> AbstractContextManager[Any]:
    """So many persons in every batch, drawn without replacement, whatever rate is accounted for; all if there are fewer."""

    def batch(self: SampledGaussian, persons: int, *, rng: Any) -> npt.NDArray[np.bool_]:
        chosen = np.zeros(persons, dtype=bool)
        chosen[np.argsort(rng.words(persons))[:size]] = True
        return chosen

    return mock.patch.object(SampledGaussian, "batch", batch)


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
@every_network
def test_a_forgotten_composition_is_caught(name: str, audit: Callable[..., CanaryResult]) -> None:
    with composition_forgotten():
        assert audit(name, fits=FEW, recipes=MANY_STEPS, rows=10).exceeds


@pytest.mark.slow
@every_network
def test_batches_of_a_fixed_size_are_caught_and_poisson_batches_keep_the_promise(
    name: str, audit: Callable[..., CanaryResult]
) -> None:
    """On tables without anybody else, where no other gradient blurs the attacker's sight."""
    assert not audit(name, fits=32, recipes=POISSON, which="nobody else").exceeds
    with batches_of_a_fixed_size():
        assert audit(name, fits=FEW, recipes=POISSON, which="nobody else").exceeds


@pytest.mark.slow
def test_too_little_noise_on_its_counts_is_caught(audit: Callable[..., CanaryResult]) -> None:
    with mistakes.tenth_of_the_noise():
        assert audit("ardm", NoisyCounts, fits=FEW).exceeds
