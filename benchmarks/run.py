"""One measured run: a synthesizer in a process of its own, its rows judged by the protocol, one line in the results."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.protocol import score
from benchmarks.tables import Split
from dpsynth import Cap

HERE = Path(__file__).parent
PEERS = HERE / "peers"
ENVIRONMENTS = HERE / ".venvs"
RESULTS = HERE / "results"
OURS = "dpsynth"
DELTA = "1e-9"
LIMIT_S = 600
"""CPU seconds that a run may take; it may take three times as long by the clock, on a machine that does other work."""
ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
    "PYTHONWARNINGS": "ignore",
}


def python_of(environment: str) -> Path:
    """The interpreter of a peer's environment; ours for our own synthesizers."""
    return Path(sys.executable) if environment == OURS else ENVIRONMENTS / environment / "bin" / "python"


def measure(split: Split, peer: str, epsilon: str, seed: int, *, limit_s: int = LIMIT_S) -> dict[str, Any]:
    """Fits a synthesizer to a table once and says how that went.

    Args:
        peer: "ENVIRONMENT/METHOD", such as "dpmm/mst" or "dpsynth/aim".
        seed: The number of the run; no synthesizer's noise has a seed.
        limit_s: CPU seconds after which the run is ended.
    Returns:
        One line of the results: utility, CPU seconds, peak memory, and a status: finished, unfinished or failed.
    """
    environment, method = peer.split("/")
    record: dict[str, Any] = {"table": split.name, "peer": peer, "version": None, "epsilon": float(epsilon)}
    record |= {"delta": float(DELTA), "seed": seed, "tv1": None, "tv2": None, "tv3": None, "coverage": None}
    record |= {"group_tv": None, "auc": None}
    record |= {"kmarginal": None, "fit_cpu_s": None, "sample_cpu_s": None, "process_cpu_s": None, "peak_mb": None}
    with tempfile.TemporaryDirectory() as folder:
        source, target, log = (Path(folder) / name for name in ("in.npz", "out.npz", "log"))
        write_job(source, split, epsilon)
        command = [str(python_of(environment)), str(PEERS / f"run_{environment}.py"), method, str(source), str(target)]
        code, usage = ended(command, log, limit_s)
        record |= {"process_cpu_s": round(usage.ru_utime + usage.ru_stime, 2), "peak_mb": usage.ru_maxrss // 1024}
        if code is None:
            record |= {"status": "unfinished", "reason": f"more than {limit_s} CPU seconds or {3 * limit_s} seconds"}
        elif code != 0 or not target.exists():
            record |= {"status": "failed", "reason": f"exit {code}: {last_line(log)}"}
        else:
            with np.load(target) as found:
                codes, facts = found["codes"], json.loads(str(found["facts"]))
            record |= facts | rounded(score(split, codes)) | {"status": "finished", "reason": None}
    return record | {"date": datetime.date.today().isoformat()}


def write_job(path: Path, split: Split, epsilon: str) -> None:
    """What a runner reads; `peers/exchange.py` says what it holds."""
    delta = Fraction(DELTA)
    rho = Cap.of(epsilon, delta * 10 / 9).cost.rho  # a cap sets a tenth of its delta aside; the peers use all of it
    np.savez(
        path,
        codes=split.train,
        sizes=np.array(split.sizes),
        epsilon=float(epsilon),
        delta=float(delta),
        rho=float(rho),
        rows=len(split.train),
        schema=split.schema.to_toml(),
    )


def ended(command: list[str], log: Path, limit_s: int) -> tuple[int | None, resource.struct_rusage]:
    """Runs a command to its end or its limit: its exit code, None past the limit, and what it used."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 5))

    with log.open("wb") as out:
        environment = os.environ | ONE_THREAD | {"PYTHONDONTWRITEBYTECODE": ""}  # as where packages are installed
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env=environment, preexec_fn=limit, start_new_session=True
        )
        end = time.monotonic() + 3 * limit_s
        with stopped_at_exit(process):
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > end:
                    os.killpg(process.pid, 9)
                time.sleep(0.05)
    process.returncode = code = os.waitstatus_to_exitcode(status)
    return (None if code in (-9, -24) else code), usage


@contextlib.contextmanager
def stopped_at_exit(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ends the process when its parent is interrupted."""
    try:
        yield
    except BaseException:
        os.killpg(process.pid, 9)
        raise


def last_line(log: Path) -> str:
    """What a failed run said last, from the name of the exception on, without paths."""
    text = re.sub(r"/\S*/", "", log.read_text(errors="replace"))
    starts = [match.start() for match in re.finditer(r"^[\w.]*(Error|Exception)\b", text, re.MULTILINE)]
    return " ".join(text[starts[-1] if starts else -200 :].split())[:200] or "no output"


def rounded(numbers: dict[str, float | None]) -> dict[str, float | None]:
    return {name: None if number is None else round(number, 5) for name, number in numbers.items()}


def keep(record: dict[str, Any], name: str) -> None:
    """Appends a line to `results/NAME.jsonl`."""
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
