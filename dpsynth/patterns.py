"""What the fakes of an identifier column look like: the name of a kind, or a pattern such as "MRN#######".

`dpsynth.fakes` makes them; here is only what a schema may say.
"""

from __future__ import annotations

import math
import string
from dataclasses import dataclass

PEOPLE = ("name", "first_name", "last_name", "username", "email")
PLACES = ("street", "city", "postcode", "address")
NUMBERS = ("phone", "ssn", "iban", "card", "ip", "uuid")
KINDS = (*PEOPLE, *PLACES, *NUMBERS)
NEVER_UNIQUE = ("city", "postcode")
"""Kinds that many people share by their nature."""

_FILLED_BY = {"#": string.digits, "?": string.ascii_uppercase}


@dataclass(frozen=True)
class Pattern:
    """A text of a fixed length, place by place.

    Args:
        places: The characters that may stand at each place: one where it is fixed.
    """

    places: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        r"""Reads a pattern: # is a digit, ? a letter from A to Z, and \ takes the next character as it is.

        Raises:
            ValueError: a backslash ends it, or every place is fixed.
        """
        places: list[str] = []
        rest = iter(text)
        for char in rest:
            if char == "\\":
                char = next(rest, "")
                if not char:
                    raise ValueError("format must not end in a backslash, which takes the next character as it is")
                places.append(char)
            else:
                places.append(_FILLED_BY.get(char, char))
        if all(len(choices) == 1 for choices in places):
            raise ValueError(
                f"format must be one of {', '.join(KINDS)}, or a pattern with # for a digit or ? for a letter"
            )
        return cls(tuple(places))

    @property
    def capacity(self) -> int:
        """How many texts there are."""
        return math.prod(map(len, self.places))
