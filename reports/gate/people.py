"""What people decided: statements that a policy asks for, findings they settle, waivers, and what each signature is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from reports.attestation import Record, Standing, Subject, standing
from reports.gate.base import finding, sentence
from reports.gate.verdict import Decided, RuleResult
from reports.policy import Human, Policy, Waivers


def asked_of(human: Human, where: Standing) -> RuleResult:
    """A statement that the policy asks for: accepted when someone who may approved it, and nobody who may rejected it."""
    message = where.said
    if not where.approvals and not where.rejections:
        nobody = "none is recorded" if not where.ignored else "none that counts is recorded"
        asks = f"The policy asks for a signed statement by the {human.role}, and {nobody}."
        message = f"{asks} {message}" if human.keys else f"{asks} It names no key that could sign one. {message}"
    return RuleResult(
        id=human.rule_id,
        state="accepted" if where.is_approved else "needs_human",
        message=message.strip(),
        reason="Only a person can make this decision.",
        origin="policy",
    )


def accepted(result: RuleResult, asked: Sequence[tuple[Human, Standing]]) -> RuleResult:
    """A finding that needs a person, settled when all decisions that cover it by name are approved."""
    covering = [where for human, where in asked if result.id in human.covers]
    if result.state != "needs_human" or not covering or not all(where.is_approved for where in covering):
        return result
    return replace(result, state="accepted", message=" ".join([result.message, *(where.said for where in covering)]))


def waived(result: RuleResult, waivers: Waivers, record: Record, subject: Subject) -> RuleResult:
    """A broken rule that the policy waives: needs_human until the approver has signed, or if the approver refused."""
    waiver = next((waiver for waiver in waivers.rules if waiver.rule == result.id), None)
    if waiver is None or result.state != "fail":
        return result
    if not waiver.granted <= subject.on <= waiver.expires:
        dates = f"{waiver.granted.isoformat()} to {waiver.expires.isoformat()}"
        return replace(result, message=f"{result.message} Its waiver holds from {dates}, and not on this day.")
    keys = waivers.keys_of(waiver.approver)
    where = standing(record, subject, role=waiver.approver, statement=waiver.statement, keys=keys)
    until = f"Waived until {waiver.expires.isoformat()}: {sentence(waiver.reason)}"
    if not where.approvals and not where.rejections:
        until += f" The {waiver.approver} has not signed the waiver."
    return replace(
        result,
        state="waived" if where.is_approved else "needs_human",
        message=f"{result.message} {until} {where.said}".strip(),
    )


def weigh(policy: Policy, record: Record, subject: Subject) -> tuple[Decided, ...]:
    """Every attestation of the record, with why it does not count if it does not."""
    keys = {(human.role, human.statement): human.keys for human in policy.human}
    keys |= {(w.approver, w.statement): policy.waivers.keys_of(w.approver) for w in policy.waivers.rules}
    out = []
    for attestation in record.attestations:
        named = keys.get((attestation.role, attestation.statement))
        if named is None:
            out.append(Decided(attestation=attestation, why_not="the policy asks for no such statement by this role"))
        else:
            why_not = subject.why_not(attestation, named)
            out.append(Decided(attestation=attestation, why_not=why_not, by_stranger=attestation.key not in named))
    return tuple(out)


def attested(record: Record, decisions: Sequence[Decided]) -> Iterator[RuleResult]:
    """Whether the attestations are what they were when they were signed; a damaged one is never left out in silence."""
    reason = "A signature that was changed could be one that was taken away."
    ignored = [f"{d.attestation.who}, {d.attestation.role}: {d.why_not}" for d in decisions if d.why_not]
    if record.problems:
        more = f", and {len(record.problems) - 1} more like it" if len(record.problems) > 1 else ""
        yield finding("attestations.intact", "integrity", f"Damaged: {record.problems[0]}{more}.", reason)
    elif ignored:
        message = f"The attestations are intact. These do not count: {'; '.join(ignored)}."
        yield finding("attestations.intact", "pass", message, reason)
    elif decisions:
        yield finding("attestations.intact", "pass", "The attestations are intact, and each counts.", reason)
