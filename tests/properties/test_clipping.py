"""Whatever the persons, the weights and the program: a person more or less moves a sum of gradients by the bound at most."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth.curator import PersonBatch
from dpsynth.neural.ardm import Completion
from dpsynth.neural.gradients import ClippedGradients
from dpsynth.neural.vae import Autoencoder

ROUNDING = 1 + 1e-5  # of sums in float32; the clipping bound keeps a margin of its own


@st.composite
def questions(draw: Any) -> tuple[ClippedGradients, PersonBatch, int, float]:
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
    question = ClippedGradients(program, "cpu")
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
def test_one_person_moves_a_sum_by_the_bound_at_most(case: tuple[ClippedGradients, PersonBatch, int, float]) -> None:
    question, batch, person, clip = case
    others = np.arange(batch.persons) != person
    rest = PersonBatch(codes=batch.codes[others], present=batch.present[others], coins=batch.coins[others])
    whole, less = question.clipped_sum(batch, clip=clip), question.clipped_sum(rest, clip=clip)
    assert np.isfinite(whole).all()
    slack = 1e-6 * clip * batch.persons
    assert np.linalg.norm(whole - less) <= clip * ROUNDING + slack
    alone = question.clipped_sum(batch.part(slice(person, person + 1)), clip=clip)
    assert np.linalg.norm(alone) <= clip


def test_clipping_each_row_by_itself_would_break_it() -> None:
    """Planted: three like rows of one person, each clipped, count three times."""
    question = ClippedGradients(Completion((4, 3), np.zeros(7), hidden=4, depth=0, looks=1), "cpu")
    question.load(np.random.default_rng(0).standard_normal(question.size).astype(np.float32))
    codes = np.full((1, 3, 2), 2, dtype=np.int32)
    together = PersonBatch(codes=codes, present=np.ones((1, 3), dtype=bool), coins=np.ones(1, dtype=np.uint64))
    apart = PersonBatch(
        codes=codes.reshape(3, 1, 2), present=np.ones((3, 1), dtype=bool), coins=np.ones(3, dtype=np.uint64)
    )
    assert np.linalg.norm(question.clipped_sum(together, clip=0.01)) <= 0.01
    assert np.linalg.norm(question.clipped_sum(apart, clip=0.01)) == pytest.approx(0.03, rel=0.01)
