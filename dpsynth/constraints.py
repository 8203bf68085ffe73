"""Rules between columns, and conditions on rows: what they allow of cells, and how values inside cells keep them.

**Missing.** A comparison with a missing value is neither true nor false, as in SQL. A condition asks for rows where the
expression is true; a rule forbids rows where it is false. So `start <= end` is a rule that a row without `end` keeps,
and a condition that it does not meet. `is missing` is always true or false.

**Cells.** A model knows cells, not values. Of each combination of cells a rule says whether it is `possible` (some
values in it keep the rule) and `certain` (all do); `dpsynth.linear` decides it. Inside cells that are possible and not
certain, values are drawn until the rule holds, columns that an equality defines being computed from the others; where that
takes too long, all of them are computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from itertools import product
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from dpsynth.binning import Bins
from dpsynth.contradictions import has_row, refusal, smallest
from dpsynth.density import Density, Seasonal, Spread
from dpsynth.errors import SchemaError, UsageError
from dpsynth.expressions import parse
from dpsynth.formulas import (
    AllOf,
    BoolArray,
    Columns,
    FloatArray,
    Formula,
    Values,
    alternatives,
    bounds_of,
    columns_of,
    conjuncts,
    from_steps,
    in_steps,
    truth_of,
)
from dpsynth.linear import SHARES, Definition, Leaf, Span, System, definitions, masks_of
from dpsynth.schema import Column

if TYPE_CHECKING:
    from dpsynth.schema import Schema

Codes: TypeAlias = npt.NDArray[np.int32]

_ROUNDS = 100  # of drawing values again until rules inside a cell hold
_TRIES = 40  # of computing them, each with other values: floats may miss an implied equality by a rounding


@dataclass(frozen=True, eq=False)
class _Parts:
    """What of each cell of one numeric column keeps a formula: intervals, or points where no interval does.

    Args:
        low, high: Ends of each part, in grid steps (both included) or numbers (both left out, unless they are equal).
        ladder: Cumulative measure of the parts, cell by cell: values (grid) or length, times their mean density.
        measure, first: For each cell but the missing one, the measure of its parts, and that of all cells before.
        is_points: Whether a cell keeps single points only, so that its measure counts points.
        density: How values lie inside cells; None if uniformly.
    """

    low: FloatArray
    high: FloatArray
    ladder: FloatArray
    measure: FloatArray
    first: FloatArray
    is_points: BoolArray
    density: Spread | None

    @classmethod
    def of(cls, index: int, column: Column, formula: Formula, density: Spread | None) -> _Parts:
        bins = column.binning
        bounds = bounds_of(formula)
        low: FloatArray
        cell: npt.NDArray[np.int64]
        upper = np.array([bound.limit for bound in bounds if bound.left])
        lower = np.array([-bound.limit for bound in bounds if not bound.left])
        if bins.starts is not None:
            cuts = np.concatenate([upper + 1, lower])
            cuts = cuts[(cuts > bins.starts[0]) & (cuts < bins.starts[-1])]
            low = np.unique(np.concatenate([bins.starts[:-1], cuts])).astype(np.float64)
            high = np.append(low[1:], bins.starts[-1]) - 1
            weight = high - low + 1
            cell = np.searchsorted(bins.starts[1:], low, side="right")
            keep = truth_of(formula, {index: low})
        else:
            cuts = np.concatenate([upper, lower])
            cuts = cuts[(cuts > bins.edges[0]) & (cuts < bins.edges[-1])]
            points = np.unique(np.concatenate([bins.edges, cuts]))
            low, high = np.concatenate([points[:-1], points]), np.concatenate([points[1:], points])
            weight = high - low
            cell = bins.encode(low).astype(np.int64)
            keep = truth_of(formula, {index: low / 2 + high / 2}) & ~(bins.is_point[cell] & (low < high))
        keep = np.broadcast_to(keep, low.shape)
        has_length = np.bincount(cell[keep & (weight > 0)], minlength=bins.size) > 0
        keep = keep & ((weight > 0) | ~has_length[cell])
        order = np.flatnonzero(keep)[np.argsort(cell[keep], kind="stable")]
        low, high, cell, weight = low[order], high[order], cell[order], weight[order]
        if density is not None:
            weight = weight * _mean_density(density, cell, *_places(bins, cell, low, high))
        weight = np.where(has_length[cell], weight, 1.0)
        measure = np.bincount(cell, weights=weight, minlength=bins.size).astype(np.float64, copy=False)
        ladder = np.cumsum(weight)
        return cls(low, high, ladder, measure, np.cumsum(measure) - measure, ~has_length, density)

    def share_of(self, whole: _Parts) -> FloatArray:
        """The share of `whole` that is kept, in each cell."""
        same_kind = np.where(self.is_points & ~whole.is_points, 0.0, self.measure)
        return np.divide(same_kind, whole.measure, out=np.zeros_like(same_kind), where=whole.measure > 0)

    def draw(self, column: Column, codes: Codes, *, rng: np.random.Generator) -> FloatArray:
        """A value of each cell, drawn from its parts; where it has none, from all of it."""
        values = column.binning.decode(codes, rng=rng, density=self.density)
        rows = np.flatnonzero(np.append(self.measure, np.zeros(1))[np.minimum(codes, len(self.measure))] > 0)
        if not len(rows):
            return values
        cell = codes[rows]
        place = self.first[cell] + rng.random(len(rows)) * self.measure[cell]
        part = np.minimum(np.searchsorted(self.ladder, place, side="right"), len(self.low) - 1)
        low, high, share = self.low[part], self.high[part], rng.random(len(rows))
        if self.density is not None:
            share = _place_between(self.density, cell, *_places(column.binning, cell, low, high), share)
        if column.binning.starts is not None:
            drawn = np.minimum(low + np.floor(share * (high - low + 1)), high)
        else:
            inner = low * (1 - share) + high * share
            drawn = np.where(low == high, low, np.clip(inner, np.nextafter(low, high), np.nextafter(high, low)))
        values[rows] = from_steps(column, drawn)
        return values


def _places(bins: Bins, cell: Values, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Where parts begin and end in their cells, from 0 to 1; as `_Parts` has their ends."""
    if bins.starts is not None:
        start, end, first = low, high + 1, bins.starts[:-1][cell].astype(np.float64)
    else:
        start, end, first = low / 2, high / 2, bins.edges[:-1][cell] / 2
    width = np.where(bins.is_point | (bins.widths == 0), 1.0, bins.widths)[cell]
    return np.clip((start - first) / width, 0.0, 1.0), np.clip((end - first) / width, 0.0, 1.0)


_NARROW = 1e-6  # of a cell: in parts as small as that, the density counts as even


def _mean_density(density: Spread, cell: Values, start: FloatArray, end: FloatArray) -> FloatArray:
    """The mean of a density between two places of each cell."""
    wide = end - start > _NARROW
    held = density.share(cell, end) - density.share(cell, start)
    return np.divide(held, end - start, out=np.ones(len(held)), where=wide)


def _place_between(density: Spread, cell: Values, start: FloatArray, end: FloatArray, share: FloatArray) -> FloatArray:
    """Where a share of what a density has between two places of each cell is reached, from 0 to 1 of the way."""
    before, after = density.share(cell, start), density.share(cell, end)
    place = density.place(cell, before * (1 - share) + after * share)
    wide = end - start > _NARROW
    way = np.divide(place - start, end - start, out=share.copy(), where=wide)
    return np.clip(way, 0.0, np.nextafter(1.0, 0.0))


# ---- rules ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rule:
    """One formula and what it says about cells: masks over the cells of its columns."""

    name: str
    formula: Formula
    columns: Columns
    possible: BoolArray
    certain: BoolArray

    @classmethod
    def of(cls, name: str, formula: Formula, table: tuple[Column, ...]) -> _Rule:
        columns = columns_of(formula)
        return cls(name, formula, columns, *masks_of(formula, columns, table))

    @cached_property
    def is_partial(self) -> bool:
        """Whether some cells hold both values that keep it and values that break it."""
        return bool(np.any(self.possible & ~self.certain))


@dataclass(frozen=True, eq=False)
class _Knot:
    """Rules that share numeric columns inside cells, so that their values have to be drawn together."""

    rules: tuple[_Rule, ...]
    columns: Columns

    @cached_property
    def alternatives(self) -> list[tuple[Leaf, ...]]:
        """What may hold, all leaves of one of them, so that all rules do."""
        return alternatives(AllOf(tuple(rule.formula for rule in self.rules)))

    @cached_property
    def definitions(self) -> list[tuple[Definition, ...]]:
        """The different ways in which equalities define columns by others."""
        return list(dict.fromkeys(definitions(leaves) for leaves in self.alternatives))

    def proposal(self, number: int) -> tuple[Definition, ...]:
        """The columns that are computed in a round of drawing, counted from 0.

        What all alternatives define is computed at once: accepted values are then those that drawing all of them, again and
        again, would give. Else nothing is, in the first half of the rounds, because that would favour one alternative.
        """
        if len(self.definitions) == 1:
            return self.definitions[0]
        return () if number < _ROUNDS // 2 else self.definitions[number % len(self.definitions)]


@dataclass(frozen=True, eq=False)
class Given:
    """A condition on rows, in the form that a model and a sampler need.

    Args:
        weights: Over the cells of few columns each, the chance that values of the cell meet the condition; where
            columns are tied to each other inside cells, whether they can.
        rules: What values have to keep in the end.
        proposal: What values keep when rows are proposed by `weights`.
        rest: What proposed rows have to keep beside, each by itself; None when the weights say it all.
    """

    weights: list[tuple[Columns, FloatArray]]
    rules: Rules
    proposal: Rules
    rest: Rules | None


@dataclass(frozen=True, eq=False)
class Rules:
    """What rows have to keep: rules of a schema, conditions, or both.

    Args:
        table: The modelled columns.
        rules: All of which have to hold.
        masses: For numeric columns, the mass of each cell, shape (size,), missing included: how values lie inside cells
            follows from it (`dpsynth.density`). Those of other columns lie there uniformly.
        cycles: For dates and times, the counts of the phases of each cycle that their days follow.
    """

    table: tuple[Column, ...]
    rules: tuple[_Rule, ...]
    masses: Mapping[int, FloatArray] = field(default_factory=dict)
    cycles: Mapping[int, Mapping[str, npt.NDArray[np.int64]]] = field(default_factory=dict)

    @classmethod
    def of(cls, schema: Schema) -> Rules:
        """The constraints of a schema without blanks in the columns they use.

        Raises:
            SchemaError: one is misspelled, says something that no row can keep, or needs too many cells.
        """
        found: dict[int, list[Formula]] = {}
        for number, constraint in enumerate(schema.constraints, start=1):
            try:
                found[number] = conjuncts(constraint.expression, schema, when_missing=True)
            except UsageError as error:
                raise SchemaError(f"constraint {number}: {error}") from None
        made = cls._of_some(found, found, schema.modelled)
        if has_row(made.masks) is False:
            columns = {number: {c for f in formulas for c in columns_of(f)} for number, formulas in found.items()}
            guilty = smallest(
                list(found),
                contradict=lambda some: cls._contradict(found, some, schema.modelled),
                meet=lambda one, two: bool(columns[one] & columns[two]),
            )
            raise SchemaError(refusal([f"constraint {number}" for number in guilty]))
        return made

    @classmethod
    def _of_some(cls, found: Mapping[int, Sequence[Formula]], some: Iterable[int], table: tuple[Column, ...]) -> Rules:
        """Some of the constraints, by number."""
        rules: list[_Rule] = []
        for name, formula in _joined((f"constraint {n}", formula) for n in some for formula in found[n]):
            try:
                rules.append(_Rule.of(name, formula, table))
            except UsageError as error:
                raise SchemaError(f"{name}: {error}") from None
        return cls(table, tuple(rules))

    @classmethod
    def _contradict(
        cls, found: Mapping[int, Sequence[Formula]], some: Iterable[int], table: tuple[Column, ...]
    ) -> bool:
        """Whether it is certain that no row keeps some of the constraints."""
        try:
            return has_row(cls._of_some(found, some, table).masks) is False
        except SchemaError:
            return False

    def shaped(
        self, masses: Mapping[int, FloatArray], cycles: Mapping[int, Mapping[str, npt.NDArray[np.int64]]]
    ) -> Rules:
        """The same rules, for values that lie inside cells as these masses and cycles have it."""
        return replace(self, masses=masses, cycles=cycles)

    @cached_property
    def densities(self) -> dict[int, Spread]:
        """How the values of numeric columns lie inside their cells, by place; not where each cell holds one value."""
        found: dict[int, Spread] = {}
        for index, masses in self.masses.items():
            bins = self.table[index].binning
            if bins.is_point.all():
                continue
            found[index] = Density.of(bins, masses[: bins.size])
            if index in self.cycles:
                clock = self.table[index].clock
                found[index] = Seasonal.of(bins, masses[: bins.size], found[index], clock, self.cycles[index])
        return found

    def given(self, text: str, schema: Schema) -> Given:
        """These rules and a condition.

        Raises:
            UsageError: the condition is misspelled or needs too many cells.
        """
        formulas = conjuncts(parse(text), schema, when_missing=False)
        joined = _joined(("the condition", formula) for formula in formulas)
        asked = tuple(_Rule.of(name, formula, self.table) for name, formula in joined)
        both = replace(self, rules=self.rules + asked)
        tied = {column for knot in both._knots for column in knot.columns}
        rest = tuple(rule for rule in asked if rule.is_partial and tied & set(rule.columns))
        proposal = replace(self, rules=tuple(rule for rule in both.rules if rule not in rest))
        weights = [
            (rule.columns, rule.possible.astype(np.float64) if rule in rest else both._weight(rule, self))
            for rule in asked
        ]
        return Given(weights, both, proposal, replace(self, rules=rest) if rest else None)

    def holds(self, columns: Mapping[str, Values]) -> BoolArray:
        """Which rows keep all of it.

        Args:
            columns: The columns of `table.Records`.
        """
        count = len(next(iter(columns.values()), ()))
        values = {i: in_steps(column, columns[column.name]) for i, column in enumerate(self.table)}
        return _keeps(self.rules, values, count)

    @cached_property
    def masks(self) -> list[tuple[Columns, BoolArray]]:
        """Which cells are possible: a mask for each set of columns that rules tie to each other.

        Where several rules meet inside cells, their masks are those of all together.
        """
        masks: dict[Columns, BoolArray] = {}

        def add(columns: Columns, mask: BoolArray) -> None:
            masks[columns] = masks[columns] & mask if columns in masks else mask

        for rule in self.rules:
            add(rule.columns, rule.possible)
        for knot in self._knots:
            columns = tuple(sorted({column for rule in knot.rules for column in rule.columns}))
            if len(knot.rules) == 1:
                continue
            names = " and ".join(dict.fromkeys(rule.name for rule in knot.rules))
            try:
                joint, _ = masks_of(AllOf(tuple(rule.formula for rule in knot.rules)), columns, self.table)
            except UsageError as error:
                raise SchemaError(f"{names} together: {error}") from None
            apart = np.ones(joint.shape, dtype=bool)
            for rule in knot.rules:
                shape = [size if c in rule.columns else 1 for c, size in zip(columns, joint.shape, strict=True)]
                apart &= rule.possible.reshape(shape)
            if not np.array_equal(joint, apart):
                add(columns, joint)
        return list(masks.items())

    def values(self, codes: Codes, *, rng: np.random.Generator) -> dict[str, Values]:
        """A value for every cell, which keeps the rules wherever its row's cells can; numbers lie as `masses` have it.

        Args:
            codes: Shape (rows, columns).
        Returns:
            The columns of `table.Records`.
        """
        drawn = {i: self._draw(i, codes[:, i], rng=rng) for i in range(len(self.table))}
        for knot in self._knots:
            self._settle(drawn, codes, knot, rng=rng)
        return {column.name: drawn[i] for i, column in enumerate(self.table)}

    @cached_property
    def _knots(self) -> list[_Knot]:
        """Partial rules over several columns, with the partial rules over one column that meet them."""
        partial = [rule for rule in self.rules if rule.is_partial]
        knots: list[set[int]] = []
        numeric = [{column for bound in bounds_of(rule.formula) for column in bound.columns} for rule in partial]
        for rule, columns in zip(partial, numeric, strict=True):
            if len(rule.columns) > 1:
                met = [knot for knot in knots if knot & columns]
                knots = [knot for knot in knots if not knot & columns] + [set(columns).union(*met)]
        return [
            _Knot(
                tuple(rule for rule, columns in zip(partial, numeric, strict=True) if columns & knot),
                tuple(sorted(knot)),
            )
            for knot in knots
        ]

    @cached_property
    def _parts(self) -> dict[int, _Parts]:
        """For each numeric column that a rule on it alone splits inside cells, what is left of each cell."""
        alone: dict[int, list[Formula]] = {}
        for rule in self.rules:
            if len(rule.columns) == 1 and rule.is_partial:
                alone.setdefault(rule.columns[0], []).append(rule.formula)
        return {
            i: _Parts.of(i, self.table[i], AllOf(tuple(formulas)), self.densities.get(i))
            for i, formulas in alone.items()
        }

    def _weight(self, rule: _Rule, before: Rules) -> FloatArray:
        """The chance that values which keep the rules `before` keep a rule, in each cell of its columns."""
        if len(rule.columns) > 1 or not rule.is_partial:
            return rule.possible.astype(np.float64)
        index = rule.columns[0]
        column = self.table[index]
        whole = before._parts.get(index) or _Parts.of(index, column, AllOf(()), self.densities.get(index))
        share = self._parts[index].share_of(whole)
        return np.append(share, rule.certain[len(share) :])

    def _draw(self, index: int, codes: Codes, *, rng: np.random.Generator) -> Values:
        column = self.table[index]
        if not column.is_numeric:
            return codes.copy()
        parts = self._parts.get(index)
        if parts is not None:
            return parts.draw(column, codes, rng=rng)
        return column.binning.decode(codes, rng=rng, density=self.densities.get(index))

    def _thinned(self, index: int, codes: Codes, steps: FloatArray, *, rng: np.random.Generator) -> BoolArray:
        """Which computed values stay: a part in proportion to their density, so that they lie as drawn ones would."""
        density, bins = self.densities.get(index), self.table[index].binning
        chance = rng.random(len(codes))
        if density is None:
            return chance <= 1
        cell = np.minimum(codes, bins.size - 1)
        here = np.where(np.isnan(steps), 0.0, steps)
        start, end = _places(bins, cell, here, here)
        wide = end - start > _NARROW
        held = density.share(cell, end) - density.share(cell, start)
        height = np.divide(held, end - start, out=density.height(cell, start), where=wide)
        return np.isnan(steps) | (chance * density.ceiling(cell) <= height)

    def _settle(self, drawn: dict[int, Values], codes: Codes, knot: _Knot, *, rng: np.random.Generator) -> None:
        """Draws the values of a knot again in rows that break it and can keep it."""
        used = sorted({column for rule in knot.rules for column in rule.columns})
        rows = np.flatnonzero(~_keeps(knot.rules, {i: in_steps(self.table[i], drawn[i]) for i in used}, len(codes)))
        can = np.ones(len(rows), dtype=bool)
        for rule in knot.rules:
            can &= rule.possible[tuple(codes[rows, column] for column in rule.columns)]
        rows = rows[can]
        spans = {i: Span.of(self.table[i]) for i in knot.columns}
        for number in range(_ROUNDS):
            if not len(rows):
                return
            values = {i: in_steps(self.table[i], drawn[i][rows]) for i in used}
            for i in knot.columns:
                values[i] = in_steps(self.table[i], self._draw(i, codes[rows, i], rng=rng))
            keeps = np.ones(len(rows), dtype=bool)
            for definition in knot.proposal(number):
                i, sums = definition.column, definition.value(values)
                values[i] = np.where(np.isnan(sums) | np.isnan(values[i]), values[i], sums)
                keeps &= spans[i].at(codes[rows, i]).holds(values[i])
                keeps &= self._thinned(i, codes[rows, i], values[i], rng=rng)
            keeps &= _keeps(knot.rules, values, len(rows))
            for i in knot.columns:
                drawn[i][rows[keeps]] = from_steps(self.table[i], values[i][keeps])
            rows = rows[~keeps]
        shares = [None] * _TRIES + [*SHARES]  # the last ones are those in which a combination was found to be possible
        for share, leaves in product(shares, knot.alternatives):
            if not len(rows):
                return
            system = System.of(leaves, {i: codes[rows, i] for i in used}, spans)
            shape = (len(system.columns), len(rows))
            found, keeps = system.values(rng.random(shape) if share is None else np.full(shape, share))
            for i, steps in found.items():
                drawn[i][rows[keeps]] = from_steps(self.table[i], steps[keeps])
            rows = rows[~keeps]


def _joined(found: Iterable[tuple[str, Formula]]) -> list[tuple[str, Formula]]:
    """Formulas by name, those over one column made one a column: apart, each might leave a cell what another takes."""
    single: dict[Columns, list[tuple[str, Formula]]] = {}
    several: list[tuple[str, Formula]] = []
    for name, formula in found:
        columns = columns_of(formula)
        if len(columns) == 1:
            single.setdefault(columns, []).append((name, formula))
        else:
            several.append((name, formula))
    return [
        (" and ".join(dict.fromkeys(name for name, _ in parts)), AllOf(tuple(formula for _, formula in parts)))
        for parts in single.values()
    ] + several


def _keeps(rules: Iterable[_Rule], values: Mapping[int, Values], count: int) -> BoolArray:
    return reduce(np.logical_and, [truth_of(rule.formula, values) for rule in rules], np.ones(count, dtype=bool))
