"""Singling out: do facts guessed from the synthetic table fit exactly one fitted person, more often than one held back?

The attacker takes a synthetic row and turns some of its values into a predicate ("site is 3, income between 5 and 6
thousand, at least 30 visits"). Only predicates that no reference person satisfies are used: they claim something rare.
A predicate succeeds on a side if exactly one person there satisfies it. Both sides are brought to the same number of
persons by taking the mean over all choices of that many, because a predicate isolates by chance more easily in a larger
or a smaller crowd. The same predicates made from other reference persons give the baseline.

Source of the criterion: Article 29 Working Party, Opinion 05/2014 (WP216); chance isolation: Cohen and Nissim, PNAS 117
(2020) 8344.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import sparse
from scipy.special import gammaln

from attacks import permutation
from attacks.base import CONFIDENCE, Criterion, Finding, Gap, Measure, Threat
from attacks.intervals import FloatVector, Rate, difference
from attacks.people import MISSING, FloatMatrix, Group, IntVector, People, Rows, joined

GUESSES = 2000
COLUMNS = 6  # a predicate uses two columns up to so many
FEWEST = 50  # with fewer predicates left nothing can be said
STYLES = ("cell", "value", "tail")


@dataclass(frozen=True, kw_only=True)
class SinglingOut:
    """Guesses predicates that isolate one person."""

    id: ClassVar[str] = "singling_out"
    criterion: ClassVar[Criterion] = "singling_out"
    measure: ClassVar[str] = "share of guessed predicates that fit exactly one person"
    fail_only: ClassVar[bool] = False
    two_sided: ClassVar[bool] = False
    holds_reference: ClassVar[bool] = True
    threat: ClassVar[Threat] = Threat(
        knows="the synthetic table, and other people of the population to tell what is rare",
        wants="to state facts that fit exactly one person of the data",
    )

    def run(self, people: People, synthetic: Rows, *, rng: np.random.Generator) -> Finding:
        sides = joined(people.fit, people.evaluation)
        member = np.arange(sides.persons) < people.fit.persons
        crowd = min(int(member.sum()), int((~member).sum()))
        _, judge = _reference(people)
        game = _game(Predicates.guessed(synthetic, rng), judge, sides)
        if game.shape[0] < FEWEST:
            reason = f"fewer than {FEWEST} guessed predicates claim something rare"
            return Finding(gap=Gap(status="incomplete", reason=reason, needs="a table with more rare combinations"))

        def isolated(labels: FloatMatrix) -> FloatMatrix:
            rates = [alone(game @ side, int(side[:, 0].sum()), crowd).mean(axis=0) for side in (labels, 1 - labels)]
            difference_of_means: FloatMatrix = np.round(rates[0] - rates[1], 12)[None, :]
            return difference_of_means

        tested = permutation.relabelled(isolated, member, np.zeros(len(member), dtype=np.int64), rng=rng)
        fit, control = (_rate(game[:, side], crowd) for side in (member, ~member))
        measure = Measure(
            estimate=fit.value - control.value,
            interval=difference(fit, control, CONFIDENCE),
            chance=0.0,
            persons=sides.persons,
            fit=fit,
            control=control,
            p_value=tested.p_value,
        )
        return Finding(
            variants={"predicates": measure},
            p_value=tested.p_value,
            trials=game.shape[0],
        )

    def without(self, people: People, *, rng: np.random.Generator) -> dict[str, float]:
        """Predicates made from reference persons, as rare among the other reference persons."""
        source, judge = _reference(people)
        game = _game(Predicates.guessed(source.rows, rng), judge, people.fit)
        if not game.shape[0]:
            return {}
        return {"predicates": _rate(game, min(people.fit.persons, people.evaluation.persons)).value}


def _reference(people: People) -> tuple[Group, Group]:
    """Two halves of the reference persons: those whose rows may be guessed from, and those who judge what is rare."""
    persons = np.arange(people.reference.persons)
    return people.reference.take(persons[::2]), people.reference.take(persons[1::2])


@dataclass(frozen=True, eq=False)
class Predicates:
    """Conjunctions of claims about columns.

    Args:
        low, high: A claim is `low <= value <= high`; shape (predicates, columns), infinite where nothing is claimed.
        cell: Or it is that the cell has this code; -1 where nothing is claimed; same shape.
    """

    low: FloatMatrix
    high: FloatMatrix
    cell: IntVector

    @classmethod
    def guessed(cls, table: Rows, rng: np.random.Generator) -> Predicates:
        """One predicate from each of `GUESSES` rows of the table, repeated ones left out.

        Each takes some columns of the row and claims, all in one style, its cells, its exact values, or tails (at
        least this where the value is above the table's median, else at most this).
        """
        columns = len(table.columns)
        row = rng.integers(len(table), size=GUESSES)
        rank = np.argsort(rng.random((GUESSES, columns)), axis=1).argsort(axis=1)
        used = rank < rng.integers(min(2, columns), min(COLUMNS, columns) + 1, size=GUESSES)[:, None]
        style = rng.integers(len(STYLES), size=GUESSES)[:, None]
        values, cells = table.values[row], table.cells[row]
        numeric = np.array([column.is_numeric for column in table.columns]) & (values != MISSING)
        middle = np.array([_median(table.values[:, place]) for place in range(columns)])
        by_value, by_tail = used & numeric & (style == 1), used & numeric & (style == 2)
        low = np.where(by_value | (by_tail & (values >= middle)), values, -np.inf)
        high = np.where(by_value | (by_tail & (values < middle)), values, np.inf)
        cell = np.where(used & ~by_value & ~by_tail, cells, -1)
        distinct = np.unique(np.concatenate([low, high, cell], axis=1), axis=0)
        return cls(
            distinct[:, :columns], distinct[:, columns : 2 * columns], distinct[:, 2 * columns :].astype(np.int64)
        )

    def satisfied(self, group: Group) -> sparse.csr_matrix:
        """Which persons satisfy which predicates, by any of their rows; shape (predicates, persons), ones and zeros."""
        rows = group.rows
        found = []
        for low, high, cell in zip(self.low, self.high, self.cell, strict=True):
            left: IntVector = np.arange(len(rows))
            for place in np.flatnonzero(cell >= 0):
                left = left[rows.cells[left, place] == cell[place]]
            for place in np.flatnonzero((low > -np.inf) | (high < np.inf)):
                value = rows.values[left, place]
                left = left[(value >= low[place]) & (value <= high[place]) & (value != MISSING)]
            found.append(np.unique(group.person[left]))
        ends = np.cumsum([0, *(len(persons) for persons in found)])
        persons = np.concatenate([np.zeros(0, dtype=np.int64), *found])
        return sparse.csr_matrix((np.ones(len(persons)), persons, ends), shape=(len(found), group.persons))


def _median(values: FloatVector) -> float:
    known = values[values != MISSING]
    return float(np.median(known)) if len(known) else 0.0


def _game(predicates: Predicates, judge: Group, sides: Group) -> sparse.csr_matrix:
    """Who satisfies the predicates that nobody of the judging reference satisfies; shape (predicates, persons)."""
    common = np.asarray(predicates.satisfied(judge).sum(axis=1)).reshape(-1) > 0
    kept = Predicates(predicates.low[~common], predicates.high[~common], predicates.cell[~common])
    return kept.satisfied(sides)


def alone(matching: FloatMatrix, persons: int, crowd: int) -> FloatMatrix:
    """Chance that exactly one of `matching` persons is among `crowd` drawn from `persons`; any shape."""
    rest = persons - crowd
    m = np.minimum(matching, rest + 1)  # more than that, and two are always drawn

    def log_choose(n: FloatMatrix | float, k: FloatMatrix | float) -> FloatMatrix:
        return np.asarray(gammaln(np.add(n, 1)) - gammaln(np.add(k, 1)) - gammaln(np.subtract(n, k) + 1))

    log_chance = log_choose(persons - m, float(crowd - 1)) - log_choose(float(persons), float(crowd))
    return np.where((matching >= 1) & (matching <= rest + 1), matching * np.exp(log_chance), 0.0)


def _rate(game: sparse.csr_matrix, crowd: int) -> Rate:
    """Success rate on one side; persons are the clusters, because one person can be isolated by many predicates."""
    matching = np.asarray(game.sum(axis=1)).reshape(-1)
    chance = alone(matching, game.shape[1], crowd)
    value = float(chance.mean())
    by_person = np.asarray(game.T @ (chance / np.maximum(matching, 1))).reshape(-1)
    variance = game.shape[1] * float(by_person.var()) / game.shape[0] ** 2
    trials = min(game.shape[0], game.shape[1]) if variance <= 0 else value * (1 - value) / variance
    return Rate(value=value, trials=max(min(trials, float(game.shape[0])), 1.0), persons=game.shape[1])
