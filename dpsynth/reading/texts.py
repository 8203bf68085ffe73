"""Cells of the texts of a CSV file, by the type of their column."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpsynth.reading.cells import (
    BLANKS,
    MISSING_CELL,
    UNKNOWN_CELL,
    VALUE,
    Cell,
    Cells,
    codes_of,
    numeric_cells,
    shortened,
)
from dpsynth.reading.objects import cell_reader, number_of, numbers_of_texts
from dpsynth.reading.storage import flags
from dpsynth.schema import Column
from dpsynth.table import arrow_texts

_PLAIN_NUMBER = r"\A-?[0-9]{1,18}(\.[0-9]{1,18})?(e[+-]?[0-9]{1,2})?\z"


def csv_reader(column: Column) -> Callable[[Column, Sequence[str], Sequence[str]], Cells]:
    """What reads the texts of a column: from the column, its texts and the marks of a missing cell."""
    if column.is_time:
        return _time_cells
    if column.figures is not None:
        return _figure_cells
    return _number_cells if column.is_numeric else _label_cells


def _time_cells(column: Column, texts: Sequence[str], marks: Sequence[str]) -> Cells:
    """Cells of a date or datetime column from the texts of a CSV file; blanks around a text do not matter."""
    known = set(marks)
    gaps = np.fromiter((text in known or text.strip(BLANKS) in known for text in texts), np.bool_, len(texts))
    return numeric_cells(column, numbers_of_texts(column, texts), gaps)


def _label_cells(column: Column, texts: Sequence[str], marks: Sequence[str]) -> Cells:
    """Cells of a category, ordinal or boolean column from the texts of a CSV file; `marks` mean "missing"."""
    codes = {} if "values" in column.discover else codes_of(column)
    if column.prefix is not None or column.type == "boolean":
        kept = {*codes, *marks}
        found = {text: text if text in kept else shortened(column, text, marks) for text in dict.fromkeys(texts)}
        texts = [found[text] for text in texts]
    if "values" in column.discover:
        number = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        rows = np.fromiter(map(number.__getitem__, texts), np.intp, len(texts))
        gaps = np.array([text in marks for text in number] or [False])
        return Cells.named(tuple(number), np.where(gaps[rows], -1, rows))
    known = {text: (float(code), VALUE) for text, code in codes.items()} | dict.fromkeys(marks, MISSING_CELL)
    place = {text: n for n, text in enumerate(known)}
    cells = Cells.of([*known.values(), UNKNOWN_CELL])
    return cells.take(np.fromiter(map(place.get, texts, repeat(len(known))), np.intp, len(texts)))


def _number_cells(column: Column, texts: Sequence[str], marks: Sequence[str]) -> Cells:
    """Cells of a numeric column from the texts of a CSV file; blanks around a text do not matter.

    Arrow parses the plain numbers, which are nearly all, several times as fast; the others are looked at one by one.
    """
    numbers, gaps = np.full(len(texts), math.nan), np.zeros(len(texts), dtype=bool)
    rest: Iterable[int] = range(len(texts))
    try:
        array = arrow_texts(texts)
    except UnicodeEncodeError:  # broken characters: Arrow holds valid text only
        pass
    else:
        plain = pc.match_substring_regex(array, _PLAIN_NUMBER)
        numbers[flags(plain)] = np.from_dlpack(array.filter(plain).cast(pa.float64()))
        rest = np.flatnonzero(np.isnan(numbers) | flags(pc.is_in(array, arrow_texts(marks))))
    for row in rest:
        text = texts[row]
        gaps[row] = text in marks or text.strip(BLANKS) in marks
        numbers[row] = number_of(text)
    return numeric_cells(column, numbers, gaps)


def _figure_cells(column: Column, texts: Sequence[str], marks: Sequence[str]) -> Cells:
    """The same for numbers with a format of their own."""
    known: dict[str, Cell] = {}
    read = cell_reader(column)
    for text in dict.fromkeys(texts):
        known[text] = MISSING_CELL if text in marks or text.strip(BLANKS) in marks else read(text)
    place = {text: n for n, text in enumerate(known)}
    rows = np.fromiter(map(place.__getitem__, texts), np.intp, len(texts))
    return Cells.of(list(known.values())).take(rows)
