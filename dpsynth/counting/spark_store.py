"""Rows in a Spark cluster: for tables that are larger than one machine.

Workers read cells with the same functions as every other engine, on Arrow batches (`mapInArrow`), so dpsynth has to be
installed where they run. Counting is the SQL that DuckDB runs. The driver sees counts and the review sample.

Spark hands the secret key of the coins to its workers with the code that they run; it stands in no SQL text or plan.
What a worker keeps, or spills to its disk, is as private as the table: protect a cluster as you protect the table.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset

from dpsynth import reading
from dpsynth.counting.layout import Layout
from dpsynth.counting.spark_session import running_session, silence_its_tracebacks
from dpsynth.counting.sql import SqlStore
from dpsynth.errors import DataFileError, OperationError, UsageError
from dpsynth.reading.block import batch_block, wanted_columns
from dpsynth.schema import Schema
from dpsynth.schema.quoting import quoted
from dpsynth.silence import no_warnings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_PATTERN_SIGNS = set("{}[]*?\\")  # a path that has one names other files
_ENDED = "Spark could not read, keep or count the rows, or its session ended"


@contextmanager
def checked_source(data: object, schema: Schema) -> Iterator[None]:
    """Looks at the names and storage types of a Parquet file's or a data frame's columns, and at no row.

    A session that was started for it runs until the end of this context.

    Raises:
        DataFileError: they are not the schema's.
        UsageError: it is neither.
        OperationError: there is no Java, or Spark does not start.
    """
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        raise OperationError("--engine spark needs Java: install a Java runtime, or set JAVA_HOME")
    if isinstance(data, Path | str):
        path = Path(data)
        _check_path(path, schema)
        with running_session() as session:
            _check_as_spark_reads(path, schema, session)
            yield
        return
    _check_frame(data, schema)
    yield


def _check_frame(data: object, schema: Schema) -> None:
    with _quietly():
        from pyspark.sql import DataFrame

        if not isinstance(data, DataFrame):
            raise UsageError("--engine spark reads a .parquet file or folder, or a data frame of Spark's")
        reading.check_stored(_types(data), schema, "the data frame")


def _types(frame: DataFrame) -> pa.Schema:
    """Names and storage types as Arrow will have them; of no row, none is read."""
    return frame.limit(0).toArrow().schema


def _check_path(path: Path, schema: Schema) -> None:
    """Looks at a Parquet file or folder as every engine does."""
    if path.suffix.lower() != ".parquet":
        raise UsageError("--engine spark reads a .parquet file or folder; from Python also a data frame of Spark's")
    shown = quoted(str(path), 200)
    if not _PATTERN_SIGNS.isdisjoint(str(path.absolute())):
        raise DataFileError(f"Spark takes {shown} for a pattern of names: use a path without any of {{ }} [ ] * ? \\")
    if not path.is_dir():
        reading.check_header(path, schema)
        return
    try:
        parts = list(pyarrow.dataset.dataset(path, format="parquet").get_fragments())
        stored = [part.physical_schema.remove_metadata() for part in parts]
    except (pa.ArrowException, OSError):
        raise DataFileError(f"the folder {shown} holds a file that is not a complete Parquet file") from None
    if not stored:
        raise DataFileError(f"the folder {shown} holds no Parquet files")
    if not all(Path(part.path).parent.samefile(path) for part in parts):
        raise DataFileError(
            f"the folder {shown} has files in folders of its own, which Spark leaves out: put all into one"
        )
    for one in stored:
        reading.check_stored(one, schema, f"a file in the folder {shown}")
    if any(set(one) != set(stored[0]) for one in stored):
        raise DataFileError(f"the files in the folder {shown} store a column in different types: write them all alike")


def _address(path: Path) -> str:
    """The file or folder that was looked at, and not one of that name in the store that Spark takes for its own."""
    return f"file://{path.absolute()}"


def _check_as_spark_reads(path: Path, schema: Schema, session: SparkSession) -> None:
    """Looks at it as Spark does, which knows fewer types: one that it refuses costs no budget."""
    from pyspark.errors import PySparkException

    shown = quoted(str(path), 200)
    with _quietly("Spark's session ended while it looked at the columns: nothing was charged"):
        try:
            found = _types(session.read.parquet(_address(path)))
        except PySparkException:
            raise DataFileError(
                f"{shown} has a column of a type that Spark cannot read, such as times in nanoseconds: store it in "
                "microseconds, or use another --engine"
            ) from None
    reading.check_stored(found, schema, shown)


class SparkStore(SqlStore):
    """All rows in a data frame that Spark persists.

    Args:
        data: A Parquet path, or a data frame, whose session is used and left running.
        layout: How to keep the rows; with signed numbers.
    Raises:
        OperationError: Spark failed, or its session ended.
    """

    def __init__(self, data: Any, layout: Layout) -> None:
        super().__init__(layout, table=f"dpsynth_{secrets.token_hex(8)}")
        self._session: SparkSession | None = None
        self._held = ExitStack()
        self._frame: DataFrame | None = None
        try:
            with _quietly():
                rows = self._found(data)
                if layout.by_unit:
                    rows = self._bounded(rows)
                elif layout.holdout:
                    rows = self._split(rows)
                self._keep(rows)
        except BaseException:
            self.close()
            raise

    def _found(self, data: Any) -> DataFrame:
        """The rows as the layout has them, before bounding."""
        from pyspark.sql import functions

        if isinstance(data, Path | str):
            self._session = self._held.enter_context(running_session())
            frame = self._session.read.parquet(_address(Path(data)))
        else:
            self._session, frame = data.sparkSession, data
        names = wanted_columns(self._layout.schema)
        quoted_names = (f"`{name.replace('`', '``')}`" for name in names)  # renamed: Spark looks into "a.b" for "b"
        frame = frame.select(*(functions.col(name).alias(f"column{n}") for n, name in enumerate(quoted_names)))
        return self._mapped(frame, _encoded, self._layout.arrow)

    def _bounded(self, rows: DataFrame) -> DataFrame:
        """Without what a unit has beyond its `max_rows`: it keeps the rows with the smallest lots, as in memory."""
        most, columns = self._layout.schema.unit.max_rows, self._layout.arrow
        numbered = self._numbered(rows, ["who", *self._layout.values])
        ranked = self._mapped(numbered, _ranked, columns.append(pa.field("row_lot", pa.binary())))
        return self._sql(
            f"SELECT {', '.join(columns.names)} FROM (SELECT *, row_number() OVER (PARTITION BY who ORDER BY row_lot) "
            f"AS place FROM {{rows}}) AS a WHERE place <= {most}",
            ranked,
        )

    def _split(self, rows: DataFrame) -> DataFrame:
        """With the side of each row that is its own unit: by content, equal rows told apart by their number."""
        return self._mapped(self._numbered(rows, self._layout.values), _sided, self._layout.arrow)

    def _numbered(self, rows: DataFrame, alike: Iterable[str]) -> DataFrame:
        """With the number of equal rows before each."""
        names = ", ".join(alike)
        return self._sql(
            f"SELECT *, CAST(row_number() OVER (PARTITION BY {names} ORDER BY lot) - 1 AS BIGINT) AS occurrence "
            "FROM {rows}",
            rows,
        )

    def _sql(self, text: str, rows: DataFrame) -> DataFrame:
        return rows.sparkSession.sql(text, rows=rows)

    def _mapped(self, frame: DataFrame, function: Any, columns: pa.Schema) -> DataFrame:
        """What a function of this module makes of each Arrow batch, on the workers."""
        from pyspark.sql.pandas.types import from_arrow_schema

        layout = self._layout
        bound = partial(function, layout.schema.to_toml(), layout.key, layout.holdout)
        return frame.mapInArrow(bound, from_arrow_schema(columns))

    def _keep(self, rows: DataFrame) -> None:
        """Makes the rows once and for all, under the table's name."""
        from pyspark import StorageLevel

        rows = rows.persist(StorageLevel.MEMORY_AND_DISK)
        rows.count()
        if self._frame is not None:
            self._frame.unpersist()
        self._frame = rows
        rows.createOrReplaceTempView(self._table)

    def _complete(self, schema: Schema) -> None:
        with self._lock, _quietly():
            if self._frame is None:
                raise OperationError(_ENDED)
            function = partial(_completed, schema.to_toml())
            self._keep(self._mapped(self._frame, function, self._layout.after(schema).arrow))

    def _arrow(self, sql: str) -> pa.Table:
        with self._lock, _quietly():
            if self._session is None:
                raise OperationError(_ENDED)
            return self._session.sql(sql).toArrow()

    def close(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        with self._held, suppress(OperationError), _quietly():  # it may have ended before us
            session.catalog.dropTempView(self._table)
            if self._frame is not None:
                self._frame.unpersist()


@contextmanager
def _quietly(instead: str = _ENDED) -> Iterator[None]:
    """An engine's own words, and its warnings, may quote rows; an error says `instead`."""
    from py4j.protocol import Py4JError  # type: ignore[import-untyped]
    from pyspark.errors import PySparkException

    silence_its_tracebacks()
    try:
        with no_warnings():
            yield
    except (PySparkException, Py4JError, pa.ArrowException, OSError, AttributeError):  # the last: a stopped session
        raise OperationError(instead) from None


# ---- what workers run --------------------------------------------------------------------------------------------

Batches = Iterator[pa.RecordBatch]


def _layout(schema: str, key: bytes, holdout: Fraction) -> Layout:
    return Layout(Schema.parse(schema), key=key, holdout=holdout, signed=True)


def _encoded(schema: str, key: bytes, holdout: Fraction, batches: Batches) -> Batches:
    layout = _layout(schema, key, holdout)
    names = wanted_columns(layout.schema)
    for batch in batches:
        yield layout.batch(batch_block(batch.rename_columns(names), layout.schema))


def _ranked(schema: str, key: bytes, holdout: Fraction, batches: Batches) -> Batches:
    layout = _layout(schema, key, holdout)
    for batch in batches:
        lots = pa.array(layout.row_lots(batch), pa.binary())
        kept = batch.select(layout.arrow.names)
        yield pa.RecordBatch.from_arrays([*kept.columns, lots], names=[*layout.arrow.names, "row_lot"])


def _sided(schema: str, key: bytes, holdout: Fraction, batches: Batches) -> Batches:
    layout = _layout(schema, key, holdout)
    for batch in batches:
        kept = batch.select(layout.arrow.names)
        place = layout.arrow.names.index("control")
        yield kept.set_column(place, "control", pa.array(layout.held_back(batch)))


def _completed(schema_after: str, schema: str, key: bytes, holdout: Fraction, batches: Batches) -> Batches:
    layout, after = _layout(schema, key, holdout), Schema.parse(schema_after)
    for batch in batches:
        yield layout.completed(after, batch)
