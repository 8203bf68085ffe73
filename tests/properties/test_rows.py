"""Rule 2.3: after the reservation nothing about the rows raises, and what happens to a row depends on that row alone."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpsynth.reading import RawRows, check_header, csv_lines, read, read_frame
from dpsynth.reading.texts import csv_reader
from dpsynth.schema import Column, Read, Schema

FAST = settings(deadline=None, max_examples=80)

COLUMNS = (
    Column(name="n", type="number", minimum=-5, maximum=5, missing=True),
    Column(name="i", type="integer", minimum=0, maximum=9, missing=True, unknown="drop_row"),
    Column(name="d", type="number", minimum=0, maximum=10, decimals=1),
    Column(name="c", type="category", values=("a", "b", "7", "x,y", 'say "hi"', "é"), missing=True, unknown="other"),
    Column(name="b", type="boolean", missing=True),
)
SCHEMA = Schema(
    table="t", columns=COLUMNS, entity="person", unit_column="who", max_rows=2, read=Read(missing=("", "NA"))
)
NAMES = SCHEMA.file_names
SINGLE = Schema(table="t", columns=COLUMNS[:1])

texts = st.one_of(
    st.sampled_from(
        ["", "NA", "a", "b", "7", "x,y", 'say "hi"', "0", "1", "true", "-0.0", "1e999", "3.14", " 2 ", "nan"]
    ),
    st.floats(width=32).map(repr),
    st.integers(-20, 20).map(str),
    st.text(max_size=8),
    st.binary(max_size=6).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)
rows = st.lists(st.lists(texts, min_size=len(NAMES), max_size=len(NAMES)), max_size=8)


def read_bytes(content: bytes, schema: Schema) -> RawRows:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.csv"
        path.write_bytes(content)
        check_header(path, schema)
        return read(path, schema)


def read_texts(table: Sequence[Sequence[str]], schema: Schema = SCHEMA, *, quoting: int = csv.QUOTE_MINIMAL) -> RawRows:
    file = io.StringIO(newline="")
    writer = csv.writer(file, quoting=quoting)
    writer.writerow(schema.file_names)
    writer.writerows(table)
    return read_bytes(file.getvalue().encode("utf-8", "surrogateescape"), schema)


def plain(rows: RawRows) -> list[tuple[object, ...]]:
    """Rows that can be compared: NaN as None, unit ids in front."""
    columns = [[None if v != v else v for v in array.tolist()] for array in rows.records.columns.values()]
    ids = rows.unit_ids if rows.unit_ids is not None else [b""] * len(rows.records)
    return list(zip(ids, *columns, strict=True))


@pytest.mark.slow
@FAST
@given(rows, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
@example([["x\r\ny", "1", "1", "a\n", "1", "\udcff"], ["1", "1", "1", "a", "1", "\udcfe"]], csv.QUOTE_MINIMAL)
def test_a_table_is_read_row_by_row(table, quoting):
    assert plain(read_texts(table, quoting=quoting)) == [
        row for cells in table for row in plain(read_texts([cells], quoting=quoting))
    ]


@FAST
@given(rows, st.sampled_from([1, 7, 40]))
def test_where_blocks_end_does_not_matter(table, size):
    whole = plain(read_texts(table))
    normal = csv_lines.BLOCK_BYTES
    csv_lines.BLOCK_BYTES = size
    try:
        assert plain(read_texts(table)) == whole
    finally:
        csv_lines.BLOCK_BYTES = normal


honest = st.lists(
    st.tuples(st.integers(-9, 9), st.integers(0, 9), st.integers(0, 9), st.sampled_from("abz"), st.sampled_from("01"))
    .map(lambda row: ",".join(map(str, [*row, f"p{row[0]}"]))),
    max_size=6,
)  # fmt: skip


@FAST
@given(honest, honest, st.binary(max_size=30).filter(lambda raw: b"\n" not in raw))
@example(["1,1,1,a,1,p"], ["2,2,2,b,1,q"], b'"')
@example(["1,1,1,a,1,p"], ["2,2,2,b,1,q"], b'1,1,1,a,1,"p')
@example(["1,1,1,a,1,p"], ["2,2,2,b,1,q"], b"\xef\xbb\xbf\xe2")
def test_a_broken_line_touches_no_other_row(before, after, line):
    def found(*parts: bytes) -> list[tuple[object, ...]]:
        return plain(read_bytes(b"\n".join([",".join(NAMES).encode(), *parts]) + b"\n", SCHEMA))

    first, second = [line.encode() for line in before], [line.encode() for line in after]
    others, everything = found(*first, *second), found(*first, line, *second)
    start = len(found(*first))
    assert len(everything) - len(others) in (0, 1)
    assert everything[:start] == others[:start]
    assert everything[start + len(everything) - len(others) :] == others[start:]


@FAST
@given(st.binary(max_size=300))
@example(b'"' * 7)
@example(b"\x00\r\n\xff,,,,,\n")
def test_any_bytes_can_stand_below_the_header(content):
    read_bytes(",".join(NAMES).encode() + b"\n" + content, SCHEMA)
    single = read_bytes(b"n\n" + content, SINGLE)
    lines = content.split(b"\n")
    assert len(single.records) <= len(lines)


@FAST
@given(st.lists(texts, max_size=20))
def test_the_fast_path_parses_as_the_slow_one(found):
    for column in COLUMNS[:3]:
        fast = csv_reader(column)(column, found, SCHEMA.read.missing)
        slow = [csv_reader(column)(column, [text, "\udcff"], SCHEMA.read.missing) for text in found]
        assert fast.values.tolist() == [cells.values[0] for cells in slow]
        assert fast.kinds.tolist() == [cells.kinds[0] for cells in slow]


@FAST
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(width=64)),
            st.one_of(st.none(), st.integers(-(2**62), 2**62)),
            st.one_of(st.none(), st.floats(-100, 100)),
            st.one_of(st.none(), st.sampled_from(["a", "b", "7", "x,y", "é", "zebra", 'say "hi"'])),
            st.one_of(st.none(), st.booleans()),
            st.one_of(st.none(), st.integers(-(2**40), 2**40)),
        ),
        max_size=12,
    )
)
def test_csv_parquet_and_frames_agree(table):
    types = [pa.float64(), pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.int64()]
    arrays = [pa.array([row[k] for row in table], stored) for k, stored in enumerate(types)]
    stored = pa.table(arrays, names=NAMES)
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(stored, Path(folder) / "data.parquet")
        parquet = plain(read(Path(folder) / "data.parquet", SCHEMA))
    assert plain(read_texts([["" if cell is None else str(cell) for cell in row] for row in table])) == parquet
    assert plain(read_frame(stored.to_pandas(types_mapper=pd.ArrowDtype), SCHEMA)) == parquet
    loose = pd.DataFrame({name: pd.Series([row[k] for row in table], dtype=object) for k, name in enumerate(NAMES)})
    assert plain(read_frame(loose, SCHEMA)) == parquet


@FAST
@given(rows)
def test_what_is_read_lies_in_the_domain(table):
    found = read_texts(table)
    records = found.records
    assert len(records) == len(found.unit_ids or [])
    for column in SCHEMA.modelled:
        values = records.columns[column.name]
        if column.is_numeric:
            inside = values[~np.isnan(values)]
            assert np.all((inside >= column.binning.edges[0]) & (inside <= column.binning.edges[-1]))
            assert column.missing or not np.isnan(values).any()
        else:
            assert np.all((values >= 0) & (values < column.size))
    assert all(found.unit_ids or [])
