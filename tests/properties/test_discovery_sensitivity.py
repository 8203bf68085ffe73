"""What one person can change in what discovery sees, against what is charged for it, as in `test_sensitivity.py`.

Two neighbouring tables go through two curators that share their secret key. Noise is a constant, so that exact numbers
show; a constant of its own says from which noise on the text of a single person is published.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal
from unittest import mock

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth import reading
from dpsynth.counting.memory import MemoryStore
from dpsynth.curator import Curator, Found
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.mechanisms.partition_selection import PartitionSelection
from dpsynth.privacy import Cost, PrivacyUnit
from dpsynth.schema import Column, Schema

Row = tuple[str, float, str, str]
"""An open category, an open number, a category and a boolean whose undeclared cells drop the row."""
Population = dict[int, list[Row]]
Neighbours = Literal["add_remove", "replace"]

VARIANCE = Fraction(7, 2)
LEAST = 9
EDGES = np.array([0.0, 1.0, 2.0, 5.0, 10.0])
TEXTS = ("x", "X", " x", "y", "other", "", "tab\there")
NUMBERS = (-1.0, 0.0, 1.5, 2.0, 7.0, 1e300, math.inf)


@dataclass(frozen=True, kw_only=True)
class Constant(DiscreteGaussian):
    """Costs what the noise would cost, and is a constant."""

    shift: int = 0

    def add_noise(self, counts: npt.NDArray[np.int64], *, rng: object) -> npt.NDArray[np.int64]:
        return np.asarray(counts) + self.shift


def selection(shift: int) -> PartitionSelection:
    return PartitionSelection(noise=Constant(sigma_squared=VARIANCE, shift=shift), least=LEAST)


def exact_tail(least: int) -> float:
    """P(Z >= least) of the discrete Gaussian, by summing."""
    weights = {z: math.exp(-z * z / (2 * float(VARIANCE))) for z in range(-100, 101)}
    return sum(w for z, w in weights.items() if z >= least) / sum(weights.values())


# ---- two worlds ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Game:
    """A rule of who is protected, and two tables that differ by one unit."""

    max_rows: int | None  # None: a unit is a row
    neighbours: Neighbours
    one: Population
    other: Population
    holdout: Fraction = Fraction(0)
    key: int = 1


@dataclass(frozen=True)
class World:
    curator: Curator
    charged: list[Cost]


def schema_of(game: Game) -> Schema:
    columns = (
        Column(name="job", type="category", discover=("values",)),
        Column(name="pay", type="number", discover=("minimum", "maximum", "bins"), missing=True),
        Column(name="kind", type="category", values=("a", "b"), unknown="drop_row"),
        Column(name="flag", type="boolean", unknown="drop_row"),
    )
    unit = {} if game.max_rows is None else {"entity": "person", "unit_column": "who", "max_rows": game.max_rows}
    return Schema(table="t", columns=columns, neighbours=game.neighbours, **unit)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def enter(open_curator: Any, book: Any) -> Callable[[Game, Population], World]:
    def work(game: Game, population: Population) -> World:
        rows = [(f"p{person}", *row) for person, owned in population.items() for row in owned]
        frame = pd.DataFrame(rows, columns=["who", "job", "pay", "kind", "flag"]).astype({"pay": float})
        frame = frame.astype(dict.fromkeys(("who", "job", "kind", "flag"), object))
        if game.max_rows is None:
            del frame["who"]
        purse = book()
        curator = open_curator(frame, schema_of(game), seed=game.key, reservation=purse, holdout=game.holdout)
        return World(curator, purse.spent)

    return work


Enter = Callable[[Game, Population], World]


def persons_per_text(world: World) -> dict[str, int]:
    return {found.text: found.units - 1000 for found in world.curator.find_values("job", selection(1000))}


def assert_values_are_covered(worlds: Sequence[World]) -> None:
    """Texts that both tables have move by what rho is for; those that one has alone have one person each, and few."""
    one, other = map(persons_per_text, worlds)
    charge = worlds[0].charged[-1]
    assert charge == worlds[1].charged[-1]
    squares = sum((one[text] - other[text]) ** 2 for text in one.keys() & other.keys())
    assert Fraction(squares) / (2 * VARIANCE) <= charge.rho
    alone = [[mine[text] for text in mine.keys() - theirs.keys()] for mine, theirs in ((one, other), (other, one))]
    assert all(persons == 1 for side in alone for persons in side)
    chance = exact_tail(least_that_publishes(worlds[0].curator))
    assert max(map(len, alone)) * chance <= charge.delta0 < 1


def least_that_publishes(curator: Curator) -> int:
    """The noise from which on a text of one unit is published; LEAST where every text has more units."""
    return next((z for z in range(LEAST) if any(f.units == z + 1 for f in found_with(curator, z))), LEAST)


def found_with(curator: Curator, shift: int) -> tuple[Found, ...]:
    return curator.find_values("job", selection(shift))


def assert_intervals_are_covered(worlds: Sequence[World]) -> None:
    seen = [world.curator.find_rows("pay", EDGES, Constant(sigma_squared=VARIANCE)) for world in worlds]
    charge = worlds[0].charged[-1]
    assert charge == worlds[1].charged[-1]
    change = seen[1] - seen[0]
    assert Fraction(int((change**2).sum())) / (2 * VARIANCE) <= charge.rho


def everybody(world: World) -> list[Counter[tuple[object, ...]]]:
    """The rows on each side, under a schema that keeps all apart; after that the curator answers no open question."""
    labels = tuple(text for text in TEXTS if text.strip() and text != "other" and "\t" not in text)
    schema = world.curator.schema
    job = Column(name="job", type="category", values=labels, unknown="other", source="discover")
    pay = Column(
        name="pay", type="number", edges=(-1, 0, 1, 2, 5, 10), missing=True, unknown="missing", source="discover"
    )
    world.curator.complete(schema.completed([job, pay]))
    sample = world.curator.review_sample()
    return [
        Counter(zip(*(np.nan_to_num(values, nan=-9).tolist() for values in side.records.columns.values()), strict=True))
        for side in (sample.fit, sample.control)
    ]


def assert_the_others_stay(game: Game, worlds: Sequence[World]) -> None:
    """Each side changes by the rows of the changed units alone, who have at most so many."""
    one, other = map(everybody, worlds)
    k = game.max_rows or 1
    gone = sum((a - b).total() for a, b in zip(one, other, strict=True))
    come = sum((b - a).total() for a, b in zip(one, other, strict=True))
    assert gone <= k
    assert come <= (k if game.neighbours == "replace" else 0)


def assert_all_is_covered(game: Game, enter: Enter) -> None:
    worlds = [enter(game, game.one), enter(game, game.other)]
    assert_values_are_covered(worlds)
    assert_intervals_are_covered(worlds)
    assert_the_others_stay(game, worlds)


# ---- random neighbours ---------------------------------------------------------------------------------------------


@st.composite
def games(draw: st.DrawFn) -> Game:
    max_rows = draw(st.sampled_from([None, 1, 2, 3]))
    neighbours: Neighbours = draw(st.sampled_from(["add_remove", "replace"]))
    row = st.tuples(
        st.sampled_from(TEXTS), st.sampled_from(NUMBERS), st.sampled_from("abbaz"), st.sampled_from(["true", "0", "?"])
    )
    owned = st.lists(row, min_size=1, max_size=1 if max_rows is None else 6)
    one = {person: draw(owned) for person in draw(st.sets(st.integers(0, 6), min_size=1))}
    gone = draw(st.sampled_from(sorted(one)))
    other = {person: rows for person, rows in one.items() if person != gone}
    if neighbours == "replace":
        other[draw(st.sampled_from([gone, 7]))] = draw(owned)
    return Game(
        max_rows, neighbours, one, other, draw(st.sampled_from([Fraction(0), Fraction(2, 5)])), draw(st.integers(0, 5))
    )


@pytest.mark.slow
@given(game=games())
@settings(max_examples=40)
def test_what_one_unit_changes_is_covered_by_the_charge(game: Game, enter: Enter) -> None:
    assert_all_is_covered(game, enter)


# ---- the worst case, by hand ---------------------------------------------------------------------------------------


def worst(max_rows: int | None, neighbours: Neighbours, *, shared: bool = False, **more: Any) -> Game:
    """A unit with a text of its own in every row, and more rows than it may have, all in one interval.

    Args:
        shared: Whether other units have the same texts, so that numbers of units move and no text comes or goes.
    """
    rows = 1 if max_rows is None else max_rows + 2
    mine: list[Row] = [(f"mine {n}", 7.0, "a", "true") for n in range(rows)]
    theirs: list[Row] = [(f"theirs {n}", 0.0, "a", "true") for n in range(rows)]
    others: Population = {n: [("y", 1.5, "b", "true")] for n in (1, 2, 3)}
    if shared:
        others |= {10 + n: [row] for n, row in enumerate([*mine, *theirs])}
    other = others if neighbours == "add_remove" else {9: theirs, **others}
    return Game(max_rows, neighbours, {0: mine, **others}, other, **more)


UNITS: list[tuple[int | None, Neighbours]] = [(None, "add_remove"), (None, "replace")]
UNITS += [(k, neighbours) for k in (1, 2, 5) for neighbours in ("add_remove", "replace")]  # type: ignore[misc]


@pytest.mark.parametrize(("max_rows", "neighbours"), UNITS)
def test_the_sensitivities_are_reached_and_exactly_charged(
    max_rows: int | None, neighbours: Neighbours, enter: Enter
) -> None:
    k, sides = max_rows or 1, 1 if neighbours == "add_remove" else 2
    game = worst(max_rows, neighbours, shared=True)
    worlds = [enter(game, game.one), enter(game, game.other)]
    one, other = map(persons_per_text, worlds)
    assert sum((one[text] - other[text]) ** 2 for text in one) == sides * k
    assert worlds[0].charged[-1].rho == Fraction(sides * k) / (2 * VARIANCE)
    seen = [world.curator.find_rows("pay", EDGES, Constant(sigma_squared=VARIANCE)) for world in worlds]
    assert int(((seen[1] - seen[0]) ** 2).sum()) == sides * k**2
    assert worlds[0].charged[-1].rho == Fraction(sides * k**2) / (2 * VARIANCE)

    game = worst(max_rows, neighbours)
    worlds = [enter(game, game.one), enter(game, game.other)]
    assert_values_are_covered(worlds)
    one, other = map(persons_per_text, worlds)
    assert len(one.keys() - other.keys()) == k
    assert least_that_publishes(worlds[0].curator) == LEAST - 1
    charged = worlds[0].charged[-1].delta0
    assert k * exact_tail(LEAST - 1) <= charged <= 1.1 * k * exact_tail(LEAST - 1)


def test_discovery_looks_at_the_fit_side_alone(enter: Enter) -> None:
    def play() -> None:
        population: Population = {n: [(f"text {n}", float(n % 10), "a", "true")] * 2 for n in range(40)}
        game = Game(2, "add_remove", population, population, Fraction(1, 2))
        world = enter(game, population)
        texts = persons_per_text(world)
        rows = world.curator.find_rows("pay", EDGES, Constant(sigma_squared=VARIANCE))
        everybody(world)
        fit = world.curator.review_sample().fit
        assert 0 < fit.persons < 40
        assert len(texts) == fit.persons
        assert set(texts.values()) == {1}
        assert int(rows.sum()) == len(fit.records) == 2 * fit.persons

    play()
    with mock.patch.object(MemoryStore, "_fit_side", _both_sides), pytest.raises(AssertionError):
        play()


@pytest.mark.parametrize("cell", ["z", "", None])
def test_rows_that_another_column_drops_are_not_seen(cell: str | None, enter: Enter) -> None:
    """And since the row is gone before rows are bounded, nobody's place is taken by it."""
    kept: Row = ("kept", 7.0, "a", "true")
    game = Game(1, "add_remove", {0: [("dropped", 0.0, cell, "true"), kept, ("dropped", 0.0, "a", "?")]}, {})  # type: ignore[list-item]
    for key in range(6):
        world = enter(Game(1, "add_remove", game.one, {}, key=key), game.one)
        assert persons_per_text(world) == {"kept": 1}
        assert world.curator.find_rows("pay", EDGES, Constant(sigma_squared=VARIANCE)).tolist() == [0, 0, 0, 1]


# ---- the checks meet curators with faults --------------------------------------------------------------------------


def _both_sides(self: MemoryStore) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    number = {unit: n for n, unit in enumerate(self._control)}
    return np.ones(len(self._ids), bool), np.array([number[unit] for unit in self._ids], dtype=np.int64)


def _rows_as_persons(self: MemoryStore) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    fit = np.array([not self._control[unit] for unit in self._ids], dtype=bool)
    return fit, np.arange(int(fit.sum()))


def _all_kept(ids: Sequence[bytes], content: Sequence[bytes], *, max_rows: int, key: bytes) -> npt.NDArray[np.bool_]:
    return np.ones(len(ids), dtype=bool)


def _merged(change: Callable[[str], str]) -> Any:
    honest = Curator.find_values

    def find_values(self: Curator, name: str, mechanism: PartitionSelection) -> tuple[Found, ...]:
        units: Counter[str] = Counter()
        noise = mechanism.noise.shift  # type: ignore[attr-defined]
        for found in honest(self, name, mechanism):
            units[change(found.text)] += found.units - noise
        return tuple(Found(text=text, units=n + noise) for text, n in units.items())

    return mock.patch.object(Curator, "find_values", find_values)


def _overlapping() -> Any:
    honest = Curator.find_rows

    def find_rows(self: Curator, name: str, edges: Any, mechanism: Any) -> Any:
        rows = honest(self, name, edges, mechanism)
        return rows + np.append(rows[1:], 0)

    return mock.patch.object(Curator, "find_rows", find_rows)


def _one_too_low(self: PartitionSelection, units: npt.NDArray[np.int64], *, rng: Any) -> npt.NDArray[np.int64]:
    noisy = self.noise.add_noise(units, rng=rng)
    return np.where(noisy < self.least - 1, -1, noisy)


def _without_k(self: PartitionSelection, *, l2_squared: int, values: int) -> Cost:
    return HONEST_COST(self, l2_squared=l2_squared, values=1)


HONEST_COST = PartitionSelection.cost


@contextmanager
def _texts_by_appearance() -> Iterator[None]:
    """A text's number, which says how many came before it, decides which rows stay."""

    def content(rows: reading.OpenRows) -> list[bytes]:
        columns = [np.where(cells.kinds == 0, cells.values, -1.0) for cells in rows.cells.values()]
        return [row.tobytes() for row in np.column_stack(columns)]

    with mock.patch("dpsynth.counting.memory._content", content):
        yield


def crowded() -> Game:
    """The first person's text comes first in the one table and is unknown in the other; the others have many rows."""
    others: Population = {n: [(f"{n} {m}", float(m), "a", "true") for m in range(8)] for n in range(1, 9)}
    return Game(2, "add_remove", {0: [("first", 0.0, "a", "true")], **others}, others)


FAULTS: dict[str, tuple[Callable[[], Any], Game]] = {
    "rows counted instead of persons": (
        lambda: mock.patch.object(MemoryStore, "_fit_side", _rows_as_persons),
        Game(5, "add_remove", {0: [("y", 0.0, "a", "true")] * 5, 1: [("y", 0.0, "a", "true")]}, {1: [("y", 0.0, "a", "true")]}),
    ),
    "contributions not bounded": (lambda: mock.patch("dpsynth.split.bounded", _all_kept), worst(2, "add_remove")),
    "texts merged after counting: case": (
        lambda: _merged(str.casefold),
        Game(2, "add_remove", {0: [(t, 0.0, "a", "true") for t in "xX"], 1: [("x", 0.0, "a", "true")]}, {1: [("x", 0.0, "a", "true")]}),
    ),
    "texts merged after counting: blanks": (
        lambda: _merged(str.strip),
        Game(2, "add_remove", {0: [(t, 0.0, "a", "true") for t in ("x", " x")], 1: [("x", 0.0, "a", "true")]}, {1: [("x", 0.0, "a", "true")]}),
    ),
    "overlapping intervals": (_overlapping, worst(2, "add_remove")),
    "a threshold one too low": (
        lambda: mock.patch.object(PartitionSelection, "published", _one_too_low),
        worst(2, "add_remove"),
    ),
    "delta0 of one value for k": (lambda: mock.patch.object(PartitionSelection, "cost", _without_k), worst(2, "add_remove")),
    "sensitivity of one value for k": (
        lambda: mock.patch.object(PrivacyUnit, "touched", return_value=1),
        worst(2, "add_remove", shared=True),
    ),
    "squared sensitivity not squared": (
        lambda: mock.patch.object(PrivacyUnit, "l2_squared", property(lambda unit: unit.l1)),
        worst(5, "add_remove"),
    ),
    "coins by order of appearance": (_texts_by_appearance, crowded()),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_noticed(name: str, enter: Enter) -> None:
    fault, game = FAULTS[name]
    assert_all_is_covered(game, enter)
    with fault(), pytest.raises(AssertionError):
        assert_all_is_covered(game, enter)
