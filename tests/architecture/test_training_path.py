"""No gradient of a person leaves the path that was paid for: rows, batch, clipped sum, noise, and only then a recipe.

The path is `Curator.train` (charges), `Training.noisy_sum` (batch, clipped sum, noise), `Gradients` (the only gradients).
What is checked here is that no other code steps onto it, and what a fit does while it runs.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpsynth import Cost
from dpsynth import curator as door
from dpsynth.curator import Training
from dpsynth.neural.ardm import Ardm
from dpsynth.neural.gradients import Gradients
from dpsynth.neural.vae import Vae

ROOT = Path(__file__).parents[2]
SOURCES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for name in ("dpsynth", "attacks", "reports")
    for path in sorted((ROOT / name).rglob("*.py"))
}

CURATOR, RECIPE, GRADIENTS = "dpsynth/curator.py", "dpsynth/neural/recipe.py", "dpsynth/neural/gradients.py"
CALLERS = {
    "clipped_sum": {CURATOR},  # a sum without noise yet
    "ClippedSum": {CURATOR},
    "factored": {CURATOR},  # gradients before they are clipped
    "PersonBatch": {CURATOR},  # rows of persons, made nowhere else
    "everybody": {CURATOR},  # all rows of the fit side
    "noisy_sum": {RECIPE},
    "train": {RECIPE},
    "grad": {GRADIENTS},  # torch.autograd.grad
    "backward": set(),
    "GradSampleModule": set(),
    "PrivacyEngine": set(),
}
"""Who calls what, all of it."""

SEEN_BY_NETWORKS = {"dpsynth.curator": {"Curator", "PersonBatch", "Training"}}
CLOSED_TO_NETWORKS = ("reading", "sources", "counting", "split", "ledger", "throw_away", "drafting", "checking")


@cache
def calls(text: str) -> frozenset[str]:
    """Names that are called, methods by their last part."""
    called = (node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return frozenset(
        found.attr if isinstance(found, ast.Attribute) else found.id if isinstance(found, ast.Name) else ""
        for found in called
    )


def callers(sources: dict[str, str]) -> dict[str, set[str]]:
    return {name: {path for path, text in sources.items() if name in calls(text)} for name in CALLERS}


def insides(text: str) -> set[str]:
    """What is private about a curator or a training and read from outside."""
    return {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and isinstance(node.value, ast.Name)
        and node.value.id in ("curator", "training")
    }


def test_each_step_of_the_path_is_taken_in_one_place() -> None:
    assert callers(SOURCES) == CALLERS


@pytest.mark.parametrize(
    "planted",
    [
        "def peek(training, question):\n    return clipped_sum(question, training.batch(), clip=1e9)\n",
        "def peek(loss):\n    loss.backward()\n",
        "def peek(curator):\n    return curator.store.everybody()\n",
        "from dpsynth.curator import PersonBatch\nbatch = PersonBatch(codes=1, present=2, coins=3)\n",
    ],
    ids=["sum without noise", "gradient of its own", "all rows", "batch of its own"],
)
def test_another_place_is_noticed(planted: str) -> None:
    assert callers(SOURCES | {"dpsynth/neural/planted.py": planted}) != CALLERS


def test_recipes_do_not_look_inside_what_they_are_given() -> None:
    rooms = ("dpsynth/neural/", "dpsynth/synthesizers/", "dpsynth/models/", "attacks/")
    for path, text in SOURCES.items():
        if path.startswith(rooms):
            assert not insides(text), path
    assert insides("def fit(curator):\n    rows = curator._store.everybody()\n") == {"curator._store"}


def test_networks_import_no_way_to_rows() -> None:
    looked = 0
    for path, text in SOURCES.items():
        if not path.startswith("dpsynth/neural/"):
            continue
        looked += 1
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("dpsynth."):
                assert node.module.split(".")[1] not in CLOSED_TO_NETWORKS, path
                names = {alias.name for alias in node.names}
                assert names <= SEEN_BY_NETWORKS.get(node.module, names), path
    assert looked >= 5


@pytest.mark.parametrize("make", [Ardm, Vae])
def test_a_fit_asks_for_sums_that_were_paid_for_and_for_nothing_else(
    make: Callable[..., Any],
    open_curator: Callable[..., Any],
    make_schema: Callable[..., Any],
    make_frame: Callable[..., Any],
    book: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every look at a person's gradient lies inside a noisy sum, after the charge, and each sum is of one step."""
    steps, events, purse = 5, [], book()
    noisy, clipped, passed = Training.noisy_sum, door.clipped_sum, Gradients._passed

    def watched(name: str, honest: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **words: Any) -> Any:
            events.append(f"{name} begins")
            found = honest(*args, **words)
            events.append(f"{name} ends")
            return found

        return call

    def spend(cost: Cost, *, purpose: str, basis: str = "proven") -> None:
        events.append(purpose)

    monkeypatch.setattr(Training, "noisy_sum", watched("noise", noisy))
    monkeypatch.setattr(door, "clipped_sum", watched("sum", clipped))
    monkeypatch.setattr(Gradients, "_passed", watched("gradient", passed))
    monkeypatch.setattr(purse, "spend", spend)
    monkeypatch.setattr("dpsynth.models.network._CALIBRATION_ROWS", 50)
    rows = np.random.default_rng(0).integers(0, 2, (40, 2)).tolist()
    curator = open_curator(make_frame(rows, columns=2), make_schema([2, 2]), seed=0, reservation=purse)
    make(steps=steps, hidden=4, rate=Fraction(1)).fit(curator, budget=Cost.zcdp(Fraction(1)))
    step = ["noise begins", "sum begins", "gradient begins", "gradient ends", "sum ends", "noise ends"]
    paid = events.index("training steps")
    assert events[paid + 1 :] == step * steps
    assert not set(events[:paid]) & set(step)
