"""Networks learn what columns have to do with one another, which their calibrated single columns cannot tell.

Noise and first weights follow from seeds, so each test passes always or never. What is asked lies halfway between columns
shuffled apart (0.5) and the truth (0.9).
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from dpsynth import Cap, Cost
from dpsynth.neural.ardm import Ardm
from dpsynth.neural.vae import Vae

PERSONS = 4000
HALFWAY = 0.7


def parity(rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """The second column repeats the first in nine rows of ten; the third is a coin of its own."""
    first = rng.integers(0, 2, PERSONS)
    second = np.where(rng.random(PERSONS) < 0.9, first, 1 - first)
    return np.stack([first, second, rng.integers(0, 2, PERSONS)], axis=1)


def share_alike(codes: np.ndarray[Any, Any]) -> float:
    return float((codes[:, 0] == codes[:, 1]).mean())


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [Ardm(), Vae()], ids=["ardm", "vae"])
def test_what_ships_learns_a_pair(
    recipe: Any, open_curator: Callable[..., Any], make_schema: Callable[..., Any], make_frame: Callable[..., Any]
) -> None:
    rows, schema = parity(np.random.default_rng(0)), make_schema([2, 2, 2])
    curator = open_curator(make_frame(rows.tolist(), columns=3), schema, seed=1)
    budget = recipe.cost(schema, promise=Cap.of(4, "1e-6"), share=Fraction(1))
    drawn = recipe.fit(curator, budget=budget).sample(4000, rng=np.random.default_rng(2)).codes
    print(share_alike(drawn))
    assert share_alike(drawn) > HALFWAY
    assert abs(drawn[:, 2].mean() - 0.5) < 0.05


def test_a_network_that_learned_nothing_is_noticed(
    open_curator: Callable[..., Any], make_schema: Callable[..., Any], make_frame: Callable[..., Any]
) -> None:
    rows = parity(np.random.default_rng(0))
    curator = open_curator(make_frame(rows.tolist(), columns=3), make_schema([2, 2, 2]), seed=1)
    model = Ardm(steps=1, learning_rate=1e-6).fit(curator, budget=Cost.zcdp(Fraction(2)))
    assert abs(share_alike(model.sample(4000, rng=np.random.default_rng(2)).codes) - 0.5) < 0.05
