"""A ledger in a PostgreSQL database: a schema with one table, which only grows.

    postgresql://releases@db.example.org/clinic?ledger=visits

The ledger `visits` is the table `entries` of the schema `dpsynth_visits`; without `ledger=` the name is `ledger`. All
else in the address is libpq's, so a password belongs into `~/.pgpass` or a service file. No message quotes an address.

One writer at a time: an advisory lock on the table, which needs no right beyond INSERT (`SELECT ... FOR UPDATE` and a
table lock that keeps writers out both need UPDATE). The lock makes a queue; what makes two charges on one balance
impossible, also for a writer who does not ask for it, is the primary key: an entry carries its number and the hash of
the entry before it, and of two entries with one number the database takes one.

A transaction has a connection of its own, so none crosses a fork.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NamedTuple, Self, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from dpsynth.addresses import split_off
from dpsynth.errors import DpsynthError, OperationError, UsageError
from dpsynth.ledger.store import TIMEOUT, Row, T, Transaction, changed, damaged, locked

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

_NAME: Final = re.compile(r"[a-z0-9_]{1,40}")  # short enough that PostgreSQL does not cut the schema's name
_SHOWN: Final = {"host": r"[A-Za-z0-9._/,:-]*", "port": r"[0-9,]*", "dbname": r"[A-Za-z0-9._-]*"}
_DEFAULTS: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "tcp_user_timeout": "60000",
    "application_name": "dpsynth",
}
_PAGE: Final = 2000  # rows fetched at a time
_PAUSE: Final = 0.02  # seconds between two attempts
_LOCK_CLASS: Final = 0x64707379  # upper half of the advisory lock's key; the lower half is the table's number
_SLOW: Final = (
    60.0  # seconds after which the server gives up a statement, or a silent client in the middle of one's turn
)

_FUNCTION: Final = """
BEGIN
    IF TG_OP <> 'INSERT' OR NEW.seq IS DISTINCT FROM (SELECT coalesce(max(seq), -1) + 1 FROM {schema}.entries) THEN
        RAISE EXCEPTION 'append only' USING ERRCODE = 'DPL01';
    END IF;
    RETURN NEW;
END
"""
_TABLE: Final = """
CREATE SCHEMA {schema};
REVOKE ALL ON SCHEMA {schema} FROM PUBLIC;
CREATE TABLE {schema}.entries (
    seq  bigint NOT NULL CONSTRAINT entries_pkey PRIMARY KEY,
    body bytea NOT NULL,
    hash bytea NOT NULL CONSTRAINT entries_hash CHECK (octet_length(hash) = 64)
);
REVOKE ALL ON {schema}.entries FROM PUBLIC;
CREATE FUNCTION {schema}.append_only() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    AS $body${function}$body$;
CREATE TRIGGER entries_follow BEFORE INSERT ON {schema}.entries
    FOR EACH ROW EXECUTE FUNCTION {schema}.append_only();
CREATE TRIGGER entries_stay BEFORE DELETE OR UPDATE OR TRUNCATE ON {schema}.entries
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.append_only();
ALTER TABLE {schema}.entries ENABLE ALWAYS TRIGGER entries_follow, ENABLE ALWAYS TRIGGER entries_stay
"""
# What PostgreSQL says of the table above; a table with anything more or less is not a ledger of ours.
_LAYOUT: Final = (
    "table r p false false",
    "column seq bigint true  ",
    "column body bytea true  ",
    "column hash bytea true  ",
    "constraint entries_hash CHECK ((octet_length(hash) = 64))",
    "constraint entries_pkey PRIMARY KEY (seq)",
    "index CREATE UNIQUE INDEX entries_pkey ON {schema}.entries USING btree (seq) true true",
    "trigger A CREATE TRIGGER entries_follow BEFORE INSERT ON {schema}.entries"
    " FOR EACH ROW EXECUTE FUNCTION {schema}.append_only()",
    "trigger A CREATE TRIGGER entries_stay BEFORE DELETE OR UPDATE OR TRUNCATE ON {schema}.entries"
    " FOR EACH STATEMENT EXECUTE FUNCTION {schema}.append_only()",
)
_DESCRIBED: Final = """
WITH t AS (SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = %(schema)s AND c.relname = 'entries')
SELECT 0, '', format('table %%s %%s %%s %%s', relkind, relpersistence,
                     (relrowsecurity OR relforcerowsecurity)::text,
                     (relispartition OR EXISTS (SELECT FROM pg_inherits WHERE t.oid IN (inhrelid, inhparent)))::text)
  FROM t
UNION ALL
SELECT 1, attnum::text, format('column %%s %%s %%s %%s%%s %%s', attname, format_type(atttypid, atttypmod), attnotnull::text,
                               attidentity, attgenerated, (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef
                               WHERE adrelid = attrelid AND adnum = attnum))
  FROM pg_attribute JOIN t ON attrelid = t.oid WHERE attnum > 0
UNION ALL
SELECT 2, conname, format('constraint %%s %%s', conname, pg_get_constraintdef(pg_constraint.oid))
  FROM pg_constraint JOIN t ON conrelid = t.oid WHERE contype <> 'n'
UNION ALL
SELECT 3, indexrelid::text, format('index %%s %%s %%s', pg_get_indexdef(indexrelid), indisvalid::text, indisready::text)
  FROM pg_index JOIN t ON indrelid = t.oid
UNION ALL
SELECT 4, tgname, format('trigger %%s %%s', tgenabled, pg_get_triggerdef(pg_trigger.oid))
  FROM pg_trigger JOIN t ON tgrelid = t.oid
UNION ALL
SELECT 5, rulename, format('rule %%s', rulename) FROM pg_rewrite JOIN t ON ev_class = t.oid
UNION ALL
SELECT 6, p.oid::text, format('function %%s %%s %%s %%s', lanname, prosecdef::text, array_to_string(proconfig, ';'), prosrc)
  FROM pg_trigger JOIN t ON tgrelid = t.oid JOIN pg_proc p ON p.oid = tgfoid JOIN pg_language l ON l.oid = prolang
  WHERE tgname = 'entries_follow'
ORDER BY 1, 2
"""


class _Again(Exception):
    """The attempt has left nothing behind, and the next one may do better; `last` is said when there is none."""

    def __init__(self, last: DpsynthError) -> None:
        super().__init__()
        self.last = last


class _Unreachable(_Again):
    """There is no connection, and nothing was asked."""


# ---- connections -------------------------------------------------------------------------------------------------

# A fork while another thread talks to a server gives the child a second handle on that connection. The child closes its
# own at once, without a word to the server: or else the server would not notice when the parent dies. Connections are
# opened and closed behind a door where a fork waits, so that none is missed.
_DOOR = threading.RLock()
_OPEN: set[Connection] = set()


def _in_child() -> None:
    for db in _OPEN:
        with suppress(OSError, psycopg.Error):  # lost, and closed by libpq
            os.close(db.fileno())
    _OPEN.clear()
    _DOOR.release()


os.register_at_fork(before=_DOOR.acquire, after_in_parent=_DOOR.release, after_in_child=_in_child)


@contextmanager
def _connected(conninfo: str) -> Iterator[Connection]:
    """A connection outside any transaction. Statements are sent as they stand: nothing prepared, nothing begun."""
    with _DOOR:
        db = psycopg.connect(conninfo, autocommit=True, prepare_threshold=None)
        _OPEN.add(db)
    try:
        yield db
    finally:
        with _DOOR:
            db.close()
            _OPEN.discard(db)


# ---- failures ----------------------------------------------------------------------------------------------------

_NOT_YET: Final = re.compile(
    "too many|slots are reserved|starting up|shutting down|recovery mode|not yet accepting|terminating connection"
)
_NOT_YOU: Final = re.compile(r"FATAL:|fe_sendauth|certificate verify|definition of service|invalid (\w+ )?(value|port)")
_GONE: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})  # the server ended the connection
_LOSERS: Final = frozenset({"40001", "40P01", "23505", "DPL01"})  # another transaction was first
_RIGHTS: Final = "42501"
_LATE: Final = "55P03"
_NO_SCHEMA: Final = "3F000"
_NO_TABLE: Final = "42P01"
_DAMAGE: Final = ("XX001", "XX002", "42", "22", "23")  # corrupted; or refused as nothing of ours ever is


def _is_lost(db: Connection, error: psycopg.Error) -> bool:
    """Whether the connection is gone; what the server made of the last statement is then not known."""
    state = error.sqlstate or ""
    return db.closed or db.broken or state in _GONE or state.startswith("08")


def _refused(error: psycopg.Error, shown: str) -> DpsynthError | _Again:
    """Our word for a connection that was not made. libpq tells the reason as text only."""
    text = str(error)
    if _NOT_YET.search(text):
        return _Again(OperationError(f"the server of {shown} takes no connections at the moment: try again later"))
    if _NOT_YOU.search(text):
        return UsageError(f"the server of {shown} refused: check the address, the role, its password and the database")
    return _Unreachable(
        OperationError(
            f"the server of {shown} could not be reached: check that it runs, and the host and port of the address"
        )
    )


def _translate(error: psycopg.Error, shown: str) -> DpsynthError | _Again:
    """Our word for a statement that failed while the connection held."""
    state = error.sqlstate or ""
    if state in _LOSERS:
        return _Again(locked(shown))
    if state == _LATE:
        return locked(shown)
    if state == _RIGHTS:
        return OperationError(
            f"the role may not use {shown}: have it granted USAGE on the schema, SELECT and INSERT on its table"
        )
    if state.startswith("53"):
        return OperationError(f"the server of {shown} has no room left (disk, memory or connections): free some")
    if state.startswith("25"):
        return OperationError(f"{shown} is read-only there: give the address of the primary server")
    if state == _NO_SCHEMA:
        return UsageError(f"{shown} does not exist: create it with dpsynth ledger create")
    if state == _NO_TABLE:
        return changed(shown)
    if state.startswith(_DAMAGE):
        return damaged(shown)
    return OperationError(f"the server of {shown} failed: see its log")


# ---- the store ---------------------------------------------------------------------------------------------------


class _Address(NamedTuple):
    """What an address says."""

    conninfo: str
    schema: str
    shown: str


def _read(address: str) -> _Address:
    """The parts of an address.

    Raises:
        UsageError: it cannot be read. Nothing of it is quoted: a password may stand anywhere in it.
    """
    try:
        place, names = split_off(address, "ledger")
        given = {key: str(value) for key, value in conninfo_to_dict(place).items() if value is not None}
    except (ValueError, psycopg.Error):
        raise UsageError("the address of the ledger cannot be read: write it as docs/ledger.md has it") from None
    name = names[0] if names else "ledger"
    if len(names) > 1 or not _NAME.fullmatch(name):
        raise UsageError("the name of a ledger (?ledger=NAME) is 1 to 40 of a to z, 0 to 9 and _, given once")
    seen = {part: given.get(part, "") for part in _SHOWN}
    shown = f"the ledger {name} in PostgreSQL"
    if all(
        re.fullmatch(form, seen[part]) for part, form in _SHOWN.items()
    ):  # or else an unescaped password is in there
        where = seen["host"] + (f":{seen['port']}" if seen["port"] else "")
        shown = f"the ledger {name} in the database {seen['dbname'] or '(default)'} on {where or 'the local server'}"
    return _Address(make_conninfo("", **(_DEFAULTS | given | {"client_encoding": "UTF8"})), f"dpsynth_{name}", shown)


class _Open:
    """A `Transaction` on an open connection."""

    def __init__(self, db: Connection, store: PostgresStore, *, standbys: bool) -> None:
        self._db = db
        self._store = store
        self._standbys = standbys  # the server waits for others before it calls an entry committed

    def _ask(self, query: str, *values: object) -> psycopg.Cursor[tuple[Any, ...]]:
        statement = query.format(entries=self._store.table).encode()
        return self._db.execute(statement, values, binary=True)

    def rows(self, *, after: int = -1) -> Iterator[Row]:
        while True:
            page: list[Any] = self._ask(
                f"SELECT seq, body, hash FROM {{entries}} WHERE seq > %s ORDER BY seq LIMIT {_PAGE}", after
            ).fetchall()
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1][0]

    def row(self, seq: int) -> Row | None:
        found = self._ask("SELECT seq, body, hash FROM {entries} WHERE seq = %s", seq).fetchone()
        return None if found is None else (found[0], found[1], found[2])

    def append(self, row: Row) -> None:
        self.insert(row)
        try:
            self.commit()
        except psycopg.Error as error:
            if not _is_lost(self._db, error):
                raise
            if self._standbys:  # that it stands here would not say that it stands there
                raise self._store.unsure from None
            if not self._store.holds(row):
                raise _Again(self._store.lost) from None

    def insert(self, row: Row) -> None:
        """Add a row to the transaction."""
        if self._ask("INSERT INTO {entries} (seq, body, hash) VALUES (%s, %s, %s)", *row).rowcount != 1:
            raise damaged(self._store.place)

    def commit(self) -> None:
        """Commit, and be sure of it.

        Raises:
            OperationError: the server rolled back, or warns that a standby has not confirmed.
            psycopg.Error: the connection was lost: the transaction may stand or not.
        """
        severities: list[str | None] = []
        self._db.add_notice_handler(lambda notice: severities.append(notice.severity_nonlocalized))
        if self._db.execute("COMMIT").statusmessage != "COMMIT" or "WARNING" in severities:
            raise self._store.unsure

    def check(self) -> None:
        """As `Transaction.check`: an index that lost its last rows would look like a shorter ledger."""
        ends = []
        for table, index in (("on", "off"), ("off", "on")):
            self._db.execute(
                f"SET LOCAL enable_seqscan = {table}; SET LOCAL enable_indexscan = {index};"
                "SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off".encode()
            )
            ends.append(self._ask("SELECT count(*), max(seq) FROM {entries} WHERE seq >= 0").fetchone())
        if ends[0] != ends[1]:
            raise damaged(self._store.place)


class PostgresStore:
    """The rows of a ledger in a PostgreSQL database. All writers queue at an advisory lock on its table.

    Safe to use from many threads and after a fork: every transaction has a connection of its own.
    """

    def __init__(self, address: str | os.PathLike[str], *, timeout: float = TIMEOUT) -> None:
        """The store at an address; nothing is asked of the server yet.

        Args:
            address: `postgresql://...?ledger=NAME`.
            timeout: Seconds to wait for a lock that another process holds, and for a lost server to come back.
        Raises:
            UsageError: the address cannot be read.
        """
        self._conninfo, self._schema, self._shown = _read(str(address))
        self._timeout: Final = timeout
        self._was_there = False  # a server that has answered once is waited for
        self.table: Final = f"{self._schema}.entries"

    @classmethod
    def create(cls, address: str | os.PathLike[str], genesis: Row, *, timeout: float = TIMEOUT) -> Self:
        """A new schema that holds one row; it appears whole or not at all.

        Raises:
            UsageError: there is a schema of that name, or the server does not know the role or the database.
            OperationError: the role may not make a schema, or the server failed.
        """
        store = cls(address, timeout=timeout)
        function = _FUNCTION.format(schema=store._schema)
        try:
            with store._connection() as db:
                try:
                    store._begin(db, write=True, patience=timeout)
                    begun = _Open(db, store, standbys=store._standbys(db))
                    db.execute(_TABLE.format(schema=store._schema, function=function).encode())
                    begun.insert(genesis)
                    begun.commit()
                except psycopg.Error as error:
                    raise store._not_made(db, error) from None
        except _Again as again:
            raise again.last from None
        return store

    @property
    def place(self) -> str:
        """Name, database and host; neither role nor password."""
        return self._shown

    @property
    def lost(self) -> OperationError:
        """What is said where a lost connection could not be replaced in time; nothing was written."""
        return OperationError(f"the connection to {self._shown} was lost and nothing was written: try again")

    @property
    def unsure(self) -> OperationError:
        """What is said where a lost connection took the answer to a COMMIT with it."""
        return OperationError(
            f"{self._shown} did not confirm an entry, which may stand or not: try again with the same job id"
        )

    def run(self, work: Callable[[Transaction], T], *, write: bool) -> T:
        """As `Store.run`. `work` is also called again where a connection was lost before anything was committed."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                with self._turn(write=write, deadline=deadline) as begun:
                    return work(begun)
            except _Again as again:
                hopeless = isinstance(again, _Unreachable) and not self._was_there
                if hopeless or time.monotonic() >= deadline:
                    raise again.last from None
            time.sleep(_PAUSE)

    def holds(self, row: Row) -> bool:
        """Whether an entry stands, asked after the connection was lost on which it was committed.

        The old transaction holds the lock until it has ended, one way or the other: who gets the lock sees the outcome.

        Raises:
            OperationError: nobody could be asked in time.
        """
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                with self._turn(write=True, deadline=deadline) as begun:
                    return begun.row(row[0]) == row
            except (_Again, OperationError, UsageError):
                if time.monotonic() >= deadline:
                    raise self.unsure from None
            time.sleep(_PAUSE)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        """A connection of our own.

        Raises:
            UsageError, OperationError, _Again: there is none.
        """
        opened = _connected(self._conninfo)
        try:
            db = opened.__enter__()
        except psycopg.Error as error:
            raise _refused(error, self._shown) from None
        self._was_there = True
        try:
            yield db
        finally:
            opened.__exit__(None, None, None)

    @contextmanager
    def _turn(self, *, write: bool, deadline: float) -> Iterator[_Open]:
        """A transaction on a table that is ours, behind the lock if it shall write; rolled back unless committed."""
        with self._connection() as db:
            try:
                patience = deadline - time.monotonic()
                self._begin(db, write=write, patience=patience)
                db.execute(f"LOCK TABLE {self.table} IN ACCESS SHARE MODE".encode())  # before the first snapshot
                standbys = self._standbys(db)
                if write:
                    self._queue(db)
                self._check_layout(db)
                yield _Open(db, self, standbys=standbys)
            except psycopg.Error as error:
                if _is_lost(db, error):
                    raise _Again(self.lost) from None
                raise _translate(error, self._shown) from None

    def _queue(self, db: Connection) -> None:
        """Wait until no other writer is there. The table's own lock keeps its triggers as they are until the end."""
        db.execute(
            f"LOCK TABLE {self.table} IN ROW EXCLUSIVE MODE; SELECT pg_advisory_xact_lock("
            f"({_LOCK_CLASS}::bigint << 32) | '{self.table}'::regclass::oid::bigint)".encode()
        )

    def _begin(self, db: Connection, *, write: bool, patience: float) -> None:
        """Begin a transaction with settings that neither the address nor the server decides."""
        patience = max(0.0, patience)
        db.execute(
            f"BEGIN ISOLATION LEVEL {'READ COMMITTED' if write else 'REPEATABLE READ READ ONLY'};"
            "SET LOCAL search_path = pg_catalog, pg_temp;"
            "SET LOCAL row_security = off;"  # a policy that hides rows becomes an error
            "SET LOCAL client_min_messages = warning;"  # `commit` listens for them
            f"SET LOCAL lock_timeout = {max(1, int(1000 * patience))};"
            f"SET LOCAL statement_timeout = {int(1000 * (patience + _SLOW))};"
            f"SET LOCAL idle_in_transaction_session_timeout = {int(1000 * _SLOW)}".encode()
        )

    def _standbys(self, db: Connection) -> bool:
        """Make commits wait for the disk; returns whether they wait for other servers too.

        Raises:
            OperationError: the server is a replica, or does not hand its log to the disk.
        """
        found = db.execute(
            b"SELECT pg_is_in_recovery(), current_setting('fsync'), current_setting('synchronous_standby_names'),"
            b" set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
            b" WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)"
        ).fetchone()
        assert found is not None
        if found[0]:
            raise OperationError(f"{self._shown} is a replica there: give the address of the primary server")
        if found[1] != "on":
            raise OperationError(f"the server of {self._shown} runs with fsync off and may forget charges: turn it on")
        return bool(found[2])

    def _check_layout(self, db: Connection) -> None:
        function = _FUNCTION.format(schema=self._schema)
        expected = [line.format(schema=self._schema) for line in _LAYOUT]
        expected.append(f"function plpgsql false search_path=pg_catalog, pg_temp {function}")
        found = [line for _, _, line in db.execute(_DESCRIBED.encode(), {"schema": self._schema})]
        if found != expected:
            raise changed(self._shown)

    def _not_made(self, db: Connection, error: psycopg.Error) -> DpsynthError | _Again:
        """Why a ledger was not made."""
        if error.sqlstate in ("42P06", "23505"):
            return UsageError(f"{self._shown} exists already: choose another name (?ledger=NAME)")
        if error.sqlstate == _RIGHTS:
            return OperationError(
                "the role may not make a ledger: have it granted CREATE on the database, or ask who may"
            )
        if _is_lost(db, error):
            return OperationError(
                f"the connection to {self._shown} was lost: dpsynth ledger show says whether it was made"
            )
        return _translate(error, self._shown)
