"""Ways around the rules that were tried once and must stay shut."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from dpsynth import Cap, Curator, Ledger, PrivacyRefusal, Schema, UnitMismatch
from dpsynth.reading import read


def reserved(case):  # type: ignore[no-untyped-def]
    schema = Schema.load(case.schema)
    return schema, Ledger.open(case.ledger).reserve(Cap.of(1, "1e-6").cost, unit=schema.unit, purpose="test")


@pytest.mark.slow
def test_libraries_do_not_talk_about_rows(case) -> None:  # type: ignore[no-untyped-def]
    """A sensitive column with a value of its own for every person makes scikit-learn warn, if it is let."""
    case.schema.write_text(
        case.schema.read_text().replace("maximum = 1000\nbins    = 8", "maximum = 1000\nbins    = 500")
    )
    texts = []
    for name, costs in (("same", lambda i: 10), ("all different", lambda i: i * 4)):
        case.write([f"p{i},{i % 99},{'ABCD'[i % 4]},{costs(i)},yes" for i in range(240)])
        words = ["release", case.data, "--schema", case.schema, "--ledger", case.ledger, "--epsilon", "0.5", "--delta",
                 "1e-6", "--holdout", "0.4", "--rows", "300", "--no-gate", "--out", case.folder / "out"]  # fmt: skip
        ran = subprocess.run(
            [sys.executable, "-m", "dpsynth.cli", *map(str, words)], capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stderr
        texts.append((ran.stdout, ran.stderr))
        shutil.rmtree(case.folder / "out")
        assert "Warning" not in ran.stderr, name
    assert texts[0] == texts[1]


def test_file_times_tell_nothing(case) -> None:  # type: ignore[no-untyped-def]
    assert case.release("--rows", 30, "--no-gate") == 0
    places = [case.out, *case.out.rglob("*")]
    assert len({os.stat(place).st_mtime_ns for place in places}) == 1


def test_rows_cannot_be_had_without_a_started_reservation(case) -> None:  # type: ignore[no-untyped-def]
    schema, reservation = reserved(case)
    with reservation, pytest.raises(PrivacyRefusal):
        Curator(read(case.data, schema), schema, reservation, holdout=Fraction(0))
    schema, reservation = reserved(case)
    with reservation:
        curator = Curator.open(case.data, schema, reservation, holdout=Fraction(1, 2))
        assert curator.review_sample().fit.persons > 0
    with pytest.raises(PrivacyRefusal):
        curator.review_sample()


def test_a_wrong_unit_costs_nothing(case) -> None:  # type: ignore[no-untyped-def]
    _, reservation = reserved(case)
    other = Schema.parse(case.schema.read_text().replace("max_rows = 3", "max_rows = 30"))
    with reservation, pytest.raises(UnitMismatch):
        Curator.open(case.data, other, reservation)
    assert case.extract().charged_nano == 0


def test_private_rows_do_not_print_themselves(case) -> None:  # type: ignore[no-untyped-def]
    schema, reservation = reserved(case)
    with reservation:
        sample = Curator.open(case.data, schema, reservation, holdout=Fraction(1, 2)).review_sample()
        # but for addresses in memory, which hold any three digits now and then
        said = re.sub(r"0x[0-9a-f]+", "", repr(sample) + repr(sample.fit))
        assert str(sample.fit.persons) not in said


def seal(folder: Path) -> None:
    """Makes manifest and statements fit files that were changed, as whoever changed them would."""
    from dpsynth.release import Release, sha256
    from reports import intoto

    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] = {path: sha256(folder / path) for path in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    intoto.write(Release.open(folder), json.loads((folder / "verdict.json").read_text()))


def test_a_changed_release_does_not_verify_against_anything(case) -> None:  # type: ignore[no-untyped-def]
    from dpsynth.release import sha256

    assert case.release("--holdout", "0.4") in (0, 1, 3, 4)
    page = case.folder / "issued.html"
    shutil.copy(case.out / "release" / "report.html", page)
    changed = case.folder / "changed"
    shutil.copytree(case.out / "release", changed)
    evidence = changed / "evidence.json"
    evidence.write_text(evidence.read_text().replace('"v": "synthetic table"', '"v": "synthetic tables"'))
    seal(changed)
    assert case("verify", changed) == 5, "the verdict speaks of other evidence"
    verdict = json.loads((changed / "verdict.json").read_text())
    verdict["evidence"]["sha256"] = sha256(evidence)
    (changed / "verdict.json").write_text(json.dumps(verdict))
    seal(changed)
    assert case("verify", changed) == 0  # unsigned: the output says that this is not noticed
    assert "not noticed" in case.stdout
    assert case("verify", changed, "--against", page) == 5
    assert case("ledger", "verify", case.ledger, "--against", changed / "manifest.json") == 5
    assert case("ledger", "verify", case.ledger, "--against", case.out / "release" / "manifest.json") == 0


def test_cut_rows_do_not_verify_against_the_manifest_or_the_ledger(case) -> None:  # type: ignore[no-untyped-def]
    """Whatever the copy of the manifest is called."""
    assert case.release("--holdout", "0.4") in (0, 1, 3, 4)
    changed, copy = case.folder / "changed", case.folder / "copy.json"
    shutil.copytree(case.out / "release", changed)
    rows = changed / "synthetic.parquet"
    rows.write_bytes(rows.read_bytes() + b" ")
    seal(changed)
    shutil.copy(changed / "manifest.json", copy)
    assert case("verify", changed, "--against", case.out / "release" / "manifest.json") == 5
    assert case("ledger", "verify", case.ledger, "--against", copy) == 5
    assert case("verify", changed, "--against", case.out / "release" / "report.html") == 0
    assert "not checked: the synthetic rows" in case.stdout


def test_links_and_nested_releases_are_found(case) -> None:  # type: ignore[no-untyped-def]
    assert case.release("--rows", 30, "--no-gate") == 0
    (case.out / "release" / "extra").symlink_to(case.folder)
    assert case("verify", case.out) == 5
    (case.out / "release" / "extra").unlink()
    shutil.copytree(case.out / "release", case.folder / "inner")
    shutil.copytree(case.folder / "inner", case.out / "release" / "release")
    assert case("verify", case.out / "release") == 5


@pytest.mark.parametrize("words", [("--rows", 10**14), ("--holdout", "0.4", "--attack-share", "1e-40")])
def test_absurd_settings_cost_nothing(case, words: tuple[object, ...]) -> None:  # type: ignore[no-untyped-def]
    assert case.release(*words) == 2
    assert case.extract().charged_nano == 0


def test_a_ledger_passed_by_an_import_can_still_be_shown(case) -> None:  # type: ignore[no-untyped-def]
    assert case("ledger", "import", case.ledger, "--epsilon", 50, "--delta", "0.5", "--note", "old") == 0
    assert case("ledger", "show", case.ledger, "--json") == 0
    assert json.loads(case.stdout)["remaining_epsilon"] < 0
    assert case.release() == 7
