"""The report's figures: inline SVG without script, style or outside reference, each shown beside its table.

Lengths on the page are drawn from numbers of the evidence and nothing else is computed. Shapes and outlines carry the
meaning, so that the figures can be read without colours. A drawing is 360 units wide, so that its letters keep their
size on a telephone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import ceil, floor
from typing import Final

from markupsafe import Markup

from reports.render.numbers import dots, hundred, number, percent
from reports.render.text import label as short
from reports.render.text import visible

WIDTH: Final = 360
INK: Final = "#1c2430"
SOFT: Final = "#4a5563"
RULE: Final = "#c3cad3"
BLUE: Final = "#1d4f7c"
PALE: Final = "#c9d9e8"
RUST: Final = "#9a3412"
BLUSH: Final = "#f6e3da"
_SANS: Final = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A measured share, or a difference of two, for one line of a figure; without an interval only its dot is drawn."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def reach(self) -> tuple[float, float]:
        """The smallest and the largest value that its line has to hold."""
        known = [end for end in (self.value, self.low, self.high) if end is not None]
        return min(known), max(known)


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _text(
    x: float, y: float, words: str, *, size: float = 11, fill: str = SOFT, anchor: str = "start", bold: bool = False
) -> Markup:
    weight = Markup(' font-weight="600"') if bold else ""
    return Markup('<text x="{}" y="{}" font-size="{}" fill="{}" text-anchor="{}"{}>{}</text>').format(
        _n(x), _n(y), _n(size), fill, anchor, weight, words
    )


def _line(x1: float, y1: float, x2: float, y2: float, *, stroke: str, width: float = 1, dash: str = "") -> Markup:
    dashes = Markup(' stroke-dasharray="{}"').format(dash) if dash else ""
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" stroke="{}" stroke-width="{}"{}/>').format(
        _n(x1), _n(y1), _n(x2), _n(y2), stroke, _n(width), dashes
    )


def _rect(
    x: float, y: float, width: float, height: float, *, fill: str, stroke: str = "none", line: float = 1
) -> Markup:
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="{}" stroke="{}" stroke-width="{}"/>').format(
        _n(x), _n(y), _n(max(0.0, width)), _n(height), fill, stroke, _n(line)
    )


def _svg(name: str, height: float, label: str, parts: Iterable[Markup]) -> Markup:
    return Markup(
        '<svg class="figure" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-labelledby="fig-{name}" '
        'font-family="{sans}"><title id="fig-{name}">{label}</title>{body}</svg>'
    ).format(w=WIDTH, h=_n(height), name=name, sans=_SANS, label=visible(label), body=Markup("").join(parts))


def worlds(*, fpr: float, bound: float, subject: str) -> Markup:
    """Two icon arrays of 100 dots: how often the person is called a participant in each of the two worlds."""
    pitch, radius, top = 15.6, 5.4, 34
    parts = []
    for left, share, title, foot in (
        (6, fpr, f"World without {subject}", f"{hundred(fpr)} of 100, by mistake"),
        (198, bound, f"World with {subject}", f"at most {hundred(bound)} of 100"),
    ):
        parts.append(_text(left, 16, title, size=12.5, fill=INK, bold=True))
        for place in range(100):
            x, y = left + radius + (place % 10) * pitch, top + radius + (place // 10) * pitch
            filled = place < dots(share)
            parts.append(
                Markup('<circle cx="{}" cy="{}" r="{}" fill="{}" stroke="{}" stroke-width="{}"/>').format(
                    _n(x), _n(y), _n(radius), RUST if filled else "#ffffff", RUST if filled else RULE, "1.2"
                )
            )
        parts.append(_text(left, top + 10 * pitch + 16, foot, size=12, fill=INK))
    label = (
        f"Two arrays of 100 dots. Without {subject}, {hundred(fpr)} of 100 tries call {subject} a participant by mistake. "
        f"With {subject}, at most {hundred(bound)} of 100 tries do so rightly. Dots are rounded up to whole ones."
    )
    return _svg("worlds", top + 10 * pitch + 24, label, parts)


def budget(*, before: float, after: float, cap: float) -> Markup:
    """The lifetime budget as a bar: what was spent before, what is spent with this release, and the limit."""
    span, top, height = WIDTH - 20, 30.0, 22.0
    scale = span / max(cap, after, before)

    def at(value: float) -> float:
        return 10 + max(0.0, value) * scale

    parts = [
        _rect(10, top, at(cap) - 10, height, fill="#ffffff", stroke=SOFT),
        _rect(10, top, at(before) - 10, height, fill=SOFT),
        _rect(at(before), top, at(after) - at(before), height, fill=BLUE),
        _line(at(cap), top - 8, at(cap), top + height + 8, stroke=INK, width=2),
        _text(10, top - 10, f"epsilon {number(after, 'up')} spent", size=12, fill=BLUE, bold=True),
        _text(min(at(cap), WIDTH - 4), top - 10, f"limit {number(cap, 'down')}", size=12, fill=INK, anchor="end"),
    ]
    parts += _keys(
        [(SOFT, "before this release"), (BLUE, "this release"), ("#ffffff", "left")], x=10, y=top + height + 16
    )
    label = (
        f"Lifetime epsilon: {number(before, 'up')} before this release, {number(after, 'up')} with it, "
        f"and a limit of {number(cap, 'down')}."
    )
    return _svg("budget", top + height + 34, label, parts)


@dataclass(frozen=True, kw_only=True)
class Level:
    """A lifetime epsilon from an entry of the ledger on, charged or allowed, and the day of that entry where it is told."""

    entry: int
    epsilon: float
    day: str = ""


def lifetime(
    spent: Sequence[Level], limits: Sequence[Level], *, before: float, after: float, last: int, every: bool
) -> Markup:
    """The budget over time: what is charged rises in steps below the limit, which rises only where it was raised.

    The entries of the ledger are the clock, because their order is sure.

    Args:
        spent: What is charged, from entry to entry, if `every` charge is told; otherwise it is not drawn, and a dashed
            line leads to what was charged before this release.
        limits: The limit, from entry to entry.
        before, after: What is charged without this release, and with it.
        last: The ledger's last entry.

    It begins with the first level that is given, which of a long ledger is not that of entry 0.
    """
    left, right, end, top, base = 12.0, 294.0, WIDTH - 12.0, 46.0, 156.0
    first = min(last, *(level.entry for level in (*spent, *limits)))
    scale = (base - top) / (max([before, after, *(level.epsilon for level in (*spent, *limits))]) or 1.0)

    def x(entry: int) -> float:
        return left + (right - left) * (min(entry, last) - first) / max(1, last - first)

    def y(epsilon: float) -> float:
        return base - max(0.0, epsilon) * scale

    def filled(start: float, stop: float, epsilon: float) -> list[Markup]:
        """What is charged between two entries, with what this release adds on top."""
        low, high = y(min(epsilon, before)), y(epsilon)
        return [
            _rect(start, low, stop - start, base - low, fill=PALE),
            _rect(start, high, stop - start, low - high, fill=BLUE),
        ]

    parts: list[Markup] = []
    if every:
        stops = [*(x(level.entry) for level in spent[1:]), end]
        for level, stop in zip(spent, stops, strict=True):
            parts += filled(x(level.entry), stop, level.epsilon)
    else:
        parts += filled(right, end, after)
        parts.append(_line(left, y(0), right, y(before), stroke=SOFT, width=2, dash="4 4" if before > 0 else ""))
    for place, level in enumerate(limits):
        start, height = x(level.entry), y(level.epsilon)
        stop = x(limits[place + 1].entry) if place + 1 < len(limits) else end
        parts.append(_line(start, height, stop, height, stroke=INK, width=2))
        if place:
            parts.append(_line(start, y(limits[place - 1].epsilon), start, height, stroke=INK, width=2))
        anchor = "end" if start > WIDTH / 2 else "start"
        parts.append(
            _text(start, height - 6, f"limit {number(level.epsilon, 'down')}", size=11, fill=INK, anchor=anchor)
        )
    parts.append(_line(left, base, end, base, stroke=SOFT))
    days = (spent[0].day, spent[-1].day) if every else ("", "")
    for edge, anchor, entry, day in ((left, "start", first, days[0]), (end, "end", last, days[1])):
        parts.append(_text(edge, base + 15, f"entry {entry:,}", size=10.5, anchor=anchor))
        if day:
            parts.append(_text(edge, base + 29, day, size=10.5, anchor=anchor))
    parts += _keys([(PALE, "before this release"), (BLUE, "this release")], x=left, y=6)
    raises = len(limits) - 1
    raised = "" if not raises else ", raised once" if raises == 1 else f", raised {raises} times"
    label = (
        f"Lifetime epsilon from {'the first entry of the ledger' if first == 0 else f'entry {first:,}'} to entry {last:,}: "
        f"{number(before, 'up')} before this release, {number(after, 'up')} with it, below a limit of {number(limits[-1].epsilon, 'down')}{raised}."
    )
    return _svg("lifetime", base + (36 if any(days) else 22), label, parts)


def _keys(keys: Sequence[tuple[str, str]], *, x: float, y: float) -> list[Markup]:
    """A line of coloured squares with their words."""
    parts: list[Markup] = []
    for fill, words in keys:
        parts += [_rect(x, y, 10, 10, fill=fill, stroke=SOFT), _text(x + 15, y + 9, words, size=11)]
        x += 32 + 6.1 * len(words)
    return parts


@dataclass(frozen=True, kw_only=True)
class Sight:
    """How often an attack would have shown leaks of known size, by the share of persons copied."""

    label: str
    seen: Mapping[float, float]


def power(sights: Sequence[Sight]) -> Markup:
    """What the attacks could have seen: for each a row of bars, one for each share of persons copied.

    Args:
        sights: One for each attack; the share 0 is nobody, where what is seen is a false alarm.
    """
    shares = sorted({share for sight in sights for share in sight.seen})
    left, right, top, pitch, tall = 12.0, WIDTH - 12.0, 22.0, 66.0, 38.0
    step = (right - left) / len(shares)
    parts: list[Markup] = []
    for place, sight in enumerate(sights):
        base = top + pitch * place + tall
        parts.append(_text(left, base - tall - 6, sight.label, size=11.5, fill=INK, bold=True))
        parts.append(_line(left, base - tall, right, base - tall, stroke=RULE, dash="2 3"))
        for column, share in enumerate(shares):
            if share in sight.seen:
                fill, stroke = (BLUSH, RUST) if share == 0 else (PALE, BLUE)
                high = min(1.0, max(0.0, sight.seen[share])) * tall
                parts.append(_rect(left + column * step + 3, base - high, step - 6, high, fill=fill, stroke=stroke))
        parts.append(_line(left, base, right, base, stroke=SOFT))
    base = top + pitch * (len(sights) - 1) + tall
    for column, share in enumerate(shares):
        words = percent(share) if share else "nobody"
        parts.append(_text(left + (column + 0.5) * step, base + 15, words, size=10.5, anchor="middle"))
    parts.append(_text(left, base + 32, "share of people copied; dashed: seen every time", size=10.5))
    told = ". ".join(f"{sight.label}: {_told_sight(sight)}" for sight in sights)
    return _svg("power", base + 40, f"How often each attack would have shown a leak. {told}.", parts)


def _told_sight(sight: Sight) -> str:
    return ", ".join(
        f"{percent(seen, 'down')} when {percent(share)} were copied" if share else f"{percent(seen, 'up')} false alarms"
        for share, seen in sorted(sight.seen.items())
    )


def ceiling(name: str, marks: Sequence[Mark], *, bound: float | None) -> Markup:
    """Measured success, one line a group of persons, and the proven ceiling for persons whose rows were used.

    Args:
        name: What makes the figure's identifier unique on the page.
        marks: Persons whose rows were used first, which is filled in; then what it is compared with.
        bound: The ceiling; None where there is none.
    """
    left, right, top, pitch = 12.0, WIDTH - 16.0, 30.0, 40.0
    ticks = _ticks(
        min(0.0, *(mark.reach[0] for mark in marks)), max([bound or 0.0, *(mark.reach[1] for mark in marks)]) * 1.02
    )
    scale = (right - left) / (ticks[-1] - ticks[0])

    def at(value: float) -> float:
        return left + (min(max(value, ticks[0]), ticks[-1]) - ticks[0]) * scale

    base = top + pitch * len(marks) + 4
    parts = []
    if bound is not None:
        beyond = at(bound) > WIDTH / 2
        anchor = "end" if beyond else "start"
        words = f"proven ceiling {percent(bound, 'up')}"
        parts += [
            _rect(at(bound), top - 6, right - at(bound), base - top + 6, fill=BLUSH),
            _line(at(bound), top - 6, at(bound), base, stroke=RUST, width=2.5),
            _text(at(bound) + (3 if beyond else -1), top - 12, words, size=12, fill=RUST, anchor=anchor, bold=True),
        ]
    for place, mark in enumerate(marks):
        y = top + pitch * place + 24
        parts.append(_text(left, y - 12, mark.label, size=11.5, fill=INK))
        if ticks[0] < 0:
            parts.append(_line(at(0), y - 8, at(0), y + 8, stroke=RULE))
        if mark.low is not None and mark.high is not None:
            parts += [
                _line(at(mark.low), y, at(mark.high), y, stroke=BLUE, width=2),
                _line(at(mark.low), y - 5, at(mark.low), y + 5, stroke=BLUE, width=2),
                _line(at(mark.high), y - 5, at(mark.high), y + 5, stroke=BLUE, width=2),
            ]
        parts.append(
            Markup('<circle cx="{}" cy="{}" r="4.6" fill="{}" stroke="{}" stroke-width="2"/>').format(
                _n(at(mark.value)), _n(y), BLUE if place == 0 else "#ffffff", BLUE
            )
        )
    parts.append(_line(left, base, right, base, stroke=SOFT))
    for tick in ticks:
        anchor = "start" if tick == ticks[0] else "end" if tick == ticks[-1] else "middle"
        parts += [
            _line(at(tick), base, at(tick), base + 4, stroke=SOFT),
            _text(at(tick), base + 16, percent(tick), size=10.5, anchor=anchor),
        ]
    told = ". ".join(f"{mark.label}: {_told(mark)}" for mark in marks)
    end = "No ceiling" if bound is None else f"Proven ceiling: {percent(bound, 'up')}"
    return _svg(name, base + 22, f"{told}. {end}.", parts)


def _told(mark: Mark) -> str:
    if mark.low is None or mark.high is None:
        return percent(mark.value)
    return f"{percent(mark.value)}, interval {percent(mark.low, 'down')} to {percent(mark.high, 'up')}"


def _ticks(low: float, high: float) -> list[float]:
    """Between four and eight round numbers whose ends hold `low` and `high`."""
    for power in range(-6, 1):
        for size in ("1", "2", "2.5", "5"):
            step = Decimal(size).scaleb(power)
            first, last = floor(Decimal(low) / step), max(1, ceil(Decimal(high) / step))
            if last - first <= 6:
                return [float(step * place) for place in range(first, last + 1)]
    return [low, high]


MOST_COLUMNS: Final = 24
"""Columns that the utility figure draws; the table beside it has them all."""


def utility(columns: Sequence[tuple[str, float, float | None]]) -> Markup:
    """One bar a column: distance from its noisy measurement, with a tick for what the noise alone would give.

    Args:
        columns: Name, distance, and expected distance from noise, worst column first.
    """
    drawn = columns[:MOST_COLUMNS]
    left, right, top, pitch = 116.0, WIDTH - 50.0, 26.0, 19.0
    largest = max([value for _, value, _ in drawn] + [noise for _, _, noise in drawn if noise is not None] + [0.001])
    scale = (right - left) / _ticks(0.0, largest)[-1]
    parts = [
        _rect(left, 6, 14, 9, fill=PALE, stroke=BLUE),
        _text(left + 19, 14, "distance", size=10.5),
        _line(left + 78, 4, left + 78, 17, stroke=RUST, width=2.5),
        _text(left + 84, 14, "expected from noise", size=10.5),
    ]
    for place, (name, value, noise) in enumerate(drawn):
        y = top + pitch * place
        parts += [
            _text(left - 6, y + 10.5, short(name, 14), size=11, fill=INK, anchor="end"),
            _rect(left, y + 1, max(1.0, value * scale), 12, fill=PALE, stroke=BLUE),
            _text(right + 44, y + 10.5, percent(value, "up"), size=10.5, fill=INK, anchor="end"),
        ]
        if noise is not None:
            parts.append(_line(left + noise * scale, y - 1, left + noise * scale, y + 15, stroke=RUST, width=2.5))
    parts.append(_line(left, top - 3, left, top + pitch * len(drawn), stroke=SOFT))
    shown = f"the {len(drawn)} worst of {len(columns)} columns" if len(columns) > len(drawn) else "each column"
    label = (
        f"Bars for {shown}: how far the synthetic column is from its noisy measurement. The table holds the numbers."
    )
    return _svg("utility", top + pitch * len(drawn) + 6, label, parts)


@dataclass(frozen=True, kw_only=True)
class Group:
    """One group of people: its share by the noisy count and among the synthetic rows.

    `inflation` is what cutting counts off at zero would add to it if nobody were in it; None where evidence has none.
    """

    label: str
    measured: float
    synthetic: float
    noise: float
    inflation: float | None
    drowned: bool


def groups(found: Sequence[Group]) -> Markup:
    """One line a group: a bar for its noisy share with two standard deviations, and a dot for its synthetic share.

    Args:
        found: Groups, where the noise weighs most first.
    """
    drawn = found[:MOST_COLUMNS]
    left, right, top, pitch = 150.0, WIDTH - 12.0, 8.0, 19.0
    largest = max(
        [group.synthetic for group in drawn] + [group.measured + 2 * group.noise for group in drawn] + [0.001]
    )
    ticks = _ticks(0.0, min(1.0, largest))
    scale = (right - left) / ticks[-1]

    def at(share: float) -> float:
        return left + min(max(0.0, share), ticks[-1]) * scale

    parts = []
    for place, group in enumerate(drawn):
        y = top + pitch * place + 8
        low, high = group.measured - 2 * group.noise, group.measured + 2 * group.noise
        parts += [
            _text(
                left - 6, y + 3.5, short(group.label, 20), size=11, fill=RUST if group.drowned else INK, anchor="end"
            ),
            _rect(at(low), y - 4, max(1.5, at(high) - at(low)), 8, fill=PALE, stroke=BLUE),
            Markup('<circle cx="{}" cy="{}" r="3.6" fill="{}" stroke="#ffffff" stroke-width="1"/>').format(
                _n(at(group.synthetic)), _n(y), RUST if group.drowned else INK
            ),
        ]
    base = top + pitch * len(drawn) + 2
    parts.append(_line(left, base, right, base, stroke=SOFT))
    for tick in (ticks[0], ticks[-1]):
        parts.append(
            _text(at(tick), base + 14, percent(tick), size=10.5, anchor="start" if tick == ticks[0] else "end")
        )
    shown = f"{len(drawn)} of {len(found)} groups" if len(found) > len(drawn) else "each group"
    label = f"Noisy and synthetic shares of {shown}, where the noise weighs most first. The table holds the numbers."
    return _svg("groups", base + 20, label, parts)
