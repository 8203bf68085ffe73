"""Silence of libraries while rows are about: a warning about the rows would be a message about the rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock

_LOCK = Lock()
_users = 0
_end = ExitStack()


@contextmanager
def no_warnings() -> Iterator[None]:
    """Drops every warning until the last thread has left: filters belong to the process, and each would restore its own.

    Filters alone do not hold, because scikit-learn exchanges them in its threads.
    """
    global _users
    with _LOCK:
        if not _users:
            _end.enter_context(warnings.catch_warnings(action="ignore"))
            warnings.showwarning = _say_nothing
        _users += 1
    try:
        yield
    finally:
        with _LOCK:
            _users -= 1
            if not _users:
                _end.close()


def _say_nothing(*_: object, **__: object) -> None:
    pass
