"""Whatever the rows hold, `release` ends with the same exit code and the same text (design rule 3)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsynth import Schema

BIG = "x" * 10_000_000

ROWS: dict[str, bytes] = {
    "no rows": b"",
    "one row": b"p1,30,A,10,yes\n",
    "all missing": b"p1,,,,\np2,,,,\n" * 50,
    "no unit": b",30,A,10,yes\n" * 50,
    "out of bounds": b"p1,-5,A,1e30,yes\np2,1000,B,-7,no\n" * 50,
    "unknown values": b"p1,thirty,Z,many,maybe\n" * 50,
    "not UTF-8": b"p\xff\xfe,30,\xc3\x28,10,yes\n" * 50,
    "NUL bytes": b"p1,3\x000,A,10,yes\n" * 50,
    "a 10 MB cell": b"p1,30,A,10," + BIG.encode() + b"\n",
    "ragged": b"p1\np2,30,A,10,yes,more,and,more\n,\n\n" * 50,
    "an open quote": b'p1,30,"A,10,yes\np2,30,A,10,yes\n' * 50,
    "one person": b"p1,30,A,10,yes\n" * 500,
    "huge exponents": b"p1,1e999999999,A,-1e999999999,yes\n" * 50,
}


@pytest.fixture
def plain(case) -> tuple[int, str, str]:  # type: ignore[no-untyped-def]
    """Exit code and text on an ordinary table."""
    code = case.release("--no-gate", "--rows", 40, "--holdout", "0.4", out=case.folder / "plain")
    assert code == 0, case.stderr
    return code, case.stdout.replace("plain", "OUT"), case.stderr


@pytest.mark.parametrize("name", ROWS)
def test_same_exit_code_and_text(case, plain: tuple[int, str, str], name: str) -> None:  # type: ignore[no-untyped-def]
    case.data.write_bytes(b"who,age,town,cost,ill\n" + ROWS[name])
    code = case.release("--no-gate", "--rows", 40, "--holdout", "0.4", epsilon="0.5", out=case.folder / "odd")
    assert (code, case.stdout.replace("odd", "OUT"), case.stderr) == plain
    assert (case.folder / "odd" / "release" / "synthetic.parquet").is_file()


# ---- a schema with open columns ------------------------------------------------------------------------------------

OPEN = """\
schema = "dpsynth.schema/1"
table  = "visits"
unit   = { entity = "person", column = "who", max_rows = 3 }
basis  = "made for the tests"

[read]
missing = ["", "NA"]

[[column]]
name    = "age"
type    = "integer"
minimum = "discover"
maximum = 99

[[column]]
name   = "town"
type   = "category"
values = "discover"

[[column]]
name    = "cost"
type    = "number"
minimum = "discover"
maximum = "discover"
bins    = "discover"
missing = true

[[column]]
name     = "fee"
type     = "number"
decimals = 2
minimum  = 0.001
maximum  = "discover"
bins     = 5
"""

OPEN_ROWS: dict[str, list[tuple[object, ...]]] = {
    "no rows": [],
    "all unique": [(f"p{n}", n * 7919 % 100, f"town {n}", n * 1.37, n / 100) for n in range(300)],
    "all infinite": [("p1", "1e999", "A", "-1e999", "1e400"), ("p2", "-1e999", "A", "1e999", "1e400")] * 50,
    "one value": [(f"p{n}", 0, "A", 0, 0) for n in range(300)],
    "at both ends of what a float holds": [
        (f"p{n}", 2**53 * (-1) ** n, "A", (5e-324, 1.7e308)[n % 2], "1.7e308") for n in range(300)
    ],
    "all other": [(f"p{n}", 30, "other", 1, 1) for n in range(300)],
    "all missing": [("p1", "", "", "", ""), ("p2", "NA", "NA", "NA", "NA")] * 50,
    "control characters": [(f"p{n}", 30, f"A\x00\x1b[31m\u202e{n % 2}", 1, 1) for n in range(300)],
    "broken characters": [(f"p{n}", 30, "A\udcff\udc80", 1, 1) for n in range(300)],
    "10 MB texts": [("p1", 30, BIG, 1, 1), ("p2", 30, BIG + "y", 1, 1)],
    "what reads like a schema": [
        (f"p{n}", 30, ("discover", "no common value", "'", "\\")[n % 4], 1, 1) for n in range(400)
    ],
}


@pytest.fixture
def open_case(case, table_rows: Callable[..., list[str]]):  # type: ignore[no-untyped-def]
    """The case with an open schema, a ledger for many releases, and what an ordinary table gives: code and text."""
    case.schema.write_text(OPEN, encoding="utf-8")
    words = ("--population", "test", "--epsilon", 9, "--delta", "1e-5", "--unit", "person")
    assert case("ledger", "create", case.folder / "open.ledger", *words) == 0
    lines = [",".join([*line.split(",")[:4], "1.5"]) for line in table_rows(600)]
    case.write(lines, header="who,age,town,cost,fee")
    return case


def open_release(case, data: Path, name: str, *, holdout: str = "0") -> tuple[int, str, str]:  # type: ignore[no-untyped-def]
    code = case(
        "release", data, "--schema", case.schema, "--ledger", case.folder / "open.ledger", "--epsilon", "0.5", "--delta", "1e-6",
        "--out", case.folder / name, "--synthesizer", "independent", "--no-gate", "--rows", 40, "--holdout", holdout,
    )  # fmt: skip
    assert (case.folder / name / "release" / "synthetic.parquet").is_file(), case.stderr
    assert not Schema.load(case.folder / name / "release" / "schema.toml").is_open
    return code, case.stdout.replace(name, "OUT"), case.stderr


def test_same_exit_code_and_text_whatever_is_discovered(open_case) -> None:  # type: ignore[no-untyped-def]
    plain = open_release(open_case, open_case.data.rename(open_case.folder / "plain.csv"), "plain")
    assert plain[0] == 0
    for n, (name, table) in enumerate(OPEN_ROWS.items()):
        data = open_case.folder / "odd.csv"
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("who", "age", "town", "cost", "fee"), *table])
        data.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))
        assert open_release(open_case, data, f"odd{n}") == plain, name


TOWNS: list[list[object]] = [["NA", "A", None], [b"\xff\x00", b"A", b""], [5.0, 0.1, float("nan")], [True, False, None]]


@pytest.mark.slow
def test_parquet_cells_too(open_case) -> None:  # type: ignore[no-untyped-def]
    plain = open_release(open_case, open_case.data, "plain", holdout="0.4")
    for n, town in enumerate(TOWNS):
        columns = {
            "who": [f"p{n}" for n in range(300)],
            "age": pa.array([2**62, -(2**62), None] * 100),
            "town": pa.array(town * 100),
            "cost": pa.array([Decimal("1e30"), Decimal("0.001"), None] * 100, type=pa.decimal256(50, 10)),
            "fee": pa.array([float("inf"), float("nan"), -0.0] * 100),
        }
        data = open_case.folder / "odd.parquet"
        pq.write_table(pa.table(columns), data)
        assert open_release(open_case, data, f"odd{n}", holdout="0.4") == plain, town
        values = Schema.load(open_case.folder / f"odd{n}" / "release" / "schema.toml").column("town").values
        assert values is not None
        assert "NA" not in values


@pytest.mark.usefixtures("seeded_noise")
def test_default_number_of_rows_is_noisy(case, table_rows: Callable[..., list[str]]) -> None:  # type: ignore[no-untyped-def]
    """The numbers of fresh releases deviate by some 120: three would be the same one time in 150,000."""
    import json

    case.write(table_rows(400))
    seen = set()
    for i in range(3):
        assert case.release("--no-gate", epsilon="0.2", out=case.folder / f"r{i}") == 0
        seen.add(json.loads((case.folder / f"r{i}" / "release" / "manifest.json").read_text())["rows"])
    assert len(seen) > 1
