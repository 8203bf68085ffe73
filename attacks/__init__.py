"""attacks: tries to break a release, and says how hard it tried."""

from attacks.base import AttackResult, Judgement, Measure, PositiveControl, Threat
from attacks.charged import ChargedResult, charged_results, qualified_tests
from attacks.intervals import Interval, Rate
from attacks.suite import ATTACKS, SuiteResult, run_suite

__all__ = [
    "ATTACKS",
    "AttackResult",
    "ChargedResult",
    "Interval",
    "Judgement",
    "Measure",
    "PositiveControl",
    "Rate",
    "SuiteResult",
    "Threat",
    "charged_results",
    "qualified_tests",
    "run_suite",
]
