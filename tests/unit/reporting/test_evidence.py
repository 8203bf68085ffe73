"""Leaves, the tree, the shareable edition, and JSON."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import FrozenInstanceError
from types import ModuleType
from typing import Any

import pytest

from dpsynth.errors import IntegrityError
from reports import Evidence, Leaf
from reports.paths import CLASSES, PATHS, SHAREABLE, declared


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"value": math.nan, "cls": "P0", "src": "s"}, "finite"),
        ({"value": math.inf, "cls": "P0", "src": "s"}, "finite"),
        ({"value": 1, "cls": "", "src": "s"}, "class"),
        ({"value": 1, "cls": "P5", "src": "s"}, "class"),
        ({"value": 1, "cls": None, "src": "s"}, "class"),
        ({"value": 1, "cls": "P0", "src": "  "}, "comes from"),
        ({"value": 1, "cls": "P2", "src": "s"}, "ledger entry"),
        ({"value": 1, "cls": "P2", "src": "s", "ledger_seq": (-1,)}, "ledger entries"),
        ({"value": 1.0, "cls": "P0", "src": "s", "low": 0.0}, "two ends"),
        ({"value": 1.0, "cls": "P0", "src": "s", "low": 0.0, "high": 2.0}, "two ends"),
        ({"value": 1.0, "cls": "P0", "src": "s", "low": 2.0, "high": 0.0, "confidence": 0.9}, "low to high"),
        ({"value": 1.0, "cls": "P0", "src": "s", "low": 0.0, "high": 2.0, "confidence": 1.0}, "low to high"),
        ({"value": 1.0, "cls": "P0", "src": "s", "low": math.nan, "high": 2.0, "confidence": 0.9}, "finite"),
        ({"value": True, "cls": "P0", "src": "s", "low": 0.0, "high": 2.0, "confidence": 0.9}, "only a number"),
        ({"value": None, "cls": "P0", "src": "s", "low": 0.0, "high": 2.0, "confidence": 0.9}, "only a number"),
        ({"value": 1.0, "cls": "P0", "src": "s", "missing": "lost"}, "not there"),
        ({"value": "\ud800", "cls": "P0", "src": "s"}, "Unicode"),
        ({"value": {"a": 1}, "cls": "P0", "src": "s"}, "holds"),
        ({"value": (1, 2), "cls": "P0", "src": "s"}, "holds"),
        ({"value": 1.0, "cls": "P0", "src": "s", "n": 1.5}, "whole"),
        ({"value": 1.0, "cls": "P0", "src": "s", "n": -1}, "whole"),
        ({"value": 1.0, "cls": "P0", "src": "s", "n": 10**400}, "whole"),
        ({"value": 10**400, "cls": "P0", "src": "s"}, "beyond"),
        ({"value": -(10**400), "cls": "P0", "src": "s"}, "beyond"),
        ({"value": 10**18 + 1, "cls": "P0", "src": "s"}, "beyond"),
        ({"value": 1e300, "cls": "P0", "src": "s"}, "beyond"),
        ({"value": 1.0, "cls": "P0", "src": "s", "ledger_seq": (10**400,)}, "ledger entries"),
        ({"value": 1.0, "cls": "P0", "src": "s", "low": -(10**400), "high": 2.0, "confidence": 0.9}, "beyond"),
        ({"value": 1.0, "cls": "P0", "src": "s", "low": 0.0, "high": 2.0, "confidence": 10**400}, "beyond"),
    ],
)
def test_a_leaf_that_breaks_a_rule_cannot_exist(arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Leaf(**arguments)


def test_a_leaf_without_a_class_cannot_be_made() -> None:
    with pytest.raises(TypeError):
        Leaf(1.0)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="privacy class"):
        Evidence({"guarantee": {"epsilon": 1.0}})


def test_evidence_is_frozen(builder: ModuleType) -> None:
    evidence = builder.internal()
    with pytest.raises(FrozenInstanceError):
        evidence.edition = "shareable"
    with pytest.raises(TypeError):
        evidence.tree["risk"] = {}
    with pytest.raises(TypeError):
        evidence.tree["columns"][0]["name"] = None
    with pytest.raises(FrozenInstanceError):
        evidence.get("guarantee.epsilon").value = 0.1


def test_reading_by_path(builder: ModuleType) -> None:
    evidence = builder.internal()
    assert evidence.value("guarantee.epsilon") == 1.0
    assert evidence.value("columns[1].name") == "site"
    assert len(evidence.rows("columns")) == 14
    for nothing in ("guarantee", "guarantee.nothing", "columns[99].name", "columns", "", "guarantee.epsilon.x", "a b"):
        assert evidence.get(nothing) is None
    assert evidence.rows("guarantee") == ()
    assert dict(evidence.leaves())["review.membership.excess"].cls == "P3"


def test_json_and_back_is_the_same(builder: ModuleType) -> None:
    for evidence in (builder.internal(), builder.shareable(), builder.internal(columns=builder.hostile_columns())):
        text = evidence.to_json()
        assert Evidence.from_json(text) == evidence
        assert Evidence.from_json(text).to_json() == text
        assert text.isascii()
        assert evidence.digest == hashlib.sha256(text.encode()).hexdigest()


def change(text: str, path: list[str | int], value: Any) -> str:
    data = json.loads(text)
    node = data
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["schema"], "dpsynth.evidence/2"),
        (["edition"], "public"),
        (["guarantee", "epsilon"], 1.0),
        (["guarantee", "epsilon", "v"], {"a": 1}),
        (["guarantee", "epsilon", "cls"], "P9"),
        (["guarantee", "epsilon", "cls"], ["P0"]),
        (["guarantee", "epsilon", "note"], "x"),
        (["guarantee", "epsilon", "v"], math.nan),
        (["guarantee", "epsilon", "v"], math.inf),
        (["attacks", "membership", "excess", "ledger_seq"], []),
        (["attacks", "membership", "excess", "ledger_seq"], "12"),
        (["attacks", "membership", "excess", "ci"], [0.1]),
        (["attacks", "membership", "excess", "conf"], None),
        (["attacks", "membership", "excess", "n"], 1.5),
        (["attacks", "membership", "excess", "n"], 10**400),
        (["attacks", "membership", "excess", "ci"], [0, 10**400]),
        (["attacks", "membership", "excess", "conf"], 10**400),
        (["attacks", "membership", "excess", "ledger_seq"], [10**400]),
        (["release", "rows", "v"], 10**400),
        (["guarantee", "rho", "v"], -(10**400)),
        (["Bad Key"], {}),
        (["columns", 0], 3),
        (["columns", 0, "deep"], {"deeper": {"v": 1, "cls": "P0", "src": "s"}}),
    ],
)
def test_a_damaged_file_is_refused_whole(builder: ModuleType, path: list[str | int], value: Any) -> None:
    with pytest.raises(IntegrityError):
        Evidence.from_json(change(builder.shareable().to_json(), path, value))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"schema": 1}',
        "[" * 5000,
        '{"schema":"dpsynth.evidence/1","edition":"internal","a":{},"a":{}}',
    ],
)
def test_what_is_not_evidence_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError):
        Evidence.from_json(text)


def test_a_number_too_large_for_a_float_is_refused(builder: ModuleType) -> None:
    text = builder.shareable().to_json().replace('"v": 1.674', '"v": 1e999')
    assert "1e999" in text
    with pytest.raises(IntegrityError):
        Evidence.from_json(text)


def test_a_damaged_file_is_not_quoted() -> None:
    for text in ('{"secret-4711": ', '{"schema":"dpsynth.evidence/1","edition":"internal","secret4711":"x"}'):
        with pytest.raises(IntegrityError) as caught:
            Evidence.from_json(text)
        assert "4711" not in str(caught.value)


# ---- the shareable edition -----------------------------------------------------------------------------------------


def test_shareable_holds_no_internal_leaf(builder: ModuleType) -> None:
    evidence = builder.shareable()
    assert evidence.edition == "shareable"
    assert {leaf.cls for _, leaf in evidence.leaves()} <= SHAREABLE
    assert evidence.section("review") == {}
    assert evidence.shareable() == evidence


@pytest.mark.parametrize("path", sorted(PATHS))
def test_only_a_listed_class_can_stand_at_a_path(builder: ModuleType, path: str) -> None:
    place = path.replace("[]", "[0]")
    evidence = builder.internal()
    if path.startswith("ledger.amendments"):
        evidence = Evidence({"ledger": {"amendments": [{}]}})
    if path.startswith(("ledger.anchors", "ledger.others")):
        evidence = Evidence({"ledger": {path.split(".")[1].removesuffix("[]"): [{}]}})
    if path.startswith("guarantee.curve"):
        evidence = Evidence({"guarantee": {"curve": [{}]}})
    if path.startswith("audit"):
        evidence = Evidence(builder.audited(builder.tree()))
    if path.startswith("discovery"):
        evidence = Evidence({"discovery": [{}]})
    rule = declared(path)
    assert rule is not None
    for cls in CLASSES:
        leaf = Leaf(None, cls, "test", ledger_seq=(1,))
        changed = evidence.with_leaf(place, leaf)
        if cls in rule.classes:
            assert changed.shareable().get(place) == leaf
        else:
            with pytest.raises(IntegrityError):
                changed.shareable()


@pytest.mark.parametrize(
    "path", ["guarantee.secret", "rows4711", "attacks.singling_out.excess", "attacks.membership.auc", "x.y4711"]
)
def test_an_unknown_path_cannot_be_shared(builder: ModuleType, path: str) -> None:
    changed = builder.internal().with_leaf(path, Leaf(1, "P0", "test"))
    with pytest.raises(IntegrityError, match="not on the list") as caught:
        changed.shareable()
    assert path.rpartition(".")[2] not in str(caught.value)


def test_an_unknown_column_of_a_table_cannot_be_shared(builder: ModuleType) -> None:
    changed = builder.internal().with_leaf("columns[0].mean", Leaf(1, "P0", "test"))
    with pytest.raises(IntegrityError, match="not on the list"):
        changed.shareable()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("guarantee.epsilon", True),
        ("guarantee.epsilon", "1"),
        ("guarantee.epsilon", 0.0),
        ("guarantee.epsilon", -1.0),
        ("ledger.verified", "yes"),
        ("ledger.verified", 1),
        ("ledger.attempts", 1.0),
        ("ledger.attempts", -1),
        ("risk.tpr_at_fpr", 1.2),
        ("domain.basis", ""),
        ("limits", "one"),
        ("review_on", "next year"),
    ],
)
def test_a_value_of_another_kind_cannot_be_shared(builder: ModuleType, path: str, value: Any) -> None:
    old = builder.internal().get(path)
    with pytest.raises(IntegrityError, match="kind"):
        builder.internal({path: Leaf(value, old.cls, "test")}).shareable()


def test_p4_is_never_written(builder: ModuleType) -> None:
    for path in ("review.membership.targets", "guarantee.epsilon"):
        changed = builder.internal({path: Leaf("row 17", "P4", "test")})
        with pytest.raises(IntegrityError, match="P4"):
            changed.to_json()
        with pytest.raises(IntegrityError, match="P4"):
            changed.shareable()


def test_a_shareable_object_cannot_hold_what_it_may_not(builder: ModuleType) -> None:
    with pytest.raises(IntegrityError):
        Evidence(builder.internal().tree, edition="shareable")
    text = builder.internal().to_json().replace('"edition": "internal"', '"edition": "shareable"')
    with pytest.raises(IntegrityError):
        Evidence.from_json(text)
    with pytest.raises(IntegrityError):
        builder.shareable().with_leaf("guarantee.epsilon", Leaf(1.0, "P3", "real rows"))


def test_the_number_of_internal_leaves_is_not_told(builder: ModuleType) -> None:
    more = builder.internal({"review.extra": Leaf(1, "P3", "test")})
    assert more.shareable().to_json() == builder.shareable().to_json()
    assert "P3" not in builder.shareable().value("disclosure.leaves")


def test_disclosure_says_no_when_it_cannot_be_shared(builder: ModuleType) -> None:
    changed = builder.internal({"guarantee.epsilon": Leaf(1.0, "P3", "test")})
    assert changed.value("disclosure.edition_ok") is False
