"""What the values of a column look like, where they look like something that points at a person.

Numbers that have a rule of their own are judged by libraries that others maintain: python-stdnum (IBAN, card numbers by
Luhn, US tax numbers) and phonenumbers. The rest is strict and short: e-mail, IP and UUID; codes of one shape that hardly
repeat; full names; free text. Nothing here keeps, shows or returns a value.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from dpsynth.reading.first_rows import Glance

_MOST_VALUES = 500  # of a column, each different, that are looked at
_LEAST_VALUES = 20  # fewer say nothing about how values are distributed
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")
_UUID = re.compile(r"[0-9a-f]{8}(-?)[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{4}\1[0-9a-f]{12}", re.IGNORECASE)
_CARD = re.compile(r"\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{5}")
_TAX = re.compile(r"\d{3}-\d{2}-\d{4}")
_PHONE = re.compile(r"\+?\(?\d[\d ()./-]{5,20}\d( ?(x|ext\.?) ?\d+)?")
_DATE = re.compile(r"\d{1,4}([-/. ])\d{1,2}\1\d{1,4}")
_NAME = re.compile(r"[^\W\d_][^\W\d_'’.-]*(,? [^\W\d_][^\W\d_'’.-]*){1,3}")
_CODE = re.compile(r"[A-Za-z0-9]+([-_/.][A-Za-z0-9]+)*")
_COORDINATES = re.compile(r"[(]?(-?\d{1,2}\.\d+)[,; ] *(-?\d{1,3}\.\d+)[)]?")
_LARGEST_AMOUNT = 2**53  # float64 keeps every whole number up to here apart
_REGIONS = ("US", "GB", "DE", "FR", "IT", "ES", "NL", "CH", "IN", "AU", "BR", "JP")


@dataclass(frozen=True)
class Look:
    """What a column looks like.

    Args:
        type: "identifier" or "text": what to declare it as.
        words: What its values look like, in words.
        format: The format of fakes that would take their place; "" where none suggests itself.
    """

    type: str
    words: str
    format: str = ""


def look(seen: Glance) -> Look | None:
    """What most values of a column look like; None where they look like nothing that points at a person."""
    texts = [text.strip() for text in seen.texts[:_MOST_VALUES]]
    texts = [text for text in texts if text]
    if not texts:
        return None
    found = Counter(name for text in texts if (name := kind(text)) is not None)
    if 2 * found.total() >= len(texts):
        return _KINDS[found.most_common(1)[0][0]][1]
    if 2 * sum(map(_are_coordinates, texts)) >= len(texts):
        return Look("identifier", "coordinates")
    if 2 * sum(map(_is_beyond_amounts, texts)) >= len(texts):
        return Look("identifier", "numbers of 16 digits or more")
    repeats = 1 - len(seen.texts) / seen.rows
    if len(texts) < _LEAST_VALUES:
        return None
    if _are_codes(texts, repeats):
        return Look("identifier", "record numbers")
    if repeats <= 0.8 and sum(map(_is_name, texts)) >= 0.8 * len(texts):
        return Look("identifier", "full names", "name")
    if median(map(len, texts)) >= 40 or median(text.count(" ") for text in texts) >= 5:
        return Look("text", "free text")
    return None


def kind(text: str) -> str | None:
    """Which kind of identifier a text surely looks like: email, uuid, ip, iban, card, ssn or phone; None for no other."""
    return next((name for name, (is_one, _) in _KINDS.items() if is_one(text)), None)


def _is_ip(text: str) -> bool:
    if text.count(".") != 3 and text.count(":") < 2:
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_iban(text: str) -> bool:
    from stdnum import iban

    return text[:2].isalpha() and bool(iban.is_valid(text))


def _is_card(text: str) -> bool:
    from stdnum import luhn

    return bool(_CARD.fullmatch(text)) and bool(luhn.is_valid(re.sub("[ -]", "", text)))


def _is_tax_number(text: str) -> bool:
    from stdnum.us import itin, ssn

    return bool(_TAX.fullmatch(text)) and (bool(ssn.is_valid(text)) or bool(itin.is_valid(text)))


def _is_phone(text: str) -> bool:
    """A number that some country has, written as people write phone numbers: bare digits are any number."""
    if not _PHONE.fullmatch(text) or text.isdigit() or _DATE.fullmatch(text) or re.fullmatch(r"\d+[.-]\d+", text):
        return False
    import phonenumbers

    for region in (None,) if text.startswith("+") else _REGIONS:
        try:
            number = phonenumbers.parse(text, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            return True
        if text.startswith(("+", "(")) and phonenumbers.is_possible_number(number):
            return True
    return False


def _are_coordinates(text: str) -> bool:
    """Latitude and longitude in one text, in degrees."""
    pair = _COORDINATES.fullmatch(text)
    return pair is not None and abs(float(pair[1])) <= 90 and abs(float(pair[2])) <= 180


def _is_beyond_amounts(text: str) -> bool:
    """A whole number too large to be counted with: a code, of which the last digits matter."""
    return text.removeprefix("-").isdecimal() and len(text) < 1000 and abs(int(text)) > _LARGEST_AMOUNT


def _is_name(text: str) -> bool:
    if len(text) > 50 or not _NAME.fullmatch(text):
        return False
    return all(word[0].isupper() or word[0].lower() == word[0].upper() for word in re.split(r",? ", text))


def _are_codes(texts: Sequence[str], repeats: float) -> bool:
    """Codes of one shape: with letters in them, a person's may repeat; bare digits look like any number if they do."""
    if not all(_CODE.fullmatch(text) for text in texts) or all(_DATE.fullmatch(text) for text in texts):
        return False
    shapes = Counter(re.sub("[A-Za-z]", "a", re.sub("[0-9]", "9", text)) for text in texts)
    shape, often = shapes.most_common(1)[0]
    if often < 0.9 * len(texts) or "." in shape:
        return False
    digits = shape.count("9")
    return (digits >= 4 and repeats <= 0.8) if "a" in shape else (digits >= 6 and repeats <= 0.01)


_KINDS: dict[str, tuple[Callable[[str], bool], Look]] = {
    "email": (lambda text: bool(_EMAIL.fullmatch(text)), Look("identifier", "e-mail addresses", "email")),
    "uuid": (lambda text: bool(_UUID.fullmatch(text)), Look("identifier", "UUIDs", "uuid")),
    "ip": (_is_ip, Look("identifier", "IP addresses", "ip")),
    "iban": (_is_iban, Look("identifier", "IBANs", "iban")),
    "card": (_is_card, Look("identifier", "card numbers", "card")),
    "ssn": (_is_tax_number, Look("identifier", "social security numbers", "ssn")),
    "phone": (_is_phone, Look("identifier", "phone numbers", "phone")),
}
