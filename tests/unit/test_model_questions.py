"""What a fitted model answers: marginals with honest bars, tails, rare cells, stress rows; and what constraints give it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from dpsynth.errors import UsageError
from dpsynth.mechanisms.base import Columns, Measurement
from dpsynth.models.graphical import GraphicalModel
from dpsynth.privacy import Cost
from dpsynth.schema import Column, Constraint, Schema

FALSE_ALARM = 1e-4  # of one statistical test here, on a fresh seed

SIZES = (8, 6, 4, 5, 3)
PAIRS: list[Columns] = [(0, 1), (1, 2), (0, 3), (3, 4)]
SCHEMA = Schema(
    table="t",
    columns=tuple(
        Column(name=f"c{i}", type="ordinal", values=tuple(f"v{j}" for j in range(size))) for i, size in enumerate(SIZES)
    ),
)


def truth(rows: int) -> npt.NDArray[np.int64]:
    """Rows of a made-up table in which the pairs that are measured depend on each other."""
    rng = np.random.default_rng(3)
    a = rng.choice(8, rows, p=np.array([5, 4, 3, 2, 1, 1, 1, 0.5]) / 17.5)
    b = (a + rng.choice(6, rows, p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.05])) % 6
    c = np.where(rng.random(rows) < 0.6, b % 4, rng.integers(0, 4, rows))
    d = np.where(rng.random(rows) < 0.3, a % 5, rng.choice(5, rows, p=[0.6, 0.2, 0.1, 0.05, 0.05]))
    e = np.where(rng.random(rows) < 0.5, d % 3, rng.integers(0, 3, rows))
    return np.stack([a, b, c, d, e], axis=1)


def counted(rows: npt.NDArray[np.int64], columns: Columns, sizes: tuple[int, ...] = SIZES) -> npt.NDArray[np.float64]:
    out = np.zeros([sizes[column] for column in columns])
    np.add.at(out, tuple(rows[:, column] for column in columns), 1)
    return out


def measured(
    rows: npt.NDArray[np.int64],
    sets: list[Columns],
    sigma: int,
    *,
    rng: np.random.Generator,
    sizes: tuple[int, ...] = SIZES,
) -> list[Measurement]:
    """Rounded normal noise, which differs from the exact one by nothing that matters here."""
    found = []
    for columns in sets:
        exact = counted(rows, columns, sizes)
        values = np.rint(exact + rng.normal(scale=sigma, size=exact.shape)).astype(np.int64)
        cost = Cost.zcdp(Fraction(1, 100))
        found.append(Measurement(columns=columns, values=values, sigma_squared=Fraction(sigma) ** 2, cost=cost))
    return found


ONES: list[Columns] = [(i,) for i in range(5)]


@pytest.fixture(scope="module")
def model() -> GraphicalModel:
    found = measured(truth(4000), ONES + PAIRS, 5, rng=np.random.default_rng(1))
    return GraphicalModel.fitted(SCHEMA, found, PAIRS)


# ---- marginals -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_bars_cover_the_truth_as_often_as_they_say() -> None:
    """One cell of each measured table, over ten fits: two bars hold it in 94 of 100 cases, or we would notice.

    (95 for a normal error, less one because a bar from 40 refits is itself off by a tenth.)
    """
    rows, rng, inside, within_one, cases = truth(6000), np.random.default_rng(5), 0, 0, 0
    for turn in range(10):
        fitted = GraphicalModel.fitted(SCHEMA, measured(rows, ONES + PAIRS, 8, rng=rng), PAIRS)
        for found in fitted.marginals([[f"c{i}" for i in columns] for columns in ONES + PAIRS]):
            exact = counted(rows, tuple(SCHEMA.index(name) for name in found.columns)).ravel()
            cell = (7 * turn) % exact.size
            z = abs(found.counts.ravel()[cell] - exact[cell]) / found.standard_deviation.ravel()[cell]
            assert found.measured
            inside, within_one, cases = inside + (z < 2), within_one + (z < 1), cases + 1
    assert stats.binom.cdf(inside, cases, 0.94) > FALSE_ALARM
    assert stats.binom.sf(within_one, cases, 0.68) > FALSE_ALARM  # nor are they too wide
    assert stats.binom.cdf(within_one, cases, 0.94) < FALSE_ALARM  # bars of half the width are noticed


def test_a_marginal_that_nobody_measured_says_so(model: GraphicalModel) -> None:
    apart = model.marginal(["c4", "c2"])
    assert not apart.measured
    assert apart.counts.shape == (3, 4)
    assert apart.counts.sum() == pytest.approx(model.total)
    turned = model.marginal(["c2", "c4"], refits=0)
    np.testing.assert_allclose(turned.counts, apart.counts.T)
    assert np.isnan(turned.standard_deviation).all()
    assert np.all(apart.standard_deviation > 0)


def test_bars_are_the_same_each_time(model: GraphicalModel) -> None:
    one, two = (model.marginal(["c0"], refits=3).standard_deviation for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("names", [["c9"], ["c0", "c0"]])
def test_a_wrong_name_is_refused(model: GraphicalModel, names: list[str]) -> None:
    with pytest.raises(UsageError):
        model.marginal(names)


def test_a_marginal_that_is_too_large_is_refused() -> None:
    columns = tuple(Column(name=f"c{i}", type="integer", minimum=0, maximum=63) for i in range(5))
    schema = Schema(table="t", columns=columns)
    pairs: list[Columns] = [(i, i + 1) for i in range(4)]
    rows = np.random.default_rng(1).integers(0, 64, size=(100, 5))
    wide = GraphicalModel.fitted(schema, measured(rows, pairs, 1, rng=np.random.default_rng(1), sizes=(64,) * 5), pairs)
    with pytest.raises(UsageError, match="too many"):
        wide.marginal([column.name for column in columns], refits=0)
    every_pair = " and ".join(f"(c{i} == 1 or c{j} == 1)" for i in range(5) for j in range(i))
    with pytest.raises(UsageError, match="ties too many columns"):
        wide.sample(1, rng=np.random.default_rng(1), where=every_pair)


def test_the_probability_of_a_condition(model: GraphicalModel) -> None:
    table = model.marginal(["c0", "c4"], refits=0).counts / model.total
    assert model.probability("c0 >= 'v6' and c4 == 'v0'") == pytest.approx(table[6:, 0].sum())
    assert model.probability("c0 >= 'v6' or c4 == 'v0'") == pytest.approx(table[6:].sum() + table[:6, 0].sum())
    assert model.probability("c0 == 'v1' and c0 == 'v2'") == 0


# ---- rare and extreme rows -----------------------------------------------------------------------------------------


def test_tails_hold_the_share_they_are_asked_for() -> None:
    columns = (
        Column(name="n", type="integer", minimum=0, maximum=999, bins=10),
        Column(name="x", type="number", minimum=-1, maximum=1, bins=7, missing=True),
        Column(name="o", type="ordinal", values=("a", "b", "c", "d")),
        Column(name="t", type="category", values=("a", "b")),
    )
    schema = Schema(table="t", columns=columns)
    sizes = schema.sizes
    rng = np.random.default_rng(2)
    rows = np.stack([rng.integers(0, size, 5000) for size in sizes], axis=1)
    ones: list[Columns] = [(i,) for i in range(4)]
    fitted = GraphicalModel.fitted(schema, measured(rows, ones, 3, rng=rng, sizes=sizes), [])
    low, high = fitted.tails("n", 0.02)
    assert low.startswith("n <= ")
    assert high.startswith("n >= ")
    assert fitted.probability(low) == pytest.approx(0.02, abs=1e-3)
    assert fitted.probability(high) == pytest.approx(0.02, abs=1e-3)
    there = 1 - fitted.probability("x is missing")
    assert [fitted.probability(tail) / there for tail in fitted.tails("x", 0.1)] == pytest.approx([0.1, 0.1])
    assert fitted.tails("o") == ["o <= 'a'", "o >= 'd'"]
    for name, share in (("t", 0.1), ("n", 0.5), ("n", 0.0)):
        with pytest.raises(UsageError):
            fitted.tails(name, share)


def test_rare_cells_are_described_by_their_conditions(model: GraphicalModel) -> None:
    found = model.rare(["c0", "c1"], at_most=0.01, limit=5)
    assert len(found) == 5
    assert [rare.probability for rare in found] == sorted((rare.probability for rare in found), reverse=True)
    for rare in found + model.rare(at_most=0.001):
        assert 0 < rare.probability <= 0.01
        assert model.probability(rare.where) == pytest.approx(rare.probability, rel=1e-6)


def test_stress_rows_are_rare_and_their_weights_make_up_for_it(model: GraphicalModel) -> None:
    rng = np.random.default_rng(4)
    events = ["c0 == 'v7'", "c4 == 'v2' and c3 >= 'v3'"]
    drawn = model.stress(40_000, events, share=0.5, rng=rng)
    columns = drawn.records.columns
    assert np.mean(columns["c0"] == 7) > 0.2 > 4 * model.probability(events[0])
    assert drawn.weights.max() <= 2
    for name, value in (("c0", 7), ("c1", 2), ("c4", 0)):
        hits = (columns[name] == value) * drawn.weights
        exact = model.probability(f"{name} == 'v{value}'")
        error = hits.std() / np.sqrt(len(hits))
        assert abs(hits.mean() - exact) < stats.norm.isf(FALSE_ALARM / 2) * error
    plain = np.mean(columns["c0"] == 7)
    assert abs(plain - model.probability("c0 == 'v7'")) > 50 * np.sqrt(plain / 40_000)  # without weights it is far off
    with pytest.raises(UsageError, match="no row"):
        model.stress(100, ["c0 == 'v1' and c0 == 'v2'"], rng=rng)


# ---- constraints ---------------------------------------------------------------------------------------------------


def dependent(rows: int) -> npt.NDArray[np.int64]:
    """Like `truth`, but c1 follows from c0, with a few dirty rows that break it."""
    out = truth(rows)
    out[:, 1] = out[:, 0] // 2
    out[:10, 1] = 5
    return out


RULES = tuple(Constraint(implies={"if": f"c0 == 'v{value}'", "then": f"c1 == 'v{value // 2}'"}) for value in range(8))


def test_a_dependency_that_is_declared_holds_in_every_row_and_improves_the_fit() -> None:
    rows, rng = dependent(2000), np.random.default_rng(6)
    ruled = replace(SCHEMA, constraints=RULES)
    errors = {True: 0.0, False: 0.0}
    for _ in range(3):
        found = measured(rows, ONES + PAIRS, 20, rng=rng)
        for schema in (SCHEMA, ruled):
            fitted = GraphicalModel.fitted(schema, found, PAIRS)
            table = fitted.marginal(["c0", "c1"], refits=0).counts
            errors[schema is ruled] += float(np.abs(table - counted(rows, (0, 1))).sum())
            codes = fitted.sample(5000, rng=rng).codes
            if schema is ruled:
                assert np.array_equal(codes[:, 1], codes[:, 0] // 2)
    assert errors[True] < 0.7 * errors[False]


def test_a_rule_over_columns_that_were_not_measured_together_holds_too() -> None:
    rows, rng = dependent(2000), np.random.default_rng(6)
    ruled = replace(SCHEMA, constraints=(*RULES, Constraint(rule="c2 != 'v0' or c4 == 'v0'")))
    fitted = GraphicalModel.fitted(ruled, measured(rows, ONES, 5, rng=rng), [])
    codes = fitted.sample(5000, rng=rng).codes
    assert np.array_equal(codes[:, 1], codes[:, 0] // 2)
    assert not np.any((codes[:, 2] == 0) & (codes[:, 4] != 0))
    assert fitted.probability("c0 == 'v0' and c1 == 'v3'") == 0


def test_data_that_the_rules_forbid_altogether_still_gives_a_model() -> None:
    rows = np.zeros((500, 5), dtype=np.int64)
    ruled = replace(SCHEMA, constraints=(Constraint(rule="c0 != 'v0' and c2 != 'v0' or c0 == 'v3'"),))
    fitted = GraphicalModel.fitted(ruled, measured(rows, ONES + PAIRS, 1, rng=np.random.default_rng(1)), PAIRS)
    codes = fitted.sample(1000, rng=np.random.default_rng(2))
    assert ruled.rules.holds(codes.decode(rng=np.random.default_rng(3)).columns).all()


def test_a_model_with_constraints_comes_back_from_disk(tmp_path) -> None:  # type: ignore[no-untyped-def]
    ruled = replace(SCHEMA, constraints=RULES)
    found = measured(dependent(500), ONES, 5, rng=np.random.default_rng(6))
    fitted = GraphicalModel.fitted(ruled, found, [])
    fitted.save(tmp_path / "model")
    again = GraphicalModel.load(tmp_path / "model", Schema.parse(ruled.to_toml()))
    drawn = [m.sample(200, rng=np.random.default_rng(1)).codes for m in (fitted, again)]
    assert np.array_equal(*drawn)
