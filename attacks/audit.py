"""The audit of a generator that can be run again: a fixed plan of games, what they showed, and a verdict.

The plan follows from the generator, the number of fits and the schema before the first run: which games are played, how
many fits each gets, and how the error of one in a thousand is shared out (Bonferroni) over everything that can fail. So
a true claim fails with a chance of at most 1 in 1,000, whatever is played.

    fail         some item contradicts the claim. Nothing waives that.
    incomplete   no item does, but in some game not even a perfect attacker could have done so with so many fits, or the
                 attacker of that game did not catch a generator that copies its rows.
    pass         every game could have contradicted the claim, and none did: not contradicted, never "verified".

The one-run item can fail, and never keeps an audit from passing: it attacks nothing that the other games do not.

Without data of the user everything is made from the schema: class P0. What is learned from real rows is class P3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from attacks.canary import (
    FEWEST_FITS,
    CanaryResult,
    Claim,
    Conjunctions,
    NoisyCounts,
    play,
    play_all,
)
from attacks.fits import fits_for, fits_of_perfect
from attacks.generators import Generator, claim_of
from attacks.leaky import LittleNoise, copying, one_column
from attacks.neighbours import Pair, worst_cases
from attacks.one_run import OneRunResult, audit_one_run
from attacks.shadow import FEWEST_FITS as FEWEST_OF_RECORDS
from attacks.shadow import Method, ShadowResult, audit_records, runs_counted
from attacks.shadow_game import Reason
from attacks.staging import Finder, OnStage, staged
from dpsynth import OperationError, Records, Schema, Table, Trial, UsageError, attack_generator, read_for_attack

if TYPE_CHECKING:
    import pandas as pd

Status: TypeAlias = Literal["pass", "fail", "incomplete"]
Tell: TypeAlias = Callable[[str], None]

ERROR = 0.001
"""Chance that a true claim fails, over all items of an audit together."""
ROWS = 200
"""Rows of the worst-case tables."""
ATTACKERS = {"noisy_counts": "reads the noisy counts", "rows": "reads the synthetic rows"}
LEAKS = {"noisy_counts": "a tenth of the noise", "rows": "a generator that copies its rows"}
WEAK_LEAK = "one leaked column"
ONE_RUN, RECORDS = "one_run", "records"
WITHOUT_CONTROL = (ONE_RUN, f"{RECORDS}.noisy_counts")  # may fail an audit, and are never a reason for a pass
ONE_RUN_SHARE, MOST_ONE_RUN = 50, 20


@dataclass(frozen=True, kw_only=True)
class SmallLeak:
    """What the attacker of an item made of a small leak: to be read, never a reason for a pass or against one.

    Args:
        leak: What was planted, in words.
        seen: Whether it contradicted the claim, too.
        low: Lower bound on epsilon that it showed, with the confidence of the item.
    """

    leak: str
    seen: bool
    low: float

    def __str__(self) -> str:
        return f"{self.leak}: {'seen' if self.seen else 'not seen by this mode'}"


@dataclass(frozen=True, kw_only=True)
class AuditItem:
    """One attacker in one game.

    Args:
        id: Kind of game, game, attacker.
        privacy_class: P0 from tables made of the schema, P3 from real rows.
        status: What it says about the claim.
        estimate: Point estimate of epsilon at the claim's delta; None where the rates leave none.
        low: Lower bound on epsilon at the claim's delta, with `confidence`.
        confidence: Chance that this bound holds; those of all items hold together with 1 - `ERROR`.
        n: Fits.
        claim: The epsilon that was claimed.
        ceiling: The largest epsilon that an attacker who never errs could have shown with so many fits.
        needs: Fits of a whole audit with which this item could contradict the claim; None if it can, or if a million do
            not suffice.
        sentence: All of it in words.
        power: What a leak of one column would have looked like; None where it was not tried.
    """

    id: str
    privacy_class: Literal["P0", "P3"]
    status: Status
    estimate: float | None
    low: float
    confidence: float
    n: int
    claim: float
    ceiling: float
    needs: int | None
    sentence: str
    power: SmallLeak | None = None

    def to_json(self) -> dict[str, Any]:
        """The item as the command shows it. There is no upper end: nobody can certify one."""
        return {
            "id": self.id,
            "class": self.privacy_class,
            "status": self.status,
            "measure": "epsilon",
            "estimate": self.estimate,
            "low": self.low,
            "high": None,
            "confidence": self.confidence,
            "n": self.n,
            "claim": self.claim,
            "ceiling": self.ceiling,
            "needs": self.needs,
            "power": None if self.power is None else vars(self.power),
            "sentence": self.sentence,
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be played, fixed before the first run.

    Args:
        fits: Fits by game.
        left_out: Games that the user left out; "noisy_counts", if nobody can read them because discovery makes their cells.
        errors: How likely a true claim may be to fail, by game.
        attackers: How many share the error of one worst-case game.
    """

    fits: Mapping[str, int]
    left_out: tuple[str, ...]
    errors: Mapping[str, float]
    attackers: int

    @property
    def total(self) -> int:
        """Of all fits."""
        return sum(self.fits.values())

    def confidence(self, game: str) -> float:
        """Of one attacker in a worst-case game; of all attackers and persons together in the game of real rows."""
        return 1 - self.errors[game] / (1 if game == RECORDS else self.attackers)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What an audit found.

    Args:
        generator: Its name.
        claim: What it promised.
        plan: What was played.
        items: What came out, in the order of the plan.
        persons: How many real persons were attacked, shown to leak, and beyond the claim, by why they were chosen; empty
            without real rows. Class P3.
    """

    generator: str
    claim: Claim
    plan: Plan
    items: tuple[AuditItem, ...]
    persons: Mapping[Reason, Mapping[str, int]] = field(default_factory=dict)

    @property
    def verdict(self) -> Status:
        """By the rule at the head of this module."""
        if any(item.status == "fail" for item in self.items):
            return "fail"
        needed = [item for item in self.items if not item.id.startswith(WITHOUT_CONTROL)]
        complete = bool(needed) and all(item.status == "pass" for item in needed)
        return "pass" if complete else "incomplete"

    @property
    def confidence(self) -> float:
        """Chance that the bounds of all items hold together."""
        return 1 - ERROR

    @property
    def privacy_class(self) -> Literal["P0", "P3"]:
        """P3 as soon as one item is."""
        return "P3" if any(item.privacy_class == "P3" for item in self.items) else "P0"

    def to_json(self) -> dict[str, Any]:
        """The result for machines."""
        return {
            "verdict": self.verdict,
            "class": self.privacy_class,
            "generator": self.generator,
            "claim": self.claim.to_json(),
            "confidence": self.confidence,
            "fits": dict(self.plan.fits),
            "left_out": list(self.plan.left_out),
            "audits": [item.to_json() for item in self.items],
            "persons": {reason: dict(counts) for reason, counts in self.persons.items()},
        }


# ---- the plan ----------------------------------------------------------------------------------------------------


def games_of(schema: Schema, *, rows: int = ROWS, skip: Sequence[str] = ()) -> tuple[list[Pair], list[str]]:
    """The worst-case tables that are played, and the names of those left out.

    Raises:
        UsageError: there is no game of that name, or none would be left.
    """
    everything = {game_name(pair): pair for pair in worst_cases(schema, rows=rows)}
    wrong = sorted(set(skip) - everything.keys())
    if wrong:
        raise UsageError(f"there is no game {wrong[0]!r} for this schema: it has {', '.join(everything)}")
    played = [pair for name, pair in everything.items() if name not in skip]
    if not played:
        raise UsageError("--skip leaves no game: take one of them back")
    return played, [name for name in everything if name in skip]


def plan_of(
    pairs: Sequence[Pair], *, fits: int, with_counts: bool, with_records: bool = False, left_out: Sequence[str] = ()
) -> Plan:
    """Who gets how many fits, and how much of the error.

    Half of both goes to real rows, if there are any. Of the rest the one-run game gets a fiftieth of all fits, at least
    one and at most 20, and every pair of worst-case tables as many as every other; the error is shared equally.

    Args:
        with_counts: Whether the generator shows its noisy counts.
        with_records: Whether there are real rows.

    Raises:
        UsageError: there are too few fits.
    """
    share = 2 if with_records else 1
    least = max((FEWEST_FITS * len(pairs) + 1) * share, FEWEST_OF_RECORDS * share if with_records else 0)
    one_run = min(max(fits // ONE_RUN_SHARE, 1), MOST_ONE_RUN)
    each = (fits // share - one_run) // len(pairs) // 2 * 2
    if fits < least or each < FEWEST_FITS:
        raise UsageError(f"--fits must be at least {least} for this schema and generator")
    parts = {game_name(pair): each for pair in pairs} | {ONE_RUN: one_run}
    errors = dict.fromkeys(parts, ERROR / share / len(parts))
    if with_records:
        parts[RECORDS], errors[RECORDS] = fits - sum(parts.values()), ERROR / share
    return Plan(fits=parts, left_out=tuple(left_out), errors=errors, attackers=2 if with_counts else 1)


def attackers_of(generator: Generator, pair: Pair) -> dict[str, Any]:
    """Who attacks a worst-case game: our own generators show their noisy counts, all show their rows."""
    rows = {"rows": Finder(pair) if isinstance(generator, OnStage) else Conjunctions(pair)}
    return rows if generator.cost is None else {"noisy_counts": NoisyCounts(pair), **rows}


def game_name(pair: Pair) -> str:
    """As it stands in ids and on the command line."""
    return pair.name.replace(" ", "_")


# ---- the audit ---------------------------------------------------------------------------------------------------


def audit_generator(
    generator: Generator,
    *,
    fits: int,
    frame: pd.DataFrame | None = None,
    skip: Sequence[str] = (),
    rows: int = ROWS,
    seed: int = 0,
    progress: Tell = lambda stage: None,
) -> Audit:
    """Plays the whole plan; where the schema leaves columns to discover, on a stage of made-up values (`staging`).

    Args:
        fits: Runs of the generator, over all games together; two more a game look whether it runs at all.
        frame: The real table, as a data file of the schema holds it; then half of the fits attack the most exposed
            persons in it, and the result is as private as they are (class P3).
        skip: Games of worst-case tables to leave out; the result names them.
        rows: Rows of the worst-case tables.
        seed: Of the attacks' own coins. The generator's noise has none.
        progress: Told how far it is, in words that quote no private number.
    Raises:
        UsageError: too few fits, or a game to leave out that there is not.
        IncompleteSchema: there are real rows, and their schema leaves something to discover.
        OperationError: the generator failed.
    """
    if frame is not None:
        generator.schema.require_closed()
    unread = ["noisy_counts"] if generator.schema.is_open else []
    generator = staged(generator)
    pairs, left_out = games_of(generator.schema, rows=rows, skip=skip)
    plan = plan_of(
        pairs,
        fits=fits,
        with_counts=generator.cost is not None,
        with_records=frame is not None,
        left_out=left_out + unread,
    )
    claim = claim_of(generator)
    probes = {pair.name: _probed(generator, pair, progress) for pair in pairs}
    items: list[AuditItem] = []
    for number, pair in enumerate(pairs):
        items += _worst_case(generator, pair, probes[pair.name], plan, (seed, number), progress)
    items += _one_run(generator, plan, rows, (seed, len(pairs)), progress)
    persons: Mapping[Reason, Mapping[str, int]] = {}
    if frame is not None:
        found, persons = _records(generator, frame, plan, seed, progress)
        items += found
    return Audit(generator=generator.name, claim=claim, plan=plan, items=tuple(items), persons=persons)


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """What one run on the table with the person looked like; its rows are forgotten."""

    rows: int
    trial: Trial


def _probed(generator: Generator, pair: Pair, progress: Tell) -> _Probe:
    """Runs the generator once on each table, before hours are spent on one of them."""
    progress(f"trying the game {game_name(pair)}")
    try:
        generator.run(pair.absent)
        trial = generator.run(pair.present)
    except OperationError as error:
        raise OperationError(
            f"{error}; this was the game {game_name(pair)}, on a table of {len(pair.bulk)} rows with and without one "
            f"person more: --skip {game_name(pair)} leaves it out"
        ) from None
    kept = replace(trial, rows=Records.empty(trial.rows.schema))
    return _Probe(rows=len(trial.rows), trial=kept)


def _worst_case(
    generator: Generator, pair: Pair, probe: _Probe, plan: Plan, seed: tuple[int, ...], progress: Tell
) -> list[AuditItem]:
    """One pair of worst-case tables, with all attackers on the same fits."""
    game, claim = game_name(pair), claim_of(generator)
    fits, confidence = plan.fits[game], plan.confidence(game)
    attackers = attackers_of(generator, pair)
    results = play_all(
        pair,
        generator.run,
        attackers,
        claim=claim,
        fits=fits,
        confidence=confidence,
        progress=_every_tenth(progress, f"playing {game}", fits),
    )
    controls: dict[str, Callable[[pd.DataFrame], Trial]] = {
        "noisy_counts": LittleNoise(pair, probe.trial, seed).run,
        "rows": copying(pair.schema, rows=max(probe.rows, 1), seed=seed).run,
    }
    items = []
    for name, result in results.items():
        progress(f"playing {game} against a generator that leaks, for {name}")
        control = play(pair, controls[name], attackers[name], claim=claim, fits=fits, confidence=confidence)
        longer = control
        if result.conclusive and not control.exceeds:  # only to say how many fits would do
            longer = play(pair, controls[name], attackers[name], claim=claim, fits=4 * fits, confidence=confidence)
        power = None
        if name == "rows" and result.conclusive:
            weak = one_column(pair.schema, pair.bulk, rows=max(probe.rows, 1), seed=seed)
            shown = play(pair, weak.run, attackers[name], claim=claim, fits=fits, confidence=confidence)
            power = SmallLeak(leak=WEAK_LEAK, seen=shown.exceeds, low=shown.epsilon)
        items.append(_judged(f"worst_case.{game}.{name}", name, result, control, longer, plan, power))
    return items


def _one_run(generator: Generator, plan: Plan, rows: int, seed: Sequence[int], progress: Tell) -> list[AuditItem]:
    """Many planted persons at once, in few runs."""
    progress("playing one_run")
    results = audit_one_run(
        generator.schema,
        generator.run,
        claim=claim_of(generator),
        rows=rows,
        fits=plan.fits[ONE_RUN],
        seed=int(attack_generator(*seed).integers(2**31)),
        confidence=plan.confidence(ONE_RUN),
    )
    return [_judged_one_run(result) for result in results.values()]


def _every_tenth(progress: Tell, what: str, fits: int) -> Callable[[int], None]:
    step = max(fits // 10, 1)
    told = 0

    def tell(done: int) -> None:
        nonlocal told
        if done // step > told:
            told = done // step
            progress(f"{what}: {done} of {fits} fits")

    return tell


def _records(
    generator: Generator, frame: pd.DataFrame, plan: Plan, seed: int, progress: Tell
) -> tuple[list[AuditItem], Mapping[Reason, Mapping[str, int]]]:
    """The most exposed persons of a real table, each in or out by a coin.

    Returns:
        An item for each way to attack them, and counts of persons by why they were chosen.
    """
    fits, claim = plan.fits[RECORDS], claim_of(generator)

    def played(who: Generator, what: str) -> ShadowResult:
        return audit_records(
            frame,
            who,
            claim=claim,
            fits=fits,
            seed=seed,
            confidence=plan.confidence(RECORDS),
            progress=_every_tenth(progress, what, fits),
        )

    probe = _probed_rows(generator, frame)
    result = played(generator, "attacking real persons")
    control = played(copying(generator.schema, rows=probe, seed=(seed, 3)), "attacking them where rows are copied")
    if not result.conclusive:
        return [_judged_records(result, control, None, method, plan) for method in result.methods], result.counts()
    everybody = Table.encode(read_for_attack(frame, generator.schema).records).codes
    column = one_column(generator.schema, everybody, rows=probe, seed=(seed, 3))
    weak = played(column, f"attacking them for {WEAK_LEAK}")
    return [_judged_records(result, control, weak, method, plan) for method in result.methods], result.counts()


def _probed_rows(generator: Generator, frame: pd.DataFrame) -> int:
    """How many rows the generator writes for the whole table."""
    return max(len(generator.run(frame).rows), 1)


# ---- judging -----------------------------------------------------------------------------------------------------


def _judged(
    id: str,
    attacker: str,
    found: CanaryResult,
    control: CanaryResult,
    longer: CanaryResult,
    plan: Plan,
    power: SmallLeak | None = None,
) -> AuditItem:
    """What one attacker's result says about the claim, beside what he made of a generator that leaks.

    Args:
        control: The generator that leaks, with as many fits.
        longer: The same with enough fits to know its rates.
        power: What he made of a small leak; decides nothing.
    """
    claim, confidence = found.claim, found.confidence
    reads, leak = ATTACKERS[attacker], LEAKS[attacker]
    of_all = plan.total / found.fits
    could = found.conclusive and control.exceeds
    needs: int | None = None
    if found.exceeds:
        status: Status = "fail"
        said = f"CONTRADICTED: an attacker who {reads} shows {_shown(found)}; {_claimed(claim)} was claimed"
    elif could:
        status = "pass"
        said = (
            f"not contradicted: an attacker who {reads} shows {_shown(found)}, and up to {found.ceiling:.2f} could have "
            f"been shown; {leak} was caught"
        )
    else:
        status = "incomplete"
        needed = (
            fits_for(claim, longer, more_than=found.fits, confidence=confidence)
            if found.conclusive
            else fits_of_perfect(claim, more_than=found.fits, confidence=confidence)
        )
        needs = None if needed is None else math.ceil(needed * of_all)
        why = (
            f"{leak} would not have been caught by an attacker who {reads}"
            if found.conclusive
            else f"so many fits can show at most epsilon {found.ceiling:.2f}, and {_claimed(claim)} was claimed"
        )
        said = f"incomplete: {why}; {_more(needs)}"
    return AuditItem(
        id=id,
        privacy_class=found.privacy_class,
        status=status,
        estimate=found.estimate if math.isfinite(found.estimate) else None,
        low=found.epsilon,
        confidence=found.confidence,
        n=found.fits,
        claim=claim.epsilon,
        ceiling=found.ceiling,
        needs=needs,
        sentence=_with_power(said, status, power),
        power=power,
    )


def _judged_one_run(found: OneRunResult) -> AuditItem:
    """What guesses about many planted persons say about the claim."""
    claim, who = found.claim, f"an attacker who reads the {found.attacker}"
    guessed = f"guesses {found.best} of {found.guesses} coins rightly: epsilon of at least {found.epsilon:.2f}"
    if found.exceeds:
        status: Status = "fail"
        said = f"CONTRADICTED: {who} {guessed}; {_claimed(claim)} was claimed"
    elif found.conclusive:
        status = "pass"
        said = f"not contradicted: {who} {guessed}, and up to {found.ceiling:.2f} could have been shown"
    else:
        status = "incomplete"
        said = f"incomplete: so many coins can show at most epsilon {found.ceiling:.2f}; this game decides no verdict"
    return AuditItem(
        id=f"{ONE_RUN}.{'rows' if found.attacker == 'synthetic rows' else found.attacker.replace(' ', '_')}",
        privacy_class=found.privacy_class,
        status=status,
        estimate=found.estimate,
        low=found.epsilon,
        confidence=found.confidence,
        n=found.fits,
        claim=claim.epsilon,
        ceiling=found.ceiling,
        needs=None,
        sentence=said,
    )


def _judged_records(
    result: ShadowResult, control: ShadowResult, weak: ShadowResult | None, method: Method, plan: Plan
) -> AuditItem:
    """What one way to attack real persons says about the claim: the worst of them stands for all."""
    claim, worst, items = result.claim, result.worst(method), result.of(method)
    who = f"an attacker of {len(items)} exposed persons ({method})"
    shown = f"epsilon of at least {worst.epsilon:.2f}"
    conclusive = all(item.conclusive for item in items)
    controlled = method in control.methods
    caught = controlled and any(item.exceeds for item in control.of(method))
    power = None
    if weak is not None and method in weak.methods:
        planted = weak.of(method)
        power = SmallLeak(leak=WEAK_LEAK, seen=any(i.exceeds for i in planted), low=max(i.epsilon for i in planted))
    needs: int | None = None
    if any(item.exceeds for item in items):
        status: Status = "fail"
        said = f"CONTRADICTED: {who} shows {shown}; {_claimed(claim)} was claimed"
    elif conclusive and not controlled:
        status = "incomplete"
        said = f"not contradicted: {who} shows {shown}; without a generator that leaks beside it this decides no pass"
    elif conclusive and caught:
        status = "pass"
        said = (
            f"not contradicted: {who} shows {shown}, and up to {worst.ceiling:.2f} could have been shown; "
            f"{LEAKS['rows']} was caught"
        )
    else:
        status = "incomplete"
        needed = (
            fits_for(
                claim,
                control.worst(method),
                more_than=result.fits,
                confidence=worst.confidence,
                counted=runs_counted,
            )
            if conclusive
            else fits_of_perfect(claim, more_than=result.fits, confidence=worst.confidence, counted=runs_counted)
        )
        needs = None if needed is None else math.ceil(needed * plan.total / result.fits)
        why = (
            f"{LEAKS['rows']} would not have been caught"
            if conclusive
            else f"so many fits can show at most epsilon {worst.ceiling:.2f}, and {_claimed(claim)} was claimed"
        )
        said = f"incomplete: {why}; {_more(needs)}"
    return AuditItem(
        id=f"{RECORDS}.{method.replace(' ', '_')}",
        privacy_class="P3",
        status=status,
        estimate=worst.estimate if math.isfinite(worst.estimate) else None,
        low=worst.epsilon,
        confidence=worst.confidence,
        n=result.fits,
        claim=claim.epsilon,
        ceiling=worst.ceiling,
        needs=needs,
        sentence=_with_power(said, status, power),
        power=power,
    )


def _more(needs: int | None) -> str:
    return f"it needs about {needs:,} fits in all" if needs else "at these rates not even a million fits would do"


def _with_power(said: str, status: Status, power: SmallLeak | None) -> str:
    """A contradiction needs no word about what else might have been seen."""
    return said if power is None or status == "fail" else f"{said}; {power}"


def _shown(found: CanaryResult) -> str:
    """The bound that decides: of epsilon, or where the curve is contradicted and epsilon is not, of rho."""
    if found.claim.cost is not None and found.exceeds and found.epsilon <= found.claim.epsilon:
        return f"rho of at least {found.rho:.3g}"
    return f"epsilon of at least {found.epsilon:.2f}"


def _claimed(claim: Claim) -> str:
    curve = "" if claim.cost is None or not claim.cost.is_zcdp else f", rho {float(claim.cost.rho):.3g}"
    return f"epsilon {claim.epsilon:g} at delta {claim.delta:g}{curve}"
