"""CPU seconds and memory, each measured in a fresh process with one thread; nothing here is a test with a time limit.

    python -m benchmarks.speed --data DIR [--synthesizers mst aim] [--repeats 3] [--no-anchor]

Fits on Adult are those of `utility.py`: end-to-end exact noise, the curator and its ledger ready before the clock starts.
"whole process" counts everything from the start of Python to the synthetic file, with byte code cached as an installed
package has it. The large tables are Adult's rows repeated, or made up: independent but for a tree of columns that follow
each other. dpmm's MST runs along where its environment exists; machines differ, so quote the ratios. Every measurement
adds a line to `benchmarks/results/speed.jsonl`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from benchmarks.peers.exchange import peak_mb
from benchmarks.run import LIMIT_S, OURS, RESULTS, ended, keep, last_line, measure, python_of
from benchmarks.tables import Codes, Split, load
from dpsynth import SYNTHESIZERS, Cap, Column, Curator, Schema, Table, __version__
from dpsynth.mechanisms.discrete_gaussian import sample
from dpsynth.randomness import SystemRng
from dpsynth.reading import RawRows
from dpsynth.throw_away import ThrowAway

ANCHORS = {"mst": "dpmm/mst", "aim": "dpmm/aim-1mb"}
FITS = (("mst", "1", "0.15 s"), ("aim", "1", "4 s"), ("aim", "10", "20 s"))
WHOLE = (("mst", "1", ".csv", "< 1.5 s"), ("mst", "1", ".parquet", "< 1.5 s"), ("aim", "10", ".csv", ""))
BUDGET = Cap.of("1", "1e-9").cost
ROWS, REFITS, REFIT_ROWS, DRAWS = 1_000_000, 1_000, 1_000, 1_000_000
WIDE_ROWS, WIDE_SIZES = 50_000, (2, 3, 4, 6, 10) * 200
SIGMAS = ("3", "30", "170")
Numbers = dict[str, float]


def curator_of(rows: RawRows, schema: Schema) -> Curator:
    """A curator with the benchmark's budget, which charges nobody."""
    purse = ThrowAway(BUDGET, unit=schema.unit)
    purse.start()
    return Curator(rows, schema, purse, holdout=Fraction(0))


def rows_of(schema: Schema, codes: Codes) -> RawRows:
    """Rows with values somewhere in those cells, each a unit of its own."""
    return RawRows(Table(schema, np.asfortranarray(codes)).decode(rng=np.random.default_rng(0)), None)


def made_up(rows: int, sizes: Sequence[int]) -> tuple[Schema, Codes]:
    """Category columns of those sizes: seven rows in ten follow a column before, the others lean to the first cells."""
    rng = np.random.default_rng(0)
    columns = tuple(
        Column(name=f"c{i}", type="category", values=tuple(map(str, range(size))), basis="made up")
        for i, size in enumerate(sizes)
    )
    codes = np.empty((rows, len(sizes)), dtype=np.int32, order="F")
    for i, size in enumerate(sizes):
        codes[:, i] = rng.random(rows) ** 2 * size
        if i:
            follows = rng.random(rows) < 0.7
            codes[follows, i] = codes[follows, rng.integers(i)] % size
    return Schema(table="made-up", columns=columns), codes


def timed(schema: Schema, codes: Codes, name: str) -> Numbers:
    """CPU seconds of one fit and of drawing as many rows, and the curator's before."""
    rows = rows_of(schema, codes)
    times = [process_time()]
    curator = curator_of(rows, schema)
    times.append(process_time())
    model = SYNTHESIZERS[name]().fit(curator, budget=BUDGET)
    times.append(process_time())
    model.sample(len(codes), rng=np.random.default_rng())
    times.append(process_time())
    open_s, fit_s, sample_s = np.diff(times).tolist()
    return {"open_cpu_s": open_s, "fit_cpu_s": fit_s, "sample_cpu_s": sample_s}


# ---- jobs, each in a process of its own ----------------------------------------------------------------------------


def million(split: Split) -> Numbers:
    return timed(split.schema, np.resize(split.train, (ROWS, split.train.shape[1])), "mst")


def refits(split: Split) -> Numbers:
    rows = rows_of(split.schema, split.train[:REFIT_ROWS])
    start = process_time()
    for _ in range(REFITS):
        SYNTHESIZERS["mst"]().fit(curator_of(rows, split.schema), budget=BUDGET)
    return {"fit_cpu_s": process_time() - start}


def wide(split: Split) -> Numbers:
    return timed(*made_up(WIDE_ROWS, WIDE_SIZES), "wide")


def our_noise(sigma: str) -> Numbers:
    """Seconds for a million draws, which are microseconds a draw."""
    rng, variance = SystemRng(), Fraction(sigma) ** 2
    sample(variance, 1, rng=rng)  # the table
    start = process_time()
    sample(variance, DRAWS, rng=rng)
    return {"fit_cpu_s": (process_time() - start) * 1e6 / DRAWS}


def opendp_noise(sigma: str) -> Numbers:
    from opendp import domains, measurements, metrics, mod  # and not the prelude, which takes a second to import

    mod.enable_features("contrib")
    space = domains.vector_domain(domains.atom_domain(T="i64")), metrics.l2_distance(T="f64")
    draw = measurements.make_gaussian(*space, scale=float(sigma))
    counts = [0] * (DRAWS // 10)
    draw(counts[:10])
    start = process_time()
    draw(counts)
    return {"fit_cpu_s": (process_time() - start) * 1e6 / len(counts)}


JOBS: dict[str, Callable[[Split], Numbers]] = {"million": million, "refits": refits, "wide": wide}
NOISE: dict[str, Callable[[str], Numbers]] = {OURS: our_noise, "opendp": opendp_noise}


# ---- the run -------------------------------------------------------------------------------------------------------


def record(table: str, peer: str, seed: int, numbers: Numbers, epsilon: str) -> dict[str, Any]:
    """One line of the results, in the form of `run.measure`."""
    fields = ("tv1", "tv2", "tv3", "auc", "kmarginal", "fit_cpu_s", "sample_cpu_s", "process_cpu_s", "peak_mb")
    line: dict[str, Any] = {
        "table": table,
        "peer": peer,
        "version": __version__,
        "epsilon": float(epsilon),
        "delta": 1e-9,
    }
    line |= {"seed": seed} | dict.fromkeys(fields)
    line |= {name: round(number, 4) for name, number in numbers.items()}
    return line | {"status": "finished", "reason": None, "date": datetime.date.today().isoformat()}


def fresh(arguments: Sequence[str], folder: Path) -> Numbers:
    """Runs a module in a fresh process: what it says in its last line, if anything, its CPU seconds and its memory.

    Raises:
        RuntimeError: it failed; the text says with what.
    """
    log = folder / "log"
    code, usage = ended([sys.executable, "-m", *arguments], log, 3 * LIMIT_S)
    if code != 0:
        raise RuntimeError(f"{' '.join(arguments[:3])}: {last_line(log)}")
    said = log.read_text(encoding="utf-8").splitlines()
    numbers: Numbers = {"process_cpu_s": usage.ru_utime + usage.ru_stime}
    return numbers | (json.loads(said[-1]) if said else {})


def whole(split: Split, name: str, ending: str, folder: Path, epsilon: str = "1") -> Numbers:
    """One cold process from a data file to a synthetic file of the same kind."""
    data, out, schema = folder / f"data{ending}", folder / f"synthetic{ending}", folder / "schema.toml"
    if not data.exists():
        schema.write_text(split.schema.to_toml(), encoding="utf-8")
        rows_of(split.schema, split.train).records.write(data)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        return fresh(["benchmarks.whole", name, epsilon, str(schema), str(data), str(out), scratch], folder)


def anchor_of(split: Split, peer: str, epsilon: str, *, run: bool) -> dict[str, Any] | None:
    """A peer's fit to Adult: measured now, or the last one that was kept; None where there is none."""
    if run and python_of(peer.split("/")[0]).exists():
        line = measure(split, peer, epsilon, 0)
        keep(line, "speed")
        return line
    kept = RESULTS / "peers.jsonl"
    lines = [json.loads(text) for text in kept.read_text(encoding="utf-8").splitlines()] if kept.exists() else []
    asked = (split.name, peer, float(epsilon), "finished")
    found = [line for line in lines if (line["table"], line["peer"], line["epsilon"], line["status"]) == asked]
    return found[-1] if found else None


def row(what: str, value: float, form: str, target: str, other: str = "", other_value: float | None = None) -> str:
    """One line of the table; the ratio is the other's number over ours."""
    against = f"{other_value:{form}}, {other}" if other_value else ""
    ratio = f"{other_value / value:.3g}" if other_value else ""
    return f"| {what} | {value:{form}} | {target} | {against} | {ratio} |"


def report(split: Split, data: Path, names: Sequence[str], repeats: int, *, anchor: bool, folder: Path) -> list[str]:
    """Measures everything, keeps each line, and gives the table as Markdown."""

    def median(lines: Sequence[dict[str, Any]], field: str) -> float:
        return float(statistics.median(line[field] for line in lines))

    def kept(table: str, peer: str, runs: Sequence[Numbers], epsilon: str = "1") -> list[dict[str, Any]]:
        lines = [record(table, peer, seed, numbers, epsilon) for seed, numbers in enumerate(runs)]
        for line in lines:
            keep(line, "speed")
        return lines

    out = ["| what | here | target | another | ratio |", "|---|---|---|---|---|"]
    for name, epsilon, target in [fit for fit in FITS if fit[0] in names]:
        lines = [measure(split, f"{OURS}/{name}", epsilon, seed) for seed in range(repeats)]
        for line in lines:
            keep(line, "speed")
        other = anchor_of(split, ANCHORS[name], epsilon, run=anchor and name == "mst")
        shown = (f"{ANCHORS[name]}, {other['date']}", other["fit_cpu_s"]) if other else ()
        what = f"`{name}` fit, Adult, epsilon {epsilon}, CPU s"
        out.append(row(what, median(lines, "fit_cpu_s"), ".3f", f"≤ {target}", *shown))
    whole(split, "mst", ".csv", folder)  # writes the byte code
    for name, epsilon, ending, target in WHOLE:
        runs = [whole(split, name, ending, folder, epsilon) for _ in range(repeats)]
        lines = kept(f"adult, whole process, {ending}", f"{OURS}/{name}", runs, epsilon)
        what = f"`{name}` whole process, epsilon {epsilon}, {ending}"
        out.append(row(f"{what}, CPU s", median(lines, "process_cpu_s"), ".2f", target))
        out.append(row(f"{what}, peak MB", median(lines, "peak_mb"), ".0f", "< 250"))

    def job(name: str, times: int) -> list[Numbers]:
        return [fresh(["benchmarks.speed", "--data", str(data), "--job", name], folder) for _ in range(times)]

    lines = kept("adult x 25.6, 1,000,000 rows", f"{OURS}/mst", job("million", repeats))
    out.append(row("`mst` fit, 1,000,000 x 15, CPU s", median(lines, "fit_cpu_s"), ".2f", "< 0.6 s"))
    out.append(row("`mst` sampling, 1,000,000 x 15, CPU s", median(lines, "sample_cpu_s"), ".2f", "< 0.5 s"))
    out.append(row("the curator before, 1,000,000 x 15, CPU s", median(lines, "open_cpu_s"), ".1f", ""))
    lines = kept("adult, 1,000 rows, 1,000 refits", f"{OURS}/mst", job("refits", 1))
    out.append(
        row("`mst`, 1,000 refits on 1,000 x 15, curators included, CPU s", lines[0]["fit_cpu_s"], ".1f", "< 60 s")
    )
    lines = kept("made up, 50,000 rows x 1,000", f"{OURS}/wide", job("wide", 1))
    out.append(row("`wide` fit, 50,000 x 1,000, CPU s", lines[0]["fit_cpu_s"], ".0f", "< 180 s"))
    out.append(row("`wide` process, 50,000 x 1,000, peak MB", lines[0]["peak_mb"], ".0f", "< 4,096"))
    for sigma in SIGMAS:
        found = {}
        for peer in NOISE:
            runs = [NOISE[peer](sigma) for _ in range(repeats)]
            found[peer] = median(
                kept(f"a million draws, sigma {sigma}", f"{peer}/discrete-gaussian", runs), "fit_cpu_s"
            )
        what = f"exact noise, sigma {sigma}, microseconds a cell"
        out.append(row(what, found[OURS], ".2f", "≤ 1", "opendp, same run", found["opendp"]))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables, as `tables.py` names them")
    parser.add_argument("--synthesizers", nargs="+", default=["mst", "aim"], choices=sorted(ANCHORS))
    parser.add_argument("--repeats", type=int, default=3, help="the table shows medians")
    parser.add_argument("--no-anchor", action="store_true", help="quote the peer's last kept run instead of running it")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    split = load("adult", arguments.data)
    if arguments.job:
        numbers = JOBS[arguments.job](split)
        print(json.dumps(numbers | {"peak_mb": peak_mb()}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = f"{scratch}/bytecode"
        lines = report(
            split,
            arguments.data,
            arguments.synthesizers,
            arguments.repeats,
            anchor=not arguments.no_anchor,
            folder=Path(scratch),
        )
        print("\n".join(lines))


if __name__ == "__main__":
    main()
