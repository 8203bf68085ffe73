"""smartnoise-synth's six, fitted by the adapter that ships: it tells them the domain, so that nothing is spent on finding it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from exchange import Job, Sampler, serve

ADAPTER = Path(__file__).parents[2] / "dpsynth" / "adapters" / "smartnoise.py"


def adapter() -> Any:
    """The adapter: a stand-alone script, because dpsynth does not install in this environment."""
    found = importlib.util.spec_from_file_location("adapter", ADAPTER)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def method(name: str) -> Callable[[Job], Sampler]:
    smartnoise = adapter()

    def fit(job: Job) -> Sampler:
        rows = [tuple(row) for row in job.codes.tolist()]
        recipe = smartnoise.FITS[name](rows, job.sizes, len(rows), job.epsilon, job.delta)
        rng = np.random.default_rng()
        return lambda wanted: smartnoise.filled(recipe.sample(wanted), job.sizes, wanted, rng).astype(np.int32)

    return fit


if __name__ == "__main__":
    serve({name: method(name) for name in adapter().FITS}, version=version("smartnoise-synth"))
