"""`dpsynth audit`: puts a generator to the test by running it again and again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from attacks.audit import ROWS, Audit, audit_generator, games_of, plan_of
from attacks.audit_file import About, AuditFile
from attacks.canary import Claim
from attacks.generators import claim_of
from attacks.selftest import RUNS, SelfTest, self_test
from attacks.staging import stage_for, staged
from dpsynth import Cap, Program, Rehearsal, Schema, UsageError, reading
from dpsynth.cli.options import check_new, write_result
from dpsynth.cli.talk import progress, say, show, show_json, stoppable
from dpsynth.curator import persons_of
from dpsynth.external import TIMEOUT
from dpsynth.privacy import exact
from dpsynth.reading import RawRows
from dpsynth.silence import no_warnings
from dpsynth.synthesizers.external import External
from dpsynth.synthesizers.registry import EXTERNAL, SYNTHESIZERS
from dpsynth.synthesizers.registry import synthesizer as synthesizer_named

if TYPE_CHECKING:
    import pandas as pd

SMARTNOISE = [name for name in EXTERNAL if name != "external"]
EXIT = {"pass": 0, "fail": 1, "incomplete": 4}


@click.command(
    epilog="Example: dpsynth audit --command 'python my_generator.py' --schema visits.toml --epsilon 1 --delta 1e-6 "
    "--fits 1000"
)
@click.option("--synthesizer", help=f"One of {', '.join((*SYNTHESIZERS, *SMARTNOISE))}.")
@click.option("--command", help="Any program: see docs/audit.md for what it is told. Run without a shell.")
@click.option("--schema", "schema_file", required=True, type=click.Path(path_type=Path), help="Public facts, TOML.")
@click.option("--epsilon", required=True, help="What the generator claims.")
@click.option("--delta", required=True, help="Its delta.")
@click.option("--fits", type=int, help="How often the generator runs, over all games together.")
@click.option("--data", type=click.Path(path_type=Path), help="Attack the most exposed persons of this table, too.")
@click.option("--rows", type=int, help=f"Synthetic rows a run; by default as a release has, {ROWS} for a program.")
@click.option("--selftest", is_flag=True, help="Plant leaks of growing size, and say which this audit would see.")
@click.option("--persons", type=click.IntRange(min=1), help="Of the self-test, on each side; default 1000, or a third.")
@click.option(
    "--runs", type=click.IntRange(min=1), default=RUNS, show_default=True, help="Of the self-test, each leak."
)
@click.option(
    "--skip", multiple=True, metavar="GAME", help="Leave out a game of worst-case tables; named in the result."
)
@click.option("--timeout", type=float, default=TIMEOUT, show_default=True, help="Seconds that one run may take.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the attacks' own coins.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result here, as JSON.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def audit(
    synthesizer: str | None,
    command: str | None,
    schema_file: Path,
    epsilon: str,
    delta: str,
    fits: int | None,
    data: Path | None,
    rows: int | None,
    selftest: bool,
    persons: int | None,
    runs: int,
    skip: tuple[str, ...],
    timeout: float,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> int:
    """Run a generator many times on tables that differ in one person, and hold what shows against its claim.

    Without --data the tables are made from the schema and the result may be shared (class P0). With --data half of the
    runs attack real persons, and the whole output is as private as the data (class P3); nothing is charged, and no run
    can become a release.

    The exit code is the verdict's: 0 not contradicted, 1 contradicted, 4 the fits could not have told. A generator that
    fails to run gives 6. With --selftest and no generator the verdict is that of the self-test.
    """
    if synthesizer is not None and command is not None:
        raise UsageError("give either --synthesizer or --command, not both")
    with_generator = synthesizer is not None or command is not None
    if not with_generator and not selftest:
        raise UsageError("say what to audit: --synthesizer or --command; or measure what an audit sees: --selftest")
    if with_generator and fits is None:
        raise UsageError("say how often the generator shall run: --fits")
    if out is not None:
        check_new(out)
    schema = Schema.load(schema_file)
    if data is not None:
        reading.check_header(data, schema)
    schema.require_complete()
    if data is not None or synthesizer is None:
        schema.require_closed()
    each = _rows(synthesizer, rows, schema, with_data=data is not None) if with_generator else rows
    generator = (
        _generator(synthesizer, command, schema, epsilon, delta, rows=each, timeout=timeout) if with_generator else None
    )
    claim = _claim(epsilon, delta) if generator is None else claim_of(staged(generator))
    pairs, left_out = games_of(stage_for(schema), skip=skip)
    plan = None
    if fits is not None:
        plan = plan_of(
            pairs, fits=fits, with_counts=claim.cost is not None, with_records=data is not None, left_out=left_out
        )
    found, measured = None, None
    with stoppable(), progress() as tell, no_warnings():
        read = None if data is None else reading.read(data, schema)
        if generator is not None and fits is not None:
            frame = None if read is None else frame_of(read, schema)
            found = audit_generator(generator, fits=fits, frame=frame, skip=skip, seed=seed, progress=tell)
        if selftest:
            population = stage_for(schema) if read is None else persons_of(read)
            measured = self_test(
                population, claim, plan, persons=persons, rows=rows, runs=runs, seed=seed, progress=tell
            )
    result = AuditFile(
        about=_about(generator, schema, epsilon=epsilon, delta=delta),
        made_on=datetime.now(UTC).date(),
        fits=fits,
        rows=each,
        audit=found,
        selftest=measured,
    ).to_json()
    if as_json:
        show_json(result)
    else:
        _tell(found, measured)
    if out is not None:
        with _only_the_user(data is not None):
            write_result(out, json.dumps(result, indent=1, sort_keys=True, allow_nan=False) + "\n")
    return EXIT[result["verdict"]]


def _claim(epsilon: str, delta: str) -> Claim:
    promise = Cap.of(epsilon, delta)
    return Claim(epsilon=float(promise.epsilon), delta=float(promise.delta), cost=promise.cost)


def _about(generator: Rehearsal | Program | None, schema: Schema, *, epsilon: str, delta: str) -> About:
    """What the result is about, as a release is to find it again."""
    return About.of(
        schema,
        synthesizer="" if generator is None else generator.name,
        settings={} if generator is None else generator.settings,
        epsilon=exact(epsilon, name="--epsilon"),
        delta=exact(delta, name="--delta"),
    )


def _generator(
    synthesizer: str | None,
    command: str | None,
    schema: Schema,
    epsilon: str,
    delta: str,
    *,
    rows: int | None,
    timeout: float,
) -> Rehearsal | Program:
    if synthesizer == "external":
        raise UsageError("--synthesizer external is for release: audit a program with --command alone")
    if synthesizer is not None and synthesizer not in EXTERNAL:
        return Rehearsal(schema, synthesizer=synthesizer, epsilon=epsilon, delta=delta, rows=rows)
    if synthesizer is None:
        asked = ROWS if rows is None else rows
        return Program(str(command), schema, epsilon=epsilon, delta=delta, rows=asked, timeout=timeout)
    recipe = synthesizer_named(synthesizer, rows=rows)
    if isinstance(recipe, External):
        recipe = replace(recipe, timeout=timeout)
    return Rehearsal(schema, synthesizer=recipe, epsilon=epsilon, delta=delta)


def _rows(synthesizer: str | None, rows: int | None, schema: Schema, *, with_data: bool) -> int | None:
    """How many rows each run writes: what was asked for, and otherwise a public number for another program.

    None where one of our own writes as many as its release would.
    """
    if rows is not None or (synthesizer is not None and synthesizer not in EXTERNAL):
        return rows
    if not with_data:
        return ROWS
    if schema.rows_at_most is None:
        raise UsageError("the number of rows of --data is private: say with --rows how many a program shall write")
    return schema.rows_at_most


def frame_of(found: RawRows, schema: Schema) -> pd.DataFrame:
    """Rows of a data file as a frame with the columns of the schema's files.

    Persons are numbered, and columns that are not modelled are blank: no generator needs a real name.
    """
    import pandas as pd

    frame = found.records.to_frame()
    for column in schema.dropped:
        frame[column.name] = pd.array([""] * len(frame), dtype="string")
    if found.unit_ids is not None and schema.unit_column is not None:
        number = {unit: f"u{n}" for n, unit in enumerate(dict.fromkeys(found.unit_ids))}
        frame[schema.unit_column] = pd.array([number[unit] for unit in found.unit_ids], dtype="string")
    return frame[list(schema.file_names)]


@contextmanager
def _only_the_user(private: bool) -> Iterator[None]:
    """Makes new files readable by the user alone, if they are private."""
    before = os.umask(0o077)
    if not private:
        os.umask(before)
    try:
        yield
    finally:
        os.umask(before)


def _tell(found: Audit | None, measured: SelfTest | None) -> None:
    if "P3" in (found and found.privacy_class, measured and measured.suite.privacy_class):
        say("dpsynth: what follows is as private as the data")
    if measured is not None:
        show(str(measured.suite))
        if measured.audit is not None:
            show(f"What one worst-case game of this audit sees:\n{measured.audit}")
    if found is None:
        show("" if measured is None else measured.verdict)
        return
    say("dpsynth: fits: " + ", ".join(f"{game} {fits}" for game, fits in found.plan.fits.items()))
    if found.plan.left_out:
        say(f"dpsynth: left out: {', '.join(found.plan.left_out)}")
    for item in found.items:
        show(f"{item.id}: {item.sentence}")
    for reason, counts in found.persons.items():
        show(f"{reason} persons: {', '.join(f'{what} {count}' for what, count in counts.items())}")
    show(found.verdict if found.verdict != "pass" else "pass: not contradicted")
