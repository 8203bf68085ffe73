"""Builds the environments of the audit tools that `benchmarks/attack_speed.py` compares with.

python -m benchmarks.peers.attacks build [anonymeter sdmetrics]
"""

from __future__ import annotations

import argparse

from benchmarks.attack_speed import NAMES
from benchmarks.peers.__main__ import build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build").add_argument("names", nargs="*", default=list(NAMES), metavar="NAME")
    for name in parser.parse_args().names:
        build(name)


if __name__ == "__main__":
    main()
