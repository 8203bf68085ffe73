"""Who is kept and who goes to which side: coins of each person's own, which nobody else's rows can move."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dpsynth import split
from dpsynth.split import bounded, occurrences, row_ids, to_control

FALSE_ALARM = 1e-9  # of each statistical check on a fresh key; the keys here are fixed

Row = tuple[bytes, bytes]
"""Whose a row is, and what it says."""

people = st.sampled_from([b"", b"a", b"b", b"c", b"ab", b"\xff\x00", b"zoe"])
contents = st.sampled_from([b"", b"x", b"y", b"z", b"xy", b"\x00" * 8])
tables = st.lists(st.tuples(people, contents), max_size=24)
keys = st.binary(min_size=32, max_size=32)
sizes = st.integers(1, 4)


def kept_rows(rows: Sequence[Row], *, max_rows: int, key: bytes) -> dict[bytes, Counter[bytes]]:
    """What stays of each person: contents, and how often."""
    keep = bounded([who for who, _ in rows], [content for _, content in rows], max_rows=max_rows, key=key)
    assert (keep.shape, keep.dtype) == ((len(rows),), np.bool_)
    kept: dict[bytes, Counter[bytes]] = defaultdict(Counter)
    for (who, content), stays in zip(rows, keep, strict=True):
        kept[who][content] += int(stays)
    return kept


@given(tables, sizes, keys)
@settings(max_examples=40)
def test_everybody_keeps_as_many_rows_as_allowed_and_no_more(rows: list[Row], max_rows: int, key: bytes) -> None:
    kept = kept_rows(rows, max_rows=max_rows, key=key)
    for who, count in Counter(who for who, _ in rows).items():
        assert kept[who].total() == min(count, max_rows)


@given(tables, sizes, keys, people)
@settings(max_examples=40)
def test_when_a_person_goes_everybody_else_s_rows_stay(rows: list[Row], max_rows: int, key: bytes, gone: bytes) -> None:
    before = kept_rows(rows, max_rows=max_rows, key=key)
    after = kept_rows([row for row in rows if row[0] != gone], max_rows=max_rows, key=key)
    assert after == {who: kept for who, kept in before.items() if who != gone}


@given(tables, sizes, keys, people, st.lists(contents, max_size=6))
@settings(max_examples=40)
def test_when_a_person_s_rows_are_replaced_everybody_else_s_stay(
    rows: list[Row], max_rows: int, key: bytes, who: bytes, others: list[bytes]
) -> None:
    before = kept_rows(rows, max_rows=max_rows, key=key)
    replaced = [row for row in rows if row[0] != who] + [(who, content) for content in others]
    after = kept_rows(replaced, max_rows=max_rows, key=key)
    assert {w: k for w, k in after.items() if w != who} == {w: k for w, k in before.items() if w != who}


@given(tables, sizes, keys, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_the_order_of_rows_changes_nothing(rows: list[Row], max_rows: int, key: bytes, random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert kept_rows(rows, max_rows=max_rows, key=key) == kept_rows(shuffled, max_rows=max_rows, key=key)


def _by_position(ids: Sequence[bytes], content: Sequence[bytes], *, max_rows: int, key: bytes) -> np.ndarray:
    """The fault of many a program: the first rows of each person, which depends on the order of the file."""
    seen: Counter[bytes] = Counter()
    keep = []
    for who in ids:
        seen[who] += 1
        keep.append(seen[who] <= max_rows)
    return np.array(keep, dtype=bool)


def _of_one_stream(ids: Sequence[bytes], content: Sequence[bytes], *, max_rows: int, key: bytes) -> np.ndarray:
    """Another: one stream of coins for all, so that one person's removal moves everybody after."""
    order = np.random.default_rng(list(key)).permutation(len(ids))
    keep = np.zeros(len(ids), dtype=bool)
    keep[order] = _by_position([ids[i] for i in order], content, max_rows=max_rows, key=key)
    return keep


def _assert_only_own_rows_matter(rows: Sequence[Row], key: bytes) -> None:
    whole = kept_rows(rows, max_rows=2, key=key)
    assert kept_rows(rows[::-1], max_rows=2, key=key) == whole
    without = kept_rows([row for row in rows if row[0] != b"a"], max_rows=2, key=key)
    assert without == {who: kept for who, kept in whole.items() if who != b"a"}


@pytest.mark.parametrize("fault", [_by_position, _of_one_stream])
def test_a_selection_by_position_or_from_one_stream_is_noticed(
    fault: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [(who, content) for content in (b"x", b"y", b"z", b"") for who in (b"a", b"b", b"c", b"ab")]
    _assert_only_own_rows_matter(rows, b"k" * 32)
    monkeypatch.setitem(globals(), "bounded", fault)
    with pytest.raises(AssertionError):
        _assert_only_own_rows_matter(rows, b"k" * 32)


@given(st.lists(contents, min_size=1, max_size=12), keys, sizes)
@settings(max_examples=40)
def test_a_limit_raised_by_one_keeps_what_was_kept(content: list[bytes], key: bytes, max_rows: int) -> None:
    fewer = bounded([b"a"] * len(content), content, max_rows=max_rows, key=key)
    more = bounded([b"a"] * len(content), content, max_rows=max_rows + 1, key=key)
    assert not np.any(fewer & ~more)


def test_every_row_of_a_person_has_the_same_chance_whatever_it_says() -> None:
    """3 of 7 rows, two of them alike: binomial over 4,000 keys."""
    content = [b"x", b"x", b"", b"y", b"\xff" * 40, b"z", b"zz"]
    keep = np.array([bounded([b"a"] * 7, content, max_rows=3, key=n.to_bytes(32, "big")) for n in range(4_000)])
    for column in keep.T:
        assert stats.binomtest(int(column.sum()), len(keep), 3 / 7).pvalue > FALSE_ALARM
    assert stats.binomtest(int(keep[:, 0].sum()), len(keep), 1 / 2).pvalue < FALSE_ALARM


def test_the_coins_of_two_persons_with_equal_rows_are_independent() -> None:
    content = [b"x", b"y"] * 2
    keep = np.array(
        [bounded([b"a"] * 2 + [b"b"] * 2, content, max_rows=1, key=n.to_bytes(32, "big")) for n in range(4_000)]
    )
    same = int((keep[:, 0] == keep[:, 2]).sum())
    assert stats.binomtest(same, len(keep), 0.5).pvalue > FALSE_ALARM


# ---- sides ---------------------------------------------------------------------------------------------------------

some_ids = st.lists(people, unique=True, max_size=7)
shares = st.fractions(0, 1).filter(lambda share: share < 1)


@given(some_ids, shares, keys)
@settings(max_examples=40)
def test_a_person_s_side_depends_on_nobody_else(ids: list[bytes], fraction: Fraction, key: bytes) -> None:
    sides = to_control(ids, fraction=fraction, key=key)
    assert (sides.shape, sides.dtype) == ((len(ids),), np.bool_)
    for who, side in zip(ids, sides, strict=True):
        assert to_control([who], fraction=fraction, key=key).tolist() == [side]
    assert np.array_equal(to_control(ids[::-1], fraction=fraction, key=key), sides[::-1])


@given(some_ids, shares, shares, keys)
@settings(max_examples=40)
def test_a_larger_fraction_holds_back_more(ids: list[bytes], one: Fraction, other: Fraction, key: bytes) -> None:
    small, large = sorted((one, other))
    assert not np.any(to_control(ids, fraction=small, key=key) & ~to_control(ids, fraction=large, key=key))
    assert not np.any(to_control(ids, fraction=Fraction(0), key=key))


@pytest.mark.parametrize("fraction", ["1/10", "2/5", "1/2", "999/1000"])
def test_sides_are_independent_coins_of_the_stated_probability(fraction: str) -> None:
    ids = [n.to_bytes(4, "big") for n in range(20_000)]
    sides = to_control(ids, fraction=Fraction(fraction), key=b"k" * 32)
    chance = float(Fraction(fraction))
    assert stats.binomtest(int(sides.sum()), len(ids), chance).pvalue > FALSE_ALARM
    both = int((sides[::2] & sides[1::2]).sum())  # neighbours by number: an exact share would make them rarer
    assert stats.binomtest(both, len(ids) // 2, chance**2).pvalue > FALSE_ALARM
    assert stats.binomtest(int(sides.sum()), len(ids), min(0.9999, chance * 0.9)).pvalue < FALSE_ALARM or chance < 0.2
    other = to_control(ids, fraction=Fraction(fraction), key=b"l" * 32)
    agree = chance**2 + (1 - chance) ** 2
    assert stats.binomtest(int((sides == other).sum()), len(ids), agree).pvalue > FALSE_ALARM  # another key: new coins


def test_the_side_says_nothing_about_which_rows_are_kept() -> None:
    ids, content = [n.to_bytes(4, "big") for n in range(4_000)], [b"x", b"y"]
    keep = bounded([who for who in ids for _ in content], content * len(ids), max_rows=1, key=b"k" * 32)[::2]
    sides = to_control(ids, fraction=Fraction(1, 2), key=b"k" * 32)
    assert stats.binomtest(int((keep == sides).sum()), len(ids), 0.5).pvalue > FALSE_ALARM


# ---- rows that are their own unit ----------------------------------------------------------------------------------


@given(st.lists(contents, max_size=20))
@settings(max_examples=40)
def test_rows_get_ids_of_their_own_which_the_order_of_rows_does_not_change(content: list[bytes]) -> None:
    ids = row_ids(content)
    assert len(set(ids)) == len(content)
    assert sorted(row_ids(content[::-1])) == sorted(ids)


@given(st.lists(st.sampled_from([b"x" * 8, b"y" * 8, b"z" * 8]), min_size=1, max_size=20), st.data())
@settings(max_examples=40)
def test_a_row_less_is_an_id_less(content: list[bytes], data: st.DataObject) -> None:
    """As a set, whichever of several equal rows goes; so nobody else's side moves."""
    gone = data.draw(st.integers(0, len(content) - 1))
    rest = content[:gone] + content[gone + 1 :]
    assert set(row_ids(rest)) < set(row_ids(content))
    assert len(set(row_ids(content)) - set(row_ids(rest))) == 1


@given(st.lists(contents, max_size=20))
@settings(max_examples=40)
def test_occurrences_count_equal_items_before(content: list[bytes]) -> None:
    assert occurrences(content) == [content[:i].count(item) for i, item in enumerate(content)]


@pytest.mark.parametrize(
    ("one", "other"), [((b"a", b"bx"), (b"ab", b"x")), ((b"", b"ab"), (b"ab", b"")), ((b"a",), (b"a", b""))]
)
def test_parts_that_join_to_the_same_bytes_have_different_coins(one: Sequence[bytes], other: Sequence[bytes]) -> None:
    """Or one person's row would decide about another's."""
    row, side = (split._started(b"k" * 32, purpose) for purpose in (b"row", b"side"))
    assert split._finished(row.copy(), *one) != split._finished(row.copy(), *other)
    assert split._finished(row.copy(), *one) != split._finished(side.copy(), *one)
