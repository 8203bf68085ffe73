"""Before a reservation: the container, the header and the storage types of a file or data frame, and no row."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from dpsynth.dates import TIMES
from dpsynth.errors import DataFileError
from dpsynth.reading.storage import frame_kind, storage_kind
from dpsynth.schema import Read, Schema
from dpsynth.schema.quoting import quoted

if TYPE_CHECKING:
    import pandas as pd


HEADER_BYTES = 2**20
_ADDRESS = re.compile("[A-Za-z][A-Za-z0-9+.-]+:/")  # of which a path has one slash left; a password may stand in it
BOM = b"\xef\xbb\xbf"


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
                check_names(csv_header(file, schema.read, shown), schema, shown)
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
    check_names(names, schema, "the data frame")
    dtypes = dict(zip(names, frame.dtypes, strict=True))
    _check_kinds({name: (str(dtype), frame_kind(dtype)) for name, dtype in dtypes.items()}, schema, "the data frame")


def is_parquet(path: Path) -> bool:
    """Whether a data file is Parquet, by its name; the other possibility is CSV.

    Raises:
        DataFileError: it is neither, or it is empty.
        OSError: it cannot be looked at.
    """
    if _ADDRESS.match(str(path)):
        raise DataFileError("an address of a database cannot stand here: give a .csv or .parquet file")
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


def check_names(names: list[str], schema: Schema, where: str) -> None:
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
    check_names(stored.names, schema, where)
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
