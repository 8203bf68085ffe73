"""Whatever stands in the rows, discovery ends with a schema in which they can be counted and drawn (design rule 3)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpsynth import Curator
from dpsynth.discovery import budget_for, discover, share_for
from dpsynth.errors import SchemaError
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.privacy import Cap, Cost
from dpsynth.rehearsal import Rehearsal
from dpsynth.schema import Column, Schema
from dpsynth.synthesizers.registry import SYNTHESIZERS
from dpsynth.throw_away import ThrowAway

numbers = st.one_of(
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1e15, 2**53, 2.0**53 + 2, 1.7e308, math.inf, -math.inf, math.nan]),
    st.sampled_from(["", "1e999", "-1e999", "x", " 7 ", None]),
)
bounds = st.one_of(st.just("discover"), st.integers(-5, 5), st.sampled_from([0.005, 1e14, -1e14]))


@st.composite
def columns(draw: st.DrawFn) -> Column:
    """An open numeric column that the schema accepts."""
    kind = draw(st.sampled_from(["integer", "number"]))
    facts: dict[str, Any] = {"minimum": draw(bounds), "maximum": draw(bounds), "missing": draw(st.booleans())}
    facts["bins"] = draw(st.sampled_from(["discover", None, 1, 7, 300]))
    if kind == "number":
        facts["decimals"] = draw(st.sampled_from([None, 0, 2, 15]))
    try:
        column = Column(name="a", type=kind, **facts)
        Schema(table="t", columns=(column,)).widest()
    except SchemaError:
        column = Column(name="a", type=kind, minimum="discover", maximum="discover")  # type: ignore[arg-type]
    if not column.is_open:
        column = Column(name="a", type=kind, minimum=0, maximum=1, bins="discover")  # type: ignore[arg-type]
    return column


@pytest.mark.slow
@given(
    column=columns(),
    values=st.lists(st.tuples(numbers, st.sampled_from([1, 3, 700])), max_size=6),
    epsilon=st.sampled_from(["0.1", "10", "100000"]),
)
@example(
    column=Column(name="a", type="number", minimum="discover", maximum="discover", bins="discover"),  # type: ignore[arg-type]
    values=[(-1.7e308, 700), (1.7e308, 700), (5e-324, 700)],
    epsilon="100000",
)
@settings(max_examples=60)
def test_any_numbers_give_a_domain_that_holds_them(
    column: Column, values: list[tuple[object, int]], epsilon: str
) -> None:
    schema = Schema(table="t", columns=(column,))
    cells = [value for value, times in values for _ in range(times)]
    frame = pd.DataFrame({"a": pd.Series(cells, dtype=object)})
    budget, more = budget_for(schema, promise=Cap.of(epsilon, "1e-6"), share=share_for(schema)), Cost.zcdp(Fraction(1))
    curator = Curator.of_frame(frame, schema, ThrowAway(budget + more, unit=schema.unit), holdout=Fraction(1, 4))
    (found,) = discover(curator, budget=budget)
    done = curator.schema.columns[0]
    assert done == found.column
    assert done.is_complete
    assert done.source == "discover"
    assert found.rho <= budget.rho
    assert column.minimum is None or column.minimum <= done.minimum <= column.minimum + 1  # the next value it can have
    assert column.maximum is None or column.maximum - 1 <= done.maximum <= column.maximum
    assert (done.decimals, done.missing, done.unknown) == (column.decimals, column.missing, column.unknown)
    assert done.size <= schema.widest().columns[0].size
    curator.measure((0,), DiscreteGaussian.calibrated(rho=Fraction(1), l2_squared=1))
    bins = done.binning
    drawn = bins.decode(np.arange(bins.size, dtype=np.int32), rng=np.random.default_rng(0))
    assert np.isfinite(drawn).all()
    assert drawn.min() >= done.minimum
    assert drawn.max() <= done.maximum
    records = curator.review_sample().fit.records
    held = records.columns["a"][~np.isnan(records.columns["a"])]
    assert np.all((held >= done.minimum) & (held <= done.maximum))


# ---- and every recipe can go on with it ----------------------------------------------------------------------------

DEGENERATE: dict[str, pd.DataFrame] = {
    "no rows": pd.DataFrame({"a": [], "b": [], "c": []}, dtype=object),
    "one row": pd.DataFrame({"a": [3.5], "b": [7], "c": ["x"]}),
    "one value": pd.DataFrame({"a": [0.0] * 5000, "b": [0] * 5000, "c": ["x"] * 5000}),
    "nothing readable": pd.DataFrame({"a": ["?"] * 99, "b": ["?"] * 99, "c": ["\x00"] * 99}, dtype=object),
    "all different": pd.DataFrame(
        {"a": 1.5 ** np.arange(600.0), "b": np.arange(600) ** 3, "c": [f"text {n}" for n in range(600)]}
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SYNTHESIZERS)
def test_every_recipe_goes_on_with_what_was_found(name: str) -> None:
    if name in ("ardm", "vae"):
        pytest.importorskip("opacus")
    open_ = {"minimum": "discover", "maximum": "discover"}
    schema = Schema(
        table="t",
        columns=(
            Column(name="a", type="number", **open_, bins="discover"),  # type: ignore[arg-type]
            Column(name="b", type="integer", **open_),  # type: ignore[arg-type]
            Column(name="c", type="category", values="discover"),  # type: ignore[arg-type]
        ),
        rows_at_most=6000,
    )
    rehearsal = Rehearsal(schema, synthesizer=name, epsilon=50, delta="1e-6", rows=25)
    for what, frame in DEGENERATE.items():
        rows = rehearsal.run(frame).rows
        assert len(rows) == 25, what
        assert not rows.schema.is_open
        assert set(rows.to_frame()["c"]) <= set(rows.schema.column("c").labels)
