"""What an audit could have seen: leaks of known size are planted, and counted is how often they are found.

`measure_power` plants leaks of growing size among persons of the user's own table, or among persons made up from the
schema, attacks every table with the suite, and does the same with tables that leak nothing. `audit_power` plays audits
of mechanisms whose true loss is a known multiple of what they claim. Both answer the question that a clean result
leaves open: would a leak have shown?

With real rows the result is of class P3, with made-up ones of class P0.

Sources: exact intervals, Clopper and Pearson, Biometrika 26 (1934) 404; graded leaks as a test of privacy metrics:
`attacks.planted`. The mechanisms: Gaussian noise, Bun and Steinke, arXiv:1605.02065, Proposition 1.6; the one that
dominates every (epsilon, delta)-DP mechanism, Kairouz, Oh, Viswanath, arXiv:1311.0776.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from attacks.base import ALPHA, AttackResult, holm
from attacks.canary import CONFIDENCE as AUDIT_CONFIDENCE
from attacks.canary import Claim, play
from attacks.distances import one_thread
from attacks.intervals import Interval, clopper_pearson
from attacks.membership import Membership
from attacks.neighbours import worst_cases
from attacks.one_run import contradicted, guesses_for
from attacks.people import People, Rows
from attacks.planted import GRADED, HONEST, MOST_ROWS_EACH, Planted, invented, side
from attacks.suite import ATTACKS, FEWEST_CONTROL, FEWEST_FIT, MOST_ROWS, WHOLE, stream
from dpsynth import Column, PersonRecords, Records, ReviewSample, Schema

if TYPE_CHECKING:
    import pandas as pd

FloatVector: TypeAlias = npt.NDArray[np.float64]
Population: TypeAlias = Schema | PersonRecords

CONFIDENCE = 0.95
NULLS = ("G1", "G2")  # honest tables on which false alarms are counted
FEWEST_RUNS = 5
COPIES = "unique copies"  # the figure of exact match that lists whole rows of one person


# ---- counts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Detection:
    """How often one planted table was called a leak.

    Args:
        id, title: Of the generator.
        leaks: Whether it leaks.
        runs: How many tables were made, each of other persons.
        seen: On how many of them the suite showed a leak, all corrections made.
        by_attack: On how many each attack did, by its name.
        listed: On how many some complete row of one single person was listed, which somebody then has to look at.
    """

    id: str
    title: str
    leaks: bool
    runs: int
    seen: int
    by_attack: Mapping[str, int] = field(default_factory=dict)
    listed: int = 0

    @property
    def rate(self) -> Interval:
        """Where the chance of being seen lies: exact, 95 in 100."""
        return clopper_pearson(self.seen, self.runs, confidence=CONFIDENCE)

    @property
    def by_chance(self) -> bool:
        """Whether so many could be false alarms: the lower end is at most the suite's allowance of 5 in 100."""
        return self.rate.low <= ALPHA

    def __str__(self) -> str:
        low, high = (f"{100 * end:.0f} %" for end in (self.rate.low, self.rate.high))
        seen = f"seen {_times(self.seen)} in {self.runs}"
        if not self.leaks:
            return f"{self.title}: {_alarms(self.seen)} in {self.runs} (at most {high} of such tables)"
        listed = f"; a row listed for a person to look at {_times(self.listed)} in {self.runs}"
        if self.by_chance:
            return f"{self.title}: not by this mode ({seen}{listed})"
        return f"{self.title}: {seen} (at least {low} of such leaks)"


def _most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _times(number: int) -> str:
    return "1 time" if number == 1 else f"{number} times"


def _alarms(number: int) -> str:
    return "1 false alarm" if number == 1 else f"{number} false alarms"


@dataclass(frozen=True, kw_only=True)
class Power:
    """What the suite could have seen on tables of this schema and these sizes.

    Args:
        detections: Of leaks, in growing dose as they were given, then of honest tables.
        fit, control: Persons on each side.
        rows: Rows of the synthetic tables that hold fresh rows.
        asked: Persons on each side that were asked for; more than there were data for if they differ.
        seed: Of all random choices.
        privacy_class: P0 if the persons were made up from the schema, P3 if they are real.
    """

    detections: tuple[Detection, ...]
    fit: int
    control: int
    rows: int
    asked: tuple[int, int]
    seed: int
    privacy_class: Literal["P0", "P3"]

    def __getitem__(self, planted: str) -> Detection:
        return next(detection for detection in self.detections if detection.id == planted)

    @property
    def leaks(self) -> tuple[Detection, ...]:
        return tuple(detection for detection in self.detections if detection.leaks)

    @property
    def honest(self) -> tuple[Detection, ...]:
        return tuple(detection for detection in self.detections if not detection.leaks)

    @property
    def false_alarms(self) -> Detection:
        """All honest tables together."""
        by_attack: Counter[str] = Counter()
        for detection in self.honest:
            by_attack.update(detection.by_attack)
        return Detection(
            id="honest",
            title="honest tables",
            leaks=False,
            runs=sum(detection.runs for detection in self.honest),
            seen=sum(detection.seen for detection in self.honest),
            by_attack=dict(by_attack),
            listed=sum(detection.listed for detection in self.honest),
        )

    @property
    def sentences(self) -> tuple[str, ...]:
        """One for each leak and one for all honest tables."""
        return (*map(str, self.leaks), *([str(self.false_alarms)] if self.honest else []))

    def __str__(self) -> str:
        source = "made up from the schema" if self.privacy_class == "P0" else "of the table"
        lines = [f"What this suite sees with {self.fit} fitted and {self.control} control persons {source}:"]
        if (self.fit, self.control) != self.asked:
            lines.append(
                f"(there were too few persons for {self.asked[0]} and {self.asked[1]}; with these it would see more)"
            )
        lines += [f"- {sentence}" for sentence in self.sentences]
        lines.append("By attack, where any saw something:")
        for detection in self.detections:
            by = ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in _most_first(detection.by_attack))
            if by:
                lines.append(f"- {detection.title}: {by} of {detection.runs}")
        return "\n".join(lines)


# ---- the suite on one table --------------------------------------------------------------------------------------


@one_thread
def results_on(
    sample: ReviewSample, synthetic: Records, *, focal: Sequence[tuple[str, ...]] = (), seed: int = 0
) -> tuple[AttackResult, ...]:
    """What `run_suite` finds, without its positive controls, baselines and notes: half the time.

    Which attacks show a leak is the same (a test compares them); attacks that cannot be run are left out.
    """
    people, released = People.of(sample, rng=stream(seed, "people")), Rows.of(synthetic).sorted()
    if people.fit.persons < FEWEST_FIT or people.control.persons < FEWEST_CONTROL or not len(released):
        return ()
    few = people.at_most(MOST_ROWS, stream(seed, "limit"))
    fewer = released.at_most(MOST_ROWS, stream(seed, "limit", "synthetic"))
    results = []
    for name, attack in ATTACKS.items():
        asked, table = (people, released) if name in WHOLE else (few, fewer)
        if isinstance(attack, Membership):
            attack = replace(attack, focal=tuple(focal))
        found = attack.run(asked, table, rng=stream(seed, name))
        if found.gap is not None:
            continue
        _, estimate, interval = found.headline(two_sided=attack.two_sided)
        result = AttackResult(
            id=name,
            criterion=attack.criterion,
            threat=attack.threat,
            measure=attack.measure,
            status="measured",
            estimate=estimate,
            interval=interval,
            chance=0.5 if attack.two_sided else 0.0,
            trials=found.trials,
            p_value=found.p_value,
            measures={**found.variants, **found.figures},
            variants=tuple(found.variants),
            note=found.warning,
            fail_only=attack.fail_only,
            two_sided=attack.two_sided,
        )
        results.append(result)
    missing = [1.0] * (len(ATTACKS) - len(results))
    adjusted = holm([1.0 if result.p_value is None else result.p_value for result in results] + missing)
    return tuple(replace(result, p_adjusted=p) for result, p in zip(results, adjusted, strict=False))


def lists_a_row(results: Sequence[AttackResult]) -> bool:
    """Whether exact match lists a complete row of one single person."""
    return any(COPIES in result.measures and result.measures[COPIES].estimate > 0 for result in results)


# ---- persons -----------------------------------------------------------------------------------------------------


def _rows_each(population: Population) -> float:
    """How many rows a person has on average."""
    if isinstance(population, Schema):
        return (1 + min(population.unit.max_rows, MOST_ROWS_EACH)) / 2
    return max(len(population.records) / max(population.persons, 1), 1.0)


def _sizes(population: Population, fit: int, control: int, rows: int) -> tuple[int, int, int]:
    """Persons fitted, held back and fresh; fewer of each, in proportion, if there are not enough."""
    fresh = math.ceil(rows / _rows_each(population))
    if isinstance(population, Schema):
        return fit, control, fresh
    share = min(1.0, population.persons / (fit + control + fresh))
    return int(fit * share), int(control * share), int(fresh * share)


def _drawn(
    population: Population, sizes: tuple[int, int, int], rows: int, rng: np.random.Generator
) -> tuple[ReviewSample, Records]:
    """Fit and control persons, and fresh rows of others."""
    everybody = invented(population, sum(sizes), rng) if isinstance(population, Schema) else population
    order = rng.permutation(everybody.persons)
    parts: list[PersonRecords] = []
    for start, size in zip(np.cumsum([0, *sizes[:2]]), sizes, strict=True):
        chosen: npt.NDArray[np.bool_] = np.zeros(everybody.persons, dtype=bool)
        chosen[order[start : start + size]] = True
        parts.append(side(everybody, chosen))
    fresh = parts[2].records
    return ReviewSample(fit=parts[0], control=parts[1]), fresh.take(rng.permutation(len(fresh))[:rows])


T = TypeVar("T")
R = TypeVar("R")


def _each(work: Callable[[T], R], jobs: Sequence[T]) -> Iterator[R]:
    """Two at a time, results in order."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield from pool.map(work, jobs)


# ---- the measurement ---------------------------------------------------------------------------------------------


@one_thread
def measure_power(
    population: Population,
    *,
    fit: int,
    control: int,
    rows: int | None = None,
    runs: int = 50,
    seed: int = 0,
    leaks: Sequence[Planted] = GRADED,
    honest: Sequence[Planted] = tuple(HONEST[name] for name in NULLS),
    progress: Callable[[int, int], None] | None = None,
) -> Power:
    """Plants every leak `runs` times, each time among other persons, and counts how often the suite sees it.

    Args:
        population: Real persons, of whom each run draws fitted, control and fresh ones anew (P3); or a schema, from
            which they are made up (P0).
        fit, control: How many persons a release of this kind has on each side. Real persons have to suffice for both
            and for the fresh rows; if they do not, all three sizes shrink in proportion and the result says so. A
            smaller audit sees less, so the result is then cautious.
        rows: Rows of the synthetic tables; as many as the fitted persons have on average, if not given.
        runs: Tables of each kind. With 50 an exact interval is at most 29 in 100 wide.
        seed: Of all random choices: the same seed gives the same result.
        leaks: What is planted.
        honest: Tables that leak nothing, to count false alarms on.
        progress: Told how many tables have been attacked, and how many there are.
    Raises:
        ValueError: there are too few runs, or too few persons for the suite to say anything.
    """
    if runs < FEWEST_RUNS:
        raise ValueError(f"runs ({runs}) must be at least {FEWEST_RUNS}")
    schema = population if isinstance(population, Schema) else population.records.schema
    wanted = round(fit * _rows_each(population)) if rows is None else rows
    sizes = _sizes(population, fit, control, wanted)
    if sizes[0] < FEWEST_FIT or sizes[1] < FEWEST_CONTROL:
        raise ValueError(
            f"{sizes[0]} fitted and {sizes[1]} control persons are too few: "
            f"at least {FEWEST_FIT} and {FEWEST_CONTROL} are needed"
        )
    planted = [(one, True) for one in leaks if one.applies(schema)]
    planted += [(one, False) for one in honest if one.applies(schema)]
    jobs = [(run, one, bad) for run in range(runs) for one, bad in planted]

    def attacked(job: tuple[int, Planted, bool]) -> tuple[tuple[AttackResult, ...], int]:
        run, one, _ = job
        sample, fresh = _drawn(population, sizes, wanted, stream(seed, "power", str(run)))
        coins = stream(seed, "power", str(run), one.id)
        sample, fresh = one.setting(sample, fresh, coins)
        results = results_on(sample, one(sample, fresh, coins), focal=one.focal(sample), seed=seed + run)
        return results, len(fresh)

    counted = {one.id: Counter[str]() for one, _ in planted}
    seen, listed, longest = Counter[str](), Counter[str](), 0
    for done, (job, (results, length)) in enumerate(zip(jobs, _each(attacked, jobs), strict=True), start=1):
        found = [result.id for result in results if result.leak]
        counted[job[1].id].update(found)
        seen[job[1].id] += bool(found)
        listed[job[1].id] += lists_a_row(results)
        longest = max(longest, length)
        if progress is not None:
            progress(done, len(jobs))
    return Power(
        detections=tuple(
            Detection(
                id=one.id,
                title=one.title,
                leaks=bad,
                runs=runs,
                seen=seen[one.id],
                by_attack=dict(counted[one.id]),
                listed=listed[one.id],
            )
            for one, bad in planted
        ),
        fit=sizes[0],
        control=sizes[1],
        rows=longest,
        asked=(fit, control),
        seed=seed,
        privacy_class="P0" if isinstance(population, Schema) else "P3",
    )


# ---- audits of a mechanism ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Caught:
    """How often an audit contradicted a mechanism that loses `factor` times what it claims.

    Args:
        factor: True loss over claimed loss: of rho where the claim is one, of epsilon otherwise.
        audits: Audits played.
        caught: How many contradicted the claim.
    """

    factor: float
    audits: int
    caught: int

    @property
    def rate(self) -> Interval:
        """Where the chance lies: exact, 95 in 100."""
        return clopper_pearson(self.caught, self.audits, confidence=CONFIDENCE)


@dataclass(frozen=True, kw_only=True)
class AuditPower:
    """What an audit of a claim could have seen. Class P0.

    Args:
        kind: "fits" for one planted person and many fits, "canaries" for many planted persons and one fit.
        trials: How many fits, or canaries.
        claim: What is put to the test.
        confidence: Of the audit: a true claim is contradicted with a chance of at most 1 - confidence.
        caught: By factor, ascending. A factor of 1 is an honest mechanism, which should not be caught.
    """

    kind: Literal["fits", "canaries"]
    trials: int
    claim: Claim
    confidence: float
    caught: tuple[Caught, ...]

    @property
    def smallest_factor(self) -> float | None:
        """The least factor that was caught nine times in ten, as were all larger ones; None if none was."""
        least = None
        for one in reversed(self.caught):
            if one.caught < 0.9 * one.audits:
                break
            least = one.factor
        return least

    @property
    def sentences(self) -> tuple[str, ...]:
        """One for each factor."""
        loss = "rho" if self.claim.cost is not None and self.claim.cost.is_zcdp else "epsilon"
        how = f"{self.trials} fits" if self.kind == "fits" else f"one fit with {self.trials} canaries"
        said = []
        for one in self.caught:
            seen = f"{_times(one.caught)} in {one.audits}"
            what = (
                "an honest mechanism: contradicted" if one.factor == 1 else f"{one.factor:g} times its {loss}: caught"
            )
            said.append(f"{how}, {what} {seen}")
        return tuple(said)

    def __str__(self) -> str:
        return "\n".join(self.sentences)


FACTORS = (1.0, 2.0, 4.0, 10.0, 30.0, 100.0)


def audit_power(
    claim: Claim,
    *,
    fits: int | None = None,
    canaries: int | None = None,
    factors: Sequence[float] = FACTORS,
    audits: int = 50,
    confidence: float = AUDIT_CONFIDENCE,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> AuditPower:
    """Plays audits of mechanisms that lose more than they claim, against an attacker who reads them perfectly.

    Where the claim is a rho, the mechanism adds Gaussian noise that loses `factor` times as much; otherwise it is the
    worst one that is (factor * epsilon, delta)-DP. A many-fit audit is played by the code that plays
    real ones (`attacks.canary.play`), a one-run audit by its rule (`attacks.one_run`), each canary with noise of its
    own. Real programs add selection, sampling and canaries that share noise, so real audits see at most this much.

    Args:
        claim: What the mechanism says.
        fits: Runs of the mechanism, half of them with the planted person; or
        canaries: persons planted by a coin each, in one run.
        factors: True loss over claimed loss.
        audits: How many are played for each factor.
        confidence: Of each audit.
        seed: Of all random choices.
        progress: Told how many audits have been played, and how many there are.
    Raises:
        ValueError: neither or both of `fits` and `canaries` are given, or no factor is.
    """
    if (fits is None) == (canaries is None) or not factors:
        raise ValueError("give either fits or canaries, and at least one factor")
    found = []
    for place, factor in enumerate(sorted(factors)):
        rng, caught = stream(seed, "audit power", repr(float(factor))), 0
        for done in range(audits):
            if fits is not None:
                caught += _many_fits(claim, factor, fits, confidence, rng)
            elif canaries is not None:
                caught += _one_run(claim, factor, canaries, confidence, rng)
            if progress is not None:
                progress(place * audits + done + 1, len(factors) * audits)
        found.append(Caught(factor=factor, audits=audits, caught=caught))
    return AuditPower(
        kind="canaries" if fits is None else "fits",
        trials=int(fits or canaries or 0),
        claim=claim,
        confidence=confidence,
        caught=tuple(found),
    )


def _scores(claim: Claim, factor: float, present: npt.NDArray[np.bool_], rng: np.random.Generator) -> FloatVector:
    """The logarithm of the likelihood ratio that a perfect attacker reads off each result."""
    if claim.cost is not None and claim.cost.is_zcdp:
        mu = math.sqrt(2 * float(claim.cost.rho) * factor)
        return mu * (rng.normal(size=len(present)) + mu * (present - 0.5))
    epsilon = claim.epsilon * factor
    certain = rng.random(len(present)) < claim.delta
    truthful = rng.random(len(present)) < 1 / (1 + math.exp(-epsilon))
    side = np.where(present, 1.0, -1.0)
    return np.where(certain, 2 * side, np.where(truthful, side, -side)) * epsilon


@dataclass
class _Game:
    """Stands in for a synthesizer and for the attacker who reads it."""

    claim: Claim
    factor: float
    rng: np.random.Generator

    def __call__(self, frame: pd.DataFrame) -> float:
        return float(_scores(self.claim, self.factor, np.array([len(frame) > 0]), self.rng)[0])

    def observe(self, output: float) -> float:
        return output

    def learn(self, absent: Sequence[float], present: Sequence[float]) -> Sequence[Callable[[float], float]]:
        return (lambda seen: seen,)


def _many_fits(claim: Claim, factor: float, fits: int, confidence: float, rng: np.random.Generator) -> bool:
    game = _Game(claim, factor, rng)
    return play(_NOBODY_ELSE, game, game, claim=claim, fits=fits, confidence=confidence).exceeds


def _one_run(claim: Claim, factor: float, canaries: int, confidence: float, rng: np.random.Generator) -> bool:
    """Half of the guesses are "in", for the highest scores, half are "out", for the lowest."""
    inside = rng.random(canaries) < 0.5
    order = np.argsort(_scores(claim, factor, inside, rng), kind="stable")
    guesses = guesses_for(claim, canaries, confidence=confidence)
    half = guesses // 2
    correct = int((~inside[order[:half]]).sum() + inside[order[canaries - half :]].sum())
    return contradicted(claim, canaries, 2 * half, correct, confidence=confidence)


_NOBODY_ELSE = worst_cases(
    Schema(table="audit", columns=(Column(name="c", type="boolean"),)),
    rows=1,
)[1]
