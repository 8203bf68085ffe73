"""Which engine holds the rows: the same counts from each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from dpsynth import sources
from dpsynth.counting.base import Store
from dpsynth.counting.layout import Layout
from dpsynth.counting.memory import MemoryStore
from dpsynth.errors import UsageError
from dpsynth.reading import OpenRows, RawRows
from dpsynth.schema import Schema

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

ENGINES = ("memory", "duckdb", "spark")

Source: TypeAlias = Union[sources.Data, RawRows, OpenRows, "DataFrame"]
"""A path, an address, rows that were read already (memory only), or a data frame of Spark's (Spark only)."""


@contextmanager
def checked_source(data: Source, schema: Schema, *, engine: str) -> Iterator[None]:
    """Refuses, before any row is looked at, a source that does not fit the schema or the engine.

    What had to be started for that runs until the end of this context, so that `open_store` in it need not start it again.

    Raises:
        DataFileError: its columns are not the schema's.
        UsageError: the engine cannot read such a source, or is not installed.
        OperationError: the engine does not start.
    """
    if engine not in ENGINES:
        raise UsageError(f"--engine must be one of {', '.join(ENGINES)}")
    if engine == "spark":
        if find_spec("pyspark") is None:
            raise UsageError("--engine spark needs pyspark, which is not installed: pip install 'dpsynth[spark]'")
        from dpsynth.counting import spark_store

        with spark_store.checked_source(data, schema):
            yield
        return
    if not isinstance(data, Path | str):
        raise UsageError(f"--engine {engine} reads files and tables of databases")
    sources.check_header(data, schema)
    yield


def open_store(data: Source, schema: Schema, *, engine: str, holdout: Fraction, key: bytes) -> Store:
    """Reads, bounds and splits all rows of a source that `checked_source` accepts.

    Args:
        holdout: Chance of a unit to be held back from the fit.
        key: The secret key of every unit's coins: the same key, the same counts in every engine.
    Raises:
        OperationError: the source, the disk or the engine fails.
    """
    if isinstance(data, RawRows | OpenRows):
        return MemoryStore(data, schema, key=key, holdout=holdout)
    if engine == "memory" and isinstance(data, Path | str):
        read = sources.read_open if schema.is_open else sources.read
        return MemoryStore(read(data, schema), schema, key=key, holdout=holdout)
    if engine == "duckdb" and isinstance(data, Path | str):
        from dpsynth.counting.duckdb_store import DuckDBStore

        return DuckDBStore(sources.blocks(data, schema), Layout(schema, key=key, holdout=holdout))
    from dpsynth.counting.spark_store import SparkStore

    return SparkStore(data, Layout(schema, key=key, holdout=holdout, signed=True))
