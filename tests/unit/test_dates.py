"""Dates and times: counted in days and seconds, read strictly, written as declared, kept by constraints."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpsynth.checking import check
from dpsynth.dates import Clock
from dpsynth.errors import DataFileError, SchemaError
from dpsynth.reading import check_frame, check_header, read, read_frame
from dpsynth.schema import Column, Constraint, Schema
from dpsynth.table import Records, Table

DAY = Column(name="day", type="date", minimum=date(1900, 1, 1), maximum="2020-12-31", missing=True)
WHEN = Column(name="when", type="datetime", minimum=datetime(2020, 1, 1), maximum="2020-12-31T23:59:59", missing=True)
SCHEMA = Schema(table="t", columns=(DAY, WHEN))


def parsed(clock: Clock, *texts: str) -> list[float | None]:
    found = clock.parse(pa.array(texts, pa.large_string())).tolist()
    return [None if number != number else number for number in found]


def days(column: Column, frame: pd.DataFrame) -> list[str | None]:
    """What a frame's only column is read as, in ISO 8601."""
    schema = Schema(table="t", columns=(column,))
    found = read_frame(frame, schema).records.columns[column.name].tolist()
    return [None if number != number else column.clock.iso(number) for number in found]


# ---- the calendar --------------------------------------------------------------------------------------------------


def test_days_and_seconds_agree_with_python() -> None:
    rng = np.random.default_rng(0)
    clock, watch = Clock("date"), Clock("datetime")
    for seconds in rng.integers(-62_135_596_800, 253_402_300_799, size=300, endpoint=True).tolist():
        moment = datetime(1970, 1, 1) + timedelta(seconds=seconds)
        assert watch.iso(seconds) == moment.isoformat()
        assert watch.texts(np.array([float(seconds)])) == [moment.isoformat()]
        assert parsed(watch, moment.isoformat()) == [seconds]
        assert parsed(clock, moment.date().isoformat()) == [(moment.date() - date(1970, 1, 1)).days]


def test_only_days_of_the_calendar_are_read() -> None:
    clock = Clock("date")
    wrong = ["2021-02-29", "1900-02-29", "2020-13-01", "2020-00-10", "2020-04-31", "0000-01-01", "20-1-1", "2020-1-1x"]
    assert parsed(clock, *wrong) == [None] * len(wrong)
    assert parsed(clock, "2020-02-29", "2000-02-29", " 2020-3-1 ") == [18321, 11016, 18322]
    assert parsed(Clock("date", "%Y-%j"), "2020-366", "2021-366", "2021-000") == [18627, None, None]
    watch = Clock("datetime")
    wrong = ["2020-01-01T24:00:00", "2020-01-01T00:60:00", "2020-01-01T00:00:60", "2020-01-01", "٢٠٢٠-01-01T00:00:00"]
    assert parsed(watch, *wrong) == [None] * len(wrong)


@pytest.mark.parametrize(
    ("format_", "text", "iso"),
    [
        ("%d.%m.%Y %H:%M", "3.4.2020 05:06", "2020-04-03T05:06:00"),
        ("%m/%d/%Y %I:%M:%S %p", "04/03/2020 12:00:01 AM", "2020-04-03T00:00:01"),
        ("%m/%d/%Y %I:%M:%S %p", "04/03/2020 12:00:01 pm", "2020-04-03T12:00:01"),
        ("%m/%d/%Y %I:%M:%S %p", "04/03/2020 13:00:01 PM", None),
        ("%Y-%m-%d %H:%M:%S.%f", "2020-04-03 05:06:07.999", "2020-04-03T05:06:07"),
        ("%Y-%m-%dT%H:%M:%S%z", "2020-04-03T00:30:00+02:00", "2020-04-02T22:30:00"),
        ("%Y-%m-%dT%H:%M:%S%z", "2020-04-03T00:30:00Z", "2020-04-03T00:30:00"),
        ("%Y-%m-%dT%H:%M:%S%z", "2020-04-03T00:30:00+99:00", None),
        ("%d%b%Y:%H:%M:%S", "03APR2020:05:06:07", "2020-04-03T05:06:07"),
        ("%B %d, %Y %H:%M", "april 3, 2020 05:06", "2020-04-03T05:06:00"),
        ("%y%m%d%H", "20040305", "2020-04-03T05:00:00"),
        ("%y%m%d%H", "2004035", None),
        ("100%% %Y-%m-%dT%H", "100% 2020-04-03T05", "2020-04-03T05:00:00"),
    ],
)
def test_formats_are_read_as_they_say(format_: str, text: str, iso: str | None) -> None:
    clock = Clock("datetime", format_)
    (number,) = parsed(clock, text)
    assert (None if number is None else clock.iso(number)) == iso


@pytest.mark.parametrize(
    "format_", ["%Y-%m", "%m-%d", "%Y-%d", "%Y-%m-%d %Y", "%Y-%m-%b-%d", "%Y-%j-%d", "%Y-%m-%d%S", "%c", ""]
)
def test_formats_that_lose_the_date_are_refused(format_: str) -> None:
    for kind in ("date", "datetime"):
        with pytest.raises(ValueError, match="format"):
            Clock(kind, format_)


def test_what_a_format_does_not_show_is_not_counted() -> None:
    column = Column(name="x", type="datetime", format="%Y-%m-%d %H:%M", minimum="2020-01-01", maximum="2020-01-02")
    assert column.binning.starts is not None
    assert column.binning.starts[-1] - column.binning.starts[0] == 24 * 60 + 1
    frame = pd.DataFrame({"x": pd.to_datetime(["2020-01-01 10:20:59"])})
    assert days(column, frame) == ["2020-01-01T10:20:00"]


# ---- the schema ----------------------------------------------------------------------------------------------------


def test_bounds_have_one_spelling() -> None:
    spelled = '[[column]]\nname = "x"\ntype = "datetime"\nminimum = {}\nmaximum = "2021-01-01"\natoms = ["2020-06-01"]'
    schemas = [
        Schema.parse('schema = "dpsynth.schema/1"\ntable = "t"\n' + spelled.format(text))
        for text in (
            "2020-01-31",
            '"2020-01-31"',
            "2020-01-31T00:00:00",
            '"2020-01-31 00:00"',
            "2020-01-31T01:00:00+01:00",
        )
    ]
    assert {schema.digest for schema in schemas} == {schemas[0].digest}
    assert schemas[0].columns[0].minimum == "2020-01-31T00:00:00"
    assert Schema.parse(schemas[0].to_toml()) == schemas[0]


def test_edges_and_default_bins() -> None:
    assert DAY.binning.size == 32
    edged = Column(name="x", type="date", edges=["2020-01-01", "2020-02-01", date(2020, 3, 1)])
    assert (edged.minimum, edged.maximum) == ("2020-01-01", "2020-03-01")
    assert edged.binning.encode(np.array([18262.0, 18292.0, 18293.0, 18322.0])).tolist() == [0, 0, 1, 1]
    assert Column(name="x", type="date", minimum="2020-01-01", maximum="2020-01-31").size == 31


# ---- reading -------------------------------------------------------------------------------------------------------


def test_csv_cells(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(
        b"day,when\n2020-02-29,2020-02-29T01:02:03\n2020-02-30,2020-02-29 01:02:03\n,\n1850-01-01,2030-01-01T00:00:00\n\xff,x\n"
    )
    check_header(path, SCHEMA)
    found = read(path, SCHEMA).records.columns
    assert [None if n != n else DAY.clock.iso(n) for n in found["day"].tolist()] == [
        "2020-02-29",
        None,
        None,
        "1900-01-01",
        None,
    ]
    assert [None if n != n else WHEN.clock.iso(n) for n in found["when"].tolist()] == [
        "2020-02-29T01:02:03", None, None, "2020-12-31T23:59:59", None,
    ]  # fmt: skip
    lines = check(SCHEMA, path).lines
    assert "column 'day': not a date in the declared format, taken as missing (2 rows)" in lines
    assert "column 'day': below the minimum, moved up to it (1 row)" in lines


DAYS = [date(2020, 2, 29), None, date(1850, 1, 1), date(1969, 12, 31)]
READ = ["2020-02-29", None, "1900-01-01", "1969-12-31"]
MIDNIGHTS = [None if day is None else datetime(day.year, day.month, day.day, 13) for day in DAYS]


@pytest.mark.parametrize(
    "array",
    [
        pa.array(DAYS, pa.date32()), pa.array(DAYS, pa.date64()), pa.array(DAYS, pa.date32()).dictionary_encode(),
        *(pa.array(MIDNIGHTS, pa.timestamp(unit, zone)) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Asia/Tokyo")),
        pa.array([None if day is None else day.isoformat() for day in DAYS]),
        pa.array([None if day is None else day.isoformat().encode() for day in DAYS]),
        pa.array([None if day is None else day.isoformat() for day in DAYS]).dictionary_encode(),
    ],
    ids=lambda array: str(array.type),
)  # fmt: skip
def test_stored_dates(array: pa.Array, tmp_path: Path) -> None:
    schema = Schema(table="t", columns=(DAY,))
    pq.write_table(pa.table({"day": array}), tmp_path / "t.parquet")
    check_header(tmp_path / "t.parquet", schema)
    found = read(tmp_path / "t.parquet", schema).records.columns["day"].tolist()
    assert [None if n != n else DAY.clock.iso(n) for n in found] == READ
    assert days(DAY, pd.DataFrame({"day": pd.Series(array, dtype=pd.ArrowDtype(array.type))})) == READ


@pytest.mark.parametrize(
    "series",
    [
        pd.Series(DAYS, dtype=object), pd.Series(MIDNIGHTS, dtype=object), pd.Series(pd.to_datetime(pd.Series(MIDNIGHTS))),
        pd.Series(pd.to_datetime(pd.Series(MIDNIGHTS))).dt.tz_localize("UTC"),
        pd.Series(pd.to_datetime(pd.Series(MIDNIGHTS))).astype("category"),
        pd.Series([None if day is None else day.isoformat() for day in DAYS], dtype="string"),
        pd.Series(["2020-02-29", pd.NaT, np.datetime64("1850-01-01"), pd.Timestamp("1969-12-31 12:00", tz="UTC")], dtype=object),
        pd.Series([b"2020-02-29", "2020-02-30", date(1, 1, 1), datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=1)))], dtype=object),
    ],
    ids=str,
)  # fmt: skip
def test_dates_in_frames(series: pd.Series[Any]) -> None:
    assert days(DAY, pd.DataFrame({"day": series})) == READ


def test_numbers_may_spell_dates_and_nothing_else_does() -> None:
    column = Column(name="x", type="date", minimum="1990-01-01", maximum="2020-12-31", format="%y%m%d", missing=True)
    cells = pd.Series([930228, 930229, "930228", 930228.0, True, 1e300, [1], pd.Timedelta(days=1)], dtype=object)
    read_as = "1993-02-28"
    assert days(column, pd.DataFrame({"x": cells})) == [read_as, None, read_as, read_as, None, None, None, None]
    assert days(column, pd.DataFrame({"x": [930228, 5]})) == [read_as, None]


def test_times_outside_the_calendar_are_no_dates() -> None:
    far = pa.array([2**62, -(2**62)], pa.timestamp("s"))
    assert days(DAY, pd.DataFrame({"day": pd.Series(far, dtype=pd.ArrowDtype(far.type))})) == [None, None]
    assert days(DAY, pd.DataFrame({"day": np.array(["12000-01-01", "-0005-01-01"], dtype="datetime64[s]")})) == [
        None,
        None,
    ]


def test_other_columns_still_refuse_times() -> None:
    number = Schema(table="t", columns=(Column(name="day", type="integer", minimum=0, maximum=9),))
    for array in (pa.array(DAYS), pa.array(MIDNIGHTS, pa.timestamp("us"))):
        with pytest.raises(DataFileError, match="cannot be read as integer"):
            check_frame(pd.DataFrame({"day": pd.Series(array, dtype=pd.ArrowDtype(array.type))}), number)
    who = Schema(table="t", columns=(DAY,), entity="person", unit_column="who", max_rows=1)
    with pytest.raises(DataFileError, match="store it as integers or texts"):
        check_frame(pd.DataFrame({"day": DAYS, "who": pd.to_datetime(DAYS)}), who)


# ---- writing -------------------------------------------------------------------------------------------------------


def test_what_is_written(tmp_path: Path) -> None:
    columns = {"day": np.array([18321.0, np.nan]), "when": np.array([1577840523.0, np.nan])}
    records = Records(SCHEMA, columns)
    table = records.to_arrow()
    assert [str(field.type) for field in table.schema] == ["date32[day]", "timestamp[s]"]
    assert table.to_pylist() == [
        {"day": date(2020, 2, 29), "when": datetime(2020, 1, 1, 1, 2, 3)},
        {"day": None, "when": None},
    ]
    frame = records.to_frame()
    assert frame.dtypes.astype(str).tolist() == ["datetime64[s]"] * 2
    assert frame["day"].isna().tolist() == [False, True]
    again = read_frame(frame, SCHEMA).records
    assert all(np.array_equal(again.columns[name], columns[name], equal_nan=True) for name in columns)
    records.write(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text(encoding="utf-8") == "day,when\n2020-02-29,2020-01-01T01:02:03\n,\n"


# ---- constraints ---------------------------------------------------------------------------------------------------


def visits(*rules: str) -> Schema:
    ends = {"minimum": "2020-01-01", "maximum": "2020-12-31", "bins": 5}
    columns = (Column(name="start", type="date", **ends), Column(name="end", type="date", **ends, missing=True), WHEN)
    return Schema(table="t", columns=columns, constraints=tuple(Constraint(rule=rule) for rule in rules))


def test_constraints_on_dates_are_kept() -> None:
    schema = visits("start + 1 <= end", "start >= '2020-02-15'", "when < '2020-07-01'", "end != '2020-03-01'")
    rng = np.random.default_rng(0)
    codes = np.column_stack([rng.integers(size, size=4000) for size in schema.sizes]).astype(np.int32)
    possible = np.ones(len(codes), dtype=bool)
    for columns, mask in schema.rules.masks:
        possible &= mask[tuple(codes[:, column] for column in columns)]
    table = Table(schema, codes[possible])
    found = table.decode(rng=rng)
    assert schema.rules.holds(found.columns).all()
    assert np.array_equal(Table.encode(found).codes, table.codes)
    start, end, when = (found.columns[name] for name in ("start", "end", "when"))
    assert start.min() == 18307  # 2020-02-15
    assert np.nanmin(end - start) == 1
    assert np.nanmax(when) < datetime(2020, 7, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("start < 5", "compares with ISO 8601 texts in quotes"),
        ("start < '2020-02-30'", "no date or time"),
        ("start < 'soon'", "no date or time"),
        ("start < when", "need the same type"),
        ("start in ('2020-01-01', 7)", "compares with ISO 8601 texts"),
    ],
)
def test_rules_that_mistake_dates_are_refused(rule: str, why: str) -> None:
    with pytest.raises(SchemaError, match=why):
        visits(rule)


def test_sums_of_dates_are_kept() -> None:
    """How long it is between two, as a number, and as an integer column that says how long."""
    ends = {"minimum": "2020-01-01", "maximum": "2020-06-30", "bins": 6}
    columns = (
        Column(name="start", type="date", **ends),
        Column(name="end", type="date", **ends, missing=True),
        Column(name="stay", type="integer", minimum=0, maximum=60, bins=4),
    )
    rules = ("end - start <= 45", "end == start + stay", "stay != 7")
    schema = Schema(table="t", columns=columns, constraints=tuple(Constraint(rule=rule) for rule in rules))
    assert Schema.parse(schema.to_toml()) == schema
    codes = np.indices(schema.sizes).reshape(3, -1).T.astype(np.int32)
    possible = np.ones(len(codes), dtype=bool)
    for where, mask in schema.rules.masks:
        possible &= mask[tuple(codes[:, column] for column in where)]
    assert 0 < possible.sum() < len(codes)
    table = Table(schema, np.asfortranarray(codes[possible].repeat(20, axis=0)))
    rules_shaped = schema.rules.shaped({i: np.ones(size) for i, size in enumerate(schema.sizes)}, {})
    for drawn in (table, Table(schema, table.codes, rules=rules_shaped)):
        found = drawn.decode(rng=np.random.default_rng(0))
        start, end, stay = (found.columns[column.name] for column in columns)
        there = ~np.isnan(end)
        assert np.array_equal(end[there], (start + stay)[there])
        assert np.nanmax(end - start) <= 45
        assert not np.any(stay == 7)
        assert np.array_equal(Table.encode(found).codes, table.codes)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ("start + end <= '2020-03-01'", "add days or seconds to it, or subtract another date"),
        ("end - start <= '2020-03-01'", "add days or seconds to it"),
        ("start <= n", "add days or seconds to it"),
        ("end - start + n == start", "comes twice|add days"),
        ("end - start <= x", "need the same type"),
        ("end - when <= 3", "need the same type"),
        ("n + 1 < '2020-03-01'", "is an integer and compares with numbers"),
    ],
)
def test_sums_that_are_no_time_are_refused(rule: str, why: str) -> None:
    more = (
        Column(name="n", type="integer", minimum=0, maximum=9),
        Column(name="x", type="number", minimum=0, maximum=9, decimals=1),
    )
    base = visits()
    with pytest.raises(SchemaError, match=why):
        Schema(table="t", columns=(*base.columns, *more), constraints=(Constraint(rule=rule),))
