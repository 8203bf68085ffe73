"""Whatever the persons, the weights and the program: a person more or less moves a sum of gradients by the bound at most."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth.curator import PersonBatch, clipped_sum
from dpsynth.mechanisms.clipping import ClippedSum
from dpsynth.neural.ardm import Ardm, Completion
from dpsynth.neural.gradients import Gradients
from dpsynth.neural.vae import Autoencoder

ROUNDING = 1 + 1e-9  # of this test, in float64


@st.composite
def questions(draw: Any) -> tuple[Gradients, PersonBatch, int, float]:
    """A network with some weights, a batch, a person of it, and a clipping bound."""
    sizes = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    offsets = np.log(np.random.default_rng(draw(st.integers(0, 9))).random(sum(sizes)) + 1e-3)
    looks = draw(st.integers(1, 3))
    if draw(st.booleans()):
        program: Any = Completion(
            sizes, offsets, hidden=draw(st.integers(1, 6)), depth=draw(st.integers(0, 2)), looks=looks
        )
    else:
        program = Autoencoder(
            sizes, offsets, hidden=draw(st.integers(1, 6)), latent=draw(st.integers(1, 3)), looks=looks
        )
    question = Gradients(program, "cpu")
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.0, 0.1, 1.0, 30.0, 1e6]))
    question.load((scale * rng.standard_normal(question.size)).astype(np.float32))
    persons, rows = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    present = rng.random((persons, rows)) < draw(st.sampled_from([0.3, 1.0]))
    codes = (rng.integers(0, sizes, (persons, rows, len(sizes))) * present[..., None]).astype(np.int32)
    if draw(st.booleans()):
        codes[:, 1:] = codes[:, :1] * present[:, 1:, None]  # all rows of a person alike: they pull one way
    coins = rng.integers(0, 2**63, persons).astype(np.uint64)
    batch = PersonBatch(codes=codes, present=present, coins=coins)
    return question, batch, draw(st.integers(0, persons - 1)), draw(st.sampled_from([0.01, 1.0, 50.0]))


@given(questions())
@settings(max_examples=60)
def test_one_person_moves_a_sum_by_the_bound_at_most(case: tuple[Gradients, PersonBatch, int, float]) -> None:
    question, batch, person, clip = case
    others = np.arange(batch.persons) != person
    rest = PersonBatch(codes=batch.codes[others], present=batch.present[others], coins=batch.coins[others])
    whole, less = clipped_sum(question, batch, clip=clip), clipped_sum(question, rest, clip=clip)
    assert np.isfinite(whole).all()
    assert np.linalg.norm(whole - less) <= clip * ROUNDING + 1e-6 * clip * batch.persons  # of tiny products in float32
    alone = clipped_sum(question, batch.part(slice(person, person + 1)), clip=clip)
    assert np.linalg.norm(alone) <= clip * ROUNDING


def test_the_bound_holds_in_a_large_batch() -> None:
    """A hundred thousand gradients that are nearly alike: in float32 rounding one away moved the sum by 1.0011 bounds."""
    rng, persons = np.random.default_rng(0), 100_001
    recipe = Ardm(hidden=16)
    question = Gradients(recipe.program((2,), np.array([-20.0, 0.0])), "cpu")
    question.load(recipe.first(list(question.shapes)).astype(np.float32))
    codes = (rng.random((persons, 1, 1)) < 0.1).astype(np.int32)
    codes[0] = 0
    coins = rng.integers(0, 2**63, persons).astype(np.uint64)
    batch = PersonBatch(codes=codes, present=np.ones((persons, 1), dtype=bool), coins=coins)
    first, others = batch.part(slice(0, 1)), batch.part(slice(1, None))
    whole, alone, rest = (clipped_sum(question, part, clip=1.0) for part in (batch, first, others))
    assert 0.99 < np.linalg.norm(whole - rest) <= 1
    np.testing.assert_array_equal(whole - rest, alone)


@st.composite
def layers(draw: Any) -> tuple[Any, npt.NDArray[np.float64], float]:
    """Factors of a few persons, of any size, the same written out as vectors, and a clipping bound."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    persons, found, written = draw(st.integers(1, 6)), [], []
    for _ in range(draw(st.integers(1, 3))):
        looks, inputs, outputs = draw(st.integers(1, 10)), draw(st.integers(1, 6)), draw(st.integers(1, 6))
        into, back = (
            (rng.standard_normal((persons, looks, size)) * 10.0 ** draw(st.integers(-30, 15))).astype(np.float32)
            for size in (inputs, outputs)
        )
        if draw(st.booleans()):
            back[:, 1::2] = -back[:, : looks // 2 * 2 : 2]  # looks that cancel
            into[:, 1::2] = into[:, : looks // 2 * 2 : 2]
        found.append((into, back))
        ones = np.pad(into.astype(np.float64), [(0, 0), (0, 0), (0, 1)], constant_values=1)
        written.append(np.einsum("plo,pli->poi", back.astype(np.float64), ones).reshape(persons, -1))
    return found, np.concatenate(written, axis=1), draw(st.sampled_from([1e-6, 0.3, 1.0, 1e4]))


@given(layers())
@settings(max_examples=200)
def test_any_factors_are_clipped_and_add_up_exactly(case: tuple[Any, npt.NDArray[np.float64], float]) -> None:
    factors, written, clip = case
    shapes = [(into.shape[2], back.shape[2]) for into, back in factors]

    def total(*persons: int) -> npt.NDArray[np.float64]:
        out = ClippedSum(shapes, clip=clip)
        for person in persons:
            out.add([(into[person : person + 1], back[person : person + 1]) for into, back in factors], persons=1)
        return out.value()

    everybody = range(len(written))
    at_once = ClippedSum(shapes, clip=clip)
    at_once.add(factors, persons=len(written))
    alone = np.stack([total(person) for person in everybody])
    norms = np.linalg.norm(alone, axis=1)
    assert (norms <= clip * ROUNDING).all()
    np.testing.assert_array_equal(at_once.value(), total(*reversed(everybody)))
    np.testing.assert_allclose(at_once.value(), alone.sum(axis=0), atol=1e-9 * clip)


def test_a_clipped_gradient_points_where_it_pointed_and_is_nearly_as_long_as_the_bound() -> None:
    rng = np.random.default_rng(0)
    into, back = (rng.standard_normal((1, 2, size)).astype(np.float32) for size in (40, 30))
    out = ClippedSum([(40, 30)], clip=0.5)
    out.add([(into, back)], persons=1)
    ones = np.pad(into[0].astype(np.float64), [(0, 0), (0, 1)], constant_values=1)
    wanted = (back[0].T.astype(np.float64) @ ones).ravel()
    assert np.linalg.norm(out.value()) == pytest.approx(0.5, rel=1e-3)
    assert out.value() @ wanted / np.linalg.norm(wanted) == pytest.approx(0.5, rel=1e-3)


def test_clipping_each_row_by_itself_would_break_it() -> None:
    """Planted: three like rows of one person, each clipped, count three times."""
    question = Gradients(Completion((4, 3), np.zeros(7), hidden=4, depth=0, looks=1), "cpu")
    question.load(np.random.default_rng(0).standard_normal(question.size).astype(np.float32))
    codes = np.full((1, 3, 2), 2, dtype=np.int32)
    together = PersonBatch(codes=codes, present=np.ones((1, 3), dtype=bool), coins=np.ones(1, dtype=np.uint64))
    apart = PersonBatch(
        codes=codes.reshape(3, 1, 2), present=np.ones((3, 1), dtype=bool), coins=np.ones(3, dtype=np.uint64)
    )
    assert np.linalg.norm(clipped_sum(question, together, clip=0.01)) <= 0.01
    assert np.linalg.norm(clipped_sum(question, apart, clip=0.01)) == pytest.approx(0.03, rel=0.01)


@pytest.mark.parametrize("power", range(-80, -70))
def test_products_too_small_for_float32_add_next_to_nothing(power: int) -> None:
    """Looks that cancel there have a square below zero, of which there is no root: it must not spread to anybody."""
    rng = np.random.default_rng(-power)
    back = (rng.uniform(0.5, 2, (300, 3, 2)) * rng.choice([-1, 1], (300, 3, 2)) * 2.0**power).astype(np.float32)
    into = rng.uniform(-1, 1, (300, 3, 4)).astype(np.float32)
    back[7:11], honest = 1.0, ClippedSum([(4, 2)], clip=1.0)
    total = ClippedSum([(4, 2)], clip=1.0)
    total.add([(into, back)], persons=300)
    honest.add([(into[7:11], back[7:11])], persons=4)
    assert np.array_equal(total.value(), honest.value())
