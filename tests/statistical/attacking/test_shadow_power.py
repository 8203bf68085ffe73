"""The shadow-model attack on mechanisms whose epsilon is known, and on generators that leak in known ways.

A true claim is contradicted with a chance of at most 1 - confidence for all targets and methods of an audit together:
1e-3 at the default. The coins and the toys' noise follow from seeds, so each test here passes always or never; where a
number of audits is judged, the chance that a correct attack would fail on fresh seeds is stated beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from attacks import shadow
from attacks.canary import Claim
from attacks.generators import claim_of
from attacks.shadow import ShadowResult, audit_records
from attacks.shadow_game import Coins, Reason, Target
from dpsynth import Column, Cost, DiscreteGaussian, Measurement, Records, Rehearsal, Schema, Trial

MakeSchema = Callable[..., Schema]
Make = Callable[[np.ndarray, np.random.Generator], np.ndarray]
CLAIM = Claim(epsilon=1.0, delta=1e-6)
SIZES = (4, 5, 3, 6, 4)
PERSONS = 120


def people(n: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of a skewed population."""
    return np.stack([np.minimum(rng.geometric(0.6, n) - 1, size - 1) for size in SIZES], axis=1)


@dataclass
class Toy:
    """A generator of rows made of category columns."""

    schema: Schema
    make: Make
    claim: Claim = CLAIM
    seed: int = 0
    name: str = "toy"

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.epsilon, self.delta, self.cost = self.claim.epsilon, self.claim.delta, self.claim.cost

    def codes(self, frame: pd.DataFrame) -> np.ndarray:
        return np.stack([frame[name].to_numpy(dtype=object).astype(np.int32) for name in self.schema.names], axis=1)

    def trial(self, made: np.ndarray, measurements: tuple[Measurement, ...] = ()) -> Trial:
        columns = {name: np.ascontiguousarray(made[:, i], dtype=np.int32) for i, name in enumerate(self.schema.names)}
        return Trial(rows=Records(self.schema.released(), columns), measurements=measurements)

    def run(self, frame: pd.DataFrame) -> Trial:
        return self.trial(self.make(self.codes(frame), self.rng))


@dataclass
class Histogram(Toy):
    """Counts of each column alone with Gaussian noise, and rows drawn from them: a model of our own in small.

    Args:
        sigma: Of the noise that is said to be there.
        truth: The factor by which the noise is smaller than that.
    """

    make: Make = lambda rows, rng: rows
    sigma: float = 1.0
    truth: float = 1.0

    def run(self, frame: pd.DataFrame) -> Trial:
        codes, measurements, drawn = self.codes(frame), [], []
        for place, size in enumerate(self.schema.sizes):
            noise = np.rint(self.rng.normal(0, self.sigma * self.truth, size)).astype(np.int64)
            counts = np.bincount(codes[:, place], minlength=size) + noise
            stated = Fraction(self.sigma**2).limit_denominator(1000)
            measurements.append(Measurement(columns=(place,), values=counts, sigma_squared=stated, cost=Cost.zero()))
            weights = np.maximum(counts, 0) + 1e-9
            drawn.append(self.rng.choice(size, 100, p=weights / weights.sum()))
        return self.trial(np.stack(drawn, axis=1), tuple(measurements))


@pytest.fixture
def frame(make_frame: Any) -> pd.DataFrame:
    table: pd.DataFrame = make_frame(people(PERSONS, np.random.default_rng(1)), columns=len(SIZES))
    return table


# ---- honest mechanisms ---------------------------------------------------------------------------------------------


def judged(epsilon: float, claim: Claim, *, games: int, seed: int, confidence: float) -> int:
    """How often randomised response, the most telling mechanism of its epsilon, contradicts a claim."""
    rng = np.random.default_rng(seed)
    target = Target(number=0, reason="rare", rows=())
    right = np.exp(epsilon) / (1 + np.exp(epsilon))
    alarms = 0
    for _ in range(games):
        coins = Coins.tossed(300, 1, rng=rng)
        said = coins.inside[:, 0] == (rng.random(300) < right)
        others = [shadow._Score(str(n), rng.normal(size=300), n > 1) for n in range(3)]
        scores = [shadow._Score("answer", said.astype(np.float64), False), *others]
        item = shadow._item(target, "nearest", scores, coins, claim=claim, confidence=confidence, items=1)
        alarms += item.exceeds
    return alarms


def test_randomised_response_at_its_claim_is_contradicted_no_more_often_than_stated() -> None:
    """At 90 % confidence a correct test raises at most 1 alarm in 10 games: more than 20 of 100 have a chance below 1e-3."""
    most = int(stats.binom.isf(1e-3, 100, 0.1))
    claim = Claim(epsilon=1.0, delta=0.0)
    assert judged(1.0, claim, games=100, seed=0, confidence=0.9) <= most
    assert judged(1.0, claim, games=50, seed=1, confidence=0.999) <= 2
    assert judged(2.0, claim, games=20, seed=2, confidence=0.9) >= 18  # it is no straw man


def test_choosing_on_the_runs_that_count_would_break_the_promise() -> None:
    """The planted fault behind the three parts: whoever tries 100 useless scores on the counted runs finds one."""
    rng = np.random.default_rng(3)
    target, alarms = Target(number=0, reason="rare", rows=()), [0, 0]
    for _ in range(10):
        coins = Coins.tossed(100, 1, rng=rng)
        scores = [shadow._Score(str(n), rng.normal(size=100), True) for n in range(100)]
        spied = Coins(coins.inside, coins.learning, coins.counting, coins.counting)
        for place, used in enumerate((coins, spied)):
            claim = Claim(epsilon=0.0, delta=0.0)
            item = shadow._item(target, "nearest", scores, used, claim=claim, confidence=0.9, items=1)
            alarms[place] += item.exceeds
    assert alarms[0] <= 4  # at most one in ten is expected: more than 4 of 10 have a chance of 2e-3
    assert alarms[1] >= 7


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)])
def test_gaussian_counts_at_their_claim_are_not_contradicted(
    seed: int, make_schema: MakeSchema, frame: pd.DataFrame
) -> None:
    """rho = columns / (2 sigma^2) is exactly what is spent on a row. One audit fails with a chance of at most 1e-3."""
    claim = Claim.of(Cost.zcdp(Fraction(len(SIZES), 2 * 9)), delta=1e-6)
    toy = Histogram(make_schema(SIZES), claim=claim, sigma=3.0, seed=seed)
    result = audit_records(frame, toy, claim=claim, fits=200, targets=2, seed=seed)
    assert not result.exceeds
    assert result.conclusive


@pytest.mark.slow
def test_white_box_score_is_as_telling_as_theory_says(make_schema: MakeSchema, frame: pd.DataFrame) -> None:
    """The area is Phi(mu / sqrt 2) with mu = sqrt(columns) / sigma; a correct score misses it by 0.1 once in 1e4."""
    toy = Histogram(make_schema(SIZES), sigma=2.0)
    result = audit_records(frame, toy, claim=CLAIM, fits=600, targets=2)
    expected = stats.norm.cdf(np.sqrt(len(SIZES)) / 2.0 / np.sqrt(2))
    for item in result.of("noisy counts"):
        assert abs(item.area.value - expected) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("neighbours", ["add_remove", "replace"])
def test_honest_generators_over_many_seeds(neighbours: str, make_schema: MakeSchema, make_frame: Any) -> None:
    """Twenty-four audits of honest generators at their claims, at 90 %: more than 8 alarms have a chance below 1e-3."""
    schema, alarms = make_schema(SIZES, neighbours=neighbours), 0
    rho = Fraction(len(SIZES) * (1 if neighbours == "add_remove" else 2), 2 * 9)
    claim = Claim.of(Cost.zcdp(rho), delta=1e-6)
    for seed in range(12):
        table = make_frame(people(60, np.random.default_rng(seed)), columns=len(SIZES))
        honest = Histogram(schema, claim=claim, sigma=3.0, seed=seed)
        fresh = Toy(schema, lambda rows, rng: people(60, rng), claim=Claim(epsilon=0.1, delta=0.0), seed=seed)
        for toy in (honest, fresh):
            result = audit_records(table, toy, claim=toy.claim, fits=120, targets=2, seed=seed, confidence=0.9)
            alarms += result.exceeds
    assert alarms <= int(stats.binom.isf(1e-3, 24, 0.1))


# ---- leaks ---------------------------------------------------------------------------------------------------------


def bootstrap(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many rows as ever, drawn from those that are there: every target is missing from a third of its runs."""
    return rows[rng.integers(len(rows), size=PERSONS)]


def one_outlier(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fresh people, and the one row that is least like them."""
    strangest = rows[np.lexsort((*rows.T, -rows.sum(axis=1)))[:1]]
    return np.concatenate([people(PERSONS - 1, rng), strangest])


def too_close(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows from anywhere, without those that equal a real one: members lie farther away than others."""
    anywhere = np.stack([rng.integers(size, size=4000) for size in SIZES], axis=1)
    weights = np.cumprod([1, *SIZES[:-1]])
    return anywhere[~np.isin(anywhere @ weights, rows @ weights)]


def exact_size(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fresh people, but exactly as many as there are."""
    return people(len(rows), rng)


@pytest.mark.parametrize("neighbours", ["replace", pytest.param("add_remove", marks=pytest.mark.slow)])
def test_a_generator_that_copies_its_rows_is_caught(
    neighbours: str, make_schema: MakeSchema, frame: pd.DataFrame
) -> None:
    toy = Toy(make_schema(SIZES, neighbours=neighbours), bootstrap)
    result = audit_records(frame, toy, claim=CLAIM, fits=240, targets=2)
    assert result.exceeds
    assert result.worst("nearest").exceeds
    assert {item.target for item in result.items if item.exceeds} == {0, 1}


def test_a_tenth_of_the_noise_is_caught_from_counts_and_from_rows(make_schema: MakeSchema, frame: pd.DataFrame) -> None:
    claim = Claim.of(Cost.zcdp(Fraction(len(SIZES), 2 * 25)), delta=1e-6)
    for truth, caught in ((1.0, False), (0.1, True)):
        toy = Histogram(make_schema(SIZES), claim=claim, sigma=5.0, truth=truth)
        result = audit_records(frame, toy, claim=claim, fits=200, targets=2)
        assert result.exceeds == caught
        assert all(item.exceeds == caught for item in result.of("noisy counts"))


def test_a_single_leaked_outlier_is_caught_and_nobody_else_is_accused(
    make_schema: MakeSchema, frame: pd.DataFrame
) -> None:
    toy = Toy(make_schema(SIZES), one_outlier)
    result = audit_records(frame, toy, claim=CLAIM, fits=200, targets=4)
    codes = toy.codes(frame)
    strangest = int(np.lexsort((*codes.T, -codes.sum(axis=1)))[0])
    (outlier,) = [target.number for target in result.targets if strangest in target.rows]
    assert outlier in {item.target for item in result.items if item.exceeds}
    counts = result.counts()
    assert 1 <= sum(group["beyond the claim"] for group in counts.values()) <= 2  # the second strangest takes its place
    assert result.exceeds


def test_a_filter_against_near_rows_leaves_a_hole(make_schema: MakeSchema, frame: pd.DataFrame) -> None:
    toy = Toy(make_schema(SIZES), too_close)
    result = audit_records(frame, toy, claim=CLAIM, fits=160, targets=2)
    for item in result.of("nearest"):
        assert item.exceeds
    assert all(item.area.value > 0.9 for item in result.of("conjunctions"))


@pytest.mark.slow
def test_an_exact_number_of_rows_is_caught(make_schema: MakeSchema, frame: pd.DataFrame) -> None:
    """Only by an attacker who knows who else was in: the other targets' coins move the number as much."""
    toy = Toy(make_schema(SIZES), exact_size)
    result = audit_records(frame, toy, claim=CLAIM, fits=200, targets=4)
    assert all(item.exceeds for item in result.of("conjunctions"))


@pytest.mark.slow
def test_an_honest_generator_and_a_longer_audit_agree(make_schema: MakeSchema, frame: pd.DataFrame) -> None:
    """All intervals of an audit hold together with 95 %: two of three audits that miss have a chance of at most 7.3e-3."""
    missed = 0
    for seed in range(3):
        toy = Toy(make_schema(SIZES), lambda rows, rng: people(PERSONS, rng), seed=seed)
        result = audit_records(frame, toy, claim=Claim(epsilon=0.0, delta=0.0), fits=200, targets=3, seed=seed)
        assert not result.exceeds
        assert result.epsilon == 0
        missed += not all(item.interval.low <= 0 <= item.interval.high for item in result.items)
    assert missed <= 1


def test_a_sensitive_value_that_only_the_person_gives_away(make_schema: MakeSchema) -> None:
    """Known columns and secret are copied together, the rest is drawn afresh: what the person's own row causes.

    Everybody else's secret follows from the first column; the target's does not. Without the person nobody guesses it.
    """
    roles = ("quasi_identifier", "quasi_identifier", "sensitive", "other", "other")
    columns = tuple(
        Column(name=f"c{i}", type="category", values=tuple(map(str, range(size))), role=role)
        for i, (size, role) in enumerate(zip((4, 5, 3, 6, 4), roles, strict=True))
    )
    schema = Schema(table="test", columns=columns)
    codes = people(PERSONS, np.random.default_rng(1))
    codes[:, 2] = codes[:, 0] % 2
    codes[0] = (3, 4, 2, 5, 3)
    table = pd.DataFrame({f"c{i}": codes[:, i].astype(str) for i in range(5)})

    def block(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        made = people(3 * PERSONS, rng)
        made[:, :3] = rows[rng.integers(len(rows), size=len(made)), :3]
        return made

    def population(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        made = people(PERSONS, rng)
        made[:, 2] = made[:, 0] % 2
        return made

    for make, leaks in ((block, True), (population, False)):
        result = audit_records(table, Toy(schema, make), claim=CLAIM, fits=240, targets=2)
        (target,) = [target.number for target in result.targets if 0 in target.rows]
        (item,) = [item for item in result.of("attribute") if item.target == target]
        assert item.exceeds == leaks
        assert (item.interval.low > 0.2) == leaks
        assert item.rule.startswith("c2")
        if leaks:
            assert item.hits / item.trials > item.allowed
        else:
            assert item.interval.low <= 0 <= item.interval.high


# ---- the real thing ------------------------------------------------------------------------------------------------


@contextmanager
def a_tenth_of_the_noise() -> Iterator[None]:
    honest = DiscreteGaussian.add_noise

    def quiet(self: DiscreteGaussian, counts: Any, *, rng: Any) -> Any:
        exact = np.asarray(counts, dtype=np.int64)
        return exact + np.rint((honest(self, exact, rng=rng) - exact) / 10).astype(np.int64)

    with mock.patch.object(DiscreteGaussian, "add_noise", quiet):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("seeded_noise")
def test_mst_keeps_its_promise_on_real_rows_and_a_tenth_of_its_noise_does_not(tables: Any) -> None:
    """On fresh noise: honest, one audit in 1,000 at most fails; with a tenth, 200 fits saw it with z > 6."""
    records = tables.population(300, np.random.default_rng(0)).records
    mst = Rehearsal(records.schema, synthesizer="mst", epsilon=1, delta=1e-6)
    table = records.to_frame()
    honest = audit_records(table, mst, claim=claim_of(mst), fits=120, targets=3)
    assert not honest.exceeds
    assert honest.conclusive
    assert honest.methods == ("conjunctions", "nearest", "noisy counts", "attribute")
    with a_tenth_of_the_noise():
        cheat = audit_records(table, mst, claim=claim_of(mst), fits=160, targets=3)
    assert cheat.exceeds
    assert cheat.worst("noisy counts").exceeds


REASONS: set[Reason] = {"isolated", "extreme", "rare"}


@pytest.mark.slow
@pytest.mark.usefixtures("seeded_noise")
def test_persons_with_several_rows_under_replace(tables: Any) -> None:
    """The whole path: numbers, missing values, stand-ins, persons with more rows than may count."""
    from dataclasses import replace

    sample = tables.population(150, np.random.default_rng(2), rows=3)
    schema = replace(sample.records.schema, neighbours="replace", max_rows=2)
    table = sample.records.to_frame()
    table["who"] = pd.array([f"u{person}" for person in sample.person], dtype="string")
    independent = Rehearsal(schema, synthesizer="independent", epsilon=2, delta=1e-6)
    result: ShadowResult = audit_records(table, independent, claim=claim_of(independent), fits=100, targets=3)
    assert not result.exceeds
    assert set(result.counts()) == REASONS
    with a_tenth_of_the_noise():
        cheat = audit_records(table, independent, claim=claim_of(independent), fits=140, targets=3)
    assert cheat.worst("noisy counts").exceeds
