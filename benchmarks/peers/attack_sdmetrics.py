"""sdmetrics: exact matches, nearest records and inference, on all rows."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from audited import QUASI, SECRET, serve
from sdmetrics.single_table import DCROverfittingProtection, DisclosureProtection, NewRowSynthesis

TABLE = "rows"


def _metadata(tables: dict[str, Any]) -> dict[str, Any]:
    kinds = {"n": "numerical", "c": "categorical"}
    columns = {name: {"sdtype": kinds[name[0]]} for name in tables["fit"].columns}
    return {"tables": {TABLE: {"columns": columns}}}


def matches(tables: dict[str, Any]) -> None:
    NewRowSynthesis.compute_breakdown(
        tables["fit"], tables["synthetic"], _metadata(tables), numerical_match_tolerance=0
    )


def nearest(tables: dict[str, Any]) -> None:
    DCROverfittingProtection.compute_breakdown(
        tables["fit"], tables["synthetic"], tables["control"], _metadata(tables), TABLE
    )


def inference(tables: dict[str, Any]) -> None:
    names = list(tables["fit"].columns)
    DisclosureProtection.compute_breakdown(
        tables["fit"],
        tables["synthetic"],
        known_column_names=names[:QUASI],
        sensitive_column_names=[names[place] for place in SECRET],
        continuous_column_names=[name for name in names if name[0] == "n"],
    )


if __name__ == "__main__":
    serve(
        {"exact matches": matches, "nearest records": nearest, "inference": inference},
        version=version("sdmetrics"),
    )
