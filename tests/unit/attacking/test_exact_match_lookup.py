"""Looking up whole rows by some of their bits first."""

from __future__ import annotations

import numpy as np
import pytest

from attacks.exact_match import _by_chance, _identifying, _Marks


@pytest.mark.parametrize("bits", [3, 12, 64])
@pytest.mark.parametrize("rows", [0, 1, 500])
def test_words_are_found_as_if_each_were_compared(rows: int, bits: int) -> None:
    rng = np.random.default_rng(bits)
    table, ours = (rng.integers(2**bits, size=size, dtype=np.uint64) for size in (rows, 400))
    ours[:20] = table[:20] if rows > 20 else 0
    marks = _Marks.of(len(table))
    for _ in range(2):  # it is as clean afterwards as before
        assert marks.found(ours, table).tolist() == np.flatnonzero(np.isin(ours, table)).tolist()
        assert not marks.seen.any()


def test_a_word_that_two_persons_have_identifies_nobody() -> None:
    words, person = np.array([5, 5, 6, 6, 7], dtype=np.uint64), np.array([0, 0, 1, 2, 3])
    assert _identifying(words, person).tolist() == [True, True, False, False, True]
    assert len(_identifying(words[:0], person[:0])) == 0


@pytest.mark.parametrize(
    ("fit", "fitted", "control", "held", "chance"),
    [
        (4500, 20, 500, 1, False),  # one is too few to say how often chance does it
        (4500, 20, 500, 0, False),
        (900, 90, 100, 10, True),
        (900, 200, 100, 10, False),  # and here it does it far less often
        (500, 0, 500, 30, True),
    ],
)
def test_copies_are_put_down_to_chance_only_where_it_is_seen_to_copy(
    fit: int, fitted: int, control: int, held: int, chance: bool
) -> None:
    assert _by_chance(np.arange(fit) < fitted, np.arange(control) < held) is chance
