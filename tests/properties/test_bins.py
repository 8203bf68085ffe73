"""Bins: encode and decode are inverse up to binning, whatever the declared domain."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth.binning import Bins
from dpsynth.density import LEAST, Density

finite = st.floats(allow_nan=False, allow_infinity=False, width=64)


@st.composite
def bins(draw: st.DrawFn) -> Bins:
    """Bins of a random declared domain, on a grid or not."""
    decimals = draw(st.one_of(st.none(), st.integers(0, 6)))
    size = draw(st.integers(1, 40))
    if decimals is None:
        edges = sorted(draw(st.sets(finite, min_size=2, max_size=size + 1)))
        atoms = draw(st.lists(st.one_of(st.sampled_from(edges), st.floats(edges[0], edges[-1])), max_size=3))
        return Bins.of(minimum=edges[0], maximum=edges[-1], edges=edges, atoms=atoms)
    steps = sorted(draw(st.sets(st.integers(-(10**7), 10**7), min_size=2, max_size=size + 1)))
    edges = [step / 10**decimals for step in steps]
    atoms = [n / 10**decimals for n in draw(st.lists(st.integers(steps[0], steps[-1]), max_size=3))]
    if draw(st.booleans()):
        return Bins.of(minimum=edges[0], maximum=edges[-1], edges=edges, decimals=decimals, atoms=atoms)
    parts = draw(st.integers(1, steps[-1] - steps[0] + 1).filter(lambda parts: parts <= 1000))
    return Bins.of(minimum=edges[0], maximum=edges[-1], bins=parts, decimals=decimals, atoms=atoms)


@pytest.mark.slow
@settings(deadline=None, max_examples=120)
@given(bins(), st.data(), st.booleans())
def test_encoding_what_was_decoded_gives_the_code_back(found, data, shaped):
    codes = np.array(data.draw(st.lists(st.integers(0, found.size), max_size=30)), dtype=np.int32)
    masses = data.draw(st.lists(st.floats(0, 1e9), min_size=found.size, max_size=found.size))
    density = Density.of(found, np.array(masses)) if shaped else None
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = found.decode(codes, rng=rng, density=density)
    assert found.encode(values).tolist() == codes.tolist()
    assert np.array_equal(found.clamp(values), values, equal_nan=True)


@settings(deadline=None, max_examples=120)
@given(bins(), st.lists(st.floats(), max_size=30))
def test_encoding_is_total_and_clamping_does_not_change_the_cell_of_what_is_inside(found, values):
    array = np.array(values, dtype=np.float64)
    clamped = found.clamp(array)
    assert np.array_equal(np.isnan(clamped), np.isnan(array))
    codes = found.encode(clamped)
    assert np.all((codes >= 0) & (codes <= found.size))
    assert np.array_equal(codes == found.size, np.isnan(array))
    inside = clamped[~np.isnan(clamped)]
    assert np.all((inside >= found.edges[0]) & (inside <= found.edges[-1]))
    assert np.array_equal(found.clamp(clamped), clamped, equal_nan=True)
    if found.decimals is None:
        kept = (array >= found.edges[0]) & (array <= found.edges[-1])
        assert np.array_equal(clamped[kept], array[kept])


@settings(deadline=None, max_examples=100)
@given(st.integers(-50, 50), st.integers(1, 200), st.integers(1, 60), st.integers(0, 3))
def test_a_grid_is_cut_where_exact_arithmetic_cuts_it(first, count, parts, decimals):
    if parts > count:
        return
    step = Fraction(1, 10**decimals)
    low, high = first * step, (first + count - 1) * step
    if low == high:
        return
    found = Bins.of(minimum=float(low), maximum=float(high), bins=parts, decimals=decimals)
    grid = [(first + k) / 10**decimals for k in range(count)]
    if parts == count:
        expected = list(range(count))
    else:
        expected = [min(parts - 1, math.floor(k * step / ((high - low) / parts))) for k in range(count)]
    assert found.encode(np.array(grid)).tolist() == expected
    assert set(expected) == set(range(parts))


@pytest.mark.slow
@settings(deadline=None, max_examples=120)
@given(bins(), st.data())
def test_a_density_keeps_the_mass_of_each_cell_and_leaves_no_part_of_it_out(found, data):
    masses = np.array(data.draw(st.lists(st.floats(0, 1e9), min_size=found.size, max_size=found.size)))
    density = Density.of(found, masses)
    cells = np.repeat(np.arange(found.size), 11)
    places = np.tile(np.linspace(0, 1, 11), found.size)
    shares = density.share(cells, places).reshape(found.size, 11)
    np.testing.assert_allclose(shares[:, [0, -1]], np.tile([0.0, 1.0], (found.size, 1)), atol=1e-9)
    assert np.diff(shares, axis=1).min() > 0.99 * LEAST / 10
    again = density.place(cells, shares.ravel()).reshape(found.size, 11)
    np.testing.assert_allclose(again, places.reshape(found.size, 11), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(1, 9), min_size=2, max_size=30))
def test_neighbours_meet_at_the_edge(masses):
    """Up to a ratio of 9 no end is lowered, so there is no step."""
    found = Bins.of(minimum=0, maximum=1, bins=len(masses))
    density = Density.of(found, np.array(masses))
    heights = np.array(masses) / found.widths
    ends, begins = (density.last * heights)[:-1], (density.first * heights)[1:]
    lowered = (density.middle[:-1] <= LEAST) | (density.middle[1:] <= LEAST)
    np.testing.assert_allclose(ends[~lowered], begins[~lowered])
