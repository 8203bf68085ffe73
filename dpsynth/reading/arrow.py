"""Cells and unit ids of Arrow arrays, from Parquet or from any store that hands them out."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa

from dpsynth.dates import DAY, TIMES
from dpsynth.reading.cells import Cells, numeric_cells
from dpsynth.reading.objects import of_distinct, unit_id
from dpsynth.reading.storage import distinct, filled, flags, storage_kind
from dpsynth.schema import Column

_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def arrow_cells(column: Column, array: pa.Array) -> Cells:
    """Cells from an Arrow array of a type that `storage_kind` knows."""
    if isinstance(array.type, pa.BaseExtensionType):
        return arrow_cells(column, array.storage)
    if pa.types.is_null(array.type):
        return of_distinct(column, [], np.full(len(array), -1, dtype=np.intp))
    stored = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if storage_kind(stored) in TIMES:
        return _stored_times(column, array.dictionary_decode() if stored != array.type else array)
    plain = stored == array.type and not column.is_time
    if plain and column.is_numeric and storage_kind(stored) in ("integer", "float", "decimal"):
        numbers = filled(array.cast(pa.float64(), safe=False), math.nan, np.float64)
        return numeric_cells(column, np.where(np.isinf(numbers), np.nan, numbers), np.isnan(numbers))
    values, rows = distinct(array)
    return of_distinct(column, values, rows)


def _stored_times(column: Column, array: pa.Array) -> Cells:
    """Cells from dates or timestamps of any unit, at UTC where they have a zone; what is finer than a step is cut off."""
    gaps = ~flags(array.is_valid())
    if pa.types.is_date32(array.type):
        seconds = filled(array.cast(pa.int32()), 0, np.int32).astype(np.int64) * DAY
    else:
        a_second = 10**3 if pa.types.is_date64(array.type) else _A_SECOND[array.type.unit]
        seconds = filled(array.cast(pa.int64()), 0, np.int64) // a_second
    return numeric_cells(column, column.clock.of_seconds(seconds), gaps)


def arrow_units(array: pa.Array) -> list[bytes | None]:
    """The unit id of each row, None where it is missing."""
    if isinstance(array.type, pa.BaseExtensionType):
        return arrow_units(array.storage)
    if pa.types.is_null(array.type):
        return [None] * len(array)
    values, rows = distinct(array)
    if pa.types.is_integer(array.type):
        ids: list[bytes | None] = [str(number).encode("ascii") for number in values]  # as `unit_id`, but faster
    else:
        ids = list(map(unit_id, values))
    ids.append(None)
    return [ids[row] for row in rows.tolist()]
