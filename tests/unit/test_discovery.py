"""What a schema leaves open, from the word in the TOML to the completed schema of a release."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpsynth import Curator, Schema
from dpsynth.discovery import _Cells, _merged, _numbers, budget_for, discover, share_for
from dpsynth.errors import BudgetExceeded, IncompleteSchema, SchemaError
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.mechanisms.partition_selection import PartitionSelection
from dpsynth.privacy import Cap
from dpsynth.schema import Column
from dpsynth.table import Table
from dpsynth.throw_away import ThrowAway

OPEN = """
schema = "dpsynth.schema/1"
table = "t"
basis = "x"

[[column]]
name = "job"
type = "category"
values = "discover"

[[column]]
name = "pay"
type = "integer"
minimum = "discover"
maximum = "discover"
bins = "discover"

[[column]]
name = "share"
type = "number"
minimum = 0
maximum = 1
bins = "discover"
missing = true
"""
UNIT = 'unit = {{ entity = "person", column = "who", max_rows = {k} }}\n'


def schema_of(text: str = OPEN, *, k: int | None = None) -> Schema:
    return Schema.parse(text if k is None else text.replace("basis =", UNIT.format(k=k) + "basis ="))


def rows(n: int, *, rng: np.random.Generator) -> pd.DataFrame:
    jobs = rng.choice(["baker", "nurse", "clerk"], size=n).astype(object)
    return pd.DataFrame(
        {"job": jobs, "pay": rng.integers(1_000, 9_000, size=n), "share": np.where(rng.random(n) < 0.1, np.nan, 0.25)}
    )


def curator_of(
    frame: pd.DataFrame, schema: Schema, *, epsilon: str = "10", holdout: Fraction = Fraction(0)
) -> tuple[Curator, ThrowAway]:
    purse = ThrowAway(Cap.of(epsilon, "1e-6").cost + budget(schema, epsilon), unit=schema.unit)
    return Curator.of_frame(frame, schema, purse, holdout=holdout), purse


def budget(schema: Schema, epsilon: str = "10"):  # type: ignore[no-untyped-def]
    return budget_for(schema, promise=Cap.of(epsilon, "1e-6"), share=share_for(schema))


# ---- the schema ----------------------------------------------------------------------------------------------------


def test_an_open_schema_survives_toml_and_knows_what_is_open() -> None:
    schema = schema_of()
    assert schema.is_open
    assert not schema.blanks()
    assert [column.discover for column in schema.columns] == [("values",), ("minimum", "maximum", "bins"), ("bins",)]
    assert schema.column("job").unknown == "other"
    assert Schema.parse(schema.to_toml()) == schema
    with pytest.raises(IncompleteSchema, match="still to be discovered"):
        schema.column("pay").size  # noqa: B018
    with pytest.raises(IncompleteSchema, match="leaves 'job', 'pay', 'share' to discover"):
        schema.require_closed()


def test_a_rule_cannot_name_an_open_column() -> None:
    with pytest.raises(SchemaError, match="constraint 1: 'pay' is discovered"):
        schema_of(OPEN + '\n[[constraint]]\nrule = "pay >= 5"\n')
    assert schema_of(
        OPEN
        + '\n[[column]]\nname = "n"\ntype = "integer"\nminimum = 0\nmaximum = 9\n\n[[constraint]]\nrule = "n >= 5"\n'
    )


@pytest.mark.parametrize(
    "facts",
    [
        {"type": "integer", "minimum": 3, "maximum": 3},
        {"type": "number", "minimum": 0.2, "maximum": 1.2, "decimals": 0},
        {"type": "number", "minimum": 0.001, "maximum": 0.019, "decimals": 2},
    ],
    ids=str,
)
def test_bounds_between_which_one_value_lies_leave_nothing_to_discover(facts: dict[str, object]) -> None:
    """Refused with the schema: cells of a single value would only fail once the budget is charged."""
    with pytest.raises(SchemaError, match="something to discover"):
        Column(name="a", bins="discover", **facts)  # type: ignore[arg-type]


def test_a_domain_that_was_once_discovered_counts_as_read_off_the_data() -> None:
    """Anybody can write source = "discover" beside values; no ledger vouches for that."""
    text = OPEN.replace('values = "discover"', 'values = ["a"]\nsource = "discover"')
    assert schema_of(text).distrusted().from_data() == ["job"]


def test_a_completed_schema_differs_in_what_was_open_alone() -> None:
    schema = schema_of()
    found = {column.name: column.widest() for column in schema.columns}
    assert not schema.completed(found.values()).is_open
    with pytest.raises(ValueError, match="must be completed"):
        schema.completed([])
    wide = Column(name="job", type="category", values=tuple(map(str, range(257))), unknown="other")
    with pytest.raises(ValueError, match="'job' must be completed"):
        schema.completed([*(c for n, c in found.items() if n != "job"), wide])
    missing = Column(name="job", type="category", values=("a",), missing=True)
    with pytest.raises(ValueError, match="otherwise stay as it is"):
        schema.completed([*(c for n, c in found.items() if n != "job"), missing])


# ---- what is found -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("seeded_noise")
def test_common_values_and_bounds_are_found_within_the_budget() -> None:
    """Noise from seeds; of 100 fresh draws none missed."""
    schema, rng = schema_of(), np.random.default_rng(1)
    frame = rows(20_000, rng=rng)
    frame.loc[:4, "job"] = ["unique 1", "unique 2", "", "x" * 201, "tab\there"]
    curator, purse = curator_of(frame, schema)
    found = discover(curator, budget=budget(schema))
    assert curator.schema.column("job").labels == ("baker", "clerk", "nurse", "other")
    pay = curator.schema.column("pay")
    assert 500 <= pay.minimum <= 1_100
    assert 8_900 <= pay.maximum <= 10_000
    assert 20 <= pay.binning.size <= 32
    assert {column.source for column in curator.schema.columns} == {"discover"}
    assert purse.spent.fits(budget(schema))
    assert purse.spent.rho > budget(schema).rho * Fraction(99, 100)
    assert sum(one.rho for one in found) == purse.spent.rho
    assert sum(one.delta0 for one in found) == purse.spent.delta0 > 0
    share = curator.schema.column("share")
    assert share.minimum == 0
    assert share.maximum == 1
    assert share.missing


@pytest.mark.usefixtures("seeded_noise")
def test_a_heavy_zero_has_a_bin_of_its_own() -> None:
    text = OPEN.replace('type = "integer"', 'type = "number"')
    frame = rows(20_000, rng=np.random.default_rng(2))
    frame["pay"] = np.where(np.arange(20_000) % 2, 0.0, np.random.default_rng(3).lognormal(5, 1, size=20_000))
    curator, _ = curator_of(frame, schema_of(text))
    discover(curator, budget=budget(schema_of(text)))
    bins = curator.schema.column("pay").binning
    assert bins.edges[0] == 0
    assert bins.interval(0)[1] < 1e-300
    drawn = bins.decode(np.zeros(10, dtype=np.int32), rng=np.random.default_rng(0))
    assert not drawn.any()


@pytest.mark.parametrize("seed", range(6))
def test_bounds_of_a_small_table_cut_little_off(seed: int) -> None:
    """Ages of 4,800 people, noise of 73 and 126 on each count: no bound of these six cuts off a seventh of the rows."""
    rng = np.random.default_rng(seed)
    ages = np.floor(rng.beta(1.3, 1.6, size=4_800) * 95)

    class Noisy:
        unit = SimpleNamespace(l2_squared=1)

        def find_rows(self, name: str, edges: np.ndarray, mechanism: DiscreteGaussian) -> np.ndarray:
            inner = np.concatenate([[-np.inf], edges[1:-1], [np.inf]])
            exact = np.histogram(ages, inner)[0]
            return exact + np.rint(rng.normal(scale=mechanism.sigma, size=len(exact))).astype(np.int64)

    column = Column(name="age", type="integer", discover=("minimum", "maximum", "bins"))
    found = _numbers(Noisy(), column, rho=Fraction(1, 5_300)).column  # type: ignore[arg-type]
    low, high = found.binning.edges[0], found.binning.edges[-1]
    assert ((ages < low) | (ages > high)).mean() < 1 / 7
    assert low >= -10
    assert high <= 500


def test_a_heavy_value_behind_nothing_has_a_bin_of_its_own() -> None:
    cells = _Cells(np.array([463.0, 500.0, 501.0, 502.0]), np.array([1_200.0, 0.0, 3_400.0]), np.full(3, 100.0))
    assert _merged(cells, 4)[-3:] == [500.0, 501.0, 502.0]


DATES = """
schema = "dpsynth.schema/1"
table = "t"
basis = "x"

[[column]]
name = "day"
type = "date"
format = "%d.%m.%Y"
minimum = "discover"
maximum = "discover"
bins = "discover"
atoms = ["2099-12-31"]

[[column]]
name = "seen"
type = "datetime"
minimum = "2020-01-01T00:00:00"
maximum = "discover"
missing = true
"""


@pytest.mark.usefixtures("seeded_noise")
def test_the_range_of_dates_is_found() -> None:
    """Noise from seeds; of some 150 fresh draws one cut off the first month: a first cell that holds few rows may go."""
    schema, rng = schema_of(DATES), np.random.default_rng(8)
    day = rng.integers(12_000, 14_000, size=20_000).astype(float)  # 2002-11-09 to 2008-05-01
    day[:4000] = 47_481  # 2099-12-31: never
    seen = np.datetime64("2020-03-01T00:00:00") + rng.integers(0, 10**7, size=20_000)  # to 2020-06-24
    texts = schema.column("day").clock.texts(day)
    curator, purse = curator_of(pd.DataFrame({"day": texts, "seen": seen}), schema)
    discover(curator, budget=budget(schema))
    found, moments = curator.schema.columns
    assert purse.spent.fits(budget(schema))
    edges = found.binning.starts
    assert edges is not None
    assert "2002-09" <= str(found.edges[0])[:7] <= "2002-11"  # type: ignore[index]
    assert ((edges > 12_000) & (edges < 14_000)).sum() >= 20, "bins are where rows are"
    assert found.maximum == "2099-12-31"
    assert found.binning.is_point[found.binning.encode(np.array([47_481.0]))[0]]
    assert moments.minimum == "2020-01-01T00:00:00"
    assert "2020-06-24" <= str(moments.maximum)[:10] < "2020-08"
    assert moments.missing
    kept = curator.review_sample().fit.records.columns["day"]
    assert np.mean(np.sort(kept) == np.sort(day)) > 0.99, "hardly a row is clamped"


def test_what_a_domain_of_dates_cannot_hold_is_refused_before_a_row_is_read() -> None:
    for facts, words in (
        ({"minimum": "1700-01-01", "maximum": "discover"}, "from 1800-01-01 to 2199-12-31"),
        ({"minimum": "2199-12-31", "maximum": "discover", "format": "%y-%m-%d"}, "from 1969-01-01 to 2068-12-31"),
        ({"minimum": "discover", "maximum": "1800-01-01"}, "must leave something to discover"),
        ({"minimum": "1969-01-01", "maximum": "1969-01-01", "bins": "discover"}, "must leave something to discover"),
        ({"minimum": "discover", "maximum": "2020-01-01", "atoms": ["2020-01-02"]}, "must lie between"),
    ):
        with pytest.raises(SchemaError, match=words):
            Column(name="a", type="date", **facts)  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match="declare minimum and maximum"):
        Column(name="a", type="datetime", minimum="discover", maximum="discover", cycles=("hour",))
    Column(name="a", type="datetime", minimum="1950-01-01T00:00:00", maximum="2020-01-01T00:00:00", bins="discover", cycles=("hour",))  # type: ignore[arg-type]  # fmt: skip
    with pytest.raises(SchemaError, match="cannot be discovered"):
        Column(name="a", type="ordinal", values="discover")  # type: ignore[arg-type]


@pytest.mark.usefixtures("seeded_noise")
def test_a_person_counts_once_for_a_value() -> None:
    """Ten rows with one text are one person: with noise that is next to nothing the count says so."""
    schema = schema_of(k=10)
    frame = rows(30, rng=np.random.default_rng(4)).assign(job=["a"] * 10 + ["b", "c"] * 10, who=["p"] * 10 + ["q"] * 20)
    purse = ThrowAway(Cap.of("1000000", "1e-6").cost + budget(schema), unit=schema.unit)
    curator = Curator.of_frame(frame, schema, purse)
    sharp = PartitionSelection(noise=DiscreteGaussian(sigma_squared=Fraction(1, 1000)), least=2)
    assert curator.find_values("job", sharp) == ()
    one = PartitionSelection(noise=DiscreteGaussian(sigma_squared=Fraction(1, 1000)), least=2)
    frame["who"] = ["p"] * 10 + ["q"] * 10 + ["r"] * 10
    purse = ThrowAway(Cap.of("1000000", "1e-6").cost + budget(schema), unit=schema.unit)
    found = Curator.of_frame(frame, schema, purse).find_values("job", one)
    assert [(value.text, value.units) for value in found] == [("b", 2), ("c", 2)]


def test_nothing_else_can_be_asked_before_and_nothing_of_it_after() -> None:
    schema = schema_of()
    curator, _ = curator_of(rows(50, rng=np.random.default_rng(5)), schema)
    with pytest.raises(ValueError, match="edges must increase"):
        curator.find_rows("pay", np.array([0.0, 1.0, 1.0]), DiscreteGaussian(sigma_squared=Fraction(10**6)))
    with pytest.raises(ValueError, match="nothing of that kind"):
        curator.find_rows("job", np.array([0.0, 1.0]), DiscreteGaussian(sigma_squared=Fraction(10**6)))
    with pytest.raises(ValueError, match="discover first"):
        curator.measure((0,), DiscreteGaussian(sigma_squared=Fraction(10**6)))
    discover(curator, budget=budget(schema))
    with pytest.raises(ValueError, match="nothing of that kind"):
        curator.find_rows("pay", np.array([0.0, 1.0]), DiscreteGaussian(sigma_squared=Fraction(10**6)))
    with pytest.raises(ValueError, match="completed once"):
        curator.complete(curator.schema)


def test_discovery_stops_at_its_budget() -> None:
    schema = schema_of()
    purse = ThrowAway(budget(schema, "1"), unit=schema.unit)
    curator = Curator.of_frame(rows(50, rng=np.random.default_rng(5)), schema, purse)
    with pytest.raises(BudgetExceeded):
        discover(curator, budget=budget(schema, "2"))


@pytest.mark.parametrize("k", [None, 3])
def test_sides_and_kept_rows_stay_as_they_were(k: int | None) -> None:
    """The control side is one and the same before and after the schema is completed, whatever is dropped."""
    schema, rng = schema_of(k=k), np.random.default_rng(6)
    frame = rows(600, rng=rng)
    frame["pay"] = np.arange(600)  # a row's name
    if k is not None:
        frame["who"] = [f"p{n // 6}" for n in range(600)]
    curator, _ = curator_of(frame, schema, holdout=Fraction(1, 2))
    cells, person = curator._store._open("pay")
    before = sorted(cells.values.tolist())
    curator.complete(
        schema.completed(
            column
            if column.name != "pay"
            else Column(name="pay", type="integer", minimum=0, maximum=63, source="discover")
            for column in (column.widest() for column in schema.columns)
        )
    )
    sample = curator.review_sample().fit
    assert sorted(np.minimum(before, 63)) == sorted(sample.records.columns["pay"].tolist())
    assert sample.persons == len(np.unique(person))
    if k is not None:
        assert np.bincount(sample.person).max() == k


# ---- whatever the noise says, the schema is one --------------------------------------------------------------------


class AnyAnswer:
    """A curator whose noisy counts are anything at all."""

    def __init__(self, schema: Schema, answers: list[int]) -> None:
        self.schema, self.unit, self._answers = schema, schema.unit, answers

    def find_rows(self, name: str, edges: np.ndarray, mechanism: DiscreteGaussian) -> np.ndarray:
        assert len(edges) > 1
        assert np.all(np.diff(edges) > 0)
        assert np.isfinite(edges).all()
        return np.resize(np.array(self._answers, dtype=np.int64), len(edges) - 1)

    def find_values(self, name: str, mechanism: PartitionSelection) -> tuple[()]:
        return ()

    def complete(self, schema: Schema) -> None:
        self.schema = schema


ANSWERS = st.lists(st.one_of(st.integers(-(10**4), 10**4), st.sampled_from([0, 0, 0, 10**9])), min_size=1, max_size=40)
BINS = st.sampled_from([None, "discover", 1, 7, 40])


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["integer", "number"]),
    st.sampled_from([None, 0, 2, 15]),
    st.one_of(st.none(), st.sampled_from([-3, 0, 0.5, 1e14, 1e300])),
    st.one_of(st.none(), st.sampled_from([1, 5, 99.5, 1e14, 1.7e308])),
    BINS,
    st.one_of(st.none(), st.sampled_from([[0], [999, -1], [0.25, 3], [1], [5]])),
    ANSWERS,
)
def test_any_noisy_answers_give_a_schema(kind, decimals, low, high, bins, atoms, answers) -> None:  # type: ignore[no-untyped-def]
    facts = {"decimals": decimals} if kind == "number" else {}
    completes({"type": kind, "atoms": atoms, "bins": bins} | facts, low, high, answers)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(
        [
            ("date", None),
            ("date", "%d/%m/%y"),
            ("datetime", None),
            ("datetime", "%d/%m/%y %H:%M"),
            ("datetime", "%Y-%m-%d %H"),
        ]
    ),
    st.one_of(st.none(), st.sampled_from(["1800-01-01", "1969-01-01", "1999-12-31", "2068-12-31", "2199-12-31"])),
    st.one_of(st.none(), st.sampled_from(["1800-01-02", "1969-01-01", "2000-01-02", "2068-12-31", "2199-12-31"])),
    BINS,
    st.one_of(
        st.none(),
        st.sampled_from([["2000-01-01"], ["1969-01-01", "2068-12-31"], ["1800-01-01", "2199-12-31"], ["1500-01-01"]]),
    ),
    st.sampled_from([None, ["weekday"], ["month", "weekday"], ["hour"]]),
    ANSWERS,
)
def test_any_noisy_answers_give_dates(kind_and_format, low, high, bins, atoms, cycles, answers) -> None:  # type: ignore[no-untyped-def]
    kind, written = kind_and_format
    completes({"type": kind, "atoms": atoms, "bins": bins, "format": written, "cycles": cycles}, low, high, answers)


def completes(facts: dict[str, object], low: object, high: object, answers: list[int]) -> None:
    """A failure here would be a refusal that depends on the rows, after the charge."""
    facts |= {"minimum": "discover" if low is None else low, "maximum": "discover" if high is None else high}
    if "discover" not in facts.values():
        return
    try:
        schema = Schema(table="t", columns=(Column(name="a", **facts),))  # type: ignore[arg-type]
        schema.widest()
    except SchemaError:
        return  # refused before anything is charged
    curator = AnyAnswer(schema, answers)
    discover(curator, budget=budget(schema))  # type: ignore[arg-type]
    done = curator.schema
    assert not done.is_open
    assert done.sizes[0] <= schema.widest().sizes[0]
    assert Schema.parse(done.to_toml()) == done
    column = done.columns[0]
    for atom in column.atoms or ():
        code = column.binning.encode(np.array([float(column.step(atom))]))[0]
        assert column.binning.is_point[code] or column.binning.edges[code + 1] == np.nextafter(
            column.step(atom), np.inf
        )
    codes = np.arange(column.size, dtype=np.int32)[:, None].repeat(3, axis=0)
    rules = done.rules.shaped({0: np.ones(column.size)}, {})
    drawn = Table(done, codes, rules=rules).decode(rng=np.random.default_rng(0))
    assert np.array_equal(Table.encode(drawn).codes, codes)
    if column.is_time:
        column.clock.texts(np.asarray(drawn.columns["a"], np.float64))


@pytest.mark.usefixtures("seeded_noise")
def test_a_category_without_a_common_value_is_all_other() -> None:
    schema = schema_of()
    curator, _ = curator_of(rows(3, rng=np.random.default_rng(0)), schema, epsilon="1")
    discover(curator, budget=budget(schema, "1"))
    assert len(curator.schema.column("job").labels) == 2
    assert curator.review_sample().fit.records.columns["job"].tolist() == [1, 1, 1]
