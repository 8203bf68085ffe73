"""What each idea of the engine gives: TV2, TV3, AUC and CPU seconds of `aim` on Adult without it, or with another choice.

    python -m benchmarks.ablation --data DIR [--epsilon 1] [--seeds 4] [--only NAME ...]

Noise is end-to-end exact, and no ledger is charged. All variants run in this process one after the other.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from pathlib import Path
from unittest import mock

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.protocol import score
from benchmarks.run import DELTA
from benchmarks.tables import Split, load
from dpsynth import Cap, Curator, Table
from dpsynth.models import estimation
from dpsynth.synthesizers import aim, measuring, selection
from dpsynth.synthesizers.aim import Aim
from dpsynth.synthesizers.base import Synthesizer
from dpsynth.synthesizers.mst import Mst
from dpsynth.throw_away import ThrowAway

Change = Callable[[], AbstractContextManager[object]]


def without_pooling() -> AbstractContextManager[object]:
    return mock.patch.object(estimation, "_pool", return_value=None)


def without_shrinkage() -> AbstractContextManager[object]:
    return mock.patch.object(
        estimation, "_shrunk", lambda target, expected: estimation._projected(target.table.values, target.sides)
    )


def setting(module: object, name: str, value: object) -> Change:
    return lambda: mock.patch.object(module, name, value)


ONE_ROUND = (Fraction(1),)
VARIANTS: dict[str, tuple[Synthesizer, Change]] = {
    "aim as it is": (Aim(), nullcontext),
    "no pooling of overlapping marginals": (Aim(), without_pooling),
    "no shrinkage, projection alone": (Aim(), without_shrinkage),
    "no smoothing along ordered columns": (Aim(), setting(estimation, "_SHORTEST", 10**9)),
    "shrunk once, not again in the second sweep": (Aim(), setting(estimation, "_SHRINKING", 1)),
    "shrunk in four sweeps": (Aim(), setting(estimation, "_SHRINKING", 4)),
    "12 sweeps in place of 6": (Aim(), setting(estimation, "_SWEEPS", 12)),
    "no triples": (
        Aim(),
        setting(aim, "_triples", lambda schema, cells: {}),
    ),
    "rare cells not merged": (Aim(least=0.0), nullcontext),
    "cells merged below 6 sigma": (Aim(least=6.0), nullcontext),
    "one round, of scores": (Aim(round_shares=ONE_ROUND), nullcontext),
    "one-way share 1/10": (Aim(one_way_share=Fraction(1, 10)), nullcontext),
    "one-way share 3/10": (Aim(one_way_share=Fraction(3, 10)), nullcontext),
    "selection share 1/10": (Aim(selection_share=Fraction(1, 10)), nullcontext),
    "model of 200,000 cells": (Aim(max_cells=200_000), nullcontext),
    "model of 5,000,000 cells": (Aim(max_cells=5_000_000), nullcontext),
    "columns get their first share, never more": (Aim(), setting(selection, "_SINGLES", Fraction(0))),
    "columns get the same noise each": (Aim(), setting(measuring, "_ROOT", 0.0)),
    "noise in columns counted as distance": (
        Aim(),
        setting(aim, "errors_of_columns", lambda ones, coarse: [0.0] * (len(ones) + len(coarse))),
    ),
    "every marginal measured that fits": (Aim(), setting(selection, "_ERROR", 0.0)),
    "error expected twice as large": (Aim(), setting(selection, "_ERROR", 0.8)),
    "a ranking without penalties for noise": (Aim(), setting(selection, "_PENALTY", 0.0)),
    "mst as it is": (Mst(), nullcontext),
    "mst, columns get their first share, never more": (Mst(), setting(selection, "_SINGLES", Fraction(0))),
    "mst, no smoothing": (Mst(), setting(estimation, "_SHORTEST", 10**9)),
    "mst, no shrinkage": (Mst(), without_shrinkage),
    "mst, rare cells not merged": (Mst(least=0.0), nullcontext),
}


def fitted(split: Split, synthesizer: Synthesizer, epsilon: str, *, seed: int) -> dict[str, float]:
    """One fit with exact noise: utility and the CPU seconds of the fit."""
    cap = Cap.of(epsilon, DELTA)
    records = Table(split.schema, split.train).decode(rng=np.random.default_rng(0))
    purse = ThrowAway(cap.cost, unit=split.schema.unit)
    curator = Curator.of_frame(records.to_arrow().to_pandas(), split.schema, purse)
    begin = time.process_time()
    model = synthesizer.fit(curator, budget=cap.cost)
    seconds = time.process_time() - begin
    rows = model.sample(len(split.train), rng=np.random.default_rng(seed)).codes
    return {name: value or 0.0 for name, value in score(split, rows).items()} | {"seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables, as `tables.py` names them")
    parser.add_argument("--epsilon", default="1")
    parser.add_argument("--seeds", type=int, default=4, help="how many fits; the noise itself has no seed")
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="NAME")
    arguments = parser.parse_args()
    split = load("adult", arguments.data)
    print("| variant | TV1 | TV2 | TV3 | AUC | fit CPU s |\n|---|---|---|---|---|---|")
    for name in arguments.only:
        synthesizer, change = VARIANTS[name]
        with change(), threadpool_limits(1):
            runs = [fitted(split, synthesizer, arguments.epsilon, seed=seed) for seed in range(arguments.seeds)]
        mean = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
        print(
            f"| {name} | {mean['tv1']:.4f} | {mean['tv2']:.4f} | {mean['tv3']:.4f} "
            f"| {mean['auc']:.3f} | {mean['seconds']:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
