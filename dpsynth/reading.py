"""CSV as text, Parquet and data frames in their storage types; nothing is inferred from rows.

`check_header` comes before a reservation: it looks at the container, the header and the storage types, and refuses what
does not fit the schema. `read` comes after it and is total: no row, and no number of rows, raises or changes a message.
What happens to a row depends on that row and on the schema alone:

    a number beyond the bounds                          goes to the nearest bound; finer than `decimals`: rounded
    an undeclared, unparsable or out-of-type cell       follows the column's `unknown`: missing, other or drop_row
    a missing cell where missing is not allowed         the same
    a time finer than its column counts                 is cut off; a time with a zone is taken at UTC
    a row with too few or too many cells (CSV)          is dropped: nobody can say which cell is which
    a row without a unit id                             is dropped

A CSV file follows RFC 4180: a quoted cell may span lines. A line whose quotes do not close properly is a broken row of
its own, dropped alone, and reading goes on with the next line. In a file that some program wrote by that standard no
cell, whatever a person put into it, can reach beyond its row. A file whose quotes were not escaped has no such borders:
two stray quotes can enclose everybody between them. Reading line by line instead would be worse, because then a cell
with line breaks in a proper file could pose as rows of other people. So the assumption is named in every report.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from itertools import count, islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dpsynth.dates import DAY, FIRST, TIMES, seconds_of
from dpsynth.errors import DataFileError, OperationError
from dpsynth.schema import FALSE_TEXTS, OTHER, TRUE_TEXTS, Column, Read, Schema, is_plain, quoted
from dpsynth.table import Records, Values, arrow_texts, storage

if TYPE_CHECKING:
    import pandas as pd

BLOCK_BYTES = 2**22  # CSV is read in blocks of about this many bytes
BLOCK_ROWS = 2**17  # and Parquet in blocks of this many rows
HEADER_BYTES = 2**20
BOM = b"\xef\xbb\xbf"

VALUE, MISSING, UNKNOWN = 0, 1, 2
"""What a cell is: a declared value, a missing one, or anything else."""

Cell: TypeAlias = tuple[float, int]
"""A number or a category code, and which of the three it is; the value of the other two is 0."""
IntVector: TypeAlias = npt.NDArray[np.intp]
BoolVector: TypeAlias = npt.NDArray[np.bool_]

LONGEST_LABEL = 200
"""Characters of a text that discovery may make a category; longer ones follow the column's `unknown` rule."""

_MISSING: Cell = (0.0, MISSING)
_UNKNOWN: Cell = (0.0, UNKNOWN)
_INSIDE_QUOTES = re.compile(r'(?:[^"]++|"")*+')
_BLANKS = " \t"
_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_PLAIN_NUMBER = r"\A-?[0-9]{1,18}(\.[0-9]{1,18})?(e[+-]?[0-9]{1,2})?\z"
_NUMBER = re.compile(r"[ \t]*+[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?[ \t]*+")


@dataclass(frozen=True, eq=False, repr=False)
class RawRows:
    """What a data file holds, in the schema's terms. Private.

    Args:
        records: The rows.
        unit_ids: To which unit each row belongs, exactly as the file says it; None when the unit is a row.
    """

    records: Records
    unit_ids: list[bytes] | None


@dataclass(frozen=True, eq=False, repr=False)
class OpenRows:
    """The same where columns are still to be discovered. Private.

    Args:
        schema: The open schema.
        cells: For every modelled column, in order, its cells; the texts of a category differ, and each can be a label.
        unit_ids: As in `RawRows`.
    """

    schema: Schema
    cells: dict[str, Cells]
    unit_ids: list[bytes] | None

    def __len__(self) -> int:
        return len(next(iter(self.cells.values())).values)

    def take(self, rows: BoolVector) -> OpenRows:
        """The chosen rows."""
        ids = None if self.unit_ids is None else [i for i, stays in zip(self.unit_ids, rows, strict=True) if stays]
        return OpenRows(self.schema, {name: cells.take(rows) for name, cells in self.cells.items()}, ids)

    def settled(self, schema: Schema) -> tuple[Records, BoolVector]:
        """The rows under the completed schema, and which of them that schema's rules keep; shape (rows,)."""
        cells = {
            column.name: recoded(column, self.cells[column.name])
            if self.cells[column.name].texts
            else self.cells[column.name]
            for column in schema.modelled
        }
        keep = kept_rows(Block(len(self), cells, None), schema)
        columns = {column.name: settled_values(column, cells[column.name])[keep] for column in schema.modelled}
        return Records(schema, columns), keep


def recoded(column: Column, cells: Cells) -> Cells:
    """Codes of a column's labels for codes of what occurred; what is not among the labels is unknown."""
    code = _codes(column)
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


@dataclass(frozen=True, eq=False, repr=False)
class Block:
    """Some rows of a file, as found. Private.

    Args:
        rows: How many.
        cells: For every modelled column, in order, its cells.
        units: The unit id of each row, None where it is missing; None as a whole when the unit is a row.
        broken: Lines of a CSV file that are not a row.
    """

    rows: int
    cells: dict[str, Cells]
    units: list[bytes | None] | None
    broken: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class Glance:
    """The first cells of a column, as texts. Private.

    Args:
        texts: The different ones, none of them missing.
        rows: How many cells are not missing.
    """

    texts: list[str]
    rows: int


# ---- before the reservation --------------------------------------------------------------------------------------


def check_header(path: str | Path, schema: Schema) -> None:
    """Looks at a file's container, header and storage types, and at no row.

    Raises:
        DataFileError: the file is missing, empty, neither CSV nor Parquet, or its columns are not the schema's.
    """
    path = Path(path)
    shown = quoted(str(path), 200)
    try:
        parquet = is_parquet(path)
        with path.open("rb") as file:
            if parquet:
                check_stored(open_parquet(file, shown).schema_arrow, schema, shown)
            else:
                _check_names(csv_header(file, schema.read, shown), schema, shown)
    except FileNotFoundError:
        raise DataFileError(f"the data file {shown} does not exist") from None
    except OSError:
        raise DataFileError(f"the data file {shown} cannot be opened") from None


def check_frame(frame: pd.DataFrame, schema: Schema) -> None:
    """The same for a data frame: looks at its column labels and dtypes, and at no row.

    Raises:
        DataFileError: they are not the schema's.
    """
    names = list(frame.columns)
    if not all(isinstance(name, str) for name in names):
        raise DataFileError("the data frame must have texts as column labels")
    _check_names(names, schema, "the data frame")
    dtypes = dict(zip(names, frame.dtypes, strict=True))
    _check_kinds({name: (str(dtype), _frame_kind(dtype)) for name, dtype in dtypes.items()}, schema, "the data frame")


def is_parquet(path: Path) -> bool:
    """Whether a data file is Parquet, by its name; the other possibility is CSV.

    Raises:
        DataFileError: it is neither, or it is empty.
        OSError: it cannot be looked at.
    """
    shown = quoted(str(path), 200)
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise DataFileError(f"the data file {shown} must end in .csv or .parquet")
    if path.stat().st_size == 0:
        raise DataFileError(f"the data file {shown} is empty: it needs a header")
    return path.suffix.lower() == ".parquet"


def open_parquet(file: BinaryIO, shown: str) -> pq.ParquetFile:
    """A Parquet file, of which only the footer has been looked at.

    Raises:
        DataFileError: the file is no Parquet.
    """
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError):
        raise DataFileError(f"the data file {shown} is not a complete Parquet file") from None


def csv_header(file: BinaryIO, read: Read, shown: str) -> list[str]:
    """The cells of the first line; the file then stands at the second.

    Raises:
        DataFileError: there is no first line, or it is no CSV record.
    """
    line = file.readline(HEADER_BYTES + 1)
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataFileError(f"the data file {shown} is UTF-16: save it as UTF-8")
    text = line.removeprefix(BOM).decode(read.encoding, "surrogateescape").removesuffix("\n").removesuffix("\r")
    if not text.strip():
        raise DataFileError(f"the first line of {shown} is blank: it must name the columns")
    if len(line) > HEADER_BYTES:
        raise DataFileError(f"the first line of {shown} is longer than {HEADER_BYTES} bytes: it must name the columns")
    try:
        (cells,) = csv.reader((text,), delimiter=read.delimiter, strict=True)
    except (csv.Error, ValueError):
        raise DataFileError(f"the first line of {shown} is no complete CSV record: it must name the columns") from None
    return cells


def _check_names(names: list[str], schema: Schema, where: str) -> None:
    """Compares names with the schema.

    A name that the schema does not know is quoted only when all that it does know are there: otherwise the first line
    of a CSV file may be a row, and its cells are nobody's business.
    """
    wanted = schema.file_names
    lacking = [name for name in wanted if name not in names]
    if len(lacking) == len(wanted):
        raise DataFileError(f"{where} has none of the schema's columns: its first line must name the columns")
    if lacking:
        raise DataFileError(f"{where} lacks {_listed(lacking)}, which the schema declares: add or undeclare the column")
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise DataFileError(f"{where} has more than one column {_listed(twice)}: column names must differ")
    strange = [name for name in names if name not in wanted]
    if strange:
        raise DataFileError(
            f'{where} has {_listed(strange)}, which the schema does not declare: declare the column (type = "text" '
            "drops it) or take it out"
        )


def check_stored(stored: pa.Schema, schema: Schema, where: str) -> None:
    """Compares the columns of a store, by name and storage type, with the schema.

    Args:
        where: What the store is called in an error.
    Raises:
        DataFileError: they do not fit.
    """
    _check_names(stored.names, schema, where)
    _check_kinds({field.name: (str(field.type), storage_kind(field.type)) for field in stored}, schema, where)


def _check_kinds(kinds: dict[str, tuple[str, str | None]], schema: Schema, where: str) -> None:
    for column in schema.modelled:
        stored, kind = kinds[column.name]
        if kind is None or (kind in TIMES and not column.is_time):
            raise DataFileError(
                f"column {quoted(column.name)} of {where} is stored as {quoted(stored)}, which cannot be read as "
                f'{column.type}: convert it, or declare type = "text" to drop it'
            )
    if schema.unit_column is not None:
        stored, kind = kinds[schema.unit_column]
        if kind in (None, "boolean", "float", *TIMES):  # a float has lost which id it was
            raise DataFileError(
                f"the unit column {quoted(schema.unit_column)} of {where} is stored as {quoted(stored)}: store it as "
                "integers or texts"
            )


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(map(quoted, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def storage_kind(stored: pa.DataType) -> str | None:
    """What cells of an Arrow type are; None for times of day, durations, and what is no single value."""
    if isinstance(stored, pa.BaseExtensionType):
        return storage_kind(stored.storage_type)
    if pa.types.is_dictionary(stored):
        return storage_kind(stored.value_type)
    tests = pa.types
    kinds = {
        "integer": tests.is_integer(stored),
        "float": tests.is_floating(stored),
        "decimal": tests.is_decimal(stored),
        "boolean": tests.is_boolean(stored),
        "date": tests.is_date(stored),
        "datetime": tests.is_timestamp(stored),
        "null": tests.is_null(stored),
        "text": _is_text(stored) or _is_bytes(stored),
    }
    return next((kind for kind, is_it in kinds.items() if is_it), None)


def _is_text(stored: pa.DataType) -> bool:
    return bool(pa.types.is_string(stored) or pa.types.is_large_string(stored) or pa.types.is_string_view(stored))


def _is_bytes(stored: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(stored)
        or pa.types.is_large_binary(stored)
        or pa.types.is_binary_view(stored)
        or pa.types.is_fixed_size_binary(stored)
    )


def _frame_kind(dtype: Any) -> str | None:
    import pandas as pd

    if isinstance(dtype, pd.ArrowDtype):
        return storage_kind(dtype.pyarrow_dtype)
    if pd.api.types.is_object_dtype(dtype) or isinstance(dtype, pd.CategoricalDtype | pd.StringDtype):
        return "text"
    kinds = {"i": "integer", "u": "integer", "f": "float", "b": "boolean", "M": "datetime"}
    return None if isinstance(dtype, pd.SparseDtype) else kinds.get(dtype.kind)


# ---- for a draft of the schema -----------------------------------------------------------------------------------


def glance(path: Path, read: Read | None, rows: int) -> dict[str, Glance]:
    """The first rows of a file, at most so many, by column; nothing of a column or file that cannot be read.

    Args:
        read: How a CSV file is to be read; None for Parquet.
    Privacy: for `schema draft` alone, whose output is as private as the rows until a person has gone through it.
    """
    try:
        with path.open("rb") as file:
            if read is None:
                batch = next(open_parquet(file, "").iter_batches(batch_size=rows), None)
                stored = {} if batch is None else dict(zip(batch.schema.names, batch.columns, strict=True))
                found = {name: _arrow_texts(array) for name, array in stored.items()}
            else:
                names = csv_header(file, read, "")
                first = iter(list(islice(_csv_lines(file, read.encoding), 1)))
                columns = next(_csv_columns(first, read.delimiter, len(names)), ([()] * len(names), 0))[0]
                gaps = ("", "NA", "N/A", "NULL", "null", "None", "nan", "NaN", *read.missing)
                found = {
                    name: [text for text in texts[:rows] if text.strip(_BLANKS) not in gaps]
                    for name, texts in zip(names, columns, strict=True)
                }
    except (OSError, ValueError, pa.ArrowException, DataFileError):
        return {}
    return {name: Glance(list(dict.fromkeys(texts)), len(texts)) for name, texts in found.items()}


def _arrow_texts(array: pa.Array) -> list[str]:
    """Cells of texts and whole numbers, as texts; none of other types."""
    if isinstance(array.type, pa.BaseExtensionType):
        return _arrow_texts(array.storage)
    if storage_kind(array.type) not in ("text", "integer", "float"):
        return []
    values, places = _distinct(array)
    texts = [_unit_id(value) for value in values]
    return [
        text.decode("utf-8", "surrogateescape")
        for text in (texts[place] for place in places.tolist() if place >= 0)
        if text is not None
    ]


# ---- after the reservation ---------------------------------------------------------------------------------------


def read(path: str | Path, schema: Schema) -> RawRows:
    """Every row of a file that `check_header` accepts.

    Raises:
        OperationError: the disk fails, or the file was damaged or exchanged. The text says no more than that.
    """
    return read_blocks(blocks(path, schema), schema)


def read_frame(frame: pd.DataFrame, schema: Schema) -> RawRows:
    """Every row of a data frame, by the same rules.

    Raises:
        DataFileError: as `check_frame`.
    """
    return read_blocks([_frame_block(frame, schema)], schema)


def read_open_frame(frame: pd.DataFrame, schema: Schema) -> OpenRows:
    """The same for a schema with columns to be discovered, whose cells stay as they are found.

    Raises:
        DataFileError: as `check_frame`.
    """
    return gather([_frame_block(frame, schema)], schema)


def _frame_block(frame: pd.DataFrame, schema: Schema) -> Block:
    check_frame(frame, schema)
    cells = {column.name: _frame_cells(column, frame[column.name]) for column in schema.modelled}
    units = None if schema.unit_column is None else _frame_units(frame[schema.unit_column])
    return _labelled(Block(len(frame), cells, units), schema)


def blocks(path: str | Path, schema: Schema) -> Iterator[Block]:
    """The rows of a file as found, block by block, before any rule has been applied.

    Raises:
        OperationError: as `read`.
    """
    path = Path(path)
    try:
        yield from _parquet_blocks(path, schema) if is_parquet(path) else _csv_blocks(path, schema)
    except (OSError, pa.ArrowException, DataFileError):
        raise OperationError("the data file could not be read: it is damaged or was changed meanwhile") from None


def read_blocks(found: Iterable[Block], schema: Schema) -> RawRows:
    """Every row of some blocks: applies the rules, row by row."""
    parts: dict[str, list[Any]] = {column.name: [np.zeros(0, dtype=storage(column))] for column in schema.modelled}
    ids: list[bytes] = []
    for block in found:
        keep = kept_rows(block, schema)
        for column in schema.modelled:
            parts[column.name].append(settled_values(column, block.cells[column.name])[keep])
        ids += _ids_of(block, keep)
    columns: dict[str, Values] = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return RawRows(Records(schema, columns), None if schema.unit_column is None else ids)


def gather(found: Iterable[Block], schema: Schema) -> OpenRows:
    """Applies the rules of what is declared, row by row, and puts the texts of each open category together."""
    texts: dict[str, dict[str, int]] = {column.name: {} for column in schema.modelled if "values" in column.discover}
    parts: dict[str, list[Cells]] = {column.name: [] for column in schema.modelled}
    ids: list[bytes] = []
    for block in found:
        keep = kept_rows(block, schema)
        for name, cells in block.cells.items():
            kept = cells.take(keep)
            if name in texts:
                known = texts[name]
                code = np.array([known.setdefault(text, len(known)) for text in kept.texts] or [0])
                kept = Cells(np.where(kept.kinds == VALUE, code[kept.values.astype(np.intp)], 0.0), kept.kinds)
            parts[name].append(kept)
        ids += _ids_of(block, keep)
    whole = {
        name: Cells(
            np.concatenate([np.zeros(0), *(part.values for part in each)]),
            np.concatenate([np.zeros(0, dtype=np.uint8), *(part.kinds for part in each)]),
            tuple(texts.get(name, {})) or (("",) if name in texts else ()),
        )
        for name, each in parts.items()
    }
    return OpenRows(schema, whole, None if schema.unit_column is None else ids)


def kept_rows(block: Block, schema: Schema) -> BoolVector:
    """Which rows no rule drops, by their unit ids and by the columns that the block has; shape (rows,)."""
    keep = np.ones(block.rows, dtype=bool)
    if block.units is not None:
        keep &= np.array([unit is not None for unit in block.units], dtype=bool)
    for column in schema.modelled:
        if column.unknown == "drop_row" and "values" not in column.discover and column.name in block.cells:
            keep &= ~_breaks_domain(column, block.cells[column.name])
    return keep


def _ids_of(block: Block, keep: BoolVector) -> list[bytes]:
    units = block.units or []
    return [unit for unit, stays in zip(units, keep.tolist(), strict=False) if stays and unit is not None]


def _breaks_domain(column: Column, cells: Cells) -> BoolVector:
    """Which cells the column's `unknown` rule is about."""
    return np.equal(cells.kinds, UNKNOWN) if column.missing else np.not_equal(cells.kinds, VALUE)


def keeps_domain(block: Block, schema: Schema) -> bool:
    """Whether every cell of a block is declared: no `unknown` rule would apply, and no number would be clamped."""
    for column in schema.modelled:
        cells = block.cells[column.name]
        if _breaks_domain(column, cells).any():
            return False
        if column.is_numeric:
            numbers, edges = cells.values[np.equal(cells.kinds, VALUE)], column.binning.edges
            if len(numbers) and not (edges[0] <= numbers.min() and numbers.max() <= edges[-1]):
                return False
    return block.broken == 0


def settled_values(column: Column, cells: Cells) -> Values:
    """The cells as `Records` hold them; what stands in a row that is dropped does not matter."""
    broken = _breaks_domain(column, cells)
    if column.is_numeric:
        values = column.binning.clamp(cells.values)
        values[cells.kinds != VALUE] = np.nan
        return values
    codes = cells.values.astype(np.int32)
    if column.missing_code is not None:
        codes[cells.kinds == MISSING] = column.missing_code
    codes[broken] = (column.missing_code if column.unknown == "missing" else column.other_code) or 0
    return codes


# ---- one cell ----------------------------------------------------------------------------------------------------


def _number(text: str) -> float:
    """A number in plain or scientific notation, infinite where it is too large for float64; NaN for any other text."""
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def _cell_reader(column: Column) -> Callable[[object], Cell]:
    """What a stored object is in a column."""
    codes = _codes(column)
    spelled = _number if column.figures is None else column.figures.parse

    def cell(stored: object) -> Cell:
        found = _native(stored)
        if isinstance(found, bytes):
            found = found.decode("utf-8", "surrogateescape")
        if _is_gap(found):
            return _MISSING
        if column.is_numeric:
            number = spelled(found) if isinstance(found, str) else _as_float(found)
            whole = column.type != "integer" or math.isinf(number) or number.is_integer()
            return (number, VALUE) if whole and not math.isnan(number) else _UNKNOWN
        if column.type == "boolean" and isinstance(found, bool):
            return float(found), VALUE
        return next(((float(codes[text]), VALUE) for text in _spellings(found) if text in codes), _UNKNOWN)

    return cell


def _codes(column: Column) -> dict[str, int]:
    """The code of every text that a schema declares for a column."""
    if column.type == "boolean":
        return {text: code for code, texts in enumerate((column.false, column.true)) for text in texts or ()}
    return {
        text: code for code, text in enumerate(column.labels if column.values else ())
    }  # "other" is one where declared


def _native(found: object) -> object:
    """A Python object for a numpy scalar; numpy floats stay, because a short one is spelled with fewer digits."""
    return found.item() if isinstance(found, np.generic) and not isinstance(found, np.floating) else found


def _is_gap(found: object) -> bool:
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


def _spellings(found: object) -> tuple[str, ...]:
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


def _unit_id(stored: object) -> bytes | None:
    """A unit's id as bytes, the same whether a CSV or a Parquet file holds it; None where there is none."""
    found = _native(stored)
    if isinstance(found, bytes):
        return found or None
    spelled = () if _is_gap(found) else _spellings(found)
    return (spelled[0].encode("utf-8", "surrogatepass") or None) if spelled else None


# ---- a column's cells, from each kind of storage -----------------------------------------------------------------


def _cells(column: Column, objects: Iterable[object]) -> Cells:
    """Cells of stored objects."""
    return (
        _moment_cells(column, list(objects)) if column.is_time else Cells.of(list(map(_cell_reader(column), objects)))
    )


def _moment_cells(column: Column, objects: Sequence[object]) -> Cells:
    """Cells of a date or datetime column: dates and times of Python and NumPy, and texts, as the format has them.

    A stored number is taken for the text that it spells: 20200131 may be a date.
    """
    seconds = np.full(len(objects), FIRST - 1, dtype=np.int64)  # none
    gaps = np.zeros(len(objects), dtype=bool)
    texts = [""] * len(objects)
    for row, stored in enumerate(objects):
        found = _native(stored)
        if isinstance(found, bytes):
            found = found.decode("utf-8", "surrogateescape")
        if _is_gap(found):
            gaps[row] = True
        elif isinstance(found, date):
            seconds[row] = seconds_of(found)
        elif not isinstance(found, bool):
            texts[row] = next(iter(_spellings(found)), "")
    numbers = column.clock.of_seconds(seconds)
    spelled = _text_numbers(column, texts)
    return _numeric(column, np.where(np.isnan(numbers), spelled, numbers), gaps)


def _text_numbers(column: Column, texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """The number of each text of a date or datetime column, NaN where it is none."""
    try:
        array = arrow_texts(texts)
    except UnicodeEncodeError:  # broken characters, of which no date is made
        array = arrow_texts([text if text.isascii() else "" for text in texts])
    return column.clock.parse(array)


def _time_cells(column: Column, texts: Sequence[str], marks: Sequence[str]) -> Cells:
    """Cells of a date or datetime column from the texts of a CSV file; blanks around a text do not matter."""
    known = set(marks)
    gaps = np.fromiter((text in known or text.strip(_BLANKS) in known for text in texts), np.bool_, len(texts))
    return _numeric(column, _text_numbers(column, texts), gaps)


def _label_cells(column: Column, texts: Sequence[str], marks: Sequence[str]) -> Cells:
    """Cells of a category, ordinal or boolean column from the texts of a CSV file; `marks` mean "missing"."""
    if "values" in column.discover:
        number = {text: n for n, text in enumerate(dict.fromkeys(texts))}
        rows = np.fromiter(map(number.__getitem__, texts), np.intp, len(texts))
        gaps = np.array([text in marks for text in number] or [False])
        return Cells.named(tuple(number), np.where(gaps[rows], -1, rows))
    known = {text: (float(code), VALUE) for text, code in _codes(column).items()} | dict.fromkeys(marks, _MISSING)
    place = {text: n for n, text in enumerate(known)}
    cells = Cells.of([*known.values(), _UNKNOWN])
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
        numbers[_flags(plain)] = np.from_dlpack(array.filter(plain).cast(pa.float64()))
        rest = np.flatnonzero(np.isnan(numbers) | _flags(pc.is_in(array, arrow_texts(marks))))
    for row in rest:
        text = texts[row]
        gaps[row] = text in marks or text.strip(_BLANKS) in marks
        numbers[row] = _number(text)
    return _numeric(column, numbers, gaps)


def _figure_cells(column: Column, texts: Sequence[str], marks: Sequence[str]) -> Cells:
    """The same for numbers with a format of their own."""
    known: dict[str, Cell] = {}
    read = _cell_reader(column)
    for text in dict.fromkeys(texts):
        known[text] = _MISSING if text in marks or text.strip(_BLANKS) in marks else read(text)
    place = {text: n for n, text in enumerate(known)}
    rows = np.fromiter(map(place.__getitem__, texts), np.intp, len(texts))
    return Cells.of(list(known.values())).take(rows)


def _csv_reader(column: Column) -> Callable[[Column, Sequence[str], Sequence[str]], Cells]:
    if column.is_time:
        return _time_cells
    if column.figures is not None:
        return _figure_cells
    return _number_cells if column.is_numeric else _label_cells


def _numeric(column: Column, numbers: npt.NDArray[np.float64], gaps: BoolVector) -> Cells:
    """Cells of a numeric column; the rules are `_cell_reader`'s.

    Args:
        numbers: NaN where there is no number, infinite where it is too large for float64.
        gaps: Which cells are missing, whatever stands there.
    """
    kinds = np.where(np.isnan(numbers), UNKNOWN, VALUE).astype(np.uint8)
    if column.type == "integer":
        kinds[numbers != np.floor(numbers)] = UNKNOWN
    kinds[gaps] = MISSING
    return Cells(np.where(kinds == VALUE, numbers, 0.0) + 0.0, kinds)  # no negative zero: equal cells have equal bytes


def _arrow_cells(column: Column, array: pa.Array) -> Cells:
    """Cells from an Arrow array of a type that `storage_kind` knows."""
    if isinstance(array.type, pa.BaseExtensionType):
        return _arrow_cells(column, array.storage)
    if pa.types.is_null(array.type):
        return _of_distinct(column, [], np.full(len(array), -1, dtype=np.intp))
    stored = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if storage_kind(stored) in TIMES:
        return _stored_times(column, array.dictionary_decode() if stored != array.type else array)
    plain = stored == array.type and not column.is_time
    if plain and column.is_numeric and storage_kind(stored) in ("integer", "float", "decimal"):
        numbers = _filled(array.cast(pa.float64(), safe=False), math.nan, np.float64)
        return _numeric(column, np.where(np.isinf(numbers), np.nan, numbers), np.isnan(numbers))
    values, rows = _distinct(array)
    return _of_distinct(column, values, rows)


def _of_distinct(column: Column, values: Sequence[object], rows: IntVector) -> Cells:
    """Cells from the different values of a column, and which of them each row has; -1 where it is missing."""
    if "values" in column.discover:
        gaps = np.array([_is_gap(value) for value in values] + [True])
        return Cells.named([_label(value) for value in values], np.where(gaps[rows], -1, rows))
    cells = _cells(column, [*values, None])
    return cells.take(np.where(rows < 0, len(values), rows))


def _label(stored: object) -> str | None:
    """How a stored value is spelled as a category; None where it is missing or no single value."""
    found = _native(stored)
    if isinstance(found, bytes):
        return found.decode("utf-8", "surrogateescape")
    return next(iter(() if _is_gap(found) else _spellings(found)), None)


def _stored_times(column: Column, array: pa.Array) -> Cells:
    """Cells from dates or timestamps of any unit, at UTC where they have a zone; what is finer than a step is cut off."""
    gaps = ~_flags(array.is_valid())
    if pa.types.is_date32(array.type):
        seconds = _filled(array.cast(pa.int32()), 0, np.int32).astype(np.int64) * DAY
    else:
        a_second = 10**3 if pa.types.is_date64(array.type) else _A_SECOND[array.type.unit]
        seconds = _filled(array.cast(pa.int64()), 0, np.int64) // a_second
    return _numeric(column, column.clock.of_seconds(seconds), gaps)


def _distinct(array: pa.Array) -> tuple[list[object], IntVector]:
    """The different values of an Arrow array, and which of them each row has; -1 for null."""
    if pa.types.is_dictionary(array.type):
        values, rows = array.dictionary, array.indices
    else:
        plain = array.cast(pa.float32()) if pa.types.is_float16(array.type) else _as_binary(array)
        encoded = plain.dictionary_encode()
        values, rows = encoded.dictionary, encoded.indices
    positions = _filled(rows.cast(pa.int64()), -1, np.int64)
    if pa.types.is_float32(values.type):  # as numpy floats, so that 0.1 is spelled as it was written
        return list(_filled(values, math.nan, np.float32)), positions
    return _as_binary(values).to_pylist(), positions


def _filled(array: pa.Array, gap: float, dtype: Any) -> npt.NDArray[Any]:
    """An Arrow array of numbers as NumPy has it. Arrow's own `to_numpy` imports pandas, which takes a third of a second."""
    out = np.full(len(array), gap, dtype=dtype)
    out[_flags(array.is_valid())] = np.from_dlpack(array.drop_null())
    return out


def _flags(array: pa.Array) -> BoolVector:
    """The same for true and false."""
    return np.from_dlpack(array.cast(pa.uint8())) > 0


def _as_binary(array: pa.Array) -> pa.Array:
    """Texts as bytes: Arrow does not promise that they are valid UTF-8."""
    return array.cast(pa.large_binary()) if _is_text(array.type) or _is_bytes(array.type) else array


def _arrow_units(array: pa.Array) -> list[bytes | None]:
    if isinstance(array.type, pa.BaseExtensionType):
        return _arrow_units(array.storage)
    if pa.types.is_null(array.type):
        return [None] * len(array)
    values, rows = _distinct(array)
    if pa.types.is_integer(array.type):
        ids: list[bytes | None] = [str(number).encode("ascii") for number in values]  # as `_unit_id`, but faster
    else:
        ids = list(map(_unit_id, values))
    ids.append(None)
    return [ids[row] for row in rows.tolist()]


def _frame_cells(column: Column, series: pd.Series[Any]) -> Cells:
    import pandas as pd

    if isinstance(series.dtype, pd.CategoricalDtype):
        return _of_distinct(column, list(series.cat.categories), series.cat.codes.to_numpy(np.intp))
    array = _as_arrow(series)
    if array is not None:
        return _arrow_cells(column, array)
    return _of_distinct(column, list(series), np.arange(len(series)))


def _frame_units(series: pd.Series[Any]) -> list[bytes | None]:
    import pandas as pd

    if isinstance(series.dtype, pd.CategoricalDtype):
        ids = [*map(_unit_id, series.cat.categories), None]
        return [ids[code] for code in series.cat.codes.tolist()]
    array = _as_arrow(series)
    return [_unit_id(found) for found in series] if array is None else _arrow_units(array)


def _as_arrow(series: pd.Series[Any]) -> pa.Array | None:
    """The column as Arrow holds it; None where it holds Python objects, or texts that Arrow cannot hold."""
    import pandas as pd

    if pd.api.types.is_object_dtype(series.dtype):
        return None
    try:
        array = pa.Array.from_pandas(series)
    except UnicodeEncodeError:
        return None
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


# ---- a file's blocks ---------------------------------------------------------------------------------------------


def wanted_columns(schema: Schema) -> list[str]:
    """The columns of a file that are read: the modelled ones and the unit's."""
    return [*schema.names, *([schema.unit_column] if schema.unit_column else [])]


def _parquet_blocks(path: Path, schema: Schema) -> Iterator[Block]:
    shown = quoted(str(path), 200)
    with path.open("rb") as source:
        file = open_parquet(source, shown)
        check_stored(file.schema_arrow, schema, shown)
        for batch in file.iter_batches(batch_size=BLOCK_ROWS, columns=wanted_columns(schema)):
            yield batch_block(batch, schema)


def batch_block(batch: pa.RecordBatch, schema: Schema) -> Block:
    """Rows that Arrow holds, whichever store they come from, as found; `check_stored` accepts their types."""
    cells = {column.name: _arrow_cells(column, batch.column(column.name)) for column in schema.modelled}
    units = None if schema.unit_column is None else _arrow_units(batch.column(schema.unit_column))
    return _labelled(Block(batch.num_rows, cells, units), schema)


def _labelled(block: Block, schema: Schema) -> Block:
    """A block in which texts that can be no label of their open column count as unknown, whoever has them."""
    cells = dict(block.cells)
    for column in schema.modelled:
        if "values" in column.discover:
            found = cells[column.name]
            fits = np.array([_is_label(text, column, schema.read) for text in found.texts] or [True])
            bad = np.equal(found.kinds, VALUE) & ~fits[found.values.astype(np.intp)]
            texts = tuple(text if fine else "" for text, fine in zip(found.texts, fits.tolist(), strict=False))
            cells[column.name] = Cells(
                found.values, np.where(bad, UNKNOWN, found.kinds).astype(np.uint8), texts or ("",)
            )
    return replace(block, cells=cells)


def _is_label(text: str, column: Column, read: Read) -> bool:
    """Whether discovery may make a category of a text."""
    if len(text) > LONGEST_LABEL or not text.strip() or not is_plain(text) or text in read.missing:
        return False
    try:
        text.encode(read.encoding)
        text.encode()
    except UnicodeEncodeError:
        return False
    return not (text == OTHER and column.unknown == OTHER)


def _csv_blocks(path: Path, schema: Schema) -> Iterator[Block]:
    read, shown = schema.read, quoted(str(path), 200)
    with path.open("rb") as file:
        names = csv_header(file, read, shown)
        _check_names(names, schema, shown)
        for texts, broken in _csv_columns(_csv_lines(file, read.encoding), read.delimiter, len(names)):
            columns = dict(zip(names, texts, strict=True))
            cells = {
                column.name: _csv_reader(column)(column, columns[column.name], read.missing)
                for column in schema.modelled
            }
            units = None
            if schema.unit_column is not None:
                ids = columns[schema.unit_column]  # broken characters turn back into the bytes that the file has
                units = [
                    id_.encode("utf-8", "surrogateescape") or None if id_ not in read.missing else None for id_ in ids
                ]
            yield _labelled(Block(len(texts[0]), cells, units, broken), schema)


def _csv_lines(file: BinaryIO, encoding: str) -> Iterator[list[str]]:
    """The lines of a CSV file without their line feeds, block by block; bytes that are no text become surrogates."""
    while block := file.readlines(BLOCK_BYTES):
        lines = b"".join(block).decode(encoding, "surrogateescape").split("\n")
        yield lines if lines[-1] else lines[:-1]


def _csv_columns(
    blocks: Iterator[list[str]], delimiter: str, width: int
) -> Iterator[tuple[Sequence[Sequence[str]], int]]:
    """The cells of the rows that have `width` of them, column by column, and how many lines are no such row.

    Block by block. Blank lines are nothing.
    """
    csv.field_size_limit(2**31 - 1)  # for the whole process: a long cell is a cell
    for lines in blocks:
        text = delimiter.join(lines)
        plain = lines and '"' not in text and "\r" not in text and "" not in lines
        if plain and all(line.count(delimiter) == width - 1 for line in lines):  # no row needs a look of its own
            flat = text.split(delimiter)
            yield [flat[place::width] for place in range(width)], 0
            continue
        rows: list[list[str]] = []
        broken = n = 0
        while n < len(lines):
            line, used = lines[n].removesuffix("\r"), 1
            if '"' not in line:
                cells = line.split(delimiter)
            else:
                try:
                    (cells,) = csv.reader((line,), delimiter=delimiter, strict=True)
                except csv.Error:
                    cells, used = _spanning_row(_following(lines, n, blocks), delimiter, width)
            n += used
            if len(cells) != width:
                broken += line != ""
            elif line:
                rows.append(cells)
        yield list(zip(*rows, strict=True)) if rows else [()] * width, broken


def _spanning_row(lines: Iterator[str], delimiter: str, width: int) -> tuple[list[str], int]:
    """The row of `width` cells that starts at the first of `lines`, and how many lines it takes.

    Without such a row, because quotes do not close as RFC 4180 has it, the first line alone is broken, which an empty
    list says. Looking ahead ends once there are too many cells: a file of broken lines takes no longer than it should.
    """
    cells: list[str] = []
    parts: list[str] | None = None  # of the quoted cell that is open
    for used, line in enumerate(lines, start=1):
        place, end = 0, len(line.removesuffix("\r"))
        while True:
            if parts is not None:
                close = _INSIDE_QUOTES.match(line, place).end()  # type: ignore[union-attr]  # it matches everywhere
                parts.append(line[place:close])
                if close == len(line):
                    parts.append("\n")
                    break
                cells.append("".join(parts).replace('""', '"'))
                place, parts = close + 1, None
            elif line.startswith('"', place):
                place, parts = place + 1, []
                continue
            else:
                next_cell = line.find(delimiter, place, end)
                cells.append(line[place : end if next_cell < 0 else next_cell])
                place += len(cells[-1])
            if place == end:
                return (cells, used) if len(cells) == width else ([], 1)
            if line[place] != delimiter or len(cells) >= width:
                return [], 1
            place += 1
    return [], 1


def _following(lines: list[str], start: int, blocks: Iterator[list[str]]) -> Iterator[str]:
    """The lines from `start` on; further blocks are appended to `lines` as they are needed."""
    for n in count(start):
        while n >= len(lines):
            more = next(blocks, None)
            if more is None:
                return
            lines += more
        yield lines[n]
