"""A policy that names its ledger: the wrong one pays for nothing, and a copy that was restored is found before it could."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dpsynth import Ledger

RULES = """
[[rule]]
id       = "guarantee.epsilon"
evidence = "guarantee.epsilon"
stage    = "release"
at_most  = 2.0
reason   = "a test"
"""
QUICK = ("--synthesizer", "independent", "--rows", 50)


@pytest.fixture
def pinned(case: Any) -> Any:
    """Writes policies that name the ledger of the case; its head is entry 0, as `ledger create` printed it."""
    case.id, _, case.root = case.stdout.split()

    def write(name: str, *, population: str = "test", id: str = case.id, anchor: tuple[int, str] | None = None) -> Path:
        path = case.folder / f"{name}.toml"
        text = f'schema = "dpsynth.policy/1"\nname = "{name}"\nversion = "1"\nreason = "r"\n[ledger]\nrequired = true\n'
        text += f'id = "{id}"\npopulation = "{population}"\n'
        if anchor is not None:
            text += f'anchor = {{ seq = {anchor[0]}, head = "{anchor[1]}" }}\n'
        path.write_text(text + RULES, encoding="utf-8")
        return path

    case.pin = write
    return case


def evidence_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "release" / "evidence.json").read_text())["ledger"]


def states(case: Any, *words: object) -> dict[str, str]:
    case("gate", case.out, "--json", *words)
    return {rule["id"]: rule["status"] for rule in json.loads(case.stdout)["rules"]}


def test_the_head_that_create_printed_is_seen_and_told(pinned: Any) -> None:
    policy = pinned.pin("ours", anchor=(0, pinned.root))
    assert pinned.release(*QUICK, "--policy", policy) == 0, pinned.stderr
    ledger = evidence_of(pinned.out)
    assert [(row["seq"]["v"], row["head"]["v"]) for row in ledger["anchors"]] == [(0, pinned.root)]
    genesis = Ledger.open(pinned.ledger).entries()[0]
    assert ledger["genesis"] == {"v": genesis.time[:10], "cls": "P0", "src": "ledger, first entry"}
    assert pinned.root in (page := (pinned.out / "release" / "report.html").read_text())
    assert genesis.time[:10] in page
    assert pinned("verify", pinned.out) == 0, pinned.stdout
    assert pinned("gate", pinned.out) == 0
    # the anchor that moves on is one that this release cannot have seen
    last = Ledger.open(pinned.ledger).anchor
    moved = pinned.pin("moved", anchor=(last.seq, last.head))
    assert pinned("gate", pinned.out, "--policy", moved) == 5
    assert pinned.release(*QUICK, "--policy", moved, epsilon="0.5", out=pinned.folder / "two") == 0, pinned.stderr
    # nor does a policy with an anchor believe a release that nobody checked against it
    unseen = pinned.folder / "three"
    assert pinned.release(*QUICK, "--policy", pinned.pin("bare"), epsilon="0.1", out=unseen) == 0, pinned.stderr
    assert pinned("gate", unseen, "--policy", policy) == 4


@pytest.mark.rewinds  # the anchor alone has to see it
def test_a_backup_that_was_put_back_pays_for_nothing(pinned: Any) -> None:
    backup = pinned.folder / "backup.ledger"
    shutil.copy(pinned.ledger, backup)
    assert pinned.release(*QUICK, "--policy", pinned.pin("bare"), epsilon="1.5") == 0, pinned.stderr
    last = Ledger.open(pinned.ledger).anchor
    policy = pinned.pin("ours", anchor=(last.seq, last.head))
    shutil.copy(backup, pinned.ledger)
    before = pinned.ledger.read_bytes()
    assert pinned.release(*QUICK, "--policy", policy, epsilon="1.5", out=pinned.folder / "two") == 5
    *about_the_witness, said = pinned.stderr.strip().splitlines()
    assert said.startswith("dpsynth: nothing was charged: ")
    assert len(about_the_witness) <= 1
    assert pinned.ledger.read_bytes() == before
    assert not (pinned.folder / "two").exists()
    # without the anchor the same release is possible: that is what an anchor is for
    assert pinned.release(*QUICK, "--policy", pinned.pin("bare"), epsilon="1.5", out=pinned.folder / "two") == 0


def test_a_fresh_ledger_for_the_same_people(pinned: Any) -> None:
    words = ("--population", "test", "--epsilon", 2, "--delta", "1e-6", "--unit", "person")
    anchored, bare = pinned.pin("ours", anchor=(0, pinned.root)), pinned.pin("bare")
    pinned.ledger.unlink()
    assert pinned("ledger", "create", pinned.ledger, *words) == 0
    assert pinned.release(*QUICK, "--policy", anchored) == 5, "an anchor refuses it before anything is charged"
    assert pinned.extract().attempts == 0
    assert pinned.release(*QUICK, "--policy", bare) == 3
    assert states(pinned)["ledger.pinned"] == "needs_human"
    assert "made on" in pinned.stdout
    assert pinned("gate", pinned.out, "--policy", anchored) == 4


def test_the_ledger_of_other_people(pinned: Any) -> None:
    policy = pinned.pin("others", population="somebody else")
    assert pinned.release(*QUICK, "--policy", policy) == 2
    assert "the policy is for the population somebody else" in pinned.stderr
    assert pinned.extract().attempts == 0
    assert pinned.release(*QUICK, "--policy", pinned.pin("bare")) == 0, pinned.stderr
    assert pinned("gate", pinned.out, "--policy", policy) == 1
    assert pinned("gate", pinned.out, "--policy", policy, "--allow", "needs_human") == 1


def test_a_raised_limit_needs_a_person_until_somebody_signs(pinned: Any) -> None:
    """The fixture's ledger has no keys: an amendment by name alone is an unsigned one."""
    Ledger.open(pinned.ledger).amend(3, reason="a second study", approver="A. Lee")
    assert pinned.release(*QUICK, "--policy", pinned.pin("bare")) == 3, pinned.stderr
    assert states(pinned)["ledger.amended"] == "needs_human"
    row = evidence_of(pinned.out)["amendments"][0]
    assert (row["signed"]["v"], row["approver"]["v"]) == ("unsigned", "A. Lee")
    assert pinned("verify", pinned.out) == 0, pinned.stdout
