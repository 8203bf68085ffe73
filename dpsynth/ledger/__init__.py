"""The privacy ledger: an append-only, hash-chained account of what a population has spent.

A ledger belongs to people, not to a file: one population, one privacy unit, one cap. A release charges its whole cost
before the first row is read, and a charge is given back only if the reservation was never started. The state of a
ledger is nothing but its entries replayed: the same rules (`account.py`) decide what may be written and verify what was.

    RESERVE ──start()──> START ──clean exit──> COMMIT          charged
       │                   └────exception────> FORFEIT         charged
       ├──exit without start()───────────────> RELEASE_UNUSED  given back
       └──crash (also after START)──────────>  orphan          charged

Each entry is one canonical JSON text (RFC 8785 without floats) that holds the SHA-256 of the entry before it. What
the chain proves alone, and what only an `Anchor` kept elsewhere can prove, is told in docs/ledger.md.

    entries.py       what stands in an entry
    account.py       what entries add up to, and which may follow
    amendment.py     what an approver signs to raise the cap
    verification.py  what a chain and its anchors prove
    witness.py       heads that this machine remembers, so that a restored backup is refused
    store.py         where entries lie, as a protocol; sqlite.py and postgres.py keep it, places.py finds the one
    ledger.py        Ledger: reads, and appends what the account admits
    reservation.py   Reservation: a charge that was paid, and the only thing to spend from
"""

from dpsynth.ledger.account import LedgerExtract
from dpsynth.ledger.entries import Anchor, Basis, Entry
from dpsynth.ledger.ledger import Ledger, reserve_all
from dpsynth.ledger.reservation import Reservation
from dpsynth.ledger.verification import VerifyReport

__all__ = ["Anchor", "Basis", "Entry", "Ledger", "LedgerExtract", "Reservation", "VerifyReport", "reserve_all"]
