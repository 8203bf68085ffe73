"""The ledger among real processes: killed at every step, racing for the last of the budget, out of disk, forking.

SIGKILL tests the death of a process. The death of the machine is not tested, only that a charge is handed to the disk
(fdatasync) before `reserve` returns.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import pytest
from child_processes import Child, race
from ledger_places import Place, PostgresPlace, SqlitePlace, both

from dpsynth.errors import AlreadyRan, BudgetExceeded, LedgerLocked, OperationError, UsageError
from dpsynth.ledger import Ledger, Reservation
from dpsynth.privacy import NANO, Cost, PrivacyUnit

PERSON = PrivacyUnit(entity="person", max_rows=5, neighbours="add_remove")
SMALL = Cost.zcdp(Fraction(1, 1000))


def make(path: Path | str, *, epsilon: object = 2) -> Ledger:
    return Ledger.create(path, population="p", epsilon=epsilon, delta="1e-6", entity="person")  # type: ignore[arg-type]


def reserve(ledger: Ledger, cost: Cost = SMALL, *, job_id: str | None = None) -> Reservation:
    return ledger.reserve(cost, unit=PERSON, purpose="release", job_id=job_id)


# ---- killed at every step


def die_at_call(number: int) -> None:
    """Kill this process around its calls of SQLite and of the operating system: before the first, after it, ...

    Between two such points nothing can change on the disk.
    """
    left = number

    def count(frame: FrameType, event: str, function: Any) -> None:
        nonlocal left
        if event not in ("c_call", "c_return", "c_exception"):
            return
        of_sqlite = isinstance(getattr(function, "__self__", None), sqlite3.Connection) or function is sqlite3.connect
        if of_sqlite or getattr(function, "__module__", None) == "posix":
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)


def die_at_statement(number: int) -> None:
    """Kill this process at the end of each thing that it asks of a server: a connection, a statement, a commit, a goodbye.

    Between two such points nothing can change on the server, and what was just done there nobody has been told.
    """
    import psycopg

    asks = {psycopg.Connection.connect.__func__.__code__, psycopg.Connection.execute.__code__}  # type: ignore[attr-defined]
    asks.add(psycopg.Connection.close.__code__)
    left = number

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal left
        if event == "return" and frame.f_code in asks:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)


def finish(ledger: Ledger, say: Callable[[str], None]) -> None:
    with reserve(ledger, job_id="job") as reservation:
        say("reserved")
        reservation.start()
        say("started")
        reservation.spend(SMALL, purpose="all")
        reservation.commit("0" * 64)
    say("ended")


def break_off(ledger: Ledger, say: Callable[[str], None]) -> None:
    try:
        with reserve(ledger, job_id="job") as reservation:
            say("reserved")
            reservation.start()
            say("started")
            raise RuntimeError
    except RuntimeError:
        say("ended")


def leave_unused(ledger: Ledger, say: Callable[[str], None]) -> None:
    with reserve(ledger, job_id="job"):
        say("reserved")
    say("ended")


Work: TypeAlias = Callable[[Ledger, Callable[[str], None]], None]
ENDS: dict[Work, str] = {finish: "COMMIT", break_off: "FORFEIT", leave_unused: "RELEASE_UNUSED"}


def check_what_is_left(path: Path | str, words: list[str], end: str) -> str:
    """Hold a ledger to what the dead process had been told; returns the last kind it left."""
    ledger = Ledger.open(path)
    assert ledger.verify().ok
    kinds = [entry.kind for entry in ledger.entries()][1:]
    whole = ["RESERVE", "RELEASE_UNUSED"] if end == "RELEASE_UNUSED" else ["RESERVE", "START", end]
    if kinds[-1:] == ["RELEASE_UNUSED"] and "refused" in words and "started" not in words:
        whole = ["RESERVE", "RELEASE_UNUSED"]  # the start failed, and the release was told so
    assert kinds == whole[: len(kinds)]
    known = {"reserved": "RESERVE", "started": "START", "ended": end}
    assert {known[word] for word in words if word != "refused"} <= set(kinds)
    charge = SMALL.at(ledger.cap.order) if kinds and kinds[-1] != "RELEASE_UNUSED" else 0
    extract = ledger.extract()
    assert extract.charged_nano == charge
    assert extract.orphans == (kinds[-1:] in (["RESERVE"], ["START"]))
    if kinds[-1:] == ["RESERVE"]:  # never started: the same job goes on without a second charge
        with reserve(ledger, job_id="job") as again:
            again.start()
        assert ledger.extract().charged_nano == charge
    elif "START" in kinds:
        with pytest.raises(AlreadyRan):
            reserve(ledger, job_id="job")
    with reserve(ledger) as other:
        other.start()
    return kinds[-1] if kinds else "GENESIS"


def kill_everywhere(place: Place, work: Work, *, every: int) -> set[str]:
    """Kill `work` at every, or every n-th, step, one process a step; returns the last kinds that were left."""
    left = set()
    die_at = die_at_statement if isinstance(place, PostgresPlace) else die_at_call
    for step in range(1, 10**6, every):
        address = place.beside().address
        make(address)
        ledger = Ledger.open(address)

        def live_and_die(say: Callable[[str], None], *, ledger: Ledger = ledger, step: int = step) -> None:
            die_at(step)
            work(ledger, say)

        code, words = Child(live_and_die).wait()
        left.add(check_what_is_left(address, words, ENDS[work]))
        if code == 0:
            assert "ended" in words
            assert step > 20
            return left
        assert code == -signal.SIGKILL
    raise AssertionError("the work never ended")


@pytest.mark.rewinds
@both
@pytest.mark.parametrize("work", ENDS, ids=lambda work: work.__name__)
def test_killed_at_a_step(place: Place, work: Work) -> None:
    left = kill_everywhere(place, work, every=7 if isinstance(place, SqlitePlace) else 5)
    assert left >= {"GENESIS", "RESERVE", ENDS[work]}


@pytest.mark.rewinds
@pytest.mark.slow
@both
def test_killed_at_every_step(place: Place) -> None:
    assert kill_everywhere(place, finish, every=1) == {"GENESIS", "RESERVE", "START", "COMMIT"}


def test_killed_while_it_is_made_on_a_server(server: str) -> None:
    for step in range(1, 10**6):
        place = PostgresPlace(server)

        def live_and_die(say: Callable[[str], None], *, place: PostgresPlace = place, step: int = step) -> None:
            die_at_statement(step)
            make(place.address)

        code, _ = Child(live_and_die).wait()
        try:
            made = make(place.address)
        except UsageError:  # it is there, and whole
            made = Ledger.open(place.address)
        assert made.verify().ok
        if code == 0:
            assert step > 6
            return
        assert code == -signal.SIGKILL
    raise AssertionError("the ledger was never made")


def test_killed_while_it_is_made(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    for step in range(1, 10**6, 3):

        def live_and_die(say: Callable[[str], None], *, step: int = step) -> None:
            die_at_call(step)
            make(path)

        code, _ = Child(live_and_die).wait()
        if path.exists():  # whole, though it may still have its working name beside it
            for other in tmp_path.glob(".ledger.db.*"):
                other.unlink()
            assert Ledger.open(path).verify().ok
            path.unlink()
        if code == 0:
            break
        assert code == -signal.SIGKILL
        for rest in tmp_path.iterdir():
            assert rest.name.startswith(".ledger.db.")
            rest.unlink()
    else:
        raise AssertionError("the ledger was never made")


@both
def test_killed_at_a_random_moment(place: Place) -> None:
    """Also in the middle of a call."""
    ledger = make(place.address, epsilon=50)

    def work_on(say: Callable[[str], None]) -> None:
        while True:
            with reserve(Ledger.open(place.address)) as reservation:
                reservation.start()
                say(str(reservation.seq))

    started: list[str] = []
    for attempt in range(25):
        child = Child(work_on)
        started.append(child.word())  # it is in full swing
        time.sleep(attempt * 0.0007)
        os.kill(child.pid, signal.SIGKILL)
        started += child.wait()[1]
        assert ledger.verify().ok
    recorded = {entry.fields["reservation"] for entry in ledger.entries() if entry.kind == "START"}
    assert {int(seq) for seq in started} <= recorded
    extract = ledger.extract()
    assert extract.charged_nano == extract.attempts * SMALL.at(ledger.cap.order)


# ---- killed, or refused by the disk, at every system call

STRACE = shutil.which("strace")
PR_SET_PTRACER, ANY_PROCESS = 0x59616D61, ctypes.c_ulong(-1)


def under_strace(path: Path, *options: str) -> tuple[int, list[str], str]:
    """Run `finish` in a child under strace: exit code, words, trace of the calls on the ledger's files."""
    gate_reader, gate_writer = os.pipe()

    def wait_and_work(say: Callable[[str], None]) -> None:
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANY_PROCESS, 0, 0, 0)
        os.read(gate_reader, 1)
        try:
            finish(Ledger.open(path), say)
        except OperationError:
            say("refused")

    child = Child(wait_and_work)
    files = [part for ending in ("", "-wal") for part in ("-P", f"{path}{ending}")]
    trace = path.with_suffix(".trace")
    command = [str(STRACE), "-p", str(child.pid), "-o", str(trace), *files, *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        attached = "attached" in strace.stderr.readline()
        os.write(gate_writer, b"x")
        os.close(gate_writer)
        os.close(gate_reader)
        code, words = child.wait()
        strace.communicate(timeout=60)
    if not attached:
        pytest.skip("strace may not trace here")
    return code, words, trace.read_text()


@pytest.mark.skipif(STRACE is None, reason="needs strace")
def test_the_charge_reaches_the_disk_before_reserve_returns(tmp_path: Path) -> None:
    path = make(tmp_path / "ledger.db").store.path
    code, words, trace = under_strace(path, "-e", "trace=pwrite64,fdatasync,fsync,unlink")
    assert (code, words) == (0, ["reserved", "started", "ended"])
    calls = re.findall(r"^\d+ +(\w+)\(|^(\w+)\(", trace, re.MULTILINE)
    letters = {"pwrite64": "w", "fdatasync": "s", "fsync": "s", "unlink": "u"}
    # each of the three entries is written to the log and synced; only then the log is folded in, synced, removed
    assert len(re.findall("w+s+w+s+w+s+u", "".join(letters[first or second] for first, second in calls))) == 3


@pytest.mark.slow
@pytest.mark.skipif(STRACE is None, reason="needs strace")
@pytest.mark.parametrize("fate", ["signal=SIGKILL", "error=ENOSPC", "error=EIO"])
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "ftruncate", "unlink"])
def test_nothing_is_lost_when_a_system_call_fails(tmp_path: Path, call: str, fate: str) -> None:
    outcomes: list[tuple[int, list[str], str]] = []
    for number in range(1, 100):
        path = make(tmp_path / f"{number}.db").store.path
        code, words, trace = under_strace(path, "-e", f"trace={call}", "-e", f"inject={call}:{fate}:when={number}")
        left = check_what_is_left(path, words, "COMMIT")
        outcomes.append((code, words, left))
        if code == 0 and "INJECTED" not in trace:
            break
    codes = {code for code, *_ in outcomes}
    assert codes == ({0, -signal.SIGKILL} if "SIGKILL" in fate else {0})
    assert len(outcomes) > 3
    if call in ("pwrite64", "fdatasync"):  # the others only tidy up
        middle = {"RESERVE"} if "SIGKILL" in fate else {"RELEASE_UNUSED"}
        assert {left for *_, left in outcomes} == {"GENESIS", "START", "COMMIT"} | middle


# ---- racing


def part(ledger: Ledger, count: int) -> Cost:
    return Cost.zcdp(Fraction(ledger.cap.nano // count, NANO) / ledger.cap.order)


@both
def test_eight_processes_race_for_the_last_of_the_budget(place: Place) -> None:
    path = place.address
    make(path)
    each = part(Ledger.open(path), 20)

    def work(place: int, say: Callable[[str], None]) -> None:
        ledger = Ledger.open(path, timeout=60)
        while True:
            try:
                with reserve(ledger, each) as reservation:
                    reservation.start()
                    say(str(reservation.seq))
            except BudgetExceeded:
                return

    results = race(8, work)
    assert [code for code, _ in results] == [0] * 8
    won = [seq for _, words in results for seq in words]
    assert len(won) == len(set(won)) == 20
    ledger = Ledger.open(path)
    assert ledger.verify().ok
    extract = ledger.extract()
    assert (extract.attempts, extract.denied, extract.orphans) == (20, 8, 0)
    assert extract.charged_nano == 20 * each.at(ledger.cap.order) <= ledger.cap.nano


@both
def test_eight_processes_race_while_some_are_killed(place: Place) -> None:
    path = place.address
    make(path)
    each = part(Ledger.open(path), 30)

    def work(place: int, say: Callable[[str], None]) -> None:
        ledger = Ledger.open(path, timeout=60)
        for lap in range(100):
            try:
                with reserve(ledger, each) as reservation:
                    say(f"reserved-{reservation.seq}")
                    if place % 2 and lap == place:
                        os.kill(os.getpid(), signal.SIGKILL)
                    reservation.start()
                    say(f"started-{reservation.seq}")
            except BudgetExceeded:
                return

    results = race(8, work)
    assert Counter(code for code, _ in results).keys() <= {0, -signal.SIGKILL}
    words = [word for _, said in results for word in said]
    ledger = Ledger.open(path)
    assert ledger.verify().ok
    extract = ledger.extract()
    assert extract.attempts == sum(word.startswith("reserved") for word in words) == 30
    assert extract.orphans == sum(code != 0 for code, _ in results)
    assert extract.charged_nano == 30 * each.at(ledger.cap.order) <= ledger.cap.nano


@both
def test_one_job_starts_once_in_eight_processes(place: Place) -> None:
    path = place.address
    make(path)

    def work(place: int, say: Callable[[str], None]) -> None:
        ledger = Ledger.open(path, timeout=60)
        try:
            reservation = reserve(ledger, job_id="nightly")
            reservation.start()
        except AlreadyRan:
            say("refused")
        else:
            say("started")

    said = [words for _, words in race(8, work)]
    assert sorted(said) == [["refused"]] * 7 + [["started"]]
    assert Ledger.open(path).extract().charged_nano == SMALL.at(Ledger.open(path).cap.order)


@both
def test_only_one_of_eight_makes_the_ledger(place: Place, tmp_path: Path) -> None:
    path = place.address

    def work(place: int, say: Callable[[str], None]) -> None:
        try:
            say(make(path).ledger_id)
        except Exception as error:
            say(type(error).__name__)

    said = [words[0] for _, words in race(8, work)]
    ledger_id = Ledger.open(path).ledger_id
    assert said.count(ledger_id) == 1
    assert set(said) <= {ledger_id, "UsageError", "OperationError"}
    if isinstance(place, SqlitePlace):
        assert [left.name for left in tmp_path.iterdir()] == ["ledger.db"]


# ---- locked, out of disk, forking


@both
def test_a_lock_of_another_process_is_waited_for_and_then_refused(place: Place) -> None:
    ledger = make(place.address)
    done_reader, done_writer = os.pipe()

    def hold(say: Callable[[str], None]) -> None:
        os.close(done_writer)
        place.held()()
        say("held")
        os.read(done_reader, 1)

    holder = Child(hold)
    assert os.read(holder._reader, 5) == b"held "
    patient = Ledger.open(place.address, timeout=0.3)
    began = time.monotonic()
    with pytest.raises(LedgerLocked):
        reserve(patient)
    assert 0.3 <= time.monotonic() - began < 30
    os.close(done_writer)
    assert holder.wait()[0] == 0
    os.close(done_reader)
    with reserve(ledger):
        pass


@pytest.mark.parametrize("end", ["clean", "error"])
def test_a_full_disk_leaves_the_charge_and_the_error(tmp_path: Path, end: str) -> None:
    ledger = make(tmp_path / "ledger.db")

    def work(say: Callable[[str], None]) -> None:
        reservation = reserve(ledger)
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            with reservation:
                reservation.start()
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, unlimited[1]))  # bytes that a file may grow to
                if end == "error":
                    raise ValueError("the real error")
        except (ValueError, OperationError) as error:
            say(type(error).__name__)
            say(str(len(getattr(error, "__notes__", []))))
            say(reservation.state)
        try:
            reserve(ledger)
        except OperationError:
            say("refused")
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        with reserve(ledger):
            say("recovered")

    code, words = Child(work).wait()
    assert code == 0
    told = {"clean": ["OperationError", "0"], "error": ["ValueError", "1"]}[end]
    assert words == [*told, "started", "refused", "recovered"]
    extract = Ledger.open(ledger.store.path).extract()
    assert (extract.orphans, extract.attempts) == (1, 2)
    assert extract.charged_nano == SMALL.at(ledger.cap.order)
    assert ledger.verify().ok


def handles() -> set[str]:
    """What this process holds open, by name; nothing where the system does not tell."""
    held, found = Path("/proc/self/fd"), set()
    for link in held.iterdir() if held.exists() else ():
        with suppress(OSError):  # the look itself, and what ends meanwhile
            found.add(os.readlink(link))
    return found


@pytest.fixture
def busy_threads(place: Place) -> Iterator[tuple[Ledger, set[str]]]:
    """A ledger that four threads of this process use all the time, and what was open before they did."""
    make(place.address, epsilon=100)
    before = handles()  # a session of Spark, say, of an earlier test
    stop = threading.Event()
    ledger = Ledger.open(place.address, timeout=60)  # seconds; two dozen writers queue
    errors: list[BaseException] = []

    def work() -> None:
        while not stop.is_set():
            try:
                with reserve(ledger) as reservation:
                    reservation.start()
            except BaseException as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    yield ledger, before
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []


@both
def test_forks_never_inherit_an_open_connection(busy_threads: tuple[Ledger, set[str]], place: Place) -> None:
    """A child that inherits half of SQLite's locks would hang, lose its locks, or damage the file."""
    ledger, before = busy_threads

    def work(say: Callable[[str], None]) -> None:
        assert not any("ledger.db" in name or name.startswith("socket:") for name in handles() - before)
        with reserve(ledger) as reservation:
            reservation.start()
        say("done")

    children = [Child(work) for _ in range(20)]
    assert [child.wait() for child in children] == [(0, ["done"])] * 20
    assert ledger.verify().ok
