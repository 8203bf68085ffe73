"""Our own synthesizers, measured as the peers are: the curator charges nobody, and the noise is that of a release."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
from exchange import Job, Sampler, serve

from dpsynth import SYNTHESIZERS, Cap, Cost, Curator, Schema, Table, __version__
from dpsynth.throw_away import ThrowAway


@contextmanager
def curator(job: Job) -> Iterator[tuple[Curator, Cost]]:
    """A curator that holds the rows, and the budget that the method which the command line names may spend."""
    schema = Schema.parse(job.schema)
    frame = Table(schema, job.codes).decode(rng=np.random.default_rng()).to_frame()
    promise = Cap.of(f"{job.epsilon:g}", f"{job.delta:g}")
    budget = SYNTHESIZERS[sys.argv[1]]().cost(schema, promise=promise, share=Fraction(1))
    purse = ThrowAway(budget, unit=schema.unit)
    yield Curator.of_frame(frame, schema, purse), budget
    purse.close()


def recipe(name: str) -> Callable[[tuple[Curator, Cost]], Sampler]:
    def fit(ready: tuple[Curator, Cost]) -> Sampler:
        model = SYNTHESIZERS[name]().fit(ready[0], budget=ready[1])
        return lambda rows: model.sample(rows, rng=np.random.default_rng()).codes

    return fit


if __name__ == "__main__":
    serve({name: recipe(name) for name in SYNTHESIZERS}, version=__version__, prepare=curator)
