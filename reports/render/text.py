"""Text that others wrote, made harmless before any page shows it.

Column names, category labels, file names and reasons come from outside. Escaping for a format (HTML, XML, markdown) is
the renderer's work; what is done here comes first and is the same for all: what cannot be seen is made visible, so that
no terminal obeys it and no direction mark reorders a line, and what is endless is shortened.
"""

from __future__ import annotations

import unicodedata
from typing import Final

NAME: Final = 64
"""Characters of a name that a page shows."""
PROSE: Final = 2000
"""Characters of a sentence that a page shows."""

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_WORD_JOINERS: Final = frozenset("-_")


def visible(text: str, limit: int = PROSE) -> str:
    """The text on one line, with control, format and unassigned characters spelled out, and shortened to `limit`.

    The length of a shortened text is told, and its end kept, so that two long names can be told apart.
    """
    short, length = text, len(text)
    if length > limit:
        tail = limit // 4
        short = f"{text[: limit - tail]} … {text[-tail:]} ({length:,} characters)"
    return "".join(spelled(ord(char)) if unicodedata.category(char) in _HIDDEN else char for char in short)


def spelled(code: int) -> str:
    """A character by its number, where it cannot be shown as itself."""
    return f"⟨U+{code:04X}⟩"


def name(text: str) -> str:
    """A name, as short as a table needs it."""
    return visible(text, NAME)


def label(text: str, width: int) -> str:
    """The beginning of a name, for a drawing that has room for `width` letters."""
    shown = visible(text[:width])
    return shown if len(text) <= width and len(shown) <= width else f"{shown[: width - 1].rstrip()}…"


def markdown(text: str, limit: int = PROSE) -> str:
    """The text for a markdown document: no character of it can be read as markup, link, HTML or table border."""
    shown = visible(text, limit)
    out = []
    for place, char in enumerate(shown):
        inside = 0 < place < len(shown) - 1 and shown[place - 1].isalnum() and shown[place + 1].isalnum()
        kept = not char.isascii() or char.isalnum() or char == " " or (char in _WORD_JOINERS and inside)
        out.append(char if kept else f"&#{ord(char)};")
    return "".join(out)
