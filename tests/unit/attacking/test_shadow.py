"""The parts of the shadow-model attack, each held to an obvious version, and the design of its runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import combinations
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from attacks import shadow, shadow_attackers
from attacks.audit import Plan, _judged_records
from attacks.canary import Claim
from attacks.distances import Metric, nearest
from attacks.fits import fits_of_perfect
from attacks.people import Group, Rows
from attacks.shadow import audit_records
from attacks.shadow_attackers import Agreement, Nearest, Sight, WhiteBox, superset_sums
from attacks.shadow_game import Coins, Game, most_exposed, persons_of
from dpsynth import Cost, Measurement, PersonRecords, Records, Schema, Trial, UsageError

MakeSchema = Callable[..., Schema]
CLAIM = Claim(epsilon=1.0, delta=1e-6)
SIZES = (3, 4, 2, 5)


@dataclass
class Toy:
    """A generator of rows made of category columns, and a diary of the tables that it was given."""

    schema: Schema
    make: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    seed: int = 0
    given: list[pd.DataFrame] = field(default_factory=list)
    name: str = "toy"
    epsilon: float = 1.0
    delta: float = 1e-6
    cost: Cost | None = None

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def run(self, frame: pd.DataFrame) -> Trial:
        self.given.append(frame)
        codes = np.stack([frame[name].to_numpy(dtype=object).astype(np.int32) for name in self.schema.names], axis=1)
        made = np.asarray(self.make(codes, self.rng), dtype=np.int32)
        columns = {name: np.ascontiguousarray(made[:, i]) for i, name in enumerate(self.schema.names)}
        return Trial(rows=Records(self.schema.released(), columns))


def codes_of(n: int, seed: int, sizes: tuple[int, ...] = SIZES) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([np.minimum(rng.geometric(0.5, n) - 1, size - 1) for size in sizes], axis=1)


@pytest.fixture
def town(tables: ModuleType) -> Any:
    return tables.population(60, np.random.default_rng(3)).records


@pytest.fixture
def crowd(tables: ModuleType) -> Any:
    return tables.population(60, np.random.default_rng(4), rows=3)


def frame_of(sample: Any) -> pd.DataFrame:
    frame: pd.DataFrame = sample.records.to_frame()
    frame["who"] = pd.array([f"u{person}" for person in sample.person], dtype="string")
    return frame


# ---- counts of agreement -------------------------------------------------------------------------------------------


def test_superset_sums_are_those_of_a_double_loop() -> None:
    exact = np.random.default_rng(0).integers(0, 9, size=(32, 3)).astype(np.float32)
    slow = np.array([exact[[m for m in range(32) if m & mask == mask]].sum(axis=0) for mask in range(32)])
    superset_sums(exact)
    assert np.array_equal(exact, slow)


def test_counts_of_agreement_are_those_of_a_loop_over_sets(town: Records) -> None:
    """Nine columns, four of them numbers: too many bits for one table, so choices of columns are counted."""
    rows = Rows.of(town)
    metric = Metric(rows)
    whole = Sight.of(rows, metric)
    for who in (0, 17):
        counted = Agreement(whole.take(who), rng=np.random.default_rng(1))
        counted.observe(whole)
        counted.observe(Sight.of(rows.take(np.arange(0)), metric))
        counts = counted.counts(range(2))
        assert not counts[:, 1].any()
        for start, chosen in zip(counted._ends, counted._choices, strict=False):
            bits = []
            for place in chosen:
                value, there = rows.values[who, place], rows.values[:, place]
                if not rows.columns[place].is_numeric:
                    bits.append(there == value)
                elif np.isinf(value):
                    bits += [np.isinf(there), np.isinf(there)]
                else:
                    bits += [there <= value, (there >= value) & ~np.isinf(there)]
            width = len(bits)
            for subset in [(), (0,), (width - 1,), *combinations(range(0, width, 2), 3), tuple(range(width))]:
                mask = sum(1 << bit for bit in subset)
                agree = np.all([bits[bit] for bit in subset], axis=0) if subset else np.ones(len(rows), dtype=bool)
                assert counts[start + mask, 0] == agree.sum()


def test_all_columns_are_counted_together_where_they_fit(make_schema: MakeSchema) -> None:
    schema = make_schema((2,) * 18)
    rows = Rows.of(Records(schema, {name: np.arange(4, dtype=np.int32) % 2 for name in schema.names}))
    sight = Sight.of(rows, Metric(rows))
    counted = Agreement(sight.take(0), rng=np.random.default_rng(0))
    assert counted.size == 2**18
    counted.observe(sight)
    assert counted.counts(range(1))[-1, 0] == 2


def test_wide_tables_are_covered_by_several_choices(make_schema: MakeSchema) -> None:
    columns = make_schema((2,) * 40).modelled
    choices = shadow_attackers._choices(columns, np.random.default_rng(0))
    assert set(np.concatenate(choices)) == set(range(40))
    assert all(len(chosen) <= 14 for chosen in choices)
    assert 4 <= len(choices) <= 8


def test_many_features_are_thinned_to_those_that_tell_most(make_schema: MakeSchema) -> None:
    """The one column that follows the target's coin is among those kept, though other coins move more."""
    schema = make_schema((2,) * 13)
    rng = np.random.default_rng(5)
    metric_rows = Rows.of(Records(schema, {name: np.zeros(1, dtype=np.int32) for name in schema.names}))
    metric = Metric(metric_rows)
    counted = Agreement(Sight.of(metric_rows, metric), rng=rng)
    coins = Coins.tossed(120, 2, rng=rng)
    for mine, other in coins.inside:
        codes = rng.integers(0, 2, size=(50 + 40 * other, 13)).astype(np.int32)
        codes[:, 0] = 1
        if mine:
            codes[:2, 0] = 0
        records = Records(schema, {name: np.ascontiguousarray(codes[:, i]) for i, name in enumerate(schema.names)})
        counted.observe(Sight.of(Rows.of(records), metric))
    features = counted.features(coins, 0)
    assert features.shape == (120, shadow_attackers.MOST_FEATURES)
    mine = coins.inside[:, 0]
    assert np.any((features[mine].min(axis=0) > 0) & (features[~mine].max(axis=0) == 0))


# ---- nearest rows --------------------------------------------------------------------------------------------------


def test_distances_are_those_of_the_suite(town: Records) -> None:
    rows = Rows.of(town)
    metric = Metric(rows)
    synthetic = rows.take(np.arange(20, 60))
    targets = [Sight.of(rows.take(np.array([who])), metric) for who in (0, 1, 25)]
    seen = Nearest(targets, rows.places("sensitive"))
    seen.observe(Sight.of(synthetic, metric))
    expected = nearest(metric.points(rows.take(np.array([0, 1, 25]))), metric.points(synthetic), k=20)
    for target in range(3):
        found = seen.distances[target][0]
        assert np.allclose(found[:4], expected[target, [0, 1, 4, 19]], atol=1e-6)
        assert found[4] == (target == 2)


def test_guesses_are_the_obvious_ones(make_schema: MakeSchema) -> None:
    """Two secrets follow the only known column; the third nearest row disagrees with what is frequent."""
    known, secret = np.array([0, 0, 0, 1, 1]), np.array([2, 2, 1, 0, 0])
    schema = make_schema((2, 3))
    synthetic = Rows.of(Records(schema, {"c0": known.astype(np.int32), "c1": secret.astype(np.int32)}))
    metric = Metric(synthetic)
    sight = Sight.of(synthetic, metric)
    targets = [sight.take(row) for row in range(5)]
    seen = Nearest(targets, [1])
    seen.observe(sight)
    assert [list(guess[0]) for guess in seen.guesses] == [[True] * 2, [True] * 2, [False] * 2, [True] * 2, [True] * 2]
    assert seen.rules(0) == ["c1, nearest rows", "c1, frequencies"]
    nothing = Nearest(targets, [0, 1])  # nothing is known to guess from
    assert nothing.rules(0) == []


def test_an_empty_synthetic_table_is_no_guess_and_far_away(make_schema: MakeSchema) -> None:
    schema = make_schema((2, 3))
    rows = Rows.of(Records(schema, {"c0": np.zeros(1, dtype=np.int32), "c1": np.zeros(1, dtype=np.int32)}))
    metric = Metric(rows)
    seen = Nearest([Sight.of(rows, metric)], [1])
    seen.observe(Sight.of(rows.take(np.arange(0)), metric))
    assert not seen.guesses[0][0].any()
    assert np.all(seen.distances[0][0][:-1] > np.sqrt(2))


# ---- noisy counts --------------------------------------------------------------------------------------------------


def slow_score(measurement: Measurement, rest: np.ndarray, mine: np.ndarray, other: np.ndarray, weight: float) -> float:
    """Sum of (noisy - mean of both tables) d / sigma^2."""
    shape = measurement.values.shape

    def count(codes: np.ndarray) -> np.ndarray:
        out = np.zeros(shape)
        for row in codes:
            out[tuple(row[list(measurement.columns)])] += 1
        return out

    moves = (count(mine) - count(other)) * weight
    mean = count(rest) + count(other) * weight + moves / 2
    return float(((measurement.values - mean) * moves).sum() / float(measurement.sigma_squared))


@pytest.mark.parametrize("replaced", [False, True])
def test_white_box_score_is_the_likelihood_ratio_given_everybody_else(replaced: bool) -> None:
    rng = np.random.default_rng(2)
    codes = np.concatenate([codes_of(30, 0), codes_of(4, 1), codes_of(2, 9)])  # 30 persons, two with two rows each, one
    person = np.repeat(np.arange(33), [1] * 30 + [2, 2, 2])
    targets = np.array([5, 30, 31])
    standing_in = [codes_of(1, 7), codes_of(2, 8), codes_of(2, 6)] if replaced else []
    box = WhiteBox(codes, person, targets, standing_in, max_rows=1)
    measurements = [
        Measurement(
            columns=columns,
            values=rng.integers(0, 20, size=tuple(SIZES[c] for c in columns)),
            sigma_squared=Fraction(9, 2),
            cost=Cost.zero(),
        )
        for columns in ((0,), (1, 3), (0, 1, 2))
    ]
    trial = SimpleNamespace(measurements=measurements, coarse=())
    inside = np.array([True, False, True])
    box.observe(trial, inside)
    weight = {0: 1.0, 1: 0.5, 2: 0.5}  # of two rows one counts, each with chance a half
    nobody = np.zeros((0, 4), dtype=np.int64)
    for target in range(3):
        mine = codes[person == targets[target]]
        other = standing_in[target] if replaced else nobody
        rest = [codes[~np.isin(person, [*targets, 32])]] * 2 + [codes[person == 32]]  # in halves
        for n in range(3):
            if n != target:
                there = codes[person == targets[n]] if inside[n] else standing_in[n] if replaced else nobody
                rest += [there] * round(2 * weight[n])
        both = np.concatenate(rest)
        expected = 0.0
        for m in measurements:
            # everything twice, so that halves are whole: the mean is then half of the count
            doubled = slow_score(
                Measurement(columns=m.columns, values=2 * m.values, sigma_squared=m.sigma_squared, cost=m.cost),
                both,
                mine,
                other,
                2 * weight[target],
            )
            expected += doubled / 4
        assert box.scores[0][target] == pytest.approx(expected)


def test_white_box_score_does_not_use_the_targets_own_coin() -> None:
    codes, person = codes_of(20, 0), np.arange(20)
    boxes = [WhiteBox(codes, person, np.array([3, 8]), [], max_rows=1) for _ in range(2)]
    m = Measurement(columns=(0, 1), values=np.full((3, 4), 5), sigma_squared=Fraction(2), cost=Cost.zero())
    for box, mine in zip(boxes, (True, False), strict=True):
        box.observe(SimpleNamespace(measurements=[m], coarse=()), np.array([mine, True]))
    assert boxes[0].scores[0][0] == pytest.approx(boxes[1].scores[0][0])
    assert boxes[0].chosen == [frozenset({(0, 1)})]


@pytest.mark.parametrize("column", [3, 1])
def test_white_box_follows_merged_cells(column: int) -> None:
    """Also where another column was merged in the same way in the run before."""
    codes, person = codes_of(20, 0, (3, 5, 2, 5)), np.arange(20)
    box = WhiteBox(codes, person, np.array([3, 8]), [], max_rows=1)
    m = Measurement(columns=(0, 4), values=np.arange(6).reshape(3, 2), sigma_squared=Fraction(2), cost=Cost.zero())
    for of in (4 - column, column):
        merged = SimpleNamespace(column=of, groups=np.array([0, 0, 1, 1, 1]))
        box.observe(SimpleNamespace(measurements=[m], coarse=(merged,)), np.array([True, True]))
    wide = np.column_stack([codes, merged.groups[codes[:, column]]])
    rest = np.delete(wide, 3, axis=0)
    nobody = np.zeros((0, 5), dtype=np.int64)
    assert box.scores[1][0] == pytest.approx(slow_score(m, rest, wide[[3]], nobody, 1.0))


# ---- who is attacked -----------------------------------------------------------------------------------------------


def test_the_planted_outlier_extreme_and_rarity_are_chosen(tables: ModuleType) -> None:
    records = tables.population(300, np.random.default_rng(0)).records
    values = {name: np.array(column) for name, column in records.columns.items()}
    values["income"][7] = 100_000.0  # the widest gap
    values["country"][11] = 1  # the only one
    far = {"age": 90, "region": 7, "school": 0, "balance": 1000.0, "cost": 5000.0, "income": 0.0}
    for name, value in far.items():
        values[name][23] = value
    people = Group.of(PersonRecords(records=Records(records.schema, values), person=np.arange(300), persons=300))
    chosen = {int(people.origin[person]): why for person, why in most_exposed(people, 6, rng=np.random.default_rng(0))}
    assert set(chosen) >= {7, 11, 23}
    assert len(chosen) == 6
    assert set(chosen.values()) == {"isolated", "extreme", "rare"}
    assert len(most_exposed(people, 1000, rng=np.random.default_rng(0))) == 300


def test_copies_of_the_table_have_the_same_targets(tables: ModuleType) -> None:
    """Row order, column order, index labels and storage types decide nothing."""
    sample = tables.population(80, np.random.default_rng(3), rows=3)
    schema, frame = sample.records.schema, frame_of(sample)
    order = np.random.default_rng(1).permutation(len(frame))
    copies = {
        "shuffled": (frame.iloc[order], order),
        "columns": (frame[sorted(frame.columns, reverse=True)], np.arange(len(frame))),
        "index": (frame.set_axis([0] * len(frame)), np.arange(len(frame))),
        "objects": (frame.astype(object), np.arange(len(frame))),
        "categories": (frame.astype({"region": "category", "who": "category"}), np.arange(len(frame))),
    }
    first, where = persons_of(frame, schema)
    chosen = most_exposed(first, 8, rng=np.random.default_rng(2))
    for name, (copy, old) in copies.items():
        people, places = persons_of(copy, schema)
        assert np.array_equal(people.rows.values, first.rows.values), name
        assert most_exposed(people, 8, rng=np.random.default_rng(2)) == chosen, name
        assert [sorted(old[rows].tolist()) for rows in places] == [rows.tolist() for rows in where], name


def test_rows_that_cannot_be_read_go_in_and_out_with_their_person(crowd: Any) -> None:
    schema, frame = crowd.records.schema, frame_of(crowd).astype(object)
    frame.loc[0, "region"] = "nowhere"  # the row is dropped by the reader
    mine = np.flatnonzero(frame["who"] == frame["who"][0])
    people, places = persons_of(frame, schema)
    assert len(people.rows) == len(frame) - 1
    if len(mine) > 1:
        assert any(np.array_equal(rows, mine) for rows in places)
    assert sum(map(len, places)) == len(frame) - (len(mine) == 1)


# ---- the runs ------------------------------------------------------------------------------------------------------


def test_every_target_is_in_by_a_fair_coin_of_its_own() -> None:
    """Chance of a false alarm: 1e-6 for the shares and 1e-6 for the correlations, of 10 targets."""
    coins = Coins.tossed(4000, 10, rng=np.random.default_rng(0))
    assert np.all(np.abs(coins.inside.mean(axis=0) - 0.5) < 5.5 * 0.5 / np.sqrt(4000))
    correlation = np.corrcoef(coins.inside.T) - np.eye(10)
    assert np.abs(correlation).max() < 5.5 / np.sqrt(4000)


def test_the_parts_of_the_runs_are_apart_and_cover_all() -> None:
    coins = Coins.tossed(101, 3, rng=np.random.default_rng(0))
    parts = [np.arange(101)[part] for part in (coins.learning, coins.choosing, coins.counting)]
    assert np.array_equal(np.concatenate(parts), np.arange(101))
    assert [len(part) for part in parts] == [33, 17, 51]
    present, absent = shadow._counted(coins, 1)
    assert len(present) == len(absent)
    assert set(present) | set(absent) <= set(parts[2])
    assert coins.inside[present, 1].all()
    assert not coins.inside[absent, 1].any()


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows in the order of their values: games deal them in any."""
    return frame.sort_values(list(frame.columns), ignore_index=True)


@pytest.mark.slow
@pytest.mark.parametrize("neighbours", ["add_remove", "replace"])
def test_targets_are_in_or_out_and_everybody_else_is_in(
    neighbours: str, make_schema: MakeSchema, make_frame: Any
) -> None:
    schema = make_schema(SIZES, neighbours=neighbours, max_rows=2)
    codes = codes_of(40, 0)
    who = np.arange(40) // 2
    toy = Toy(schema, lambda rows, rng: rows)
    frame = make_frame(codes, columns=4, who=[f"p{n}" for n in who])
    nothing = shadow._Score("nothing learned", np.zeros(48), True)
    with mock.patch.object(shadow, "_taught", return_value=[nothing]):
        result = audit_records(frame, toy, claim=CLAIM, fits=48, targets=3)
    rows = [set(target.rows) for target in result.targets]
    assert all(len(mine) == 2 for mine in rows)
    others = in_order(frame.drop(index=[row for mine in rows for row in mine]))
    names = [frame["who"][target.rows[0]] for target in result.targets]
    present = []
    for given in toy.given:
        assert list(given.index) == list(range(len(given)))
        rest = in_order(given[~given["who"].isin(names)])
        pd.testing.assert_frame_equal(rest, others, check_dtype=False)
        there = []
        for name, target in zip(names, result.targets, strict=True):
            mine = in_order(given[given["who"] == name].drop(columns="who").astype(str))
            real = in_order(frame.iloc[list(target.rows)].drop(columns="who").astype(str))
            there.append(mine.equals(real))
            assert there[-1] or len(mine) == (2 if neighbours == "replace" else 0)
        present.append(there)
        assert neighbours != "replace" or len(given) == 40
    coins = Coins.tossed(48, 3, rng=shadow.stream(0, "shadow", "coins"))
    assert np.array_equal(present, coins.inside)


def test_stand_ins_follow_the_schema_and_not_the_rows(tables: ModuleType) -> None:
    """Two tables of the same shape have the same stand-ins: they are made from schema and seed alone."""
    from dataclasses import replace

    made = []
    for seed in (0, 1):
        records = tables.population(50, np.random.default_rng(seed)).records
        schema = replace(records.schema, neighbours="replace")
        game = Game.of(records.to_frame().astype({"age": "float64", "region": "category"}), schema, targets=4, seed=5)
        assert len(game.everything) == 54
        made.append(game.everything.iloc[50:].astype(str).reset_index(drop=True))
        people, _ = persons_of(game.table(np.zeros(4, dtype=bool)), schema)
        assert people.persons == 50
    pd.testing.assert_frame_equal(*made)


def test_the_same_seed_gives_the_same_result_and_rows_may_be_shuffled(make_schema: MakeSchema, make_frame: Any) -> None:
    schema = make_schema(SIZES)
    codes = codes_of(60, 0)

    def noise(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Follows from the run alone, and a little from the table."""
        return np.concatenate([codes_of(30, int(rng.integers(1000))), rows[np.lexsort(rows.T)][:3]])

    order = np.random.default_rng(0).permutation(60)
    results = [
        audit_records(make_frame(table, columns=4), Toy(schema, noise), claim=CLAIM, fits=48, targets=1, seed=3)
        for table in (codes, codes[order])
    ]
    assert results[0].items == results[1].items


# ---- results -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copied(make_schema: MakeSchema, make_frame: Any) -> shadow.ShadowResult:
    done: list[int] = []
    toy = Toy(make_schema(SIZES), lambda rows, rng: rows)
    result = audit_records(
        make_frame(codes_of(40, 0), columns=4), toy, claim=CLAIM, fits=120, targets=2, progress=done.append
    )
    assert done == list(range(1, 121))
    return result


def test_a_result_says_what_was_tried_and_what_it_could_show(copied: shadow.ShadowResult) -> None:
    assert copied.privacy_class == "P3"
    assert copied.methods == ("conjunctions", "nearest", "attribute")
    assert [(item.target, item.method) for item in copied.items] == [
        (target, method) for target in range(2) for method in copied.methods
    ]
    assert all(item.confidence == pytest.approx(1 - 0.001 / 6) for item in copied.items)
    worst = copied.worst("conjunctions")
    assert worst.hits == worst.trials
    assert worst.false_alarms == 0
    assert worst.advantage == 1
    assert worst.area.value == 1
    assert worst.epsilon == worst.ceiling > CLAIM.epsilon
    assert worst.estimate > worst.epsilon
    assert worst.interval.low < 1 == worst.interval.high
    assert worst.interval.confidence == worst.area_interval.confidence == 0.95
    assert worst.exceeds
    assert copied.exceeds
    assert copied.conclusive
    assert copied.epsilon == worst.epsilon
    needed = fits_of_perfect(CLAIM, more_than=48, confidence=worst.confidence, counted=shadow.runs_counted)
    assert needed is not None
    assert needed <= 132


def test_a_way_that_misses_the_leaky_generator_says_how_many_fits_it_needs(copied: shadow.ShadowResult) -> None:
    def guessed(hit: float, alarm: float) -> shadow.ShadowResult:
        items = (
            replace(item, hits=round(hit * item.trials), false_alarms=round(alarm * item.trials))
            for item in copied.items
        )
        return replace(copied, items=tuple(items))

    plan = Plan(
        fits={"alone": copied.fits, "records": copied.fits}, left_out=(), errors={"records": 0.001}, attackers=1
    )
    judged = _judged_records(guessed(0.5, 0.5), guessed(0.8, 0.2), None, "conjunctions", plan)
    assert judged.status == "incomplete"
    assert judged.needs is not None
    assert f"it needs about {judged.needs:,} fits in all" in judged.sentence
    times = judged.needs / plan.total
    bigger = guessed(0.8, 0.2).worst("conjunctions")
    grown = {
        name: round(times * count) for name, count in (("hits", bigger.hits), ("false_alarms", bigger.false_alarms))
    }
    assert replace(bigger, trials=round(times * bigger.trials), **grown).exceeds
    hopeless = _judged_records(guessed(0.5, 0.5), guessed(0.5, 0.5), None, "conjunctions", plan)
    assert hopeless.needs is None
    assert "not even a million fits" in hopeless.sentence


def test_groups_are_counts_and_nothing_shown_names_a_person(copied: shadow.ShadowResult) -> None:
    counts = copied.counts()
    assert sum(group["targets"] for group in counts.values()) == 2
    assert all(group["beyond the claim"] == group["leak shown"] == group["targets"] for group in counts.values())
    assert "Target" not in repr(copied)
    assert "rows" not in repr(copied.targets[0])


def test_what_a_claim_allows() -> None:
    assert shadow.advantage_allowed(Claim(epsilon=0.0, delta=0.0)) == 0
    assert shadow.advantage_allowed(Claim(epsilon=1.0, delta=0.0)) == pytest.approx((np.e - 1) / (np.e + 1))
    assert shadow.advantage_allowed(Claim(epsilon=float("inf"), delta=0.0)) == 1
    curve = Claim.of(Cost.zcdp(Fraction(1, 50)), delta=1e-6)
    assert shadow.advantage_allowed(curve) < shadow.advantage_allowed(Claim(epsilon=curve.epsilon, delta=1e-6)) / 3
    for delta in (0.0, 0.1):
        claim = Claim(epsilon=0.7, delta=delta)
        fpr = np.linspace(0, 1, 2001)
        assert shadow.advantage_allowed(claim) == pytest.approx((claim.highest(fpr) - fpr).max(), abs=1e-3)


def test_too_few_runs_are_not_conclusive(make_schema: MakeSchema, make_frame: Any) -> None:
    toy = Toy(make_schema(SIZES), lambda rows, rng: rows)
    claim = Claim(epsilon=4.0, delta=1e-6)
    result = audit_records(make_frame(codes_of(40, 0), columns=4), toy, claim=claim, fits=60, targets=2)
    assert not result.conclusive
    assert not result.exceeds
    needed = fits_of_perfect(claim, more_than=60, confidence=result.items[0].confidence, counted=shadow.runs_counted)
    assert needed is not None
    assert needed > 300


def test_what_cannot_be_attacked_is_refused(make_schema: MakeSchema, make_frame: Any) -> None:
    toy = Toy(make_schema(SIZES), lambda rows, rng: rows)
    frame = make_frame(codes_of(40, 0), columns=4)
    with pytest.raises(UsageError, match="fits"):
        audit_records(frame, toy, claim=CLAIM, fits=47)
    with pytest.raises(UsageError, match="targets"):
        audit_records(frame, toy, claim=CLAIM, fits=48, targets=0)
    with pytest.raises(UsageError, match="confidence"):
        audit_records(frame, toy, claim=CLAIM, fits=48, confidence=1.0)
    with pytest.raises(UsageError, match="two persons"):
        audit_records(frame.iloc[:1], toy, claim=CLAIM, fits=48)
    assert not toy.given
