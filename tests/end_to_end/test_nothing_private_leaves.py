"""Design rule 13: with the differentially private outputs fixed, no shareable byte depends on a real row."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from dpsynth import Curator, Ledger, Schema
from reports.pipeline import Settings, publish
from reports.policy import Policy

REVIEWS = """
[[rule]]
id       = "review.persons"
evidence = "review.nearest_record.n"
stage    = "review"
at_least = 1000
reason   = "whoever wants a verdict that flips when people leave"
"""
SETTINGS = {"epsilon": 1, "delta": "1e-6", "holdout": "0.4", "rows": 60}


def policy() -> Policy:
    """The release rules of `internal-test`, and a review rule that some tables keep and others break."""
    text = Policy.load("internal-test").text
    return Policy.parse(text[: text.index("# ---- review stage")].replace('"internal-test"', '"ours"', 1) + REVIEWS)


class Tape:
    """Records the curator's noisy answers in a first run and plays them back in the next ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: list[Any] = []
        self.playing = False
        self.place = 0
        for name in (
            "find_values", "find_rows", "measure", "select", "score", "count_successes", "count_unit_sizes",
        ):  # fmt: skip
            monkeypatch.setattr(Curator, name, self._wrapped(getattr(Curator, name)))

    def _wrapped(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(curator: Curator, *arguments: Any, **words: Any) -> Any:
            # always run: it has to be charged, and must not fail on any rows
            found = method(curator, *arguments, **words)
            if not self.playing:
                self.answers.append(found)
                return found
            self.place += 1
            return self.answers[self.place - 1]

        return call

    def rewind(self) -> None:
        self.playing, self.place = True, 0


@pytest.fixture
def fixed(case, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], Path]:  # type: ignore[no-untyped-def]
    """Runs a release on some rows, with everything fixed that is random or a clock and says nothing about rows."""
    tape = Tape(monkeypatch)
    extracts: dict[bool, Any] = {}
    real_extract = Ledger.extract

    def extract(ledger: Ledger, **words: Any) -> Any:
        return extracts.setdefault("running" in words, real_extract(ledger, **words))

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    monkeypatch.setattr(Ledger, "extract", extract)
    monkeypatch.setattr("reports.pipeline.datetime", Clock)
    monkeypatch.setattr("reports.pipeline.uuid.uuid4", lambda: UUID(int=4))
    for drawing in ("reports.pipeline", "dpsynth.synthetic"):
        monkeypatch.setattr(f"{drawing}.sampling_generator", lambda: np.random.default_rng(5))
    count = 0

    def go(lines: list[str]) -> Path:
        nonlocal count
        count += 1
        case.write(lines)
        ledger = Ledger.create(
            case.folder / f"ledger{count}", population="test", epsilon=2, delta="1e-6", entity="person"
        )
        out = case.folder / f"fixed{count}"
        publish(
            case.data,
            schema=Schema.load(case.schema),
            ledger=ledger,
            settings=Settings(policy=policy(), **SETTINGS),  # type: ignore[arg-type]
            out=out,
        )
        tape.rewind()
        return out

    return go


def review_state(out: Path) -> str:
    """What the internal review says about the number of persons: chance decides whether it finds anything else."""
    rules = json.loads((out / "internal" / "verdict.json").read_text(encoding="utf-8"))["rules"]
    return next(str(rule["status"]) for rule in rules if rule["id"] == "review.persons")


def shareable(out: Path) -> dict[str, bytes]:
    """Every byte under release/, but for the salted commitment to the internal files, and digests of what holds it."""
    found = {}
    salted = hashlib.sha256((out / "release" / "manifest.json").read_bytes()).hexdigest().encode()
    for path in sorted((out / "release").rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.name == "manifest.json":
                content = re.sub(rb'"internal_commitment": "[0-9a-f]{64}"', b"", content)
            if path.name == "release.intoto.jsonl":
                statements = [base64.b64decode(json.loads(line)["payload"]) for line in content.splitlines()]
                assert all(salted in statement for statement in statements)
                content = b"\n".join(statement.replace(salted, b"") for statement in statements)
            found[path.relative_to(out).as_posix()] = content
    assert "release/manifest.json" in found
    return found


@pytest.mark.slow
@pytest.mark.rewinds
def test_real_rows_do_not_reach_shareable_bytes(  # type: ignore[no-untyped-def]
    fixed, table_rows: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = table_rows(1200)
    first = fixed(base)
    expected = shareable(first)
    synthetic = pd.read_parquet(first / "release" / "synthetic.parquet").iloc[0]
    a_synthetic_row = f"p5000,{synthetic['age']},{synthetic['town']},,{'yes' if synthetic['ill'] else 'no'}"
    changes = {
        "a person vanishes": [line for line in base if not line.startswith("p7,")],
        "n changes": base[: len(base) // 2],
        "a minimum changes": [*base, "p9999,-40,A,-1000,no"],
        "a category changes": [*base, "p9999,30,ELSEWHERE,10,no"],
        "a row equals a synthetic row": [*base, a_synthetic_row],
        "one row": base[:1],
        "no rows": [],
        "other rows": table_rows(900, seed=2),
        "half the people are copies of one": base[:600] + [f"q{i},30,A,10,yes" for i in range(600)],
    }
    reviews = {"as it was": review_state(first)}
    for name, lines in changes.items():
        out = fixed(lines)
        assert shareable(out) == expected, name
        reviews[name] = review_state(out)
    assert reviews["as it was"] == "pass"
    assert reviews["n changes"] == "fail", f"it does flip: {reviews}"

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("an attack errs")

    monkeypatch.setattr("attacks.run_suite", broken)
    out = fixed(base)
    assert shareable(out) == expected
    assert not (out / "internal" / "verdict.json").exists()
    assert b"RuntimeError" in (out / "internal" / "evidence.json").read_bytes()


OPENED = {
    "minimum = 0\nmaximum = 99\nbins    = 10": 'minimum = "discover"\nmaximum = 99\nbins = "discover"',
    'values = ["A", "B", "C", "D"]': 'values = "discover"',
    "minimum = 0\nmaximum = 1000": 'minimum = "discover"\nmaximum = "discover"',
}


@pytest.mark.slow
@pytest.mark.rewinds
def test_nor_where_the_schema_leaves_columns_open(case, fixed, table_rows: Callable[..., list[str]]) -> None:  # type: ignore[no-untyped-def]
    """What was discovered stands in the release, and comes from the noisy answers alone."""
    text = case.schema.read_text(encoding="utf-8")
    for closed, opened in OPENED.items():
        assert closed in text
        text = text.replace(closed, opened)
    case.schema.write_text(text, encoding="utf-8")
    base = table_rows(1200)
    first = fixed(base)
    expected = shareable(first)
    changes = {
        "a person vanishes": [line for line in base if not line.startswith("p7,")],
        "a minimum changes": [*base, "p9999,-40,A,-1e15,no"],
        "a text that one person has": [*base, "p9999,30,ELSEWHERE,10,no"],
        "texts come in another order": base[::-1],
        "all texts are different": [re.sub(",([A-D]),", rf",\g<1>{n},", line) for n, line in enumerate(base)],
        "no rows": [],
        "other rows": table_rows(900, seed=2),
    }
    reviews = {(first / "internal" / "evidence.json").read_bytes()}
    for name, lines in changes.items():
        out = fixed(lines)
        assert shareable(out) == expected, name
        reviews.add((out / "internal" / "evidence.json").read_bytes())
    assert len(reviews) > 1, "the internal review did see the difference"


def test_internal_folder_is_for_its_owner(case) -> None:  # type: ignore[no-untyped-def]
    assert case.release("--no-gate", "--rows", 20) == 0
    assert (case.out / "internal").stat().st_mode & 0o777 == 0o700


def test_two_releases_of_the_same_rows_differ(case) -> None:  # type: ignore[no-untyped-def]
    """There is no seed: noise is fresh every time."""
    tables = []
    for i in range(2):
        assert case.release("--no-gate", "--rows", 200, epsilon="0.5", out=case.folder / f"r{i}") == 0
        tables.append(pd.read_parquet(case.folder / f"r{i}" / "release" / "synthetic.parquet"))
    assert not tables[0].equals(tables[1])
