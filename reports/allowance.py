"""Which budgets a policy leaves room for: so that its thresholds are numbers that somebody can use.

A policy's rule on detection (`risk.tpr_at_fpr`) is about everything that a ledger can ever allow, so it says how large
the lifetime limit of a ledger may be; its rules on epsilon and delta say how large one release may be. The table that
`docs/policies.md` shows is made here: `python -m reports.allowance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Final

from dpsynth import Cap, Cost, UsageError, tpr_bound
from reports.policy import Policy, shipped
from reports.render.numbers import hundred, number

DELTAS: Final = ("1e-5", "1e-6", "1e-7", "1e-8")
_STEP: Final = Fraction(1, 100)
_MOST: Final = 2_000  # steps: epsilon 20
_FPR: Final = 0.01  # of `risk.tpr_at_fpr`
_BASELINE: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """What a policy allows at one delta.

    Args:
        policy, delta: Which.
        release, lifetime: The largest epsilon of one release and of a ledger's limit, in steps of 0.01, rounded down.
        detected: How many are found at most at 1 false alarm in 100, under that limit.
        guessed: How often a guess is right at most that would be right 5 times in 100 without the person's record.
    """

    policy: str
    delta: str
    release: Fraction
    lifetime: Fraction
    detected: float
    guessed: float


def allowance(policy: Policy, delta: str) -> Allowance | None:
    """The largest budgets that keep the policy's rules on epsilon, delta and detection; None where none does.

    Releases are taken to be zCDP with discovery. Networks, whose loss is a Renyi curve, are bounded less well, and get
    less.
    """
    most = _at_most(policy, "guarantee.delta")
    if most is not None and Fraction(delta) > Fraction(str(most)):
        return None
    threshold = _at_most(policy, "risk.tpr_at_fpr")
    low, high = 0, _MOST
    while low < high:
        middle = (low + high + 1) // 2
        detected = _detected(middle * _STEP, delta, _FPR)
        fits = detected is None or threshold is None or detected <= threshold
        low, high = (middle, high) if fits else (low, middle - 1)
    lifetime = low * _STEP
    detected, guessed = _detected(lifetime, delta, _FPR), _detected(lifetime, delta, _BASELINE)
    if detected is None or guessed is None:
        return None
    epsilon = _at_most(policy, "guarantee.epsilon")
    return Allowance(
        policy=policy.name,
        delta=delta,
        release=lifetime if epsilon is None else min(lifetime, Fraction(str(epsilon))),
        lifetime=lifetime,
        detected=detected,
        guessed=guessed,
    )


def table(policies: Sequence[str] | None = None) -> str:
    """The allowances of policies as a markdown table; of those that ship where none is named."""
    lines = [
        "| policy | delta | one release, epsilon at most | lifetime limit, epsilon at most | found of 100, at 1 false alarm in 100 | a guess right 5 times in 100 becomes |",
        "|---|---|---|---|---|---|",
    ]
    for name in shipped() if policies is None else policies:
        for delta in DELTAS:
            found = allowance(Policy.load(name), delta)
            cells = (
                ("not allowed", "not allowed", "", "")
                if found is None
                else (
                    number(float(found.release)),
                    number(float(found.lifetime)),
                    f"{hundred(found.detected)}",
                    f"{hundred(found.guessed)}",
                )
            )
            lines.append(f"| `{name}` | {delta} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _at_most(policy: Policy, path: str) -> float | None:
    found = [
        rule.threshold
        for rule in policy.stage("release")
        if rule.evidence == path and rule.op == "at_most" and isinstance(rule.threshold, int | float)
    ]
    return min(found, default=None)


@cache
def _detected(epsilon: Fraction, delta: str, fpr: float) -> float | None:
    """The bound on detection over the lifetime of a ledger with that limit; None where the limit can be none."""
    try:
        cap = Cap.of(epsilon, delta)
    except UsageError:
        return None
    return tpr_bound(cap.lifetime(Cost.zcdp(cap.cost.rho, delta0=cap.delta0)), fpr)


if __name__ == "__main__":
    print(table(), end="")
