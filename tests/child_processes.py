"""Forked processes that report what they did until they die."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable


class Child:
    """A forked process that runs `work(say)`; what it says arrives even if it dies in the next instruction."""

    def __init__(self, work: Callable[[Callable[[str], None]], object]) -> None:
        reader, writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                work(lambda word: _write(writer, word))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.close(writer)
        self._reader = reader

    def word(self) -> str:
        """The next thing that it says, whole, however much it has said by then."""
        said = b""
        while not said.endswith(b" "):
            said += (letter := os.read(self._reader, 1))
            assert letter, "it has ended"
        return said.decode().strip()

    def wait(self) -> tuple[int, list[str]]:
        """Exit code (minus the signal if it was killed) and the words."""
        words = self.wait_words()
        return self.wait_code(), words

    def wait_words(self) -> list[str]:
        """All that it has said when it has ended; its number stays its own until `wait_code`."""
        with os.fdopen(self._reader) as pipe:
            return pipe.read().split()

    def wait_code(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _write(writer: int, word: str) -> None:
    os.write(writer, f"{word} ".encode())


def race(count: int, work: Callable[[int, Callable[[str], None]], None]) -> list[tuple[int, list[str]]]:
    """Run `count` processes that are let go at the same moment."""
    gate_reader, gate_writer = os.pipe()

    def wait_and_work(place: int) -> Callable[[Callable[[str], None]], None]:
        def run(say: Callable[[str], None]) -> None:
            os.close(gate_writer)
            os.read(gate_reader, 1)  # returns when the last writer is gone
            work(place, say)

        return run

    children = [Child(wait_and_work(place)) for place in range(count)]
    os.close(gate_writer)
    os.close(gate_reader)
    return [child.wait() for child in children]
