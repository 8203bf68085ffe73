"""The search for patterns of the 18 identifiers: what it sees, what it never shows, and what it never claims."""

from __future__ import annotations

import json
import time
from datetime import date
from typing import Any

import numpy as np
import pytest

from dpsynth import Column, Records, Schema
from dpsynth.patterns import KINDS
from reports.safe_harbor import MOST_TEXTS, Scan, alphabet, scan

TODAY = date(2026, 11, 22)


def category(name: str, *values: str, **more: Any) -> Column:
    return Column(name=name, type="category", values=values or ("a", "b"), basis="test", **more)


def integer(name: str, low: int, high: int, **more: Any) -> Column:
    return Column(name=name, type="integer", minimum=low, maximum=high, bins=8, basis="test", **more)


def scanned(*columns: Column, rows: int = 40, **values: Any) -> Scan:
    """A scan of columns with values spread over their domains, or with the values given by name."""
    schema = Schema(table="t", columns=columns or (category("colour"),))
    made = {}
    for column in schema.modelled:
        if column.is_numeric:
            made[column.name] = np.asarray(
                values.get(column.name, np.round(np.linspace(float(column.minimum), float(column.maximum), rows))),
                dtype=np.float64,
            )
        else:
            made[column.name] = np.arange(rows, dtype=np.int32) % column.size
    return scan(schema, Records(schema, made), on=TODAY)


def status(found: Scan, letter: str) -> str:
    return next(finding.status for finding in found.findings if finding.letter == letter)


def found_letters(found: Scan) -> str:
    return "".join(finding.letter for finding in found.findings if finding.status == "pattern found")


def test_all_letters_are_there_in_order_and_none_is_ever_met() -> None:
    assert "".join(letter.id for letter in alphabet()) == "ABCDEFGHIJKLMNOPQR"
    found = scanned(category("colour"), integer("visits", 0, 20))
    assert [finding.letter for finding in found.findings] == [letter.id for letter in alphabet()]
    assert {finding.status for finding in found.findings} == {"pattern not found", "for a person"}
    assert [finding.letter for finding in found.findings if finding.status == "for a person"] == ["P", "Q", "R"]
    assert (found.direct, found.cards) == (0, "pattern not found")


@pytest.mark.parametrize(
    ("name", "letter"),
    [
        ("last_name", "A"),
        ("LastName", "A"),
        ("name", "A"),
        ("surname", "A"),
        ("zip3", "B"),
        ("county", "B"),
        ("birth_date", "C"),
        ("dateOfAdmission", "C"),
        ("discharge_month", "C"),
        ("home phone", "D"),
        ("fax", "E"),
        ("e-mail", "F"),
        ("SSN", "G"),
        ("mrn", "H"),
        ("patient_id", "H"),
        ("beneficiary_number", "I"),
        ("account_no", "J"),
        ("iban", "J"),
        ("passport", "K"),
        ("license_plate", "L"),
        ("vin", "L"),
        ("deviceId", "M"),
        ("website", "N"),
        ("ip_address", "O"),
        ("fingerprint", "P"),
        ("photo", "Q"),
        ("uuid", "R"),
    ],
)
def test_a_name_gives_a_column_away(name: str, letter: str) -> None:
    found = scanned(category(name))
    assert found_letters(found) == letter
    finding = next(finding for finding in found.findings if finding.letter == letter)
    assert (finding.columns, finding.signs) == ((name,), ("by its name",))
    assert found.direct == (letter not in "BC")


@pytest.mark.parametrize(
    "name",
    ["drug_name", "update", "candidate", "wage", "usage", "visits_per_day", "state", "year", "statename", "interface"],
)
def test_ordinary_names_give_nothing_away(name: str) -> None:
    assert found_letters(scanned(category(name))) == ""


@pytest.mark.parametrize(
    ("value", "letter"),
    [
        ("ann.lee@example.org", "F"),
        ("+1 212 555 2368", "D"),
        ("536-90-4399", "G"),
        ("DE89 3704 0044 0532 0130 00", "J"),
        ("4111 1111 1111 1111", "J"),
        ("192.0.2.17", "O"),
        ("https://example.org/ann", "N"),
        ("00:1b:44:11:3a:b7", "M"),
        ("7d444840-9dc0-11d1-b245-5ffdce74fad2", "R"),
        ("2024-03-17", "C"),
        ("17.03.2024", "C"),
        ("2024-03", "C"),
        ("March 2024", "C"),
        ("2024-03-17T09:00", "C"),
    ],
)
def test_one_value_among_many_is_seen_and_never_shown(value: str, letter: str) -> None:
    found = scanned(category("kind", "ordinary", "usual", value, "common"))
    assert found_letters(found) == letter
    shown = json.dumps([[f.status, *f.columns, *f.signs] for f in found.findings])
    assert value not in shown
    assert found_letters(scanned(category("kind", "ordinary", "usual", "common"))) == ""


@pytest.mark.parametrize("value", ["2024", "2019-2020", "1.5", "3/4", "12345678", "other", "0-10", "New York", "A1"])
def test_ordinary_values_are_left_alone(value: str) -> None:
    assert found_letters(scanned(category("kind", "x", "y", value))) == ""


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (integer("age", 0, 89), ""),
        (integer("age", 0, 90), "C"),
        (integer("age_months", 0, 240), ""),
        (category("age_group", "0-17", "18-89", "90+"), ""),
        (category("age_group", "0-17", "18-89", "90 or older"), ""),
        (category("age_group", "0-17", "18-94", "95+"), "C"),
        (category("age_group", "0-89", "90-94"), "C"),
        (integer("birth_year", 1930, 2020), "C"),
        (integer("birth_year", 1937, 2020), ""),
        (category("year_of_birth", "1920", "1990"), "C"),
        (category("area", "10001", "10002", "94110"), "B"),
        (category("code", "10001", "10002", "tin"), ""),
        (category("area", "10001-0001", "10002", "94110"), "B"),
        (integer("number", 100_000_000, 999_999_999), "G"),
        (integer("number", 2_000_000_000, 9_999_999_999), "D"),
        (integer("amount", 0, 999_999_999), ""),
    ],
)
def test_bounds_and_domains(column: Column, expected: str) -> None:
    assert found_letters(scanned(column)) == expected


def test_numbers_that_pass_for_cards() -> None:
    column = integer("reference", 4 * 10**15, 5 * 10**15)
    cards = [4111111111111111.0, 4012888888881881.0, 4222222222222220.0]
    found = scanned(column, rows=3, reference=cards)
    assert (found_letters(found), found.cards) == ("J", "pattern found")
    other = scanned(column, rows=3, reference=[number + 1 for number in cards])
    assert (found_letters(other), other.cards) == ("", "pattern not found")


def test_fakes_are_told_from_patterns() -> None:
    """Each format has a letter of its own; the name of a column of fakes is no finding."""
    for format, letter in (
        ("name", "A"),
        ("address", "B"),
        ("phone", "D"),
        ("email", "F"),
        ("ssn", "G"),
        ("card", "J"),
        ("ip", "O"),
    ):
        found = scanned(category("colour"), Column(name="phone_of_ann", type="identifier", format=format))
        assert found_letters(found) == ""
        assert status(found, letter) == "filled with fakes"
        assert found.direct == 0
        assert found.cards == ("filled with fakes" if format == "card" else "pattern not found")
    mrn = scanned(category("colour"), Column(name="mrn", type="identifier", format="MRN#####"))
    assert status(mrn, "H") == "filled with fakes"
    code = scanned(category("colour"), Column(name="tag", type="identifier", format="##??"))
    assert "tag" in next(finding.columns for finding in code.findings if finding.letter == "R")
    assert {format for letter in alphabet() for format in letter.formats} == set(KINDS)


def test_fakes_do_not_hide_a_pattern() -> None:
    found = scanned(category("mobile", "a", "b"), Column(name="tel", type="identifier", format="phone"))
    finding = next(finding for finding in found.findings if finding.letter == "D")
    assert (finding.status, finding.columns) == ("pattern found", ("mobile", "tel"))


def test_dropped_columns_are_not_in_the_output() -> None:
    assert found_letters(scanned(category("colour"), Column(name="ssn", type="identifier"))) == ""
    assert found_letters(scanned(category("colour"), Column(name="email", type="text"))) == ""


def test_a_declared_direct_identifier_and_codes() -> None:
    assert "R" in found_letters(scanned(category("kind", role="direct_identifier")))
    codes = scanned(category("drug", *(f"N{n:05d}" for n in range(30))))
    finding = next(finding for finding in codes.findings if finding.letter == "R")
    assert (finding.status, finding.columns) == ("for a person", ("drug",))
    assert codes.direct == 0, "codes that look alike may be a list that everyone knows"


def test_a_large_table_takes_a_second() -> None:
    """100,000 rows of 20 columns, half of them with 1,000 texts; ten times that would be noticed by whoever waits."""
    texts = [f"value {n}" for n in range(1_000)]
    columns = [category(f"c{n}", *texts) for n in range(10)] + [integer(f"n{n}", 0, 10**15) for n in range(10)]
    schema = Schema(table="t", columns=tuple(columns))
    rng = np.random.Generator(np.random.PCG64(1))
    made: dict[str, Any] = {}
    for column in columns:
        if column.is_numeric:
            made[column.name] = rng.integers(0, 10**15, 100_000).astype(np.float64)
        else:
            made[column.name] = rng.integers(0, column.size, 100_000).astype(np.int32)
    records = Records(schema, made)
    scan(schema, records, on=TODAY)
    began = time.process_time()
    found = scan(schema, records, on=TODAY)
    assert time.process_time() - began < 5
    assert found == scan(schema, records, on=TODAY)


def test_very_many_texts_are_looked_at_evenly() -> None:
    texts = [f"value {n}" for n in range(3 * MOST_TEXTS)]
    texts[0] = "ann.lee@example.org"
    assert found_letters(scanned(category("kind", *texts))) == "F"
