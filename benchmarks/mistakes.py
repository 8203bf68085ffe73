"""Classic mistakes, planted in the mechanisms or rehearsals of this process for as long as a `with` block lasts.

They exist so that audits can be seen to catch them (`tests/statistical/attacking/`, `benchmarks/certified.py`). Each
leaves what is stated alone, costs and sigmas, and changes what is done: so no book notices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from unittest import mock
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from dpsynth import DiscreteGaussian, PrivacyUnit, Records, Rehearsal, Trial

if TYPE_CHECKING:
    import pandas as pd

IntArray = npt.NDArray[np.int64]
Draw = Callable[[DiscreteGaussian, IntArray, Any], IntArray]


@contextmanager
def _noise(planted: Callable[[Draw], Draw]) -> Iterator[None]:
    """Puts another way of adding noise in place of the honest one, which it is given."""
    real = DiscreteGaussian.add_noise

    def honest(mechanism: DiscreteGaussian, counts: IntArray, rng: Any) -> IntArray:
        return real(mechanism, counts, rng=rng)

    draw = planted(honest)

    def add_noise(mechanism: DiscreteGaussian, counts: Any, *, rng: Any) -> IntArray:
        return draw(mechanism, np.asarray(counts, dtype=np.int64), rng)

    with mock.patch.object(DiscreteGaussian, "add_noise", add_noise):
        yield


def tenth_of_the_noise() -> AbstractContextManager[None]:
    """Noise divided by ten, and rounded."""

    def planted(honest: Draw) -> Draw:
        return lambda m, exact, rng: exact + np.rint((honest(m, exact, rng) - exact) / 10).astype(np.int64)

    return _noise(planted)


def forgotten_composition(rho: Fraction, unit: PrivacyUnit) -> AbstractContextManager[None]:
    """Every count gets noise as if it were the only one to be paid from `rho`."""

    def planted(honest: Draw) -> Draw:
        alone = DiscreteGaussian.calibrated(rho=rho, l2_squared=unit.l2_squared)
        return lambda m, exact, rng: honest(alone if alone.sigma_squared < m.sigma_squared else m, exact, rng)

    return _noise(planted)


def domain_from_data() -> AbstractContextManager[None]:
    """Only cells that occur are counted and get noise; the others are not there."""

    def planted(honest: Draw) -> Draw:
        return lambda m, exact, rng: np.where(exact > 0, honest(m, exact, rng), 0)

    return _noise(planted)


class Repeating:
    """A source of words that starts again at the same place."""

    def __init__(self, start: int) -> None:
        self._bits = np.random.PCG64(start)

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        return self._bits.random_raw(count)


def reused_noise() -> AbstractContextManager[None]:
    """All counts of one fit get noise from the same words: new ones for each fit."""
    starts: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def planted(honest: Draw) -> Draw:
        def draw(m: DiscreteGaussian, exact: IntArray, rng: Any) -> IntArray:
            if rng not in starts:
                starts[rng] = int(rng.words(1)[0])
            return honest(m, exact, Repeating(starts[rng]))

        return draw

    return _noise(planted)


def wrong_sensitivity(**shares: Fraction) -> AbstractContextManager[Any]:
    """Sensitivities `l1`, `l2_squared` of the unit times these shares."""
    true: dict[str, Any] = {name: getattr(PrivacyUnit, name).fget for name in shares}
    planted = {name: property(lambda unit, name=name: true[name](unit) * shares[name]) for name in shares}
    return mock.patch.multiple(PrivacyUnit, **planted)


def per_row(max_rows: int) -> AbstractContextManager[Any]:
    """Noise for one row where a person has `max_rows`."""
    return wrong_sensitivity(l2_squared=Fraction(1, max_rows**2), l1=Fraction(1, max_rows))


def rows_not_bounded() -> AbstractContextManager[Any]:
    """All rows of a person are used."""
    return mock.patch("dpsynth.split.bounded", lambda ids, content, **_: np.ones(len(ids), dtype=bool))


# ---- after the noise ---------------------------------------------------------------------------------------------


@contextmanager
def _afterwards(change: Callable[[Records, pd.DataFrame], Records]) -> Iterator[None]:
    """Rehearsals change their synthetic rows with a look at the real ones."""
    honest = Rehearsal.run

    def run(rehearsal: Rehearsal, frame: pd.DataFrame) -> Trial:
        trial = honest(rehearsal, frame)
        return replace(trial, rows=change(trial.rows, frame))

    with mock.patch.object(Rehearsal, "run", run):
        yield


def clipped_to_the_data() -> AbstractContextManager[None]:
    """No synthetic number is larger than the largest real one of its column."""

    def change(rows: Records, frame: pd.DataFrame) -> Records:
        numbers = [column.name for column in rows.schema.modelled if column.is_numeric]
        clipped = {name: np.minimum(rows.columns[name], float(frame[name].max())) for name in numbers}
        return Records(rows.schema, {**rows.columns, **clipped})

    return _afterwards(change)


def rare_dropped(fewest: int) -> AbstractContextManager[None]:
    """No synthetic row has a category that fewer than so many real rows have."""

    def change(rows: Records, frame: pd.DataFrame) -> Records:
        keep = np.ones(len(rows), dtype=bool)
        for column in rows.schema.modelled:
            if not column.is_numeric:
                counts = frame[column.name].value_counts().reindex(column.labels, fill_value=0).to_numpy()
                keep &= counts[rows.columns[column.name]] >= fewest
        return rows.take(keep)

    return _afterwards(change)
