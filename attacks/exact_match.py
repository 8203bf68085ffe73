"""Exact match: does the synthetic table repeat what identifies fitted persons more often than others?

Only combinations of values that one single person has are counted (of all persons, on both sides), so what many share
is no match. They are looked for on all columns, on all columns but any one, and on the quasi-identifiers with the
sensitive columns; each at full resolution, and as cells, because a copy whose numbers moved a little inside their bins
is invisible to the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom

from attacks import permutation
from attacks.base import ALPHA, CONFIDENCE, Criterion, Finding, Measure, Threat, per_person
from attacks.ceilings import PerPerson
from attacks.intervals import Rate, clopper_pearson
from attacks.people import BoolVector, Group, People, Rows, fingerprints

_SOME = 10  # persons held back who are repeated: enough to say how often chance does it
_CONTAMINATED = 0.01  # chance of so many matches of control persons, if the table has nothing to do with them
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class ExactMatch:
    """Counts persons of whom an identifying combination of values appears in the synthetic table."""

    id: ClassVar[str] = "exact_match"
    criterion: ClassVar[Criterion] = "regurgitation"
    measure: ClassVar[str] = "share of persons with an identifying combination of values that the release repeats"
    fail_only: ClassVar[bool] = False
    two_sided: ClassVar[bool] = False
    holds_reference: ClassVar[bool] = False
    threat: ClassVar[Threat] = Threat(
        knows="the synthetic table and a person's own record",
        wants="to find the record, or an identifying part of it, word for word in the synthetic table",
    )

    def run(self, people: People, synthetic: Rows, *, rng: np.random.Generator) -> Finding:
        """Every synthetic row and every person is used, however many there are."""
        fit, control = people.fit, people.control
        hits = _hits(fit, control, synthetic)
        both = {name: np.concatenate(sides).astype(np.float64) for name, sides in hits.items()}
        member = np.arange(fit.persons + control.persons) < fit.persons
        tested = permutation.linear(np.stack(list(both.values()), axis=1), member, rng=rng)
        copies, elsewhere = hits["values, all columns"]
        by_chance = _by_chance(copies, elsewhere)
        whole = (
            hits["values, all columns but one"]
            if "values, all columns but one" in hits
            else hits["values, all columns"]
        )
        return Finding(
            variants={
                name: per_person(Rate.over_persons(hit[member]), Rate.over_persons(hit[~member]), p_value=float(p))
                for (name, hit), p in zip(both.items(), tested.p_values, strict=True)
            },
            p_value=tested.p_value,
            trials=len(both) * len(member),
            figures={"unique copies": _share(copies, elsewhere)},
            warning=_warning(int(copies.sum()), tested.reverse, by_chance=by_chance),
            to_look_at=(bool(copies.any()) and not by_chance) or tested.reverse < _CONTAMINATED,
            exposed=whole,
        )

    def without(self, people: People, *, rng: np.random.Generator) -> dict[str, float]:
        """What reference persons share with fitted ones and with no other."""
        known = _hits(people.fit, people.evaluation, people.reference.rows)
        return {name: float(sides[0].mean()) for name, sides in known.items()}


def _share(hits: BoolVector, elsewhere: BoolVector) -> Measure:
    return Measure(
        estimate=float(hits.mean()),
        interval=clopper_pearson(int(hits.sum()), len(hits), confidence=CONFIDENCE),
        chance=0.0,
        persons=len(hits),
        bound=PerPerson(without=Rate.over_persons(elsewhere.astype(np.float64))),
    )


def _by_chance(copies: BoolVector, elsewhere: BoolVector) -> bool:
    """Whether so many persons held back are repeated that chance repeats the fitted ones as well.

    Not being able to tell is not enough: there have to be some, and not significantly fewer than among fitted persons
    (Fisher's exact test, one-sided).
    """
    found, control = int(copies.sum()), int(elsewhere.sum())
    together = len(copies) + len(elsewhere)
    return control >= _SOME and float(hypergeom.sf(found - 1, together, len(copies), found + control)) >= ALPHA


def _warning(copies: int, reverse: float, *, by_chance: bool) -> str:
    """What has to be signed off whatever the p-values say: they cannot see a single leaked record.

    Where records of persons held back are repeated about as often, the table is so narrow that chance repeats them.
    """
    said = []
    if copies:
        records = "record that only one person has is" if copies == 1 else "records that only one person has are"
        what = "as chance does here with those of persons held back" if by_chance else "somebody has to look at this"
        said.append(f"{copies} complete {records} repeated word for word: {what}")
    if reverse < _CONTAMINATED:
        said.append("control persons are matched more often than fitted ones: the control may have been used")
    return "; ".join(said)


def _hits(fit: Group, control: Group, table: Rows) -> dict[str, tuple[BoolVector, BoolVector]]:
    """Which persons of each side have an identifying combination that `table` repeats, by variant."""
    found: dict[str, tuple[BoolVector, BoolVector]] = {}
    person = np.concatenate([fit.person, fit.persons + control.person])
    marks = _Marks.of(len(table))
    for resolution, tables in _resolutions(fit.rows, control.rows, table):
        words = fingerprints(tables)
        ours = np.concatenate(words[:2])
        whole = [_combined(side, set(range(len(table.columns)))) for side in (ours, words[2])]
        for name, choices in _choices(table):
            hit = np.zeros(fit.persons + control.persons, dtype=bool)
            for left_out in choices:
                mine = whole[0] ^ _combined(ours, left_out)
                match = marks.found(mine, whole[1] ^ _combined(words[2], left_out))
                hit[person[match[_identifying(mine[match], person[match])]]] = True
            found[f"{resolution}, {name}"] = (hit[: fit.persons], hit[fit.persons :])
    return found


def _resolutions(*tables: Rows) -> Iterator[tuple[str, list[npt.NDArray[np.float64] | npt.NDArray[np.int64]]]]:
    yield "values", [table.values for table in tables]
    if any(column.is_numeric for column in tables[0].columns):
        yield "cells", [table.cells for table in tables]


def _choices(table: Rows) -> Iterator[tuple[str, list[set[int]]]]:
    """Names of variants, and the sets of columns that each leaves out, any of which will do."""
    columns = set(range(len(table.columns)))
    yield "all columns", [set()]
    if len(columns) > 2:
        yield "all columns but one", [{place} for place in sorted(columns)]
    known = set(table.places("quasi_identifier", "direct_identifier"))
    secret = set(table.places("sensitive"))
    if known and secret and known | secret != columns:
        yield "quasi-identifiers and sensitive columns", [columns - known - secret]


def _combined(words: Words, places: set[int]) -> Words:
    combined: Words = np.bitwise_xor.reduce(words[:, sorted(places)], axis=1)
    return combined


@dataclass(frozen=True, eq=False)
class _Marks:
    """Looks words up in a table: by some of their bits first, which rules most out, then whole.

    Args:
        seen: Which values of these bits occur; cleared after each use.
    """

    seen: BoolVector

    @classmethod
    def of(cls, rows: int) -> _Marks:
        """Room for a table of so many rows."""
        return cls(np.zeros(1 << (16 * max(rows, 1)).bit_length(), dtype=bool))

    def found(self, ours: Words, table: Words) -> npt.NDArray[np.int64]:
        """Which of our words the table has, ascending."""
        mask = np.uint64(len(self.seen) - 1)
        mine, theirs = ((words & mask).view(np.int64) for words in (ours, table))
        likely = np.flatnonzero(self._marked(mine, theirs))
        maybe = np.flatnonzero(self._marked(theirs, mine[likely]))
        return likely[np.isin(ours[likely], table[maybe])]

    def _marked(self, asked: npt.NDArray[np.int64], marks: npt.NDArray[np.int64]) -> BoolVector:
        self.seen[marks] = True
        found = self.seen[asked]
        self.seen[marks] = False
        return found


def _identifying(words: Words, person: npt.NDArray[np.int64]) -> BoolVector:
    """Which rows hold a combination that no other person has."""
    combinations, which = np.unique(words, return_inverse=True)
    which = which.reshape(-1)
    first = np.full(len(combinations), np.iinfo(np.int64).max)
    last = np.full(len(combinations), -1)
    np.minimum.at(first, which, person)
    np.maximum.at(last, which, person)
    return np.asarray(first[which] == last[which])
