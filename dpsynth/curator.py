"""The one door to raw rows.

A `Curator` is the only object that holds private rows. Each answer is charged to its reservation before it is
computed, and leaves with its noise. Algorithms receive the curator, never a table, so they cannot forget to pay.

What another program may see goes the same way: `ask` charges what the program claims, then runs it.

The one exception is `review_sample`: both sides of the split, for the attack suite. Everything made from it is
class P3 and stays in the house.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from threading import Lock
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from dpsynth import reading
from dpsynth.coarsening import Coarse
from dpsynth.counting.base import BoolVector, FloatVector, IntVector, PersonRecords, ReviewSample
from dpsynth.counting.engines import Source, checked_source, open_store
from dpsynth.dates import CYCLES
from dpsynth.errors import BoundToProcess, BudgetExceeded, PrivacyRefusal, UnitMismatch, UsageError
from dpsynth.external import Program
from dpsynth.ledger import Reservation
from dpsynth.mechanisms.base import Columns, CycleCounts, IntArray, Measurement
from dpsynth.mechanisms.clipping import ClippedSum, Factors
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.mechanisms.dp_sgd import SampledGaussian
from dpsynth.mechanisms.noisy_max import Forest, NoisyMax, anything
from dpsynth.mechanisms.partition_selection import PartitionSelection
from dpsynth.privacy import PrivacyUnit
from dpsynth.randomness import Private, Rng, SystemRng, UInt64Vector
from dpsynth.schema import Schema
from dpsynth.schema.quoting import quoted
from dpsynth.table import Records, Table
from dpsynth.throw_away import ThrowAway

if TYPE_CHECKING:
    import pandas as pd

_TOGETHER = 2048  # rows whose gradients are made at once
_LARGEST_GUESS = 2**36  # rows in a cell: the sum over 2**24 cells stays far below 2**63
_LARGEST_PENALTY = 2**60  # rows: as much as the largest distance
_VOICES, _MAJORITY = 5, 3  # of nothing in a ranking: one alone may by chance rank first

Purse: TypeAlias = Reservation | ThrowAway
"""What a curator spends from: a charge that a ledger holds, or in a rehearsal a limit in memory, and nothing else."""


class PersonTest(Protocol):
    """An attack that succeeds or not on one person, from that person's own rows and the synthetic table alone."""

    @property
    def id(self) -> str: ...

    @property
    def success(self) -> str:
        """What counts as a success, in words."""
        ...

    def succeeds(self, sample: PersonRecords) -> BoolVector:
        """Shape (persons,). Each person's result must not depend on anybody else's rows."""
        ...


@dataclass(frozen=True, kw_only=True)
class AttackCounts:
    """Noisy counts of persons on whom attacks succeeded, class P2.

    Args:
        tests: Ids of the attacks.
        hits_fit, hits_control: Noisy numbers of persons on each side on whom each attack succeeded; shape (tests,).
        persons_fit, persons_control: Noisy numbers of persons on each side.
        sigma: Standard deviation of the noise on each of these counts.
    """

    tests: tuple[str, ...]
    hits_fit: IntVector
    hits_control: IntVector
    persons_fit: int
    persons_control: int
    sigma: float


@dataclass(frozen=True, kw_only=True, repr=False)
class PersonBatch:
    """The rows of some persons as cell codes, each person's in a block of the same size. Private.

    Args:
        codes: Shape (persons, max_rows, columns), int32; zeros where there is no row.
        present: Which of these are rows; shape (persons, max_rows).
        coins: 64 secret random bits of each person's own, for whatever is drawn about that person; shape (persons,).
    """

    codes: npt.NDArray[np.int32]
    present: BoolVector
    coins: UInt64Vector

    @property
    def persons(self) -> int:
        return len(self.codes)

    def part(self, persons: slice) -> PersonBatch:
        """Some of the persons."""
        return PersonBatch(codes=self.codes[persons], present=self.present[persons], coins=self.coins[persons])

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise BoundToProcess("private rows cannot be copied or pickled")


class PersonGradients(Protocol):
    """A question of DP-SGD: one gradient a person, made from that person's own rows and coins alone."""

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        """Inputs and outputs of each linear layer."""
        ...

    def factored(self, batch: PersonBatch) -> Factors:
        """What went into each layer and what came back, for all rows of a person: neither clipped nor added up yet."""
        ...


@dataclass(frozen=True, kw_only=True)
class Found:
    """A value that discovery published.

    Args:
        units: Noisy number of units that have it.
    """

    text: str
    units: int


class Training(Private):
    """A schedule of noisy steps that was paid for in full before the first; `Curator.train` makes it.

    Privacy: each step takes every person by a fresh coin, clips one gradient each to `clip`, adds them up exactly, and adds
    noise: all of it here, whatever the question returns. Coins follow no order that means anything: they are independent
    and alike, so who else is there does not change how anybody's fall. Not enforced here: that a question makes a
    person's gradient from nobody else's rows, to the last bit, and that it keeps nothing of what it is shown.
    """

    def __init__(self, rows: _Rows, mechanism: SampledGaussian, reservation: Purse, *, rng: Rng) -> None:
        super().__init__()
        self._rows, self._reservation, self._rng = rows, reservation, rng
        self._mechanism = mechanism
        self._left = mechanism.steps
        self._lock = Lock()

    @property
    def mechanism(self) -> SampledGaussian:
        """What was paid for; no other takes its place."""
        return self._mechanism

    def noisy_sum(self, question: PersonGradients) -> FloatVector:
        """The next step: the sum over a fresh Poisson batch, with noise.

        Raises:
            BudgetExceeded: all steps were taken.
            TypeError: the question did not return factors of its layers.
        """
        self._here()
        self._reservation.require_started()
        with self._lock:
            if self._left == 0:
                raise BudgetExceeded("all steps that were paid for are taken: plan more of them beforehand")
            self._left -= 1
        chosen = np.flatnonzero(self._mechanism.batch(len(self._rows), rng=self._rng))
        batch = self._rows.batch(chosen, rng=self._rng)
        total = clipped_sum(question, batch, clip=self._mechanism.clip)
        return self._mechanism.add_noise(total, rng=self._rng)


def clipped_sum(question: PersonGradients, batch: PersonBatch, *, clip: float) -> FloatVector:
    """The sum of one gradient a person, clipped to `clip`, without noise: private."""
    total = ClippedSum(question.shapes, clip=clip)
    size = max(1, _TOGETHER // batch.codes.shape[1])
    for start in range(0, batch.persons, size):
        part = batch.part(slice(start, start + size))
        total.add(question.factored(part), persons=part.persons)
    return total.value()


class Curator(Private):
    """Holds the rows of one data file for one reservation, or in a rehearsal for one throw-away purse.

    Anything else in its place is refused. What is measured on a throw-away purse says so (`Measurement.throw_away`), and
    a model made of it cannot be saved.

    Privacy: the unit and the neighbouring relation are the schema's. At most `max_rows` rows a unit are kept, and a
    unit goes to the control side with probability `holdout`, both by coins of its own (`dpsynth.split`). Since one
    unit's presence changes neither another unit's rows nor its side, every question to one side has the sensitivity
    it would have on the whole table, and the split itself is never published.
    """

    def __init__(
        self, rows: Source, schema: Schema, reservation: Purse, *, holdout: Fraction, engine: str = "memory"
    ) -> None:
        super().__init__()
        _check_purse(reservation)
        _check_unit(schema, reservation)
        reservation.require_started()
        self._rng = SystemRng()
        self._reservation = reservation
        self.schema = schema
        self._store = open_store(rows, schema, engine=engine, holdout=holdout, key=self._rng.key())
        self._open = schema.is_open
        if not self._open:
            self._store.settle(schema)

    @classmethod
    def open(
        cls,
        data: Source,
        schema: Schema,
        reservation: Purse,
        *,
        holdout: Fraction = Fraction(0),
        engine: str = "memory",
    ) -> Curator:
        """Reads a table. The reservation is marked as started, durably, before the first row is read.

        Args:
            data: A `.csv` or `.parquet` file, the address of a database table, or for Spark a data frame of its own;
                whatever `checked_source` accepts.
            holdout: Chance of each unit to be held back from the fit, in [0, 1).
            engine: Who holds and counts the rows: "memory", "duckdb" (rows on disk) or "spark" (a cluster). The counts
                are the same.
        Raises:
            DataFileError, UsageError: the source does not fit the schema or the engine; nothing was read.
            OperationError: the rows could not be read or kept. The charge stays.
        """
        _check_holdout(holdout)
        _check_purse(reservation)
        _check_unit(schema, reservation)
        with checked_source(data, schema, engine=engine):
            reservation.start()
            return cls(data, schema, reservation, holdout=holdout, engine=engine)

    @classmethod
    def of_frame(
        cls, frame: pd.DataFrame, schema: Schema, reservation: Purse, *, holdout: Fraction = Fraction(0)
    ) -> Curator:
        """The same for a pandas data frame."""
        _check_holdout(holdout)
        _check_purse(reservation)
        _check_unit(schema, reservation)
        reading.check_frame(frame, schema)
        reservation.start()
        rows = reading.read_open_frame(frame, schema) if schema.is_open else reading.read_frame(frame, schema)
        return cls(rows, schema, reservation, holdout=holdout)

    @property
    def throw_away(self) -> bool:
        """Whether no ledger is charged for the answers."""
        return not isinstance(self._reservation, Reservation)

    @property
    def unit(self) -> PrivacyUnit:
        """Whose presence is hidden, and the sensitivities that follow."""
        return self.schema.unit

    def find_values(self, name: str, mechanism: PartitionSelection) -> tuple[Found, ...]:
        """The values of an open category that many units have, each with its noisy number of units, in no order.

        Privacy: one unit has at most k = max_rows values, and raises the number of units of each by one: squared L2
            sensitivity k (add/remove) or 2 k (replace), and at most k values that nobody else has.
        """
        self._require_open(name, "values")
        k = self.unit.max_rows
        self._reservation.spend(
            mechanism.cost(l2_squared=self.unit.touched(k), values=k), purpose="discovery of values"
        )
        texts, units = self._store.distinct(name)
        noisy = mechanism.published(units, rng=self._rng)
        found = [Found(text=text, units=int(n)) for text, n in zip(texts, noisy, strict=True) if n >= 0]
        return tuple(sorted(found, key=lambda value: value.text))

    def find_rows(self, name: str, edges: FloatVector, mechanism: DiscreteGaussian) -> IntVector:
        """The number of rows whose number in an open column lies in each interval, with noise; shape (edges - 1,).

        Args:
            edges: Increasing, from public or already noisy facts; intervals are half-open, and the outer ones hold
                everything beyond them.
        Privacy: each row is in at most one interval: sensitivity as for `measure`.
        """
        self._require_open(name, "minimum", "maximum", "bins")
        if len(edges) < 2 or not np.all(np.diff(edges) > 0):
            raise ValueError("edges must increase: a row must not count twice")
        self._reservation.spend(mechanism.cost(l2_squared=self.unit.l2_squared), purpose="discovery of bounds and bins")
        exact = self._store.histogram(name, edges)
        return mechanism.add_noise(exact, rng=self._rng)

    def complete(self, schema: Schema) -> None:
        """Goes on under a schema in which discovery left nothing open; from here on rows are counted by its cells.

        Privacy: free. The schema must come from public facts and noisy answers alone. Each person keeps the side and
            the rows that its coins chose; a row that a new domain drops is that row's own affair.
        """
        self._here()
        if not self._open or schema != self.schema.completed(schema.columns):
            raise ValueError("an open schema is completed once, and only in what was open")
        self._store.settle(schema)
        self.schema, self._open = schema, False

    def _require_open(self, name: str, *facts: str) -> None:
        self._here()
        if not self._open or not set(facts) & set(self.schema.column(name).discover):
            raise ValueError(f"there is nothing of that kind to discover in column {quoted(name)}")

    def coarsen(self, coarse: Sequence[Coarse]) -> None:
        """Adds columns made from declared ones, with the indices that follow theirs, in place of any added before.

        Privacy: free. It says nothing, and questions about such a column count each row in one cell, as before.
        Raises:
            ValueError: one does not fit the column it is made from.
        """
        self._here()
        sizes = self.schema.sizes
        if not all(0 <= made.column < len(sizes) and len(made.groups) == sizes[made.column] for made in coarse):
            raise ValueError("a coarse column must say for each cell of a declared column where it goes")
        self._store.coarsen(coarse)

    def measure(self, columns: Columns, mechanism: DiscreteGaussian) -> Measurement:
        """The number of rows in each combination of the values of `columns`, with noise.

        Privacy: squared L2 sensitivity k^2 (add/remove) or 2 k^2 (replace) for k = max_rows.
        """
        self._here()
        cost = mechanism.cost(l2_squared=self.unit.l2_squared)
        self._reservation.spend(cost, purpose=f"{len(columns)}-way marginals")
        exact = self._store.count(columns)
        values = mechanism.add_noise(exact, rng=self._rng)
        return Measurement(
            columns=columns,
            values=values,
            sigma_squared=mechanism.sigma_squared,
            cost=cost,
            throw_away=self.throw_away,
        )

    def measure_cycle(self, column: int, cycle: str, mechanism: DiscreteGaussian) -> CycleCounts:
        """The number of rows with a date or time of `column` in each phase of a cycle, with noise.

        Args:
            column: A date or datetime column, as an index into the modelled ones.
            cycle: One of `dates.CYCLES`.
        Privacy: each row is in one phase or, where the date is missing, in none: as `measure` of one column.
        """
        self._here()
        declared = self.schema.modelled[column]
        cost = mechanism.cost(l2_squared=self.unit.l2_squared)
        self._reservation.spend(cost, purpose="cycles of dates")
        numbers, rows = self._store.numbers(declared.name)
        exact = np.zeros(CYCLES[cycle], dtype=np.int64)
        np.add.at(exact, declared.clock.phases(cycle, numbers), rows)
        return CycleCounts(
            column=column,
            cycle=cycle,
            values=mechanism.add_noise(exact, rng=self._rng),
            sigma_squared=mechanism.sigma_squared,
            cost=cost,
            throw_away=self.throw_away,
        )

    def select(
        self,
        candidates: Sequence[Columns],
        expected: Iterable[IntArray],
        mechanism: NoisyMax,
        *,
        picks: int = 1,
        forest: bool = False,
        penalties: IntVector | None = None,
        nothing: int | None = None,
    ) -> list[int]:
        """Indices of marginals that lie far, in L1, from what is `expected` of them, the furthest first.

        Args:
            candidates: The marginals to choose from.
            expected: Whole-number guesses of each, in its shape, made from public or already noisy facts.
            picks: At most so many, all of which are charged.
            forest: Whether to pass over candidates that close a cycle with those picked before.
            penalties: Rows that are taken off each distance before it is ranked, made from such facts too; shape
                (candidates,), not negative. None for nothing.
            nothing: The score at which nothing at all is a candidate, five times: what ranks below three of these is not
                picked, and each of them is one of the picks. None for no such candidate.
        Privacy: one unit changes each marginal, and so each score, by at most k (add/remove) or 2k (replace) in L1;
            the scores are not monotone. Penalties, and the score of nothing, are the same whatever the unit does.
        Raises:
            ValueError: the penalties are not moderate int64 numbers, one a candidate.
        """
        self._here()
        off = np.zeros(len(candidates), dtype=np.int64) if penalties is None else penalties
        plain = type(off) is np.ndarray and off.dtype == np.int64 and off.shape == (len(candidates),)
        if not plain or off.min(initial=0) < 0 or off.max(initial=0) > _LARGEST_PENALTY:
            raise ValueError("penalties must be moderate int64 numbers of rows, one a candidate, and not negative")
        self._reservation.spend(mechanism.cost(sensitivity=self.unit.l1, picks=picks), purpose="selection")
        admits = Forest().admits
        voices = [] if nothing is None else [nothing] * _VOICES
        scores = np.append(self._distances(candidates, expected) - off, np.array(voices, dtype=np.int64))
        ranking = mechanism.top(
            scores,
            picks,
            rng=self._rng,
            admits=(lambda i: i >= len(candidates) or admits(candidates[i])) if forest else anything,
        )
        against = np.cumsum([i >= len(candidates) for i in ranking])
        return [i for i, so_far in zip(ranking, against, strict=True) if i < len(candidates) and so_far < _MAJORITY]

    def score(
        self, candidates: Sequence[Columns], expected: Iterable[IntArray], mechanism: DiscreteGaussian
    ) -> IntVector:
        """How far each marginal lies, in L1, from what is `expected` of it, with noise; shape (candidates,).

        Args:
            expected: As for `select`.
        Privacy: one unit changes each score by at most k (add/remove) or 2k (replace): squared L2 sensitivity
            candidates times k^2 or 4 k^2.
        """
        self._here()
        cost = mechanism.cost(l2_squared=len(candidates) * self.unit.l1**2)
        self._reservation.spend(cost, purpose="selection")
        return mechanism.add_noise(self._distances(candidates, expected), rng=self._rng)

    def _distances(self, candidates: Sequence[Columns], expected: Iterable[IntArray]) -> IntVector:
        """Exact and private: L1 distances of marginals from whole-number guesses.

        Raises:
            ValueError: a guess is not an array of whole numbers in the shape of its marginal: spread over the cells,
                one number would raise the sensitivity.
        """
        out = np.empty(len(candidates), dtype=np.int64)
        for i, (exact, guess) in enumerate(zip(self._store.count_each(candidates), expected, strict=True)):
            bound = max(guess.max(initial=0), -(guess.min(initial=0) + 1))  # the least int64 has no absolute value
            plain = type(guess) is np.ndarray and guess.dtype == np.int64 and guess.shape == exact.shape
            if not plain or bound >= _LARGEST_GUESS or guess.size > 2**24:
                raise ValueError("what is expected of a marginal must be moderate int64 counts in its shape")
            out[i] = np.abs(exact - guess).sum()
        return out

    def count_successes(self, tests: Sequence[PersonTest], mechanism: DiscreteGaussian) -> AttackCounts:
        """On how many persons of each side each attack succeeds, with noise on every count.

        Of a large table, persons of the review sample are counted (`ReviewSample`).

        Privacy: one unit is on one side and raises there the number of persons and at most one count an attack, each
            by one: squared L2 sensitivity tests + 1 (add/remove) or twice that (replace). In a sample that is full, one
            unit takes another's place: the number of persons stays, and each other count moves by at most one.
        """
        self._here()
        cost = mechanism.cost(l2_squared=self.unit.touched(len(tests) + 1))
        self._reservation.spend(cost, purpose="attack counts")
        sample = self._store.sample()
        sides = (sample.fit, sample.control)
        exact = np.array(
            [[int(_successes(test, side).sum()) for test in tests] + [side.persons] for side in sides], dtype=np.int64
        )
        noisy = mechanism.add_noise(exact, rng=self._rng)
        return AttackCounts(
            tests=tuple(test.id for test in tests),
            hits_fit=noisy[0, :-1],
            hits_control=noisy[1, :-1],
            persons_fit=int(noisy[0, -1]),
            persons_control=int(noisy[1, -1]),
            sigma=mechanism.sigma,
        )

    def count_unit_sizes(self, mechanism: DiscreteGaussian) -> IntVector:
        """How many units of the fit side have 1, 2, ... max_rows rows, with noise; shape (max_rows,).

        Privacy: a unit is in one cell: squared L2 sensitivity 1 (add/remove) or 2 (replace).
        """
        self._here()
        cost = mechanism.cost(l2_squared=self.unit.touched(1))
        self._reservation.spend(cost, purpose="rows per unit")
        return mechanism.add_noise(self._store.unit_sizes(), rng=self._rng)

    def train(self, mechanism: SampledGaussian) -> Training:
        """Steps of DP-SGD on the persons of the fit side, all of them charged here.

        Privacy: one person moves the sum of a step by at most `mechanism.clip` (add/remove) or twice that (replace).
        Raises:
            PrivacyRefusal: the ledger was told that all noise of this release is exact.
        """
        self._here()
        if type(mechanism) is not SampledGaussian:
            raise TypeError("steps are paid for with a SampledGaussian, and with nothing else")
        cost = mechanism.cost(neighbours=self.unit.neighbours)
        self._reservation.spend(cost, purpose="training steps", basis="floating_point")
        return Training(
            _Rows(self._store.everybody(), max_rows=self.unit.max_rows), mechanism, self._reservation, rng=self._rng
        )

    def ask(self, program: Program) -> Records:
        """Runs another program on the rows of the fit side, without their unit, and returns the rows that it wrote.

        The rows are as the schema has them: at most `max_rows` of a unit, clamped, undeclared cells settled. Whether
        the program runs to its end, and how long that takes, may depend on the rows; no claim covers it.

        Args:
            program: Made for `schema.released()`; its epsilon and delta are its promise for one row.
        Privacy: what the program claims for one row, by group privacy for a unit of k (add/remove) or 2k (replace)
            rows. It is charged before a row is handed out, and nobody here can prove it.
        Raises:
            PrivacyRefusal: the ledger was told that this release rests on our own proofs.
            OperationError: the program failed, took too long, or wrote no table in the schema. The charge stays.
        """
        self._here()
        if not isinstance(program, Program) or program.schema != self.schema.released():
            raise TypeError("rows are handed to a Program for this schema's released columns, and to nothing else")
        self._reservation.spend(program.promise.cost(self.unit), purpose="another program's claim", basis="claimed")
        return program.run(self._store.everybody().records.to_frame()).rows

    def close(self) -> None:
        """Lets go of the rows, and of files and sessions that hold them; nothing can be asked any more."""
        self._store.close()

    def review_sample(self) -> ReviewSample:
        """Both sides of the split, for the internal review: class P3, free of charge because it never leaves."""
        self._here()
        self._reservation.require_started()
        return self._store.sample()


def _check_purse(reservation: object) -> None:
    if not isinstance(reservation, Purse):
        raise PrivacyRefusal(
            "a curator spends from a ledger's reservation only, or in a rehearsal from its throw-away purse"
        )


class _Rows:
    """Persons' rows as codes, in an order that follows from the rows alone: that of the file says nothing."""

    def __init__(self, sample: PersonRecords, *, max_rows: int) -> None:
        codes = np.ascontiguousarray(Table.encode(sample.records).codes)
        order = np.lexsort((*codes.T[::-1], sample.person))
        codes, person = codes[order], sample.person[order]
        place = np.arange(len(codes)) - np.searchsorted(person, person)
        self._codes = np.zeros((sample.persons, max_rows, codes.shape[1]), dtype=np.int32)
        self._present = np.zeros((sample.persons, max_rows), dtype=bool)
        self._codes[person, place], self._present[person, place] = codes, True
        flat = np.where(self._present[:, :, None], self._codes, -1)
        flat = flat.reshape(sample.persons, max_rows * codes.shape[1])
        ranked = np.lexsort(flat.T[::-1])
        self._codes, self._present = self._codes[ranked], self._present[ranked]

    def __len__(self) -> int:
        return len(self._codes)

    def batch(self, chosen: IntVector, *, rng: Rng) -> PersonBatch:
        return PersonBatch(codes=self._codes[chosen], present=self._present[chosen], coins=rng.words(len(chosen)))


def _check_unit(schema: Schema, reservation: Purse) -> None:
    if reservation.unit != schema.unit:
        raise UnitMismatch("the reservation was made for another unit than the schema's: reserve with schema.unit")


def _check_holdout(holdout: Fraction) -> None:
    if not 0 <= holdout < 1:
        raise UsageError("holdout must be at least 0 and below 1")


def _successes(test: PersonTest, side: PersonRecords) -> BoolVector:
    """One flag a person, whatever the test does: what goes wrong on one person's rows counts as no success there.

    Raises:
        TypeError: the test does not return one flag a person, which would break the sensitivity of the counts.
    """
    try:
        found = test.succeeds(side)
    except Exception:  # rows must not decide whether a release fails: judge each person alone
        if side.persons == 1:
            return np.zeros(1, dtype=bool)
        persons = range(side.persons)
        alone = [_successes(test, side.part(np.arange(side.persons) == p)) for p in persons]
        return np.concatenate([np.zeros(0, dtype=bool), *alone])
    if found.dtype != np.bool_ or found.shape != (side.persons,):
        raise TypeError(f"the attack {test.id} must return one flag a person")
    return found


def persons_of(rows: reading.RawRows) -> PersonRecords:
    """All rows by person, as they are: for files that a person has already split (`dpsynth attack`)."""
    return PersonRecords.grouped(rows.records, range(len(rows.records)) if rows.unit_ids is None else rows.unit_ids)
