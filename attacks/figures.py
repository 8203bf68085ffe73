"""Figures that attacks report beside what they are judged by: none of them decides anything.

A figure compares fitted persons with persons held back, so that a reader sees a leak against the population. Where
there is too little for one, a sentence says so in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from attacks.base import Measure, excess
from attacks.intervals import FloatVector, Quantile, Rate
from attacks.people import BoolVector

Figures: TypeAlias = dict[str, Measure | str]
"""Figures by name, or why there is none."""

FEWEST = 10  # persons among the most confident of a side; over fewer a precision says nothing


def compared(values: FloatVector, member: BoolVector) -> Measure:
    """Each side's mean of a number in [0, 1] a person, and by how much they differ.

    Args:
        values: Shape (persons,).
        member: Which persons were fitted.
    """
    return excess(Rate.over_persons(values[member]), Rate.over_persons(values[~member]))


def quantiles(values: FloatVector, member: BoolVector, levels: tuple[float, ...], name: str) -> Figures:
    """The same for quantiles of such a number.

    The interval of the difference combines the limits of the two quantiles as Newcombe's does those of two rates.
    """
    return {
        f"{name}, {level:.0%} quantile": excess(
            Quantile.over_persons_at(level, values[member]), Quantile.over_persons_at(level, values[~member])
        )
        for level in levels
    }


def precision(right: FloatVector, confidence: FloatVector, member: BoolVector, share: float) -> Measure | str:
    """How often an attacker is right who speaks only of this share of either side, those he is most confident about.

    Each side has its own most confident, so that neither is empty, whatever leaked and however many persons there are.
    Persons as confident as the last one share its places: the value is the mean over all ways to choose among them.

    Args:
        right: How right the attacker is about each person, in [0, 1]; shape (persons,).
        confidence: Higher for persons he would rather speak of; shape (persons,).
        member: Which persons were fitted.
        share: In (0, 1].
    """
    if share < 1 and share * min(member.sum(), (~member).sum()) < FEWEST:
        return f"fewer than {FEWEST} persons are the most confident {share:.0%} of a side"
    return excess(*(_precision(right[side], confidence[side], share) for side in (member, ~member)))


def _precision(right: FloatVector, confidence: FloatVector, share: float) -> Rate:
    """The precision of one side.

    Who is among the most confident is a matter of chance as well: one more in front leaves one place less at the end,
    where attackers are right as often as they are around it. So persons vary by how much better than that they do.
    """
    persons, weights = len(right), foremost(confidence, share)
    around = foremost(confidence, share + FEWEST / persons) - foremost(confidence, share - FEWEST / persons)
    better = weights * (right - right @ around / around.sum()) / share
    value = float(np.clip(np.round(right @ weights / weights.sum(), 9), 0.0, 1.0))
    return Rate.varying(value, float(better.var()) / persons, int((weights > 0).sum()))


def foremost(confidence: FloatVector, share: float) -> FloatVector:
    """How much each person counts among the most confident: 1, 0, or a share of the last places; shape (persons,)."""
    places = share * len(confidence)
    levels, level, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    before = np.cumsum(counts) - counts
    taken = np.clip((places - before) / counts, 0.0, 1.0) if len(levels) else np.zeros(0)
    return np.asarray(taken[level.reshape(-1)])


def sorted_out(figures: Mapping[str, Measure | str]) -> tuple[dict[str, Measure], dict[str, str]]:
    """Those that were measured, and why the others were not."""
    return (
        {name: figure for name, figure in figures.items() if isinstance(figure, Measure)},
        {name: figure for name, figure in figures.items() if isinstance(figure, str)},
    )
