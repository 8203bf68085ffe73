"""The section on the ledger, and which of several a reader must see first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import dpsynth
from dpsynth import Anchor, Cap, Cost, LedgerExtract, tpr_bound
from dpsynth.ledger import Entry
from dpsynth.signing import PublicKey
from reports.collect.leaves import p0, up
from reports.collect.run import Run
from reports.evidence import Leaf
from reports.paths import UNSIGNED

_MOST_MOMENTS = 200  # of the ledger's history, the latest


def by_loss(extracts: Sequence[LedgerExtract]) -> list[LedgerExtract]:
    """The ledgers that one release charged, the one whose figures a reader must see first.

    Releases without differential privacy come before everything, then unsigned amendments, then what a person may lose
    in a lifetime, then the smaller remainder. Counts of the first are the largest of all.
    """

    def badness(extract: LedgerExtract) -> tuple[bool, bool, float, float]:
        unsigned = any(not row["key"] for row in extract.amendments)
        return extract.imports_not_dp > 0, unsigned, _caught(extract), -remaining_epsilon(extract)

    first, *rest = sorted(extracts, key=badness, reverse=True)
    counts = ("attempts", "denied", "orphans", "claimed", "floating_point", "imports", "imports_not_dp")
    return [replace(first, **{name: max(getattr(e, name) for e in extracts) for name in counts}), *rest]


def _caught(extract: LedgerExtract) -> float:
    """How often an attacker with one false alarm in a hundred can be right, by all that a ledger ever allows."""
    return tpr_bound(extract.cap.lifetime(extract.charged), 0.01)


def ledger_section(run: Run) -> dict[str, Any]:
    """What the ledger held right after the reservation."""
    extract, cap = run.ledger, run.ledger.cap
    mine = run.cost
    before = _without(extract.charged, mine)
    src = "sum of the charged costs, as if their schedule had been fixed beforehand, rounded up"
    known = extract.imports_not_dp == 0
    missing = "an earlier release without differential privacy has no epsilon"

    def loss(cost: Cost) -> Leaf:
        return p0(up(cost.epsilon(cap.delta)), src) if known else Leaf(None, "P0", src, missing=missing)

    return {
        "ledger_id": p0(extract.ledger_id, "ledger"),
        "seq": p0(extract.seq, "ledger"),
        "head": p0(extract.head, "ledger"),
        "genesis": p0(extract.genesis_time[:10], "ledger, first entry"),
        "anchors": [
            {"seq": p0(anchor.seq, "policy"), "head": p0(anchor.head, "policy, found in the ledger")}
            for anchor in run.anchors
            if anchor.ledger_id == extract.ledger_id
        ],
        "ledgers": p0(1 + len(run.other_ledgers), "setting"),
        "others": [_other(other, run.anchors) for other in run.other_ledgers],
        "cap_epsilon": p0(float(cap.epsilon), "ledger"),
        "cap_delta": p0(float(cap.delta), "ledger"),
        "spent_before_epsilon": loss(before),
        "spent_epsilon": loss(extract.charged),
        "remaining": p0(
            min(map(remaining_epsilon, (extract, *run.other_ledgers))),
            "largest release that still fits, rounded down",
        ),
        "attempts": p0(extract.attempts, "ledger"),
        "denied": p0(extract.denied, "ledger"),
        "orphans": p0(extract.orphans, "ledger"),
        "raised": p0(len(extract.amendments), "ledger"),
        "amendments": [_amendment(amendment) for amendment in extract.amendments],
        "claimed": p0(extract.claimed, "ledger"),
        "floating_point": p0(extract.floating_point, "ledger"),
        "imports": p0(extract.imports, "ledger"),
        "imports_not_dp": p0(extract.imports_not_dp, "ledger"),
        "verified": p0(run.ledger_verified, "whole chain, read again"),
    }


def _other(extract: LedgerExtract, anchors: Sequence[Anchor]) -> dict[str, Leaf]:
    """Another ledger that the release was charged to, in full."""
    seen = [f"{anchor.seq}:{anchor.head}" for anchor in anchors if anchor.ledger_id == extract.ledger_id]
    return {
        "ledger_id": p0(extract.ledger_id, "ledger"),
        "population": p0(extract.population, "ledger"),
        "genesis": p0(extract.genesis_time[:10], "ledger, first entry"),
        "raised": p0(len(extract.amendments), "ledger"),
        "signed": p0(tuple(map(_signed, extract.amendments)), "ledger"),
        **({"anchor": p0(seen[0], "policy, found in the ledger")} if seen else {}),
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
    return {name: p0(value, "ledger") for name, value in found.items()}


def _signed(amendment: Mapping[str, Any]) -> str:
    """The fingerprint of the key that signed."""
    return PublicKey.parse(amendment["key"]).fingerprint if amendment["key"] else UNSIGNED


def ledger_history(entries: Sequence[Entry]) -> list[dict[str, Leaf]]:
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
            "seq": p0(entry.seq, src),
            "time": p0(entry.time, src),
            "limit": p0(float(cap.epsilon), src),
            "epsilon": Leaf(None, "P0", src, missing="no epsilon holds for what was charged")
            if spent is None
            else p0(up(spent.epsilon(cap.delta)), "sum of the charged costs, rounded up"),
        }
        for entry, spent, cap in moments[-_MOST_MOMENTS:]
    ]


def _charged_by(cost: Mapping[str, Any]) -> Cost:
    """The cost that an entry holds; its large whole numbers stand there as texts."""
    return Cost.from_json({**cost, **({"extra": [int(loss) for loss in cost["extra"]]} if "extra" in cost else {})})
