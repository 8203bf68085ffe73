"""A synthesizer that breaks its promise must not get a pass: the charged attack counts see it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest

from dpsynth import SYNTHESIZERS, Cost, Curator, GraphicalModel, Independent, Table


@dataclass(frozen=True)
class Copying:
    """A model that hands out private rows."""

    honest: GraphicalModel
    rows: Table
    share: float

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        return getattr(self.honest, name)

    def sample(self, rows: int, *, rng: np.random.Generator) -> Table:
        fair = self.honest.sample(rows, rng=rng).codes.copy()
        leak = rng.random(rows) < self.share
        fair[leak] = self.rows.codes[rng.integers(len(self.rows), size=int(leak.sum()))]
        return Table(schema=self.rows.schema, codes=fair)


@dataclass(frozen=True)
class Cheat:
    """Fits an honest model, then copies real rows past the one door."""

    share: float
    name: str = "cheat"

    def fit(self, curator: Curator, *, budget: Cost) -> Copying:
        honest = Independent().fit(curator, budget=budget)
        return Copying(honest, Table.encode(curator.review_sample().fit.records), self.share)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_copied_rows_fail_the_release_gate(case, monkeypatch: pytest.MonkeyPatch, table_rows, share: float) -> None:  # type: ignore[no-untyped-def]
    """Also shows that these rules can fail at all: an honest release of the same table does not."""
    case.schema.write_text(case.schema.read_text().replace("bins    = 10", "").replace("bins    = 8", "bins = 40"))
    case.write(table_rows(2500))
    monkeypatch.setitem(SYNTHESIZERS, "cheat", lambda: Cheat(share))
    case.release("--synthesizer", "cheat", "--holdout", "0.4", "--rows", 4000)
    rules = json.loads((case.out / "release" / "verdict.json").read_text())["rules"]
    failed = {rule["id"] for rule in rules if rule["status"] == "fail" and rule["id"].startswith("attacks.")}
    assert failed, [
        (rule["id"], rule["status"], rule["estimate"]) for rule in rules if rule["id"].startswith("attacks.")
    ]
    review = json.loads((case.out / "internal" / "verdict.json").read_text())
    assert review["verdict"] == "fail"
    honest = case.folder / "honest"
    case.release("--synthesizer", "independent", "--holdout", "0.4", "--rows", 4000, out=honest)
    rules = json.loads((honest / "release" / "verdict.json").read_text())["rules"]
    assert not [rule["id"] for rule in rules if rule["status"] == "fail" and rule["id"].startswith("attacks.")]


def test_a_synthesizer_cannot_spend_more_than_its_part(case, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    @dataclass(frozen=True)
    class Greedy:
        name: str = "greedy"

        def fit(self, curator: Curator, *, budget: Cost) -> GraphicalModel:
            return Independent().fit(curator, budget=replace(budget, rho=budget.rho * 3))

    monkeypatch.setitem(SYNTHESIZERS, "greedy", Greedy)
    assert case.release("--synthesizer", "greedy", "--holdout", "0.4") == 7
    assert not case.out.exists()
    assert case.extract().charged_nano > 0
