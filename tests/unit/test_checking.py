"""`schema check` with data: which declared facts the rows break, how often, and no value."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsynth.checking import check
from dpsynth.errors import DataFileError, IncompleteSchema, OperationError
from dpsynth.schema import Schema

SCHEMA = """
schema = "dpsynth.schema/1"
table  = "visits"
unit   = { entity = "person", column = "pid", max_rows = 2 }
rows_at_most = 9

[[column]]
name    = "age"
type    = "integer"
minimum = 0
maximum = 120

[[column]]
name    = "cost"
type    = "number"
minimum = 0
maximum = 1000
missing = true

[[column]]
name    = "ward"
type    = "category"
values  = ["A", "B"]
unknown = "other"

[[column]]
name = "smoker"
type = "boolean"
missing = true
"""
GOOD = "p1,30,12.5,A,true\n"


@pytest.fixture(name="lines")
def _lines(tmp_path):
    def lines(rows: str, schema: str = SCHEMA) -> tuple[str, ...]:
        path = tmp_path / "visits.csv"
        path.write_text("pid,age,cost,ward,smoker\n" + rows)
        report = check(Schema.parse(schema), path)
        assert report.mismatch == bool(report.lines)
        return report.lines

    return lines


def test_rows_that_keep_every_fact_give_no_line(lines):
    assert lines(GOOD + "p2,0,,B,\n") == ()
    assert lines("") == ()


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ("p1,-1,1,A,true\n", "column 'age': below the minimum, moved up to it (1 row)"),
        ("p1,121,1,A,true\np2,1e9,1,A,true\n", "column 'age': above the maximum, moved down to it (2 rows)"),
        ("p1,1.5,1,A,true\n", "column 'age': not a whole number, row dropped (1 row)"),
        ("p1,old,1,A,true\n", "column 'age': not a whole number, row dropped (1 row)"),
        ("p1,,1,A,true\n", "column 'age': missing although missing is not declared, row dropped (1 row)"),
        ("p1,1,cheap,A,true\n", "column 'cost': not a number, taken as missing (1 row)"),
        ("p1,1,1,C,true\n", "column 'ward': not a declared value, taken as \"other\" (1 row)"),
        ("p1,1,1,,true\n", "column 'ward': missing although missing is not declared, taken as \"other\" (1 row)"),
        ("p1,1,1,A,maybe\n", "column 'smoker': not a declared spelling, taken as missing (1 row)"),
        ("p1,1\np1\n", "the file: not a row with one cell for each column, dropped (2 rows)"),
        (",1,1,A,true\n", "unit column 'pid': missing, row dropped (1 row)"),
        (GOOD * 3, "unit column 'pid': more than max_rows rows, surplus rows dropped (1 of 1 units)"),
        ("".join(f"p{n},1,1,A,true\n" for n in range(10)), "the table: more rows than rows_at_most allows (10 rows)"),
    ],
)
def test_each_broken_fact_is_named_and_counted(lines, rows, line):
    assert lines(rows) == (line,)


def test_no_value_is_printed(lines):
    found = "\n".join(lines("p-secret,4242,cheap-secret,ward-secret,maybe-secret\n"))
    assert found
    assert not any(word in found for word in ("secret", "4242"))


def test_parquet_is_checked_too(tmp_path):
    path = tmp_path / "visits.parquet"
    columns = {
        "pid": [1, 2, None],
        "age": [1, 200, 3],
        "cost": [1.0, float("inf"), 2.0],
        "ward": ["A"] * 3,
        "smoker": [True] * 3,
    }
    pq.write_table(pa.table(columns), path)
    assert check(Schema.parse(SCHEMA), path).lines == (
        "column 'age': above the maximum, moved down to it (1 row)",
        "column 'cost': not a number, taken as missing (1 row)",
        "unit column 'pid': missing, row dropped (1 row)",
    )


def test_a_header_that_does_not_fit_is_refused_as_ever(tmp_path):
    path = tmp_path / "visits.csv"
    path.write_text("pid,age\n1,2\n")
    with pytest.raises(DataFileError, match="lacks"):
        check(Schema.parse(SCHEMA), path)


def test_a_draft_can_be_checked_once_it_has_no_blanks(lines):
    draft = SCHEMA.replace("table", 'status = "draft"\ntable', 1)
    assert lines(GOOD, draft) == ()
    with pytest.raises(IncompleteSchema, match="no values"):
        lines(GOOD, draft.replace('values  = ["A", "B"]', ""))


def test_a_damaged_file_is_an_operation_error(tmp_path):
    path = tmp_path / "visits.parquet"
    columns = {
        "pid": [*range(5000)],
        "age": [1] * 5000,
        "cost": [1.0] * 5000,
        "ward": ["A"] * 5000,
        "smoker": [True] * 5000,
    }
    pq.write_table(pa.table(columns), path)
    good = path.read_bytes()
    path.write_bytes(good[:4] + b"\xff" * 500 + good[504:])
    with pytest.raises(OperationError, match="could not be read"):
        check(Schema.parse(SCHEMA), path)
