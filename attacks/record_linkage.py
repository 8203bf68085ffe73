"""Record linkage: does the most likely partner of a fitted person among the synthetic rows tell the person's secrets?

Probabilistic linkage as statistical offices do it: for each quasi-identifier a pair of rows has the same value, the same
cell, a neighbouring cell, or none of these, and each outcome counts by how much likelier it is for two records of one
person than for records of two. Agreement on a rare value counts more. How reliable each column is, is estimated from the
pairs themselves, without knowing who was fitted. Nobody has a true partner in a synthetic table, so a link succeeds if
the row it leads to carries all of the person's sensitive cells.

A population that is easy to guess makes links succeed on persons held back too; only the difference is a leak. An
attacker prefers links he can be sure of, so the most confident tenth and hundredth of all persons are looked at as well.
Reported besides: how often links are right among the most confident ones of each side, and what disclosure control asks of
quasi-identifiers (`attacks.disclosure`).

Sources: Fellegi and Sunter, J. Am. Stat. Assoc. 64 (1969) 1183; estimation by EM: Winkler, ASA Survey Research Methods
    1988, 667; Jaro, J. Am. Stat. Assoc. 84 (1989) 414.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from attacks import permutation
from attacks.base import Criterion, Finding, Gap, Threat, per_person
from attacks.disclosure import disclosure
from attacks.distances import LOOKED_UP, lowest, one_thread, passes
from attacks.figures import precision, sorted_out
from attacks.intervals import Rate
from attacks.linkage import matches, on_a_line
from attacks.people import BoolVector, FloatVector, Group, IntVector, People, Rows, joined, keys, roles
from dpsynth import Column

CONFIDENT = {"all links": 1.0, "most confident tenth": 0.1, "most confident hundredth": 0.01}
MOST_ROWS = 4000  # rows of persons on each side
SAMPLE = 100  # rows of persons whose pairs with all synthetic rows teach what partners look like
SAME, CELL, NEAR, ELSE = range(4)
LEVELS = 4
PARTNERS = np.array([0.70, 0.10, 0.05, 0.0])  # how often partners agree so; the rest of the time as often as strangers
BELIEF = 20.0  # pairs of partners that this expectation is worth
ROUNDS = 15
FEW = 128  # values of more kinds than this are compared pair by pair, and only their cells are looked up
COUNTED = 10  # columns whose levels of agreement are counted by a table of all combinations
MOST_CELLS = 256  # with more cells than this, lesser agreement is not looked at
UNIT = 64.0  # weights are whole multiples of 1 / UNIT bits, so that sums are exact and equal ones compare equal
MOST = 20.0  # bits that one column can speak for or against a link


@dataclass(frozen=True, kw_only=True)
class RecordLinkage:
    """Links persons to their likeliest partners by quasi-identifiers."""

    id: ClassVar[str] = "record_linkage"
    criterion: ClassVar[Criterion] = "linkability"
    measure: ClassVar[str] = (
        "share of persons whose likeliest partner among the synthetic rows has their sensitive values"
    )
    fail_only: ClassVar[bool] = False
    two_sided: ClassVar[bool] = False
    holds_reference: ClassVar[bool] = False
    threat: ClassVar[Threat] = Threat(
        knows="the synthetic table and the quasi-identifiers of many persons",
        wants="to read the sensitive values off the synthetic row that most likely belongs to a person",
    )

    @one_thread
    def run(self, people: People, synthetic: Rows, *, rng: np.random.Generator) -> Finding:
        known, secret = roles(synthetic)
        if not known or not secret:
            reason = "record linkage needs a quasi-identifier and another column"
            return Finding(gap=Gap(status="not_applicable", reason=reason))
        fit, control = (side.at_most(MOST_ROWS, rng) for side in (people.fit, people.control))
        asked = joined(fit, control)
        member = np.arange(asked.persons) < fit.persons
        right, confidence = _linked(asked, synthetic, known, secret, rng)
        chosen = {name: _most(confidence, share) for name, share in CONFIDENT.items()}
        hits = np.stack([np.where(top, right, 0.0) for top in chosen.values()], axis=1)
        tested = permutation.linear(hits, member, rng=rng)
        variants = {
            name: per_person(Rate.over_persons(hit[member]), Rate.over_persons(hit[~member]), p_value=float(p))
            for name, hit, p in zip(chosen, hits.T, tested.p_values, strict=True)
        }
        figures, omitted = sorted_out(
            {f"precision, {name}": precision(right, confidence, member, share) for name, share in CONFIDENT.items()}
            | disclosure(people, synthetic, known, secret)
        )
        everybody = asked.persons == people.fit.persons + people.control.persons
        return Finding(
            variants=variants,
            p_value=tested.p_value,
            trials=asked.persons,
            figures=figures,
            omitted=omitted,
            exposed=(right[member] == 1, right[~member] == 1) if everybody else None,
        )

    def without(self, people: People, *, rng: np.random.Generator) -> dict[str, float]:
        """Links to reference persons, none of whom is the person sought."""
        table = people.reference.rows
        known, secret = roles(table)
        if not known or not secret or not len(table):
            return {}
        right, confidence = _linked(people.fit.at_most(MOST_ROWS, rng), table, known, secret, rng)
        return {name: float(np.where(_most(confidence, s), right, 0.0).mean()) for name, s in CONFIDENT.items()}


def _most(confidence: FloatVector, share: float) -> BoolVector:
    """The persons with the most confident links: this share of all, or fewer where more are equally confident."""
    ordered = np.sort(confidence)[::-1]
    allowed = int(np.ceil(share * len(ordered)))
    if allowed >= len(ordered):
        return np.ones(len(ordered), dtype=bool)
    return np.asarray(confidence > ordered[allowed])


def _linked(
    asked: Group, table: Rows, known: list[int], secret: list[int], rng: np.random.Generator
) -> tuple[FloatVector, FloatVector]:
    """For each person's surest row, the chance that its link tells all sensitive cells, and how sure it is in bits."""
    comparison = Comparison.of(asked.rows, table, known)
    sample = np.sort(rng.choice(len(asked.rows), min(SAMPLE, len(asked.rows)), replace=False))
    query, point, best = comparison.links(comparison.learned(sample))
    rows = np.bincount(query, weights=np.bincount(comparison.which)[point], minlength=len(asked.rows))
    wanted, offered = keys(asked.rows.cells[:, secret], table.cells[:, secret])
    right = matches(query, point, wanted, comparison.which, offered)
    sure = np.round(best - np.log2(rows), 9)  # an attacker who must choose among equals is less sure
    confidence = asked.best(sure)
    surest = sure == confidence[asked.person]
    share = asked.total(np.where(surest, right, 0.0)) / asked.total(surest.astype(np.float64))
    return np.round(share, 9), confidence


@dataclass(frozen=True, eq=False)
class Compared:
    """One column of both tables, with a code for each value that occurs.

    Args:
        first, second: The code of each row of either table; of the second one, of each distinct row.
        cell: The cell of each code, placed as by `on_a_line`.
        common: How often each code occurs among the synthetic rows.
        strangers: How often a row of one table agrees with any row of the other; shape (levels,).
    """

    first: IntVector
    second: IntVector
    cell: IntVector
    common: IntVector
    strangers: FloatVector

    @classmethod
    def of(cls, column: Column, first: Rows, second: Rows, place: int, distinct: IntVector) -> Compared:
        """Codes the values of a column; `distinct` are the rows of the second table that are compared."""
        values = np.concatenate([first.values[:, place], second.values[:, place]])
        cells = np.concatenate([first.cells[:, place], second.cells[:, place]])
        kinds, at, code = np.unique(values, return_index=True, return_inverse=True)
        mine, theirs = np.split(code.reshape(-1), [len(first)])
        cell = on_a_line(column, cells[at])
        counts = [np.bincount(codes, minlength=len(kinds)) for codes in (mine, theirs)]
        return cls(mine, theirs[distinct], cell, counts[1], _strangers(counts[0], counts[1], cell))

    def levels(self, mine: IntVector, theirs: IntVector) -> npt.NDArray[np.int8]:
        """How values with these codes agree; shape (mine, theirs)."""
        cell = self.cell.astype(np.int32)
        apart = np.abs(cell[mine][:, None] - cell[theirs][None, :])
        level = np.full(apart.shape, ELSE, dtype=np.int8)
        np.copyto(level, NEAR, where=apart == 1)
        np.copyto(level, CELL, where=apart == 0)
        np.copyto(level, SAME, where=mine.astype(np.int32)[:, None] == theirs.astype(np.int32)[None, :])
        return level

    def weights(self, partners: FloatVector) -> tuple[FloatVector, FloatVector]:
        """Bits for agreement on each value, and bits for each lesser agreement, as whole numbers of units."""
        frequency = (self.common + 0.5) / (self.common.sum() + 1)
        lesser = np.log2(np.maximum(partners, 1e-9) / np.maximum(self.strangers, 1e-9))
        return np.round(UNIT * np.log2(partners[SAME] / frequency)), np.round(UNIT * np.clip(lesser, -MOST, MOST))


def _strangers(first: IntVector, second: IntVector, cell: IntVector) -> FloatVector:
    """How often a row of one table and any row of another agree, by level, from the counts of their values."""
    a, b = first / first.sum(), second / second.sum()
    cells, which = np.unique(cell, return_inverse=True)
    a_cell, b_cell = (np.bincount(which.reshape(-1), weights=share) for share in (a, b))
    beside = np.abs(cells[:, None] - cells[None, :]) == 1
    same, within, near = float(a @ b), float(a_cell @ b_cell), float(a_cell @ beside @ b_cell)
    shares = np.array([same, within - same, near, 1 - within - near])
    clipped: FloatVector = np.clip(np.round(shares, 12), 0.0, 1.0)
    return clipped


@dataclass(frozen=True, eq=False)
class Comparison:
    """Rows of persons beside synthetic rows.

    Args:
        columns: The quasi-identifiers.
        which: The distinct row that each synthetic row is.
    """

    columns: list[Compared]
    which: IntVector

    @classmethod
    def of(cls, first: Rows, second: Rows, known: list[int]) -> Comparison:
        """Compares rows of the first table with the distinct rows of the second."""
        _, at, which = np.unique(keys(second.values[:, known])[0], return_index=True, return_inverse=True)
        columns = [Compared.of(first.columns[place], first, second, place, at) for place in known]
        return cls(columns, which.reshape(-1))

    def learned(self, sample: IntVector) -> list[FloatVector]:
        """How often partners agree, by column and level: expectation-maximisation over the pairs of some rows.

        How often strangers agree is known. At most one synthetic row is anybody's partner, and columns agree
        independently, both among partners and among strangers.
        """
        often = np.bincount(self.which).astype(np.float64)
        pairs, levels = self._seen(sample, often)
        expected = [_expected(column.strangers) for column in self.columns]
        strangers = sum(
            np.log(np.maximum(c.strangers, 1e-9))[level] for c, level in zip(self.columns, levels, strict=True)
        )
        partners, share = expected, 1 / often.sum()
        for _ in range(ROUNDS):
            likely = sum(np.log(np.maximum(p, 1e-9))[level] for p, level in zip(partners, levels, strict=True))
            odds = np.log(share / (1 - share)) + likely - strangers if share < 1 else np.full(len(pairs), np.inf)
            weight = pairs / (1 + np.exp(-np.clip(odds, -700, 700)))
            share = min((weight.sum() + 1) / (pairs.sum() + often.sum()), 1 / often.sum())
            partners = [
                (np.bincount(level, weights=weight, minlength=LEVELS) + BELIEF * before) / (weight.sum() + BELIEF)
                for level, before in zip(levels, expected, strict=True)
            ]
        return [np.round(p, 9) for p in partners]

    def _seen(self, sample: IntVector, often: FloatVector) -> tuple[FloatVector, list[IntVector]]:
        """The different ways in which pairs agree: how often each occurs, and the levels by column."""
        number = np.zeros(len(sample) * len(often), dtype=np.int64)
        for at, column in enumerate(self.columns):
            number *= LEVELS
            number += column.levels(column.first[sample], column.second).reshape(-1)
            if at % 20 == 19:
                number = np.unique(number, return_inverse=True)[1].reshape(-1)
        weights = np.tile(often, len(sample))
        if len(self.columns) <= COUNTED:  # numbers tell the levels themselves
            kind = np.flatnonzero(np.bincount(number))
            powers = [LEVELS ** (len(self.columns) - 1 - at) for at in range(len(self.columns))]
            pairs = np.bincount(number, weights=weights)[kind]
            return pairs.astype(np.float64), [kind // power % LEVELS for power in powers]
        _, first, kind = np.unique(number, return_index=True, return_inverse=True)
        mine, theirs = sample[first // len(often)], first % len(often)
        levels = [_each(column, mine, theirs) for column in self.columns]
        return np.bincount(kind.reshape(-1), weights=weights).astype(np.float64), levels

    def links(self, partners: list[FloatVector]) -> tuple[IntVector, IntVector, FloatVector]:
        """The likeliest partners: pairs (row, distinct synthetic row), and the bits that speak for each row's.

        What values of few kinds say, or the cells of others, is looked up for all synthetic rows at once; what equal
        values of these say besides is added pair by pair. Columns with too much to look up go through a matrix product.
        """
        rows, count = len(self.columns[0].first), len(self.columns[0].second)
        left, right, looked_up, alike = [np.zeros((rows, 1))], [np.zeros((count, 1))], [], []
        for column, agreement in zip(self.columns, partners, strict=True):
            same, lesser = column.weights(agreement)
            place = np.unique(column.cell, return_inverse=True)[1].reshape(-1)
            by_value = len(place) <= FEW
            if by_value:
                place = np.arange(len(place))
            kinds = np.unique(place, return_index=True)[1]
            missed = ELSE
            if len(kinds) <= MOST_CELLS:
                weight, missed = -lesser[column.levels(kinds, kinds)], CELL  # against a link: the least is sought
                np.fill_diagonal(weight, -same if by_value else -lesser[CELL])
                mine, theirs = place[column.first], place[column.second]
                if len(kinds) * count <= LOOKED_UP:
                    looked_up.append((mine.tolist(), np.take(weight.astype(np.float32), theirs, axis=1)))
                else:
                    left.append(weight[mine])
                    right.append(theirs[:, None] == np.arange(len(kinds)))
            if not by_value:
                alike.append((column.first, *_sorted(column.second, len(place)), lesser[missed] - same))
        queries = np.concatenate(left, axis=1).astype(np.float32)
        offers = np.ascontiguousarray(np.concatenate(right, axis=1).astype(np.float32).T)
        query, point, best = [], [], np.empty(rows)
        for part, (total,) in passes(rows, count, np.float32, 1):
            if len(left) > 1:
                np.matmul(queries[part], offers, out=total)
            else:
                total[:] = 0
            for mine, said in looked_up:
                for row, kind in zip(total, mine[part], strict=True):
                    row += said[kind]
            for first, order, starts, less in alike:
                here = first[part]
                pairs_of = starts[here + 1] - starts[here]
                i = np.repeat(np.arange(len(here)), pairs_of)
                within = np.arange(len(i)) - np.repeat(np.cumsum(pairs_of) - pairs_of, pairs_of)
                total[i, order[starts[here][i] + within]] += less[here][i]
            least, i, j = lowest(total)
            best[part] = -least
            query.append(i + part.start)
            point.append(j)
        return np.concatenate(query), np.concatenate(point), best / UNIT


def _sorted(codes: IntVector, kinds: int) -> tuple[IntVector, IntVector]:
    """Where each code stands: an order of the places, and where in it each code begins."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=kinds))])
    return np.argsort(codes, kind="stable"), starts


def _expected(strangers: FloatVector) -> FloatVector:
    """How often partners agree before any pair is seen: mostly, else like strangers."""
    possible = np.where(strangers > 0, PARTNERS, 0.0)
    possible[SAME] = PARTNERS.sum() - possible[SAME + 1 :].sum()
    expected: FloatVector = possible + (1 - PARTNERS.sum()) * strangers
    return expected


def _each(column: Compared, mine: IntVector, theirs: IntVector) -> IntVector:
    """How one row each agrees with one distinct synthetic row each."""
    a, b = column.first[mine], column.second[theirs]
    apart = np.abs(column.cell[a] - column.cell[b])
    level = np.where(apart == 0, CELL, np.where(apart == 1, NEAR, ELSE))
    return np.where(a == b, SAME, level)
