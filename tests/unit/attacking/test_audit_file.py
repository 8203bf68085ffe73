"""The file of an audit: what is read back, and what is refused because it is about something else or is not whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import date
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from attacks import AuditItem, Claim
from attacks.audit import ONE_RUN, Audit, games_of, plan_of
from attacks.audit_file import About, AuditFile, read
from attacks.planted import GRADED
from attacks.power import FACTORS, AuditPower, Caught, Detection, Power
from attacks.selftest import SelfTest
from dpsynth import Cap, Contradicted, PrivacyRefusal, Rehearsal, Schema, UsageError

SCHEMA = Schema.parse(
    'schema = "dpsynth.schema/1"\ntable = "t"\n'
    '[[column]]\nname = "a"\ntype = "boolean"\n[[column]]\nname = "b"\ntype = "category"\nvalues = ["x", "y"]\n'
)
COST = Cap.of(1, "1e-6").cost
CLAIM = Claim(epsilon=1.0, delta=1e-6, cost=COST)
FITS = 400
TODAY = date(2026, 11, 23)


def about(schema: Schema = SCHEMA, **changed: Any) -> About:
    made = About.of(schema, synthesizer="mst", settings={"least": "3.0"}, epsilon=Fraction(1), delta=Fraction("1e-6"))
    return replace(made, **changed)


def an_audit(**changed: Any) -> Audit:
    """An audit that found nothing; `changed` is the last item's."""
    pairs, _ = games_of(SCHEMA)
    plan = plan_of(pairs, fits=FITS, with_counts=True)
    items = [
        AuditItem(
            id=f"{game if game == ONE_RUN else f'worst_case.{game}'}.{who}",
            privacy_class="P0",
            status="pass",
            estimate=0.1,
            low=0.0,
            confidence=plan.confidence(game),
            n=fits,
            claim=1.0,
            ceiling=2.5,
            needs=None,
            sentence="not contradicted",
        )
        for game, fits in plan.fits.items()
        for who in ("noisy_counts", "rows")
    ]
    items[-1] = replace(items[-1], **changed)
    return Audit(generator="mst", claim=CLAIM, plan=plan, items=tuple(items))


def a_selftest(*, alarms: int = 0) -> SelfTest:
    leaks = [Detection(id=p.id, title=p.title, leaks=True, runs=20, seen=10) for p in GRADED if p.applies(SCHEMA)]
    honest = [Detection(id=f"G{n}", title="fresh rows", leaks=False, runs=20, seen=alarms) for n in (1, 2)]
    suite = Power(
        detections=(*leaks, *honest), fit=200, control=200, rows=200, asked=(200, 200), seed=0, privacy_class="P0"
    )
    games = AuditPower(
        kind="fits",
        trials=196,
        claim=CLAIM,
        confidence=0.999,
        caught=tuple(Caught(factor=factor, audits=20, caught=0 if factor == 1 else 20) for factor in FACTORS),
    )
    return SelfTest(suite=suite, audit=games)


def a_file(**changed: Any) -> AuditFile:
    made = AuditFile(
        about=about(), made_on=date(2026, 11, 20), fits=FITS, rows=None, audit=an_audit(), selftest=a_selftest()
    )
    return replace(made, **changed)


@cache
def whole() -> str:
    return json.dumps(a_file().to_json())


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Any], Path]:
    def write(data: Any) -> Path:
        path = tmp_path / "found.json"
        path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
        return path

    return write


def data() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(whole())
    return found


@pytest.mark.parametrize("part", ["both", "audit", "selftest"])
def test_what_is_written_is_read_back(written: Callable[[Any], Path], part: str) -> None:
    without: dict[str, Any] = {"audit": {"selftest": None}, "selftest": {"audit": None}}.get(part, {})
    file = a_file(**without)
    found = read(written(file.to_json()))
    assert found.to_json() == file.to_json()
    assert (found.audit is None, found.selftest is None) == (part == "selftest", part == "audit")
    found.require_about(about(), SCHEMA, name="found.json", on=TODAY)


def test_a_self_test_alone_is_about_no_synthesizer(written: Callable[[Any], Path]) -> None:
    file = a_file(audit=None, about=about(synthesizer="", settings={}))
    read(written(file.to_json())).require_about(about(), SCHEMA, name="found.json", on=TODAY)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "null", '{"verdict": "pass"}', '{"schema": NaN}', "[" * 10_000, "\ud800"]
)
def test_what_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "found.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UsageError, match=r"found\.json is not a result"):
        read(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            read(path)


def test_real_rows_are_refused_before_anything_is_said(written: Callable[[Any], Path]) -> None:
    """Whatever else is wrong with the file, and wherever the class stands."""
    for change in (
        lambda d: d.update({"class": "P3"}),
        lambda d: d["audits"][0].update({"class": "P3"}),
        lambda d: d["selftest"].update({"class": "P3"}),
        lambda d: d["selftest"]["audits"][3].update({"class": "P9"}),
        lambda d: d.update({"class": "P3", "version": "0.0.1", "about": {}}),
    ):
        found = data()
        change(found)
        with pytest.raises(PrivacyRefusal, match="P3"):
            read(written(found))


def test_another_version_is_refused(written: Callable[[Any], Path]) -> None:
    with pytest.raises(UsageError, match="another version"):
        read(written(data() | {"version": "0.0.1"}))


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a verdict": lambda d: d.update(verdict="incomplete"),
    "an unknown key": lambda d: d.update(more=1),
    "a key less": lambda d: d.pop("confidence"),
    "a bound beyond the claim that passes": lambda d: d["audits"][0].update(low=1.5),
    "a status": lambda d: d["audits"][0].update(status="passed"),
    "a text in the place of a number": lambda d: d["audits"][0].update(low="0"),
    "a flag in the place of a count": lambda d: d["audits"][0].update(n=True),
    "persons": lambda d: d.update(persons={"rare": {"persons": 3}}),
    "a day": lambda d: d.update(made_on="yesterday"),
    "another claim than promised": lambda d: d["about"].update(epsilon="2"),
    "a delta above the promise": lambda d: d["claim"].update(delta=1e-3),
    "a self-test's claim": lambda d: d["selftest"]["games"]["claim"].update(epsilon=3.0),
    "a count of the self-test": lambda d: d["selftest"]["audits"][0].update(estimate=0.9),
    "an interval of the self-test": lambda d: d["selftest"]["audits"][0].update(low=0.4999),
    "a leak that is not known": lambda d: d["selftest"]["audits"][0].update(id="selftest.nothing"),
    "a sentence of the self-test": lambda d: d["selftest"]["audits"][0].update(sentence="all is well"),
    "a self-test without runs": lambda d: [item.update(n=0) for item in d["selftest"]["audits"]],
    "more than so many fits can show": lambda d: d["audits"][0].update(low=0.5, ceiling=0.1),
    "a bound below zero": lambda d: d["audits"][0].update(low=-1.0),
    "words of somebody else": lambda d: d["audits"][0].update(power={"leak": "a name", "seen": True, "low": 0.1}),
    "a list in the place of a game": lambda d: d.update(left_out=[["alone"]]),
    "nobody": lambda d: d["selftest"].update(persons=[0, 0]),
    "more persons than evidence can hold": lambda d: d["selftest"].update(persons=[10**19, 10**19]),
    "a promise that takes forever to read": lambda d: d["about"].update(epsilon="1e999999999"),
}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"ceiling": 2.5', '"ceiling": 1e999'),
        ('"class": "P0"', '"class": "P3", "class": "P0"'),
        ('"version"', f'"deep": {"[" * 900}{"]" * 900}, "version"'),
    ],
    ids=["infinite", "twice", "deep"],
)
def test_text_that_json_takes_and_no_audit_writes_is_refused(
    written: Callable[[Any], Path], old: str, new: str
) -> None:
    """Before the charge: evidence could not hold such a number."""
    with pytest.raises(UsageError, match="is not a result"):
        read(written(whole().replace(old, new, 1)))


@pytest.mark.parametrize("change", CHANGES)
def test_a_result_that_would_not_be_written_so_is_refused(written: Callable[[Any], Path], change: str) -> None:
    found = data()
    CHANGES[change](found)
    with pytest.raises(UsageError, match="is not a result"):
        read(written(found))


OTHERS: dict[str, tuple[About, str]] = {
    "schema": (about(replace(SCHEMA, table="u")), "another schema"),
    "a smaller promise": (about(epsilon=Fraction(1, 2)), "promises 0.5"),
    "a larger promise": (about(epsilon=Fraction(2)), "promises 2"),
    "delta": (about(delta=Fraction("1e-9")), "1e-09"),
    "synthesizer": (about(synthesizer="aim"), "another synthesizer"),
    "settings": (about(settings={"least": "4.0"}), "other settings"),
    "a setting more": (about(settings={"least": "3.0", "discovery_share": "1/50"}), "other settings"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_result_about_another_release_is_refused(other: str) -> None:
    release, said = OTHERS[other]
    with pytest.raises(UsageError, match=rf"found\.json.*{said}") as refused:
        a_file().require_about(release, SCHEMA, name="found.json", on=TODAY)
    assert refused.value.exit_code == 2


def test_a_result_from_tomorrow_is_refused() -> None:
    """The gate would find it out after the charge."""
    a_file(made_on=TODAY).require_about(about(), SCHEMA, name="found.json", on=TODAY)
    with pytest.raises(UsageError, match="after today"):
        a_file(made_on=date(2026, 11, 24)).require_about(about(), SCHEMA, name="found.json", on=TODAY)


def test_a_release_takes_a_discovered_domain_for_one_read_off_the_data() -> None:
    found = SCHEMA.columns[1]
    by_run = replace(SCHEMA, columns=(SCHEMA.columns[0], replace(found, source="discover")))
    assert about(by_run) == about(by_run.distrusted()) != about()


@pytest.mark.parametrize(
    "part",
    ["an item", "a game", "fits of an item", "fewer fits", "a confidence", "an item twice", "what was left out"],
)
def test_an_audit_that_lost_a_part_is_refused(part: str) -> None:
    """Whoever cuts the one item that speaks against the claim out of a file gets no report with the rest."""
    audit = an_audit()
    items, fits = list(audit.items), FITS
    plan = deepcopy(audit.plan)
    if part == "an item":
        items.pop(2)
    elif part == "a game":
        items = [item for item in items if "nobody_else" not in item.id]
        plan = replace(plan, fits={game: n for game, n in plan.fits.items() if game != "nobody_else"})
    elif part == "fits of an item":
        items[0] = replace(items[0], n=items[0].n + 2)
    elif part == "fewer fits":
        fits = 200
    elif part == "a confidence":
        items[0] = replace(items[0], confidence=0.95)
    elif part == "an item twice":
        items.append(items[0])
    else:
        plan = replace(plan, left_out=("alone",))
    cut = a_file(audit=replace(audit, items=tuple(items), plan=plan), fits=fits)
    with pytest.raises(UsageError, match="not the whole of an audit"):
        cut.require_about(about(), SCHEMA, name="found.json", on=TODAY)


def test_a_self_test_that_lost_a_leak_is_refused() -> None:
    selftest = a_selftest()
    fewer = replace(selftest, suite=replace(selftest.suite, detections=selftest.suite.detections[1:]))
    with pytest.raises(UsageError, match="self-test"):
        a_file(selftest=fewer).require_about(about(), SCHEMA, name="found.json", on=TODAY)


@pytest.mark.parametrize("low", [1.7, 0.4])
def test_a_claim_that_is_contradicted_refuses_the_release(written: Callable[[Any], Path], low: float) -> None:
    """Also where the curve is, and epsilon is not."""
    file = read(written(a_file(audit=an_audit(status="fail", low=low)).to_json()))
    with pytest.raises(Contradicted, match="mend the program") as refused:
        file.require_about(about(), SCHEMA, name="found.json", on=TODAY)
    assert refused.value.exit_code == 1


def test_attacks_that_cry_out_over_nothing_refuse_the_release(written: Callable[[Any], Path]) -> None:
    file = read(written(a_file(selftest=a_selftest(alarms=15)).to_json()))
    with pytest.raises(Contradicted, match="false alarms"):
        file.require_about(about(), SCHEMA, name="found.json", on=TODAY)


def test_settings_tell_two_commands_and_two_recipes_apart() -> None:
    from dpsynth.external import Program
    from dpsynth.synthesizers.mst import Mst

    plain, other = (
        Rehearsal(SCHEMA, synthesizer=recipe, epsilon=1, delta="1e-6") for recipe in ("mst", Mst(least=4.0))
    )
    assert plain.settings != other.settings
    assert {"least": "3.0"}.items() <= plain.settings.items()
    one, two = (Program(command, SCHEMA, epsilon=1, delta=0, rows=10) for command in ("true a", "true b"))
    assert one.settings != two.settings == Program("true  'b'", SCHEMA, epsilon=1, delta=0, rows=10).settings
    assert "true" not in str(one.settings)
