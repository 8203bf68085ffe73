"""An order-agnostic autoregressive network: it learns to complete rows of which a random part is covered.

Each look at a row covers a random set of its columns, and the network says which cells it expects there. Rows are drawn
column by column, each given those before it, in any order.

Source: Hoogeboom et al., Autoregressive diffusion models, ICLR 2022, arXiv:2110.02037, Section 3; Uria, Murray and
Larochelle, A deep and tractable density estimator, ICML 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from dpsynth.curator import PersonBatch
from dpsynth.neural.coins import uniform
from dpsynth.neural.gradients import Layer, Program
from dpsynth.neural.recipe import DpSgd, FloatVector, one_hot_starts

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Ardm(DpSgd):
    """Learns every column given every set of others.

    Args:
        depth: Hidden layers after the first, at most 3: with more a gradient of bounded weights could overflow.
    """

    name: str = "ardm"
    steps: int = 150
    learning_rate: float = 0.02
    looks: int = 2
    depth: int = 0
    kind: ClassVar[str] = "ardm"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.depth <= 3:
            raise ValueError("depth must be at least 0 and at most 3")

    def program(self, sizes: tuple[int, ...], offsets: FloatVector) -> Program:
        return Completion(sizes, offsets, hidden=self.hidden, depth=self.depth, looks=self.looks)


class Completion:
    """Hidden layers from the known cells to logits of all cells; the mean surprise at the covered columns.

    Args:
        sizes: Cells of each column.
        offsets: What is added to the logit of each cell: the network begins with independent columns.
    """

    def __init__(self, sizes: tuple[int, ...], offsets: FloatVector, *, hidden: int, depth: int, looks: int) -> None:
        self._sizes, self._offsets, self._looks = sizes, offsets.astype(np.float32), looks
        self._starts = one_hot_starts(sizes)
        cells = sum(sizes)
        self.shapes = [(cells + len(sizes), hidden), *[(hidden, hidden)] * depth, (hidden, cells)]
        self._depth = depth

    def inputs(self, batch: PersonBatch) -> tuple[npt.NDArray[Any], ...]:
        """Codes, which columns are known, and the weight of each look; shapes (persons, looks, columns), last (.., looks).

        The number of known columns is uniform in 0 .. columns - 1, and given that the set of them is.
        """
        _persons, rows, columns = batch.codes.shape
        draws = uniform(batch.coins, rows * self._looks, columns + 1)
        count = (draws[..., :1] * columns).astype(np.int64)
        heights = draws[..., 1:]
        known = heights < np.take_along_axis(np.sort(heights, axis=-1), count, axis=-1)
        codes = np.repeat(batch.codes, self._looks, axis=1).astype(np.int64)
        weight = np.repeat(batch.present, self._looks, axis=1).astype(np.float32) / self._looks
        return codes, known, weight

    def loss(self, layer: Layer, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        codes, known, weight = inputs
        cells, device = sum(self._sizes), codes.device
        x = torch.zeros(*codes.shape[:2], cells + len(self._sizes), device=device)
        x.scatter_(2, codes + torch.from_numpy(self._starts).to(device), known.float())
        x[..., cells:] = known.float()
        hidden = torch.relu(layer(0, x))
        for number in range(1, self._depth + 1):
            hidden = hidden + torch.relu(layer(number, hidden))
        logits = layer(self._depth + 1, hidden).float() + torch.from_numpy(self._offsets).to(device)
        covered = (~known).float()
        return (surprise(logits, codes, self._sizes) * covered).sum(-1) / covered.sum(-1) * weight


def surprise(logits: torch.Tensor, codes: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """The negative logarithm of the probability of each column's cell; shape (persons, looks, columns)."""
    import torch

    return torch.stack(
        [
            torch.logsumexp(part, dim=-1) - part.gather(-1, codes[..., column : column + 1]).squeeze(-1)
            for column, part in enumerate(torch.split(logits, list(sizes), dim=-1))
        ],
        dim=-1,
    )
