"""Numbers as a reader sees them. Nothing is computed here but the rounding, and each rounding names its direction.

A ceiling is rounded up and a floor down, so that no printed bound is better than the proven one.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from math import ceil
from typing import Final, Literal, TypeAlias

from reports.paths import Value

Direction: TypeAlias = Literal["up", "down", "nearest"]

ABSENT: Final = "not available"
MINUS: Final = "\u2212"
_ROUND: Final = {"up": ROUND_CEILING, "down": ROUND_FLOOR, "nearest": ROUND_HALF_EVEN}


def _decimal(value: float) -> Decimal:
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def _rounded(value: Decimal, places: int, direction: Direction) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), rounding=_ROUND[direction])


def _signed(text: str) -> str:
    return MINUS + text[1:] if text.startswith("-") else text


def hundred(value: float, direction: Direction = "up") -> str:
    """A share as so many of 100: 0.01899 is "1.9"."""
    share = _decimal(value) * 100
    size = abs(share)
    places = 1 if size >= 1 or size == 0 else 2 if size >= Decimal("0.1") else 3
    return _signed(f"{_rounded(share, places, direction).normalize() + 0:f}")


def percent(value: float, direction: Direction = "nearest") -> str:
    """A share in per cent."""
    return f"{hundred(value, direction)}%"


def points(value: float, direction: Direction = "nearest") -> str:
    """A difference of two shares, in percentage points, always with its sign."""
    text = hundred(value, direction)
    return text if text.startswith(MINUS) or text == "0" else f"+{text}"


def number(value: float, direction: Direction = "nearest", digits: int = 4) -> str:
    """A number with a few significant digits; whole numbers keep all of theirs."""
    exact = _decimal(value)
    if exact == 0:
        return "0"
    if exact == exact.to_integral_value() and abs(exact) < 10**15:
        return _signed(f"{int(exact):,}")
    places = digits - 1 - exact.adjusted()
    out = exact if places <= 0 and abs(exact) < 10**digits else _rounded(exact, max(places, 0), direction)
    out = out.normalize()
    if out.adjusted() < -4:
        mantissa, _, power = f"{out:e}".partition("e")
        return _signed(f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}e{int(power)}")
    return _signed(f"{out:,f}")


def dots(value: float) -> int:
    """How many of 100 dots stand for a share, a started one counted whole."""
    return min(100, max(0, ceil(_decimal(value) * 100)))


def plain(value: Value, direction: Direction = "nearest") -> str:
    """Any value of the evidence as words."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return "; ".join(value) if value else "none"
    return value if isinstance(value, str) else number(value, direction)
