"""What is about PostgreSQL alone: addresses, secrets, rights, servers that forget, forks, dumps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ledger_places import PostgresPlace, SqlitePlace
from postgres_server import binary, running

from dpsynth.addresses import is_address, split_off
from dpsynth.cli.main import run
from dpsynth.errors import IntegrityError, OperationError, UsageError
from dpsynth.ledger import Ledger
from dpsynth.privacy import Cost, PrivacyUnit

pytest.importorskip("psycopg", reason="psycopg is not installed")

PERSON = PrivacyUnit(entity="person", max_rows=5, neighbours="add_remove")
SMALL = Cost.zcdp(Fraction(1, 1000))


@pytest.fixture
def place(server: str) -> PostgresPlace:
    return PostgresPlace(server)


@pytest.fixture
def ledger(place: PostgresPlace) -> Ledger:
    return make(place.address)


def make(address: str) -> Ledger:
    return Ledger.create(address, population="p", epsilon=2, delta="1e-6", entity="person")


def release(ledger: Ledger) -> None:
    with ledger.reserve(SMALL, unit=PERSON, purpose="release") as reservation:
        reservation.start()


def as_role(place: PostgresPlace, role: str, *rights: str) -> str:
    """The address of a ledger for a role that has these rights and no others."""
    with place.connect() as db:
        db.execute(f"DROP OWNED BY {role}" if known(db, role) else f"CREATE ROLE {role} LOGIN PASSWORD 'hunter2'")
        for right in rights:
            db.execute(f"GRANT {right} TO {role}")
    return place.address.replace("tester@", f"{role}@")


def known(db: Any, role: str) -> bool:
    return db.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone() is not None


# ---- addresses and secrets


@pytest.mark.parametrize(
    ("place", "address"),
    [
        ("ledger.db", False),
        ("a/b:/c.db", False),
        ("c:/ledger.db", False),
        ("postgresql://host/db", True),
        ("POSTGRES://host/db", True),
        ("postgresql:/host/db", True),
        ("mysql://host/db", True),
        ("passwords/user.db", False),
        (" postgresql://u:hunter2@host/db", True),
        ("'postgresql://u:hunter2@host/db'", True),
        ("jdbc:postgresql://host/db?password=hunter2", True),
        ("postgresql//u:hunter2@host/db", True),
        ("postgresql:u:hunter2@host/db", True),
        ("host=db password=hunter2", True),
    ],
)
def test_an_address_is_told_from_a_path(place: str, address: bool) -> None:
    assert is_address(place) == address


def test_one_parameter_is_taken_out_and_the_others_stay_as_they_are() -> None:
    address = "postgresql://u:p%40s@h1:5432,h2/db?sslmode=require&ledger=a%62c&password=a+b%26c&options=-c%20x%3Dy"
    rest, names = split_off(address, "ledger")
    assert names == ["abc"]
    assert rest == address.replace("&ledger=a%62c", "")
    assert split_off("postgresql:///db?ledger=x", "ledger") == ("postgresql:///db", ["x"])
    for wrong in ("postgresql://h/db?ledger", "postgresql://h/db?ledger=x#y", "postgresql://h/db?=x"):
        with pytest.raises(ValueError, match="written"):
            split_off(wrong, "ledger")


WRONG = {
    " postgresql://u:hunter2@127.0.0.1:1/db": UsageError,
    "jdbc:postgresql://127.0.0.1:1/db?password=hunter2": UsageError,
    "postgresql//u:hunter2@127.0.0.1:1/db": UsageError,
    "host=127.0.0.1 password=hunter2": UsageError,
    "postgresql://u:hunter2@127.0.0.1:1/db": OperationError,
    "postgresql://u:hunter2@nowhere.invalid/db": OperationError,
    "postgresql:///db?host=/nowhere&password=hunter2": OperationError,
    "postgresql://u:hunter2@127.0.0.1:1/db?nonsense=1": UsageError,
    "postgresql://u:hunter2@127.0.0.1:port/db": UsageError,
    "postgresql://u:hunter2@127.0.0.1:1/db?ledger": UsageError,
    "postgresql://u:hunter2@127.0.0.1:1/db?ledger=": UsageError,
    "postgresql://u:hunter2@127.0.0.1:1/db?ledger=a&ledger=b": UsageError,
    "postgresql://u:hunter2@127.0.0.1:1/db?ledger=A": UsageError,
    "postgresql://u:hunter2@127.0.0.1:1/db?ledger=a.b": UsageError,
    "postgresql://u:hunter2@127.0.0.1:1/db?ledger=a%22;--": UsageError,
    "postgresql://u:hunter2@127.0.0.1:1/db?ledger=" + "a" * 41: UsageError,
    "postgresql://u:hunter2#@127.0.0.1:1/db?ledger=a": UsageError,
    "postgresql://[::1/hunter2": UsageError,
    "postgresql://u:%hunter2@127.0.0.1:1/db": UsageError,
    "postgresql://u:12/hunter2@127.0.0.1/db": OperationError,  # an unescaped slash: libpq sees a host, a port, a database
    "postgresql://u:x@hunter2@127.0.0.1/db": OperationError,
    "postgresql:/u:hunter2@127.0.0.1/db": UsageError,
    "mysql://u:hunter2@127.0.0.1/db": UsageError,
}


@pytest.mark.parametrize("address", WRONG)
def test_a_wrong_address_is_one_sentence_without_a_password(address: str) -> None:
    for attempt in (lambda: Ledger.open(address, timeout=0), lambda: Ledger.inspect(address), lambda: make(address)):
        with pytest.raises(WRONG[address]) as caught:
            attempt()
        told = "".join(traceback.format_exception(caught.value))
        assert "\n" not in str(caught.value)
        assert "hunter2" not in str(caught.value) + repr(caught.value)
        assert "hunter2" not in re.sub(r"(?m)^    .*\n", "", told)  # lines of code aside: this file holds the address


def test_a_server_that_refuses_is_one_sentence(place: PostgresPlace, ledger: Ledger) -> None:
    as_role(place, "guarded")
    for wrong, error in {
        place.address.replace("/postgres?", "/nowhere?"): UsageError,
        place.address.replace("tester@", "nobody@"): UsageError,
        place.address.replace("tester@", "guarded@"): UsageError,
        place.address.replace("tester@", "guarded:hunter3@"): UsageError,
        place.beside().address: UsageError,
    }.items():
        with pytest.raises(error) as caught:
            Ledger.open(wrong)
        assert "\n" not in str(caught.value)
        assert "hunter" not in str(caught.value)


def test_no_command_shows_a_secret(
    place: PostgresPlace, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with place.connect() as db:
        as_role(place, "guarded", "CREATE ON DATABASE postgres")
        db.execute("ALTER ROLE guarded PASSWORD 'hunter2'")
    address = place.address.replace("tester@", "guarded:hunter2@")
    caplog.set_level(0)
    assert run(["ledger", "create", address, "--population", "p", "--epsilon", "2", "--delta", "1e-6"]) == 0
    assert run(["ledger", "amend", address, "--epsilon", "3", "--reason", "r", "--approver", "a"]) == 0
    assert run(["ledger", "import", address, "--not-dp", "--note", "n"]) == 0
    assert run(["ledger", "show", address]) == 0
    assert run(["ledger", "show", address, "--json"]) == 0
    assert run(["ledger", "verify", address]) == 0
    assert run(["ledger", "create", address, "--population", "p", "--epsilon", "2", "--delta", "1e-6"]) == 2
    assert run(["ledger", "show", address.replace("hunter2", "hunter23")]) == 2
    ledger = Ledger.open(address)
    said = "".join(capsys.readouterr()) + caplog.text + repr(ledger) + repr(ledger.store) + ledger.store.place
    assert "exists already" in said
    for secret in ("hunter2", "guarded"):
        assert secret not in said
        assert secret.encode() not in b"".join(body for _, body, _ in place.rows())


def test_without_psycopg_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "dpsynth.ledger.postgres", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(OperationError, match=r"pip install 'dpsynth\[postgres\]'"):
        Ledger.open("postgresql://host/db")


def test_a_plain_address_means_the_ledger_of_that_name(server: str) -> None:
    made = make(server)
    assert Ledger.open(f"{server}&ledger=ledger").ledger_id == made.ledger_id


# ---- rights


ROLE = "releases"
RIGHTS = ("USAGE ON SCHEMA {schema}", "SELECT, INSERT ON {schema}.entries")


def test_a_role_that_may_only_read_and_insert_can_release(place: PostgresPlace, ledger: Ledger) -> None:
    rights = [right.format(schema=place.schema) for right in RIGHTS]
    limited = Ledger.open(as_role(place, ROLE, *rights))
    release(limited)
    assert [entry.kind for entry in ledger.entries()] == ["GENESIS", "RESERVE", "START", "COMMIT"]
    assert limited.verify([ledger.anchor]).ok
    with place.connect() as db:
        db.execute(f"SET ROLE {ROLE}")
        for statement in (
            "UPDATE entries SET body = body",
            "DELETE FROM entries",
            "TRUNCATE entries",
            "ALTER TABLE entries DISABLE TRIGGER ALL",
            "DROP TRIGGER entries_stay ON entries",
            "DROP TABLE entries",
            f"CREATE TABLE {place.schema}.more ()",
            "CREATE OR REPLACE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "SET session_replication_role = replica",
            "LOCK TABLE entries IN EXCLUSIVE MODE",
            "SELECT * FROM entries FOR UPDATE",
        ):
            with pytest.raises(Exception, match=r"permission denied|must be owner"), db.transaction():
                db.execute(statement)


@pytest.mark.parametrize("rights", [RIGHTS[:0], RIGHTS[:1], RIGHTS[1:]], ids=["none", "schema", "table"])
def test_a_role_without_rights_is_told_which(place: PostgresPlace, ledger: Ledger, rights: tuple[str, ...]) -> None:
    address = as_role(place, ROLE, *(right.format(schema=place.schema) for right in rights))
    with pytest.raises(OperationError, match="USAGE on the schema, SELECT and INSERT"):
        Ledger.open(address)


def test_a_reader_can_verify_and_not_write(place: PostgresPlace, ledger: Ledger) -> None:
    reader = Ledger.open(
        as_role(place, ROLE, RIGHTS[0].format(schema=place.schema), f"SELECT ON {place.schema}.entries")
    )
    assert reader.verify([ledger.anchor]).ok
    with pytest.raises(OperationError, match="INSERT"):
        release(reader)


def test_who_may_not_make_a_schema_is_told_so(place: PostgresPlace) -> None:
    with pytest.raises(OperationError, match="CREATE on the database"):
        make(as_role(place, ROLE))


def test_a_ledger_belongs_to_nobody_else(place: PostgresPlace, ledger: Ledger) -> None:
    with place.connect() as db:
        found = db.execute("SELECT relacl::text FROM pg_class WHERE oid = 'entries'::regclass").fetchone()
        assert found[0] is None or "=" not in found[0].replace("tester=", "")


# ---- settings that the store does not leave to others


def test_settings_of_the_address_change_nothing(place: PostgresPlace, ledger: Ledger) -> None:
    """A search path with functions and tables of the same names, other formats, no waiting for the disk."""
    with place.connect() as db:
        db.execute("CREATE SCHEMA IF NOT EXISTS evil")
        db.execute("CREATE TABLE IF NOT EXISTS evil.entries (seq bigint, body bytea, hash bytea)")
        db.execute("CREATE OR REPLACE FUNCTION evil.pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT true'")
        db.execute("CREATE OR REPLACE FUNCTION evil.pg_advisory_xact_lock(bigint) RETURNS void LANGUAGE sql AS ''")
    options = "%20".join(
        f"-c%20{setting}"
        for setting in (
            "search_path%3Devil,pg_catalog,public",
            "synchronous_commit%3Doff",
            "default_transaction_isolation%3Dserializable",
            "bytea_output%3Descape",
            "lock_timeout%3D1",
            "standard_conforming_strings%3Doff",
        )
    )
    odd = Ledger.open(f"{place.address}&options={options}&client_encoding=LATIN1")
    release(odd)
    assert odd.verify([ledger.anchor]).ok
    assert [entry.kind for entry in ledger.entries()] == ["GENESIS", "RESERVE", "START", "COMMIT"]
    reader = Ledger.open(f"{place.address}&options=-c%20default_transaction_read_only%3Don")
    with pytest.raises(OperationError, match="read-only"):
        release(reader)


def test_a_transaction_waits_for_the_disk_and_for_nobody_for_ever(place: PostgresPlace, ledger: Ledger) -> None:
    from dpsynth.ledger.postgres import PostgresStore

    wanted = ("synchronous_commit", "lock_timeout", "idle_in_transaction_session_timeout", "statement_timeout")
    store = PostgresStore(f"{place.address}&options=-c%20synchronous_commit%3Doff", timeout=7)
    with store._turn(write=True, deadline=time.monotonic() + 7) as begun:
        found = {name: begun._ask(f"SELECT current_setting('{name}')").fetchone()[0] for name in wanted}  # type: ignore[index]
    assert found["synchronous_commit"] == "on"
    assert all(found[name] not in ("0", "") for name in wanted)


@pytest.mark.slow
def test_a_server_that_may_forget_and_a_replica_are_refused(tmp_path: Path) -> None:
    with running("fsync=off") as address, pytest.raises(OperationError, match="fsync"):
        make(address)
    with running("hot_standby=on", "wal_level=replica") as address:
        make(address)
        folder = Path(address.partition("host=")[2])
        (folder / "data" / "standby.signal").touch()
        owner = (folder / "data").stat()
        os.chown(folder / "data" / "standby.signal", owner.st_uid, owner.st_gid)
        restart = [str(binary("pg_ctl")), "-D", str(folder / "data"), "-w", "-m", "fast", "restart"]
        user = {"user": owner.st_uid, "group": owner.st_gid} if os.getuid() == 0 else {}
        subprocess.run(restart, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **user)  # type: ignore[call-overload]
        with pytest.raises(OperationError, match="replica"):
            Ledger.open(address)


# ---- forks, copies, dumps


def test_no_connection_crosses_a_fork(place: PostgresPlace, ledger: Ledger) -> None:
    """A child forked in the middle of a transaction of another thread holds no handle on its connection."""
    inside, go_on = threading.Event(), threading.Event()
    others = sockets()  # a session of Spark, say, of an earlier test

    def linger() -> None:
        def work(entries: Any) -> None:
            list(entries.rows())
            inside.set()
            go_on.wait(60)

        ledger.store.run(work, write=True)

    thread = threading.Thread(target=linger)
    thread.start()
    assert inside.wait(60)
    assert sockets() == others + 1
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, str(sockets()).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == str(others)
    os.waitpid(child, 0)
    go_on.set()
    thread.join()
    release(ledger)
    assert ledger.verify().ok


def sockets() -> int:
    """Open connections of this process."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            found += os.readlink(link).startswith("socket:")
        except OSError:
            continue
    return found


def backup_of(place: PostgresPlace) -> Callable[[], object]:
    """A dump of a ledger as it is now; calling it puts it back."""
    pg_dump, psql = binary("pg_dump"), binary("psql")
    if pg_dump is None or psql is None:
        pytest.skip("pg_dump is not installed")
    dump = subprocess.run([pg_dump, "-n", place.schema, "-d", place.server], check=True, capture_output=True).stdout
    restore = [psql, "-q", "-d", place.server]
    return partial(subprocess.run, restore, input=dump, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.rewinds
def test_a_dump_put_back_is_the_ledger_and_an_old_one_is_found(place: PostgresPlace, ledger: Ledger) -> None:
    """By anchors, and by a process that has seen more; the restored table is guarded as the old one was."""
    release(ledger)
    put_back = backup_of(place)
    release(ledger)
    newer = ledger.anchor
    with place.connect() as db:
        db.execute(f"DROP SCHEMA {place.schema} CASCADE")
    with pytest.raises(UsageError, match="does not exist"):
        release(ledger)
    put_back()
    assert Ledger.inspect(place.address).ok
    assert not Ledger.inspect(place.address, [newer]).ok
    assert not place.try_to("DELETE FROM entries")
    for _ in range(2):
        with pytest.raises(IntegrityError, match="no longer holds"):
            release(ledger)
    release(Ledger.open(place.address))  # who has seen nothing goes on: hence anchors
    assert not Ledger.inspect(place.address, [newer]).ok


def test_a_ledger_moved_from_a_file_keeps_its_bytes(place: PostgresPlace, tmp_path: Path) -> None:
    file = SqlitePlace(tmp_path / "ledger.db")
    first = make(str(file.address))
    release(first)
    make(place.address)
    place.forge(file.rows())
    moved = Ledger.open(place.address)
    assert place.rows() == file.rows()
    assert moved.verify([first.anchor]).ok
    assert moved.extract() == first.extract()


def test_an_index_that_lost_its_tail_is_no_shorter_ledger(place: PostgresPlace, ledger: Ledger) -> None:
    release(ledger)
    with place.connect() as db:  # as a damaged index would: the rows are in the table, and not in the index
        db.execute("UPDATE pg_index SET indisready = false WHERE indexrelid = 'entries_pkey'::regclass")
        db.execute("ALTER TABLE entries DISABLE TRIGGER ALL")
        seq, body, digest = place.rows()[-1]
        db.execute("INSERT INTO entries VALUES (%s, %s, %s)", [seq + 1, body, digest])
        for trigger in ("entries_stay", "entries_follow"):
            db.execute(f"ALTER TABLE entries ENABLE ALWAYS TRIGGER {trigger}")
        db.execute("UPDATE pg_index SET indisready = true WHERE indexrelid = 'entries_pkey'::regclass")
    with pytest.raises(IntegrityError, match="damaged"):
        Ledger.open(place.address)


def test_a_restored_server_is_refused_by_the_machine_that_saw_more(place: PostgresPlace, ledger: Ledger) -> None:
    """Without any anchor given: the head that was noted outside the database is gone from it."""
    release(ledger)
    put_back = backup_of(place)
    release(ledger)
    with place.connect() as db:
        db.execute(f"DROP SCHEMA {place.schema} CASCADE")
    put_back()
    with pytest.raises(IntegrityError, match="seen in it before"):
        Ledger.open(place.address)


def test_threads_that_read_while_others_write_see_what_is_on_the_disk(place: PostgresPlace) -> None:
    """One `Ledger`, many threads: no account is shared with a transaction under way, and none looks cut that only grew."""
    book = make(place.address)
    failures: list[BaseException] = []
    writing = threading.Event()

    def watched(work: Any) -> threading.Thread:
        def body() -> None:
            try:
                work()
            except BaseException as failure:
                failures.append(failure)

        return threading.Thread(target=body)

    def write() -> None:
        for number in range(15):
            book.import_external(cost=Cost.zcdp(Fraction(1, 10**6)), note=f"release {number}")

    def read() -> None:
        while not writing.is_set() and not failures:
            extract = book.extract()
            assert extract.imports == extract.seq

    readers, writers = [watched(read) for _ in range(3)], [watched(write) for _ in range(2)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    writing.set()
    for thread in readers:
        thread.join()
    assert failures == []
    assert book.head[0] == 30
