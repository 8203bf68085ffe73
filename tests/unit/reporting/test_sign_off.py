"""What signatures change in a verdict: what needs a person, where the policy asks for it by name, and nothing else."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from datetime import date
from types import ModuleType
from typing import Any

import pytest
import signers
from signers import CONTROLLER, DEPUTY, OFFICE, OFFICER, STRANGER

from reports import Evidence, Policy, Report, RuleResult, Verdict, decide
from reports.attestation import Record
from reports.gate.checks import CHECKS
from reports.policy import COVERABLE
from reports.render import to_html, to_json, to_junit, to_markdown, to_sarif

HUMAN = "human.controller.release-decision"


def judged(
    builder: ModuleType,
    record: Record,
    *,
    changed: dict[str, Any] | None = None,
    policy: Policy | None = None,
    on: date | None = None,
) -> Verdict:
    return decide(
        policy or signers.policy(),
        builder.internal(changed or {}),
        stage="release",
        on=on or builder.TODAY,
        record=record,
    )


def found(verdict: Verdict, rule_id: str) -> RuleResult:
    return next(rule for rule in verdict.rules if rule.id == rule_id)


def test_nobody_has_signed(builder: ModuleType) -> None:
    verdict = judged(builder, signers.record())
    assert verdict.state == "needs_human"
    assert [rule.id for rule in verdict.open] == [HUMAN]
    assert "none is recorded" in found(verdict, HUMAN).message
    assert judged(builder, Record()) == verdict


def test_a_signed_approval_makes_a_pass_that_shows_it(builder: ModuleType) -> None:
    made = signers.signed(builder.internal(), signers.policy())
    verdict = judged(builder, signers.record(made))
    assert (verdict.state, verdict.exit_code) == ("pass", 0)
    rule = found(verdict, HUMAN)
    assert rule.state == "accepted"
    assert rule.message == "Approved by A. Lee (Clinic) on 2026-11-21, until 2027-05-31."
    assert verdict.settled_by_people == (rule,)
    data = json.loads(verdict.to_text())["decisions"]
    assert (data[0]["counts"], data[0]["fingerprint"]) == (True, CONTROLLER.public.fingerprint)


def test_any_of_the_named_keys_is_enough(builder: ModuleType) -> None:
    assert judged(builder, signers.record(signers.signed(builder.internal(), signers.policy(), DEPUTY))).state == "pass"


@pytest.mark.parametrize(
    ("by", "changes", "why"),
    [
        (STRANGER, {}, "does not name for this role"),
        (OFFICER, {}, "does not name for this role"),
        (CONTROLLER, {"evidence": "00" * 32}, "for other evidence"),
        (CONTROLLER, {"policy": "00" * 32}, "for another policy"),
        (CONTROLLER, {"manifest": "00" * 32}, "for another release"),
        (CONTROLLER, {"expires": date(2026, 11, 21)}, "expired on 2026-11-21"),
        (CONTROLLER, {"signed_at": signers.MOMENT.replace(month=12)}, "after the day of this verdict"),
    ],
)
def test_a_signature_that_does_not_count_is_named(
    builder: ModuleType, by: Any, changes: dict[str, Any], why: str
) -> None:
    on = date(2026, 11, 22)
    made = signers.signed(builder.internal(), signers.policy(), by, **changes)
    verdict = judged(builder, signers.record(made), on=on)
    assert (verdict.state, verdict.exit_code) == ("needs_human", 3)
    assert "The signature of A. Lee (Clinic) does not count: " in found(verdict, HUMAN).message
    assert why in found(verdict, HUMAN).message
    assert "none that counts is recorded" in found(verdict, HUMAN).message
    assert why in found(verdict, "attestations.intact").message
    assert why in verdict.decisions[0].why_not


def test_the_last_day_counts(builder: ModuleType) -> None:
    made = signers.signed(builder.internal(), signers.policy(), expires=date(2026, 11, 22))
    states = [judged(builder, signers.record(made), on=date(2026, 11, day)).state for day in (20, 21, 22, 23)]
    assert states == ["needs_human", "pass", "pass", "needs_human"]


def test_without_a_release_on_disk_nothing_counts(builder: ModuleType) -> None:
    made = signers.signed(builder.internal(), signers.policy())
    verdict = judged(builder, Record(attestations=(made,)))
    assert verdict.state == "needs_human"
    assert "another release" in found(verdict, HUMAN).message


@pytest.mark.parametrize("changes", [{"role": "officer"}, {"statement": "other"}, {"statement": "waiver.utility.tv1"}])
def test_what_the_policy_does_not_ask_for_changes_nothing_and_is_named(
    builder: ModuleType, changes: dict[str, str]
) -> None:
    made = signers.signed(builder.internal(), signers.policy(), **changes)
    verdict = judged(builder, signers.record(made))
    assert verdict.state == "needs_human"
    assert "asks for no such statement" in found(verdict, "attestations.intact").message


def test_a_rejection_stands_against_every_approval(builder: ModuleType) -> None:
    policy = signers.policy()
    approved = signers.signed(builder.internal(), policy)
    for by, changes in ((DEPUTY, {}), (DEPUTY, {"expires": date(2026, 11, 21)})):
        rejected = signers.signed(builder.internal(), policy, by, decision="reject", name="C. Roe", **changes)
        verdict = judged(builder, signers.record(approved, rejected), on=date(2026, 11, 23))
        assert verdict.state == "needs_human"
        assert found(verdict, HUMAN).message.startswith("Rejected by C. Roe (Clinic) on 2026-11-21.")
    stranger = signers.signed(builder.internal(), policy, STRANGER, decision="reject")
    assert judged(builder, signers.record(approved, stranger)).state == "pass"


def test_each_statement_has_to_be_signed(builder: ModuleType) -> None:
    policy = signers.policy(signers.ASKS_TWO)
    one = signers.signed(builder.internal(), policy)
    two = signers.signed(builder.internal(), policy, OFFICER, role="officer", statement="advice")
    for record, state in ((signers.record(one), "needs_human"), (signers.record(two), "needs_human")):
        assert judged(builder, record, policy=policy).state == state
    assert judged(builder, signers.record(one, two), policy=policy).state == "pass"
    assert judged(builder, signers.record(two, one), policy=policy).state == "pass"


def test_a_statement_without_a_key_can_never_be_signed(builder: ModuleType) -> None:
    policy = signers.policy('[[human]]\nrole = "controller"\nstatement = "release-decision"\n')
    verdict = judged(builder, signers.record(signers.signed(builder.internal(), policy)), policy=policy)
    assert verdict.state == "needs_human"
    assert "It names no key that could sign one." in found(verdict, HUMAN).message


@pytest.mark.parametrize(
    ("path", "value", "state"),
    [
        ("ledger.verified", False, "integrity"),
        ("guarantee.epsilon", 3.2, "fail"),
        ("tool.name", None, "incomplete"),
        ("review_on", "2026-01-01", "incomplete"),
    ],
)
def test_what_is_worse_is_never_lifted(builder: ModuleType, path: str, value: Any, state: str) -> None:
    changed = {path: None if value is None else builder.declared(value)}
    if path == "guarantee.epsilon":
        changed = {path: builder.formula(value)}
    evidence = builder.internal(changed)
    made = signers.signed(evidence, signers.policy())
    verdict = decide(signers.policy(), evidence, stage="release", on=builder.TODAY, record=signers.record(made))
    assert verdict.state == state
    assert found(verdict, HUMAN).state == "accepted"


def test_a_damaged_attestation_is_an_integrity_failure(builder: ModuleType) -> None:
    made = signers.signed(builder.internal(), signers.policy())
    verdict = judged(builder, signers.record(made, problems=("attestations/x.json: it is not JSON",)))
    assert (verdict.state, verdict.exit_code) == ("integrity", 5)
    assert "attestations/x.json" in found(verdict, "attestations.intact").message


def test_a_policy_is_not_met_by_signatures_alone(builder: ModuleType) -> None:
    text = signers.HEAD + signers.ASKS + signers.RULES.replace('"release"', '"review"')
    policy = Policy.parse(text)
    made = signers.signed(builder.internal(), policy)
    assert judged(builder, signers.record(made), policy=policy).state == "incomplete"


def test_the_review_verdict_has_no_signatures(builder: ModuleType) -> None:
    made = signers.signed(builder.internal(), signers.policy())
    with_, without = (
        decide(signers.policy(), builder.internal(), stage="review", on=builder.TODAY, record=record)
        for record in (signers.record(made), Record())
    )
    assert with_ == without


# ---- findings that need a person -------------------------------------------------------------------------------------


def test_a_finding_is_accepted_where_a_signed_statement_covers_it_by_name(builder: ModuleType) -> None:
    changed = {"domain.from_data": builder.declared("site")}
    evidence = builder.internal(changed)
    record = signers.record(signers.signed(evidence, signers.policy()))
    verdict = judged(builder, record, changed=changed)
    assert verdict.state == "pass"
    rule = found(verdict, "domain.source")
    assert rule.state == "accepted"
    assert "read off the data" in rule.message
    assert "Approved by A. Lee" in rule.message


def test_a_finding_that_nobody_covers_stays(builder: ModuleType) -> None:
    changed = {"implementation.floating_point": builder.declared(True)}
    evidence = builder.internal(changed)
    record = signers.record(signers.signed(evidence, signers.policy()))
    verdict = judged(builder, record, changed=changed)
    assert [rule.id for rule in verdict.open] == ["implementation.exact_noise"]


def test_all_who_cover_a_finding_have_to_approve(builder: ModuleType) -> None:
    policy = signers.policy(signers.ASKS, signers.human("officer", "advice", OFFICER, covers=("domain.source",)))
    changed = {"domain.from_data": builder.declared("site")}
    one = signers.signed(builder.internal(changed), policy)
    verdict = judged(builder, signers.record(one), changed=changed, policy=policy)
    assert {rule.id for rule in verdict.open} == {"domain.source", "human.officer.advice"}


def test_a_lifetime_figure_that_cannot_exist_can_be_covered_by_its_rule(builder: ModuleType) -> None:
    lost = {
        "ledger.imports_not_dp": builder.ledger_fact(1),
        "risk.tpr_at_fpr": type(builder.formula(0.1))(None, "P1", "s", missing="an earlier release was not DP"),
    }
    rule = signers.RULES.replace("utility.tv1", "risk.tpr_at_fpr")
    names = ("ledger.all_dp", "risk.tpr_at_fpr")
    for covers, state in ((names, "pass"), (names[:1], "needs_human")):
        asks = signers.human("controller", "release-decision", CONTROLLER, covers=covers)
        policy = Policy.parse(signers.HEAD + rule + asks)
        record = signers.record(signers.signed(builder.internal(lost), policy))
        assert judged(builder, record, changed=lost, policy=policy).state == state


def test_what_can_be_covered_is_every_check_that_needs_a_person_but_one(builder: ModuleType) -> None:
    """Found by breaking each leaf: a check that is added has to be put on one side or the other."""
    states: dict[str, set[str]] = {}
    whole = builder.internal()
    tries = {
        "unit.entity": "row",
        "domain.basis": "missing",
        "domain.from_data": "site",
        "guarantee.unprotected_quantities": ("x",),
        "implementation.floating_point": True,
        "implementation.claimed_by": "another",
        "implementation.known_violations": ("x",),
        "release.synthesizer": "of another version",
        "ledger.imports_not_dp": 1,
        "ledger.claimed": 1,
        "ledger.floating_point": 1,
        "release.published": "no gate",
    }
    required = Policy.parse(signers.HEAD + "[ledger]\nrequired = true\n" + signers.RULES)
    tree = builder.tree()
    tree["ledger"]["amendments"] = [{"signed": builder.declared("unsigned")}]
    broken = [whole.with_leaf(path, builder.declared(value)) for path, value in tries.items()]
    for evidence in (*broken, Evidence(tree)):
        for check in CHECKS:
            for result in check(evidence, builder.TODAY, required):
                states.setdefault(result.id, set()).add(result.state)
    assert {name for name, seen in states.items() if "needs_human" in seen} == COVERABLE | {"release.gated"}


# ---- waivers ---------------------------------------------------------------------------------------------------------


def waived(
    builder: ModuleType, *attested: dict[str, Any], by: Any = OFFICE, on: date | None = None, **top: str
) -> Verdict:
    changed = builder.misled(0.2)
    policy = signers.policy(signers.waiver(**top))
    fields = {"role": "privacy-office", "statement": "waiver.utility.tv1"}
    made = [signers.signed(builder.internal(changed), policy, by, **(fields | more)) for more in attested]
    return judged(builder, signers.record(*made), changed=changed, policy=policy, on=on)


def test_a_broken_rule_with_a_waiver_needs_its_approver(builder: ModuleType) -> None:
    verdict = waived(builder)
    assert (verdict.state, verdict.exit_code) == ("needs_human", 3)
    message = found(verdict, "utility.tv1").message
    assert message == (
        "Outside the threshold. Waived until 2026-12-31: One more month. The privacy-office has not signed the waiver."
    )


def test_a_signed_waiver_is_shown_as_waived_never_as_pass(builder: ModuleType) -> None:
    verdict = waived(builder, {})
    rule = found(verdict, "utility.tv1")
    assert (verdict.state, rule.state) == ("pass", "waived")
    assert verdict.settled_by_people == (rule,)
    assert "one more month" in rule.message.lower()


@pytest.mark.parametrize(
    ("by", "attested", "on", "state"),
    [
        (STRANGER, {}, None, "needs_human"),
        (CONTROLLER, {}, None, "needs_human"),
        (OFFICE, {"decision": "reject"}, None, "needs_human"),
        (OFFICE, {"statement": "waiver.guarantee.epsilon"}, None, "needs_human"),
        (OFFICE, {"role": "controller"}, None, "needs_human"),
        (OFFICE, {"expires": date(2026, 12, 1)}, date(2026, 12, 2), "needs_human"),
        (OFFICE, {}, date(2027, 1, 1), "fail"),
        (OFFICE, {}, date(2026, 10, 31), "fail"),
    ],
)
def test_waivers_that_do_not_hold(builder: ModuleType, by: Any, attested: Any, on: Any, state: str) -> None:
    verdict = waived(builder, attested, by=by, on=on)
    assert found(verdict, "utility.tv1").state == state
    assert verdict.state in (state, "incomplete")


def test_only_what_fails_is_waived(builder: ModuleType) -> None:
    policy = signers.policy(signers.waiver())
    for changed, state in (({}, "pass"), ({"utility.tv1": None}, "incomplete")):
        made = signers.signed(
            builder.internal(changed), policy, OFFICE, role="privacy-office", statement="waiver.utility.tv1"
        )
        verdict = judged(builder, signers.record(made), changed=changed, policy=policy)
        assert found(verdict, "utility.tv1").state == state
        assert verdict.state == state


# ---- pages -----------------------------------------------------------------------------------------------------------


def pages(builder: ModuleType, record: Record, policy: Policy, evidence: Evidence) -> dict[str, str]:
    report = Report.of(policy, evidence, on=builder.TODAY, record=record)
    renderers = (to_html, to_json, to_junit, to_markdown, to_sarif)
    return {render.__name__: render(report) for render in renderers}


def test_pages_show_who_let_what_through(builder: ModuleType) -> None:
    policy = signers.policy(signers.ASKS, signers.waiver())
    evidence = builder.internal(builder.misled(0.2) | {"domain.from_data": builder.declared("site")})
    one = signers.signed(evidence, policy)
    two = signers.signed(evidence, policy, OFFICE, role="privacy-office", statement="waiver.utility.tv1", name="P. O.")
    made = pages(builder, signers.record(one, two), policy, evidence)
    assert decide(policy, evidence, stage="release", on=builder.TODAY, record=signers.record(one, two)).state == "pass"
    for name, text in made.items():
        assert "A. Lee" in text or "A&#46; Lee" in text, name
        assert "P. O." in text or "P&#46; O&#46;" in text, name
    for name in ("to_html", "to_markdown", "to_json"):
        assert CONTROLLER.public.fingerprint in made[name], name
    for name in ("to_html", "to_markdown"):
        assert "together with what people signed" in made[name]
        assert "Let through by signature" in made[name]
        assert "Every rule was checked against evidence, and holds" not in made[name]
    suite = ET.fromstring(made["to_junit"]).find("testsuite")
    assert suite is not None
    assert int(suite.get("skipped") or 0) == len(suite.findall("testcase/skipped")) == 3
    results = json.loads(made["to_sarif"])["runs"][0]["results"]
    assert [result["ruleId"] for result in results] == ["utility.tv1", HUMAN, "domain.source"]
    assert all(result["suppressions"][0]["status"] == "accepted" for result in results)
    human = json.loads(made["to_json"])["policy"]
    assert human["human"][0]["covers"] == ["domain.source", "unit.person"]
    assert human["waivers"][0]["rule"] == "utility.tv1"


def test_nothing_is_filled_in_before_somebody_signs(builder: ModuleType) -> None:
    text = pages(builder, Record(), signers.policy(), builder.internal())["to_html"]
    assert "No decision signed with a key is recorded" in text
    assert "Empty until signed" in text
    assert "Signed statements that the policy asks for: 0 of 1." in text


@pytest.mark.parametrize(
    "name", ['<script>alert("x")</script>', "a|b `c` [d](javascript:x)", "=cmd|'/C calc'!A0", "x" * 200]
)
def test_hostile_names_do_no_harm(builder: ModuleType, name: str) -> None:
    evidence = builder.internal()
    made = signers.signed(evidence, signers.policy(), name=name, organisation=name)
    found_ = pages(builder, signers.record(made), signers.policy(), evidence)
    assert "<script" not in found_["to_html"] + found_["to_markdown"] + found_["to_junit"]
    assert "](javascript" not in found_["to_markdown"]
    lines = [line for line in found_["to_markdown"].splitlines() if line.startswith("| ") and "release" in line]
    assert lines
    json.loads(found_["to_sarif"])


def test_the_same_signatures_give_the_same_bytes(builder: ModuleType) -> None:
    evidence, policy = builder.internal(), signers.policy()
    record = signers.record(signers.signed(evidence, policy))
    assert pages(builder, record, policy, evidence) == pages(builder, record, policy, evidence)
