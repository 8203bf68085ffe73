"""Addresses of databases: ours say one thing more than the driver's own."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote, urlsplit

_ADDRESS: Final = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
_MISSPELLED: Final = re.compile(
    r"://|^\W*(jdbc:)?postgres(ql)?(:|//)|(^|\s)(password|host|user|dbname|service)\s*=", re.IGNORECASE
)
POSTGRESQL: Final = frozenset({"postgresql", "postgres"})


def is_address(place: str) -> bool:
    """Whether a place is meant as an address and not as the path of a file; one slash may be missing.

    A misspelled one is meant as one too: a path is quoted in messages, and a password may stand in an address.
    """
    return bool(_ADDRESS.match(place) or _MISSPELLED.search(place))


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
