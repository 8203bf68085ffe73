"""Leaves of class P0, and numbers rounded towards the worse side."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from reports.evidence import Leaf


def p0(value: Any, src: str) -> Leaf:
    """A leaf that owes nothing to any row."""
    return Leaf(value, "P0", src)


def up(value: Fraction) -> float:
    """A float that is not below an exact value."""
    near = float(value)
    return near if Fraction(near) >= value else math.nextafter(near, math.inf)
