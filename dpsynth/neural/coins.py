"""A person's 64 secret bits, stretched to as many random numbers as a program draws about that person."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dpsynth.randomness import UInt64Vector


def uniform(coins: UInt64Vector, *shape: int) -> npt.NDArray[np.float64]:
    """Numbers in (0, 1) that follow from each person's coins alone; shape (persons, *shape).

    SplitMix64 (Steele, Lea and Flood, 2014). What privacy needs is that persons' numbers have nothing to do with one
    another, and their coins have not; how one person's numbers hang together decides how well a network learns, no more.
    """
    count = math.prod(shape)
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64
        words = coins[:, None] + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        words ^= words >> np.uint64(31)
    numbers: npt.NDArray[np.float64] = ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return numbers.reshape(len(coins), *shape)
