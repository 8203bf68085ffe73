"""The first rows of a file, for a draft of its schema."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa

from dpsynth.errors import DataFileError
from dpsynth.reading.cells import BLANKS
from dpsynth.reading.csv_lines import csv_columns, csv_lines
from dpsynth.reading.header import csv_header, open_parquet
from dpsynth.reading.objects import unit_id
from dpsynth.reading.storage import distinct, storage_kind
from dpsynth.schema import Read


@dataclass(frozen=True, eq=False, repr=False)
class Glance:
    """The first cells of a column, as texts. Private.

    Args:
        texts: The different ones, none of them missing.
        rows: How many cells are not missing.
    """

    texts: list[str]
    rows: int


def glance(path: Path, read: Read | None, rows: int) -> dict[str, Glance]:
    """The first rows of a file, at most so many, by column; nothing of a column or file that cannot be read.

    Args:
        read: How a CSV file is to be read; None for Parquet.
    Privacy: for `schema draft` alone, whose output is as private as the rows until a person has gone through it.
    """
    try:
        with path.open("rb") as file:
            if read is None:
                stored = open_parquet(file, "")
                nothing = pa.RecordBatch.from_pylist([], schema=stored.schema_arrow)
                return glance_of(next(stored.iter_batches(batch_size=rows), nothing))
            names = csv_header(file, read, "")
            first = iter(list(islice(csv_lines(file, read.encoding), 1)))
            columns = next(csv_columns(first, read.delimiter, len(names)), ([()] * len(names), 0))[0]
            gaps = ("", "NA", "N/A", "NULL", "null", "None", "nan", "NaN", *read.missing)
            found = {
                name: [text for text in texts[:rows] if text.strip(BLANKS) not in gaps]
                for name, texts in zip(names, columns, strict=True)
            }
    except (OSError, ValueError, pa.ArrowException, DataFileError):
        return {}
    return _glances(found)


def glance_of(batch: pa.RecordBatch) -> dict[str, Glance]:
    """The same of rows that Arrow holds.

    Privacy: as `glance`.
    """
    stored = dict(zip(batch.schema.names, batch.columns, strict=True))
    return _glances({name: _arrow_texts(array) for name, array in stored.items()})


def _glances(found: dict[str, list[str]]) -> dict[str, Glance]:
    return {name: Glance(list(dict.fromkeys(texts)), len(texts)) for name, texts in found.items()}


def _arrow_texts(array: pa.Array) -> list[str]:
    """Cells of texts, numbers and times, as texts; none of other types."""
    if isinstance(array.type, pa.BaseExtensionType):
        return _arrow_texts(array.storage)
    if pa.types.is_timestamp(array.type):
        return [str(text) for text in array.drop_null().cast(pa.string()).to_pylist()]
    if storage_kind(array.type) not in ("text", "integer", "float"):
        return []
    values, places = distinct(array)
    texts = [unit_id(value) for value in values]
    return [
        text.decode("utf-8", "surrogateescape")
        for text in (texts[place] for place in places.tolist() if place >= 0)
        if text is not None
    ]
