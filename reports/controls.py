"""Which clause of which regulation asks for which evidence, and whether this report holds it.

The catalogue is data (`controls.jsonl`, versioned apart from the code). What is said here is only whether the evidence
is there: a tool can prepare evidence for a person's decision, and never makes that decision.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from reports.evidence import Evidence
from reports.gate import RuleResult

Mode: TypeAlias = Literal["auto", "assist", "human"]
Status: TypeAlias = Literal["present", "partial", "absent", "human"]

STATUS_WORDS: Final[Mapping[Status, str]] = MappingProxyType(
    {
        "present": "evidence is here",
        "partial": "some evidence is here",
        "absent": "no evidence here",
        "human": "for a person to decide",
    }
)


@dataclass(frozen=True, kw_only=True)
class Control:
    """One clause: what it asks for, and which parts of the evidence answer it.

    Args:
        catalog: The catalogue that it stands in, with its version.
        id, ref, ask: Its name here, its source, and what it asks for.
        evidence: Where the answer would be, in the words of the catalogue.
        mode: "auto" evidence speaks for itself, "assist" a person judges it, "human" only a person can answer.
    """

    catalog: str
    id: str
    ref: str
    ask: str
    evidence: tuple[str, ...]
    mode: Mode


@dataclass(frozen=True, kw_only=True)
class ControlStatus:
    """Whether a report holds the evidence that a control asks for; `lacking` names what it does not hold."""

    control: Control
    status: Status
    lacking: tuple[str, ...]


# The catalogue speaks of evidence as compliance.md names it; this says where that stands in the tree, if it does.
# Several paths mean that one of them is enough; none at all means that no release holds it yet.
_BY_REPORT: Final = ("*",)  # made by the report itself: the gate's table, the policy, the digests
_WHERE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "audit": ("audit.epsilon_lower_bound",),
        "bounds": ("risk.tpr_at_fpr",),
        "bounds[criterion=singling_out]": ("risk.tpr_at_fpr",),
        "attacks": ("attacks", "review"),
        "attacks[criterion=singling_out]": ("review.singling_out.excess",),
        "attacks[criterion=linkability]": ("attacks.linkage.excess", "review.linkage.excess"),
        "attacks[criterion=attribute_inference]": (
            "attacks.attribute_inference.excess",
            "review.attribute_inference.excess",
        ),
        "attacks[].threat": ("review.membership.knows",),
        "attacks[].estimate": ("attacks.membership.excess", "review.membership.excess"),
        "attacks[].when": ("created_at",),
        "attacks[].positive_control": ("attacks.membership.positive_control", "review.membership.positive_control"),
        "attacks[].powered": ("review.membership.detected",),
        "review": ("review_on",),
        "review.next_on": ("review_on",),
        "columns": ("columns[0].name",),
        "columns[].role": ("columns[0].role",),
        "columns[role=quasi_id]": ("columns[0].role",),
        "columns[].domain_source": ("columns[0].source",),
        "columns[].treatment": ("columns[0].treatment",),
        "ledger.external_releases": ("ledger.imports_not_dp",),
        "disclosure.lint": (),
        "gate": _BY_REPORT,
        "policy": _BY_REPORT,
        "integrity": _BY_REPORT,
        "artifacts": (),
        "human": (),
        "utility": ("utility.tv1",),
        "utility[].subgroup": ("utility.groups[0].synthetic",),
        "limits": ("limits",),
        "deid_scan.safe_harbor": ("deid_scan.safe_harbor[0].status",),
    }
)


OWN: Final = "dpsynth@1"
"""The catalogue of what this product asks of itself; shown under every policy."""


@cache
def catalogue() -> tuple[Control, ...]:
    """The shipped catalogue, in its order: a file of JSON objects, one after the other."""
    text = (files("reports") / "controls.jsonl").read_text(encoding="utf-8")
    decoder, place, out = json.JSONDecoder(), 0, []
    while text[place:].strip():
        place += len(text[place:]) - len(text[place:].lstrip())
        item, place = decoder.raw_decode(text, place)
        item["evidence"] = tuple(item["evidence"])
        out.append(Control(**item))
    return tuple(out)


def not_shipped(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the catalogues named that this version does not have."""
    known = {control.catalog for control in catalogue()}
    return tuple(name for name in names if name not in known)


def evaluate(evidence: Evidence, *, catalogs: Collection[str] | None = None) -> tuple[ControlStatus, ...]:
    """Each control beside the evidence that this report holds for it.

    Args:
        catalogs: The catalogues to show, beside our own; None for all.
    """
    held, out = _places(evidence), []
    for control in catalogue():
        if catalogs is not None and control.catalog not in (OWN, *catalogs):
            continue
        lacking = tuple(asked for asked in control.evidence if not _held(asked, held))
        status: Status = "present" if not lacking else "absent" if len(lacking) == len(control.evidence) else "partial"
        out.append(
            ControlStatus(control=control, status="human" if control.mode == "human" else status, lacking=lacking)
        )
    return tuple(out)


def _held(asked: str, held: Set[str]) -> bool:
    paths = _WHERE.get(asked, (asked,))
    return paths is _BY_REPORT or any(path in held for path in paths)


def _places(evidence: Evidence) -> frozenset[str]:
    """Every path that holds a value, and every section that holds one."""
    paths = [path.split(".") for path, leaf in evidence.leaves() if leaf.value is not None]
    return frozenset(".".join(steps[:depth]) for steps in paths for depth in range(1, len(steps) + 1))


def asking_for(rule: RuleResult) -> tuple[Control, ...]:
    """The clauses that ask for the evidence which a rule of the gate looks at, or for a statement by its role."""
    out = []
    for control in catalogue():
        places = [place for asked in control.evidence for place in _WHERE.get(asked, (asked,))]
        if any(rule.path == place or rule.path.startswith(f"{place}.") for place in places if rule.path) or any(
            f"human.attestations[{role}]" in places for role in rule.id.split(".")[1:2] if _is_human(rule)
        ):
            out.append(control)
    return tuple(out)


def _is_human(rule: RuleResult) -> bool:
    return rule.origin == "policy" and rule.id.startswith("human.")
