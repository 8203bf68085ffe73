"""Drafts: from names and storage types alone, never an observed value, and never usable as they are."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsynth.drafting import draft
from dpsynth.errors import DataFileError, IncompleteSchema
from dpsynth.schema import Schema

NAMES = "person_id,First Name,e-mail,homePhone,SSN,iban,age,sex,ZIP,dob,annual_income,diagnosis,is_smoker,education,visits,notes,mystery"


def drafted(path: Path, unit: str | None = None, *, names_only: bool = False) -> Schema:
    text = draft(path, unit=unit, names_only=names_only)
    schema = Schema.parse(text)
    with pytest.raises(IncompleteSchema, match="draft"):
        schema.require_complete()
    return schema


def test_a_csv_draft_follows_the_names(tmp_path):
    path = tmp_path / "visits.csv"
    path.write_text(f"{NAMES}\n{','.join(['x'] * 17)}\n")
    schema = drafted(path, unit="person_id")
    assert (schema.table, schema.unit_column, schema.max_rows, schema.neighbours) == (
        "visits",
        "person_id",
        None,
        "add_remove",
    )
    assert {column.name: (column.type, column.role) for column in schema.columns} == {
        "person_id": ("identifier", "direct_identifier"),
        "First Name": ("identifier", "direct_identifier"),
        "e-mail": ("identifier", "direct_identifier"),
        "homePhone": ("identifier", "direct_identifier"),
        "SSN": ("identifier", "direct_identifier"),
        "iban": ("identifier", "direct_identifier"),
        "age": ("integer", "quasi_identifier"),
        "sex": ("category", "quasi_identifier"),
        "ZIP": ("category", "quasi_identifier"),
        "dob": ("date", "quasi_identifier"),
        "annual_income": ("number", "sensitive"),
        "diagnosis": ("category", "sensitive"),
        "is_smoker": ("boolean", "sensitive"),
        "education": ("ordinal", "quasi_identifier"),
        "visits": ("integer", "sensitive"),
        "notes": ("text", "other"),
        "mystery": ("category", "other"),
    }
    assert schema.blanks() == ["the unit has no max_rows", "column 'education' has no values"]
    assert {column.name: column.discover for column in schema.columns if column.is_open} == {
        **dict.fromkeys(["age", "dob", "annual_income", "visits"], ("minimum", "maximum", "bins")),
        **dict.fromkeys(["sex", "ZIP", "diagnosis", "mystery"], ("values",)),
    }
    assert "saves budget" in draft(path)


def test_a_parquet_draft_follows_the_storage_types(tmp_path):
    path = tmp_path / "visits.parquet"
    columns = {
        "level": pa.array([1]), "share": pa.array([0.5]), "flag": pa.array([True]), "word": pa.array(["x"]),
        "day": pa.array([date(2020, 1, 1)]), "when": pa.array([1], pa.timestamp("us", "UTC")), "many": pa.array([[1]]), "gone": pa.nulls(1), "k": pa.array([7], pa.uint8()),
        "coded": pa.array(["x"]).dictionary_encode(),
    }  # fmt: skip
    pq.write_table(pa.table(columns), path)
    schema = drafted(path)
    assert {column.name: column.type for column in schema.columns} == {
        "level": "ordinal", "share": "number", "flag": "boolean", "word": "category", "day": "date", "when": "datetime",
        "many": "text", "gone": "category", "k": "integer", "coded": "category",
    }  # fmt: skip
    assert schema.blanks() == ["column 'level' has no values"]
    assert all(schema.column(name).is_open for name in ("share", "word", "day", "when", "gone", "k", "coded"))
    assert schema.unit_column is None
    assert "[read]" not in draft(path)


def test_a_draft_without_blanks_is_still_a_draft(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("age,town\n1,x\n")
    text = draft(path)
    schema = drafted(path)
    assert not schema.blanks()
    with pytest.raises(IncompleteSchema, match="is a draft"):
        schema.require_complete()
    done = Schema.parse("".join(line for line in text.splitlines(keepends=True) if not line.startswith("status")))
    done.require_complete()
    assert done.is_open


def test_what_points_at_a_person_is_never_left_to_discovery(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(f"{NAMES}\n{','.join(['x'] * 17)}\n")
    roles = {column.role for column in drafted(path).columns if column.is_open}
    assert roles == {"quasi_identifier", "sensitive", "other"}


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("time_in_hospital", ["1", "3", "14"], "integer"),
        ("time", ["1", "3", "14"], "integer"),
        ("created", ["1.5", "2.25"], "number"),
        ("updated", ["1600000000", "1700000000"], "integer"),
        ("time", ["2020-01-31 12:00:00"], "datetime"),
        ("date", ["20200131", "19991231"], "date"),
        ("date", ["2020-01-31", "14"], "date"),
        ("date", [], "date"),
        ("days_since_date", ["2020-01-31"], "date"),
    ],
)
def test_numbers_are_no_times_whatever_the_name_says(tmp_path, name, values, expected):
    path = tmp_path / "t.csv"
    path.write_text("\n".join([f"{name},b", *(f"{value},1" for value in values)]) + "\n")
    assert drafted(path).column(name).type == expected
    pq.write_table(pa.table({name: pa.array(values, pa.string())}), tmp_path / "t.parquet")
    assert drafted(tmp_path / "t.parquet").column(name).type == expected
    pq.write_table(pa.table({name: pa.array([1], pa.int64())}), tmp_path / "t.parquet")
    assert drafted(tmp_path / "t.parquet").column(name).type == "integer"


def test_a_span_of_time_is_none_by_its_name_alone(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("time_in_hospital,event_time\n1,x\n")
    assert [column.type for column in Schema.parse(draft(path, names_only=True)).columns] == ["category", "datetime"]


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("paid", ["$3,000.00", "-$5.00", "($12.50)"], ("number", "$1,234.00")),
        ("paid", ["1.234,5 €", "7 €"], ("number", "1.234,0 €")),
        ("paid", ["1.234€", "7€"], ("integer", "1.234€")),
        ("word", ["5.32%", "11.9%"], ("number", "1234.00%")),
        ("word", ["0.125%", "0.250%"], ("number", "1234.000%")),
        ("word", ["12 345", "7"], ("integer", "1 234")),
        ("word", ["1,5", "-2,25"], ("number", "1234,00")),
        ("word", ["1.5", "-2"], ("number", None)),
        ("word", ["15", "-2"], ("integer", None)),
        ("word", ["015", "2"], ("category", None)),
        ("code", ["15", "2"], ("category", None)),
        ("word", ["$", "$5"], ("category", None)),
        ("word", ["$5", "€5"], ("category", None)),
        ("word", ["", "NA"], ("category", None)),
        ("bmi", ["$5", "x"], ("number", None)),
    ],
)
def test_how_numbers_are_written_becomes_a_format(tmp_path, name, values, expected):
    pq.write_table(pa.table({name: pa.array(values, pa.string())}), tmp_path / "t.parquet")
    pd.DataFrame({name: values, "b": "x"}).to_csv(tmp_path / "t.csv", index=False)
    found = drafted(tmp_path / "t.csv").column(name)
    assert (found.type, found.format) == expected
    if name == "word":
        again = drafted(tmp_path / "t.parquet").column(name)
        assert (again.type, again.format) == expected


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("date", ["2020-01-31", "2020-02-01"], None),
        ("date", ["31/01/2020", "02/03/2020"], ("%d/%m/%Y",)),
        ("date", ["01/31/2020", "02/03/2020"], ("%m/%d/%Y",)),
        ("date", ["31/01/2020", "2020-02-01", "02/03/2020", "Feb 01, 2020"], ("%d/%m/%Y", "%Y-%m-%d", "%b %d, %Y")),
        ("date", ["31/01/2020", "soon"], None),
        ("timestamp", ["2020-01-31 10:00:00"], ("%Y-%m-%d %H:%M:%S",)),
        ("timestamp", ["31.01.2020 10:00", "31.01.2020 11:59"], ("%d.%m.%Y %H:%M",)),
    ],
)
def test_how_dates_are_written_becomes_a_format(tmp_path, name, values, expected):
    path = tmp_path / "t.csv"
    pd.DataFrame({name: values, "b": "x"}).to_csv(path, index=False)
    column = drafted(path).column(name)
    assert column.is_time
    assert (column.formats or (column.format and (column.format,))) == expected
    assert not any(value in draft(path) for value in values)
    assert drafted(path, names_only=True).column(name).formats is None


@pytest.mark.parametrize(
    ("name", "cells", "expected"),
    [
        ("dob", pa.array([1], pa.timestamp("us")), "date"),
        ("seen", pa.array([0, 86_400_000, None], pa.timestamp("ms")), "date"),
        ("seen", pa.array([0, 86_400_000_000_000], pa.timestamp("ns", "UTC")), "date"),
        ("seen", pa.array([0, 1], pa.timestamp("ns", "UTC")), "datetime"),
        ("seen", pa.array([], pa.timestamp("us")), "datetime"),
        ("epoch_ms", pa.array([1_600_000_000_000 + 977 * n for n in range(40)]), "integer"),
        ("birth_time", pa.array([1], pa.timestamp("us")), "datetime"),
        ("created", pa.array([1_600_000_000_000_000 + 977 * n for n in range(40)]), "identifier"),
        ("code", pa.array([1_600_000_000_000 + 977 * n for n in range(40)]), "identifier"),
        ("amount", pa.array([2**60 + 977 * n for n in range(40)]), "identifier"),
        ("children", pa.array([float(n % 5) for n in range(40)] + [None]), "integer"),
        ("children", pa.array([1.0, 2.0]), "number"),
        ("answer", pa.array(["Yes ", "no", "N"]), "boolean"),
        ("answer", pa.array(["Yes", "Y"]), "category"),
        ("answer", pa.array(["Yes", "no", "perhaps"]), "category"),
        ("place", pa.array([f"{n}.5,-{n}.25" for n in range(40)]), "identifier"),
        ("place", pa.array([f"{n + 90}.5,-{n}.25" for n in range(40)]), "category"),
    ],
)
def test_values_decide_between_the_types_that_a_name_leaves_open(tmp_path, name, cells, expected):
    pq.write_table(pa.table({name: cells, "b": pa.nulls(len(cells))}), tmp_path / "t.parquet")
    assert drafted(tmp_path / "t.parquet").column(name).type == expected


def test_decimals_are_those_of_the_first_values(tmp_path):
    columns = {
        "cents": [n / 100 for n in range(40)],
        "long": [n / 7 for n in range(40)],
        "tiny": [n * 1e-9 for n in range(40)],
        "with_inf": [0.5] * 39 + [float("inf")],
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    schema = drafted(tmp_path / "t.parquet")
    assert [column.decimals for column in schema.columns] == [2, None, None, 1]
    assert all(column.decimals is None for column in drafted(tmp_path / "t.parquet", names_only=True).columns)


def test_of_a_code_the_first_characters_are_offered(tmp_path):
    (tmp_path / "t.csv").write_text("ZIP,icd_code,town\n01234,A00.1,x\n")
    text = draft(tmp_path / "t.csv")
    assert text.count("# prefix  = 3") == 2
    done = Schema.parse(text.replace("# prefix  = 3", "prefix  = 3"))
    assert [column.prefix for column in done.columns] == [3, 3, None]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_leave_no_trace_in_a_draft(tmp_path, kind):
    """Files that differ in every row give the same draft, byte for byte."""
    texts = set()
    for number, rows in enumerate([["canary-1", "2"], ["zebra", "99999"], []]):
        path = tmp_path / str(number) / f"t.{kind}"
        path.parent.mkdir()
        if kind == "csv":
            path.write_text("word,age\n" + (",".join(rows) + "\n" if rows else ""))
        else:
            word, age = ([rows[0]], [int(rows[1])]) if rows else ([], [])
            pq.write_table(pa.table({"word": pa.array(word, pa.string()), "age": pa.array(age, pa.int64())}), path)
        texts.add(draft(path))
    (text,) = texts
    assert not any(word in text for word in ("canary", "zebra", "99999"))


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("Alice,42", "cell 2 is no name"),
        ("2020-01-31,x", "cell 1 is no name"),
        ("x,alice@example.com", "cell 2 is no name"),
        ("x,,y", "cell 2 is no name"),
        ("x,1.5e3", "cell 2 is no name"),
        ("x,12:30:00", "cell 2 is no name"),
        ("x,x", "two columns of the same name"),
        ("x,\x1b[2J", "control characters"),
        ('x,"y', "no complete CSV record"),
        ("", "blank"),
    ],
)
def test_a_first_line_that_may_be_a_row_is_refused_and_not_quoted(tmp_path, first, words):
    path = tmp_path / "t.csv"
    path.write_text(f"{first}\nrow,row\n")
    with pytest.raises(DataFileError) as caught:
        draft(path)
    message = str(caught.value)
    assert words in message
    assert message.isprintable()
    assert not any(cell in message for cell in ("Alice", "alice", "42", "2020"))


def test_the_first_line_says_delimiter_and_encoding(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("größe;gewicht\n".encode("cp1252"))
    schema = drafted(path)
    assert (schema.read.delimiter, schema.read.encoding, schema.names) == (";", "cp1252", ("größe", "gewicht"))
    path.write_bytes(b"\xef\xbb\xbfa\tb\n")
    assert drafted(path).file_names == ("a", "b")


def test_hostile_names_are_written_as_data(tmp_path):
    names = ['say "hi"', "<script>", "=1+1", "back\\slash", "# no comment", "a = 1", "'''"]
    path = tmp_path / "bad'name\".parquet"
    pq.write_table(pa.table({name: pa.array([1]) for name in names}), path)
    assert [column.name for column in drafted(path).columns] == names


def test_files_that_cannot_be_drafted(tmp_path):
    with pytest.raises(DataFileError, match="does not exist"):
        draft(tmp_path / "absent.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataFileError, match="cannot be opened"):
        draft(tmp_path / "folder.csv")
    (tmp_path / "t.txt").write_text("a\n")
    with pytest.raises(DataFileError, match="must end in"):
        draft(tmp_path / "t.txt")
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(DataFileError, match="no column 'c'"):
        draft(tmp_path / "t.csv", unit="c")
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(DataFileError, match="is empty"):
        draft(tmp_path / "t.csv")
    (tmp_path / "t.parquet").write_text("a")
    with pytest.raises(DataFileError, match="not a complete Parquet file"):
        draft(tmp_path / "t.parquet")


def test_a_look_that_failed_is_not_claimed(tmp_path: Path) -> None:
    path = tmp_path / "mail.parquet"
    pq.write_table(pa.table({"contact": [f"p{n}@example.org" for n in range(500)]}), path, compression="none")
    assert "a look at the first rows" in draft(path)
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * (len(content) // 4) + content[4 + len(content) // 4 :])
    assert "no row was read" in draft(path)
