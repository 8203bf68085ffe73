"""Networks by the command line: charged like everything else, honest about their noise, and never run twice for once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from child_processes import Child

from dpsynth import Cap, IntegrityError, Ledger, Release
from dpsynth.curator import Curator, Training
from dpsynth.models.network import NetworkModel
from dpsynth.neural import recipe
from reports.evidence import Evidence
from reports.gate import decide
from reports.policy import Policy

every_network = pytest.mark.parametrize("name", ["ardm", "vae"])

RULES = """
[[constraint]]
implies = { if = "town == 'A'", then = "ill == false" }

[[constraint]]
rule = "age >= 5 or cost is missing"
"""


@every_network
def test_a_release_says_what_was_charged_and_that_its_noise_is_floating_point(case: Any, name: str) -> None:
    code = case.release("--synthesizer", name, "--holdout", "0.4")
    assert code in (1, 3, 4), case.stderr  # never a pass
    folder = case.out / "release"
    evidence = json.loads((folder / "evidence.json").read_text())
    assert "the network learned from whole rows, no relation was measured here" in " ".join(
        evidence["utility"]["unfit"]["v"]
    )
    verdict = json.loads((folder / "verdict.json").read_text())
    states = {rule["id"]: rule["status"] for rule in verdict["rules"]}
    assert evidence["implementation"]["floating_point"]["v"] is True
    assert states["implementation.exact_noise"] == "needs_human"
    assert states["guarantee.definition"] == "pass"
    assert states["evidence.complete"] == states["evidence.consistent"] == "pass"
    promise, extract = Cap.of(1, "1e-6"), case.extract()
    charged = extract.charged
    assert charged.extra
    assert promise.nano * Fraction(95, 100) < charged.at(promise.order) <= promise.nano
    guarantee = evidence["guarantee"]
    assert "Renyi" in guarantee["definition"]["v"]
    assert [row["nano"]["v"] for row in guarantee["curve"]] == list(charged.extra)
    assert guarantee["rho"]["v"] == pytest.approx(float(charged.rho))
    stated = [row for row in guarantee["profile"] if row["delta"]["v"] == 1e-6]
    assert float(charged.epsilon("1e-6")) <= stated[0]["epsilon"]["v"] <= 1
    shares = {row["purpose"]["v"]: row["rho"]["v"] for row in guarantee["shares"]}
    assert len(shares) == 3
    whole = promise.nano / 1e9 / float(promise.order)
    assert 0.95 * whole < sum(shares.values()) <= whole * (1 + 1e-9)
    assert sum("Renyi loss at order" in purpose for purpose in shares) == 1
    assert case("verify", case.out) == 0
    assert case("gate", case.out) == code
    assert "Renyi loss on top of rho" in (folder / "report.html").read_text()
    again = case.release("--synthesizer", name, "--no-gate", out=case.folder / "second")
    assert again == 0, case.stderr
    before = json.loads((case.folder / "second" / "release" / "evidence.json").read_text())["ledger"]
    assert before["spent_before_epsilon"]["v"] == pytest.approx(float(charged.epsilon("1e-6")))
    assert case.release("--synthesizer", name, "--no-gate", out=case.folder / "third", epsilon=2) == 7


def test_figures_that_are_better_than_the_curve_are_found_out(case: Any) -> None:
    assert case.release("--synthesizer", "vae") in (1, 4)
    text = (case.out / "release" / "evidence.json").read_text()
    policy = Policy.load("internal-test")

    def state(change: Any) -> str:
        tree = json.loads(text)
        change(tree["guarantee"])
        evidence = Evidence.from_json(json.dumps(tree))
        day = evidence.value("created_at")
        verdict = decide(policy, evidence, stage="release", on=pd.Timestamp(str(day)).date())
        return {rule.id: rule.state for rule in verdict.rules}["evidence.consistent"]

    def lower(guarantee: Any) -> None:
        guarantee["profile"][0]["epsilon"]["v"] *= 0.9

    assert state(lambda guarantee: None) == "pass"
    assert state(lower) == "integrity"
    assert state(lambda guarantee: guarantee.pop("curve")) == "integrity"
    assert state(lambda guarantee: guarantee["curve"].pop()) == "integrity"
    assert state(lambda guarantee: guarantee["definition"].update(v="zCDP")) == "integrity"


@every_network
def test_every_row_keeps_the_constraints(case: Any, name: str) -> None:
    case.schema.write_text(case.schema.read_text(encoding="utf-8") + RULES, encoding="utf-8")
    assert case.release("--no-gate", "--synthesizer", name) == 0, case.stderr
    more = case.folder / "more.parquet"
    assert case("sample", case.out, "--rows", 3000, "--out", more) == 0, case.stderr
    for path in (case.out / "release" / "synthetic.parquet", more):
        frame = pd.read_parquet(path)
        assert len(frame) > 100
        assert (frame.town == "A").any()
        assert not ((frame.town == "A") & frame.ill).any()
        assert not ((frame.age < 5) & frame.cost.notna()).any()


@pytest.mark.parametrize("option", [("--where", "age >= 40"), ("--balance", "town")])
def test_conditions_are_refused_with_one_sentence(case: Any, option: tuple[str, str]) -> None:
    assert case.release("--no-gate", "--synthesizer", "ardm") == 0, case.stderr
    before = case.listing()
    assert case("sample", case.out, "--rows", 10, *option, "--out", case.folder / "x.csv") == 2
    assert "aim" in case.stderr
    assert len(case.stderr.strip().splitlines()) == 1
    assert case.listing() == before


def test_a_release_is_sampled_without_torch(case: Any) -> None:
    assert case.release("--no-gate", "--synthesizer", "vae") == 0, case.stderr
    script = (
        "import sys, numpy; from pathlib import Path; from dpsynth import Release; "
        f"model = Release.open(Path({str(case.out)!r})).model(); "
        "print(len(model.sample(7, rng=numpy.random.default_rng(0))), *({'torch', 'opacus', 'dp_accounting'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["7"]


def test_without_the_extra_one_sentence_says_what_to_install(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe.importlib.util, "find_spec", lambda name: None)
    before = case.extract()
    assert case.release("--synthesizer", "ardm") == 6
    assert 'pip install "dpsynth[neural]"' in case.stderr
    assert len(case.stderr.strip().splitlines()) == 1
    assert case.extract().charged == before.charged
    assert not case.out.exists()


def test_a_training_that_was_killed_half_way_stays_charged_and_does_not_run_again(case: Any) -> None:
    """No checkpoint: what the steps so far have shown is spent, and the same job cannot spend it twice."""
    steps, honest = [], Training.noisy_sum

    def killed(self: Training, question: Any) -> Any:
        steps.append(1)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return honest(self, question)

    words = ("--synthesizer", "ardm", "--no-gate", "--job-id", "nightly")
    with mock.patch.object(Training, "noisy_sum", killed):
        assert case.release(*words) == 130
    assert len(steps) == 3
    assert not case.out.exists()
    charged = case.extract().charged
    assert charged.at(Cap.of(1, "1e-6").order) > Cap.of(1, "1e-6").nano * Fraction(95, 100)
    assert case.release(*words) == 7
    assert "job" in case.stderr
    assert case.extract().charged == charged
    assert not case.out.exists()


KILLED_AT = {
    "the first count": (Curator, "measure", 1),
    "the first step": (Training, "noisy_sum", 1),
    "the second step": (Training, "noisy_sum", 2),
    "the third step": (Training, "noisy_sum", 3),
    "the last step": (Training, "noisy_sum", 4),
    "calibration": (NetworkModel, "calibrated", 1),
}


@pytest.mark.slow
def test_a_training_that_is_killed_anywhere_stays_charged_and_does_not_run_again(case: Any) -> None:
    """By SIGKILL: nobody gets to say anything, and the ledger holds all the same."""
    ledger = case.folder / "large.ledger"
    create = ("ledger", "create", ledger, "--population", "p", "--epsilon", 20, "--delta", "1e-6", "--unit", "person")
    assert case(*create) == 0

    def release(job: str, out: Path) -> int:
        code: int = case(
            "release", case.data, "--schema", case.schema, "--ledger", ledger, "--epsilon", 1, "--delta", "1e-6",
            "--synthesizer", "ardm", "--no-gate", "--job-id", job, "--out", out,
        )  # fmt: skip
        return code

    def dying(job: str, owner: type, name: str, calls: int) -> Callable[[Callable[[str], None]], None]:
        def work(say: Callable[[str], None]) -> None:
            import torch

            torch.set_num_threads(1)  # the threads of the parent are not here
            left, honest = calls, getattr(owner, name)

            def call(*args: Any, **words: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return honest(*args, **words)

            setattr(owner, name, call)
            say(str(release(job, case.folder / job.replace(" ", "-"))))

        return work

    order, each = Cap.of(20, "1e-6").order, None
    for number, (job, point) in enumerate(KILLED_AT.items(), start=1):
        assert Child(dying(job, *point)).wait() == (-signal.SIGKILL, []), job
        out = case.folder / job.replace(" ", "-")
        assert not out.exists()
        charged = Ledger.open(ledger).extract().charged
        each = each or charged.at(order)
        assert each > 0
        assert abs(charged.at(order) - number * each) <= number  # whole, whenever it was; curves are rounded up
        assert release(job, out) == 7
        assert "job" in case.stderr
        assert Ledger.open(ledger).extract().charged == charged
    assert case("ledger", "verify", ledger) == 0


def test_a_damaged_network_is_not_read(case: Any) -> None:
    assert case.release("--no-gate", "--synthesizer", "ardm") == 0, case.stderr
    release = Release.open(case.out)
    folder = release.folder / "model"
    facts = json.loads((folder / "model.json").read_text())
    with np.load(folder / "model.npz") as stored:
        arrays = dict(stored)
    release.model()

    def refused(changed: dict[str, Any], **numbers: Any) -> None:
        (folder / "model.json").write_text(json.dumps(facts | changed))
        np.savez_compressed(folder / "model.npz", **{**arrays, **numbers})
        with pytest.raises(IntegrityError):
            release.model()

    for change in ({"kind": "oracle"}, {"total": 0}, {"layers": 1}, {"layers": 9}, {"format": "dpsynth.network/9"}):
        refused(change)
    refused({}, offsets=arrays["offsets"][:-1])
    refused({}, offsets=arrays["offsets"] * np.float32(np.nan))
    refused({}, weight_0=arrays["weight_0"][:, :-1])
    refused({}, weight_0=arrays["weight_0"].astype(object))
    refused({}, measurement_0=arrays["measurement_0"][:-1])
    (folder / "model.json").write_text("{")
    with pytest.raises(IntegrityError):
        release.model()


@pytest.mark.slow
@pytest.mark.usefixtures("seeded_noise")
def test_an_audit_runs_a_network(case: Any) -> None:
    """On fresh noise it fails with a chance of at most 1 in 1,000."""
    words = (
        "audit",
        "--synthesizer",
        "vae",
        "--schema",
        case.schema,
        "--epsilon",
        1,
        "--delta",
        "1e-6",
        "--fits",
        80,
        "--json",
    )
    assert case(*words) in (0, 4), case.stderr
    found = json.loads(case.stdout)
    assert found["claim"]["rho"] is None
    assert found["verdict"] != "fail"


def test_importing_dpsynth_imports_no_network() -> None:
    script = "import dpsynth, sys; print({'torch', 'opacus', 'dp_accounting'} & set(sys.modules))"
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert ran.stdout.strip() == "set()"
