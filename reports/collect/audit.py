"""The section on audits of the program: what many fits on made-up tables showed, and what a self-test could have seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from attacks import About, AuditFile, AuditItem, Interval, SelfTest
from dpsynth import EXTERNAL, Schema, UsageError
from reports.collect.leaves import p0
from reports.evidence import Leaf

_FOUND = "dpsynth audit"
_PLANTED = "dpsynth audit --selftest"


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What a release carries of audits; each was held against the release before anything was charged.

    Args:
        audit: Holds an audit of the generator; None where there is none.
        selftest: Holds a self-test; None where there is none.
        differs: How the audited runs differ from the release, a sentence each.
    """

    audit: AuditFile | None = None
    selftest: AuditFile | None = None
    differs: tuple[str, ...] = ()


def audited(
    files: Sequence[tuple[str, AuditFile]], *, about: About, schema: Schema, on: date, beside: bool, engine: str
) -> Audited:
    """The audits that a release carries.

    Args:
        files: Results by the names of their files.
        about: What the release is about.
        schema: Its schema, before anything is discovered.
        on: Its day, UTC.
        beside: Whether a part of the budget goes to counts of attacks.
        engine: Who holds the rows of the release.
    Raises:
        UsageError: a result is about something else, is not whole, or is the second of its kind.
        Contradicted: a result contradicts what the release would promise.
    """
    for name, file in files:
        file.require_about(about, schema, name=name, on=on)
    audits = [file for _, file in files if file.audit is not None]
    selftests = [file for _, file in files if file.selftest is not None]
    for found, what in ((audits, "audit of the synthesizer"), (selftests, "self-test")):
        if len(found) > 1:
            raise UsageError(f"--audit gives more than one {what}: choose the one that the report shall carry")
    audit = audits[0] if audits else None
    return Audited(
        audit=audit,
        selftest=selftests[0] if selftests else None,
        differs=() if audit is None else _differences(audit, schema, beside=beside, engine=engine),
    )


def _differences(file: AuditFile, schema: Schema, *, beside: bool, engine: str) -> tuple[str, ...]:
    rows = "as many synthetic rows as a release has by default" if file.rows is None else f"{file.rows} synthetic rows"
    out = [f"the audited runs learned from small tables that were made up from the schema, and wrote {rows}"]
    if file.about.synthesizer == "external":
        out.append(
            "the program was run alone, on rows that were not cut, and told the whole promise; in the release it gets "
            "bounded rows and is told less"
        )
    elif file.about.synthesizer in EXTERNAL:
        out.append("the program was told the whole promise; in the release it is told less")
    elif beside:
        out.append("all of the budget went to the rows; in the release a part pays for counts of attacks")
    if schema.is_open:
        out.append("what the schema leaves to discover had made-up values, and nobody read the noisy counts")
    if engine != "memory":
        out.append(f"rows were held and counted in memory; in the release {engine} does that")
    return tuple(out)


def audit_section(found: Audited) -> dict[str, Any]:
    """The leaves: all of class P0, because no real row was in any of the runs."""
    out: dict[str, Any] = {}
    if found.audit is not None and found.audit.audit is not None:
        audit = found.audit.audit
        out |= _head(found.audit)
        out |= {
            "verdict": p0(audit.verdict, _FOUND),
            "epsilon_lower_bound": Leaf(
                max(item.low for item in audit.items),
                "P0",
                "the largest lower bound that any attacker showed",
                n=audit.plan.total,
            ),
            "confidence": p0(audit.confidence, "of all bounds together"),
            "claim_epsilon": p0(audit.claim.epsilon, _FOUND),
            "claim_delta": p0(audit.claim.delta, _FOUND),
            "powered": p0(
                audit.verdict != "incomplete",
                "every worst-case game could have contradicted the claim, and caught a planted leak",
            ),
            "synthesizer": p0(found.audit.about.synthesizer, _FOUND),
            "fits": p0(audit.plan.total, _FOUND),
            "left_out": p0(audit.plan.left_out, _FOUND),
            "differs": p0(found.differs, "settings of both"),
            "items": [_item(item) for item in audit.items],
        }
    if found.selftest is not None and found.selftest.selftest is not None:
        out["selftest"] = _head(found.selftest) | _selftest(found.selftest.selftest)
    return out


def _head(file: AuditFile) -> dict[str, Leaf]:
    return {
        "schema": p0(file.about.schema, "digest of the canonical schema"),
        "version": p0(file.version, _FOUND),
        "made_on": p0(file.made_on.isoformat(), "clock"),
    }


def _item(item: AuditItem) -> dict[str, Leaf]:
    out = {
        "id": p0(item.id, _FOUND),
        "status": p0(item.status, _FOUND),
        "low": p0(item.low, _FOUND),
        "confidence": p0(item.confidence, _FOUND),
        "n": p0(item.n, _FOUND),
        "ceiling": p0(item.ceiling, _FOUND),
    }
    return out if item.power is None else out | {"small_leak": p0(item.power.seen, f"{item.power.leak}, planted")}


def _selftest(found: SelfTest) -> dict[str, Any]:
    suite, honest = found.suite, found.suite.false_alarms
    status = {item["id"]: item["status"] for item in found.items()}
    out: dict[str, Any] = {
        "verdict": p0(found.verdict, _PLANTED),
        "persons_fit": p0(suite.fit, "setting of the self-test"),
        "persons_control": p0(suite.control, "setting of the self-test"),
        "rows": p0(suite.rows, "setting of the self-test"),
        "false_alarms": _rate(honest.seen, honest.runs, honest.rate),
        "leaks": [
            {
                "leak": p0(leak.title, _PLANTED),
                "status": p0(status[f"selftest.{leak.id}"], _PLANTED),
                "seen": p0(leak.seen, _PLANTED),
                "runs": p0(leak.runs, _PLANTED),
                "rate": _rate(leak.seen, leak.runs, leak.rate),
            }
            for leak in suite.leaks
        ],
        "mechanisms": [],
    }
    if found.audit is not None:
        out["fits"] = p0(found.audit.trials, "setting of the self-test")
        out["mechanisms"] = [
            {
                "factor": p0(one.factor, "fixed list"),
                "seen": p0(one.caught, _PLANTED),
                "runs": p0(one.audits, _PLANTED),
                "rate": _rate(one.caught, one.audits, one.rate),
            }
            for one in found.audit.caught
        ]
    return out


def _rate(seen: int, runs: int, interval: Interval) -> Leaf:
    return Leaf(
        seen / runs,
        "P0",
        "exact interval (Clopper and Pearson 1934)",
        low=interval.low,
        high=interval.high,
        confidence=interval.confidence,
        n=runs,
    )
