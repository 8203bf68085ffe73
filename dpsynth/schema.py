"""Column and Schema: everything about a table that is public, read from TOML and checked strictly.

A schema is written by a person and never learned from rows. What it leaves open stays open (`blanks`); what it says
wrongly is refused in one sentence that names the column and the key. Everything else in dpsynth sees the table only
through it.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dpsynth.binning import DEFAULT_BINS, LARGEST_INTEGER, ONE_CELL_EACH, Bins
from dpsynth.dates import CYCLES, DAY, TIMES, Clock
from dpsynth.errors import IncompleteSchema, SchemaError, UsageError
from dpsynth.figures import Figures
from dpsynth.patterns import KINDS, NEVER_UNIQUE, Pattern
from dpsynth.privacy import Neighbours, PrivacyUnit, exact

if TYPE_CHECKING:
    from dpsynth.constraints import Rules
    from dpsynth.expressions import Expression

FORMAT = "dpsynth.schema/1"
NUMERIC = ("integer", "number", *TIMES)
CATEGORICAL = ("category", "ordinal")
DROPPED = ("identifier", "text")
TYPES = (*NUMERIC, *CATEGORICAL, "boolean", *DROPPED)
ROLES = ("direct_identifier", "quasi_identifier", "sensitive", "other")
DISCOVER = "discover"
TRUE_TEXTS = ("true", "True", "TRUE", "1")
FALSE_TEXTS = ("false", "False", "FALSE", "0")
OTHER = "other"

MAX_DECIMALS = 15
MAX_COLUMN_CELLS = 2**16
MAX_DISCOVERED = 256
"""Values that discovery may find in a column, at most."""
MAX_CELLS = 2**20
MAX_ROWS = 10**6
MAX_TURNS = 2**20

_ENCODINGS = {"utf-8", "ascii", *(f"iso8859-{n}" for n in range(1, 17)), *(f"cp{n}" for n in range(1250, 1259))}
_TOP = ("schema", "status", "table", "neighbours", "unit", "basis", "rows_at_most", "read", "column", "constraint")
_OF_EVERY_COLUMN = {"name", "type", "role", "basis", "source", "missing", "discover"}
_OF_TYPE = {
    "integer": {"minimum", "maximum", "bins", "edges", "atoms", "unknown", "per_unit", "format"},
    "number": {"minimum", "maximum", "bins", "edges", "atoms", "unknown", "per_unit", "format", "decimals"},
    "date": {"minimum", "maximum", "bins", "edges", "atoms", "unknown", "per_unit", "format", "formats", "cycles"},
    "datetime": {"minimum", "maximum", "bins", "edges", "atoms", "unknown", "per_unit", "format", "formats", "cycles"},
    "category": {"values", "unknown", "per_unit"},
    "ordinal": {"values", "unknown", "per_unit"},
    "boolean": {"true", "false", "unknown", "per_unit"},
    "identifier": {"format", "unique", "locale", "per_unit"},
    "text": set[str](),
}
_DISCOVERABLE = dict.fromkeys(NUMERIC, ("minimum", "maximum", "bins")) | {"category": ("values",)}
_FIRST_YEAR, _LAST_YEAR = 1800, 2200  # between which dates are discovered
_SURVIVE_DISCOVERY = (
    "name", "type", "missing", "unknown", "role", "decimals", "per_unit", "atoms", "format", "formats", "cycles",
)  # fmt: skip
_LOCALE = re.compile("[a-z]{2,3}(_[A-Z]{2})?")
_NOT_PLAIN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def quoted(text: str, limit: int = 80) -> str:
    """A public name in quotes, on one line and not too long, whatever it contains."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return f"'{shown}'" if len(text) <= limit else f"'{shown[:limit]}...'"


def is_plain(text: str) -> bool:
    """Whether a name can be shown as it is: no control characters, no marks that reorder text, no lone surrogates."""
    return not _NOT_PLAIN.search(text)


@dataclass(frozen=True, kw_only=True)
class Read:
    """How a CSV file is to be read. Parquet needs none of it.

    Args:
        delimiter: One character between cells.
        encoding: UTF-8 or a one-byte encoding, so that a broken character cannot spill into the next line.
        missing: Cell texts that mean "missing".
    """

    delimiter: str = ","
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        where = "[read]"
        _text(self.delimiter, where, "delimiter")
        if len(self.delimiter) != 1 or self.delimiter not in "\t !#$%&*,/:;<=>?@\\^_`|~":
            _refuse(where, "delimiter must be one character such as a comma, a semicolon, a tab or a bar")
        _text(self.encoding, where, "encoding")
        try:
            name = codecs.lookup(self.encoding).name.removesuffix("-sig")
        except (LookupError, ValueError):
            name = ""
        if name not in _ENCODINGS:
            _refuse(where, "encoding must be utf-8, ascii, iso-8859-1 to -16 or cp1250 to cp1258; convert other files")
        object.__setattr__(self, "encoding", name)
        object.__setattr__(self, "missing", _texts(self.missing, where, "missing", may_be_empty=True))


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column, as its owner declares it. Design.md 3 says what each key means.

    What a key leaves out is filled in where a default is public knowledge: `unknown` ("other" where values
    are discovered, else "missing" where missing is allowed, else "drop_row"), the spellings of a boolean. Bounds and
    values have no default: they are blanks, unless they are in `discover`, which in TOML is said by the word "discover"
    in their place.

    Bounds, edges and atoms of dates and times are texts in ISO 8601, whatever their `format` says about files.
    """

    name: str
    type: str
    minimum: int | float | str | None = None
    maximum: int | float | str | None = None
    bins: int | None = None
    edges: tuple[int | float | str, ...] | None = None
    atoms: tuple[int | float | str, ...] | None = None
    values: tuple[str, ...] | None = None
    missing: bool = False
    source: str = "declared"
    unknown: str | None = None
    role: str = "other"
    true: tuple[str, ...] | None = None
    false: tuple[str, ...] | None = None
    format: str | None = None
    formats: tuple[str, ...] | None = None
    unique: bool | None = None
    locale: str | None = None
    per_unit: bool | None = None
    cycles: tuple[str, ...] | None = None
    decimals: int | None = None
    basis: str | None = None
    discover: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _name(self.name, "[[column]]", "name")
        where = self._where
        _choice(self.type, where, "type", TYPES)
        allowed = _OF_EVERY_COLUMN | _OF_TYPE[self.type]
        for key in (f.name for f in fields(self)):
            if key not in allowed and getattr(self, key) is not None:
                _refuse(where, f"{key} does not apply to a column of type {self.type}")
        self._check_discovery()
        _choice(self.source, where, "source", ("declared", "data", DISCOVER))
        _choice(self.role, where, "role", ROLES)
        if not isinstance(self.missing, bool):
            _refuse(where, "missing must be true or false")
        self._set("basis", _sentence(self.basis, where, "basis"))
        for key in ("per_unit", "unique"):
            if not isinstance(getattr(self, key), bool | None):
                _refuse(where, f"{key} must be true or false")
        if self.type == "identifier":
            self._check_format()
        if self.type in NUMERIC:
            self._check_numbers()
        elif self.type in CATEGORICAL and self.values is not None:
            self._set("values", _names(self.values, where, "values"))
        elif self.type == "boolean":
            self._check_spellings()
        if self.is_modelled:
            self._check_unknown()
            if self.is_complete and self.size > MAX_COLUMN_CELLS:
                _refuse(where, f"it has {self.size} cells, more than {MAX_COLUMN_CELLS}: declare fewer, wider bins")

    def _check_discovery(self) -> None:
        where = self._where
        allowed = _DISCOVERABLE.get(self.type, ())
        for key in ("minimum", "maximum", "bins", "edges", "values"):
            if getattr(self, key) == DISCOVER:
                self._set(key, None)
                self._set("discover", (*self.discover, key))
        for key in self.discover:
            if key not in allowed:
                _refuse(where, f"{key} of a column of type {self.type} cannot be discovered: declare it")
            if getattr(self, key) is not None:
                _refuse(where, f"{key} must be declared or discovered, not both")
        self._set("discover", tuple(key for key in allowed if key in self.discover))
        if self.discover and self.role == "direct_identifier":
            _refuse(where, "what identifies a person is not discovered: make it an identifier, or give it another role")
        if "values" in self.discover and self.unknown == "drop_row":
            _refuse(
                where,
                'unknown must be "other" or "missing" where values are discovered: rare ones would lose their row',
            )
        if self.discover and self.edges is not None:
            _refuse(where, "edges leave nothing to discover: declare one or the other")

    def _check_numbers(self) -> None:
        where = self._where
        if self.formats is not None:
            if self.format is not None:
                _refuse(where, "format and formats exclude each other: declare one of them")
            self._set("formats", _names(self.formats, where, "formats"))
        if not self.is_time and self.format is not None:
            self._check_figures()
        if self.is_time:
            try:
                self.clock  # noqa: B018 - made once, and refused here if it cannot be
            except ValueError as error:
                _refuse(where, str(error))
        if self.cycles is not None:
            known = [cycle for cycle in CYCLES if cycle != "hour" or self.type == "datetime"]
            self._set("cycles", _texts(self.cycles, where, "cycles"))
            if not set(self.cycles) <= set(known):
                _refuse(where, f"cycles of a {self.type} column must be among {', '.join(known)}")
        for key in ("minimum", "maximum"):
            if getattr(self, key) is not None:
                self._set(key, self._number(getattr(self, key), key))
        if self.bins is not None:
            _count(self.bins, where, "bins")
            if self.bins > MAX_COLUMN_CELLS:
                _refuse(where, f"bins must be at most {MAX_COLUMN_CELLS}")
        if self.edges is not None:
            if self.bins is not None:
                _refuse(where, "bins and edges exclude each other: declare one of them")
            edges = self._numbers(self.edges, "edges", least=2)
            if any(self.step(a) >= self.step(b) for a, b in pairwise(edges)):
                _refuse(where, "edges must increase from each to the next")
            for key, which, edge in (("minimum", "first", edges[0]), ("maximum", "last", edges[-1])):
                if getattr(self, key) not in (None, edge):
                    _refuse(where, f"{key} must be left out or equal the {which} edge")
                self._set(key, edge)
            self._set("edges", edges)
        if self.atoms is not None:
            self._set("atoms", tuple(sorted(set(self._numbers(self.atoms, "atoms", least=1)), key=self.step)))
        if self.decimals is not None and (type(self.decimals) is not int or not 0 <= self.decimals <= MAX_DECIMALS):
            _refuse(where, f"decimals must be a whole number from 0 to {MAX_DECIMALS}")
        if self.is_open:
            self._check_reach()
        if self.type == "integer":
            for key in ("minimum", "maximum"):
                if isinstance(getattr(self, key), float):
                    _refuse(where, f"{key} of an integer column must be a whole number up to 2^53")
        if self.minimum is not None and self.maximum is not None:
            low, high = self.step(self.minimum), self.step(self.maximum)
            if low > high or (self.type == "number" and low == high):
                _refuse(where, "minimum must lie below maximum")
            if self.is_time and not (self.clock.can_write(low) and self.clock.can_write(high)):
                _refuse(where, "format must hold the whole year: between minimum and maximum, %y is not enough")
            if self.cycles and (high - low) // self.clock.turn(self.cycles) > MAX_TURNS:
                _refuse(where, f"cycles are for at most {MAX_TURNS} days, or hours, between minimum and maximum")
            try:
                self.binning  # noqa: B018 - computed once, and refused here if it cannot be
            except ValueError as error:
                _refuse(where, str(error))
            decimals = 0 if self.type == "integer" else self.decimals
            if self.discover and decimals is not None:
                low, high = (exact(bound) * 10**decimals for bound in (self.minimum, self.maximum))
                if math.floor(high) <= math.ceil(low):
                    _refuse(where, "its bounds leave no two values, and so nothing to discover: take bins out")

    def _check_figures(self) -> None:
        """The decimals that a format shows are those of the column."""
        where = self._where
        try:
            shown = Figures(_name(self.format, where, "format")).decimals
        except ValueError as error:
            _refuse(where, str(error))
        if self.type == "integer" and shown:
            _refuse(where, 'format of an integer column must show no decimals, or else type must be "number"')
        if self.type == "number":
            if self.decimals not in (None, shown):
                _refuse(where, "format and decimals must agree: leave decimals out")
            self._set("decimals", shown)

    def _check_format(self) -> None:
        where = self._where
        if self.locale is not None and not _LOCALE.fullmatch(_text(self.locale, where, "locale")):
            _refuse(where, 'locale must be a language and a country, such as "de_DE"')
        if self.format is None:
            if self.unique or self.locale is not None:
                _refuse(where, "unique and locale apply to a column of fakes: declare its format")
            return
        if _name(self.format, where, "format") in KINDS:
            if self.unique and self.format in NEVER_UNIQUE:
                _refuse(where, f"unique does not apply to the format {self.format}, which many people share")
            return
        if self.locale is not None:
            _refuse(where, "locale does not apply to a pattern")
        try:
            Pattern.parse(self.format)
        except ValueError as error:
            _refuse(where, str(error))

    def _check_reach(self) -> None:
        """Refuses what could keep discovery from a domain: after the budget is reserved it would depend on the rows."""
        where, (low, high) = self._where, self.reach
        for key in ("minimum", "maximum"):
            bound = getattr(self, key)
            if bound is not None and not low <= self.step(bound) <= high:
                limit = (
                    f"lie from {self.literal(low)} to {self.literal(high)}"
                    if self.is_time
                    else f"be at most {high:g} in size"
                )
                _refuse(where, f"{key} must {limit} where bounds or bins are discovered")
        low = low if self.minimum is None else self.step(self.minimum)
        high = high if self.maximum is None else self.step(self.maximum)
        if low > high and None not in (self.minimum, self.maximum):
            return  # which is refused where nothing is open, too
        scale = 10 ** (self.grid or 0)
        values = math.floor(exact(high) * scale) - math.ceil(exact(low) * scale) + 1
        if low >= high or (self.grid is not None and values < 2):
            _refuse(where, "its declared bounds must leave something to discover")
        if self.is_time and self.cycles and (high - low) // self.clock.turn(self.cycles) > MAX_TURNS:
            _refuse(where, "the cycle of hours is too long for discovered bounds: declare minimum and maximum")
        if self.atoms is not None:
            try:
                atoms = [self.step(atom) for atom in self.atoms]
                Bins.of(minimum=low, maximum=high, bins=1, decimals=self.grid, atoms=atoms)
            except ValueError as error:
                _refuse(where, str(error))

    def _number(self, value: object, key: str) -> int | float | str:
        """A bound in its one spelling: a number, or a date or time in ISO 8601."""
        if not self.is_time:
            return _number(value, self._where, key)
        example = "2020-01-31" if self.type == "date" else "2020-01-31T12:00:00"
        try:
            number = self.clock.number(value)
        except ValueError:
            number = Fraction(1, 2)
        if number.denominator != 1:
            unit = {DAY: "", 1: "", 60: ", on a whole minute", 3_600: ", on a whole hour"}[self.clock.unit]
            _refuse(self._where, f'{key} must be a {self.type} such as "{example}"{unit}')
        return self.clock.iso(int(number))

    def _numbers(self, values: object, key: str, *, least: int) -> tuple[int | float | str, ...]:
        if not isinstance(values, list | tuple) or len(values) < least:
            _refuse(self._where, f"{key} must be a list of at least {'two numbers' if least == 2 else 'one number'}")
        if len(values) > MAX_COLUMN_CELLS:
            _refuse(self._where, f"{key} must be at most {MAX_COLUMN_CELLS}")
        return tuple(self._number(value, key) for value in values)

    def _check_spellings(self) -> None:
        where = self._where
        if (self.true is None) != (self.false is None):
            _refuse(where, "true and false must be declared together")
        self._set("true", _texts(self.true or TRUE_TEXTS, where, "true"))
        self._set("false", _texts(self.false or FALSE_TEXTS, where, "false"))
        if set(self.true or ()) & set(self.false or ()):
            _refuse(where, "true and false must not share a spelling")

    def _check_unknown(self) -> None:
        where = self._where
        if self.unknown is None:
            self._set("unknown", OTHER if "values" in self.discover else "missing" if self.missing else "drop_row")
        _choice(self.unknown, where, "unknown", ("missing", "other", "drop_row"))
        if self.unknown == "missing" and not self.missing:
            _refuse(where, 'unknown = "missing" needs missing = true')
        if self.unknown == "other":
            if self.type not in CATEGORICAL:
                _refuse(where, f'unknown = "other" does not apply to a column of type {self.type}')
            if OTHER in (self.values or ()):
                _refuse(where, 'unknown = "other" adds a category of that name: take "other" out of values')

    def _set(self, key: str, value: object) -> None:
        object.__setattr__(self, key, value)

    @property
    def _where(self) -> str:
        return f"column {quoted(self.name)}"

    @property
    def is_modelled(self) -> bool:
        """Whether the type is one that a model learns; identifiers and texts are dropped, or filled with fakes."""
        return self.type not in DROPPED

    @property
    def is_filled(self) -> bool:
        """Whether synthetic rows have the column, with fakes in it that owe nothing to the data."""
        return self.type == "identifier" and self.format is not None

    @property
    def is_numeric(self) -> bool:
        return self.type in NUMERIC

    @property
    def is_time(self) -> bool:
        return self.type in TIMES

    @cached_property
    def clock(self) -> Clock:
        """How the dates or times of a column are counted and written."""
        if not self.is_time:
            raise TypeError(f"{self._where} holds no dates or times")
        first, *others = self.formats or (self.format,)
        return Clock(self.type, first, tuple(str(other) for other in others))

    @cached_property
    def figures(self) -> Figures | None:
        """How the numbers of a column are written as text; None for plainly, and for what is no number."""
        return Figures(self.format) if self.type in ("integer", "number") and self.format is not None else None

    @property
    def grid(self) -> int | None:
        """Decimals of the grid on which values lie, 0 for integers, dates and times; None for a continuous column."""
        return self.decimals if self.type == "number" else 0

    def step(self, bound: int | float | str) -> int | float:
        """The number that a declared bound stands for."""
        return int(self.clock.number(bound)) if isinstance(bound, str) else bound

    def literal(self, value: float) -> float | str:
        """A number of this column as an expression spells it: of dates and times, their ISO 8601 text."""
        return self.clock.iso(value) if self.is_time else value

    @cached_property
    def binning(self) -> Bins:
        """The bins of a numeric column.

        Raises:
            IncompleteSchema: its bounds are blank.
        """
        if not self.is_numeric:
            raise TypeError(f"{self._where} is not numeric")
        if self.minimum is None or self.maximum is None:
            raise IncompleteSchema(self._not_known())
        return Bins.of(
            minimum=self.step(self.minimum),
            maximum=self.step(self.maximum),
            bins=self.bins,
            edges=None if self.edges is None else [self.step(edge) for edge in self.edges],
            decimals=self.grid,
            atoms=[self.step(atom) for atom in self.atoms or ()],
        )

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """What the cells of a category, ordinal or boolean column are called; the missing cell has no name."""
        if self.type == "boolean":
            return ("false", "true")
        if self.values is None:
            raise IncompleteSchema(self._not_known())
        return (*self.values, OTHER) if self.unknown == "other" else self.values

    @cached_property
    def size(self) -> int:
        """The number of cells, "other" and missing included."""
        return (self.binning.size if self.is_numeric else len(self.labels)) + self.missing

    @property
    def missing_code(self) -> int | None:
        """The code of a missing value, always the last; None where missing is not allowed."""
        return self.size - 1 if self.missing else None

    @property
    def other_code(self) -> int | None:
        """The code of an undeclared value where those are a category of their own."""
        return len(self.labels) - 1 if self.unknown == "other" else None

    @property
    def reach(self) -> tuple[float, float]:
        """The smallest and the largest bound that discovery finds or works with."""
        if not self.is_time:
            largest = min(1e15, LARGEST_INTEGER / 4.0 / 10.0 ** (self.decimals or 0))
            return -largest, largest
        first, last = (_FIRST_YEAR, _LAST_YEAR) if self.clock.can_write(self.step("1800-01-01")) else (1969, 2069)
        return self.step(f"{first}-01-01"), self.step(f"{last}-01-01") - 1

    @property
    def is_open(self) -> bool:
        """Whether something about the column is still to be discovered, under the budget of a release."""
        return bool(self.discover)

    @property
    def is_complete(self) -> bool:
        """Whether its cells are known: nothing is blank, and nothing is left to discover."""
        return not self.is_open and not self.blanks()

    def blanks(self) -> list[str]:
        """Facts that nobody has declared yet and nobody asked to discover, a sentence each."""
        wanted = ("minimum", "maximum") if self.is_numeric else ("values",) if self.type in CATEGORICAL else ()
        return [
            f"{self._where} has no {key}" for key in wanted if getattr(self, key) is None and key not in self.discover
        ]

    def _not_known(self) -> str:
        blanks = self.blanks()
        return (
            f"{blanks[0]}: declare it" if blanks else f"{self._where} has a domain still to be discovered: declare it"
        )

    def widest(self) -> Column:
        """The column as it is if discovery finds as much as it may: for limits, which must not depend on rows."""
        if not self.is_open:
            return self
        if not self.is_numeric:
            return replace(self, discover=(), values=tuple(f"value {n}" for n in range(MAX_DISCOVERED)))
        cells = self.bins or (DEFAULT_BINS if self.type == "number" else ONE_CELL_EACH)
        cells += 2 * len(self.atoms or ())  # each may be cut out of the middle of a bin
        facts: dict[str, Any] = {"minimum": 0, "maximum": cells - (self.type == "integer")}
        if self.is_time:
            clock = Clock(self.type)
            facts = {"minimum": clock.iso(0), "maximum": clock.iso(cells - 1), "format": None}
        return replace(self, discover=(), **facts, bins=cells, atoms=None, decimals=None)


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A public rule between columns, which every synthetic row keeps. `dpsynth.constraints` says what it may say.

    Args:
        rule: What no row may contradict; or else
        implies: {"if": ..., "then": ...}: rows for which the first is true, and of which the second is not false.
        basis: Where the rule comes from.
    """

    rule: str | None = None
    implies: Mapping[str, str] | None = None
    basis: str | None = None

    def __post_init__(self) -> None:
        if (self.rule is None) == (self.implies is None):
            raise SchemaError("it must have either a rule or implies = { if = ..., then = ... }")
        if self.rule is not None:
            object.__setattr__(self, "rule", _expression(self.rule, "rule"))
        else:
            implies = _mapping(self.implies, "implies")
            _known(implies, ("if", "then"), "implies")
            for key in ("if", "then"):
                if key not in implies:
                    _refuse("implies", f"{key} must be declared")
            object.__setattr__(self, "implies", {key: _expression(implies[key], key) for key in ("if", "then")})
        if self.basis is not None:
            object.__setattr__(self, "basis", _sentence(self.basis, "[[constraint]]", "basis"))

    @property
    def expression(self) -> Expression:
        """What no row may contradict; without "if", or with "then"."""
        from dpsynth.expressions import Not, Or, parse  # that module builds on this one

        if self.implies is None:
            return parse(str(self.rule))
        return Or((Not(parse(self.implies["if"])), parse(self.implies["then"])))

    @property
    def text(self) -> str:
        """The rule in one line, for people."""
        return str(self.rule) if self.implies is None else f"if {self.implies['if']} then {self.implies['then']}"

    def plain(self) -> dict[str, Any]:
        """What the TOML says, in one spelling."""
        return _stated({"rule": self.rule, "implies": self.implies, "basis": self.basis})


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
        _name(self.table, where, "table")
        _choice(self.neighbours, where, "neighbours", ("add_remove", "replace"))
        object.__setattr__(self, "basis", _sentence(self.basis, where, "basis"))
        if self.rows_at_most is not None:
            _count(self.rows_at_most, where, "rows_at_most")
        if self.status not in (None, "draft"):
            _refuse(where, 'status must be "draft" or left out')
        object.__setattr__(self, "columns", tuple(self.columns))
        if not self.columns:
            _refuse(where, "at least one [[column]] must be declared")
        seen: set[str] = set()
        for column in self.columns:
            if column.name in seen:
                _refuse(where, f"column {quoted(column.name)} must be declared once only")
            seen.add(column.name)
        self._check_unit()
        self._check_file_texts()
        if self.is_open:
            self._check_rules_are_closed()
        cells = sum(column.widest().size for column in self.modelled if not column.blanks())
        if cells > MAX_CELLS:
            _refuse(where, f"its columns have {cells} cells together, and {MAX_CELLS} are the limit")
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
                    _refuse(f"constraint {n}", f"{quoted(column.name)} is discovered: declare the columns of a rule")

    def _check_unit(self) -> None:
        _name(self.entity, "unit", "entity")
        if self.max_rows is not None:
            _count(self.max_rows, "unit", "max_rows")
            if self.max_rows > MAX_ROWS:
                _refuse("unit", f"max_rows must be at most {MAX_ROWS}")
        if not isinstance(self.synthetic_units, bool):
            _refuse("unit", "synthetic must be true or false")
        for column in self.columns:
            where = f"column {quoted(column.name)}"
            if column.per_unit and not self.synthetic_units:
                _refuse(where, "per_unit is about synthetic units: declare unit = { ..., synthetic = true }")
            if column.name == self.unit_column and column.is_filled and not self.synthetic_units:
                _refuse(where, "format of the unit column needs unit = { ..., synthetic = true }")
        if self.unit_column is None:
            if self.entity != "row" or self.max_rows != 1 or self.synthetic_units:
                _refuse("unit", "column must name the column that says to whom a row belongs")
            return
        _name(self.unit_column, "unit", "column")
        if self.entity == "row":
            _refuse("unit", 'entity must say what a unit is, such as "person"; rows need no unit column')
        for column in self.columns:
            if column.name == self.unit_column and column.type != "identifier":
                _refuse(f"column {quoted(column.name)}", 'type must be "identifier", because it is the unit column')

    def _check_file_texts(self) -> None:
        """A declared text that the reader would take for something else, or that the file cannot hold, is a mistake."""
        for column in self.columns:
            where = f"column {quoted(column.name)}"
            texts = {"values": column.values or (), "true": column.true or (), "false": column.false or ()}
            for key, declared in texts.items():
                if not set(declared).isdisjoint(self.read.missing):
                    _refuse(where, f"{key} and the missing marks of [read] must not share a text")
            pattern = tuple(text for text in (column.format, *(column.formats or ())) if text is not None)
            for key, declared in {"name": (column.name,), "format": pattern, **texts}.items():
                try:
                    "".join(declared).encode(self.read.encoding)
                except UnicodeEncodeError:
                    _refuse(where, f"{key} must be text that the encoding of [read] can hold")

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
        try:
            data = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            reason = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "a number or a nesting is too large"
            raise SchemaError(f"the schema is not valid TOML: {quoted(reason, 200)[1:-1]}") from None
        _known(data, _TOP, "the schema")
        if data.pop("schema", None) != FORMAT:
            raise SchemaError(f'the schema must say schema = "{FORMAT}"')
        if "table" not in data:
            raise SchemaError("the schema must have a table: declare what the table is called")
        unit = _mapping(data.pop("unit", {}), "unit")
        _known(unit, ("entity", "column", "max_rows", "synthetic"), "unit")
        if unit:
            missing = [key for key in ("entity", "column") if key not in unit]
            if missing:
                _refuse("unit", f"{missing[0]} must be declared, or the whole unit left out")
            data |= {"entity": unit["entity"], "unit_column": unit["column"], "max_rows": unit.get("max_rows")}
            data["synthetic_units"] = unit.get("synthetic", False)
        read = _mapping(data.pop("read", {}), "[read]")
        _known(read, ("delimiter", "encoding", "missing"), "[read]")
        declared = data.pop("column", [])
        if not isinstance(declared, list):
            raise SchemaError("each column must be declared as [[column]], in double brackets")
        rules = data.pop("constraint", [])
        if not isinstance(rules, list):
            raise SchemaError("each constraint must be declared as [[constraint]], in double brackets")
        constraints = tuple(_constraint(entry, f"constraint {n}") for n, entry in enumerate(rules, start=1))
        columns = tuple(_column(entry) for entry in declared)
        return cls(**data, read=Read(**read), columns=columns, constraints=constraints)

    def to_toml(self) -> str:
        """The schema as TOML; `parse` gives back an equal schema."""
        plain = self._plain()
        blocks = {key: plain.pop(key, []) for key in ("column", "constraint")}
        read = plain.pop("read")
        lines = [f"{key} = {toml_value(value)}" for key, value in plain.items()]
        lines += ["", "[read]", *(f"{key} = {toml_value(value)}" for key, value in read.items())]
        for kind, entries in blocks.items():
            for entry in entries:
                lines += ["", f"[[{kind}]]", *(f"{key} = {toml_value(value)}" for key, value in entry.items())]
        return "\n".join(lines) + "\n"

    def _plain(self) -> dict[str, Any]:
        """The canonical form: what the TOML says, every default written out."""
        unit = {"entity": self.entity, "column": self.unit_column, "max_rows": self.max_rows}
        if self.synthetic_units:
            unit["synthetic"] = True
        columns = [_stated({f.name: getattr(column, f.name) for f in fields(Column)}) for column in self.columns]
        for column in columns:
            if "edges" in column:
                del column["minimum"], column["maximum"]
            column |= dict.fromkeys(column.pop("discover"), DISCOVER)
        plain = {
            "schema": FORMAT,
            "status": self.status,
            "table": self.table,
            "neighbours": self.neighbours,
            "unit": _stated(unit) if self.unit_column is not None else None,
            "basis": self.basis,
            "rows_at_most": self.rows_at_most,
            "read": {f.name: getattr(self.read, f.name) for f in fields(Read)},
            "column": columns,
            "constraint": [constraint.plain() for constraint in self.constraints] or None,
        }
        return _stated(plain)

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


# ---- checks: each refuses in one sentence that names where and which key -----------------------------------------


def _refuse(where: str, rule: str) -> NoReturn:
    raise SchemaError(f"{where}: {rule}")


def _known(data: Mapping[str, object], keys: Iterable[str], where: str) -> None:
    for key in data:
        if key not in keys:
            _refuse(where, f"unknown key {quoted(key)}")


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(where, "it must be a table of keys and values")
    return value


def _column(entry: object) -> Column:
    data = _mapping(entry, "[[column]]")
    name = data.get("name")
    where = f"column {quoted(name)}" if isinstance(name, str) else "[[column]]"
    _known(data, [f.name for f in fields(Column) if f.name != DISCOVER], where)
    for key in ("name", "type"):
        if key not in data:
            _refuse(where, f"{key} must be declared")
    return Column(**data)


def _constraint(entry: object, where: str) -> Constraint:
    data = _mapping(entry, where)
    _known(data, ("rule", "implies", "basis"), where)
    try:
        return Constraint(**data)
    except SchemaError as error:
        raise SchemaError(f"{where}: {error}") from None


def _text(value: object, where: str, key: str) -> str:
    if not isinstance(value, str):
        _refuse(where, f"{key} must be text in quotes")
    if not is_plain(value) and value != "\t":
        _refuse(where, f"{key} must not contain control characters or marks that change the direction of text")
    return value


def _name(value: object, where: str, key: str) -> str:
    text = _text(value, where, key)
    if not text.strip():
        _refuse(where, f"{key} must not be empty")
    return text


def _expression(value: object, key: str) -> str:
    """An expression in its one spelling."""
    from dpsynth.expressions import parse  # that module builds on this one

    text = value if isinstance(value, str) else _text(value, "[[constraint]]", key)
    try:
        return str(parse(text))
    except UsageError as error:
        raise SchemaError(f"{key}: {error}") from None


def _sentence(value: object, where: str, key: str) -> str | None:
    """Free text for the report, with every run of blanks and line ends made one blank."""
    return None if value is None else _name(" ".join(value.split()) if isinstance(value, str) else value, where, key)


def _texts(value: object, where: str, key: str, *, may_be_empty: bool = False) -> tuple[str, ...]:
    """A list of texts that differ."""
    if not isinstance(value, list | tuple):
        _refuse(where, f"{key} must be a list of texts in quotes")
    texts = tuple(_text(item, where, key) for item in value)
    if not texts and not may_be_empty:
        _refuse(where, f"{key} must not be an empty list")
    if len(set(texts)) < len(texts):
        _refuse(where, f"{key} must not list a text twice")
    return texts


def _names(value: object, where: str, key: str) -> tuple[str, ...]:
    """A list of texts that differ and are not empty."""
    return tuple(_name(text, where, key) for text in _texts(value, where, key))


def _number(value: object, where: str, key: str) -> int | float:
    """A finite number; a whole one that float64 keeps exactly becomes an int."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        _refuse(where, f"{key} must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        _refuse(where, f"{key} must be a finite number")
    return int(number) if number.is_integer() and abs(number) <= 2**53 else number


def _count(value: object, where: str, key: str) -> int:
    if type(value) is not int or value < 1:
        _refuse(where, f"{key} must be a whole number of at least 1")
    return value


def _choice(value: object, where: str, key: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        _refuse(where, f"{key} must be {', '.join(choices[:-1])} or {choices[-1]}")


# ---- TOML out ----------------------------------------------------------------------------------------------------


def _stated(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None}


def toml_value(value: object) -> str:
    """One value of TOML; JSON's texts, numbers and booleans are TOML's."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {toml_value(item)}' for key, item in value.items())} }}"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
