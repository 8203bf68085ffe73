"""`dpsynth ledger`: the budget of a population."""

from __future__ import annotations

from pathlib import Path

import click

from dpsynth import Anchor, Cost, Ledger, UsageError
from dpsynth.cli.options import ledger_at
from dpsynth.cli.talk import say, show, show_json
from dpsynth.release import anchor_in, is_manifest, sha256
from reports.collect import remaining_epsilon


@click.group()
def ledger() -> None:
    """Keep the privacy budget of one population.

    Example: dpsynth ledger create visits.ledger --population clinic-a --epsilon 2 --delta 1e-6 --unit person
    """


@ledger.command(
    epilog="Example: dpsynth ledger create visits.ledger --population clinic-a --epsilon 2 --delta 1e-6 --unit person"
)
@click.argument("place", metavar="LEDGER", type=click.Path(path_type=Path))
@click.option("--population", required=True, help="Whose budget it is: people, not a file.")
@click.option("--epsilon", required=True, help="Lifetime limit.")
@click.option("--delta", required=True, help="Delta of the lifetime limit.")
@click.option("--unit", "entity", default="row", show_default=True, help="The schema's unit entity.")
@click.option("--neighbours", default="add_remove", show_default=True, type=click.Choice(["add_remove", "replace"]))
def create(place: Path, population: str, epsilon: str, delta: str, entity: str, neighbours: str) -> None:
    """Create an empty ledger. It cannot be reset: a new one for the same people hides what was spent."""
    made = Ledger.create(
        place,
        population=population,
        epsilon=epsilon,
        delta=delta,
        entity=entity,
        neighbours="replace" if neighbours == "replace" else "add_remove",
    )
    seq, head = made.head
    show(f"{made.ledger_id} {seq} {head}")


@ledger.command("show", epilog="Example: dpsynth ledger show visits.ledger")
@click.argument("place", metavar="LEDGER")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def show_(place: str, as_json: bool) -> None:
    """Show what was spent and what is left."""
    book = ledger_at(place)
    extract = book.extract()
    left = remaining_epsilon(extract)
    facts = {
        "ledger_id": extract.ledger_id,
        "population": extract.population,
        "unit": extract.entity,
        "neighbours": extract.neighbours,
        "cap_epsilon": str(extract.cap.epsilon),
        "cap_delta": str(extract.cap.delta),
        "charged": extract.charged.to_json(),
        "remaining_epsilon": left,
        "attempts": extract.attempts,
        "denied": extract.denied,
        "orphans": extract.orphans,
        "imports": extract.imports,
        "imports_not_dp": extract.imports_not_dp,
        "amendments": [{key: str(value) for key, value in a.items()} for a in extract.amendments],
        "seq": extract.seq,
        "head": extract.head,
    }
    if as_json:
        show_json(facts)
        return
    show(f"population   {extract.population} ({extract.entity}, {extract.neighbours})")
    show(f"limit        epsilon {float(extract.cap.epsilon):g} at delta {float(extract.cap.delta):g}, lifetime")
    show(f"left         one more release of epsilon {left:g} at that delta")
    show(
        f"history      {extract.attempts} reservations, {extract.orphans} never finished, {extract.denied} refused, "
        f"{extract.imports} imported, {len(extract.amendments)} amendments"
    )
    show(f"head         {extract.seq} {extract.head}")
    if extract.imports_not_dp:
        say("dpsynth: an earlier release was not differentially private: no lifetime figure holds for these people")


@ledger.command(epilog="Example: dpsynth ledger verify visits.ledger --against visits-release/release/manifest.json")
@click.argument("place", metavar="LEDGER", type=click.Path(path_type=Path))
@click.option("--against", multiple=True, type=click.Path(path_type=Path), help="Reports or manifests issued earlier.")
def verify(place: Path, against: tuple[Path, ...]) -> int:
    """Check the chain, and that heads in reports issued earlier are still in it. Exit code 5 where they are not."""
    anchors: list[Anchor] = []
    for path in against:
        anchor = anchor_in(path)
        if anchor is None:
            raise UsageError(f"{path} names no ledger head: give a manifest.json, an evidence.json or a report.html")
        anchors.append(anchor)
    report = Ledger.inspect(place, anchors)
    problems = list(report.problems)
    if report.ok:
        known = {entry.fields["artifact_sha256"] for entry in Ledger.open(place).entries() if entry.kind == "COMMIT"}
        problems += [
            f"{path} is not the manifest that this ledger recorded when the release was finished"
            for path in against
            if is_manifest(path) and sha256(path) not in known
        ]
    for line in report.checked:
        show(f"checked: {line}")
    for line in report.not_checked:
        show(f"not checked: {line}")
    for line in problems:
        show(f"problem: {line}")
    return 5 if problems else 0


@ledger.command(
    epilog='Example: dpsynth ledger amend visits.ledger --epsilon 3 --reason "new study" --approver "A. Lee"'
)
@click.argument("place", metavar="LEDGER")
@click.option("--epsilon", required=True, help="The new, higher limit.")
@click.option("--reason", required=True)
@click.option("--approver", required=True)
def amend(place: str, epsilon: str, reason: str, approver: str) -> None:
    """Raise the lifetime limit. The next report prints it on its first page."""
    book = ledger_at(place)
    book.amend(epsilon, reason=reason, approver=approver)
    show(f"limit now epsilon {float(book.cap.epsilon):g}")


@ledger.command(
    "import", epilog='Example: dpsynth ledger import visits.ledger --not-dp --note "k-anonymous extract, 2024"'
)
@click.argument("place", metavar="LEDGER")
@click.option("--epsilon", help="What an earlier release cost.")
@click.option("--delta", help="Its delta.")
@click.option("--not-dp", is_flag=True, help="The earlier release was not differentially private.")
@click.option("--note", required=True, help="What it was.")
def import_(place: str, epsilon: str | None, delta: str | None, not_dp: bool, note: str) -> None:
    """Declare a release of the same people that was made outside this ledger."""
    if not_dp == (epsilon is not None or delta is not None) or (epsilon is None) != (delta is None):
        raise UsageError("give either --epsilon and --delta, or --not-dp")
    cost = Cost.approximate(epsilon, delta) if epsilon is not None and delta is not None else None
    ledger_at(place).import_external(cost=cost, note=note)
    show("recorded")
