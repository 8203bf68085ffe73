"""Options and loaders that several commands share."""

from __future__ import annotations

from pathlib import Path

from dpsynth import Ledger, UsageError
from reports.policy import Policy


def policy_named(name: str) -> Policy:
    """A policy file, or a shipped policy by name."""
    return Policy.load(name)


def ledger_at(place: str) -> Ledger:
    """The ledger at a path."""
    if place.startswith(("postgresql://", "postgres://")):
        raise UsageError("PostgreSQL ledgers are not supported yet: give the path of an SQLite ledger")
    return Ledger.open(Path(place))


def check_new(path: Path) -> None:
    """Refuses, before any work is done, a path where no new file can be made."""
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists already: choose another path")
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist: create it first")


def write_result(path: Path, content: str | bytes) -> None:
    """Writes one result file; refuses to replace one."""
    try:
        with path.open("xb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
    except FileExistsError:
        raise UsageError(f"{path} exists already: choose another path") from None
    except FileNotFoundError:
        raise UsageError(f"the folder {path.parent} does not exist: create it first") from None
