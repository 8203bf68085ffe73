"""A server in front of a server that cuts connections: at a chosen message, before or after it has arrived."""

from __future__ import annotations

import select
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal, TypeAlias

Fate: TypeAlias = Literal["pass", "lost", "unanswered"]
"""What becomes of a message of the client: it and its answer pass; it never arrives; it arrives, its answer does not."""


class CuttingProxy:
    """Listens on a socket in a folder of its own and passes on what PostgreSQL's clients and server say."""

    def __init__(self, target: str) -> None:
        self._target = f"{target}/.s.PGSQL.5432"
        self.folder = tempfile.mkdtemp(prefix="dpsynth-px-", dir="/tmp")
        self.fate: Callable[[int, bytes], Fate] = lambda number, message: "pass"
        self.messages = 0
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(f"{self.folder}/.s.PGSQL.5432")
        self._listener.listen(100)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        shutil.rmtree(self.folder)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with client, server, suppress(OSError):
            server.connect(self._target)
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if server in ready:
                    answer = server.recv(1 << 16)
                    if not answer:
                        return
                    client.sendall(answer)
                if client in ready:
                    message = client.recv(1 << 16)
                    if not message:
                        return
                    self.messages += 1
                    fate = self.fate(self.messages, message)
                    if fate == "lost":
                        return
                    server.sendall(message)
                    if fate == "unanswered":
                        server.recv(1 << 16)  # the server has done it
                        return


@contextmanager
def proxy_before(address: str) -> Iterator[tuple[CuttingProxy, str]]:
    """A proxy before the server of an address, and the address that goes through it."""
    target = address.partition("host=")[2].partition("&")[0]
    proxy = CuttingProxy(target)
    try:
        yield proxy, address.replace(target, proxy.folder)
    finally:
        proxy.close()
