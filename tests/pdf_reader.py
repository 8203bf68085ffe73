"""Reads a tagged PDF the way a screen reader does: the structure tree in its order, with the text under each element."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pikepdf

_PAIRS = re.compile(rb"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>")
_RANGES = re.compile(rb"<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>\s*<([0-9A-Fa-f]+)>")


@dataclass
class Node:
    """An element of the structure tree; texts and elements under it stand in `kids`, in reading order."""

    tag: str
    alt: str | None = None
    headers: tuple[str, ...] = ()
    id: str | None = None
    kids: list[Node | str] = field(default_factory=list)

    def text(self) -> str:
        """All that is read aloud under this element, on one line; a figure speaks by its alternative text."""
        parts = [self.alt] if self.alt is not None else [k if isinstance(k, str) else k.text() for k in self.kids]
        return " ".join(" ".join(parts).split())

    def find(self, *tags: str) -> Iterator[Node]:
        """The elements of these kinds, this one among them, in reading order."""
        if self.tag in tags:
            yield self
        for kid in self.kids:
            if isinstance(kid, Node):
                yield from kid.find(*tags)


def read(pdf: pikepdf.Pdf) -> Node:
    """The structure tree of a document."""
    texts = {page.objgen: _texts(page) for page in pdf.pages}
    return _node(pdf.Root.StructTreeRoot.K[0], texts)


def _node(element: Any, texts: dict[tuple[int, int], dict[int, str]]) -> Node:
    attributes = element.get("/A", {})
    node = Node(
        tag=str(element.S).removeprefix("/"),
        alt=str(element.Alt) if "/Alt" in element else None,
        headers=tuple(str(header) for header in attributes.get("/Headers", ())),
        id=str(element.ID) if "/ID" in element else None,
    )
    for kid in element.get("/K", ()):
        if isinstance(kid, int):
            node.kids.append(texts[element.Pg.objgen].get(kid, ""))
        elif kid.get("/Type") == "/StructElem":
            node.kids.append(_node(kid, texts))
    return node


def _texts(page: Any) -> dict[int, str]:
    """The text of a page by the number of its marked content."""
    fonts = {str(name): _unicode(font) for name, font in page.Resources.Font.items()}
    found: dict[int, str] = {}
    current: dict[int, str] = {}
    open_marks: list[int | None] = []
    for operands, operator in pikepdf.parse_content_stream(page):
        match str(operator):
            case "BDC":
                mark = operands[1].get("/MCID") if isinstance(operands[1], pikepdf.Dictionary) else None
                open_marks.append(None if mark is None else int(mark))
            case "BMC":
                open_marks.append(None)
            case "EMC":
                open_marks.pop()
            case "Tf":
                current = fonts[str(operands[0])]
            case "Tj" | "TJ":
                strings = operands[0] if str(operator) == "TJ" else [operands[0]]
                text = "".join(_decoded(bytes(s), current) for s in strings if isinstance(s, pikepdf.String))
                mark = next((mark for mark in reversed(open_marks) if mark is not None), None)
                if mark is not None:
                    found[mark] = found.get(mark, "") + text
    return found


def _decoded(glyphs: bytes, table: dict[int, str]) -> str:
    return "".join(table.get(int.from_bytes(glyphs[i : i + 2], "big"), "\ufffd") for i in range(0, len(glyphs), 2))


def _unicode(font: Any) -> dict[int, str]:
    """What each glyph of a font says, by its ToUnicode map."""
    table: dict[int, str] = {}
    data = font.ToUnicode.read_bytes()
    for block in re.findall(rb"beginbfchar(.*?)endbfchar", data, re.DOTALL):
        table |= {
            int(glyph, 16): bytes.fromhex(text.decode()).decode("utf-16-be") for glyph, text in _PAIRS.findall(block)
        }
    for block in re.findall(rb"beginbfrange(.*?)endbfrange", data, re.DOTALL):
        for first, last, text in _RANGES.findall(block):
            start = int(text, 16)
            table |= {glyph: chr(start + glyph - int(first, 16)) for glyph in range(int(first, 16), int(last, 16) + 1)}
    return table
