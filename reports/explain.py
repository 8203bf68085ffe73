"""One rule of the gate at length: what it asked, where it looked, what it found, why, and which clauses want to know."""

from __future__ import annotations

from collections.abc import Iterator

from dpsynth.errors import UsageError
from reports.controls import asking_for
from reports.gate import RuleResult
from reports.paths import declared
from reports.render.describe import asked, observed
from reports.render.numbers import percent, plain
from reports.render.text import visible
from reports.render.words import STATE_WORDS
from reports.report import Report


def explained(report: Report, rule_id: str) -> Iterator[str]:
    """The results of a rule of the release stage, a fact a line.

    Raises:
        UsageError: the verdict has no such rule.
    """
    found = [rule for rule in report.verdict.rules if rule.id == rule_id]
    if not found:
        names = ", ".join(dict.fromkeys(rule.id for rule in report.verdict.rules))
        raise UsageError(f"the gate has no rule {rule_id!r:.60}; it has {names}")
    for rule in found:
        yield from _lines(report, rule)


def _lines(report: Report, rule: RuleResult) -> Iterator[str]:
    origin = "a rule of the policy" if rule.origin == "policy" else "code, which no policy can remove"
    yield f"rule       {rule.id} ({origin})"
    yield f"result     {STATE_WORDS[rule.state]}"
    known = declared(rule.path) if rule.path else None
    yield f"path       {rule.path or 'several places of the evidence, or none'}" + (
        f" ({known.title})" if known else ""
    )
    if rule.op:
        interval = ""
        if rule.confidence is not None:
            interval = f", {percent(rule.confidence, 'down')} interval" + (
                f", n = {rule.n}" if rule.n is not None else ""
            )
        yield f"value      {observed(rule)}{interval}" + (f", class {rule.cls}" if rule.cls else "")
        yield f"threshold  {asked(rule)}"
    elif rule.path and (leaf := report.evidence.get(rule.path)) is not None:
        yield f"value      {visible(plain(leaf.value))}, class {leaf.cls}"
    yield f"found      {visible(rule.message)}"
    yield f"reason     {visible(rule.reason)}"
    clauses = asking_for(rule)
    for control in clauses:
        yield f"clause     {control.ref} ({control.id}): {control.ask}"
    if not clauses:
        yield "clause     none of the catalogue asks for this by itself"
    if clauses:
        yield "           That this was checked says nothing about whether a clause is met: that is for a person."
