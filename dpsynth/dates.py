"""Dates and times as whole numbers: how many days, or seconds, since 1970-01-01.

The calendar is the proleptic Gregorian one, years 1 to 9999, without leap seconds. A time with a zone is taken at UTC, a
time without one as it is written. So a number is a date of the calendar by construction, and nothing here can write a
30th of February.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pyarrow as pa

FloatVector = npt.NDArray[np.float64]
IntVector = npt.NDArray[np.int64]

TIMES = ("date", "datetime")
DAY = 86_400  # seconds
CYCLES = {"weekday": 7, "month": 12, "hour": 24}
"""What dates repeat in, and how many phases each cycle has: Monday, January and midnight are the first."""
FIRST, LAST = -62_135_596_800, 253_402_300_799
"""The first second of year 1 and the last of year 9999, counted from 1970-01-01."""

_DEFAULT = {"date": "%Y-%m-%d", "datetime": "%Y-%m-%dT%H:%M:%S"}
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DIGITS = {"Y": 4, "m": 2, "d": 2, "y": 2, "j": 3, "H": 2, "I": 2, "M": 2, "S": 2, "f": 9}
_WORDS = {
    "b": "|".join(f"(?i:{name[:3]})" for name in _MONTHS),
    "B": "|".join(f"(?i:{name})" for name in _MONTHS),
    "p": "(?i:am)|(?i:pm)",
    "z": "Z|[+-][0-9]{2}:?[0-9]{2}",
}
_SHOWN = {"Y": "%04d", "j": "%03d", "f": "%06d", "b": "%s", "B": "%s", "p": "%s", "z": "+00:00"}
_PIVOT = 69  # POSIX strptime: %y is 1969 to 2068
_KNOWN = "%Y %y %m %b %B %d %j %H %I %p %M %S %f %z"


@dataclass(frozen=True)
class Clock:
    """How the dates or times of a column are counted and written.

    The format is strftime's, read strictly: the whole text, every field in its range, in English, zeros in front left
    out only where a sign follows. A datetime whose format shows no seconds is counted in minutes, and in hours where it
    shows no minutes either: what a file cannot hold, synthetic rows do not have.

    Args:
        kind: "date" or "datetime".
        format: How texts are written; None for ISO 8601.
        others: Formats that texts may have besides: of all, the first that a text fits counts.
    Raises:
        ValueError: a format is none, or loses the date; the text says why.
    """

    kind: str
    format: str | None = None
    others: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(Clock(self.kind, other).unit < self.unit for other in self.others):
            raise ValueError("the first of formats must be as fine as the others: it is the one that is written")
        letters = [letter for letter, _ in self._parts if letter]
        found = set(letters)
        if len(found) < len(letters):
            raise ValueError("format must not name a field twice")
        if not found <= _DIGITS.keys() | _WORDS.keys():
            raise ValueError(f"format must be made of {_KNOWN} and other signs")
        year, month = found & {"Y", "y"}, found & {"m", "b", "B"}
        if len(year) != 1 or not ("j" in found or (month and "d" in found)):
            raise ValueError("format must hold the whole date: a year, and a month and a day or %j")
        if len(month) > 1 or ("j" in found and (month or "d" in found)):
            raise ValueError("format must not say the day in two ways")
        hour = found & {"H", "I"}
        if self.kind == "date" and found & {"H", "I", "p", "M", "S", "f", "z"}:
            raise ValueError('format must not hold a time of day: declare type = "datetime"')
        if self.kind == "datetime":
            if len(hour) != 1 or ("I" in hour) != ("p" in found):
                raise ValueError('format must hold the hour, as %H or as %I and %p, or else type must be "date"')
            if ("S" in found and "M" not in found) or ("f" in found and "S" not in found):
                raise ValueError("format must hold minutes if seconds, and seconds if fractions of them")

    @cached_property
    def _parts(self) -> tuple[tuple[str, str], ...]:
        """Fields and what stands between them: (letter, "") or ("", text)."""
        found = re.findall(r"%(.)|([^%]+|%)", self.written, re.DOTALL)
        return tuple(("", "%") if letter == "%" else (letter, text) for letter, text in found)

    @property
    def written(self) -> str:
        """The format, ISO 8601 where none was given."""
        return _DEFAULT[self.kind] if self.format is None else self.format

    @property
    def unit(self) -> int:
        """Seconds from one number to the next."""
        letters = {letter for letter, _ in self._parts}
        if self.kind == "date":
            return DAY
        return 1 if "S" in letters else 60 if "M" in letters else 3_600

    # ---- facts in ISO 8601 ---------------------------------------------------------------------------------------

    def number(self, value: object) -> Fraction:
        """The number of an ISO 8601 text, or of a date or time of Python; whole where the column can hold it.

        Raises:
            ValueError: it is none of these.
        """
        if isinstance(value, str):
            if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?)?", value):
                raise ValueError("not an ISO 8601 date or time")
            value = datetime.fromisoformat(value)
        if not isinstance(value, date):
            raise ValueError("not a date or time")
        return Fraction(seconds_of(value), self.unit)

    def iso(self, number: float) -> str:
        """A number as ISO 8601 text."""
        shown = str(_moments(np.array([number * self.unit]))[0])
        return shown[:10] if self.kind == "date" else shown

    # ---- cells ---------------------------------------------------------------------------------------------------

    def of_seconds(self, seconds: IntVector) -> FloatVector:
        """Numbers of times counted in seconds, of which the rest of a step is cut off; NaN outside years 1 to 9999."""
        numbers: FloatVector = np.where((seconds < FIRST) | (seconds > LAST), np.nan, seconds // self.unit)
        return numbers

    def parse(self, texts: pa.Array) -> FloatVector:
        """The number of each text that a format spells, blanks around it left out; NaN for every other text."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.extract_regex(texts, self._pattern)
        spelled = np.from_dlpack(found.is_valid().cast(pa.uint8())) > 0
        fields = dict(zip((field.name for field in found.type), found.filter(found.is_valid()).flatten(), strict=True))
        numbers = np.full(len(texts), np.nan)
        numbers[spelled] = self.of_seconds(_seconds({k: _field(k, texts) for k, texts in fields.items()}))
        for other in self.others:
            left = np.flatnonzero(np.isnan(numbers))
            if len(left):
                clock = Clock(self.kind, other)
                found = clock.parse(texts.take(pa.array(left)))
                numbers[left] = found * (clock.unit // self.unit)
        return numbers

    def texts(self, numbers: FloatVector) -> list[str]:
        """How the format writes numbers; none may be NaN."""
        moments = _moments(numbers * self.unit)
        days, months, years = (moments.astype(f"datetime64[{unit}]") for unit in "DMY")
        clock = (moments - days).astype(np.int64)
        hour = clock // 3_600
        year = years.astype(np.int64) + 1970
        month = (months - years.astype("datetime64[M]")).astype(np.int64)
        fields: dict[str, Any] = {
            "Y": year,
            "y": year % 100,
            "m": month + 1,
            "b": np.array([name[:3] for name in _MONTHS], dtype=object)[month],
            "B": np.array(_MONTHS, dtype=object)[month],
            "d": (days - months.astype("datetime64[D]")).astype(np.int64) + 1,
            "j": (days - years.astype("datetime64[D]")).astype(np.int64) + 1,
            "H": hour,
            "I": (hour + 11) % 12 + 1,
            "p": np.where(hour < 12, "AM", "PM"),
            "M": clock // 60 % 60,
            "S": clock % 60,
            "f": np.zeros(len(numbers), dtype=np.int64),
        }
        template = "".join(
            _SHOWN.get(letter, "%02d") if letter else text.replace("%", "%%") for letter, text in self._parts
        )
        lists = [fields[letter].tolist() for letter, _ in self._parts if letter in fields]
        return [template % row for row in zip(*lists, strict=True)]

    def phases(self, cycle: str, numbers: FloatVector) -> IntVector:
        """The phase of a cycle in which each number lies, from 0; none may be NaN."""
        seconds = numbers.astype(np.int64) * self.unit
        if cycle == "weekday":
            return (seconds // DAY + 3) % 7  # 1970-01-01 was a Thursday
        if cycle == "hour":
            return seconds // 3_600 % 24
        months: IntVector = seconds.astype("datetime64[s]").astype("datetime64[M]").astype(np.int64)
        return months % 12

    def turn(self, cycles: Iterable[str]) -> int:
        """How many numbers in a row have all cycles in the same phase, at least: those of a day, or of an hour."""
        return max(1, (3_600 if "hour" in cycles else DAY) // self.unit)

    def can_write(self, number: float) -> bool:
        """Whether the format keeps the year of a number: with %y, years 1969 to 2068 only."""
        return all(letter != "y" for letter, _ in self._parts) or 1969 <= int(self.iso(number)[:4]) <= 2068

    @cached_property
    def _pattern(self) -> str:
        """A regular expression of the whole text. Digits that touch others have their full width."""
        parts = self._parts
        out = []
        for place, (letter, text) in enumerate(parts):
            if letter in _DIGITS:
                most = _DIGITS[letter]
                before, after = parts[max(place - 1, 0)], parts[min(place + 1, len(parts) - 1)]
                digits = {near[0] for near in (before, after)} & _DIGITS.keys() - {letter}
                touched = bool(digits) or before[1][-1:].isdigit() or after[1][:1].isdigit()
                width = f"{{{most}}}" if letter in "Yy" or (touched and letter != "f") else f"{{1,{most}}}"
                out.append(f"(?P<{letter}>[0-9]{width})")
            else:
                out.append(f"(?P<{letter}>{_WORDS[letter]})" if letter else re.escape(text))
        return r"\A[ \t]*" + "".join(out) + r"[ \t]*\z"


def seconds_of(moment: date) -> int:
    """Whole seconds from 1970-01-01 to a date or time of Python, at UTC where it has a zone."""
    if isinstance(moment, datetime) and (offset := moment.utcoffset()) is not None:
        away = offset.days * DAY + offset.seconds
        return seconds_of(moment.replace(tzinfo=None)) - away
    days = (moment.toordinal() - date(1970, 1, 1).toordinal()) * DAY
    return days + moment.hour * 3_600 + moment.minute * 60 + moment.second if isinstance(moment, datetime) else days


def _moments(seconds: FloatVector) -> npt.NDArray[np.datetime64]:
    return seconds.astype(np.int64).astype("datetime64[s]")


def _field(letter: str, texts: pa.Array) -> IntVector:
    """The numbers of one field."""
    import pyarrow as pa

    if letter == "f":
        return np.zeros(len(texts), dtype=np.int64)  # fractions of a second are cut off
    if letter in _DIGITS:
        return np.asarray(np.from_dlpack(texts.cast(pa.int64())), dtype=np.int64)
    codes = texts.dictionary_encode()
    spelled = [_word(letter, word) for word in codes.dictionary.to_pylist()]
    found: IntVector = np.array(spelled, dtype=np.int64)[np.from_dlpack(codes.indices.cast(pa.int64()))]
    return found


def _word(letter: str, word: str) -> int:
    """A month's number, 12 for the afternoon, or a zone's seconds east of UTC (a day or more where it is none)."""
    if letter in "bB":
        return [name[:3].lower() for name in _MONTHS].index(word[:3].lower()) + 1
    if letter == "p":
        return 12 * (word.lower() == "pm")
    if word == "Z":
        return 0
    hours, minutes = int(word[1:3]), int(word[-2:])
    east = hours * 3_600 + minutes * 60 if hours < 24 and minutes < 60 else DAY
    return -east if word[0] == "-" else east


def _seconds(fields: dict[str, IntVector]) -> IntVector:
    """Seconds since 1970-01-01 of fields of a date and a time; before `FIRST` where a field is out of its range."""
    some = next(iter(fields.values()))
    zero = np.zeros(len(some), dtype=np.int64)
    year = fields["Y"] if "Y" in fields else np.where(fields["y"] < _PIVOT, 2000, 1900) + fields["y"]
    month = next((fields[letter] for letter in "mbB" if letter in fields), zero + 1)
    day = fields["j"] if "j" in fields else fields["d"]
    hour = fields.get("H", zero)
    if "I" in fields:
        hour = fields["I"] % 12 + fields["p"]
    minute, second, east = fields.get("M", zero), fields.get("S", zero), fields.get("z", zero)
    right = (year >= 1) & (month >= 1) & (month <= 12) & (hour < 24) & (minute < 60) & (second < 60) & (abs(east) < DAY)
    if "I" in fields:
        right &= (fields["I"] >= 1) & (fields["I"] <= 12)
    start = (np.where(right, year - 1970, 0) * 12 + np.where(right, month - 1, 0)).astype("datetime64[M]")
    end = start + (12 if "j" in fields else 1)
    days = start.astype("datetime64[D]") + (day - 1)
    right &= (day >= 1) & (days < end.astype("datetime64[D]"))
    seconds: IntVector = days.astype(np.int64) * DAY + hour * 3_600 + minute * 60 + second - east
    return np.where(right, seconds, FIRST - 1)
