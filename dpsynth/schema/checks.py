"""Checks of single keys: each refuses in one sentence that names where and which key."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from dpsynth.errors import SchemaError, UsageError
from dpsynth.schema.quoting import is_plain, quoted


def refuse(where: str, rule: str) -> NoReturn:
    """Refuses in one sentence that names where."""
    raise SchemaError(f"{where}: {rule}")


def require_known(data: Mapping[str, object], keys: Iterable[str], where: str) -> None:
    """Every key is one of those that there are."""
    for key in data:
        if key not in keys:
            refuse(where, f"unknown key {quoted(key)}")


def mapping(value: object, where: str) -> dict[str, Any]:
    """A table of keys and values."""
    if not isinstance(value, dict):
        refuse(where, "it must be a table of keys and values")
    return value


def text_of(value: object, where: str, key: str) -> str:
    """A text that can be shown; of all control characters a tab alone may stand in it."""
    if not isinstance(value, str):
        refuse(where, f"{key} must be text in quotes")
    if not is_plain(value) and value != "\t":
        refuse(where, f"{key} must not contain control characters or marks that change the direction of text")
    return value


def name_of(value: object, where: str, key: str) -> str:
    """A text that is more than blanks."""
    text = text_of(value, where, key)
    if not text.strip():
        refuse(where, f"{key} must not be empty")
    return text


def expression_of(value: object, key: str) -> str:
    """An expression in its one spelling."""
    from dpsynth.expressions import parse  # that module builds on this one

    text = value if isinstance(value, str) else text_of(value, "[[constraint]]", key)
    try:
        return str(parse(text))
    except UsageError as error:
        raise SchemaError(f"{key}: {error}") from None


def sentence_of(value: object, where: str, key: str) -> str | None:
    """Free text for the report, with every run of blanks and line ends made one blank."""
    return None if value is None else name_of(" ".join(value.split()) if isinstance(value, str) else value, where, key)


def texts_of(value: object, where: str, key: str, *, may_be_empty: bool = False) -> tuple[str, ...]:
    """A list of texts that differ."""
    if not isinstance(value, list | tuple):
        refuse(where, f"{key} must be a list of texts in quotes")
    texts = tuple(text_of(item, where, key) for item in value)
    if not texts and not may_be_empty:
        refuse(where, f"{key} must not be an empty list")
    if len(set(texts)) < len(texts):
        refuse(where, f"{key} must not list a text twice")
    return texts


def names_of(value: object, where: str, key: str) -> tuple[str, ...]:
    """A list of texts that differ and are not empty."""
    return tuple(name_of(text, where, key) for text in texts_of(value, where, key))


def number_of(value: object, where: str, key: str) -> int | float:
    """A finite number; a whole one that float64 keeps exactly becomes an int."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(where, f"{key} must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        refuse(where, f"{key} must be a finite number")
    return int(number) if number.is_integer() and abs(number) <= 2**53 else number


def count_of(value: object, where: str, key: str) -> int:
    """A whole number of at least 1."""
    if type(value) is not int or value < 1:
        refuse(where, f"{key} must be a whole number of at least 1")
    return value


def require_choice(value: object, where: str, key: str, choices: tuple[str, ...]) -> None:
    """The value is one of the choices."""
    if value not in choices:
        refuse(where, f"{key} must be {', '.join(choices[:-1])} or {choices[-1]}")
