"""A release whose schema leaves values, bounds and bins open: what it promises, costs and says, and who else takes it."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dpsynth import Cap, Schema
from dpsynth.errors import IntegrityError
from reports import Evidence, Policy, decide
from reports.paths import APPROXIMATE, ZCDP

OPEN = """\
schema     = "dpsynth.schema/1"
table      = "visits"
unit       = { entity = "person", column = "who", max_rows = 3 }
basis      = "made for the tests"

[[column]]
name    = "age"
type    = "integer"
minimum = 0
maximum = 99
bins    = "discover"
role    = "quasi_identifier"

[[column]]
name   = "town"
type   = "category"
values = "discover"
role   = "quasi_identifier"

[[column]]
name    = "cost"
type    = "number"
minimum = "discover"
maximum = "discover"
bins    = 8
missing = true
role    = "sensitive"

[[column]]
name   = "ill"
type   = "boolean"
true   = ["yes"]
false  = ["no"]
role   = "sensitive"
"""
TOWNS = ("=1+1", "<script>alert(1)</script>", "\"quoted\" & 'single'", "back\\slash ünï")
"""Texts that a person may have put into a form: a page, a spreadsheet and a schema must take them for texts."""
DELTA = Fraction("1e-6")


def frame(persons: int = 1500, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    town = rng.choice(TOWNS, persons).astype(object)
    town[:3] = ["unique CANARY", "rare CANARY", "rare CANARY"]
    age = rng.integers(0, 100, persons)
    data = pd.DataFrame(
        {"who": [f"p{n}" for n in range(persons)], "age": age, "town": town, "cost": rng.gamma(2, 60, persons).round(2)}
    )
    data["ill"] = np.where(rng.random(persons) < age / 150, "yes", "no")
    return data


@pytest.fixture
def visits(case) -> Any:  # type: ignore[no-untyped-def]
    case.schema.write_text(OPEN, encoding="utf-8")
    frame().to_csv(case.data, index=False)
    return case


def evidence_of(out: Path) -> Evidence:
    return Evidence.from_json((out / "release" / "evidence.json").read_text(encoding="utf-8"))


# ---- one release, from all sides -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_release_with_an_open_schema(visits) -> None:  # type: ignore[no-untyped-def]
    frame(3000).to_csv(visits.data, index=False)
    assert visits.release("--holdout", "0.4", "--synthesizer", "mst", epsilon=2) in (0, 1, 3, 4), visits.stderr
    release = visits.out / "release"
    schema, evidence = Schema.load(release / "schema.toml"), evidence_of(visits.out)
    assert not schema.is_open
    assert schema.column("town").values == tuple(sorted(TOWNS))
    assert_is_told(evidence)
    assert_is_charged(visits, evidence)
    assert_cannot_be_edited(evidence)
    assert_goes_on(visits, schema)
    assert_texts_stay_texts(visits)


def assert_is_told(evidence: Evidence) -> None:
    assert evidence.value("guarantee.definition") == APPROXIMATE
    rows = {row["column"].value: row for row in evidence.rows("discovery")}
    assert {name: row["facts"].value for name, row in rows.items()} == {
        "age": "bins",
        "town": "values",
        "cost": "minimum, maximum",
    }
    classes = {name: {field: leaf.cls for field, leaf in row.items()} for name, row in rows.items()}
    assert set(classes["town"].values()) == {"P0"}, "noise and threshold follow from the budget"
    assert {classes[name][field] for name in ("age", "cost") for field in ("sigma", "least")} == {"P1"}
    assert [row["size"].cls for row in evidence.rows("columns")] == ["P1", "P1", "P1", "P0"]
    shares = {row["purpose"].value: row["rho"].value for row in evidence.rows("guarantee.shares")}
    assert shares["discovery of values"] == pytest.approx(rows["town"]["rho"].value, rel=1e-9)
    assert shares["discovery of bounds and bins"] == pytest.approx(
        rows["age"]["rho"].value + rows["cost"]["rho"].value, rel=1e-9
    )
    assert evidence.value("guarantee.delta0") == rows["town"]["delta0"].value > 0
    cap = Cap.of(2, DELTA)
    searched = sum(row["rho"].value for row in rows.values())
    assert 0.0599 < searched / float(cap.cost.rho) <= 0.06  # 2 % a column


def assert_is_charged(case: Any, evidence: Evidence) -> None:
    charged, cap = case.extract().charged, Cap.of(2, DELTA)
    assert charged.rho <= cap.cost.rho
    assert evidence.value("guarantee.delta0") <= charged.delta0 == cap.delta0 / 10
    assert charged.epsilon(DELTA) <= 2
    assert evidence.value("guarantee.rho") == pytest.approx(float(charged.rho), rel=1e-9)


Edit = tuple[str, Any]
EDITS: dict[str, list[Edit]] = {
    "no delta0": [("guarantee.delta0", 0)],
    "no delta0 and another definition": [("guarantee.delta0", 0), ("guarantee.definition", ZCDP)],
    "half of delta0": [("guarantee.delta0", 0.5)],
    "no delta0 anywhere": [
        ("guarantee.delta0", 0),
        ("guarantee.definition", ZCDP),
        *((f"discovery[{n}].delta0", 0) for n in range(3)),
    ],
    "another definition": [("guarantee.definition", ZCDP)],
    "rows taken out": [("discovery", [])],
    "one row taken out": [("discovery", slice(1, None))],
    "a column as declared": [("columns[1].source", "declared")],
    "a lower epsilon": [("guarantee.epsilon", 0.9)],
    "a lower rho": [("guarantee.rho", 0.01)],
}


def edited(evidence: Evidence, edits: list[Edit]) -> Evidence:
    tree = json.loads(evidence.to_json())
    for path, value in edits:
        if path == "discovery":
            tree["discovery"] = tree["discovery"][value] if isinstance(value, slice) else value
            continue
        place: Any = tree
        *parents, last = path.replace("[", ".").replace("]", "").split(".")
        for part in parents:
            place = place[int(part) if part.isdigit() else part]
        old = place[last]["v"]
        place[last]["v"] = old * value if path == "guarantee.delta0" and value == 0.5 else value
    return Evidence.from_json(json.dumps(tree))


def assert_cannot_be_edited(evidence: Evidence) -> None:
    policy = Policy.load("internal-test")

    def consistent(found: Evidence) -> str:
        verdict = decide(policy, found, stage="release", on=found_day(found))
        return next(rule.state for rule in verdict.rules if rule.id == "evidence.consistent")

    assert consistent(evidence) == "pass"
    for name, edits in EDITS.items():
        found = edited(evidence, edits)
        assert consistent(found) == "integrity", name
        assert decide(policy, found, stage="release", on=found_day(found)).exit_code == 5, name
    with pytest.raises(IntegrityError, match="delta0 does not look like"):
        edited(evidence, [("discovery[0].delta0", -1e-8), ("guarantee.delta0", 1e-12)])


def assert_goes_on(case: Any, schema: Schema) -> None:
    """Every other command takes the release, and none that reads rows, but `release`, an open schema."""
    toml = case.out / "release" / "schema.toml"
    assert case("verify", case.out) == 0
    for kind in ("html", "md", "json"):
        assert case("report", case.out, "--format", kind, "--out", case.folder / f"report.{kind}") == 0, case.stderr
    more = case.folder / "more.csv"
    assert case("sample", case.out, "--rows", 20, "--where", "town == '=1+1'", "--out", more) == 0, case.stderr
    assert set(pd.read_csv(more)["town"]) == {"=1+1"}
    words = ["--train", case.data, "--control", case.folder / "control.csv", "--synthetic"]
    words += [case.out / "release" / "synthetic.parquet", "--schema"]
    control = frame(400, seed=2)
    control.assign(who="c" + control["who"]).to_csv(case.folder / "control.csv", index=False)
    assert case("attack", *words, toml, "--json") in (0, 1, 3, 4), case.stderr
    assert json.loads(case.stdout)["attacks"]
    audit = ["--synthesizer", "independent", "--epsilon", 1, "--delta", "1e-6", "--fits", 20, "--data", case.data]
    for refused in (["attack", *words, case.schema], ["audit", *audit, "--schema", case.schema]):
        assert case(*refused) == 7
        assert case.stdout == ""
        assert "leaves 'age', 'town', 'cost' to discover" in case.stderr
        assert len(case.stderr.strip().splitlines()) == 1


def assert_texts_stay_texts(case: Any) -> None:
    page = (case.out / "release" / "report.html").read_text()
    internal = (case.out / "internal" / "report.html").read_text()
    for text in (page, internal, (case.folder / "report.html").read_text()):
        assert "alert(1)" not in text.replace("&lt;script&gt;alert(1)&lt;/script&gt;", "")
        assert "CANARY" not in text
    for path in (case.out / "release").rglob("*"):
        assert not path.is_file() or b"CANARY" not in path.read_bytes(), path.name
    assert "What the schema left open" in page
    synthetic = pd.read_parquet(case.out / "release" / "synthetic.parquet")
    assert set(synthetic["town"]) <= {*TOWNS, "other"}


def found_day(evidence: Evidence) -> Any:
    from datetime import date

    return date.fromisoformat(str(evidence.value("created_at"))[:10])


def test_an_edited_file_is_noticed_by_the_command(visits) -> None:  # type: ignore[no-untyped-def]
    assert visits.release("--synthesizer", "independent", "--rows", 50) in (1, 3, 4), visits.stderr
    path = visits.out / "release" / "evidence.json"
    path.write_text(edited(evidence_of(visits.out), EDITS["no delta0"]).to_json())
    assert visits("gate", visits.out) == 5
    assert visits("verify", visits.out) == 5


# ---- the ledger ----------------------------------------------------------------------------------------------------


def test_ten_releases_fit_under_one_cap_of_the_same_delta(visits) -> None:  # type: ignore[no-untyped-def]
    """As far as delta0 goes: their epsilons are small enough. The eleventh finds no delta0 left, and nothing is charged."""
    words = ("--synthesizer", "independent", "--no-gate", "--rows", 10)
    for n in range(10):
        assert visits.release(*words, epsilon="0.1", out=visits.folder / f"out{n}") == 0, visits.stderr
    charged = visits.extract().charged
    cap = Cap.of(2, DELTA)
    assert 0.9 * cap.delta0 < charged.delta0 <= cap.delta0
    assert visits.release(*words, epsilon="0.1", out=visits.folder / "eleventh") == 7
    assert "which needs delta 1e-08 where 0 is left: ask for less delta" in visits.stderr
    assert visits.extract().charged == charged
    visits.schema.write_text((visits.folder / "out0" / "release" / "schema.toml").read_text())
    assert visits.release(*words, epsilon="0.1", out=visits.folder / "twelfth") == 0, "what it says helps"
    evidence = evidence_of(visits.folder / "twelfth")
    assert evidence.value("domain.from_data") == "age, town, cost"
    assert evidence.rows("discovery") == ()


def test_a_promise_with_more_delta_than_the_ledger_takes_its_part_of_the_ledger_s(visits) -> None:  # type: ignore[no-untyped-def]
    small = visits.folder / "small.ledger"
    words = ("--population", "test", "--epsilon", 3, "--delta", "1e-7", "--unit", "person")
    assert visits("ledger", "create", small, *words) == 0
    code = visits(
        "release", visits.data, "--schema", visits.schema, "--ledger", small, "--epsilon", 1, "--delta", "1e-6",
        "--out", visits.out, "--synthesizer", "independent", "--no-gate", "--rows", 10,
    )  # fmt: skip
    assert code == 0, visits.stderr
    assert 0 < evidence_of(visits.out).value("guarantee.delta0") <= float(Cap.of(3, "1e-7").delta0 / 10)


# ---- wrong words ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", ["0", "-0.1", "1", "0.9999", "1e-9", "nan", "inf", "ten", "", "1e-400", "1/0"])
def test_a_wrong_discovery_share_is_refused_and_costs_nothing(visits, share: str) -> None:  # type: ignore[no-untyped-def]
    assert_refused(visits, "--discovery-share", share)


def test_shares_that_leave_nothing_to_learn_with_are_refused(visits) -> None:  # type: ignore[no-untyped-def]
    assert_refused(visits, "--holdout", "0.4", "--attack-share", "0.95")
    assert_refused(visits, "--holdout", "0.4", "--attack-share", "0.95", "--discovery-share", "0.2")
    assert_refused(visits, "--holdout", "0.4", "--attack-share", "0.5", "--discovery-share", "0.5")


def test_a_discovery_share_needs_something_to_discover(case) -> None:  # type: ignore[no-untyped-def]
    assert_refused(case, "--discovery-share", "0.2")
    assert "discover" in case.stderr


def test_a_closed_schema_leaves_attacks_nearly_everything(case) -> None:  # type: ignore[no-untyped-def]
    """What discovery would take by default is not taken where nothing is open."""
    words = ("--holdout", "0.4", "--attack-share", "0.95", "--synthesizer", "independent", "--no-gate", "--rows", 20)
    assert case.release(*words) == 0, case.stderr


def assert_refused(case: Any, *words: object) -> None:
    before = case.extract()
    assert case.release(*words) == 2, case.stderr
    assert case.stdout == ""
    assert len(case.stderr.strip().splitlines()) == 1
    assert not case.out.exists()
    assert case.extract() == before


# ---- other recipes -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aim", "wide", "ardm", "external"])
def test_every_kind_of_recipe_keeps_the_promise(visits, name: str) -> None:  # type: ignore[no-untyped-def]
    words = ["--synthesizer", name, "--rows", 60]
    if name == "ardm":
        pytest.importorskip("opacus")
        visits.schema.write_text(OPEN.replace("unit       =", "rows_at_most = 9000\nunit ="), encoding="utf-8")
    if name == "external":
        program = visits.folder / "program.py"
        program.write_text(PROGRAM, encoding="utf-8")
        words += ["--command", f"'{sys.executable}' '{program}'"]
    assert visits.release(*words) in (1, 3, 4), visits.stderr
    charged, cap = visits.extract().charged, Cap.of(1, DELTA)
    assert charged.epsilon(DELTA) <= 1
    assert cap.admits(0, 0, charged)
    rules = {
        rule["id"]: rule["status"]
        for rule in json.loads((visits.out / "release" / "verdict.json").read_text())["rules"]
    }
    assert rules["evidence.complete"] == rules["evidence.consistent"] == rules["guarantee.definition"] == "pass"
    evidence = evidence_of(visits.out)
    assert len(evidence.rows("discovery")) == 3
    assert evidence.value("guarantee.delta0") > 0
    assert visits("verify", visits.out) == 0
    assert_cannot_hide_delta0(evidence)


def assert_cannot_hide_delta0(evidence: Evidence) -> None:
    found = edited(evidence, EDITS["no delta0"])
    verdict = decide(Policy.load("internal-test"), found, stage="release", on=found_day(found))
    assert next(rule.state for rule in verdict.rules if rule.id == "evidence.consistent") == "integrity"


PROGRAM = """
import sys
import pandas as pd
args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
table = pd.read_parquet(args["--train"])
assert "discover" not in [line.split("=")[-1].strip(' "') for line in open(args["--schema"]) if not line.startswith(("source", "basis"))]
n = int(args["--rows"])
pd.DataFrame({c: table[c].sample(n, replace=True).reset_index(drop=True) for c in table}).to_parquet(args["--out"])
"""
