"""What the gate decides: each state, each check that is code, and the classes."""

from __future__ import annotations

from datetime import date
from types import ModuleType
from typing import Any

import pytest

from dpsynth.errors import IntegrityError, UsageError
from reports import Evidence, Leaf, Policy, Report, RuleResult, Verdict, decide
from reports.gate import CHECKS, EXIT_CODES, WORST_FIRST, judge
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
    assert judge(one(), evidence).state == "pass"


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
    ("release.gated", "release.published", "no-gate", "needs_human"),
    ("evidence.date", "review_on", "2026-11-20", "incomplete"),
    ("evidence.date", "created_at", "2026-11-23T00:00:00Z", "incomplete"),
    ("evidence.consistent", "guarantee.rho", 0.5, "integrity"),
    ("evidence.consistent", "guarantee.epsilon", 0.5, "integrity"),
    ("evidence.consistent", "guarantee.unit", "household", "integrity"),
    ("evidence.consistent", "risk.tpr_at_fpr", 0.01, "integrity"),
    ("evidence.consistent", "ledger.spent_epsilon", -1.0, "integrity"),
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
    assert [rule.id for rule in verdict.open] == [check]


def test_every_check_is_tried_above(builder: ModuleType) -> None:
    verdict = builder.release_verdict(builder.internal())
    ids = {rule.id for rule in verdict.rules if rule.origin == "code"}
    assert len(ids) == len(CHECKS)
    assert ids == {check for check, *_ in WOUNDS} | {"disclosure.edition"}


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
