"""What one run of a generator leaves for an attacker to read, and how many rows anyone may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from dpsynth.coarsening import Coarse
from dpsynth.errors import BoundToProcess, UsageError
from dpsynth.mechanisms.base import Measurement
from dpsynth.table import Records

MOST_ROWS = 1_000_000_000
"""Synthetic rows, at most, where they are made and written part by part."""
MOST_HELD = 20_000_000
"""The same where all are in memory together (another program's, a rehearsal's), or where nobody says how many."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Trial:
    """What one run of a generator left for an attacker to read: no model, so it can never become a release.

    Args:
        rows: The synthetic rows, in `schema.released()`.
        measurements: The noisy counts behind them, where the generator is our own.
        coarse: The columns that follow the schema's in these.
        sizes: Where synthetic rows have units: the noisy number of real ones with 1, 2, ... max_rows rows.
        sizes_sigma: Standard deviation of the noise on each of these.
    """

    rows: Records
    measurements: tuple[Measurement, ...] = ()
    coarse: tuple[Coarse, ...] = ()
    sizes: tuple[int, ...] = ()
    sizes_sigma: float = 0.0

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise BoundToProcess("a trial cannot be copied or pickled: an audit reads it and lets it go")


def check_rows(rows: int | None, *, most: int = MOST_HELD) -> None:
    """Refuses a number of synthetic rows that nobody can want, or that memory could not hold."""
    if rows is not None and not 1 <= rows <= most:
        raise UsageError(f"--rows must be at least 1 and at most {most}")
