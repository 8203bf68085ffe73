"""The record for the registry: valid, complete where vendors leave gaps, and harmless where it is shown."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from dpsynth.errors import UsageError
from reports import Leaf, Policy, Report
from reports.registry import Publisher, fields, problems, record
from reports.render.to_registry import to_registry

CLINIC = Publisher(curator="Clinic", curator_type="Nonprofit", region="Finland", authors=("A. Person", "B. Person"))


def report(builder: ModuleType, changed: dict[str, Any] | None = None) -> Report:
    return Report.of(Policy.load("open-data"), builder.internal(changed), on=builder.TODAY)


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from leaves(value, f"{path}.{key}".lstrip("."))
    else:
        yield path, node


def read(text: str) -> dict[str, Any]:
    """Reads the little YAML that is written: nested keys, lists, quoted texts and numbers, by their indentation."""
    lines = [(len(line) - len(line.lstrip()), line.strip()) for line in text.splitlines()]

    def block(place: int, depth: int) -> tuple[Any, int]:
        if lines[place][1].startswith("- "):
            items = []
            while place < len(lines) and lines[place][0] == depth and lines[place][1].startswith("- "):
                inner = lines[place][1][2:]
                if inner.startswith('"'):
                    items.append(json.loads(inner))
                    place += 1
                else:
                    lines[place] = (depth + 2, inner)
                    item, place = block(place, depth + 2)
                    items.append(item)
            return items, place
        made: dict[str, Any] = {}
        while place < len(lines) and lines[place][0] == depth:
            key, _, rest = lines[place][1].partition(":")
            assert re.fullmatch("[a-z_]+", key)
            assert key not in made
            if rest:
                made[key] = json.loads(rest)
                place += 1
            else:
                made[key], place = block(place + 1, lines[place + 1][0])
        return made, place

    whole, end = block(0, 0)
    assert end == len(lines)
    return whole


def test_the_record_is_valid_and_reads_back(builder: ModuleType) -> None:
    made = record(report(builder), CLINIC)
    assert problems(made) == ()
    text = to_registry(report(builder), CLINIC)
    assert text == to_registry(report(builder), CLINIC)
    again = read(text)
    assert problems(again) == ()
    assert [path for path, _ in leaves(again)] == [path for path, _ in leaves(made)]
    assert again["deployment"]["privacy_loss"]["privacy_parameters"] == {
        "epsilon": 1.0,
        "delta": 1e-6,
        "rho": builder.internal().value("guarantee.rho"),
    }
    assert again["deployment"]["basic"]["data_curators"] == [
        {"data_curator_name": "Clinic", "data_curator_type": "Nonprofit"}
    ]
    assert again["deployment"]["administrative"]["registry_authors"] == ["A. Person", "B. Person"]
    assert again["deployment"]["dp_variant"]["variant_name"] == "Zero-concentrated DP"
    assert re.search(r"^ +delta: 1\.0e-06$", text, re.MULTILINE), "1e-06 would be a text to readers of YAML 1.1"


def test_what_vendors_leave_out_is_there(builder: ModuleType) -> None:
    made = dict(leaves(record(report(builder), CLINIC)))
    assert made["deployment.dp_variant.unprotected_quantities"]
    assert "Every attempt" in made["deployment.implementation.preprocessing_and_hyperparameter_tuning"]
    assert "Policy open-data" in made["deployment.implementation.justification"]
    named = report(builder, {"guarantee.unprotected_quantities": builder.declared(("the domain of site",))})
    assert "the domain of site" in dict(leaves(record(named, CLINIC)))["deployment.dp_variant.unprotected_quantities"]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"curator_type": "Bank"}, "data_curators"),
        ({"curator": "  "}, "data_curators"),
        ({"region": ""}, "region"),
        ({"authors": ()}, "registry_authors"),
        ({"sector": "Gambling"}, "sector"),
    ],
)
def test_a_word_that_the_registry_does_not_know_is_refused(builder: ModuleType, changed: Any, why: str) -> None:
    facts = {key: getattr(CLINIC, key) for key in ("curator", "curator_type", "region", "authors", "sector")} | changed
    with pytest.raises(UsageError, match=why):
        record(report(builder), Publisher(**facts))


def test_nothing_that_is_required_may_be_missing(builder: ModuleType) -> None:
    """Taken out, emptied, or of another type, one field after the other; and a field too many."""
    whole = record(report(builder), CLINIC)
    required = [field for field in fields() if field.required]
    assert len(required) > 25
    for field in required:
        for spoil in ("remove", "", None, {"x": "y"}):
            made = copy.deepcopy(whole)
            *above, key = field.path.split(".")
            place = made
            for step in above:
                place = place[step]
            if spoil == "remove":
                del place[key]
            else:
                place[key] = spoil
            assert any(field.path in problem for problem in problems(made)), (field.path, spoil)
    made = copy.deepcopy(whole)
    made["deployment"]["surprise"] = "x"
    assert problems(made) == ("deployment.surprise is no field of the registry",)


def test_evidence_with_a_gap_gives_no_record(builder: ModuleType) -> None:
    for path in ("guarantee.epsilon", "guarantee.unprotected_quantities", "domain.basis", "ledger.cap_epsilon"):
        with pytest.raises(UsageError, match="missing"):
            record(report(builder, {path: None}), CLINIC)


def test_a_claim_of_another_tool_has_no_rho(builder: ModuleType) -> None:
    claimed = {
        "guarantee.definition": builder.declared("approximate DP, claimed by another tool"),
        "guarantee.rho": Leaf(None, "P0", "s", missing="not zCDP"),
    }
    made = dict(leaves(record(report(builder, claimed), CLINIC)))
    assert made["deployment.dp_variant.variant_name"] == "Approximate DP"
    assert "deployment.privacy_loss.privacy_parameters.rho" not in made


def test_names_that_want_to_do_harm_are_inert(builder: ModuleType) -> None:
    """The registry shows texts as markdown with formulas: no character of a name is markup, link or formula."""
    bad = "".join(builder.HOSTILE[:12]) + " $x$ \\(x\\) \u2028 \U0001f600"
    changed = {path: builder.declared(bad) for path in ("source.table", "release.purpose", "release.choice")}
    changed["guarantee.unprotected_quantities"] = builder.declared((bad,))
    text = to_registry(
        report(builder, changed), Publisher(curator=bad, curator_type="Industry", region=bad, authors=(bad,))
    )
    assert problems(read(text)) == ()
    for _, value in leaves(read(text)):
        for item in [value] if isinstance(value, str) else []:
            assert not re.search(r"[<>\[\]*`$\\|~@]|://|javascript:|www\.|[\x00-\x09\x0b-\x1f\u2028\u202e]", item), item
            assert not re.search(r"&(?!#\d+;)", item)
