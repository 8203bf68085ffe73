"""What the recipes share: merging rare cells, guesses, and choosing marginals within a bound on the model."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dpsynth.coarsening import Coarse
from dpsynth.curator import Curator
from dpsynth.errors import UsageError
from dpsynth.mechanisms.base import Columns, Measurement
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.mechanisms.noisy_max import Forest
from dpsynth.models.graphical import GraphicalModel, frame
from dpsynth.models.junction_tree import JunctionTree
from dpsynth.privacy import Cap, Cost
from dpsynth.schema import Column, Constraint, Schema
from dpsynth.synthesizers.aim import Aim, _triples
from dpsynth.synthesizers.measuring import measured
from dpsynth.synthesizers.measuring import one_way as measured_alone
from dpsynth.synthesizers.selection import (
    check_pairs,
    columns_first,
    errors_of_columns,
    expected_alone,
    expected_of,
    guessed_sigma,
    in_use,
    merged,
    pairs_of,
    ranked,
    worth_measuring,
)


def one_way(column: int, values: npt.ArrayLike, sigma: int = 2) -> Measurement:
    return Measurement(
        columns=(column,), values=np.asarray(values, np.int64), sigma_squared=Fraction(sigma) ** 2, cost=Cost.zero()
    )


COLUMNS = (
    Column(name="age", type="integer", minimum=0, maximum=99, bins=5),
    Column(name="grade", type="ordinal", values=("low", "middle", "high")),
    Column(name="town", type="category", values=("a", "b", "c", "d")),
    Column(name="income", type="number", minimum=0, maximum=3, bins=3, missing=True),
    Column(name="tied", type="category", values=("a", "b", "c")),
    Column(name="other", type="boolean"),
)
SCHEMA = Schema(
    table="t", columns=COLUMNS, basis="test", constraints=(Constraint(rule="tied != 'a' or other == true"),)
)
ONES = [
    one_way(0, [90, 2, 2, 1, 80]),
    one_way(1, [1, 1, 1]),
    one_way(2, [5, 80, 4, 90]),
    one_way(3, [2, 90, 1, 50]),
    one_way(4, [1, 1, 90]),
    one_way(5, [40, 60]),
]


# ---- merging --------------------------------------------------------------------------------------------------------


def test_rare_cells_are_merged_with_neighbours_where_there_is_an_order() -> None:
    made = merged(SCHEMA, ONES, least=3.0)
    assert [(coarse.column, coarse.groups.tolist()) for coarse in made] == [
        (0, [0, 1, 1, 1, 1]),  # 2 + 2 + 1 is not 6 yet, with the next cell it is
        (1, [0, 0, 0]),
        (2, [2, 0, 2, 1]),
        (3, [2, 0, 2, 1]),  # missing lies between no neighbours
    ]
    assert merged(SCHEMA, ONES, least=0.1) == []


def test_cells_that_a_constraint_tells_apart_are_not_merged() -> None:
    free = Schema(table="t", columns=COLUMNS, basis="test")
    assert [made.column for made in merged(free, ONES, least=3.0)] == [0, 1, 2, 3, 4]
    rules = ("age >= 40 or other == true", "income is not missing or other == true", "tied != 'a' or other == true")
    ruled = replace(free, constraints=tuple(Constraint(rule=rule) for rule in rules))
    assert [(made.column, made.groups.tolist()) for made in merged(ruled, ONES, least=3.0)] == [
        (0, [0, 0, 1, 1, 1]),  # 20 to 39 does not join 40 to 59
        (1, [0, 0, 0]),
        (2, [2, 0, 2, 1]),
        (3, [1, 0, 1, 2]),  # nor do the missing join anybody
    ]  # and of 'tied' nothing is left to merge


def test_what_is_merged_is_measured_in_its_place() -> None:
    made = merged(SCHEMA, ONES, least=3.0)
    assert in_use(SCHEMA, made) == [6, 7, 8, 9, 4, 5]
    assert in_use(SCHEMA, made[1:2]) == [0, 6, 2, 3, 4, 5]
    sizes, held = frame(SCHEMA, [], made)
    assert sizes == (5, 3, 4, 4, 3, 2, 2, 1, 3, 3)
    assert {(0, 6), (1, 7), (2, 8), (3, 9), (4, 5)} == set(held)
    assert pairs_of([3, 1, 2], [2, 2, 2, 2]) == [(1, 3), (2, 3), (1, 2)]
    assert pairs_of([3, 1, 2], [2, 1, 2, 2]) == [(2, 3)]  # one cell says nothing


# ---- guesses --------------------------------------------------------------------------------------------------------


@pytest.fixture
def model() -> GraphicalModel:
    pair = Measurement(
        columns=(5, 8), values=np.array([[60, 2, 1], [20, 88, 8]]), sigma_squared=Fraction(4), cost=Cost.zero()
    )
    return GraphicalModel.fitted(SCHEMA, [*ONES, pair], [(5, 8)], coarse=merged(SCHEMA, ONES, least=3.0))


def test_guesses_are_whole_counts_in_the_shape_of_their_marginals(model: GraphicalModel) -> None:
    wanted: list[Columns] = [(0, 2), (4, 5), (5, 8), (2, 5), (6, 8)]
    sizes = model.tree.sizes
    for guess, columns in zip(expected_of(model, wanted), wanted, strict=True):
        assert (guess.dtype, guess.shape) == (np.int64, tuple(sizes[column] for column in columns))
        names = [SCHEMA.names[column] for column in columns if column < 6]
        if len(names) == 2:
            assert np.array_equal(guess, np.rint(model.marginal(names, refits=0).counts))
    alone = list(expected_alone(model, wanted))
    for guess, columns in zip(alone, wanted, strict=True):
        assert (guess.dtype, guess.shape) == (np.int64, tuple(sizes[column] for column in columns))
        one, other = guess.sum(axis=1), guess.sum(axis=0)
        assert np.abs(guess - np.outer(one, other) / guess.sum()).max() < 3  # independent, but for rounding
    tied = next(expected_of(model, [(4, 5)]))
    assert tied[0, 0] == 0  # what no row can be is not expected


# ---- what is worth measuring ----------------------------------------------------------------------------------------


@st.composite
def choices(draw: st.DrawFn) -> tuple[list[int], list[Columns], dict[Columns, float]]:
    """Sizes of columns, what the model holds already, and distances of candidates."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=2, max_size=7))
    column = st.integers(0, len(sizes) - 1)
    held = draw(st.lists(st.sets(column, min_size=1, max_size=2).map(sorted).map(tuple), max_size=3))
    sets = draw(st.lists(st.sets(column, min_size=2, max_size=3).map(sorted).map(tuple), max_size=12, unique=True))
    return sizes, held, {columns: draw(st.floats(-100, 1_000)) for columns in sets}


def gain(distance: float, cells: int, sigma: float) -> float:
    """Rows that are repaired, by hand: a half of the distance, set against 0.4 deviations of noise a cell."""
    signal = distance / 2
    return signal**2 / (signal + 0.4 * sigma * cells)


@pytest.mark.slow
@given(choices(), st.integers(2, 400), st.sampled_from([0.01, 0.3, 10.0]))
@settings(max_examples=150)
def test_the_model_of_what_is_chosen_never_has_too_many_cells(
    problem: tuple[list[int], list[Columns], dict[Columns, float]], max_cells: int, sigma: float
) -> None:
    sizes, held, distances = problem
    assume(JunctionTree(sizes, held).cells <= max_cells)
    exact = [0.0] * len(sizes)
    chosen = worth_measuring(distances, errors=exact, sizes=sizes, held=held, sigma=sigma, max_cells=max_cells)
    assert JunctionTree(sizes, [*held, *chosen]).cells <= max_cells
    assert len(set(chosen)) == len(chosen)
    assert all(distances[columns] > 0 for columns in chosen)
    everything = worth_measuring(distances, errors=exact, sizes=sizes, held=held, sigma=sigma, max_cells=10**9)
    assert all(distances[columns] > 0 for columns in everything)
    cells = {columns: math.prod(sizes[c] for c in columns) for columns in distances}
    if everything:  # one fewer of them, with less noise each, would repair no more
        many, fewer = (
            sum(gain(distances[c], cells[c], sigma * math.sqrt(count)) for c in everything[:count])
            for count in (len(everything), len(everything) - 1)
        )
        assert many >= fewer * (1 - 1e-9)
    quiet = worth_measuring(distances, errors=exact, sizes=sizes, held=held, sigma=1e-12, max_cells=10**9)
    assert {columns for columns, distance in distances.items() if distance > 1e-6} <= set(quiet)
    assert [
        columns for columns in everything if columns in chosen
    ] == chosen  # in the same order, less what is too large
    for place, columns in enumerate(everything):  # and only what is too large is left out
        before = [earlier for earlier in everything[:place] if earlier in chosen]
        assert (JunctionTree(sizes, [*held, *before, columns]).cells <= max_cells) == (columns in chosen)


@given(choices())
@settings(max_examples=60)
def test_a_forest_of_marginals_closes_no_cycle(
    problem: tuple[list[int], list[Columns], dict[Columns, float]],
) -> None:
    sizes, _, distances = problem
    forest = Forest().admits
    chosen = worth_measuring(
        distances, errors=[0.0] * len(sizes), sizes=sizes, held=[], sigma=1e-12, max_cells=10**9, admits=forest
    )
    parts = {column: {column} for column in range(len(sizes))}
    for columns in chosen:
        assert len({id(parts[column]) for column in columns}) == len(columns)
        union = set().union(*(parts[column] for column in columns))
        parts.update(dict.fromkeys(union, union))
    for columns, distance in distances.items():  # and none is missing that would close none
        if distance > 1e-6 and columns not in chosen:
            assert len({id(parts[column]) for column in columns}) < len(columns)


def test_what_is_refused_for_its_size_leaves_room_in_the_forest() -> None:
    """A candidate that does not fit must not count as connected."""
    distances: dict[Columns, float] = {(0, 1): 900.0, (0, 2): 500.0, (1, 2): 400.0}
    chosen = worth_measuring(
        distances, errors=[0.0] * 3, sizes=[30, 30, 2], held=[], sigma=0.001, max_cells=200, admits=Forest().admits
    )
    assert chosen == [(0, 2), (1, 2)]


def test_a_large_table_must_lie_further_off_than_a_small_one() -> None:
    """Of the same distance, noise eats more of the table with more cells; without noise the further one is first."""
    distances: dict[Columns, float] = {(0, 1): 110.0, (2, 3): 100.0, (0, 2): -5.0, (1, 3): 0.0}
    quiet, louder, loud = (
        worth_measuring(distances, errors=[0.0] * 4, sizes=[20, 20, 2, 2], held=[], sigma=sigma, max_cells=10**6)
        for sigma in (0.0001, 0.1, 10.0)
    )
    assert quiet == [(0, 1), (2, 3)]
    assert louder == [(2, 3), (0, 1)]
    assert loud == [(2, 3)], "the large table would make the noise of the small one larger, and repair nearly nothing"


def test_what_the_columns_alone_are_off_by_is_no_reason_to_measure_them_together() -> None:
    distances: dict[Columns, float] = {(0, 1): 110.0, (1, 2): 100.0}
    chosen = worth_measuring(
        distances, errors=[60.0, 50.0, 10.0], sizes=[3, 3, 3], held=[], sigma=0.001, max_cells=10**6
    )
    assert chosen == [(1, 2)]


def test_columns_are_off_by_about_as_much_as_their_estimates() -> None:
    """Within a fifth of what 2,000 draws show for cells that hold much; not more than they hold for empty ones."""
    rng, sigma = np.random.default_rng(3), 30
    true, groups = np.array([900, 700, 300, 400]), np.array([0, 0, 1, 1])
    draws = true + np.rint(sigma * rng.standard_normal((2_000, 4))).astype(np.int64)
    coarse = [Coarse(column=0, groups=groups)]
    off = np.array([errors_of_columns([one_way(0, values, sigma=sigma)], coarse) for values in draws[:50]]).mean(axis=0)
    assert off[0] == pytest.approx(np.abs(draws - true).sum(axis=1).mean(), rel=0.2)
    merged_draws = np.stack([draws[:, groups == group].sum(axis=1) for group in (0, 1)], axis=1)
    assert off[1] == pytest.approx(np.abs(merged_draws - [1600, 700]).sum(axis=1).mean(), rel=0.2)
    empty = errors_of_columns([one_way(0, [0, 0, -5, 1000], sigma=sigma)], [])[0]
    assert empty == pytest.approx(0.8 * sigma, rel=0.01)


def test_what_does_not_fit_takes_no_place_from_what_does() -> None:
    distances: dict[Columns, float] = {(0, 1): 10_000.0, (2, 3): 100.0}
    chosen = worth_measuring(distances, errors=[0.0] * 4, sizes=[30, 30, 2, 2], held=[], sigma=10.0, max_cells=500)
    assert chosen == [(2, 3)]


@given(choices(), st.sampled_from([1e-6, 0.01, 100.0]))
@settings(max_examples=40)
def test_only_ratios_of_weights_count(
    problem: tuple[list[int], list[Columns], dict[Columns, float]], scale: float
) -> None:
    sizes, held, distances = problem
    found = [
        worth_measuring(
            distances,
            weights={columns: factor * (1 + place % 3) for place, columns in enumerate(distances)},
            errors=[5.0] * len(sizes),
            sizes=sizes,
            held=held,
            sigma=0.3,
            max_cells=10**9,
        )
        for factor in (1.0, scale)
    ]
    assert found[0] == found[1]


# ---- noise and cost -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("neighbours", "max_rows"), [("add_remove", None), ("replace", None), ("replace", 4)])
def test_the_guessed_noise_is_that_of_three_marginals_a_column(
    neighbours: Any, max_rows: int | None, make_schema: Any, make_frame: Any, open_curator: Any
) -> None:
    schema = make_schema([3, 4, 2], neighbours=neighbours, max_rows=max_rows)
    curator = open_curator(make_frame([(1, 1, 1)], columns=3, who=["a"] if max_rows else None), schema, seed=1)
    rho = Fraction(1, 50)
    exact = DiscreteGaussian.calibrated(rho=rho / 9, l2_squared=curator.unit.l2_squared)
    assert guessed_sigma(curator, rho=rho) == pytest.approx(exact.sigma, rel=1e-3)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_is_measured_shares_the_budget_evenly(
    count: int, make_schema: Any, make_frame: Any, open_curator: Any
) -> None:
    curator = open_curator(make_frame([(1, 1, 1)], columns=3), make_schema([3, 4, 2]), seed=1)
    found = measured(curator, list(combinations(range(3), 2))[:count], rho=Fraction(1, 7))
    assert len(found) == len({m.sigma_squared for m in found}) * count == count
    spent = sum(curator._reservation.spent, Cost.zero()).rho
    assert spent <= Fraction(1, 7)
    assert count == 0 or spent > Fraction(99, 700)


def test_columns_with_more_cells_get_more_of_the_budget(make_schema: Any, make_frame: Any, open_curator: Any) -> None:
    curator = open_curator(make_frame([(1, 1, 1)], columns=3), make_schema([2, 16, 128]), seed=1)
    found = measured_alone(curator, rho=Fraction(1, 7))
    variances = np.array([float(m.sigma_squared) for m in found])
    assert variances[0] / variances == pytest.approx([1, 2, 4], rel=0.02)
    spent = sum(curator._reservation.spent, Cost.zero()).rho
    assert Fraction(99, 700) < spent <= Fraction(1, 7)


def test_who_spends_less_at_first_does_not_spend_more_in_the_end(
    make_schema: Any, make_frame: Any, open_curator: Any
) -> None:
    parts = []
    for share in (Fraction(1, 3), Fraction(1, 10), Fraction(1, 50)):
        curator = open_curator(
            make_frame([(1, 1, 1)] * 800, columns=3), make_schema([3, 4, 2]), seed=1, holdout=Fraction(0)
        )
        parts.append(columns_first(curator, rho=Fraction(3, 40), share=share, choosing=Fraction(1, 20))[1])
    assert max(parts) - min(parts) <= Fraction(1, 10), parts


@pytest.mark.parametrize(("rows", "least", "most"), [(10, 0.85, 0.86), (800, 0.4, 0.6), (30_000, 0.2, 0.2)])
def test_columns_get_more_where_noise_is_large_against_the_table(
    rows: int, least: float, most: float, make_schema: Any, make_frame: Any, open_curator: Any
) -> None:
    """Whatever is decided, the charges add up to the part that is said, and to less than the whole."""
    frame = make_frame([(1, 1, 1)] * rows, columns=3)
    curator = open_curator(frame, make_schema([3, 4, 2]), seed=1, holdout=Fraction(0))
    rho = Fraction(3, 40)  # noise of 10 rows on each cell of the first fifth
    found, took = columns_first(curator, rho=rho, share=Fraction(1, 5), choosing=Fraction(1, 20))
    assert least <= float(took) <= most
    assert len(found) == (3 if took == Fraction(1, 5) else 6)
    spent = sum(curator._reservation.spent, Cost.zero()).rho
    assert Fraction(99, 100) * took * rho < spent <= took * rho


@pytest.mark.parametrize("max_cells", [60, 200, 2_000])
def test_aim_never_grows_a_model_past_its_bound(
    max_cells: int, make_schema: Any, make_frame: Any, open_curator: Any
) -> None:
    """Columns that all hang together: without the bound the model would be one table of 2,304 cells."""
    rng, schema = np.random.default_rng(1), make_schema([4, 4, 4, 4, 3, 3])
    base = rng.integers(0, 12, 4_000)
    rows = np.column_stack([(base + rng.integers(0, 2, 4_000)) * (i + 1) % size for i, size in enumerate(schema.sizes)])
    curator = open_curator(make_frame(rows, columns=6), schema, seed=1)
    model = Aim(max_cells=max_cells).fit(curator, budget=Cap.of(20, "1e-6").cost)
    links = sum(schema.sizes[made.column] * made.size for made in model.coarse)
    assert model.tree.cells <= max(max_cells, sum(schema.sizes) + links)
    if max_cells > 60:
        assert any(len(m.columns) == 2 for m in model.measurements)


PAIRS = list(combinations(range(6), 2))
ALIKE = {(f"c{a}", f"c{b}"): 2.0 for a, b in PAIRS}


@pytest.mark.parametrize("workload", [None, ALIKE], ids=["by default", "all alike"])
def test_aim_ranks_pairs_once_where_noise_is_large_for_the_table(
    workload: dict[tuple[str, ...], float] | None, make_schema: Any, make_frame: Any, open_curator: Any
) -> None:
    """200 rows, 78 times the noise of 2.6 rows on one marginal: nine of fifteen pairs, in one round."""
    rng = np.random.default_rng(2)
    rows = np.where(rng.random((200, 6)) < 0.9, rng.integers(0, 3, (200, 1)), rng.integers(0, 3, (200, 6)))
    curator = open_curator(make_frame(rows, columns=6), make_schema([3] * 6), seed=1, holdout=Fraction(0))
    rho = Fraction(3, 40)
    with mock.patch.object(Curator, "score", side_effect=AssertionError("scored")):
        model = Aim(workload=workload).fit(curator, budget=Cost.zcdp(rho))
    pairs = [m.columns for m in model.measurements if len(m.columns) == 2]
    assert 8 <= len(pairs) <= 10
    assert len({m.sigma_squared for m in model.measurements if len(m.columns) == 2}) == 1
    spent = sum(curator._reservation.spent, Cost.zero()).rho
    assert Fraction(99, 100) * rho < spent <= rho


def test_aim_scores_pairs_where_some_matter_more(make_schema: Any, make_frame: Any, open_curator: Any) -> None:
    """A ranking knows no weights."""
    rows = np.random.default_rng(2).integers(0, 3, (200, 6))
    curator = open_curator(make_frame(rows, columns=6), make_schema([3] * 6), seed=1, holdout=Fraction(0))
    with mock.patch.object(Curator, "select", side_effect=AssertionError("ranked")):
        Aim(workload=ALIKE | {("c0", "c1"): 3.0}).fit(curator, budget=Cost.zcdp(Fraction(3, 40)))


def test_small_marginals_win_a_ranking_where_signals_are_alike(
    make_schema: Any, make_frame: Any, open_curator: Any
) -> None:
    """Three columns that say the same, two of them with 30 cells in rows of their own: 60 cells against 900."""
    rng = np.random.default_rng(2)
    same = rng.integers(0, 2, 3_000)
    rows = np.column_stack([same, 15 * same + rng.integers(0, 15, 3_000), 15 * same + rng.integers(0, 15, 3_000)])
    curator = open_curator(make_frame(rows, columns=3), make_schema([2, 30, 30]), seed=1, holdout=Fraction(0))
    rho = Fraction(10**4)
    ones = measured_alone(curator, rho=rho)
    model = GraphicalModel.fitted(curator.schema, ones, groups=[])
    found = ranked(
        curator,
        [(1, 2), (0, 1), (0, 2)],
        model,
        rho=rho,
        whole=Fraction(1, 10),
        sigma=20.0,
        errors=errors_of_columns(ones, []),
        sizes=[2, 30, 30],
        held=[],
        max_cells=10_000,
    )
    assert sorted(found[:2]) == [(0, 1), (0, 2)]


def test_pairs_that_tell_nothing_are_not_measured_where_noise_is_large(
    make_schema: Any, make_frame: Any, open_curator: Any
) -> None:
    """Of fifteen pairs one hangs together; the columns get what the others would have cost."""
    rows = np.random.default_rng(2).integers(0, 12, (400, 6))
    rows[:, 5] = rows[:, 0]
    curator = open_curator(make_frame(rows, columns=6), make_schema([12] * 6), seed=1, holdout=Fraction(0))
    model = Aim(least=0.0).fit(curator, budget=Cost.zcdp(Fraction(3, 40)))
    assert [m.columns for m in model.measurements if len(m.columns) == 2] == [(0, 5)]


@pytest.mark.parametrize(("epsilon", "columns", "most"), [(100, 3, 3), (1, 3, 2), (100, 21, 2)])
def test_aim_looks_at_triples_where_noise_lets_it_and_columns_are_few(
    epsilon: int, columns: int, most: int, make_schema: Any, make_frame: Any, open_curator: Any
) -> None:
    """Three columns of which each pair is independent, but two give the third: only the triple shows it."""
    rng, schema = np.random.default_rng(1), make_schema([4] * columns)
    rows = rng.integers(0, 4, (20_000, columns))
    rows[:, 2] = (rows[:, 0] + rows[:, 1]) % 4
    curator = open_curator(make_frame(rows, columns=columns), schema, seed=1)
    model = Aim().fit(curator, budget=Cap.of(epsilon, "1e-6").cost)
    assert max(len(m.columns) for m in model.measurements) == most


def test_triples_are_those_that_have_few_enough_cells(make_schema: Any) -> None:
    schema = make_schema([10, 20, 30, 2])
    assert _triples(schema, 1_999) == {}
    assert set(_triples(schema, 2_000)) == {(0, 1, 3), (0, 2, 3), (1, 2, 3)}
    assert set(_triples(schema, 10**9)) == {(0, 1, 3), (0, 2, 3), (1, 2, 3)}
    assert set(_triples(make_schema([10, 20, 25]), 10**9)) == {(0, 1, 2)}


def test_pairs_with_too_many_cells_are_refused_from_the_schema(make_schema: Any) -> None:
    schema = make_schema([10, 20, 30])
    check_pairs(schema, largest=600, together=1_100)
    check_pairs(schema, largest=None, together=1_100)
    check_pairs(make_schema([50]), largest=1, together=0)
    with pytest.raises(UsageError, match="two columns"):
        check_pairs(schema, largest=599, together=1_100)
    with pytest.raises(UsageError, match="in pairs"):
        check_pairs(schema, largest=None, together=1_099)


def test_a_coarse_column_keeps_every_cell() -> None:
    for made in merged(SCHEMA, ONES, least=3.0):
        assert isinstance(made, Coarse)
        assert len(made.groups) == SCHEMA.sizes[made.column]
        assert math.prod(made.mask.shape) == made.size * len(made.groups)
        assert np.all(made.mask.sum(axis=1) == 1)
