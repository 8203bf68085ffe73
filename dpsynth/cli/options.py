"""Options and loaders that several commands share."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dpsynth import Ledger, UsageError
from dpsynth.cli.talk import say
from dpsynth.release import check_free
from dpsynth.signing import SigningKey, is_encrypted, load_key
from reports.policy import Policy

PASSPHRASE = "DPSYNTH_KEY_PASSPHRASE"
"""The environment variable that holds the passphrase of a private key, for where nobody can be asked."""


def policy_named(name: str) -> Policy:
    """A policy file, or a shipped policy by name."""
    policy = Policy.load(name)
    if policy.impersonates:
        raise UsageError(
            f"this file calls itself {policy.name} and is not the policy that ships here: give it a name of its own"
        )
    return policy


def key_in(path: Path) -> SigningKey:
    """The private key in a file; its passphrase comes from DPSYNTH_KEY_PASSPHRASE, or else is asked for."""
    passphrase = ""
    if is_encrypted(path):
        passphrase = os.environ.get(PASSPHRASE) or click.prompt(f"Passphrase of {path}", hide_input=True, err=True)
    return load_key(path, passphrase=passphrase)


def ledger_at(place: str) -> Ledger:
    """The ledger at a path or an address; says so where nothing outside it remembers its head."""
    ledger = Ledger.open(place)
    if not ledger.is_witnessed:
        say(
            "dpsynth: no head of this ledger can be noted on this machine, so a restored backup would not be noticed: "
            "let DPSYNTH_WITNESS name a folder that stays"
        )
    return ledger


def check_new(path: Path) -> None:
    """Refuses, before any work is done, a path where no new file can be made."""
    check_free(path, what="path")


def write_result(path: Path, content: str | bytes) -> None:
    """Writes one result file; refuses to replace one."""
    try:
        with path.open("xb") as file:
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
    except FileExistsError:
        raise UsageError(f"{path} exists already: choose another path") from None
    except FileNotFoundError:
        raise UsageError(f"the folder {path.parent} does not exist: create it first") from None
