"""Ways to a "pass" that were tried and must not work, one after the other."""

from __future__ import annotations

import base64
from types import ModuleType
from typing import Any

import pytest
from signers import CONTROLLER, DEPUTY, OFFICE, human, policy, record, signed, waiver

from dpsynth.signing import PublicKey
from reports import Evidence, Leaf, Policy, decide
from reports.gate import Verdict


def judged(builder: ModuleType, evidence: Evidence, rules: Policy, *attestations: Any) -> Verdict:
    return decide(rules, evidence, stage="release", on=builder.TODAY, record=record(*attestations))


def test_a_statement_that_covers_a_broken_rule_does_not_stand_in_for_its_waiver(builder: ModuleType) -> None:
    """Nor for the approver who rejected it."""
    rules = policy(human("controller", "release-decision", CONTROLLER, covers=("utility.tv1",)), waiver())
    broken = builder.shareable(builder.misled(0.5))
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


def test_a_rejection_recorded_under_another_policy_still_stands(builder: ModuleType) -> None:
    """Whoever rejects a release rejects it, and a new version of the policy does not undo that."""
    old, new = (policy(human("controller", "release-decision", CONTROLLER, DEPUTY), f"# {n}") for n in ("old", "new"))
    evidence = builder.shareable()
    assert old.digest != new.digest
    no = signed(evidence, old, decision="reject")
    verdict = judged(builder, evidence, new, no)
    assert verdict.state == "needs_human"
    assert verdict.exit_code_allowing({"needs_human"}) == 3
    yes = signed(evidence, new, DEPUTY)
    assert judged(builder, evidence, new, yes).state == "pass"
    assert judged(builder, evidence, new, no, yes).state == "needs_human"
    assert judged(builder, evidence, new, signed(evidence, old)).state == "needs_human", "an approval does not move on"


@pytest.mark.parametrize(("tv", "state"), [(0.0081, "integrity"), (0.0001, "integrity"), (None, "incomplete")])
def test_a_mean_cannot_be_better_than_what_it_is_the_mean_of(builder: ModuleType, tv: float, state: str) -> None:
    assert builder.release_verdict(builder.internal(builder.misled(0.2))).state == "fail"
    leaf = None if tv is None else builder.formula(tv)
    assert builder.release_verdict(builder.internal(builder.misled(0.2) | {"utility.tv1": leaf})).state == state


@pytest.mark.parametrize("mean", ["tv1", "tv2"])
def test_a_mean_does_not_stand_without_its_rows(builder: ModuleType, mean: str) -> None:
    tree = builder.tree()
    tree["utility"]["columns" if mean == "tv1" else "pairs"] = []
    assert builder.release_verdict(Evidence(tree).with_disclosure()).state == "integrity"


def test_of_many_pairs_the_listed_are_the_worst(builder: ModuleType) -> None:
    """Twenty are listed: their mean is more than that of all, and fewer than twenty are all of them."""
    tree = builder.tree()
    row = tree["utility"]["pairs"][0]
    for count, tv2, state in (
        (20, 0.03, "pass"),
        (20, 0.07, "integrity"),
        (19, 0.03, "integrity"),
        (19, 0.061, "pass"),
    ):
        tree["utility"] |= {"pairs": [row] * count, "tv2": builder.formula(tv2)}
        assert builder.release_verdict(Evidence(tree).with_disclosure()).state == state, (count, tv2)


@pytest.mark.parametrize(
    "rows",
    [
        lambda rows: [rows[0] | {"name": Leaf("nosuch", "P0", "x")}, *rows[1:]],
        lambda rows: [*rows, rows[0]],
        lambda rows: [rows[0], *rows],
    ],
)
def test_a_mean_cannot_be_lowered_by_columns_that_there_are_not(builder: ModuleType, rows: Any) -> None:
    tree = builder.tree()
    changed = rows(tree["utility"]["columns"])
    mean = sum(row["tv"].value for row in changed) / len(changed)
    tree["utility"] |= {"columns": changed, "tv1": builder.formula(mean)}
    verdict = builder.release_verdict(Evidence(tree).with_disclosure())
    assert verdict.state == "integrity"
    assert "a column" in " ".join(rule.message for rule in verdict.open)


@pytest.mark.parametrize(("attempts", "orphans", "state"), [(1, 0, "pass"), (1, 1, "integrity"), (2, 1, "pass")])
def test_attempts_hold_this_release_and_the_orphans(
    builder: ModuleType, attempts: int, orphans: int, state: str
) -> None:
    changed = {"ledger.attempts": builder.ledger_fact(attempts), "ledger.orphans": builder.ledger_fact(orphans)}
    assert builder.release_verdict(builder.internal(changed)).state == state


@pytest.mark.parametrize("text", ["2026-11-20 and more", "2026-11-20T", "2026-11-20T10:00:00+02:00", "2026-13-01", ""])
def test_a_day_is_a_day(builder: ModuleType, text: str) -> None:
    assert builder.release_verdict(builder.internal({"ledger.genesis": builder.ledger_fact(text)})).state == "integrity"
