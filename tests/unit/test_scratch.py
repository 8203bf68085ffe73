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
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dpsynth import scratch as scratch_module
from dpsynth.keeper import remove_all
from dpsynth.release import Staging
from dpsynth.scratch import Scratch, _system, private_files

KILLED = """
import os, signal, sys
from dpsynth.release import Staging
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


@pytest.mark.slow
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


STAGED = """
import os, signal, sys
from pathlib import Path
from dpsynth.release import Staging
with Staging(Path(sys.argv[1])) as staging:
    (staging.folder / "internal").mkdir()
    (staging.folder / "internal" / "evidence.json").write_text("private")
    if sys.argv[2] == "at the end":
        staging.folder.chmod(0o755)
    print(staging.folder, flush=True)
    if sys.argv[2] != "lives":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def test_the_next_release_removes_what_a_killed_one_left_beside_it(tmp_path: Path) -> None:
    """Of its own user and in its own folder, whatever it was to be called; a release that is being made stays."""
    (tmp_path / ".visits.dpsynth-old").mkdir()

    def staged(name: str, fate: str) -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", STAGED, str(tmp_path / name), fate],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    killed, left = staged("n" * 250, "at the end")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert (left / "internal" / "evidence.json").is_file()
    running, lives = staged("visits", "lives")
    assert not left.exists()
    with Staging(tmp_path / "visits") as mine:
        assert mine.folder.is_dir()
        assert lives.is_dir(), "its process lives"
        (mine.folder / "internal").mkdir()
        mine.place(datetime(2026, 11, 21, tzinfo=UTC))
    running.communicate("")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".visits.dpsynth-old", "temporary", "visits"]


def abandoned(place: Path, process: int, system: str = "") -> Path:
    """Where a dead process of a system, or of this one, would have left its folder."""
    return place / f"dpsynth-{process}-{system or _system()}-0123456789abcdef"


def test_what_is_not_ours_is_left_alone(temporary: Path, precious: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    abandoned(temporary, 1).symlink_to(precious)
    for name in ("dpsynth-2026-releases", ".x.dpsynth-1-archives", f"{abandoned(temporary, 9).name}2", "other"):
        (temporary / name).mkdir(mode=0o700)
    abandoned(temporary, 2).mkdir(mode=0o755)
    abandoned(temporary, 3).write_text("a file")
    before = sorted(temporary.iterdir())
    Scratch().remove()
    with Staging(temporary / "release"):
        pass
    assert sorted(temporary.iterdir()) == before
    assert (precious / "file").read_text() == "stays"
    abandoned(temporary, 4).mkdir(mode=0o700)
    with monkeypatch.context() as other:
        other.setattr(os, "geteuid", lambda: 12345)
        Scratch().remove()
    assert abandoned(temporary, 4).exists(), "of another user"
    temporary.chmod(0o777)
    Scratch().remove()
    assert abandoned(temporary, 4).exists(), "where anybody could have given it this name"
    temporary.chmod(0o1777)
    Scratch().remove()
    assert sorted(temporary.iterdir()) == before


@pytest.mark.parametrize(("device", "stays"), [(0, True), (8, False)])
def test_a_lock_that_another_machine_holds_is_not_seen(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, device: int, stays: bool
) -> None:
    """A network file system, which has no block device, keeps the lock of a folder on the machine that took it."""
    monkeypatch.setattr(scratch_module.os, "major", lambda _: device)
    abandoned(temporary, 4, system="0" * 8).mkdir(mode=0o700)
    abandoned(temporary, 5).mkdir(mode=0o700)
    Scratch().remove()
    assert abandoned(temporary, 4, system="0" * 8).exists() is stays
    assert not abandoned(temporary, 5).exists()


def test_what_a_folder_stood_in_keeps_its_mode(temporary: Path) -> None:
    """Also where the folder is gone before it is removed, or another process removes it at the same time."""
    temporary.chmod(0o1777)
    scratch = Scratch()
    scratch.path.rmdir()
    scratch.remove()
    left = abandoned(temporary, 4)
    left.mkdir(mode=0o700)
    (left / "sub").mkdir(mode=0o500)
    remove_all(str(left))
    remove_all(str(left))
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
                leave.wait(60)

        thread = threading.Thread(target=other)
        with private_files():
            thread.start()
            assert inside.wait(60)
        (tmp_path / "private").write_text("")
        leave.set()
        thread.join()
        (tmp_path / "plain").write_text("")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "private", tmp_path / "plain")}
        assert modes == {"private": 0o600, "plain": 0o644}
    finally:
        os.umask(mask)
