"""The section on the guarantee: the promise, its native measure, what it covers, and what it assumes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from dpsynth import Cost, Implementation, Schema
from dpsynth.privacy import NANO, ORDERS
from reports.collect.leaves import p0, up
from reports.collect.run import Run
from reports.evidence import Leaf
from reports.paths import APPROXIMATE, CLAIMED, RENYI, ZCDP, PrivacyClass


def guarantee_section(run: Run) -> dict[str, Any]:
    """The promise, what it was turned into, and what it rests on."""
    cost, unit = run.cost, run.schema.unit
    deltas = sorted({run.promise.delta, run.promise.delta / 1000, Fraction(1, 10**5)}, reverse=True)
    formula = "conversion of the charged loss (arXiv:2004.00010, Proposition 12), rounded up"
    out: dict[str, Any] = {
        "definition": p0(
            CLAIMED if run.claim is not None else RENYI if cost.extra else APPROXIMATE if cost.delta0 else ZCDP,
            "accountant",
        ),
        "delta0": p0(
            up(sum((found.delta0 for found in run.discovered), Fraction(0))),
            "thresholds of discovery, charged in the ledger",
        ),
        "rho": _rho(cost, "charged in the ledger")
        if run.claim is not None
        else Leaf(up(cost.rho), "P0", "charged in the ledger"),
        "epsilon": p0(float(run.promise.epsilon), "the promise that was charged"),
        "delta": p0(float(run.promise.delta), "the promise that was charged"),
        "unit": p0(unit.entity, "schema"),
        "profile": [
            {"epsilon": p0(up(cost.epsilon(delta)), formula), "delta": p0(float(delta), "fixed list")}
            for delta in deltas
            if delta > cost.delta0  # else no epsilon holds
        ],
        "shares": [_share(purpose, spent, run) for purpose, spent in run.spending.items()],
        "covers": p0(
            (
                "the synthetic rows and the model file",
                "the default number of rows, which comes from noisy counts",
                *(["the values, bounds and bins that were discovered"] if run.discovered else []),
                "every number in the shareable edition of this report",
            )
            if run.claim is None
            else ("the synthetic rows", "every number in the shareable edition of this report"),
            "design",
        ),
        "unprotected_quantities": unprotected(run.schema, claimed=run.claim is not None),
        "assumptions": p0(
            (
                f"a {unit.entity} is what the schema's unit says, and two tables are neighbours under {unit.neighbours}",
                "a CSV file was written by a program that quotes cells by RFC 4180, so that no cell reaches beyond its row",
                "every fact that the schema declares is public",
                "earlier releases about the same people are in the same ledger",
                "the computer that ran dpsynth, and the people with access to it, may see the rows",
                "nobody else can watch how long the run takes, or how much memory",
                *([] if run.claim is None else [f"the claim of {run.implementation.claimed_by} is true"]),
            ),
            "design",
        ),
    }
    if cost.extra and run.claim is None:
        out["curve"] = [
            {"order": p0(float(order), "fixed list"), "nano": p0(loss, "charged in the ledger")}
            for order, loss in zip(ORDERS, cost.extra, strict=True)
        ]
    if run.claim is not None:
        src = "what the program claims for a row, by group privacy for a unit, rounded up"
        out["claim"] = {name: p0(up(part), src) for name, part in zip(("epsilon", "delta"), run.claim, strict=True)}
    return out


def _rho(cost: Cost, src: str, cls: PrivacyClass = "P0") -> Leaf:
    """The rho of a zCDP cost, whose delta0 stands beside it; of any other cost it would be no bound."""
    if cost.is_zcdp:
        return Leaf(up(cost.rho), cls, src)
    return Leaf(None, cls, src, missing="not zCDP: no rho bounds this loss")


def _share(purpose: str, spent: Cost, run: Run) -> dict[str, Leaf]:
    """What was spent on a purpose, as a rho: a Renyi loss counts at the order at which the promise is kept.

    What another program claims has no rho. How a recipe splits its budget may follow from its noisy answers.
    """
    src = "accountant; a split of the budget may follow from noisy answers"
    if spent.is_zcdp or run.claim is not None:
        return {"purpose": p0(purpose, "accountant"), "rho": _rho(spent, src, "P1")}
    order = run.promise.order
    said = f"{purpose} (Renyi loss at order {float(order):g}, over the order)"
    return {"purpose": p0(said, "accountant"), "rho": Leaf(up(Fraction(spent.at(order), NANO) / order), "P1", src)}


def unprotected(schema: Schema, *, claimed: bool) -> Leaf:
    """What depends on the rows and the guarantee does not cover, by the schema and by whether another program claims its cost."""
    found = [f"the domain of {name}, which was read off the data" for name in schema.from_data()]
    return p0((*found, *(["whether the program ran to its end"] if claimed else [])), "schema and design")


def from_implementation(implementation: Implementation) -> dict[str, Leaf]:
    """The section that follows from which synthesizer was used, so that anyone who has its name can make it again."""
    src = "implementation"
    return {
        "noise": p0(implementation.noise, src),
        "selection": p0(implementation.selection, src),
        "randomness": p0(implementation.randomness, src),
        "floating_point": p0(implementation.floating_point, src),
        "known_violations": p0(implementation.known_violations, src),
        "claimed_by": p0(implementation.claimed_by or "dpsynth", src),
    }
