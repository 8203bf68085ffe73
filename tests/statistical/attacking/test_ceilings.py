"""Ceilings: no honest release is accused, copies are, and the bound is met where a guarantee is used up.

Randomised inclusion uses its guarantee up: each person of both sides is put into the table by a coin, which says yes with
chance t = e^epsilon / (1 + e^epsilon) to those who were fitted and 1 - t to the others. That is randomised response on who
was fitted: epsilon-DP, and no attack of epsilon-DP does better at a false-positive rate of 1 - t.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from attacks import ATTACKS
from attacks.base import Finding, beyond
from benchmarks.validation import released
from dpsynth import Cap, Cost, Records, ReviewSample, tpr_bound
from dpsynth.privacy import NANO, ORDERS

Found = dict[str, Finding]

BOUNDED = tuple(name for name in ATTACKS if name not in ("vulnerable_records", "reconstruction"))
EPSILON = 1.0
RIGHT = math.exp(EPSILON) / (1 + math.exp(EPSILON))
CLAIM = Cost.approximate("1", 0)
TABLES = 20
MOST = int(stats.binom.isf(1e-3, TABLES, 0.05))
"""Where one table in twenty is accused, more than so many of these are with a chance of at most 1e-3."""


def included(tables: ModuleType, sample: ReviewSample, chance: float, rng: np.random.Generator) -> Records:
    """Rows of those to whom the coin said yes: with this chance if fitted, with what is missing to one if not."""
    parts = [
        side.records.take(np.flatnonzero(rng.random(len(side.records)) < yes))
        for side, yes in ((sample.fit, chance), (sample.control, 1 - chance))
    ]
    joined: Records = tables.joined(*parts)
    return joined


def passed(found: Found, cost: Cost) -> set[str]:
    """The attacks in which more was found than this cost allows."""
    return {name for name, finding in found.items() if beyond(finding.under(cost).variants)}


def on_inclusion(
    tables: ModuleType, chance: float, *, control: float, count: int, persons: int = 500, seed: int = 0
) -> Iterator[Found]:
    """What the attacks find in tables of randomised inclusion."""
    for number in range(seed, seed + count):
        rng = np.random.default_rng(number)
        sample = tables.split(tables.population(persons, rng), rng, control=control)
        yield tables.found(sample, included(tables, sample, chance, rng), seed=number, only=BOUNDED)


@pytest.mark.slow
@pytest.mark.parametrize("control", [0.15, 0.5, 0.85])
def test_a_guarantee_that_is_used_up_is_kept(tables: ModuleType, control: float) -> None:
    """All attacks together accuse at most one table in twenty: false here with a chance of at most 1e-3."""
    accused = [bool(passed(found, CLAIM)) for found in on_inclusion(tables, RIGHT, control=control, count=TABLES)]
    assert sum(accused) <= MOST


def test_twice_the_declared_loss_is_seen(tables: ModuleType) -> None:
    """The test above can fail: at epsilon 2 most tables are accused, by several attacks."""
    right = math.exp(2 * EPSILON) / (1 + math.exp(2 * EPSILON))
    accused = [passed(found, CLAIM) for found in on_inclusion(tables, right, control=0.5, count=MOST + 1, seed=50)]
    assert all(len(attacks) > 1 for attacks in accused)


@pytest.mark.slow
def test_the_number_itself_instead_of_its_near_end_is_noticed(tables: ModuleType) -> None:
    """With no room for chance, half of the honest tables are accused by exact match alone."""
    accused = 0
    for found in on_inclusion(tables, RIGHT, control=0.5, count=TABLES, seed=100):
        rates = found["exact_match"].variants["values, all columns"]
        assert rates.fit is not None
        assert rates.control is not None
        accused += rates.fit.value > tpr_bound(CLAIM, rates.control.value)
    assert accused > MOST


def test_randomised_inclusion_nearly_meets_the_bound(tables: ModuleType) -> None:
    """About 1,000 persons on each side of each of 3 tables: standard errors of rates are below 0.01."""
    found = [
        {name: finding.under(CLAIM) for name, finding in one.items()}
        for one in on_inclusion(tables, RIGHT, control=0.5, count=3, persons=2000, seed=200)
    ]

    def mean(read: Any) -> float:
        return float(np.mean([read(one) for one in found]))

    assert tpr_bound(CLAIM, 1 - RIGHT) == pytest.approx(RIGHT, abs=1e-4)
    exact = mean(lambda one: one["exact_match"].variants["values, all columns"].fit.value)
    assert exact == pytest.approx(RIGHT, abs=0.03)
    nearest = [one["nearest_record"].variants["all rows"] for one in found]
    assert np.mean([measure.estimate for measure in nearest]) == pytest.approx(nearest[0].ceiling, abs=0.03)
    area = [one["membership"].figures["AUC, closeness, best row"] for one in found]
    assert area[0].ceiling == pytest.approx(RIGHT, abs=1e-3)  # of all epsilon-DP mechanisms
    assert np.mean([measure.estimate for measure in area]) == pytest.approx(RIGHT, abs=0.03)


@pytest.mark.parametrize("rho", ["1/100", "1/20"])
def test_copies_that_declare_a_small_loss_pass_their_ceilings(tables: ModuleType, rho: str) -> None:
    rng = np.random.default_rng(300)
    sample = tables.split(tables.population(1000, rng), rng)
    found = tables.found(sample, sample.fit.records, only=BOUNDED)
    assert passed(found, Cost.zcdp(Fraction(rho))) == set(BOUNDED)


@pytest.mark.parametrize("synthesizer", ["independent", "mst"])
@pytest.mark.usefixtures("seeded_noise")
def test_our_own_releases_stay_below(tables: ModuleType, synthesizer: str) -> None:
    """Under the cost that they declare. Attackers know which columns were counted."""
    cost = Cap.of("0.5", "1e-6").cost
    for seed in range(2):
        rng = np.random.default_rng(400 + seed)
        sample = tables.split(tables.population(600, rng), rng)
        rows, _ = released(sample, synthesizer, "0.5")
        assert not passed(tables.found(sample, rows, only=BOUNDED), cost)


def test_a_ceiling_bounds_the_mean_over_releases() -> None:
    """What it cannot say: inclusion at epsilon 3 in three releases of ten, else nothing, is accused in these three."""
    often, right = 0.3, math.exp(3) / (1 + math.exp(3))
    odds = np.log([right, 1 - right])
    orders = np.array([float(order) for order in ORDERS])
    answers = [orders * p + (1 - orders) * q + math.log(often) for p, q in (odds, odds[::-1])]
    nothing = np.full(len(orders), math.log(1 - often))
    loss = np.logaddexp.reduce([*answers, nothing]) / (orders - 1)  # Renyi divergence of the mixture, which is seen
    cost = Cost(extra=tuple(int(nano) + 1 for nano in np.ceil(np.maximum(loss, 0) * NANO)))
    assert tpr_bound(cost, often * (1 - right) + (1 - often) / 2) >= often * right + (1 - often) / 2
    assert tpr_bound(cost, 1 - right) < 0.5 < right


def test_a_hole_is_deeper_than_the_guarantee_allows(tables: ModuleType) -> None:
    """A table made of persons held back alone: the floor of nearest record is passed, no ceiling is."""
    rng = np.random.default_rng(500)
    sample = tables.split(tables.population(1000, rng), rng)
    found = tables.found(sample, sample.control.records, only=("nearest_record", "exact_match", "linkage"))
    assert passed(found, Cost.zcdp(Fraction("1/100"))) == {"nearest_record"}


def test_few_rows_repeated_again_and_again_accuse_nobody(tables: ModuleType) -> None:
    """They come from strangers. Whoever of few persons stands next to them gets all points of nearest record."""
    cost = Cost.approximate("0.1", 0)
    for seed in range(20):
        rng = np.random.default_rng(600 + seed)
        sample = tables.split(tables.population(80, rng), rng, control=0.6)
        strangers = tables.population(4, rng).records
        found = tables.found(sample, strangers.take(np.repeat(np.arange(4), 100)), seed=seed, only=("nearest_record",))
        assert not passed(found, cost)
