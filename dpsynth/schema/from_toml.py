"""What the text of a schema declares."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from typing import Any

from dpsynth.errors import SchemaError
from dpsynth.schema.checks import mapping, refuse, require_known
from dpsynth.schema.column import Column
from dpsynth.schema.constraint import Constraint
from dpsynth.schema.quoting import quoted
from dpsynth.schema.read import Read
from dpsynth.schema.vocabulary import DISCOVER, FORMAT

_TOP = ("schema", "status", "table", "neighbours", "unit", "basis", "rows_at_most", "read", "column", "constraint")


def arguments(text: str) -> dict[str, Any]:
    """What a schema is made of, by the names of its fields.

    Raises:
        SchemaError: the text is no TOML or breaks a rule.
    """
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "a number or a nesting is too large"
        raise SchemaError(f"the schema is not valid TOML: {quoted(reason, 200)[1:-1]}") from None
    require_known(data, _TOP, "the schema")
    if data.pop("schema", None) != FORMAT:
        raise SchemaError(f'the schema must say schema = "{FORMAT}"')
    if "table" not in data:
        raise SchemaError("the schema must have a table: declare what the table is called")
    unit = mapping(data.pop("unit", {}), "unit")
    require_known(unit, ("entity", "column", "max_rows", "synthetic"), "unit")
    if unit:
        missing = [key for key in ("entity", "column") if key not in unit]
        if missing:
            refuse("unit", f"{missing[0]} must be declared, or the whole unit left out")
        data |= {"entity": unit["entity"], "unit_column": unit["column"], "max_rows": unit.get("max_rows")}
        data["synthetic_units"] = unit.get("synthetic", False)
    read = mapping(data.pop("read", {}), "[read]")
    require_known(read, ("delimiter", "encoding", "missing"), "[read]")
    declared = data.pop("column", [])
    if not isinstance(declared, list):
        raise SchemaError("each column must be declared as [[column]], in double brackets")
    rules = data.pop("constraint", [])
    if not isinstance(rules, list):
        raise SchemaError("each constraint must be declared as [[constraint]], in double brackets")
    constraints = tuple(_constraint(entry, f"constraint {n}") for n, entry in enumerate(rules, start=1))
    columns = tuple(_column(entry) for entry in declared)
    return data | {"read": Read(**read), "columns": columns, "constraints": constraints}


def _column(entry: object) -> Column:
    data = mapping(entry, "[[column]]")
    name = data.get("name")
    where = f"column {quoted(name)}" if isinstance(name, str) else "[[column]]"
    require_known(data, [f.name for f in fields(Column) if f.name != DISCOVER], where)
    for key in ("name", "type"):
        if key not in data:
            refuse(where, f"{key} must be declared")
    return Column(**data)


def _constraint(entry: object, where: str) -> Constraint:
    data = mapping(entry, where)
    require_known(data, ("rule", "implies", "basis"), where)
    try:
        return Constraint(**data)
    except SchemaError as error:
        raise SchemaError(f"{where}: {error}") from None
