"""Attestations: a person's decision about one release, signed, and bound to what was decided on.

An attestation is a small JSON file beside the release, `attestations/ROLE+STATEMENT+KEY.json`. The manifest does not list
it, because it is made later; its signature covers every word of it. It is bound to three digests: the evidence that was
judged, the policy that judged it, and the manifest, which names every released file. So it is worth nothing beside
another release, and nothing after a byte of this one was changed.

Whether it counts is for the policy to say, which names the keys that may speak for a role (`standing`). What does not
count is never left out in silence: it is named, with the reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from dpsynth.canonical import canonical
from dpsynth.errors import IntegrityError, OperationError, UsageError
from dpsynth.release import ATTESTATIONS, Release, sha256
from dpsynth.signing import PublicKey, SigningKey, read_file

Decision: TypeAlias = Literal["approve", "reject"]

SCHEMA: Final = "dpsynth.attestation/1"
KIND: Final = "application/vnd.dpsynth.attestation+json"
DECISIONS: Final[tuple[Decision, ...]] = ("approve", "reject")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOMENT: Final = "%Y-%m-%dT%H:%M:%SZ"
_LONGEST: Final = 200  # characters of a name
_MOST_BYTES: Final = 65_536  # of one file
_MOST: Final = 200  # attestations of one release
_TEXTS: Final = (
    "role", "name", "organisation", "statement", "decision", "signed_at", "expires", "evidence", "policy", "manifest",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A decision that nobody has signed yet.

    Args:
        role, name, organisation: Who decides, in whose place; the organisation may be empty.
        statement: What the decision is about: a statement of the policy, or "waiver." and the id of a rule.
        decision: "approve" or "reject".
        signed_at: When, by the signer's clock: UTC, to the second.
        expires: The last day on which it counts.
        evidence, policy, manifest: SHA-256 of the shareable evidence, of the policy and of the release's manifest.
        replaces: SHA-256 of the attestations that lay here before and were taken away for this one.
    Raises:
        ValueError: a value breaks one of these rules; the message does not quote it.
    """

    role: str
    name: str
    organisation: str = ""
    statement: str
    decision: Decision
    signed_at: datetime
    expires: date
    evidence: str
    policy: str
    manifest: str
    replaces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for title, name in (("role", self.role), ("statement", self.statement)):
            if not _NAME.fullmatch(name):
                raise ValueError(f"the {title} is made of letters, digits, dots, _ and -")
        if not self.name:
            raise ValueError("a decision needs the name of a person")
        for title, text in (("name", self.name), ("organisation", self.organisation)):
            if not _is_plain(text):
                raise ValueError(f"the {title} is a text of at most {_LONGEST} characters, all of which can be seen")
        if self.decision not in DECISIONS:
            raise ValueError("a decision is approve or reject")
        if self.signed_at.tzinfo is not UTC or self.signed_at.microsecond:
            raise ValueError("the time of signing is in UTC, to the second")
        if self.expires < self.signed_on:
            raise ValueError("a decision cannot expire before it is signed")
        if not all(_SHA256.fullmatch(text) for text in (self.evidence, self.policy, self.manifest, *self.replaces)):
            raise ValueError("a digest is 64 lower-case hexadecimal digits")

    @property
    def signed_on(self) -> date:
        """The day of signing (UTC)."""
        return self.signed_at.date()

    def sign(self, key: SigningKey) -> Attestation:
        """The same decision, signed."""
        fields = {name: getattr(self, name) for name in (*_TEXTS, "replaces")}
        return Attestation(**fields, key=key.public, signature=key.sign(kind=KIND, body=self._body(key.public)))

    def _body(self, key: PublicKey) -> bytes:
        """What is signed: the decision and the key, as canonical JSON."""
        return canonical(self._plain() | {"key": key.text})

    def _plain(self) -> dict[str, Any]:
        texts = {name: getattr(self, name) for name in _TEXTS}
        texts |= {"signed_at": self.signed_at.strftime(_MOMENT), "expires": self.expires.isoformat()}
        return {"schema": SCHEMA} | texts | {"replaces": list(self.replaces)}


@dataclass(frozen=True, kw_only=True)
class Attestation(Draft):
    """One signed decision: use `Draft.sign`, or `parse`. None exists whose signature does not hold.

    Args:
        key: The public key that verifies it.
        signature: Over everything above, in base64.
    Raises:
        ValueError: a rule of `Draft` is broken, or the signature is not of this decision by this key.
    """

    key: PublicKey
    signature: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.key.verifies(self.signature, kind=KIND, body=self._body(self.key)):
            raise ValueError("the signature is not of this decision by this key")

    @property
    def file_name(self) -> str:
        """Where it lies: one file for a role, a statement and a key."""
        return f"{self.role}+{self.statement}+{self.key.fingerprint[:16]}.json"

    @property
    def digest(self) -> str:
        """SHA-256 of its file."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()

    @property
    def who(self) -> str:
        """Name and organisation."""
        return f"{self.name} ({self.organisation})" if self.organisation else self.name

    def to_json(self) -> dict[str, Any]:
        """The attestation as a JSON object."""
        return self._plain() | {"key": self.key.text, "signature": self.signature}

    def to_text(self) -> str:
        """The text of its file: only ASCII, and the only spelling that `parse` takes."""
        return json.dumps(self.to_json(), ensure_ascii=True, allow_nan=False, indent=1) + "\n"

    @classmethod
    def parse(cls, text: str) -> Attestation:
        """The inverse of `to_text`, strict: a text that differs in one byte is refused.

        Raises:
            IntegrityError: it is not an attestation, or its signature does not hold; the message quotes nothing.
        """
        texts = (*_TEXTS, "key", "signature")
        try:
            data = json.loads(text)
            if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
                raise ValueError(f"its schema is not {SCHEMA}")
            replaces = data.pop("replaces", None)
            if data.keys() != set(texts) or not all(isinstance(value, str) for value in data.values()):
                raise ValueError("its keys are not those of an attestation, or a value is not a text")
            if not isinstance(replaces, list) or not all(isinstance(item, str) for item in replaces):
                raise ValueError("replaces is a list of texts")
            data |= {"signed_at": _moment(data["signed_at"]), "expires": _day(data["expires"])}
            data |= {"replaces": tuple(replaces), "key": PublicKey.parse(data["key"])}
            found = cls(**data)
            if found.to_text() != text:
                raise ValueError("it is not written as this program writes it")
        except (ValueError, RecursionError) as error:
            why = "it is not JSON" if isinstance(error, json.JSONDecodeError | RecursionError) else str(error)
            raise IntegrityError(f"this is not an attestation that can be trusted: {why}") from None
        return found


def _is_plain(text: str) -> bool:
    """Whether a text can be shown as it is: no control, format or unassigned character, no blank at an end."""
    return (
        len(text) <= _LONGEST and text.isprintable() and text == text.strip() and unicodedata.is_normalized("NFC", text)
    )


def _moment(text: str) -> datetime:
    try:
        return datetime.strptime(text, _MOMENT).replace(tzinfo=UTC)
    except ValueError:
        raise ValueError("signed_at is a time like 2026-11-21T09:14:05Z") from None


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("expires is a day like 2026-11-21") from None


# ---- all that lie beside one release -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Record:
    """The attestations beside one release, in the order of their files.

    Args:
        manifest: SHA-256 of the release's manifest; empty when there is no release on disk, and then nothing counts.
        attestations: Those that could be read, each with a signature that holds.
        problems: One sentence for each file that could not.
    """

    manifest: str = ""
    attestations: tuple[Attestation, ...] = ()
    problems: tuple[str, ...] = ()

    @classmethod
    def read(cls, release: Release) -> Record:
        """What lies beside a release. A damaged file is a problem, never an error: the rest is still to be judged."""
        folder = release.folder / ATTESTATIONS
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
        found, problems = [], []
        for name in names[:_MOST]:
            try:
                attestation = Attestation.parse(_text(folder / name))
                if attestation.file_name != name:
                    raise IntegrityError("its name is not that of its content")
                found.append(attestation)
            except IntegrityError as error:
                problems.append(f"{ATTESTATIONS}/{name}: {error}")
        if len(names) > _MOST:
            problems.append(f"there are more than {_MOST} files in {ATTESTATIONS}/")
        return cls(
            manifest=sha256(release.folder / "manifest.json"), attestations=tuple(found), problems=tuple(problems)
        )

    def about(self, role: str, statement: str) -> tuple[Attestation, ...]:
        """Those of one role about one statement."""
        return tuple(a for a in self.attestations if (a.role, a.statement) == (role, statement))


def _text(path: Path) -> str:
    """The text of a small plain file; a link, or whatever else stands there, is refused."""
    try:
        return read_file(path, most=_MOST_BYTES, flags=os.O_NOFOLLOW)[0].decode("ascii")
    except (OSError, ValueError):
        raise IntegrityError("it is not a plain file of this kind") from None


def add(release: Release, draft: Draft, key: SigningKey) -> tuple[Attestation, tuple[Attestation, ...]]:
    """Signs a decision and puts it beside a release, in one step that leaves the old file or the new one.

    A person may replace an own decision. A rejection takes away the approvals that others gave for the same role and
    statement, so that no approval is left which the loss of the rejection could bring back to life; it names them by
    digest. A rejection stands until whoever made it replaces it.

    Returns:
        What was added, and what was taken away for it.
    Raises:
        UsageError: the key rejected or approved nothing that may be replaced: another key's rejection stands.
        IntegrityError: what lies there is damaged.
        OperationError: the disk refuses.
    """
    record = Record.read(release)
    for problem in record.problems:
        raise IntegrityError(f"{problem}: take the damaged file away first")
    others = record.about(draft.role, draft.statement)
    standing = [a for a in others if a.decision == "reject" and a.key != key.public and _same(a, draft)]
    if draft.decision == "approve" and standing:
        raise UsageError(
            f"{standing[0].who} rejected this as {draft.role}: only the one who made that decision can replace it"
        )
    gone = tuple(a for a in others if a.key == key.public or (draft.decision == "reject" and a.decision == "approve"))
    made = replace(draft, replaces=tuple(sorted(a.digest for a in gone))).sign(key)
    folder = release.folder / ATTESTATIONS
    try:
        folder.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", dir=folder)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(made.to_text())
                file.flush()
                os.fchmod(handle, 0o644)
                os.fsync(handle)
            os.replace(name, folder / made.file_name)
        except BaseException:
            os.unlink(name)
            raise
        for old in gone:
            if old.file_name != made.file_name:
                (folder / old.file_name).unlink()
    except OSError as error:
        raise OperationError(f"cannot write beside the release: {error.strerror}") from None
    return made, gone


def _same(attestation: Draft, other: Draft) -> bool:
    """Whether two decisions are about the same evidence, policy and release."""
    return (attestation.evidence, attestation.manifest) == (other.evidence, other.manifest)


# ---- what counts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a decision has to be about, and on which day it has to count.

    Args:
        evidence, policy, manifest: The digests that it must be bound to.
        on: The day of the verdict.
    """

    evidence: str
    policy: str
    manifest: str
    on: date

    def why_not(self, attestation: Attestation, keys: Collection[PublicKey]) -> str:
        """Why an attestation does not count, a few words; empty when it does.

        A rejection does not lose its force with time: only an approval can be too old, or too young.
        """
        if attestation.key not in keys:
            return "signed with a key that the policy does not name for this role"
        if not attestation.evidence or attestation.evidence != self.evidence:
            return "signed for other evidence"
        if not self.manifest or attestation.manifest != self.manifest:
            return "signed for another release"
        if attestation.decision == "approve" and attestation.policy != self.policy:
            return "signed for another policy"
        if attestation.decision == "approve" and attestation.signed_on > self.on:
            return f"signed on {attestation.signed_on.isoformat()}, after the day of this verdict"
        if attestation.decision == "approve" and self.on > attestation.expires:
            return f"expired on {attestation.expires.isoformat()}"
        return ""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where one statement that a policy asks for stands.

    Args:
        approvals, rejections: The decisions that count.
        ignored: Those that do not, each with the reason.
    """

    approvals: tuple[Attestation, ...]
    rejections: tuple[Attestation, ...]
    ignored: tuple[tuple[Attestation, str], ...]

    @property
    def is_approved(self) -> bool:
        """Whether someone who may approved it, and nobody who may rejected it."""
        return bool(self.approvals) and not self.rejections

    @property
    def said(self) -> str:
        """Who approved or rejected, and what does not count and why, in one or more sentences; or nothing."""
        if self.rejections:
            found = [f"Rejected by {a.who} on {a.signed_on.isoformat()}." for a in self.rejections]
        else:
            found = [
                f"Approved by {a.who} on {a.signed_on.isoformat()}, until {a.expires.isoformat()}."
                for a in self.approvals
            ]
        return " ".join(found + [f"The signature of {a.who} does not count: {why}." for a, why in self.ignored])


def standing(record: Record, subject: Subject, *, role: str, statement: str, keys: Collection[PublicKey]) -> Standing:
    """Where a statement stands, from all attestations of that role about it."""
    judged = [(a, subject.why_not(a, keys)) for a in record.about(role, statement)]
    counting = [a for a, why in judged if not why]
    return Standing(
        approvals=tuple(a for a in counting if a.decision == "approve"),
        rejections=tuple(a for a in counting if a.decision == "reject"),
        ignored=tuple((a, why) for a, why in judged if why),
    )
