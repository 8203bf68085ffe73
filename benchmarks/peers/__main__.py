"""Builds the peers' environments and measures the peers.

    python -m benchmarks.peers build [NAME ...]
    python -m benchmarks.peers run --data DIR [--peers dpmm/mst ...] [--tables adult ...] [--epsilons 1 ...] [--seeds 1]

`build` makes `benchmarks/.venvs/NAME`, anew, from the pinned `benchmarks/peers/NAME.txt` with Python 3.11, for all peers or
those named: synthesizers (dpmm, mbi, smartnoise, opendp) and privacy checks (anonymeter, sdmetrics, syntheval), which
`benchmarks.validation` and `benchmarks.attack_speed` run. `run` gives every synthesizer the same cell codes and the same declared domain, ten CPU minutes and one thread; each run adds a line to
`benchmarks/results/peers.jsonl`, also one that failed.

Google's DPSynth is in no registry: its rows in the documentation are quoted, not measured here.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from itertools import product
from pathlib import Path

from benchmarks.run import ENVIRONMENTS, LIMIT_S, PEERS, keep, measure, python_of
from benchmarks.show import markdown
from benchmarks.tables import SOURCES, load

METHODS = {
    "dpmm": ("mst", "aim-1mb", "privbayes", "aim"),
    "mbi": ("mst", "aim"),
    "smartnoise": ("mst", "aim"),
    "opendp": ("mst", "aim"),
}


NAMES = sorted(path.stem for path in PEERS.glob("*.txt"))


def build(name: str) -> bool:
    """Makes the environment of one peer, anew; whether it installed."""
    venv.create(ENVIRONMENTS / name, clear=True, with_pip=True)
    command = [python_of(name), "-m", "pip", "install", "--quiet", "-r", PEERS / f"{name}.txt"]
    installed = subprocess.run(command, check=False).returncode == 0
    print(f"{name}: {'installed' if installed else 'did not install'}", flush=True)
    return installed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    building = commands.add_parser("build")
    building.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all of them by default")
    running = commands.add_parser("run")
    running.add_argument("--data", type=Path, required=True, help="folder of the tables, as `tables.py` names them")
    running.add_argument("--peers", nargs="+", default=[f"{n}/{m}" for n, methods in METHODS.items() for m in methods])
    running.add_argument("--tables", nargs="+", default=["adult"], choices=SOURCES)
    running.add_argument("--epsilons", nargs="+", default=["1"])
    running.add_argument("--seeds", type=int, default=1, help="how many fits, where one says too little")
    running.add_argument("--limit", type=int, default=LIMIT_S, help="CPU seconds a run")
    arguments = parser.parse_args()
    if arguments.command == "build":
        for name in arguments.names:
            if name not in NAMES:
                building.error(f"there is no peer {name!r}: choose from {', '.join(NAMES)}")
        failed = [name for name in arguments.names or NAMES if not build(name)]
        if failed:
            sys.exit(1)
        return
    records = []
    for table in arguments.tables:
        split = load(table, arguments.data)
        for epsilon, peer, seed in product(arguments.epsilons, arguments.peers, range(arguments.seeds)):
            if not python_of(peer.split("/")[0]).exists():
                sys.exit(f"there is no environment for {peer}: python -m benchmarks.peers build")
            record = measure(split, peer, epsilon, seed, limit_s=arguments.limit)
            keep(record, "peers")
            records.append(record)
    print(markdown(records))


if __name__ == "__main__":
    main()
