"""What a changed, cut, rewritten or restored ledger file gives away: by its chain alone, or only beside an anchor."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from ledger_places import Place, SqlitePlace, both

from dpsynth.errors import BudgetExceeded, DpsynthError, IntegrityError
from dpsynth.ledger import Anchor, Ledger
from dpsynth.privacy import Cap, Cost, PrivacyUnit

pytestmark = pytest.mark.rewinds

PERSON = PrivacyUnit(entity="person", max_rows=5, neighbours="add_remove")
SMALL = Cost.zcdp(Fraction(1, 1000))
Entries = list[dict[str, Any]]


@pytest.fixture
def ledger(place: Place) -> Ledger:
    """Sixteen entries: a release, a failure, one given back, a denial, an amendment, imports, a release, an orphan."""
    made = Ledger.create(place.address, population="p", epsilon=1, delta="1e-6", entity="person")
    release(made)
    with pytest.raises(RuntimeError):
        release(made, fails=True)
    with reserve(made):
        pass
    with pytest.raises(BudgetExceeded):
        reserve(made, Cost.zcdp(Fraction(1)))
    made.amend(2, reason="second wave", approver="privacy office")
    made.import_external(cost=SMALL, note="table of 2024")
    release(made)
    reserve(made)
    return made


def reserve(ledger: Ledger, cost: Cost = SMALL) -> Any:
    return ledger.reserve(cost, unit=PERSON, purpose="release")


def release(ledger: Ledger, *, fails: bool = False) -> None:
    with reserve(ledger) as reservation:
        reservation.start()
        reservation.spend(SMALL, purpose="all")
        if fails:
            raise RuntimeError


def write(place: Place, entries: Entries, *, rechain: bool) -> None:
    """Replace all entries; `rechain` recomputes every link, as someone who knows the format can."""
    previous, rows = "0" * 64, []
    for entry in entries:
        if rechain:
            entry = entry | {"prev_hash": previous}
        body = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        previous = hashlib.sha256(body).hexdigest()
        rows.append((entry["seq"], body, previous.encode()))
    place.forge(rows)


def read(place: Place) -> Entries:
    return [json.loads(body) for _, body, _ in place.rows()]


def exchange(place: Place, seq: int, body: bytes, *, rehash: bool = False) -> None:
    """Replace the text of one entry, and its own hash if asked."""
    rows = place.rows()
    digest = hashlib.sha256(body).hexdigest().encode() if rehash else rows[seq][2]
    rows[seq] = (seq, body, digest)
    place.forge(rows)


def found_alone(place: Place) -> str:
    """The problem that the ledger shows without any anchor, or ""."""
    report = Ledger.inspect(place.address)
    assert report.ok == (not report.problems)
    if report.ok:
        Ledger.open(place.address)
        return ""
    (problem,) = report.problems
    with pytest.raises(IntegrityError, match=re.escape(problem)):
        Ledger.open(place.address)
    return problem


@both
def test_the_untouched_ledger_is_sound(ledger: Ledger, place: Place) -> None:
    assert len(ledger.entries()) == 16
    assert found_alone(place) == ""
    assert ledger.verify([ledger.anchor]).ok
    write(place, read(place), rechain=True)  # the helpers of this file change nothing by themselves
    assert ledger.verify([ledger.anchor]).ok


# ---- found by the chain alone


@pytest.mark.slow
@both
@pytest.mark.parametrize("seq", [0, 1, 7, 14])
def test_an_edited_row_is_named(ledger: Ledger, seq: int, place: Place) -> None:
    exchange(place, seq, place.rows()[seq][1] + b" ")
    assert f"entry {seq} (its hash" in found_alone(place)


def test_an_edited_row_with_its_own_hash_breaks_the_next_link(ledger: Ledger, place: Place) -> None:
    body = json.dumps(read(place)[4] | {"tool_version": "9"}, sort_keys=True, separators=(",", ":"))
    exchange(place, 4, body.encode(), rehash=True)
    assert "entry 5 (it does not follow" in found_alone(place)


@both
def test_a_missing_row_is_named(ledger: Ledger, place: Place) -> None:
    place.forge([row for row in place.rows() if row[0] != 6])
    assert "entry 6 (it is missing)" in found_alone(place)


@both
def test_rows_cannot_be_moved_up(ledger: Ledger, place: Place) -> None:
    rows = place.rows()
    place.forge([*rows[:6], *((seq - 1, body, digest) for seq, body, digest in rows[7:])])
    assert "entry 6 (" in found_alone(place)


@both
def test_an_emptied_ledger_is_refused(ledger: Ledger, place: Place) -> None:
    place.forge([])
    assert "entry 0 (it is missing)" in found_alone(place)


CHANGED = {
    "sqlite": [
        "DROP TRIGGER entries_stay",
        "CREATE TRIGGER swallow BEFORE INSERT ON entries BEGIN SELECT RAISE(IGNORE); END",
        "CREATE TABLE more (x)",
        "DROP TABLE entries",
    ],
    "postgresql": [
        "DROP TRIGGER entries_stay ON entries",
        "DROP TRIGGER entries_follow ON entries",
        "ALTER TABLE entries DISABLE TRIGGER ALL",
        "ALTER TABLE entries ENABLE TRIGGER entries_stay",  # no longer for replicated changes
        "ALTER TRIGGER entries_stay ON entries RENAME TO entries_go",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; "
        "CREATE TRIGGER swallow BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE OR REPLACE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp "
        "AS 'BEGIN RETURN NEW; END'",
        "ALTER FUNCTION append_only() RESET search_path",
        "ALTER FUNCTION append_only() SECURITY DEFINER",
        "CREATE RULE quiet AS ON INSERT TO entries DO INSTEAD NOTHING",
        "ALTER TABLE entries ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE entries SET UNLOGGED",
        "ALTER TABLE entries ADD COLUMN more text",
        "ALTER TABLE entries DROP COLUMN hash",
        "ALTER TABLE entries ALTER COLUMN body SET DEFAULT 'x'",
        "ALTER TABLE entries ALTER COLUMN body DROP NOT NULL",
        "ALTER TABLE entries DROP CONSTRAINT entries_pkey",
        "ALTER TABLE entries DROP CONSTRAINT entries_pkey; ALTER TABLE entries ADD CONSTRAINT entries_pkey "
        "PRIMARY KEY (seq) DEFERRABLE INITIALLY DEFERRED",
        "ALTER TABLE entries DROP CONSTRAINT entries_hash",
        "CREATE INDEX more ON entries (hash)",
        "CREATE TABLE child () INHERITS (entries)",
        "ALTER TABLE entries RENAME TO rows; CREATE VIEW entries AS SELECT * FROM rows WHERE seq < 3",
        "DROP TABLE entries",
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "statement"),
    [(kind, statement) for kind, statements in CHANGED.items() for statement in statements],
    indirect=["place"],
)
def test_changed_tables_are_refused(place: Place, statement: str) -> None:
    made = Ledger.create(place.address, population="p", epsilon=1, delta="1e-6", entity="person")
    assert place.try_to(statement)
    assert "tables were changed" in found_alone(place)
    with pytest.raises(IntegrityError):
        reserve(made)  # and by a ledger that was open before


def at(seq: int, /, **changes: Any) -> Callable[[Entries], object]:
    return lambda entries: entries[seq].update(changes)


def put(seq: int, like: int, **changes: Any) -> Callable[[Entries], object]:
    return lambda entries: entries.__setitem__(seq, entries[like] | {"seq": seq} | changes)


def refund(entries: Entries) -> None:
    """A job that was started is given back, with all sums right."""
    sums = {"charged_before": entries[4]["charged_after"], "charged_after": entries[4]["charged_before"]}
    entries[6] = entries[8] | {"seq": 6, "reservation": 4} | sums


def unit(**changes: Any) -> dict[str, Any]:
    return {"unit": {"entity": "person", "max_rows": 5, "neighbours": "add_remove"} | changes}


def cost(rho: str, **more: Any) -> dict[str, Any]:
    return {"cost": {"rho": rho, "delta0": "0"} | more}


# Each keeps the chain whole and breaks one rule: where it is found, the rule, the change.
ILLEGAL: dict[str, tuple[int, str, Callable[[Entries], object]]] = {
    "a smaller charge": (1, "charge", at(1, charge="1")),
    "a negative charge": (1, "integer", at(1, charge="-5")),
    "a smaller sum": (1, "sums", at(1, charged_after={"nano": "1", "delta0": "0"})),
    "a forgotten sum": (4, "sums", at(4, charged_before={"nano": "0", "delta0": "0"})),
    "a sum that is no number": (4, "sums", at(4, charged_before=None)),
    "a cost over the cap": (1, "cap is passed", at(1, **cost("1"))),
    "a negative cost": (1, "fraction", at(1, **cost("-1/1000"))),
    "a cost with an exponent": (1, "fraction", at(1, **cost("1e999999999"))),
    "a cost without end": (1, "fraction", at(1, **cost("1/0"))),
    "a curve that is too short": (1, "orders", at(1, **cost("1/1000", extra=[1]))),
    "a curve of truths": (1, "not a cost", at(1, **cost("1/1000", extra=[True] * 168))),
    "a cost with a discount": (1, "not a cost", at(1, **cost("1/1000", discount="all"))),
    "another attempt number": (4, "attempts", at(4, attempt=1)),
    "another unit": (1, "unit", at(1, **unit(entity="row"))),
    "another relation": (1, "unit", at(1, **unit(neighbours="replace"))),
    "a unit of no rows": (1, "max_rows", at(1, **unit(max_rows=0))),
    "a unit of true rows": (1, "not a unit", at(1, **unit(max_rows=True))),
    "the same job twice": (4, "charged once", lambda e: e[4].update(job_id=e[1]["job_id"])),
    "a purpose that clears the screen": (1, "text", at(1, purpose="\x1b[2J")),
    "a refund of a started job": (6, "order", refund),
    "a second start": (3, "order", put(3, like=2)),
    "a second end": (6, "order", put(6, like=3)),
    "an end without a start": (8, "order", put(8, like=6, reservation=7)),
    "a start of nothing": (2, "KeyError", at(2, reservation=0)),
    "a start of what comes later": (2, "KeyError", at(2, reservation=4)),
    "a reservation by name": (2, "reservation", at(2, reservation="1")),
    "more spent than reserved": (3, "spent", at(3, spent={"nano": "999999999999", "delta0": "0"})),
    "more delta0 spent than reserved": (3, "spent", at(3, spent={"nano": "1", "delta0": "1/2"})),
    "a basis that does not exist": (1, "basis", at(1, basis="sound")),
    "a negative count": (3, "spends", at(3, spends=-1)),
    "an artifact that is no digest": (3, "artifact", at(3, artifact_sha256="x")),
    "a denial of what fits": (9, "denied", lambda e: e[9].update(cost=e[1]["cost"], charge=e[1]["charge"])),
    "a denial for no reason": (9, "refusal", at(9, refusal="mood")),
    "a denial for another unit": (9, "refusal", at(9, refusal="unit")),
    "a lower cap": (10, "only go up", lambda e: e[10].update(cap=e[10]["cap_before"])),
    "a cap with a looser limit": (0, "does not follow", lambda e: e[0]["cap"].update(nano="999999999999")),
    "a cap with another delta": (10, "only goes up", at(10, cap=Cap.of(2, "1e-5").to_json())),
    "an amendment of another cap": (10, "only goes up", at(10, cap_before=Cap.of("0.5", "1e-6").to_json())),
    "an amendment without a reason": (10, "text", at(10, reason="")),
    "an import that costs nothing": (11, "sums", lambda e: e[11].update(charged_after=e[11]["charged_before"])),
    "an import without a note": (11, "text", at(11, note="")),
    "an unknown kind": (14, "REFUND", at(14, kind="REFUND")),
    "a kind that is no text": (14, "TypeError", at(14, kind=[])),
    "another kind's fields": (14, "fields", at(14, kind="START")),
    "an extra field": (14, "fields", at(14, discount="all")),
    "a missing field": (15, "fields", lambda e: e[15].pop("charge")),
    "a time that is no text": (14, "text", at(14, time=5)),
    "another ledger's entry": (14, "another ledger", at(14, ledger_id="other")),
    "a second genesis": (16, "GENESIS", lambda e: e.append(e[0] | {"seq": 16})),
    "no genesis": (0, "GENESIS", put(0, like=2)),
    "another format": (0, "format", at(0, format="dpsynth.ledger/2")),
    "a relation of its own": (0, "neighbours", at(0, neighbours="both")),
    "parents that are no ledgers": (0, "Error", at(0, parents=["p"])),
    "a number with a point": (3, "no place", at(3, spends=1.0)),
    "a number that JSON does not know": (3, "no place", at(3, spends=float("nan"))),
    "a number too long to be exact": (3, "no place", at(3, spends=2**60)),
    "a truth for a number": (1, "seq", at(1, seq=True)),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", ILLEGAL, ids=str)
def test_an_illegal_history_is_found_though_its_chain_is_whole(ledger: Ledger, change: str, place: Place) -> None:
    seq, rule, forge = ILLEGAL[change]
    entries = read(place)
    forge(entries)
    write(place, entries, rechain=True)
    assert f"entry {seq} (" in found_alone(place)
    with pytest.raises(IntegrityError) as refusal:
        Ledger.open(place.address)
    assert rule in repr(refusal.value.__cause__)


@both
def test_text_that_is_not_canonical_is_refused(ledger: Ledger, place: Place) -> None:
    for body in (b'{"a": 1}', b'{"a":1,"a":1}', b"[]", b"null", b"\xff", b"[" * 100_000):
        exchange(place, 14, body, rehash=True)
        assert "entry 14 (it is not an entry in canonical form)" in found_alone(place)


# ---- found only beside an anchor


def last_release(ledger: Ledger) -> Anchor:
    """The head that the last finished release carried away."""
    entries = ledger.entries()
    return Anchor(ledger.ledger_id, 13, entries[13].hash)


def cheaper(entries: Entries) -> Entries:
    """A history in which the first release never happened, told without a contradiction."""
    return [
        entries[0],
        *({**entry, "seq": seq} for seq, entry in enumerate(entries[10:11], start=1)),
    ]


@both
def test_a_cut_tail_needs_an_anchor(ledger: Ledger, place: Place) -> None:
    anchor, older = last_release(ledger), Anchor(ledger.ledger_id, 3, ledger.entries()[3].hash)
    place.forge(place.rows()[:13])
    assert found_alone(place) == ""
    report = Ledger.inspect(place.address, [anchor])
    assert not report.ok
    assert "entry 13" in report.problems[0]
    assert "cut or restored" in report.problems[0]
    still_true = Ledger.inspect(place.address, [older])
    assert still_true.ok
    assert "entries 4 to 12" in still_true.not_checked[0]


@both
def test_a_rechained_file_needs_an_anchor(ledger: Ledger, place: Place) -> None:
    anchor = last_release(ledger)
    entries = read(place)
    entries[10]["reason"] = "nobody will notice"
    write(place, entries, rechain=True)
    assert found_alone(place) == ""
    report = Ledger.inspect(place.address, [anchor])
    assert not report.ok
    assert "rewritten" in report.problems[0]
    before_the_edit = Anchor(ledger.ledger_id, 3, place.rows()[3][2].decode())
    assert Ledger.inspect(place.address, [before_the_edit]).ok  # an older witness cannot know


def test_a_forgotten_release_needs_an_anchor(ledger: Ledger, place: Place) -> None:
    anchor = last_release(ledger)
    write(place, cheaper(read(place)), rechain=True)
    assert found_alone(place) == ""
    assert Ledger.open(place.address).extract().charged_nano == 0
    assert not Ledger.inspect(place.address, [anchor]).ok


@both
def test_a_restored_backup_needs_an_anchor(ledger: Ledger, place: Place) -> None:
    backup = place.rows()
    release(ledger)
    anchor = ledger.anchor
    place.forge(backup)
    assert found_alone(place) == ""
    assert not Ledger.inspect(place.address, [anchor]).ok
    diverged = Ledger.open(place.address)
    while diverged.anchor.seq <= anchor.seq:  # growing past the anchor does not hide the gap
        release(diverged)
    report = diverged.verify([anchor])
    assert not report.ok
    assert "rewritten" in report.problems[0]


def test_another_ledgers_anchor_is_no_witness(ledger: Ledger, place: Place) -> None:
    other = Ledger.create(place.beside().address, population="p", epsilon=1, delta="1e-6")
    report = ledger.verify([other.anchor])
    assert not report.ok
    assert "another ledger" in report.problems[0]


@both
def test_anchors_before_the_damage_still_speak(ledger: Ledger, place: Place) -> None:
    early, late = Anchor(ledger.ledger_id, 3, ledger.entries()[3].hash), last_release(ledger)
    exchange(place, 8, b"x")
    report = Ledger.inspect(place.address, [late, early])
    assert not report.ok
    assert any("entry 3 is the one" in line for line in report.checked)
    assert report.not_checked == ("everything after entry 7", "the anchor of entry 13, which lies behind the damage")


# ---- found by a process that has seen more


@both
@pytest.mark.parametrize("keeps_its_id", [True, False])
def test_an_open_ledger_notices_that_its_file_went_back(ledger: Ledger, keeps_its_id: bool, place: Place) -> None:
    if keeps_its_id:
        older = place.rows()
        release(ledger)
    else:
        other = place.beside()
        Ledger.create(other.address, population="p", epsilon=1, delta="1e-6", entity="person")
        older = other.rows()
    place.forge(older)
    actions: list[Callable[[], object]] = [lambda: reserve(ledger), lambda: ledger.extract(), lambda: ledger.head]
    for attempt in actions * 2:
        with pytest.raises(IntegrityError, match="no longer holds"):
            attempt()
    assert not ledger.verify().ok
    assert found_alone(place) == ""


@both
def test_an_open_ledger_notices_a_rewritten_past(ledger: Ledger, place: Place) -> None:
    entries = read(place)
    entries[15]["purpose"] = "another"
    write(place, entries, rechain=True)
    with pytest.raises(IntegrityError):
        reserve(ledger)


@both
def test_an_open_ledger_notices_damage_when_it_verifies(ledger: Ledger, place: Place) -> None:
    exchange(place, 5, b"x")
    report = ledger.verify()
    assert not report.ok
    assert "entry 5" in report.problems[0]


# ---- damage by chance


def same_or_refused(path: Path, content: bytes, entries: object) -> bool:
    """Put the content there; True if it is refused. It may never open and show other entries."""
    path.write_bytes(content)
    try:
        assert Ledger.open(path).entries() == entries
    except DpsynthError:
        return True
    return False


def test_a_lost_log_needs_an_anchor(ledger: Ledger, place: SqlitePlace, tmp_path: Path) -> None:
    """What was written since the log was last folded into the file goes with the log."""
    with closing(sqlite3.connect(place.address)) as reader:
        reader.execute("SELECT count(*) FROM entries").fetchone()  # an open connection keeps the log beside the file
        release(ledger)
        (tmp_path / "new").mkdir()
        alone = Path(shutil.copy(place.address, tmp_path / "new" / "ledger.db"))
        assert place.address.with_name("ledger.db-wal").stat().st_size > 0
    assert found_alone(SqlitePlace(alone)) == ""
    assert not Ledger.inspect(alone, [ledger.anchor]).ok
    assert ledger.verify([ledger.anchor]).ok


def test_a_flipped_byte_never_changes_what_is_read(ledger: Ledger) -> None:
    """Every 37th byte of the file; tests/properties tries any byte and any length."""
    whole, entries = ledger.store.path.read_bytes(), Ledger.open(ledger.store.path).entries()
    flipped = (
        whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :]
        for place, mask in zip(range(0, len(whole), 37), itertools.cycle([0x41, 0xFF]), strict=False)
    )
    assert sum(same_or_refused(ledger.store.path, content, entries) for content in flipped) > 100


def test_a_damaged_name_of_a_table_is_refused(ledger: Ledger, place: Place) -> None:
    whole, entries = ledger.store.path.read_bytes(), Ledger.open(ledger.store.path).entries()
    for name in (b"entries_stay", b"CREATE TRIGGER", b"CREATE TABLE", b"INTEGER"):
        place = whole.index(name)
        assert same_or_refused(ledger.store.path, whole[:place] + b"\xa0" + whole[place + 1 :], entries)


def test_a_page_that_forgets_its_last_rows_is_refused(ledger: Ledger) -> None:
    """A smaller count of rows in the head of the last page looks like a cut tail, whose chain is whole."""
    whole, entries = ledger.store.path.read_bytes(), Ledger.open(ledger.store.path).entries()
    for page in range(4096, len(whole), 4096):
        for count in range(whole[page + 4]):
            assert same_or_refused(ledger.store.path, whole[: page + 4] + bytes([count]) + whole[page + 5 :], entries)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_shortened_file_is_refused(ledger: Ledger, share: float, place: Place) -> None:
    whole = ledger.store.path.read_bytes()
    ledger.store.path.write_bytes(whole[: int(len(whole) * share)])
    assert found_alone(place) != ""


def test_a_file_of_zeros_is_refused(ledger: Ledger, place: Place) -> None:
    ledger.store.path.write_bytes(bytes(ledger.store.path.stat().st_size))
    assert found_alone(place) != ""
