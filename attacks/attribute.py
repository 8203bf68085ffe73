"""Attribute inference: does the synthetic table tell more about a fitted person's sensitive values than about others'?

The attacker knows every column that is not sensitive and guesses each sensitive one (numbers by cell), with rules
learned from the synthetic table alone: the nearest row, a forest of fully grown trees, and the forest where it is sure.
What it gets right about persons held back is knowledge about the population, which a release is allowed to give: the
excess over that is the leak. What the same rules would have got right when learned from reference persons is reported
as the baseline.

Reported besides, and never judged: what the five nearest rows say by majority, how often a number of the nearest row is
right within a twentieth of the interquartile range, how often rows with the same quasi-identifiers carry the value
(correct attribution probability), and how often the forest is right about the persons of each side whom it is surest of:
by its votes, and where these are equal by how near a synthetic row is on what the attacker knows.

Sources: correct attribution probability: Taub, Elliot, Pampaka, Smith, Privacy in Statistical Databases 2018, 122,
    doi:10.1007/978-3-319-99771-1_9 (definition as the manuals of the R packages SynthesizerPlus and riskutility have it;
    persons whose quasi-identifiers do not occur count as not attributed).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from attacks import permutation
from attacks.base import Criterion, Finding, Gap, Threat, per_person
from attacks.figures import Figures, compared, precision, sorted_out
from attacks.intervals import FloatVector, Rate
from attacks.nearness import WITHIN, Nearness, foreign, nearness
from attacks.people import BoolVector, Group, IntMatrix, IntVector, People, Rows, joined, keys, roles

TREES = 15
SURE = 0.9  # share of the forest's votes from which the cautious attacker speaks
SUREST = (0.01, 0.05, 0.1)  # of the persons, whom an attacker may leave it at


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
        near, forest = nearness(people, synthetic), _grown(synthetic, secret, rng)
        guesses = list(forest.guesses(pool.rows))
        both = _right(synthetic, pool, near, secret, guesses)
        member = np.arange(fit.persons + control.persons) < fit.persons
        certain = np.max([hit for name, hit in both.items() if name.endswith("where sure")], axis=0) > 0.5
        tested = permutation.linear(np.stack(list(both.values()), axis=1), member, rng=rng)
        figures, omitted = sorted_out(
            {
                f"{synthetic.columns[place].name}, {what}": figure
                for place, guessed in zip(secret, guesses, strict=True)
                for what, figure in _figures(synthetic, pool, member, near, place, guessed).items()
            }
        )
        return Finding(
            variants={
                name: per_person(Rate.over_persons(hit[member]), Rate.over_persons(hit[~member]), p_value=float(p))
                for (name, hit), p in zip(both.items(), tested.p_values, strict=True)
            },
            p_value=tested.p_value,
            trials=len(secret) * (len(fit.rows) + len(control.rows)),
            figures=figures,
            omitted=omitted,
            exposed=(certain[member], certain[~member]),
        )

    def without(self, people: People, *, rng: np.random.Generator) -> dict[str, float]:
        """The population baseline: the same rules learned from reference persons."""
        (asked, near), table = foreign(people), people.reference.rows
        secret = _roles(table)[1]
        guesses = list(_grown(table, secret, rng).guesses(asked.rows))
        right = _right(table, asked, near, secret, guesses)
        return {name: float(hits.mean()) for name, hits in right.items()}


def _roles(table: Rows) -> tuple[list[int], list[int]]:
    """Where the columns stand that the attacker knows, and those guessed."""
    _, secret = roles(table)
    return [place for place in range(len(table.columns)) if place not in secret], secret


def _grown(table: Rows, secret: list[int], rng: np.random.Generator) -> Forest:
    known = [place for place in range(len(table.columns)) if place not in secret]
    return Forest.grown(table, known, secret, seed=int(rng.integers(2**31)))


def _right(
    table: Rows, group: Group, near: Nearness, secret: list[int], guesses: list[tuple[IntVector, FloatVector]]
) -> dict[str, FloatVector]:
    """How often each attacker, taught by `table`, is right about each person, by variant."""
    right: dict[str, FloatVector] = {}
    for place, (guess, votes) in zip(secret, guesses, strict=True):
        name, truth = table.columns[place].name, group.rows.cells[:, place]
        hits = {
            f"{name}, nearest row": near.guessed[place],
            f"{name}, forest": (guess == truth).astype(np.float64),
            f"{name}, forest where sure": ((guess == truth) & (votes >= SURE)).astype(np.float64),
        }
        right |= {variant: np.round(group.mean(hit), 9) for variant, hit in hits.items()}
    return right


def _figures(
    table: Rows,
    pool: Group,
    member: BoolVector,
    near: Nearness,
    place: int,
    guessed: tuple[IntVector, FloatVector],
) -> Figures:
    """What is reported besides about one sensitive column.

    Args:
        guessed: The forest's guess for each row, and the share of its votes.
    """
    guess, votes = guessed
    sure = np.stack([votes, -np.round(near.given, 9)], axis=1)  # equally many votes: rather of who is near
    confidence = np.unique(sure, axis=0, return_inverse=True)[1].reshape(-1).astype(np.float64)
    surest = confidence == pool.best(confidence)[pool.person]
    hits = surest & (guess == pool.rows.cells[:, place])
    right = np.round(pool.total(hits.astype(np.float64)) / pool.total(surest.astype(np.float64)), 9)
    by_row = {
        "five nearest rows": near.voted[place],
        "same quasi-identifiers": attributed(pool.rows, table, roles(table)[0], place),
    }
    figures: Figures = {what: compared(np.round(pool.mean(hit), 9), member) for what, hit in by_row.items()}
    if table.columns[place].is_numeric:
        what = f"nearest row, within {WITHIN:.0%} of the interquartile range"
        close = near.close.get(place)
        figures[what] = (
            "no reference person has a number" if close is None else compared(np.round(pool.mean(close), 9), member)
        )
    for share in SUREST:
        figures[f"forest, precision on the surest {share:.0%}"] = precision(right, pool.best(confidence), member, share)
    return figures


def attributed(rows: Rows, table: Rows, known: list[int], place: int) -> FloatVector:
    """Share of the table's rows with the same cells in known columns that have the row's cell in another one.

    0 where no row of the table has them; shape (rows,).
    """
    mine, theirs = keys(rows.cells[:, known], table.cells[:, known])
    own, offered = keys(
        np.stack([mine, rows.cells[:, place]], axis=1), np.stack([theirs, table.cells[:, place]], axis=1)
    )
    alike, right = (
        np.bincount(there, minlength=1 + int(here.max(initial=0)))[here]
        for here, there in ((mine, theirs), (own, offered))
    )
    share: FloatVector = right / np.maximum(alike, 1)
    return share


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

    def guesses(self, rows: Rows) -> Iterator[tuple[IntVector, FloatVector]]:
        """For each column guessed: the guessed cell of each row, and the share of votes for it."""
        votes, classes = self.trees.predict_proba(_inputs(rows, self.known)), self.trees.classes_
        if not isinstance(votes, list):
            votes, classes = [votes], [classes]
        for vote, cells in zip(votes, classes, strict=True):
            vote = np.round(vote, 9)
            yield cells[np.argmax(vote, axis=1)], vote.max(axis=1)


def _inputs(rows: Rows, known: list[int]) -> IntMatrix:
    return np.asarray(rows.cells[:, known], dtype=np.float32)
