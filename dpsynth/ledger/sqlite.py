"""A ledger in one SQLite file, the embedded default."""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias
from urllib.parse import quote

from dpsynth.errors import DpsynthError, OperationError, UsageError
from dpsynth.ledger.store import TIMEOUT, Row, T, Transaction, changed, damaged, locked

Begin: TypeAlias = Literal["BEGIN", "BEGIN IMMEDIATE"]

_PAUSE: Final = 0.003  # seconds between two attempts

_TABLE: Final = (
    # typeof() instead of a STRICT table: the same rule, and SQLite older than 3.37 can read the file too
    """CREATE TABLE entries (
        seq  INTEGER PRIMARY KEY,
        body TEXT NOT NULL CHECK (typeof(body) = 'text'),
        hash TEXT NOT NULL CHECK (typeof(hash) = 'text' AND length(hash) = 64)
    )""",
    "CREATE TRIGGER entries_stay BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'append only'); END",
    "CREATE TRIGGER entries_keep BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'append only'); END",
    """CREATE TRIGGER entries_follow BEFORE INSERT ON entries
        WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), -1) + 1 FROM entries)
        BEGIN SELECT RAISE(ABORT, 'append only'); END""",
)
_SETTINGS: Final = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # a transaction is on the disk when COMMIT returns
    "PRAGMA fullfsync = ON",  # macOS: past the drive's own cache
    "PRAGMA checkpoint_fullfsync = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA cell_size_check = ON",
)
_NETWORK_FILE_SYSTEMS: Final = re.compile(
    r"nfs\d?|cifs|smbfs|smb\d|afs|ncpfs|ceph|lustre|gpfs|beegfs|glusterfs|fuse\.(sshfs|glusterfs|ceph.*|s3fs|rclone)"
)

# SQLite connections must not be open while the process forks (the child would inherit half of their locks), so a fork
# waits at this door for the calls under way. It is held for one attempt at a time, never while waiting for a lock.
_DOOR = threading.RLock()
os.register_at_fork(before=_DOOR.acquire, after_in_parent=_DOOR.release, after_in_child=_DOOR.release)


class _Busy(Exception):
    """Another process holds the lock that this attempt needs."""


@lru_cache(maxsize=1)
def _layout() -> frozenset[tuple[Any, ...]]:
    """How SQLite describes `_TABLE`; a file with anything more or less is not a ledger of ours."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.text_factory = bytes
        for statement in _TABLE:
            db.execute(statement)
        return frozenset(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master"))


def _file_system(path: Path) -> str:
    """The type of file system that holds `path`, or "" where the system does not tell."""
    try:
        device = os.stat(path).st_dev
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    # a line reads: id, parent, major:minor, root, mount point, options, ... " - " type, source, options
    kinds = (line.partition(" - ")[2].split(" ")[0] for line in lines if line.split(" ")[2:3] == [number])
    return next(kinds, "")


def _local_path(path: str | os.PathLike[str]) -> Path:
    """The real path of a ledger file, on a disk where SQLite's locks hold."""
    real = Path(os.path.realpath(path))  # SQLite names its side files after the real path
    kind = _file_system(real.parent)
    if _NETWORK_FILE_SYSTEMS.fullmatch(kind):
        raise OperationError(
            f"{path} lies on a network file system ({kind}), where locks do not hold: use a local disk"
        )
    return real


def _connect(path: Path, begin: Begin) -> sqlite3.Connection:
    """A connection inside a transaction on a file with our layout.

    Raises:
        _Busy: a lock is taken.
        IntegrityError: the file is not a ledger.
    """
    db = sqlite3.connect(f"file:{quote(os.fsencode(path))}?mode=rw", uri=True, timeout=0, isolation_level=None)
    try:
        db.text_factory = bytes  # invalid UTF-8 is for us to refuse, in `parse`
        for setting in _SETTINGS:
            db.execute(setting)
        db.execute(begin)
        if frozenset(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")) != _layout():
            raise changed(str(path))
        return db
    except BaseException as error:
        db.close()
        if isinstance(error, sqlite3.Error) and _code(error) in _LOCKS:
            raise _Busy from None
        raise


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, or -1 where there is none."""
    code: int = getattr(error, "sqlite_errorcode", -1)
    return code & 0xFF if code >= 0 else -1


_LOCKS: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SURROUNDINGS: Final = {
    getattr(sqlite3, f"SQLITE_{name}")
    for name in ("IOERR", "CANTOPEN", "READONLY", "PERM", "AUTH", "NOMEM", "PROTOCOL", "INTERRUPT", "NOLFS")
}


def _translate(error: sqlite3.Error, path: Path) -> DpsynthError:
    """Our word for a failure of the database; what the surroundings cannot explain is damage."""
    if _code(error) in _LOCKS:
        return locked(str(path))
    if _code(error) == sqlite3.SQLITE_FULL:
        return OperationError(f"the disk that holds {path} is full: free some space and try again")
    if _code(error) in _SURROUNDINGS:
        return OperationError(f"{path} could not be read or written: check the disk and the permissions of its folder")
    return damaged(str(path))


def _write_new(path: Path, genesis: Row) -> None:
    """Make a ledger file beside `path`, then give it that name unless it is taken."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)  # mode 0600
    os.close(handle)
    try:
        with closing(sqlite3.connect(name, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA fullfsync = ON")
            db.execute("BEGIN IMMEDIATE")
            for statement in _TABLE:
                db.execute(statement)
            _insert(db, genesis)
            db.execute("COMMIT")
            db.execute("PRAGMA journal_mode = WAL")  # last, so that the file is whole without side files
        os.link(name, path)  # unlike a rename, a link never replaces a file
    finally:
        os.unlink(name)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _existing(path: str | os.PathLike[str]) -> Path:
    """The real path of a ledger file that is there."""
    real = _local_path(path)
    if not real.exists():
        raise UsageError(f"{path} does not exist: create it with dpsynth ledger create")
    if not real.is_file():
        raise UsageError(f"{path} is not a file: give the path of a ledger")
    if real.stat().st_nlink > 1:
        raise OperationError(f"{path} has a second name (a hard link), which defeats its locks: remove the other one")
    return real


def _insert(db: sqlite3.Connection, row: Row) -> None:
    seq, body, digest = row
    db.execute("INSERT INTO entries (seq, body, hash) VALUES (?, ?, ?)", (seq, body.decode(), digest.decode()))


class _Open:
    """A `Transaction` on an open connection."""

    def __init__(self, db: sqlite3.Connection, place: str) -> None:
        self._db = db
        self._place = place

    def rows(self, *, after: int = -1) -> Iterator[Row]:
        return self._db.execute("SELECT seq, body, hash FROM entries WHERE seq > ? ORDER BY seq", (after,))

    def row(self, seq: int) -> Row | None:
        found: Row | None = self._db.execute("SELECT seq, body, hash FROM entries WHERE seq = ?", (seq,)).fetchone()
        return found

    def append(self, row: Row) -> None:
        _insert(self._db, row)
        self._db.execute("COMMIT")

    def check(self) -> None:
        if self._db.execute("PRAGMA quick_check(1)").fetchone() != (b"ok",):
            raise damaged(self._place)


class SqliteStore:
    """The rows of a ledger in a file. All writers queue at SQLite's write lock.

    Safe to use from many threads and after a fork: every transaction has a connection of its own.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = TIMEOUT) -> None:
        """The store in an existing file.

        Args:
            path: The file.
            timeout: Seconds to wait for a lock that another process holds.
        Raises:
            UsageError: there is no such file.
            OperationError: it lies where SQLite's locks do not hold.
        """
        self.path: Final = _existing(path)
        self._timeout: Final = timeout

    @classmethod
    def create(cls, path: str | os.PathLike[str], genesis: Row, *, timeout: float = TIMEOUT) -> Self:
        """A new file (mode 0600) that holds one row; it appears whole or not at all.

        Raises:
            UsageError: the file exists, or its folder does not.
            OperationError: the disk failed.
        """
        real = _local_path(path)
        if not real.parent.is_dir():
            raise UsageError(f"the folder of {path} does not exist: create it first")
        leftovers = [real.with_name(real.name + end) for end in ("", "-wal", "-shm", "-journal")]
        if any(os.path.lexists(name) for name in leftovers):
            raise UsageError(f"{path} exists already, or side files of a ledger of that name do: choose another path")
        try:
            _write_new(real, genesis)
        except FileExistsError:
            raise UsageError(f"{path} exists already: choose another path") from None
        except OSError as error:
            raise OperationError(f"{path} could not be written: check the disk and its folder") from error
        except sqlite3.Error as error:
            raise _translate(error, real) from error
        return cls(real, timeout=timeout)

    @property
    def place(self) -> str:
        """The path of the file."""
        return str(self.path)

    def run(self, work: Callable[[Transaction], T], *, write: bool) -> T:
        """As `Store.run`: rolled back unless `work` appends."""
        begin: Begin = "BEGIN IMMEDIATE" if write else "BEGIN"
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                with _DOOR, closing(_connect(self.path, begin)) as db:
                    return work(_Open(db, self.place))
            except _Busy:
                if time.monotonic() >= deadline:
                    raise locked(self.place) from None
            except sqlite3.Error as error:
                raise _translate(error, self.path) from error
            except UnicodeDecodeError as error:  # SQLite quotes the damaged bytes in its message
                raise damaged(self.place) from error
            time.sleep(_PAUSE)
