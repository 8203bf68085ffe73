"""What one person can change, against what is charged for it.

Two neighbouring tables go through two curators that share their secret key; every answer is taken without noise, and
its exact change is held against the charge. The same check meets curators with planted faults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from typing import Any, Literal
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dpsynth.coarsening import Coarse
from dpsynth.counting.base import PersonRecords
from dpsynth.counting.reference import ReferenceCounter
from dpsynth.curator import Curator
from dpsynth.errors import BudgetExceeded
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.mechanisms.noisy_max import NoisyMax
from dpsynth.privacy import ORDERS, Cost, PrivacyUnit
from dpsynth.table import Table
from dpsynth.throw_away import ThrowAway

FALSE_ALARM = 1e-9

Row = tuple[int, ...]
Population = dict[int, list[Row]]
"""Each person's rows; the first column says whose a row is, so that rows can be followed through a curator."""

SIZES = (8, 3, 2)
COLUMNS = [columns for width in range(1, 4) for columns in combinations(range(3), width)]
COARSE = (Coarse(column=0, groups=np.arange(8) // 3), Coarse(column=1, groups=np.array([1, 0, 1])))  # columns 3 and 4
COARSE_COLUMNS = [(3,), (4,), (0, 3), (3, 4), (2, 3, 4)]
VARIANCE = Fraction(7, 2)


# ---- mechanisms that show what is behind them ----------------------------------------------------------------------


class Noiseless(DiscreteGaussian):
    """Costs what the noise would cost, and adds none."""

    def add_noise(self, counts: npt.NDArray[np.int64], *, rng: object) -> npt.NDArray[np.int64]:
        return np.array(counts)


@dataclass(frozen=True, kw_only=True)
class Recorder(NoisyMax):
    """Costs what the choice would cost, and writes down the scores."""

    seen: list[list[int]] = field(default_factory=list, compare=False)

    def top(
        self, scores: Any, count: int, *, rng: object, admits: Callable[[int], bool] = lambda index: True
    ) -> list[int]:
        self.seen.append([int(score) for score in scores])
        order = sorted(range(len(scores)), key=lambda index: -scores[index])
        return [index for index in order if admits(index)][:count]


@dataclass(frozen=True)
class Judge:
    """An attack on a person, judged from that person's rows alone."""

    id: str
    judge: Callable[[list[Row]], bool]
    success: str = "in a test"

    def succeeds(self, sample: PersonRecords) -> npt.NDArray[np.bool_]:
        rows = rows_of(sample)
        return np.array([self.judge(rows[person]) for person in range(sample.persons)], dtype=bool)


TESTS = (
    Judge("everybody", lambda rows: True),
    Judge("more than one row", lambda rows: len(rows) > 1),
    Judge("a two", lambda rows: any(row[1] == 2 for row in rows)),
    Judge("all alike", lambda rows: len(set(rows)) == 1),
)


def rows_of(sample: PersonRecords) -> dict[int, list[Row]]:
    rows: dict[int, list[Row]] = {person: [] for person in range(sample.persons)}
    codes = Table.encode(sample.records).codes
    for person, row in zip(sample.person, codes, strict=True):
        rows[int(person)].append(tuple(int(code) for code in row))
    return rows


# ---- two worlds ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Game:
    """A rule of who is protected, and two tables that differ by one unit."""

    max_rows: int | None  # None: a unit is a row
    neighbours: Literal["add_remove", "replace"]
    one: Population
    other: Population
    holdout: Fraction = Fraction(0)
    key: int = 1

    @property
    def rows_per_unit(self) -> int:
        return self.max_rows or 1


@dataclass(frozen=True)
class World:
    curator: Curator
    charged: list[Cost]


@pytest.fixture(scope="module")
def enter(make_schema: Any, make_frame: Any, open_curator: Any, book: Any) -> Callable[[Game, Population], World]:
    def work(game: Game, population: Population) -> World:
        schema = make_schema(SIZES, neighbours=game.neighbours, max_rows=game.max_rows)
        rows = [row for owned in population.values() for row in owned]
        who = [f"person {person}" for person, owned in population.items() for _ in owned]
        frame = make_frame(rows, columns=3, who=None if game.max_rows is None else who)
        reservation = book()
        return World(
            open_curator(frame, schema, seed=game.key, reservation=reservation, holdout=game.holdout), reservation.spent
        )

    return work


Enter = Callable[[Game, Population], World]


def changes(worlds: Sequence[World], ask: Callable[[Curator], npt.NDArray[np.int64]]) -> tuple[npt.NDArray, Cost]:
    """What an answer changes by between two worlds, and what was charged for it in both."""
    answers, charges = [], []
    for world in worlds:
        before = len(world.charged)
        answers.append(np.asarray(ask(world.curator)))
        charges.append(sum(world.charged[before:], Cost.zero()))
    assert charges[0] == charges[1] != Cost.zero()  # the charge is public: it cannot depend on the rows
    return answers[1] - answers[0], charges[0]


def assert_noise_covers(change: npt.NDArray[np.int64], charge: Cost) -> None:
    """Gaussian noise of that variance, with that change beneath it, is no worse than what was charged."""
    assert Fraction(int((change**2).sum())) / (2 * VARIANCE) <= charge.rho


def assert_selection_covers(scores: Sequence[Sequence[int]], scale: Fraction, charge: Cost) -> None:
    """The exact Renyi divergence of two softmax selections, in both directions, is within the charge at each order."""
    logs = [np.array(s, dtype=float) / float(scale) for s in scores]
    logs = [log - np.logaddexp.reduce(log) for log in logs]
    for order, nano in zip(ORDERS[::4], charge.curve()[::4], strict=True):
        a = float(order)
        for p, q in (logs, logs[::-1]):
            assert np.logaddexp.reduce(a * p + (1 - a) * q) / (a - 1) <= nano * 1e-9 * (1 + 1e-9) + 1e-9


def assert_marginals_are_covered(worlds: Sequence[World]) -> None:
    for columns in COLUMNS:
        change, charge = changes(
            worlds, lambda curator, c=columns: curator.measure(c, Noiseless(sigma_squared=VARIANCE)).values
        )
        assert_noise_covers(change, charge)


def assert_selections_are_covered(worlds: Sequence[World], scale: Fraction = Fraction(2)) -> None:
    rng = np.random.default_rng(1)
    expected = [rng.integers(0, 4, [SIZES[column] for column in columns]) for columns in COLUMNS]
    seen = []
    penalties = rng.integers(0, 6, len(COLUMNS))
    for world in worlds:
        recorder = Recorder(scale=scale)
        world.curator.select(COLUMNS, expected, recorder, penalties=penalties, nothing=-1)
        seen += recorder.seen
    assert worlds[0].charged[-1] == worlds[1].charged[-1]
    assert_selection_covers(seen, scale, worlds[0].charged[-1])


def assert_scores_are_covered(worlds: Sequence[World]) -> None:
    rng = np.random.default_rng(2)
    for wanted in (COLUMNS, COLUMNS[3:4]):
        expected = [rng.integers(-2, 4, [SIZES[column] for column in columns]) for columns in wanted]
        change, charge = changes(
            worlds, lambda curator, w=wanted, e=expected: curator.score(w, e, Noiseless(sigma_squared=VARIANCE))
        )
        assert_noise_covers(change, charge)


def assert_coarse_columns_are_covered(worlds: Sequence[World]) -> None:
    """They are one more way to count the same rows: measured, scored and selected like the others, for the same."""
    for world in worlds:
        before = len(world.charged)
        world.curator.coarsen(COARSE)
        assert len(world.charged) == before
    for columns in COARSE_COLUMNS:
        change, charge = changes(
            worlds, lambda curator, c=columns: curator.measure(c, Noiseless(sigma_squared=VARIANCE)).values
        )
        assert_noise_covers(change, charge)
    sizes = [*SIZES, *(made.size for made in COARSE)]
    empty = [np.zeros([sizes[column] for column in columns], dtype=np.int64) for columns in COARSE_COLUMNS]
    assert_noise_covers(
        *changes(worlds, lambda curator: curator.score(COARSE_COLUMNS, empty, Noiseless(sigma_squared=VARIANCE)))
    )


def assert_attack_counts_are_covered(worlds: Sequence[World]) -> None:
    def ask(curator: Curator) -> npt.NDArray[np.int64]:
        counts = curator.count_successes(TESTS, Noiseless(sigma_squared=VARIANCE))
        assert counts.tests == tuple(test.id for test in TESTS)
        return np.array([*counts.hits_fit, *counts.hits_control, counts.persons_fit, counts.persons_control])

    assert_noise_covers(*changes(worlds, ask))


def assert_unit_sizes_are_covered(worlds: Sequence[World]) -> None:
    assert_noise_covers(*changes(worlds, lambda curator: curator.count_unit_sizes(Noiseless(sigma_squared=VARIANCE))))


def rows_by_side(curator: Curator) -> list[Counter[Row]]:
    sample = curator.review_sample()
    return [Counter(row for rows in rows_of(side).values() for row in rows) for side in (sample.fit, sample.control)]


def assert_everybody_else_stays(game: Game, worlds: Sequence[World]) -> None:
    """All rows but the changed unit's are where they were, on the side where they were."""
    moved = [rows_by_side(world.curator) for world in worlds]
    if game.max_rows is None:  # the unit is a row: at most one goes and one comes
        gone = sum((moved[0][side] - moved[1][side]).total() for side in (0, 1))
        come = sum((moved[1][side] - moved[0][side]).total() for side in (0, 1))
        assert gone <= 1
        assert come <= (1 if game.neighbours == "replace" else 0)
        return
    changed = {p for p in game.one.keys() | game.other.keys() if game.one.get(p) != game.other.get(p)}
    for side in (0, 1):
        kept = [Counter({row: n for row, n in world[side].items() if row[0] not in changed}) for world in moved]
        assert kept[0] == kept[1]
    for world in moved:  # and nobody has more rows than allowed
        owners = Counter[int]()
        for side in world:
            for row, n in side.items():
                owners[row[0]] += n
        assert max(owners.values(), default=0) <= game.max_rows


def assert_all_is_covered(game: Game, enter: Enter) -> None:
    worlds = [enter(game, game.one), enter(game, game.other)]
    assert_everybody_else_stays(game, worlds)
    assert_marginals_are_covered(worlds)
    assert_selections_are_covered(worlds)
    assert_scores_are_covered(worlds)
    assert_attack_counts_are_covered(worlds)
    assert_unit_sizes_are_covered(worlds)
    assert_coarse_columns_are_covered(worlds)


# ---- random neighbours ---------------------------------------------------------------------------------------------


@st.composite
def games(draw: st.DrawFn) -> Game:
    max_rows = draw(st.sampled_from([None, 1, 2, 3]))
    neighbours = draw(st.sampled_from(["add_remove", "replace"]))

    def owned(person: int, most: int) -> st.SearchStrategy[list[Row]]:
        return st.lists(st.tuples(st.just(person), st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=most)

    most = 1 if max_rows is None else 6
    one = {person: draw(owned(person, most)) for person in draw(st.sets(st.integers(0, 6), min_size=1))}
    gone = draw(st.sampled_from(sorted(one)))
    other = {person: rows for person, rows in one.items() if person != gone}
    if neighbours == "replace":
        newcomer = draw(st.sampled_from([gone, 7]))  # the same person with other rows, or somebody else
        other[newcomer] = draw(owned(newcomer, most))
    holdout = draw(st.sampled_from([Fraction(0), Fraction(2, 5)]))
    return Game(max_rows, neighbours, one, other, holdout, draw(st.integers(0, 5)))


@given(game=games())
@settings(max_examples=40)
def test_what_one_unit_changes_is_covered_by_the_charge(game: Game, enter: Enter) -> None:
    assert_all_is_covered(game, enter)


@given(game=games(), order=st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_the_order_of_rows_moves_nobody(game: Game, order: Any, enter: Enter) -> None:
    shuffled = {person: list(rows) for person, rows in game.one.items()}
    for rows in shuffled.values():
        order.shuffle(rows)
    persons = list(shuffled)
    order.shuffle(persons)
    world, again = enter(game, game.one), enter(game, {person: shuffled[person] for person in persons})
    assert rows_by_side(world.curator) == rows_by_side(again.curator)


# ---- the worst case, by hand: bounds that are reached --------------------------------------------------------------


def worst(
    max_rows: int | None, neighbours: Literal["add_remove", "replace"], *, holdout: Fraction = Fraction(0), key: int = 1
) -> Game:
    """A unit with all its rows, and more than it may have, in one cell; then gone, or all in another cell."""
    others: Population = {person: [(person, person % 3, person % 2)] for person in (1, 2, 3)}
    many = 1 if max_rows is None else max_rows + 2
    one = {0: [(0, 0, 0)] * many, **others}
    other = others if neighbours == "add_remove" else {7: [(7, 2, 1)] * many, **others}
    return Game(max_rows, neighbours, one, other, holdout, key)


UNITS = [
    (max_rows, neighbours) for max_rows in (None, 1, 2, 5) for neighbours in ("add_remove", "replace")
]  # fmt: skip


@pytest.mark.parametrize(("max_rows", "neighbours"), UNITS)
def test_the_sensitivity_of_a_marginal_is_reached_and_exactly_charged(
    max_rows: int | None, neighbours: Literal["add_remove", "replace"], enter: Enter
) -> None:
    game = worst(max_rows, neighbours)
    worlds = [enter(game, game.one), enter(game, game.other)]
    change, charge = changes(worlds, lambda curator: curator.measure((1,), Noiseless(sigma_squared=VARIANCE)).values)
    unit = worlds[0].curator.unit
    assert int(np.abs(change).sum()) == unit.l1
    assert int((change**2).sum()) == unit.l2_squared
    assert charge.rho == Fraction(unit.l2_squared) / (2 * VARIANCE)


@pytest.mark.parametrize(("max_rows", "neighbours"), UNITS)
def test_the_sensitivity_of_a_score_is_reached_in_both_directions_at_once(
    max_rows: int | None, neighbours: Literal["add_remove", "replace"], enter: Enter
) -> None:
    """So the scores are not monotone, and the selection is charged for two sides."""
    game = worst(max_rows, neighbours)
    worlds = [enter(game, game.one), enter(game, game.other)]
    unit = worlds[0].curator.unit
    before = worlds[0].curator.measure((1,), Noiseless(sigma_squared=VARIANCE)).values
    full = np.zeros(3, dtype=np.int64) + 50  # nothing like the table: a row less is further away still
    seen = []
    for world in worlds:
        recorder = Recorder(scale=Fraction(2))
        far = before.copy()
        far[2], far[0] = 50, -50  # a row that comes to cell 2 or leaves cell 0 brings the count nearer
        world.curator.select([(1,), (1,), (1,)], [before, far, full], recorder)
        seen += recorder.seen
    moves = np.array(seen[1]) - np.array(seen[0])
    assert moves[0] == unit.l1
    assert moves[1] == -unit.l1
    assert worlds[0].charged[-1].rho == Fraction((2 * unit.l1) ** 2, 8 * 4)
    assert_selection_covers(seen, Fraction(2), worlds[0].charged[-1])


@pytest.mark.parametrize(("max_rows", "neighbours"), UNITS)
def test_the_sensitivity_of_noisy_scores_is_reached_and_exactly_charged(
    max_rows: int | None, neighbours: Literal["add_remove", "replace"], enter: Enter
) -> None:
    """Every candidate moves by all it can at once: m scores, each by l1."""
    game = worst(max_rows, neighbours)
    worlds = [enter(game, game.one), enter(game, game.other)]
    wanted: list[tuple[int, ...]] = [(1,), (0, 1), (1, 2)]
    before = [worlds[0].curator.measure(columns, Noiseless(sigma_squared=VARIANCE)).values for columns in wanted]
    change, charge = changes(worlds, lambda curator: curator.score(wanted, before, Noiseless(sigma_squared=VARIANCE)))
    unit = worlds[0].curator.unit
    assert change.tolist() == [unit.l1] * 3
    assert charge.rho == Fraction(3 * unit.l1**2) / (2 * VARIANCE)


@pytest.mark.parametrize(("max_rows", "neighbours"), UNITS)
def test_the_sensitivity_of_unit_sizes_is_reached(
    max_rows: int | None, neighbours: Literal["add_remove", "replace"], enter: Enter
) -> None:
    """Somebody with one row goes and, under replace, somebody with more rows than may be kept comes."""
    most = 1 if max_rows is None else max_rows
    others: Population = {person: [(person, 0, 0)] for person in (1, 2, 3)}
    come: Population = {7: [(7, 2, 1)] * (1 if max_rows is None else most + 2)} if neighbours == "replace" else {}
    game = Game(max_rows, neighbours, {0: [(0, 0, 0)], **others}, {**come, **others}, Fraction(0), 3)
    worlds = [enter(game, game.one), enter(game, game.other)]
    change, charge = changes(worlds, lambda curator: curator.count_unit_sizes(Noiseless(sigma_squared=VARIANCE)))
    assert change.shape == (most,)
    unit = worlds[0].curator.unit
    assert charge.rho == Fraction(unit.touched(1)) / (2 * VARIANCE)
    reached = most > 1 or neighbours == "add_remove"
    assert int((change**2).sum()) == (unit.touched(1) if reached else 0)
    if reached:
        with pytest.raises(AssertionError):  # half the charge would not cover it
            assert_noise_covers(change, charge.share(Fraction(1, 2)))


@pytest.mark.parametrize(("max_rows", "neighbours"), UNITS)
def test_the_sensitivity_of_attack_counts_is_reached(
    max_rows: int | None, neighbours: Literal["add_remove", "replace"], enter: Enter
) -> None:
    """Somebody on one side goes and somebody on the other side comes: every count that can change does."""
    always = tuple(Judge(f"test {n}", lambda rows: True) for n in range(3))

    def ask(curator: Curator) -> npt.NDArray[np.int64]:
        counts = curator.count_successes(always, Noiseless(sigma_squared=VARIANCE))
        return np.array([*counts.hits_fit, *counts.hits_control, counts.persons_fit, counts.persons_control])

    largest = 0
    for key in range(8):
        game = worst(max_rows, neighbours, holdout=Fraction(1, 2), key=key)
        worlds = [enter(game, game.one), enter(game, game.other)]
        change, charge = changes(worlds, ask)
        unit = worlds[0].curator.unit
        assert charge.rho == Fraction(unit.touched(4)) / (2 * VARIANCE)
        largest = max(largest, int((change**2).sum()))
    assert largest == unit.touched(4) == (4 if neighbours == "add_remove" else 8)


# ---- the checks meet curators with faults --------------------------------------------------------------------------

Fault = Callable[[], Any]


def _per_row(unit: Any) -> PrivacyUnit:
    return PrivacyUnit(entity="row", max_rows=1, neighbours=unit.schema.neighbours)


def _as_if_added(unit: Any) -> PrivacyUnit:
    return PrivacyUnit(entity="person", max_rows=unit.schema.unit.max_rows, neighbours="add_remove")


@contextmanager
def _one_sided() -> Iterator[None]:
    def cost(self: NoisyMax, *, sensitivity: int, picks: int = 1) -> Cost:
        return Cost.zcdp(picks * Fraction(sensitivity**2) / (8 * self.scale**2))

    with mock.patch.object(NoisyMax, "cost", cost):
        yield


def _scored_as_one_marginal(curator: Curator, candidates: Any, expected: Any, mechanism: DiscreteGaussian) -> Any:
    curator._reservation.spend(mechanism.cost(l2_squared=curator.unit.l2_squared), purpose="selection")
    return mechanism.add_noise(curator._distances(candidates, expected), rng=curator._rng)


class _DoubleCounter(ReferenceCounter):
    """In the cells of coarse columns each row counts twice."""

    def count(self, columns: tuple[int, ...]) -> npt.NDArray[np.int64]:
        return super().count(columns) * (2 if max(columns) >= len(SIZES) else 1)


def _all_kept(ids: Sequence[bytes], content: Sequence[bytes], *, max_rows: int, key: bytes) -> npt.NDArray[np.bool_]:
    return np.ones(len(ids), dtype=bool)


def _every_other(ids: Sequence[bytes], *, fraction: Fraction, key: bytes) -> npt.NDArray[np.bool_]:
    return np.arange(len(ids)) % 2 == 1


def _exact_share(ids: Sequence[bytes], *, fraction: Fraction, key: bytes) -> npt.NDArray[np.bool_]:
    order = np.random.default_rng(list(key)).permutation(len(ids))
    return order < len(ids) * fraction


FAULTS: dict[str, tuple[Fault, Game]] = {
    "sensitivity of a row for a person": (
        lambda: mock.patch.object(Curator, "unit", property(_per_row)),
        worst(5, "add_remove"),
    ),
    "sensitivity of add_remove for replace": (
        lambda: mock.patch.object(Curator, "unit", property(_as_if_added)),
        worst(2, "replace"),
    ),
    "squared sensitivity not squared": (
        lambda: mock.patch.object(PrivacyUnit, "l2_squared", property(lambda unit: unit.l1)),
        worst(5, "add_remove"),
    ),
    "scores charged as one marginal": (
        lambda: mock.patch.object(Curator, "score", _scored_as_one_marginal),
        worst(2, "add_remove"),
    ),
    "coarse cells that count a row twice": (
        lambda: mock.patch("dpsynth.counting.memory.MemoryCounter", _DoubleCounter),
        worst(2, "add_remove"),
    ),
    "contributions not bounded": (lambda: mock.patch("dpsynth.split.bounded", _all_kept), worst(2, "add_remove")),
    "attack counts charged as one": (
        lambda: mock.patch.object(PrivacyUnit, "touched", return_value=1),
        worst(2, "add_remove"),
    ),
    "sides by position": (
        lambda: mock.patch("dpsynth.split.to_control", _every_other),
        worst(2, "add_remove", holdout=Fraction(2, 5)),
    ),
    "sides in exact shares": (
        lambda: mock.patch("dpsynth.split.to_control", _exact_share),
        worst(2, "add_remove", holdout=Fraction(2, 5)),
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_curator_with_a_fault_is_noticed(name: str, enter: Enter) -> None:
    fault, game = FAULTS[name]
    assert_all_is_covered(game, enter)
    with fault(), pytest.raises(AssertionError):
        assert_all_is_covered(game, enter)


def test_a_selection_charged_for_one_side_is_noticed(enter: Enter) -> None:
    def play() -> None:
        game = worst(2, "add_remove")
        worlds = [enter(game, game.one), enter(game, game.other)]
        before = worlds[0].curator.measure((1,), Noiseless(sigma_squared=VARIANCE)).values
        seen, ten = [], np.array([10, 0, 0])  # who leaves cell 0 brings the one count nearer and takes the other away
        for world in worlds:
            recorder = Recorder(scale=Fraction(4))
            world.curator.select([(1,), (1,)], [before - ten, before + ten], recorder)
            seen += recorder.seen
        assert_selection_covers(seen, Fraction(4), worlds[0].charged[-1])

    play()
    with _one_sided(), pytest.raises(AssertionError):
        play()


# ---- the noise is what was paid for --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ThirdOfTheNoise(DiscreteGaussian):
    """Costs what it says and adds a third of it."""

    def add_noise(self, counts: npt.NDArray[np.int64], *, rng: Any) -> npt.NDArray[np.int64]:
        return DiscreteGaussian(sigma_squared=self.sigma_squared / 9).add_noise(counts, rng=rng)


@dataclass(frozen=True, kw_only=True)
class SameNoiseTwice(DiscreteGaussian):
    """Draws once and adds the same noise to each table."""

    drawn: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict, compare=False)

    def add_noise(self, counts: npt.NDArray[np.int64], *, rng: Any) -> npt.NDArray[np.int64]:
        noise = self.drawn.setdefault(counts.size, super().add_noise(np.zeros(counts.size, np.int64), rng=rng))
        return counts + noise.reshape(counts.shape)


def noise_p_value(curator: Curator, mechanism: DiscreteGaussian) -> float:
    """Whether measuring two marginals twice gives independent noise of the variance that was paid for."""
    draws = []
    for columns in ((0, 1), (0, 1), (0, 2), (0, 2)):
        exact = curator.measure(columns, Noiseless(sigma_squared=VARIANCE)).values
        draws.append((curator.measure(columns, mechanism).values - exact).ravel())
    noise = np.concatenate(draws).astype(float)
    rho = curator._reservation.spent[-1].rho  # type: ignore[attr-defined]
    paid = float(Fraction(curator.unit.l2_squared) / (2 * rho))
    spread = stats.chi2.cdf((noise**2).sum() / paid, len(noise))  # sums of squares of large-sigma noise are chi-square
    pairs = [float((a * b).sum() / paid / len(a) ** 0.5) for a, b in ((draws[0], draws[1]), (draws[2], draws[3]))]
    alike = 2 * stats.norm.sf(max(map(abs, pairs)))
    return float(min(1.0, 2 * min(spread, 1 - spread) * 3, alike * 2 * 3))


def test_the_noise_of_a_measurement_is_what_was_paid_for(make_schema: Any, make_frame: Any, open_curator: Any) -> None:
    schema = make_schema((60, 30, 20), max_rows=3)
    frame = make_frame([(n % 60, n % 30, n % 20) for n in range(300)], columns=3, who=[n // 4 for n in range(300)])
    curator = open_curator(frame, schema, seed=9)
    honest = DiscreteGaussian.calibrated(rho=Fraction(1, 50), l2_squared=curator.unit.l2_squared)
    assert noise_p_value(curator, honest) > FALSE_ALARM
    assert noise_p_value(curator, ThirdOfTheNoise(sigma_squared=honest.sigma_squared)) < FALSE_ALARM
    assert noise_p_value(curator, SameNoiseTwice(sigma_squared=honest.sigma_squared)) < FALSE_ALARM


# ---- the coins are fresh and secret --------------------------------------------------------------------------------


def test_two_curators_keep_other_rows_and_hold_back_others(make_schema: Any, make_frame: Any) -> None:
    """With the system's own coins: the same twice has probability below 1e-30 for the rows, and 1e-15 for the sides."""
    schema = make_schema((4, 50), max_rows=1)
    frame = make_frame([(row, p) for p in range(50) for row in range(4)], columns=2, who=[n // 4 for n in range(200)])

    def kept() -> list[set[Row]]:
        purse = ThrowAway(Cost.zero(), unit=schema.unit)
        sample = Curator.of_frame(frame, schema, purse, holdout=Fraction(1, 2)).review_sample()
        return [{row for rows in rows_of(side).values() for row in rows} for side in (sample.fit, sample.control)]

    one, other = kept(), kept()
    assert one[0] | one[1] != other[0] | other[1]
    assert {row[1] for row in one[0]} != {row[1] for row in other[0]}
    assert len(one[0] | one[1]) == 50


# ---- what is selected, and what is refused -------------------------------------------------------------------------

ROWS = [(0, 0, 0)] * 9 + [(1, 1, 1)] * 8 + [(2, 2, 0)] * 3 + [(5, 1, 0)] * 2
SOME = [(0, 1), (0, 2), (1, 2), (0,)]


@pytest.fixture
def curator(make_schema: Any, make_frame: Any, open_curator: Any) -> Curator:
    return open_curator(make_frame(ROWS, columns=3), make_schema(SIZES), seed=3)


def guesses(columns: Sequence[tuple[int, ...]], value: int = 1) -> list[npt.NDArray[np.int64]]:
    return [np.full([SIZES[c] for c in some], value, dtype=np.int64) for some in columns]


def distances(columns: Sequence[tuple[int, ...]], expected: Sequence[npt.NDArray[np.int64]]) -> list[int]:
    """The slow and obvious way."""
    out = []
    for some, guess in zip(columns, expected, strict=True):
        exact = Counter(tuple(row[c] for c in some) for row in ROWS)
        out.append(sum(abs(exact[cell] - int(guess[cell])) for cell in np.ndindex(guess.shape)))
    return out


def test_scores_are_l1_distances(curator: Curator) -> None:
    expected = guesses(SOME)
    noiseless = Noiseless(sigma_squared=VARIANCE)
    assert curator.score(SOME, expected, noiseless).tolist() == distances(SOME, expected)
    assert curator.score(SOME, iter(expected), noiseless).dtype == np.int64
    noisy = curator.score(SOME, expected, DiscreteGaussian(sigma_squared=Fraction(10**6)))
    assert noisy.shape == (4,)
    assert set(noisy.tolist()).isdisjoint(distances(SOME, expected))  # four draws of sigma 1,000: fails in 1 % of seeds


@pytest.mark.parametrize(
    ("picks", "forest", "want"), [(1, False, [0]), (2, False, [0, 2]), (9, False, 4), (9, True, 3), (2, True, [0, 2])]
)
def test_the_furthest_come_first_and_all_picks_are_charged(
    curator: Curator, picks: int, forest: bool, want: list[int] | int
) -> None:
    expected = guesses(SOME, 0)
    expected[0][0, 0], expected[2][0, 0], expected[1][0, 0] = -500, -400, -300
    recorder = Recorder(scale=Fraction(3))
    found = curator.select(SOME, expected, recorder, picks=picks, forest=forest)
    assert recorder.seen == [distances(SOME, expected)]
    ranking = [0, 2, 3] if forest else [0, 2, 1, 3]  # (0, 2) closes a cycle with (0, 1) and (1, 2); (0,) closes none
    assert found == (want if isinstance(want, list) else ranking[:want])
    assert curator._reservation.spent[-1] == recorder.cost(sensitivity=curator.unit.l1, picks=picks)  # type: ignore[attr-defined]


def test_a_penalty_is_taken_off_the_distance_and_costs_nothing(curator: Curator) -> None:
    expected, far = guesses(SOME, 0), distances(SOME, guesses(SOME, 0))
    recorder = Recorder(scale=Fraction(3))
    found = curator.select(SOME, expected, recorder, picks=4, penalties=np.array([4_000, 3_000, 2_000, 0]))
    assert recorder.seen == [[far[0] - 4_000, far[1] - 3_000, far[2] - 2_000, far[3]]]
    assert found == [3, 2, 1, 0]  # all distances are the number of rows
    assert curator._reservation.spent[-1] == recorder.cost(sensitivity=curator.unit.l1, picks=4)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("nothing", "want"), [(-2_500, [3, 2]), (-5_000, [3, 2, 1, 0]), (10_000, []), (None, [3, 2, 1, 0])]
)
@pytest.mark.parametrize("forest", [False, True])
def test_what_ranks_below_nothing_is_not_picked(
    curator: Curator, nothing: int | None, want: list[int], forest: bool
) -> None:
    """It is five more candidates, whose scores no unit can move, and all picks are charged for all the same."""
    recorder, penalties = Recorder(scale=Fraction(3)), np.array([4_000, 3_000, 2_000, 0])
    found = curator.select(
        SOME, guesses(SOME, 0), recorder, picks=9, penalties=penalties, nothing=nothing, forest=forest
    )
    assert found == [i for i in want if i > 0 or not forest]  # (0, 1) closes a cycle
    assert recorder.seen == [
        [d - p for d, p in zip(distances(SOME, guesses(SOME, 0)), penalties, strict=True)]
        + ([] if nothing is None else [nothing] * 5)
    ]
    assert curator._reservation.spent[-1] == recorder.cost(sensitivity=curator.unit.l1, picks=9)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "penalties",
    [
        np.array([1, 2, 3]),
        np.ones((4, 1), int),
        np.ones(4),
        np.array([0, 0, -1, 0]),
        np.array([0, 0, 2**60 + 1, 0]),
        np.ones(4, dtype=np.int64).view(np.recarray),
    ],
    ids=["too few", "of another shape", "not whole", "a reward", "too large", "an array of its own kind"],
)
def test_penalties_that_do_not_fit_are_refused_before_the_charge(
    curator: Curator, penalties: npt.NDArray[np.int64]
) -> None:
    with pytest.raises(ValueError, match="penalties must be"):
        curator.select(SOME, guesses(SOME), NoisyMax(scale=Fraction(1)), penalties=penalties)
    assert not curator._reservation.spent  # type: ignore[attr-defined]


def test_the_largest_penalty_overflows_nothing(curator: Curator) -> None:
    picked = curator.select(
        SOME, guesses(SOME, 0), NoisyMax(scale=Fraction(1)), picks=4, penalties=np.array([2**60, 0, 2**59, 2**58])
    )
    assert picked == [1, 3, 2, 0]


BAD_GUESSES = {
    "floating point": lambda guess: guess.astype(float),
    "other integers": lambda guess: guess.astype(np.int32),
    "one number for all cells": lambda guess: np.array(1, dtype=np.int64),
    "an axis less": lambda guess: guess.sum(axis=0),
    "an axis of length one": lambda guess: guess[:, :1],
    "axes swapped": lambda guess: guess.T,
    "too large": lambda guess: guess + 2**41,
    "too small": lambda guess: guess - 2**41,
    "the least integer": lambda guess: np.full_like(guess, -(2**63)),
    "an array of its own kind": lambda guess: guess.view(np.recarray),
}


@pytest.mark.parametrize("fault", BAD_GUESSES)
@pytest.mark.parametrize("how", ["select", "score"])
def test_a_guess_that_would_raise_the_sensitivity_is_refused(curator: Curator, how: str, fault: str) -> None:
    mechanism = NoisyMax(scale=Fraction(1)) if how == "select" else DiscreteGaussian(sigma_squared=VARIANCE)
    expected = guesses(SOME)
    expected[1] = BAD_GUESSES[fault](expected[1])
    with pytest.raises(ValueError, match="int64 counts in its shape"):
        getattr(curator, how)(SOME, expected, mechanism)
    for count in (3, 5):
        with pytest.raises(ValueError, match="zip"):
            getattr(curator, how)(SOME, (guesses(SOME) * 2)[:count], mechanism)


def test_coarse_columns_count_the_rows_of_their_groups(curator: Curator) -> None:
    noiseless = Noiseless(sigma_squared=VARIANCE)
    curator.coarsen(COARSE)
    assert curator.measure((3,), noiseless).values.tolist() == [20, 2, 0]
    assert curator.measure((3, 4), noiseless).values.tolist() == [[8, 12], [2, 0], [0, 0]]
    curator.coarsen(COARSE[1:])  # in place of those before, not after them
    assert curator.measure((3,), noiseless).values.tolist() == [10, 12]
    assert curator.measure((0,), noiseless).values.tolist() == [9, 8, 3, 0, 0, 2, 0, 0]
    curator.coarsen([])
    with pytest.raises(IndexError):
        curator.measure((3,), noiseless)


@pytest.mark.parametrize(("column", "groups"), [(0, [0, 1]), (3, [0, 1]), (-1, [0, 1]), (2, [0, 0, 1]), (1, [0] * 8)])
def test_a_coarse_column_that_does_not_fit_is_refused(curator: Curator, column: int, groups: list[int]) -> None:
    with pytest.raises(ValueError, match="coarse column"):
        curator.coarsen([COARSE[0], Coarse(column=column, groups=np.array(groups))])


# ---- charged before it is computed ---------------------------------------------------------------------------------


def test_nothing_is_counted_that_was_not_paid_for(
    make_schema: Any, make_frame: Any, open_curator: Any, book: Any
) -> None:
    @dataclass
    class Broke(book):  # type: ignore[misc]
        def spend(self, cost: Cost, *, purpose: str, basis: str = "proven") -> None:
            raise BudgetExceeded("nothing is left")

    frame = make_frame([(0, 0, 0), (1, 1, 1)], columns=3)
    curator = open_curator(frame, make_schema(SIZES), seed=1, reservation=Broke())
    with (
        mock.patch.object(type(curator._store), "count", side_effect=AssertionError("counted")),
        mock.patch.object(type(curator._store), "count_each", side_effect=AssertionError("counted")),
        mock.patch.object(Judge, "succeeds", side_effect=AssertionError("judged")),
        mock.patch.object(NoisyMax, "top", side_effect=AssertionError("picked")),
    ):
        for ask in (
            lambda: curator.measure((0,), DiscreteGaussian(sigma_squared=VARIANCE)),
            lambda: curator.select([(0,)], [np.zeros(8, dtype=np.int64)], NoisyMax(scale=Fraction(1))),
            lambda: curator.score([(0,)], [np.zeros(8, dtype=np.int64)], DiscreteGaussian(sigma_squared=VARIANCE)),
            lambda: curator.count_successes(TESTS, DiscreteGaussian(sigma_squared=VARIANCE)),
            lambda: curator.count_unit_sizes(DiscreteGaussian(sigma_squared=VARIANCE)),
        ):
            with pytest.raises(BudgetExceeded):
                ask()


def test_rows_without_a_unit_count_for_nobody(make_schema: Any, make_frame: Any, open_curator: Any) -> None:
    import pandas as pd

    frame = make_frame([(0, 0, 0), (1, 1, 1), (2, 1, 1)], columns=3, who=["a", "b", "a"])
    frame["who"] = frame["who"].mask([False, True, False], pd.NA)
    curator = open_curator(frame, make_schema(SIZES, max_rows=2), seed=1)
    assert curator.measure((0,), Noiseless(sigma_squared=VARIANCE)).values.tolist() == [1, 0, 1, 0, 0, 0, 0, 0]
    assert curator.review_sample().fit.persons == 1


def test_an_attack_that_stumbles_over_one_person_says_nothing_about_others(enter: Enter) -> None:
    """Rows must not decide whether a release fails, and one person's rows must not change another's verdict."""

    def judge(rows: list[Row]) -> bool:
        if rows[0][0] == 2:
            raise ZeroDivisionError("on a private value")
        return True

    population = {person: [(person, 0, 0)] for person in range(5)}
    game = Game(2, "add_remove", population, {p: rows for p, rows in population.items() if p != 2})
    worlds = [enter(game, game.one), enter(game, game.other)]
    fragile = (Judge("fragile", judge),)

    def ask(curator: Curator) -> npt.NDArray[np.int64]:
        counts = curator.count_successes(fragile, Noiseless(sigma_squared=VARIANCE))
        return np.array([*counts.hits_fit, counts.persons_fit])

    change, charge = changes(worlds, ask)
    assert ask(worlds[0].curator).tolist() == [4, 5]
    assert change.tolist() == [0, -1]
    assert_noise_covers(change, charge)


@pytest.mark.parametrize("answer", [np.zeros(3), np.zeros(2, dtype=bool), np.array([1, 0, 1]), np.array(True)])
def test_an_attack_that_does_not_answer_with_one_flag_a_person_is_refused(answer: npt.NDArray, enter: Enter) -> None:
    """More than one success a person would break the sensitivity."""

    @dataclass(frozen=True)
    class Loose(Judge):
        def succeeds(self, sample: PersonRecords) -> npt.NDArray:
            return answer

    population = {person: [(person, 0, 0)] for person in range(3)}
    world = enter(Game(2, "add_remove", population, population), population)
    with pytest.raises(TypeError, match="one flag a person"):
        world.curator.count_successes((Loose("loose", bool),), Noiseless(sigma_squared=VARIANCE))
