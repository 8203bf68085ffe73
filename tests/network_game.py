"""A network in training, watched from within: the noisy sums of its steps, beside what a planted person adds to them.

For the audits of `tests/statistical/attacking/test_network_*.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pandas as pd

from attacks.canary import Claim
from attacks.neighbours import Pair
from dpsynth import Cost, Schema, curator
from dpsynth.curator import PersonBatch, Training
from dpsynth.mechanisms.dp_sgd import SampledGaussian
from dpsynth.neural.gradients import Gradients

FloatVector = npt.NDArray[np.float64]

CLAIM = Claim.of(Cost.zcdp(Fraction(1)), delta=1e-6)


@contextmanager
def quick() -> Iterator[None]:
    """Calibration on few rows and once, on which no sum depends, and one thread: a hundred rows are not worth two."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with mock.patch.multiple("dpsynth.models.network", _CALIBRATION_ROWS=100, _ROUNDS=1):
            yield
    finally:
        torch.set_num_threads(threads)


def sum_of(question: Gradients, codes: npt.NDArray[np.int32], copies: int, *, clip: float) -> FloatVector:
    """What these persons, each with so many copies of one row, add to a step on average over their coins."""
    if not len(codes):
        return np.zeros(question.size)
    guesses = 2
    rows = np.repeat(np.repeat(codes[:, None], copies, axis=1), guesses, axis=0)
    batch = PersonBatch(
        codes=np.ascontiguousarray(rows, dtype=np.int32),
        present=np.ones(rows.shape[:2], dtype=bool),
        coins=np.random.default_rng(7).integers(0, 2**63, len(rows)).astype(np.uint64),
    )
    return curator.clipped_sum(question, batch, clip=clip) / guesses  # as it is: whoever guesses knows a planted fault


@contextmanager
def watched(look: Callable[[Gradients, FloatVector, SampledGaussian], None]) -> Iterator[None]:
    """Shows each question, its noisy sum and the mechanism, step by step."""
    honest = Training.noisy_sum

    def noisy_sum(training: Training, question: Gradients) -> FloatVector:
        found = honest(training, question)
        look(question, found, training.mechanism)
        return found

    with mock.patch.object(Training, "noisy_sum", noisy_sum):
        yield


@dataclass
class Game:
    """Fits a recipe and keeps, beside the model, its noisy sums, and how far each went along the person's gradient."""

    recipe: Any
    schema: Schema
    pair: Pair
    open_curator: Callable[..., Any]
    claim: Claim = CLAIM
    seed: int = 0
    along: list[float] = field(default_factory=list)
    sums: list[FloatVector] = field(default_factory=list)

    def __call__(self, frame: pd.DataFrame) -> Any:
        self.along, self.sums = [], []

        def look(question: Gradients, found: FloatVector, mechanism: SampledGaussian) -> None:
            self.sums.append(found)
            self.along.append(self._along(question, found, mechanism))

        curator = self.open_curator(frame, self.schema, seed=self.seed)
        self.seed += 1
        with watched(look):
            model = self.recipe.fit(curator, budget=self.claim.cost)
        return SimpleNamespace(
            model=model,
            along=tuple(self.along),
            sums=tuple(self.sums),
            measurements=model.measurements,
            coarse=(),
        )

    def _along(self, question: Gradients, found: FloatVector, mechanism: SampledGaussian) -> float:
        """The log-likelihood ratio of a noisy sum, as well as it is known without the coins of the person."""
        expected = sum_of(question, self.pair.bulk, 1, clip=mechanism.clip) * float(mechanism.rate)
        mine = sum_of(question, self.pair.target[None], self.pair.counted, clip=mechanism.clip)
        return float((found - expected - mine / 2) @ mine) / mechanism.sigma**2
