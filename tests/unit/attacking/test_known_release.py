"""What the command learns from the folder around a synthetic file, and that a hostile folder only earns a note."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from dpsynth import Column, Cost, Schema, UsageError
from dpsynth.cli.attack import _write_private, known_of
from dpsynth.release import MANIFEST_FORMAT

SCHEMA = Schema(table="t", columns=tuple(Column(name=n, type="boolean") for n in "abc"))
COST = Cost.zcdp(Fraction(1, 8))
MADE = Schema(table="t", columns=tuple(Column(name=n, type="boolean") for n in ("c", "gone", "b", "a")))
"""The release's own schema: the columns stand in another order there, and there is one more."""
MODEL = {
    "coarse": [{"column": 3, "groups": [0, 0]}],
    "measurements": [{"columns": places} for places in ([3], [0, 2], [0, 1], [2, 4], [3, 4])],
}


def folder(where: Path, *, model: Any = MODEL, **changes: Any) -> Path:
    """A release folder, whole but for the changes; the path of its synthetic file."""
    (where / "model").mkdir()
    (where / "synthetic.csv").write_text("a,b,c\ntrue,true,false\n", encoding="utf-8")
    (where / "model" / "model.json").write_text(json.dumps(model), encoding="utf-8")
    (where / "schema.toml").write_text(MADE.to_toml(), encoding="utf-8")
    unit = SCHEMA.unit
    manifest = {
        "schema": MANIFEST_FORMAT,
        "unit": {"entity": unit.entity, "max_rows": unit.max_rows, "neighbours": unit.neighbours},
        "cost": COST.to_json(),
        "files": {
            name: hashlib.sha256((where / name).read_bytes()).hexdigest()
            for name in ("synthetic.csv", "model/model.json", "schema.toml")
        },
    } | changes
    (where / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return where / "synthetic.csv"


def test_a_release_tells_what_was_measured_and_what_it_cost(tmp_path: Path) -> None:
    known = known_of(folder(tmp_path), SCHEMA)
    assert known.focal == (("a", "b"), ("b", "c"))  # by name; single columns tell an attacker nothing about a record
    assert known.cost == COST
    assert "2 measured column sets" in known.note


def test_another_program_keeps_its_model(tmp_path: Path) -> None:
    known = known_of(folder(tmp_path, model={"kind": "rows only"}), SCHEMA)
    assert known.focal == ()
    assert known.cost == COST
    assert "kept its model" in known.note


def test_a_file_in_no_release_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "synthetic.csv").write_text("a\n", encoding="utf-8")
    known = known_of(tmp_path / "synthetic.csv", SCHEMA)
    assert (known.focal, known.cost, known.note) == ((), None, "")


@pytest.mark.parametrize(
    "cost",
    [
        None,
        [],
        {},
        {"rho": 1, "delta0": "0"},
        {"rho": "1e999999999", "delta0": "0"},
        {"rho": "1/0", "delta0": "0"},
        {"rho": "-1", "delta0": "0"},
        {"rho": "9" * 300, "delta0": "0"},
        {"rho": "1", "delta0": "2"},
        {"rho": "1", "delta0": "0", "extra": [1]},
        {"rho": "1", "delta0": "0", "extra": [10**40] * 168},
        {"rho": "1", "delta0": "0", "extra": 7},
        {"rho": "1", "delta0": "0", "more": "1"},
    ],
)
def test_an_odd_cost_is_not_used(tmp_path: Path, cost: Any) -> None:
    known = known_of(folder(tmp_path, cost=cost), SCHEMA)
    assert known.cost is None
    assert known.focal == ()
    assert "damaged" in known.note


@pytest.mark.parametrize(
    "model",
    [
        None,
        [],
        {},
        {"measurements": 3},
        {"measurements": [3]},
        {"measurements": [{"columns": "ab"}]},
        {"measurements": [{"columns": ["a", "b"]}]},
        {"measurements": [{"columns": [0, 4]}]},
        {"measurements": [{"columns": [0, -1]}]},
        {"measurements": [{"columns": [0, True]}]},
        {"measurements": [], "coarse": [{"column": 4}]},
    ],
)
def test_an_odd_model_is_not_used(tmp_path: Path, model: Any) -> None:
    known = known_of(folder(tmp_path, model=model), SCHEMA)
    assert (known.focal, known.cost) == ((), None)
    assert "damaged" in known.note


def test_files_that_are_not_those_of_the_manifest_are_not_used(tmp_path: Path) -> None:
    synthetic = folder(tmp_path)
    (tmp_path / "model" / "model.json").write_text('{"measurements": []}', encoding="utf-8")
    assert "model" in known_of(synthetic, SCHEMA).note
    (tmp_path / "model" / "model.json").write_text(json.dumps(MODEL), encoding="utf-8")
    (tmp_path / "schema.toml").write_text(SCHEMA.to_toml(), encoding="utf-8")
    assert "the schema beside" in known_of(synthetic, SCHEMA).note
    synthetic.write_text("a,b,c\n", encoding="utf-8")
    known = known_of(synthetic, SCHEMA)
    assert (known.focal, known.cost) == ((), None)
    assert "synthetic file is not the one" in known.note


def test_another_unit_gives_no_ceilings(tmp_path: Path) -> None:
    known = known_of(folder(tmp_path, unit={"entity": "household", "max_rows": 9, "neighbours": "replace"}), SCHEMA)
    assert known.cost is None
    assert known.focal == (("a", "b"), ("b", "c"))


@pytest.mark.parametrize(
    "manifest", ["", "[]", "null", "[" * 100_000, '{"schema": "other"}', "\x00", '{"schema": 1e999}']
)
def test_an_odd_manifest_is_not_used(tmp_path: Path, manifest: str) -> None:
    synthetic = folder(tmp_path)
    (tmp_path / "manifest.json").write_text(manifest, encoding="utf-8")
    known = known_of(synthetic, SCHEMA)
    assert (known.focal, known.cost) == ((), None)
    assert known.note


def test_links_pipes_and_huge_files_are_not_read(tmp_path: Path) -> None:
    synthetic = folder(tmp_path)
    model = tmp_path / "model" / "model.json"
    content = model.read_bytes()
    model.unlink()
    os.mkfifo(model)
    assert known_of(synthetic, SCHEMA).cost is None  # and does not wait for a writer
    model.unlink()
    (tmp_path / "elsewhere").write_bytes(content)
    model.symlink_to(tmp_path / "elsewhere")
    assert known_of(synthetic, SCHEMA).cost is None
    model.unlink()
    with model.open("wb") as file:
        file.truncate(2**40)
    assert known_of(synthetic, SCHEMA).cost is None


def test_record_ids_are_for_their_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        _write_private(tmp_path / "ids.json", "{}\n")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "ids.json").stat().st_mode) == 0o600
    with pytest.raises(UsageError, match="exists already"):
        _write_private(tmp_path / "ids.json", "{}\n")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(UsageError):
        _write_private(tmp_path / "link", "{}\n")
    assert not (tmp_path / "target").exists()
