"""Which rows of a person are kept, and whether a person goes to the fit or to the control side.

Both are decided by a keyed hash of the person (and of the row's own content), never by position: removing one person
leaves everyone else's rows and side as they were. The key is fresh for every release, secret, and forgotten with it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

BoolVector = npt.NDArray[np.bool_]
IntVector = npt.NDArray[np.int64]


def bounded(ids: Sequence[bytes], content: Sequence[bytes], *, max_rows: int, key: bytes) -> BoolVector:
    """Which rows stay when no unit may have more than `max_rows`; shape (rows,).

    A unit keeps the rows with the smallest keyed hashes. Rows of one unit with the same content are told apart by
    their occurrence number, which says nothing about position because they are interchangeable.
    """
    rows_of: dict[bytes, list[int]] = {unit: [] for unit, rows in Counter(ids).items() if rows > max_rows}
    for row, unit in enumerate(ids):
        if unit in rows_of:
            rows_of[unit].append(row)
    keep = np.ones(len(ids), dtype=bool)
    for unit, rows in rows_of.items():
        said = [content[row] for row in rows]
        lots = row_lots([unit] * len(rows), said, occurrences(said), key=key)
        order = sorted(range(len(rows)), key=lots.__getitem__)
        keep[[rows[i] for i in order[max_rows:]]] = False
    return keep


def row_lots(ids: Sequence[bytes], content: Sequence[bytes], numbers: Sequence[int], *, key: bytes) -> list[bytes]:
    """What decides which rows a unit keeps: 16 bytes a row, the smallest first.

    Args:
        numbers: The occurrence number of each row among those of its unit with the same content.
    """
    start = _started(key, b"row")
    return [
        _finished(start.copy(), unit, said, number.to_bytes(8, "big"))
        for unit, said, number in zip(ids, content, numbers, strict=True)
    ]


def review_lots(ids: Sequence[bytes], *, key: bytes) -> IntVector:
    """What decides which units a review of a large table looks at: a number a unit, the smallest first; shape (units,)."""
    start = _started(key, b"review")
    return np.frombuffer(b"".join(_finished(start.copy(), unit)[:8] for unit in ids), dtype=">i8").astype(np.int64)


def to_control(ids: Sequence[bytes], *, fraction: Fraction, key: bytes) -> BoolVector:
    """An independent coin for each unit, true with probability `fraction`; shape (units,)."""
    threshold = int(fraction * 2**64)
    if threshold == 0:
        return np.zeros(len(ids), dtype=bool)
    below, start = threshold.to_bytes(8, "big"), _started(key, b"side")
    return np.array([_finished(start.copy(), unit)[:8] < below for unit in ids], dtype=bool)


def row_ids(content: Sequence[bytes]) -> list[bytes]:
    """Ids for rows that are units of their own: content and occurrence number."""
    return [c + n.to_bytes(8, "big") for c, n in zip(content, occurrences(content), strict=True)]


def occurrences(content: Sequence[bytes]) -> list[int]:
    """For each item, how many equal ones stand before it."""

    def count() -> Iterator[int]:
        seen: dict[bytes, int] = {}
        for item in content:
            seen[item] = seen.get(item, -1) + 1
            yield seen[item]

    return list(count())


def _started(key: bytes, purpose: bytes) -> hashlib.blake2b:
    """A keyed hash of nothing yet; copies of it are cheaper than new ones."""
    return hashlib.blake2b(key=key, person=purpose, digest_size=16)


def _finished(digest: hashlib.blake2b, *parts: bytes) -> bytes:
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
