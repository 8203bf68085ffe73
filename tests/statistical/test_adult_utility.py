"""Utility on Adult by the protocol of `benchmarks/adult.py`; needs the table beside the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

DATA = Path(__file__).parents[3] / "shared" / "data" / "adult" / "adult.parquet"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_file(), reason="the Adult table is not beside the repository")
def test_mst_beats_the_peers_trees_on_adult() -> None:
    """Mean TV2 of four fits below 0.047; one fit has mean 0.0443 and standard deviation 0.0011, so a sound engine
    fails this about once in a million runs. The baseline without pairs has 0.08 and must not pass."""
    from benchmarks.adult import measure
    from dpsynth import Schema

    schema = Schema.load(Path(__file__).parents[2] / "benchmarks" / "adult.toml")
    frame = pd.read_parquet(DATA)
    fitted = frame.iloc[np.random.default_rng(0).permutation(len(frame))[: int(0.8 * len(frame))]]
    assert np.mean([measure(fitted, schema, "mst", "1")["TV2"] for _ in range(4)]) < 0.047
    assert measure(fitted, schema, "independent", "1")["TV2"] > 0.047
