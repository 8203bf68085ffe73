"""A release on disk: what may leave the house, written whole or not at all, and how anyone can check it.

    DIR/release/     synthetic.parquet, model/, schema.toml, manifest.json, evidence.json, policy.toml, verdict.json,
                     report.html, signature, release.intoto.jsonl, and later attestations/
    DIR/internal/    evidence and report for internal eyes, mode 0700

`report`, `gate` and `verify` work from `release/` alone. The manifest lists every file but itself and what is made after
it: the signature, the in-toto statements and the attestations, which `reports` reads and checks.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from dpsynth.errors import IntegrityError, OperationError, UsageError
from dpsynth.ledger import Anchor
from dpsynth.models.stored import StoredModel, load_model
from dpsynth.persons import UnitSizes
from dpsynth.schema import Schema
from dpsynth.scratch import locked_folder

MANIFEST_FORMAT = "dpsynth.manifest/1"
SIGNATURE_FORMAT = "dpsynth.signature/1"
ATTESTATIONS = "attestations"
STATEMENTS = "release.intoto.jsonl"
_LATER = ("manifest.json", "signature", STATEMENTS)
_ATTESTATION = re.compile(ATTESTATIONS + r"/[A-Za-z0-9][A-Za-z0-9._+-]{0,220}\.json")
_RENAME_NOREPLACE = 1
_AT_FDCWD = -100


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file that may be published. Never used on private rows."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder that may be published, by path."""
    return {path: sha256(folder / path) for path in _files(folder)}


def commitment(folder: Path, salt: bytes) -> str:
    """A salted digest over the files of a folder: proves later which files there were, says nothing before.

    Args:
        salt: 32 fresh bytes that stay with the folder.
    """
    digest = hashlib.sha256(salt)
    for path in _files(folder):
        digest.update(bytes.fromhex(sha256(folder / path)) + path.encode())
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check looked at, what it could not look at, and what it found wrong; each entry is one sentence."""

    problems: tuple[str, ...]
    checked: tuple[str, ...]
    not_checked: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release that was found on disk.

    Args:
        folder: The `release/` folder.
        manifest: Its manifest, parsed.
    """

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> Release:
        """The release in DIR or DIR/release.

        Raises:
            UsageError: there is none.
            IntegrityError: its manifest cannot be read.
        """
        folder = path / "release" if (path / "release" / "manifest.json").is_file() else path
        if folder != path and (path / "manifest.json").exists():
            raise IntegrityError(f"{path} holds a release inside a release: ask for a fresh copy")
        if not (folder / "manifest.json").is_file():
            raise UsageError(f"{path} is not a release: give the folder that `dpsynth release --out` made")
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            if manifest["schema"] != MANIFEST_FORMAT or not isinstance(manifest["files"], dict):
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise IntegrityError("manifest.json is damaged: ask for a fresh copy of the release") from None
        return cls(folder=folder, manifest=manifest)

    @property
    def schema(self) -> Schema:
        """The schema that the synthetic rows are in."""
        return Schema.load(self.folder / "schema.toml")

    def model(self) -> StoredModel:
        """The model, for drawing more rows."""
        return load_model(self.folder / "model", self.schema)

    def unit_sizes(self) -> UnitSizes | None:
        """How many rows synthetic units have; None where there are no such units."""
        schema = self.schema
        return UnitSizes.load(self.folder / "model", schema) if schema.synthetic_units else None

    def require_whole(self) -> None:
        """Refuses to go on with files that are not those of the manifest.

        Raises:
            IntegrityError: a file is missing, was added or was changed.
        """
        for problem in self.verify().problems:
            raise IntegrityError(f"the release is not whole: {problem}; ask for a fresh copy")

    def verify(self, against: Sequence[Path] = ()) -> Checked:
        """Whether the files are those of the manifest, and whether earlier reports speak of this very release.

        No signature is checked here: `reports.bundle` does that.

        Args:
            against: Reports or manifests, issued earlier, that should be of this release.
        """
        problems, done, left = [], [], []
        listed: dict[str, Any] = self.manifest["files"]
        links = [path for path in _files(self.folder) if (self.folder / path).is_symlink()]
        problems += [f"{path} is a link, which may lead anywhere" for path in links]
        present = [path for path in _files(self.folder) if path not in _LATER]
        problems += [f"{path} is missing" for path in sorted(listed.keys() - set(present))]
        problems += [
            f"{path} is not in the manifest"
            for path in sorted(set(present) - listed.keys())
            if not self._is_later(path)
        ]
        problems += [
            f"{path} was changed"
            for path in present
            if path in listed and path not in links and sha256(self.folder / path) != listed[path]
        ]
        done.append(f"the digests of {len(listed)} files against the manifest")
        if self._signature_file() is None:
            problems.append("the signature file is missing or damaged")
        mine = Anchor.from_manifest(self.manifest)
        for path in against:
            if (found := anchor_in(path)) != mine:
                wrong = "names another ledger or another head" if found else "does not name a ledger head"
                problems.append(f"{path.name} {wrong}")
            elif is_manifest(path):
                if path.read_bytes() == (self.folder / "manifest.json").read_bytes():
                    done.append(f"{path.name} is this release's manifest")
                else:
                    problems.append(f"{path.name} is another manifest than this release's")
            elif not self._is_about(path):
                problems.append(f"{path.name} speaks of other evidence than this release holds")
            else:
                done.append(f"{path.name} names the same ledger head and the same evidence")
                left.append(f"the synthetic rows and the model against {path.name}, which names the evidence alone")
        left.append("the ledger itself: `dpsynth ledger verify LEDGER --against` with this manifest does")
        return Checked(problems=tuple(problems), checked=tuple(done), not_checked=tuple(left))

    @property
    def signature(self) -> dict[str, str] | None:
        """The signature of the manifest, `key` and `sig`, as the file gives it; None where there is none."""
        return (self._signature_file() or {}).get("signature")

    def _signature_file(self) -> dict[str, Any] | None:
        """The content of `signature`, or None when it is not of that form."""
        try:
            text = (self.folder / "signature").read_text(encoding="ascii")
            signed = json.loads(text)["signature"]
            found = unsigned() | {"signature": None if signed is None else {key: signed[key] for key in SIGNED}}
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return None
        is_text = signed is None or all(isinstance(value, str) for value in found["signature"].values())
        return found if is_text and _json_text(found) == text else None

    def _is_later(self, path: str) -> bool:
        """Whether a file is one that may be put beside a finished release: an attestation, and no link or device."""
        found = self.folder / path
        return _ATTESTATION.fullmatch(path) is not None and found.is_file() and not found.is_symlink()

    def _is_about(self, report: Path) -> bool:
        """Whether an evidence file or a page is of this release: by the digest of the shareable evidence."""
        evidence = self.manifest["files"].get("evidence.json")
        if not isinstance(evidence, str) or not re.fullmatch("[0-9a-f]{64}", evidence):
            return False
        content = report.read_bytes()
        return hashlib.sha256(content).hexdigest() == evidence or evidence.encode() in content


SIGNED = ("key", "sig")
"""What a signature of the manifest says: the public key, and its signature of the manifest's bytes."""


def unsigned() -> dict[str, Any]:
    """What the file `signature` holds until someone signs: no key is ever made or used silently."""
    return {"schema": SIGNATURE_FORMAT, "signature": None}


def is_manifest(path: Path) -> bool:
    """Whether a file is a manifest, whatever its name."""
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))["schema"] == MANIFEST_FORMAT)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def anchor_in(path: Path) -> Anchor | None:
    """The ledger head that a manifest, an evidence file or a report names, if it names one; of several the first.

    Raises:
        UsageError: the file cannot be read.
    """
    return next(iter(anchors_in(path)), None)


def anchors_in(path: Path) -> tuple[Anchor, ...]:
    """The heads of all ledgers that a manifest names, or the one that an evidence file or a report names.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"{path} cannot be read: give a manifest.json, an evidence.json or a report.html") from None
    try:
        data = json.loads(text)
        return tuple(map(_anchor, (data["ledger"], *data.get("other_ledgers", ()))))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        found = re.search(r'<meta name="dpsynth-ledger" content="([0-9a-f-]+):(\d+):([0-9a-f]{64})"', text)
        return (Anchor(found[1], int(found[2]), found[3]),) if found else ()


def _anchor(ledger: Any) -> Anchor:
    """The head in a manifest, where values stand alone, or in evidence, where each is a leaf."""
    parts = [ledger[key] for key in ("ledger_id", "seq", "head")]
    values = [part["v"] if isinstance(part, dict) else part for part in parts]
    return Anchor(str(values[0]), int(values[1]), str(values[2]))


def write_manifest(folder: Path, facts: dict[str, Any]) -> str:
    """Writes `manifest.json` with the digests of all files in the folder, and `signature`.

    Returns:
        SHA-256 of the manifest.
    """
    manifest = {"schema": MANIFEST_FORMAT} | facts | {"files": digests(folder)}
    write_json(folder / "manifest.json", manifest)
    write_json(folder / "signature", unsigned())
    return sha256(folder / "manifest.json")


def write_signature(release: Release, key: str, sig: str) -> None:
    """Puts a signature of the manifest into `signature`.

    Raises:
        OperationError: the disk refuses.
    """
    put_beside(release, "signature", _json_text(unsigned() | {"signature": dict(zip(SIGNED, (key, sig), strict=True))}))


def put_beside(release: Release, name: str, text: str) -> None:
    """Writes or replaces a file of a release, in one step, with the time that all its files have.

    Raises:
        OperationError: the disk refuses.
    """
    manifest = (release.folder / "manifest.json").stat()
    try:
        handle, draft = tempfile.mkstemp(prefix=f".{name}-", dir=release.folder)
        os.close(handle)
        try:
            Path(draft).write_text(text, encoding="utf-8")
            os.chmod(draft, manifest.st_mode & 0o777)
            os.utime(draft, ns=(manifest.st_mtime_ns, manifest.st_mtime_ns))
            _sync(Path(draft))
            os.replace(draft, release.folder / name)
        except BaseException:
            os.unlink(draft)
            raise
        os.utime(release.folder, ns=(manifest.st_mtime_ns, manifest.st_mtime_ns))
    except OSError as error:
        raise OperationError(f"cannot write beside the release: {error.strerror}") from None


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Writes readable JSON with a fixed order of keys."""
    path.write_text(_json_text(data), encoding="utf-8")


def _json_text(data: dict[str, Any]) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _files(folder: Path) -> list[str]:
    """Everything below a folder that is not itself a folder; a link counts, whatever it leads to."""
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()
    )


class Staging:
    """A private folder beside `out` that becomes `out` in one step, or disappears.

    What a killed process left there, `.NAME.dpsynth-PID-...`, disappears when the next one begins to write beside it.

    Raises:
        UsageError: `out` exists, or its parent folder does not.
        OperationError: the disk refuses.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        check_free(out)
        self._placed = False
        try:
            self.folder, self._lock = locked_folder(out.parent, f".{os.fsdecode(os.fsencode(out.name)[:180])}.")
        except OSError as error:
            raise OperationError(f"cannot write beside {out}: {error.strerror}") from None

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._placed:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)

    def place(self, moment: datetime) -> None:
        """Makes everything durable, then renames the folder to `out`, which must still be free.

        Args:
            moment: The time that every file and folder gets: their own times would tell how long each step took,
                which may depend on the rows, to everyone who receives a copy.
        """
        self.folder.chmod(0o755)
        (self.folder / "internal").chmod(0o700)
        for path in [*self.folder.rglob("*"), self.folder]:
            os.utime(path, (moment.timestamp(), moment.timestamp()))
            _sync(path)
        _rename_to_free(self.folder, self.out)
        self._placed = True
        _sync(self.out.parent)


def check_free(out: Path, *, what: str = "--out") -> None:
    """Refuses an output path that exists, that the system cannot have, or whose parent folder does not exist.

    Args:
        what: What to choose another one of.
    """
    try:
        taken, placed = out.is_symlink() or out.exists(), out.parent.is_dir()
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}; choose another {what}") from None
    if taken:
        raise UsageError(f"{out} exists already: choose another {what}")
    if not placed:
        raise UsageError(f"the folder {out.parent} does not exist: create it first")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _rename_to_free(source: Path, target: Path) -> None:
    """Renames a folder without ever replacing something: renameat2 where the system has it."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # another system than Linux: a plain rename after a last look
        check_free(target)
        source.rename(target)
        return
    if renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return
    number = ctypes.get_errno()
    if number == errno.EEXIST:
        raise UsageError(
            f"{target} appeared while the release was made: the budget stays charged; choose another --out"
        )
    if number in (errno.EINVAL, errno.ENOSYS):  # a file system that cannot refuse to replace
        check_free(target)
        source.rename(target)
        return
    raise OperationError(f"cannot rename the finished release to {target}: {os.strerror(number)}")
