"""Every policy that ships: its rules read what exists, its numbers are computed, and somebody can keep them."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest

from dpsynth import Cap, Cost, advantage_bound, tpr_bound
from reports import Evidence, Leaf, Policy, decide
from reports.allowance import DELTAS, allowance, table
from reports.paths import CHARGED_ATTACKS, PATHS, REVIEW_ATTACKS, SHAREABLE, declared
from reports.policy import ANNEXES, shipped
from reports.render.numbers import hundred

ROOT = Path(__file__).parents[3]
NAMES = ("gdpr-controlled", "hipaa-expert", "internal-test", "open-data")


def test_these_policies_ship() -> None:
    assert shipped() == NAMES


@pytest.mark.parametrize("name", NAMES)
class TestEveryPolicy:
    def test_its_rules_read_what_exists_and_fit_their_stage(self, name: str) -> None:
        for rule in Policy.load(name).rules:
            known = declared(rule.evidence)
            assert known is not None
            assert (known.classes <= SHAREABLE) == (rule.stage == "release")
            assert len(rule.reason.split()) >= 6, rule.id
            assert rule.reason.endswith("."), rule.id

    def test_it_asks_for_what_a_release_must_show(self, name: str) -> None:
        policy = Policy.load(name)
        asked = {rule.evidence for rule in policy.rules}
        assert {
            "guarantee.definition",
            "guarantee.unit",
            "guarantee.epsilon",
            "guarantee.delta",
            "risk.tpr_at_fpr",
            "ledger.verified",
            "ledger.remaining",
            "disclosure.edition_ok",
        } <= asked
        assert {f"attacks.{attack}.excess" for attack in CHARGED_ATTACKS} <= asked
        assert {f"review.{attack}.excess" for attack in REVIEW_ATTACKS} <= asked
        assert set(policy.annexes) <= set(ANNEXES)
        assert not policy.waivers.allowed
        assert policy.ledger.required == (name != "internal-test")
        assert not policy.ledger.id
        if name != "internal-test":
            assert policy.human
            assert policy.annexes
            assert "deid_scan.direct" in asked

    def test_the_numbers_in_its_reasons_are_true(self, name: str) -> None:
        """Each figure that a reason quotes follows from the threshold beside it."""
        policy = Policy.load(name)
        quoted = 0
        for rule in policy.stage("release"):
            limit = rule.threshold if isinstance(rule.threshold, int | float) else 0.0
            if found := re.search(r"lifetime limit of epsilon ([\d.]+) or less at delta ([\d.e-]+)\.", rule.reason):
                assert detected(found[1], found[2]) <= limit
                assert detected(str(Fraction(found[1]) + Fraction("0.1")), found[2]) > limit, "and not much less"
                quoted += 1
            if found := re.search(
                r"With delta ([\d.e-]+) .* finds a (?:person|patient) at most ([\d.]+) times", rule.reason
            ):
                assert found[2] == hundred(tpr_bound(Cap.of(str(limit), found[1]).cost, 0.01))
                quoted += 1
            if found := re.search(
                r"be right about a patient (\d+) times .* right at most (\d+) times|"
                r"be right (\d+) times in 100 without .* right at most (\d+) times",
                rule.reason,
            ):
                baseline, most = (int(number) for number in found.groups() if number)
                assert most - 1 < 100 * tpr_bound(Cost.zcdp(largest_rho(limit)), baseline / 100) <= most
                quoted += 1
        assert quoted == (0 if name == "internal-test" else 2 if name == "open-data" else 3)

    def test_some_budget_keeps_it(self, name: str) -> None:
        policy = Policy.load(name)
        found = [allowed for delta in DELTAS if (allowed := allowance(policy, delta)) is not None]
        assert found
        for allowed in found:
            assert 0 < allowed.release <= allowed.lifetime
            beyond = str(allowed.lifetime + Fraction("0.01"))
            limit = next(rule.threshold for rule in policy.rules if rule.evidence == "risk.tpr_at_fpr")
            assert allowed.detected <= limit < detected(beyond, allowed.delta)  # type: ignore[operator]

    def test_a_release_within_its_numbers_lacks_signatures_only(self, builder: ModuleType, name: str) -> None:
        """The evidence of a release that keeps to the budget has nothing left but what people have to sign."""
        policy = Policy.load(name)
        allowed = next(a for delta in reversed(DELTAS) if (a := allowance(policy, delta)) is not None)
        evidence = within(builder, allowed.release, allowed.lifetime, allowed.delta)
        if name == "open-data":  # whose attacks have to be narrower than the builder's
            for attack in CHARGED_ATTACKS:
                control = evidence.value(f"attacks.{attack}.control_rate")
                evidence = evidence.with_leaf(f"attacks.{attack}.fit_rate", builder.charged(control + 0.003, 0.03))
                evidence = evidence.with_leaf(f"attacks.{attack}.excess", builder.charged(0.003, 0.03))
        verdict = decide(policy, evidence, stage="release", on=builder.TODAY)
        asked = [(f"human.{human.role}.{human.statement}", "needs_human") for human in policy.human]
        asked += [("ledger.pinned", "needs_human")] if policy.ledger.required else []
        assert [(rule.id, rule.state) for rule in verdict.open] == asked
        review = decide(policy, evidence, stage="review", on=builder.TODAY)
        assert {rule.state for rule in review.rules} <= {"pass", "not_applicable", "incomplete"}


def detected(epsilon: str, delta: str) -> float:
    cap = Cap.of(epsilon, delta)
    return tpr_bound(cap.lifetime(Cost.zcdp(cap.cost.rho, delta0=cap.delta0)), 0.01)


def largest_rho(limit: float) -> Fraction:
    """The largest rho, in steps of 1e-5, whose detection at 1 false alarm in 100 is within a limit."""
    low, high = 0, 100_000
    while low < high:
        middle = (low + high + 1) // 2
        fits = tpr_bound(Cost.zcdp(Fraction(middle, 100_000)), 0.01) <= limit
        low, high = (middle, high) if fits else (low, middle - 1)
    return Fraction(low, 100_000)


def within(builder: ModuleType, epsilon: Fraction, lifetime: Fraction, delta: str) -> Evidence:
    """The builder's release at another budget, with every figure that follows from it."""
    cost = Cap.of(epsilon, delta).cost
    cap = Cap.of(lifetime, delta)
    whole = cap.lifetime(cost)
    tree = builder.tree()
    tree["guarantee"] |= {
        "rho": builder.formula(float(cost.rho) * (1 + 1e-12)),
        "epsilon": builder.formula(float(epsilon)),
        "delta": builder.declared(float(Fraction(delta))),
        "profile": [{"epsilon": builder.formula(float(epsilon)), "delta": builder.declared(float(Fraction(delta)))}],
        "shares": [{"purpose": builder.declared("all"), "rho": builder.formula(float(cost.rho))}],
    }
    tree["ledger"] |= {
        "cap_epsilon": builder.ledger_fact(float(lifetime)),
        "cap_delta": builder.ledger_fact(float(Fraction(delta))),
        "spent_epsilon": builder.formula(float(epsilon)),
        "remaining": builder.formula(0.0),
    }
    for row in tree["risk"]["table"]:
        row["release"] = builder.formula(tpr_bound(cost, row["fpr"].value))
        row["cumulative"] = builder.formula(tpr_bound(whole, row["fpr"].value))
    for row in tree["risk"]["success"]:
        row["bound"] = builder.formula(tpr_bound(cost, row["baseline"].value))
    for attack in tree["attacks"].values():
        attack["bound"] = builder.charged(tpr_bound(cost, min(1.0, attack["control_rate"].high)))
    tree["risk"]["tpr_at_fpr"] = builder.formula(tpr_bound(whole, 0.01))
    tree["risk"]["advantage"] = builder.formula(advantage_bound(whole))
    return Evidence(tree).with_disclosure()


def test_the_table_of_the_documents_is_the_computed_one() -> None:
    text = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- python -m reports\.allowance -->\n(.*?)\n\n", text, re.DOTALL)
    assert shown is not None
    assert shown[1] + "\n" == table()


def test_a_policy_without_a_threshold_says_so() -> None:
    """No rule on delta or on detection is no limit: the search ends at its own end, and not at a number."""
    head = 'schema = "dpsynth.policy/1"\nname = "p"\nversion = "1"\nreason = "r"\n'
    free = Policy.parse(
        head + '[[rule]]\nid = "a"\nevidence = "ledger.verified"\nstage = "release"\nequals = true\nreason = "r"\n'
    )
    found = allowance(free, "1e-6")
    assert found is not None
    assert found.release == found.lifetime == 20


def test_the_evidence_of_a_pattern_fails_the_policies_that_ask(builder: ModuleType) -> None:
    evidence = builder.internal({"deid_scan.direct": Leaf(1, "P1", "patterns")})
    for name in NAMES:
        verdict = decide(Policy.load(name), evidence, stage="release", on=builder.TODAY)
        states = {rule.id: rule.state for rule in verdict.rules}
        assert states.get("deid_scan.direct") == (None if name == "internal-test" else "fail")
    assert PATHS["deid_scan.direct"].classes == {"P0", "P1"}
