"""A small population to draw samples from, and generators that leak in known ways or not at all.

The planted generators carry the names of attacks.md 4.1: B for bad ones that an attack must catch, G for good ones that
none may accuse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from attacks.base import holm
from attacks.people import People, Rows
from attacks.suite import ATTACKS, stream
from dpsynth import Column, PersonRecords, Records, ReviewSample, Schema, Table

Rng = np.random.Generator


def schema(*, max_rows: int | None = None) -> Schema:
    """Nine columns with roles, a negative and a skewed number, missing values, and a constant."""
    quasi, secret = "quasi_identifier", "sensitive"
    columns = (
        Column(name="age", type="integer", minimum=0, maximum=90, bins=18, role=quasi),
        Column(name="region", type="category", values=tuple("abcdefgh"), role=quasi),
        Column(name="sex", type="boolean", role=quasi),
        Column(name="school", type="ordinal", values=tuple("01234"), missing=True, role=quasi),
        Column(name="income", type="number", minimum=0, maximum=100_000, bins=20),
        Column(name="balance", type="number", minimum=-1000, maximum=1000, bins=16, missing=True, role=secret),
        Column(name="cost", type="number", decimals=2, edges=(0, 0.01, 20, 60, 200, 600, 5000), role=secret),
        Column(name="ill", type="boolean", role=secret),
        Column(name="country", type="category", values=("here", "there")),
    )
    if max_rows is None:
        return Schema(table="town", columns=columns)
    return Schema(table="town", columns=columns, entity="person", unit_column="who", max_rows=max_rows)


@dataclass(frozen=True)
class Sample:
    """Rows and whose they are."""

    records: Records
    person: np.ndarray[Any, np.dtype[np.int64]]


def population(persons: int, rng: Rng, *, rows: int = 1) -> Sample:
    """Persons with 1 .. `rows` rows each, drawn independently. What a person is stays, what happens to it varies."""
    counts = rng.integers(1, rows + 1, size=persons) if rows > 1 else np.ones(persons, dtype=np.int64)
    person = np.repeat(np.arange(persons), counts)
    kind = rng.integers(3, size=persons)
    age = np.clip(np.rint(rng.normal(25 + 20 * kind, 12)), 0, 90)
    region = (rng.geometric(0.35, size=persons) + kind - 1) % 8
    sex = rng.random(persons) < 0.5
    school = np.where(rng.random(persons) < 0.1, 5, np.clip(np.rint(rng.normal(1 + kind, 1)), 0, 4))
    income = np.clip(rng.gamma(2 + 2 * kind, 6000), 0, 100_000)
    n = len(person)
    ill = rng.random(n) < (0.04 + 0.08 * kind + 0.002 * age)[person]
    cost = np.where(
        rng.random(n) < 0.35, 0.0, np.round(np.clip(rng.gamma(0.7, 120, size=n) * (1 + 2 * ill), 0, 5000), 2)
    )
    balance = np.clip(rng.normal((income / 100 - 250)[person], 150, size=n), -1000, 1000)
    balance = np.where(rng.random(n) < 0.05, np.nan, balance)
    values = {
        "age": age[person],
        "region": region[person].astype(np.int32),
        "sex": sex[person].astype(np.int32),
        "school": school[person].astype(np.int32),
        "income": income[person],
        "balance": balance,
        "cost": cost,
        "ill": ill.astype(np.int32),
        "country": np.zeros(n, dtype=np.int32),
    }
    return Sample(Records(schema(max_rows=rows if rows > 1 else None), values), person)


def side(sample: Sample, chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> PersonRecords:
    """The chosen persons, numbered anew."""
    kept = chosen[sample.person]
    person = (np.cumsum(chosen) - 1)[sample.person[kept]]
    return PersonRecords(records=sample.records.take(kept), person=person, persons=int(chosen.sum()))


def split(sample: Sample, rng: Rng, *, control: float = 0.5) -> ReviewSample:
    """A coin for each person."""
    held = rng.random(int(sample.person[-1]) + 1 if len(sample.person) else 0) < control
    return ReviewSample(fit=side(sample, ~held), control=side(sample, held))


def joined(*tables: Records) -> Records:
    """The rows of several tables."""
    names = tables[0].schema.names
    return Records(tables[0].schema, {name: np.concatenate([t.columns[name] for t in tables]) for name in names})


def changed(table: Records, **columns: Any) -> Records:
    """The same rows with other values in some columns."""
    return Records(table.schema, {**table.columns, **columns})


def from_cells(table: Records, cells: Any, rng: Rng) -> Records:
    """Rows of these cells, numbers drawn anew inside their bins."""
    return Table(table.schema, np.asarray(cells, dtype=np.int32)).decode(rng=rng)


def resampled(table: Records, share: float, rng: Rng) -> Records:
    """Each cell is replaced with this probability by that of another row."""
    out = {}
    for name, values in table.columns.items():
        other = values[rng.integers(len(table), size=len(table))]
        out[name] = np.where(rng.random(len(table)) < share, other, values).astype(values.dtype)
    return Records(table.schema, out)


# ---- generators: from the sample, fresh rows of the population and coins to a synthetic table ----------------------

Generator = Callable[[ReviewSample, Records, Rng], Records]


def _bootstrap(sample: ReviewSample, rng: Rng) -> Records:
    fit = sample.fit.records
    return fit.take(rng.integers(len(fit), size=len(fit)))


def _leaked(sample: ReviewSample, fresh: Records, rng: Rng, share: float) -> Records:
    """Fresh rows with a share of fitted ones among them."""
    fit = sample.fit.records
    copied = fit.take(rng.choice(len(fit), max(int(share * len(fit)), 1), replace=False))
    return joined(fresh.take(np.arange(min(len(fresh), len(fit) - len(copied)))), copied)


def _noisy(sample: ReviewSample, rng: Rng, share: float) -> Records:
    """A copy whose numbers moved by a share of their range."""
    fit, moved = sample.fit.records, {}
    for column in fit.schema.modelled:
        if column.is_numeric and column.decimals is None and column.type == "number":
            low, high = column.binning.edges[[0, -1]]
            values = fit.columns[column.name]
            moved[column.name] = np.clip(values + rng.normal(0, share * (high - low), len(values)), low, high)
    return changed(fit, **moved)


def _outliers(sample: ReviewSample, fresh: Records, number: int) -> Records:
    """Fresh rows with the most extreme fitted rows among them."""
    fit = sample.fit.records
    extreme = np.argsort(-(fit.columns["income"] / 20_000 + fit.columns["cost"] / 300))[:number]
    return joined(fresh.take(np.arange(min(len(fresh), len(fit) - number))), fit.take(extreme))


def _block(sample: ReviewSample, rng: Rng) -> Records:
    """Quasi-identifiers and secrets copied together, all other columns drawn independently."""
    fit = sample.fit.records
    others = [column.name for column in fit.schema.modelled if column.role == "other"]
    return changed(fit, **{name: rng.permutation(fit.columns[name]) for name in others})


def _independent(table: Records, rng: Rng) -> Records:
    return Records(table.schema, {name: rng.permutation(values) for name, values in table.columns.items()})


def _points(table: Records) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Rows as points in the unit cube, the obvious way; gaps in the middle."""
    coordinates = []
    for column in table.schema.modelled:
        values = np.asarray(table.columns[column.name], dtype=np.float64)
        low, high = column.binning.edges[[0, -1]] if column.is_numeric else (0, max(column.size - 1, 1))
        coordinates.append(np.nan_to_num((values - low) / (high - low), nan=0.5))
    return np.stack(coordinates, axis=1)


def _squared(first: Records, second: Records) -> np.ndarray[Any, np.dtype[np.float64]]:
    return ((_points(first)[:, None, :] - _points(second)[None, :, :]) ** 2).sum(axis=2)


def _between_neighbours(sample: ReviewSample, rng: Rng) -> Records:
    """SMOTE with one neighbour: numbers on the line to the nearest other row, categories of either."""
    fit = sample.fit.records
    squared = _squared(fit, fit)
    np.fill_diagonal(squared, np.inf)
    neighbour, weight, out = squared.argmin(axis=1), rng.random(len(fit)), {}
    for column in fit.schema.modelled:
        mine = fit.columns[column.name]
        theirs = mine[neighbour]
        if column.is_numeric:
            mixed = mine + weight * (theirs - mine)
            out[column.name] = np.round(mixed, column.decimals or 0) if column.binning.decimals is not None else mixed
        else:
            out[column.name] = np.where(weight < 0.5, mine, theirs).astype(np.int32)
    return Records(fit.schema, out)


def _filtered(sample: ReviewSample, fresh: Records) -> Records:
    """Fresh rows without the third that lies nearest to fitted rows: a filter against rows "too close"."""
    nearest = _squared(fresh, sample.fit.records).min(axis=1)
    return fresh.take(nearest > np.quantile(nearest, 1 / 3))


LEAKS: dict[str, Generator] = {
    "B1": lambda sample, fresh, rng: sample.fit.records,
    "B2": lambda sample, fresh, rng: _bootstrap(sample, rng),
    "B2 cells": lambda sample, fresh, rng: from_cells(
        sample.fit.records, Table.encode(_bootstrap(sample, rng)).codes, rng
    ),
    "B4 10%": lambda sample, fresh, rng: resampled(_bootstrap(sample, rng), 0.1, rng),
    "B4 30%": lambda sample, fresh, rng: resampled(_bootstrap(sample, rng), 0.3, rng),
    "B5": lambda sample, fresh, rng: _noisy(sample, rng, 0.001),
    "B6 5%": lambda sample, fresh, rng: _leaked(sample, fresh, rng, 0.05),
    "B6 1%": lambda sample, fresh, rng: _leaked(sample, fresh, rng, 0.01),
    "B8": lambda sample, fresh, rng: _outliers(sample, fresh, 30),
    "B9": lambda sample, fresh, rng: _block(sample, rng),
    "B11": lambda sample, fresh, rng: _between_neighbours(sample, rng),
}

CLEAN: dict[str, Generator] = {
    "G1": lambda sample, fresh, rng: fresh,
    "G2": lambda sample, fresh, rng: _independent(fresh, rng),
}

one_outlier = _outliers
filtered = _filtered


def found(sample: ReviewSample, synthetic: Records, *, seed: int = 0, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """What each attack finds, without the positive controls that `run_suite` adds: half the time."""
    people, table = People.of(sample, rng=stream(seed, "people")), Rows.of(synthetic).sorted()
    chosen = only or tuple(ATTACKS)
    return {name: ATTACKS[name].run(people, table, rng=stream(seed, name)) for name in chosen}


def leaks(findings: dict[str, Any], *, of: int | None = None) -> set[str]:
    """Attacks that showed a leak, by the rule of `AttackResult.leak`."""
    names = list(findings)
    p_values = [1.0 if findings[name].p_value is None else findings[name].p_value for name in names]
    adjusted = holm(p_values + [1.0] * ((of or len(names)) - len(names)))
    out = set()
    for name, p in zip(names, adjusted, strict=False):
        if findings[name].gap is not None:
            continue
        two_sided = ATTACKS[name].two_sided
        chance = 0.5 if two_sided else 0.0
        interval = findings[name].headline(two_sided=two_sided)[2]
        if p < 0.05 and (interval.low > chance or (two_sided and interval.high < chance)):
            out.add(name)
    return out
