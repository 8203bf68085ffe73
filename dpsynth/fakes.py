"""Fakes for identifier columns: texts that look right, and owe nothing to the data.

They are drawn from a generator that never saw a row, so they cost no budget. Where a kind of number has a range that is
given to nobody, fakes come from that range (docs/identifiers.md lists them). Columns of one row that speak of a person
speak of the same one: an e-mail address is made of the name beside it. Whole columns are built at once.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dpsynth.errors import OperationError, SchemaError, UsageError
from dpsynth.patterns import KINDS, PEOPLE, PLACES, Pattern
from dpsynth.randomness import sampling_generator
from dpsynth.schema import Column, Schema, quoted
from dpsynth.table import Records, arrow_texts

if TYPE_CHECKING:
    import pyarrow as pa

IntVector: TypeAlias = npt.NDArray[np.int64]

LOCALE = "en_US"
_POOL_DRAWS = 2000  # of each part of a name or address
_MOST = 2**62  # numbers that int64 holds
_HOUSES = 999
_PHONES = 63_000
_DOMAINS = ("example.com", "example.net", "example.org")
_DIGITS = "0123456789"


def check_fakes(schema: Schema, rows: int) -> None:
    """Refuses, from the schema alone, fakes that cannot be made for so many rows.

    Raises:
        UsageError: a pattern makes fewer texts than must differ, or Faker does not know a locale.
        OperationError: Faker is needed and not installed.
    """
    for column in _with_locales(schema):
        if column.format is None or column.format in KINDS:
            if column.format in (*PEOPLE, *PLACES):
                _faker(str(column.locale))
        elif column.unique and Pattern.parse(column.format).capacity < rows:
            raise UsageError(
                f"column {quoted(column.name)}: its format makes fewer texts than the {rows} rows that must differ: "
                "lengthen it, ask for fewer rows, or declare rows_at_most"
            )


def write(
    records: Records, schema: Schema, path: str | Path, *, rng: np.random.Generator, person: IntVector | None = None
) -> None:
    """Writes synthetic rows as a release has them: with fresh fakes in the columns that are filled.

    Args:
        records: Rows in `schema` or in `schema.released()`.
        person: To whom each row belongs, in 0 .. persons - 1, where persons are synthetic; shape (rows,).
    Raises:
        UsageError, OperationError: as `Records.write` and `fakes`.
    """
    Records(schema, records.columns).write(path, fakes=fakes(schema, len(records), rng=rng, person=person))


def fakes(
    schema: Schema, rows: int, *, rng: np.random.Generator, person: IntVector | None = None
) -> dict[str, pa.Array]:
    """A fake for each row, by the name of the column, for every column that is filled.

    Args:
        person: As for `write`; without it every row is a person.
    Raises:
        OperationError: `check_fakes` was not asked, or another program wrote more rows than it was told to, and a pattern
            has too few texts.
    """
    owner = np.arange(rows) if person is None else person
    made: dict[str, pa.Array] = {}
    persons: dict[tuple[str, int], _Person] = {}
    seen: dict[tuple[str, str], int] = {}
    columns = _with_locales(schema)
    # Two columns of one kind speak of two people; columns of different kinds, in order, of the same one.
    place: dict[str, tuple[str, int]] = {}
    for column in columns:
        if column.format in (*PEOPLE, *PLACES):
            kind = (str(column.format), str(column.locale))
            place[column.name] = (kind[1], seen.get(kind, 0))
            seen[kind] = seen.get(kind, 0) + 1
    for column in columns:
        who = owner if column.per_unit else np.arange(rows)
        count = int(who.max(initial=-1)) + 1
        if column.format is None:
            made[column.name] = _take(_numbers(rng.permutation(count) + 1), who)
        elif column.name in place:
            key = place[column.name]
            if key not in persons:
                together = [c for c in columns if place.get(c.name) == key]
                persons[key] = _Person.drawn(key[0], together, owner, rng=rng)
            made[column.name] = persons[key].texts(column, owner)
        else:
            draw = _numbered if column.format in KINDS else _patterned
            made[column.name] = _take(draw(column, count, rng=rng), who)
    return made


def _with_locales(schema: Schema) -> list[Column]:
    """The columns that are filled; where names and addresses state no locale, they have the first that one states."""
    stated = next((column.locale for column in schema.filled if column.locale is not None), LOCALE)
    return [
        replace(column, locale=column.locale or stated) if column.format in KINDS else column
        for column in schema.filled
    ]


# ---- names and addresses -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pools:
    """Words of one language that names and addresses are put together from."""

    first: list[str]
    last: list[str]
    street: list[str]
    city: list[str]
    postcode: list[str]
    number_first: bool

    @cached_property
    def locals(self) -> tuple[tuple[list[str], IntVector], tuple[list[str], IntVector]]:
        """First and last names as addresses spell them, and which of these each name has."""
        return _folded(self.first), _folded(self.last)


def _faker(locale: str) -> Any:
    try:
        from faker import Faker
    except ImportError:
        raise OperationError('fake names and addresses need Faker: run `pip install "dpsynth[fakes]"`') from None
    try:
        with warnings.catch_warnings(action="ignore"):
            return Faker(locale, use_weighting=False)
    except (AttributeError, ValueError, ImportError):
        raise SchemaError(f"Faker does not know the locale {quoted(locale)}: choose another") from None


@lru_cache(maxsize=8)
def _pools(locale: str) -> _Pools:
    source = _faker(locale)
    source.seed_instance(int(sampling_generator().integers(2**62)))

    def pool(kind: str) -> list[str]:
        draw = getattr(source, kind)
        return sorted({" ".join(draw().split()) for _ in range(_POOL_DRAWS)})

    return _Pools(
        first=pool("first_name"),
        last=pool("last_name"),
        street=pool("street_name"),
        city=pool("city"),
        postcode=pool("postcode"),
        number_first=locale.split("_")[0] in ("en", "fr"),
    )


def _folded(names: Sequence[str]) -> tuple[list[str], IntVector]:
    """Lower-case ASCII letters; a name that has none gets a number."""
    spelled = []
    for number, name in enumerate(names):
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii").lower()
        spelled.append("".join(filter(str.isalnum, plain)) or f"n{number}")
    distinct, place = np.unique(spelled, return_inverse=True)
    return distinct.tolist(), place.astype(np.int64)


@dataclass(frozen=True)
class _Person:
    """The imaginary people, one a row or one an owner, of whom some columns speak.

    Args:
        words: Places in the pools, shape (people,) each.
        is_owner: Whether there is one for each owner, else for each row.
    """

    pools: _Pools
    words: dict[str, IntVector]
    is_owner: bool

    @classmethod
    def drawn(cls, locale: str, columns: Sequence[Column], owner: IntVector, *, rng: np.random.Generator) -> _Person:
        pools = _pools(locale)
        is_owner = any(column.per_unit for column in columns)
        count = int(owner.max(initial=-1)) + 1 if is_owner else len(owner)
        differ = any(column.unique for column in columns if column.format in ("name", "username", "email"))
        apart = any(column.unique for column in columns if column.format in ("street", "address"))
        who = _draw(count, len(pools.first) * len(pools.last), unique=differ, rng=rng)
        house = _draw(count, _HOUSES * len(pools.street), unique=apart, rng=rng)
        return cls(
            pools=pools,
            words={
                "first": who % len(pools.first),
                "last": who // len(pools.first) % len(pools.last),
                "house": house % _HOUSES,
                "street": house // _HOUSES % len(pools.street),
                "city": rng.integers(len(pools.city), size=count),
                "postcode": rng.integers(len(pools.postcode), size=count),
            },
            is_owner=is_owner,
        )

    def texts(self, column: Column, owner: IntVector) -> pa.Array:
        """The column, shape (rows,)."""
        words = self.words
        if self.is_owner and not column.per_unit:
            words = {name: codes[owner] for name, codes in words.items()}
        made = getattr(self, f"_{column.format}")(words, bool(column.unique))
        return _take(made, owner) if column.per_unit else made

    def _name(self, words: dict[str, IntVector], unique: bool) -> pa.Array:
        codes = words["last"] * len(self.pools.first) + words["first"]
        again = _again(codes, " {}") if unique else []
        return _joined(_from(self.pools.first, words["first"]), " ", _from(self.pools.last, words["last"]), *again)

    def _first_name(self, words: dict[str, IntVector], unique: bool) -> pa.Array:
        return _joined(_from(self.pools.first, words["first"]), *(_again(words["first"], " {}") if unique else []))

    def _last_name(self, words: dict[str, IntVector], unique: bool) -> pa.Array:
        return _joined(_from(self.pools.last, words["last"]), *(_again(words["last"], " {}") if unique else []))

    def _username(self, words: dict[str, IntVector], unique: bool) -> pa.Array:
        (firsts, first), (lasts, last) = self.pools.locals
        one, two = first[words["first"]], last[words["last"]]
        again = _again(two * len(firsts) + one, "{}") if unique else []
        return _joined(_from(firsts, one), ".", _from(lasts, two), *again)

    def _email(self, words: dict[str, IntVector], unique: bool) -> pa.Array:
        domain = (words["first"] + words["last"]) % len(_DOMAINS)
        return _joined(self._username(words, unique), "@", _from(_DOMAINS, domain))

    def _street(self, words: dict[str, IntVector], unique: bool) -> pa.Array:
        number, street = _numbers(words["house"] + 1, as_text=True), _from(self.pools.street, words["street"])
        again = _again(words["street"] * _HOUSES + words["house"], " / {}") if unique else []
        return _joined(*((number, " ", street) if self.pools.number_first else (street, " ", number)), *again)

    def _city(self, words: dict[str, IntVector], unique: bool) -> pa.Array:
        return _from(self.pools.city, words["city"])

    def _postcode(self, words: dict[str, IntVector], unique: bool) -> pa.Array:
        return _from(self.pools.postcode, words["postcode"])

    def _address(self, words: dict[str, IntVector], unique: bool) -> pa.Array:
        city, postcode = self._city(words, unique), self._postcode(words, unique)
        town = (city, " ", postcode) if self.pools.number_first else (postcode, " ", city)
        return _joined(self._street(words, unique), ", ", *town)


# ---- numbers -----------------------------------------------------------------------------------------------------


def _patterned(column: Column, count: int, *, rng: np.random.Generator) -> pa.Array:
    """Texts of a pattern. Where there are more than int64 can number, the first places are drawn on their own."""
    pattern = Pattern.parse(str(column.format))
    if column.unique and pattern.capacity < count:
        raise OperationError(
            f"column {quoted(column.name)}: more rows were made than its format has texts: lengthen it"
        )
    places = pattern.places
    split, capacity = len(places), 1
    while split and capacity * len(places[split - 1]) <= _MOST:
        split -= 1
        capacity *= len(places[split])
    free = [_places((choices,), rng.integers(len(choices), size=count)) for choices in places[:split]]
    return _fixed(*free, _places(places[split:], _draw(count, capacity, unique=bool(column.unique), rng=rng)))


def _numbered(column: Column, count: int, *, rng: np.random.Generator) -> pa.Array:
    unique = bool(column.unique)
    if column.format == "phone":  # 555-0100 to 555-0199 are kept free for fiction, but not where calls are free (8..)
        number = _draw(count, _PHONES, unique=unique, rng=rng)
        places = ("(", "2345679", _DIGITS, _DIGITS[1:], *") 555-01", _DIGITS, _DIGITS)
        return _joined(_fixed(_places(places, number % _PHONES)), *(_again(number % _PHONES, " x{}") if unique else []))
    if column.format == "ssn":  # areas from 900 are no social security numbers, groups below 50 no taxpayer numbers
        number = _draw(count, 100 * 49 * 9999, unique=unique, rng=rng)
        whole = (number // (49 * 9999) + 900) * 10**6 + (number // 9999 % 49 + 1) * 10**4 + number % 9999 + 1
        places = (*[_DIGITS] * 3, "-", *[_DIGITS] * 2, "-", *[_DIGITS] * 4)
        return _fixed(_places(places, whole))
    if column.format == "card":  # 9 is for national use, 999 no country: no issuer has such numbers
        number = _draw(count, 10**11, unique=unique, rng=rng)
        return _fixed(_places([_DIGITS] * 16, (9999 * 10**11 + number) * 10 + _luhn(9999 * 10**11 + number)))
    if column.format == "iban":  # the first digit of a German bank code is its area, 1 to 8
        account = 9 * 10**17 + _draw(count, 10**17, unique=unique, rng=rng)
        check = 98 - (account % 97 * 10**6 + 131400) % 97
        return _fixed(_places(("D", "E", _DIGITS, _DIGITS), check), _places([_DIGITS] * 18, account))
    if column.format == "ip":
        return _addresses(count, unique=unique, rng=rng)
    number = _draw(count, _MOST, unique=unique, rng=rng)
    node = _places(["89ab", *["0123456789abcdef"] * 15], number)
    head = _places(["0123456789abcdef"] * 15, rng.integers(16**15, size=count))
    dash, four = (np.full((count, 1), ord(char), dtype=np.uint8) for char in "-4")
    return _fixed(head[:, :8], dash, head[:, 8:12], dash, four, head[:, 12:], dash, node[:, :4], dash, node[:, 4:])


def _addresses(count: int, *, unique: bool, rng: np.random.Generator) -> pa.Array:
    """Addresses for documentation (RFC 5737), or where those are too few and must differ, of the reserved block 240/4."""
    if unique and count > 768:
        address = (240 << 24) + _distinct(count, 2**28 - 1, rng=rng)
    else:
        number = _draw(count, 768, unique=unique, rng=rng)
        nets = np.array([192 << 24 | 2 << 8, 198 << 24 | 51 << 16 | 100 << 8, 203 << 24 | 113 << 8], dtype=np.int64)
        address = nets[number // 256] + number % 256
    bytes_ = [str(byte) for byte in range(256)]
    parts = [_from(bytes_, address >> shift & 255) for shift in (24, 16, 8, 0)]
    return _joined(parts[0], ".", parts[1], ".", parts[2], ".", parts[3])


def _luhn(number: IntVector) -> IntVector:
    """The check digit of each number (ISO/IEC 7812-1, annex B)."""
    total = np.zeros_like(number)
    double = True
    while number.any():
        digit = number % 10 * (2 if double else 1)
        total += digit // 10 + digit % 10
        number, double = number // 10, not double
    return -total % 10


# ---- drawing and joining -----------------------------------------------------------------------------------------


def _draw(count: int, common: int, *, unique: bool, rng: np.random.Generator) -> IntVector:
    """Numbers below `common`; where all must differ and there are too few, as many times `common` as it takes."""
    if not unique:
        return rng.integers(common, size=count)
    return _distinct(count, common * max(1, -(-count // common)), rng=rng)


def _distinct(count: int, capacity: int, *, rng: np.random.Generator) -> IntVector:
    """Different numbers below `capacity`, each set of them equally likely."""
    if 2 * count >= capacity:
        return rng.permutation(capacity)[:count]
    found = rng.integers(capacity, size=count)
    while True:
        again = np.ones(count, dtype=bool)
        again[np.unique(found, return_index=True)[1]] = False
        if not again.any():
            return found
        found[again] = rng.integers(capacity, size=int(again.sum()))


def _again(codes: IntVector, form: str) -> list[pa.Array]:
    """Behind the second, third... of equal codes its number, so that their texts differ; behind the first nothing."""
    order = np.argsort(codes, kind="stable")
    place = np.arange(len(codes))
    new = np.concatenate([[True], np.diff(codes[order]) != 0])[: len(codes)]
    time = np.empty(len(codes), dtype=np.int64)
    time[order] = place - np.maximum.accumulate(np.where(new, place, 0))
    return [_from(["", *(form.format(n + 1) for n in range(1, int(time.max(initial=0)) + 1))], time)]


def _places(choices: Sequence[str], numbers: IntVector) -> npt.NDArray[np.uint8]:
    """Numbers written with these digits, the last place first; shape (numbers, bytes)."""
    columns: list[npt.NDArray[np.uint8]] = []
    for place in reversed(choices):
        if len(place) == 1:  # fixed, and not always a single byte
            columns += [np.full(len(numbers), byte, dtype=np.uint8) for byte in reversed(place.encode())]
        else:
            columns.append(np.frombuffer(place.encode("ascii"), dtype=np.uint8)[numbers % len(place)])
            numbers = numbers // len(place)
    return np.column_stack(columns[::-1]) if columns else np.zeros((len(numbers), 0), dtype=np.uint8)


def _fixed(*parts: npt.NDArray[np.uint8]) -> pa.Array:
    """Texts of equal length from their bytes, side by side."""
    import pyarrow as pa

    content = np.ascontiguousarray(np.concatenate(parts, axis=1))
    ends = np.arange(len(content) + 1, dtype=np.int64) * content.shape[1]
    return pa.LargeStringArray.from_buffers(len(content), pa.py_buffer(ends), pa.py_buffer(content))


def _numbers(values: IntVector, *, as_text: bool = False) -> pa.Array:
    import pyarrow as pa

    array = pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])
    return array.cast(pa.large_string()) if as_text else array


def _from(words: Sequence[str], codes: IntVector) -> pa.Array:
    return _take(arrow_texts(words), codes)


def _take(array: pa.Array, places: IntVector) -> pa.Array:
    return array.take(_numbers(places))


def _joined(*parts: pa.Array | str) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = [pa.scalar(part, pa.large_string()) if isinstance(part, str) else part for part in parts]
    return pc.binary_join_element_wise(*texts, pa.scalar("", pa.large_string())) if len(texts) > 1 else texts[0]
