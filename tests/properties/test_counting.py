"""Counting backends against the slow and obvious one."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, permutations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth.counting.base import Counter
from dpsynth.counting.memory import MemoryCounter
from dpsynth.counting.reference import ReferenceCounter
from dpsynth.schema import Schema
from dpsynth.table import Table

BACKENDS: dict[str, Callable[[Table], Counter]] = {"memory": MemoryCounter}

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
