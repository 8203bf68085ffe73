"""Attacks: none beats its proven ceiling, and one that could catch nothing shows nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

from reports.evidence import Evidence
from reports.gate.audit import BOUND, POWERED
from reports.gate.base import finding
from reports.gate.leaves import has_ends
from reports.gate.verdict import RuleResult
from reports.paths import ATTACK_TITLES, CHARGED_ATTACKS, REVIEW_ATTACKS, declared, is_number
from reports.policy import Policy, Rule

_LOOK = "A record that one person alone has is repeated, or persons held back are: what the attack notes has to be looked at."


def within_bound(evidence: Evidence, _: date, policy: Policy) -> Iterator[RuleResult]:
    """No attack succeeds more often than the guarantee allows any attack: if one surely does, the program is broken."""
    reason = "The ceiling is proven: only a program that does not keep its promise can be attacked beyond it."
    read = {rule.evidence.rpartition(".")[0] for rule in policy.stage("release")}
    broken, unknown, judged = [], [], 0
    for attack in CHARGED_ATTACKS:
        base = f"attacks.{attack}"
        rate, bound = evidence.get(f"{base}.fit_rate"), evidence.number(f"{base}.bound")
        measured = any(evidence.value(f"{base}.{field}") is not None for field in ("excess", "fit_rate"))
        if rate is not None and is_number(rate.low) and bound is not None and rate.low > bound:
            broken.append(attack)
        elif rate is not None and bound is not None and has_ends(rate):
            judged += 1
        elif base in read and measured and not _lost_in_noise(base, evidence):
            unknown.append(attack)
    if broken:
        path = f"attacks.{broken[0]}.fit_rate" if len(broken) == 1 else ""
        message = f"Succeeds more often than the guarantee allows any attack: {_titles(broken)}. The program is broken."
        yield finding("attacks.within_bound", "fail", message, reason, path)
    elif unknown:
        message = f"The success on persons used has no interval, or nothing to compare it with: {_titles(unknown)}."
        yield finding("attacks.within_bound", "incomplete", message, reason)
    elif judged:
        message = "No attack surely succeeds more often than its proven ceiling."
        yield finding("attacks.within_bound", "pass", message, reason)


def shown(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
    """Whether an attack on real rows proved a leak: then no threshold, however high, lets it pass (attacks.md 3.12)."""
    reason = "A threshold says how small a leak has to be ruled out; one that was shown is there, whatever its size."

    def those(field: str, value: bool | None) -> list[str]:
        measured = [a for a in REVIEW_ATTACKS if evidence.value(f"review.{a}.excess") is not None or value]
        return [attack for attack in measured if evidence.value(f"review.{attack}.{field}") is value]

    beyond, leaks, look = (those(field, True) for field in ("above_ceiling", "leak", "to_look_at"))
    if beyond:
        message = f"Succeeds more often than the declared guarantee allows: {_titles(beyond)}. Look for a mistake."
        yield finding("review.within_bound", "fail", message, reason)
    if leaks:
        message = f"Shows a leak: {_titles(leaks)}. Of honest tables at most about one in twenty does so by chance."
        yield finding("review.leak", "fail", message, reason)
    if look:
        yield finding("review.copies", "needs_human", _LOOK, reason)
    if unsaid := those("leak", None):
        message = f"The evidence does not say whether a leak was shown: {_titles(unsaid)}."
        yield finding("review.leak", "incomplete", message, reason)
    elif not leaks and those("leak", False):
        yield finding("review.leak", "pass", "No attack shows a leak after correction for their number.", reason)


def _lost_in_noise(base: str, evidence: Evidence) -> bool:
    """Whether there is no ceiling because noise carried all of the control rate's interval to zero or below."""
    bound, control = evidence.get(f"{base}.bound"), evidence.get(f"{base}.control_rate")
    if bound is None or bound.value is not None or not bound.missing or control is None:
        return False
    return is_number(control.high) and control.high <= 0


def _titles(attacks: Sequence[str]) -> str:
    return ", ".join(ATTACK_TITLES[attack].lower() for attack in attacks)


def could_break(rule: Rule, evidence: Evidence) -> bool:
    """Whether the leaky copy would surely have broken this very rule about an attack: the check that it can fail."""
    base, _, field = rule.evidence.rpartition(".")
    if not positive_control(rule.evidence) or field != "excess" or rule.op != "at_most":
        return True
    known, leaf = declared(f"{base}.positive_control"), evidence.get(f"{base}.positive_control")
    if known is None or leaf is None or leaf.cls not in known.classes or not has_ends(leaf):
        return False
    return is_number(rule.threshold) and leaf.low is not None and leaf.low > rule.threshold


def is_excess(path: str) -> bool:
    """Whether a path holds what an attack found: then an estimate alone says nothing, whatever a rule judges."""
    return positive_control(path) != "" and path.endswith(".excess")


def positive_control(path: str) -> str:
    """Where the evidence says whether an attack, or an audit, can catch anything at all; empty for what is about neither."""
    section, _, attack = path.rpartition(".")[0].partition(".")
    if path == BOUND:
        return POWERED
    if section == "attacks" and attack in CHARGED_ATTACKS:
        return f"attacks.{attack}.powered"
    return f"review.{attack}.detected" if section == "review" and attack in REVIEW_ATTACKS else ""


def has_power(control: str, evidence: Evidence) -> bool:
    """Whether the leaky copy was caught, said by a leaf of the class that belongs there; True where there is none."""
    known, leaf = declared(control), evidence.get(control)
    if known is None:
        return True
    return leaf is not None and leaf.value is True and leaf.cls in known.classes
