"""One long-lived process for many runs of the SmartNoise adapter. Standard library only.

    .venv-smartnoise/bin/python smartnoise_serving.py serve SOCKET ADAPTER      answers requests, one after the other
    python smartnoise_serving.py ask SOCKET METHOD --train IN.parquet ...       one run: what an audit calls for each fit

A fit of a second or less is otherwise lost in ten seconds of imports. What runs is the adapter's `main`, word for word;
NumPy's and Python's generators go on from run to run, as they would from another start.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import socket
import sys
from typing import Any


def serve(address: str, adapter: str) -> None:
    """Answers until it is stopped; each answer is the exit code of one run."""
    spec = importlib.util.spec_from_file_location("adapter", adapter)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        while True:
            connection, _ = server.accept()
            with connection:
                words = json.loads(connection.makefile("r").readline())
                try:
                    with contextlib.redirect_stdout(io.StringIO()):
                        code = module.main(words)
                except (KeyboardInterrupt, SystemExit):
                    raise
                except BaseException as error:  # pac-synth's panics are no Exception
                    print(f"{words[0]}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                    code = 1
                connection.sendall(f"{code}\n".encode())


def ask(address: str, words: list[str]) -> int:
    """One run; its exit code."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        client.sendall(json.dumps(words).encode() + b"\n")
        return int(client.makefile("r").readline() or 1)


if __name__ == "__main__":
    kind, place, *rest = sys.argv[1:]
    if kind == "serve":
        serve(place, rest[0])
    sys.exit(ask(place, rest))
