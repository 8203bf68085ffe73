"""The model of a trained network: its weights, and the noisy counts it was calibrated to. Sampling is plain NumPy.

Rows are drawn column by column. What the schema's constraints rule out is never drawn: columns that constraints tie
together come first, in an order in which each has a possible cell whatever came before it.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dpsynth.coarsening import Coarse
from dpsynth.errors import IntegrityError, UsageError
from dpsynth.mechanisms.base import Columns, CycleCounts, Measurement, by_column
from dpsynth.models.base import require_charged
from dpsynth.models.graphical import cycles_of, fraction_of, possible_cells
from dpsynth.models.sampling import Codes
from dpsynth.privacy import Cost
from dpsynth.randomness import attack_generator
from dpsynth.schema import Schema
from dpsynth.table import Table

FORMAT = "dpsynth.network/1"
_MOST_NUMBERS = 2**26  # of a model that is read from a file
_BLOCK = 128  # rows drawn at a time, in an order of columns of their own: a network is not the same in every order
_ROUNDS = 5  # of calibration
_CALIBRATION_ROWS = 10_000
_CALIBRATION_SEED = 20261123
_LARGEST_STEP = 1.0  # of an offset in one round of calibration

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
Layers = tuple[tuple[FloatArray, FloatArray], ...]


class Drawing(Protocol):
    """Rows that are being drawn together."""

    def logits(self, cells: slice) -> FloatArray:
        """Logits of the cells of one column, for each row; shape (rows, cells)."""
        ...

    def reveal(self, column: int, cells: npt.NDArray[np.int64]) -> None:
        """Says which cell of a column each row has got, counted over all columns."""
        ...


class _Masked:
    """A network that completes rows: it sees the known cells, and which columns are known (`neural/ardm.py`)."""

    def __init__(self, layers: Layers, rows: int, *, rng: np.random.Generator) -> None:
        self._layers = layers
        weight, bias = layers[0]
        self._columns = weight.T  # one row an input
        self._sum = np.tile(bias, (rows, 1))

    def logits(self, cells: slice) -> FloatArray:
        hidden = np.maximum(self._sum, 0)
        for weight, bias in self._layers[1:-1]:
            hidden = hidden + np.maximum(hidden @ weight.T + bias, 0)
        weight, bias = self._layers[-1]
        out: FloatArray = hidden @ weight[cells].T + bias[cells]
        return out

    def reveal(self, column: int, cells: npt.NDArray[np.int64]) -> None:
        self._sum += self._columns[cells] + self._columns[len(self._layers[-1][1]) + column]


class _Decoder:
    """A network that turns Gaussian numbers into rows (`neural/vae.py`)."""

    def __init__(self, layers: Layers, rows: int, *, rng: np.random.Generator) -> None:
        hidden = rng.standard_normal((rows, layers[0][0].shape[1]), dtype=np.float32)
        for weight, bias in layers[:-1]:
            hidden = np.maximum(hidden @ weight.T + bias, 0)
        self._logits: FloatArray = hidden @ layers[-1][0].T + layers[-1][1]

    def logits(self, cells: slice) -> FloatArray:
        return self._logits[:, cells]

    def reveal(self, column: int, cells: npt.NDArray[np.int64]) -> None:
        pass


KINDS: dict[str, Callable[..., Drawing]] = {"ardm": _Masked, "vae": _Decoder}


@dataclass(frozen=True, kw_only=True, eq=False)
class NetworkModel:
    """A distribution over tables; satisfies `models.base.Model`.

    Args:
        schema: What the columns mean.
        measurements: The noisy counts of single columns.
        total: Estimated number of rows on the fit side, at least 1.
        kind: How the network is asked, one of `KINDS`.
        layers: Weight, shape (outputs, inputs), and bias of each linear layer, float32.
        offsets: What is added to the logit of each cell of each column; shape (all cells,), float32.
        cycles: Noisy counts that dates and times follow inside their cells.
    """

    schema: Schema
    measurements: tuple[Measurement, ...]
    total: float
    kind: str
    layers: Layers
    offsets: FloatArray
    cycles: tuple[CycleCounts, ...] = ()

    @property
    def coarse(self) -> Sequence[Coarse]:
        """None: every column is modelled as declared."""
        return ()

    @cached_property
    def _plan(self) -> _Plan:
        return _Plan(self.schema)

    def sample(
        self, rows: int, *, rng: np.random.Generator, where: str | None = None, balance: str | None = None
    ) -> Table:
        """`rows` synthetic rows.

        Raises:
            UsageError: a condition was given; a network has no exact conditional distribution.
        """
        if where is not None or balance is not None:
            raise UsageError(
                "a network cannot draw rows under a condition: leave out --where and --balance, or release with aim"
            )
        codes = np.zeros((rows, len(self.schema.sizes)), dtype=np.int32, order="F")
        for start in range(0, rows, _BLOCK):
            codes[start : start + _BLOCK] = self._block(min(_BLOCK, rows - start), rng=rng)
        masses = {
            place: np.bincount(codes[:, place], minlength=column.size).astype(np.float64)
            for place, column in enumerate(self.schema.modelled)
            if column.is_numeric
        }  # of the rows themselves: a network has no closed form of them
        return Table(schema=self.schema, codes=codes, rules=self.schema.rules.shaped(masses, by_column(self.cycles)))

    def _block(self, rows: int, *, rng: np.random.Generator) -> Codes:
        plan, codes = self._plan, np.zeros((rows, len(self.schema.sizes)), dtype=np.int32)
        drawing = KINDS[self.kind](self.layers, rows, rng=rng)
        for column, earlier, mask in [*plan.tied, *((int(c), (), None) for c in rng.permutation(plan.free))]:
            first = plan.starts[column]
            cells = slice(first, first + self.schema.sizes[column])
            logits = drawing.logits(cells) + self.offsets[cells]
            allowed = None if mask is None else mask[tuple(codes[:, c] for c in earlier)]
            cell = _drawn(logits, allowed, rng=rng)
            codes[:, column] = cell
            drawing.reveal(column, cell + first)
        return codes

    def calibrated(self, shares: Sequence[npt.NDArray[np.float64]]) -> NetworkModel:
        """The same network with offsets moved until single columns come out as `shares` say: post-processing.

        Args:
            shares: For each column the share of rows in each cell, estimated from noisy counts.
        """
        model, rng = self, attack_generator(_CALIBRATION_SEED)
        wanted = np.concatenate(shares)
        for number in range(_ROUNDS):
            codes = model.sample(_CALIBRATION_ROWS, rng=rng).codes
            found = np.concatenate(
                [np.bincount(codes[:, c], minlength=size) for c, size in enumerate(self.schema.sizes)]
            )
            least = 1 / _CALIBRATION_ROWS  # a cell as rare as that is not seen, and left alone
            step = np.log((wanted + least) / (found / _CALIBRATION_ROWS + least))
            step = np.clip(step, -_LARGEST_STEP, _LARGEST_STEP) / max(1, number - 1)  # less as sampling error is left
            offsets = model.offsets + step
            model = replace(model, offsets=offsets.astype(np.float32))
        return model

    def save(self, folder: Path) -> None:
        """Writes `model.json` and `model.npz`: no pickle, no rows.

        Raises:
            PrivacyRefusal: no ledger was charged for what it was fitted on.
        """
        require_charged([*self.measurements, *self.cycles])
        folder.mkdir()
        arrays: dict[str, npt.NDArray[Any]] = {"offsets": self.offsets}
        for i, (weight, bias) in enumerate(self.layers):
            arrays |= {f"weight_{i}": weight, f"bias_{i}": bias}
        arrays |= {f"measurement_{i}": m.values for i, m in enumerate(self.measurements)}
        facts = {
            "format": FORMAT,
            "kind": self.kind,
            "total": self.total,
            "layers": len(self.layers),
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
    def load(cls, folder: Path, schema: Schema) -> NetworkModel:
        """Reads what `save` wrote.

        Raises:
            IntegrityError: the folder does not hold a network for this schema.
        """
        try:
            facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            if facts["format"] != FORMAT or facts["kind"] not in KINDS:
                raise ValueError
            with zipfile.ZipFile(folder / "model.npz") as archive:
                if sum(entry.file_size for entry in archive.infolist()) > 8 * _MOST_NUMBERS:
                    raise ValueError
            with (folder / "model.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                layers = tuple((arrays[f"weight_{i}"], arrays[f"bias_{i}"]) for i in range(int(facts["layers"])))
                measurements = tuple(
                    Measurement(
                        columns=tuple(m["columns"]),
                        values=arrays[f"measurement_{i}"],
                        sigma_squared=fraction_of(m["sigma_squared"]),
                        cost=Cost.zcdp(fraction_of(m["rho"])),
                    )
                    for i, m in enumerate(facts["measurements"])
                )
                offsets = arrays["offsets"]
            if any(m.values.dtype != np.int64 or m.sigma_squared == 0 for m in measurements):
                raise ValueError
            for m in measurements:
                if m.values.shape != tuple(schema.sizes[column] for column in m.columns):
                    raise ValueError
            total = float(facts["total"])
            if not (math.isfinite(total) and total >= 1):
                raise ValueError
            _check_layers(facts["kind"], layers, offsets, schema)
            return cls(
                schema=schema,
                measurements=measurements,
                total=total,
                kind=facts["kind"],
                layers=layers,
                offsets=offsets,
                cycles=cycles_of(facts, schema),
            )
        except (OSError, EOFError, zipfile.BadZipFile, ValueError, ArithmeticError, LookupError, TypeError):
            raise IntegrityError("the model in this release cannot be read: check it with `dpsynth verify`") from None


def _check_layers(kind: str, layers: Layers, offsets: FloatArray, schema: Schema) -> None:
    """Refuses arrays that do not fit each other or the schema."""
    cells = sum(schema.sizes)
    numbers = [offsets, *(array for layer in layers for array in layer)]
    if len(layers) < 2 or any(a.dtype != np.float32 or not np.isfinite(a).all() for a in numbers):
        raise ValueError
    widths = [weight.shape[1] for weight, _ in layers] + [cells]
    if any(weight.ndim != 2 for weight, _ in layers) or offsets.shape != (cells,):
        raise ValueError
    if any(weight.shape != (to, into) or bias.shape != (to,) for (weight, bias), into, to in _steps(layers, widths)):
        raise ValueError
    if kind == "ardm" and (widths[0] != cells + len(schema.sizes) or len(set(widths[1:-1])) > 1):
        raise ValueError


def _steps(layers: Layers, widths: Sequence[int]) -> list[tuple[tuple[FloatArray, FloatArray], int, int]]:
    return list(zip(layers, widths[:-1], widths[1:], strict=True))


class _Plan:
    """In which order columns are drawn, and what each may be.

    `tied` holds for each column that constraints speak of the columns drawn before it that matter, and a mask over their
    cells and its own; `free` are all others. After calibration each clique of the junction tree holds exactly the cells
    that can be completed, so in the order of the tree the cells of a column that go with those before it are never none.
    """

    def __init__(self, schema: Schema) -> None:
        sizes = schema.sizes
        self.starts = [sum(sizes[:column]) for column in range(len(sizes))]
        self.tied: list[tuple[int, Columns, BoolArray | None]] = []
        tree, possible = possible_cells(schema)
        drawn: set[int] = set()
        for index in [0, *(edge.child for edge in tree.edges)] if tree.cliques else []:
            clique, table = tree.cliques[index], possible[index]
            if len(clique) == 1 and table.all():
                continue  # no constraint speaks of it
            for column in clique:
                if column in drawn:
                    continue
                earlier = tuple(c for c in clique if c in drawn)
                kept = (*earlier, column)
                mask = np.asarray(table.any(axis=tuple(axis for axis, c in enumerate(clique) if c not in kept)))
                ranked = sorted(kept)
                self.tied.append((column, earlier, mask.transpose([ranked.index(c) for c in kept])))
                drawn.add(column)
        self.free = np.array([column for column in range(len(sizes)) if column not in drawn], dtype=np.int64)


def _drawn(logits: FloatArray, allowed: BoolArray | None, *, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """A cell for each row, by its logits, among the allowed ones; `allowed` has the shape of the logits."""
    if allowed is not None:
        logits = np.where(allowed, logits, -np.inf)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
    heights = np.cumsum(weights, axis=1)
    cells: npt.NDArray[np.int64] = (heights <= rng.random((len(logits), 1)) * heights[:, -1:]).sum(axis=1)
    last = weights.shape[1] - 1 - (weights[:, ::-1] > 0).argmax(axis=1)  # whatever rounding does
    found: npt.NDArray[np.int64] = np.minimum(cells, last)
    return found
