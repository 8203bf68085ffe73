"""dpmm: MST, PrivBayes and AIM as they come, and AIM with a model of 1 MB and 200 iterations."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pandas as pd
from dpmm.models.aim import AIMGM
from dpmm.models.mst import MSTGM
from dpmm.models.priv_bayes import PrivBayesGM
from exchange import Job, Sampler, serve
from numpy.random import RandomState


def fit(job: Job, model: Any, **settings: Any) -> Sampler:
    recipe = model(epsilon=job.epsilon, delta=job.delta, n_jobs=1, **settings)
    recipe.set_random_state(RandomState())
    recipe.set_domain(dict(zip(job.names, job.sizes, strict=True)))
    recipe.fit(pd.DataFrame(job.codes, columns=job.names))
    return lambda rows: recipe.generate(n_records=rows)[job.names].to_numpy()


if __name__ == "__main__":
    methods = {
        "mst": lambda job: fit(job, MSTGM),
        "privbayes": lambda job: fit(job, PrivBayesGM),
        "aim": lambda job: fit(job, AIMGM),
        "aim-1mb": lambda job: fit(job, AIMGM, max_model_size=1, n_iters=200),
    }
    serve(methods, version=version("dpmm"))
