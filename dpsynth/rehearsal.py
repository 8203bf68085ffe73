"""Rehearsals: the whole pipeline, run on a table for an audit, and nothing kept of it that could become a release.

A rehearsal does what `release` does between the reservation and the files: it reads, bounds, encodes, asks under the
same budget, builds the model, draws rows and decodes them. It charges no ledger: what it spends is counted, and limited,
in memory (`dpsynth.throw_away`). What it hands out, a `Trial`, has no model; the model is gone when `run` returns, and
would have refused to be saved.

Privacy: a trial on rows of real persons is as private as the rows (class P3), however much noise is in it, because an
audit runs thousands of them. A trial on a table made from a schema is public.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NoReturn

from dpsynth.coarsening import Coarse
from dpsynth.curator import Curator, PersonRecords
from dpsynth.errors import BoundToProcess, UsageError
from dpsynth.mechanisms.base import Measurement
from dpsynth.models.base import Model
from dpsynth.models.graphical import check_constraints
from dpsynth.privacy import Cap, Cost, Number
from dpsynth.randomness import sampling_generator
from dpsynth.schema import Schema
from dpsynth.synthesizers.base import Synthesizer
from dpsynth.synthesizers.registry import synthesizer as synthesizer_named
from dpsynth.table import Records
from dpsynth.throw_away import ThrowAway

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 20_000_000
"""Synthetic rows, at most."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Trial:
    """What one run of a generator left for an attacker to read: rows and noisy counts, and no model.

    It refuses to be copied or pickled, and a model made of its measurements refuses to be saved. Its rows are rows like
    any others: who writes them to a file keeps something as private as what went in.

    Args:
        rows: The synthetic rows, in `schema.released()`.
        measurements: The noisy counts behind them, where the generator is our own.
        coarse: The columns that follow the schema's in these.
    """

    rows: Records
    measurements: tuple[Measurement, ...] = ()
    coarse: tuple[Coarse, ...] = ()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise BoundToProcess("a trial cannot be copied or pickled: an audit reads it and lets it go")


class Rehearsal:
    """A synthesizer of ours with the whole pipeline around it, as `release` runs it without a holdout.

    Args:
        schema: What the table looks like; complete, and no draft.
        synthesizer: A name in the registry, or a synthesizer.
        epsilon, delta: The promise; the budget follows from it as for a release.
        rows: Synthetic rows; None takes the noisy number of rows, as a release does.
    Raises:
        IncompleteSchema: the schema is a draft or has blanks.
        UsageError: `release` would refuse this, too.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        synthesizer: str | Synthesizer,
        epsilon: Number,
        delta: Number,
        rows: int | None = None,
    ) -> None:
        recipe = synthesizer_named(synthesizer) if isinstance(synthesizer, str) else synthesizer
        promise = Cap.of(epsilon, delta)
        check_rows(rows)
        schema.require_complete()
        check_constraints(schema)
        recipe.check(schema)
        self.schema = schema
        self.name = recipe.name
        self.epsilon, self.delta = float(promise.epsilon), float(promise.delta)
        self._budget = recipe.cost(schema, promise=promise, share=Fraction(1))
        self.cost: Cost | None = self._budget
        self._recipe = recipe
        self._rows = rows
        self._released = schema.released()

    def __repr__(self) -> str:
        return f"Rehearsal({self.name!r}, epsilon={self.epsilon:g}, delta={self.delta:g})"

    def run(self, frame: pd.DataFrame) -> Trial:
        """One run, from a data frame as a file would hold it to synthetic rows, with fresh entropy every time.

        Raises:
            DataFileError: the frame's columns are not the schema's.
            BudgetExceeded: the synthesizer asked for more than its budget.
        """
        purse = ThrowAway(self._budget, unit=self.schema.unit)
        try:
            curator = Curator.of_frame(frame, self.schema, purse, holdout=Fraction(0))
            model = self._recipe.fit(curator, budget=self._budget)
        finally:
            purse.close()
        rng = sampling_generator()
        rows = rows_to_sample(model, self.schema) if self._rows is None else self._rows
        records = model.sample(rows, rng=rng).decode(rng=rng)
        return Trial(
            rows=Records(self._released, records.columns),
            measurements=tuple(model.measurements),
            coarse=tuple(model.coarse),
        )


def read_for_attack(frame: pd.DataFrame, schema: Schema) -> PersonRecords:
    """The rows of a data frame, read and bounded as for a release, by person, for an attack on these persons.

    Privacy: class P3, and free because no question can be asked.

    Raises:
        DataFileError: the frame's columns are not the schema's.
    """
    purse = ThrowAway(Cost.zero(), unit=schema.unit)
    try:
        return Curator.of_frame(frame, schema, purse).review_sample().fit
    finally:
        purse.close()


def check_rows(rows: int | None) -> None:
    """Refuses a number of synthetic rows that nobody can want."""
    if rows is not None and not 1 <= rows <= MOST_ROWS:
        raise UsageError(f"--rows must be at least 1 and at most {MOST_ROWS}")


def rows_to_sample(model: Model, schema: Schema) -> int:
    """How many rows a release has when nobody says: the noisy number of rows learned from, within public limits."""
    return round(min(model.total, schema.rows_at_most or MOST_ROWS, MOST_ROWS))
