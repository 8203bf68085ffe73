"""Persons (units, in general) in the synthetic rows: how many rows each has, and which.

A model knows rows, and no persons. What persons look like comes from one noisy question, the number of units with 1, 2,
... max_rows rows. Synthetic rows are dealt to synthetic units of such sizes; columns that are constant in a person
(`per_unit`) are the same in all rows of one. Nothing else ties a unit's rows to each other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from dpsynth.curator import Curator
from dpsynth.errors import IntegrityError, PrivacyRefusal
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.models.estimation import on_simplex
from dpsynth.schema import Schema
from dpsynth.table import Records, Table, Values

if TYPE_CHECKING:
    from dpsynth.constraints import Rules

IntVector: TypeAlias = npt.NDArray[np.int64]
FloatVector: TypeAlias = npt.NDArray[np.float64]

SHARE = Fraction(1, 50)
"""Part of the budget for the number of rows of a unit. One count a person in few, large cells: little noise is enough."""

_FILE = "persons.json"
_FORMAT = "dpsynth.persons/1"


@dataclass(frozen=True, kw_only=True)
class UnitSizes:
    """How many rows units have: noisy, and so public.

    Args:
        counts: Noisy number of units with 1, 2, ... max_rows rows.
        sigma: Standard deviation of the noise on each.
        throw_away: Whether no ledger was charged for them: then they cannot be saved.
    """

    counts: tuple[int, ...]
    sigma: float
    throw_away: bool = False

    @classmethod
    def measured(cls, curator: Curator, *, rho: Fraction) -> UnitSizes:
        """Asks the curator.

        Privacy: costs `rho`, as zCDP.
        """
        mechanism = DiscreteGaussian.calibrated(rho=rho, l2_squared=curator.unit.touched(1))
        counts = curator.count_unit_sizes(mechanism)
        return cls(counts=tuple(counts.tolist()), sigma=mechanism.sigma, throw_away=curator.throw_away)

    @property
    def shares(self) -> FloatVector:
        """The share of units with 1, 2, ... max_rows rows; shape (max_rows,).

        From the nearest counts that are not negative and have the same sum; where noise left no sum, one row each.
        """
        counts = np.asarray(self.counts, dtype=np.float64)
        if counts.sum() < 1:
            counts = np.zeros(len(counts))
            counts[0] = 1.0
        total = float(counts.sum())
        shares: FloatVector = on_simplex(counts, total) / total
        return shares

    def distance(self, made: IntVector) -> float:
        """Total variation distance of the numbers of synthetic units with 1, 2, ... max_rows rows from these."""
        return float(np.abs(made / max(1, made.sum()) - self.shares).sum() / 2)

    def save(self, folder: Path) -> None:
        """Writes `persons.json` into a model's folder.

        Raises:
            PrivacyRefusal: no ledger was charged for the counts.
        """
        if self.throw_away:
            raise PrivacyRefusal("these counts come from a rehearsal, which no ledger knows: count in a release")
        facts = {"format": _FORMAT, "counts": list(self.counts), "sigma": self.sigma}
        (folder / _FILE).write_text(json.dumps(facts, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, schema: Schema) -> UnitSizes:
        """Reads what `save` wrote.

        Raises:
            IntegrityError: the folder does not hold it.
        """
        try:
            facts = json.loads((folder / _FILE).read_text(encoding="utf-8"))
            counts, sigma = tuple(facts["counts"]), float(facts["sigma"])
            if facts["format"] != _FORMAT or len(counts) != schema.max_rows:
                raise ValueError
            if not all(type(count) is int and abs(count) < 2**53 for count in counts):
                raise ValueError
        except (OSError, ValueError, LookupError, TypeError):
            raise IntegrityError("the model has no rows per person: check the release with `dpsynth verify`") from None
        return cls(counts=counts, sigma=sigma)


@dataclass(frozen=True, kw_only=True, repr=False)
class Dealt:
    """Synthetic rows that belong to synthetic units.

    Args:
        records: The rows, in the order in which they came.
        person: Whose each is, in 0 .. persons - 1, in no order that means anything; shape (rows,).
    """

    records: Records
    person: IntVector

    @property
    def sizes(self) -> IntVector:
        """Rows of each; shape (persons,)."""
        return np.bincount(self.person)

    def counts(self, max_rows: int) -> IntVector:
        """How many have 1, 2, ... max_rows rows."""
        return np.bincount(self.sizes, minlength=max_rows + 1)[1:]


def deal(records: Records, measured: UnitSizes, *, rng: np.random.Generator, rules: Rules | None = None) -> Dealt:
    """Deals rows to units.

    Rows that agree in every `per_unit` column make a group, and a unit's rows come from one group. Sizes are those that
    were measured, the largest dealt first, each to a group drawn in proportion to how many of its size still fit there;
    where none fits, the unit gets smaller. Numbers inside a bin become those of the unit's first row. A number that a
    rule ties to another column has to be equal as it is: changing it could break the rule.

    Args:
        rules: What the rows keep; the schema's constraints where nothing else is said.
    """
    schema, rows = records.schema, len(records)
    if not rows:
        return Dealt(records=records, person=np.zeros(0, dtype=np.int64))
    tied = _tied(schema, schema.rules if rules is None else rules)
    group = _groups(records, tied)
    left = np.bincount(group)
    group_of, size_of = _sizes(left, _planned(rows, measured.shares), rng=rng)
    order = np.lexsort((rng.random(rows), group))
    dealt = np.lexsort((rng.random(len(size_of)), group_of))
    size = size_of[dealt]
    person = np.empty(rows, dtype=np.int64)
    person[order] = np.repeat(rng.permutation(len(size)), size)
    first = order[np.cumsum(size) - size]
    columns: dict[str, Values] = {}
    for column in schema.modelled:
        values = records.columns[column.name]
        if column.per_unit and column.is_numeric and column.name not in tied:
            shared = np.empty_like(values)
            shared[order] = np.repeat(values[first], size)
            values = shared
        columns[column.name] = values
    return Dealt(records=Records(schema, columns), person=person)


def _tied(schema: Schema, rules: Rules) -> frozenset[str]:
    """Columns that a rule ties to another one."""
    return frozenset(schema.names[i] for rule in rules.rules if len(rule.columns) > 1 for i in rule.columns)


def _groups(records: Records, tied: frozenset[str]) -> IntVector:
    """The number of each row's group; shape (rows,)."""
    schema = records.schema
    codes = Table.encode(records).codes
    group = np.zeros(len(records), dtype=np.int64)
    for place, column in enumerate(schema.modelled):
        if column.per_unit:
            by_value = column.is_numeric and column.name in tied
            cell = records.columns[column.name] if by_value else codes[:, place]
            kinds, kind = np.unique(cell, return_inverse=True)
            group = np.unique(group * len(kinds) + kind, return_inverse=True)[1]
    return group


def _planned(rows: int, shares: FloatVector) -> IntVector:
    """How many units of each size together have about so many rows; shape (max_rows + 1,)."""
    sizes = np.arange(1, len(shares) + 1)
    planned = rows / float(shares @ sizes) * np.concatenate([[0.0], shares])
    ends = np.floor(np.cumsum(planned) + 0.5).astype(np.int64)  # rounded so that the sums are right
    return np.diff(ends, prepend=0)


def _sizes(left: IntVector, planned: IntVector, *, rng: np.random.Generator) -> tuple[IntVector, IntVector]:
    """To which group each unit belongs, and how many rows it has; together they have all rows of every group."""
    groups, sizes, waiting = [], [], 0
    for size in range(len(planned) - 1, 1, -1):
        waiting += int(planned[size])
        if not waiting:
            continue
        room = left // size
        fit = min(waiting, int(room.sum()))
        chosen = rng.multivariate_hypergeometric(room, fit, method="marginals")
        left = left - chosen * size
        waiting -= fit
        groups.append(np.repeat(np.arange(len(left)), chosen))
        sizes.append(np.full(fit, size, dtype=np.int64))
    groups.append(np.repeat(np.arange(len(left)), left))
    sizes.append(np.ones(int(left.sum()), dtype=np.int64))
    return np.concatenate(groups), np.concatenate(sizes)
