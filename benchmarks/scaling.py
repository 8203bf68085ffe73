"""What a release of many rows takes: DuckDB counting out of core, and sampling to Parquet part by part.

    python -m benchmarks.scaling [--rows 1000000 10000000 100000000] [--synthesizer mst] [--holdout 0] [--spark]

Tables of 15 columns (made up: the same for every run, from a hash of the row's number; each column but the first follows
another one in two thirds of the rows) are written to a temporary folder by DuckDB. Each size is measured in a process of its
own: seconds, of the clock and of processors, to read and encode, to fit, and to sample; passes over the rows; peak memory of the process, DuckDB included;
bytes of the private database. With --spark the smallest table is also counted by Spark (`local[2]`), and every marginal of
two columns compared. Each run adds a line to `benchmarks/results/scaling.jsonl`. About 120 bytes of disk a row are needed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import duckdb
import numpy as np

from benchmarks.peers.exchange import peak_mb
from benchmarks.run import keep
from dpsynth import SYNTHESIZERS, Cap, Column, Curator, Schema, __version__
from dpsynth.counting.duckdb_store import DuckDBStore
from dpsynth.counting.engines import open_store
from dpsynth.synthetic import parts_of
from dpsynth.table import write_parts
from dpsynth.throw_away import ThrowAway

ROWS = (1_000_000, 10_000_000, 100_000_000)
SAMPLED = 5_000_000  # rows, at most
SIZES = (10, 8, 16, 32, 2, 5, 7, 12, 20, 3, 2, 9)  # cells of the category columns; three numbers come after them
EPSILON, DELTA = "1", "1e-9"
MEMORY_MB = 4096


def declared() -> Schema:
    """Twelve categories, an integer and two numbers."""
    columns = [
        Column(name=f"c{i}", type="category", values=tuple(map(str, range(size)))) for i, size in enumerate(SIZES)
    ]
    columns += [
        Column(name="age", type="integer", minimum=0, maximum=99, bins=20),
        Column(name="paid", type="number", minimum=0, maximum=1000, bins=32),
        Column(name="share", type="number", minimum=0, maximum=1, missing=True),
    ]
    return Schema(table="made-up", columns=tuple(columns), basis="made up")


def write_table(rows: int, path: Path) -> None:
    """A Parquet file of so many rows."""

    def coin(salt: int) -> str:
        return f"(hash(i * 64 + {salt}) >> 11)"

    cells = [f"({coin(0)} % {SIZES[0]})::INTEGER AS c0"]
    for n, size in enumerate(SIZES[1:], start=1):
        cells.append(
            f"(CASE WHEN {coin(n)} % 3 = 0 THEN {coin(n + 20)} ELSE {coin((n - 1) // 2)} END % {size})::INTEGER AS c{n}"
        )
    texts = [f"c{n}::VARCHAR AS c{n}" for n in range(len(SIZES))]
    numbers = [
        f"({coin(40)} % 60 + c3)::INTEGER AS age",
        f"round(({coin(41)} % 100000) / 100.0 * (c1 + 1) / {SIZES[1]}, 2) AS paid",
        f"CASE WHEN {coin(42)} % 10 = 0 THEN NULL ELSE ({coin(43)} % 1000003) / 1000003.0 END AS share",
    ]
    with duckdb.connect(config={"memory_limit": "2GB"}) as connection:
        connection.execute("SET preserve_insertion_order = false")
        inner = f"SELECT i, {', '.join(cells)} FROM range({rows}) AS t(i)"
        connection.execute(f"COPY (SELECT {', '.join(texts + numbers)} FROM ({inner})) TO '{path}' (FORMAT parquet)")


def measured(path: Path, rows: int, name: str, holdout: str) -> dict[str, Any]:
    """One fit and one sample of that file, in this process."""
    schema, budget = declared(), Cap.of(EPSILON, DELTA).cost
    times, cpu = [perf_counter()], [process_time()]

    def done() -> None:
        times.append(perf_counter())
        cpu.append(process_time())

    purse = ThrowAway(budget, unit=schema.unit)
    curator = Curator.open(path, schema, purse, holdout=Fraction(holdout), engine="duckdb")
    done()
    model = SYNTHESIZERS[name]().fit(curator, budget=budget)
    done()
    store = curator._store
    assert isinstance(store, DuckDBStore)
    kept = sum(part.stat().st_size for part in store._scratch.path.rglob("*") if part.is_file())
    curator.review_sample()
    curator.close()
    done()
    out, sampled = path.with_name("synthetic.parquet"), min(rows, SAMPLED)
    write_parts((part.written(schema) for part in parts_of(model, sampled, schema=schema)), out)
    done()
    out.unlink()
    open_s, fit_s, review_s, sample_s = np.diff(times).tolist()
    open_cpu_s, fit_cpu_s, _, sample_cpu_s = np.diff(cpu).tolist()
    millions = rows / 1e6
    return {
        "open_s_per_million": open_s / millions,
        "fit_s": fit_s,
        "fit_s_per_million": fit_s / millions,
        "s_per_million": (open_s + fit_s) / millions,
        "open_cpu_s_per_million": open_cpu_s / millions,
        "fit_cpu_s_per_million": fit_cpu_s / millions,
        "review_s": review_s,
        "passes": store.passes,
        "database_bytes_per_row": kept / rows,
        "sampled_rows": sampled,
        "sampled_rows_per_minute": sampled / sample_s * 60,
        "sampled_rows_per_cpu_minute": sampled / sample_cpu_s * 60,
        "peak_mb": peak_mb(),
        "within_memory": peak_mb() <= MEMORY_MB,
    }


def in_a_process_of_its_own(path: Path, rows: int, name: str, holdout: str) -> dict[str, Any]:
    words = ["--job", str(path), "--rows", str(rows), "--synthesizer", name, "--holdout", holdout]
    ran = subprocess.run([sys.executable, "-m", "benchmarks.scaling", *words], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def same_by_spark(path: Path) -> dict[str, Any]:
    """Whether Spark counts what DuckDB counts, with the same key: the release that follows from counts is then the same."""
    schema, key, pairs = declared(), bytes(32), list(combinations(range(15), 2))
    counts, seconds = {}, {}
    for engine in ("duckdb", "spark"):
        start = perf_counter()
        store = open_store(path, schema, engine=engine, holdout=Fraction(1, 3), key=key)
        store.settle(schema)
        counts[engine] = list(store.count_each(pairs))
        seconds[engine] = perf_counter() - start
        store.close()
    same = all(np.array_equal(a, b) for a, b in zip(*counts.values(), strict=True))
    return {"spark_counts_are_the_same": same, "spark_s": seconds["spark"], "duckdb_s": seconds["duckdb"]}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    parser.add_argument("--synthesizer", default="mst", choices=["independent", "mst", "aim", "wide"])
    parser.add_argument("--holdout", default="0")
    parser.add_argument("--spark", action="store_true", help="compare Spark's counts of the smallest table")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.job:
        print(json.dumps(measured(asked.job, asked.rows[0], asked.synthesizer, asked.holdout)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        for rows in sorted(asked.rows):
            path = Path(scratch) / "rows.parquet"
            write_table(rows, path)
            found = in_a_process_of_its_own(path, rows, asked.synthesizer, asked.holdout)
            if asked.spark and rows == min(asked.rows):
                found |= same_by_spark(path)
            rounded = {key: round(v, 3) if isinstance(v, float) else v for key, v in found.items()}
            facts = {"rows": rows, "columns": 15, "synthesizer": asked.synthesizer, "holdout": asked.holdout}
            when = {"date": datetime.date.today().isoformat(), "version": __version__}
            keep(facts | rounded | when, "scaling")
            print(json.dumps(facts | rounded, indent=1))
            path.unlink()


if __name__ == "__main__":
    main()
