"""Our own synthesizers, measured as the peers are: the curator charges a throw-away ledger, and the noise is exact."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from exchange import Job, Sampler, serve

from dpsynth import SYNTHESIZERS, Cap, Cost, Curator, Ledger, Schema, Table, __version__


@contextmanager
def curator(job: Job) -> Iterator[tuple[Curator, Cost]]:
    """A curator that holds the rows, and the budget that it may spend."""
    schema = Schema.parse(job.schema)
    frame = Table(schema, job.codes).decode(rng=np.random.default_rng()).to_frame()
    epsilon, delta = f"{job.epsilon:g}", f"{job.delta:g}"
    cap = Cap.of(epsilon, delta)
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.create(
            Path(folder) / "ledger", population=schema.table, epsilon=epsilon, delta=delta, entity=schema.unit.entity
        )
        with ledger.reserve(cap.cost, unit=schema.unit, purpose="benchmark") as reservation:
            yield Curator.of_frame(frame, schema, reservation), cap.cost


def recipe(name: str) -> Callable[[tuple[Curator, Cost]], Sampler]:
    def fit(ready: tuple[Curator, Cost]) -> Sampler:
        model = SYNTHESIZERS[name]().fit(ready[0], budget=ready[1])
        return lambda rows: model.sample(rows, rng=np.random.default_rng()).codes

    return fit


if __name__ == "__main__":
    serve({name: recipe(name) for name in SYNTHESIZERS}, version=__version__, prepare=curator)
