"""attacks: tries to break a release, and says how hard it tried.

`run_suite` attacks a synthetic table with the real rows at hand (class P3); `qualified_tests` are the attacks whose
noisy counts may be published, and `sights` says what these could have seen. `audit_generator` runs a generator many
times on tables made from a schema and bounds what it leaks (class P0); with real rows it attacks the most exposed
persons (P3). `measure_power` and `self_test` say what all of that would have seen.
"""

from attacks.audit import Audit, AuditItem, audit_generator
from attacks.audit_file import About, AuditFile
from attacks.base import AttackResult, Judgement, Measure, PositiveControl, Threat
from attacks.canary import CanaryResult, Claim, Conjunctions, NoisyCounts, play, play_all
from attacks.charged import ChargedResult, QualifiedTest, charged_results, qualified_tests
from attacks.charged_power import Sight, sights
from attacks.fits import fits_needed
from attacks.generators import Generator, claim_of
from attacks.intervals import Interval, Rate, epsilon_lower_bound, excess_interval, rho_lower_bound
from attacks.neighbours import Pair, worst_cases
from attacks.one_run import OneRunResult, audit_one_run
from attacks.power import AuditPower, Power, audit_power, measure_power
from attacks.register import Counts, Register
from attacks.selftest import SelfTest, self_test
from attacks.shadow import ShadowItem, ShadowResult, audit_records
from attacks.suite import ATTACKS, SuiteResult, run_suite

__all__ = [
    "ATTACKS",
    "About",
    "AttackResult",
    "Audit",
    "AuditFile",
    "AuditItem",
    "AuditPower",
    "CanaryResult",
    "ChargedResult",
    "Claim",
    "Conjunctions",
    "Counts",
    "Generator",
    "Interval",
    "Judgement",
    "Measure",
    "NoisyCounts",
    "OneRunResult",
    "Pair",
    "PositiveControl",
    "Power",
    "QualifiedTest",
    "Rate",
    "Register",
    "SelfTest",
    "ShadowItem",
    "ShadowResult",
    "Sight",
    "SuiteResult",
    "Threat",
    "audit_generator",
    "audit_one_run",
    "audit_power",
    "audit_records",
    "charged_results",
    "claim_of",
    "epsilon_lower_bound",
    "excess_interval",
    "fits_needed",
    "measure_power",
    "play",
    "play_all",
    "qualified_tests",
    "rho_lower_bound",
    "run_suite",
    "self_test",
    "sights",
    "worst_cases",
]
