"""Rehearsals: the whole pipeline, run on a table for an audit, and nothing kept of it that could become a release.

A rehearsal does what `release` does between the reservation and the files: it reads, bounds, encodes, asks under the
same budget, builds the model, draws rows and decodes them. It charges no ledger: what it spends is counted, and limited,
in memory (`dpsynth.throw_away`). What it hands out, a `Trial`, has no model; the model is gone when `run` returns, and
would have refused to be saved.

Privacy: a trial on rows of real persons is as private as the rows (class P3), however much noise is in it, because an
audit runs thousands of them. A trial on a table made from a schema is public.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

from dpsynth import discovery
from dpsynth.counting.base import PersonRecords
from dpsynth.curator import Curator
from dpsynth.errors import UsageError
from dpsynth.models.base import Model
from dpsynth.models.graphical import check_constraints
from dpsynth.models.rows import drawn
from dpsynth.persons import SHARE, UnitSizes, deal
from dpsynth.privacy import Cap, Cost, Number
from dpsynth.randomness import sampling_generator
from dpsynth.schema import Schema
from dpsynth.synthesizers import seasons
from dpsynth.synthesizers.base import Synthesizer
from dpsynth.synthesizers.external import External
from dpsynth.synthesizers.registry import settings_of
from dpsynth.synthesizers.registry import synthesizer as synthesizer_named
from dpsynth.table import Records
from dpsynth.throw_away import ThrowAway
from dpsynth.trial import MOST_HELD, MOST_ROWS, Trial, check_rows

if TYPE_CHECKING:
    import pandas as pd


class Rehearsal:
    """A synthesizer with the whole pipeline around it, as `release` runs it without a holdout.

    Another program is told the (epsilon, delta) under test, converted to single rows. In a release it is told less, for
    what the conversion to the ledger's measure costs.

    Args:
        schema: What the table looks like; complete, and no draft.
        synthesizer: A name in the registry, or a synthesizer.
        epsilon, delta: The promise; the budget follows from it as for a release.
        rows: Synthetic rows; None takes the noisy number of rows, as a release does. Of another program the recipe says.
        most_delta0: What the ledger of the release sets aside for approximate steps, if that is less than the promise does.
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
        most_delta0: Fraction | None = None,
    ) -> None:
        recipe = synthesizer_named(synthesizer, rows=rows) if isinstance(synthesizer, str) else synthesizer
        promise = Cap.of(epsilon, delta)
        check_rows(rows)
        schema.require_complete()
        check_constraints(schema.widest())
        recipe.check(schema.widest())
        self.schema = schema
        self.name = recipe.name
        self.epsilon, self.delta = float(promise.epsilon), float(promise.delta)
        self.cost: Cost | None = None  # another program shows no noisy counts
        share = discovery.share_for(schema)
        self._searching = discovery.budget_for(schema, promise=promise, share=share, most_delta0=most_delta0)
        self._for_cycles = self._for_sizes = Cost.zero()
        if isinstance(recipe, External):
            if schema.is_open:
                raise UsageError("another program's claim is audited alone: declare what the schema leaves to discover")
            self._budget = recipe.claimed(schema, epsilon=promise.epsilon, delta=promise.delta)
            self.delta = float(self._budget.delta0)  # none where the program promises none: the sharper claim
        else:
            sizes = SHARE * (1 - share) if schema.synthetic_units else Fraction(0)
            cycles = seasons.part_for(schema, recipe) * (1 - share - sizes)
            self._budget = recipe.cost(schema.widest(), promise=promise, share=1 - share - sizes - cycles)
            self._for_cycles, self._for_sizes = promise.cost.share(cycles), promise.cost.share(sizes)
            self.cost = self._budget + self._searching + self._for_cycles + self._for_sizes
        self.settings: Mapping[str, str] = settings_of(recipe) | discovery.setting(share)
        self._recipe = recipe
        self._rows = rows

    def __repr__(self) -> str:
        return f"Rehearsal({self.name!r}, epsilon={self.epsilon:g}, delta={self.delta:g})"

    def run(self, frame: pd.DataFrame) -> Trial:
        """One run, from a data frame as a file would hold it to synthetic rows, with fresh entropy every time.

        Raises:
            DataFileError: the frame's columns are not the schema's.
            BudgetExceeded: the synthesizer asked for more than its budget.
        """
        beside = self._searching + self._for_cycles + self._for_sizes
        purse = ThrowAway(self._budget + beside, unit=self.schema.unit)
        sizes: UnitSizes | None = None
        try:
            curator = Curator.of_frame(frame, self.schema, purse, holdout=Fraction(0))
            discovery.discover(curator, budget=self._searching)
            model = self._recipe.fit(curator, budget=self._budget)
            model = seasons.with_cycles(model, curator, rho=self._for_cycles.rho)
            if self._for_sizes.rho:
                sizes = UnitSizes.measured(curator, rho=self._for_sizes.rho)
        finally:
            purse.close()
        rows = rows_to_sample(model, self.schema) if self._rows is None else self._rows
        cells, records = drawn(model, rows, rng=sampling_generator())
        if sizes is not None:
            rows_of = Records(curator.schema, records.columns)
            records = deal(rows_of, sizes, rng=sampling_generator(), rules=cells.rules).records
        return Trial(
            rows=Records(curator.schema.released(), records.columns),
            measurements=tuple(model.measurements),
            coarse=tuple(model.coarse),
            sizes=() if sizes is None else sizes.counts,
            sizes_sigma=0.0 if sizes is None else sizes.sigma,
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


def rows_to_sample(model: Model, schema: Schema) -> int:
    """How many rows a release has when nobody says: the noisy number of rows learned from, within public limits."""
    return round(min(model.total, most_rows(schema)))


def most_rows(schema: Schema) -> int:
    """How many rows such a release can have: public."""
    return min(schema.rows_at_most or MOST_HELD, MOST_ROWS)
