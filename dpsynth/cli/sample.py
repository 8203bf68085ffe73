"""`dpsynth sample`: more rows from a release's model, free of charge."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import click

from dpsynth import Release, UsageError
from dpsynth.cli.options import check_new
from dpsynth.cli.talk import say, show
from dpsynth.fakes import check_fakes
from dpsynth.schema.quoting import quoted
from dpsynth.synthetic import parts_of
from dpsynth.table import read_as_formulas, write_parts
from dpsynth.trial import MOST_ROWS, check_rows


@click.command(epilog='Example: dpsynth sample visits-release --rows 1000 --where "ill == true" --out ill.parquet')
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--rows", required=True, type=int, help="How many rows.")
@click.option("--where", metavar="EXPR", help="Only rows that meet a condition, such as \"age >= 65 and town != 'A'\".")
@click.option("--balance", metavar="COLUMN", help="Each value of this column equally often.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new .csv or .parquet file.")
def sample(folder: Path, rows: int, where: str | None, balance: str | None, out: Path) -> None:
    """Draw new synthetic rows from the model in DIR. Post-processing: it costs no budget.

    With --where rows come from the model's exact conditional distribution; docs/model.md has the grammar of EXPR. All
    rows keep the constraints of the schema.
    """
    check_rows(rows, most=MOST_ROWS)
    if out.suffix not in (".csv", ".parquet"):
        raise UsageError(f"{out} must end in .csv or .parquet")
    check_new(out)
    release = Release.open(folder)
    release.require_whole()
    check_fakes(release.schema, rows)
    schema, model = release.schema, release.model()
    drawing = partial(model.sample, where=where, balance=balance)
    parts = parts_of(model, rows, schema=schema, sizes=release.unit_sizes(), sample=drawing)
    unfinished = out.with_name(f".{out.stem}-{os.getpid()}{out.suffix}")
    try:
        write_parts((part.written(schema) for part in parts), unfinished)
        unfinished.rename(out)
    finally:
        unfinished.unlink(missing_ok=True)
    show(str(out))
    risky = read_as_formulas(release.schema) if out.suffix == ".csv" else ()
    if risky:
        named = ", ".join(quoted(name) for name in risky[:5]) + (" and others" if len(risky) > 5 else "")
        say(f"dpsynth: a spreadsheet would take values of {named} for formulas: import them as text, or write .parquet")
