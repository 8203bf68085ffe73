"""Attribute inference: does the synthetic table tell more about a fitted person's sensitive values than about others'?

The attacker knows every column that is not sensitive and guesses each sensitive one (numbers by cell), with rules
learned from the synthetic table alone: the nearest row, a forest of fully grown trees, and the forest where it is sure.
What it gets right about persons held back is knowledge about the population, which a release is allowed to give: the
excess over that is the leak. What the same rules would have got right when learned from reference persons is reported
as the baseline.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from attacks import permutation
from attacks.base import Criterion, Finding, Gap, Threat, compared
from attacks.intervals import FloatVector, Rate
from attacks.nearness import Nearness, foreign, nearness
from attacks.people import BoolVector, Group, IntMatrix, IntVector, People, Rows, joined, roles

TREES = 15
SURE = 0.9  # share of the forest's votes from which the cautious attacker speaks


@dataclass(frozen=True, kw_only=True)
class AttributeInference:
    """Guesses sensitive values from the others."""

    id: ClassVar[str] = "attribute_inference"
    criterion: ClassVar[Criterion] = "inference"
    measure: ClassVar[str] = "share of a person's rows whose sensitive value is guessed right"
    fail_only: ClassVar[bool] = False
    two_sided: ClassVar[bool] = False
    holds_reference: ClassVar[bool] = False
    threat: ClassVar[Threat] = Threat(
        knows="the synthetic table and all of the person's values that are not sensitive",
        wants="to guess a sensitive value",
    )

    def run(self, people: People, synthetic: Rows, *, rng: np.random.Generator) -> Finding:
        known, secret = _roles(synthetic)
        if not known or not secret:
            reason = "attribute inference needs a sensitive column and another one"
            return Finding(gap=Gap(status="not_applicable", reason=reason))
        fit, control = people.fit, people.control
        pool = joined(fit, control)
        both = _right(synthetic, pool, nearness(people, synthetic), secret, rng)
        member = np.arange(fit.persons + control.persons) < fit.persons
        certain = np.max([hit for name, hit in both.items() if name.endswith("where sure")], axis=0) > 0.5
        tested = permutation.linear(np.stack(list(both.values()), axis=1), member, rng=rng)
        return Finding(
            variants={
                name: compared(Rate.over_persons(hit[member]), Rate.over_persons(hit[~member]), p_value=float(p))
                for (name, hit), p in zip(both.items(), tested.p_values, strict=True)
            },
            p_value=tested.p_value,
            trials=len(secret) * (len(fit.rows) + len(control.rows)),
            exposed=(certain[member], certain[~member]),
        )

    def without(self, people: People, *, rng: np.random.Generator) -> dict[str, float]:
        """The population baseline: the same rules learned from reference persons."""
        (asked, near), table = foreign(people), people.reference.rows
        right = _right(table, asked, near, _roles(table)[1], rng)
        return {name: float(hits.mean()) for name, hits in right.items()}


def _roles(table: Rows) -> tuple[list[int], list[int]]:
    """Where the columns stand that the attacker knows, and those guessed."""
    _, secret = roles(table)
    return [place for place in range(len(table.columns)) if place not in secret], secret


def _right(
    table: Rows, group: Group, near: Nearness, secret: list[int], rng: np.random.Generator
) -> dict[str, FloatVector]:
    """How often each attacker, taught by `table`, is right about each person, by variant."""
    right: dict[str, FloatVector] = {}
    known = [place for place in range(len(table.columns)) if place not in secret]
    forest = Forest.grown(table, known, secret, seed=int(rng.integers(2**31)))
    for place, (guess, sure) in zip(secret, forest.guesses(group.rows), strict=True):
        name, truth = table.columns[place].name, group.rows.cells[:, place]
        hits = {
            f"{name}, nearest row": near.guessed[place],
            f"{name}, forest": (guess == truth).astype(np.float64),
            f"{name}, forest where sure": ((guess == truth) & sure).astype(np.float64),
        }
        right |= {variant: np.round(group.mean(hit), 9) for variant, hit in hits.items()}
    return right


@dataclass(frozen=True, eq=False)
class Forest:
    """Fully grown trees that guess the cells of several columns from other columns."""

    trees: Any
    known: list[int]

    @classmethod
    def grown(cls, table: Rows, known: list[int], secret: list[int], *, seed: int) -> Forest:
        """Learns from a table."""
        from sklearn.ensemble import ExtraTreesClassifier

        trees = ExtraTreesClassifier(n_estimators=TREES, random_state=seed, max_features="sqrt")
        target = table.cells[:, secret]
        return cls(trees.fit(_inputs(table, known), target[:, 0] if len(secret) == 1 else target), list(known))

    def guesses(self, rows: Rows) -> Iterator[tuple[IntVector, BoolVector]]:
        """For each column guessed: the guessed cell of each row, and whether the forest is sure of it."""
        votes, classes = self.trees.predict_proba(_inputs(rows, self.known)), self.trees.classes_
        if not isinstance(votes, list):
            votes, classes = [votes], [classes]
        for vote, cells in zip(votes, classes, strict=True):
            vote = np.round(vote, 9)
            yield cells[np.argmax(vote, axis=1)], vote.max(axis=1) >= SURE


def _inputs(rows: Rows, known: list[int]) -> IntMatrix:
    return np.asarray(rows.cells[:, known], dtype=np.float32)
