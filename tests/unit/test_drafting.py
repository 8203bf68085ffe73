"""Drafts: from names and storage types alone, never an observed value, and never usable as they are."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsynth.drafting import draft
from dpsynth.errors import DataFileError, IncompleteSchema
from dpsynth.schema import Schema

NAMES = "person_id,First Name,e-mail,homePhone,SSN,iban,age,sex,ZIP,dob,annual_income,diagnosis,is_smoker,education,visits,notes,mystery"


def drafted(path: Path, unit: str | None = None) -> Schema:
    text = draft(path, unit=unit)
    schema = Schema.parse(text)
    with pytest.raises(IncompleteSchema, match="draft"):
        schema.require_complete()
    return schema


def test_a_csv_draft_follows_the_names(tmp_path):
    path = tmp_path / "visits.csv"
    path.write_text(f"{NAMES}\n{','.join(['1'] * 17)}\n")
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
        "dob": ("text", "quasi_identifier"),
        "annual_income": ("number", "sensitive"),
        "diagnosis": ("category", "sensitive"),
        "is_smoker": ("boolean", "sensitive"),
        "education": ("ordinal", "quasi_identifier"),
        "visits": ("integer", "sensitive"),
        "notes": ("text", "other"),
        "mystery": ("category", "other"),
    }
    blanks = schema.blanks()
    assert blanks[0] == "the unit has no max_rows"
    assert "column 'age' has no minimum" in blanks
    assert "column 'mystery' has no values" in blanks


def test_a_parquet_draft_follows_the_storage_types(tmp_path):
    path = tmp_path / "visits.parquet"
    columns = {
        "level": pa.array([1]), "share": pa.array([0.5]), "flag": pa.array([True]), "word": pa.array(["x"]),
        "day": pa.array([date(2020, 1, 1)]), "many": pa.array([[1]]), "gone": pa.nulls(1), "k": pa.array([7], pa.uint8()),
        "coded": pa.array(["x"]).dictionary_encode(),
    }  # fmt: skip
    pq.write_table(pa.table(columns), path)
    schema = drafted(path)
    assert {column.name: column.type for column in schema.columns} == {
        "level": "ordinal", "share": "number", "flag": "boolean", "word": "category", "day": "text", "many": "text",
        "gone": "category", "k": "integer", "coded": "category",
    }  # fmt: skip
    assert schema.unit_column is None
    assert "[read]" not in draft(path)


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
