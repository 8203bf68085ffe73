"""Signatures: Ed25519 (RFC 8032) over bytes that say what they are; keys in files that only their owner can read.

What is signed is DSSE's pre-authentication encoding (secure-systems-lab/dsse, protocol.md, version 1.0.0): the kind of
document and the document, each with its length. A signature of one kind of document is none of another.

A public key is written "ed25519:BASE64" (its 32 bytes), a private key is a PKCS #8 file in PEM. No key is ever made
unless `create_key` is called, and none is ever replaced.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dpsynth.errors import OperationError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PREFIX: Final = "ed25519:"
_KEY_BYTES: Final = 32
_SMALL: Final = frozenset(  # points of small order, in every spelling (RFC 8032, 5.1.7): the top bit is left out
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
)
_SIGNATURE_BYTES: Final = 64
_LONGEST_FILE: Final = 16_384  # bytes of a key file
_OWN: Final = stat.S_IRUSR | stat.S_IWUSR


@dataclass(frozen=True)
class PublicKey:
    """Whoever holds it can check signatures.

    Args:
        raw: The 32 bytes of RFC 8032.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != _KEY_BYTES:
            raise ValueError("an Ed25519 key has 32 bytes")
        if bytes([*self.raw[:31], self.raw[31] & 127]) in _SMALL:
            raise ValueError("this key verifies signatures that anyone can make")

    @classmethod
    def parse(cls, text: object) -> PublicKey:
        """The key in a text "ed25519:BASE64".

        Raises:
            ValueError: it is none; two different texts never give the same key.
        """
        if not isinstance(text, str) or not text.startswith(PREFIX):
            raise ValueError(f'a public key is written "{PREFIX}" and its base64')
        return cls(_from_base64(text.removeprefix(PREFIX)))

    @property
    def text(self) -> str:
        """The key as a policy names it."""
        return PREFIX + to_base64(self.raw)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the 32 bytes, in hexadecimal."""
        return hashlib.sha256(self.raw).hexdigest()

    def verifies(self, signature: str, *, kind: str, body: bytes) -> bool:
        """Whether `signature` (base64) is this key's, of this very document of this very kind."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            raw = _from_base64(signature)
            if len(raw) != _SIGNATURE_BYTES:
                return False
            Ed25519PublicKey.from_public_bytes(self.raw).verify(raw, encoded(kind, body))
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True, eq=False)
class SigningKey:
    """A private key in memory. Use `create_key` or `load_key`; it does not print itself."""

    _key: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, *, kind: str, body: bytes) -> str:
        """The signature of a document, in base64."""
        return to_base64(self._key.sign(encoded(kind, body)))


def encoded(kind: str, body: bytes) -> bytes:
    """DSSE's pre-authentication encoding of a document and its kind: what is signed."""
    name = kind.encode()
    return b"DSSEv1 %d %b %d %b" % (len(name), name, len(body), body)


def create_key(path: Path, *, passphrase: str = "") -> PublicKey:
    """Makes a key from the system's entropy and writes its private half to a new file (mode 0600).

    Args:
        passphrase: Encrypts the file; empty leaves it unencrypted.
    Raises:
        UsageError: the file exists, or its folder does not.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    sealing = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else None
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        sealing or serialization.NoEncryption(),
    )
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _OWN)
    except FileExistsError:
        raise UsageError(f"{path} exists already: a key is never replaced; choose another path") from None
    except FileNotFoundError:
        raise UsageError(f"the folder {path.parent} does not exist: create it first") from None
    except OSError as error:
        raise OperationError(f"cannot write {path}: {error.strerror}") from None
    with os.fdopen(handle, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)
    return SigningKey(key).public


def is_encrypted(path: Path) -> bool:
    """Whether a key file asks for a passphrase.

    Raises:
        UsageError: the file cannot be read, or other users can read it.
    """
    return b"ENCRYPTED" in _read(path).partition(b"\n")[0]


def load_key(path: Path, *, passphrase: str = "") -> SigningKey:
    """The private key in a file.

    Raises:
        UsageError: the file cannot be read, can be read by other users, is no Ed25519 key, or the passphrase is wrong.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    text = _read(path)
    sealed = b"ENCRYPTED" in text.partition(b"\n")[0]
    if sealed and not passphrase:
        raise UsageError(f"the key in {path} is encrypted: give its passphrase")
    try:
        key = serialization.load_pem_private_key(text, passphrase.encode() if sealed else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        wrong = "the passphrase is wrong, or the file is damaged" if sealed else "it is not a private key in PEM"
        raise UsageError(f"no key can be read from {path}: {wrong}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"the key in {path} is not an Ed25519 key: make one with `dpsynth key create`")
    return SigningKey(key)


def _read(path: Path) -> bytes:
    try:
        text, mode = read_file(path, most=_LONGEST_FILE)
    except (OSError, ValueError):
        raise UsageError(f"there is no key to read at {path}: make one with `dpsynth key create`") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"other users can reach the private key in {path}: run chmod 600 on it first")
    return text


def read_file(path: Path, *, most: int, flags: int = 0) -> tuple[bytes, int]:
    """The content and the mode of a regular file; a pipe, a folder or a device is refused without waiting for it.

    Args:
        most: The number of bytes beyond which a file is refused.
        flags: More flags for opening it.
    Raises:
        OSError: it cannot be opened.
        ValueError: it is no regular file, or is longer.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            raise ValueError("not a file, or too long")
        return os.read(handle, most), found.st_mode
    finally:
        os.close(handle)


def to_base64(raw: bytes) -> str:
    """Base64 with its padding, in the standard alphabet."""
    return base64.b64encode(raw).decode("ascii")


def _from_base64(text: object) -> bytes:
    """The inverse of `to_base64`; another spelling of the same bytes is refused."""
    if not isinstance(text, str):
        raise ValueError("not base64")
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("not base64") from None
    if to_base64(raw) != text:
        raise ValueError("not base64 in its one spelling")
    return raw
