"""What one release left behind, as far as it is public or private already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

from attacks import ChargedResult, Sight
from dpsynth import Anchor, Cap, Cost, Implementation, LedgerExtract, Schema
from dpsynth.discovery import Discovered
from reports.collect.audit import Audited
from reports.safe_harbor import Scan
from reports.utility import Distance, Group


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
        anchors: Heads of the ledgers, kept elsewhere, that were found in them before anything was charged.
        distances: Synthetic marginals against the noisy measurements.
        groups: Declared groups of people against their noisy counts.
        attacks: DP-noised results, empty without a holdout.
        discovered: What the schema left open, and what was found under the budget.
        claim: The (epsilon, delta) for one unit that another program claims for its part; None where all is zCDP.
        unit_distance: How far rows per synthetic unit lie from their noisy measurement, as a total variation distance;
            None where units are not synthetic.
        scan: What patterns of identifiers were found in the synthetic rows and their schema; None where nobody looked.
        looked_at: How many of the synthetic rows attackers and comparisons with real rows had before them; None for all.
        audited: Audits of the program on made-up tables, as far as somebody gave them.
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
    audited: Audited = field(default_factory=Audited)
