"""One-run audit: many planted persons, each there or not by a fair coin, and one fit.

Persons are made from the schema alone and spread over its cells, so that their noise is shared as little as the schema
allows. An independent fair coin decides about each: under "add_remove" whether the person is in the table, under "replace"
which of two persons is. The synthesizer runs once, and an attacker who knows everybody but not the coins guesses some of
them. Whoever promises (epsilon, delta) promises that few guesses can be right. How many coins are guessed is fixed
beforehand, from their number and the claim.

The bound. For a mechanism that is (epsilon, delta)-DP in each of m coins, the chance that at least v of at most r guesses
are right is at most P[W >= v] + 2 m delta max over i of P[v > W >= v - i] / i, for W ~ Binomial(r, e^epsilon / (1 +
e^epsilon)): Steinke, Nasr, Jagielski, NeurIPS 2023, arXiv:2305.08846, Theorem 5.2 and Corollary 5.4, here checked against
three implementations of it, google-deepmind/jax_privacy among them. Runs with coins of their own are together one such
mechanism, so guesses of several runs add up. Where a claim has a curve, all its pairs (epsilon, delta) hold at once, and
the pair that asks for the fewest right guesses is used: it follows from m, r and the claim, and not from the guesses.

What it cannot see: anything that shows in no single person, such as an exact row count, and small factors: a guess about
one person of many is worth much less than one about a person of whom everything else is known.

No private row is touched: class P0. What the synthesizer made of these tables is no release and must never become one.
The persons, the guessers and the code are our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats

from attacks.allowed import Allowed
from attacks.canary import CONFIDENCE, Claim
from attacks.intervals import FloatVector
from attacks.neighbours import Codes, MadeColumn, frame_of, shuffled, with_made
from dpsynth import Measurement, Records, Schema, Table, attack_generator

if TYPE_CHECKING:
    import pandas as pd

BoolVector = npt.NDArray[np.bool_]

MOST_PERSONS, FEWEST_PERSONS = 1_000, 40
GUESSED = 4  # one in so many coins is guessed, unless the claim asks for more
CROWD = 3  # times as many rows a person as may count
PRIOR = 0.25  # variance of a fair coin
_NEAR_BLOCK = 2_000_000  # comparisons at a time


class Output(Protocol):
    """What a run left: synthetic rows, and the noisy counts behind them where it has them (none: an empty tuple)."""

    @property
    def rows(self) -> Records: ...

    @property
    def measurements(self) -> Sequence[Measurement]: ...


# ---- persons -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, repr=False)
class Lineup:
    """Planted persons and their coins, made from a schema alone: class P0.

    Args:
        schema: What they are rows of.
        bulk: Rows that are there anyway, one person each; shape (rows, columns).
        heads: The row of each planted person whose coin says so; shape (persons, columns).
        tails: Under "replace", the row of the person who is there otherwise; None under "add_remove".
        coins: What the coins say; shape (persons,).
        copies: How many rows each planted person has in the file. Of these at most `max_rows` may count.
    """

    schema: Schema
    bulk: Codes
    heads: Codes
    tails: Codes | None
    coins: BoolVector
    copies: int

    @property
    def counted(self) -> int:
        """How many rows of a person may count."""
        return min(self.copies, self.schema.unit.max_rows)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The table, as a data file holds it."""
        if self.tails is None:
            planted = self.heads[self.coins]
        else:
            planted = np.where(self.coins[:, None], self.heads, self.tails)
        rows = np.vstack([self.bulk, np.repeat(planted, self.copies, axis=0)])
        owners = [*range(len(self.bulk)), *np.repeat(np.arange(len(planted)) + len(self.bulk), self.copies).tolist()]
        return frame_of(self.schema, [rows], owners)


def room(schema: Schema) -> int:
    """How many persons a schema has room for: in its widest column each person stands alone in a cell."""
    widest = max(schema.sizes, default=1) // (2 if schema.neighbours == "replace" else 1)
    return min(max(widest, FEWEST_PERSONS), MOST_PERSONS)


def lineup(schema: Schema, *, persons: int, rows: int, rng: np.random.Generator) -> Lineup:
    """Persons spread over the cells: in each column all cells come equally often, in an order of its own.

    Where constraints forbid such a row, the person gets the next cells that they allow.

    Args:
        persons: How many coins are thrown.
        rows: Other rows, all in the first cell of every column; if there are any, no planted person stands there, as
            far as constraints allow that.
    Raises:
        SchemaError: the constraints allow no row.
        UsageError: they are too tangled.
    """
    allowed = Allowed(schema)
    first = allowed.row([range(size) for size in schema.sizes])
    replace = schema.neighbours == "replace"
    many = 2 * persons if replace else persons
    spread = np.zeros((many, len(schema.sizes)), dtype=np.int32)
    for column, size in enumerate(schema.sizes):
        free = np.arange(size)
        if rows and size > 1:
            free = free[free != first[column]]
        cells = rng.permutation(free)[np.arange(many) % len(free)]
        spread[:, column] = rng.permutation(cells)
    for row in np.flatnonzero(~allowed.holds(spread)):
        wanted = [(np.arange(size) + cell) % size for size, cell in zip(schema.sizes, spread[row], strict=True)]
        spread[row] = allowed.row(wanted, unlike=first if rows else None)
    return Lineup(
        schema=schema,
        bulk=np.tile(first, (rows, 1)),
        heads=spread[:persons],
        tails=spread[persons:] if replace else None,
        coins=rng.random(persons) < 0.5,
        copies=schema.unit.max_rows * (CROWD if schema.unit_column is not None else 1),
    )


# ---- guessers ----------------------------------------------------------------------------------------------------
#
# Each gives every coin a number, higher for heads, from what the run left and what everybody knows. They never see the
# coins.


def count_scores(line: Lineup, measurements: Sequence[Measurement], coarse: Sequence[MadeColumn]) -> dict[str, Any]:
    """From noisy counts: the best linear guess, the same if there were a tenth of the noise, and cells without noise."""
    parts = [
        (_touched(line, m.columns, coarse), np.asarray(m.values, dtype=np.float64), float(m.sigma_squared))
        for m in measurements
    ]
    linear, sharp = (_decoded(line, parts, shrink=shrink) for shrink in (1.0, 0.01))
    exact = np.zeros(len(line.coins))
    for cells, values, _ in parts:
        if line.tails is None:
            exact -= values[tuple(cells.heads.T)] == cells.bulk_at_heads
        else:
            exact -= values[tuple(cells.heads.T)] == cells.bulk_at_heads
            exact += values[tuple(cells.tails.T)] == cells.bulk_at_tails
    return {"linear": linear, "sharp": sharp, "exact": exact + _tie_breaker(linear)}


def row_scores(line: Lineup, rows: Records) -> dict[str, FloatVector]:
    """From synthetic rows: counts in a person's cells, whether these cells occur at all, and the nearest row."""
    codes = Table.encode(rows).codes
    expected = len(line.bulk) + line.counted * len(line.coins) * (0.5 if line.tails is None else 1.0)
    parts = []
    seen = np.zeros(len(line.coins))
    for column, size in enumerate(line.schema.sizes):
        if size < 2:
            continue
        values = np.bincount(codes[:, column], minlength=size).astype(np.float64)
        parts.append((_touched(line, (column,), ()), values * (expected / max(1, len(codes))), 1.0))
        seen += values[line.heads[:, column]] > 0
        if line.tails is not None:
            seen -= values[line.tails[:, column]] > 0
    linear = _decoded(line, parts, shrink=float(line.counted**2))
    near = _nearest(codes, line.heads)
    if line.tails is not None:
        near = near - _nearest(codes, line.tails)
    return {"linear": linear, "occurs": seen + _tie_breaker(linear), "nearest": near + _tie_breaker(linear)}


@dataclass(frozen=True)
class _Cells:
    """In one marginal: the cells of each person, shape (persons, columns), and how many other rows stand there."""

    heads: npt.NDArray[np.int64]
    tails: npt.NDArray[np.int64]
    bulk_at_heads: FloatVector
    bulk_at_tails: FloatVector


def _touched(line: Lineup, columns: Sequence[int], coarse: Sequence[MadeColumn]) -> _Cells:
    places = list(columns)
    bulk, heads, tails = (
        with_made(codes, coarse)[:, places]
        for codes in (line.bulk, line.heads, line.heads if line.tails is None else line.tails)
    )
    common, counts = np.unique(bulk, axis=0, return_counts=True)
    known = {tuple(cell): float(count) for cell, count in zip(common.tolist(), counts, strict=True)}

    def at(cells: npt.NDArray[np.int64]) -> FloatVector:
        return np.array([known.get(tuple(cell), 0.0) for cell in cells.tolist()])

    return _Cells(heads, tails, at(heads), at(tails))


def _decoded(line: Lineup, parts: Sequence[tuple[_Cells, FloatVector, float]], *, shrink: float) -> FloatVector:
    """The linear estimate of all coins together that has the least error, if the noise has `shrink` times its variance.

    A count is what stands there anyway, plus for each planted person there `counted` times the coin, plus noise.
    """
    persons, k = len(line.coins), float(line.counted)
    precision = sparse.csr_matrix((persons, persons))
    evidence = np.zeros(persons)
    who = np.arange(persons)
    for cells, values, sigma_squared in parts:
        sides = [(cells.heads, cells.bulk_at_heads, k)]
        if line.tails is not None:
            sides.append((cells.tails, cells.bulk_at_tails, -k))
        flat = [np.ravel_multi_index(tuple(side.T), values.shape) for side, _, _ in sides]
        places, index = np.unique(np.concatenate(flat), return_inverse=True)
        design = sparse.csr_matrix(
            (np.repeat([sign for *_, sign in sides], persons), (index, np.tile(who, len(sides)))),
            shape=(len(places), persons),
        )
        mean = np.zeros(len(places))
        np.add.at(mean, index, k / 2)  # each person stands in each of its cells half of the time
        bulk = np.zeros(len(places))
        bulk[index] = np.concatenate([there for _, there, _ in sides])
        off = values.ravel()[places] - bulk - mean
        weight = 1 / (sigma_squared * shrink)
        precision = precision + weight * (design.T @ design)
        evidence += weight * (design.T @ off)
    return np.asarray(np.linalg.solve(precision.toarray() + np.eye(persons) / PRIOR, evidence), dtype=np.float64)


def _nearest(codes: Codes, persons: Codes) -> FloatVector:
    """On how many columns each person agrees with the synthetic row that agrees most."""
    step = max(1, _NEAR_BLOCK // max(1, codes.size))
    blocks = [persons[start : start + step] for start in range(0, len(persons), step)]
    agreed = [(block[:, None, :] == codes[None, :, :]).sum(axis=2).max(axis=1, initial=0) for block in blocks]
    return np.concatenate([np.zeros(0), *agreed]).astype(np.float64)


def _tie_breaker(score: FloatVector) -> FloatVector:
    """Ranks of a score, scaled below one half."""
    return np.asarray(stats.rankdata(score) / (2 * len(score) + 2), dtype=np.float64)


# ---- the bound ---------------------------------------------------------------------------------------------------


def p_value(persons: int, guesses: int, correct: int, *, epsilon: float, delta: float) -> float:
    """The largest chance of so many right guesses under (epsilon, delta)-DP; `persons` coins, `guesses` of them guessed.

    Source: arXiv:2305.08846, Corollary 5.4, as in the module's text.
    """
    if not 0 <= correct <= guesses <= persons:
        raise ValueError(f"need 0 <= correct ({correct}) <= guesses ({guesses}) <= persons ({persons})")
    chance = 1 / (1 + math.exp(-epsilon))
    tail = float(stats.binom.sf(correct - 1, guesses, chance))
    if delta > 0 and correct > 0:
        below = np.arange(1, correct + 1)
        mass = stats.binom.sf(correct - below - 1, guesses, chance) - tail
        tail += 2 * persons * delta * float(np.max(mass / below))
    return min(tail, 1.0)


def epsilon_shown(persons: int, guesses: int, correct: int, *, delta: float, confidence: float) -> float:
    """Lower bound on epsilon at `delta`: the least that so many right guesses do not contradict."""

    def excluded(epsilon: float) -> bool:
        return p_value(persons, guesses, correct, epsilon=epsilon, delta=delta) <= 1 - confidence

    if guesses == 0 or not excluded(0.0):
        return 0.0
    low, high = 0.0, 1.0
    while excluded(high):
        low, high = high, 2 * high
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if excluded(middle) else (low, middle)
    return low


_DELTAS = tuple(10.0**-k for k in range(2, 15))


@lru_cache(maxsize=64)
def _pairs(claim: Claim) -> tuple[tuple[float, float], ...]:
    """Pairs (epsilon, delta) that a claim implies, all of them at once."""
    stated = ((claim.epsilon, claim.delta),)
    if claim.cost is None:
        return stated
    possible = [delta for delta in _DELTAS if delta > claim.cost.delta0]
    return stated + tuple((float(claim.cost.epsilon(delta)), delta) for delta in possible)


def contradicted(claim: Claim, persons: int, guesses: int, correct: int, *, confidence: float) -> bool:
    """Whether so many right guesses contradict a claim at one of its pairs (epsilon, delta).

    A true claim is contradicted with a chance of at most 1 - confidence, although there are several pairs: each has a
    least number of right guesses that follows from the claim, and the smallest of these decides.
    """
    return any(
        p_value(persons, guesses, correct, epsilon=epsilon, delta=delta) <= 1 - confidence
        for epsilon, delta in _pairs(claim)
    )


@lru_cache(maxsize=256)
def guesses_for(claim: Claim, persons: int, *, confidence: float) -> int:
    """How many coins are guessed: a quarter, or twice as many as an attacker who never errs needs, an even number."""
    few = persons // GUESSED // 2 * 2
    for guesses in range(2, persons + 1, 2):
        if contradicted(claim, persons, guesses, guesses, confidence=confidence):
            return min(max(few, 2 * guesses), persons // 2 * 2)
    return few


@dataclass(frozen=True, kw_only=True)
class OneRunResult:
    """How far one run tested a claim, and whether it held.

    Args:
        attacker: What he saw: "noisy counts" or "synthetic rows".
        claim: What was claimed.
        fits: Runs, each with coins of its own.
        persons: Coins, of all runs.
        guesses: How many of them were guessed by each guesser.
        correct: How many rightly, by name of the guesser.
        confidence: Chance that the bounds hold; the error is shared out over the guessers.
        privacy_class: P0: no private row was used.
    """

    attacker: str
    claim: Claim
    fits: int
    persons: int
    guesses: int
    correct: Mapping[str, int]
    confidence: float
    privacy_class: Literal["P0"] = "P0"

    @property
    def best(self) -> int:
        """Right guesses of the best guesser."""
        return max(self.correct.values())

    @property
    def each(self) -> float:
        """Confidence for one guesser, such that all hold together."""
        return 1 - (1 - self.confidence) / len(self.correct)

    @property
    def epsilon(self) -> float:
        """Lower bound on epsilon at the claim's delta."""
        return self._shown(self.best)

    @property
    def ceiling(self) -> float:
        """The largest epsilon that so many guesses can certify, at the claim's delta."""
        return self._shown(self.guesses)

    @property
    def estimate(self) -> float:
        """Point estimate of epsilon from the best guesser, with a sign: that of independent coins, so rather low."""
        return math.log((self.best + 0.5) / (self.guesses - self.best + 0.5))

    @property
    def exceeds(self) -> bool:
        """Whether the claim is contradicted. A true claim is contradicted with a chance of at most 1 - confidence."""
        return contradicted(self.claim, self.persons, self.guesses, self.best, confidence=self.each)

    @property
    def conclusive(self) -> bool:
        """Whether so many guesses could have contradicted the claim at all."""
        return contradicted(self.claim, self.persons, self.guesses, self.guesses, confidence=self.each)

    def _shown(self, correct: int) -> float:
        return epsilon_shown(self.persons, self.guesses, correct, delta=self.claim.delta, confidence=self.each)


# ---- the audit ---------------------------------------------------------------------------------------------------


def audit_one_run(
    schema: Schema,
    run: Callable[[pd.DataFrame], Output],
    *,
    claim: Claim,
    persons: int | None = None,
    rows: int = 0,
    fits: int = 1,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> dict[str, OneRunResult]:
    """Runs a generator on tables of planted persons, guesses their coins, and bounds what it leaks.

    Args:
        schema: What the tables look like.
        run: The generator, the whole of it, with fresh noise each time; what it leaves has rows, and measurements if
            its noisy counts are known.
        claim: What is put to the test.
        persons: Planted in each run; None for as many as the schema has room for.
        rows: Other rows in each run.
        fits: Runs, each with persons and coins of its own.
        seed: Of the coins and the spreading. The order of the rows is fresh in every run, as is the generator's noise.
        confidence: Chance that the bounds of one attacker hold.
    Returns:
        By attacker: "noisy counts" where there are any, and "synthetic rows".
    """
    persons = room(schema) if persons is None else persons
    seen: dict[str, list[tuple[BoolVector, Mapping[str, FloatVector]]]] = {}
    for number in range(fits):
        line = lineup(schema, persons=persons, rows=rows, rng=attack_generator(seed, number))
        for attacker, scores in _looks(line, run(shuffled(line.frame))):
            seen.setdefault(attacker, []).append((line.coins, scores))
    return {attacker: _judged(attacker, looks, claim=claim, confidence=confidence) for attacker, looks in seen.items()}


def _looks(line: Lineup, output: Output) -> Iterator[tuple[str, Mapping[str, FloatVector]]]:
    if output.measurements:
        yield "noisy counts", count_scores(line, output.measurements, getattr(output, "coarse", ()))
    yield "synthetic rows", row_scores(line, output.rows)


def _judged(
    attacker: str,
    looks: Sequence[tuple[BoolVector, Mapping[str, FloatVector]]],
    *,
    claim: Claim,
    confidence: float,
) -> OneRunResult:
    """The highest scores are called heads, the lowest tails, equally many; all others are left alone."""
    names = list(looks[0][1])
    coins = np.concatenate([coins for coins, _ in looks])
    guesses = guesses_for(claim, len(coins), confidence=1 - (1 - confidence) / len(names))
    correct = {}
    for name in names:
        order = np.argsort(np.concatenate([scores[name] for _, scores in looks]), kind="stable")
        half = guesses // 2
        correct[name] = int((~coins[order[:half]]).sum() + coins[order[len(order) - half :]].sum())
    return OneRunResult(
        attacker=attacker,
        claim=claim,
        fits=len(looks),
        persons=len(coins),
        guesses=guesses,
        correct=correct,
        confidence=confidence,
    )
