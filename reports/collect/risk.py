"""The section on risk: what no attacker can exceed, by this release and in a lifetime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dpsynth import Cost, LedgerExtract, advantage_bound, tpr_bound
from reports.collect.leaves import p0
from reports.collect.run import Run
from reports.evidence import Leaf

_FPRS = (0.001, 0.01, 0.05, 0.1)
_BASELINES = (0.01, 0.05, 0.1, 0.25, 0.5)


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


def risk_section(run: Run, lifetime: Cost) -> dict[str, Any]:
    """Ceilings for any attacker, by this release alone and by all that the ledger allows."""
    release = run.cost
    src = "Renyi data processing on the charged curve, rounded up"
    out: dict[str, Any] = {
        "success": [
            {"baseline": p0(kappa, "fixed list"), "bound": p0(tpr_bound(release, kappa), src)} for kappa in _BASELINES
        ],
    }
    if run.ledger.imports_not_dp:
        missing = "an earlier release of the same population was not differentially private: no lifetime bound exists"
        return out | {"tpr_at_fpr": Leaf(None, "P0", src, missing=missing)}
    lifetime_src = "the same on the limit that the ledger enforces over the population's lifetime, rounded up"
    if run.other_ledgers:
        lifetime_src += "; limits of several ledgers are added up, because one person may be in all populations"
    return out | {
        "tpr_at_fpr": p0(tpr_bound(lifetime, 0.01), lifetime_src),
        "advantage": p0(advantage_bound(lifetime), lifetime_src),
        "table": [
            {
                "fpr": p0(fpr, "fixed list"),
                "release": p0(tpr_bound(release, fpr), src),
                "cumulative": p0(tpr_bound(lifetime, fpr), lifetime_src),
            }
            for fpr in _FPRS
        ],
    }
