"""The structure of a page without its words: whatever a label says, it stays the same.

Each function gives what a reader's program makes of a text: elements of HTML, blocks and spans of markdown as GitHub reads it,
nodes of XML and JSON, objects of a PDF. A label that becomes markup shows as a difference.
"""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""What a reader does not see, and a terminal or a page obeys; tab and line break are not among them."""


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kept = ("class", "href", "role", "id", "type", "rel")
        self.found.append((tag, tuple(f"{key}={value}" if key in kept else key for key, value in attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.found.append((f"/{tag}", ()))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", (data,)))

    def handle_decl(self, decl: str) -> None:
        self.found.append(("declaration", (decl,)))

    handle_pi = unknown_decl = handle_decl


def html(text: str) -> list[tuple[str, tuple[str, ...]]]:
    """Start and end of every element with its attributes; comments and declarations."""
    reader = _Elements()
    reader.feed(text)
    reader.close()
    return reader.found


def markdown(text: str) -> list[str]:
    """Every block and span, with tables, links written out and raw HTML, as a reader of GitHub's markdown finds them."""
    from markdown_it import MarkdownIt

    out: list[str] = []
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text):
        out.append(f"{token.type} {token.markup} {token.hidden}")
        out += [child.type for child in token.children or () if child.type not in ("text", "text_special")]
    return out


def xml(text: str) -> list[Any]:
    """Every node with the names of its attributes; the text has to be valid."""
    return [(node.tag, sorted(node.attrib), len(node)) for node in ET.fromstring(text).iter()]


def data(text: str) -> Any:
    """A JSON document with its texts left out, and the names of its keys."""

    def bare(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: bare(value) for key, value in node.items()}
        if isinstance(node, list):
            return [bare(item) for item in node]
        return "text" if isinstance(node, str) else "number" if isinstance(node, int | float) else node

    return bare(json.loads(text))


def terminal(text: str) -> list[str]:
    """The first word of every line; a character that a terminal obeys is an error."""
    assert not UNSEEN.search(text), repr(UNSEEN.search(text))
    return [line.split(" ")[0] for line in text.split("\n")]


def pdf(content: bytes) -> list[tuple[str, ...]]:
    """What a PDF can do beside being read: actions, scripts, links, forms, files; sorted, with the targets of links."""
    import pikepdf

    found = set()
    with pikepdf.open(io.BytesIO(content)) as document:
        for item in document.objects:
            holds = getattr(item, "stream_dict", item) if isinstance(item, pikepdf.Stream) else item
            if not isinstance(holds, pikepdf.Dictionary):
                continue
            for key in (
                "/JS",
                "/JavaScript",
                "/OpenAction",
                "/AA",
                "/URI",
                "/Launch",
                "/AcroForm",
                "/EmbeddedFiles",
                "/GoToR",
                "/XFA",
            ):
                if key in holds:
                    found.add((key, repr(holds[key])))
            if "/S" in holds and holds.get("/Type") == pikepdf.Name.Action:
                found.add(("/S", str(holds["/S"])))
    return sorted(found)


READERS: dict[str, Callable[[str], Any]] = {
    "html": html,
    "markdown": markdown,
    "junit": xml,
    "sarif": data,
    "json": data,
}
