"""A release whose rows another program makes: charged, judged, written, and never more than a person may sign."""

from __future__ import annotations

import json
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dpsynth import Cap, PrivacyUnit
from dpsynth.privacy import ORDERS, RowPromise
from dpsynth.synthesizers import external
from dpsynth.synthesizers.registry import EXTERNAL

PRIVATE = "CANARYVALUE"
PERSON = PrivacyUnit(entity="person", max_rows=3, neighbours="add_remove")
SHUFFLE = """
    n = int(args["--rows"])
    pd.DataFrame({c: table[c].sample(n, replace=True).reset_index(drop=True) for c in table}).to_parquet(args["--out"])
"""
POLICY = """
schema  = "dpsynth.policy/1"
name    = "other-tools"
version = "1"
reason  = "For these tests."
catalog = ["sp800-226@2025-03"]

[[rule]]
id       = "guarantee.epsilon"
evidence = "guarantee.epsilon"
stage    = "release"
at_most  = 1.0
reason   = "For these tests."
"""


@pytest.fixture
def program(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A program with these lines in the place of its work; returns the command."""

    def work(body: str = SHUFFLE) -> str:
        path = tmp_path / "program.py"
        head = """
            import os, sys
            import pandas as pd
            args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
            table = pd.read_parquet(args["--train"])
        """
        path.write_text(textwrap.dedent(head) + textwrap.dedent(body), encoding="utf-8")
        return f"'{sys.executable}' '{path}'"

    return work


def evidence_of(case: Any) -> dict[str, Any]:
    return json.loads((case.out / "release" / "evidence.json").read_text())


def test_a_release_by_another_program(case, program, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    temp = case.folder / "temp"
    temp.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temp))
    policy = case.folder / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    command = program()
    words = ("--synthesizer", "external", "--command", command, "--rows", 900, "--policy", policy)
    assert case.release(*words) == 3, case.stderr
    assert case.stdout.splitlines()[0] == "needs_human"
    assert list(temp.iterdir()) == []
    evidence = evidence_of(case)
    guarantee = evidence["guarantee"]
    assert guarantee["definition"]["v"] == "approximate DP, claimed by another tool"
    assert guarantee["rho"]["v"] is None
    assert guarantee["unprotected_quantities"]["v"] == ["whether the program ran to its end"]
    assert [share["purpose"]["v"] for share in guarantee["shares"]] == ["another program's claim"]
    assert [row["delta"]["v"] for row in guarantee["profile"]] == [1e-5, 1e-6], "below its delta0 no epsilon holds"
    assert all(row["epsilon"]["v"] <= 1 for row in guarantee["profile"])
    assert evidence["implementation"]["claimed_by"]["v"] == "the program that was named with --command"
    unfit = " ".join(evidence["utility"]["unfit"]["v"])
    assert "the other program learned from whole rows, no relation was measured here" in unfit
    assert "as far as those imply" not in unfit
    assert evidence["release"]["kind"]["v"] == "data"
    assert evidence["release"]["rows"]["v"] == 900
    rules = {
        rule["id"]: rule["status"] for rule in json.loads((case.out / "release" / "verdict.json").read_text())["rules"]
    }
    assert rules["evidence.complete"] == rules["evidence.consistent"] == "pass"
    assert rules["guarantee.covered"] == "needs_human"
    page = (case.out / "release" / "report.html").read_text()
    assert "claimed by another tool" in page
    manifest = (case.out / "release" / "manifest.json").read_text()
    assert command not in manifest + page + json.dumps(evidence), "it may name private paths"

    charged = case.extract().charged
    cap = Cap.of(1, "1e-6")
    assert cap.admits(0, 0, charged)
    top = ORDERS[-1]
    claim = RowPromise.within(PERSON, order=top, nano=charged.at(top), delta0=charged.delta0, pure=False)
    assert claim.cost(PERSON) == charged
    assert guarantee["claim"]["epsilon"]["v"] == pytest.approx(float(3 * claim.epsilon), rel=1e-9)

    assert case("verify", case.out) == 0
    assert case("gate", case.out, "--policy", policy) == 3

    later = case.folder / "later"
    assert case.release("--synthesizer", "mst", "--policy", policy, epsilon="0.1", out=later) == 3, case.stderr
    assert "ledger.all_proven" in case.stderr, "its own noise is exact, and what a person loses in all is a claim"
    assert json.loads((later / "release" / "evidence.json").read_text())["ledger"]["claimed"]["v"] == 1
    assert case("report", case.out, "--format", "md", "--out", case.folder / "report.md") == 0
    assert case("sample", case.out, "--rows", 5, "--out", case.folder / "more.csv") == 2
    assert "no model" in case.stderr
    assert len(case.stderr.strip().splitlines()) == 1
    assert not (case.folder / "more.csv").exists()


def test_with_a_holdout_it_is_attacked_like_any_other(case, program) -> None:  # type: ignore[no-untyped-def]
    """The attack counts are charged beside the claim, and their positive control is made of the synthetic rows."""
    words = ("--synthesizer", "external", "--command", program(), "--rows", 4000, "--holdout", "0.4")
    code = case.release(*words, epsilon=2)
    assert code in (1, 4), case.stderr  # no noisy counts to hold the rows against: incomplete, if not worse
    evidence = evidence_of(case)
    assert set(evidence["attacks"]) == {"exact_match", "membership", "linkage", "attribute_inference"}
    assert all(attack["positive_control"]["v"] is not None for attack in evidence["attacks"].values())
    assert evidence["utility"]["tv1"]["v"] is None
    assert [share["purpose"]["v"] for share in evidence["guarantee"]["shares"]] == [
        "another program's claim",
        "attack counts",
    ]
    rules = {
        rule["id"]: rule["status"] for rule in json.loads((case.out / "release" / "verdict.json").read_text())["rules"]
    }
    assert rules["evidence.complete"] == rules["evidence.consistent"] == "pass"
    assert rules["utility.tv1"] == "incomplete"


def test_a_program_that_writes_more_rows_than_it_was_asked_for(case, program) -> None:  # type: ignore[no-untyped-def]
    """The number is part of what the program claims its promise for: evidence, manifest and file tell what is there."""
    policy = case.folder / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    command = program(SHUFFLE.replace('int(args["--rows"])', "5000"))
    assert case.release("--synthesizer", "external", "--command", command, "--rows", 50, "--policy", policy) == 3
    folder = case.out / "release"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert evidence_of(case)["release"]["rows"] == {"v": 5000, "cls": "P1"} | {
        "src": evidence_of(case)["release"]["rows"]["src"]
    }
    assert manifest["rows"] == pq.read_metadata(folder / "synthetic.parquet").num_rows == 5000
    assert case("verify", case.out) == 0, case.stdout
    assert case("gate", case.out, "--policy", policy) == 3, "another program's claim is for a person to accept"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f"sys.exit('{PRIVATE} ' + str(len(table)))", "the program failed"),
        ("pass", "wrote no file"),
        (f"pd.DataFrame({{'{PRIVATE}': [1]}}).to_parquet(args['--out'])", "no Parquet file"),
    ],
    ids=["exits", "no file", "columns"],
)
def test_after_the_reservation_a_failure_stays_charged(case, program, body: str, words: str) -> None:  # type: ignore[no-untyped-def]
    before = case.listing() | {"program.py"}
    assert case.release("--synthesizer", "external", "--command", program(body), "--rows", 9) == 6
    assert words in case.stderr
    assert PRIVATE not in case.stderr + case.stdout
    assert "Traceback" not in case.stderr
    assert case.listing() == before, "nothing is half written"
    extract = case.extract()
    assert extract.charged.delta0 > 0
    assert extract.attempts == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--synthesizer", "external", "--rows", 9), "say it with --command"),
        (("--synthesizer", "external", "--command", "true"), "say with --rows"),
        (("--synthesizer", "external", "--command", "no-such-program-anywhere", "--rows", 9), "does not exist"),
        (("--synthesizer", "external", "--command", "'open", "--rows", 9), "quote"),
        (("--synthesizer", "mst", "--command", "true"), "with no other"),
        (("--command", "true"), "with no other"),
        (("--synthesizer", "smartnoise-mst", "--command", "true"), "with no other"),
        (("--synthesizer", "smartnoise-mst", "--rows", 9), "make smartnoise"),
    ],
)
def test_usage_errors_come_before_the_reservation(case, monkeypatch, words: tuple[object, ...], said: str) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv(external.PLACE, str(case.folder / "nowhere"))
    assert case.release(*words) == 2
    assert said in case.stderr
    assert len(case.stderr.strip().splitlines()) == 1
    assert case.extract().attempts == 0
    assert not case.out.exists()


def test_known_violations_need_a_person(case, program, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A stand-in runs in SmartNoise's place; what is known of patectgan stands in the evidence, and in the verdict."""
    place = case.folder / "env" / "bin"
    place.mkdir(parents=True)
    (place / "python").write_text(f'#!/bin/sh\nshift 2\nexec {program()} "$@"\n')
    (place / "python").chmod(0o755)
    monkeypatch.setenv(external.PLACE, str(case.folder / "env"))
    policy = case.folder / "policy.toml"
    policy.write_text(POLICY, encoding="utf-8")
    assert case.release("--synthesizer", "smartnoise-patectgan", "--rows", 50, "--policy", policy) == 3, case.stderr
    evidence = evidence_of(case)
    assert evidence["implementation"]["claimed_by"]["v"] == "smartnoise-synth 1.0.8"
    assert len(evidence["implementation"]["known_violations"]["v"]) >= 3
    rules = {
        rule["id"]: rule["status"] for rule in json.loads((case.out / "release" / "verdict.json").read_text())["rules"]
    }
    assert rules["implementation.sound"] == "needs_human"
    assert "one network" in (case.out / "release" / "report.html").read_text()


def test_help_lists_every_name(case) -> None:  # type: ignore[no-untyped-def]
    for command in ("release", "audit"):
        assert case(command, "--help") == 0
        said = "".join(case.stdout.split())
        for name in EXTERNAL:
            assert name in said or (command, name) == ("audit", "external")


def test_an_audit_of_a_registered_program(case, program, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    place = case.folder / "env" / "bin"
    place.mkdir(parents=True)
    (place / "python").write_text(f'#!/bin/sh\nshift 2\nexec {program()} "$@"\n')
    (place / "python").chmod(0o755)
    monkeypatch.setenv(external.PLACE, str(case.folder / "env"))
    words = ("--schema", case.schema, "--epsilon", 1, "--delta", "1e-6", "--fits", 200)
    assert case("audit", "--synthesizer", "external", *words) == 2
    assert "--command alone" in case.stderr
    assert case("audit", "--synthesizer", "smartnoise-mst", "--data", case.data, *words) == 2
    assert "say with --rows" in case.stderr
