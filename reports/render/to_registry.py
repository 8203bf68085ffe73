"""The record for the registry of deployments as YAML, written without a library: keys of our own and quoted texts only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from reports.registry import Publisher, record
from reports.render.text import visible
from reports.report import Report

_INERT: Final = str.maketrans({char: f"&#{ord(char)};" for char in "<>&[]*`$\\|#!~@_"})
_LINK = re.compile(r"(?<=www)\.|:(?=//|\w)", re.IGNORECASE)  # what a reader of markdown makes a link of


def _entity(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"


def to_registry(report: Report, publisher: Publisher) -> str:
    """The record as YAML text, the same bytes for the same report and publisher.

    Raises:
        UsageError: the record would not be valid; the sentence says which field.
    """
    return "\n".join(_lines(record(report, publisher), 0)) + "\n"


def _lines(node: Mapping[str, Any], depth: int) -> Iterator[str]:
    pad = "  " * depth
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield f"{pad}{key}:"
            yield from _lines(value, depth + 1)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield f"{pad}{key}:"
            for item in value:
                inner = [_scalar(item)] if isinstance(item, str) else [line.strip() for line in _lines(item, 0)]
                yield f"{pad}  - {inner[0]}"
                yield from (f"{pad}    {line}" for line in inner[1:])
        else:
            yield f"{pad}{key}: {_scalar(value)}"


def _scalar(value: str | int | float) -> str:
    r"""A number with a point, so that no reader of YAML takes 1e-06 for a text; a text in double quotes.

    The registry shows texts as markdown: what could be read as markup, formula or link is written as an entity.
    """
    if isinstance(value, str):
        inert = "\n".join(_LINK.sub(_entity, visible(line).translate(_INERT)) for line in value.split("\n"))
        return json.dumps(inert, ensure_ascii=False)
    text = repr(value)
    mantissa, e, power = text.partition("e")
    return f"{mantissa}.0e{power}" if e and "." not in mantissa else text
