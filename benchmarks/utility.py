"""Utility, CPU seconds and memory of our synthesizers, each fit in a fresh process, with dpmm's MST as the anchor.

    python -m benchmarks.utility --data DIR [--tables adult] [--epsilons 0.1 1 10] [--synthesizers mst aim] [--seeds 5]

80 % of a table's rows, chosen by seed 0, are learned from, in the domain declared beside this file; delta = 1e-9. Noise
is end-to-end exact and the ledger a throw-away one. `protocol.py` says what the columns mean. Every run adds a line to
`benchmarks/results/ours.jsonl`. The anchor runs once a table and epsilon, where `python -m benchmarks.peers build dpmm`
has been run: machines differ, so quote ratios to it.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

from benchmarks.protocol import REFERENCES, score
from benchmarks.run import LIMIT_S, OURS, keep, measure, python_of
from benchmarks.show import markdown
from benchmarks.tables import SOURCES, load
from dpsynth import SYNTHESIZERS

ANCHOR = "dpmm/mst"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables, as `tables.py` names them")
    parser.add_argument("--tables", nargs="+", default=["adult"], choices=SOURCES)
    parser.add_argument("--epsilons", nargs="+", default=["1"])
    parser.add_argument("--synthesizers", nargs="+", default=list(SYNTHESIZERS), choices=SYNTHESIZERS)
    parser.add_argument("--seeds", type=int, default=5, help="how many fits; the noise itself has no seed")
    parser.add_argument("--limit", type=int, default=LIMIT_S, help="CPU seconds a run")
    parser.add_argument("--no-anchor", action="store_true", help="leave the peer out")
    arguments = parser.parse_args()
    records = []
    for table in arguments.tables:
        split = load(table, arguments.data)
        for name, rows in REFERENCES.items():
            numbers = " ".join(f"{key} {value:.4f}" for key, value in score(split, rows(split)).items() if value)
            print(f"{table}, {name}: {numbers}", flush=True)
        for epsilon in arguments.epsilons:
            runs = list(product(arguments.synthesizers, range(arguments.seeds)))
            jobs = [(f"{OURS}/{name}", seed) for name, seed in runs]
            if not arguments.no_anchor and python_of(ANCHOR.split("/")[0]).exists():
                jobs.append((ANCHOR, 0))
            for peer, seed in jobs:
                record = measure(split, peer, epsilon, seed, limit_s=arguments.limit)
                keep(record, "ours")
                records.append(record)
    print(markdown(records))


if __name__ == "__main__":
    main()
