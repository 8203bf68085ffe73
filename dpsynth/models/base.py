"""What a model is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from dpsynth.coarsening import Coarse
from dpsynth.errors import PrivacyRefusal
from dpsynth.mechanisms.base import CycleCounts, Measurement
from dpsynth.schema import Schema
from dpsynth.table import Table


def require_charged(measurements: Sequence[Measurement | CycleCounts]) -> None:
    """Refuses to keep a model of which some measurement was charged to no ledger.

    Raises:
        PrivacyRefusal: it is one.
    """
    if any(measurement.throw_away for measurement in measurements):
        raise PrivacyRefusal("this model was fitted in a rehearsal, which no ledger knows: fit it in a release")


class Model(Protocol):
    """A distribution over tables in a schema, built from measurements alone."""

    @property
    def schema(self) -> Schema: ...

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Every noisy answer that the model was built from."""
        ...

    @property
    def coarse(self) -> Sequence[Coarse]:
        """The columns that follow the schema's in the measurements."""
        ...

    @property
    def total(self) -> float:
        """Estimated number of rows on the fit side, from the noisy measurements; at least 1."""
        ...

    def sample(self, rows: int, *, rng: np.random.Generator) -> Table:
        """`rows` synthetic rows, as codes."""
        ...

    def save(self, folder: Path) -> None:
        """Writes JSON and npz files, no pickle, no rows.

        Raises:
            PrivacyRefusal: no ledger was charged for what it was fitted on.
        """
        ...
