"""The risk register: who is exposed to which attacks, and which groups more than others.

An attack also succeeds on persons held back, by what it knows of the population. So a group is compared with persons of
the same group who were held back, and the difference is set against that of everybody else. Groups are the cells of the
quasi-identifiers, one column at a time.

Counts are class P3. Who the exposed persons are is class P4: `Register.persons` is for a file that is kept with the data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from attacks.base import ALPHA, Measure, excess
from attacks.intervals import Interval, Rate, difference
from attacks.people import BoolVector, Group, IntVector, People
from dpsynth import Column

SMALLEST = 20  # persons on each side of a group, and of everybody else; smaller groups are not compared
MOST_CELLS = 50  # a column with more cells makes no groups


@dataclass(frozen=True, eq=False)
class Exposed:
    """On whom one attack succeeded.

    Args:
        attack: Its id.
        fit, control: The persons it was judged on.
        fit_hits, control_hits: On which of them it succeeded; shape (persons,).
    """

    attack: str
    fit: Group
    control: Group
    fit_hits: BoolVector
    control_hits: BoolVector

    @classmethod
    def of(cls, attack: str, people: People, hits: tuple[BoolVector, BoolVector], *, holds_reference: bool) -> Exposed:
        """What an attack's finding says about these people."""
        control = people.evaluation if holds_reference else people.control
        return cls(attack, people.fit, control, *hits)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many persons of a group an attack succeeded on.

    Args:
        attack: Its id.
        column, cell: The group: a quasi-identifier, and which of its values; empty for everybody.
        fit, control: Persons of the group on whom it was judged.
        exposed_fit, exposed_control: On how many of them it succeeded.
        excess: By how much more often it succeeded on fitted persons of the group.
        beyond: By how much that passes the excess among everybody else, at a confidence corrected for the number of
            groups and attacks; None for everybody.
    """

    attack: str
    column: str
    cell: str
    fit: int
    control: int
    exposed_fit: int
    exposed_control: int
    excess: Measure
    beyond: Interval | None = None

    @property
    def stands_out(self) -> bool:
        """Whether fitted persons of the group were shown to be more exposed than others."""
        return self.beyond is not None and self.beyond.low > 0


@dataclass(frozen=True, kw_only=True)
class Register:
    """Who is exposed to what.

    Args:
        everybody: One entry an attack.
        groups: One entry for each group that is large enough and each attack.
        times: How many fitted persons were exposed to no attack, to one, to two and so on, of those whom every attack
            was judged on.
        persons: The numbers in the sample of exposed fitted persons, with the attacks that succeeded. Class P4.
    """

    everybody: tuple[Counts, ...] = ()
    groups: tuple[Counts, ...] = ()
    times: tuple[int, ...] = ()
    persons: tuple[tuple[int, tuple[str, ...]], ...] = ()

    @property
    def standing_out(self) -> tuple[Counts, ...]:
        """Groups that were shown to be more exposed than others; false with a chance of at most 5 in 100 for any."""
        return tuple(group for group in self.groups if group.stands_out)

    @classmethod
    def of(cls, exposed: Sequence[Exposed]) -> Register:
        """The register of what some attacks found."""
        everybody = tuple(_counts(one, "", "", *_all(one)) for one in exposed)
        large: list[tuple[Exposed, str, str, BoolVector, BoolVector]] = []
        groups_of: dict[tuple[int, int], list[tuple[str, str, BoolVector, BoolVector]]] = {}
        for one in exposed:  # most attacks are judged on the same persons
            sides = id(one.fit), id(one.control)
            if sides not in groups_of:
                groups_of[sides] = [group for group in _inside(one) if _comparable(*group)]
            large += [(one, *group) for group in groups_of[sides]]
        confidence = 1 - ALPHA / max(len(large), 1)
        groups = tuple(_counts(*entry, confidence=confidence) for entry in large)
        return cls(everybody=everybody, groups=groups, times=_times(exposed), persons=_persons(exposed))


def _all(one: Exposed) -> tuple[BoolVector, BoolVector]:
    return np.ones(one.fit.persons, dtype=bool), np.ones(one.control.persons, dtype=bool)


def _cells(one: Exposed) -> list[tuple[int, int, str, str]]:
    """The groups: where the column stands, the code of the cell, and what both are called."""
    rows = one.fit.rows
    return [
        (place, code, rows.columns[place].name, _label(rows.columns[place], code))
        for place in rows.places("quasi_identifier", "direct_identifier")
        if rows.columns[place].size <= MOST_CELLS
        for code in range(rows.columns[place].size)
    ]


def _label(column: Column, code: int) -> str:
    """What a cell is called."""
    if code == column.missing_code:
        return "missing"
    if not column.is_numeric:
        return column.labels[code]
    bins = column.binning
    edges = bins.edges[code : code + 1 if bins.is_point[code] else code + 2].tolist()
    return " to ".join(str(column.literal(edge)) if column.is_time else f"{edge:g}" for edge in edges)


def _inside(one: Exposed) -> Iterator[tuple[str, str, BoolVector, BoolVector]]:
    """The groups by name, and which persons of each side have a row in the cell."""
    for place, code, column, cell in _cells(one):
        fit, control = (group.any(group.rows.cells[:, place] == code) for group in (one.fit, one.control))
        yield column, cell, fit, control


def _comparable(column: str, cell: str, fit: BoolVector, control: BoolVector) -> bool:
    return all(SMALLEST <= int(side.sum()) <= len(side) - SMALLEST for side in (fit, control))


def _counts(
    one: Exposed, column: str, cell: str, fit: BoolVector, control: BoolVector, *, confidence: float | None = None
) -> Counts:
    beyond = None
    if confidence is not None:
        beyond = _beyond(one, fit, control, confidence)
    return Counts(
        attack=one.attack,
        column=column,
        cell=cell,
        fit=int(fit.sum()),
        control=int(control.sum()),
        exposed_fit=int((one.fit_hits & fit).sum()),
        exposed_control=int((one.control_hits & control).sum()),
        excess=excess(_rate(one.fit_hits, fit), _rate(one.control_hits, control)),
        beyond=beyond,
    )


def _rate(hits: BoolVector, group: BoolVector) -> Rate:
    """How often an attack succeeded on the persons of a group: a trial each."""
    persons = int(group.sum())
    return Rate(value=int((hits & group).sum()) / persons, trials=float(persons), persons=persons)


def _beyond(one: Exposed, fit: BoolVector, control: BoolVector, confidence: float) -> Interval:
    """Where the group's excess minus that of all others lies: each difference has Newcombe's limits, and they add up as
    independent errors do (the method of variance estimates recovery; Zou and Donner, Stat. Med. 27 (2008) 1693).
    """
    centre, low, high = 0.0, 0.0, 0.0
    for sign, ours, theirs in ((1, fit, control), (-1, ~fit, ~control)):
        rates = _rate(one.fit_hits, ours), _rate(one.control_hits, theirs)
        gap, interval = rates[0].value - rates[1].value, difference(*rates, confidence)
        centre += sign * gap
        below, above = gap - interval.low, interval.high - gap
        low, high = math.hypot(low, below if sign > 0 else above), math.hypot(high, above if sign > 0 else below)
    return Interval(low=centre - low, high=centre + high, confidence=confidence)


def _times(exposed: Sequence[Exposed]) -> tuple[int, ...]:
    numbers = _numbers(exposed)
    if not len(numbers):
        return ()
    common = numbers[np.all([np.isin(numbers, one.fit.origin) for one in exposed], axis=0)]
    hits = sum(np.isin(common, one.fit.origin[one.fit_hits]).astype(np.int64) for one in exposed)
    return tuple(np.bincount(hits, minlength=len(exposed) + 1).tolist()) if len(common) else ()


def _persons(exposed: Sequence[Exposed]) -> tuple[tuple[int, tuple[str, ...]], ...]:
    found: dict[int, list[str]] = {}
    for one in exposed:
        for number in one.fit.origin[one.fit_hits].tolist():
            found.setdefault(number, []).append(one.attack)
    return tuple((number, tuple(attacks)) for number, attacks in sorted(found.items()))


def _numbers(exposed: Sequence[Exposed]) -> IntVector:
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *(one.fit.origin for one in exposed)]))
