"""The gate: a pure function from (policy, evidence, date) to a verdict. Only pass passes.

States, worst first (compliance.md 5.3, design.md 7):

    integrity     5   the evidence or the ledger is not what it says
    fail          1   a rule is broken
    incomplete    4   evidence is missing, empty, out of date, or too weak to tell
    needs_human   3   nothing is broken, and something is left that only a person may accept
    pass          0   every rule was checked against evidence, and holds

A person's signed decision settles what is needs_human, and nothing that is worse: it is shown as `accepted`, never as a
pass. A broken rule that the policy waives is needs_human until its approver has signed, and then `waived`.

The verdict is the worst state of all rules: of the policy, and of `CHECKS`, which are code so that no policy can remove
them. What is not there is never taken for good: a rule without a leaf, a leaf without a value, a value of the wrong
kind, an interval without width, and a policy without rules are all incomplete. A leaf of class P3 never feeds a rule of
the release stage: the policy refuses such a path when it is read, and the class is looked at again here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from dpsynth.errors import DpsynthError, IntegrityError, UsageError
from dpsynth.privacy import NANO, ORDERS, Cap, Cost, advantage_bound, tpr_bound
from reports.attestation import Attestation, Record, Standing, Subject, standing
from reports.evidence import Evidence, Leaf
from reports.paths import (
    APPROXIMATE,
    ATTACK_TITLES,
    CHARGED_ATTACKS,
    CLAIMED,
    MOST_PAIRS,
    NEVER_EMPTY,
    PATHS,
    RENYI,
    REVIEW_ATTACKS,
    SHAREABLE,
    UNSIGNED,
    ZCDP,
    Value,
    declared,
    fits_kind,
    is_internal,
    is_number,
)
from reports.policy import COVERABLE, Human, Policy, Rule, Stage, Threshold, Waivers
from reports.safe_harbor import alphabet

State: TypeAlias = Literal["integrity", "fail", "incomplete", "needs_human", "pass"]
RuleState: TypeAlias = State | Literal["not_applicable", "accepted", "waived"]

WORST_FIRST: Final[tuple[State, ...]] = ("integrity", "fail", "incomplete", "needs_human", "pass")
EXIT_CODES: Final[dict[State, int]] = {"pass": 0, "fail": 1, "needs_human": 3, "incomplete": 4, "integrity": 5}
SETTLED: Final[frozenset[RuleState]] = frozenset({"pass", "not_applicable", "accepted", "waived"})
"""States of a rule that does not stand in the way of a pass."""
SCHEMA: Final = "dpsynth.verdict/1"

_CONFIDENCE = 0.9  # an interval of an attack says less than this one and could as well be left out
_MOST_DAYS = 366  # from the making of the evidence to its review date
_FLOAT_ORDERS = tuple(float(order) for order in ORDERS)
_ROUNDING = 1e-6  # evidence is printed with a few digits; consistency is judged with this relative slack


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """What one rule found.

    Args:
        id: The rule's name.
        state: pass, fail, incomplete, needs_human, integrity; not_applicable for a rule that can only fail and did not;
            accepted where a person had to decide and signed; waived where a broken rule is let through, signed.
        message: What was found, one sentence.
        reason: Why the rule is there.
        origin: "policy", or "code" for what no policy can remove.
        path: Where in the evidence it looked; empty when at several places.
        op, threshold, side: What was asked; side is the end of the interval that was judged.
        cls, estimate, low, high, confidence, n: The leaf that was judged.
    """

    id: str
    state: RuleState
    message: str
    reason: str
    origin: Literal["policy", "code"]
    path: str = ""
    op: str = ""
    threshold: Threshold | None = None
    side: str = ""
    cls: str = ""
    estimate: Value = None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    n: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON object, with the keys that scripts rely on (design.md 7)."""

        def plain(value: object) -> object:
            return list(value) if isinstance(value, tuple) else value

        return {
            "id": self.id,
            "class": self.cls or None,
            "status": self.state,
            "estimate": plain(self.estimate),
            "low": self.low,
            "high": self.high,
            "confidence": self.confidence,
            "n": self.n,
            "path": self.path or None,
            "op": self.op or None,
            "threshold": plain(self.threshold),
            "side": self.side or None,
            "origin": self.origin,
            "message": self.message,
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A person's decision, and what it is worth.

    Args:
        attestation: The decision.
        why_not: Why it does not count; empty when it does.
        by_stranger: Whether the policy asks for it, and does not name its key.
    """

    attestation: Attestation
    why_not: str
    by_stranger: bool = False

    def to_json(self) -> dict[str, Any]:
        """The decision as a JSON object, with the fingerprint of its key."""
        return self.attestation.to_json() | {
            "fingerprint": self.attestation.key.fingerprint,
            "counts": not self.why_not,
            "why_not": self.why_not or None,
        }


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of one stage, with everything that it depends on.

    Args:
        stage: "release" (P0 to P2) or "review" (internal).
        rules: The results: rules of the policy in the order of the file, then the checks in code.
        policy_name, policy_version, policy_sha256, evidence_sha256: What was judged, by what.
        on: The day of the verdict.
        decisions: What people signed about this release, whether it counts or not; of the release stage only.
    """

    stage: Stage
    rules: tuple[RuleResult, ...]
    policy_name: str
    policy_version: str
    policy_sha256: str
    evidence_sha256: str
    on: date
    decisions: tuple[Decided, ...] = ()

    @property
    def state(self) -> State:
        """The worst state; incomplete when no rule of the policy passed, for then nothing was shown."""
        states = {rule.state for rule in self.rules}
        if not any(rule.state == "pass" and rule.origin == "policy" for rule in self.rules):
            states.add("incomplete")
        return next((state for state in WORST_FIRST if state in states), "incomplete")

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends with this verdict."""
        return EXIT_CODES[self.state]

    def exit_code_allowing(self, allow: Collection[str]) -> int:
        """The same, with needs_human let through when it is asked for by name; nothing else can be.

        Raises:
            UsageError: something else than needs_human is to be let through.
        """
        if not set(allow) <= {"needs_human"}:
            raise UsageError("only needs_human can be allowed")
        rejected = any(d.attestation.decision == "reject" and not d.why_not for d in self.decisions)
        return 0 if self.state in allow and not rejected else self.exit_code

    @property
    def open(self) -> tuple[RuleResult, ...]:
        """The results that stand in the way of a pass, worst first."""
        found = [rule for rule in self.rules if rule.state not in SETTLED]
        return tuple(sorted(found, key=lambda rule: WORST_FIRST.index(_as_state(rule.state))))

    @property
    def settled_by_people(self) -> tuple[RuleResult, ...]:
        """The results that a signature let through: they stay visible on every page."""
        return tuple(rule for rule in self.rules if rule.state in ("accepted", "waived"))

    def to_json(self) -> dict[str, Any]:
        """The verdict as a JSON object."""
        return {
            "schema": SCHEMA,
            "stage": self.stage,
            "verdict": self.state,
            "exit_code": self.exit_code,
            "date": self.on.isoformat(),
            "policy": {"name": self.policy_name, "version": self.policy_version, "sha256": self.policy_sha256},
            "evidence": {"sha256": self.evidence_sha256},
            "rules": [rule.to_json() for rule in self.rules],
            "decisions": [decided.to_json() for decided in self.decisions],
        }

    def to_text(self) -> str:
        """The JSON text of `verdict.json`, the same bytes for the same verdict."""
        return json.dumps(self.to_json(), sort_keys=True, ensure_ascii=True, allow_nan=False, indent=1) + "\n"


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
    checks = CHECKS if stage == "release" else (_dated,)
    found = [_not_shareable(problems)] if problems else []
    found += [result for check in checks for result in check(evidence, on, policy)]
    decisions: tuple[Decided, ...] = ()
    if stage == "release":
        subject = Subject(evidence=digest, policy=policy.digest, manifest=record.manifest, on=on)
        asked = [
            (human, standing(record, subject, role=human.role, statement=human.statement, keys=human.keys))
            for human in policy.human
        ]
        results = [_waived(_accepted(result, asked), policy.waivers, record, subject) for result in results]
        found = [_accepted(result, asked) if result.id in COVERABLE else result for result in found]
        results += [_human(human, where) for human, where in asked]
        decisions = weigh(policy, record, subject)
        found += _attested(record, decisions)
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


# ---- what people decided ---------------------------------------------------------------------------------------------


def _human(human: Human, where: Standing) -> RuleResult:
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


def _accepted(result: RuleResult, asked: Sequence[tuple[Human, Standing]]) -> RuleResult:
    """A finding that needs a person, settled when all decisions that cover it by name are approved."""
    covering = [where for human, where in asked if result.id in human.covers]
    if result.state != "needs_human" or not covering or not all(where.is_approved for where in covering):
        return result
    return replace(result, state="accepted", message=" ".join([result.message, *(where.said for where in covering)]))


def _waived(result: RuleResult, waivers: Waivers, record: Record, subject: Subject) -> RuleResult:
    """A broken rule that the policy waives: needs_human until the approver has signed, or if the approver refused."""
    waiver = next((waiver for waiver in waivers.rules if waiver.rule == result.id), None)
    if waiver is None or result.state != "fail":
        return result
    if not waiver.granted <= subject.on <= waiver.expires:
        dates = f"{waiver.granted.isoformat()} to {waiver.expires.isoformat()}"
        return replace(result, message=f"{result.message} Its waiver holds from {dates}, and not on this day.")
    keys = waivers.keys_of(waiver.approver)
    where = standing(record, subject, role=waiver.approver, statement=waiver.statement, keys=keys)
    until = f"Waived until {waiver.expires.isoformat()}: {_sentence(waiver.reason)}"
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


def _attested(record: Record, decisions: Sequence[Decided]) -> Iterator[RuleResult]:
    """Whether the attestations are what they were when they were signed; a damaged one is never left out in silence."""
    reason = "A signature that was changed could be one that was taken away."
    ignored = [f"{d.attestation.who}, {d.attestation.role}: {d.why_not}" for d in decisions if d.why_not]
    if record.problems:
        more = f", and {len(record.problems) - 1} more like it" if len(record.problems) > 1 else ""
        yield _check("attestations.intact", "integrity", f"Damaged: {record.problems[0]}{more}.", reason)
    elif ignored:
        message = f"The attestations are intact. These do not count: {'; '.join(ignored)}."
        yield _check("attestations.intact", "pass", message, reason)
    elif decisions:
        yield _check("attestations.intact", "pass", "The attestations are intact, and each counts.", reason)


# ---- one rule ------------------------------------------------------------------------------------------------------


def judge(rule: Rule, evidence: Evidence) -> RuleResult:
    """What one rule of a policy finds in the evidence."""
    asked: dict[str, Any] = {"op": rule.op, "threshold": rule.threshold, "side": rule.side or ""}

    def result(state: RuleState, message: str, leaf: Leaf | None = None) -> RuleResult:
        found: dict[str, Any] = {}
        if leaf is not None:
            found = {
                "cls": leaf.cls,
                "estimate": leaf.value,
                "low": leaf.low,
                "high": leaf.high,
                "confidence": leaf.confidence,
                "n": leaf.n,
            }
        return RuleResult(
            id=rule.id,
            state=state,
            message=message,
            reason=rule.reason,
            origin="policy",
            path=rule.evidence,
            **asked,
            **found,
        )

    known, leaf = declared(rule.evidence), evidence.get(rule.evidence)
    if known is None or (rule.stage == "release" and is_internal(rule.evidence)):
        return result("integrity", "This rule reads something that the release stage may not read.")
    if leaf is None:
        return result("incomplete", "The evidence holds nothing at this path.")
    if leaf.cls not in known.classes or (rule.stage == "release" and leaf.cls not in SHAREABLE):
        return result("integrity", "The evidence at this path is of a privacy class that may not stand there.")
    if leaf.value is None:
        state: State = "needs_human" if _without_number(rule.evidence, evidence) else "incomplete"
        return result(state, _sentence(leaf.missing) or "The value could not be had.", leaf)
    if not fits_kind(leaf.value, known.kind):
        return result("incomplete", "The value is not of the kind that this rule judges.")
    if rule.op == "equals":
        same = type(leaf.value) is type(rule.threshold) or (is_number(leaf.value) and is_number(rule.threshold))
        good = same and leaf.value == rule.threshold
        outcome = result("pass" if good else "fail", "As asked." if good else "Not the value that is asked for.", leaf)
    elif rule.op == "one_of":
        good = isinstance(rule.threshold, tuple) and leaf.value in rule.threshold
        outcome = result("pass" if good else "fail", "On the list." if good else "Not on the list.", leaf)
    else:
        outcome = _judge_number(rule, leaf, result)
    if outcome.state != "fail" and not _has_power(_positive_control(rule.evidence), evidence):
        return result(
            "incomplete",
            "The same attack was not seen to catch a deliberately leaky copy, so that its finding nothing says nothing.",
            leaf,
        )
    if outcome.state == "pass" and not _could_break(rule, evidence):
        return result(
            "incomplete",
            "Even a deliberately leaky copy would have kept within this threshold, so that keeping within it says nothing.",
            leaf,
        )
    return outcome


def _could_break(rule: Rule, evidence: Evidence) -> bool:
    """Whether the leaky copy would surely have broken this very rule about an attack: the check that it can fail."""
    base, _, field = rule.evidence.rpartition(".")
    if not _positive_control(rule.evidence) or field != "excess" or rule.op != "at_most":
        return True
    known, leaf = declared(f"{base}.positive_control"), evidence.get(f"{base}.positive_control")
    if known is None or leaf is None or leaf.cls not in known.classes or not _has_ends(leaf):
        return False
    return is_number(rule.threshold) and leaf.low is not None and leaf.low > rule.threshold


def _has_ends(leaf: Leaf) -> bool:
    """Whether a leaf has an interval with a width, at a confidence that is worth something."""
    low, high, confidence = leaf.low, leaf.high, leaf.confidence
    return is_number(low) and is_number(high) and is_number(confidence) and low < high and _CONFIDENCE <= confidence < 1


def _is_excess(path: str) -> bool:
    """Whether a path holds what an attack found: then an estimate alone says nothing, whatever a rule judges."""
    return _positive_control(path) != "" and path.endswith(".excess")


def _positive_control(path: str) -> str:
    """Where the evidence says whether an attack can catch anything at all; empty for what is not about an attack."""
    section, _, attack = path.rpartition(".")[0].partition(".")
    if section == "attacks" and attack in CHARGED_ATTACKS:
        return f"attacks.{attack}.powered"
    return f"review.{attack}.detected" if section == "review" and attack in REVIEW_ATTACKS else ""


def _has_power(control: str, evidence: Evidence) -> bool:
    """Whether the leaky copy was caught, said by a leaf of the class that belongs there; True where there is none."""
    known, leaf = declared(control), evidence.get(control)
    if known is None:
        return True
    return leaf is not None and leaf.value is True and leaf.cls in known.classes


_LIFETIME: Final = frozenset(
    {"ledger.spent_before_epsilon", "ledger.spent_epsilon", "risk.tpr_at_fpr", "risk.advantage"}
)


def _without_number(path: str, evidence: Evidence) -> bool:
    """Whether a lifetime figure cannot exist: an earlier release had no differential privacy (compliance.md 3.3).

    Then a person has to decide; the evidence must say so at the path itself.
    """
    leaf, count = evidence.get(path), evidence.value("ledger.imports_not_dp")
    return (
        path in _LIFETIME
        and leaf is not None
        and leaf.value is None
        and leaf.missing != ""
        and fits_kind(count, "count")
        and count != 0
    )


def _judge_number(rule: Rule, leaf: Leaf, result: Callable[..., RuleResult]) -> RuleResult:
    """at_most and at_least: the unfavourable end of the interval is judged, unless the rule names another."""
    at_most = rule.op == "at_most"
    value, threshold = leaf.value, rule.threshold
    if not is_number(value) or not is_number(threshold):
        return result("incomplete", "The value is not a number.")

    def holds(number: float) -> bool:
        return number <= threshold if at_most else number >= threshold

    low, high = leaf.low, leaf.high
    lacking = _lacking(rule, leaf)
    if lacking:  # an interval can excuse a value, so one that is lost must not
        return result("incomplete", lacking, leaf) if holds(value) else result("fail", "Outside the threshold.", leaf)
    if low is None or high is None:
        low = high = value
    if rule.is_fail_only:
        best = min(low, value) if at_most else max(high, value)
        if holds(best):
            return result("not_applicable", "Not failed; this rule can fail a release and never passes one.", leaf)
        return result("fail", "Even the favourable end of the interval breaks the rule.", leaf)
    if rule.side == "estimate":
        good = holds(value)
        return result("pass" if good else "fail", "Within the threshold." if good else "Outside the threshold.", leaf)
    if not holds(value):
        return result("fail", "Outside the threshold.", leaf)
    if not holds(high if at_most else low):
        return result(
            "incomplete",
            "The estimate is within the threshold and the far end of its interval is not: too little data to tell.",
            leaf,
        )
    return result("pass", "Within the threshold.", leaf)


def _lacking(rule: Rule, leaf: Leaf) -> str:
    """Why the interval of a leaf is none that this rule could judge; empty when it is, or none is needed."""
    if leaf.low is None or leaf.high is None:
        if _is_excess(rule.evidence):
            return "The value has no interval, and what an attack finds says nothing without one."
        return "The value has no interval, and this rule judges the end of one." if rule.side in ("low", "high") else ""
    if not (is_number(leaf.low) and is_number(leaf.high) and leaf.low < leaf.high):
        return "The interval has no width, so that it was not measured."
    if _is_excess(rule.evidence) and not _has_ends(leaf):
        return f"The confidence of the interval is below {_CONFIDENCE:.0%}, which is too little to judge by."
    return ""


def _sentence(text: str) -> str:
    text = text.strip()
    return text and text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _as_state(state: RuleState) -> State:
    return next((known for known in WORST_FIRST if known == state), "pass")


# ---- what no policy can remove ---------------------------------------------------------------------------------------

Check: TypeAlias = Callable[[Evidence, date, Policy], Iterator[RuleResult]]


def _check(rule_id: str, state: State, message: str, reason: str, path: str = "") -> RuleResult:
    return RuleResult(id=rule_id, state=state, message=message, reason=reason, origin="code", path=path)


def _not_shareable(problems: Sequence[str]) -> RuleResult:
    more = f", and {len(problems) - 1} more like it" if len(problems) > 1 else ""
    reason = "The release stage, and everything that may leave the house, holds classes P0 to P2 only."
    return _check("disclosure.class", "integrity", _sentence(problems[0] + more), reason)


def _complete(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
    """Every required leaf is there, has a value, and is of its kind: nothing on the page may be blank."""
    lacking = []
    for path, rule in PATHS.items():
        table, _sep, field = path.partition("[].")
        if not rule.required:
            continue
        if not field:
            leaves: Sequence[Leaf | None] = [evidence.get(path)]
        elif table in NEVER_EMPTY and not (table == "risk.table" and _without_number("risk.tpr_at_fpr", evidence)):
            leaves = [row.get(field) for row in evidence.rows(table)] or [None]
        else:
            leaves = [row.get(field) for row in evidence.rows(table)]
        there = all(leaf is not None and leaf.value is not None and rule.holds(leaf.value) for leaf in leaves)
        if not there and not _without_number(path, evidence) and not (path in _OF_ZCDP and _has_claim(evidence)):
            lacking.append(path)
    reason = "A report with a blank in it cannot be signed, whatever the policy asks for."
    if lacking:
        named = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
        yield _check("evidence.complete", "incomplete", f"Required evidence is missing or empty: {named}.", reason)
    else:
        yield _check("evidence.complete", "pass", "All required evidence is there.", reason)


def _dated(evidence: Evidence, on: date, _: Policy) -> Iterator[RuleResult]:
    """The evidence is neither out of date nor younger than the verdict, and is not good for ever."""
    reason = "Attacks get better: evidence is judged between the day it was made and its review date."
    created, review = _day(evidence.value("created_at")), _day(evidence.value("review_on"))
    if created is None or review is None:
        yield _check(
            "evidence.date", "incomplete", "The evidence does not say when it was made or is due again.", reason
        )
    elif on > review:
        message = f"The evidence was to be reviewed again on {review.isoformat()}."
        yield _check("evidence.date", "incomplete", message, reason, "review_on")
    elif (review - created).days > _MOST_DAYS:
        message = f"The evidence sets its own review date more than {_MOST_DAYS} days after it was made."
        yield _check("evidence.date", "incomplete", message, reason, "review_on")
    elif (created - on).days > 1:
        message = f"The evidence was made on {created.isoformat()}, after the day of this verdict."
        yield _check("evidence.date", "incomplete", message, reason, "created_at")
    else:
        yield _check("evidence.date", "pass", f"Valid until {review.isoformat()}.", reason, "review_on")


def _day(value: Value) -> date | None:
    try:
        return date.fromisoformat(value[:10]) if isinstance(value, str) else None
    except ValueError:
        return None


def _consistent(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
    """The numbers agree with one another: what is stated is not better than what the native measure implies."""
    reason = "Figures that follow from one another are recomputed from the native measure, so that none can be edited."
    wrong = [*_contradictions(evidence), *_ledger_contradictions(evidence), *_better_than_native(evidence)]
    wrong += [f"{path} lies outside its own interval" for path, leaf in evidence.leaves() if not _is_inside(path, leaf)]
    wrong = list(dict.fromkeys(wrong))
    if wrong:
        message = f"The stated figures contradict one another: {'; '.join(wrong)}."
        yield _check("evidence.consistent", "integrity", message, reason)
    else:
        yield _check("evidence.consistent", "pass", "The stated figures agree with one another.", reason)


def _contradictions(evidence: Evidence) -> Iterator[str]:
    if evidence.value("guarantee.unit") != evidence.value("unit.entity"):
        yield "guarantee.unit is not the unit of the schema"
    if evidence.value("domain.from_data") == "none" and any(
        row["source"].value == "data" for row in evidence.rows("columns") if "source" in row
    ):
        yield "domain.from_data does not name a column whose source is the data"
    searched = evidence.rows("discovery")
    if _columns(evidence, "source", "discover") != {_name_in(row, "column") for row in searched}:
        yield "discovery does not name the columns whose source it is"
    yield from _chances(evidence)
    yield from _searched(evidence)
    yield from _measured(evidence)
    yield from _means(evidence)
    for attack in CHARGED_ATTACKS:
        excess, fit, control = (
            _number(evidence.value(f"attacks.{attack}.{part}")) for part in ("excess", "fit_rate", "control_rate")
        )
        if excess is not None and (fit is None or control is None):
            yield f"attacks.{attack}.excess stands without its two rates"
        elif excess is not None and fit is not None and control is not None and excess < fit - control - _ROUNDING:
            yield f"attacks.{attack}.excess is smaller than the difference of its rates"
    for row in evidence.rows("risk.table"):
        release, lifetime = _cell(row, "release"), _cell(row, "cumulative")
        if release is not None and lifetime is not None and _is_below(lifetime, release):
            yield "risk.table is smaller over the lifetime than for this release alone"


def _measured(evidence: Evidence) -> Iterator[str]:
    """The mean is of columns that there are, each of them once."""
    told = [_name_in(row, "name") for row in evidence.rows("utility.columns")]
    if not set(told) <= {_name_in(row, "name") for row in evidence.rows("columns")}:
        yield "utility.columns names a column that there is not"
    if len(set(told)) < len(told):
        yield "utility.columns names a column twice"


def _means(evidence: Evidence) -> Iterator[str]:
    """A mean distance follows from the distances below it; of pairs the worst are listed, and fewer only if that is all."""
    for path, table, most in (("utility.tv1", "utility.columns", None), ("utility.tv2", "utility.pairs", MOST_PAIRS)):
        mean, rows = _number(evidence.value(path)), [_cell(row, "tv") for row in evidence.rows(table)]
        told = [tv for tv in rows if tv is not None]
        if len(told) < len(rows):
            continue  # a matter for `evidence.complete`
        if mean is None:
            if told and evidence.get(path) is not None:
                yield f"{path} is left out although {table} gives what it is the mean of"
            continue
        listed = sum(told) / len(told) if told else -1.0
        whole = most is None or len(told) < most
        if not told or (whole and abs(mean - listed) > _ROUNDING) or mean > listed + _ROUNDING:
            yield f"{path} is not the mean of {table}"


def _searched(evidence: Evidence) -> Iterator[str]:
    """The count of direct identifiers, and what is said of card numbers, follow from the letters below them."""
    rows = evidence.rows("deid_scan.safe_harbor")
    count, cards = evidence.value("deid_scan.direct"), evidence.value("deid_scan.pan_scan")
    if not rows and count is None and cards is None:
        return
    if [_name_in(row, "letter") for row in rows] != [letter.id for letter in alphabet()]:
        yield "deid_scan.safe_harbor does not give each of the 18 letters once"
        return
    direct = 0
    for row, letter in zip(rows, alphabet(), strict=True):
        signs, columns = (row[key].value if key in row else None for key in ("signs", "columns"))
        if not isinstance(signs, tuple) or not isinstance(columns, tuple) or len(signs) != len(columns):
            yield "deid_scan.safe_harbor does not say what was seen in which column"
            return
        found = any(not sign.startswith("fakes of format ") and sign != "values look like codes" for sign in signs)
        if found != (_name_in(row, "status") == "pattern found"):
            yield "deid_scan.safe_harbor has a status that its signs do not bear out"
        direct += found and letter.direct
        if any("card numbers" in sign for sign in signs) and cards != "pattern found":
            yield "deid_scan.pan_scan leaves out card numbers that deid_scan.safe_harbor names"
    if count != direct:
        yield "deid_scan.direct is not the number of letters found"


def _chances(evidence: Evidence) -> Iterator[str]:
    """A value that is published from a threshold on may be one that a single unit has: that costs a delta0, however small."""
    searched = evidence.rows("discovery")
    categories = _columns(evidence, "type", "category")
    for row in searched:
        by_values = _name_in(row, "column") in categories or "values" in _name_in(row, "facts")
        if by_values and not (_cell(row, "delta0") or 0.0) > 0:
            yield "discovery gives no delta0 for the values of a category"
    stated, implied = _number(evidence.value("guarantee.delta0")), sum(_cell(row, "delta0") or 0.0 for row in searched)
    if implied > (stated or 0.0) * (1 + _ROUNDING):
        yield "guarantee.delta0 is smaller than discovery implies"


def _columns(evidence: Evidence, field: str, value: str) -> set[str]:
    """The names of the columns of which `field` says `value`."""
    rows = (row for row in evidence.rows("columns") if field in row and row[field].value == value)
    return {_name_in(row, "name") for row in rows}


def _name_in(row: Mapping[str, Leaf], field: str) -> str:
    """Empty where it is lost, or no text."""
    value = row[field].value if field in row else None
    return value if isinstance(value, str) else ""


def _ledger_contradictions(evidence: Evidence) -> Iterator[str]:
    names = ("spent_before_epsilon", "spent_epsilon", "cap_epsilon", "remaining")
    before, after, cap, remaining = (_number(evidence.value(f"ledger.{name}")) for name in names)
    if before is not None and after is not None and after <= before:
        yield "ledger.spent_epsilon did not grow with this release"
    if cap is not None and remaining is not None and _is_below(cap, remaining):
        yield "ledger.remaining is larger than the limit"
    if cap is not None and after is not None and remaining is not None and remaining >= 0 and _is_below(cap, after):
        yield "ledger.remaining is not below zero although the limit is passed"
    attempts, orphans = _number(evidence.value("ledger.attempts")), _number(evidence.value("ledger.orphans"))
    if attempts is not None and attempts <= (orphans or 0):
        yield "ledger.attempts leaves out this release, or reservations that never finished"
    made, collected = _day(evidence.value("ledger.genesis")), _day(evidence.value("created_at"))
    if made is not None and collected is not None and (made - collected).days > 1:
        yield "ledger.genesis is after the release that the ledger paid for"
    seq, head = _number(evidence.value("ledger.seq")), evidence.value("ledger.head")
    for row in evidence.rows("ledger.anchors"):
        at = _cell(row, "seq")
        if seq is not None and at is not None and (at > seq or (at == seq and _name_in(row, "head") != head)):
            yield "ledger.anchors names an entry that the ledger does not have"
    yield from _raised(evidence)
    yield from _below_the_limit(evidence)


def _raised(evidence: Evidence) -> Iterator[str]:
    """The limit is the one that the last amendment left, and each of them is told."""
    rows, count, limit = evidence.rows("ledger.amendments"), evidence.value("ledger.raised"), None
    if count is not None and count != len(rows):
        yield "ledger.amendments does not tell each time that the limit was raised"
    for row in rows:
        before, after = _cell(row, "from_epsilon"), _cell(row, "to_epsilon")
        if before is None or after is None:
            return  # a matter for `evidence.complete`
        if after <= before or (limit is not None and before != limit):
            yield "ledger.amendments is no row of rising limits"
        limit = after
    if limit is not None and limit != evidence.value("ledger.cap_epsilon"):
        yield "ledger.cap_epsilon is not the limit that ledger.amendments ends with"


def _below_the_limit(evidence: Evidence) -> Iterator[str]:
    """Lifetime figures are about all that the ledger's limit allows, never about less."""
    cap, delta = _number(evidence.value("ledger.cap_epsilon")), _number(evidence.value("ledger.cap_delta"))
    if cap is None or delta is None:
        return  # a matter for `evidence.complete`
    raised = [_cell(row, "from_epsilon") for row in evidence.rows("ledger.amendments")]
    try:
        cost = _lifetime(raised[0], cap, delta) if raised else _lifetime(cap, None, delta)
        stated: list[tuple[str, float | None, float | None]] = [
            ("risk.tpr_at_fpr", _number(evidence.value("risk.tpr_at_fpr")), 0.01)
        ]
        stated += [("risk.table", _cell(row, "cumulative"), _cell(row, "fpr")) for row in evidence.rows("risk.table")]
        for path, rate, fpr in stated:
            if rate is not None and fpr is not None and _is_below(rate, _detection(cost, fpr)):
                yield f"{path} is smaller than ledger.cap_epsilon implies"
        gap = _number(evidence.value("risk.advantage"))
        if gap is not None and _is_below(gap, _advantage(cost, 0.0)):
            yield "risk.advantage is smaller than ledger.cap_epsilon implies"
    except (DpsynthError, ArithmeticError, ValueError):
        yield "risk cannot be computed from ledger.cap_epsilon"


OWN: Final = "dpsynth"
"""Who vouches for the loss where no other tool does."""
_OF_ZCDP: Final = ("guarantee.rho", "guarantee.shares[].rho")
"""What a loss that is not zCDP does not have."""


def _has_claim(evidence: Evidence) -> bool:
    """Whether the native measure is what another program claims, beside which there is no rho."""
    epsilon, delta = (_number(evidence.value(f"guarantee.claim.{part}")) for part in ("epsilon", "delta"))
    return epsilon is not None and epsilon > 0 and delta is not None and 0 <= delta < 1


def _is_another_s(evidence: Evidence) -> bool:
    """Whether the evidence says that another tool vouches for the loss."""
    return evidence.value("implementation.claimed_by") not in (None, OWN)


def _native(evidence: Evidence) -> tuple[str, Cost] | None:
    """The charged loss, from what the evidence states natively, and where: a rho, or a claim and the zCDP steps beside it."""
    delta0 = Fraction(str(_number(evidence.value("guarantee.delta0")) or 0))
    if _has_claim(evidence):
        epsilon, delta = (Fraction(str(evidence.value(f"guarantee.claim.{part}"))) for part in ("epsilon", "delta"))
        steps = [_cell(row, "rho") or 0.0 for row in evidence.rows("guarantee.shares")]
        beside = sum((Fraction(rho) for rho in steps if rho > 0), Fraction(0))
        return "guarantee.claim", Cost.approximate(epsilon, delta) + Cost.zcdp(beside, delta0=delta0)
    rho = _number(evidence.value("guarantee.rho"))
    return ("guarantee.rho", Cost.zcdp(Fraction(rho), delta0=delta0)) if rho is not None and rho > 0 else None


def _better_than_native(evidence: Evidence) -> Iterator[str]:
    """What is stated to be less than the native measure implies, by the same formulas that made it."""
    try:
        native = _native(evidence)
    except (DpsynthError, ArithmeticError, ValueError):
        yield "guarantee: no loss can be computed from what is stated"
        return
    if native is None:
        return  # a matter for `evidence.complete`
    name, cost = native
    rows = evidence.rows("guarantee.curve")
    claimed = _has_claim(evidence)
    if claimed != (evidence.value("guarantee.definition") == CLAIMED) or claimed != _is_another_s(evidence):
        yield "guarantee.claim does not go with guarantee.definition and implementation.claimed_by"
        return
    if claimed:
        without = sum(_cell(row, "rho") is None for row in evidence.rows("guarantee.shares"))
        if rows or evidence.value("guarantee.rho") is not None or without != 1:
            yield "guarantee.claim stands beside a rho, a curve, or other steps that have no rho"
            return
    else:
        curve = tuple(_cell(row, "nano") for row in rows)
        if evidence.value("guarantee.definition") != (RENYI if rows else APPROXIMATE if cost.delta0 else ZCDP):
            yield "guarantee.curve or guarantee.delta0 does not go with guarantee.definition"
            return
        if rows and (
            tuple(_cell(row, "order") for row in rows) != _FLOAT_ORDERS
            or any(loss is None or loss < 0 for loss in curve)
        ):
            yield "guarantee.curve does not give the loss at each order"
            return
        cost = Cost(cost.rho, tuple(int(loss) for loss in curve if loss is not None), cost.delta0)
        most = max((loss / NANO / float(order) for loss, order in zip(cost.extra, ORDERS, strict=False)), default=0.0)
        spent = sum(_cell(row, "rho") or 0.0 for row in evidence.rows("guarantee.shares"))
        if spent > (float(cost.rho) + most) * (1 + 1e-6):
            yield "guarantee.shares add up to more than the loss that is stated"
            return
    for path, stated, formula, at in _implied(evidence):
        if stated is None or at is None:
            continue
        try:
            if _is_below(stated, formula(cost, at)):
                yield f"{path} is smaller than {name} implies"
        except (DpsynthError, ArithmeticError, ValueError):
            yield f"{path} cannot be computed from {name}"


Implied: TypeAlias = tuple[str, float | None, Callable[[Cost, float], float], float | None]


def _implied(evidence: Evidence) -> Iterator[Implied]:
    """Figures that follow from the native measure: path, what is stated, the formula, and at which delta or rate."""

    def stated(path: str) -> float | None:
        return _number(evidence.value(path))

    yield "guarantee.epsilon", stated("guarantee.epsilon"), _epsilon, stated("guarantee.delta")
    yield "ledger.spent_epsilon", stated("ledger.spent_epsilon"), _epsilon, stated("ledger.cap_delta")
    yield "risk.tpr_at_fpr", stated("risk.tpr_at_fpr"), _detection, 0.01
    yield "risk.advantage", stated("risk.advantage"), _advantage, 0.0
    for table, field, formula, place in (
        ("guarantee.profile", "epsilon", _epsilon, "delta"),
        ("risk.table", "release", _detection, "fpr"),
        ("risk.success", "bound", _detection, "baseline"),
    ):
        for row in evidence.rows(table):
            yield table, _cell(row, field), formula, _cell(row, place)
    for attack in CHARGED_ATTACKS:
        control = stated(f"attacks.{attack}.control_rate")
        rate = None if control is None else min(1.0, max(0.0, control))
        yield f"attacks.{attack}.bound", stated(f"attacks.{attack}.bound"), _detection, rate


def _cell(row: Mapping[str, Leaf], field: str) -> float | None:
    return _number(row[field].value) if field in row else None


def _is_below(stated: float, implied: float) -> bool:
    """Whether a figure is smaller than another that it must reach, by more than printing explains."""
    return implied > stated * (1 + _ROUNDING) + _ROUNDING


def _is_inside(path: str, leaf: Leaf) -> bool:
    """Whether an estimate lies in its interval; both may have been cut to the values that a rate can have."""
    if leaf.low is None or leaf.high is None:
        return True
    value = _number(leaf.value)
    if value is None:
        return False
    least = 0.0 if path.endswith("_rate") else -1.0
    cut = (value, min(1.0, max(least, value)))
    return any(leaf.low - _ROUNDING <= number <= leaf.high + _ROUNDING for number in cut)


def _number(value: Value) -> float | None:
    if not is_number(value):
        return None
    return float(value)


@lru_cache(maxsize=64)
def _lifetime(first: float | None, last: float | None, delta: float) -> Cost:
    """The loss that a limit allows, which was `first` when the ledger was made, and was raised to `last` if to anything."""
    limit = Cap.of(Fraction(str(first)), Fraction(str(delta)))
    return Cost.zcdp((limit if last is None else limit.raised(Fraction(str(last)))).cost.rho)


@lru_cache(maxsize=512)
def _epsilon(cost: Cost, delta: float) -> float:
    """The epsilon at delta that a loss implies."""
    return float(cost.epsilon(delta))


@lru_cache(maxsize=512)
def _detection(cost: Cost, fpr: float) -> float:
    """How many are found at most, at a rate of false alarms or from a baseline, by a loss alone."""
    return tpr_bound(cost, fpr)


@lru_cache(maxsize=64)
def _advantage(cost: Cost, _: float) -> float:
    return advantage_bound(cost)


def _flag(rule_id: str, path: str, *, good: bool, state: State, message: str, fine: str, reason: str) -> Check:
    """A check of a flag that must be `good`; a missing one is a matter for `evidence.complete`."""

    def check(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
        value = evidence.value(path)
        if value is good:
            yield _check(rule_id, "pass", fine, reason, path)
        elif value is not None:
            yield _check(rule_id, state, message, reason, path)

    return check


def _texts(rule_id: str, path: str, *, message: str, fine: str, reason: str) -> Check:
    """A check of a list that must be empty for a pass; what it names is for a person to accept."""

    def check(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
        value = evidence.value(path)
        if value == ():
            yield _check(rule_id, "pass", fine, reason, path)
        elif value is not None:
            yield _check(rule_id, "needs_human", message, reason, path)

    return check


def _word(rule_id: str, path: str, *, good: Value, message: str, fine: str, reason: str) -> Check:
    """A check of a word or count that must be `good` for a pass, and otherwise is for a person to accept."""

    def check(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
        value = evidence.value(path)
        if type(value) is type(good) and value == good:
            yield _check(rule_id, "pass", fine, reason, path)
        elif value is not None:
            yield _check(rule_id, "needs_human", message, reason, path)

    return check


def _unit(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
    value = evidence.value("unit.entity")
    reason = "A guarantee for rows is weaker than one for persons when a person can have several rows."
    if isinstance(value, str) and value.strip().casefold() in ("row", "rows", "record", "records"):
        message = "The guarantee is for single rows: a person must confirm that nobody has more than one."
        yield _check("unit.person", "needs_human", message, reason, "unit.entity")
    elif value is not None:
        yield _check("unit.person", "pass", "The schema names whom the guarantee is for.", reason, "unit.entity")


def _pinned(evidence: Evidence, _: date, policy: Policy) -> Iterator[RuleResult]:
    """The ledger is the one that the policy names: a fresh one for the same people starts from an empty account."""
    rule_id, pin = "ledger.pinned", policy.ledger
    reason = "A second ledger for the same people hides what was spent in the first."
    ledger_id, population = evidence.value("ledger.ledger_id"), evidence.value("source.population")
    if not pin.id:
        if pin.required:
            message = "The policy does not say which ledger holds the budget of this population."
            yield _check(rule_id, "needs_human", message, reason, "ledger.ledger_id")
    elif isinstance(population, str) and population != pin.population:
        message = "The ledger is that of another population than the policy is for."
        yield _check(rule_id, "fail", message, reason, "source.population")
    elif not isinstance(ledger_id, str) or not isinstance(population, str):
        message = "The evidence does not say which ledger paid, or whose budget it holds."
        yield _check(rule_id, "incomplete", message, reason, "ledger.ledger_id")
    elif ledger_id != pin.id:
        made = _day(evidence.value("ledger.genesis"))
        message = (
            f"The policy names another ledger for this population than the one that paid, which was made on "
            f"{made.isoformat() if made else 'an unknown day'}: a person must confirm that nothing spent is hidden."
        )
        yield _check(rule_id, "needs_human", message, reason, "ledger.ledger_id")
    else:
        message = "The ledger is the one that the policy names for this population."
        yield _check(rule_id, "pass", message, reason, "ledger.ledger_id")


def _anchored(evidence: Evidence, _: date, policy: Policy) -> Iterator[RuleResult]:
    """The ledger was seen to hold the head that the policy names, so that it was not cut, restored or rewritten before it."""
    rule_id, anchor = "ledger.anchor", policy.ledger.anchor
    reason = "A ledger that was cut short, or restored from a backup, has a valid chain: only a head kept elsewhere shows it."
    if anchor is None:
        return
    ledger_id, seq, head = (evidence.value(f"ledger.{name}") for name in ("ledger_id", "seq", "head"))
    told = [(_cell(row, "seq"), _name_in(row, "head")) for row in evidence.rows("ledger.anchors")]
    if isinstance(ledger_id, str) and ledger_id != anchor.ledger_id:
        message = f"Entry {anchor.seq}, which the policy names, is one of another ledger than the one that paid."
        yield _check(rule_id, "incomplete", message, reason, "ledger.ledger_id")
    elif is_number(seq) and seq < anchor.seq:
        message = f"The ledger ends before entry {anchor.seq}, which the policy names: it was cut or restored."
        yield _check(rule_id, "integrity", message, reason, "ledger.seq")
    elif (seq == anchor.seq and head != anchor.head) or any(at == anchor.seq and h != anchor.head for at, h in told):
        message = f"Entry {anchor.seq} of the ledger is not the one that the policy names: the history was rewritten."
        yield _check(rule_id, "integrity", message, reason, "ledger.anchors")
    elif (anchor.seq, anchor.head) in told:
        message = f"The ledger was seen to hold entry {anchor.seq} as the policy names it, before anything was charged."
        yield _check(rule_id, "pass", message, reason, "ledger.anchors")
    else:
        message = f"The evidence does not show that the ledger was checked against entry {anchor.seq}, which the policy names."
        yield _check(rule_id, "incomplete", message, reason, "ledger.anchors")


def _amended(evidence: Evidence, _: date, policy: Policy) -> Iterator[RuleResult]:
    """Each raise of the limit was signed with a key that the policy names: any other key could be anybody's."""
    rule_id, path = "ledger.amended", "ledger.amendments"
    reason = "The limit is a promise to people: raising it takes a second person, whose signature anyone can check."
    signed = [_name_in(row, "signed") for row in evidence.rows(path)]
    elsewhere = evidence.value("ledger.raised_elsewhere")  # a release is charged to each of these ledgers
    signed += elsewhere if isinstance(elsewhere, tuple) else ()
    keys = {key.fingerprint for key in policy.ledger.amenders}
    nobody = sum(by in ("", UNSIGNED) for by in signed)
    strangers = sum(by not in keys for by in signed) - nobody
    if nobody:
        message = f"The lifetime limit was raised {_times(nobody)} without a signature."
        yield _check(rule_id, "needs_human", message, reason, path)
    elif strangers:
        whom = "that the policy does not name" if keys else "and the policy names none that may"
        message = f"The lifetime limit was raised {_times(strangers)} with a signature by a key {whom}."
        yield _check(rule_id, "needs_human", message, reason, path)
    elif evidence.value("ledger.raised") is not None:
        message = f"The lifetime limit was raised {_times(len(signed))}, always signed by a key that the policy names."
        yield _check(rule_id, "pass", message if signed else "The lifetime limit was never raised.", reason, path)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _within_bound(evidence: Evidence, _: date, policy: Policy) -> Iterator[RuleResult]:
    """No attack succeeds more often than the guarantee allows any attack: if one surely does, the program is broken."""
    reason = "The ceiling is proven: only a program that does not keep its promise can be attacked beyond it."
    read = {rule.evidence.rpartition(".")[0] for rule in policy.stage("release")}
    broken, unknown, judged = [], [], 0
    for attack in CHARGED_ATTACKS:
        base = f"attacks.{attack}"
        rate, bound = evidence.get(f"{base}.fit_rate"), _number(evidence.value(f"{base}.bound"))
        measured = any(evidence.value(f"{base}.{field}") is not None for field in ("excess", "fit_rate"))
        if rate is not None and is_number(rate.low) and bound is not None and rate.low > bound:
            broken.append(attack)
        elif rate is not None and bound is not None and _has_ends(rate):
            judged += 1
        elif base in read and measured and not _lost_in_noise(base, evidence):
            unknown.append(attack)
    if broken:
        path = f"attacks.{broken[0]}.fit_rate" if len(broken) == 1 else ""
        message = f"Succeeds more often than the guarantee allows any attack: {_titles(broken)}. The program is broken."
        yield _check("attacks.within_bound", "fail", message, reason, path)
    elif unknown:
        message = f"The success on persons used has no interval, or nothing to compare it with: {_titles(unknown)}."
        yield _check("attacks.within_bound", "incomplete", message, reason)
    elif judged:
        message = "No attack surely succeeds more often than its proven ceiling."
        yield _check("attacks.within_bound", "pass", message, reason)


def _lost_in_noise(base: str, evidence: Evidence) -> bool:
    """Whether there is no ceiling because noise carried all of the control rate's interval to zero or below."""
    bound, control = evidence.get(f"{base}.bound"), evidence.get(f"{base}.control_rate")
    if bound is None or bound.value is not None or not bound.missing or control is None:
        return False
    return is_number(control.high) and control.high <= 0


def _titles(attacks: Sequence[str]) -> str:
    return ", ".join(ATTACK_TITLES[attack].lower() for attack in attacks)


CHECKS: Final[tuple[Check, ...]] = (
    _complete,
    _dated,
    _consistent,
    _within_bound,
    _flag(
        "ledger.integrity",
        "ledger.verified",
        good=True,
        state="integrity",
        message="The ledger did not verify.",
        fine="The ledger's chain of entries verified when this evidence was written.",
        reason="Without its ledger nobody can say how much of the budget is spent.",
    ),
    _flag(
        "disclosure.edition",
        "disclosure.edition_ok",
        good=True,
        state="integrity",
        message="The evidence itself says that it cannot be shared.",
        fine="The shareable edition holds only the classes P0 to P2.",
        reason="A report is a release too: one exact number about real rows would void the guarantee.",
    ),
    _pinned,
    _anchored,
    _amended,
    _unit,
    _word(
        "domain.declared",
        "domain.basis",
        good="stated",
        message="Some columns are declared without saying where their values and bounds come from.",
        fine="Each declared domain says where it comes from.",
        reason="A bound or a category that was read off the data is outside the guarantee.",
    ),
    _word(
        "domain.source",
        "domain.from_data",
        good="none",
        message="Some domains were read off the data, which the guarantee does not cover.",
        fine="No domain was read off the data.",
        reason="A bound or a category that was read off the data is outside the guarantee.",
    ),
    _texts(
        "guarantee.covered",
        "guarantee.unprotected_quantities",
        message="Something that depends on the rows is published outside the guarantee.",
        fine="Nothing that depends on the rows is published outside the guarantee.",
        reason="The guarantee says nothing about quantities that it does not cover.",
    ),
    _flag(
        "implementation.exact_noise",
        "implementation.floating_point",
        good=False,
        state="needs_human",
        message="The noise is made in floating-point arithmetic, for which the proof does not hold exactly.",
        fine="The noise is made in exact arithmetic.",
        reason="Floating-point noise can give away more than the proof allows (Mironov 2012).",
    ),
    _word(
        "guarantee.claimed",
        "implementation.claimed_by",
        good=OWN,
        message="The loss is what another tool claims; nobody here has proved it.",
        fine="The loss is computed from our own mechanisms.",
        reason="A claim is worth as much as the program that makes it.",
    ),
    _texts(
        "implementation.sound",
        "implementation.known_violations",
        message="The program used has documented violations of its promise.",
        fine="No violation of its promise is known for the synthesizer used.",
        reason="A guarantee is worth as much as the program that is to keep it.",
    ),
    _word(
        "ledger.all_dp",
        "ledger.imports_not_dp",
        good=0,
        message="An earlier release about the same people had no differential privacy, and no number covers it.",
        fine="No earlier release without differential privacy is recorded for these people.",
        reason="What was released before adds to what can be learned now.",
    ),
    _word(
        "release.gated",
        "release.published",
        good="gate",
        message="This release was made without a gate; its manifest says that it must not be published.",
        fine="The release was made with a gate.",
        reason="Leaving out the gate is a decision that someone has to answer for.",
    ),
)
"""Checks of the release stage that are code: each gives what always blocks, or always needs a person."""
