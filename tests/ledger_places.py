"""Where the ledgers of the tests lie: an SQLite file or a PostgreSQL server; and what its owner can do to it there.

A test about the store runs on both (`@both`); a test about the account runs on a file.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import pytest

Row: TypeAlias = tuple[int, bytes, bytes]
_NUMBERS = itertools.count()

both = pytest.mark.parametrize("place", ["sqlite", "postgresql"], indirect=True)


class Place(Protocol):
    """The place of one ledger."""

    @property
    def address(self) -> str | Path:
        """What the ledger is opened with."""

    def beside(self) -> Place:
        """Another one of the same kind."""

    def rows(self) -> list[Row]:
        """All rows, as the store keeps them."""

    def forge(self, rows: Sequence[Row]) -> None:
        """Exchange all rows, as an owner can who puts the triggers back."""

    def try_to(self, statement: str) -> bool:
        """Whether the database lets its owner run a statement with the triggers in place."""

    def held(self) -> Callable[[], object]:
        """A function that takes the writers' lock, as another process would; `free` gives it back."""

    def free(self) -> None: ...


class SqlitePlace:
    """A file."""

    def __init__(self, path: Path) -> None:
        self.address = path
        self._holder: sqlite3.Connection | None = None

    def beside(self) -> SqlitePlace:
        return SqlitePlace(self.address.with_name(f"{next(_NUMBERS)}.db"))

    def rows(self) -> list[Row]:
        with closing(sqlite3.connect(self.address)) as db:
            db.text_factory = bytes
            return db.execute("SELECT seq, body, hash FROM entries ORDER BY seq").fetchall()

    @contextmanager
    def unlocked(self) -> Iterator[sqlite3.Connection]:
        """A transaction on the file without its triggers, which are put back at the end."""
        with closing(sqlite3.connect(self.address, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = OFF")
            db.execute("BEGIN")
            triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
            for name, _ in triggers:
                db.execute(f"DROP TRIGGER {name}")
            yield db
            for _, definition in triggers:
                db.execute(definition)
            db.execute("COMMIT")

    def forge(self, rows: Sequence[Row]) -> None:
        with self.unlocked() as db:
            db.execute("DELETE FROM entries")
            db.executemany("INSERT INTO entries VALUES (?, CAST(? AS TEXT), CAST(? AS TEXT))", rows)

    def try_to(self, statement: str) -> bool:
        with closing(sqlite3.connect(self.address)) as db:
            try:
                db.execute(statement)
            except sqlite3.IntegrityError:
                return False
            db.commit()
            return True

    def held(self) -> Callable[[], object]:
        self._holder = sqlite3.connect(self.address, isolation_level=None, check_same_thread=False)
        holder = self._holder
        return lambda: holder.execute("BEGIN IMMEDIATE")

    def free(self) -> None:
        if self._holder is not None:
            self._holder.close()


class PostgresPlace:
    """A schema on a server."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.name = f"t{os.getpid()}_{next(_NUMBERS)}"
        self.address = f"{server}&ledger={self.name}"
        self._holder: Any = None

    @property
    def schema(self) -> str:
        return f"dpsynth_{self.name}"

    def beside(self) -> PostgresPlace:
        return PostgresPlace(self.server)

    def connect(self) -> Any:
        import psycopg

        return psycopg.connect(self.server, autocommit=True, options=f"-c search_path={self.schema}")

    def rows(self) -> list[Row]:
        with self.connect() as db:
            found: list[Row] = db.execute("SELECT seq, body, hash FROM entries ORDER BY seq", binary=True).fetchall()
            return found

    def change(self, *statements: str) -> None:
        """Run statements without the triggers, which are put back at the end."""
        with self.connect() as db, db.transaction():
            db.execute("ALTER TABLE entries DISABLE TRIGGER ALL")
            for statement in statements:
                db.execute(statement)
            for trigger in ("entries_stay", "entries_follow"):
                db.execute(f"ALTER TABLE entries ENABLE ALWAYS TRIGGER {trigger}")

    def forge(self, rows: Sequence[Row]) -> None:
        values = ", ".join(f"({seq}, '\\x{body.hex()}', '\\x{digest.hex()}')" for seq, body, digest in rows)
        self.change("DELETE FROM entries", *([f"INSERT INTO entries VALUES {values}"] if rows else []))

    def try_to(self, statement: str) -> bool:
        import psycopg

        with self.connect() as db:
            try:
                db.execute(statement)
            except psycopg.Error:
                return False
            return True

    def held(self) -> Callable[[], object]:
        from dpsynth.ledger.postgres import _LOCK_CLASS

        self._holder = self.connect()
        key = f"({_LOCK_CLASS}::bigint << 32) | 'entries'::regclass::oid::bigint"
        return lambda: self._holder.execute(f"BEGIN; SELECT pg_advisory_xact_lock({key})")

    def free(self) -> None:
        if self._holder is not None:
            self._holder.close()


@contextmanager
def lock_held_later(place: Place) -> Iterator[Callable[[], object]]:
    """A function that takes the write lock, which is held to the end of the block."""
    take = place.held()
    try:
        yield take
    finally:
        place.free()


@contextmanager
def lock_held(place: Place) -> Iterator[None]:
    """Another connection inside a write transaction, as another process would hold it."""
    with lock_held_later(place) as take:
        take()
        yield
