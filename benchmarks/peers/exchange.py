"""How a peer is run: cell codes in, synthetic codes and its own times out. Standard library and NumPy only.

Each `run_*.py` beside this file is a script that runs in that peer's own environment:

    python run_NAME.py METHOD INPUT.npz OUTPUT.npz

INPUT holds `codes` (rows, columns), `sizes` (columns,), `epsilon`, `delta`, `rho` (the same budget in zCDP), `rows` to draw
and `schema` (TOML). OUTPUT holds `codes` and `facts`, JSON: version, CPU seconds of fit and sampling (children included,
imports not), and the peak resident memory of the whole process in MB.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.int32]
Sampler = Callable[[int], Codes]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a peer is given: training rows as cell codes in a declared domain, and a budget."""

    codes: Codes
    sizes: tuple[int, ...]
    epsilon: float
    delta: float
    rho: float
    schema: str

    @property
    def names(self) -> list[str]:
        """Plain column names, as every peer wants some."""
        return [f"c{column:02d}" for column in range(len(self.sizes))]


def serve(
    methods: Mapping[str, Callable[[Any], Sampler]],
    *,
    version: str,
    prepare: Callable[[Job], AbstractContextManager[Any]] = nullcontext,
) -> None:
    """Runs the method that the command line names: fits it, samples from it, and writes both down with their times.

    Args:
        prepare: Turns the job into what the methods take; reading a table into a library's own form is not timed.
    """
    method, source, target = sys.argv[1:]
    with np.load(source) as stored:
        job = Job(
            codes=stored["codes"],
            sizes=tuple(stored["sizes"].tolist()),
            epsilon=float(stored["epsilon"]),
            delta=float(stored["delta"]),
            rho=float(stored["rho"]),
            schema=str(stored["schema"]),
        )
        rows = int(stored["rows"])
    with prepare(job) as ready:
        begin = cpu_seconds()
        sampler = methods[method](ready)
        fitted = cpu_seconds()
        codes = np.asarray(sampler(rows), dtype=np.int32)
        sampled = cpu_seconds()
    facts = {
        "version": version,
        "fit_cpu_s": round(fitted - begin, 3),
        "sample_cpu_s": round(sampled - fitted, 3),
        "peak_mb": peak_mb(),
    }
    np.savez(target, codes=codes, facts=json.dumps(facts))


def cpu_seconds() -> float:
    """CPU time of this process and of its finished children."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak_mb() -> int:
    """The most memory that this process ever held. On Linux from /proc: `getrusage` counts the parent's before exec."""
    try:
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) // 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
