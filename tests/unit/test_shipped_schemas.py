"""The schemas that ship: complete, with a stated basis, and of the size they are meant to have."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from dpsynth.schema import Schema

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", ["benchmarks/adult.toml", "dpsynth/examples/rand_hie.toml"])
def test_a_shipped_schema_is_complete_and_says_where_it_comes_from(path):
    schema = Schema.load(ROOT / path)
    schema.require_complete()
    assert schema.basis_gaps() == []
    assert schema.from_data() == []
    assert schema.dropped == ()
    roles = {column.role for column in schema.columns}
    assert roles == {"quasi_identifier", "sensitive", "other"}


def test_adult_has_the_domain_of_the_published_comparison():
    """280 one-way and 35,290 two-way cells; every peer is measured on the same."""
    schema = Schema.load(ROOT / "benchmarks/adult.toml")
    assert len(schema.names) == 15
    assert sum(schema.sizes) == 280
    assert sum(a * b for a, b in combinations(schema.sizes, 2)) == 35_290
    bounds = {"age": (17, 91), "fnlwgt": (0, 1_500_000), "capital-gain": (0, 100_000), "capital-loss": (0, 5_000), "hours-per-week": (1, 100)}  # fmt: skip
    for name, (low, high) in bounds.items():
        edges = schema.column(name).binning.edges
        assert edges[0] == low
        assert edges[-1] == high
        assert len(edges) == 33
        assert edges[16] == (low + high) / 2


def test_the_demo_models_thirteen_columns_of_a_person_with_up_to_five_years():
    schema = Schema.load(ROOT / "dpsynth/examples/rand_hie.toml")
    assert (schema.unit.entity, schema.unit.max_rows, schema.unit.neighbours) == ("person", 5, "add_remove")
    assert schema.unit_column == "zper"
    assert len(schema.names) == 13
    assert all(2 <= size <= 16 for size in schema.sizes)
    for name in ("outpdol", "inpdol"):  # nothing spent is a cell of its own
        assert schema.column(name).binning.edges[:2].tolist() == [0, 0.01]
