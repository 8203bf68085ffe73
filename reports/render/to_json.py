"""The whole report as JSON: evidence, policy and verdicts in one object."""

from __future__ import annotations

import json
from typing import Any, Final

from reports.policy import Pinned
from reports.render.annexes import annexes
from reports.report import Report

SCHEMA: Final = "dpsynth.report/1"


def _pinned(ledger: Pinned) -> dict[str, Any]:
    anchor = ledger.anchor
    return {
        "required": ledger.required,
        "id": ledger.id or None,
        "population": ledger.population or None,
        "anchor": {"seq": anchor.seq, "head": anchor.head} if anchor is not None else None,
        "amenders": [key.text for key in ledger.amenders],
    }


def to_json(report: Report) -> str:
    """The report as JSON text, the same bytes for the same report; only ASCII."""
    policy = report.policy
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "edition": report.evidence.edition,
        "policy": {
            "name": policy.name,
            "version": policy.version,
            "reason": policy.reason,
            "catalog": list(policy.catalog),
            "sha256": policy.digest,
            "ledger": _pinned(policy.ledger),
            "human": [
                {
                    "role": human.role,
                    "statement": human.statement,
                    "keys": [key.text for key in human.keys],
                    "covers": list(human.covers),
                }
                for human in policy.human
            ],
            "waivers": [
                {
                    "rule": waiver.rule,
                    "reason": waiver.reason,
                    "approver": waiver.approver,
                    "granted": waiver.granted.isoformat(),
                    "expires": waiver.expires.isoformat(),
                }
                for waiver in policy.waivers.rules
            ],
        },
        "verdict": report.verdict.to_json(),
        "evidence": json.loads(report.evidence.to_json()),
    }
    if policy.annexes:
        data["annexes"] = [annex.to_json() for annex in annexes(report)]
    if report.review is not None:
        data["review"] = report.review.to_json()
    return json.dumps(data, sort_keys=True, ensure_ascii=True, allow_nan=False, indent=1) + "\n"
