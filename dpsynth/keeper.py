"""Stands between dpsynth and another program, and outlives both: whatever ends dpsynth, the program ends and its folder goes.

    python -I -S keeper.py FOLDER CMD...

It starts CMD when the first byte comes on its input, says on its output how that ended (`WELL`, `BADLY`, `NOT_STARTED`), and
removes FOLDER at the second byte or at the end of input, which comes when dpsynth is killed, too. It runs by its path, on
Python's own library alone, so that a start takes no time.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress

WELL, BADLY, NOT_STARTED = b"0", b"1", b"2"
_GLANCE = 0.05  # seconds between looks for the program's end


def main(folder: str, *words: str) -> None:
    """Runs a program once, and removes its folder."""
    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(kind, lambda *_: None)  # unlike SIG_IGN, back at its default in the program
    try:
        if os.read(0, 1):
            ended = _run(words)
            with suppress(BrokenPipeError):
                os.write(1, ended)
            os.read(0, 1)
    finally:
        remove_all(folder)


def _run(words: tuple[str, ...]) -> bytes:
    """How the program ended; it is ended when there is something to read."""
    try:
        program = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return NOT_STARTED
    while program.poll() is None and not select.select([0], [], [], _GLANCE)[0]:
        pass
    with suppress(ProcessLookupError, PermissionError):  # its group lives as long as one of its children does
        os.killpg(program.pid, signal.SIGKILL)
    return BADLY if program.wait() else WELL


def remove_all(folder: str) -> None:
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


if __name__ == "__main__":
    main(*sys.argv[1:])
