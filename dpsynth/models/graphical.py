"""The model of our own synthesizers: factors on a junction tree, and the noisy measurements they came from."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dpsynth.errors import IntegrityError
from dpsynth.mechanisms.base import Columns, Measurement
from dpsynth.models.estimation import estimate, noisy_total
from dpsynth.models.junction_tree import FloatArray, JunctionTree
from dpsynth.privacy import Cost
from dpsynth.schema import Schema
from dpsynth.table import Table

_FORMAT = "dpsynth.model/1"


@dataclass(frozen=True, kw_only=True)
class GraphicalModel:
    """A distribution over tables; satisfies `models.base.Model`.

    Args:
        schema: What the columns mean.
        measurements: The noisy answers that the model was built from.
        total: Estimated number of rows on the fit side, at least 1.
        tree: The junction tree.
        factors: Logarithm of one factor a clique of the tree.
    """

    schema: Schema
    measurements: tuple[Measurement, ...]
    total: float
    tree: JunctionTree
    factors: tuple[FloatArray, ...]

    @classmethod
    def fitted(cls, schema: Schema, measurements: Sequence[Measurement], groups: Iterable[Columns]) -> GraphicalModel:
        """The model whose cliques hold `groups`, estimated from the measurements."""
        tree = JunctionTree(schema.sizes, groups)
        total = noisy_total(measurements)
        factors = estimate(tree, measurements, total=total)
        return cls(schema=schema, measurements=tuple(measurements), total=total, tree=tree, factors=tuple(factors))

    def probabilities(self) -> list[FloatArray]:
        """The probability of each cell of each clique, in the order of `tree.cliques`."""
        return self.tree.calibrate(self.factors)[1]

    def sample(self, rows: int, *, rng: np.random.Generator) -> Table:
        """`rows` synthetic rows whose clique counts are as close to their expectation as whole numbers allow.

        Cliques are filled in from the root. Rows that agree on the columns shared with the parent are put in a random
        order of their own for each clique, and the new columns are read off the conditional distribution at evenly
        spaced quantiles with one random offset (systematic sampling), so that counts are off by less than one row a
        cell, while columns that hang on the same parent stay independent given it.
        """
        codes = np.zeros((rows, len(self.schema.sizes)), dtype=np.int32)
        probabilities = self.probabilities()
        steps: list[tuple[int, Columns]] = [(0, ())] + [(edge.child, edge.shared) for edge in self.tree.edges]
        for clique, shared in steps:
            self._extend(codes, clique, shared, probabilities[clique], rng=rng)
        return Table(schema=self.schema, codes=codes)

    def _extend(
        self, codes: npt.NDArray[np.int32], clique: int, shared: Columns, cells: FloatArray, *, rng: np.random.Generator
    ) -> None:
        """Fills in the columns of a clique that are not shared with its parent."""
        columns, sizes = self.tree.cliques[clique], self.tree.sizes
        new = tuple(column for column in columns if column not in shared)
        table = np.transpose(cells, [columns.index(column) for column in shared + new])
        groups = math.prod(sizes[column] for column in shared)
        table = table.reshape(groups, -1)
        heights = np.cumsum(table, axis=1)
        tops = heights[:, -1:]
        heights = np.where(tops > 0, heights / np.where(tops > 0, tops, 1), np.linspace(0, 1, table.shape[1] + 1)[1:])
        group = _ravel(codes, shared, sizes)
        order = rng.permutation(len(codes))
        order = order[np.argsort(group[order], kind="stable")]
        sizes_of = np.bincount(group, minlength=groups)
        ordered = group[order]
        place = np.arange(len(codes)) - (np.cumsum(sizes_of) - sizes_of)[ordered]
        quantile = (place + rng.random(groups)[ordered]) / np.maximum(sizes_of, 1)[ordered]
        ladder = (heights + np.arange(groups)[:, None]).ravel()
        cell = np.searchsorted(ladder, ordered + quantile, side="right") - ordered * table.shape[1]
        cell = np.clip(cell, 0, table.shape[1] - 1)
        for column, values in zip(new, np.unravel_index(cell, [sizes[column] for column in new]), strict=True):
            codes[order, column] = values

    def save(self, folder: Path) -> None:
        """Writes `model.json` and `model.npz`: no pickle, no rows."""
        folder.mkdir()
        arrays: dict[str, npt.NDArray[Any]] = {f"factor_{i}": factor for i, factor in enumerate(self.factors)}
        arrays |= {f"measurement_{i}": m.values for i, m in enumerate(self.measurements)}
        facts = {
            "format": _FORMAT,
            "total": self.total,
            "cliques": [list(clique) for clique in self.tree.cliques],
            "measurements": [
                {"columns": list(m.columns), "sigma_squared": str(m.sigma_squared), "rho": str(m.cost.rho)}
                for m in self.measurements
            ],
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
            with (folder / "model.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                tree = JunctionTree(schema.sizes, [tuple(clique) for clique in facts["cliques"]])
                factors = tuple(arrays[f"factor_{i}"] for i in range(len(tree.cliques)))
                measurements = tuple(
                    Measurement(
                        columns=tuple(m["columns"]),
                        values=arrays[f"measurement_{i}"],
                        sigma_squared=Fraction(m["sigma_squared"]),
                        cost=Cost.zcdp(Fraction(m["rho"])),
                    )
                    for i, m in enumerate(facts["measurements"])
                )
            found = [list(clique) for clique in tree.cliques]
            if facts["format"] != _FORMAT or found != facts["cliques"]:
                raise ValueError
            if any(factor.shape != shape for factor, shape in zip(factors, tree.shapes, strict=True)):
                raise ValueError
            total = float(facts["total"])
            if not (math.isfinite(total) and total >= 1 and all(np.isfinite(factor).all() for factor in factors)):
                raise ValueError
            return cls(
                schema=schema,
                measurements=measurements,
                total=total,
                tree=tree,
                factors=factors,
            )
        except (OSError, EOFError, zipfile.BadZipFile, ValueError, ArithmeticError, LookupError, TypeError):
            raise IntegrityError("the model in this release cannot be read: check it with `dpsynth verify`") from None


def _ravel(codes: npt.NDArray[np.int32], columns: Columns, sizes: Sequence[int]) -> npt.NDArray[np.int64]:
    """Each row's cell in the table over `columns`, counted in C order."""
    cell = np.zeros(len(codes), dtype=np.int64)
    for column in columns:
        cell = cell * sizes[column] + codes[:, column]
    return cell
