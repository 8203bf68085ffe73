"""Every leaf of a full evidence object, lost or weakened in turn, with every decision signed anew for what is left.

Re-signing is the point: an attestation is bound to the evidence, so that a changed file alone would already lose its
approvals. Here the people approve whatever they are shown, and the verdict must still not get better.

Losses: the leaf removed, its value null, null with an error told, no power, no trials, an interval of no width or none at
all, whole rows of tables. NaN, infinite and huge values, other kinds and classes: `test_gate_never_improves.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import signers

from dpsynth.errors import IntegrityError
from reports import Evidence, Leaf, Policy, Verdict, decide
from reports.gate.verdict import WORST_FIRST
from reports.paths import PATHS, pattern

FEW = (("site", "category", "quasi_identifier", 6, 0.0043, 0.0038),)
ROOT = "11" * 32
ID = "5b1c7f0a-9f43-4d0e-8f49-0d8d9b1f2f60"  # of the builder's ledger
PIN = f"""
[ledger]
required   = true
id         = "{ID}"
population = "rand-hie-participants"
anchor     = {{ seq = 1, head = "{ROOT}" }}
amenders   = ["{signers.OFFICE.public.text}"]
"""
BLOCKING = {"integrity", "fail", "incomplete"}
ORDER = [*WORST_FIRST[:-1], "waived", "accepted", "pass", "not_applicable"]
"""States of a rule, the worst first; what a signature let through is less than a pass."""


@cache
def policy() -> Policy:
    """The rules of internal-test, with a ledger, a decision that covers one finding, and a waiver."""
    rules = Policy.load("internal-test").text.partition("[waivers]")[0].replace('"internal-test"', '"ours"', 1)
    asks = signers.human(
        "controller", "release-decision", signers.CONTROLLER, covers=("implementation.exact_noise", "ledger.pinned")
    )
    return Policy.parse(rules + PIN + asks + signers.waiver())


def approved(evidence: Evidence) -> Verdict:
    """The verdict after everybody has signed what they were shown, if it can be shown."""
    try:
        shown = evidence.shareable()
        digest = shown.digest
    except (IntegrityError, ValueError):
        return decide(policy(), evidence, stage="release", on=signers.MOMENT.date())
    fields = {"evidence": digest, "policy": policy().digest}
    both = [
        signers.draft(shown, policy(), **fields).sign(signers.CONTROLLER),
        signers.draft(
            shown, policy(), **fields, role="privacy-office", statement="waiver.utility.tv1", name="P. O."
        ).sign(signers.OFFICE),
    ]
    return decide(policy(), shown, stage="release", on=signers.MOMENT.date(), record=signers.record(*both))


def whole(builder: ModuleType, kind: str = "opened") -> Evidence:
    """Evidence with a leaf at nearly every path there is."""
    tree = builder.anchored(builder.tree(FEW), (1, ROOT))
    tree = builder.amended(tree, signers.OFFICE.public.fingerprint)
    tree = builder.audited(tree)
    other = {"signed": (signers.OFFICE.public.fingerprint,), "anchor": f"0:{ROOT}"}
    tree = builder.joined(tree, other)
    del tree["columns"][1:], tree["deid_scan"]["safe_harbor"][18:]
    tree["columns"][0]["basis"] = builder.declared("as for the table")
    tree = {"opened": builder.opened, "claimed": builder.claimed, "curved": builder.curved}[kind](tree)
    for section, key in (("risk", "table"), ("risk", "success"), ("guarantee", "profile")):
        tree[section][key] = tree[section][key][:1]
    tree["implementation"]["floating_point"] = builder.declared(kind == "opened")
    return Evidence({**Evidence(tree).with_disclosure().shareable().tree})


def lost(path: str, leaf: Leaf) -> Iterator[tuple[str, Leaf | None]]:
    """What a file that still reads can have lost at one leaf."""
    yield "removed", None
    bare = Leaf(None, leaf.cls, leaf.src, ledger_seq=leaf.ledger_seq)
    yield "null", bare
    yield "error", replace(bare, missing="the attack failed")
    if path.endswith((".powered", ".detected")):
        yield "no power", replace(leaf, value=False)
    if leaf.n is not None:
        yield "no trials", replace(leaf, n=0)
    if leaf.low is not None:
        yield "no width", replace(leaf, low=leaf.value, high=leaf.value)
        yield "no interval", replace(leaf, low=None, high=None, confidence=None)


def states(verdict: Verdict) -> dict[tuple[str, str], int]:
    return {(rule.origin, rule.id): ORDER.index(rule.state) for rule in verdict.rules}


def assert_no_better(before: Verdict, after: Verdict, told: object) -> None:
    assert WORST_FIRST.index(after.state) <= WORST_FIRST.index(before.state), told
    known = states(before)
    for rule, state in states(after).items():
        assert state <= known.get(rule, len(ORDER)), (told, rule)


def test_the_evidence_is_full(builder: ModuleType) -> None:
    """Each declared path stands in one of the three, but for what no release of today writes."""
    there = {pattern(path) for kind in ("opened", "claimed", "curved") for path, _ in whole(builder, kind).leaves()}
    assert PATHS.keys() - there == {f"attacks.{name}.baseline" for name in builder.ATTACKS} | {"utility.unit_rows"}
    verdict = approved(whole(builder))
    assert verdict.state == "pass"
    assert {rule.state for rule in verdict.settled_by_people} == {"accepted"}


@pytest.mark.slow
def test_no_loss_improves_a_verdict_or_a_rule(builder: ModuleType) -> None:
    """Losses of all leaves in evidence that passes: each way for what is judged, one after the other for the rest."""
    evidence = whole(builder)
    before = approved(evidence)
    read = {rule.evidence for rule in policy().stage("release")}
    tried = 0
    for number, (path, leaf) in enumerate(evidence.leaves()):
        ways = list(lost(path, leaf))
        needed = PATHS[pattern(path)].required or path in read
        for how, broken in ways if path in read or leaf.low is not None else [ways[number % len(ways)]]:
            after = approved(evidence.with_leaf(path, broken))
            assert_no_better(before, after, (path, how))
            tried += 1
            if needed and how in ("removed", "null", "error", "no power"):
                assert after.state in BLOCKING, (path, how)
    assert tried > 300


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["claimed", "curved"])
def test_no_loss_improves_another_measure_of_loss(builder: ModuleType, kind: str) -> None:
    evidence = whole(builder, kind)
    before = approved(evidence)
    assert before.state == {"claimed": "needs_human", "curved": "pass"}[kind], [rule.message for rule in before.open]
    paths = [
        path for path, _ in evidence.leaves() if path.startswith(("guarantee.claim", "guarantee.sh", "guarantee.d"))
    ]
    paths += [path for path, _ in evidence.leaves() if path.startswith("guarantee.curve[3]")]
    for path in [*paths, "guarantee.rho", "implementation.claimed_by", "guarantee.unprotected_quantities"]:
        for how, broken in lost(path, evidence.get(path) or builder.declared("x")):
            after = approved(evidence.with_leaf(path, broken))
            assert_no_better(before, after, (kind, path, how))
            if kind == "curved" or path not in ("guarantee.rho", "guarantee.shares[0].rho"):
                assert after.state in BLOCKING, (kind, path, how)


def tables(evidence: Evidence) -> Iterator[tuple[str, Evidence]]:
    """The evidence without the first, the last, or any row of each of its tables."""
    paths = {path.partition("[")[0] for path, _ in evidence.leaves() if "[" in path}
    for path in sorted(paths):
        rows = evidence.rows(path)
        for left in (rows[1:], rows[:-1], ()):
            steps, tree = path.split("."), dict(evidence.tree)
            node: dict[str, Any] = tree
            for step in steps[:-1]:
                node[step] = dict(node[step])
                node = node[step]
            node[steps[-1]] = left
            yield f"{path}: {len(left)} of {len(rows)}", Evidence(tree)


WOUNDS: dict[str, tuple[dict[str, Any], str, set[str]]] = {
    # name: what is changed, the verdict then, and what contradicts the change, so that losing it may change its name
    "epsilon": ({"guarantee.epsilon": 3.0, "audit.claim_epsilon": 3.0}, "fail", set()),
    "population": ({"source.population": "other people"}, "fail", set()),
    "fresh ledger": ({"ledger.ledger_id": "another"}, "incomplete", set()),
    "stale ledger": ({"ledger.seq": 0}, "integrity", {"ledger.anchors[0].seq", "ledger.amendments[0].seq"}),
    "another anchor": ({"ledger.anchors[0].head": "22" * 32}, "integrity", {"ledger.anchors[0].seq"}),
    "unseen anchor": ({"ledger.anchors[0].seq": 0}, "incomplete", set()),
    "unsigned elsewhere": (
        {"ledger.others[0].signed": ("unsigned",), "ledger.others[0].raised": 1},
        "needs_human",
        set(),
    ),
    "unsigned amendment": ({"ledger.amendments[0].signed": "unsigned"}, "needs_human", set()),
    "a stranger's amendment": ({"ledger.amendments[0].signed": "33" * 32}, "needs_human", set()),
    "powerless": ({"attacks.linkage.powered": False}, "incomplete", set()),
    "no gate": ({"release.published": "no gate"}, "needs_human", set()),
    "a contradicted item": (
        {"audit.items[0].status": "fail", "audit.verdict": "fail"},
        "fail",
        {"audit.items[0].status", "audit.verdict"},
    ),
    "a bound above the claim": ({"audit.items[0].low": 1.4, "audit.epsilon_lower_bound": 1.4}, "integrity", set()),
    "an audit of another synthesizer": ({"audit.synthesizer": "aim"}, "integrity", {"release.synthesizer"}),
    "an audit of another epsilon": ({"audit.claim_epsilon": 2.0}, "integrity", {"guarantee.epsilon"}),
    "broken ledger": ({"ledger.verified": False}, "integrity", set()),
}


def wounded(builder: ModuleType, name: str) -> Evidence:
    evidence = whole(builder)
    for path, value in WOUNDS[name][0].items():
        leaf = evidence.get(path)
        assert leaf is not None
        evidence = evidence.with_leaf(path, replace(leaf, value=value))
    return evidence


@pytest.mark.slow
@pytest.mark.parametrize("name", WOUNDS)
def test_no_loss_beside_a_wound_improves_the_verdict(builder: ModuleType, name: str) -> None:
    """Every leaf at every wound would take minutes: each wound meets all of its own section and every twelfth other leaf."""
    changed, state, related = WOUNDS[name]
    evidence = wounded(builder, name)
    before = approved(evidence)
    assert before.state == state, [rule.message for rule in before.open]
    section, offset = next(iter(changed)).partition(".")[0], list(WOUNDS).index(name)
    for number, (path, leaf) in enumerate(evidence.leaves()):
        if path in changed or (number % 12 != offset and not path.startswith(f"{section}.")):
            continue
        if section == "attacks" and not path.startswith("attacks.linkage") and number % 12 != offset:
            continue
        ways = list(lost(path, leaf))
        how, broken = ways[number % len(ways)]
        after = approved(evidence.with_leaf(path, broken))
        if path in related:
            assert after.state in BLOCKING, (name, path, how)
        else:
            assert WORST_FIRST.index(after.state) <= WORST_FIRST.index(before.state), (name, path, how)
    for path in changed:
        for how, broken in lost(path, evidence.get(path) or builder.declared("x")):
            assert approved(evidence.with_leaf(path, broken)).state in BLOCKING, (name, path, how)


def test_no_row_that_is_taken_out_improves_anything(builder: ModuleType) -> None:
    for name in (None, "unsigned amendment", "another anchor", "unseen anchor"):
        evidence = whole(builder) if name is None else wounded(builder, name)
        before = approved(evidence)
        for told, fewer in tables(evidence):
            if name is None or told.startswith("ledger."):
                after = approved(fewer)
                if name == "another anchor" and told.startswith("ledger.anchors"):
                    assert after.state in BLOCKING
                else:
                    assert WORST_FIRST.index(after.state) <= WORST_FIRST.index(before.state), (name, told)


@pytest.mark.slow
def test_no_loss_improves_the_review(builder: ModuleType) -> None:
    """The same for attacks on real rows, in evidence that passes, fails and cannot tell."""

    def reviewed(evidence: Evidence) -> Verdict:
        return decide(builder.policy(), evidence, stage="review", on=builder.TODAY)

    full = Evidence(
        {
            key: node
            for key, node in builder.internal(columns=FEW).tree.items()
            if key in ("review", "created_at", "review_on")
        }
    )
    wounds = (None, ("membership", 0.4, 0.05), ("linkage", 0.05, 0.2), ("reconstruction", 0.3, 0.01))
    tried = 0
    for number, wound in enumerate(wounds):
        evidence, place = full, ""
        if wound is not None:
            place = f"review.{wound[0]}.excess"
            evidence = full.with_leaf(place, builder.internal_number(*wound[1:]))
        before = reviewed(evidence)
        assert before.state == ("pass", "fail", "incomplete", "fail")[number]
        for path, leaf in evidence.leaves():
            for how, broken in lost(path, leaf):
                after = reviewed(evidence.with_leaf(path, broken))
                tried += 1
                if path.rpartition(".")[0] == place.rpartition(".")[0] and wound is not None:
                    assert after.state in BLOCKING, (wound, path, how)
                else:
                    assert_no_better(before, after, (wound, path, how))
    assert tried > 800
