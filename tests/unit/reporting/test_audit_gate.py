"""The gate on audits of the program: a contradiction is never lifted, and what is damaged never looks like a pass."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from signers import CONTROLLER, OFFICE, human, policy, record, signed, waiver

from attacks.intervals import clopper_pearson
from dpsynth.errors import UsageError
from reports import Evidence, Leaf, Verdict, decide
from reports.agreement import contradictions
from reports.policy import COVERABLE

RULE = '\n[[rule]]\nid = "audited"\nevidence = "{path}"\nstage = "release"\n{ask}\nreason = "x"\n'


def evidence(builder: ModuleType, changed: dict[str, Any] | None = None, **item: Any) -> Evidence:
    found: Evidence = builder.with_audit(changed, **item)
    return found.with_disclosure().shareable()


def states(verdict: Verdict) -> dict[str, str]:
    return {rule.id: rule.state for rule in verdict.rules}


def judged(builder: ModuleType, found: Evidence, *rules: str, **more: Any) -> Verdict:
    return decide(policy(*rules), found, stage="release", on=builder.TODAY, **more)


def test_an_audit_that_found_nothing_passes_and_proves_nothing(builder: ModuleType) -> None:
    verdict = builder.release_verdict(evidence(builder))
    assert verdict.state == "pass"
    found = {rule.id: rule for rule in verdict.rules}
    assert found["audit.not_contradicted"].state == found["audit.selftest"].state == "pass"
    assert "not contradict" in found["audit.not_contradicted"].message
    assert not any("verified" in rule.message for rule in verdict.rules if rule.id.startswith("audit."))


def test_without_an_audit_nothing_is_said_of_one(builder: ModuleType) -> None:
    verdict = builder.release_verdict(builder.internal())
    assert verdict.state == "pass"
    assert not {"audit.not_contradicted", "audit.selftest"} & states(verdict).keys()


CONTRADICTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a bound above the claim": ({}, {"low": 1.4, "status": "fail"}),
    "only the curve": ({}, {"low": 0.4, "status": "fail"}),
    "in one run": ({"audit.items[3].status": "fail", "audit.verdict": "fail"}, {}),
}


@pytest.mark.parametrize("how", CONTRADICTED)
def test_a_contradicted_audit_fails_whatever_anyone_signs(builder: ModuleType, how: str) -> None:
    """A waiver lets the policy's own rule through, and never the check; `--allow` is for what needs a person."""
    changed, item = CONTRADICTED[how]
    found = evidence(builder, changed, **item)
    rules = (
        RULE.format(path="audit.verdict", ask='equals = "pass"'),
        human("controller", "release-decision", CONTROLLER, covers=("implementation.exact_noise",)),
        waiver("audited"),
    )
    office = signed(found, policy(*rules), OFFICE, role="privacy-office", statement="waiver.audited")
    verdict = judged(builder, found, *rules, record=record(signed(found, policy(*rules)), office))
    assert (verdict.state, states(verdict)["audit.not_contradicted"]) == ("fail", "fail")
    assert states(verdict)["audited"] == "waived"
    assert verdict.exit_code_allowing({"needs_human"}) == 1
    assert not any(id.startswith("audit.") for id in COVERABLE)
    with pytest.raises(UsageError, match="no person's decision can cover"):
        policy(human("controller", "release-decision", CONTROLLER, covers=("audit.not_contradicted",)))


def test_a_rule_about_the_bound_is_never_waived() -> None:
    with pytest.raises(UsageError, match="never waived"):
        policy(RULE.format(path="audit.epsilon_lower_bound", ask="at_most = 1.0"), waiver("audited"))


def test_a_contradiction_stays_when_the_audit_s_own_claim_is_lost_or_larger(builder: ModuleType) -> None:
    for claim in (None, 5.0):
        found = evidence(builder, {"audit.claim_epsilon": claim, "audit.verdict": "pass"}, low=1.4, status="pass")
        verdict = builder.release_verdict(found)
        assert states(verdict)["audit.not_contradicted"] == "fail"
        assert verdict.state in ("fail", "integrity")


def test_an_incomplete_audit_is_said_and_stands_in_nobody_s_way(builder: ModuleType) -> None:
    verdict = builder.release_verdict(evidence(builder, status="incomplete"))
    found = next(rule for rule in verdict.rules if rule.id == "audit.not_contradicted")
    assert (verdict.state, found.state) == ("pass", "not_applicable")
    assert "incomplete" in found.message


def test_a_policy_can_require_an_audit(builder: ModuleType) -> None:
    """Without one, or with one that could not have told, its rule is incomplete."""
    bound = RULE.format(path="audit.epsilon_lower_bound", ask="at_most = 1.0")
    assert states(judged(builder, evidence(builder), bound))["audited"] == "pass"
    for found in (
        builder.shareable(),
        evidence(builder, status="incomplete"),
        evidence(builder, {"audit.powered": None}),
    ):
        verdict = judged(builder, found, bound)
        assert states(verdict)["audited"] == "incomplete"
        assert verdict.state != "pass"
    strict = RULE.format(path="audit.epsilon_lower_bound", ask="at_most = 0.3")
    assert states(judged(builder, evidence(builder), strict))["audited"] == "fail"
    verdict = judged(builder, evidence(builder), RULE.format(path="audit.verdict", ask='equals = "pass"'))
    assert states(verdict)["audited"] == "pass"


def test_a_policy_can_require_a_self_test(builder: ModuleType) -> None:
    alarms = RULE.format(path="audit.selftest.false_alarms", ask="at_most = {}")
    assert states(judged(builder, evidence(builder), alarms.format(0.2)))["audited"] == "pass"
    assert (
        states(judged(builder, evidence(builder), alarms.format(0.05)))["audited"] == "incomplete"
    )  # 1 in 40: up to 13 %
    assert states(judged(builder, evidence(builder), alarms.format(0.02)))["audited"] == "fail"
    assert states(judged(builder, builder.shareable(), alarms.format(0.2)))["audited"] == "incomplete"


DAMAGED: dict[str, dict[str, Any]] = {
    "no claim": {"audit.claim_epsilon": None},
    "no bound": {"audit.epsilon_lower_bound": None},
    "no verdict": {"audit.verdict": None},
    "another word": {"audit.verdict": "verified"},
    "no status": {"audit.items[1].status": None},
    "another status": {"audit.items[1].status": "fine"},
    "no end": {"audit.items[1].low": None},
    "no ceiling": {"audit.items[0].ceiling": None},
    "no confidence": {"audit.items[2].confidence": None},
    "no fits": {"audit.fits": None},
    "no synthesizer": {"audit.synthesizer": None},
    "no day": {"audit.made_on": None},
}


@pytest.mark.parametrize("how", DAMAGED)
def test_a_damaged_audit_is_incomplete(builder: ModuleType, how: str) -> None:
    verdict = builder.release_verdict(evidence(builder, DAMAGED[how]))
    assert states(verdict)["audit.not_contradicted"] == "incomplete"
    assert verdict.state == ("integrity" if how == "another word" else "incomplete")


LYING: dict[str, dict[str, Any]] = {
    "a bound above the claim that passes": {"audit.items[0].low": 1.4, "audit.epsilon_lower_bound": 1.4},
    "a smaller bound": {"audit.epsilon_lower_bound": 0.1},
    "more than can be shown": {
        "audit.items[0].low": 0.9,
        "audit.epsilon_lower_bound": 0.9,
        "audit.items[0].ceiling": 0.5,
    },
    "another synthesizer": {"audit.synthesizer": "aim"},
    "another epsilon": {"audit.claim_epsilon": 4.0},
    "another delta": {"audit.claim_delta": 1e-3},
    "another version": {"audit.version": "0.0.9"},
    "another schema than the self-test": {"audit.selftest.schema": "cd" * 32},
    "a verdict that the items do not bear out": {"audit.items[0].status": "incomplete"},
    "power that the items do not bear out": {"audit.powered": False},
    "a verdict of one's own": {"audit.verdict": "incomplete"},
    "more fits": {"audit.fits": 20_000},
    "after the release": {"audit.made_on": "2026-11-25"},
    "a rate": {"audit.selftest.leaks[1].seen": 3},
    "a factor's runs": {"audit.selftest.mechanisms[0].runs": 40},
    "a self-test that saw nothing": {"audit.selftest.verdict": "fail"},
    "a leak that was not seen": {"audit.selftest.leaks[0].status": "pass"},
}


@pytest.mark.parametrize("how", LYING)
def test_an_audit_that_contradicts_itself_or_the_release_is_an_integrity_failure(builder: ModuleType, how: str) -> None:
    verdict = builder.release_verdict(evidence(builder, LYING[how]))
    assert states(verdict)["evidence.consistent"] == "integrity"
    assert verdict.state == "integrity"


@pytest.mark.parametrize("item", [0, 1, 2, 3])
def test_an_item_that_was_cut_out_is_noticed(builder: ModuleType, item: int) -> None:
    """Another attacker of the same game is left, so the fits of the games still add up."""
    tree = builder.audited(builder.tree())
    del tree["audit"]["items"][item]
    verdict = builder.release_verdict(Evidence(tree).with_disclosure().shareable())
    assert states(verdict)["evidence.consistent"] == "integrity"


def test_the_self_test_is_judged_by_itself(builder: ModuleType) -> None:
    alone = builder.tree()
    alone["audit"] = {"selftest": builder.audited(builder.tree())["audit"]["selftest"]}
    verdict = builder.release_verdict(Evidence(alone).with_disclosure())
    assert "audit.not_contradicted" not in states(verdict)
    for value, state in (("pass", "pass"), ("incomplete", "not_applicable"), ("fail", "fail"), (None, "incomplete")):
        verdict = builder.release_verdict(evidence(builder, {"audit.selftest.verdict": value}))
        assert states(verdict)["audit.selftest"] == state
        assert verdict.state == ("integrity" if value == "fail" else state if state != "not_applicable" else "pass")
    for path in ("false_alarms", "rows", "leaks[0].rate", "persons_fit"):
        verdict = builder.release_verdict(evidence(builder, {f"audit.selftest.{path}": None}))
        assert states(verdict)["audit.selftest"] == "incomplete", path


def test_an_interval_of_the_self_test_is_recomputed(builder: ModuleType) -> None:
    found = evidence(builder)
    rate = found.get("audit.selftest.leaks[1].rate")
    for low, high in ((0.99, 1.0), (0.0, 1.0)):
        shown = Evidence(found.tree).with_leaf("audit.selftest.leaks[1].rate", replace(rate, low=low, high=high))
        assert states(builder.release_verdict(shown))["evidence.consistent"] == "integrity"
    alarms = clopper_pearson(20, 40, confidence=0.95)
    many = Leaf(0.5, "P0", "x", low=alarms.low, high=alarms.high, confidence=0.95, n=40)
    for path in ("audit.selftest.false_alarms", "audit.selftest.mechanisms[0].rate", "audit.selftest.leaks[1].rate"):
        shown = Evidence(found.tree).with_leaf(path, many)
        assert builder.release_verdict(shown).state == "integrity", path


def test_false_alarms_without_an_interval_are_incomplete(builder: ModuleType) -> None:
    bare = Leaf(0.0, "P0", "x", n=40)
    found = Evidence(builder.audited(builder.tree())).with_leaf("audit.selftest.false_alarms", bare).with_disclosure()
    assert states(builder.release_verdict(found))["audit.selftest"] == "incomplete"


def test_no_number_of_real_rows_can_stand_there(builder: ModuleType) -> None:
    for cls in ("P1", "P3"):
        found = Evidence(builder.audited(builder.tree()))
        leaf = Leaf(0.5, cls, "x")
        verdict = builder.release_verdict(found.with_leaf("audit.epsilon_lower_bound", leaf))
        assert verdict.state == "integrity"


def test_the_schema_that_was_audited_is_compared_with_the_file(builder: ModuleType) -> None:
    schema = builder.schema()

    def told(found: Evidence) -> list[str]:
        return [
            text for text in contradictions(found, schema=schema, manifest=builder.manifest(found)) if "audited" in text
        ]

    paths = {"audit.schema": schema.digest, "audit.selftest.schema": schema.digest}
    assert told(evidence(builder, paths)) == []
    assert len(told(evidence(builder))) == 1
