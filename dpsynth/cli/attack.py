"""`dpsynth attack`: the attack suite on files that a person has already split.

Where the synthetic file lies in a release folder of dpsynth, the attackers read its model too: which column sets were
measured, and what the release cost. Anyone may have written such a folder, so nothing in it is trusted: whatever is odd
about it ends up as a note, and the attack goes on without it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click

import attacks
from attacks.register import Counts, Register
from dpsynth import Cost, DataFileError, ReviewSample, Schema, UsageError, reading
from dpsynth.cli.options import check_new, policy_named
from dpsynth.cli.talk import progress, say, show, show_json
from dpsynth.curator import persons_of
from dpsynth.models.rows import KIND as ROWS_ONLY
from dpsynth.reading import RawRows
from dpsynth.release import MANIFEST_FORMAT
from dpsynth.silence import no_warnings
from reports.collect import advised, review_evidence
from reports.gate import decide
from reports.render.numbers import number


@click.command(
    epilog="Example: dpsynth attack --train train.csv --control control.csv --synthetic synthetic.csv --schema visits.toml"
)
@click.option("--train", required=True, type=click.Path(path_type=Path), help="Rows the generator learned from.")
@click.option("--control", required=True, type=click.Path(path_type=Path), help="Rows it never saw, same population.")
@click.option("--synthetic", required=True, type=click.Path(path_type=Path), help="What it made.")
@click.option("--schema", "schema_file", required=True, type=click.Path(path_type=Path))
@click.option("--policy", default="internal-test", show_default=True, help="Its review rules judge the results.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the attacks' own coins."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write the internal evidence here, as JSON.")
@click.option(
    "--record-ids",
    type=click.Path(path_type=Path),
    help="Write here who is exposed to what (class P4: keep it with the data).",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def attack(
    train: Path,
    control: Path,
    synthetic: Path,
    schema_file: Path,
    policy: str,
    seed: int,
    out: Path | None,
    record_ids: Path | None,
    as_json: bool,
) -> int:
    """Attack SYNTHETIC with real rows. The whole output is as private as the data (class P3).

    The exit code is the internal review verdict's.
    """
    rules = policy_named(policy)
    schema = Schema.load(schema_file)
    for target in (out, record_ids):
        if target is not None:
            check_new(target)
    if out is not None and out == record_ids:
        raise UsageError("--out and --record-ids name the same file: choose another path for one of them")
    for path in (train, control):
        reading.check_header(path, schema)
    released = _released(synthetic, schema)
    schema.require_complete()
    schema.require_closed()
    raw = [reading.read(path, schema) for path in (train, control)]
    _check_apart(*raw)
    sample = ReviewSample(fit=persons_of(raw[0]), control=persons_of(raw[1]))
    known = known_of(synthetic, schema)
    with progress() as tell, no_warnings():
        suite = attacks.run_suite(
            sample,
            reading.read(synthetic, released).records,
            focal=known.focal,
            cost=known.cost,
            seed=seed,
            progress=tell,
        )
    suite = advised(suite, rules)
    evidence = review_evidence(suite, created_at=datetime.now(UTC))
    verdict = decide(rules, evidence, stage="review", on=datetime.now(UTC).date())
    if out is not None:
        _write_private(out, evidence.to_json())
    if record_ids is not None:
        _write_private(record_ids, _exposed(suite.register, raw[0]))
    if as_json:
        show_json(
            {
                "verdict": verdict.state,
                "class": "P3",
                "attacks": [_item(result) for result in suite],
                "register": _register(suite.register),
                "note": known.note,
            }
        )
        return verdict.exit_code
    say("dpsynth: what follows is as private as the data")
    if known.note:
        say(f"dpsynth: {known.note}")
    for result in suite:
        show(_sentence(result))
    for group in suite.register.standing_out:
        show(_group_sentence(group))
    show(verdict.state)
    for rule in verdict.open:
        say(f"dpsynth: {rule.state}: {rule.id}: {rule.message}")
    return verdict.exit_code


def _released(synthetic: Path, schema: Schema) -> Schema:
    """The schema of the synthetic file: it may have the columns that a release fills with fakes, or not."""
    released = schema.released()
    try:
        reading.check_header(synthetic, released)
    except DataFileError:
        if not schema.filled:
            raise
        released = schema.written()
        reading.check_header(synthetic, released)
    return released


def _check_apart(train: RawRows, control: RawRows) -> None:
    """Refuses files that share a person: then the control is none."""
    if train.unit_ids is not None and control.unit_ids is not None:
        mine, theirs = ({_who(unit) for unit in set(ids)} for ids in (train.unit_ids, control.unit_ids))
        if mine & theirs:
            raise UsageError(
                "the same unit stands in --train and --control (a number is the same however it is written): split the "
                "table by unit, not by row"
            )


_NUMBER = re.compile(rb"\s*[+-]?(\d{1,400}(\.\d{0,400})?|\.\d{1,400})([eE][+-]?\d{1,4})?\s*")


def _who(unit: bytes) -> bytes | Decimal:
    """The same for all ways to write an id: one file may have gone through a program that made 7.0 of 007."""
    return Decimal(unit.decode()) if _NUMBER.fullmatch(unit) else unit.strip()


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
        "fit": result.fit.value if result.fit else None,
        "control": result.control.value if result.control else None,
        "ceiling": result.ceiling,
        "floor": result.floor,
        "no_ceiling": result.no_ceiling,
        "above_ceiling": result.above_ceiling,
        "baseline": result.baseline,
        "positive_control": result.positive_control.detected if result.positive_control else None,
        "p_value": result.p_value,
        "p_adjusted": result.p_adjusted,
        "needs": result.needs,
        "note": result.note,
        "leak": result.leak,
        "to_look_at": result.to_look_at,
        "figures": [_figure(name, figure) for name, figure in result.figures.items()],
        "omitted_figures": dict(result.omitted),
    }


def _figure(name: str, figure: attacks.Measure) -> dict[str, Any]:
    """A number that decides nothing; where it compares two sides, both of them with their intervals."""
    sides = (("fit", figure.fit), ("control", figure.control))
    return {
        "name": name,
        "estimate": figure.estimate,
        "chance": figure.chance,
        "n": figure.persons,
        **_ends(figure.interval),
        **{
            side: {"value": rate.value, "n": rate.persons, **_ends(rate.interval(figure.interval.confidence))}
            for side, rate in sides
            if rate is not None
        },
    }


def _ends(interval: attacks.Interval) -> dict[str, float]:
    return {"low": interval.low, "high": interval.high, "confidence": interval.confidence}


def _sentence(result: attacks.AttackResult) -> str:
    if result.estimate is None or result.interval is None:
        return f"{result.id}: {result.status}: {result.needs or result.note}"
    seen = result.positive_control is not None and result.positive_control.detected
    control = "caught" if seen else "NOT caught"
    return (
        f"{result.id}: {result.measure}: {result.estimate:.3f} ({result.interval.low:.3f} to {result.interval.high:.3f}), "
        f"{result.chance:g} if nothing leaked{_by_chance(result)}{_allowed(result)}; a deliberately leaky copy was {control}"
        + "".join(f"; {words}" for words in (result.note, result.needs) if words)
    )


def _allowed(result: attacks.AttackResult) -> str:
    """What the declared guarantee allows, beside what it bounds; or why it says nothing."""
    if result.ceiling is None:
        return f"; no ceiling: {result.no_ceiling}" if result.no_ceiling else ""
    most = number(result.ceiling, "up")
    if result.fit is not None:
        return f"; success on fitted persons {result.fit.value:.3f}, the guarantee allows {most}"
    least = "at most" if result.floor is None else f"{number(result.floor, 'down')} to"
    return f"; the guarantee allows {least} {most}"


def _by_chance(result: attacks.AttackResult) -> str:
    """How likely such a finding is where nothing leaks, after correction for all attacks."""
    if result.p_adjusted is None:
        return ""
    return f", corrected p {result.p_adjusted:.2g}" + (": a leak" if result.leak else "")


# ---- who is exposed ----------------------------------------------------------------------------------------------


def _register(register: Register) -> dict[str, Any]:
    """Counts only."""
    return {
        "class": "P3",
        "exposed_to_attacks": list(register.times),
        "everybody": [_counts(entry) for entry in register.everybody],
        "groups": [_counts(entry) for entry in register.groups],
    }


def _counts(entry: Counts) -> dict[str, Any]:
    beyond = {} if entry.beyond is None else {"beyond_low": entry.beyond.low, "beyond_high": entry.beyond.high}
    return {
        "attack": entry.attack,
        "column": entry.column,
        "cell": entry.cell,
        "fit": entry.fit,
        "control": entry.control,
        "exposed_fit": entry.exposed_fit,
        "exposed_control": entry.exposed_control,
        "excess": entry.excess.estimate,
        "low": entry.excess.interval.low,
        "high": entry.excess.interval.high,
        "stands_out": entry.stands_out,
        **beyond,
    }


def _group_sentence(entry: Counts) -> str:
    return (
        f"{entry.column} {entry.cell}: {entry.attack} succeeds on {entry.exposed_fit} of {entry.fit} fitted persons and on "
        f"{entry.exposed_control} of {entry.control} held back: more exposed than others"
    )


def _exposed(register: Register, train: RawRows) -> str:
    """Exposed fitted persons by unit id, or by number of the row among those that could be read, from 1."""
    if train.unit_ids is None:
        names = [str(row + 1) for row in range(len(train.records))]
    else:
        names = [unit.decode("utf-8", "backslashreplace") for unit in dict.fromkeys(train.unit_ids)]
    found = {names[number]: list(by) for number, by in register.persons}
    control = {entry.attack: entry.excess.control.value for entry in register.everybody if entry.excess.control}
    kind = "row" if train.unit_ids is None else "unit id"
    facts = {"class": "P4", "kind": kind, "control_rate": control, "exposed": found}
    return json.dumps(facts, indent=1, sort_keys=True) + "\n"


def _write_private(path: Path, text: str) -> None:
    """A new file that only its owner can read."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except FileExistsError:
        raise UsageError(f"{path} exists already: choose another path") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)


# ---- what a release folder tells -----------------------------------------------------------------------------------

_LARGEST = 2**24  # bytes of a manifest or model.json
_MOST_SETS = 2000
_FRACTION = re.compile(r"\d{1,400}(/\d{1,400})?")


@dataclass(frozen=True, kw_only=True)
class Known:
    """What attackers know beyond the synthetic table.

    Args:
        focal: The column sets that were measured.
        cost: What the release declares to have cost one person.
        note: What was found, or why it was not used; empty where the file lies in no release.
    """

    focal: tuple[tuple[str, ...], ...] = ()
    cost: Cost | None = None
    note: str = ""


def known_of(synthetic: Path, schema: Schema) -> Known:
    """What the folder around a synthetic file tells. Whatever is wrong with it, this returns."""
    folder = synthetic.parent
    if not (folder / "manifest.json").is_file():
        return Known()
    try:
        manifest = json.loads(_content(folder / "manifest.json"))
        if manifest["schema"] != MANIFEST_FORMAT:
            return Known(note="the manifest beside the synthetic file is not one that dpsynth wrote: not used")
        digests = manifest["files"]
        if _digest(synthetic) != digests[synthetic.name]:
            return Known(note="the synthetic file is not the one of the manifest beside it: the manifest was not used")
        model, columns = _content(folder / "model" / "model.json"), _content(folder / "schema.toml")
        if hashlib.sha256(model).hexdigest() != digests["model/model.json"]:
            return Known(note="the model beside the synthetic file is not the one of the manifest: both were not used")
        if hashlib.sha256(columns).hexdigest() != digests["schema.toml"]:
            return Known(note="the schema beside the synthetic file is not the one of the manifest: both were not used")
        facts = json.loads(model)
        has_model = facts.get("kind") != ROWS_ONLY
        focal = _measured(facts, Schema.parse(columns.decode("utf-8")), schema) if has_model else ()
        unit = schema.unit
        if manifest["unit"] != {"entity": unit.entity, "max_rows": unit.max_rows, "neighbours": unit.neighbours}:
            return Known(
                focal=focal, note="the release has another unit than --schema: no ceilings; its model was used"
            )
        cost = _cost(manifest["cost"])
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RecursionError, UsageError):
        return Known(note="the release around the synthetic file is damaged: it was not used")
    if not has_model:
        return Known(cost=cost, note="the release's cost was used; another program kept its model")
    return Known(focal=focal, cost=cost, note=f"the release's {len(focal)} measured column sets and its cost were used")


def _content(path: Path) -> bytes:
    """A regular file of a reasonable size; a link is none.

    Raises:
        OSError, ValueError: it is not.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > _LARGEST:
            raise ValueError
        return file.read(_LARGEST)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _measured(model: Any, made: Schema, schema: Schema) -> tuple[tuple[str, ...], ...]:
    """The sets of two columns or more that a model's measurements count together, by name.

    Args:
        model: What `model.json` holds: columns are numbered as in the release's schema, then those that the recipe
            coarsened, each of which stands for the column it was made from.
        made: The release's schema.
        schema: The attacker's; columns that it does not have are left out.
    Raises:
        LookupError, TypeError, ValueError: this is no model of ours for this schema.
    """
    names = list(made.names)
    names += [names[_number(coarse["column"])] for coarse in model.get("coarse", [])]
    there = set(schema.names)
    found = set()
    for measurement in model["measurements"]:
        counted = {names[_number(place)] for place in measurement["columns"]}
        if len(counted) > 1 and counted <= there:
            found.add(tuple(sorted(counted)))
    return tuple(sorted(found)[:_MOST_SETS])


def _number(place: Any) -> int:
    """The number of a column.

    Raises:
        ValueError: it is none.
    """
    if type(place) is not int or place < 0:
        raise ValueError
    return place


def _cost(facts: Any) -> Cost:
    """A cost, from numbers of a reasonable length.

    Raises:
        KeyError, TypeError, ValueError, ArithmeticError: it is none.
    """
    for key in ("rho", "delta0"):
        if not isinstance(facts[key], str) or not _FRACTION.fullmatch(facts[key]):
            raise ValueError
    if any(type(loss) is not int or not 0 <= loss < 10**30 for loss in facts.get("extra", [])):
        raise ValueError
    cost = Cost.from_json(facts)
    if cost.rho > 10**6:
        raise ValueError
    return cost
