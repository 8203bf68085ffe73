"""What reconstruction finds in tables that leak, and that its p-values are honest where none does.

Seeds are fixed; each test states the chance with which a correct attack would fail it on fresh ones.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from attacks.base import Finding
from attacks.people import People, Rows
from attacks.reconstruction import Reconstruction
from attacks.suite import stream
from dpsynth import Records, ReviewSample


def attacked(sample: ReviewSample, synthetic: Records, *, seed: int = 0) -> Finding:
    people = People.of(sample, rng=stream(seed, "people"))
    return Reconstruction().run(people, Rows.of(synthetic).sorted(), rng=stream(seed, "reconstruction"))


def drawn(tables: ModuleType, seed: int, persons: int, **how: Any) -> tuple[np.random.Generator, ReviewSample, Records]:
    rng = np.random.default_rng(seed)
    rows = how.pop("rows", 1)
    sample = tables.split(tables.population(2 * persons, rng, rows=rows), rng, **how)
    return rng, sample, tables.population(persons, rng, rows=rows).records


@pytest.mark.parametrize("leak", ["B1", "B2", "B4 10%", "B5", "B9", "B11"])
def test_leaks_are_reconstructed(tables: ModuleType, leak: str) -> None:
    """B9 copies two kinds of columns together and no whole row."""
    rng, sample, fresh = drawn(tables, 100, 600)
    finding = attacked(sample, tables.LEAKS[leak](sample, fresh, rng))
    assert finding.p_value is not None
    assert finding.p_value < 0.01
    assert finding.headline()[2].low > 0


def test_marginals_alone_are_enough(tables: ModuleType) -> None:
    """No row of the person's is in the table: each sensitive column was drawn anew, given two quasi-identifiers.

    A table made in the same way of other persons' rows gives nothing away.
    """
    estimates = []
    for source in ("fit", "fresh"):
        _, sample, fresh = drawn(tables, 7, 600)
        table = sample.fit.records if source == "fit" else fresh
        rng = np.random.default_rng(8)
        key = np.asarray(table.columns["age"]) * 100 + np.asarray(table.columns["region"]) * 2 + table.columns["sex"]
        moved = {}
        for name in ("balance", "cost", "ill"):
            values = np.array(table.columns[name])
            for cell in np.unique(key):
                where = np.flatnonzero(key == cell)
                values[where] = values[rng.permutation(where)]
            moved[name] = values
        finding = attacked(sample, tables.changed(table, **moved))
        estimates.append((finding.variants["all sensitive columns"].estimate, finding.p_value))
    assert estimates[0][0] > 0.05
    assert estimates[0][1] < 0.01
    assert estimates[1][1] > 0.05


def test_fresh_rows_are_no_leak(tables: ModuleType) -> None:
    """A correct attack fails this (4 or more alarms in 20) with a chance of 0.016."""
    alarms, known = 0, []
    for seed in range(20):
        _, sample, fresh = drawn(tables, 100 + seed, 300)
        finding = attacked(sample, fresh, seed=seed)
        assert finding.p_value is not None
        alarms += finding.p_value < 0.05
        control = finding.variants["all sensitive columns"].control
        assert control is not None
        known.append(control.value)
    assert alarms < 4
    assert np.mean(known) > 0.55  # what the population tells is right about persons held back as well


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"control": 0.2}, {"control": 0.8}, {"rows": 3}], ids=str)
def test_p_values_are_not_too_small(tables: ModuleType, how: dict[str, Any]) -> None:
    """At most uniform where nothing leaks, whatever the sizes: one-sided Kolmogorov-Smirnov at 0.005 each.

    Persons of one sum depend on one another through its solution, which shuffling does not repeat: this is the test
    that they do so too little to matter.
    """
    p_values = []
    for seed in range(120):
        _, sample, fresh = drawn(tables, 3000 + seed, 200, **how)
        p_values.append(attacked(sample, fresh, seed=seed).p_value)
    assert stats.kstest(p_values, "uniform", alternative="greater").pvalue > 0.005
    assert np.mean(np.array(p_values) < 0.05) < 0.11  # 14 or more of 120 have a chance of 0.003
