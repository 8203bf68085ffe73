"""A machine that has seen an entry refuses a ledger without it: rule R14."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from dpsynth.cli.demo import _witness_in
from dpsynth.cli.main import run
from dpsynth.errors import IntegrityError, OperationError
from dpsynth.ledger import Anchor, Ledger, witness
from dpsynth.privacy import Cost, PrivacyUnit

PERSON = PrivacyUnit(entity="person", max_rows=5, neighbours="add_remove")
SMALL = Cost.zcdp(Fraction(1, 1000))


@pytest.fixture(autouse=True)
def heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of notes of each test's own."""
    folder = tmp_path / "state" / "heads"
    monkeypatch.setenv(witness.FOLDER, str(folder))
    return folder


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return make(tmp_path / "ledger.db")


def make(path: Path) -> Ledger:
    return Ledger.create(path, population="p", epsilon=1, delta="1e-6", entity="person")


def release(ledger: Ledger) -> None:
    with ledger.reserve(SMALL, unit=PERSON, purpose="release") as reservation:
        reservation.start()


def path_of(ledger: Ledger) -> Path:
    return Path(ledger.store.place)


@contextmanager
def elsewhere(folder: Path) -> Iterator[None]:
    """As on another machine, or after this one was restored with all that it remembered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(witness.FOLDER, str(folder))
        yield


# ---- what is noted


def test_every_entry_is_noted(ledger: Ledger, heads: Path) -> None:
    assert witness.noted(ledger.ledger_id) == ledger.anchor
    assert ledger.is_witnessed
    reservation = ledger.reserve(SMALL, unit=PERSON, purpose="release")
    assert witness.noted(ledger.ledger_id) == reservation.anchor
    reservation.start()
    assert witness.noted(ledger.ledger_id) == reservation.anchor == ledger.anchor
    reservation.__exit__(None, None, None)
    assert witness.noted(ledger.ledger_id) == ledger.anchor
    (place,) = heads.iterdir()
    assert {stat.S_IMODE(path.stat().st_mode) for path in (heads, place)} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o600}


def test_what_others_wrote_is_noted_when_it_is_seen(ledger: Ledger, tmp_path: Path) -> None:
    with elsewhere(tmp_path / "another machine"):
        release(Ledger.open(path_of(ledger)))
    assert witness.noted(ledger.ledger_id) != ledger.anchor
    Ledger.open(path_of(ledger))
    assert witness.noted(ledger.ledger_id) == ledger.anchor


def test_notes_lie_in_the_state_folder_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(witness.FOLDER, "")
    monkeypatch.setenv("HOME", str(tmp_path))
    for state, base in (("", ".local/state"), ("relative", ".local/state"), (str(tmp_path / "x"), "x")):
        monkeypatch.setenv("XDG_STATE_HOME", state)
        assert witness.folder() == tmp_path / base / "dpsynth" / "heads"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert witness.folder() == tmp_path / ".local" / "state" / "dpsynth" / "heads"


def test_a_note_never_goes_back(heads: Path) -> None:
    def anchor(seq: int) -> Anchor:
        return Anchor("../../odd id", seq, f"{seq:064x}")

    threads = [threading.Thread(target=witness.note, args=(anchor(seq),)) for seq in (3, 9, 1, 7, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert witness.noted("../../odd id") == anchor(9)
    assert witness.note(anchor(2))
    assert witness.noted("../../odd id") == anchor(9)
    assert witness.noted("another") is None
    assert {path.parent.parent for path in heads.parent.rglob("*-*")} == {heads}


def _note_many(first: int) -> None:
    for seq in range(first, 60, 3):
        assert witness.note(Anchor("shared", seq, f"{seq:064x}"))


def test_processes_share_one_note() -> None:
    workers = [multiprocessing.get_context("fork").Process(target=_note_many, args=(first,)) for first in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert witness.noted("shared") == Anchor("shared", 59, f"{59:064x}")


# ---- what is refused


def test_a_restored_backup_is_refused_until_the_newer_file_is_back(ledger: Ledger, tmp_path: Path) -> None:
    path = path_of(ledger)
    backup, newest = tmp_path / "backup", tmp_path / "newest"
    shutil.copy(path, backup)
    release(ledger)
    shutil.copy(path, newest)
    shutil.copy(backup, path)
    for attempt in (
        lambda: Ledger.open(path),
        lambda: Ledger.open(backup),
        lambda: ledger.reserve(SMALL, unit=PERSON, purpose="release"),
        lambda: ledger.extract(),
        lambda: ledger.amend(2, reason="r", approver="a"),
    ):
        with pytest.raises(IntegrityError):
            attempt()
    with pytest.raises(IntegrityError, match=r"entry 3.*seen in it before.*newest file"):
        Ledger.open(path)
    report = Ledger.inspect(path)
    assert not report.ok
    assert "entry 3, which was noted on this machine" in report.problems[0]
    assert path.read_bytes() == backup.read_bytes()
    shutil.copy(newest, path)
    release(Ledger.open(path))
    assert Ledger.inspect(path).ok


def test_growing_past_the_note_does_not_help(ledger: Ledger, tmp_path: Path) -> None:
    path, backup = path_of(ledger), tmp_path / "backup"
    shutil.copy(path, backup)
    release(ledger)
    noted = ledger.anchor
    with elsewhere(tmp_path / "forgetful"):
        other = Ledger.open(backup)
        while other.anchor.seq <= noted.seq:
            release(other)
    shutil.copy(backup, path)
    with pytest.raises(IntegrityError, match="seen in it before"):
        Ledger.open(path)
    assert witness.noted(ledger.ledger_id) == noted


def test_an_open_ledger_notices_what_another_process_saw(ledger: Ledger, tmp_path: Path) -> None:
    """The object itself has seen nothing newer than the backup."""
    path, backup = path_of(ledger), tmp_path / "backup"
    shutil.copy(path, backup)
    release(Ledger.open(path))
    shutil.copy(backup, path)
    with pytest.raises(IntegrityError, match="seen in it before"):
        ledger.reserve(SMALL, unit=PERSON, purpose="release")


def test_a_copy_that_was_spent_from_shuts_the_original(ledger: Ledger, tmp_path: Path) -> None:
    copy = Path(shutil.copy(path_of(ledger), tmp_path / "copy"))
    release(Ledger.open(copy))
    with pytest.raises(IntegrityError):
        ledger.reserve(SMALL, unit=PERSON, purpose="release")
    shutil.copy(copy, path_of(ledger))
    release(Ledger.open(path_of(ledger)))


def test_a_machine_that_was_restored_as_a_whole_sees_nothing(ledger: Ledger, tmp_path: Path, heads: Path) -> None:
    """Its memory went back with the ledger: the anchors of issued releases are for that."""
    path, backup, remembered = path_of(ledger), tmp_path / "backup", tmp_path / "remembered"
    shutil.copy(path, backup)
    shutil.copytree(heads, remembered)
    release(ledger)
    issued = ledger.anchor
    shutil.copy(backup, path)
    with elsewhere(remembered):
        Ledger.open(path)
        with pytest.raises(IntegrityError, match="cut or restored from a backup"):
            Ledger.open(path, anchors=[issued])
        assert not Ledger.inspect(path, [issued]).ok


def test_opening_with_anchors(ledger: Ledger, tmp_path: Path) -> None:
    first = ledger.anchor
    release(ledger)
    assert Ledger.open(path_of(ledger), anchors=[first, ledger.anchor]).anchor == ledger.anchor
    other = make(tmp_path / "other")
    for anchor, words in (
        (other.anchor, "another ledger"),
        (Anchor(ledger.ledger_id, 1, "0" * 64), "rewritten"),
        (Anchor(ledger.ledger_id, 9, "0" * 64), "missing"),
    ):
        with pytest.raises(IntegrityError, match=words):
            Ledger.open(path_of(ledger), anchors=[first, anchor])


def test_what_an_anchor_refuses_is_not_noted(ledger: Ledger, tmp_path: Path) -> None:
    """Else a forged continuation that was refused would shut the real ledger."""
    forged = Path(shutil.copy(path_of(ledger), tmp_path / "forged"))
    with elsewhere(tmp_path / "forger"):
        release(Ledger.open(forged))
    ledger.import_external(cost=None, note="earlier")
    issued = ledger.anchor
    with elsewhere(tmp_path / "new machine"):
        with pytest.raises(IntegrityError):
            Ledger.open(forged, anchors=[issued])
        assert witness.noted(ledger.ledger_id) is None
        Ledger.open(path_of(ledger), anchors=[issued])


# ---- when nothing can be noted


@pytest.mark.parametrize("place", [os.devnull, "/proc/no/such"])
def test_a_charge_never_fails_for_want_of_a_witness(tmp_path: Path, place: str) -> None:
    with elsewhere(Path(place)):
        ledger = make(tmp_path / "l")
        release(ledger)
        assert not ledger.is_witnessed
        assert ledger.head[0] == 3
        assert any("none is noted" in line for line in Ledger.inspect(tmp_path / "l").not_checked)


@pytest.mark.parametrize(
    "name", ["x", "1-", "-1-" + "0" * 64, "07-" + "0" * 64, "9-" + "0" * 63, "9-" + "0" * 64 + "\n"]
)
def test_what_is_no_note_is_passed_over(ledger: Ledger, heads: Path, name: str) -> None:
    (place,) = heads.iterdir()
    (place / name).touch()
    assert witness.noted(ledger.ledger_id) == ledger.anchor
    release(ledger)
    assert witness.noted(ledger.ledger_id) == ledger.anchor


def test_old_notes_are_cleared_away(ledger: Ledger, heads: Path) -> None:
    for _ in range(4):
        release(ledger)
    (place,) = heads.iterdir()
    names = [f"{entry.seq}-{entry.hash}" for entry in ledger.entries()]
    assert sorted(os.listdir(place)) == sorted(names[-2:])


@pytest.mark.parametrize("step", ["_make"])
def test_death_between_commit_and_note_leaves_an_older_note(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The note is one entry behind, never one ahead: the ledger stays usable."""
    before = ledger.anchor
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(witness, step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        ledger.import_external(cost=None, note="earlier")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert witness.noted(ledger.ledger_id) == before
    again = Ledger.open(path_of(ledger))
    assert again.head[0] == 1
    assert witness.noted(ledger.ledger_id) == again.anchor
    release(again)


def test_what_was_not_committed_is_not_noted(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a full disk would shut the ledger for ever."""
    before = ledger.anchor
    working = ledger.store.run

    def full(work: Callable[[Any], Any], *, write: bool) -> Any:
        def without_commit(entries: Any) -> Any:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(entries, "append", lambda row: fail())
                return work(entries)

        return working(without_commit, write=write)

    def fail() -> None:
        raise OperationError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ledger.store, "run", full)
        with pytest.raises(OperationError):
            ledger.import_external(cost=None, note="earlier")
    assert witness.noted(ledger.ledger_id) == before == ledger.anchor
    release(ledger)


def test_readers_beside_writers_are_never_refused(ledger: Ledger) -> None:
    """A note that is newer than a reader's snapshot would look like a ledger that went back."""
    wrong: list[BaseException] = []
    ended = threading.Event()

    def look() -> None:
        try:
            while not ended.is_set():
                Ledger.open(path_of(ledger)).extract()
                assert Ledger.inspect(path_of(ledger)).ok
        except BaseException as error:
            wrong.append(error)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    writer = Ledger.open(path_of(ledger))
    for number in range(25):
        writer.import_external(cost=None, note=f"release {number}")
    ended.set()
    for reader in readers:
        reader.join()
    assert wrong == []


# ---- the commands


def test_the_demo_notes_beside_its_own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _witness_in(tmp_path / "demo"):
        assert witness.folder() == Path(os.environ[witness.FOLDER]) != tmp_path / "demo"  # somebody has said where
    monkeypatch.delenv(witness.FOLDER)
    with _witness_in(tmp_path / "demo"):
        make(tmp_path / "l")
        assert len(list((tmp_path / "demo").glob("*/0-*"))) == 1
    assert witness.FOLDER not in os.environ


def test_the_commands_refuse_a_restored_backup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        code = run([str(word) for word in words])
        return code, capsys.readouterr().err

    place, schema, data = tmp_path / "l", tmp_path / "s.toml", tmp_path / "d.csv"
    schema.write_text(
        'schema = "dpsynth.schema/1"\ntable = "t"\nneighbours = "add_remove"\nbasis = "test"\n'
        '[[column]]\nname = "a"\ntype = "category"\nvalues = ["x", "y"]\n',
        encoding="utf-8",
    )
    data.write_text("a\nx\ny\n", encoding="utf-8")
    assert call("ledger", "create", place, "--population", "p", "--epsilon", 2, "--delta", "1e-6")[0] == 0
    shutil.copy(place, tmp_path / "backup")
    assert call("ledger", "import", place, "--not-dp", "--note", "n")[0] == 0
    shutil.copy(place, tmp_path / "newest")
    shutil.copy(tmp_path / "backup", place)
    wanted: list[tuple[Any, ...]] = [
        (
            "release",
            data,
            "--schema",
            schema,
            "--ledger",
            place,
            "--epsilon",
            1,
            "--delta",
            "1e-6",
            "--out",
            tmp_path / "o",
        ),
        ("ledger", "show", place),
        ("ledger", "amend", place, "--epsilon", 3, "--reason", "r", "--approver", "a"),
        ("ledger", "import", place, "--not-dp", "--note", "n"),
    ]
    for words in wanted:
        code, said = call(*words)
        assert (code, said.count("\n")) == (5, 1), said
        assert "put the newest file back" in said
    assert call("ledger", "verify", place)[0] == 5
    assert place.read_bytes() == (tmp_path / "backup").read_bytes()
    assert not (tmp_path / "o").exists()
    shutil.copy(tmp_path / "newest", place)
    assert call("ledger", "verify", place)[0] == 0
    with elsewhere(Path(os.devnull)):
        code, said = call("ledger", "show", place)
        assert code == 0
        assert "a restored backup would not be noticed" in said
