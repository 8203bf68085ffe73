"""What this version of the program knows against a synthesizer, whatever version wrote the evidence.

A release is made with what was known then. Where the program has learned something since, or the evidence leaves out what
was known, the difference is named here: it is for a person to look at, and no signature that was given without it covers
it. Evidence that names this very version, and says otherwise than it, is caught by `reports.agreement`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from typing import Final

from dpsynth.errors import UsageError
from dpsynth.synthesizers.registry import synthesizer
from reports.evidence import Evidence
from reports.gate.base import Check, finding
from reports.gate.guarantee import OWN
from reports.gate.leaves import read_off_data
from reports.gate.verdict import RuleResult
from reports.paths import Value
from reports.policy import Policy

NOISE: Final = "implementation.floating_point"
VIOLATIONS: Final = "implementation.known_violations"
CLAIM: Final = "implementation.claimed_by"
UNPROTECTED: Final = "guarantee.unprotected_quantities"
LEARNED: Final = "implementation.learned"
ANSWERED: Final = frozenset(
    {"guarantee.covered", "guarantee.claimed", "implementation.exact_noise", "implementation.sound"}
)
"""Checks that `learned` answers in place of a pass, where it knows better than what the evidence says."""


def unsaid(evidence: Evidence) -> tuple[tuple[str, str], ...]:
    """What this version knows against a release and the evidence does not say: the path, and the knowledge.

    Nothing about a synthesizer that this version does not have: `implementation.known` asks a person about it.
    """
    told, found = _texts(evidence.value(UNPROTECTED)), []
    if not all(any(_names(text, name) for text in told) for name in read_off_data(evidence)):
        found.append((UNPROTECTED, "domains that were read off the data are published outside the guarantee"))
    name = evidence.value("release.synthesizer")
    try:
        used = synthesizer(name if isinstance(name, str) else "").implementation
    except UsageError:
        return tuple(found)
    if used.floating_point and evidence.value(NOISE) is not True:
        found.append((NOISE, "its noise is made in floating-point arithmetic"))
    if used.claimed_by and evidence.value(CLAIM) in (None, OWN):
        found.append((CLAIM, f"its loss is what {used.claimed_by} claims"))
    if used.claimed_by and not told:
        found.append((UNPROTECTED, "whether the program ran to its end is outside the guarantee"))
    violations = _texts(evidence.value(VIOLATIONS))
    found += [(VIOLATIONS, violation) for violation in used.known_violations if violation not in violations]
    return tuple(found)


def learned(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
    """Nothing is known against the synthesizer today that the evidence does not say."""
    new = [what for _path, what in unsaid(evidence)]
    if new:
        message = (
            "This version of the program knows something about such a release that the evidence does not say: "
            f"{'; '.join(new)}. A release made anew with this version would say it."
        )
        reason = "What is known today counts, whenever a release was made; a signature covers what the evidence said."
        yield finding(LEARNED, "needs_human", message, reason)


def unless_learned(path: str, check: Check) -> Check:
    """A check of what the evidence says at a path, which does not pass where `learned` knows better."""

    def checked(evidence: Evidence, on: date, policy: Policy) -> Iterator[RuleResult]:
        stale = any(about == path for about, _what in unsaid(evidence))
        for result in check(evidence, on, policy):
            if not (stale and result.state == "pass"):
                yield result

    return checked


def _names(text: str, column: str) -> bool:
    """Whether a column is named in a text, as a word of its own."""
    return re.search(rf"(?<!\w){re.escape(column)}(?!\w)", text) is not None


def _texts(value: Value) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()
