"""The only file that makes random generators.

Two kinds, never mixed:

- `SystemRng` draws the coins that privacy rests on: noise, and who is kept or goes to which side. Every bit comes
  straight from the operating system; there is no state, no seed and no buffer that a fork could duplicate.
- `sampling_generator` and `attack_generator` make NumPy generators for work that needs no secrecy: drawing synthetic
  rows from a model that is already private, and the attacks' own coins.
"""

from __future__ import annotations

import os
from typing import Any, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from dpsynth.errors import BoundToProcess

UInt64Vector = npt.NDArray[np.uint64]


class Rng(Protocol):
    """A source of independent, uniform 64-bit words."""

    def words(self, count: int) -> UInt64Vector:
        """`count` uniform integers in [0, 2**64)."""
        ...


class Private:
    """Refuses to be copied or pickled, and to be used in a process other than the one that made it."""

    _process: int

    def __init__(self) -> None:
        self._process = os.getpid()

    def _here(self) -> None:
        if os.getpid() != self._process:
            raise BoundToProcess(f"{type(self).__name__} belongs to the process that made it: make a new one here")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise BoundToProcess(f"{type(self).__name__} cannot be copied or pickled")

    def __copy__(self) -> NoReturn:
        self.__reduce_ex__(2)

    def __deepcopy__(self, memo: Any) -> NoReturn:
        self.__reduce_ex__(2)


class SystemRng(Private):
    """Words from the operating system's cryptographic generator (getrandom on Linux). Thread-safe: it has no state."""

    def words(self, count: int) -> UInt64Vector:
        self._here()
        return np.frombuffer(os.urandom(8 * count), dtype=np.uint64)

    def key(self) -> bytes:
        """A fresh 32-byte key."""
        self._here()
        return os.urandom(32)


def sampling_generator() -> np.random.Generator:
    """A generator for post-processing, started from the system's entropy; its seed is neither logged nor kept."""
    return np.random.default_rng(int.from_bytes(os.urandom(32), "big"))


def attack_generator(*seed: int) -> np.random.Generator:
    """A reproducible generator for attacks, which may be published with its seed."""
    return np.random.default_rng(list(seed))
