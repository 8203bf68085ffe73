"""What probabilistic linkage finds in tables that leak, and that its p-values are honest where none does.

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
from attacks.record_linkage import RecordLinkage
from attacks.suite import stream
from dpsynth import Records, ReviewSample


def attacked(sample: ReviewSample, synthetic: Records, *, seed: int = 0) -> Finding:
    people = People.of(sample, rng=stream(seed, "people"))
    return RecordLinkage().run(people, Rows.of(synthetic).sorted(), rng=stream(seed, "record_linkage"))


def drawn(tables: ModuleType, seed: int, persons: int, **how: Any) -> tuple[np.random.Generator, ReviewSample, Records]:
    rng = np.random.default_rng(seed)
    rows = how.pop("rows", 1)
    sample = tables.split(tables.population(2 * persons, rng, rows=rows), rng, **how)
    return rng, sample, tables.population(persons, rng, rows=rows).records


@pytest.mark.parametrize("leak", ["B1", "B2", "B4 10%", "B4 30%", "B5", "B6 5%", "B9", "B11"])
def test_leaks_are_linked(tables: ModuleType, leak: str) -> None:
    """B9 copies two kinds of columns together and no whole row."""
    rng, sample, fresh = drawn(tables, 100, 600)
    finding = attacked(sample, tables.LEAKS[leak](sample, fresh, rng))
    assert finding.p_value is not None
    assert finding.p_value < 0.01
    assert finding.headline()[2].low > 0


def test_confident_links_are_right_more_often(tables: ModuleType) -> None:
    """Three cells in ten resampled: some persons lost a quasi-identifier, and the attacker knows whom to leave."""
    rng, sample, fresh = drawn(tables, 102, 800)
    figures = attacked(sample, tables.LEAKS["B4 30%"](sample, fresh, rng)).figures
    precision = [figures[f"precision, {name}"].fit for name in ("all links", "most confident tenth")]
    assert precision[0] is not None
    assert precision[1] is not None
    assert precision[1].value > 1.5 * precision[0].value


def test_fresh_rows_are_no_leak(tables: ModuleType) -> None:
    """Correct attacks fail this with a chance of 0.05."""
    _, sample, fresh = drawn(tables, 101, 600)
    finding = attacked(sample, fresh)
    assert finding.p_value is not None
    assert finding.p_value > 0.05
    assert finding.headline()[2].high < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"control": 0.2}, {"control": 0.8}, {"rows": 3}], ids=str)
def test_p_values_are_not_too_small(tables: ModuleType, how: dict[str, Any]) -> None:
    """At most uniform where nothing leaks: one-sided Kolmogorov-Smirnov at 0.005 each.

    One sensitive column, so that links succeed often enough for p-values to be fine.
    """
    p_values = []
    for seed in range(120):
        _, sample, fresh = drawn(tables, 3000 + seed, 200, **how)
        p_values.append(attacked(sample, fresh, seed=seed).p_value)
    assert stats.kstest(p_values, "uniform", alternative="greater").pvalue > 0.005
    assert np.mean(np.array(p_values) < 0.05) < 0.11  # 14 or more of 120 have a chance of 0.003
