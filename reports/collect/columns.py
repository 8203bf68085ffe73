"""The sections that follow from the schema: unit, columns, rules, and what was discovered."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import dpsynth
from dpsynth import Schema
from dpsynth.discovery import Discovered
from dpsynth.schema.vocabulary import DISCOVER
from reports.collect.leaves import p0, up
from reports.evidence import Leaf


def from_schema(schema: Schema) -> dict[str, Any]:
    """The sections that follow from the schema of a release alone, so that anyone who has it can make them again."""
    unit = schema.unit
    return {
        "unit": {
            "entity": p0(unit.entity, "schema"),
            "max_rows": p0(unit.max_rows, "schema"),
            "neighbours": p0(unit.neighbours, "schema"),
            "bounding": p0(
                "enforced by the curator: of a unit with more rows, secret coins keep that many", "implementation"
            ),
        },
        "columns": [_column(column, schema) for column in _columns(schema)],
        "constraints": [_constraint(constraint, schema) for constraint in schema.constraints],
        "domain": {
            "basis": p0(_named("missing for", schema.basis_gaps()) or "stated", "schema"),
            "from_data": p0(", ".join(schema.from_data()) or "none", "schema"),
        },
    }


def _named(intro: str, names: Sequence[str]) -> str:
    return f"{intro} {', '.join(names)}" if names else ""


def _columns(schema: Schema) -> list[dpsynth.Column]:
    """All columns of the data and of the synthetic rows: the unit column need not be declared to be among the latter."""
    declared = {column.name for column in schema.columns}
    return [*(column for column in schema.filled if column.name not in declared), *schema.columns]


def _column(column: dpsynth.Column, schema: Schema) -> dict[str, Leaf]:
    modelled = column.is_modelled
    return {
        "name": p0(column.name, "schema"),
        "type": p0(column.type, "schema"),
        "role": p0(column.role, "schema"),
        "size": Leaf(column.size, "P1", "discovered with noise")
        if column.source == DISCOVER
        else p0(column.size if modelled else 0, "schema"),
        "source": p0(column.source, "schema"),
        "basis": p0(column.basis or ("as for the table" if schema.basis else "not stated"), "schema"),
        "treatment": p0(_treatment(column, schema), "schema"),
    }


def discovered_row(found: Discovered) -> dict[str, Leaf]:
    """A fact that cost budget. What was found stands in the schema of the release."""
    values = "values" in found.facts
    if values:
        least = f"a value is published from a noisy count of {found.least} units on"
    elif found.facts == ("bins",):
        least = "none: the bounds are declared"
    else:
        least = f"rows are taken to be there from a noisy count of about {found.least} on"

    def noise(value: float | str) -> Leaf:
        """Of the last look at a number: how often a cell was counted follows from the noisy counts before."""
        return Leaf(value, "P0" if values else "P1", "calibrated to the budget")

    return {
        "column": p0(found.column.name, "schema"),
        "facts": p0(", ".join(found.facts), "schema"),
        "mechanism": p0(
            "partition selection, exact discrete Gaussian noise" if values else "tree of noisy counts", "implementation"
        ),
        "sigma": noise(up(Fraction(found.sigma))),
        "least": noise(least),
        "rho": p0(up(found.rho), "accountant"),
        "delta0": p0(up(found.delta0), "accountant"),
    }


def _treatment(column: dpsynth.Column, schema: Schema) -> str:
    if column.is_modelled:
        counted = "character" if column.prefix == 1 else f"{column.prefix} characters"
        what = "modelled" if column.prefix is None else f"modelled by its first {counted}"
        return f"{what}; the same in all rows of a synthetic unit" if column.per_unit else what
    if column.is_filled:
        return f"filled with fakes of format {column.format}, which owe nothing to the data"
    if column.name in {filled.name for filled in schema.filled}:
        return "fresh ids of synthetic units, which owe nothing to the data"
    return "dropped: not in the synthetic table"


def _constraint(constraint: dpsynth.Constraint, schema: Schema) -> dict[str, Leaf]:
    return {
        "rule": p0(constraint.text, "schema"),
        "basis": p0(constraint.basis or ("as for the table" if schema.basis else "not stated"), "schema"),
    }
