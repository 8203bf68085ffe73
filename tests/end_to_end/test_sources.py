"""Tables of databases: read by the same cell functions as files, refused in one sentence."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from engine_tables import (
    KEY,
    assert_equal_stores,
    assert_finds_what_is_kept,
    assert_rows_are_those_expected,
    made_rows,
    made_schema,
    open_schema,
    opened,
    written,
)

from dpsynth import DataFileError, DpsynthError, OperationError, UsageError, sources
from dpsynth.counting.engines import open_store
from dpsynth.schema import Schema

WRONG = {
    "duckdb:///{folder}/nowhere.duckdb?table=rows": DataFileError,
    "duckdb:///{folder}/rows.parquet?table=rows": DataFileError,
    "duckdb:///{folder}/rows.duckdb?table=other": DataFileError,
    'duckdb:///{folder}/rows.duckdb?table=rows"; DROP TABLE rows; --': DataFileError,
    "duckdb:///{folder}/rows.duckdb": UsageError,
    "duckdb:///{folder}/rows.duckdb?table=": UsageError,
    "duckdb:///{folder}/rows.duckdb?table=a.b.c": UsageError,
    "duckdb:///{folder}/rows.duckdb?table=rows&mode=write": UsageError,
    "duckdb://host/rows.duckdb?table=rows": UsageError,
    "duckdb://?table=rows": UsageError,
    "mysql://host/base?table=rows": UsageError,
    "postgresql://host/base": UsageError,
    "postgresql://someone:hunter2@127.0.0.1:1/base?table=rows": DataFileError,
    "postgresql://127.0.0.1:1/base?table=rows&nonsense=1": DataFileError,
    "postgresql://[::1/base?table=rows": UsageError,
}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return written(tmp_path, made_rows(150, 3), made_schema(max_rows=2))


def in_duckdb(rows: Path) -> str:
    place = rows.with_suffix(".duckdb")
    with duckdb.connect(str(place)) as connection:
        connection.execute(f"CREATE TABLE rows AS SELECT * FROM '{rows}'")
    return f"duckdb://{place}?table=rows"


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
def test_a_table_of_a_duckdb_file_is_the_file_s_rows(rows: Path, engine: str) -> None:
    schema, address = made_schema(max_rows=2), in_duckdb(rows)
    sources.check_header(address, schema)
    assert_equal_stores(
        opened(rows, schema, "memory", holdout=Fraction(1, 3)),
        opened(address, schema, engine, holdout=Fraction(1, 3)),
        schema,
    )


@pytest.mark.parametrize("address", WRONG)
def test_a_wrong_address_is_one_sentence_without_a_password(rows: Path, address: str) -> None:
    in_duckdb(rows)
    if address.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="psycopg is not installed")
    with pytest.raises(WRONG[address]) as error:
        sources.check_header(address.format(folder=str(rows.parent).lstrip("/")), made_schema(max_rows=2))
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)


def test_columns_of_a_table_are_those_of_the_schema(rows: Path) -> None:
    address = in_duckdb(rows)
    with duckdb.connect(str(rows.with_suffix(".duckdb"))) as connection:
        connection.execute("ALTER TABLE rows ADD COLUMN extra INTEGER")
    with pytest.raises(DataFileError, match="extra"):
        sources.check_header(address, made_schema(max_rows=2))
    with pytest.raises(OperationError):  # if it appears between the look and the reading
        sources.read(address, made_schema(max_rows=2))


def test_a_table_of_a_database_is_drafted_and_checked_as_the_file_is(rows: Path, case: Any) -> None:
    address = in_duckdb(rows)
    for words in (["--unit", "who"], ["--unit", "who", "--names-only"]):
        assert case("schema", "draft", rows, *words) == 0, case.stderr
        of_file = case.stdout
        assert case("schema", "draft", address, *words) == 0, case.stderr
        assert case.stdout == of_file
    schema = case.folder / "rows.toml"
    schema.write_text(made_schema(max_rows=2).to_toml(), encoding="utf-8")
    assert case("schema", "check", schema, rows) == 2
    of_file = case.stdout
    assert case("schema", "check", schema, address) == 2
    assert case.stdout == of_file
    assert "rows" in of_file


SECRET = "postgresql://someone:hunter2@127.0.0.1:1/base?table=rows"


@pytest.mark.parametrize(
    "words",
    [
        ("schema", "draft", SECRET),
        ("schema", "check", "{schema}", SECRET),
        ("attack", "--train", SECRET, "--control", SECRET, "--synthetic", SECRET, "--schema", "{schema}"),
        ("audit", "--synthesizer", "independent", "--schema", "{schema}", "--epsilon", "1", "--delta", "1e-6", "--fits",
         "100", "--data", SECRET),
    ],
    ids=lambda words: " ".join(words[:2]),
)  # fmt: skip
def test_no_command_repeats_an_address(case: Any, words: tuple[str, ...]) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    assert case(*(word.format(schema=case.schema) for word in words)) == 2
    assert "hunter2" not in case.stdout + case.stderr
    assert case.stderr.count("\n") == 1


def test_a_release_reads_a_database_and_counts_on_disk(case: Any) -> None:
    with duckdb.connect(str(case.folder / "visits.duckdb")) as connection:
        connection.execute(f"CREATE TABLE visits AS SELECT * FROM read_csv('{case.data}', all_varchar = true)")
    address = f"duckdb://{case.folder / 'visits.duckdb'}?table=visits"
    words = ["--schema", case.schema, "--ledger", case.ledger, "--epsilon", "0.2", "--delta", "1e-7", "--out"]
    mst = ["--synthesizer", "mst", "--no-gate", "--holdout", "0.3"]
    assert case("release", address, *words, case.out, *mst, "--engine", "duckdb") == 0, case.stderr
    assert (case.out / "internal" / "evidence.json").is_file()
    charged, seen = case.extract().charged_nano, case.listing()
    for data, engine, name in (
        (address.replace("=visits", "=other"), "duckdb", "mst"),
        (address, "abacus", "mst"),
        (address, "duckdb", "ardm"),
        (case.data, "spark", "mst"),
    ):
        code = case("release", data, *words, case.folder / "second", "--engine", engine, "--synthesizer", name)
        assert code == 2, case.stderr
        assert case.stderr.count("\n") == 1
    assert (case.extract().charged_nano, case.listing()) == (charged, seen)


def test_a_table_that_changes_after_the_reservation_is_charged(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = case.folder / "visits.duckdb"
    with duckdb.connect(str(place)) as connection:
        connection.execute(f"CREATE TABLE visits AS SELECT * FROM read_csv('{case.data}', all_varchar = true)")
    monkeypatch.setattr(sources, "wanted_columns", lambda schema: ["gone meanwhile"])
    code = case("release", f"duckdb://{place}?table=visits", "--schema", case.schema, "--ledger", case.ledger,
                "--epsilon", "0.2", "--delta", "1e-7", "--out", case.out, "--engine", "duckdb")  # fmt: skip
    assert code == 6
    assert [line for line in case.stderr.splitlines() if "meanwhile" in line] == [case.stderr.splitlines()[-1]]
    assert case.extract().charged_nano > 0
    assert not case.out.exists()


# ---- PostgreSQL --------------------------------------------------------------------------------------------------


def filled(server: str, rows: Path, schema: Schema) -> str:
    import psycopg

    table = pq.read_table(rows)
    kinds = {name: "double precision" if name in ("small", "cents") else "text" for name in table.column_names}
    kinds["wide"] = "numeric"
    with psycopg.connect(server) as connection:
        connection.execute("DROP TABLE IF EXISTS rows")
        connection.execute(f"CREATE TABLE rows ({', '.join(f'{n} {k}' for n, k in kinds.items())})".encode())
        with connection.cursor().copy("COPY rows FROM STDIN") as copy:
            for row in zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True):
                copy.write_row(row)
    return f"{server}&table=public.rows"


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
def test_a_table_of_a_server_is_the_file_s_rows(
    server: str, rows: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpsynth.reading.files.BLOCK_ROWS", 40)
    schema = made_schema(max_rows=2)
    address = filled(server, rows, schema)
    sources.check_header(address, schema)
    store = opened(address, schema, engine, holdout=Fraction(1, 3))
    assert_equal_stores(opened(rows, schema, "memory", holdout=Fraction(1, 3)), store, schema)
    assert_rows_are_those_expected(store, made_rows(150, 3), schema, Fraction(1, 3))
    left_open = open_store(address, open_schema(schema), engine=engine, holdout=Fraction(1, 3), key=KEY)
    assert_finds_what_is_kept(left_open, schema)


@pytest.mark.parametrize(
    ("encoding", "text", "found"), [("UTF8", "€", [0]), ("LATIN1", "é", [1]), ("SQL_ASCII", "é", [1])]
)
def test_no_encoding_of_a_database_or_of_this_side_makes_a_row_an_error(
    server: str, encoding: str, text: str, found: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS other_{encoding}".encode())
        connection.execute(f"CREATE DATABASE other_{encoding} ENCODING '{encoding}' TEMPLATE template0".encode())
    there = server.replace("/postgres?", f"/other_{encoding.lower()}?")
    with psycopg.connect(there) as connection:
        connection.execute("CREATE TABLE rows (letter text)")
        stored = text.encode({"LATIN1": "latin-1"}.get(encoding, "utf-8"))
        place = {"LATIN1": "LATIN1", "UTF8": "UTF8"}.get(encoding, "SQL_ASCII")
        connection.execute("INSERT INTO rows VALUES (convert_from(%s, %s))", [stored, place])
    column = '[[column]]\nname = "letter"\ntype = "category"\nvalues = ["€", "é"]\nunknown = "other"\n'
    schema = Schema.parse(f'schema = "dpsynth.schema/1"\ntable = "rows"\n{column}')
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    assert sources.read(f"{there}&table=rows", schema).records.columns["letter"].tolist() == found


def test_a_server_s_refusals_are_one_sentence(server: str, rows: Path) -> None:
    import psycopg

    schema = made_schema(max_rows=2)
    address = filled(server, rows, schema)
    for wrong in (address.replace("public.rows", "other"), address.replace("/postgres?", "/nowhere?")):
        with pytest.raises(DataFileError):
            sources.check_header(wrong, schema)
    with psycopg.connect(server) as connection:
        connection.execute("ALTER TABLE rows ALTER COLUMN town TYPE point USING NULL")
    with pytest.raises(DataFileError, match="town"):
        sources.check_header(address, schema)


def test_a_server_that_goes_away_in_the_middle(server: str, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg

    monkeypatch.setattr("dpsynth.reading.files.BLOCK_ROWS", 40)
    schema = made_schema(max_rows=2)
    found = sources.blocks(filled(server, rows, schema), schema)
    next(found)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with pytest.raises(DpsynthError) as error:
        list(found)
    assert error.value.exit_code == 6
    assert "\n" not in str(error.value)


def test_dates_and_times_of_a_server_stay_what_they_are(server: str, tmp_path: Path) -> None:
    """With a zone they are taken at UTC; what is in no calendar is missing; other types can be no column."""
    import psycopg

    schema = Schema.parse(
        """schema = "dpsynth.schema/1"
table = "t"
[[column]]
name = "born"
type = "date"
minimum = "1900-01-01"
maximum = "2030-01-01"
missing = true
[[column]]
name = "seen"
type = "datetime"
minimum = "2020-01-01T00:00:00"
maximum = "2021-01-01T00:00:00"
missing = true
"""
    )
    with psycopg.connect(server) as connection:
        connection.execute("DROP TABLE IF EXISTS times")
        connection.execute("CREATE TABLE times (born date, seen timestamptz)")
        connection.execute(
            "INSERT INTO times VALUES ('1999-12-31', '2020-06-01 02:00:00+02'), ('infinity', '2020-06-01 00:00:01Z'), "
            "('0044-03-15 BC', NULL)"
        )
    address = f"{server}&table=times"
    sources.check_header(address, schema)
    columns = sources.read(address, schema).records.columns
    assert columns["born"].tolist()[:1] == [10956.0]
    assert np.isnan(columns["born"]).tolist() == [False, True, True]
    assert np.diff(columns["seen"]).tolist()[:1] == [1.0]
    assert columns["seen"][0] == 1590969600
    with psycopg.connect(server) as connection:
        connection.execute("ALTER TABLE times ALTER COLUMN born TYPE json USING NULL")
    with pytest.raises(DataFileError, match="born"):
        sources.check_header(address, schema)


def test_enumerations_and_texts_that_a_database_adds_are_texts(server: str) -> None:
    import psycopg

    column = '[[column]]\nname = "{}"\ntype = "category"\nvalues = ["low", "Hoch"]\nmissing = true\n'
    schema = Schema.parse('schema = "dpsynth.schema/1"\ntable = "t"\n' + column.format("level") + column.format("own"))
    with psycopg.connect(server) as connection:
        connection.execute("DROP TABLE IF EXISTS added; DROP DOMAIN IF EXISTS own_text; DROP TYPE IF EXISTS level")
        connection.execute("CREATE TYPE level AS ENUM ('low', 'Hoch'); CREATE DOMAIN own_text AS text")
        connection.execute("CREATE TABLE added (level level, own own_text)")
        connection.execute("INSERT INTO added VALUES ('Hoch', 'low'), (NULL, 'Hoch'), ('low', NULL)")
    address = f"{server}&table=added"
    sources.check_header(address, schema)
    columns = sources.read(address, schema).records.columns
    assert (columns["level"].tolist(), columns["own"].tolist()) == ([1, 2, 0], [0, 1, 2])
    with psycopg.connect(server) as connection:
        connection.execute("ALTER TABLE added ALTER COLUMN own TYPE interval USING NULL")
    with pytest.raises(DataFileError, match="own"):
        sources.check_header(address, schema)
