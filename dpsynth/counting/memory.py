"""Counting in memory: NumPy's bincount, for several marginals at once where there are many rows, and matrix products
where very many small marginals are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations
from threading import RLock

import numpy as np

from dpsynth import split
from dpsynth.coarsening import Coarse
from dpsynth.counting.base import (
    MOST_PERSONS,
    BoolVector,
    FloatVector,
    IntVector,
    PersonRecords,
    ReviewSample,
    content_of,
)
from dpsynth.mechanisms.base import Columns, IntArray
from dpsynth.reading import OpenRows, RawRows
from dpsynth.reading.cells import VALUE, Cells, spelled
from dpsynth.reading.rows import settled_values
from dpsynth.schema import Schema
from dpsynth.table import Records, Table, Values

_BLOCK = 2**15  # rows at a time: what fits a processor's cache
_JOINT_ROWS = 2**16  # from which on pairs are counted several at a time
_JOINT_CELLS = 2**14  # of what is counted then: few enough for the cache, and to sum up again
_KEPT_CELLS = 5_000_000  # 40 MB
_MANY = 1_000  # marginals beyond which a matrix product may pay
_PRODUCT_CELLS = 8_192  # of all columns together, at most: the product has their square, in float32
_SMALL = 60  # cells of a pair, on average, up to which the product is faster than bincount
_EXACT = 2**24  # rows that float32 counts exactly


class MemoryCounter:
    """Keeps the table by columns, so that each pass reads only what it counts, and what it counted while it is small.

    A selection asks for the same marginals round after round.
    """

    def __init__(self, table: Table) -> None:
        self._declared = len(table.schema.sizes)
        self._sizes = list(table.schema.sizes)
        self._rows = len(table)
        self._columns = [np.ascontiguousarray(column, dtype=np.int32) for column in table.codes.T]
        self._kept: dict[Columns, IntArray] = {}
        self._room = _KEPT_CELLS
        self._lock = RLock()

    def coarsen(self, coarse: Sequence[Coarse]) -> None:
        """Puts coarse columns after the declared ones, in place of those that were there."""
        with self._lock:
            del self._sizes[self._declared :], self._columns[self._declared :]
            self._kept = {
                columns: kept for columns, kept in self._kept.items() if max(columns, default=0) < self._declared
            }
            self._room = _KEPT_CELLS - sum(counts.size for counts in self._kept.values())
            self._sizes += [made.size for made in coarse]
            self._columns += [made.groups.astype(np.int32)[self._columns[made.column]] for made in coarse]

    def shape(self, columns: Columns) -> tuple[int, ...]:
        """The cells of each column."""
        return tuple(self._sizes[column] for column in columns)

    def count(self, columns: Columns) -> IntArray:
        with self._lock:
            if columns in self._kept:
                return self._kept[columns]
            shape = self.shape(columns)
            if math.prod(shape) >= 2**31:
                raise ValueError(f"a marginal of {math.prod(shape)} cells is too large to count in memory")
            counts = self._counted(columns)
            self._keep(columns, counts)
            return counts

    def _counted(self, columns: Columns) -> IntArray:
        """One pass over the rows."""
        shape = self.shape(columns)
        cells = np.empty(self._rows, dtype=np.int64)
        for start in range(0, self._rows, _BLOCK):
            rows = slice(start, min(self._rows, start + _BLOCK))
            cell = np.zeros(rows.stop - start, dtype=np.int32)
            for column, size in zip(columns, shape, strict=True):
                cell *= np.int32(size)
                cell += self._columns[column][rows]
            cells[rows] = cell
        return np.bincount(cells, minlength=math.prod(shape)).astype(np.int64, copy=False).reshape(shape)

    def _keep(self, columns: Columns, counts: IntArray) -> None:
        if counts.size <= self._room:
            self._room -= counts.size
            counts.flags.writeable = False
            self._kept[columns] = counts

    def _count_together(self, pairs: Sequence[Columns]) -> None:
        """Counts and keeps pairs, as many as possible in one pass: a few columns at a time, whose counts are summed."""
        for group in groups_of_pairs(pairs, self._sizes):
            counts = self._counted(group)
            for places in combinations(range(len(group)), 2):
                pair = (group[places[0]], group[places[1]])
                if pair not in self._kept:
                    self._keep(pair, counts.sum(axis=tuple(set(range(len(group))) - set(places))))

    def count_each(self, asked: Sequence[Columns]) -> Iterator[IntArray]:
        """Rows in each cell of one marginal after another."""
        columns = sorted({column for pair in asked for column in pair})
        cells = sum(self._sizes[column] for column in columns)
        small = (cells / max(1, len(columns))) ** 2 <= _SMALL and cells <= _PRODUCT_CELLS and self._rows < _EXACT
        if len(asked) <= _MANY or not small or any(len(pair) != 2 for pair in asked):
            pairs = [pair for pair in asked if len(pair) == 2 and pair[0] < pair[1] and pair not in self._kept]
            room = sum(math.prod(self.shape(pair)) for pair in pairs) <= self._room
            if self._rows >= _JOINT_ROWS and room:
                self._count_together(pairs)
            yield from map(self.count, asked)
            return
        ends = np.cumsum([self._sizes[column] for column in columns]).tolist()
        start = dict(zip(columns, [0, *ends[:-1]], strict=True))
        product = np.zeros((cells, cells), dtype=np.float32)
        for first in range(0, self._rows, _PRODUCT_CELLS):
            rows = slice(first, min(self._rows, first + _PRODUCT_CELLS))
            hot = np.zeros((rows.stop - rows.start, cells), dtype=np.float32)
            for column in columns:
                hot[np.arange(len(hot)), self._columns[column][rows] + start[column]] = 1
            product += hot.T @ hot
        for a, b in asked:
            table = product[start[a] : start[a] + self._sizes[a], start[b] : start[b] + self._sizes[b]]
            yield table.astype(np.int64)


def groups_of_pairs(pairs: Sequence[Columns], sizes: Sequence[int]) -> Iterator[Columns]:
    """Sets of columns that together hold all pairs: each starts from the largest pair that is left and takes the column
    that adds most new pairs, while its cells are not too many.
    """
    wide = np.array(sizes, dtype=np.int64)
    left = np.zeros((len(sizes), len(sizes)), dtype=bool)
    for a, b in pairs:
        left[a, b] = left[b, a] = True
    for a, b in sorted(pairs, key=lambda pair: -sizes[pair[0]] * sizes[pair[1]]):
        if not left[a, b]:
            continue
        group, cells = [a, b], sizes[a] * sizes[b]
        while True:
            new = left[:, group].sum(axis=1)
            new[(wide * cells > _JOINT_CELLS) | np.isin(range(len(sizes)), group)] = 0
            best = int(np.argmax(new))
            if new[best] < 2:  # with one new pair, the pair itself is counted as fast
                break
            group.append(best)
            cells *= sizes[best]
        left[np.ix_(group, group)] = False
        yield tuple(sorted(group))


class MemoryStore:
    """All rows as arrays in this process.

    Args:
        rows: Everything that was read.
        key: The secret key of every unit's coins.
        holdout: Chance of a unit to be held back from the fit.
    """

    def __init__(self, rows: RawRows | OpenRows, schema: Schema, *, key: bytes, holdout: Fraction) -> None:
        self._key = key
        content = _content(rows)
        ids = split.row_ids(content) if rows.unit_ids is None else rows.unit_ids
        kept = split.bounded(ids, content, max_rows=schema.unit.max_rows, key=key)
        self._ids = [unit for unit, stays in zip(ids, kept, strict=True) if stays]
        units = list(dict.fromkeys(self._ids))
        self._control = dict(zip(units, split.to_control(units, fraction=holdout, key=key).tolist(), strict=True))
        self._rows = rows.take(kept) if isinstance(rows, OpenRows) else rows.records.take(kept)
        self._max_rows = schema.unit.max_rows
        self._settled: tuple[MemoryCounter, PersonRecords, ReviewSample] | None = None

    def distinct(self, name: str) -> tuple[list[str], IntVector]:
        cells, person = self._open(name)
        is_value, texts = np.equal(cells.kinds, VALUE), max(1, len(cells.texts))
        pairs = np.unique(person[is_value] * texts + cells.values[is_value].astype(np.int64))
        units = np.bincount(pairs % texts, minlength=texts)
        order = sorted(np.flatnonzero(units).tolist(), key=cells.texts.__getitem__)
        return [cells.texts[code] for code in order], units[order].astype(np.int64)

    def histogram(self, name: str, edges: FloatVector) -> IntVector:
        cells, _ = self._open(name)
        numbers = cells.values[np.equal(cells.kinds, VALUE)]
        place = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(edges) - 2)
        return np.bincount(place, minlength=len(edges) - 1).astype(np.int64)

    def _open(self, name: str) -> tuple[Cells, IntVector]:
        """The cells of an open column on the fit side, and whose each is."""
        if not isinstance(self._rows, OpenRows) or not self._rows.schema.column(name).is_open:
            raise ValueError(f"column {name} is not open")
        fit, person = self._fit_side()
        return self._rows.cells[name].take(fit), person

    def _fit_side(self) -> tuple[BoolVector, IntVector]:
        """Which rows are on the fit side, and the unit of each of those by number."""
        number = {unit: n for n, unit in enumerate(self._control)}
        fit = np.fromiter((not self._control[unit] for unit in self._ids), bool, len(self._ids))
        person = np.fromiter((number[unit] for unit in self._ids), np.int64, len(self._ids))
        return fit, person[fit]

    def settle(self, schema: Schema) -> None:
        ids, rows = self._ids, self._rows
        if isinstance(rows, OpenRows):
            rows, keep = rows.settled(schema)
            ids = [unit for unit, stays in zip(ids, keep.tolist(), strict=True) if stays]
        everybody, units = PersonRecords.grouped(rows, ids), list(dict.fromkeys(ids))
        control = np.fromiter((self._control[unit] for unit in units), bool, len(units))
        fit = everybody.part(~control)
        sample = ReviewSample(
            fit=everybody.part(_reviewed(units, ~control, key=self._key)),
            control=everybody.part(_reviewed(units, control, key=self._key)),
        )
        self._settled = MemoryCounter(Table.encode(fit.records)), fit, sample
        self._ids, self._rows, self._control = [], Records.empty(schema), {}

    def _whole(self) -> tuple[MemoryCounter, PersonRecords, ReviewSample]:
        if self._settled is None:
            raise ValueError("the schema leaves something open: discover first")
        return self._settled

    def coarsen(self, coarse: Sequence[Coarse]) -> None:
        self._whole()[0].coarsen(coarse)

    def count(self, columns: Columns) -> IntArray:
        return self._whole()[0].count(columns)

    def count_each(self, asked: Sequence[Columns]) -> Iterator[IntArray]:
        return self._whole()[0].count_each(asked)

    def numbers(self, name: str) -> tuple[FloatVector, IntVector]:
        held = np.asarray(self._whole()[1].records.columns[name], dtype=np.float64)
        found, rows = np.unique(held[~np.isnan(held)], return_counts=True)
        return found, rows.astype(np.int64)

    def unit_sizes(self) -> IntVector:
        fit = self._whole()[1]
        sizes = np.bincount(fit.person, minlength=fit.persons)
        return np.bincount(sizes, minlength=self._max_rows + 1)[1:].astype(np.int64)

    def sample(self) -> ReviewSample:
        return self._whole()[2]

    def everybody(self) -> PersonRecords:
        return self._whole()[1]

    def close(self) -> None:
        """The rows go with the store."""


def _content(rows: RawRows | OpenRows) -> list[bytes]:
    """What decides which rows of a unit stay, and where a row is a unit to which side it goes."""
    if isinstance(rows, RawRows):
        return content_of(rows.records.columns)
    numbers: dict[str, Values] = {}
    texts: dict[str, list[bytes | None]] = {}
    for column in rows.schema.modelled:
        cells = rows.cells[column.name]
        if not column.is_open:
            numbers[column.name] = settled_values(column, cells)
        elif column.is_numeric:
            numbers[column.name] = np.where(np.equal(cells.kinds, VALUE), cells.values, np.nan)
        else:
            texts[column.name] = spelled(cells)
    return content_of(numbers, texts)


def _reviewed(units: Sequence[bytes], side: BoolVector, *, key: bytes) -> BoolVector:
    """Which of the units on a side a review looks at: all, or those with the smallest lots."""
    if side.sum() <= MOST_PERSONS:
        return side
    lots = split.review_lots(units, key=key)
    return np.asarray(side & (lots < np.partition(lots[side], MOST_PERSONS)[MOST_PERSONS]))
