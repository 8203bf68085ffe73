"""Public names as messages show them."""

from __future__ import annotations

import re

_NOT_PLAIN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def quoted(text: str, limit: int = 80) -> str:
    """A public name in quotes, on one line and not too long, whatever it contains."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return f"'{shown}'" if len(text) <= limit else f"'{shown[:limit]}...'"


def is_plain(text: str) -> bool:
    """Whether a name can be shown as it is: no control characters, no marks that reorder text, no lone surrogates."""
    return not _NOT_PLAIN.search(text)
