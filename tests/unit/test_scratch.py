"""Temporary folders: private, gone with their process, and no door to anybody else's files."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpsynth.scratch import Scratch, _remove_all, private_files

KILLED = """
import os, signal, sys
from dpsynth.scratch import Scratch
scratch = Scratch()
(scratch.path / "rows").write_text("private")
(scratch.path / "sub").mkdir(mode=0o500)
os.symlink(sys.argv[1], scratch.path / "link")
print(scratch.path, flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setenv("TMPDIR", str(place))
    return place


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "file").write_text("stays")
    return folder


def started(precious: Path, fate: str) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(precious), fate], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


@pytest.fixture
def running(precious: Path) -> Iterator[Path]:
    process, folder = started(precious, "lives")
    yield folder
    process.communicate("")
    assert not folder.exists(), "a process that ends well removes its own"


def test_a_folder_is_private_and_removed(temporary: Path) -> None:
    scratch = Scratch()
    assert list(temporary.iterdir()) == [scratch.path]
    assert stat.S_IMODE(scratch.path.stat().st_mode) == 0o700
    scratch.remove()
    scratch.remove()
    assert not list(temporary.iterdir())
    again = Scratch()
    del again
    assert not list(temporary.iterdir())


def test_the_next_process_removes_what_a_killed_one_left(precious: Path, running: Path) -> None:
    process, left = started(precious, "killed")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert (left / "rows").read_text() == "private"
    scratch = Scratch()
    assert not left.exists()
    assert running.exists(), "its process lives"
    assert scratch.path.exists()
    other = Scratch()
    assert scratch.path.exists(), "and so does this one"
    assert (precious / "file").read_text() == "stays"
    scratch.remove()
    other.remove()


def test_what_is_not_ours_is_left_alone(temporary: Path, precious: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (temporary / "dpsynth-1-abcdefgh").symlink_to(precious)
    for name in ("dpsynth-abcdefgh", "dpsynth-1-abcdefgh2", "dpsynth-x-abcdefgh", "other"):
        (temporary / name).mkdir(mode=0o700)
    (temporary / "dpsynth-2-abcdefgh").mkdir(mode=0o755)
    (temporary / "dpsynth-3-abcdefgh").write_text("a file")
    before = sorted(temporary.iterdir())
    Scratch().remove()
    assert sorted(temporary.iterdir()) == before
    assert (precious / "file").read_text() == "stays"
    (temporary / "dpsynth-4-abcdefgh").mkdir(mode=0o700)
    with monkeypatch.context() as other:
        other.setattr(os, "geteuid", lambda: 12345)
        Scratch().remove()
    assert (temporary / "dpsynth-4-abcdefgh").exists(), "of another user"
    Scratch().remove()
    assert sorted(temporary.iterdir()) == before


def test_what_a_folder_stood_in_keeps_its_mode(temporary: Path) -> None:
    """Also where the folder is gone before it is removed, or another process removes it at the same time."""
    temporary.chmod(0o1777)
    scratch = Scratch()
    scratch.path.rmdir()
    scratch.remove()
    abandoned = temporary / "dpsynth-4-abcdefgh"
    abandoned.mkdir(mode=0o700)
    (abandoned / "sub").mkdir(mode=0o500)
    _remove_all(str(abandoned))
    _remove_all(str(abandoned))
    assert not list(temporary.iterdir())
    assert stat.S_IMODE(temporary.stat().st_mode) == 0o1777


def test_files_are_private_while_anybody_writes_some(tmp_path: Path) -> None:
    """Threads that overlap give the mask back as it was before the first."""
    mask = os.umask(0o022)
    try:
        inside, leave = threading.Event(), threading.Event()

        def other() -> None:
            with private_files():
                inside.set()
                leave.wait(10)

        thread = threading.Thread(target=other)
        with private_files():
            thread.start()
            inside.wait(10)
        (tmp_path / "private").write_text("")
        leave.set()
        thread.join()
        (tmp_path / "plain").write_text("")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "private", tmp_path / "plain")}
        assert modes == {"private": 0o600, "plain": 0o644}
    finally:
        os.umask(mask)
