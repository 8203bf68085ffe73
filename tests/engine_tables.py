"""Small random tables on disk, with everything that a file may do wrong, and what every engine must agree on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dpsynth.coarsening import Coarse
from dpsynth.counting.base import PersonRecords, Store
from dpsynth.counting.engines import open_store
from dpsynth.counting.reference import ReferenceCounter
from dpsynth.schema import Column, Schema
from dpsynth.table import Table

KEY = bytes(range(32))
COLUMNS = (
    Column(name="small", type="integer", minimum=-2, maximum=4, missing=True),
    Column(name="wide", type="number", minimum=0, maximum=10, bins=3, missing=True),
    Column(name="cents", type="number", minimum=0, maximum=2, decimals=2, bins=5),
    Column(name="paid", type="number", minimum=0, maximum=5000, bins=4, format="$1,234.50", missing=True),
    Column(
        name="seen",
        type="date",
        formats=("%Y-%m-%d", "%d/%m/%Y"),
        minimum="2020-01-01",
        maximum="2020-12-31",
        bins=4,
        missing=True,
    ),
    Column(name="town", type="category", values=("A", "B", "C"), unknown="other"),
    Column(name="strict", type="category", values=("x", "y")),
    Column(name="grade", type="ordinal", values=("low", "mid", "high"), missing=True),
    Column(name="ill", type="boolean", true=("yes",), false=("no",), missing=True),
    Column(name="note", type="text"),
)


def made_schema(*, max_rows: int | None, neighbours: str = "add_remove") -> Schema:
    """With `max_rows` the unit is a person named in `who`, else a row."""
    plain = Schema(table="made up", columns=COLUMNS, basis="test", neighbours=neighbours)  # type: ignore[arg-type]
    return plain if max_rows is None else replace(plain, entity="person", unit_column="who", max_rows=max_rows)


def made_rows(rows: int, seed: int, *, persons: int = 12) -> dict[str, list[Any]]:
    """Columns of cells, as Parquet holds them: some missing, undeclared, beyond the bounds, or of nobody."""
    rng = np.random.default_rng(seed)

    def some(values: list[Any]) -> list[Any]:
        return [values[n] for n in rng.integers(0, len(values), rows)]

    return {
        "who": some([*(f"p{n}" for n in range(persons)), None, ""]),
        "small": some([-9.0, -2.0, 0.0, 1.0, 1.5, 4.0, 99.0, None, float("nan"), float("inf")]),
        "wide": some([-1.0, 0.0, 0.1, 3.3, 3.34, 6.7, 10.0, 11.0, None]),
        "cents": some([0.0, 0.004, 0.4, 0.41, 1.99, 2.0, 7.0, 1e300, None]),
        "paid": some(["$3,000.00", "-$5.00", "($5.00)", "4,999.99", "$ 12", "$1,23.00", "3.000,00", "", None]),
        "seen": some(["2020-02-29", "29/02/2020", "31/12/2020", "12/31/2020", "2021-01-01", "no day", None]),
        "town": some(["A", "A", "B", "C", "D", "", None]),
        "strict": some(["x", "x", "x", "y", "y", "z", None]),
        "grade": some(["low", "mid", "high", "best", None]),
        "ill": some(["yes", "no", "perhaps", None]),
        "note": some(["a secret", None]),
    }


def written(folder: Path, cells: dict[str, list[Any]], schema: Schema, *, name: str = "rows.parquet") -> Path:
    """A Parquet file of those rows, without `who` where the schema has no persons."""
    kinds = {"small": pa.float64(), "wide": pa.float64(), "cents": pa.float64()}
    names = [n for n in cells if n in schema.file_names]
    table = pa.table({n: pa.array(cells[n], kinds.get(n, pa.string())) for n in names})
    pq.write_table(table, folder / name, row_group_size=50)
    return folder / name


def opened(data: Any, schema: Schema, engine: str, *, holdout: Fraction = Fraction(0), key: bytes = KEY) -> Store:
    store = open_store(data, schema, engine=engine, holdout=holdout, key=key)
    store.settle(schema)
    return store


def assert_equal_stores(one: Store, other: Store, schema: Schema) -> None:
    """The same counts to the last cell, coarse columns included, and the same persons with the same rows."""
    sizes = schema.sizes
    sample, again = one.sample(), other.sample()
    for side in ("fit", "control"):
        assert persons(getattr(sample, side)) == persons(getattr(again, side))
    assert persons(one.everybody()) == persons(other.everybody())
    assert one.unit_sizes().tolist() == other.unit_sizes().tolist()
    for column in schema.modelled:
        if column.is_numeric:
            for a, b in zip(one.numbers(column.name), other.numbers(column.name), strict=True):
                assert a.tolist() == b.tolist()
    reference = ReferenceCounter(Table.encode(one.everybody().records))
    rng = np.random.default_rng(5)
    coarse = [
        Coarse(column=0, groups=np.minimum(np.arange(sizes[0]) // 2, 2)),
        Coarse(column=3, groups=np.unique(rng.integers(0, 2, sizes[3]), return_inverse=True)[1].astype(np.int64)),
    ]
    for made in ([], coarse, coarse[:1]):
        for counter in (one, other, reference):
            counter.coarsen(made)
        columns = range(len(sizes) + len(made))
        asked = [*combinations(columns, 2), *[(c,) for c in columns], (), (2, 0), (4, 1, 3), (1, 2, 5)]
        for marginal, a, b in zip(asked, one.count_each(asked), other.count_each(asked), strict=True):
            want = reference.count(marginal)
            assert a.dtype == b.dtype == np.int64
            assert np.array_equal(a, want), marginal
            assert np.array_equal(b, want), marginal
    for marginal in permutations(range(3)):
        assert np.array_equal(other.count(marginal), reference.count(marginal))


def persons(found: PersonRecords) -> Counter[tuple[tuple[float, ...], ...]]:
    """How many persons have which rows, in any order; a missing number as its own value."""
    rows: dict[int, list[tuple[float, ...]]] = {n: [] for n in range(found.persons)}
    columns = [np.nan_to_num(np.asarray(values, float), nan=-777.0) for values in found.records.columns.values()]
    for who, *row in zip(found.person.tolist(), *(column.tolist() for column in columns), strict=True):
        rows[who].append(tuple(row))
    return Counter(tuple(sorted(kept)) for kept in rows.values())


def open_schema(schema: Schema) -> Schema:
    """The same, with `town` and `wide` left to discovery."""
    opened_columns = {
        "town": Column(name="town", type="category", unknown="other", discover=("values",)),
        "wide": Column(name="wide", type="number", bins=3, missing=True, discover=("minimum", "maximum")),
    }
    return replace(schema, columns=tuple(opened_columns.get(column.name, column) for column in schema.columns))
