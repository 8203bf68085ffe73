"""The section on attacks whose counts were charged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from attacks import Interval
from dpsynth import Cost, tpr_bound
from reports.collect.leaves import p0
from reports.collect.run import ChargedAttack
from reports.evidence import Leaf


def attack_section(attack: ChargedAttack, release: Cost, seq: int) -> dict[str, Any]:
    """What the noisy counts of one attack say, and whether it could have caught anything."""
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
        "success": p0(attack.success, "definition"),
        "powered": Leaf(attack.powered, "P1", "the same attack on a leaky copy of model rows"),
        "power": [{"share": p0(s.share, "fixed list"), "seen": Leaf(s.seen, "P1", planted)} for s in attack.sights],
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
