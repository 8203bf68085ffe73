"""How fits and sampling grow with rows, columns and cells: CPU seconds on made-up tables, one thread, drawn to an SVG.

    python -m benchmarks.growth [--out docs/growth.svg]

Needs matplotlib (`pip install dpsynth[bench]`). The tables are those of `speed.made_up`, epsilon is 1, delta 1e-9. A line
ends where its fit took longer than PATIENCE_S; the whole run takes under five minutes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

from benchmarks.speed import made_up, timed

PATIENCE_S = 2.0  # CPU seconds of a fit, beyond which no larger table is tried
REPEATS = 3  # of which the median is drawn, for what is quick
LINES = {
    "aim": ("aim, fit", "#b3261e"),
    "mst": ("mst, fit", "#0b57a4"),
    "wide": ("wide, fit", "#2e7d32"),
    "sample": ("sampling", "#6d6d6d"),
    "open": ("split and encode", "#a66f00"),
}
PANELS: dict[str, dict[int, tuple[int, tuple[int, ...]]]] = {
    "rows (15 columns of 8 cells)": {n: (n, (8,) * 15) for n in (1_000, 10_000, 100_000, 1_000_000)},
    "columns of 4 cells (20,000 rows)": {n: (20_000, (4,) * n) for n in (5, 10, 20, 40, 80, 160, 320)},
    "cells of each of 15 columns (20,000 rows)": {n: (20_000, (n,) * 15) for n in (2, 4, 8, 16, 32, 64)},
}
Curve = dict[int, float]


def measured(tables: dict[int, tuple[int, tuple[int, ...]]]) -> dict[str, Curve]:
    """CPU seconds of every line at every table it can reach. Sampling is from the model of `mst`."""
    curves: dict[str, Curve] = {line: {} for line in LINES}
    running = ["mst", "aim", "wide"]
    for place, (rows, sizes) in tables.items():
        schema, codes = made_up(rows, sizes)
        for name in tuple(running):
            runs = [timed(schema, codes, name)]
            if runs[0]["fit_cpu_s"] < PATIENCE_S:
                runs += [timed(schema, codes, name) for _ in range(REPEATS - 1)]
            median = {field: statistics.median(run[field] for run in runs) for field in runs[0]}
            curves[name][place] = median["fit_cpu_s"]
            if name == "mst":
                curves["sample"][place], curves["open"][place] = median["sample_cpu_s"], median["open_cpu_s"]
            if median["fit_cpu_s"] > PATIENCE_S:
                running.remove(name)
    return curves


def draw(panels: dict[str, dict[str, Curve]], out: Path) -> None:
    """One log-log panel a quantity, each line named at its end."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "growth", "font.family": "sans-serif"}
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullLocator

    figure, axes = pyplot.subplots(1, len(panels), figsize=(13.5, 4.6), sharey=True, layout="constrained")
    seconds = [value for curves in panels.values() for curve in curves.values() for value in curve.values()]
    low, high = min(seconds) / 1.5, max(seconds) * 2.5
    for axis, (title, curves) in zip(axes, panels.items(), strict=True):
        places = sorted({place for curve in curves.values() for place in curve})
        axis.set(xscale="log", yscale="log", ylim=(low, high), xlabel=title)
        axis.set_xlim(places[0] / 1.15, places[-1] * (places[-1] / places[0]) ** 0.42)  # room for the names
        axis.set_xticks(places, [f"{place:,}" for place in places], fontsize=9)
        for ticks in (axis.xaxis, axis.yaxis):
            ticks.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
        axis.grid(which="major", color="#e4e4e4", linewidth=0.8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(length=0)
        heights = apart({line: (max(curve), curve[max(curve)]) for line, curve in curves.items()}, high / low)
        for line, curve in curves.items():
            name, colour = LINES[line]
            axis.plot(curve.keys(), curve.values(), color=colour, marker="o", markersize=3.5, linewidth=1.6)
            axis.annotate(
                name,
                (max(curve), curve[max(curve)]),
                xytext=(max(curve) * (places[-1] / places[0]) ** 0.03, heights[line]),
                color=colour,
                fontsize=9.5,
                va="center",
            )
    axes[0].set_ylabel("CPU seconds, one thread")
    figure.savefig(out, metadata={"Date": None})


def apart(ends: dict[str, tuple[int, float]], span: float) -> dict[str, float]:
    """Where the names of lines go: at their ends, moved up until those at one place do not overlap.

    Args:
        ends: Place and value of the last point of each line.
        span: What the logarithmic axis spans, as a factor.
    """
    out: dict[str, float] = {}
    for line, (place, value) in sorted(ends.items(), key=lambda end: end[1][1]):
        out[line] = max([value, *(out[other] * span**0.055 for other in out if ends[other][0] == place)])
    return out


def table(panels: dict[str, dict[str, Curve]]) -> str:
    """The numbers as Markdown."""
    lines: list[str] = []
    for title, curves in panels.items():
        places: Sequence[int] = sorted({place for curve in curves.values() for place in curve})
        lines += ["", f"| {title} | {' | '.join(f'{place:,}' for place in places)} |", "|---" * (len(places) + 1) + "|"]
        for line, curve in curves.items():
            cells = [f"{curve[place]:.3f}" if place in curve else "" for place in places]
            lines.append(f"| {LINES[line][0]}, CPU s | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "growth.svg")
    out = parser.parse_args().out
    with threadpool_limits(1):
        panels = {title: measured(tables) for title, tables in PANELS.items()}
    draw(panels, out)
    print(table(panels))


if __name__ == "__main__":
    main()
