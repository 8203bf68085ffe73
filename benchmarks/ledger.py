"""Speed of the ledger: verifying a long one, and what a reservation costs a process that has it open or opens it.

    python -m benchmarks.ledger [--entries 100000] [--place postgresql://...?ledger=NAME]

Verifying is set beside the least that any check of a hash chain must do: read every row, hash it, compare the link. The
entries are those of finished releases (RESERVE, START, COMMIT), made by the ledger's own rules and inserted in bulk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path

from benchmarks.heads import forget_ledgers
from dpsynth.addresses import is_address
from dpsynth.ledger import Anchor, Ledger
from dpsynth.ledger.account import Account
from dpsynth.ledger.entries import Draft
from dpsynth.ledger.places import existing
from dpsynth.ledger.store import Row, Transaction
from dpsynth.privacy import NANO, Cost, PrivacyUnit

PERSON = PrivacyUnit(entity="person", max_rows=5, neighbours="add_remove")
EACH = Cost.zcdp(Fraction(1, NANO))


def releases(account: Account, count: int) -> list[Row]:
    """The rows of finished releases that may follow in an account. They are not checked here, for speed."""
    charge, rows = EACH.at(account.cap.order), []
    for attempt in range(len(account.claims) + 1, len(account.claims) + count + 1):
        seq = account.seq + 1
        terms = {
            "job_id": f"job-{attempt}",
            "purpose": "nightly release",
            "requested_by": "scheduler",
            "unit": {"entity": "person", "max_rows": 5, "neighbours": "add_remove"},
            "cost": EACH.to_json(),
            "charge": str(charge),
            "attempt": attempt,
        }
        done = {"spent": {"nano": str(charge), "delta0": "0"}, "spends": 3, "artifact_sha256": "ab" * 32}
        drafts: list[Draft] = [
            ("RESERVE", terms | account.sums(charge, Fraction(0))),
            ("START", {"reservation": seq}),
            ("COMMIT", {"reservation": seq} | done),
        ]
        for draft in drafts:
            rows.append(account.row(draft))
            account.heads.append(rows[-1][2].decode())
        account.nano += charge
    return rows


def grow(place: str | Path, count: int) -> Anchor:
    """Append finished releases to a ledger in one transaction; returns the new head."""
    account = Account()

    def work(entries: Transaction) -> None:
        for row in entries.rows():
            account.take(row)

    existing(place).run(work, write=False)
    rows = releases(account, count)
    if is_address(str(place)):
        import psycopg

        from dpsynth.ledger.postgres import PostgresStore

        store = existing(place)
        assert isinstance(store, PostgresStore)
        with psycopg.connect(store._conninfo) as db, db.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {store.table} VALUES (%s, %s, %s)".encode(), rows)
    else:
        texts = [(seq, body.decode(), digest.decode()) for seq, body, digest in rows]
        with closing(sqlite3.connect(place)) as file, file:
            file.executemany("INSERT INTO entries VALUES (?, ?, ?)", texts)
    return account.anchor


def chain_check(place: str | Path) -> int:
    """Entries of a ledger whose hashes and links were compared, and nothing else."""

    def work(entries: Transaction) -> int:
        previous, count = "0" * 64, 0
        for _, body, digest in entries.rows():
            assert hashlib.sha256(body).hexdigest().encode() == digest
            assert json.loads(body)["prev_hash"] == previous
            previous, count = digest.decode(), count + 1
        return count

    return existing(place).run(work, write=False)


def timed(what: str, times: int, work: Callable[[], object]) -> float:
    """Prints the median seconds of a call, and of this process's processor; returns the latter."""
    seconds = []
    for _ in range(times):
        began, busy = time.perf_counter(), time.process_time()
        work()
        seconds.append((time.perf_counter() - began, time.process_time() - busy))
    wall, processor = (sorted(column)[times // 2] for column in zip(*seconds, strict=True))
    print(f"{what:58} {wall:8.4f} s, processor {processor:8.4f} s")
    return processor


def measure(place: str | Path, entries: int) -> None:
    """Make a ledger there and print what it costs."""
    ledger = Ledger.create(place, population="p", epsilon=4, delta="1e-6", entity="person")

    def release(of: Ledger) -> None:
        with of.reserve(EACH, unit=PERSON, purpose="release") as reservation:
            reservation.start()

    def reserve(of: Ledger) -> None:
        of.reserve(EACH, unit=PERSON, purpose="release")

    timed("reserve, in a short ledger that is open", 20, lambda: reserve(ledger))
    timed("reserve, start and end, in a short ledger that is open", 20, lambda: release(ledger))
    head = grow(place, -(-entries // 3))
    assert Ledger.inspect(place, [head]).ok
    whole = timed(f"verify {head.seq + 1} entries", 3, lambda: Ledger.inspect(place, [head]))
    plain = timed("  the chain of hashes alone", 3, lambda: chain_check(place))
    print(f"{'  ratio of processor times':58} {whole / plain:8.2f}")
    timed("open it in a fresh process, and reserve", 1, lambda: reserve(Ledger.open(place, timeout=60)))
    ledger = Ledger.open(place, timeout=60)
    timed("reserve, in it when it is open", 20, lambda: reserve(ledger))


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    words.add_argument("--entries", type=int, default=100_000)
    words.add_argument("--place", help="a new ledger in PostgreSQL; without it a file in a temporary folder")
    given = words.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}, {given.entries} entries")
    with tempfile.TemporaryDirectory() as folder:
        forget_ledgers(Path(folder))
        measure(given.place or Path(folder) / "ledger.db", given.entries)


if __name__ == "__main__":
    main()
