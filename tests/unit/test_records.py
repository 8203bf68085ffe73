"""Records and Table: only valid ones exist, and what leaves them is faithful."""

from __future__ import annotations

import csv
import os
import pickle

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dpsynth.errors import OperationError, UsageError
from dpsynth.reading import read
from dpsynth.schema import Column, Read, Schema
from dpsynth.table import Records, Table

NAN = float("nan")
SCHEMA = Schema(
    table="t",
    columns=(
        Column(name="n", type="number", minimum=0, maximum=10, missing=True),
        Column(name="m", type="number", edges=(0, 0.01, 10), decimals=2),
        Column(name="i", type="integer", minimum=0, maximum=3, missing=True),
        Column(name="c", type="category", values=("=SUM(A1)", "b,c", 'd"e'), unknown="other", missing=True),
        Column(name="b", type="boolean", true=("yes", "y"), false=("no",), missing=True),
        Column(name="note", type="text"),
    ),
    read=Read(missing=("NA", "")),
)
RECORDS = Records(
    SCHEMA,
    {
        "n": np.array([0.1, NAN, 1e-7, 10.0, 2.0]),
        "m": np.array([0.0, 0.01, 0.1, 10.0, 2.0]),
        "i": np.array([0.0, NAN, 1.0, 2.0, 3.0]),
        "c": np.array([0, 1, 2, 3, 4], dtype=np.int32),
        "b": np.array([0, 1, 2, 0, 1], dtype=np.int32),
    },
)


def test_codes_follow_the_schema():
    table = Table.encode(RECORDS)
    assert table.codes.shape == (5, 5)
    assert table.codes.dtype == np.int32
    assert table.codes[:, 1].tolist() == [0, 1, 1, 1, 1]
    assert table.codes[:, 2].tolist() == [0, 4, 1, 2, 3]
    assert table.codes[:, 3].tolist() == [0, 1, 2, 3, 4]
    assert table.codes[1, 0] == SCHEMA.sizes[0] - 1
    assert len(table) == len(RECORDS) == 5


def test_a_frame_has_types_labels_and_gaps():
    frame = RECORDS.to_frame()
    assert frame.dtypes.astype(str).to_dict() == {
        "n": "float64",
        "m": "float64",
        "i": "Int64",
        "c": "string",
        "b": "boolean",
    }
    assert frame["c"].tolist()[:4] == ["=SUM(A1)", "b,c", 'd"e', "other"]
    assert frame.isna().sum().to_dict() == {"n": 1, "m": 0, "i": 1, "c": 1, "b": 1}
    assert frame["b"].tolist()[:2] == [False, True]
    frame.loc[0, "n"] = 5.0
    assert RECORDS.columns["n"][0] == 0.1


def test_parquet_has_plain_types(tmp_path):
    RECORDS.write(tmp_path / "s.parquet")
    found = pq.read_table(tmp_path / "s.parquet")
    assert [str(field.type) for field in found.schema] == ["double", "double", "int64", "string", "bool"]
    assert found.column("c").to_pylist() == ["=SUM(A1)", "b,c", 'd"e', "other", None]
    assert found.column("n").null_count == 1
    assert pd.read_parquet(tmp_path / "s.parquet").shape == (5, 5)


def test_csv_is_faithful_and_quotes_what_a_spreadsheet_would_run(tmp_path):
    RECORDS.write(tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_bytes().decode().split("\n") == [
        "n,m,i,c,b",
        '0.1,0.00,0,"=SUM(A1)",no',
        'NA,0.01,NA,"b,c",yes',
        '1e-07,0.10,1,"d""e",NA',
        "10.0,10.00,2,other,no",
        "2.0,2.00,3,NA,yes",
        "",
    ]
    with (tmp_path / "s.csv").open(newline="") as file:
        assert next(iter(csv.DictReader(file)))["c"] == "=SUM(A1)"


def test_a_blank_line_is_never_written(tmp_path):
    schema = Schema(table="t", columns=(Column(name="a", type="boolean", missing=True),))
    Records(schema, {"a": np.array([2, 1], dtype=np.int32)}).write(tmp_path / "s.csv")
    assert (tmp_path / "s.csv").read_text() == 'a\n""\ntrue\n'


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="must end in"):
        RECORDS.write(tmp_path / "s.xlsx")
    with pytest.raises(OperationError, match="could not be written"):
        RECORDS.write(tmp_path / "absent" / "s.csv")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for name in ("s.csv", "s.parquet"):
        with pytest.raises(OperationError, match="could not be written") as caught:
            RECORDS.write(tmp_path / name)
        assert caught.value.exit_code == 6
    assert list(tmp_path.iterdir()) == []


def test_empty_records_have_every_column(tmp_path):
    empty = Records.empty(SCHEMA)
    assert len(empty) == 0
    assert tuple(empty.columns) == SCHEMA.names
    assert Table.encode(empty).codes.shape == (0, 5)
    assert len(Table.encode(empty).decode(rng=np.random.default_rng(0))) == 0
    assert empty.to_frame().dtypes.equals(RECORDS.to_frame().dtypes)
    for name in ("s.csv", "s.parquet"):
        empty.write(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("n", np.array([11.0] * 5)),
        ("n", np.array([-1.0] * 5)),
        ("n", np.array([np.inf] * 5)),
        ("m", np.array([NAN] * 5)),
        ("n", np.array([1] * 5)),
        ("n", np.array([1.0] * 4)),
        ("n", np.array([[1.0] * 5])),
        ("c", np.array([5] * 5, dtype=np.int32)),
        ("c", np.array([-1] * 5, dtype=np.int32)),
        ("c", np.array([1] * 5, dtype=np.int64)),
    ],
)
def test_records_outside_their_domain_cannot_be_made(name, array):
    with pytest.raises(ValueError, match="of records must"):
        Records(SCHEMA, {**RECORDS.columns, name: array})


def test_records_have_the_columns_of_their_schema():
    with pytest.raises(ValueError, match="modelled columns"):
        Records(SCHEMA, {})
    with pytest.raises(ValueError, match="modelled columns"):
        Records(SCHEMA, dict(reversed(RECORDS.columns.items())))


@pytest.mark.parametrize(
    "codes",
    [
        np.zeros((2, 4), dtype=np.int32),
        np.zeros(5, dtype=np.int32),
        np.zeros((2, 5), dtype=np.int64),
        np.full((2, 5), -1, dtype=np.int32),
        np.full((2, 5), 99, dtype=np.int32),
    ],
)
def test_codes_outside_their_cells_cannot_be_made(codes):
    with pytest.raises(ValueError, match="codes must"):
        Table(SCHEMA, codes)


def test_arrays_are_read_only_and_the_callers_stay_writable():
    array = np.array([0, 1], dtype=np.int32)
    schema = Schema(table="t", columns=(Column(name="a", type="boolean"),))
    records = Records(schema, {"a": array})
    array[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        records.columns["a"][0] = 0
    with pytest.raises(ValueError, match="read-only"):
        Table.encode(records).codes[0, 0] = 0


def test_take_repeats_and_masks():
    assert RECORDS.take(np.array([3, 3, 0])).columns["c"].tolist() == [3, 3, 0]
    assert RECORDS.take(np.array([True, False, True, False, False])).columns["c"].tolist() == [0, 2]
    assert len(RECORDS.take(np.zeros(0, dtype=np.intp))) == 0


def test_a_repr_says_nothing_about_rows_and_records_can_be_pickled():
    for thing in (RECORDS, Table.encode(RECORDS)):
        assert repr(thing) in ("Records(table='t')", "Table(table='t')")
        assert len(pickle.loads(pickle.dumps(thing))) == 5


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_leading_zeros_survive(tmp_path, suffix):
    codes = Column(name="zip", type="category", values=("00501", "501", "0501", "1e3"))
    schema = Schema(table="t", columns=(codes,))
    path = tmp_path / f"t.{suffix}"
    Records(schema, {"zip": np.array([0, 1, 2, 3], dtype=np.int32)}).write(path)
    assert read(path, schema).records.columns["zip"].tolist() == [0, 1, 2, 3]
    texts = path.read_text().split() if suffix == "csv" else pq.read_table(path)["zip"].to_pylist()
    assert texts[-4:] == ["00501", "501", "0501", "1e3"]
