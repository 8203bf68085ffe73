"""Runs the registered attacks, each on its own random stream, and gives their results in a fixed order.

Each attack is run twice: on the synthetic table, and on a table of the same size that leaks on purpose. What it finds
in the first means little if it finds nothing in the second. The leaky table is the same for all attacks, so that what
they have in common, the distances between all rows, is computed once for each of the two tables.

Where a side has more than 1,000 persons, the leaky table is first asked about a random choice of so many of them (2,500
where persons are ranked). It is as dense as the table under attack, so nobody is easier to find there; with fewer persons
only the intervals are wider, and what shows a leak all the same shows it with all of them too. Where it is missed, or seen so faintly that a policy's
threshold could lie above it, the attack is run with all persons, and what it finds then counts. Attacks for which a
smaller crowd is easier prey always have all persons: see `CROWDED`.

Attacks run two at a time. Nothing depends on which ones: each has random streams of its own.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import SimpleQueue

import numpy as np

from attacks import reconstruction, record_linkage, vulnerable
from attacks.attribute import AttributeInference
from attacks.base import (
    ALPHA,
    Attack,
    AttackResult,
    Finding,
    Measure,
    PositiveControl,
    holm,
    more_persons,
)
from attacks.ceilings import Unproven
from attacks.distances import one_thread
from attacks.exact_match import ExactMatch
from attacks.linkage import Linkage
from attacks.membership import Membership
from attacks.nearest_record import NearestRecord
from attacks.people import BoolVector, People, Rows
from attacks.reconstruction import Reconstruction
from attacks.record_linkage import RecordLinkage
from attacks.register import Exposed, Register
from attacks.singling_out import SinglingOut
from attacks.vulnerable import VulnerableRecords
from dpsynth import Cost, Records, ReviewSample, attack_generator

ATTACKS: dict[str, Attack] = {
    attack.id: attack
    for attack in (
        ExactMatch(),
        NearestRecord(),
        VulnerableRecords(),
        Membership(),
        Linkage(),
        RecordLinkage(),
        SinglingOut(),
        AttributeInference(),
        Reconstruction(),
    )
}

FEWEST_FIT = 20  # persons; with fewer, intervals say nothing
FEWEST_CONTROL = 40
MOST_ROWS = 10_000  # on each side and in the synthetic table, for attacks that compare all pairs
CONTROL_PERSONS = 1000  # on each side, about whom the leaky copy is first asked
RANKED_PERSONS = 2500  # the same for `RANKED`
RANKED = ("vulnerable_records",)  # a rank among fewer persons cannot pass the correction for all attacks
CROWDED = ("exact_match", "singling_out", "reconstruction")  # fewer persons are easier to tell apart, or to add up
CLEAR = (
    0.1  # beyond chance, the largest threshold of the shipped policies: a control with some persons has to show more
)
MOST_ASKED = {  # rows on each side, of attacks that have a limit of their own
    "record_linkage": record_linkage.MOST_ROWS,
    "reconstruction": reconstruction.MOST_USERS,
}
MOST_CONTROLS = {"vulnerable_records": vulnerable.RANKED}  # persons held back, of an attack that has a limit of its own
WORKERS = 2  # attacks that run at a time
STARTED = (
    "nearest_record",
    "vulnerable_records",
    "exact_match",
    "membership",
    "linkage",
    "attribute_inference",
    "singling_out",
    "record_linkage",
    "reconstruction",
)
"""The order in which attacks are started: short ones last, so that no worker ends long before the other. The first one
computes distances that most wait for; the two after it, which are long where tables are, need none of them."""
WHOLE = ("exact_match", "vulnerable_records")  # attacks that use all rows and all persons


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """What the suite measured. Class P3.

    Args:
        results: One for each attack, in the order of `ATTACKS`.
        seed: Of the attacks' random choices; it has nothing to do with the noise of the release.
        register: Who was exposed to which attack, and which groups more than others.
    """

    results: tuple[AttackResult, ...]
    seed: int
    register: Register = field(default_factory=Register, compare=False)

    def __iter__(self) -> Iterator[AttackResult]:
        return iter(self.results)

    def __getitem__(self, attack: str) -> AttackResult:
        return next(result for result in self.results if result.id == attack)

    @property
    def leaks(self) -> tuple[str, ...]:
        """Attacks that showed a leak; false with a chance of at most 5 in 100 for all of them together."""
        return tuple(result.id for result in self.results if result.leak)


@one_thread
def run_suite(
    sample: ReviewSample,
    synthetic: Records,
    *,
    focal: Sequence[tuple[str, ...]] = (),
    cost: Cost | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> SuiteResult:
    """Attacks a synthetic table with everything in `ATTACKS`.

    Args:
        sample: Persons whose rows were fitted, and persons held back by a coin each.
        synthetic: The table under attack, with the same schema.
        focal: Sets of column names that the release is known to have measured: an attacker who reads the model knows.
        cost: What the release declares to have cost one person; results get their ceilings from it.
        seed: Seed of the attacks' random choices.
        progress: Called with the id of each attack before it starts.
    Returns:
        Results that do not depend on the order of rows, columns or persons. Tables with more than 10,000 rows are
        attacked through a random choice of their rows and persons, except by the attacks in `WHOLE`.
    """
    people = People.of(sample, rng=stream(seed, "people"))
    released = Rows.of(synthetic).sorted()
    gap = _gap(people, released)
    tell = progress or (lambda name: None)
    if gap is not None:
        for name in STARTED:
            tell(name)
        blanks = [
            replace(_blank(attack), status="incomplete", note=gap[0], needs=gap[1]) for attack in ATTACKS.values()
        ]
        return SuiteResult(results=tuple(blanks), seed=seed)
    few = people.at_most(MOST_ROWS, stream(seed, "limit"))
    fewer = released.at_most(MOST_ROWS, stream(seed, "limit", "synthetic"))
    controls = {
        (id(asked), id(table)): _Leaky(asked, table, seed) for asked, table in ((few, fewer), (people, released))
    }
    started: SimpleQueue[None] = SimpleQueue()

    def attacked(attack: Attack) -> tuple[AttackResult, Exposed | None]:
        started.put(None)
        asked, table = (people, released) if attack.id in WHOLE else (few, fewer)
        if isinstance(attack, Membership):
            attack = replace(attack, focal=tuple(focal))
        result, hits = _attacked(
            attack, asked, table, controls[id(asked), id(table)], cost, seed, room=_Room.of(attack.id, people)
        )
        if hits is None:
            return result, None
        return result, Exposed.of(attack.id, asked, hits, holds_reference=attack.holds_reference)

    pool = ThreadPoolExecutor(max_workers=WORKERS)
    try:
        running = {name: pool.submit(attacked, ATTACKS[name]) for name in STARTED}
        for name in STARTED:
            started.get()
            tell(name)
        found = [running[name].result() for name in ATTACKS]
    finally:
        pool.shutdown(cancel_futures=True)
    results = _corrected([result for result, _ in found])
    register = Register.of([exposed for _, exposed in found if exposed is not None])
    return SuiteResult(results=tuple(results), seed=seed, register=register)


@dataclass(frozen=True, kw_only=True)
class _Room:
    """How many times as many persons as there are an attack would look at: 1 where it looks at a random part by now.

    Args:
        people: All there are.
        fit, control: The factor of each side, at least 1.
    """

    people: People
    fit: float
    control: float

    @classmethod
    def of(cls, attack: str, people: People) -> _Room:
        """What the limits of an attack, in rows and in persons, leave."""
        rows = math.inf if attack in WHOLE else MOST_ASKED.get(attack, MOST_ROWS)
        fit, control = (rows / len(side.rows) for side in (people.fit, people.control))
        control = min(control, MOST_CONTROLS.get(attack, math.inf) / people.control.persons)
        return cls(people=people, fit=max(1.0, fit), control=max(1.0, control))

    def limits(self, measure: Measure) -> Measure:
        """The measure with the most trials that each of its sides could stand on."""
        fit, control = measure.fit, measure.control
        if fit is None or control is None:
            return measure
        return measure.limited(min(fit.most, fit.trials * self.fit), min(control.most, control.trials * self.control))

    def more(self) -> str:
        """A leak that this many persons do not show may show with four times as many: intervals would be half as wide."""
        fit, control = (
            round((min(4.0, factor) - 1) * side.persons)
            for factor, side in ((self.fit, self.people.fit), (self.control, self.people.control))
        )
        if control and fit:
            return more_persons(control)
        if control:
            return f"needs about {control:,} more control persons"
        if fit:
            return f"needs about {fit:,} more fitted persons"
        return "looks at too few persons to see this, however many there are: a random part of them"


class _Leaky:
    """A table that leaks on purpose, made when it is first asked for; the attacks of all threads get the same one."""

    def __init__(self, people: People, table: Rows, seed: int) -> None:
        self.people = people
        self._rows, self._seed = len(table), seed
        self._lock = threading.Lock()
        self._table: Rows | None = None
        self._some: dict[int, People] = {}

    @property
    def table(self) -> Rows:
        """Rows of all fitted persons, as many as the table under attack has."""
        with self._lock:
            if self._table is None:
                self._table = _copied(self.people, self._rows, stream(self._seed, "leaky copy"))
            return self._table

    def some(self, attack: str) -> People:
        """A random choice of the persons, as many as an attack is first asked about; all of them where they are few."""
        number = RANKED_PERSONS if attack in RANKED else CONTROL_PERSONS
        with self._lock:
            if number not in self._some:
                self._some[number] = self.people.some(number, stream(self._seed, "leaky copy", "persons"))
            return self._some[number]


def _copied(people: People, rows: int, rng: np.random.Generator) -> Rows:
    """So many rows of fitted persons, drawn with replacement."""
    return people.fit.rows.take(rng.integers(len(people.fit.rows), size=rows)).sorted()


def stream(seed: int, *purpose: str) -> np.random.Generator:
    """A random stream of its own for each purpose, so that adding an attack changes no other's choices."""
    digest = hashlib.sha256("\0".join(purpose).encode()).digest()
    return attack_generator(seed, int.from_bytes(digest[:8], "big"))


def _gap(people: People, released: Rows) -> tuple[str, str] | None:
    """Why nothing can be attacked, and what it would take."""
    if not released.columns:
        return "the schema has no column to attack", "a column that is modelled"
    if not len(released):
        return "the synthetic table has no rows", "a synthetic table with rows"
    if people.fit.persons < FEWEST_FIT:
        more = FEWEST_FIT - people.fit.persons
        return "too few fitted persons to judge", f"needs about {more} more fitted persons"
    if people.control.persons < FEWEST_CONTROL:
        more = FEWEST_CONTROL - people.control.persons
        return "too few control persons to judge", f"needs about {more} more control persons"
    return None


def _blank(attack: Attack) -> AttackResult:
    return AttackResult(
        id=attack.id,
        criterion=attack.criterion,
        threat=attack.threat,
        measure=attack.measure,
        status="incomplete",
        fail_only=attack.fail_only,
        two_sided=attack.two_sided,
        chance=0.5 if attack.two_sided else 0.0,
    )


def _attacked(
    attack: Attack, people: People, table: Rows, leaky: _Leaky, cost: Cost | None, seed: int, *, room: _Room
) -> tuple[AttackResult, tuple[BoolVector, BoolVector] | None]:
    """The result, and on whom the attack succeeded."""
    blank = _blank(attack)
    found = attack.run(people, table, rng=stream(seed, attack.id))
    if cost is not None:
        found = found.under(cost)
    if found.gap is not None:
        needs = found.gap.needs
        if needs is None and found.gap.status == "incomplete":
            needs = room.more()
        return replace(blank, status=found.gap.status, note=found.gap.reason, needs=needs), None
    without = attack.without(people, rng=stream(seed, attack.id, "without"))
    control = _controlled(attack, leaky, seed)
    variants = {name: room.limits(measure) for name, measure in found.variants.items()}
    strongest, estimate, interval = found.headline(two_sided=attack.two_sided)
    measure = variants[strongest]
    blind = control is None or not control.detected
    result = replace(
        blank,
        measure=f"{attack.measure}: {strongest}" if len(found.variants) > 1 else attack.measure,
        status="incomplete" if blind else "measured",
        estimate=estimate,
        interval=interval,
        fit=measure.fit,
        control=measure.control,
        baseline=without.get(strongest, measure.chance if measure.control is None else measure.control.value),
        positive_control=control,
        n=measure.persons,
        trials=found.trials,
        p_value=found.p_value,
        measures={**variants, **found.figures},
        variants=tuple(variants),
        omitted=found.omitted,
        controls=people.control.persons,
        to_look_at=found.to_look_at,
        note="; ".join(filter(None, [found.warning, _BLIND if blind else ""])),
        needs=room.more() if blind else None,
        ceiling=measure.ceiling,
        floor=measure.floor,
        no_ceiling=measure.bound.reason if cost is not None and isinstance(measure.bound, Unproven) else "",
    )
    if result.above_ceiling:
        result = replace(result, note="; ".join(filter(None, [result.note, _ABOVE])))
    return result, found.exposed


_ABOVE = "the attack found more than the declared guarantee allows: look for a mistake"
_BLIND = "this attack does not see even a copy of the fitted rows, so finding nothing says nothing"


def _controlled(attack: Attack, leaky: _Leaky, seed: int) -> PositiveControl | None:
    """What the attack finds in a table that leaks on purpose: about some persons if that is enough, else about all."""
    if attack.id not in CROWDED and (some := leaky.some(attack.id)) is not leaky.people:
        seen = attack.run(some, leaky.table, rng=stream(seed, attack.id, "leaky copy", "persons"))
        control = _positive_control(attack, seen)
        if control is not None and control.detected and control.interval.low > _blank(attack).chance + CLEAR:
            return control
    seen = attack.run(leaky.people, leaky.table, rng=stream(seed, attack.id, "leaky copy"))
    return _positive_control(attack, seen)


def _positive_control(attack: Attack, seen: Finding) -> PositiveControl | None:
    if seen.gap is not None or seen.p_value is None:
        return None
    _, estimate, interval = seen.headline(two_sided=attack.two_sided)
    chance = 0.5 if attack.two_sided else 0.0
    detected = seen.p_value < ALPHA / len(ATTACKS) and interval.low > chance
    return PositiveControl(estimate=estimate, interval=interval, p_value=seen.p_value, detected=detected)


def _corrected(results: list[AttackResult]) -> list[AttackResult]:
    """Corrects the p-values for the number of attacks; all of them count, those that could not be run included."""
    adjusted = iter(holm([1.0 if result.p_value is None else result.p_value for result in results]))
    return [
        replace(result, p_adjusted=p) if result.p_value is not None else result
        for result, p in zip(results, adjusted, strict=True)
    ]
