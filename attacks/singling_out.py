"""Singling out: do facts guessed from the synthetic table fit exactly one fitted person, more often than one held back?

The attacker takes a synthetic row and turns some of its values into a predicate ("site is 3, income between 5 and 6
thousand, at least 30 visits"). In two further games he claims one column only (values that one synthetic row has, and
what lies beyond all synthetic rows but one), or the box in which random cuts leave one synthetic row alone, as the leaf
of a decision tree does. Only predicates that no reference person satisfies are used: they claim something rare.
A predicate succeeds on a side if exactly one person there satisfies it. Both sides are brought to the same number of
persons by taking the mean over all choices of that many, because a predicate isolates by chance more easily in a larger
or a smaller crowd. The same predicates made from other reference persons give the baseline.

Source of the criterion: Article 29 Working Party, Opinion 05/2014 (WP216); chance isolation: Cohen and Nissim, PNAS 117
(2020) 8344.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import gammaln

from attacks import permutation
from attacks.base import CONFIDENCE, Criterion, Finding, Gap, Measure, Threat
from attacks.ceilings import PerPerson
from attacks.intervals import FloatVector, Rate, difference
from attacks.people import MISSING, BoolVector, FloatMatrix, Group, IntMatrix, IntVector, People, Rows, joined

GUESSES = 2000
COLUMNS = 6  # a predicate uses two columns up to so many
LEAVES = 500  # boxes around single rows
CUTS = 60  # of a box, at most
FEWEST = 50  # with fewer predicates left nothing can be said
STYLES = ("cell", "value", "tail")
Bytes: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class SinglingOut:
    """Guesses predicates that isolate one person."""

    id: ClassVar[str] = "singling_out"
    criterion: ClassVar[Criterion] = "singling_out"
    measure: ClassVar[str] = "share of guessed predicates that fit exactly one person"
    fail_only: ClassVar[bool] = False
    two_sided: ClassVar[bool] = False
    holds_reference: ClassVar[bool] = True
    threat: ClassVar[Threat] = Threat(
        knows="the synthetic table, and other people of the population to tell what is rare",
        wants="to state facts that fit exactly one person of the data",
    )

    def run(self, people: People, synthetic: Rows, *, rng: np.random.Generator) -> Finding:
        sides = joined(people.fit, people.evaluation)
        member = np.arange(sides.persons) < people.fit.persons
        crowd = min(int(member.sum()), int((~member).sum()))
        _, judge = _reference(people)
        games = {name: _game(guessed, judge, sides) for name, guessed in _guesses(synthetic, rng).items()}
        games = {name: game for name, game in games.items() if game.shape[0] >= FEWEST}
        if not games:
            reason = f"fewer than {FEWEST} guessed predicates claim something rare"
            needs = f"needs about {max(GUESSES - len(synthetic), FEWEST)} more synthetic rows, or rarer combinations of values"
            return Finding(gap=Gap(status="incomplete", reason=reason, needs=needs))

        sizes = int(member.sum()), int((~member).sum())
        chances = [alone(np.arange(size + 1.0), size, crowd) for size in sizes]
        matched = {name: _matched(game) for name, game in games.items()}

        def isolated(labels: FloatMatrix) -> FloatMatrix:
            found, members = [], np.ascontiguousarray(labels, dtype=np.float32)
            for name, game in games.items():
                some, everybody = matched[name]
                fit = np.asarray(some @ members).astype(np.int64)
                rates = [
                    chance[side].sum(axis=0) / game.shape[0]
                    for chance, side in zip(chances, (fit, everybody - fit), strict=True)
                ]
                found.append(np.round(rates[0] - rates[1], 12))
            return np.stack(found)

        tested = permutation.relabelled(isolated, member, np.zeros(len(member), dtype=np.int64), rng=rng)
        variants = {}
        for (name, game), p in zip(games.items(), tested.p_values, strict=True):
            fit, control = (_rate(game[:, side], crowd) for side in (member, ~member))
            variants[name] = Measure(
                estimate=fit.value - control.value,
                interval=difference(fit, control, CONFIDENCE),
                chance=0.0,
                persons=sides.persons,
                fit=fit,
                control=control,
                p_value=float(p),
                bound=PerPerson(without=_newcomers(game[:, member], game[:, ~member], crowd), times=crowd),
            )
        hit = np.zeros(sides.persons, dtype=bool)
        boxes = games.get("tree leaves", next(iter(games.values())))  # of thousands of guesses some isolate anybody
        for side in (member, ~member):
            here = boxes[:, side]
            single = np.asarray(here.sum(axis=1)).reshape(-1) == 1
            hit[np.flatnonzero(side)[here[single].indices]] = True
        return Finding(
            variants=variants,
            p_value=tested.p_value,
            trials=sum(game.shape[0] for game in games.values()),
            exposed=(hit[member], hit[~member]),
        )

    def without(self, people: People, *, rng: np.random.Generator) -> dict[str, float]:
        """Predicates made from reference persons, as rare among the other reference persons."""
        source, judge = _reference(people)
        crowd = min(people.fit.persons, people.evaluation.persons)
        games = {name: _game(guessed, judge, people.fit) for name, guessed in _guesses(source.rows, rng).items()}
        return {name: _rate(game, crowd).value for name, game in games.items() if game.shape[0]}


def _guesses(table: Rows, rng: np.random.Generator) -> dict[str, Predicates]:
    """The predicates of each game."""
    return {
        "predicates": Predicates.guessed(table, rng),
        "one column": Predicates.of_one_column(table, rng),
        "tree leaves": Predicates.of_leaves(table, rng),
    }


def _reference(people: People) -> tuple[Group, Group]:
    """Two halves of the reference persons: those whose rows may be guessed from, and those who judge what is rare."""
    persons = np.arange(people.reference.persons)
    return people.reference.take(persons[::2]), people.reference.take(persons[1::2])


@dataclass(frozen=True, eq=False)
class Predicates:
    """Conjunctions of claims about columns.

    Args:
        low, high: A claim is `low <= value <= high`; shape (predicates, columns), infinite where nothing is claimed.
        cell: Or it is that the cell has this code; -1 where nothing is claimed; same shape.
    """

    low: FloatMatrix
    high: FloatMatrix
    cell: IntVector

    @classmethod
    def guessed(cls, table: Rows, rng: np.random.Generator) -> Predicates:
        """One predicate from each of `GUESSES` rows of the table, repeated ones left out.

        Each takes some columns of the row and claims, all in one style, its cells, its exact values, or tails (at
        least this where the value is above the table's median, else at most this).
        """
        columns = len(table.columns)
        row = rng.integers(len(table), size=GUESSES)
        rank = np.argsort(rng.random((GUESSES, columns)), axis=1).argsort(axis=1)
        used = rank < rng.integers(min(2, columns), min(COLUMNS, columns) + 1, size=GUESSES)[:, None]
        style = rng.integers(len(STYLES), size=GUESSES)[:, None]
        values, cells = table.values[row], table.cells[row]
        numeric = np.array([column.is_numeric for column in table.columns]) & (values != MISSING)
        middle = np.array([_median(table.values[:, place]) for place in range(columns)])
        by_value, by_tail = used & numeric & (style == 1), used & numeric & (style == 2)
        low = np.where(by_value | (by_tail & (values >= middle)), values, -np.inf)
        high = np.where(by_value | (by_tail & (values < middle)), values, np.inf)
        cell = np.where(used & ~by_value & ~by_tail, cells, -1)
        return cls._distinct(low, high, cell)

    @classmethod
    def _distinct(cls, low: FloatMatrix, high: FloatMatrix, cell: IntMatrix) -> Predicates:
        columns = low.shape[1]
        distinct = np.unique(np.concatenate([low, high, cell], axis=1), axis=0)
        return cls(
            distinct[:, :columns], distinct[:, columns : 2 * columns], distinct[:, 2 * columns :].astype(np.int64)
        )

    @classmethod
    def of_one_column(cls, table: Rows, rng: np.random.Generator) -> Predicates:
        """Values and cells that only one row has, and what lies at or beyond the outermost value of a column."""
        columns = len(table.columns)
        found: list[tuple[int, float, float, int]] = []
        for place, column in enumerate(table.columns):
            if not column.is_numeric:
                cells, counts = np.unique(table.cells[:, place], return_counts=True)
                found += [(place, -np.inf, np.inf, int(cell)) for cell in cells[counts == 1]]
                continue
            values = table.values[:, place]
            values, counts = np.unique(values[values != MISSING], return_counts=True)
            if not len(values):
                continue
            single = values[counts == 1]
            most = GUESSES // columns
            if len(single) > most:
                single = np.sort(rng.choice(single, most, replace=False))
            found += [(place, float(value), float(value), -1) for value in single]
            found += [(place, float(values[-1]), np.inf, -1), (place, -np.inf, float(values[0]), -1)]
        low, high, cell = (np.full((len(found), columns), fill) for fill in (-np.inf, np.inf, -1.0))
        for number, (place, least, most_, code) in enumerate(found):
            low[number, place], high[number, place], cell[number, place] = least, most_, code
        return cls._distinct(low, high, cell.astype(np.int64))

    @classmethod
    def of_leaves(cls, table: Rows, rng: np.random.Generator) -> Predicates:
        """Boxes that hold one row of the table alone: random cuts, halfway to another row, until no other is left.

        A row that others equal, as far as cuts can tell, ends in a box with them.
        """
        columns, others = len(table.columns), len(table) - 1
        rows = rng.permutation(len(table))[:LEAVES]
        coins = rng.random((len(rows), CUTS, 2))
        low, high, cell = (np.full((len(rows), columns), fill) for fill in (-np.inf, np.inf, -1.0))
        numeric = [column.is_numeric for column in table.columns]
        lowest = [float(column.binning.edges[0]) if column.is_numeric else 0.0 for column in table.columns]
        values, cells = np.ascontiguousarray(table.values.T), np.ascontiguousarray(table.cells.T)
        for number, row in enumerate(rows.tolist()):
            left: IntVector | None = None  # the other rows in the box; None stands for all of them
            own = table.values[row].tolist()
            for which, whose in coins[number].tolist():
                place, at = int(which * columns), int(whose * (others if left is None else len(left)))
                if not (others if left is None else len(left)):
                    break
                mine = own[place]
                theirs = float(values[place, at + (at >= row) if left is None else left[at]])
                if mine == theirs:
                    continue
                if not numeric[place] or mine == MISSING:
                    cell[number, place] = cells[place, row]
                    kept = (cells[place] if left is None else cells[place].take(left)) == cells[place, row]
                else:
                    there = values[place] if left is None else values[place].take(left)
                    if theirs == MISSING:  # it has a number at all
                        low[number, place] = max(low[number, place], lowest[place])
                        kept = there != MISSING
                    elif mine < theirs:
                        high[number, place] = (mine + theirs) / 2
                        kept = there <= (mine + theirs) / 2
                    else:
                        low[number, place] = (mine + theirs) / 2
                        kept = (there >= (mine + theirs) / 2) & (there != MISSING)
                if left is None:
                    left = np.flatnonzero(kept)
                    left = left[left != row]
                else:
                    left = left[kept]
        return cls._distinct(low, high, cell.astype(np.int64))

    def satisfied(self, group: Group) -> sparse.csr_matrix:
        """Which persons satisfy which predicates, by any of their rows; shape (predicates, persons), ones and zeros."""
        rows = len(group.rows)
        bits = self._bits(group.rows)
        number, place = np.divmod(np.flatnonzero(bits), max(bits.shape[1], 1))  # bytes that are not empty
        byte, bit = np.divmod(np.flatnonzero(np.unpackbits(bits[number, place])), 8)
        person = group.person[8 * place[byte] + bit]
        pairs = number[byte] * group.persons + person  # ascending, and one person's rows stand side by side
        number, person = np.divmod(pairs[np.diff(pairs, prepend=-1) != 0], max(group.persons, 1))
        ends = np.searchsorted(number, np.arange(len(self.cell) + 1)) if rows else np.zeros(len(self.cell) + 1)
        return sparse.csr_matrix((np.ones(len(person)), person, ends), shape=(len(self.cell), group.persons))

    def anybody(self, group: Group) -> BoolVector:
        """Which predicates are satisfied by anybody; shape (predicates,)."""
        return np.asarray(self._bits(group.rows).any(axis=1))

    def _bits(self, rows: Rows) -> Bytes:
        """Which rows satisfy which predicates, eight to a byte; shape (predicates, bytes).

        What is claimed of a column is looked up once, however many predicates claim it.
        """
        everything = np.packbits(np.ones(len(rows), dtype=bool))
        bits: Bytes = np.tile(everything, (len(self.cell), 1))
        for place in range(self.cell.shape[1]):
            low, high, cell = self.low[:, place], self.high[:, place], self.cell[:, place]
            cells = rows.cells[:, place]
            told = np.flatnonzero(cell >= 0)  # a cell is never claimed together with bounds
            codes, which = np.unique(cell[told], return_inverse=True)
            bits[told] &= np.packbits(codes[:, None] == cells[None, :], axis=1)[which.reshape(-1)]
            bounded = np.flatnonzero((low > -np.inf) | (high < np.inf))
            if not len(bounded):
                continue
            known, rank = np.unique(rows.values[:, place], return_inverse=True)
            rank = rank.reshape(-1).astype(np.int32)
            numbers = len(known) - (len(known) > 0 and known[-1] == MISSING)
            first = np.searchsorted(known[:numbers], low[bounded], side="left").astype(np.int32)
            end = np.searchsorted(known[:numbers], high[bounded], side="right").astype(np.int32)
            ranges, which = np.unique(np.stack([first, end]), axis=1, return_inverse=True)
            inside = (ranges[0][:, None] <= rank[None, :]) & (rank[None, :] < ranges[1][:, None])
            bits[bounded] &= np.packbits(inside, axis=1)[which.reshape(-1)]
        return bits


def _matched(game: sparse.csr_matrix) -> tuple[sparse.csr_matrix, IntMatrix]:
    """The predicates that fit anybody, and how many persons each of them fits; shape (predicates, 1)."""
    number = np.diff(game.indptr)
    return game[number > 0].astype(np.float32), number[number > 0, None].astype(np.int64)


def _median(values: FloatVector) -> float:
    known = values[values != MISSING]
    return float(np.median(known)) if len(known) else 0.0


def _game(predicates: Predicates, judge: Group, sides: Group) -> sparse.csr_matrix:
    """Who satisfies the predicates that nobody of the judging reference satisfies; shape (predicates, persons)."""
    common = predicates.anybody(judge)
    kept = Predicates(predicates.low[~common], predicates.high[~common], predicates.cell[~common])
    return kept.satisfied(sides)


def alone(matching: FloatMatrix, persons: int, crowd: int) -> FloatMatrix:
    """Chance that exactly one of `matching` persons is among `crowd` drawn from `persons`; any shape."""
    rest = persons - crowd
    m = np.minimum(matching, rest + 1)  # more than that, and two are always drawn

    def log_choose(n: FloatMatrix | float, k: FloatMatrix | float) -> FloatMatrix:
        return np.asarray(gammaln(np.add(n, 1)) - gammaln(np.add(k, 1)) - gammaln(np.subtract(n, k) + 1))

    log_chance = log_choose(persons - m, float(crowd - 1)) - log_choose(float(persons), float(crowd))
    return np.where((matching >= 1) & (matching <= rest + 1), matching * np.exp(log_chance), 0.0)


def _newcomers(fit: sparse.csr_matrix, control: sparse.csr_matrix, crowd: int) -> Rate:
    """Share of predicates that a person held back alone would satisfy if he joined the fitted crowd, mean over persons.

    Success on the fitted side is `crowd` times the same mean over fitted persons: each of them is alone among the other
    fitted persons, `crowd - 1` of whom are drawn.

    Args:
        fit, control: Who satisfies the predicates on either side; shape (predicates, persons).
        crowd: How many fitted persons are looked at, the one in question included.
    """
    others, persons = fit.shape[1], control.shape[1]
    matching = np.asarray(fit.sum(axis=1)).reshape(-1)
    nobody = alone(matching + 1, others + 1, crowd) / (matching + 1) * (others + 1) / crowd
    by_person = np.asarray(control.T @ nobody).reshape(-1) / fit.shape[0]
    value, variance = float(by_person.mean()), float(by_person.var()) / persons
    trials = value * (1 - value) / variance if variance > 0 else float(persons)
    return Rate(value=value, trials=trials, persons=persons)


def _rate(game: sparse.csr_matrix, crowd: int) -> Rate:
    """Success rate on one side; persons are the clusters, because one person can be isolated by many predicates."""
    matching = np.asarray(game.sum(axis=1)).reshape(-1)
    chance = alone(matching, game.shape[1], crowd)
    value = float(chance.mean())
    by_person = np.asarray(game.T @ (chance / np.maximum(matching, 1))).reshape(-1)
    variance = game.shape[1] * float(by_person.var()) / game.shape[0] ** 2
    trials = min(game.shape[0], game.shape[1]) if variance <= 0 else value * (1 - value) / variance
    most = max(float(game.shape[0]), 1.0)
    return Rate(value=value, trials=max(min(trials, most), 1.0), persons=game.shape[1], most=most)
