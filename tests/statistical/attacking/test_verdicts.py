"""What `dpsynth attack` says of planted leaks and of honest tables: the verdict, not only the attacks behind it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from types import ModuleType

import numpy as np
import pytest

from attacks import run_suite
from dpsynth import Records, ReviewSample
from reports.collect import review_evidence
from reports.gate import decide
from reports.policy import Policy

DAY = date(2026, 11, 20)


def verdict(sample: ReviewSample, synthetic: Records, *, policy: str = "internal-test", seed: int = 0) -> str:
    evidence = review_evidence(run_suite(sample, synthetic, seed=seed), created_at=datetime(2026, 11, 20, tzinfo=UTC))
    return decide(Policy.load(policy), evidence, stage="review", on=DAY).state


def town(tables: ModuleType, seed: int, persons: int) -> tuple[ReviewSample, Records, np.random.Generator]:
    """Two sides of about so many persons each, and as many rows of fresh ones."""
    rng = np.random.default_rng(seed)
    sample = tables.split(tables.population(2 * persons, rng), rng)
    return sample, tables.population(persons, rng).records, rng


@pytest.mark.parametrize("policy", ["internal-test", "hipaa-expert"])
@pytest.mark.parametrize("leak", ["B1", "B6 5%", "B6 1%", "B8"])
def test_a_leak_that_is_shown_fails_however_small(tables: ModuleType, leak: str, policy: str) -> None:
    """1 in 100 copied is far below every threshold, and there."""
    sample, fresh, rng = town(tables, 31, 1500)
    assert verdict(sample, tables.LEAKS[leak](sample, fresh, rng), policy=policy) == "fail"


@pytest.mark.parametrize("leak", ["B7", "B7b random", "B7b extreme", "B18"])
def test_one_copied_person_is_never_passed(tables: ModuleType, leak: str) -> None:
    """No statistic of one table sees it: a person has to look. B18 copies persons held back."""
    sample, fresh, rng = town(tables, 32, 700)
    assert verdict(sample, tables.LEAKS[leak](sample, fresh, rng)) in ("needs_human", "fail")


@pytest.mark.slow
def test_few_persons_do_not_make_an_honest_table_fail(tables: ModuleType) -> None:
    """12 tables of 100 persons a side: a suite with 5 false alarms in 100 has 4 or more with a chance of 0.002."""
    states = []
    for seed in range(12):
        sample, fresh, _ = town(tables, 200 + seed, 100)
        states.append(verdict(sample, fresh, seed=seed))
    assert states.count("fail") <= 3
    assert "pass" not in states, "so few persons rule nothing out"
