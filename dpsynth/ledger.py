"""The privacy ledger: an append-only, hash-chained account of what a population has spent.

A ledger belongs to people, not to a file: one population, one privacy unit, one cap. A release charges its whole cost
before the first row is read, and a charge is given back only if the reservation was never started. The state of a
ledger is nothing but its entries replayed: the same rules (`_Account`) decide what may be written and verify what was.

    RESERVE ──start()──> START ──clean exit──> COMMIT          charged
       │                   └────exception────> FORFEIT         charged
       ├──exit without start()───────────────> RELEASE_UNUSED  given back
       └──crash (also after START)──────────>  orphan          charged

Each entry is one canonical JSON text (RFC 8785 without floats) that holds the SHA-256 of the entry before it. What
the chain proves alone, and what only an `Anchor` kept elsewhere can prove, is told in docs/ledger.md.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import sqlite3
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, NoReturn, Self, TypeAlias, TypeVar
from urllib.parse import quote

from dpsynth.canonical import canonical, from_canonical
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
from dpsynth.privacy import Cap, Cost, Neighbours, Number, PrivacyUnit, exact

Kind: TypeAlias = Literal[
    "GENESIS",
    "RESERVE",
    "START",
    "COMMIT",
    "FORFEIT",
    "RELEASE_UNUSED",
    "AMEND",
    "DENY",
    "IMPORT_EXTERNAL",
    "ANCHOR",
]
State: TypeAlias = Literal["reserved", "started", "committed", "forfeited", "released"]
Begin: TypeAlias = Literal["BEGIN", "BEGIN IMMEDIATE"]
Draft: TypeAlias = tuple[Kind, dict[str, Any]]
Row: TypeAlias = tuple[Any, Any, Any]  # seq, body, hash as SQLite gives them: nothing about them is sure yet
T = TypeVar("T")

FORMAT: Final = "dpsynth.ledger/1"
TIMEOUT: Final = 5.0  # seconds to wait for another process's write lock
_PAUSE: Final = 0.003  # seconds between two attempts
_NO_HASH: Final = "0" * 64  # what GENESIS names as the entry before it

# ---- the file ----------------------------------------------------------------------------------------------------

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
    if str(path).startswith(("postgresql://", "postgres://")):
        raise UsageError("ledgers in PostgreSQL are not supported yet: give the path of a file")
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
        db.text_factory = bytes  # invalid UTF-8 is for us to refuse, in `_parse`
        for setting in _SETTINGS:
            db.execute(setting)
        db.execute(begin)
        if frozenset(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")) != _layout():
            raise IntegrityError(f"{path} is not a dpsynth ledger, or its tables were changed: do not use it")
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
        return _locked(path)
    if _code(error) == sqlite3.SQLITE_FULL:
        return OperationError(f"the disk that holds {path} is full: free some space and try again")
    if _code(error) in _SURROUNDINGS:
        return OperationError(f"{path} could not be read or written: check the disk and the permissions of its folder")
    return _damaged(path)


def _damaged(path: Path) -> IntegrityError:
    return IntegrityError(f"{path} is damaged or not a ledger: do not use it, and compare it with issued releases")


def _locked(path: Path) -> LedgerLocked:
    return LedgerLocked(f"another process holds {path}: try again when it has finished")


def _run(path: Path, timeout: float, begin: Begin, work: Callable[[sqlite3.Connection], T]) -> T:
    """The result of `work` in one transaction, which is rolled back unless `work` commits it."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            with _DOOR, closing(_connect(path, begin)) as db:
                return work(db)
        except _Busy:
            if time.monotonic() >= deadline:
                raise _locked(path) from None
        except sqlite3.Error as error:
            raise _translate(error, path) from error
        except UnicodeDecodeError as error:  # SQLite quotes the damaged bytes in its message
            raise _damaged(path) from error
        time.sleep(_PAUSE)


def _rows(db: sqlite3.Connection, *, after: int = -1) -> Iterator[Row]:
    return db.execute("SELECT seq, body, hash FROM entries WHERE seq > ? ORDER BY seq", (after,))


def _insert(db: sqlite3.Connection, row: Row) -> None:
    seq, body, digest = row
    db.execute("INSERT INTO entries (seq, body, hash) VALUES (?, ?, ?)", (seq, body.decode(), digest.decode()))


def _check_pages(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a file whose pages are damaged, also where reading the entries would pass over it."""
    if db.execute("PRAGMA quick_check(1)").fetchone() != (b"ok",):
        raise _damaged(path)


def _write_new(path: Path, genesis: Draft) -> None:
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
            account = _Account()
            row = account.row(genesis)
            account.take(row)
            _insert(db, row)
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


# ---- what stands in an entry ---------------------------------------------------------------------------------------


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


_WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,999}")
_FRACTION: Final = re.compile(r"(0|[1-9][0-9]{0,999})(/[1-9][0-9]{0,999})?")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_LONGEST_TEXT: Final = 2000  # characters


def _whole(text: object) -> int:
    """The non-negative integer that an entry holds as text."""
    if not isinstance(text, str) or not _WHOLE.fullmatch(text):
        raise ValueError("not an integer")
    return int(text)


def _fraction(text: object) -> Fraction:
    """The non-negative fraction that an entry holds as text; exponents are refused, which could take for ever."""
    if not isinstance(text, str) or not _FRACTION.fullmatch(text):
        raise ValueError("not a fraction")
    return Fraction(text)


def _is_text(value: object, *, empty: bool = False) -> bool:
    """Whether a person's words may stand in the ledger: short and printable, so that no terminal obeys them."""
    return isinstance(value, str) and value.isprintable() and (empty or bool(value)) and len(value) <= _LONGEST_TEXT


def _rounded_up(value: Fraction, digits: int) -> Fraction:
    """The smallest multiple of 10^-digits that is not below `value`."""
    return Fraction(math.ceil(value * 10**digits), 10**digits)


def _recordable(cost: Cost) -> Cost:
    """The cost as an entry can hold it, rounded up where sums of its fractions could grow without end.

    rho stays exact unless its denominator has more than 100 digits; delta0 is kept to 40 digits after the point.
    """
    rho = cost.rho if cost.rho.denominator < 10**100 else _rounded_up(cost.rho, 100)
    if rho > 10**30 or any(loss > 10**30 for loss in cost.extra) or cost.delta0 > 1 - Fraction(1, 10**40):
        raise UsageError("a cost this large protects nobody: declare the release as not differentially private")
    return Cost(rho, cost.extra, _rounded_up(cost.delta0, 40))


def _recordable_cap(cap: Cap) -> Cap:
    """The cap, if an entry can hold it."""
    numbers = (cap.epsilon, cap.delta)
    if any(max(number.numerator, number.denominator) >= 10**100 for number in numbers):
        raise UsageError("epsilon and delta must be numbers of at most 100 digits")
    return cap


def _check_texts(**texts: str) -> None:
    for name, value in texts.items():
        if not _is_text(value, empty=name == "requested_by"):
            raise UsageError(f"{name} must be printable text of 1 to {_LONGEST_TEXT} characters")


@lru_cache(maxsize=4096)
def _cost_of(rho: str, delta0: str, extra: tuple[int | str, ...]) -> Cost:
    losses = tuple(loss if isinstance(loss, int) else _whole(loss) for loss in extra)
    return Cost.from_json({"rho": str(_fraction(rho)), "delta0": str(_fraction(delta0)), "extra": list(losses)})


def _cost(data: Any) -> Cost:
    """The cost that an entry holds: `Cost.to_json` after `canonical`."""
    if not data.keys() <= {"rho", "delta0", "extra"} or any(type(loss) is bool for loss in data.get("extra", ())):
        raise ValueError("not a cost")
    return _cost_of(data["rho"], data["delta0"], tuple(data.get("extra", ())))


def _cap(data: Any) -> Cap:
    for key in ("epsilon", "delta", "order", "delta0"):
        _fraction(data[key])
    _whole(data["nano"])
    return Cap.from_json(data)


def _unit(data: Any) -> PrivacyUnit:
    if data.keys() != {"entity", "max_rows", "neighbours"} or type(data["max_rows"]) is not int:
        raise ValueError("not a unit")
    return _unit_of(data["entity"], data["max_rows"], data["neighbours"])


@lru_cache(maxsize=64)
def _unit_of(entity: str, max_rows: int, neighbours: Neighbours) -> PrivacyUnit:
    if not _is_text(entity):
        raise ValueError("not an entity")
    return PrivacyUnit(entity=entity, max_rows=max_rows, neighbours=neighbours)


# ---- entries and the rules they obey -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the ledger; `fields` holds what its kind adds."""

    seq: int
    time: str  # UTC, told by the writer's clock: informative, the order is `seq`
    kind: Kind
    fields: Mapping[str, Any]
    prev_hash: str
    hash: str


_COMMON: Final = frozenset({"ledger_id", "seq", "time", "kind", "prev_hash", "tool_version"})
_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "GENESIS": frozenset({"format", "population", "entity", "neighbours", "cap", "parents"}),
    "RESERVE": frozenset(
        {"job_id", "attempt", "purpose", "requested_by", "unit", "cost", "charge", "charged_before", "charged_after"}
    ),
    "START": frozenset({"reservation"}),
    "COMMIT": frozenset({"reservation", "spent", "spends", "artifact_sha256"}),
    "FORFEIT": frozenset({"reservation"}),  # and nothing about why: an exception may depend on the rows
    "RELEASE_UNUSED": frozenset({"reservation", "charged_before", "charged_after"}),
    "AMEND": frozenset({"cap_before", "cap", "reason", "approver"}),
    "DENY": frozenset({"refusal", "job_id", "purpose", "requested_by", "unit", "cost", "charge"}),
    "IMPORT_EXTERNAL": frozenset({"cost", "note", "charged_before", "charged_after"}),
    "ANCHOR": frozenset({"witness", "anchored_seq", "anchored_head"}),
}


@lru_cache(maxsize=1)
def _tool_version() -> str:
    try:
        return metadata.version("dpsynth")
    except metadata.PackageNotFoundError:
        return "unknown"


@dataclass
class _Claim:
    """One RESERVE entry and what became of it."""

    seq: int
    job_id: str
    cost: Cost
    charge: int  # nano-units at the cap's order
    unit: PrivacyUnit
    purpose: str
    state: State = "reserved"


def _require(condition: bool, broken_rule: str) -> None:
    if not condition:
        raise ValueError(broken_rule)


@dataclass
class _Account:
    """What the entries so far add up to. `take` is the only way to change it and refuses an illegal entry.

    An account that raised in `take` may be half changed and must be thrown away.
    """

    ledger_id: str = ""
    population: str = ""
    entity: str = ""
    neighbours: Neighbours = "add_remove"
    parents: tuple[tuple[str, str], ...] = ()  # (ledger id, population)
    heads: list[str] = field(default_factory=list)  # hash of every entry
    caps: list[Cap] = field(default_factory=list)  # the last one holds
    nano: int = 0  # charged, at the cap's order
    delta0: Fraction = Fraction(0)
    claims: dict[int, _Claim] = field(default_factory=dict)
    jobs: dict[str, _Claim] = field(default_factory=dict)  # the latest claim of each job id
    imported: list[Cost | None] = field(default_factory=list)  # None: not differentially private
    amendments: list[Mapping[str, Any]] = field(default_factory=list)
    deposits: list[tuple[Anchor, str]] = field(default_factory=list)  # heads known to lie elsewhere, and where
    denied: int = 0

    @property
    def seq(self) -> int:
        return len(self.heads) - 1

    @property
    def head(self) -> str:
        return self.heads[-1] if self.heads else _NO_HASH

    @property
    def cap(self) -> Cap:
        return self.caps[-1]

    @property
    def anchor(self) -> Anchor:
        return Anchor(ledger_id=self.ledger_id, seq=self.seq, head=self.head)

    def contains(self, anchor: Anchor) -> bool:
        """Whether the entry that the anchor names is part of this history."""
        return anchor.ledger_id == self.ledger_id and anchor.seq <= self.seq and self.heads[anchor.seq] == anchor.head

    def unclosed(self) -> set[int]:
        """Reservations that nothing closed; seen from outside, running and crashed ones look the same."""
        return {claim.seq for claim in self.claims.values() if claim.state in ("reserved", "started")}

    def protects(self, unit: PrivacyUnit) -> bool:
        """Whether the unit is this ledger's; max_rows may differ, as each release bounds for itself."""
        return (unit.entity, unit.neighbours) == (self.entity, self.neighbours)

    def sums(self, nano: int, delta0: Fraction) -> dict[str, Any]:
        """What an entry that charges, or gives back, says about the totals before and after it."""
        return {
            "charged_before": {"nano": str(self.nano), "delta0": str(self.delta0)},
            "charged_after": {"nano": str(self.nano + nano), "delta0": str(self.delta0 + delta0)},
        }

    def row(self, draft: Draft) -> Row:
        """The database row of a new entry."""
        kind, fields = draft
        body = {
            "ledger_id": self.ledger_id or fields.pop("ledger_id"),
            "seq": self.seq + 1,
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "kind": kind,
            "prev_hash": self.head,
            "tool_version": _tool_version(),
        }
        text = canonical(body | fields)
        return self.seq + 1, text, _digest(text).encode()

    def take(self, row: Row) -> Entry:
        """Check one row against the chain and the rules, and count it.

        Raises:
            IntegrityError: the row could not have been written by this program after the rows before it.
        """
        seq, body, digest = row
        if seq != self.seq + 1:
            raise _broken(self.seq + 1, "it is missing")
        if not isinstance(body, bytes) or not isinstance(digest, bytes) or _digest(body).encode() != digest:
            raise _broken(seq, "its hash does not match its content")
        entry, ledger_id = _parse(seq, body, digest.decode())
        if entry.prev_hash != self.head:
            raise _broken(seq, "it does not follow from the entry before it")
        try:
            _require((entry.kind == "GENESIS") == (seq == 0), "GENESIS stands first and only there")
            _require(seq == 0 or ledger_id == self.ledger_id, "it belongs to another ledger")
            if entry.kind == "GENESIS":
                self._genesis(ledger_id, entry.fields)
            else:
                _RULES[entry.kind](self, seq, entry.fields)
        except (UsageError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as wrong:
            raise _broken(seq, f"it breaks a rule of its kind ({entry.kind})") from wrong
        self.heads.append(entry.hash)
        return entry

    def _genesis(self, ledger_id: str, fields: Mapping[str, Any]) -> None:
        _require(fields["format"] == FORMAT, "unknown format")
        _require(_is_text(ledger_id) and _is_text(fields["population"]) and _is_text(fields["entity"]), "text")
        _require(fields["neighbours"] in ("add_remove", "replace"), "neighbours")
        _require(all(p.keys() == {"ledger_id", "population"} for p in fields["parents"]), "parents")
        _require(all(_is_text(name) for p in fields["parents"] for name in p.values()), "parents")
        self.ledger_id, self.population = ledger_id, fields["population"]
        self.entity, self.neighbours = fields["entity"], fields["neighbours"]
        self.parents = tuple((p["ledger_id"], p["population"]) for p in fields["parents"])
        self.caps.append(_cap(fields["cap"]))

    def _reserve(self, seq: int, fields: Mapping[str, Any]) -> None:
        cost, unit, job_id = _cost(fields["cost"]), _unit(fields["unit"]), fields["job_id"]
        _require(_is_text(job_id) and _is_text(fields["purpose"]), "text")
        _require(_is_text(fields["requested_by"], empty=True), "text")
        _require(type(fields["attempt"]) is int and fields["attempt"] == len(self.claims) + 1, "attempts are counted")
        _require(self.protects(unit), "unit")
        _require(job_id not in self.jobs or self.jobs[job_id].state == "released", "a job is charged once")
        _require(self.cap.admits(self.nano, self.delta0, cost), "the cap is passed")
        charge = cost.at(self.cap.order)
        _require(_whole(fields["charge"]) == charge, "charge")
        self._count(charge, cost.delta0, fields)
        claim = _Claim(seq, job_id, cost, charge, unit, fields["purpose"])
        self.claims[seq] = self.jobs[job_id] = claim

    def _start(self, seq: int, fields: Mapping[str, Any]) -> None:
        self._move(fields, "reserved", "started")

    def _commit(self, seq: int, fields: Mapping[str, Any]) -> None:
        claim, spent = self._move(fields, "started", "committed"), fields["spent"]
        _require(spent.keys() == {"nano", "delta0"}, "spent")
        _require(_whole(spent["nano"]) <= claim.charge, "spent more than reserved")
        _require(_fraction(spent["delta0"]) <= claim.cost.delta0, "spent more than reserved")
        _require(type(fields["spends"]) is int and fields["spends"] >= 0, "spends")
        artifact = fields["artifact_sha256"]
        _require(artifact is None or bool(_SHA256.fullmatch(artifact)), "artifact")

    def _forfeit(self, seq: int, fields: Mapping[str, Any]) -> None:
        self._move(fields, "started", "forfeited")

    def _release_unused(self, seq: int, fields: Mapping[str, Any]) -> None:
        claim = self._move(fields, "reserved", "released")
        self._count(-claim.charge, -claim.cost.delta0, fields)

    def _amend(self, seq: int, fields: Mapping[str, Any]) -> None:
        before, after = _cap(fields["cap_before"]), _cap(fields["cap"])
        _require(before == self.cap and after == before.raised(after.epsilon), "a cap only goes up")
        _require(_is_text(fields["reason"]) and _is_text(fields["approver"]), "text")
        self.caps.append(after)
        self.amendments.append(
            {
                "seq": seq,
                "from_epsilon": str(before.epsilon),
                "to_epsilon": str(after.epsilon),
                "reason": fields["reason"],
                "approver": fields["approver"],
            }
        )

    def _deny(self, seq: int, fields: Mapping[str, Any]) -> None:
        cost, unit = _cost(fields["cost"]), _unit(fields["unit"])
        _require(_is_text(fields["job_id"]) and _is_text(fields["purpose"]), "text")
        _require(_is_text(fields["requested_by"], empty=True), "text")
        _require(_whole(fields["charge"]) == cost.at(self.cap.order), "charge")
        fits = self.cap.admits(self.nano, self.delta0, cost)
        _require(fields["refusal"] == ("budget" if self.protects(unit) else "unit"), "refusal")
        _require(fields["refusal"] == "unit" or not fits, "denied what fits")
        self.denied += 1

    def _import_external(self, seq: int, fields: Mapping[str, Any]) -> None:
        cost = None if fields["cost"] is None else _cost(fields["cost"])
        _require(_is_text(fields["note"]), "text")
        self._count(cost.at(self.cap.order) if cost else 0, cost.delta0 if cost else Fraction(0), fields)
        self.imported.append(cost)

    def _anchor(self, seq: int, fields: Mapping[str, Any]) -> None:
        anchored = fields["anchored_seq"]
        _require(type(anchored) is int and 0 <= anchored < seq, "it names a later entry")
        _require(fields["anchored_head"] == self.heads[anchored] and _is_text(fields["witness"]), "anchor")
        self.deposits.append((Anchor(self.ledger_id, anchored, self.heads[anchored]), fields["witness"]))

    def _move(self, fields: Mapping[str, Any], before: State, after: State) -> _Claim:
        _require(type(fields["reservation"]) is int, "reservation")
        claim = self.claims[fields["reservation"]]
        _require(claim.state == before, "order of kinds")
        claim.state = after
        return claim

    def _count(self, nano: int, delta0: Fraction, fields: Mapping[str, Any]) -> None:
        """Add a charge; the entry's own sums must agree."""
        expected = self.sums(nano, delta0)
        _require(all(fields[key] == value for key, value in expected.items()), "sums")
        self.nano, self.delta0 = self.nano + nano, self.delta0 + delta0


_RULES: Final[Mapping[str, Callable[[_Account, int, Mapping[str, Any]], None]]] = {
    "RESERVE": _Account._reserve,
    "START": _Account._start,
    "COMMIT": _Account._commit,
    "FORFEIT": _Account._forfeit,
    "RELEASE_UNUSED": _Account._release_unused,
    "AMEND": _Account._amend,
    "DENY": _Account._deny,
    "IMPORT_EXTERNAL": _Account._import_external,
    "ANCHOR": _Account._anchor,
}


def _broken(seq: int, what: str) -> IntegrityError:
    return IntegrityError(
        f"the ledger was damaged or changed at entry {seq} ({what}): do not use it, and compare it with issued releases"
    )


def _parse(seq: int, body: bytes, digest: str) -> tuple[Entry, str]:
    """The entry that a body holds, and its ledger's id; the body must be the canonical text of its content."""
    try:
        data = from_canonical(body)
        kind = data["kind"]
        _require(data.keys() == _COMMON | _FIELDS[kind], "fields")
        _require(type(data["seq"]) is int and data["seq"] == seq, "seq")
        _require(all(isinstance(data[key], str) for key in _COMMON if key != "seq"), "text")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as wrong:
        raise _broken(seq, "it is not an entry in canonical form") from wrong
    fields = {key: value for key, value in data.items() if key not in _COMMON}
    entry = Entry(seq=seq, time=data["time"], kind=kind, fields=fields, prev_hash=data["prev_hash"], hash=digest)
    return entry, data["ledger_id"]


# ---- what the ledger hands out -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Anchor:
    """The head of a ledger as somebody outside it keeps it: a witness against cutting, rewriting and restoring."""

    ledger_id: str
    seq: int
    head: str

    def __post_init__(self) -> None:
        if type(self.seq) is not int or self.seq < 0 or not _SHA256.fullmatch(self.head):
            raise UsageError("an anchor is a ledger id, the number of an entry and 64 lower-case hexadecimal digits")

    def to_json(self) -> dict[str, Any]:
        """What a manifest says under "ledger"."""
        return {"ledger_id": self.ledger_id, "seq": self.seq, "head": self.head}

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Anchor:
        """The anchor that a release carries, from its manifest.json.

        Raises:
            UsageError: the manifest names no ledger head.
        """
        match manifest.get("ledger"):
            case {"ledger_id": str(ledger_id), "seq": int(seq), "head": str(head)}:
                return cls(ledger_id, seq, head)
            case _:
                raise UsageError("the manifest names no ledger head: give the manifest.json of a release")


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What verification found: `ok` is the absence of problems, within what was checked."""

    ok: bool
    problems: tuple[str, ...]
    checked: tuple[str, ...]
    not_checked: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class LedgerExtract:
    """The totals of a ledger at one entry; no purposes, no job ids, no names of requesters.

    Args:
        ledger_id, seq, head: The entry after which the totals hold; fit for an `Anchor`.
        cap: The cap after all amendments.
        charged_nano: Renyi loss charged at the cap's order, in nano-units; over the cap only through imports.
        charged: The charged costs added up: the lifetime loss of a person who took part in everything.
        attempts: Reservations ever made, released ones included.
        denied: Requests refused.
        orphans: Reservations that were neither closed nor given back: crashed, or running in this moment elsewhere.
        amendments: seq, from_epsilon, to_epsilon, reason and approver of each.
        imports: External releases declared; `imports_not_dp` of them without differential privacy.
    """

    ledger_id: str
    seq: int
    head: str
    population: str
    entity: str
    neighbours: Neighbours
    cap: Cap
    charged_nano: int
    charged: Cost
    attempts: int
    denied: int
    orphans: int
    amendments: tuple[Mapping[str, Any], ...]
    imports: int
    imports_not_dp: int

    @property
    def cap_epsilon(self) -> Fraction:
        return self.cap.epsilon

    @property
    def cap_delta(self) -> Fraction:
        return self.cap.delta

    @property
    def cap_nano(self) -> int:
        return self.cap.nano

    @property
    def order(self) -> Fraction:
        return self.cap.order

    @property
    def remaining_nano(self) -> int:
        """What a new release may still cost at the cap's order, in nano-units."""
        return max(0, self.cap.nano - self.charged_nano)

    @property
    def anchor(self) -> Anchor:
        return Anchor(self.ledger_id, self.seq, self.head)


class Ledger:
    """The account of one population in one SQLite file. `create` makes it, `open` verifies and opens it.

    Safe to use from many threads and after a fork: every call opens a connection of its own, and all writers queue at
    SQLite's write lock, where one transaction both checks and appends.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = TIMEOUT) -> None:
        """As `open`."""
        self.path: Final = _existing(path)
        self._timeout: Final = timeout
        self._account: _Account | None = None  # verified so far; None: start again from the first entry
        self._seen: Anchor | None = None  # the newest head seen: history may grow from here, never change

        def work(db: sqlite3.Connection) -> _Account:
            account = self._caught_up(db)
            _check_pages(db, self.path)
            return account

        account = _run(self.path, timeout, "BEGIN", work)
        self.ledger_id: Final = account.ledger_id
        self.population: Final = account.population
        self.entity: Final = account.entity
        self.neighbours: Final = account.neighbours
        self.parents: Final = account.parents

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, timeout: float = TIMEOUT) -> Ledger:
        """An existing ledger, its whole chain verified.

        Args:
            path: The file.
            timeout: Seconds to wait, in this and every later call, for a lock that another process holds.
        Raises:
            UsageError: there is no such file.
            IntegrityError: it is not a ledger, damaged, or an entry breaks the chain or a rule.
            LedgerLocked, OperationError: another process holds it; the disk failed.
        """
        return cls(path, timeout=timeout)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        population: str,
        epsilon: Number,
        delta: Number,
        entity: str = "row",
        neighbours: Neighbours = "add_remove",
        parents: Sequence[Ledger] = (),
        timeout: float = TIMEOUT,
    ) -> Ledger:
        """A new ledger; the file (mode 0600) appears whole or not at all.

        Args:
            path: Where it shall lie, on a local disk.
            population: The people it protects, by a name that outlives any file.
            epsilon, delta: The cap on everything that is ever released about one unit.
            entity, neighbours: The unit of privacy and the relation, as in the schema.
            parents: Ledgers of the populations that this one was derived or joined from; every release must then
                charge them too, through `reserve_all`.
        Raises:
            UsageError: the file exists, or a value is out of range.
            OperationError: the disk failed.
        """
        real = _local_path(path)
        _check_texts(population=population, entity=entity)
        PrivacyUnit(entity=entity, max_rows=1, neighbours=neighbours)
        genesis: Draft = (
            "GENESIS",
            {
                "ledger_id": str(uuid.uuid4()),
                "format": FORMAT,
                "population": population,
                "entity": entity,
                "neighbours": neighbours,
                "cap": _recordable_cap(Cap.of(epsilon, delta)).to_json(),
                "parents": [{"ledger_id": p.ledger_id, "population": p.population} for p in parents],
            },
        )
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

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r}, population={self.population!r})"

    # -- reading

    @property
    def head(self) -> tuple[int, str]:
        """Sequence number and hash of the last entry."""
        anchor = self.anchor
        return anchor.seq, anchor.head

    @property
    def anchor(self) -> Anchor:
        """The head in the form in which a witness keeps it."""
        return self._look(lambda account: account.anchor)

    @property
    def cap(self) -> Cap:
        """The cap after all amendments."""
        return self._look(lambda account: account.cap)

    def entries(self) -> tuple[Entry, ...]:
        """All entries, the oldest first."""

        def work(db: sqlite3.Connection) -> tuple[Entry, ...]:
            self._caught_up(db)
            return tuple(_parse(seq, body, digest.decode())[0] for seq, body, digest in _rows(db))

        return _run(self.path, self._timeout, "BEGIN", work)

    def orphans(self) -> tuple[Entry, ...]:
        """The RESERVE entries that were neither closed nor given back; they stay charged."""
        unclosed = self._look(_Account.unclosed)
        return tuple(entry for entry in self.entries() if entry.seq in unclosed)

    def extract(self, *, running: Reservation | None = None) -> LedgerExtract:
        """The totals, from one snapshot.

        Args:
            running: The caller's own reservation, which is charged but no orphan.
        """
        own = {hold.seq for hold in running._holds if hold.ledger.ledger_id == self.ledger_id} if running else set()

        def work(account: _Account) -> LedgerExtract:
            charged = Cost.zero()
            for cost in (claim.cost for claim in account.claims.values() if claim.state != "released"):
                charged += cost
            for imported in account.imported:
                charged += imported or Cost.zero()
            return LedgerExtract(
                ledger_id=account.ledger_id,
                seq=account.seq,
                head=account.head,
                population=account.population,
                entity=account.entity,
                neighbours=account.neighbours,
                cap=account.cap,
                charged_nano=account.nano,
                charged=charged,
                attempts=len(account.claims),
                denied=account.denied,
                orphans=len(account.unclosed() - own),
                amendments=tuple(account.amendments),
                imports=len(account.imported),
                imports_not_dp=account.imported.count(None),
            )

        return self._look(work)

    def verify(self, against: Sequence[Anchor] = ()) -> VerifyReport:
        """As `inspect`, and whether the file still continues what this object has seen of it."""
        seen = self._seen
        return _report(*_replayed(self.path, self._timeout), against, seen)

    @staticmethod
    def inspect(
        path: str | os.PathLike[str], against: Sequence[Anchor] = (), *, timeout: float = TIMEOUT
    ) -> VerifyReport:
        """What a ledger file is worth, also one that is too damaged to open.

        Args:
            path: The file.
            against: Heads kept elsewhere, for example in the manifests of issued releases. Without them a chain that
                was cut short, recomputed or restored from a backup looks whole.
            timeout: Seconds to wait for a lock.
        Raises:
            UsageError: there is no such file.
            LedgerLocked, OperationError: another process holds it; the disk failed.
        """
        return _report(*_replayed(_existing(path), timeout), against, None)

    # -- writing

    def reserve(
        self, cost: Cost, *, unit: PrivacyUnit, purpose: str, job_id: str | None = None, requested_by: str = ""
    ) -> Reservation:
        """Charge a whole release, durably, before its data is touched.

        Args:
            cost: Everything that the release may spend.
            unit: The unit and relation that the release protects; they must be the ledger's.
            purpose: Why, in words that owe nothing to the data.
            job_id: Names the job across retries. The same id with the same cost, unit and purpose gets the same
                reservation without a second charge, until the job has started once. Default: a fresh one.
            requested_by: Who asked.
        Raises:
            BudgetExceeded, UnitMismatch: refused, and the refusal is in the ledger.
            AlreadyRan: the job has started before.
            UsageError: a text is not printable, the job id was used for other terms, or the ledger has parents
                (then use `reserve_all`).
            LedgerLocked, OperationError, IntegrityError: as `open`. The charge may then stand or not: try again with
                the same job id.
        Privacy: the filter adds up Renyi losses at the one order that the cap fixed when the ledger was made.
        """
        return reserve_all([self], cost, unit=unit, purpose=purpose, job_id=job_id, requested_by=requested_by)

    def amend(self, epsilon: Number, *, reason: str, approver: str) -> Cap:
        """Raise the cap; returns the new one.

        Args:
            epsilon: The new cap, above the old one, at the same delta.
            reason: Printed in every later report.
            approver: The person who answers for it.
        Raises:
            UsageError: epsilon is not higher, or a text is empty or not printable.
        """
        _check_texts(reason=reason, approver=approver)
        wanted = exact(epsilon, name="epsilon")

        def decide(account: _Account) -> Draft:
            before, after = account.cap, _recordable_cap(account.cap.raised(wanted))
            fields = {"cap_before": before.to_json(), "cap": after.to_json(), "reason": reason, "approver": approver}
            return "AMEND", fields

        entry = self._append(decide)
        assert entry is not None
        return _cap(entry.fields["cap"])

    def import_external(self, *, cost: Cost | None, note: str) -> Entry:
        """Declare an earlier release of the same people; it is charged even where it passes the cap.

        Args:
            cost: Its cost for this ledger's unit and relation; None for a release that was not differentially
                private: that one has no number and leaves a mark instead.
            note: What was released, when, to whom.
        """
        _check_texts(note=note)
        charged = None if cost is None else _recordable(cost)

        def decide(account: _Account) -> Draft:
            nano, delta0 = (charged.at(account.cap.order), charged.delta0) if charged else (0, Fraction(0))
            fields = {"cost": charged.to_json() if charged else None, "note": note}
            return "IMPORT_EXTERNAL", fields | account.sums(nano, delta0)

        entry = self._append(decide)
        assert entry is not None
        return entry

    def record_anchor(self, anchor: Anchor, *, witness: str) -> Entry:
        """Note that a head of this ledger was handed to a witness, so that `verify` can ask for it.

        Args:
            anchor: A head of this ledger, see `anchor`.
            witness: Who keeps the copy, or where it lies.
        Raises:
            UsageError: the anchor is not of this ledger.
        """
        _check_texts(witness=witness)

        def decide(account: _Account) -> Draft:
            if not account.contains(anchor):
                raise UsageError("the anchor names no entry of this ledger: take it from the ledger's own head")
            return "ANCHOR", {"witness": witness, "anchored_seq": anchor.seq, "anchored_head": anchor.head}

        entry = self._append(decide)
        assert entry is not None
        return entry

    # -- within the module

    def _look(self, work: Callable[[_Account], T]) -> T:
        """What `work` says about the account as it stands on the disk now."""
        return _run(self.path, self._timeout, "BEGIN", lambda db: work(self._caught_up(db)))

    def _append(self, decide: Callable[[_Account], Draft | None]) -> Entry | None:
        """Check and insert in one write transaction; the entry is on the disk when this returns.

        Args:
            decide: Gets the account under the write lock and returns the next entry, or None for none; it may raise.
        """

        def work(db: sqlite3.Connection) -> Entry | None:
            account = self._caught_up(db)
            draft = decide(account)
            if draft is None:
                return None
            self._account = None  # until the commit has succeeded, nothing may remember the entry
            try:
                row = account.row(draft)
                entry = account.take(row)
            except (IntegrityError, ValueError, TypeError) as unfit:
                raise UsageError("the ledger cannot record these values: use shorter texts and numbers") from unfit
            _insert(db, row)
            db.execute("COMMIT")
            self._account, self._seen = account, account.anchor
            return entry

        return _run(self.path, self._timeout, "BEGIN IMMEDIATE", work)

    def _caught_up(self, db: sqlite3.Connection) -> _Account:
        """The account including what others appended since the last call, each new entry verified."""
        account, self._account = self._account, None  # an interrupt leaves None, never a half-counted account
        if account is None or not _ends_at(db, account.seq, account.head):
            account = _Account()
        for row in _rows(db, after=account.seq):
            account.take(row)
        if account.seq < 0:
            raise _broken(0, "it is missing")
        if self._seen is not None and not account.contains(self._seen):
            raise IntegrityError(f"{self.path} no longer holds entries that were seen in it: it was cut or replaced")
        self._account, self._seen = account, account.anchor
        return account

    def _claim(self, cost: Cost, unit: PrivacyUnit, purpose: str, job_id: str, requested_by: str) -> Anchor:
        """The RESERVE entry of a job, written now or, by a retried call, found."""
        cost = _recordable(cost)
        found: list[Anchor] = []

        def decide(account: _Account) -> Draft | None:
            earlier = account.jobs.get(job_id)
            if earlier is not None and earlier.state != "released":
                if earlier.state != "reserved":
                    raise AlreadyRan(f"job {job_id} has started before and stays charged: use a new job id")
                if (earlier.cost, earlier.unit, earlier.purpose) != (cost, unit, purpose):
                    raise UsageError(f"job {job_id} was reserved with another cost, unit or purpose: use a new job id")
                found.append(Anchor(account.ledger_id, earlier.seq, account.heads[earlier.seq]))
                return None
            request = {
                "job_id": job_id,
                "purpose": purpose,
                "requested_by": requested_by,
                "unit": {"entity": unit.entity, "max_rows": unit.max_rows, "neighbours": unit.neighbours},
                "cost": cost.to_json(),
                "charge": str(cost.at(account.cap.order)),
            }
            if not account.protects(unit):
                return "DENY", request | {"refusal": "unit"}
            if not account.cap.admits(account.nano, account.delta0, cost):
                refused.append(_refusal(account, cost))
                return "DENY", request | {"refusal": "budget"}
            sums = account.sums(cost.at(account.cap.order), cost.delta0)
            return "RESERVE", request | {"attempt": len(account.claims) + 1} | sums

        refused: list[str] = []
        entry = self._append(decide)
        if entry is None:
            return found[0]
        if entry.kind == "RESERVE":
            return Anchor(self.ledger_id, entry.seq, entry.hash)
        if entry.fields["refusal"] == "unit":
            raise UnitMismatch(
                f"the ledger of {self.population} protects one {self.entity} under {self.neighbours}, not one "
                f"{unit.entity} under {unit.neighbours}: change the schema's unit or neighbours, or use another ledger"
            )
        raise BudgetExceeded(refused[0])

    def _start(self, seq: int) -> Anchor:
        """Append START; the write lock makes sure that this happens once for each reservation."""

        def decide(account: _Account) -> Draft:
            claim = account.claims[seq]
            if claim.state == "released":
                raise AlreadyRan(f"job {claim.job_id} was given up by another holder: reserve it again")
            if claim.state != "reserved":
                raise AlreadyRan(f"job {claim.job_id} has started before and stays charged: use a new job id")
            return "START", {"reservation": seq}

        entry = self._append(decide)
        assert entry is not None
        return Anchor(self.ledger_id, entry.seq, entry.hash)

    def _commit(self, seq: int, spent: Cost, spends: int, artifact_sha256: str | None) -> None:
        """Append COMMIT of a reservation that the caller has started."""

        def decide(account: _Account) -> Draft:
            delta0 = min(_rounded_up(spent.delta0, 40), account.claims[seq].cost.delta0)
            used = {"nano": str(spent.at(account.cap.order)), "delta0": str(delta0)}
            fields = {"reservation": seq, "spent": used, "spends": spends, "artifact_sha256": artifact_sha256}
            return "COMMIT", fields

        self._append(decide)

    def _forfeit(self, seq: int) -> None:
        """Append FORFEIT of a reservation that the caller has started."""
        self._append(lambda account: ("FORFEIT", {"reservation": seq}))

    def _release(self, seq: int) -> bool:
        """Give a charge back; False if the job has started, or was given back, elsewhere."""

        def decide(account: _Account) -> Draft | None:
            claim = account.claims[seq]
            if claim.state != "reserved":
                return None
            return "RELEASE_UNUSED", {"reservation": seq} | account.sums(-claim.charge, -claim.cost.delta0)

        return self._append(decide) is not None


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


def _ends_at(db: sqlite3.Connection, seq: int, head: str) -> bool:
    """Whether the file still holds the entry up to which it was verified."""
    row = db.execute("SELECT body, hash FROM entries WHERE seq = ?", (seq,)).fetchone()
    return row is not None and row[1] == head.encode() and isinstance(row[0], bytes) and _digest(row[0]) == head


def _refusal(account: _Account, cost: Cost) -> str:
    """Why a cost does not fit; facts about the ledger only."""
    cap = account.cap
    needed, left = cost.at(cap.order), max(0, cap.nano - account.nano)
    what = f"{_percent(needed, cap.nano, up=True)} of its cap where {_percent(left, cap.nano, up=False)} is left"
    advice = "ask for less epsilon, or have the cap raised with dpsynth ledger amend"
    if needed <= left:
        what = f"delta {float(cost.delta0):.3g} where {float(cap.delta0 - account.delta0):.3g} is left"
        advice = (
            "ask for less delta, or for a release that takes none of it: declare what the schema leaves to discover"
        )
    return f"the ledger of {account.population} cannot pay for this, which needs {what}: {advice}"


def _percent(part: int, whole: int, *, up: bool) -> str:
    hundredths = Fraction(10_000 * part, whole)
    return f"{(math.ceil if up else math.floor)(hundredths) / 100:.2f} %"


def _replayed(path: Path, timeout: float) -> tuple[_Account, str | None]:
    """The account of a file up to its first problem, and that problem."""
    account = _Account()

    def work(db: sqlite3.Connection) -> None:
        nonlocal account
        account = _Account()
        for row in _rows(db):
            account.take(row)
        if account.seq < 0:
            raise _broken(0, "it is missing")
        _check_pages(db, path)

    try:
        _run(path, timeout, "BEGIN", work)
    except IntegrityError as problem:
        return account, str(problem)
    return account, None


def _report(account: _Account, problem: str | None, against: Sequence[Anchor], seen: Anchor | None) -> VerifyReport:
    """Judge a replayed file against anchors, and against the head this process has seen."""
    problems, checked, not_checked = [], [], []
    if problem is not None:
        problems.append(problem)
        not_checked.append(f"everything after entry {account.seq}" if account.heads else "every entry")
    else:
        checked.append(f"{len(account.heads)} entries: every hash and link, the order of their kinds, every sum")
        if seen is not None and not account.contains(seen):
            problems.append(f"entry {seen.seq}, which this process has seen, is gone: the file was cut or replaced")
    matched = {-1}
    for anchor in dict.fromkeys(against):
        if account.contains(anchor):
            checked.append(f"entry {anchor.seq} is the one that an anchor names, and so is all before it")
            matched.add(anchor.seq)
        elif account.heads and anchor.ledger_id != account.ledger_id:
            problems.append(f"an anchor (entry {anchor.seq}) belongs to another ledger")
        elif anchor.seq <= account.seq:
            problems.append(f"entry {anchor.seq} is not the one that an anchor names: the history was rewritten")
        elif problem is None:
            problems.append(
                f"entry {anchor.seq}, which an anchor names, is missing: the file was cut or restored from a backup"
            )
        else:
            not_checked.append(f"the anchor of entry {anchor.seq}, which lies behind the damage")
    if problem is None and max(matched) < account.seq:
        not_checked.append(
            f"whether entries {max(matched) + 1} to {account.seq} are all and the original ones: no given anchor is "
            "that recent, and a file cut short or recomputed as a whole has a valid chain"
        )
    for deposit, witness in account.deposits:
        if deposit not in against:
            not_checked.append(f"the head of entry {deposit.seq} that was deposited with {witness}: it was not given")
    return VerifyReport(
        ok=not problems, problems=tuple(problems), checked=tuple(checked), not_checked=tuple(not_checked)
    )


# ---- reservations ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Hold:
    """One RESERVE entry that a reservation stands on."""

    ledger: Ledger
    seq: int


class Reservation:
    """A charge that was paid, and the only thing from which a curator may spend.

    A context manager. Between `start` and the end of the block raw rows may be read; what is spent is counted in
    memory against `limit`. A clean end appends COMMIT, an exception FORFEIT; an end without `start` gives the charge
    back. If the end cannot be recorded the charge stays, a clean end raises, and an exception goes on unchanged.

    Thread-safe. Bound to the process that made it; cannot be copied or pickled.
    """

    def __init__(
        self, holds: Sequence[_Hold], anchors: Sequence[Anchor], *, limit: Cost, unit: PrivacyUnit, job_id: str
    ) -> None:
        """Use `Ledger.reserve` or `reserve_all`."""
        self.limit: Final = limit
        self.unit: Final = unit
        self.job_id: Final = job_id
        self._holds: Final = tuple(holds)
        self._anchors = list(anchors)
        self._events: list[tuple[str, Cost]] = []
        self._spent = Cost.zero()
        self._state: State = "reserved"
        self._started: set[_Hold] = set()
        self._open = True
        self._artifact: str | None = None
        self._process: Final = os.getpid()
        self._lock: Final = threading.Lock()

    @property
    def seq(self) -> int:
        """Sequence number of the RESERVE entry (in the first ledger)."""
        return self._holds[0].seq

    @property
    def state(self) -> State:
        """The last state that this object recorded, in every ledger."""
        return self._state

    @property
    def spent(self) -> Cost:
        """What was spent so far."""
        return self._spent

    @property
    def remaining(self) -> Cost | None:
        """What is left, where limit and spending are pure zCDP; None where a difference of curves has no meaning."""
        limit, spent = self.limit, self._spent
        if not (limit.is_zcdp and spent.is_zcdp):
            return None
        return Cost.zcdp(limit.rho - spent.rho, delta0=limit.delta0 - spent.delta0)

    @property
    def events(self) -> list[tuple[str, Cost]]:
        """Purpose and cost of everything spent, in order."""
        return list(self._events)

    @property
    def anchors(self) -> tuple[Anchor, ...]:
        """For each ledger the head after the last entry about this reservation: what a release carries away."""
        return tuple(self._anchors)

    @property
    def anchor(self) -> Anchor:
        """The anchor in the first ledger."""
        return self._anchors[0]

    def start(self) -> None:
        """Record that rows may be read from now on. Once, over all processes that hold the same job.

        Raises:
            AlreadyRan: the job was started before, here or elsewhere.
            BoundToProcess: this is another process.
            LedgerLocked, OperationError, IntegrityError: it could not be recorded, so do not read.
        """
        with self._mine():
            if self._state != "reserved":
                raise AlreadyRan(f"job {self.job_id} has started before and stays charged: use a new job id")
            for place, hold in enumerate(self._holds):
                self._anchors[place] = hold.ledger._start(hold.seq)
                self._started.add(hold)
            self._state = "started"

    def spend(self, cost: Cost, *, purpose: str) -> None:
        """Count a step before it is computed.

        Raises:
            BudgetExceeded: it does not fit what is left of `limit`; nothing was counted.
            PrivacyRefusal: the reservation was not started.
            BoundToProcess: this is another process.
        """
        with self._mine():
            self._check_started()
            total = self._spent + cost
            if not total.fits(self.limit):
                raise BudgetExceeded("this step costs more than is left of the reservation: spend less on it")
            self._spent = total
            self._events.append((purpose, cost))

    def commit(self, artifact_sha256: str) -> None:
        """Name the artifact, by the SHA-256 of its manifest, that the clean end of the block will record."""
        if not _SHA256.fullmatch(artifact_sha256):
            raise UsageError("artifact_sha256 must be 64 lower-case hexadecimal digits")
        with self._mine():
            self._check_started()
            self._artifact = artifact_sha256

    def __enter__(self) -> Self:
        with self._mine():
            return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if os.getpid() != self._process:
            if error is None:
                raise _elsewhere()
            return  # a forked child unwinds: the end of the job is the parent's to record
        with self._lock:
            self._open = False
            whole = self._state == "started"
            end: State = "released" if not self._started else "committed" if whole and error is None else "forfeited"
            failures: list[Exception] = []
            recorded = True
            for hold in self._holds:  # every ledger gets its turn, whatever happens to another
                try:
                    recorded &= self._end(hold, end)
                except Exception as failure:
                    failures.append(failure)
            if recorded and not failures:
                self._state = end
        if failures and error is None:
            raise failures[0]
        if failures and error is not None:
            error.add_note(
                f"The end of job {self.job_id} could not be recorded either, it stays charged: {failures[0]}"
            )

    def _end(self, hold: _Hold, end: State) -> bool:
        """Record the end in one ledger; False if the entry's fate was decided by another holder of the job."""
        if hold not in self._started:
            return hold.ledger._release(hold.seq)
        if end == "committed":
            hold.ledger._commit(hold.seq, self._spent, len(self._events), self._artifact)
        else:
            hold.ledger._forfeit(hold.seq)
        return True

    @contextmanager
    def _mine(self) -> Iterator[None]:
        """Refuse other processes and closed reservations, then keep other threads out."""
        if os.getpid() != self._process:
            raise _elsewhere()
        with self._lock:
            if not self._open:
                raise PrivacyRefusal(f"the reservation of job {self.job_id} is closed: reserve again")
            yield

    def require_started(self) -> None:
        """Refuse unless rows may be read now.

        Raises:
            PrivacyRefusal: the reservation was not started, or is closed.
            BoundToProcess: this is another process.
        """
        with self._mine():
            self._check_started()

    def _check_started(self) -> None:
        if self._state != "started":
            raise PrivacyRefusal(f"the reservation of job {self.job_id} was not started: call start() first")

    def __copy__(self) -> NoReturn:
        raise BoundToProcess("a reservation cannot be copied: pass the reservation itself")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise BoundToProcess("a reservation cannot be copied: pass the reservation itself")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise BoundToProcess("a reservation cannot be pickled: reserve in the process that does the work")


def _elsewhere() -> BoundToProcess:
    return BoundToProcess("this reservation belongs to the process that made it: reserve in the one that does the work")


def reserve_all(
    ledgers: Sequence[Ledger],
    cost: Cost,
    *,
    unit: PrivacyUnit,
    purpose: str,
    job_id: str | None = None,
    requested_by: str = "",
) -> Reservation:
    """One reservation that charges several populations, as a release from joined tables must.

    All are charged or none: the first refusal gives the charges before it back. A crash in between leaves orphans,
    which stay charged; the same job id finds them again. Arguments and errors are those of `Ledger.reserve`.

    Raises:
        UsageError: no ledger, one ledger twice, or a parent of one of them is not among them.
    """
    _check_texts(purpose=purpose, requested_by=requested_by)
    job = str(uuid.uuid4()) if job_id is None else job_id
    _check_texts(job_id=job)
    names = {ledger.ledger_id for ledger in ledgers}
    if not ledgers or len(names) < len(ledgers):
        raise UsageError("give each ledger that the release has to charge, once")
    for parent, population in (parent for ledger in ledgers for parent in ledger.parents):
        if parent not in names:
            raise UsageError(f"the table derives from population {population}: charge its ledger too, with reserve_all")
    holds: list[_Hold] = []
    anchors: list[Anchor] = []
    try:
        for ledger in ledgers:
            anchors.append(ledger._claim(cost, unit, purpose, job, requested_by))
            holds.append(_Hold(ledger, anchors[-1].seq))
    except BaseException as refusal:
        for hold in holds:
            try:
                hold.ledger._release(hold.seq)
            except Exception as failure:
                refusal.add_note(f"A charge for job {job} could not be given back; it stays: {failure}")
        raise
    return Reservation(holds, anchors, limit=cost, unit=unit, job_id=job)
