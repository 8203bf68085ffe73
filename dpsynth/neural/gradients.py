"""Clipped gradients: what one person may contribute to a step of training, and how that is made fast.

A network here is made of linear layers alone, so a person's gradient never has to be written down: its norm follows from
what went into each layer and what came back out of it ("ghost clipping"), and the sum over persons of the clipped
gradients is one matrix product a layer. No layer mixes rows, so there is no batch normalisation to forbid.

Sources: Goodfellow, arXiv:1510.01799; Li et al., arXiv:2110.05679; Bu et al., arXiv:2210.00038. The norms are Opacus'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from dpsynth.curator import PersonBatch

if TYPE_CHECKING:
    import torch

FloatVector = npt.NDArray[np.float32]
Layer: TypeAlias = "Callable[[int, torch.Tensor], torch.Tensor]"

_MARGIN = 1e-3  # of the clipping bound: far above what float32 gets wrong in a norm
_ROWS = 8192  # that are worked on at once: a few hundred megabytes at most
_CANCELLED = 1e-5  # of the square of a sum of norms: far above what float32 loses when its terms cancel
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
    return sum(into * out + out for into, out in shapes)


def unpacked(flat: FloatVector, shapes: Sequence[tuple[int, int]]) -> list[tuple[FloatVector, FloatVector]]:
    """The weight, shape (outputs, inputs), and the bias of each layer, as views of one vector."""
    out, start = [], 0
    for into, to in shapes:
        middle, end = start + into * to, start + into * to + to
        out.append((flat[start:middle].reshape(to, into), flat[middle:end]))
        start = end
    return out


class ClippedGradients:
    """Sums of clipped gradients of one program; satisfies `curator.PersonGradients`.

    Args:
        device: "cpu" or "cuda".
    """

    def __init__(self, program: Program, device: str) -> None:
        import torch

        self.program = program
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

    def clipped_sum(self, batch: PersonBatch, *, clip: float) -> npt.NDArray[np.float64]:
        """The sum over persons of one gradient each, of its rows together, scaled down to the norm `clip`."""
        total = np.zeros(self.size)
        step = max(1, _ROWS // max(1, batch.codes.shape[1]))
        for start in range(0, batch.persons, step):
            total += self._sum(batch.part(slice(start, start + step)), clip)
        return total

    def _sum(self, batch: PersonBatch, clip: float) -> npt.NDArray[np.float64]:
        import torch

        into, back = self._passed(batch)
        squares = self._squares(into, back)
        lost = ~torch.isfinite(squares)  # no weights within bounds lead here; whoever would be there, counts as nothing
        if bool(lost.any()):
            into, back = [_without(x, lost) for x in into], [_without(g, lost) for g in back]
            squares = torch.where(lost, torch.zeros_like(squares), squares)
        scale = clip * (1 - _MARGIN) / torch.clamp(squares.sqrt(), min=clip)
        parts = []
        for x, g in zip(into, back, strict=True):
            scaled = (g * scale.reshape(-1, *[1] * (g.dim() - 1))).flatten(0, -2)
            parts += [(scaled.T @ x.flatten(0, -2)).flatten(), scaled.sum(0)]
        found: npt.NDArray[np.float64] = torch.cat(parts).cpu().numpy().astype(np.float64)
        return found

    def norms(self, batch: PersonBatch) -> npt.NDArray[np.float64]:
        """The norm of each person's gradient before it is clipped: private, for tests."""
        found: npt.NDArray[np.float64] = self._squares(*self._passed(batch)).sqrt().cpu().numpy().astype(np.float64)
        return found

    def _passed(self, batch: PersonBatch) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """What went into each layer, and the derivative of the summed loss by what came out."""
        import torch

        inputs = [torch.from_numpy(array).to(self._device) for array in self.program.inputs(batch)]
        into: list[torch.Tensor] = []
        out: list[torch.Tensor] = []

        def layer(index: int, x: torch.Tensor) -> torch.Tensor:
            x = x.squeeze(1) if x.dim() == 3 and x.shape[1] == 1 else x
            into.append(x)
            out.append(self._layers[index](x))
            return out[-1].unsqueeze(1) if x.dim() == 2 else out[-1]

        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self._device.type == "cuda"):
            loss = self.program.loss(layer, inputs).sum()
        back = torch.autograd.grad(loss, out)
        return [x.detach().float() for x in into], [g.float() for g in back]

    def _squares(self, into: Sequence[torch.Tensor], back: Sequence[torch.Tensor]) -> torch.Tensor:
        """The squared norm of each person's gradient."""
        from opacus.grad_sample.linear import compute_linear_norm_sample

        norms = [
            norm
            for layer, x, g in zip(self._layers, into, back, strict=True)
            for norm in compute_linear_norm_sample(layer, [x], g).values()
        ]
        total: torch.Tensor = sum((norm.square() for norm in norms[1:]), start=norms[0].square())
        for x, g in zip(into, back, strict=True):
            if x.dim() == 3:  # terms of one person can cancel, and float32 then forgets what is left
                total = total + _CANCELLED * (g.norm(dim=-1) * (x.square().sum(-1) + 1).sqrt()).sum(1).square()
        return total


def _without(tensor: torch.Tensor, lost: torch.Tensor) -> torch.Tensor:
    """Zeros for some of the persons, whatever stood there."""
    mask = lost.reshape(-1, *[1] * (tensor.dim() - 1))
    return tensor.masked_fill(mask, 0.0)
