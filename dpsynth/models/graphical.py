"""The model of our own synthesizers: factors on a junction tree, and the noisy measurements they came from."""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.binning import Bins
from dpsynth.coarsening import Coarse
from dpsynth.constraints import Given, Rules
from dpsynth.dates import CYCLES
from dpsynth.density import Spread
from dpsynth.errors import IntegrityError, SchemaError, UsageError
from dpsynth.expressions import Gap, Op, spelled
from dpsynth.mechanisms.base import Columns, CycleCounts, Measurement, by_column
from dpsynth.models.base import require_charged
from dpsynth.models.estimation import estimate, noisy_total
from dpsynth.models.inference import MAX_CELLS, joint, widened
from dpsynth.models.junction_tree import NEVER, FloatArray, JunctionTree
from dpsynth.models.sampling import Codes, draw
from dpsynth.privacy import Cost
from dpsynth.randomness import attack_generator
from dpsynth.schema import Schema
from dpsynth.schema.quoting import quoted
from dpsynth.table import Records, Table

_FORMAT = "dpsynth.model/2"
_MOST_CELLS = 2**26  # of a model that is read from a file: 512 MB
_REFITS = 40  # their scatter is known to within about a tenth
_REFIT_SEED = 20261122
_PROPOSALS = 5_000_000  # rows that may be proposed before a condition counts as too unlikely
_BATCH = 2**18  # rows proposed at once, at most


@dataclass(frozen=True, kw_only=True)
class Marginal:
    """How many rows the model expects in each combination of the cells of some columns.

    Args:
        columns: Their names.
        counts: Expected rows, shape = the cells of each column in turn.
        standard_deviation: What the noise of the measurements contributes to each count, estimate and shrinkage
            included, in rows; NaN where it was not asked for.
        measured: Whether some measurement counted these columns together. If not, the counts also rest on the model's
            independence assumptions, whose error no noise can tell.
    """

    columns: tuple[str, ...]
    counts: FloatArray
    standard_deviation: FloatArray
    measured: bool


@dataclass(frozen=True, kw_only=True)
class Rare:
    """A combination of cells that the model gives little probability.

    Args:
        where: The condition that describes it.
        probability: Its share of the rows.
    """

    where: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """Rows from another distribution than the model's, and what each stands for.

    Args:
        records: The rows.
        weights: Shape (rows,): the model's probability of each row over that of drawing it here. The mean of
            weight times f estimates the model's mean of f without bias.
    """

    records: Records
    weights: FloatArray


@dataclass(frozen=True, kw_only=True)
class GraphicalModel:
    """A distribution over tables; satisfies `models.base.Model`.

    The schema's constraints are part of it: cells that they rule out have no probability, and decoded values keep
    them. Everything it answers is post-processing of its measurements, and free of charge.

    Args:
        schema: What the columns mean.
        measurements: The noisy answers that the model was built from.
        total: Estimated number of rows on the fit side, at least 1.
        tree: The junction tree.
        potentials: Logarithms of factors over few columns each, whose product is the distribution.
        coarse: Further columns of the tree, after the schema's, each made from one of these; synthetic rows do not
            have them.
        cycles: Noisy counts that dates and times follow inside their cells.
    """

    schema: Schema
    measurements: tuple[Measurement, ...]
    total: float
    tree: JunctionTree
    potentials: tuple[tuple[Columns, FloatArray], ...]
    coarse: tuple[Coarse, ...] = ()
    cycles: tuple[CycleCounts, ...] = ()

    @classmethod
    def fitted(
        cls,
        schema: Schema,
        measurements: Sequence[Measurement],
        groups: Iterable[Columns],
        *,
        coarse: Sequence[Coarse] = (),
    ) -> GraphicalModel:
        """The model whose cliques hold `groups` and the columns of each constraint, estimated from the measurements."""
        masks = schema.rules.masks
        tree = JunctionTree(*frame(schema, groups, coarse))
        total = noisy_total(measurements)
        made_from = [*range(len(schema.sizes)), *(made.column for made in coarse)]
        ordered = {index for index, column in enumerate(made_from) if schema.modelled[column].in_order}
        potentials = estimate(tree, measurements, total=total, coarse=coarse, allowed=masks, ordered=ordered)
        return cls(
            schema=schema,
            measurements=tuple(measurements),
            total=total,
            tree=tree,
            potentials=tuple(potentials),
            coarse=tuple(coarse),
        )

    @cached_property
    def factors(self) -> list[FloatArray]:
        """Logarithm of one factor a clique of the tree, the schema's constraints included."""
        links = [
            ((made.column, index), np.where(made.mask, 0.0, NEVER))
            for index, made in enumerate(self.coarse, start=len(self.schema.sizes))
        ]
        return _without_impossible(self.tree, self.tree.factors([*self.potentials, *links]), self.schema)

    def probabilities(self) -> list[FloatArray]:
        """The probability of each cell of each clique, in the order of `tree.cliques`."""
        return self.tree.calibrate(self.factors)[1]

    @cached_property
    def rules(self) -> Rules:
        """What rows keep, and how numbers lie inside their cells."""
        return self._shaped(self.probabilities())

    def _shaped(self, cells: Sequence[FloatArray]) -> Rules:
        """The schema's rules, with the masses that the model gives to the cells of numeric columns."""
        numeric = [place for place, column in enumerate(self.schema.modelled) if column.is_numeric]
        masses = {place: joint(self.tree, cells, (place,)) for place in numeric}
        return self.schema.rules.shaped(masses, by_column(self.cycles))

    # ---- marginals -------------------------------------------------------------------------------------------------

    def marginal(self, columns: Sequence[str], *, refits: int = _REFITS) -> Marginal:
        """What the model expects of some columns together; `marginals` for several."""
        return self.marginals([columns], refits=refits)[0]

    def marginals(self, wanted: Iterable[Sequence[str]], *, refits: int = _REFITS) -> list[Marginal]:
        """What the model expects of sets of columns, with error bars.

        The bars come from a parametric bootstrap (Efron and Tibshirani 1993, chapter 6): as if the model were the
        truth, its marginals are measured anew with the same noise and fitted anew on the same tree, `refits` times;
        a bar is the root mean square distance of these estimates from the model. It knows the noise, what the fit
        does to it, and the pull towards independence; it does not know which tree other noise would have chosen, nor
        what a tree leaves out.

        Args:
            wanted: Names of modelled columns.
            refits: At least 2, or 0 for no bars.
        Raises:
            UsageError: a name is unknown or comes twice, or a table would be too large.
        """
        sets = [self._indices(names) for names in wanted]
        cells = self.probabilities()
        found = [joint(self.tree, cells, columns) for columns in sets]
        squares = [np.zeros(table.shape) if refits else np.full(table.shape, np.nan) for table in found]
        rng = attack_generator(_REFIT_SEED)
        truths = [joint(self.tree, cells, m.columns) * self.total for m in self.measurements] if refits else []
        for _ in range(refits):
            again = self._refitted(truths, rng=rng)
            anew = again.probabilities()
            for square, columns, table in zip(squares, sets, found, strict=True):
                square += (again.total * joint(self.tree, anew, columns) - self.total * table) ** 2 / refits
        return [
            Marginal(
                columns=tuple(self.schema.names[column] for column in columns),
                counts=self.total * table,
                standard_deviation=np.sqrt(square),
                measured=any(set(columns) <= set(m.columns) for m in self.measurements),
            )
            for columns, table, square in zip(sets, found, squares, strict=True)
        ]

    def _refitted(self, truths: Sequence[FloatArray], *, rng: np.random.Generator) -> GraphicalModel:
        """The model that fresh noise on these counts would have given. Not private and not kept: a ruler for bars."""
        noisy = [
            replace(m, values=np.rint(truth + rng.normal(scale=m.sigma, size=truth.shape)).astype(np.int64))
            for m, truth in zip(self.measurements, truths, strict=True)
        ]
        return GraphicalModel.fitted(self.schema, noisy, self.tree.cliques, coarse=self.coarse)

    # ---- sampling --------------------------------------------------------------------------------------------------

    def sample(
        self, rows: int, *, rng: np.random.Generator, where: str | None = None, balance: str | None = None
    ) -> Table:
        """`rows` synthetic rows, with counts as close to their expectation as whole numbers allow.

        Args:
            where: Only rows that meet this condition (`dpsynth.expressions`), from the model's exact conditional
                distribution. The condition becomes evidence on the tree; only where it compares numbers that may lie
                in overlapping bins are rows also proposed and dropped.
            balance: A category, ordinal or boolean column: each of its values that is possible equally often, the
                other columns as the model has them given that value.
        Raises:
            UsageError: the condition is misspelled, impossible, or too unlikely to draw.
        """
        if where is None and balance is None:
            cells = self.probabilities()
            codes = draw(self.tree, cells, rows, rng=rng)
            return Table(schema=self.schema, codes=codes[:, : len(self.schema.sizes)], rules=self._shaped(cells))
        given = None if where is None else self.rules.given(where, self.schema)
        if balance is None:
            codes = self._draw([], given, rows, rng=rng)
        else:
            parts = self._balanced(balance, given, rows, rng=rng)
            codes = np.asfortranarray(np.concatenate(parts)[rng.permutation(rows)])
        return Table(
            schema=self.schema,
            codes=codes[:, : len(self.schema.sizes)],
            rules=self.rules if given is None else given.rules,
        )

    def probability(self, where: str) -> float:
        """The share of rows that meet a condition.

        Raises:
            UsageError: it is misspelled, or compares numbers that may lie in overlapping bins.
        """
        given = self.rules.given(where, self.schema)
        if given.rest is not None:
            raise UsageError(
                "the condition compares numbers inside overlapping bins: its probability has no closed form"
            )
        return self._share(given.weights)

    def _share(self, evidence: Sequence[tuple[Columns, FloatArray]]) -> float:
        """What is left of all probability after evidence."""
        tree, factors = widened(self.tree, self.factors, evidence)
        lost = tree.calibrate(factors)[0] - self.tree.calibrate(self.factors)[0]
        return min(1.0, math.exp(lost)) if lost > NEVER / 2 else 0.0

    def _draw(
        self, evidence: list[tuple[Columns, FloatArray]], given: Given | None, rows: int, *, rng: np.random.Generator
    ) -> Codes:
        """Rows that follow the model given evidence and a condition."""
        weights = evidence + ([] if given is None else given.weights)
        if not self._share(weights) > 0:
            raise UsageError("no row of the model meets the condition: widen it")
        tree, factors = widened(self.tree, self.factors, weights)
        cells = tree.calibrate(factors)[1]
        if given is None or given.rest is None:
            return draw(tree, cells, rows, rng=rng)
        parts, kept, proposed, batch = [np.zeros((0, len(tree.sizes)), dtype=np.int32)], 0, 0, min(rows, _BATCH)
        while kept < rows:
            if proposed > _PROPOSALS and kept < proposed / 10_000:
                raise UsageError("the condition is too unlikely to draw: widen it")
            codes = draw(tree, cells, batch, rng=rng)
            met = given.rest.holds(given.proposal.values(codes, rng=rng))
            parts.append(codes[met][: rows - kept])
            kept, proposed = kept + len(parts[-1]), proposed + batch
            batch = min(_BATCH, max(1_000, math.ceil((rows - kept) * proposed / max(1, kept))))
        return np.asfortranarray(np.concatenate(parts))

    def _balanced(self, name: str, given: Given | None, rows: int, *, rng: np.random.Generator) -> list[Codes]:
        """As many rows of each value of a column as of the others, give or take one."""
        (index,) = self._indices([name])
        column = self.schema.modelled[index]
        if column.is_numeric:
            raise UsageError(f"{quoted(name)} is a number: balance a category, an ordinal or a boolean")
        only = np.eye(column.size)[: len(column.labels)]
        weights = [] if given is None else given.weights
        values = [value for value in only if self._share([((index,), value), *weights]) > 0]
        if not values:
            raise UsageError("no row of the model meets the condition: widen it")
        shares = np.full(len(values), rows // len(values))
        shares[rng.permutation(len(values))[: rows % len(values)]] += 1
        return [
            self._draw([((index,), value)], given, int(share), rng=rng)
            for value, share in zip(values, shares, strict=True)
        ]

    # ---- rare and extreme rows -------------------------------------------------------------------------------------

    def tails(self, name: str, share: float = 0.01) -> list[str]:
        """Conditions for the lowest and the highest rows of a numeric or ordinal column.

        Args:
            share: Of the rows, in (0, 0.5), that each tail should hold; where values are few it holds more.
        """
        (index,) = self._indices([name])
        column = self.schema.modelled[index]
        if not column.is_numeric and column.type != "ordinal":
            raise UsageError(f"{quoted(name)} has no order: tails are of numbers and ordinals")
        if not 0 < share < 0.5:
            raise UsageError("the share of a tail must be above 0 and below 0.5")
        cells = joint(self.tree, self.probabilities(), (index,))
        cells = cells[: column.binning.size if column.is_numeric else len(column.values or ())]
        reached = np.cumsum(cells) / max(cells.sum(), np.finfo(float).tiny)
        out: list[str] = []
        sides: tuple[tuple[Op, float], ...] = (("<=", share), (">=", 1 - share))
        for op, level in sides:
            cell = min(int(np.searchsorted(reached, level, side="left" if op == "<=" else "right")), len(cells) - 1)
            if not column.is_numeric:
                out.append(spelled(name, op, (column.values or ())[cell]))
                continue
            before = reached[cell - 1] if cell else 0.0
            inside = (level - before) / max(reached[cell] - before, np.finfo(float).tiny)
            value = _quantile(column.binning, self.rules.densities.get(index), cell, min(1.0, inside), up=op == "<=")
            out.append(spelled(name, op, column.literal(value)))
        return out

    def rare(self, columns: Sequence[str] | None = None, *, at_most: float = 1e-3, limit: int = 20) -> list[Rare]:
        """Combinations of cells that are possible and hold at most a share `at_most` of the rows, likeliest first.

        Args:
            columns: Which to combine; None for all pairs of columns.
            limit: At most so many combinations.
        """
        names = self.schema.names
        sets = [tuple(columns)] if columns is not None else list(combinations(names, 2))
        cells = self.probabilities()
        found: list[tuple[float, Columns, tuple[int, ...]]] = []
        for chosen in map(self._indices, sets):
            table = joint(self.tree, cells, chosen)
            flat = np.where((table > 0) & (table <= at_most), table, 0).ravel()
            for place in np.argsort(-flat, kind="stable")[:limit]:
                if flat[place] > 0:
                    where = tuple(int(i) for i in np.unravel_index(place, table.shape))
                    found.append((float(flat[place]), chosen, where))
        found.sort(key=lambda entry: -entry[0])
        return [
            Rare(where=" and ".join(self._cell(i, c) for i, c in zip(chosen, place, strict=True)), probability=p)
            for p, chosen, place in found[:limit]
        ]

    def stress(self, rows: int, events: Sequence[str], *, share: float = 0.5, rng: np.random.Generator) -> Weighted:
        """Rows with many rare ones among them: a share `share` meets one of the `events`, each event equally often.

        The rest comes from the model as it is, so no weight exceeds 1 / (1 - share).

        Args:
            events: Conditions whose probability has a closed form, such as `tails` and `rare` give.
        Raises:
            UsageError: an event is impossible, or its probability has no closed form.
        """
        if not events or not 0 < share < 1:
            raise UsageError("stress rows need at least one event, and a share above 0 and below 1")
        chances = [self.probability(event) for event in events]
        sizes = np.diff(np.rint(np.linspace(0, share * rows, len(events) + 1)).astype(int))
        strata = [self.sample(int(size), rng=rng, where=event) for event, size in zip(events, sizes, strict=True)]
        decoded = [self.sample(rows - int(sizes.sum()), rng=rng).decode(rng=rng)]
        decoded += [stratum.decode(rng=rng) for stratum in strata]
        order = rng.permutation(rows)
        columns = {n: np.concatenate([part.columns[n] for part in decoded])[order] for n in self.schema.names}
        drawn = np.full(rows, (rows - sizes.sum()) / max(1, rows))  # density of drawing a row here, over the model's
        for event, size, chance in zip(events, sizes, chances, strict=True):
            drawn += self.rules.given(event, self.schema).rules.holds(columns) * (size / rows / chance)
        return Weighted(records=Records(self.schema, columns), weights=1 / drawn)

    def _cell(self, index: int, code: int) -> str:
        """The condition that picks one cell of a column."""
        column = self.schema.modelled[index]
        if code == column.missing_code:
            return str(Gap(column.name, negated=False))
        if column.type == "boolean":
            return spelled(column.name, "==", column.labels[code] == "true")
        if not column.is_numeric:
            return spelled(column.name, "==", column.labels[code])
        low, high, closed = column.binning.interval(code)
        if low == high:
            return spelled(column.name, "==", column.literal(low))
        above = spelled(column.name, ">=", column.literal(low))
        return f"{above} and {spelled(column.name, '<=' if closed else '<', column.literal(high))}"

    def _indices(self, names: Sequence[str]) -> Columns:
        for name in names:
            if name not in self.schema.names:
                raise UsageError(f"{quoted(name)} is not a column that synthetic rows have")
        if len(set(names)) < len(names):
            raise UsageError("a column must not be named twice")
        return tuple(self.schema.index(name) for name in names)

    def save(self, folder: Path) -> None:
        """Writes `model.json` and `model.npz`: no pickle, no rows.

        Raises:
            PrivacyRefusal: no ledger was charged for what it was fitted on.
        """
        require_charged([*self.measurements, *self.cycles])
        folder.mkdir()
        arrays: dict[str, npt.NDArray[Any]] = {
            f"potential_{i}": potential for i, (_, potential) in enumerate(self.potentials)
        }
        arrays |= {f"measurement_{i}": m.values for i, m in enumerate(self.measurements)}
        facts = {
            "format": _FORMAT,
            "total": self.total,
            "cliques": [list(clique) for clique in self.tree.cliques],
            "potentials": [list(columns) for columns, _ in self.potentials],
            "coarse": [{"column": made.column, "groups": made.groups.tolist()} for made in self.coarse],
            "measurements": [
                {"columns": list(m.columns), "sigma_squared": str(m.sigma_squared), "rho": str(m.cost.rho)}
                for m in self.measurements
            ],
            "cycles": [counts.plain() for counts in self.cycles],
        }
        (folder / "model.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        with (folder / "model.npz").open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, folder: Path, schema: Schema) -> GraphicalModel:
        """Reads what `save` wrote.

        Raises:
            IntegrityError: the folder does not hold a model for this schema.
        """
        try:
            facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            with zipfile.ZipFile(folder / "model.npz") as archive:
                if sum(entry.file_size for entry in archive.infolist()) > 8 * _MOST_CELLS:
                    raise ValueError
            with (folder / "model.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                coarse = tuple(
                    Coarse(column=made["column"], groups=np.array(made["groups"], dtype=np.int64))
                    for made in facts["coarse"]
                )
                sizes = frame(schema, [], coarse)[0]
                tree = JunctionTree.of_cliques(sizes, [tuple(clique) for clique in facts["cliques"]])
                potentials = tuple(
                    (tuple(columns), arrays[f"potential_{i}"]) for i, columns in enumerate(facts["potentials"])
                )
                measurements = tuple(
                    Measurement(
                        columns=tuple(m["columns"]),
                        values=arrays[f"measurement_{i}"],
                        sigma_squared=fraction_of(m["sigma_squared"]),
                        cost=Cost.zcdp(fraction_of(m["rho"])),
                    )
                    for i, m in enumerate(facts["measurements"])
                )
            if facts["format"] != _FORMAT:
                raise ValueError
            if any(m.values.dtype != np.int64 or m.sigma_squared == 0 for m in measurements):
                raise ValueError
            total = float(facts["total"])
            if not (math.isfinite(total) and total >= 1 and tree.cells <= _MOST_CELLS):
                raise ValueError
            for columns in frame(schema, [], coarse)[1]:
                tree.holder(columns)
            for columns, potential in potentials:
                if (
                    potential.shape != tuple(tree.sizes[column] for column in columns)
                    or not np.isfinite(potential).all()
                ):
                    raise ValueError
                tree.holder(columns)
            return cls(
                schema=schema,
                measurements=measurements,
                total=total,
                tree=tree,
                potentials=potentials,
                coarse=coarse,
                cycles=cycles_of(facts, schema),
            )
        except (
            OSError,
            EOFError,
            zipfile.BadZipFile,
            ValueError,
            ArithmeticError,
            LookupError,
            TypeError,
            AttributeError,
        ):
            raise IntegrityError("the model in this release cannot be read: check it with `dpsynth verify`") from None


def frame(
    schema: Schema, groups: Iterable[Columns], coarse: Sequence[Coarse] = ()
) -> tuple[tuple[int, ...], list[Columns]]:
    """Cells of each column of a tree, the coarse ones after the schema's, and the column sets that its cliques hold."""
    sizes = (*schema.sizes, *(made.size for made in coarse))
    links = [(made.column, len(schema.sizes) + place) for place, made in enumerate(coarse)]
    return sizes, [*groups, *(columns for columns, _ in schema.rules.masks), *links]


def cycles_of(facts: dict[str, Any], schema: Schema) -> tuple[CycleCounts, ...]:
    """The noisy counts of cycles that `save` may have written; of a model from before there were any, none.

    Raises:
        ValueError, LookupError, TypeError: they do not fit the schema.
    """
    found = []
    for counts in facts.get("cycles", []):
        column, values = schema.modelled[counts["column"]], np.array(counts["values"])
        if counts["cycle"] not in (column.cycles or ()) or values.dtype != np.int64:
            raise ValueError
        if values.shape != (CYCLES[counts["cycle"]],) or fraction_of(counts["sigma_squared"]) == 0:
            raise ValueError
        found.append(
            CycleCounts(
                column=counts["column"],
                cycle=counts["cycle"],
                values=values,
                sigma_squared=fraction_of(counts["sigma_squared"]),
                cost=Cost.zcdp(fraction_of(counts["rho"])),
            )
        )
    return tuple(found)


def fraction_of(text: str) -> Fraction:
    """A fraction that `save` may have written: not negative, and no exponent, which could take for ever to expand."""
    if not re.fullmatch(r"[0-9]{1,400}(/[0-9]{1,400})?", text):
        raise ValueError
    return Fraction(text)


def check_constraints(schema: Schema) -> None:
    """Refuses, from the schema alone, constraints that no row can keep or that no model can hold.

    Raises:
        SchemaError: they are either.
    """
    possible_cells(schema)


def possible_cells(schema: Schema) -> tuple[JunctionTree, list[npt.NDArray[np.bool_]]]:
    """A junction tree of what the constraints tie together, and which cells of each clique some row can have.

    Raises:
        SchemaError: as `check_constraints`.
    """
    tree = JunctionTree(schema.sizes, [columns for columns, _ in schema.rules.masks])
    if tree.cells > MAX_CELLS:
        raise SchemaError("the constraints tie too many columns together: drop one, or use fewer or wider bins")
    factors = _without_impossible(tree, [np.zeros(shape) for shape in tree.shapes], schema)
    log_total, cells = tree.calibrate(factors)
    if log_total < NEVER / 2:
        raise SchemaError("no row can keep all constraints: take back what contradicts the rest")
    return tree, [probabilities > 0 for probabilities in cells]


def _without_impossible(tree: JunctionTree, factors: Sequence[FloatArray], schema: Schema) -> list[FloatArray]:
    """The factors with NEVER in each cell that the schema rules out."""
    out = [np.maximum(factor, NEVER) for factor in factors]
    for columns, mask in schema.rules.masks:
        clique = tree.holder(columns)
        out[clique] = np.where(mask.reshape(tree.view(clique, columns)), out[clique], NEVER)
    return out


def _quantile(bins: Bins, density: Spread | None, cell: int, inside: float, *, up: bool) -> float:
    """The value below which a share `inside` of a cell lies."""
    if density is None or bins.is_point[cell]:
        return bins.interval(cell)[0]
    place = float(density.place(np.array([cell]), np.array([inside]))[0]) if inside < 1 else 1.0
    if bins.starts is None or bins.decimals is None:
        return float(bins.edges[cell] * (1 - place) + bins.edges[cell + 1] * place)
    first, last = int(bins.starts[cell]), int(bins.starts[cell + 1]) - 1
    step = first + place * (last - first + 1)
    step = min(max(math.ceil(step) - 1 if up else math.floor(step), first), last)
    return step / 10.0**bins.decimals
