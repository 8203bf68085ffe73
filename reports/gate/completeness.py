"""Nothing on the page is blank, and the evidence is of its time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from reports.evidence import Evidence, Leaf
from reports.gate.base import finding
from reports.gate.guarantee import OF_ZCDP, has_claim
from reports.gate.leaves import as_day, is_without_number
from reports.gate.verdict import RuleResult
from reports.paths import NEVER_EMPTY, PATHS
from reports.policy import Policy

_MOST_DAYS = 366  # from the making of the evidence to its review date


def complete(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
    """Every required leaf is there, has a value, and is of its kind: nothing on the page may be blank."""
    lacking = []
    for path, rule in PATHS.items():
        table, _sep, field = path.partition("[].")
        if not rule.required:
            continue
        if not field:
            leaves: Sequence[Leaf | None] = [evidence.get(path)]
        elif table in NEVER_EMPTY and not (table == "risk.table" and is_without_number("risk.tpr_at_fpr", evidence)):
            leaves = [row.get(field) for row in evidence.rows(table)] or [None]
        else:
            leaves = [row.get(field) for row in evidence.rows(table)]
        there = all(leaf is not None and leaf.value is not None and rule.holds(leaf.value) for leaf in leaves)
        if not there and not is_without_number(path, evidence) and not (path in OF_ZCDP and has_claim(evidence)):
            lacking.append(path)
    reason = "A report with a blank in it cannot be signed, whatever the policy asks for."
    if lacking:
        named = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
        yield finding("evidence.complete", "incomplete", f"Required evidence is missing or empty: {named}.", reason)
    else:
        yield finding("evidence.complete", "pass", "All required evidence is there.", reason)


def dated(evidence: Evidence, on: date, _: Policy) -> Iterator[RuleResult]:
    """The evidence is neither out of date nor younger than the verdict, and is not good for ever."""
    reason = "Attacks get better: evidence is judged between the day it was made and its review date."
    created, review = as_day(evidence.value("created_at")), as_day(evidence.value("review_on"))
    if created is None or review is None:
        yield finding(
            "evidence.date", "incomplete", "The evidence does not say when it was made or is due again.", reason
        )
    elif on > review:
        message = f"The evidence was to be reviewed again on {review.isoformat()}."
        yield finding("evidence.date", "incomplete", message, reason, "review_on")
    elif (review - created).days > _MOST_DAYS:
        message = f"The evidence sets its own review date more than {_MOST_DAYS} days after it was made."
        yield finding("evidence.date", "incomplete", message, reason, "review_on")
    elif (created - on).days > 1:
        message = f"The evidence was made on {created.isoformat()}, after the day of this verdict."
        yield finding("evidence.date", "incomplete", message, reason, "created_at")
    else:
        yield finding("evidence.date", "pass", f"Valid until {review.isoformat()}.", reason, "review_on")
