"""Canaries: fits a synthesizer many times with and without one planted person, and bounds what it leaks from below.

Two neighbouring tables are made from the schema alone, such that one person changes as much as a person can. A
synthesizer is run many times on each, an attacker guesses from every result which table it came from, and the rates at
which he is right and wrong are held against the claim. A claim that the rates contradict is false, with the stated
confidence; a claim that they do not contradict is not thereby shown to be true.

No private row is touched, so results are of class P0 and may be published. What the synthesizer made of these tables is
no release and must never become one.

Sources: the game and its bounds, see `attacks.intervals`; tables on which a target stands alone in a cell of every
marginal, and audits of marginal-based synthesizers from the inside: Annamalai, Ganev, De Cristofaro, USENIX Security
2024, arXiv:2405.10994; conjunction counts as features: Houssiau et al., TAPAS, arXiv:2211.06550. The tables, the scores
and the code are our own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from attacks.intervals import (
    FloatVector,
    certain_rates,
    epsilon_lower_bound,
    mu_lower_bound,
    rho_lower_bound,
)
from dpsynth import Cost, Model, Schema, Table, attack_generator, tpr_bound

if TYPE_CHECKING:
    import pandas as pd

Codes = npt.NDArray[np.int32]
Output = TypeVar("Output")
Seen = TypeVar("Seen")
Output_ = TypeVar("Output_", contravariant=True)

CONFIDENCE = 0.999  # a failure that no waiver lifts needs this much
PARTS = (1, 1, 6)  # of the fits: for learning scores, for choosing score and threshold, for the bound; fixed beforehand
THRESHOLDS = (0.5, 0.25, 0.75)  # between the mean scores of the two tables; more to choose from means worse choices
FEWEST_FITS = 16

# ---- tables ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, repr=False)
class Pair:
    """Two neighbouring tables, made from a schema alone: class P0.

    Args:
        name: What the pair is meant to expose.
        schema: What they are tables of.
        bulk: Rows that both tables have, one person each; shape (rows, columns).
        target: The row of the planted person; shape (columns,).
        other: Under "replace", the row of the person in its place; None under "add_remove".
        copies: How many rows the person has in the file. Of these at most `max_rows` may count.
    """

    name: str
    schema: Schema
    bulk: Codes
    target: Codes
    other: Codes | None
    copies: int

    @cached_property
    def present(self) -> pd.DataFrame:
        """The table with the planted person, as a data file holds it."""
        return self._frame(self.target)

    @cached_property
    def absent(self) -> pd.DataFrame:
        """The table without."""
        return self._frame(self.other)

    @property
    def counted(self) -> int:
        """How many rows of the person may count."""
        return min(self.copies, self.schema.unit.max_rows)

    def _frame(self, person: Codes | None) -> pd.DataFrame:
        """The person stands last. The others' rows are made first and alone, so that both tables have the same ones."""
        import pandas as pd

        parts = [self.bulk] if person is None else [self.bulk, np.tile(person, (self.copies, 1))]
        tables = [Table(schema=self.schema, codes=codes) for codes in parts]
        frame = pd.concat([table.decode(rng=attack_generator(0)).to_frame() for table in tables], ignore_index=True)
        for column in self.schema.dropped:
            frame[column.name] = pd.array([""] * len(frame), dtype="string")
        if self.schema.unit_column is not None:
            owners = [*range(len(self.bulk)), *[len(self.bulk)] * (len(frame) - len(self.bulk))]
            frame[self.schema.unit_column] = pd.array([f"u{owner}" for owner in owners], dtype="string")
        return frame[list(self.schema.file_names)]

    def shift(self, columns: Sequence[int], made: Sequence[MadeColumn] = ()) -> list[Move]:
        """Where the counts over `columns` differ between the two tables.

        Args:
            columns: As a measurement names them; beyond the schema's columns come those that a recipe made of others.
            made: These, in order.
        """
        places = list(columns)
        bulk, target = (_with_made(codes, made)[:, places] for codes in (self.bulk, self.target[None]))
        moved = Counter({tuple(target[0].tolist()): self.counted})
        if self.other is not None:
            moved[tuple(_with_made(self.other[None], made)[0, places].tolist())] -= self.counted
        moves = []
        for cell, by in moved.items():
            if by:
                base = int(np.all(bulk == np.array(cell), axis=1).sum())
                base += self.counted if by < 0 else 0  # the other person, who stands there in the table without
                moves.append(Move(cell=cell, by=by, mean=base + by / 2))
        return moves


@dataclass(frozen=True, kw_only=True)
class Move:
    """A cell whose count differs between two tables: by how much the planted person raises it, and the mean of both."""

    cell: tuple[int, ...]
    by: int
    mean: float


class MadeColumn(Protocol):
    """A column that a recipe made of another one, by merging cells."""

    @property
    def column(self) -> int:
        """Which one."""
        ...

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        """The new cell of each old one."""
        ...


def _with_made(codes: Codes, made: Sequence[MadeColumn]) -> npt.NDArray[np.int64]:
    out = codes.astype(np.int64)
    for this in made:
        out = np.column_stack([out, this.groups[out[:, this.column]]])
    return out


def worst_cases(schema: Schema, *, rows: int = 1000) -> tuple[Pair, ...]:
    """Pairs on which one person changes as much as one can, made from the schema alone.

    Args:
        rows: How many other rows there are, where there are any.
    Returns:
        "alone": a person in a cell of every marginal that is otherwise empty; all others share one cell.
        "nobody else": the same person, and no other rows (under "replace": one or the other).
        "torn": for selection. Two kinds of rows, so that pairs of columns agree or disagree, all equally strongly; the
        person strengthens some and weakens others. Only with three columns of two cells.
        "crowd": only where a person may have several rows: like "alone", with ten times as many as may count.
    """
    k = schema.unit.max_rows
    last = np.array(schema.sizes, dtype=np.int32) - 1
    first = np.zeros_like(last)
    replaced = first if schema.neighbours == "replace" else None
    same = np.tile(first, (rows, 1))

    def pair(name: str, bulk: Codes, target: Codes, other: Codes | None, copies: int = k) -> Pair:
        return Pair(name=name, schema=schema, bulk=bulk, target=target, other=other, copies=copies)

    pairs = [pair("alone", same, last, replaced), pair("nobody else", same[:0], last, replaced)]
    wide = np.flatnonzero(last > 0)
    if len(wide) >= 3:
        # the first half of the columns say x, the second half 1 - x: pairs within a half agree, the others disagree
        ahead, behind = wide[: (len(wide) + 1) // 2], wide[(len(wide) + 1) // 2 :]
        kinds = np.zeros((2, len(last)), dtype=np.int32)
        kinds[0, behind], kinds[1, ahead] = 1, 1
        torn = np.repeat(kinds, [rows - rows // 2, rows // 2], axis=0)
        # (0, ..., 0) is one more for pairs that agree; one column of each half turned weakens one of these
        # and strengthens one that disagrees: under "replace" two scores move apart by 2 k each
        turned = first.copy()
        turned[[ahead[1], behind[0]]] = 1
        pairs.append(pair("torn", torn, first, turned if schema.neighbours == "replace" else None))
    if schema.unit_column is not None:
        pairs.append(pair("crowd", same, last, replaced, 10 * k))
    return tuple(pairs)


# ---- attackers ---------------------------------------------------------------------------------------------------


class Attacker(Protocol[Output_, Seen]):
    """Someone who knows both tables and guesses from one result which of them went in."""

    def observe(self, output: Output_) -> Seen:
        """What is kept of one result."""
        ...

    def learn(self, absent: Sequence[Seen], present: Sequence[Seen]) -> Sequence[Callable[[Seen], float]]:
        """Scores to choose from, each higher for tables with the planted person, from results whose table is known."""
        ...


NoisySight = tuple[float, tuple[tuple[int, ...], ...]]


@dataclass(frozen=True)
class NoisyCounts:
    """Reads the noisy counts in a model: the strongest attacker there is against noise of a known size.

    The score is the logarithm of the likelihood ratio of all noisy counts, sum (y - mean) d / sigma^2 over the cells
    that the person moves by d, plus what the choice of marginals tells: how often each choice was made with and without
    the person.
    """

    pair: Pair
    _moves: dict[Any, list[Move]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def observe(self, output: Model) -> NoisySight:
        made: Sequence[MadeColumn] = getattr(output, "coarse", ())
        merging = tuple(this.groups.tobytes() for this in made)
        score = 0.0
        for m in output.measurements:
            key = (m.columns, merging if max(m.columns) >= len(self.pair.target) else ())
            if key not in self._moves:
                self._moves[key] = self.pair.shift(m.columns, made)
            moves = self._moves[key]
            score += sum((float(m.values[move.cell]) - move.mean) * move.by for move in moves) / float(m.sigma_squared)
        return score, tuple(m.columns for m in output.measurements)

    def learn(
        self, absent: Sequence[NoisySight], present: Sequence[NoisySight]
    ) -> Sequence[Callable[[NoisySight], float]]:
        without, with_person = Counter(chosen for _, chosen in absent), Counter(chosen for _, chosen in present)

        def choice(seen: NoisySight) -> float:
            return float(np.log((with_person[seen[1]] + 0.5) / (without[seen[1]] + 0.5)))

        return (lambda seen: seen[0], choice, lambda seen: seen[0] + choice(seen))


@dataclass(frozen=True)
class Conjunctions:
    """Reads synthetic rows alone: on how many the planted person's values stand together, for every set of columns.

    Counts of all 2^d sets come from one pass over the rows and one superset sum. Of wide tables every so-manieth column
    is used, `most` in all.
    """

    pair: Pair
    most: int = 10

    def observe(self, output: Table) -> FloatVector:
        columns = np.unique(np.linspace(0, output.codes.shape[1] - 1, self.most).round().astype(np.intp))
        persons = [self.pair.target] if self.pair.other is None else [self.pair.target, self.pair.other]
        return np.concatenate([np.sqrt(_agreeing(output.codes[:, columns], row[columns])) for row in persons])

    def learn(
        self, absent: Sequence[FloatVector], present: Sequence[FloatVector]
    ) -> Sequence[Callable[[FloatVector], float]]:
        """A ridge regression on standardised features, and a plain sum of them, each with its own sign."""
        features = np.concatenate([absent, present])
        centre, spread = features.mean(axis=0), features.std(axis=0)
        scale = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0.0)
        x = (features - centre) * scale
        side = np.repeat([-1.0, 1.0], [len(absent), len(present)])
        slopes = x.T @ side / len(side)
        ridge = x.T @ np.linalg.solve(x @ x.T + x.shape[1] * np.eye(len(x)), side)
        return tuple(lambda seen, w=weights * scale: float((seen - centre) @ w) for weights in (ridge, slopes))


def _agreeing(codes: Codes, row: Codes) -> FloatVector:
    """For every set of columns, as a bit mask, how many rows equal `row` on all of it; shape (2 ** columns,)."""
    width = codes.shape[1]
    masks = (codes == row).astype(np.int64) @ (1 << np.arange(width))
    counts = np.bincount(masks, minlength=1 << width).reshape((2,) * width)
    for axis in range(width):  # a row that agrees on more agrees on less
        counts = np.stack([counts.sum(axis=axis), counts.take(1, axis=axis)], axis=axis)
    return counts.ravel().astype(np.float64)


# ---- the game ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a synthesizer says of itself.

    Args:
        epsilon, delta: (epsilon, delta)-DP for the schema's unit and neighbours.
        cost: The zCDP or Renyi curve behind it, if there is one; it is the sharper claim, and held to as well.
    """

    epsilon: float
    delta: float
    cost: Cost | None = None

    @classmethod
    def of(cls, cost: Cost, *, delta: float) -> Claim:
        """The claim of a cost, with epsilon at this delta."""
        return cls(epsilon=float(cost.epsilon(delta)), delta=delta, cost=cost)


@dataclass(frozen=True, kw_only=True)
class CanaryResult:
    """How far a claim was tested, and whether it held.

    Args:
        pair: The pair of tables.
        claim: What was claimed.
        fits: Runs of the synthesizer, on both tables together.
        trials: Runs on each table that count for the bound.
        hits, false_alarms: Of these, how many were taken for the table with the person: rightly, wrongly.
        confidence: Chance that the bounds hold.
        privacy_class: P0: no private row was used.
    """

    pair: str
    claim: Claim
    fits: int
    trials: int
    hits: int
    false_alarms: int
    confidence: float
    privacy_class: Literal["P0"] = "P0"

    @property
    def epsilon(self) -> float:
        """Lower bound on epsilon at the claim's delta."""
        return epsilon_lower_bound(
            self.hits, self.false_alarms, self.trials, delta=self.claim.delta, confidence=self.confidence
        )

    @property
    def rho(self) -> float:
        """Lower bound on rho, for zero-concentrated DP."""
        return rho_lower_bound(self.hits, self.false_alarms, self.trials, confidence=self.confidence)

    @property
    def mu(self) -> float:
        """Lower bound on mu if the noise is Gaussian: a reason to look, never a failure."""
        return mu_lower_bound(self.hits, self.false_alarms, self.trials, confidence=self.confidence)

    @property
    def exceeds(self) -> bool:
        """Whether the claim is contradicted. A true claim is contradicted with a chance of at most 1 - confidence."""
        if self.epsilon > self.claim.epsilon:
            return True
        tpr, fpr = certain_rates(self.hits, self.false_alarms, self.trials, confidence=self.confidence)
        return self.claim.cost is not None and tpr > tpr_bound(self.claim.cost, fpr)


@dataclass(frozen=True)
class _Games(Generic[Seen]):
    """What was seen of one part of the fits, by table."""

    absent: Sequence[Seen]
    present: Sequence[Seen]

    def guesses(self, score: Callable[[Seen], float], threshold: float) -> tuple[int, int]:
        """Hits and false alarms."""
        return sum(score(s) > threshold for s in self.present), sum(score(s) > threshold for s in self.absent)


def play(
    pair: Pair,
    fit: Callable[[pd.DataFrame], Output],
    attacker: Attacker[Output, Any],
    *,
    claim: Claim,
    fits: int,
    confidence: float = CONFIDENCE,
    progress: Callable[[int], None] | None = None,
) -> CanaryResult:
    """Runs a synthesizer `fits` times, half on each table, and bounds what it leaks.

    The two tables take turns. An eighth of the fits teaches the attacker, an eighth chooses his score and threshold,
    and the rest, which neither has seen, gives the bound.

    Args:
        pair: Two neighbouring tables.
        fit: Runs the synthesizer, the whole of it, on a data frame as a file would hold it, with fresh noise each time.
        attacker: Reads what `fit` returns.
        claim: What is put to the test.
        fits: At least 16; an odd one is left out. `docs/attacks.md` says what so many can show.
        confidence: Chance that the bounds hold.
        progress: Told how many fits are done.
    Raises:
        ValueError: there are too few fits.
    """
    if fits < FEWEST_FITS:
        raise ValueError(f"fits ({fits}) must be at least {FEWEST_FITS}")
    absent: list[Any] = []
    present: list[Any] = []
    for done in range(fits // 2):
        absent.append(attacker.observe(fit(pair.absent)))
        present.append(attacker.observe(fit(pair.present)))
        if progress is not None:
            progress(2 * done + 2)
    learning, choosing, counting = _split(absent, present)
    scores = attacker.learn(learning.absent, learning.present)
    trials = len(counting.absent)
    score, threshold = _choose(scores, choosing, trials=trials, claim=claim, confidence=confidence)
    hits, false_alarms = counting.guesses(score, threshold)
    return CanaryResult(
        pair=pair.name,
        claim=claim,
        fits=2 * len(absent),
        trials=trials,
        hits=hits,
        false_alarms=false_alarms,
        confidence=confidence,
    )


def _split(absent: Sequence[Seen], present: Sequence[Seen]) -> list[_Games[Seen]]:
    ends = [len(absent) * sum(PARTS[:n]) // sum(PARTS) for n in range(4)]
    return [_Games(absent[a:b], present[a:b]) for a, b in pairwise(ends)]


def _choose(
    scores: Sequence[Callable[[Seen], float]], games: _Games[Seen], *, trials: int, claim: Claim, confidence: float
) -> tuple[Callable[[Seen], float], float]:
    """The score and threshold that would give the best bound if the rates of these games held for `trials` more."""

    def worth(choice: tuple[Callable[[Seen], float], float]) -> float:
        hits, false_alarms = (
            round(trials * (count + 0.5) / (len(games.absent) + 1)) for count in games.guesses(*choice)
        )
        if claim.cost is None:
            return epsilon_lower_bound(hits, false_alarms, trials, delta=claim.delta, confidence=confidence)
        return rho_lower_bound(hits, false_alarms, trials, confidence=confidence)

    def choices() -> Iterator[tuple[Callable[[Seen], float], float]]:
        for score in scores:
            low, high = (float(np.mean([score(seen) for seen in side])) for side in (games.absent, games.present))
            yield from ((score, low + (high - low) * share) for share in THRESHOLDS)

    return max(choices(), key=worth)
