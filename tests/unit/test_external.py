"""Other programs: what they get, what they leave, and that nothing of it stays or is shown."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dpsynth import Column, DataFileError, IncompleteSchema, OperationError, Program, Schema, UsageError

MakeSchema = Callable[..., Schema]
Write = Callable[[str], str]
PRIVATE = "CANARYVALUE"
COPY = """
    shutil.copy(train, out)
    table = pd.read_parquet(out).drop(columns="who")
    table.to_parquet(out)
"""


@pytest.fixture
def schema(make_schema: MakeSchema) -> Schema:
    return make_schema((3, 2), max_rows=2)


@pytest.fixture
def frame(make_frame: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return make_frame([[0, 1], [2, 0], [1, 1]], columns=2, who=["a", "b", "b"])


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, so that a test sees what stays."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A Python program with these lines in the place of its work; returns the command."""

    def work(body: str) -> str:
        path = tmp_path / "program.py"
        head = """
            import os, shutil, sys, time
            args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
            train, out = args["--train"], args["--out"]
        """
        pandas = "import pandas as pd\n" if "pd." in body else ""  # which takes longer than all the rest
        path.write_text(pandas + textwrap.dedent(head) + textwrap.dedent(body), encoding="utf-8")
        return f"'{sys.executable}' '{path}'"

    return work


def program(command: str, schema: Schema, **words: Any) -> Program:
    return Program(command, schema, **{"epsilon": 1, "delta": "1e-6", "rows": 3} | words)


def test_rows_come_back_as_they_were_written(write: Write, schema: Schema, frame: pd.DataFrame, temp: Path) -> None:
    game = program(write(COPY), schema)
    trial = game.run(frame)
    assert trial.rows.schema == schema.released()
    pd.testing.assert_frame_equal(trial.rows.to_frame(), frame.drop(columns="who"))
    assert (trial.measurements, trial.coarse, game.cost) == ((), (), None)
    assert (game.epsilon, game.delta, game.schema) == (1.0, 1e-6, schema)
    assert list(temp.iterdir()) == []


def test_what_a_program_is_told(write: Write, schema: Schema, frame: pd.DataFrame, tmp_path: Path, temp: Path) -> None:
    note = tmp_path / "note"
    command = write(f"""
        folder = os.path.dirname(train)
        modes = [oct(os.stat(path).st_mode & 0o777) for path in (folder, train, args["--schema"])]
        schema = open(args["--schema"]).read()
        names = sorted(args)
        said = [modes, names, args["--rows"], args["--epsilon"], args["--delta"], len(schema) > 0, os.environ["TMPDIR"] == folder]
        open({str(note)!r}, "a").write(repr(said) + "|" + args["--seed"] + "|" + schema + "\\0")
        pd.read_parquet(train).drop(columns="who").to_parquet(out)
        assert oct(os.stat(out).st_mode & 0o777) == "0o600"
    """)
    game = program(command, schema, epsilon="0.5")
    game.run(frame)
    game.run(frame)
    first, second = (line.split("|") for line in note.read_text().split("\0")[:2])
    names = ["--delta", "--epsilon", "--out", "--rows", "--schema", "--seed", "--train"]
    assert first[0] == repr([["0o700", "0o600", "0o600"], names, "3", "0.5", "1e-06", True, True])
    assert first[1] != second[1]
    assert Schema.parse(first[2]) == schema
    assert list(temp.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (f"sys.exit('{PRIVATE} ' + pd.read_parquet(train).who[0])", "the program failed"),
        (f"print('{PRIVATE}')", "wrote no file at --out"),
        (f"open(out, 'w').write('{PRIVATE}')", "no Parquet file"),
        ("open(out, 'w')", "no Parquet file"),
        (f"pd.DataFrame({{'{PRIVATE}': [1]}}).to_parquet(out)", "no Parquet file"),
        ("shutil.copy(train, out)", "and nothing else"),  # the unit column is still there
        ("os.symlink(train, out)", "wrote no file at --out"),
        ("os.kill(os.getpid(), 9)", "the program failed"),
        ("time.sleep(60)", "more than 1 seconds: raise --timeout"),
        ("os.mkdir(out + 'd'); open(out + 'd/x', 'w'); os.chmod(out + 'd', 0)", "wrote no file"),
    ],
    ids=["exits", "no file", "no parquet", "empty", "columns", "unit", "link", "killed", "slow", "unwritable"],
)
def test_a_failure_is_one_sentence_and_leaves_nothing(
    body: str,
    words: str,
    write: Write,
    schema: Schema,
    frame: pd.DataFrame,
    temp: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(OperationError) as found:
        program(write(body), schema, timeout=1 if "sleep" in body else 60).run(frame)
    said = str(found.value)
    assert words in said
    assert PRIVATE not in said
    assert found.value.exit_code == 6
    assert found.value.__cause__ is None
    assert found.value.__suppress_context__ or found.value.__context__ is None
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")
    assert list(temp.iterdir()) == []


def test_a_program_and_its_children_end_with_their_time(
    write: Write, schema: Schema, frame: pd.DataFrame, tmp_path: Path
) -> None:
    """A child that outlives its parent could go on reading."""
    mark = tmp_path / "mark"
    body = f"""
        import subprocess
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1.5); open({str(mark)!r}, 'w')"])
        time.sleep(60)
    """
    started = time.monotonic()
    with pytest.raises(OperationError):
        program(write(body), schema, timeout=0.8).run(frame)
    assert time.monotonic() - started < 20
    time.sleep(1.5)
    assert not mark.exists()


@dataclass(frozen=True, kw_only=True)
class Running:
    """A program that is being run by a process of its own."""

    child: subprocess.Popen[bytes]
    number: int
    temp: Path


@pytest.fixture
def running(write: Write, schema: Schema, tmp_path: Path) -> Iterator[Running]:
    temp, ready, begun = (tmp_path / name for name in ("temporary", "ready", "begun"))
    temp.mkdir()
    command = write(
        f"open({str(begun)!r}, 'w').write(str(os.getpid())); os.rename({str(begun)!r}, {str(ready)!r}); time.sleep(60)"
    )
    toml = tmp_path / "schema.toml"
    toml.write_text(schema.to_toml(), encoding="utf-8")
    script = f"""
        import pandas as pd
        from dpsynth import Program, Schema
        from dpsynth.cli.talk import stoppable
        frame = pd.DataFrame({{"c0": ["0"], "c1": ["1"], "who": ["a"]}}, dtype="string")
        with stoppable():
            Program({command!r}, Schema.load({str(toml)!r}), epsilon=1, delta=0, rows=1).run(frame)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | {"TMPDIR": str(temp)},
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with child:
        wait_for(ready, child)
        (folder,) = temp.iterdir()
        assert (folder / "in.parquet").exists()
        yield Running(child=child, number=int(ready.read_text()), temp=temp)


@pytest.mark.parametrize("asked", [(signal.SIGINT,), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)], ids=len)
def test_an_interrupt_removes_everything(running: Running, asked: tuple[signal.Signals, ...]) -> None:
    """Ctrl-C, or all requests to end at once, in a process of its own: the folder is gone, and so is the program."""
    running.child.send_signal(signal.SIGSTOP)  # so that they arrive together
    for request in (*asked, signal.SIGCONT):
        running.child.send_signal(request)
    _, said = running.child.communicate(timeout=90)
    assert b"KeyboardInterrupt" in said
    assert list(running.temp.iterdir()) == []
    assert not lives(running.number)


def test_a_kill_ends_the_program_and_removes_its_rows(running: Running) -> None:
    """A killed process can do nothing itself: the keeper sees the end of its input."""
    running.child.kill()
    end = time.monotonic() + 30
    while (lives(running.number) or list(running.temp.iterdir())) and time.monotonic() < end:
        time.sleep(0.05)
    assert not lives(running.number)
    assert list(running.temp.iterdir()) == []


def test_a_keeper_that_is_killed_is_a_program_that_failed(
    write: Write, schema: Schema, frame: pd.DataFrame, temp: Path
) -> None:
    with pytest.raises(OperationError, match="the program failed"):
        program(write("os.kill(os.getppid(), 9)"), schema).run(frame)
    assert list(temp.iterdir()) == []


def lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_interrupt_in_the_instant_of_the_start_leaves_nothing(
    write: Write, schema: Schema, frame: pd.DataFrame, temp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keeper runs, and nobody has its number yet."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def interrupted(*words: Any, **settings: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*words, **settings))
        signal.raise_signal(signal.SIGINT)
        return started[0]

    monkeypatch.setattr("dpsynth.external.subprocess.Popen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        program(write("time.sleep(60)"), schema).run(frame)
    assert started[0].returncode == 0
    assert list(temp.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def wait_for(path: Path, child: subprocess.Popen[bytes]) -> None:
    for _ in range(2400):
        if path.exists():
            return
        assert child.poll() is None, child.stderr and child.stderr.read()
        time.sleep(0.05)
    raise AssertionError("the program never started")


def test_a_command_is_split_and_given_to_no_shell(
    write: Write, schema: Schema, frame: pd.DataFrame, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    command = write("""
        extra = sys.argv[1:3]
        args = dict(zip(sys.argv[3::2], sys.argv[4::2]))
        assert extra == ["$HOME;", "a b"], extra
        pd.read_parquet(args["--train"]).drop(columns="who").to_parquet(args["--out"])
    """).replace("program.py'", "program.py' '$HOME;' \"a b\"")
    assert len(program(command, schema).run(frame).rows) == 3
    with pytest.raises(OperationError):
        program(f"{write('sys.exit(1)')} ; touch {mark}", schema).run(frame)
    assert not mark.exists()


def test_undeclared_values_are_refused(write: Write, schema: Schema, frame: pd.DataFrame) -> None:
    """Our reader would drop them, and whatever they give away with them."""
    body = "pd.DataFrame({'c0': ['0', 'a private row'], 'c1': ['1', '0']}).to_parquet(out)"
    with pytest.raises(OperationError, match="does not declare") as caught:
        program(write(body), schema).run(frame)
    assert "private row" not in str(caught.value)


def test_the_declared_category_other_is_no_undeclared_value(write: Write, frame: pd.DataFrame) -> None:
    """A program may write it, since it is a cell of its own; any other text is still undeclared."""
    column = Column(name="c0", type="category", values=("0", "1", "2"), unknown="other")
    schema = Schema(table="t", columns=(column,))
    rows = frame[["c0"]]
    good = "pd.DataFrame({'c0': ['0', 'other']}).to_parquet(out)"
    assert program(write(good), schema).run(rows).rows.to_frame()["c0"].tolist() == ["0", "other"]
    with pytest.raises(OperationError, match="does not declare"):
        program(write(good.replace("'other'", "'another'")), schema).run(rows)


def test_any_rows_are_accepted(write: Write, schema: Schema, frame: pd.DataFrame) -> None:
    assert len(program(write(COPY), schema).run(frame.iloc[:0]).rows) == 0
    with pytest.raises(DataFileError):
        program(write(COPY), schema).run(frame.drop(columns="c0"))


def test_settings_are_checked(schema: Schema, make_schema: MakeSchema, write: Write) -> None:
    from dataclasses import replace

    good = write(COPY)
    for command in ("", "   ", "'open", "/no/such/program", "no-such-program-anywhere --x"):
        with pytest.raises(UsageError):
            program(command, schema)
    for words in ({"epsilon": 0}, {"epsilon": "nan"}, {"epsilon": "1e999"}, {"delta": 1}, {"delta": -1}, {"rows": 0},
                  {"timeout": 0}, {"timeout": float("inf")}, {"timeout": float("nan")}):  # fmt: skip
        with pytest.raises(UsageError):
            program(good, schema, **words)
    with pytest.raises(IncompleteSchema):
        program(good, replace(schema, status="draft"))
    assert "program.py" not in repr(program(good, schema))


def test_numbers_and_gaps_arrive_exactly(write: Write) -> None:
    schema = Schema.parse("""
        schema = "dpsynth.schema/1"
        table = "t"
        [[column]]
        name = "x"
        type = "number"
        minimum = 0
        maximum = 1
        missing = true
        [[column]]
        name = "n"
        type = "integer"
        minimum = 0
        maximum = 9
        [[column]]
        name = "b"
        type = "boolean"
        missing = true
    """)
    frame = pd.DataFrame(
        {
            "x": [0.1, np.nan, 1 / 3],
            "n": pd.array([1, 2, 9], dtype="Int64"),
            "b": pd.array([True, None, False], dtype="boolean"),
        }
    )
    trial = program(write("shutil.copy(train, out)"), schema).run(frame)
    pd.testing.assert_frame_equal(trial.rows.to_frame(), frame)
