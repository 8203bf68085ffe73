"""Numbers as people write them: with a currency sign, thousands apart, a decimal comma, a percent sign."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property

_EXAMPLE = re.compile(
    r"(?P<before>[^\d()+,.=@\"-]*)1(?P<apart>[,.' _\u00a0\u2009\u202f\u2019]?)234"
    r"(?:(?P<mark>[,.])(?P<decimals>[0-9]{1,15}))?(?P<after>[^\d()+,.=@\"-]*)"
)

_BLANKS = " \t\u00a0\u2009\u202f"  # any of them may stand around a sign
_SPACE = f"[{_BLANKS}]*+"  # never given back: a cell of blanks alone would take for ever


@dataclass(frozen=True)
class Figures:
    """How the numbers of a column are written, shown by example.

    Texts are read with or without the signs around the number and between its thousands, but where there are signs they
    have to be these, and thousands to be threes. A minus stands before the number or before the sign in front of it, or
    the number stands in parentheses. The number is the one that is written: 12.5% is 12.5.

    Args:
        format: The number 1234 as such a column has it: "$1,234.56", "1.234,5 €", "1234%". The digits behind the mark
            say how many there are.
    Raises:
        ValueError: it is none.
    """

    format: str

    def __post_init__(self) -> None:
        found = _EXAMPLE.fullmatch(self.format)
        if found is None or (found["mark"] and found["mark"] == found["apart"]):
            raise ValueError(
                'format of a number must show how 1234 is written, such as "$1,234.56", "1.234,5 €" or "1234.5%"'
            )

    @cached_property
    def _parts(self) -> dict[str, str]:
        found = _EXAMPLE.fullmatch(self.format)
        assert found is not None
        return {name: text or "" for name, text in found.groupdict().items()}

    @property
    def decimals(self) -> int:
        """Digits behind the mark."""
        return len(self._parts["decimals"])

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        parts = {name: re.escape(text.strip(_BLANKS)) for name, text in self._parts.items()}
        apart = re.escape(self._parts["apart"])
        threes = f"[1-9][0-9]{{0,2}}(?:{apart}[0-9]{{3}})+(?![0-9])|" if apart else ""
        rest = f"(?:{parts['mark']}(?P<rest>[0-9]*))?" if parts["mark"] else "(?P<rest>)"
        return re.compile(
            rf"{_SPACE}(?P<open>\()?(?P<sign>[+-]?){_SPACE}(?:{parts['before']})?{_SPACE}(?P<inner>[+-]?)"
            rf"(?P<whole>{threes}[0-9]+){rest}{_SPACE}(?:{parts['after']})?(?P<close>\))?{_SPACE}"
        )

    def parse(self, text: str) -> float:
        """The number of a text, infinite where it is too large for float64; NaN for any other text."""
        found = self._pattern.fullmatch(text)
        if found is None:
            return math.nan
        signs = found["sign"] + found["inner"]
        if len(signs) > 1 or bool(found["open"]) != bool(found["close"]) or (found["open"] and signs):
            return math.nan
        digits = re.sub("[^0-9]", "", found["whole"])
        number = float(f"{digits}.{found['rest'] or '0'}")
        return -number if signs == "-" or found["open"] else number

    def text(self, number: float) -> str:
        """How a number is written."""
        parts, shown = self._parts, f"{abs(number):,.{self.decimals}f}"
        minus = "-" if number < 0 and any(digit in "123456789" for digit in shown) else ""
        whole, _, rest = shown.partition(".")
        return "".join(
            (minus, parts["before"], whole.replace(",", parts["apart"]), parts["mark"], rest, parts["after"])
        )
