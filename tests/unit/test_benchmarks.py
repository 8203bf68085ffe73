"""The benchmark protocol on tables that are made up: no data set and no peer is needed."""

from __future__ import annotations

import io
import json
import re
import sys
from contextlib import redirect_stdout
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from benchmarks import compare, ledger, protocol, run, show, tables
from dpsynth import SYNTHESIZERS, Schema
from dpsynth.ledger.witness import FOLDER
from dpsynth.schema import Column

ROOT = Path(__file__).parents[2]


def test_no_benchmark_leaves_heads_of_its_ledgers_in_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that is noted stays for ever, and would be one of a ledger that is gone."""
    makes = re.compile(r"Ledger\.create\(|\"ledger\", \"create\"|_dpsynth\(\"demo\"")
    makers = [
        path for path in sorted((ROOT / "benchmarks").glob("*.py")) if makes.search(path.read_text(encoding="utf-8"))
    ]
    assert [path.stem for path in makers] == ["ledger", "pictures", "whole"]
    assert all("forget_ledgers(" in path.read_text(encoding="utf-8") for path in makers)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv(FOLDER, str(tmp_path / "state"))
    monkeypatch.setattr(sys, "argv", ["ledger", "--entries", "3"])
    with redirect_stdout(io.StringIO()):
        ledger.main()
    assert not list(tmp_path.iterdir())


def a_split(rows: int = 400) -> tables.Split:
    """Three columns; the last is a copy of the first, so that a classifier finds it."""
    rng = np.random.default_rng(3)
    codes = rng.integers(0, (2, 3, 2), size=(rows, 3)).astype(np.int32)
    codes[:, 2] = codes[:, 0]
    sides = {"a": ("x", "y"), "b": ("p", "q", "r"), "income": ("<=50K", ">50K")}
    columns = tuple(Column(name=name, type="category", values=values) for name, values in sides.items())
    schema = Schema(table="made up", columns=columns, basis="test")
    return tables.Split(name="adult", schema=schema, train=codes[: rows // 2], holdout=codes[rows // 2 :])


def test_the_triples_are_those_of_the_published_comparison():
    sets = protocol.marginals(15)
    assert [len(sets[ways]) for ways in (1, 2, 3)] == [15, 105, 64]
    everything = list(combinations(range(15), 3))
    assert sets[3][0] == everything[np.random.default_rng(0).choice(455, size=64, replace=False)[0]]
    assert len(set(sets[3])) == 64
    assert protocol.marginals(3)[3] == [(0, 1, 2)]


def test_distances_of_rows_by_hand():
    real = np.array([[0, 0], [0, 1], [1, 1], [1, 1]], dtype=np.int32)
    other = np.array([[0, 0], [1, 1]], dtype=np.int32)
    assert protocol.mean_distance(real, other, (2, 2), [(0,)]) == 0
    assert protocol.mean_distance(real, other, (2, 2), [(1,)]) == 0.25
    assert protocol.mean_distance(real, other, (2, 2), [(0, 1)]) == 0.25
    assert protocol.mean_distance(real, other[:0], (2, 2), [(0, 1)]) == 0.5  # nothing released: half of the L1 norm
    assert protocol.k_marginal(real, other, (2, 2), k=1) == 875


@pytest.mark.slow
def test_a_score_is_perfect_for_the_rows_themselves_and_bad_without_dependence():
    split = a_split()
    same, shuffled = protocol.score(split, split.train), protocol.score(split, protocol.independent(split))
    assert [same["tv1"], same["tv2"], same["tv3"], same["auc"]] == [0, 0, 0, 1]
    assert same["kmarginal"] is None
    assert shuffled["tv1"] == 0
    assert shuffled["tv2"] > 0.1
    assert shuffled["auc"] < 0.9
    assert 0 < protocol.score(split, protocol.bootstrap(split))["tv1"] < 0.1


def test_nothing_can_be_learned_from_one_class():
    split = a_split()
    codes = split.train.copy()
    codes[:, 2] = 0
    assert protocol.auc(codes, split.holdout, target=2, positive=1, categorical=[True] * 3) == 0.5


@pytest.mark.parametrize("name", tables.SOURCES)
def test_every_declared_domain_is_complete_and_its_target_exists(name):
    schema = tables.declared(name)
    schema.require_complete()
    assert schema.basis_gaps() == []
    assert set(schema.from_data()) <= {"payer_code", "medical_specialty"}
    target = tables.SOURCES[name].target
    if target is not None:
        assert target[1] in schema.column(target[0]).labels


def test_diabetes_is_modelled_without_its_identifiers():
    schema = tables.declared("diabetes130")
    assert [column.name for column in schema.dropped] == ["encounter_id", "patient_nbr"]
    assert len(schema.names) == 48


@pytest.mark.parametrize(
    ("code", "chapter"),
    [("250.83", "diabetes"), ("249", "endocrine"), ("251", "endocrine"), ("8", "infections"), ("428", "circulatory"),
     ("999", "injury"), ("E909", "external"), ("V57", "supplementary"), (None, None), (float("nan"), None)],
)  # fmt: skip
def test_a_diagnosis_falls_into_its_chapter(code, chapter):
    assert tables.icd9_chapter(code) == chapter


def test_a_run_that_fails_or_takes_too_long_is_a_result(monkeypatch, tmp_path):
    (tmp_path / "run_dpsynth.py").write_text(
        "import sys\nif sys.argv[1] == 'fails':\n    raise ValueError('cannot read /some/where/file')\nwhile True: pass\n"
    )
    monkeypatch.setattr(run, "PEERS", tmp_path)
    failed = run.measure(a_split(), "dpsynth/fails", "1", 0)
    assert (failed["status"], failed["reason"]) == ("failed", "exit 1: ValueError: cannot read file")
    slow = run.measure(a_split(), "dpsynth/slow", "1", 0, limit_s=1)
    assert slow["status"] == "unfinished"
    assert slow["process_cpu_s"] > 0.1  # the limit by the clock comes first on a busy machine


@pytest.mark.slow
def test_our_own_run_is_measured_and_shown(monkeypatch, tmp_path):
    record = run.measure(a_split(), "dpsynth/independent", "10", 0)
    assert record["status"] == "finished", record["reason"]
    assert record["tv1"] < 0.1
    assert record["auc"] is not None
    assert 20 < record["peak_mb"] < 2000
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    run.keep(record, "made_up")
    kept = [json.loads(line) for line in (tmp_path / "made_up.jsonl").read_text().splitlines()]
    assert kept == [record]
    lost = record | {"status": "unfinished", "reason": "more than 1 CPU seconds", "peer": "other/mst", "tv1": None}
    out = show.markdown([*kept, lost, record | {"tv1": record["tv1"] + 0.2}])
    assert f"{record['tv1'] + 0.1:.4f}" in out
    assert "unfinished: more than 1 CPU seconds" in out


def test_the_results_that_are_kept_can_be_shown(monkeypatch):
    monkeypatch.setattr("sys.argv", ["show"])
    with redirect_stdout(io.StringIO()) as out:
        show.main()
    assert out.getvalue().startswith("| table | epsilon | peer |")


def test_every_peer_has_one_environment_and_its_requirements_are_pinned():
    """One list for synthesizers and privacy checks: what `benchmarks.peers build` makes is what the others look for."""
    from benchmarks import attack_speed, validation
    from benchmarks.peers.__main__ import METHODS, NAMES

    assert set(NAMES) == set(METHODS) | set(validation.PEERS) | set(attack_speed.NAMES)
    assert not list((run.HERE / "audit_peers").glob("*.txt"))
    for name in NAMES:
        pins = (run.PEERS / f"{name}.txt").read_text(encoding="utf-8").split()
        assert all("==" in pin for pin in pins)
    for name in validation.PEERS:
        assert validation.version_of(name)
        assert (validation.SCRIPTS / f"run_{name}.py").is_file()
        assert validation.python_of(name) == run.ENVIRONMENTS / name / "bin" / "python"


def test_the_page_has_a_lower_bound_of_everybody_or_says_that_it_was_not_run() -> None:
    lines = compare.lower_bounds()
    cells = {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if line.startswith("| ")}
    assert {name for name, *_ in cells} >= {*SYNTHESIZERS, *compare.ADAPTED}
    assert {cell[1] for cell in cells if cell[0] in ("ardm", "vae")} == {"1", "8"}
    audits = [
        line
        for line in (ROOT / "docs" / "certified.md").read_text("utf-8").splitlines()
        if "| none | `mst` | 8 " in line
    ]
    most = max(float(line.split("|")[9]) for line in audits if line.split("|")[6].strip() != "1")
    assert [float(cell[3]) for cell in cells if cell[:2] == ("mst", "8")] == [most]
