"""Fakes for identifier columns: texts that look right, and owe nothing to the data.

They are drawn from a generator that never saw a row, so they cost no budget. Where a kind of number has a range that is
given to nobody, fakes come from that range (docs/identifiers.md lists them). Columns of one row that speak of a person
speak of the same one: an e-mail address is made of the name beside it. Whole columns are built at once.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from dpsynth.errors import OperationError, SchemaError, UsageError
from dpsynth.patterns import KINDS, PEOPLE, PLACES, Pattern
from dpsynth.randomness import sampling_generator
from dpsynth.schema import Column, Schema
from dpsynth.schema.quoting import quoted
from dpsynth.silence import no_warnings
from dpsynth.table import arrow_texts

if TYPE_CHECKING:
    import pyarrow as pa

IntVector: TypeAlias = npt.NDArray[np.int64]

LOCALE = "en_US"
_POOL_DRAWS = 2000  # of each part of a name or address
_MOST = 2**62  # numbers that int64 holds
_HOUSES = 999
_PHONES = 63_000
_TAX_NUMBERS = 100 * 49 * 9999
_DOCUMENTED = 768  # addresses of RFC 5737
_RESERVED = 2**28 - 1  # addresses of 240/4 but the last
_MOST_DIFFERENT = {"ssn": _TAX_NUMBERS, "ip": _RESERVED}
_DOMAINS = ("example.com", "example.net", "example.org")
_DIGITS = "0123456789"
_ROUNDS = 10


def check_fakes(schema: Schema, rows: int) -> None:
    """Refuses, from the schema alone, fakes that cannot be made for so many rows.

    Raises:
        UsageError: a pattern makes fewer texts than must differ, or Faker does not know a locale.
        OperationError: Faker is needed and not installed.
    """
    for column in _with_locales(schema):
        if column.format in (*PEOPLE, *PLACES):
            _faker(str(column.locale))
        elif column.unique and rows > (most := _most_different(column)):
            raise UsageError(
                f"column {quoted(column.name)}: its format makes fewer texts than the {rows} rows that must differ: "
                f"lengthen it, ask for at most {most} rows, or declare rows_at_most"
            )


def _most_different(column: Column) -> int:
    """How many different fakes there are, of a column that is no part of a person."""
    if column.format is None or column.format in KINDS:
        return _MOST_DIFFERENT.get(str(column.format), _MOST)
    return Pattern.parse(column.format).capacity


class Fakes:
    """Fakes for rows that come part by part: what must differ differs over all parts.

    Between parts it remembers how often each text with a number behind it was made, at most some megabytes a column,
    and where it is in an order of all numbers that is never written down.

    Args:
        schema: What the columns mean.
        rows: How many rows will come in all, at most.
    """

    def __init__(self, schema: Schema, rows: int, *, rng: np.random.Generator) -> None:
        self._columns = _with_locales(schema)
        self._rows = rows
        self._rng = rng
        self._orders: dict[tuple[str, int], _Order] = {}
        self._times: dict[str, _Times] = {column.name: _Times() for column in self._columns}
        self._made: dict[str, int] = {}
        # Two columns of one kind speak of two people; columns of different kinds, in order, of the same one.
        self._person: dict[str, tuple[str, int]] = {}
        seen: dict[tuple[str, str], int] = {}
        for column in self._columns:
            if column.format in (*PEOPLE, *PLACES):
                kind = (str(column.format), str(column.locale))
                self._person[column.name] = (kind[1], seen.get(kind, 0))
                seen[kind] = seen.get(kind, 0) + 1

    def part(self, rows: int, person: IntVector | None = None) -> dict[str, pa.Array]:
        """A fake for each of the next rows, by the name of the column, for every column that is filled.

        Args:
            person: To whom each of these rows belongs, in 0 .. persons - 1; shape (rows,). None of them is in another part.
                Without it every row is a person.
        Raises:
            OperationError: `check_fakes` was not asked, or another program wrote more rows than it was told to, and a
                pattern has too few texts.
        """
        owner = np.arange(rows) if person is None else person
        made: dict[str, pa.Array] = {}
        persons: dict[tuple[str, int], _Person] = {}
        for column in self._columns:
            who = owner if column.per_unit else np.arange(rows)
            count = int(who.max(initial=-1)) + 1
            if column.format is None:
                first = self._made.get(column.name, 0) + 1
                made[column.name] = _take(_numbers(self._rng.permutation(count) + first), who)
            elif column.name in self._person:
                key = self._person[column.name]
                if key not in persons:
                    together = [c for c in self._columns if self._person.get(c.name) == key]
                    persons[key] = _Person.drawn(key[0], together, owner, draw=self._draws(repr(key)))
                made[column.name] = persons[key].texts(column, owner, self._times[column.name])
            elif column.unique and self._made.get(column.name, 0) + count > _most_different(column):
                raise OperationError(
                    f"column {quoted(column.name)}: more rows were made than its format has texts: lengthen it"
                )
            else:
                made[column.name] = _take(self._texts(column, count), who)
            self._made[column.name] = self._made.get(column.name, 0) + count
        return made

    def _texts(self, column: Column, count: int) -> pa.Array:
        draw = self._draws(column.name)
        if column.format not in KINDS:
            return _patterned(column, count, draw=draw, rng=self._rng)
        if column.format == "ip":
            return _addresses(count, unique=bool(column.unique), are_many=self._rows > _DOCUMENTED, draw=draw)
        return _numbered(column, count, draw=draw, times=self._times[column.name], rng=self._rng)

    def _draws(self, name: str) -> Draw:
        """Draws numbers for one column or person."""

        def draw(count: int, below: int, *, unique: bool) -> IntVector:
            if not unique:
                return self._rng.integers(below, size=count)
            if (name, below) not in self._orders:
                self._orders[name, below] = _Order(below, rng=self._rng)
            return self._orders[name, below].take(count)

        return draw


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
        with no_warnings():
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
    def drawn(cls, locale: str, columns: Sequence[Column], owner: IntVector, *, draw: Draw) -> _Person:
        pools = _pools(locale)
        is_owner = any(column.per_unit for column in columns)
        count = int(owner.max(initial=-1)) + 1 if is_owner else len(owner)
        differ = any(column.unique for column in columns if column.format in ("name", "username", "email"))
        apart = any(column.unique for column in columns if column.format in ("street", "address"))
        who = draw(count, len(pools.first) * len(pools.last), unique=differ)
        house = draw(count, _HOUSES * len(pools.street), unique=apart)
        return cls(
            pools=pools,
            words={
                "first": who % len(pools.first),
                "last": who // len(pools.first),
                "house": house % _HOUSES,
                "street": house // _HOUSES,
                "city": draw(count, len(pools.city), unique=False),
                "postcode": draw(count, len(pools.postcode), unique=False),
            },
            is_owner=is_owner,
        )

    def texts(self, column: Column, owner: IntVector, times: _Times) -> pa.Array:
        """The column, shape (rows,)."""
        words = self.words
        if self.is_owner and not column.per_unit:
            words = {name: codes[owner] for name, codes in words.items()}
        made = getattr(self, f"_{column.format}")(words, times if column.unique else None)
        return _take(made, owner) if column.per_unit else made

    def _name(self, words: dict[str, IntVector], times: _Times | None) -> pa.Array:
        pools, codes = self.pools, words["last"] * len(self.pools.first) + words["first"]
        again = _again(times, codes, len(pools.first) * len(pools.last), " {}")
        return _joined(_from(pools.first, words["first"]), " ", _from(pools.last, words["last"]), *again)

    def _first_name(self, words: dict[str, IntVector], times: _Times | None) -> pa.Array:
        again = _again(times, words["first"], len(self.pools.first), " {}")
        return _joined(_from(self.pools.first, words["first"]), *again)

    def _last_name(self, words: dict[str, IntVector], times: _Times | None) -> pa.Array:
        again = _again(times, words["last"], len(self.pools.last), " {}")
        return _joined(_from(self.pools.last, words["last"]), *again)

    def _username(self, words: dict[str, IntVector], times: _Times | None) -> pa.Array:
        (firsts, first), (lasts, last) = self.pools.locals
        one, two = first[words["first"]], last[words["last"]]
        again = _again(times, two * len(firsts) + one, len(firsts) * len(lasts), "{}")
        return _joined(_from(firsts, one), ".", _from(lasts, two), *again)

    def _email(self, words: dict[str, IntVector], times: _Times | None) -> pa.Array:
        domain = (words["first"] + words["last"]) % len(_DOMAINS)
        return _joined(self._username(words, times), "@", _from(_DOMAINS, domain))

    def _street(self, words: dict[str, IntVector], times: _Times | None) -> pa.Array:
        number, street = _numbers(words["house"] + 1, as_text=True), _from(self.pools.street, words["street"])
        again = _again(times, words["street"] * _HOUSES + words["house"], _HOUSES * len(self.pools.street), " / {}")
        return _joined(*((number, " ", street) if self.pools.number_first else (street, " ", number)), *again)

    def _city(self, words: dict[str, IntVector], times: _Times | None) -> pa.Array:
        return _from(self.pools.city, words["city"])

    def _postcode(self, words: dict[str, IntVector], times: _Times | None) -> pa.Array:
        return _from(self.pools.postcode, words["postcode"])

    def _address(self, words: dict[str, IntVector], times: _Times | None) -> pa.Array:
        city, postcode = self._city(words, None), self._postcode(words, None)
        town = (city, " ", postcode) if self.pools.number_first else (postcode, " ", city)
        return _joined(self._street(words, times), ", ", *town)


# ---- numbers -----------------------------------------------------------------------------------------------------


def _patterned(column: Column, count: int, *, draw: Draw, rng: np.random.Generator) -> pa.Array:
    """Texts of a pattern. Where there are more than int64 can number, the first places are drawn on their own."""
    pattern = Pattern.parse(str(column.format))
    places = pattern.places
    split, capacity = len(places), 1
    while split and capacity * len(places[split - 1]) <= _MOST:
        split -= 1
        capacity *= len(places[split])
    free = [_places((choices,), rng.integers(len(choices), size=count)) for choices in places[:split]]
    return _fixed(*free, _places(places[split:], draw(count, capacity, unique=bool(column.unique))))


def _numbered(column: Column, count: int, *, draw: Draw, times: _Times, rng: np.random.Generator) -> pa.Array:
    unique = bool(column.unique)
    if column.format == "phone":  # 555-0100 to 555-0199 are kept free for fiction, but not where calls are free (8..)
        number = draw(count, _PHONES, unique=unique)
        places = ("(", "2345679", _DIGITS, _DIGITS[1:], *") 555-01", _DIGITS, _DIGITS)
        return _joined(_fixed(_places(places, number)), *_again(times if unique else None, number, _PHONES, " x{}"))
    if column.format == "ssn":  # areas from 900 are no social security numbers, groups below 50 no taxpayer numbers
        number = draw(count, _TAX_NUMBERS, unique=unique)
        whole = (number // (49 * 9999) + 900) * 10**6 + (number // 9999 % 49 + 1) * 10**4 + number % 9999 + 1
        places = (*[_DIGITS] * 3, "-", *[_DIGITS] * 2, "-", *[_DIGITS] * 4)
        return _fixed(_places(places, whole))
    if column.format == "card":  # 9 is for national use, 999 no country: no issuer has such numbers
        number = draw(count, 10**11, unique=unique)
        return _fixed(_places([_DIGITS] * 16, (9999 * 10**11 + number) * 10 + _luhn(9999 * 10**11 + number)))
    if column.format == "iban":  # the first digit of a German bank code is its area, 1 to 8
        account = 9 * 10**17 + draw(count, 10**17, unique=unique)
        check = 98 - (account % 97 * 10**6 + 131400) % 97
        return _fixed(_places(("D", "E", _DIGITS, _DIGITS), check), _places([_DIGITS] * 18, account))
    number = draw(count, _MOST, unique=unique)
    node = _places(["89ab", *["0123456789abcdef"] * 15], number)
    head = _places(["0123456789abcdef"] * 15, rng.integers(16**15, size=count))
    dash, four = (np.full((count, 1), ord(char), dtype=np.uint8) for char in "-4")
    return _fixed(head[:, :8], dash, head[:, 8:12], dash, four, head[:, 12:], dash, node[:, :4], dash, node[:, 4:])


def _addresses(count: int, *, unique: bool, are_many: bool, draw: Draw) -> pa.Array:
    """Addresses for documentation (RFC 5737), or where those are too few and must differ, of the reserved block 240/4."""
    if unique and are_many:
        address = (240 << 24) + draw(count, _RESERVED, unique=True)
    else:
        number = draw(count, _DOCUMENTED, unique=unique)
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


class Draw(Protocol):
    """Draws numbers below a bound; if they must differ, none comes again before all have come."""

    def __call__(self, count: int, below: int, *, unique: bool) -> IntVector: ...


class _Order:
    """All numbers below a bound in a random order, of which no list is kept; when all have come, in another one.

    Source: an unbalanced Feistel network over the next power of two, applied until it lands below the bound (Black and
    Rogaway, Ciphers with Arbitrary Finite Domains, CT-RSA 2002, section 4). Its rounds mix, and are no cipher: a fake
    has nothing to hide.
    """

    def __init__(self, below: int, *, rng: np.random.Generator) -> None:
        self._below, self._rng = below, rng
        bits = max(2, (below - 1).bit_length())
        self._low = np.uint64(bits // 2)
        self._masks = np.uint64((1 << (bits - bits // 2)) - 1), np.uint64((1 << bits // 2) - 1)
        self._next = 0
        self._keys = self._fresh()

    def _fresh(self) -> npt.NDArray[np.uint64]:
        return self._rng.integers(2**64 - 1, size=_ROUNDS, dtype=np.uint64, endpoint=True)

    def take(self, count: int) -> IntVector:
        """The next numbers; shape (count,)."""
        parts = []
        while count:
            some = min(count, self._below - self._next)
            parts.append(self._placed(np.arange(self._next, self._next + some, dtype=np.uint64)))
            self._next, count = self._next + some, count - some
            if self._next == self._below:
                self._next, self._keys = 0, self._fresh()
        return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, dtype=np.int64)

    def _placed(self, places: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        out = self._mixed(places)
        while len(beyond := np.flatnonzero(out >= self._below)):
            out[beyond] = self._mixed(out[beyond])
        return out

    def _mixed(self, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        halves = [numbers >> self._low, numbers & self._masks[1]]
        for turn, key in enumerate(self._keys):
            mixed = (halves[1 - turn % 2] + key) * np.uint64(0xBF58476D1CE4E5B9)
            mixed ^= mixed >> np.uint64(29)
            mixed *= np.uint64(0x94D049BB133111EB)
            halves[turn % 2] ^= mixed >> np.uint64(32) & self._masks[turn % 2]
        return halves[0] << self._low | halves[1]


class _Times:
    """How often each code came."""

    def __init__(self) -> None:
        self._seen = np.zeros(0, dtype=np.int64)

    def of(self, codes: IntVector, below: int) -> IntVector:
        """How often each of these came before, in this part or an earlier one."""
        if not len(self._seen):
            self._seen = np.zeros(below, dtype=np.int64)
        order = np.argsort(codes, kind="stable")
        place = np.arange(len(codes))
        new = np.concatenate([[True], np.diff(codes[order]) != 0])[: len(codes)]
        time = np.empty(len(codes), dtype=np.int64)
        time[order] = place - np.maximum.accumulate(np.where(new, place, 0))
        time += self._seen[codes]
        np.maximum.at(self._seen, codes, time + 1)
        return time


def _again(times: _Times | None, codes: IntVector, below: int, form: str) -> list[pa.Array]:
    """Behind the second, third... of equal codes its number, so that their texts differ; behind the first nothing."""
    if times is None:
        return []
    time = times.of(codes, below)
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
