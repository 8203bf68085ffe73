"""Rows drawn by a network: any weights, the schema's constraints, and what calibration does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dpsynth.models.network import NetworkModel, _drawn
from dpsynth.schema import Column, Constraint, Schema

RULES = (
    "a == '1' or b != '0'",
    "b != '2' or c == '0'",
    "n >= m",
    "d != '1' or n >= 5",
)


def schema_of(rules: tuple[str, ...] = RULES) -> Schema:
    letters = tuple(Column(name=name, type="category", values=("0", "1", "2")) for name in "abcd")
    numbers = tuple(Column(name=name, type="integer", minimum=0, maximum=9, bins=5) for name in "nm")
    free = Column(name="free", type="boolean", missing=True)
    return Schema(
        table="t",
        columns=(*letters, *numbers, free),
        basis="test",
        constraints=tuple(Constraint(rule=rule) for rule in rules),
    )


def network(schema: Schema, kind: str = "ardm", *, seed: int | None = 0) -> NetworkModel:
    cells, rng = sum(schema.sizes), np.random.default_rng(seed)
    into = cells + len(schema.sizes) if kind == "ardm" else 3
    shapes = [(6, into), (6, 6), (cells, 6)]
    scale = 0.0 if seed is None else 3.0
    layers = tuple(
        ((scale * rng.standard_normal(s)).astype(np.float32), (scale * rng.standard_normal(s[0])).astype(np.float32))
        for s in shapes
    )
    offsets = np.zeros(cells, dtype=np.float32)
    return NetworkModel(schema=schema, measurements=(), total=50.0, kind=kind, layers=layers, offsets=offsets)


@pytest.mark.parametrize("kind", ["ardm", "vae"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_row_keeps_the_constraints_whatever_the_weights(kind: str, seed: int) -> None:
    schema = schema_of()
    codes = network(schema, kind, seed=seed).sample(3000, rng=np.random.default_rng(seed)).codes
    for columns, mask in schema.rules.masks:
        assert mask[tuple(codes[:, c] for c in columns)].all()


def test_every_row_that_is_possible_is_drawn() -> None:
    """A network without an opinion: of the constrained columns each combination that keeps the rules comes."""
    schema = schema_of()
    codes = network(schema, seed=None).sample(60_000, rng=np.random.default_rng(0)).codes
    found = set(map(tuple, codes[:, :6].tolist()))
    grid = np.stack(np.meshgrid(*map(np.arange, schema.sizes[:6]), indexing="ij"), axis=-1).reshape(-1, 6)
    kept = np.ones(len(grid), dtype=bool)
    for columns, mask in schema.rules.masks:
        kept &= mask[tuple(grid[:, c] for c in columns)]
    assert found == set(map(tuple, grid[kept].tolist()))


def test_cells_come_as_often_as_their_probabilities_say() -> None:
    rng, logits = np.random.default_rng(0), np.log(np.array([[0.1, 0.0, 0.6, 0.3]], dtype=np.float32) + 1e-30)
    drawn = np.bincount(_drawn(np.repeat(logits, 100_000, axis=0), None, rng=rng), minlength=4) / 100_000
    np.testing.assert_allclose(drawn, [0.1, 0, 0.6, 0.3], atol=0.01)
    allowed = np.repeat([[True, True, False, False]], 100_000, axis=0)
    assert (_drawn(np.repeat(logits, 100_000, axis=0), allowed, rng=rng) == 0).all()


class Stuck:
    """Uniform numbers at the ends of what a generator can give."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self, shape: Any) -> Any:
        return np.full(shape, self.value)


@pytest.mark.parametrize("value", [0.0, 1 - 2**-53])
def test_no_uniform_number_draws_an_impossible_cell(value: float) -> None:
    logits = np.zeros((2, 3), dtype=np.float32)
    for allowed in ([False, True, False], [True, False, False], [False, False, True]):
        cells = _drawn(logits, np.array([allowed, allowed]), rng=Stuck(value))  # type: ignore[arg-type]
        assert (cells == allowed.index(True)).all()


@pytest.mark.parametrize("kind", ["ardm", "vae"])
def test_calibration_brings_single_columns_where_they_belong(kind: str) -> None:
    schema = schema_of(())
    shares = [np.random.default_rng(3).dirichlet(np.full(size, 2.0)) for size in schema.sizes]
    before = network(schema, kind)
    before = replace(before, layers=tuple((w / 9, b / 9) for w, b in before.layers))
    after = before.calibrated(shares)

    def distance(model: NetworkModel) -> float:
        codes = model.sample(20_000, rng=np.random.default_rng(1)).codes
        found = [np.bincount(codes[:, c], minlength=size) / len(codes) for c, size in enumerate(schema.sizes)]
        return max(float(np.abs(a - b).sum() / 2) for a, b in zip(found, shares, strict=True))

    assert distance(after) < 0.03 < 0.1 < distance(before)
