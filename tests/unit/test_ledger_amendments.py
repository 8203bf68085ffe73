"""Raising a cap: whose signature counts, for what, and how often."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dpsynth.cli.main import run
from dpsynth.errors import IntegrityError, PrivacyRefusal, UsageError
from dpsynth.ledger import Ledger
from dpsynth.ledger.amendment import KIND, Amendment, is_same_person
from dpsynth.ledger.witness import FOLDER
from dpsynth.privacy import Cap, Cost, PrivacyUnit
from dpsynth.signing import SigningKey, create_key, load_key

PERSON = PrivacyUnit(entity="person", max_rows=5, neighbours="add_remove")
WORDS = {"reason": "second wave", "approver": "A. Lee", "requested_by": "B. Kim"}


def key(number: int) -> SigningKey:
    """A key that follows from a number: for tests only."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


LEE, OFFICE, STRANGER = key(11), key(12), key(13)


def make(path: Path, *approvers: SigningKey) -> Ledger:
    keys = [approver.public.text for approver in approvers]
    return Ledger.create(path, population="p", epsilon=1, delta="1e-6", entity="person", approvers=keys)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """With two approvers."""
    return make(tmp_path / "ledger.db", LEE, OFFICE)


def read(path: Path) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as db:
        return [json.loads(body) for (body,) in db.execute("SELECT body FROM entries ORDER BY seq")]


def write(path: Path, entries: list[dict[str, Any]]) -> None:
    """Put other entries into the file and recompute every link, as whoever can write it can."""
    previous, rows = "0" * 64, []
    for entry in entries:
        body = json.dumps(entry | {"prev_hash": previous}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        previous = hashlib.sha256(body.encode()).hexdigest()
        rows.append((entry["seq"], body, previous))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        db.execute("DELETE FROM entries")
        db.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows)
        for _, definition in triggers:
            db.execute(definition)


# ---- what is recorded


def test_an_approver_raises_the_cap(ledger: Ledger) -> None:
    assert ledger.amend(2, **WORDS, key=LEE) == ledger.cap == Cap.of(1, "1e-6").raised(2)
    again = Ledger.open(ledger.store.place)
    row = {"seq": 1, "from_epsilon": "1", "to_epsilon": "2"} | WORDS | {"key": LEE.public.text}
    assert again.extract().amendments == (row,)
    assert again.extract().approvers == (LEE.public.text, OFFICE.public.text)
    assert again.extract().genesis_time == again.entries()[0].time


def test_without_approvers_an_amendment_is_marked_as_unsigned(tmp_path: Path) -> None:
    ledger = make(tmp_path / "l")
    ledger.amend(2, **WORDS)
    (row,) = ledger.extract().amendments
    assert (row["key"], row["requested_by"]) == ("", "B. Kim")
    with pytest.raises(UsageError, match="names no approvers"):
        ledger.amend(3, **WORDS, key=STRANGER)
    assert ledger.cap.epsilon == 2


@pytest.mark.parametrize("keys", [["ed25519:AAAA"], ["LEE"], [LEE.public.text] * 2, ["ed25519:" + "A" * 43 + "="]])
def test_approvers_are_proper_keys_each_once(tmp_path: Path, keys: list[str]) -> None:
    with pytest.raises(UsageError):
        Ledger.create(tmp_path / "l", population="p", epsilon=1, delta="1e-6", approvers=keys)
    assert list(tmp_path.iterdir()) == []


# ---- what is refused


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"key": STRANGER},
        {"signature": ""},
        {"signature": "AAAA"},
        {"signature": STRANGER.sign(kind=KIND, body=b"x")},
    ],
    ids=["unsigned", "a stranger", "empty", "short", "of something else"],
)
def test_only_an_approver_counts(ledger: Ledger, how: dict[str, Any]) -> None:
    with pytest.raises(PrivacyRefusal) as refusal:
        ledger.amend(2, **WORDS, **how)
    assert refusal.value.exit_code == 7
    assert ledger.head[0] == 0


def test_the_one_who_asks_does_not_approve(ledger: Ledger, tmp_path: Path) -> None:
    for book, how in ((ledger, {"key": LEE}), (make(tmp_path / "unsigned"), {})):
        for name in ("A. Lee", "a lee", "A.  LEE ", "A-Lee"):
            with pytest.raises(PrivacyRefusal, match="second person"):
                book.amend(2, **(WORDS | {"requested_by": name}), **how)
        assert book.head[0] == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("Lee", "LEE", True), ("A. Lee", "A-Lee", True), ("A. Lee", "B. Lee", False), ("", "", False)],
)
def test_names_are_compared_without_case_and_points(one: str, other: str, same: bool) -> None:
    assert is_same_person(one, other) == same


def test_a_cap_is_raised_no_higher_than_one_can_be_made(tmp_path: Path) -> None:
    """As `create`; a ledger that an older version raised beyond it is read as it stands."""
    ledger = Ledger.create(tmp_path / "l.db", population="p", epsilon=1, delta="1e-6")
    for beyond in (10**9 + 1, "1e30"):
        with pytest.raises(UsageError, match="at most 1000000000"):
            ledger.amend(beyond, reason="r", approver="a")
    assert ledger.head[0] == 0
    assert ledger.amend(10**9, reason="r", approver="a").epsilon == 10**9
    with mock.patch("dpsynth.ledger.ledger.LARGEST_EPSILON", 10**12):
        ledger.amend(10**10, reason="r", approver="a")
    assert Ledger.open(tmp_path / "l.db").cap.epsilon == 10**10


def test_a_raise_that_no_report_could_show_is_refused(tmp_path: Path) -> None:
    """Evidence holds both limits as floats: equal ones would be a contradiction in every later release."""
    ledger = Ledger.create(tmp_path / "l.db", population="p", epsilon=2, delta="1e-6")
    with pytest.raises(UsageError, match="by more"):
        ledger.amend("2.00000000000000000001", reason="r", approver="a")
    assert ledger.head[0] == 0


def test_a_cap_is_never_lowered_by_a_signature(ledger: Ledger) -> None:
    ledger.amend(2, **WORDS, key=LEE)
    for epsilon in (1, 2, "1.5"):
        with pytest.raises(UsageError):
            ledger.amend(epsilon, **WORDS, key=LEE)


# ---- a signature made elsewhere


def test_a_signature_from_another_machine_counts_once(ledger: Ledger) -> None:
    text = ledger.amendment(2, **WORDS).body
    signature = OFFICE.sign(kind=KIND, body=Amendment.parse(text).body)
    assert ledger.head[0] == 0
    ledger.amend(2, **WORDS, signature=signature)
    assert ledger.extract().amendments[0]["key"] == OFFICE.public.text
    with pytest.raises(UsageError):
        ledger.amend(2, **WORDS, signature=signature)
    with pytest.raises(PrivacyRefusal, match="present head"):
        ledger.amend(3, **WORDS, signature=signature)


def test_a_signature_is_for_one_ledger_head_and_wording(ledger: Ledger, tmp_path: Path) -> None:
    signature = LEE.sign(kind=KIND, body=ledger.amendment(2, **WORDS).body)
    twin = make(tmp_path / "twin", LEE, OFFICE)
    for book, epsilon, change in (
        (twin, 2, {}),
        (ledger, "2.001", {}),
        (ledger, 2, {"reason": "second  wave"}),
        (ledger, 2, {"approver": "A. Leo"}),
        (ledger, 2, {"requested_by": ""}),
    ):
        with pytest.raises(PrivacyRefusal):
            book.amend(epsilon, **(WORDS | change), signature=signature)
    with ledger.reserve(Cost.zcdp(Fraction(1, 1000)), unit=PERSON, purpose="release"):
        pass
    with pytest.raises(PrivacyRefusal, match="present head"):
        ledger.amend(2, **WORDS, signature=signature)


def test_a_signature_of_another_kind_of_document_is_none(ledger: Ledger) -> None:
    body = ledger.amendment(2, **WORDS).body
    with pytest.raises(PrivacyRefusal):
        ledger.amend(2, **WORDS, signature=LEE.sign(kind="application/vnd.dpsynth.attestation+json", body=body))


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(cap=d["cap_before"]),
        lambda d: d["cap"].update(nano="999999999999"),
        lambda d: d.update(requested_by="A Lee"),
        lambda d: d.update(reason="\x1b[2J"),
        lambda d: d.update(more=1),
        lambda d: d.pop("population"),
        lambda d: d["after"].update(seq=-1),
        lambda d: d["after"].update(more=1),
        lambda d: d.update(schema="dpsynth.amendment/2"),
        lambda d: d.update(after=[]),
    ],
)
def test_nobody_signs_what_is_no_amendment(ledger: Ledger, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(ledger.amendment(2, **WORDS).body)
    change(data)
    with pytest.raises(UsageError, match="text of an amendment"):
        Amendment.parse(json.dumps(data, sort_keys=True, separators=(",", ":")).encode())


# ---- forged in the file


@pytest.mark.rewinds
@pytest.mark.parametrize(
    "change",
    [
        lambda e: e[2].update(signature=""),
        lambda e: e[2].update(key="", signature=""),
        lambda e: e[2].update(key=STRANGER.public.text),
        lambda e: e[2].update(key=OFFICE.public.text),
        lambda e: e[2].update(signature=LEE.sign(kind=KIND, body=b"anything")),
        lambda e: e[2].update(reason="another"),
        lambda e: e[2].update(approver="C. Poe"),
        lambda e: e[2].update(requested_by="A. Lee"),
        lambda e: e[2].update(requested_by=""),
        lambda e: e[2].update(cap=Cap.of(1, "1e-6").raised(9).to_json()),
        lambda e: [e[2].pop(name) for name in ("key", "signature", "requested_by")],
        lambda e: e[2].pop("signature"),
        lambda e: e[1].update(note="another history before it"),
        lambda e: e.append(e[2] | {"seq": 3}),
        lambda e: e.append(e[2] | {"seq": 3, "cap_before": e[2]["cap"], "cap": Cap.of(1, "1e-6").raised(3).to_json()}),
        lambda e: e.__delitem__(1) or e[1].update(seq=1),
    ],
)
def test_a_forged_amendment_is_an_integrity_failure(
    ledger: Ledger, change: Callable[[list[dict[str, Any]]], object]
) -> None:
    ledger.import_external(cost=None, note="the history before it")
    ledger.amend(2, **WORDS, key=LEE)
    entries = read(Path(ledger.store.place))
    write(Path(ledger.store.place), entries)
    assert Ledger.open(ledger.store.place).cap.epsilon == 2  # the helper changes nothing by itself
    change(entries)
    write(Path(ledger.store.place), entries)
    with pytest.raises(IntegrityError, match=r"AMEND|canonical"):
        Ledger.open(ledger.store.place)
    assert not Ledger.inspect(ledger.store.place).ok


@pytest.mark.rewinds
def test_a_signature_where_nobody_may_sign_is_an_integrity_failure(tmp_path: Path) -> None:
    ledger = make(tmp_path / "l")
    signature = STRANGER.sign(kind=KIND, body=ledger.amendment(2, **WORDS).body)
    ledger.amend(2, **WORDS)
    entries = read(tmp_path / "l")
    entries[1] |= {"key": STRANGER.public.text, "signature": signature}
    write(tmp_path / "l", entries)
    with pytest.raises(IntegrityError, match="AMEND"):
        Ledger.open(tmp_path / "l")


@pytest.mark.rewinds
@pytest.mark.parametrize("approvers", [[], [STRANGER.public.text], "text", [1], [LEE.public.text] * 2, None])
def test_approvers_cannot_be_exchanged_under_a_signed_amendment(ledger: Ledger, approvers: Any) -> None:
    ledger.amend(2, **WORDS, key=LEE)
    entries = read(Path(ledger.store.place))
    if approvers is None:
        del entries[0]["approvers"]
    else:
        entries[0]["approvers"] = approvers
    write(Path(ledger.store.place), entries)
    with pytest.raises(IntegrityError):
        Ledger.open(ledger.store.place)


def test_striking_the_approvers_takes_a_history_that_nobody_has_seen(ledger: Ledger) -> None:
    """Whoever can write the file can tell all of it anew, first entry included; heads kept elsewhere know better."""
    issued = ledger.anchor
    entries = read(Path(ledger.store.place))
    entries[0]["approvers"] = []
    write(Path(ledger.store.place), entries)
    with pytest.raises(IntegrityError, match="seen in it before"):  # this machine
        Ledger.open(ledger.store.place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER, os.devnull)
        Ledger.open(ledger.store.place).amend(9, **WORDS)
        assert Ledger.inspect(ledger.store.place).ok
        assert not Ledger.inspect(ledger.store.place, [issued]).ok
        with pytest.raises(IntegrityError, match="rewritten"):
            Ledger.open(ledger.store.place, anchors=[issued])


def test_a_signature_is_checked_under_the_lock(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key signs what the ledger holds at the moment of writing, not what it held when the caller looked."""
    asked: list[int] = []
    honest = SigningKey.sign

    def sign(self: SigningKey, *, kind: str, body: bytes) -> str:
        asked.append(json.loads(body)["after"]["seq"])
        return honest(self, kind=kind, body=body)

    monkeypatch.setattr(SigningKey, "sign", sign)
    stale = Ledger.open(ledger.store.place)
    ledger.import_external(cost=None, note="meanwhile")
    stale.amend(2, **WORDS, key=LEE)
    assert asked == [1]
    assert ledger.verify().ok


# ---- ledgers from before there were approvers


@pytest.mark.rewinds
def test_an_older_ledger_opens_and_goes_on(tmp_path: Path) -> None:
    """GENESIS without approvers means that there are none; AMEND without a key was not signed."""
    ledger = make(tmp_path / "l")
    ledger.amend(2, reason="second wave", approver="A. Lee")
    entries = read(tmp_path / "l")
    del entries[0]["approvers"]
    for name in ("requested_by", "key", "signature"):
        del entries[1][name]
    write(tmp_path / "l", entries)
    older = Ledger.open(tmp_path / "l")
    assert (older.extract().approvers, older.extract().amendments[0]["key"]) == ((), "")
    older.amend(3, **WORDS)
    assert [row["to_epsilon"] for row in Ledger.open(tmp_path / "l").extract().amendments] == ["2", "3"]


@pytest.mark.rewinds
def test_an_older_charge_says_nothing_about_its_proof(tmp_path: Path) -> None:
    """RESERVE without a basis: nobody can tell a claim from a proof any more, so it is counted as a claim."""
    with make(tmp_path / "l").reserve(Cost.zcdp("1/1000"), unit=PERSON, purpose="release") as reservation:
        reservation.start()
    entries = read(tmp_path / "l")
    del entries[1]["basis"]
    write(tmp_path / "l", entries)
    assert Ledger.open(tmp_path / "l").extract().claimed == 1


# ---- two at once


def test_of_two_signed_for_one_head_one_is_accepted(ledger: Ledger) -> None:
    signed = [
        (epsilon, who.sign(kind=KIND, body=ledger.amendment(epsilon, **WORDS).body))
        for epsilon, who in ((2, LEE), (3, OFFICE), (4, LEE), (5, OFFICE))
    ]
    done: list[str] = []

    def attempt(epsilon: int, signature: str) -> None:
        try:
            Ledger.open(ledger.store.place).amend(epsilon, **WORDS, signature=signature)
            done.append("accepted")
        except (PrivacyRefusal, UsageError):
            done.append("refused")

    threads = [threading.Thread(target=attempt, args=one) for one in signed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == ["accepted", "refused", "refused", "refused"]
    assert ledger.head[0] == 1
    assert ledger.verify().ok


# ---- the commands


def test_the_commands_of_two_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run([str(word) for word in words])
        return code, *capsys.readouterr()

    pem, place = tmp_path / "approver.pem", tmp_path / "l"
    public = create_key(pem).text
    made = call(
        "ledger", "create", place, "--population", "p", "--epsilon", 1, "--delta", "1e-6", "--approver-key", public
    )
    assert made[0] == 0
    words = ("--reason", "wave two", "--approver", "A. Lee", "--requested-by", "B. Kim")
    code, out, said = call("ledger", "amend", place, "--epsilon", 2, *words)
    assert (code, out, said.count("\n")) == (7, "", 1)
    assert call("ledger", "amend", place, "--epsilon", 2, *words, "--key", pem)[0] == 0
    assert call("ledger", "amend", place, "--epsilon", 3, *words, "--key", pem, "--to-sign")[0] == 2
    code, text, _ = call("ledger", "amend", place, "--epsilon", 3, *words, "--to-sign")
    (tmp_path / "text.json").write_text(text, encoding="utf-8")
    code, signature, said = call("ledger", "approve", tmp_path / "text.json", "--key", pem)
    assert code == 0
    assert "from epsilon 2 to 3" in said
    assert load_key(pem).public.verifies(signature.strip(), kind=KIND, body=text.removesuffix("\n").encode())
    assert call("ledger", "amend", place, "--epsilon", 4, *words, "--signature", signature.strip())[0] == 7
    assert call("ledger", "amend", place, "--epsilon", 3, *words, "--signature", signature.strip())[0] == 0
    assert Ledger.open(place).cap.epsilon == 3
    (tmp_path / "text.json").write_text(text.replace('"B. Kim"', '"A. Lee"'), encoding="utf-8")
    assert call("ledger", "approve", tmp_path / "text.json", "--key", pem)[0] == 2
