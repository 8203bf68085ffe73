"""One signed decision, and all that lie beside a release: read strictly, never left out in silence."""

from __future__ import annotations

import os
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import signers
from signers import CONTROLLER, DEPUTY, OFFICER, STRANGER

from dpsynth.errors import IntegrityError, UsageError
from dpsynth.release import Release
from reports.attestation import Attestation, Record, add


@pytest.fixture
def made(builder: ModuleType) -> Attestation:
    return signers.signed(builder.internal(), signers.policy(), replaces=("cd" * 32,))


def test_what_is_written_is_read_back(made: Attestation) -> None:
    assert Attestation.parse(made.to_text()) == made
    assert made.file_name == f"controller+release-decision+{CONTROLLER.public.fingerprint[:16]}.json"
    assert made.who == "A. Lee (Clinic)"


def test_any_other_byte_is_refused(made: Attestation) -> None:
    text = made.to_text()
    for place in range(len(text)):
        for other in (chr(ord(text[place]) ^ 1), chr(ord(text[place]) ^ 32)):
            with pytest.raises(IntegrityError):
                Attestation.parse(text[:place] + other + text[place + 1 :])
        with pytest.raises(IntegrityError):
            Attestation.parse(text[:place] + text[place + 1 :])
    for more in (text + "\n", " " + text, text + text):
        with pytest.raises(IntegrityError):
            Attestation.parse(more)


def test_the_key_is_signed_too(made: Attestation) -> None:
    """Nobody can put an own key under somebody else's words, or own words over somebody else's signature."""
    text = made.to_text()
    for old, new in (
        (CONTROLLER.public.text, STRANGER.public.text),
        ('"approve"', '"reject"'),
        ("A. Lee", "B. Lee"),
        ("2027-05-31", "2029-05-31"),
        (signers.MANIFEST, "ac" * 32),
    ):
        assert old in text
        with pytest.raises(IntegrityError, match="signature"):
            Attestation.parse(text.replace(old, new))


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", "[" * 100_000, '{"schema": "dpsynth.attestation/1"}', "\ud800"]
)
def test_what_is_no_attestation(text: str) -> None:
    with pytest.raises(IntegrityError, match="not an attestation") as caught:
        Attestation.parse(text)
    assert len(str(caught.value)) < 200


def test_an_error_quotes_nothing(made: Attestation) -> None:
    for old in ("2026-11-21T10:00:00Z", "2027-05-31", "controller"):
        with pytest.raises(IntegrityError) as caught:
            Attestation.parse(made.to_text().replace(old, "SECRET <b>"))
        assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": " A"},
        {"name": "A\u202eB"},
        {"name": "A\nB"},
        {"name": "A\x1b[31m"},
        {"name": "\ud800"},
        {"name": "x" * 201},
        {"name": "e\u0301"},
        {"organisation": "a\u200bb"},
        {"role": "two words"},
        {"role": "../x"},
        {"statement": "a/b"},
        {"statement": ""},
        {"statement": "a+b"},
        {"decision": "abstain"},
        {"expires": date(2026, 11, 20)},
        {"signed_at": datetime(2026, 11, 21)},
        {"signed_at": datetime(2026, 11, 21, tzinfo=timezone(timedelta(hours=1)))},
        {"evidence": "x"},
        {"manifest": "AB" * 32},
        {"replaces": ("x",)},
    ],
)
def test_a_decision_that_cannot_be_signed(builder: ModuleType, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"made of|text of|needs|approve or|expire|UTC|digest"):
        signers.draft(builder.internal(), signers.policy(), **changes)


def test_names_of_people_are_people_s(builder: ModuleType) -> None:
    for name in ("\u05e9\u05dc\u05d5\u05dd", "Zo\u00eb", "<b>x</b>", "=cmd|'x'!A0", "O'Neil & Co."):
        made = signers.signed(builder.internal(), signers.policy(), name=name)
        assert Attestation.parse(made.to_text()).name == name


# ---- beside a release ------------------------------------------------------------------------------------------------


@pytest.fixture
def release(builder: ModuleType, tmp_path: Path) -> Release:
    return signers.release(tmp_path, builder.internal(), signers.policy(), builder.TODAY)


def put(builder: ModuleType, release: Release, by: Any = CONTROLLER, **changes: Any) -> tuple[Attestation, Any]:
    manifest = Record.read(release).manifest
    return add(release, signers.draft(builder.internal(), signers.policy(), manifest=manifest, **changes), by)


def test_a_release_without_any(release: Release) -> None:
    found = Record.read(release)
    assert (found.attestations, found.problems) == ((), ())
    assert len(found.manifest) == 64


def test_adding_is_read_back_and_leaves_the_release_whole(builder: ModuleType, release: Release) -> None:
    made, gone = put(builder, release)
    assert gone == ()
    assert Record.read(release).attestations == (made,)
    assert release.verify().problems == ()
    assert [path.name for path in (release.folder / "attestations").iterdir()] == [made.file_name]


def test_a_person_replaces_an_own_decision(builder: ModuleType, release: Release) -> None:
    first, _ = put(builder, release)
    second, gone = put(builder, release, decision="reject")
    assert gone == (first,)
    assert second.replaces == (first.digest,)
    third, gone = put(builder, release)
    assert gone == (second,)
    assert Record.read(release).attestations == (third,)


def test_a_rejection_takes_away_what_others_approved(builder: ModuleType, release: Release) -> None:
    approved, _ = put(builder, release)
    advice, _ = put(builder, release, OFFICER, role="officer", statement="advice")
    rejected, gone = put(builder, release, DEPUTY, decision="reject")
    assert gone == (approved,)
    assert set(Record.read(release).attestations) == {rejected, advice}


def test_nobody_overrules_another_s_rejection(builder: ModuleType, release: Release) -> None:
    put(builder, release, DEPUTY, decision="reject")
    with pytest.raises(UsageError, match="only the one who made that decision"):
        put(builder, release, CONTROLLER)
    put(builder, release, DEPUTY)
    put(builder, release, CONTROLLER)
    assert {a.decision for a in Record.read(release).attestations} == {"approve"}


def test_damaged_files_are_named(builder: ModuleType, release: Release) -> None:
    made, _ = put(builder, release)
    folder = release.folder / "attestations"
    good = folder / made.file_name
    (folder / "copy.json").write_text(made.to_text())
    (folder / "long.json").write_text(" " * 70_000)
    (folder / "binary.json").write_bytes(b"\xff\xfe")
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    (folder / "link.json").symlink_to(good)
    found = Record.read(release)
    assert found.attestations == (made,)
    assert len(found.problems) == 6
    assert all(
        any(name in problem for problem in found.problems) for name in ("copy", "long", "binary", "pipe", "link")
    )
    with pytest.raises(IntegrityError, match="take the damaged file away"):
        put(builder, release)


def test_only_attestations_may_lie_beside_a_release(builder: ModuleType, release: Release, tmp_path: Path) -> None:
    made, _ = put(builder, release)
    folder = release.folder / "attestations"
    assert release.verify().problems == ()
    for name in ("note.txt", ".hidden.json", "-x.json", "a b.json", "deep/x.json"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        assert release.verify().problems == (f"attestations/{name} is not in the manifest",)
        path.unlink()
    link = folder / "link.json"
    link.symlink_to(folder / made.file_name)
    assert any("is a link" in problem for problem in release.verify().problems)
    link.unlink()
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    assert any("is a link" in problem for problem in release.verify().problems)
    assert Record.read(release).attestations == ()
