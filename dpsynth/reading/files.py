"""A data file, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dpsynth.errors import DataFileError, OperationError
from dpsynth.reading.block import Block, batch_block, labelled, wanted_columns
from dpsynth.reading.csv_lines import csv_columns, csv_lines
from dpsynth.reading.header import check_names, check_stored, csv_header, is_parquet, open_parquet
from dpsynth.reading.texts import csv_reader
from dpsynth.schema import Schema
from dpsynth.schema.quoting import quoted

BLOCK_ROWS = 2**17  # and Parquet in blocks of this many rows


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


def _parquet_blocks(path: Path, schema: Schema) -> Iterator[Block]:
    shown = quoted(str(path), 200)
    with path.open("rb") as source:
        file = open_parquet(source, shown)
        check_stored(file.schema_arrow, schema, shown)
        for groups in _row_groups(file):
            for batch in file.iter_batches(batch_size=BLOCK_ROWS, row_groups=groups, columns=wanted_columns(schema)):
                yield batch_block(batch, schema)


def _row_groups(file: pq.ParquetFile) -> Iterator[list[int]]:
    """A file's row groups, neighbours together that hold a block: the reader keeps every byte of those it was asked for."""
    together, rows = [], 0
    for group in range(file.num_row_groups):
        together.append(group)
        rows += file.metadata.row_group(group).num_rows
        if rows >= BLOCK_ROWS or group == file.num_row_groups - 1:
            yield together
            together, rows = [], 0


def _csv_blocks(path: Path, schema: Schema) -> Iterator[Block]:
    read, shown = schema.read, quoted(str(path), 200)
    with path.open("rb") as file:
        names = csv_header(file, read, shown)
        check_names(names, schema, shown)
        for texts, broken in csv_columns(csv_lines(file, read.encoding), read.delimiter, len(names)):
            columns = dict(zip(names, texts, strict=True))
            cells = {
                column.name: csv_reader(column)(column, columns[column.name], read.missing)
                for column in schema.modelled
            }
            units = None
            if schema.unit_column is not None:
                ids = columns[schema.unit_column]  # broken characters turn back into the bytes that the file has
                units = [
                    id_.encode("utf-8", "surrogateescape") or None if id_ not in read.missing else None for id_ in ids
                ]
            yield labelled(Block(len(texts[0]), cells, units, broken), schema)
