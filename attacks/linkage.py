"""Linkage: do the quasi-identifiers of a fitted person lead to a synthetic row that tells the rest of the record?

There is no true link in a synthetic table, so a link counts only if it pays: the row reached must carry the withheld
values. Two games are played, each on fitted persons and on persons held back:

* by quasi-identifiers: take the synthetic rows nearest on the quasi-identifiers and read off all sensitive values;
* from two sides: take the synthetic rows nearest on the quasi-identifiers, and those nearest on all other columns, and
  see whether they are the same row.

Where several rows are equally near, one of them is meant at random, and the success is the chance of the right one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np

from attacks import permutation
from attacks.base import Criterion, Finding, Gap, Threat, excess
from attacks.distances import Metric, blocks, one_thread, ties
from attacks.intervals import FloatVector, Rate
from attacks.people import Group, IntVector, People, Rows, keys


@dataclass(frozen=True, kw_only=True)
class Linkage:
    """Links persons to synthetic rows by what outsiders may know."""

    id: ClassVar[str] = "linkage"
    criterion: ClassVar[Criterion] = "linkability"
    measure: ClassVar[str] = "share of a person's rows that link to the right withheld values"
    fail_only: ClassVar[bool] = False
    two_sided: ClassVar[bool] = False
    holds_reference: ClassVar[bool] = False
    threat: ClassVar[Threat] = Threat(
        knows="the synthetic table and the person's quasi-identifiers (in the second game, in two separate sources)",
        wants="to reach the synthetic row that carries the person's other values",
    )

    def run(self, people: People, synthetic: Rows, *, rng: np.random.Generator) -> Finding:
        games = _games(synthetic)
        if not games:
            reason = "linkage needs a quasi-identifier and another column"
            return Finding(gap=Gap(status="not_applicable", reason=reason))
        member = np.arange(people.fit.persons + people.control.persons) < people.fit.persons
        paid = {
            name: np.concatenate([game(group, synthetic) for group in (people.fit, people.control)])
            for name, game in games.items()
        }
        tested = permutation.linear(np.stack(list(paid.values()), axis=1), member, rng=rng)
        return Finding(
            variants={
                name: excess(Rate.over_persons(hit[member]), Rate.over_persons(hit[~member]), p_value=float(p))
                for (name, hit), p in zip(paid.items(), tested.p_values, strict=True)
            },
            p_value=tested.p_value,
            trials=len(games) * (len(people.fit.rows) + len(people.control.rows)),
        )

    def without(self, people: People, *, rng: np.random.Generator) -> dict[str, float]:
        """Links to reference persons, none of whom is the person sought."""
        table = people.reference.rows
        return {name: float(game(people.fit, table).mean()) for name, game in _games(table).items()}


def _games(table: Rows) -> dict[str, Callable[[Group, Rows], FloatVector]]:
    """How often each way of linking pays for each person, by name."""
    known, secret = roles(table)
    rest = [place for place in range(len(table.columns)) if place not in known]
    if not known or not rest:
        return {}
    return {
        "all sensitive values by quasi-identifiers": partial(_by_known, given=known, target=secret),
        "same row from two sides": partial(_two_sides, given=known, rest=rest),
    }


def roles(table: Rows) -> tuple[list[int], list[int]]:
    """Where the columns stand that an outsider may know, and those worth learning.

    A schema without quasi-identifiers leaves an outsider every column that is not sensitive; one without sensitive
    columns makes every column that is no quasi-identifier worth learning.
    """
    known, secret = table.places("quasi_identifier", "direct_identifier"), table.places("sensitive")
    if not known:
        known = [place for place in range(len(table.columns)) if place not in secret]
    if not secret:
        secret = [place for place in range(len(table.columns)) if place not in known]
    if not secret and len(known) > 1:  # no roles at all: the last column in order of names is to be learned
        known, secret = known[:-1], known[-1:]
    return known, secret


def _by_known(group: Group, table: Rows, given: list[int], target: list[int]) -> FloatVector:
    """Chance that a row nearest on the given columns has the same cells in the target columns, mean over rows."""
    metric = Metric(table)
    points, which = metric.points(table, given).distinct()
    query, point, _ = ties(metric.points(group.rows, given), points)
    wanted, offered = keys(group.rows.cells[:, target], table.cells[:, target])
    right = matches(query, point, wanted, which, offered)
    return np.round(group.mean(right), 9)


def matches(
    query: IntVector,
    point: IntVector,
    wanted: IntVector,
    which: IntVector,
    offered: IntVector,
) -> FloatVector:
    """For each query, the share of the table's rows at its nearest points that offer what is wanted.

    Args:
        query, point: Pairs of a query and a point nearest to it.
        wanted: What each query wants; shape (queries,).
        which: The point of each table row; shape (rows,).
        offered: What each table row offers; shape (rows,).
    """
    kinds = 1 + max(int(wanted.max(initial=0)), int(offered.max(initial=0)))
    pairs, counts = np.unique(which * kinds + offered, return_counts=True)
    sought = point * kinds + wanted[query]
    place = np.minimum(np.searchsorted(pairs, sought), len(pairs) - 1)
    found = np.where(pairs[place] == sought, counts[place], 0)
    rows = np.bincount(which)[point]
    return np.bincount(query, weights=found, minlength=len(wanted)) / np.bincount(
        query, weights=rows, minlength=len(wanted)
    )


@one_thread
def _two_sides(group: Group, table: Rows, given: list[int], rest: list[int]) -> FloatVector:
    """Chance that a row nearest on the given columns and one nearest on the rest are the same row, mean over rows."""
    metric = Metric(table)
    sides = [(metric.points(group.rows, places), metric.points(table, places)) for places in (given, rest)]
    same = np.empty(len(group.rows))
    for (part, first), (_, second) in zip(blocks(*sides[0]), blocks(*sides[1]), strict=True):
        near, too = (squared == squared.min(axis=1, keepdims=True) for squared in (first, second))
        same[part] = (near & too).sum(axis=1) / (near.sum(axis=1) * too.sum(axis=1))
    return np.round(group.mean(same), 9)
