"""What the files of a release say twice has to agree: a lie in one of them is found by the others."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

import pytest
import signers

from dpsynth import Cost, Schema
from dpsynth.errors import IntegrityError
from dpsynth.release import Release
from reports import Evidence, bundle
from reports.agreement import contradictions


def wrong(builder: ModuleType, evidence: Evidence, **manifest: Any) -> list[str]:
    whole = builder.manifest(builder.internal())
    return list(contradictions(evidence, schema=builder.schema(), manifest=whole | manifest))


def test_a_release_that_tells_one_story(builder: ModuleType) -> None:
    assert wrong(builder, builder.internal()) == []
    assert Schema.parse(builder.schema().to_toml()) == builder.schema()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("columns[0].source", "data", "source of number 1 of the columns"),
        ("columns[1].treatment", "dropped: not in the synthetic table", "treatment of number 2"),
        ("columns[1].role", "other", "role of number 2"),
        ("columns[1].type", "number", "type of number 2"),
        ("columns[1].basis", "because", "basis of number 2"),
        ("columns[1].name", "place", "name of number 2"),
        ("columns[1].size", 7, "size of number 2"),
        ("columns[13].treatment", "modelled", "treatment of number 14"),
        ("constraints[0].rule", "if physlm == true then mdvis >= 0", "rule of number 1 of the constraints"),
        ("unit.entity", "household", "unit.entity"),
        ("unit.max_rows", 1, "unit.max_rows"),
        ("unit.neighbours", "replace", "unit.neighbours"),
        ("unit.bounding", "none", "unit.bounding"),
        ("domain.basis", "missing for site", "domain.basis"),
        ("domain.from_data", "site", "domain.from_data"),
        ("source.table", "visits", "source.table"),
        ("source.population", "other people", "source.population"),
        ("release.release_id", "1", "release.release_id"),
        ("release.rows", 5, "release.rows"),
        ("release.synthesizer", "aim", "release.synthesizer"),
        ("release.published", "no gate", "release.published"),
        ("created_at", "2026-11-20T09:14:05Z", "created_at"),
        ("tool.version", "0.0.1", "tool.version"),
        ("guarantee.epsilon", 0.5, "epsilon and delta"),
        ("guarantee.delta", 1e-5, "epsilon and delta"),
        ("guarantee.rho", 0.001, "another loss"),
        ("guarantee.delta0", 1e-9, "another delta0"),
    ],
)
def test_every_fact_that_stands_twice_is_compared(builder: ModuleType, path: str, value: Any, words: str) -> None:
    old = builder.internal().get(path)
    for leaf in (dataclasses.replace(old, value=value), None):
        found = wrong(builder, builder.internal({path: leaf}))
        assert any(words in line for line in found), (path, leaf)


def test_rows_cannot_be_taken_out_or_added(builder: ModuleType) -> None:
    for section in ("columns", "constraints"):
        for change in (lambda rows: rows[:-1], lambda rows: [*rows, rows[0]]):
            tree = builder.tree()
            tree[section] = change(tree[section])
            assert f"how many {section}" in " ".join(wrong(builder, Evidence(tree)))


def test_a_discovered_domain_cannot_be_declared_afterwards(builder: ModuleType) -> None:
    """The consistent lie: evidence that calls a discovered column declared, and has no rows of discovery."""
    text = builder.schema().to_toml()
    opened = Schema.parse(text.replace('source = "declared"', 'source = "discover"', 1))
    assert opened.columns[0].source == "discover"
    found = list(contradictions(builder.internal(), schema=opened, manifest=builder.manifest(builder.internal())))
    assert found == ["evidence.json and schema.toml disagree about size, source of number 1 of the columns"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cost": {"rho": "1/2", "delta0": "0"}}, "more than the epsilon"),
        ({"cost": {"rho": "1/1000", "delta0": "0"}}, "another loss"),
        ({"cost": {"rho": "nonsense", "delta0": "0"}}, "does not say what the release cost"),
        ({"cost": None}, "does not say what the release cost"),
        ({"epsilon": "2"}, "epsilon and delta"),
        ({"epsilon": None}, "does not say what the release cost"),
        ({"unit": None}, "unit.entity"),
        ({"ledger": {}}, "source.population"),
    ],
)
def test_the_manifest_is_compared_too(builder: ModuleType, change: dict[str, Any], words: str) -> None:
    assert any(words in line for line in wrong(builder, builder.internal(), **change))


def test_a_claim_is_the_one_that_was_charged(builder: ModuleType) -> None:
    """A smaller one would carry every bound on the page down with it."""
    told = Evidence(builder.claimed(builder.tree()))
    smaller = "evidence.json states a smaller claim than the cost in manifest.json"
    for epsilon, expected in (("0.1", False), ("0.09", False), ("0.101", True), ("0.5", True)):
        cost = Cost.approximate(epsilon, "1e-8") + Cost.zcdp("1/1000")
        assert (smaller in wrong(builder, told, cost=cost.to_json())) is expected


def test_verify_and_sign_tell_it(builder: ModuleType, tmp_path: Any) -> None:
    """Also where evidence, verdict and manifest were all made to fit each other."""
    lie = builder.internal(
        {"columns[0].source": builder.declared("data"), "domain.from_data": builder.declared("year")}
    )
    release = signers.release(tmp_path / "one", lie, signers.policy(), builder.TODAY)
    found = bundle.verify(release, policy=None, on=builder.TODAY)
    assert any("source of number 1" in line for line in found.problems)
    for act in (bundle.require_one_story, lambda made: bundle.sign(made, signers.CONTROLLER)):
        with pytest.raises(IntegrityError, match="contradicts itself"):
            act(release)
    assert Release.open(release.folder).signature is None
