"""The section on patterns of identifiers."""

from __future__ import annotations

from typing import Any

from reports.collect.leaves import p0
from reports.evidence import Leaf
from reports.safe_harbor import Scan


def scan_section(scan: Scan) -> dict[str, Any]:
    """What patterns of identifiers were found. Class P1: schema and rows of the release, and nothing else."""
    src = "patterns over the released schema and the synthetic rows"
    return {
        "safe_harbor": [
            {
                "letter": p0(found.letter, "45 CFR 164.514(b)(2)(i)"),
                "status": Leaf(found.status, "P1", src),
                "columns": Leaf(found.columns, "P1", src),
                "signs": Leaf(found.signs, "P1", src),
            }
            for found in scan.findings
        ],
        "direct": Leaf(scan.direct, "P1", src),
        "pan_scan": Leaf(scan.cards, "P1", src),
    }
