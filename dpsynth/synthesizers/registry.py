"""The one list of synthesizers: the command's choices, the shared tests and the comparison loop over it."""

from __future__ import annotations

from collections.abc import Callable

from dpsynth.errors import UsageError
from dpsynth.synthesizers.base import Synthesizer
from dpsynth.synthesizers.independent import Independent
from dpsynth.synthesizers.mst import Mst

SYNTHESIZERS: dict[str, Callable[[], Synthesizer]] = {"independent": Independent, "mst": Mst}


def synthesizer(name: str) -> Synthesizer:
    """The synthesizer of that name, with its default settings."""
    if name not in SYNTHESIZERS:
        raise UsageError(f"there is no synthesizer {name!r}: choose one of {', '.join(SYNTHESIZERS)}")
    return SYNTHESIZERS[name]()
