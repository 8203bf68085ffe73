"""Results on real rows (class P3), which only the internal edition has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from attacks import AttackResult, Interval, Measure, Register, SuiteResult
from dpsynth import Schema
from dpsynth.ledger import Entry
from reports.collect.collecting import REVIEW_AFTER
from reports.collect.leaves import p0
from reports.collect.ledger import ledger_history
from reports.collect.utility import value_of
from reports.evidence import Evidence, Leaf
from reports.paths import MOST_PAIRS, is_number
from reports.policy import Policy
from reports.utility import TrueGroup, Truth


def with_review(
    evidence: Evidence,
    found: SuiteResult | None,
    *,
    utility: Truth | None = None,
    schema: Schema | None = None,
    failed: str | None = None,
    entries: Sequence[Entry] = (),
) -> Evidence:
    """The internal evidence: the same, with results on real rows (class P3) under `review`, and the ledger's history.

    Args:
        found: What the attacks measured; None where they were not run.
        utility: The synthetic table against the true rows; None where there is nothing to compare.
        schema: Names what `utility` numbers.
        failed: Why the attacks have no result, if they should have one.
        entries: The ledger, from its first entry to the last that the evidence speaks of.
    """
    section: dict[str, Any] = {}
    if found is not None:
        section |= {result.id: {**_review(result), **_figures(result)} for result in found}
        section |= _groups(found.register)
    if utility is not None and schema is not None:
        section["utility"] = true_utility(utility, schema)
    if entries:
        section["lifetime"] = ledger_history(entries)
    if failed is not None:
        section["failed"] = Leaf(failed, "P3", "attack suite")
    return replace(evidence, tree={**evidence.tree, "review": section}) if section else evidence


def advised(found: SuiteResult, policy: Policy) -> SuiteResult:
    """The same, where each attack that has too few persons for a threshold of the policy says how many more it needs."""

    def needed(result: AttackResult) -> str | None:
        wanted = [
            result.advice(at_most=result.chance + rule.threshold)
            for rule in policy.stage("review")
            if rule.evidence == f"review.{result.id}.excess"
            and rule.op == "at_most"
            and rule.side in (None, "high")
            and is_number(rule.threshold)
        ]
        return next((words for words in wanted if words is not None), None)

    results = tuple(replace(result, needs=result.needs or needed(result)) for result in found)
    return replace(found, results=results)


def review_evidence(found: SuiteResult, *, created_at: datetime) -> Evidence:
    """Internal evidence about files that a person split, outside any release (`dpsynth attack`)."""
    dates = {
        "created_at": p0(created_at.strftime("%Y-%m-%dT%H:%M:%SZ"), "clock"),
        "review_on": p0((created_at + REVIEW_AFTER).date().isoformat(), "a year later"),
    }
    return with_review(Evidence(dates), found)


def _review(result: AttackResult) -> dict[str, Leaf]:
    """One attack on real rows: what a policy may judge, and what the internal page explains."""
    src = "attack on real rows, without noise"
    n = result.n or None
    out = {
        "measure": Leaf(result.measure, "P3", src),
        "knows": Leaf(result.threat.knows, "P3", src),
        "status": Leaf(result.status, "P3", src),
        "n": Leaf(result.n, "P3", src),
        "trials": Leaf(result.trials, "P3", src),
    }
    for name, flag in (
        ("leak", result.leak),
        ("above_ceiling", result.above_ceiling),
        ("to_look_at", result.to_look_at),
    ):
        out[name] = Leaf(flag, "P3", src)
    for name, text in (("note", result.note), ("needs", result.needs)):
        if text:
            out[name] = Leaf(text, "P3", src)
    if result.status != "measured" or result.estimate is None or result.interval is None:
        why = result.needs or result.note or "the attack could not be run"
        return out | {"excess": Leaf(None, "P3", src, missing=why)}
    out["excess"] = Leaf(
        result.estimate - result.chance,
        "P3",
        f"{src}; {result.measure}",
        low=result.interval.low - result.chance,
        high=result.interval.high - result.chance,
        confidence=result.interval.confidence,
        n=n,
    )
    rates = {"attack": result.fit, "control": result.control}
    out |= {name: Leaf(rate.value, "P3", src) for name, rate in rates.items() if rate is not None}
    numbers = {"baseline": result.baseline, "p_value": result.p_adjusted, **_allowed(result)}
    out |= {name: Leaf(number, "P3", src) for name, number in numbers.items() if number is not None}
    if result.no_ceiling:
        out["no_ceiling"] = Leaf(result.no_ceiling, "P3", src)
    if (control := result.positive_control) is not None:
        out["positive_control"] = Leaf(
            control.estimate - result.chance,
            "P3",
            "the same attack on rows of the fit side, drawn with replacement",
            low=control.interval.low - result.chance,
            high=control.interval.high - result.chance,
            confidence=control.interval.confidence,
        )
        out["detected"] = Leaf(control.detected, "P3", src)
    return out


def _allowed(result: AttackResult) -> dict[str, float | None]:
    """What the declared guarantee allows: the success on persons used, or the difference where that is no rate."""
    if result.fit is not None or result.ceiling is None:
        return {"ceiling": result.ceiling}
    least = None if result.floor is None else result.floor - result.chance
    return {"most": result.ceiling - result.chance, "least": least}


def _figures(result: AttackResult) -> dict[str, list[dict[str, Leaf]]]:
    """What an attack reports besides and nobody judges, and why some of it is not there."""
    rows = [_figure(name, figure) for name, figure in result.figures.items()]
    rows += [
        {"name": Leaf(name, "P3", _FIGURE), "value": Leaf(None, "P3", _FIGURE, missing=why)}
        for name, why in result.omitted.items()
    ]
    return {"figures": rows} if rows else {}


_FIGURE = "attack on real rows, without noise; decides nothing"


def _figure(name: str, figure: Measure) -> dict[str, Leaf]:
    """A figure and its two sides; one without sides says what it would be by chance."""
    sides = {"attack": figure.fit, "control": figure.control}
    row = {
        side: _between(rate.value, rate.interval(figure.interval.confidence), rate.persons)
        for side, rate in sides.items()
        if rate is not None
    }
    called = name if row else f"{name} ({figure.chance:g} if nothing leaked)"
    return {
        "name": Leaf(called, "P3", _FIGURE),
        **row,
        "value": _between(figure.estimate, figure.interval, figure.persons),
    }


def _between(value: float, interval: Interval, persons: int) -> Leaf:
    low, high = interval.low, interval.high
    return Leaf(value, "P3", _FIGURE, low=low, high=high, confidence=interval.confidence, n=persons)


def _groups(register: Register) -> dict[str, Any]:
    """How many groups of persons were compared, and those that are more exposed to an attack than everybody else."""
    src = "persons on whom attacks succeeded, by declared values of quasi-identifiers, without noise"
    rows = [
        {
            "attack": Leaf(group.attack, "P3", src),
            "group": Leaf(f"{group.column}: {group.cell}", "P3", src),
            "persons": Leaf(group.fit, "P3", src),
            "exposed": Leaf(group.exposed_fit, "P3", src),
            "difference": Leaf(
                group.excess.estimate,
                "P3",
                src,
                low=group.excess.interval.low,
                high=group.excess.interval.high,
                confidence=group.excess.interval.confidence,
            ),
        }
        for group in register.standing_out
    ]
    return {"groups_compared": Leaf(len(register.groups), "P3", src)} | ({"groups": rows} if rows else {})


def true_utility(found: Truth, schema: Schema) -> dict[str, Any]:
    """The synthetic table against the true rows."""
    src = "synthetic against true rows of the fit side"
    worst = sorted(found.pairs.items(), key=lambda item: (-item[1], item[0]))[:MOST_PAIRS]
    return {
        **{f"tv{ways}": Leaf(distance, "P3", src) for ways, distance in found.means.items()},
        "columns": [
            {"name": Leaf(schema.names[column], "P3", src), "tv": Leaf(distance, "P3", src)}
            for (column,), distance in sorted(found.alone.items(), key=lambda item: (-item[1], item[0]))
        ],
        "pairs": [
            {
                "first": Leaf(schema.names[first], "P3", src),
                "second": Leaf(schema.names[second], "P3", src),
                "tv": Leaf(distance, "P3", src),
            }
            for (first, second), distance in worst
        ],
        "groups": [
            {
                "group": Leaf(f"{schema.names[g.column]}: {value_of(schema, g.column, g.cell)}", "P3", src),
                "rows": Leaf(g.rows, "P3", src),
                "true": Leaf(g.true, "P3", src),
                "synthetic": Leaf(g.synthetic, "P3", src),
                "within": Leaf(g.within, "P3", src, missing="" if g.within is not None else _nothing_inside(g)),
            }
            for g in found.groups
        ],
    }


def _nothing_inside(group: TrueGroup) -> str:
    if not group.rows:
        return "no real row"
    return "no other column" if group.synthetic else "no synthetic row"
