"""What the recipes that train a network have in common: how the budget is shared, the steps, and the optimizer.

A small share of the budget goes to noisy counts of single columns. They give the number of rows, the network's first
guess, and what its samples are calibrated to in the end. The rest pays for a fixed schedule of steps, planned before
anything is reserved: nothing is chosen by looking at how training goes.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from dpsynth.curator import Curator, Training
from dpsynth.errors import OperationError, UsageError
from dpsynth.mechanisms.dp_sgd import SampledGaussian
from dpsynth.models.graphical import GraphicalModel
from dpsynth.models.inference import joint
from dpsynth.models.network import Layers, NetworkModel
from dpsynth.neural.gradients import Gradients, Program, unpacked
from dpsynth.privacy import Cap, Cost, Neighbours
from dpsynth.randomness import attack_generator
from dpsynth.schema import Schema
from dpsynth.synthesizers.base import Implementation, Progress, silent
from dpsynth.synthesizers.measuring import one_way

MOST_CELLS = 20_000
"""Cells of all columns together that a network is asked to learn: more would be noise, and minutes a step."""

_PACKAGES = {"torch": "torch", "opacus": "opacus", "dp_accounting": "dp-accounting"}
_BATCH = 4096  # units in a batch, about, of a table of the declared size; else it is the rate that is fixed
_SLOWEST = Fraction(1, 1000)  # rate
_MEAN, _SQUARE = 0.9, 0.99  # how much of the past each step of Adam keeps

FloatVector = npt.NDArray[np.float64]

DP_SGD = Implementation(
    noise="DP-SGD: Gaussian noise in floating point on sums of clipped gradients, rounded to a grid; exact discrete "
    "Gaussian (arXiv:2004.00010) on counts of single columns",
    selection="none: every step is fixed beforehand, and nothing is chosen on private rows",
    randomness="operating system's entropy for noise, batches and split; a public seed for the first weights alone",
    floating_point=True,
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a budget is spent.

    Args:
        rho: zCDP of the counts of single columns.
        steps: The schedule of training.
    """

    rho: Fraction
    steps: SampledGaussian

    def cost(self, neighbours: Neighbours) -> Cost:
        return Cost.zcdp(self.rho) + self.steps.cost(neighbours=neighbours)


@dataclass(frozen=True, kw_only=True)
class DpSgd:
    """Settings of a network and its training: public, fixed beforehand, and the same for every table.

    Args:
        steps, rate: Batches, and the chance of each person to be in one.
        clip: Most that one person may contribute to a step.
        learning_rate: Adam's, which falls to nothing along half a cosine.
        marginal_share: Part of the budget for counts of single columns.
        hidden: Width of the network.
        looks: How many random views of each row a step takes; they are one person's contribution, clipped together.
        seed: Of the first weights, and of nothing else.
        device: "cpu" or "cuda"; the latter has not been run here, so nobody gets it unasked. It has no part in what is
            charged.
    """

    name: str
    steps: int = 300
    rate: Fraction = Fraction(1, 20)
    clip: float = 1.0
    learning_rate: float = 0.01
    marginal_share: Fraction = Fraction(1, 4)
    hidden: int = 128
    looks: int = 1
    seed: int = 0
    device: str = "cpu"

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        if min(self.steps, self.hidden, self.looks) < 1 or not 0 < self.rate <= 1:
            raise ValueError("steps, width and looks must be at least 1, and the rate in (0, 1]")
        if not 0 < self.marginal_share < 1 or self.learning_rate <= 0 or not self.clip > 0:
            raise ValueError("the learning rate and the clipping bound must be positive, the share between 0 and 1")
        if self.device not in ("cpu", "cuda"):
            raise UsageError("the device of a network is cpu or cuda")

    @property
    def implementation(self) -> Implementation:
        return DP_SGD

    def program(self, sizes: tuple[int, ...], offsets: FloatVector) -> Program:
        """The network and its loss for columns of so many cells, with what is added to the logit of each cell."""
        raise NotImplementedError

    def first(self, shapes: list[tuple[int, int]]) -> FloatVector:
        """The first weights: layer by layer normal numbers, the last layer and every bias zero."""
        rng, out = attack_generator(self.seed), []
        for number, (into, to) in enumerate(shapes, start=1):
            weight = rng.standard_normal((to, into)) * self.spread(number, len(shapes), into)
            out.append(np.column_stack([weight, np.zeros(to)]).ravel())
        return np.concatenate(out)

    def spread(self, number: int, layers: int, into: int) -> float:
        """Standard deviation of the first weights of a layer, counted from 1."""
        return 0.0 if number == layers else 1 / math.sqrt(into)

    def kept(self, layers: Layers) -> Layers:
        """The layers that rows are drawn with."""
        return layers

    def check(self, schema: Schema) -> None:
        """Refuses a table with too many cells, and a computer on which the extra `neural` is not installed."""
        require_packages()
        if sum(schema.sizes) > MOST_CELLS:
            raise UsageError(
                f"the columns have {sum(schema.sizes)} cells, more than the {MOST_CELLS} that {self.name} can learn: "
                "use fewer or wider bins, or another synthesizer"
            )

    def cost(self, schema: Schema, *, promise: Cap, share: Fraction) -> Cost:
        """A zCDP cost for the counts and a Renyi curve for the steps, which with the rest just keep the promise."""
        require_packages()
        rho = promise.cost.rho * share * self.marginal_share
        rest = Cost.zcdp(promise.cost.rho * (1 - share) + rho)
        nano = promise.nano - rest.at(promise.order)
        neighbours = schema.unit.neighbours
        steps = SampledGaussian.at_order(
            promise.order, nano, neighbours=neighbours, rate=self.rate_for(schema), steps=self.steps, clip=self.clip
        )
        return Plan(rho=rho, steps=steps).cost(neighbours)

    def rate_for(self, schema: Schema) -> Fraction:
        """The chance of each person to be in a batch: smaller for a table that is declared to be large."""
        if schema.rows_at_most is None:
            return self.rate
        return max(_SLOWEST, min(self.rate, Fraction(_BATCH, schema.rows_at_most)))

    def plan(self, schema: Schema, budget: Cost) -> Plan:
        """How `budget` is spent: by the Renyi curve in it, or, if it is zCDP alone, without counting on the batches.

        Raises:
            UsageError: nothing would be left for the counts, or for the steps.
        """
        neighbours, rate = schema.unit.neighbours, self.rate_for(schema)
        if budget.is_zcdp and budget.rho > 0:
            rho = budget.rho * self.marginal_share
            steps = SampledGaussian.for_zcdp(
                budget.rho - rho, neighbours=neighbours, rate=rate, steps=self.steps, clip=self.clip
            )
            return Plan(rho=rho, steps=steps)
        if budget.rho == 0:
            raise UsageError(f"{self.name} needs a budget with a zCDP part, for the counts of single columns")
        steps = SampledGaussian.within(budget.extra, neighbours=neighbours, rate=rate, steps=self.steps, clip=self.clip)
        return Plan(rho=budget.rho, steps=steps)

    def fit(self, curator: Curator, *, budget: Cost, progress: Progress = silent) -> NetworkModel:
        """Counts single columns, then trains on Poisson batches of persons."""
        schema = curator.schema
        self.check(schema)
        plan = self.plan(schema, budget)
        progress("one-way marginals")
        measurements = one_way(curator, rho=plan.rho)
        simple = GraphicalModel.fitted(schema, measurements, groups=[])
        shares = _shares(simple)
        offsets = np.concatenate([np.log(share + 0.1 / simple.total) for share in shares])
        program = self.program(schema.sizes, offsets)
        weights = self._trained(curator.train(plan.steps), program, progress)
        layers = tuple(
            (weight.copy(), bias.copy()) for weight, bias in unpacked(weights.astype(np.float32), program.shapes)
        )
        progress("calibration")
        return NetworkModel(
            schema=schema,
            measurements=tuple(measurements),
            total=simple.total,
            kind=self.kind,
            layers=self.kept(layers),
            offsets=offsets.astype(np.float32),
        ).calibrated(shares)

    def _trained(self, training: Training, program: Program, progress: Progress) -> FloatVector:
        """The average of the last weights that Adam went through (Kingma and Ba 2015), on noisy sums alone."""
        question = Gradients(program, device_of(self.device))
        weights = self.first(list(program.shapes))
        mean, square, average = np.zeros_like(weights), np.zeros_like(weights), weights.copy()
        told = max(1, self.steps // 10)
        for step in range(1, self.steps + 1):
            if step % told == 1 or told == 1:
                progress(f"training step {step} of {self.steps}")
            question.load(weights.astype(np.float32))
            gradient = training.noisy_sum(question)
            mean = _MEAN * mean + (1 - _MEAN) * gradient
            square = _SQUARE * square + (1 - _SQUARE) * gradient**2
            rate = self.learning_rate * (1 + math.cos(math.pi * step / self.steps)) / 2
            size = np.sqrt(square / (1 - _SQUARE**step)) + 1e-12
            weights = weights - rate * (mean / (1 - _MEAN**step)) / size
            keep = min(0.98, (1 + step) / (10 + step))
            average = keep * average + (1 - keep) * weights
        return average


def _shares(model: GraphicalModel) -> list[FloatVector]:
    """The share of rows in each cell of each column, as noisy counts of single columns and the constraints have it."""
    cells = model.probabilities()
    return [joint(model.tree, cells, (column,)).ravel() for column in range(len(model.schema.sizes))]


def one_hot_starts(sizes: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Where the cells of each column begin, counted over all columns."""
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)


def device_of(name: str) -> str:
    """Where to train: the device of that name, if it is there.

    Raises:
        OperationError: that device is not there.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise OperationError("torch finds no CUDA device here: choose the device cpu")
    return name


def require_packages() -> None:
    """Refuses to go on without the extra `neural`, before anything is charged.

    Raises:
        OperationError: a package is missing.
    """
    missing = [package for module, package in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise OperationError(f'networks need {", ".join(missing)}: run `pip install "dpsynth[neural]"`')
