"""A variational autoencoder: rows are drawn from a few Gaussian numbers, by a decoder that learned to rebuild rows.

Only the decoder is kept. Encoder and decoder are trained together, on the same clipped gradients.

Source: Kingma and Welling, Auto-encoding variational Bayes, ICLR 2014, arXiv:1312.6114.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from dpsynth.curator import PersonBatch
from dpsynth.models.network import Layers
from dpsynth.neural.ardm import surprise
from dpsynth.neural.coins import uniform
from dpsynth.neural.gradients import Layer, Program
from dpsynth.neural.recipe import DpSgd, FloatVector, one_hot_starts

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Vae(DpSgd):
    """Learns a few hidden numbers behind each row.

    Args:
        latent: How many.
    """

    name: str = "vae"
    latent: int = 16
    kind: ClassVar[str] = "vae"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latent < 1:
            raise ValueError("a decoder needs at least one hidden number")

    def program(self, sizes: tuple[int, ...], offsets: FloatVector) -> Program:
        return Autoencoder(sizes, offsets, hidden=self.hidden, latent=self.latent, looks=self.looks)

    def spread(self, number: int, layers: int, into: int) -> float:
        """None of it zero: a decoder that begins without an opinion never asks its encoder for one."""
        return 1 / math.sqrt(into)

    def kept(self, layers: Layers) -> Layers:
        return layers[2:]


class Autoencoder:
    """One hidden layer on each side; how badly a row is rebuilt, and how far its code lies from Gaussian noise."""

    def __init__(self, sizes: tuple[int, ...], offsets: FloatVector, *, hidden: int, latent: int, looks: int) -> None:
        self._sizes, self._offsets = sizes, offsets.astype(np.float32)
        self._latent, self._looks = latent, looks
        self._starts = one_hot_starts(sizes)
        cells = sum(sizes)
        self.shapes = [(cells, hidden), (hidden, 2 * latent), (latent, hidden), (hidden, cells)]

    def inputs(self, batch: PersonBatch) -> tuple[npt.NDArray[Any], ...]:
        """Codes, Gaussian numbers, and the weight of each look; shapes (persons, looks, ...)."""
        from scipy.special import ndtri

        noise = ndtri(uniform(batch.coins, batch.codes.shape[1] * self._looks, self._latent)).astype(np.float32)
        codes = np.repeat(batch.codes, self._looks, axis=1).astype(np.int64)
        weight = np.repeat(batch.present, self._looks, axis=1).astype(np.float32) / self._looks
        return codes, noise, weight

    def loss(self, layer: Layer, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        codes, noise, weight = inputs
        x = torch.zeros(*codes.shape[:2], sum(self._sizes), device=codes.device)
        x.scatter_(2, codes + torch.from_numpy(self._starts).to(codes.device), 1.0)
        told = layer(1, torch.relu(layer(0, x))).float()
        mean, spread = told[..., : self._latent], told[..., self._latent :].clamp(-6.0, 3.0)
        code = mean + torch.exp(spread / 2) * noise
        logits = layer(3, torch.relu(layer(2, code))).float()
        logits = logits + torch.from_numpy(self._offsets).to(codes.device)
        rebuilt = surprise(logits, codes, self._sizes).sum(-1)
        apart = (torch.exp(spread) + mean.square() - 1 - spread).sum(-1) / 2
        return (rebuilt + apart) / len(self._sizes) * weight
