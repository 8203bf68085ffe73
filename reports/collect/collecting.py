"""`collect`: a run to the evidence that may be shared."""

from __future__ import annotations

import platform
import re
from contextlib import suppress
from datetime import timedelta
from importlib import metadata
from typing import Any

import dpsynth
from reports.collect.attacks import attack_section
from reports.collect.audit import audit_section
from reports.collect.columns import discovered_row, from_schema
from reports.collect.guarantee import from_implementation, guarantee_section
from reports.collect.identifiers import scan_section
from reports.collect.leaves import p0
from reports.collect.ledger import ledger_section
from reports.collect.limits import limits_of
from reports.collect.risk import lifetime_loss, risk_section
from reports.collect.run import Run
from reports.collect.utility import utility_section
from reports.evidence import Evidence, Leaf

REVIEW_AFTER = timedelta(days=365)


def collect(run: Run) -> Evidence:
    """The evidence of a run, without anything from real rows."""
    lifetime = lifetime_loss((run.ledger, *run.other_ledgers))
    tree: dict[str, Any] = {
        "created_at": p0(run.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"), "clock, when the budget was reserved"),
        "review_on": p0((run.created_at + REVIEW_AFTER).date().isoformat(), "a year after the release"),
        "limits": p0(limits_of(run), "design"),
        "tool": {
            "name": p0("dpsynth", "package"),
            "version": p0(dpsynth.__version__, "package"),
            "python": p0(platform.python_version(), "interpreter"),
            "libraries": p0(_libraries(), "packages that are installed"),
        },
        "release": {
            "release_id": p0(run.release_id, "random"),
            "kind": p0("data and model" if run.claim is None else "data", "setting"),
            "synthesizer": p0(run.synthesizer, "setting"),
            "choice": p0(run.choice, "setting, or the schema"),
            "rows": Leaf(run.rows, "P1", "setting, public bound, or the noisy total of the fit side"),
            "purpose": p0(run.purpose, "setting"),
            "published": p0(run.published, "setting"),
        },
        "source": {"table": p0(run.schema.table, "schema"), "population": p0(run.ledger.population, "ledger")},
        "discovery": [discovered_row(found) for found in run.discovered],
        "guarantee": guarantee_section(run),
        "implementation": from_implementation(run.implementation),
        "ledger": ledger_section(run),
        "risk": risk_section(run, lifetime),
        "utility": utility_section(run),
    }
    tree |= from_schema(run.schema)
    if run.scan is not None:
        tree["deid_scan"] = scan_section(run.scan)
    if found := audit_section(run.audited):
        tree["audit"] = found
    if run.attacks:
        tree["attacks"] = {attack.id: attack_section(attack, run.cost, run.seq) for attack in run.attacks}
    return Evidence(tree)


def _libraries() -> tuple[str, ...]:
    """The libraries that this program names as its own, with their versions; of optional ones those that are installed."""
    lines = (line for line in metadata.requires("dpsynth") or () if not re.search(r"extra == .(dev|bench)", line))
    names = {re.split(r"[^A-Za-z0-9._-]", line)[0] for line in lines} - {"dpsynth"}
    found = []
    for name in sorted(names, key=str.lower):
        with suppress(
            OSError, LookupError, ValueError, metadata.PackageNotFoundError
        ):  # also one whose files are half removed
            if version := metadata.version(name):
                found.append(f"{name} {version}")
    return tuple(found)
