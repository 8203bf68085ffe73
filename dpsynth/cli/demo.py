"""`dpsynth demo`: the main job, by the public commands, on real data that ships with a dependency."""

from __future__ import annotations

import csv
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import click

from dpsynth import OperationError, Schema
from dpsynth.cli.talk import say, show
from dpsynth.ledger import witness
from dpsynth.release import check_free

_EPSILON, _DELTA, _HOLDOUT, _CAP = "1", "1e-6", "0.4", "2"
_VERDICTS = (0, 1, 3, 4)  # exit codes of `release` that stand for a verdict


@click.command(epilog="Example: dpsynth demo --out my-demo")
@click.option("--out", type=click.Path(path_type=Path), help="A folder that does not exist yet.")
def demo(out: Path | None) -> int:
    """Release the RAND Health Insurance Experiment: 5,912 people, up to five years each.

    The data ship inside statsmodels. Every run makes a folder of its own with a ledger of its own; real use never
    makes a new ledger for the same people.
    """
    folder = out or _fresh(Path(f"dpsynth-demo-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"))
    check_free(folder)
    source = _source()
    folder.mkdir()
    with _witness_in(folder / "heads"):
        return _release(source, folder)


@contextmanager
def _witness_in(folder: Path) -> Iterator[None]:
    """Notes the heads of a ledger that is only played with beside it, unless somebody has said where."""
    if witness.FOLDER in os.environ:
        yield
        return
    os.environ[witness.FOLDER] = str(folder.absolute())
    try:
        yield
    finally:
        del os.environ[witness.FOLDER]


def _release(source: AbstractContextManager[Path], folder: Path) -> int:
    """The demo's commands, one after the other, in a folder of its own."""
    schema = folder / "rand_hie.toml"
    schema.write_text((files("dpsynth") / "examples" / "rand_hie.toml").read_text(encoding="utf-8"), encoding="utf-8")
    data = folder / "rand_hie.csv"
    with source as path:
        _extract(path, data, Schema.load(schema).file_names)
    book, release = folder / "rand_hie.ledger", folder / "release-1"
    _run("schema", "check", str(schema))
    _run(
        "ledger",
        "create",
        str(book),
        "--population",
        "rand-hie",
        "--epsilon",
        _CAP,
        "--delta",
        _DELTA,
        "--unit",
        "person",
    )
    code = _run(
        "release", str(data), "--schema", str(schema), "--ledger", str(book), "--epsilon", _EPSILON, "--delta", _DELTA,
        "--holdout", _HOLDOUT, "--policy", "internal-test", "--out", str(release),
    )  # fmt: skip
    if code not in _VERDICTS:
        return code
    _run("verify", str(release))
    _run("ledger", "show", str(book))
    show(f"for sharing:        {release / 'release' / 'report.html'}")
    show(f"for internal eyes:  {release / 'internal' / 'report.html'}")
    show(f"manifest:           {release / 'release' / 'manifest.json'}")
    show(f"next:               {_line('sample', str(release), '--rows', '1000', '--out', str(folder / 'more.csv'))}")
    if which("dpsynth") is None:
        say(f"dpsynth: the command is {Path(sys.executable).with_name('dpsynth')}")
    say("dpsynth: this demo made a new ledger; real use keeps one ledger for the same people for ever")
    return 0


def _fresh(folder: Path) -> Path:
    """The folder, or the first numbered sibling that is free."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def _source() -> AbstractContextManager[Path]:
    """The data file inside statsmodels, as a file."""
    if find_spec("statsmodels") is None:
        raise OperationError('the demo needs the data in statsmodels: install it with pip install "dpsynth[demo]"')
    return as_file(files("statsmodels.datasets.randhie") / "src" / "randhie.csv")


def _extract(source: Path, target: Path, columns: tuple[str, ...]) -> None:
    """Copies the columns that the schema names; nothing is computed from the rows."""
    with source.open(newline="", encoding="utf-8") as read, target.open("x", newline="", encoding="utf-8") as write:
        reader = csv.DictReader(read)
        if not set(columns) <= set(reader.fieldnames or ()):
            raise OperationError("this version of statsmodels ships other data: install the one in constraints.txt")
        writer = csv.DictWriter(write, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(reader)


def _line(*words: str) -> str:
    return shlex.join(["dpsynth", *words])


def _run(*words: str) -> int:
    """Runs a public command, after showing it."""
    from dpsynth.cli.main import run

    say(f"\n$ {_line(*words)}")
    return run(words)
