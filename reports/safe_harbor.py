"""Looks for patterns of the 18 identifiers of HIPAA's Safe Harbor in what is released (45 CFR 164.514(b)(2)(i)).

What is looked at is the schema of the release and its synthetic rows, differentially private output: nothing here sees
a real row, and nothing is charged. A pattern that is found is told by the name of its column, never by a value. A
pattern that is not found says that these checks saw none, and no more. The words and kinds of values of each letter
are data: `regimes/safe-harbor.toml`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from dpsynth import Schema
from dpsynth.identifiers import kind
from dpsynth.schema import Column
from dpsynth.table import Records

Status: TypeAlias = Literal["pattern not found", "pattern found", "filled with fakes", "for a person"]
Values: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.int32]

MOST_TEXTS: Final = 5_000
"""Different texts of one column that are looked at."""
_MOST_NUMBERS: Final = 500  # different ones of one column; one in ten of any numbers passes Luhn, so few tell enough
_LEAST_CARD, _MOST_CARD = 10**12, 10**19
_LARGEST_AGE: Final = 89
_URL = re.compile(r"((https?|ftp)://|www\.)\S+", re.IGNORECASE)
_MAC = re.compile(r"[0-9a-f]{2}([:-])([0-9a-f]{2}\1){4}[0-9a-f]{2}", re.IGNORECASE)
_MONTH, _DAY = "(0?[1-9]|1[0-2])", "(0?[1-9]|[12][0-9]|3[01])"
_DATE = re.compile(
    rf"\d{{4}}([-/.])({_MONTH})(\1{_DAY})?([T ].*)?|{_MONTH}[-/.]{_DAY}[-/.](\d{{2}}|\d{{4}})"
    rf"|{_DAY}[-/.]{_MONTH}[-/.](\d{{2}}|\d{{4}})|({_DAY}[. ]+)?(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
    r"[ -]+(\d{1,2},? +)?\d{2,4}",
    re.IGNORECASE,
)
_ZIP = re.compile(r"\d{5}(-\d{4})?")
_OPEN_AGE = re.compile(r"\+|older|over|above|more|≥|>", re.IGNORECASE)
_CODE = re.compile(r"(?=.*\d)[A-Za-z]*\d[A-Za-z0-9_/-]*")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+")
_LEAST_CODES, _LEAST_DIGITS, _LEAST_ZIPS = 20, 4, 3
_SIGNS: Final[Mapping[str, str]] = {
    "email": "values look like e-mail addresses",
    "uuid": "values look like UUIDs",
    "ip": "values look like IP addresses",
    "iban": "values look like IBANs",
    "card": "values look like card numbers, with a right check digit",
    "ssn": "values look like social security numbers",
    "phone": "values look like phone numbers",
    "url": "values look like web addresses",
    "mac": "values look like device addresses",
}


@dataclass(frozen=True, kw_only=True)
class Letter:
    """One of the 18 identifiers, and how it is looked for.

    Args:
        id, title: (A) to (R), and what it is.
        words: In the name of a column, each one word or several in a row.
        alone: Those of `words` that only count when the name is nothing else.
        kinds: Of values.
        formats: Of fakes.
        direct: Whether it identifies a person by itself; the others are for an expert to weigh.
        person: Whether it takes a person even where no pattern is found.
    """

    id: str
    title: str
    words: tuple[str, ...]
    alone: frozenset[str]
    kinds: frozenset[str]
    formats: frozenset[str]
    direct: bool
    person: bool

    @property
    def looks_at_values(self) -> bool:
        """Whether values and bounds are looked at, beside names of columns."""
        return bool(self.kinds) or self.id in ("B", "C", "R")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What the checks saw under one letter.

    Args:
        letter: "A" to "R".
        status: "for a person" also where something was seen that patterns cannot judge.
        columns, signs: Where, by name, and what was seen there; of equal length.
    """

    letter: str
    status: Status
    columns: tuple[str, ...] = ()
    signs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scan:
    """The findings under all letters, in order.

    Args:
        findings: One for each letter.
        cards: What was seen of payment card numbers, for those who ask for them alone.
    """

    findings: tuple[Finding, ...]
    cards: Status

    @property
    def direct(self) -> int:
        """Under how many letters that identify by themselves a pattern was found that is no fake."""
        letters = {letter.id: letter for letter in alphabet()}
        return sum(found.status == "pattern found" and letters[found.letter].direct for found in self.findings)


@cache
def alphabet() -> tuple[Letter, ...]:
    """The 18 identifiers, (A) to (R)."""
    data = tomllib.loads((files("reports") / "regimes" / "safe-harbor.toml").read_text(encoding="utf-8"))
    return tuple(
        Letter(
            id=entry["id"],
            title=entry["title"],
            words=tuple(entry.get("words", ())),
            alone=frozenset(entry.get("alone", ())),
            kinds=frozenset(entry.get("kinds", ())),
            formats=frozenset(entry.get("formats", ())),
            direct=entry.get("direct", False),
            person=entry.get("person", False),
        )
        for entry in data["identifier"]
    )


def scan(schema: Schema, records: Records, *, on: date) -> Scan:
    """What patterns find in a release.

    Args:
        schema: The completed schema of the release.
        records: Its synthetic rows.
        on: The day of the release, from which years of birth are judged.
    Privacy: reads differentially private output only.
    """
    found: dict[str, dict[str, str]] = {letter.id: {} for letter in alphabet()}
    asked: dict[str, dict[str, str]] = {letter.id: {} for letter in alphabet()}
    fakes: dict[str, dict[str, str]] = {letter.id: {} for letter in alphabet()}
    cards: Status = "pattern not found"
    for column in schema.modelled:
        kinds = _kinds(column, records.columns[column.name])
        cards = "pattern found" if "card" in kinds else cards
        for letter, sign in (*_of_kinds(kinds), *_of_domain(column, on)):
            found[letter].setdefault(column.name, sign)
        for letter in _of_name(column):
            found[letter].setdefault(column.name, "by its name")
        if column.role == "direct_identifier":
            found["R"].setdefault(column.name, "declared a direct identifier")
        elif _are_codes(column):
            asked["R"].setdefault(column.name, "values look like codes")
    for column in schema.filled:
        fakes[_of_fakes(column)].setdefault(column.name, f"fakes of format {column.format or 'id'}")
        if column.format == "card" and cards == "pattern not found":
            cards = "filled with fakes"
    return Scan(
        findings=tuple(_finding(letter, found[letter.id], fakes[letter.id], asked[letter.id]) for letter in alphabet()),
        cards=cards,
    )


def _finding(letter: Letter, found: dict[str, str], fakes: dict[str, str], asked: dict[str, str]) -> Finding:
    status: Status = (
        "pattern found"
        if found
        else "for a person"
        if letter.person or asked
        else "filled with fakes"
        if fakes
        else "pattern not found"
    )
    seen = [*found.items(), *fakes.items(), *asked.items()]
    return Finding(
        letter=letter.id, status=status, columns=tuple(name for name, _ in seen), signs=tuple(sign for _, sign in seen)
    )


# ---- names -------------------------------------------------------------------------------------------------------


def _tokens(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _says(tokens: Sequence[str], words: Sequence[str]) -> bool:
    """Whether the words stand in a row among the tokens; "per day" and the like are rates, not dates."""
    size = len(words)
    return any(
        list(tokens[place : place + size]) == list(words) and (place == 0 or tokens[place - 1] != "per")
        for place in range(len(tokens) - size + 1)
    )


def _of_name(column: Column) -> Iterator[str]:
    tokens = _tokens(column.name)
    for letter in alphabet():
        if any(
            tokens == [words] if words in letter.alone else _says(tokens, words.split(" ")) for words in letter.words
        ):
            yield letter.id


def _of_fakes(column: Column) -> str:
    """The letter of a column of fakes: of its format, else of its name, else that of any other code."""
    of_format = next((letter.id for letter in alphabet() if column.format in letter.formats), None)
    return of_format or next(_of_name(column), "R")


# ---- values ------------------------------------------------------------------------------------------------------


def _texts(column: Column) -> Sequence[str]:
    """The texts that a column may hold, evenly spread where there are very many; none of a numeric one."""
    if column.is_numeric or column.type == "boolean":
        return ()
    labels = column.labels
    return labels if len(labels) <= MOST_TEXTS else labels[:: -(-len(labels) // MOST_TEXTS)]


def _kinds(column: Column, values: Values) -> frozenset[str]:
    """Kinds of identifiers that a value of the column looks like."""
    if column.is_numeric:
        return _numeric_kinds(column, values)
    seen = {found for text in map(str.strip, _texts(column)) if (found := _kind(text)) is not None}
    return frozenset(seen)


def _kind(text: str) -> str | None:
    if _URL.fullmatch(text):
        return "url"
    return "mac" if _MAC.fullmatch(text) else kind(text)


def _numeric_kinds(column: Column, values: Values) -> frozenset[str]:
    """Whole numbers of a fixed length, by the bounds; card numbers, where most different values pass Luhn."""
    if column.type != "integer" or column.minimum is None or column.maximum is None:
        return frozenset()
    low, high = column.step(column.minimum), column.step(column.maximum)
    if low >= 10**8 and high < 10**9:
        return frozenset({"ssn"})
    if low >= 10**9 and high < 10**10:
        return frozenset({"phone"})
    if high < _LEAST_CARD:
        return frozenset()
    some = np.unique(values[~np.isnan(values)])
    some = some[:: -(-len(some) // _MOST_NUMBERS) or 1]
    long = [str(int(value)) for value in some if _LEAST_CARD <= value < _MOST_CARD]
    return frozenset({"card"}) if long and 2 * sum(kind(text) == "card" for text in long) >= len(long) else frozenset()


def _of_kinds(kinds: frozenset[str]) -> Iterator[tuple[str, str]]:
    for letter in alphabet():
        for name in sorted(letter.kinds & kinds):
            yield letter.id, _SIGNS[name]


def _are_codes(column: Column) -> bool:
    """Whether most texts are codes with several digits; such codes can be anybody's, or a list that everyone knows."""
    texts = _texts(column)
    codes = [text for text in texts if _CODE.fullmatch(text) and sum(map(str.isdigit, text)) >= _LEAST_DIGITS]
    return len(texts) >= _LEAST_CODES and 10 * len(codes) >= 9 * len(texts)


# ---- domains: dates, ages, places --------------------------------------------------------------------------------


def _of_domain(column: Column, on: date) -> Iterator[tuple[str, str]]:
    texts, tokens = _texts(column), _tokens(column.name)
    if column.type in ("date", "datetime") or any(_DATE.fullmatch(text.strip()) for text in texts):
        yield "C", "dates finer than a year"
    if _is_age(tokens) and _oldest(column) > _LARGEST_AGE:
        yield "C", "ages over 89"
    if _is_year_of_birth(tokens) and _earliest(column) < on.year - _LARGEST_AGE:
        yield "C", "years of birth of people over 89"
    plain = [text.strip() for text in texts if text != "other"]
    if len(plain) >= _LEAST_ZIPS and all(_ZIP.fullmatch(text) for text in plain):
        yield "B", "values have five digits, as ZIP codes"


def _is_age(tokens: Sequence[str]) -> bool:
    is_age = any(token in ("age", "ages") or token.startswith(("agegroup", "ageat", "ageyear")) for token in tokens)
    return is_age and not {"month", "months", "day", "days", "week", "weeks"} & set(tokens)


def _is_year_of_birth(tokens: Sequence[str]) -> bool:
    born = {"birth", "born"} & set(tokens) and {"year", "yr"} & set(tokens)
    return bool(born) or not {"yob", "birthyear"}.isdisjoint(tokens)


def _oldest(column: Column) -> float:
    """The highest age that the column can state; one open class of 90 or older counts as 89."""
    if column.is_numeric:
        return float(column.maximum) if isinstance(column.maximum, int | float) else -np.inf
    ages = [0.0]
    for text in _texts(column):
        numbers = [int(number) for number in re.findall(r"\d{1,3}", text)]
        if numbers and not (_OPEN_AGE.search(text) and max(numbers) <= _LARGEST_AGE + 1):
            ages.append(float(max(numbers)))
    return max(ages)


def _earliest(column: Column) -> float:
    if column.is_numeric:
        return float(column.minimum) if isinstance(column.minimum, int | float) else np.inf
    years = [int(number) for text in _texts(column) for number in re.findall(r"\b(?:1[89]|20)\d\d\b", text)]
    return float(min(years, default=9999))
