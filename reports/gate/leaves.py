"""Leaves of the evidence as numbers, texts, days and intervals; None or empty where one is lost or of another kind."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final

from dpsynth.schema.vocabulary import DROPPED
from reports.evidence import Evidence, Leaf
from reports.paths import Value, fits_kind, is_number

LEAST_CONFIDENCE = 0.9  # an interval of an attack says less than this one and could as well be left out
ROUNDING = 1e-6  # evidence is printed with a few digits; consistency is judged with this relative slack


def number_in(row: Mapping[str, Leaf], field: str) -> float | None:
    """The number in a row of a table; None where it is lost, or no number."""
    return row[field].number if field in row else None


def text_in(row: Mapping[str, Leaf], field: str) -> str:
    """The text in a row of a table; empty where it is lost, or no text."""
    value = row[field].value if field in row else None
    return value if isinstance(value, str) else ""


def columns_with(evidence: Evidence, field: str, value: str) -> set[str]:
    """The names of the columns of which `field` says `value`."""
    rows = (row for row in evidence.rows("columns") if field in row and row[field].value == value)
    return {text_in(row, "name") for row in rows}


def read_off_data(evidence: Evidence) -> set[str]:
    """The names of the columns whose domain was read off the data: of those that a model learns, others have none."""
    rows = (row for row in evidence.rows("columns") if text_in(row, "type") not in DROPPED)
    return {text_in(row, "name") for row in rows if text_in(row, "source") == "data"}


def as_day(value: Value) -> date | None:
    """The day with which a text begins, None where there is none."""
    try:
        return date.fromisoformat(value[:10]) if isinstance(value, str) else None
    except ValueError:
        return None


def has_ends(leaf: Leaf) -> bool:
    """Whether a leaf has an interval with a width, at a confidence that is worth something."""
    low, high, confidence = leaf.low, leaf.high, leaf.confidence
    return (
        is_number(low)
        and is_number(high)
        and is_number(confidence)
        and low < high
        and LEAST_CONFIDENCE <= confidence < 1
    )


def is_inside(path: str, leaf: Leaf) -> bool:
    """Whether an estimate lies in its interval; both may have been cut to the values that a rate can have."""
    if leaf.low is None or leaf.high is None:
        return True
    value = leaf.number
    if value is None:
        return False
    least = 0.0 if path.endswith("_rate") else -1.0
    cut = (value, min(1.0, max(least, value)))
    return any(leaf.low - ROUNDING <= number <= leaf.high + ROUNDING for number in cut)


def is_below(stated: float, implied: float) -> bool:
    """Whether a figure is smaller than another that it must reach, by more than printing explains."""
    return implied > stated * (1 + ROUNDING) + ROUNDING


_LIFETIME: Final = frozenset(
    {"ledger.spent_before_epsilon", "ledger.spent_epsilon", "risk.tpr_at_fpr", "risk.advantage"}
)


def is_without_number(path: str, evidence: Evidence) -> bool:
    """Whether a lifetime figure cannot exist: an earlier release had no differential privacy (compliance.md 3.3).

    Then a person has to decide; the evidence must say so at the path itself.
    """
    leaf, count = evidence.get(path), evidence.value("ledger.imports_not_dp")
    return (
        path in _LIFETIME
        and leaf is not None
        and leaf.value is None
        and leaf.missing != ""
        and fits_kind(count, "count")
        and count != 0
    )
