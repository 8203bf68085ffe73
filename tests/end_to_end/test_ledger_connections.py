"""Ledgers under many spenders at once, some killed, some cut off; and under connections cut at every message.

Whatever happens: nothing over the cap, nothing lost that was acknowledged, nothing charged twice.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from child_processes import Child
from cutting_proxy import Fate, proxy_before
from ledger_places import Place, PostgresPlace, Row, SqlitePlace

from dpsynth.errors import BudgetExceeded, DpsynthError, OperationError
from dpsynth.ledger import Ledger
from dpsynth.privacy import NANO, Cost, PrivacyUnit

PERSON = PrivacyUnit(entity="person", max_rows=5, neighbours="add_remove")
SMALL = Cost.zcdp(Fraction(1, 1000))


def make(address: str | Path) -> Ledger:
    return Ledger.create(address, population="p", epsilon=2, delta="1e-6", entity="person")


# ---- many spenders


PARTS = (15, 50)
"""A reservation takes one part of the cap in so many, at random: the 64 spenders come to some thirty of them."""


def spend(ledger: Ledger, who: int, cap_nano: int, say: Callable[[str], None]) -> None:
    """Reserve random parts of the cap until two in a row are refused; say what was asked for, and what was got."""
    chance = random.Random(who)
    refused = 0
    for lap in itertools.count():
        cost = Cost.zcdp(Fraction(chance.randint(cap_nano // PARTS[1], cap_nano // PARTS[0]), NANO) / ledger.cap.order)
        job = f"{who}.{lap}"
        say(f"asked:{job}")
        try:
            with ledger.reserve(cost, unit=PERSON, purpose="release", job_id=job) as reservation:
                say(f"got:{job}:{reservation.seq}")
                reservation.start()
                say(f"started:{job}:{reservation.seq}")
            refused = 0
        except BudgetExceeded:
            refused += 1
            if refused == 2:
                return
        except OperationError:
            say(f"unsure:{job}")


def problems(rows: Iterable[Row], cap_nano: int, words: Iterable[str]) -> set[str]:
    """What is wrong with a ledger after `spend`, by its rows and by what the spenders said; nothing of ours is asked."""
    found, charged, kinds = set(), 0, Counter[str]()
    reserved: dict[int, str] = {}
    charges: dict[int, int] = {}
    started: set[int] = set()
    previous = "0" * 64
    for place, (seq, body, digest) in enumerate(rows):
        entry = json.loads(body)
        if (seq, entry["seq"], entry["prev_hash"]) != (place, place, previous):
            found.add("broken chain")
        previous = digest.decode()
        kinds[entry["kind"]] += 1
        if entry["kind"] == "RESERVE":
            if entry["job_id"] in reserved.values():
                found.add("charged twice")
            reserved[seq], charges[seq] = entry["job_id"], int(entry["charge"])
            charged += charges[seq]
        elif entry["kind"] == "START":
            started.add(entry["reservation"])
        elif entry["kind"] == "RELEASE_UNUSED":
            if entry["reservation"] in started:
                found.add("refund after the start")
            charged -= charges[entry["reservation"]]
            del reserved[entry["reservation"]]
        if charged > cap_nano:
            found.add("over the cap")
    said = [word.split(":") for word in words]
    asked = {word[1] for word in said if word[0] == "asked"}
    got = {(int(word[2]), word[1]) for word in said if word[0] == "got"}
    if {(seq, job) for seq, job in got if seq in charges} != got or not {job for _, job in got} <= asked:
        found.add("lost reservation")
    if not {int(word[2]) for word in said if word[0] == "started"} <= started:
        found.add("lost start")
    if not set(reserved.values()) <= asked:
        found.add("charge that nobody asked for")
    unacknowledged = asked - {job for _, job in got}
    if not len(got) <= kinds["RESERVE"] <= len(got) + len(unacknowledged):
        found.add("attempts do not add up")
    return found


def let_loose(
    address: str | Path, count: int, kills: int, disturb: Callable[[random.Random], object]
) -> tuple[list[int], list[str]]:
    """Exit codes and words of `count` spenders, of which some are killed and others disturbed at random moments."""
    cap_nano = Ledger.open(address).cap.nano
    children = [
        Child(lambda say, who=who: spend(Ledger.open(address, timeout=120), who, cap_nano, say))  # type: ignore[misc]
        for who in range(count)
    ]
    chance, over = random.Random(count), threading.Event()

    def trouble() -> None:
        victims = chance.sample(children, kills)
        while not over.wait(chance.uniform(0, 0.1)):
            if victims:
                os.kill(victims.pop().pid, signal.SIGKILL)  # a zombie until it is waited for, so the number is its own
            disturb(chance)

    thread = threading.Thread(target=trouble)
    thread.start()
    results = [child.wait_words() for child in children]
    over.set()
    thread.join()
    codes = [child.wait_code() for child in children]
    return codes, [word for words in results for word in words]


def check_spenders(place: Place, codes: list[int], words: list[str]) -> None:
    ledger = Ledger.open(place.address)
    extract = ledger.extract()
    assert set(codes) <= {0, -signal.SIGKILL}
    assert problems(place.rows(), extract.cap_nano, words) == set()
    assert extract.charged_nano <= extract.cap_nano
    assert extract.remaining_nano < extract.cap_nano // PARTS[0]  # all but a last crumb was spent
    assert ledger.verify([ledger.anchor]).ok
    assert extract.attempts >= PARTS[0]


def test_sixteen_processes_on_a_file(place: SqlitePlace) -> None:
    make(place.address)
    check_spenders(place, *let_loose(place.address, 16, 4, lambda chance: None))


@pytest.mark.slow
def test_sixty_four_processes_on_a_server(server: str) -> None:
    """Of which twelve are killed, while connections of the others are ended by the server."""
    place = PostgresPlace(server)
    make(place.address)
    ended = 0
    with place.connect() as admin:

        def end_one(chance: random.Random) -> None:
            nonlocal ended
            backends = []
            for _ in range(50):  # a busy machine has moments without any
                backends = admin.execute(
                    "SELECT pid FROM pg_stat_activity WHERE application_name = 'dpsynth'"
                ).fetchall()
                if backends:
                    break
                time.sleep(0.002)
            for (backend,) in chance.sample(backends, min(2, len(backends))):
                ended += admin.execute("SELECT pg_terminate_backend(%s)", [backend]).fetchone() == (True,)

        codes, words = let_loose(place.address, 64, 12, end_one)
    assert ended > 0
    check_spenders(place, codes, words)


def threads(ledgers: list[Ledger], cap_nano: int) -> list[str]:
    """Words of spenders that are threads; what they raise is left to `problems`."""
    words: list[str] = []

    def work(who: int) -> None:
        try:
            spend(ledgers[who], who, cap_nano, words.append)
        except DpsynthError:
            return

    running = [threading.Thread(target=work, args=(who,)) for who in range(len(ledgers))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return words


@pytest.mark.parametrize("key", [True, False], ids=["the key decides", "nothing decides"])
def test_what_a_lock_that_locks_nothing_does(server: str, monkeypatch: pytest.MonkeyPatch, key: bool) -> None:
    """The queue taken away, the primary key alone still keeps the sums; that taken away too, these tests notice.

    Nobody writes before everybody has seen the same end of the ledger, so that they collide on a machine of any speed.
    """
    from dpsynth.ledger import postgres

    place, spenders = PostgresPlace(server), 5
    monkeypatch.setattr(postgres.PostgresStore, "_queue", lambda self, db: None)
    if not key:
        table = postgres._TABLE.replace(" CONSTRAINT entries_pkey PRIMARY KEY", "")
        start, end = table.index("CREATE TRIGGER entries_follow"), table.index("CREATE TRIGGER entries_stay")
        table = (table[:start] + table[end:]).replace("ENABLE ALWAYS TRIGGER entries_follow, ", "")
        monkeypatch.setattr(postgres, "_TABLE", table)
        monkeypatch.setattr(postgres.PostgresStore, "_check_layout", lambda self, db: None)
    cap_nano = make(place.address).cap.nano
    together, before, append = threading.Barrier(spenders, timeout=60), threading.local(), postgres._Open.append

    def append_together(begun: postgres._Open, row: Row) -> None:
        if not hasattr(before, "any"):
            before.any = together.wait()
        append(begun, row)

    monkeypatch.setattr(postgres._Open, "append", append_together)
    words = threads([Ledger.open(place.address, timeout=120) for _ in range(spenders)], cap_nano)
    found = problems(place.rows(), cap_nano, words)
    assert found == set() if key else {"broken chain"} <= found


# ---- connections cut at a message

SLOWLY = partial(pytest.param, marks=pytest.mark.slow)


def finish(ledger: Ledger, words: list[str]) -> None:
    with ledger.reserve(SMALL, unit=PERSON, purpose="release", job_id="job") as reservation:
        words.append("reserved")
        reservation.start()
        words.append("started")
    words.append("ended")


def quiet(place: PostgresPlace) -> None:
    """Waits until the server has done what it was told: a COMMIT whose connection is gone may still be under way."""
    with place.connect() as admin:
        end = time.monotonic() + 60
        while admin.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'dpsynth'").fetchall():
            assert time.monotonic() < end, "a connection that was cut is still open on the server"
            time.sleep(0.005)


def cut_everywhere(
    server: str, cut: Fate, *, for_good: bool, every: int, patience: float = 0.2
) -> list[tuple[list[str], list[str]]]:
    """Cut a release at every n-th message to the server; returns what it was told and what was recorded.

    Args:
        patience: Seconds for which a server that is gone for good is asked again.
    """
    outcomes = []
    for number in range(1, 1000, every):
        place = PostgresPlace(server)
        make(place.address)
        words: list[str] = []
        with proxy_before(place.address) as (proxy, address):
            ledger = Ledger.open(address, timeout=patience if for_good else 20)
            proxy.messages = 0

            def fate(message: int, _: bytes, number: int = number) -> Fate:
                if message > number and for_good:
                    return "lost"
                return cut if message == number else "pass"

            proxy.fate = fate
            try:
                finish(ledger, words)
            except OperationError:
                words.append("refused")
            reached = proxy.messages >= number
        quiet(place)
        after = Ledger.open(place.address)
        assert after.verify().ok
        kinds = [entry.kind for entry in after.entries()][1:]
        each = SMALL.at(after.cap.order)
        assert after.extract().charged_nano == (0 if kinds[-1:] in ([], ["RELEASE_UNUSED"]) else each)
        known = {"reserved": "RESERVE", "started": "START", "ended": "COMMIT"}
        assert {known[word] for word in words if word != "refused"} <= set(kinds)
        outcomes.append((words, kinds))
        if kinds[-1:] in ([], ["RESERVE"]):  # the same job goes on, charged once
            finish(after, [])
            assert after.extract().charged_nano == each
            assert after.extract().attempts == 1
        if not reached:
            return outcomes
    raise AssertionError("the release never ended")


@pytest.mark.parametrize(("cut", "every"), [("lost", 5), ("unanswered", 4), SLOWLY("unanswered", 1)])
def test_a_connection_cut_at_a_message_is_made_up_for(server: str, cut: Fate, every: int) -> None:
    """Also where the answer to a COMMIT is lost: the server is asked again, and nothing is charged twice."""
    outcomes = cut_everywhere(server, cut, for_good=False, every=every)
    assert len(outcomes) > 20 / every
    for words, kinds in outcomes:
        assert words == ["reserved", "started", "ended"]
        assert kinds == ["RESERVE", "START", "COMMIT"]


@pytest.mark.parametrize(("cut", "every"), [("lost", 9), ("unanswered", 7), SLOWLY("unanswered", 1)])
def test_a_server_gone_for_good_leaves_the_charge(server: str, cut: Fate, every: int) -> None:
    for patience in (0.2, 2.0, 20.0):  # on a loaded machine a release may give up before the message that is cut
        outcomes = cut_everywhere(server, cut, for_good=True, every=every, patience=patience)
        left = {kinds[-1] if kinds else "GENESIS" for _, kinds in outcomes}
        unacknowledged = any(words == ["refused"] and kinds for words, kinds in outcomes)
        seen = left >= {"GENESIS", "START", "COMMIT"} and (every > 1 or unacknowledged == (cut == "unanswered"))
        if seen:
            break
    assert seen
    assert all(words[-1] in ("refused", "ended") for words, _ in outcomes)


@pytest.mark.slow
def test_a_server_that_restarts_is_waited_for(server: str) -> None:
    """As an administrator's restart or a failover looks like: every connection ends, and none is made for a while."""
    place = PostgresPlace(server)
    make(place.address)
    with proxy_before(place.address) as (proxy, address):
        ledger = Ledger.open(address, timeout=30)
        proxy.messages = 0
        down = threading.Event()

        def fate(message: int, _: bytes) -> Fate:
            if message == 12:
                down.set()
                threading.Timer(1.0, down.clear).start()
            return "lost" if down.is_set() else "pass"

        proxy.fate = fate
        words: list[str] = []
        began = time.monotonic()
        finish(ledger, words)
    assert words == ["reserved", "started", "ended"]
    assert time.monotonic() - began > 0.9
    assert Ledger.open(place.address).extract().attempts == 1


def test_a_standby_that_does_not_confirm_is_no_success(server: str) -> None:
    """The server says COMMIT, with a warning: the entry is on its own disk only, and could be lost with it."""
    place = PostgresPlace(server)
    ledger = make(place.address)
    over = threading.Event()

    def give_up() -> None:
        with place.connect() as other:
            while not over.wait(0.01):
                other.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")

    impatient = threading.Thread(target=give_up)
    impatient.start()
    with place.connect() as admin:
        severities: list[str | None] = []
        admin.add_notice_handler(lambda notice: severities.append(notice.severity_nonlocalized))
        try:
            admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            admin.execute("SELECT pg_reload_conf()")
            while "WARNING" not in severities:  # until the server has heard of it
                admin.execute("DROP TABLE IF EXISTS probe; CREATE TABLE probe ()")
            with pytest.raises(OperationError, match="did not confirm"):
                ledger.reserve(SMALL, unit=PERSON, purpose="release", job_id="job")
        finally:
            admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            admin.execute("SELECT pg_reload_conf()")
            while admin.execute("SHOW synchronous_standby_names").fetchone() != ("",):
                time.sleep(0.01)
            over.set()
            impatient.join()
    assert ledger.reserve(SMALL, unit=PERSON, purpose="release", job_id="job").seq == 1
    assert ledger.extract().attempts == 1


# ---- a server without room


@pytest.mark.slow
def test_a_full_disk_of_the_server_leaves_the_charge(server: str, tmp_path: Path) -> None:
    """The table lies on a disk of its own, which somebody fills; the server's log lies elsewhere."""
    folder = Path(server.partition("host=")[2]) / f"small-{os.getpid()}"
    folder.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", folder], check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        owner = (folder.parent / "data").stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        place = PostgresPlace(server)
        ledger = make(place.address)
        with place.connect() as db:
            db.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
            db.execute("ALTER TABLE entries SET TABLESPACE small")
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        told = []
        for lap in range(60):  # entries until the last page is full
            try:
                finish_one(ledger, f"job-{lap}")
            except OperationError as error:
                told.append(str(error))
                break
        assert len(told) == 1
        assert "no room" in told[0]
        assert ledger.verify([ledger.anchor]).ok
        extract = ledger.extract()
        filler.unlink()
        finish_one(ledger, "afterwards")
        later = ledger.extract()
        each = SMALL.at(ledger.cap.order)
        assert later.charged_nano == extract.charged_nano + each == (later.attempts) * each
        with place.connect() as db:
            db.execute(f"DROP SCHEMA {place.schema} CASCADE")
            db.execute("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", folder], check=True)


def finish_one(ledger: Ledger, job: str) -> None:
    with ledger.reserve(SMALL, unit=PERSON, purpose="release", job_id=job) as reservation:
        reservation.start()


# ---- the command line


def test_a_release_charges_a_ledger_on_a_server_and_keeps_no_address(case: Any, server: str) -> None:
    place = PostgresPlace(server)
    terms = ["--population", "people", "--epsilon", 2, "--delta", "1e-6", "--unit", "person"]
    assert case("ledger", "create", place.address, *terms) == 0, case.stderr
    words = ["--schema", case.schema, "--ledger", place.address, "--epsilon", 1, "--delta", "1e-6", "--no-gate"]
    assert case("release", case.data, *words, "--out", case.out) == 0, case.stderr
    said = case.stdout + case.stderr
    assert [entry.kind for entry in Ledger.open(place.address).entries()] == ["GENESIS", "RESERVE", "START", "COMMIT"]
    assert case("ledger", "verify", place.address, "--against", case.out / "release" / "manifest.json") == 0
    assert case("ledger", "show", place.address) == 0
    said += case.stdout + case.stderr
    kept = b"".join(path.read_bytes() for path in case.out.rglob("*") if path.is_file()) + said.encode()
    assert b"people" in kept
    for part in ("postgresql:", place.name, "tester", server.partition("host=")[2]):
        assert part.encode() not in kept
    charged = Ledger.open(place.address).extract().charged_nano
    words[words.index("--epsilon") + 1] = 2
    assert case("release", case.data, *words, "--out", case.folder / "second") == 7
    assert Ledger.open(place.address).extract().charged_nano == charged
