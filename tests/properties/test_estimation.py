"""What estimation promises, on tables small enough to write down whole, and at the edges."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain, combinations
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth.coarsening import Coarse
from dpsynth.mechanisms.base import Columns, Measurement
from dpsynth.models import estimation
from dpsynth.models.estimation import NoisyTable, _pool, noisy_total
from dpsynth.models.graphical import GraphicalModel
from dpsynth.models.inference import joint
from dpsynth.privacy import Cost
from dpsynth.schema import Column, Constraint, Schema

EXACT = 1e-3  # rows by which a measurement may be missed where one sweep fits all of them
CYCLIC = 0.05  # total variation by which it may be missed after a few sweeps around a cycle
QUIET = 0.001  # sigma of a measurement that has no noise to speak of

Floats = npt.NDArray[np.float64]


def schema_of(
    sizes: Sequence[int], rules: Sequence[str] = (), kind: Literal["category", "ordinal"] = "category"
) -> Schema:
    columns = (Column(name=f"c{i}", type=kind, values=tuple(map(str, range(size)))) for i, size in enumerate(sizes))
    return Schema(
        table="test", columns=tuple(columns), basis="test", constraints=tuple(Constraint(rule=rule) for rule in rules)
    )


def measured(columns: Columns, values: npt.ArrayLike, sigma: float) -> Measurement:
    square = Fraction(sigma).limit_denominator(10**6) ** 2
    return Measurement(columns=columns, values=np.asarray(values, np.int64), sigma_squared=square, cost=Cost.zero())


def fitted(
    sizes: Sequence[int],
    measurements: Sequence[Measurement],
    *,
    coarse: Sequence[Coarse] = (),
    rules: Sequence[str] = (),
    kind: Literal["category", "ordinal"] = "category",
) -> GraphicalModel:
    groups = [m.columns for m in measurements]
    return GraphicalModel.fitted(schema_of(sizes, rules, kind), measurements, groups, coarse=coarse)


def counts_of(model: GraphicalModel, columns: Columns | None = None) -> Floats:
    """Expected rows in each cell of some columns, or of all."""
    asked = tuple(range(len(model.schema.sizes))) if columns is None else columns
    return model.total * joint(model.tree, model.probabilities(), asked)


def marginal(table: npt.NDArray[np.generic], columns: Columns) -> Floats:
    return table.sum(axis=tuple(i for i in range(table.ndim) if i not in columns))


def assert_sound(model: GraphicalModel) -> None:
    """Finite, not negative, and all rows are somewhere, in every clique."""
    assert np.isfinite(model.total)
    assert model.total >= 1
    for cells in model.probabilities():
        assert np.all(np.isfinite(cells))
        assert np.all(cells >= 0)
        assert cells.sum() == pytest.approx(1, abs=1e-9)


SHAPES: dict[str, Callable[[int], list[Columns]]] = {
    "chain": lambda n: [(i, i + 1) for i in range(n - 1)],
    "star": lambda n: [(0, i) for i in range(1, n)],
    "triple": lambda n: [tuple(range(min(3, n)))],
    "cycle": lambda n: list(combinations(range(n), 2)),
}


@st.composite
def truths(draw: st.DrawFn) -> npt.NDArray[np.int64]:
    """A small table, whole: how many rows there are of each kind."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.sampled_from([1, 30, 2_000, 40_000]))
    return rng.multinomial(rows, rng.dirichlet(np.full(math.prod(sizes), 0.3))).reshape(sizes)


def answers(
    truth: npt.NDArray[np.int64], pairs: Sequence[Columns], sigma: float, *, seed: int | None = None
) -> list[Measurement]:
    """Every single column and some column sets, with noise if there is a seed."""
    asked = [*((c,) for c in range(truth.ndim)), *pairs]
    rng = np.random.default_rng(seed)
    exact = [marginal(truth, columns) for columns in asked]
    noise = [0 if seed is None else np.rint(rng.normal(0, sigma, table.shape)).astype(int) for table in exact]
    return [measured(columns, table + z, sigma) for columns, table, z in zip(asked, exact, noise, strict=True)]


# ---- what was measured comes back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@given(truth=truths())
@settings(max_examples=25)
def test_measurements_without_noise_come_back(shape: str, truth: npt.NDArray[np.int64]) -> None:
    measurements = answers(truth, SHAPES[shape](truth.ndim), QUIET)
    model = fitted(truth.shape, measurements)
    assert_sound(model)
    assert model.total == pytest.approx(truth.sum())
    whole = counts_of(model)
    for m in measurements:
        off = np.abs(marginal(whole, m.columns) - m.values)
        assert off.sum() / 2 <= (CYCLIC * truth.sum() if shape == "cycle" else EXACT)


def test_what_was_not_measured_follows_from_independence_given_the_rest() -> None:
    truth = np.random.default_rng(3).integers(0, 50, (3, 4, 2))
    whole = counts_of(fitted(truth.shape, answers(truth, [(0, 1), (1, 2)], QUIET)))
    want = np.einsum("ab,bc->abc", truth.sum(axis=2), truth.sum(axis=0)) / truth.sum(axis=(0, 2))[:, None]
    np.testing.assert_allclose(whole, want, atol=EXACT)


@given(truths(), st.sampled_from([1.0, 20.0, 500.0]), st.sampled_from(list(SHAPES)), st.integers(0, 99))
@settings(max_examples=40)
def test_noise_of_any_size_leaves_a_distribution(
    truth: npt.NDArray[np.int64], sigma: float, shape: str, seed: int
) -> None:
    """And single columns, where nothing cyclic was measured, are the noisy ones put right: none negative, in total."""
    measurements = answers(truth, SHAPES[shape](truth.ndim), sigma, seed=seed)
    model = fitted(truth.shape, measurements)
    assert_sound(model)
    assert model.total == noisy_total(measurements)
    if shape == "chain":
        first = counts_of(model, (0,))
        assert np.all(first >= 0)
        assert first.sum() == pytest.approx(model.total)


# ---- pooling --------------------------------------------------------------------------------------------------------


def best_linear(tables: Sequence[NoisyTable], sizes: Sequence[int]) -> list[Floats]:
    """The best linear unbiased estimate of each table, by least squares over all cells of the whole table."""
    rows, wanted, places = [], [], np.indices(sizes).reshape(len(sizes), -1)
    for table in tables:
        cell = np.ravel_multi_index([places[column] for column in table.columns], table.values.shape)
        rows.append((cell[None, :] == np.arange(table.values.size)[:, None]) / np.sqrt(table.variance.reshape(-1, 1)))
        wanted.append((table.values / np.sqrt(table.variance)).ravel())
    whole = np.linalg.lstsq(np.concatenate(rows), np.concatenate(wanted), rcond=None)[0].reshape(sizes)
    return [marginal(whole, table.columns) for table in tables]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data(), st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_pooled_tables_are_the_best_linear_unbiased_estimates(sizes: list[int], data: st.DataObject, seed: int) -> None:
    """Gauss-Markov, against least squares; afterwards all tables agree."""
    everything = list(chain(*(combinations(range(len(sizes)), n) for n in range(1, len(sizes) + 1))))
    asked = data.draw(st.lists(st.sampled_from(everything), min_size=1, max_size=5, unique=True))
    rng = np.random.default_rng(seed)
    tables = []
    for columns in asked:
        shape = [sizes[column] for column in columns]
        noise = np.full(shape, rng.choice([0.5, 3.0, 40.0]))
        tables.append(NoisyTable(columns=columns, values=rng.normal(50, 20, shape), variance=noise))
    want = best_linear(tables, sizes)
    _pool(tables)
    for table, best in zip(tables, want, strict=True):
        np.testing.assert_allclose(table.values, best, atol=1e-8)
    for one, other in combinations(tables, 2):
        both = tuple(sorted(set(one.columns) & set(other.columns)))
        np.testing.assert_allclose(one.marginal(both)[0].ravel(), other.marginal(both)[0].ravel(), atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@given(truth=truths(), order=st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_measuring_twice_is_measuring_with_half_the_variance(
    shape: str, truth: npt.NDArray[np.int64], order: object
) -> None:
    once = answers(truth, SHAPES[shape](truth.ndim), 8.0, seed=4)
    twice = [replace(m, sigma_squared=2 * m.sigma_squared) for m in once]
    np.testing.assert_allclose(
        counts_of(fitted(truth.shape, twice + twice)), counts_of(fitted(truth.shape, once)), rtol=1e-7, atol=1e-7
    )


@pytest.mark.parametrize("shape", ["chain", "star", "triple"])
@given(truth=truths(), data=st.data())
@settings(max_examples=20)
def test_the_order_of_measurements_has_no_effect(shape: str, truth: npt.NDArray[np.int64], data: st.DataObject) -> None:
    """Where nothing is cyclic; around a cycle the sweeps stop before they forget where they began."""
    measurements = answers(truth, SHAPES[shape](truth.ndim), 8.0, seed=4)
    measurements += answers(truth, SHAPES[shape](truth.ndim)[:1], 5.0, seed=5)
    moved = data.draw(st.permutations(measurements))
    np.testing.assert_allclose(
        counts_of(fitted(truth.shape, moved)), counts_of(fitted(truth.shape, measurements)), rtol=1e-6, atol=EXACT
    )


def test_a_measurement_counts_by_the_inverse_of_its_variance() -> None:
    truth, wrong = np.array([[300, 40, 60], [10, 250, 90]]), np.array([[50, 400, 60], [200, 20, 20]])
    good = answers(truth, [(0, 1)], 1.0)
    loud, precise = answers(wrong, [(0, 1)], 1e5), answers(wrong, [(0, 1)], 1e-3)
    alone = counts_of(fitted((2, 3), good))
    np.testing.assert_allclose(alone, truth, atol=3)
    np.testing.assert_allclose(counts_of(fitted((2, 3), good + loud)), alone, atol=EXACT)
    np.testing.assert_allclose(counts_of(fitted((2, 3), good + precise)), wrong, atol=EXACT)
    even = counts_of(fitted((2, 3), good + answers(wrong, [(0, 1)], 1.0)))
    np.testing.assert_allclose(even, (truth + wrong) / 2, atol=3)


def test_the_total_weighs_each_sum_by_its_precision() -> None:
    good, bad = measured((0,), [60, 40], 1.0), measured((0, 1), [[300, 0, 0], [0, 0, 0]], 10.0)
    weights = np.array([1 / 2, 1 / 600])
    assert noisy_total([good, bad]) == pytest.approx(float(weights @ [100, 300] / weights.sum()))
    assert noisy_total([measured((0,), [-60, -40], 1.0)]) == 1


# ---- shrinkage ------------------------------------------------------------------------------------------------------


def distances(seed: int, sigma: float = 15.0) -> tuple[float, float]:
    """Of the estimate and of the noisy pair, in L1 rows from what independent columns have."""
    rng = np.random.default_rng(seed)
    expected = 1_000 * np.multiply.outer(rng.dirichlet(np.full(10, 3)), rng.dirichlet(np.full(12, 3)))
    truth = np.rint(expected).astype(int)
    measurements = [*answers(truth, [], 5.0, seed=seed), measured((0, 1), rng.normal(truth, sigma), sigma)]
    raw = np.abs(measurements[-1].values - expected).sum()
    return float(np.abs(counts_of(fitted(expected.shape, measurements)) - expected).sum()), float(raw)


def test_noise_alone_falls_back_to_independence() -> None:
    """The one-way noise alone moves about 100 rows, the noise of the pair about 1,450."""
    found, raw = np.mean([distances(seed) for seed in range(5)], axis=0)
    assert found < 0.2 * raw


def test_a_fit_that_does_not_shrink_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpsynth.models.estimation._RELATIVE", np.full(9, 100.0))
    monkeypatch.setattr("dpsynth.models.estimation._ABSOLUTE", np.full(2, 100.0))
    found, raw = np.mean([distances(seed) for seed in range(2)], axis=0)
    assert found > 0.4 * raw


def test_strong_association_stays() -> None:
    truth = np.diag(np.full(8, 500))
    rng = np.random.default_rng(2)
    measurements = [*answers(truth, [], 10.0, seed=1), measured((0, 1), rng.normal(truth, 20), 20.0)]
    found = counts_of(fitted(truth.shape, measurements))
    assert np.diag(found).min() > 430  # in four standard deviations of the noise; independence would leave 62
    assert found.sum() - np.trace(found) < 0.05 * 4_000


def off(kind: Literal["category", "ordinal"], signal: Floats, *, seeds: int = 6) -> float:
    """Mean L1 error, in rows, of a pair of 2 and 24 cells that moves away from independence by a part of each cell."""
    truth = np.rint(500 * np.vstack([1 + signal, 1 - signal])).astype(int)
    errors = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        noisy = [*answers(truth, [], 20.0, seed=seed), measured((0, 1), rng.normal(truth, 150), 150.0)]
        errors.append(np.abs(counts_of(fitted(truth.shape, noisy, kind=kind)) - truth).sum())
    return float(np.mean(errors))


SMOOTH, RUGGED = 0.5 * np.sin(np.linspace(0, 6, 24)), 0.5 * np.random.default_rng(3).choice([-1, 1], 24)


def test_a_signal_that_is_smooth_along_an_ordered_column_is_found_in_more_noise() -> None:
    assert off("ordinal", SMOOTH) < 0.75 * off("category", SMOOTH)


def test_a_smoothing_of_cells_that_are_alike_to_no_neighbour_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpsynth.models.estimation._OWN", 1.0)
    assert off("ordinal", SMOOTH) > 0.9 * off("category", SMOOTH)


def test_a_rugged_signal_is_not_smoothed_away() -> None:
    """Its own evidence speaks for it."""
    assert off("ordinal", RUGGED) < 1.03 * off("category", RUGGED)


def test_a_smoothing_that_knows_no_evidence_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    rough = estimation._rough
    monkeypatch.setattr(estimation, "_rough", lambda *known: (-1e9, rough(*known)[1]))
    assert off("ordinal", RUGGED) > 1.06 * off("category", RUGGED)


@pytest.mark.parametrize("sigma", [1e-3, 1.0, 1e4, 1e9])
@pytest.mark.parametrize("rows", [0, 1, 10**6])
def test_smoothing_stays_sound_in_any_noise_and_keeps_the_rules(sigma: float, rows: int) -> None:
    truth = rows * np.random.default_rng(2).integers(0, 3, (5, 9))
    noisy = answers(truth, [(0, 1)], sigma, seed=3)
    model = fitted(truth.shape, noisy, rules=["c0 != '1' or c1 == '2'"], kind="ordinal")
    assert_sound(model)
    assert np.delete(counts_of(model)[1], 2).sum() == 0


# ---- structural zeros -----------------------------------------------------------------------------------------------

RULE = "c0 != '1' or c1 == '2'"


@pytest.mark.parametrize(
    "pairs", [[], [(0, 1)], [(1, 2)], [(0, 1), (1, 2)], [(0, 2), (1, 2)], [(0, 1), (0, 2), (1, 2)]]
)
@pytest.mark.parametrize("sigma", [QUIET, 3.0, 200.0])
def test_what_the_schema_rules_out_stays_at_exactly_nothing(pairs: list[Columns], sigma: float) -> None:
    """Whatever was counted there: noise, and here even rows."""
    truth = np.random.default_rng(5).integers(0, 40, (3, 4, 2))
    model = fitted(truth.shape, answers(truth, pairs, sigma, seed=6), rules=[RULE])
    assert_sound(model)
    pair = counts_of(model, (0, 1))
    assert pair[1, [0, 1, 3]].tolist() == [0, 0, 0]
    assert np.all(pair[[0, 2]] > 0)
    assert counts_of(model)[1][[0, 1, 3]].sum() == 0


def test_a_fit_without_the_rule_is_noticed() -> None:
    truth = np.random.default_rng(5).integers(0, 40, (3, 4, 2))
    assert counts_of(fitted(truth.shape, answers(truth, [], 3.0, seed=6)), (0, 1))[1, 0] > 0


def test_measurements_that_keep_the_rule_come_back_under_it() -> None:
    truth = np.random.default_rng(5).integers(1, 40, (3, 4, 2))
    truth[1, [0, 1, 3]] = 0
    measurements = answers(truth, [(0, 1), (1, 2)], QUIET)
    model = fitted(truth.shape, measurements, rules=[RULE])
    for m in measurements:
        off = np.abs(counts_of(model, m.columns) - m.values)
        assert off.sum() / 2 <= EXACT


# ---- coarse columns -------------------------------------------------------------------------------------------------

GROUPS = np.array([0, 0, 1, 1, 1, 2])


def coarse_problem(sigma: float, seed: int | None = None) -> tuple[npt.NDArray[np.int64], list[Measurement], Coarse]:
    """A column of six cells, measured alone; three merged cells of it, measured with another column."""
    truth = np.random.default_rng(8).integers(5, 90, (6, 3))
    made = Coarse(column=0, groups=GROUPS)
    merged = truth.T @ made.mask
    noise = 0 if seed is None else np.rint(np.random.default_rng(seed).normal(0, sigma, merged.shape)).astype(int)
    return truth, [*answers(truth, [], sigma, seed=seed), measured((1, 2), merged + noise, sigma)], made


def test_coarse_measurements_come_back_and_the_fine_ones_within_them() -> None:
    truth, measurements, made = coarse_problem(QUIET)
    model = fitted(truth.shape, measurements, coarse=[made])
    assert_sound(model)
    np.testing.assert_allclose(counts_of(model, (0,)), truth.sum(axis=1), atol=EXACT)
    np.testing.assert_allclose(counts_of(model, (1,)), truth.sum(axis=0), atol=EXACT)
    np.testing.assert_allclose(counts_of(model, (1, 2)), measurements[-1].values, atol=EXACT)
    assert np.array_equal(counts_of(model, (0, 2)) > 0, made.mask)


@pytest.mark.parametrize("seed", range(3))
def test_within_a_group_the_fine_measurement_says_what_is_likely(seed: int) -> None:
    """With noise too: the same shares of each group, whatever the other column is."""
    truth, measurements, made = coarse_problem(8.0, seed)
    fine = np.maximum(measurements[0].values, 0)
    pair = counts_of(fitted(truth.shape, measurements, coarse=[made]), (0, 1))
    for group in range(3):
        inside = np.flatnonzero(group == GROUPS)
        shares = pair[inside] / pair[inside].sum(axis=0)
        np.testing.assert_allclose(shares, np.tile(shares[:, :1], 3), rtol=1e-9)
        np.testing.assert_allclose(shares[:, 0], fine[inside] / fine[inside].sum(), atol=0.02)


def test_a_coarse_column_of_one_cell_is_as_good_as_none() -> None:
    truth = np.random.default_rng(8).integers(5, 90, (6, 3))
    plain = counts_of(fitted(truth.shape, answers(truth, [], 3.0, seed=1)))
    model = fitted(
        truth.shape, answers(truth, [], 3.0, seed=1), coarse=[Coarse(column=0, groups=np.zeros(6, np.int64))]
    )
    np.testing.assert_allclose(counts_of(model), plain, rtol=1e-6)


# ---- labels ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@given(truth=truths(), data=st.data())
@settings(max_examples=25)
def test_the_order_of_columns_and_of_cells_has_no_effect(
    shape: str, truth: npt.NDArray[np.int64], data: st.DataObject
) -> None:
    """Without noise: columns in other places, cells with other codes, and the same table comes out, moved likewise."""
    old = data.draw(st.permutations(range(truth.ndim)))
    codes = [np.array(data.draw(st.permutations(range(size))), dtype=int) for size in truth.shape]
    pairs = SHAPES[shape](truth.ndim)
    moved = truth[np.ix_(*codes)].transpose(old)
    there = [tuple(sorted(old.index(column) for column in pair)) for pair in pairs]
    one = counts_of(fitted(truth.shape, answers(truth, pairs, QUIET)))
    other = counts_of(fitted(moved.shape, answers(moved, there, QUIET)))
    off = np.abs(one[np.ix_(*codes)].transpose(old) - other).sum() / 2
    assert off <= (CYCLIC * truth.sum() if shape == "cycle" else EXACT)


# ---- the edges ------------------------------------------------------------------------------------------------------

EDGES: dict[str, tuple[list[int], list[tuple[Columns, int, float]]]] = {  # sizes; columns, count in each cell, sigma
    "nobody": ([2, 3], [((0,), 0, 3.0), ((1,), 0, 3.0), ((0, 1), 0, 3.0)]),
    "one row in all": ([2, 2], [((0,), 0, 3.0), ((1,), 1, 0.001), ((0, 1), 0, 3.0)]),
    "negative counts": ([2, 3], [((0,), -500, 3.0), ((1,), -500, 3.0), ((0, 1), -500, 3.0)]),
    "noise that dwarfs": ([2, 3], [((0,), 5, 1e6), ((1,), -5, 1e6), ((0, 1), 7, 1e6)]),
    "huge counts": ([2, 3], [((0,), 3 * 10**15, 1e-3), ((1,), 2 * 10**15, 3.0), ((0, 1), 10**15, 1e-3)]),
    "counts that disagree": ([2, 3], [((0,), 10**9, 3.0), ((1,), -(10**9), 3.0), ((0, 1), 10**9, 3.0)]),
    "columns of one cell": ([1, 1, 4], [((0,), 9, 3.0), ((1,), 9, 3.0), ((0, 1), 9, 3.0), ((1, 2), 2, 3.0)]),
    "only a pair": ([2, 3], [((0, 1), 4, 3.0)]),
    "only one of the columns": ([2, 3, 4], [((1,), 4, 3.0)]),
    "one cell": ([1], [((0,), -3, 3.0)]),
}


@pytest.mark.parametrize("name", EDGES)
def test_estimation_is_finite_whatever_the_counts(name: str) -> None:
    """Cells with equal counts are equally likely, whatever these are."""
    sizes, asked = EDGES[name]
    model = fitted(sizes, [measured(c, np.full([sizes[i] for i in c], value), sigma) for c, value, sigma in asked])
    assert_sound(model)
    whole = counts_of(model)
    np.testing.assert_allclose(whole / model.total, 1 / whole.size, rtol=1e-3)


@pytest.mark.parametrize("sigma", [0.001, 5.0, 1e5])
def test_noise_far_above_the_counts_leaves_a_distribution(sigma: float) -> None:
    rng = np.random.default_rng(7)
    for _ in range(10):
        values = [np.rint(rng.normal(-3 * sigma, 10 * sigma + 10, shape)) for shape in ((6,), (5,), (6, 5))]
        model = fitted([6, 5], [measured(c, v, sigma) for c, v in zip([(0,), (1,), (0, 1)], values, strict=True)])
        assert_sound(model)
        assert counts_of(model).sum() == pytest.approx(model.total)


@pytest.mark.slow
def test_a_chain_of_a_thousand_columns_and_few_rows() -> None:
    rng, sizes = np.random.default_rng(9), [2, 3] * 500
    measurements = [measured((n,), rng.normal(5, 30, size), 30.0) for n, size in enumerate(sizes)]
    measurements += [measured((n, n + 1), rng.normal(2, 30, (sizes[n], sizes[n + 1])), 30.0) for n in range(999)]
    model = fitted(sizes, measurements)
    assert_sound(model)
    assert counts_of(model, (0, 999)).sum() == pytest.approx(model.total)
    assert model.sample(7, rng=rng).codes.shape == (7, 1_000)
