"""Units, costs and conversions of differential privacy: pure functions, each with its source.

The native measure is zero-concentrated differential privacy (rho-zCDP), kept as an exact fraction. Steps that are not
zCDP add a Renyi curve on the fixed grid `ORDERS`, in integer nano-units, each rounded up, and a `delta0`, the
probability with which their Renyi guarantee may fail to hold at all.

Sources, checked against the papers:
    [BS16]    Bun, Steinke. Concentrated differential privacy. TCC 2016. arXiv:1605.02065.
    [CKS20]   Canonne, Kamath, Steinke. The discrete Gaussian for differential privacy. NeurIPS 2020. arXiv:2004.00010.
    [M17]     Mironov. Renyi differential privacy. CSF 2017. arXiv:1702.07476.
    [KOV15]   Kairouz, Oh, Viswanath. The composition theorem for differential privacy. ICML 2015. arXiv:1311.0776.
    [FZ21]    Feldman, Zrnic. Individual privacy accounting via a Renyi filter. NeurIPS 2021. arXiv:2008.11193.
    [WRRW23]  Whitehouse, Ramdas, Rogers, Wu. Fully-adaptive composition in differential privacy. ICML 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext
from fractions import Fraction
from functools import cache, lru_cache, wraps
from typing import Any, Literal, TypeAlias, TypeVar, cast

import numpy as np

from dpsynth.errors import UsageError

Neighbours: TypeAlias = Literal["add_remove", "replace"]
Number: TypeAlias = int | float | str | Decimal | Fraction

NANO = 10**9
"""Renyi losses are counted in integer billionths of a nat."""

_E24 = (10, 11, 12, 13, 15, 16, 18, 20, 22, 24, 27, 30, 33, 36, 39, 43, 47, 51, 56, 62, 68, 75, 82, 91)
ORDERS: tuple[Fraction, ...] = tuple(1 + Fraction(v * 10**e, 1000) for e in range(7) for v in _E24)
"""Renyi orders 1.01 ... 91001: one plus the E24 preferred numbers, so that the best order is never missed by over 7.4 %,
which costs at most 0.3 % of epsilon."""
_PLACE = {order: place for place, order in enumerate(ORDERS)}

LARGEST_EPSILON = 10**9  # of a promise or a cap: nothing is protected long before
_LEAST_DELTA = Fraction(1, 10**300)  # the evidence holds it, and a tenth of it, as a float above zero
_EXPONENT = 1000  # decimal exponents beyond this are a slip of the pen
_UNBOUNDED = 10**9 * NANO  # stands for "nothing is known at this order"
_DIGITS = Context(prec=60)
_FIFTEEN_UP, _SIX_DOWN = Context(prec=15, rounding=ROUND_CEILING), Context(prec=6, rounding=ROUND_FLOOR)
_LARGEST_RESPONSE = 10**6  # beyond it e to the power of epsilon has more digits than a decimal holds
_LARGEST_EXPONENT = 600  # e to the power of more leaves no delta that a program could be told
_SLACK = Decimal(10) ** -40  # far above the rounding of 60 digits, far below one nano-unit


def exact(value: Number, *, name: str = "value") -> Fraction:
    """The number a person wrote, as an exact fraction: a float counts as its shortest decimal form.

    Raises:
        UsageError: it is not a finite number.
    """
    try:
        if isinstance(value, float):
            value = Decimal(repr(float(value)))
        elif isinstance(value, str) and "/" not in value:
            value = Decimal(value.strip())
        if isinstance(value, Decimal) and abs(value.adjusted()) > _EXPONENT:
            raise ValueError  # as a fraction it would fill the memory
        return Fraction(value)
    except (ValueError, ArithmeticError, TypeError):
        raise UsageError(f"{name} must be a finite number") from None


_Function = TypeVar("_Function", bound=Callable[..., Any])


def _with_60_digits(function: _Function) -> _Function:
    """Runs a function under 60 digits, whatever precision or rounding the surrounding program has set."""

    @wraps(function)
    def call(*args: Any, **words: Any) -> Any:
        with localcontext(_DIGITS):
            return function(*args, **words)

    return cast(_Function, call)


def _decimal(value: Fraction) -> Decimal:
    return _DIGITS.divide(Decimal(value.numerator), Decimal(value.denominator))


@_with_60_digits
def _ceil_nano(value: Decimal) -> int:
    return math.ceil((value + _SLACK) * NANO)


@cache
@_with_60_digits
def _order_term(order: Fraction) -> Decimal:
    """ln(1 - 1/a) - ln(a) / (a - 1) for order a: the part of the conversion that knows no delta."""
    a = _decimal(order)
    return _DIGITS.ln((a - 1) / a) - _DIGITS.ln(a) / (a - 1)


@lru_cache(maxsize=256)
@_with_60_digits
def _log_inverse(delta: Fraction) -> Decimal:
    return -_DIGITS.ln(_decimal(delta))


@_with_60_digits
def _conversion(order: Fraction, delta: Fraction) -> Decimal:
    """What a Renyi loss at `order` grows by when it is turned into an epsilon at `delta`, in nats.

    (a, r)-RDP implies (epsilon, delta)-DP with epsilon = r + (ln(1/delta) - ln a) / (a - 1) + ln(1 - 1/a).
    Source: [CKS20] Proposition 12 solved for epsilon.
    """
    return _log_inverse(delta) / (_decimal(order) - 1) + _order_term(order)


@_with_60_digits
def _response_loss(epsilon: Fraction, order: Fraction) -> int:
    """The Renyi loss of randomised response with `epsilon` at `order`, in nano-units, rounded up."""
    e, a = _decimal(epsilon), _decimal(order)
    if e > _LARGEST_RESPONSE:
        return math.ceil(epsilon * NANO)  # no order knows more than the largest ratio
    log_total = _DIGITS.ln(1 + _DIGITS.exp(e))
    first, second = e * a - log_total, e * (1 - a) - log_total  # p^a q^(1-a) and q^a p^(1-a)
    return _ceil_nano((first + _DIGITS.ln(1 + _DIGITS.exp(second - first))) / (a - 1))


@dataclass(frozen=True, kw_only=True)
class PrivacyUnit:
    """Whose presence the guarantee hides, and what two neighbouring tables are.

    Args:
        entity: What one unit is, as the schema names it: "person", "household", or "row".
        max_rows: At most this many rows of one unit are used; the curator enforces it.
        neighbours: "add_remove" (one unit more or less) or "replace" (one unit's rows exchanged for others).
    """

    entity: str
    max_rows: int
    neighbours: Neighbours

    def __post_init__(self) -> None:
        if self.max_rows < 1:
            raise UsageError(f"max_rows ({self.max_rows}) must be at least 1")
        if self.neighbours not in ("add_remove", "replace"):
            raise UsageError('neighbours must be "add_remove" or "replace"')

    @property
    def l1(self) -> int:
        """By how much one unit can change one marginal in L1: k rows, or 2k when rows are exchanged."""
        return self.max_rows * (1 if self.neighbours == "add_remove" else 2)

    @property
    def l2_squared(self) -> int:
        """By how much one unit can change one marginal in squared L2: k^2 (all rows in one cell), or 2 k^2."""
        return self.max_rows**2 * (1 if self.neighbours == "add_remove" else 2)

    def touched(self, counts: int) -> int:
        """Squared L2 sensitivity of counts of units of which one unit can raise at most `counts`, each by one.

        Under "replace" the old unit's counts fall and the new one's rise, in the worst case all different ones.
        """
        return counts * (1 if self.neighbours == "add_remove" else 2)


@dataclass(frozen=True)
class Cost:
    """A privacy loss: exact zCDP, plus a Renyi curve and a delta0 for steps that are not zCDP. Costs add up.

    Args:
        rho: zCDP part in nats, exact.
        extra: Renyi losses in nano-units at each of `ORDERS`, rounded up; empty when every step is zCDP.
        delta0: Probability mass on which no Renyi bound is claimed, in [0, 1].
    Source: composition of zCDP is [BS16] Lemma 1.7, of Renyi losses [M17] Proposition 1; delta0 adds by a union bound.
    """

    rho: Fraction = Fraction(0)
    extra: tuple[int, ...] = ()
    delta0: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        if not isinstance(self.rho, Fraction) or not isinstance(self.delta0, Fraction):
            raise TypeError("a cost is made of exact fractions")
        if self.rho < 0 or not 0 <= self.delta0 <= 1 or any(loss < 0 for loss in self.extra):
            raise ValueError("a cost cannot be negative, nor delta0 above 1")
        if len(self.extra) not in (0, len(ORDERS)):
            raise ValueError(f"a Renyi curve has {len(ORDERS)} orders")

    @classmethod
    def zero(cls) -> Cost:
        return cls()

    @classmethod
    def zcdp(cls, rho: Fraction, *, delta0: Fraction = Fraction(0)) -> Cost:
        """The cost of a rho-zCDP step."""
        return cls(rho=Fraction(rho), delta0=Fraction(delta0))

    @classmethod
    def approximate(cls, epsilon: Number, delta: Number) -> Cost:
        """The cost of any (epsilon, delta)-DP step, about which nothing else is known.

        Such a step is dominated by one that reveals everything with probability delta and is randomised response
        with epsilon otherwise ([KOV15] Theorem 3.2 and its proof), whose Renyi divergence at order a is
        ln(p^a q^(1-a) + q^a p^(1-a)) / (a - 1) with p = e^eps / (1 + e^eps), q = 1 - p.
        """
        eps, delta0 = exact(epsilon, name="epsilon"), exact(delta, name="delta")
        if eps < 0 or not 0 <= delta0 < 1:
            raise UsageError("epsilon must be at least 0 and delta in [0, 1)")
        return cls(extra=tuple(_response_loss(eps, order) for order in ORDERS) if eps else (), delta0=delta0)

    def __add__(self, other: Cost) -> Cost:
        if self.extra and other.extra:
            extra = tuple(a + b for a, b in zip(self.extra, other.extra, strict=True))
        else:
            extra = self.extra or other.extra
        return Cost(self.rho + other.rho, extra, min(Fraction(1), self.delta0 + other.delta0))

    @property
    def is_zcdp(self) -> bool:
        """Whether `rho` and `delta0` say all there is."""
        return not self.extra

    def at(self, order: Fraction) -> int:
        """The Renyi loss at one of `ORDERS`, in nano-units, rounded up. Source: [BS16] Definition 1.1."""
        extra = self.extra[_PLACE[order]] if self.extra else 0
        loss, parts = self.rho.numerator * order.numerator * NANO, self.rho.denominator * order.denominator
        return -(-loss // parts) + extra  # whole numbers alone: a long ledger asks a hundred thousand times

    def curve(self) -> tuple[int, ...]:
        """The Renyi loss at each of `ORDERS`, in nano-units, rounded up."""
        return tuple(self.at(order) for order in ORDERS)

    def fits(self, limit: Cost) -> bool:
        """Whether this cost is within `limit` at every order, so that the limit's guarantee covers it.

        Adaptive composition that stops before a fixed limit on rho (or on the loss at an order) is passed is as
        private as the limit: [FZ21] Theorem 4.5, [WRRW23] Theorem 1.
        """
        if self.delta0 > limit.delta0:
            return False
        if self.is_zcdp and limit.is_zcdp:
            return self.rho <= limit.rho
        return all(mine <= allowed for mine, allowed in zip(self.curve(), limit.curve(), strict=True))

    def share(self, fraction: Fraction) -> Cost:
        """A part of a zCDP cost."""
        if not self.is_zcdp or not 0 <= fraction <= 1:
            raise ValueError("only a zCDP cost can be shared, into parts between 0 and 1")
        return Cost(self.rho * fraction, (), self.delta0 * fraction)

    @_with_60_digits
    def epsilon(self, delta: Number) -> Fraction:
        """The smallest epsilon for which this cost implies (epsilon, delta)-DP by the grid, rounded up to 1e-9.

        Raises:
            UsageError: `delta` is not above `delta0` (then no epsilon holds) or not below 1.
        """
        stated = exact(delta, name="delta")
        rest = stated - self.delta0
        if self == Cost.zero():
            return Fraction(0)
        if not (rest > 0 and stated < 1):
            raise UsageError("delta must be above the cost's delta0 and below 1")
        best = min(Decimal(self.at(order)) / NANO + _conversion(order, rest) for order in ORDERS)
        return max(Fraction(0), Fraction(_ceil_nano(best), NANO))

    def to_json(self) -> dict[str, Any]:
        """A JSON object of strings and integers; `from_json` is its inverse."""
        out: dict[str, Any] = {"rho": str(self.rho), "delta0": str(self.delta0)}
        return out | ({"extra": list(self.extra)} if self.extra else {})

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Cost:
        if not data.keys() <= {"rho", "delta0", "extra"} or not all(
            type(loss) is int for loss in data.get("extra", [])
        ):
            raise ValueError("not a cost")
        return cls(Fraction(data["rho"]), tuple(data.get("extra", ())), Fraction(data["delta0"]))


@dataclass(frozen=True, kw_only=True)
class RowPromise:
    """What another program claims: (epsilon, delta)-DP for tables that differ by one row more or less.

    Args:
        epsilon, delta: As the program is told them, exact.
    """

    epsilon: Fraction
    delta: Fraction

    def __post_init__(self) -> None:
        if not (0 < self.epsilon <= LARGEST_EPSILON and 0 <= self.delta < 1):
            raise UsageError(
                f"--epsilon must be positive and at most {LARGEST_EPSILON}, --delta at least 0 and below 1"
            )

    @_with_60_digits
    def of_unit(self, unit: PrivacyUnit) -> tuple[Fraction, Fraction]:
        """The (epsilon, delta) that follows for a unit; delta rounded up, and 1 if nothing follows.

        With k rows to add or remove on the way from one neighbour to the other it is k epsilon, and delta times
        k e^((k-1) epsilon). Under "replace" k rows go and k come: 2 k steps. Source: Dwork, Roth, The algorithmic
        foundations of differential privacy, 2014, Theorem 2.2, and the sum over its k steps for delta.
        """
        k = unit.l1
        if not self.delta:
            return k * self.epsilon, Fraction(0)
        exponent = (k - 1) * _decimal(self.epsilon)
        if exponent > _LARGEST_EXPONENT:
            return k * self.epsilon, Fraction(1)
        grown = _decimal(self.delta) * k * _DIGITS.exp(exponent)
        return k * self.epsilon, min(Fraction(1), Fraction(_FIFTEEN_UP.plus(grown * (1 + _SLACK))))

    def cost(self, unit: PrivacyUnit) -> Cost:
        """What keeping this promise costs a unit, supposing that it is kept.

        Raises:
            UsageError: nothing follows for the unit.
        """
        epsilon, delta = self.of_unit(unit)
        if delta >= 1:
            raise UsageError(
                "the claim for one row says nothing about a unit of so many rows: lower epsilon or max_rows"
            )
        return Cost.approximate(epsilon, delta)

    @classmethod
    def within(cls, unit: PrivacyUnit, *, order: Fraction, nano: int, delta0: Fraction, pure: bool) -> RowPromise:
        """The weakest promise for one row whose cost for a unit is within a limit at one order.

        Args:
            order, nano, delta0: The limit, as in `Cap`.
            pure: Whether the program's promise has no delta.
        Raises:
            UsageError: no promise is strong enough.
        """

        def fits(steps: int) -> bool:  # of 1e-9
            return _response_loss(Fraction(steps, NANO) * unit.l1, order) <= nano

        low, high = 0, 1
        while fits(high) and high < LARGEST_EPSILON * NANO:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        epsilon = Fraction(low, NANO)
        delta = Fraction(0) if pure else _least_delta(unit.l1, epsilon, delta0)
        if not epsilon or not (pure or delta):
            raise UsageError(
                f"the promise leaves nothing for a claim about single rows, of which {unit.l1} make a difference: raise "
                "--epsilon or --delta, or lower max_rows"
            )
        return cls(epsilon=epsilon, delta=delta)


@_with_60_digits
def _least_delta(k: int, epsilon: Fraction, delta0: Fraction) -> Fraction:
    """The largest delta for one row, of six digits, that grows to at most `delta0` over k rows; 0 if there is none."""
    exponent = (k - 1) * _decimal(epsilon)
    if exponent > _LARGEST_EXPONENT or not delta0:
        return Fraction(0)
    return Fraction(_SIX_DOWN.plus(_decimal(delta0) / (k * _DIGITS.exp(exponent)) * (1 - _SLACK)))


@dataclass(frozen=True, kw_only=True)
class Cap:
    """A limit stated as (epsilon, delta), turned once into a Renyi limit at one order and a limit on delta0.

    The filter compares integers at that one order, which keeps the stated (epsilon, delta) under fully adaptive
    composition: [FZ21] Theorem 4.5 at a fixed order, then [CKS20] Proposition 12. A tenth of delta is set aside for
    steps that have a delta0; below delta 1e-5 it costs less than 1 % of epsilon.

    Args:
        epsilon, delta: The promise, exact.
        order: The Renyi order at which losses are added up, one of `ORDERS`.
        nano: The limit on that sum, in nano-units.
        delta0: The limit on the sum of delta0.
    """

    epsilon: Fraction
    delta: Fraction
    order: Fraction
    nano: int
    delta0: Fraction

    @classmethod
    def of(cls, epsilon: Number, delta: Number) -> Cap:
        """The cap whose order allows the most zCDP for (epsilon, delta).

        Raises:
            UsageError: epsilon is not positive and finite, delta not inside (0, 1), or epsilon too small for delta.
        """
        eps, total = exact(epsilon, name="epsilon"), exact(delta, name="delta")
        if not 0 < eps <= LARGEST_EPSILON:
            raise UsageError(f"epsilon must be positive, and at most {LARGEST_EPSILON}")
        if not 0 < total < 1:
            raise UsageError("delta must be above 0 and below 1")
        if total < _LEAST_DELTA:
            raise UsageError("delta must be at least 1e-300: nobody can tell less from nothing")
        delta0 = total / 10
        best = max(ORDERS, key=lambda order: Fraction(_limit(eps, total - delta0, order)) / order)
        nano = _limit(eps, total - delta0, best)
        if nano <= 0:
            raise UsageError("epsilon is too small for this delta: raise one of them")
        return cls(epsilon=eps, delta=total, order=best, nano=nano, delta0=delta0)

    def __post_init__(self) -> None:
        if self.order not in ORDERS or not 0 <= self.delta0 < self.delta < 1 or self.epsilon <= 0:
            raise ValueError("not a cap")
        if self.nano != _limit(self.epsilon, self.delta - self.delta0, self.order):
            raise ValueError("the cap's Renyi limit does not follow from its epsilon and delta")

    @property
    def cost(self) -> Cost:
        """The zCDP cost of one release that uses the whole cap; its delta0 part is left unused."""
        return Cost.zcdp(Fraction(self.nano, NANO) / self.order)

    def admits(self, spent_nano: int, spent_delta0: Fraction, cost: Cost) -> bool:
        """Whether `cost` fits on top of what was spent, both counted at the cap's order."""
        return spent_nano + cost.at(self.order) <= self.nano and spent_delta0 + cost.delta0 <= self.delta0

    def lifetime(self, charged: Cost) -> Cost:
        """What everything charged under this cap can have cost one person, however each step was chosen.

        The sum of what was charged is no bound by itself when later costs were chosen after seeing earlier answers;
        the limit that the filter enforced is ([WRRW23]). When all was zCDP, or approximate zCDP, that limit is a rho
        and a delta0 ([WRRW23] Theorem 1); otherwise it is the loss at one order, and so at every smaller one. Imports
        may have passed the cap; then they count.
        """
        if charged.is_zcdp:
            delta0 = max(self.delta0, charged.delta0) if charged.delta0 else Fraction(0)
            return Cost.zcdp(max(self.cost.rho, charged.rho), delta0=delta0)
        nano = max(self.nano, charged.at(self.order))
        curve = tuple(nano if order <= self.order else _UNBOUNDED for order in ORDERS)
        return Cost(extra=curve, delta0=max(self.delta0, charged.delta0))

    def raised(self, epsilon: Number) -> Cap:
        """The same cap with a higher epsilon, counted at the same order."""
        eps = exact(epsilon, name="epsilon")
        if eps <= self.epsilon:
            raise UsageError("a cap can only go up")
        nano = _limit(eps, self.delta - self.delta0, self.order)
        return Cap(epsilon=eps, delta=self.delta, order=self.order, nano=nano, delta0=self.delta0)

    def to_json(self) -> dict[str, Any]:
        """A JSON object of strings and integers; `from_json` is its inverse."""
        return {
            "epsilon": str(self.epsilon),
            "delta": str(self.delta),
            "order": str(self.order),
            "nano": str(self.nano),
            "delta0": str(self.delta0),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Cap:
        if data.keys() != {"epsilon", "delta", "order", "nano", "delta0"}:
            raise ValueError("not a cap")
        parts = {key: Fraction(data[key]) for key in ("epsilon", "delta", "order", "delta0")}
        return cls(**parts, nano=int(data["nano"]))


@_with_60_digits
def _limit(epsilon: Fraction, delta: Fraction, order: Fraction) -> int:
    """The largest Renyi loss at `order`, in nano-units, that still implies (epsilon, delta)-DP; may be negative."""
    return math.floor((_decimal(epsilon) - _conversion(order, delta) - _SLACK) * NANO)


# ---- what a guarantee means for an attacker ----------------------------------------------------------------------

_FLOAT_MARGIN = 1e-9  # above every rounding error of the float64 formulas below; always added, never subtracted


def _renyi_allows(cost: Cost) -> Callable[[float, float], bool]:
    """Tells whether a test with false-positive rate x and true-positive rate y is possible under the curve."""
    a = np.array([float(order) for order in ORDERS])
    allowed = (a - 1) * np.array(cost.curve(), dtype=float) / NANO + 1e-12

    def allows(fpr: float, tpr: float) -> bool:
        def within(p: float, q: float) -> bool:
            inside = a * math.log(p) + (1 - a) * math.log(q)
            outside = a * math.log1p(-p) + (1 - a) * math.log1p(-q)
            return bool(np.all(np.logaddexp(inside, outside) <= allowed))

        return within(tpr, fpr) and within(fpr, tpr)

    return allows


def _largest(possible: Callable[[float], bool], low: float, high: float) -> float:
    """The end of the interval from `low` on which `possible` holds, found by bisection and rounded up."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if possible(middle) else (low, middle)
    return min(1.0, high + _FLOAT_MARGIN)


def tpr_bound(cost: Cost, fpr: float) -> float:
    """The highest true-positive rate of any attacker who allows false positives at rate `fpr`, rounded up.

    Deciding "member" or not is a post-processing with two outcomes, so its Renyi divergence in both directions is
    within the cost's curve at every order; the largest rate that is, is the bound. The same number bounds the success
    of re-identification, attribute inference or reconstruction for an attacker who would succeed with probability
    `fpr` had the person's record not been used.

    Args:
        cost: What was spent on the person.
        fpr: False-positive rate, or success without the person's record, in [0, 1].
    Source: data processing for Renyi divergence, [M17] and [BS16] Lemma 2.2; success without the record as the
        baseline: Kulynych et al., NeurIPS 2025; delta0: a mixture that fails with probability delta0.
    """
    if not 0 <= fpr <= 1:
        raise ValueError("fpr must be in [0, 1]")
    delta0 = float(cost.delta0) * (1 + 1e-12)
    if delta0 >= 1:
        return 1.0
    base = fpr / (1 - delta0)
    if base >= 1 or fpr == 1:
        return 1.0
    if base <= 0:
        return min(1.0, delta0)
    allows = _renyi_allows(cost)
    inner = _largest(lambda p: allows(base, p), base, 1.0 - 1e-15)
    return min(1.0, delta0 + (1 - delta0) * inner)


def advantage_bound(cost: Cost) -> float:
    """The largest true-positive rate minus false-positive rate of any attacker, rounded up.

    The region of possible rates is convex and symmetric about the line tpr = 1 - fpr, so the largest gap lies on it.
    Source: as `tpr_bound`; joint quasi-convexity of Renyi divergence, van Erven and Harremoes 2014, Theorem 13.
    """
    allows = _renyi_allows(cost)
    tpr = _largest(lambda p: allows(1 - p, p), 0.5, 1.0 - 1e-15)
    delta0 = float(cost.delta0) * (1 + 1e-12)
    return min(1.0, delta0 + (1 - delta0) * (2 * tpr - 1))
