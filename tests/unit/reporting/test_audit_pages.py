"""Chapter 7 on audits of the program: what was found beside what could have been, in words that claim no more."""

from __future__ import annotations

import html
import re
from types import ModuleType
from typing import Any

import pytest

from reports import Evidence, Leaf, Report
from reports.controls import evaluate
from reports.render import audits, to_html, to_markdown


def evidence(builder: ModuleType, changed: dict[str, Any] | None = None, **item: Any) -> Evidence:
    found: Evidence = builder.with_audit(changed, **item)
    return found.with_disclosure()


def chapter(builder: ModuleType, found: Evidence) -> str:
    """The words of the chapter on the page, between its own heading and the next."""
    page = to_html(Report.of(builder.policy(), found, on=builder.TODAY))
    part = page[page.index('<section id="audit"') : page.index('<section id="utility"')]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", part)).split())


def markdown(builder: ModuleType, found: Evidence) -> str:
    text = to_markdown(Report.of(builder.policy(), found, on=builder.TODAY))
    return html.unescape(text[text.index("## Audit of the program") : text.index("## Budget")])


def test_the_bound_stands_beside_claim_ceiling_fits_and_confidence(builder: ModuleType) -> None:
    found = evidence(builder)
    row = audits.found(found)[0]
    assert (row.game, row.low, row.claim, row.ceiling, row.fits) == (
        "alone: reads the noisy counts",
        "0.31",
        "1",
        "2.79",
        "196",
    )
    assert (row.confidence, row.result) == ("99.9%", "not contradicted")
    assert [row.small_leak for row in audits.found(found)] == ["not tried", "seen", "not tried", "not tried"]
    for text in (chapter(builder, found), markdown(builder, found)):
        assert audits.CAPTION in text
        assert "Epsilon is at least 0.31" in text
        assert "The claim is not contradicted. No audit can prove one" in text
        assert "verified" not in text
        assert "left out: nobody_else" in text
        assert "204 times" in text
        assert audits.NO_AUDIT not in text


@pytest.mark.parametrize(("status", "says"), [("fail", "is contradicted"), ("incomplete", "the audit is incomplete")])
def test_other_verdicts_have_other_words(builder: ModuleType, status: str, says: str) -> None:
    found = evidence(builder, status=status)
    assert audits.found(found)[0].result == audits.RESULTS[status] != "not contradicted"
    for text in (chapter(builder, found), markdown(builder, found)):
        assert says in text
        assert "The claim is not contradicted" not in text


def test_the_self_test_says_its_sizes_and_its_false_alarms_first(builder: ModuleType) -> None:
    found = evidence(builder)
    alarms, outlier, copy, honest, worst = audits.seen(found)
    assert (alarms.seen, alarms.note, alarms.interval) == ("1 of 40", "false alarms", "0.063% to 13.2% (95%)")
    assert (outlier.seen, outlier.note) == ("1 of 20", "not more than false alarms explain")
    assert (copy.seen, copy.note) == ("20 of 20", "seen by these attacks")
    assert honest.planted == "a mechanism that keeps its claim"
    assert "100 times" in worst.planted
    for text in (chapter(builder, found), markdown(builder, found)):
        assert "1,000 people whose rows were used" in text
        assert "need not be those of the release" in text
        assert audits.SELFTEST_CAPTION in text


def test_without_an_audit_the_chapter_says_how_to_have_one(builder: ModuleType) -> None:
    for text in (chapter(builder, builder.internal()), markdown(builder, builder.internal())):
        assert "No audit of the program came with this release" in text
        assert "No self-test came with this release" in text
        assert "--audit FILE" in text
    alone = builder.tree()
    alone["audit"] = {"selftest": builder.audited(builder.tree())["audit"]["selftest"]}
    text = chapter(builder, Evidence(alone).with_disclosure())
    assert "No audit of the program came" in text
    assert "1,000 people" in text


@pytest.mark.parametrize(
    "path",
    [
        "audit.items[0].low",
        "audit.epsilon_lower_bound",
        "audit.verdict",
        "audit.selftest.rows",
        "audit.selftest.leaks[0].rate",
    ],
)
def test_a_gap_leaves_a_row_out_and_no_page(builder: ModuleType, path: str) -> None:
    found = evidence(builder, {path: None})
    assert chapter(builder, found)
    assert "The claim is not contradicted" not in chapter(builder, found) or path.startswith(
        ("audit.items", "audit.self")
    )


def test_texts_of_the_evidence_stay_texts(builder: ModuleType) -> None:
    for text in builder.HOSTILE[:12]:
        found = evidence(builder, {"audit.items[0].id": text, "audit.synthesizer": text, "audit.differs": (text,)})
        page = to_html(Report.of(builder.policy(), found, on=builder.TODAY))
        assert "<script>" not in page
        assert "<img" not in page
        plain = to_markdown(Report.of(builder.policy(), found, on=builder.TODAY))
        assert "<script>" not in plain
        assert "](javascript" not in plain


def test_the_control_on_audits_wants_the_bound(builder: ModuleType) -> None:
    """A self-test alone bounds nothing."""

    def status(found: Evidence) -> str:
        return next(item.status for item in evaluate(found) if item.control.id == "AUDIT-1")

    assert status(evidence(builder)) == "present"
    tree = builder.audited(builder.tree())
    tree["audit"] = {"selftest": tree["audit"]["selftest"]}
    assert status(Evidence(tree)) == "absent"


def test_the_hazard_of_a_broken_program_is_judged_by_the_audit(builder: ModuleType) -> None:
    from reports import Policy

    policy = Policy.load("hipaa-expert")
    for found, says in (
        (evidence(builder, status="fail", low=1.4), "audit.not_contradicted: fail"),
        (evidence(builder), "audit.not_contradicted: pass"),
    ):
        assert says in to_html(Report.of(policy, found, on=builder.TODAY))
    blank = Leaf(None, "P0", "x")
    assert "Lower bound on epsilon" in to_html(
        Report.of(policy, builder.internal({"audit.epsilon_lower_bound": blank}), on=builder.TODAY)
    )
