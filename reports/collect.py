"""Turns what a run left behind into evidence; no other file here sees ledgers, models or attack results.

`Run` holds facts that are public or already private (P0 to P2); `collect` makes the tree that may be shared. Results on
real rows come in by `with_review` alone and end up under `review`, which the shareable edition leaves out.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import combinations
from typing import Any

import dpsynth
from attacks import AttackResult, ChargedResult, Interval, Register, Sight, SuiteResult
from dpsynth import Anchor, Cap, Cost, Implementation, LedgerExtract, Schema, advantage_bound, tpr_bound
from dpsynth.counting.base import MOST_PERSONS
from dpsynth.discovery import Discovered
from dpsynth.ledger import Entry
from dpsynth.privacy import NANO, ORDERS
from dpsynth.schema import DISCOVER
from dpsynth.signing import PublicKey
from reports.evidence import Evidence, Leaf
from reports.paths import APPROXIMATE, CLAIMED, MOST_PAIRS, RENYI, UNSIGNED, ZCDP
from reports.safe_harbor import Scan
from reports.utility import Distance, Group, Truth

_FPRS = (0.001, 0.01, 0.05, 0.1)
_BASELINES = (0.01, 0.05, 0.1, 0.25, 0.5)
_REVIEW_AFTER = timedelta(days=365)
_MOST_NAMED = 8  # groups, or pairs, in one sentence
_MOST_MOMENTS = 200  # of the ledger's history, the latest
_FAR_OFF, _ROUGH = 0.1, 0.2  # total variation


@dataclass(frozen=True, kw_only=True)
class ChargedAttack:
    """One attack whose counts were charged.

    Args:
        id: Name of the attack.
        success: What counts as a success on one person, in words.
        persons: How many persons were judged, by the noisy counts.
        found: What the noisy counts say; None where they allow no estimate.
        control: What the same attack, with the same noise, finds when model rows were copied on purpose.
        sights: How often it would have shown leaks of known size among model rows.
    """

    id: str
    success: str
    persons: int
    found: ChargedResult | None
    control: ChargedResult | None
    sights: Sequence[Sight]

    @property
    def powered(self) -> bool:
        """Whether the deliberately leaky copy was caught: without that, finding nothing says nothing."""
        return self.control is not None and self.control.interval.low > 0


@dataclass(frozen=True, kw_only=True)
class Run:
    """Everything about one release that is public, or private already.

    Args:
        release_id: Random, says nothing.
        created_at: When the reservation was made, UTC.
        schema: The schema of the table.
        synthesizer, rows, purpose, published: As in the manifest.
        choice: Why this synthesizer.
        holdout: Chance of each unit to be held back for attacks.
        promise: The (epsilon, delta) that the release was asked for, and how it was turned into a cost.
        cost: What the release was charged.
        implementation: How far the synthesizer keeps its promise.
        spending: What was spent on what, summed by purpose.
        seq: The ledger entry that paid for everything.
        ledger: The ledger after the reservation; of several, the first of `by_loss`.
        other_ledgers: The others that were charged.
        ledger_verified: Whether its chain was verified in full.
        anchors: Heads of the ledger, kept elsewhere, that were found in it before anything was charged.
        distances: Synthetic marginals against the noisy measurements.
        groups: Declared groups of people against their noisy counts.
        attacks: DP-noised results, empty without a holdout.
        discovered: What the schema left open, and what was found under the budget.
        claim: The (epsilon, delta) for one unit that another program claims for its part; None where all is zCDP.
        unit_distance: How far rows per synthetic unit lie from their noisy measurement, as a total variation distance;
            None where units are not synthetic.
        scan: What patterns of identifiers were found in the synthetic rows and their schema; None where nobody looked.
        looked_at: How many of the synthetic rows attackers and comparisons with real rows had before them; None for all.
    """

    release_id: str
    created_at: datetime
    schema: Schema
    synthesizer: str
    choice: str
    rows: int
    purpose: str
    published: str
    holdout: Fraction
    promise: Cap
    cost: Cost
    implementation: Implementation
    spending: Mapping[str, Cost]
    seq: int
    ledger: LedgerExtract
    ledger_verified: bool
    distances: Sequence[Distance]
    groups: Sequence[Group]
    attacks: Sequence[ChargedAttack]
    anchors: Sequence[Anchor] = ()
    discovered: Sequence[Discovered] = ()
    claim: tuple[Fraction, Fraction] | None = None
    unit_distance: float | None = None
    scan: Scan | None = None
    looked_at: int | None = None
    other_ledgers: Sequence[LedgerExtract] = ()


def by_loss(extracts: Sequence[LedgerExtract]) -> list[LedgerExtract]:
    """The ledgers that one release charged, the one whose figures a reader must see first.

    Releases without differential privacy come before everything, then unsigned amendments, then what a person may lose
    in a lifetime, then the smaller remainder. Counts of the first are the largest of all.
    """

    def badness(extract: LedgerExtract) -> tuple[bool, bool, float, float]:
        unsigned = any(not row["key"] for row in extract.amendments)
        return extract.imports_not_dp > 0, unsigned, _caught(extract), -remaining_epsilon(extract)

    first, *rest = sorted(extracts, key=badness, reverse=True)
    counts = ("attempts", "denied", "orphans", "imports", "imports_not_dp")
    return [replace(first, **{name: max(getattr(e, name) for e in extracts) for name in counts}), *rest]


def _caught(extract: LedgerExtract) -> float:
    """How often an attacker with one false alarm in a hundred can be right, by all that a ledger ever allows."""
    return tpr_bound(extract.cap.lifetime(extract.charged), 0.01)


def lifetime_loss(extracts: Sequence[LedgerExtract]) -> Cost:
    """What one person may lose in a lifetime by all ledgers that one release charged.

    A person may be in each population, and lose to the releases of each: the losses add up. A ledger whose parents are
    there too adds nothing, because they are charged whatever it is, but for imports.
    """
    known = {extract.ledger_id for extract in extracts}
    apart = [e for e in extracts if e.imports or not known.intersection(e.parents)]
    total = Cost.zero()
    for extract in apart:
        total += extract.cap.lifetime(extract.charged)
    single = (extract.cap.lifetime(extract.charged) for extract in extracts)
    return max((total, *single), key=lambda cost: tpr_bound(cost, 0.01))  # as the limit of the ledger shown, at least


def collect(run: Run) -> Evidence:
    """The evidence of a run, without anything from real rows."""
    lifetime = lifetime_loss((run.ledger, *run.other_ledgers))
    tree: dict[str, Any] = {
        "created_at": _p0(run.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"), "clock, when the budget was reserved"),
        "review_on": _p0((run.created_at + _REVIEW_AFTER).date().isoformat(), "a year after the release"),
        "limits": _p0(_limits(run), "design"),
        "tool": {
            "name": _p0("dpsynth", "package"),
            "version": _p0(dpsynth.__version__, "package"),
            "python": _p0(platform.python_version(), "interpreter"),
        },
        "release": {
            "release_id": _p0(run.release_id, "random"),
            "kind": _p0("data and model" if run.claim is None else "data", "setting"),
            "synthesizer": _p0(run.synthesizer, "setting"),
            "choice": _p0(run.choice, "setting, or the schema"),
            "rows": Leaf(run.rows, "P1", "setting, public bound, or the noisy total of the fit side"),
            "purpose": _p0(run.purpose, "setting"),
            "published": _p0(run.published, "setting"),
        },
        "source": {"table": _p0(run.schema.table, "schema"), "population": _p0(run.ledger.population, "ledger")},
        "discovery": [_discovery(found) for found in run.discovered],
        "guarantee": _guarantee(run),
        "implementation": {
            "noise": _p0(run.implementation.noise, "implementation"),
            "selection": _p0(run.implementation.selection, "implementation"),
            "randomness": _p0(run.implementation.randomness, "implementation"),
            "floating_point": _p0(run.implementation.floating_point, "implementation"),
            "known_violations": _p0(run.implementation.known_violations, "implementation"),
            "claimed_by": _p0(run.implementation.claimed_by or "dpsynth", "implementation"),
        },
        "ledger": _ledger(run),
        "risk": _risk(run, lifetime),
        "utility": _utility(run),
    }
    tree |= from_schema(run.schema)
    if run.scan is not None:
        tree["deid_scan"] = _scan(run.scan)
    if run.attacks:
        tree["attacks"] = {attack.id: _attack(attack, run.cost, run.seq) for attack in run.attacks}
    return Evidence(tree)


def from_schema(schema: Schema) -> dict[str, Any]:
    """The sections that follow from the schema of a release alone, so that anyone who has it can make them again."""
    unit = schema.unit
    return {
        "unit": {
            "entity": _p0(unit.entity, "schema"),
            "max_rows": _p0(unit.max_rows, "schema"),
            "neighbours": _p0(unit.neighbours, "schema"),
            "bounding": _p0(
                "enforced by the curator: of a unit with more rows, secret coins keep that many", "implementation"
            ),
        },
        "columns": [_column(column, schema) for column in _columns(schema)],
        "constraints": [_constraint(constraint, schema) for constraint in schema.constraints],
        "domain": {
            "basis": _p0(_named("missing for", schema.basis_gaps()) or "stated", "schema"),
            "from_data": _p0(", ".join(schema.from_data()) or "none", "schema"),
        },
    }


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
        section |= {result.id: _review(result) for result in found}
        section |= _groups(found.register)
    if utility is not None and schema is not None:
        section["utility"] = _true_utility(utility, schema)
    if entries:
        section["lifetime"] = _lifetime(entries)
    if failed is not None:
        section["failed"] = Leaf(failed, "P3", "attack suite")
    return replace(evidence, tree={**evidence.tree, "review": section}) if section else evidence


def review_evidence(found: SuiteResult, *, created_at: datetime) -> Evidence:
    """Internal evidence about files that a person split, outside any release (`dpsynth attack`)."""
    dates = {
        "created_at": _p0(created_at.strftime("%Y-%m-%dT%H:%M:%SZ"), "clock"),
        "review_on": _p0((created_at + _REVIEW_AFTER).date().isoformat(), "a year later"),
    }
    return with_review(Evidence(dates), found)


# ---- sections ----------------------------------------------------------------------------------------------------


def _p0(value: Any, src: str) -> Leaf:
    return Leaf(value, "P0", src)


def _named(intro: str, names: Sequence[str]) -> str:
    return f"{intro} {', '.join(names)}" if names else ""


def _columns(schema: Schema) -> list[dpsynth.Column]:
    """All columns of the data and of the synthetic rows: the unit column need not be declared to be among the latter."""
    declared = {column.name for column in schema.columns}
    return [*(column for column in schema.filled if column.name not in declared), *schema.columns]


def _column(column: dpsynth.Column, schema: Schema) -> dict[str, Leaf]:
    modelled = column.is_modelled
    return {
        "name": _p0(column.name, "schema"),
        "type": _p0(column.type, "schema"),
        "role": _p0(column.role, "schema"),
        "size": Leaf(column.size, "P1", "discovered with noise")
        if column.source == DISCOVER
        else _p0(column.size if modelled else 0, "schema"),
        "source": _p0(column.source, "schema"),
        "basis": _p0(column.basis or ("as for the table" if schema.basis else "not stated"), "schema"),
        "treatment": _p0(_treatment(column, schema), "schema"),
    }


def _discovery(found: Discovered) -> dict[str, Leaf]:
    """A fact that cost budget. What was found stands in the schema of the release."""
    values = "values" in found.facts
    if values:
        least = f"a value is published from a noisy count of {found.least} units on"
    elif found.facts == ("bins",):
        least = "none: the bounds are declared"
    else:
        least = f"rows are taken to be there from a noisy count of about {found.least} on"

    def noise(value: float | str) -> Leaf:
        """Of the last look at a number: how often a cell was counted follows from the noisy counts before."""
        return Leaf(value, "P0" if values else "P1", "calibrated to the budget")

    return {
        "column": _p0(found.column.name, "schema"),
        "facts": _p0(", ".join(found.facts), "schema"),
        "mechanism": _p0(
            "partition selection, exact discrete Gaussian noise" if values else "tree of noisy counts", "implementation"
        ),
        "sigma": noise(up(Fraction(found.sigma))),
        "least": noise(least),
        "rho": _p0(up(found.rho), "accountant"),
        "delta0": _p0(up(found.delta0), "accountant"),
    }


def _treatment(column: dpsynth.Column, schema: Schema) -> str:
    if column.is_modelled:
        return "modelled; the same in all rows of a synthetic unit" if column.per_unit else "modelled"
    if column.is_filled:
        return f"filled with fakes of format {column.format}, which owe nothing to the data"
    if column.name in {filled.name for filled in schema.filled}:
        return "fresh ids of synthetic units, which owe nothing to the data"
    return "dropped: not in the synthetic table"


def _constraint(constraint: dpsynth.Constraint, schema: Schema) -> dict[str, Leaf]:
    return {
        "rule": _p0(constraint.text, "schema"),
        "basis": _p0(constraint.basis or ("as for the table" if schema.basis else "not stated"), "schema"),
    }


def _guarantee(run: Run) -> dict[str, Any]:
    cost, unit = run.cost, run.schema.unit
    deltas = sorted({run.promise.delta, run.promise.delta / 1000, Fraction(1, 10**5)}, reverse=True)
    formula = "conversion of the charged loss (arXiv:2004.00010, Proposition 12), rounded up"
    out: dict[str, Any] = {
        "definition": _p0(
            CLAIMED if run.claim is not None else RENYI if cost.extra else APPROXIMATE if cost.delta0 else ZCDP,
            "accountant",
        ),
        "delta0": _p0(
            up(sum((found.delta0 for found in run.discovered), Fraction(0))),
            "thresholds of discovery, charged in the ledger",
        ),
        "rho": _rho(cost, "charged in the ledger")
        if run.claim is not None
        else Leaf(up(cost.rho), "P0", "charged in the ledger"),
        "epsilon": _p0(float(run.promise.epsilon), "the promise that was charged"),
        "delta": _p0(float(run.promise.delta), "the promise that was charged"),
        "unit": _p0(unit.entity, "schema"),
        "profile": [
            {"epsilon": _p0(up(cost.epsilon(delta)), formula), "delta": _p0(float(delta), "fixed list")}
            for delta in deltas
            if delta > cost.delta0  # else no epsilon holds
        ],
        "shares": [_share(purpose, spent, run) for purpose, spent in run.spending.items()],
        "covers": _p0(
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
        "unprotected_quantities": _p0(_unprotected(run), "schema and design"),
        "assumptions": _p0(
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
            {"order": _p0(float(order), "fixed list"), "nano": _p0(loss, "charged in the ledger")}
            for order, loss in zip(ORDERS, cost.extra, strict=True)
        ]
    if run.claim is not None:
        src = "what the program claims for a row, by group privacy for a unit, rounded up"
        out["claim"] = {name: _p0(up(part), src) for name, part in zip(("epsilon", "delta"), run.claim, strict=True)}
    return out


def _rho(cost: Cost, src: str) -> Leaf:
    """The rho of a zCDP cost, whose delta0 stands beside it; of any other cost it would be no bound."""
    if cost.is_zcdp:
        return Leaf(up(cost.rho), "P0", src)
    return Leaf(None, "P0", src, missing="not zCDP: no rho bounds this loss")


def _share(purpose: str, spent: Cost, run: Run) -> dict[str, Leaf]:
    """What was spent on a purpose, as a rho: a Renyi loss counts at the order at which the promise is kept.

    What another program claims has no rho.
    """
    if spent.is_zcdp or run.claim is not None:
        return {"purpose": _p0(purpose, "accountant"), "rho": _rho(spent, "accountant")}
    order = run.promise.order
    said = f"{purpose} (Renyi loss at order {float(order):g}, over the order)"
    return {"purpose": _p0(said, "accountant"), "rho": _p0(up(Fraction(spent.at(order), NANO) / order), "accountant")}


def _unprotected(run: Run) -> tuple[str, ...]:
    out = [f"the domain of {name}, which was read off the data" for name in run.schema.from_data()]
    return (*out, *([] if run.claim is None else ["whether the program ran to its end"]))


def _ledger(run: Run) -> dict[str, Any]:
    extract, cap = run.ledger, run.ledger.cap
    elsewhere = [_signed(amendment) for other in run.other_ledgers for amendment in other.amendments]
    mine = run.cost
    before = _without(extract.charged, mine)
    src = "sum of the charged costs, as if their schedule had been fixed beforehand, rounded up"
    known = extract.imports_not_dp == 0
    missing = "an earlier release without differential privacy has no epsilon"

    def loss(cost: Cost) -> Leaf:
        return _p0(up(cost.epsilon(cap.delta)), src) if known else Leaf(None, "P0", src, missing=missing)

    return {
        "ledger_id": _p0(extract.ledger_id, "ledger"),
        "seq": _p0(extract.seq, "ledger"),
        "head": _p0(extract.head, "ledger"),
        "genesis": _p0(extract.genesis_time[:10], "ledger, first entry"),
        "anchors": [
            {"seq": _p0(anchor.seq, "policy"), "head": _p0(anchor.head, "policy, found in the ledger")}
            for anchor in run.anchors
        ],
        "cap_epsilon": _p0(float(cap.epsilon), "ledger"),
        "cap_delta": _p0(float(cap.delta), "ledger"),
        "spent_before_epsilon": loss(before),
        "spent_epsilon": loss(extract.charged),
        "remaining": _p0(
            min(map(remaining_epsilon, (extract, *run.other_ledgers))),
            "largest release that still fits, rounded down",
        ),
        "attempts": _p0(extract.attempts, "ledger"),
        "denied": _p0(extract.denied, "ledger"),
        "orphans": _p0(extract.orphans, "ledger"),
        "raised": _p0(len(extract.amendments), "ledger"),
        **({"raised_elsewhere": _p0(tuple(elsewhere), "the other ledgers that were charged")} if elsewhere else {}),
        "amendments": [_amendment(amendment) for amendment in extract.amendments],
        "imports": _p0(extract.imports, "ledger"),
        "imports_not_dp": _p0(extract.imports_not_dp, "ledger"),
        "verified": _p0(run.ledger_verified, "whole chain, read again"),
    }


def _without(charged: Cost, mine: Cost) -> Cost:
    """What was charged before this release."""
    extra = tuple(a - b for a, b in zip(charged.extra, mine.extra, strict=True)) if mine.extra else charged.extra
    return Cost(charged.rho - mine.rho, extra if any(extra) else (), charged.delta0 - mine.delta0)


def remaining_epsilon(extract: LedgerExtract) -> float:
    """The largest epsilon, in steps of 0.001, of one more release at the cap's delta; negative when the cap is passed."""
    cap, spare = extract.cap, extract.cap.nano - extract.charged_nano
    if spare < 0 or extract.charged.delta0 > cap.delta0:  # only imports can pass a cap
        over = extract.charged.epsilon(cap.delta) - cap.epsilon if extract.charged.delta0 < cap.delta else cap.epsilon
        return -max(0.001, float(over))
    low, high = 0, int(cap.epsilon * 1000)
    while low < high:
        middle = (low + high + 1) // 2
        try:
            fits = cap.admits(
                extract.charged_nano, extract.charged.delta0, Cap.of(Fraction(middle, 1000), cap.delta).cost
            )
        except dpsynth.UsageError:  # so small that no order can express it: it fits wherever anything does
            fits = spare > 0
        low, high = (middle, high) if fits else (low, middle - 1)
    return low / 1000


def _amendment(amendment: Mapping[str, Any]) -> dict[str, Leaf]:
    """One raise of the limit: what, why, who, and with which key it was signed."""
    found: dict[str, Any] = {name: amendment[name] for name in ("seq", "reason", "approver")}
    found |= {name: float(Fraction(amendment[name])) for name in ("from_epsilon", "to_epsilon")}
    found["signed"] = _signed(amendment)
    return {name: _p0(value, "ledger") for name, value in found.items()}


def _signed(amendment: Mapping[str, Any]) -> str:
    """The fingerprint of the key that signed."""
    return PublicKey.parse(amendment["key"]).fingerprint if amendment["key"] else UNSIGNED


def _lifetime(entries: Sequence[Entry]) -> list[dict[str, Leaf]]:
    """What was charged, and the limit, after each entry that moved one of them; of a long ledger the last ones.

    Class P0, because no entry depends on a row. It stays internal all the same: when a house charged how much is its
    own business, and only totals leave it (docs/evidence.md).
    """
    cap = Cap.from_json(entries[0].fields["cap"])
    held, charged, known = dict[int, Cost](), Cost.zero(), True
    moments = []
    for entry in entries:
        fields = entry.fields
        if entry.kind == "AMEND":
            cap = Cap.from_json(fields["cap"])
        elif entry.kind == "RESERVE":
            held[entry.seq] = _charged_by(fields["cost"])
            charged += held[entry.seq]
        elif entry.kind == "RELEASE_UNUSED":
            charged = _without(charged, held[fields["reservation"]])
        elif entry.kind == "IMPORT_EXTERNAL" and fields["cost"] is not None:
            charged += _charged_by(fields["cost"])
        elif entry.kind == "IMPORT_EXTERNAL":
            known = False
        elif entry is not entries[0] and entry is not entries[-1]:
            continue
        moments.append((entry, charged if known and charged.delta0 < cap.delta else None, cap))
    src = "ledger"
    return [
        {
            "seq": _p0(entry.seq, src),
            "time": _p0(entry.time, src),
            "limit": _p0(float(cap.epsilon), src),
            "epsilon": Leaf(None, "P0", src, missing="no epsilon holds for what was charged")
            if spent is None
            else _p0(up(spent.epsilon(cap.delta)), "sum of the charged costs, rounded up"),
        }
        for entry, spent, cap in moments[-_MOST_MOMENTS:]
    ]


def _charged_by(cost: Mapping[str, Any]) -> Cost:
    """The cost that an entry holds; its large whole numbers stand there as texts."""
    return Cost.from_json({**cost, **({"extra": [int(loss) for loss in cost["extra"]]} if "extra" in cost else {})})


def _risk(run: Run, lifetime: Cost) -> dict[str, Any]:
    release = run.cost
    src = "Renyi data processing on the charged curve, rounded up"
    out: dict[str, Any] = {
        "success": [
            {"baseline": _p0(kappa, "fixed list"), "bound": _p0(tpr_bound(release, kappa), src)} for kappa in _BASELINES
        ],
    }
    if run.ledger.imports_not_dp:
        missing = "an earlier release of the same population was not differentially private: no lifetime bound exists"
        return out | {"tpr_at_fpr": Leaf(None, "P0", src, missing=missing)}
    lifetime_src = "the same on the limit that the ledger enforces over the population's lifetime, rounded up"
    if run.other_ledgers:
        lifetime_src += "; limits of several ledgers are added up, because one person may be in all populations"
    return out | {
        "tpr_at_fpr": _p0(tpr_bound(lifetime, 0.01), lifetime_src),
        "advantage": _p0(advantage_bound(lifetime), lifetime_src),
        "table": [
            {
                "fpr": _p0(fpr, "fixed list"),
                "release": _p0(tpr_bound(release, fpr), src),
                "cumulative": _p0(tpr_bound(lifetime, fpr), lifetime_src),
            }
            for fpr in _FPRS
        ],
    }


def _utility(run: Run) -> dict[str, Any]:
    src = "total variation distance of synthetic shares from noisy measured shares"
    expected = "expected absolute noise, from sigma and the noisy total"
    ones = [d for d in run.distances if len(d.columns) == 1]
    pairs = [d for d in run.distances if len(d.columns) == 2]
    names = run.schema.names
    out: dict[str, Any] = {
        "columns": [
            {
                "name": _p0(names[d.columns[0]], "schema"),
                "tv": Leaf(d.tv, "P1", src),
                "noise": Leaf(d.noise, "P1", expected),
            }
            for d in ones
        ],
        "pairs": [
            {
                "first": _p0(names[d.columns[0]], "schema"),
                "second": _p0(names[d.columns[1]], "schema"),
                "tv": Leaf(d.tv, "P1", src),
                "noise": Leaf(d.noise, "P1", expected),
            }
            for d in _worst(pairs)
        ],
        "groups": [_group(group, run.schema) for group in run.groups],
        "unfit": Leaf(_unfit(run), "P1", "noisy measurements, and which were made"),
    }
    if run.unit_distance is not None:
        out["unit_rows"] = Leaf(
            run.unit_distance, "P1", "total variation distance of synthetic rows per unit from noisy counts"
        )
    if ones:
        out["tv1"] = Leaf(sum(d.tv for d in ones) / len(ones), "P1", f"mean {src}, single columns")
    else:
        out["tv1"] = Leaf(None, "P1", src, missing="the synthesizer measured no column that could be compared")
    if pairs:
        out["tv2"] = Leaf(
            sum(d.tv for d in pairs) / len(pairs), "P1", f"mean {src}, measured pairs, after rare cells were merged"
        )
    return out


def _worst(pairs: Sequence[Distance]) -> list[Distance]:
    """The pairs that came out worst, the worst first."""
    return sorted(pairs, key=lambda d: (-d.tv, d.columns))[:MOST_PAIRS]


def _group(group: Group, schema: Schema) -> dict[str, Leaf]:
    src = "noisy count of the group and noisy total"
    return {
        "column": _p0(schema.names[group.column], "schema"),
        "value": Leaf(_value(schema, group.column, group.cell), "P1", "discovered with noise")
        if schema.modelled[group.column].source == DISCOVER
        else _p0(_value(schema, group.column, group.cell), "schema"),
        "measured": Leaf(group.measured, "P1", src),
        "synthetic": Leaf(group.synthetic, "P1", "synthetic rows"),
        "noise": Leaf(group.noise, "P1", "sigma over the noisy total"),
        "drowned": Leaf(group.drowned, "P1", src),
    }


def _value(schema: Schema, column: int, cell: int) -> str:
    declared = schema.modelled[column]
    return "missing" if cell == declared.missing_code else declared.labels[cell]


def _unfit(run: Run) -> tuple[str, ...]:
    """Uses that the synthetic table does not serve, from what was measured and how well. Class P1."""
    out = [
        "Decisions about a single person: no synthetic row is anyone.",
        "Tests of significance that take the rows as a random sample of people: the rows come from a model with noise in "
        "it, so such intervals are too narrow.",
    ]
    columns, pairs = (
        len(run.schema.sizes),
        {pair for d in run.distances for pair in combinations(sorted(set(d.columns)), 2)},
    )
    possible = columns * (columns - 1) // 2
    if possible > len(pairs):
        out.append(
            f"Conclusions about how two columns hang together, where the pair was not measured: {len(pairs)} of "
            f"{possible} pairs were, and the others follow only as far as those imply them."
        )
    triples = len({d.columns for d in run.distances if len(d.columns) > 2})
    if columns > 2:
        measured = (
            f"sets of three or more that were measured together: {triples}"
            if triples
            else "none were measured together"
        )
        out.append(
            "Conclusions about three or more columns together, unless a reader has checked them in another way: "
            f"{measured}."
        )
    drowned = [group for group in run.groups if group.drowned]
    if drowned:
        named = [
            f"{run.schema.names[g.column]} = {_value(run.schema, g.column, g.cell)}" for g in drowned[:_MOST_NAMED]
        ]
        more = f", and {len(drowned) - len(named)} more" if len(drowned) > len(named) else ""
        out.append(
            f"Numbers about groups whose noise is more than a tenth of their size: {'; '.join(named)}{more}. What noise "
            "adds to them or takes from them is, relative to their size, more than for anyone else."
        )
    two = [d for d in run.distances if len(d.columns) == 2]
    rough = sorted((d for d in two if d.noise > _ROUGH), key=lambda d: (-d.noise, d.columns))
    if rough:
        out.append(
            "Single cells of pairs that were measured roughly, where noise alone is expected to move more than a fifth of "
            f"the shares: {_pairs(rough, run.schema)}."
        )
    off = [d for d in _worst(two) if d.tv - d.noise > _FAR_OFF]
    if off:
        out.append(
            "Analyses of pairs that lie farther from what was measured than noise explains, by more than a tenth of the "
            f"shares: {_pairs(off, run.schema)}."
        )
    return tuple(out)


def _pairs(found: Sequence[Distance], schema: Schema) -> str:
    named = [" with ".join(schema.names[column] for column in d.columns) for d in found[:_MOST_NAMED]]
    return "; ".join(named) + (f", and {len(found) - len(named)} more" if len(found) > len(named) else "")


def _true_utility(found: Truth, schema: Schema) -> dict[str, Any]:
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
                "group": Leaf(f"{schema.names[g.column]}: {_value(schema, g.column, g.cell)}", "P3", src),
                "rows": Leaf(g.rows, "P3", src),
                "true": Leaf(g.true, "P3", src),
                "synthetic": Leaf(g.synthetic, "P3", src),
                "within": Leaf(g.within, "P3", src, missing="" if g.within is not None else "no synthetic row"),
            }
            for g in found.groups
        ],
    }


def _scan(scan: Scan) -> dict[str, Any]:
    """What patterns of identifiers were found. Class P1: schema and rows of the release, and nothing else."""
    src = "patterns over the released schema and the synthetic rows"
    return {
        "safe_harbor": [
            {
                "letter": _p0(found.letter, "45 CFR 164.514(b)(2)(i)"),
                "status": Leaf(found.status, "P1", src),
                "columns": Leaf(found.columns, "P1", src),
                "signs": Leaf(found.signs, "P1", src),
            }
            for found in scan.findings
        ],
        "direct": Leaf(scan.direct, "P1", src),
        "pan_scan": Leaf(scan.cards, "P1", src),
    }


def _attack(attack: ChargedAttack, release: Cost, seq: int) -> dict[str, Any]:
    src = "counts of persons with discrete Gaussian noise, charged"
    noisy = "the noise left too few persons to judge: use a larger table, more epsilon or a larger attack share"
    blind = "at this size and noise the attack does not even catch a deliberately leaky copy: use more epsilon"
    found, control = attack.found, attack.control

    def missing(why: str) -> Leaf:
        return Leaf(None, "P2", src, ledger_seq=(seq,), missing=why)

    def charged(value: float, src: str = src) -> Leaf:
        return Leaf(value, "P2", src, ledger_seq=(seq,), n=max(0, attack.persons))

    planted = "model rows copied into model rows, with this noise and these sizes, many times"
    out: dict[str, Any] = {
        "success": _p0(attack.success, "definition"),
        "powered": Leaf(attack.powered, "P1", "the same attack on a leaky copy of model rows"),
        "power": [{"share": _p0(s.share, "fixed list"), "seen": Leaf(s.seen, "P1", planted)} for s in attack.sights],
    }
    if control is not None:
        leaky = Leaf(control.excess, "P1", "excess when model rows were copied, against fresh model rows")
        out["positive_control"] = _with_ends(leaky, control.interval)
    if found is None or not attack.powered:
        return out | {
            name: missing(noisy if found is None else blind) for name in ("excess", "fit_rate", "control_rate")
        }
    kappa = "ceiling for this release when success without the person's rows is the upper end of the control rate"
    if found.control_at_most > 0:
        out["bound"] = charged(tpr_bound(release, found.control_at_most), kappa)
    else:
        out["bound"] = missing("the noise carried the control rate below zero, so there is nothing to compare with")
    return out | {
        "excess": _with_ends(charged(found.excess), found.interval),
        "fit_rate": _with_ends(charged(found.fit), found.fit_interval),
        "control_rate": _with_ends(charged(found.control), found.control_interval),
    }


def _with_ends(leaf: Leaf, interval: Interval) -> Leaf:
    """A difference of rates lies between -1 and 1 whatever the noise says."""
    low, high = (min(1.0, max(-1.0, end)) for end in (interval.low, interval.high))
    return replace(leaf, low=low, high=high, confidence=interval.confidence)


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
    numbers = {"baseline": result.baseline, "ceiling": result.ceiling, "p_value": result.p_adjusted}
    out |= {name: Leaf(number, "P3", src) for name, number in numbers.items() if number is not None}
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


def _limits(run: Run) -> tuple[str, ...]:
    unit = run.schema.unit.entity
    dropped = [column.name for column in run.schema.lost]
    out = [
        "This does not promise that nothing can be learned about groups. What the data show about people like someone "
        "may be concluded about that person even if their record was never used.",
        f"The guarantee is for one {unit}. Facts shared by many are protected less than facts about one.",
        "Small groups carry the most noise: do not use the synthetic table for decisions about rare categories.",
        "What a network learned of relations between columns was not measured: only single columns were."
        if run.cost.extra and run.claim is None
        else "Relations that the model did not measure are reproduced only as far as the measured ones imply them.",
        "A synthetic row can equal a real one by chance; that is neither proof of a leak nor, absent, proof of safety.",
        "Attacks can refute a claim of privacy; they cannot prove one. Those in this report notice when some percent of "
        "the rows are copied, as the tables of what they could have seen say; a few copied rows, or noise that is too "
        "small, takes an audit of the program by many repeated fits (`dpsynth audit`), which is no part of a release.",
    ]
    if any(extract.amendments for extract in (run.ledger, *run.other_ledgers)):
        out.append(
            "The lifetime limit was raised. The lifetime bound is that of the raised limit, and supposes that the "
            "decision to raise it did not rest on what earlier releases showed."
        )
    if run.other_ledgers:
        out.append(
            f"The release was charged in full to {1 + len(run.other_ledgers)} ledgers, of all populations that its people "
            "come from. The budget shown is that of the one in the worst state, and what is left is the smallest remainder. "
            "What a person may lose in a lifetime is added up, for a person may be in each of them."
        )
    if run.claim is not None:
        out.append(
            f"What the release costs is what {run.implementation.claimed_by} claims for its part. Nobody here has proved "
            "it; `dpsynth audit` can refute it."
        )
    if run.attacks:
        out.append(
            f"Attacks look at {MOST_PERSONS:,} {unit}s of each side at most, chosen by secret coins: of a larger table the "
            "numbers are of that sample."
        )
    if run.looked_at is not None and run.looked_at < run.rows:
        out.append(
            f"Attacks, and comparisons with real rows, look at the first {run.looked_at:,} synthetic rows, drawn as all "
            "others are; more rows say no more than the model in this release."
        )
    if not run.attacks:
        out.append("No attack was run: the release was made without a holdout.")
    if run.schema.synthetic_units:
        constant = [column.name for column in run.schema.modelled if column.per_unit]
        out.append(
            f"Rows of one synthetic {unit} belong together in how many they are"
            + (f", and in being equal in {', '.join(constant)}" if constant else "")
            + f". In all else they are independent: nothing can be learned from them about how a {unit} changes from row "
            "to row, or about columns that are alike in all rows of one without being declared so."
        )
    if dropped:
        out.append(f"Not in the synthetic table: {', '.join(dropped)}.")
    return tuple(out)


def up(value: Fraction) -> float:
    """A float that is not below an exact value."""
    near = float(value)
    return near if Fraction(near) >= value else math.nextafter(near, math.inf)
