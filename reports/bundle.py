"""A finished release and everything put beside it: signed, and checked as a whole.

What is checked, and what could not be, is said in sentences; nothing is left out in silence.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final

import dpsynth
from dpsynth.errors import DpsynthError, IntegrityError
from dpsynth.ledger import Anchor
from dpsynth.release import STATEMENTS, Checked, Release, anchor_in, sha256, write_signature
from dpsynth.signing import PublicKey, SigningKey
from reports import intoto
from reports.agreement import contradictions, is_ours, not_compared
from reports.attestation import Attestation, Record, Subject
from reports.evidence import Evidence
from reports.gate import decide
from reports.gate.people import weigh
from reports.policy import Policy

KIND: Final = "application/vnd.dpsynth.manifest+json"


def sign(release: Release, key: SigningKey) -> PublicKey:
    """Signs the manifest, and with it every file that it lists, and the in-toto statements; older signatures are replaced.

    Raises:
        IntegrityError: the files are not those of the manifest.
    """
    release.require_whole()
    require_one_story(release)
    body = (release.folder / "manifest.json").read_bytes()
    write_signature(release, key.public.text, key.sign(kind=KIND, body=body))
    if (verdict := _json(release, "verdict.json")) is not None:
        intoto.write(release, verdict, key=key)
    return key.public


def require_one_story(release: Release) -> tuple[str, ...]:
    """Refuses to go on where files that the manifest lists contradict one another, or the manifest.

    Returns:
        What could not be compared, a sentence each.
    Raises:
        IntegrityError: they do; the message says where.
    """
    found = _Found()
    _check_heads(release, found)
    _check_agreement(release, found)
    for problem in found.problems:
        raise IntegrityError(f"the release contradicts itself: {problem}; ask for a fresh copy")
    return tuple(found.not_checked)


def signer(release: Release) -> PublicKey | None:
    """The key that signed the manifest; None when nobody did.

    Raises:
        IntegrityError: there is a signature, and it is not of this manifest by the key that it names.
    """
    signed = release.signature
    if signed is None:
        return None
    try:
        key = PublicKey.parse(signed["key"])
    except ValueError:
        raise IntegrityError("the signature names no key") from None
    if not key.verifies(signed["sig"], kind=KIND, body=(release.folder / "manifest.json").read_bytes()):
        raise IntegrityError("the signature is not of this manifest by the key that it names")
    return key


@dataclass
class _Found:
    """What the checks have found so far."""

    problems: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)


def verify(
    release: Release,
    *,
    policy: Policy | None,
    keys: Collection[PublicKey] = (),
    against: Sequence[Path] = (),
    on: date,
) -> Checked:
    """Whether a release and what lies beside it are what they say.

    Args:
        policy: The policy whose keys are believed; None for the one inside the release, if there is one.
        keys: Keys of which one must have signed the release; none means the policy's signers.
        against: Reports or manifests issued earlier.
        on: The day on which signatures have to count.
    """
    base = release.verify(against)
    found = _Found(list(base.problems), list(base.checked), list(base.not_checked))
    if policy is None:
        policy = _own_policy(release, found)
    _check_signature(release, policy, keys, found)
    _check_heads(release, found)
    _check_agreement(release, found)
    _check_statements(release, found)
    _check_attestations(release, policy, on, found)
    return Checked(problems=tuple(found.problems), checked=tuple(found.checked), not_checked=tuple(found.not_checked))


def is_of_this_version(release: Release) -> bool:
    """Whether the manifest says that this very version of the program made the release."""
    return bool(release.manifest.get("dpsynth") == dpsynth.__version__)


def _own_policy(release: Release, found: _Found) -> Policy | None:
    """The policy inside the release, where it is the one of the manifest."""
    path = release.folder / "policy.toml"
    if not path.is_file() or sha256(path) != release.manifest["files"].get(path.name):
        return None
    try:
        policy = Policy.load(path)
    except DpsynthError as error:
        found.problems.append(f"policy.toml: {error}")
        return None
    if policy.impersonates and not is_of_this_version(release):
        found.not_checked.append(
            f"the release by its own policy: it is called {policy.name}, and another version of this program, which made the "
            "release, may have shipped it; --policy names your own copy"
        )
        return None
    if policy.impersonates:
        found.problems.append(
            f"policy.toml calls itself {policy.name} and is not the policy of that name that ships here"
        )
        return None
    found.not_checked.append(
        "whose rules and keys these are: they are those of the policy inside the release; --policy names your own copy "
        f"(SHA-256 {policy.digest})"
    )
    return policy


def _check_signature(release: Release, policy: Policy | None, keys: Collection[PublicKey], found: _Found) -> None:
    believed = tuple(keys) or (policy.signers if policy else ())
    by = "--key" if keys else "the policy"
    try:
        key = signer(release)
    except IntegrityError as error:
        found.problems.append(str(error))
        return
    if key is None and believed:
        found.problems.append(f"the release is unsigned, and {by} names who has to sign it")
    elif key is None:
        found.not_checked.append(
            "who made it: the release is unsigned, so a changed release with a changed manifest is not noticed"
        )
    elif believed and key not in believed:
        found.problems.append(f"the manifest is signed with {key.text}, which {by} does not name")
    else:
        found.checked.append(
            f"the signature of the manifest with {key.text}" + (f", which {by} names" if believed else "")
        )
        if not believed:
            found.not_checked.append(
                "whose key signed the manifest: --key, or signers in a policy, says whose it must be"
            )


def _check_heads(release: Release, found: _Found) -> None:
    """The manifest, the evidence and the verdict speak of one ledger head, one evidence and one policy."""
    evidence = release.folder / "evidence.json"
    try:
        if anchor_in(evidence) != Anchor.from_manifest(release.manifest):
            raise IntegrityError("manifest.json and evidence.json name different heads of the ledger")
        found.checked.append("the ledger head in the manifest against the one in the evidence")
        verdict = _json(release, "verdict.json")
        if verdict is not None:
            policy = release.folder / "policy.toml"
            if (verdict["evidence"]["sha256"], verdict["policy"]["sha256"]) != (sha256(evidence), sha256(policy)):
                raise IntegrityError("verdict.json speaks of other evidence, or of another policy")
            found.checked.append("the verdict of the release day against the evidence and the policy that it names")
            judged, rules = Evidence.from_json(evidence.read_text(encoding="utf-8")), Policy.load(policy)
            if not is_ours(judged):
                found.not_checked.append("the verdict of the release day: another version of this program made it")
            else:
                again = decide(rules, judged, stage="release", on=date.fromisoformat(verdict["date"])).to_json()
                if (again["verdict"], _states(again)) != (verdict["verdict"], _states(verdict)):
                    raise IntegrityError("verdict.json is not what this policy says about this evidence on that day")
                found.checked.append("the verdict of the release day, judged again")
    except DpsynthError as error:
        found.problems.append(str(error))
    except (OSError, LookupError, TypeError, ValueError, RecursionError):
        found.problems.append("evidence.json, verdict.json or policy.toml is missing or damaged")


def _check_agreement(release: Release, found: _Found) -> None:
    """Evidence, schema and manifest say the same about the columns, the unit, the cost and what else stands in two."""
    try:
        evidence = Evidence.from_json((release.folder / "evidence.json").read_text(encoding="utf-8"))
        wrong = list(contradictions(evidence, schema=release.schema, manifest=release.manifest))
    except (DpsynthError, OSError, ValueError):
        found.problems.append("evidence.json or schema.toml is missing or damaged")
        return
    found.problems += wrong
    found.not_checked += not_compared(evidence)
    if not wrong:
        found.checked.append("columns, unit, cost and names in the evidence against schema.toml and manifest.json")


def _states(verdict: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(rule["origin"], rule["id"], rule["status"]) for rule in verdict["rules"]]


def _check_statements(release: Release, found: _Found) -> None:
    """The in-toto statements name the files of the manifest and the verdict of the release day, signed like the manifest."""
    there = (release.folder / STATEMENTS).exists()
    try:
        verdict = _json(release, "verdict.json")
        if not there:
            found.not_checked.append("in-toto statements: the release carries none")
        elif verdict is None:
            found.problems.append(f"{STATEMENTS} is about a verdict, and the release has none")
        elif intoto.check(release, verdict, _signer_if_any(release)):
            found.checked.append(f"the in-toto statements in {STATEMENTS}, with their signatures")
        else:
            found.checked.append(f"the in-toto statements in {STATEMENTS} against the manifest and the verdict")
            found.not_checked.append("who made the in-toto statements: they are unsigned")
    except IntegrityError as error:
        found.problems.append(str(error))
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        found.problems.append(f"{STATEMENTS} or verdict.json is damaged")


def _signer_if_any(release: Release) -> PublicKey | None:
    """The key that signed the manifest; None also where the signature does not hold, which is told elsewhere."""
    try:
        return signer(release)
    except IntegrityError:
        return None


def _check_attestations(release: Release, policy: Policy | None, on: date, found: _Found) -> None:
    record = Record.read(release)
    found.problems += record.problems
    evidence = release.manifest["files"].get("evidence.json", "")
    foreign = [a for a in record.attestations if (a.evidence, a.manifest) != (evidence, record.manifest)]
    found.problems += [f"{_named(a)} was signed for another release or other evidence" for a in foreign]
    if policy is None:
        found.not_checked += [f"who may have signed {_named(a)}: there is no policy" for a in record.attestations]
        return
    subject = Subject(evidence=evidence, policy=policy.digest, manifest=record.manifest, on=on)
    for decided in weigh(policy, record, subject):
        attestation = decided.attestation
        if attestation in foreign:
            continue
        if not decided.why_not:
            found.checked.append(f"{_named(attestation)}: signed with a key that the policy names, for this release")
        elif decided.by_stranger and attestation.policy == policy.digest:
            found.problems.append(f"{_named(attestation)}: {decided.why_not}")
        else:
            found.not_checked.append(
                f"{_named(attestation)}: its signature holds, and does not count: {decided.why_not}"
            )


def _named(attestation: Attestation) -> str:
    what = "approval" if attestation.decision == "approve" else "rejection"
    return f"the {what} by {attestation.who} as {attestation.role} ({attestation.statement})"


def _json(release: Release, name: str) -> dict[str, Any] | None:
    """A JSON object of the release, or None when the release has no such file."""
    if name not in release.manifest["files"]:
        return None
    found = json.loads((release.folder / name).read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise ValueError("not an object")
    return found
