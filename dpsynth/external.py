"""Any program as a generator: `CMD --train IN.parquet --schema S.toml --rows N --epsilon E --delta D --seed K --out OUT.parquet`.

The program reads IN and the schema, writes OUT with N synthetic rows in the schema's modelled columns, and exits with 0.
In an audit E and D are its promise for the schema's unit and neighbouring relation, and a unit's rows are not cut to
`max_rows` before the program sees them. In a release (`Curator.ask`) the program gets the bounded rows without their unit,
under a schema whose unit is a row, and E and D are its promise for one row more or less. K is a fresh seed from the
system's entropy, which nobody keeps.

Files lie in a folder of their own that only the user can enter; the program's temporary files go there too (TMPDIR). The
folder is removed, and the program with what it started is ended, also where this process is killed: a small process beside
it sees to that (`dpsynth/keeper.py`). If that one is killed too, the program goes on, and the next `Scratch` removes the
folder. What the program says on its own output is thrown away unread, because it may quote rows. What it writes is read by
our reader under our schema.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import select
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dpsynth import keeper, reading
from dpsynth.errors import DataFileError, OperationError, UsageError
from dpsynth.privacy import Cost, Number, RowPromise, exact
from dpsynth.reading.rows import keeps_domain
from dpsynth.schema import Schema
from dpsynth.scratch import Scratch
from dpsynth.table import Records
from dpsynth.trial import Trial, check_rows

if TYPE_CHECKING:
    import pandas as pd

TIMEOUT = 600.0
"""Seconds that one run may take, unless told otherwise."""
_GLANCE = 0.1  # seconds between looks for a request to end
_REQUESTS_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NOT_STARTED = "the program could not be started: check the command and its rights"
_BY_HAND = "run it by hand on a table that is not private, to see what it says"


class Program:
    """A program behind the protocol; has what an audit needs, as `Rehearsal` has.

    Args:
        command: Its name and first arguments, split as a shell would, but run by none.
        schema: What the table looks like; complete, and no draft.
        epsilon, delta: What the program promises.
        rows: Synthetic rows to ask for: a public number.
        timeout: Seconds that one run may take.
    Raises:
        IncompleteSchema: the schema is a draft or has blanks.
        UsageError: there is no such program, or a number is out of range.
    """

    def __init__(
        self, command: str, schema: Schema, *, epsilon: Number, delta: Number, rows: int, timeout: float = TIMEOUT
    ) -> None:
        self._words = words_of(command)
        check_rows(rows)
        if not 0 < timeout < float("inf"):
            raise UsageError("--timeout must be a positive number of seconds")
        schema.require_complete()
        self.schema = schema
        self.name = "external"  # and not the command, which may name private paths
        stated, mass = exact(epsilon, name="--epsilon"), exact(delta, name="--delta")
        self.promise = RowPromise(epsilon=stated, delta=mass)
        self.epsilon, self.delta = float(stated), float(mass)
        self.cost: Cost | None = None
        self.settings: Mapping[str, str] = {"command": digest_of(command)}
        self._rows = rows
        self._timeout = timeout
        self._released = schema.released()

    def __repr__(self) -> str:
        return f"Program(epsilon={self.epsilon:g}, delta={self.delta:g})"

    def run(self, frame: pd.DataFrame) -> Trial:
        """One run, with a fresh seed.

        Raises:
            DataFileError: the frame's columns are not the schema's.
            OperationError: the program failed, took too long, or wrote no table in the schema.
        """
        reading.check_frame(frame, self.schema)
        with _private_folder() as folder:
            train, schema, out = folder / "in.parquet", folder / "schema.toml", folder / "out.parquet"
            options = {
                "--train": str(train),
                "--schema": str(schema),
                "--rows": str(self._rows),
                "--epsilon": repr(self.epsilon),
                "--delta": repr(self.delta),
                "--seed": str(secrets.randbelow(2**63)),
                "--out": str(out),
            }
            words = [*self._words, *(word for option in options.items() for word in option)]
            with _kept(folder, words) as program:
                _write(train, _parquet(frame))
                _write(schema, self.schema.to_toml().encode("utf-8"))
                self._call(program)
                return Trial(rows=self._read(out))

    def _call(self, program: _Kept) -> None:
        with _uninterrupted() as asked:  # all the while: of two requests one would come before the program was stopped
            program.start()
            end = time.monotonic() + self._timeout
            ended = None
            while ended is None and not asked and (left := end - time.monotonic()) > 0:
                ended = program.ended(min(left, _GLANCE))
            if ended is None:
                program.stop()
        if ended is None and not asked:
            raise OperationError(f"the program took more than {self._timeout:g} seconds: raise --timeout")
        if ended == keeper.NOT_STARTED:
            raise OperationError(_NOT_STARTED)
        if ended != keeper.WELL:
            raise OperationError(f"the program failed: {_BY_HAND}")

    def _read(self, out: Path) -> Records:
        if out.is_symlink() or not out.is_file():
            raise OperationError("the program ended well and wrote no file at --out")
        try:
            reading.check_header(out, self._released)
            declared = all(keeps_domain(block, self._released) for block in reading.blocks(out, self._released))
            records = reading.read(out, self._released).records
        except (DataFileError, OperationError):  # whose texts may quote what the program wrote
            raise OperationError(
                "the program's output is no Parquet file with the schema's modelled columns and nothing else"
            ) from None
        if not declared:  # our reader would drop or clamp them, an attacker would not
            raise OperationError("the program writes values that the schema does not declare: it must not")
        return records


def words_of(command: str) -> list[str]:
    """The words of a command, as a shell would split it.

    Raises:
        UsageError: there is no such program.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        raise UsageError("--command has a quote that does not close") from None
    if not words:
        raise UsageError("--command must name a program")
    if shutil.which(words[0]) is None:
        raise UsageError("--command names a program that does not exist or may not be run")
    return words


def digest_of(command: str) -> str:
    """SHA-256 of the words of a command, in hexadecimal: tells two commands apart and does not show the places they name."""
    return hashlib.sha256("\0".join(words_of(command)).encode()).hexdigest()


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A folder that only the user can enter, gone afterwards."""
    scratch = Scratch()
    try:
        yield scratch.path
    finally:
        with _uninterrupted():
            scratch.remove()
        if scratch.path.exists():
            raise OperationError(f"temporary files could not be removed: delete {scratch.path}")


class _Kept:
    """A program that ends, and whose folder goes, with `stop` or with this process."""

    def __init__(self, folder: Path, words: list[str]) -> None:
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper.__file__, str(folder), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"TMPDIR": str(folder)},
            umask=0o077,
            start_new_session=True,
            bufsize=0,
        )
        assert self._keeper.stdin
        assert self._keeper.stdout
        self._say, self._hear = self._keeper.stdin, self._keeper.stdout
        self._told = select.poll()
        self._told.register(self._hear, select.POLLIN)

    def start(self) -> None:
        """Starts the program."""
        with suppress(BrokenPipeError):
            self._say.write(b"+")

    def ended(self, seconds: float) -> bytes | None:
        """How it ended, as `keeper` has it, and empty where the keeper was killed; None if it runs on after some seconds."""
        return self._hear.read(1) if self._told.poll(1000 * seconds) else None

    def stop(self) -> None:
        """Ends it and everything it started, and removes its folder."""
        if not self._say.closed:
            with self._keeper, suppress(BrokenPipeError):  # closes the pipes, and waits
                self._say.write(b"-")  # the end of input would not come while a fork of this process lives


@contextmanager
def _kept(folder: Path, words: list[str]) -> Iterator[_Kept]:
    """A program that can be started, and is gone afterwards with its folder."""
    program = None
    try:
        with _uninterrupted():
            try:
                program = _Kept(folder, words)
            except OSError:
                raise OperationError(_NOT_STARTED) from None
        yield program
    finally:
        with _uninterrupted():
            if program:
                program.stop()


@contextmanager
def _uninterrupted() -> Iterator[list[int]]:
    """Holds back requests to end, several of which come when a terminal closes, until the block is done; then they take effect.

    The block is given the list of those that came.

    A program that starts meanwhile gets none of it: what has a handler is back at its default in the new program.
    """
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    asked: list[int] = []
    before = {kind: signal.getsignal(kind) for kind in _REQUESTS_TO_END}
    before = {kind: handler for kind, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    try:
        for kind in before:
            signal.signal(kind, lambda number, _: asked.append(number))
        yield asked
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
        for number in dict.fromkeys(asked):
            signal.raise_signal(number)


def _write(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _parquet(frame: pd.DataFrame) -> bytes:
    """A Parquet file of the values alone: no index, no notes of pandas."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content
