"""Which store a place names: the path of a file, or an address."""

from __future__ import annotations

import os

from dpsynth.errors import UsageError
from dpsynth.ledger.sqlite import SqliteStore
from dpsynth.ledger.store import TIMEOUT, Row, Store


def existing(place: str | os.PathLike[str], *, timeout: float = TIMEOUT) -> Store:
    """The store at a place.

    Args:
        place: The path of a file.
        timeout: Seconds to wait for a lock that another process holds.
    Raises:
        UsageError: there is none.
        OperationError: it cannot be used there.
    """
    _check(place)
    return SqliteStore(place, timeout=timeout)


def made(place: str | os.PathLike[str], genesis: Row, *, timeout: float = TIMEOUT) -> Store:
    """A new store that holds one row; it appears whole or not at all.

    Raises:
        UsageError: there is one already, or no folder for it.
        OperationError: the disk failed.
    """
    _check(place)
    return SqliteStore.create(place, genesis, timeout=timeout)


def _check(place: str | os.PathLike[str]) -> None:
    if str(place).startswith(("postgresql://", "postgres://")):
        raise UsageError("ledgers in PostgreSQL are not supported yet: give the path of a file")
