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
from dpsynth.reading import OpenRows, RawRows, files
from dpsynth.reading.block import Block, batch_block, wanted_columns
from dpsynth.reading.first_rows import Glance, glance_of
from dpsynth.reading.storage import storage_kind
from dpsynth.schema import Schema
from dpsynth.schema.quoting import quoted

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


def columns(address: str) -> tuple[pa.Schema, str]:
    """Names and storage types of a table's columns, and the table's own name; no row is asked for.

    Raises:
        DataFileError, UsageError: as `check_header`.
    """
    table = _Table.at(address)
    return table.columns(), table.names[-1]


def glance(address: str, rows: int) -> dict[str, Glance]:
    """The first rows of a table, at most so many, by column; nothing of a column or table that cannot be read.

    Privacy: as `reading.first_rows.glance`.
    """
    try:
        table = _Table.at(address)
        names = [field.name for field in table.columns() if storage_kind(field.type) is not None]
        batch = next(table.batches(names), None)
        return dict.fromkeys(names, Glance([], 0)) if batch is None else glance_of(batch.slice(0, rows))
    except (DataFileError, pa.ArrowException):
        return {}


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
        for batch in table.batches(wanted_columns(schema)):
            yield batch_block(batch, schema)
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
        yield from connection.sql(_selected(table, names)).to_arrow_reader(files.BLOCK_ROWS)


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
"""Arrow types of PostgreSQL's; others cannot be modelled. Texts stay bytes: what is no valid text must not be an error.

They are asked for in UTF-8, whatever the address or the environment says: another encoding lacks characters, and a row with
one of those would end the release. A database that checks no texts (SQL_ASCII) hands out its bytes.
"""
_IN_UTF8 = (
    "SELECT set_config('client_encoding', CASE current_setting('server_encoding') WHEN 'SQL_ASCII' THEN 'SQL_ASCII' "
    "ELSE 'UTF8' END, false)"
)
_NOTHING = pa.struct([])  # of which no column can be made
_AS_BYTES = ("text", "varchar", "bpchar", "name", "uuid")


@contextmanager
def _postgresql(table: _Table) -> Iterator[psycopg.Connection[Any]]:
    try:
        import psycopg
        from psycopg.adapt import Loader
    except ImportError:
        raise UsageError("reading from PostgreSQL needs psycopg: pip install 'dpsynth[postgres]'") from None

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
                connection.adapters.register_loader(name, _as_bytes())
            for name in ("date", "timestamp", "timestamptz"):
                connection.adapters.register_loader(name, AsTime)
            connection.execute("SET datestyle TO 'ISO'; SET timezone TO 'UTC'")
            connection.execute(_IN_UTF8)
            yield connection
    except (psycopg.Error, UnicodeError):
        raise DataFileError(
            f"{table.shown} cannot be read from PostgreSQL: check the address, the password, the table and its rights"
        ) from None


def _as_bytes() -> type[Any]:
    """Loads a text as the bytes that it is."""
    from psycopg.adapt import Loader

    class AsBytes(Loader):
        def load(self, data: Any) -> bytes:
            return bytes(data)

    return AsBytes


def _postgresql_columns(table: _Table) -> pa.Schema:
    with _postgresql(table) as connection:
        return pa.schema([(name, kind or _NOTHING) for name, kind in _kinds(connection, _selected(table))])


def _kinds(connection: psycopg.Connection[Any], query: str) -> list[tuple[str, pa.DataType | None]]:
    """The columns of a query and their Arrow types; None where none fits.

    Types that a database adds count as texts where PostgreSQL counts them among texts or enumerations, such as `citext`;
    they are then loaded as such on this connection.
    """
    types, columns = connection.adapters.types, connection.execute(f"{query} LIMIT 0".encode()).description or ()
    added = [column.type_code for column in columns if types.get(column.type_code) is None]
    texts = connection.execute("SELECT oid FROM pg_type WHERE oid = ANY(%s) AND typcategory IN ('E', 'S')", [added])
    as_texts = {oid for (oid,) in texts}
    for oid in as_texts:
        connection.adapters.register_loader(oid, _as_bytes())
    named = [(column.name, column.type_code, types.get(column.type_code)) for column in columns]
    return [
        (name, pa.binary() if oid in as_texts else _ARROW.get(info.name) if info else None) for name, oid, info in named
    ]


def _postgresql_batches(table: _Table, names: list[str]) -> Iterator[pa.RecordBatch]:
    with _postgresql(table) as connection:
        kinds = [kind for _, kind in _kinds(connection, _selected(table, names))]
        yield from _fetched(connection, _selected(table, names), names, kinds)


def _fetched(
    connection: psycopg.Connection[Any], query: str, names: list[str], kinds: list[pa.DataType | None]
) -> Iterator[pa.RecordBatch]:
    """What a query gives, block by block, by a cursor of the server."""
    with connection.cursor(name="dpsynth") as cursor:
        cursor.execute(query.encode())
        while rows := cursor.fetchmany(files.BLOCK_ROWS):
            cells = zip(*rows, strict=True)
            arrays = [
                pa.array([_decimal(cell) for cell in column] if kind == pa.string() else column, type=kind)
                for column, kind in zip(cells, kinds, strict=True)
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
