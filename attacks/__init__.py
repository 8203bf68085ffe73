"""attacks: tries to break a release, and says how hard it tried.

`run_suite` attacks a synthetic table with the real rows at hand (class P3); `qualified_tests` are the attacks whose
noisy counts may be published. `play` fits a synthesizer many times on tables made from a schema, and bounds what it
leaks (class P0).
"""

from attacks.base import AttackResult, Judgement, Measure, PositiveControl, Threat
from attacks.canary import CanaryResult, Claim, Conjunctions, NoisyCounts, Pair, play, worst_cases
from attacks.charged import ChargedResult, QualifiedTest, charged_results, qualified_tests
from attacks.intervals import Interval, Rate, epsilon_lower_bound, excess_interval, rho_lower_bound
from attacks.suite import ATTACKS, SuiteResult, run_suite

__all__ = [
    "ATTACKS",
    "AttackResult",
    "CanaryResult",
    "ChargedResult",
    "Claim",
    "Conjunctions",
    "Interval",
    "Judgement",
    "Measure",
    "NoisyCounts",
    "Pair",
    "PositiveControl",
    "QualifiedTest",
    "Rate",
    "SuiteResult",
    "Threat",
    "charged_results",
    "epsilon_lower_bound",
    "excess_interval",
    "play",
    "qualified_tests",
    "rho_lower_bound",
    "run_suite",
    "worst_cases",
]
