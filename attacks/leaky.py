"""Generators that leak on purpose, run beside an audited one: what its attackers must catch, and what they might.

Each is a generator like any other (`attacks.generators`). They take real rows without noise: what they write in a game of
real rows is class P3, and gone when the game is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from attacks.generators import Generator
from attacks.neighbours import Codes, Pair
from dpsynth import (
    Cost,
    Curator,
    Marginals,
    Measurement,
    Model,
    PrivacyRefusal,
    Rehearsal,
    Schema,
    Table,
    Trial,
    attack_generator,
)

if TYPE_CHECKING:
    import pandas as pd

Tell: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Copying(Marginals):
    """A synthesizer that leaks: its rows are drawn from those that it was given, with replacement.

    Args:
        coins: Which rows are drawn.
    """

    coins: np.random.Generator
    name: str = "copying"

    def check(self, schema: Schema) -> None:
        """Serves any table."""

    def fit(self, curator: Curator, *, budget: Cost, progress: Tell = lambda stage: None) -> Model:
        """Takes the rows, and asks nothing."""
        return _Copied(Table.encode(curator.review_sample().fit.records), self.coins)


@dataclass(frozen=True, repr=False)
class _Copied:
    """Rows in the place of a model."""

    rows: Table
    coins: np.random.Generator
    measurements: tuple[Measurement, ...] = ()
    coarse: tuple[Any, ...] = ()

    @property
    def schema(self) -> Schema:
        return self.rows.schema

    @property
    def total(self) -> float:
        return max(len(self.rows), 1)

    def sample(self, rows: int, *, rng: np.random.Generator) -> Table:
        chosen = self.coins.integers(max(len(self.rows), 1), size=rows if len(self.rows) else 0)
        return Table(self.rows.schema, self.rows.codes[chosen])

    def save(self, folder: Path) -> NoReturn:
        raise PrivacyRefusal("rows are no model")


def copying(schema: Schema, *, rows: int | None, seed: Sequence[int]) -> Generator:
    """The whole pipeline around `Copying`. It promises nothing that anybody believes."""
    return Rehearsal(schema, synthesizer=Copying(attack_generator(*seed, 1)), epsilon=1, delta="1e-6", rows=rows)


@dataclass(frozen=True)
class OneColumn(Marginals):
    """A synthesizer that leaks less: of every row one value is drawn from the rows that it was given, and no other.

    Args:
        coins: Which values are drawn.
        column: Which one leaks.
        others: Rows, the same in every run, from which all other columns are drawn, each by itself; where there are none
            every cell is as likely. Shape (rows, columns).
    """

    coins: np.random.Generator
    column: int
    others: Codes
    name: str = "one column"

    def check(self, schema: Schema) -> None:
        """Serves any table."""

    def fit(self, curator: Curator, *, budget: Cost, progress: Tell = lambda stage: None) -> Model:
        """Takes the column, and asks nothing."""
        rows = Table.encode(curator.review_sample().fit.records)
        return _OneCopied(rows, self.coins, column=self.column, others=self.others)


@dataclass(frozen=True, repr=False, kw_only=True)
class _OneCopied(_Copied):
    column: int
    others: Codes

    def sample(self, rows: int, *, rng: np.random.Generator) -> Table:
        codes = np.empty((rows, len(self.schema.sizes)), dtype=np.int32)
        for column, size in enumerate(self.schema.sizes):
            known = (self.rows.codes if column == self.column else self.others)[:, column]
            drawn = self.coins.integers(len(known) or size, size=rows)
            codes[:, column] = known[drawn] if len(known) else drawn
        return Table(self.schema, codes)


def one_column(schema: Schema, others: Codes, *, rows: int, seed: Sequence[int]) -> Generator:
    """The whole pipeline around `OneColumn`; which column leaks is drawn among those of more than one cell."""
    coins = attack_generator(*seed, 3)
    wide = np.flatnonzero(np.array(schema.sizes) > 1)
    column = int(coins.choice(wide if len(wide) else len(schema.sizes)))
    return Rehearsal(schema, synthesizer=OneColumn(coins, column, others), epsilon=1, delta="1e-6", rows=rows)


class LittleNoise:
    """A generator that leaks: it measures what ours measured, and says ten times the noise that it adds."""

    def __init__(self, pair: Pair, trial: Trial, seed: Sequence[int]) -> None:
        """Measures what `trial` measured."""
        self._pair, self._trial = pair, trial
        self._rng = attack_generator(*seed, 2)
        self._moves = [pair.shift(m.columns, trial.coarse) for m in trial.measurements]

    def run(self, frame: pd.DataFrame) -> Trial:
        """Of the counts only those are right that tell the tables apart; no attacker reads another."""
        sign = 1 if self._pair.is_present(frame) else -1
        measurements = []
        for measurement, moves in zip(self._trial.measurements, self._moves, strict=True):
            values = np.zeros_like(measurement.values)
            for move in moves:
                noise = self._rng.normal(scale=measurement.sigma / 10)
                values[move.cell] = round(move.mean + sign * move.by / 2 + noise)
            measurements.append(replace(measurement, values=values))
        return replace(self._trial, measurements=tuple(measurements))
