"""Spark counts what memory and DuckDB count. One session for all tests here; skipped without pyspark or Java."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_tables import KEY, assert_equal_stores, made_rows, made_schema, open_schema, opened, written

from dpsynth import DataFileError, OperationError, UsageError
from dpsynth.counting.engines import check_source, open_store

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


@pytest.mark.parametrize(("max_rows", "holdout"), [(2, "1/3"), (None, "1/3")])
def test_a_cluster_counts_as_memory_does(session: Any, tmp_path: Path, max_rows: int | None, holdout: str) -> None:
    schema = made_schema(max_rows=max_rows)
    path = written(tmp_path, made_rows(150, 3), schema)
    check_source(path, schema, engine="spark")
    memory, cluster = (opened(path, schema, engine, holdout=Fraction(holdout)) for engine in ("memory", "spark"))
    assert_equal_stores(memory, cluster, schema)
    assert cluster.passes <= 6  # type: ignore[attr-defined]
    cluster.close()
    cluster.close()
    assert session.range(3).count() == 3  # the caller's session goes on


def test_a_data_frame_with_open_columns(session: Any, tmp_path: Path) -> None:
    """Bounded and held back by the raw cells, discovered, settled: as in memory with the same key."""
    schema = made_schema(max_rows=2)
    path = written(tmp_path, made_rows(80, 2), schema)
    frame = session.read.parquet(str(path))
    check_source(frame, open_schema(schema), engine="spark")
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


def test_what_does_not_fit_is_refused_before_a_row_is_read(session: Any, tmp_path: Path) -> None:
    schema = made_schema(max_rows=2)
    path = written(tmp_path, made_rows(20, 2), schema)
    with pytest.raises(DataFileError, match="lacks"):
        check_source(session.read.parquet(str(path)).drop("town"), schema, engine="spark")
    for data in (path.with_suffix(".csv"), "postgresql://host/base?table=a", 5):
        with pytest.raises(UsageError):
            check_source(data, schema, engine="spark")  # type: ignore[arg-type]


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
