"""SmartNoise's synthesizers under our audit, as dated lines and the table of docs/smartnoise.md.

    nice python -m benchmarks.smartnoise_audit [--minutes 3] [--methods pacsynth mwem ...] [--table]

Needs `make smartnoise`. Each method gets the same minutes: two runs are timed, and as many fits are planned, before the
first counts, as then fit in (`FEWEST` at least, or it is not run; `MOST` at most). One long-lived process runs the adapter
(`benchmarks/smartnoise_serving.py`), and everything else is `dpsynth audit`: the rows go through a curator with a
throw-away limit, the attacker reads the synthetic rows. The tables are made from a schema of two columns with 2 and 3
cells: 20 rows (2,000 for pacsynth) that are all alike, with and without one that is different. The game with no other row is left out where the
program fails on an empty table, and the line says so.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from attacks.audit import audit_generator
from attacks.neighbours import worst_cases
from benchmarks.run import RESULTS
from dpsynth import Column, OperationError, Rehearsal, Schema, UsageError, __version__
from dpsynth.synthesizers.external import FACTS, SCRIPT, SMARTNOISE, External, python
from dpsynth.synthesizers.registry import synthesizer

FILE = RESULTS / "smartnoise_audit.jsonl"
DOC = Path(__file__).parent.parent / "docs" / "smartnoise.md"
SERVING = Path(__file__).with_name("smartnoise_serving.py")
EPSILON, DELTA = "1", "1e-5"
ROWS, ROWS_OF, WANTED = 20, {"pacsynth": 2000}, 100
"""Of the tables, and to ask for. pac-synth gives up when its noisy number of rows, with noise of some 200, is negative."""
FEWEST, MOST = 33, 4000
BEGIN, END = "<!-- audited -->\n", "<!-- /audited -->\n"


def schema() -> Schema:
    """Two columns of categories."""
    columns = tuple(
        Column(name=f"c{i}", type="category", values=tuple(map(str, range(size))), basis="made up")
        for i, size in enumerate((2, 3))
    )
    return Schema(table="made-up", columns=columns)


@contextmanager
def served(method: str, timeout: float) -> Iterator[External]:
    """The registered synthesizer, asking one process for all its runs."""
    recipe = synthesizer(f"smartnoise-{method}", rows=WANTED)
    assert isinstance(recipe, External)
    recipe.check(schema())
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder) / "socket")
        words = [str(python()), "-W", "ignore", str(SERVING), "serve", address, str(SCRIPT)]
        one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # small tables: more threads only wait for each other
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, env=one_thread) as server:
            try:
                while not Path(address).exists() and server.poll() is None:
                    time.sleep(0.1)
                asking = shlex.join([sys.executable, "-S", str(SERVING), "ask", address, method])
                yield replace(recipe, command=asking, timeout=timeout)
            finally:
                server.kill()


def audited(method: str, *, minutes: float) -> Iterator[dict[str, Any]]:
    """The result lines of one method."""
    rows = ROWS_OF.get(method, ROWS)
    line: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "version": __version__,
        "program": SMARTNOISE,
        "method": method,
        "epsilon": float(EPSILON),
        "delta": 0.0 if synthesizer(f"smartnoise-{method}").pure else float(DELTA),  # type: ignore[attr-defined]
        "rows": rows,
    }
    with served(method, timeout=120) as recipe:
        game = Rehearsal(schema(), synthesizer=recipe, epsilon=EPSILON, delta=DELTA)
        pairs = {pair.name: pair for pair in worst_cases(schema(), rows=rows)}
        skip = []
        try:
            game.run(pairs["alone"].absent)
            started = time.perf_counter()
            game.run(pairs["alone"].present)
            seconds = time.perf_counter() - started
        except OperationError as error:
            yield line | {"status": "not run", "why": str(error)}
            return
        try:
            game.run(pairs["nobody else"].absent)
        except OperationError:
            skip.append("nobody_else")
        fits = min(MOST, int(60 * minutes / seconds))
        line |= {"seconds_per_fit": round(seconds, 2), "left_out": skip}
        try:
            found = audit_generator(
                game, fits=fits, skip=skip, rows=rows, progress=lambda stage: print(stage, flush=True)
            )
        except (UsageError, OperationError) as error:
            yield line | {"status": "not run", "why": f"{fits} fits: {error}"}
            return
        for item in found.items:
            yield line | {
                "id": item.id,
                "status": item.status,
                "fits": item.n,
                "low": round(item.low, 4),
                "estimate": None if item.estimate is None else round(item.estimate, 4),
                "ceiling": round(item.ceiling, 4),
                "confidence": item.confidence,
                "sentence": item.sentence,
            }


def table() -> str:
    """Markdown of the latest lines of each method."""
    lines = [json.loads(text) for text in FILE.read_text(encoding="utf-8").splitlines()] if FILE.exists() else []
    out = [
        "| method | claim | game | fits | epsilon at least | most that so many fits could show | verdict | date |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in FACTS:
        mine = [line for line in lines if line["method"] == method]
        runs = [at for at, line in enumerate(mine) if at == 0 or line["run"] != mine[at - 1]["run"]]
        for line in mine[runs[-1] :] if runs else []:
            claim = f"({line['epsilon']:g}, {line['delta']:g})"
            if line["status"] == "not run":
                out.append(f"| {method} | {claim} | - | 0 | - | - | not run: {line['why']} | {line['date']} |")
                continue
            name = line["id"].removeprefix("worst_case.").removesuffix(".rows")
            verdict = {"fail": "**contradicted**", "pass": "not contradicted", "incomplete": "incomplete"}[
                line["status"]
            ]
            out.append(
                f"| {method} | {claim} | {name} | {line['fits']:,} | {line['low']:.2f} | {line['ceiling']:.2f} | "
                f"{verdict} | {line['date']} |"
            )
        if not mine:
            out.append(f"| {method} | ({EPSILON}, {DELTA}) | - | 0 | - | - | not run | - |")
    return "\n".join(out) + "\n"


def write_table() -> None:
    """Puts the table into the page, between its two marks."""
    text = DOC.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    DOC.write_text(before + BEGIN + table() + END + rest.split(END)[1], encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3, help="for each method")
    parser.add_argument("--methods", nargs="*", default=list(FACTS), choices=list(FACTS))
    parser.add_argument("--table", action="store_true", help="run nothing, write the table into the page")
    chosen = parser.parse_args()
    for method in () if chosen.table else chosen.methods:
        run = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        for line in audited(method, minutes=chosen.minutes):
            text = json.dumps(line | {"run": run})
            print(text, flush=True)
            with FILE.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
    write_table()


if __name__ == "__main__":
    main()
