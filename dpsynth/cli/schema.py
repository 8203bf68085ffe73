"""`dpsynth schema`: propose a schema, check one."""

from __future__ import annotations

from pathlib import Path

import click

from dpsynth import Schema, checking, drafting
from dpsynth.cli.talk import say, show
from dpsynth.sources import located


@click.group()
def schema() -> None:
    """Describe a table by public facts.

    Example: dpsynth schema draft visits.csv --unit patient > visits.toml
    """


@schema.command(epilog="Example: dpsynth schema draft visits.csv --unit patient > visits.toml")
@click.argument("data")
@click.option("--unit", metavar="COLUMN", help="Column that says whose row it is.")
@click.option("--names-only", is_flag=True, help="Look at names and storage types, and at no row.")
def draft(data: str, unit: str | None, names_only: bool) -> None:
    """Print a draft: types, roles, and what is left to discover. No value of the data is printed.

    It says which columns look like identifiers or free text in the first rows: without --names-only the draft is as
    private as the data until a person has gone through it.
    """
    click.echo(drafting.draft(located(data), unit=unit, names_only=names_only), nl=False)
    say("dpsynth: declare what is public knowledge, never what the data say, then remove the status line")


@schema.command(epilog="Example: dpsynth schema check visits.toml visits.csv")
@click.argument("schema_file", metavar="SCHEMA", type=click.Path(path_type=Path))
@click.argument("data", required=False)
def check(schema_file: Path, data: str | None) -> int:
    """Check a schema, and with DATA which declared facts the rows break.

    With DATA the output is as private as the data. Exit code 2 where something does not match.
    """
    found = Schema.load(schema_file)
    if data is None:
        gaps = found.blanks()
        if found.status is not None:
            gaps = ["the schema is a draft: remove the status line when it is done", *gaps]
        for line in gaps:
            show(line)
        if not gaps:
            filled = f"{len(found.filled)} to fill with fakes, " if found.filled else ""
            show(f"{len(found.modelled)} columns to model, {filled}{len(found.lost)} to drop; complete")
        return 2 if gaps else 0
    report = checking.check(found, located(data))
    say("dpsynth: what follows is as private as the data")
    for line in report.lines:
        show(line)
    if not report.lines:
        show("the data keep every declared fact")
    return 2 if report.mismatch else 0
