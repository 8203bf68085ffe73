"""What the gate decides: each state, each check that is code, and the classes."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from types import ModuleType
from typing import Any

import pytest

from dpsynth.errors import IntegrityError, UsageError
from reports import Evidence, Leaf, Policy, Report, RuleResult, Verdict, decide
from reports.gate.checks import CHECKS
from reports.gate.rules import judge
from reports.gate.verdict import EXIT_CODES, WORST_FIRST
from reports.policy import Rule

HEAD = 'schema = "dpsynth.policy/1"\nname = "p"\nversion = "1"\nreason = "because"\n'


def one(**changes: Any) -> Rule:
    keys: dict[str, Any] = {
        "id": "r",
        "evidence": "attacks.membership.excess",
        "stage": "release",
        "op": "at_most",
        "threshold": 0.10,
        "side": None,
        "reason": "why",
    }
    return Rule(**(keys | changes))


def found(verdict: Verdict, rule_id: str) -> RuleResult:
    return next(rule for rule in verdict.rules if rule.id == rule_id)


def test_the_good_release_passes(builder: ModuleType) -> None:
    verdict = builder.release_verdict(builder.internal())
    assert (verdict.state, verdict.exit_code, verdict.open) == ("pass", 0, ())
    review = builder.review_verdict(builder.internal())
    assert (review.state, review.exit_code) == ("pass", 0)
    assert found(review, "review.nearest_record").state == "not_applicable"


def test_both_editions_give_the_same_release_verdict(builder: ModuleType) -> None:
    assert builder.release_verdict(builder.internal()) == builder.release_verdict(builder.shareable())


def test_states_and_exit_codes_are_those_of_the_contract() -> None:
    assert EXIT_CODES == {"pass": 0, "fail": 1, "needs_human": 3, "incomplete": 4, "integrity": 5}
    assert WORST_FIRST == ("integrity", "fail", "incomplete", "needs_human", "pass")


@pytest.mark.parametrize(
    ("value", "low", "high", "side", "state"),
    [
        (0.02, -0.03, 0.07, None, "pass"),
        (0.02, -0.03, 0.07, "high", "pass"),
        (0.05, 0.02, 0.10, None, "pass"),
        (0.05, -0.01, 0.11, None, "incomplete"),
        (0.05, -0.01, 0.11, "high", "incomplete"),
        (0.05, -0.01, 0.11, "estimate", "pass"),
        (0.12, 0.05, 0.19, None, "fail"),
        (0.12, 0.11, 0.19, None, "fail"),
        (0.12, 0.05, 0.19, "estimate", "fail"),
        (0.12, 0.05, 0.19, "low", "not_applicable"),
        (0.12, 0.11, 0.19, "low", "fail"),
        (0.05, -0.01, 0.03, None, "pass"),  # the estimate above its own interval is judged as well
        (0.12, -0.01, 0.03, None, "fail"),
        (0.12, -0.01, 0.25, None, "incomplete"),  # an excess that may well be none: too little data to tell
        (0.12, 0.0, 0.24, "high", "incomplete"),
        (0.12, -0.01, 0.25, "estimate", "fail"),
        (0.0, 0.0, 0.0, None, "incomplete"),  # no width: never measured
    ],
)
def test_which_end_of_an_interval_is_judged(
    builder: ModuleType, value: float, low: float, high: float, side: Any, state: str
) -> None:
    leaf = Leaf(value, "P2", "s", ledger_seq=(1,), low=low, high=high, confidence=0.95, n=10)
    evidence = builder.internal({"attacks.membership.excess": leaf})
    assert judge(one(side=side), evidence).state == state
    mirrored = Leaf(-value, "P2", "s", ledger_seq=(1,), low=-high, high=-low, confidence=0.95, n=10)
    evidence = builder.internal({"attacks.membership.excess": mirrored})
    other = {"high": "low", "low": "high"}.get(side, side)
    assert judge(one(op="at_least", threshold=-0.10, side=other), evidence).state == state


def test_an_end_is_not_judged_where_there_is_no_interval(builder: ModuleType) -> None:
    evidence = builder.internal({"attacks.membership.excess": Leaf(0.01, "P2", "s", ledger_seq=(1,))})
    assert judge(one(side="high"), evidence).state == "incomplete"
    assert judge(one(side="low"), evidence).state == "incomplete"
    assert judge(one(), evidence).state == "incomplete"
    assert judge(one(side="estimate"), evidence).state == "incomplete"
    plain = builder.internal({"attacks.membership.fit_rate": Leaf(0.01, "P2", "s", ledger_seq=(1,))})
    assert judge(one(evidence="attacks.membership.fit_rate"), plain).state == "pass"
    bad = builder.internal({"attacks.membership.excess": Leaf(0.3, "P2", "s", ledger_seq=(1,))})
    assert {judge(one(side=side), bad).state for side in (None, "low", "high", "estimate")} == {"fail"}


@pytest.mark.parametrize("path", ["attacks.membership.excess", "review.membership.excess"])
@pytest.mark.parametrize("side", [None, "low", "high", "estimate"])
def test_an_attack_is_judged_by_an_interval_that_says_something(builder: ModuleType, path: str, side: Any) -> None:
    old = builder.internal().get(path)
    rule = one(evidence=path, stage="review" if path.startswith("review") else "release", side=side)
    for confidence, state in ((0.9, "pass"), (0.95, "pass"), (0.899, "incomplete"), (0.01, "incomplete")):
        expected = "not_applicable" if (side, state) == ("low", "pass") else state
        assert judge(rule, builder.internal({path: replace(old, confidence=confidence)})).state == expected
    far = replace(old, value=0.4, low=0.3, high=0.5, confidence=0.5)
    assert judge(rule, builder.internal({path: far})).state == "fail"


@pytest.mark.parametrize("name", ["attacks.membership", "review.membership"])
def test_a_rule_passes_only_where_the_leaky_copy_would_have_broken_it(builder: ModuleType, name: str) -> None:
    """The check that the rule can fail: without it, a blind attack would pass everything."""
    old = builder.internal().get(f"{name}.positive_control")
    stage = "review" if name.startswith("review") else "release"

    def state(copy: Leaf | None, **changes: Any) -> str:
        evidence = builder.internal({f"{name}.positive_control": copy})
        return judge(one(evidence=f"{name}.excess", stage=stage, **changes), evidence).state

    def copied(low: float, **more: Any) -> Leaf:
        return replace(old, **({"value": low + 0.1, "low": low, "high": low + 0.2} | more))

    assert state(old) == "pass"
    weak = [
        copied(0.10),
        copied(0.05),
        copied(-0.2),
        copied(0.3, high=0.3),
        copied(0.3, confidence=0.5),
        replace(old, low=None, high=None, confidence=None),
        Leaf(None, old.cls, "s"),
        replace(old, cls="P4"),
        None,
    ]
    for leaf in weak:
        assert state(leaf) == "incomplete", leaf
        assert state(leaf, side="low") == "not_applicable", "a rule that can only fail asks for no such proof"
        assert state(leaf, side="low", threshold=-0.5) == "fail"
        assert state(leaf, threshold=-0.5) == "fail"
    assert state(copied(0.11)) == "pass"
    assert state(copied(0.11), threshold=0.12) == "incomplete"


def test_the_release_verdict_asks_for_the_leaky_copy(builder: ModuleType) -> None:
    old = builder.internal().get("attacks.attribute_inference.positive_control")
    blind = replace(old, value=0.15, low=0.08, high=0.22)
    verdict = builder.release_verdict(builder.internal({"attacks.attribute_inference.positive_control": blind}))
    assert (verdict.state, [rule.id for rule in verdict.open]) == ("incomplete", ["attacks.attribute_inference"])
    assert "leaky copy" in verdict.open[0].message


RATE = "attacks.membership.fit_rate"
BOUND = "attacks.membership.bound"


def within(builder: ModuleType, changed: dict[str, Leaf | None], policy: Policy | None = None) -> list[RuleResult]:
    verdict = decide(policy or builder.policy(), builder.internal(changed), stage="release", on=builder.TODAY)
    return [rule for rule in verdict.rules if rule.id == "attacks.within_bound"]


def test_an_attack_beyond_its_proven_ceiling_fails_under_every_policy(builder: ModuleType) -> None:
    rate, bound = builder.internal().get(RATE), builder.internal().value(BOUND)
    beyond = replace(rate, value=bound + 0.11, low=bound + 0.01, high=bound + 0.21)
    lenient = Policy.parse(
        HEAD + '[[rule]]\nid = "r"\nevidence = "ledger.attempts"\nstage = "release"\nat_most = 99\nreason = "w"\n'
    )
    excess = builder.internal().get("attacks.membership.excess")
    apart = beyond.value - builder.internal().value("attacks.membership.control_rate")
    more = {"attacks.membership.excess": replace(excess, value=apart, low=apart - 0.1, high=apart + 0.1)}
    for policy in (builder.policy(), lenient):
        (found_it,) = within(builder, {RATE: beyond, **more}, policy)
        assert (found_it.state, found_it.origin, found_it.path) == ("fail", "code", RATE)
        assert "membership" in found_it.message
        assert (
            decide(policy, builder.internal({RATE: beyond, **more}), stage="release", on=builder.TODAY).exit_code == 1
        )
        (weak,) = within(builder, {RATE: replace(beyond, confidence=0.01), **more}, policy)
        assert weak.state == "fail"
    touching = replace(rate, value=bound, low=bound, high=bound + 0.2)
    assert [rule.state for rule in within(builder, {RATE: touching})] == ["pass"]
    both = {RATE: beyond, "attacks.linkage.fit_rate": replace(beyond, value=1.0, low=0.99, high=1.0)}
    (found_both,) = within(builder, both)
    assert (found_both.state, found_both.path) == ("fail", "")
    assert "membership, linkage" in found_both.message


def test_a_rate_without_an_interval_is_incomplete_where_a_rule_reads_the_attack(builder: ModuleType) -> None:
    rate, control = builder.internal().get(RATE), builder.internal().get("attacks.membership.control_rate")
    bare = replace(rate, low=None, high=None, confidence=None)
    lenient = Policy.parse(
        HEAD
        + '[[rule]]\nid = "r"\nevidence = "attacks.linkage.excess"\nstage = "release"\nat_most = 0.1\nreason = "w"\n'
    )
    for leaf in (bare, replace(rate, confidence=0.5), replace(rate, low=rate.high), None):
        assert [rule.state for rule in within(builder, {RATE: leaf})] == ["incomplete"]
        assert [rule.state for rule in within(builder, {RATE: leaf}, lenient)] == ["pass"]
    assert [rule.state for rule in within(builder, {BOUND: None})] == ["incomplete"]
    lost = Leaf(None, "P2", "s", ledger_seq=(2,), missing="the noise carried the control rate below zero")
    assert [rule.state for rule in within(builder, {BOUND: lost})] == ["incomplete"]
    below = replace(control, value=-0.02, low=-0.04, high=-0.001)
    assert [rule.state for rule in within(builder, {BOUND: lost, "attacks.membership.control_rate": below})] == ["pass"]
    nothing = {path: None for path, _ in builder.internal().leaves() if path.startswith("attacks.")}
    assert within(builder, nothing) == []


def test_figures_better_than_rho_implies_are_an_integrity_failure(builder: ModuleType) -> None:
    """Each is recomputed: the value itself passes, a little slack for printing passes, a better value does not."""
    tried = 0
    for path, leaf in builder.internal().leaves():
        table, _, field = path.rpartition(".")
        row = table.partition("[")[0]
        if (row, field) not in {
            ("guarantee", "epsilon"),
            ("guarantee.profile", "epsilon"),
            ("risk", "tpr_at_fpr"),
            ("risk", "advantage"),
            ("risk.table", "release"),
            ("risk.success", "bound"),
        } and path not in ("ledger.spent_epsilon", BOUND):
            continue
        tried += 1
        for factor, state in ((1.0, "pass"), (1 - 1e-7, "pass"), (0.3, "integrity")):
            verdict = builder.release_verdict(builder.internal({path: replace(leaf, value=leaf.value * factor)}))
            if factor == 0.3 and path in (
                "risk.tpr_at_fpr",
                BOUND,
            ):  # above what it must be: the lifetime, the upper end
                continue
            assert verdict.state == state, (path, factor)
    assert tried == 4 + 4 + 4 + 5


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("risk.tpr_at_fpr", 0.012, "risk.tpr_at_fpr is smaller"),
        ("attacks.linkage.bound", 0.05, "attacks.linkage.bound is smaller"),
        ("risk.table[1].cumulative", 0.01, "risk.table is smaller over the lifetime"),
        ("guarantee.profile[0].delta", 1.5, "guarantee.profile cannot be computed"),
        ("guarantee.delta", 2.0, "guarantee.epsilon cannot be computed"),
        ("ledger.spent_before_epsilon", 1.0, "did not grow"),
        ("ledger.remaining", 2.1, "larger than the limit"),
        ("ledger.cap_epsilon", 0.9, "although the limit is passed"),
    ],
)
def test_figures_that_contradict_one_another(builder: ModuleType, path: str, value: float, words: str) -> None:
    leaf = replace(builder.internal().get(path), value=value)
    verdict = builder.release_verdict(builder.internal({path: leaf}))
    assert verdict.exit_code == 5
    assert re.search(words, found(verdict, "evidence.consistent").message)


def test_an_import_may_pass_the_limit_when_nothing_remains(builder: ModuleType) -> None:
    changed = {
        "ledger.spent_before_epsilon": builder.formula(2.1),
        "ledger.spent_epsilon": builder.formula(2.4),
        "ledger.remaining": builder.formula(-0.4),
    }
    verdict = builder.release_verdict(builder.internal(changed))
    assert (verdict.state, [rule.id for rule in verdict.open]) == ("fail", ["ledger.remaining"])


def test_an_estimate_outside_its_interval_is_an_integrity_failure(builder: ModuleType) -> None:
    for path, low, high in (
        ("attacks.linkage.excess", 0.0, 0.05),
        ("attacks.linkage.positive_control", 0.2, 0.8),
        (RATE, 0.0, 0.1),
    ):
        leaf = replace(builder.internal().get(path), low=low, high=high)
        verdict = builder.release_verdict(builder.internal({path: leaf}))
        assert found(verdict, "evidence.consistent").message.endswith(f"{path} lies outside its own interval.")
    noisy = builder.internal().get("attacks.linkage.control_rate")
    cut = replace(noisy, value=-0.01, low=0.0, high=0.02)  # the ends were cut to what a rate can be
    excess = builder.internal().get("attacks.linkage.excess")
    apart = builder.internal().value("attacks.linkage.fit_rate") + 0.01
    same = {"attacks.linkage.excess": replace(excess, value=apart, low=apart - 0.1, high=apart + 0.1)}
    verdict = builder.release_verdict(builder.internal({"attacks.linkage.control_rate": cut, **same}))
    assert found(verdict, "evidence.consistent").state == "pass"


def test_rho_is_needed_under_every_definition(builder: ModuleType) -> None:
    for definition in ("zCDP", "Renyi DP", "approximate DP"):
        evidence = builder.internal({"guarantee.definition": builder.declared(definition), "guarantee.rho": None})
        assert found(builder.release_verdict(evidence), "evidence.complete").state == "incomplete"
    other = builder.release_verdict(builder.internal({"guarantee.definition": builder.declared("approximate DP")}))
    assert found(other, "evidence.consistent").state == "integrity"  # what else was spent has to be stated, as a curve


@pytest.mark.parametrize(
    ("section", "table"), [("guarantee", "profile"), ("guarantee", "shares"), ("risk", "table"), ("risk", "success")]
)
def test_a_table_that_a_page_needs_is_not_empty(builder: ModuleType, section: str, table: str) -> None:
    for empty in (True, False):
        tree = builder.tree()
        if empty:
            tree[section][table] = []
        else:
            del tree[section][table]
        verdict = builder.release_verdict(Evidence(tree).with_disclosure())
        assert [rule.id for rule in verdict.open] == ["evidence.complete"]
        assert f"{section}.{table}[]" in verdict.open[0].message


def test_the_lifetime_table_may_be_gone_when_no_lifetime_bound_exists(builder: ModuleType) -> None:
    tree = builder.tree()
    del tree["risk"]["table"], tree["risk"]["advantage"]
    tree["ledger"]["imports_not_dp"] = Leaf(1, "P0", "s")
    missing = Leaf(None, "P0", "s", missing="an earlier release without differential privacy has no epsilon")
    tree["risk"]["tpr_at_fpr"] = missing
    tree["ledger"]["spent_epsilon"] = tree["ledger"]["spent_before_epsilon"] = missing
    assert builder.release_verdict(Evidence(tree).with_disclosure()).state == "needs_human"


def test_a_fail_only_rule_alone_never_passes(builder: ModuleType) -> None:
    text = '[[rule]]\nid = "r"\nevidence = "review.nearest_record.excess"\nstage = "review"\nside = "low"\nat_most = 0.02\nreason = "w"\n'
    verdict = decide(Policy.parse(HEAD + text), builder.internal(), stage="review", on=builder.TODAY)
    assert [rule.state for rule in verdict.rules if rule.origin == "policy"] == ["not_applicable"]
    assert verdict.state == "incomplete"


def test_a_policy_without_rules_of_the_stage_never_passes(builder: ModuleType) -> None:
    text = '[[rule]]\nid = "r"\nevidence = "guarantee.epsilon"\nstage = "release"\nat_most = 2\nreason = "w"\n'
    policy = Policy.parse(HEAD + text)
    assert decide(policy, builder.internal(), stage="release", on=builder.TODAY).state == "pass"
    assert decide(policy, builder.internal(), stage="review", on=builder.TODAY).state == "incomplete"


@pytest.mark.parametrize(
    ("op", "threshold", "path", "value", "state"),
    [
        ("equals", True, "ledger.verified", True, "pass"),
        ("equals", True, "ledger.verified", False, "fail"),
        ("equals", 1, "ledger.attempts", 1, "pass"),
        ("equals", 2, "ledger.attempts", 1, "fail"),
        ("one_of", ("person",), "guarantee.unit", "person", "pass"),
        ("one_of", ("person",), "guarantee.unit", "persons", "fail"),
        ("one_of", ("person",), "guarantee.unit", "p", "fail"),
        ("at_most", 5, "ledger.attempts", 5, "pass"),
        ("at_most", 5, "ledger.attempts", 6, "fail"),
        ("at_least", 0, "ledger.remaining", -0.1, "fail"),
        ("at_least", 0, "ledger.remaining", 0.0, "pass"),
    ],
)
def test_each_comparison(builder: ModuleType, op: str, threshold: Any, path: str, value: Any, state: str) -> None:
    cls = builder.internal().get(path).cls
    evidence = builder.internal({path: Leaf(value, cls, "s")})
    assert judge(one(op=op, threshold=threshold, evidence=path), evidence).state == state


def test_true_is_not_one(builder: ModuleType) -> None:
    evidence = builder.internal({"ledger.attempts": Leaf(True, "P0", "s")})
    assert judge(one(op="equals", threshold=1, evidence="ledger.attempts"), evidence).state == "incomplete"
    assert judge(one(op="equals", threshold=True, evidence="ledger.attempts"), builder.internal()).state == "fail"


WOUNDS: list[tuple[str, str, Any, str]] = [
    # check, path, value that must not pass, verdict
    ("ledger.integrity", "ledger.verified", False, "integrity"),
    ("unit.person", "unit.entity", "row", "needs_human"),
    ("domain.declared", "domain.basis", "missing for 1 columns: income", "needs_human"),
    ("domain.source", "domain.from_data", "site", "needs_human"),
    ("guarantee.covered", "guarantee.unprotected_quantities", ("the number of rows",), "needs_human"),
    ("implementation.exact_noise", "implementation.floating_point", True, "needs_human"),
    ("implementation.sound", "implementation.known_violations", ("seed 0",), "needs_human"),
    ("ledger.all_dp", "ledger.imports_not_dp", 1, "needs_human"),
    ("ledger.all_proven", "ledger.claimed", 1, "needs_human"),
    ("ledger.all_exact", "ledger.floating_point", 1, "needs_human"),
    ("release.gated", "release.published", "no-gate", "needs_human"),
    ("evidence.date", "review_on", "2026-11-20", "incomplete"),
    ("evidence.date", "created_at", "2026-11-23T00:00:00Z", "incomplete"),
    ("evidence.date", "created_at", "2026-11-19", "incomplete"),
    ("evidence.date", "review_on", "2027-11-23", "incomplete"),
    ("evidence.date", "review_on", "9999-12-31", "incomplete"),
    ("evidence.consistent", "guarantee.rho", 0.5, "integrity"),
    ("evidence.consistent", "guarantee.epsilon", 0.5, "integrity"),
    ("evidence.consistent", "guarantee.unit", "household", "integrity"),
    ("evidence.consistent", "risk.tpr_at_fpr", 0.01, "integrity"),
    ("evidence.consistent", "ledger.spent_epsilon", -1.0, "integrity"),
    ("evidence.consistent", "ledger.genesis", "2026-11-23", "integrity"),
    ("evidence.consistent", "ledger.raised", 1, "integrity"),
    ("evidence.consistent", "ledger.attempts", 0, "integrity"),
    ("evidence.complete", "ledger.genesis", None, "incomplete"),
    ("evidence.consistent", "columns[1].source", "data", "integrity"),
    ("evidence.complete", "limits", None, "incomplete"),
    ("evidence.complete", "columns[0].role", None, "incomplete"),
]


@pytest.mark.parametrize(("check", "path", "value", "state"), WOUNDS)
def test_checks_in_code_hold_under_every_policy(
    builder: ModuleType, check: str, path: str, value: Any, state: str
) -> None:
    changed = {path: Leaf(value, builder.internal().get(path).cls, "s")}
    if path == "unit.entity":
        changed["guarantee.unit"] = changed[path]
    lenient = Policy.parse(
        HEAD + '[[rule]]\nid = "r"\nevidence = "ledger.attempts"\nstage = "release"\nat_most = 99\nreason = "w"\n'
    )
    verdict = decide(lenient, builder.internal(changed), stage="release", on=builder.TODAY)
    assert verdict.state == state
    assert found(verdict, check).state == state
    assert found(verdict, check).origin == "code"
    also = ["implementation.learned"] if path == "columns[1].source" else []  # its domain is not said to be unprotected
    assert [rule.id for rule in verdict.open] == [check, *also]


def test_every_check_is_tried_above(builder: ModuleType) -> None:
    verdict = builder.release_verdict(builder.internal())
    ids = {rule.id for rule in verdict.rules if rule.origin == "code"}
    elsewhere = {"disclosure.edition", "attacks.within_bound", "guarantee.claimed", "ledger.amended"}
    assert len(ids) == len(CHECKS) - 6, (
        "two look only where the policy names a ledger, two at unknown recipes or new knowledge: test_agreement.py, "
        "two where there is an audit: test_audit_gate.py"
    )
    assert ids == {check for check, *_ in WOUNDS} | elsewhere


def test_evidence_that_says_it_cannot_be_shared(builder: ModuleType) -> None:
    evidence = builder.internal().with_leaf("disclosure.edition_ok", Leaf(False, "P0", "s"))
    verdict = builder.release_verdict(evidence)
    assert (verdict.state, found(verdict, "disclosure.edition").state) == ("integrity", "integrity")


def test_an_internal_leaf_at_a_shareable_path_is_an_integrity_failure(builder: ModuleType) -> None:
    for path in ("attacks.membership.excess", "guarantee.epsilon", "utility.columns[0].tv"):
        old = builder.internal().get(path)
        for cls in ("P3", "P4"):
            evidence = builder.internal({path: Leaf(old.value, cls, "s")})
            verdict = builder.release_verdict(evidence)
            assert (verdict.state, verdict.exit_code, verdict.evidence_sha256) == ("integrity", 5, "")
            with pytest.raises(IntegrityError):
                Report.of(builder.policy(), evidence, on=builder.TODAY)


def test_the_class_is_looked_at_again_when_a_leaf_is_judged(builder: ModuleType) -> None:
    """Even where nothing else looked: a rule object that no policy file could give, on evidence nobody checked."""
    evidence = Evidence({"attacks": {"membership": {"excess": Leaf(0.0, "P3", "s")}}})
    result = judge(one(), evidence)
    assert (result.state, result.estimate) == ("integrity", None)
    smuggled = judge(one(evidence="review.membership.excess"), builder.internal())
    assert (smuggled.state, smuggled.estimate, smuggled.low) == ("integrity", None, None)


def test_an_attack_without_power_never_passes(builder: ModuleType) -> None:
    for change in (Leaf(False, "P1", "s"), Leaf(None, "P1", "s"), None):
        verdict = builder.release_verdict(builder.internal({"attacks.linkage.powered": change}))
        assert (verdict.state, found(verdict, "attacks.linkage").state) == ("incomplete", "incomplete")
    for change in (Leaf(False, "P3", "s"), Leaf(None, "P3", "s"), None):
        verdict = builder.review_verdict(builder.internal({"review.linkage.detected": change}))
        assert (verdict.state, found(verdict, "review.linkage").state) == ("incomplete", "incomplete")


def test_without_a_holdout_the_attack_rules_are_incomplete(builder: ModuleType) -> None:
    tree = builder.tree()
    del tree["attacks"], tree["review"]
    evidence = Evidence(tree).with_disclosure()
    release, review = builder.release_verdict(evidence), builder.review_verdict(evidence)
    assert (release.state, release.exit_code, review.state) == ("incomplete", 4, "incomplete")
    assert {rule.id for rule in release.open} == {f"attacks.{name}" for name in builder.ATTACKS}
    assert all(rule.state == "incomplete" for rule in review.rules if rule.origin == "policy")


def test_the_review_stage_finds_nothing_in_the_shareable_edition(builder: ModuleType) -> None:
    assert builder.review_verdict(builder.shareable()).state == "incomplete"


def test_why_a_value_is_missing_is_told(builder: ModuleType) -> None:
    leaf = Leaf(None, "P2", "s", missing="the noise left too few persons")
    verdict = builder.release_verdict(builder.internal({"attacks.linkage.excess": leaf}))
    assert found(verdict, "attacks.linkage").message == "The noise left too few persons."


def test_a_non_dp_release_before_needs_a_person_and_no_number(builder: ModuleType) -> None:
    changed = {"ledger.imports_not_dp": Leaf(1, "P0", "s")}
    for path in ("risk.tpr_at_fpr", "ledger.spent_epsilon", "ledger.spent_before_epsilon"):
        changed[path] = Leaf(None, "P0", "s", missing="an earlier release without differential privacy has no epsilon")
    assert builder.release_verdict(builder.internal(changed)).state == "needs_human"
    unexplained = changed | {"risk.tpr_at_fpr": Leaf(None, "P0", "s")}
    assert builder.release_verdict(builder.internal(unexplained)).state == "incomplete"
    no_import = changed | {"ledger.imports_not_dp": Leaf(0, "P0", "s")}
    assert builder.release_verdict(builder.internal(no_import)).state == "incomplete"
    elsewhere = changed | {"guarantee.epsilon": Leaf(None, "P0", "s", missing="lost")}
    assert builder.release_verdict(builder.internal(elsewhere)).state == "incomplete"


def test_a_person_is_asked_where_the_policy_says_so(builder: ModuleType) -> None:
    text = builder.policy().text + '\n[[human]]\nrole = "controller"\nstatement = "release-decision"\n'
    verdict = decide(Policy.parse(text), builder.internal(), stage="release", on=builder.TODAY)
    assert (verdict.state, verdict.exit_code) == ("needs_human", 3)
    assert verdict.open[0].id == "human.controller.release-decision"


def test_only_needs_human_can_be_let_through(builder: ModuleType) -> None:
    human = builder.release_verdict(builder.internal({"domain.from_data": builder.declared("site")}))
    assert (human.exit_code, human.exit_code_allowing(["needs_human"])) == (3, 0)
    bad = builder.release_verdict(builder.internal({"ledger.attempts": builder.ledger_fact(99)}))
    assert (bad.exit_code, bad.exit_code_allowing(["needs_human"])) == (1, 1)
    for word in ("fail", "incomplete", "integrity", "pass", ""):
        with pytest.raises(UsageError):
            bad.exit_code_allowing([word])


def test_the_worst_state_is_the_verdict(builder: ModuleType) -> None:
    changes = [
        ("needs_human", {"domain.from_data": builder.declared("site")}),
        ("incomplete", {"attacks.linkage.excess": None}),
        ("fail", {"ledger.attempts": builder.ledger_fact(99)}),
        ("integrity", {"ledger.verified": builder.ledger_fact(False)}),
    ]
    so_far: dict[str, Any] = {}
    for state, change in changes:
        so_far |= change
        verdict = builder.release_verdict(builder.internal(so_far))
        assert verdict.state == state
        order = [WORST_FIRST.index(rule.state) for rule in verdict.open]
        assert order == sorted(order)


def test_items_hold_what_scripts_rely_on(builder: ModuleType) -> None:
    data = builder.release_verdict(builder.internal()).to_json()
    assert (data["verdict"], data["exit_code"], data["stage"]) == ("pass", 0, "release")
    keys = {"id", "class", "status", "estimate", "low", "high", "confidence", "n"}
    assert all(keys <= item.keys() for item in data["rules"])
    item = next(item for item in data["rules"] if item["id"] == "attacks.membership")
    assert (item["class"], item["status"], item["confidence"], item["n"]) == ("P2", "pass", 0.95, 5894)
    assert item["low"] < item["estimate"] < item["high"] <= 0.10


def test_the_day_matters_and_nothing_else_does(builder: ModuleType) -> None:
    evidence = builder.internal()
    assert builder.release_verdict(evidence, date(2027, 11, 21)).state == "pass"
    assert builder.release_verdict(evidence, date(2027, 11, 22)).state == "incomplete"
    assert builder.release_verdict(evidence, date(2026, 11, 20)).state == "pass"  # another time zone
    assert builder.release_verdict(evidence, date(2026, 11, 19)).state == "incomplete"
    assert builder.release_verdict(evidence).to_text() == builder.release_verdict(evidence).to_text()


# ---- a report keeps what belongs together --------------------------------------------------------------------------


def test_a_page_cannot_mix_verdict_and_evidence(builder: ModuleType) -> None:
    policy, good = builder.policy(), builder.internal()
    bad = builder.internal({"ledger.attempts": builder.ledger_fact(99)})
    review = builder.review_verdict(good)
    with pytest.raises(IntegrityError, match="not made from this evidence"):
        Report(evidence=bad.shareable(), policy=policy, verdict=builder.release_verdict(good), review=None)
    with pytest.raises(IntegrityError, match="not made from this evidence"):
        Report(evidence=good, policy=policy, verdict=review, review=review)
    with pytest.raises(IntegrityError, match="shareable report has none"):
        Report(evidence=good.shareable(), policy=policy, verdict=builder.release_verdict(good), review=review)
    with pytest.raises(IntegrityError, match="shareable report has none"):
        Report(evidence=good, policy=policy, verdict=builder.release_verdict(good), review=None)
    other = Policy.parse(policy.text + "\n# another file\n")
    with pytest.raises(IntegrityError, match="policy"):
        Report(evidence=good.shareable(), policy=other, verdict=builder.release_verdict(good), review=None)
    with pytest.raises(UsageError, match="internal evidence"):
        Report.of(policy, good.shareable(), on=builder.TODAY, edition="internal")


def claimed(builder: ModuleType, **more: Any) -> dict[str, Any]:
    tree = builder.claimed(builder.tree())
    tree["guarantee"] |= more
    return tree


def test_a_claim_stands_in_for_rho(builder: ModuleType) -> None:
    verdict = builder.release_verdict(Evidence(claimed(builder)).with_disclosure())
    for check in ("evidence.complete", "evidence.consistent", "guarantee.definition"):
        assert found(verdict, check).state == "pass", found(verdict, check).message
    assert verdict.state == "needs_human"


def test_figures_better_than_a_claim_implies_are_an_integrity_failure(builder: ModuleType) -> None:
    larger = {"epsilon": builder.declared(3.0), "delta": builder.declared(1e-8)}
    verdict = builder.release_verdict(Evidence(claimed(builder, claim=larger)).with_disclosure())
    said = found(verdict, "evidence.consistent")
    assert said.state == "integrity"
    assert "guarantee.profile is smaller than guarantee.claim implies" in said.message
    hopeless = {"epsilon": builder.declared(0.5), "delta": builder.declared(1e-5)}
    said = found(
        builder.release_verdict(Evidence(claimed(builder, claim=hopeless)).with_disclosure()), "evidence.consistent"
    )
    assert "cannot be computed from guarantee.claim" in said.message


def test_half_a_claim_is_none(builder: ModuleType) -> None:
    for half in ({"epsilon": builder.declared(0.5)}, {"delta": builder.declared(1e-8)}, {}):
        verdict = builder.release_verdict(Evidence(claimed(builder, claim=half)).with_disclosure())
        assert found(verdict, "evidence.complete").state == "incomplete"


# ---- losses that are not zCDP ---------------------------------------------------------------------------------------


def states(builder: Any, tree: dict[str, Any]) -> dict[str, str]:
    verdict = builder.release_verdict(Evidence(tree).with_disclosure())
    return {rule.id: rule.state for rule in verdict.open}


def test_a_claim_of_another_tool_always_needs_a_person(builder: Any) -> None:
    assert states(builder, claimed(builder, unprotected_quantities=builder.declared(()))) == {
        "guarantee.claimed": "needs_human"
    }


@pytest.mark.parametrize("change", ["claimed_by", "definition", "rho", "curve", "second share", "claim"])
def test_a_claim_stands_alone_and_says_whose_it_is(builder: Any, change: str) -> None:
    tree = claimed(builder)
    guarantee = tree["guarantee"]
    if change == "claimed_by":
        tree["implementation"]["claimed_by"] = builder.declared("dpsynth")
    elif change == "definition":
        guarantee["definition"] = builder.declared("zCDP")
    elif change == "rho":
        guarantee["rho"] = builder.declared(0.001)
    elif change == "curve":
        guarantee["curve"] = [{"order": builder.declared(2.0), "nano": builder.declared(1)}]
    elif change == "second share":
        guarantee["shares"] = [*guarantee["shares"], guarantee["shares"][0]]
    else:
        guarantee["claim"]["epsilon"] = builder.declared(1e10)
    assert states(builder, tree)["evidence.consistent"] == "integrity"


def test_another_s_claim_cannot_hide_behind_our_definition(builder: Any) -> None:
    tree = builder.tree()
    tree["implementation"]["claimed_by"] = builder.declared("another tool")
    assert states(builder, tree)["evidence.consistent"] == "integrity"


def test_shares_that_add_up_to_more_than_the_loss_are_noticed(builder: Any) -> None:
    """What is left when the curve of a network's loss is taken out of the evidence."""
    tree = builder.tree()
    tree["guarantee"]["shares"] = [{"purpose": builder.declared("training"), "rho": builder.declared(50.0)}]
    assert states(builder, tree)["evidence.consistent"] == "integrity"


# ---- what was discovered -------------------------------------------------------------------------------------------


def test_discovery_is_told_with_its_delta0(builder: Any) -> None:
    assert states(builder, builder.opened(builder.tree())) == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"guarantee.delta0": 0},
        {"guarantee.delta0": 8.1e-9},
        {"guarantee.delta0": 0, "guarantee.definition": "zCDP"},
        {"guarantee.delta0": 0, "guarantee.definition": "zCDP", "discovery[0].delta0": 0},
        {"guarantee.definition": "zCDP"},
        {"guarantee.definition": "zCDP and a Renyi curve"},
        {"discovery[0].column": "site"},
        {"discovery[0].delta0": 1},
        {"columns[0].source": "declared"},
        {"columns[1].source": "discover"},
        {"columns[0].name": None},
    ],
    ids=str,
)
def test_the_price_of_discovery_cannot_be_edited(builder: Any, changes: dict[str, Any]) -> None:
    """However small delta0 is: a slack for rounding would hide all of it."""
    evidence = Evidence(builder.opened(builder.tree()))
    for path, value in changes.items():
        leaf = evidence.get(path)
        assert leaf is not None
        evidence = evidence.with_leaf(path, None if value is None else replace(leaf, value=value))
    verdict = builder.release_verdict(evidence.with_disclosure())
    assert found(verdict, "evidence.consistent").state == "integrity"


def test_the_rows_of_discovery_cannot_be_taken_out(builder: Any) -> None:
    tree = builder.opened(builder.tree())
    del tree["discovery"]
    assert states(builder, tree)["evidence.consistent"] == "integrity"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("attacks.membership.excess", -0.3),  # below the difference of its rates
        ("risk.tpr_at_fpr", 0.0101),  # about this release alone, where the ledger allows more
        ("risk.advantage", 0.001),
        ("deid_scan.direct", 7),
    ],
)
def test_figures_that_follow_from_others_cannot_be_edited(builder: ModuleType, path: str, value: Any) -> None:
    leaf = builder.internal().get(path)
    edges = {"low": value - 0.1, "high": value + 0.1} if leaf.low is not None else {}
    verdict = builder.release_verdict(builder.internal({path: replace(leaf, value=value, **edges)}))
    assert found(verdict, "evidence.consistent").state == "integrity"


def test_a_limit_that_was_raised_in_the_evidence_alone_is_noticed(builder: ModuleType) -> None:
    cap = builder.internal().get("ledger.cap_epsilon")
    verdict = builder.release_verdict(builder.internal({"ledger.cap_epsilon": replace(cap, value=50.0)}))
    assert found(verdict, "evidence.consistent").state == "integrity"


# ---- what attacks on real rows have shown ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "state", "rule"),
    [
        ("leak", True, "fail", "review.leak"),
        ("above_ceiling", True, "fail", "review.within_bound"),
        ("to_look_at", True, "needs_human", "review.copies"),
        ("leak", None, "incomplete", "review.leak"),
    ],
)
@pytest.mark.parametrize("attack", ["membership", "exact_match", "vulnerable_records"])
def test_no_threshold_lets_a_leak_pass_that_was_shown(
    builder: ModuleType, attack: str, field: str, value: bool | None, state: str, rule: str
) -> None:
    leaf = None if value is None else builder.internal_number(value)
    verdict = builder.review_verdict(builder.internal({f"review.{attack}.{field}": leaf}))
    assert verdict.state == state
    assert [found.id for found in verdict.open] == [rule]


def test_a_leak_counts_where_the_attack_is_incomplete(builder: ModuleType) -> None:
    """A blind positive control takes nothing from what was found all the same."""
    blind = {"review.membership.excess": Leaf(None, "P3", "s", missing="not seen"), "review.membership.leak": builder.internal_number(True)}  # fmt: skip
    assert builder.review_verdict(builder.internal(blind)).state == "fail"
