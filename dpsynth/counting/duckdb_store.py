"""Rows in a DuckDB table on disk: for tables that are larger than memory.

The rows are encoded once, block by block, into a database in a private folder of its own, which is removed with the
store, also after a failure. DuckDB keeps to a memory limit and sorts on disk.

Bounding looks at units with too many rows alone: their rows come out by unit, each with the number of equal rows of the
same unit before it, and a unit keeps those with the smallest lots, as in memory (`dpsynth.split`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from dpsynth.counting.layout import Layout
from dpsynth.counting.sql import SqlStore
from dpsynth.errors import OperationError
from dpsynth.reading.block import Block
from dpsynth.reading.files import BLOCK_ROWS
from dpsynth.schema import Schema
from dpsynth.scratch import Scratch, private_files

_TABLE = "kept_rows"
MEMORY = "1GB"
"""What DuckDB may hold; blocks that are encoded, kept counts and the review sample come on top (docs/scaling.md)."""


class DuckDBStore(SqlStore):
    """All rows in a private database file.

    Args:
        blocks: The rows, as found.
        layout: How to keep them.
    Raises:
        OperationError: the source or the disk fails.
    """

    def __init__(self, blocks: Iterable[Block], layout: Layout) -> None:
        super().__init__(layout, table=_TABLE)
        with _quietly():
            self._scratch = Scratch()
        try:
            with _quietly():
                self._connection = _private_database(self._scratch.path)
                self._fill(blocks)
                if layout.by_unit:
                    self._bound()
                elif layout.holdout:
                    self._split()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if hasattr(self, "_connection"):
            self._connection.close()
        self._scratch.remove()

    def _arrow(self, sql: str) -> pa.Table:
        with self._lock, _quietly():
            return self._connection.sql(sql).to_arrow_table()

    def _fill(self, blocks: Iterable[Block]) -> None:
        self._create(_TABLE, self._layout.arrow)
        for block in blocks:
            self._append(_TABLE, self._layout.batch(block))

    def _create(self, table: str, columns: pa.Schema) -> None:
        self._connection.register("batch", columns.empty_table())
        self._connection.execute(f"CREATE TABLE {table} AS SELECT * FROM batch")
        self._connection.unregister("batch")

    def _append(self, table: str, batch: pa.RecordBatch) -> None:
        self._connection.register("batch", pa.Table.from_batches([batch]))
        self._connection.execute(f"INSERT INTO {table} SELECT * FROM batch")
        self._connection.unregister("batch")

    def _bound(self) -> None:
        """Takes out what a unit has beyond its `max_rows`."""
        most = self._layout.schema.unit.max_rows
        said = ", ".join(self._layout.values)
        batches = self._streamed(
            f"SELECT rowid AS place, who, {said}, row_number() OVER (PARTITION BY who, {said}) - 1 AS occurrence "
            f"FROM {_TABLE} WHERE who IN (SELECT who FROM {_TABLE} GROUP BY who HAVING count(*) > {most}) ORDER BY who"
        )
        self._note(_surplus(batches, self._layout, most))
        self._connection.execute(f"DELETE FROM {_TABLE} WHERE rowid IN (SELECT place FROM noted)")
        self._connection.execute("DROP TABLE noted")

    def _split(self) -> None:
        """Draws the side of each row that is its own unit: by content, equal rows told apart by their number."""
        said = ", ".join(self._layout.values)
        batches = self._streamed(
            f"SELECT rowid AS place, {said}, row_number() OVER (PARTITION BY {said}) - 1 AS occurrence FROM {_TABLE}"
        )
        self._note(_places(batch)[self._layout.held_back(batch)] for batch in batches)
        self._connection.execute(f"UPDATE {_TABLE} SET control = true WHERE rowid IN (SELECT place FROM noted)")
        self._connection.execute("DROP TABLE noted")

    def _streamed(self, sql: str) -> Iterator[pa.RecordBatch]:
        """Rows, block by block, on a connection of their own: nothing else runs on it meanwhile."""
        with self._connection.cursor() as other:
            yield from other.sql(sql).to_arrow_reader(BLOCK_ROWS)

    def _note(self, places: Iterable[np.ndarray]) -> None:
        """Keeps places of rows in a table, because they may be many."""
        columns = pa.schema([("place", pa.int64())])
        self._create("noted", columns)
        for chosen in places:
            self._append("noted", pa.RecordBatch.from_arrays([pa.array(chosen)], schema=columns))

    def _complete(self, schema: Schema) -> None:
        with self._lock, _quietly():
            self._create("completed", self._layout.after(schema).arrow)
            for batch in self._streamed(f"SELECT * FROM {_TABLE}"):
                self._append("completed", self._layout.completed(schema, batch))
            self._connection.execute(f"DROP TABLE {_TABLE}")
            self._connection.execute(f"ALTER TABLE completed RENAME TO {_TABLE}")


def _surplus(batches: Iterable[pa.RecordBatch], layout: Layout, most: int) -> Iterator[np.ndarray]:
    """Places of the rows that units lose; rows come by unit, and a unit may reach over many batches.

    In memory are a batch and the rows that the last unit has kept so far.
    """
    last: bytes | None = None
    held: list[tuple[bytes, int]] = []  # of the last unit: lot and place, the smallest lots so far
    for batch in batches:
        lost: list[int] = []
        rows = zip(batch.column("who").to_pylist(), layout.row_lots(batch), _places(batch).tolist(), strict=True)
        for who, lot, place in rows:
            if who != last:
                lost += _beyond(held, most)
                last, held = who, []
            held.append((lot, place))
            if len(held) >= 2 * most + BLOCK_ROWS:
                lost += _beyond(held, most)
        lost += _beyond(held, most)
        yield np.array(lost, dtype=np.int64)


def _beyond(held: list[tuple[bytes, int]], most: int) -> list[int]:
    """Cuts a list to the smallest lots; returns the places of the others."""
    held.sort()
    lost = [place for _, place in held[most:]]
    del held[most:]
    return lost


def _places(batch: pa.RecordBatch) -> np.ndarray:
    return np.asarray(batch.column("place"))


def _private_database(folder: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        str(folder / "rows.duckdb"),
        config={
            "memory_limit": MEMORY,
            "temp_directory": str(folder / "sorting"),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        },
    )
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET preserve_insertion_order = true")
    # The file is removed: putting it in order before would be waste.
    connection.execute("PRAGMA disable_checkpoint_on_shutdown")
    return connection


@contextmanager
def _quietly() -> Iterator[None]:
    """An engine's own words may quote rows. What it writes meanwhile only the user can read."""
    try:
        with private_files():
            yield
    except (duckdb.Error, pa.ArrowException, OSError):
        raise OperationError(
            "the rows could not be kept or counted on disk: is there room in the temporary folder?"
        ) from None
