"""`examples/pipeline.sh`, run stage by stage: it waits, publishes and stops where it says so; `pipeline.yml` calls it."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from served_shell import Done, Shell

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "pipeline.sh"
WORKFLOW = ROOT / "examples" / "pipeline.yml"
POLICY = """\
schema  = "dpsynth.policy/1"
name    = "ours"
version = "1"
reason  = "for the tests"
signers = ["{pipeline}"]

[[rule]]
id       = "guarantee.epsilon"
evidence = "guarantee.epsilon"
stage    = "release"
at_most  = {most}
reason   = "a test"

[[human]]
role      = "controller"
statement = "release-decision"
key       = "{controller}"
"""


class Pipeline:
    """The script, its variables, and the folders that it works on."""

    def __init__(self, case: Any, served: Path) -> None:
        self.folder: Path = case.folder
        self.shell = Shell(case.folder, served)
        self.keys = {}
        for who in ("pipeline", "controller"):
            assert case("key", "create", case.folder / f"{who}.pem") == 0
            self.keys[who] = case.stdout.strip()
        self.variables = {
            "DATA": "visits.csv", "SCHEMA": "visits.toml", "LEDGER": "visits.ledger", "EPSILON": "1", "DELTA": "1e-6",
            "SYNTHESIZER": "independent", "KEY": "pipeline.pem", "JOB": "1", "POLICY": "policy.toml",
        }  # fmt: skip
        self.policy("policy.toml", most=2.0)

    def policy(self, name: str, *, most: float) -> None:
        (self.folder / name).write_text(POLICY.format(most=most, **self.keys), encoding="utf-8")

    def __call__(self, stage: str, **variables: str) -> Done:
        return self.shell(f"sh '{SCRIPT}' {stage}", **(self.variables | variables))

    def files(self, place: str) -> set[str]:
        found = self.folder / place
        return {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()}


@pytest.fixture
def pipeline(case: Any, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return Pipeline(case, tmp_path_factory.mktemp("served"))


def test_a_release_waits_for_a_person_and_is_then_published_and_judged_again(case: Any, pipeline: Pipeline) -> None:
    done = pipeline("release")
    assert done.code == 0, done.stderr
    assert "WAITS FOR A PERSON" in done.stderr
    attempts = case.extract().attempts
    assert pipeline("verify").code == 0
    summary = pipeline.folder / "step.md"
    done = pipeline("gate", GITHUB_STEP_SUMMARY=str(summary))
    assert done.code == 3
    assert "WAITS FOR A PERSON" in done.stderr
    assert pipeline.files("logs") == {"gate.xml", "gate.sarif", "summary.md"}
    assert summary.read_text(encoding="utf-8").startswith("# Verdict: Needs a person\n")
    assert pipeline("publish").code == 3
    assert not (pipeline.folder / "shelf").exists()
    assert not (pipeline.folder / "shelf.new").exists()

    approve = (
        "dpsynth attest desk --role controller --statement release-decision --decision {} --name 'A. Lee' "
        "--expires 2199-12-31 --key controller.pem --policy policy.toml"
    )
    assert pipeline.shell(approve.format("approve")).code == 0
    for stage in ("verify", "gate", "publish", "again"):
        done = pipeline(stage)
        assert done.code == 0, (stage, done.stderr)
    assert "pipeline: pass" in done.stderr
    assert (pipeline.folder / "logs" / "summary.md").read_text(encoding="utf-8").startswith("# Verdict: Pass\n")
    suite = ET.parse(pipeline.folder / "logs" / "gate.xml").getroot()
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    run = json.loads((pipeline.folder / "logs" / "gate.sarif").read_text(encoding="utf-8"))["runs"][0]
    assert run["invocations"][0]["exitCode"] == 0
    assert pipeline.files("shelf") == pipeline.files("desk/release")
    assert not any("internal" in name for name in pipeline.files("shelf"))
    assert pipeline("publish").code == 2, "nothing on the shelf is replaced"
    assert case.extract().attempts == attempts, "only the release stage spends"

    # the schedule: what was published meets the rules of that day, or stops
    pipeline.policy("stricter.toml", most=0.5)
    done = pipeline("again", POLICY="stricter.toml")
    assert done.code == 1
    assert "signed for another policy" in done.stderr
    rejected = approve.format("reject").replace("attest desk", "attest shelf")
    assert pipeline.shell(rejected).code == 0
    assert pipeline("again").code == 3
    (pipeline.folder / "shelf" / "schema.toml").write_text("x", encoding="utf-8")
    done = pipeline("again")
    assert done.code == 5
    assert "INTEGRITY" in done.stderr


def test_what_fails_or_is_incomplete_or_refused_is_not_published(case: Any, pipeline: Pipeline) -> None:
    pipeline.policy("stricter.toml", most=0.5)
    done = pipeline("release", POLICY="stricter.toml")
    assert done.code == 0, "it is written, charged, and for the gate to stop"
    assert "FAIL" in done.stderr
    for stage in ("gate", "publish"):
        assert pipeline(stage, POLICY="stricter.toml").code == 1
    incomplete = (
        (pipeline.folder / "stricter.toml").read_text(encoding="utf-8").replace("at_most  = 0.5", "at_most  = 2.0")
    )
    incomplete += (
        '\n[[rule]]\nid = "attacks.linkage"\nevidence = "attacks.linkage.excess"\nstage = "release"\nat_most = 0.1\n'
        'reason = "a test"\n'
    )
    (pipeline.folder / "incomplete.toml").write_text(incomplete, encoding="utf-8")
    for stage in ("gate", "publish"):
        assert pipeline(stage, POLICY="incomplete.toml").code == 4
    assert not (pipeline.folder / "shelf").exists()
    attempts = case.extract().attempts
    assert pipeline("release", JOB="2").code == 2, "the desk is taken"
    assert pipeline("release", JOB="2", DESK="other", KEY="missing.pem").code == 2
    assert pipeline("release", JOB="2", DESK="other", EPSILON="2").code == 7
    assert pipeline("gate", POLICY="missing.toml").code == 2
    assert pipeline("nonsense").code == 2
    assert not (pipeline.folder / "other").exists()
    assert case.extract().attempts == attempts


@pytest.mark.parametrize("planted", ["publish() {\n  cp -R", '[ "$code" -eq 0 ] || true'])
def test_a_script_that_ignores_the_verdict_is_seen(case: Any, pipeline: Pipeline, planted: str) -> None:
    """The same steps as above, on a script whose gate does not stop it."""
    text = SCRIPT.read_text(encoding="utf-8")
    if planted.startswith("publish"):
        text = text.replace('  verify "$SHELF.new"\n  judge "$SHELF.new" "$LOGS"\n', "")
    else:
        text = text.replace('[ "$code" -eq 0 ] || end "$code"', planted)
    changed = pipeline.folder / "changed.sh"
    changed.write_text(text, encoding="utf-8")
    assert pipeline("release").code == 0
    done = pipeline.shell(f"sh '{changed}' publish", **pipeline.variables)
    assert (done.code, (pipeline.folder / "shelf").exists()) == (0, True)


# ---- the workflow ----------------------------------------------------------------------------------------------------


def parsed(text: str) -> Any:
    """The part of YAML that the workflow is written in: maps, lists of maps, plain scalars. Anything else is an error."""
    lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]

    def block(depth: int) -> Any:
        found: Any = None
        while lines:
            line = lines[0]
            indent = len(line) - len(line.lstrip(" "))
            if indent < depth:
                break
            assert indent == depth, f"indentation: {line}"
            if line.lstrip().startswith("- "):
                found = [] if found is None else found
                assert isinstance(found, list), line
                lines[0] = line.replace("- ", "  ", 1)
                found.append(block(depth + 2))
                continue
            if isinstance(found, list):
                break
            word = re.fullmatch(r"\s*([\w-]+):(?: +(\S.*))?", lines.pop(0))
            assert word is not None, f"not in this part of YAML: {line}"
            found = {} if found is None else found
            assert word[1] not in found, f"twice: {word[1]}"
            value = word[2]
            if value is None:
                deeper = len(lines[0]) - len(lines[0].lstrip(" ")) if lines else 0
                found[word[1]] = block(deeper) if deeper > depth else None
            else:
                assert not re.match(r"[&*!|>%@`]|.*: ", value), f"not in this part of YAML: {line}"
                found[word[1]] = value.strip('"')
        return found

    made = block(0)
    assert not lines
    return made


def test_the_workflow_calls_the_stages_of_the_script_in_their_order() -> None:
    workflow = parsed(WORKFLOW.read_text(encoding="utf-8"))
    jobs = workflow["jobs"]
    assert list(jobs) == ["release", "publish", "again"]
    runs = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    call = "sh examples/pipeline.sh {}"
    assert runs == {
        "release": [call.format("release")],
        "publish": [call.format(stage) for stage in ("verify", "gate", "publish")],
        "again": [call.format("again")],
    }
    text = SCRIPT.read_text(encoding="utf-8")
    stages = set(re.findall(r"^  (\w+)\)", text, re.MULTILINE))
    assert stages == {run.rsplit(" ", 1)[1] for found in runs.values() for run in found}
    assert set(re.search(r"usage: pipeline.sh ([\w| ]+)", text)[1].split(" | ")) == stages  # type: ignore[index]

    used = set(re.findall(r"\$\{?([A-Z_]+)", text)) - {"GITHUB_STEP_SUMMARY", "SYNTHESIZER"}
    given = set(workflow["env"]) | {name for job in jobs.values() for name in job.get("env") or {}}
    assert given == used, "each variable of the script is given, and no other"
    secret = {"DATA", "LEDGER", "KEY"}
    assert secret <= set(jobs["release"]["env"])
    assert not secret & (
        set(workflow["env"]) | set(jobs["publish"].get("env") or {}) | set(jobs["again"].get("env") or {})
    )

    for job in jobs.values():
        for step in job["steps"]:
            assert "continue-on-error" not in step
            assert "run" not in step or "if" not in step, "a stage runs only where the stage before it ended with 0"
    assert not re.search("allow|no-gate|internal", WORKFLOW.read_text(encoding="utf-8") + text)


@pytest.mark.parametrize("text", ["a: |\n  b\n", "a: 1\na: 2\n", "a\n", "a:\n    b: 1\n  c: 2\n", "a: &x 1\n"])
def test_what_the_reader_of_the_workflow_does_not_know_is_an_error(text: str) -> None:
    with pytest.raises(AssertionError):
        parsed(text)


def test_the_policy_beside_it_is_signed_by_nobody_until_keys_are_put_in(case: Any, tmp_path: Path) -> None:
    policy = tmp_path / "clinic-policy.toml"
    shutil.copy(ROOT / "examples" / "clinic-policy.toml", policy)
    assert case.release("--policy", policy) == 2
    assert "key is a public key as `dpsynth key create` prints it" in case.stderr
    assert case.extract().attempts == 0
