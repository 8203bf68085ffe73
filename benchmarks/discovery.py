"""What discovery costs in utility: the same table declared, and discovered under the same budget.

    python -m benchmarks.discovery --data DIR [--tables adult bank] [--epsilon 1] [--fits 3] [--synthesizer mst]
    python -m benchmarks.discovery --data DIR --codes [--epsilon 1]

Every variant learns from the same 80 % of the rows with the same (epsilon, 1e-9); what discovery spends is missing for
learning. Synthetic values, not cells, are judged, all in the declared domain of `tables.py`: total variation distances and
AUC as in `protocol.py`, and for numbers the Wasserstein-1 distance to the true column over its standard deviation, which
sees inside bins. Rows in which a discovered category says "other" get one of the declared values that were not found, at
random: what a person with the public list would do. Numbers are found by the tree that a release uses, or, for comparison
and for the same rho, by private quantiles (`quantiles.py`).

With `--codes`: how many values of diagnosis codes are found, and how many rows have one, whole and by their `prefix`, with
what a release spends on one open column. The torture table's postcodes and titles are as many as its persons.
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
from benchmarks.quantiles import bins_by_quantiles
from benchmarks.run import DELTA
from benchmarks.tables import SOURCES, TRAIN_SHARE, declared, load, raw
from dpsynth import Cap, Curator, Schema, discovery
from dpsynth.binning import DEFAULT_BINS
from dpsynth.reading import read_frame, read_open_frame
from dpsynth.reading.cells import VALUE
from dpsynth.schema import Column
from dpsynth.schema.vocabulary import CATEGORICAL, OTHER
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


def _bins_alone(column: Column) -> Column:
    """Its bins, between declared bounds."""
    if not column.is_numeric or (column.minimum is None and not column.edges):
        return column
    low, high = column.edges[0 :: len(column.edges) - 1] if column.edges else (column.minimum, column.maximum)
    return replace(column, minimum=low, maximum=high, bins=None, edges=None, discover=("bins",))


VARIANTS: dict[str, Callable[[Column], Column]] = {
    "declared": lambda column: column,
    "values discovered": _values,
    "numbers discovered, tree": _bins,
    "numbers discovered, quantiles from 0.25 %": _bins,
    "numbers discovered, quantiles from 3 %": _bins,
    "bins discovered, tree": _bins_alone,
    "bins discovered, quantiles": _bins_alone,
    "numbers discovered, bounds and 32 equal bins": _bounds,
    "everything discovered": _all,
}
OUTER = {
    "numbers discovered, quantiles from 0.25 %": 0.0025,
    "numbers discovered, quantiles from 3 %": 0.03,
    "bins discovered, quantiles": 0.0,
}
"""Which variants find numbers by quantiles, and the part of the rows that they leave beyond an open bound."""


def made(
    frame: pd.DataFrame, schema: Schema, *, recipe: str, epsilon: str, share: Fraction | None, outer: float | None
) -> pd.DataFrame:
    """Synthetic values, as many rows as were learned from."""
    promise = Cap.of(epsilon, DELTA)
    share = discovery.share_for(schema) if share is None or not schema.is_open else share
    searching = discovery.budget_for(schema, promise=promise, share=share)
    ours = synthesizer(recipe)
    rest = ours.cost(schema.widest(), promise=promise, share=1 - share)
    if outer is not None:
        schema = _by_quantiles(frame, schema, rho=searching.rho, outer=outer)
    purse = ThrowAway(searching + rest, unit=schema.unit)
    curator = Curator.of_frame(frame, schema, purse)
    discovery.discover(curator, budget=searching)  # nothing is left to discover after quantiles
    model = ours.fit(curator, budget=rest)
    rng = np.random.default_rng()
    records = model.sample(len(frame), rng=rng).decode(rng=rng)
    return records.to_frame()


def _by_quantiles(frame: pd.DataFrame, schema: Schema, *, rho: Fraction, outer: float) -> Schema:
    """Every open number with bins at private quantiles, for what the tree may spend."""
    cells = read_open_frame(frame, schema).cells
    numbers = [column for column in schema.columns if column.is_open]
    return schema.completed(
        bins_by_quantiles(
            column,
            cells[column.name].values[cells[column.name].kinds == VALUE],
            rho=rho / len(numbers),
            l2_squared=schema.unit.l2_squared,
            bins=DEFAULT_BINS,
            outer=outer,
        )
        for column in numbers
    )


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


CODES = (
    ("diabetes130/diabetic_data", "patient_nbr", "diag_1", (None, 3)),
    ("torture_pii/torture", "person_id", "icd_code", (None, 3, 1)),
    ("torture_pii/torture", "person_id", "ZIP", (None, 3, 1)),
    ("torture_pii/torture", "person_id", "emp_title", (None,)),
)


def codes(data: Path, *, epsilon: str) -> None:
    """Prints what discovery finds of columns of codes; three rows of a person count."""
    promise = Cap.of(epsilon, DELTA)
    print("| table | column | `prefix` | values | found | rows with one that was found |\n|---|---|---|---|---|---|")
    for file, unit, name, prefixes in CODES:
        frame = pd.read_parquet(data / f"{file}.parquet", columns=[unit, name])
        for prefix in prefixes:
            column = Column(name=name, type="category", missing=True, prefix=prefix, discover=("values",))
            schema = Schema(
                table=file, columns=(column,), entity="person", unit_column=unit, max_rows=3, basis="none: discovered"
            )
            budget = discovery.budget_for(schema, promise=promise, share=discovery.share_for(schema))
            curator = Curator.of_frame(frame, schema, ThrowAway(budget, unit=schema.unit))
            (found,) = discovery.discover(curator, budget=budget)
            shown = frame[name].dropna().str[:prefix]
            share = shown.isin(found.column.values or ()).mean()
            print(
                f"| {file.partition('/')[0]} | {name} | {prefix or 'none'} | {shown.nunique()} "
                f"| {len(set(found.column.values or ()) & set(shown))} | {100 * share:.0f} % |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables, as `tables.py` names them")
    parser.add_argument("--tables", nargs="+", default=["adult", "bank", "nist_ma2019", "diabetes130"], choices=SOURCES)
    parser.add_argument("--epsilon", default="1")
    parser.add_argument("--fits", type=int, default=3)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="VARIANT")
    parser.add_argument("--share", type=Fraction, help="part of rho for discovery; default: as a release has it")
    parser.add_argument("--synthesizer", default="mst")
    parser.add_argument("--codes", action="store_true", help="what is found of codes, whole and by prefix")
    arguments = parser.parse_args()
    if arguments.codes:
        codes(arguments.data, epsilon=arguments.epsilon)
        return
    print(
        "| table | variant | TV1 | TV2 | TV3 | AUC | numbers: W1 / sd | TV2 at ventiles |\n|---|---|---|---|---|---|---|---|"
    )
    for name in arguments.tables:
        split, frame = load(name, arguments.data), raw(name, arguments.data)
        order = np.random.default_rng(0).permutation(len(frame))
        train = frame.iloc[order[: int(TRAIN_SHARE * len(frame))]].reset_index(drop=True)
        for variant in arguments.variants:
            change, schema = VARIANTS[variant], declared(name)
            schema = replace(
                schema, columns=tuple(change(c) if c.is_modelled else c for c in schema.columns), constraints=()
            )
            runs = []
            for _ in range(arguments.fits):
                with threadpool_limits(1):
                    rows = made(
                        train,
                        schema,
                        recipe=arguments.synthesizer,
                        epsilon=arguments.epsilon,
                        share=arguments.share,
                        outer=OUTER.get(variant),
                    )
                    cells, numbers, ventiles = judged(rows, train, declared(name).released())
                    runs.append(
                        {k: v or 0.0 for k, v in score(split, cells).items()}
                        | {"numbers": numbers, "ventiles": ventiles}
                    )
            mean = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
            print(
                f"| {name} | {variant} | {mean['tv1']:.4f} | {mean['tv2']:.4f} | {mean['tv3']:.4f} "
                f"| {format(mean['auc'], '.3f') if mean['auc'] else '-'} "
                f"| {format(mean['numbers'], '.3f' if mean['numbers'] < 10 else '.0e')} | {mean['ventiles']:.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
