"""`dpsynth audit` on generators that leak, on honest ones, and on ones that fail."""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpsynth
from dpsynth import SYNTHESIZERS, Cost, Curator, DiscreteGaussian, Independent, Schema, Table, attack_generator
from dpsynth.synthesizers.base import Marginals

SMALL = """\
schema = "dpsynth.schema/1"
table  = "small"
basis  = "made for the tests"
[[column]]
name   = "a"
type   = "category"
values = ["x", "y", "z"]
[[column]]
name   = "b"
type   = "boolean"
"""
ALONE = ("--skip", "nobody_else")  # leaves the game "alone": two columns have no game "torn"
PRIVATE = "CANARYVALUE"


@pytest.fixture
def small(case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A schema of two columns whose rows are units, and a folder in which temporary files would stay."""
    case.schema.write_text(SMALL, encoding="utf-8")
    temp = tmp_path / "temp"
    temp.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temp))
    case.temp = temp
    return case


def audit(case: Any, *words: object, epsilon: object = 1, fits: int = 120) -> int:
    code: int = case(
        "audit", "--schema", case.schema, "--epsilon", epsilon, "--delta", "1e-6", "--fits", fits, *words
    )  # fmt: skip
    return code


def shell(case: Any, body: str) -> str:
    """A program of the shell, which starts in a few milliseconds: $2 is IN, ${14} is OUT."""
    path = case.folder / "program.sh"
    path.write_text(body, encoding="utf-8")
    return f"sh {shlex.quote(str(path))}"


def python(case: Any, body: str) -> str:
    path = case.folder / "program.py"
    head = "import sys\nargs = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
    path.write_text(head + body, encoding="utf-8")
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))}"


def items(case: Any) -> dict[str, dict[str, Any]]:
    return {item["id"]: item for item in json.loads(case.stdout)["audits"]}


# ---- programs ------------------------------------------------------------------------------------------------------


def test_a_program_that_copies_its_rows_is_caught(small: Any) -> None:
    assert audit(small, "--command", shell(small, 'cp "$2" "${14}"'), "--json", *ALONE) == 1
    found = json.loads(small.stdout)
    assert (found["verdict"], found["class"], found["generator"]) == ("fail", "P0", "external")
    assert found["left_out"] == ["nobody_else"]
    assert found["fits"] == {"alone": 118, "one_run": 2}
    item = items(small)["worst_case.alone.rows"]
    assert item["status"] == "fail"
    assert item["low"] > item["claim"] == 1
    assert item["estimate"] > item["low"]
    assert item["power"]["leak"] == "one leaked column"
    assert items(small)["one_run.rows"]["power"] is None
    assert {"id", "class", "status", "estimate", "low", "high", "confidence", "n"} <= item.keys()
    assert item["confidence"] >= 0.999
    assert "CONTRADICTED" in item["sentence"]
    assert list(small.temp.iterdir()) == []


@pytest.mark.slow
def test_a_python_program_that_copies_its_rows_is_caught(small: Any) -> None:
    command = python(small, 'import shutil\nshutil.copy(args["--train"], args["--out"])\n')
    assert audit(small, "--command", command, *ALONE, fits=60) == 1
    assert small.stdout.rstrip().endswith("\nfail")
    assert list(small.temp.iterdir()) == []


@pytest.mark.slow
def test_a_program_that_looks_at_nothing_passes(small: Any) -> None:
    """It writes the same public rows every time. Nothing at all can contradict it, so this holds on every seed."""
    rows = Table(Schema.load(small.schema).released(), np.zeros((20, 2), dtype=np.int32))
    public = small.folder / "public.parquet"
    rows.decode(rng=attack_generator(0)).write(public)
    assert (
        audit(small, "--command", shell(small, f'cp {shlex.quote(str(public))} "${{14}}"'), "--json", "--rows", 1000)
        == 4
    )
    assert items(small)["worst_case.alone.rows"]["status"] == "incomplete"  # 20 of 200 rows would rarely show one
    big = Table(rows.schema, np.zeros((200, 2), dtype=np.int32))
    big.decode(rng=attack_generator(0)).write(public)
    assert audit(small, "--command", shell(small, f'cp {shlex.quote(str(public))} "${{14}}"'), "--json", fits=300) == 0
    assert {item["status"] for name, item in items(small).items() if "worst" in name} == {"pass"}
    assert all(item["low"] == 0 for item in items(small).values())
    assert "verified" not in small.stdout


@pytest.mark.slow
def test_a_claim_too_large_to_be_refuted_is_never_passed(small: Any) -> None:
    command = shell(small, 'cp "$2" "${14}"')
    assert audit(small, "--command", command, "--json", *ALONE, epsilon=30) == 4
    item = items(small)["worst_case.alone.rows"]
    assert (item["status"], item["needs"]) == ("incomplete", None)
    assert item["ceiling"] < 30
    assert audit(small, "--command", command, "--json", *ALONE, epsilon=4) == 4
    item = items(small)["worst_case.alone.rows"]
    assert 300 < item["needs"] < 5000
    assert f"about {item['needs']:,} fits" in item["sentence"]


def test_a_program_that_fails_says_nothing_and_leaves_nothing(small: Any) -> None:
    command = shell(small, f'echo {PRIVATE}; echo {PRIVATE} >&2; cp "$2" "${{14}}"; exit 3')
    assert audit(small, "--command", command, "--json") == 6
    assert "the program failed" in small.stderr
    assert small.stderr.count("\n") == 2  # which game it was in, and what happened
    ran = subprocess.run(  # in a process of its own, whose file descriptors are seen, too
        [sys.executable, "-m", "dpsynth.cli", "audit", "--command", command, "--schema", small.schema, "--epsilon", "1",
         "--delta", "0", "--fits", "40"], capture_output=True, text=True, check=False, env=os.environ | {"TMPDIR": str(small.temp)},
    )  # fmt: skip
    assert ran.returncode == 6
    assert small.stdout == ran.stdout == ""
    for text in (small.stderr, ran.stderr):
        assert PRIVATE not in text
        assert "Traceback" not in text
    assert list(small.temp.iterdir()) == []


def test_a_program_that_cannot_serve_an_empty_table_may_leave_that_game_out(small: Any) -> None:
    """The smaller of the two tables without other rows has none, and its file is by far the smallest."""
    sizes = small.folder / "sizes"
    audit(small, "--command", shell(small, f'stat -c %s "$2" >> {sizes}; cp "$2" "${{14}}"'), fits=33)
    smallest = min(map(int, sizes.read_text().split()))
    command = shell(small, f'test "$(stat -c %s "$2")" -gt {smallest} || exit 1; cp "$2" "${{14}}"')
    assert audit(small, "--command", command) == 6
    assert "--skip nobody_else" in small.stderr
    assert audit(small, "--command", command, *ALONE, fits=80) == 1


def test_a_slow_program_is_stopped(small: Any) -> None:
    assert audit(small, "--command", shell(small, "sleep 30"), "--timeout", "0.3") == 6
    assert "--timeout" in small.stderr
    assert list(small.temp.iterdir()) == []


def test_out_is_written_once(small: Any) -> None:
    command, out = shell(small, 'cp "$2" "${14}"'), small.folder / "audit.json"
    assert audit(small, "--command", command, "--json", "--out", out, *ALONE) == 1
    found = json.loads(out.read_text())
    assert found == json.loads(small.stdout)
    assert (found["schema"], found["version"]) == ("dpsynth.audit/1", dpsynth.__version__)
    assert found["asked"] == {"fits": 120, "rows": 200}
    assert found["about"] | {"settings": {}} == {
        "schema": Schema.load(small.schema).digest,
        "synthesizer": "external",
        "settings": {},
        "epsilon": "1",
        "delta": "1/1000000",
    }
    assert "program.sh" not in out.read_text()
    before = out.read_bytes()
    assert audit(small, "--command", command, "--out", out, *ALONE) == 2
    assert "exists already" in small.stderr
    assert out.read_bytes() == before


# ---- our own -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("seeded_noise")
def test_an_honest_recipe_is_not_contradicted(small: Any) -> None:
    """On fresh noise it fails with a chance of at most 1 in 1,000; whether the fits suffice to say so depends on its noise."""
    assert audit(small, "--synthesizer", "independent", "--json", *ALONE, epsilon=3, fits=200) in (0, 4)
    found = items(small)
    assert {"worst_case.alone.noisy_counts", "worst_case.alone.rows", "one_run.noisy_counts"} <= found.keys()
    assert "fail" not in {item["status"] for item in found.values()}
    assert found["worst_case.alone.noisy_counts"]["status"] == "pass"  # even a tenth of the noise is far beyond


@dataclass(frozen=True)
class Broken(Marginals):
    """Adds a tenth of the noise that it charges for, or copies rows past the one door."""

    how: str
    name: str = "broken"

    def check(self, schema: Schema) -> None:
        pass

    def fit(self, curator: Curator, *, budget: Cost, progress: object = None) -> Any:
        if self.how == "greedy":
            return Independent().fit(curator, budget=replace(budget, rho=budget.rho * 2))
        model = Independent().fit(curator, budget=budget)
        if self.how == "copies":
            rows = Table.encode(curator.review_sample().fit.records)

            class Copied:
                measurements, coarse, schema, total = model.measurements, (), model.schema, model.total

                def sample(self, number: int, *, rng: np.random.Generator) -> Table:
                    return Table(rows.schema, rows.codes[rng.integers(len(rows), size=number)])

            return Copied()
        return model


@pytest.mark.parametrize(("how", "code"), [("copies", 1), ("greedy", 7)])
@pytest.mark.usefixtures("seeded_noise")
def test_broken_recipes_are_caught(small: Any, monkeypatch: pytest.MonkeyPatch, how: str, code: int) -> None:
    monkeypatch.setitem(SYNTHESIZERS, "broken", lambda: Broken(how))
    assert audit(small, "--synthesizer", "broken", "--json", *ALONE, epsilon=2, fits=160) == code
    if code == 1:
        found = items(small)
        assert found["worst_case.alone.rows"]["status"] == "fail"
        assert found["worst_case.alone.noisy_counts"]["status"] != "fail"  # what was measured is honest


@pytest.mark.usefixtures("seeded_noise")
def test_too_little_noise_is_caught(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = DiscreteGaussian.add_noise

    def quiet(mechanism: DiscreteGaussian, counts: Any, *, rng: Any) -> Any:
        return honest(DiscreteGaussian(sigma_squared=mechanism.sigma_squared / Fraction(100)), counts, rng=rng)

    monkeypatch.setattr(DiscreteGaussian, "add_noise", quiet)
    assert audit(small, "--synthesizer", "independent", "--json", *ALONE, epsilon=2, fits=200) == 1
    assert items(small)["worst_case.alone.noisy_counts"]["status"] == "fail"


@pytest.mark.slow
@pytest.mark.usefixtures("seeded_noise")
def test_real_persons_are_attacked_with_data(case: Any) -> None:
    """The result is for internal eyes. On fresh noise each audit fails with a chance of at most 1 in 1,000."""
    out = case.folder / "audit.json"
    words = (
        "--synthesizer",
        "independent",
        "--data",
        case.data,
        "--skip",
        "torn",
        "--skip",
        "crowd",
        "--skip",
        "nobody_else",
    )
    assert audit(case, *words, "--json", "--out", out, epsilon=2, fits=200) in (0, 4)
    found = json.loads(case.stdout)
    assert found["class"] == "P3"
    assert {item["class"] for item in found["audits"]} == {"P0", "P3"}
    assert any(item["id"].startswith("records.") for item in found["audits"])
    assert set(found["persons"]) == {"isolated", "extreme", "rare"}
    assert sum(counts["targets"] for counts in found["persons"].values()) == 10
    assert all(counts["beyond the claim"] == 0 for counts in found["persons"].values())
    assert stat.S_IMODE(os.stat(out).st_mode) == 0o600
    assert "p17" not in case.stdout + case.stderr
    assert audit(case, *words, epsilon=2, fits=200) in (0, 4)
    assert "as private as the data" in case.stderr
    assert "\nisolated persons: targets " in case.stdout
    assert case.extract().charged_nano == 0


@pytest.mark.slow
def test_a_self_test_says_what_would_be_seen(small: Any) -> None:
    """Columns of eight values each: a copy of all persons stands out in 5 runs of 5, and ten percent are few."""
    columns = [f'[[column]]\nname = "c{i}"\ntype = "integer"\nminimum = 0\nmaximum = 7\n' for i in range(6)]
    small.schema.write_text(
        'schema = "dpsynth.schema/1"\ntable = "t"\nbasis = "made up"\n' + "".join(columns), encoding="utf-8"
    )
    words = ("--selftest", "--runs", 5, "--persons", 120)
    assert audit(small, *words, "--json", fits=600) == 0
    found = json.loads(small.stdout)
    assert (found["verdict"], found["class"], found["persons"]) == ("pass", "P0", [120, 120])
    measured = items(small)
    assert {"id", "class", "status", "estimate", "low", "high", "confidence", "n"} <= measured["selftest.100 %"].keys()
    assert measured["selftest.100 %"]["estimate"] == 1
    assert measured["selftest.one average person"]["status"] == "incomplete"
    assert measured["selftest.honest tables"]["status"] == "pass"
    assert measured["selftest.factor 1"]["estimate"] == 0
    assert measured["selftest.factor 100"]["status"] == "pass"


@pytest.mark.slow
def test_discovery_is_audited_with_the_rest(small: Any) -> None:
    small.schema.write_text(SMALL.replace('["x", "y", "z"]', '"discover"'), encoding="utf-8")
    assert audit(small, "--synthesizer", "independent", "--json", fits=170) in (0, 4)
    found = json.loads(small.stdout)
    assert (found["class"], found["left_out"]) == ("P0", ["noisy_counts"])
    assert set(items(small)) == {"worst_case.alone.rows", "worst_case.nobody_else.rows", "one_run.rows"}
    assert audit(small, "--command", shell(small, 'cp "$2" "${14}"')) == 7
    assert "to discover" in small.stderr
    assert audit(small, "--synthesizer", "independent", "--data", small.data) in (2, 7)


# ---- refusals ------------------------------------------------------------------------------------------------------


def test_wrong_usage(small: Any) -> None:
    good = shell(small, 'cp "$2" "${14}"')
    assert audit(small) == 2
    assert audit(small, "--command", good, "--synthesizer", "mst") == 2
    assert audit(small, "--synthesizer", "no such") == 2
    assert audit(small, "--command", "/no/such/program") == 2
    assert audit(small, "--command", good, fits=10) == 2
    assert "--fits must be at least 33" in small.stderr
    assert audit(small, "--command", good, "--skip", "nothing") == 2
    assert audit(small, "--command", good, "--skip", "alone", "--skip", "nobody_else") == 2
    assert audit(small, "--command", good, epsilon=0) == 2
    assert audit(small, "--command", good, "--data", small.data) == 2  # its columns are not the schema's
    assert small("audit", "--schema", small.schema, "--epsilon", 1, "--delta", "1e-6", "--command", good) == 2
    assert "--fits" in small.stderr


def test_the_rows_of_a_private_table_are_not_counted_for_a_program(small: Any) -> None:
    small.write(["x,true", "y,false"], header="a,b")
    assert audit(small, "--command", shell(small, 'cp "$2" "${14}"'), "--data", small.data, fits=400) == 2
    assert "--rows" in small.stderr


def test_a_draft_is_refused(small: Any) -> None:
    small.schema.write_text('status = "draft"\n' + SMALL, encoding="utf-8")
    assert audit(small, "--synthesizer", "mst") == 7
    assert audit(small, "--command", shell(small, 'cp "$2" "${14}"')) == 7
