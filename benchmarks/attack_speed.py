"""Seconds and memory of the attack suite on files, beside the comparable parts of anonymeter and sdmetrics on the same rows.

    python -m benchmarks.peers build anonymeter sdmetrics
    python -m benchmarks.attack_speed [--sizes 10000x20 100000x30] [--peers anonymeter sdmetrics] [--repeats 1]

SIZE is rows x columns of a made-up table: half of the real rows are fitted and half held back, and there are as many
synthetic rows as real ones. Half of the columns are numbers, half are categories with 2 to 40 values; rows come from four
groups of people. Each run is a fresh process with two cores for everybody; reading the rows is not timed. "cpu" counts
all threads and children, so it does not depend on what else the machine does as much as "wall" does.

What is comparable: anonymeter's singling out (one column, and four), linkability (2,000 targets) and inference of the two
sensitive columns (2,000 targets), each with its control; sdmetrics' NewRowSynthesis (exact matches),
DCROverfittingProtection (nearest records) and DisclosureProtection (inference). Ours is the whole suite, every person a
target, with a leaky copy attacked beside the table as positive control. Attacks run two at a time: "parts" holds the
seconds from the start of one to the start of the next. Every run adds a line to `benchmarks/results/attack_speed.jsonl`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.exchange import cpu_seconds, peak_mb
from benchmarks.run import LIMIT_S, OURS, PEERS, RESULTS, last_line, python_of
from dpsynth import Column, PersonRecords, Records, ReviewSample, Schema, __version__

TWO_CORES = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "POLARS_MAX_THREADS"), "2")
NAMES = ("anonymeter", "sdmetrics")
LEVELS = (2, 3, 5, 8, 12, 20, 40)
QUASI, SECRET = 5, (7, 8)  # the first five columns are quasi-identifiers; two others, one of each kind, are sensitive
Table = dict[str, np.ndarray[Any, Any]]


def schema_of(columns: int) -> Schema:
    """Numbers and categories in turn."""
    sizes = np.random.default_rng(1).choice(LEVELS, size=columns)
    made = []
    for place in range(columns):
        role = "quasi_identifier" if place < QUASI else "sensitive" if place in SECRET else "other"
        if place % 2 == 0:
            made.append(Column(name=f"n{place:02d}", type="number", minimum=0, maximum=100, bins=20, role=role))
        else:
            values = tuple(f"v{value}" for value in range(sizes[place]))
            made.append(Column(name=f"c{place:02d}", type="category", values=values, role=role))
    return Schema(table="made-up", columns=tuple(made))


def rows_of(schema: Schema, rows: int, seed: int) -> Table:
    """Rows of four groups of people, who differ in every column."""
    rng, shape = np.random.default_rng(seed), np.random.default_rng(2)
    group, table = rng.integers(4, size=rows), {}
    for column in schema.modelled:
        if column.is_numeric:
            centre = shape.uniform(20, 80, size=4)
            table[column.name] = np.clip(np.round(rng.normal(centre[group], 12), 1), 0, 100)
        else:
            shares = np.cumsum(shape.dirichlet(np.full(column.size, 0.6), size=4), axis=1)
            codes = (rng.random(rows)[:, None] > shares[group]).sum(axis=1)
            table[column.name] = np.minimum(codes, column.size - 1).astype(np.int32)
    return table


def case(size: str) -> tuple[Schema, dict[str, Table]]:
    """The fitted, the control and the synthetic rows."""
    rows, columns = (int(part) for part in size.split("x"))
    schema = schema_of(columns)
    counts = {"fit": rows // 2, "control": rows - rows // 2, "synthetic": rows}
    return schema, {name: rows_of(schema, count, seed) for seed, (name, count) in enumerate(counts.items())}


def ours(size: str) -> dict[str, Any]:
    """The whole suite in this process: seconds by attack, and memory."""
    from attacks import run_suite

    schema, tables = case(size)
    records = {name: Records(schema, table) for name, table in tables.items()}
    fit, control = (
        PersonRecords(records=records[name], person=np.arange(len(records[name])), persons=len(records[name]))
        for name in ("fit", "control")
    )
    marks = [("start", time.perf_counter())]
    begin = cpu_seconds()
    results = run_suite(
        ReviewSample(fit=fit, control=control),
        records["synthetic"],
        progress=lambda stage: marks.append((stage, time.perf_counter())),
    )
    marks.append(("end", time.perf_counter()))
    parts = {name: round(end - start, 2) for (name, start), (_, end) in pairwise(marks)}
    wall, cpu = marks[-1][1] - marks[0][1], cpu_seconds() - begin
    if results.leaks or any(result.status != "measured" for result in results):
        raise RuntimeError("the suite did not do its work")
    return {"version": __version__, "wall_s": wall, "cpu_s": cpu, "peak_mb": peak_mb(), "parts": parts}


def measured(size: str, peer: str, folder: Path) -> dict[str, Any]:
    """One run in a fresh process: a line of the results."""
    line: dict[str, Any] = {"table": f"made up, {size}", "peer": peer}
    log, target = folder / "log", folder / "out.json"
    target.unlink(missing_ok=True)
    if peer == OURS:
        command = [sys.executable, "-m", "benchmarks.attack_speed", "--job", size, "--out", str(target)]
    else:
        source = folder / f"{size}.npz"
        if not source.exists():
            _, tables = case(size)
            arrays = {f"{name}/{column}": values for name, table in tables.items() for column, values in table.items()}
            np.savez(source, **arrays)  # type: ignore[arg-type]
        command = [str(python_of(peer)), str(PEERS / f"attack_{peer}.py"), str(source), str(target)]
    with log.open("wb") as out:
        try:
            code = subprocess.run(
                command, stdout=out, stderr=out, env=os.environ | TWO_CORES, timeout=3 * LIMIT_S, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            return line | {"status": "unfinished", "reason": f"more than {3 * LIMIT_S} seconds", "date": today()}
    if code != 0 or not target.exists():
        return line | {"status": "failed", "reason": f"exit {code}: {last_line(log)}", "date": today()}
    facts = json.loads(target.read_text(encoding="utf-8"))
    facts |= {name: round(facts[name], 2) for name in ("wall_s", "cpu_s")}
    return line | facts | {"status": "finished", "reason": None, "date": today()}


def today() -> str:
    return datetime.date.today().isoformat()


def kept(line: dict[str, Any]) -> dict[str, Any]:
    """The same line, added to the results."""
    with (RESULTS / "attack_speed.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return line


def report(sizes: list[str], peers: list[str], repeats: int) -> list[str]:
    """Measures everything and gives the table as Markdown; of several runs the quickest counts, for everybody."""
    out = [
        "| rows x columns | what | wall s | CPU s | peak MB | times ours, wall | CPU |",
        "|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        for size in sizes:
            best: dict[str, dict[str, Any]] = {}
            for peer in [OURS, *peers]:
                for _ in range(repeats):
                    line = kept(measured(size, peer, Path(scratch)))
                    if line["status"] != "finished":
                        out.append(f"| {size} | {peer} | {line['status']}: {line['reason']} | | | | |")
                        break
                    if peer not in best or line["wall_s"] < best[peer]["wall_s"]:
                        best[peer] = line
            for peer, line in best.items():
                ratios = [
                    f"{line[unit] / best[OURS][unit]:.3g}" if OURS in best else "" for unit in ("wall_s", "cpu_s")
                ]
                cells = [size, peer, f"{line['wall_s']:.1f}", f"{line['cpu_s']:.1f}", str(line["peak_mb"]), *ratios]
                out.append(f"| {' | '.join(cells)} |")
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["10000x20", "100000x30"])
    parser.add_argument("--peers", nargs="*", default=list(NAMES), choices=NAMES)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        arguments.out.write_text(json.dumps(ours(arguments.job)), encoding="utf-8")
        return
    for peer in arguments.peers:
        if not python_of(peer).exists():
            sys.exit(f"there is no environment for {peer}: python -m benchmarks.peers build {peer}")
    print("\n".join(report(arguments.sizes, arguments.peers, arguments.repeats)))


if __name__ == "__main__":
    main()
