"""Markdown, JUnit, SARIF and JSON; rounding; and words that no output may use."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from claims import claims

from reports import Evidence, Leaf, Policy, Report
from reports.controls import catalogue, evaluate, not_shipped
from reports.policy import shipped
from reports.registry import Publisher
from reports.render import to_html, to_json, to_junit, to_markdown, to_sarif
from reports.render.annexes import _file
from reports.render.numbers import dots, hundred, number, percent, plain, points
from reports.render.text import label, markdown, name, visible
from reports.render.to_registry import to_registry

HOSTILE_POLICY = """
schema = "dpsynth.policy/1"
name = "p"
version = "1 | <b> \\u202e"
reason = "<script>"
[[rule]]
id = "r"
evidence = "source.table"
stage = "release"
one_of = ["<script>alert(1)</script>", "a|b", "`x`", "[l](https://example.invalid)", "\\u001b[31m", "]]>"]
reason = "<img src=x> [a](b) | \\u0007 ]]> {{7*7}}"
"""


@cache
def report(builder: ModuleType, kind: str) -> Report:
    policy = builder.policy()
    changed: dict[str, Any] = {}
    if kind == "fail":
        changed = {
            "guarantee.epsilon": builder.formula(3.2),
            "attacks.linkage.excess": None,
            "domain.from_data": builder.declared("site"),
        }
    if kind == "integrity":
        changed = {"ledger.verified": builder.ledger_fact(False)}
    if kind == "hostile":
        policy = Policy.parse(HOSTILE_POLICY)
        changed = {"source.table": builder.declared("".join(builder.HOSTILE[:9]))}
        changed |= {
            "unit.entity": builder.declared(builder.HOSTILE[0]),
            "guarantee.unit": builder.declared(builder.HOSTILE[0]),
        }
        changed |= {"attacks.linkage.excess": Leaf(None, "P2", "s", missing=builder.HOSTILE[6])}
    edition = "internal" if kind == "internal" else "shareable"
    return Report.of(policy, builder.internal(changed), on=builder.TODAY, edition=edition)


KINDS = ("pass", "fail", "integrity", "internal", "hostile")


@pytest.mark.slow
def test_every_page_can_be_made_whatever_is_missing(builder: ModuleType) -> None:
    """A gap gives a page that says what is missing, never a page that is missing."""
    whole = Evidence(builder.audited(builder.tree(builder.COLUMNS[:1]))).with_disclosure()
    for path, leaf in whole.leaves():
        if re.search(r"\[[1-9]", path):  # the first row of a table stands for the others
            continue
        for broken in (None, Leaf(None, leaf.cls, "s", ledger_seq=leaf.ledger_seq)):
            made = Report.of(builder.policy(), whole.with_leaf(path, broken), on=builder.TODAY, edition="internal")
            assert to_html(made)
            assert to_markdown(made)


# ---- JUnit and SARIF -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_junit_has_one_case_a_rule(builder: ModuleType, kind: str) -> None:
    made = report(builder, kind)
    root = ET.fromstring(to_junit(made))
    suite = root.find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == [rule.id for rule in made.verdict.rules]
    for case, rule in zip(cases, made.verdict.rules, strict=True):
        kinds = {child.tag for child in case}
        expected = {"pass": set(), "fail": {"failure"}, "needs_human": {"failure"}, "not_applicable": {"skipped"}}
        assert kinds == expected.get(rule.state, {"error"})
    bad = sum(int(suite.get(key) or 0) for key in ("failures", "errors"))
    assert (bad == 0) == (made.verdict.state == "pass")
    assert int(suite.get("tests") or 0) == len(cases)


@pytest.mark.parametrize("kind", KINDS)
def test_sarif_has_one_result_a_rule_that_is_open(builder: ModuleType, kind: str) -> None:
    made = report(builder, kind)
    text = to_sarif(made)
    data = json.loads(text)
    run = data["runs"][0]
    assert data["version"] == "2.1.0"
    assert [result["ruleId"] for result in run["results"]] == [rule.id for rule in made.verdict.open]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] == ("warning" if result["properties"]["state"] == "needs_human" else "error")
        assert not re.search(r"(?<!\\)\[", result["message"]["text"]), "a bracket would be a link"
    assert run["invocations"][0]["exitCode"] == made.verdict.exit_code
    assert text.isascii()


def test_a_name_in_two_places_is_one_rule_of_sarif(builder: ModuleType) -> None:
    ids = [rule["id"] for rule in json.loads(to_sarif(report(builder, "pass")))["runs"][0]["tool"]["driver"]["rules"]]
    assert len(ids) == len(set(ids))


CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


@pytest.mark.parametrize("render", [to_junit, to_sarif, to_markdown, to_html, to_json])
def test_hostile_text_does_no_harm(builder: ModuleType, render: Any) -> None:
    text = render(report(builder, "hostile"))
    assert not CONTROL.search(text)
    if render is not to_json and render is not to_sarif:  # JSON is data: what reads it escapes it
        assert "<script" not in text
        assert "<img" not in text
    if render is to_junit:
        ET.fromstring(text)


# ---- markdown ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_markdown_tables_keep_their_shape(builder: ModuleType, kind: str) -> None:
    lines = to_markdown(report(builder, kind)).split("\n")
    width = 0
    for line in lines:
        if line.startswith("|"):
            width = width or line.count("|")
            assert line.count("|") == width, line
        else:
            width = 0
        assert not line.startswith(("=", "+", "    "))


def test_markdown_has_figures_that_decide_nothing_in_the_internal_edition_alone(builder: ModuleType) -> None:
    internal = to_markdown(report(builder, "internal"))
    assert "## Further figures of the attacks on real rows, which decide nothing" in internal
    assert (
        "| 0.0779 (0.0616 to 0.0942) | 0.0798 (0.0635 to 0.0961) | \u22120.0019 (\u22120.0182 to 0.0144) |" in internal
    )
    assert "| 250 control persons in a half cannot teach it |" in internal
    assert "Further figures" not in to_markdown(report(builder, "pass"))


def test_markdown_says_the_verdict_first(builder: ModuleType) -> None:
    assert to_markdown(report(builder, "pass")).startswith("# Verdict: Pass\n")
    failed = to_markdown(report(builder, "fail"))
    assert failed.startswith("# Verdict: Fail\n")
    assert failed.index("## Why not") < failed.index("## The bound")
    assert "**3.3** of 100" in failed
    assert "Internal edition" in to_markdown(report(builder, "internal"))
    assert "Internal" not in to_markdown(report(builder, "pass"))


@pytest.mark.parametrize(
    "text",
    [
        "a|b",
        "*x*",
        "_x_",
        "`x`",
        "<b>",
        "[a](b)",
        "# h",
        "- x",
        "1. x",
        "www.a.b",
        "http://a.b",
        "a@b.c",
        "~~x~~",
        "&lt;",
        "\\*",
        "$x$",
        ":tada:",
        "=1+1",
    ],
)
def test_no_character_of_a_name_is_markup(text: str) -> None:
    out = markdown(text)
    assert not re.search(r"[^A-Za-z0-9 &#;]", out)
    assert re.sub(r"&#(\d+);", lambda found: chr(int(found[1])), out) == text


def test_ordinary_names_stay_readable() -> None:
    assert markdown("income_total per-person 3") == "income_total per-person 3"


# ---- JSON ---------------------------------------------------------------------------------------------------------


def test_json_holds_evidence_policy_and_verdicts(builder: ModuleType) -> None:
    data = json.loads(to_json(report(builder, "pass")))
    assert (data["schema"], data["edition"], data["verdict"]["verdict"]) == ("dpsynth.report/1", "shareable", "pass")
    assert "review" not in data
    assert Evidence.from_json(json.dumps(data["evidence"])) == builder.shareable()
    assert json.loads(to_json(report(builder, "internal")))["review"]["verdict"] == "pass"


# ---- rounding and text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "direction", "shown"),
    [
        (0.0321, "up", "3.3"),
        (0.0321, "down", "3.2"),
        (0.0321, "nearest", "3.2"),
        (0.03, "up", "3"),
        (0.001, "up", "0.1"),
        (0.00226, "up", "0.23"),
        (0.000011, "up", "0.002"),
        (0.0, "up", "0"),
        (1.0, "up", "100"),
        (0.99999, "up", "100"),
        (0.99999, "down", "99.9"),
        (-0.0321, "up", "\u22123.2"),
        (-0.0321, "down", "\u22123.3"),
        (0.1 + 0.2, "up", "30.1"),
        (0.3, "up", "30"),
        (0.2, "up", "20"),
    ],
)
def test_shares_round_in_the_direction_that_is_asked(value: float, direction: Any, shown: str) -> None:
    assert hundred(value, direction) == shown
    assert percent(value, direction) == f"{shown}%"


@pytest.mark.parametrize(
    ("value", "direction", "shown"),
    [
        (1.0, "up", "1"),
        (0.99999, "up", "1"),
        (0.99999, "down", "0.9999"),
        (1e-6, "up", "1e-6"),
        (1.5e-6, "up", "1.5e-6"),
        (0.0001, "up", "0.0001"),
        (12074, "nearest", "12,074"),
        (1234567.5, "up", "1,234,568"),
        (-0.25, "nearest", "\u22120.25"),
        (0, "up", "0"),
        (20.0, "up", "20"),
        (0.00241, "up", "0.00241"),
        (0.0024101, "up", "0.002411"),
    ],
)
def test_numbers_round_in_the_direction_that_is_asked(value: float, direction: Any, shown: str) -> None:
    assert number(value, direction) == shown


def test_other_words_for_values() -> None:
    assert [dots(v) for v in (0.0, 0.0001, 0.01, 0.0101, 0.999, 1.0)] == [0, 1, 1, 2, 100, 100]
    assert [points(v) for v in (0.0042, -0.0042, 0.0)] == ["+0.42", "\u22120.42", "0"]
    assert [plain(v) for v in (None, True, False, (), ("a", "b"), "x", 3)] == [
        "not available",
        "yes",
        "no",
        "none",
        "a; b",
        "x",
        "3",
    ]


def test_text_is_made_visible_and_short() -> None:
    assert visible("a\x1b[0mb\n\u202ec") == "a⟨U+001B⟩[0mb⟨U+000A⟩⟨U+202E⟩c"
    assert name("x" * 64) == "x" * 64
    assert name("x" * 65).endswith("(65 characters)")
    assert len(name("\u202e" * 10_240)) < 700
    assert label("abcdef", 6) == "abcdef"
    assert label("abcdefg", 6) == "abcde…"
    assert len(label("\x00" * 50, 14)) == 14


# ---- controls ------------------------------------------------------------------------------------------------------


def test_controls_say_whether_evidence_is_here_and_no_more(builder: ModuleType) -> None:
    assert len(catalogue()) == 50
    assert len({control.id for control in catalogue()}) == 50
    shareable = {item.control.id: item for item in evaluate(builder.shareable())}
    internal = {item.control.id: item for item in evaluate(builder.internal())}
    assert all(item.status == "human" for item in shareable.values() if item.control.mode == "human")
    assert shareable["WP216-S"].lacking == ("attacks[criterion=singling_out]",)
    assert internal["WP216-S"].status == "present"
    assert shareable["AUDIT-1"].status == "absent"
    assert {item.status for item in evaluate(Evidence({}))} <= {"absent", "partial", "human", "present"}
    empty = {item.control.id: item.status for item in evaluate(Evidence({}))}
    assert empty["N226-EPS"] == "absent"


def test_every_word_of_the_catalogue_has_a_place() -> None:
    """A misspelt path would be told as lacking for ever: each is a declared path, a known alias, or known to be absent."""
    from reports.controls import _WHERE
    from reports.paths import PATHS, REVIEW_PATHS

    known = [*PATHS, *REVIEW_PATHS]
    for asked, paths in _WHERE.items():
        for path in paths:
            start = path.replace("[0]", "[]")
            assert path == "*" or any(
                p == start or p.startswith(start + ".") for p in [*known, "review.membership.knows"]
            ), asked


# ---- never claim ---------------------------------------------------------------------------------------------------


def test_no_source_or_output_claims_too_much(builder: ModuleType) -> None:
    texts = {
        str(path): path.read_text(encoding="utf-8")
        for path in Path(str(files("reports"))).rglob("*")
        if path.suffix in (".jinja", ".toml", ".jsonl", ".css")
    }
    assert len(texts) > 8
    for module in (
        "render/words.py",
        "gate/checks.py",
        "gate/completeness.py",
        "gate/consistency.py",
        "gate/guarantee.py",
        "gate/ledger.py",
        "gate/attacks.py",
        "gate/people.py",
        "gate/rules.py",
        "paths.py",
        "controls.py",
        "registry.py",
        "safe_harbor.py",
        "render/annexes.py",
        "render/figures.py",
        "render/to_markdown.py",
        "render/describe.py",
    ):
        texts[module] = (files("reports") / module).read_text(encoding="utf-8")
    for kind in KINDS[:4]:
        made = report(builder, kind)
        for render in (to_html, to_markdown, to_junit, to_sarif, to_json):
            texts[f"{kind} {render.__name__}"] = render(made)
    for policy in shipped():
        made = Report.of(Policy.load(policy), builder.internal(), on=builder.TODAY)
        for render in (to_html, to_markdown, to_junit, to_sarif, to_json):
            texts[f"{policy} {render.__name__}"] = render(made)
        publisher = Publisher(curator="C", curator_type="Industry", region="R", authors=("A",))
        texts[f"{policy} registry"] = to_registry(made, publisher)
    for where, text in texts.items():
        assert claims(text) == [], where


@pytest.mark.parametrize(
    "claim",
    [
        "The data are anonymous.",
        "This is HIPAA compliant",
        "fully private",
        "Privacy score 9.3/10",
        "the release is safe",
    ],
)
def test_the_scan_can_fail(claim: str) -> None:
    assert claims(claim)


@pytest.mark.parametrize("claim", ["Safe Harbor met.", "These data are de-identified.", "Certified by an expert."])
def test_the_scan_sees_a_claim_in_an_annex(builder: ModuleType, monkeypatch: pytest.MonkeyPatch, claim: str) -> None:
    """A claim that somebody writes into the text of an annex reaches the pages, and is caught there."""
    policy = Policy.load("hipaa-expert")
    data = dict(_file("safe-harbor")) | {"text": claim}
    monkeypatch.setattr("reports.render.annexes._file", lambda annex: data if annex == "safe-harbor" else _file(annex))
    made = Report.of(policy, builder.internal(), on=builder.TODAY)
    for render in (to_html, to_markdown):
        assert claims(render(made)), render.__name__


def test_a_policy_chooses_the_catalogues(builder: ModuleType) -> None:
    """Ours is always there; one that this version does not have is told, and never taken for shown."""
    shown = {item.control.catalog for item in evaluate(builder.shareable(), catalogs=["hipaa@2026-11"])}
    assert shown == {"hipaa@2026-11", "dpsynth@1"}
    assert not_shipped(["hipaa@2026-11", "hipaa@1996"]) == ("hipaa@1996",)
    assert all(not_shipped(Policy.load(policy).catalog) == () for policy in shipped())
    old = Policy.parse(builder.policy().text.replace("hipaa@2026-11", "hipaa@1996"))
    text = to_html(Report.of(old, builder.internal(), on=builder.TODAY))
    assert "Not part of this version, and not shown: <bdi>hipaa@1996</bdi>" in text
    assert "45 CFR 164.514" not in text
