"""The ledger in one process: what is charged, what is refused, what each end of a reservation leaves."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import os
import pickle
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, tzinfo
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from ledger_places import Place, both, lock_held, lock_held_later

from dpsynth import ledger as ledger_package
from dpsynth.canonical import canonical
from dpsynth.errors import (
    AlreadyRan,
    BoundToProcess,
    BudgetExceeded,
    DpsynthError,
    IntegrityError,
    LedgerLocked,
    OperationError,
    PrivacyRefusal,
    UnitMismatch,
    UsageError,
)
from dpsynth.ledger import Anchor, Ledger, Reservation, reserve_all
from dpsynth.ledger import sqlite as sqlite_store
from dpsynth.privacy import NANO, ORDERS, Cap, Cost, PrivacyUnit

PERSON = PrivacyUnit(entity="person", max_rows=5, neighbours="add_remove")
SMALL = Cost.zcdp(Fraction(1, 1000))
DIGEST = "ab" * 32


@pytest.fixture
def ledger(place: Place) -> Ledger:
    return make(place.address)


def make(path: Path | str, *, population: str = "rand-hie", epsilon: object = 2, **more: object) -> Ledger:
    return Ledger.create(path, population=population, epsilon=epsilon, delta="1e-6", entity="person", **more)  # type: ignore[arg-type]


def reserve(ledger: Ledger, cost: Cost = SMALL, *, job_id: str | None = None, purpose: str = "release") -> Reservation:
    return ledger.reserve(cost, unit=PERSON, purpose=purpose, job_id=job_id)


def kinds(ledger: Ledger) -> list[str]:
    return [entry.kind for entry in ledger.entries()]


def part(ledger: Ledger, count: int) -> Cost:
    """A release that fits `count` times: losses are rounded up to whole nano-units, so 1 / count of the cap may not."""
    return Cost.zcdp(Fraction(ledger.cap.nano // count, NANO) / ledger.cap.order)


def run(reservation: Reservation, *, before_the_end: Callable[[], object] = lambda: None) -> None:
    with reservation:
        reservation.start()
        before_the_end()


def fail(error: BaseException, *, after: Callable[[], object] = lambda: None) -> Callable[[], object]:
    def raising() -> None:
        after()
        raise error

    return raising


def charged(ledger: Ledger) -> int:
    return ledger.extract().charged_nano


# ---- the file


def test_a_new_ledger_is_one_private_file_with_its_genesis(tmp_path: Path) -> None:
    ledger = make(tmp_path / "ledger.db", neighbours="replace")
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.db"]
    assert stat.S_IMODE(ledger.store.path.stat().st_mode) == 0o600
    (genesis,) = ledger.entries()
    assert (genesis.seq, genesis.kind, genesis.prev_hash) == (0, "GENESIS", "0" * 64)
    assert ledger.head == (0, genesis.hash)
    assert ledger.cap == Cap.of(2, "1e-6")
    assert (ledger.population, ledger.entity, ledger.neighbours) == ("rand-hie", "person", "replace")
    again = Ledger.open(tmp_path / "ledger.db")
    assert again.ledger_id == ledger.ledger_id


@both
def test_two_ledgers_never_share_an_id(place: Place) -> None:
    assert make(place.beside().address).ledger_id != make(place.beside().address).ledger_id


def test_the_file_at_rest_has_no_side_files(ledger: Ledger) -> None:
    with reserve(ledger) as reservation:
        reservation.start()
    assert [path.name for path in ledger.store.path.parent.iterdir()] == ["ledger.db"]


@pytest.mark.parametrize("name", ["with space.db", "per%20cent?x=1#y.db", "ünïcode.db", "no-ending"])
def test_odd_file_names_work(tmp_path: Path, name: str) -> None:
    ledger = make(tmp_path / name)
    with reserve(ledger):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"epsilon": 0}, "epsilon"),
        ({"epsilon": -1}, "epsilon"),
        ({"epsilon": float("nan")}, "epsilon"),
        ({"epsilon": float("inf")}, "epsilon"),
        ({"epsilon": 10**120}, "epsilon"),
        ({"delta": 0}, "delta"),
        ({"delta": 1}, "delta"),
        ({"delta": Fraction(1, 10**150)}, "100 digits"),
        ({"neighbours": "both"}, "neighbours"),
        ({"population": ""}, "population"),
        ({"population": "x" * 2001}, "population"),
        ({"population": "red\x1b[31m"}, "population"),
        ({"entity": "per\u202eson"}, "entity"),
        ({"entity": "\ud800"}, "entity"),
    ],
)
def test_bad_settings_make_no_file(tmp_path: Path, settings: dict[str, object], word: str) -> None:
    good: dict[str, object] = {"population": "p", "epsilon": 1, "delta": "1e-6"}
    with pytest.raises(UsageError, match=word):
        Ledger.create(tmp_path / "ledger.db", **(good | settings))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_create_never_touches_what_is_there(tmp_path: Path) -> None:
    ledger = make(tmp_path / "ledger.db")
    before = ledger.store.path.read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        make(ledger.store.path)
    assert ledger.store.path.read_bytes() == before
    with pytest.raises(UsageError, match="folder"):
        make(tmp_path / "nowhere" / "ledger.db")


@pytest.mark.parametrize("ending", ["-wal", "-shm", "-journal"])
def test_create_refuses_the_side_files_of_a_lost_ledger(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"ledger.db{ending}").write_bytes(b"old")  # SQLite would replay it into the new file
    with pytest.raises(UsageError, match="side files"):
        make(tmp_path / "ledger.db")


def test_a_ledger_that_appears_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.db"

    def taken(source: str, target: Path) -> None:
        raise FileExistsError(target)

    monkeypatch.setattr(os, "link", taken)
    with pytest.raises(UsageError, match="exists already"):
        make(path)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_create_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(source: str, target: Path) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", broken)
    with pytest.raises(OperationError, match="could not be written"):
        make(tmp_path / "ledger.db")
    assert list(tmp_path.iterdir()) == []


def test_opening_what_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dpsynth ledger create"):
        Ledger.open(tmp_path / "ledger.db")
    with pytest.raises(UsageError, match="not a file"):
        Ledger.open(tmp_path)
    assert list(tmp_path.iterdir()) == []


def foreign_database(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE entries (seq INTEGER PRIMARY KEY, body TEXT, hash TEXT)")


@pytest.mark.parametrize(
    "fill",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"zper,xage\n1,2\n" * 1000),
        lambda path: path.write_bytes(os.urandom(10_000)),
        foreign_database,
    ],
    ids=["empty", "text", "noise", "another database"],
)
def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path, fill: Callable[[Path], object]) -> None:
    path = tmp_path / "ledger.db"
    fill(path)
    with pytest.raises(IntegrityError, match="ledger"):
        Ledger.open(path)
    assert not Ledger.inspect(path).ok


def test_a_second_name_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    os.link(ledger.store.path, tmp_path / "other.db")  # each name would have side files, and so locks, of its own
    with pytest.raises(OperationError, match="hard link"):
        Ledger.open(ledger.store.path)


def test_a_symbolic_link_is_the_same_ledger(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(ledger.store.path)
    with reserve(Ledger.open(tmp_path / "link.db")):
        assert charged(ledger) > 0


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_network_disks_are_refused(ledger: Ledger, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(sqlite_store, "_file_system", lambda path: kind)
    with pytest.raises(OperationError, match="local disk"):
        Ledger.open(ledger.store.path)


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="needs Linux's /proc")
def test_the_file_system_is_read_off_the_mount_table() -> None:
    assert sqlite_store._file_system(Path("/proc")) == "proc"


def test_a_commit_waits_for_the_disk(ledger: Ledger) -> None:
    with closing(sqlite_store._connect(ledger.store.path, "BEGIN IMMEDIATE")) as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert db.execute("PRAGMA journal_mode").fetchone() == (b"wal",)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET body = 'x'",
        "DELETE FROM entries",
        f"INSERT INTO entries VALUES (7, 'x', '{'0' * 64}')",
        f"INSERT INTO entries VALUES (NULL, 'x', '{'0' * 64}')",
        f"INSERT INTO entries VALUES (1, 'x', '{'0' * 64}'), (3, 'x', '{'0' * 64}')",
        f"INSERT INTO entries VALUES (0, 'x', '{'0' * 64}') ON CONFLICT (seq) DO UPDATE SET body = 'x'",
        "INSERT INTO entries VALUES (1, 'x', 'short')",
    ],
)
@both
def test_the_database_itself_appends_only(ledger: Ledger, statement: str, place: Place) -> None:
    assert not place.try_to(statement)
    assert kinds(ledger) == ["GENESIS"]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT OR REPLACE INTO entries VALUES (0, 'x', printf('%064d', 0))",
        "REPLACE INTO entries VALUES (0, 'x', printf('%064d', 0))",
        "INSERT INTO entries VALUES (1, x'00', printf('%064d', 0))",
    ],
)
def test_a_file_does_not_replace_either(ledger: Ledger, place: Place, statement: str) -> None:
    assert not place.try_to(statement)
    assert kinds(ledger) == ["GENESIS"]


# ---- a reservation from beginning to end


@both
def test_the_charge_is_on_the_disk_before_reserve_returns(ledger: Ledger, place: Place) -> None:
    reservation = reserve(ledger)
    seen_by_others = Ledger.open(place.address).entries()[-1]
    assert (seen_by_others.kind, seen_by_others.seq) == ("RESERVE", reservation.seq)
    assert seen_by_others.fields["charge"] == str(SMALL.at(ledger.cap.order))
    assert reservation.state == "reserved"


@both
def test_a_release_leaves_reserve_start_commit(ledger: Ledger) -> None:
    step = Cost.zcdp(Fraction(1, 4000))
    with reserve(ledger) as reservation:
        reservation.start()
        assert ledger.entries()[-1].kind == "START"
        reservation.spend(step, purpose="marginal (xage)")
        reservation.spend(step, purpose="marginal (female)")
        reservation.commit(DIGEST)
    assert reservation.state == "committed"
    assert kinds(ledger) == ["GENESIS", "RESERVE", "START", "COMMIT"]
    fields = ledger.entries()[-1].fields
    assert fields == {
        "reservation": reservation.seq,
        "spent": {"nano": str((step + step).at(ledger.cap.order)), "delta0": "0"},
        "spends": 2,
        "artifact_sha256": DIGEST,
    }
    assert charged(ledger) == SMALL.at(ledger.cap.order)  # all that was reserved, spent or not


def test_the_artifact_may_be_left_unnamed(ledger: Ledger) -> None:
    with reserve(ledger) as reservation:
        reservation.start()
    assert ledger.entries()[-1].fields["artifact_sha256"] is None


@pytest.mark.parametrize("error", [ValueError("secret value 4711"), KeyboardInterrupt(), SystemExit(0)])
def test_a_failure_after_the_start_stays_charged(ledger: Ledger, error: BaseException) -> None:
    reservation = reserve(ledger)
    with pytest.raises(type(error)) as caught:
        run(reservation, before_the_end=fail(error))
    assert caught.value is error
    assert reservation.state == "forfeited"
    assert kinds(ledger)[-1] == "FORFEIT"
    assert charged(ledger) == SMALL.at(ledger.cap.order)
    assert "secret" not in ledger.store.path.read_bytes().decode(errors="replace")


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()])
@both
def test_a_failure_before_the_start_gives_back(ledger: Ledger, error: BaseException) -> None:
    reservation = reserve(ledger)
    with pytest.raises(type(error)), reservation:
        raise error
    assert reservation.state == "released"
    assert kinds(ledger) == ["GENESIS", "RESERVE", "RELEASE_UNUSED"]
    assert charged(ledger) == 0


def test_an_unused_reservation_is_given_back(ledger: Ledger) -> None:
    with reserve(ledger, ledger.cap.cost):
        pass
    with reserve(ledger, ledger.cap.cost) as reservation:
        reservation.start()
    assert kinds(ledger)[-1] == "COMMIT"


def test_nothing_gives_back_what_was_started(ledger: Ledger) -> None:
    for outcome in ("clean", "failed"):
        reservation = reserve(ledger)
        try:
            with reservation:
                reservation.start()
                if outcome == "failed":
                    raise RuntimeError
        except RuntimeError:
            pass
        with pytest.raises(PrivacyRefusal), reservation:
            pass  # a closed reservation has no second end
    assert charged(ledger) == 2 * SMALL.at(ledger.cap.order)


def test_spending_is_a_filter(ledger: Ledger) -> None:
    half = Cost.zcdp(SMALL.rho / 2)
    with reserve(ledger) as reservation:
        with pytest.raises(PrivacyRefusal, match="start"):
            reservation.spend(half, purpose="too early")
        with pytest.raises(PrivacyRefusal, match="start"):
            reservation.commit(DIGEST)
        with pytest.raises(PrivacyRefusal, match="start"):
            reservation.require_started()
        reservation.start()
        reservation.require_started()
        reservation.spend(half, purpose="one")
        with pytest.raises(BudgetExceeded):
            reservation.spend(Cost.zcdp(half.rho + Fraction(1, 10**30)), purpose="a little too much")
        with pytest.raises(BudgetExceeded):
            reservation.spend(Cost.zcdp(Fraction(0), delta0=Fraction(1, 10**30)), purpose="delta0 was not reserved")
        assert reservation.spent == half
        assert reservation.remaining == half
        reservation.spend(half, purpose="two")
        assert reservation.remaining == Cost.zero()
        assert reservation.events == [("one", half), ("two", half)]
        with pytest.raises(UsageError, match="64"):
            reservation.commit("not a digest")
    with pytest.raises(PrivacyRefusal, match="closed"):
        reservation.spend(Cost.zero(), purpose="too late")
    with pytest.raises(PrivacyRefusal, match="closed"):
        reservation.start()
    with pytest.raises(PrivacyRefusal, match="closed"):
        reservation.require_started()


def test_what_remains_of_a_curve_is_not_a_cost(ledger: Ledger) -> None:
    curve = Cost.approximate("0.01", 0)
    with reserve(ledger, curve) as reservation:
        assert reservation.remaining is None
        reservation.start()
        reservation.spend(curve, purpose="all of it")
    assert ledger.extract().charged == curve


def test_a_reservation_starts_once(ledger: Ledger) -> None:
    with reserve(ledger) as reservation:
        reservation.start()
        with pytest.raises(AlreadyRan):
            reservation.start()
    assert kinds(ledger).count("START") == 1


# ---- the filter


@both
def test_the_whole_cap_can_be_spent_and_not_a_nano_more(ledger: Ledger) -> None:
    with reserve(ledger, ledger.cap.cost) as reservation:
        reservation.start()
    assert charged(ledger) == ledger.cap.nano
    with pytest.raises(BudgetExceeded, match=r"0\.00 % is left"):
        reserve(ledger, Cost.zcdp(Fraction(1, 10**18)))
    refused = ledger.entries()[-1]
    assert (refused.kind, refused.fields["refusal"], refused.fields["charge"]) == ("DENY", "budget", "1")
    assert ledger.extract().denied == 1
    assert charged(ledger) == ledger.cap.nano


def test_two_releases_of_half_the_cap_fit(tmp_path: Path) -> None:
    ledger = make(tmp_path / "ledger.db")
    half = part(ledger, 2)
    for _ in range(2):
        with reserve(ledger, half) as reservation:
            reservation.start()
    with pytest.raises(BudgetExceeded):
        reserve(ledger, half)


def test_delta0_has_a_limit_of_its_own(ledger: Ledger) -> None:
    whole = Cost.zcdp(Fraction(0), delta0=ledger.cap.delta0)
    with reserve(ledger, whole) as reservation:
        reservation.start()
    with pytest.raises(BudgetExceeded, match="delta"):
        reserve(ledger, Cost.zcdp(Fraction(0), delta0=Fraction(1, 10**12)))
    with reserve(ledger, SMALL) as reservation:
        reservation.start()


def test_the_sum_is_kept_in_whole_nano_units_rounded_up(ledger: Ledger) -> None:
    third = Cost.zcdp(Fraction(1, 3 * 10**9))
    for count in range(1, 4):
        with reserve(ledger, third) as reservation:
            reservation.start()
        assert charged(ledger) == count * third.at(ledger.cap.order)
    total = ledger.extract().charged
    assert total.rho == Fraction(1, 10**9)
    assert total.at(ledger.cap.order) <= charged(ledger)


@pytest.mark.parametrize(
    "unit",
    [
        PrivacyUnit(entity="household", max_rows=5, neighbours="add_remove"),
        PrivacyUnit(entity="person", max_rows=5, neighbours="replace"),
    ],
)
@both
def test_another_unit_is_refused_and_noted(ledger: Ledger, unit: PrivacyUnit) -> None:
    with pytest.raises(UnitMismatch, match="person"):
        ledger.reserve(SMALL, unit=unit, purpose="release")
    assert ledger.entries()[-1].fields["refusal"] == "unit"
    assert charged(ledger) == 0


def test_each_release_bounds_rows_for_itself(ledger: Ledger) -> None:
    for rows in (1, 7):
        unit = PrivacyUnit(entity="person", max_rows=rows, neighbours="add_remove")
        with ledger.reserve(SMALL, unit=unit, purpose="release") as reservation:
            assert reservation.unit == unit
            reservation.start()
        assert ledger.entries()[-3].fields["unit"]["max_rows"] == rows


def test_awkward_fractions_neither_fail_nor_undercharge(ledger: Ledger) -> None:
    awkward = Cost.zcdp(Fraction(7, 3**900), delta0=Fraction(1, 7**20))
    with reserve(ledger, awkward) as reservation:
        reservation.start()
        for prime in (3, 5, 7, 11, 13):
            reservation.spend(Cost.zcdp(awkward.rho / prime**300), purpose="a sum with a huge denominator")
        reservation.spend(Cost.zcdp(Fraction(0), delta0=awkward.delta0), purpose="all of delta0")
    total = Ledger.open(ledger.store.path).extract().charged
    assert total.rho >= awkward.rho
    assert total.delta0 >= awkward.delta0


@pytest.mark.parametrize("cost", [Cost.zcdp(Fraction(10**31)), Cost(extra=(10**31,) * len(ORDERS))])
def test_absurd_costs_are_refused_before_anything_is_written(ledger: Ledger, cost: Cost) -> None:
    with pytest.raises(UsageError, match="protects nobody"):
        reserve(ledger, cost)
    assert kinds(ledger) == ["GENESIS"]


@both
def test_what_an_entry_cannot_hold_is_not_written(ledger: Ledger) -> None:
    unit = PrivacyUnit(entity="person", max_rows=10**40, neighbours="add_remove")
    with pytest.raises(UsageError, match="cannot record"):
        ledger.reserve(SMALL, unit=unit, purpose="release")
    assert kinds(ledger) == ["GENESIS"]
    with reserve(ledger):
        pass  # and the ledger still works


@pytest.mark.parametrize("text", ["", "two\nlines", "\x1b[2J", "\u202e", "x" * 2001])
def test_texts_are_printable_and_short(ledger: Ledger, text: str) -> None:
    with pytest.raises(UsageError, match="purpose"):
        reserve(ledger, purpose=text)
    with pytest.raises(UsageError, match="job_id"):
        reserve(ledger, job_id=text)
    with pytest.raises(UsageError, match="reason"):
        ledger.amend(3, reason=text, approver="privacy office")
    with pytest.raises(UsageError, match="note"):
        ledger.import_external(cost=None, note=text)
    with pytest.raises(UsageError, match="witness"):
        ledger.record_anchor(ledger.anchor, witness=text)
    assert kinds(ledger) == ["GENESIS"]


@both
def test_a_clock_that_goes_back_changes_nothing_but_the_time(
    ledger: Ledger, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reserve(ledger) as reservation:
        reservation.start()

    class Yesterday(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Yesterday:
            return cls(1999, 12, 31, tzinfo=tz)

    monkeypatch.setattr("dpsynth.ledger.account.datetime", Yesterday)
    with reserve(ledger) as reservation:
        reservation.start()
    times = [entry.time for entry in ledger.entries()]
    assert times[4:] == ["1999-12-31T00:00:00.000000Z"] * 3 < times[1:4]
    assert kinds(ledger)[1:] == ["RESERVE", "START", "COMMIT"] * 2
    assert charged(Ledger.open(place.address)) == 2 * SMALL.at(ledger.cap.order)
    assert ledger.verify([ledger.anchor]).ok


# ---- the same job again


@both
def test_a_retried_call_gets_the_same_reservation(ledger: Ledger, place: Place) -> None:
    first = reserve(ledger, job_id="job-1")
    second = reserve(Ledger.open(place.address), job_id="job-1")
    assert (second.seq, second.anchor) == (first.seq, first.anchor)
    assert charged(ledger) == SMALL.at(ledger.cap.order)
    with second:
        second.start()
    with pytest.raises(AlreadyRan), first:
        first.start()
    assert kinds(ledger) == ["GENESIS", "RESERVE", "START", "COMMIT"]
    assert first.state == "reserved"  # of the end that others recorded it knows nothing
    with pytest.raises(AlreadyRan, match="new job id"):
        reserve(ledger, job_id="job-1")
    assert charged(ledger) == SMALL.at(ledger.cap.order)


@both
def test_a_job_that_was_started_and_died_cannot_run_again(ledger: Ledger) -> None:
    reserve(ledger, job_id="job-1").start()
    with pytest.raises(AlreadyRan):
        reserve(ledger, job_id="job-1")
    assert ledger.extract().orphans == 1


@both
def test_a_job_that_was_given_back_may_be_reserved_again(ledger: Ledger) -> None:
    stale = reserve(ledger, job_id="job-1")
    with reserve(ledger, job_id="job-1"):
        pass
    with pytest.raises(AlreadyRan, match="given up"):
        stale.start()
    with reserve(ledger, job_id="job-1") as fresh:
        fresh.start()
    with stale:
        pass  # its end must not touch the charge of the fresh one
    assert kinds(ledger) == ["GENESIS", "RESERVE", "RELEASE_UNUSED", "RESERVE", "START", "COMMIT"]
    assert charged(ledger) == SMALL.at(ledger.cap.order)


@pytest.mark.parametrize(
    "change",
    [
        {"cost": Cost.zcdp(Fraction(1, 999))},
        {"purpose": "something else"},
        {"unit": PrivacyUnit(entity="person", max_rows=6, neighbours="add_remove")},
    ],
    ids=["cost", "purpose", "unit"],
)
def test_a_job_id_stands_for_one_set_of_terms(ledger: Ledger, change: dict[str, object]) -> None:
    terms: dict[str, object] = {"cost": SMALL, "unit": PERSON, "purpose": "release", "job_id": "job-1"}
    ledger.reserve(**terms)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="new job id"):
        ledger.reserve(**(terms | change))  # type: ignore[arg-type]
    assert kinds(ledger) == ["GENESIS", "RESERVE"]


def test_a_refused_job_may_be_asked_for_again(ledger: Ledger) -> None:
    with pytest.raises(BudgetExceeded):
        reserve(ledger, Cost.zcdp(Fraction(5)), job_id="job-1")
    with reserve(ledger, job_id="job-1") as reservation:
        reservation.start()
    assert kinds(ledger) == ["GENESIS", "DENY", "RESERVE", "START", "COMMIT"]


# ---- amendments, imports, extract


@both
def test_a_cap_goes_up_only_with_a_reason_and_a_name(ledger: Ledger, place: Place) -> None:
    before = ledger.cap
    with pytest.raises(BudgetExceeded):
        reserve(ledger, Cap.of(3, "1e-6").cost)
    after = ledger.amend("3.5", reason="second wave of the survey", approver="A. Privacy")
    assert after == ledger.cap == before.raised("3.5")
    assert after.order == before.order
    with reserve(Ledger.open(place.address), Cap.of(3, "1e-6").cost) as reservation:
        reservation.start()
    for lower in (1, "3.5", 0, float("nan")):
        with pytest.raises(UsageError):
            ledger.amend(lower, reason="r", approver="a")
    assert ledger.extract().amendments == (
        {
            "seq": 2,
            "from_epsilon": "2",
            "to_epsilon": "7/2",
            "reason": "second wave of the survey",
            "approver": "A. Privacy",
            "requested_by": "",
            "key": "",
        },
    )
    genesis = ledger.entries()[0]
    assert (genesis.kind, genesis.time) == ("GENESIS", ledger.extract().genesis_time)


def test_an_import_of_any_size_that_has_a_number_can_be_declared(ledger: Ledger) -> None:
    """Where e to the power of epsilon has no digits any more, the loss at every order is epsilon."""
    ledger.import_external(cost=Cost.approximate(10**9, 0), note="as good as nothing")
    assert ledger.extract().charged_nano == 10**18
    below, above = (Cost.approximate(epsilon, 0).curve() for epsilon in (10**6, 10**6 + 1))
    assert all(one < two for one, two in zip(below, above, strict=True))


@both
def test_what_a_charge_rests_on_is_counted_but_the_callers_own(ledger: Ledger, place: Place) -> None:
    for basis in ("claimed", "floating_point", "claimed", "proven"):
        with ledger.reserve(SMALL, unit=PERSON, purpose="release", basis=basis):  # type: ignore[arg-type]
            pass
    with ledger.reserve(SMALL, unit=PERSON, purpose="release", basis="claimed") as given_back:
        assert not ledger.extract(running=given_back).claimed
    for basis in ("claimed", "floating_point"):
        run(ledger.reserve(SMALL, unit=PERSON, purpose="release", basis=basis))  # type: ignore[arg-type]
    extract = Ledger.open(place.address).extract()
    assert (extract.claimed, extract.floating_point) == (1, 1)
    with pytest.raises(UsageError, match="rests on"):
        ledger.reserve(SMALL, unit=PERSON, purpose="release", basis="sound")  # type: ignore[arg-type]


@both
def test_a_step_rests_on_no_less_than_the_ledger_was_told(ledger: Ledger) -> None:
    for told, allowed in (("proven", 1), ("floating_point", 2), ("claimed", 3)):
        with ledger.reserve(SMALL, unit=PERSON, purpose="release", basis=told) as reservation:  # type: ignore[arg-type]
            reservation.start()
            for number, basis in enumerate(("proven", "floating_point", "claimed")):
                if number < allowed:
                    reservation.spend(Cost.zero(), purpose="a step", basis=basis)  # type: ignore[arg-type]
                else:
                    with pytest.raises(PrivacyRefusal, match=f'basis="{basis}"'):
                        reservation.spend(Cost.zero(), purpose="a step", basis=basis)  # type: ignore[arg-type]


def test_a_job_is_taken_up_again_on_the_same_basis_only(ledger: Ledger) -> None:
    kept = ledger.reserve(SMALL, unit=PERSON, purpose="release", basis="claimed", job_id="j")
    with pytest.raises(UsageError, match="basis"):
        ledger.reserve(SMALL, unit=PERSON, purpose="release", job_id="j")
    assert ledger.reserve(SMALL, unit=PERSON, purpose="release", basis="claimed", job_id="j").seq == kept.seq


@both
def test_an_import_is_charged_even_over_the_cap(ledger: Ledger, place: Place) -> None:
    loss = Cost.approximate(3, "1e-8")
    ledger.import_external(cost=loss, note="histogram given to the ministry in 2024")
    ledger.import_external(cost=None, note="k-anonymous extract of 2019")
    extract = Ledger.open(place.address).extract()
    assert extract.charged_nano == loss.at(ledger.cap.order) > extract.cap_nano
    assert extract.remaining_nano == 0
    assert extract.charged == loss
    assert (extract.imports, extract.imports_not_dp, extract.claimed) == (2, 1, 1)
    for cost in (SMALL, Cost.zero()):
        with pytest.raises(BudgetExceeded):
            reserve(ledger, cost)


@both
def test_the_extract_counts_what_happened(ledger: Ledger) -> None:
    reserve(ledger)
    reserve(ledger).start()
    with reserve(ledger) as done:
        done.start()
        within = ledger.extract(running=done)
        assert (within.orphans, within.attempts, within.anchor) == (2, 3, done.anchor)
    with reserve(ledger):
        pass
    with pytest.raises(BudgetExceeded):
        reserve(ledger, Cost.zcdp(Fraction(9)))
    extract = ledger.extract()
    each = SMALL.at(ledger.cap.order)
    assert (extract.attempts, extract.denied, extract.orphans, extract.imports) == (4, 1, 2, 0)
    assert extract.charged_nano == 3 * each
    assert extract.charged == Cost.zcdp(3 * SMALL.rho)
    assert extract.remaining_nano == ledger.cap.nano - 3 * each
    assert (extract.cap_epsilon, extract.cap_delta, extract.order) == (
        Fraction(2),
        Fraction(1, 10**6),
        ledger.cap.order,
    )
    assert (extract.seq, extract.head) == ledger.head
    assert [entry.seq for entry in ledger.orphans()] == [1, 2]
    assert [entry.fields["attempt"] for entry in ledger.entries() if entry.kind == "RESERVE"] == [1, 2, 3, 4]


# ---- several populations


@both
def test_a_joined_population_charges_all_its_parents(place: Place) -> None:
    clinic, school = (make(place.beside().address, population=name) for name in ("clinic", "school"))
    joined = make(place.address, population="both", parents=[clinic, school])
    for ledgers in ([joined], [joined, clinic], [school, joined]):
        with pytest.raises(UsageError, match=r"clinic|school"):
            reserve_all(ledgers, SMALL, unit=PERSON, purpose="release")
    with pytest.raises(UsageError, match="derives"):
        reserve(Ledger.open(place.address))
    everyone = [joined, clinic, school]
    with reserve_all(everyone, SMALL, unit=PERSON, purpose="release", job_id="j") as reservation:
        reservation.start()
        reservation.spend(SMALL, purpose="all")
        assert [anchor.ledger_id for anchor in reservation.anchors] == [ledger.ledger_id for ledger in everyone]
    for ledger in everyone:
        assert kinds(ledger) == ["GENESIS", "RESERVE", "START", "COMMIT"]
        assert charged(ledger) == SMALL.at(ledger.cap.order)


def test_the_first_refusal_gives_the_other_charges_back(tmp_path: Path) -> None:
    rich, poor = make(tmp_path / "a"), make(tmp_path / "b", epsilon="0.01")
    with pytest.raises(BudgetExceeded):
        reserve_all([rich, poor], SMALL, unit=PERSON, purpose="release")
    assert (kinds(rich)[-1], kinds(poor)[-1]) == ("RELEASE_UNUSED", "DENY")
    assert charged(rich) == charged(poor) == 0


def test_a_refusal_stays_the_error_when_giving_back_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rich, poor = make(tmp_path / "a"), make(tmp_path / "b", epsilon="0.01")

    def full(self: Ledger, seq: int) -> bool:
        raise OperationError("the disk is full")

    monkeypatch.setattr(Ledger, "_release", full)
    with pytest.raises(BudgetExceeded) as caught:
        reserve_all([rich, poor], SMALL, unit=PERSON, purpose="release")
    assert any("it stays" in note for note in caught.value.__notes__)
    assert charged(rich) > 0


def test_a_start_that_fails_half_way_forfeits_what_it_started(tmp_path: Path) -> None:
    first, second = make(tmp_path / "a"), make(tmp_path / "b")
    rival = reserve(second, job_id="j")
    reservation = reserve_all([first, second], SMALL, unit=PERSON, purpose="release", job_id="j")
    rival.start()
    with reservation, pytest.raises(AlreadyRan):
        reservation.start()
    assert kinds(first)[-2:] == ["START", "FORFEIT"]
    assert kinds(second)[-1] == "START"  # the rival's


@pytest.mark.parametrize("count", [0, 2])
def test_each_ledger_is_named_once(ledger: Ledger, count: int) -> None:
    with pytest.raises(UsageError, match="once"):
        reserve_all([ledger] * count, SMALL, unit=PERSON, purpose="release")
    assert kinds(ledger) == ["GENESIS"]


# ---- when the end cannot be recorded


@both
def test_a_locked_ledger_is_refused_in_time_and_can_be_read(ledger: Ledger, place: Place) -> None:
    hasty = Ledger.open(place.address, timeout=0.05)
    with lock_held(place):
        with pytest.raises(LedgerLocked, match="another process"):
            reserve(hasty)
        assert hasty.extract().attempts == 0
        assert Ledger.open(place.address, timeout=0).verify().ok
    with reserve(hasty):
        pass


@both
def test_a_waiting_writer_gets_its_turn(ledger: Ledger, place: Place) -> None:
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock_held(place):
            holding.set()
            done.wait(0.2)

    thread = threading.Thread(target=hold)
    thread.start()
    holding.wait()
    with reserve(ledger) as reservation:
        assert reservation.state == "reserved"
    done.set()
    thread.join()


@both
def test_a_failing_forfeit_never_hides_the_error(ledger: Ledger, place: Place) -> None:
    hasty = Ledger.open(place.address, timeout=0)
    reservation = reserve(hasty)
    with pytest.raises(ValueError, match="the real error") as caught, lock_held_later(place) as lock:
        run(reservation, before_the_end=fail(ValueError("the real error"), after=lock))
    assert "stays charged" in caught.value.__notes__[0]
    assert reservation.state == "started"
    assert kinds(ledger)[-1] == "START"
    assert (charged(ledger), ledger.extract().orphans) == (SMALL.at(ledger.cap.order), 1)


@both
def test_a_failing_commit_is_never_success(ledger: Ledger, place: Place) -> None:
    hasty = Ledger.open(place.address, timeout=0)
    reservation = reserve(hasty)
    with pytest.raises(LedgerLocked), lock_held_later(place) as lock:
        run(reservation, before_the_end=lock)
    assert reservation.state == "started"
    assert ledger.extract().orphans == 1


@both
def test_a_failing_give_back_is_reported_and_stays_charged(ledger: Ledger, place: Place) -> None:
    hasty = Ledger.open(place.address, timeout=0)
    with pytest.raises(LedgerLocked), lock_held_later(place) as lock, reserve(hasty):
        lock()
    assert charged(ledger) == SMALL.at(ledger.cap.order)


@both
def test_every_ledger_gets_its_turn_when_one_fails(place: Place) -> None:
    make(place.address)
    first, second = Ledger.open(place.address, timeout=0), make(place.beside().address)
    reservation = reserve_all([first, second], SMALL, unit=PERSON, purpose="release")
    with pytest.raises(LedgerLocked), lock_held_later(place) as lock:
        run(reservation, before_the_end=lock)
    assert (kinds(first)[-1], kinds(second)[-1]) == ("START", "COMMIT")


@both
def test_a_failed_start_leaves_nothing_to_read_from(ledger: Ledger, place: Place) -> None:
    hasty = Ledger.open(place.address, timeout=0)
    with reserve(hasty) as reservation:
        with lock_held(place), pytest.raises(LedgerLocked):
            reservation.start()
        with pytest.raises(PrivacyRefusal):
            reservation.spend(Cost.zero(), purpose="not started")
        reservation.start()  # once the lock is free
    assert kinds(ledger)[-1] == "COMMIT"


ROOM = Path(ledger_package.__file__).parent


def interrupt_at_line(number: int) -> None:
    """Raise KeyboardInterrupt, as Ctrl-C would, before the numbered line of dpsynth/ledger that runs from now on."""
    left = number

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if Path(frame.f_code.co_filename).parent != ROOM:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return count

    sys.settrace(count)


@pytest.mark.slow
def test_an_interrupt_anywhere_leaves_a_sound_ledger(ledger: Ledger) -> None:
    """Before every fifth line of calls that catch up with what others wrote, reserve, and start."""
    others, before = Ledger.open(ledger.store.path), sys.gettrace()
    tiny = Cost.zcdp(Fraction(1, NANO))
    each = tiny.at(ledger.cap.order)
    interrupted = 0
    for line in itertools.count(1, 5):
        if line % 3 == 1:
            with reserve(others, tiny) as reservation:
                reservation.start()
        try:
            interrupt_at_line(line)
            reserve(ledger, tiny).start()
            finished = True
        except KeyboardInterrupt:
            finished = False
            interrupted += 1
        finally:
            sys.settrace(before)
        extract = ledger.extract()
        assert extract == others.extract()
        given_back = kinds(others).count("RELEASE_UNUSED")  # an interrupt between reserve and start
        assert extract.charged_nano == (extract.attempts - given_back) * each
        if finished:
            break
    assert Ledger.open(ledger.store.path).extract() == ledger.extract()
    assert interrupted > 50


# ---- one process, many threads


@both
def test_threads_share_one_ledger_without_overspending(place: Place) -> None:
    ledger = make(place.address)
    each = part(ledger, 10)
    won: list[int] = []
    refused: list[DpsynthError] = []

    def work() -> None:
        for _ in range(4):
            try:
                with reserve(ledger, each) as reservation:
                    reservation.start()
                    won.append(reservation.seq)
            except BudgetExceeded as refusal:
                refused.append(refusal)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(set(won)), len(refused)) == (10, 10, 22)
    assert Ledger.open(place.address).extract() == ledger.extract()
    assert charged(ledger) == 10 * each.at(ledger.cap.order) <= ledger.cap.nano


def test_threads_share_one_reservation_without_overspending(ledger: Ledger) -> None:
    step = Cost.zcdp(SMALL.rho / 100)
    refused: list[DpsynthError] = []
    normal = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # seconds; threads take turns in the middle of everything
    with reserve(ledger) as reservation:
        reservation.start()

        def work() -> None:
            for _ in range(50):
                try:
                    reservation.spend(step, purpose="step")
                except BudgetExceeded as refusal:
                    refused.append(refusal)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    sys.setswitchinterval(normal)
    assert (len(reservation.events), len(refused)) == (100, 100)
    assert reservation.spent == SMALL


@both
def test_only_one_thread_starts_a_job(ledger: Ledger) -> None:
    reservation = reserve(ledger)
    outcomes: list[str] = []

    def work() -> None:
        try:
            reservation.start()
            outcomes.append("started")
        except AlreadyRan:
            outcomes.append("refused")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["started"]


# ---- bound to the process


@pytest.mark.parametrize("steal", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_reservation_cannot_be_copied(ledger: Ledger, steal: Callable[[Reservation], object]) -> None:
    with reserve(ledger) as reservation, pytest.raises(BoundToProcess):
        steal(reservation)


def in_child(work: Callable[[], object]) -> str:
    """What `work` raised in a forked child: the name of the exception, or "" for none."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            os.write(writer, b"-")
        except BaseException as error:
            os.write(writer, type(error).__name__.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    assert answer, "the child died"
    return answer.strip("-")


@both
def test_a_reservation_is_refused_in_a_forked_child(ledger: Ledger) -> None:
    with reserve(ledger) as reservation:
        assert in_child(reservation.start) == "BoundToProcess"
        assert in_child(reservation.require_started) == "BoundToProcess"
        reservation.start()
        assert in_child(lambda: reservation.spend(Cost.zero(), purpose="x")) == "BoundToProcess"
        assert in_child(lambda: reservation.commit(DIGEST)) == "BoundToProcess"
        assert in_child(lambda: reservation.__exit__(None, None, None)) == "BoundToProcess"
        assert in_child(lambda: reservation.__exit__(ValueError, ValueError(), None)) == ""  # its own error goes on
        assert kinds(ledger)[-1] == "START"  # and the child recorded nothing
    assert kinds(ledger)[-1] == "COMMIT"


@both
def test_a_ledger_goes_on_in_a_forked_child(ledger: Ledger) -> None:
    def work() -> None:
        with reserve(ledger) as reservation:
            reservation.start()

    work()
    assert in_child(work) == ""
    work()
    assert kinds(ledger)[1:] == ["RESERVE", "START", "COMMIT"] * 3


# ---- what an entry looks like


@both
def test_entries_are_canonical_json_that_anyone_can_check(ledger: Ledger, place: Place) -> None:
    with ledger.reserve(SMALL, unit=PERSON, purpose="größe", requested_by="ann") as reservation:
        reservation.start()
    rows = [(seq, body.decode(), digest.decode()) for seq, body, digest in place.rows()]
    previous = "0" * 64
    for seq, body, digest in rows:
        data = json.loads(body)
        assert hashlib.sha256(body.encode()).hexdigest() == digest
        assert (data["seq"], data["prev_hash"], data["ledger_id"]) == (seq, previous, ledger.ledger_id)
        assert body == json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert "." not in "".join(str(value) for value in data.values() if isinstance(value, int | float))
        previous = digest
    reserved = json.loads(rows[1][1])
    assert (reserved["purpose"], reserved["requested_by"], reserved["attempt"]) == ("größe", "ann", 1)
    assert reserved["charged_before"] == {"nano": "0", "delta0": "0"}
    assert reserved["charged_after"]["nano"] == reserved["charge"] == str(SMALL.at(ledger.cap.order))


def test_integers_beyond_what_json_readers_keep_are_text() -> None:
    assert canonical({"b": 2**53, "a": [2**53 + 1, True, None]}) == (
        b'{"a":["9007199254740993",true,null],"b":9007199254740992}'
    )
    with pytest.raises(TypeError):
        canonical({"a": 0.5})


@both
def test_a_curve_with_large_losses_survives(place: Place) -> None:
    ledger = make(place.address, epsilon=10**9)
    large = Cost(extra=tuple(2**53 + place for place in range(len(ORDERS))), delta0=Fraction(1, 10**9))
    with reserve(ledger, large) as reservation:
        reservation.start()
    assert Ledger.open(place.address).extract().charged == large


# ---- anchors


def test_an_anchor_travels_in_a_manifest(ledger: Ledger) -> None:
    with reserve(ledger) as reservation:
        assert reservation.anchor.seq == reservation.seq == 1
        reservation.start()
        manifest = json.loads(json.dumps({"ledger": reservation.anchor.to_json() | {"more": 1}}))
    anchor = Anchor.from_manifest(manifest)
    assert anchor == reservation.anchor == Anchor(ledger.ledger_id, 2, ledger.entries()[2].hash)
    assert ledger.verify([anchor]).ok


@pytest.mark.parametrize(
    "found",
    [
        None,
        {},
        "text",
        {"ledger_id": "x", "seq": -1, "head": DIGEST},
        {"ledger_id": "x", "seq": True, "head": DIGEST},
        {"ledger_id": "x", "seq": "1", "head": DIGEST},
        {"ledger_id": "x", "seq": 1, "head": DIGEST.upper()},
        {"ledger_id": 5, "seq": 1, "head": DIGEST},
    ],
)
def test_a_manifest_without_a_head_is_refused(found: object) -> None:
    with pytest.raises(UsageError):
        Anchor.from_manifest({} if found is None else {"ledger": found})


@both
def test_verify_asks_for_heads_that_were_deposited(ledger: Ledger) -> None:
    deposit = ledger.anchor
    ledger.record_anchor(deposit, witness="notary, vault 3")
    assert any("notary, vault 3" in line for line in ledger.verify().not_checked)
    assert not any("notary" in line for line in ledger.verify([deposit]).not_checked)
    with pytest.raises(UsageError, match="no entry of this ledger"):
        ledger.record_anchor(Anchor(ledger.ledger_id, 0, DIGEST), witness="forger")


def test_verify_says_what_it_cannot_know(ledger: Ledger) -> None:
    reserve(ledger)
    report = ledger.verify()
    assert report.ok
    assert report.problems == ()
    assert report.checked[0].startswith("2 entries")
    assert any("no given anchor" in line for line in report.not_checked)
    assert ledger.verify([ledger.anchor]).not_checked == ()
