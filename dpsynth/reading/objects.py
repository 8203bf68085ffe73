"""Cells of stored objects: what each is in a column, and how a schema may spell it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from dpsynth.dates import FIRST, seconds_of
from dpsynth.reading.cells import (
    MISSING_CELL,
    UNKNOWN_CELL,
    VALUE,
    Cell,
    Cells,
    IntVector,
    codes_of,
    numeric_cells,
    shortened,
)
from dpsynth.schema import Column
from dpsynth.schema.vocabulary import FALSE_TEXTS, TRUE_TEXTS
from dpsynth.table import arrow_texts

_NUMBER = re.compile(r"[ \t]*+[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?[ \t]*+")


def number_of(text: str) -> float:
    """A number in plain or scientific notation, infinite where it is too large for float64; NaN for any other text."""
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def cell_reader(column: Column) -> Callable[[object], Cell]:
    """What a stored object is in a column."""
    codes = codes_of(column)
    spelled = number_of if column.figures is None else column.figures.parse

    def cell(stored: object) -> Cell:
        found = native(stored)
        if isinstance(found, bytes):
            found = found.decode("utf-8", "surrogateescape")
        if is_gap(found):
            return MISSING_CELL
        if column.is_numeric:
            number = spelled(found) if isinstance(found, str) else _as_float(found)
            whole = column.type != "integer" or math.isinf(number) or number.is_integer()
            return (number, VALUE) if whole and not math.isnan(number) else UNKNOWN_CELL
        if column.type == "boolean" and isinstance(found, bool):
            return float(found), VALUE
        texts = (text if text in codes else shortened(column, text) for text in spellings(found))
        return next(((float(codes[text]), VALUE) for text in texts if text in codes), UNKNOWN_CELL)

    return cell


def native(found: object) -> object:
    """A Python object for a numpy scalar; numpy floats stay, because a short one is spelled with fewer digits."""
    return found.item() if isinstance(found, np.generic) and not isinstance(found, np.floating) else found


def is_gap(found: object) -> bool:
    """None, NaN of any kind, pandas' NA and NaT."""
    if found is None or type(found).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(found, Decimal):
        return found.is_nan()
    return isinstance(found, float | np.floating) and bool(found != found)


def _as_float(found: object) -> float:
    """A finite number as float64, infinite where it is too large for it; NaN for everything else."""
    if isinstance(found, int):
        try:
            return float(found)
        except OverflowError:
            return math.inf if found > 0 else -math.inf
    if isinstance(found, Decimal):
        return float(found) if found.is_finite() else math.nan
    return float(found) if isinstance(found, float | np.floating) and math.isfinite(found) else math.nan


def spellings(found: object) -> tuple[str, ...]:
    """How a schema may write a stored value, the likeliest first: 5.0 as "5" or "5.0", a boolean as "true", "1"..."""
    if isinstance(found, str):
        return (found,)
    if isinstance(found, bool):
        return TRUE_TEXTS if found else FALSE_TEXTS
    if isinstance(found, int):
        return (str(found),) if abs(found) < 10**400 else ()  # longer ones cost time, and nobody declares them
    if isinstance(found, float | np.floating):
        whole = (str(int(found)),) if math.isfinite(found) and float(found).is_integer() else ()
        return (*whole, str(found))
    if isinstance(found, Decimal) and found.is_finite() and abs(found.adjusted()) < 400:
        text = f"{found:f}"
        return (text.rstrip("0").rstrip(".") if "." in text else text, text)
    return ()


def unit_id(stored: object) -> bytes | None:
    """A unit's id as bytes, the same whether a CSV or a Parquet file holds it; None where there is none."""
    found = native(stored)
    if isinstance(found, bytes):
        return found or None
    spelled = () if is_gap(found) else spellings(found)
    return (spelled[0].encode("utf-8", "surrogatepass") or None) if spelled else None


def cells_of(column: Column, objects: Iterable[object]) -> Cells:
    """Cells of stored objects."""
    return _moment_cells(column, list(objects)) if column.is_time else Cells.of(list(map(cell_reader(column), objects)))


def _moment_cells(column: Column, objects: Sequence[object]) -> Cells:
    """Cells of a date or datetime column: dates and times of Python and NumPy, and texts, as the format has them.

    A stored number is taken for the text that it spells: 20200131 may be a date.
    """
    seconds = np.full(len(objects), FIRST - 1, dtype=np.int64)  # none
    gaps = np.zeros(len(objects), dtype=bool)
    texts = [""] * len(objects)
    for row, stored in enumerate(objects):
        found = native(stored)
        if isinstance(found, bytes):
            found = found.decode("utf-8", "surrogateescape")
        if is_gap(found):
            gaps[row] = True
        elif isinstance(found, date):
            seconds[row] = seconds_of(found)
        elif not isinstance(found, bool):
            texts[row] = next(iter(spellings(found)), "")
    numbers = column.clock.of_seconds(seconds)
    spelled = numbers_of_texts(column, texts)
    return numeric_cells(column, np.where(np.isnan(numbers), spelled, numbers), gaps)


def numbers_of_texts(column: Column, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """The number of each text of a date or datetime column, NaN where it is none."""
    try:
        array = arrow_texts(texts)
    except UnicodeEncodeError:  # broken characters, of which no date is made
        array = arrow_texts([text if text.isascii() else "" for text in texts])
    return column.clock.parse(array)


def of_distinct(column: Column, values: Sequence[object], rows: IntVector) -> Cells:
    """Cells from the different values of a column, and which of them each row has; -1 where it is missing."""
    if "values" in column.discover:
        gaps = np.array([is_gap(value) for value in values] + [True])
        labels = [None if (text := _label(value)) is None else shortened(column, text) for value in values]
        return Cells.named(labels, np.where(gaps[rows], -1, rows))
    cells = cells_of(column, [*values, None])
    return cells.take(np.where(rows < 0, len(values), rows))


def _label(stored: object) -> str | None:
    """How a stored value is spelled as a category; None where it is missing or no single value."""
    found = native(stored)
    if isinstance(found, bytes):
        return found.decode("utf-8", "surrogateescape")
    return next(iter(() if is_gap(found) else spellings(found)), None)
