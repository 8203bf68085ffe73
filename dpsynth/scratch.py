"""Temporary folders for private rows: nobody else can enter them, and a dead process does not leave its own for ever.

They lie in the temporary folder (`Scratch`), or where their content shall end up (`locked_folder`, for a release). A folder
is locked while its process lives. Whoever makes the next one there removes those of this user whose lock is free: a process
that was killed could not do it. They stay where that cannot be known: on file systems without locks; of another machine, or of
an earlier start of this one, unless they lie on a block device, because a network file system keeps a folder's lock on one
machine alone; and where others may rename what lies beside it, who could give another folder of this user such a name.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import finalize

from dpsynth.keeper import remove_all

_NAME = re.compile(r"(\..+\.)?dpsynth-[0-9]+-([0-9a-f]{8})-[0-9a-f]{16}", re.DOTALL)  # no name that a person gives
_LOCK = threading.Lock()
_masked: list[int] = []  # how many are writing private files, and the mask that was there before the first


class Scratch:
    """A new folder of mode 0700 in the temporary folder; removed with this object, and when Python ends.

    Raises:
        OSError: the disk refuses.
    """

    def __init__(self) -> None:
        self.path, handle = locked_folder(Path(tempfile.gettempdir()))
        self._removed = finalize(self, _remove, self.path, handle, os.getpid())

    def remove(self) -> None:
        """Removes the folder with everything in it, as far as the system allows."""
        self._removed()


def locked_folder(place: Path, prefix: str = "") -> tuple[Path, int]:
    """A new folder of mode 0700 in another, and the open handle that locks it; those of dead processes there are removed.

    Args:
        place: Where to make it.
        prefix: What its name begins with; none, or one that begins with a dot and ends with one.
    Raises:
        OSError: the disk refuses.
    """
    remove_abandoned(place)
    made = Path(
        tempfile.mkdtemp(prefix=".dpsynth-", dir=place)
    )  # nobody looks for this name, so it can be locked first
    handle = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    path = made.with_name(f"{prefix}dpsynth-{os.getpid()}-{_system()}-{secrets.token_hex(8)}")
    try:
        made.rename(path)
    except OSError:
        os.close(handle)
        made.rmdir()
        raise
    return path, handle


def remove_abandoned(place: Path) -> None:
    """Removes the folders of processes of this user that are dead. Follows no link, and fails on nothing."""
    with suppress(OSError):
        facts = os.stat(place)
        others_rename = facts.st_mode & 0o022 and not facts.st_mode & stat.S_ISVTX
        if others_rename or facts.st_uid not in (0, os.geteuid()):
            return
        for entry in list(os.scandir(place)):
            if found := _NAME.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_if_abandoned(entry.path, found[2])


def _system() -> str:
    """Which running system sees the lock: this start of this machine."""
    try:
        named = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:  # another system than Linux
        named = platform.node()
    return hashlib.sha256(named.encode()).hexdigest()[:8]


def _remove_if_abandoned(path: str, system: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        facts = os.fstat(handle)
        modes = (
            (0o700, 0o755) if os.path.basename(path).startswith(".") else (0o700,)
        )  # a release is opened, then renamed
        if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) not in modes:
            return
        if system != _system() and os.major(facts.st_dev) == 0:  # maybe locked where this system cannot see it
            return
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused while its process lives
        if shutil.rmtree.avoids_symlink_attacks:
            remove_all(path)
    finally:
        os.close(handle)


def _remove(folder: Path, handle: int, process: int) -> None:
    """Removes a folder, unless this is a child of the process that made it."""
    if os.getpid() == process:
        remove_all(str(folder))
        os.close(handle)


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
