"""Distances are exact, so ties are ties and nobody's distance depends on a neighbour's row."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from attacks import distances
from attacks.distances import APART, GROUP, UNIT, Metric, blocks, lowest, nearest, ties
from attacks.people import Rows
from dpsynth import Column, Records, Schema


@pytest.fixture(scope="module")
def rows(tables: ModuleType) -> tuple[Rows, Rows]:
    rng = np.random.default_rng(0)
    return Rows.of(tables.population(150, rng).records), Rows.of(tables.population(90, rng).records)


def slow(queries: distances.Points, base: distances.Points) -> np.ndarray:
    """Squared distances in Python's whole numbers."""
    out = []
    for near, wide in zip(queries.near, queries.wide, strict=True):
        out.append(
            [
                sum((int(a) - int(b)) ** 2 for a, b in zip(near, other, strict=True))
                + UNIT**2 * sum(int(a != b) for a, b in zip(wide, others, strict=True))
                for other, others in zip(base.near, base.wide, strict=True)
            ]
        )
    return np.array(out, dtype=object)


def test_distances_are_exact(rows: tuple[Rows, Rows]) -> None:
    queries, base = rows
    metric = Metric(base)
    ours, theirs = metric.points(queries.take(np.arange(20))), metric.points(base)
    exact = slow(ours, theirs)
    for part, squared in blocks(ours, theirs):
        assert (squared == exact[part].astype(np.float64)).all()


@pytest.mark.parametrize("size", [1, 100, 5000, 2**20])
def test_blocks_change_nothing(rows: tuple[Rows, Rows], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, base = rows
    metric = Metric(base)
    ours, theirs = metric.points(queries), metric.points(base)
    whole = nearest(ours, theirs, k=3), ties(ours, theirs)
    monkeypatch.setattr(distances, "BLOCK", size)
    assert (nearest(ours, theirs, k=3) == whole[0]).all()
    assert all((a == b).all() for a, b in zip(ties(ours, theirs), whole[1], strict=True))


def test_a_query_does_not_feel_the_others(rows: tuple[Rows, Rows]) -> None:
    queries, base = rows
    metric = Metric(base)
    ours, theirs = metric.points(queries), metric.points(base)
    together = nearest(ours, theirs, k=2)
    for chosen in (slice(0, 1), slice(7, 8), slice(3, 40)):
        assert (nearest(ours.take(np.arange(150)[chosen]), theirs, k=2) == together[chosen]).all()


def test_all_ties_are_found() -> None:
    column = Column(name="c", type="category", values=("a", "b", "c"))
    other = Column(name="d", type="category", values=("a", "b", "c"))
    schema = Schema(table="t", columns=(column, other))

    def of(*pairs: tuple[int, int]) -> Rows:
        codes = np.array(pairs, dtype=np.int32)
        return Rows.of(Records(schema, {"c": codes[:, 0], "d": codes[:, 1]}))

    base, query = of((0, 1), (1, 0), (2, 2), (0, 1)), of((0, 0))
    metric = Metric(base)
    who, which, least = ties(metric.points(query), metric.points(base))
    assert sorted(which) == [0, 1, 3]
    assert set(who) == {0}
    assert least[0] == 2 * APART**2
    assert np.sqrt(least[0]) / UNIT == pytest.approx(1, abs=1e-5)  # one column apart


def test_a_missing_value_is_a_level_of_its_own() -> None:
    schema = Schema(table="t", columns=(Column(name="x", type="number", minimum=0, maximum=10, missing=True),))
    rows = Rows.of(Records(schema, {"x": np.array([np.nan, np.nan, 0.0, 5.0, 10.0])}))
    metric = Metric(rows)
    points = metric.points(rows)
    found = nearest(points, points.take(np.array([0])))[:, 0]
    assert found[:2].tolist() == [0, 0]
    assert (found[2:] >= 1).all()


def test_wide_categories_differ_by_one_unit() -> None:
    values = tuple(map(str, range(100)))
    schema = Schema(table="t", columns=(Column(name="w", type="category", values=values),))
    rows = Rows.of(Records(schema, {"w": np.array([3, 3, 99], dtype=np.int32)}))
    points = Metric(rows).points(rows)
    assert points.near.shape[1] == 0
    assert nearest(points, points.take(np.array([0])))[:, 0].tolist() == [0, 0, 1]


@pytest.mark.parametrize("light", [False, True])
def test_levels_that_are_looked_up_are_as_far_apart_as_those_compared(
    light: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the base does not have, too."""
    rng = np.random.default_rng(0)
    wide = tuple(Column(name=n, type="category", values=tuple(map(str, range(60)))) for n in "abcdef")
    schema = Schema(table="t", columns=(*wide, Column(name="x", type="number", minimum=0, maximum=1)))
    codes = rng.integers(5, 60, size=(6, 70))
    codes[:, :30] = rng.integers(0, 40, size=(6, 30))
    rows = Rows.of(
        Records(schema, {n: codes[i].astype(np.int32) for i, n in enumerate("abcdef")} | {"x": rng.random(70)})
    )
    points = Metric(rows).points(rows)
    if light:
        points = points.light(7)
    ours, theirs = points.take(np.arange(30)), points.take(np.arange(30, 70))
    found = [squared.copy() for _, squared in blocks(ours, theirs)]
    monkeypatch.setattr(distances, "LOOKED_UP", 0)
    compared = [squared.copy() for _, squared in blocks(ours, theirs)]
    assert all((a == b).all() for a, b in zip(found, compared, strict=True))
    apart = (codes[:, :30, None] != codes[:, None, 30:]).sum(axis=0)
    assert (np.round(np.concatenate(found) / points.unit**2 - apart) <= 1).all()
    assert (np.concatenate(found) >= apart * float(points.unit) ** 2).all()


@pytest.mark.parametrize("columns", [1, GROUP - 1, GROUP, GROUP + 1, 5 * GROUP, 40 * GROUP + 3])
@pytest.mark.parametrize("kinds", [1, 2, 50, 10**6])
def test_the_lowest_of_each_row_are_found_with_all_ties(columns: int, kinds: int) -> None:
    squared = np.random.default_rng(columns).integers(0, kinds, size=(30, columns)).astype(np.float32)
    least, query, point = lowest(squared)
    assert (least == squared.min(axis=1)).all()
    assert (np.diff(query) >= 0).all()
    expected = set(zip(*np.nonzero(squared == least[:, None]), strict=True))
    assert len(query) == len(expected)
    assert set(zip(query, point, strict=True)) == expected


def test_fewer_points_than_neighbours(rows: tuple[Rows, Rows]) -> None:
    queries, base = rows
    metric = Metric(base)
    found = nearest(metric.points(queries), metric.points(base.take(np.arange(2))), k=5)
    assert (found[:, 1:] == found[:, 1:2]).all()
    assert (found[:, 0] <= found[:, 1]).all()


def test_a_constant_column_and_a_table_of_missing_values_are_no_trouble() -> None:
    column = Column(name="x", type="number", minimum=-1, maximum=1, missing=True)
    schema = Schema(table="t", columns=(column, Column(name="k", type="integer", minimum=7, maximum=7)))
    rows = Rows.of(Records(schema, {"x": np.full(5, np.nan), "k": np.full(5, 7.0)}))
    points = Metric(rows).points(rows)
    assert (nearest(points, points) == 0).all()
