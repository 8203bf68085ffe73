"""A disk that really fills: one sentence, exit code 6, nothing half written, and the charge stays.

The disk is a small one in memory that only the test's process sees, where the system lets a user mount one; elsewhere a
limit on the size of files, which libraries meet in the same calls.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from dpsynth import Ledger

pytestmark = pytest.mark.slow

LIMITED = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000));"
    "from dpsynth.cli.main import run; sys.exit(run(sys.argv[1:]))"
)
SMALL = 'mkdir -p "$FULL" && mount -t tmpfs -o size=300k none "$FULL" || exit 99; "$@"; code=$?; ls -A "$FULL" >&2; exit $code'


@cache
def can_mount() -> bool:
    words = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=64k none /mnt"]
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@dataclass(frozen=True)
class Ended:
    code: int
    said: list[str]
    left: list[str]


@pytest.fixture
def on_a_full_disk(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Runs a command with FULL as a folder without room for much."""
    full = tmp_path / "full"
    full.mkdir()

    def ran(*words: object, temporary: bool = False) -> Ended:
        env = {**os.environ, "FULL": str(full)} | ({"TMPDIR": str(full)} if temporary else {})
        if can_mount():
            program = [sys.executable, "-m", "dpsynth.cli", *map(str, words)]
            command = ["unshare", "-rm", "sh", "-c", SMALL, "sh", *program]
        else:
            command = [sys.executable, "-c", LIMITED, *map(str, words)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        lines = ended.stderr.splitlines()
        said = [line for line in lines if line.startswith("dpsynth: ")]
        left = [line for line in lines if line not in said] if can_mount() else os.listdir(full)
        return Ended(ended.returncode, said, [name for name in left if not name.startswith("dpsynth:")])

    return ran


def release(case, out: Path, *more: object):  # type: ignore[no-untyped-def]
    return (
        "release", case.data, "--schema", case.schema, "--ledger", case.ledger, "--epsilon", 1, "--delta", "1e-6",
        "--synthesizer", "independent", "--no-gate", "--out", out, *more,
    )  # fmt: skip


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
def test_a_release_that_finds_no_room(case, table_rows, on_a_full_disk, engine: str) -> None:  # type: ignore[no-untyped-def]
    """The memory engine fills the disk with synthetic rows, DuckDB with its own copy of the table."""
    case.write(table_rows(8000 if engine == "duckdb" else 500))
    out = case.folder / ("out" if engine == "duckdb" else "full/out")
    rows = ("--rows", 300_000) if engine == "memory" else ("--engine", "duckdb")
    ended = on_a_full_disk(*release(case, out, *rows), temporary=engine == "duckdb")
    assert ended.code == 6, ended
    assert len([line for line in ended.said if "could not be" in line]) == 1, ended
    assert not any("Traceback" in line or "Error" in line for line in ended.left), ended
    assert ended.left == []
    assert not out.exists()
    assert not [path for path in case.folder.iterdir() if path.name.startswith(".")]
    ledger = Ledger.open(case.ledger)
    assert ledger.verify().ok
    assert ledger.extract().charged_nano > 0
    assert ledger.extract().orphans == 0, "the ledger says that it failed"


def test_a_sample_that_finds_no_room(case, on_a_full_disk) -> None:  # type: ignore[no-untyped-def]
    assert case.release("--synthesizer", "independent", "--no-gate") == 0
    charged = case.extract().charged_nano
    for name in ("more.csv", "more.parquet"):
        ended = on_a_full_disk("sample", case.out, "--rows", 300_000, "--out", case.folder / "full" / name)
        assert ended.code == 6, ended
        assert len(ended.said) == 1
        assert "could not be written" in ended.said[0]
        assert ended.left == []
    assert case.extract().charged_nano == charged
