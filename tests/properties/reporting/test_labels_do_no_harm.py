"""Texts that others wrote change the words of a page and nothing else: no element, link, row, line or escape more or less."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType
from typing import Any

import labels
import pytest
import signers
import structure
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dpsynth.cli.talk import clean
from reports import Report
from reports.explain import explained
from reports.render import to_html, to_json, to_junit, to_markdown, to_sarif
from reports.render.text import markdown, visible

RENDERERS = {"html": to_html, "markdown": to_markdown, "junit": to_junit, "sarif": to_sarif, "json": to_json}
CALM = "calm"
PIECES = (
    "<", ">", "&", '"', "'", "`", "|", "\\", "*", "_", "~", "#", "[", "](x)", "!", "{{", "}}", "{%", "=", "+", "-", "@", "\n", "\r\n",
    "\t", "\x00", "\x07", "\x1b[31m", "\x1b]8;;http://x\x07", "\x9b31m", "\u202e", "\u2066", "\u200b", "\u200d", "\u2060", "\ufeff",
    "\u2028", "\xad", "\U000e0041", "\ud800", "<script>", "</style>", "<!--", "]]>", "<img src=x onerror=y>", "http://x.invalid",
    "www.x.invalid", "a@b.invalid", "\n# h\n", "\n| a |\n|---|\n", "\n- x\n", "    x", "1. x", "> x", "&lt;", "&#60;", "=cmd|'/C calc'!A0", "x" * 70,
)  # fmt: skip
hostile = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), min_size=1, max_size=6).map("".join)


def pages(builder: ModuleType, text: str) -> dict[str, str]:
    """Every format of a report in which every free text is this one; its verdict has broken and waived rules."""
    text = text.encode("utf-8", "ignore").decode()  # no leaf, and no policy, can hold half a pair
    evidence, rules = labels.evidence(builder, text), labels.policy(text)
    name = text if text.isprintable() and text == text.strip() and len(text) <= 200 and text else "A. Lee"
    try:
        made = signers.signed(evidence, rules, name=name, organisation=name)
    except ValueError:  # not in normal form
        made = signers.signed(evidence, rules)
    record = signers.record(made, problems=(text,))
    report = Report.of(rules, evidence, on=builder.TODAY, edition="internal", record=record)
    out = {kind: render(report) for kind, render in RENDERERS.items()}
    out["terminal"] = "\n".join(clean(line) for rule in report.verdict.rules for line in explained(report, rule.id))
    return out


def skeletons(found: dict[str, str]) -> dict[str, Any]:
    out = {kind: read(found[kind]) for kind, read in structure.READERS.items()}
    return out | {"terminal": structure.terminal(found["terminal"])}


@cache
def calm(builder: ModuleType) -> dict[str, Any]:
    return skeletons(pages(builder, CALM))


@pytest.mark.slow
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=hostile)
@example(text="".join(PIECES))
@example(text="\n| a | b |\n|---|---|\n| <script>alert(1)</script> |\n# h\n[l](javascript:x)\n\x1b[31m\u202e")
@example(text="x" * 10_240)
def test_no_text_changes_the_structure_of_a_page(builder: ModuleType, text: str) -> None:
    found = pages(builder, text)
    for kind, content in found.items():
        assert not structure.UNSEEN.search(content), kind
        assert len(content) < 1_000_000 or kind == "json", kind
    other = [kind for kind, skeleton in skeletons(found).items() if skeleton != calm(builder)[kind]]
    assert not other


@given(text=hostile)
def test_no_text_is_more_than_words_of_its_line(text: str) -> None:
    shown = visible(text)
    assert not structure.UNSEEN.search(shown)
    assert "\n" not in shown
    line = f"| {markdown(text)} | b |"
    head = structure.markdown(f"| {CALM} | b |\n|---|---|\n| {CALM} | b |")
    assert structure.markdown(f"{line}\n|---|---|\n{line}") == head
    assert structure.markdown(f"- **fail** {markdown(text)}: x") == structure.markdown(f"- **fail** {CALM}: x")
    assert not structure.UNSEEN.search(clean(text))


# ---- the comparison can fail -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("html", "<p>a</p>", "<p><img src=x></p>"),
        ("html", "<p>a</p>", "<p><!-- a --></p>"),
        ("html", '<p title="a">a</p>', '<p title="a" onclick="x">a</p>'),
        ("markdown", "a", "[a](b)"),
        ("markdown", "a", "<b>a</b>"),
        ("markdown", "a", "`a`"),
        ("markdown", "| a |\n|---|\n| b |", "| a |\n|---|\n| b | c |\n| d |"),
        ("junit", '<a b="c"/>', '<a b="c"><d/></a>'),
        ("sarif", '{"a": "b"}', '{"a": "b", "c": 1}'),
    ],
)
def test_a_difference_is_seen(kind: str, good: str, bad: str) -> None:
    read = structure.READERS[kind]
    assert read(good) != read(bad)


def test_a_renderer_that_forgets_to_escape_is_seen(builder: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("reports.render.to_markdown")
    monkeypatch.setattr(module, "markdown", lambda text, limit=0: text)
    assert structure.markdown(pages(builder, "a | b `c` <i>")["markdown"]) != calm(builder)["markdown"]


@pytest.mark.parametrize("text", ["\x1b[31m", "a\u202eb", "a\u2028b", "\ud800"])
def test_a_terminal_that_is_steered_is_seen(text: str) -> None:
    with pytest.raises(AssertionError):
        structure.terminal(text)
    structure.terminal(clean(text))
