"""The engine against brute force on models small enough to write down whole: calibration, estimation, sampling."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dpsynth.errors import IntegrityError
from dpsynth.mechanisms.base import Measurement
from dpsynth.models.estimation import estimate, noisy_total
from dpsynth.models.graphical import GraphicalModel
from dpsynth.models.junction_tree import JunctionTree
from dpsynth.privacy import Cost
from dpsynth.schema import Schema

FALSE_ALARM = 1e-9  # of a statistical check on a fresh seed; the seeds here are fixed

Floats = npt.NDArray[np.float64]
Columns = tuple[int, ...]
Graph = tuple[list[int], list[Columns]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Sizes of one to five columns, and groups of them."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    subsets = st.sets(st.integers(0, len(sizes) - 1), min_size=1, max_size=3)
    return sizes, [tuple(sorted(group)) for group in draw(st.lists(subsets, max_size=6))]


def joint(sizes: Sequence[int], cliques: Sequence[Columns], factors: Sequence[Floats]) -> tuple[float, Floats]:
    """log Z and the probability of every cell of the whole table: the slow and obvious way."""
    log_table = np.zeros(sizes)
    for clique, factor in zip(cliques, factors, strict=True):
        log_table = log_table + factor.reshape([size if i in clique else 1 for i, size in enumerate(sizes)])
    log_total = np.logaddexp.reduce(log_table.ravel())
    return float(log_total), np.exp(log_table - log_total)


def marginal(table: Floats, columns: Columns) -> Floats:
    return table.sum(axis=tuple(i for i in range(table.ndim) if i not in columns))


# ---- the tree ------------------------------------------------------------------------------------------------------


@given(graphs())
@settings(max_examples=60)
def test_a_junction_tree_is_one(graph: Graph) -> None:
    sizes, groups = graph
    tree = JunctionTree(sizes, groups)
    for group in groups:
        assert set(group) <= set(tree.cliques[tree.holder(group)])
    assert set().union(*tree.cliques) == set(range(len(sizes)))
    assert all(not set(a) <= set(b) for a in tree.cliques for b in tree.cliques if a != b)
    assert len(tree.edges) == len(tree.cliques) - 1
    reached = {0}  # each edge comes after its parent's, so one pass down reaches everything
    for edge in tree.edges:
        assert edge.parent in reached
        reached.add(edge.child)
        assert set(edge.shared) == set(tree.cliques[edge.child]) & set(tree.cliques[edge.parent])
    assert reached == set(range(len(tree.cliques)))
    for column in range(len(sizes)):  # running intersection: the cliques of a column hang together
        holders = [i for i, clique in enumerate(tree.cliques) if column in clique]
        links = [edge for edge in tree.edges if column in edge.shared]
        assert len(links) == len(holders) - 1


@given(st.integers(2, 9), st.data())
@settings(max_examples=60)
def test_a_spanning_tree_of_pairs_needs_no_larger_clique(columns: int, data: st.DataObject) -> None:
    pairs = [tuple(sorted((column, data.draw(st.integers(0, column - 1))))) for column in range(1, columns)]
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=columns, max_size=columns))
    tree = JunctionTree(sizes, pairs)
    assert sorted(tree.cliques) == sorted(pairs)
    assert tree.cells == sum(sizes[a] * sizes[b] for a, b in pairs)


def test_a_cycle_is_triangulated_at_the_least_price() -> None:
    tree = JunctionTree([2, 50, 2, 50], [(0, 1), (1, 2), (2, 3), (0, 3)])
    assert sorted(tree.cliques) == [(0, 1, 2), (0, 2, 3)]  # the chord joins the two small columns
    with pytest.raises(ValueError, match="no clique"):
        tree.holder((1, 3))


# ---- calibration ---------------------------------------------------------------------------------------------------


@given(graphs(), st.sampled_from([0.1, 3.0, 300.0]), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_marginals_equal_brute_force(graph: Graph, spread: float, seed: int) -> None:
    sizes, groups = graph
    tree = JunctionTree(sizes, groups)
    rng = np.random.default_rng(seed)
    factors = [rng.normal(scale=spread, size=shape) for shape in tree.shapes]
    log_total, marginals = tree.calibrate(factors)
    want_total, table = joint(sizes, tree.cliques, factors)
    assert log_total == pytest.approx(want_total, rel=1e-12, abs=1e-9)
    for clique, cells in zip(tree.cliques, marginals, strict=True):
        np.testing.assert_allclose(cells, marginal(table, clique), rtol=1e-8, atol=1e-13)
        assert cells.sum() == pytest.approx(1, abs=1e-9)


@given(graphs(), st.permutations(range(5)), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_the_order_of_columns_has_no_effect_on_marginals(graph: Graph, order: list[int], seed: int) -> None:
    """Columns are renamed: the same factors on the renamed columns give the same probabilities."""
    sizes, groups = graph
    new = {column: rank for rank, column in enumerate(c for c in order if c < len(sizes))}
    tree = JunctionTree(sizes, groups)
    rng = np.random.default_rng(seed)
    factors = [rng.normal(size=shape) for shape in tree.shapes]
    log_total, _ = tree.calibrate(factors)
    _, table = joint(sizes, tree.cliques, factors)
    old = sorted(new, key=lambda column: new[column])
    renamed = JunctionTree([sizes[column] for column in old], [tuple(sorted(new[c] for c in g)) for g in tree.cliques])
    moved = [np.zeros(shape) for shape in renamed.shapes]
    for clique, factor in zip(tree.cliques, factors, strict=True):
        there = tuple(sorted(new[column] for column in clique))
        axes = [clique.index(old[column]) for column in there]
        holder = renamed.holder(there)
        moved[holder] += factor.transpose(axes).reshape(renamed.view(holder, there))
    renamed_total, cells = renamed.calibrate(moved)
    assert renamed_total == pytest.approx(log_total, abs=1e-9)
    for clique, found in zip(renamed.cliques, cells, strict=True):
        np.testing.assert_allclose(found, marginal(table.transpose(old), clique), rtol=1e-8, atol=1e-13)


# ---- estimation ----------------------------------------------------------------------------------------------------

PULL = 0.15  # docs/engine.md: standard deviations of the noise by which one nat of surprise moves a count


def _measured(columns: Columns, values: npt.ArrayLike, sigma: float) -> Measurement:
    square = Fraction(sigma).limit_denominator(1000) ** 2
    return Measurement(columns=columns, values=np.asarray(values, np.int64), sigma_squared=square, cost=Cost.zero())


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], list[Measurement], float]:
    """A small table's noisy marginals: every single column, and some pairs."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    pairs = draw(st.lists(st.sampled_from(list(combinations(range(len(sizes)), 2))), unique=True, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, sigma = draw(st.sampled_from([(0, 4.0), (30, 2.0), (2_000, 5.0), (40_000, 20.0)]))
    truth = rng.multinomial(rows, rng.dirichlet(np.full(math.prod(sizes), 0.3))).reshape(sizes)
    measured = []
    for columns in [*((c,) for c in range(len(sizes))), *pairs]:
        noise = sigma if len(columns) == 1 else 1.5 * sigma
        exact = marginal(truth, columns)
        measured.append(_measured(columns, exact + np.rint(rng.normal(0, noise, exact.shape)).astype(int), noise))
    return sizes, measured, noisy_total(measured)


def optimum(sizes: Sequence[int], measurements: Sequence[Measurement], total: float) -> Floats:
    """The distribution that estimation promises, found on the whole table by a solver run to the end.

    Maximises w N H(p) - sum |y - N M p|^2 / (2 sigma^2) over log-probabilities of every cell, by Newton's method.
    """
    sigma = np.concatenate([np.full(m.values.size, m.sigma) for m in measurements])
    rows = []
    for m in measurements:
        cells = np.indices(sizes).reshape(len(sizes), -1)
        cell_of = np.ravel_multi_index([cells[c] for c in m.columns], m.values.shape)
        rows.append((cell_of[None, :] == np.arange(m.values.size)[:, None]).astype(float))
    a = np.concatenate(rows) * total / sigma[:, None]
    y = np.concatenate([m.values.ravel() for m in measurements]) / sigma
    strength = PULL / float(np.median(sigma)) * total

    def dual(u: Floats) -> tuple[float, Floats]:
        logits = a.T @ u / strength
        log_z = np.logaddexp.reduce(logits)
        return float(strength * log_z - u @ y + u @ u / 2), a @ np.exp(logits - log_z) - y + u

    def curvature(u: Floats) -> Floats:
        logits = a.T @ u / strength
        p = np.exp(logits - np.logaddexp.reduce(logits))
        centred = a - (a @ p)[:, None]
        hessian: Floats = np.eye(len(u)) + (centred * p) @ centred.T / strength
        return hessian

    found = scipy.optimize.minimize(
        dual, np.zeros(len(y)), jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-7, "maxiter": 2_000}
    )
    assert np.abs(found.jac).max() < 1e-3
    logits = a.T @ found.x / strength
    return np.exp(logits - np.logaddexp.reduce(logits)).reshape(sizes)


def _worst(table: Floats, best: Floats, measurements: Sequence[Measurement], total: float) -> float:
    """By how many standard deviations of its noise a measured count is off the optimum's, at worst."""
    return max(
        float(np.abs(marginal(table, m.columns) - marginal(best, m.columns)).max()) * total / m.sigma
        for m in measurements
    )


def _estimated(sizes: Sequence[int], measurements: Sequence[Measurement], total: float) -> Floats:
    tree = JunctionTree(sizes, [m.columns for m in measurements])
    return joint(sizes, tree.cliques, estimate(tree, measurements, total=total))[1]


@given(problems())
@settings(max_examples=40)
def test_estimation_reaches_the_optimum(problem: tuple[list[int], list[Measurement], float]) -> None:
    sizes, measurements, total = problem
    found = _estimated(sizes, measurements, total)
    assert np.all(np.isfinite(found))
    assert _worst(found, optimum(sizes, measurements, total), measurements, total) < 0.25


def test_an_estimate_that_stops_early_or_pulls_otherwise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [3, 4]
    values = np.array([[900, 10, 40, 0], [0, 300, 0, 5], [20, 0, 0, 700]])
    measurements = [
        _measured((0,), values.sum(axis=1), 4.0),
        _measured((1,), values.sum(axis=0), 4.0),
        _measured((0, 1), values, 6.0),
    ]
    best = optimum(sizes, measurements, noisy_total(measurements))
    total = noisy_total(measurements)
    assert _worst(_estimated(sizes, measurements, total), best, measurements, total) < 0.25
    for setting, value in (("_PASSES", 3), ("_PULL", 1.0)):
        with monkeypatch.context() as patch:
            patch.setattr(f"dpsynth.models.estimation.{setting}", value)
            assert _worst(_estimated(sizes, measurements, total), best, measurements, total) > 0.25


@given(problems(), st.permutations(range(4)))
@settings(max_examples=25)
def test_the_order_of_columns_and_of_measurements_has_no_effect_on_the_estimate(
    problem: tuple[list[int], list[Measurement], float], order: list[int]
) -> None:
    sizes, measurements, total = problem
    old = [column for column in order if column < len(sizes)]
    new = {column: rank for rank, column in enumerate(old)}
    moved = []
    for m in measurements[::-1]:
        there = tuple(sorted(new[column] for column in m.columns))
        values = m.values.transpose([m.columns.index(old[column]) for column in there])
        moved.append(replace(m, columns=there, values=values))
    assert noisy_total(moved) == pytest.approx(total)
    found = _estimated(sizes, measurements, total).transpose(old)
    again = _estimated([sizes[column] for column in old], moved, total)
    assert _worst(again, found, moved, total) < 0.4


def test_measurements_without_noise_come_back() -> None:
    values = np.array([[40, 0, 10], [5, 25, 20]])
    measurements = [_measured((0,), values.sum(axis=1), 0.001), _measured((0, 1), values, 0.001)]
    np.testing.assert_allclose(_estimated([2, 3], measurements, 100.0) * 100, values, atol=0.05)


@pytest.mark.parametrize("value", [0, -1, -500, 10**9])
def test_estimation_is_finite_whatever_the_counts(value: int) -> None:
    measurements = [_measured((0,), [value, value], 3.0), _measured((1,), [value] * 3, 3.0)]
    total = noisy_total(measurements)
    assert total >= 1
    table = _estimated([2, 3], measurements, total)
    assert np.all(np.isfinite(table))
    np.testing.assert_allclose(table, 1 / 6, atol=0.02)


def test_the_total_weighs_each_sum_by_its_precision() -> None:
    good, bad = _measured((0,), [60, 40], 1.0), _measured((0, 1), [[300, 0, 0], [0, 0, 0]], 10.0)
    weights = np.array([1 / 2, 1 / 600])
    assert noisy_total([good, bad]) == pytest.approx(float(weights @ [100, 300] / weights.sum()))
    assert noisy_total([_measured((0,), [-60, -40], 1.0)]) == 1


# ---- sampling ------------------------------------------------------------------------------------------------------

MakeSchema = Callable[..., Schema]


def _model(make_schema: MakeSchema, sizes: list[int], groups: list[Columns], *, spread: float = 1.2) -> GraphicalModel:
    tree = JunctionTree(sizes, groups)
    rng = np.random.default_rng(sum(sizes))
    factors = tuple(rng.normal(scale=spread, size=shape) for shape in tree.shapes)
    return GraphicalModel(schema=make_schema(sizes), measurements=(), total=100.0, tree=tree, factors=factors)


def fit_p_value(codes: npt.NDArray[np.int32], columns: Columns, table: Floats) -> float:
    """Chi-square of sampled counts against the model's probabilities, rare cells joined."""
    chances = marginal(table, columns)
    counts = np.zeros(chances.shape, dtype=int)
    np.add.at(counts, tuple(codes[:, column] for column in columns), 1)
    expected, seen = chances.ravel() * len(codes), counts.ravel()
    order = np.argsort(expected)
    start = int(np.searchsorted(np.cumsum(expected[order]), 200))
    expected = np.append(expected[order[start + 1 :]], expected[order[: start + 1]].sum())
    seen = np.append(seen[order[start + 1 :]], seen[order[: start + 1]].sum())
    return float(stats.chi2.sf(((seen - expected) ** 2 / expected).sum(), max(1, len(expected) - 1)))


SHAPES: dict[str, tuple[list[int], list[Columns]]] = {
    "star": ([3, 4, 5, 3], [(0, 1), (0, 2), (0, 3)]),
    "chain": ([4, 3, 3, 4], [(0, 1), (1, 2), (2, 3)]),
    "two trees": ([3, 4, 2, 5], [(0, 1), (2, 3)]),
    "apart": ([5, 3, 4], []),
    "triples": ([2, 3, 3, 2, 3], [(0, 1, 2), (1, 2, 3), (1, 4)]),
    "one column": ([6], []),
    "constants": ([1, 4, 1, 3], [(0, 1), (1, 2), (2, 3)]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_pair_of_sampled_columns_follows_the_model(name: str, make_schema: MakeSchema) -> None:
    """Measured pairs, and the sibling and distant pairs that nobody measured: they follow from the model too."""
    model = _model(make_schema, *SHAPES[name])
    _, table = joint(model.tree.sizes, model.tree.cliques, model.factors)
    codes = model.sample(40_000, rng=np.random.default_rng(5)).codes
    for columns in [*combinations(range(table.ndim), 1), *combinations(range(table.ndim), 2)]:
        assert fit_p_value(codes, columns, table) > FALSE_ALARM, columns
    assert fit_p_value(codes, tuple(range(table.ndim)), table) > FALSE_ALARM


class _Unshuffled:
    """A generator that never changes an order: the fault that ties siblings to each other."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def permutation(self, count: int) -> npt.NDArray[np.int64]:
        return np.arange(count)

    def random(self, count: int) -> Floats:
        return self._rng.random(count)


def test_siblings_that_share_an_order_are_noticed(make_schema: MakeSchema) -> None:
    model = _model(make_schema, *SHAPES["star"])
    _, table = joint(model.tree.sizes, model.tree.cliques, model.factors)
    codes = model.sample(40_000, rng=_Unshuffled(5)).codes  # type: ignore[arg-type]
    assert min(fit_p_value(codes, pair, table) for pair in ((1, 2), (1, 3), (2, 3))) < FALSE_ALARM
    assert min(fit_p_value(codes, pair, table) for pair in ((0, 1), (0, 2), (0, 3))) > FALSE_ALARM


def test_a_model_that_is_a_little_off_is_noticed(make_schema: MakeSchema) -> None:
    model = _model(make_schema, *SHAPES["chain"])
    codes = model.sample(40_000, rng=np.random.default_rng(5)).codes
    _, table = joint(model.tree.sizes, model.tree.cliques, [factor * 0.9 for factor in model.factors])
    assert fit_p_value(codes, (0, 1), table) < FALSE_ALARM


@pytest.mark.parametrize("rows", [1, 7, 500])
def test_counts_of_a_clique_are_off_by_less_than_a_row_a_cell(rows: int, make_schema: MakeSchema) -> None:
    model = _model(make_schema, *SHAPES["apart"])
    codes = model.sample(rows, rng=np.random.default_rng(5)).codes
    for clique, cells in zip(model.tree.cliques, model.probabilities(), strict=True):
        counts = np.bincount(codes[:, clique[0]], minlength=len(cells))
        assert np.all(np.abs(counts - rows * cells) < 1)


def test_the_place_of_a_row_says_nothing(make_schema: MakeSchema) -> None:
    model = _model(make_schema, *SHAPES["star"])
    codes = model.sample(40_000, rng=np.random.default_rng(7)).codes
    half = np.repeat([0, 1], 20_000)
    for column, size in enumerate(model.tree.sizes):
        table = np.zeros((2, size))
        np.add.at(table, (half, codes[:, column]), 1)
        assert stats.chi2_contingency(table).pvalue > FALSE_ALARM
        next_one = np.zeros((size, size))
        np.add.at(next_one, (codes[:-1, column], codes[1:, column]), 1)
        assert stats.chi2_contingency(next_one).pvalue > FALSE_ALARM


def test_a_single_row_follows_the_model_too(make_schema: MakeSchema) -> None:
    """The start of the systematic sampling is random: a fixed one would never draw what is expected less than once."""
    model = _model(make_schema, *SHAPES["chain"])
    _, table = joint(model.tree.sizes, model.tree.cliques, model.factors)
    rng = np.random.default_rng(3)
    codes = np.concatenate([model.sample(1, rng=rng).codes for _ in range(600)])
    for columns in ((0,), (1,), (2,), (3,), (0, 1), (1, 2), (2, 3)):
        assert fit_p_value(codes, columns, table) > FALSE_ALARM
    middle = np.concatenate([model.sample(1, rng=_Unshuffled(seed)).codes for seed in [1] * 600])  # type: ignore[arg-type]
    assert fit_p_value(middle, (0,), table) < FALSE_ALARM


@pytest.mark.parametrize("rows", [0, 1, 2])
@pytest.mark.parametrize("name", SHAPES)
def test_few_rows_can_be_sampled_too(name: str, rows: int, make_schema: MakeSchema) -> None:
    model = _model(make_schema, *SHAPES[name], spread=500.0)  # most probabilities underflow to nothing
    table = model.sample(rows, rng=np.random.default_rng(1))
    assert len(table) == rows
    assert table.codes.shape == (rows, len(model.tree.sizes))
    assert np.all(table.codes >= 0)
    assert np.all(table.codes < np.array(model.tree.sizes))


def test_impossible_combinations_are_never_sampled(make_schema: MakeSchema) -> None:
    model = _model(make_schema, [3, 3, 3], [(0, 1), (1, 2)])
    factors = [np.where(np.eye(3, dtype=bool), 0.0, -800.0) for _ in model.factors]
    codes = replace(model, factors=tuple(factors)).sample(9_000, rng=np.random.default_rng(2)).codes
    assert np.array_equal(codes[:, 0], codes[:, 1])
    assert np.array_equal(codes[:, 1], codes[:, 2])


def test_sampling_repeats_with_its_generator_and_not_otherwise(make_schema: MakeSchema) -> None:
    model = _model(make_schema, *SHAPES["star"])
    first, again, other = (model.sample(50, rng=np.random.default_rng(seed)).codes for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


# ---- on disk -------------------------------------------------------------------------------------------------------


def _fitted(make_schema: MakeSchema) -> GraphicalModel:
    measurements = [
        _measured((0,), [30, 70], 2.5),
        _measured((1,), [20, 50, 29], 2.5),
        _measured((0, 1), [[10, 15, 6], [9, 33, 24]], 3.5),
    ]
    return GraphicalModel.fitted(make_schema([2, 3]), measurements, groups=[(0, 1)])


def test_a_saved_model_comes_back(make_schema: MakeSchema, tmp_path: Path) -> None:
    model = _fitted(make_schema)
    model.save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "model.npz"]
    again = GraphicalModel.load(tmp_path / "model", model.schema)
    assert again.total == model.total
    assert again.tree.cliques == model.tree.cliques
    for one, other in zip(again.factors, model.factors, strict=True):
        assert np.array_equal(one, other)
    for one, other in zip(again.measurements, model.measurements, strict=True):
        assert (one.columns, one.sigma_squared, one.cost) == (other.columns, other.sigma_squared, other.cost)
        assert np.array_equal(one.values, other.values)
    assert np.array_equal(
        again.sample(40, rng=np.random.default_rng(1)).codes, model.sample(40, rng=np.random.default_rng(1)).codes
    )


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _pickle(path: Path) -> None:
    with np.load(path) as arrays:
        content = dict(arrays)
    content["factor_0"] = np.array([{"a": 1}], dtype=object)
    np.savez(path, **content)


def _spoil(name: str, value: float) -> Callable[[Path], None]:
    def work(path: Path) -> None:
        with np.load(path) as arrays:
            content = dict(arrays)
        content[name] = np.full_like(content[name], value)
        np.savez(path, **content)

    return work


def _change(key: str, value: object) -> Callable[[Path], None]:
    def work(path: Path) -> None:
        facts = json.loads(path.with_name("model.json").read_text())
        path.with_name("model.json").write_text(json.dumps(facts | {key: value}))

    return work


DAMAGE: dict[str, Callable[[Path], None]] = {
    "no arrays": Path.unlink,
    "no facts": lambda path: path.with_name("model.json").unlink(),
    "empty arrays": lambda path: path.write_bytes(b""),
    "arrays cut short": _cut,
    "arrays that are text": lambda path: path.write_text("not a zip file"),
    "a pickle among the arrays": _pickle,
    "facts that are no JSON": lambda path: path.with_name("model.json").write_text("{"),
    "facts that are a list": lambda path: path.with_name("model.json").write_text("[]"),
    "facts that are not text": lambda path: path.with_name("model.json").write_bytes(b"\xff\xfe\x00"),
    "another format": _change("format", "dpsynth.model/9"),
    "other cliques": _change("cliques", [[0], [1]]),
    "a column too many": _change("cliques", [[0, 5]]),
    "cliques of text": _change("cliques", "01"),
    "noise that divides by zero": _change(
        "measurements", [{"columns": [0], "sigma_squared": "1/0", "rho": "0"}] * 3
    ),
    "measurements that are numbers": _change("measurements", [1, 2, 3]),
    "a total of nothing": _change("total", None),
    "a total that is no number": _change("total", float("nan")),
    "a negative total": _change("total", -5.0),
    "factors that are no numbers": _spoil("factor_0", np.nan),
    "factors that are infinite": _spoil("factor_0", np.inf),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_model_is_refused_in_one_sentence(damage: str, make_schema: MakeSchema, tmp_path: Path) -> None:
    model = _fitted(make_schema)
    model.save(tmp_path / "model")
    DAMAGE[damage](tmp_path / "model" / "model.npz")
    with pytest.raises(IntegrityError) as caught:
        GraphicalModel.load(tmp_path / "model", model.schema)
    assert caught.value.exit_code == 5
    assert caught.value.__suppress_context__


def test_a_model_of_another_schema_is_refused(make_schema: MakeSchema, tmp_path: Path) -> None:
    _fitted(make_schema).save(tmp_path / "model")
    with pytest.raises(IntegrityError):
        GraphicalModel.load(tmp_path / "model", make_schema([2, 4]))
