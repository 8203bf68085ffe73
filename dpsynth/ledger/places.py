"""Which store a place names: the path of a file, or an address."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dpsynth.addresses import POSTGRESQL, is_address
from dpsynth.errors import OperationError, UsageError
from dpsynth.ledger.sqlite import SqliteStore
from dpsynth.ledger.store import TIMEOUT, Row, Store

if TYPE_CHECKING:
    from dpsynth.ledger.postgres import PostgresStore


def existing(place: str | os.PathLike[str], *, timeout: float = TIMEOUT) -> Store:
    """The store at a place.

    Args:
        place: The path of a file, or an address that begins with `postgresql://` (`postgres.py` has its form).
        timeout: Seconds to wait for a lock that another process holds.
    Raises:
        UsageError: there is none; for a server this, and what else may be wrong there, shows at the first call.
        OperationError: it cannot be used there.
    """
    return _kind(place)(place, timeout=timeout)


def made(place: str | os.PathLike[str], genesis: Row, *, timeout: float = TIMEOUT) -> Store:
    """A new store that holds one row; it appears whole or not at all.

    Raises:
        UsageError: there is one already, or no folder or database for it.
        OperationError: the disk or the server failed.
    """
    return _kind(place).create(place, genesis, timeout=timeout)


def _kind(place: str | os.PathLike[str]) -> type[SqliteStore] | type[PostgresStore]:
    if not is_address(str(place)):
        return SqliteStore
    if str(place).partition("://")[0].lower() not in POSTGRESQL:  # the address is not quoted: it may hold a password
        raise UsageError("a ledger is the path of a file, or an address that begins with postgresql://")
    try:
        from dpsynth.ledger.postgres import PostgresStore
    except ImportError:
        raise OperationError("a ledger in PostgreSQL needs psycopg: pip install 'dpsynth[postgres]'") from None
    return PostgresStore
