"""What discovery costs in utility: the same table declared, and discovered under the same budget.

    python -m benchmarks.discovery --data DIR [--tables adult bank] [--epsilon 1] [--fits 3] [--synthesizer mst]

Every variant learns from the same 80 % of the rows with the same (epsilon, 1e-9); what discovery spends is missing for
learning. Synthetic values, not cells, are judged, all in the declared domain of `tables.py`: total variation distances and
AUC as in `protocol.py`, and for numbers the Wasserstein-1 distance to the true column over its standard deviation, which
sees inside bins. Rows in which a discovered category says "other" get one of the declared values that were not found, at
random: what a person with the public list would do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import wasserstein_distance
from threadpoolctl import threadpool_limits

from benchmarks.protocol import marginals, mean_distance, score
from benchmarks.run import DELTA
from benchmarks.tables import SOURCES, TRAIN_SHARE, declared, load, raw
from dpsynth import Cap, Curator, Schema, discovery
from dpsynth.reading import read_frame
from dpsynth.schema import CATEGORICAL, OTHER, Column
from dpsynth.synthesizers.registry import synthesizer
from dpsynth.table import Table
from dpsynth.throw_away import ThrowAway


def _all(column: Column) -> Column:
    return _values(_bins(column))


def _values(column: Column) -> Column:
    if column.type not in CATEGORICAL:
        return column
    return replace(column, type="category", values=None, unknown=OTHER, discover=("values",))


def _bins(column: Column) -> Column:
    """Everything about a number."""
    if not column.is_numeric:
        return column
    return replace(column, minimum=None, maximum=None, bins=None, edges=None, discover=("minimum", "maximum", "bins"))


def _bounds(column: Column) -> Column:
    """Its bounds, cut in equal parts."""
    return replace(_bins(column), discover=("minimum", "maximum"), bins=32) if column.is_numeric else column


VARIANTS: dict[str, Callable[[Column], Column]] = {
    "declared": lambda column: column,
    "values discovered": _values,
    "numbers discovered, tree": _bins,
    "numbers discovered, bounds and 32 equal bins": _bounds,
    "everything discovered": _all,
}


def made(frame: pd.DataFrame, schema: Schema, *, recipe: str, epsilon: str, share: Fraction | None) -> pd.DataFrame:
    """Synthetic values, as many rows as were learned from."""
    promise = Cap.of(epsilon, DELTA)
    share = discovery.share_for(schema) if share is None or not schema.is_open else share
    searching = discovery.budget_for(schema, promise=promise, share=share)
    ours = synthesizer(recipe)
    rest = ours.cost(schema.widest(), promise=promise, share=1 - share)
    purse = ThrowAway(searching + rest, unit=schema.unit)
    curator = Curator.of_frame(frame, schema, purse)
    discovery.discover(curator, budget=searching)
    model = ours.fit(curator, budget=rest)
    rng = np.random.default_rng()
    records = model.sample(len(frame), rng=rng).decode(rng=rng)
    return records.to_frame()


def judged(frame: pd.DataFrame, truth: pd.DataFrame, schema: Schema) -> tuple[np.ndarray, float, float]:
    """The synthetic rows in the declared domain, the mean scaled Wasserstein-1 distance, and pairs at ventiles."""
    rng, out = np.random.default_rng(0), frame.copy()
    for column in schema.modelled:
        if column.type in CATEGORICAL:
            folded = out[column.name].eq(OTHER).fillna(False).to_numpy(bool)
            found = set(out[column.name].dropna())
            left = [value for value in column.labels if value not in found] or list(column.labels)
            if folded.any() and OTHER not in (column.values or ()):
                out.loc[folded, column.name] = rng.choice(left, size=int(folded.sum()))
    distances = []
    for column in schema.modelled:
        if column.is_numeric:
            real = pd.to_numeric(truth[column.name]).dropna().to_numpy(float)
            ours = pd.to_numeric(out[column.name]).dropna().to_numpy(float)
            distances.append(wasserstein_distance(real, ours) / max(real.std(), 1e-12))
    return (
        Table.encode(read_frame(out, schema).records).codes,
        float(np.mean(distances or [0.0])),
        _at_ventiles(out, truth, schema),
    )


def _at_ventiles(made: pd.DataFrame, truth: pd.DataFrame, schema: Schema) -> float:
    """Mean total variation distance of all pairs, numbers cut at twentieths of the true rows: nobody's bins."""
    codes, sizes = [], []
    truth, made = (read_frame(frame[list(schema.names)], schema).records.to_frame() for frame in (truth, made))
    for column in schema.modelled:
        if column.is_numeric:
            numbers = [pd.to_numeric(frame[column.name]).to_numpy(float, na_value=np.nan) for frame in (truth, made)]
            edges = np.unique(np.nanquantile(numbers[0], np.arange(1, 20) / 20))
            both = [np.where(np.isnan(n), len(edges) + 1, np.searchsorted(edges, n, side="right")) for n in numbers]
            sizes.append(len(edges) + 2)
        else:
            labels = pd.Index(truth[column.name].astype(str).unique())
            both = [labels.get_indexer(frame[column.name].astype(str)) % (len(labels) + 1) for frame in (truth, made)]
            sizes.append(len(labels) + 1)
        codes.append(both)
    real, ours = (np.column_stack([both[side] for both in codes]).astype(np.int32) for side in (0, 1))
    return mean_distance(real, ours, sizes, marginals(len(sizes))[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables, as `tables.py` names them")
    parser.add_argument("--tables", nargs="+", default=["adult", "bank", "nist_ma2019", "diabetes130"], choices=SOURCES)
    parser.add_argument("--epsilon", default="1")
    parser.add_argument("--fits", type=int, default=3)
    parser.add_argument("--share", type=Fraction, help="part of rho for discovery; default: as a release has it")
    parser.add_argument("--synthesizer", default="mst")
    arguments = parser.parse_args()
    print(
        "| table | variant | TV1 | TV2 | TV3 | AUC | numbers: W1 / sd | TV2 at ventiles |\n|---|---|---|---|---|---|---|---|"
    )
    for name in arguments.tables:
        split, frame = load(name, arguments.data), raw(name, arguments.data)
        order = np.random.default_rng(0).permutation(len(frame))
        train = frame.iloc[order[: int(TRAIN_SHARE * len(frame))]].reset_index(drop=True)
        for variant, change in VARIANTS.items():
            schema = declared(name)
            schema = replace(
                schema, columns=tuple(change(c) if c.is_modelled else c for c in schema.columns), constraints=()
            )
            runs = []
            for _ in range(arguments.fits):
                with threadpool_limits(1):
                    rows = made(
                        train, schema, recipe=arguments.synthesizer, epsilon=arguments.epsilon, share=arguments.share
                    )
                    codes, numbers, ventiles = judged(rows, train, declared(name).released())
                    runs.append(
                        {k: v or 0.0 for k, v in score(split, codes).items()}
                        | {"numbers": numbers, "ventiles": ventiles}
                    )
            mean = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
            print(
                f"| {name} | {variant} | {mean['tv1']:.4f} | {mean['tv2']:.4f} | {mean['tv3']:.4f} "
                f"| {mean['auc']:.3f} | {mean['numbers']:.3f} | {mean['ventiles']:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
