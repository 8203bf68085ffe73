"""What the attackers of a shadow-model attack keep of each run.

`Agreement` counts synthetic rows that share a target's values, `Nearest` measures how near they come and guesses its
sensitive values, `WhiteBox` reads the noisy counts. What is learned from many runs, and what it shows, is in
`attacks.shadow`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from attacks.distances import UNIT, Metric
from attacks.people import MISSING, BoolVector, FloatMatrix, FloatVector, IntMatrix, IntVector, Rows
from attacks.shadow_game import Coins
from dpsynth import Column, Measurement, Trial

WIDEST = 18  # bits: up to here all sets of columns are counted
NARROW = 14  # bits of a random choice of columns where there are more
FEWEST_CHOICES, MOST_CHOICES = 4, 8  # of such choices
MOST_FEATURES = 2_048  # that a learner is given, the most telling of the learning runs
CHUNK = 2**19  # counts held at a time: two megabytes
RANKS = (1, 2, 5, 20)  # of the nearest synthetic rows


@dataclass(frozen=True, eq=False)
class Sight:
    """A synthetic table as the attackers on rows read it, made once for all targets.

    Args:
        columns: What the columns are, in the order of their names.
        numbers: Values of numeric columns, by place.
        near: Coordinates of numeric columns, as `attacks.distances` has them; shape (coordinates, rows) for each.
        cells: Codes of all columns, shape (columns, rows).
    """

    columns: tuple[Column, ...]
    numbers: Mapping[int, FloatVector]
    near: Mapping[int, FloatMatrix]
    cells: npt.NDArray[np.int32]

    @classmethod
    def of(cls, rows: Rows, metric: Metric) -> Sight:
        numeric = [place for place, column in enumerate(rows.columns) if column.is_numeric]
        return cls(
            rows.columns,
            {place: np.ascontiguousarray(rows.values[:, place]) for place in numeric},
            {place: np.ascontiguousarray(metric.points(rows, [place]).near.T) for place in numeric},
            np.ascontiguousarray(rows.cells.T, dtype=np.int32),
        )

    def __len__(self) -> int:
        return int(self.cells.shape[1])

    def take(self, row: int) -> Sight:
        """One of the rows."""
        one = slice(row, row + 1)
        return Sight(
            self.columns,
            {place: values[one] for place, values in self.numbers.items()},
            {place: values[:, one] for place, values in self.near.items()},
            self.cells[:, one],
        )

    def agreeing(self, other: Sight, place: int) -> list[BoolVector]:
        """Bits of one column, for each row: equal to the one row of `other`; for numbers not above, and not below."""
        if place not in self.numbers:
            return [self.cells[place] == other.cells[place, 0]]
        here, there = self.numbers[place], other.numbers[place][0]
        if there == MISSING:
            return [here == MISSING] * 2
        return [here <= there, (here >= there) & (here != MISSING)]

    def distances(self, other: Sight, places: Sequence[int]) -> FloatVector:
        """Squared distances of all rows from the one row of `other` on these columns, in whole steps."""
        differing = np.zeros(len(self), dtype=np.int32)
        squared = np.zeros(len(self))
        for place in places:
            if place in self.near:
                for here, there in zip(self.near[place], other.near[place][:, 0], strict=True):
                    apart = here - there
                    apart *= apart
                    squared += apart
            else:
                differing += self.cells[place] != other.cells[place, 0]
        squared += differing * float(UNIT) ** 2
        return squared


class Agreement:
    """On how many synthetic rows a target's values stand together, for every set of columns.

    A category gives one bit, equal or not; a number gives two, not above and not below. Of tables with more than 18 bits
    random choices of columns are used, each of up to 14 bits.

    Args:
        target: The target's rows.
        rng: For the choice of columns.
    """

    def __init__(self, target: Sight, *, rng: np.random.Generator) -> None:
        self._rows = [target.take(row) for row in range(len(target))]
        self._choices = _choices(target.columns, rng)
        widths = [sum(_bits(target.columns[place]) for place in chosen) for chosen in self._choices]
        self._ends = np.cumsum([0, *(1 << width for width in widths)]).tolist()
        self._seen: list[tuple[npt.NDArray[Any], npt.NDArray[Any]]] = []

    @property
    def size(self) -> int:
        """The number of counts."""
        return int(self._ends[-1])

    def __len__(self) -> int:
        return len(self._seen)

    def observe(self, synthetic: Sight) -> None:
        """Keeps how often each pattern of agreement occurs, over the target's rows together."""
        masks: list[npt.NDArray[np.int32]] = []
        for row in self._rows:
            bits = {place: synthetic.agreeing(row, place) for chosen in self._choices for place in chosen.tolist()}
            for start, chosen in zip(self._ends, self._choices, strict=False):
                masks.append(_mask([bit for place in chosen.tolist() for bit in bits[place]], len(synthetic)) + start)
        every = np.concatenate(masks)
        if self.size <= 2 * len(every):
            counts = np.bincount(every, minlength=self.size)
            patterns = np.flatnonzero(counts)
            counts = counts[patterns]
        else:
            patterns, counts = np.unique(every, return_counts=True)
        small = np.uint16 if max(self.size, len(every)) < 2**16 else np.uint32  # these add up to a large part of memory
        self._seen.append((patterns.astype(small), counts.astype(small)))

    def counts(self, fits: range) -> npt.NDArray[np.float32]:
        """For each of these runs the number of rows that agree on each set; shape (size, fits)."""
        out = np.zeros((self.size, len(fits)), dtype=np.float32)
        for place, fit in enumerate(fits):
            cells, counts = self._seen[fit]
            out[cells, place] = counts
        for start, end in pairwise(self._ends):
            superset_sums(out[start:end])
        return out

    def features(self, coins: Coins, target: int) -> FloatMatrix:
        """Roots of the counts; where they are many, those that tell most about the target in the learning runs."""
        kept: IntVector | slice = slice(None)
        if self.size > MOST_FEATURES:
            strength = self._strength(coins, target)
            kept = np.sort(np.lexsort((np.arange(self.size), -strength))[:MOST_FEATURES])
        parts = [np.sqrt(self.counts(part)[kept]).T for part in self._chunks(len(self))]
        return np.concatenate(parts).astype(np.float64)

    def _chunks(self, stop: int) -> Iterator[range]:
        step = max(CHUNK // self.size, 8)
        for start in range(0, stop, step):
            yield range(start, min(start + step, stop))

    def _strength(self, coins: Coins, target: int) -> FloatVector:
        """The size of each count's t-statistic for the target's coin, given the other coins."""
        learning = coins.learning.stop
        design = np.column_stack([coins.inside[:learning, target], coins.design(target)[:learning]]).astype(np.float64)
        cross, squares = np.zeros((self.size, design.shape[1])), np.zeros(self.size)
        for part in self._chunks(learning):
            counts = self.counts(part)
            squares += counts.sum(axis=1)  # of roots
            cross += np.sqrt(counts, out=counts) @ design[part.start : part.stop].astype(np.float32)
        slopes = cross @ np.linalg.pinv(design.T @ design)
        rest = np.maximum(squares - np.einsum("ij,ij->i", slopes, cross), 1e-3)
        return np.asarray(np.round(np.abs(slopes[:, 0]) / np.sqrt(rest), 6))


def superset_sums(counts: npt.NDArray[np.float32]) -> None:
    """Turns counts of exact patterns into counts of patterns that contain each, in place; shape (2 ** bits, fits).

    A pattern is the set of bits in its number. One bit at a time: a row that agrees on more agrees on less.
    """
    step = 1
    while step < len(counts):
        halves = counts.reshape(-1, 2, step * counts.shape[1])
        halves[:, 0] += halves[:, 1]
        step *= 2


def _mask(bits: Sequence[BoolVector], rows: int) -> npt.NDArray[np.int32]:
    """The bits of each row as a number, the first one lowest."""
    mask = np.zeros(rows, dtype=np.int32)
    for start in range(0, len(bits), 8):  # a byte at a time is several times as fast
        byte = np.zeros(rows, dtype=np.uint8)
        for place, bit in enumerate(bits[start : start + 8]):
            byte |= bit.view(np.uint8) << np.uint8(place)
        mask |= byte.astype(np.int32) << np.int32(start)
    return mask


def _bits(column: Column) -> int:
    return 2 if column.is_numeric else 1


def _choices(columns: Sequence[Column], rng: np.random.Generator) -> list[IntVector]:
    """Sets of columns that fit into a table of counts: all together, or random ones that cover all, in turns."""
    places = np.array([place for place, column in enumerate(columns) if column.size > 1], dtype=np.int64)
    if sum(_bits(columns[place]) for place in places) <= WIDEST:
        return [places]
    choices: list[IntVector] = []
    while len(choices) < FEWEST_CHOICES:
        chosen: list[int] = []
        for place in rng.permutation(places).tolist():
            if sum(_bits(columns[p]) for p in [*chosen, place]) > NARROW:
                choices.append(np.sort(np.array(chosen)))
                chosen = []
            chosen.append(place)
        choices.append(np.sort(np.array(chosen)))
    return choices[:MOST_CHOICES]


class Nearest:
    """How far the synthetic rows lie from each target, and what they say about its sensitive values.

    Distances are those of `attacks.distances`. The guesses are, for each row of the target and each sensitive column,
    the cell most common among the rows nearest on all other columns, and the cell most likely by frequencies: that of
    the cell, times, for each other column, that of the target's cell there among the rows with the sensitive cell; half
    a row is added to every count.

    Args:
        targets: The rows of each target.
        secret: Where the sensitive columns stand.
    """

    def __init__(self, targets: Sequence[Sight], secret: Sequence[int]) -> None:
        self._targets = [[target.take(row) for row in range(len(target))] for target in targets]
        self._columns = targets[0].columns
        self._secret = list(secret)
        self._known = [place for place in range(len(self._columns)) if place not in self._secret]
        if not self._known:
            self._secret = []
        self.distances: list[list[FloatVector]] = [[] for _ in targets]
        self.guesses: list[list[BoolVector]] = [[] for _ in targets]

    def rules(self, target: int) -> list[str]:
        """What the guesses about a target go by, in words."""
        names = [self._columns[place].name for place in self._secret]
        return [
            f"{name}, {how}" for _ in self._targets[target] for name in names for how in ("nearest rows", "frequencies")
        ]

    def observe(self, synthetic: Sight) -> None:
        """Keeps distances and guesses of one run."""
        tables = {place: self._together(synthetic, place) for place in self._secret}
        secret = {place: synthetic.cells[place] for place in self._secret}
        for target, rows in enumerate(self._targets):
            nearest: list[FloatVector] = []
            right: list[bool] = []
            for row in rows:
                squared = synthetic.distances(row, self._known)
                closest = np.flatnonzero(squared == squared.min()) if self._secret and len(squared) else None
                for place in self._secret:
                    if closest is None:
                        right += [False, False]
                        continue
                    among = np.bincount(secret[place][closest])
                    likely = sum(tables[place][known][:, row.cells[known, 0]] for known in self._known)
                    likely = np.round(likely + tables[place][place][:, 0], 9)
                    right += [int(np.argmax(guess)) == row.cells[place, 0] for guess in (among, likely)]
                squared += synthetic.distances(row, self._secret)
                nearest.append(_smallest(squared, len(self._columns)))
            self.distances[target].append(np.min(nearest, axis=0))
            self.guesses[target].append(np.array(right, dtype=bool))

    def _together(self, synthetic: Sight, secret: int) -> dict[int, FloatMatrix]:
        """For each known column the logarithm of the frequency of its cells given the sensitive cell.

        Shape (sensitive cells, cells); for the sensitive column itself that of its own cells, shape (cells, 1).
        """
        size = self._columns[secret].size
        held = np.bincount(synthetic.cells[secret], minlength=size).astype(np.float64)[:, None]
        out = {secret: np.log(held + 0.5)}
        for place in self._known:
            width = self._columns[place].size
            pairs = synthetic.cells[secret] * np.int64(width) + synthetic.cells[place]
            counts = np.bincount(pairs, minlength=size * width).reshape(size, width)
            out[place] = np.log((counts + 0.5) / (held + 0.5 * width))
        return out


def _smallest(squared: FloatVector, columns: int) -> FloatVector:
    """Distances to the nearest rows by rank, and how many rows lie at no distance; farther than any where none is."""
    out = np.full(len(RANKS) + 1, math.sqrt(columns) + 1)
    out[-1] = np.count_nonzero(squared == 0)
    there = [rank for rank in RANKS if rank <= len(squared)]
    if there:
        part = np.partition(squared, [rank - 1 for rank in there])
        out[: len(there)] = np.sqrt(part[[rank - 1 for rank in there]]) / UNIT
    return out


class WhiteBox:
    """Reads the noisy counts: for each target the logarithm of the likelihood ratio, given everybody else.

    The score is the sum of (noisy - expected) d / sigma^2 over the cells that the target moves by d, where the expected
    count is that of everybody else plus d / 2. It is the best there is for Gaussian noise, up to rows that the curator
    cuts at random from persons who have too many: those count by their chance to stay.

    Args:
        codes: Cells of all rows, columns as the schema has them; shape (rows, columns).
        person: Whose each row is.
        targets: Persons under attack.
        standing_in: Cells of the rows that stand in for each; empty where nobody does.
        max_rows: Rows that count, of each person.
    """

    def __init__(
        self,
        codes: IntMatrix,
        person: IntVector,
        targets: IntVector,
        standing_in: Sequence[IntMatrix],
        max_rows: int,
    ) -> None:
        held = np.bincount(person)[person]
        stays = np.minimum(1.0, max_rows / held)
        others = ~np.isin(person, targets)
        self._codes, self._stays = codes[others], stays[others]
        self._moving: list[tuple[IntMatrix, float]] = []
        for rows in [*(codes[person == target] for target in targets), *standing_in]:
            self._moving.append((rows, min(1.0, max_rows / max(len(rows), 1))))
        self._targets, self._replaced = len(targets), bool(standing_in)
        self._known: dict[Any, tuple[IntVector, FloatVector, FloatMatrix]] = {}
        self.scores: list[FloatVector] = []
        self.chosen: list[frozenset[tuple[int, ...]]] = []

    def observe(self, trial: Trial, inside: BoolVector) -> None:
        """Keeps the scores of one run; each target's own coin is not used for its score."""
        there = inside.astype(np.float64)
        present = np.concatenate([there, 1 - there]) if self._replaced else there
        score = np.zeros(self._targets)
        for measurement in trial.measurements:
            cells, always, moving = self._cells(measurement, trial.coarse)
            moves = moving[: self._targets] - (moving[self._targets :] if self._replaced else 0.0)
            left = measurement.values.ravel()[cells] - always - present @ moving
            # what is left over if the target is half there, whether it was there or not
            score += (moves @ left + (there - 0.5) * np.einsum("ij,ij->i", moves, moves)) / float(
                measurement.sigma_squared
            )
        self.scores.append(score)
        self.chosen.append(frozenset(measurement.columns for measurement in trial.measurements))

    def _cells(self, measurement: Measurement, coarse: Sequence[Any]) -> tuple[IntVector, FloatVector, FloatMatrix]:
        """Cells in which a target or who stands in for it has a row, others' counts there, and these rows' counts."""
        width = self._codes.shape[1]
        made = [coarse[c - width] for c in measurement.columns if c >= width]
        merging = tuple((this.column, this.groups.tobytes()) for this in made)
        key = (measurement.columns, merging)
        if key not in self._known:
            if len(self._known) > 4096:
                self._known.clear()
            shape = measurement.values.shape
            moving = [_flat(rows, measurement.columns, coarse, shape) for rows, _ in self._moving]
            cells = np.unique(np.concatenate(moving))
            counts = np.zeros((len(moving), len(cells)))
            for counted, mine, (_, stays) in zip(counts, moving, self._moving, strict=True):
                np.add.at(counted, np.searchsorted(cells, mine), stays)
            flat = _flat(self._codes, measurement.columns, coarse, shape)
            place = np.minimum(np.searchsorted(cells, flat), len(cells) - 1)
            hit = cells[place] == flat
            always = np.bincount(place[hit], weights=self._stays[hit], minlength=len(cells))
            self._known[key] = (cells.astype(np.int64), always.astype(np.float64), counts)
        return self._known[key]


def _flat(codes: IntMatrix, columns: Sequence[int], coarse: Sequence[Any], shape: tuple[int, ...]) -> IntVector:
    """In which cell of a marginal each row lies, its cells numbered through."""

    def of(column: int) -> IntVector:
        if column < codes.shape[1]:
            return np.asarray(codes[:, column], dtype=np.int64)
        made = coarse[column - codes.shape[1]]
        return np.asarray(made.groups[of(made.column)], dtype=np.int64)

    return np.asarray(np.ravel_multi_index([of(column) for column in columns], shape), dtype=np.int64)
