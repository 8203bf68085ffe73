"""A data frame as one block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dpsynth.reading.arrow import arrow_cells, arrow_units
from dpsynth.reading.block import Block, labelled
from dpsynth.reading.cells import Cells
from dpsynth.reading.header import check_frame
from dpsynth.reading.objects import of_distinct, unit_id
from dpsynth.reading.storage import as_arrow
from dpsynth.schema import Column, Schema

if TYPE_CHECKING:
    import pandas as pd


def frame_block(frame: pd.DataFrame, schema: Schema) -> Block:
    """The rows of a data frame that `check_frame` accepts, as found."""
    check_frame(frame, schema)
    cells = {column.name: _frame_cells(column, frame[column.name]) for column in schema.modelled}
    units = None if schema.unit_column is None else _frame_units(frame[schema.unit_column])
    return labelled(Block(len(frame), cells, units), schema)


def _frame_cells(column: Column, series: pd.Series[Any]) -> Cells:
    import pandas as pd

    if isinstance(series.dtype, pd.CategoricalDtype):
        return of_distinct(column, list(series.cat.categories), series.cat.codes.to_numpy(np.intp))
    array = as_arrow(series)
    if array is not None:
        return arrow_cells(column, array)
    return of_distinct(column, list(series), np.arange(len(series)))


def _frame_units(series: pd.Series[Any]) -> list[bytes | None]:
    import pandas as pd

    if isinstance(series.dtype, pd.CategoricalDtype):
        ids = [*map(unit_id, series.cat.categories), None]
        return [ids[code] for code in series.cat.codes.tolist()]
    array = as_arrow(series)
    return [unit_id(found) for found in series] if array is None else arrow_units(array)
