"""smartnoise-synth: MST and AIM, told the domain by one public row a category, so that nothing is spent on finding it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import numpy as np
from exchange import Job, Sampler, serve
from snsynth.aim import AIMSynthesizer
from snsynth.mst import MSTSynthesizer
from snsynth.transform import LabelTransformer, TableTransformer


def fit(job: Job, synthesizer: Any) -> Sampler:
    domain = np.arange(max(job.sizes))[:, None] % np.array(job.sizes)
    transformer = TableTransformer([LabelTransformer(nullable=False) for _ in job.sizes])
    transformer.fit(domain)
    recipe = synthesizer(epsilon=job.epsilon, delta=job.delta)
    recipe.fit(job.codes, transformer=transformer)
    return lambda rows: np.asarray(recipe.sample(rows))


if __name__ == "__main__":
    methods = {"mst": lambda job: fit(job, MSTSynthesizer), "aim": lambda job: fit(job, AIMSynthesizer)}
    serve(methods, version=version("smartnoise-synth"))
