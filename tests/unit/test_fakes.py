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
from stdnum import iban, luhn
from stdnum.us import ssn

from dpsynth.errors import OperationError, SchemaError, UsageError
from dpsynth.fakes import check_fakes, fakes, write
from dpsynth.patterns import KINDS, NEVER_UNIQUE, Pattern
from dpsynth.schema import Column, Schema
from dpsynth.table import Records

FLAG = Column(name="flag", type="boolean")


def schema_of(*columns: Column) -> Schema:
    return Schema(table="t", columns=(FLAG, *columns))


def column(format: str, **more: object) -> Column:
    return Column(name=format, type="identifier", format=format, **more)  # type: ignore[arg-type]


def made(rows: int, *columns: Column, seed: int = 0) -> dict[str, list[str]]:
    found = fakes(schema_of(*columns), rows, rng=np.random.default_rng(seed))
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
        fakes(short, 101, rng=np.random.default_rng(0))
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
    write(records, schema, path, rng=np.random.default_rng(0))
    frame = pd.read_csv(path) if suffix == "csv" else pd.read_parquet(path)
    assert list(frame.columns) == ["email", "flag", "A-##"]
    assert frame["email"].str.contains("@example").all()
    assert frame["flag"].tolist() == [False, True, True]
    write(Records.empty(schema), schema, path, rng=np.random.default_rng(0))
    frame = pd.read_csv(path) if suffix == "csv" else pd.read_parquet(path)
    assert (list(frame.columns), len(frame)) == (["email", "flag", "A-##"], 0)


def test_a_file_that_cannot_hold_the_fakes_is_refused(tmp_path):
    from dpsynth.schema import Read

    schema = Schema(table="t", columns=(FLAG, column("name", locale="ja_JP")), read=Read(encoding="ascii"))
    records = Records(schema, {"flag": np.zeros(20, dtype=np.int32)})
    with pytest.raises(UsageError, match="cannot hold the fakes"):
        write(records, schema, tmp_path / "s.csv", rng=np.random.default_rng(0))
    assert not list(tmp_path.iterdir())
