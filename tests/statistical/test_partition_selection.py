"""Partition selection against its worst case: a small table in which one person has texts that nobody else has.

How often any of them is published is held against delta0, which is made large enough to be measured; what the noisy
numbers of common texts give away is held against rho. The noise follows from seeds. On fresh ones each test would fail a
correct program with a chance of at most FALSE_ALARM.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from attacks.intervals import clopper_pearson_low, epsilon_lower_bound
from dpsynth import discovery
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.mechanisms.partition_selection import PartitionSelection
from dpsynth.privacy import Cost
from dpsynth.rehearsal import Rehearsal
from dpsynth.schema import Column, Schema
from dpsynth.synthesizers.independent import Independent

FALSE_ALARM = 1e-6  # chance that one audit of a correct program fails
DELTA0 = Fraction(1, 20)
RHO = Fraction(1, 50)
RUNS = 3000
PERSONS = 60

Published = Callable[[], npt.NDArray[np.bool_]]


def schema_of(max_rows: int) -> Schema:
    job = Column(name="job", type="category", discover=("values",))
    return Schema(table="t", columns=(job,), entity="person", unit_column="who", max_rows=max_rows)


def frame_of(max_rows: int, *, target: bool = True) -> pd.DataFrame:
    """At most 100 rows: a crowd with one text, and the target with texts of its own."""
    who = [f"p{n}" for n in range(PERSONS)] + ["target"] * max_rows * target
    job = ["common"] * PERSONS + [f"unique {n}" for n in range(max_rows)] * target
    assert len(who) <= 100
    return pd.DataFrame({"who": who, "job": job}, dtype=object)


def mechanism_of(max_rows: int) -> PartitionSelection:
    return PartitionSelection.calibrated(rho=RHO, delta0=DELTA0, l2_squared=max_rows, values=max_rows)


@pytest.fixture(scope="module")
def exposures(open_curator: Any) -> Callable[[int], int]:
    """In how many of RUNS answers the target is exposed: with max_rows texts that nobody else has."""

    def work(max_rows: int) -> int:
        curator = open_curator(frame_of(max_rows), schema_of(max_rows), seed=11)
        mechanism = mechanism_of(max_rows)
        found = (curator.find_values("job", mechanism) for _ in range(RUNS))
        return sum(any(value.text.startswith("unique") for value in values) for values in found)

    return work


def lower(successes: int, trials: int) -> float:
    return clopper_pearson_low(successes, trials, confidence=1 - FALSE_ALARM)


def lower_threshold(by: int) -> AbstractContextManager[Any]:
    """What is published from a threshold on that is too low, while delta0 is charged for the right one."""

    def published(self: PartitionSelection, units: Any, *, rng: Any) -> npt.NDArray[np.int64]:
        noisy = self.noise.add_noise(units, rng=rng)
        return np.where(noisy < self.least - by, -1, noisy)

    return mock.patch.object(PartitionSelection, "published", published)


@pytest.mark.parametrize("max_rows", [1, 5])
def test_a_text_of_one_person_is_published_as_seldom_as_was_charged(
    max_rows: int, exposures: Callable[[int], int]
) -> None:
    charged = mechanism_of(max_rows).cost(l2_squared=max_rows, values=max_rows).delta0
    assert 0.8 * DELTA0 < charged <= DELTA0
    seen = exposures(max_rows)
    assert lower(seen, RUNS) <= charged
    if max_rows == 1:  # nor is the threshold needlessly high; of five texts two may be published at once
        assert stats.binom.cdf(seen, RUNS, 0.9 * float(charged)) > FALSE_ALARM


@pytest.mark.parametrize("max_rows", [1, 5])
def test_a_threshold_that_is_too_low_is_noticed(max_rows: int, exposures: Callable[[int], int]) -> None:
    by = round(mechanism_of(max_rows).noise.sigma / 2)
    assert 1 <= by <= 6
    with lower_threshold(by):
        assert lower(exposures(max_rows), RUNS) > DELTA0


def test_delta0_for_one_text_of_five_is_noticed(exposures: Callable[[int], int]) -> None:
    honest = PartitionSelection.calibrated.__func__  # type: ignore[attr-defined]

    def without_k(cls: Any, *, values: int, **words: Any) -> PartitionSelection:
        made: PartitionSelection = honest(cls, values=1, **words)
        return made

    with mock.patch.object(PartitionSelection, "calibrated", classmethod(without_k)):
        assert lower(exposures(5), RUNS) > DELTA0


def tenth_of_the_noise() -> AbstractContextManager[Any]:
    honest = DiscreteGaussian.add_noise

    def add_noise(self: DiscreteGaussian, counts: Any, *, rng: Any) -> npt.NDArray[np.int64]:
        return honest(DiscreteGaussian(sigma_squared=self.sigma_squared / 100), counts, rng=rng)

    return mock.patch.object(DiscreteGaussian, "add_noise", add_noise)


@pytest.mark.parametrize(("fault", "noticed"), [(nullcontext, False), (tenth_of_the_noise, True)])
def test_the_number_of_persons_gives_away_no_more_than_was_charged(
    fault: Callable[[], AbstractContextManager[Any]], noticed: bool, open_curator: Any
) -> None:
    """The target has the common text, or is not there: who sees the noisy number guesses which, at any cut."""
    delta, runs = Fraction(1, 10), 400
    frames = [frame_of(1, target=False), frame_of(1).replace("unique 0", "common")]
    with fault():
        seen = []
        for seed, frame in enumerate(frames):
            curator = open_curator(frame, schema_of(1), seed=seed)
            answers = [curator.find_values("job", mechanism_of(1)) for _ in range(runs)]
            seen.append(np.array([sum(value.units for value in values) for values in answers]))
    charged = mechanism_of(1).cost(l2_squared=1, values=1)
    absent, present = ((units > PERSONS).sum() for units in seen)
    shown = epsilon_lower_bound(int(present), int(absent), runs, delta=float(delta), confidence=1 - FALSE_ALARM)
    assert (shown > charged.epsilon(delta)) == noticed


# ---- the whole of discovery ----------------------------------------------------------------------------------------


@pytest.fixture
def wide_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Discovery gets a delta0 that can be measured, as no promise would give it."""
    honest = discovery.budget_for

    def budget_for(schema: Schema, **words: Any) -> Cost:
        return Cost.zcdp(honest(schema, **words).rho, delta0=DELTA0)

    monkeypatch.setattr("dpsynth.discovery.budget_for", budget_for)


@pytest.mark.slow
@pytest.mark.parametrize(("by", "noticed"), [(0, False), (6, True)])
@pytest.mark.usefixtures("seeded_noise")
def test_a_rehearsal_of_the_whole_release_exposes_nobody_more_often(by: int, noticed: bool, wide_budget: None) -> None:
    """From the frame to the synthetic rows: the text is among the labels of the completed schema, or it is not."""
    rehearsal = Rehearsal(schema_of(1), synthesizer=Independent(), epsilon=8, delta="1e-6", rows=1)
    runs, frame = 300, frame_of(1)
    with lower_threshold(by) if by else nullcontext():
        seen = sum("unique 0" in rehearsal.run(frame).rows.schema.column("job").labels for _ in range(runs))
    assert (lower(seen, runs) > DELTA0) == noticed
