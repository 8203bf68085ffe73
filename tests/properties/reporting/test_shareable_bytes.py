"""With the private outputs fixed, nothing about real rows moves a byte of what may leave the house."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reports import Evidence, Leaf, Report
from reports.render import to_html, to_json, to_junit, to_markdown, to_sarif

ROOT = Path(__file__).parents[3]


def everything(builder: ModuleType, evidence: Evidence) -> dict[str, str]:
    report = Report.of(builder.policy(), evidence, on=builder.TODAY)
    return {
        "evidence": report.evidence.to_json(),
        "verdict": report.verdict.to_text(),
        "html": to_html(report),
        "json": to_json(report),
        "markdown": to_markdown(report),
        "junit": to_junit(report),
        "sarif": to_sarif(report),
    }


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**9),
    st.floats(-1, 1),
    st.text(max_size=20).map(str),
    st.just(("a", "b")),
)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_internal_leaves_move_no_shareable_byte(builder: ModuleType, data: st.DataObject) -> None:
    """Attacks that fail, verdicts that flip, counts that change, results that vanish: the same pages."""
    expected = everything(builder, builder.internal())
    evidence = builder.internal()
    paths = [path for path, _ in evidence.leaves() if path.startswith("review.")]
    for path in data.draw(st.lists(st.sampled_from(paths), max_size=12, unique=True)):
        value = data.draw(st.one_of(VALUES, st.just("remove")))
        evidence = evidence.with_leaf(path, None if value == "remove" else Leaf(value, "P3", "real rows"))
    assert everything(builder, evidence) == expected


def test_a_flipped_review_verdict_moves_no_shareable_byte(builder: ModuleType) -> None:
    flipped = builder.internal({"review.membership.excess": builder.internal_number(0.5, 0.01)})
    assert builder.review_verdict(flipped).state == "fail"
    assert builder.review_verdict(builder.internal()).state == "pass"
    assert everything(builder, flipped) == everything(builder, builder.internal())
    without = builder.internal().with_leaf("review", None)
    assert everything(builder, without) == everything(builder, builder.internal())


def test_no_internal_value_stands_in_a_shareable_file(builder: ModuleType) -> None:
    evidence = builder.internal()
    secret = 0
    for path, leaf in list(evidence.leaves()):
        if path.startswith("review."):
            secret += 1
            value = 0.4711000 + secret * 1e-7 if isinstance(leaf.value, float) else f"SECRET-4711-{secret}"
            evidence = evidence.with_leaf(path, Leaf(value, "P3", f"SECRET-SRC-4711-{secret}"))
    for name, text in everything(builder, evidence).items():
        assert not re.search(r"0\.4711|47\.11|SECRET|4711", text), name
        assert "P3" not in text or name == "html", name
    internal = Report.of(builder.policy(), evidence, on=builder.TODAY, edition="internal")
    assert "SECRET-4711" in to_html(internal)
    for text in (to_junit(internal), to_sarif(internal)):
        assert not re.search(r"4711|SECRET|review\.", text), "a pipeline's log shows the release stage only"
    assert to_junit(internal) == everything(builder, evidence)["junit"]
    assert to_sarif(internal) == everything(builder, evidence)["sarif"]


PROGRAM = """
import hashlib, runpy, sys
builder = runpy.run_path("tests/evidence_builder.py")
from reports import Policy, Report
from reports.render import to_html, to_json, to_junit, to_markdown, to_sarif
for edition in ("shareable", "internal"):
    report = Report.of(builder["policy"](), builder["internal"](), on=builder["TODAY"], edition=edition)
    for render in (to_html, to_json, to_junit, to_markdown, to_sarif):
        print(hashlib.sha256(render(report).encode()).hexdigest())
for name in ("gdpr-controlled", "hipaa-expert", "open-data"):
    report = Report.of(Policy.load(name), builder["internal"](), on=builder["TODAY"])
    for render in (to_html, to_json, to_markdown):
        print(hashlib.sha256(render(report).encode()).hexdigest())
"""


@pytest.mark.slow
def test_the_same_evidence_policy_and_day_give_the_same_bytes_in_every_process() -> None:
    found = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "TZ": f"UTC{seed}", "LC_ALL": "C"}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        assert len(done.stdout.split()) == 19
        found.add(done.stdout)
    assert len(found) == 1
