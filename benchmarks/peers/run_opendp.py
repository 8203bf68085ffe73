"""OpenDP: contingency tables by MST and AIM. The last cell of each column is its null, which OpenDP adds to any domain.

MST of opendp 0.16 splits its budget in floating point, and refuses its own parts where their sum, rounded up, passes the
whole by one unit in the last place ("insufficient budget for query"). That depends on the last digits of the budget, so
it is given one that is smaller by some billionths; where none of a thousand will do, the refusal is the result.
"""

from __future__ import annotations

import math
from fractions import Fraction
from importlib.metadata import version
from typing import Any

import numpy as np
import opendp.prelude as dp
import polars as pl
from exchange import Job, Sampler, serve


def fit(job: Job, algorithm: Any, rho: float) -> Sampler:
    last = dict(zip(job.names, (size - 1 for size in job.sizes), strict=True))
    frame = pl.DataFrame(job.codes, schema=job.names, orient="row").cast(pl.Int32)
    frame = frame.with_columns(pl.when(pl.col(c) < code).then(pl.col(c)) for c, code in last.items())
    context = dp.Context.compositor(
        data=frame.lazy(), privacy_unit=dp.unit_of(contributions=1), privacy_loss=dp.loss_of(rho=rho)
    )
    query = context.query(rho=rho).select(*job.names)
    keys = {name: list(range(code)) for name, code in last.items()}
    table = query.contingency_table(keys=keys, algorithm=algorithm).release()

    def sample(rows: int) -> Any:
        drawn = table.synthesize(rows)
        return np.column_stack([drawn[name].fill_null(code).to_numpy() for name, code in last.items()])

    return sample


def splittable(job: Job) -> float:
    """The budget, less as few billionths as let MST's selections pass."""
    tries = (job.rho * (1 - n * 1e-9) for n in range(1000))
    return next((rho for rho in tries if selections_fit(rho, len(job.sizes) - 1)), job.rho)


def selections_fit(rho: float, selections: int) -> bool:
    """Whether `selections` equal parts, added with rounding up, stay within the share that MST selects with."""
    rest = below(below(rho - rho * 0.5))
    share = below(below(rest - rest * 0.9))
    part, total = below(share / selections), 0.0
    for _ in range(selections):
        exact = Fraction(total) + Fraction(part)
        total = float(exact) if Fraction(float(exact)) >= exact else math.nextafter(float(exact), math.inf)
    return total <= share


def below(number: float) -> float:
    return math.nextafter(number, -math.inf)


if __name__ == "__main__":
    dp.enable_features("contrib")
    methods = {
        "mst": lambda job: fit(job, dp.mbi.MST(), splittable(job)),
        "aim": lambda job: fit(job, dp.mbi.AIM(), job.rho),
    }
    serve(methods, version=version("opendp"))
