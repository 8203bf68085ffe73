"""Records and Table: rows as values, and the same rows as cell codes.

`Records` holds what a cell means (a number inside its bounds, the code of a category), `Table` which cell it falls in.
`Table.encode` forgets where inside its bin a number lay; `Table.decode` draws a place again. Both are total: a value
outside its column's domain is refused when `Records` are made, and reading makes none.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dpsynth.constraints import Rules
from dpsynth.errors import OperationError, UsageError
from dpsynth.schema import Column, Read, Schema
from dpsynth.schema.quoting import quoted

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Values: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.int32]
RowChoice: TypeAlias = npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]]
_FORMULA = ("=", "+", "-", "@")


@dataclass(frozen=True, eq=False, repr=False)
class Records:
    """Rows as values, column by column.

    Args:
        schema: What the columns mean.
        columns: For every modelled column, in order, an array of shape (rows,). integer, number, date, datetime:
            float64 inside the column's bounds, NaN where missing; dates and times as `Column.clock` counts them.
            category, ordinal, boolean: int32 cell codes, in the order of `Column.labels`, then the missing cell.
    """

    schema: Schema
    columns: Mapping[str, Values]

    def __post_init__(self) -> None:
        if tuple(self.columns) != self.schema.names:
            raise ValueError("records must have the modelled columns of their schema, in order")
        views = {}
        for column in self.schema.modelled:
            array = self.columns[column.name]
            if array.shape != (len(self),) or array.dtype != storage(column):
                raise ValueError(f"column {quoted(column.name)} of records must be {storage(column)} of shape (rows,)")
            views[column.name] = array.view()
            views[column.name].flags.writeable = False
            if not _is_in_domain(column, array):
                raise ValueError(f"column {quoted(column.name)} of records must stay inside its domain")
        object.__setattr__(self, "columns", views)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __repr__(self) -> str:
        """Says nothing about the rows, not even how many there are: rows are private until a model wrote them."""
        return f"Records(table={self.schema.table!r})"

    @classmethod
    def empty(cls, schema: Schema) -> Records:
        """No rows."""
        return cls(schema, {column.name: np.zeros(0, dtype=storage(column)) for column in schema.modelled})

    def take(self, rows: RowChoice) -> Records:
        """The chosen rows: a mask of shape (rows,), or positions in any order, repeated if repeated."""
        return Records(self.schema, {name: array[rows] for name, array in self.columns.items()})

    def to_frame(self) -> pd.DataFrame:
        """A data frame: Int64, float64, boolean, string and datetime64[s] columns; categories by label; NA where missing.

        A number is missing as NaN, a date or time as NaT, which is how their types say so.
        """
        import pandas as pd

        def series(column: Column, values: Values) -> object:
            if column.type == "number":
                return np.array(values)
            if column.is_time:
                seconds = np.where(np.isnan(values), 0, values * column.clock.unit).astype("datetime64[s]")
                return np.where(np.isnan(values), np.datetime64("NaT", "s"), seconds)
            if column.type == "integer":
                gaps = np.isnan(values)
                return pd.arrays.IntegerArray(np.where(gaps, 0, values).astype(np.int64), gaps)
            gaps = values == (-1 if column.missing_code is None else column.missing_code)
            if column.type == "boolean":
                return pd.arrays.BooleanArray(values == 1, gaps)
            labels = np.array([*column.labels, pd.NA], dtype=object)
            return pd.array(labels[np.where(gaps, len(labels) - 1, values)], dtype="string")

        return pd.DataFrame(
            {name: series(self.schema.column(name), values) for name, values in self.columns.items()}, copy=False
        )

    def to_arrow(self, *, fakes: Mapping[str, pa.Array] | None = None) -> pa.Table:
        """An Arrow table: int64, float64, bool, string, date32 and timestamp[s] columns; null where missing.

        Categories are there by label.

        Args:
            fakes: Columns that no model made, by name; they come where the schema has them.
        """
        import pyarrow as pa

        def array(column: Column, values: Values) -> pa.Array:
            if column.is_numeric:
                gaps = np.isnan(values)
                numbers = _arrow(np.where(gaps, 0, values), gaps, pa.float64())
                if column.type == "number":
                    return numbers
                if column.type == "datetime":
                    numbers = _arrow(np.where(gaps, 0, values * column.clock.unit), gaps, pa.float64())
                whole = numbers.cast(pa.int64())
                if column.type == "integer":
                    return whole
                return (
                    whole.cast(pa.int32()).cast(pa.date32()) if column.type == "date" else whole.cast(pa.timestamp("s"))
                )
            gaps = values == (-1 if column.missing_code is None else column.missing_code)
            codes = _arrow(np.where(gaps, 0, values), gaps, pa.int32())
            if column.type == "boolean":
                return codes.cast(pa.bool_())
            labels = arrow_texts(column.labels).cast(pa.string())
            return pa.DictionaryArray.from_arrays(codes, labels).cast(pa.string())

        made = {name: array(self.schema.column(name), values) for name, values in self.columns.items()}
        return pa.table(dict(self._in_order(made, fakes or {})))

    def _in_order(self, made: Mapping[str, Any], fakes: Mapping[str, Any]) -> list[tuple[str, Any]]:
        """Columns of two kinds in the schema's order; those that it does not declare come first."""
        both = {**fakes, **made}
        declared = [column.name for column in self.schema.columns if column.name in both]
        return [(name, both[name]) for name in [*(both.keys() - set(declared)), *declared]]

    def write(self, path: str | Path, *, fakes: Mapping[str, pa.Array] | None = None) -> None:
        """Writes a `.csv` or `.parquet` file, whole or not at all; `reading.read` gives back the same records.

        CSV follows the schema's `[read]`. Values are never altered: a label that a spreadsheet would take for a
        formula is put in quotes, and stays the label it is.

        Args:
            fakes: As for `to_arrow`.
        Raises:
            UsageError: the name ends in neither, or the file's encoding cannot hold the fakes.
            OperationError: the file cannot be written.
        """
        write_parts([(self, fakes)], path)


Part: TypeAlias = tuple[Records, "Mapping[str, pa.Array] | None"]
"""Rows, and columns beside them that no model made, by name."""


def write_parts(parts: Iterable[Part], path: str | Path) -> None:
    """Writes the rows of all parts, in one schema, one after another to one file, whole or not at all.

    Only one part has to be in memory at a time; there is at least one. Otherwise as `Records.write`.

    Raises:
        UsageError: the name ends in neither `.csv` nor `.parquet`, or the fakes do not fit the encoding.
        OperationError: the file cannot be written.
    """
    path = Path(path)
    writers: dict[str, Callable[[Iterable[Part], Path], None]] = {".csv": _write_csv, ".parquet": _write_parquet}
    if path.suffix.lower() not in writers:
        raise UsageError(f"{quoted(str(path))} must end in .csv or .parquet")
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        try:
            writers[path.suffix.lower()](parts, part)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError:
        raise OperationError(f"{quoted(str(path))} could not be written") from None
    except UnicodeEncodeError:  # declared texts can be encoded, or the schema would have been refused
        raise UsageError(
            f"the encoding of [read] cannot hold the fakes: write {quoted(path.stem + '.parquet')}"
        ) from None


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """Rows as cell codes.

    Args:
        schema: What the columns and cells are.
        codes: Shape (rows, columns), int32, each in 0 .. size of its column - 1. Kept column by column in memory.
        rules: What decoded values keep and how numbers lie inside cells, where that is more than the schema says.
    """

    schema: Schema
    codes: npt.NDArray[np.int32]
    rules: Rules | None = None

    def __post_init__(self) -> None:
        codes = self.codes
        if codes.ndim != 2 or codes.shape[1] != len(self.schema.modelled) or codes.dtype != np.int32:
            raise ValueError("codes must be int32 of shape (rows, modelled columns)")
        if len(codes) and not (codes.min(axis=0).min() >= 0 and np.all(codes.max(axis=0) < self.schema.sizes)):
            raise ValueError("codes must lie in 0 .. size - 1 of their columns")
        codes = np.asfortranarray(codes).view()
        codes.flags.writeable = False
        object.__setattr__(self, "codes", codes)

    def __len__(self) -> int:
        return len(self.codes)

    def __repr__(self) -> str:
        """Says nothing about the rows, not even how many there are."""
        return f"Table(table={self.schema.table!r})"

    @classmethod
    def encode(cls, records: Records) -> Table:
        """The cell of every value."""
        schema = records.schema
        codes = np.empty((len(records), len(schema.modelled)), dtype=np.int32, order="F")
        for place, column in enumerate(schema.modelled):
            values = records.columns[column.name]
            codes[:, place] = column.binning.encode(np.asarray(values, np.float64)) if column.is_numeric else values
        return cls(schema, codes)

    def decode(self, *, rng: np.random.Generator) -> Records:
        """A value for every cell, such that the rules hold; numbers as the model has them, or else uniform in their cells.

        Encoding them gives the same table. A row whose cells no values can make keep the rules gets any values.
        """
        rules = self.schema.rules if self.rules is None else self.rules
        return Records(self.schema, rules.values(self.codes, rng=rng))


def arrow_texts(texts: Sequence[str]) -> pa.Array:
    """Texts as an Arrow array. `pyarrow.array` imports pandas, which takes a third of a second.

    Raises:
        UnicodeEncodeError: one is not valid text.
    """
    import pyarrow as pa

    content = "".join(texts).encode()
    ends = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=ends[1:])
    if ends[-1] < len(content):  # not all of it is ASCII
        np.cumsum([len(text.encode()) for text in texts], out=ends[1:])
    return pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(content))


def _arrow(values: Values, gaps: npt.NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    """The same for numbers, null at the gaps; `values` are stored as `kind` stores them."""
    import pyarrow as pa

    present = np.packbits(~gaps, bitorder="little")
    return pa.Array.from_buffers(kind, len(values), [pa.py_buffer(present), pa.py_buffer(np.ascontiguousarray(values))])


def storage(column: Column) -> np.dtype[Any]:
    """The array type in which `Records` holds a column."""
    return np.dtype(np.float64 if column.is_numeric else np.int32)


def _is_in_domain(column: Column, values: Values) -> bool:
    if column.is_numeric:
        low, high = column.binning.edges[0], column.binning.edges[-1]
        inside = not len(values) or not (np.fmin.reduce(values) < low or np.fmax.reduce(values) > high)
        return inside and (column.missing or not bool(np.isnan(values).any()))
    return bool(np.all((values >= 0) & (values < column.size)))


# ---- files -------------------------------------------------------------------------------------------------------


def _write_parquet(parts: Iterable[Part], path: Path) -> None:
    import pyarrow.parquet as pq

    with ExitStack() as held:
        writer = None
        for records, fakes in parts:
            table = records.to_arrow(fakes=fakes)
            writer = writer or held.enter_context(pq.ParquetWriter(path, table.schema))
            writer.write_table(table)


def _write_csv(parts: Iterable[Part], path: Path) -> None:
    with ExitStack() as held:
        file = None
        for records, fakes in parts:
            read = records.schema.read
            made = {n: _csv_cells(records.schema.column(n), values, read) for n, values in records.columns.items()}
            beside = {
                n: [_csv_cell(str(text), read) for text in texts.to_pylist()] for n, texts in (fakes or {}).items()
            }
            columns = records._in_order(made, beside)
            if file is None:
                file = held.enter_context(open(path, "w", encoding=read.encoding, newline=""))
                file.write(read.delimiter.join(_csv_cell(name, read) for name, _ in columns) + "\n")
            lines = map(read.delimiter.join, zip(*(cells for _, cells in columns), strict=True))
            file.writelines(f"{line}\n" if line else '""\n' for line in lines)  # a blank line would not be a row


def _csv_cells(column: Column, values: Values, read: Read) -> Iterable[str]:
    gap = _csv_cell(read.missing[0], read) if read.missing else ""
    if column.is_time:
        there = ~np.isnan(values)
        moments = iter(column.clock.texts(np.asarray(values, np.float64)[there]))
        return [_csv_cell(next(moments), read) if is_there else gap for is_there in there.tolist()]
    if column.is_numeric:
        if (figures := column.figures) is not None:
            show: Callable[[float], str] = lambda value: _csv_cell(figures.text(value), read)  # noqa: E731
        elif column.type == "number":
            places = column.decimals
            show = repr if places is None else f"{{:.{places}f}}".format
        else:
            show = "{:.0f}".format
        distinct, place = np.unique(values, return_inverse=True)
        shown = [gap if value != value else show(value) for value in distinct.tolist()]
        return [shown[n] for n in place.tolist()]
    if column.type == "boolean":
        labels = [texts[0] for texts in (column.false, column.true) if texts]
    else:
        labels = list(column.labels)
    texts = [*(_csv_cell(label, read) for label in labels), gap]
    return [texts[code] for code in values.tolist()]


def read_as_formulas(schema: Schema) -> tuple[str, ...]:
    """Names of columns whose name, or one of whose declared labels, a spreadsheet takes for a formula in a CSV file."""
    return tuple(column.name for column in schema.modelled if any(map(_is_formula, (column.name, *_texts_of(column)))))


def _texts_of(column: Column) -> tuple[str, ...]:
    """The texts that stand in a file for the cells of a column that has labels."""
    if column.is_numeric or column.is_time:
        return ()
    return (*(column.false or ()), *(column.true or ())) if column.type == "boolean" else column.labels


def _is_formula(text: str) -> bool:
    """Whether a text begins like a formula and is no number."""
    if not text.startswith(_FORMULA):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False


def _csv_cell(text: str, read: Read) -> str:
    """One cell of a CSV file, in quotes where a reader would otherwise take it for something else.

    Values stay as declared. A spreadsheet evaluates a declared label that looks like a formula, quoted or not:
    `read_as_formulas` says which.
    """
    risky = {read.delimiter, '"', "\n", "\r"} & set(text) or text.startswith(_FORMULA) or text != text.strip()
    return '"' + text.replace('"', '""') + '"' if risky else text
