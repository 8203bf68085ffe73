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
from attacks.people import BoolMatrix, BoolVector, Group, IntVector, People
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
        everybody = tuple(_counts(one.attack, "", "", _Tally.of_all(one)) for one in exposed)
        large: list[tuple[Exposed, _Groups]] = []
        groups_of: dict[tuple[int, int], _Groups] = {}
        for one in exposed:  # most attacks are judged on the same persons
            sides = id(one.fit), id(one.control)
            if sides not in groups_of:
                groups_of[sides] = _Groups.of(one)
            large.append((one, groups_of[sides]))
        confidence = 1 - ALPHA / max(sum(len(inside.names) for _, inside in large), 1)
        groups = tuple(
            _counts(one.attack, *name, tally, everybody=_Tally.of_all(one), confidence=confidence)
            for one, inside in large
            for name, tally in zip(inside.names, inside.tallies(one), strict=True)
        )
        return cls(everybody=everybody, groups=groups, times=_times(exposed), persons=_persons(exposed))


@dataclass(frozen=True, kw_only=True)
class _Tally:
    """How many persons some are, on each side, and on how many of them an attack succeeded."""

    fit: int
    control: int
    exposed_fit: int
    exposed_control: int

    @classmethod
    def of_all(cls, one: Exposed) -> _Tally:
        return cls(
            fit=one.fit.persons,
            control=one.control.persons,
            exposed_fit=int(one.fit_hits.sum()),
            exposed_control=int(one.control_hits.sum()),
        )

    def without(self, some: _Tally) -> _Tally:
        """Everybody but these."""
        return _Tally(
            fit=self.fit - some.fit,
            control=self.control - some.control,
            exposed_fit=self.exposed_fit - some.exposed_fit,
            exposed_control=self.exposed_control - some.exposed_control,
        )

    @property
    def rates(self) -> tuple[Rate, Rate]:
        """How often the attack succeeded on persons of each side: a trial each."""
        return _rate(self.exposed_fit, self.fit), _rate(self.exposed_control, self.control)


def _rate(hits: int, persons: int) -> Rate:
    return Rate(value=hits / persons, trials=float(persons), persons=persons)


@dataclass(frozen=True, eq=False)
class _Groups:
    """The groups among some persons that are large enough to be compared.

    Args:
        names: Column and cell of each.
        fit, control: Which persons of each side have a row in the cell; shape (groups, persons).
    """

    names: list[tuple[str, str]]
    fit: BoolMatrix
    control: BoolMatrix

    @classmethod
    def of(cls, one: Exposed) -> _Groups:
        kept = [group for group in _inside(one) if _comparable(group[1]) and _comparable(group[2])]
        fit, control = (
            np.array(sides, dtype=bool).reshape(len(kept), persons)
            for sides, persons in (
                ([group[1] for group in kept], one.fit.persons),
                ([group[2] for group in kept], one.control.persons),
            )
        )
        return cls([group[0] for group in kept], fit, control)

    def tallies(self, one: Exposed) -> Iterator[_Tally]:
        """Of each group, for one attack."""
        for fit, control, exposed_fit, exposed_control in zip(
            *(side.sum(axis=1).tolist() for side in (self.fit, self.control)),
            self.fit[:, one.fit_hits].sum(axis=1).tolist(),
            self.control[:, one.control_hits].sum(axis=1).tolist(),
            strict=True,
        ):
            yield _Tally(fit=fit, control=control, exposed_fit=exposed_fit, exposed_control=exposed_control)


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


def _inside(one: Exposed) -> Iterator[tuple[tuple[str, str], BoolVector, BoolVector]]:
    """The groups by name, and which persons of each side have a row in the cell."""
    for place, code, column, cell in _cells(one):
        fit, control = (group.any(group.rows.cells[:, place] == code) for group in (one.fit, one.control))
        yield (column, cell), fit, control


def _comparable(side: BoolVector) -> bool:
    return SMALLEST <= int(side.sum()) <= len(side) - SMALLEST


def _counts(
    attack: str,
    column: str,
    cell: str,
    tally: _Tally,
    *,
    everybody: _Tally | None = None,
    confidence: float | None = None,
) -> Counts:
    beyond = None
    if everybody is not None and confidence is not None:
        beyond = _beyond(tally, everybody.without(tally), confidence)
    return Counts(
        attack=attack,
        column=column,
        cell=cell,
        fit=tally.fit,
        control=tally.control,
        exposed_fit=tally.exposed_fit,
        exposed_control=tally.exposed_control,
        excess=excess(*tally.rates),
        beyond=beyond,
    )


def _beyond(ours: _Tally, theirs: _Tally, confidence: float) -> Interval:
    """Where the group's excess minus that of all others lies: each difference has Newcombe's limits, and they add up as
    independent errors do (the method of variance estimates recovery; Zou and Donner, Stat. Med. 27 (2008) 1693).
    """
    centre, low, high = 0.0, 0.0, 0.0
    for sign, tally in ((1, ours), (-1, theirs)):
        fit, control = tally.rates
        gap, interval = fit.value - control.value, difference(fit, control, confidence)
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
