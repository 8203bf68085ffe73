"""Bad input: the right exit code, one sentence, nothing charged where it is found before the reservation, nothing left."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


def edited(case, old: str, new: str) -> None:  # type: ignore[no-untyped-def]
    text = case.schema.read_text(encoding="utf-8")
    assert old in text
    case.schema.write_text(text.replace(old, new, 1), encoding="utf-8")


def header(names: str) -> Callable[..., None]:
    return lambda case: case.write(["p1,1,A,1,yes"], header=names)


BEFORE: dict[str, tuple[int, Callable[..., object], tuple[object, ...]]] = {
    "missing file": (2, lambda case: case.data.unlink(), ()),
    "empty file": (2, lambda case: case.data.write_bytes(b""), ()),
    "no header": (2, lambda case: case.data.write_text("p1,1,A,1,yes\np2,2,B,2,no\n"), ()),
    "a column not in the schema": (2, header("who,age,town,cost,ill,extra"), ()),
    "a schema column not in the file": (2, header("who,age,town,cost"), ()),
    "duplicate column names": (2, header("who,age,age,town,cost,ill"), ()),
    "not a table format": (2, lambda case: None, ()),
    "unknown key in the schema": (2, lambda case: edited(case, "table      =", "tabel      ="), ()),
    "schema is not TOML": (2, lambda case: case.schema.write_text("a = = b"), ()),
    "schema file missing": (2, lambda case: case.schema.unlink(), ()),
    "date column": (
        2,
        lambda case: edited(
            case, 'type   = "boolean"\ntrue   = ["yes"]\nfalse  = ["no"]', 'type = "date"\nformat = "%Y"'
        ),
        (),
    ),
    "constraint": (
        2,
        lambda case: edited(
            case, 'basis      = "made for the tests"', 'basis = "x"\n[[constraint]]\nrule = "age >= \'old\'"\n'
        ),
        (),
    ),
    "draft": (7, lambda case: edited(case, "table      =", 'status = "draft"\ntable      ='), ()),
    "blank": (7, lambda case: edited(case, "maximum = 99\n", ""), ()),
    "unknown synthesizer": (2, lambda case: None, ("--synthesizer", "nope")),
    "rows 0": (2, lambda case: None, ("--rows", 0)),
    "holdout 1": (2, lambda case: None, ("--holdout", 1)),
    "holdout nan": (2, lambda case: None, ("--holdout", "nan")),
    "attack share without holdout": (2, lambda case: None, ("--attack-share", "0.2")),
    "policy missing": (2, lambda case: None, ("--policy", "nowhere.toml")),
    "output exists": (2, lambda case: case.out.mkdir(), ()),
    "output folder missing": (2, lambda case: None, ("--out", "/nonexistent/place/out")),
    "output name too long": (2, lambda case: None, ("--out", f"/tmp/{'o' * 300}")),
    "delta too small for a float": (2, lambda case: None, ("--delta", "1e-400")),
    "delta of a fraction of nothing": (2, lambda case: None, ("--delta", "1/0")),
    "unknown option": (2, lambda case: None, ("--sed", 1)),
}


@pytest.mark.parametrize("name", BEFORE)
def test_found_before_the_reservation(case, name: str) -> None:  # type: ignore[no-untyped-def]
    code, change, words = BEFORE[name]
    change(case)
    if name == "not a table format":
        case.data.rename(case.folder / "visits.xls")
        words = ()
        before = case.listing()
        assert case("release", case.folder / "visits.xls", "--schema", case.schema, "--ledger", case.ledger,
                    "--epsilon", 1, "--delta", "1e-6", "--out", case.out) == code  # fmt: skip
    else:
        before = case.listing()
        assert case.release(*words) == code, case.stderr
    refused_cleanly(case, before)


@pytest.mark.parametrize(
    "epsilon", ["0", "-1", "nan", "inf", "-inf", "much", "", "1e400", "1e-300", "1e999999999", "1e-999999999"]
)
def test_epsilon_has_to_be_a_positive_number(case, epsilon: str) -> None:  # type: ignore[no-untyped-def]
    before = case.listing()
    code = case.release(epsilon=epsilon)
    assert code == 2, case.stderr
    refused_cleanly(case, before)


@pytest.mark.parametrize("column", [{"age": [{"a": 1}]}, {"ill": [[True]]}, {"who": [1.5]}, {"cost": [["x"]]}])
def test_parquet_storage_that_cannot_be_read_as_declared(case, column: dict[str, object]) -> None:  # type: ignore[no-untyped-def]
    import pandas as pd

    frame = {"who": ["a"], "age": [1], "town": ["A"], "cost": [1.0], "ill": ["yes"]} | column
    path = case.folder / "visits.parquet"
    pd.DataFrame(frame).to_parquet(path)
    before = case.listing()
    code = case("release", path, "--schema", case.schema, "--ledger", case.ledger, "--epsilon", 1, "--delta", "1e-6",
                "--out", case.out)  # fmt: skip
    assert code == 2, case.stderr
    refused_cleanly(case, before)


def refused_cleanly(case, before: set[str]) -> None:  # type: ignore[no-untyped-def]
    assert case.stdout == ""
    assert one_sentence(case.stderr), case.stderr
    extract = case.extract()
    assert (extract.charged_nano, extract.attempts) == (0, 0)
    assert case.listing() == before


def one_sentence(text: str) -> bool:
    lines = [line for line in text.splitlines() if not line.startswith("dpsynth: reserving")]
    return len(lines) == 1 and lines[0].startswith("dpsynth: ") and "Traceback" not in text


def test_budget_exceeded_is_refused_and_logged(case) -> None:  # type: ignore[no-untyped-def]
    before = case.listing()
    assert case.release(epsilon=3) == 7
    assert one_sentence(case.stderr)
    extract = case.extract()
    assert (extract.charged_nano, extract.denied) == (0, 1)
    assert case.listing() == before


def test_another_unit_than_the_ledgers(case) -> None:  # type: ignore[no-untyped-def]
    edited(case, 'entity = "person"', 'entity = "household"')
    assert case.release() == 7
    assert case.extract().charged_nano == 0


@pytest.mark.slow
def test_ledger_locked_by_another_process(case, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("dpsynth.ledger.store.TIMEOUT", 0.3)
    script = f"import sqlite3,sys; c=sqlite3.connect({str(case.ledger)!r},isolation_level=None); c.execute('BEGIN IMMEDIATE'); print('held',flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        before = case.listing()
        assert case.release() == 6
        assert case.listing() == before
        holder.communicate("")
    assert case.extract().attempts == 0


def test_corrupted_ledger(case) -> None:  # type: ignore[no-untyped-def]
    raw = bytearray(case.ledger.read_bytes())
    raw[100:600] = bytes(500)
    case.ledger.write_bytes(raw)
    assert case.release() == 5
    assert not case.out.exists()


def test_edited_ledger(case) -> None:  # type: ignore[no-untyped-def]
    book = sqlite3.connect(case.ledger)
    for (name,) in book.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        book.execute(f"DROP TRIGGER {name}")
    table = book.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'").fetchone()[
        0
    ]
    columns = [row[1] for row in book.execute(f"PRAGMA table_info({table})")]
    body = next(name for name in columns if name in ("body", "entry", "json"))
    book.execute(f"UPDATE {table} SET {body} = replace({body}, 'test', 'tset')")
    book.commit()
    book.close()
    assert case.release() == 5


def test_not_a_ledger(case) -> None:  # type: ignore[no-untyped-def]
    case.ledger.write_text("not a database, but long enough to look like a file of some kind\n" * 40)
    assert case.release() == 5


def test_missing_ledger(case) -> None:  # type: ignore[no-untyped-def]
    case.ledger.unlink()
    assert case.release() == 2
    assert "ledger create" in case.stderr


@pytest.mark.parametrize(
    "words", ["gate {0}", "verify {0}", "report {0} --out r.html", "ledger show {0}", "sample {0} --rows 1 --out r.csv"]
)
def test_a_path_that_is_too_long_is_bad_input(case, words: str) -> None:  # type: ignore[no-untyped-def]
    assert case(*words.format("/tmp/" + "x" * 300).split()) == 2
    assert one_sentence(case.stderr)
    assert case.release("--ledger", "/tmp/" + "x" * 300) == 2
    assert case.extract().attempts == 0


HOSTILE = ["<script>alert(1)</script>", "=HYPERLINK(1)", "a|b`c*", "-1+1", "x" * 300]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_column_names_are_accepted_and_escaped(case, name: str, table_rows: Callable[..., list[str]]) -> None:  # type: ignore[no-untyped-def]
    edited(case, '"town"', f"'{name}'")
    case.write(table_rows(300), header=f'who,age,"{name}",cost,ill')
    code = case.release("--rows", 50)
    assert code in (0, 1, 2, 3, 4), case.stderr
    if code != 2:
        page = (case.out / "release" / "report.html").read_text(encoding="utf-8")
        assert "<script>alert" not in page


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\u202eb", "a\x00b", "a\nb"])
def test_control_characters_in_names_are_refused(case, name: str) -> None:  # type: ignore[no-untyped-def]
    edited(case, '"town"', '"' + "".join(f"\\u{ord(c):04X}" for c in name) + '"')
    before = case.listing()
    assert case.release() == 2
    assert "\x1b" not in case.stderr
    refused_cleanly(case, before)


def test_interrupt_before_the_rows_are_read(case, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dpsynth.sources.read", stop)
    assert case.release() == 130
    assert case.extract().charged_nano > 0  # it had started: the charge stays
    assert not case.out.exists()
    assert not [path for path in case.folder.iterdir() if path.name.startswith(".out")]


def test_disk_full_after_the_reservation(case, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reports.pipeline.write_parts", full)
    before = case.listing()
    assert case.release() == 6
    assert one_sentence("\n".join(case.stderr.splitlines()[-1:]))
    assert case.extract().charged_nano > 0
    assert case.listing() == before


def test_kill_after_the_reservation(case, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    script = (
        "import os, signal, sys; import reports.pipeline; from dpsynth.cli.main import run;"
        "reports.pipeline.write_parts = lambda *a, **words: os.kill(os.getpid(), signal.SIGKILL); sys.exit(run(sys.argv[1:]))"
    )
    words = ["release", case.data, "--schema", case.schema, "--ledger", case.ledger, "--epsilon", "1", "--delta", "1e-6",
             "--out", case.out]  # fmt: skip
    died = subprocess.run([sys.executable, "-c", script, *map(str, words)], capture_output=True, check=False)
    assert died.returncode == -9
    extract = case.extract()
    assert extract.charged_nano > 0
    assert extract.orphans == 1
    assert not case.out.exists()


@pytest.mark.parametrize("polite", [signal.SIGTERM, signal.SIGHUP])
def test_a_polite_request_to_end_leaves_no_rows_behind(case, tmp_path: Path, polite: signal.Signals) -> None:  # type: ignore[no-untyped-def]
    """In the middle of reading into a private database: as after Ctrl-C, and the charge stays."""
    script = (
        "import os, sys, time; from dpsynth.counting.duckdb_store import DuckDBStore; from dpsynth.cli.main import run;"
        f"DuckDBStore._fill = lambda *a: (os.kill(os.getpid(), {int(polite)}), time.sleep(60)); sys.exit(run(sys.argv[1:]))"
    )
    words = ["release", case.data, "--schema", case.schema, "--ledger", case.ledger, "--epsilon", "1", "--delta", "1e-6",
             "--engine", "duckdb", "--out", case.out]  # fmt: skip
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)],
        capture_output=True,
        check=False,
        timeout=300,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    assert ended.returncode == 130, ended.stderr
    assert not list(scratch.iterdir())
    assert not case.out.exists()
    assert not [path for path in case.out.parent.iterdir() if path.name.startswith(".")]
    assert case.extract().charged_nano > 0
