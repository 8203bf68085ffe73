"""What the charged attacks could have seen: leaks of known size are planted in rows that a model made.

Model rows play the people, so nothing here costs budget (class P1), and what is counted holds for this table, these
sizes and this noise. The leak is the plainest there is, whole rows copied; changed copies show less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from attacks.charged import CHARGED_CONFIDENCE, MOST_ROWS, qualified_tests
from attacks.intervals import excess_interval
from attacks.planted import joined
from dpsynth import AttackCounts, PersonRecords

SHARES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
DRAWS = 400


@dataclass(frozen=True, kw_only=True)
class Sight:
    """How surely one attack shows a leak of known size, its noise and the sizes of both sides being what they are.

    Args:
        share: Of the fitted persons, those whose rows were copied into the synthetic table; 0 for none.
        seen: How often the excess was above zero with its whole interval; at share 0 that is the false-alarm rate.
    """

    share: float
    seen: float


def sights(
    make: Callable[[int], PersonRecords],
    counts: AttackCounts,
    *,
    rng: np.random.Generator,
    shares: Sequence[float] = SHARES,
) -> dict[str, tuple[Sight, ...]]:
    """Plants copies of made-up persons in made-up rows, and counts how often each attack would have shown that.

    Args:
        make: Persons with one row each who never were in anybody's data: model rows.
        counts: The charged counts: sizes of both sides, and the noise, are taken from them.
        shares: Sizes of the leak.
    Returns:
        By attack, for each share. People are drawn once; chance of their numbers, and noise, `DRAWS` times.
    """
    persons = tuple(min(max(1, n), MOST_ROWS) for n in (counts.persons_fit, counts.persons_control))
    members, others, fresh = make(persons[0]), make(persons[1]), make(persons[0])
    found: dict[str, list[Sight]] = {name: [] for name in counts.tests}
    for share in shares:
        copied = np.arange(members.persons) < round(share * members.persons)
        tests = qualified_tests(joined(members.records.take(copied), fresh.records.take(~copied)))
        for test in tests:
            rates = [float(test.succeeds(side).mean()) for side in (members, others)]
            found[test.id].append(Sight(share=share, seen=_seen(rates, persons, counts.sigma, rng)))
    return {name: tuple(several) for name, several in found.items()}


def _seen(rates: Sequence[float], persons: Sequence[int], sigma: float, rng: np.random.Generator) -> float:
    """How often an excess is shown, over draws of who succeeds and of the noise on all four counts."""
    hits = np.stack([rng.binomial(n, rate, size=DRAWS) for n, rate in zip(persons, rates, strict=True)], axis=1)
    noise = np.rint(rng.normal(0, sigma, size=(DRAWS, 4))).astype(np.int64)
    seen = 0
    for (fit, control), (a, b, c, d) in zip(hits.tolist(), noise.tolist(), strict=True):
        interval = excess_interval(fit + a, control + b, persons[0] + c, persons[1] + d, sigma, CHARGED_CONFIDENCE)
        seen += interval is not None and interval.low > 0
    return seen / DRAWS
