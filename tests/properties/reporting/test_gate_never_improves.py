"""Losing or spoiling evidence never makes a verdict better, and never makes it pass.

Every leaf is removed, emptied, spoiled and moved to another class in turn, in evidence that passes and in evidence that
is wounded in one place. A wound is a leaf that by itself keeps the verdict from being a pass. Two things must hold:

1. Spoiling any leaf but the wound leaves the verdict as bad as it was, or makes it worse.
2. Spoiling the wound itself, or the leaf that it contradicts, never gives a pass, nor anything that `--allow` could let
   through: a failing number that is then lost is incomplete, and blocks as before.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports import Evidence, Leaf, Policy, Verdict, decide
from reports.gate.verdict import WORST_FIRST
from reports.paths import CHARGED_ATTACKS, CLASSES, PATHS, REVIEW_ATTACKS, declared, pattern

FEW = (("site", "category", "quasi_identifier", 6, 0.0043, 0.0038),)
BLOCKING = {"integrity", "fail", "incomplete"}


def badness(verdict: Verdict) -> int:
    return -WORST_FIRST.index(verdict.state)


def spoiled(leaf: Leaf) -> Iterator[tuple[str, Leaf | None]]:
    """All the ways in which one leaf can be lost or damaged."""
    yield "removed", None
    yield "null", Leaf(None, leaf.cls, leaf.src, ledger_seq=leaf.ledger_seq)
    yield "error", Leaf(None, leaf.cls, leaf.src, ledger_seq=leaf.ledger_seq, missing="the attack failed")
    for name, value in (
        ("nan", math.nan),
        ("infinite", -math.inf),
        ("huge", 10**400),
        ("other kind", {"x": 1}),
        ("unknown class", None),
    ):
        broken = copy.copy(leaf)
        if name == "unknown class":
            object.__setattr__(broken, "cls", "P9")
        else:
            object.__setattr__(broken, "value", value)
        yield name, broken
    if leaf.low is not None:
        for name, ends in (("nan end", (math.nan, leaf.high)), ("no width", (leaf.value, leaf.value))):
            broken = copy.copy(leaf)
            object.__setattr__(broken, "low", ends[0])
            object.__setattr__(broken, "high", ends[1])
            yield name, broken
        yield "no interval", Leaf(leaf.value, leaf.cls, leaf.src, ledger_seq=leaf.ledger_seq)


def weakened(leaf: Leaf) -> Iterator[tuple[str, Leaf]]:
    """All the ways in which what a leaf says of its own certainty can be deleted or weakened, in a file that reads."""
    if leaf.low is not None and leaf.high is not None:
        yield "no interval", replace(leaf, low=None, high=None, confidence=None)
        for confidence in (0.5, 1e-9):
            yield "less confidence", replace(leaf, confidence=confidence)
        wide = leaf.high - leaf.low
        yield "wider", replace(leaf, low=leaf.low - wide, high=leaf.high + wide)
        yield "no width", replace(leaf, low=leaf.value, high=leaf.value)
    if leaf.n is not None:
        yield "no n", replace(leaf, n=None)
        yield "n of zero", replace(leaf, n=0)


def reclassified(path: str, leaf: Leaf) -> Iterator[Leaf]:
    """The leaf under every class that may not stand at its path."""
    rule = declared(path)
    for cls in CLASSES:
        if rule is not None and cls not in rule.classes and not path.startswith("review."):
            broken = copy.copy(leaf)
            object.__setattr__(broken, "cls", cls)
            yield broken


@cache
def few(builder: ModuleType, *, discovered: bool = False) -> Evidence:
    """Passing evidence with one row in each table, for speed."""
    tree = builder.tree(FEW)
    del tree["columns"][1:]
    for section, key in (("risk", "table"), ("risk", "success"), ("guarantee", "profile"), ("guarantee", "shares")):
        tree[section][key] = tree[section][key][:1]
    return Evidence(builder.opened(tree) if discovered else tree).with_disclosure()


def required(path: str) -> bool:
    rule = PATHS.get(pattern(path))
    return rule is not None and rule.required


@pytest.mark.slow
@pytest.mark.parametrize("discovered", [False, True])
def test_nothing_lost_from_a_pass_makes_a_better_verdict(builder: ModuleType, discovered: bool) -> None:
    evidence = few(builder, discovered=discovered).shareable()
    evidence = Evidence(evidence.tree)
    read = {rule.evidence for rule in builder.policy().stage("release")}
    assert builder.release_verdict(evidence).state == "pass"
    for path, leaf in evidence.leaves():
        for how, broken in spoiled(leaf):
            verdict = builder.release_verdict(evidence.with_leaf(path, broken))
            if path in read or required(path):
                allowed = how == "no width" and path not in read
                assert verdict.state in BLOCKING or allowed, (path, how)
            elif how not in ("removed", "null", "error", "no interval", "no width"):
                assert verdict.state == "integrity", (path, how)


@pytest.mark.slow
def test_no_leaf_passes_under_another_class(builder: ModuleType) -> None:
    evidence = Evidence(few(builder).shareable().tree)
    tried = 0
    for path, leaf in evidence.leaves():
        for broken in reclassified(path, leaf):
            verdict = builder.release_verdict(evidence.with_leaf(path, broken))
            assert (verdict.state, verdict.evidence_sha256) == ("integrity", ""), (path, broken.cls)
            tried += 1
    assert tried > 300


def test_the_release_verdict_does_not_see_the_review_section(builder: ModuleType) -> None:
    evidence = few(builder)
    expected = builder.release_verdict(evidence)
    for path, leaf in evidence.leaves():
        if path.startswith("review.membership.") or path == "review.rows_fit":
            for cls in ("P0", "P3"):
                moved = Leaf(
                    leaf.value, cls, "x", ledger_seq=(2,), low=leaf.low, high=leaf.high, confidence=leaf.confidence
                )
                assert builder.release_verdict(evidence.with_leaf(path, moved)) == expected
            assert builder.release_verdict(evidence.with_leaf(path, None)) == expected


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["release", "review"])
def test_deleting_an_interval_a_confidence_or_n_improves_nothing(builder: ModuleType, stage: str) -> None:
    """Neither the verdict nor the state of any rule, in evidence that passes, that fails, and that cannot tell."""
    section, make = ("attacks", builder.charged) if stage == "release" else ("review", builder.internal_number)
    decided = builder.release_verdict if stage == "release" else builder.review_verdict
    worst = [*WORST_FIRST[:-1], "pass", "not_applicable"]
    tried = 0
    for path in ("membership.excess", "nearest_record.excess"):
        for value, half in ((None, 0.0), (0.3, 0.05), (0.05, 0.2), (0.15, 0.10)):
            whole = few(builder) if stage == "review" else Evidence(few(builder).shareable().tree)
            if whole.get(f"{section}.{path}") is None:
                continue
            if value is not None:
                whole = whole.with_leaf(f"{section}.{path}", make(value, half))
            before = decided(whole)
            states = {rule.id: worst.index(rule.state) for rule in before.rules}
            for place, leaf in whole.leaves():
                for how, weaker in weakened(leaf) if place.startswith(f"{section}.") else ():
                    after = decided(whole.with_leaf(place, weaker))
                    tried += 1
                    if not (how in ("wider", "no width") and place == f"{section}.{path}"):
                        assert badness(after) >= badness(before), (place, how, value)
                        assert all(worst.index(rule.state) <= states[rule.id] for rule in after.rules), (place, how)
                    if place.endswith(".excess") and how in ("no interval", "less confidence"):
                        assert after.state in BLOCKING, (place, how, value)
    assert tried > 200


@pytest.mark.slow
def test_intervals_that_are_deleted_leave_a_rule_on_the_estimate_incomplete(builder: ModuleType) -> None:
    """Whatever side a rule names: a policy cannot be written that an attack without an interval would pass."""
    for side in ("low", "high", "estimate"):
        text = builder.policy().text.replace('side     = "high"', f'side     = "{side}"')
        policy = Policy.parse(text)
        for stage, section, names in (("release", "attacks", CHARGED_ATTACKS), ("review", "review", REVIEW_ATTACKS)):
            for name in names:
                path = f"{section}.{name}.excess"
                for how, weaker in weakened(builder.internal().get(path)):
                    after = decide(policy, builder.internal({path: weaker}), stage=stage, on=builder.TODAY)
                    if how in ("no interval", "less confidence"):
                        assert after.state in BLOCKING, (side, path, how)


CONTRADICTS = {"guarantee.unit": "unit.entity"}


def wounds(builder: ModuleType) -> dict[str, Leaf | None]:
    return {
        "guarantee.epsilon": builder.formula(3.0),
        "ledger.attempts": builder.ledger_fact(99),
        "attacks.membership.excess": builder.charged(0.3, 0.05),
        "attacks.linkage.excess": builder.charged(0.05, 0.2),
        "attacks.exact_match.powered": Leaf(False, "P1", "model rows"),
        "guarantee.unit": builder.declared("household"),
        "ledger.verified": builder.ledger_fact(False),
        "domain.from_data": builder.declared("site"),
        "implementation.floating_point": builder.declared(True),
        "ledger.imports_not_dp": builder.ledger_fact(1),
        "review_on": builder.declared("2026-01-01"),
        "utility.tv1": None,
    }


@pytest.mark.slow
def test_nothing_lost_beside_a_wound_heals_it(builder: ModuleType) -> None:
    whole = Evidence(few(builder).shareable().tree)
    places = [
        path
        for path, _ in whole.leaves()
        if required(path) or path in {rule.evidence for rule in builder.policy().rules} or path.startswith("attacks.")
    ]
    for wound, leaf in wounds(builder).items():
        evidence = whole.with_leaf(wound, leaf)
        before = builder.release_verdict(evidence)
        assert before.state != "pass", wound
        for path in places:
            old = evidence.get(path)
            for how, broken in () if path == wound or old is None else list(spoiled(old))[:1]:
                after = builder.release_verdict(evidence.with_leaf(path, broken))
                assert badness(after) >= badness(before), (wound, path, how)


def test_a_wound_that_is_lost_does_not_pass(builder: ModuleType) -> None:
    whole = Evidence(few(builder).shareable().tree)
    for wound, leaf in wounds(builder).items():
        if leaf is None:
            continue
        evidence = whole.with_leaf(wound, leaf)
        for how, broken in spoiled(leaf):
            after = builder.release_verdict(evidence.with_leaf(wound, broken))
            assert after.state in BLOCKING, (wound, how)


@pytest.mark.slow
def test_the_review_verdict_never_improves_either(builder: ModuleType) -> None:
    whole = few(builder)
    read = {rule.evidence for rule in builder.policy().stage("review")}
    assert builder.review_verdict(whole).state == "pass"
    for path, leaf in whole.leaves():
        if not path.startswith("review."):
            continue
        for how, broken in spoiled(leaf):
            after = builder.review_verdict(whole.with_leaf(path, broken))
            if path in read or (path.endswith(".detected") and path.rpartition(".")[0] + ".excess" in read):
                assert after.state in BLOCKING, (path, how)
        for cls in ("P0", "P1", "P2", "P4"):
            broken = copy.copy(leaf)
            object.__setattr__(broken, "cls", cls)
            after = builder.review_verdict(whole.with_leaf(path, broken))
            if path in read or cls == "P4":
                assert after.state in BLOCKING, (path, cls)
    failing = whole.with_leaf("review.membership.excess", builder.internal_number(0.4, 0.05))
    assert builder.review_verdict(failing).state == "fail"
    for path, leaf in failing.leaves():
        if (
            path.startswith("review.")
            and path != "review.membership.excess"
            and not path.startswith("review.membership.")
        ):
            for how, broken in spoiled(leaf):
                assert builder.review_verdict(failing.with_leaf(path, broken)).state in ("fail", "integrity"), (
                    path,
                    how,
                )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_many_losses_together_never_make_a_pass(builder: ModuleType, data: st.DataObject) -> None:
    evidence = Evidence(few(builder).shareable().tree)
    wound, leaf = data.draw(st.sampled_from(sorted(wounds(builder).items())))
    evidence = evidence.with_leaf(wound, leaf)
    before = builder.release_verdict(evidence)
    paths = [path for path, _ in evidence.leaves() if path != wound and not path.startswith("review.")]
    for path in data.draw(st.lists(st.sampled_from(paths), max_size=6, unique=True)):
        old = evidence.get(path)
        if old is not None and path != CONTRADICTS.get(wound):
            choices: list[Any] = list(spoiled(old))
            evidence = evidence.with_leaf(path, data.draw(st.sampled_from(choices))[1])
    after = builder.release_verdict(evidence)
    assert after.state != "pass"
    assert badness(after) >= badness(before)


@pytest.mark.parametrize(
    "path", ["guarantee.epsilon", "guarantee.rho", "guarantee.delta", "risk.tpr_at_fpr", "ledger.cap_epsilon"]
)
def test_a_bound_that_was_set_to_zero_does_not_pass(builder: ModuleType, path: str) -> None:
    old = builder.internal().get(path)
    verdict = builder.release_verdict(builder.internal({path: Leaf(0.0, old.cls, old.src)}))
    assert verdict.state == "integrity"
