"""What the density inside bins gives: real numbers are binned and drawn again, evenly and by `dpsynth.density`.

    python -m benchmarks.debinning --data DIR [--epsilon 1] [--tables adult ...]

The rows keep their bins, so all that differs is where inside its bin a number lies. The masses that the density follows
from are counts with the noise of one column among all of a table's at (epsilon, 1e-9), negative ones set to zero. Columns
with one value a cell are left out. Every column is drawn a few times, and the mean is shown.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import ks_2samp, wasserstein_distance

from benchmarks.run import DELTA
from benchmarks.tables import records
from dpsynth import Cap
from dpsynth.binning import Bins
from dpsynth.density import Density

TABLES = ("adult", "bank", "diabetes130", "nist_national2019")
DRAWS = 3
EQUAL = 32

FloatVector = npt.NDArray[np.float64]


def distances(real: FloatVector, drawn: FloatVector) -> FloatVector:
    """Wasserstein-1 in the unit of the column, and the Kolmogorov-Smirnov distance."""
    return np.array([wasserstein_distance(real, drawn), ks_2samp(real, drawn).statistic])


def compared(bins: Bins, real: FloatVector, *, sigma: float, rng: np.random.Generator) -> FloatVector:
    """Distances from `real` of what is drawn evenly and by the density; shape (2, 2)."""
    codes = bins.encode(real)
    out = np.zeros((2, 2))
    for _ in range(DRAWS):
        counts = np.bincount(codes, minlength=bins.size) + rng.normal(scale=sigma, size=bins.size)
        density = Density.of(bins, np.maximum(counts, 0.0))
        out[0] += distances(real, bins.decode(codes, rng=rng)) / DRAWS
        out[1] += distances(real, bins.decode(codes, rng=rng, density=density)) / DRAWS
    return out


def main() -> None:
    """Prints a table of all numeric columns: as declared, and in equal parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epsilon", type=float, default=1.0)
    parser.add_argument("--tables", nargs="+", default=list(TABLES))
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    cap = Cap.of(epsilon=Fraction(str(arguments.epsilon)), delta=DELTA)
    print(
        "| column | bins | W1 evenly | W1 density | ratio | KS evenly | KS density | ratio |\n|---|---|---|---|---|---|---|---|"
    )
    ratios: dict[str, list[FloatVector]] = {"declared": [], "equal": []}
    for name in arguments.tables:
        rows = records(name, arguments.data)
        sigma = float(len(rows.schema.sizes) / (2 * cap.cost.rho)) ** 0.5
        for column in (column for column in rows.schema.modelled if column.is_numeric):
            real = np.asarray(rows.columns[column.name])
            real = real[~np.isnan(real)]
            low, high = column.binning.interval(0)[0], column.binning.interval(column.binning.size - 1)[1]
            kinds = {"declared": column.binning}
            if column.grid is None or (high - low) * 10**column.grid >= 2 * EQUAL:
                kinds["equal"] = Bins.of(minimum=low, maximum=high, bins=EQUAL, decimals=column.grid)
            for kind, bins in kinds.items():
                if bins.is_point.all():
                    continue
                (w1, ks), (w1_after, ks_after) = compared(bins, real, sigma=sigma, rng=rng)
                ratios[kind].append(np.array([w1_after / w1, ks_after / ks]))
                print(
                    f"| {name} {column.name} | {bins.size} {kind} | {w1:.4g} | {w1_after:.4g} | {w1_after / w1:.2f} "
                    f"| {ks:.4f} | {ks_after:.4f} | {ks_after / ks:.2f} |",
                    flush=True,
                )
    for kind, found in ratios.items():
        median, worse = np.median(found, axis=0), np.greater(found, 1.0).sum(axis=0)
        print(
            f"\n{kind}: {len(found)} columns, median ratio W1 {median[0]:.2f}, KS {median[1]:.2f}; "
            f"worse than evenly in {worse[0]} and {worse[1]}"
        )


if __name__ == "__main__":
    main()
