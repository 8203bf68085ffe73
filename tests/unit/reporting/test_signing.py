"""Keys and signatures: strict about every byte, and about who can read a private key."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from signers import CONTROLLER, OFFICER

from dpsynth.errors import UsageError
from dpsynth.signing import PublicKey, create_key, encoded, is_encrypted, load_key, to_base64


def test_what_is_signed_names_its_kind_and_both_lengths() -> None:
    """The example of DSSE's protocol.md; and lengths count bytes, not letters."""
    found = encoded("http://example.com/HelloWorld", b"hello world")
    assert found == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert encoded("\u00e9", b"") == b"DSSEv1 2 \xc3\xa9 0 "


def test_a_signature_holds_for_this_document_of_this_kind_by_this_key() -> None:
    signature = CONTROLLER.sign(kind="a", body=b"text")
    assert CONTROLLER.public.verifies(signature, kind="a", body=b"text")
    assert not CONTROLLER.public.verifies(signature, kind="b", body=b"text")
    assert not CONTROLLER.public.verifies(signature, kind="a", body=b"text ")
    assert not OFFICER.public.verifies(signature, kind="a", body=b"text")
    for broken in (
        "",
        "AAAA",
        signature[:-4],
        signature + "AAAA",
        signature.rstrip("="),
        "\u00e9" * 88,
        signature + "\n",
    ):
        assert not CONTROLLER.public.verifies(broken, kind="a", body=b"text")


def test_every_letter_of_a_signature_matters() -> None:
    """Base64 leaves bits over at its end; another spelling of the same signature is refused as well."""
    signature = CONTROLLER.sign(kind="a", body=b"text")
    for place, letter in enumerate(signature):
        for other in "Aa0+/=B":
            if other != letter:
                broken = signature[:place] + other + signature[place + 1 :]
                assert not CONTROLLER.public.verifies(broken, kind="a", body=b"text"), place


def test_a_public_key_has_one_spelling() -> None:
    text = CONTROLLER.public.text
    assert PublicKey.parse(text) == CONTROLLER.public
    assert len(CONTROLLER.public.fingerprint) == 64
    last = {"A": "B", "Q": "R", "g": "h", "w": "x"}
    spelled = text[:-2] + last.get(text[-2], chr(ord(text[-2]) + 1)) + "="
    for broken in (text[8:], text.upper(), text + " ", text[:-1], spelled, "ed25519:" + to_base64(b"x" * 31), 5, None):
        with pytest.raises(ValueError, match=r"key|base64"):
            PublicKey.parse(broken)


@pytest.mark.parametrize("passphrase", ["", "correct horse"])
def test_a_key_comes_back_from_its_file(tmp_path: Path, passphrase: str) -> None:
    path = tmp_path / "key.pem"
    public = create_key(path, passphrase=passphrase)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"PRIVATE KEY" in path.read_bytes()
    assert is_encrypted(path) == bool(passphrase)
    key = load_key(path, passphrase=passphrase)
    assert key.public == public
    assert public.verifies(key.sign(kind="a", body=b"b"), kind="a", body=b"b")
    assert public.text not in path.read_text()
    assert "PRIVATE" not in repr(key)
    assert "object" not in repr(key)


def test_two_keys_are_never_the_same(tmp_path: Path) -> None:
    assert create_key(tmp_path / "a") != create_key(tmp_path / "b")


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    create_key(path)
    text = path.read_bytes()
    link = tmp_path / "link.pem"
    link.symlink_to(tmp_path / "elsewhere")
    for place, why in ((path, "exists"), (link, "exists"), (tmp_path / "no" / "key", "folder")):
        with pytest.raises(UsageError, match=why):
            create_key(place)
    assert path.read_bytes() == text


def test_keys_that_cannot_be_used(tmp_path: Path) -> None:
    sealed, open_, other, text = (tmp_path / name for name in ("sealed", "open", "other", "text"))
    create_key(sealed, passphrase="one")
    for passphrase, why in (("", "encrypted"), ("two", "passphrase")):
        with pytest.raises(UsageError, match=why):
            load_key(sealed, passphrase=passphrase)
    create_key(open_)
    for mode in (0o640, 0o604, 0o620):
        open_.chmod(mode)
        with pytest.raises(UsageError, match="chmod 600"):
            load_key(open_)
    curve = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    other.write_bytes(curve.private_bytes(*form))
    text.write_text("not a key")
    for path in (other, text):
        path.chmod(0o600)
        with pytest.raises(UsageError, match=r"Ed25519|PEM"):
            load_key(path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("pipe", ".", "missing"):
        with pytest.raises(UsageError, match="no key"):
            load_key(tmp_path / name)
