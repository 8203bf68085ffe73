"""Files as the world makes them: refused before the reservation by one sentence, or read without a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dpsynth.errors import DataFileError
from dpsynth.reading import RawRows, check_header, read
from dpsynth.schema import Column, Schema
from dpsynth.table import Table

SCHEMA = Schema(
    table="visits",
    columns=(
        Column(name="age", type="integer", minimum=0, maximum=120, missing=True),
        Column(name="cost", type="number", minimum=0, maximum=1000, missing=True),
        Column(name="ward", type="category", values=("A", "B"), missing=True),
        Column(name="notes", type="text"),
    ),
    entity="person",
    unit_column="pid",
    max_rows=2,
)
HEADER = b"pid,age,cost,ward,notes\n"
GOOD = b"p1,30,12.5,A,fine\n"

ROWS = {
    "no rows": (b"", 0),
    "one row": (GOOD, 1),
    "all missing": (b"p1,,,,\np2,,,,\n", 2),
    "all unit ids missing": (b",30,1,A,x\n,31,1,A,x\n", 0),
    "out of bounds": (b"p1,999,-5,A,x\np2,-999,1e308,B,x\n", 2),
    "huge exponents": (b"p1,1e999999999,1e-999999999,A,x\n", 1),
    "not numbers": (b"p1,old,cheap,Z,x\n", 1),
    "nan and inf": (b"p1,nan,inf,nan,nan\n", 1),
    "bytes that are no UTF-8": (b"p1,\xff,\xfe,\xc3,\xff\xfe\n" + GOOD, 2),
    "a cell of 10 MB": (b"p1,30,1,A," + b"x" * 10**7 + b"\n" + GOOD, 2),
    "a number of 10 MB": (b"p1,30," + b"9" * 10**7 + b",A,x\n" + GOOD, 2),
    "a quoted cell of 10 MB with line ends": (b'p1,30,1,A,"' + b"line\n" * 2 * 10**6 + b'"\n' + GOOD, 2),
    "NUL bytes": (b"p1,3\x000,\x00,A\x00,\x00\n\x00\n" + GOOD, 2),
    "ragged rows": (b"p1\np1,30\np1,30,1,A,x,extra\n,,,,,,,,\n" + GOOD, 1),
    "unterminated quote": (b'p2,31,1,B,"oops\n' + GOOD * 3, 3),
    "quote in the middle": (b'p2,31,1,B,5" pipe\n' + GOOD, 2),
    "closing quote in the wrong place": (b'"p2"x,31,1,B,x\n' + GOOD, 1),
    "Windows line ends": (b"p1,30,12.5,A,fine\r\np2,31,1,B,x\r\n", 2),
    "blank lines": (b"\n\n" + GOOD + b"\r\n\n", 1),
    "no line end at the end": (GOOD[:-1], 1),
    "formulas and markup": (b"=1+1,30,1,<script>,=cmd\n", 1),
    "only separators": (b",,,,\n" * 3, 0),
}


@pytest.mark.slow
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("name", ROWS)
def test_whatever_the_rows_hold_they_are_read(tmp_path, name, start):
    content, count = ROWS[name]
    path = tmp_path / "visits.csv"
    path.write_bytes(start + HEADER + content)
    check_header(path, SCHEMA)
    rows = read(path, SCHEMA)
    assert len(rows.records) == len(rows.unit_ids or []) == count
    assert Table.encode(rows.records).codes.shape == (count, 3)


def test_reading_prints_nothing_whatever_the_rows_hold(tmp_path):
    """Warnings of libraries on the way would say something about the rows."""
    (tmp_path / "schema.toml").write_text(SCHEMA.to_toml())
    for number, (content, _) in enumerate(ROWS.values()):
        (tmp_path / f"{number}.csv").write_bytes(HEADER + content[:10_000])
    frame = pd.DataFrame(
        {
            "pid": ["p"] * 3,
            "age": [np.nan, 1e300, -1],
            "cost": [np.inf, -np.inf, np.nan],
            "ward": [None] * 3,
            "notes": "",
        }
    )
    frame.to_parquet(tmp_path / "odd.parquet")
    frame.iloc[:0].to_parquet(tmp_path / "none.parquet")
    script = (
        "import sys; from pathlib import Path; from dpsynth.schema import Schema; from dpsynth.reading import read\n"
        "from dpsynth.table import Table; import numpy as np\n"
        "schema = Schema.load(Path(sys.argv[1]) / 'schema.toml')\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    if path.suffix != '.toml':\n"
        "        Table.encode(read(path, schema).records).decode(rng=np.random.default_rng(0)).to_frame()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", script, str(tmp_path)], capture_output=True, check=True
    )
    assert done.stdout == done.stderr == b""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "blank"),
        (b"\n" + HEADER, "blank"),
        (GOOD, "none of the schema's columns"),
        (b"pid,age,cost,ward\n", "lacks 'notes'"),
        (b"pid,age,cost,ward,notes,extra\n", "'extra', which the schema does not declare"),
        (b"pid,age,age,cost,ward,notes\n", "more than one column 'age'"),
        (b"pid,age,cost,ward,<img src=x>,notes\n", "'<img src=x>'"),
        (b"pid,age,cost,ward,=cmd|' /C calc'!A0,notes\n", "does not declare"),
        (b"pid,age,cost,ward,\x1b[2J,notes\n", "'\\x1b[2J'"),
        (b"pid,age,cost,ward,\xe2\x80\xaeevil,notes\n", "'\\u202eevil'"),
        (b"pid,age,cost,ward,\xff,notes\n", "'\\udcff'"),
        (b'pid,age,cost,ward,"notes\n', "no complete CSV record"),
        (b"pid,age,cost,ward,notes\x00\n", "lacks 'notes'"),
        ("pid,age,cost,ward,notes\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path, content, words):
    path = tmp_path / "visits.csv"
    path.write_bytes(content)
    with pytest.raises(DataFileError) as caught:
        check_header(path, SCHEMA)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


def test_only_a_header_is_a_table(tmp_path):
    for content in (HEADER, HEADER.strip(), HEADER.strip() + b"\r\n"):
        (tmp_path / "visits.csv").write_bytes(content)
        check_header(tmp_path / "visits.csv", SCHEMA)
        assert len(read(tmp_path / "visits.csv", SCHEMA).records) == 0


def test_the_check_before_the_reservation_reads_no_row(tmp_path):
    """Two files that differ in their rows, even in whether they can be decoded, are accepted or refused alike."""
    for header in (HEADER, b"pid,age\n", b"\n"):
        answers = set()
        for rows in (b"", GOOD, b"\xff\x00\n", b'"' * 99):
            (tmp_path / "visits.csv").write_bytes(header + rows)
            try:
                check_header(tmp_path / "visits.csv", SCHEMA)
                answers.add("accepted")
            except DataFileError as error:
                answers.add(str(error))
        assert len(answers) == 1


def test_removing_a_row_removes_that_row(tmp_path):
    lines = [GOOD, b"p2,31,1,B,\xff\n", b'p3,32,2,A,"two\nlines"\n', b"p4,x,y,z,\n", b'p5,200,5,B,5" pipe\n']

    def rows(chosen: list[bytes]) -> RawRows:
        path: Path = tmp_path / "visits.csv"
        path.write_bytes(HEADER + b"".join(chosen))
        return read(path, SCHEMA)

    everything = rows(lines)
    assert everything.unit_ids == [b"p1", b"p2", b"p3", b"p4", b"p5"]
    for gone in range(len(lines)):
        kept = np.arange(len(lines)) != gone
        found = rows([line for line, stays in zip(lines, kept, strict=True) if stays])
        assert np.array_equal(Table.encode(found.records).codes, Table.encode(everything.records).codes[kept])
