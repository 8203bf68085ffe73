"""A small private table on disk, with everything that a release needs, and the command to run on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dpsynth import Ledger, LedgerExtract
from dpsynth.cli.main import run

SCHEMA = """\
schema     = "dpsynth.schema/1"
table      = "visits"
neighbours = "add_remove"
unit       = { entity = "person", column = "who", max_rows = 3 }
basis      = "made for the tests"

[[column]]
name    = "age"
type    = "integer"
minimum = 0
maximum = 99
bins    = 10
role    = "quasi_identifier"

[[column]]
name   = "town"
type   = "category"
values = ["A", "B", "C", "D"]
role   = "quasi_identifier"

[[column]]
name    = "cost"
type    = "number"
minimum = 0
maximum = 1000
bins    = 8
missing = true
role    = "sensitive"

[[column]]
name   = "ill"
type   = "boolean"
true   = ["yes"]
false  = ["no"]
role   = "sensitive"
"""


def rows(persons: int, seed: int = 1) -> list[str]:
    """Lines of a CSV file: up to three rows a person."""
    rng = np.random.default_rng(seed)
    out = []
    for who in range(persons):
        age, town = int(rng.integers(0, 100)), "ABCD"[int(rng.integers(0, 4))]
        for _ in range(int(rng.integers(1, 4))):
            cost = "" if rng.random() < 0.1 else f"{rng.gamma(1 + age / 30, 60):.2f}"
            out.append(f"p{who},{age},{town},{cost},{'yes' if rng.random() < age / 150 else 'no'}")
    return out


@dataclass
class Case:
    """Files of one test, and what a command line did."""

    folder: Path
    capture: pytest.CaptureFixture[str]
    stdout: str = ""
    stderr: str = ""

    @property
    def data(self) -> Path:
        return self.folder / "visits.csv"

    @property
    def schema(self) -> Path:
        return self.folder / "visits.toml"

    @property
    def ledger(self) -> Path:
        return self.folder / "visits.ledger"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def write(self, lines: list[str], header: str = "who,age,town,cost,ill") -> None:
        self.data.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")

    def __call__(self, *words: object) -> int:
        self.capture.readouterr()
        code = run([str(word) for word in words])
        self.stdout, self.stderr = self.capture.readouterr()
        return code

    def release(self, *more: object, epsilon: object = 1, out: Path | None = None) -> int:
        return self(
            "release", self.data, "--schema", self.schema, "--ledger", self.ledger, "--epsilon", epsilon,
            "--delta", "1e-6", "--out", out or self.out, *more,
        )  # fmt: skip

    def extract(self) -> LedgerExtract:
        return Ledger.open(self.ledger).extract()

    def listing(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if not path.name.startswith("visits.ledger")}


@pytest.fixture
def case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Case:
    """1,200 persons in a CSV file, a schema, and a ledger with a cap of 2."""
    made = Case(folder=tmp_path, capture=capsys)
    made.write(rows(1200))
    made.schema.write_text(SCHEMA, encoding="utf-8")
    assert (
        made(
            "ledger",
            "create",
            made.ledger,
            "--population",
            "test",
            "--epsilon",
            2,
            "--delta",
            "1e-6",
            "--unit",
            "person",
        )
        == 0
    )
    return made


@pytest.fixture(scope="session")
def table_rows() -> Callable[..., list[str]]:
    return rows
