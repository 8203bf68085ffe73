"""Where the entries of a ledger lie: a protocol, and what its stores have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from dpsynth.errors import IntegrityError, LedgerLocked

Row: TypeAlias = tuple[Any, Any, Any]  # seq, body, hash as the database gives them: nothing about them is sure yet
T = TypeVar("T")

TIMEOUT: Final = 30.0  # seconds to wait for those who write first; a disk that others keep busy can stand for some


class Transaction(Protocol):
    """One transaction on a store; without `commit` nothing of it stays."""

    def rows(self, *, after: int = -1) -> Iterator[Row]:
        """The rows behind the entry `after`, in their order; body and hash are bytes in a store that is whole."""

    def row(self, seq: int) -> Row | None:
        """One row, or None."""

    def append(self, row: Row) -> None:
        """Add a row and commit: the row is on the disk when this returns."""

    def check(self) -> None:
        """Refuse a store that is damaged where reading its rows would pass over it.

        Raises:
            IntegrityError: it is.
        """


class Store(Protocol):
    """A place that keeps the rows of one ledger, and lets one writer in at a time."""

    @property
    def place(self) -> str:
        """What messages call it; no password in it."""

    def run(self, work: Callable[[Transaction], T], *, write: bool) -> T:
        """The result of `work` in one transaction.

        Args:
            work: What to do. It may be called again from the start where a lock was not free or a connection was
                lost, never after it has committed.
            write: Whether it appends: no other writer is then let in until it ends.
        Raises:
            LedgerLocked: another process holds the lock for longer than the store waits.
            OperationError: the disk or the connection failed.
            IntegrityError: this is not a ledger, or it is damaged.
        """


def damaged(place: str) -> IntegrityError:
    """What is said of a store that cannot be trusted."""
    return IntegrityError(f"{place} is damaged or not a ledger: do not use it, and compare it with issued releases")


def changed(place: str) -> IntegrityError:
    """What is said of a store whose tables or triggers are not exactly ours."""
    return IntegrityError(f"{place} is not a dpsynth ledger, or its tables were changed: do not use it")


def locked(place: str) -> LedgerLocked:
    """What is said of a store whose lock was not free in time."""
    return LedgerLocked(f"another process holds {place}: try again when it has finished")
