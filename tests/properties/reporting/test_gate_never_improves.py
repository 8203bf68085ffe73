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
from functools import cache
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports import Evidence, Leaf, Verdict
from reports.gate import WORST_FIRST
from reports.paths import CLASSES, PATHS, declared, pattern

FEW = (("site", "category", "quasi_identifier", 6, 0.0043, 0.0038),)
BLOCKING = {"integrity", "fail", "incomplete"}


def badness(verdict: Verdict) -> int:
    return -WORST_FIRST.index(verdict.state)


def spoiled(leaf: Leaf) -> Iterator[tuple[str, Leaf | None]]:
    """All the ways in which one leaf can be lost or damaged."""
    yield "removed", None
    yield "null", Leaf(None, leaf.cls, leaf.src, ledger_seq=leaf.ledger_seq)
    yield "error", Leaf(None, leaf.cls, leaf.src, ledger_seq=leaf.ledger_seq, missing="the attack failed")
    for name, value in (("nan", math.nan), ("infinite", -math.inf), ("other kind", {"x": 1}), ("unknown class", None)):
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


def reclassified(path: str, leaf: Leaf) -> Iterator[Leaf]:
    """The leaf under every class that may not stand at its path."""
    rule = declared(path)
    for cls in CLASSES:
        if rule is not None and cls not in rule.classes and not path.startswith("review."):
            broken = copy.copy(leaf)
            object.__setattr__(broken, "cls", cls)
            yield broken


@cache
def few(builder: ModuleType) -> Evidence:
    """Passing evidence with one row in each table, for speed."""
    tree = builder.tree(FEW)
    del tree["columns"][1:]
    for section, key in (("risk", "table"), ("risk", "success"), ("guarantee", "profile"), ("guarantee", "shares")):
        tree[section][key] = tree[section][key][:1]
    return Evidence(tree).with_disclosure()


def required(path: str) -> bool:
    rule = PATHS.get(pattern(path))
    return rule is not None and rule.required


def test_nothing_lost_from_a_pass_makes_a_better_verdict(builder: ModuleType) -> None:
    evidence = few(builder).shareable()
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
