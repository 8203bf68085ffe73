"""Reconstruction: do the synthetic table's marginals add up to the sensitive values of the fitted persons?

The attacker knows the quasi-identifiers of all persons and reads off the synthetic table how common a sensitive value
is among the rows with each value, and each pair of values, of these columns. He then looks for values between 0 and 1,
one a person, that agree with all shares as well as possible (least squares within bounds), and rounds them.

Marginals of the population say much about everybody, so that many values come out right proves nothing. The same sums
are therefore done once more with persons held back in the place of fitted ones, who have the same quasi-identifiers to
offer and whom the synthetic table cannot know. What succeeds better on those who were fitted is a leak. Where fewer
persons are held back than were fitted, so many are exchanged and the others stay: both sums have equally many persons.

Sources: reconstruction from counts, Dinur and Nissim, PODS 2003; from synthetic tables, Annamalai, Gadotti, Rocher,
    USENIX Security 2024, arXiv:2301.10053; accelerated projected gradient: Beck and Teboulle, SIAM J. Imaging Sci. 2
    (2009) 183.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np
from scipy import sparse

from attacks import permutation
from attacks.base import Criterion, Finding, Gap, Threat, excess
from attacks.ceilings import Unproven
from attacks.intervals import Rate
from attacks.people import (
    BoolVector,
    FloatMatrix,
    FloatVector,
    Group,
    IntMatrix,
    IntVector,
    People,
    Rows,
    joined,
    keys,
    roles,
)

MOST_USERS = 5000  # rows of persons whose values are looked for at once
PAIRS = 60  # at most so many pairs of quasi-identifiers
STEPS = 100
POWER = 20  # steps that find the largest singular value
TOGETHER = Unproven(
    "all values are solved for together, and nobody held back was ever part of the crowd of fitted persons"
)


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Solves for sensitive values, one yes or no a column."""

    id: ClassVar[str] = "reconstruction"
    criterion: ClassVar[Criterion] = "inference"
    measure: ClassVar[str] = "share of a person's rows of which a yes-or-no fact is reconstructed from marginals"
    fail_only: ClassVar[bool] = False
    two_sided: ClassVar[bool] = False
    holds_reference: ClassVar[bool] = False
    threat: ClassVar[Threat] = Threat(
        knows="the marginals of the synthetic table, and the quasi-identifiers of all persons",
        wants="to reconstruct a sensitive value of each of them",
    )

    def run(self, people: People, synthetic: Rows, *, rng: np.random.Generator) -> Finding:
        known, secret = roles(synthetic)
        bits = [Bit.of(synthetic, place) for place in secret]
        if not known or not bits:
            reason = "reconstruction needs a quasi-identifier and a sensitive column"
            return Finding(gap=Gap(status="not_applicable", reason=reason))
        marginals = Marginals.of(synthetic, known, bits, rng)
        fit, control = (group.at_most(MOST_USERS, rng) for group in (people.fit, people.control))
        judged = min(fit.persons, control.persons)
        order = rng.permutation(fit.persons)
        ours = fit.take(order[:judged])
        others = [fit.take(order[judged:])] if judged < fit.persons else []
        theirs = control.take(rng.permutation(control.persons)[:judged])
        right = [marginals.right(joined(side, *others), bits)[:judged] for side in (ours, theirs)]
        lonely = np.concatenate([_alone(joined(side, *others), known)[:judged] for side in (ours, theirs)])
        hits = np.concatenate(right)
        member = np.arange(2 * judged) < judged
        tested = permutation.linear(hits, member, rng=rng)
        variants = {
            name: excess(
                *(Rate.over_persons(hit[side]) for side in (member, ~member)), p_value=float(p), bound=TOGETHER
            )
            for name, hit, p in zip(_names(bits), hits.T, tested.p_values, strict=True)
        }
        sides = [hits[lonely & side, -1] for side in (member, ~member)]
        figures = {}
        if min(len(side) for side in sides):
            figures["alone with their quasi-identifiers"] = excess(*(Rate.over_persons(side) for side in sides))
        return Finding(variants=variants, p_value=tested.p_value, trials=2 * judged * len(bits), figures=figures)

    def without(self, people: People, *, rng: np.random.Generator) -> dict[str, float]:
        """The marginals of reference persons instead, who are a sample of the same population."""
        table = people.reference.rows
        known, secret = roles(table)
        if not known or not secret or not len(table):
            return {}
        bits = [Bit.of(table, place) for place in secret]
        users = people.fit.at_most(MOST_USERS, rng)
        right = Marginals.of(table, known, bits, rng).right(users, bits)
        return dict(zip(_names(bits), right.mean(axis=0).tolist(), strict=True))


@dataclass(frozen=True, kw_only=True)
class Bit:
    """A yes-or-no fact about a column: its cell is at most this one, or exactly this one.

    Args:
        name: The column, and what is asked.
        place: Where the column stands.
        cell: The cell.
        ordered: Whether cells below count as yes.
    """

    name: str
    place: int
    cell: int
    ordered: bool

    @classmethod
    def of(cls, table: Rows, place: int) -> Bit:
        """The fact that is nearest to an even chance among the rows of a table."""
        column, cells = table.columns[place], table.cells[:, place]
        ordered = column.is_numeric or column.type == "ordinal"
        counts = np.bincount(cells, minlength=column.size)
        shares = (np.cumsum(counts) if ordered else counts) / max(len(cells), 1)
        return cls(name=column.name, place=place, cell=int(np.argmin(np.abs(shares - 0.5))), ordered=ordered)

    def of_rows(self, rows: Rows) -> BoolVector:
        """Whether it is true of each row."""
        cells = rows.cells[:, self.place]
        return np.asarray(cells <= self.cell if self.ordered else cells == self.cell)


def _names(bits: list[Bit]) -> list[str]:
    """Variants: each fact, and the mean over all of them."""
    return [bit.name for bit in bits] + (["all sensitive columns"] if len(bits) > 1 else [])


def _alone(group: Group, known: list[int]) -> BoolVector:
    """Persons of whom a row has a combination of quasi-identifiers that no other row has."""
    number = keys(group.rows.cells[:, known])[0]
    return group.any(np.bincount(number)[number] == 1)


@dataclass(frozen=True, eq=False)
class Marginals:
    """Shares of yes among the synthetic rows with the same values of one or two quasi-identifiers.

    Args:
        table: The synthetic rows.
        sets: The columns of each marginal.
        yes: What is true of each synthetic row; shape (rows, bits).
    """

    table: Rows
    sets: list[tuple[int, ...]]
    yes: FloatMatrix

    @classmethod
    def of(cls, table: Rows, known: list[int], bits: list[Bit], rng: np.random.Generator) -> Marginals:
        """All single columns, and all pairs or a random choice of them."""
        pairs = list(combinations(known, 2))
        if len(pairs) > PAIRS:
            pairs = [pairs[i] for i in np.sort(rng.choice(len(pairs), PAIRS, replace=False))]
        yes = np.stack([bit.of_rows(table) for bit in bits], axis=1).astype(np.float64)
        return cls(table, [*((place,) for place in known), *pairs], yes)

    def right(self, users: Group, bits: list[Bit]) -> FloatMatrix:
        """How often each fact is reconstructed for each person, their mean last; shape (persons, bits and mean)."""
        matrix, answers = self._queries(users.rows)
        start = np.repeat(self.yes.mean(axis=0)[None, :], len(users.rows), axis=0)
        guessed = np.round(within_bounds(matrix, answers, start), 6) >= 0.5
        truth = np.stack([bit.of_rows(users.rows) for bit in bits], axis=1)
        right = np.stack([users.mean(hit.astype(np.float64)) for hit in (guessed == truth).T], axis=1)
        if len(bits) > 1:
            right = np.concatenate([right, right.mean(axis=1, keepdims=True)], axis=1)
        rounded: FloatMatrix = np.round(right, 9)
        return rounded

    def _queries(self, users: Rows) -> tuple[sparse.csr_matrix, FloatMatrix]:
        """Sums over users, and what they should be, in units of their standard error.

        A cell with m synthetic rows and n users asks for n times the share of yes among the m. Its error is about
        n / sqrt(m), as long as the rows were drawn at random; a cell without synthetic rows asks for nothing.
        """
        rows, columns, data, answers, first = [], [], [], [], 0
        for chosen in self.sets:
            mine, theirs, cells = _numbered(users.cells[:, chosen], self.table.cells[:, chosen])
            n, m = np.bincount(mine, minlength=cells), np.bincount(theirs, minlength=cells)
            asked = np.flatnonzero((n > 0) & (m > 0))
            place = np.full(cells, -1)
            place[asked] = np.arange(len(asked))
            weight = np.sqrt(m[asked]) / n[asked]
            user = np.flatnonzero(place[mine] >= 0)
            rows.append(first + place[mine[user]])
            columns.append(user)
            data.append(weight[place[mine[user]]])
            sums = np.stack([np.bincount(theirs, weights=yes, minlength=cells) for yes in self.yes.T], axis=1)
            answers.append((weight * n[asked] / m[asked])[:, None] * sums[asked])
            first += len(asked)
        entries = np.concatenate(data), (np.concatenate(rows), np.concatenate(columns))
        return sparse.csr_matrix(entries, shape=(first, len(users))), np.concatenate(answers)


def _numbered(first: IntMatrix, second: IntMatrix) -> tuple[IntVector, IntVector, int]:
    """Numbers of the combinations of cells in two tables, and how many numbers there are."""
    top = np.maximum(first.max(axis=0, initial=0), second.max(axis=0, initial=0)) + 1
    if np.prod(top.astype(np.float64)) < 2**18:
        mine, theirs = (np.ravel_multi_index(tuple(table.T), tuple(top)) for table in (first, second))
        return mine, theirs, int(np.prod(top))
    mine, theirs = keys(first, second)
    return mine, theirs, 1 + max(int(mine.max(initial=0)), int(theirs.max(initial=0)))


def within_bounds(matrix: sparse.csr_matrix, answers: FloatMatrix, start: FloatMatrix) -> FloatMatrix:
    """Values in [0, 1] whose sums come near the answers: least squares, found by accelerated projected gradient.

    Args:
        matrix: Shape (answers, values).
        answers: One column for each set of values; shape (answers, sets).
        start: Where to begin, and to stay where the answers say nothing; shape (values, sets).
    """
    if not matrix.shape[0]:
        return start
    turned = matrix.T.tocsr()
    step = 1 / _largest(matrix, turned)
    solved = [_solved(matrix, turned, *one, step) for one in zip(answers.T, start.T, strict=True)]
    return np.stack(solved, axis=1)


def _solved(
    matrix: sparse.csr_matrix, turned: sparse.csr_matrix, answers: FloatVector, start: FloatVector, step: float
) -> FloatVector:
    """One set of values. Two sparse products with one vector each take less time than one with two."""
    values, leading, momentum = start, start, 1.0
    for _ in range(STEPS):
        moved = np.clip(leading - step * (turned @ (matrix @ leading - answers)), 0.0, 1.0)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        leading = moved + (momentum - 1) / following * (moved - values)
        values, momentum = moved, following
    return values


def _largest(matrix: sparse.csr_matrix, turned: sparse.csr_matrix) -> float:
    """The largest eigenvalue of the normal equations, a little overestimated. Entries are not negative."""
    direction: FloatVector = np.ones(matrix.shape[1])
    size = 1.0
    for _ in range(POWER):
        direction = turned @ (matrix @ direction)
        size = float(np.linalg.norm(direction))
        direction = direction / size
    return 1.02 * size
