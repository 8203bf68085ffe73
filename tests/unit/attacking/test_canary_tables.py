"""Worst-case tables, what attackers read off a result, and the game's bookkeeping."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest

from attacks.canary import CanaryResult, Claim, Conjunctions, NoisyCounts, play
from attacks.neighbours import Pair, worst_cases
from dpsynth import Column, Cost, DiscreteGaussian, Records, Schema, Table, Trial
from dpsynth.coarsening import Coarse

OpenCurator = Callable[..., Any]

MIXED = (
    Column(name="age", type="integer", minimum=0, maximum=99, bins=10),
    Column(name="income", type="number", minimum=-5.0, maximum=1000.0, edges=(-5, 0, 10, 100, 1000), missing=True),
    Column(name="town", type="category", values=("a", "b"), unknown="other"),
    Column(name="member", type="boolean"),
    Column(name="always", type="category", values=("one",)),
    Column(name="note", type="text"),
)


def person(max_rows: int, neighbours: Any = "add_remove") -> Schema:
    return Schema(
        table="t", columns=MIXED, entity="person", unit_column="who", max_rows=max_rows, neighbours=neighbours
    )


SCHEMAS = {
    "rows": Schema(table="t", columns=MIXED),
    "replaced": Schema(table="t", columns=MIXED, neighbours="replace"),
    "persons": person(3),
    "replaced persons": person(2, "replace"),
    "one column": Schema(table="t", columns=MIXED[:1]),
    "one cell": Schema(table="t", columns=MIXED[4:5], neighbours="replace"),
}
PAIRS = [
    pytest.param(pair, id=f"{name}, {pair.name}") for name, s in SCHEMAS.items() for pair in worst_cases(s, rows=9)
]


def rows_by_unit(pair: Pair, frame: pd.DataFrame) -> dict[str, list[tuple[object, ...]]]:
    """Each unit's rows; a row without a unit column is a unit of its own, known by its content and how often it came."""
    rows = [
        tuple(None if pd.isna(v) else v for v in row) for row in frame[list(pair.schema.names)].itertuples(index=False)
    ]
    if pair.schema.unit_column is None:
        return {f"{row} {rows[:n].count(row)}": [row] for n, row in enumerate(rows)}
    owners = frame[pair.schema.unit_column].tolist()
    return {who: [row for row, owner in zip(rows, owners, strict=True) if owner == who] for who in owners}


@pytest.mark.parametrize("pair", PAIRS)
def test_the_two_tables_are_neighbours(pair: Pair) -> None:
    present, absent = rows_by_unit(pair, pair.present), rows_by_unit(pair, pair.absent)
    if pair.schema.unit_column is None:
        lost, gained = absent.keys() - present.keys(), present.keys() - absent.keys()
        assert len(gained) == 1 or pair.schema.sizes == (1,)
        assert len(lost) == (len(gained) if pair.schema.neighbours == "replace" else 0)
    else:
        changed = [who for who in present if present[who] != absent.get(who)]
        assert len(changed) == 1
        assert (changed[0] in absent) == (pair.schema.neighbours == "replace")
        assert absent.keys() <= present.keys()


@pytest.mark.parametrize("pair", PAIRS)
def test_a_curator_counts_what_the_attacker_expects(pair: Pair, open_curator: OpenCurator) -> None:
    """With noise of variance 1e-6, which is none: every cell that differs is one that `shift` names."""
    tables = [open_curator(frame, pair.schema, seed=0) for frame in (pair.absent, pair.present)]
    silent = DiscreteGaussian(sigma_squared=Fraction(1, 10**6))
    width = len(pair.schema.sizes)
    for columns in [c for n in (1, 2) for c in combinations(range(width), n)]:
        absent, present = (curator.measure(columns, silent).values for curator in tables)
        moved = np.zeros_like(absent)
        for move in pair.shift(columns):
            moved[move.cell] = move.by
            assert move.mean == (absent[move.cell] + present[move.cell]) / 2
        assert np.array_equal(present - absent, moved)
        assert np.abs(moved).sum() <= pair.schema.unit.l1


@pytest.mark.parametrize("neighbours", ["add_remove", "replace"])
def test_columns_that_a_recipe_made_are_followed(
    neighbours: str, make_schema: Callable[..., Schema], open_curator: OpenCurator
) -> None:
    schema = make_schema([4, 3], neighbours=neighbours)
    pair = worst_cases(schema, rows=9)[0]
    made = [Coarse(column=0, groups=np.array([0, 0, 1, 1])), Coarse(column=1, groups=np.array([1, 0, 0]))]
    silent = DiscreteGaussian(sigma_squared=Fraction(1, 10**6))
    values = []
    for frame in (pair.absent, pair.present):
        curator = open_curator(frame, schema, seed=0)
        curator.coarsen(made)
        values.append(curator.measure((1, 2, 3), silent).values)
    moved = np.zeros_like(values[0])
    for move in pair.shift((1, 2, 3), made):
        moved[move.cell] = move.by
        assert move.mean == (values[0][move.cell] + values[1][move.cell]) / 2
    assert np.array_equal(values[1] - values[0], moved)


@pytest.mark.parametrize("name", SCHEMAS)
def test_alone_moves_every_marginal_by_all_that_a_unit_can(name: str) -> None:
    schema = SCHEMAS[name]
    for pair in worst_cases(schema, rows=9):
        if pair.name != "torn":
            for column in range(len(schema.sizes)):
                moves = [move.by for move in pair.shift((column,))]
                movable = schema.sizes[column] > 1 or schema.neighbours == "add_remove"
                assert sum(by * by for by in moves) == (schema.unit.l2_squared if movable else 0)


def test_torn_moves_scores_of_selection_apart() -> None:
    """Distances to independence rise by k for some pairs and fall by k for others; under "replace" by 2 k each."""
    for neighbours, by in (("add_remove", 2), ("replace", 4)):
        columns = tuple(Column(name=f"c{i}", type="category", values=("a", "b", "c")) for i in range(4))
        schema = Schema(table="t", columns=columns, neighbours=neighbours)
        pair = next(pair for pair in worst_cases(schema, rows=400) if pair.name == "torn")
        guess = np.array([[100, 100, 0], [100, 100, 0], [0, 0, 0]])  # what independence expects of every pair
        rise = []
        for columns_of in combinations(range(4), 2):
            scores = []
            for other in (pair.other, pair.target):
                rows = pair.bulk if other is None else np.vstack([pair.bulk, other])
                counts = np.zeros((3, 3), dtype=int)
                np.add.at(counts, tuple(rows[:, columns_of].T), 1)
                scores.append(np.abs(counts - guess).sum())
            rise.append(scores[1] - scores[0])
        assert max(rise) - min(rise) == by


def test_tables_follow_from_the_schema_alone() -> None:
    for one, other in zip(
        worst_cases(SCHEMAS["persons"], rows=9), worst_cases(SCHEMAS["persons"], rows=9), strict=True
    ):
        pd.testing.assert_frame_equal(one.present, other.present)
        pd.testing.assert_frame_equal(one.absent, other.absent)


@pytest.mark.parametrize("width", [1, 3, 5])
def test_conjunctions_are_counted_as_by_hand(width: int, make_schema: Callable[..., Schema]) -> None:
    schema = make_schema([3] * width, neighbours="replace")
    pair = worst_cases(schema, rows=2)[0]
    codes = np.random.default_rng(0).integers(0, 3, (50, width)).astype(np.int32)
    seen = Conjunctions(pair, most=width).observe(Table(schema=schema, codes=codes))
    by_hand = []
    for row in (pair.target, pair.other):
        by_bits = {
            sum(1 << c for c in columns): np.all(codes[:, columns] == row[list(columns)], axis=1).sum()
            for n in range(width + 1)
            for columns in combinations(range(width), n)
        }
        by_hand.append([by_bits[bits] for bits in range(2**width)])
    sets, alone = np.split(np.square(seen).round().astype(int), [2 * 2**width])
    assert sorted(sets) == sorted(np.concatenate(by_hand))
    assert sets[0] == 50
    assert sets[-1] == by_hand[1][-1]
    assert alone.tolist() == [(codes[:, c] == row[c]).sum() for row in (pair.target, pair.other) for c in range(width)]


def test_conjunctions_of_a_wide_table_use_few_columns_together_and_all_alone(
    make_schema: Callable[..., Schema],
) -> None:
    schema = make_schema([2] * 60)
    pair = worst_cases(schema, rows=2)[0]
    table = Table(schema=schema, codes=np.ones((4, 60), dtype=np.int32))
    assert Conjunctions(pair).observe(table).shape == (2**10 + 60,)


def test_a_number_that_comes_back_exactly_is_seen() -> None:
    column = Column(name="x", type="number", minimum=0, maximum=10, bins=2, basis="test")
    schema = Schema(table="test", columns=(column,))
    pair = worst_cases(schema, rows=20)[0]
    value = float(pair.present["x"].iloc[-1])
    sights = [
        Conjunctions(pair).observe(Trial(rows=Records(schema.released(), {"x": np.array(numbers)})))
        for numbers in ([value, 7.5], [7.5, 8.5])
    ]
    assert (sights[0] - sights[1]).tolist() == [0.0] * (len(sights[0]) - 1) + [1.0]  # the same cells, and not the same


# ---- the game --------------------------------------------------------------------------------------------------------


class Announced:
    """Reads results that are numbers."""

    def observe(self, output: float) -> float:
        return output

    def learn(self, absent: Any, present: Any) -> Any:
        self.taught = (list(absent), list(present))
        return (lambda seen: -seen, lambda seen: seen)  # the first one is wrong


def test_the_parts_do_not_overlap_and_the_better_score_is_chosen(make_schema: Callable[..., Schema]) -> None:
    pair = worst_cases(make_schema([2, 2]), rows=2)[0]
    given: list[float] = []

    def fit(frame: pd.DataFrame) -> float:
        given.append(len(given) / 1e6 + (1 if pair.is_present(frame) else 0))
        return given[-1]

    done: list[int] = []
    attacker = Announced()
    claim = Claim(epsilon=1.0, delta=1e-6)
    result = play(pair, fit, attacker, claim=claim, fits=161, progress=done.append)
    assert done == list(range(2, 161, 2))
    assert (result.fits, result.trials) == (160, 60)
    assert (result.hits, result.false_alarms) == (60, 0)
    assert attacker.taught == (given[0:20:2], given[1:20:2])
    assert result.privacy_class == "P0"
    assert result.exceeds
    at_best = np.log(1 / (1 - 0.001 ** (1 / 120)) - 1)  # 60 right guesses on each side by chance: once in a thousand
    assert at_best - 0.05 < result.epsilon < at_best
    assert result.ceiling == result.epsilon
    assert result.conclusive


def test_too_few_fits_are_refused(make_schema: Callable[..., Schema]) -> None:
    pair = worst_cases(make_schema([2]), rows=2)[0]
    with pytest.raises(ValueError, match="16"):
        play(pair, len, NoisyCounts(pair), claim=Claim(epsilon=1, delta=0), fits=15)  # type: ignore[arg-type]


def result(hits: int, false_alarms: int, claim: Claim) -> CanaryResult:
    return CanaryResult(
        pair="p", claim=claim, fits=800, trials=300, hits=hits, false_alarms=false_alarms, confidence=0.999
    )


def test_a_claim_is_held_to_its_epsilon_and_to_its_curve() -> None:
    """Rates that epsilon allows may still be more than the rho behind it does."""
    curve = Claim.of(Cost.zcdp(Fraction(1)), delta=1e-6)
    bare = Claim(epsilon=curve.epsilon, delta=1e-6)
    assert curve.epsilon > 7
    assert result(290, 10, curve).exceeds
    assert not result(290, 10, bare).exceeds
    assert not result(230, 70, curve).exceeds
    assert result(290, 10, Claim(epsilon=1.0, delta=1e-6)).exceeds
    assert not result(300, 300, curve).exceeds


def test_a_result_counts_in_both_directions() -> None:
    claim = Claim.of(Cost.zcdp(Fraction(1, 2)), delta=1e-6)
    assert result(300, 120, claim).exceeds == result(180, 0, claim).exceeds
    assert result(300, 120, claim).rho == pytest.approx(result(180, 0, claim).rho, rel=0.02)
