"""The release gate's verdict as JUnit XML, for pipelines. It follows the rules of the shareable edition."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from reports.gate import RuleResult
from reports.render.describe import asked, observed
from reports.render.text import name, visible
from reports.render.words import STATE_WORDS
from reports.report import Report


def to_junit(report: Report) -> str:
    """The verdict as a JUnit test suite: one case a rule; only a rule that passed is a passed case.

    Only the release stage is told, whatever the edition: logs of a pipeline are often open to the world.
    """
    verdict = report.verdict
    counts = {
        "tests": len(verdict.rules),
        "failures": sum(rule.state in ("fail", "needs_human") for rule in verdict.rules),
        "errors": sum(rule.state in ("incomplete", "integrity") for rule in verdict.rules),
        "skipped": sum(rule.state in ("not_applicable", "accepted", "waived") for rule in verdict.rules),
    }
    attributes = {key: str(count) for key, count in counts.items()} | {"time": "0"}
    title = f"dpsynth gate: policy {verdict.policy_name} {visible(verdict.policy_version, 40)}"
    root = ET.Element("testsuites", {"name": title, **attributes})
    suite = ET.SubElement(
        root, "testsuite", {"name": title, **attributes, "timestamp": f"{verdict.on.isoformat()}T00:00:00"}
    )
    properties = ET.SubElement(suite, "properties")
    for key, value in (
        ("verdict", verdict.state),
        ("exit_code", str(verdict.exit_code)),
        ("policy.sha256", verdict.policy_sha256),
        ("evidence.sha256", verdict.evidence_sha256),
    ):
        ET.SubElement(properties, "property", {"name": key, "value": value})
    for rule in verdict.rules:
        _case(suite, rule)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, rule: RuleResult) -> None:
    case = ET.SubElement(
        suite, "testcase", {"name": name(rule.id), "classname": f"dpsynth.gate.{rule.origin}", "time": "0"}
    )
    kind = {"fail": "failure", "needs_human": "failure", "incomplete": "error", "integrity": "error"}.get(rule.state)
    if kind is not None:
        problem = ET.SubElement(case, kind, {"type": rule.state, "message": visible(rule.message)})
        lines = [f"asked: {asked(rule)}", f"observed: {observed(rule)}", f"why: {rule.reason}"]
        problem.text = "\n".join(visible(line) for line in lines)
    elif rule.state != "pass":
        ET.SubElement(case, "skipped", {"message": visible(f"{STATE_WORDS[rule.state]}: {rule.message}")})
