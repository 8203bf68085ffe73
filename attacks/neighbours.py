"""Neighbouring tables made from a schema alone, on which one person changes as much as a person can.

No private row is touched: class P0. What a synthesizer made of these tables is no release and must never become one.

Sources: tables on which a target stands alone in a cell of every marginal, see Annamalai, Ganev, De Cristofaro, USENIX
Security 2024, arXiv:2405.10994. The tables and the code are our own.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from attacks.allowed import Allowed
from dpsynth import Schema, Table, attack_generator

if TYPE_CHECKING:
    import pandas as pd

Codes = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, repr=False)
class Pair:
    """Two neighbouring tables, made from a schema alone: class P0.

    Args:
        name: What the pair is meant to expose.
        schema: What they are tables of.
        bulk: Rows that both tables have, one person each; shape (rows, columns).
        target: The row of the planted person; shape (columns,).
        other: Under "replace", the row of the person in its place; None under "add_remove".
        copies: How many rows the person has in the file. Of these at most `max_rows` may count.
    """

    name: str
    schema: Schema
    bulk: Codes
    target: Codes
    other: Codes | None
    copies: int

    @cached_property
    def present(self) -> pd.DataFrame:
        """The table with the planted person, as a data file holds it."""
        return self._frame(self.target)

    @cached_property
    def absent(self) -> pd.DataFrame:
        """The table without."""
        return self._frame(self.other)

    @property
    def counted(self) -> int:
        """How many rows of the person may count."""
        return min(self.copies, self.schema.unit.max_rows)

    def is_present(self, frame: pd.DataFrame) -> bool:
        """Whether a table is the one with the planted person, its rows in whatever order."""
        return _content(frame) == self._present_content

    @cached_property
    def _present_content(self) -> int:
        return _content(self.present)

    def _frame(self, person: Codes | None) -> pd.DataFrame:
        """The person stands last. The others' rows are made first and alone, so that both tables have the same ones."""
        parts = [self.bulk] if person is None else [self.bulk, np.tile(person, (self.copies, 1))]
        owners = [*range(len(self.bulk)), *[len(self.bulk)] * (0 if person is None else self.copies)]
        return frame_of(self.schema, parts, owners)

    def shift(self, columns: Sequence[int], made: Sequence[MadeColumn] = ()) -> list[Move]:
        """Where the counts over `columns` differ between the two tables.

        Args:
            columns: As a measurement names them; beyond the schema's columns come those that a recipe made of others.
            made: These, in order.
        """
        places = list(columns)
        bulk, target = (with_made(codes, made)[:, places] for codes in (self.bulk, self.target[None]))
        moved = Counter({tuple(target[0].tolist()): self.counted})
        if self.other is not None:
            moved[tuple(with_made(self.other[None], made)[0, places].tolist())] -= self.counted
        moves = []
        for cell, by in moved.items():
            if by:
                base = int(np.all(bulk == np.array(cell), axis=1).sum())
                base += self.counted if by < 0 else 0  # the other person, who stands there in the table without
                moves.append(Move(cell=cell, by=by, mean=base + by / 2))
        return moves

    def shift_of_sizes(self) -> list[Move]:
        """Where the numbers of persons with 1, 2, ... rows differ; under "replace" both persons have as many."""
        if self.other is not None:
            return []
        place = self.counted - 1
        return [Move(cell=(place,), by=1, mean=(0 if place else len(self.bulk)) + 1 / 2)]


@dataclass(frozen=True, kw_only=True)
class Move:
    """A cell whose count differs between two tables: by how much the planted person raises it, and the mean of both."""

    cell: tuple[int, ...]
    by: int
    mean: float


class MadeColumn(Protocol):
    """A column that a recipe made of another one, by merging cells."""

    @property
    def column(self) -> int:
        """Which one."""
        ...

    @property
    def groups(self) -> npt.NDArray[np.int64]:
        """The new cell of each old one."""
        ...


def frame_of(schema: Schema, parts: Sequence[Codes], owners: Sequence[int]) -> pd.DataFrame:
    """A data frame as a file would hold it, with columns that synthetic rows do not have.

    Args:
        parts: Rows as cells; each part gets its values by itself, so that it has the same ones in any company.
        owners: Whose each row is; left out where the schema has no unit column.
    """
    import pandas as pd

    tables = [Table(schema=schema, codes=codes) for codes in parts]
    frame = pd.concat([table.decode(rng=attack_generator(0)).to_frame() for table in tables], ignore_index=True)
    for column in schema.dropped:
        frame[column.name] = pd.array([""] * len(frame), dtype="string")
    if schema.unit_column is not None:
        frame[schema.unit_column] = pd.array([f"u{owner}" for owner in owners], dtype="string")
    return frame[list(schema.file_names)]


def shuffled(frame: pd.DataFrame) -> pd.DataFrame:
    """The same rows in a fresh order, by coins that nobody knows.

    Every game deals every table like this, before every fit: a place in a file must mean nothing, or a generator that
    treats the first rows otherwise than the last would be judged by where the planted person happens to stand.
    """
    order = attack_generator(secrets.randbits(128)).permutation(len(frame))
    return frame.take(order).reset_index(drop=True)


def _content(frame: pd.DataFrame) -> int:
    """A digest of the rows that their order does not change."""
    import pandas as pd

    return int(pd.util.hash_pandas_object(frame, index=False).to_numpy().sum())


def with_made(codes: Codes, made: Sequence[MadeColumn]) -> npt.NDArray[np.int64]:
    """Codes with the columns that a recipe made of others behind them."""
    out = codes.astype(np.int64)
    for this in made:
        out = np.column_stack([out, this.groups[out[:, this.column]]])
    return out


def worst_cases(schema: Schema, *, rows: int = 1000) -> tuple[Pair, ...]:
    """Pairs on which one person changes as much as one can, made from the schema alone, of rows that it allows.

    Args:
        rows: How many other rows there are, where there are any.
    Returns:
        "alone": a person in a cell of every marginal that is otherwise empty, as far as constraints allow; all others
        share one cell.
        "nobody else": the same person, and no other rows (under "replace": one or the other).
        "torn": for selection. Two kinds of rows, so that pairs of columns agree or disagree, all equally strongly; the
        person strengthens some and weakens others. Only with three columns of two cells; if constraints forbid one of
        these rows, with three that no constraint mentions.
        "crowd": only where a person may have several rows: like "alone", with ten times as many as may count.
    Raises:
        SchemaError: the constraints allow no row.
        UsageError: they are too tangled.
    """
    k = schema.unit.max_rows
    allowed = Allowed(schema)
    first = allowed.row([range(size) for size in schema.sizes])
    last = allowed.row([range(size - 1, -1, -1) for size in schema.sizes], unlike=first)
    replaced = first if schema.neighbours == "replace" else None
    same = np.tile(first, (rows, 1))

    def pair(name: str, bulk: Codes, target: Codes, other: Codes | None, copies: int = k) -> Pair:
        return Pair(name=name, schema=schema, bulk=bulk, target=target, other=other, copies=copies)

    pairs = [pair("alone", same, last, replaced), pair("nobody else", same[:0], last, replaced)]
    wide = np.array(schema.sizes) > 1
    torn = _torn(first, np.flatnonzero(wide), rows)
    if torn is None or not all(allowed.holds(part).all() for part in torn):
        torn = _torn(first, np.flatnonzero(wide & allowed.free), rows)
    if torn is not None:
        bulk, (target, turned) = torn
        pairs.append(pair("torn", bulk, target, turned if schema.neighbours == "replace" else None))
    if schema.unit_column is not None:
        pairs.append(pair("crowd", same, last, replaced, 10 * k))
    return tuple(pairs)


def _torn(first: Codes, wide: npt.NDArray[np.intp], rows: int) -> tuple[Codes, Codes] | None:
    """The other rows and both persons of the pair "torn"; None where there are fewer than three such columns.

    Args:
        first: What all rows have in the other columns.
        wide: Columns of two cells or more; the first two of each are used.
    """
    if len(wide) < 3:
        return None
    # the first half of the columns say x, the second half 1 - x: pairs within a half agree, the others disagree
    ahead, behind = wide[: (len(wide) + 1) // 2], wide[(len(wide) + 1) // 2 :]
    start = first.copy()
    start[wide] = 0
    kinds = np.tile(start, (2, 1))
    kinds[0, behind], kinds[1, ahead] = 1, 1
    # (0, ..., 0) is one more for pairs that agree; one column of each half turned weakens one of these
    # and strengthens one that disagrees: under "replace" two scores move apart by 2 k each
    turned = start.copy()
    turned[[ahead[1], behind[0]]] = 1
    return np.repeat(kinds, [rows - rows // 2, rows // 2], axis=0), np.stack([start, turned])
