"""Every recipe of the registry is audited on worst-case neighbours, and the same audit catches planted faults.

The noise follows from the seeds below, so an honest recipe passes always or never. On a fresh seed it would fail with
a chance of at most 1e-3 for each audit (`CONFIDENCE`); in fact far less, because two outcomes cannot show more than two
thirds of a rho: for Gaussian noise of exactly the claimed size the chance is below 1e-5 (`test_chance_of_a_false_alarm`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from attacks.canary import CanaryResult, Claim, Conjunctions, NoisyCounts, play
from attacks.generators import claim_of
from attacks.intervals import epsilon_lower_bound
from attacks.neighbours import Pair, worst_cases
from benchmarks import mistakes
from dpsynth import (
    SYNTHESIZERS,
    Column,
    Cost,
    DiscreteGaussian,
    Model,
    NoisyMax,
    PrivacyUnit,
    Rehearsal,
    Schema,
    Table,
)
from dpsynth.counting.memory import MemoryStore
from dpsynth.synthesizers import measuring
from dpsynth.synthesizers.base import Marginals

OpenCurator = Callable[..., Any]
MakeSchema = Callable[..., Schema]

FITS = 160  # 60 on each table for the bound: enough for a claim that is too low by a factor of nine
FEW = 80  # 30 on each: enough where the two tables cannot be mistaken for each other
CLAIM = Claim.of(Cost.zcdp(Fraction(1)), delta=1e-6)
SIZES = (3, 2, 3)
SETTINGS: dict[str, dict[str, Any]] = {
    "rows": {},
    "replaced rows": {"neighbours": "replace"},
    "persons": {"max_rows": 3},
    "replaced persons": {"max_rows": 3, "neighbours": "replace"},
}

every_recipe = pytest.mark.parametrize("name", [name for name in SYNTHESIZERS if name not in ("ardm", "vae")])
"""Networks are attacked at their noisy sums, in `test_network_canary.py` and `test_network_mistakes.py`."""


def pair_of(schema: Schema, name: str, *, rows: int = 40) -> Pair:
    return next(pair for pair in worst_cases(schema, rows=rows) if pair.name == name)


@dataclass
class Refits:
    """Fits one recipe again and again, each time from the data frame on, with the next seed."""

    recipe: Any
    schema: Schema
    open_curator: OpenCurator
    claim: Claim = CLAIM
    seed: int = 0

    def __call__(self, frame: pd.DataFrame) -> Any:
        assert self.claim.cost is not None
        self.curator = self.open_curator(frame, self.schema, seed=self.seed)
        self.seed += 1
        return self.recipe.fit(self.curator, budget=self.claim.cost)

    def audit(self, pair: Pair, *, fits: int = FITS) -> CanaryResult:
        """By an attacker who sees the noisy counts."""
        return play(pair, self, NoisyCounts(pair), claim=self.claim, fits=fits)

    def audit_rows(self, pair: Pair, *, fits: int = FITS, rows: int = 200) -> CanaryResult:
        """By an attacker who sees synthetic rows."""
        rng = np.random.default_rng(5)

        def rows_of(frame: pd.DataFrame) -> Table:
            synthetic: Table = self(frame).sample(rows, rng=rng)
            return synthetic

        return play(pair, rows_of, Conjunctions(pair), claim=self.claim, fits=fits)


@pytest.fixture
def refits(open_curator: OpenCurator, make_schema: MakeSchema) -> Callable[..., Refits]:
    def work(
        name: str,
        setting: str = "rows",
        *,
        recipe: Any = None,
        claim: Claim = CLAIM,
        sizes: tuple[int, ...] = SIZES,
    ) -> Refits:
        schema = make_schema(sizes, **SETTINGS[setting])
        return Refits(SYNTHESIZERS[name]() if recipe is None else recipe, schema, open_curator, claim)

    return work


# ---- honest recipes ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@every_recipe
@pytest.mark.parametrize(
    ("setting", "which"),
    [
        ("rows", "torn"),
        ("replaced rows", "alone"),
        ("persons", "crowd"),
        ("replaced persons", "torn"),
    ],
)
def test_every_recipe_keeps_its_promise(name: str, setting: str, which: str, refits: Callable[..., Refits]) -> None:
    game = refits(name, setting)
    result = game.audit(pair_of(game.schema, which))
    assert not result.exceeds
    assert 0 <= result.rho <= 1
    assert result.epsilon <= CLAIM.epsilon
    assert (result.fits, result.trials) == (FITS, 60)


@every_recipe
def test_every_recipe_keeps_its_promise_when_nobody_else_is_there(name: str, refits: Callable[..., Refits]) -> None:
    game = refits(name)
    assert not game.audit(pair_of(game.schema, "nobody else"), fits=80).exceeds


@pytest.mark.slow
def test_an_honest_recipe_shows_most_of_what_it_spends(refits: Callable[..., Refits]) -> None:
    """The attacker is no straw man: a bound near zero would pass everything. The claim is mu = sqrt(2)."""
    game = refits("independent", "persons")
    result = game.audit(pair_of(game.schema, "alone"), fits=800)
    assert not result.exceeds
    assert 0.6 < result.mu < 2**0.5
    assert result.rho > 0.1


def test_chance_of_a_false_alarm() -> None:
    """Gaussian noise of exactly the claimed size, at the best threshold, with the games that FITS leaves."""
    trials, mu = FITS * 6 // 16, 2**0.5
    most, caught = (
        [],
        -1,
    )  # for each number of hits the most false alarms that still contradict the claim: it only grows
    for hits in range(trials + 1):
        while caught < hits and result_of(hits, caught + 1, trials).exceeds:
            caught += 1
        most.append(caught)
    assert most[-1] > 0
    chances = []
    for threshold in np.linspace(-1, 2, 61):
        p, q = stats.norm.sf((threshold - 1) * mu), stats.norm.sf(threshold * mu)
        chances.append(stats.binom.pmf(range(trials + 1), trials, p) @ stats.binom.cdf(most, trials, q))
    assert max(chances) < 1e-5


def result_of(hits: int, false_alarms: int, trials: int, claim: Claim = CLAIM) -> CanaryResult:
    return CanaryResult(
        pair="none", claim=claim, fits=0, trials=trials, hits=hits, false_alarms=false_alarms, confidence=0.999
    )


# ---- planted faults ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A mistake, and the audit that catches it."""

    plant: Callable[[], Any]
    setting: str = "rows"
    which: str = "alone"
    fits: int = FITS
    rho: Fraction = Fraction(1)
    sizes: tuple[int, ...] = SIZES


def no_composition(setting: str) -> Callable[[], Any]:
    unit = PrivacyUnit(**{"entity": "row", "max_rows": 1, "neighbours": "add_remove", **SETTINGS[setting]})
    return lambda: mistakes.forgotten_composition(Fraction(1), unit)


@contextmanager
def reused_noise_of_one_size() -> Iterator[None]:
    """Where columns get noise of different sizes, the same words make different noise, and so few fits show less of it."""
    with mock.patch.object(measuring, "_ROOT", 0.0), mistakes.reused_noise():
        yield


FAULTS = {
    "B13 noise / 10": Fault(mistakes.tenth_of_the_noise, fits=FEW),
    "B13 a third of the sensitivity": Fault(lambda: mistakes.wrong_sensitivity(l2_squared=Fraction(1, 9))),
    "B13 composition forgotten": Fault(no_composition("rows"), sizes=(3, 2, 3, 2, 3), fits=400),
    "B13 composition forgotten, replaced persons": Fault(
        no_composition("replaced persons"), "replaced persons", sizes=(3, 2, 3, 2, 3), fits=400
    ),
    "B12 domain from data": Fault(mistakes.domain_from_data, which="nobody else", rho=Fraction(1, 40), fits=FEW),
    "B12 domain from data, replaced rows": Fault(
        mistakes.domain_from_data, "replaced rows", "nobody else", rho=Fraction(1, 40), fits=FEW
    ),
    "B14 noise reused": Fault(reused_noise_of_one_size),
    "B13 per row, not per person": Fault(lambda: mistakes.per_row(3), "persons"),
    "B13 rows of a person not bounded": Fault(mistakes.rows_not_bounded, "persons", "crowd", fits=FEW),
}


@pytest.mark.slow
@every_recipe
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(name: str, fault: str, refits: Callable[..., Refits]) -> None:
    case = FAULTS[fault]
    game = refits(name, case.setting, claim=Claim.of(Cost.zcdp(case.rho), delta=1e-6), sizes=case.sizes)
    pair = pair_of(game.schema, case.which)
    with case.plant():
        result = game.audit(pair, fits=case.fits)
    print(f"{name}, {fault}: {result.hits} and {result.false_alarms} of {result.trials}, {case.fits} fits")
    assert result.exceeds


@pytest.mark.slow
def test_half_the_sensitivity_is_caught_with_more_fits(refits: Callable[..., Refits]) -> None:
    """B13, by a factor of 4 in rho."""
    game = refits("independent")
    with mistakes.wrong_sensitivity(l2_squared=Fraction(1, 4)):
        assert game.audit(pair_of(game.schema, "alone"), fits=800).exceeds


@pytest.mark.slow
def test_the_bound_on_epsilon_alone_catches_a_tenth_of_the_noise(refits: Callable[..., Refits]) -> None:
    """B13. The claim is epsilon 1 at delta 1e-6, without the curve behind it."""
    rho = Fraction("0.0245")
    claim = Claim.of(Cost.zcdp(rho), delta=1e-6)
    assert 0.95 < claim.epsilon < 1.05
    game = refits("independent", claim=claim)
    pair = pair_of(game.schema, "alone")
    bare = Claim(epsilon=claim.epsilon, delta=1e-6)
    assert not play(pair, game, NoisyCounts(pair), claim=bare, fits=800).exceeds
    with mistakes.tenth_of_the_noise():
        result = play(pair, game, NoisyCounts(pair), claim=bare, fits=800)
    assert result.exceeds
    assert result.epsilon > 1.2


@dataclass(frozen=True)
class Unpaid(Marginals):
    """A recipe that measures every column again, eight times as well as it may, and pays for none of it."""

    honest: Any

    def fit(self, curator: Any, *, budget: Cost) -> Any:
        model = self.honest.fit(curator, budget=budget)
        columns = range(len(curator.schema.sizes))
        mechanism = DiscreteGaussian.calibrated(rho=8 * budget.rho / len(columns), l2_squared=curator.unit.l2_squared)
        with mock.patch.object(type(curator._reservation), "spend"):
            extra = [curator.measure((column,), mechanism) for column in columns]
        return SimpleNamespace(measurements=(*model.measurements, *extra), coarse=getattr(model, "coarse", ()))


def spent(curator: Any) -> Fraction:
    return sum((cost.rho for cost in curator._reservation.spent), Fraction(0))


def stated(model: Model) -> Fraction:
    """What the noise of the measurements must have cost, whatever anybody wrote down."""
    unit = model.schema.unit
    return sum((Fraction(unit.l2_squared) / (2 * m.sigma_squared) for m in model.measurements), Fraction(0))


@pytest.mark.slow
@every_recipe
def test_a_forgotten_charge_is_caught_by_the_audit(name: str, refits: Callable[..., Refits]) -> None:
    game = refits(name, recipe=Unpaid(SYNTHESIZERS[name]()))
    assert game.audit(pair_of(game.schema, "alone")).exceeds


@every_recipe
def test_a_forgotten_charge_is_caught_by_the_books(name: str, refits: Callable[..., Refits]) -> None:
    honest = refits(name)
    frame = pair_of(honest.schema, "alone").absent
    assert stated(honest(frame)) <= spent(honest.curator) <= 1
    cheat = refits(name, recipe=Unpaid(SYNTHESIZERS[name]()))
    model = cheat(frame)
    model.schema = honest.schema
    assert stated(model) > spent(cheat.curator)


@pytest.mark.slow
@every_recipe
def test_selection_with_a_hundredth_of_its_sensitivity_is_caught(name: str, refits: Callable[..., Refits]) -> None:
    """At a hundredth of its noise a selection is an argmax. Its share of rho 1/4 becomes 10,000 times as much.

    Two cells a column, each with half of the rows: so only the rows themselves speak for one pair or the other.
    """
    claim = Claim.of(Cost.zcdp(Fraction(1, 4)), delta=1e-6)
    game = refits(name, "replaced persons", claim=claim, sizes=(2, 2, 2))
    pair = pair_of(game.schema, "torn", rows=1000)
    game(pair.absent)
    with mock.patch.object(type(game.curator._reservation), "spend") as spend:
        game(pair.absent)
    if "selection" not in {charge.kwargs["purpose"] for charge in spend.call_args_list}:
        pytest.skip("selects nothing")
    with mistakes.wrong_sensitivity(l1=Fraction(1, 100)):
        assert game.audit(pair, fits=FITS).exceeds


def test_noise_that_repeats_is_caught(refits: Callable[..., Refits]) -> None:
    """B14. The same seed for every fit: whoever has two releases can subtract the noise."""
    game = refits("independent")
    pair = pair_of(game.schema, "alone")

    def fit(frame: pd.DataFrame) -> Any:
        game.seed = 0
        return game(frame)

    result = play(pair, fit, NoisyCounts(pair), claim=CLAIM, fits=FITS)
    assert result.exceeds
    assert (result.hits, result.false_alarms) == (60, 0)


# ---- from synthetic rows -------------------------------------------------------------------------------------------


@pytest.mark.slow
@every_recipe
def test_too_little_noise_shows_in_synthetic_rows(name: str, refits: Callable[..., Refits]) -> None:
    claim = Claim.of(Cost.zcdp(Fraction(1, 10)), delta=1e-6)
    game = refits(name, "persons", claim=claim)
    pair = pair_of(game.schema, "alone")
    assert not game.audit_rows(pair, fits=FEW).exceeds
    with mistakes.tenth_of_the_noise():
        assert game.audit_rows(pair, fits=FEW).exceeds


@pytest.mark.slow
@every_recipe
def test_an_exact_row_count_is_caught(name: str, refits: Callable[..., Refits]) -> None:
    """As many synthetic rows as real ones: nothing else is wrong with them."""
    game = refits(name, claim=Claim.of(Cost.zcdp(Fraction(1, 40)), delta=1e-6))
    pair = pair_of(game.schema, "alone")
    rng = np.random.default_rng(6)

    def audit(rows_of: Callable[[pd.DataFrame, Model], int]) -> CanaryResult:
        def fit(frame: pd.DataFrame) -> Table:
            model = game(frame)
            synthetic: Table = model.sample(rows_of(frame, model), rng=rng)
            return synthetic

        return play(pair, fit, Conjunctions(pair), claim=game.claim, fits=FEW)

    assert not audit(lambda frame, model: round(model.total)).exceeds
    result = audit(lambda frame, model: len(frame))
    print(f"{name}: {result.hits} and {result.false_alarms} of {result.trials}, {FEW} fits")
    assert result.exceeds


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_a_program_that_copies_rows_is_caught(share: float, make_schema: MakeSchema) -> None:
    """No model, no measurements: any function from a table to synthetic rows can be played."""
    schema = make_schema(SIZES)
    pair = pair_of(schema, "alone")
    rng = np.random.default_rng(1)
    codes = {len(pair.absent): pair.bulk, len(pair.present): np.vstack([pair.bulk, pair.target])}

    def copies(frame: pd.DataFrame) -> Table:
        rows = codes[len(frame)]
        fake = np.column_stack([rng.integers(0, size, 40) for size in schema.sizes]).astype(np.int32)
        real = rows[rng.random(len(rows)) < share]
        return Table(schema=schema, codes=np.vstack([fake * 0, real]))

    claim = Claim(epsilon=1, delta=1e-6)
    result = play(pair, copies, Conjunctions(pair), claim=claim, fits=400)
    assert result.exceeds
    assert result.hits > 4 * result.false_alarms


# ---- after the noise -----------------------------------------------------------------------------------------------

FEWEST = 5


def at_the_edge(pair: Pair) -> Pair:
    """Four others stand where the planted person does, who makes them five."""
    return replace(pair, bulk=np.vstack([pair.bulk, np.tile(pair.target, (FEWEST - 1, 1))]))


AFTERWARDS: dict[str, tuple[str, Callable[[], Any], Callable[[Pair], Pair]]] = {
    "honest numbers": ("number", nullcontext, lambda pair: pair),
    "honest categories": ("category", nullcontext, at_the_edge),
    "B15 clipped to the largest real number": ("number", mistakes.clipped_to_the_data, lambda pair: pair),
    "B15 rare categories dropped": ("category", lambda: mistakes.rare_dropped(FEWEST), at_the_edge),
}


@every_recipe
@pytest.mark.parametrize("case", AFTERWARDS)
@pytest.mark.usefixtures("seeded_noise")
def test_a_look_at_the_real_rows_after_the_noise_is_caught(name: str, case: str, make_schema: MakeSchema) -> None:
    """The whole pipeline, at epsilon 1; the noise is honest. On 10 fresh seeds each, 160 fits caught both every time."""
    kind, plant, table = AFTERWARDS[case]
    numbers = tuple(Column(name=f"n{i}", type="number", minimum=0, maximum=3, bins=3) for i in range(3))
    schema = make_schema(SIZES) if kind == "category" else Schema(table="numbers", columns=numbers)
    rehearsal = Rehearsal(schema, synthesizer=name, epsilon=1, delta="1e-6")
    pair = table(pair_of(schema, "alone"))
    with plant():
        result = play(pair, rehearsal.run, Conjunctions(pair), claim=claim_of(rehearsal), fits=FITS)
    print(f"{name}, {case}: {result.hits} and {result.false_alarms} of {result.trials}, {FITS} fits")
    assert result.exceeds == case.startswith("B15")


# ---- selection by itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("setting", "k"), [("rows", 1), ("replaced rows", 1), ("persons", 3)])
def test_selection_keeps_its_pure_epsilon_and_half_its_noise_is_caught(
    setting: str, k: int, make_schema: MakeSchema, make_frame: Any, open_curator: OpenCurator
) -> None:
    """One score rises and the other falls, by all that one unit can do, and the winners are counted.

    Selection by noisy max is 2 * sensitivity / scale-DP, without a delta. The coins are the system's: a correct one
    fails with a chance below 1e-3, in fact 1e-9, for what can be seen of epsilon 2 is 1.43.
    """
    schema = make_schema((2, 2), **SETTINGS[setting])
    others = [(0, 0)] * 24

    def frame(person: Sequence[Sequence[int]]) -> pd.DataFrame:
        who = [*range(24), *[24] * len(person)] if setting == "persons" else None
        return make_frame([*others, *person], columns=2, who=who)

    without = frame([(0, 0)] * k if schema.neighbours == "replace" else [])
    with_person = frame([(1, 1)] * k)
    n = len(without)
    expected = [np.array([n + 20, 0]), np.array([n - 10, 10])]  # both 20 off without the person; then more, and less
    unit = schema.unit

    def wins(rows: pd.DataFrame, scale: Fraction, games: int) -> int:
        curator = open_curator(rows, schema, seed=0)
        mechanism = NoisyMax(scale=scale)
        return sum(curator.select([(0,), (1,)], expected, mechanism) == [0] for _ in range(games))

    claimed, games = 2.0, 1_000
    honest = Fraction(2 * unit.l1) / Fraction(claimed)
    for scale, is_honest in ((honest, True), (honest / 2, False)):
        first, second = wins(with_person, scale, games), wins(without, scale, games)
        shown = epsilon_lower_bound(first, second, games, delta=0.0, confidence=0.999)
        assert (shown <= claimed) == is_honest, (setting, shown)


# ---- the books -----------------------------------------------------------------------------------------------------


@every_recipe
@pytest.mark.parametrize("rho", ["1/1000", "1", "37/3"])
@pytest.mark.parametrize("sizes", [(5,), (2, 3), (2, 3, 2, 4, 2), (1, 1, 1), (400, 2), (60, 50, 40)], ids=str)
def test_every_recipe_spends_what_it_states_and_never_more_than_its_budget(
    name: str, sizes: tuple[int, ...], rho: str, open_curator: OpenCurator, make_schema: MakeSchema
) -> None:
    for setting in SETTINGS.values():
        schema = make_schema(sizes, **setting)
        curator = open_curator(worst_cases(schema, rows=3)[0].present, schema, seed=0)
        model = SYNTHESIZERS[name]().fit(curator, budget=Cost.zcdp(Fraction(rho)))
        total = spent(curator)
        assert total <= Fraction(rho)
        assert total >= Fraction(rho) * Fraction(9, 10)
        assert stated(model) <= total
        for m in model.measurements:
            assert m.cost in curator._reservation.spent


# ---- rows per person ---------------------------------------------------------------------------------------------

MANY_ROWS = 400


@pytest.mark.parametrize("planted", [False, True])
@pytest.mark.usefixtures("seeded_noise")
def test_rows_per_person_that_are_counted_by_row_are_caught(planted: bool, make_schema: MakeSchema) -> None:
    """In a rehearsal of the whole pipeline. Fault: a cell holds the rows of its persons, with noise for one person."""
    schema = replace(make_schema((2, 2), max_rows=MANY_ROWS), synthetic_units=True)
    rehearsal = Rehearsal(schema, synthesizer="independent", epsilon=2, delta="1e-6")
    claim = Claim(epsilon=rehearsal.epsilon, delta=rehearsal.delta, cost=rehearsal.cost)
    pair = pair_of(schema, "alone")
    honest = MemoryStore.unit_sizes

    def by_row(store: MemoryStore) -> Any:
        return honest(store) * np.arange(1, MANY_ROWS + 1)

    with mock.patch.object(MemoryStore, "unit_sizes", by_row if planted else honest):
        result = play(pair, rehearsal.run, NoisyCounts(pair), claim=claim, fits=FEW)
    assert result.exceeds == planted
