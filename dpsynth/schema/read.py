"""Read: how a CSV file is to be read."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from dpsynth.schema.checks import refuse, text_of, texts_of

_ENCODINGS = {"utf-8", "ascii", *(f"iso8859-{n}" for n in range(1, 17)), *(f"cp{n}" for n in range(1250, 1259))}


@dataclass(frozen=True, kw_only=True)
class Read:
    """How a CSV file is to be read. Parquet needs none of it.

    Args:
        delimiter: One character between cells.
        encoding: UTF-8 or a one-byte encoding, so that a broken character cannot spill into the next line.
        missing: Cell texts that mean "missing".
    """

    delimiter: str = ","
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        where = "[read]"
        text_of(self.delimiter, where, "delimiter")
        if len(self.delimiter) != 1 or self.delimiter not in "\t !#$%&*,/:;<=>?@\\^_`|~":
            refuse(where, "delimiter must be one character such as a comma, a semicolon, a tab or a bar")
        text_of(self.encoding, where, "encoding")
        try:
            name = codecs.lookup(self.encoding).name.removesuffix("-sig")
        except (LookupError, ValueError):
            name = ""
        if name not in _ENCODINGS:
            refuse(where, "encoding must be utf-8, ascii, iso-8859-1 to -16 or cp1250 to cp1258; convert other files")
        object.__setattr__(self, "encoding", name)
        object.__setattr__(self, "missing", texts_of(self.missing, where, "missing", may_be_empty=True))
