"""How an audit tool is run: real and synthetic rows in, its own times out. Standard library and NumPy only.

Each `attack_*.py` beside this file is a script that runs in that tool's own environment:

    python attack_NAME.py INPUT.npz OUTPUT.json

INPUT holds a column an array, named "TABLE/COLUMN" with the tables fit, control and synthetic; columns that start with n
are numbers, those that start with c are category codes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from exchange import cpu_seconds, peak_mb

QUASI, SECRET = 5, (7, 8)  # as in benchmarks/attack_speed.py


def serve(parts: dict[str, Callable[[dict[str, Any]], Any]], *, version: str) -> None:
    """Runs every part on the rows that the command line names, and writes down seconds and memory."""
    import pandas as pd

    source, target = sys.argv[1:]
    tables: dict[str, Any] = {}
    with np.load(source) as stored:
        for name in ("fit", "control", "synthetic"):
            columns = {key.split("/")[1]: stored[key] for key in stored.files if key.startswith(f"{name}/")}
            tables[name] = pd.DataFrame(
                {key: v if key[0] == "n" else pd.Series([f"v{code}" for code in v]) for key, v in columns.items()}
            )
    begin, begin_cpu, seconds = time.perf_counter(), cpu_seconds(), {}
    for name, part in parts.items():
        start = time.perf_counter()
        part(tables)
        seconds[name] = round(time.perf_counter() - start, 2)
    facts = {
        "version": version,
        "wall_s": time.perf_counter() - begin,
        "cpu_s": cpu_seconds() - begin_cpu,
        "peak_mb": peak_mb(),
        "parts": seconds,
    }
    Path(target).write_text(json.dumps(facts), encoding="utf-8")
