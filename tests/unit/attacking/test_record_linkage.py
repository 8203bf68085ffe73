"""Agreement, weights, likeliest partners and precision, against slow and obvious recomputation."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from attacks.people import People, Rows
from attacks.record_linkage import (
    CELL,
    ELSE,
    NEAR,
    SAME,
    UNIT,
    Comparison,
    RecordLinkage,
    _most,
)
from attacks.suite import stream
from dpsynth import Column, PersonRecords, Records, ReviewSample, Schema

QUASI, SECRET = "quasi_identifier", "sensitive"
SCHEMA = Schema(
    table="t",
    columns=(
        Column(name="age", type="integer", minimum=0, maximum=79, bins=8, missing=True, role=QUASI),
        Column(name="grade", type="ordinal", values=tuple("12345"), missing=True, role=QUASI),
        Column(name="pay", type="number", minimum=-50, maximum=50, bins=10, role=QUASI),
        Column(name="town", type="category", values=tuple(f"t{i}" for i in range(40)), role=QUASI),
        Column(name="ill", type="boolean", role=SECRET),
    ),
)
KNOWN, ILL = [0, 1, 3, 4], 2  # columns stand in the order of their names


def rows(number: int, rng: np.random.Generator) -> Records:
    return Records(
        SCHEMA,
        {
            "age": np.where(rng.random(number) < 0.1, np.nan, rng.integers(0, 80, number)),
            "grade": rng.integers(0, 6, number).astype(np.int32),
            "pay": np.round(rng.normal(0, 15, number).clip(-50, 50), 1),
            "town": np.minimum(rng.geometric(0.15, number) - 1, 39).astype(np.int32),
            "ill": (rng.random(number) < 0.3).astype(np.int32),
        },
    )


def persons(records: Records) -> PersonRecords:
    return PersonRecords(records=records, person=np.arange(len(records)), persons=len(records))


def people(fit: Records, control: Records) -> People:
    return People.of(ReviewSample(fit=persons(fit), control=persons(control)), rng=np.random.default_rng(0))


@pytest.mark.parametrize("changed", [{"LOOKED_UP": 0}, {"FEW": 0}, {"FEW": 0, "LOOKED_UP": 0}, {"COUNTED": 0}])
def test_how_it_is_computed_changes_nothing(changed: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked up, multiplied or added pair by pair."""
    rng = np.random.default_rng(5)
    asked, table = Rows.of(rows(200, rng)), Rows.of(rows(300, rng))
    comparison, sample = Comparison.of(asked, table, KNOWN), np.arange(60)
    learned = comparison.learned(sample)
    query, point, best = comparison.links(learned)
    for name, value in changed.items():
        monkeypatch.setattr(f"attacks.record_linkage.{name}", value)
    again = comparison.learned(sample)
    assert all((a == b).all() for a, b in zip(again, learned, strict=True))
    links = comparison.links(again)
    assert (links[2] == best).all()
    assert set(zip(links[0], links[1], strict=True)) == set(zip(query, point, strict=True))


def agreement(first: Rows, second: Rows, i: int, j: int, place: int) -> int:
    """How two values agree, said once more in the plainest way."""
    column, gap = first.columns[place], first.columns[place].size - 1
    if first.values[i, place] == second.values[j, place]:
        return SAME
    cells = int(first.cells[i, place]), int(second.cells[j, place])
    if column.missing and gap in cells:
        return ELSE
    if cells[0] == cells[1]:
        return CELL
    ordered = column.is_numeric or column.type == "ordinal"
    return NEAR if ordered and abs(cells[0] - cells[1]) == 1 else ELSE


def test_strangers_agree_as_often_as_counted() -> None:
    rng = np.random.default_rng(0)
    first, second = Rows.of(rows(40, rng)), Rows.of(rows(50, rng))
    comparison = Comparison.of(first, second, KNOWN)
    for column, place in zip(comparison.columns, KNOWN, strict=True):
        levels = [agreement(first, second, i, j, place) for i in range(40) for j in range(50)]
        assert column.strangers == pytest.approx(np.bincount(levels, minlength=4) / 2000)


def test_likeliest_partners_are_found() -> None:
    """The sum of weights over columns for every pair, by a loop; few values, many values, gaps and ties among them."""
    rng = np.random.default_rng(1)
    records = rows(60, rng)
    first, second = Rows.of(rows(30, rng)), Rows.of(records.take(np.array([*range(60), 3, 3, 7])))
    comparison = Comparison.of(first, second, KNOWN)
    partners = comparison.learned(np.arange(30))
    query, point, best = comparison.links(partners)
    weights = [column.weights(agreed) for column, agreed in zip(comparison.columns, partners, strict=True)]
    for i in range(30):
        totals = []
        for j in range(len(second)):
            total = 0.0
            for column, place, (same, lesser) in zip(comparison.columns, KNOWN, weights, strict=True):
                level = agreement(first, second, i, j, place)
                total += same[column.first[i]] if level == SAME else lesser[level]
            totals.append(total)
        assert best[i] == pytest.approx(max(totals) / UNIT)
        likeliest = set(comparison.which[np.flatnonzero(np.isclose(totals, max(totals)))])
        assert set(point[query == i]) == likeliest


def test_agreement_on_a_rare_value_says_more() -> None:
    first = second = Rows.of(rows(500, np.random.default_rng(0)))
    comparison = Comparison.of(first, second, KNOWN)
    town = comparison.columns[3]
    same, lesser = town.weights(comparison.learned(np.arange(50))[3])
    order = np.argsort(town.common)
    assert (np.diff(same[order]) <= 0).all()
    assert same[order[0]] > same[order[-1]] + 2 * UNIT  # town 30 against town 0: more than two bits
    assert lesser[ELSE] < 0


def test_a_column_that_partners_disagree_on_is_believed_less() -> None:
    """A copy whose towns were shuffled: learned from the pairs themselves, without knowing a partner."""
    rng = np.random.default_rng(0)
    records = rows(400, rng)
    shuffled = Records(SCHEMA, {**records.columns, "town": rng.permutation(records.columns["town"])})
    first = Rows.of(records)
    believed = [
        Comparison.of(first, Rows.of(table), KNOWN).learned(np.arange(100))[3][SAME] for table in (records, shuffled)
    ]
    assert believed[0] > 0.85
    assert believed[1] < 0.7


def test_the_most_confident_are_never_too_many() -> None:
    confidence = np.array([5.0, 4.0, 4.0, 4.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert _most(confidence, 0.1).sum() == 1
    assert _most(confidence, 0.3).sum() == 1  # four persons would be too many, and no one of the three comes first
    assert _most(confidence, 0.4).sum() == 4
    assert _most(confidence, 1.0).all()


def test_a_copy_links_everybody_to_their_secrets() -> None:
    rng = np.random.default_rng(0)
    asked = people(rows(200, rng), rows(200, rng))
    finding = RecordLinkage().run(asked, asked.fit.rows, rng=stream(0, "x"))
    everybody = finding.variants["all links"]
    assert everybody.fit is not None
    assert everybody.control is not None
    assert everybody.fit.value > 0.98
    assert 0.4 < everybody.control.value < 0.8  # seven in ten are healthy, which anybody may guess
    assert finding.figures["precision, most confident tenth"].estimate > 0.1
    assert finding.p_value == pytest.approx(0.001)


def test_success_needs_all_secrets_and_ties_share_it() -> None:
    """One quasi-identifier value, two synthetic rows: one of them is right, so is half a link."""
    schema = Schema(
        table="t",
        columns=(
            Column(name="a", type="boolean", role=QUASI),
            Column(name="s", type="boolean", role=SECRET),
            Column(name="t", type="boolean", role=SECRET),
        ),
    )

    def flat(s: list[int], t: list[int]) -> Records:
        bits = {"a": np.zeros(len(s)), "s": np.array(s), "t": np.array(t)}
        return Records(schema, {name: bit.astype(np.int32) for name, bit in bits.items()})

    asked = people(flat([0] * 4, [0] * 4), flat([1] * 4, [0] * 4))
    finding = RecordLinkage().run(asked, Rows.of(flat([0, 0], [0, 1])), rng=stream(0, "x"))
    both = finding.variants["all links"]
    assert both.fit is not None
    assert both.control is not None
    assert (both.fit.value, both.control.value) == (0.5, 0.0)


@pytest.mark.parametrize("role", [QUASI, "other"])
def test_without_two_kinds_of_columns_there_is_nothing_to_link(role: str) -> None:
    schema = Schema(table="t", columns=(Column(name="a", type="boolean", role=role),))
    records = Records(schema, {"a": np.array([0, 1], dtype=np.int32)})
    asked = people(records, records)
    finding = RecordLinkage().run(asked, asked.fit.rows, rng=stream(0, "x"))
    assert finding.gap is not None
    assert finding.gap.status == "not_applicable"


@pytest.mark.parametrize("persons_rows", [1, 3])
def test_order_does_not_matter(tables: ModuleType, persons_rows: int) -> None:
    rng = np.random.default_rng(0)
    sample = tables.split(tables.population(200, rng, rows=persons_rows), rng)
    table = sample.fit.records.take(np.arange(60))

    def moved(side: PersonRecords) -> PersonRecords:
        order, names = rng.permutation(len(side.records)), rng.permutation(side.persons)
        return PersonRecords(records=side.records.take(order), person=names[side.person][order], persons=side.persons)

    other = ReviewSample(fit=moved(sample.fit), control=moved(sample.control))
    results = [
        RecordLinkage().run(People.of(who, rng=stream(0, "p")), Rows.of(of).sorted(), rng=stream(0, "x"))
        for who, of in ((sample, table), (other, table.take(rng.permutation(60))))
    ]
    assert results[0] == results[1]
