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
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset

from dpsynth import reading
from dpsynth.counting.layout import Layout
from dpsynth.counting.sql import SqlStore
from dpsynth.errors import DataFileError, OperationError, UsageError
from dpsynth.schema import Schema, quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_ENDED = "Spark could not read, keep or count the rows, or its session ended"
_SETTINGS = {
    "spark.log.level": "OFF",  # its messages may quote rows
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.caseSensitive": "true",
}
"""Of a session that is made here; where it runs, and with what, is Spark's own configuration."""


def check_source(data: object, schema: Schema) -> None:
    """Looks at the names and storage types of a Parquet file's or a data frame's columns, and at no row.

    Raises:
        DataFileError: they are not the schema's.
        UsageError: it is neither.
        OperationError: there is no Java.
    """
    if not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        raise OperationError("--engine spark needs Java: install a Java runtime, or set JAVA_HOME")
    if isinstance(data, Path | str):
        path = Path(data)
        if path.suffix.lower() != ".parquet":
            raise UsageError("--engine spark reads a .parquet file or folder; from Python also a data frame of Spark's")
        if not path.is_dir():
            reading.check_header(path, schema)
            return
        shown = quoted(str(path), 200)
        try:
            stored = pyarrow.dataset.dataset(path, format="parquet").schema
        except (pa.ArrowException, OSError):
            raise DataFileError(f"the folder {shown} holds no Parquet files that can be read") from None
        reading.check_stored(stored, schema, shown)
        return
    with _quietly():
        from pyspark.sql import DataFrame
        from pyspark.sql.pandas.types import to_arrow_schema

        if not isinstance(data, DataFrame):
            raise UsageError("--engine spark reads a .parquet file or folder, or a data frame of Spark's")
        reading.check_stored(to_arrow_schema(data.schema), schema, "the data frame")


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
        self._own = False
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
            self._session, self._own = _session()
            frame = self._session.read.parquet(str(Path(data).absolute()))
        else:
            self._session, frame = data.sparkSession, data
        names = reading.wanted_columns(self._layout.schema)
        frame = frame.select(*(functions.col(f"`{name.replace('`', '``')}`") for name in names))
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
        try:
            with _quietly():
                session.catalog.dropTempView(self._table)
                if self._frame is not None:
                    self._frame.unpersist()
        except OperationError:  # it ended before us
            pass
        finally:
            if self._own:
                with _quietly():
                    session.stop()


def _session() -> tuple[SparkSession, bool]:
    """A session, and whether it was made here and is ours to stop."""
    from pyspark.sql import SparkSession

    running = SparkSession.getActiveSession()
    if running is not None:
        return running, False
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # the setting of that name is read by spark-submit only
    builder = SparkSession.builder.appName("dpsynth")
    for key, value in _SETTINGS.items():
        builder = builder.config(key, value)
    return builder.getOrCreate(), True


@contextmanager
def _quietly() -> Iterator[None]:
    """An engine's own words, and its warnings, may quote rows."""
    from py4j.protocol import Py4JError  # type: ignore[import-untyped]
    from pyspark.errors import PySparkException

    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except (PySparkException, Py4JError, pa.ArrowException, OSError, AttributeError):  # the last: a stopped session
        raise OperationError(_ENDED) from None


# ---- what workers run --------------------------------------------------------------------------------------------

Batches = Iterator[pa.RecordBatch]


def _layout(schema: str, key: bytes, holdout: Fraction) -> Layout:
    return Layout(Schema.parse(schema), key=key, holdout=holdout, signed=True)


def _encoded(schema: str, key: bytes, holdout: Fraction, batches: Batches) -> Batches:
    layout = _layout(schema, key, holdout)
    for batch in batches:
        yield layout.batch(reading.batch_block(batch, layout.schema))


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
