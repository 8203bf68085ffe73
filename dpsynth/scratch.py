"""Temporary folders for private rows: nobody else can enter them, and a dead process does not leave its own for ever.

A folder is locked while its process lives. Whoever makes the next one removes those of this user whose lock is free: a
process that was killed could not do it. On the rare file system without locks they stay, as they do without this module.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import finalize

_NAME = re.compile(r"dpsynth-[0-9]+-[a-z0-9_]{8}")
_LOCK = threading.Lock()
_masked: list[int] = []  # how many are writing private files, and the mask that was there before the first


class Scratch:
    """A new folder of mode 0700 in the temporary folder; removed with this object, and when Python ends.

    Raises:
        OSError: the disk refuses.
    """

    def __init__(self) -> None:
        remove_abandoned()
        made = Path(tempfile.mkdtemp(prefix=".dpsynth-"))  # nobody looks for this name, so it can be locked first
        handle = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.path = made.with_name(f"dpsynth-{os.getpid()}-{made.name[-8:]}")
        made.rename(self.path)
        self._removed = finalize(self, _remove, self.path, handle, os.getpid())

    def remove(self) -> None:
        """Removes the folder with everything in it, as far as the system allows."""
        self._removed()


def remove_abandoned() -> None:
    """Removes folders of processes of this user that are dead. Follows no link, and fails on nothing."""
    with suppress(OSError):
        for entry in list(os.scandir(tempfile.gettempdir())):
            if _NAME.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_if_abandoned(entry.path)


def _remove_if_abandoned(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        facts = os.fstat(handle)
        if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) != 0o700:
            return
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its process lives
        if shutil.rmtree.avoids_symlink_attacks:
            _remove_all(path)
    finally:
        os.close(handle)


def _remove(folder: Path, handle: int, process: int) -> None:
    """Removes a folder, unless this is a child of the process that made it."""
    if os.getpid() == process:
        _remove_all(str(folder))
        os.close(handle)


def _remove_all(folder: str) -> None:
    """Removes a folder, also what a program made unwritable in it; whatever lies around it stays as it is."""

    def allow(remove: object, path: str, _: object) -> None:
        with suppress(OSError):
            if path != folder:  # the folder may be gone, and what it stood in is everybody's
                os.chmod(os.path.dirname(path), 0o700)
            if os.path.islink(path) or not os.path.isdir(path):
                os.unlink(path)
            else:
                os.chmod(path, 0o700)
                shutil.rmtree(path)

    shutil.rmtree(folder, onerror=allow)


@contextmanager
def private_files() -> Iterator[None]:
    """What this process writes meanwhile, libraries included, only its user can read."""
    with _LOCK:
        if not _masked:
            _masked.extend([0, os.umask(0o077)])
        _masked[0] += 1
    try:
        yield
    finally:
        with _LOCK:
            _masked[0] -= 1
            if not _masked[0]:
                os.umask(_masked[1])
                _masked.clear()
