"""One rule of a policy, judged against the leaf that it names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from reports.evidence import Evidence, Leaf
from reports.gate.attacks import could_break, has_power, is_excess, positive_control
from reports.gate.audit import BOUND
from reports.gate.base import sentence
from reports.gate.leaves import LEAST_CONFIDENCE, has_ends, is_without_number
from reports.gate.verdict import RuleResult, RuleState, State
from reports.paths import SHAREABLE, declared, fits_kind, is_internal, is_number
from reports.policy import Rule

_POWERLESS: Final = (
    "The same attack was not seen to catch a deliberately leaky copy, so that its finding nothing says nothing."
)
_POWERLESS_AUDIT: Final = "The audit is incomplete: in some game so many fits could not have contradicted the claim, or a planted leak was missed."


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
        state: State = "needs_human" if is_without_number(rule.evidence, evidence) else "incomplete"
        return result(state, sentence(leaf.missing) or "The value could not be had.", leaf)
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
    if outcome.state != "fail" and not has_power(positive_control(rule.evidence), evidence):
        return result("incomplete", _POWERLESS_AUDIT if rule.evidence == BOUND else _POWERLESS, leaf)
    if outcome.state == "pass" and not could_break(rule, evidence):
        return result(
            "incomplete",
            "Even a deliberately leaky copy would have kept within this threshold, so that keeping within it says nothing.",
            leaf,
        )
    return outcome


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
        if is_excess(rule.evidence) and holds(0) and low <= min(0, value) and max(0, value) <= high:
            return result(
                "incomplete",
                "The estimate is outside the threshold and its interval holds zero: too little data to tell.",
                leaf,
            )
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
        if is_excess(rule.evidence):
            return "The value has no interval, and what an attack finds says nothing without one."
        return "The value has no interval, and this rule judges the end of one." if rule.side in ("low", "high") else ""
    if not (is_number(leaf.low) and is_number(leaf.high) and leaf.low < leaf.high):
        return "The interval has no width, so that it was not measured."
    if is_excess(rule.evidence) and not has_ends(leaf):
        return f"The confidence of the interval is below {LEAST_CONFIDENCE:.0%}, which is too little to judge by."
    return ""
