"""The ledger against a slow and obvious model of itself, and against files changed at random."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ledger_places import PostgresPlace, SqlitePlace

from benchmarks.ledger import grow
from dpsynth.canonical import canonical, from_canonical
from dpsynth.errors import AlreadyRan, BudgetExceeded, DpsynthError, IntegrityError, PrivacyRefusal
from dpsynth.ledger import Anchor, Entry, Ledger, Reservation
from dpsynth.ledger.entries import cost_of, recordable, rounded_up
from dpsynth.privacy import Cap, Cost, PrivacyUnit

pytestmark = pytest.mark.rewinds

PERSON = PrivacyUnit(entity="person", max_rows=5, neighbours="add_remove")
CAP = Cap.of(1, "1e-6")

rhos = st.fractions(0, 2, max_denominator=10**9).map(lambda share: share * CAP.cost.rho)
deltas = st.sampled_from([Fraction(0), CAP.delta0 / 4, CAP.delta0 / 2, CAP.delta0])
costs = st.one_of(
    st.builds(lambda rho, delta0: Cost.zcdp(rho / 8, delta0=delta0), rhos, deltas),
    st.builds(Cost.zcdp, rhos),
    st.sampled_from([Cost.zero(), CAP.cost, Cost.approximate("0.05", 0), Cost.approximate("0.1", "1e-8")]),
)
TEXT = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=8)


class LedgerModel(RuleBasedStateMachine):
    """Random calls, held to a list of what each reservation must have become."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.new_place()
        self.ledger = Ledger.create(self.path, population="p", epsilon=1, delta="1e-6", entity="person")
        self.cap, self.jobs = CAP, 0
        self.open: list[tuple[Reservation, Cost, bool]] = []  # the flag: started
        self.charges: list[Cost] = []  # of what was started, left behind, or imported
        self.orphans = self.denied = self.attempts = 0
        self.anchors: list[Anchor] = []

    def new_place(self) -> Path | str:
        return self.folder / "ledger.db"

    def teardown(self) -> None:
        report = self.ledger.verify(self.anchors)
        assert report.ok
        extract = self.ledger.extract()
        assert Ledger.open(self.path).extract() == extract
        if not extract.imports:
            assert extract.charged.epsilon(extract.cap_delta) <= extract.cap_epsilon
        shutil.rmtree(self.folder)

    def charged(self) -> list[Cost]:
        return self.charges + [cost for _, cost, _ in self.open]

    def admits(self, cost: Cost) -> bool:
        nano = sum(other.at(self.cap.order) for other in [*self.charged(), cost])
        return nano <= self.cap.nano and sum(other.delta0 for other in [*self.charged(), cost]) <= self.cap.delta0

    @rule(cost=costs)
    def reserve(self, cost: Cost) -> None:
        self.jobs += 1
        if self.admits(cost):
            reservation = self.ledger.reserve(cost, unit=PERSON, purpose="release", job_id=f"job-{self.jobs}")
            self.open.append((reservation, cost, False))
            self.attempts += 1
        else:
            with pytest.raises(BudgetExceeded):
                self.ledger.reserve(cost, unit=PERSON, purpose="release", job_id=f"job-{self.jobs}")
            self.denied += 1

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        place = data.draw(st.integers(0, len(self.open) - 1))
        reservation, cost, started = self.open[place]
        if started:
            with pytest.raises(AlreadyRan):
                reservation.start()
        else:
            reservation.start()
            self.open[place] = (reservation, cost, True)
        self.anchors.append(reservation.anchor)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), share=st.fractions(0, 2))
    def spend(self, data: st.DataObject, share: Fraction) -> None:
        reservation, cost, started = data.draw(st.sampled_from(self.open))
        before = reservation.spent
        step = Cost.zcdp(cost.rho * share)
        if not started:
            with pytest.raises(PrivacyRefusal):
                reservation.spend(step, purpose="step")
        elif (before + step).fits(cost):
            reservation.spend(step, purpose="step")
            assert reservation.spent == before + step
        else:
            with pytest.raises(BudgetExceeded):
                reservation.spend(step, purpose="step")
            assert reservation.spent == before

    @precondition(lambda self: self.open)
    @rule(data=st.data(), clean=st.booleans())
    def end(self, data: st.DataObject, clean: bool) -> None:
        reservation, cost, started = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        reservation.__exit__(None if clean else ValueError, None if clean else ValueError(), None)
        assert reservation.state == ("released" if not started else "committed" if clean else "forfeited")
        if started:
            self.charges.append(cost)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        _, cost, _ = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.charges.append(cost)
        self.orphans += 1

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        reservation, cost, started = data.draw(st.sampled_from(self.open))
        if started:
            with pytest.raises(AlreadyRan):
                self.ledger.reserve(cost, unit=PERSON, purpose="release", job_id=reservation.job_id)
        else:
            again = self.ledger.reserve(cost, unit=PERSON, purpose="release", job_id=reservation.job_id)
            assert again.seq == reservation.seq

    @rule(factor=st.fractions(Fraction(11, 10), 3, max_denominator=10))
    def amend(self, factor: Fraction) -> None:
        if self.cap.epsilon < 5:
            self.cap = self.ledger.amend(self.cap.epsilon * factor, reason="more waves", approver="privacy office")

    @rule(cost=st.one_of(st.none(), costs))
    def import_external(self, cost: Cost | None) -> None:
        self.ledger.import_external(cost=cost, note="an earlier table")
        self.charges.append(cost or Cost.zero())

    @rule()
    def reopen(self) -> None:
        self.anchors.append(self.ledger.anchor)
        self.ledger = Ledger.open(self.path)

    @invariant()
    def sums_agree(self) -> None:
        extract = self.ledger.extract()
        assert extract.charged_nano == sum(cost.at(self.cap.order) for cost in self.charged())
        assert extract.charged == sum(self.charged(), Cost.zero())
        assert (extract.attempts, extract.denied) == (self.attempts, self.denied)
        assert extract.orphans == self.orphans + len(self.open)
        assert extract.cap == self.cap
        if not extract.imports:
            assert extract.charged_nano <= extract.cap_nano


LedgerModel.TestCase.settings = settings(
    max_examples=20, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
test_the_ledger_behaves_as_its_model = LedgerModel.TestCase


@pytest.mark.slow
def test_a_ledger_on_a_server_behaves_as_its_model(server: str) -> None:
    class ServerModel(LedgerModel):
        def new_place(self) -> str:
            return PostgresPlace(server).address

    few = settings(LedgerModel.TestCase.settings, max_examples=4)  # what differs is the store
    run_state_machine_as_test(ServerModel, settings=few)


# ---- canonical text

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcxyz_"), inner, max_size=3),
    max_leaves=10,
)


@given(plain_values)
def test_canonical_text_is_read_back(value: object) -> None:
    body = canonical(value)
    assert from_canonical(body) == value == json.loads(body)
    assert b"\n" not in body


@given(st.dictionaries(TEXT, st.integers(0, 9), min_size=1), st.sampled_from([(", ", ": "), (",", ": ")]))
def test_any_other_text_is_refused(value: dict[str, int], separators: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="canonical"):
        from_canonical(json.dumps(value, separators=separators).encode())


@given(st.fractions(0, 10**6), st.integers(0, 60))
def test_rounding_goes_up_and_not_far(value: Fraction, digits: int) -> None:
    rounded = rounded_up(value, digits)
    assert 0 <= rounded - value < Fraction(1, 10**digits)


@given(costs, st.integers(2, 10**6).map(lambda odd: 3**300 + odd))
def test_what_is_recorded_is_never_cheaper(cost: Cost, denominator: int) -> None:
    awkward = cost + Cost.zcdp(Fraction(1, denominator), delta0=Fraction(1, denominator))
    recorded = recordable(awkward)
    assert awkward.fits(recorded)
    assert all(b - a <= 1 for a, b in zip(awkward.curve(), recorded.curve(), strict=True))
    read_back = cost_of(json.loads(canonical(recorded.to_json())))
    assert read_back == recorded


# ---- files changed at random


@lru_cache(maxsize=1)
def example() -> tuple[bytes, tuple[Entry, ...], tuple[str, ...]]:
    """The file of a ledger with all kinds of entries, its entries, and their bodies."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.create(f"{folder}/l.db", population="p", epsilon=1, delta="1e-6", entity="person")
        small = Cost.zcdp(CAP.cost.rho / 10)
        for fails in (False, True, False):
            reservation = ledger.reserve(small, unit=PERSON, purpose="release")
            reservation.start()
            reservation.__exit__(None, ValueError() if fails else None, None)
        with ledger.reserve(small, unit=PERSON, purpose="release"):
            pass
        with pytest.raises(BudgetExceeded):
            ledger.reserve(CAP.cost, unit=PERSON, purpose="release")
        ledger.amend(2, reason="more", approver="a")
        ledger.import_external(cost=Cost.approximate("0.1", "1e-8"), note="earlier")
        ledger.import_external(cost=None, note="earlier still")
        ledger.record_anchor(ledger.anchor, witness="notary")
        ledger.reserve(small, unit=PERSON, purpose="release")
        with closing(sqlite3.connect(ledger.store.path)) as db:
            bodies = tuple(body for (body,) in db.execute("SELECT body FROM entries ORDER BY seq"))
        return ledger.store.path.read_bytes(), ledger.entries(), bodies


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ledger") / "ledger.db"


def put(path: Path, content: bytes) -> None:
    for ending in ("-wal", "-shm", "-journal"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    path.write_bytes(content)


def same_or_refused(path: Path, entries: tuple[Entry, ...]) -> bool:
    """True if the file was refused; it may never open and show anything but `entries`."""
    report = None
    try:
        report = Ledger.inspect(path)
        opened = Ledger.open(path)
    except DpsynthError:
        assert report is None or not report.ok
        return True
    assert report.ok
    assert opened.entries() == entries
    return False


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_damaged_byte_changes_what_is_read(scratch: Path, data: st.DataObject) -> None:
    content, entries, _ = example()
    place = data.draw(st.one_of(st.integers(0, 199), st.integers(0, len(content) - 1)))  # the header is worth more
    mask = data.draw(st.integers(1, 255))
    put(scratch, content[:place] + bytes([content[place] ^ mask]) + content[place + 1 :])
    same_or_refused(scratch, entries)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_shortened_file_is_a_shorter_ledger(scratch: Path, data: st.DataObject) -> None:
    content, entries, _ = example()
    length = data.draw(st.integers(0, len(content) - 1))
    put(scratch, content[:length])
    assert same_or_refused(scratch, entries) or length >= len(content) - 1


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2**54), st.floats(), TEXT, st.just("0"), st.just("1/1000"), st.just([])
)


def forge(value: Any, data: st.DataObject) -> Any:
    """The value with one leaf exchanged, removed, or added."""
    if isinstance(value, dict) and value:
        key = data.draw(st.sampled_from(sorted(value)))
        action = data.draw(st.sampled_from(["deeper", "deeper", "deeper", "remove", "add"]))
        if action == "remove":
            return {other: part for other, part in value.items() if other != key}
        return value | ({"more": data.draw(leaves)} if action == "add" else {key: forge(value[key], data)})
    return data.draw(leaves)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_forged_entry_is_refused_or_legal_but_never_a_crash(scratch: Path, data: st.DataObject) -> None:
    """One value of one entry is changed and the whole chain recomputed; the anchor finds what the rules do not."""
    content, entries, bodies = example()
    place = data.draw(st.integers(0, len(bodies) - 1))
    forged = [json.loads(body) for body in bodies]
    link = forged[place].pop("prev_hash")
    forged[place] = forge(forged[place], data) | {"prev_hash": link}
    assume(json.dumps(forged[place], sort_keys=True) != json.dumps(json.loads(bodies[place]), sort_keys=True))
    put(scratch, content)
    previous, rows = "0" * 64, []
    for seq, entry in enumerate(forged):
        entry["prev_hash"] = previous
        body = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        previous = hashlib.sha256(body.encode()).hexdigest()
        rows.append((seq, body, previous))
    with SqlitePlace(scratch).unlocked() as db:
        db.execute("DELETE FROM entries")
        db.executemany("INSERT INTO entries VALUES (?, ?, ?)", rows)
    anchor = Anchor(ledger_id(bodies), len(entries) - 1, entries[-1].hash)
    assert not Ledger.inspect(scratch, [anchor]).ok
    try:
        opened = Ledger.open(scratch)
    except IntegrityError:
        return
    extract = opened.extract()
    charges = sum(int(entry.fields["charge"]) for entry in opened.entries() if entry.kind == "RESERVE")
    assert 0 <= extract.charged_nano <= charges + 10**18


def ledger_id(bodies: tuple[str, ...]) -> str:
    return str(json.loads(bodies[0])["ledger_id"])


@given(st.integers(0, 16), st.integers(0, 16))
@settings(max_examples=40, deadline=None)
def test_a_cut_is_found_by_every_anchor_behind_it(scratch: Path, kept: int, anchored: int) -> None:
    content, entries, bodies = example()
    kept, anchored = kept % (len(entries) - 1), anchored % len(entries)
    put(scratch, content)
    with SqlitePlace(scratch).unlocked() as db:
        db.execute("DELETE FROM entries WHERE seq > ?", (kept,))
    report = Ledger.inspect(scratch, [Anchor(ledger_id(bodies), anchored, entries[anchored].hash)])
    assert report.ok == (anchored <= kept)
    assert Ledger.open(scratch).entries() == entries[: kept + 1]


# ---- long ledgers


@pytest.mark.parametrize("entries", [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_old_heads_stay_prefixes_of_a_long_ledger(tmp_path: Path, entries: int) -> None:
    path = tmp_path / "ledger.db"
    anchors = [Ledger.create(path, population="p", epsilon=4, delta="1e-6", entity="person").anchor]
    for share in (60, 10, 1):  # the earlier, the cheaper to read again
        anchors.append(grow(path, entries // (3 * share)))
    forged = Anchor(anchors[0].ledger_id, anchors[2].seq, anchors[1].head)
    report = Ledger.inspect(path, [*anchors, forged])
    assert report.problems == (f"entry {forged.seq} is not the one that an anchor names: the history was rewritten",)
    assert report.not_checked == ("the head that was last seen on this machine: none is noted here",)
    assert len(report.checked) == 1 + len(anchors)
    assert anchors[-1].seq >= entries
