"""A release from people of several populations charges each of them, by the public commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dpsynth import Ledger, LedgerExtract
from dpsynth.privacy import tpr_bound
from dpsynth.signing import create_key, load_key
from reports.collect.risk import lifetime_loss

Case = Any


@pytest.fixture
def joined(case: Case) -> Case:
    """Beside the ledger of the case (cap 2): a school's with a cap of 1.5, and that of both joined (cap 3)."""
    make = ("--delta", "1e-6", "--unit", "person")
    folder = case.folder
    assert case("ledger", "create", folder / "school", "--population", "school", "--epsilon", "1.5", *make) == 0
    parents = ("--parent", case.ledger, "--parent", folder / "school")
    assert case("ledger", "create", folder / "both", "--population", "both", "--epsilon", 3, *make, *parents) == 0
    return case


def release(
    case: Case, *ledgers: Path, out: str = "out", epsilon: object = "0.5", policy: str = "internal-test"
) -> int:
    words = [word for place in ledgers for word in ("--ledger", place)]
    code: int = case(
        "release", case.data, "--schema", case.schema, *words, "--epsilon", epsilon, "--delta", "1e-6",
        "--synthesizer", "independent", "--policy", policy, "--out", case.folder / out,
    )  # fmt: skip
    return code


def extracts(case: Case) -> list[LedgerExtract]:
    return [Ledger.open(place).extract() for place in (case.folder / "both", case.ledger, case.folder / "school")]


def test_all_are_charged_and_the_worst_is_shown(joined: Case) -> None:
    both, clinic, school = joined.folder / "both", joined.ledger, joined.folder / "school"
    for some in ((both,), (both, clinic), (school, both)):
        assert release(joined, *some) == 2
        assert joined.stderr.count("\n") == 2, joined.stderr  # the stage, and one sentence
        assert "charged too" in joined.stderr
    assert release(joined, both, clinic, school, both) == 2
    assert {(extract.seq, extract.charged_nano) for extract in extracts(joined)} == {(0, 0)}
    assert not joined.out.exists()

    assert release(joined, both, clinic, school) in (0, 1, 3, 4)  # a verdict, whatever it is
    charged = extracts(joined)
    assert len({extract.charged for extract in charged}) == 1
    assert all(extract.attempts == 1 and extract.orphans == 0 and extract.charged_nano > 0 for extract in charged)
    manifest = joined.out / "release" / "manifest.json"
    evidence = json.loads((joined.out / "release" / "evidence.json").read_text())
    figures = {name: evidence["ledger"][name]["v"] for name in ("ledger_id", "cap_epsilon", "remaining", "attempts")}
    assert (figures["ledger_id"], figures["cap_epsilon"]) == (charged[0].ledger_id, 3)  # the largest lifetime loss
    assert joined("ledger", "show", school, "--json") == 0
    assert figures["remaining"] == json.loads(joined.stdout)["remaining_epsilon"]  # the smallest remainder
    assert figures["remaining"] < 1.5
    for place in (both, clinic, school):
        assert joined("ledger", "verify", place, "--against", manifest) == 0, joined.stdout
        assert "is the one that an anchor names" in joined.stdout
    assert joined("verify", joined.out) == 0
    assert any("in full to 3 ledgers" in text for text in evidence["limits"]["v"])

    other = joined.folder / "other"
    assert joined("ledger", "create", other, "--population", "x", "--epsilon", 1, "--delta", "1e-6") == 0
    assert joined("ledger", "verify", other, "--against", manifest) == 5


def test_a_policy_that_names_one_of_them_asks_a_person_about_the_others(joined: Case) -> None:
    """And finds its own ledger, and the head in it, where another one is shown because it looks worse."""
    both, clinic, school = joined.folder / "both", joined.ledger, joined.folder / "school"
    root = Ledger.open(clinic).entries()[0]
    policy = joined.folder / "pinned.toml"
    policy.write_text(
        'schema = "dpsynth.policy/1"\nname = "pinned"\nversion = "1"\nreason = "r"\n[ledger]\n'
        f'id = "{Ledger.open(clinic).ledger_id}"\npopulation = "test"\nanchor = {{ seq = 0, head = "{root.hash}" }}\n'
        '[[rule]]\nid = "e"\nevidence = "guarantee.epsilon"\nstage = "release"\nat_most = 2.0\nreason = "r"\n',
        encoding="utf-8",
    )
    assert release(joined, both, clinic, school, policy=str(policy)) == 3, joined.stderr
    verdict = json.loads((joined.out / "release" / "verdict.json").read_text())
    states = {rule["id"]: rule["status"] for rule in verdict["rules"]}
    assert (states["ledger.pinned"], states["ledger.anchor"]) == ("needs_human", "pass")
    assert "charged to 3 ledgers, and the policy names one of them" in joined.stderr
    page = (joined.out / "release" / "report.html").read_text()
    assert Ledger.open(school).ledger_id in page
    assert "Other ledgers that were charged in full" in page
    assert joined("verify", joined.out) == 0, joined.stdout


def test_the_poorest_decides_for_all(joined: Case) -> None:
    both, clinic, school = joined.folder / "both", joined.ledger, joined.folder / "school"
    assert release(joined, both, clinic, school, epsilon="1.6") == 7
    assert [extract.charged_nano for extract in extracts(joined)] == [0, 0, 0]
    assert [extract.denied for extract in extracts(joined)] == [0, 0, 1]
    assert not joined.out.exists()


def test_an_earlier_release_about_some_of_them_is_about_the_release(joined: Case) -> None:
    """A mark in the ledger with the smallest cap comes before all figures of the others."""
    both, clinic, school = joined.folder / "both", joined.ledger, joined.folder / "school"
    assert joined("ledger", "import", school, "--not-dp", "--note", "k-anonymous extract") == 0
    assert release(joined, both, clinic, school) in (3, 4)
    evidence = json.loads((joined.out / "release" / "evidence.json").read_text())
    assert evidence["ledger"]["ledger_id"]["v"] == extracts(joined)[2].ledger_id
    assert evidence["ledger"]["imports_not_dp"]["v"] == 1
    assert evidence["risk"]["tpr_at_fpr"]["v"] is None
    verdict = json.loads((joined.out / "release" / "verdict.json").read_text())
    states = {rule["id"]: rule["status"] for rule in verdict["rules"]}
    assert states["ledger.all_dp"] == "needs_human"


def test_a_raise_of_any_of_them_is_judged(joined: Case) -> None:
    """A ledger of one's own, with a key of one's own, raised behind another ledger that looks worse."""
    key = joined.folder / "key.pem"
    public = create_key(key)
    own = Ledger.create(
        joined.folder / "own", population="own", epsilon=1, delta="1e-6", entity="person", approvers=[public.text]
    )
    own.amend("1.2", reason="more", approver="A. Lee", requested_by="B. Kim", key=load_key(key))
    assert release(joined, joined.ledger, joined.folder / "own") in (3, 4)
    evidence = json.loads((joined.out / "release" / "evidence.json").read_text())
    assert evidence["ledger"]["ledger_id"]["v"] == Ledger.open(joined.ledger).ledger_id
    assert evidence["ledger"]["raised"]["v"] == 0
    assert [row["signed"]["v"] for row in evidence["ledger"]["others"]] == [[public.fingerprint]]
    verdict = json.loads((joined.out / "release" / "verdict.json").read_text())
    assert {rule["id"]: rule["status"] for rule in verdict["rules"]}["ledger.amended"] == "needs_human"


def test_who_is_in_two_populations_may_lose_by_the_releases_of_both(joined: Case) -> None:
    both, clinic, school = extracts(joined)
    two = lifetime_loss([clinic, school])
    assert two.rho == clinic.cap.cost.rho + school.cap.cost.rho
    assert lifetime_loss([clinic]).rho == clinic.cap.cost.rho
    assert lifetime_loss([both, clinic, school]).rho == max(two.rho, both.cap.cost.rho)  # what it pays, its parents pay
    assert release(joined, joined.ledger, joined.folder / "school") in (0, 1, 3, 4)
    evidence = json.loads((joined.out / "release" / "evidence.json").read_text())
    assert evidence["risk"]["tpr_at_fpr"]["v"] == tpr_bound(two, 0.01)
