"""Ways to a "pass" that were tried and must not work, one after the other."""

from __future__ import annotations

import base64
from types import ModuleType
from typing import Any

import pytest
from signers import CONTROLLER, OFFICE, human, policy, record, signed, waiver

from reports import Evidence, Leaf, Policy, decide
from reports.gate import Verdict
from reports.signing import PublicKey


def judged(builder: ModuleType, evidence: Evidence, rules: Policy, *attestations: Any) -> Verdict:
    return decide(rules, evidence, stage="release", on=builder.TODAY, record=record(*attestations))


def test_a_statement_that_covers_a_broken_rule_does_not_stand_in_for_its_waiver(builder: ModuleType) -> None:
    """Nor for the approver who rejected it."""
    rules = policy(human("controller", "release-decision", CONTROLLER, covers=("utility.tv1",)), waiver())
    broken = builder.shareable({"utility.tv1": Leaf(0.5, "P1", "edited")})
    assert judged(builder, broken, rules, signed(broken, rules)).state == "needs_human"
    no = signed(broken, rules, OFFICE, role="privacy-office", statement="waiver.utility.tv1", decision="reject")
    assert judged(builder, broken, rules, signed(broken, rules), no).state == "needs_human"


def test_a_rule_that_borrows_the_name_of_a_check_does_not_open_it(builder: ModuleType) -> None:
    borrowed = (
        '\n[[rule]]\nid = "release.gated"\nevidence = "release.rows"\nstage = "release"\nat_least = 0\nreason = "x"\n'
    )
    rules = policy(borrowed, human("controller", "release-decision", CONTROLLER, covers=("release.gated",)))
    unjudged = builder.shareable({"release.published": builder.declared("never judged")})
    assert judged(builder, unjudged, rules, signed(unjudged, rules)).state != "pass"


def test_a_rejected_release_is_not_let_through(builder: ModuleType) -> None:
    rules = policy(human("controller", "release-decision", CONTROLLER))
    evidence = builder.shareable()
    verdict = judged(builder, evidence, rules, signed(evidence, rules, decision="reject"))
    assert verdict.exit_code_allowing({"needs_human"}) == 3
    assert judged(builder, evidence, rules).exit_code_allowing({"needs_human"}) == 0


@pytest.mark.parametrize("name", ["Internal-Test", "internal_test", "INTERNAL.TEST"])
def test_a_name_that_looks_like_a_shipped_one_is_seen_through(name: str) -> None:
    text = Policy.load("internal-test").text.replace('"internal-test"', f'"{name}"', 1)
    assert Policy.parse(text).impersonates


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("sign", [0, 128])
def test_a_key_that_verifies_what_nobody_signed_is_no_key(start: int, sign: int) -> None:
    """Points of small order: RFC 8032, 5.1.7."""
    raw = bytes([start, *[0] * 30, sign])
    with pytest.raises(ValueError, match="anyone"):
        PublicKey.parse("ed25519:" + base64.b64encode(raw).decode())


@pytest.mark.parametrize("entity", ["Row", "rows", "record"])
def test_a_row_under_another_name_still_needs_a_person(builder: ModuleType, entity: str) -> None:
    changed = {path: builder.declared(entity) for path in ("unit.entity", "guarantee.unit")}
    verdict = decide(builder.policy(), builder.shareable(changed), stage="release", on=builder.TODAY)
    assert ("unit.person", "needs_human") in {(rule.id, rule.state) for rule in verdict.rules}


def test_card_numbers_cannot_be_hidden_behind_the_count(builder: ModuleType) -> None:
    tree = builder.tree()
    tree["deid_scan"]["safe_harbor"][3] |= {
        "status": builder.scanned("pattern found"),
        "columns": builder.scanned(("town",)),
        "signs": builder.scanned(("values look like card numbers, with a right check digit",)),
    }
    verdict = decide(builder.policy(), Evidence(tree).with_disclosure().shareable(), stage="release", on=builder.TODAY)
    assert verdict.state == "integrity"
