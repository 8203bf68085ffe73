"""The lists of synthesizers: the command's choices, the shared tests and the comparison loop over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial

from dpsynth.errors import UsageError
from dpsynth.external import digest_of
from dpsynth.neural.ardm import Ardm
from dpsynth.neural.vae import Vae
from dpsynth.schema import Schema
from dpsynth.synthesizers.aim import Aim
from dpsynth.synthesizers.base import Synthesizer
from dpsynth.synthesizers.external import ANY, FACTS, External, smartnoise
from dpsynth.synthesizers.independent import Independent
from dpsynth.synthesizers.mst import Mst
from dpsynth.synthesizers.wide import Wide

SYNTHESIZERS: dict[str, Callable[[], Synthesizer]] = {
    "independent": Independent,
    "mst": Mst,
    "aim": Aim,
    "wide": Wide,
    "ardm": Ardm,
    "vae": Vae,
}
"""Our own."""

EXTERNAL: dict[str, Callable[[], External]] = {
    **{f"smartnoise-{method}": partial(smartnoise, method) for method in FACTS},
    "external": partial(External, name="external", command="", implementation=ANY),
}
"""Other programs, whose own claims are charged (docs/smartnoise.md)."""


_MANY_COLUMNS = 40  # from here on `aim` would spend its budget on scores, and its time on triangulations


def synthesizer(name: str, *, command: str | None = None, rows: int | None = None) -> Synthesizer:
    """The synthesizer of that name, with its default settings.

    Args:
        command: The program that `external` runs.
        rows: Synthetic rows that another program is asked for.
    Raises:
        UsageError: there is none of that name, or a command for one that has its own.
    """
    if command is not None and name != "external":
        raise UsageError("--command goes with --synthesizer external, and with no other")
    if name in EXTERNAL:
        found = EXTERNAL[name]()
        return replace(found, command=found.command if command is None else command, rows=rows)
    if name not in SYNTHESIZERS:
        raise UsageError(f"there is no synthesizer {name!r}: choose one of {', '.join((*SYNTHESIZERS, *EXTERNAL))}")
    return SYNTHESIZERS[name]()


def settings_of(recipe: Synthesizer) -> dict[str, str]:
    """The public settings of a synthesizer by name, in words: two of one name that differ in none do the same.

    Of another program that has no name of its own, the digest of its command.
    """
    if isinstance(recipe, External):
        return {"command": digest_of(recipe.command)} if recipe.command and recipe.name == "external" else {}
    if not is_dataclass(recipe):
        return {}
    return {field.name: str(getattr(recipe, field.name)) for field in fields(recipe) if field.name != "name"}


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
