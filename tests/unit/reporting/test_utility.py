"""What the report says about utility: shares and distances that can be worked out by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from dpsynth import Column, Cost, Measurement, Schema, Table
from reports.collect.review import true_utility
from reports.utility import Group, Tally, against_rows, inflation

SCHEMA = Schema(
    table="test",
    columns=(
        Column(name="sex", type="category", values=("f", "m"), role="quasi_identifier"),
        Column(name="ill", type="boolean", true=("1",), false=("0",), missing=True, role="sensitive"),
        Column(name="town", type="category", values=tuple("abc")),
        Column(name="age", type="number", minimum=0, maximum=4, bins=4, role="quasi_identifier"),
    ),
)


def table(*rows: tuple[int, int, int, int]) -> Table:
    return Table(SCHEMA, np.array(rows, dtype=np.int32).reshape(-1, 4))


def measured(column: int, *values: int, sigma: int = 1) -> Measurement:
    return Measurement(
        columns=(column,), values=np.array(values, dtype=np.int64), sigma_squared=Fraction(sigma**2), cost=Cost.zero()
    )


def groups_of(rows: Table, measurements: list[Measurement], total: float) -> list[Group]:
    tally = Tally(SCHEMA, measurements)
    tally.add(rows)
    return tally.groups(total)


def test_groups_are_the_values_of_columns_with_a_role_and_few_values() -> None:
    rows = table(*[(0, 0, 0, 0)] * 3, (1, 2, 1, 1))
    every = [measured(0, 75, 25), measured(1, 90, -3, 10), measured(2, 50, 25, 25), measured(3, 25, 25, 25, 25)]
    groups = groups_of(rows, every, 100.0)
    assert [(group.column, group.cell) for group in groups] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    assert [group.measured for group in groups] == [0.75, 0.25, 0.9, 0.0, 0.1]
    assert [group.synthetic for group in groups] == [0.75, 0.25, 0.75, 0.0, 0.25]
    assert {group.noise for group in groups} == {0.01}
    assert {round(group.inflation, 9) for group in groups} == {round(0.01 / math.sqrt(2 * math.pi), 9)}


@pytest.mark.parametrize(("rows", "part"), [(0, 0.398942), (5, 0.083315), (10, 0.008491), (50, 0.0)])
def test_cutting_at_zero_adds_to_small_groups(rows: int, part: float) -> None:
    """By the formula, and by a sum over exact probabilities of the discrete Gaussian that our releases use."""
    values = np.arange(-100, 101)
    weights = np.exp(-(values**2) / (2 * 5**2))
    gain = float((np.maximum(0, rows + values) * weights).sum() / weights.sum()) - rows
    assert inflation(rows, 5) == pytest.approx(5 * part, abs=1e-5)
    assert inflation(rows, 5) == pytest.approx(gain, abs=0.02)


@pytest.mark.parametrize(("count", "drowned"), [(49, True), (50, False)])
def test_a_group_below_ten_standard_deviations_is_drowned(count: int, drowned: bool) -> None:
    (first, _) = groups_of(table((0, 0, 0, 0)), [measured(0, count, 1000, sigma=5)], 1000.0)
    assert first.drowned == drowned


def test_measurements_of_one_column_count_by_their_inverse_variance() -> None:
    """Nine parts of ten for the one with a third of the noise; the two together are less noisy than the better one."""
    twice = [measured(0, 10, 90, sigma=3), measured(0, 40, 60, sigma=1)]
    found = groups_of(table(), twice, 100.0)
    assert [group.measured for group in found] == pytest.approx([0.37, 0.63])
    assert [group.noise for group in found] == pytest.approx([math.sqrt(0.9) / 100] * 2)


def test_no_measurement_no_group() -> None:
    assert groups_of(table((0, 0, 0, 0)), [], 1.0) == []
    assert Tally(SCHEMA, []).distances(1.0) == []


def test_rows_count_the_same_in_one_part_and_in_many() -> None:
    rng = np.random.default_rng(0)
    rows = Table(SCHEMA, rng.integers(SCHEMA.sizes, size=(1000, 4)).astype(np.int32))
    pair = Measurement(
        columns=(0, 3), values=rng.integers(100, size=(2, 4)), sigma_squared=Fraction(9), cost=Cost.zero()
    )
    every = [measured(0, 700, 300), measured(1, 400, 300, 300), pair]
    whole, parts = Tally(SCHEMA, every), Tally(SCHEMA, every)
    whole.add(rows)
    for part in np.split(rows.codes, [1, 400, 400, 999]):
        parts.add(Table(SCHEMA, part))
    assert parts.rows == whole.rows == 1000
    assert parts.distances(900.0) == whole.distances(900.0)
    assert parts.groups(900.0) == whole.groups(900.0)
    assert whole.groups(900.0) != Tally(SCHEMA, every).groups(900.0)


def test_distances_from_true_rows_by_column_pair_and_group() -> None:
    real = table((0, 0, 0, 0), (0, 1, 1, 0), (1, 0, 2, 0), (1, 0, 2, 0))
    synthetic = table((0, 0, 0, 0), (0, 0, 0, 0), (0, 1, 1, 0), (0, 0, 0, 0))
    found = against_rows(synthetic, real)
    assert found.alone[(0,)] == 0.5
    assert found.alone[(1,)] == 0.0
    assert found.pairs[(0, 1)] == 0.5
    assert found.means[1] == pytest.approx((0.5 + 0.0 + 0.5 + 0.0) / 4)
    women, men, healthy, ill = found.groups
    assert (women.rows, women.true, women.synthetic) == (2, 0.5, 1.0)
    assert women.within == pytest.approx((0.25 + 0.25 + 0.0) / 3)
    assert (men.rows, men.synthetic, men.within) == (2, 0.0, None)
    assert (healthy.column, healthy.cell, ill.rows) == (1, 0, 1)


def test_a_group_that_nobody_is_in_shows_when_a_release_makes_it_up() -> None:
    """And one that is on neither side does not."""
    real, synthetic = table((0, 0, 0, 0), (0, 0, 1, 0)), table((0, 0, 0, 0), (1, 0, 1, 0))
    found = against_rows(synthetic, real)
    assert [(group.column, group.cell) for group in found.groups] == [(0, 0), (0, 1), (1, 0)]
    women, men, _ = found.groups
    assert (men.rows, men.true, men.synthetic, men.within) == (0, 0.0, 0.5, None)
    shown = true_utility(found, SCHEMA)["groups"]
    assert [row["within"].missing for row in shown] == ["", "no real row", ""]
    assert women.within is not None


def test_a_copy_has_no_distance_anywhere() -> None:
    real = table((0, 0, 0, 0), (0, 1, 1, 3), (1, 2, 2, 2))
    found = against_rows(real, real)
    assert set(found.alone.values()) == set(found.pairs.values()) == {0.0}
    assert {group.within for group in found.groups} == {0.0}
