"""The ledger: it is the one that the policy names, was not cut, was raised by those who may, and its figures agree."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from dpsynth.errors import DpsynthError
from reports.evidence import Evidence
from reports.gate.base import finding
from reports.gate.guarantee import advantage, detection, lifetime_cost
from reports.gate.leaves import as_day, is_below, number_in, text_in
from reports.gate.verdict import RuleResult
from reports.paths import UNSIGNED, Value, is_number
from reports.policy import Policy


def _charged(evidence: Evidence) -> list[tuple[Value, Value, Value]]:
    """Each ledger that the release was charged to: its id, its population and the day on which it was made."""
    shown = tuple(evidence.value(path) for path in ("ledger.ledger_id", "source.population", "ledger.genesis"))
    others = [
        tuple(row[field].value if field in row else None for field in ("ledger_id", "population", "genesis"))
        for row in evidence.rows("ledger.others")
    ]
    return [(ledger_id, population, made) for ledger_id, population, made in (shown, *others)]


def pinned(evidence: Evidence, _: date, policy: Policy) -> Iterator[RuleResult]:
    """The ledger is the one that the policy names: a fresh one for the same people starts from an empty account.

    A policy names the ledger of one population. Of people of several populations each ledger is charged, and none of the
    others can be known to be the only one of its people.
    """
    rule_id, pin, charged = "ledger.pinned", policy.ledger, _charged(evidence)
    reason = "A second ledger for the same people hides what was spent in the first."
    populations = [population for _, population, _ in charged if isinstance(population, str)]
    if not pin.id:
        if pin.required:
            message = "The policy does not say which ledger holds the budget of this population."
            yield finding(rule_id, "needs_human", message, reason, "ledger.ledger_id")
        return
    if populations and pin.population not in populations:
        message = "The ledger is that of another population than the policy is for."
        yield finding(rule_id, "fail", message, reason, "source.population")
        return
    if not all(isinstance(part, str) for ledger_id, population, _ in charged for part in (ledger_id, population)):
        message = "The evidence does not say which ledger paid, or whose budget it holds."
        yield finding(rule_id, "incomplete", message, reason, "ledger.ledger_id")
        return
    fresh = [made for ledger_id, population, made in charged if population == pin.population and ledger_id != pin.id]
    if fresh:
        made = as_day(fresh[0])
        message = (
            f"The policy names another ledger for this population than the one that paid, which was made on "
            f"{made.isoformat() if made else 'an unknown day'}: a person must confirm that nothing spent is hidden."
        )
        yield finding(rule_id, "needs_human", message, reason, "ledger.ledger_id")
    elif len(charged) > 1:
        message = (
            f"The release was charged to {len(charged)} ledgers, and the policy names one of them: a person must confirm that "
            "nothing spent is hidden by the others."
        )
        yield finding(rule_id, "needs_human", message, reason, "ledger.others")
    else:
        message = "The ledger is the one that the policy names for this population."
        yield finding(rule_id, "pass", message, reason, "ledger.ledger_id")


def anchored(evidence: Evidence, _: date, policy: Policy) -> Iterator[RuleResult]:
    """The ledger was seen to hold the head that the policy names, so that it was not cut, restored or rewritten before it."""
    rule_id, anchor = "ledger.anchor", policy.ledger.anchor
    reason = "A ledger that was cut short, or restored from a backup, has a valid chain: only a head kept elsewhere shows it."
    if anchor is None:
        return
    ledger_id, seq, head = (evidence.value(f"ledger.{name}") for name in ("ledger_id", "seq", "head"))
    told = [(number_in(row, "seq"), text_in(row, "head")) for row in evidence.rows("ledger.anchors")]
    path = "ledger.anchors"
    if isinstance(ledger_id, str) and ledger_id != anchor.ledger_id:  # then one of the others has to be it
        others = [row for row in evidence.rows("ledger.others") if text_in(row, "ledger_id") == anchor.ledger_id]
        if not others:
            message = f"Entry {anchor.seq}, which the policy names, is one of another ledger than the one that paid."
            yield finding(rule_id, "incomplete", message, reason, "ledger.ledger_id")
            return
        seen = [text_in(row, "anchor").partition(":") for row in others]
        told, seq, head, path = [(_whole(at), to) for at, _, to in seen], None, None, "ledger.others"
    if is_number(seq) and seq < anchor.seq:
        message = f"The ledger ends before entry {anchor.seq}, which the policy names: it was cut or restored."
        yield finding(rule_id, "integrity", message, reason, "ledger.seq")
    elif (seq == anchor.seq and head != anchor.head) or any(at == anchor.seq and h != anchor.head for at, h in told):
        message = f"Entry {anchor.seq} of the ledger is not the one that the policy names: the history was rewritten."
        yield finding(rule_id, "integrity", message, reason, path)
    elif (anchor.seq, anchor.head) in told:
        message = f"The ledger was seen to hold entry {anchor.seq} as the policy names it, before anything was charged."
        yield finding(rule_id, "pass", message, reason, path)
    else:
        message = f"The evidence does not show that the ledger was checked against entry {anchor.seq}, which the policy names."
        yield finding(rule_id, "incomplete", message, reason, path)


def _whole(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def amended(evidence: Evidence, _: date, policy: Policy) -> Iterator[RuleResult]:
    """Each raise of the limit was signed with a key that the policy names: any other key could be anybody's."""
    rule_id, path = "ledger.amended", "ledger.amendments"
    reason = "The limit is a promise to people: raising it takes a second person, whose signature anyone can check."
    signed = [text_in(row, "signed") for row in evidence.rows(path)]
    for row in evidence.rows("ledger.others"):  # a release is charged to each of these ledgers
        elsewhere = row["signed"].value if "signed" in row else None
        signed += elsewhere if isinstance(elsewhere, tuple) else ("",)
    keys = {key.fingerprint for key in policy.ledger.amenders}
    nobody = sum(by in ("", UNSIGNED) for by in signed)
    strangers = sum(by not in keys for by in signed) - nobody
    if nobody:
        message = f"The lifetime limit was raised {_times(nobody)} without a signature."
        yield finding(rule_id, "needs_human", message, reason, path)
    elif strangers:
        whom = "that the policy does not name" if keys else "and the policy names none that may"
        message = f"The lifetime limit was raised {_times(strangers)} with a signature by a key {whom}."
        yield finding(rule_id, "needs_human", message, reason, path)
    elif evidence.value("ledger.raised") is not None:
        message = f"The lifetime limit was raised {_times(len(signed))}, always signed by a key that the policy names."
        yield finding(rule_id, "pass", message if signed else "The lifetime limit was never raised.", reason, path)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def ledger_contradictions(evidence: Evidence) -> Iterator[str]:
    """What the ledger is said to hold that cannot all be true."""
    names = ("spent_before_epsilon", "spent_epsilon", "cap_epsilon", "remaining")
    before, after, cap, remaining = (evidence.number(f"ledger.{name}") for name in names)
    if before is not None and after is not None and after <= before:
        yield "ledger.spent_epsilon did not grow with this release"
    if cap is not None and remaining is not None and is_below(cap, remaining):
        yield "ledger.remaining is larger than the limit"
    if cap is not None and after is not None and remaining is not None and remaining >= 0 and is_below(cap, after):
        yield "ledger.remaining is not below zero although the limit is passed"
    attempts, orphans = evidence.number("ledger.attempts"), evidence.number("ledger.orphans")
    if attempts is not None and attempts <= (orphans or 0):
        yield "ledger.attempts leaves out this release, or reservations that never finished"
    made, collected = as_day(evidence.value("ledger.genesis")), as_day(evidence.value("created_at"))
    if made is not None and collected is not None and (made - collected).days > 1:
        yield "ledger.genesis is after the release that the ledger paid for"
    seq, head = evidence.number("ledger.seq"), evidence.value("ledger.head")
    for row in evidence.rows("ledger.anchors"):
        at = number_in(row, "seq")
        if seq is not None and at is not None and (at > seq or (at == seq and text_in(row, "head") != head)):
            yield "ledger.anchors names an entry that the ledger does not have"
    count = evidence.value("ledger.ledgers")
    if count is not None and count != 1 + len(evidence.rows("ledger.others")):
        yield "ledger.others does not name each ledger that was charged"
    for row in evidence.rows("ledger.others"):
        signed, raised = row["signed"].value if "signed" in row else None, number_in(row, "raised")
        if isinstance(signed, tuple) and raised is not None and raised != len(signed):
            yield "ledger.others does not tell each time that a limit was raised"
    yield from _raised(evidence)
    yield from _below_the_limit(evidence)


def _raised(evidence: Evidence) -> Iterator[str]:
    """The limit is the one that the last amendment left, and each of them is told."""
    rows, count, limit = evidence.rows("ledger.amendments"), evidence.value("ledger.raised"), None
    if count is not None and count != len(rows):
        yield "ledger.amendments does not tell each time that the limit was raised"
    for row in rows:
        before, after = number_in(row, "from_epsilon"), number_in(row, "to_epsilon")
        if before is None or after is None:
            return  # a matter for `evidence.complete`
        if after <= before or (limit is not None and before != limit):
            yield "ledger.amendments is no row of rising limits"
        limit = after
    if limit is not None and limit != evidence.value("ledger.cap_epsilon"):
        yield "ledger.cap_epsilon is not the limit that ledger.amendments ends with"


def _below_the_limit(evidence: Evidence) -> Iterator[str]:
    """Lifetime figures are about all that the ledger's limit allows, never about less."""
    cap, delta = evidence.number("ledger.cap_epsilon"), evidence.number("ledger.cap_delta")
    if cap is None or delta is None:
        return  # a matter for `evidence.complete`
    raised = [number_in(row, "from_epsilon") for row in evidence.rows("ledger.amendments")]
    try:
        cost = lifetime_cost(raised[0], cap, delta) if raised else lifetime_cost(cap, None, delta)
        stated: list[tuple[str, float | None, float | None]] = [
            ("risk.tpr_at_fpr", evidence.number("risk.tpr_at_fpr"), 0.01)
        ]
        stated += [
            ("risk.table", number_in(row, "cumulative"), number_in(row, "fpr")) for row in evidence.rows("risk.table")
        ]
        for path, rate, fpr in stated:
            if rate is not None and fpr is not None and is_below(rate, detection(cost, fpr)):
                yield f"{path} is smaller than ledger.cap_epsilon implies"
        gap = evidence.number("risk.advantage")
        if gap is not None and is_below(gap, advantage(cost, 0.0)):
            yield "risk.advantage is smaller than ledger.cap_epsilon implies"
    except (DpsynthError, ArithmeticError, ValueError):
        yield "risk cannot be computed from ledger.cap_epsilon"
