"""How a row is kept by engines that hold rows outside this process: as codes, with little else.

    c0, c1, ...   the cell of each modelled column, in the smallest whole-number type that holds it
    v0, v1, ...   the value of a numeric column, null where missing, if its cell does not say it
    t0, t1, ...   the text of an open category column, null where missing, empty where it can be no value
    who           the unit's id, where the schema has a unit column
    lot           which units a review of a large table looks at: the smallest first (`dpsynth.split.review_lots`);
                  where a row is its own unit, 64 fresh secret bits
    control       which side the row is on

The same batches go into a DuckDB table and come out of Spark's workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property

import numpy as np
import pyarrow as pa

from dpsynth import split
from dpsynth.counting.base import BoolVector, PersonRecords, content_of
from dpsynth.randomness import SystemRng
from dpsynth.reading.block import Block
from dpsynth.reading.cells import MISSING, VALUE, Cells, from_spelled, recoded, spelled
from dpsynth.reading.rows import kept_rows, settled_values
from dpsynth.schema import Column, Schema
from dpsynth.table import Records, Values


class Layout:
    """The columns in which rows in a schema are kept, and the way there and back.

    Args:
        schema: Some of its columns may be open.
        key: The secret key of every unit's coins.
        holdout: Chance of a unit to be held back.
        signed: Whether the engine has signed whole numbers only.
    """

    def __init__(self, schema: Schema, *, key: bytes, holdout: Fraction, signed: bool = False) -> None:
        self.schema, self.key, self.holdout = schema, key, holdout
        self._signed = signed
        self.by_unit = schema.unit_column is not None
        """Whether a unit may have several rows."""

    @cached_property
    def values(self) -> tuple[str, ...]:
        """Everything that a row says: equal for equal rows."""
        names = []
        for place, column in enumerate(self.schema.modelled):
            if column.is_open:
                names.append(f"{'v' if column.is_numeric else 't'}{place}")
            else:
                names.append(f"c{place}")
                if _needs_value(column):
                    names.append(f"v{place}")
        return tuple(names)

    @cached_property
    def arrow(self) -> pa.Schema:
        """Names and types."""
        kinds = {"v": lambda column: pa.float64(), "t": lambda column: pa.binary(), "c": self._code_type}
        fields = [(name, kinds[name[0]](self.schema.modelled[int(name[1:])])) for name in self.values]
        who = [("who", pa.binary())] if self.by_unit else []
        return pa.schema([*fields, *who, ("lot", pa.int64()), ("control", pa.bool_())])

    def _code_type(self, column: Column) -> pa.DataType:
        widths = (8, 16, 32)
        bits = next(bits for bits in widths if column.size <= 2 ** (bits - self._signed))
        return getattr(pa, f"{'int' if self._signed else 'uint'}{bits}")()

    def batch(self, block: Block) -> pa.RecordBatch:
        """The rows of a block that no rule drops, with the coins that follow from their units alone.

        Where a row is its own unit and some are held back, `control` is still to be drawn, by content.
        """
        keep = kept_rows(block, self.schema)
        cells: dict[str, pa.Array] = {}
        for place, column in enumerate(self.schema.modelled):
            found = block.cells[column.name]
            if not column.is_open:
                cells |= self._closed(place, column, settled_values(column, found)[keep])
            elif column.is_numeric:
                numbers = np.where(found.kinds == VALUE, found.values, np.nan)[keep]
                cells[f"v{place}"] = pa.array(numbers, from_pandas=True)
            else:
                cells[f"t{place}"] = pa.array(spelled(found.take(keep)), pa.binary())
        rows = int(keep.sum())
        if block.units is None:
            cells["lot"] = pa.array(SystemRng().words(rows).view(np.int64))
            cells["control"] = pa.array(np.zeros(rows, dtype=bool))
        else:
            cells |= self._unit_cells(
                [u for u, stays in zip(block.units, keep, strict=True) if stays and u is not None]
            )
        return self._in_order(cells)

    def _closed(self, place: int, column: Column, values: Values) -> dict[str, pa.Array]:
        """The cells of a column whose domain is known."""
        codes = column.binning.encode(np.asarray(values, np.float64)) if column.is_numeric else values
        out = {f"c{place}": pa.array(codes, self._code_type(column), safe=False)}
        if _needs_value(column):
            out[f"v{place}"] = pa.array(values, from_pandas=True)
        return out

    def _unit_cells(self, ids: Sequence[bytes]) -> dict[str, pa.Array]:
        number: dict[bytes, int] = {}
        rows = np.fromiter((number.setdefault(unit, len(number)) for unit in ids), np.int64, len(ids))
        units = list(number)
        return {
            "who": pa.array(ids, pa.binary()),
            "lot": pa.array(split.review_lots(units, key=self.key)[rows]),
            "control": pa.array(split.to_control(units, fraction=self.holdout, key=self.key)[rows]),
        }

    def _in_order(self, cells: dict[str, pa.Array]) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([cells[name] for name in self.arrow.names], schema=self.arrow)

    # ---- and back ----------------------------------------------------------------------------------------------------

    def columns(self, rows: pa.RecordBatch | pa.Table) -> tuple[dict[str, Values], dict[str, list[bytes | None]]]:
        """What `Records` hold of the closed columns (and of open numbers, unclamped), and the texts of the open ones."""
        values: dict[str, Values] = {}
        texts: dict[str, list[bytes | None]] = {}
        for place, column in enumerate(self.schema.modelled):
            if f"t{place}" in self.values:
                texts[column.name] = rows.column(f"t{place}").to_pylist()
            elif f"v{place}" in self.values:
                values[column.name] = _numbers(rows.column(f"v{place}"), np.float64)
            else:
                codes = _numbers(rows.column(f"c{place}"), np.int32)
                values[column.name] = _value_of_cell(column)[codes] if column.is_numeric else codes
        return values, texts

    def number(self, name: str) -> tuple[str, np.ndarray | None]:
        """The kept column that says a numeric column's value, and if that is its cell, the value of each cell."""
        place = self.schema.index(name)
        if f"v{place}" in self.values:
            return f"v{place}", None
        return f"c{place}", _value_of_cell(self.schema.modelled[place])

    def content(self, rows: pa.RecordBatch) -> list[bytes]:
        """Each row's values as bytes, as every engine has them."""
        return content_of(*self.columns(rows))

    def row_lots(self, rows: pa.RecordBatch) -> list[bytes]:
        """What decides which rows of a unit stay; the batch has `who` and `occurrence`, counted from 0."""
        return split.row_lots(
            rows.column("who").to_pylist(), self.content(rows), rows.column("occurrence").to_pylist(), key=self.key
        )

    def held_back(self, rows: pa.RecordBatch) -> BoolVector:
        """Which rows go to the control side where each is its own unit; the batch has `occurrence`, counted from 0."""
        content, numbers = self.content(rows), rows.column("occurrence").to_pylist()
        ids = [said + number.to_bytes(8, "big") for said, number in zip(content, numbers, strict=True)]
        return split.to_control(ids, fraction=self.holdout, key=self.key)

    def persons(self, rows: pa.Table) -> PersonRecords:
        """Rows by person; the layout's schema is complete."""
        values, _ = self.columns(rows)
        records = Records(self.schema, values)
        if not self.by_unit:
            return PersonRecords(records=records, person=np.arange(len(records)), persons=len(records))
        return PersonRecords.grouped(records, rows.column("who").to_pylist())

    def after(self, schema: Schema) -> Layout:
        """The layout of the completed schema."""
        return Layout(schema, key=self.key, holdout=self.holdout, signed=self._signed)

    def completed(self, schema: Schema, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of this layout in that of the completed schema; what its rules drop is gone."""
        after = self.after(schema)
        values, texts = self.columns(rows)
        cells: dict[str, pa.Array] = {
            name: rows.column(name) for name in after.arrow.names if name in rows.schema.names
        }
        found: dict[str, Cells] = {}
        for place, column in enumerate(schema.modelled):
            if self.schema.modelled[place].is_open:
                if column.is_numeric:
                    gaps = np.isnan(values[column.name])
                    kinds = np.where(gaps, MISSING, VALUE).astype(np.uint8)
                    found[column.name] = Cells(np.where(gaps, 0.0, values[column.name]), kinds)
                else:
                    found[column.name] = recoded(column, from_spelled(texts[column.name]))
                cells |= after._closed(place, column, settled_values(column, found[column.name]))
        block = Block(rows.num_rows, found, None)
        return after._in_order(cells).filter(pa.array(kept_rows(block, schema)))


def _needs_value(column: Column) -> bool:
    """Whether a cell holds more than one value."""
    return column.is_numeric and _single_values(column) is None


def _single_values(column: Column) -> np.ndarray | None:
    """The value of each cell, if each has one only; missing not counted."""
    bins = column.binning
    if bins.starts is None or bins.decimals is None or np.any(np.diff(bins.starts) != 1):
        return None
    return bins.clamp(bins.starts[:-1] / 10.0**bins.decimals)


def _value_of_cell(column: Column) -> np.ndarray:
    values = _single_values(column)
    assert values is not None
    return np.append(values, np.nan)


def _numbers(array: pa.Array | pa.ChunkedArray, dtype: type) -> np.ndarray:
    """Numbers as NumPy has them, NaN for null."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if array.null_count:
        array = array.fill_null(float("nan"))
    return np.asarray(np.from_dlpack(array)).astype(dtype)
