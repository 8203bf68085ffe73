"""Synthetic rows from a model, part by part: what a release and `dpsynth sample` write, in memory that does not grow.

Each part is a table of its own: counts within one row of their expectation, persons with all their rows. Parts differ
from each other in nothing but chance, and only fakes that must differ know of earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from dpsynth.fakes import Fakes
from dpsynth.models.base import Model
from dpsynth.models.rows import RowsOnly, drawn
from dpsynth.persons import Dealt, UnitSizes, deal
from dpsynth.randomness import sampling_generator
from dpsynth.schema import Schema
from dpsynth.table import Part, Records, Table

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE = 1_000_000
"""Rows that are in memory together."""


class Sample(Protocol):
    """Draws rows."""

    def __call__(self, rows: int, *, rng: np.random.Generator) -> Table: ...


@dataclass(frozen=True, kw_only=True, repr=False)
class Drawn:
    """Some of the synthetic rows.

    Args:
        cells: As the model has them.
        records: As values.
        dealt: To whom they belong, where persons are synthetic.
        fakes: The columns that no model made.
    """

    cells: Table
    records: Records
    dealt: Dealt | None
    fakes: Mapping[str, pa.Array]

    def written(self, schema: Schema) -> Part:
        """What a file holds of it.

        Args:
            schema: With the columns that are filled.
        """
        return Records(schema, self.records.columns), self.fakes


def parts_of(
    model: Model, rows: int, *, schema: Schema, sizes: UnitSizes | None = None, sample: Sample | None = None
) -> Iterator[Drawn]:
    """So many rows, part by part; at least one part. Of rows without a model there is one, of those that there are.

    Args:
        schema: The completed schema of the table, with the columns that are filled.
        sizes: Rows per unit, where synthetic rows have units.
        sample: How the model draws, where it is told more than how many rows.
    """
    rng = sampling_generator()
    if isinstance(model, RowsOnly):
        rows = len(model.records)
    at_once = max(1, rows) if isinstance(model, RowsOnly) else AT_ONCE
    made = Fakes(schema, rows, rng=rng)
    for first in range(0, max(1, rows), at_once):
        some = min(at_once, rows - first)
        if sample is None:
            cells, records = drawn(model, some, rng=rng)
        else:
            cells = sample(some, rng=rng)
            records = cells.decode(rng=rng)
        dealt = None
        if sizes is not None:
            dealt = deal(Records(schema, records.columns), sizes, rng=rng, rules=cells.rules)
            records = Records(records.schema, dealt.records.columns)
        fakes = made.part(some, None if dealt is None else dealt.person)
        yield Drawn(cells=cells, records=records, dealt=dealt, fakes=fakes)
