"""What an attack is, and what it reports.

An attack looks at persons whose rows were fitted and at persons held back by a coin, and counts on how many of each it
succeeds. Its result is the difference. What both sides share is knowledge about the population, and no leak.

Everything here is computed from real rows without noise: class P3, for the internal review only. The attacks that may
be counted for others to see are in `attacks.charged`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeAlias

import numpy as np

from attacks.ceilings import Bound, PerPerson, Unproven
from attacks.intervals import (
    Interval,
    Rate,
    control_persons_needed,
    difference,
    fitted_persons_would_do,
    normal_quantile,
)
from attacks.people import BoolVector, People, Rows
from dpsynth import Cost

Criterion: TypeAlias = Literal["singling_out", "linkability", "inference", "membership", "regurgitation"]
Status: TypeAlias = Literal["measured", "incomplete", "not_applicable"]
Judgement: TypeAlias = Literal["pass", "fail", "incomplete", "not_applicable"]

CONFIDENCE = 0.95
ALPHA = 0.05  # of the whole suite, after Holm's correction
FAMILY = 10  # attacks for whose number near ends of intervals are corrected, where one of them alone fails a release


@dataclass(frozen=True, kw_only=True)
class Threat:
    """Who attacks.

    Args:
        knows: What the attacker has besides the synthetic table.
        wants: What counts as a success, in words.
    """

    knows: str
    wants: str


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number with its interval.

    Args:
        estimate: The number. Differences keep their sign.
        interval: Where the truth lies.
        chance: What the number would be if nothing leaked.
        persons: How many persons stand behind it, on both sides together.
        fit, control: Success rates of the two sides where the number is their difference.
        p_value: Chance of so large a number if nothing leaked, corrected for the other measures of the same attack.
        bound: Why the declared guarantee bounds `fit`, or the estimate where there is no such rate; None for a figure
            about which nothing is said.
        ceiling: The most that the guarantee allows it to be; None without a guarantee, or where nothing is proven.
        floor: The least; None where only success is bounded.
    """

    estimate: float
    interval: Interval
    chance: float
    persons: int
    fit: Rate | None = None
    control: Rate | None = None
    p_value: float | None = None
    bound: Bound | None = None
    ceiling: float | None = None
    floor: float | None = None

    def under(self, cost: Cost, *, confidence: float) -> Measure:
        """The same with what the declared cost allows, if anything is proven about it."""
        allowed = None if self.bound is None else self.bound.allowed(cost, confidence=confidence)
        return self if allowed is None else replace(self, ceiling=allowed.most, floor=allowed.least or None)

    def beyond(self, *, confidence: float) -> bool:
        """Whether the number surely lies where the guarantee allows none to be.

        Args:
            confidence: Of the interval of `fit`. An estimate has the interval that it was made with.
        """
        if self.ceiling is None:
            return False
        there = self.interval if self.fit is None else self.fit.surely(confidence)
        return there.low > self.ceiling or (self.floor is not None and there.high < self.floor)

    def limited(self, fit: float, control: float) -> Measure:
        """The same with the most trials that each side could stand on, if it compares two rates."""
        if self.fit is None or self.control is None:
            return self
        return replace(self, fit=replace(self.fit, most=fit), control=replace(self.control, most=control))


def _certainty(variants: Mapping[str, Measure]) -> float:
    """The confidence at which variants are compared with their ceilings.

    A ceiling is passed by chance only where the near end of the number, or the far end of the rate without the record,
    misses the truth. Both take this confidence, so all variants of all attacks together err with a chance of at most 5 in
    100 (Bonferroni), as far as the intervals cover: they do not know that persons share one synthetic table.
    """
    bounded = sum(not isinstance(measure.bound, Unproven | None) for measure in variants.values())
    return 1 - ALPHA / FAMILY / max(bounded, 1)


def beyond(variants: Mapping[str, Measure]) -> set[str]:
    """Which variants of one attack surely lie where the declared guarantee allows none to be.

    A guarantee allows nothing to leak, so what could be chance if nothing leaked is within it, whatever an interval says
    that few persons with many points each made too narrow.
    """
    sure = _certainty(variants)
    return {
        name
        for name, measure in variants.items()
        if measure.beyond(confidence=sure) and (measure.p_value is None or measure.p_value <= ALPHA / FAMILY)
    }


def per_person(fit: Rate, control: Rate, *, p_value: float | None = None) -> Measure:
    """`excess` of something that is the same for every person of either side, so that the guarantee bounds it."""
    return excess(fit, control, p_value=p_value, bound=PerPerson(without=control))


def excess(
    fit: Rate,
    control: Rate,
    *,
    p_value: float | None = None,
    confidence: float = CONFIDENCE,
    bound: Bound | None = None,
) -> Measure:
    """How much more often an attack succeeds on fit persons than on control persons."""
    return Measure(
        estimate=fit.value - control.value,
        interval=difference(fit, control, confidence),
        chance=0.0,
        persons=fit.persons + control.persons,
        fit=fit,
        control=control,
        p_value=p_value,
        bound=bound,
    )


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one attack found in one synthetic table.

    Args:
        variants: Ways of attacking, fixed beforehand, each measured as an excess.
        p_value: Chance that the most striking of them stands out so much if nothing leaked.
        trials: How many guesses, rows or claims were judged.
        figures: Further numbers for the report, which decide nothing.
        omitted: Figures that there is too little for, each with the reason.
        warning: Something a reviewer must know; empty if nothing.
        to_look_at: Whether the warning is about something that a person has to look at, whatever the p-values say.
        gap: Why nothing could be measured; None if something was.
        exposed: On whom the attack succeeded, for the register: whether it did, for each fitted person and for each
            person held back on whom it was judged. None if the attack does not tell persons apart.
    """

    variants: Mapping[str, Measure] = field(default_factory=dict)
    p_value: float | None = None
    trials: int = 0
    figures: Mapping[str, Measure] = field(default_factory=dict)
    omitted: Mapping[str, str] = field(default_factory=dict)
    warning: str = ""
    to_look_at: bool = False
    gap: Gap | None = None
    exposed: tuple[BoolVector, BoolVector] | None = field(default=None, compare=False)

    def under(self, cost: Cost) -> Finding:
        """The same with what a declared cost allows each number to be."""
        sure = _certainty(self.variants)
        variants, figures = (
            {name: measure.under(cost, confidence=sure) for name, measure in some.items()}
            for some in (self.variants, self.figures)
        )
        return replace(self, variants=variants, figures=figures)

    def headline(self, *, two_sided: bool = False) -> tuple[str, float, Interval]:
        """The strongest variant, its estimate, and an interval for the largest excess of any of them.

        The upper end needs no correction: the largest true excess belongs to one variant, and passes the largest upper
        end only if it passes its own. The lower ends are corrected for their number (Bonferroni). Where both directions
        count, the strongest variant is the one least likely by chance, and its interval was corrected when it was made.
        """
        if two_sided:
            worst = min(self.variants, key=self._rarity)
            return worst, self.variants[worst].estimate, self.variants[worst].interval
        worst = max(self.variants, key=lambda name: self.variants[name].estimate - self.variants[name].chance)
        measure = self.variants[worst]
        low = max(self._low(variant) for variant in self.variants.values())
        high = max(variant.interval.high for variant in self.variants.values())
        interval = Interval(low=min(low, high), high=high, confidence=measure.interval.confidence)
        return worst, min(max(measure.estimate, interval.low), interval.high), interval

    def _rarity(self, name: str) -> tuple[float, float]:
        measure = self.variants[name]
        return 1.0 if measure.p_value is None else measure.p_value, -abs(measure.estimate - measure.chance)

    def _low(self, measure: Measure) -> float:
        if measure.fit is None or measure.control is None or len(self.variants) == 1:
            return measure.interval.low
        corrected = 1 - (1 - measure.interval.confidence) / len(self.variants)
        return difference(measure.fit, measure.control, corrected).low


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Why an attack could not be run.

    Args:
        status: "incomplete" if more data would help, "not_applicable" if the table has nothing to attack.
        reason: One sentence.
        needs: What would help, if anything.
    """

    status: Literal["incomplete", "not_applicable"]
    reason: str
    needs: str | None = None


class Attack(Protocol):
    """One way to find out about persons from a synthetic table."""

    @property
    def id(self) -> str: ...

    @property
    def criterion(self) -> Criterion: ...

    @property
    def threat(self) -> Threat: ...

    @property
    def measure(self) -> str:
        """What is counted, in words."""
        ...

    @property
    def fail_only(self) -> bool:
        """Whether finding nothing says nothing."""
        ...

    @property
    def two_sided(self) -> bool:
        """Whether a result below chance speaks of a leak too; chance is then one half."""
        ...

    @property
    def holds_reference(self) -> bool:
        """Whether the attacker holds half of the control persons, so that only the other half is judged."""
        ...

    def run(self, people: People, synthetic: Rows, *, rng: np.random.Generator) -> Finding:
        """Attacks one synthetic table. The persons are many enough, and the table has rows."""
        ...

    def without(self, people: People, *, rng: np.random.Generator) -> Mapping[str, float]:
        """Success rates on fit persons of the same attacker who has the reference persons instead of a release.

        By variant; empty where the attack without a release is chance.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class PositiveControl:
    """The same attack on a table that leaks on purpose: rows of the fit side, drawn with replacement.

    Args:
        estimate, interval: What the attack found there.
        p_value: Chance of that if nothing leaked.
        detected: Whether it would have been called a leak.
    """

    estimate: float
    interval: Interval
    p_value: float
    detected: bool


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """What one attack measured, with all that is needed to judge it. Class P3.

    Args:
        id: Name of the attack.
        criterion: Which question it answers.
        threat: Who attacks.
        measure: What is counted, in words, and which variant was the strongest.
        status: "measured", "incomplete" or "not_applicable".
        estimate: The excess of the strongest variant; None unless measured, like all that follows.
        interval: Where the largest excess of any variant lies.
        chance: What the estimate would be if nothing leaked.
        fit: Success rate on fit persons. None where the estimate is no difference of rates.
        control: Success rate on persons held back.
        baseline: Success rate on fit persons of the same attacker without the release.
        positive_control: The same attack on a leaky copy.
        n: Persons judged, on both sides.
        trials: Guesses, rows or claims judged.
        p_value: Chance of such a result if nothing leaked, corrected for the variants of this attack.
        p_adjusted: The same, corrected for all attacks of the suite (Holm).
        measures: The variants and further figures by name.
        variants: Which of them decide.
        omitted: Figures that there was too little for, each with the reason.
        note: What a reviewer must know; empty if nothing.
        to_look_at: Whether a person has to look at what the note says before anybody calls this a pass.
        needs: What would make an incomplete result complete.
        fail_only: Whether finding nothing says nothing.
        two_sided: Whether a result below chance speaks of a leak too.
        controls: How many persons held back the attack had, of whom it may have judged a part.
        ceiling: The most that the declared guarantee allows `fit` to be, or the estimate where it is no difference of
            rates; None without a guarantee, or where nothing is proven.
        floor: The least, where both directions count.
        no_ceiling: Why there is none although a guarantee was declared; empty otherwise.
    """

    id: str
    criterion: Criterion
    threat: Threat
    measure: str
    status: Status
    estimate: float | None = None
    interval: Interval | None = None
    chance: float = 0.0
    fit: Rate | None = None
    control: Rate | None = None
    baseline: float | None = None
    positive_control: PositiveControl | None = None
    n: int = 0
    trials: int = 0
    p_value: float | None = None
    p_adjusted: float | None = None
    measures: Mapping[str, Measure] = field(default_factory=dict)
    variants: tuple[str, ...] = ()
    omitted: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    to_look_at: bool = False
    needs: str | None = None
    fail_only: bool = False
    two_sided: bool = False
    controls: int = 0
    ceiling: float | None = None
    floor: float | None = None
    no_ceiling: str = ""

    @property
    def figures(self) -> Mapping[str, Measure]:
        """The measures that decide nothing."""
        return {name: measure for name, measure in self.measures.items() if name not in self.variants}

    @property
    def above_ceiling(self) -> bool:
        """Whether more was found in one of the variants than the declared guarantee allows.

        The trials of one run depend on one another through the one synthetic table, so this is an ordinary failure of a
        review, and no proof that the guarantee is broken: audits with many fits give that.
        """
        return bool(beyond({name: measure for name, measure in self.measures.items() if name in self.variants}))

    @property
    def leak(self) -> bool:
        """Whether a leak was shown: significant after all corrections, and chance lies outside the interval."""
        if self.interval is None or self.p_adjusted is None:
            return False
        outside = self.interval.low > self.chance or (self.two_sided and self.interval.high < self.chance)
        return self.p_adjusted < ALPHA and outside

    @property
    def smallest_detectable(self) -> float | None:
        """About the smallest excess that so many persons would have shown with a chance of 80 in 100.

        It follows from the distance between the estimate and the lower end of its interval.
        """
        if self.interval is None or self.estimate is None:
            return None
        z = normal_quantile(0.5 + self.interval.confidence / 2)
        return (self.estimate - self.interval.low) * (z + normal_quantile(0.8)) / z

    def judge(self, *, at_most: float, tolerance: float = 0.0) -> Judgement:
        """Pass, fail, or too little to say (non-inferiority).

        Fail if a leak was shown and its lower end passes `tolerance` or its success the guarantee's ceiling. Pass if the
        upper end of the interval is at most `at_most` and a leaky copy surely lies above it. An attack that can only fail
        never passes.
        """
        if self.status != "measured" or self.interval is None:
            return "not_applicable" if self.status == "not_applicable" else "incomplete"
        beyond = self.interval.low > self.chance + tolerance
        if self.two_sided:
            beyond = beyond or self.interval.high < self.chance - tolerance
        if self.leak and (beyond or self.above_ceiling):
            return "fail"
        copy = self.positive_control
        could_fail = copy is not None and copy.detected and copy.interval.low > at_most
        return "pass" if could_fail and not self.fail_only and self.interval.high <= at_most else "incomplete"

    def more_control_persons(self, *, at_most: float) -> int | None:
        """About how many control persons more would let `judge` pass, if the rates stay as they are.

        Returns:
            0 if the interval is narrow enough; None if it cannot be said, or if no number would do.
        """
        if self.interval is None or not self._pairs:
            return None
        growth = 0.0
        for fit, control, confidence in self._pairs:
            more = control_persons_needed(fit, control, at_most=at_most, confidence=confidence)
            if more is None:
                return None
            growth = max(growth, more / control.persons)
        return math.ceil(growth * self.controls)

    def advice(self, *, at_most: float) -> str | None:
        """What would let a rule about the excess pass, if the rates stay as they are.

        Returns:
            None if it would pass or fail, if the estimate itself lies above, or where nothing can be said.
        """
        copy = self.positive_control
        undecided = self.judge(at_most=at_most) == "incomplete"
        if not undecided or self.interval is None or self.estimate is None or self.estimate > at_most:
            return None
        stays = f"stays within {at_most - self.chance:g}"
        if copy is not None and copy.estimate <= at_most:
            return f"even a leaky copy {stays} here: nothing can be said about so high a threshold"
        if not self._pairs:
            return None
        more = self.more_control_persons(at_most=at_most)
        if more is None and self._without_limits.more_control_persons(at_most=at_most) is None:
            return f"needs other persons to tell whether it {stays}: in one way of attacking, these do not"
        if more is None and all(
            fitted_persons_would_do(f, c, at_most=at_most, confidence=p) for f, c, p in self._pairs
        ):
            return f"needs more fitted persons to tell whether it {stays}: of those held back it looks at no more than these"
        for_copy = self._more_for_the_copy(at_most)
        if more is None or for_copy is None:
            what = "it" if more is None else "a leaky copy"
            return f"looks at too few persons to tell whether {what} {stays}, however many there are: a random part of them"
        if not max(more, for_copy):
            return None
        return f"{more_persons(max(more, for_copy))}, to tell whether {'it' if more >= for_copy else 'a leaky copy'} {stays}"

    def _more_for_the_copy(self, at_most: float) -> int | None:
        """About how many control persons more would let a leaky copy surely lie above a threshold; None if none would.

        The width of its interval falls with the root of the number of persons.
        """
        copy = self.positive_control
        if copy is None or copy.interval.low > at_most:
            return 0
        growth = ((copy.estimate - copy.interval.low) / (copy.estimate - at_most)) ** 2
        most = min((min(f.most / f.trials, c.most / c.trials) for f, c, _ in self._pairs), default=1.0)
        return math.ceil((growth - 1) * self.controls) if growth <= min(most, 2.0**20) else None

    @property
    def _pairs(self) -> list[tuple[Rate, Rate, float]]:
        """The two rates of each variant that compares two, and the confidence of its interval."""
        judged = [measure for name, measure in self.measures.items() if name in self.variants]
        return [
            (m.fit, m.control, m.interval.confidence) for m in judged if m.fit is not None and m.control is not None
        ]

    @property
    def _without_limits(self) -> AttackResult:
        """The same of an attack that would look at any number of persons."""
        return replace(self, measures={name: m.limited(math.inf, math.inf) for name, m in self.measures.items()})


def more_persons(control: int) -> str:
    """That so many more persons held back are needed, in words."""
    return f"needs about {control:,} more control persons, and as many more fitted ones in proportion"


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number, so that calling those below alpha has a family-wise error of alpha.

    Source: Holm, Scand. J. Stat. 6 (1979) 65.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = floor
    return adjusted
