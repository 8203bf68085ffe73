"""Counting backends against the slow and obvious one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, permutations
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth.coarsening import Coarse, groups_of
from dpsynth.counting.base import Counter
from dpsynth.counting.memory import MemoryCounter
from dpsynth.counting.reference import ReferenceCounter
from dpsynth.schema import Schema
from dpsynth.table import Table

BACKENDS: dict[str, Callable[[Table], Counter]] = {"memory": MemoryCounter}
WAYS: dict[str, dict[str, int]] = {  # what MemoryCounter does for few rows, and what it else does for many
    "one by one": {"_JOINT_ROWS": 10**9},
    "several at once": {"_JOINT_ROWS": 0, "_JOINT_CELLS": 40},
    "several at once, in small blocks": {"_JOINT_ROWS": 0, "_BLOCK": 3},
    "several at once, with little room": {"_JOINT_ROWS": 0, "_KEPT_CELLS": 30},
    "products": {"_MANY": 1, "_SMALL": 10**9},
    "products in small blocks": {"_MANY": 1, "_SMALL": 10**9, "_PRODUCT_CELLS": 20},
}
"""Settings of `dpsynth.counting.memory`."""

MakeSchema = Callable[..., Schema]
Codes = npt.NDArray[np.int32]


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[int], Codes]:
    """Sizes of one to four columns, and up to thirty rows."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    rows = draw(st.lists(st.tuples(*(st.integers(0, size - 1) for size in sizes)), max_size=30))
    return sizes, np.array(rows, dtype=np.int32).reshape(len(rows), len(sizes))


@pytest.mark.parametrize("backend", BACKENDS)
@given(table=tables())
@settings(max_examples=40)
def test_counts_equal_the_reference(backend: str, make_schema: MakeSchema, table: tuple[list[int], Codes]) -> None:
    sizes, codes = table
    rows = Table(make_schema(sizes), codes)
    counter, reference = BACKENDS[backend](rows), ReferenceCounter(rows)
    for width in range(len(sizes) + 1):
        for columns in permutations(range(len(sizes)), width):
            counts = counter.count(columns)
            assert counts.shape == tuple(sizes[column] for column in columns)
            assert counts.dtype == np.int64
            assert np.array_equal(counts, reference.count(columns))
            assert counts.sum() == len(codes)


@pytest.mark.parametrize("backend", BACKENDS)
@given(table=tables(), data=st.data())
@settings(max_examples=40)
def test_a_marginal_of_a_marginal_is_the_smaller_marginal_and_row_order_is_nothing(
    backend: str, make_schema: MakeSchema, table: tuple[list[int], Codes], data: st.DataObject
) -> None:
    sizes, codes = table
    order = data.draw(st.permutations(range(len(codes))))
    counter = BACKENDS[backend](Table(make_schema(sizes), codes))
    shuffled = BACKENDS[backend](Table(make_schema(sizes), codes[np.array(order, dtype=int)]))
    whole = counter.count(tuple(range(len(sizes))))
    for width in range(len(sizes)):
        for columns in combinations(range(len(sizes)), width):
            others = tuple(set(range(len(sizes))) - set(columns))
            assert np.array_equal(whole.sum(axis=others), counter.count(columns))
            assert np.array_equal(shuffled.count(columns), counter.count(columns))


def coarse_columns(sizes: list[int], data: st.DataObject) -> list[Coarse]:
    """Any merges of any columns, some column perhaps twice."""
    out = []
    for column in data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=3)):
        labels = data.draw(st.lists(st.integers(0, 3), min_size=sizes[column], max_size=sizes[column]))
        out.append(Coarse(column=column, groups=np.unique(labels, return_inverse=True)[1].astype(np.int64)))
    return out


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@given(table=tables(), data=st.data())
@settings(max_examples=25)
def test_coarse_columns_and_many_marginals_equal_the_reference(
    way: str, make_schema: MakeSchema, table: tuple[list[int], Codes], data: st.DataObject
) -> None:
    """Before and after columns are merged, and after others are merged in their place."""
    sizes, codes = table
    rows = Table(make_schema(sizes), codes)
    with mock.patch.multiple("dpsynth.counting.memory", **WAYS[way]):
        counter, reference = MemoryCounter(rows), ReferenceCounter(rows)
        for coarse in ([], coarse_columns(sizes, data), coarse_columns(sizes, data)):
            counter.coarsen(coarse)
            reference.coarsen(coarse)
            last = len(sizes) + len(coarse)
            shapes = [*sizes, *(made.size for made in coarse)]
            pairs = list(permutations(range(last), 2)) + list(combinations(range(last), 2))
            anything = [*pairs[:3], tuple(range(last))[:3], (last - 1,), ()]
            for asked in (pairs, pairs[::-1], anything, []):
                answers = list(counter.count_each(asked))
                assert len(answers) == len(asked)
                for columns, counts, want in zip(asked, answers, reference.count_each(asked), strict=True):
                    assert counts.dtype == np.int64
                    assert counts.shape == tuple(shapes[column] for column in columns)
                    assert np.array_equal(counts, want)
                    assert np.array_equal(counts, counter.count(columns))


def test_a_thousand_marginals_take_the_products_and_are_right(make_schema: MakeSchema) -> None:
    """With the settings that ship: 46 columns have more than a thousand pairs."""
    codes = np.random.default_rng(1).integers(0, 3, (9_000, 46)).astype(np.int32)
    codes[:, 7] = codes[:, 3]
    counter = MemoryCounter(Table(make_schema([3] * 46), codes))
    pairs = list(combinations(range(46), 2))
    with mock.patch.object(MemoryCounter, "count", side_effect=AssertionError("one by one")):
        found = dict(zip(pairs, counter.count_each(pairs), strict=True))
    for a, b in [(0, 1), (3, 7), (44, 45), (0, 45)]:
        want = np.zeros((3, 3), dtype=np.int64)
        np.add.at(want, (codes[:, a], codes[:, b]), 1)
        assert np.array_equal(found[a, b], want)
    assert all(counts.sum() == 9_000 for counts in found.values())


@pytest.mark.parametrize("groups", [[1, 2], [0, 2], [-1, 0]])
def test_groups_that_are_not_numbered_from_zero_are_refused(groups: list[int]) -> None:
    with pytest.raises(ValueError, match="numbered from 0"):
        Coarse(column=0, groups=np.array(groups))


def test_a_coarse_column_says_which_cell_lies_where() -> None:
    made = Coarse(column=0, groups=np.array([1, 0, 1, 2]))
    assert made.size == 3
    assert made.mask.tolist() == [
        [False, True, False],
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]


# ---- which cells are merged -----------------------------------------------------------------------------------------

counts_of_cells = st.lists(st.floats(-50, 200, allow_nan=False), min_size=1, max_size=30).map(np.array)


@given(counts_of_cells, st.floats(0, 100))
def test_neighbours_are_merged_until_each_group_is_large(counts: npt.NDArray[np.float64], least: float) -> None:
    groups = groups_of(counts, least=least, ordered=True)
    assert (groups.shape, groups.dtype) == (counts.shape, np.int64)
    assert groups[0] == 0
    assert set(np.diff(groups)) <= {0, 1}  # only neighbours, numbered from zero
    held = np.bincount(groups, weights=np.maximum(counts, 0))
    if len(held) > 1:
        assert np.all(held >= least * (1 - 1e-12))
        first = [np.flatnonzero(groups == group) for group in range(len(held) - 1)]
        assert all(np.maximum(counts[cells[:-1]], 0).sum() < max(least, 1e-300) for cells in first)  # and not larger


@given(counts_of_cells, st.floats(0, 100))
def test_without_an_order_all_small_cells_become_one(counts: npt.NDArray[np.float64], least: float) -> None:
    groups = groups_of(counts, least=least, ordered=False)
    assert (groups.shape, groups.dtype) == (counts.shape, np.int64)
    assert np.array_equal(np.unique(groups), np.arange(groups.max() + 1))
    large = counts >= least
    assert len(set(groups[large])) == large.sum()
    assert len(set(groups[~large])) <= 1
    assert set(groups[large]).isdisjoint(groups[~large])


@pytest.mark.parametrize("ordered", [True, False])
def test_cells_that_are_large_or_none_of_which_is_stay_or_become_one(ordered: bool) -> None:
    assert groups_of(np.array([9.0, 8.0, 7.0]), least=5, ordered=ordered).tolist() == [0, 1, 2]
    assert groups_of(np.array([1.0, -8.0, 2.0]), least=5, ordered=ordered).tolist() == [0, 0, 0]
    assert groups_of(np.array([1.0]), least=5, ordered=ordered).tolist() == [0]
    assert groups_of(np.array([3.0, 3.0, 9.0, 1.0]), least=5, ordered=ordered).tolist() == (
        [0, 0, 1, 1] if ordered else [1, 1, 0, 1]
    )


@pytest.mark.parametrize("way", ["one by one", "together", "product"])
@given(table=tables(), data=st.data())
@settings(max_examples=40)
def test_marginals_asked_for_at_once_equal_the_reference_however_they_are_counted(
    way: str, make_schema: MakeSchema, table: tuple[list[int], Codes], data: st.DataObject
) -> None:
    sizes, codes = table
    rows = Table(make_schema(sizes), codes)
    everything = [c for width in range(1, 4) for c in permutations(range(len(sizes)), width)]
    asked = data.draw(st.lists(st.sampled_from(everything), max_size=12))
    if way == "product":
        asked = [columns for columns in asked if len(columns) == 2]
    settings_of = {"_JOINT_ROWS": 0 if way == "together" else 10**9, "_JOINT_CELLS": data.draw(st.integers(1, 200))}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**settings_of, "_MANY": 1 if way == "product" else 10**9}.items():
            patch.setattr(f"dpsynth.counting.memory.{name}", value)
        counter, reference = MemoryCounter(rows), ReferenceCounter(rows)
        for _ in range(2):
            for columns, counts in zip(asked, counter.count_each(asked), strict=True):
                assert counts.dtype == np.int64
                assert np.array_equal(counts, reference.count(columns))


@pytest.mark.parametrize("block", [1, 4, 5])
def test_blocks_of_rows_are_put_together_again(
    block: int, make_schema: MakeSchema, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpsynth.counting.memory._BLOCK", block)
    codes = np.array([[0, 1], [2, 1], [2, 0], [2, 1], [1, 1]], dtype=np.int32)
    assert MemoryCounter(Table(make_schema([3, 2]), codes)).count((0, 1)).tolist() == [[0, 1], [0, 1], [1, 2]]


@pytest.mark.parametrize("room", [0, 5, 10**6])
def test_what_is_kept_is_never_stale_and_cannot_be_changed(
    room: int, make_schema: MakeSchema, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpsynth.counting.memory._KEPT_CELLS", room)
    codes = np.array([[0, 1], [2, 1], [2, 0]], dtype=np.int32)
    counter = MemoryCounter(Table(make_schema([3, 2]), codes))
    for _ in range(3):
        for columns, want in (((0,), [1, 0, 2]), ((1,), [1, 2]), ((0, 1), [[0, 1], [0, 0], [1, 1]])):
            counts = counter.count(columns)
            assert counts.tolist() == want
            if counts.flags.writeable:
                counts += 100  # the caller's own copy


def test_a_marginal_larger_than_memory_is_refused_before_it_is_made() -> None:
    from dpsynth.schema import Column

    columns = tuple(
        Column(name=name, type="integer", minimum=0, maximum=2**16 - 1, bins=2**16, basis="test") for name in "ab"
    )
    rows = Table(Schema(table="test", columns=columns), np.zeros((2, 2), dtype=np.int32))
    counter = MemoryCounter(rows)
    assert counter.count((1,))[0] == 2
    with pytest.raises(ValueError, match="too large"):
        counter.count((0, 1))
