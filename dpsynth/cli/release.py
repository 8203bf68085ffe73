"""`dpsynth release`: from a private table to a gated release."""

from __future__ import annotations

from pathlib import Path

import click

from attacks import audit_file
from dpsynth import Release, Schema
from dpsynth.cli.options import key_in, ledger_at, policy_named
from dpsynth.cli.talk import progress, say, show, stoppable
from dpsynth.counting.engines import ENGINES
from dpsynth.sources import located
from dpsynth.synthesizers.registry import EXTERNAL, SYNTHESIZERS
from reports import bundle
from reports.pipeline import Settings, publish


@click.command(
    epilog="Example: dpsynth release visits.csv --schema visits.toml --ledger visits.ledger --epsilon 1 --delta 1e-6 "
    "--holdout 0.4 --out visits-release"
)
@click.argument("data")
@click.option("--schema", "schema_file", required=True, type=click.Path(path_type=Path), help="Public facts, TOML.")
@click.option(
    "--ledger",
    "ledger_places",
    required=True,
    multiple=True,
    metavar="LEDGER",
    help="The budget of these people. Repeatable: of a joined or derived table, every parent's too; all are charged.",
)
@click.option("--epsilon", required=True, help="What this release may cost a person, everything included.")
@click.option("--delta", required=True, help="Its delta, fixed and declared.")
@click.option(
    "--synthesizer",
    help=f"One of {', '.join(SYNTHESIZERS)}; by default aim, or wide if there are many columns. Or another program, whose "
    f"claim is charged: {', '.join(EXTERNAL)}.",
)
@click.option("--command", help="The program of --synthesizer external: see docs/smartnoise.md. Run without a shell.")
@click.option(
    "--rows",
    type=int,
    help="Synthetic rows; default: the noisy number of rows learned from; of another program: rows_at_most.",
)
@click.option("--holdout", default="0", show_default=True, help="Chance of a person to be held back for attacks.")
@click.option("--attack-share", help="Part of the budget for attack counts; default 0.1 with a holdout, else 0.")
@click.option(
    "--discovery-share",
    help='Part of the budget for what the schema says to "discover"; default 2 % a column, at most 30 %.',
)
@click.option(
    "--audit",
    "audits",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="What `dpsynth audit --out` wrote about this very release, for the report to carry: an audit, a self-test, or both. "
    "Repeatable.",
)
@click.option("--policy", default="internal-test", show_default=True, help="A policy file or a shipped policy.")
@click.option("--no-gate", is_flag=True, help="No verdict: the release must then not be published.")
@click.option(
    "--engine",
    default="memory",
    show_default=True,
    help=f"Who holds and counts the rows: {', '.join(ENGINES)}; docs/scaling.md says when.",
)
@click.option("--job-id", help="A name for this job; the same name never runs twice.")
@click.option("--key", type=click.Path(path_type=Path), help="A private key: sign the finished release.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A folder that does not exist yet.")
def release(
    data: str,
    schema_file: Path,
    ledger_places: tuple[str, ...],
    epsilon: str,
    delta: str,
    synthesizer: str | None,
    command: str | None,
    rows: int | None,
    holdout: str,
    attack_share: str | None,
    discovery_share: str | None,
    audits: tuple[Path, ...],
    policy: str,
    no_gate: bool,
    engine: str,
    job_id: str | None,
    key: Path | None,
    out: Path,
) -> int:
    """Learn DATA under differential privacy, write synthetic rows, attack and judge them.

    DATA is a .csv or .parquet file, or a table: duckdb:///PATH?table=NAME or postgresql://HOST/DATABASE?table=NAME.

    The exit code is the verdict's: 0 pass, 1 fail, 3 needs a human, 4 incomplete. A release that fails its gate is
    written and charged all the same.
    """
    settings = Settings(
        epsilon=epsilon,
        delta=delta,
        synthesizer=synthesizer,
        command=command,
        rows=rows,
        holdout=holdout,
        attack_share=attack_share,
        discovery_share=discovery_share,
        policy=None if no_gate else policy_named(policy),
        job_id=job_id,
        engine=engine,
        audits=[(path.name, audit_file.read(path)) for path in audits],
    )
    ledger, *others = [ledger_at(place) for place in ledger_places]
    signing = None if key is None else key_in(key)
    with stoppable(), progress() as report:
        found = publish(
            located(data),
            schema=Schema.load(schema_file),
            ledger=ledger,
            others=others,
            settings=settings,
            out=out,
            progress=report,
        )
    if signing is not None:
        bundle.sign(Release.open(out), signing)
    if synthesizer is None:
        say(f"dpsynth: synthesizer {found.choice.name}, because there are {found.choice.reason}")
    if found.verdict is None:
        say("dpsynth: no gate was asked for: this release must not be published")
        show(f"no verdict\n{out / 'release' / 'manifest.json'}")
        return 0
    show(f"{found.verdict.state}\n{out / 'release' / 'report.html'}")
    for rule in found.verdict.open:
        say(f"dpsynth: {rule.state}: {rule.id}: {rule.message}")
    return found.verdict.exit_code
