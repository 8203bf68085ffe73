"""attacks: tries to break a release, and says how hard it tried.

`run_suite` attacks a synthetic table with the real rows at hand (class P3); `qualified_tests` are the attacks whose
noisy counts may be published.
"""

from attacks.base import AttackResult, Judgement, Measure, PositiveControl, Threat
from attacks.charged import ChargedResult, QualifiedTest, charged_results, qualified_tests
from attacks.intervals import Interval, Rate, excess_interval
from attacks.suite import ATTACKS, SuiteResult, run_suite

__all__ = [
    "ATTACKS",
    "AttackResult",
    "ChargedResult",
    "Interval",
    "Judgement",
    "Measure",
    "PositiveControl",
    "QualifiedTest",
    "Rate",
    "SuiteResult",
    "Threat",
    "charged_results",
    "excess_interval",
    "qualified_tests",
    "run_suite",
]
