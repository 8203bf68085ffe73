"""Sampling against brute force: all rows of a small model, every value of every cell, with their exact chances."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dpsynth.density import Density
from dpsynth.errors import UsageError
from dpsynth.mechanisms.base import Columns
from dpsynth.models.graphical import GraphicalModel, check_constraints
from dpsynth.models.inference import joint
from dpsynth.models.junction_tree import JunctionTree
from dpsynth.models.sampling import draw
from dpsynth.schema import Column, Constraint, Schema
from dpsynth.table import Records, Table, storage

FALSE_ALARM = 1e-6  # of one statistical test, on a fresh seed; fewer than 100 of them run here
FALSE_ALARM_OF_A_FAULT = 1e-9

COLUMNS = (
    Column(name="a", type="integer", minimum=0, maximum=11, bins=3),
    Column(name="b", type="integer", minimum=0, maximum=11, bins=4, missing=True),
    Column(name="c", type="category", values=("x", "y", "z")),
    Column(name="d", type="boolean", missing=True),
    Column(name="e", type="number", minimum=0, maximum=1, bins=2, decimals=1),
)
GROUPS: list[Columns] = [(0, 2), (1, 2), (2, 3), (3, 4)]


def model_of(schema: Schema, groups: list[Columns], *, seed: int = 1, spread: float = 1.0) -> GraphicalModel:
    """Random factors, with what the schema rules out taken out."""
    tree = JunctionTree(schema.sizes, [*groups, *(columns for columns, _ in schema.rules.masks)])
    rng = np.random.default_rng(seed)
    factors = [rng.normal(scale=spread, size=shape) for shape in tree.shapes]
    for columns, mask in schema.rules.masks:
        clique = tree.holder(columns)
        factors[clique] = np.where(mask.reshape(tree.view(clique, columns)), factors[clique], -1e6)
    potentials = tuple(zip(tree.cliques, factors, strict=True))
    return GraphicalModel(schema=schema, measurements=(), total=1000.0, tree=tree, potentials=potentials)


def every_row(schema: Schema) -> tuple[npt.NDArray[np.int32], Records]:
    """All rows there are."""
    values = []
    for column in schema.modelled:
        if column.is_numeric:
            bins = column.binning
            assert bins.starts is not None
            steps = np.arange(bins.starts[0], bins.starts[-1]) / 10.0 ** (bins.decimals or 0)
            values.append([*steps.tolist(), *([np.nan] * column.missing)])
        else:
            values.append(list(range(column.size)))
    rows = list(product(*values))
    arrays = {c.name: np.array([row[i] for row in rows], dtype=storage(c)) for i, c in enumerate(schema.modelled)}
    records = Records(schema, arrays)
    return Table.encode(records).codes, records


def chances(model: GraphicalModel, where: str | None) -> npt.NDArray[np.float64]:
    """The exact chance of each of `every_row`: cells by the model, values by the density inside the rules."""
    schema = model.schema
    codes, records = every_row(schema)
    cells = joint(model.tree, model.probabilities(), tuple(range(len(schema.sizes))))
    kept = schema.rules.holds(records.columns)
    cell = np.ravel_multi_index(tuple(codes.T), schema.sizes)
    weight = kept * inside(model, records)
    ways = np.bincount(cell, weights=weight, minlength=cells.size)
    out = np.divide(weight * cells.ravel()[cell], ways[cell], out=np.zeros(len(cell)), where=ways[cell] > 0)
    if where is not None:
        out = out * schema.rules.given(where, schema).rules.holds(records.columns)
    return out / out.sum()


def inside(model: GraphicalModel, records: Records) -> npt.NDArray[np.float64]:
    """The chance of the numbers of each row, given its cells: slices of the density of each cell, one a value."""
    chance = np.ones(len(records))
    for place, column in enumerate(model.schema.modelled):
        if not column.is_numeric:
            continue
        bins = column.binning
        density = Density.of(bins, joint(model.tree, model.probabilities(), (place,))[: bins.size])
        assert bins.starts is not None
        found = np.asarray(records.columns[column.name], dtype=np.float64)
        for value in np.unique(found[~np.isnan(found)]).tolist():
            code = bins.encode(np.array([value]))[0]
            first, count = bins.starts[code], bins.starts[code + 1] - bins.starts[code]
            step = round(value * 10 ** (bins.decimals or 0)) - first
            ends = density.share(np.array([code, code]), np.array([step, step + 1]) / count)
            chance[found == value] *= ends[1] - ends[0]
    return chance


def fit_p_value(schema: Schema, drawn: Records, expected: npt.NDArray[np.float64]) -> float:
    """Chi-square of drawn rows against the chances of all rows, rare ones joined."""
    place = np.zeros(len(drawn), dtype=np.int64)
    for column in schema.modelled:
        values, size = drawn.columns[column.name], column.size
        if column.is_numeric:
            bins = column.binning
            assert bins.starts is not None
            size = int(bins.starts[-1] - bins.starts[0]) + column.missing
            steps = np.rint(values * 10.0 ** (bins.decimals or 0)) - bins.starts[0]
            values = np.where(np.isnan(values), size - 1, steps).astype(np.int64)
        place = place * size + values
    seen, want = np.bincount(place, minlength=len(expected)), expected * len(drawn)
    assert not seen[expected == 0].any()
    order = np.argsort(want)
    start = int(np.searchsorted(np.cumsum(want[order]), 100))
    want = np.append(want[order[start + 1 :]], want[order[: start + 1]].sum())
    seen = np.append(seen[order[start + 1 :]], seen[order[: start + 1]].sum())
    return float(stats.chi2.sf(((seen - want) ** 2 / want).sum(), max(1, len(want) - 1)))


CONDITIONS = [
    None,
    "c == 'x'",
    "a >= 6 and c != 'z'",
    "a in (1, 5, 6) and b is not missing",
    "e > 0.3 and not d == true",
    "c == 'x' and a == 3 or d is missing and e == 1",
    "a <= b",
    "a == b and e >= 0.7",
    "a < b + 2 and b >= 5 and c in ('x', 'y')",
    "a > b or d == true",
]
RULES: list[tuple[str, ...]] = [(), ("a <= b",), ("a != 5", "a >= b + 1 or c == 'x'", "d == true or e <= 0.4")]


@pytest.mark.slow
@pytest.mark.parametrize("rules", RULES, ids=len)
@pytest.mark.parametrize("where", CONDITIONS)
def test_rows_follow_the_exact_conditional_distribution(where: str | None, rules: tuple[str, ...]) -> None:
    schema = Schema(table="t", columns=COLUMNS, constraints=tuple(Constraint(rule=rule) for rule in rules))
    check_constraints(schema)
    model = model_of(schema, GROUPS)
    rng = np.random.default_rng(7)
    drawn = model.sample(30_000, rng=rng, where=where).decode(rng=rng)
    assert schema.rules.holds(drawn.columns).all()
    if where is not None:
        assert schema.rules.given(where, schema).rules.holds(drawn.columns).all()
    assert fit_p_value(schema, drawn, chances(model, where)) > FALSE_ALARM


def test_a_bin_that_is_weighed_as_a_whole_is_noticed() -> None:
    """The fault that partial bins invite: evidence that keeps a bin's whole weight where half its values are asked."""
    schema = Schema(table="t", columns=COLUMNS)
    model = model_of(schema, GROUPS)
    rng = np.random.default_rng(7)
    given_it = model.rules.given("a >= 6", schema)
    (((column,), weights),) = given_it.weights
    assert weights[[0, 2]].tolist() == [0, 1]
    assert 0.2 < weights[1] < 0.8
    whole = replace(given_it, weights=[((column,), np.ceil(weights))])
    codes = model._draw([], whole, 30_000, rng=rng)
    drawn = Table(schema, codes, rules=given_it.rules).decode(rng=rng)
    assert fit_p_value(schema, drawn, chances(model, "a >= 6")) < FALSE_ALARM_OF_A_FAULT


@pytest.mark.parametrize("where", [None, "a <= b", "a >= 6 and c != 'z'"])
def test_balanced_rows_have_each_value_equally_often_and_follow_the_model_given_it(where: str | None) -> None:
    schema = Schema(table="t", columns=COLUMNS)
    model = model_of(schema, GROUPS)
    rng = np.random.default_rng(7)
    drawn = model.sample(30_001, rng=rng, where=where, balance="c").decode(rng=rng)
    counts = np.bincount(drawn.columns["c"], minlength=3)
    possible = 3 if where is None or "c" not in where else 2
    assert set(counts[:possible]) <= {30_001 // possible, 30_001 // possible + 1}
    assert counts[possible:].sum() == 0
    expected = chances(model, where)
    value = every_row(schema)[1].columns["c"]
    for code in range(possible):
        alone = np.where(value == code, expected, 0)
        mine = drawn.take(drawn.columns["c"] == code)
        assert fit_p_value(schema, mine, alone / alone.sum()) > FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "balance", "why"),
    [
        ("c == 'x' and c == 'y'", None, "no row of the model"),
        ("a < 2 and a > 8", None, "no row of the model"),
        ("a == 1.5", "c", "no row of the model"),
        ("a < b and b < a", None, "too unlikely"),
        ("a >= ", None, "character 6"),
        (None, "a", "is a number"),
        (None, "nobody", "not a column"),
    ],
)
def test_what_cannot_be_drawn_is_refused(where: str | None, balance: str | None, why: str) -> None:
    model = model_of(Schema(table="t", columns=COLUMNS), GROUPS)
    with pytest.raises(UsageError) as caught:
        model.sample(10, rng=np.random.default_rng(1), where=where, balance=balance)
    assert why in str(caught.value)


def test_a_condition_that_almost_never_holds_inside_cells_is_refused() -> None:
    columns = tuple(Column(name=name, type="number", minimum=0, maximum=1, bins=2) for name in "uv")
    model = model_of(Schema(table="t", columns=columns), [(0, 1)])
    with pytest.raises(UsageError, match="too unlikely"):
        model.sample(5, rng=np.random.default_rng(1), where="u == v")


# ---- the sampler ---------------------------------------------------------------------------------------------------


@st.composite
def trees(draw_it: st.DrawFn) -> JunctionTree:
    columns = draw_it(st.integers(1, 5))
    sizes = draw_it(st.lists(st.integers(1, 5), min_size=columns, max_size=columns))
    subsets = st.lists(st.integers(0, columns - 1), min_size=1, max_size=3, unique=True).map(sorted).map(tuple)
    return JunctionTree(sizes, draw_it(st.lists(subsets, max_size=4)))


@given(trees(), st.integers(0, 300), st.integers(0, 2**32 - 1))
@settings(max_examples=80)
def test_each_group_is_shared_out_to_within_a_row(tree: JunctionTree, rows: int, seed: int) -> None:
    """Of the rows that agree with the parent, each cell gets its share, rounded up or down; empty cells get none."""
    rng = np.random.default_rng(seed)
    factors = [np.where(rng.random(shape) < 0.2, -1e6, rng.normal(size=shape)) for shape in tree.shapes]
    for clique, factor in enumerate(factors):  # one row is always possible
        factor[(0,) * factor.ndim] = 0 if clique >= 0 else factor[(0,) * factor.ndim]
    cells = tree.calibrate(factors)[1]
    codes = draw(tree, cells, rows, rng=rng)
    assert codes.shape == (rows, len(tree.sizes))
    shared_with = {edge.child: edge.shared for edge in tree.edges}
    for clique, (columns, table) in enumerate(zip(tree.cliques, cells, strict=True)):
        counts = np.zeros(table.shape)
        np.add.at(counts, tuple(codes[:, column] for column in columns), 1)
        axes = tuple(axis for axis, column in enumerate(columns) if column not in shared_with.get(clique, ()))
        group = counts.sum(axis=axes, keepdims=True)
        share = np.divide(table, table.sum(axis=axes, keepdims=True), out=np.zeros_like(table), where=table > 0)
        assert np.all(np.abs(counts - group * share) < 1 + 1e-9)
        assert not counts[table == 0].any()


@given(trees(), st.data())
@settings(max_examples=80)
def test_any_marginal_equals_brute_force(tree: JunctionTree, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    factors = [rng.normal(size=shape) for shape in tree.shapes]
    whole = np.zeros(tree.sizes)
    for columns, factor in zip(tree.cliques, factors, strict=True):
        whole = whole + factor.reshape([size if i in columns else 1 for i, size in enumerate(tree.sizes)])
    whole = np.exp(whole) / np.exp(whole).sum()
    everything = range(len(tree.sizes))
    asked = tuple(data.draw(st.lists(st.sampled_from(everything), min_size=1, unique=True)))
    want = whole.sum(axis=tuple(i for i in everything if i not in asked))
    left = [i for i in everything if i in asked]
    np.testing.assert_allclose(
        joint(tree, tree.calibrate(factors)[1], asked), want.transpose([left.index(i) for i in asked]), atol=1e-12
    )


@pytest.mark.parametrize("rules", RULES[1:], ids=len)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(0, 400))
@settings(max_examples=25)
def test_every_synthetic_row_keeps_the_constraints(rules: tuple[str, ...], seed: int, rows: int) -> None:
    schema = Schema(table="t", columns=COLUMNS, constraints=tuple(Constraint(rule=rule) for rule in rules))
    model = model_of(schema, GROUPS, seed=seed, spread=3.0)
    rng = np.random.default_rng(seed)
    table = model.sample(rows, rng=rng)
    records = table.decode(rng=rng)
    assert schema.rules.holds(records.columns).all()
    assert np.array_equal(Table.encode(records).codes, table.codes)
