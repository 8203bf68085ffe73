"""What must not matter does not: order of rows, columns and persons, storage types; and what must matter does."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from attacks import run_suite
from attacks.linkage import TORN, WORST
from attacks.people import Rows
from dpsynth import PersonRecords, Records, ReviewSample, Schema
from dpsynth.reading import read_frame


def moved(sample: PersonRecords, rng: np.random.Generator, schema: Schema) -> PersonRecords:
    """The same persons: rows scattered, persons renamed, columns in the order of `schema`."""
    rows, names = rng.permutation(len(sample.records)), rng.permutation(sample.persons)
    records = reordered(sample.records, schema).take(rows)
    return PersonRecords(records=records, person=names[sample.person][rows], persons=sample.persons)


def reordered(records: Records, schema: Schema) -> Records:
    return Records(schema, {name: records.columns[name] for name in schema.names})


def numbers(result: Any) -> list[Any]:
    return [(r.id, r.estimate, r.interval, r.p_value, r.p_adjusted, r.positive_control, r.measures) for r in result]


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "controls"), [(1, 1000), (3, 1000), (2, 60)])
def test_order_does_not_matter(tables: ModuleType, rows: int, controls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, positive controls and random choices included."""
    monkeypatch.setattr("attacks.suite.CONTROL_PERSONS", controls)
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(160, rng, rows=rows), rng)
    synthetic = tables.joined(tables.population(60, rng, rows=rows).records, sample.fit.records.take(np.arange(20)))
    schema = sample.fit.records.schema
    backwards = Schema(
        table=schema.table,
        columns=schema.columns[::-1],
        entity=schema.entity,
        unit_column=schema.unit_column,
        max_rows=schema.max_rows,
    )
    other = ReviewSample(fit=moved(sample.fit, rng, backwards), control=moved(sample.control, rng, backwards))
    turned = reordered(synthetic, backwards).take(rng.permutation(len(synthetic)))
    assert numbers(run_suite(sample, synthetic)) == numbers(run_suite(other, turned))


def test_storage_types_do_not_matter(tables: ModuleType) -> None:
    """The same table as integers, floats, text or pandas categories, with any index, gives the same result."""
    rng = np.random.default_rng(0)
    records = tables.population(240, rng).records
    schema = records.schema
    frame = records.to_frame()
    texts = pd.DataFrame({name: frame[name].astype("object") for name in frame})
    floats = frame.astype({"age": "float64"})
    categories = frame.astype({"region": "category", "school": "category"})
    categories.index = pd.Index(np.repeat(7, len(frame)))  # all labels alike

    expected = Rows.of(records)
    for other in (frame, texts, floats, categories):
        rows = Rows.of(read_frame(other, schema).records)
        assert (rows.values == expected.values).all()  # attacks see nothing else
        assert (rows.cells == expected.cells).all()


def test_swapping_the_sides_turns_the_sign(tables: ModuleType) -> None:
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(300, rng), rng)
    synthetic = tables.joined(tables.population(100, rng).records, sample.fit.records.take(np.arange(50)))
    only = ("exact_match", "linkage", "nearest_record")
    there = tables.found(sample, synthetic, only=only)
    back = tables.found(ReviewSample(fit=sample.control, control=sample.fit), synthetic, only=only)
    for name in only:
        for variant, measure in there[name].variants.items():
            if variant == TORN:  # targets are drawn, one side after the other
                assert measure.estimate * back[name].variants[variant].estimate < 0
            elif variant == WORST:  # what is worst for one side is not for the other
                assert measure.estimate > max(back[name].variants[variant].estimate, 0)
            elif measure.fit is not None:
                assert measure.estimate == pytest.approx(-back[name].variants[variant].estimate)
            else:
                assert measure.estimate == pytest.approx(1 - back[name].variants[variant].estimate, abs=0.02)


def test_more_leak_more_excess(tables: ModuleType) -> None:
    """Dose and response: 0, 5, 20, 50 and 100 in 100 rows leaked."""
    rng = np.random.default_rng(0)
    sample, fresh = tables.split(tables.population(600, rng), rng), tables.population(400, rng).records
    seen: dict[str, list[float]] = {}
    for share in (0.0, 0.05, 0.2, 0.5, 1.0):
        fit = sample.fit.records
        copied = fit.take(np.arange(int(share * len(fit))))
        table = tables.joined(fresh.take(np.arange(len(fit) - len(copied))), copied)
        for name, finding in tables.found(sample, table).items():
            seen.setdefault(name, []).append(finding.headline(two_sided=name == "nearest_record")[1])
    for name, estimates in seen.items():
        assert estimates[4] > estimates[3] > estimates[2] > estimates[0], name
        assert estimates[4] > 0.25, name


def test_repeated_synthetic_rows_do_not_matter_to_matching(tables: ModuleType) -> None:
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(300, rng), rng)
    table = tables.joined(tables.population(100, rng).records, sample.fit.records.take(np.arange(20)))
    twice = tables.joined(table, table)
    first, second = (tables.found(sample, t, only=("exact_match",))["exact_match"] for t in (table, twice))
    assert {n: m.estimate for n, m in first.variants.items()} == {n: m.estimate for n, m in second.variants.items()}
