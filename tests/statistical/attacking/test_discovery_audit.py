"""Discovery is audited with everything else: an honest one is not contradicted, one that publishes single values is.

Noise is fresh. An honest audit fails with a chance of at most 1 in 1,000.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest

from attacks.audit import audit_generator
from attacks.neighbours import frame_of
from attacks.staging import OnStage, stage_for
from dpsynth import Column, IncompleteSchema, Rehearsal, Schema
from dpsynth.mechanisms.partition_selection import PartitionSelection

TOWN = Column(name="town", type="category", discover=("values",), missing=True)
AGE = Column(name="age", type="integer", discover=("minimum", "maximum", "bins"))


def schema_of(*columns: Column, **facts: Any) -> Schema:
    return Schema(table="t", columns=(*columns, Column(name="b", type="boolean")), **facts)


def singletons(self: PartitionSelection, units: Any, *, rng: Any) -> Any:
    """The fault: a threshold that ignores epsilon, so that half of all values of one person are published."""
    noisy = self.noise.add_noise(units, rng=rng)
    noisy[noisy < 1] = -1
    return noisy


@pytest.mark.parametrize(
    "schema",
    [
        schema_of(TOWN),
        pytest.param(schema_of(TOWN, AGE), marks=pytest.mark.slow),
        pytest.param(schema_of(TOWN, neighbours="replace"), marks=pytest.mark.slow),
        pytest.param(schema_of(TOWN, entity="person", unit_column="id", max_rows=2), marks=pytest.mark.slow),
    ],
    ids=["values", "bounds", "replace", "persons"],
)
def test_published_singletons_are_caught_and_honest_discovery_is_not(schema: Schema) -> None:
    generator = Rehearsal(schema, synthesizer="independent", epsilon=1, delta="1e-6", rows=200)
    honest = audit_generator(generator, fits=170, rows=50)
    assert honest.verdict != "fail"
    assert honest.plan.left_out == ("noisy_counts",)
    assert honest.privacy_class == "P0"
    with mock.patch.object(PartitionSelection, "published", singletons):
        assert audit_generator(generator, fits=600, rows=50).verdict == "fail"


def test_a_stage_has_what_discovery_would_find() -> None:
    date = Column(name="d", type="date", minimum="2020-02-01", discover=("maximum", "bins"))
    number = Column(name="n", type="number", maximum=5.0, discover=("minimum",), bins=4, atoms=(0.5,))
    schema = schema_of(TOWN, AGE, date, number)
    stage = stage_for(schema)
    assert not stage.is_open
    assert stage_for(stage) is stage
    assert stage.sizes == (8, 8, 8, 8, 2)
    assert stage.column("d").minimum == "2020-02-01"
    narrow = Column(name="n", type="number", minimum=0.0, maximum=0.3, decimals=1, discover=("bins",))
    assert stage_for(schema_of(narrow)).sizes == (3, 2)
    assert (stage.column("n").minimum, stage.column("n").maximum) == (-59.0, 5.0)


def test_rows_come_back_in_the_cells_of_the_stage() -> None:
    schema = schema_of(TOWN)
    generator = OnStage(Rehearsal(schema, synthesizer="independent", epsilon=1000, delta="1e-2", rows=400))
    codes = np.array([[0, 0]] * 50 + [[7, 1]] * 50, dtype=np.int32)
    frame = frame_of(stage_for(schema), [codes], range(100))
    frame.loc[0, "town"] = "elsewhere"
    trial = generator.run(frame)
    assert trial.found[0].tolist() == [True] + [False] * 6 + [True]
    assert trial.found[1].all()
    towns = np.bincount(trial.rows.columns["town"], minlength=8)
    assert towns[[0, 7]].sum() > 380
    assert towns[[2, 3, 4, 5, 6]].sum() == 0


def test_real_rows_need_a_closed_schema() -> None:
    generator = Rehearsal(schema_of(TOWN), synthesizer="independent", epsilon=1, delta="1e-6")
    with pytest.raises(IncompleteSchema, match="discover"):
        audit_generator(generator, fits=400, frame=mock.Mock())
