"""mbi (Private-PGM): MST and AIM on its estimator.

The package has the estimation and the sampling, its mechanisms are not packaged; they are written here after the papers,
with the settings of the authors' own scripts: 5,000 iterations for MST, 16 rounds a column, 80 MB and 1,000 iterations
for AIM. Float noise: good enough to compare utility with, and not for release.

Source: McKenna, Miklau, Sheldon 2021, arXiv 2108.04978 (MST); McKenna et al. 2022, arXiv 2201.12677, algorithms 1 to 3.
"""

from __future__ import annotations

import math
from importlib.metadata import version
from itertools import combinations
from typing import Any

import numpy as np
from exchange import Job, Sampler, serve
from mbi import Dataset, Domain, LinearMeasurement, estimation
from mbi.clique_utils import downward_closure
from mbi.junction_tree import hypothetical_model_size

Clique = tuple[str, ...]
MAX_CELLS = 10_000  # pairs with more are no part of AIM's workload
MAX_MODEL_MB = 80


class Fit:
    """A fit under way: the data, the noisy measurements so far, and the model that they give."""

    def __init__(self, job: Job) -> None:
        self.domain = Domain(job.names, job.sizes)
        self.data = Dataset(dict(zip(job.names, job.codes.T, strict=True)), self.domain)
        self.rng = np.random.default_rng()
        self.measurements: list[LinearMeasurement] = []
        self.model: Any = None

    def measure(self, clique: Clique, sigma: float) -> None:
        exact = np.asarray(self.data.project(clique).datavector())
        self.measurements.append(LinearMeasurement(exact + self.rng.normal(0, sigma, exact.shape), clique, sigma))

    def estimate(self, iterations: int, *, warm: bool = False) -> None:
        start = self.model if warm else None
        self.model = estimation.MirrorDescent().estimate(
            self.domain, self.measurements, iters=iterations, warm_start=start
        )

    def error(self, clique: Clique) -> float:
        """L1 distance of the data's marginal from the model's."""
        exact, found = self.data.project(clique).datavector(), self.model.project(clique).datavector()
        return float(np.abs(np.asarray(exact) - np.asarray(found)).sum())

    def choose(self, scores: dict[Clique, float], epsilon: float, sensitivity: float) -> Clique:
        """The exponential mechanism, by Gumbel noise."""
        cliques = list(scores)
        noise = self.rng.gumbel(size=len(cliques))
        return cliques[int(np.argmax(epsilon / (2 * sensitivity) * np.array(list(scores.values())) + noise))]

    def sample(self, rows: int) -> Any:
        drawn = self.model.synthetic_data(rows=rows).to_dict()
        return np.column_stack([np.asarray(drawn[name]) for name in self.domain.attributes])


def mst(job: Job) -> Sampler:
    fit, names = Fit(job), job.names
    for name in names:
        fit.measure((name,), math.sqrt(3 * len(names) / (2 * job.rho)))
    fit.estimate(1000)
    errors = {pair: fit.error(pair) for pair in combinations(names, 2)}
    part, tree = {name: name for name in names}, []
    for _ in names[1:]:
        open_pairs = {pair: error for pair, error in errors.items() if part[pair[0]] != part[pair[1]]}
        one, other = fit.choose(open_pairs, math.sqrt(8 * job.rho / 3 / (len(names) - 1)), 1)
        tree.append((one, other))
        part = {name: part[one] if root == part[other] else root for name, root in part.items()}
    for pair in tree:
        fit.measure(pair, math.sqrt(3 * len(tree) / (2 * job.rho)))
    fit.estimate(5000)
    return fit.sample


def aim(job: Job) -> Sampler:
    fit, names, rho = Fit(job), job.names, job.rho
    workload = [pair for pair in combinations(names, 2) if fit.domain.size(pair) <= MAX_CELLS]
    weights = {
        tuple(clique): float(sum(len({*clique} & {*pair}) for pair in workload))
        for clique in downward_closure(workload)
    }
    rounds = 16 * len(names)
    sigma, epsilon = math.sqrt(rounds / (2 * 0.9 * rho)), math.sqrt(8 * 0.1 * rho / rounds)
    spent = len(names) / (2 * sigma**2)
    for name in names:
        fit.measure((name,), sigma)
    fit.estimate(1000)
    last = False
    while not last:
        if last := rho - spent < 2 * (1 / (2 * sigma**2) + epsilon**2 / 8):
            sigma, epsilon = math.sqrt(1 / (2 * 0.9 * (rho - spent))), math.sqrt(8 * 0.1 * (rho - spent))
        spent += 1 / (2 * sigma**2) + epsilon**2 / 8
        cliques = [m.clique for m in fit.measurements]
        free = set(map(tuple, downward_closure(cliques)))
        limit = MAX_MODEL_MB * spent / rho
        bias = math.sqrt(2 / math.pi) * sigma
        scores = {
            clique: weight * (fit.error(clique) - bias * fit.domain.size(clique))
            for clique, weight in weights.items()
            if clique in free or hypothetical_model_size(fit.domain, [*cliques, clique]) <= limit
        }
        chosen = fit.choose(scores, epsilon, max(weights[clique] for clique in scores))
        before = np.asarray(fit.model.project(chosen).datavector())
        fit.measure(chosen, sigma)
        fit.estimate(1000, warm=True)
        moved = np.abs(np.asarray(fit.model.project(chosen).datavector()) - before).sum()
        if moved <= bias * fit.domain.size(chosen):
            sigma, epsilon = sigma / 2, epsilon * 2
    return fit.sample


if __name__ == "__main__":
    serve({"mst": mst, "aim": aim}, version=version("mbi"))
