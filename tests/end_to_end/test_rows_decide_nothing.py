"""Whatever the rows hold, `release` ends with the same exit code and the same text (design rule 3)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

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


def test_default_number_of_rows_is_noisy(case, table_rows: Callable[..., list[str]]) -> None:  # type: ignore[no-untyped-def]
    import json

    case.write(table_rows(400))
    seen = set()
    for i in range(3):
        assert case.release("--no-gate", epsilon="0.2", out=case.folder / f"r{i}") == 0
        seen.add(json.loads((case.folder / f"r{i}" / "release" / "manifest.json").read_text())["rows"])
    assert len(seen) > 1
