"""After the reservation: the rules of a schema applied to blocks, row by row; no row raises or changes a message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.reading.block import Block
from dpsynth.reading.cells import MISSING, UNKNOWN, VALUE, BoolVector, Cells, recoded
from dpsynth.reading.files import blocks
from dpsynth.reading.frames import frame_block
from dpsynth.schema import Column, Schema
from dpsynth.table import Records, Values, storage

if TYPE_CHECKING:
    import pandas as pd


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
    return read_blocks([frame_block(frame, schema)], schema)


def read_open_frame(frame: pd.DataFrame, schema: Schema) -> OpenRows:
    """The same for a schema with columns to be discovered, whose cells stay as they are found.

    Raises:
        DataFileError: as `check_frame`.
    """
    return gather([frame_block(frame, schema)], schema)


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
