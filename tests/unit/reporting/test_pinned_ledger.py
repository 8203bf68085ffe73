"""Which ledger paid: the policy names it, and a head of it that was seen."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import signers

from reports import Evidence, Policy, Verdict, decide
from reports.gate import RuleResult

ID = "5b1c7f0a-9f43-4d0e-8f49-0d8d9b1f2f60"  # of the builder's ledger
HEAD = "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab"  # its entry 2
PEOPLE = "rand-hie-participants"
ROOT = "11" * 32


def pinned(*, id: str = ID, population: str = PEOPLE, anchor: tuple[int, str] | None = None, more: str = "") -> Policy:
    text = f'[ledger]\nrequired = true\nid = "{id}"\npopulation = "{population}"\n{more}'
    if anchor is not None:
        text += f'anchor = {{ seq = {anchor[0]}, head = "{anchor[1]}" }}\n'
    return Policy.parse(signers.HEAD + text + signers.RULES)


def with_anchors(builder: ModuleType, *anchors: tuple[int, str], **facts: Any) -> Evidence:
    tree = builder.anchored(builder.tree(), *anchors)
    tree["ledger"] |= {name: builder.ledger_fact(value) for name, value in facts.items()}
    return Evidence(tree).with_disclosure()


def with_amendments(builder: ModuleType, *signed: str) -> Evidence:
    return Evidence(builder.amended(builder.tree(), *signed)).with_disclosure()


def judged(builder: ModuleType, policy: Policy, evidence: Evidence, *attested: Any) -> Verdict:
    record = signers.record(*attested)
    return decide(policy, evidence, stage="release", on=builder.TODAY, record=record)


def found(verdict: Verdict, rule_id: str) -> RuleResult:
    return next(rule for rule in verdict.rules if rule.id == rule_id)


def test_a_policy_that_names_no_ledger_and_should_needs_a_person(builder: ModuleType) -> None:
    silent = Policy.parse(signers.HEAD + signers.RULES)
    assert judged(builder, silent, builder.internal()).state == "pass"
    required = Policy.parse(signers.HEAD + "[ledger]\nrequired = true\n" + signers.RULES)
    verdict = judged(builder, required, builder.internal())
    assert [(rule.id, rule.state) for rule in verdict.open] == [("ledger.pinned", "needs_human")]


def test_the_named_ledger_passes(builder: ModuleType) -> None:
    verdict = judged(builder, pinned(), builder.internal())
    assert verdict.state == "pass"
    assert found(verdict, "ledger.pinned").state == "pass"
    assert not [rule for rule in verdict.rules if rule.id == "ledger.anchor"]


def test_a_fresh_ledger_for_the_same_people_needs_a_person_who_is_told_when_it_was_made(builder: ModuleType) -> None:
    verdict = judged(builder, pinned(id="another"), builder.internal())
    assert [(rule.id, rule.state) for rule in verdict.open] == [("ledger.pinned", "needs_human")]
    assert "2026-11-20" in found(verdict, "ledger.pinned").message


def test_a_signed_statement_that_covers_it_by_name_settles_it(builder: ModuleType) -> None:
    for covers, state in ((("ledger.pinned",), "pass"), ((), "needs_human")):
        asks = signers.human("controller", "release-decision", signers.CONTROLLER, covers=covers)
        policy = Policy.parse(pinned(id="another").text + asks)
        evidence = builder.internal()
        assert judged(builder, policy, evidence, signers.signed(evidence, policy)).state == state


def test_the_ledger_of_other_people_fails_and_nobody_can_accept_it(builder: ModuleType) -> None:
    for id in (ID, "another"):
        asks = signers.human("controller", "release-decision", signers.CONTROLLER, covers=("ledger.pinned",))
        policy = Policy.parse(pinned(id=id, population="other people").text + asks)
        evidence = builder.internal()
        verdict = judged(builder, policy, evidence, signers.signed(evidence, policy))
        assert (verdict.state, found(verdict, "ledger.pinned").state) == ("fail", "fail")


@pytest.mark.parametrize("path", ["ledger.ledger_id", "source.population"])
def test_evidence_that_does_not_say_is_incomplete(builder: ModuleType, path: str) -> None:
    for policy in (pinned(), pinned(id="another")):
        verdict = judged(builder, policy, builder.internal({path: None}))
        assert found(verdict, "ledger.pinned").state == "incomplete"
        assert verdict.state == "incomplete"


# ---- several ledgers -----------------------------------------------------------------------------------------------


def joined(builder: ModuleType, *others: dict[str, Any], **facts: Any) -> Evidence:
    """Evidence of a release that was charged to these ledgers too; `facts` are of the one that is shown."""
    tree = builder.joined(builder.tree(), *others)
    tree["ledger"] |= {name: builder.ledger_fact(value) for name, value in facts.items()}
    return Evidence(tree).with_disclosure()


@pytest.mark.parametrize(
    ("id", "population", "others", "state"),
    [
        (ID, PEOPLE, [{}], "needs_human"),  # the pinned one is shown, and another one hides who knows what
        ("new", "others", [{"ledger_id": ID, "population": PEOPLE}], "needs_human"),  # the pinned one is not shown
        ("new", "others", [{"ledger_id": "fresh", "population": PEOPLE}], "needs_human"),
        (ID, PEOPLE, [{"ledger_id": "fresh", "population": PEOPLE}], "needs_human"),  # two for the same people
        ("new", "others", [{}], "fail"),  # none is that of the people
        ("new", "others", [{"ledger_id": ID}], "fail"),
        (ID, PEOPLE, [{"population": None}], "incomplete"),
        (ID, PEOPLE, [{"ledger_id": None}], "incomplete"),
    ],
)
def test_of_several_ledgers_the_named_one_has_to_be_charged_and_the_others_are_for_a_person(
    builder: ModuleType, id: str, population: str, others: list[dict[str, Any]], state: str
) -> None:
    evidence = joined(builder, *others, ledger_id=id).with_leaf("source.population", builder.declared(population))
    verdict = judged(builder, pinned(), evidence)
    assert found(verdict, "ledger.pinned").state == verdict.state == state


def test_no_ledger_that_was_charged_can_be_left_out(builder: ModuleType) -> None:
    whole = joined(builder, {}, {"ledger_id": "third"})
    assert judged(builder, pinned(), whole).state == "needs_human"
    for rows in (whole.rows("ledger.others")[:1], whole.rows("ledger.others")[1:], ()):
        tree = dict(whole.tree)
        tree["ledger"] = {**whole.section("ledger"), "others": rows}
        assert judged(builder, pinned(), Evidence(tree)).state == "integrity"
        assert judged(builder, pinned(), Evidence(tree).with_leaf("ledger.ledgers", None)).state == "incomplete"


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (f"1:{ROOT}", "pass"),
        (f"1:{'22' * 32}", "integrity"),
        (f"0:{ROOT}", "incomplete"),
        ("x", "incomplete"),
        (None, "incomplete"),
    ],
)
def test_an_anchor_is_looked_for_in_the_ledger_that_the_policy_names(
    builder: ModuleType, told: str | None, state: str
) -> None:
    """Also where another one looks worse, and is the one that is shown."""
    other = {"ledger_id": ID, "population": PEOPLE} | ({} if told is None else {"anchor": told})
    evidence = joined(builder, other, ledger_id="new").with_leaf("source.population", builder.declared("others"))
    assert found(judged(builder, pinned(anchor=(1, ROOT)), evidence), "ledger.anchor").state == state


def test_a_raise_in_any_of_them_counts(builder: ModuleType) -> None:
    silent = Policy.parse(signers.HEAD + NAMED.replace("amenders", "[ledger]\namenders") + signers.RULES)
    for signed, state in (
        ((), "pass"),
        ((SIGNED,), "pass"),
        (("unsigned",), "needs_human"),
        (("33" * 32,), "needs_human"),
    ):
        assert judged(builder, silent, joined(builder, {"signed": signed})).state == state
        lost = joined(builder, {"signed": signed}).with_leaf("ledger.others[0].signed", None)
        assert judged(builder, silent, lost).state == "incomplete"
    emptied = joined(builder, {"signed": ("unsigned",)}).with_leaf("ledger.others[0].signed", builder.ledger_fact(()))
    assert judged(builder, silent, emptied).state == "integrity"


# ---- anchors -------------------------------------------------------------------------------------------------------


def test_an_anchor_that_was_seen_passes(builder: ModuleType) -> None:
    for anchor in ((0, ROOT), (1, ROOT), (2, HEAD)):
        verdict = judged(builder, pinned(anchor=anchor), with_anchors(builder, anchor))
        assert (verdict.state, found(verdict, "ledger.anchor").state) == ("pass", "pass")


@pytest.mark.parametrize(
    ("anchor", "told", "facts", "state"),
    [
        ((1, ROOT), [], {}, "incomplete"),  # nobody looked
        ((1, ROOT), [(0, ROOT)], {}, "incomplete"),  # at another entry
        ((1, ROOT), [(1, "22" * 32)], {}, "integrity"),  # and it was another one
        ((1, ROOT), [(1, ROOT), (1, "22" * 32)], {}, "integrity"),
        ((2, "22" * 32), [], {}, "integrity"),  # the head itself is another one
        ((2, HEAD), [], {}, "incomplete"),
        ((7, ROOT), [], {}, "integrity"),  # the ledger ends before it
        ((7, ROOT), [(7, ROOT)], {}, "integrity"),  # whatever the evidence says
        ((7, ROOT), [(7, ROOT)], {"ledger_id": "another"}, "integrity"),  # an entry that this ledger does not have
        ((1, ROOT), [(1, ROOT)], {"ledger_id": "another"}, "incomplete"),  # an anchor of one ledger is none of another
    ],
)
def test_a_stale_or_unseen_anchor_never_passes(
    builder: ModuleType, anchor: tuple[int, str], told: list[tuple[int, str]], facts: dict[str, Any], state: str
) -> None:
    verdict = judged(builder, pinned(anchor=anchor), with_anchors(builder, *told, **facts))
    assert verdict.state == state
    assert found(verdict, "ledger.anchor").state not in ("pass", "needs_human", "not_applicable")


def test_an_anchor_cannot_be_accepted_or_waived(builder: ModuleType) -> None:
    from dpsynth.errors import UsageError

    for covers in ("ledger.anchor", "ledger.integrity"):
        asks = signers.human("controller", "release-decision", signers.CONTROLLER, covers=(covers,))
        with pytest.raises(UsageError, match="no person's decision can cover"):
            Policy.parse(pinned(anchor=(1, ROOT)).text + asks)
    with pytest.raises(UsageError, match="no such rule"):
        Policy.parse(pinned(anchor=(1, ROOT)).text + signers.waiver("ledger.anchor"))


def test_evidence_cannot_name_an_entry_that_the_ledger_does_not_have(builder: ModuleType) -> None:
    for told in ((3, ROOT), (2, ROOT)):
        verdict = judged(builder, pinned(), with_anchors(builder, told))
        assert found(verdict, "evidence.consistent").state == "integrity"


# ---- amendments ----------------------------------------------------------------------------------------------------

SIGNED = signers.OFFICE.public.fingerprint


NAMED = f'amenders = ["{signers.OFFICE.public.text}"]\n'


@pytest.mark.parametrize(
    ("signed", "state"),
    [
        ((), "pass"),
        ((SIGNED,), "pass"),
        ((SIGNED, SIGNED), "pass"),
        (("unsigned",), "needs_human"),
        (("unsigned", SIGNED), "needs_human"),
        ((SIGNED, "unsigned"), "needs_human"),
        (("Unsigned",), "needs_human"),
        (("somebody",), "needs_human"),
        ((signers.STRANGER.public.fingerprint,), "needs_human"),
        ((SIGNED, signers.STRANGER.public.fingerprint), "needs_human"),
        ((SIGNED.upper(),), "needs_human"),
    ],
)
def test_every_raise_has_to_be_signed_with_a_key_that_the_policy_names(
    builder: ModuleType, signed: tuple[str, ...], state: str
) -> None:
    verdict = judged(builder, pinned(more=NAMED), with_amendments(builder, *signed) if signed else builder.internal())
    assert (verdict.state, found(verdict, "ledger.amended").state) == (state, state)


def test_without_named_keys_every_raise_is_for_a_person(builder: ModuleType) -> None:
    """Any key could be that of the very person who wanted more."""
    for policy in (pinned(), Policy.parse(signers.HEAD + signers.RULES)):
        assert judged(builder, policy, builder.internal()).state == "pass"
        verdict = judged(builder, policy, with_amendments(builder, SIGNED))
        assert verdict.state == "needs_human"
        assert "names none that may" in found(verdict, "ledger.amended").message


def test_no_amendment_can_be_taken_out_of_the_evidence(builder: ModuleType) -> None:
    silent = Policy.parse(signers.HEAD + signers.RULES)
    for rows in (slice(0, 0), slice(0, 1), slice(1, 2)):
        for count in (2, len(range(2)[rows]), None):
            tree = dict(with_amendments(builder, "unsigned", SIGNED).tree)
            tree["ledger"] = {**tree["ledger"], "amendments": tree["ledger"]["amendments"][rows]}
            if count is None:
                del tree["ledger"]["raised"]
            else:
                tree["ledger"]["raised"] = builder.ledger_fact(count)
            if (rows, count) in ((slice(1, 2), 1), (slice(0, 0), 0)):
                continue  # a consistent lie: what the evidence alone cannot show, and its digest and signature do
            state = judged(builder, silent, Evidence(tree).with_disclosure()).state
            assert state in ("integrity", "incomplete"), (rows, count)


@pytest.mark.parametrize(
    ("field", "value"), [("to_epsilon", 1.9), ("from_epsilon", 2.0), ("to_epsilon", None), ("signed", None)]
)
def test_amendments_end_with_the_limit(builder: ModuleType, field: str, value: float | None) -> None:
    leaf = None if value is None else builder.ledger_fact(value)
    changed = with_amendments(builder, SIGNED).with_leaf(f"ledger.amendments[0].{field}", leaf)
    state = judged(builder, pinned(more=NAMED), changed).state
    assert state == ("incomplete" if value is None else "integrity")
