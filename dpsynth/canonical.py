"""Canonical JSON: one text for one value, so that what is hashed or signed cannot be written in two ways.

RFC 8785 without floating point: strings, integers, booleans, null, lists, and objects with ASCII keys.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

_EXACT_INTEGERS: Final = 2**53  # JSON readers keep integers exact up to here; larger ones are written as text


def _refuse(literal: str) -> NoReturn:
    raise ValueError(f"{literal} has no place in canonical JSON")


def _exact_integer(literal: str) -> int:
    number = int(literal)
    if abs(number) > _EXACT_INTEGERS:
        _refuse("an integer this long")
    return number


_ENCODER: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_DECODER: Final = json.JSONDecoder(parse_int=_exact_integer, parse_float=_refuse, parse_constant=_refuse)


def canonical(value: object) -> bytes:
    """RFC 8785 text of strings, integers, booleans, null, lists and objects with ASCII keys; floats are refused."""

    def plain(item: object) -> object:
        if isinstance(item, dict):
            return {key: plain(part) for key, part in item.items()}
        if isinstance(item, list):
            return [plain(part) for part in item]
        if isinstance(item, int) and not isinstance(item, bool) and abs(item) > _EXACT_INTEGERS:
            return str(item)
        if item is None or isinstance(item, str | int):
            return item
        raise TypeError(f"{type(item).__name__} has no place in canonical JSON")

    return _ENCODER.encode(plain(value)).encode()


def from_canonical(body: bytes) -> Any:
    """The inverse of `canonical`.

    Raises:
        ValueError: the text is not what `canonical` makes of its own content.
    """
    value = _DECODER.decode(body.decode())
    if _ENCODER.encode(value).encode() != body:
        raise ValueError("not canonical")
    return value
