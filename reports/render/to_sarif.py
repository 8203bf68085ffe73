"""The release gate's verdict as SARIF 2.1.0, for code scanning. It follows the rules of the shareable edition."""

from __future__ import annotations

import json
from typing import Any, Final

from reports.gate import RuleResult
from reports.render.describe import asked, observed
from reports.render.numbers import plain
from reports.render.text import visible
from reports.report import Report

SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def to_sarif(report: Report) -> str:
    """The verdict as SARIF text: one result for each rule that stands in the way of a pass, none for those that hold.

    What a person let through by signature stays as a suppressed result, so that a pass which rests on it shows it.

    Only the release stage is told, whatever the edition: logs of a pipeline are often open to the world.
    """
    verdict = report.verdict
    ids = list(dict.fromkeys(rule.id for rule in verdict.rules))
    rules = {rule.id: rule for rule in reversed(verdict.rules)}
    results = [_result(rule, ids.index(rule.id)) for rule in (*verdict.open, *verdict.settled_by_people)]
    if verdict.settled_by_people:  # all results of a run say whether they are suppressed, or none does
        for result, rule in zip(results, (*verdict.open, *verdict.settled_by_people), strict=True):
            result["suppressions"] = _suppressions(rule)
    run = {
        "tool": {
            "driver": {
                "name": "dpsynth",
                "semanticVersion": visible(plain(report.evidence.value("tool.version")), 40),
                "rules": [_rule(rules[rule_id]) for rule_id in ids],
            }
        },
        "results": results,
        "invocations": [{"executionSuccessful": True, "exitCode": verdict.exit_code}],
        "properties": {
            "verdict": verdict.state,
            "date": verdict.on.isoformat(),
            "policy": {
                "name": verdict.policy_name,
                "version": visible(verdict.policy_version, 40),
                "sha256": verdict.policy_sha256,
            },
            "evidenceSha256": verdict.evidence_sha256,
        },
    }
    data = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(data, sort_keys=True, ensure_ascii=True, allow_nan=False, indent=1) + "\n"


def _text(text: str) -> dict[str, str]:
    """A message: brackets make links in SARIF, so they are escaped."""
    shown = visible(text)
    return {"text": shown.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")}


def _suppressions(rule: RuleResult) -> list[dict[str, str]]:
    if rule.state not in ("accepted", "waived"):
        return []
    return [{"kind": "external", "status": "accepted", "justification": visible(rule.message)}]


def _rule(rule: RuleResult) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": _text(f"{rule.path or rule.id}: {asked(rule)}"),
        "fullDescription": _text(rule.reason),
        "properties": {"origin": rule.origin},
    }


def _result(rule: RuleResult, index: int) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": {"uri": "evidence.json"}, "region": {"startLine": 1}}
    }
    if rule.path:
        location["logicalLocations"] = [{"fullyQualifiedName": rule.path}]
    return {
        "ruleId": rule.id,
        "ruleIndex": index,
        "kind": "fail",
        "level": "error" if rule.state in ("integrity", "fail", "incomplete") else "warning",
        "message": _text(f"{rule.state}: {rule.message} Asked: {asked(rule)}. Observed: {observed(rule)}."),
        "locations": [location],
        "partialFingerprints": {"dpsynthRule/v1": f"{rule.origin}:{rule.id}"},
        "properties": {"state": rule.state},
    }
