"""A shell whose `dpsynth` is answered by the test's own process, which has everything imported already.

A new process for each command of a script would spend three seconds of CPU on imports. Everything else is a real shell:
redirections, exit codes, variables and pipes are its own.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from dpsynth.cli.main import run

_SHIM = """\
#!/bin/sh
: > "$SERVED/words"
for word; do printf '%s\\0' "$word" >> "$SERVED/words"; done
pwd > "$SERVED/place"
echo > "$SERVED/ask"
code=
while [ -z "$code" ]; do read -r code < "$SERVED/answer" || :; done
cat "$SERVED/out"
cat "$SERVED/err" >&2
exit "$code"
"""


@dataclass
class Done:
    """What a script did."""

    code: int
    stdout: str
    stderr: str


@dataclass
class Shell:
    """Runs scripts in a folder; one command at a time is answered.

    Args:
        folder: Where scripts start.
        served: An empty folder for the two pipes.
        calls: Every command line that was answered, and its exit code.
    """

    folder: Path
    served: Path
    calls: list[tuple[list[str], int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.served / "bin").mkdir()
        shim = self.served / "bin" / "dpsynth"
        shim.write_text(_SHIM, encoding="utf-8")
        shim.chmod(0o755)
        for name in ("ask", "answer"):
            os.mkfifo(self.served / name)

    def __call__(self, script: str, *, timeout: float = 300, **variables: str) -> Done:
        """Runs a script with `sh -e`, and returns its exit code and what it said."""
        here = os.environ | variables | {"SERVED": str(self.served)}
        here["PATH"] = f"{self.served / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        said = [self.served / name for name in ("stdout", "stderr")]
        asked = os.open(self.served / "ask", os.O_RDWR | os.O_NONBLOCK)
        end = time.monotonic() + timeout
        try:
            with said[0].open("wb") as out, said[1].open("wb") as err:
                shell = subprocess.Popen(["sh", "-e", "-c", script], cwd=self.folder, env=here, stdout=out, stderr=err)
                try:
                    while shell.poll() is None:
                        if select.select([asked], [], [], 0.02)[0] and os.read(asked, 1):
                            self._answer(shell)
                        assert time.monotonic() < end, "the script does not end"
                finally:
                    shell.kill()
                    shell.wait()
        finally:
            os.close(asked)
        return Done(shell.returncode, *(path.read_text(encoding="utf-8", errors="replace") for path in said))

    def _answer(self, shell: subprocess.Popen[bytes]) -> None:
        words = (self.served / "words").read_bytes().decode().split("\0")[:-1]
        place, before = Path((self.served / "place").read_text(encoding="utf-8").rstrip("\n")), Path.cwd()
        with (
            (self.served / "out").open("w", encoding="utf-8") as out,
            (self.served / "err").open("w", encoding="utf-8") as err,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            os.chdir(place)
            try:
                code = run(words)
            finally:
                os.chdir(before)
        self.calls.append((words, code))
        while shell.poll() is None:
            try:
                answer = os.open(self.served / "answer", os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads yet
                time.sleep(0.001)
                continue
            os.write(answer, f"{code}\n".encode("ascii"))
            os.close(answer)
            return
