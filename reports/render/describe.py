"""What a rule asked and what it found, in a few words; the same words on every page."""

from __future__ import annotations

from typing import Final

from reports.gate import RuleResult
from reports.render.numbers import Direction, number, plain
from reports.render.text import visible

_ASKS: Final = {"at_most": "at most", "at_least": "at least", "equals": "exactly", "one_of": "one of"}
_SIDES: Final = {"low": "low end", "high": "high end", "estimate": "estimate"}


def asked(rule: RuleResult) -> str:
    """The threshold in words: "at most 0.1 (high end)"."""
    if not rule.op:
        return "nothing that needs attention" if rule.origin == "code" else "a signed statement"
    value = rule.threshold
    if isinstance(value, tuple):
        shown = ", ".join(visible(item, 40) for item in value)
    elif isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool)):
        shown = number(value, digits=17)
    else:
        shown = visible(plain(value), 80)
    return f"{_ASKS[rule.op]} {shown}" + (f" ({_SIDES[rule.side]})" if rule.side else "")


def observed(rule: RuleResult) -> str:
    """The value with its interval, rounded towards the worse side so that no figure looks better than it is."""
    value = rule.estimate
    if not rule.op:
        return visible(rule.message)
    if value is None or isinstance(value, bool | str | tuple):
        return visible(plain(value), 120)
    if rule.low is not None and rule.high is not None:
        return f"{number(value, digits=3)} [{number(rule.low, 'down', 3)}, {number(rule.high, 'up', 3)}]"
    worse: Direction = {"at_most": "up", "at_least": "down"}.get(rule.op, "nearest")  # type: ignore[assignment]
    shown = number(value, worse)
    limit = rule.threshold
    if isinstance(limit, int | float) and not isinstance(limit, bool):
        exact = number(value, digits=17)
        if shown != exact and rule.state == "pass" and _would_break(shown, limit, rule.op):
            return exact
    return shown


def _would_break(shown: str, limit: float, op: str) -> bool:
    """Whether the rounded figure, read by itself, breaks a threshold that the exact one keeps."""
    value = float(shown.replace("\u2212", "-").replace(",", ""))
    return value > limit if op == "at_most" else op == "at_least" and value < limit
