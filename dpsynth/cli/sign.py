"""`dpsynth key`, `attest` and `sign`: keys, and what people and pipelines sign with them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from dpsynth import UsageError
from dpsynth.cli.options import PASSPHRASE, key_in
from dpsynth.cli.report import day_named, evidence_of, policy_of, whole
from dpsynth.cli.talk import say, show
from dpsynth.signing import PublicKey, create_key
from reports import bundle
from reports.attestation import DECISIONS, Draft, Record, add
from reports.gate import decide
from reports.policy import Policy

_DIR = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
_KEY = click.option(
    "--key", required=True, type=click.Path(path_type=Path), help="A private key of `dpsynth key create`."
)


@click.group()
def key() -> None:
    """Make keys to sign with. No other command ever makes one.

    Example: dpsynth key create controller.pem
    """


@key.command(epilog="Example: dpsynth key create controller.pem")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--passphrase", "asked", is_flag=True, help=f"Encrypt it; asks, unless {PASSPHRASE} is set.")
def create(file: Path, asked: bool) -> None:
    """Make an Ed25519 key: the private half into a new FILE (mode 0600), the public half on stdout.

    The public half is what a policy names. Whoever can read FILE can sign in its owner's place.
    """
    passphrase = os.environ.get(PASSPHRASE, "")
    if asked and not passphrase:
        passphrase = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    made = create_key(file, passphrase=passphrase)
    if not passphrase:
        say(f"dpsynth: {file} is not encrypted: keep it where only its owner can read it")
    show(made.text)


@key.command("show", epilog="Example: dpsynth key show controller.pem")
@click.argument("file", type=click.Path(path_type=Path))
def show_(file: Path) -> None:
    """Show the public half of the key in FILE, and its fingerprint."""
    public = key_in(file).public
    show(public.text)
    show(f"fingerprint {public.fingerprint}")


@click.command(epilog="Example: dpsynth sign visits-release --key pipeline.pem")
@_DIR
@_KEY
def sign(folder: Path, key: Path) -> None:
    """Sign the manifest of the release in DIR, and with it every file that it lists."""
    public = bundle.sign(whole(folder), key_in(key))
    show(public.text)


@click.command(
    epilog="Example: dpsynth attest visits-release --role controller --statement release-decision --decision approve "
    '--name "A. Lee" --expires 2027-05-31 --key controller.pem'
)
@_DIR
@click.option("--role", required=True, help="In whose place: a role that the policy names.")
@click.option("--statement", required=True, help="What is decided: a statement of the policy, or waiver.RULE.")
@click.option("--decision", required=True, type=click.Choice(DECISIONS))
@click.option("--name", required=True, help="Who decides.")
@click.option("--organisation", default="", help="For whom.")
@click.option("--expires", required=True, metavar="DATE", help="The last day on which an approval counts.")
@_KEY
@click.option("--policy", help="A policy file or a shipped policy; default: the release's own.")
def attest(
    folder: Path,
    role: str,
    statement: str,
    decision: str,
    name: str,
    organisation: str,
    expires: str,
    key: Path,
    policy: str | None,
) -> None:
    """Record a person's decision about the release in DIR, signed, beside the release.

    It is bound to this evidence, this policy and this manifest. It settles what needs a person where the policy asks for
    it; what fails or is incomplete stays so.
    """
    release = whole(folder)
    judged_by, evidence = policy_of(release, policy), evidence_of(release, "shareable")
    signing = key_in(key)
    _check_asked(judged_by, role, statement, signing.public)
    now, record = datetime.now(UTC).replace(microsecond=0), Record.read(release)
    try:
        draft = Draft(
            role=role,
            name=name,
            organisation=organisation,
            statement=statement,
            decision="approve" if decision == "approve" else "reject",
            signed_at=now,
            expires=day_named(expires, "--expires"),
            evidence=evidence.digest,
            policy=judged_by.digest,
            manifest=record.manifest,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    made, gone = add(release, draft, signing)
    for old in gone:
        say(f"dpsynth: this replaces the decision to {old.decision} by {old.who} of {old.signed_on.isoformat()}")
    verdict = decide(judged_by, evidence, stage="release", on=now.date(), record=Record.read(release))
    show(made.file_name)
    say(f"dpsynth: the gate now says {verdict.state}")
    for rule in verdict.open:
        say(f"dpsynth: {rule.state}: {rule.id}: {rule.message}")


def _check_asked(policy: Policy, role: str, statement: str, key: PublicKey) -> None:
    """Refuses a signature that no gate under this policy would ever look at."""
    asked = {(human.role, human.statement): human.keys for human in policy.human}
    asked |= {(w.approver, w.statement): policy.waivers.keys_of(w.approver) for w in policy.waivers.rules}
    if (role, statement) not in asked:
        names = ", ".join(f"{r} {s}" for r, s in asked) or "none"
        raise UsageError(f"the policy asks for no such statement by this role; it asks for: {names}")
    if key not in asked[role, statement]:
        raise UsageError(
            f"the policy does not name this key for {role}: it would have to list {key.text}, in a copy "
            "with a name of its own"
        )
