"""Whether the files of a release tell one story: what evidence, schema and manifest say twice has to agree.

The manifest is the one whose digest the ledger recorded when the release was finished, and which a key signs.

What is read off a file is compared whatever version of this program wrote it. What this program makes of a schema, or of
the name of a synthesizer, may be said otherwise by another version: it is compared where this one wrote the evidence, and
`not_compared` says so where it did not. What this version knows against a synthesizer counts all the same: the gate asks a
person about what the evidence does not say of it (`gate/knowledge.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

import dpsynth
from dpsynth import Cost, Schema
from dpsynth.errors import DpsynthError, UsageError
from dpsynth.synthesizers.registry import synthesizer
from reports.collect.columns import from_schema
from reports.collect.guarantee import from_implementation, unprotected
from reports.collect.leaves import up
from reports.evidence import Evidence, Leaf
from reports.gate.guarantee import OWN
from reports.gate.knowledge import CLAIM, unsaid
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
_READ: Final = frozenset(
    {
        "unit.entity",
        "unit.max_rows",
        "unit.neighbours",
        "columns.name",
        "columns.type",
        "columns.role",
        "columns.source",
    }
)
"""Of what follows from a schema, that which stands in its file. The rest are sentences, and sizes by rules of ours."""
_IN_ORDER: Final[Mapping[str, str]] = {"domain.basis": "stated", "domain.from_data": "none"}
"""Words on which the gate acts. Whether they stand there is compared whatever version wrote them."""
_ROUNDING: Final = 1e-9


def contradictions(evidence: Evidence, *, schema: Schema, manifest: Mapping[str, Any]) -> Iterator[str]:
    """What evidence.json says otherwise than schema.toml or manifest.json, a sentence each; column names are not quoted."""
    yield from _with_schema(evidence, schema)
    yield from _with_audit(evidence, schema)
    yield from _with_synthesizer(evidence, schema)
    for keys, path in _TWICE:
        if _at(manifest, keys) != evidence.value(path):
            yield f"evidence.json and manifest.json disagree about {_title(path)}"
    if [(_text(row, "ledger_id"), _text(row, "population")) for row in evidence.rows("ledger.others")] != [
        (_at(other, ("ledger_id",)), _at(other, ("population",))) for other in _list(manifest.get("other_ledgers", []))
    ]:
        yield "evidence.json and manifest.json disagree about which other ledgers were charged"
    try:
        yield from _with_cost(evidence, manifest)
    except (DpsynthError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError):
        yield "manifest.json does not say what the release cost"


def is_ours(evidence: Evidence) -> bool:
    """Whether this very version of the program wrote the evidence, so that it can be made again word by word."""
    return evidence.value("tool.version") == dpsynth.__version__


def not_compared(evidence: Evidence) -> Iterator[str]:
    """What `contradictions` had to leave out, a sentence each."""
    if not is_ours(evidence):
        yield (
            "what the evidence says in the program's own words of columns, rules and bounding, which quantities are not "
            "protected, and how the synthesizer makes its noise: another version of this program made it"
        )
        new = [what for _path, what in unsaid(evidence)]
        if new:
            yield f"whether the release is still sound: this version knows what the evidence does not say: {'; '.join(new)}"


def _with_schema(evidence: Evidence, schema: Schema) -> Iterator[str]:
    """The sections that follow from the schema, made again."""
    if evidence.value("source.table") != schema.table:
        yield f"evidence.json and schema.toml disagree about {_title('source.table')}"
    ours = is_ours(evidence)
    for name, expected in from_schema(schema).items():
        if name not in _TABLES:
            for field, leaf in expected.items():
                if not _agree(f"{name}.{field}", evidence.get(f"{name}.{field}"), leaf, ours=ours):
                    yield f"evidence.json and schema.toml disagree about {_title(f'{name}.{field}')}"
            continue
        rows = evidence.rows(name)
        if len(rows) != len(expected):
            yield f"evidence.json and schema.toml disagree about how many {name} there are"
            continue
        for number, (row, wanted) in enumerate(zip(rows, expected, strict=True), start=1):
            fields = sorted(row.keys() | wanted.keys())
            wrong = [f for f in fields if not _agree(f"{name}.{f}", row.get(f), wanted.get(f), ours=ours)]
            if wrong:
                yield f"evidence.json and schema.toml disagree about {', '.join(wrong)} of number {number} of the {name}"


def _with_audit(evidence: Evidence, schema: Schema) -> Iterator[str]:
    """The schema that was audited, where it is the one in the file: nothing was discovered, and this version wrote both."""
    if evidence.rows("discovery") or not is_ours(evidence):
        return
    for path in ("audit.schema", "audit.selftest.schema"):
        if evidence.get(path) is not None and evidence.value(path) != schema.digest:
            yield f"evidence.json and schema.toml disagree about {_title(path)}"


def _with_synthesizer(evidence: Evidence, schema: Schema) -> Iterator[str]:
    """What follows from the name of the synthesizer: how noise is made, whose claim it is, what is known against it."""
    name = evidence.value("release.synthesizer")
    try:
        used = synthesizer(name if isinstance(name, str) else "").implementation
    except UsageError:
        if is_ours(evidence):  # otherwise the gate asks a person about it
            yield "evidence.json names a synthesizer that this version of the program does not have"
        return
    if not is_ours(evidence):  # the gate holds what has become known since against what the evidence says
        if used.claimed_by and evidence.value(CLAIM) in (None, OWN):  # nothing that becomes known later
            yield f"evidence.json says otherwise than its synthesizer implies: {_title(CLAIM)}"
        return
    expected = {f"implementation.{field}": leaf for field, leaf in from_implementation(used).items()}
    expected["guarantee.unprotected_quantities"] = unprotected(schema, claimed=used.claimed_by != "")
    for path, leaf in expected.items():
        if not _same(evidence.get(path), leaf):
            yield f"evidence.json says otherwise than its synthesizer and schema.toml imply: {_title(path)}"


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


def _agree(path: str, found: Leaf | None, wanted: Leaf | None, *, ours: bool) -> bool:
    """Whether a leaf is the one that this version makes, as far as another version had to make the same one."""
    if ours or path in _READ:
        return _same(found, wanted)
    word = _IN_ORDER.get(path)
    return word is None or (
        found is not None and wanted is not None and (found.value == word) == (wanted.value == word)
    )


def _same(found: Leaf | None, wanted: Leaf | None) -> bool:
    return found is not None and wanted is not None and (found.value, found.cls) == (wanted.value, wanted.cls)


def _text(row: Mapping[str, Leaf], field: str) -> Value:
    return row[field].value if field in row else None


def _list(data: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; what is none of that counts as an object without keys."""
    return [item if isinstance(item, Mapping) else {} for item in data] if isinstance(data, list) else [{}]


def _at(data: Mapping[str, Any], keys: tuple[str, ...]) -> Value:
    """The value under nested keys, or None where there is none."""
    found: Any = data
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, bool | int | float | str) else None


def _title(path: str) -> str:
    """What the value at a path is, for a sentence."""
    return f"{PATHS[path].title} ({path})"
