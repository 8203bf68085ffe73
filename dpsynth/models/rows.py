"""What is left of another program's fit: rows, and no model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from dpsynth.coarsening import Coarse
from dpsynth.errors import UsageError
from dpsynth.mechanisms.base import Measurement
from dpsynth.models.base import Model
from dpsynth.schema import Schema
from dpsynth.table import Records, Table

KIND = "rows only"
_FORMAT = "dpsynth.model/2"
_NO_MODEL = "this release holds another program's rows and no model: use synthetic.parquet, or make a new release"


@dataclass(frozen=True, kw_only=True)
class RowsOnly:
    """Stands where a model would be; nothing more can be drawn from it.

    Args:
        schema: What the columns mean.
        records: The rows that the program wrote.
        claim: The (epsilon, delta) for one unit that follows from what the program claims for one row.
    """

    schema: Schema
    records: Records
    claim: tuple[Fraction, Fraction]

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """None: the program kept its noisy answers to itself."""
        return ()

    @property
    def coarse(self) -> Sequence[Coarse]:
        return ()

    @property
    def total(self) -> float:
        """The number of rows that were asked for; nothing is known about the rows that were learned from."""
        return float(max(1, len(self.records)))

    def sample(self, rows: int, *, rng: np.random.Generator) -> Table:
        """Refused.

        Raises:
            UsageError: always.
        """
        raise UsageError(_NO_MODEL)

    def save(self, folder: Path) -> None:
        """Writes `model.json`, which says that there is no model."""
        folder.mkdir()
        facts = {"format": _FORMAT, "kind": KIND, "why": "another program made the rows and kept its model"}
        (folder / "model.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def drawn(model: Model, rows: int, *, rng: np.random.Generator) -> tuple[Table, Records]:
    """Synthetic rows as cells and as values; of rows without a model those that there are."""
    if isinstance(model, RowsOnly):
        return Table.encode(model.records), model.records
    synthetic = model.sample(rows, rng=rng)
    return synthetic, synthetic.decode(rng=rng)


def refuse_rows_only(folder: Path) -> None:
    """Refuses a model folder that says that it holds none.

    Raises:
        UsageError: it does.
    """
    try:
        facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # for whoever reads the model to complain about
    if isinstance(facts, dict) and facts.get("kind") == KIND:
        raise UsageError(_NO_MODEL)
