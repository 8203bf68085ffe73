"""Addresses of databases: ours say one thing more than the driver's own."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import unquote, urlsplit

_ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
_MISSPELLED: Final = re.compile(
    r"://|^\W*(jdbc:)?postgres(ql)?(:|//)|(^|\s)(password|host|user|dbname|service)\s*=", re.IGNORECASE
)
_SECRET: Final = re.compile(r"([^\s/@:]+:(?!/).*@|pass[a-z]*\s*=\s*[^&]+)", re.IGNORECASE | re.DOTALL)
_MAY_HOLD: Final = re.compile(r":.*@|pass", re.IGNORECASE | re.DOTALL)
POSTGRESQL: Final = frozenset({"postgresql", "postgres"})


def is_address(place: str) -> bool:
    """Whether a place is meant as an address and not as the path of a file; one slash may be missing.

    A misspelled one is meant as one too: a path is quoted in messages, and a password may stand in an address.
    """
    return bool(_ADDRESS.match(place) or _MISSPELLED.search(place))


def without_passwords(text: str, places: Iterable[str]) -> str:
    """A message in which no address that may hold a password stands, wherever on a command line it was typed.

    Args:
        text: The message.
        places: What was typed, word by word.
    """
    options = [place.lstrip("-") for place in places if place.startswith("-")]
    for word in (*places, *options, *(option.partition("=")[2] for option in options)):
        if not is_address(word) or not _MAY_HOLD.search(unquote(word)):
            continue
        for form in (*_forms(word), *_forms(os.path.normpath(word))):  # as a path two slashes become one
            text = text.replace(form, "the address that was given")
        secrets = [form for found in _SECRET.finditer(word) for form in _forms(found[1])]
        if any(secret in text for secret in secrets):  # a part of it is quoted: better no quotation at all
            return "an address was typed where a path or a name belongs"
    return text


def _forms(typed: str) -> Iterator[str]:
    """How a message may quote what was typed: as it is, as a literal, and either in one line."""
    for form in (repr(typed)[1:-1], typed):
        yield form
        yield " ".join(form.split())


def split_off(address: str, key: str) -> tuple[str, list[str]]:
    """The address without one parameter, for the driver, and the values that it gave to that parameter.

    Raises:
        ValueError: it cannot be read. The message may quote the address, in which a password may stand.
    """
    parts = urlsplit(address)
    if parts.fragment:
        raise ValueError("a # in an address is written %23")
    pairs = [pair.partition("=") for pair in parts.query.split("&")] if parts.query else []
    if any(not name or not equals for name, equals, _ in pairs):
        raise ValueError("a parameter is written NAME=VALUE")
    rest = "&".join("".join(pair) for pair in pairs if unquote(pair[0]) != key)  # a + stays a +, as libpq has it
    place = f"{parts.scheme}://{parts.netloc}{parts.path}{'?' if rest else ''}{rest}"
    return place, [unquote(value) for name, _, value in pairs if unquote(name) == key]
