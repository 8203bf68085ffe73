"""A check that is code: what it is, what it finds, and the plain kinds of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from typing import TypeAlias

from reports.evidence import Evidence
from reports.gate.verdict import RuleResult, RuleState, State
from reports.paths import Value
from reports.policy import Policy

Check: TypeAlias = Callable[[Evidence, date, Policy], Iterator[RuleResult]]


def finding(rule_id: str, state: RuleState, message: str, reason: str, path: str = "") -> RuleResult:
    """What a check in code found."""
    return RuleResult(id=rule_id, state=state, message=message, reason=reason, origin="code", path=path)


def flag(rule_id: str, path: str, *, good: bool, state: State, message: str, fine: str, reason: str) -> Check:
    """A check of a flag that must be `good`; a missing one is a matter for `evidence.complete`."""

    def check(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
        value = evidence.value(path)
        if value is good:
            yield finding(rule_id, "pass", fine, reason, path)
        elif value is not None:
            yield finding(rule_id, state, message, reason, path)

    return check


def no_texts(rule_id: str, path: str, *, message: str, fine: str, reason: str) -> Check:
    """A check of a list that must be empty for a pass; what it names is for a person to accept."""

    def check(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
        value = evidence.value(path)
        if value == ():
            yield finding(rule_id, "pass", fine, reason, path)
        elif value is not None:
            yield finding(rule_id, "needs_human", message, reason, path)

    return check


def word(rule_id: str, path: str, *, good: Value, message: str, fine: str, reason: str) -> Check:
    """A check of a word or count that must be `good` for a pass, and otherwise is for a person to accept."""

    def check(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
        value = evidence.value(path)
        if type(value) is type(good) and value == good:
            yield finding(rule_id, "pass", fine, reason, path)
        elif value is not None:
            yield finding(rule_id, "needs_human", message, reason, path)

    return check


def sentence(text: str) -> str:
    """A text as a sentence: a capital at the start, a full stop at the end; empty stays empty."""
    text = text.strip()
    return text and text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
