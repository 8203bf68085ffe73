"""From noisy marginals to the distribution that explains them, with a little more entropy than it must have.

The estimate maximises, over distributions p on a junction tree,

    w N H(p) - sum_i || y_i - N M_i p ||^2 / (2 sigma_i^2),

where N is the number of rows, H the entropy, y_i the noisy counts of marginal i and M_i p its probabilities. Without
the first term this is least squares weighted by precision; the first term moves what is lost in the noise towards
independence. With w = 0.15 / sigma one nat of surprise moves a count by 0.15 standard deviations of its noise, which
measured best on public tables (`docs/engine.md`).

Its dual is smooth, strongly convex and free of constraints, and one pass over the junction tree gives its value and
its gradient. In the coordinates u, one number a measured cell in units of the noise, it is

    minimise   w N log Z(theta) - sum_i u_i . y_i / sigma_i + |u|^2 / 2,   theta = sum_i M_i^T u_i / (w sigma_i).

L-BFGS solves it from the one-way marginals in one or two hundred passes, with each coordinate stretched by the square root
of its curvature. Sources: maximum entropy with relaxed constraints, Dudik, Phillips, Schapire, JMLR 8 (2007);
estimation from noisy marginals on graphical models, McKenna, Sheldon, Miklau, ICML 2019, arXiv:1901.09136.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import scipy.optimize
from threadpoolctl import threadpool_limits

from dpsynth.mechanisms.base import Measurement
from dpsynth.models.junction_tree import FloatArray, JunctionTree

_PULL = 0.15  # standard deviations of the noise by which one nat of surprise moves a count
_PASSES = 150  # or more where a pass is cheap: up to 1,500 while all passes together touch a million cells
_TOLERANCE = 0.02  # of the optimality condition, in standard deviations of the noise on one cell


def noisy_total(measurements: Sequence[Measurement]) -> float:
    """The number of rows, at least 1: each measurement's sum, weighted by the inverse of its variance."""
    weights = [1 / (m.values.size * float(m.sigma_squared)) for m in measurements]
    sums = [float(m.values.sum()) for m in measurements]
    return max(1.0, float(np.dot(weights, sums) / np.sum(weights)))


def estimate(tree: JunctionTree, measurements: Sequence[Measurement], *, total: float) -> list[FloatArray]:
    """Factors (logarithms, one a clique of the tree) of the distribution described above.

    Args:
        tree: Each measurement's columns lie inside one of its cliques.
        measurements: At least one.
        total: N in rows, positive.
    """
    cliques = [tree.holder(m.columns) for m in measurements]
    sums = [tree.sums(clique, m.columns) for clique, m in zip(cliques, measurements, strict=True)]
    views = [tree.view(clique, m.columns) for clique, m in zip(cliques, measurements, strict=True)]
    parts = _parts(measurements)
    sigma = np.concatenate([np.full(m.values.size, m.sigma) for m in measurements])
    targets = np.concatenate([m.values.ravel() for m in measurements]) / sigma
    weight = _PULL / float(np.median(sigma))

    def factors(u: FloatArray) -> list[FloatArray]:
        out = [np.zeros(shape) for shape in tree.shapes]
        theta = u / (sigma * weight)
        for clique, view, part in zip(cliques, views, parts, strict=True):
            out[clique] += theta[part].reshape(view)
        return out

    def dual(stretched: FloatArray) -> tuple[float, FloatArray]:
        u = stretched / stretch
        log_total, marginals = tree.calibrate(factors(u))
        expected = [marginals[clique].sum(axis=axes).ravel() for clique, axes in zip(cliques, sums, strict=True)]
        gradient = u - targets + np.concatenate(expected) * (total / sigma)
        return float(weight * total * log_total - u @ targets + u @ u / 2), gradient / stretch

    plausible = np.maximum(targets, 0.5) * sigma  # rows a cell may hold, whatever the noise says
    stretch = np.sqrt(1 + plausible / (weight * sigma**2))
    start = np.zeros_like(targets)
    for m, part in zip(measurements, parts, strict=True):
        if len(m.columns) == 1:
            start[part] = np.log(plausible[part] / plausible[part].sum()) * m.sigma * weight
    passes = max(_PASSES, min(10 * _PASSES, 1_000_000 // tree.cells))
    with threadpool_limits(1):  # vectors this short are slower on several cores than on one
        found = scipy.optimize.minimize(
            dual,
            start * stretch,
            jac=True,
            method="L-BFGS-B",
            options={
                "maxiter": passes,
                "maxfun": 2 * passes,
                "gtol": _TOLERANCE / stretch.max(),
                "ftol": 0.0,
                "maxcor": 10,
            },
        )
    return factors(found.x / stretch)


def _parts(measurements: Sequence[Measurement]) -> list[slice]:
    """Where each measurement's cells stand when all are laid out in a row."""
    ends = np.cumsum([0] + [m.values.size for m in measurements])
    return [slice(int(first), int(last)) for first, last in pairwise(ends)]
