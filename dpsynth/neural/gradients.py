"""Gradients: what one person contributes to a step of training, and how that is made fast.

A network here is made of linear layers alone, so a person's gradient never has to be written down: it follows from what
went into each layer and what came back out of it, and so do its norm and the sum over persons, which
`mechanisms.clipping` makes ("ghost clipping"). No layer mixes rows, so there is no batch normalisation to forbid.

Sources: Goodfellow, arXiv:1510.01799; Li et al., arXiv:2110.05679; Bu et al., arXiv:2210.00038.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from dpsynth.curator import PersonBatch
from dpsynth.mechanisms.clipping import Factors

if TYPE_CHECKING:
    import torch

FloatVector = npt.NDArray[np.float32]
Layer: TypeAlias = "Callable[[int, torch.Tensor], torch.Tensor]"

_LARGEST = 100.0  # of a parameter: no input can then make a gradient overflow, so none is ever infinite or undefined


class Program(Protocol):
    """A network and its loss. Both treat each row by itself."""

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        """Inputs and outputs of each linear layer."""
        ...

    def inputs(self, batch: PersonBatch) -> tuple[npt.NDArray[Any], ...]:
        """What the loss needs to know, made from each person's own rows and coins; shapes (persons, looks, ...)."""
        ...

    def loss(self, layer: Layer, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """The loss of each look at a row, zero where there is no row; shape (persons, looks).

        Args:
            layer: Applies the linear layer of that number.
        """
        ...


def sizes(shapes: Sequence[tuple[int, int]]) -> int:
    """How many parameters the layers have together."""
    return sum((into + 1) * out for into, out in shapes)


def unpacked(flat: FloatVector, shapes: Sequence[tuple[int, int]]) -> list[tuple[FloatVector, FloatVector]]:
    """The weight, shape (outputs, inputs), and the bias of each layer, as views of one vector.

    A layer is one matrix there, whose last column is the bias.
    """
    out, start = [], 0
    for into, to in shapes:
        end = start + (into + 1) * to
        matrix = flat[start:end].reshape(to, into + 1)
        out.append((matrix[:, :-1], matrix[:, -1]))
        start = end
    return out


class Gradients:
    """Gradients of one program, a vector a person for all rows of that person; satisfies `curator.PersonGradients`.

    Args:
        device: "cpu" or "cuda".
    """

    def __init__(self, program: Program, device: str) -> None:
        import torch

        self.program = program
        self.shapes = program.shapes
        self.size = sizes(program.shapes)
        self._device = torch.device(device)
        self._layers = [torch.nn.Linear(into, out, device=device) for into, out in program.shapes]

    def load(self, parameters: FloatVector) -> None:
        """Sets the parameters of the network: public numbers."""
        import torch

        bounded = np.clip(parameters, -_LARGEST, _LARGEST)
        with torch.no_grad():
            for layer, (weight, bias) in zip(self._layers, unpacked(bounded, self.program.shapes), strict=True):
                layer.weight.copy_(torch.from_numpy(weight))
                layer.bias.copy_(torch.from_numpy(bias))

    def factored(self, batch: PersonBatch) -> Factors:
        """What went into each layer, and the derivative of the loss by what came out."""
        return [(x.cpu().numpy(), g.cpu().numpy()) for x, g in self._passed(batch)]

    def _passed(self, batch: PersonBatch) -> list[tuple[torch.Tensor, torch.Tensor]]:
        import torch

        inputs = [torch.from_numpy(array).to(self._device) for array in self.program.inputs(batch)]
        into: list[torch.Tensor] = []
        out: list[torch.Tensor] = []

        def layer(index: int, x: torch.Tensor) -> torch.Tensor:
            into.append(x)
            out.append(self._layers[index](x))
            return out[-1]

        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self._device.type == "cuda"):
            loss = self.program.loss(layer, inputs).sum()
        back = torch.autograd.grad(loss, out)
        return [(x.detach().float(), g.float()) for x, g in zip(into, back, strict=True)]
