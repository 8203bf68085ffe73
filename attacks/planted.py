"""Generators that leak in known ways, and honest ones: what an attack suite is tried on before it is believed.

Each makes a synthetic table from persons who were fitted, persons held back, and fresh rows of the same population. The
bad ones (B) copy, interpolate, overfit or filter; an attack must catch them. The good ones (G) know the population and
nobody in it; no attack may accuse them. Some change the persons first, because the trap lies there: a table that
everybody shares, sides of unequal size, a secret that nearly all have. All work on any schema. Whatever they mix or make
up keeps its constraints, as rows of a release do; copies are what they are.

The tables are made of the rows they are given: class P3 from real rows, P0 from rows made up by `invented`.

Sources: interpolation between neighbours: Chawla et al., J. Artif. Intell. Res. 16 (2002) 321; trees of two-column
marginals: Chow and Liu, IEEE Trans. Inf. Theory 14 (1968) 462; that leaks should be planted in graded doses: LeakPro,
and Ganev and De Cristofaro, arXiv:2312.05114, who planted them in commercial checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from attacks.allowed import Allowed
from attacks.charged import Dependence
from attacks.distances import Metric, blocks, nearest
from attacks.people import Rows
from dpsynth import PersonRecords, Records, ReviewSample, Schema, Table

Rng: TypeAlias = np.random.Generator
IntVector: TypeAlias = npt.NDArray[np.int64]
FloatVector: TypeAlias = npt.NDArray[np.float64]
Make: TypeAlias = Callable[[ReviewSample, Records, Rng], Records]
Setting: TypeAlias = Callable[[ReviewSample, Records, Rng], tuple[ReviewSample, Records]]
Sets: TypeAlias = tuple[tuple[str, ...], ...]

OUTLIERS = 30
TIMES = 10  # as many rows as were fitted, for generators that are asked for too many


def _unchanged(sample: ReviewSample, fresh: Records, rng: Rng) -> tuple[ReviewSample, Records]:
    return sample, fresh


def _untold(sample: ReviewSample) -> Sets:
    return ()


def _any_schema(schema: Schema) -> bool:
    return bool(schema.modelled)


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A generator of which it is known whether it leaks.

    Args:
        id: B for a leak, G for an honest one, and a number.
        title: What its table is, in words.
        make: From the sample, fresh rows and coins to a synthetic table. What it does not replace has as many rows as
            the fresh rows have.
        setting: How sample and fresh rows are changed beforehand.
        applies: Whether a schema has the columns it takes.
        focal: The sets of columns that it counted, where the attacker is told.
    """

    id: str
    title: str
    make: Make
    setting: Setting = _unchanged
    applies: Callable[[Schema], bool] = _any_schema
    focal: Callable[[ReviewSample], Sets] = _untold

    def __call__(self, sample: ReviewSample, fresh: Records, rng: Rng) -> Records:
        return self.make(sample, fresh, rng)


# ---- rows --------------------------------------------------------------------------------------------------------


def joined(*tables: Records) -> Records:
    """The rows of several tables."""
    names = tables[0].schema.names
    return Records(tables[0].schema, {name: np.concatenate([t.columns[name] for t in tables]) for name in names})


def changed(table: Records, **columns: Any) -> Records:
    """The same rows with other values in some columns."""
    return Records(table.schema, {**table.columns, **columns})


def from_cells(table: Records, cells: npt.ArrayLike, rng: Rng) -> Records:
    """Rows of these cells, or of near ones that the constraints allow, numbers drawn anew inside their bins."""
    return Table(table.schema, Allowed(table.schema).repaired(np.asarray(cells, dtype=np.int32))).decode(rng=rng)


def kept(table: Records, rng: Rng) -> Records:
    """The same rows; those that break a constraint are made anew from the nearest cells that are allowed."""
    broken = np.flatnonzero(~table.schema.rules.holds(table.columns))
    if not len(broken):
        return table
    anew = from_cells(table, Table.encode(table.take(broken)).codes, rng)
    place = np.arange(len(table))
    place[broken] = len(table) + np.arange(len(broken))
    return joined(table, anew).take(place)


def resampled(table: Records, share: float, rng: Rng) -> Records:
    """Each cell is replaced with this probability by that of another row."""
    out: dict[str, Any] = {}
    for name, values in table.columns.items():
        other = values[rng.integers(len(table), size=len(table))]
        out[name] = np.where(rng.random(len(table)) < share, other, values).astype(values.dtype)
    return kept(Records(table.schema, out), rng)


def side(sample: PersonRecords, persons: npt.NDArray[np.bool_]) -> PersonRecords:
    """The chosen persons, numbered anew."""
    kept = persons[sample.person]
    return PersonRecords(
        records=sample.records.take(kept),
        person=(np.cumsum(persons) - 1)[sample.person[kept]],
        persons=int(persons.sum()),
    )


def rarity(rows: Records) -> FloatVector:
    """How rare the values of each row are, column by column and taken together; shape (rows,)."""
    total = np.zeros(len(rows))
    for cells in Table.encode(rows).codes.T:
        total -= np.log(np.bincount(cells)[cells] / len(rows))
    return np.round(total, 9)


def rarest_persons(sample: PersonRecords) -> IntVector:
    """All persons with rows, the one with the rarest row first."""
    most = np.full(sample.persons, -np.inf)
    np.maximum.at(most, sample.person, rarity(sample.records))
    order: IntVector = np.argsort(-most, kind="stable").astype(np.int64)
    return order[: int(np.isfinite(most).sum())]


def _with(fresh: Records, copied: Records) -> Records:
    """Fresh rows, some of them replaced by copies."""
    return joined(fresh.take(np.arange(max(len(fresh) - len(copied), 0))), copied)


def _rows_of(sample: PersonRecords, persons: IntVector) -> Records:
    return sample.records.take(np.isin(sample.person, persons))


# ---- leaks -------------------------------------------------------------------------------------------------------


def copied_share(share: float, *, cells: float = 0.0) -> Make:
    """All rows of that share of the fitted persons, at least one, stand among fresh rows.

    Args:
        cells: This share of their cells is replaced by those of other rows.
    """

    def make(sample: ReviewSample, fresh: Records, rng: Rng) -> Records:
        persons = rng.choice(sample.fit.persons, max(round(share * sample.fit.persons), 1), replace=False)
        rows = _rows_of(sample.fit, persons)
        return _with(fresh, resampled(rows, cells, rng) if cells else rows)

    return make


def copied_rank(rank: float, *, number: int = 1) -> Make:
    """Some fitted persons stand among fresh rows: 0 the rarest, 0.5 the most average, 1 the most common."""

    def make(sample: ReviewSample, fresh: Records, rng: Rng) -> Records:
        order = rarest_persons(sample.fit)
        first = round(rank * max(len(order) - number, 0))
        return _with(fresh, _rows_of(sample.fit, order[first : first + number]))

    return make


def _most_isolated(sample: ReviewSample, fresh: Records, rng: Rng) -> Records:
    """The fitted person whose row lies farthest from its five nearest others."""
    rows = Rows.of(sample.fit.records)
    points = Metric(rows).points(rows)
    near = nearest(points, points, k=min(6, len(rows)))[:, 1:]  # the first is the row itself, or its double
    alone = np.round(near.mean(axis=1), 9) if near.shape[1] else np.zeros(len(rows))
    return _with(fresh, _rows_of(sample.fit, sample.fit.person[[int(np.argmax(alone))]].astype(np.int64)))


def _extreme(sample: ReviewSample, fresh: Records, rng: Rng) -> Records:
    """The holder of the largest value of the first numeric column that is no integer, or of the first."""
    columns = [column for column in fresh.schema.modelled if column.is_numeric]
    column = min(columns, key=lambda c: c.type == "integer")
    values = sample.fit.records.columns[column.name]
    holder = sample.fit.person[np.argmax(np.where(np.isnan(values), -np.inf, values))]
    return _with(fresh, _rows_of(sample.fit, np.array([holder])))


def _bootstrap(sample: ReviewSample, fresh: Records, rng: Rng) -> Records:
    fit = sample.fit.records
    return fit.take(rng.integers(len(fit), size=len(fit)))


def _bootstrap_of_cells(sample: ReviewSample, fresh: Records, rng: Rng) -> Records:
    rows = _bootstrap(sample, fresh, rng)
    return from_cells(rows, Table.encode(rows).codes, rng)


def _noisy(sample: ReviewSample, fresh: Records, rng: Rng) -> Records:
    """A copy whose continuous numbers moved by a thousandth of their range."""
    fit, moved = sample.fit.records, {}
    for column in fit.schema.modelled:
        if column.is_numeric and column.decimals is None and column.type == "number":
            low, high = column.binning.edges[[0, -1]]
            values = fit.columns[column.name]
            moved[column.name] = np.clip(values + rng.normal(0, 0.001 * (high - low), len(values)), low, high)
    return kept(changed(fit, **moved), rng)


def _block(sample: ReviewSample, fresh: Records, rng: Rng) -> Records:
    """Quasi-identifiers and secrets copied together, all other columns drawn independently."""
    fit = sample.fit.records
    others = [column.name for column in fit.schema.modelled if column.role == "other"]
    return kept(changed(fit, **{name: rng.permutation(fit.columns[name]) for name in others}), rng)


def tree_model(rows: Records, number: int, rng: Rng) -> Records:
    """Rows drawn from the tree of exact two-column marginals that fits best."""
    names = sorted(rows.schema.names)
    places = [names.index(name) for name in rows.schema.names]
    dependence = Dependence.of(Rows.of(rows).cells)
    return from_cells(rows, dependence.twin(number, rng)[:, places], rng)


def tree_edges(rows: Records) -> Sets:
    """The pairs of columns whose marginals `tree_model` takes."""
    names = sorted(rows.schema.names)
    tree = Dependence.of(Rows.of(rows).cells).tree(range(len(names)))
    return tuple((names[a], names[b]) for a, b in tree)


def _tree(times: float) -> Make:
    def make(sample: ReviewSample, fresh: Records, rng: Rng) -> Records:
        return tree_model(sample.fit.records, math.ceil(times * len(sample.fit.records)), rng)

    return make


def _edges(sample: ReviewSample) -> Sets:
    return tree_edges(sample.fit.records)


def _between(neighbours: int) -> Make:
    """Numbers on the line from a fitted row to one of its nearest others, categories of either."""

    def make(sample: ReviewSample, fresh: Records, rng: Rng) -> Records:
        fit = sample.fit.records
        near = _nearest_others(fit, neighbours)
        other = near[np.arange(len(fit)), rng.integers(near.shape[1], size=len(fit))]
        weight, out = rng.random(len(fit)), {}
        for column in fit.schema.modelled:
            mine = fit.columns[column.name]
            theirs = mine[other]
            if column.is_numeric:
                mixed = mine + weight * (theirs - mine)
                on_grid = column.binning.decimals is not None
                out[column.name] = np.round(mixed, column.decimals or 0) if on_grid else mixed
            else:
                out[column.name] = np.where(weight < 0.5, mine, theirs).astype(np.int32)
        return kept(Records(fit.schema, out), rng)

    return make


def _nearest_others(rows: Records, number: int) -> IntVector:
    """The nearest other rows of each; shape (rows, number)."""
    points = Metric(Rows.of(rows)).points(Rows.of(rows))
    found = np.empty((len(rows), min(number, len(rows) - 1)), dtype=np.int64)
    for part, squared in blocks(points, points):
        here = np.arange(part.start, part.stop)
        squared[here - part.start, here] = np.inf
        found[part] = np.argpartition(squared, found.shape[1] - 1, axis=1)[:, : found.shape[1]]
    return found


def _filtered(sample: ReviewSample, fresh: Records, rng: Rng) -> Records:
    """Fresh rows without the third that lies nearest to fitted rows."""
    metric = Metric(Rows.of(fresh))
    distance = nearest(metric.points(Rows.of(fresh)), metric.points(Rows.of(sample.fit.records)))[:, 0]
    return fresh.take(distance > np.quantile(distance, 1 / 3))


# ---- honest tables and settings ----------------------------------------------------------------------------------


def independent(sample: ReviewSample, fresh: Records, rng: Rng) -> Records:
    """Each column of the fresh rows shuffled by itself."""
    return kept(Records(fresh.schema, {name: rng.permutation(values) for name, values in fresh.columns.items()}), rng)


def each(sample: ReviewSample, fresh: Records, change: Callable[[Records], Records]) -> tuple[ReviewSample, Records]:
    """The same change to both sides and to the fresh rows."""
    fit, control = (
        PersonRecords(records=change(group.records), person=group.person, persons=group.persons)
        for group in (sample.fit, sample.control)
    )
    return ReviewSample(fit=fit, control=control), change(fresh)


def _coarse(sample: ReviewSample, fresh: Records, rng: Rng) -> tuple[ReviewSample, Records]:
    """Numbers become one number, categories one of two: few combinations, which many share.

    Rows that a constraint then forbids are mended alike wherever they stand.
    """
    mended: dict[bytes, Records] = {}

    def change(rows: Records) -> Records:
        out = {}
        for column in rows.schema.modelled:
            values = rows.columns[column.name]
            if column.is_numeric:
                out[column.name] = np.full(len(rows), _some_value(column.binning), dtype=np.float64)
            else:
                out[column.name] = (values % 2).astype(np.int32)
        made = Records(rows.schema, out)
        if not len(made) or made.schema.rules.holds(made.columns).all():
            return made
        codes, first, place = np.unique(Table.encode(made).codes, axis=0, return_index=True, return_inverse=True)
        for one, row in zip(codes, first, strict=True):
            if one.tobytes() not in mended:
                mended[one.tobytes()] = kept(made.take(np.array([row])), rng)
        return joined(*(mended[one.tobytes()] for one in codes)).take(place.ravel())

    return each(sample, fresh, change)


def _some_value(binning: Any) -> float:
    """A number inside the bounds, zero where it is one."""
    low, high = binning.edges[[0, -1]]
    value = min(max(0.0, low), high)
    return value if binning.decimals is None else float(round(value, binning.decimals))


def _few_control(sample: ReviewSample, fresh: Records, rng: Rng) -> tuple[ReviewSample, Records]:
    return ReviewSample(fit=sample.fit, control=_fifth(sample.control, rng)), fresh


def _few_fit(sample: ReviewSample, fresh: Records, rng: Rng) -> tuple[ReviewSample, Records]:
    fit = _fifth(sample.fit, rng)
    return ReviewSample(fit=fit, control=sample.control), fresh.take(np.arange(min(len(fresh), len(fit.records))))


def _fifth(group: PersonRecords, rng: Rng) -> PersonRecords:
    chosen = np.zeros(group.persons, dtype=bool)
    chosen[rng.permutation(group.persons)[: math.ceil(group.persons / 5)]] = True
    return side(group, chosen)


def _secrets(schema: Schema) -> list[str]:
    return [c.name for c in schema.modelled if c.role == "sensitive" and not c.is_numeric and c.size > 1]


def _skewed(sample: ReviewSample, fresh: Records, rng: Rng) -> tuple[ReviewSample, Records]:
    """The categorical secrets have one value in 95 of 100 rows, whatever else the row says."""

    def change(rows: Records) -> Records:
        names = _secrets(rows.schema)
        return kept(changed(rows, **{name: (rng.random(len(rows)) < 0.05).astype(np.int32) for name in names}), rng)

    return each(sample, fresh, change)


def _odd(sample: ReviewSample, fresh: Records, rng: Rng) -> tuple[ReviewSample, Records]:
    """Mostly zeros in one number, gaps in three rows of ten, a constant, and a category that only fresh rows have."""
    kinds = [c for c in fresh.schema.modelled if not c.is_numeric and c.size > 2]
    constant = {c.name for c in fresh.schema.modelled if not c.is_numeric and c not in kinds[:1]}
    constant = set(sorted(constant)[:1])
    zero = sorted(c.name for c in fresh.schema.modelled if c.is_numeric)[:1]

    def change(rows: Records, unseen: bool) -> Records:
        out: dict[str, Any] = {}
        for column in rows.schema.modelled:
            values: npt.NDArray[Any] = rows.columns[column.name]
            moved = rng.random(len(rows)) < 0.3
            if column.name in zero:
                values = np.where(rng.random(len(rows)) < 0.7, _some_value(column.binning), values)
            if column.name in constant:
                values = np.zeros(len(rows), dtype=np.int32)
            if column.missing and column.name not in constant:
                values = np.where(moved, np.nan if column.is_numeric else column.size - 1, values)
            if kinds and column == kinds[0]:
                values = np.where(values == 0, 1, values)
                values = np.where(rng.random(len(rows)) < 0.05, 0, values) if unseen else values
            out[column.name] = values.astype(np.float64 if column.is_numeric else np.int32)
        return kept(Records(rows.schema, out), rng)

    fit, control = (
        PersonRecords(records=change(group.records, False), person=group.person, persons=group.persons)
        for group in (sample.fit, sample.control)
    )
    return ReviewSample(fit=fit, control=control), change(fresh, True)


def _has_numbers(schema: Schema) -> bool:
    return any(column.is_numeric for column in schema.modelled)


def _has_continuous_numbers(schema: Schema) -> bool:
    return any(column.type == "number" and column.decimals is None for column in schema.modelled)


def _has_block(schema: Schema) -> bool:
    roles = {column.role for column in schema.modelled}
    return {"quasi_identifier", "sensitive", "other"} <= roles


def _copy(sample: ReviewSample, fresh: Records, rng: Rng) -> Records:
    return sample.fit.records


def _fresh(sample: ReviewSample, fresh: Records, rng: Rng) -> Records:
    return fresh


def _listed(*planted: Planted) -> Mapping[str, Planted]:
    return {one.id: one for one in planted}


LEAKS = _listed(
    Planted(id="B1", title="a copy, word for word", make=_copy),
    Planted(id="B2", title="fitted rows drawn with replacement", make=_bootstrap),
    Planted(id="B2 cells", title="the same as cells, numbers drawn anew inside their bins", make=_bootstrap_of_cells),
    Planted(id="B3", title="a copy of a table whose few rows everybody shares", make=_copy, setting=_coarse),
    Planted(
        id="B4 10%",
        title="fitted rows drawn with replacement, 10 % of cells resampled",
        make=lambda sample, fresh, rng: resampled(_bootstrap(sample, fresh, rng), 0.1, rng),
    ),
    Planted(
        id="B4 30%",
        title="fitted rows drawn with replacement, 30 % of cells resampled",
        make=lambda sample, fresh, rng: resampled(_bootstrap(sample, fresh, rng), 0.3, rng),
    ),
    Planted(
        id="B5",
        title="a copy whose continuous numbers moved by 0.1 % of their range",
        make=_noisy,
        applies=_has_continuous_numbers,
    ),
    Planted(id="B6 5%", title="5 % of the persons copied", make=copied_share(0.05)),
    Planted(id="B6 1%", title="1 % of the persons copied", make=copied_share(0.01)),
    Planted(id="B7", title="the rarest person copied", make=copied_rank(0.0)),
    Planted(id="B7 isolated", title="the most isolated person copied", make=_most_isolated),
    Planted(id="B7b random", title="one random person copied", make=copied_share(0.0)),
    Planted(id="B7b extreme", title="the holder of a largest value copied", make=_extreme, applies=_has_numbers),
    Planted(id="B8", title=f"the {OUTLIERS} rarest persons copied", make=copied_rank(0.0, number=OUTLIERS)),
    Planted(
        id="B9",
        title="identifying and sensitive columns copied together, the others independent",
        make=_block,
        applies=_has_block,
    ),
    Planted(id="B10", title=f"a tree of exact marginals, {TIMES} times as many rows as fitted", make=_tree(TIMES)),
    Planted(
        id="B10 focal",
        title="the same, and the attacker knows which pairs of columns the tree took",
        make=_tree(TIMES),
        focal=_edges,
    ),
    Planted(id="B11", title="rows between a fitted row and its nearest other", make=_between(1)),
    Planted(id="B11 5", title="rows between a fitted row and one of its five nearest others", make=_between(5)),
    Planted(id="B15", title="fresh rows, without those nearest to fitted ones", make=_filtered),
    *(
        Planted(
            id=f"B16 {dose}",
            title=f"the same tree and attacker as B10 focal, {rows} rows as fitted",
            make=_tree(times),
            focal=_edges,
        )
        for dose, rows, times in (
            ("n/2", "half as many", 0.5),
            ("n", "as many", 1),
            ("4n", "4 times as many", 4),
            ("16n", "16 times as many", 16),
        )
    ),
    Planted(
        id="B18",
        title="a copy of the persons held back",
        make=lambda sample, fresh, rng: sample.control.records,
    ),
)
"""The bad generators of attacks.md 4.1 that one table shows. B12 to B14, and B15 in other forms than a filter, are faults
of a program: many fits show them. B17, the same person on both sides, is refused before any attack starts."""

HONEST = _listed(
    Planted(id="G1", title="fresh rows of the population", make=_fresh),
    Planted(id="G2", title="fresh rows, every column shuffled by itself", make=independent),
    Planted(
        id="G4",
        title="a tree of exact marginals of fresh rows",
        make=lambda sample, fresh, rng: tree_model(fresh, len(fresh), rng),
    ),
    Planted(id="G5", title="fresh rows of a table whose few rows everybody shares", make=_fresh, setting=_coarse),
    Planted(
        id="G6 few control", title="five times more fitted persons than held back", make=_fresh, setting=_few_control
    ),
    Planted(id="G6 few fit", title="five times more persons held back than fitted", make=_fresh, setting=_few_fit),
    Planted(
        id="G7",
        title="a secret that 95 in 100 share, independent of all else",
        make=_fresh,
        setting=_skewed,
        applies=lambda schema: bool(_secrets(schema)),
    ),
    Planted(id="G8", title="zeros, gaps, a constant, a category that nobody has", make=_fresh, setting=_odd),
)
"""The good generators that need no release. G3, our own synthesizers, takes one: `benchmarks.validation` makes it."""


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


GRADED = (
    Planted(id="one average person", title="one leaked average person", make=copied_rank(0.5)),
    Planted(id="one outlier", title="one leaked outlier", make=copied_rank(0.0)),
    *(
        Planted(id=_percent(share), title=f"a copy of {_percent(share)} of the persons", make=copied_share(share))
        for share in (0.005, 0.01, 0.02, 0.05, 0.1, 1.0)
    ),
    Planted(
        id="100 %, 10 % of cells",
        title="a copy of all persons with 10 % of the cells resampled",
        make=copied_share(1.0, cells=0.1),
    ),
)
"""The same leak in growing doses."""


# ---- persons made from a schema ----------------------------------------------------------------------------------

KINDS = 4
MOST_ROWS_EACH = 5
GAPS = 0.05


def invented(schema: Schema, persons: int, rng: Rng) -> PersonRecords:
    """Persons made from a schema alone (class P0), with columns that depend on one another and uneven values.

    A person is of one of four kinds and has a strength; each column leans on both, by a weight of its own, and on
    chance. With person units, persons have one to five rows: some columns stay, the others vary from row to row. Where
    a value may be missing, one in twenty is. Rows that a constraint forbids get near cells that it allows.
    """
    at_most = min(schema.unit.max_rows, MOST_ROWS_EACH)
    counts = rng.integers(1, at_most + 1, size=persons)
    person = np.repeat(np.arange(persons), counts)
    kind, strength = rng.integers(KINDS, size=persons), rng.normal(size=persons)
    codes = np.empty((len(person), len(schema.modelled)), dtype=np.int32)
    for place, column in enumerate(schema.modelled):
        gap = column.missing_code
        cells = column.size - (gap is not None)
        shift, weight = rng.permutation(np.linspace(-1.5, 1.5, KINDS)), rng.uniform(0.4, 0.85)
        leaning = (strength * rng.choice([-1, 1]) + shift[kind]) / math.hypot(1.0, float(np.std(shift)))
        varies = at_most > 1 and rng.random() < 0.5
        chance = rng.normal(size=len(person)) if varies else rng.normal(size=persons)[person]
        where = stats.norm.cdf(weight * leaning[person] + math.sqrt(1 - weight**2) * chance)
        common = np.cumsum(rng.gamma(0.7, size=max(cells, 1)) + 0.02)
        code = np.searchsorted(common / common[-1], where, side="left").clip(0, max(cells - 1, 0))
        if gap is not None:
            code = np.where((rng.random(len(person)) < GAPS) | (cells == 0), gap, code)
        codes[:, place] = code
    records = Table(schema, Allowed(schema).repaired(codes)).decode(rng=rng)
    return PersonRecords(records=records, person=person, persons=persons)
