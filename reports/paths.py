"""Every path that evidence may hold: what it means, of which kind it is, and which privacy classes it may have.

This table is the allow-list of the shareable edition. A leaf at a path that is not listed here, or of a class that is
not listed for its path, cannot be shared, and no rule of a policy can be about it. Adding a leaf to the evidence means
adding a line here first, and saying why its class is right.

Privacy classes: P0 configuration or public knowledge; P1 computed from differentially private output; P2 a charged
differentially private query; P3 computed from real rows without noise (internal); P4 about one record (never written).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal, TypeAlias, TypeGuard

PrivacyClass: TypeAlias = Literal["P0", "P1", "P2", "P3", "P4"]
Kind: TypeAlias = Literal["number", "positive", "share", "count", "flag", "text", "texts", "date"]
Value: TypeAlias = bool | int | float | str | tuple[str, ...] | None

CLASSES: Final[tuple[PrivacyClass, ...]] = ("P0", "P1", "P2", "P3", "P4")
SHAREABLE: Final[frozenset[str]] = frozenset({"P0", "P1", "P2"})
NUMERIC: Final[frozenset[str]] = frozenset({"number", "positive", "share", "count"})
LARGEST: Final = 10**18
"""No number in evidence or policy is larger: every one of them can be a float, be printed, and be computed with."""

CHARGED_ATTACKS: Final = ("exact_match", "membership", "linkage", "attribute_inference")
"""Attacks whose success is a fixed function of a person's own rows, so that their counts can be charged and shared."""
REVIEW_ATTACKS: Final = (
    "exact_match",
    "nearest_record",
    "membership",
    "linkage",
    "record_linkage",
    "singling_out",
    "attribute_inference",
    "reconstruction",
    "vulnerable_records",
)
"""Attacks run on real rows without noise: internal for ever."""


@dataclass(frozen=True, kw_only=True)
class Path:
    """What may stand at one path of the evidence.

    Args:
        title: What the value is, in plain words, for the pages.
        kind: What the value must look like.
        classes: The privacy classes that are right for it.
        required: Without it no verdict is possible, whatever the policy asks.
    """

    title: str
    kind: Kind
    classes: frozenset[str]
    required: bool

    def holds(self, value: Value) -> bool:
        """Whether `value` is of this path's kind. A missing value is a matter for the gate, not for the kind."""
        return value is None or fits_kind(value, self.kind)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number that can be judged: no flag, neither infinite nor NaN, and of a size that occurs."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def fits_kind(value: Value, kind: Kind) -> bool:
    """Whether a value is of a kind: types are exact, so that True is never the number 1, nor "yes" a flag."""
    if kind == "flag":
        return isinstance(value, bool)
    if kind == "texts":
        return isinstance(value, tuple)
    if kind == "text":
        return isinstance(value, str) and value.strip() != ""
    if kind == "date":
        return isinstance(value, str) and _is_date(value)
    if not is_number(value):
        return False
    if kind == "count":
        return isinstance(value, int) and value >= 0
    if kind == "positive":
        return value > 0
    if kind == "share":
        return 0 <= value <= 1
    return True


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True


MOST_PAIRS: Final = 20
"""Of pairs of columns no more are listed, the worst first."""

UNSIGNED: Final = "unsigned"
"""What stands in the place of a key's fingerprint where nobody signed."""

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?")
ZCDP: Final = "zCDP"
APPROXIMATE: Final = "approximate zCDP"
RENYI: Final = "zCDP and a Renyi curve"
CLAIMED: Final = "approximate DP, claimed by another tool"
"""The definitions of privacy: of a release whose loss is its rho alone, of one whose rho holds but for a chance delta0, of
one that has a curve on top of it (and may have a delta0), and of one whose loss is what another program claims."""

NEVER_EMPTY: Final = frozenset({"columns", "guarantee.profile", "guarantee.shares", "risk.table", "risk.success"})
"""Tables that need a row at least: without one, a page would leave out a chapter and say nothing about it."""


def _p0(title: str, kind: Kind = "text", *, required: bool = True) -> Path:
    return Path(title=title, kind=kind, classes=frozenset({"P0"}), required=required)


def _p1(title: str, kind: Kind, *, required: bool = True) -> Path:
    """A formula of declared costs, or a function of released output: P0 when nothing in it came from the rows."""
    return Path(title=title, kind=kind, classes=frozenset({"P0", "P1"}), required=required)


def _p2(title: str, kind: Kind) -> Path:
    """A charged count. Whether one is needed is for the policy to say."""
    return Path(title=title, kind=kind, classes=frozenset({"P2"}), required=False)


ATTACK_TITLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "exact_match": "Exact copies",
        "nearest_record": "Nearest record",
        "membership": "Membership",
        "linkage": "Linkage",
        "singling_out": "Singling out",
        "attribute_inference": "Attribute inference",
        "record_linkage": "Record linkage",
        "reconstruction": "Reconstruction",
        "vulnerable_records": "Vulnerable records",
    }
)


def _attack(name: str) -> dict[str, Path]:
    title, base = ATTACK_TITLES[name], f"attacks.{name}"
    return {
        f"{base}.success": _p0(f"{title}: what counts as a success", required=False),
        f"{base}.excess": _p2(f"{title}: success on persons used, minus success on persons never used", "number"),
        f"{base}.fit_rate": _p2(f"{title}: success on persons whose rows were used", "number"),
        f"{base}.control_rate": _p2(f"{title}: success on persons whose rows were never used", "number"),
        f"{base}.bound": Path(
            title=f"{title}: proven ceiling for the success on a person whose rows were used",
            kind="share",
            classes=frozenset({"P1", "P2"}),
            required=False,
        ),
        f"{base}.baseline": Path(
            title=f"{title}: success of a guess without the release",
            kind="number",
            classes=SHAREABLE,
            required=False,
        ),
        f"{base}.positive_control": Path(
            title=f"{title}: the same difference on a deliberately leaky copy",
            kind="number",
            classes=frozenset({"P0", "P1", "P2"}),
            required=False,
        ),
        f"{base}.power[].share": _p0("Share of persons copied", "share", required=False),
        f"{base}.power[].seen": _p1("How often that would have been seen", "share", required=False),
        f"{base}.powered": _p1(f"{title}: the leaky copy was caught at this size and noise", "flag", required=False),
    }


def _selftest(table: str) -> dict[str, Path]:
    base = f"audit.selftest.{table}[]"
    return {
        f"{base}.seen": _p0("Times seen", "count", required=False),
        f"{base}.runs": _p0("Of so many", "count", required=False),
        f"{base}.rate": _p0("Share of such leaks that would be seen", "share", required=False),
    }


PATHS: Final[Mapping[str, Path]] = MappingProxyType(
    {
        "created_at": _p0("When this evidence was collected (UTC)", "date"),
        "review_on": _p0("Review again on", "date"),
        "limits": _p0("Known limits", "texts"),
        "tool.name": _p0("Tool"),
        "tool.version": _p0("Version of the tool"),
        "tool.python": _p0("Python", required=False),
        "tool.libraries": _p0("Libraries installed", "texts", required=False),
        "release.release_id": _p0("Release"),
        "release.kind": _p0("What was released"),
        "release.synthesizer": _p0("Synthesizer"),
        "release.choice": _p0("Why this synthesizer", required=False),
        "release.rows": Path(title="Synthetic rows", kind="count", classes=SHAREABLE, required=True),
        "release.purpose": _p0("Purpose", required=False),
        "release.published": _p0("Whether a gate judged this release when it was made"),
        "source.table": _p0("Table"),
        "source.population": _p0("Population"),
        "unit.entity": _p0("Whose presence is hidden"),
        "unit.max_rows": _p0("Rows used of each, at most", "positive"),
        "unit.neighbours": _p0("Neighbouring tables"),
        "unit.bounding": _p0("How the limit on rows is enforced"),
        "columns[].name": _p0("Column"),
        "columns[].type": _p0("Type"),
        "columns[].role": _p0("Role"),
        "columns[].size": Path(title="Cells", kind="count", classes=frozenset({"P0", "P1"}), required=False),
        "columns[].source": _p0("Where its values come from"),
        "columns[].basis": _p0("Basis", required=False),
        "columns[].treatment": _p0("Treatment"),
        "discovery[].column": _p0("Column"),
        "discovery[].facts": _p0("Discovered"),
        "discovery[].mechanism": _p0("By"),
        "discovery[].sigma": _p1("Standard deviation of the noise on a count", "positive"),
        "discovery[].least": _p1("Threshold", "text"),
        "discovery[].rho": _p1("rho", "positive"),
        "discovery[].delta0": _p1("delta0", "share"),
        "constraints[].rule": _p0("Rule that every synthetic row keeps"),
        "constraints[].basis": _p0("Basis", required=False),
        "domain.basis": _p0("Basis of the declared domains"),
        "domain.from_data": _p0("Domains read off the data"),
        "guarantee.definition": _p0("Definition of privacy"),
        "guarantee.rho": _p1("Privacy loss in its native measure (rho)", "positive"),
        "guarantee.delta0": _p0("Chance with which discovery's rho may fail to hold (delta0)", "share"),
        "guarantee.curve[].order": _p0("Order", "positive", required=False),
        "guarantee.curve[].nano": _p1("Renyi loss on top of rho, in billionths", "count", required=False),
        "guarantee.claim.epsilon": _p0("Epsilon that another program claims for its part", "positive", required=False),
        "guarantee.claim.delta": _p0("Delta that another program claims for its part", "number", required=False),
        "guarantee.epsilon": _p1("Epsilon of this release", "positive"),
        "guarantee.delta": _p0("Delta of this release", "positive"),
        "guarantee.unit": _p0("Unit of privacy"),
        "guarantee.profile[].epsilon": _p1("Epsilon", "number"),
        "guarantee.profile[].delta": _p1("Delta", "number"),
        "guarantee.shares[].purpose": _p0("Spent on"),
        "guarantee.shares[].rho": _p1("rho", "number"),
        "guarantee.unprotected_quantities": _p0("Quantities that the guarantee does not protect", "texts"),
        "guarantee.covers": _p0("What the guarantee covers", "texts"),
        "guarantee.assumptions": _p0("What it assumes", "texts"),
        "implementation.noise": _p0("Noise"),
        "implementation.selection": _p0("Selection", required=False),
        "implementation.randomness": _p0("Source of randomness"),
        "implementation.floating_point": _p0("Floating-point noise", "flag"),
        "implementation.known_violations": _p0("Known violations in the program used", "texts"),
        "implementation.claimed_by": _p0("Cost claimed by"),
        "ledger.ledger_id": _p0("Ledger"),
        "ledger.seq": _p0("Entries at the time of writing", "count"),
        "ledger.head": _p0("Head of the chain"),
        "ledger.genesis": _p0("Ledger made on", "date"),
        "ledger.anchors[].seq": _p0("Entry", "count"),
        "ledger.anchors[].head": _p0("Head that the policy names"),
        "ledger.cap_epsilon": _p0("Lifetime limit on epsilon", "positive"),
        "ledger.cap_delta": _p0("Delta of the lifetime limit", "positive"),
        "ledger.spent_before_epsilon": _p1("Lifetime epsilon before this release", "number"),
        "ledger.spent_epsilon": _p1("Lifetime epsilon with this release", "number"),
        "ledger.remaining": _p1("Epsilon that one more release could use", "number"),
        "ledger.attempts": _p0("Attempts charged so far", "count"),
        "ledger.denied": _p0("Requests refused", "count", required=False),
        "ledger.orphans": _p0("Reservations that never finished, and stay charged", "count"),
        "ledger.raised": _p0("Times that the limit was raised", "count"),
        "ledger.ledgers": _p0("Ledgers that were charged in full", "count"),
        "ledger.others[].ledger_id": _p0("Another ledger that was charged"),
        "ledger.others[].population": _p0("Its population"),
        "ledger.others[].genesis": _p0("Made on", "date"),
        "ledger.others[].raised": _p0("Times that its limit was raised", "count"),
        "ledger.others[].signed": _p0("Its limit was raised, signed with the key", "texts"),
        "ledger.others[].anchor": _p0("Entry and head that the policy names, seen there", required=False),
        "ledger.amendments[].seq": _p0("Entry", "count"),
        "ledger.amendments[].from_epsilon": _p0("Limit before", "number"),
        "ledger.amendments[].to_epsilon": _p0("Limit after", "number"),
        "ledger.amendments[].reason": _p0("Reason"),
        "ledger.amendments[].approver": _p0("Approved by"),
        "ledger.amendments[].signed": _p0("Signed with the key"),
        "ledger.claimed": _p0("Other charges that rest on another tool's claim, or were entered by hand", "count"),
        "ledger.floating_point": _p0("Other charges that rest on noise in floating-point arithmetic", "count"),
        "ledger.imports": _p0("Earlier releases entered by hand", "count", required=False),
        "ledger.imports_not_dp": _p0("Earlier releases without differential privacy", "count"),
        "ledger.verified": _p0("Ledger verified", "flag"),
        "risk.tpr_at_fpr": _p1("Detection at 1 false alarm in 100, over the population's lifetime", "share"),
        "risk.advantage": _p1("Largest gap between detection and false alarms", "share", required=False),
        "risk.table[].fpr": _p1("False alarms accepted", "share"),
        "risk.table[].release": _p1("Detected at most, this release alone", "share"),
        "risk.table[].cumulative": _p1("Detected at most, over the lifetime limit", "share"),
        "risk.success[].baseline": _p1("Success without the person's record", "share"),
        "risk.success[].bound": _p1("Success with it, at most", "share"),
        **{path: rule for name in CHARGED_ATTACKS for path, rule in _attack(name).items()},
        "audit.verdict": _p0("Audit of the program", required=False),
        "audit.epsilon_lower_bound": _p0("Lower bound on epsilon that an audit showed", "number", required=False),
        "audit.confidence": _p0("Confidence of all bounds of the audit together", "share", required=False),
        "audit.claim_epsilon": _p0("Epsilon that the audit put to the test", "positive", required=False),
        "audit.claim_delta": _p0("Its delta", "share", required=False),
        "audit.powered": _p0(
            "The audit could have contradicted the claim, in every worst-case game", "flag", required=False
        ),
        "audit.synthesizer": _p0("Synthesizer that was audited", required=False),
        "audit.schema": _p0("Schema that was audited, by its digest", required=False),
        "audit.version": _p0("Version of the tool that audited", required=False),
        "audit.made_on": _p0("Day of the audit", "date", required=False),
        "audit.fits": _p0("Runs of the generator in the audit", "count", required=False),
        "audit.left_out": _p0("Left out of the audit", "texts", required=False),
        "audit.differs": _p0("How the audited runs differ from this release", "texts", required=False),
        "audit.items[].id": _p0("Game and attacker", required=False),
        "audit.items[].status": _p0("What it says of the claim", required=False),
        "audit.items[].low": _p0("Lower bound on epsilon", "number", required=False),
        "audit.items[].confidence": _p0("Confidence", "share", required=False),
        "audit.items[].n": _p0("Fits", "count", required=False),
        "audit.items[].ceiling": _p0("Most that so many fits can show", "number", required=False),
        "audit.items[].small_leak": _p0("One leaked column was seen", "flag", required=False),
        "audit.selftest.verdict": _p0("Self-test of the attacks", required=False),
        "audit.selftest.schema": _p0("Schema of the self-test, by its digest", required=False),
        "audit.selftest.version": _p0("Version of the tool that tested itself", required=False),
        "audit.selftest.made_on": _p0("Day of the self-test", "date", required=False),
        "audit.selftest.persons_fit": _p0(
            "Made-up people whose rows were used, in the self-test", "count", required=False
        ),
        "audit.selftest.persons_control": _p0("Made-up people held back, in the self-test", "count", required=False),
        "audit.selftest.rows": _p0("Synthetic rows in the self-test", "count", required=False),
        "audit.selftest.fits": _p0("Fits of each game in the self-test", "count", required=False),
        "audit.selftest.false_alarms": _p0("False alarms on tables that leak nothing", "share", required=False),
        "audit.selftest.leaks[].leak": _p0("Planted leak", required=False),
        "audit.selftest.leaks[].status": _p0("More often than false alarms explain", required=False),
        **_selftest("leaks"),
        "audit.selftest.mechanisms[].factor": _p0("True loss over claimed loss", "positive", required=False),
        **_selftest("mechanisms"),
        "utility.tv1": _p1(
            "Mean distance of one column's distribution from its noisy measurement", "share", required=False
        ),
        "utility.tv2": _p1("The same for pairs of columns", "share", required=False),
        "utility.unit_rows": _p1(
            "Distance of rows per synthetic unit from their noisy counts", "share", required=False
        ),
        "utility.columns[].name": _p0("Column"),
        "utility.columns[].tv": _p1("Distance", "share"),
        "utility.columns[].noise": _p1("Expected from the noise alone", "number", required=False),
        "utility.pairs[].first": _p0("Column"),
        "utility.pairs[].second": _p0("With"),
        "utility.pairs[].tv": _p1("Distance", "share"),
        "utility.pairs[].noise": _p1("Expected from the noise alone", "number", required=False),
        "utility.groups[].column": _p0("Column"),
        "utility.groups[].value": Path(title="Group", kind="text", classes=frozenset({"P0", "P1"}), required=True),
        "utility.groups[].measured": _p1("Share, by the noisy count", "share"),
        "utility.groups[].synthetic": _p1("Share of the synthetic rows", "share"),
        "utility.groups[].noise": _p1("Standard deviation of the noise on its share", "number"),
        "utility.groups[].inflation": _p1(
            "Added to a group of nobody, on average, by cutting counts off at zero; less to others",
            "number",
            required=False,
        ),
        "utility.groups[].drowned": _p1("The noise is more than a tenth of the group", "flag"),
        "utility.unfit": _p1("What the synthetic table does not serve", "texts", required=False),
        "deid_scan.safe_harbor[].letter": _p0("Letter of 45 CFR 164.514(b)(2)(i)", required=False),
        "deid_scan.safe_harbor[].status": _p1("What the checks saw", "text", required=False),
        "deid_scan.safe_harbor[].columns": _p1("Columns", "texts", required=False),
        "deid_scan.safe_harbor[].signs": _p1("What was seen there", "texts", required=False),
        "deid_scan.direct": _p1("Identifiers that speak of one person, under so many letters", "count", required=False),
        "deid_scan.pan_scan": _p1("Payment card numbers", "text", required=False),
        "disclosure.edition_ok": _p0("Only classes P0 to P2 in the shareable edition", "flag"),
        "disclosure.leaves": _p0("Leaves by class", required=False),
    }
)

_REVIEW_FIELDS: Final[Mapping[str, tuple[str, Kind]]] = MappingProxyType(
    {
        "excess": ("success on persons used, minus success on persons never used", "number"),
        "attack": ("success on persons whose rows were used", "number"),
        "control": ("success on persons whose rows were never used", "number"),
        "baseline": ("success of the same attacker without the release", "number"),
        "positive_control": ("the same attack on a deliberately leaky copy", "number"),
        "detected": ("the deliberately leaky copy was caught", "flag"),
        "ceiling": ("most that the guarantee allows for success on persons whose rows were used", "share"),
        "p_value": ("p-value, corrected for the number of attacks", "share"),
        "leak": ("a leak was shown, after correction for the number of attacks", "flag"),
        "above_ceiling": ("success lies above what the guarantee allows", "flag"),
        "to_look_at": ("a person has to look at this", "flag"),
        "n": ("persons judged", "count"),
    }
)
REVIEW_PATHS: Final[Mapping[str, Path]] = MappingProxyType(
    {
        f"review.{name}.{field}": Path(
            title=f"{ATTACK_TITLES[name]} on real rows: {title}", kind=kind, classes=frozenset({"P3"}), required=False
        )
        for name in REVIEW_ATTACKS
        for field, (title, kind) in _REVIEW_FIELDS.items()
    }
)
"""What a policy's review rules may ask. Everything else under `review` is internal detail for the internal page."""

_INDEX = re.compile(r"\[\d+\]")


def pattern(path: str) -> str:
    """The declared form of a path: `columns[3].name` is an instance of `columns[].name`."""
    return _INDEX.sub("[]", path)


def is_internal(path: str) -> bool:
    """Whether a path belongs to the internal edition alone."""
    return path == "review" or path.startswith("review.")


@lru_cache(maxsize=8192)
def declared(path: str) -> Path | None:
    """What is declared about a path, or None when nothing is."""
    found = pattern(path)
    return PATHS.get(found) or REVIEW_PATHS.get(found)
