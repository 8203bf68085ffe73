"""The attacks whose successes may be counted for others to see, once noise is added and paid for.

They qualify because each is a fixed function of one person's own rows and the synthetic table: every threshold, every
weight and every random choice is made from the synthetic table and the public schema. So a person who is added or
removed changes no other person's success, and at most one success of each attack (compliance.md 5.6). Nothing here sees
fitted or control persons before `succeeds` is called on one side of them.

What stands in for people of the population, whom such an attacker may not use, is a twin of the synthetic table: rows
drawn from the tree of two-column marginals that fits it best (Chow and Liu, IEEE Trans. Inf. Theory 14 (1968) 462).
The twin knows what a good model of the population knows, and has forgotten every single row. Successes are defined so
that they are rare on people who were not fitted: about `CHANCE` of them at most, by the twin's measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from attacks.distances import Points, nearest, one_thread, placed
from attacks.intervals import Interval, excess_interval, noisy_rate_interval
from attacks.linkage import roles
from attacks.people import BoolVector, FloatMatrix, FloatVector, IntMatrix, IntVector, Rows
from dpsynth import AttackCounts, Column, PersonRecords, Records, attack_generator

Words = npt.NDArray[np.uint64]

CHANCE = 0.15  # expected share of chance successes is at most this, and much less where columns depend on one another
CLOSE = 0.02  # share of twin rows that count as close
NEARLY = 0.05  # distances below this, in units of a column, are all as good as none
MOST_ROWS = 20_000  # of the synthetic table, for distances
CALIBRATION = 4_000  # rows of a second twin that say what close means
CHARGED_CONFIDENCE = 0.90
PUBLIC_SEED = 0x7155  # of choices that need no secrecy: they are made from the synthetic table alone


def qualified_tests(synthetic: Records) -> tuple[QualifiedTest, ...]:
    """The four attacks on this synthetic table whose successes can be counted; `SUCCESS` says what each counts.

    The table and its schema are all that goes into them. The number of rows a person may have (public, from the schema)
    makes each row's chance of a success smaller, so that the person's stays about the same.
    """
    table = Rows.of(synthetic).sorted()
    schema = synthetic.schema
    rows = schema.unit.max_rows
    if not len(table) or not table.columns:
        return tuple(Never(id=name, success=said) for name, said in SUCCESS.items())
    dependence = Dependence.of(table.cells)
    return (
        _exact_match(table, dependence, rows),
        _membership(table, dependence, rows),
        _linkage(table, dependence, rows),
        _attribute_inference(table, dependence, rows),
    )


SUCCESS = {
    "exact_match": "a row of the person appears in the synthetic table, cell for cell, although the table's own "
    "two-column marginals make such a row improbable",
    "membership": "a row of the person lies much nearer to the synthetic table than to a twin of it that keeps the "
    "two-column marginals and no row",
    "linkage": "the person's quasi-identifiers lead to a synthetic row that also carries all sensitive values, or all "
    "other values but one, although the table's own two-column marginals make such a row improbable",
    "attribute_inference": "the person's values that are not sensitive lead to a synthetic row with the right value of "
    "a sensitive column, although the table's own two-column marginals make such a row improbable",
}


# ---- tests -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Never:
    """No person succeeds: there is no synthetic row to attack with."""

    id: str
    success: str

    def succeeds(self, sample: PersonRecords) -> BoolVector:
        """Nobody; shape (persons,)."""
        return np.zeros(sample.persons, dtype=bool)


@dataclass(frozen=True, kw_only=True, eq=False)
class CellMatch:
    """Whether a row of the person equals one of some rows on some columns.

    Args:
        id: Name of the attack.
        success: What counts as a success, in words.
        choices: Columns, and the 64-bit words of the combinations of their cells that count, any of which will do.
            Two different combinations share a word with a chance of about 10^-19.
    """

    id: str
    success: str
    choices: tuple[tuple[list[int], Words], ...]

    def succeeds(self, sample: PersonRecords) -> BoolVector:
        """Whether any row of the person is among them; shape (persons,)."""
        rows = Rows.of(sample.records)
        words = _words(rows.columns, rows.cells)
        hit = np.zeros(len(rows), dtype=bool)
        for places, wanted in self.choices:
            hit |= np.isin(np.bitwise_xor.reduce(words[:, places], axis=1), wanted)
        return _any(hit, sample)


@dataclass(frozen=True, kw_only=True, eq=False)
class Closeness:
    """Whether a row of the person lies nearer to one set of points than to another, by a fixed factor.

    Distances are whole numbers computed without rounding, so no person's depends on whose rows share its block.

    Args:
        id: Name of the attack.
        success: What counts as a success, in words.
        near: Points of the synthetic table.
        twin: Points of its twin.
        threshold: A ratio of distances below this is a success.
    """

    id: str
    success: str
    near: Points
    twin: Points
    threshold: float

    @one_thread
    def succeeds(self, sample: PersonRecords) -> BoolVector:
        """Whether any row of the person is that near; shape (persons,)."""
        rows = Rows.of(sample.records)
        points = _points(rows.columns, rows.cells)
        return _any(_ratio(points, self.near, self.twin) < self.threshold, sample)


QualifiedTest: TypeAlias = Never | CellMatch | Closeness  # each of them a `dpsynth.PersonTest`


def _any(hit: BoolVector, sample: PersonRecords) -> BoolVector:
    found = np.zeros(sample.persons, dtype=bool)
    found[sample.person[hit]] = True
    return found


def _exact_match(table: Rows, dependence: Dependence, rows: int) -> CellMatch:
    """Copies of rows that should not be there twice: once in the data, and once more in the synthetic table."""
    return _match("exact_match", table, dependence, [(list(range(len(table.columns))), CHANCE / rows)])


def _linkage(table: Rows, dependence: Dependence, rows: int) -> CellMatch:
    """From the quasi-identifiers to the sensitive values, or to all other values but one."""
    known, secret = roles(table)
    rest = [place for place in range(len(table.columns)) if place not in known]
    choices = [(sorted({*known, *secret}), CHANCE / 2 / rows)]
    if len(rest) > 1:
        choices += [(sorted({*known, *rest} - {wrong}), CHANCE / 2 / rows / len(rest)) for wrong in rest]
    return _match("linkage", table, dependence, choices)


def _attribute_inference(table: Rows, dependence: Dependence, rows: int) -> CellMatch:
    """From all that is not sensitive to one sensitive value."""
    _, secret = roles(table)
    known = [place for place in range(len(table.columns)) if place not in secret]
    choices = [(sorted({*known, place}), CHANCE / rows / len(secret)) for place in secret]
    return _match("attribute_inference", table, dependence, choices)


def _match(name: str, table: Rows, dependence: Dependence, choices: Sequence[tuple[list[int], float]]) -> CellMatch:
    """Counts combinations of cells of which the tree expects at most so many copies."""
    words = _words(table.columns, table.cells)
    wanted = []
    for places, copies in choices:
        combination = np.bitwise_xor.reduce(words[:, places], axis=1)
        improbable = dependence.expected_copies(places, combination) <= copies
        wanted.append((places, np.unique(combination[improbable])))
    return CellMatch(id=name, success=SUCCESS[name], choices=tuple(wanted))


@one_thread
def _membership(table: Rows, dependence: Dependence, rows: int) -> Closeness:
    """Nearer to the synthetic rows than to a twin's, by a factor that hardly any row of a second twin reaches."""
    rng = attack_generator(PUBLIC_SEED)
    cells = table.at_most(MOST_ROWS, rng).cells
    if len(cells) < len(table):
        dependence = Dependence.of(cells)
    near = _points(table.columns, cells).distinct()[0]
    twin = _points(table.columns, dependence.twin(len(cells), rng)).distinct()[0]
    ratios = np.sort(_ratio(_points(table.columns, dependence.twin(CALIBRATION, rng)), near, twin))
    threshold = float(ratios[int(CLOSE / rows * len(ratios))])
    return Closeness(id="membership", success=SUCCESS["membership"], near=near, twin=twin, threshold=threshold)


def _ratio(points: Points, near: Points, twin: Points) -> FloatVector:
    return (nearest(points, near)[:, 0] + NEARLY) / (nearest(points, twin)[:, 0] + NEARLY)


def _points(columns: tuple[Column, ...], cells: IntMatrix) -> Points:
    """Cells as points: numbers by the place of their bin among the bins."""
    where = np.zeros(cells.shape)
    for place, column in enumerate(columns):
        if column.is_numeric:
            code, last = cells[:, place], column.size - column.missing - 1
            where[:, place] = np.where(code > last, np.nan, code / max(last, 1))
    return placed(columns, cells, where)


def _words(columns: tuple[Column, ...], cells: IntMatrix) -> Words:
    """A random word for each cell of each column, the same for every table of a schema; shape (rows, columns)."""
    rng = attack_generator(PUBLIC_SEED)
    words = np.empty(cells.shape, dtype=np.uint64)
    for place, column in enumerate(columns):
        words[:, place] = rng.integers(0, 2**64, size=column.size, dtype=np.uint64)[cells[:, place]]
    return words


# ---- the twin ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Dependence:
    """How the columns of a table depend on one another, two at a time.

    Args:
        cells: Shape (rows, columns).
        information: Mutual information of each pair of columns; shape (columns, columns).
    """

    cells: IntMatrix
    information: FloatMatrix

    @classmethod
    def of(cls, cells: IntMatrix) -> Dependence:
        """Counts every pair of columns once."""
        columns = cells.shape[1]
        single = [_common(cells[:, place]) for place in range(columns)]
        information = np.zeros((columns, columns))
        for a in range(columns):
            for b in range(a):
                both = _common(_paired(cells[:, a], cells[:, b]))
                information[a, b] = information[b, a] = np.mean(np.log(both * len(cells) / (single[a] * single[b])))
        return cls(cells, information)

    def tree(self, places: Sequence[int]) -> list[tuple[int, int]]:
        """The tree over these columns with the largest total information: edges (from, to), outwards from the first."""
        edges: list[tuple[int, int]] = []
        inside, outside = list(places[:1]), list(places[1:])
        while outside:
            gain = self.information[np.ix_(inside, outside)]
            a, b = np.unravel_index(int(np.argmax(gain)), gain.shape)
            edges.append((inside[a], outside[b]))
            inside.append(outside.pop(b))
        return edges

    def expected_copies(self, places: Sequence[int], combination: Words) -> FloatVector:
        """How many copies of each row the tree would put into a table of this length, had it not seen that row.

        A row and its copies vouch for one another in every count, so they are taken out of the counts first.

        Args:
            places: The columns that count.
            combination: A word for each row's cells in these columns; shape (rows,).
        """
        copies, rows = _common(combination), len(self.cells)
        chance = (_common(self.cells[:, places[0]]) - copies) / rows
        for a, b in self.tree(places):
            both = _common(_paired(self.cells[:, a], self.cells[:, b])) - copies
            alone = _common(self.cells[:, a]) - copies
            chance = chance * np.divide(both, alone, out=np.zeros(rows), where=alone > 0)
        return chance * rows

    def twin(self, rows: int, rng: np.random.Generator) -> IntMatrix:
        """Rows drawn from the tree over all columns; shape (rows, columns)."""
        cells = self.cells
        drawn = np.empty((rows, cells.shape[1]), dtype=np.int64)
        drawn[:, 0] = cells[rng.integers(len(cells), size=rows), 0]
        for a, b in self.tree(range(cells.shape[1])):
            order = np.argsort(cells[:, a], kind="stable")
            first, last = (np.searchsorted(cells[order, a], drawn[:, a], side=side) for side in ("left", "right"))
            drawn[:, b] = cells[order[first + (rng.random(rows) * (last - first)).astype(np.int64)], b]
        return drawn


def _common(labels: IntVector | Words) -> FloatVector:
    """How often each row's label occurs; shape (rows,)."""
    if labels.dtype != np.uint64 and int(labels.max(initial=0)) < 2**20:
        return np.bincount(labels)[labels].astype(np.float64)
    _, number, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return counts[number.reshape(-1)].astype(np.float64)


def _paired(a: IntVector, b: IntVector) -> IntVector:
    """One label for two codes."""
    return a * (int(b.max(initial=0)) + 1) + b


# ---- from noisy counts to rates ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ChargedResult:
    """What the noisy counts say about one attack. Class P2.

    Args:
        id: Name of the attack.
        success: What counts as a success, in words.
        fit, control: Success rates of the two sides; not clipped, so noise may carry them below 0.
        excess: Their difference.
        interval: Where the true difference lies, sampling error and noise included.
        fit_interval, control_interval: Where the true rates lie, each for itself, corrected for the number of attacks.
        control_at_most: The upper end of an interval for the control rate alone, in [0, 1].
    """

    id: str
    success: str
    fit: float
    control: float
    excess: float
    interval: Interval
    fit_interval: Interval
    control_interval: Interval
    control_at_most: float


def charged_results(
    counts: AttackCounts, *, confidence: float = CHARGED_CONFIDENCE
) -> tuple[ChargedResult | None, ...]:
    """The excess of each attack; None where a side is too small for its noise, so that nothing can be said.

    Args:
        confidence: Chance that both ends of an interval hold. At 0.90, the default, each end alone holds with 0.95, and the gate
            judges one end.
    """
    return tuple(
        _charged(name, int(hits_fit), int(hits_control), counts, confidence)
        for name, hits_fit, hits_control in zip(counts.tests, counts.hits_fit, counts.hits_control, strict=True)
    )


def _charged(
    name: str, hits_fit: int, hits_control: int, counts: AttackCounts, confidence: float
) -> ChargedResult | None:
    persons = counts.persons_fit, counts.persons_control
    interval = excess_interval(hits_fit, hits_control, *persons, counts.sigma, confidence)
    corrected = 1 - (1 - confidence) / max(1, len(counts.tests))
    fit = noisy_rate_interval(hits_fit, persons[0], sigma=counts.sigma, confidence=corrected)
    control = noisy_rate_interval(hits_control, persons[1], sigma=counts.sigma, confidence=corrected)
    if interval is None or fit is None or control is None:
        return None
    fit_rate, control_rate = hits_fit / persons[0], hits_control / persons[1]
    return ChargedResult(
        id=name,
        success=SUCCESS[name],
        fit=fit_rate,
        control=control_rate,
        excess=fit_rate - control_rate,
        interval=interval,
        fit_interval=fit,
        control_interval=control,
        control_at_most=min(max(control.high, 0.0), 1.0),
    )
