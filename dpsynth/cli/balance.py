"""What `dpsynth ledger show` says: the state of an account at a glance, in 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

import click

from dpsynth import Cap, LedgerExtract, UsageError
from dpsynth.cli.talk import clean
from dpsynth.signing import PublicKey
from reports.collect.ledger import remaining_epsilon

WIDTH: Final = 80  # columns
_LABEL: Final = 12  # columns
_BAR: Final = 40  # columns
_SHARES: Final = tuple(map(Fraction, ("1/20", "1/8", "1/4", "1/2", "1")))  # of the cap: the sizes in the table


def facts(extract: LedgerExtract) -> dict[str, Any]:
    """Everything that the page says, for machines."""
    return {
        "ledger_id": extract.ledger_id,
        "population": extract.population,
        "unit": extract.entity,
        "neighbours": extract.neighbours,
        "genesis": extract.genesis_time,
        "approvers": list(extract.approvers),
        "cap_epsilon": str(extract.cap.epsilon),
        "cap_delta": str(extract.cap.delta),
        "charged": extract.charged.to_json(),
        "charged_percent": _percent_charged(extract),
        "remaining_epsilon": remaining_epsilon(extract),
        "next": [{"epsilon": str(epsilon), "leaves": left} for epsilon, left in next_releases(extract)],
        "attempts": extract.attempts,
        "denied": extract.denied,
        "orphans": extract.orphans,
        "orphans_since": extract.orphans_since,
        "claimed": extract.claimed,
        "floating_point": extract.floating_point,
        "imports": extract.imports,
        "imports_not_dp": extract.imports_not_dp,
        "amendments": [{key: str(value) for key, value in a.items()} for a in extract.amendments],
        "seq": extract.seq,
        "head": extract.head,
    }


def next_releases(extract: LedgerExtract) -> list[tuple[Fraction, float | None]]:
    """For sizes of one more release at the ledger's delta: what it would leave; None where it would be refused.

    What is left is the epsilon of the largest release after it, in steps of 0.001 and rounded down; it is less than a
    difference of epsilons only where imports passed the cap, because losses add up in their native measure.
    """
    out: list[tuple[Fraction, float | None]] = []
    cap, charged = extract.cap, extract.charged
    for epsilon in (cap.epsilon * share for share in _SHARES):
        try:
            cost = Cap.of(epsilon, cap.delta).cost
        except UsageError:  # so small that no order can express it at this delta
            continue
        fits = cap.admits(extract.charged_nano, charged.delta0, cost)
        after = replace(extract, charged_nano=extract.charged_nano + cost.at(cap.order), charged=charged + cost)
        out.append((epsilon, remaining_epsilon(after) if fits else None))
    return out


def lines(extract: LedgerExtract) -> Iterator[str]:
    """The page. Only the bar and what needs attention is coloured; `click.echo` drops that where no terminal is."""
    yield from _row("population", extract.population)
    yield from _row("", f"unit: one {extract.entity}, neighbours: {extract.neighbours}")
    yield from _row("limit", f"epsilon {_up(extract.cap.epsilon)} at delta {float(extract.cap.delta):g}, lifetime")
    for amendment in extract.amendments:
        yield from _row("", _raised(amendment))
    if extract.approvers:
        keys = (
            "the approver's key" if len(extract.approvers) == 1 else f"one of {len(extract.approvers)} approvers' keys"
        )
        yield from _row("", f"raised only by a signature with {keys}")
    yield _bar(extract)
    yield from _row("left", _left(extract))
    yield from _next(extract)
    yield from _row("history", f"{_plural(extract.attempts, 'attempt')}, {extract.denied} refused")
    for count, what in (
        (extract.claimed, "by a claim"),
        (extract.floating_point, "for floating-point noise"),
    ):
        if count:
            yield from _row("", f"{_plural(count, 'charge')} {what}: later releases need a person", loud=True)
    if extract.imports:
        marked = f", {extract.imports_not_dp} of them without differential privacy" if extract.imports_not_dp else ""
        yield from _row("", f"{extract.imports} released elsewhere and entered by hand{marked}", loud=bool(marked))
    if extract.orphans:
        since = (
            f"{extract.orphans} never finished, the oldest reserved {_minute(extract.orphans_since)}: they stay charged"
        )
        yield from _row("", f"{since} (a job that runs now looks the same)", loud=True)
    yield from _row("ledger", f"{extract.ledger_id}, made {_minute(extract.genesis_time)}")
    yield from _row("head", f"entry {extract.seq}")
    yield from _row("", extract.head)


def _row(label: str, text: str, *, loud: bool = False) -> Iterator[str]:
    width = WIDTH - _LABEL
    for number, line in enumerate(textwrap.wrap(clean(text), width, break_on_hyphens=False) or [""]):
        yield (label if number == 0 else "").ljust(_LABEL) + (click.style(line, fg="yellow") if loud else line)


def _raised(amendment: Any) -> str:
    key, asked = amendment["key"], amendment["requested_by"]
    signed = f"signed with key {PublicKey.parse(key).fingerprint[:16]}" if key else "not signed"
    who = f"{amendment['approver']}, asked by {asked}" if asked else amendment["approver"]
    words = f"raised from {_up(Fraction(amendment['from_epsilon']))} to {_up(Fraction(amendment['to_epsilon']))}"
    return f'{words} in entry {amendment["seq"]} by {who} ({signed}): "{amendment["reason"]}"'


def _percent_charged(extract: LedgerExtract) -> float:
    """Of the limit at the order at which losses are counted, rounded up."""
    return math.ceil(Fraction(1000 * extract.charged_nano, extract.cap.nano)) / 10


def _bar(extract: LedgerExtract) -> str:
    full = min(_BAR, math.ceil(Fraction(_BAR * extract.charged_nano, extract.cap.nano)))
    bar = click.style("#" * full, fg="cyan") + "." * (_BAR - full)
    return f"{'spent'.ljust(_LABEL)}[{bar}] {_percent_charged(extract):g} % of the limit"


def _left(extract: LedgerExtract) -> str:
    left = remaining_epsilon(extract)
    if left < 0:
        return f"nothing: releases made elsewhere passed the limit, by epsilon {-left:.4g}"
    return f"one more release of epsilon {left:g} at that delta" if left else "nothing"


def _next(extract: LedgerExtract) -> Iterator[str]:
    yield from _row("next", "a release of      would leave")
    for epsilon, left in next_releases(extract):
        says = "refused" if left is None else f"epsilon {left:g}" if left else "nothing"
        yield from _row("", f"epsilon {float(epsilon):<10.6g}{says}")


def _plural(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _minute(time: str) -> str:
    """A time of the ledger without its seconds."""
    return f"{time[:10]} {time[11:16]} UTC"


def _up(value: Fraction) -> str:
    """A number of six digits at most, not below its value."""
    shown = f"{float(value):.6g}"
    return shown if Fraction(shown) >= value else f"{float(value) * (1 + 1e-5):.6g}"
