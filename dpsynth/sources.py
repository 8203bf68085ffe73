"""Where a private table lies: a file, or a table of a DuckDB file or a PostgreSQL server.

    visits.csv, visits.parquet
    duckdb:///path/to/visits.db?table=visits
    postgresql://user@host/database?table=visits        anything else that libpq's addresses may say; `table=schema.name`

Rows of a database become Arrow batches and go through the same cell functions as a file's (`dpsynth.reading`). Before a
reservation only names and storage types of columns are looked at; connections are read-only. An address may hold a
password, so no message quotes one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from dpsynth import reading
from dpsynth.addresses import POSTGRESQL, split_off
from dpsynth.errors import DataFileError, OperationError, UsageError
from dpsynth.reading import Block, OpenRows, RawRows
from dpsynth.schema import Schema, quoted

if TYPE_CHECKING:
    import duckdb
    import psycopg

Data: TypeAlias = Path | str
"""A path, or an address with `://` in it."""

_GONE = "the database did not answer to the end, or its table was changed meanwhile: nothing can be said about its rows"
_PATIENCE_S = 10  # for a server to accept a connection


def located(text: str) -> Data:
    """A path or an address, from what stands on a command line."""
    return text if is_address(text) else Path(text)


def is_address(data: Data) -> bool:
    """Whether this names a database, and no file."""
    return isinstance(data, str) and "://" in data


def check_header(data: Data, schema: Schema) -> None:
    """Looks at the names and storage types of a source's columns, and at no row.

    Raises:
        DataFileError: there is no such source, or its columns are not the schema's.
        UsageError: the address is misspelled, or needs a package that is not installed.
    """
    if not is_address(data):
        reading.check_header(data, schema)
        return
    table = _Table.at(str(data))
    reading.check_stored(table.columns(), schema, table.shown)


def read(data: Data, schema: Schema) -> RawRows:
    """Every row of a source that `check_header` accepts.

    Raises:
        OperationError: the disk or the server fails, or the source was damaged or exchanged.
    """
    return reading.read_blocks(blocks(data, schema), schema)


def read_open(data: Data, schema: Schema) -> OpenRows:
    """The same for a schema with columns to be discovered, whose cells stay as they are found.

    Raises:
        OperationError: as `read`.
    """
    return reading.gather(blocks(data, schema), schema)


def blocks(data: Data, schema: Schema) -> Iterator[Block]:
    """The rows of a source as found, block by block, before any rule has been applied.

    Raises:
        OperationError: as `read`.
    """
    if not is_address(data):
        yield from reading.blocks(data, schema)
        return
    try:
        table = _Table.at(str(data))
        reading.check_stored(table.columns(), schema, table.shown)
        for batch in table.batches(reading.wanted_columns(schema)):
            yield reading.batch_block(batch, schema)
    except (DataFileError, pa.ArrowException):
        raise OperationError(_GONE) from None


@dataclass(frozen=True)
class _Table:
    """A table of a database.

    Args:
        names: The table's name, and before it its schema's, if any.
        kind: "duckdb" or "postgresql".
        place: A path, or libpq's address without the table.
    """

    names: tuple[str, ...]
    kind: str
    place: str

    @classmethod
    def at(cls, address: str) -> _Table:
        try:
            place, tables = split_off(address, "table")
            parts = urlsplit(place)
        except ValueError:
            raise UsageError("the address of DATA cannot be read: write it as docs/scaling.md has it") from None
        kind = "postgresql" if parts.scheme in POSTGRESQL else parts.scheme
        if kind not in ("duckdb", "postgresql"):
            raise UsageError("DATA must be a file, or an address that begins with duckdb:// or postgresql://")
        names = tuple(tables[0].split(".")) if len(tables) == 1 else ()
        if not 1 <= len(names) <= 2 or not all(names):
            raise UsageError("the address of DATA must end in ?table=NAME, or ?table=SCHEMA.NAME, once")
        if kind == "duckdb":
            if parts.netloc or parts.query or not parts.path.strip("/"):
                raise UsageError("the address of a DuckDB table is duckdb:///PATH?table=NAME, with three slashes")
            return cls(names, kind, unquote(parts.path))
        return cls(names, kind, place)

    @property
    def shown(self) -> str:
        return f"the table {quoted('.'.join(self.names), 200)}"

    def columns(self) -> pa.Schema:
        """Names and storage types as Arrow has them; no row is asked for."""
        return _COLUMNS[self.kind](self)

    def batches(self, names: list[str]) -> Iterator[pa.RecordBatch]:
        """Rows, block by block."""
        return _BATCHES[self.kind](self, names)


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _selected(table: _Table, names: list[str] | None = None) -> str:
    what = "*" if names is None else ", ".join(map(_identifier, names))
    return f"SELECT {what} FROM {'.'.join(map(_identifier, table.names))}"


# ---- DuckDB ------------------------------------------------------------------------------------------------------


@contextmanager
def _duckdb(table: _Table) -> Iterator[duckdb.DuckDBPyConnection]:
    import duckdb

    if not Path(table.place).is_file():
        raise DataFileError(f"the database file {quoted(table.place, 200)} does not exist")
    try:
        with duckdb.connect(table.place, read_only=True) as connection:
            yield connection
    except duckdb.Error:
        raise DataFileError(
            f"{table.shown} cannot be read: the file is no DuckDB database, holds no such table, or is in use"
        ) from None


def _duckdb_columns(table: _Table) -> pa.Schema:
    with _duckdb(table) as connection:
        return connection.sql(f"{_selected(table)} LIMIT 0").to_arrow_table().schema


def _duckdb_batches(table: _Table, names: list[str]) -> Iterator[pa.RecordBatch]:
    with _duckdb(table) as connection:
        yield from connection.sql(_selected(table, names)).to_arrow_reader(reading.BLOCK_ROWS)


# ---- PostgreSQL --------------------------------------------------------------------------------------------------

_ARROW = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "numeric": pa.string(),
    "text": pa.binary(),
    "varchar": pa.binary(),
    "bpchar": pa.binary(),
    "name": pa.binary(),
    "uuid": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
}
"""Arrow types of PostgreSQL's; others cannot be modelled. Texts stay bytes: what is no valid text must not be an error."""
_NOTHING = pa.struct([])  # of which no column can be made
_AS_BYTES = ("text", "varchar", "bpchar", "name", "uuid")


@contextmanager
def _postgresql(table: _Table) -> Iterator[psycopg.Connection[Any]]:
    try:
        import psycopg
        from psycopg.adapt import Loader
    except ImportError:
        raise UsageError("reading from PostgreSQL needs psycopg: pip install 'dpsynth[postgres]'") from None

    class AsBytes(Loader):
        def load(self, data: Any) -> bytes:
            return bytes(data)

    class AsTime(Loader):
        """In ISO; what Python's calendar does not have, such as infinity, is missing."""

        def load(self, data: Any) -> datetime | None:
            try:
                return datetime.fromisoformat(bytes(data).decode())
            except ValueError:
                return None

    try:
        with psycopg.connect(table.place, connect_timeout=_PATIENCE_S) as connection:
            connection.read_only = True
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            for name in _AS_BYTES:
                connection.adapters.register_loader(name, AsBytes)
            for name in ("date", "timestamp", "timestamptz"):
                connection.adapters.register_loader(name, AsTime)
            connection.execute("SET datestyle TO 'ISO'; SET timezone TO 'UTC'")
            yield connection
    except (psycopg.Error, UnicodeError):
        raise DataFileError(
            f"{table.shown} cannot be read from PostgreSQL: check the address, the password, the table and its rights"
        ) from None


def _postgresql_columns(table: _Table) -> pa.Schema:
    with _postgresql(table) as connection, connection.cursor() as cursor:
        cursor.execute(f"{_selected(table)} LIMIT 0".encode())
        return pa.schema([(name, kind or _NOTHING) for name, kind in _kinds(connection, cursor).items()])


def _kinds(connection: psycopg.Connection[Any], cursor: Any) -> dict[str, pa.DataType | None]:
    """The Arrow type of each column that a cursor stands before; None where none fits."""
    types = connection.adapters.types
    named = {column.name: types.get(column.type_code) for column in cursor.description or ()}
    return {name: None if info is None else _ARROW.get(info.name) for name, info in named.items()}


def _postgresql_batches(table: _Table, names: list[str]) -> Iterator[pa.RecordBatch]:
    with _postgresql(table) as connection, connection.cursor(name="dpsynth") as cursor:
        cursor.execute(_selected(table, names).encode())
        kinds = _kinds(connection, cursor)
        while rows := cursor.fetchmany(reading.BLOCK_ROWS):
            cells = zip(*rows, strict=True)
            arrays = [
                pa.array([_decimal(cell) for cell in column] if kind == pa.string() else column, type=kind)
                for column, kind in zip(cells, kinds.values(), strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, names=names)


def _decimal(found: Decimal | None) -> str | None:
    """A `numeric` without trailing zeros; NaN is missing, as it is in every other store."""
    return None if found is None or found.is_nan() else f"{found.normalize():f}" if found else "0"


_COLUMNS: dict[str, Callable[[_Table], pa.Schema]] = {"duckdb": _duckdb_columns, "postgresql": _postgresql_columns}
_BATCHES: dict[str, Callable[[_Table, list[str]], Iterator[pa.RecordBatch]]] = {
    "duckdb": _duckdb_batches,
    "postgresql": _postgresql_batches,
}
