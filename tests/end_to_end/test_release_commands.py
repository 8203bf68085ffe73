"""The commands around a release, and the promises of their exit codes."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from dpsynth import Schema
from dpsynth.release import STATEMENTS


@pytest.fixture
def released(case):  # type: ignore[no-untyped-def]
    """A release with a holdout."""
    code = case.release("--holdout", "0.4")
    assert code in (0, 1, 3, 4), case.stderr
    case.code = code
    return case


def test_release_ends_with_its_verdict(released) -> None:  # type: ignore[no-untyped-def]
    verdict = json.loads((released.out / "release" / "verdict.json").read_text())
    assert verdict["exit_code"] == released.code
    assert released.stdout.splitlines()[0] == verdict["verdict"]
    present = {path.name for path in (released.out / "release").iterdir()}
    assert present == {
        "synthetic.parquet", "model", "schema.toml", "manifest.json", "evidence.json", "policy.toml", "verdict.json",
        "report.html", "signature", "release.intoto.jsonl",
    }  # fmt: skip
    assert json.loads((released.out / "release" / "signature").read_text())["signature"] is None


def test_the_release_says_which_synthesizer_it_chose_and_why(released) -> None:  # type: ignore[no-untyped-def]
    choice = json.loads((released.out / "release" / "evidence.json").read_text())["release"]["choice"]["v"]
    assert "fewer than 40 columns" in choice
    assert f"synthesizer aim, because there are {choice}" in released.stderr


def test_charge_equals_the_promise(released) -> None:  # type: ignore[no-untyped-def]
    from dpsynth import Cap

    extract = released.extract()
    assert extract.charged == Cap.of(1, "1e-6").cost
    assert extract.charged.epsilon("1e-6") <= 1
    shares = json.loads((released.out / "release" / "evidence.json").read_text())["guarantee"]["shares"]
    spent = sum(share["rho"]["v"] for share in shares)
    assert 0.998 * float(extract.charged.rho) < spent <= float(extract.charged.rho) * (1 + 1e-12)
    assert {share["purpose"]["v"] for share in shares} == {
        "1-way marginals",
        "selection",
        "2-way marginals",
        "attack counts",
    }


def test_synthetic_rows_are_in_the_schema(released) -> None:  # type: ignore[no-untyped-def]
    frame = pd.read_parquet(released.out / "release" / "synthetic.parquet")
    assert list(frame.columns) == list(Schema.load(released.schema).names)
    assert frame["age"].between(0, 99).all()
    assert frame["town"].isin(list("ABCD")).all()
    assert frame["cost"].dropna().between(0, 1000).all()


def test_gate_repeats_the_verdict_without_private_data(released, tmp_path) -> None:  # type: ignore[no-untyped-def]
    elsewhere = tmp_path / "copy"
    shutil.copytree(released.out / "release", elsewhere)
    assert released("gate", elsewhere, "--json") == released.code
    found = json.loads(released.stdout)
    assert found["exit_code"] == released.code
    wanted = {"id", "class", "status", "estimate", "low", "high", "confidence", "n"}
    assert all(wanted <= rule.keys() for rule in found["rules"])
    assert not any(rule["class"] in ("P3", "P4") for rule in found["rules"])


WORDS = ("more control persons", "however many there are", "even a leaky copy stays within", "needs other persons")


def test_the_internal_review_says_how_many_more_persons_it_needs(case, table_rows, seeded_noise) -> None:  # type: ignore[no-untyped-def]
    """About 100 held back."""
    case.write(table_rows(250))
    assert case.release("--holdout", "0.4", "--synthesizer", "independent") in (1, 4)
    inside = case.out / "internal"
    review = json.loads((inside / "evidence.json").read_text())["review"]
    rules = json.loads((inside / "verdict.json").read_text())["rules"]
    unclear = [r["path"].split(".")[1] for r in rules if r["status"] == "incomplete" and r["path"]]
    assert len(unclear) > 3
    for attack in unclear:
        needs = review[attack]["needs"]["v"]
        assert any(words in needs for words in WORDS), attack
    assert "more control persons" in (inside / "report.html").read_text()


def test_without_a_holdout_the_attack_rules_are_incomplete(case) -> None:  # type: ignore[no-untyped-def]
    assert case.release() in (1, 4)  # incomplete, whatever else
    states = {
        rule["id"]: rule["status"] for rule in json.loads((case.out / "release" / "verdict.json").read_text())["rules"]
    }
    assert all(state == "incomplete" for rule, state in states.items() if rule.startswith("attacks."))
    assert any(rule.startswith("attacks.") for rule in states)


def test_no_gate_says_so(case) -> None:  # type: ignore[no-untyped-def]
    assert case.release("--no-gate", "--synthesizer", "independent") == 0
    assert "because" not in case.stderr
    assert "must not be published" in case.stderr
    assert "must not be published" in json.loads((case.out / "release" / "manifest.json").read_text())["published"]
    assert case("gate", case.out, "--policy", "internal-test") in (1, 3, 4)  # never a pass


def test_allow_lets_needs_human_through_and_nothing_else(case) -> None:  # type: ignore[no-untyped-def]
    case.schema.write_text(case.schema.read_text().replace('basis      = "made for the tests"', ""), encoding="utf-8")
    assert case.release("--holdout", "0.4") in (1, 3, 4)
    assert case("gate", case.out, "--allow", "fail") == 2
    without = case("gate", case.out)
    allowed = case("gate", case.out, "--allow", "needs_human")
    assert allowed == (0 if without == 3 else without)


def test_verify_finds_every_change(released) -> None:  # type: ignore[no-untyped-def]
    assert released("verify", released.out, "--against", released.out / "release" / "manifest.json") == 0
    assert "unsigned" in released.stdout
    assert released("verify", released.out, "--against", released.out / "release" / "report.html") == 0
    folder = released.out / "release"
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in ("manifest.json", "signature")):
        good = path.read_bytes()
        path.write_bytes(good + b" ")
        assert released("verify", released.out) == 5, path
        assert path.name == STATEMENTS or released("gate", released.out) == 5, path
        path.write_bytes(good)
    (folder / "extra").write_text("x")
    assert released("verify", released.out) == 5
    (folder / "extra").unlink()
    (folder / "policy.toml").unlink()
    assert released("verify", released.out) == 5


def test_a_policy_under_a_shipped_name_is_found_out(released) -> None:  # type: ignore[no-untyped-def]
    from dpsynth.release import sha256

    folder = released.out / "release"
    weak = '[[rule]]\nid = "a"\nevidence = "tool.name"\nstage = "release"\nequals = "dpsynth"\nreason = "x"\n'
    head = 'schema = "dpsynth.policy/1"\nname = "internal-test"\nversion = "1"\nreason = "x"\ncatalog = []\n'
    (folder / "policy.toml").write_text(head + weak)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["policy.toml"] = sha256(folder / "policy.toml")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert released("gate", released.out) == 5
    assert "verdict.json speaks of other evidence, or of another policy" in released.stderr
    (folder / "verdict.json").unlink()
    del manifest["files"]["verdict.json"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert released("gate", released.out) == 5
    assert "internal-test" in released.stderr


def test_ledger_verify_against_a_report(released) -> None:  # type: ignore[no-untyped-def]
    backup = released.folder / "backup.ledger"
    shutil.copy(released.ledger, backup)
    assert released.release("--no-gate", epsilon="0.5", out=released.folder / "second") == 0
    for report in ("manifest.json", "evidence.json"):
        assert (
            released(
                "ledger", "verify", released.ledger, "--against", released.folder / "second/release" / "manifest.json"
            )
            == 0
        )
        assert released("ledger", "verify", released.ledger, "--against", released.out / "release" / report) == 0
    assert released("ledger", "verify", backup, "--against", released.folder / "second/release/manifest.json") == 5


def test_sample_draws_more_rows_for_free(released, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("dpsynth.synthetic.AT_ONCE", 10)  # in parts, as a large sample is
    before = released.extract().seq
    for name in ("more.csv", "more.parquet"):
        assert released("sample", released.out, "--rows", 25, "--out", released.folder / name) == 0
    assert len(pd.read_csv(released.folder / "more.csv")) == 25
    assert len(pd.read_parquet(released.folder / "more.parquet")) == 25
    assert released.extract().seq == before
    assert released("sample", released.out, "--rows", 25, "--out", released.folder / "more.csv") == 2
    assert released("sample", released.out, "--rows", 0, "--out", released.folder / "none.csv") == 2


def test_a_job_runs_once(case) -> None:  # type: ignore[no-untyped-def]
    assert case.release("--no-gate", "--job-id", "monday", epsilon="0.5") == 0
    charged = case.extract().charged_nano
    assert case.release("--no-gate", "--job-id", "monday", epsilon="0.5", out=case.folder / "again") == 7
    assert case.extract().charged_nano == charged


def test_attack_command_on_files(case, table_rows) -> None:  # type: ignore[no-untyped-def]
    header = "who,age,town,cost,ill\n"
    lines = table_rows(2600)
    fit = [line for line in lines if int(line.split(",")[0][1:]) % 2]
    control = [line for line in lines if not int(line.split(",")[0][1:]) % 2]
    files = {"train": fit, "control": control}
    for name, content in files.items():
        (case.folder / f"{name}.csv").write_text(header + "\n".join(content) + "\n")
    copied = [line.split(",", 1)[1] for line in fit]
    (case.folder / "leaky.csv").write_text("age,town,cost,ill\n" + "\n".join(copied) + "\n")
    words = [
        "attack",
        "--train",
        case.folder / "train.csv",
        "--control",
        case.folder / "control.csv",
        "--schema",
        case.schema,
    ]
    code = case(*words, "--synthetic", case.folder / "leaky.csv", "--json", "--out", case.folder / "evidence.json")
    assert code == 1, case.stderr
    found = json.loads(case.stdout)
    assert found["verdict"] == "fail"
    figures = {figure["name"]: figure for item in found["attacks"] for figure in item["figures"]}
    ratio = figures["nearest-neighbour distance ratio, 25% quantile"]
    assert ratio["high"] < 0
    assert ratio["fit"]["value"] - ratio["control"]["value"] == pytest.approx(ratio["estimate"])
    assert ratio["fit"]["low"] <= ratio["fit"]["value"] <= ratio["fit"]["high"]
    membership = next(item for item in found["attacks"] if item["id"] == "membership")
    assert "TPR at FPR 0.001" in membership["omitted_figures"]
    assert all(item["class"] == "P3" for item in found["attacks"])
    # B17: one fitted person among those held back
    (case.folder / "mixed.csv").write_text(header + "\n".join([*control, fit[0]]) + "\n")
    assert case("attack", "--train", case.folder / "train.csv", "--control", case.folder / "mixed.csv", "--schema", case.schema,
                "--synthetic", case.folder / "leaky.csv") == 2  # fmt: skip
    assert "the same unit stands in --train and --control" in case.stderr


def test_ledger_commands(case) -> None:  # type: ignore[no-untyped-def]
    assert case("ledger", "create", case.ledger, "--population", "x", "--epsilon", 1, "--delta", "1e-6") == 2
    assert case("ledger", "show", case.ledger, "--json") == 0
    assert json.loads(case.stdout)["remaining_epsilon"] == 2.0
    assert case("ledger", "amend", case.ledger, "--epsilon", 1, "--reason", "r", "--approver", "a") == 2
    assert case("ledger", "amend", case.ledger, "--epsilon", 3, "--reason", "r", "--approver", "a") == 0
    assert case("ledger", "import", case.ledger, "--epsilon", 1, "--note", "n") == 2
    assert case("ledger", "import", case.ledger, "--not-dp", "--note", "n") == 0
    assert case("ledger", "verify", case.ledger) == 0
    assert case("ledger", "show", case.ledger) == 0
    assert case.release("--holdout", "0.4") in (1, 3, 4)  # an import that is not DP can never end in a pass


def test_usage_mistakes_are_exit_code_2(case) -> None:  # type: ignore[no-untyped-def]
    for words in (
        ["nope"],
        ["release"],
        ["gate"],
        ["gate", case.folder / "none"],
        ["verify", case.folder],
        ["sample", "x"],
    ):
        assert case(*words) == 2, words
    assert case("--help") == 0
    assert case("--version") == 0
