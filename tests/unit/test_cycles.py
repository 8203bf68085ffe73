"""Cycles of dates: counted with noise, charged, kept with the model, and followed inside the cells."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dpsynth.binning import Bins
from dpsynth.curator import Curator
from dpsynth.dates import CYCLES, Clock
from dpsynth.density import Density, Seasonal
from dpsynth.errors import IntegrityError, PrivacyRefusal, SchemaError
from dpsynth.mechanisms.base import CycleCounts
from dpsynth.models.graphical import GraphicalModel
from dpsynth.privacy import Cap, Cost
from dpsynth.rehearsal import Rehearsal
from dpsynth.schema import Column, Constraint, Schema
from dpsynth.synthesizers import seasons
from dpsynth.synthesizers.independent import Independent
from dpsynth.synthesizers.registry import synthesizer
from dpsynth.table import Records
from dpsynth.throw_away import ThrowAway

DAY = Column(name="day", type="date", minimum="2015-01-01", maximum="2020-12-31", bins=24, cycles=("weekday", "month"))
RHO = Fraction(1, 2)
ROWS = 60_000


def column_with(**keys: object) -> Column:
    return Column(**{"name": "x", "type": "date", "minimum": "2020-01-01", "maximum": "2020-12-31", **keys})  # type: ignore[arg-type]


def real_days(rng: np.random.Generator, *, rows: int = ROWS) -> np.ndarray:
    """Working days only, three times as many in December."""
    assert DAY.binning.starts is not None
    days = np.arange(DAY.binning.starts[0], DAY.binning.starts[-1]).astype(np.float64)
    weights = np.where(DAY.clock.phases("month", days) == 11, 3.0, 1.0) * (DAY.clock.phases("weekday", days) < 5)
    return rng.choice(days, size=rows, p=weights / weights.sum())


def fitted(schema: Schema, days: np.ndarray, *, rho: Fraction = RHO) -> tuple[GraphicalModel, list[tuple[str, Cost]]]:
    purse = ThrowAway(Cost.zcdp(rho), unit=schema.unit)
    curator = Curator.of_frame(Records(schema, {"day": days}).to_frame(), schema, purse)
    part = rho * seasons.part_for(schema, Independent())
    model = Independent().fit(curator, budget=Cost.zcdp(rho - part))
    out = seasons.with_cycles(model, curator, rho=part)
    assert isinstance(out, GraphicalModel)
    return out, [(str(counts.cycle), counts.cost) for counts in out.cycles]


def shares(days: np.ndarray, cycle: str) -> np.ndarray:
    return np.bincount(DAY.clock.phases(cycle, days), minlength=CYCLES[cycle]) / len(days)


def test_days_follow_the_cycles_that_were_counted() -> None:
    rng = np.random.default_rng(0)
    schema = Schema(table="t", columns=(DAY,))
    real = real_days(rng)
    model, costs = fitted(schema, real)
    assert [cycle for cycle, _ in costs] == ["weekday", "month"]
    assert sum(cost.rho for _, cost in costs) <= RHO * seasons.SHARE
    table = model.sample(ROWS, rng=rng)
    made = np.asarray(table.decode(rng=rng).columns["day"])
    assert np.array_equal(DAY.binning.encode(made), table.codes[:, 0])
    for cycle in ("weekday", "month"):
        assert np.abs(shares(made, cycle) - shares(real, cycle)).max() < 0.01
    plain = Schema(table="t", columns=(column_with(name="day", minimum="2015-01-01", maximum="2020-12-31", bins=24),))
    without, nothing = fitted(plain, real)
    assert nothing == []
    even = np.asarray(without.sample(ROWS, rng=rng).decode(rng=rng).columns["day"])
    assert np.abs(shares(even, "weekday") - shares(real, "weekday")).max() > 0.1, "the test could not fail"


def test_phases_agree_with_python() -> None:
    import datetime as dt

    clock, watch = Clock("date"), Clock("datetime")
    for seconds in np.random.default_rng(1).integers(-(10**10), 10**10, size=200).tolist():
        moment = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=seconds)
        days = np.array([float((moment.date() - dt.date(1970, 1, 1)).days)])
        now = np.array([float(seconds)])
        assert clock.phases("weekday", days).tolist() == watch.phases("weekday", now).tolist() == [moment.weekday()]
        assert clock.phases("month", days).tolist() == watch.phases("month", now).tolist() == [moment.month - 1]
        assert watch.phases("hour", now).tolist() == [moment.hour]


def test_a_seasonal_spread_keeps_the_cells_and_reaches_the_counts() -> None:
    column = column_with(
        type="datetime", bins=7, cycles=("hour", "weekday"), minimum="2020-01-01", maximum="2020-03-01"
    )
    rng = np.random.default_rng(2)
    bins, masses = column.binning, rng.random(7)
    counts = {"hour": np.arange(24) * 100, "weekday": np.array([-50, 100, 100, 100, 100, 5, 0])}
    spread = Seasonal.of(bins, masses, Density.of(bins, masses), column.clock, counts)
    cells = rng.choice(7, size=200_000, p=masses / masses.sum()).astype(np.int32)
    values = bins.decode(cells, rng=rng, density=spread)
    assert np.array_equal(bins.encode(values), cells)
    for cycle, wanted in counts.items():
        found = np.bincount(column.clock.phases(cycle, values), minlength=CYCLES[cycle]) / len(values)
        wanted = np.maximum(wanted, 0)
        assert np.abs(found - wanted / wanted.sum()).max() < 0.02, cycle
    places = rng.random(1000)
    again = spread.share(cells[:1000], spread.place(cells[:1000], places))
    np.testing.assert_allclose(again, places, atol=1e-6)


def test_conditions_and_rules_see_the_cycles() -> None:
    rng = np.random.default_rng(3)
    days = real_days(rng, rows=5_000)
    schema = Schema(table="t", columns=(DAY,), constraints=(Constraint(rule="day != '2020-12-24'"),))
    model, _ = fitted(schema, days)
    where = "day >= '2020-03-02' and day <= '2020-03-05'"  # from a Monday to a Thursday, inside one bin
    made = np.asarray(model.sample(400, rng=rng, where=where).decode(rng=rng).columns["day"])
    assert set(made.tolist()) <= {18323.0, 18324.0, 18325.0, 18326.0}
    weekend = model.probability("day == '2020-03-07'")
    assert weekend < 0.05 * model.probability("day == '2020-03-04'")


def test_cycles_are_kept_with_the_model_and_checked(tmp_path: Path) -> None:
    schema = Schema(table="t", columns=(DAY,))
    model, _ = fitted(schema, real_days(np.random.default_rng(4), rows=1_000))
    with pytest.raises(PrivacyRefusal):
        model.save(tmp_path / "thrown")
    charged = [
        CycleCounts(column=0, cycle=c.cycle, values=c.values, sigma_squared=c.sigma_squared, cost=c.cost)
        for c in model.cycles
    ]
    from dataclasses import replace

    kept = replace(
        model, measurements=tuple(replace(m, throw_away=False) for m in model.measurements), cycles=tuple(charged)
    )
    kept.save(tmp_path / "model")
    again = GraphicalModel.load(tmp_path / "model", schema)
    assert [(c.cycle, c.values.tolist(), c.sigma_squared, c.cost) for c in again.cycles] == [
        (c.cycle, c.values.tolist(), c.sigma_squared, c.cost) for c in charged
    ]
    facts = tmp_path / "model" / "model.json"
    facts.write_text(facts.read_text(encoding="utf-8").replace('"cycle": "month"', '"cycle": "hour"'), encoding="utf-8")
    with pytest.raises(IntegrityError):
        GraphicalModel.load(tmp_path / "model", schema)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"cycles": ["hour"]}, "must be among weekday, month"),
        ({"cycles": ["year"]}, "must be among"),
        ({"cycles": ["month", "month"]}, "twice"),
        ({"type": "datetime", "cycles": ["hour"], "minimum": "1800-01-01"}, "at most"),
        ({"type": "integer", "minimum": 0, "maximum": 9, "cycles": ["month"]}, "does not apply"),
    ],
)
def test_cycles_that_cannot_be_are_refused(keys: dict[str, object], why: str) -> None:
    with pytest.raises(SchemaError, match=why):
        column_with(**keys)


@pytest.mark.parametrize("name", ["independent", "mst", "aim", "wide"])
def test_every_recipe_of_counts_has_cycles_within_its_promise(name: str) -> None:
    """A rehearsal spends what a release does, and its rows follow the cycles."""
    schema = Schema(table="t", columns=(DAY, column_with(name="other", type="integer", minimum=0, maximum=9)))
    days = real_days(np.random.default_rng(5), rows=3_000)
    frame = Records(schema, {"day": days, "other": days % 10}).to_frame()
    rehearsal = Rehearsal(schema, synthesizer=name, epsilon=5, delta=1e-6)
    made = np.asarray(rehearsal.run(frame).rows.columns["day"])
    assert shares(made, "weekday")[5:].max() < 0.03
    assert rehearsal.cost is not None
    assert rehearsal.cost.epsilon(Fraction(1, 10**6)) <= 5


def test_a_program_that_keeps_its_model_pays_for_no_cycles() -> None:
    schema = Schema(table="t", columns=(DAY,))
    assert seasons.part_for(schema, Independent()) == seasons.SHARE
    assert seasons.part_for(schema, synthesizer("smartnoise-mst")) == 0


def test_discovery_and_cycles_share_one_promise() -> None:
    """Bounds are found first; cycles take their part of what discovery leaves."""
    open_day = Column(name="day", type="date", minimum="discover", maximum="discover", cycles=("weekday",))  # type: ignore[arg-type]
    schema = Schema(table="t", columns=(open_day,))
    rehearsal = Rehearsal(schema, synthesizer="independent", epsilon=3, delta="1e-6")
    promise = Cap.of(3, "1e-6").cost
    assert rehearsal.cost is not None
    assert rehearsal.cost.fits(promise)
    assert rehearsal.cost.rho > promise.rho * Fraction(99, 100)
    frame = Records(Schema(table="t", columns=(DAY,)), {"day": real_days(np.random.default_rng(1))}).to_frame()
    rows = rehearsal.run(frame).rows
    column = rows.schema.column("day")
    assert (column.is_open, column.source, column.cycles) == (False, "discover", ("weekday",))
    assert shares(np.asarray(rows.columns["day"], np.float64), "weekday")[5:].sum() < 0.02


def test_bins_of_which_floats_hold_half_nothing_have_a_density() -> None:
    """Discovery may find nothing but zeros: then the only bin is as wide as the least float."""
    bins = Bins.of(minimum=0, maximum=5e-324, bins=1)
    with np.errstate(divide="raise", invalid="raise"):
        density = Density.of(bins, np.array([10.0]))
        drawn = bins.decode(np.zeros(5, dtype=np.int32), rng=np.random.default_rng(0), density=density)
    assert drawn.max() <= 5e-324


@pytest.mark.parametrize("seasonal", [False, True])
def test_heights_are_the_slope_of_shares_and_below_their_ceiling(seasonal: bool) -> None:
    rng = np.random.default_rng(3)
    bins, size = DAY.binning, DAY.binning.size
    masses = rng.exponential(size=size) ** 3
    spread = Density.of(bins, masses)
    counts = {"weekday": np.array([9, 7, 5, 3, 1, 0, 0]), "month": rng.integers(1, 9, size=12)}
    shape = Seasonal.of(bins, masses, spread, DAY.clock, counts) if seasonal else spread
    cells = rng.integers(size, size=5000)
    places = rng.random(5000) * (1 - 1e-6)
    slope = (shape.share(cells, places + 1e-7) - shape.share(cells, places)) / 1e-7
    close = np.isclose(shape.height(cells, places), slope, rtol=1e-4, atol=1e-4)
    assert close.mean() > 0.999, "but where a day begins between the two places"
    assert np.all(shape.height(cells, places) <= shape.ceiling(cells) * (1 + 1e-12))
    assert bins.starts is not None
    days = np.arange(bins.starts[0], bins.starts[-1])
    cell = np.searchsorted(bins.starts[1:], days, side="right")
    reached = np.zeros(size)
    for part in (0.0, 0.5, 1 - 1e-6):
        place = (days + part - bins.starts[cell]) / bins.widths[cell]
        np.maximum.at(reached, cell, shape.height(cell, place))
    assert np.all(reached > 0.95 * shape.ceiling(np.arange(size)))
