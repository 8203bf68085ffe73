"""`dpsynth sample`: more rows from a release's model, free of charge."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from dpsynth import Records, Release, Schema, UsageError
from dpsynth.cli.talk import say, show
from dpsynth.fakes import check_fakes, fakes
from dpsynth.models.stored import StoredModel
from dpsynth.persons import UnitSizes, deal
from dpsynth.randomness import sampling_generator
from dpsynth.schema import quoted
from dpsynth.table import Part, read_as_formulas, write_parts
from dpsynth.trial import MOST_ROWS

AT_ONCE = 1_000_000
"""Rows that are in memory together."""


def parts_of(
    model: StoredModel,
    rows: int,
    *,
    schema: Schema,
    sizes: UnitSizes | None = None,
    where: str | None = None,
    balance: str | None = None,
) -> Iterator[Part]:
    """So many rows, part by part; each part has counts within one row of their expectation.

    Rows of synthetic persons, and columns of fakes, which may have to differ from row to row, are made in one part.

    Args:
        schema: The release's, with the columns that are filled.
        sizes: Rows per unit, where synthetic rows have units.
    """
    rng = sampling_generator()
    if sizes is None and not schema.filled:
        for first in range(0, rows, AT_ONCE):
            part = min(AT_ONCE, rows - first)
            yield model.sample(part, rng=rng, where=where, balance=balance).decode(rng=rng), None
        return
    table = model.sample(rows, rng=rng, where=where, balance=balance)
    records, person = table.decode(rng=rng), None
    if sizes is not None:
        dealt = deal(records, sizes, rng=rng, rules=table.rules)
        records, person = dealt.records, dealt.person
    made = fakes(schema, rows, rng=rng, person=person)
    yield Records(schema, records.columns), made


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
    if not 1 <= rows <= MOST_ROWS:
        raise UsageError(f"--rows must be at least 1 and at most {MOST_ROWS}")
    if out.suffix not in (".csv", ".parquet"):
        raise UsageError(f"{out} must end in .csv or .parquet")
    if out.exists():
        raise UsageError(f"{out} exists already: choose another path")
    if not out.parent.is_dir():
        raise UsageError(f"the folder {out.parent} does not exist: create it first")
    release = Release.open(folder)
    release.require_whole()
    check_fakes(release.schema, rows)
    partial = out.with_name(f".{out.stem}-{os.getpid()}{out.suffix}")
    try:
        sizes = release.unit_sizes()
        parts = parts_of(release.model(), rows, schema=release.schema, sizes=sizes, where=where, balance=balance)
        write_parts(parts, partial)
        partial.rename(out)
    finally:
        partial.unlink(missing_ok=True)
    show(str(out))
    risky = read_as_formulas(release.schema) if out.suffix == ".csv" else ()
    if risky:
        named = ", ".join(quoted(name) for name in risky[:5]) + (" and others" if len(risky) > 5 else "")
        say(f"dpsynth: a spreadsheet would take values of {named} for formulas: import them as text, or write .parquet")
