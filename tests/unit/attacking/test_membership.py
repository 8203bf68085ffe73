"""Each score of the membership attack sees the leak it was made for; the hole is seen too."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest

from attacks.base import Measure
from attacks.distances import Metric
from attacks.membership import (
    HOLE,
    Combiner,
    Counter,
    Membership,
    _halves,
    _predicted,
    _ranked,
    _share,
    _told_apart,
)
from attacks.nearness import nearness
from attacks.people import People, Rows
from attacks.suite import stream
from dpsynth import Records


def found(sample, synthetic: Records, attack: Membership | None = None, *, seed: int = 0):
    people, table = People.of(sample, rng=stream(seed, "people")), Rows.of(synthetic).sorted()
    return (attack or Membership()).run(people, table, rng=stream(seed, "membership"))


def auc(finding, name: str) -> Measure:
    return next(measure for key, measure in finding.figures.items() if key.startswith(f"AUC, {name}"))


SCORES = (
    "closeness",
    "density",
    "share among neighbours",
    "pairs of columns",
    "triples of columns",
    "told from the reference",
    "predicted from other columns",
)


def test_every_score_sees_a_noisy_copy_and_none_a_fresh_table(tables: ModuleType) -> None:
    """Intervals at 95 in 100: a correct suite may miss one half with one score in twenty."""
    rng = np.random.default_rng(0)
    sample, fresh = tables.split(tables.population(1200, rng), rng), tables.population(600, rng).records
    copies = [tables.resampled(sample.fit.records, 0.05, rng) for _ in range(3)]
    leaky, honest = found(sample, tables.joined(*copies)), found(sample, fresh)
    for name in SCORES:
        assert auc(leaky, name).interval.low > (0.48 if name == "share among neighbours" else 0.5), name  # 3 of 20
    outside = [name for name in SCORES if 0.5 not in auc(honest, name).interval]
    assert len(outside) <= 1


def test_neighbours_are_shared_out_by_hand() -> None:
    near = np.array([[0.0] * 5 + [2.0] * 15, [1.0] * 20, [3.0] * 20])
    alone = np.array([[1.0] * 20, [1.0] * 20, [1.0] * 20])
    assert _share(near, alone) == pytest.approx([5 / 20, 0.5, 0.0])


def test_marginal_ratios_by_hand() -> None:
    rows = np.array([[0, 0, 1], [1, 1, 0]])
    reference = np.array([[0, 0, 0], [0, 1, 0], [1, 1, 1]])
    synthetic = np.array([[0, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 1]])
    expected = [
        np.mean([np.log(((synthetic[:, s] == row[list(s)]).all(axis=1).sum() + 1) / 5)
                 - np.log(((reference[:, s] == row[list(s)]).all(axis=1).sum() + 1) / 4) for s in ((0, 1), (2,))])
        for row in rows
    ]  # fmt: skip
    assert Counter(rows, reference, synthetic).ratios([(0, 1), (2,)]) == pytest.approx(expected)


def test_predictions_by_regression(tables: ModuleType) -> None:
    """Errors of one column at a time, against ridge regressions fitted one by one."""
    rng = np.random.default_rng(1)
    asked, synthetic, reference = (Rows.of(tables.population(n, rng).records) for n in (20, 200, 150))
    metric = Metric(synthetic)
    x, *taught = (metric.points(table).near / metric.points(table).unit for table in (asked, synthetic, reference))
    ends = np.cumsum([0, *metric.widths()])
    errors = []
    for table in taught:
        mean, total = table.mean(axis=0), np.zeros(len(x))
        cov = (table - mean).T @ (table - mean) / len(table) + 0.02 * np.eye(table.shape[1])
        for start, end in pairwise(ends.tolist()):
            mine = np.arange(start, end)
            rest = np.setdiff1d(np.arange(x.shape[1]), mine)
            slope = np.linalg.solve(cov[np.ix_(rest, rest)], cov[np.ix_(rest, mine)])
            total += (((x - mean)[:, mine] - (x - mean)[:, rest] @ slope) ** 2).sum(axis=1)
        errors.append(total)
    assert _predicted(asked, reference, synthetic) == pytest.approx(errors[1] - errors[0], abs=1e-8)


def test_trees_tell_a_copy_from_the_reference(tables: ModuleType) -> None:
    rng = np.random.default_rng(2)
    member, other, reference = (Rows.of(tables.population(400, rng).records) for _ in range(3))
    scores = [_told_apart(rows, reference, member, stream(0, "trees")) for rows in (member, other)]
    assert scores[0].mean() > scores[1].mean() + 0.5


def test_trees_read_numbers_of_any_size(tables: ModuleType) -> None:
    """A power of two changes no digit, so the trees are the same."""
    rng = np.random.default_rng(2)
    rows, reference, synthetic = (Rows.of(tables.population(100, rng).records) for _ in range(3))
    plain = _told_apart(rows, reference, synthetic, stream(0, "trees"))
    for power in (-900, 900):
        scaled = [replace(table, values=np.ldexp(table.values, power)) for table in (rows, reference, synthetic)]
        assert np.array_equal(_told_apart(*scaled, stream(0, "trees")), plain)


def test_focal_columns_are_counted(tables: ModuleType) -> None:
    """A generator that keeps one three-column marginal of the fit side and nothing else is seen through these columns."""
    rng = np.random.default_rng(3)
    sample, fresh = tables.split(tables.population(800, rng), rng), tables.population(6000, rng).records
    focal = ("age", "income", "cost")
    rows = rng.integers(len(sample.fit.records), size=4000)
    kept = {name: sample.fit.records.columns[name][rows] for name in focal}
    others = {n: rng.permutation(v[:4000]) for n, v in fresh.columns.items() if n not in focal}
    table = Records(fresh.schema, {name: {**others, **kept}[name] for name in fresh.schema.names})
    blind, seeing = found(sample, table), found(sample, table, Membership(focal=(focal, ("no such column",))))
    assert not any(name.startswith("AUC, measured columns") for name in blind.figures)
    measured = auc(seeing, "measured columns")
    assert measured.interval.low > 0.55
    assert measured.estimate > max(auc(blind, name).estimate for name in ("pairs of columns", "density"))


def test_a_hole_is_seen_and_a_copied_control_is_not_one(tables: ModuleType) -> None:
    """B15 and B18: a filter against rows too close to fitted persons; a copy of the persons held back."""
    rng = np.random.default_rng(4)
    sample, fresh = tables.split(tables.population(1600, rng), rng), tables.population(1600, rng).records
    hole = found(sample, tables.LEAKS["B15"](sample, fresh, rng))
    assert hole.variants[HOLE].interval.low > 0
    assert hole.p_value < 0.01
    assert all(measure.interval.low < 0 for name, measure in hole.variants.items() if name != HOLE)
    contaminated = found(sample, sample.control.records)
    assert contaminated.p_value > 0.05
    assert HOLE not in contaminated.variants or contaminated.variants[HOLE].interval.low <= 0


def test_closest_distances_are_those_of_a_slow_search(tables: ModuleType) -> None:
    rng = np.random.default_rng(5)
    sample, synthetic = tables.split(tables.population(120, rng), rng), tables.population(90, rng).records
    doubled = tables.joined(synthetic, synthetic.take(np.arange(40)))
    people, table = People.of(sample, rng=stream(0, "people")), Rows.of(doubled).sorted()
    near = nearness(people, table)
    metric, columns = Metric(table), len(table.columns)
    points = metric.points(people.fit.rows).light(columns), metric.points(table).light(columns)
    squared = ((points[0].near[:, None, :].astype(float) - points[1].near[None, :, :]) ** 2).sum(axis=2)
    expected = np.sqrt(np.sort(squared, axis=1)[:, :20]) / points[0].unit
    assert near.closest[: len(people.fit.rows)] == pytest.approx(expected, abs=1e-12)
    assert nearness(people, table) is near  # computed once
    fine = metric.points(people.fit.rows), metric.points(table)
    exact = ((fine[0].near[:, None, :] - fine[1].near[None, :, :]) ** 2).sum(axis=2)
    assert np.sqrt(squared) / points[0].unit == pytest.approx(np.sqrt(exact) / fine[0].unit, abs=0.01)


def test_separation_is_what_it_says(tables: ModuleType) -> None:
    """The quick statistic against scoring every shuffle by itself."""
    rng = np.random.default_rng(6)
    ranks, member = _ranked(rng.random((200, 4))), np.arange(200) < 90
    half = _halves(member, rng)
    combiner = Combiner(ranks, half, np.arange(200))
    labels = np.stack([member, rng.permutation(member)], axis=1).astype(np.float64)
    quick = combiner.separation(combiner.weights() @ labels)[0]
    for number in range(2):
        slow = 0.0
        for part in combiner._parts:
            score = part.applied_to @ part.rule(labels[:, [number]])[:, 0]
            slow += ((score - score.mean()) @ labels[part.apply, number]) / score.std()
        assert quick[number] == pytest.approx(slow, abs=1e-6)
