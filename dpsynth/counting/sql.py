"""Counting by SQL, for engines that hold rows as `dpsynth.counting.layout` has them: DuckDB and Spark run the same text.

One statement, and so one pass over the rows, answers many marginals. Columns are joined to sets that together hold all
that is asked (`groups_of_pairs`); each set's cells are numbered, the numbers of different sets do not overlap, and GROUPING
SETS counts them all. NumPy sums each marginal out of its set. What was counted is kept, because a selection asks for the
same marginals round after round; a single coarse column is summed from the declared one.

A statement names columns and whole numbers only: no value, no key.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import combinations
from threading import RLock

import numpy as np
import pyarrow as pa

from dpsynth.coarsening import Coarse
from dpsynth.counting.base import (
    MOST_PERSONS,
    FloatVector,
    IntVector,
    PersonRecords,
    ReviewSample,
)
from dpsynth.counting.layout import Layout
from dpsynth.counting.memory import groups_of_pairs
from dpsynth.mechanisms.base import Columns, IntArray
from dpsynth.schema import Schema

_KEPT_CELLS = 2**24  # 128 MB
_AT_ONCE = 2**24  # cells that are asked for together, at most, unless a marginal alone has more
_SETS = 100  # of columns that a statement counts
_JOINT_CELLS = 2**14  # of columns that are joined to one set


class SqlStore(ABC):
    """Everything that a store answers, by SQL on rows that are bounded and have a side.

    Args:
        layout: How the rows are kept.
        table: What they are called in SQL.
    """

    def __init__(self, layout: Layout, *, table: str) -> None:
        self._layout, self._table = layout, table
        self._lock = RLock()
        self._sample: ReviewSample | None = None
        self._coarse: list[Coarse] = []
        self._sizes: list[int] = []
        self._complete_yet = False
        self._kept: dict[Columns, IntArray] = {}
        self._room = _KEPT_CELLS
        self.passes = 0
        """How often the rows were gone through to count them."""

    @abstractmethod
    def _arrow(self, sql: str) -> pa.Table:
        """The answer to a statement about the table of rows.

        Raises:
            OperationError: the engine failed; the text says no more than that.
        """

    @abstractmethod
    def _complete(self, schema: Schema) -> None:
        """Rewrites the rows in the layout of a completed schema."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the rows and of whatever holds them; may be called twice."""

    # ---- before the schema is complete -----------------------------------------------------------------------------

    def distinct(self, name: str) -> tuple[list[str], IntVector]:
        place, persons = self._open(name), "count(DISTINCT who)" if self._layout.by_unit else "count(*)"
        found = self._arrow(
            f"SELECT t{place} AS said, {persons} AS n FROM {self._table} "
            f"WHERE NOT control AND t{place} IS NOT NULL AND octet_length(t{place}) > 0 GROUP BY t{place}"
        )
        said = [text.decode() for text in found.column("said").to_pylist()]
        order = sorted(range(len(said)), key=said.__getitem__)
        return [said[n] for n in order], np.array(found.column("n").to_pylist(), dtype=np.int64)[order]

    def histogram(self, name: str, edges: FloatVector) -> IntVector:
        place = self._open(name)
        cuts = [f"CAST('{edge!r}' AS DOUBLE)" for edge in np.asarray(edges, np.float64).tolist()]
        return self._counted(
            f"SELECT {_tree(f'v{place}', cuts[1:-1], list(range(len(cuts) - 1)))} AS cell, count(*) AS n FROM {self._table} "
            f"WHERE NOT control AND v{place} IS NOT NULL GROUP BY 1",
            len(cuts) - 1,
        )

    def _open(self, name: str) -> int:
        place = self._layout.schema.index(name)
        if self._complete_yet or not self._layout.schema.modelled[place].is_open:
            raise ValueError(f"column {name} is not open")
        return place

    def settle(self, schema: Schema) -> None:
        if self._layout.schema.is_open:
            self._complete(schema)
            self._layout = self._layout.after(schema)
        self._sizes, self._complete_yet = list(schema.sizes), True

    # ---- counting --------------------------------------------------------------------------------------------------

    def coarsen(self, coarse: Sequence[Coarse]) -> None:
        with self._lock:
            declared = self._declared
            self._coarse = list(coarse)
            self._sizes[declared:] = [made.size for made in coarse]
            self._kept = {columns: counts for columns, counts in self._kept.items() if columns[-1] < declared}
            self._room = _KEPT_CELLS - sum(counts.size for counts in self._kept.values())

    @property
    def _declared(self) -> int:
        return len(self._layout.schema.modelled)

    def count(self, columns: Columns) -> IntArray:
        return next(self.count_each([columns]))

    def count_each(self, asked: Sequence[Columns]) -> Iterator[IntArray]:
        self._require_complete()
        for together in _batches(asked, self._sizes):
            if (cells := math.prod(self._sizes[c] for c in together[0])) >= 2**31:
                raise ValueError(f"a marginal of {cells} cells is too large to count")
            with self._lock:
                found = self._answers({tuple(sorted(columns)) for columns in together})
            for columns in together:
                yield found[tuple(sorted(columns))].transpose(np.argsort(np.argsort(columns)))

    def _answers(self, wanted: set[Columns]) -> dict[Columns, IntArray]:
        """Marginals with their columns in order: kept ones, and the others in as few passes as their number needs."""
        out = {columns: self._kept[columns] for columns in wanted if columns in self._kept}
        lacking = wanted - out.keys()
        if any(len(columns) < 2 for columns in lacking):  # all single columns in one pass, whichever is asked for
            singles: set[Columns] = {(c,) for c in range(self._declared) if (c,) not in self._kept}
            out |= self._summed(singles | {columns for columns in lacking if len(columns) > 1})
            singles_of = {(c,): self._kept[c,] if (c,) in self._kept else out[c,] for c in range(self._declared)}
            for place, made in enumerate(self._coarse, start=self._declared):
                counts = np.zeros(made.size, dtype=np.int64)
                np.add.at(counts, made.groups, singles_of[made.column,])
                out[place,] = counts
            out[()] = np.array(singles_of[0,].sum())
        elif lacking:
            out |= self._summed(lacking)
        for columns, counts in out.items():
            if columns and columns not in self._kept and counts.size <= self._room:
                self._room -= counts.size
                counts.flags.writeable = False
                self._kept[columns] = counts
        return out

    def _summed(self, wanted: set[Columns]) -> dict[Columns, IntArray]:
        """Marginals, each summed out of a set of columns that holds it."""
        sets = _sets(wanted, self._sizes)
        out: dict[Columns, IntArray] = {}
        for first in range(0, len(sets), _SETS):
            part = sets[first : first + _SETS]
            cells = [math.prod(self._sizes[c] for c in columns) for columns in part]
            counts = self._counted(self._statement(part, cells), sum(cells))
            self.passes += 1
            for columns, held in zip(part, np.split(counts, np.cumsum(cells)[:-1]), strict=True):
                table = held.reshape([self._sizes[c] for c in columns])
                for inside in (columns, *combinations(columns, 2), *combinations(columns, 1)):
                    if inside in wanted and inside not in out:
                        others = tuple(place for place, c in enumerate(columns) if c not in inside)
                        out[inside] = np.array(table.sum(axis=others))
        return out

    def _statement(self, sets: Sequence[Columns], cells: Sequence[int]) -> str:
        """One pass that counts all cells of all sets, which are numbered through."""
        starts = np.cumsum([0, *cells[:-1]]).tolist()
        used = sorted({c for columns in sets for c in columns})
        named = ", ".join(f"{self._code(c)} AS x{c}" for c in used)
        numbered = []
        for n, (columns, start) in enumerate(zip(sets, starts, strict=True)):
            number = f"CAST(x{columns[0]} AS BIGINT)"
            for c in columns[1:]:
                number = f"({number} * {self._sizes[c]} + x{c})"
            numbered.append(f"{start} + {number} AS g{n}")
        names = [f"g{n}" for n in range(len(sets))]
        found = ", ".join(names)
        return (
            f"SELECT coalesce({found}) AS cell, count(*) AS n FROM ("
            f"SELECT {', '.join(numbered)} FROM (SELECT {named} FROM {self._table} WHERE NOT control) AS a) AS b "
            f"GROUP BY GROUPING SETS ({', '.join(f'({name})' for name in names)})"
        )

    def _code(self, column: int) -> str:
        """A declared column's cell, or a coarse one's: the coarse cell of each run of cells, found by halving."""
        if column < self._declared:
            return f"c{column}"
        made = self._coarse[column - self._declared]
        first = np.flatnonzero(np.diff(made.groups, prepend=-1)).tolist()
        return _tree(f"c{made.column}", [str(cell) for cell in first[1:]], made.groups[first].tolist())

    def _counted(self, sql: str, cells: int) -> IntVector:
        """The `n` of each `cell`; shape (cells,)."""
        found = self._arrow(sql)
        counts = np.zeros(cells, dtype=np.int64)
        counts[np.asarray(found.column("cell"))] = np.asarray(found.column("n"))
        return counts

    # ---- rows ------------------------------------------------------------------------------------------------------

    def _require_complete(self) -> None:
        if not self._complete_yet:
            raise ValueError("the schema leaves something open: discover first")

    def numbers(self, name: str) -> tuple[FloatVector, IntVector]:
        self._require_complete()
        kept, value_of = self._layout.number(name)
        found = self._arrow(
            f"SELECT {kept} AS said, count(*) AS n FROM {self._table} WHERE NOT control AND {kept} IS NOT NULL GROUP BY {kept}"
        )
        said = np.array(found.column("said").to_pylist(), dtype=np.float64)
        numbers = said if value_of is None else value_of[said.astype(np.int64)]
        order = np.argsort(numbers)
        order = order[~np.isnan(numbers[order])]
        return numbers[order], np.array(found.column("n").to_pylist(), dtype=np.int64)[order]

    def unit_sizes(self) -> IntVector:
        self._require_complete()
        most = self._layout.schema.unit.max_rows
        if not self._layout.by_unit:
            return np.array([self.count(()).item()], dtype=np.int64)
        by_unit = f"SELECT count(*) AS cell FROM {self._table} WHERE NOT control GROUP BY who"
        return self._counted(f"SELECT cell, count(*) AS n FROM ({by_unit}) AS a GROUP BY cell", most + 1)[1:]

    def sample(self) -> ReviewSample:
        self._require_complete()
        with self._lock:
            if self._sample is None:
                self._sample = ReviewSample(fit=self._reviewed("NOT control"), control=self._reviewed("control"))
            return self._sample

    def _reviewed(self, side: str) -> PersonRecords:
        """The units of a side with the smallest lots."""
        lots = f"SELECT {'DISTINCT' if self._layout.by_unit else ''} lot FROM {self._table} WHERE {side}"
        beyond = self._arrow(f"SELECT lot FROM ({lots}) AS a ORDER BY lot LIMIT {MOST_PERSONS + 1}")
        lots = beyond.column("lot").to_pylist()
        return self._rows(side if len(lots) <= MOST_PERSONS else f"{side} AND lot < {lots[-1]}")

    def everybody(self) -> PersonRecords:
        self._require_complete()
        return self._rows("NOT control")

    def _rows(self, where: str) -> PersonRecords:
        names = [*self._layout.values, *(["who"] if self._layout.by_unit else [])]
        return self._layout.persons(self._arrow(f"SELECT {', '.join(names)} FROM {self._table} WHERE {where}"))


def _batches(asked: Sequence[Columns], sizes: Sequence[int]) -> Iterator[list[Columns]]:
    """What is asked for, in order, as many at once as may lie in memory together."""
    together: list[Columns] = []
    cells = 0
    for columns in asked:
        more = math.prod(sizes[c] for c in columns)
        if together and cells + more > _AT_ONCE:
            yield together
            together, cells = [], 0
        together.append(columns)
        cells += more
    if together:
        yield together


def _sets(wanted: set[Columns], sizes: Sequence[int]) -> list[Columns]:
    """Sets of columns that together hold all marginals: single columns are joined, and so are pairs; others stay."""
    sets = [columns for columns in sorted(wanted) if len(columns) > 2]
    sets += groups_of_pairs([columns for columns in sorted(wanted) if len(columns) == 2], sizes)
    held = {c for columns in sets for c in columns}
    joined: list[int] = []
    for (c,) in sorted(columns for columns in wanted if len(columns) == 1 and columns[0] not in held):
        if joined and math.prod(sizes[other] for other in [*joined, c]) > _JOINT_CELLS:
            sets.append(tuple(joined))
            joined = []
        joined.append(c)
    return [*sets, *([tuple(joined)] if joined else [])]


def _tree(of: str, cuts: Sequence[str], values: Sequence[int]) -> str:
    """The value of the interval between two cuts in which something lies, by halving: both engines are slow at tables."""
    if not cuts:
        return str(values[0])
    middle = len(cuts) // 2
    below = _tree(of, cuts[:middle], values[: middle + 1])
    beyond = _tree(of, cuts[middle + 1 :], values[middle + 1 :])
    return f"CASE WHEN {of} < {cuts[middle]} THEN {below} ELSE {beyond} END"
