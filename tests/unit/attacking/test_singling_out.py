"""Predicates and chances against slow and obvious recomputation."""

from __future__ import annotations

from itertools import combinations
from types import ModuleType

import numpy as np
import pytest

from attacks.people import Group, Rows
from attacks.singling_out import Predicates, alone


@pytest.mark.parametrize("crowd", [1, 2, 4, 6])
def test_chance_of_being_alone_is_counted_right(crowd: int) -> None:
    for matching in range(7):
        draws = list(combinations(range(6), crowd))
        exact = np.mean([sum(person < matching for person in draw) == 1 for draw in draws])
        assert alone(np.array([float(matching)]), 6, crowd)[0] == pytest.approx(exact)


def test_predicates_hold_for_those_who_satisfy_them(tables: ModuleType) -> None:
    rng = np.random.default_rng(0)
    table = Rows.of(tables.population(300, rng).records)
    sample = tables.population(80, rng, rows=3)
    group = Group.of(tables.side(sample, np.ones(80, dtype=bool)))
    predicates = Predicates.guessed(table, rng)
    matches = predicates.satisfied(group).toarray()
    for number in rng.choice(len(predicates.low), 60, replace=False):
        holds = np.ones(len(group.rows), dtype=bool)
        for place in range(len(group.rows.columns)):
            value, cell = group.rows.values[:, place], group.rows.cells[:, place]
            if predicates.cell[number, place] >= 0:
                holds &= cell == predicates.cell[number, place]
            low, high = predicates.low[number, place], predicates.high[number, place]
            if np.isfinite(low) or np.isfinite(high):
                holds &= np.isfinite(value) & (value >= low) & (value <= high)
        assert (matches[number] == group.any(holds)).all()


def test_every_predicate_claims_something(tables: ModuleType) -> None:
    rng = np.random.default_rng(0)
    predicates = Predicates.guessed(Rows.of(tables.population(300, rng).records), rng)
    claims = (predicates.cell >= 0) | np.isfinite(predicates.low) | np.isfinite(predicates.high)
    assert claims.sum(axis=1).min() >= 2
    assert claims.sum(axis=1).max() <= 6


def test_sides_of_different_size_are_compared_fairly(tables: ModuleType) -> None:
    """A larger crowd hides people better; the mean over equal crowds takes that out."""
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(2000, rng), rng, control=0.2)
    found = tables.found(sample, tables.population(1000, rng).records, only=("singling_out",))["singling_out"]
    measure = found.variants["predicates"]
    assert 0.0 in measure.interval
    assert found.p_value > 0.01


def test_leaves_hold_one_row_of_the_table(tables: ModuleType) -> None:
    """Every box holds at least one synthetic row, and nearly all hold exactly one."""
    rng = np.random.default_rng(0)
    sample = tables.population(300, rng)
    table = Rows.of(sample.records)
    leaves = Predicates.of_leaves(table, rng)
    held = np.asarray(leaves.satisfied(Group.of(tables.side(sample, np.ones(300, dtype=bool)))).sum(axis=1)).reshape(-1)
    assert held.min() >= 1
    assert np.mean(held == 1) > 0.95
    assert len(held) > 200


def test_one_column_predicates_claim_one_column(tables: ModuleType) -> None:
    rng = np.random.default_rng(0)
    sample = tables.population(300, rng)
    guessed = Predicates.of_one_column(Rows.of(sample.records), rng)
    claims = (guessed.cell >= 0) | np.isfinite(guessed.low) | np.isfinite(guessed.high)
    assert (claims.sum(axis=1) == 1).all()
    group = Group.of(tables.side(sample, np.ones(300, dtype=bool)))
    exact = guessed.low.max(axis=1) == guessed.high.min(axis=1)
    assert exact.any()
    assert (np.asarray(guessed.satisfied(group).sum(axis=1)).reshape(-1)[exact] == 1).all()


def test_a_copy_is_singled_out_in_every_game(tables: ModuleType) -> None:
    rng = np.random.default_rng(1)
    sample = tables.split(tables.population(800, rng), rng)
    copy = tables.found(sample, sample.fit.records, only=("singling_out",))["singling_out"]
    assert set(copy.variants) == {"predicates", "one column", "tree leaves"}
    for name, measure in copy.variants.items():
        assert measure.interval.low > 0, name
    assert copy.exposed is not None
    assert copy.exposed[0].mean() > copy.exposed[1].mean()
