"""How the command speaks: results on stdout, talk and progress on stderr, hostile text made harmless."""

from __future__ import annotations

import json
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import Console
from rich.text import Text

_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def clean(text: str) -> str:
    """Text that cannot steer a terminal: no control or format character, no half of a pair; line breaks stay."""
    return "".join(
        c if c == "\n" or unicodedata.category(c) not in _STEERING else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def say(text: str) -> None:
    """A line of talk on stderr; a text with line breaks cannot pass for several."""
    click.echo(clean(text).replace("\n", " "), err=True)


def show(text: str) -> None:
    """A result on stdout."""
    click.echo(clean(text))


def show_json(data: Any) -> None:
    """A result for machines on stdout."""
    click.echo(json.dumps(data, indent=1, sort_keys=True, ensure_ascii=True, allow_nan=False))


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Shows which stage a long job is in: a spinner on a terminal, a line a stage elsewhere. Never a number from data."""
    if not sys.stderr.isatty():
        yield lambda stage: say(f"dpsynth: {stage}")
        return
    console = Console(stderr=True)
    with console.status("starting") as status:
        # as text: a name in brackets is no markup, which rich would obey, or fail on in the middle of a release
        yield lambda stage: status.update(Text(clean(f"{stage} ...")))


@contextmanager
def stoppable() -> Iterator[None]:
    """Lets a polite request to end clean up as Ctrl-C does: a running program is stopped, its files are removed."""
    before = {kind: signal.signal(kind, signal.default_int_handler) for kind in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
