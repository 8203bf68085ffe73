"""What the tests share: a seeded source of words, small tables, and a curator that meets both.

A seeded source of noise exists here and nowhere else: nothing that ships can make one. dpsynth is imported where it is
used, so that a module that does not import breaks its own tests only.
"""

from __future__ import annotations

import importlib
import itertools
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings

if TYPE_CHECKING:
    import pandas as pd
    from ledger_places import Place

    from dpsynth.curator import Curator
    from dpsynth.privacy import Cost, Neighbours, PrivacyUnit
    from dpsynth.schema import Schema

settings.register_profile("dpsynth", deadline=None, derandomize=True)  # the same examples on every machine, slow or not
settings.load_profile("dpsynth")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole releases and many draws are slow as a whole: `make check` leaves them to `make test`."""
    for item in items:
        if item.path.relative_to(Path(__file__).parent).parts[0] in ("end_to_end", "statistical"):
            item.add_marker("slow")


class SeededRng:
    """Words, and a key, that follow from a seed: for tests only."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def words(self, count: int) -> npt.NDArray[np.uint64]:
        return self._bits.random_raw(count)

    def key(self) -> bytes:
        return self.words(4).tobytes()


@dataclass
class Book:
    """Stands in for a reservation: writes down what is charged, and refuses nothing."""

    unit: PrivacyUnit | None = None
    spent: list[Cost] = field(default_factory=list)
    started: bool = False

    def start(self) -> None:
        self.started = True

    def require_started(self) -> None:
        assert self.started

    def spend(self, cost: Cost, *, purpose: str, basis: str = "proven") -> None:
        assert self.started
        assert purpose
        self.spent.append(cost)


def make_schema(
    sizes: Sequence[int], *, neighbours: Neighbours = "add_remove", max_rows: int | None = None, missing: bool = False
) -> Schema:
    """Category columns c0, c1, ... with the values "0", "1", ...; with `max_rows` the unit is a person named in `who`.

    With `missing`, every column has one cell more.
    """
    from dpsynth.schema import Column, Schema

    columns = tuple(
        Column(name=f"c{i}", type="category", values=tuple(map(str, range(size))), missing=missing, basis="test")
        for i, size in enumerate(sizes)
    )
    if max_rows is None:
        return Schema(table="test", columns=columns, neighbours=neighbours)
    return Schema(
        table="test", columns=columns, neighbours=neighbours, entity="person", unit_column="who", max_rows=max_rows
    )


def make_frame(rows: Sequence[Sequence[int]], *, columns: int, who: Sequence[object] | None = None) -> pd.DataFrame:
    """A data frame for `make_schema`: rows of cell codes, and whose each row is."""
    import pandas as pd

    table = np.array(rows, dtype=np.int64).reshape(len(rows), columns)
    data = {f"c{i}": pd.array([str(code) for code in table[:, i]], dtype="string") for i in range(columns)}
    ids = {} if who is None else {"who": pd.array([str(person) for person in who], dtype="string")}
    return pd.DataFrame({**data, **ids})


def open_curator(
    frame: pd.DataFrame, schema: Schema, *, seed: int, reservation: Any = None, holdout: Fraction = Fraction(0)
) -> Curator:
    """A curator whose key and noise follow from `seed`, charging to a `Book` unless a reservation is given."""
    from dpsynth.curator import Curator

    reservation = Book() if reservation is None else reservation
    if isinstance(reservation, Book):
        reservation.unit = schema.unit
    doubles = {"SystemRng": mock.Mock(return_value=SeededRng(seed))}
    if isinstance(reservation, Book):
        doubles["_check_purse"] = mock.Mock()  # which would refuse a double
    with mock.patch.multiple("dpsynth.curator", **doubles):
        return Curator.of_frame(frame, schema, reservation, holdout=holdout)


SOURCES: dict[str, tuple[str, ...]] = {
    "SystemRng": ("dpsynth.counting.layout", "dpsynth.curator"),
    "sampling_generator": ("dpsynth.fakes", "dpsynth.rehearsal", "dpsynth.synthetic", "reports.pipeline"),
}
"""The modules that make a source of randomness, by its name."""


@pytest.fixture
def seeded_noise(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, ...]]:
    """Noise, secret coins and drawn rows of this process follow from seeds, a new one for each source that is made.

    For tests that judge what noise did: they pass always or never, and say how rarely a fresh seed would fail them.
    """
    seeds = itertools.count()
    doubles = {
        "SystemRng": lambda: SeededRng(next(seeds)),
        "sampling_generator": lambda: np.random.default_rng(next(seeds)),
    }
    for name, modules in SOURCES.items():
        for module in modules:
            monkeypatch.setattr(f"{module}.{name}", doubles[name])
    return SOURCES


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to what it starts in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "rewinds: puts older or forged ledgers in place, so no witness may remember one")


@pytest.fixture(scope="session", autouse=True)
def heads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where ledgers note their heads: never in the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("heads")
        patch.setenv("DPSYNTH_WITNESS", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _forgetful(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that rewind ledgers on purpose ask what a file shows by itself, on a machine that remembers nothing."""
    if request.node.get_closest_marker("rewinds"):
        monkeypatch.setenv("DPSYNTH_WITNESS", os.devnull)


@pytest.fixture(autouse=True)
def _same_deals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Audits deal tables by secret coins; in tests the same ones each time, so that what was seen once is seen again."""
    if "attacks.neighbours" in sys.modules:
        monkeypatch.setattr("attacks.neighbours.secrets", SimpleNamespace(randbits=random.Random(0).getrandbits))


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that loop over the registry get networks of a few steps: they are about promises, not about learning.

    Tests of learning, and of the settings that ship, make their recipes themselves (`tests/statistical/test_networks.py`).
    """
    from functools import partial

    from dpsynth.neural.ardm import Ardm
    from dpsynth.neural.vae import Vae
    from dpsynth.synthesizers.registry import SYNTHESIZERS

    monkeypatch.setitem(SYNTHESIZERS, "ardm", partial(Ardm, steps=4, hidden=8, device="cpu"))
    monkeypatch.setitem(SYNTHESIZERS, "vae", partial(Vae, steps=4, hidden=8, latent=2, device="cpu"))


@pytest.fixture(scope="session", name="seeded")
def _seeded() -> type[SeededRng]:
    return SeededRng


@pytest.fixture(scope="session", name="book")
def _book() -> type[Book]:
    return Book


@pytest.fixture(scope="session", name="make_schema")
def _make_schema() -> Callable[..., Schema]:
    return make_schema


@pytest.fixture(scope="session", name="make_frame")
def _make_frame() -> Callable[..., pd.DataFrame]:
    return make_frame


@pytest.fixture(scope="session", name="open_curator")
def _open_curator() -> Callable[..., Curator]:
    return open_curator


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a PostgreSQL server of our own (`tests/postgres_server.py`)."""
    from postgres_server import running

    with running() as address:
        yield address


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where a ledger may be made: beside a file, or with `ledger_places.both` also on a server."""
    from ledger_places import PostgresPlace, SqlitePlace

    if getattr(request, "param", "sqlite") == "sqlite":
        yield SqlitePlace(tmp_path / "ledger.db")
    else:
        yield PostgresPlace(request.getfixturevalue("server"))


@pytest.fixture(scope="session")
def tables() -> ModuleType:
    """`tests/attack_tables.py`: a population, and generators that leak on purpose."""
    return importlib.import_module("attack_tables")


@pytest.fixture(scope="session")
def builder() -> ModuleType:
    """`tests/evidence_builder.py`: evidence of a made-up release."""
    return importlib.import_module("evidence_builder")
