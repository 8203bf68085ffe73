"""Exact tests by shuffling which persons are called members.

Fate (a coin a person) decided who was fitted and who was held back. If the synthetic table tells nothing about that,
every reassignment of the labels was equally likely, so ranking the observed statistic among shuffled ones gives a
p-value that needs no formula for its distribution, and none for how the statistics of one attack depend on one another:
the largest of them is ranked (Westfall and Young, Resampling-Based Multiple Testing, 1993).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatVector: TypeAlias = npt.NDArray[np.float64]
FloatMatrix: TypeAlias = npt.NDArray[np.float64]
BoolVector: TypeAlias = npt.NDArray[np.bool_]
BoolMatrix: TypeAlias = npt.NDArray[np.bool_]
IntVector: TypeAlias = npt.NDArray[np.int64]

PERMUTATIONS = 999
CHUNK = 100
DEAR = 15  # drawing how many members are of one kind takes about so many times as long as drawing one person


@dataclass(frozen=True, kw_only=True)
class Shuffled:
    """What shuffling says about some statistics.

    Args:
        p_value: Chance, under the null hypothesis, that any of them stands out as much as the most striking one does.
        p_values: The same for each of them, also corrected for the others; shape (statistics,).
        reverse: `p_value` for the opposite direction.
    """

    p_value: float
    p_values: FloatVector
    reverse: float


def ranked(statistics: FloatMatrix, *, two_sided: bool = False) -> Shuffled:
    """Ranks the observed statistics among shuffled ones.

    Args:
        statistics: Shape (statistics, 1 + shuffles); the first column is the observed one. Larger means more leakage.
        two_sided: Whether small values speak of leakage too.
    """
    centre = statistics.mean(axis=1, keepdims=True)
    spread = statistics.std(axis=1, keepdims=True)
    z = np.divide(statistics - centre, spread, out=np.zeros_like(statistics), where=spread > 1e-12)
    z = np.round(z, 9)  # equal statistics must stay equal whatever their sums were rounded to
    if two_sided:
        z = np.abs(z)
    most, least = z.max(axis=0, initial=0.0), z.min(axis=0, initial=0.0)
    return Shuffled(
        p_value=float(np.mean(most >= most[0])),
        p_values=np.array([np.mean(most >= row[0]) for row in z]),
        reverse=float(np.mean(least <= least[0])),
    )


def linear(
    values: FloatMatrix,
    member: BoolVector,
    *,
    rng: np.random.Generator,
    two_sided: bool = False,
    permutations: int = PERMUTATIONS,
) -> Shuffled:
    """Tests sums over the members.

    Args:
        values: What each person contributes to each statistic; shape (persons, statistics).
        member: Who was fitted; shape (persons,).
    """
    kinds, kind = np.unique(values, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    if len(kinds) * DEAR > len(values):  # nearly as many kinds as persons: one by one

        def sums(labels: FloatMatrix) -> FloatMatrix:
            total: FloatMatrix = np.round((values - values.mean(axis=0)).T @ labels, 9)
            return total

        one = np.zeros(len(member), dtype=np.int64)
        return relabelled(sums, member, one, rng=rng, two_sided=two_sided, permutations=permutations)
    sizes = np.bincount(kind, minlength=len(kinds))
    observed = np.bincount(kind[member], minlength=len(kinds))[None, :]
    drawn = [observed, *_draws(sizes, int(member.sum()), permutations, rng)]
    return ranked(np.concatenate([counts @ kinds for counts in drawn]).T, two_sided=two_sided)


def _draws(sizes: IntVector, members: int, draws: int, rng: np.random.Generator) -> Iterator[IntVector]:
    """How many of each kind of person are members, when members are drawn anew."""
    for start in range(0, draws, CHUNK):
        yield rng.multivariate_hypergeometric(sizes, members, size=min(CHUNK, draws - start), method="marginals")


def relabelled(
    statistics: Callable[[FloatMatrix], FloatMatrix],
    member: BoolVector,
    strata: IntVector,
    *,
    rng: np.random.Generator,
    two_sided: bool = False,
    permutations: int = PERMUTATIONS,
) -> Shuffled:
    """Tests statistics of any kind, shuffling the labels inside each stratum.

    Args:
        statistics: From labels of shape (persons, shuffles), 1.0 for a member, to values of shape (statistics, shuffles).
        strata: Shuffling never crosses these; shape (persons,).
    """
    results = [statistics(member.astype(np.float64)[:, None])]
    for labels in shuffles(member, strata, rng=rng, permutations=permutations):
        results.append(statistics(labels))
    return ranked(np.concatenate(results, axis=1), two_sided=two_sided)


def shuffles(
    member: BoolVector, strata: IntVector, *, rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> Iterator[FloatMatrix]:
    """Labels drawn anew, some shuffles at a time; shape (persons, shuffles)."""
    parts = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    for start in range(0, permutations, CHUNK):
        drawn = [
            (part, _drawn(len(part), int(member[part].sum()), min(CHUNK, permutations - start), rng)) for part in parts
        ]
        if len(drawn) == 1:
            yield drawn[0][1].astype(np.float64).T
            continue
        labels = np.empty((len(member), drawn[0][1].shape[0]))
        for part, chosen in drawn:
            labels[part] = chosen.T
        yield labels


def _drawn(persons: int, members: int, draws: int, rng: np.random.Generator) -> BoolMatrix:
    """Which persons are members, in each of several draws; shape (draws, persons).

    Members are the persons with the smallest lots: a fair draw, and quicker than shuffling. Where the last member's lot
    was drawn twice, everybody draws again.
    """
    if members in (0, persons):
        return np.full((draws, persons), members == persons)
    chosen: BoolMatrix = np.zeros((draws, persons), dtype=bool)
    open_draws = np.arange(draws)
    while len(open_draws):
        lots = rng.integers(2**32, size=(len(open_draws), persons), dtype=np.uint32)
        last = np.partition(lots, members - 1, axis=1)[:, members - 1, None]
        chosen[open_draws] = lots <= last
        open_draws = open_draws[chosen[open_draws].sum(axis=1) != members]
    return chosen
