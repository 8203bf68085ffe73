"""Records and tables: encode and decode are inverse up to binning; files give back what was written."""

from __future__ import annotations

import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth.errors import SchemaError
from dpsynth.reading import check_header, read
from dpsynth.schema import Column, Read, Schema
from dpsynth.table import Records, Table, write_parts

FAST = settings(deadline=None, max_examples=80)

DATES = [None, "%d.%m.%Y", "%Y%m%d", "%B %d, %Y", "%Y-%j", '"%d/%b;%Y|']
MOMENTS = [None, "%Y-%m-%d %H:%M:%S.%f", "%m/%d/%Y %I:%M:%S %p", "%d.%m.%Y %H:%M", "%Y%m%d%H", "%Y-%m-%dT%H:%M:%S%z"]
labels = st.one_of(
    st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=6),
    st.sampled_from(["=1+1", "@x", "-5", "a,b", '"', "a\u00a0", " lead", "NA ", "nan", "other "]),
)


@st.composite
def columns(draw: st.DrawFn, name: str) -> Column | None:
    """A random column, or None where the draw breaks a rule of the schema."""
    type_ = draw(st.sampled_from(["integer", "number", "date", "datetime", "category", "ordinal", "boolean"]))
    missing = draw(st.booleans())
    keys: dict[str, object] = {"name": name, "type": type_, "missing": missing}
    if type_ in ("integer", "number"):
        low = draw(st.integers(-1000, 1000))
        keys |= {"minimum": low, "maximum": low + draw(st.integers(1, 300))}
        if type_ == "number":
            keys["decimals"] = draw(st.one_of(st.none(), st.integers(0, 4)))
        keys["bins"] = draw(st.one_of(st.none(), st.just(1)))
        keys["atoms"] = draw(st.one_of(st.none(), st.just([low])))
    elif type_ in ("date", "datetime"):
        first = draw(st.datetimes(datetime(1, 1, 1), datetime(9000, 1, 1))).replace(minute=0, second=0, microsecond=0)
        last = first + timedelta(days=draw(st.integers(1, 300_000)))
        formats = DATES if type_ == "date" else MOMENTS
        ends = (first.date(), last.date()) if type_ == "date" else (first, last)
        keys |= {"minimum": ends[0], "maximum": ends[1], "format": draw(st.sampled_from(formats))}
    elif type_ != "boolean":
        keys["values"] = tuple(draw(st.lists(labels, min_size=1, max_size=5, unique=True)))
        if draw(st.booleans()) and "other" not in keys["values"]:  # type: ignore[operator]
            keys["unknown"] = "other"
    try:
        return Column(**keys)  # type: ignore[arg-type]
    except SchemaError:
        return None


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    found = [draw(columns(f"c{n} {draw(labels)}")) for n in range(draw(st.integers(1, 4)))]
    kept = [column for column in found if column is not None]
    read_ = Read(
        delimiter=draw(st.sampled_from(",;\t|")), missing=draw(st.sampled_from([("",), ("?", ""), ("N/A,x",)]))
    )
    spare = Column(name="spare", type="boolean", missing=True)
    texts = [text for column in kept for text in column.values or ()]
    if set(texts) & set(read_.missing):
        kept = []
    return Schema(table="t", columns=tuple(kept) or (spare,), read=read_)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    schema = draw(schemas())
    rows = draw(st.lists(st.tuples(*(st.integers(0, size - 1) for size in schema.sizes)), max_size=8))
    codes = np.array(rows, dtype=np.int32).reshape(len(rows), len(schema.sizes))
    return Table(schema, codes)


def same(a: Records, b: Records) -> bool:
    return all(np.array_equal(a.columns[name], b.columns[name], equal_nan=True) for name in a.schema.names)


@FAST
@given(tables(), st.integers(0, 2**32))
def test_encoding_a_decoded_table_gives_it_back(table, seed):
    again = Table.encode(table.decode(rng=np.random.default_rng(seed)))
    assert np.array_equal(again.codes, table.codes)
    assert len(again) == len(table)


@FAST
@given(tables(), st.sampled_from([".csv", ".parquet", ".CSV"]))
def test_a_file_gives_back_what_was_written(table, suffix):
    records = table.decode(rng=np.random.default_rng(5))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"synthetic{suffix}"
        records.write(path)
        check_header(path, table.schema)
        assert same(read(path, table.schema).records, records)
        assert [found.name for found in Path(folder).iterdir()] == [path.name]


@FAST
@given(tables(), st.data())
def test_rows_are_encoded_one_by_one(table, data):
    records = table.decode(rng=np.random.default_rng(5))
    chosen = data.draw(st.lists(st.integers(0, max(0, len(table) - 1)), max_size=6 if len(table) else 0))
    rows = np.array(chosen, dtype=np.intp)
    assert np.array_equal(Table.encode(records.take(rows)).codes, table.codes[rows])
    mask = np.isin(np.arange(len(table)), rows)
    assert len(records.take(mask)) == len(set(chosen))


@FAST
@given(schemas())
def test_a_schema_is_what_it_writes(schema):
    again = Schema.parse(schema.to_toml())
    assert again == schema
    assert again.digest == schema.digest


@given(schemas(), st.integers(0, 9), st.integers(0, 9))
@settings(deadline=None, max_examples=30)
def test_rows_written_in_parts_are_the_same_file_s_rows(schema: Schema, rows: int, cut: int) -> None:
    rng = np.random.default_rng(rows)
    codes = np.column_stack([rng.integers(0, size, rows) for size in schema.sizes]).astype(np.int32)
    whole = Table(schema, codes.reshape(rows, len(schema.sizes))).decode(rng=rng)
    parts = [whole.take(np.arange(rows) < cut), whole.take(np.arange(rows) >= cut)]
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".csv", ".parquet"):
            one, other = Path(folder) / f"one{suffix}", Path(folder) / f"other{suffix}"
            whole.write(one)
            write_parts(((part, None) for part in parts), other)
            if suffix == ".csv":
                assert one.read_bytes() == other.read_bytes()
            again = read(other, schema).records
            for name, values in whole.columns.items():
                assert np.array_equal(again.columns[name], values, equal_nan=values.dtype == np.float64)
        assert len(list(Path(folder).iterdir())) == 4
