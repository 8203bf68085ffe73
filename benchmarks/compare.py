"""Every synthesizer on five tables at three epsilons, and the page that shows it: `docs/synthesizers.md`.

    python -m benchmarks.compare --data DIR [--tables adult ...] [--epsilons 1 0.1 10] [--seeds 3] [--only mst ...] [--minutes M]

What `benchmarks/results/compare.jsonl` holds already is not run again, so the comparison can be made in parts; a part that
was not made is "not run" on the page. Each run is a fresh process with one thread (`run.py`); `protocol.py` says what is
measured. Synthesizers of other tools run once on two tables at epsilon 1, in ten CPU minutes; their networks on Adult at
epsilon 10 too, and in forty, because ours are compared with what comes of them.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.protocol import REFERENCES, score
from benchmarks.run import LIMIT_S, OURS, RESULTS, keep, measure, python_of
from benchmarks.tables import load
from dpsynth import SYNTHESIZERS

Record = dict[str, Any]

TABLES = ("adult", "bank", "diabetes130", "nist_ma2019", "nist_national2019")
ADAPTED = tuple(f"smartnoise/{method}" for method in ("mst", "aim", "mwem", "pacsynth", "patectgan", "dpctgan"))
ADAPTED_TABLES = ("adult", "bank")
NETWORKS = ("smartnoise/patectgan", "smartnoise/dpctgan")  # also at epsilon 10, beside our networks
DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "synthesizers.md"
COLUMNS = {
    "TV1": ("tv1", ".4f"), "TV2": ("tv2", ".4f"), "TV3": ("tv3", ".4f"), "k-marginal": ("kmarginal", ".0f"),
    "AUC": ("auc", ".3f"), "worst group": ("group_tv", ".3f"), "coverage": ("coverage", ".3f"),
    "fit CPU s": ("fit_cpu_s", ".2f"), "sample CPU s": ("sample_cpu_s", ".2f"), "peak MB": ("peak_mb", ".0f"),
}  # fmt: skip
_BLOCK = re.compile(r"(<!-- measured by benchmarks.compare -->\n).*?(<!-- end -->)", re.DOTALL)


def jobs(tables: Sequence[str], epsilons: Sequence[str], seeds: int) -> Iterator[tuple[str, str, str, int]]:
    """Table, epsilon, peer and seed of each run, what tells most first."""
    for seed in range(seeds):
        for epsilon in epsilons:
            for table in tables:
                yield from ((table, epsilon, f"{OURS}/{name}", seed) for name in SYNTHESIZERS)
        if seed == 0 and "1" in epsilons:
            yield from ((table, "1", peer, 0) for table in ADAPTED_TABLES if table in tables for peer in ADAPTED)
        if seed == 0 and "10" in epsilons and "adult" in tables:
            yield from (("adult", "10", peer, 0) for peer in NETWORKS)


def kept() -> list[Record]:
    path = RESULTS / "compare.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def page(records: Sequence[Record]) -> str:
    """The tables of the page, one a benchmark table and epsilon."""
    out = []
    for table in TABLES:
        for epsilon in (0.1, 1.0, 10.0):
            here = [record for record in records if record["table"] == table and record["epsilon"] == epsilon]
            out += [f"### {table}, epsilon {epsilon:g}", "", f"| synthesizer | runs | {' | '.join(COLUMNS)} |"]
            out.append("|---" * (len(COLUMNS) + 2) + "|")
            peers = [f"{OURS}/{name}" for name in SYNTHESIZERS]
            if table in ADAPTED_TABLES and epsilon == 1:
                peers += ADAPTED
            if table == "adult" and epsilon == 10:
                peers += NETWORKS
            references = [record for record in records if record["table"] == table and record["epsilon"] is None]
            out += [_line(record["peer"], [record]) for record in references]
            out += [_line(peer.removeprefix(f"{OURS}/"), [r for r in here if r["peer"] == peer]) for peer in peers]
            out.append("")
    out += lower_bounds()
    dates = sorted({record["date"] for record in records if record["date"]})
    if dates:
        out.append(f"Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))}.")
    return "\n".join(out) + "\n"


def lower_bounds() -> list[str]:
    """What audits with many fits have shown of each synthesizer, the most that any of its games did, from their own pages."""
    ours = [row for row in _rows(DOCS / "certified.md") if row["mistake"] == "none" and row["fits"] != "1"]
    shown = {row["synthesizer"].strip("`"): [] for row in ours} | {name: [] for name in SYNTHESIZERS}
    for row in ours:
        shown[row["synthesizer"].strip("`")].append(
            (row["epsilon (rho)"].split()[0], row["fits"], row["epsilon ≥"], row["ceiling"])
        )
    for row in _rows(DOCS / "smartnoise.md"):
        if row.get("game") == "alone":
            most = row["most that so many fits could show"]
            shown[f"smartnoise/{row['method']}"] = [(row["claim"], row["fits"], row["epsilon at least"], most)]
    out = [
        "### lower bounds by audit",
        "",
        "| synthesizer | claim | fits | epsilon at least | most that so many fits could show |",
    ]
    out.append("|---|---|---|---|---|")
    for name, found in shown.items():
        best = {claim: max((f for f in found if f[0] == claim), key=lambda f: float(f[2])) for claim, *_ in found}
        out += [f"| {name} | {' | '.join(line)} |" for line in best.values()] or [f"| {name} | | not run | | |"]
    return [*out, ""]


def _rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of the tables of a page, by the heads of their columns."""
    heads: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        if cells and not heads:
            heads = cells
        elif cells and len(cells) == len(heads) and not cells[0].startswith("---"):
            yield dict(zip(heads, cells, strict=True))
        elif not cells:
            heads = []


def _line(name: str, runs: Sequence[Record]) -> str:
    done = [run for run in runs if run["status"] == "finished"]
    if not done:
        why = f"{runs[-1]['status']}: {runs[-1]['reason']}" if runs else "not run"
        return f"| {name} | 0 | {why} |" + " |" * (len(COLUMNS) - 1)
    cells = []
    for key, form in COLUMNS.values():
        values = [run[key] for run in done if run.get(key) is not None]
        cells.append(format(sum(values) / len(values), form) if values else "")
    return f"| {name} | {len(done)} | {' | '.join(cells)} |"


def references(table: str, data: Path) -> Iterator[Record]:
    """What the rows themselves score, and what they score after simple changes."""
    split = load(table, data)
    for name, rows in REFERENCES.items():
        found = {key: None if value is None else round(value, 5) for key, value in score(split, rows(split)).items()}
        yield (
            {"table": table, "peer": f"*{name}*", "epsilon": None, "seed": 0, "status": "finished"}
            | found
            | {"date": ""}
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables, as `tables.py` names them")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--epsilons", nargs="+", default=["1", "10", "0.1"])
    parser.add_argument("--seeds", type=int, default=3, help="how many fits; the noise itself has no seed")
    parser.add_argument("--only", nargs="+", help="names of synthesizers, such as mst or smartnoise/mst")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after this long")
    arguments = parser.parse_args()
    done = {(record["table"], record["epsilon"], record["peer"], record["seed"]) for record in kept()}
    for table in arguments.tables:
        if not any(key[0] == table and key[1] is None for key in done):
            for record in references(table, arguments.data):
                keep(record, "compare")
    end = time.monotonic() + 60 * arguments.minutes
    for table, epsilon, peer, seed in jobs(arguments.tables, arguments.epsilons, arguments.seeds):
        wanted = not arguments.only or peer.removeprefix(f"{OURS}/") in arguments.only
        if not wanted or (table, float(epsilon), peer, seed) in done or not python_of(peer.split("/")[0]).exists():
            continue
        if time.monotonic() > end:
            break
        limit_s = 4 * LIMIT_S if peer in NETWORKS else LIMIT_S
        record = measure(load(table, arguments.data), peer, epsilon, seed, limit_s=limit_s)
        keep(record, "compare")
        print(f"{table}, epsilon {epsilon}, {peer}, run {seed}: {record['status']}", flush=True)
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_BLOCK.sub(lambda found: found[1] + page(kept()) + found[2], text), encoding="utf-8")


if __name__ == "__main__":
    main()
