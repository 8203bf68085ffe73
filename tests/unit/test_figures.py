"""Numbers with signs: what is read, what is refused, and that what is written is read again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpsynth import Column, Records, Schema, SchemaError
from dpsynth.figures import Figures
from dpsynth.reading import read, read_frame

DOLLARS, EUROS, PERCENT = Figures("$1,234.56"), Figures("1.234,50 €"), Figures("1234.0%")


@pytest.mark.parametrize(
    ("figures", "text", "number"),
    [
        (DOLLARS, "$3,000.00", 3000.0),
        (DOLLARS, "3000", 3000.0),
        (DOLLARS, " $ 12,345,678.9 ", 12_345_678.9),
        (DOLLARS, "-$5.00", -5.0),
        (DOLLARS, "$-5.00", -5.0),
        (DOLLARS, "($1,005.50)", -1005.5),
        (DOLLARS, "+7.", 7.0),
        (EUROS, "1.234,56 €", 1234.56),
        (EUROS, "1234,56€", 1234.56),
        (EUROS, "-2", -2.0),
        (PERCENT, "12.5%", 12.5),
        (PERCENT, "12.5 %", 12.5),
        (PERCENT, "12.5", 12.5),
        (Figures("1 234 kr"), "12 345 kr", 12_345.0),
        (Figures("1'234"), "9'999'999", 9_999_999.0),
        (DOLLARS, "9" * 400, math.inf),
    ],
)
def test_texts_are_numbers(figures: Figures, text: str, number: float) -> None:
    assert figures.parse(text) == number


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        (DOLLARS, "$3.000,00"),
        (DOLLARS, "$3,00.00"),
        (DOLLARS, "3,0000"),
        (DOLLARS, "1234,567"),
        (DOLLARS, "€3"),
        (DOLLARS, "--3"),
        (DOLLARS, "-$-3"),
        (DOLLARS, "(-3)"),
        (DOLLARS, "(3"),
        (DOLLARS, "3)"),
        (DOLLARS, "$"),
        (DOLLARS, ""),
        (DOLLARS, "1e3"),
        (DOLLARS, "٣"),  # a digit, and none that float64's text has
        (EUROS, "1,234.56 €"),
        (EUROS, "1.23"),
        (PERCENT, "1,234%"),
        (Figures("1,234"), "1,234.5"),
    ],
)
def test_other_texts_are_none(figures: Figures, text: str) -> None:
    assert math.isnan(figures.parse(text))


@pytest.mark.parametrize("figures", [DOLLARS, EUROS, Figures("1234")])
def test_a_cell_of_blanks_takes_no_time(figures: Figures) -> None:
    assert math.isnan(figures.parse(" " * 50_000 + "x"))
    assert math.isnan(figures.parse("1" + " " * 50_000 + "x"))


@given(
    format=st.sampled_from(
        [
            "$1,234.56",
            "1.234,50 €",
            "1234.0%",
            "1 234 kr",
            "1'234.000",
            "CHF 1234",
            "1\u202f234,00",
            "1.234,50\u00a0€",
            "€\u202f1\u2009234",
        ]
    ),
    number=st.integers(-(10**11), 10**11),
)
def test_what_is_written_is_read_again(format: str, number: int) -> None:
    figures = Figures(format)
    exact = number / 10**figures.decimals
    assert figures.parse(figures.text(exact)) == exact


@pytest.mark.parametrize(("format", "number", "text"), [
    ("$1,234.56", -1234567.891, "-$1,234,567.89"), ("1.234,50 €", 0.5, "0,50 €"), ("1234.0%", -0.04, "0.0%"),
    ("1 234 kr", 999, "999 kr"),
])  # fmt: skip
def test_numbers_are_written_so(format: str, number: float, text: str) -> None:
    assert Figures(format).text(number) == text


@pytest.mark.parametrize("format", ["", "$", "12", "1,234,56", "1,234.x", "-1234", "=1234", "1234\n", '"1234"', "%.2f"])
def test_no_example_of_the_number_is_refused(format: str) -> None:
    with pytest.raises(SchemaError, match="format"):
        Column(name="a", type="number", format=format)


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        ({"type": "integer", "format": "1,234.5"}, "must show no decimals"),
        ({"type": "number", "format": "1,234.5", "decimals": 2}, "format and decimals must agree"),
        ({"type": "category", "format": "1,234"}, "format does not apply"),
        ({"type": "number", "formats": ("1,234",)}, "formats does not apply"),
        ({"type": "date", "format": "%Y-%m-%d", "formats": ("%d/%m/%Y",)}, "exclude each other"),
        ({"type": "date", "formats": ()}, "empty list"),
        ({"type": "date", "formats": ("%Y-%m-%d", "%m/%Y")}, "whole date"),
        ({"type": "datetime", "formats": ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")}, "as fine as the others"),
    ],
)
def test_formats_that_say_two_things_are_refused(facts: dict[str, object], rule: str) -> None:
    with pytest.raises(SchemaError, match=rule):
        Column(name="a", **facts)  # type: ignore[arg-type]


SCHEMA = Schema(
    table="t",
    columns=(
        Column(name="paid", type="number", minimum=-10_000, maximum=10_000, format="$1,234.50", missing=True),
        Column(name="visits", type="integer", minimum=0, maximum=5000, bins=5, format="1.234"),
        Column(
            name="day",
            type="date",
            minimum="2020-01-01",
            maximum="2021-12-31",
            formats=("%d/%m/%Y", "%Y-%m-%d", "%b %d, %Y"),
        ),
        Column(
            name="at",
            type="datetime",
            minimum="2020-01-01T00:00:00",
            maximum="2021-12-31T23:59:59",
            formats=("%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M"),
        ),
    ),
)


def test_the_schema_survives_toml() -> None:
    assert Schema.parse(SCHEMA.to_toml()) == SCHEMA
    assert SCHEMA.column("paid").decimals == 2


def test_the_first_format_that_fits_counts_and_the_first_is_written(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "paid": ["$3,000.00", "", "(12.5)", "$10,000.01"],
            "visits": ["1.234", "0", "17", "5.000"],
            "day": ["01/02/2020", "2020-02-01", "Feb 01, 2020", "31/12/2021"],
            "at": ["2020-01-01 00:00:59", "01.02.2020 10:30", "2021-12-31 23:59:59", "31.12.2021 23:59"],
        }
    )
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_parquet(tmp_path / "rows.parquet")
    by_csv = read(tmp_path / "rows.csv", SCHEMA).records
    for other in (read(tmp_path / "rows.parquet", SCHEMA).records, read_frame(frame, SCHEMA).records):
        for name in ("visits", "day", "at"):
            np.testing.assert_array_equal(by_csv.columns[name], other.columns[name])
    assert by_csv.columns["paid"][[0, 2, 3]].tolist() == [3000.0, -12.5, 10_000.0]
    assert np.isnan(by_csv.columns["paid"][1])
    assert by_csv.columns["visits"].tolist() == [1234.0, 0.0, 17.0, 5000.0]
    by_csv.write(tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text().splitlines() == [
        "paid,visits,day,at",
        '"$3,000.00",1.234,01/02/2020,2020-01-01 00:00:59',
        ",0,01/02/2020,2020-02-01 10:30:00",
        '"-$12.50",17,01/02/2020,2021-12-31 23:59:59',
        '"$10,000.00",5.000,31/12/2021,2021-12-31 23:59:00',
    ]
    again = read(tmp_path / "again.csv", SCHEMA).records
    by_csv.write(tmp_path / "again.parquet")
    typed = read(tmp_path / "again.parquet", SCHEMA).records
    assert str(pd.read_parquet(tmp_path / "again.parquet")["paid"].dtype) == "float64"
    for name, values in by_csv.columns.items():
        np.testing.assert_array_equal(again.columns[name], values)
        np.testing.assert_array_equal(typed.columns[name], values)


def test_an_empty_file_has_such_columns(tmp_path: Path) -> None:
    Records.empty(SCHEMA).write(tmp_path / "none.csv")
    assert len(read(tmp_path / "none.csv", SCHEMA).records) == 0
