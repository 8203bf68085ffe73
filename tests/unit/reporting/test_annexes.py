"""Annexes: data that points at what exists, blank lines that stay blank, and hazards that never pass by omission."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from contextlib import suppress
from dataclasses import replace
from importlib.resources import files
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import pytest

from dpsynth.errors import UsageError
from dpsynth.synthesizers.registry import synthesizer
from reports import Evidence, Leaf, Policy, Report
from reports.gate.checks import CHECKS
from reports.gate.knowledge import ANSWERED, LEARNED
from reports.paths import PATHS
from reports.policy import ANNEXES, shipped
from reports.registry import Publisher, fields, record
from reports.render import to_html, to_json, to_markdown
from reports.render.annexes import CHAPTERS, SCHEMA, Annex, Line, annexes
from reports.safe_harbor import alphabet

FILES = {name: tomllib.loads((files("reports") / "regimes" / f"{name}.toml").read_text("utf-8")) for name in ANNEXES}
ALL = "annexes = [" + ", ".join(f'"{name}"' for name in ANNEXES) + "]\n"


def with_all(builder: ModuleType, evidence: Evidence | None = None) -> Report:
    """A report with every annex."""
    policy = Policy.parse(builder.policy().text.replace("\ncatalog", f"\n{ALL}catalog"))
    return Report.of(policy, evidence or builder.internal(), on=builder.TODAY)


def lines(annex: Annex) -> list[Line]:
    return [line for part in annex.parts for line in part.lines]


def named(report: Report, name: str) -> Annex:
    return next(annex for annex in annexes(report) if annex.id == name)


def in_file(name: str) -> list[dict[str, Any]]:
    return [line for part in FILES[name].get("part", ()) for line in part.get("line", ())]


# ---- the files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANNEXES)
def test_an_annex_points_at_what_exists(builder: ModuleType, name: str) -> None:
    data = FILES[name]
    assert (data["schema"], data["id"]) == (SCHEMA, name)
    assert all(data[key].strip() for key in ("letter", "title", "version", "source", "text"))
    page = to_html(with_all(builder))
    for line in in_file(name):
        assert line.keys() <= {"code", "title", "text", "evidence", "see", "blanks", "judged", "person", "each"}
        assert set(line.get("evidence", ())) <= PATHS.keys(), line["title"]
        assert set(line.get("see", ())) <= CHAPTERS.keys(), line["title"]
        assert line.keys() & {"evidence", "see", "blanks", "person", "each", "text"}, line["title"]
    for anchor in CHAPTERS:
        assert f'id="{anchor}"' in page, anchor


def test_what_hazards_are_judged_by_exists(builder: ModuleType) -> None:
    """Each is a check that is code, or a path that a rule of every policy that shows the hazards reads."""
    report = with_all(builder)
    checks = {rule.id for rule in report.verdict.rules if rule.origin == "code"}
    # two look only where the policy names a ledger, two at recipes that are not as they were, two where there is an audit
    assert len(checks) >= len(CHECKS) - 6
    audited = builder.release_verdict(Evidence(builder.audited(builder.tree())).with_disclosure())
    checks |= {rule.id for rule in audited.rules if rule.origin == "code"}
    for name in shipped():
        policy = Policy.load(name)
        if "hazards" not in policy.annexes:
            continue
        known = checks | {rule.evidence for rule in policy.stage("release")}
        for line in in_file("hazards"):
            assert set(line.get("judged", ())) <= known, (name, line["code"])


def test_hazards_are_sixteen_and_each_is_judged_or_for_a_person() -> None:
    found = in_file("hazards")
    assert sorted((line["code"] for line in found), key=lambda code: int(code[1:])) == [f"H{n}" for n in range(1, 17)]
    assert all(line.get("judged") or line.get("person") for line in found)


# ---- what people write -----------------------------------------------------------------------------------------------


def test_blank_lines_stay_blank(builder: ModuleType) -> None:
    """In JSON a field without a value; on the page a label with nothing after it; whatever the evidence holds."""
    report = with_all(builder)
    blanks = 0
    for annex in json.loads(to_json(report))["annexes"]:
        for part in annex["parts"]:
            for line in part["lines"]:
                assert all(value is None for value in line["for_a_person"].values())
                blanks += len(line["for_a_person"])
    assert blanks > 60
    page = to_html(report)
    labels = re.findall(r'<div class="blanks">(.*?)</div>', page)
    written = [text for label in labels for text in re.findall(r"<span>(.*?)</span>", label)]
    assert len(written) == blanks
    stated = {blank for name in ANNEXES for line in in_file(name) for blank in line.get("blanks", ())}
    stated |= {blank for name in ANNEXES for part in FILES[name].get("part", ()) for blank in part.get("blanks", ())}
    stated |= {"To be stated by a person"}
    assert set(written) == stated


def test_the_three_principles_stand_beside_each_quasi_identifier(builder: ModuleType) -> None:
    annex = named(with_all(builder), "hipaa-expert")
    part = next(part for part in annex.parts if "principles" in part.title)
    quasi = [name for name, _, role, *_ in builder.COLUMNS if role == "quasi_identifier"]
    assert [line.title for line in part.lines] == quasi
    assert all(
        line.blanks == ("Replicability", "Data source availability", "Distinguishability") for line in part.lines
    )
    assert "No determination is made by this annex" in annex.text


# ---- hazards and letters -----------------------------------------------------------------------------------------------


def test_hazards_follow_the_gate(builder: ModuleType) -> None:
    def status(code: str, **changed: Any) -> str:
        report = with_all(builder, builder.internal({path.replace("__", "."): leaf for path, leaf in changed.items()}))
        found = next(line for line in lines(named(report, "hazards")) if line.code == code).status
        assert found is not None
        return found.words

    assert status("H1") == "pass"
    assert status("H1", guarantee__epsilon=builder.formula(3.2)) == "fail"
    assert status("H2") == "pass"
    assert status("H2", unit__entity=builder.declared("row"), guarantee__unit=builder.declared("row")) == "for a person"
    assert status("H4", domain__from_data=builder.declared("site")) == "for a person"
    assert status("H8", ledger__verified=builder.ledger_fact(False)) == "fail"
    assert status("H9", implementation__floating_point=builder.declared(True)) == "for a person"
    assert status("H9", implementation__floating_point=None) == "for a person", "what was not judged is no pass"
    assert status("H16") == "for a person", "attacks that find nothing prove nothing"
    assert status("H16", attacks__linkage__fit_rate=builder.charged(0.9, 0.01)) == "fail"
    assert [status(code) for code in ("H10", "H11", "H12")] == ["for a person"] * 3


def test_a_hazard_says_what_was_learned_since(builder: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check that what is known today takes the pass from is answered by what is known, and said to be."""
    known = replace(
        synthesizer("aim").implementation, known_violations=("new",), floating_point=True, claimed_by="them"
    )
    monkeypatch.setattr("reports.gate.knowledge.synthesizer", lambda _: Mock(implementation=known))
    report = with_all(builder, builder.internal({"tool.version": builder.declared("0.0.9")}))
    states = {rule.id: rule.state for rule in report.verdict.rules}
    assert states[LEARNED] == "needs_human"
    assert not ANSWERED & states.keys()
    for line in lines(named(report, "hazards")):
        for check in ANSWERED & set(next(h for h in in_file("hazards") if h["code"] == line.code).get("judged", ())):
            assert line.status is not None
            assert line.status.words == "for a person"
            assert any(f"{check}, which {LEARNED} answers: for a person" in note for note in line.notes), line.code


def test_a_hazard_that_no_rule_looks_at_is_for_a_person(builder: ModuleType) -> None:
    text = builder.policy().text.replace('evidence = "risk.tpr_at_fpr"', 'evidence = "risk.advantage"')
    policy = Policy.parse(text.replace("\ncatalog", f"\n{ALL}catalog").replace("at_most  = 0.05", "at_most  = 0.5"))
    report = Report.of(policy, builder.internal(), on=builder.TODAY)
    line = next(line for line in lines(named(report, "hazards")) if line.code == "H1")
    assert line.status is not None
    assert line.status.words == "for a person"
    assert any("risk.tpr_at_fpr" in note and note.startswith("No rule") for note in line.notes)


def test_no_hazard_passes_without_evidence(builder: ModuleType) -> None:
    found = [line.status for line in lines(named(with_all(builder, Evidence({})), "hazards"))]
    assert all(status is not None and status.words != "pass" for status in found)


def test_a_rule_in_a_state_that_is_not_known_is_for_a_person(builder: ModuleType) -> None:
    from reports.render.annexes import _judged

    report = with_all(builder)
    assert _judged(("unit.person",), report.verdict, person=False)[0].words == "pass"
    for state, words in (("accepted", "for a person"), ("waived", "fail")):  # a waived rule is a broken one
        rules = tuple(replace(rule, state=state) if rule.id == "unit.person" else rule for rule in report.verdict.rules)
        assert _judged(("unit.person",), replace(report.verdict, rules=rules), person=False)[0].words == words


def test_letters_are_told_as_they_were_found(builder: ModuleType) -> None:
    def leaf(value: Any) -> Leaf:
        return Leaf(value, "P1", "patterns")

    report = with_all(
        builder,
        builder.internal(
            {
                "deid_scan.safe_harbor[3].status": leaf("pattern found"),
                "deid_scan.safe_harbor[3].columns": leaf(("tel",)),
                "deid_scan.safe_harbor[3].signs": leaf(("values look like phone numbers",)),
                "deid_scan.safe_harbor[5].status": leaf("filled with fakes"),
                "deid_scan.safe_harbor[6].status": leaf("met"),
            }
        ),
    )
    found = {line.code: line for line in named(report, "safe-harbor").parts[0].lines}
    assert list(found) == [f"({letter.id})" for letter in alphabet()]
    words = {code: line.status.words for code, line in found.items() if line.status}
    assert (words["(D)"], words["(F)"], words["(A)"], words["(P)"]) == (
        "pattern found",
        "filled with fakes",
        "pattern not found",
        "for a person",
    )
    assert words["(G)"] == "not looked at", "a word that the search does not use is no result"
    assert [(fact.title, fact.texts) for fact in found["(D)"].facts] == [("tel", ("values look like phone numbers",))]
    tones = {line.status.tone for line in found.values() if line.status}
    assert "pass" not in tones, "a search never looks like a pass"
    without = named(with_all(builder, builder.internal().with_leaf("deid_scan", None)), "safe-harbor").parts[0].lines
    assert {line.status.words for line in without if line.status} == {"not looked at"}


# ---- the views ---------------------------------------------------------------------------------------------------------


def test_the_policy_decides_which_annexes_there_are(builder: ModuleType) -> None:
    plain = Report.of(builder.policy(), builder.internal(), on=builder.TODAY)
    assert "Annex" not in to_html(plain)
    assert "annexes" not in json.loads(to_json(plain))
    for name in shipped():
        policy = Policy.load(name)
        report = Report.of(policy, builder.internal(), on=builder.TODAY)
        assert tuple(annex.id for annex in annexes(report)) == policy.annexes
        page, text = to_html(report), to_markdown(report)
        for annex in ANNEXES:
            letter = FILES[annex]["letter"]
            assert (f'id="annex-{annex}"' in page) == (annex in policy.annexes)
            assert (f'<a href="#annex-{annex}">Annex {letter}</a>' in page) == (annex in policy.annexes)
            assert (f"## Annex {letter}: " in text) == (annex in policy.annexes)


def test_every_view_is_the_same_for_the_same_report(builder: ModuleType) -> None:
    first, second = with_all(builder), with_all(builder, Evidence.from_json(builder.internal().to_json()))
    for render in (to_html, to_json, to_markdown):
        assert render(first) == render(second)


def test_hostile_names_do_no_harm_in_any_annex(builder: ModuleType) -> None:
    """As columns, as findings of the search, and as every text of the evidence."""
    columns = tuple((name, "category", "quasi_identifier", 3, 0.01, 0.008) for name in builder.HOSTILE)
    evidence = builder.internal(columns=columns)
    for letter, name in enumerate(builder.HOSTILE):
        evidence = evidence.with_leaf(f"deid_scan.safe_harbor[{letter}].columns", Leaf((name, name), "P1", "s"))
        evidence = evidence.with_leaf(f"deid_scan.safe_harbor[{letter}].signs", Leaf((name, name), "P1", "s"))
    for path in ("source.table", "release.purpose", "implementation.noise", "release.release_id"):
        evidence = evidence.with_leaf(path, Leaf("".join(builder.HOSTILE[:12]), "P0", "s"))
    report = with_all(builder, evidence)
    for text in (to_html(report), to_markdown(report)):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", text)
        assert "<script" not in text
        assert "<img" not in text
        assert "x" * 100 not in text
    width = 0
    for line in to_markdown(report).split("\n"):
        if line.startswith("|"):
            width = width or line.count("|")
            assert line.count("|") == width, line
        else:
            width = 0


def test_internal_numbers_do_not_reach_an_annex(builder: ModuleType) -> None:
    """The annexes of a shareable report are made from the shareable edition, like everything else on it."""
    changed = builder.internal({"review.membership.excess": builder.internal_number(0.5, 0.01)})
    assert to_html(with_all(builder, changed)) == to_html(with_all(builder))


def test_every_field_of_the_record_is_shown(builder: ModuleType) -> None:
    shown = {line.title for line in lines(named(with_all(builder), "registry"))}
    required = {field.path.rpartition(".")[2] for field in fields() if field.required or field.person}
    assert required <= shown


def test_annexes_can_be_made_whatever_is_missing(builder: ModuleType) -> None:
    """A gap gives a line that says so, or a record that is refused in one sentence; never an error."""
    publisher = Publisher(curator="C", curator_type="Industry", region="R", authors=("A",))
    whole, tried = builder.internal().shareable(), 0
    full = with_all(builder, whole)
    for path, leaf in whole.leaves():
        if re.search(r"\[[1-9]", path) or path.startswith(("attacks.exact", "attacks.attribute", "utility.g")):
            continue  # the first row of a table, and some attacks, stand for the others
        for broken in (None, Leaf(None, leaf.cls, "s", ledger_seq=leaf.ledger_seq)):
            report = copy.copy(full)  # its verdict is another evidence's, which only the check of a report would mind
            object.__setattr__(report, "evidence", whole.with_leaf(path, broken))
            assert annexes(report)
            with suppress(UsageError):
                record(report, publisher)
            tried += 1
    assert tried > 200
