"""Integrity: the figures of the evidence agree with one another."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from reports.evidence import Evidence
from reports.gate.audit import audit_contradictions
from reports.gate.base import finding
from reports.gate.guarantee import better_than_native
from reports.gate.leaves import ROUNDING, columns_with, is_below, is_inside, number_in, read_off_data, text_in
from reports.gate.ledger import ledger_contradictions
from reports.gate.verdict import RuleResult
from reports.paths import CHARGED_ATTACKS, MOST_PAIRS
from reports.policy import Policy
from reports.safe_harbor import alphabet


def consistent(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
    """The numbers agree with one another: what is stated is not better than what the native measure implies."""
    reason = "Figures that follow from one another are recomputed from the native measure, so that none can be edited."
    wrong = [*_contradictions(evidence), *ledger_contradictions(evidence), *better_than_native(evidence)]
    wrong += audit_contradictions(evidence)
    wrong += [f"{path} lies outside its own interval" for path, leaf in evidence.leaves() if not is_inside(path, leaf)]
    wrong = list(dict.fromkeys(wrong))
    if wrong:
        message = f"The stated figures contradict one another: {'; '.join(wrong)}."
        yield finding("evidence.consistent", "integrity", message, reason)
    else:
        yield finding("evidence.consistent", "pass", "The stated figures agree with one another.", reason)


def _contradictions(evidence: Evidence) -> Iterator[str]:
    if evidence.value("guarantee.unit") != evidence.value("unit.entity"):
        yield "guarantee.unit is not the unit of the schema"
    if evidence.value("domain.from_data") == "none" and read_off_data(evidence):
        yield "domain.from_data does not name a column whose source is the data"
    searched = evidence.rows("discovery")
    if columns_with(evidence, "source", "discover") != {text_in(row, "column") for row in searched}:
        yield "discovery does not name the columns whose source it is"
    yield from _chances(evidence)
    yield from _searched(evidence)
    yield from _measured(evidence)
    yield from _means(evidence)
    for attack in CHARGED_ATTACKS:
        excess, fit, control = (
            evidence.number(f"attacks.{attack}.{part}") for part in ("excess", "fit_rate", "control_rate")
        )
        if excess is not None and (fit is None or control is None):
            yield f"attacks.{attack}.excess stands without its two rates"
        elif excess is not None and fit is not None and control is not None and excess < fit - control - ROUNDING:
            yield f"attacks.{attack}.excess is smaller than the difference of its rates"
    for row in evidence.rows("risk.table"):
        release, lifetime = number_in(row, "release"), number_in(row, "cumulative")
        if release is not None and lifetime is not None and is_below(lifetime, release):
            yield "risk.table is smaller over the lifetime than for this release alone"


def _measured(evidence: Evidence) -> Iterator[str]:
    """The mean is of columns that there are, each of them once."""
    told = [text_in(row, "name") for row in evidence.rows("utility.columns")]
    if not set(told) <= {text_in(row, "name") for row in evidence.rows("columns")}:
        yield "utility.columns names a column that there is not"
    if len(set(told)) < len(told):
        yield "utility.columns names a column twice"


def _means(evidence: Evidence) -> Iterator[str]:
    """A mean distance follows from the distances below it; of pairs the worst are listed, and fewer only if that is all."""
    for path, table, most in (("utility.tv1", "utility.columns", None), ("utility.tv2", "utility.pairs", MOST_PAIRS)):
        mean, rows = evidence.number(path), [number_in(row, "tv") for row in evidence.rows(table)]
        told = [tv for tv in rows if tv is not None]
        if len(told) < len(rows):
            continue  # a matter for `evidence.complete`
        if mean is None:
            if told and evidence.get(path) is not None:
                yield f"{path} is left out although {table} gives what it is the mean of"
            continue
        listed = sum(told) / len(told) if told else -1.0
        whole = most is None or len(told) < most
        if not told or (whole and abs(mean - listed) > ROUNDING) or mean > listed + ROUNDING:
            yield f"{path} is not the mean of {table}"


def _searched(evidence: Evidence) -> Iterator[str]:
    """The count of direct identifiers, and what is said of card numbers, follow from the letters below them."""
    rows = evidence.rows("deid_scan.safe_harbor")
    count, cards = evidence.value("deid_scan.direct"), evidence.value("deid_scan.pan_scan")
    if not rows and count is None and cards is None:
        return
    if [text_in(row, "letter") for row in rows] != [letter.id for letter in alphabet()]:
        yield "deid_scan.safe_harbor does not give each of the 18 letters once"
        return
    direct = 0
    for row, letter in zip(rows, alphabet(), strict=True):
        signs, columns = (row[key].value if key in row else None for key in ("signs", "columns"))
        if not isinstance(signs, tuple) or not isinstance(columns, tuple) or len(signs) != len(columns):
            yield "deid_scan.safe_harbor does not say what was seen in which column"
            return
        found = any(not sign.startswith("fakes of format ") and sign != "values look like codes" for sign in signs)
        if found != (text_in(row, "status") == "pattern found"):
            yield "deid_scan.safe_harbor has a status that its signs do not bear out"
        direct += found and letter.direct
        if any("card numbers" in sign for sign in signs) and cards != "pattern found":
            yield "deid_scan.pan_scan leaves out card numbers that deid_scan.safe_harbor names"
    if count != direct:
        yield "deid_scan.direct is not the number of letters found"


def _chances(evidence: Evidence) -> Iterator[str]:
    """A value that is published from a threshold on may be one that a single unit has: that costs a delta0, however small."""
    searched = evidence.rows("discovery")
    categories = columns_with(evidence, "type", "category")
    for row in searched:
        by_values = text_in(row, "column") in categories or "values" in text_in(row, "facts")
        if by_values and not (number_in(row, "delta0") or 0.0) > 0:
            yield "discovery gives no delta0 for the values of a category"
    stated, implied = (
        evidence.number("guarantee.delta0"),
        sum(number_in(row, "delta0") or 0.0 for row in searched),
    )
    if implied > (stated or 0.0) * (1 + ROUNDING):
        yield "guarantee.delta0 is smaller than discovery implies"
