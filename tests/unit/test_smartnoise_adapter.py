"""The SmartNoise adapter: its cells are ours, SmartNoise sees a public domain, and what comes out is in the schema.

Most of this needs no SmartNoise. The rest runs in `.venv-smartnoise` (`make smartnoise`), and is skipped without it.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from dpsynth import Column, Program, Schema, Table
from dpsynth.adapters import smartnoise as adapter
from dpsynth.reading import read_frame
from dpsynth.synthesizers.external import FACTS, SCRIPT, python

CANARY = "CANARYVALUE"
SCHEMA = Schema(
    table="t",
    basis="test",
    entity="person",
    unit_column="who",
    max_rows=2,
    columns=(
        Column(name="age", type="integer", minimum=0, maximum=99, bins=10),
        Column(name="few", type="integer", minimum=-2, maximum=7, missing=True),
        Column(name="many", type="integer", minimum=0, maximum=1000),
        Column(name="income", type="number", edges=(-5, 0, 10, 100, 1000), missing=True),
        Column(name="size", type="number", minimum=0, maximum=1, bins=3, decimals=2),
        Column(name="share", type="number", minimum=0.1, maximum=0.4),
        Column(name="town", type="category", values=("a", "b", "c"), unknown="other"),
        Column(name="grade", type="ordinal", values=("low", "middle", "high"), missing=True),
        Column(name="member", type="boolean"),
        Column(name="ill", type="boolean", true=("yes",), false=("no",), missing=True),
        Column(
            name="born", type="date", minimum="1900-01-01", maximum="2020-12-31", atoms=["1900-01-01"], missing=True
        ),
        Column(name="seen", type="datetime", minimum="2020-01-01", maximum="2021-01-01", format="%d.%m.%Y %H:%M"),
        Column(name="gain", type="number", minimum=-5, maximum=5, bins=4, atoms=[-5, 0, 5]),
        Column(name="loss", type="integer", minimum=0, maximum=999, bins=4, atoms=[0, 500, 999]),
        Column(name="note", type="text"),
    ),
)
needs_smartnoise = pytest.mark.skipif(not python().is_file(), reason="needs SmartNoise: run `make smartnoise`")


def domains(schema: Schema = SCHEMA) -> list[adapter.Domain]:
    return adapter.domains_of(tomllib.loads(schema.to_toml()))


def frame(rows: int = 400) -> pd.DataFrame:
    """Rows inside the schema, as the curator hands them out."""
    rng = np.random.default_rng(3)
    codes = np.column_stack([rng.integers(size, size=rows) for size in SCHEMA.sizes]).astype(np.int32)
    return Table(schema=SCHEMA.released(), codes=np.asfortranarray(codes)).decode(rng=rng).to_frame()


def test_its_cells_are_ours() -> None:
    """Same sizes, same codes: on drawn values, on every edge, and on every missing cell."""
    table = frame()
    edges = [c.binning.edges if c.is_numeric else np.zeros(0) for c in SCHEMA.modelled]
    longest = max(map(len, edges))
    extra = table.iloc[:longest].copy()
    for column, cuts in zip(SCHEMA.modelled, edges, strict=True):
        if column.type == "number":
            extra[column.name] = np.resize(column.binning.clamp(cuts), longest)
        elif column.is_time:
            seconds = (column.binning.clamp(cuts) * column.clock.unit).astype(np.int64)
            extra[column.name] = np.resize(seconds.astype("datetime64[s]"), longest)
        elif column.type == "integer":
            extra[column.name] = pd.array(np.resize(column.binning.clamp(cuts), longest).astype(int), dtype="Int64")
    for rows in (table, extra):
        ours = Table.encode(read_frame(rows, SCHEMA.released()).records).codes
        mine = np.array(adapter.encoded(rows, domains()))
        np.testing.assert_array_equal(mine, ours)
    assert [domain.size for domain in domains()] == list(SCHEMA.sizes)


def test_what_it_writes_is_declared_and_in_the_cell_that_was_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    codes = np.array(adapter.encoded(frame(), domains()))
    out = pd.DataFrame({d.name: d.decode(codes[:, i], rng) for i, d in enumerate(domains())})
    np.testing.assert_array_equal(Table.encode(read_frame(out, SCHEMA.released()).records).codes, codes)


def test_undeclared_cells_follow_the_schema() -> None:
    """For whoever runs the script on rows that no curator has settled."""
    table = frame(4).astype({"member": "object", "ill": "object"})
    table.loc[0, "town"] = "elsewhere"
    table.loc[1, "grade"] = "best"
    table.loc[2, "age"] = 500
    table.loc[2, "ill"] = "yes"
    table.loc[3, "member"] = pd.NA
    rows = adapter.encoded(table, domains())
    assert len(rows) == 3, "the last row lacks what may not be missing"
    assert rows[0][6] == 3
    assert rows[1][7] == 3
    assert (rows[2][0], rows[2][9]) == (9, 1)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A SmartNoise that writes down what each of its parts is given, and draws its first row again and again."""
    told: list[dict[str, Any]] = []

    class Transformer:
        fit_complete, needs_epsilon = False, False

        def __init__(self, columns: Any = (), **words: Any) -> None:
            self.columns = columns

        def fit(self, rows: Any) -> None:
            told.append({"fitted on": rows})
            self.fit_complete = True

    class Recipe:
        def __init__(self, **words: Any) -> None:
            self.epsilon = words["epsilon"]
            told.append({"made with": words})

        def fit(self, rows: Any, *, transformer: Any, preprocessor_eps: float) -> None:
            assert transformer.fit_complete
            told.append({"rows": len(rows), "preprocessor_eps": preprocessor_eps})
            self.first = rows[0]

        def sample(self, rows: int) -> Any:
            return [self.first] * rows

    names = {
        "snsynth.transform": ("ChainTransformer", "LabelTransformer", "OneHotEncoder", "TableTransformer"),
        "snsynth.mst": ("MSTSynthesizer",),
        "snsynth.aim": ("AIMSynthesizer",),
        "snsynth.mwem": ("Histogram", "MWEMSynthesizer"),
        "snsynth.aggregate_seeded": ("AggregateSeededSynthesizer",),
        "snsynth.pytorch.nn": ("PATECTGAN", "DPCTGAN"),
        "torch": (),
    }
    for name, parts in names.items():
        module = ModuleType(name)
        for part in parts:
            setattr(module, part, Transformer if name == "snsynth.transform" else Recipe)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["torch"].seed = lambda: 1  # type: ignore[attr-defined]
    return told


@pytest.mark.parametrize("method", adapter.METHODS)
def test_smartnoise_is_told_a_public_domain(method: str, fake: list[dict[str, Any]], tmp_path: Path) -> None:
    """With a planted value, other rows and fewer of them, everything but the rows themselves is the same."""
    schema = tmp_path / "schema.toml"
    schema.write_text(SCHEMA.released().to_toml(), encoding="utf-8")
    seen = []
    for rows in (frame(300), frame(2).assign(town=pd.array([CANARY, "a"], dtype="string"), age=pd.array([900, 5]))):
        rows.to_parquet(tmp_path / "in.parquet")
        fake.clear()
        options = {"--train": str(tmp_path / "in.parquet"), "--schema": str(schema), "--rows": "40", "--epsilon": "0.5",
                   "--delta": "1e-6", "--seed": "1", "--out": str(tmp_path / "out.parquet")}  # fmt: skip
        assert adapter.main([method, *(word for option in options.items() for word in option)]) == 0
        assert CANARY not in repr(fake)
        facts = [fact for fact in fake if "rows" not in fact]
        (given,) = [fact for fact in fake if "rows" in fact]
        assert given == {"rows": len(rows), "preprocessor_eps": 0.0}
        seen.append(repr(facts))
        out = read_frame(pd.read_parquet(tmp_path / "out.parquet"), SCHEMA.released()).records
        assert len(out) == 40
    assert seen[0] == seen[1]
    (public,) = [fact["fitted on"] for fact in fake if "fitted on" in fact]
    assert [len(set(column)) for column in zip(*public, strict=True)] == list(SCHEMA.sizes)
    (made,) = [fact["made with"] for fact in fake if "made with" in fact]
    assert made["epsilon"] == 0.5
    assert made.get("delta") == (None if method == "mwem" else 1e-6)


def test_a_preprocessor_that_spends_is_refused() -> None:
    recipe = mock.Mock(epsilon=0.4)
    with pytest.raises(RuntimeError, match="part of epsilon"):
        adapter._fitted(recipe, [(0,)], None, 0.5)


def test_rows_are_filled_up_and_gaps_closed() -> None:
    rng = np.random.default_rng(1)
    codes = adapter.filled([(0, None), (1, 2)], (2, 3), 50, rng)
    assert codes.shape == (50, 2)
    assert set(codes[:, 1]) == {2}, "a gap takes what the column's other cells have"
    nothing = adapter.filled([], (2, 3), 50, rng)
    assert nothing.shape == (50, 2)
    assert (nothing >= 0).all()
    assert (nothing < (2, 3)).all()
    assert len(adapter.filled([(0, 1)] * 9, (2, 3), 4, rng)) == 4


def test_columns_are_grouped_so_that_histograms_stay_small() -> None:
    for sizes in ((3, 2), (70, 70, 70, 2), (6000, 2)):
        groups = adapter.splits_of(sizes)
        assert [column for group in groups for column in group] == list(range(len(sizes)))
        assert all(len(g) == 1 or np.prod([sizes[c] for c in g]) <= adapter.MOST_CELLS for g in groups)


def test_it_stands_alone() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert "from dpsynth" not in text
    assert "import dpsynth" not in text
    assert tuple(FACTS) == adapter.METHODS


def test_an_unknown_method_is_named() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "magic"], capture_output=True, text=True, check=False)
    assert (done.returncode, "must be one of" in done.stderr) == (2, True)


# ---- with SmartNoise ---------------------------------------------------------------------------------------------


@needs_smartnoise
@pytest.mark.slow
@pytest.mark.parametrize("method", ["mwem", "dpctgan"])
def test_smartnoise_writes_rows_in_the_schema(method: str) -> None:
    """Two of the six, of which one is a network: the others take minutes on two cores. `benchmarks` runs all."""
    columns = [SCHEMA.columns[place] for place in (1, 6, 9)]
    schema = Schema(table="t", columns=tuple(columns), basis="test")
    program = Program(f"'{python()}' '{SCRIPT}' {method}", schema, epsilon=1, delta="1e-5", rows=500)
    trial = program.run(frame(300)[[column.name for column in columns]])
    assert len(trial.rows) == 500


@needs_smartnoise
@pytest.mark.slow
def test_a_fitted_transformer_is_taken_as_it_is() -> None:
    """Whatever the rows hold, SmartNoise's own cardinalities are the schema's, and nothing is spent on them."""
    script = f"""
        import sys
        sys.path.insert(0, {str(SCRIPT.parent)!r})
        import smartnoise
        from snsynth.base import Synthesizer
        for one_hot in (False, True):
            transformer = smartnoise.transformer_for((3, 2, 4), one_hot=one_hot)
            before = repr(transformer.cardinality)
            recipe = Synthesizer()
            recipe.epsilon = 0.5
            words = dict(style="cube", categorical_columns=[], ordinal_columns=[], continuous_columns=[], nullable=False)
            recipe._get_train_data([(0, 0, 0)], transformer=transformer, preprocessor_eps=0.0, **words)
            assert recipe._transformer is transformer
            assert (recipe.epsilon, repr(transformer.cardinality)) == (0.5, before)
            assert transformer.odometer.spent[0] == 0
            sizes = [3, 2, 4]
            assert transformer.cardinality == (sizes if not one_hot else transformer.cardinality)
            assert transformer.output_width == (9 if one_hot else 3)
    """
    done = subprocess.run(
        [str(python()), "-W", "ignore", "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
