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
from reports.evidence import Evidence
from reports.policy import Policy
from reports.render.to_html import to_html
from reports.render.to_json import to_json
from reports.render.to_junit import to_junit
from reports.render.to_markdown import to_markdown
from reports.render.to_pdf import to_pdf
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


@click.command(epilog="Example: dpsynth report visits-release --format md --out summary.md")
@_DIR
@click.option("--edition", type=click.Choice(["shareable", "internal"]), default="shareable", show_default=True)
@click.option("--format", "kind", type=click.Choice(list(_RENDERERS)), default="html", show_default=True)
@_POLICY
@_DATE
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A new file.")
def report(folder: Path, edition: str, kind: str, policy: str | None, day: str | None, out: Path) -> None:
    """Write the report of the release in DIR."""
    release = _whole(folder)
    evidence = _evidence(release, edition)
    made = Report.of(
        _policy(release, policy), evidence, on=_day(day), edition="internal" if edition == "internal" else "shareable"
    )
    write_result(out, _RENDERERS[kind](made))
    if edition == "internal":
        out.chmod(stat.S_IRUSR | stat.S_IWUSR)
        say("dpsynth: this report holds statistics of real people without noise: treat it like the data")
    show(str(out))


@click.command(epilog="Example: dpsynth gate visits-release --junit gate.xml")
@_DIR
@_POLICY
@click.option("--allow", multiple=True, help="Only needs_human can be let through, by name.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--junit", type=click.Path(path_type=Path), help="Write a JUnit file.")
@click.option("--sarif", type=click.Path(path_type=Path), help="Write a SARIF file.")
def gate(
    folder: Path,
    policy: str | None,
    allow: tuple[str, ...],
    as_json: bool,
    junit: Path | None,
    sarif: Path | None,
) -> int:
    """Judge the release in DIR again; needs no private data. The exit code is the verdict's.

    0 pass, 1 fail, 3 needs a human, 4 incomplete, 5 integrity.
    """
    if any(state != "needs_human" for state in allow):
        raise UsageError("--allow takes needs_human and nothing else")
    for path in (junit, sarif):
        if path is not None and path.exists():
            raise UsageError(f"{path} exists already: choose another path")
    release = _whole(folder)
    made = Report.of(_policy(release, policy), _evidence(release, "shareable"), on=_day(None))
    if junit is not None:
        write_result(junit, to_junit(made))
    if sarif is not None:
        write_result(sarif, to_sarif(made))
    verdict = made.verdict
    code = verdict.exit_code_allowing(allow)
    if as_json:
        show_json(verdict.to_json())
    else:
        show(verdict.state)
        for rule in verdict.open:
            say(f"dpsynth: {rule.state}: {rule.id}: {rule.message}")
    if code != verdict.exit_code:
        say("dpsynth: NEEDS HUMAN was let through by --allow needs_human: nobody has signed this release")
    return code


@click.command(epilog="Example: dpsynth verify visits-release --against report-sent-in-may.html")
@_DIR
@click.option("--against", multiple=True, type=click.Path(path_type=Path), help="Reports or manifests issued earlier.")
def verify(folder: Path, against: tuple[Path, ...]) -> int:
    """Check that the release in DIR is what its manifest says. Exit code 5 where it is not."""
    found = Release.open(folder).verify(against)
    for line in found.checked:
        show(f"checked: {line}")
    for line in found.not_checked:
        show(f"not checked: {line}")
    for line in found.problems:
        show(f"problem: {line}")
    show("unsigned")
    return 5 if found.problems else 0


def _whole(folder: Path) -> Release:
    """The release in a folder, whose files are those of its manifest."""
    release = Release.open(folder)
    release.require_whole()
    return release


def _evidence(release: Release, edition: str) -> Evidence:
    path = release.folder / "evidence.json"
    if edition == "internal":
        path = release.folder.parent / "internal" / "evidence.json"
        if release.folder.name != "release" or not path.is_file():
            raise UsageError("the internal evidence is not here: only the folder that `release --out` made holds it")
    return Evidence.from_json(path.read_text(encoding="utf-8"))


def _policy(release: Release, name: str | None) -> Policy:
    if name is not None:
        return policy_named(name)
    own = release.folder / "policy.toml"
    if not own.is_file():
        raise UsageError("the release was made with --no-gate and has no policy of its own: give --policy")
    policy = Policy.load(own)
    if policy.impersonates:
        raise IntegrityError(
            f"the release holds a policy that calls itself {policy.name} and is not the one that ships here: give --policy"
        )
    return policy


def _day(text: str | None) -> date:
    if text is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError("--date must be a day like 2026-11-21") from None
