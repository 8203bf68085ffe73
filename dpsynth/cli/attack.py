"""`dpsynth attack`: the attack suite on files that a person has already split."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

import attacks
from dpsynth import PersonRecords, ReviewSample, Schema, UsageError, reading
from dpsynth.cli.options import policy_named, write_result
from dpsynth.cli.talk import progress, say, show, show_json
from dpsynth.curator import persons_of
from dpsynth.reading import RawRows
from reports.collect import review_evidence
from reports.gate import decide


@click.command(
    epilog="Example: dpsynth attack --train train.csv --control control.csv --synthetic synthetic.csv --schema visits.toml"
)
@click.option("--train", required=True, type=click.Path(path_type=Path), help="Rows the generator learned from.")
@click.option("--control", required=True, type=click.Path(path_type=Path), help="Rows it never saw, same population.")
@click.option("--synthetic", required=True, type=click.Path(path_type=Path), help="What it made.")
@click.option("--schema", "schema_file", required=True, type=click.Path(path_type=Path))
@click.option("--policy", default="internal-test", show_default=True, help="Its review rules judge the results.")
@click.option("--seed", default=0, show_default=True, help="Seed of the attacks' own coins.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the internal evidence here, as JSON.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def attack(
    train: Path,
    control: Path,
    synthetic: Path,
    schema_file: Path,
    policy: str,
    seed: int,
    out: Path | None,
    as_json: bool,
) -> int:
    """Attack SYNTHETIC with real rows. The whole output is as private as the data (class P3).

    The exit code is the internal review verdict's.
    """
    rules = policy_named(policy)
    schema = Schema.load(schema_file)
    if out is not None and out.exists():
        raise UsageError(f"{out} exists already: choose another path")
    for path in (train, control):
        reading.check_header(path, schema)
    released = schema.released()
    reading.check_header(synthetic, released)
    schema.require_complete()
    sample = ReviewSample(fit=_side(train, schema), control=_side(control, schema))
    _check_apart(reading.read(train, schema), reading.read(control, schema))
    with progress() as tell:
        results = attacks.run_suite(sample, reading.read(synthetic, released).records, seed=seed, progress=tell).results
    evidence = review_evidence(results, created_at=datetime.now(UTC))
    verdict = decide(rules, evidence, stage="review", on=datetime.now(UTC).date())
    if out is not None:
        write_result(out, evidence.to_json())
    if as_json:
        show_json({"verdict": verdict.state, "class": "P3", "attacks": [_item(result) for result in results]})
        return verdict.exit_code
    say("dpsynth: what follows is as private as the data")
    for result in results:
        show(_sentence(result))
    show(verdict.state)
    for rule in verdict.open:
        say(f"dpsynth: {rule.state}: {rule.id}: {rule.message}")
    return verdict.exit_code


def _side(path: Path, schema: Schema) -> PersonRecords:
    return persons_of(reading.read(path, schema))


def _check_apart(train: RawRows, control: RawRows) -> None:
    """Refuses files that share a person: then the control is none."""
    if train.unit_ids is not None and control.unit_ids is not None and set(train.unit_ids) & set(control.unit_ids):
        raise UsageError("the same unit stands in --train and --control: split the table by unit, not by row")


def _item(result: attacks.AttackResult) -> dict[str, Any]:
    interval = result.interval
    return {
        "id": result.id,
        "class": "P3",
        "status": result.status,
        "estimate": result.estimate,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "confidence": interval.confidence if interval else None,
        "n": result.n,
        "measure": result.measure,
        "criterion": result.criterion,
        "control": result.control.value if result.control else None,
        "baseline": result.baseline,
        "positive_control": result.positive_control.detected if result.positive_control else None,
        "p_value": result.p_value,
        "p_adjusted": result.p_adjusted,
        "needs": result.needs,
        "note": result.note,
    }


def _sentence(result: attacks.AttackResult) -> str:
    if result.estimate is None or result.interval is None:
        return f"{result.id}: {result.status}: {result.needs or result.note}"
    seen = result.positive_control is not None and result.positive_control.detected
    control = "caught" if seen else "NOT caught"
    return (
        f"{result.id}: {result.measure}: {result.estimate:.3f} ({result.interval.low:.3f} to {result.interval.high:.3f}), "
        f"{result.chance:g} if nothing leaked; a deliberately leaky copy was {control}"
    )
