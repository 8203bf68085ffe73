"""`dpsynth ledger`: the budget of a population."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import click

from dpsynth import Anchor, Cost, Ledger, UsageError
from dpsynth.cli.balance import facts, lines
from dpsynth.cli.options import key_in, ledger_at
from dpsynth.cli.talk import say, show, show_json
from dpsynth.ledger.amendment import KIND, Amendment
from dpsynth.release import anchors_in, is_manifest, sha256


@click.group()
def ledger() -> None:
    """Keep the privacy budget of one population.

    Example: dpsynth ledger create visits.ledger --population clinic-a --epsilon 2 --delta 1e-6 --unit person
    """


@ledger.command(
    epilog="Example: dpsynth ledger create visits.ledger --population clinic-a --epsilon 2 --delta 1e-6 --unit person"
)
@click.argument("place", metavar="LEDGER")
@click.option("--population", required=True, help="Whose budget it is: people, not a file.")
@click.option("--epsilon", required=True, help="Lifetime limit.")
@click.option("--delta", required=True, help="Delta of the lifetime limit.")
@click.option("--unit", "entity", default="row", show_default=True, help="The schema's unit entity.")
@click.option("--neighbours", default="add_remove", show_default=True, type=click.Choice(["add_remove", "replace"]))
@click.option(
    "--parent",
    "parents",
    multiple=True,
    metavar="LEDGER",
    help="A population that this one derives from or joins: every release has to charge its ledger too. Repeatable.",
)
@click.option(
    "--approver-key",
    "approvers",
    multiple=True,
    metavar="ed25519:...",
    help="Only who holds such a key can raise the limit; cannot be changed later. Repeatable: give two, of two people.",
)
def create(
    place: str,
    population: str,
    epsilon: str,
    delta: str,
    entity: str,
    neighbours: str,
    parents: tuple[str, ...],
    approvers: tuple[str, ...],
) -> None:
    """Create an empty ledger. It cannot be reset: a new one for the same people hides what was spent."""
    made = Ledger.create(
        place,
        population=population,
        epsilon=epsilon,
        delta=delta,
        entity=entity,
        neighbours="replace" if neighbours == "replace" else "add_remove",
        parents=[ledger_at(parent) for parent in parents],
        approvers=approvers,
    )
    seq, head = made.head
    show(f"{made.ledger_id} {seq} {head}")


@ledger.command("show", epilog="Example: dpsynth ledger show visits.ledger")
@click.argument("place", metavar="LEDGER")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def show_(place: str, as_json: bool) -> None:
    """Show what was spent, what is left, and what the next release of each size would leave."""
    extract = ledger_at(place).extract()
    if as_json:
        show_json(facts(extract))
    else:
        for line in lines(extract):
            click.echo(line, color=False if os.environ.get("NO_COLOR") else None)
    if extract.imports_not_dp:
        say("dpsynth: an earlier release was not differentially private: no lifetime figure holds for these people")


@ledger.command(epilog="Example: dpsynth ledger verify visits.ledger --against visits-release/release/manifest.json")
@click.argument("place", metavar="LEDGER")
@click.option("--against", multiple=True, type=click.Path(path_type=Path), help="Reports or manifests issued earlier.")
def verify(place: str, against: tuple[Path, ...]) -> int:
    """Check the chain, and that heads in reports issued earlier are still in it. Exit code 5 where they are not."""
    anchors: list[Anchor] = []
    mine = Ledger.id_at(place)
    for path in against:
        named = anchors_in(path)
        if not named:
            raise UsageError(f"{path} names no ledger head: give a manifest.json, an evidence.json or a report.html")
        anchors += [anchor for anchor in named if anchor.ledger_id == mine] or named[:1]
    report = Ledger.inspect(place, anchors)
    problems = list(report.problems)
    if report.ok:
        known = {entry.fields["artifact_sha256"] for entry in ledger_at(place).entries() if entry.kind == "COMMIT"}
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
@click.option("--approver", required=True, help="Who answers for it.")
@click.option("--requested-by", default="", help="Who asked: another person.")
@click.option("--key", type=click.Path(path_type=Path), help="The approver's private key, where the ledger names any.")
@click.option("--signature", help="Of an approver elsewhere, instead of --key.")
@click.option("--to-sign", is_flag=True, help="Change nothing: print the text for `dpsynth ledger approve`.")
def amend(
    place: str,
    epsilon: str,
    reason: str,
    approver: str,
    requested_by: str,
    key: Path | None,
    signature: str | None,
    to_sign: bool,
) -> None:
    """Raise the lifetime limit. The next report prints it on its first page.

    A ledger that was created with approver keys takes no other amendment than a signed one.
    """
    if to_sign and (key is not None or signature is not None):
        raise UsageError("--to-sign only prints the text: give --key or --signature in another call")
    signing = None if key is None else key_in(key)
    book = ledger_at(place)
    if to_sign:
        show(book.amendment(epsilon, reason=reason, approver=approver, requested_by=requested_by).body.decode())
        return
    cap = book.amend(
        epsilon, reason=reason, approver=approver, requested_by=requested_by, key=signing, signature=signature
    )
    show(f"limit now epsilon {float(cap.epsilon):g}")


@ledger.command(epilog="Example: dpsynth ledger approve amendment.json --key approver.pem")
@click.argument("text", type=click.File("rb"))
@click.option("--key", required=True, type=click.Path(path_type=Path), help="The approver's private key.")
def approve(text: BinaryIO, key: Path) -> None:
    """Sign the TEXT of `dpsynth ledger amend --to-sign`, on any machine; the signature goes to stdout.

    What is signed is said on stderr first. The signature is good for the ledger, the head and the limits that the text
    names, once.
    """
    asked = Amendment.parse(text.read().removesuffix(b"\n"))
    before, cap = asked.before, asked.cap
    say(f"dpsynth: signing as {asked.approver}, asked by {asked.requested_by or 'somebody who is not named'}")
    say(f"dpsynth: the lifetime limit of {asked.population} from epsilon {before.epsilon} to {cap.epsilon}")
    say(f"dpsynth: at delta {float(cap.delta):g}, in ledger {asked.after.ledger_id} after its entry {asked.after.seq}")
    say(f"dpsynth: because: {asked.reason}")
    show(key_in(key).sign(kind=KIND, body=asked.body))


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
