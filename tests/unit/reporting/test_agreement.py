"""What the files of a release say twice has to agree: a lie in one of them is found by the others."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import signers

import dpsynth
from dpsynth import Column, Cost, Schema
from dpsynth.errors import IntegrityError
from dpsynth.release import Release
from dpsynth.synthesizers.registry import EXTERNAL, SYNTHESIZERS, synthesizer
from reports import Evidence, bundle, decide
from reports.agreement import contradictions, not_compared
from reports.collect.columns import from_schema
from reports.collect.guarantee import from_implementation, unprotected
from reports.gate import Verdict
from reports.policy import COVERABLE


def wrong(builder: ModuleType, evidence: Evidence, **manifest: Any) -> list[str]:
    whole = builder.manifest(builder.internal())
    return list(contradictions(evidence, schema=builder.schema(), manifest=whole | manifest))


def test_a_release_that_tells_one_story(builder: ModuleType) -> None:
    assert wrong(builder, builder.internal()) == []
    assert Schema.parse(builder.schema().to_toml()) == builder.schema()


@pytest.mark.slow
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


def test_the_other_ledgers_are_those_of_the_manifest(builder: ModuleType) -> None:
    told = Evidence(builder.joined(builder.tree(), {}, {"ledger_id": "third"})).with_disclosure()
    others = builder.manifest(told)["other_ledgers"]
    assert wrong(builder, told, other_ledgers=others) == []
    lie = ["evidence.json and manifest.json disagree about which other ledgers were charged"]
    for listed in (others[:1], others[::-1], [], None, "x", [1, 2], [others[0], {"ledger_id": "third"}]):
        assert wrong(builder, told, other_ledgers=listed) == lie
    assert wrong(builder, builder.internal(), other_ledgers=others) == lie


def test_a_claim_is_the_one_that_was_charged(builder: ModuleType) -> None:
    """A smaller one would carry every bound on the page down with it."""
    told = Evidence(builder.claimed(builder.tree()))
    smaller = "evidence.json states a smaller claim than the cost in manifest.json"
    for epsilon, expected in (("0.1", False), ("0.09", False), ("0.101", True), ("0.5", True)):
        cost = Cost.approximate(epsilon, "1e-8") + Cost.zcdp("1/1000")
        assert (smaller in wrong(builder, told, cost=cost.to_json())) is expected


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("implementation.floating_point", True),
        ("implementation.known_violations", ("draws anew",)),
        ("implementation.claimed_by", "somebody"),
        ("implementation.noise", "none"),
        ("implementation.selection", "by hand"),
        ("implementation.randomness", "a seed"),
        ("guarantee.unprotected_quantities", ("the domain of site, which was read off the data",)),
    ],
)
def test_what_follows_from_the_synthesizer_is_made_again(builder: ModuleType, path: str, value: Any) -> None:
    old = builder.internal().get(path)
    for leaf in (dataclasses.replace(old, value=value), None):
        found = wrong(builder, builder.internal({path: leaf}))
        assert any(f"({path})" in line for line in found), (path, leaf)


def renamed(builder: ModuleType, name: str, **changes: Any) -> list[str]:
    """The contradictions of a release that names another synthesizer in all its files."""
    told = {"release.synthesizer": builder.declared(name)} | {
        path.replace("__", "."): builder.declared(value) for path, value in changes.items()
    }
    return wrong(builder, builder.internal(told), synthesizer=name)


def test_a_consistent_lie_about_the_program_is_found(builder: ModuleType) -> None:
    """Evidence and manifest name a network, or another program, and say of it what is true of exact counts alone."""
    found = " ".join(renamed(builder, "vae"))
    assert "implementation.floating_point" in found
    assert "unprotected_quantities" not in found
    found = " ".join(renamed(builder, "smartnoise-mst"))
    for path in ("implementation.floating_point", "implementation.known_violations", "implementation.claimed_by"):
        assert path in found
    assert "guarantee.unprotected_quantities" in found, "whether the program ran to its end"
    assert renamed(builder, "no such recipe") == [
        "evidence.json names a synthesizer that this version of the program does not have"
    ]
    read = Schema.parse(builder.schema().to_toml().replace('source = "declared"', 'source = "data"', 1))
    found = " ".join(contradictions(builder.internal(), schema=read, manifest=builder.manifest(builder.internal())))
    assert "guarantee.unprotected_quantities" in found


def test_every_synthesizer_agrees_with_itself(builder: ModuleType) -> None:
    """What `collect` says of a recipe is what is made again from its name."""
    for name in (*SYNTHESIZERS, *EXTERNAL):
        used = synthesizer(name).implementation
        leaves = {f"implementation.{field}": leaf for field, leaf in from_implementation(used).items()}
        leaves["guarantee.unprotected_quantities"] = unprotected(builder.schema(), claimed=used.claimed_by != "")
        leaves["release.synthesizer"] = builder.declared(name)
        assert wrong(builder, builder.internal(leaves), synthesizer=name) == [], name


def test_sentences_of_another_version_are_no_contradiction(builder: ModuleType, tmp_path: Any) -> None:
    """An honest release stays one when this program says things otherwise later, and what it could not compare is told."""
    said = {
        "unit.bounding": "coins keep that many",
        "columns[0].treatment": "learned",
        "columns[0].size": 6,
        "columns[13].basis": "that of the table",
        "constraints[0].rule": "mdvis >= 1 where physlm == true",
        "constraints[0].basis": "coding",
        "implementation.noise": "exact",
        "implementation.floating_point": True,
        "implementation.known_violations": ("one that was put right since",),
        "guarantee.unprotected_quantities": ("said otherwise",),
        "release.synthesizer": "a recipe that is gone",
        "tool.version": "0.0.9",
    }
    old = builder.internal({path: builder.declared(value) for path, value in said.items()})
    assert wrong(builder, old, dpsynth="0.0.9", synthesizer="a recipe that is gone") == []
    assert len(list(not_compared(old))) == 1
    assert list(not_compared(builder.internal())) == []
    release = signers.release(tmp_path / "one", old, signers.policy(), builder.TODAY)
    found = bundle.verify(release, policy=None, on=builder.TODAY)
    assert found.problems == ()
    told = [line for line in found.not_checked if "another version of this program made it" in line]
    assert len(told) == 2, "the words, and the verdict"
    assert set(bundle.require_one_story(release)) == set(told)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("vae", ["its noise is made in floating-point arithmetic"]),
        (
            "smartnoise-mst",
            [
                "its noise is made in floating-point arithmetic",
                f"its loss is what {synthesizer('smartnoise-mst').implementation.claimed_by} claims",
                *synthesizer("smartnoise-mst").implementation.known_violations,
                "whether the program ran to its end is outside the guarantee",
            ],
        ),
    ],
)
@pytest.mark.parametrize("version", ["0.0.9", "99.0.0", None, dpsynth.__version__])
def test_no_version_makes_a_program_sound(builder: ModuleType, name: str, known: list[str], version: Any) -> None:
    """Evidence older than what is known, and evidence that calls itself older, or newer: a person is asked, in words.

    No policy's signature covers it. Evidence that calls itself ours contradicts us besides; so does, whatever its version,
    evidence that calls another program's claim ours, which nobody has to learn.
    """
    told = {"release.synthesizer": builder.declared(name), "tool.version": builder.declared(version)}
    evidence = builder.internal(told)
    verdict = builder.release_verdict(evidence)
    asked = {rule.id: rule for rule in verdict.open}
    assert verdict.state == ("needs_human" if version else "incomplete")
    for words in known:
        assert words in asked["implementation.learned"].message
    assert "implementation.learned" not in COVERABLE
    passed = {rule.id for rule in verdict.rules if rule.state == "pass"}
    assert "implementation.exact_noise" not in passed
    if name == "smartnoise-mst":
        assert not passed & {"implementation.sound", "guarantee.claimed", "guarantee.covered"}
    found = wrong(builder, evidence, dpsynth=version, synthesizer=name)
    assert bool(found) == (version == dpsynth.__version__ or name == "smartnoise-mst")
    assert any(known[0] in line for line in not_compared(evidence)) == (version != dpsynth.__version__)


def test_what_was_learned_since_is_asked_about_and_nothing_else(
    builder: ModuleType, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An honest release of an older version, accepted by a signature then; later something more comes to light."""
    then = from_implementation(dataclasses.replace(synthesizer("aim").implementation, known_violations=("the first",)))
    told = {f"implementation.{field}": leaf for field, leaf in then.items()}
    told["tool.version"] = builder.declared("0.0.9")
    old = builder.internal(told)
    name = str(old.value("release.synthesizer"))
    rules = signers.policy(
        signers.human("controller", "release-decision", signers.CONTROLLER, covers=("implementation.sound",))
    )
    yes = signers.record(signers.signed(old.shareable(), rules))

    def now(*violations: str) -> Verdict:
        made = synthesizer(name)
        known = dataclasses.replace(made.implementation, known_violations=violations)
        later = mock.Mock(implementation=known)
        monkeypatch.setattr("reports.gate.knowledge.synthesizer", lambda _: later)
        return decide(rules, old, stage="release", on=builder.TODAY, record=yes)

    assert now("the first").state == "pass"
    later = now("the first", "the second")
    assert (later.state, [rule.id for rule in later.open]) == ("needs_human", ["implementation.learned"])
    assert "the second" in later.open[0].message
    assert "the first" not in later.open[0].message
    release = signers.release(tmp_path / "one", old, rules, builder.TODAY)
    checked = bundle.verify(release, policy=rules, on=builder.TODAY)
    assert checked.problems == ()
    assert any("the second" in line for line in checked.not_checked)
    assert bundle.require_one_story(release)


@pytest.mark.parametrize(
    ("name", "unprotected", "knows_more"),
    [
        ("aim", (), True),
        ("gone", (), True),
        ("aim", (" ",), True),
        ("aim", ("the domain of site, which was read off the data",), False),
    ],
)
def test_domains_read_off_the_data_are_said_to_be_outside_the_guarantee(
    builder: ModuleType, name: str, unprotected: tuple[str, ...], knows_more: bool
) -> None:
    """Whatever made the release: the evidence itself says where its domains come from."""
    told = {
        "release.synthesizer": name,
        "tool.version": "0.0.9",
        "columns[1].source": "data",
        "domain.from_data": "site",
        "guarantee.unprotected_quantities": unprotected,
    }
    evidence = builder.internal({path: builder.declared(value) for path, value in told.items()})
    states = {rule.id: rule.state for rule in builder.release_verdict(evidence).rules}
    assert ("implementation.learned" in states) == knows_more
    assert states.get("guarantee.covered") != "pass"


@pytest.mark.parametrize("kind", ["identifier", "text"])
@pytest.mark.parametrize("source", ["data", "discover"])
def test_a_column_that_no_model_learns_has_no_domain(builder: ModuleType, kind: str, source: str) -> None:
    """A schema may say of it that it was read off the data: nothing of it is published, and nothing contradicts that."""
    schema = builder.schema()
    columns = (*schema.columns, Column(name="note", type=kind, source=source))
    told = from_schema(dataclasses.replace(schema, columns=columns).distrusted())
    verdict = builder.release_verdict(Evidence({**builder.internal().tree, **told}))
    assert (verdict.state, verdict.open) == ("pass", ())


def test_a_synthesizer_that_is_gone_is_for_a_person(builder: ModuleType) -> None:
    gone = {"release.synthesizer": builder.declared("gone"), "tool.version": builder.declared("0.0.9")}
    verdict = builder.release_verdict(builder.internal(gone))
    assert (verdict.state, [rule.id for rule in verdict.open]) == ("needs_human", ["implementation.known"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("columns[0].source", "data"),
        ("columns[0].type", "category"),
        ("columns[0].role", "quasi_identifier"),
        ("columns[0].name", "place"),
        ("unit.entity", "household"),
        ("unit.max_rows", 1),
        ("unit.neighbours", "replace"),
        ("domain.basis", "missing for site"),
        ("domain.from_data", "site"),
        ("source.table", "visits"),
        ("guarantee.rho", 0.001),
    ],
)
def test_what_stands_in_a_file_is_compared_whoever_wrote_it(builder: ModuleType, path: str, value: Any) -> None:
    told = {"tool.version": builder.declared("0.0.9")}
    assert wrong(builder, builder.internal(told), dpsynth="0.0.9") == []
    for leaf in (builder.declared(value), None):
        assert wrong(builder, builder.internal(told | {path: leaf}), dpsynth="0.0.9"), (path, leaf)
    assert wrong(builder, builder.internal(told)), "the version itself is one of these"


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
