"""`dpsynth sample`: more rows from a release's model, free of charge."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dpsynth import Release, UsageError
from dpsynth.cli.talk import show
from dpsynth.randomness import sampling_generator


@click.command(epilog="Example: dpsynth sample visits-release --rows 1000 --out more.parquet")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--rows", required=True, type=int, help="How many rows.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new .csv or .parquet file.")
def sample(folder: Path, rows: int, out: Path) -> None:
    """Draw ROWS new synthetic rows from the model in DIR. Post-processing: it costs no budget."""
    if rows < 1:
        raise UsageError("--rows must be at least 1")
    if out.suffix not in (".csv", ".parquet"):
        raise UsageError(f"{out} must end in .csv or .parquet")
    if out.exists():
        raise UsageError(f"{out} exists already: choose another path")
    if not out.parent.is_dir():
        raise UsageError(f"the folder {out.parent} does not exist: create it first")
    release = Release.open(folder)
    release.require_whole()
    rng = sampling_generator()
    partial = out.with_name(f".{out.stem}-{os.getpid()}{out.suffix}")
    try:
        release.model().sample(rows, rng=rng).decode(rng=rng).write(partial)
        partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)
    show(str(out))
