"""Cells of one column before its `unknown` rule: a number or a code each, and whether it is declared, missing or neither."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dpsynth.schema import Column
from dpsynth.schema.vocabulary import NO_VALUE, OTHER

VALUE, MISSING, UNKNOWN = 0, 1, 2
"""What a cell is: a declared value, a missing one, or anything else."""
Cell: TypeAlias = tuple[float, int]
"""A number or a category code, and which of the three it is; the value of the other two is 0."""
IntVector: TypeAlias = npt.NDArray[np.intp]
BoolVector: TypeAlias = npt.NDArray[np.bool_]
BLANKS = " \t"
MISSING_CELL: Cell = (0.0, MISSING)
UNKNOWN_CELL: Cell = (0.0, UNKNOWN)


@dataclass(frozen=True, eq=False, repr=False)
class Cells:
    """Cells of one column before its `unknown` rule is applied. Private.

    Args:
        values: Numbers, not yet clamped, or category codes; shape (rows,).
        kinds: VALUE, MISSING or UNKNOWN; shape (rows,).
        texts: Of a category whose values are to be discovered: what the codes stand for, in no particular order.
    """

    values: npt.NDArray[np.float64]
    kinds: npt.NDArray[np.uint8]
    texts: tuple[str, ...] = ()

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> Cells:
        values = np.fromiter((value for value, _ in cells), np.float64, len(cells))
        return cls(values, np.fromiter((kind for _, kind in cells), np.uint8, len(cells)))

    @classmethod
    def named(cls, texts: Sequence[str | None], rows: IntVector) -> Cells:
        """Cells of a category without declared values.

        Args:
            texts: What occurs; None is no value.
            rows: Which of these each row has; -1 where it is missing.
        """
        values = np.append(np.arange(len(texts)), 0)
        kinds = np.array([*(UNKNOWN if text is None else VALUE for text in texts), MISSING], dtype=np.uint8)
        return cls(values[rows].astype(np.float64), kinds[rows], tuple(text or "" for text in texts))

    def take(self, rows: IntVector | BoolVector) -> Cells:
        return Cells(self.values[rows], self.kinds[rows], self.texts)


def recoded(column: Column, cells: Cells) -> Cells:
    """Codes of a column's labels for codes of what occurred; what is not among the labels is unknown."""
    code = codes_of(column)
    values = np.array([code.get(text, 0) for text in cells.texts], dtype=np.float64)
    known = np.array([text in code for text in cells.texts])
    rows = cells.values.astype(np.intp)
    kinds = np.where((cells.kinds == VALUE) & ~known[rows], UNKNOWN, cells.kinds).astype(np.uint8)
    return Cells(np.where(kinds == VALUE, values[rows], 0.0), kinds)


def spelled(cells: Cells) -> list[bytes | None]:
    """The text of each cell of an open category: None where missing, empty where it can be no value."""
    texts = [text.encode() for text in cells.texts]
    kinds, codes = cells.kinds.tolist(), cells.values.astype(np.intp).tolist()
    return [
        texts[code] if kind == VALUE else None if kind == MISSING else b""
        for kind, code in zip(kinds, codes, strict=True)
    ]


def from_spelled(texts: Sequence[bytes | None]) -> Cells:
    """The cells that `spelled` gave out."""
    number = {text: n for n, text in enumerate(dict.fromkeys(text for text in texts if text is not None))}
    rows = np.fromiter((-1 if text is None else number[text] for text in texts), np.intp, len(texts))
    return Cells.named([text.decode() if text else None for text in number], rows)


def codes_of(column: Column) -> dict[str, int]:
    """The code of every text that a schema declares for a column."""
    if column.type == "boolean":
        return {text: code for code, texts in enumerate((column.false, column.true)) for text in texts or ()}
    return {
        text: code for code, text in enumerate(column.labels if column.values else ())
    }  # "other" is one where declared


def shortened(column: Column, text: str, marks: Sequence[str] = ()) -> str:
    """What counts of a text that is no label: its first characters where the column has a `prefix`, and of a boolean no
    blanks around it. Labels that discovery adds stay whole, so that a release and its completed schema count them alike.

    Args:
        marks: Texts that mean "missing"; what would look like one once it is cut stays whole, and is no declared value.
    """
    if column.type == "boolean":
        return text.strip(BLANKS)
    short = text[: column.prefix]
    return text if short in marks or is_added(column, text) else short


def is_added(column: Column, text: str) -> bool:
    """Whether a text is a label that nobody declared and that needs no row: "other", or the one of a column without any."""
    if text == OTHER:
        return column.unknown == OTHER
    return text.rstrip(".") == NO_VALUE and (column.is_open or column.source != "declared")


def numeric_cells(column: Column, numbers: npt.NDArray[np.float64], gaps: BoolVector) -> Cells:
    """Cells of a numeric column; the rules are `cell_reader`'s.

    Args:
        numbers: NaN where there is no number, infinite where it is too large for float64.
        gaps: Which cells are missing, whatever stands there.
    """
    kinds = np.where(np.isnan(numbers), UNKNOWN, VALUE).astype(np.uint8)
    if column.type == "integer":
        kinds[numbers != np.floor(numbers)] = UNKNOWN
    kinds[gaps] = MISSING
    return Cells(np.where(kinds == VALUE, numbers, 0.0) + 0.0, kinds)  # no negative zero: equal cells have equal bytes
