"""Column: what is public about one column, checked when it is made."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Any

from dpsynth.binning import DEFAULT_BINS, LARGEST_INTEGER, ONE_CELL_EACH, Bins
from dpsynth.dates import CYCLES, DAY, TIMES, Clock
from dpsynth.errors import IncompleteSchema
from dpsynth.figures import Figures
from dpsynth.patterns import KINDS, NEVER_UNIQUE, Pattern
from dpsynth.privacy import exact
from dpsynth.schema.checks import (
    count_of,
    name_of,
    names_of,
    number_of,
    refuse,
    require_choice,
    sentence_of,
    text_of,
    texts_of,
)
from dpsynth.schema.quoting import quoted
from dpsynth.schema.vocabulary import (
    CATEGORICAL,
    DISCOVER,
    DROPPED,
    FALSE_TEXTS,
    LONGEST_LABEL,
    MAX_COLUMN_CELLS,
    MAX_DECIMALS,
    MAX_DISCOVERED,
    MAX_TURNS,
    NUMERIC,
    OTHER,
    ROLES,
    TRUE_TEXTS,
    TYPES,
)

_OF_EVERY_COLUMN = {"name", "type", "role", "basis", "source", "missing", "discover"}
_OF_TYPE = {
    "integer": {"minimum", "maximum", "bins", "edges", "atoms", "unknown", "per_unit", "format"},
    "number": {"minimum", "maximum", "bins", "edges", "atoms", "unknown", "per_unit", "format", "decimals"},
    "date": {"minimum", "maximum", "bins", "edges", "atoms", "unknown", "per_unit", "format", "formats", "cycles"},
    "datetime": {"minimum", "maximum", "bins", "edges", "atoms", "unknown", "per_unit", "format", "formats", "cycles"},
    "category": {"values", "unknown", "per_unit", "prefix"},
    "ordinal": {"values", "unknown", "per_unit"},
    "boolean": {"true", "false", "unknown", "per_unit"},
    "identifier": {"format", "unique", "locale", "per_unit"},
    "text": set[str](),
}
_DISCOVERABLE = dict.fromkeys(NUMERIC, ("minimum", "maximum", "bins")) | {"category": ("values",)}
_FIRST_YEAR, _LAST_YEAR = 1800, 2200  # between which dates are discovered
_LOCALE = re.compile("[a-z]{2,3}(_[A-Z]{2})?")


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
    prefix: int | None = None
    basis: str | None = None
    discover: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        name_of(self.name, "[[column]]", "name")
        where = self._where
        require_choice(self.type, where, "type", TYPES)
        allowed = _OF_EVERY_COLUMN | _OF_TYPE[self.type]
        for key in (f.name for f in fields(self)):
            if key not in allowed and getattr(self, key) is not None:
                refuse(where, f"{key} does not apply to a column of type {self.type}")
        self._check_discovery()
        require_choice(self.source, where, "source", ("declared", "data", DISCOVER))
        require_choice(self.role, where, "role", ROLES)
        if not isinstance(self.missing, bool):
            refuse(where, "missing must be true or false")
        self._set("basis", sentence_of(self.basis, where, "basis"))
        for key in ("per_unit", "unique"):
            if not isinstance(getattr(self, key), bool | None):
                refuse(where, f"{key} must be true or false")
        if self.type == "identifier":
            self._check_format()
        if self.type in NUMERIC:
            self._check_numbers()
        elif self.type in CATEGORICAL and self.values is not None:
            self._set("values", names_of(self.values, where, "values"))
        elif self.type == "boolean":
            self._check_spellings()
        if self.prefix is not None:
            self._check_prefix()
        if self.is_modelled:
            self._check_unknown()
            if self.is_complete and self.size > MAX_COLUMN_CELLS:
                refuse(where, f"it has {self.size} cells, more than {MAX_COLUMN_CELLS}: declare fewer, wider bins")

    def _check_discovery(self) -> None:
        where = self._where
        allowed = _DISCOVERABLE.get(self.type, ())
        for key in ("minimum", "maximum", "bins", "edges", "values"):
            if getattr(self, key) == DISCOVER:
                self._set(key, None)
                self._set("discover", (*self.discover, key))
        for key in self.discover:
            if key not in allowed:
                refuse(where, f"{key} of a column of type {self.type} cannot be discovered: declare it")
            if getattr(self, key) is not None:
                refuse(where, f"{key} must be declared or discovered, not both")
        self._set("discover", tuple(key for key in allowed if key in self.discover))
        if self.discover and self.role == "direct_identifier":
            refuse(where, "what identifies a person is not discovered: make it an identifier, or give it another role")
        if "values" in self.discover and self.unknown == "drop_row":
            refuse(
                where,
                'unknown must be "other" or "missing" where values are discovered: rare ones would lose their row',
            )
        if self.discover and self.edges is not None:
            refuse(where, "edges leave nothing to discover: declare one or the other")

    def _check_numbers(self) -> None:
        where = self._where
        if self.formats is not None:
            if self.format is not None:
                refuse(where, "format and formats exclude each other: declare one of them")
            self._set("formats", names_of(self.formats, where, "formats"))
        if not self.is_time and self.format is not None:
            self._check_figures()
        if self.is_time:
            try:
                self.clock  # noqa: B018 - made once, and refused here if it cannot be
            except ValueError as error:
                refuse(where, str(error))
        if self.cycles is not None:
            known = [cycle for cycle in CYCLES if cycle != "hour" or self.type == "datetime"]
            self._set("cycles", texts_of(self.cycles, where, "cycles"))
            if not set(self.cycles) <= set(known):
                refuse(where, f"cycles of a {self.type} column must be among {', '.join(known)}")
        for key in ("minimum", "maximum"):
            if getattr(self, key) is not None:
                self._set(key, self._number(getattr(self, key), key))
        if self.bins is not None:
            count_of(self.bins, where, "bins")
            if self.bins > MAX_COLUMN_CELLS:
                refuse(where, f"bins must be at most {MAX_COLUMN_CELLS}")
        if self.edges is not None:
            if self.bins is not None:
                refuse(where, "bins and edges exclude each other: declare one of them")
            edges = self._numbers(self.edges, "edges", least=2)
            if any(self.step(a) >= self.step(b) for a, b in pairwise(edges)):
                refuse(where, "edges must increase from each to the next")
            for key, which, edge in (("minimum", "first", edges[0]), ("maximum", "last", edges[-1])):
                if getattr(self, key) not in (None, edge):
                    refuse(where, f"{key} must be left out or equal the {which} edge")
                self._set(key, edge)
            self._set("edges", edges)
        if self.atoms is not None:
            self._set("atoms", tuple(sorted(set(self._numbers(self.atoms, "atoms", least=1)), key=self.step)))
        if self.decimals is not None and (type(self.decimals) is not int or not 0 <= self.decimals <= MAX_DECIMALS):
            refuse(where, f"decimals must be a whole number from 0 to {MAX_DECIMALS}")
        if self.is_open:
            self._check_reach()
        if self.type == "integer":
            for key in ("minimum", "maximum"):
                if isinstance(getattr(self, key), float):
                    refuse(where, f"{key} of an integer column must be a whole number up to 2^53")
        if self.minimum is not None and self.maximum is not None:
            low, high = self.step(self.minimum), self.step(self.maximum)
            if low > high or (self.type == "number" and low == high):
                refuse(where, "minimum must lie below maximum")
            if self.is_time and not (self.clock.can_write(low) and self.clock.can_write(high)):
                refuse(where, "format must hold the whole year: between minimum and maximum, %y is not enough")
            if self.cycles and (high - low) // self.clock.turn(self.cycles) > MAX_TURNS:
                refuse(where, f"cycles are for at most {MAX_TURNS} days, or hours, between minimum and maximum")
            try:
                self.binning  # noqa: B018 - computed once, and refused here if it cannot be
            except ValueError as error:
                refuse(where, str(error))
            decimals = 0 if self.type == "integer" else self.decimals
            if self.discover and decimals is not None:
                low, high = (exact(bound) * 10**decimals for bound in (self.minimum, self.maximum))
                if math.floor(high) <= math.ceil(low):
                    refuse(where, "its bounds leave no two values, and so nothing to discover: take bins out")

    def _check_figures(self) -> None:
        """The decimals that a format shows are those of the column."""
        where = self._where
        try:
            shown = Figures(name_of(self.format, where, "format")).decimals
        except ValueError as error:
            refuse(where, str(error))
        if self.type == "integer" and shown:
            refuse(where, 'format of an integer column must show no decimals, or else type must be "number"')
        if self.type == "number":
            if self.decimals not in (None, shown):
                refuse(where, "format and decimals must agree: leave decimals out")
            self._set("decimals", shown)

    def _check_format(self) -> None:
        where = self._where
        if self.locale is not None and not _LOCALE.fullmatch(text_of(self.locale, where, "locale")):
            refuse(where, 'locale must be a language and a country, such as "de_DE"')
        if self.format is None:
            if self.unique or self.locale is not None:
                refuse(where, "unique and locale apply to a column of fakes: declare its format")
            return
        if name_of(self.format, where, "format") in KINDS:
            if self.unique and self.format in NEVER_UNIQUE:
                refuse(where, f"unique does not apply to the format {self.format}, which many people share")
            return
        if self.locale is not None:
            refuse(where, "locale does not apply to a pattern")
        try:
            Pattern.parse(self.format)
        except ValueError as error:
            refuse(where, str(error))

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
                refuse(where, f"{key} must {limit} where bounds or bins are discovered")
        low = low if self.minimum is None else self.step(self.minimum)
        high = high if self.maximum is None else self.step(self.maximum)
        if low > high and None not in (self.minimum, self.maximum):
            return  # which is refused where nothing is open, too
        scale = 10 ** (self.grid or 0)
        values = math.floor(exact(high) * scale) - math.ceil(exact(low) * scale) + 1
        if low >= high or (self.grid is not None and values < 2):
            refuse(where, "its declared bounds must leave something to discover")
        if self.is_time and self.cycles and (high - low) // self.clock.turn(self.cycles) > MAX_TURNS:
            refuse(where, "the cycle of hours is too long for discovered bounds: declare minimum and maximum")
        if self.atoms is not None:
            try:
                atoms = [self.step(atom) for atom in self.atoms]
                Bins.of(minimum=low, maximum=high, bins=1, decimals=self.grid, atoms=atoms)
            except ValueError as error:
                refuse(where, str(error))

    def _number(self, value: object, key: str) -> int | float | str:
        """A bound in its one spelling: a number, or a date or time in ISO 8601."""
        if not self.is_time:
            return number_of(value, self._where, key)
        example = "2020-01-31" if self.type == "date" else "2020-01-31T12:00:00"
        try:
            number = self.clock.number(value)
        except ValueError:
            number = Fraction(1, 2)
        if number.denominator != 1:
            unit = {DAY: "", 1: "", 60: ", on a whole minute", 3_600: ", on a whole hour"}[self.clock.unit]
            refuse(self._where, f'{key} must be a {self.type} such as "{example}"{unit}')
        return self.clock.iso(int(number))

    def _numbers(self, values: object, key: str, *, least: int) -> tuple[int | float | str, ...]:
        if not isinstance(values, list | tuple) or len(values) < least:
            refuse(self._where, f"{key} must be a list of at least {'two numbers' if least == 2 else 'one number'}")
        if len(values) > MAX_COLUMN_CELLS:
            refuse(self._where, f"{key} must be at most {MAX_COLUMN_CELLS}")
        return tuple(self._number(value, key) for value in values)

    def _check_spellings(self) -> None:
        where = self._where
        if (self.true is None) != (self.false is None):
            refuse(where, "true and false must be declared together")
        self._set("true", texts_of(self.true or TRUE_TEXTS, where, "true"))
        self._set("false", texts_of(self.false or FALSE_TEXTS, where, "false"))
        if set(self.true or ()) & set(self.false or ()):
            refuse(where, "true and false must not share a spelling")

    def _check_prefix(self) -> None:
        where = self._where
        count_of(self.prefix, where, "prefix")
        if self.prefix is not None and self.prefix > LONGEST_LABEL:
            refuse(where, f"prefix must be at most {LONGEST_LABEL} characters")
        longest = max(map(len, self.values or ("",)))
        if self.source == "declared" and self.prefix is not None and longest > self.prefix:
            refuse(where, "values must be no longer than prefix, because no cell is")

    def _check_unknown(self) -> None:
        where = self._where
        if self.unknown is None:
            self._set("unknown", OTHER if "values" in self.discover else "missing" if self.missing else "drop_row")
        require_choice(self.unknown, where, "unknown", ("missing", "other", "drop_row"))
        if self.unknown == "missing" and not self.missing:
            refuse(where, 'unknown = "missing" needs missing = true')
        if self.unknown == "other":
            if self.type not in CATEGORICAL:
                refuse(where, f'unknown = "other" does not apply to a column of type {self.type}')
            if OTHER in (self.values or ()):
                refuse(where, 'unknown = "other" adds a category of that name: take "other" out of values')

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

    @property
    def in_order(self) -> bool:
        """Whether every cell lies between its neighbours: numbers and ordinals, if none stands for missing or for others."""
        return (self.is_numeric or self.type == "ordinal") and not self.missing and self.unknown != "other"

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
            return replace(self, discover=(), prefix=None, values=tuple(f"value {n}" for n in range(MAX_DISCOVERED)))
        cells = self.bins or (DEFAULT_BINS if self.type == "number" else ONE_CELL_EACH)
        cells += 2 * len(self.atoms or ())  # each may be cut out of the middle of a bin
        facts: dict[str, Any] = {"minimum": 0, "maximum": cells - (self.type == "integer")}
        if self.is_time:
            clock = Clock(self.type)
            facts = {"minimum": clock.iso(0), "maximum": clock.iso(cells - 1), "format": None}
        return replace(self, discover=(), **facts, bins=cells, atoms=None, decimals=None)
