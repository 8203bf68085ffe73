"""DP-SGD: what a schedule costs, by accountants that know nothing of each other, and what one person can move."""

from __future__ import annotations

import copy
import logging
import pickle
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest

from dpsynth.curator import PersonBatch, Training, clipped_sum
from dpsynth.errors import BoundToProcess, BudgetExceeded, OperationError, UsageError
from dpsynth.mechanisms import dp_sgd
from dpsynth.mechanisms.clipping import ClippedSum, Factors
from dpsynth.mechanisms.dp_sgd import SampledGaussian
from dpsynth.neural import recipe
from dpsynth.neural.ardm import Ardm, Completion
from dpsynth.neural.coins import uniform
from dpsynth.neural.gradients import Gradients, Program, sizes
from dpsynth.neural.vae import Autoencoder, Vae
from dpsynth.privacy import NANO, ORDERS, Cap, Cost, Neighbours
from dpsynth.schema import Schema

OpenCurator = Callable[..., Any]
MakeSchema = Callable[..., Schema]
FloatVector = npt.NDArray[np.float64]

SCHEDULES = [("1.1", "1/20", 300), ("5.5", "1/20", 300), ("0.8", "1/100", 1000), ("20", "1/4", 50), ("300", "1/20", 10)]
every_schedule = pytest.mark.parametrize(("noise", "rate", "steps"), SCHEDULES)


def schedule(noise: str = "2", rate: str = "1/4", steps: int = 3, **words: Any) -> SampledGaussian:
    return SampledGaussian(noise_multiplier=Fraction(noise), rate=Fraction(rate), steps=steps, **words)


# ---- what a schedule costs -----------------------------------------------------------------------------------------


@every_schedule
def test_the_curve_is_that_of_dp_accounting(noise: str, rate: str, steps: int) -> None:
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant([float(order) for order in ORDERS if order <= 100])
    step = dp_accounting.PoissonSampledDpEvent(float(Fraction(rate)), dp_accounting.GaussianDpEvent(float(noise)))
    accountant.compose(step, steps)
    curve = schedule(noise, rate, steps).cost(neighbours="add_remove").extra
    plain = [steps * float(order) / (2 * float(noise) ** 2) for order in ORDERS]
    for mine, theirs, most, order in zip(curve, accountant._rdp, plain, ORDERS, strict=False):
        theirs = min(theirs, most)
        slack = 1e-8 + steps * 2e-12 / float(order - 1)
        assert mine / NANO <= theirs * (1 + 1e-8) + slack
        assert mine / NANO >= theirs - 1e-9 or mine in curve[ORDERS.index(order) + 1 :]  # or that of a larger order


@every_schedule
def test_epsilon_is_never_below_what_opacus_says_at_the_same_orders(noise: str, rate: str, steps: int) -> None:
    """Two accountants, one number: they differ by the conversion, which is Opacus' own in both cases."""
    from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

    places = range(0, 120, 3)
    orders = [float(ORDERS[place]) for place in places]
    theirs = compute_rdp(q=float(Fraction(rate)), noise_multiplier=float(noise), steps=steps, orders=orders)
    curve = schedule(noise, rate, steps).cost(neighbours="add_remove").extra
    ours = np.array([curve[place] for place in places]) / NANO
    for delta in (1e-5, 1e-9):
        with warnings.catch_warnings(action="ignore"):  # the best order may be the last of the list: so be it
            first, _ = get_privacy_spent(orders=orders, rdp=ours, delta=delta)
            second, _ = get_privacy_spent(orders=orders, rdp=np.asarray(theirs), delta=delta)
        assert second * (1 - 1e-9) <= first * (1 + 1e-6)
        assert first <= second * (1 + 1e-4) + 1e-6


@pytest.mark.slow
@every_schedule
@pytest.mark.parametrize("neighbours", ["add_remove", "replace"])
def test_a_curve_never_falls_and_never_passes_the_cost_without_sampling(
    noise: str, rate: str, steps: int, neighbours: Neighbours
) -> None:
    mine = schedule(noise, rate, steps)
    plain = replace(mine, is_amplified=False).cost(neighbours=neighbours)
    curve = mine.cost(neighbours=neighbours)
    assert plain.is_zcdp
    assert list(curve.extra) == sorted(curve.extra)
    assert curve.fits(plain)
    assert schedule(noise, rate, steps + 1).cost(neighbours=neighbours).at(ORDERS[60]) > curve.at(ORDERS[60])
    if neighbours == "replace":
        assert mine.cost(neighbours="add_remove").fits(curve)


def test_exchanging_a_person_costs_what_the_chain_over_nobody_allows() -> None:
    """By numerical integration of the true divergence of one step, of two persons who pull opposite ways."""
    noise, rate = 2.0, 0.1
    x = np.linspace(-40, 40, 400_001)

    def density(shift: float) -> FloatVector:
        def normal(mean: float) -> FloatVector:
            return np.exp(-((x - mean) ** 2) / (2 * noise**2)) / (noise * np.sqrt(2 * np.pi))

        return (1 - rate) * normal(0) + rate * normal(shift)

    p, q = density(1.0), density(-1.0)
    curve = schedule("2", "1/10", 1).cost(neighbours="replace")
    for place in (40, 48, 60, 71):
        order = float(ORDERS[place])
        true = np.log(np.trapezoid(np.exp(order * np.log(p) + (1 - order) * np.log(q)), x)) / (order - 1)
        assert true <= curve.extra[place] / NANO


def test_privacy_loss_distributions_are_tighter_and_never_charged() -> None:
    mine = schedule("2", "1/20", 200)
    shown, charged = (
        mine.pld_epsilon(1e-6, neighbours="add_remove"),
        float(mine.cost(neighbours="add_remove").epsilon("1e-6")),
    )
    assert 0.7 * charged < shown < charged
    with pytest.raises(UsageError):
        replace(mine, is_amplified=False).pld_epsilon(1e-6, neighbours="add_remove")
    with pytest.raises(UsageError):
        mine.pld_epsilon(1e-6, neighbours="replace")


@pytest.mark.slow
@pytest.mark.parametrize("neighbours", ["add_remove", "replace"])
@pytest.mark.parametrize("epsilon", ["0.1", "1", "10"])
def test_noise_is_calibrated_before_training_to_just_keep_the_promise(epsilon: str, neighbours: Neighbours) -> None:
    cap = Cap.of(epsilon, "1e-6")
    words: dict[str, Any] = {"neighbours": neighbours, "rate": Fraction(1, 20), "steps": 100}
    mine = SampledGaussian.at_order(cap.order, cap.nano, **words)
    cost = mine.cost(neighbours=neighbours)
    assert cost.at(cap.order) <= cap.nano
    assert cost.epsilon("1e-6") <= Fraction(epsilon)
    less = replace(mine, noise_multiplier=mine.noise_multiplier * Fraction(998, 1000))
    assert less.cost(neighbours=neighbours).at(cap.order) > cap.nano
    assert SampledGaussian.within(cost.extra, **words) == mine  # the schedule follows from what was reserved
    plain = SampledGaussian.for_zcdp(cap.cost.rho, **words)
    assert plain.cost(neighbours=neighbours).fits(cap.cost)
    assert plain.noise_multiplier > mine.noise_multiplier


def test_orders_at_which_a_series_does_not_converge_are_left_out_quietly() -> None:
    """Of little noise; such an order then has the loss without sampling, which is larger."""
    told = mock.Mock(level=0)
    with mock.patch.object(logging.getLogger("absl"), "handlers", [told]):
        assert any(np.isinf(dp_sgd._sampled(Fraction(1, 4), Fraction(1, 20), [float(order) for order in ORDERS[:70]])))
        curve = schedule("1/4", "1/20", 150).cost(neighbours="add_remove").extra
    told.handle.assert_not_called()
    assert all(mine <= 150 * order * 8 * NANO for mine, order in zip(curve, ORDERS, strict=True))


def test_a_budget_that_no_noise_can_keep_is_refused() -> None:
    with pytest.raises(UsageError, match="too small"):
        SampledGaussian.at_order(ORDERS[50], 0, neighbours="add_remove", rate=Fraction(1, 20), steps=10)


@pytest.mark.parametrize(
    "wrong",
    [{"noise": "0"}, {"rate": "0"}, {"rate": "3/2"}, {"steps": 0}, {"clip": 0.0}, {"clip": float("nan")}],
    ids=str,
)
def test_a_schedule_that_means_nothing_cannot_be_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="positive"):
        schedule(**wrong)


# ---- what one person can move --------------------------------------------------------------------------------------

CELLS = (3, 2, 4)


def batch_of(codes: npt.NDArray[Any], present: npt.NDArray[np.bool_], *, seed: int = 0) -> PersonBatch:
    coins = np.random.default_rng(seed).integers(0, 2**63, len(codes)).astype(np.uint64)
    return PersonBatch(codes=codes.astype(np.int32), present=present, coins=coins)


def random_batch(persons: int, rows: int, *, seed: int = 0) -> PersonBatch:
    rng = np.random.default_rng(seed)
    present = np.arange(rows) < rng.integers(0, rows + 1, (persons, 1))
    codes = rng.integers(0, CELLS, (persons, rows, len(CELLS))) * present[..., None]
    return batch_of(codes, present, seed=seed)


PROGRAMS: dict[str, Callable[[int], Program]] = {
    "ardm": lambda looks: Completion(CELLS, np.zeros(9), hidden=5, depth=1, looks=looks),
    "vae": lambda looks: Autoencoder(CELLS, np.zeros(9), hidden=5, latent=2, looks=looks),
}
every_program = pytest.mark.parametrize("kind", PROGRAMS)


def gradients(kind: str, *, looks: int = 1, seed: int = 0, scale: float = 1.0) -> Gradients:
    out = Gradients(PROGRAMS[kind](looks), "cpu")
    out.load((scale * np.random.default_rng(seed).standard_normal(out.size)).astype(np.float32))
    return out


def one_by_one(question: Gradients, batch: PersonBatch) -> list[FloatVector]:
    """Each person's gradient by itself, by nothing but autograd: slow and obvious."""
    import torch

    out = []
    for person in range(batch.persons):
        inputs = [torch.from_numpy(a) for a in question.program.inputs(batch.part(slice(person, person + 1)))]
        loss = question.program.loss(lambda i, x: question._layers[i](x), inputs).sum()
        found = torch.autograd.grad(loss, [p for layer in question._layers for p in layer.parameters()])
        pairs = zip(found[::2], found[1::2], strict=True)
        out.append(torch.cat([torch.column_stack(pair).flatten() for pair in pairs]).numpy().astype(np.float64))
    return out


@every_program
@pytest.mark.parametrize(("rows", "looks"), [(1, 1), (3, 1), (1, 2), (4, 3)])
@pytest.mark.parametrize("clip", [0.01, 1.0, 100.0])
def test_sums_are_those_of_one_gradient_a_person(kind: str, rows: int, looks: int, clip: float) -> None:
    question, batch = gradients(kind, looks=looks), random_batch(12, rows)
    each = one_by_one(question, batch)
    norms = np.array([np.linalg.norm(g) for g in each])
    wanted = sum(g * min(1, clip / n) if n else g for g, n in zip(each, norms, strict=True))
    np.testing.assert_allclose(clipped_sum(question, batch, clip=clip), wanted, rtol=2e-3, atol=2e-3 * min(clip, 1.0))
    assert (norms == 0).any() == (batch.present.sum(axis=1) == 0).any()  # who has no rows adds nothing


@every_program
def test_many_persons_are_worked_on_in_parts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    question, batch = gradients(kind), random_batch(50, 3)
    whole = clipped_sum(question, batch, clip=1.0)
    monkeypatch.setattr("dpsynth.curator._TOGETHER", 7)
    np.testing.assert_allclose(clipped_sum(question, batch, clip=1.0), whole, atol=1e-5)
    monkeypatch.setattr("dpsynth.mechanisms.clipping._PERSONS", 1)
    np.testing.assert_allclose(clipped_sum(question, batch, clip=1.0), whole, atol=1e-5)


@every_program
@pytest.mark.parametrize(("rows", "looks"), [(1, 1), (3, 2)])
def test_who_else_is_there_changes_no_bit_of_what_a_person_contributes(kind: str, rows: int, looks: int) -> None:
    """What the door cannot enforce: float32 might treat a person otherwise in another place or a smaller batch."""
    question, batch = gradients(kind, looks=looks), random_batch(600, rows)
    whole = question.factored(batch)
    for chosen in (np.arange(1, 600), np.arange(16), np.random.default_rng(0).permutation(600)):
        some = PersonBatch(codes=batch.codes[chosen], present=batch.present[chosen], coins=batch.coins[chosen])
        for all_of_it, part in zip(whole, question.factored(some), strict=True):
            for mine, again in zip(all_of_it, part, strict=True):
                np.testing.assert_array_equal(mine[chosen], again)


@every_program
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e30])
def test_no_weights_make_a_gradient_that_is_not_finite(kind: str, scale: float) -> None:
    question = gradients(kind, scale=scale)
    assert np.isfinite(clipped_sum(question, random_batch(30, 2), clip=1.0)).all()
    assert np.linalg.norm(clipped_sum(question, random_batch(1, 2, seed=3), clip=1.0)) <= 1


@every_program
def test_what_is_drawn_about_a_person_follows_from_that_persons_coins_alone(kind: str) -> None:
    question, batch = gradients(kind, looks=2), random_batch(9, 2)
    alone = [clipped_sum(question, batch.part(slice(p, p + 1)), clip=1.0) for p in range(9)]
    np.testing.assert_allclose(clipped_sum(question, batch, clip=1.0), sum(alone), atol=1e-5)
    numbers = uniform(batch.coins, 3, 4)
    assert numbers.shape == (9, 3, 4)
    np.testing.assert_array_equal(uniform(batch.coins[4:5], 3, 4)[0], numbers[4])
    assert len(np.unique(numbers)) == numbers.size
    assert 0 < numbers.min() < numbers.max() < 1


# ---- training behind the door --------------------------------------------------------------------------------------


class Vectors:
    """Answers with one vector a person, whatever the bound is."""

    def __init__(self, make: Callable[[PersonBatch], npt.NDArray[Any]] = lambda batch: np.ones(batch.persons)) -> None:
        self.shapes, self.batches, self._make = [(1, 1)], list[PersonBatch](), make

    def factored(self, batch: PersonBatch) -> Factors:
        self.batches.append(batch)
        back = self._make(batch).astype(np.float32).reshape(-1, 1, 1)
        return [(np.zeros_like(back), back)]


def trainer(
    open_curator: OpenCurator, schema: Schema, frame: Any, mechanism: SampledGaussian, **words: Any
) -> Training:
    training: Training = open_curator(frame, schema, seed=0, **words).train(mechanism)
    return training


def test_all_steps_are_charged_before_the_first_and_no_step_comes_after_the_last(
    open_curator: OpenCurator, make_schema: MakeSchema, make_frame: Any, book: Any
) -> None:
    schema, purse = make_schema([2, 2]), book()
    mechanism = schedule()
    training = trainer(open_curator, schema, make_frame([[0, 1]] * 50, columns=2), mechanism, reservation=purse)
    assert purse.spent == [mechanism.cost(neighbours="add_remove")]
    for _ in range(3):
        training.noisy_sum(Vectors())
    with pytest.raises(BudgetExceeded):
        training.noisy_sum(Vectors())
    assert len(purse.spent) == 1


def test_an_empty_batch_is_noise_like_any_other(
    open_curator: OpenCurator, make_schema: MakeSchema, make_frame: Any
) -> None:
    question = Vectors()
    for rows, rate in (([], "1"), ([[0, 1]], "1/1000000000")):
        mechanism = schedule(rate=rate, steps=50)
        training = trainer(open_curator, make_schema([2, 2]), make_frame(rows, columns=2), mechanism)
        sums = [training.noisy_sum(question)[1] for _ in range(50)]
        assert 1 < np.std(sums) < 3
    assert question.batches == []


def test_a_training_is_neither_copied_nor_stored(
    open_curator: OpenCurator, make_schema: MakeSchema, make_frame: Any
) -> None:
    training = trainer(open_curator, make_schema([2, 2]), make_frame([[0, 1]], columns=2), schedule())
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(BoundToProcess):
            way(training)
        with pytest.raises(BoundToProcess):
            way(random_batch(2, 2))
    assert "codes" not in repr(random_batch(2, 2))


def test_persons_keep_their_rows_together(open_curator: OpenCurator, make_schema: MakeSchema, make_frame: Any) -> None:
    """Whole persons come into a batch, with all rows that are kept of them and blanks for those that they lack."""
    schema = make_schema([5, 5], max_rows=3)
    who = [0, 1, 1, 2, 2, 2, 3, 3, 3, 3]
    rows = [[person, place % 5] for place, person in enumerate(who)]

    question = Vectors()
    trainer(open_curator, schema, make_frame(rows, columns=2, who=who), schedule(rate="1")).noisy_sum(question)
    (batch,) = question.batches
    assert batch.codes.shape == (4, 3, 2)
    assert sorted(batch.present.sum(axis=1)) == [1, 2, 3, 3]
    for codes, present in zip(batch.codes, batch.present, strict=True):
        assert len(set(codes[present][:, 0])) == 1
        assert not codes[~present].any()
    assert len(set(batch.coins.tolist())) == 4


@pytest.mark.parametrize("wild", [1000.0, -1e15, 1e30, np.inf, -np.inf, np.nan])
def test_whatever_a_question_answers_a_person_counts_once(
    wild: float, open_curator: OpenCurator, make_schema: MakeSchema, make_frame: Any
) -> None:
    """Half of the persons answer with far too much, or with no number; noise is small enough to see it."""
    mechanism = schedule(noise="1/64", rate="1", steps=1)
    training = trainer(open_curator, make_schema([2, 2]), make_frame([[0, 1], [1, 1]] * 500, columns=2), mechanism)
    found = training.noisy_sum(Vectors(lambda batch: np.where(batch.codes[:, 0, 0], wild, 1.0)))
    most = np.sign(wild) if abs(wild) < 1e18 else 0
    assert found[1] == pytest.approx(500 * (1 + most), abs=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [(np.ones((2000, 1, 1), np.float32), np.ones((2000, 1, 1), np.float32))],
        [(np.ones((2, 1, 1), np.float32), np.ones((3, 1, 1), np.float32))],
        [(np.ones((2, 1, 1), np.float32), np.ones((2, 2, 1), np.float32))],
        [(np.ones((2, 1, 1), np.float32), np.ones((2, 1, 2), np.float32))],
        [(np.ones((2, 1, 1)), np.ones((2, 1, 1)))],
        [(np.ones((2, 1), np.float32), np.ones((2, 1), np.float32))],
    ],
    ids=["none", "more than one a person", "persons", "looks", "shape", "type", "no looks"],
)
def test_answers_that_are_no_factors_are_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="factors"):
        ClippedSum([(1, 1)], clip=1.0).add(wrong, persons=2)


def test_what_was_paid_for_cannot_be_replaced(
    open_curator: OpenCurator, make_schema: MakeSchema, make_frame: Any
) -> None:
    class Cheap(SampledGaussian):
        def cost(self, *, neighbours: Neighbours) -> Cost:
            return Cost.zero()

    training = trainer(open_curator, make_schema([2, 2]), make_frame([[0, 1]], columns=2), schedule())
    with pytest.raises(AttributeError):
        training.mechanism = schedule(noise="1/64")  # type: ignore[misc]
    with pytest.raises(TypeError, match="SampledGaussian"):
        trainer(
            open_curator, make_schema([2, 2]), make_frame([[0, 1]], columns=2),
            Cheap(noise_multiplier=Fraction(1), rate=Fraction(1), steps=1),
        )  # fmt: skip


# ---- plans ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("share", ["1", "9/10"])
@pytest.mark.parametrize("neighbours", ["add_remove", "replace"])
@pytest.mark.parametrize(("epsilon", "delta"), [("0.2", "1e-9"), ("1", "1e-6"), ("10", "1e-9")])
def test_a_plan_keeps_the_promise_of_the_whole_release_and_wastes_little(
    epsilon: str, delta: str, neighbours: Neighbours, share: str, make_schema: MakeSchema
) -> None:
    made, promise = Ardm(), Cap.of(epsilon, delta)
    schema = make_schema([3, 2], neighbours=neighbours)
    cost = made.cost(schema, promise=promise, share=Fraction(share))
    whole = cost + promise.cost.share(1 - Fraction(share))
    assert whole.at(promise.order) <= promise.nano
    assert whole.at(promise.order) >= promise.nano * Fraction(98, 100)
    assert whole.epsilon(delta) <= Fraction(epsilon)
    assert promise.admits(0, Fraction(0), whole)  # a ledger with that very cap takes it
    plan = made.plan(schema, cost)
    assert plan.cost(neighbours) == cost


def test_budgets_that_leave_nothing_for_a_part_are_refused(make_schema: MakeSchema) -> None:
    schema = make_schema([3, 2])
    curve = Ardm().cost(schema, promise=Cap.of(1, "1e-6"), share=Fraction(1))
    for budget in (Cost.zero(), Cost(extra=curve.extra), Cost(Fraction(1), extra=(0,) * len(ORDERS))):
        with pytest.raises(UsageError):
            Ardm().plan(schema, budget)


def test_the_rate_follows_from_declared_sizes_alone(make_schema: MakeSchema) -> None:
    schema = make_schema([3, 2])
    assert Ardm().rate_for(schema) == Fraction(1, 20)
    rates = [Ardm().rate_for(replace(schema, rows_at_most=rows)) for rows in (1_000, 10**6, 10**9)]
    assert rates == [Fraction(1, 20), Fraction(4096, 10**6), Fraction(1, 1000)]


def test_too_many_cells_are_refused(make_schema: MakeSchema) -> None:
    with pytest.raises(UsageError, match="20004 cells"):
        Vae().check(make_schema([10_002, 10_002]))


def test_a_missing_package_is_named_before_anything_is_charged(
    monkeypatch: pytest.MonkeyPatch, make_schema: MakeSchema
) -> None:
    monkeypatch.setattr(recipe.importlib.util, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(OperationError, match=r"torch: run `pip install .dpsynth\[neural\].") as caught:
        Ardm().check(make_schema([3, 2]))
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"rate": Fraction(0)}, {"clip": 0}, {"marginal_share": Fraction(1)}, {"learning_rate": 0}],
    ids=str,
)
def test_settings_are_checked_when_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"positive|at least"):
        Ardm(**wrong)


def test_devices() -> None:
    """Only the processor can be tested here: no machine of this project has an accelerator."""
    import torch

    assert recipe.device_of("cpu") == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(OperationError):
            recipe.device_of("cuda")
    with pytest.raises(UsageError):
        Ardm(device="abacus")


def test_the_device_has_no_part_in_the_cost(make_schema: MakeSchema) -> None:
    costs = [
        Ardm(device=device).cost(make_schema([3]), promise=Cap.of(1, "1e-6"), share=Fraction(1))
        for device in ("cpu", "cuda")
    ]
    assert costs[0] == costs[1]


def test_no_layer_mixes_rows() -> None:
    """Linear layers only: what `Gradients` makes is all that a program can use."""
    import torch

    for kind in PROGRAMS:
        question = gradients(kind)
        assert all(type(layer) is torch.nn.Linear for layer in question._layers)
        assert question.size == sizes(question.program.shapes)


def test_a_program_that_normalises_over_the_batch_is_caught() -> None:
    """Planted: with one person less the others' gradients change, and the sum moves by more than the bound."""

    class Normalised(Completion):
        def loss(self, layer: Any, inputs: Sequence[Any]) -> Any:
            def mixed(index: int, x: Any) -> Any:
                out = layer(index, x)
                return (out - out.mean(0)) / (out.std(0) + 1e-3)

            return super().loss(mixed, inputs)

    batch = random_batch(40, 1, seed=1)
    for program, honest in (
        (PROGRAMS["ardm"](1), True),
        (Normalised(CELLS, np.zeros(9), hidden=5, depth=1, looks=1), False),
    ):
        question = Gradients(program, "cpu")
        question.load(np.random.default_rng(0).standard_normal(question.size).astype(np.float32))
        whole = clipped_sum(question, batch, clip=0.5)
        moved = [np.linalg.norm(whole - clipped_sum(question, without(batch, p), clip=0.5)) for p in range(40)]
        assert (max(moved) <= 0.5) == honest


def without(batch: PersonBatch, person: int) -> PersonBatch:
    others = np.arange(batch.persons) != person
    return PersonBatch(codes=batch.codes[others], present=batch.present[others], coins=batch.coins[others])


def test_the_grid_of_noisy_sums_does_not_depend_on_the_sum(seeded: Any) -> None:
    mechanism = schedule(clip=3.0)
    step = mechanism.sigma * dp_sgd._GRID
    for total in (0.0, 1 / 3, 2.9999):
        noisy = mechanism.add_noise(np.full(1000, total), rng=seeded(1))
        np.testing.assert_array_equal(np.rint(noisy / step) * step, noisy)
