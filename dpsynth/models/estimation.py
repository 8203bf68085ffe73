"""From noisy marginals to one distribution: pool them, shrink them, and fit a junction tree to what is left.

1. **Pool.** Marginals that overlap say the same thing more than once. Every table is moved to the best linear unbiased
   estimate of each of its smaller marginals, from the empty one up: inverse-variance weights (Gauss-Markov).
2. **Shrink.** What a table says beyond the model's expectation e is signal plus noise of known variance. In each cell
   the signal is drawn from a mixture of normal distributions around zero whose widths are multiples of e (and of the root
   of e sigma), with weights found by EM from the table itself: empirical Bayes, in the manner of adaptive shrinkage
   (Stephens, Biostatistics 18, 2017, doi:10.1093/biostatistics/kxw041). Along an ordered column the signal may as well be
   smooth, a Gaussian process; what the table itself speaks for counts more. The posterior mean keeps strong associations and
   lets noise fall back to what the rest of the model expects. It is then projected onto the non-negative tables with
   the pooled one-way marginals (alternating projections, Euclidean).
3. **Fit.** Iterative proportional fitting on the junction tree (Jirousek and Preucil, Computational Statistics and Data
   Analysis 19, 1995) gives the maximum-entropy distribution with these marginals. Sweep after sweep passes over the
   tree; the first ones shrink anew, because a better model expects better.

Nothing here sees a row, and nothing is iterated to the end: what more sweeps add is noise. `docs/engine.md` has what each
part gives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, compress

import numpy as np

from dpsynth.coarsening import BoolArray, Coarse
from dpsynth.mechanisms.base import Columns, IntArray, Measurement
from dpsynth.models.junction_tree import NEVER, FloatArray, JunctionTree

Mask = tuple[Columns, BoolArray]

_SWEEPS = 6  # over the tree
_SHRINKING = 2  # of them shrink the measurements anew
_RELATIVE = np.array([0.0, 0.03, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4])  # widths of the signal, in expected rows
_ABSOLUTE = np.array([0.5, 2.0])  # widths of the signal, in roots of expected rows times sigma
_FIRST, _NEXT = 20, 3  # steps of EM when a table is first shrunk, and when it is shrunk anew
_PROJECTIONS = 12
_MOST_ROWS = 2.0**34  # more is noise
_LEAST = 1e-9  # rows; no cell is ruled out by noise
_SMOOTH = np.array([0.1, 0.2, 0.4, 0.8, 1.6])  # widths of a smooth signal, in expected rows
_ALIKE, _OWN = 3.0, 0.05  # cells along which it is alike; the part of its variance that each cell has for itself
_SHORTEST, _LONGEST = 4, 64  # cells of an ordered column along which to look for something smooth
_LINES = 256  # along it, in one table, at most
_NO_SHARE = 1e-6  # of the evidence, below which a kind of signal is looked at once and not again


@dataclass(kw_only=True)
class NoisyTable:
    """A measured marginal on its way to what the model has to match.

    Args:
        values: Pooled counts in rows.
        variance: Of the noise on each, in squared rows.
    """

    columns: Columns
    values: FloatArray
    variance: FloatArray

    def marginal(self, columns: Columns) -> tuple[FloatArray, FloatArray]:
        """Counts and variances summed to those columns; the other axes stay, of length one."""
        axes = tuple(axis for axis, column in enumerate(self.columns) if column not in columns)
        return self.values.sum(axis=axes, keepdims=True), self.variance.sum(axis=axes, keepdims=True)


@dataclass(kw_only=True)
class _Target:
    """What one table asks of its clique.

    Args:
        clique, sums, view: Where the table lies in the tree.
        ordered: Axes along which signals may be smooth; after the first shrinking, along which they are.
        sides: One-way counts of its columns.
        weights: Of the widths of the signal.
        shares: Of each kind of signal, for each of its widths, in their average; from the first shrinking on.
        wanted: Counts that the model is to match; None before the first shrinking.
        potential: Logarithm of the factor that matching them took so far.
    """

    table: NoisyTable
    clique: int
    sums: tuple[int, ...]
    view: tuple[int, ...]
    ordered: tuple[int, ...]
    sides: list[FloatArray]
    weights: FloatArray
    shares: list[FloatArray] | None = None
    wanted: FloatArray | None = None
    potential: FloatArray


def noisy_total(measurements: Sequence[Measurement]) -> float:
    """The number of rows: each measurement's sum, weighted by the inverse of its variance; in 1 .. 2**34."""
    weights = [1 / (m.values.size * float(m.sigma_squared)) for m in measurements]
    sums = [float(m.values.sum()) for m in measurements]
    return min(max(1.0, float(np.dot(weights, sums) / np.sum(weights))), _MOST_ROWS)


def estimate(
    tree: JunctionTree,
    measurements: Sequence[Measurement],
    *,
    total: float,
    coarse: Sequence[Coarse] = (),
    allowed: Sequence[Mask] = (),
    ordered: Collection[int] = (),
) -> list[tuple[Columns, FloatArray]]:
    """The distribution described above, as a product: logarithms of factors over few columns each.

    What `coarse` and `allowed` rule out is left out of the product and has to be multiplied in.

    Args:
        tree: Each measurement's columns lie inside one of its cliques.
        measurements: At least one.
        total: Rows, positive.
        coarse: The last columns of the tree, if these were made from others; each lies in a clique with its source.
        allowed: Column sets, each inside some clique and in increasing order, with the cells that may have rows.
        ordered: Columns of the tree whose neighbouring cells are alike.
    """
    by_columns = combined(measurements)
    links = list(enumerate(coarse, start=len(tree.sizes) - len(coarse)))
    fine = {made.column: by_columns.pop((made.column,)) for _, made in links if (made.column,) in by_columns}
    tables = list(by_columns.values())
    tables += [_in_coarse_cells(fine[made.column], made.groups, c) for c, made in links if made.column in fine]
    _pool(tables)
    singles = [_single(tables, column, size, total) for column, size in enumerate(tree.sizes)]
    logs: list[tuple[Columns, FloatArray]] = [((c,), np.log(side / total)) for c, side in enumerate(singles)]
    masks = list(allowed)
    for column, made in links:
        side = _single(list(fine.values()), made.column, len(made.groups), total)
        within = np.log(side / np.bincount(made.groups, weights=side)[made.groups])
        logs[made.column] = ((made.column,), within)
        masks.append(((made.column, column), made.mask))
    ruled_out = [(columns, np.where(mask, 0.0, NEVER)) for columns, mask in masks]
    beliefs = [total * cells for cells in tree.calibrate(tree.factors([*logs, *ruled_out]))[1]]
    at: dict[int, list[_Target]] = {}
    covered = {column for table in tables for column in table.columns if len(table.columns) > 1}
    for table in tables:
        if len(table.columns) > 1 or (allowed and table.columns[0] not in covered):
            clique = tree.holder(table.columns)
            at.setdefault(clique, []).append(
                _Target(
                    table=table,
                    clique=clique,
                    sums=tree.sums(clique, table.columns),
                    view=tree.view(clique, table.columns),
                    ordered=tuple(
                        a for a, column in enumerate(table.columns) if column in ordered and _can_be_smooth(table, a)
                    ),
                    sides=[singles[column] for column in table.columns],
                    weights=np.full(len(_RELATIVE) + len(_ABSOLUTE), 1 / (len(_RELATIVE) + len(_ABSOLUTE))),
                    potential=np.zeros(table.values.shape),
                )
            )
    steps = tree.tour() if at else []
    for sweep in range(_SWEEPS):
        for target in at.get(0, []):
            _fit(target, beliefs, total, shrink=sweep < _SHRINKING)
        for edge, down in steps:
            tree.pass_on(edge, beliefs, down=down)
            if down:
                for target in at.get(edge.child, []):
                    _fit(target, beliefs, total, shrink=sweep < _SHRINKING)
    return logs + [(target.table.columns, target.potential) for targets in at.values() for target in targets]


def combined(measurements: Iterable[Measurement]) -> dict[Columns, NoisyTable]:
    """One table for each measured column set: what was measured again counts by its inverse variance."""
    found: dict[Columns, NoisyTable] = {}
    for m in measurements:
        values, variance = m.values.astype(np.float64), np.full(m.values.shape, float(m.sigma_squared))
        if m.columns in found:
            seen = found[m.columns]
            share = seen.variance / (variance + seen.variance)
            values, variance = share * values + (1 - share) * seen.values, share * variance
        found[m.columns] = NoisyTable(columns=m.columns, values=values, variance=variance)
    return found


def _in_coarse_cells(table: NoisyTable, groups: IntArray, column: int) -> NoisyTable:
    """A table of one column as its coarse cells have it."""
    return NoisyTable(
        columns=(column,),
        values=np.bincount(groups, weights=table.values).astype(np.float64),
        variance=np.bincount(groups, weights=table.variance).astype(np.float64),
    )


def _pool(tables: Sequence[NoisyTable]) -> None:
    """Moves all tables to the inverse-variance mean of each marginal that several of them have, from the empty one up.

    Where each table has one variance this is least squares, and all tables agree afterwards. Coarse cells differ in
    variance: there they agree nearly, and the projection that follows does the rest.
    """
    holders: dict[Columns, list[NoisyTable]] = {}
    for table in tables:
        for length in range(len(table.columns) + 1):
            for columns in combinations(table.columns, length):
                holders.setdefault(columns, []).append(table)
    for columns in sorted(holders, key=len):
        if len(holders[columns]) < 2:
            continue
        found = [table.marginal(columns) for table in holders[columns]]
        first = holders[columns][0]
        shape = [first.values.shape[first.columns.index(column)] for column in columns]
        weight = np.sum([(1 / variance).reshape(shape) for _, variance in found], axis=0)
        mean = np.sum([(values / variance).reshape(shape) for values, variance in found], axis=0) / weight
        for table, (values, variance) in zip(holders[columns], found, strict=True):
            table.values = table.values + (mean.reshape(values.shape) - values) * (table.variance / variance)


def _single(tables: Sequence[NoisyTable], column: int, size: int, total: float) -> FloatArray:
    """One-way counts of a column that add up to the total: as measured, or even."""
    holder = min((t for t in tables if column in t.columns), key=lambda t: len(t.columns), default=None)
    if holder is None:
        return np.full(size, total / size)
    return on_simplex(holder.marginal((column,))[0].ravel(), total)


def on_simplex(values: FloatArray, total: float) -> FloatArray:
    """The nearest non-negative counts with that sum (Duchi et al., ICML 2008), and no cell quite empty."""
    falling = np.sort(values)[::-1]
    over = np.cumsum(falling) - total
    last = np.flatnonzero(falling * np.arange(1, len(falling) + 1) > over)[-1]
    out: FloatArray = np.maximum(values - over[last] / (last + 1), _LEAST)
    out *= total / out.sum()
    return out


def _fit(target: _Target, beliefs: list[FloatArray], total: float, *, shrink: bool) -> None:
    """Shrinks the target's table towards what its clique expects, and moves the clique to the result."""
    belief = beliefs[target.clique]
    expected = belief.sum(axis=target.sums)
    if shrink:
        target.wanted = _shrunk(target, expected)
    assert target.wanted is not None
    ratio = np.divide(target.wanted, expected, out=np.ones_like(expected), where=expected > _LEAST * _LEAST)
    target.potential += np.log(ratio)
    belief *= ratio.reshape(target.view)


def _can_be_smooth(table: NoisyTable, axis: int) -> bool:
    length = table.values.shape[axis]
    return len(table.columns) > 1 and _SHORTEST <= length <= _LONGEST and table.values.size <= _LINES * length


def _shrunk(target: _Target, expected: FloatArray) -> FloatArray:
    """The posterior mean of the table's counts, projected onto what counts can be.

    Signals of cells that are alike to no neighbour, and signals that are smooth along one of the ordered columns, are
    averaged by their evidence.
    """
    centre = np.maximum(expected, _LEAST)
    beyond = target.table.values - centre
    kinds = [[_rough(target, centre.ravel(), beyond.ravel())]]
    kinds += [_smooth(centre, beyond, axis=axis, noise=float(target.table.variance.flat[0])) for axis in target.ordered]
    if target.shares is None:
        evidence = [np.array([log for log, _ in kind]) for kind in kinds]
        most = max(logs.max() for logs in evidence)
        shares = [np.exp(logs - most) for logs in evidence]
        target.shares = [share / sum(part.sum() for part in shares) for share in shares]
    signal = sum(
        share * mean.reshape(expected.shape)
        for shares, kind in zip(target.shares, kinds, strict=True)
        for share, (_, mean) in zip(shares, kind, strict=True)
    )
    told = [part.sum() > _NO_SHARE for part in target.shares[1:]]  # no need to look at the others again
    target.ordered = tuple(compress(target.ordered, told))
    target.shares = [target.shares[0], *compress(target.shares[1:], told)]
    return _projected(centre + signal, target.sides)


def _rough(target: _Target, centre: FloatArray, beyond: FloatArray) -> tuple[float, FloatArray]:
    """Logarithm of the evidence, and mean, of signals that each cell draws for itself; moves the weights of the widths."""
    noise = target.table.variance.ravel()
    signal = np.concatenate([(_RELATIVE[:, None] * centre) ** 2, _ABSOLUTE[:, None] ** 2 * (centre * np.sqrt(noise))])
    spread = signal + noise
    logs = -0.5 * (np.log(spread) + beyond * beyond / spread)
    most = logs.max(axis=0)
    likelihood = np.exp(logs - most)
    weights = target.weights
    for _ in range(_FIRST if target.wanted is None else _NEXT):
        weights = weights * (likelihood @ (1 / (weights @ likelihood))) / len(noise) + 1e-4
        weights /= weights.sum()
    target.weights = weights
    total = weights @ likelihood
    mean: FloatArray = beyond * (weights @ (likelihood * (signal / spread))) / total
    return float((np.log(total) + most).sum()), mean


def _smooth(centre: FloatArray, beyond: FloatArray, *, axis: int, noise: float) -> list[tuple[float, FloatArray]]:
    """The same of signals that are smooth along an axis, for each width: Gaussian processes in parts of what is expected.

    Cells d apart have covariance w^2 e e' exp(-d^2 / (2 l^2)) for expected rows e and e', width w and length l, and each
    has some variance of its own (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, equations 2.25 and
    2.30). Lines along the axis are independent; their eigenvalues serve all widths.
    """
    expected, found = (np.moveaxis(table, axis, -1) for table in (centre, beyond))
    apart = np.subtract.outer(np.arange(expected.shape[-1]), np.arange(expected.shape[-1]))
    alike = (1 - _OWN) * np.exp(-0.5 * (apart / _ALIKE) ** 2) + _OWN * np.eye(len(apart))
    values, vectors = np.linalg.eigh(expected[..., :, None] * expected[..., None, :] * alike)
    turned = np.einsum("...ij,...i->...j", vectors, found)
    out = []
    for width in _SMOOTH:
        signal = width**2 * np.maximum(values, 0)
        spread = signal + noise
        mean = np.einsum("...ij,...j->...i", vectors, turned * (signal / spread))
        out.append((-0.5 * float((np.log(spread) + turned**2 / spread).sum()), np.moveaxis(mean, -1, axis)))
    return out


def _projected(values: FloatArray, sides: Sequence[FloatArray]) -> FloatArray:
    """Non-negative counts near `values` whose one-way marginals are `sides`: a Newton step for one axis after another.

    The last steps scale, so that sums are kept to the last digit and no cell is quite empty.
    """
    add = np.add.reduce
    turns = [
        (side.reshape([-1 if a == axis else 1 for a in range(values.ndim)]), tuple({*range(values.ndim)} - {axis}))
        for axis, side in enumerate(sides)
    ]
    lifted = values
    for _ in range(_PROJECTIONS):
        for side, axes in turns:
            excess = add(np.maximum(lifted, 0), axis=axes, keepdims=True) - side
            lifted = lifted - excess / np.maximum(add(lifted > 0, axis=axes, keepdims=True, dtype=np.float64), 1)
    out: FloatArray = np.maximum(lifted, _LEAST)
    for _ in range(2):
        for side, axes in turns:
            out = out * (side / add(out, axis=axes, keepdims=True))
    return out
