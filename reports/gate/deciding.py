"""`decide`: a policy, evidence, a day and what people signed, to the verdict of one stage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

from dpsynth.errors import IntegrityError
from reports.attestation import Record, Subject, standing
from reports.evidence import Evidence
from reports.gate.attacks import shown
from reports.gate.base import finding, sentence
from reports.gate.checks import CHECKS
from reports.gate.completeness import dated
from reports.gate.people import accepted, asked_of, attested, waived, weigh
from reports.gate.rules import judge
from reports.gate.verdict import Decided, RuleResult, Verdict
from reports.policy import COVERABLE, Policy, Stage

NOBODY: Final = Record()
"""The record of a release that nobody has signed anything about."""


def decide(policy: Policy, evidence: Evidence, *, stage: Stage, on: date, record: Record = NOBODY) -> Verdict:
    """The verdict of one stage.

    The release stage sees the shareable edition and nothing else, so that its verdict is the same for everybody and
    cannot depend on an internal number. Evidence that cannot be shared gives "integrity". The review stage needs the
    internal edition; on a shareable one its rules find no leaf and are incomplete.

    Args:
        policy: The policy to apply.
        evidence: Either edition.
        stage: Which rules are judged.
        on: The day of the verdict; evidence that is past its review date is out of date.
        record: What people signed about the release. It settles what needs a person, where the policy names their keys,
            and nothing else; with none of it a verdict is never better.
    """
    problems = evidence.problems() if stage == "release" else ()
    if stage == "release" and not problems:
        evidence = evidence.shareable()
    digest = "" if problems else _digest(evidence)
    if not problems and not digest:
        problems = ("the evidence holds something that can never be written",)
    results = [judge(rule, evidence) for rule in policy.stage(stage)]
    checks = CHECKS if stage == "release" else (dated, shown)
    found = [_not_shareable(problems)] if problems else []
    found += [result for check in checks for result in check(evidence, on, policy)]
    decisions: tuple[Decided, ...] = ()
    if stage == "release":
        subject = Subject(evidence=digest, policy=policy.digest, manifest=record.manifest, on=on)
        asked = [
            (human, standing(record, subject, role=human.role, statement=human.statement, keys=human.keys))
            for human in policy.human
        ]
        results = [waived(accepted(result, asked), policy.waivers, record, subject) for result in results]
        found = [accepted(result, asked) if result.id in COVERABLE else result for result in found]
        results += [asked_of(human, where) for human, where in asked]
        decisions = weigh(policy, record, subject)
        found += attested(record, decisions)
    results += found
    return Verdict(
        stage=stage,
        rules=tuple(results),
        policy_name=policy.name,
        policy_version=policy.version,
        policy_sha256=policy.digest,
        evidence_sha256=digest,
        on=on,
        decisions=decisions,
    )


def _digest(evidence: Evidence) -> str:
    """The evidence's digest, or nothing when it holds a leaf that cannot be written (class P4, not a finite number)."""
    try:
        return evidence.digest
    except (IntegrityError, ValueError):
        return ""


def _not_shareable(problems: Sequence[str]) -> RuleResult:
    more = f", and {len(problems) - 1} more like it" if len(problems) > 1 else ""
    reason = "The release stage, and everything that may leave the house, holds classes P0 to P2 only."
    return finding("disclosure.class", "integrity", sentence(problems[0] + more), reason)
