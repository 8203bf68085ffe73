"""What values look like, by hand-made examples; and near misses, which look like nothing."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsynth.drafting import draft
from dpsynth.identifiers import look
from dpsynth.reading.first_rows import Glance
from dpsynth.schema import Column, Schema

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
SYLLABLES = [a + b for a in "bdklmnrst" for b in "aeiou"]
WORDS = [(one + two).capitalize() for one in SYLLABLES for two in SYLLABLES[::3]]


def seen(texts: list[str]) -> Glance:
    return Glance(list(dict.fromkeys(texts)), len(texts))


def luhn(number: int) -> str:
    from stdnum import luhn

    return f"{number}{luhn.calc_check_digit(str(number))}"


IDENTIFIERS = {
    "e-mail addresses": ["ann@example.com", "b.c+d@mail.example.org", "x_1@sub.domain.example"],
    "UUIDs": ["123e4567-e89b-42d3-a456-426614174000", "123E4567E89B42D3A456426614174001"],
    "IP addresses": ["192.0.2.17", "10.0.0.1", "2001:db8::7"],
    "IBANs": ["DE89370400440532013000", "GB33 BUKB 2020 1555 5555 55"],
    "card numbers": ["4242424242424242", "5555 5555 5555 4444", "378282246310005"],
    "social security numbers": ["536-90-4399", "219-09-9998"],
    "phone numbers": ["+49 30 901820", "(212) 555-0123", "020 7946 0018", "212-736-5000"],
    "record numbers": [f"MRN{n * 7919 % 10**7:07d}" for n in range(1, 60)],
    "full names": [f"{one} {two}" for one, two in zip(WORDS[:60], WORDS[60:120], strict=True)],
}
NEAR_MISSES = {
    "sixteen digits that fail Luhn": [luhn(4 * 10**14 + n * 7)[:-1] + str((int(luhn(4 * 10**14 + n * 7)[-1]) + 1) % 10) for n in range(9)] * 20,
    "IBANs with one digit changed": ["DE89370400440532013001", "GB33BUKB20201555555556"] * 20,
    "social security numbers that nobody has": ["000-12-3456", "666-12-3456"] * 20,
    "addresses with a number too many": ["192.0.2.256", "1.2.3.4.5"] * 20,
    "dates": [f"20{n % 20:02d}-{n % 12 + 1:02d}-{n % 28 + 1:02d}" for n in range(200)],
    "days": [f"{n % 28 + 1:02d}/{n % 12 + 1:02d}/20{n % 20:02d}" for n in range(200)],
    "moments": [f"2024-01-{n % 28 + 1:02d} 12:{n % 60:02d}:00" for n in range(200)],
    "ages": [str(n % 90) for n in range(1000)],
    "amounts": [f"{n * 7919 % 100_000}.{n % 100:02d}" for n in range(1000)],
    "incomes": [str(n * 7919 % 150_000) for n in range(1000)],
    "postcodes": [f"{n * 7919 % 90_000 + 10_000}" for n in range(1000)],
    "ranges": ["[70-80)", "[80-90)", "10-20"] * 50,
    "codes of a classification": [f"{ALPHABET[n % 26].upper()}{n % 90 + 10}.{n % 9}" for n in range(400)],
    "states": ["North Dakota", "New York", "Rhode Island"] * 100,
    "long labels that repeat": ["Some college but less than one year of it", "High school diploma or its equivalent"] * 99,
    "ids in a column with other things": ["ann@example.com", "unknown", "none given", "refused"],
    "an empty column": [],
    "blanks": ["  ", ""],
}  # fmt: skip


@pytest.mark.parametrize("words", IDENTIFIERS)
def test_identifiers_are_recognised(words):
    found = look(seen(IDENTIFIERS[words]))
    assert found is not None
    assert (found.type, found.words) == ("identifier", words)
    if found.format:
        Column(name="a", type="identifier", format=found.format)


@pytest.mark.parametrize("words", NEAR_MISSES)
def test_near_misses_are_nothing(words):
    assert look(seen(NEAR_MISSES[words])) is None


def test_names_in_other_scripts_and_orders():
    assert (
        look(seen([f"{one}, {two}" for one, two in zip(WORDS[:40], WORDS[40:80], strict=True)])).words == "full names"
    )
    kana = [chr(0x30A2 + n) * 2 for n in range(60)]
    assert look(seen([f"{one} {two}" for one, two in zip(kana[:30], kana[30:], strict=True)])).words == "full names"


def test_free_text():
    notes = [f"The patient {word} came in late and left before the end." for word in WORDS[:50]]
    assert look(seen(notes)).type == "text"


def test_half_of_the_values_decide():
    few = ["ann@example.com", "bob@example.com"]
    assert look(seen([*few, "none", "unknown"])).words == "e-mail addresses"
    assert look(seen([*few, "none", "unknown", "refused"])) is None


def test_some_sixteen_digits_pass_luhn_by_chance():
    """One in ten does: far from half."""
    assert look(seen([str(4 * 10**15 + n * 104_729) for n in range(2000)] * 2)) is None


# ---- in a draft --------------------------------------------------------------------------------------------------


def table(path: Path, columns: dict[str, list[str]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        rows = zip(*columns.values(), strict=True)
        path.write_text("\n".join([",".join(columns), *(",".join(row) for row in rows)]) + "\n")
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_values_make_a_draft_more_careful_and_are_not_printed(tmp_path, suffix):
    columns = {
        "amount": [luhn(4 * 10**14 + n) for n in range(40)],  # named like a number, and no number
        "group": [f"{one} {two}" for one, two in zip(WORDS[:40], WORDS[40:80], strict=True)],
        "remarks": ["ann@example.com"] * 40,
        "reason": [f"She said that the door was open on day {word}" for word in WORDS[:40]],
        "age": [str(n) for n in range(40)],
        "email": ["nobody"] * 40,
    }
    path = table(tmp_path / f"t.{suffix}", columns)
    text = draft(path)
    schema, blind = Schema.parse(text), Schema.parse(draft(path, names_only=True))
    assert {column.name: column.type for column in schema.columns} == {
        "amount": "identifier", "group": "identifier", "remarks": "identifier", "reason": "text",
        "age": "integer", "email": "identifier",
    }  # fmt: skip
    assert all(blind.column(name).is_modelled for name in ("amount", "group", "reason"))
    assert all(schema.column(name).role == "direct_identifier" for name in ("amount", "group", "remarks"))
    for words in (
        "looks like card numbers",
        "looks like full names",
        "looks like e-mail addresses",
        "looks like free text",
    ):
        assert words in text
    assert "as private as they are" in text
    assert "no row was read" not in text
    values = {value for texts in columns.values() for value in texts if not value.isdigit() or len(value) > 4}
    assert not any(value in text for value in values)


def test_names_only_reads_no_row(tmp_path):
    texts = set()
    for number, value in enumerate(["ann@example.com", "plain"]):
        (tmp_path / str(number)).mkdir()
        path = table(tmp_path / str(number) / "t.csv", {"word": [value] * 30})
        texts.add(draft(path, names_only=True))
    (text,) = texts
    assert "no row was read" in text


def test_numbers_that_storage_made_of_identifiers(tmp_path):
    """A column of card numbers is an identifier as integers, and as floats, which missing cells make of them."""
    cards = [int(luhn(4 * 10**14 + n)) for n in range(40)]
    columns = {
        "a": pa.array(cards),
        "b": pa.array([*map(float, cards[1:]), None]),
        "c": pa.array([n / 7 for n in range(40)]),
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    schema = Schema.parse(draft(tmp_path / "t.parquet"))
    assert [column.type for column in schema.columns] == ["identifier", "identifier", "number"]


@pytest.mark.parametrize(
    "content", [b"a,b\n\xff\xfe,\x00\n", b'a,b\n"never closed,1\nx,y\n', b"a,b\n1\n1,2,3\n", b"a,b\n"]
)
def test_what_cannot_be_read_gives_what_names_give(tmp_path, content):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with_values, blind = (Schema.parse(draft(path, names_only=flag)) for flag in (False, True))
    assert with_values == blind


def test_a_damaged_parquet_gives_what_names_give(tmp_path):
    path = table(tmp_path / "t.parquet", {"word": ["ann@example.com"] * 5000})
    content = bytearray(path.read_bytes())
    content[4:60] = b"\x00" * 56
    path.write_bytes(bytes(content))
    assert Schema.parse(draft(path)) == Schema.parse(draft(path, names_only=True))
