"""Java is killed under a release on Spark: one sentence, a ledger that says what is true, and nothing half written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.csv
import pyarrow.parquet as pq
import pytest

pytest.importorskip("pyspark", reason="pyspark is not installed")
if shutil.which("java") is None:
    pytest.skip("Java is not installed", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("spark")]

DIES = """
import os, signal, sys
from dpsynth.counting import spark_session, spark_store
from dpsynth.cli.main import run
from pyspark import SparkContext

def kill(java):
    os.kill(java.pid, signal.SIGKILL)
    java.wait()
    print("killed", flush=True)

launched, keep = spark_session._launched, spark_store.SparkStore._keep

def launched_and_killed(*arguments):
    gateway = launched(*arguments)
    kill(gateway.proc)
    return gateway

def kept_by_nobody(*arguments):
    kill(SparkContext._gateway.proc)
    return keep(*arguments)

if sys.argv[1] == "before the reservation":
    spark_session._launched = launched_and_killed
else:
    spark_store.SparkStore._keep = kept_by_nobody
sys.exit(run(sys.argv[2:]))
"""


@pytest.mark.parametrize("when", ["before the reservation", "while reading"])
def test_java_is_killed_under_a_release(case: Any, table_rows: Any, when: str) -> None:
    charged = when == "while reading"
    case.write(table_rows(40))
    texts = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(("who", "age", "town", "cost", "ill"), "string"))
    data = case.folder / "visits.parquet"
    pq.write_table(pyarrow.csv.read_csv(case.data, convert_options=texts), data)
    scratch, settings = case.folder / "scratch", case.folder / "spark"
    scratch.mkdir()
    settings.mkdir()
    (settings / "spark-defaults.conf").write_text(
        "spark.master local[1]\nspark.sql.shuffle.partitions 1\nspark.driver.host 127.0.0.1\n"
        "spark.driver.bindAddress 127.0.0.1\n"
        "spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1 -XX:+UseSerialGC\n"  # it starts with less work
    )
    before = case.listing()
    words = ["release", data, "--schema", case.schema, "--ledger", case.ledger, "--epsilon", "1", "--delta", "1e-6",
             "--engine", "spark", "--synthesizer", "independent", "--no-gate", "--out", case.out]  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-c", DIES, when, *map(str, words)],
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
        env={**os.environ, "SPARK_CONF_DIR": str(settings), "TMPDIR": str(scratch), "PYSPARK_PYTHON": sys.executable},
    )
    assert (ended.returncode, ended.stdout) == (6, "killed\n"), ended.stderr
    talk = ["dpsynth: reserving the budget", "dpsynth: reading"] if charged else []
    *said, last = ended.stderr.splitlines()
    assert said[: len(talk)] == talk
    assert all(line.startswith("dpsynth: ") for line in said)
    ended_by = "could not read, keep or count the rows, or its session ended"
    assert last.startswith(f"dpsynth: Spark {ended_by}" if charged else "dpsynth: Spark did not start: check its conf")
    extract = case.extract()
    assert (extract.attempts, extract.orphans) == (int(charged), 0)
    assert (extract.charged_nano > 0) == charged
    assert case.listing() == before
    assert not list(_left(scratch))


def _left(scratch: Path) -> Any:
    """What may hold rows."""
    return (path for path in scratch.rglob("*") if path.name.startswith(("dpsynth-", "blockmgr-")))


TWICE = """
from pathlib import Path
from dpsynth.counting.spark_session import running_session
from pyspark import SparkContext

for _ in range(2):
    with running_session() as session:
        java = SparkContext._gateway.proc
        folder = Path(session.sparkContext.getConf().get("spark.local.dir"))
        print(folder.stat().st_mode & 0o777, folder in Path(session.sparkContext._temp_dir).parents)
    print(java.poll() is None, folder.exists())
"""


def test_a_session_takes_its_java_and_its_folder_with_it() -> None:
    """The next one in the same process would write into the folder that is gone, made anew for everybody to read."""
    told = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, check=True, text=True, timeout=300)
    assert told.stdout.splitlines() == [f"{0o700} True", "False False"] * 2
