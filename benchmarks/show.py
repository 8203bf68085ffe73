"""Prints the kept results as one table a benchmark table and epsilon: means over the runs of the latest date.

python -m benchmarks.show [benchmarks/results/peers.jsonl ...]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

COLUMNS = {
    "tv1": ".4f", "tv2": ".4f", "tv3": ".4f", "coverage": ".3f", "group_tv": ".3f", "auc": ".3f", "kmarginal": ".1f", "fit_cpu_s": ".2f",
    "sample_cpu_s": ".2f", "peak_mb": ".0f",
}  # fmt: skip
Record = dict[str, Any]


def markdown(records: Sequence[Record]) -> str:
    """The records as Markdown. A peer that no registry has is quoted, and says so instead of a date."""
    lines = [f"| table | epsilon | peer | runs | {' | '.join(COLUMNS)} | date |", "|---" * (len(COLUMNS) + 5) + "|"]

    def key(record: Record) -> tuple[str, float, str]:
        return record["table"], record["epsilon"], f"{record['peer']} {record['version'] or ''}".strip()

    for (table, epsilon, peer), group in groupby(sorted(records, key=key), key=key):
        runs = list(group)
        latest = max(run["date"] for run in runs)
        runs = [run for run in runs if run["date"] == latest]
        done = [run for run in runs if run["status"] in ("finished", "quoted")]
        cells = [mean(done, name, form) for name, form in COLUMNS.items()]
        if not done:
            cells[0] = f"{runs[-1]['status']}: {runs[-1]['reason']}"
        lines.append(f"| {table} | {epsilon:g} | {peer} | {len(done)} | {' | '.join(cells)} | {latest} |")
    return "\n".join(lines)


def mean(runs: Sequence[Record], name: str, form: str) -> str:
    values = [run[name] for run in runs if run.get(name) is not None]
    return format(sum(values) / len(values), form) if values else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kept = [Path(__file__).parent / "results" / f"{name}.jsonl" for name in ("ours", "peers", "quoted", "speed")]
    parser.add_argument("files", nargs="*", type=Path, default=kept)
    lines = [line for path in parser.parse_args().files for line in path.read_text(encoding="utf-8").splitlines()]
    print(markdown([json.loads(line) for line in lines]))


if __name__ == "__main__":
    main()
