"""The suite that every synthesizer passes: it loops over the registry, so a new recipe is tested by being listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import FrozenInstanceError, dataclass, field, replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from dpsynth.coarsening import Coarse
from dpsynth.curator import Curator
from dpsynth.errors import BudgetExceeded, PrivacyRefusal, UnitMismatch, UsageError
from dpsynth.ledger import Ledger, Reservation
from dpsynth.mechanisms.base import Columns, Measurement
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.mechanisms.dp_sgd import SampledGaussian
from dpsynth.mechanisms.noisy_max import NoisyMax, anything
from dpsynth.models.base import Model
from dpsynth.models.graphical import GraphicalModel
from dpsynth.models.stored import load_model
from dpsynth.neural.gradients import Gradients
from dpsynth.privacy import Cap, Cost, PrivacyUnit
from dpsynth.randomness import Rng
from dpsynth.reading import read_frame
from dpsynth.schema import Column, Schema
from dpsynth.synthesizers.mst import Mst
from dpsynth.synthesizers.registry import SYNTHESIZERS, synthesizer
from dpsynth.table import Table

OpenCurator = Callable[..., Any]
Reserve = Callable[..., Reservation]

every_synthesizer = pytest.mark.parametrize("name", SYNTHESIZERS)
NETWORKS = ("ardm", "vae")
every_graphical_model = pytest.mark.parametrize("name", [name for name in SYNTHESIZERS if name not in NETWORKS])
"""A network's first weights belong to columns by their places, and its answers come to no closed form."""


# ---- tables --------------------------------------------------------------------------------------------------------

MIXED = (
    Column(name="age", type="integer", minimum=0, maximum=99, bins=10),
    Column(name="income", type="number", minimum=-5.0, maximum=1000.0, edges=(-5, 0, 10, 100, 1000), missing=True),
    Column(name="size", type="number", minimum=0, maximum=1, bins=3, decimals=2),
    Column(name="town", type="category", values=("a", "b", "c"), unknown="other"),
    Column(name="grade", type="ordinal", values=("low", "middle", "high"), missing=True),
    Column(name="member", type="boolean"),
    Column(name="always", type="category", values=("one",)),
    Column(name="note", type="text"),
)
SINGLE = tuple(replace(MIXED[6], name=name) for name in ("always", "still", "ever"))
WIDE = (
    Column(name="age", type="integer", minimum=0, maximum=999, bins=1_000),
    Column(name="town", type="category", values=("a", "b", "c", *(f"v{n}" for n in range(100))), unknown="other"),
    Column(name="member", type="boolean", missing=True),
)
SCHEMAS: dict[str, Schema] = {
    "mixed": Schema(table="t", columns=MIXED, basis="test"),
    "persons": Schema(
        table="t", columns=MIXED, basis="test", entity="person", unit_column="who", max_rows=3, neighbours="replace"
    ),
    "one column": Schema(table="t", columns=MIXED[:1], basis="test"),
    "one cell": Schema(table="t", columns=MIXED[6:7], basis="test"),
    "two columns": Schema(table="t", columns=MIXED[3:5], basis="test", neighbours="replace"),
    "single cells": Schema(table="t", columns=SINGLE, basis="test"),
    "wide columns": Schema(table="t", columns=WIDE, basis="test"),
}


def make_rows(schema: Schema, rows: int, *, seed: int = 0) -> pd.DataFrame:
    """Rows for a schema of `SCHEMAS`: columns that have to do with each other, and some values that do not belong."""
    rng = np.random.default_rng(seed)
    age = rng.integers(-3, 110, rows)
    town = rng.choice(["a", "b", "c", "elsewhere"], rows)
    frame = pd.DataFrame(
        {
            "age": pd.array(age, dtype="Int64"),
            "income": np.where(rng.random(rows) < 0.2, np.nan, age * rng.gamma(2, 8, rows)),
            "size": np.round(rng.random(rows), 2),
            "town": pd.array(town, dtype="string"),
            "grade": pd.array([("low", "middle", "high", "?")[int(a) % 4] for a in age], dtype="string"),
            "member": pd.array(age > 40, dtype="boolean"),
            **{name: pd.array(["one"] * rows, dtype="string") for name in ("always", "still", "ever")},
            "note": pd.array(["private"] * rows, dtype="string"),
            "who": pd.array([f"p{n // 2}" for n in range(rows)], dtype="string"),
        }
    )
    return frame[list(schema.file_names)]


@pytest.fixture
def reserve(tmp_path: Path) -> Iterator[Reserve]:
    """Reservations of whole caps in ledgers of their own."""
    held: list[Reservation] = []

    def work(schema: Schema, *, epsilon: str = "1", delta: str = "1e-6") -> Reservation:
        ledger = Ledger.create(
            tmp_path / f"{len(held)}.ledger",
            population="test",
            epsilon=epsilon,
            delta=delta,
            entity=schema.unit.entity,
            neighbours=schema.neighbours,
        )
        held.append(ledger.reserve(Cap.of(epsilon, delta).cost, unit=schema.unit, purpose="test", basis="claimed"))
        return held[-1].__enter__()

    yield work
    for reservation in held:
        reservation.__exit__(None, None, None)


def fit(
    name: str, frame: pd.DataFrame, schema: Schema, reservation: Any, open_curator: OpenCurator, **how: Any
) -> Model:
    curator = open_curator(frame, schema, seed=how.pop("seed", 1), reservation=reservation, **how)
    return SYNTHESIZERS[name]().fit(curator, budget=reservation.limit)


def assert_valid(model: Model, schema: Schema, *, rows: Sequence[int] = (0, 1, 200)) -> None:
    """A model of a schema, from which any number of rows can be drawn."""
    assert model.schema == schema
    assert np.isfinite(model.total)
    assert model.total >= 1
    for count in rows:
        table = model.sample(count, rng=np.random.default_rng(count))  # a Table refuses codes outside its schema
        assert isinstance(table, Table)
        assert (len(table), table.schema) == (count, schema)
        records = table.decode(rng=np.random.default_rng(1))
        assert np.array_equal(Table.encode(records).codes, table.codes)
        frame = records.to_frame()
        assert tuple(frame.columns) == schema.names
        assert len(frame) == count


# ---- valid schema out, whatever comes in ---------------------------------------------------------------------------


@pytest.mark.slow
@every_synthesizer
@pytest.mark.parametrize("rows", [0, 1, 150])
@pytest.mark.parametrize("which", SCHEMAS)
def test_any_number_of_rows_gives_a_valid_model(
    name: str, rows: int, which: str, reserve: Reserve, open_curator: OpenCurator
) -> None:
    schema = SCHEMAS[which]
    assert_valid(fit(name, make_rows(schema, rows), schema, reserve(schema), open_curator), schema)


@pytest.mark.slow
@every_synthesizer
@pytest.mark.parametrize("fill", [None, "out of range"])
def test_rows_that_say_nothing_give_a_valid_model(
    name: str, fill: str | None, reserve: Reserve, open_curator: OpenCurator
) -> None:
    """All missing, or all beyond the bounds: rows are dropped, clamped or counted as missing, and nothing fails."""
    schema = SCHEMAS["persons"]
    frame = make_rows(schema, 40)
    for column in ("age", "income", "size", "town", "grade"):
        if fill is None:
            frame[column] = frame[column].mask(np.ones(40, dtype=bool))
        elif frame[column].dtype == "string":
            frame[column] = pd.array(["nowhere"] * 40, dtype="string")
        else:
            frame[column] = frame[column].mask(np.ones(40, dtype=bool), 10**6)
    assert_valid(fit(name, frame, schema, reserve(schema), open_curator), schema)


@pytest.mark.slow
@every_synthesizer
@pytest.mark.parametrize("epsilon", ["0.01", "30"])
def test_little_and_much_budget_give_a_valid_model(
    name: str, epsilon: str, reserve: Reserve, open_curator: OpenCurator
) -> None:
    schema = SCHEMAS["persons"]
    reservation = reserve(schema, epsilon=epsilon)
    assert_valid(fit(name, make_rows(schema, 60), schema, reservation, open_curator), schema)
    assert reservation.spent.fits(reservation.limit)


@every_synthesizer
def test_a_holdout_of_nearly_everybody_gives_a_valid_model(
    name: str, reserve: Reserve, open_curator: OpenCurator
) -> None:
    schema = SCHEMAS["persons"]
    holdout = Fraction(999, 1000)
    assert_valid(fit(name, make_rows(schema, 9), schema, reserve(schema), open_curator, holdout=holdout), schema)


# ---- cost ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@every_synthesizer
@pytest.mark.parametrize("epsilon", ["0.05", "8"])
@pytest.mark.parametrize("which", SCHEMAS)
def test_the_stated_cost_is_what_the_reservation_saw_and_within_the_budget(
    name: str, which: str, epsilon: str, reserve: Reserve, open_curator: OpenCurator
) -> None:
    schema = SCHEMAS[which]
    reservation = reserve(schema, epsilon=epsilon)
    model = fit(name, make_rows(schema, 80), schema, reservation, open_curator)
    events = reservation.events
    assert sum((cost for _, cost in events), Cost.zero()) == reservation.spent
    assert reservation.spent.fits(reservation.limit)
    assert reservation.spent.rho >= reservation.limit.rho * Fraction(99, 100)  # and nothing is left lying about
    measured = [cost for purpose, cost in events if "marginal" in purpose]
    assert [m.cost for m in model.measurements] == measured
    for m in model.measurements:
        assert m.cost == Cost.zcdp(Fraction(schema.unit.l2_squared) / (2 * m.sigma_squared))
        assert m.values.dtype == np.int64
        sizes = (*schema.sizes, *(made.size for made in model.coarse))
        assert m.values.shape == tuple(sizes[column] for column in m.columns)
        assert m.columns == tuple(sorted(set(m.columns)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["independent", "mst", *NETWORKS])
def test_the_charge_of_a_fixed_plan_does_not_depend_on_the_rows(
    name: str, reserve: Reserve, open_curator: OpenCurator
) -> None:
    """The others decide by noisy answers how many marginals to measure: `test_a_model_is_built_from_noisy_answers_alone`."""
    schema, charges = SCHEMAS["persons"], []
    for rows in (0, 1, 150):
        reservation = reserve(schema)
        fit(name, make_rows(schema, rows, seed=rows), schema, reservation, open_curator, seed=rows)
        charges.append(reservation.events)
    assert charges[0] == charges[1] == charges[2]


@every_synthesizer
def test_a_budget_larger_than_the_reservation_is_refused(
    name: str, reserve: Reserve, open_curator: OpenCurator
) -> None:
    schema = SCHEMAS["two columns"]
    reservation = reserve(schema)
    curator = open_curator(make_rows(schema, 20), schema, seed=1, reservation=reservation)
    with pytest.raises(BudgetExceeded):
        SYNTHESIZERS[name]().fit(curator, budget=Cap.of(3, "1e-6").cost)
    assert reservation.spent.fits(reservation.limit)


def test_a_reservation_for_another_unit_serves_no_curator(reserve: Reserve, open_curator: OpenCurator) -> None:
    """Sensitivities come from the schema's unit, the promise from the reservation's: they have to be one."""
    schema = SCHEMAS["persons"]
    for change in ({"max_rows": 2}, {"neighbours": "add_remove"}, {"entity": "household"}):
        other = replace(schema, **change)
        reservation = reserve(other)
        with pytest.raises(UnitMismatch):
            open_curator(make_rows(schema, 20), schema, seed=1, reservation=reservation)
        assert reservation.state == "reserved"  # a mistake about public facts costs nothing


def test_a_curator_cannot_be_made_around_the_start(reserve: Reserve) -> None:
    """The public constructor takes rows that were read already: without a start nothing was charged for them."""
    schema = SCHEMAS["persons"]
    rows = read_frame(make_rows(schema, 20), schema)
    with pytest.raises(PrivacyRefusal):
        Curator(rows, schema, reserve(schema), holdout=Fraction(0))


def test_a_share_that_is_no_chance_is_refused_before_the_start(reserve: Reserve, open_curator: OpenCurator) -> None:
    schema = SCHEMAS["persons"]
    for holdout in (Fraction(-1, 10), Fraction(1), Fraction(2)):
        reservation = reserve(schema)
        with pytest.raises(UsageError, match="holdout"):
            open_curator(make_rows(schema, 20), schema, seed=1, reservation=reservation, holdout=holdout)
        assert reservation.state == "reserved"


@every_synthesizer
def test_a_part_of_the_reservation_is_not_overdrawn(name: str, reserve: Reserve, open_curator: OpenCurator) -> None:
    """`release` keeps a share for the attack counts: the fit must leave it alone."""
    schema = SCHEMAS["mixed"]
    reservation = reserve(schema)
    curator = open_curator(make_rows(schema, 60), schema, seed=1, reservation=reservation)
    budget = reservation.limit.share(Fraction(9, 10))
    SYNTHESIZERS[name]().fit(curator, budget=budget)
    assert reservation.spent.fits(budget)


# ---- a model is its measurements -----------------------------------------------------------------------------------


Question = tuple[Any, ...]


def asked(how: str, *what: Any) -> Question:
    """A question that can be compared: arrays become lists."""
    return how, *(
        [a.tolist() for a in w] if isinstance(w, list) and w and isinstance(w[0], np.ndarray) else w for w in what
    )


@dataclass
class Witness:
    """A curator whose questions and answers are written down, with what each has to cost by its own rule."""

    curator: Curator
    questions: list[Question] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    costs: list[Fraction] = field(default_factory=list)

    @property
    def schema(self) -> Schema:
        return self.curator.schema

    @property
    def unit(self) -> PrivacyUnit:
        return self.curator.unit

    def coarsen(self, coarse: Sequence[Coarse]) -> None:
        self._note(asked("coarsen", [made.groups for made in coarse], [made.column for made in coarse]), None)
        self.curator.coarsen(coarse)

    def measure(self, columns: Columns, mechanism: DiscreteGaussian) -> Measurement:
        self.costs.append(Fraction(self.unit.l2_squared) / (2 * mechanism.sigma_squared))
        return self._note(asked("measure", columns, mechanism), self.curator.measure(columns, mechanism))

    def select(
        self,
        candidates: Sequence[Columns],
        expected: Iterable[Any],
        mechanism: NoisyMax,
        *,
        picks: int = 1,
        forest: bool = False,
        penalties: npt.NDArray[np.int64] | None = None,
        nothing: int | None = None,
    ) -> list[int]:
        guesses = list(expected)
        self.costs.append(picks * Fraction(2 * self.unit.l1) ** 2 / (8 * mechanism.scale**2))
        off = None if penalties is None else penalties.tolist()
        found = self.curator.select(
            candidates, guesses, mechanism, picks=picks, forest=forest, penalties=penalties, nothing=nothing
        )
        return self._note(asked("select", list(candidates), guesses, mechanism, picks, forest, off, nothing), found)

    def score(
        self, candidates: Sequence[Columns], expected: Iterable[Any], mechanism: DiscreteGaussian
    ) -> npt.NDArray[np.int64]:
        guesses = list(expected)
        self.costs.append(Fraction(len(candidates) * self.unit.l1**2) / (2 * mechanism.sigma_squared))
        found = self.curator.score(candidates, guesses, mechanism)
        return self._note(asked("score", list(candidates), guesses, mechanism), found)

    def train(self, mechanism: SampledGaussian) -> WitnessTraining:
        self.costs.append(mechanism.cost(neighbours=self.unit.neighbours).rho)
        return self._note(asked("train", mechanism), WitnessTraining(self, self.curator.train(mechanism)))

    def _note(self, question: Question, answer: Any) -> Any:
        self.questions.append(question)
        self.answers.append(answer)
        return answer


@dataclass
class WitnessTraining:
    """The same for the steps of a training: a question is the network's parameters."""

    witness: Witness
    training: Any

    def noisy_sum(self, question: Gradients) -> npt.NDArray[np.float64]:
        weights = [p.detach().numpy().copy() for layer in question._layers for p in layer.parameters()]
        return self.witness._note(asked("step", weights), self.training.noisy_sum(question))


class Replay(Witness):
    """Holds no rows: gives the answers of a witness again, as long as the questions are the same, guesses and all."""

    def __init__(self, witness: Witness) -> None:
        super().__init__(mock.Mock(schema=witness.schema, unit=witness.unit))
        self._seen = list(zip(witness.questions, witness.answers, strict=True))

    def _note(self, question: Question, answer: Any) -> Any:
        before, again = self._seen[len(self.questions)]
        assert question == before
        if isinstance(again, WitnessTraining):
            again = WitnessTraining(self, mock.Mock())
        return super()._note(question, again)


def same(one: Model, other: Model) -> bool:
    """Whether two models hold the same measurements and draw the same rows."""
    if len(one.measurements) != len(other.measurements):
        return False
    measured = [
        (a.columns, a.sigma_squared, a.cost) == (b.columns, b.sigma_squared, b.cost)
        and np.array_equal(a.values, b.values)
        for a, b in zip(one.measurements, other.measurements, strict=True)
    ]
    drawn = [model.sample(300, rng=np.random.default_rng(3)).codes for model in (one, other)]
    return all(measured) and one.total == other.total and np.array_equal(*drawn)


@pytest.mark.slow
@every_synthesizer
@pytest.mark.parametrize("which", ["persons", "mixed", "two columns"])
def test_a_model_is_built_from_noisy_answers_alone(
    name: str, which: str, reserve: Reserve, open_curator: OpenCurator
) -> None:
    """Every question, guess, charge, line of progress and number of the model follows from answers that had noise."""
    schema = SCHEMAS[which]
    reservation = reserve(schema)
    witness = Witness(open_curator(make_rows(schema, 150), schema, seed=1, reservation=reservation))
    lines: list[str] = []
    model = SYNTHESIZERS[name]().fit(witness, budget=reservation.limit, progress=lines.append)  # type: ignore[arg-type]
    assert [Cost.zcdp(rho) for rho in witness.costs] == [cost for _, cost in reservation.events]
    assert [id(a) for a in witness.answers if isinstance(a, Measurement)] == [id(m) for m in model.measurements]
    replay, again = Replay(witness), list[str]()
    repeated = SYNTHESIZERS[name]().fit(replay, budget=reservation.limit, progress=again.append)  # type: ignore[arg-type]
    assert same(model, repeated)
    assert replay.questions == witness.questions
    assert lines == again != []


@pytest.mark.slow
@every_synthesizer
def test_progress_says_the_same_for_any_table(name: str, reserve: Reserve, open_curator: OpenCurator) -> None:
    schema, told = SCHEMAS["mixed"], list[list[str]]()
    for rows in (60, 3_000, 24_321):
        reservation, lines = reserve(schema, epsilon="3"), list[str]()
        curator = open_curator(make_rows(schema, rows, seed=rows), schema, seed=rows, reservation=reservation)
        SYNTHESIZERS[name]().fit(curator, budget=reservation.limit, progress=lines.append)
        told.append(lines)
    assert told[0] == told[1] == told[2]
    assert not any(character in line for line in told[0] for character in "\n\r")


@pytest.mark.slow
@every_synthesizer
@pytest.mark.parametrize("which", ["persons", "mixed"])
def test_the_order_of_rows_has_no_effect(name: str, which: str, reserve: Reserve, open_curator: OpenCurator) -> None:
    """With the same secret coins the very same model comes out, so its distribution cannot depend on the order."""
    schema, models = SCHEMAS[which], []
    frame = make_rows(schema, 150)
    for order in (np.arange(150), np.random.default_rng(5).permutation(150)):
        shuffled = frame.iloc[order].reset_index(drop=True)
        models.append(fit(name, shuffled, schema, reserve(schema), open_curator, holdout=Fraction(1, 4)))
    assert same(models[0], models[1])
    # a row less, or other coins, is another model: the comparison can fail
    fewer = fit(name, frame.iloc[:-9], schema, reserve(schema), open_curator, holdout=Fraction(1, 4))
    others = fit(name, frame, schema, reserve(schema), open_curator, holdout=Fraction(1, 4), seed=2)
    assert not same(models[0], fewer)
    assert not same(models[0], others)


@contextmanager
def without_noise() -> Iterator[None]:
    """Mechanisms that cost what they cost and add nothing; of equal scores the first wins."""

    def top(
        self: NoisyMax, scores: Any, count: int, *, rng: Rng, admits: Callable[[int], bool] = anything
    ) -> list[int]:
        return [i for i in np.argsort(-np.asarray(scores), kind="stable").tolist() if admits(i)][:count]

    with (
        mock.patch.object(DiscreteGaussian, "add_noise", lambda self, counts, *, rng: np.array(counts)),
        mock.patch.object(NoisyMax, "top", top),
    ):
        yield


@every_graphical_model
@pytest.mark.parametrize("epsilon", ["1", "100"])
def test_the_order_of_columns_has_no_effect(
    name: str, epsilon: str, make_schema: Any, make_frame: Any, open_curator: OpenCurator
) -> None:
    """Without noise, and without ties: every pair of columns has the same marginal, whatever their places are."""
    rng, sizes, rows = np.random.default_rng(8), [4, 3, 5, 2, 12], 5_000
    codes = np.zeros((rows, 5), dtype=np.int64)
    codes[:, 0] = rng.choice(4, rows, p=[0.5, 0.3, 0.15, 0.05])
    for c in range(1, 5):
        other = np.minimum(rng.geometric(0.4, rows) - 1, sizes[c] - 1)
        codes[:, c] = np.where(rng.random(rows) < 0.8 - 0.12 * c, (codes[:, c - 1] * 3 + c) % sizes[c], other)
    schema, frame, found = make_schema(sizes), make_frame(codes, columns=5), []
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1], [1, 0, 4, 3, 2]):
        moved = replace(schema, columns=tuple(schema.columns[i] for i in order))
        curator = open_curator(frame[list(moved.names)], moved, seed=1)
        with without_noise():
            model = SYNTHESIZERS[name]().fit(curator, budget=Cap.of(epsilon, "1e-6").cost)
        assert isinstance(model, GraphicalModel)
        found.append([m.counts for m in model.marginals(combinations(schema.names, 2), refits=0)])
    for one, *others in zip(*found, strict=True):
        for other in others:
            assert np.abs(one - other).sum() / 2 < 1e-6 * rows


@every_synthesizer
def test_a_curator_serves_two_fits(name: str, open_curator: OpenCurator) -> None:
    """The second pays again, and its coarse columns take the place of the first one's."""
    schema, budget = SCHEMAS["persons"], Cap.of("1", "1e-6").cost
    curator = open_curator(make_rows(schema, 150), schema, seed=1)
    spent = curator._reservation.spent
    models = [SYNTHESIZERS[name]().fit(curator, budget=budget)]
    first = sum(spent, Cost.zero())
    models.append(SYNTHESIZERS[name]().fit(curator, budget=budget))
    second = sum(spent, Cost.zero()).rho - first.rho
    for model, rho in zip(models, (first.rho, second), strict=True):
        assert_valid(model, schema)
        assert budget.rho * Fraction(99, 100) <= rho <= budget.rho
    assert not same(models[0], models[1])


@pytest.mark.slow
@every_synthesizer
def test_the_row_count_is_taken_from_noisy_counts(name: str, reserve: Reserve, open_curator: OpenCurator) -> None:
    """Over fresh noise the total scatters around the number of rows by what its noise explains, and is never exact."""
    schema = SCHEMAS["two columns"]
    frame = make_rows(schema, 400)
    models = [fit(name, frame, schema, reserve(schema), open_curator, seed=seed) for seed in range(8)]
    totals = np.array([model.total for model in models])
    precision = sum(1 / (m.values.size * float(m.sigma_squared)) for m in models[0].measurements)
    rows = len(frame)
    assert 0.2 < totals.std() * precision**0.5 < 3
    assert np.all(np.abs(totals - rows) * precision**0.5 < 6.5)  # 6.5 standard deviations: 1e-10
    assert len(set(totals.tolist())) > 4


# ---- what is learned -----------------------------------------------------------------------------------------------


def _distance(model: Model, columns: Columns, codes: npt.NDArray[np.int32]) -> float:
    """Total variation between sampled and given rows on some columns."""
    sizes = [model.schema.sizes[column] for column in columns]
    drawn = model.sample(20_000, rng=np.random.default_rng(1)).codes
    tables = []
    for rows in (drawn, codes):
        counts = np.zeros(sizes)
        np.add.at(counts, tuple(rows[:, column] for column in columns), 1)
        tables.append(counts / counts.sum())
    return float(np.abs(tables[0] - tables[1]).sum() / 2)


@pytest.fixture(scope="module")
def chain() -> npt.NDArray[np.int32]:
    """Four columns, each of which mostly repeats the one before."""
    rng = np.random.default_rng(8)
    codes = np.zeros((5_000, 4), dtype=np.int32)
    codes[:, 0] = rng.integers(0, 4, 5_000) * rng.integers(0, 2, 5_000)
    for column in range(1, 4):
        repeat = rng.random(5_000) < 0.85
        codes[:, column] = np.where(repeat, codes[:, column - 1], rng.integers(0, 4, 5_000))
    return codes


@pytest.mark.slow
@every_synthesizer
def test_single_columns_are_learned(
    name: str,
    chain: npt.NDArray[np.int32],
    make_schema: Any,
    make_frame: Any,
    reserve: Reserve,
    open_curator: OpenCurator,
) -> None:
    schema = make_schema([4, 4, 4, 4])
    model = fit(name, make_frame(chain, columns=4), schema, reserve(schema), open_curator)
    for column in range(4):
        assert _distance(model, (column,), chain) < 0.02
    vague = fit(name, make_frame(chain[:5], columns=4), schema, reserve(schema, epsilon="0.02"), open_curator)
    assert max(_distance(vague, (column,), chain) for column in range(4)) > 0.02


def test_mst_learns_the_pairs_that_matter_and_independent_does_not(
    chain: npt.NDArray[np.int32], make_schema: Any, make_frame: Any, reserve: Reserve, open_curator: OpenCurator
) -> None:
    schema = make_schema([4, 4, 4, 4])
    frame = make_frame(chain, columns=4)
    mst = fit("mst", frame, schema, reserve(schema), open_curator)
    assert isinstance(mst, GraphicalModel)
    assert sorted(mst.tree.cliques) == [(0, 1), (1, 2), (2, 3)]  # another tree scores lower by over 1,000 rows
    independent = fit("independent", frame, schema, reserve(schema), open_curator)
    for pair in combinations(range(4), 2):
        assert _distance(mst, pair, chain) < 0.04
        assert _distance(independent, pair, chain) > 0.15


@pytest.mark.parametrize("name", ["mst", "wide"])
@pytest.mark.parametrize("backwards", [False, True])
def test_whatever_is_picked_a_spanning_tree_comes_out(
    name: str, backwards: bool, make_schema: Any, make_frame: Any, open_curator: OpenCurator
) -> None:
    schema, calls = make_schema([2, 3, 2, 2, 2]), []

    def top(self: NoisyMax, scores: Any, count: int, *, rng: Rng, admits: Callable[[int], bool]) -> list[int]:
        calls.append((len(scores), count))
        order = range(len(scores))[:: -1 if backwards else 1]
        chosen = [index for index in order if admits(index)][:count]
        calls.append(chosen)
        return chosen

    rows = [(n % 2, n % 3, n % 2, n // 7 % 2, n // 5 % 2) for n in range(3_000)]
    curator = open_curator(make_frame(rows, columns=5), schema, seed=1)
    with mock.patch.object(NoisyMax, "top", top):
        model = SYNTHESIZERS[name]().fit(curator, budget=Cap.of(1, "1e-6").cost)
    assert calls[0] == (10, 4)
    pairs = [list(combinations(range(5), 2))[index] for index in calls[1]]
    reached = {0}
    for _ in pairs:
        reached |= {column for pair in pairs if reached & set(pair) for column in pair}
    assert reached == set(range(5))
    assert len(pairs) == 4
    measured = {m.columns for m in model.measurements if len(m.columns) == 2}
    assert measured == set(pairs) if name == "mst" else measured <= set(pairs)


# ---- the registry --------------------------------------------------------------------------------------------------


@every_synthesizer
def test_a_synthesizer_is_settings_only(name: str) -> None:
    one, other = synthesizer(name), SYNTHESIZERS[name]()
    assert one.name == name
    assert one == other
    assert hash(one) == hash(other)
    assert name in repr(one)
    with pytest.raises(FrozenInstanceError):
        one.name = "else"  # type: ignore[misc]


def test_an_unknown_name_is_a_user_s_mistake() -> None:
    with pytest.raises(UsageError, match="independent, mst") as caught:
        synthesizer("magic")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("shares", [("0", "1/10"), ("1/4", "0"), ("1/2", "1/2"), ("-1/4", "1/10"), ("1/4", "1")])
def test_shares_that_leave_a_step_without_budget_are_refused(shares: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Mst(one_way_share=Fraction(shares[0]), selection_share=Fraction(shares[1]))


@every_synthesizer
def test_a_fitted_model_comes_back_from_disk(
    name: str, reserve: Reserve, open_curator: OpenCurator, tmp_path: Path
) -> None:
    schema = SCHEMAS["persons"]
    model = fit(name, make_rows(schema, 100), schema, reserve(schema), open_curator)
    model.save(tmp_path / "model")
    assert same(model, load_model(tmp_path / "model", schema))
    for path in (tmp_path / "model").iterdir():
        assert b"private" not in path.read_bytes()
        assert b"elsewhere" not in path.read_bytes()
