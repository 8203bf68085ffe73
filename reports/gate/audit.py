"""Audits of the program: one that contradicts the claim fails every release, and one that is not there fails none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final

from attacks.base import ALPHA
from attacks.intervals import clopper_pearson
from attacks.selftest import ALLOWED
from reports.evidence import Evidence, Leaf
from reports.gate.base import finding
from reports.gate.leaves import ROUNDING, as_day, has_ends, is_below, number_in, text_in
from reports.gate.verdict import RuleResult
from reports.paths import PATHS
from reports.policy import Policy

BOUND: Final = "audit.epsilon_lower_bound"
POWERED: Final = "audit.powered"
_STATES: Final = ("pass", "fail", "incomplete")
_ONE_RUN: Final = "one_run."
_SELFTEST: Final = "audit.selftest"
_MECHANISMS: Final = "audit.selftest.mechanisms"  # none where nobody said how many fits an audit has
_OPTIONAL: Final = frozenset({"audit.items[].small_leak", "audit.selftest.fits"})


def not_contradicted(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
    """No attacker of the audit shows more than what is claimed. No policy asks for this, and no waiver lifts it."""
    rule, reason = "audit.not_contradicted", "A lower bound above the claim proves that the program breaks its promise."
    if not _is_told(evidence):
        return
    broken = _contradicted(evidence)
    if broken:
        message = f"The audit of the program contradicts its claim: {', '.join(broken)}."
        yield finding(rule, "fail", message, reason, BOUND)
    elif lacking := _lacking(evidence, "audit."):
        yield finding(rule, "incomplete", f"The audit of the program is not whole: {', '.join(lacking[:5])}.", reason)
    elif evidence.value("audit.verdict") == "incomplete":
        message = "Nothing contradicts the claim, and the audit is incomplete: so many fits could not have told."
        yield finding(rule, "not_applicable", message, reason, BOUND)
    else:
        message = "The audit of the program does not contradict its claim; no audit can prove one."
        yield finding(rule, "pass", message, reason, BOUND)


def tested(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
    """The attacks raise no more false alarms in their self-test than they allow themselves."""
    rule, reason = "audit.selftest", "Attacks that cry out over tables that leak nothing say nothing about any table."
    verdict = evidence.value(f"{_SELFTEST}.verdict")
    if not evidence.section(_SELFTEST):
        return
    if verdict == "fail":
        yield finding(rule, "fail", "The self-test raised more false alarms than the attacks allow themselves.", reason)
    elif lacking := _lacking(evidence, f"{_SELFTEST}."):
        yield finding(rule, "incomplete", f"The self-test is not whole: {', '.join(lacking[:5])}.", reason)
    elif verdict == "incomplete":
        message = "The self-test did not see its largest leak: at its sizes, that nothing is found says little."
        yield finding(rule, "not_applicable", message, reason)
    else:
        message = (
            "The self-test saw its largest leak, and raised no more false alarms than the attacks allow themselves."
        )
        yield finding(rule, "pass", message, reason)


def audit_contradictions(evidence: Evidence) -> Iterator[str]:
    """What the section says otherwise than the release, or than its own figures."""
    value, number = evidence.value, evidence.number
    for path, other in (
        ("audit.synthesizer", "release.synthesizer"),
        ("audit.version", "tool.version"),
        (f"{_SELFTEST}.version", "tool.version"),
        (f"{_SELFTEST}.schema", "audit.schema"),
        ("audit.claim_epsilon", "guarantee.epsilon"),
    ):
        if None not in (value(path), value(other)) and value(path) != value(other):
            yield f"{path} is not {other}"
    audited, promised = number("audit.claim_delta"), number("guarantee.delta")
    if audited is not None and promised is not None and audited > promised:
        yield "audit.claim_delta is larger than guarantee.delta"
    made = as_day(value("created_at"))
    for path in ("audit.made_on", f"{_SELFTEST}.made_on"):
        day = as_day(value(path))
        if day is not None and made is not None and day > made:
            yield f"{path} lies behind the release"
    yield from _of_items(evidence)
    if evidence.section(_SELFTEST) and not _lacking(evidence, f"{_SELFTEST}."):
        yield from _of_selftest(evidence)


def _of_items(evidence: Evidence) -> Iterator[str]:
    """What is said of the whole audit follows from its items; of what is lost, nothing does."""
    items, claim = evidence.rows("audit.items"), _claim(evidence)
    lows, ceilings, fits = ([number_in(item, field) for item in items] for field in ("low", "ceiling", "n"))
    states = [text_in(item, "status") for item in items]
    if any(_above(low, claim) and state != "fail" for low, state in zip(lows, states, strict=True)):
        yield "audit.items does not call a bound above the claim a failure"
    if any(
        None not in (low, top) and is_below(top or 0.0, low or 0.0) for low, top in zip(lows, ceilings, strict=True)
    ):
        yield "audit.items shows more than so many fits can show"
    ids = [text_in(item, "id") for item in items]
    if all(ids) and not _is_every_pair(ids):
        yield "audit.items lacks an attacker in some game, or has one twice"
    known = [low for low in lows if low is not None]
    bound = evidence.number(BOUND)
    if (
        known
        and bound is not None
        and (max(known) > bound + ROUNDING or (len(known) == len(lows) and max(known) != bound))
    ):
        yield f"{BOUND} is not the largest of audit.items"
    total = evidence.number("audit.fits")
    games = {text_in(item, "id").rpartition(".")[0]: n or 0.0 for item, n in zip(items, fits, strict=True)}
    if items and None not in fits and total is not None and sum(games.values()) != total:
        yield "audit.fits is not the sum of the fits of audit.items"
    verdict, powered = evidence.value("audit.verdict"), evidence.value(POWERED)
    if set(states) <= set(_STATES) and items:
        needed = [
            state for item, state in zip(items, states, strict=True) if not text_in(item, "id").startswith(_ONE_RUN)
        ]
        implied = "fail" if "fail" in states else "pass" if set(needed) == {"pass"} else "incomplete"
        if verdict not in (None, implied) or powered not in (None, implied != "incomplete"):
            yield "audit.verdict and audit.powered do not follow from audit.items"


def _is_every_pair(ids: Sequence[str]) -> bool:
    """Whether each attacker stands once in each game."""
    games, attackers = ({id.rpartition(".")[side] for id in ids} for side in (0, 2))
    return len(ids) == len(set(ids)) == len(games) * len(attackers)


def _of_selftest(evidence: Evidence) -> Iterator[str]:
    """Intervals follow from counts, and verdicts from intervals (`attacks.selftest`)."""
    alarms = evidence.get(f"{_SELFTEST}.false_alarms")
    if not _follows(alarms):
        yield f"{_SELFTEST}.false_alarms has an interval that its counts do not give"
    leaks, mechanisms = evidence.rows(f"{_SELFTEST}.leaks"), evidence.rows(_MECHANISMS)
    honest = [row for row in mechanisms if (number_in(row, "factor") or 0.0) <= 1]
    fails = _is_sure(alarms) or any(_is_sure(row["rate"], ALLOWED) for row in honest)
    seen = any(_is_sure(row["rate"]) for row in leaks)
    verdict = evidence.value(f"{_SELFTEST}.verdict")
    if (verdict == "fail") is not fails or (verdict == "pass" and not seen):
        yield f"{_SELFTEST}.verdict does not follow from what was seen"
    for table in ("leaks", "mechanisms"):
        for row in evidence.rows(f"{_SELFTEST}.{table}"):
            counts = (number_in(row, "seen"), number_in(row, "runs"))
            if not _follows(row["rate"], *counts):
                yield f"{_SELFTEST}.{table} has a rate or an interval that its counts do not give"
            elif "status" in row and (row["status"].value == "pass") is not _is_sure(row["rate"]):
                yield f"{_SELFTEST}.{table} has a status that its rate does not bear out"


def _follows(rate: Leaf | None, seen: float | None = None, runs: float | None = None) -> bool:
    """Whether a rate is a count over its number of runs, with the exact interval of that count."""
    if rate is None or rate.number is None or not rate.n or rate.low is None or rate.high is None:
        return False
    count = round(rate.number * rate.n)
    if not 0 <= count <= rate.n or (seen, runs) not in ((None, None), (count, rate.n)):
        return False
    exact = clopper_pearson(count, rate.n, confidence=rate.confidence or 0.0)
    pairs = ((rate.number, count / rate.n), (rate.low, exact.low), (rate.high, exact.high))
    return all(abs(stated - implied) <= ROUNDING for stated, implied in pairs)


def _is_sure(rate: Leaf | None, allowed: float = ALPHA) -> bool:
    """Whether more is seen than is allowed of false alarms."""
    return rate is not None and rate.low is not None and rate.low > allowed


def _is_told(evidence: Evidence) -> bool:
    """Whether there is an audit of the generator, or any part of one."""
    return any(name != "selftest" for name in evidence.section("audit"))


def _contradicted(evidence: Evidence) -> list[str]:
    """Where the claim is contradicted."""
    claim = _claim(evidence)
    found = [
        text_in(item, "id") or "an item without a name"
        for item in evidence.rows("audit.items")
        if text_in(item, "status") == "fail" or _above(number_in(item, "low"), claim)
    ]
    if not found and (_above(evidence.number(BOUND), claim) or evidence.value("audit.verdict") == "fail"):
        found = ["its lower bound, or its verdict"]
    return found


def _claim(evidence: Evidence) -> float | None:
    """What was put to the test, or what the release promises where that is smaller or the other lost."""
    claims = [evidence.number(path) for path in ("audit.claim_epsilon", "guarantee.epsilon")]
    return min((claim for claim in claims if claim is not None), default=None)


def _above(low: float | None, claim: float | None) -> bool:
    return low is not None and claim is not None and low > claim


def _lacking(evidence: Evidence, base: str) -> list[str]:
    """The paths below a section at which something is missing, or is not what it must be."""
    return [
        path
        for path, rule in PATHS.items()
        if path.startswith(base) and path not in _OPTIONAL
        if base != "audit." or not path.startswith(_SELFTEST)
        if not all(leaf is not None and rule.holds(leaf.value) and _is_good(leaf, path) for leaf in _at(evidence, path))
    ]


def _at(evidence: Evidence, path: str) -> list[Leaf | None]:
    """The leaves at a path, in each row of a table; None where one is missing, and where a table has no row."""
    table, _, field = path.partition("[].")
    if not field:
        return [evidence.get(path)]
    rows = evidence.rows(table)
    return [row.get(field) for row in rows] if rows or table == _MECHANISMS else [None]


def _is_good(leaf: Leaf, path: str) -> bool:
    if path.endswith((".status", ".verdict")):
        return leaf.value in _STATES
    if path.endswith((".rate", ".false_alarms")):
        return has_ends(leaf) and bool(leaf.n)
    return leaf.value is not None
