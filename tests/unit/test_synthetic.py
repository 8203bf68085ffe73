"""Synthetic rows part by part: the same rows, in memory that does not grow with their number."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dpsynth import Cap, Column, Records, Schema, synthetic
from dpsynth.models.rows import RowsOnly
from dpsynth.persons import UnitSizes
from dpsynth.synthesizers.independent import Independent
from dpsynth.synthetic import Drawn, parts_of
from dpsynth.table import write_parts

COLUMNS = (
    Column(name="site", type="category", values=("a", "b", "c"), per_unit=True),
    Column(name="visits", type="integer", minimum=0, maximum=9),
    Column(name="code", type="identifier", format="C-########", unique=True),
)
SCHEMA = Schema(table="t", columns=COLUMNS, entity="person", unit_column="who", max_rows=3, synthetic_units=True)
SIZES = UnitSizes(counts=(500, 300, 200), sigma=3.0)


@pytest.fixture
def model(open_curator):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "who": np.arange(2000) // 2,
            "site": rng.choice(list("abc"), 2000),
            "visits": rng.integers(10, size=2000),
            "code": "x",
        }
    ).astype(str)
    curator = open_curator(frame, SCHEMA, seed=1)
    return Independent().fit(curator, budget=Cap.of(1, "1e-6").cost)


@pytest.mark.parametrize(("rows", "parts"), [(1, [1]), (1000, [1000]), (1001, [1000, 1]), (2500, [1000, 1000, 500])])
def test_parts_have_all_rows(model, monkeypatch, rows, parts):  # type: ignore[no-untyped-def]
    monkeypatch.setattr(synthetic, "AT_ONCE", 1000)
    found = list(parts_of(model, rows, schema=SCHEMA, sizes=SIZES))
    assert [len(part.records) for part in found] == [len(part.cells) for part in found] == parts
    codes = [text for part in found for text in part.fakes["code"].to_pylist()]
    assert len(set(codes)) == rows
    persons = [set(part.fakes["who"].to_pylist()) for part in found]
    assert sum(map(len, persons)) == len(set().union(*persons)) == max(max(part) for part in persons)
    for part in found:
        assert part.dealt is not None
        site = pd.Series(part.records.columns["site"]).groupby(part.dealt.person)
        assert (site.nunique() == 1).all()
        assert site.size().max() <= 3
        if len(part.records) == 1000:
            assert SIZES.distance(part.dealt.counts(3)) < 0.05


def test_rows_without_a_model_stay_together(monkeypatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr(synthetic, "AT_ONCE", 2)
    schema = Schema(table="t", columns=(Column(name="flag", type="boolean"),))
    for count in (0, 5):
        records = Records(schema, {"flag": np.ones(count, dtype=np.int32)})
        model = RowsOnly(schema=schema, records=records, claim=(Fraction(1), Fraction(0)))
        (part,) = parts_of(model, 99, schema=schema)
        assert part.records is records


@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(model, monkeypatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Sixteen times the rows take no more memory; all rows at once take eight times as much: the ruler can show it."""

    def peak(rows: int, at_once: int) -> int:
        monkeypatch.setattr(synthetic, "AT_ONCE", at_once)
        tracemalloc.start()
        write_parts(_written(parts_of(model, rows, schema=SCHEMA, sizes=SIZES)), tmp_path / "s.parquet")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert pq.ParquetFile(tmp_path / "s.parquet").metadata.num_rows == rows
        return found

    def _written(parts: Iterator[Drawn]):  # type: ignore[no-untyped-def]
        return (part.written(SCHEMA) for part in parts)

    peak(2_000, 1_000)  # imports
    few, many, whole = peak(20_000, 10_000), peak(320_000, 10_000), peak(320_000, 320_000)
    assert many < 1.2 * few
    assert whole > 8 * few
