"""How near an audit comes to what `mst` and `aim` really spend, at (epsilon 1, delta 1e-2), from their noisy counts.

    nice -n 19 python -m benchmarks.tightness [--fits 80000] [--synthesizers mst aim] [--tables "nobody else" alone]

Our conversion turns (1, 1e-2) into rho 0.1000; a mechanism that spends it all on Gaussian noise, and whose every count
moves by the whole sensitivity, is mu-GDP with mu = sqrt(2 rho) = 0.447: the implied mu. (The exact curve of Gaussian noise
would allow 0.533 at this point: that gap is the conversion's, which holds for all zCDP mechanisms, and no attack closes
it.) Published for dpmm's MST and AIM: about 0.43 of 0.45, without saying in the abstract whether that is an estimate or a
bound (arXiv:2604.18352).

Tables of columns with two cells, at most 61 rows. "one column": nothing to choose, all of rho is measured. "nobody else",
three columns: all counts drown in noise, cells merge, and again nothing is left to choose from: all of rho is measured, and
the person moves every count. "alone", three columns: a part of rho goes to choosing marginals; `measured_mu` is what the
noisy counts alone carry there, and the attacker reads the choice as well.

The whole recipe runs each time with fresh entropy, from rows that are read once: no data frame and no sampling, which an
attacker who has the counts does not need. The bound is `play`'s, at 99.9 %: score and threshold are chosen on fits that
do not count, and the number of fits is fixed before the first. Every run adds a line to
`benchmarks/results/tightness.jsonl`, and so does the time of 1,000 fits of `mst` to 1,000 rows, curators included.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
from fractions import Fraction
from statistics import fmean
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np

from attacks.canary import Claim, NoisyCounts, play
from attacks.intervals import mu_lower_bound
from attacks.neighbours import Codes, Pair, worst_cases
from benchmarks.run import RESULTS
from benchmarks.speed import made_up
from dpsynth import SYNTHESIZERS, Cap, Cost, Curator, Model, Schema, Table, __version__, attack_generator
from dpsynth.reading import RawRows
from dpsynth.throw_away import ThrowAway

if TYPE_CHECKING:
    import pandas as pd

EPSILON, DELTA = "1", "1e-2"
ROWS = 60
TABLES = {"one column": ((2,), "alone"), "nobody else": ((2, 2, 2), "nobody else"), "alone": ((2, 2, 2), "alone")}
"""Cells of each column, and the pair of `worst_cases`."""
REFITS, REFIT_ROWS, REFIT_SIZES = 1_000, 1_000, (2, 3, 4, 6, 10) * 3


def raw(schema: Schema, codes: Codes) -> RawRows:
    """Rows as the reader would leave them, each a unit of its own."""
    return RawRows(Table(schema=schema, codes=np.asfortranarray(codes)).decode(rng=attack_generator(0)), None)


def curator_of(rows: RawRows, schema: Schema, budget: Cost) -> tuple[Curator, ThrowAway]:
    purse = ThrowAway(budget, unit=schema.unit)
    purse.start()
    return Curator(rows, schema, purse, holdout=Fraction(0)), purse


class Fits:
    """Runs a recipe on one of a pair's two tables, which are read once, and keeps the books."""

    def __init__(self, name: str, pair: Pair, budget: Cost) -> None:
        self.recipe, self.schema, self.budget = SYNTHESIZERS[name](), pair.schema, budget
        person = np.tile(pair.target, (pair.copies, 1))
        self.rows = {
            len(pair.absent): raw(pair.schema, pair.bulk),
            len(pair.present): raw(pair.schema, np.vstack([pair.bulk, person])),
        }
        self.spent: list[float] = []
        self.measured: list[float] = []

    def __call__(self, frame: pd.DataFrame) -> Model:
        curator, purse = curator_of(self.rows[len(frame)], self.schema, self.budget)
        model = self.recipe.fit(curator, budget=self.budget)
        self.spent.append(float(purse.spent.rho))
        unit = self.schema.unit.l2_squared
        self.measured.append(float(sum(unit / (2 * m.sigma_squared) for m in model.measurements)))
        return model


def audit(name: str, table: str, fits: int) -> dict[str, Any]:
    """One line of the results."""
    sizes, which = TABLES[table]
    schema, _ = made_up(0, sizes)
    pair = next(pair for pair in worst_cases(schema, rows=ROWS) if pair.name == which)
    budget = Cap.of(EPSILON, DELTA).cost
    claim = Claim(epsilon=float(EPSILON), delta=float(DELTA), cost=budget)
    refit = Fits(name, pair, budget)
    start, cpu = perf_counter(), process_time()
    result = play(pair, refit, NoisyCounts(pair), claim=claim, fits=fits)
    seconds, cpu_s = perf_counter() - start, process_time() - cpu
    return {
        "date": datetime.date.today().isoformat(),
        "version": __version__,
        "what": "audit",
        "synthesizer": name,
        "table": table,
        "rows": len(pair.bulk),
        "epsilon": float(EPSILON),
        "delta": float(DELTA),
        "rho": float(budget.rho),
        "implied_mu": math.sqrt(2 * budget.rho),
        "spent_rho": fmean(refit.spent),
        "measured_mu": math.sqrt(2 * fmean(refit.measured)),
        "fits": result.fits,
        "trials": result.trials,
        "hits": result.hits,
        "false_alarms": result.false_alarms,
        "mu_estimate": result.mu_estimate,
        "mu_low": result.mu,
        "mu_low_95": mu_lower_bound(result.hits, result.false_alarms, result.trials, confidence=0.95),
        "epsilon_low": result.epsilon,
        "rho_low": result.rho,
        "confidence": result.confidence,
        "contradicted": result.exceeds,
        "seconds": seconds,
        "cpu_ms_per_fit": 1e3 * cpu_s / result.fits,
    }


def refits() -> dict[str, Any]:
    """The time of 1,000 fits to 1,000 rows of a made-up table."""
    schema, codes = made_up(REFIT_ROWS, REFIT_SIZES)
    rows, budget = raw(schema, codes), Cap.of(EPSILON, DELTA).cost
    start, cpu = perf_counter(), process_time()
    for _ in range(REFITS):
        SYNTHESIZERS["mst"]().fit(curator_of(rows, schema, budget)[0], budget=budget)
    return {
        "date": datetime.date.today().isoformat(),
        "version": __version__,
        "what": "refits",
        "synthesizer": "mst",
        "rows": REFIT_ROWS,
        "columns": len(REFIT_SIZES),
        "fits": REFITS,
        "seconds": perf_counter() - start,
        "cpu_s": process_time() - cpu,
    }


def keep(line: dict[str, Any]) -> None:
    rounded = {name: round(value, 5) if isinstance(value, float) else value for name, value in line.items()}
    with (RESULTS / "tightness.jsonl").open("a", encoding="utf-8") as out:
        out.write(json.dumps(rounded) + "\n")
    print(json.dumps(rounded, indent=2), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="how near an audit comes to what mst and aim spend")
    parser.add_argument("--fits", type=int, default=80_000)
    parser.add_argument("--synthesizers", nargs="+", default=["mst", "aim"], choices=sorted(SYNTHESIZERS))
    parser.add_argument("--tables", nargs="*", default=list(TABLES), choices=TABLES)
    parser.add_argument("--no-refits", action="store_true")
    options = parser.parse_args()
    if not options.no_refits:
        keep(refits())
    for table in options.tables:
        for name in options.synthesizers:
            keep(audit(name, table, options.fits))


if __name__ == "__main__":
    main()
