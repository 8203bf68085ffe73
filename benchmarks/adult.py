"""Utility and CPU time of each synthesizer on Adult.

    python -m benchmarks.adult ADULT.parquet [--epsilon 1] [--seeds 5]

48,842 rows of the UCI Adult table, 15 columns in the domain of `benchmarks/adult.toml`; 80 % of the rows, chosen by
seed 0, are learned from. delta = 1e-9. TV1, TV2 and TV3 are mean total variation distances between learned and synthetic
rows over all one-way, all two-way and 64 random three-way marginals. Noise is end-to-end exact; the ledger is a
throw-away one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from dpsynth import SYNTHESIZERS, Cap, Curator, Ledger, Schema, Table
from dpsynth.reading import read_frame
from reports.utility import tv_distance

DELTA = "1e-9"


def marginals(columns: int) -> dict[int, list[tuple[int, ...]]]:
    """The column sets that are compared, by how many columns they have."""
    triples = list(combinations(range(columns), 3))
    chosen = np.random.default_rng(0).choice(len(triples), size=min(64, len(triples)), replace=False)
    return {
        1: list(combinations(range(columns), 1)),
        2: list(combinations(range(columns), 2)),
        3: [triples[i] for i in chosen],
    }


def measure(frame: pd.DataFrame, schema: Schema, name: str, epsilon: str) -> dict[str, float]:
    """One fit: distances by number of columns, and CPU seconds of fitting and sampling."""
    cap = Cap.of(epsilon, DELTA)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.create(
            Path(folder) / "ledger", population="adult", epsilon=epsilon, delta=DELTA, entity=schema.unit.entity
        )
        with ledger.reserve(cap.cost, unit=schema.unit, purpose="benchmark") as reservation:
            curator = Curator.of_frame(frame, schema, reservation)
            begin = time.process_time()
            model = SYNTHESIZERS[name]().fit(curator, budget=cap.cost)
            fitted = time.process_time()
            synthetic = model.sample(round(model.total), rng=np.random.default_rng())
            sampled = time.process_time()
    real = Table.encode(read_frame(frame, schema).records)
    out = {"fit": fitted - begin, "sample": sampled - fitted}
    for ways, sets in marginals(len(schema.sizes)).items():
        out[f"TV{ways}"] = float(np.mean([tv_distance(synthetic, real, columns) for columns in sets]))
    return out


def main() -> None:
    """Prints one line a synthesizer: means over the seeds, and the spread of TV2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epsilon", default="1")
    parser.add_argument("--seeds", type=int, default=5, help="how many fits; the noise itself has no seed")
    arguments = parser.parse_args()
    schema = Schema.load(Path(__file__).with_name("adult.toml"))
    frame = pd.read_parquet(arguments.data)
    chosen = np.random.default_rng(0).permutation(len(frame))[: int(0.8 * len(frame))]
    print("| synthesizer | TV1 | TV2 | TV3 | TV2 lowest to highest | fit CPU s | sample CPU s |")
    print("|---|---|---|---|---|---|---|")
    for name in SYNTHESIZERS:
        runs = [measure(frame.iloc[chosen], schema, name, arguments.epsilon) for _ in range(arguments.seeds)]
        mean = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
        spread = [run["TV2"] for run in runs]
        print(
            f"| {name} | {mean['TV1']:.4f} | {mean['TV2']:.4f} | {mean['TV3']:.4f} "
            f"| {min(spread):.4f} to {max(spread):.4f} | {mean['fit']:.2f} | {mean['sample']:.2f} |"
        )


if __name__ == "__main__":
    main()
