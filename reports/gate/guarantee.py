"""The guarantee: whom it is for, and that no figure is better than the native measure implies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from fractions import Fraction
from functools import lru_cache
from typing import Final, TypeAlias

from dpsynth.errors import DpsynthError
from dpsynth.privacy import NANO, ORDERS, Cap, Cost, advantage_bound, tpr_bound
from dpsynth.synthesizers.registry import EXTERNAL, SYNTHESIZERS
from reports.evidence import Evidence
from reports.gate.base import finding
from reports.gate.leaves import ROUNDING, is_below, number_in
from reports.gate.verdict import RuleResult
from reports.paths import APPROXIMATE, CHARGED_ATTACKS, CLAIMED, RENYI, ZCDP
from reports.policy import Policy

OWN: Final = "dpsynth"
"""Who vouches for the loss where no other tool does."""
OF_ZCDP: Final = ("guarantee.rho", "guarantee.shares[].rho")
"""What a loss that is not zCDP does not have."""
_FLOAT_ORDERS = tuple(float(order) for order in ORDERS)


def unit(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
    """The guarantee is for persons, or a person has confirmed that a row is one."""
    value = evidence.value("unit.entity")
    reason = "A guarantee for rows is weaker than one for persons when a person can have several rows."
    if isinstance(value, str) and value.strip().casefold() in ("row", "rows", "record", "records"):
        message = "The guarantee is for single rows: a person must confirm that nobody has more than one."
        yield finding("unit.person", "needs_human", message, reason, "unit.entity")
    elif value is not None:
        yield finding("unit.person", "pass", "The schema names whom the guarantee is for.", reason, "unit.entity")


def known(evidence: Evidence, _: date, _policy: Policy) -> Iterator[RuleResult]:
    """The synthesizer is one that this version has: of another nobody here can say how it makes its noise."""
    name = evidence.value("release.synthesizer")
    if name is not None and name not in (*SYNTHESIZERS, *EXTERNAL):
        message = (
            "This version of the program does not have the synthesizer used, and cannot say what is known against it."
        )
        reason = "A guarantee is worth as much as the program that is to keep it."
        yield finding("implementation.known", "needs_human", message, reason, "release.synthesizer")


def has_claim(evidence: Evidence) -> bool:
    """Whether the native measure is what another program claims, beside which there is no rho."""
    epsilon, delta = (evidence.number(f"guarantee.claim.{part}") for part in ("epsilon", "delta"))
    return epsilon is not None and epsilon > 0 and delta is not None and 0 <= delta < 1


def _is_another_s(evidence: Evidence) -> bool:
    """Whether the evidence says that another tool vouches for the loss."""
    return evidence.value("implementation.claimed_by") not in (None, OWN)


def _native(evidence: Evidence) -> tuple[str, Cost] | None:
    """The charged loss, from what the evidence states natively, and where: a rho, or a claim and the zCDP steps beside it."""
    delta0 = Fraction(str(evidence.number("guarantee.delta0") or 0))
    if has_claim(evidence):
        epsilon, delta = (Fraction(str(evidence.value(f"guarantee.claim.{part}"))) for part in ("epsilon", "delta"))
        steps = [number_in(row, "rho") or 0.0 for row in evidence.rows("guarantee.shares")]
        beside = sum((Fraction(rho) for rho in steps if rho > 0), Fraction(0))
        return "guarantee.claim", Cost.approximate(epsilon, delta) + Cost.zcdp(beside, delta0=delta0)
    rho = evidence.number("guarantee.rho")
    return ("guarantee.rho", Cost.zcdp(Fraction(rho), delta0=delta0)) if rho is not None and rho > 0 else None


def better_than_native(evidence: Evidence) -> Iterator[str]:
    """What is stated to be less than the native measure implies, by the same formulas that made it."""
    try:
        native = _native(evidence)
    except (DpsynthError, ArithmeticError, ValueError):
        yield "guarantee: no loss can be computed from what is stated"
        return
    if native is None:
        return  # a matter for `evidence.complete`
    name, cost = native
    rows = evidence.rows("guarantee.curve")
    claimed = has_claim(evidence)
    if claimed != (evidence.value("guarantee.definition") == CLAIMED) or claimed != _is_another_s(evidence):
        yield "guarantee.claim does not go with guarantee.definition and implementation.claimed_by"
        return
    if claimed:
        without = sum(number_in(row, "rho") is None for row in evidence.rows("guarantee.shares"))
        if rows or evidence.value("guarantee.rho") is not None or without != 1:
            yield "guarantee.claim stands beside a rho, a curve, or other steps that have no rho"
            return
    else:
        curve = tuple(number_in(row, "nano") for row in rows)
        if evidence.value("guarantee.definition") != (RENYI if rows else APPROXIMATE if cost.delta0 else ZCDP):
            yield "guarantee.curve or guarantee.delta0 does not go with guarantee.definition"
            return
        if rows and (
            tuple(number_in(row, "order") for row in rows) != _FLOAT_ORDERS
            or any(loss is None or loss < 0 for loss in curve)
        ):
            yield "guarantee.curve does not give the loss at each order"
            return
        cost = Cost(cost.rho, tuple(int(loss) for loss in curve if loss is not None), cost.delta0)
        most = max((loss / NANO / float(order) for loss, order in zip(cost.extra, ORDERS, strict=False)), default=0.0)
        spent = sum(number_in(row, "rho") or 0.0 for row in evidence.rows("guarantee.shares"))
        if spent > (float(cost.rho) + most) * (1 + ROUNDING):
            yield "guarantee.shares add up to more than the loss that is stated"
            return
    for path, stated, formula, at in _implied(evidence):
        if stated is None or at is None:
            continue
        try:
            if is_below(stated, formula(cost, at)):
                yield f"{path} is smaller than {name} implies"
        except (DpsynthError, ArithmeticError, ValueError):
            yield f"{path} cannot be computed from {name}"


Implied: TypeAlias = tuple[str, float | None, Callable[[Cost, float], float], float | None]


def _implied(evidence: Evidence) -> Iterator[Implied]:
    """Figures that follow from the native measure: path, what is stated, the formula, and at which delta or rate."""
    stated = evidence.number
    yield "guarantee.epsilon", stated("guarantee.epsilon"), epsilon_of, stated("guarantee.delta")
    yield "ledger.spent_epsilon", stated("ledger.spent_epsilon"), epsilon_of, stated("ledger.cap_delta")
    yield "risk.tpr_at_fpr", stated("risk.tpr_at_fpr"), detection, 0.01
    yield "risk.advantage", stated("risk.advantage"), advantage, 0.0
    for table, field, formula, place in (
        ("guarantee.profile", "epsilon", epsilon_of, "delta"),
        ("risk.table", "release", detection, "fpr"),
        ("risk.success", "bound", detection, "baseline"),
    ):
        for row in evidence.rows(table):
            yield table, number_in(row, field), formula, number_in(row, place)
    for attack in CHARGED_ATTACKS:
        control = stated(f"attacks.{attack}.control_rate")
        rate = None if control is None else min(1.0, max(0.0, control))
        yield f"attacks.{attack}.bound", stated(f"attacks.{attack}.bound"), detection, rate


@lru_cache(maxsize=64)
def lifetime_cost(first: float | None, last: float | None, delta: float) -> Cost:
    """The loss that a limit allows, which was `first` when the ledger was made, and was raised to `last` if to anything."""
    limit = Cap.of(Fraction(str(first)), Fraction(str(delta)))
    return Cost.zcdp((limit if last is None else limit.raised(Fraction(str(last)))).cost.rho)


@lru_cache(maxsize=512)
def epsilon_of(cost: Cost, delta: float) -> float:
    """The epsilon at delta that a loss implies."""
    return float(cost.epsilon(delta))


@lru_cache(maxsize=512)
def detection(cost: Cost, fpr: float) -> float:
    """How many are found at most, at a rate of false alarms or from a baseline, by a loss alone."""
    return tpr_bound(cost, fpr)


@lru_cache(maxsize=64)
def advantage(cost: Cost, _: float) -> float:
    """The advantage at most of a membership attack, by a loss alone; the other argument is there for `Implied`."""
    return advantage_bound(cost)
