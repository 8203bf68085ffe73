"""How many fits an audit needs before it can say anything: to contradict a claim, with an attacker as good as one seen.

Quick limits of both rates (Clopper-Pearson, `attacks.intervals`) bound the number from above, and the test that decides
(`Claim.contradicted`) narrows it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import numpy as np

from attacks.canary import CONFIDENCE, FEWEST_FITS, Claim, counted
from attacks.intervals import clopper_pearson_high, clopper_pearson_low

MOST_FITS, MOST_EXACT_FITS = 2**20, 2**15


def fits_needed(claim: Claim, *, confidence: float = CONFIDENCE) -> int | None:
    """The fewest fits with which an attacker who never errs would contradict the claim; None if a million do not."""

    def contradicted(fits: int) -> bool:
        trials = counted(fits)
        return claim.contradicted(trials, 0, trials, confidence=confidence)

    low, high = FEWEST_FITS, FEWEST_FITS
    while not contradicted(high):
        low, high = high, 2 * high
        if high > MOST_FITS:
            return None
    while high - low > 2:
        middle = (low + high) // 4 * 2
        low, high = (low, middle) if contradicted(middle) else (middle, high)
    return high


class Guessed(Protocol):
    """What an attacker got right, in as many games with the planted person as without."""

    @property
    def hits(self) -> int: ...

    @property
    def false_alarms(self) -> int: ...

    @property
    def trials(self) -> int: ...


def fits_for(
    claim: Claim,
    seen: Guessed,
    *,
    more_than: int,
    confidence: float,
    counted: Callable[[int], int] = counted,
) -> int | None:
    """About how many fits of one game contradict a claim, if the attacker does as well as he was seen to do.

    Args:
        seen: What he made of a generator that leaks; his rates are taken one standard deviation worse.
        more_than: Fits that did not suffice.
        confidence: Of a contradiction.
        counted: Of so many fits, how many games on each side count.
    Returns:
        None if at these rates no number up to a million does.
    """
    hit, alarm = seen.hits / seen.trials, seen.false_alarms / seen.trials

    def worse(trials: int) -> tuple[int, int]:
        low = math.floor(hit * trials - math.sqrt(trials * hit * (1 - hit)))
        high = math.ceil(alarm * trials + math.sqrt(trials * alarm * (1 - alarm)))
        return max(low, 0), min(high, trials)

    return _until(claim, worse, more_than=more_than, confidence=confidence, counted=counted)


@lru_cache(maxsize=64)
def fits_of_perfect(
    claim: Claim, *, more_than: int, confidence: float, counted: Callable[[int], int] = counted
) -> int | None:
    """The same of an attacker who never errs."""
    return _until(claim, lambda trials: (trials, 0), more_than=more_than, confidence=confidence, counted=counted)


def _until(
    claim: Claim,
    rates: Callable[[int], tuple[int, int]],
    *,
    more_than: int,
    confidence: float,
    counted: Callable[[int], int],
) -> int | None:
    """The fewest fits that contradict, to a tenth: from quick limits of both rates, then with the test that decides."""
    one_side = 1 - (1 - confidence) / 2

    def surely(fits: int) -> bool:
        trials = counted(fits)
        hits, false_alarms = rates(trials)
        tpr = clopper_pearson_low(hits, trials, confidence=one_side)
        fpr = clopper_pearson_high(false_alarms, trials, confidence=one_side)
        return tpr > float(claim.highest(np.array([fpr]))[0])

    more_than = math.ceil(more_than * 1.1 / 2) * 2
    low = high = more_than
    while not surely(high):
        low, high = high, math.ceil(high * 1.1 / 2) * 2
        if high > MOST_FITS:
            return None
    if high > MOST_EXACT_FITS:
        return high
    low = max(more_than, high // 4)  # the test that decides needs up to two thirds less
    while high - low > max(low // 10, 2):
        middle = (low + high) // 4 * 2
        trials = counted(middle)
        low, high = (
            (low, middle) if claim.contradicted(*rates(trials), trials, confidence=confidence) else (middle, high)
        )
    return high
