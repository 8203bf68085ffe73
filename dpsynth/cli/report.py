"""`dpsynth report`, `gate` and `verify`: what a reviewer and a pipeline do with a release, without private data."""

from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import click

from dpsynth import IntegrityError, Release, UsageError
from dpsynth.cli.options import policy_named, write_result
from dpsynth.cli.talk import say, show, show_json
from dpsynth.release import sha256
from dpsynth.signing import PublicKey
from reports import bundle
from reports.attestation import Record
from reports.evidence import Evidence
from reports.explain import explained
from reports.policy import Policy
from reports.registry import Publisher
from reports.render.to_html import to_html
from reports.render.to_json import to_json
from reports.render.to_junit import to_junit
from reports.render.to_markdown import to_markdown
from reports.render.to_pdf import to_pdf
from reports.render.to_registry import to_registry
from reports.render.to_sarif import to_sarif
from reports.report import Report

_DIR = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
_POLICY = click.option("--policy", help="A policy file or a shipped policy; default: the release's own.")
_DATE = click.option("--date", "day", help="The day to judge on, YYYY-MM-DD; default: today.")
_RENDERERS: dict[str, Callable[[Report], str | bytes]] = {
    "html": to_html,
    "pdf": to_pdf,
    "json": to_json,
    "md": to_markdown,
}
_REGISTRY = "registry"


@click.command(epilog="Example: dpsynth report visits-release --format md --out summary.md")
@_DIR
@click.option("--edition", type=click.Choice(["shareable", "internal"]), default="shareable", show_default=True)
@click.option("--format", "kind", type=click.Choice([*_RENDERERS, _REGISTRY]), default="html", show_default=True)
@_POLICY
@_DATE
@click.option("--curator", help="With --format registry: the organisation that publishes.")
@click.option("--curator-type", help="Government, Industry or Nonprofit.")
@click.option("--region", help="What region the data are about, or whose laws apply.")
@click.option("--sector", help="Technology, Healthcare, Education, Government, Energy or Finance; may be left out.")
@click.option("--author", multiple=True, help="Who answers for the record.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new file.")
def report(
    folder: Path,
    edition: str,
    kind: str,
    policy: str | None,
    day: str | None,
    curator: str | None,
    curator_type: str | None,
    region: str | None,
    sector: str | None,
    author: tuple[str, ...],
    out: Path,
) -> None:
    """Write the report of the release in DIR, or its record for the public registry of deployments (YAML)."""
    publisher = _publisher(kind, edition, curator, curator_type, region, sector, author)
    release = whole(folder)
    evidence = evidence_of(release, edition)
    made = Report.of(
        policy_of(release, policy),
        evidence,
        on=day_named(day),
        edition="internal" if edition == "internal" else "shareable",
        record=Record.read(release),
    )
    write_result(out, _RENDERERS[kind](made) if publisher is None else to_registry(made, publisher))
    if edition == "internal":
        out.chmod(stat.S_IRUSR | stat.S_IWUSR)
        say("dpsynth: this report holds statistics of real people without noise: treat it like the data")
    show(str(out))


@click.command(epilog="Example: dpsynth gate visits-release --junit gate.xml")
@_DIR
@_POLICY
@click.option("--allow", multiple=True, help="Only needs_human can be let through, by name.")
@click.option("--explain", metavar="RULE", help="Say at length what one rule asked, found, and answers.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write a JUnit file.")
@click.option("--sarif", type=click.Path(path_type=Path), help="Write a SARIF file.")
def gate(
    folder: Path,
    policy: str | None,
    allow: tuple[str, ...],
    explain: str | None,
    as_json: bool,
    junit: Path | None,
    sarif: Path | None,
) -> int:
    """Judge the release in DIR again; needs no private data. The exit code is the verdict's.

    0 pass, 1 fail, 3 needs a human, 4 incomplete, 5 integrity. What people signed beside the release counts where the
    policy names their keys (docs/signing.md).
    """
    if any(state != "needs_human" for state in allow):
        raise UsageError("--allow takes needs_human and nothing else")
    for path in (junit, sarif):
        if path is not None and path.exists():
            raise UsageError(f"{path} exists already: choose another path")
    release = whole(folder)
    judged_by = policy_of(release, policy)
    if judged_by.signers and bundle.signer(release) not in judged_by.signers:
        raise IntegrityError("the release is not signed with a key that the policy names under signers")
    made = Report.of(judged_by, evidence_of(release, "shareable"), on=day_named(None), record=Record.read(release))
    if junit is not None:
        write_result(junit, to_junit(made))
    if sarif is not None:
        write_result(sarif, to_sarif(made))
    verdict = made.verdict
    code = verdict.exit_code_allowing(allow)
    if explain is not None:
        for line in explained(made, explain):
            show(line)
    elif as_json:
        show_json(verdict.to_json())
    else:
        show(verdict.state)
    if not as_json and explain is None:
        for rule in (*verdict.open, *verdict.settled_by_people):
            say(f"dpsynth: {rule.state}: {rule.id}: {rule.message}")
        if verdict.settled_by_people and policy is None:
            say("dpsynth: the keys are those of the policy inside the release: --policy judges by your own copy")
    if code != verdict.exit_code:
        say("dpsynth: NEEDS HUMAN was let through by --allow needs_human: what is open has not been accepted")
    return code


@click.command(epilog="Example: dpsynth verify visits-release --against report-sent-in-may.html")
@_DIR
@click.option("--against", multiple=True, type=click.Path(path_type=Path), help="Reports or manifests issued earlier.")
@click.option("--key", "keys", multiple=True, metavar="PUBLIC", help="A public key that must have signed the release.")
@_POLICY
def verify(folder: Path, against: tuple[Path, ...], keys: tuple[str, ...], policy: str | None) -> int:
    """Check that the release in DIR is what its manifest says, and who signed what. Exit code 5 where it is not."""
    release = Release.open(folder)
    try:
        believed = tuple(PublicKey.parse(key) for key in keys)
    except ValueError:
        raise UsageError("--key takes a public key as `dpsynth key create` prints it") from None
    named = None if policy is None else policy_named(policy)
    found = bundle.verify(release, policy=named, keys=believed, against=against, on=day_named(None))
    for line in found.checked:
        show(f"checked: {line}")
    for line in found.not_checked:
        show(f"not checked: {line}")
    for line in found.problems:
        show(f"problem: {line}")
    signed = release.signature
    show(f"signed {signed['key']}" if signed else "unsigned")
    return 5 if found.problems else 0


def _publisher(
    kind: str,
    edition: str,
    curator: str | None,
    curator_type: str | None,
    region: str | None,
    sector: str | None,
    authors: tuple[str, ...],
) -> Publisher | None:
    """Who publishes, for the registry; None for every other format, which takes no such options."""
    if kind != _REGISTRY:
        if authors or any(option is not None for option in (curator, curator_type, region, sector)):
            raise UsageError("--curator, --curator-type, --region, --sector and --author go with --format registry")
        return None
    if edition != "shareable":
        raise UsageError("the record for the registry is public: it is made from the shareable edition")
    if curator is None or curator_type is None or region is None or not authors:
        raise UsageError(
            "--format registry needs --curator, --curator-type, --region and --author: a person states them"
        )
    return Publisher(curator=curator, curator_type=curator_type, region=region, authors=authors, sector=sector)


def whole(folder: Path) -> Release:
    """The release in a folder, whose files are those of its manifest and agree, and whose signature, if any, holds."""
    release = Release.open(folder)
    release.require_whole()
    bundle.signer(release)
    for left in bundle.require_one_story(release):
        say(f"dpsynth: not checked: {left}")
    return release


def evidence_of(release: Release, edition: str) -> Evidence:
    """The evidence of a release, in one edition."""
    path = release.folder / "evidence.json"
    if edition == "internal":
        path = release.folder.parent / "internal" / "evidence.json"
        if release.folder.name != "release" or not path.is_file():
            raise UsageError("the internal evidence is not here: only the folder that `release --out` made holds it")
    found = Evidence.from_json(path.read_text(encoding="utf-8"))
    if found.edition != edition or found.digest != sha256(path):
        raise IntegrityError(f"{path.name} is not the {edition} evidence as this program writes it")
    return found


def policy_of(release: Release, name: str | None) -> Policy:
    """The policy of that name, or else the release's own."""
    if name is not None:
        return policy_named(name)
    own = release.folder / "policy.toml"
    if not own.is_file():
        raise UsageError("the release was made with --no-gate and has no policy of its own: give --policy")
    policy = Policy.load(own)
    if policy.impersonates and not bundle.is_of_this_version(release):
        raise UsageError(
            f"another version of this program made the release, by a policy called {policy.name} that is not the one that ships "
            "here: give --policy"
        )
    if policy.impersonates:
        raise IntegrityError(
            f"the release holds a policy that calls itself {policy.name} and is not the one that ships here: give --policy"
        )
    return policy


def day_named(text: str | None, option: str = "--date") -> date:
    """The day that an option names, or else today (UTC)."""
    if text is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} must be a day like 2026-11-21") from None
