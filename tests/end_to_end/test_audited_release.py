"""`dpsynth audit --out`, `release --audit`, the report and the gate: what comes with a release, what is refused before it."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpsynth import Schema
from reports import Evidence

AUDIT = ("audit", "--synthesizer", "independent", "--epsilon", 1, "--delta", "1e-6", "--fits", 80)
SELFTEST = ("audit", "--selftest", "--epsilon", 1, "--delta", "1e-6", "--persons", 60, "--runs", 5, "--fits", 80)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The texts of an audit, of a self-test, and of one with real rows, made once; the schema is that of `case`."""
    return SimpleNamespace(folder=tmp_path_factory.mktemp("audits"), texts={})


@pytest.fixture
def found(case: Any, results: SimpleNamespace, tmp_path: Path) -> Callable[..., Path]:
    """A result as a file beside the case; `change` spoils it."""

    def give(what: str, change: Callable[[dict[str, Any]], Any] = lambda data: None) -> Path:
        if what not in results.texts:
            out = results.folder / f"{what}.json"
            assert case(*{"audit": AUDIT, "selftest": SELFTEST}[what], "--schema", case.schema, "--out", out) in (0, 4)
            results.texts[what] = out.read_text(encoding="utf-8")
        data = json.loads(results.texts[what])
        change(data)
        path = tmp_path / f"{what}-{len(list(tmp_path.iterdir()))}.json"
        path.write_text(json.dumps(data), encoding="utf-8")
        return path

    return give


def evidence(case: Any) -> Evidence:
    return Evidence.from_json((case.out / "release" / "evidence.json").read_text(encoding="utf-8"))


def ours(case: Any, *more: object) -> int:
    code: int = case.release("--synthesizer", "independent", *more)
    return code


@pytest.mark.slow
@pytest.mark.usefixtures("seeded_noise")
def test_an_audit_and_a_self_test_come_with_the_release(case: Any, found: Callable[..., Path]) -> None:
    code = ours(case, "--audit", found("audit"), "--audit", found("selftest"), "--holdout", "0.4")
    told = evidence(case)
    assert {leaf.cls for path, leaf in told.leaves() if path.startswith("audit.")} == {"P0"}
    items = json.loads(found("audit").read_text())
    assert [row["id"].value for row in told.rows("audit.items")] == [item["id"] for item in items["audits"]]
    assert told.number("audit.epsilon_lower_bound") == max(item["low"] for item in items["audits"])
    assert told.value("audit.verdict") == items["verdict"] != "fail"
    assert told.value("audit.schema") == Schema.load(case.schema).digest
    assert any("attacks" in text for text in told.value("audit.differs"))  # type: ignore[union-attr]
    assert (told.value("audit.selftest.persons_fit"), told.get("audit.selftest.false_alarms").n) == (60, 10)  # type: ignore[union-attr]
    checks = {
        rule["id"]: rule["status"] for rule in json.loads((case.out / "release" / "verdict.json").read_text())["rules"]
    }
    assert checks["audit.not_contradicted"] in ("pass", "not_applicable")
    assert case("gate", case.out) == code
    assert case("verify", case.out) == 0
    for form in ("html", "md", "json"):
        page = case.folder / f"report.{form}"
        assert case("report", case.out, "--format", form, "--out", page) == 0
        text = page.read_text(encoding="utf-8")
        if form != "json":
            assert "What an audit of this program found" in text
            assert "What the attacks on one table could have seen" in text
            assert "not contradicted" in text or "could not have told" in text
            assert "false alarms" in text
            assert "60 people whose rows were used" in text
        else:
            assert json.loads(text)["evidence"]["audit"]["fits"]["v"] == sum(items["fits"].values())
    assert "came with this release" not in (case.out / "release" / "report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("seeded_noise")
def test_a_release_without_an_audit_says_how_to_have_one(case: Any) -> None:
    ours(case)
    assert not evidence(case).section("audit")
    page = (case.out / "release" / "report.html").read_text(encoding="utf-8")
    assert "No audit of the program came with this release" in page
    assert "<code>--audit FILE</code>" in page
    assert any("No audit came with this release" in text for text in evidence(case).value("limits"))  # type: ignore[union-attr]


@pytest.mark.usefixtures("seeded_noise")
def test_one_file_may_hold_both(case: Any, found: Callable[..., Path]) -> None:
    planted = json.loads(found("selftest").read_text())
    for key in ("schema", "about", "made_on", "version", "asked"):
        del planted[key]
    both = found("audit", lambda data: data.update(selftest=planted))
    ours(case, "--audit", both)
    assert evidence(case).value("audit.fits") is not None
    assert evidence(case).value("audit.selftest.verdict") == planted["verdict"]


def contradict(data: dict[str, Any]) -> None:
    data["audits"][0] |= {"status": "fail", "low": 1.5, "ceiling": 1.5}
    data["verdict"] = "fail"


def unmade(data: dict[str, Any]) -> None:
    data.clear()


REFUSED: dict[str, tuple[Callable[[dict[str, Any]], Any], tuple[object, ...], int, str]] = {
    # what is done to the file, further options, exit code, a word of the sentence
    "foreign": (unmade, (), 2, "is not a result"),
    "real rows": (lambda data: data.update({"class": "P3"}), (), 7, "class P3"),
    "another version": (lambda data: data.update(version="0.0.9"), (), 2, "another version"),
    "another schema": (lambda data: data["about"].update(schema="0" * 64), (), 2, "another schema"),
    "settings": (lambda data: data["about"].update(settings={"least": "9"}), (), 2, "other settings"),
    "contradicted": (contradict, (), 1, "contradicts what this release would promise"),
    "a cut item": (lambda data: data["audits"].pop(1), (), 2, "not the whole"),
    "another promise": (lambda data: None, ("--delta", "1e-7"), 2, "promises 1 and 1e-07"),
    "a smaller epsilon": (lambda data: None, ("--epsilon", "0.5"), 2, "promises 0.5"),
    "another synthesizer": (lambda data: None, ("--synthesizer", "mst"), 2, "another synthesizer"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_about_this_release_is_refused_before_the_charge(
    case: Any, found: Callable[..., Path], what: str
) -> None:
    change, options, code, said = REFUSED[what]
    path = found("audit", change)
    head = case.ledger.read_bytes()
    assert ours(case, "--audit", path, *options) == code
    assert said in case.stderr
    assert case.stderr.count("\n") == 1
    assert case.stdout == ""
    assert not case.out.exists()
    assert case.extract().attempts == 0
    assert case.ledger.read_bytes() == head


def test_two_of_a_kind_are_refused(case: Any, found: Callable[..., Path]) -> None:
    """Nobody may show the best of several."""
    assert ours(case, "--audit", found("audit"), "--audit", found("audit")) == 2
    assert "more than one audit" in case.stderr
    assert ours(case, "--audit", case.folder / "none.json") == 2
    assert "cannot be read" in case.stderr
    assert case.extract().attempts == 0


@pytest.mark.slow
def test_an_audit_of_real_rows_never_comes_with_a_release(case: Any) -> None:
    """The very file that the command writes with --data, which only its user can read."""
    out = case.folder / "private.json"
    words = ("audit", "--selftest", "--data", case.data, "--schema", case.schema, "--epsilon", 1, "--delta", "1e-6")
    case(*words, "--persons", 60, "--runs", 5, "--out", out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert ours(case, "--audit", out) == 7
    assert not case.out.exists()
