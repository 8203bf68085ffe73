"""Heads that this user's machine remembers: a ledger that went back behind one is refused (docs/ledger.md).

A note is the name of an empty file, "SEQ-HASH", in a folder of its ledger; the highest number counts. Making such a file is
one step, so there is no half a note, and none can replace a higher one, whoever writes beside whom and wherever a process
dies: no lock is needed, and none can be lost.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Final

from dpsynth.ledger.entries import Anchor

FOLDER: Final = "DPSYNTH_WITNESS"
"""The environment variable that names the folder; without it the state folder of the user holds it."""
_NOTE: Final = re.compile(r"(0|[1-9][0-9]{0,17})-([0-9a-f]{64})", re.ASCII)


def folder() -> Path | None:
    """Where heads are noted: $DPSYNTH_WITNESS, else $XDG_STATE_HOME/dpsynth/heads; None where there is no home."""
    if named := os.environ.get(FOLDER):
        return Path(named).absolute()
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        base = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return base / "dpsynth" / "heads"


def noted(ledger_id: str) -> Anchor | None:
    """The newest head of a ledger that was noted; None if none was, or the notes cannot be read."""
    home = folder()
    try:
        return None if home is None else max(_notes(_place(home, ledger_id), ledger_id), key=_seq, default=None)
    except OSError:
        return None


def note(anchor: Anchor) -> bool:
    """Note a head, unless a newer one of its ledger is there; whether a note as new as this one is there now.

    The note is on the disk when this returns. A failure is no error: what it is about has been recorded in the ledger, and
    only its witness is missing.
    """
    home = folder()
    if home is None:
        return False
    place = _place(home, anchor.ledger_id)
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)
        earlier = sorted(_notes(place, anchor.ledger_id), key=_seq)
        if earlier and earlier[-1].seq >= anchor.seq:
            return True
        _make(place / _name(anchor))
        _sync(place)
        for old in earlier[:-1]:  # the last one stays, for whoever lists the folder at this moment
            (place / _name(old)).unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _seq(anchor: Anchor) -> int:
    return anchor.seq


def _name(anchor: Anchor) -> str:
    return f"{anchor.seq}-{anchor.head}"


def _place(home: Path, ledger_id: str) -> Path:
    """The folder of a ledger, whatever letters its id has."""
    return home / hashlib.sha256(ledger_id.encode()).hexdigest()[:32]


def _notes(place: Path, ledger_id: str) -> list[Anchor]:
    """The notes in a folder; whatever else lies there is none."""
    try:
        found = map(_NOTE.fullmatch, os.listdir(place))
    except FileNotFoundError:
        return []
    return [Anchor(ledger_id, int(match[1]), match[2]) for match in found if match]


def _make(path: Path) -> None:
    """An empty file (mode 0600); it may be there already."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))


def _sync(place: Path) -> None:
    handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
