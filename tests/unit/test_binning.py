"""Which values a bin holds: half-open, the last one closed, exact on grids."""

from __future__ import annotations

import numpy as np
import pytest

from dpsynth.binning import Bins


def codes(bins: Bins, *values: float) -> list[int]:
    return bins.encode(np.array(values, dtype=np.float64)).tolist()


def holds(bins: Bins, code: int, draws: int = 2000) -> set[float]:
    return set(bins.decode(np.full(draws, code, dtype=np.int32), rng=np.random.default_rng(0)).tolist())


def test_bins_are_half_open_and_the_last_one_is_closed():
    bins = Bins.of(minimum=0, maximum=65, edges=[0, 18, 40, 65])
    assert codes(bins, 0, 17.999, 18, 39.999, 40, 65) == [0, 0, 1, 1, 2, 2]


def test_values_beyond_the_bounds_go_to_the_nearest_bin():
    bins = Bins.of(minimum=0, maximum=10, bins=5)
    assert codes(bins, -1, 11, -np.inf, np.inf) == [0, 4, 0, 4]
    assert bins.clamp(np.array([-1, 11, -np.inf, np.inf, 3.5])).tolist() == [0, 10, 0, 10, 3.5]


def test_missing_is_the_cell_after_the_last():
    bins = Bins.of(minimum=0, maximum=10, bins=5)
    assert codes(bins, np.nan) == [5]
    assert np.isnan(bins.decode(np.array([5], dtype=np.int32), rng=np.random.default_rng(0))[0])
    assert np.isnan(bins.clamp(np.array([np.nan]))[0])


def test_equal_bins_have_round_edges():
    assert Bins.of(minimum=0, maximum=1, bins=10).edges.tolist() == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    assert Bins.of(minimum=-1.7e308, maximum=1.7e308, bins=2).edges.tolist() == [-1.7e308, 0, 1.7e308]


def test_integers_get_one_cell_a_value_while_they_are_few():
    few = Bins.of(minimum=-3, maximum=60, decimals=0)
    assert few.size == 64
    assert codes(few, -3, 0, 60) == [0, 3, 63]
    assert holds(few, 3) == {0}
    many = Bins.of(minimum=-3, maximum=61, decimals=0)
    assert many.size == 32
    assert holds(many, 31) == {59, 60, 61}


def test_integer_bins_hold_the_integers_of_their_interval():
    bins = Bins.of(minimum=0, maximum=10, bins=4, decimals=0)  # edges 0, 2.5, 5, 7.5, 10
    assert [holds(bins, code) for code in range(4)] == [{0, 1, 2}, {3, 4}, {5, 6, 7}, {8, 9, 10}]
    edged = Bins.of(minimum=0, maximum=10, edges=[0, 1, 2, 4, 10], decimals=0)
    assert [holds(edged, code) for code in range(4)] == [{0}, {1}, {2, 3}, {4, 5, 6, 7, 8, 9, 10}]


def test_a_bin_of_one_cent_keeps_zero_exact():
    bins = Bins.of(minimum=0, maximum=10000, edges=[0, 0.01, 0.3, 10000], decimals=2)
    assert holds(bins, 0) == {0.0}
    assert holds(bins, 1) == {k / 100 for k in range(1, 30)}
    assert codes(bins, 0.0, 0.01, 0.29, 0.3) == [0, 1, 1, 2]
    drawn = bins.decode(np.full(5000, 2, dtype=np.int32), rng=np.random.default_rng(1))
    assert all(round(value, 2) == value for value in drawn.tolist())


def test_clamping_rounds_to_the_grid():
    bins = Bins.of(minimum=0.005, maximum=1, decimals=2)
    assert bins.clamp(np.array([0.0, 0.014, 0.016, 0.999, 7.0])).tolist() == [0.01, 0.01, 0.02, 1.0, 1.0]


def test_there_is_no_negative_zero():
    for bins in (Bins.of(minimum=-1, maximum=1), Bins.of(minimum=-1, maximum=1, decimals=1)):
        assert not np.signbit(bins.clamp(np.array([-0.0, -0.01]))[0])
    assert not np.signbit(Bins.of(minimum=-1, maximum=1, decimals=1).clamp(np.array([-0.01]))[0])


def test_a_drawn_value_never_leaves_its_bin_by_rounding():
    low = 1.0
    high = float(np.nextafter(np.nextafter(low, 2), 2))  # a bin that holds two floats
    bins = Bins.of(minimum=low, maximum=2, edges=[low, high, 2])
    assert holds(bins, 0) <= {low, np.nextafter(low, 2)}


def test_continuous_draws_fill_the_bin():
    drawn = np.array(sorted(holds(Bins.of(minimum=0, maximum=10, bins=2), 1, draws=4000)))
    assert drawn.min() < 5.01
    assert drawn.max() > 9.99
    assert abs(np.median(drawn) - 7.5) < 0.2


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"minimum": 0, "maximum": 9, "bins": 11, "decimals": 0}, "more than the 10 values"),
        ({"minimum": 0, "maximum": 1, "edges": [0, 0.011, 0.012, 1], "decimals": 2}, "0.011 holds no value"),
        ({"minimum": 0.1, "maximum": 0.9, "decimals": 0}, "no number with 0 decimals"),
        ({"minimum": 0, "maximum": 2**53 + 2, "decimals": 0}, "bounds"),
        ({"minimum": 0, "maximum": 1e9, "decimals": 12}, "too wide"),
        ({"minimum": 1, "maximum": 1 + 2**-52, "bins": 3}, "too narrow"),
    ],
)
def test_bins_that_cannot_be_are_refused(keys, reason):
    with pytest.raises(ValueError, match=reason):
        Bins.of(**keys)
