"""What the gate says: the states, what one rule found, and the verdict of a stage with all that it depends on."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal, TypeAlias

from dpsynth.errors import UsageError
from reports.attestation import Attestation
from reports.paths import Value
from reports.policy import Stage, Threshold

State: TypeAlias = Literal["integrity", "fail", "incomplete", "needs_human", "pass"]
RuleState: TypeAlias = State | Literal["not_applicable", "accepted", "waived"]
WORST_FIRST: Final[tuple[State, ...]] = ("integrity", "fail", "incomplete", "needs_human", "pass")
EXIT_CODES: Final[dict[State, int]] = {"pass": 0, "fail": 1, "needs_human": 3, "incomplete": 4, "integrity": 5}
SETTLED: Final[frozenset[RuleState]] = frozenset({"pass", "not_applicable", "accepted", "waived"})
"""States of a rule that does not stand in the way of a pass."""
SCHEMA: Final = "dpsynth.verdict/1"


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """What one rule found.

    Args:
        id: The rule's name.
        state: pass, fail, incomplete, needs_human, integrity; not_applicable for a rule that can only fail and did not;
            accepted where a person had to decide and signed; waived where a broken rule is let through, signed.
        message: What was found, one sentence.
        reason: Why the rule is there.
        origin: "policy", or "code" for what no policy can remove.
        path: Where in the evidence it looked; empty when at several places.
        op, threshold, side: What was asked; side is the end of the interval that was judged.
        cls, estimate, low, high, confidence, n: The leaf that was judged.
    """

    id: str
    state: RuleState
    message: str
    reason: str
    origin: Literal["policy", "code"]
    path: str = ""
    op: str = ""
    threshold: Threshold | None = None
    side: str = ""
    cls: str = ""
    estimate: Value = None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    n: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON object, with the keys that scripts rely on (design.md 7)."""

        def plain(value: object) -> object:
            return list(value) if isinstance(value, tuple) else value

        return {
            "id": self.id,
            "class": self.cls or None,
            "status": self.state,
            "estimate": plain(self.estimate),
            "low": self.low,
            "high": self.high,
            "confidence": self.confidence,
            "n": self.n,
            "path": self.path or None,
            "op": self.op or None,
            "threshold": plain(self.threshold),
            "side": self.side or None,
            "origin": self.origin,
            "message": self.message,
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A person's decision, and what it is worth.

    Args:
        attestation: The decision.
        why_not: Why it does not count; empty when it does.
        by_stranger: Whether the policy asks for it, and does not name its key.
    """

    attestation: Attestation
    why_not: str
    by_stranger: bool = False

    def to_json(self) -> dict[str, Any]:
        """The decision as a JSON object, with the fingerprint of its key."""
        return self.attestation.to_json() | {
            "fingerprint": self.attestation.key.fingerprint,
            "counts": not self.why_not,
            "why_not": self.why_not or None,
        }


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of one stage, with everything that it depends on.

    Args:
        stage: "release" (P0 to P2) or "review" (internal).
        rules: The results: rules of the policy in the order of the file, then the checks in code.
        policy_name, policy_version, policy_sha256, evidence_sha256: What was judged, by what.
        on: The day of the verdict.
        decisions: What people signed about this release, whether it counts or not; of the release stage only.
    """

    stage: Stage
    rules: tuple[RuleResult, ...]
    policy_name: str
    policy_version: str
    policy_sha256: str
    evidence_sha256: str
    on: date
    decisions: tuple[Decided, ...] = ()

    @property
    def state(self) -> State:
        """The worst state; incomplete when no rule of the policy passed, for then nothing was shown."""
        states = {rule.state for rule in self.rules}
        if not any(rule.state == "pass" and rule.origin == "policy" for rule in self.rules):
            states.add("incomplete")
        return next((state for state in WORST_FIRST if state in states), "incomplete")

    @property
    def exit_code(self) -> int:
        """The exit code of a command that ends with this verdict."""
        return EXIT_CODES[self.state]

    def exit_code_allowing(self, allow: Collection[str]) -> int:
        """The same, with needs_human let through when it is asked for by name; nothing else can be.

        Raises:
            UsageError: something else than needs_human is to be let through.
        """
        if not set(allow) <= {"needs_human"}:
            raise UsageError("only needs_human can be allowed")
        rejected = any(d.attestation.decision == "reject" and not d.why_not for d in self.decisions)
        return 0 if self.state in allow and not rejected else self.exit_code

    @property
    def open(self) -> tuple[RuleResult, ...]:
        """The results that stand in the way of a pass, worst first."""
        found = [rule for rule in self.rules if rule.state not in SETTLED]
        return tuple(sorted(found, key=lambda rule: WORST_FIRST.index(_as_state(rule.state))))

    @property
    def settled_by_people(self) -> tuple[RuleResult, ...]:
        """The results that a signature let through: they stay visible on every page."""
        return tuple(rule for rule in self.rules if rule.state in ("accepted", "waived"))

    def to_json(self) -> dict[str, Any]:
        """The verdict as a JSON object."""
        return {
            "schema": SCHEMA,
            "stage": self.stage,
            "verdict": self.state,
            "exit_code": self.exit_code,
            "date": self.on.isoformat(),
            "policy": {"name": self.policy_name, "version": self.policy_version, "sha256": self.policy_sha256},
            "evidence": {"sha256": self.evidence_sha256},
            "rules": [rule.to_json() for rule in self.rules],
            "decisions": [decided.to_json() for decided in self.decisions],
        }

    def to_text(self) -> str:
        """The JSON text of `verdict.json`, the same bytes for the same verdict."""
        return json.dumps(self.to_json(), sort_keys=True, ensure_ascii=True, allow_nan=False, indent=1) + "\n"


def _as_state(state: RuleState) -> State:
    return next((known for known in WORST_FIRST if known == state), "pass")
