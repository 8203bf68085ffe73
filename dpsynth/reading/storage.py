"""What kind of cells an Arrow type or a dtype holds, and Arrow arrays as NumPy has them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dpsynth.reading.cells import BoolVector, IntVector

if TYPE_CHECKING:
    import pandas as pd


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
        "text": is_text(stored) or is_bytes(stored),
    }
    return next((kind for kind, is_it in kinds.items() if is_it), None)


def is_text(stored: pa.DataType) -> bool:
    """Whether cells of an Arrow type are texts."""
    return bool(pa.types.is_string(stored) or pa.types.is_large_string(stored) or pa.types.is_string_view(stored))


def is_bytes(stored: pa.DataType) -> bool:
    """Whether they are bytes, which are read as texts."""
    return bool(
        pa.types.is_binary(stored)
        or pa.types.is_large_binary(stored)
        or pa.types.is_binary_view(stored)
        or pa.types.is_fixed_size_binary(stored)
    )


def frame_kind(dtype: Any) -> str | None:
    """What cells of a dtype are, in the words of `storage_kind`."""
    import pandas as pd

    if isinstance(dtype, pd.ArrowDtype):
        return storage_kind(dtype.pyarrow_dtype)
    if pd.api.types.is_object_dtype(dtype) or isinstance(dtype, pd.CategoricalDtype | pd.StringDtype):
        return "text"
    kinds = {"i": "integer", "u": "integer", "f": "float", "b": "boolean", "M": "datetime"}
    return None if isinstance(dtype, pd.SparseDtype) else kinds.get(dtype.kind)


def distinct(array: pa.Array) -> tuple[list[object], IntVector]:
    """The different values of an Arrow array, and which of them each row has; -1 for null."""
    if pa.types.is_dictionary(array.type):
        values, rows = array.dictionary, array.indices
    else:
        plain = array.cast(pa.float32()) if pa.types.is_float16(array.type) else as_binary(array)
        encoded = plain.dictionary_encode()
        values, rows = encoded.dictionary, encoded.indices
    positions = filled(rows.cast(pa.int64()), -1, np.int64)
    if pa.types.is_float32(values.type):  # as numpy floats, so that 0.1 is spelled as it was written
        return list(filled(values, math.nan, np.float32)), positions
    return as_binary(values).to_pylist(), positions


def filled(array: pa.Array, gap: float, dtype: Any) -> npt.NDArray[Any]:
    """An Arrow array of numbers as NumPy has it. Arrow's own `to_numpy` imports pandas, which takes a third of a second."""
    out = np.full(len(array), gap, dtype=dtype)
    out[flags(array.is_valid())] = np.from_dlpack(array.drop_null())
    return out


def flags(array: pa.Array) -> BoolVector:
    """The same for true and false."""
    return np.from_dlpack(array.cast(pa.uint8())) > 0


def as_binary(array: pa.Array) -> pa.Array:
    """Texts as bytes: Arrow does not promise that they are valid UTF-8."""
    return array.cast(pa.large_binary()) if is_text(array.type) or is_bytes(array.type) else array


def as_arrow(series: pd.Series[Any]) -> pa.Array | None:
    """The column as Arrow holds it; None where it holds Python objects, or texts that Arrow cannot hold."""
    import pandas as pd

    if pd.api.types.is_object_dtype(series.dtype):
        return None
    try:
        array = pa.Array.from_pandas(series)
    except UnicodeEncodeError:
        return None
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
