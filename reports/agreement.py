"""Whether the files of a release tell one story: what evidence, schema and manifest say twice has to agree.

The manifest is the one whose digest the ledger recorded when the release was finished, and which a key signs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

from dpsynth import Cost, Schema
from dpsynth.errors import DpsynthError
from reports.collect import from_schema, up
from reports.evidence import Evidence, Leaf
from reports.paths import PATHS, Value

_TABLES: Final = ("columns", "constraints")
_TWICE: Final[tuple[tuple[tuple[str, ...], str], ...]] = (
    (("release_id",), "release.release_id"),
    (("created_at",), "created_at"),
    (("dpsynth",), "tool.version"),
    (("table",), "source.table"),
    (("unit", "entity"), "unit.entity"),
    (("unit", "max_rows"), "unit.max_rows"),
    (("unit", "neighbours"), "unit.neighbours"),
    (("synthesizer",), "release.synthesizer"),
    (("rows",), "release.rows"),
    (("published",), "release.published"),
    (("ledger", "population"), "source.population"),
)
"""What the manifest says, key by key, and where the evidence says it too."""
_ROUNDING: Final = 1e-9


def contradictions(evidence: Evidence, *, schema: Schema, manifest: Mapping[str, Any]) -> Iterator[str]:
    """What evidence.json says otherwise than schema.toml or manifest.json, a sentence each; column names are not quoted."""
    yield from _with_schema(evidence, schema)
    for keys, path in _TWICE:
        if _at(manifest, keys) != evidence.value(path):
            yield f"evidence.json and manifest.json disagree about {_title(path)}"
    try:
        yield from _with_cost(evidence, manifest)
    except (DpsynthError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError):
        yield "manifest.json does not say what the release cost"


def _with_schema(evidence: Evidence, schema: Schema) -> Iterator[str]:
    """The sections that follow from the schema, made again."""
    if evidence.value("source.table") != schema.table:
        yield f"evidence.json and schema.toml disagree about {_title('source.table')}"
    for name, expected in from_schema(schema).items():
        if name not in _TABLES:
            for field, leaf in expected.items():
                if not _same(evidence.get(f"{name}.{field}"), leaf):
                    yield f"evidence.json and schema.toml disagree about {_title(f'{name}.{field}')}"
            continue
        rows = evidence.rows(name)
        if len(rows) != len(expected):
            yield f"evidence.json and schema.toml disagree about how many {name} there are"
            continue
        for number, (row, wanted) in enumerate(zip(rows, expected, strict=True), start=1):
            wrong = [
                field for field in sorted(row.keys() | wanted.keys()) if not _same(row.get(field), wanted.get(field))
            ]
            if wrong:
                yield f"evidence.json and schema.toml disagree about {', '.join(wrong)} of number {number} of the {name}"


def _with_cost(evidence: Evidence, manifest: Mapping[str, Any]) -> Iterator[str]:
    """The cost in the manifest is the loss that the evidence states, and keeps the promise that it states."""
    cost = Cost.from_json(manifest["cost"])
    epsilon, delta = Fraction(manifest["epsilon"]), Fraction(manifest["delta"])
    stated = {name: evidence.value(f"guarantee.{name}") for name in ("epsilon", "delta", "delta0", "rho")}
    if (stated["epsilon"], stated["delta"]) != (float(epsilon), float(delta)):
        yield "evidence.json and manifest.json disagree about the epsilon and delta of this release"
    if up(cost.epsilon(delta)) > float(epsilon) * (1 + _ROUNDING):
        yield "the cost in manifest.json is more than the epsilon that the release states"
    if evidence.section("guarantee.claim"):
        claim = (Fraction(str(evidence.value(f"guarantee.claim.{part}"))) for part in ("epsilon", "delta"))
        losses = zip(Cost.approximate(*claim).extra, cost.extra, strict=True)
        if any(told * (1 + _ROUNDING) + 1 < charged for told, charged in losses):
            yield "evidence.json states a smaller claim than the cost in manifest.json"
    else:
        nano = tuple(row["nano"].value for row in evidence.rows("guarantee.curve") if "nano" in row)
        if stated["rho"] != up(cost.rho) or nano != cost.extra:
            yield "evidence.json states another loss than the cost in manifest.json"
    delta0 = stated["delta0"]
    if not isinstance(delta0, int | float) or delta0 > up(cost.delta0):
        yield "evidence.json states another delta0 than the cost in manifest.json"


def _same(found: Leaf | None, wanted: Leaf | None) -> bool:
    return found is not None and wanted is not None and (found.value, found.cls) == (wanted.value, wanted.cls)


def _at(data: Mapping[str, Any], keys: tuple[str, ...]) -> Value:
    """The value under nested keys, or None where there is none."""
    found: Any = data
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, bool | int | float | str) else None


def _title(path: str) -> str:
    """What the value at a path is, for a sentence."""
    return f"{PATHS[path].title} ({path})"
