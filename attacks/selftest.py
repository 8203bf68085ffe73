"""What the audits could have seen on a user's own schema and sizes, and how often they raise a false alarm.

Two questions. How large must a leak be before the attacks on one synthetic table see it? Leaks of growing size are
planted, and tables that leak nothing are attacked as well. By how much must a generator pass its claim before the games
of an audit with so many fits catch it? Mechanisms of known loss play them.

    fail         more false alarms than the suite allows itself, or an honest mechanism contradicted too often
    incomplete   not even a copy of all persons was seen, or with so many fits not even the largest excess
    pass         both were seen, at the stated rates: read them
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from attacks.audit import Plan, Status
from attacks.canary import Claim
from attacks.intervals import Interval
from attacks.power import CONFIDENCE, AuditPower, Population, Power, audit_power, measure_power
from dpsynth import PersonRecords, UsageError

RUNS = 20
PERSONS = 1000
WHOLE = "100 %"  # the leak that every suite has to see: a copy of all persons
PREFIX, HONEST, FACTOR = "selftest.", "honest tables", "factor "


@dataclass(frozen=True, kw_only=True)
class SelfTest:
    """What was measured.

    Args:
        suite: Of the attacks on one table.
        audit: Of one worst-case game of an audit; None if nobody said how many fits it has.
    """

    suite: Power
    audit: AuditPower | None

    @property
    def verdict(self) -> Status:
        """By the rule at the head of this module."""
        states = {item["id"]: item["status"] for item in self.items()}
        if "fail" in states.values():
            return "fail"
        decisive = [WHOLE] + ([] if self.audit is None else [f"{FACTOR}{self._largest:g}"])
        seen = all(states[PREFIX + name] == "pass" for name in decisive)
        return "pass" if seen else "incomplete"

    @property
    def _largest(self) -> float:
        return 0.0 if self.audit is None else self.audit.caught[-1].factor

    def items(self) -> list[dict[str, Any]]:
        """One for each leak, one for all honest tables, one for each mechanism."""
        private = self.suite.privacy_class
        out = []
        for leak in self.suite.leaks:
            status: Status = "incomplete" if leak.by_chance else "pass"
            out.append(_item(leak.id, private, status, leak.seen, leak.runs, leak.rate, str(leak)))
            out[-1]["listed"] = leak.listed
        honest = self.suite.false_alarms
        status = "pass" if honest.by_chance else "fail"
        out.append(_item(HONEST, private, status, honest.seen, honest.runs, honest.rate, str(honest)))
        out[-1]["listed"] = honest.listed
        if self.audit is not None:
            for one, sentence in zip(self.audit.caught, self.audit.sentences, strict=True):
                if one.factor <= 1:
                    status = "pass" if one.rate.low <= ALLOWED else "fail"
                else:
                    status = "pass" if one.caught >= 0.9 * one.audits else "incomplete"
                out.append(_item(f"{FACTOR}{one.factor:g}", "P0", status, one.caught, one.audits, one.rate, sentence))
        return out

    def to_json(self) -> dict[str, Any]:
        """The result for machines."""
        return {
            "verdict": self.verdict,
            "class": self.suite.privacy_class,
            "persons": [self.suite.fit, self.suite.control],
            "rows": self.suite.rows,
            "games": None
            if self.audit is None
            else {
                "fits": self.audit.trials,
                "confidence": self.audit.confidence,
                "claim": self.audit.claim.to_json(),
            },
            "audits": self.items(),
        }


ALLOWED = 0.01  # honest mechanisms contradicted: far above 1 in 1,000, and low enough to notice a broken bound


def _item(
    id: str, private: Literal["P0", "P3"], status: Status, seen: int, runs: int, rate: Interval, sentence: str
) -> dict[str, Any]:
    return {
        "id": PREFIX + id,
        "class": private,
        "status": status,
        "measure": "share of runs in which it was seen",
        "estimate": seen / runs,
        "low": rate.low,
        "high": rate.high,
        "confidence": CONFIDENCE,
        "n": runs,
        "sentence": sentence,
    }


def self_test(
    population: Population,
    claim: Claim,
    plan: Plan | None,
    *,
    persons: int | None = None,
    rows: int | None = None,
    runs: int = RUNS,
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> SelfTest:
    """Plants the leaks and plays the games.

    Args:
        population: Real persons (class P3), or a schema from which they are made up (P0).
        claim: What the audit would put to the test.
        plan: How it would share its fits; None for none.
        persons: Fitted persons, and as many held back; by default a third of the real ones, or 1,000.
        rows: Synthetic rows; by default as many as the fitted persons have.
        runs: Of each kind.
        seed: Of all random choices: the same seed gives the same result.
        progress: Told how far it is.
    Raises:
        UsageError: too few runs or persons.
    """
    if persons is None:
        persons = population.persons // 3 if isinstance(population, PersonRecords) else PERSONS
    if persons < 1:
        raise UsageError("a self-test on a table needs at least three persons in it: leave out --data for made-up ones")

    def told(what: str) -> Callable[[int, int], None]:
        last = 0

        def tell(done: int, of: int) -> None:
            nonlocal last
            if done * 10 // of > last:
                last = done * 10 // of
                progress(f"{what}: {done} of {of}")

        return tell

    try:
        suite = measure_power(
            population,
            fit=persons,
            control=persons,
            rows=rows,
            runs=runs,
            seed=seed,
            progress=told("planting leaks"),
        )
    except ValueError as error:
        raise UsageError(f"the self-test cannot run: {error}") from None
    audit = None
    if plan is not None:
        game = next(iter(plan.fits))
        audit = audit_power(
            claim,
            fits=plan.fits[game],
            audits=runs,
            confidence=plan.confidence(game),
            seed=seed,
            progress=told("playing audits of known mechanisms"),
        )
    return SelfTest(suite=suite, audit=audit)
