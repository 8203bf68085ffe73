"""Schema: a table as its owner declares it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpsynth.errors import IncompleteSchema, SchemaError
from dpsynth.privacy import Neighbours, PrivacyUnit
from dpsynth.schema.checks import count_of, name_of, refuse, require_choice, sentence_of
from dpsynth.schema.column import Column
from dpsynth.schema.constraint import Constraint
from dpsynth.schema.quoting import quoted
from dpsynth.schema.read import Read
from dpsynth.schema.to_toml import stated
from dpsynth.schema.vocabulary import DISCOVER, FORMAT, MAX_CELLS, MAX_ROWS, OTHER

if TYPE_CHECKING:
    from dpsynth.constraints import Rules
from dpsynth.schema.from_toml import arguments
from dpsynth.schema.to_toml import toml_text

_SURVIVE_DISCOVERY = (
    "name", "type", "missing", "unknown", "role", "decimals", "per_unit", "atoms", "format", "formats", "cycles",
    "prefix",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Schema:
    """A table as its owner declares it: its columns, whom it protects, and where those facts come from.

    Args:
        table: What the table is called.
        columns: All declared columns, in order.
        neighbours: "add_remove" or "replace".
        entity: What one unit is: "row", or what the unit column identifies.
        unit_column: The column whose value says to which unit a row belongs; None when the unit is a row.
        max_rows: At most this many rows of a unit are used; None while nobody has declared it.
        basis: Where the declared domains come from, for columns that do not say it themselves.
        rows_at_most: A public upper bound on the number of rows.
        status: "draft" until somebody has gone through it.
        read: How a CSV file is to be read.
        constraints: Rules between columns that every synthetic row keeps.
        synthetic_units: Whether synthetic rows belong to synthetic units, named in the unit column.
    """

    table: str
    columns: tuple[Column, ...]
    neighbours: Neighbours = "add_remove"
    entity: str = "row"
    unit_column: str | None = None
    max_rows: int | None = 1
    basis: str | None = None
    rows_at_most: int | None = None
    status: str | None = None
    read: Read = field(default_factory=Read)
    constraints: tuple[Constraint, ...] = ()
    synthetic_units: bool = False

    def __post_init__(self) -> None:
        where = "the schema"
        name_of(self.table, where, "table")
        require_choice(self.neighbours, where, "neighbours", ("add_remove", "replace"))
        object.__setattr__(self, "basis", sentence_of(self.basis, where, "basis"))
        if self.rows_at_most is not None:
            count_of(self.rows_at_most, where, "rows_at_most")
        if self.status not in (None, "draft"):
            refuse(where, 'status must be "draft" or left out')
        object.__setattr__(self, "columns", tuple(self.columns))
        if not self.columns:
            refuse(where, "at least one [[column]] must be declared")
        seen: set[str] = set()
        for column in self.columns:
            if column.name in seen:
                refuse(where, f"column {quoted(column.name)} must be declared once only")
            seen.add(column.name)
        self._check_unit()
        self._check_file_texts()
        if self.is_open:
            self._check_rules_are_closed()
        cells = sum(column.widest().size for column in self.modelled if not column.blanks())
        if cells > MAX_CELLS:
            refuse(where, f"its columns have {cells} cells together, and {MAX_CELLS} are the limit")
        object.__setattr__(self, "constraints", tuple(self.constraints))
        if not any(column.blanks() for column in self.modelled):
            self.widest().rules if self.is_open else self.rules

    def _check_rules_are_closed(self) -> None:
        """What a rule means depends on bounds and values, so those must be known when the schema is checked."""
        from dpsynth.expressions import names_in  # that module builds on this one

        for n, constraint in enumerate(self.constraints, start=1):
            named = names_in(constraint.expression)
            for column in self.columns:
                if column.is_open and column.name in named:
                    refuse(f"constraint {n}", f"{quoted(column.name)} is discovered: declare the columns of a rule")

    def _check_unit(self) -> None:
        name_of(self.entity, "unit", "entity")
        if self.max_rows is not None:
            count_of(self.max_rows, "unit", "max_rows")
            if self.max_rows > MAX_ROWS:
                refuse("unit", f"max_rows must be at most {MAX_ROWS}")
        if not isinstance(self.synthetic_units, bool):
            refuse("unit", "synthetic must be true or false")
        for column in self.columns:
            where = f"column {quoted(column.name)}"
            if column.per_unit and not self.synthetic_units:
                refuse(where, "per_unit is about synthetic units: declare unit = { ..., synthetic = true }")
            if column.name == self.unit_column and column.is_filled and not self.synthetic_units:
                refuse(where, "format of the unit column needs unit = { ..., synthetic = true }")
        if self.unit_column is None:
            if self.entity != "row" or self.max_rows != 1 or self.synthetic_units:
                refuse("unit", "column must name the column that says to whom a row belongs")
            return
        name_of(self.unit_column, "unit", "column")
        if self.entity == "row":
            refuse("unit", 'entity must say what a unit is, such as "person"; rows need no unit column')
        for column in self.columns:
            if column.name == self.unit_column and column.type != "identifier":
                refuse(f"column {quoted(column.name)}", 'type must be "identifier", because it is the unit column')

    def _check_file_texts(self) -> None:
        """A declared text that the reader would take for something else, or that the file cannot hold, is a mistake."""
        for column in self.columns:
            where = f"column {quoted(column.name)}"
            texts = {"values": column.values or (), "true": column.true or (), "false": column.false or ()}
            for key, declared in texts.items():
                if not set(declared).isdisjoint(self.read.missing):
                    refuse(where, f"{key} and the missing marks of [read] must not share a text")
            if column.unknown == OTHER and OTHER in self.read.missing:
                refuse(
                    where,
                    'unknown = "other" needs a category of that name: take "other" out of the missing marks of [read]',
                )
            pattern = tuple(text for text in (column.format, *(column.formats or ())) if text is not None)
            for key, declared in {"name": (column.name,), "format": pattern, **texts}.items():
                try:
                    "".join(declared).encode(self.read.encoding)
                except UnicodeEncodeError:
                    refuse(where, f"{key} must be text that the encoding of [read] can hold")

    @classmethod
    def load(cls, path: str | Path) -> Schema:
        """Reads a schema file.

        Raises:
            SchemaError: it does not exist, is no UTF-8 text, no TOML, or breaks a rule.
        """
        shown = quoted(str(path), 200)
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            raise SchemaError(f"the schema file {shown} does not exist") from None
        except (OSError, ValueError):
            raise SchemaError(f"the schema file {shown} cannot be read as UTF-8 text") from None
        return cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> Schema:
        """Reads the text of a schema.

        Raises:
            SchemaError: it is no TOML or breaks a rule.
        """
        return cls(**arguments(text))

    def to_toml(self) -> str:
        """The schema as TOML; `parse` gives back an equal schema."""
        return toml_text(self._plain())

    def _plain(self) -> dict[str, Any]:
        """The canonical form: what the TOML says, every default written out."""
        unit = {"entity": self.entity, "column": self.unit_column, "max_rows": self.max_rows}
        if self.synthetic_units:
            unit["synthetic"] = True
        columns = [stated({f.name: getattr(column, f.name) for f in fields(Column)}) for column in self.columns]
        for column in columns:
            if "edges" in column:
                del column["minimum"], column["maximum"]
            column |= dict.fromkeys(column.pop("discover"), DISCOVER)
        plain = {
            "schema": FORMAT,
            "status": self.status,
            "table": self.table,
            "neighbours": self.neighbours,
            "unit": stated(unit) if self.unit_column is not None else None,
            "basis": self.basis,
            "rows_at_most": self.rows_at_most,
            "read": {f.name: getattr(self.read, f.name) for f in fields(Read)},
            "column": columns,
            "constraint": [constraint.plain() for constraint in self.constraints] or None,
        }
        return stated(plain)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical form, in hexadecimal: equal for schemas that mean the same."""
        canonical = json.dumps(self._plain(), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()

    @property
    def is_open(self) -> bool:
        """Whether something is still to be discovered, under the budget of a release."""
        return any(column.is_open for column in self.columns)

    def widest(self) -> Schema:
        """The schema as it is if discovery finds as much as it may: for limits, which must not depend on rows."""
        return replace(self, columns=tuple(column.widest() for column in self.columns)) if self.is_open else self

    def completed(self, found: Iterable[Column]) -> Schema:
        """The schema with every open column exchanged for one in which discovery left nothing open."""
        by_name = {column.name: column for column in found}
        columns = tuple(by_name.get(column.name, column) for column in self.columns)
        for old, new in zip(self.columns, columns, strict=True):
            same = {key: getattr(new, key) for key in _SURVIVE_DISCOVERY}
            if old.is_open and (
                not new.is_complete
                or new.size > old.widest().size
                or any(getattr(old, key) != value for key, value in same.items())
            ):
                raise ValueError(f"column {quoted(old.name)} must be completed, and otherwise stay as it is")
            if not old.is_open and new is not old:
                raise ValueError(f"column {quoted(old.name)} was declared: nothing is left to discover")
        return replace(self, columns=columns)

    def released(self) -> Schema:
        """The schema of synthetic rows: the modelled columns, and no unit column, because nobody is in them."""
        return self._without_units(self.modelled)

    def written(self) -> Schema:
        """The schema of a file of synthetic rows as a release writes it: also the columns that are filled."""
        filled = {column.name: column for column in self.filled}
        kept = [
            filled.get(column.name, column) for column in self.columns if column.is_modelled or column.name in filled
        ]
        undeclared = filled.keys() - {column.name for column in kept}
        return self._without_units([*(filled[name] for name in undeclared), *kept])

    def _without_units(self, columns: Iterable[Column]) -> Schema:
        return replace(
            self,
            columns=tuple(replace(column, per_unit=None) if column.per_unit else column for column in columns),
            entity="row",
            unit_column=None,
            max_rows=1,
            synthetic_units=False,
        )

    @property
    def unit(self) -> PrivacyUnit:
        """Whom the guarantee protects.

        Raises:
            IncompleteSchema: nobody has declared how many rows a unit may have.
        """
        if self.max_rows is None:
            raise IncompleteSchema("the unit has no max_rows: declare it")
        return PrivacyUnit(entity=self.entity, max_rows=self.max_rows, neighbours=self.neighbours)

    @cached_property
    def modelled(self) -> tuple[Column, ...]:
        """The columns that a model learns."""
        return tuple(column for column in self.columns if column.is_modelled)

    @cached_property
    def filled(self) -> tuple[Column, ...]:
        """The columns that synthetic rows have with fakes in them; where units are synthetic, the unit column too."""
        if not self.synthetic_units:
            return tuple(column for column in self.columns if column.is_filled)
        own = {column.name: column for column in self.columns}
        name = str(self.unit_column)
        unit = own.pop(name, Column(name=name, type="identifier"))
        ids = replace(unit, per_unit=True, unique=True if unit.is_filled else None)
        declared = [ids if column.name == name else column for column in self.columns]
        among = [column for column in declared if column is ids or column.is_filled]
        return tuple(among if ids in among else [ids, *among])

    @cached_property
    def dropped(self) -> tuple[Column, ...]:
        """The declared columns that no model learns; some of them are filled."""
        return tuple(column for column in self.columns if not column.is_modelled)

    @cached_property
    def lost(self) -> tuple[Column, ...]:
        """The declared columns that synthetic rows do not have."""
        filled = {column.name for column in self.filled}
        return tuple(column for column in self.dropped if column.name not in filled)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the modelled columns."""
        return tuple(column.name for column in self.modelled)

    @cached_property
    def file_names(self) -> tuple[str, ...]:
        """The names that a data file must have, in any order: all declared columns, and the unit column."""
        declared = tuple(column.name for column in self.columns)
        return declared if self.unit_column in (None, *declared) else (*declared, str(self.unit_column))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The number of cells of each modelled column."""
        return tuple(column.size for column in self.modelled)

    @cached_property
    def rules(self) -> Rules:
        """What the constraints say about cells and values.

        Raises:
            SchemaError: a constraint does not fit the columns, or no row can keep it.
        """
        from dpsynth.constraints import Rules  # that module builds on this one

        return Rules.of(self)

    def column(self, name: str) -> Column:
        """The declared column of that name; KeyError if there is none."""
        return {column.name: column for column in self.columns}[name]

    def index(self, name: str) -> int:
        """Where a modelled column stands among the modelled columns; ValueError if it does not."""
        return self.names.index(name)

    def blanks(self) -> list[str]:
        """What must be declared before rows may be read, a sentence each."""
        blanks = [] if self.max_rows is not None else ["the unit has no max_rows"]
        blanks += [blank for column in self.columns for blank in column.blanks()]
        return blanks if self.modelled else [*blanks, "no column is of a type that is modelled"]

    def require_complete(self, *, may_be_draft: bool = False) -> None:
        """Refuses a draft, then a schema with blanks.

        Raises:
            IncompleteSchema: the schema is either.
        """
        if self.status == "draft" and not may_be_draft:
            raise IncompleteSchema('the schema is a draft: go through it, then remove the line status = "draft"')
        blanks = self.blanks()
        if blanks:
            rest = f", and {len(blanks) - 3} more" if len(blanks) > 3 else ""
            raise IncompleteSchema(f"the schema has blanks to fill in: {'; '.join(blanks[:3])}{rest}")

    def require_closed(self) -> None:
        """Refuses a schema that leaves something to discover, where rows are read without a budget for that.

        Raises:
            IncompleteSchema: it does.
        """
        open_ = [quoted(column.name) for column in self.columns if column.is_open]
        if open_:
            raise IncompleteSchema(
                f"the schema leaves {', '.join(open_[:3])} to discover, which a release alone may do: use the schema.toml of "
                "a release, or declare them"
            )

    def basis_gaps(self) -> list[str]:
        """Modelled columns and constraints of which nobody has said where they come from."""
        gaps = [column.name for column in self.modelled if not (column.basis or self.basis)]
        rules = enumerate(self.constraints, start=1)
        return gaps + [f"constraint {n}" for n, constraint in rules if not (constraint.basis or self.basis)]

    def from_data(self) -> list[str]:
        """Modelled columns whose domain somebody read off the data."""
        return [column.name for column in self.modelled if column.source == "data"]

    def distrusted(self) -> Schema:
        """The schema as a release must take it: a domain that some earlier run discovered counts as read off the data.

        Whether a ledger was charged for it, and whose rows it came from, the schema cannot prove.
        """
        columns = (
            replace(column, source="data") if column.source == DISCOVER and not column.is_open else column
            for column in self.columns
        )
        return replace(self, columns=tuple(columns))
