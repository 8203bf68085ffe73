"""Linkage: do the quasi-identifiers of a fitted person lead to a synthetic row that tells the rest of the record?

There is no true link in a synthetic table, so a link counts only if it pays: the row reached must carry the withheld
values. Games are played, each on fitted persons and on persons held back:

* by quasi-identifiers: take the synthetic rows nearest on the quasi-identifiers and read off all sensitive values;
* from two sides: take the synthetic rows nearest on the quasi-identifiers, and those nearest on all other columns, and
  see whether they are the same row;
* the same for 20 ways to tear the columns apart, drawn at random, and for the worst one that a search finds. It searches
  with one half of the targets, labels included, and is judged on the other half.

Where several rows are equally near, one of them is meant at random, and the success is the chance of the right one. The
torn columns are compared cell by cell, and a row is the nearer the more cells agree.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from attacks import permutation
from attacks.base import Criterion, Finding, Gap, Measure, Threat, excess
from attacks.intervals import FloatVector, Rate
from attacks.nearness import linkable, nearness, nearness_of
from attacks.people import BoolVector, FloatMatrix, Group, IntMatrix, IntVector, People, Rows, joined
from attacks.people import roles as roles  # other attacks ask here

KNOWN, SIDES = "all sensitive values by quasi-identifiers", "same row from two sides"
TORN, WORST = "same row from two random sides", "same row from the two worst sides"
SPLITS = 20
TARGETS = 500  # persons a side who are linked across torn columns, and as many with whom the worst split is sought
CANDIDATES = 2500  # synthetic rows that they may be linked to
STEPS = 3  # columns that the search moves from one side to the other, at most
FOREIGN = 2500  # fitted persons who are linked to the reference, for the baseline
BLOCK = 50  # targets at a time
Bytes: TypeAlias = npt.NDArray[np.uint8]
Words: TypeAlias = npt.NDArray[np.uint64]
Counts: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
BoolMatrix: TypeAlias = npt.NDArray[np.bool_]


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
        knows="the synthetic table and the person's quasi-identifiers (in the other games, in two separate sources)",
        wants="to reach the synthetic row that carries the person's other values",
    )

    def run(self, people: People, synthetic: Rows, *, rng: np.random.Generator) -> Finding:
        if not linkable(synthetic):
            reason = "linkage needs a quasi-identifier and another column"
            return Finding(gap=Gap(status="not_applicable", reason=reason))
        pool = joined(people.fit, people.control)
        member = np.arange(pool.persons) < people.fit.persons
        near = nearness(people, synthetic)
        paid = {KNOWN: np.round(pool.mean(near.linked), 9), SIDES: np.round(pool.mean(near.met), 9)}
        tested = permutation.linear(np.stack(list(paid.values()), axis=1), member, rng=rng)
        variants = {
            name: _excess(hit, member, min(2 * float(p), 1.0))
            for (name, hit), p in zip(paid.items(), tested.p_values, strict=True)
        }
        p_value = tested.p_value
        if len(synthetic.columns) > 2:
            torn = Torn.of(pool, member, synthetic, rng)
            found = {TORN: torn.at_random(rng), WORST: torn.at_worst()}
            on_torn = permutation.linear(np.stack(list(found.values()), axis=1), torn.member, rng=rng)
            p_value = min(p_value, on_torn.p_value)
            variants |= {
                name: _excess(hit, torn.member, min(2 * float(p), 1.0))
                for (name, hit), p in zip(found.items(), on_torn.p_values, strict=True)
            }
            p_value = min(2 * p_value, 1.0)  # two tests on different persons
        certain = np.maximum(paid[KNOWN], paid[SIDES]) > 0.5
        return Finding(
            variants=variants,
            p_value=p_value,
            trials=2 * len(pool.rows),
            exposed=(certain[member], certain[~member]),
        )

    def without(self, people: People, *, rng: np.random.Generator) -> dict[str, float]:
        """Links to reference persons, none of whom is the person sought."""
        asked = people.fit.at_most(FOREIGN, rng)
        near = nearness_of(asked.rows, people.reference.rows)
        return {KNOWN: float(asked.mean(near.linked).mean()), SIDES: float(asked.mean(near.met).mean())}


def _excess(hit: FloatVector, member: BoolVector, p_value: float) -> Measure:
    return excess(Rate.over_persons(hit[member]), Rate.over_persons(hit[~member]), p_value=p_value)


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


@dataclass(frozen=True, eq=False)
class Torn:
    """Targets whose columns are torn into two sources.

    Args:
        cells: One row of each target, targets that are judged first; shape (targets, columns).
        member: Which of the judged targets were fitted; shape (judged,).
        helper: The same for those with whom the worst split is sought.
        table: Candidates; shape (rows, columns).
    """

    cells: IntMatrix
    member: BoolVector
    helper: BoolVector
    table: IntMatrix

    @classmethod
    def of(cls, pool: Group, member: BoolVector, table: Rows, rng: np.random.Generator) -> Torn:
        """Draws targets, one row of each, and candidates."""
        sides: tuple[list[IntVector], list[IntVector]] = ([], [])
        for side in (member, ~member):
            persons = rng.permutation(np.flatnonzero(side))
            half = min(len(persons) // 2, TARGETS)
            sides[0].append(np.sort(persons[half : 2 * half]))
            sides[1].append(np.sort(persons[:half]))
        judged, helpers = (np.concatenate(side) for side in sides)
        starts = np.searchsorted(pool.person, np.arange(pool.persons + 1))
        row = starts[:-1] + rng.integers(2**31, size=pool.persons) % np.diff(starts)
        return cls(
            pool.rows.cells[row[np.concatenate([judged, helpers])]],
            member[judged],
            member[helpers],
            table.at_most(CANDIDATES, rng).cells,
        )

    def at_random(self, rng: np.random.Generator) -> FloatVector:
        """Chance of the same row from two random sides, mean over splits, for each judged target."""
        judged = self.cells[: len(self.member)]
        splits = np.stack([_split(self.cells.shape[1], rng) for _ in range(SPLITS)])
        met: FloatVector = np.round(same_row(judged, self.table, splits).mean(axis=0), 9)
        return met

    def at_worst(self) -> FloatVector:
        """The same for the split that tells the helpers' two sides apart best."""
        helpers, columns = self.cells[len(self.member) :], self.cells.shape[1]

        def gains(splits: BoolMatrix) -> FloatVector:
            met = same_row(helpers, self.table, splits)
            gained: FloatVector = np.round(met[:, self.helper].mean(axis=1) - met[:, ~self.helper].mean(axis=1), 12)
            return gained

        best = np.arange(columns) % 2 == 0
        most = float(gains(best[None, :])[0])
        for _ in range(STEPS):
            tried = best ^ np.eye(columns, dtype=bool)  # one column on the other side
            tried = tried[(tried.sum(axis=1) > 0) & (tried.sum(axis=1) < columns)]
            found = gains(tried)
            if not len(found) or found.max() <= most:
                break
            most, best = float(found.max()), tried[int(np.argmax(found))]
        met: FloatVector = np.round(same_row(self.cells[: len(self.member)], self.table, best[None, :])[0], 9)
        return met


def _split(columns: int, rng: np.random.Generator) -> BoolVector:
    """Which columns are on the first side: any choice but none and all."""
    while True:
        first = rng.random(columns) < 0.5
        if 0 < first.sum() < columns:
            return first


def same_row(rows: IntMatrix, table: IntMatrix, splits: BoolMatrix) -> FloatMatrix:
    """Chance that a table row that agrees in most columns of one side and one for the other side are the same row.

    Args:
        rows: Cells of those who are linked; shape (rows, columns).
        table: Cells of those they may be linked to; shape (table rows, columns).
        splits: Which columns are on the first side; shape (splits, columns).
    Returns:
        Shape (splits, rows).
    """
    columns = rows.shape[1]
    kind = np.uint8 if columns < 255 else np.uint16
    met = np.empty((len(splits), len(rows)))
    code = np.uint8 if max(rows.max(initial=0), table.max(initial=0)) < 256 else np.int32
    theirs = np.ascontiguousarray(table.T.astype(code))
    steps = _steps(splits)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, min(start + BLOCK, len(rows)))
        ours = rows[part].T.astype(code)
        differs = [(ours[place][:, None] != theirs[place][None, :]).view(np.uint8) for place in range(columns)]
        every = _added(differs, range(columns), kind)
        one, other = np.zeros_like(every), every.copy()
        for number, joining, leaving in steps:
            for place in joining:
                one += differs[place]
                other -= differs[place]
            for place in leaving:
                one -= differs[place]
                other += differs[place]
            near, too = _nearest(one), _nearest(other)
            met[number, part] = _counted(near & too) / (_counted(near) * _counted(too))
    return met


def _steps(splits: BoolMatrix) -> list[tuple[int, IntVector, IntVector]]:
    """An order of the splits in which few columns change sides: (split, columns that join the first side, that leave)."""
    at, left, steps = np.zeros(splits.shape[1], dtype=bool), list(range(len(splits))), []
    while left:
        number = left.pop(int(np.argmin((splits[left] != at).sum(axis=1))))
        first = splits[number]
        steps.append((number, np.flatnonzero(first & ~at), np.flatnonzero(at & ~first)))
        at = first
    return steps


def _nearest(differences: Counts) -> Words:
    """Which table rows differ least from each row, 64 to a word; shape (rows, words)."""
    near = np.zeros((len(differences), -(-differences.shape[1] // 64) * 64), dtype=bool)
    np.equal(differences, differences.min(axis=1, keepdims=True), out=near[:, : differences.shape[1]])
    return np.packbits(near, axis=1).view(np.uint64)


def _counted(bits: Words) -> IntVector:
    return np.asarray(np.bitwise_count(bits).sum(axis=1, dtype=np.int64))


def _added(differs: list[Bytes], places: Iterable[int], kind: type[np.uint8] | type[np.uint16]) -> Counts:
    total = np.zeros(differs[0].shape, dtype=kind)
    for place in places:
        total += differs[place]
    return total
