"""Every engine counts the same rows of the same persons, to the last cell."""

from __future__ import annotations

import os
import stat
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from engine_tables import (
    COLUMNS,
    KEY,
    assert_equal_stores,
    assert_finds_what_is_kept,
    assert_rows_are_those_expected,
    made_rows,
    made_schema,
    open_schema,
    opened,
    persons,
    written,
)

from dpsynth import OperationError, Schema
from dpsynth.counting import duckdb_store, sql
from dpsynth.counting.base import Store
from dpsynth.counting.duckdb_store import DuckDBStore
from dpsynth.counting.engines import open_store
from dpsynth.counting.layout import Layout
from dpsynth.counting.reference import ReferenceCounter
from dpsynth.table import Table

CASES = [(None, "0"), (None, "1/3"), (1, "0"), (2, "1/3"), (3, "1/2")]


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where stores keep their rows; nothing may be left there."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("max_rows", "holdout"), CASES)
def test_rows_on_disk_count_as_in_memory(
    tmp_path: Path, own_temporary_folder: Path, max_rows: int | None, holdout: str, seed: int
) -> None:
    schema = made_schema(max_rows=max_rows, neighbours="replace" if seed else "add_remove")
    path = written(tmp_path, made_rows(90 * (seed + 1), seed), schema)
    memory, disk = (opened(path, schema, engine, holdout=Fraction(holdout)) for engine in ("memory", "duckdb"))
    assert_equal_stores(memory, disk, schema)
    disk.close()
    assert not list(own_temporary_folder.iterdir())


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
@pytest.mark.parametrize(("max_rows", "holdout"), [*CASES, (1000, "1/2")])
def test_rows_are_those_that_a_person_would_find(
    tmp_path: Path, engine: str, max_rows: int | None, holdout: str
) -> None:
    """Read, cleaned, bounded by person and split, against a table of what becomes of each cell that was written by hand."""
    schema, cells = made_schema(max_rows=max_rows), made_rows(150, 11, persons=20)
    store = opened(written(tmp_path, cells, schema), schema, engine, holdout=Fraction(holdout))
    assert_rows_are_those_expected(store, cells, schema, Fraction(holdout))


def test_a_row_of_another_person_would_be_noticed(tmp_path: Path) -> None:
    """A check of the check above."""
    schema, cells = made_schema(max_rows=1000), made_rows(150, 11, persons=20)
    store = opened(written(tmp_path, cells, schema), schema, "memory")
    swapped = cells | {"who": [*cells["who"][1:], cells["who"][0]]}
    with pytest.raises(AssertionError):
        assert_rows_are_those_expected(store, swapped, schema, Fraction(0))


@pytest.mark.parametrize("rows", [0, 1])
def test_tables_of_no_row_and_of_one(tmp_path: Path, rows: int) -> None:
    schema = made_schema(max_rows=2)
    path = written(tmp_path, {name: cells[-rows:] if rows else [] for name, cells in made_rows(9, 1).items()}, schema)
    assert_equal_stores(opened(path, schema, "memory"), opened(path, schema, "duckdb"), schema)


def test_blocks_and_batches_of_a_few_rows_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's rows then reach over many of them."""
    schema = made_schema(max_rows=2)
    path = written(tmp_path, made_rows(200, 4, persons=3), schema)
    memory = opened(path, schema, "memory", holdout=Fraction(1, 2))
    monkeypatch.setattr("dpsynth.reading.files.BLOCK_ROWS", 7)
    monkeypatch.setattr(duckdb_store, "BLOCK_ROWS", 5)
    monkeypatch.setattr(sql, "_SETS", 2)
    monkeypatch.setattr(sql, "_JOINT_CELLS", 30)
    monkeypatch.setattr(sql, "_AT_ONCE", 50)
    monkeypatch.setattr(sql, "_KEPT_CELLS", 20)
    assert_equal_stores(memory, opened(path, schema, "duckdb", holdout=Fraction(1, 2)), schema)


def test_another_key_keeps_and_holds_back_others(tmp_path: Path) -> None:
    """A check of the checks above: they compare rows that the key decides about."""
    schema = made_schema(max_rows=1)
    path = written(tmp_path, made_rows(300, 2), schema)
    one, other = (opened(path, schema, "duckdb", holdout=Fraction(1, 2), key=key).sample() for key in (KEY, bytes(32)))
    assert persons(one.fit) != persons(other.fit)


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
def test_of_a_large_table_a_review_sees_some_persons_and_all_their_rows(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("memory", "sql"):
        monkeypatch.setattr(f"dpsynth.counting.{place}.MOST_PERSONS", 4)
    schema = made_schema(max_rows=3)
    path = written(tmp_path, made_rows(400, 3, persons=40), schema)
    store = opened(path, schema, engine, holdout=Fraction(1, 2))
    sample, everybody = store.sample(), store.everybody()
    assert (sample.fit.persons, sample.control.persons) == (4, 4)
    assert everybody.persons > 10
    assert persons(sample.fit) <= persons(everybody)
    assert store.count(()) == len(everybody.records)
    whole = made_schema(max_rows=None)
    rows = opened(written(tmp_path, made_rows(60, 3), whole), whole, engine, holdout=Fraction(1, 2)).sample()
    assert (rows.fit.persons, rows.control.persons) == (4, 4)


def test_both_engines_review_the_same_persons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("memory", "sql"):
        monkeypatch.setattr(f"dpsynth.counting.{place}.MOST_PERSONS", 5)
    schema = made_schema(max_rows=2)
    path = written(tmp_path, made_rows(300, 8, persons=50), schema)
    one, other = (opened(path, schema, engine).sample() for engine in ("memory", "duckdb"))
    assert persons(one.fit) == persons(other.fit)


@pytest.mark.parametrize("gone", ["p0", "p7", "p31"])
def test_one_person_moves_at_most_one_other_into_or_out_of_a_review(
    tmp_path: Path, gone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no count of persons in it moves by more than one."""
    monkeypatch.setattr("dpsynth.counting.memory.MOST_PERSONS", 15)
    schema = made_schema(max_rows=2)
    cells = made_rows(300, 8, persons=40)
    stays = [who != gone for who in cells["who"]]
    fewer = {name: [c for c, kept in zip(column, stays, strict=True) if kept] for name, column in cells.items()}
    before, after = (
        opened(written(tmp_path, some, schema, name=f"{n}.parquet"), schema, "memory").sample().fit
        for n, some in enumerate((cells, fewer))
    )
    assert (before.persons, after.persons) == (15, 15)
    assert (persons(before) - persons(after)).total() <= 1
    assert (persons(after) - persons(before)).total() <= 1


# ---- passes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("recipe", "passes"), [("independent", 1), ("mst", 2), ("aim", 2), ("wide", 2)])
def test_a_fit_goes_through_the_rows_twice(tmp_path: Path, open_curator: Any, recipe: str, passes: int) -> None:
    """docs/scaling.md says so: once for all single columns, once for every pair, whichever are then measured."""
    from dpsynth import SYNTHESIZERS, Cap, Curator
    from dpsynth.throw_away import ThrowAway

    schema = made_schema(max_rows=2)
    path = written(tmp_path, made_rows(400, 1, persons=200), schema)
    budget = Cap.of("200", "1e-6").cost  # so little noise that cells stand out of it, and pairs are looked at
    curator = Curator.open(path, schema, ThrowAway(budget, unit=schema.unit), engine="duckdb")
    SYNTHESIZERS[recipe]().fit(curator, budget=budget)
    assert curator._store.passes == passes  # type: ignore[attr-defined]
    curator.close()


def test_the_key_stands_in_no_statement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class Listening:
        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            found = getattr(self._connection, name)
            if name not in ("sql", "execute"):
                return (lambda *a: Listening(found(*a))) if name == "cursor" else found
            return lambda text: (said.append(text), found(text))[1]

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None:
            self._connection.close()

    made = duckdb_store._private_database
    monkeypatch.setattr(duckdb_store, "_private_database", lambda folder: Listening(made(folder)))
    key = b"a key that anyone can read......"
    schema = made_schema(max_rows=1)
    path = written(tmp_path, made_rows(80, 1), schema)
    store = opened(path, schema, "duckdb", holdout=Fraction(1, 2), key=key)
    list(store.count_each(list(combinations(range(7), 2))))
    store.sample()
    text = "\n".join(said)
    assert "GROUPING SETS" in text
    assert "ORDER BY who" in text
    for secret in (key.decode(), key.hex(), "p1", "a secret"):
        assert secret not in text


# ---- the folder of rows ------------------------------------------------------------------------------------------


def test_rows_lie_in_a_folder_that_only_we_can_read(tmp_path: Path, own_temporary_folder: Path) -> None:
    schema = made_schema(max_rows=2)
    path = written(tmp_path, made_rows(50, 1), schema)
    old = os.umask(0)
    try:
        store = opened(path, schema, "duckdb")
        list(store.count_each(list(combinations(range(4), 2))))
    finally:
        assert os.umask(old) == 0
    (folder,) = own_temporary_folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"rows.duckdb", "rows.duckdb.wal"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    del store
    assert not list(own_temporary_folder.iterdir())


@pytest.mark.parametrize("place", ["_fill", "_bound"])
def test_a_failure_leaves_no_rows_behind_and_says_nothing_about_them(
    tmp_path: Path, own_temporary_folder: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise duckdb.Error("the cell 'a secret' does not fit")

    monkeypatch.setattr(DuckDBStore, place, broken)
    schema = made_schema(max_rows=2)
    path = written(tmp_path, made_rows(50, 1), schema)
    with pytest.raises(OperationError) as error:
        opened(path, schema, "duckdb")
    assert "secret" not in str(error.value)
    assert not list(own_temporary_folder.iterdir())


# ---- open columns --------------------------------------------------------------------------------------------------


def assert_discovers(cells: dict[str, list[Any]], schema: Schema, store: Store) -> None:
    """Against the cells themselves; no unit is bounded or held back here, and rows without one are out."""
    rows = [n for n in range(len(cells["who"])) if cells["who"][n] and cells["strict"][n] in ("x", "y")]
    rows = [n for n in rows if cells["cents"][n] is not None]
    having: dict[str, set[str]] = {}
    for n in rows:
        if cells["town"][n]:  # a blank text can be no value
            having.setdefault(cells["town"][n], set()).add(cells["who"][n])
    texts, counts = store.distinct("town")
    assert texts == sorted(having)
    assert counts.tolist() == [len(having[text]) for text in texts]
    edges = np.array([-1.0, 0.0, 0.1, 3.3, 10.0])
    numbers = np.array([cells["wide"][n] for n in rows if cells["wide"][n] is not None])
    want = np.histogram(np.clip(numbers, -1, 9.9), edges)[0]
    assert store.histogram("wide", edges).tolist() == want.tolist()
    assert store.histogram("wide", edges[2:4]).tolist() == [len(numbers)]
    with pytest.raises(ValueError, match="not open"):
        store.distinct("strict")


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
def test_what_is_open_is_found_and_then_counts_as_if_it_had_been_declared(tmp_path: Path, engine: str) -> None:
    """Bounding goes by the raw cells, so the settled table is compared where nothing is bounded."""
    schema = made_schema(max_rows=1000)
    cells = made_rows(200, 6)
    path = written(tmp_path, cells, schema)
    store = open_store(path, open_schema(schema), engine=engine, holdout=Fraction(0), key=KEY)
    with pytest.raises(ValueError, match="discover first"):
        store.count((0,))
    assert_discovers(cells, schema, store)
    store.settle(schema)
    assert_equal_stores(opened(path, schema, "memory"), store, schema)


@pytest.mark.parametrize("seed", range(3))
def test_engines_discover_the_same_with_the_same_key(tmp_path: Path, seed: int) -> None:
    """Bounded and held back by the raw cells, then settled: the same rows stay, on the same side."""
    schema = made_schema(max_rows=2)
    path = written(tmp_path, made_rows(300, seed), schema)
    stores = [
        open_store(path, open_schema(schema), engine=engine, holdout=Fraction(1, 3), key=KEY)
        for engine in ("memory", "duckdb")
    ]
    found = [(store.distinct("town"), store.histogram("wide", np.array([-5.0, 0.0, 1.0, 9.0]))) for store in stores]
    assert found[0][0][0] == found[1][0][0]
    assert found[0][0][1].tolist() == found[1][0][1].tolist()
    assert found[0][1].tolist() == found[1][1].tolist()
    for store in stores:
        store.settle(schema)
    assert stores[0].unit_sizes().tolist() == stores[1].unit_sizes().tolist()
    assert_equal_stores(*stores, schema)


@pytest.mark.parametrize("engine", ["memory", "duckdb"])
@pytest.mark.parametrize(("max_rows", "holdout"), [(1, "0"), (2, "1/3"), (1000, "1/2")])
def test_discovery_asks_about_the_rows_that_are_kept(tmp_path: Path, engine: str, max_rows: int, holdout: str) -> None:
    schema = made_schema(max_rows=max_rows)
    path = written(tmp_path, made_rows(300, 12, persons=40), schema)
    store = open_store(path, open_schema(schema), engine=engine, holdout=Fraction(holdout), key=KEY)
    assert_finds_what_is_kept(store, schema)


def test_open_columns_are_bounded_by_what_their_cells_say(tmp_path: Path) -> None:
    schema = made_schema(max_rows=2)
    path = written(tmp_path, made_rows(200, 6), schema)
    store = open_store(path, open_schema(schema), engine="duckdb", holdout=Fraction(1, 3), key=KEY)
    assert max(store.distinct("town")[1]) <= 12
    store.settle(schema)
    found = store.sample()
    assert max(np.bincount(found.fit.person)) == 2
    closed = opened(path, schema, "memory", holdout=Fraction(1, 3)).sample()
    assert found.fit.persons == closed.fit.persons  # sides go by the unit alone
    assert len(found.fit.records) == len(closed.fit.records)
    reference = ReferenceCounter(Table.encode(found.fit.records))
    assert np.array_equal(store.count((1, 3)), reference.count((1, 3)))


def test_a_layout_keeps_a_value_only_where_its_cell_does_not_say_it() -> None:
    layout = Layout(made_schema(max_rows=2), key=KEY, holdout=Fraction(0))
    assert [name for name in layout.values if name.startswith("v")] == ["v1", "v2", "v3", "v4"]
    assert {str(field.type) for field in layout.arrow if field.name.startswith("c") and field.name != "control"} == {
        "uint8"
    }
    assert len(COLUMNS) == 10
