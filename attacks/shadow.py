"""Shadow models: what a generator gives away about the most exposed persons of a real table.

A handful of targets is chosen before anything is fitted. Then the whole generator runs many times; in every run each
target is in the table or not by a fair coin of its own, and everybody else is always in. One set of runs serves all
targets, because half of them contain any given one, independently of the others. An attacker who knows everybody else's
rows, the values of the target and the coins of the other targets guesses from each result whether the target was in.

Under "replace" a person made from the schema stands in for an absent target, so that the tables are neighbours in the
sense that the schema declares.

Everything here is class P3: it is made from real rows without noise, and the runs themselves are as private as the rows.
The number of a target, and where its rows stand in the file, is class P4: reports may show counts by group only.

Attackers, all on the same runs:

- "conjunctions" counts the synthetic rows that share the target's values on each set of columns, for all sets at once by
  a superset sum, and learns which counts speak;
- "nearest" looks at the distances from the target to the nearest synthetic rows, in both directions: a filter that drops
  rows "too close" leaves a hole;
- "noisy counts" reads the measurements of our own generators: the likelihood ratio of all of them, given everybody else;
- "attribute" guesses a sensitive value of the target from its other values, with and without the target in the table:
  the difference is what the person's participation caused.

A third of the runs teaches the attackers, a sixth chooses rule and threshold, and the rest, which neither has seen, is
counted.

Who is attacked, and the tables that coins make of them: `attacks.shadow_game`. What each attacker keeps of a run:
`attacks.shadow_attackers`. Here: what they learn, how it is judged, and the audit.

Sources: one fixed data set, one target in or out, many fits: Stadler, Oprisanu, Troncoso, USENIX Security 2022,
arXiv:2011.07018; counts of a target's values as features: Houssiau et al., TAPAS, arXiv:2211.06550; independent random
inclusion of many records, so that one set of runs serves all: Carlini et al., S&P 2022, arXiv:2112.03570. The bounds are
those of `attacks.intervals`. The features, the choice of targets and the code are our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from attacks.canary import Claim
from attacks.distances import Metric, one_thread
from attacks.generators import Generator
from attacks.intervals import (
    Interval,
    Rate,
    area,
    clopper_pearson_high,
    difference,
    epsilon_lower_bound,
)
from attacks.neighbours import shuffled
from attacks.people import BoolVector, FloatMatrix, FloatVector, IntVector, Rows, roles
from attacks.shadow_attackers import Agreement, Nearest, Sight, WhiteBox
from attacks.shadow_game import PARTS, Coins, Game, Reason, Target
from attacks.suite import stream
from attacks.tradeoff import Approximate, rough_limit
from dpsynth import UsageError, advantage_bound

if TYPE_CHECKING:
    import pandas as pd

Method: TypeAlias = Literal["conjunctions", "nearest", "noisy counts", "attribute"]

CONFIDENCE = 0.999  # of the certified bounds, all targets and methods together
SIMULTANEOUS = 0.95  # of areas and advantages, all together: to be read, not to be judged
FEWEST_FITS = 48
TREE_FEATURES = 64
CAUTIOUS, BOLD = "logistic regression, cautious", "logistic regression, bold"
RANKED = 2_000  # rows among which numbers are ranked to be placed


# ---- results -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ShadowItem:
    """What one attacker could tell about one target. Class P3.

    Args:
        target: Number of the target.
        reason: Why this target was chosen.
        method: Which attacker.
        rule: What he went by, in words; chosen on runs that are not counted.
        claim: What the generator promises.
        trials: Runs that were counted, as many with the target as without.
        hits, false_alarms: Of these, how many were taken for runs with the target; for "attribute": in how many the
            sensitive value was guessed right, with the target in the table and without.
        area: Chance that a run with the target scores higher than one without (AUC).
        area_interval: Where it lies, all targets and methods together.
        confidence: Chance that the certified bounds of this item hold, corrected for the number of items.
        simultaneous: The same for the intervals that are no certified bounds.
    """

    target: int
    reason: Reason
    method: Method
    rule: str
    claim: Claim
    trials: int
    hits: int
    false_alarms: int
    area: Rate
    area_interval: Interval
    confidence: float
    simultaneous: float

    @property
    def advantage(self) -> float:
        """True-positive minus false-positive rate; for "attribute" what the person's participation caused."""
        return (self.hits - self.false_alarms) / self.trials

    @property
    def interval(self) -> Interval:
        """Where the advantage of this rule lies (Newcombe), all targets and methods together."""
        present, absent = (
            Rate(value=count / self.trials, trials=self.trials, persons=self.trials)
            for count in (self.hits, self.false_alarms)
        )
        found = difference(present, absent, self.simultaneous)
        return Interval(low=found.low, high=found.high, confidence=SIMULTANEOUS)

    @cached_property
    def epsilon(self) -> float:
        """Certified lower bound on epsilon at the claim's delta."""
        return epsilon_lower_bound(
            self.hits, self.false_alarms, self.trials, delta=self.claim.delta, confidence=self.confidence
        )

    @property
    def estimate(self) -> float:
        """About what epsilon this attacker saw; half a run is added to every count. At least 0."""
        tpr, fpr = ((count + 0.5) / (self.trials + 1) for count in (self.hits, self.false_alarms))
        return Approximate(self.claim.delta).loss(tpr, fpr)

    @property
    def allowed(self) -> float:
        """The highest true-positive rate that the claim allows at the false-positive rate that was seen.

        The latter is taken at its upper limit, one-sided. For "attribute": the highest success with the person in the
        table, given the success without.
        """
        fpr = clopper_pearson_high(self.false_alarms, self.trials, confidence=self.confidence)
        return float(self.claim.highest(np.array([fpr]))[0])

    @cached_property
    def exceeds(self) -> bool:
        """Whether the claim is contradicted. A true claim is with a chance of at most 1 - `confidence`."""
        return self.claim.contradicted(self.hits, self.false_alarms, self.trials, confidence=self.confidence)

    @property
    def perfect(self) -> ShadowItem:
        """What an attacker who never errs would have shown with so many runs."""
        return replace(self, hits=self.trials, false_alarms=0)

    @property
    def ceiling(self) -> float:
        """The largest epsilon that so many runs can certify."""
        return self.perfect.epsilon

    @property
    def conclusive(self) -> bool:
        """Whether so many runs could have contradicted the claim at all."""
        return self.perfect.exceeds


@dataclass(frozen=True, kw_only=True)
class ShadowResult:
    """What the attackers could tell about all targets. Class P3.

    Args:
        claim: What the generator promises.
        fits: How often it was run.
        targets: Who was attacked: class P4, for the eyes of the data's owner.
        methods: Which attackers were tried on each.
        items: One for each target and method, in this order.
        confidence: Chance that all certified bounds hold together.
        advantage_allowed: The largest advantage that the claim allows anybody.
    """

    claim: Claim
    fits: int
    targets: tuple[Target, ...] = field(repr=False)
    methods: tuple[Method, ...]
    items: tuple[ShadowItem, ...]
    confidence: float
    advantage_allowed: float
    privacy_class: Literal["P3"] = "P3"

    @property
    def exceeds(self) -> bool:
        """Whether the claim is contradicted; a true one is with a chance of at most 1 - confidence."""
        return any(item.exceeds for item in self.items)

    @property
    def conclusive(self) -> bool:
        """Whether any item could have contradicted the claim."""
        return any(item.conclusive for item in self.items)

    @property
    def epsilon(self) -> float:
        """Certified lower bound on epsilon, the highest over all items."""
        return max(item.epsilon for item in self.items)

    def of(self, method: Method) -> tuple[ShadowItem, ...]:
        """The items of one method, the most striking first."""
        return tuple(sorted((i for i in self.items if i.method == method), key=_striking, reverse=True))

    def worst(self, method: Method) -> ShadowItem:
        """Its most striking item: the one with the highest certified bound, or else the highest estimate."""
        return self.of(method)[0]

    def counts(self) -> Mapping[Reason, Mapping[str, int]]:
        """By group of targets: how many there are, about how many a leak was shown, and beyond the claim."""
        groups: dict[Reason, dict[str, int]] = {}
        for target in self.targets:
            mine = [item for item in self.items if item.target == target.number]
            group = groups.setdefault(target.reason, {"targets": 0, "leak shown": 0, "beyond the claim": 0})
            group["targets"] += 1
            group["leak shown"] += any(item.epsilon > 0 for item in mine)
            group["beyond the claim"] += any(item.exceeds for item in mine)
        return groups


def runs_counted(fits: int) -> int:
    """Of so many runs, about how many with and without each target count; the others teach and choose."""
    return fits * PARTS[2] // (2 * sum(PARTS))


def _striking(item: ShadowItem) -> tuple[float, float]:
    return item.epsilon, item.advantage


def advantage_allowed(claim: Claim) -> float:
    """The largest true-positive minus false-positive rate that a claim allows anybody.

    Source: under (epsilon, delta)-DP the two lines of `attacks.tradeoff.Approximate` meet where tpr = 1 - fpr =
        (e^epsilon + delta) / (e^epsilon + 1), and the region that they bound is convex and symmetric about that
        diagonal; under a curve `dpsynth.advantage_bound`.
    """
    allowed = 1.0
    if claim.epsilon < 700:  # e^700 is about the largest float
        grown = math.exp(claim.epsilon)
        allowed = min((grown - 1 + 2 * claim.delta) / (grown + 1), 1.0)
    return allowed if claim.cost is None else min(allowed, advantage_bound(claim.cost))


# ---- learning ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Score:
    """What an attacker goes by: one number for each run, higher where the target was in.

    Args:
        rule: In words.
        values: Shape (fits,).
        learned: Whether the learning runs went into it, so that it cannot be chosen by them.
    """

    rule: str
    values: FloatVector
    learned: bool


@one_thread
def _taught(features: FloatMatrix, coins: Coins, target: int, *, seed: int) -> list[_Score]:
    """Scores learned from features of the learning runs; shape (fits, features)."""
    learning = slice(0, coins.learning.stop)
    known, truth = coins.design(target), coins.inside[learning, target]
    others, *_ = np.linalg.lstsq(
        np.column_stack([known, coins.inside[:, target]])[learning].astype(np.float64), features[learning], rcond=None
    )
    x = features - known @ others[:-1]
    spread = x[learning].std(axis=0)
    x = x[:, spread > 1e-9] / spread[spread > 1e-9]
    if not x.shape[1] or truth.all() or not truth.any():
        return [_Score("nothing to learn from", np.zeros(len(features)), True)]
    x -= x[learning].mean(axis=0)
    slopes = x[learning][truth].mean(axis=0) - x[learning][~truth].mean(axis=0)
    strongest = np.lexsort((np.arange(len(slopes)), -np.round(np.abs(slopes), 9)))
    scores = [
        _Score("sum of all", x @ slopes, True),
        _Score("strongest alone", x[:, strongest[0]] * np.sign(slopes[strongest[0]]), True),
    ]
    scores += [_Score(name, x @ w, True) for name, w in _logistic(x[learning], truth)]
    few = x[:, np.sort(strongest[:TREE_FEATURES])]
    scores.append(_Score("trees", _trees(few, learning, truth, seed=seed), True))
    return scores


def _logistic(x: FloatMatrix, truth: BoolVector) -> Iterator[tuple[str, FloatVector]]:
    """Weights of two L2-regularised logistic regressions, one cautious, one bold."""
    from sklearn.linear_model import LogisticRegression

    x = x / math.sqrt(x.shape[1])
    for name, c in ((CAUTIOUS, 0.1), (BOLD, 10.0)):
        yield name, np.asarray(LogisticRegression(C=c, max_iter=2000).fit(x, truth).coef_[0])


def _trees(x: FloatMatrix, learning: slice, truth: BoolVector, *, seed: int) -> FloatVector:
    from sklearn.ensemble import ExtraTreesClassifier

    trees = ExtraTreesClassifier(n_estimators=20, min_samples_leaf=3, random_state=seed)
    return np.asarray(np.round(trees.fit(x[learning], truth).predict_proba(x)[:, 1], 9))


# ---- judging -----------------------------------------------------------------------------------------------------


def _chosen(
    scores: Sequence[_Score], coins: Coins, target: int, claim: Claim, confidence: float
) -> tuple[_Score, float]:
    """The score and threshold that would show most if the rates of runs that are not counted held for those that are."""
    inside = coins.inside[:, target]
    trials = len(_counted(coins, target)[0])

    def worth(score: _Score, threshold: float, part: slice) -> tuple[float, float]:
        there, guess = inside[part], score.values[part] > threshold
        rates = [(guess[side].sum() + 0.5) / (side.sum() + 1) for side in (there, ~there)]
        hits, false_alarms = (round(trials * rate) for rate in rates)
        return rough_limit(hits, false_alarms, trials, claim.kind, confidence=confidence), rates[0] - rates[1]

    best: tuple[tuple[float, float], _Score, float] | None = None
    for score in scores:
        part = coins.choosing if score.learned else slice(0, coins.choosing.stop)
        for threshold in _thresholds(score.values[part], inside[part]):
            found = worth(score, threshold, part)
            if best is None or found > best[0]:
                best = found, score, threshold
    if best is None:
        raise AssertionError("there is always a score with a threshold")
    return best[1], best[2]


def _thresholds(scores: FloatVector, inside: BoolVector) -> list[float]:
    """Between the means of both sides, and at their ends."""
    if inside.all() or not inside.any():
        return [float(np.median(scores))]
    without, present = scores[~inside], scores[inside]
    low, high = float(without.mean()), float(present.mean())
    between = [low + (high - low) * share for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    ends = [*np.quantile(without, (0.95, 1.0)), *np.nextafter(np.quantile(present, (0.0, 0.05)), -np.inf)]
    return sorted({*between, *map(float, ends)})


def _item(
    target: Target,
    method: Method,
    scores: Sequence[_Score],
    coins: Coins,
    *,
    claim: Claim,
    confidence: float,
    items: int,
) -> ShadowItem:
    corrected = 1 - (1 - confidence) / items
    score, threshold = _chosen(scores, coins, target.number, claim, corrected)
    present, absent = (score.values[side] for side in _counted(coins, target.number))
    simultaneous = 1 - (1 - SIMULTANEOUS) / items
    under_curve = area(present, absent)
    found = under_curve.interval(simultaneous)
    return ShadowItem(
        target=target.number,
        reason=target.reason,
        method=method,
        rule=score.rule,
        claim=claim,
        trials=len(present),
        hits=int((present > threshold).sum()),
        false_alarms=int((absent > threshold).sum()),
        area=under_curve,
        area_interval=Interval(low=found.low, high=found.high, confidence=SIMULTANEOUS),
        confidence=corrected,
        simultaneous=simultaneous,
    )


def _counted(coins: Coins, target: int) -> tuple[IntVector, IntVector]:
    """The runs that count, with the target and without: as many of each, the first ones."""
    inside = coins.inside[coins.counting, target]
    runs = np.arange(coins.counting.start, coins.counting.stop)
    trials = max(int(min(inside.sum(), (~inside).sum())), 1)
    return runs[inside][:trials], runs[~inside][:trials]


# ---- the audit ---------------------------------------------------------------------------------------------------


def audit_records(
    frame: pd.DataFrame,
    generator: Generator,
    *,
    claim: Claim,
    fits: int,
    targets: int = 10,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    progress: Callable[[int], None] | None = None,
) -> ShadowResult:
    """Runs a generator `fits` times, each target in or out by a coin, and bounds what it tells about each of them.

    Privacy: the whole result is class P3, the targets in it are P4. Nothing is charged, so nothing of it may be
    published, and the runs are no releases.

    Args:
        frame: The real table, as a data file of the generator's schema holds it.
        generator: What is put to the test, with fresh noise in every run.
        claim: What it promises each person of this table.
        fits: At least 48. Half of them are counted, a quarter with each target and a quarter without, on average.
        targets: How many persons are attacked, at most all.
        seed: For the choice of targets, the coins, and the attackers; with it the result follows from the runs.
        confidence: Chance that all certified bounds hold together.
        progress: Told how many fits are done.
    Raises:
        UsageError: there are too few fits, targets or persons.
        DataFileError: the frame does not fit the schema.
    """
    if fits < FEWEST_FITS:
        raise UsageError(f"fits ({fits}) must be at least {FEWEST_FITS}")
    if targets < 1:
        raise UsageError(f"targets ({targets}) must be at least 1")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence ({confidence}) must lie in (0, 1)")
    schema = generator.schema
    game = Game.of(frame, schema, targets=targets, seed=seed)
    coins = Coins.tossed(fits, len(game.targets), rng=stream(seed, "shadow", "coins"))
    others = game.people.rows.take(~np.isin(game.people.person, game.persons))
    metric = Metric(others.at_most(RANKED, stream(seed, "shadow", "ranks")))
    mine = [Sight.of(game.of_target(target.number), metric) for target in game.targets]
    agreement = [
        Agreement(rows, rng=stream(seed, "shadow", "columns", str(number))) for number, rows in enumerate(mine)
    ]
    nearest = Nearest(mine, roles(game.people.rows)[1])
    white_box = WhiteBox(game.codes, game.people.person, game.persons, game.standing_in, max_rows=schema.unit.max_rows)
    for done, inside in enumerate(coins.inside):
        trial = generator.run(shuffled(game.table(inside)))
        synthetic = Sight.of(Rows.of(trial.rows), metric)
        for each in agreement:
            each.observe(synthetic)
        nearest.observe(synthetic)
        white_box.observe(trial, inside)
        if progress is not None:
            progress(done + 1)
    methods: list[Method] = ["conjunctions", "nearest"]
    if any(white_box.chosen):
        methods.append("noisy counts")
    if nearest.rules(0):
        methods.append("attribute")
    coin = int(stream(seed, "shadow", "trees").integers(2**31))
    items = []
    for target in game.targets:
        number = target.number
        scores: dict[Method, list[_Score]] = {
            "conjunctions": _taught(agreement[number].features(coins, number), coins, number, seed=coin),
            "nearest": _taught(np.stack(nearest.distances[number]), coins, number, seed=coin),
            "noisy counts": _from_counts(white_box, coins, number, seed=coin),
            "attribute": [
                _Score(rule, values.astype(np.float64), False)
                for rule, values in zip(nearest.rules(number), np.stack(nearest.guesses[number]).T, strict=True)
            ],
        }
        items += [
            _item(
                target,
                method,
                scores[method],
                coins,
                claim=claim,
                confidence=confidence,
                items=len(game.targets) * len(methods),
            )
            for method in methods
        ]
    return ShadowResult(
        claim=claim,
        fits=fits,
        targets=game.targets,
        methods=tuple(methods),
        items=tuple(items),
        confidence=confidence,
        advantage_allowed=advantage_allowed(claim),
    )


def _from_counts(white_box: WhiteBox, coins: Coins, target: int, *, seed: int) -> list[_Score]:
    """The likelihood ratio alone, and together with which marginals were chosen."""
    ratio = np.stack(white_box.scores)[:, target]
    scores = [_Score("likelihood ratio", ratio, False)]
    learning = white_box.chosen[: coins.learning.stop]
    seen = sorted({columns for chosen in learning for columns in chosen})
    shares = {columns: sum(columns in chosen for chosen in learning) / len(learning) for columns in seen}
    sometimes = [columns for columns, share in shares.items() if 0.02 < share < 0.98]
    if sometimes:
        choices = np.array([[columns in chosen for columns in sometimes] for chosen in white_box.chosen], dtype=float)
        taught = _taught(np.column_stack([ratio, choices]), coins, target, seed=seed)
        scores += [
            replace(score, rule="likelihood ratio and choice of marginals")
            for score in taught
            if score.rule == CAUTIOUS
        ]
    return scores
