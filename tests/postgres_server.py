"""A PostgreSQL server of our own, from the system's binaries, on a socket in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


def binary(name: str) -> str | None:
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(places[-1]) if places else shutil.which(name)


def _unprivileged() -> dict[str, Any]:
    """Whom the server runs as: PostgreSQL refuses root."""
    if os.getuid() != 0:
        return {}
    try:
        found = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    return {"user": found.pw_uid, "group": found.pw_gid}


@contextmanager
def running(*options: str) -> Iterator[str]:
    """The address of a server, with no other parameter than its folder; without what is needed the test is skipped.

    Args:
        options: Settings for its command line, `name=value`.
    """
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    initdb, pg_ctl = binary("initdb"), binary("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL is not installed")
    user = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="dpsynth-pg-", dir="/tmp"))  # a socket's path has to be short
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    data = folder / "data"
    try:
        if user:
            os.chown(folder, user["user"], user["group"])
        subprocess.run(
            [initdb, "-D", data, "-A", "trust", "-U", "tester", "-N", "--no-locale", "-E", "UTF8"], **quiet, **user
        )
        rules = data / "pg_hba.conf"
        rules.write_text("local all guarded scram-sha-256\n" + rules.read_text())  # the only role with a password
        settings = ["listen_addresses=''", "max_connections=200", *options]
        words = " ".join([f"-k {folder}", *(f"-c {setting}" for setting in settings)])
        subprocess.run([pg_ctl, "-D", data, "-w", "-l", folder / "log", "-o", words, "start"], **quiet, **user)
        try:
            yield f"postgresql://tester@/postgres?host={folder}"
        finally:
            subprocess.run([pg_ctl, "-D", data, "-m", "immediate", "stop"], **quiet, **user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
