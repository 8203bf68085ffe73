"""More leak, more excess; sides exchanged, sign exchanged; the value of knowing nothing is what arithmetic says."""

from __future__ import annotations

from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.planted import copied_share
from dpsynth import Column, PersonRecords, Records, ReviewSample, Schema

DOSES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)
MATCHING = ("exact_match", "linkage", "nearest_record")


def test_doses_of_the_same_leak_grow(tables: ModuleType) -> None:
    """The same persons are copied first, so that each table leaks all that the one before it leaks.

    Word-for-word matching has to grow with every dose; the others from 5 in 100 on.
    """
    rng = np.random.default_rng(0)
    sample, fresh = tables.split(tables.population(800, rng), rng), tables.population(400, rng).records
    fit = sample.fit.records
    order = rng.permutation(len(fit))
    seen: dict[str, list[float]] = {}
    for dose in DOSES:
        copied = fit.take(order[: round(dose * len(fit))])
        table = tables.joined(fresh.take(np.arange(max(len(fresh) - len(copied), 0))), copied)
        for name, finding in tables.found(sample, table, only=MATCHING).items():
            seen.setdefault(name, []).append(finding.headline(two_sided=name == "nearest_record")[1])
        whole = tables.found(sample, table, only=("exact_match",))["exact_match"].variants["values, all columns"]
        seen.setdefault("whole rows", []).append(whole.estimate)
    assert seen["whole rows"] == pytest.approx([round(dose * len(fit)) / len(fit) for dose in DOSES], abs=1e-9)
    for name, estimates in seen.items():
        large = [estimates[0], *estimates[4:]]
        assert all(a < b for a, b in pairwise(large)), name


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.05, 0.3, 1.0]), rows=st.sampled_from([1, 3]))
def test_exchanging_the_sides_turns_the_sign(tables: ModuleType, seed: int, share: float, rows: int) -> None:
    rng = np.random.default_rng(seed)
    sample = tables.split(tables.population(160 // rows, rng, rows=rows), rng)
    table = copied_share(share)(sample, tables.population(80 // rows, rng, rows=rows).records, rng)
    there = tables.found(sample, table, only=("exact_match",))["exact_match"].variants
    back = tables.found(ReviewSample(fit=sample.control, control=sample.fit), table, only=("exact_match",))
    for variant, measure in there.items():
        other = back["exact_match"].variants[variant]
        assert measure.estimate == pytest.approx(-other.estimate), variant
        assert measure.interval.low == pytest.approx(-other.interval.high), variant


def test_a_balanced_secret_is_guessed_half_the_time() -> None:
    """With a secret independent of all else, guesses succeed on half of the persons of either side: no excess."""
    schema = Schema(
        table="coin",
        columns=(
            Column(name="known", type="category", values=tuple("abcdefgh"), role="quasi_identifier"),
            Column(name="coin", type="boolean", role="sensitive"),
        ),
    )
    rng = np.random.default_rng(0)

    def rows(number: int) -> Records:
        known, coin = rng.integers(8, size=number), rng.integers(2, size=number)
        return Records(schema, {"known": known.astype(np.int32), "coin": coin.astype(np.int32)})

    number = np.arange(2000)
    fit, control = (PersonRecords(records=rows(2000), person=number, persons=2000) for _ in range(2))
    from attacks.people import People, Rows
    from attacks.suite import ATTACKS, stream

    people = People.of(ReviewSample(fit=fit, control=control), rng=stream(0, "people"))
    attack = ATTACKS["attribute_inference"]
    finding = attack.run(people, Rows.of(rows(2000)).sorted(), rng=stream(0, "attack"))
    for name, measure in finding.variants.items():
        if measure.fit is None or measure.control is None or not name.endswith("nearest row"):
            continue
        assert measure.fit.value == pytest.approx(0.5, abs=0.05), name  # four standard deviations
        assert measure.control.value == pytest.approx(0.5, abs=0.07), name
        assert 0.0 in measure.interval, name
    assert any(name.endswith("nearest row") for name in finding.variants)
