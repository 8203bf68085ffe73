"""The one list of synthesizers: the command's choices, the shared tests and the comparison loop over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dpsynth.errors import UsageError
from dpsynth.schema import Schema
from dpsynth.synthesizers.aim import Aim
from dpsynth.synthesizers.base import Synthesizer
from dpsynth.synthesizers.independent import Independent
from dpsynth.synthesizers.mst import Mst
from dpsynth.synthesizers.wide import Wide

SYNTHESIZERS: dict[str, Callable[[], Synthesizer]] = {
    "independent": Independent,
    "mst": Mst,
    "aim": Aim,
    "wide": Wide,
}


_MANY_COLUMNS = 40  # from here on `aim` would spend its budget on scores, and its time on triangulations


def synthesizer(name: str) -> Synthesizer:
    """The synthesizer of that name, with its default settings."""
    if name not in SYNTHESIZERS:
        raise UsageError(f"there is no synthesizer {name!r}: choose one of {', '.join(SYNTHESIZERS)}")
    return SYNTHESIZERS[name]()


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which synthesizer a release uses, and why; both are public."""

    name: str
    reason: str


def chosen_for(schema: Schema) -> Choice:
    """The synthesizer that suits a table best, from its schema alone; `docs/synthesizers.md` shows the measurements."""
    if len(schema.sizes) >= _MANY_COLUMNS:
        return Choice(name="wide", reason=f"{_MANY_COLUMNS} columns or more: wide ranks all pairs in one look")
    return Choice(
        name="aim", reason=f"fewer than {_MANY_COLUMNS} columns: aim came out best on the tables that were measured"
    )
