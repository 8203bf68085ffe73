"""Taking an attestation away, or changing a bit of one, never makes a verdict better.

Attestations come to a release by `add`, in any order, by any key, about anything. Then each file is lost, or damaged, in
turn. What would break the rule is an approval beside a rejection that is lost; `add` never leaves the two together, and
the last test shows that the rule is broken where somebody puts them there by hand.
"""

from __future__ import annotations

import contextlib
import tempfile
from datetime import date, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import signers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from signers import CONTROLLER, DEPUTY, OFFICE, OFFICER, STRANGER

from dpsynth.errors import UsageError
from dpsynth.release import ATTESTATIONS, Release
from reports import Evidence, Policy, Verdict, decide
from reports.attestation import Record, add
from reports.gate.verdict import WORST_FIRST

FEW = (("site", "category", "quasi_identifier", 6, 0.0043, 0.0038),)
ON = date(2026, 11, 25)
ASKED = (("controller", "release-decision"), ("officer", "advice"), ("privacy-office", "waiver.utility.tv1"))


def badness(verdict: Verdict) -> int:
    return -WORST_FIRST.index(verdict.state)


def decisions(evidence: Evidence, policy: Policy, manifest: str) -> st.SearchStrategy[dict[str, Any]]:
    """Mostly such as count, because the rest changes nothing."""
    other = "00" * 32
    return st.fixed_dictionaries(
        {
            "asked": st.sampled_from((*ASKED, ("nobody", "nothing"))),
            "key": st.sampled_from((None, None, None, CONTROLLER, DEPUTY, OFFICE, OFFICER, STRANGER)),
            "decision": st.sampled_from(("approve", "approve", "reject")),
            "signed_at": st.sampled_from((signers.MOMENT, signers.MOMENT, signers.MOMENT.replace(month=12))),
            "expires": st.sampled_from((date(2027, 1, 1), date(2027, 1, 1), date(2026, 12, 1), date(2026, 11, 24))),
            "evidence": st.sampled_from((evidence.digest,) * 5 + (other,)),
            "policy": st.sampled_from((policy.digest,) * 5 + (other,)),
            "manifest": st.sampled_from((manifest,) * 5 + (other,)),
        }
    )


OWN = {"controller": CONTROLLER, "officer": OFFICER, "privacy-office": OFFICE, "nobody": STRANGER}


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_losing_or_damaging_one_improves_nothing(builder: ModuleType, data: st.DataObject) -> None:
    policy = signers.policy(signers.ASKS_TWO, signers.waiver())
    broken = data.draw(st.booleans())
    changed = {"domain.from_data": builder.declared("site")} | (builder.misled(0.2, len(FEW)) if broken else {})
    evidence = builder.shareable(changed, columns=FEW)
    with tempfile.TemporaryDirectory() as place:
        release = Release(folder=Path(place), manifest={})
        (release.folder / "manifest.json").write_text("{}")
        manifest = Record.read(release).manifest
        for made in data.draw(st.lists(decisions(evidence, policy, manifest), min_size=1, max_size=6)):
            (role, statement), key = made.pop("asked"), made.pop("key")
            made["expires"] = max(made["expires"], made["signed_at"].date())
            draft = signers.draft(evidence, policy, **made, role=role, statement=statement)
            with contextlib.suppress(UsageError):
                add(release, draft, key or OWN[role])

        def judged() -> Verdict:
            return decide(policy, evidence, stage="release", on=ON, record=Record.read(release))

        before = judged()
        for path in sorted((release.folder / ATTESTATIONS).iterdir()):
            good = path.read_bytes()
            path.unlink()
            assert badness(judged()) >= badness(before), "lost"
            bit = data.draw(st.integers(0, len(good) * 8 - 1))
            path.write_bytes(good[: bit // 8] + bytes([good[bit // 8] ^ (1 << bit % 8)]) + good[bit // 8 + 1 :])
            assert judged().state == "integrity", "damaged"
            path.write_bytes(good[: bit // 8])
            assert judged().state == "integrity", "cut"
            path.write_bytes(good)
        assert judged() == before


def test_the_property_meets_passes(builder: ModuleType) -> None:
    """The sets above do reach a pass, and losing any part of it then ends the pass."""
    policy = signers.policy(signers.ASKS_TWO, signers.waiver())
    evidence = builder.shareable(builder.misled(0.2) | {"domain.from_data": builder.declared("site")})
    made = [
        signers.signed(evidence, policy, OWN[role], role=role, statement=statement, signed_at=moment())
        for role, statement in ASKED
    ]
    assert decide(policy, evidence, stage="release", on=ON, record=signers.record(*made)).state == "pass"
    for place in range(3):
        fewer = signers.record(*made[:place], *made[place + 1 :])
        assert decide(policy, evidence, stage="release", on=ON, record=fewer).state == "needs_human"


def moment() -> datetime:
    return signers.MOMENT


@pytest.mark.parametrize("state", ["needs_human", "pass"])
def test_why_an_approval_never_stays_beside_a_rejection(builder: ModuleType, state: str) -> None:
    """No function of the files alone could notice that a rejection is gone: so `add` takes the approvals away."""
    policy, evidence = signers.policy(), builder.shareable()
    both = [signers.signed(evidence, policy), signers.signed(evidence, policy, DEPUTY, decision="reject")]
    left = both if state == "needs_human" else both[:1]
    assert decide(policy, evidence, stage="release", on=ON, record=signers.record(*left)).state == state
