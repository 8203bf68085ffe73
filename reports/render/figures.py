"""The report's figures: inline SVG without script, style or outside reference, each shown beside its table.

Lengths on the page are drawn from numbers of the evidence and nothing else is computed. Shapes and outlines carry the
meaning, so that the figures can be read without colours. A drawing is 360 units wide, so that its letters keep their
size on a telephone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
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
    """A measured share with its interval, for one line of a figure."""

    label: str
    value: float
    low: float
    high: float


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
    keys = [(SOFT, "before this release"), (BLUE, "this release"), ("#ffffff", "left")]
    x = 10.0
    for fill, words in keys:
        parts += [
            _rect(x, top + height + 16, 10, 10, fill=fill, stroke=SOFT),
            _text(x + 15, top + height + 25, words, size=11),
        ]
        x += 32 + 6.1 * len(words)
    label = (
        f"Lifetime epsilon: {number(before, 'up')} before this release, {number(after, 'up')} with it, "
        f"and a limit of {number(cap, 'down')}."
    )
    return _svg("budget", top + height + 34, label, parts)


def ceiling(name: str, marks: Sequence[Mark], *, bound: float) -> Markup:
    """Measured success with its interval, one line a group of persons, and the proven ceiling for the first group.

    Args:
        name: What makes the figure's identifier unique on the page.
        marks: Persons whose rows were used first, then persons whose rows were not.
        bound: The ceiling, which holds for persons whose rows were used.
    """
    left, right, top, pitch = 10.0, WIDTH - 14.0, 30.0, 40.0
    end = _axis_end(max([bound, *(mark.high for mark in marks), *(mark.value for mark in marks)]))
    scale = (right - left) / end

    def at(value: float) -> float:
        return left + min(max(value, 0.0), end) * scale

    base = top + pitch * len(marks) + 4
    parts = [
        _rect(at(bound), top - 6, right - at(bound), base - top + 6, fill=BLUSH),
        _line(at(bound), top - 6, at(bound), base, stroke=RUST, width=2.5),
    ]
    beyond = at(bound) > WIDTH / 2
    parts.append(
        _text(
            at(bound) + (3 if beyond else -1),
            top - 12,
            f"proven ceiling {percent(bound, 'up')}",
            size=12,
            fill=RUST,
            anchor="end" if beyond else "start",
            bold=True,
        )
    )
    for place, mark in enumerate(marks):
        y = top + pitch * place + 24
        fill = BLUE if place == 0 else "#ffffff"
        parts += [
            _text(left, y - 12, mark.label, size=11.5, fill=INK),
            _line(at(mark.low), y, at(mark.high), y, stroke=BLUE, width=2),
            _line(at(mark.low), y - 5, at(mark.low), y + 5, stroke=BLUE, width=2),
            _line(at(mark.high), y - 5, at(mark.high), y + 5, stroke=BLUE, width=2),
            Markup('<circle cx="{}" cy="{}" r="4.6" fill="{}" stroke="{}" stroke-width="2"/>').format(
                _n(at(mark.value)), _n(y), fill, BLUE
            ),
        ]
    parts.append(_line(left, base, right, base, stroke=SOFT))
    for step in range(5):
        value = end * step / 4
        parts += [
            _line(at(value), base, at(value), base + 4, stroke=SOFT),
            _text(
                at(value),
                base + 16,
                percent(round(value, 6)),
                size=10.5,
                anchor="start" if step == 0 else "end" if step == 4 else "middle",
            ),
        ]
    words = ". ".join(
        f"{mark.label}: {percent(mark.value)}, interval {percent(mark.low, 'down')} to {percent(mark.high, 'up')}"
        for mark in marks
    )
    return _svg(name, base + 22, f"{words}. Proven ceiling: {percent(bound, 'up')}.", parts)


def _axis_end(largest: float) -> float:
    """The end of an axis that holds `largest`: 1, 2, 4 or 8 times a power of ten, at most 1."""
    for power in range(-4, 1):
        for step in (1, 2, 4, 8):
            end = float(Decimal(step).scaleb(power))
            if end >= largest * 1.02:
                return min(end, 1.0)
    return 1.0


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
    scale = (right - left) / _axis_end(largest)
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
