"""Sums of clipped gradients in whole numbers: one person moves a sum by the bound at most, whatever else is in it.

In floating point each addition is rounded, and how depends on all that was added before: a person's absence changes what
is left of everybody else. Here each person's gradient is clipped, put on a fixed grid and added up in integers, so that
the sum is exact and the same in every order.

Gradients come as factors and are never written down: that of a linear layer is the sum over looks of the outer products
of what came back and what went in, a one for the bias included. On the grid both are whole numbers, and so are their
products.

Why the bound holds. Let a be what went in, brought to length 1 and rounded to multiples of 2^-11, and b what came back
times that length, over the bound. The squared norm of the sum of b a^T follows from inner products; `_slack` times the
square of the sum of |b| |a| is added, which is more than float32 gets wrong in it and in b, so that no norm is found too
small. Where b is so small that its products underflow, and the square may even come out below zero, it counts as one: such a
b is far below a step, and rounds to zero. Each b, scaled to the room that there is, is rounded to multiples of 2^-19, by at most half a step times the root
of its size. Times |a| that is what rounding can add to the norm, and the room is smaller by as much.

Why the sum is exact. Products are multiples of 2^-30 of the bound. Since the slack keeps the sum of |b| |a| of a person
below 2^10, those of 2^13 persons add up in float64 without rounding; and those of fewer than 2^33 persons, more than
there are, in int64.

Source: Higham, Accuracy and stability of numerical algorithms, second edition, Section 3.1: what an inner product of n
terms gets wrong in any order is at most n units of rounding of the product of the lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FloatVector = npt.NDArray[np.float64]
Factors: TypeAlias = "Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]"
"""Of each layer what went in, shape (persons, looks, inputs), and what came back, shape (persons, looks, outputs)."""

_INTO, _BACK = 2.0**11, 2.0**19  # steps in the length of what went in, and in the bound
_PERSONS = 2**8  # in one product: few enough to stay in a processor's cache


class ClippedSum:
    """Adds up one gradient a person, clipped to the L2 norm `clip`; one whose square float32 cannot hold counts as zero.

    Args:
        shapes: Inputs and outputs of each layer.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], *, clip: float) -> None:
        self._clip = clip
        self._totals = [np.zeros((out, into + 1), dtype=np.int64) for into, out in shapes]

    def add(self, factors: Factors, *, persons: int) -> None:
        """Adds the gradients of so many persons.

        Raises:
            TypeError: these are not float32 factors of each layer, one gradient a person.
        """
        if (
            any(each.ndim != 3 or each.dtype != np.float32 for pair in factors for each in pair)
            or any(len(into) != persons or back.shape[:2] != into.shape[:2] for into, back in factors)
            or [(back.shape[2], into.shape[2] + 1) for into, back in factors] != [each.shape for each in self._totals]
        ):
            raise TypeError("a question must return float32 factors of each of its layers, one gradient a person")
        for start in range(0, persons, _PERSONS):
            part = [(into[start : start + _PERSONS], back[start : start + _PERSONS]) for into, back in factors]
            for total, (a, b) in zip(self._totals, _whole(part, self._clip), strict=True):
                total += (b.reshape(-1, len(total)).T @ a.reshape(-1, total.shape[1])).astype(np.int64)

    def value(self) -> FloatVector:
        """The sum, layer by layer: for each output its weights and its bias; in float64, which is exact below 2^53 steps."""
        flat = np.concatenate([total.ravel() for total in self._totals])
        return flat * (self._clip / (_INTO * _BACK))


def _whole(factors: Factors, clip: float) -> Iterator[tuple[FloatVector, FloatVector]]:
    """The factors of clipped gradients, as whole numbers of steps."""
    persons = len(factors[0][0])
    squares, spills, found = np.zeros(persons), np.zeros(persons), []
    with np.errstate(all="ignore"):  # what is too large leaves its person's square undefined
        for into, back in factors:
            length = np.sqrt(np.einsum("pli,pli->pl", into, into) + np.float32(1))
            a = np.empty((*into.shape[:2], into.shape[2] + 1), dtype=np.float32)
            np.multiply(into, (_INTO / length)[..., None], out=a[..., :-1])
            a[..., -1] = _INTO / length
            np.rint(a, out=a)
            b = back * (length / np.float32(clip))[..., None]
            inner_a, inner_b = _inner(a) / _INTO**2, _inner(b)
            size_a, size_b = (np.sqrt(np.einsum("pll->pl", inner)) for inner in (inner_a, inner_b))
            slack = _slack(back.shape[2]) * (size_a * size_b).sum(axis=1) ** 2
            squares += (inner_a * inner_b).sum(axis=(1, 2)) + slack
            spills += (size_a * (size_b > 0)).sum(axis=1) * np.sqrt(back.shape[2]) / 2
            found.append((a, b))
        scale = np.maximum(_BACK - spills, 0.0) / np.sqrt(np.maximum(squares, 1.0))
    lost = ~(np.isfinite(squares) & np.isfinite(scale))
    for a, b in found:
        a[lost] = b[lost] = scale[lost] = 0.0
        b *= scale[:, None, None].astype(np.float32)
        yield a.astype(np.float64), np.rint(b).astype(np.float64)


def _inner(rows: npt.NDArray[np.float32]) -> FloatVector:
    """Inner products of each person's rows, taken in float32."""
    few = rows.shape[1] < 8
    found = np.einsum("pli,pmi->plm", rows, rows) if few else rows @ rows.transpose(0, 2, 1)
    return found.astype(np.float64)


def _slack(outputs: int) -> float:
    """Twice what float32 gets wrong in a squared norm, at most, as a part of the squared sum of lengths."""
    return (outputs + 8) * 2.0**-23
