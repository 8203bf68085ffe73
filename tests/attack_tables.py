"""A small population to draw samples from; the generators that leak in known ways, or not at all, are the library's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from attacks.base import holm
from attacks.people import People, Rows
from attacks.planted import HONEST as CLEAN
from attacks.planted import LEAKS, changed, from_cells, joined, resampled, side
from attacks.suite import ATTACKS, stream
from dpsynth import Column, Records, ReviewSample, Schema

__all__ = [
    "CLEAN",
    "LEAKS",
    "changed",
    "found",
    "from_cells",
    "joined",
    "leaks",
    "population",
    "resampled",
    "schema",
    "side",
    "split",
]

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


def split(sample: Sample, rng: Rng, *, control: float = 0.5) -> ReviewSample:
    """A coin for each person."""
    held = rng.random(int(sample.person[-1]) + 1 if len(sample.person) else 0) < control
    return ReviewSample(fit=side(sample, ~held), control=side(sample, held))


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
