"""SmartNoise's synthesizers behind dpsynth's protocol for other programs (`dpsynth.external`).

    python smartnoise.py METHOD --train IN.parquet --schema S.toml --rows N --epsilon E --delta D --seed K --out OUT.parquet

METHOD is mst, aim, mwem, pacsynth, patectgan or dpctgan. This script runs in `.venv-smartnoise` (`make smartnoise`), never
imports dpsynth, and does one thing: it turns rows into cell codes of the public schema, hands them to SmartNoise with a
transformer that was fitted on made-up rows, and turns codes back into values. So SmartNoise learns no bound, no category
and no missingness from the rows, and spends all of epsilon on synthesis.

E and D are taken as SmartNoise takes them: for one row more or less. What SmartNoise does with them is its own affair;
what we know of it stands in docs/smartnoise.md. K is not used: the generators of Python and NumPy seed themselves from the
system, and so is torch's told to, although two of the methods then seed it with 0.
"""

from __future__ import annotations

import math
import sys
import tomllib
from collections.abc import Callable, Sequence
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

NUMERIC = ("integer", "number", "date", "datetime")
METHODS = ("mst", "aim", "mwem", "pacsynth", "patectgan", "dpctgan")
DEFAULT_BINS, ONE_CELL_EACH = 32, 64  # as in dpsynth/binning.py
MOST_CELLS = 5_000  # of one histogram of mwem, which keeps every combination of its columns
DROP = -1


class Domain:
    """The cells of one column, from the schema alone: the last one is the missing cell, where missing is allowed."""

    def __init__(self, column: dict[str, Any]) -> None:
        self.name: str = column["name"]
        self.kind: str = column["type"]
        self.missing: bool = column.get("missing", False)
        self.unknown: str = column.get("unknown", "missing" if self.missing else "drop_row")
        self.labels: list[str] = []
        self.places: dict[object, int] = {}
        if self.kind in NUMERIC:
            self._bin(column)
            cells = len(self.edges) - 1
        elif self.kind == "boolean":
            cells = 2
            false = column.get("false", ["false", "False", "FALSE", "0"])
            true = column.get("true", ["true", "True", "TRUE", "1"])
            self.places = {**dict.fromkeys([*false, False], 0), **dict.fromkeys([*true, True], 1)}
        else:
            self.labels = [*column["values"], *(["other"] if self.unknown == "other" else [])]
            self.places = {label: place for place, label in enumerate(self.labels)}
            cells = len(self.labels)
        self.size = cells + self.missing

    def _bin(self, column: dict[str, Any]) -> None:
        """Edges of the bins; on a grid (integers, declared decimals) also the first grid step of each."""
        self.unit = _unit(column)
        given = [self._number(edge) for edge in column.get("edges", [])]
        low, high = (given[0], given[-1]) if given else (self._number(column[key]) for key in ("minimum", "maximum"))
        decimals = column.get("decimals") if self.kind == "number" else 0
        bins = column.get("bins")
        self.scale = None if decimals is None else 10.0**decimals
        self.starts: list[int] = []
        if decimals is None:
            cuts = given or _equal_parts(low, high, bins or DEFAULT_BINS)
        else:
            step = Fraction(1, 10**decimals)
            first, last = math.ceil(low / step), math.floor(high / step)
            count = last - first + 1
            if bins is None and not given:
                bins = count if decimals == 0 and count <= ONE_CELL_EACH else min(DEFAULT_BINS, count)
            if not given and bins == count:
                self.starts = list(range(first, last + 2))
                cuts = [start * step for start in self.starts[:-1]] + [max(high, last * step)]
            else:
                cuts = given or _equal_parts(low, high, bins or 1)
                self.starts = [math.ceil(cut / step) for cut in cuts[:-1]] + [last + 1]
        self.edges = [float(cut) for cut in cuts]
        atoms = [self._number(atom) for atom in column.get("atoms", [])]
        if decimals is not None:
            inside = {int(atom / step) + more for atom in atoms for more in (0, 1)}
            self.starts = sorted({*self.starts, *inside})
            self.edges = [*(start / 10**decimals for start in self.starts[:-1]), self.edges[-1]]
        elif atoms:
            values = {float(atom) for atom in atoms}
            ends = {math.nextafter(value, math.inf) for value in values}
            cuts_at = sorted({*self.edges, *values, *(end for end in ends if end < self.edges[-1])})
            self.edges = [*cuts_at, cuts_at[-1]] if cuts_at[-1] in values else cuts_at

    def _number(self, bound: Any) -> Fraction:
        """A declared bound as a number; of dates and times, days or seconds (or what `format` shows) since 1970."""
        if self.kind not in ("date", "datetime"):
            return _exact(bound)
        return Fraction(int((datetime.fromisoformat(bound) - datetime(1970, 1, 1)).total_seconds()), self.unit)

    def encode(self, cells: pd.Series[Any]) -> np.ndarray[Any, Any]:
        """Codes of cells; DROP where the row is to be dropped. Bounds clamp."""
        gap = self.size - 1 if self.missing else DROP
        if self.kind not in NUMERIC:
            rule = {"missing": gap, "other": len(self.labels) - 1, "drop_row": DROP}[self.unknown]
            empty = gap if self.missing else rule
            return np.array([empty if pd.isna(cell) else self.places.get(cell, rule) for cell in cells], dtype=np.int64)
        if self.kind in ("date", "datetime"):
            moments = pd.to_datetime(cells).to_numpy().astype("datetime64[s]")
            gone = np.isnat(moments)
            values = np.where(gone, np.nan, np.where(gone, 0, moments.astype(np.int64)) // self.unit)
        else:
            values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        inside = np.clip(np.nan_to_num(values, nan=self.edges[0]), self.edges[0], self.edges[-1])
        if self.scale is None:
            bounds = np.array(self.edges[1:-1])
        else:
            inside = np.rint(inside * self.scale)
            bounds = np.array(self.starts[1:-1], dtype=np.float64)
        codes: np.ndarray[Any, Any] = np.searchsorted(bounds, inside, side="right").astype(np.int64)
        codes[np.isnan(values)] = gap
        return codes

    def decode(self, codes: np.ndarray[Any, Any], rng: np.random.Generator) -> Any:
        """A value of each cell, uniform over what the cell can hold; missing for the missing cell."""
        gaps = codes == self.size - 1 if self.missing else np.zeros(len(codes), dtype=bool)
        if self.kind == "boolean":
            return pd.arrays.BooleanArray(codes == 1, gaps)
        if self.labels:
            labels = np.array([*self.labels, None], dtype=object)
            return pd.array(labels[codes], dtype="string")
        cell = np.minimum(codes, len(self.edges) - 2)
        share = rng.random(len(codes))
        if self.scale is None:
            low, high = np.array(self.edges[:-1])[cell], np.array(self.edges[1:])[cell]
            values = np.clip(low * (1 - share) + high * share, low, np.nextafter(high, low))
        else:
            starts = np.array(self.starts, dtype=np.float64)
            values = np.floor(share * np.diff(starts)[cell]) + starts[:-1][cell]
            values = values / self.scale + 0.0
        if self.kind in ("date", "datetime"):
            moments = (values * self.unit).astype(np.int64).astype("datetime64[s]")
            return np.where(gaps, np.datetime64("NaT", "s"), moments)
        if self.kind == "integer":
            return pd.arrays.IntegerArray(np.where(gaps, 0, values).astype(np.int64), gaps)
        values[gaps] = np.nan
        return values


def _unit(column: dict[str, Any]) -> int:
    """Seconds that a date or time is counted in, as `dpsynth/dates.py` has it."""
    shown = column.get("format", "%S")
    return 86_400 if column["type"] == "date" else 1 if "%S" in shown else 60 if "%M" in shown else 3_600


def _exact(number: float | int) -> Fraction:
    """A number as it was written."""
    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


def _equal_parts(low: Fraction, high: Fraction, parts: int) -> list[Fraction]:
    return [low + (high - low) * part / parts for part in range(parts + 1)]


def domains_of(schema: dict[str, Any]) -> list[Domain]:
    """The modelled columns of a parsed schema."""
    return [Domain(column) for column in schema["column"] if column["type"] not in ("identifier", "text")]


def encoded(frame: pd.DataFrame, domains: Sequence[Domain]) -> list[tuple[int, ...]]:
    """Rows of codes."""
    codes = np.column_stack([domain.encode(frame[domain.name]) for domain in domains]).astype(np.int64)
    kept = codes[(codes != DROP).all(axis=1)]
    return [tuple(row) for row in kept.tolist()]


def public_rows(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Made-up rows that hold every code of every column: all that a transformer is ever fitted on."""
    return [tuple(row % size for size in sizes) for row in range(max(sizes))]


# ---- SmartNoise --------------------------------------------------------------------------------------------------


def transformer_for(sizes: Sequence[int], *, one_hot: bool = False, nullable: bool = False) -> Any:
    """SmartNoise's own transformer, fitted on `public_rows`; a fitted one it neither fits again nor charges for."""
    from snsynth.transform import ChainTransformer, LabelTransformer, OneHotEncoder, TableTransformer

    def one() -> Any:
        label = LabelTransformer(nullable=nullable)
        return ChainTransformer([label, OneHotEncoder()]) if one_hot else label

    transformer = TableTransformer([one() for _ in sizes])
    transformer.fit(public_rows(sizes))
    if not transformer.fit_complete or transformer.needs_epsilon:
        raise RuntimeError("the transformer would look at the rows")
    return transformer


def fit_mst(rows: list[tuple[int, ...]], sizes: Sequence[int], wanted: int, epsilon: float, delta: float) -> Any:
    """MST: a spanning tree of pairs, chosen and measured."""
    from snsynth.mst import MSTSynthesizer

    return _fitted(MSTSynthesizer(epsilon=epsilon, delta=delta), rows, transformer_for(sizes), epsilon)


def fit_aim(rows: list[tuple[int, ...]], sizes: Sequence[int], wanted: int, epsilon: float, delta: float) -> Any:
    """AIM: marginals chosen one after the other."""
    from snsynth.aim import AIMSynthesizer

    return _fitted(AIMSynthesizer(epsilon=epsilon, delta=delta), rows, transformer_for(sizes), epsilon)


def fit_mwem(rows: list[tuple[int, ...]], sizes: Sequence[int], wanted: int, epsilon: float, delta: float) -> Any:
    """MWEM with public histograms: SmartNoise would take the size of each column from the largest code in the rows.

    Iterations and width, which it would take from the exact number of rows, follow from the number of rows wanted.
    """
    from snsynth.mwem import Histogram, MWEMSynthesizer

    class PublicMwem(MWEMSynthesizer):  # type: ignore[misc]
        def _histogram_from_data_attributes(self, data: Any, splits: Any = ()) -> list[Any]:
            data = np.asarray(data).reshape(len(rows), len(sizes))
            out = []
            for split in splits:
                shape = [sizes[column] for column in split]
                for column in split:
                    self.mins_maxes[str(column)], self.scale[str(column)] = (0, sizes[column] - 1), 1
                cuts = [np.arange(size + 1) - 0.5 for size in shape]
                counts, bins = np.histogramdd(data[:, split], bins=cuts)
                out.append(Histogram(counts, shape, bins, split))
            return out

    iterations = 10 * max(1, math.ceil(math.log10(max(wanted, 1))))
    recipe = PublicMwem(
        epsilon=epsilon, splits=splits_of(sizes), iterations=iterations, q_count=2 * iterations, marginal_width=2
    )
    return _fitted(recipe, rows, transformer_for(sizes), epsilon)


def splits_of(sizes: Sequence[int]) -> list[np.ndarray[Any, Any]]:
    """Groups of neighbouring columns whose combinations are not too many."""
    groups: list[list[int]] = [[]]
    cells = 1
    for column, size in enumerate(sizes):
        if groups[-1] and cells * size > MOST_CELLS:
            groups.append([])
            cells = 1
        groups[-1].append(column)
        cells *= size
    return [np.array(group) for group in groups]


def fit_pacsynth(rows: list[tuple[int, ...]], sizes: Sequence[int], wanted: int, epsilon: float, delta: float) -> Any:
    """PAC-SYNTH: noisy aggregates of up to three columns."""
    from snsynth.aggregate_seeded import AggregateSeededSynthesizer

    recipe = AggregateSeededSynthesizer(epsilon=epsilon, delta=delta, reporting_length=min(3, len(sizes)))
    return _fitted(recipe, rows, transformer_for(sizes, nullable=True), epsilon)


def fit_patectgan(rows: list[tuple[int, ...]], sizes: Sequence[int], wanted: int, epsilon: float, delta: float) -> Any:
    """PATE-CTGAN: for comparison and audit only (docs/smartnoise.md)."""
    import torch
    from snsynth.pytorch.nn import PATECTGAN

    torch.seed()
    recipe = PATECTGAN(epsilon=epsilon, delta=delta, verbose=False, cuda=False)
    return _fitted(recipe, rows, transformer_for(sizes, one_hot=True), epsilon)


def fit_dpctgan(rows: list[tuple[int, ...]], sizes: Sequence[int], wanted: int, epsilon: float, delta: float) -> Any:
    """DP-CTGAN: for comparison and audit only (docs/smartnoise.md)."""
    import torch
    from snsynth.pytorch.nn import DPCTGAN

    torch.seed()
    recipe = DPCTGAN(epsilon=epsilon, delta=delta, verbose=False, cuda=False, batch_size=batch_of(wanted))
    return _fitted(recipe, rows, transformer_for(sizes, one_hot=True), epsilon)


def batch_of(wanted: int) -> int:
    """Rows in a batch of dpctgan: 500 as SmartNoise has it, fewer where fewer rows are wanted; an even number.

    It fails on tables with fewer rows than a batch has.
    """
    return min(500, 2 * max(1, wanted // 10))


def _fitted(recipe: Any, rows: list[tuple[int, ...]], transformer: Any, epsilon: float) -> Any:
    recipe.fit(rows, transformer=transformer, preprocessor_eps=0.0)
    if recipe.epsilon != epsilon:
        raise RuntimeError("the preprocessor has spent a part of epsilon")
    return recipe


FITS: dict[str, Callable[..., Any]] = {
    "mst": fit_mst,
    "aim": fit_aim,
    "mwem": fit_mwem,
    "pacsynth": fit_pacsynth,
    "patectgan": fit_patectgan,
    "dpctgan": fit_dpctgan,
}


def filled(sampled: Any, sizes: Sequence[int], wanted: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Exactly `wanted` rows of codes from what SmartNoise drew, which may be fewer, or have gaps (pacsynth).

    Rows are repeated at random; a gap gets a value from the column's other synthetic cells. Neither looks at real rows.
    """
    rows = [tuple(row) for row in np.asarray(sampled, dtype=object).reshape(-1, len(sizes)).tolist()][:wanted]
    codes = np.array([[DROP if cell is None else int(cell) for cell in row] for row in rows], dtype=np.int64)
    codes = codes.reshape(len(rows), len(sizes))
    if len(codes) < wanted:
        fresh = np.column_stack([rng.integers(size, size=wanted) for size in sizes])
        pool = codes if len(codes) else fresh
        codes = np.vstack([codes, pool[rng.integers(len(pool), size=wanted - len(codes))]])
    for column, size in enumerate(sizes):
        gaps = codes[:, column] == DROP
        present = codes[~gaps, column]
        codes[gaps, column] = rng.choice(present, gaps.sum()) if len(present) else rng.integers(size, size=gaps.sum())
    return codes


def main(words: Sequence[str]) -> int:
    """One run of the protocol."""
    method, options = words[0], dict(zip(words[1::2], words[2::2], strict=True))
    if method not in METHODS:
        print(f"METHOD must be one of {', '.join(METHODS)}", file=sys.stderr)
        return 2
    schema = tomllib.loads(Path(options["--schema"]).read_text(encoding="utf-8"))
    domains = domains_of(schema)
    sizes = [domain.size for domain in domains]
    rows = encoded(pd.read_parquet(options["--train"]), domains)
    wanted = int(options["--rows"])
    rng = np.random.default_rng()  # of cells into values: post-processing, from the system's entropy all the same
    recipe = FITS[method](rows, sizes, wanted, float(options["--epsilon"]), float(options["--delta"]))
    codes = filled(recipe.sample(wanted), sizes, wanted, rng)
    columns = {domain.name: domain.decode(codes[:, place], rng) for place, domain in enumerate(domains)}
    pd.DataFrame(columns).to_parquet(options["--out"], index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
