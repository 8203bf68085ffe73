"""Audits where a schema leaves columns to discover: games on a stage with made-up values, discovery included.

Worst-case tables need cells, and of an open column nobody knows any before discovery has run. So the games are played on
a stage: the same schema, in which every open column has values or bounds that were made up. The common ones everybody has;
some only a planted person has. The generator gets these tables under the schema as it is, runs its discovery with the
budget that a release gives it, and its rows are put back on the stage. An attacker sees whether a value was found, how
often it stands there, and everything else that synthetic rows say.

Its noisy counts are over cells that every run finds anew, so nobody reads them. Class P0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from attacks.canary import Conjunctions, HasRows
from attacks.generators import Generator
from attacks.intervals import FloatVector
from dpsynth import Column, Cost, Records, Schema, Table, Trial

if TYPE_CHECKING:
    import pandas as pd

BoolVector: TypeAlias = npt.NDArray[np.bool_]

_VALUES = 8  # of a category
_BINS, _WIDTH = 8, 64  # of a number: parts, and how far apart bounds are that nobody declared
_ELSE = 1  # the cell that stands for every value of the output that is none of these


def stage_for(schema: Schema) -> Schema:
    """The schema with made-up facts in the place of those that are discovered; itself where none are."""
    columns = tuple(_staged(column, schema) if column.is_open else column for column in schema.columns)
    return replace(schema, columns=columns) if schema.is_open else schema


def _staged(column: Column, schema: Schema) -> Column:
    """Without a cell for what is missing: the last cell is a planted person's, and has to be found."""
    made: dict[str, Any] = {"discover": (), "missing": False, "unknown": "drop_row"}
    if not column.is_numeric:
        letters = [letter for letter in "abcdefghijklmnopqrstuvwxyz" if letter not in schema.read.missing]
        return replace(column, **made, values=tuple(letters[:_VALUES]))
    low, high = (None if bound is None else column.step(bound) for bound in (column.minimum, column.maximum))
    low = (0 if high is None else high - _WIDTH) if low is None else low
    high = low + _WIDTH if high is None else high
    ends = (column.clock.iso(low), column.clock.iso(high)) if column.is_time else (low, high)
    bins = _BINS if column.grid is None else min(_BINS, max(1, int((high - low) * 10**column.grid)))
    return replace(column, **made, minimum=ends[0], maximum=ends[1], bins=bins, atoms=None)


def staged(generator: Generator) -> Generator:
    """The generator as the games can play it."""
    return OnStage(generator) if generator.schema.is_open else generator


@dataclass(frozen=True, kw_only=True, repr=False)
class StagedTrial(Trial):
    """Rows on a stage, and what discovery found.

    Args:
        found: For each modelled column, in order, which cells of the stage its values or bounds reach; True where nothing
            was open.
    """

    found: tuple[BoolVector, ...]


@dataclass(frozen=True)
class OnStage:
    """A generator that discovers, on tables of made-up values.

    It shows no noisy counts, so its claim is (epsilon, delta) without the curve.
    """

    generator: Generator
    cost: Cost | None = None

    @property
    def name(self) -> str:
        return self.generator.name

    @property
    def epsilon(self) -> float:
        return self.generator.epsilon

    @property
    def delta(self) -> float:
        return self.generator.delta

    @property
    def schema(self) -> Schema:
        return stage_for(self.generator.schema)

    def run(self, frame: pd.DataFrame) -> StagedTrial:
        """The whole pipeline, discovery included, on one table."""
        rows = self.generator.run(frame).rows
        stage = self.schema.released()
        columns, reached = {}, []
        for column in stage.modelled:
            values, found = rows.columns[column.name], rows.schema.column(column.name)
            if not self.generator.schema.column(column.name).is_open:
                reached.append(np.ones(column.size, dtype=bool))
            elif column.is_numeric:
                edges, ends = column.binning.edges, found.binning.edges
                values = np.clip(np.nan_to_num(values, nan=edges[0]), edges[0], edges[-1])
                reached.append(np.asarray((edges[1:] > ends[0]) & (edges[:-1] <= ends[-1])))
            else:
                place = {label: cell for cell, label in enumerate(column.labels)}
                cells = [place.get(label, _ELSE) for label in found.labels] + [_ELSE]  # the last one if it is missing
                values = np.array(cells, dtype=np.int32)[values]
                reached.append(np.isin(column.labels, found.labels))
            columns[column.name] = values
        return StagedTrial(rows=Records(stage, columns), found=tuple(reached))


@dataclass(frozen=True)
class Finder(Conjunctions):
    """Reads the schema that comes with synthetic rows as well: in how many columns the planted person's value was found.

    Of a generator that names no such values, those that occur in its rows count.
    """

    def observe(self, output: Table | HasRows) -> FloatVector:
        seen = super().observe(output)
        found = getattr(output, "found", None)
        if found is None:
            codes = output.codes if isinstance(output, Table) else Table.encode(output.rows).codes
            found = [
                np.bincount(column, minlength=size) > 0
                for column, size in zip(codes.T, self.pair.schema.sizes, strict=True)
            ]
        mine, other = (
            0 if person is None else sum(bool(cells[cell]) for cells, cell in zip(found, person, strict=True))
            for person in (self.pair.target, self.pair.other)
        )
        return np.append(seen, float(mine - other))

    def learn(
        self, absent: Sequence[FloatVector], present: Sequence[FloatVector]
    ) -> Sequence[Callable[[FloatVector], float]]:
        """Those of `Conjunctions`, and what was found alone."""
        return (*super().learn(absent, present), lambda seen: float(seen[-1]))
