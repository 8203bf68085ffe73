"""Canaries: fits a synthesizer many times with and without one planted person, and bounds what it leaks from below.

Two neighbouring tables are made from the schema alone, such that one person changes as much as a person can. A
synthesizer is run many times on each, an attacker guesses from every result which table it came from, and the rates at
which he is right and wrong are held against the claim. A claim that the rates contradict is false, with the stated
confidence; a claim that they do not contradict is not thereby shown to be true.

No private row is touched, so results are of class P0 and may be published. What the synthesizer made of these tables is
no release and must never become one.

Sources: the game and its bounds, see `attacks.intervals`; the tables, see `attacks.neighbours`; audits of marginal-based
synthesizers from the inside: Annamalai, Ganev, De Cristofaro, USENIX Security 2024, arXiv:2405.10994; conjunction counts
as features: Houssiau et al., TAPAS, arXiv:2211.06550. The scores and the code are our own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import stats

from attacks.intervals import (
    GAUSSIAN,
    ZCDP,
    FloatVector,
    epsilon_lower_bound,
    mu_lower_bound,
    rho_lower_bound,
)
from attacks.neighbours import Codes, MadeColumn, Move, Pair, shuffled
from attacks.tradeoff import Approximate, Family, contradicts, rough_limit
from dpsynth import Cost, Measurement, Records, Table, tpr_bound

if TYPE_CHECKING:
    import pandas as pd

FloatMatrix: TypeAlias = npt.NDArray[np.float64]
Output = TypeVar("Output")
Seen = TypeVar("Seen")
Output_ = TypeVar("Output_", contravariant=True)

CONFIDENCE = 0.999  # a failure that no waiver lifts needs this much
PARTS = (1, 1, 6)  # of the fits: for learning scores, for choosing score and threshold, for the bound; fixed beforehand
THRESHOLDS = (0.5, 0.25, 0.75)  # between the mean scores of the two tables; more to choose from means worse choices
CLEARLY = 0.9  # confidence with which a score must be better than the attacker's first to take its place
FEWEST_FITS = 16

# ---- attackers ---------------------------------------------------------------------------------------------------


class Attacker(Protocol[Output_, Seen]):
    """Someone who knows both tables and guesses from one result which of them went in."""

    def observe(self, output: Output_) -> Seen:
        """What is kept of one result."""
        ...

    def learn(self, absent: Sequence[Seen], present: Sequence[Seen]) -> Sequence[Callable[[Seen], float]]:
        """Scores to choose from, each higher for tables with the planted person, from results whose table is known.

        The one that should be best comes first.
        """
        ...


class Measured(Protocol):
    """What carries noisy counts: a model, or what an audit kept of one. Columns that a recipe made are in `coarse`."""

    @property
    def measurements(self) -> Sequence[Measurement]: ...


class HasRows(Protocol):
    """What carries synthetic rows."""

    @property
    def rows(self) -> Records: ...


class NoisySight(NamedTuple):
    """What `NoisyCounts` keeps of one result.

    Args:
        ratio: Logarithm of the likelihood ratio of all noisy counts, up to a constant.
        chosen: Which marginals were measured.
        exact: Cells with exactly the count that they have with the person, less those with exactly the one without.
        cells: The first noisy counts of each column alone, as far as there are not too many.
    """

    ratio: float
    chosen: tuple[tuple[int, ...], ...]
    exact: int
    cells: tuple[float, ...]


@dataclass(frozen=True)
class NoisyCounts:
    """Reads the noisy counts behind a result: the strongest attacker there is against noise of a known size.

    The score is the logarithm of the likelihood ratio of all noisy counts, sum (y - mean) d / sigma^2 over the cells
    that the person moves by d, plus what the choice of marginals tells: how often each choice was made with and without
    the person. Two more scores look for noise that is not what it should be: one for counts that carry none, as when
    empty cells are left out, one for noise that cells share, by a linear discriminant of the columns' own counts.
    """

    pair: Pair
    most: int = 64
    _moves: dict[Any, list[Move]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def observe(self, output: Measured) -> NoisySight:
        made: Sequence[MadeColumn] = getattr(output, "coarse", ())
        merging = tuple(this.groups.tobytes() for this in made)
        ratio, exact = 0.0, 0
        alone: dict[tuple[int, ...], list[float]] = {}
        for m in output.measurements:
            key = (m.columns, merging if max(m.columns) >= len(self.pair.target) else ())
            if key not in self._moves:
                self._moves[key] = self.pair.shift(m.columns, made)
            for move in self._moves[key]:
                off = float(m.values[move.cell]) - move.mean
                ratio += off * move.by / float(m.sigma_squared)
                exact += (off == move.by / 2) - (off == -move.by / 2)
            if len(m.columns) == 1 and m.columns[0] < len(self.pair.target):
                alone.setdefault(m.columns, m.values.tolist())
        sizes: Sequence[int] = getattr(output, "sizes", ())
        for move in self.pair.shift_of_sizes() if sizes else ():
            off = sizes[move.cell[0]] - move.mean
            ratio += off * move.by / getattr(output, "sizes_sigma", 1.0) ** 2
            exact += (off == move.by / 2) - (off == -move.by / 2)
        cells = tuple(value for columns in sorted(alone) for value in alone[columns])[: self.most]
        return NoisySight(ratio, tuple(m.columns for m in output.measurements), exact, cells)

    def learn(
        self, absent: Sequence[NoisySight], present: Sequence[NoisySight]
    ) -> Sequence[Callable[[NoisySight], float]]:
        without, with_person = (Counter(seen.chosen for seen in side) for side in (absent, present))

        def choice(seen: NoisySight) -> float:
            return float(np.log((with_person[seen.chosen] + 0.5) / (without[seen.chosen] + 0.5)))

        scores = [
            lambda seen: seen.ratio,
            choice,
            lambda seen: seen.ratio + choice(seen),
            lambda seen: float(seen.exact),
        ]
        if len({len(seen.cells) for seen in (*absent, *present)}) == 1 and absent[0].cells:
            linear = _discriminant(
                np.array([seen.cells for seen in absent]), np.array([seen.cells for seen in present]), ridge=0.01
            )
            scores.append(lambda seen: linear(np.array(seen.cells)))
        return scores


@dataclass(frozen=True)
class Conjunctions:
    """Reads synthetic rows alone: on how many the planted person's values stand together, for every set of columns.

    Counts of all 2^d sets come from one pass over the rows and one superset sum. Of wide tables every so-manieth column
    is used for that, `most` in all; every column is looked at alone, and every number for its very value.
    """

    pair: Pair
    most: int = 10

    def observe(self, output: Table | HasRows) -> FloatVector:
        codes = output.codes if isinstance(output, Table) else Table.encode(output.rows).codes
        columns = np.unique(np.linspace(0, codes.shape[1] - 1, self.most).round().astype(np.intp))
        persons = [self.pair.target] if self.pair.other is None else [self.pair.target, self.pair.other]
        counts = [_agreeing(codes[:, columns], row[columns]) for row in persons]
        counts += [(codes == row).sum(axis=0) for row in persons]
        if not isinstance(output, Table):
            counts += [np.array([(output.rows.columns[name] == value).sum() for name, value in self._numbers])]
        return np.sqrt(np.concatenate(counts).astype(np.float64))

    @cached_property
    def _numbers(self) -> list[tuple[str, float]]:
        """The numbers of the planted persons as they stand in the tables, with the columns that they stand in."""
        frames = [self.pair.present] if self.pair.other is None else [self.pair.present, self.pair.absent]
        out = []
        for frame in frames:
            for column in self.pair.schema.modelled:
                found = frame[column.name].iloc[-1] if column.is_numeric else None
                if found is not None and frame[column.name].notna().iloc[-1]:
                    out.append((column.name, float(column.clock.number(found) if column.is_time else found)))
        return out

    def learn(
        self, absent: Sequence[FloatVector], present: Sequence[FloatVector]
    ) -> Sequence[Callable[[FloatVector], float]]:
        """A ridge regression on standardised features, and a plain sum of them, each with its own sign."""
        sides = np.array(absent), np.array(present)
        return tuple(_discriminant(*sides, ridge=ridge) for ridge in (sides[0].shape[1] / len(absent) / 2, np.inf))


def _discriminant(absent: FloatMatrix, present: FloatMatrix, *, ridge: float) -> Callable[[FloatVector], float]:
    """A linear score from two samples of features, shape (results, features), by regression on standardised features.

    Args:
        ridge: Penalty as a share of the number of results; infinite for weights that look at each feature alone.
    """
    features = np.concatenate([absent, present])
    centre, spread = features.mean(axis=0), features.std(axis=0)
    scale = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0.0)
    x = (features - centre) * scale
    side = np.repeat([-1.0, 1.0], [len(absent), len(present)])
    if np.isinf(ridge):
        weights = x.T @ side / len(side)
    else:
        weights = x.T @ np.linalg.solve(x @ x.T + ridge * len(x) * np.eye(len(x)), side)
    weights *= scale
    return lambda seen: float((seen - centre) @ weights)


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

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Claim:
        """The inverse of `to_json`, without the curve where it is no rho; ValueError for what is no claim."""
        epsilon, delta = (float(data[name]) for name in ("epsilon", "delta"))
        if not (0 < epsilon < math.inf and 0 <= delta < 1):
            raise ValueError("not a claim")
        return cls(epsilon=epsilon, delta=delta, cost=None if data["rho"] is None else Cost.zcdp(Fraction(data["rho"])))

    def to_json(self) -> dict[str, Any]:
        """For the results of audits; `rho` is None where the claim has no such curve."""
        is_rho = self.cost is not None and self.cost.is_zcdp
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "rho": str(self.cost.rho) if self.cost and is_rho else None,
        }

    def highest(self, fpr: FloatVector) -> FloatVector:
        """The highest true-positive rates that all of the claim allows, rounded up: its trade-off curve."""
        stated = Approximate(self.delta).highest(self.epsilon, fpr)
        return stated if self.cost is None else np.minimum(stated, _highest(self.cost, fpr))

    @property
    def kind(self) -> Family:
        """By whose loss outcomes are compared when this claim is tested."""
        return Approximate(self.delta) if self.cost is None else GAUSSIAN

    def contradicted(self, hits: int, false_alarms: int, trials: int, *, confidence: float) -> bool:
        """Whether so many guesses contradict it. If it is true, they do with a chance of at most 1 - confidence."""
        return contradicts(hits, false_alarms, trials, self.highest, order=self.kind, confidence=confidence)


_NODES = np.sin(np.linspace(0, np.pi / 2, 257)) ** 2  # denser towards both ends, where the curves bend


@lru_cache(maxsize=16)
def _at_nodes(cost: Cost) -> FloatVector:
    return np.array([tpr_bound(cost, float(fpr)) for fpr in _NODES])


def _highest(cost: Cost, fpr: FloatVector) -> FloatVector:
    """`tpr_bound` for many rates, rounded up.

    Pure zCDP has a closed form. Otherwise a table is made: the bound is concave, so between two nodes it lies below the
    chords beside them.
    """
    if cost.is_zcdp and not cost.delta0:
        return ZCDP.highest(float(cost.rho) * (1 + 1e-9), fpr)
    tpr = _at_nodes(cost)
    slope = np.diff(tpr) / np.diff(_NODES)
    right = np.clip(np.searchsorted(_NODES, fpr), 1, len(_NODES) - 1)
    left = right - 1
    before = np.where(left > 0, tpr[left] + slope[left - 1] * (fpr - _NODES[left]), 1.0)
    behind = tpr[right] - np.append(slope, 0.0)[right] * (_NODES[right] - fpr)
    bound = np.minimum(np.minimum(before, behind), tpr[right]) + 1e-8
    return np.asarray(np.clip(bound, 0, 1), dtype=np.float64)


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
        return self.claim.contradicted(self.hits, self.false_alarms, self.trials, confidence=self.confidence)

    @property
    def estimate(self) -> float:
        """Point estimate of epsilon at the claim's delta, with a sign: half a guess is added to every count."""
        tpr, fpr = self._rates
        delta = self.claim.delta
        return max(_log_ratio(tpr - delta, fpr), _log_ratio(1 - fpr - delta, 1 - tpr))

    @property
    def mu_estimate(self) -> float:
        """Point estimate of mu if the noise is Gaussian, with a sign."""
        tpr, fpr = self._rates
        return float(stats.norm.ppf(tpr) - stats.norm.ppf(fpr))

    @property
    def perfect(self) -> CanaryResult:
        """What an attacker who never errs would have shown with so many fits."""
        return replace(self, hits=self.trials, false_alarms=0)

    @property
    def ceiling(self) -> float:
        """The largest epsilon that so many fits can certify, at the claim's delta."""
        return self.perfect.epsilon

    @property
    def conclusive(self) -> bool:
        """Whether so many fits could have contradicted the claim at all."""
        return self.perfect.exceeds

    @property
    def _rates(self) -> tuple[float, float]:
        return (self.hits + 0.5) / (self.trials + 1), (self.false_alarms + 0.5) / (self.trials + 1)


def _log_ratio(above: float, below: float) -> float:
    return float(np.log(above / below)) if above > 0 else -np.inf


def counted(fits: int) -> int:
    """Of so many fits, how many on each table count for the bound; the others teach and choose."""
    return fits // 2 - fits // 2 * sum(PARTS[:2]) // sum(PARTS)


@dataclass(frozen=True)
class _Games(Generic[Seen]):
    """What was seen of one part of the fits, by table."""

    absent: list[Seen]
    present: list[Seen]

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
    """`play_all` for one attacker."""
    played = play_all(pair, fit, {"only": attacker}, claim=claim, fits=fits, confidence=confidence, progress=progress)
    return played["only"]


def play_all(
    pair: Pair,
    fit: Callable[[pd.DataFrame], Output],
    attackers: Mapping[str, Attacker[Output, Any]],
    *,
    claim: Claim,
    fits: int,
    confidence: float = CONFIDENCE,
    progress: Callable[[int], None] | None = None,
) -> dict[str, CanaryResult]:
    """Runs a synthesizer `fits` times, half on each table, and bounds what it leaks to each of several attackers.

    The two tables take turns, their rows in a fresh order each time, and all attackers see the same results. An eighth of the fits teaches each of them, an
    eighth chooses his score and threshold, and the rest, which neither has seen, gives the bound.

    Args:
        pair: Two neighbouring tables.
        fit: Runs the synthesizer, the whole of it, on a data frame as a file would hold it, with fresh noise each time.
        attackers: By name. Each reads what `fit` returns.
        claim: What is put to the test.
        fits: At least 16; an odd one is left out. `docs/attacks.md` says what so many can show.
        confidence: Chance that the bounds of one attacker hold. Who judges by the worst of several attackers, or
            several pairs, has to share out the error: 1 - (1 - confidence) / their number.
        progress: Told how many fits are done.
    Returns:
        A result for each attacker, in their order.
    Raises:
        ValueError: there are too few fits.
    """
    if fits < FEWEST_FITS:
        raise ValueError(f"fits ({fits}) must be at least {FEWEST_FITS}")
    seen: dict[str, _Games[Any]] = {name: _Games([], []) for name in attackers}
    for done in range(fits // 2):
        for frame, side in ((pair.absent, "absent"), (pair.present, "present")):
            output = fit(shuffled(frame))
            for name, attacker in attackers.items():
                getattr(seen[name], side).append(attacker.observe(output))
        if progress is not None:
            progress(2 * done + 2)
    return {
        name: _judged(pair, attacker, seen[name], claim=claim, confidence=confidence)
        for name, attacker in attackers.items()
    }


def _judged(
    pair: Pair, attacker: Attacker[Any, Seen], games: _Games[Seen], *, claim: Claim, confidence: float
) -> CanaryResult:
    learning, choosing, counting = _split(games.absent, games.present)
    scores = attacker.learn(learning.absent, learning.present)
    trials = len(counting.absent)
    score, threshold = _choose(scores, choosing, trials=trials, claim=claim, confidence=confidence)
    hits, false_alarms = counting.guesses(score, threshold)
    return CanaryResult(
        pair=pair.name,
        claim=claim,
        fits=2 * len(games.absent),
        trials=trials,
        hits=hits,
        false_alarms=false_alarms,
        confidence=confidence,
    )


def _split(absent: list[Seen], present: list[Seen]) -> list[_Games[Seen]]:
    ends = [len(absent) * sum(PARTS[:n]) // sum(PARTS) for n in range(4)]
    return [_Games(absent[a:b], present[a:b]) for a, b in pairwise(ends)]


def _choose(
    scores: Sequence[Callable[[Seen], float]], games: _Games[Seen], *, trials: int, claim: Claim, confidence: float
) -> tuple[Callable[[Seen], float], float]:
    """The score and threshold that would give the best bound if the rates of these games held for `trials` more.

    The attacker's first score stays unless another one is clearly better: few games would let chance choose.
    """

    def worth(counts: tuple[int, int]) -> float:
        hits, false_alarms = (round(trials * rate) for rate in rates(counts))
        return rough_limit(hits, false_alarms, trials, claim.kind, confidence=confidence)

    def rates(counts: tuple[int, int]) -> tuple[float, float]:
        hits, false_alarms = ((count + 0.5) / (len(games.absent) + 1) for count in counts)
        return hits, false_alarms

    def best(score: Callable[[Seen], float]) -> tuple[tuple[int, int], float]:
        low, high = (float(np.mean([score(seen) for seen in side])) for side in (games.absent, games.present))
        tried = [low + (high - low) * share for share in THRESHOLDS]
        return max(((games.guesses(score, threshold), threshold) for threshold in tried), key=lambda t: worth(t[0]))

    chosen, (counts, threshold) = scores[0], best(scores[0])
    to_beat = claim.kind.loss(*rates(counts))
    for score in scores[1:]:
        others = best(score)
        clear = rough_limit(*others[0], len(games.absent), claim.kind, confidence=CLEARLY)
        if clear > to_beat and worth(others[0]) > worth(counts):
            chosen, (counts, threshold) = score, others
    return chosen, threshold
