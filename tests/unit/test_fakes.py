"""Fakes: what they look like, that they differ where they must, and that they cannot belong to anyone."""

from __future__ import annotations

import builtins
import ipaddress
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare
from stdnum import iban, luhn
from stdnum.us import ssn

from dpsynth.errors import OperationError, SchemaError, UsageError
from dpsynth.fakes import Fakes, _Order, check_fakes
from dpsynth.patterns import KINDS, NEVER_UNIQUE, Pattern
from dpsynth.schema import Column, Schema
from dpsynth.table import Records

FLAG = Column(name="flag", type="boolean")


def schema_of(*columns: Column) -> Schema:
    return Schema(table="t", columns=(FLAG, *columns))


def column(format: str, **more: object) -> Column:
    return Column(name=format, type="identifier", format=format, **more)  # type: ignore[arg-type]


def write(records: Records, path: Path) -> None:
    fakes = Fakes(records.schema, len(records), rng=np.random.default_rng(0)).part(len(records))
    records.write(path, fakes=fakes)


def made(rows: int, *columns: Column, seed: int = 0) -> dict[str, list[str]]:
    found = Fakes(schema_of(*columns), rows, rng=np.random.default_rng(seed)).part(rows)
    return {name: array.to_pylist() for name, array in found.items()}


LOOKS = {
    "email": r"[a-z0-9]+\.[a-z0-9]+@example\.(com|net|org)",
    "username": r"[a-z0-9]+\.[a-z0-9]+",
    "phone": r"\([2-79]\d[1-9]\) 555-01\d\d",
    "ssn": r"9\d\d-(0[1-9]|[1-4]\d)-\d{4}",
    "iban": r"DE\d\d9\d{17}",
    "card": r"9999\d{12}",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_fills_a_column(kind):
    (texts,) = made(3000, column(kind)).values()
    assert len(texts) == 3000
    assert all(text and text == text.strip() for text in texts)
    if kind in LOOKS:
        assert all(re.fullmatch(LOOKS[kind], text) for text in texts)
    assert len(set(texts)) > 500


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in NEVER_UNIQUE])
def test_what_must_differ_differs(kind):
    """Far more rows than there are first names, phones for fiction, or addresses for documentation."""
    (texts,) = made(100_000, column(kind, unique=True)).values()
    assert len(set(texts)) == 100_000


UNIQUE = [kind for kind in KINDS if kind not in NEVER_UNIQUE]


@pytest.mark.parametrize("format", [*UNIQUE, "?##-#", "????????????????????-#"])
def test_what_must_differ_differs_over_all_parts(format):
    """Parts of many sizes, none and one included; more rows than there are phone numbers for fiction in the last."""
    parts = [1, 0, 5000, 18_999, *([70_000] if format in ("phone", "first_name") else [])]
    filling = Fakes(schema_of(column(format, unique=True)), sum(parts), rng=np.random.default_rng(3))
    texts = [text for rows in parts for text in filling.part(rows)[format].to_pylist()]
    assert len(set(texts)) == len(texts) == sum(parts)


def test_without_a_memory_parts_would_repeat_each_other():
    apart = [made(13_000, column("?##-#", unique=True), seed=seed)["?##-#"] for seed in (1, 2)]
    assert set(apart[0]) & set(apart[1])


def test_persons_are_numbered_over_all_parts():
    schema = Schema(table="t", columns=(FLAG,), entity="person", unit_column="who", max_rows=3, synthetic_units=True)
    filling = Fakes(schema, 7, rng=np.random.default_rng(0))
    first = filling.part(4, np.array([0, 1, 1, 0]))["who"].to_pylist()
    second = filling.part(3, np.array([2, 0, 1]))["who"].to_pylist()
    assert (set(first), set(second)) == ({1, 2}, {3, 4, 5})
    assert first[0] == first[3] != first[1] == first[2]


@pytest.mark.parametrize("below", [1, 2, 3, 10, 63, 64, 65, 1000])
def test_an_order_has_every_number_once_before_any_again(below):
    order = _Order(below, rng=np.random.default_rng(below))
    drawn = np.concatenate([order.take(n) for n in (0, 1, below - 1, below, below // 2, below - below // 2)])
    assert [sorted(part.tolist()) for part in np.split(drawn, 3)] == [list(range(below))] * 3


def test_numbers_in_order_are_spread_out():
    """Of 20 draws of 5,000 numbers the places of each digit are uniform. False-alarm rate 1e-9 in all."""
    found = np.concatenate([_Order(10**11, rng=np.random.default_rng(n)).take(5000) for n in range(20)])
    for shift in (10**10, 10**5, 1):
        counts = np.bincount(found // shift % 10, minlength=10)
        assert chisquare(counts).pvalue > 3e-10
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.02


def test_numbers_are_well_formed_and_nobodys():
    texts = made(2000, *(column(kind) for kind in ("iban", "card", "ssn", "ip")))
    assert all(iban.is_valid(text) for text in texts["iban"])
    assert all(luhn.is_valid(text) for text in texts["card"])
    assert not any(ssn.is_valid(text) for text in texts["ssn"])
    nets = [ipaddress.ip_network(net) for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24")]
    assert all(any(ipaddress.ip_address(text) in net for net in nets) for text in texts["ip"])
    (many,) = made(2000, column("ip", unique=True)).values()
    assert not any(ipaddress.ip_address(text).is_global for text in many)


def test_columns_of_a_row_speak_of_one_person():
    kinds = ("email", "name", "first_name", "last_name", "username", "address", "street", "city", "postcode")
    texts = made(500, *(column(kind) for kind in kinds))
    for n in range(500):
        row = {kind: texts[kind][n] for kind in kinds}
        assert row["name"] == f"{row['first_name']} {row['last_name']}"
        assert row["email"].split("@")[0] == row["username"] == row["name"].lower().replace(" ", ".").replace("'", "")
        assert row["address"] == f"{row['street']}, {row['city']} {row['postcode']}"


def test_a_second_column_of_a_kind_speaks_of_somebody_else():
    columns = [
        Column(name=name, type="identifier", format=name[:-1]) for name in ("name1", "email1", "name2", "email2")
    ]
    texts = made(300, *columns)
    assert texts["name1"] != texts["name2"]
    for which in "12":
        spelled = [name.lower().replace(" ", ".") for name in texts[f"name{which}"]]
        assert [text.split("@")[0] for text in texts[f"email{which}"]] == spelled


def test_patterns():
    mrn = Column(name="mrn", type="identifier", format=r"MRN\#-##?é\\", unique=True)
    (texts,) = made(1500, mrn).values()
    assert len(set(texts)) == 1500
    assert all(re.fullmatch(r"MRN#-\d\d[A-Z]é\\", text) for text in texts)
    assert Pattern.parse(mrn.format or "").capacity == 2600
    (every,) = made(2600, mrn).values()
    assert len(set(every)) == 2600
    (long,) = made(2000, Column(name="long", type="identifier", format="#" * 30, unique=True)).values()
    assert len(set(long)) == 2000
    for place in range(30):  # all ten digits everywhere: a correct draw fails with chance 30 * 10 * 0.9^2000 < 1e-88
        assert len({text[place] for text in long}) == 10


def test_places_of_a_pattern_are_uniform():
    """Chance of a false alarm with a fresh seed: below 1e-6 (50 counts, each 6 standard deviations)."""
    (texts,) = made(20_000, column("#####")).values()
    for place in range(5):
        counts = Counter(text[place] for text in texts)
        assert all(abs(counts[digit] - 2000) < 6 * np.sqrt(1800) for digit in "0123456789")


def test_fakes_are_fresh():
    """Two draws share next to nothing."""
    one, two = (made(1000, column("uuid"), seed=seed)["uuid"] for seed in (1, 2))
    assert not set(one) & set(two)


@pytest.mark.parametrize("locale", ["de_DE", "ja_JP", "ar_EG", "fr_QC"])
def test_locales(locale):
    texts = made(200, column("name", locale=locale), column("email"), column("address"))
    assert len(set(texts["name"])) > 50
    assert all(re.fullmatch(LOOKS["email"], text) for text in texts["email"])
    if locale == "de_DE":  # the e-mail column, which states no locale, speaks of the same person
        assert (
            sum(name.split()[0].lower() in email for name, email in zip(texts["name"], texts["email"], strict=True))
            > 100
        )


def test_what_cannot_be_made_is_refused_beforehand(monkeypatch):
    short = schema_of(Column(name="mrn", type="identifier", format="##", unique=True))
    check_fakes(short, 100)
    with pytest.raises(UsageError, match="fewer texts than the 101 rows that must differ"):
        check_fakes(short, 101)
    with pytest.raises(OperationError, match="more rows were made than its format has texts"):
        Fakes(short, 101, rng=np.random.default_rng(0)).part(101)
    with pytest.raises(SchemaError, match="does not know the locale 'xx_XX'"):
        check_fakes(schema_of(column("name", locale="xx_XX")), 1)

    def no_faker(name: str, *rest: object, **more: object) -> object:
        if name == "faker":
            raise ImportError
        return imported(name, *rest, **more)  # type: ignore[arg-type]

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", no_faker)
    with pytest.raises(OperationError, match=r"dpsynth\[fakes\]"):
        check_fakes(schema_of(column("name")), 1)
    check_fakes(schema_of(column("phone"), column("##-??")), 1)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_have_the_columns_in_the_schemas_order(tmp_path: Path, suffix):
    dropped = Column(name="note", type="text")
    schema = Schema(
        table="t", columns=(column("email"), dropped, FLAG, column("A-##"), Column(name="id", type="identifier"))
    )
    records = Records(schema, {"flag": np.array([0, 1, 1], dtype=np.int32)})
    path = tmp_path / f"s.{suffix}"
    write(records, path)
    frame = pd.read_csv(path) if suffix == "csv" else pd.read_parquet(path)
    assert list(frame.columns) == ["email", "flag", "A-##"]
    assert frame["email"].str.contains("@example").all()
    assert frame["flag"].tolist() == [False, True, True]
    write(Records.empty(schema), path)
    frame = pd.read_csv(path) if suffix == "csv" else pd.read_parquet(path)
    assert (list(frame.columns), len(frame)) == (["email", "flag", "A-##"], 0)


def test_a_file_that_cannot_hold_the_fakes_is_refused(tmp_path):
    from dpsynth.schema import Read

    schema = Schema(table="t", columns=(FLAG, column("name", locale="ja_JP")), read=Read(encoding="ascii"))
    records = Records(schema, {"flag": np.zeros(20, dtype=np.int32)})
    with pytest.raises(UsageError, match="cannot hold the fakes"):
        write(records, tmp_path / "s.csv")
    assert not list(tmp_path.iterdir())
