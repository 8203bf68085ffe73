"""Turns results into evidence, a verdict and pages; `publish` does the whole job."""

from reports.evidence import Evidence, Leaf
from reports.gate import RuleResult, Verdict, decide
from reports.pipeline import Published, Settings, publish
from reports.policy import Policy
from reports.report import Report

__all__ = [
    "Evidence",
    "Leaf",
    "Policy",
    "Published",
    "Report",
    "RuleResult",
    "Settings",
    "Verdict",
    "decide",
    "publish",
]
