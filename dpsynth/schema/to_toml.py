"""Declarations as TOML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def toml_text(plain: Mapping[str, Any]) -> str:
    """The canonical form of a schema as TOML."""
    plain = dict(plain)
    blocks = {key: plain.pop(key, []) for key in ("column", "constraint")}
    read = plain.pop("read")
    lines = [f"{key} = {toml_value(value)}" for key, value in plain.items()]
    lines += ["", "[read]", *(f"{key} = {toml_value(value)}" for key, value in read.items())]
    for kind, entries in blocks.items():
        for entry in entries:
            lines += ["", f"[[{kind}]]", *(f"{key} = {toml_value(value)}" for key, value in entry.items())]
    return "\n".join(lines) + "\n"


def toml_value(value: object) -> str:
    """One value of TOML; JSON's texts, numbers and booleans are TOML's."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {toml_value(item)}' for key, item in value.items())} }}"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def stated(data: dict[str, Any]) -> dict[str, Any]:
    """What is declared: without the keys that are None."""
    return {key: value for key, value in data.items() if value is not None}
