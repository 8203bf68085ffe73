"""Small random tables on disk, with everything that a file may do wrong, and what every engine must agree on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, pairwise, permutations
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
from dpsynth.split import to_control
from dpsynth.table import Table

KEY = bytes(range(32))
GAP, DROP, OTHER_TOWN = -777.0, "drop", 3.0
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


# ---- slow and obvious, and without a line of the program's own reading ------------------------------------------

BECOMES: dict[str, dict[Any, Any]] = {
    "small": {-9.0: -2.0, 1.5: GAP, 99.0: 4.0, None: GAP, "nan": GAP, "inf": GAP},
    "wide": {-1.0: 0.0, 11.0: 10.0, None: GAP},
    "cents": {0.004: 0.0, 7.0: 2.0, 1e300: 2.0, None: DROP},
    "paid": {
        "$3,000.00": 3000.0, "-$5.00": 0.0, "($5.00)": 0.0, "4,999.99": 4999.99, "$ 12": 12.0, "$1,23.00": GAP,
        "3.000,00": GAP, "": GAP, None: GAP,
    },
    "seen": {
        "2020-02-29": 18321.0, "29/02/2020": 18321.0, "31/12/2020": 18627.0, "12/31/2020": GAP, "2021-01-01": 18627.0,
        "no day": GAP, None: GAP,
    },
    "town": {"A": 0.0, "B": 1.0, "C": 2.0, "D": OTHER_TOWN, "": OTHER_TOWN, None: OTHER_TOWN},
    "strict": {"x": 0.0, "y": 1.0, "z": DROP, None: DROP},
    "grade": {"low": 0.0, "mid": 1.0, "high": 2.0, "best": 3.0, None: 3.0},
    "ill": {"no": 0.0, "yes": 1.0, "perhaps": 2.0, None: 2.0},
}  # fmt: skip
"""What each cell of `made_rows` becomes, by hand; numbers that are not named stay. Codes of categories, days of dates."""


def expected(cells: dict[str, list[Any]], *, by_person: bool) -> list[tuple[str, Counter[tuple[float, ...]]]]:
    """Every unit that has a row left, and its rows before bounding; without persons each row is one."""
    units: dict[str, Counter[tuple[float, ...]]] = {}
    for n, who in enumerate(cells["who"]):
        row = tuple(_became(name, cells[name][n]) for name in BECOMES)
        if DROP not in row and (who or not by_person):
            units.setdefault(who if by_person else str(n), Counter()).update([row])
    return list(units.items())


def _became(name: str, cell: Any) -> Any:
    key = str(cell) if isinstance(cell, float) and not np.isfinite(cell) else cell
    return BECOMES[name].get(key, cell)


def assert_rows_are_those_expected(
    store: Store, cells: dict[str, list[Any]], schema: Schema, fraction: Fraction
) -> None:
    """Each unit is there once, on the side that its coin says, with min(its rows, `max_rows`) of its own rows."""
    most = schema.unit.max_rows
    by_person = schema.unit_column is not None
    units = expected(cells, by_person=by_person)
    if by_person:
        held = to_control([who.encode() for who, _ in units], fraction=fraction, key=KEY).tolist()
    sample = store.sample()
    sides = [[*persons(found).elements()] for found in (sample.fit, sample.control)]
    for control, found in enumerate(sides):
        if not by_person:
            continue
        there = [rows for (_, rows), side in zip(units, held, strict=True) if side == control]
        assert sorted(map(len, found)) == sorted(min(most, rows.total()) for rows in there)
        for kept in found:
            assert any(Counter(kept) <= rows and len(kept) == min(most, rows.total()) for rows in there)
    if (by_person and all(rows.total() <= most for _, rows in units)) or not by_person:
        everything = Counter(tuple(sorted(rows.elements())) for _, rows in units)
        assert Counter(sides[0]) + Counter(sides[1]) == everything
    assert by_person or fraction == 0 or (sides[0] and sides[1])


def assert_finds_what_is_kept(store: Store, schema: Schema) -> None:
    """Discovery asks about the rows that bounding left on the fit side, which can be looked at once all is declared."""
    edges = np.array([-5.0, 0.0, 0.1, 3.3, 10.0, 20.0])
    texts, counts = store.distinct("town")
    rows = store.histogram("wide", edges)
    town = Column(name="town", type="category", values=("A", "B", "C", "D"), unknown="other")
    wide = Column(name="wide", type="number", minimum=-5, maximum=20, bins=3, missing=True)
    declared = {"town": town, "wide": wide}
    store.settle(replace(schema, columns=tuple(declared.get(column.name, column) for column in schema.columns)))
    kept = store.everybody()
    having = {text: set[int]() for text in town.values or ()}
    for person, code in zip(kept.person.tolist(), kept.records.columns["town"].tolist(), strict=True):
        if code < len(having):  # "other" is what was a blank text or none
            having[town.labels[code]].add(person)
    assert dict(zip(texts, counts.tolist(), strict=True)) == {t: len(who) for t, who in having.items() if who}
    numbers = np.asarray(kept.records.columns["wide"], float)
    assert rows.tolist() == [int(((low <= numbers) & (numbers < high)).sum()) for low, high in pairwise(edges)]


def open_schema(schema: Schema) -> Schema:
    """The same, with `town` and `wide` left to discovery."""
    opened_columns = {
        "town": Column(name="town", type="category", unknown="other", discover=("values",)),
        "wide": Column(name="wide", type="number", bins=3, missing=True, discover=("minimum", "maximum")),
    }
    return replace(schema, columns=tuple(opened_columns.get(column.name, column) for column in schema.columns))
