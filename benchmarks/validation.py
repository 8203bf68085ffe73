"""Plants every known leak and every honest table, attacks them with our suite and with peers, and writes the page.

    python -m benchmarks.peers build anonymeter sdmetrics syntheval
    python -m benchmarks.validation --seeds 50                 # everything; writes docs/audit-validation.md

The same tables go to everybody. Our results are measured anew each time; a peer's are kept in
`benchmarks/results/validation/peers.jsonl` by version, case, seed and size, because one of its tables takes up to 20 seconds,
and are measured again with `--fresh`. The persons are those of `tests/attack_tables.py`: nine columns, drawn
independently, so that nothing but the planted leak tells the sides apart.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from scipy import stats

from attacks import ATTACKS
from attacks.intervals import clopper_pearson
from attacks.planted import HONEST, LEAKS, Planted, Sets
from attacks.power import lists_a_row, results_on
from benchmarks.run import HERE, ONE_THREAD, RESULTS, python_of
from benchmarks.run import PEERS as PINS
from dpsynth import Records, ReviewSample

Line = dict[str, Any]

ROOT = HERE.parent
PAGE = ROOT / "docs" / "audit-validation.md"
KEPT = RESULTS / "validation" / "peers.jsonl"
SCRIPTS = HERE / "audit_peers"
PEERS = ("anonymeter", "sdmetrics", "syntheval")
FOCAL = ("B10 focal", *(name for name in LEAKS if name.startswith("B16")))  # the attacker knows what was counted
NOT_FOR_PEERS = ("B2 cells", "B11 5", "B7 isolated", *FOCAL)  # nearly as others in the list, or too large
CALIBRATION = "G1"

POWER, LEVEL = 0.95, 0.01
"""A bar of 0.95 is taken as met unless so few tables were seen that 0.95 would make that happen less than once in 100."""
BARS = {
    **dict.fromkeys(("B1", "B2", "B2 cells", "B4 10%", "B4 30%", "B5", "B6 5%", "B6 1%", "B8", "B9", "B11"), POWER),
    **dict.fromkeys(("B11 5", "B15"), POWER),
    "B7 isolated": 0.5,
}
AREA = 0.6  # bar of the mean AUC by the measured columns for "B10 focal"
TIMES = {"B7 isolated": 3}
"""Times as many persons. The most exposed of ten persons can rank first among n persons held back: ten chances in n + 1,
which times the number of attacks has to stay below 0.05."""
FALSE_ALARMS = 0.05
MOST_ALARMS = (15, 200)
"""A suite with 5 false alarms in 100 passes this with probability 0.96, one with 10 with 0.14 (binomial)."""
REMARKS = {
    "B3": "no bar: it is a copy, and its exact counts may show that, but no person in it stands out",
    "B7": "ranks among so few control persons cannot pass the correction for all attacks; listed",
    "B7 isolated": "with three times as many persons, the fewest for which a rank can pass the correction",
    "B7b random": "no statistic of one table can see it; listed, and seen by many fits",
    "B7b extreme": "the same",
    "B10": "no bar in this suite without its focal columns; mean AUC {auc:.3f}",
    **dict.fromkeys(FOCAL, "mean AUC by the measured columns {auc:.3f}"),
    "B18": "not a leak of fitted persons: a contaminated control, which exact match says",
}
OWN = tuple(f"G3 {name} {epsilon}" for name in ("independent", "mst", "aim", "wide") for epsilon in ("0.5", "1"))
PIPELINE = {
    "B12": ("categories and bounds taken from the data", "tests/statistical/attacking/test_canary.py"),
    "B13": ("noise / 10, forgotten composition, wrong sensitivity", "tests/statistical/attacking/test_canary.py"),
    "B14": ("a fixed seed, noise used twice", "tests/unit/test_randomness.py"),
    "B15": ("a look at the real rows after the noise", "tests/statistical/attacking/test_canary.py"),
    "B17": ("the same person on both sides", "tests/end_to_end/test_release_commands.py"),
}


def town() -> ModuleType:
    """The tests' population."""
    if str(ROOT / "tests") not in sys.path:
        sys.path.insert(0, str(ROOT / "tests"))
    return importlib.import_module("attack_tables")


def case(planted: Planted, seed: int, persons: int) -> tuple[ReviewSample, Records, Records]:
    """Both sides with about so many persons each, the synthetic table, and fresh rows."""
    persons *= TIMES.get(planted.id, 1)
    rng = np.random.default_rng([seed, persons, zlib.crc32(planted.id.encode())])
    tables = town()
    sample = tables.split(tables.population(2 * persons, rng), rng)
    sample, fresh = planted.setting(sample, tables.population(persons, rng).records, rng)
    return sample, planted(sample, fresh, rng), fresh


def released(sample: ReviewSample, synthesizer: str, epsilon: str) -> tuple[Records, Sets]:
    """G3: rows of our own engine, fitted to the fit side with its whole pipeline, and the sets of columns it measured."""
    from dpsynth import Rehearsal

    schema = sample.fit.records.schema
    rehearsal = Rehearsal(schema, synthesizer=synthesizer, epsilon=epsilon, delta="1e-6")
    trial = rehearsal.run(sample.fit.records.to_frame())
    names = [*schema.names, *(schema.names[made.column] for made in trial.coarse)]
    sets = {tuple(sorted({names[column] for column in m.columns})) for m in trial.measurements}
    return Records(schema, dict(trial.rows.columns)), tuple(sorted(columns for columns in sets if len(columns) > 1))


def ours(job: tuple[str, int], persons: int) -> Line:
    """What our suite says about one table."""
    name, seed = job
    if name.startswith("G3"):
        _, synthesizer, epsilon = name.split()
        sample, _, _ = case(HONEST["G1"], 10_000 + seed, persons)
        table, focal = released(sample, synthesizer, epsilon)
    else:
        planted = {**LEAKS, **HONEST}[name]
        sample, table, _ = case(planted, seed, persons)
        focal = planted.focal(sample)
    begin = time.perf_counter()
    results = results_on(sample, table, focal=focal, seed=seed)
    measures = next((result.measures for result in results if result.id == "membership"), {})
    area = measures.get("AUC, measured columns, best row", measures.get("AUC, combined"))
    return {
        "case": name,
        "seed": seed,
        "seen": [result.id for result in results if result.leak],
        "listed": lists_a_row(results),
        "warned": any("control" in result.note for result in results),
        "p": {result.id: result.p_value for result in results},
        "auc": math.nan if area is None else area.estimate,
        "seconds": time.perf_counter() - begin,
    }


def in_turns(seeds: int, null_seeds: int) -> list[tuple[str, int]]:
    """One table of each kind after another, so that a run that is cut short has as many of each as it can."""
    names = [*LEAKS, *(name for name in HONEST if name != CALIBRATION), *OWN]
    jobs, null = [], iter(range(null_seeds))
    for seed in range(seeds):
        jobs += [(name, seed) for name in names]
        jobs += [(CALIBRATION, number) for number in islice(null, math.ceil(null_seeds / seeds))]
    return jobs


# ---- peers -------------------------------------------------------------------------------------------------------


def version_of(peer: str) -> str:
    pins = (line.split("==") for line in (PINS / f"{peer}.txt").read_text().splitlines())
    return next(version for name, version in pins if name.lower() == peer)


def write_case(place: Path, sample: ReviewSample, table: Records) -> None:
    """Three CSV files; a missing category is a category of its own, a missing number is empty."""
    place.mkdir()
    for name, rows in (("fit", sample.fit.records), ("control", sample.control.records), ("synthetic", table)):
        frame = rows.to_frame()
        for column in rows.schema.modelled:
            if not column.is_numeric:
                frame[column.name] = frame[column.name].astype("string").fillna("gap")
        frame.to_csv(place / f"{name}.csv", index=False)


def ask(peer: str, jobs: list[tuple[str, int]], persons: int) -> Iterator[Line]:
    """What a peer says about these tables, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        columns = town().schema().modelled
        schema = {
            "names": [c.name for c in columns],
            "numbers": [c.name for c in columns if c.is_numeric],
            "categories": [c.name for c in columns if not c.is_numeric],
            "known": [c.name for c in columns if c.role == "quasi_identifier"],
            "secret": [c.name for c in columns if c.role == "sensitive"],
        }
        (Path(folder) / "schema.json").write_text(json.dumps(schema))
        for number, (name, seed) in enumerate(jobs):
            sample, table, _ = case({**LEAKS, **HONEST}[name], seed, persons)
            write_case(Path(folder) / f"{number:05d}", sample, table)
        command = [python_of(peer), SCRIPTS / f"run_{peer}.py", folder]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=_alone()
        ) as running:
            assert running.stdout is not None
            for line in running.stdout:
                answer = json.loads(line)
                name, seed = jobs[int(answer.pop("case"))]
                yield {
                    "peer": peer,
                    "version": version_of(peer),
                    "case": name,
                    "seed": seed,
                    "persons": persons,
                    **answer,
                }


def _alone() -> dict[str, str]:
    return {**os.environ, **ONE_THREAD}


def kept() -> list[Line]:
    return [json.loads(line) for line in KEPT.read_text().splitlines()] if KEPT.exists() else []


def identity(line: Line) -> tuple[Any, ...]:
    return tuple(line[key] for key in ("peer", "version", "case", "seed", "persons"))


def ask_all(peers: Iterable[str], persons: int, *, seeds: int, null_seeds: int, fresh: bool) -> None:
    """Fills the kept results: seeds first, so that a run that is cut short has all cases."""
    known = set() if fresh else {identity(line) for line in kept()}
    names = [name for name in {**LEAKS, **HONEST} if name not in NOT_FOR_PEERS]
    jobs = [(CALIBRATION, seed) for seed in range(null_seeds)]
    jobs += [(name, seed) for seed in range(seeds) for name in names if name != CALIBRATION]
    for peer in peers:
        if not python_of(peer).exists():
            print(f"{peer}: no environment; python -m benchmarks.peers build {peer}", file=sys.stderr)
            continue
        todo = [job for job in jobs if (peer, version_of(peer), *job, persons) not in known]
        for start in range(0, len(todo), 20):
            for line in ask(peer, todo[start : start + 20], persons):
                KEPT.parent.mkdir(exist_ok=True)
                with KEPT.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(f"{peer}: {line['case']} {line['seed']}: {line['seconds']} s", file=sys.stderr)


def judged(lines: list[Line]) -> dict[tuple[str, str], tuple[int, int, int, int]]:
    """For each peer and case: tables accused, tables accused by its own interval, failures, and tables."""
    out: dict[tuple[str, str], tuple[int, int, int, int]] = {}
    for peer in {line["peer"] for line in lines}:
        mine = [line for line in lines if line["peer"] == peer]
        null = [line["values"] for line in mine if line["case"] == CALIBRATION and "values" in line]
        if len(null) < 2:
            continue
        most = {name: limit([values[name] for values in null], len(null[0])) for name in null[0]}
        for name in {line["case"] for line in mine}:
            tables = [line for line in mine if line["case"] == name]
            over = sum(any(v > most[k] for k, v in line["values"].items()) for line in tables if "values" in line)
            said = sum(line.get("said") is True for line in tables)
            out[peer, name] = over, said, sum("error" in line for line in tables), len(tables)
    return out


def limit(honest: list[float], numbers: int) -> float:
    """What one more honest table passes with 5 in 100, shared out over so many numbers (Student's prediction limit)."""
    n = len(honest)
    far = float(stats.t.ppf(1 - FALSE_ALARMS / numbers, n - 1)) * math.sqrt(1 + 1 / n)
    return float(np.mean(honest)) + far * float(np.std(honest, ddof=1)) + 1e-12


# ---- the page ----------------------------------------------------------------------------------------------------


def accepted(seen: int, runs: int, bar: float) -> bool:
    """Whether so few would happen at least once in 100 tries if the bar were the truth."""
    return float(stats.binom.cdf(seen, runs, bar)) >= LEVEL


def met(seen: int, runs: int, bar: float) -> str:
    if accepted(0, runs, bar):
        return "too few tables to say"
    return "met" if accepted(seen, runs, bar) else "**missed**"


def few_alarms(alarms: int, runs: int) -> bool:
    """15 in 200, or as many as would happen at least 4 times in 100 with other numbers of tables."""
    if runs == MOST_ALARMS[1]:
        return alarms <= MOST_ALARMS[0]
    return float(stats.binom.sf(alarms - 1, runs, FALSE_ALARMS)) >= 0.04


def share(count: int, runs: int) -> str:
    interval = clopper_pearson(count, runs, confidence=0.95)
    return f"{count} of {runs} ({100 * interval.low:.0f} to {100 * interval.high:.0f} %)"


def page(lines: list[Line], peers: list[Line], *, persons: int, command: str, minutes: float) -> str:
    by_case: dict[str, list[Line]] = {}
    for name in (*LEAKS, *HONEST, *OWN):
        found = [line for line in lines if line["case"] == name]
        if found:
            by_case[name] = found
    theirs = judged(peers)
    asked = [peer for peer in PEERS if any(key[0] == peer for key in theirs)]
    out = [_HEAD.format(persons=persons, command=command, date=datetime.date.today().isoformat(), minutes=minutes)]
    out.append(_ours_bad(by_case))
    out.append(_by_attack(by_case))
    out.append(_ours_good(by_case))
    out.append(_uniform(by_case))
    out.append(_their_table(by_case, theirs, asked, peers))
    out.append(
        _PIPELINE_HEAD + "\n".join(f"| {n} | {what} | `{where}` |" for n, (what, where) in PIPELINE.items()) + "\n"
    )
    return "\n".join(out)


_HEAD = """# Does the suite see what is there, and nothing else?

Made by `{command}` on {date} in {minutes:.0f} minutes, on about {persons} fitted and as many control persons with one row
each. The generators are in `attacks/planted.py`, the persons in `tests/attack_tables.py`. What such a suite sees on your
own table and sizes is measured by `attacks.power.measure_power`; the numbers below hold for this table.

A leak counts as seen if some attack shows it after all corrections, with at most 5 false alarms in 100 for all attacks
together. Positive controls play no part in that and are left out here. Ends in brackets: exact, 95 in 100.
"""


def _ours_bad(by_case: dict[str, list[Line]]) -> str:
    rows = [
        "## Leaks",
        "",
        f"A bar is met unless so few tables were seen that a suite exactly at the bar would see so few less than once in "
        f"{round(1 / LEVEL)} tries.",
        "",
        "| | planted | seen | bar | a row listed for a person to look at | |",
        "|---|---|---|---|---|---|",
    ]
    for name, planted in LEAKS.items():
        found = by_case.get(name, [])
        if not found:
            continue
        seen, bar = sum(bool(line["seen"]) for line in found), BARS.get(name)
        verdict = "" if bar is None else f"{bar:g}: {met(seen, len(found), bar)}"
        listed = sum(line["listed"] for line in found)
        auc = np.mean([line["auc"] for line in found])
        remark = REMARKS.get(name, "").format(auc=auc)
        if name == "B18":
            remark += f" ({sum(line['warned'] for line in found)} of {len(found)})"
        if name == "B10 focal":
            remark += f"; bar {AREA:g}: {'met' if auc >= AREA else '**missed**'}"
        rows.append(
            f"| {name} | {planted.title} | {share(seen, len(found))} | {verdict} | {listed} of {len(found)} | {remark} |"
        )
    return "\n".join(rows) + "\n"


def _by_attack(by_case: dict[str, list[Line]]) -> str:
    names = [name for name in ATTACKS if any(name in line["p"] for lines in by_case.values() for line in lines)]
    rows = [
        "## Which attack sees what",
        "",
        "In how many of 100 tables each attack showed a leak.",
        "",
        "| | " + " | ".join(name.replace("_", " ") for name in names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for case_name, lines in by_case.items():
        shares = (100 * sum(name in line["seen"] for line in lines) / len(lines) for name in names)
        rows.append(f"| {case_name} | " + " | ".join(f"{s:.0f}" if s else "" for s in shares) + " |")
    return "\n".join(rows) + "\n"


def _ours_good(by_case: dict[str, list[Line]]) -> str:
    rows = [
        "## Honest tables",
        "",
        f"At most {MOST_ALARMS[0]} in {MOST_ALARMS[1]} are accepted: a suite with 5 false alarms in 100 keeps to that with "
        "probability 0.96, one with 10 in 100 with 0.14. Other numbers of tables: as many as 5 in 100 would reach with "
        "probability 0.04.",
        "",
        "| | table | false alarms | |",
        "|---|---|---|---|",
    ]
    for name, lines in by_case.items():
        if not name.startswith("G"):
            continue
        title = HONEST[name].title if name in HONEST else f"our own `{name.split()[1]}` at epsilon {name.split()[2]}"
        alarms = sum(bool(line["seen"]) for line in lines)
        verdict = "accepted" if few_alarms(alarms, len(lines)) else "**too many**"
        rows.append(f"| {name} | {title} | {share(alarms, len(lines))} | {verdict} |")
    return "\n".join(rows) + "\n"


def _uniform(by_case: dict[str, list[Line]]) -> str:
    null = by_case.get(CALIBRATION, [])
    names = [name for name in ATTACKS if any(name in line["p"] for line in null)]
    rows = [
        "## P-values where nothing leaks",
        "",
        f"On the {len(null)} tables of {CALIBRATION}: Kolmogorov-Smirnov, one-sided against p-values that are too small "
        "(counts move in steps, so p-values may be larger than uniform), and the share below 0.05.",
        "",
        "| attack | KS p-value | below 0.05 |",
        "|---|---|---|",
    ]
    for name in names:
        p = [1.0 if line["p"].get(name) is None else line["p"][name] for line in null]
        test = stats.kstest(p, "uniform", alternative="greater").pvalue
        too_small = test < LEVEL / len(names)
        rows.append(
            f"| {name.replace('_', ' ')} | {test:.2g}{' **too small**' if too_small else ''} | "
            f"{share(sum(v < 0.05 for v in p), len(p))} |"
        )
    return "\n".join(rows) + "\n"


def _their_table(
    by_case: dict[str, list[Line]],
    theirs: dict[tuple[str, str], tuple[int, int, int, int]],
    asked: list[str],
    lines: list[Line],
) -> str:
    rows = [
        "## Peers on the same tables",
        "",
        f"Peers give numbers and mostly no rule. So a peer is taken to accuse a table where any of its numbers passes the "
        f"limit that honest tables pass with 5 in 100 for all its numbers together, learned from the {CALIBRATION} tables "
        "in this table (normal spread). anonymeter also gives intervals; in brackets, how often one of its risks has a "
        "lower end above zero, which is its own rule. Numbers without a control of their own (all of sdmetrics but the "
        "first, dcr and hit_rate of syntheval) do not carry over to another kind of table: hence most of the alarms on B3 and G5 to G8.",
        "",
        "| | planted | this suite | " + " | ".join(f"{peer} {version_of(peer)}" for peer in asked) + " |",
        "|---|---|---|" + "---|" * len(asked),
    ]
    for name, found in by_case.items():
        if not any((peer, name) in theirs for peer in asked):
            continue
        cells = []
        for peer in asked:
            over, said, failed, tables = theirs.get((peer, name), (0, 0, 0, 0))
            own = f" ({said})" if peer == "anonymeter" else ""
            errors = f", {failed} failed" if failed else ""
            learned = "learned from: " if name == CALIBRATION else ""
            cells.append(f"{learned}{over}{own} of {tables}{errors}" if tables else "")
        title = {**LEAKS, **HONEST}[name].title
        seen = sum(bool(line["seen"]) for line in found)
        rows.append(f"| {name} | {title} | {seen} of {len(found)} | " + " | ".join(cells) + " |")
    times = []
    for peer in asked:
        seconds = [line["seconds"] for line in lines if line["peer"] == peer]
        times.append(f"{peer} {np.median(seconds):.1f} s")
    own = np.median([line["seconds"] for found in by_case.values() for line in found])
    rows += ["", f"Median time for one table on a busy machine: this suite {own:.1f} s, {', '.join(times)}.", ""]
    rows += sorted({f"{line['peer']} on {line['case']}: {line['error']}\n" for line in lines if "error" in line})
    return "\n".join(rows)


_PIPELINE_HEAD = """## What one table cannot show

These are faults of a program. They need many fits, or are refused before any attack starts; each is planted in a test.

| | planted | where |
|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("run", "peers"), default="run")
    parser.add_argument("--seeds", type=int, default=50, help="tables of each kind")
    parser.add_argument("--null-seeds", type=int, default=200, help="tables of G1")
    parser.add_argument("--peer-seeds", type=int, default=2, help="tables of each kind for peers")
    parser.add_argument("--peer-null-seeds", type=int, default=20, help="tables of G1 for peers")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no more of our own tables after that")
    parser.add_argument("--persons", type=int, default=1000, help="on each side")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--fresh", action="store_true", help="ask peers again")
    parser.add_argument("--out", type=Path, default=PAGE)
    parser.add_argument("--lines", type=Path, help="write what we saw on each table here, too")
    arguments = parser.parse_args()
    asking = partial(
        ask_all,
        arguments.peers,
        arguments.persons,
        seeds=arguments.peer_seeds,
        null_seeds=arguments.peer_null_seeds,
        fresh=arguments.fresh,
    )
    if arguments.what == "peers":
        asking()
        return
    begin = time.perf_counter()
    lines: list[Line] = []
    jobs = in_turns(arguments.seeds, arguments.null_seeds)
    with ProcessPoolExecutor(max_workers=2) as pool:
        for start in range(0, len(jobs), 20):
            lines += pool.map(partial(ours, persons=arguments.persons), jobs[start : start + 20])
            spent = (time.perf_counter() - begin) / 60
            print(f"{len(lines)} of {len(jobs)} tables, {spent:.1f} minutes", file=sys.stderr)
            if spent > arguments.minutes:
                break
    if arguments.lines is not None:
        arguments.lines.write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_page(arguments.out, lines, persons=arguments.persons, begin=begin)
    asking()
    write_page(arguments.out, lines, persons=arguments.persons, begin=begin)


def write_page(path: Path, lines: list[Line], *, persons: int, begin: float) -> None:
    versions = {(peer, version_of(peer)) for peer in PEERS}
    peers = [line for line in kept() if (line["peer"], line["version"]) in versions and line["persons"] == persons]
    command = " ".join(["python -m benchmarks.validation", *sys.argv[1:]])
    minutes = (time.perf_counter() - begin) / 60
    path.write_text(page(lines, peers, persons=persons, command=command, minutes=minutes))


if __name__ == "__main__":
    main()
