"""Reading: what the header may be, what each cell becomes, the same from CSV, Parquet and data frames."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsynth import reading
from dpsynth.errors import DataFileError, OperationError
from dpsynth.reading import RawRows, check_frame, check_header, csv_lines, files, read, read_frame
from dpsynth.reading.block import batch_block
from dpsynth.reading.cells import recoded
from dpsynth.reading.rows import settled_values
from dpsynth.schema import Column, Read, Schema

NAN = float("nan")


def schema_of(*columns: Column, unit: str | None = None, read: Read | None = None) -> Schema:
    who = {"entity": "person", "unit_column": unit, "max_rows": 3} if unit else {}
    return Schema(table="t", columns=columns, read=read or Read(), **who)


def integer(**keys: object) -> Column:
    return Column(**{"name": "x", "type": "integer", "minimum": 0, "maximum": 100, "missing": True} | keys)


def number(**keys: object) -> Column:
    return Column(**{"name": "x", "type": "number", "minimum": 0, "maximum": 100, "missing": True} | keys)


def category(**keys: object) -> Column:
    return Column(**{"name": "x", "type": "category", "values": ("a", "b"), "missing": True} | keys)


def boolean(**keys: object) -> Column:
    return Column(**{"name": "x", "type": "boolean", "missing": True} | keys)


def values(rows: RawRows, name: str = "x") -> list[object]:
    return [None if value != value else value for value in rows.records.columns[name].tolist()]


@pytest.fixture(name="csv_rows")
def _csv_rows(tmp_path: Path) -> Callable[..., RawRows]:
    """Reads lines of a CSV file whose only column is x, unless they bring a header."""

    def rows(column: Column, *lines: str, schema: Schema | None = None, header: str = "x") -> RawRows:
        path = tmp_path / "data.csv"
        path.write_bytes("\n".join([header, *lines, ""]).encode("utf-8", "surrogateescape"))
        schema = schema or schema_of(column)
        check_header(path, schema)
        return read(path, schema)

    return rows


@pytest.fixture(name="parquet_rows")
def _parquet_rows(tmp_path: Path) -> Callable[..., RawRows]:
    def rows(schema: Schema, **arrays: pa.Array) -> RawRows:
        path = tmp_path / "data.parquet"
        pq.write_table(pa.table(arrays), path)
        check_header(path, schema)
        return read(path, schema)

    return rows


# ---- numbers as text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7), ("-0", 0), ("+7", 7), (" 7\t", 7), ("7.0", 7), ("7.", 7), (".5e1", 5), ("0.7E1", 7), ("700e-2", 7),
        ("101", 100), ("-1", 0), ("1e400", 100), ("-1e400", 0), ("1e-400", 0), ("1e999999999999999999999", 100),
        ("0" * 5000 + "7", 7), ("9" * 5000, 100), ("99999999999999999999", 100), ("7." + "0" * 5000, 7),
        ("", None), ("  ", None), ("seven", None), ("0x7", None), ("1_0", None), ("nan", None), ("inf", None),
        ("-Infinity", None), ("1e", None), ("e1", None), (".", None), ("+", None), ("1 2", None), ("1,5", None),
        ("٧", None), ("７", None), ("\u00a07", None), ("7\x0b", None), ("7\x00", None), ("--7", None), ("1e5e5", None),
    ],
)  # fmt: skip
def test_a_number_is_plain_or_scientific_and_clamped(csv_rows, text, value):
    cell = f'"{text}"' if "," in text or not text.strip() else text
    for column in (number(), integer()):
        assert values(csv_rows(column, cell)) == [value]


def test_integers_may_be_written_with_a_point_but_not_with_a_fraction(csv_rows):
    assert values(csv_rows(integer(), "5.0", "5e0", "5.5", "4.999999999999999999999", "1e-400")) == [5, 5, None, 5, 0]
    assert values(csv_rows(number(), "5.5")) == [5.5]


def test_numbers_are_rounded_to_their_decimals(csv_rows):
    assert values(csv_rows(number(decimals=2), "8.451119", "0.004", "0.006")) == [8.45, 0.0, 0.01]


def test_fast_and_slow_parsing_agree(csv_rows):
    texts = [
        "0.1",
        "2.2250738585072014e-308",
        "5e-324",
        "12345678.90123456",
        "1.7976931348623157e2",
        "8.41e21",
        "9007199254740993",
    ]
    column = number(minimum=-1e300, maximum=1e300)
    assert values(csv_rows(column, *texts)) == [float(text) for text in texts]
    assert values(csv_rows(column, *(f" {text}" for text in texts))) == [float(text) for text in texts]


def test_a_missing_mark_may_be_a_number(csv_rows):
    column = integer()
    schema = schema_of(column, read=Read(missing=("", "-999", "NA")))
    assert values(csv_rows(column, "-999", " -999 ", "NA", " NA", '""', "-998", schema=schema)) == [None] * 5 + [0]


# ---- the unknown rule --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (category(), [0, 1, 2, 2]),
        (category(missing=False), [0, 1]),
        (category(missing=False, unknown="other"), [0, 1, 2, 2]),
        (category(unknown="other"), [0, 1, 2, 3]),
        (category(unknown="drop_row"), [0, 1, 2]),
        (category(type="ordinal"), [0, 1, 2, 2]),
    ],
)
def test_undeclared_and_missing_cells_follow_the_rule(csv_rows, column, expected):
    found = values(csv_rows(column, "a", "b", "zebra", '""'))
    assert sorted(found) == sorted(expected)
    if len(found) == 4:
        assert found == ([0, 1, 2, 3] if column.unknown == "other" and column.missing else expected)


@pytest.mark.parametrize(
    ("column", "expected"),
    [(number(), [1, None, None]), (number(missing=False), [1]), (number(unknown="drop_row"), [1, None])],
)
def test_numbers_follow_the_rule_too(csv_rows, column, expected):
    assert values(csv_rows(column, "1", "zebra", '""')) == expected


def test_labels_are_exact(csv_rows):
    assert values(csv_rows(category(), "a", " a", "A", "a ", "aa")) == [0, 2, 2, 2, 2]


def test_of_a_text_the_prefix_counts(csv_rows, parquet_rows):
    """The same from every store; a label and a missing mark stay whole."""
    column = category(values=("021", "A", "oth"), prefix=3, unknown="other")
    marks = Read(missing=("", "NAN"))
    cells = ["02139", "021", "02", "A", "Abc", "other", "others", "NANA", "NAN", ""]
    expected = [0, 0, 3, 1, 3, 3, 2, 3, 4, 4]
    schema = schema_of(column, read=marks)
    assert values(csv_rows(column, *cells[:-1], '""', schema=schema)) == expected
    stored = pa.array([None if cell in ("NAN", "") else cell for cell in cells])
    expected[7] = 3
    for array in (stored, stored.dictionary_encode(), stored.cast(pa.binary())):
        assert values(parquet_rows(schema, x=array)) == expected
    assert values(read_frame(pd.DataFrame({"x": stored.to_pylist()}), schema)) == expected
    assert values(parquet_rows(schema, x=pa.array([2100, 21]))) == [3, 3]


def test_open_columns_count_prefixes_and_find_nothing_longer(csv_rows, tmp_path):
    column = category(values=None, discover=("values",), prefix=2)
    schema = schema_of(column)
    path = tmp_path / "data.csv"
    path.write_text("x\n" + "\n".join(["02139", "0213", "02", "7", "é1x"]) + "\n")
    (block,) = reading.blocks(path, schema)
    found = reading.gather([block], schema).cells["x"]
    assert [found.texts[int(code)] for code in found.values] == ["02", "02", "02", "7", "é1"]
    frame = reading.read_open_frame(pd.DataFrame({"x": ["02139", "02", None, "7"]}), schema).cells["x"]
    assert [found.texts[int(code)] for code in frame.values[[0, 1, 3]]] == ["02", "02", "7"]
    done = replace(column, discover=(), values=("no common value",), source="discover")
    assert values(csv_rows(done, "no common value", "02")) == [0, 1]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (("no ", "oth"), [2, 1, 1, 2, 2, 0, 2]),
        (("no common value",), [1, 1, 1, 0, 1, 1, 1]),
        (("no common value.",), [1, 1, 1, 1, 0, 1, 1]),
    ],
)
def test_labels_that_discovery_adds_count_in_a_release_as_under_its_schema(
    csv_rows, parquet_rows, tmp_path, found, expected
):
    """With a prefix, too: "other" is the label and not "oth", from every store."""
    column = category(values=None, discover=("values",), prefix=3, unknown="other")
    done = replace(column, discover=(), values=found, source="discover")
    cells = ["other", "others", "oth", "no common value", "no common value.", "no luck", "021"]
    for known in (done, replace(done, source="data")):  # the second: as another release takes it
        assert values(csv_rows(known, *cells)) == expected
        assert values(parquet_rows(schema_of(known), x=pa.array(cells))) == expected
    path = tmp_path / "data.csv"
    path.write_text("x\n" + "\n".join(cells) + "\n")
    (block,) = reading.blocks(path, schema_of(column))
    stored = batch_block(pa.RecordBatch.from_pydict({"x": cells}), schema_of(column))
    for each in (block, stored):
        assert settled_values(done, recoded(done, each.cells["x"])).tolist() == expected


def test_blanks_around_true_and_false_do_not_matter(csv_rows, parquet_rows):
    column = boolean(true=("Yes", " x"), false=("no",))
    cells = ["Yes", " Yes", "no\t", " x", "x", " x ", "  ", "Y es"]
    expected = [1, 1, 0, 1, 2, 2, 2, 2]
    assert values(csv_rows(column, *cells)) == expected
    assert values(parquet_rows(schema_of(column), x=pa.array(cells))) == expected


def test_booleans_have_declared_spellings(csv_rows):
    yes = boolean(true=("1", "yes"), false=("0", "no"))
    assert values(csv_rows(yes, "1", "yes", "0", "no", "true", "YES")) == [1, 1, 0, 0, 2, 2]
    assert values(csv_rows(boolean(), "true", "True", "TRUE", "1", "false", "0", "t")) == [1, 1, 1, 1, 0, 0, 2]


# ---- CSV framing -------------------------------------------------------------------------------------------------

TWO = schema_of(category(name="x"), category(name="y"))


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["a,b", "b,a"], [(0, 1), (1, 0)]),
        (['"a","b"', '"a",b', 'a,"b"'], [(0, 1)] * 3),
        (['"a,b",a'], [(2, 0)]),
        (['"a""b",a'], [(2, 0)]),
        (['"a\nb",a', "a,b"], [(2, 0), (0, 1)]),
        (['"a\n\n\nb","a\n"', "a,b"], [(2, 2), (0, 1)]),
        (["a", "a,b,a", "a,b,", "", "\r", "a,b"], [(0, 1)]),
        (['a,"b', "a,b", "b,b"], [(0, 1), (1, 1)]),
        (['a,"b"x', "a,b"], [(0, 1)]),
        (['"', "a,b"], [(0, 1)]),
        (['"a,b', '"b","a"', "a,b"], [(1, 0), (0, 1)]),
        (['"a\nb",a,"extra"', "a,b"], [(0, 1)]),
        (['x"y,a', 'a,5" pipe'], [(2, 0), (0, 2)]),
        (["a\x00,b", "\x00", "a\rb,a"], [(2, 1), (2, 0)]),
        (["a,b\r"], [(0, 1)]),
        (['"a","b"\r'], [(0, 1)]),
        (['x","y', "a,b"], [(0, 1)]),
        (['"a', 'b,a"', "a,b"], [(1, 2), (0, 1)]),
        (['"a', 'b"xb', "a,b"], [(0, 1)]),
        (['"a\r', 'b",b\r', "a,b"], [(2, 1), (0, 1)]),
        (['"a\n""b\n",', "a,b"], [(2, 2), (0, 1)]),
        (['a,"b\n"x', "a,b"], [(0, 1)]),
        (['"a\nb",a,', "a,b"], [(0, 1)]),
        ([], []),
    ],
)
def test_rows_of_a_csv_file(csv_rows, lines, expected):
    rows = csv_rows(category(), *lines, schema=TWO, header="x,y")
    assert list(zip(values(rows, "x"), values(rows, "y"), strict=True)) == expected


def test_a_quoted_cell_may_span_blocks(csv_rows, monkeypatch):
    monkeypatch.setattr(csv_lines, "BLOCK_BYTES", 8)
    lines = ["a,b", '"a' + "\nlong" * 50 + '",b', "b,b", 'a,"stray', "b,a"]
    rows = csv_rows(category(), *lines, schema=TWO, header="x,y")
    assert values(rows, "x") == [0, 2, 1, 1]
    assert values(rows, "y") == [1, 1, 1, 0]


@pytest.mark.slow
@pytest.mark.parametrize("line", ['x","y', '"', '"x', 'x,"', '"""', '","', 'x","y,"', '"a""'])
@pytest.mark.parametrize("last", ["a,b", 'z"', 'z",b'])
def test_a_file_of_broken_lines_takes_linear_time(csv_rows, line, last):
    started = time.process_time()
    rows = csv_rows(category(), *[line] * 60_000, last, "a,b", schema=TWO, header="x,y")
    assert values(rows, "x")[-1] == 0
    assert time.process_time() - started < 20


def test_columns_come_in_any_order_and_the_last_line_may_lack_its_end(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b'\xef\xbb\xbf"y",x\r\nb,a\r\na,b')
    check_header(path, TWO)
    rows = read(path, TWO)
    assert (values(rows, "x"), values(rows, "y")) == ([0, 1], [1, 0])


def test_delimiter_and_encoding_are_declared(tmp_path):
    schema = schema_of(category(values=("ü", "b")), number(name="y"), read=Read(delimiter=";", encoding="cp1252"))
    path = tmp_path / "data.csv"
    path.write_bytes("x;y\nü;1\nb;2\n".encode("cp1252") + b"\x81;3\n")
    check_header(path, schema)
    rows = read(path, schema)
    assert values(rows, "x") == [0, 1, 2]
    assert values(rows, "y") == [1, 2, 3]


def test_bytes_that_are_no_text_break_their_own_cell_only(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b"x,y\n\xff,a\na\xe2,b\n\xe2\na,b\nb,\xf0\x9f\nb,b\n")
    rows = read(path, TWO)
    assert list(zip(values(rows, "x"), values(rows, "y"), strict=True)) == [(2, 0), (2, 1), (0, 1), (1, 2), (1, 1)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    ["x" * 10**7, "9" * 10**7, "0." + "1" * 10**7, "1" * 10**7 + "x", '"' + "x" * 10**7, '"' + "\n" * 10**6 + '"'],
)
def test_a_cell_of_ten_megabytes_is_a_cell(csv_rows, cell):  # fmt: skip
    started = time.process_time()
    found = values(csv_rows(number(), "1", cell, "2"))
    assert (found[0], found[-1]) == (1, 2)
    assert len(found) in (2, 3)
    assert time.process_time() - started < 30


# ---- Parquet and frames ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "array", "expected"),
    [
        (integer(), pa.array([5, None, -1, 10**12]), [5, None, 0, 100]),
        (integer(), pa.array([5.0, NAN, None, 5.5, 1e300, float("inf"), float("-inf")]), [5, None, None, None, 100, None, None]),
        (number(), pa.array([5.25, NAN, 1e300, float("inf"), -0.0]), [5.25, None, 100, None, 0]),
        (number(), pa.array([5, 200], pa.uint8()), [5, 100]),
        (number(), pa.array([2.5, 1.0], pa.float16()), [2.5, 1]),
        (number(), pa.array([Decimal("2.50"), None, Decimal("123456789.25")]), [2.5, None, 100]),
        (number(), pa.array([Decimal("2.50"), None], pa.decimal256(50, 2)), [2.5, None]),
        (number(), pa.array([0, 2**64 - 1], pa.uint64()), [0, 100]),
        (number(), pa.array([True, False, None]), [1, 0, None]),
        (number(), pa.array(["2.5", "x", "", None, " 7 ", "1e400"]), [2.5, None, None, None, 7, 100]),
        (number(), pa.array(["2.5", "x", None, "2.5"]).dictionary_encode(), [2.5, None, None, 2.5]),
        (number(), pa.array([2.5, None, 2.5]).dictionary_encode(), [2.5, None, 2.5]),
        (number(), pa.array([b"2.5", b"\xff", None]), [2.5, None, None]),
        (number(), pa.nulls(2), [None, None]),
        (category(values=("1", "2")), pa.array([1, 2, 3, None]), [0, 1, 2, 2]),
        (category(values=("1", "2")), pa.array([1.0, 2.0, 2.5, NAN, None]), [0, 1, 2, 2, 2]),
        (category(values=("1.0", "2.5")), pa.array([1.0, 2.5]), [0, 1]),
        (category(values=("0.1", "0.25")), pa.array([0.1, 0.25], pa.float32()), [0, 1]),
        (category(values=("0.1", "0.25")), pa.array([0.25], pa.float16()), [1]),
        (category(values=("1.5",)), pa.array([Decimal("1.50"), None], pa.decimal256(50, 2)), [0, 1]),
        (category(values=("1.5", "2")), pa.array([Decimal("1.50"), Decimal("2.00"), Decimal("3.00")]), [0, 1, 2]),
        (category(values=("True", "False")), pa.array([True, False, None]), [0, 1, 2]),
        (category(values=("1", "0")), pa.array([True, False, None]), [0, 1, 2]),
        (category(), pa.array(["a", "b", "c", "", None]), [0, 1, 2, 2, 2]),
        (category(), pa.array(["a", "b", None], pa.large_string()), [0, 1, 2]),
        (category(), pa.array(["a", "b", None], pa.string_view()), [0, 1, 2]),
        (category(), pa.array(["a", "b", "a", None]).dictionary_encode(), [0, 1, 0, 2]),
        (category(), pa.array([b"a", b"\xff", None]), [0, 2, 2]),
        (category(), pa.array([b"a", b"b"], pa.binary(1)), [0, 1]),
        (boolean(true=("yes",), false=("no",)), pa.array([True, False, None]), [1, 0, 2]),
        (boolean(), pa.array([1, 0, 2, None]), [1, 0, 2, 2]),
        (boolean(), pa.array([1.0, 0.0, NAN]), [1, 0, 2]),
        (boolean(), pa.nulls(1), [2]),
    ],
)  # fmt: skip
def test_parquet_by_storage_type(parquet_rows, column, array, expected):
    assert values(parquet_rows(schema_of(column), x=array)) == expected


def test_text_that_is_not_valid_in_parquet_is_undeclared(parquet_rows):
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")]
    )
    assert values(parquet_rows(schema_of(category()), x=broken)) == [0, 2]
    assert values(parquet_rows(schema_of(number()), x=broken)) == [None, None]


@pytest.mark.parametrize(
    ("column", "series", "expected"),
    [
        (integer(), pd.Series([5, -1], dtype="int8"), [5, 0]),
        (integer(), pd.Series([5, None], dtype="Int64"), [5, None]),
        (integer(), pd.Series([5, NAN, 2.5]), [5, None, None]),
        (number(), pd.Series([2.5, None], dtype="double[pyarrow]"), [2.5, None]),
        (
            number(),
            pd.Series([1, "2", 2.5, None, pd.NA, pd.NaT, NAN, True, b"7", Decimal("3.5"), 10**400, [1], {}, "x", np.float32(0.5), np.int8(3), 1j, date(2020, 1, 1)], dtype=object),
            [1, 2, 2.5, None, None, None, None, 1, 7, 3.5, 100, None, None, None, 0.5, 3, None, None],
        ),
        (number(), pd.Series([Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), Decimal("1E+400")], dtype=object), [None, None, None, 100]),
        (category(), pd.Series(["a", "b", None, "c"]), [0, 1, 2, 2]),
        (category(), pd.Series(["a", None], dtype="string"), [0, 2]),
        (category(), pd.Series(["a", "\ud800", None], dtype=pd.StringDtype("python")), [0, 2, 2]),
        (number(), pd.Series(["1", "\ud800", None], dtype=object), [1, None, None]),
        (category(), pd.Series(["b", "a", None, "b"], dtype="category"), [1, 0, 2, 1]),
        (category(values=("1", "2")), pd.Series([2, 1, None], dtype="category"), [1, 0, 2]),
        (category(), pd.Series(pd.arrays.ArrowExtensionArray(pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, None]), pa.array(["b", None, "a"])))), [1, 2, 0, 2]),
        (category(values=("1", "x")), pd.Series(["x", 1, 1.0, True, 10**5000, Decimal("1e9999")], dtype=object), [1, 0, 0, 0, 2, 2]),
        (boolean(), pd.Series([True, False]), [1, 0]),
        (boolean(), pd.Series([True, None], dtype="boolean"), [1, 2]),
        (boolean(), pd.Series([True, None, "1", np.True_], dtype=object), [1, 2, 1, 1]),
    ],
)  # fmt: skip
def test_frames_by_the_same_rules(column, series, expected):
    frame = pd.DataFrame({"x": series})
    frame.index = [7] * len(frame)
    assert values(read_frame(frame, schema_of(column))) == expected


def test_a_frame_is_checked_like_a_file():
    schema = schema_of(number(), unit="who")
    for frame, words in (
        (pd.DataFrame({"x": [1.0]}), "lacks 'who'"),
        (pd.DataFrame({"x": [1.0], "who": [1.5]}), "integers or texts"),
        (pd.DataFrame({"x": pd.to_datetime(["2020-01-01"]), "who": [1]}), "cannot be read as number"),
        (pd.DataFrame({"x": pd.array([1, 0], "Sparse[int]"), "who": [1, 2]}), "cannot be read as number"),
        (pd.DataFrame({"x": [1j], "who": [1]}), "cannot be read as number"),
        (pd.DataFrame([[1, 2]], columns=["x", 3]), "texts as column labels"),
        (pd.DataFrame([[1, 2, 3]], columns=["x", "who", "x"]), "more than one"),
        (pd.DataFrame({"x": [1], "who": [1], "y": [2]}), "does not declare"),
    ):
        with pytest.raises(DataFileError, match=words):
            check_frame(frame, schema)
        with pytest.raises(DataFileError, match=words):
            read_frame(frame, schema)


# ---- units -------------------------------------------------------------------------------------------------------


def test_unit_ids_are_the_same_from_every_kind_of_file(csv_rows, parquet_rows):
    schema = schema_of(number(), unit="who")
    expected = [b"125024", b"7", "é".encode()]
    assert csv_rows(number(), "1,125024", "1,7", "1,é", schema=schema, header="x,who").unit_ids == expected
    assert parquet_rows(schema, x=pa.array([1, 1, 1]), who=pa.array(["125024", "7", "é"])).unit_ids == expected
    for who in (pa.array([125024, 7, 2**60 + 1]), pa.array([125024, 7, 2**60 + 1], pa.uint64())):
        ids = [b"125024", b"7", b"1152921504606846977"]
        assert parquet_rows(schema, x=pa.array([1, 1, 1]), who=who).unit_ids == ids
        assert read_frame(pa.table({"x": [1, 1, 1], "who": who}).to_pandas(), schema).unit_ids == ids
    mixed = pd.DataFrame({"x": [1] * 4, "who": pd.Series([7, "7", b"7", np.int64(7)], dtype=object)})
    assert read_frame(mixed, schema).unit_ids == [b"7"] * 4
    odd = pd.DataFrame({"x": [1] * 3, "who": pd.Series(["\ud800", "\udcff", "é"], dtype=object)})
    assert len(set(read_frame(odd, schema).unit_ids or [])) == 3
    coded = pd.DataFrame({"x": [1, 1, 1], "who": pd.Series(["b", None, "b"], dtype="category")})
    assert read_frame(coded, schema).unit_ids == [b"b", b"b"]


def test_unit_ids_are_exact(csv_rows):
    rows = csv_rows(number(), *(f"1,{who}" for who in ("a", " a", "A", "007", "7", "7.0", '"a\nb"', "\udcff", "\udcfe")),
                    schema=schema_of(number(), unit="who"), header="x,who")  # fmt: skip
    assert rows.unit_ids == [b"a", b" a", b"A", b"007", b"7", b"7.0", b"a\nb", b"\xff", b"\xfe"]


def test_a_long_decimal_id_keeps_every_digit(parquet_rows):
    long = [Decimal("12345678901234567890123456789012345678"), Decimal("12345678901234567890123456789012345679")]
    rows = parquet_rows(schema_of(number(), unit="who"), x=pa.array([1, 1]), who=pa.array(long))
    assert rows.unit_ids == [str(value).encode() for value in long]


@pytest.mark.parametrize("group_rows", [1, 3, 7, 50])
@pytest.mark.parametrize("rows", [0, 1, 6, 7, 50])
def test_row_groups_of_any_size_are_read_once_in_order(tmp_path, monkeypatch, group_rows, rows):
    """The reader keeps what it was asked for, so it is asked for a block's worth at a time (docs/scaling.md)."""
    monkeypatch.setattr(files, "BLOCK_ROWS", 7)
    path, schema = tmp_path / "data.parquet", schema_of(integer())
    pq.write_table(pa.table({"x": pa.array(range(rows), pa.int64())}), path, row_group_size=group_rows)
    found = list(reading.blocks(path, schema))
    assert [value for block in found for value in block.cells["x"].values.tolist()] == list(range(rows))
    assert all(block.rows <= 7 for block in found)


def test_rows_without_a_unit_id_are_dropped(csv_rows, parquet_rows):
    schema = schema_of(number(), unit="who", read=Read(missing=("NA",)))
    rows = csv_rows(number(), "1,p", "2,NA", '3,""', "4,", "5,q", schema=schema, header="x,who")
    assert (values(rows), rows.unit_ids) == ([1, 5], [b"p", b"q"])
    rows = parquet_rows(schema, x=pa.array([1, 2, 3]), who=pa.array(["p", None, ""]))
    assert (values(rows), rows.unit_ids) == ([1], [b"p"])
    rows = parquet_rows(schema, x=pa.array([1, 2]), who=pa.nulls(2))
    assert (values(rows), rows.unit_ids) == ([], [])
    rows = read_frame(
        pd.DataFrame({"x": [1] * 5, "who": pd.Series([None, NAN, pd.NA, (1, 2), "p"], dtype=object)}), schema
    )
    assert rows.unit_ids == [b"p"]


def test_a_dropped_row_takes_its_unit_id_along(csv_rows):
    schema = schema_of(number(missing=False), unit="who")
    rows = csv_rows(number(), "1,p", "x,q", "3,r", schema=schema, header="x,who")
    assert (values(rows), rows.unit_ids) == ([1, 3], [b"p", b"r"])


def test_dropped_columns_are_not_looked_at(parquet_rows):
    schema = schema_of(number(), Column(name="notes", type="text"), Column(name="when", type="text"))
    rows = parquet_rows(schema, x=pa.array([1]), notes=pa.array([[1, 2]]), when=pa.array([date(2020, 1, 1)]))
    assert values(rows) == [1]
    assert tuple(rows.records.columns) == ("x",)


# ---- before the reservation --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.csv", None, "does not exist"),
        ("absent.parquet", None, "does not exist"),
        ("data.txt", b"x\n1\n", "must end in .csv or .parquet"),
        ("data", b"x\n1\n", "must end in .csv or .parquet"),
        ("data.csv", b"", "is empty"),
        ("data.parquet", b"", "is empty"),
        ("data.parquet", b"x\n1\n", "not a complete Parquet file"),
        ("data.parquet", b"PAR1" + b"\0" * 100 + b"PAR1", "not a complete Parquet file"),
        ("data.csv", b"\n1\n", "blank"),
        ("data.csv", b"\xef\xbb\xbf", "blank"),
        ("data.csv", b"  \r\n1\n", "blank"),
        ("data.csv", b"1\n2\n", "has none of the schema's columns"),
        ("data.csv", b"x,\n1,2\n", "''"),
        ("data.csv", b"x,x\n1,2\n", "more than one column 'x'"),
        ("data.csv", b"x,y,y\n1,2\n", "more than one column 'y'"),
        ("data.csv", b"x,y\n1,2\n", "'y', which the schema does not declare"),
        ("data.csv", b"x;y\n1;2\n", "has none of the schema's columns"),
        ("data.csv", b'x,"y\n1,2\n', "no complete CSV record"),
        ("data.csv", b'x,"y"z\n1,2\n', "no complete CSV record"),
        ("data.csv", "x\n1\n".encode("utf-16"), "UTF-16"),
        ("data.csv", b"x" * 2**21, "longer than"),
        ("data.csv", b"x,\x1b[31m\n1,2\n", "does not declare"),
        ("data.csv", b"X\n1\n", "has none of the schema's columns"),
        ("data.csv", b" x\n1\n", "has none of the schema's columns"),
    ],
)
def test_a_header_that_does_not_fit_is_refused_in_one_sentence(tmp_path, name, content, words):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataFileError) as caught:
        check_header(path, schema_of(number()))
    message = str(caught.value)
    assert words in message
    assert caught.value.exit_code == 2
    assert message.isprintable()
    assert caught.value.__cause__ is None


def test_a_folder_is_no_data_file(tmp_path):
    for name in ("folder.csv", "folder.parquet"):
        (tmp_path / name).mkdir()
        with pytest.raises(DataFileError, match="cannot be opened"):
            check_header(tmp_path / name, schema_of(number()))


def test_a_first_line_that_may_be_a_row_is_not_quoted(tmp_path):
    path = tmp_path / "data.csv"
    schema = schema_of(number(), category(name="y"))
    path.write_text("secret-name,42\nother,43\n")
    with pytest.raises(DataFileError) as caught:
        check_header(path, schema)
    assert "secret" not in str(caught.value)
    path.write_text("secret-name,x\nother,43\n")
    with pytest.raises(DataFileError, match="lacks 'y'") as caught:
        check_header(path, schema)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("array", [pa.array([[1]]), pa.array([{"a": 1}]), pa.array([date(2020, 1, 1)]), pa.array([1], pa.timestamp("us")), pa.array([1], pa.time64("us")), pa.array([1], pa.duration("s"))], ids=lambda a: str(a.type))  # fmt: skip
@pytest.mark.parametrize("column", [number(), category(), boolean()], ids=lambda c: c.type)
def test_a_storage_type_that_is_no_single_value_is_refused(tmp_path, column, array):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"x": array}), path)
    with pytest.raises(DataFileError, match="column 'x'") as caught:
        check_header(path, schema_of(column))
    assert f"cannot be read as {column.type}" in str(caught.value)


@pytest.mark.parametrize("array", [pa.array([1.0]), pa.array([1.0], pa.float32()), pa.array([True]), pa.array([date(2020, 1, 1)]), pa.array([[1]]), pa.array([1.0]).dictionary_encode()], ids=lambda a: str(a.type))  # fmt: skip
def test_a_unit_column_is_stored_as_integers_or_texts(tmp_path, array):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"x": [1], "who": array}), path)
    with pytest.raises(DataFileError, match="unit column 'who'"):
        check_header(path, schema_of(number(), unit="who"))


def test_parquet_column_names_may_repeat_but_not_here(tmp_path):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"]), path)
    with pytest.raises(DataFileError, match="more than one column 'x'"):
        check_header(path, schema_of(number()))


def test_names_with_dots_and_brackets_are_plain_names(parquet_rows):
    schema = schema_of(number(name="a"), number(name="a.b"), number(name="größe(cm)"))
    rows = parquet_rows(schema, **{"a": pa.array([1]), "a.b": pa.array([2]), "größe(cm)": pa.array([3])})
    assert [values(rows, name) for name in ("a", "a.b", "größe(cm)")] == [[1], [2], [3]]


# ---- after the reservation ---------------------------------------------------------------------------------------


def test_no_rows_are_rows_too(csv_rows, parquet_rows):
    assert values(csv_rows(number())) == []
    assert values(parquet_rows(schema_of(number()), x=pa.array([], pa.float64()))) == []
    assert values(read_frame(pd.DataFrame({"x": []}), schema_of(number()))) == []
    rows = csv_rows(number(), schema=schema_of(number(), unit="who"), header="x,who")
    assert rows.unit_ids == []


def test_a_file_that_fails_says_nothing_about_its_rows(tmp_path):
    schema = schema_of(category(values=("secret",)))
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"x": [f"secret{n}" for n in range(5000)]}), path)
    good = path.read_bytes()
    path.write_bytes(good[:4] + b"\xff" * 2000 + good[2004:])
    check_header(path, schema)
    with pytest.raises(OperationError, match="the data file could not be read") as caught:
        read(path, schema)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    path.unlink()
    with pytest.raises(OperationError, match="the data file could not be read"):
        read(path, schema)


def test_a_file_that_changed_after_the_check_is_an_operation_error(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("x\n1\n")
    check_header(path, schema_of(number()))
    path.write_text("y\n1\n")
    with pytest.raises(OperationError, match="changed meanwhile"):
        read(path, schema_of(number()))


def test_private_rows_do_not_show_in_a_repr(csv_rows):
    rows = csv_rows(number(), "41", "42", schema=schema_of(number(), unit="who"), header="x,who")
    for thing in (rows, rows.records):
        shown = re.sub(r"0x[0-9a-f]+", "", repr(thing))  # an address may hold any digits
        assert not any(text in shown for text in ("41", "42", "array"))


def test_files_are_read_and_written_without_importing_pandas(tmp_path):
    """It takes a third of a second, and some of Arrow's conversions import it unasked."""
    schema = schema_of(number(name="n"), integer(name="i"), category(name="c"), boolean(name="b"))
    (tmp_path / "schema.toml").write_text(schema.to_toml(), encoding="utf-8")
    (tmp_path / "0.csv").write_text("n,i,c,b\n1.5,3,a,true\n,,,\n1e1,+7,x,0\n", encoding="utf-8")
    program = (
        "import sys; from pathlib import Path; from dpsynth import Schema, reading; folder = Path(sys.argv[1]);"
        "schema = Schema.load(folder / 'schema.toml');"
        "files = [folder / name for name in ('0.csv', '1.parquet', '2.csv', '3.parquet')];"
        "[reading.read(old, schema).records.write(new) for old, new in zip(files, files[1:])];"
        "sys.exit('pandas' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
    rows = [read(tmp_path / name, schema) for name in ("0.csv", "3.parquet")]
    for name in schema.names:
        assert values(rows[0], name) == values(rows[1], name)


def test_a_negative_zero_is_a_zero_in_an_open_column_too() -> None:
    """Its bytes decide about coins: two spellings of zero are one content in every engine."""
    schema = Schema.parse(
        'schema = "dpsynth.schema/1"\ntable = "t"\n[[column]]\nname = "a"\ntype = "number"\nminimum = "discover"\n'
        'maximum = "discover"\n'
    )
    rows = reading.read_open_frame(pd.DataFrame({"a": [0.0, -0.0]}), schema)
    assert not np.signbit(rows.cells["a"].values).any()
