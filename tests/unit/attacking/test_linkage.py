"""Links across torn columns against a slow recomputation, and the search for the worst split."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from attacks.linkage import TORN, WORST, one_moved, same_row
from dpsynth import Records


def test_links_across_torn_columns_by_hand() -> None:
    rng = np.random.default_rng(0)
    rows, table = rng.integers(3, size=(70, 5)), rng.integers(3, size=(40, 5))
    splits = np.array([[1, 1, 0, 0, 0], [0, 1, 0, 1, 1]], dtype=bool)
    found = same_row(rows, table, splits)
    for number, first in enumerate(splits):
        for row in range(70):
            differs = rows[row] != table
            one, other = differs[:, first].sum(axis=1), differs[:, ~first].sum(axis=1)
            near, too = one == one.min(), other == other.min()
            assert found[number, row] == pytest.approx((near & too).sum() / (near.sum() * too.sum()))


@pytest.mark.parametrize(("columns", "codes", "offered"), [(2, 2, 1), (3, 1, 64), (5, 3, 65), (8, 2, 200), (9, 40, 7)])
def test_moving_one_column_is_a_shortcut_and_nothing_else(columns: int, codes: int, offered: int) -> None:
    """Rows that agree nowhere and rows that agree everywhere among them, in blocks of several sizes."""
    rng = np.random.default_rng(columns)
    rows, table = rng.integers(codes, size=(450, columns)), rng.integers(codes, size=(offered, columns))
    rows[:5], rows[5:10] = codes + 1, table[0]
    for _ in range(3):
        first = rng.random(columns) < 0.5
        first[:2] = True, False
        moved = first ^ np.eye(columns, dtype=bool)
        both = moved.any(axis=1) & ~moved.all(axis=1)
        assert np.array_equal(one_moved(rows, table, first)[both], same_row(rows, table, moved[both]))


def torn(tables: ModuleType, sample, synthetic: Records):
    return tables.found(sample, synthetic, only=("linkage",))["linkage"]


def test_a_copy_links_across_any_split_and_a_fresh_table_across_none(tables: ModuleType) -> None:
    rng = np.random.default_rng(1)
    sample, fresh = tables.split(tables.population(800, rng), rng), tables.population(400, rng).records
    copy, honest = torn(tables, sample, sample.fit.records), torn(tables, sample, fresh)
    for name in (TORN, WORST):
        assert copy.variants[name].interval.low > 0.1, name
        assert 0.0 in honest.variants[name].interval, name
    assert honest.p_value > 0.05


def test_the_search_finds_the_columns_that_were_copied_together(tables: ModuleType) -> None:
    """Half of the columns are copied row by row, the others drawn by themselves: most splits say nothing."""
    rng = np.random.default_rng(2)
    sample, fresh = tables.split(tables.population(2400, rng), rng), tables.population(1200, rng).records
    fit = sample.fit.records
    copied = ("age", "region", "school", "income", "balance")
    columns = {
        name: fit.columns[name][:1000] if name in copied else fresh.columns[name][:1000] for name in fit.schema.names
    }
    found = torn(tables, sample, Records(fit.schema, columns))
    assert found.variants[WORST].interval.low > 0
    assert found.p_value < 0.05


def test_nothing_is_selected_and_judged_on_the_same_persons(tables: ModuleType) -> None:
    """Selection on the judged half would raise false alarms: none in 12 fresh tables at 1 in 100 (chance 0.89)."""
    for seed in range(12):
        rng = np.random.default_rng(300 + seed)
        sample, fresh = tables.split(tables.population(160, rng), rng), tables.population(80, rng).records
        assert torn(tables, sample, fresh).p_value > 0.005, seed
