"""Spark counts what memory and DuckDB count. One session for all tests here; skipped without pyspark or Java."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from engine_tables import (
    KEY,
    assert_equal_stores,
    assert_finds_what_is_kept,
    assert_rows_are_those_expected,
    made_rows,
    made_schema,
    open_schema,
    opened,
    persons,
    written,
)

from dpsynth import DataFileError, OperationError, UsageError
from dpsynth.counting.engines import checked_source, open_store
from dpsynth.schema import Column, Schema

pyspark = pytest.importorskip("pyspark", reason="pyspark is not installed")
if shutil.which("java") is None:
    pytest.skip("Java is not installed", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.xdist_group("spark")]


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    from pyspark.sql import SparkSession

    with warnings.catch_warnings(action="ignore"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        made = (
            SparkSession.builder.master("local[2]")
            .config("spark.log.level", "OFF")
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.sql.shuffle.partitions", "2")
            .config("spark.sql.caseSensitive", "true")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .config("spark.driver.host", "127.0.0.1")
            .getOrCreate()
        )
    yield made
    made.stop()


def looked_at(data: Any, schema: Schema, engine: str = "spark") -> None:
    with checked_source(data, schema, engine=engine):
        pass


@pytest.mark.parametrize(("max_rows", "holdout"), [(2, "1/3"), (None, "1/3")])
def test_a_cluster_counts_as_memory_does(session: Any, tmp_path: Path, max_rows: int | None, holdout: str) -> None:
    schema = made_schema(max_rows=max_rows)
    cells = made_rows(150, 3)
    path = written(tmp_path, cells, schema)
    looked_at(path, schema)
    memory, cluster = (opened(path, schema, engine, holdout=Fraction(holdout)) for engine in ("memory", "spark"))
    assert_equal_stores(memory, cluster, schema)
    assert_rows_are_those_expected(cluster, cells, schema, Fraction(holdout))
    assert cluster.passes <= 6  # type: ignore[attr-defined]
    cluster.close()
    cluster.close()
    assert session.range(3).count() == 3  # the caller's session goes on


def test_a_data_frame_with_open_columns(session: Any, tmp_path: Path) -> None:
    """Bounded and held back by the raw cells, discovered, settled: as in memory with the same key."""
    schema = made_schema(max_rows=2)
    path = written(tmp_path, made_rows(80, 2), schema)
    frame = session.read.parquet(str(path))
    looked_at(frame, open_schema(schema))
    cluster, memory = (
        open_store(data, open_schema(schema), engine=engine, holdout=Fraction(1, 3), key=KEY)
        for data, engine in ((frame, "spark"), (path, "memory"))
    )
    assert cluster.distinct("town")[0] == memory.distinct("town")[0]
    assert cluster.distinct("town")[1].tolist() == memory.distinct("town")[1].tolist()
    edges = np.array([-5.0, 0.0, 1.0, 9.0])
    assert cluster.histogram("wide", edges).tolist() == memory.histogram("wide", edges).tolist()
    for store in (cluster, memory):
        store.settle(schema)
    assert cluster.count((1, 3)).tolist() == memory.count((1, 3)).tolist()
    assert cluster.unit_sizes().tolist() == memory.unit_sizes().tolist()
    cluster.close()
    again = open_store(frame, open_schema(schema), engine="spark", holdout=Fraction(1, 3), key=KEY)
    assert_finds_what_is_kept(again, schema)
    again.close()


def test_what_does_not_fit_is_refused_before_a_row_is_read(session: Any, tmp_path: Path) -> None:
    schema = made_schema(max_rows=2)
    path = written(tmp_path, made_rows(20, 2), schema)
    with pytest.raises(DataFileError, match="lacks"):
        looked_at(session.read.parquet(str(path)).drop("town"), schema)
    for data in (path.with_suffix(".csv"), "postgresql://host/base?table=a", 5):
        with pytest.raises(UsageError):
            looked_at(data, schema)


def test_a_type_that_spark_refuses_costs_no_budget(session: Any, tmp_path: Path) -> None:
    """Also in a column that is dropped: Spark reads the whole header."""
    schema = made_schema(max_rows=2)
    plain = pq.read_table(written(tmp_path, made_rows(20, 2), schema))
    looked_at(tmp_path / "rows.parquet", schema)
    half = plain.set_column(plain.column_names.index("note"), "note", pa.array(np.zeros(20, np.float16)))
    pq.write_table(half, tmp_path / "half.parquet")
    looked_at(tmp_path / "half.parquet", schema, engine="memory")
    with pytest.raises(DataFileError, match="Spark cannot read"):
        looked_at(tmp_path / "half.parquet", schema)
    assert session.range(3).count() == 3


def test_times_with_a_zone_and_names_that_mean_something_in_sql(session: Any, tmp_path: Path) -> None:
    """What Spark itself writes has times with a zone; a dot in a name is no way into a structure."""
    name = "a.b`c"
    seen = Column(
        name=name, type="datetime", minimum="2020-01-01T00:00:00", maximum="2021-01-01T00:00:00", missing=True
    )
    schema = Schema(table="t", columns=(seen,), basis="test")
    times = [datetime(2020, 6, 1, 12, tzinfo=UTC), None, datetime(2020, 1, 2, tzinfo=UTC)]
    pq.write_table(pa.table({name: pa.array(times, pa.timestamp("us", "Asia/Tokyo"))}), tmp_path / "rows.parquet")
    looked_at(tmp_path / "rows.parquet", schema)
    memory, cluster = (opened(tmp_path / "rows.parquet", schema, engine) for engine in ("memory", "spark"))
    assert persons(cluster.everybody()) == persons(memory.everybody())
    assert persons(memory.everybody()).total() == 3
    cluster.close()


PARTS: dict[str, tuple[Any, str]] = {
    "nothing": ((), "holds no Parquet files"),
    "another column": (({"x": [1.0]}, {"x": [1.0], "y": [1.0]}), "'y', which the schema does not declare"),
    "a column too few": (({"x": [1.0]}, {"y": [1.0]}), "none of the schema's columns"),
    "another type": (({"x": [1.0]}, {"x": ["1"]}), "different types"),
    "a damaged file": (({"x": [1.0]}, b"PAR1 and no more"), "not a complete Parquet file"),
}


@pytest.mark.parametrize("name", PARTS)
def test_files_in_a_folder_are_alike(tmp_path: Path, name: str) -> None:
    """Spark would read a column that a later file lacks as missing, and fail in the middle on another type."""
    schema = Schema(
        table="t", columns=(Column(name="x", type="number", minimum=0, maximum=9, missing=True),), basis="test"
    )
    parts, words = PARTS[name]
    folder = tmp_path / "rows.parquet"
    folder.mkdir()
    for n, part in enumerate(parts):
        place = folder / f"part-{n}.parquet"
        place.write_bytes(part) if isinstance(part, bytes) else pq.write_table(pa.table(part), place)
    with pytest.raises(DataFileError, match=words):
        looked_at(folder, schema)


@pytest.mark.parametrize(
    "name", ["rows[1].parquet", "rows{1,2}.parquet", "rows*.parquet", "rows?.parquet", "ro\\ws.parquet"]
)
def test_a_name_that_is_a_pattern_to_spark_is_refused(tmp_path: Path, name: str) -> None:
    """It would look at this file, and read the rows of others: those of rows1.parquet."""
    schema = Schema(table="t", columns=(Column(name="x", type="number", minimum=0, maximum=9),), basis="test")
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / name)
    with pytest.raises(DataFileError, match="for a pattern of names"):
        looked_at(tmp_path / name, schema)


def test_a_folder_with_files_in_folders_is_refused(tmp_path: Path) -> None:
    """Spark would leave them out, or take the folder's name for a column."""
    schema = Schema(table="t", columns=(Column(name="x", type="number", minimum=0, maximum=9),), basis="test")
    for place in ("rows.parquet/a.parquet", "rows.parquet/more/b.parquet"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        pq.write_table(pa.table({"x": [1.0]}), tmp_path / place)
    with pytest.raises(DataFileError, match="put all into one"):
        looked_at(tmp_path / "rows.parquet", schema)


def test_a_spark_that_does_not_start_costs_no_budget(tmp_path: Path) -> None:
    path = written(tmp_path, made_rows(20, 2), made_schema(max_rows=2))
    (tmp_path / "schema.toml").write_text(made_schema(max_rows=2).to_toml())
    script = (
        "import sys; from dpsynth import OperationError, Schema; from dpsynth.counting.engines import checked_source\n"
        "try:\n with checked_source(sys.argv[1], Schema.load(sys.argv[2]), engine='spark'): pass\n"
        "except OperationError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(tmp_path / "schema.toml")],
        env={**os.environ, "JAVA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("Spark did not start: check its configuration, Java and JAVA_HOME; Java said '")
    assert "No such file" in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_a_session_that_dies_is_one_sentence(session: Any, tmp_path: Path) -> None:
    """The last test here: it ends the session."""
    schema = made_schema(max_rows=2)
    store = opened(written(tmp_path, made_rows(50, 2), schema), schema, "spark")
    session.stop()
    with pytest.raises(OperationError) as error:
        store.count((0, 1))
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 6
    store.close()
