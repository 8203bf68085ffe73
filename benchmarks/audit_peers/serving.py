"""How a peer's check is run: tables in, numbers out. Standard library and pandas only.

Each `run_*.py` beside this file is a script that runs in that peer's own environment:

    python run_NAME.py FOLDER

FOLDER holds `schema.json` (columns by kind and role) and numbered folders with `fit.csv`, `control.csv` and
`synthetic.csv`. A line of JSON comes out for each: the peer's numbers, turned so that more means more leak, what the
peer itself says where it says anything, seconds, or the error it ended with.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Case:
    """Three tables with the same columns, and what their columns are."""

    fit: pd.DataFrame
    control: pd.DataFrame
    synthetic: pd.DataFrame
    numbers: list[str]
    categories: list[str]
    known: list[str]
    secret: list[str]


Check = Callable[[Case], tuple[dict[str, float], "bool | None"]]


def serve(check: Check) -> None:
    warnings.filterwarnings("ignore")
    folder = Path(sys.argv[1])
    schema: dict[str, Any] = json.loads((folder / "schema.json").read_text())
    types = {**dict.fromkeys(schema["categories"], str), **dict.fromkeys(schema["numbers"], float)}
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        tables = {}
        for name in ("fit", "control", "synthetic"):
            table = pd.read_csv(
                place / f"{name}.csv",
                dtype=types,
                keep_default_na=False,
                na_values={n: [""] for n in schema["numbers"]},
            )
            tables[name] = table[schema["names"]]
        begin = time.perf_counter()
        line: dict[str, Any] = {"case": place.name}
        try:
            values, said = check(
                Case(**tables, **{key: schema[key] for key in ("numbers", "categories", "known", "secret")})
            )
            line |= {"values": values, "said": said}
        except Exception as error:
            line |= {"error": f"{type(error).__name__}: {error}"[:200]}
        print(json.dumps(line | {"seconds": round(time.perf_counter() - begin, 2)}), flush=True)
