"""`dpsynth ledger show`: what stands on the page is what the ledger would do."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import click
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dpsynth.cli.balance import WIDTH, facts, lines, next_releases
from dpsynth.cli.main import run
from dpsynth.errors import BudgetExceeded
from dpsynth.ledger import Ledger, LedgerExtract
from dpsynth.privacy import Cap, Cost, PrivacyUnit
from dpsynth.signing import SigningKey
from reports.collect.ledger import remaining_epsilon

PERSON = PrivacyUnit(entity="person", max_rows=5, neighbours="add_remove")
LEE = SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([11]) * 32))
DOCUMENT = Path(__file__).parents[2] / "docs" / "ledger.md"


def make(path: Path, *, epsilon: object = 2, population: str = "clinic", delta: str = "1e-6") -> Ledger:
    keys = [LEE.public.text]
    return Ledger.create(path, population=population, epsilon=epsilon, delta=delta, entity="person", approvers=keys)  # type: ignore[arg-type]


def spend(ledger: Ledger, epsilon: object) -> None:
    cost = Cap.of(epsilon, "1e-6").cost  # type: ignore[arg-type]
    with ledger.reserve(cost, unit=PERSON, purpose="release") as reservation:
        reservation.start()


def page(extract: LedgerExtract) -> str:
    return click.unstyle("\n".join(lines(extract)))


@pytest.fixture
def busy(tmp_path: Path) -> Ledger:
    """A release, an amendment, a refusal, an orphan, an import."""
    ledger = make(tmp_path / "l")
    spend(ledger, 1)
    ledger.amend(3, reason="second wave of the survey", approver="A. Lee", requested_by="B. Kim", key=LEE)
    with pytest.raises(BudgetExceeded):
        spend(ledger, 3)
    ledger.reserve(Cap.of("0.5", "1e-6").cost, unit=PERSON, purpose="release")
    ledger.import_external(cost=Cost.approximate("0.5", "1e-8"), note="table of 2024")
    return ledger


@pytest.mark.slow
@pytest.mark.parametrize(("epsilon", "spent"), [(2, []), ("0.3", ["1/4"]), (2, ["1/2", "1/4"]), (1, ["1"])])
def test_the_table_says_what_a_release_would_do(tmp_path: Path, epsilon: object, spent: list[str]) -> None:
    for share, (size, left) in enumerate(next_releases(make(tmp_path / "l", epsilon=epsilon).extract())):
        ledger = make(tmp_path / f"{share}", epsilon=epsilon)
        for part in spent:
            spend(ledger, Fraction(part) * ledger.cap.epsilon)
        said = dict(next_releases(ledger.extract()))[size]
        if said is None:
            with pytest.raises(BudgetExceeded):
                spend(ledger, size)
        else:
            assert left is not None  # what fits now fitted the empty ledger
            spend(ledger, size)
            assert remaining_epsilon(ledger.extract()) == said
            assert said <= left


def test_what_is_left_is_rounded_down(busy: Ledger) -> None:
    extract = busy.extract()
    left = Fraction(str(remaining_epsilon(extract)))
    assert extract.cap.admits(extract.charged_nano, extract.charged.delta0, Cap.of(left, "1e-6").cost)
    more = Cap.of(left + Fraction(1, 1000), "1e-6").cost
    assert not extract.cap.admits(extract.charged_nano, extract.charged.delta0, more)


def test_everything_is_on_the_page(busy: Ledger) -> None:
    extract, text = busy.extract(), page(busy.extract())
    for part in (
        "clinic",
        "one person",
        "epsilon 3 at delta 1e-06",
        "raised from 2 to 3 in entry 4 by A. Lee, asked by B. Kim",
        LEE.public.fingerprint[:16],
        '"second wave of the survey"',
        "2 attempts, 1 refused",
        "1 never finished",
        extract.orphans_since[:10],
        extract.genesis_time[:10],
        "1 released elsewhere",
        extract.ledger_id,
        extract.head,
    ):
        assert part in " ".join(text.split()), part
    assert extract.orphans_since == busy.orphans()[0].time


def test_machines_get_the_same_numbers(busy: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ledger", "show", busy.store.place, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == json.loads(json.dumps(facts(busy.extract())))
    text = page(busy.extract())
    assert f"epsilon {said['remaining_epsilon']:g} at that delta" in text
    assert f"{said['charged_percent']:g} % of the limit" in text
    rows = [(f"{float(Fraction(row['epsilon'])):g}", row["leaves"]) for row in said["next"]]
    shown = re.findall(r"^ +epsilon (\S+) +(?:epsilon (\S+)|refused|nothing)$", text, re.MULTILINE)
    assert [(size, float(left) if left else None) for size, left in shown] == [
        (size, left or None) for size, left in rows
    ]
    assert len(rows) == 5


def test_an_unsigned_amendment_says_so(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "l", population="p", epsilon=1, delta="1e-6")
    ledger.amend(2, reason="r", approver="a")
    assert "(not signed)" in page(ledger.extract())
    assert "a signature" not in page(ledger.extract())


def test_a_limit_that_was_passed_leaves_nothing(tmp_path: Path) -> None:
    ledger = make(tmp_path / "l")
    ledger.import_external(cost=Cost.approximate(3, "1e-8"), note="earlier")
    ledger.import_external(cost=None, note="earlier still")
    text = page(ledger.extract())
    assert "nothing: releases made elsewhere passed the limit" in text
    assert "[" + "#" * 40 + "]" in text
    assert {left for _, left in next_releases(ledger.extract())} == {None}
    assert "1 of them without differential privacy" in " ".join(text.split())


def test_sizes_that_no_order_can_express_are_left_out(tmp_path: Path) -> None:
    ledger = make(tmp_path / "l", epsilon="0.003", delta="1e-12")
    assert 0 < len(next_releases(ledger.extract())) < 5
    assert page(ledger.extract())


@pytest.mark.parametrize("name", ["x" * 2000, "a b " * 500, "\N{HEBREW LETTER ALEF}" * 300, "-" * 200])
def test_long_names_stay_within_the_page(tmp_path: Path, name: str) -> None:
    ledger = make(tmp_path / "l", population=name)
    ledger.amend(3, reason=name, approver=name, key=LEE)
    ledger.reserve(Cost.zcdp(Fraction(1, 10**6)), unit=PERSON, purpose="release")
    assert max(map(len, page(ledger.extract()).splitlines())) <= WIDTH


def test_a_hostile_name_steers_no_terminal(tmp_path: Path) -> None:
    extract = replace(
        make(tmp_path / "l").extract(), population="\x1b[2J\N{RIGHT-TO-LEFT OVERRIDE}x", genesis_time="\x1b[2J"
    )
    text = "\n".join(lines(extract)).replace(click.style("#", fg="cyan"), "")
    assert not re.search(r"\x1b(?!\[3[36]m|\[0m)", text)
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in text


def test_colours_are_for_terminals(busy: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" in "\n".join(lines(busy.extract()))
    assert run(["ledger", "show", busy.store.place]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_the_document_shows_this_page(busy: Ledger) -> None:
    """docs/ledger.md holds the page of this ledger, with an id, a head and times that stay."""
    extract = replace(
        busy.extract(),
        ledger_id="5b1c7f0a-9f43-4d0e-8f49-0d8d9b1f2f60",
        head="9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab",
        genesis_time="2026-11-22T09:30:00.000000Z",
        orphans_since="2027-02-01T14:05:00.000000Z",
    )
    wanted = f"```text\n$ dpsynth ledger show clinic.ledger\n{page(extract)}\n```\n"
    assert wanted in DOCUMENT.read_text(encoding="utf-8"), f"put this into {DOCUMENT.name}:\n{wanted}"
