"""Some rows of a store as found, before any rule has been applied."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from dpsynth.reading.arrow import arrow_cells, arrow_units
from dpsynth.reading.cells import UNKNOWN, VALUE, Cells, is_added
from dpsynth.schema import Column, Read, Schema
from dpsynth.schema.quoting import is_plain
from dpsynth.schema.vocabulary import LONGEST_LABEL, OTHER


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


def wanted_columns(schema: Schema) -> list[str]:
    """The columns of a file that are read: the modelled ones and the unit's."""
    return [*schema.names, *([schema.unit_column] if schema.unit_column else [])]


def batch_block(batch: pa.RecordBatch, schema: Schema) -> Block:
    """Rows that Arrow holds, whichever store they come from, as found; `check_stored` accepts their types."""
    cells = {column.name: arrow_cells(column, batch.column(column.name)) for column in schema.modelled}
    units = None if schema.unit_column is None else arrow_units(batch.column(schema.unit_column))
    return labelled(Block(batch.num_rows, cells, units), schema)


def labelled(block: Block, schema: Schema) -> Block:
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
    longest = LONGEST_LABEL if is_added(column, text) else column.prefix or LONGEST_LABEL
    if len(text) > longest or not text.strip() or not is_plain(text) or text in read.missing:
        return False
    try:
        text.encode(read.encoding)
        text.encode()
    except UnicodeEncodeError:
        return False
    return not (text == OTHER and column.unknown == OTHER)
