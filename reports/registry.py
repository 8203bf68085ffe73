"""The record of a release for the public registry of deployments of differential privacy, from its shareable evidence.

Which fields there are, and what the registry accepts in them, is data (`regimes/registry.toml`). Fields that speak of
people or organisations are never filled in by a program: whoever asks for the record states them (`Publisher`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from typing import Any, Final, TypeAlias

from dpsynth.errors import UsageError
from reports.evidence import Evidence
from reports.paths import APPROXIMATE, CLAIMED, RENYI, ZCDP, is_number
from reports.render.numbers import number, percent
from reports.render.text import name, visible
from reports.report import Report

Entry: TypeAlias = str | int | float | list[Any]

_BASIC: Final = "deployment.basic"
_VARIANTS: Final = {
    ZCDP: "Zero-concentrated DP",
    APPROXIMATE: "Approximate DP",
    RENYI: "Renyi DP",
    CLAIMED: "Approximate DP",
}
_TIERS: Final = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of the record.

    Args:
        path: Its keys, joined by dots.
        kind: text, texts, number, date, tier, or curators (a list of names, each with a type).
        required: Whether a record of ours must have it.
        person: Whether only a person can fill it in.
        one_of: The words that the registry accepts; empty where any will do.
    """

    path: str
    kind: str
    required: bool
    person: bool
    one_of: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Publisher:
    """What a person states about who publishes.

    Args:
        curator, curator_type: The organisation, and Government, Industry or Nonprofit.
        region: What region the data are about, or whose laws apply.
        authors: Who answers for the record.
        sector: Technology, Healthcare, Education, Government, Energy or Finance.
    """

    curator: str
    curator_type: str
    region: str
    authors: tuple[str, ...]
    sector: str | None = None


@cache
def fields() -> tuple[Field, ...]:
    """The fields of the record, in order."""
    data = tomllib.loads((files("reports") / "regimes" / "registry.toml").read_text(encoding="utf-8"))
    return tuple(
        Field(
            path=entry["path"],
            kind=entry["kind"],
            required=entry.get("required", False),
            person=entry.get("person", False),
            one_of=tuple(entry.get("one_of", ())),
        )
        for entry in data["field"]
    )


def record(report: Report, publisher: Publisher) -> dict[str, Any]:
    """The record as nested mappings, in the order of the fields.

    Raises:
        UsageError: the evidence lacks what a record needs, or the registry does not accept a word of the publisher's.
    """
    facts = entries(report) | {
        f"{_BASIC}.data_curators": [
            {"data_curator_name": _word(publisher.curator), "data_curator_type": publisher.curator_type}
        ],
        f"{_BASIC}.data_product_region": _word(publisher.region),
        "deployment.administrative.registry_authors": [_word(author) for author in publisher.authors],
    }
    if publisher.sector is not None:
        facts[f"{_BASIC}.data_product_sector"] = publisher.sector
    made: dict[str, Any] = {}
    for field in fields():
        if field.path in facts:
            *above, key = field.path.split(".")
            place = made
            for step in above:
                place = place.setdefault(step, {})
            place[key] = facts[field.path]
    for problem in problems(made):
        raise UsageError(f"the record for the registry cannot be made: {problem}")
    return made


def problems(made: Mapping[str, Any]) -> tuple[str, ...]:
    """Why the registry, or we, would not accept a record; empty when it is valid."""
    known = {field.path: field for field in fields()}
    found = dict(_flat(made))
    out = [f"{path} is no field of the registry" for path in found if path not in known]
    for field in fields():
        if field.path not in found:
            out += [f"{field.path} is missing"] if field.required else []
        elif not _fits(field, found[field.path]):
            words = f", one of {', '.join(field.one_of)}" if field.one_of else ""
            out.append(f"{field.path} must be a {field.kind}{words}")
    return tuple(out)


def _flat(made: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in made.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield above + key, value


def _fits(field: Field, value: object) -> bool:
    if field.kind == "curators":
        keys = {"data_curator_name", "data_curator_type"}
        return (
            isinstance(value, list)
            and bool(value)
            and all(
                isinstance(item, dict)
                and item.keys() == keys
                and _is_text(item["data_curator_name"])
                and item["data_curator_type"] in field.one_of
                for item in value
            )
        )
    if field.kind == "texts":
        return isinstance(value, list) and bool(value) and all(map(_is_text, value))
    if field.kind == "number":
        return is_number(value)
    if field.kind == "tier":
        return value in _TIERS and not isinstance(value, bool)
    if field.kind == "date" and _is_text(value):
        try:
            return date.fromisoformat(str(value)).isoformat() == value
        except ValueError:
            return False
    return _is_text(value) and (not field.one_of or value in field.one_of)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


# ---- what the evidence says ----------------------------------------------------------------------------------------


def entries(report: Report) -> dict[str, Entry]:
    """The fields that evidence and policy fill in; those for people, and those without evidence, are not there.

    Texts that others chose are made visible; a line break is ours, and parts a list.
    """
    evidence = report.evidence
    found: dict[str, Entry | None] = {
        "url_slug": _prefixed("dpsynth-", _text(evidence, "release.release_id")),
        f"{_BASIC}.name": _prefixed("Synthetic release of ", _text(evidence, "source.table")),
        f"{_BASIC}.description": _description(evidence),
        f"{_BASIC}.intended_use": _text(evidence, "release.purpose"),
        f"{_BASIC}.data_product_type": "Synthetic data",
        f"{_BASIC}.publication_date": report.verdict.on.isoformat(),
        "deployment.dp_variant.variant_name": _VARIANTS.get(str(evidence.value("guarantee.definition"))),
        "deployment.dp_variant.data_domain": _domain(evidence),
        "deployment.dp_variant.unprotected_quantities": _unprotected(evidence),
        "deployment.privacy_loss.privacy_unit": _text(evidence, "guarantee.unit"),
        "deployment.privacy_loss.privacy_unit_details": _unit(evidence),
        "deployment.privacy_loss.privacy_parameters.epsilon": evidence.number("guarantee.epsilon"),
        "deployment.privacy_loss.privacy_parameters.delta": evidence.number("guarantee.delta"),
        "deployment.privacy_loss.privacy_parameters.rho": evidence.number("guarantee.rho"),
        "deployment.privacy_loss.privacy_parameters_details": _parameters(evidence),
        "deployment.deployment_model.model_name": "Central",
        "deployment.deployment_model.trust_assumptions": _sentences(evidence, "guarantee.assumptions"),
        "deployment.deployment_model.release_type": "One release",
        "deployment.deployment_model.release_type_details": _lifetime(evidence),
        "deployment.deployment_model.data_source_type": "Static",
        "deployment.deployment_model.access_type": "Non-interactive",
        "deployment.deployment_model.access_type_details": "Readers get files; nobody can ask the source table.",
        "deployment.implementation.preprocessing_and_hyperparameter_tuning": _tuning(evidence),
        "deployment.implementation.mechanisms": _mechanisms(evidence),
        "deployment.implementation.composition": _composition(evidence),
        "deployment.implementation.post_processing": "Fitting a model to the noisy measurements, and drawing synthetic "
        "rows from it, look at no real row. Public rules between columns are kept in every row; no row is rejected for "
        "being close to a real one.",
        "deployment.implementation.justification": _justification(report),
        "deployment.implementation.utility": _utility(evidence),
        "deployment.implementation.additional_information": f"Evidence SHA-256 {report.verdict.evidence_sha256}, policy "
        f"SHA-256 {report.verdict.policy_sha256}, verdict of the gate on {report.verdict.on.isoformat()}: "
        f"{report.verdict.state.replace('_', ' ')}.",
        "deployment.administrative.status": "Draft",
        "deployment.administrative.tier": 3,
    }
    return {path: value for path, value in found.items() if value is not None}


def _word(text: str) -> str:
    return name(text)


def _prefixed(prefix: str, text: str | None) -> str | None:
    return None if text is None else prefix + text


def _text(evidence: Evidence, path: str) -> str | None:
    value = evidence.value(path)
    return visible(value) if isinstance(value, str) and value.strip() else None


def _sentences(evidence: Evidence, path: str) -> str | None:
    value = evidence.value(path)
    return "\n".join(f"- {visible(text)}" for text in value) if isinstance(value, tuple) and value else None


def _description(evidence: Evidence) -> str | None:
    rows = evidence.number("release.rows")
    if rows is None:
        return None
    return f"{number(rows)} synthetic rows, drawn from a model that was learned under differential privacy."


def _domain(evidence: Evidence) -> str | None:
    columns, unit = len(evidence.rows("columns")), _text(evidence, "unit.entity")
    most = evidence.number("unit.max_rows")
    if unit is None or most is None or not columns:
        return None
    return f"Tables with the {columns} declared columns, of which at most {number(most)} rows of each {unit} are used."


def _unprotected(evidence: Evidence) -> str | None:
    if evidence.value("guarantee.unprotected_quantities") == ():
        return "None is known. Facts that the schema declares are public."
    return _sentences(evidence, "guarantee.unprotected_quantities")


def _unit(evidence: Evidence) -> str | None:
    unit, most = _text(evidence, "unit.entity"), evidence.number("unit.max_rows")
    if unit is None or most is None:
        return None
    relation = "exchanging" if evidence.value("unit.neighbours") == "replace" else "adding or removing"
    return f"Two tables are adjacent if one becomes the other by {relation} all rows of one {unit}, at most {number(most)} of which are used."


def _parameters(evidence: Evidence) -> str | None:
    native, lines = evidence.number("guarantee.rho"), []
    if native is not None:
        lines.append(f"Charged natively as rho = {number(native, 'up')}.")
    for row in evidence.rows("guarantee.profile"):
        epsilon, delta = (row[key].value if key in row else None for key in ("epsilon", "delta"))
        if is_number(epsilon) and is_number(delta):
            lines.append(f"Epsilon {number(epsilon, 'up')} at delta {number(delta, 'up')}.")
    bound = evidence.number("risk.tpr_at_fpr")
    if bound is not None:
        lines.append(f"Over the lifetime of the budget at most {percent(bound, 'up')} are detected at 1% false alarms.")
    return " ".join(lines) or None


def _lifetime(evidence: Evidence) -> str | None:
    cap, delta = evidence.number("ledger.cap_epsilon"), evidence.number("ledger.cap_delta")
    spent, attempts = evidence.number("ledger.spent_epsilon"), evidence.number("ledger.attempts")
    if cap is None or delta is None or attempts is None:
        return None
    used = "no lifetime epsilon exists" if spent is None else f"epsilon {number(spent, 'up')} is spent"
    return f"The population’s ledger allows epsilon {number(cap, 'up')} at delta {number(delta, 'up')} over its lifetime; {used}. Attempts charged: {number(attempts)}. Budget is never renewed."


def _tuning(evidence: Evidence) -> str | None:
    basis, choice = _text(evidence, "domain.basis"), _text(evidence, "release.choice")
    if basis is None:
        return None
    found = len(evidence.rows("discovery"))
    discovered = (
        f"Facts about {found} columns were discovered under the budget, and are charged."
        if found
        else "All values and bounds are declared in the schema; nothing was discovered."
    )
    chosen = "" if choice is None else f" Why this synthesizer: {choice}."
    return (
        f"{discovered} Where declared values come from: {basis}. Every attempt about these people is charged.{chosen}"
    )


def _mechanisms(evidence: Evidence) -> str | None:
    paths = {
        "implementation.noise": "Noise",
        "implementation.selection": "Selection",
        "implementation.randomness": "Randomness",
        "implementation.claimed_by": "Cost stated by",
        "tool.name": "Program",
        "tool.version": "Version",
    }
    lines = [f"- {title}: {text}" for path, title in paths.items() if (text := _text(evidence, path)) is not None]
    exact = evidence.value("implementation.floating_point")
    lines += [] if exact is None else [f"- Floating-point noise: {'yes' if exact else 'no'}"]
    return "\n".join(lines) or None


def _composition(evidence: Evidence) -> str | None:
    lines = ["Losses add up in their native measure; a ledger is charged before a row is read, and never refunded."]
    for row in evidence.rows("guarantee.shares"):
        purpose, rho = (row[key].value if key in row else None for key in ("purpose", "rho"))
        if isinstance(purpose, str) and is_number(rho):
            lines.append(f"- {_word(purpose)}: rho {number(rho, 'up')}")
    return "\n".join(lines) if len(lines) > 1 else None


def _justification(report: Report) -> str:
    """The policy's own reasons for the thresholds on the loss."""
    policy = report.policy
    about = ("guarantee.epsilon", "guarantee.delta", "risk.tpr_at_fpr", "guarantee.unit")
    reasons = [
        f"- {_word(rule.id)}: {visible(rule.reason)}" for rule in policy.stage("release") if rule.evidence in about
    ]
    head = f"Policy {_word(policy.name)}, version {_word(policy.version)}: {visible(policy.reason)}"
    return "\n".join([head, *reasons])


def _utility(evidence: Evidence) -> str | None:
    one, two = evidence.number("utility.tv1"), evidence.number("utility.tv2")
    if one is None:
        return None
    pairs = "" if two is None else f", of measured pairs {percent(two, 'up')}"
    return f"Mean total variation distance from the noisy measurements: of single columns {percent(one, 'up')}{pairs}."
