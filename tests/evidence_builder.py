"""Builds evidence as one release of the demo would make it, for the tests of gate, policy and pages.

Loaded by path from the conftest files beside the tests, because test folders are not packages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date
from fractions import Fraction
from functools import cache
from typing import Any

from attacks.intervals import clopper_pearson
from dpsynth import Schema
from dpsynth.privacy import ORDERS, Cap, Cost, advantage_bound, tpr_bound
from dpsynth.schema.to_toml import toml_value
from dpsynth.synthesizers.base import EXACT
from reports.collect.guarantee import from_implementation
from reports.collect.leaves import up
from reports.evidence import Evidence, Leaf
from reports.gate import Verdict, decide
from reports.policy import Policy

TODAY = date(2026, 11, 21)
COST = Cap.of(1, "1e-6").cost
LIFETIME = Cap.of(2, "1e-6").lifetime(COST)

COLUMNS = (
    ("year", "ordinal", "other", 5, 0.0021, 0.0019),
    ("site", "category", "quasi_identifier", 6, 0.0043, 0.0038),
    ("coins", "category", "other", 5, 0.0035, 0.0036),
    ("xage", "number", "quasi_identifier", 16, 0.0118, 0.0102),
    ("female", "boolean", "quasi_identifier", 2, 0.0009, 0.0011),
    ("income", "number", "quasi_identifier", 17, 0.0132, 0.0121),
    ("educdec", "number", "quasi_identifier", 13, 0.0094, 0.0088),
    ("mdvis", "number", "sensitive", 14, 0.0127, 0.0109),
    ("outpdol", "number", "sensitive", 16, 0.0141, 0.0117),
    ("inpdol", "number", "sensitive", 12, 0.0063, 0.0071),
    ("totadm", "ordinal", "sensitive", 7, 0.0031, 0.0034),
    ("physlm", "boolean", "sensitive", 3, 0.0017, 0.0016),
    ("mhi", "number", "sensitive", 13, 0.0125, 0.0108),
)

ATTACKS: dict[str, tuple[str, float, float, float, float]] = {
    # what counts as a success, rate on persons used, on persons not used, half width of the excess, excess on a copy
    "exact_match": (
        "one of the person's rows, as recorded, stands in the synthetic table",
        0.0341,
        0.0312,
        0.0368,
        0.9688,
    ),
    "membership": (
        "the closest synthetic row is nearer than nine in ten synthetic rows are to one another",
        0.1127,
        0.1068,
        0.0421,
        0.8812,
    ),
    "linkage": (
        "the synthetic row with the person's quasi-identifiers also has the person's number of visits",
        0.0784,
        0.0809,
        0.0397,
        0.9105,
    ),
    "attribute_inference": (
        "the person's limitation is guessed from the other columns by a rule learned on synthetic rows",
        0.1433,
        0.1391,
        0.0446,
        0.3127,
    ),
}


def formula(value: Any, **more: Any) -> Leaf:
    return Leaf(value, "P1", "formula of rho", **more)


def declared(value: Any) -> Leaf:
    return Leaf(value, "P0", "schema and settings")


def scanned(value: Any) -> Leaf:
    return Leaf(value, "P1", "patterns over the synthetic rows")


def ledger_fact(value: Any) -> Leaf:
    return Leaf(value, "P0", "ledger")


def charged(value: float, half: float | None = None, n: int = 5894) -> Leaf:
    interval = {} if half is None else {"low": value - half, "high": value + half, "confidence": 0.95}
    return Leaf(value, "P2", "charged counts with discrete Gaussian noise", ledger_seq=(2,), n=n, **interval)


def internal_number(value: Any, half: float | None = None, n: int | None = 5912) -> Leaf:
    interval = {} if half is None else {"low": value - half, "high": value + half, "confidence": 0.95}
    return Leaf(value, "P3", "attack on real rows", n=n, **interval)


def review(excess: float, attack: float, control: float, baseline: float, copy: float, half: float) -> dict[str, Any]:
    return {
        "measure": Leaf("success rate of the attack", "P3", "attack suite"),
        "knows": Leaf("the synthetic rows, and the person's other columns", "P3", "attack suite"),
        "status": Leaf("measured", "P3", "attack suite"),
        "excess": internal_number(excess, half),
        "attack": internal_number(attack),
        "control": internal_number(control),
        "baseline": internal_number(baseline),
        "positive_control": internal_number(copy, half),
        "detected": internal_number(True),
        "leak": internal_number(False),
        "above_ceiling": internal_number(False),
        "to_look_at": internal_number(False),
        "p_value": internal_number(0.61),
        "n": internal_number(5912, n=None),
        "figures": [
            {
                "name": Leaf("precision, most confident tenth", "P3", "attack suite"),
                "attack": internal_number(attack, half),
                "control": internal_number(control, half),
                "value": internal_number(attack - control, half),
            },
            {
                "name": Leaf("AUC, closeness, best row (0.5 if nothing leaked)", "P3", "attack suite"),
                "value": internal_number(0.5118, half),
            },
            {
                "name": Leaf("TPR at FPR 0.001", "P3", "attack suite"),
                "value": Leaf(None, "P3", "attack suite", missing="250 control persons in a half cannot teach it"),
            },
        ],
    }


def tree(columns: Iterable[tuple[str, str, str, int, float, float]] = COLUMNS) -> dict[str, Any]:
    """The whole internal tree, as nested dictionaries that a test may change before it makes evidence of it."""
    columns = tuple(columns)
    grid = (0.001, 0.01, 0.05, 0.1)
    return {
        "created_at": declared("2026-11-21T09:14:05Z"),
        "review_on": declared("2027-11-21"),
        "limits": declared(
            (
                "What the data say about groups may be concluded about any member of a group.",
                "Only attackers who see the synthetic rows alone were tried; re-running the generator was not.",
                "Pairs of columns that were not measured are reproduced only as far as measured ones imply them.",
                "Rows of one person are synthesised as if they were rows of different persons.",
            )
        ),
        "tool": {
            "name": declared("dpsynth"),
            "version": declared("0.1.0"),
            "python": declared("3.11.9"),
            "libraries": declared(("numpy 2.4.6", "opendp 0.16.0")),
        },
        "release": {
            "release_id": declared("0f9d6d0e-2a54-4c2c-9a07-5f0a1f9a7c11"),
            "kind": declared("data and model"),
            "synthesizer": declared("mst"),
            "choice": declared("asked for"),
            "rows": Leaf(12074, "P1", "noisy total of the fit side"),
            "purpose": declared("Trying out analyses and software on rows that describe nobody in particular."),
            "published": declared("gate"),
        },
        "source": {"table": declared("rand-hie"), "population": declared("rand-hie-participants")},
        "unit": {
            "entity": declared("person"),
            "max_rows": declared(5),
            "neighbours": declared("add_remove"),
            "bounding": declared("enforced by the curator: of a unit with more rows, secret coins keep that many"),
        },
        "columns": [
            {
                "name": declared(name),
                "type": declared(kind),
                "role": declared(role),
                "size": declared(size),
                "source": declared("declared"),
                "basis": declared("published study design, or a round bound chosen without looking"),
                "treatment": declared("modelled"),
            }
            for name, kind, role, size, _, _ in columns
        ]
        + [
            {
                "name": declared("zper"),
                "type": declared("identifier"),
                "role": declared("direct_identifier"),
                "size": declared(0),
                "source": declared("declared"),
                "basis": declared("as for the table"),
                "treatment": declared("dropped: not in the synthetic table"),
            }
        ],
        "constraints": [
            {
                "rule": Leaf("if physlm == true then mdvis >= 1", "P0", "schema"),
                "basis": Leaf("how the study was coded", "P0", "schema"),
            }
        ],
        "domain": {"basis": declared("stated"), "from_data": declared("none")},
        "guarantee": {
            "definition": declared("zCDP"),
            "delta0": declared(0),
            "rho": formula(up(COST.rho)),
            "epsilon": formula(1.0),
            "delta": declared(1e-6),
            "unit": declared("person"),
            "profile": [
                {"epsilon": formula(float(COST.epsilon(delta))), "delta": formula(float(delta))}
                for delta in ("1e-4", "1e-5", "1e-6", "1e-8")
            ],
            "shares": [
                {"purpose": declared("row count and one-column tables"), "rho": formula(float(COST.rho) * 0.3)},
                {"purpose": declared("choice of column pairs"), "rho": formula(float(COST.rho) * 0.3)},
                {"purpose": declared("tables of column pairs"), "rho": formula(float(COST.rho) * 0.3)},
                {"purpose": declared("charged attack counts"), "rho": formula(float(COST.rho) * 0.1)},
            ],
            "unprotected_quantities": declared(()),
            "covers": declared(
                (
                    "the synthetic rows",
                    "the saved model",
                    "the number of rows",
                    "the charged attack counts on this page",
                )
            ),
            "assumptions": declared(
                (
                    "One person has one value of the unit column.",
                    "The machine that made the release was not observed while it worked.",
                )
            ),
        },
        "implementation": from_implementation(EXACT),
        "ledger": {
            "ledger_id": ledger_fact("5b1c7f0a-9f43-4d0e-8f49-0d8d9b1f2f60"),
            "seq": ledger_fact(2),
            "head": ledger_fact("9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab"),
            "genesis": ledger_fact("2026-11-20"),
            "anchors": [],
            "ledgers": ledger_fact(1),
            "others": [],
            "raised": ledger_fact(0),
            "cap_epsilon": ledger_fact(2.0),
            "cap_delta": ledger_fact(1e-6),
            "spent_before_epsilon": formula(0.0),
            "spent_epsilon": formula(1.0),
            "remaining": formula(1.674),
            "attempts": ledger_fact(1),
            "denied": ledger_fact(0),
            "orphans": ledger_fact(0),
            "imports": ledger_fact(0),
            "claimed": ledger_fact(0),
            "floating_point": ledger_fact(0),
            "imports_not_dp": ledger_fact(0),
            "verified": ledger_fact(True),
            "amendments": [],
        },
        "risk": {
            "tpr_at_fpr": formula(tpr_bound(LIFETIME, 0.01)),
            "advantage": formula(advantage_bound(LIFETIME)),
            "table": [
                {
                    "fpr": formula(x),
                    "release": formula(tpr_bound(COST, x)),
                    "cumulative": formula(tpr_bound(LIFETIME, x)),
                }
                for x in grid
            ],
            "success": [{"baseline": formula(x), "bound": formula(tpr_bound(COST, x))} for x in (0.01, 0.05, 0.1, 0.5)],
        },
        "attacks": {
            name: {
                "success": declared(success),
                "excess": charged(fit - control, half),
                "fit_rate": charged(fit, half * 0.6, n=3541),
                "control_rate": charged(control, half * 0.75, n=2353),
                "powered": Leaf(True, "P1", "the same attack on a leaky copy of model rows"),
                "power": [
                    {"share": declared(share), "seen": Leaf(seen, "P1", "model rows copied into model rows")}
                    for share, seen in ((0.0, 0.04), (0.05, 0.62), (0.2, 1.0))
                ],
                "positive_control": Leaf(
                    copy,
                    "P1",
                    "excess on model rows that were copied, against fresh model rows",
                    low=copy - half,
                    high=copy + half,
                    confidence=0.95,
                ),
                "bound": charged(tpr_bound(COST, min(1.0, control + half * 0.75))),
            }
            for name, (success, fit, control, half, copy) in ATTACKS.items()
        },
        "utility": {
            "tv1": Leaf(
                sum(c[4] for c in columns) / len(columns), "P1", "synthetic rows against noisy one-column tables"
            ),
            "tv2": Leaf(0.0395, "P1", "synthetic rows against noisy tables of pairs"),
            "pairs": [
                {
                    "first": declared(first),
                    "second": declared(second),
                    "tv": Leaf(tv, "P1", "synthetic rows against the noisy table"),
                    "noise": Leaf(noise, "P1", "formula of sigma"),
                }
                for first, second, tv, noise in (("age", "coins", 0.061, 0.044), ("age", "female", 0.018, 0.012))
            ],
            "groups": [
                {
                    "column": declared(column),
                    "value": declared(value),
                    "measured": Leaf(measured, "P1", "noisy count"),
                    "synthetic": Leaf(found, "P1", "synthetic rows"),
                    "noise": Leaf(0.0021, "P1", "formula of sigma"),
                    "inflation": Leaf(0.00084, "P1", "formula of sigma"),
                    "drowned": Leaf(measured < 0.021, "P1", "noisy count"),
                }
                for column, value, measured, found in (
                    ("female", "true", 0.516, 0.5152),
                    ("coins", "50", 0.0131, 0.0142),
                )
            ],
            "unfit": Leaf(
                ("Decisions about a single person: no synthetic row is anyone.",), "P1", "noisy measurements"
            ),
            "columns": [
                {
                    "name": declared(name),
                    "tv": Leaf(tv, "P1", "synthetic rows against the noisy table"),
                    "noise": Leaf(noise, "P1", "formula of sigma"),
                }
                for name, _, _, _, tv, noise in columns
            ],
        },
        "deid_scan": {
            "safe_harbor": [
                {
                    "letter": declared(letter),
                    "status": scanned("for a person" if letter in "PQR" else "pattern not found"),
                    "columns": scanned(()),
                    "signs": scanned(()),
                }
                for letter in "ABCDEFGHIJKLMNOPQR"
            ],
            "direct": scanned(0),
            "pan_scan": scanned("pattern not found"),
        },
        "review": {
            "rows_fit": internal_number(12102, n=None),
            "rows_control": internal_number(8088, n=None),
            "exact_match": review(0.0021, 0.0331, 0.0310, 0.0302, 1.0, 0.0118),
            "nearest_record": review(0.0043, 0.5043, 0.5, 0.5, 0.98, 0.0187),
            "membership": review(0.0068, 0.0812, 0.0744, 0.05, 0.93, 0.0342),
            "linkage": review(-0.0019, 0.0779, 0.0798, 0.0751, 0.88, 0.0163),
            "singling_out": review(0.0034, 0.0512, 0.0478, 0.0466, 0.71, 0.0291),
            "attribute_inference": review(0.0051, 0.1421, 0.1370, 0.1552, 0.64, 0.0214),
            "record_linkage": review(0.0012, 0.0312, 0.0300, 0.0311, 0.55, 0.0105),
            "reconstruction": review(0.0031, 0.5231, 0.5200, 0.5194, 0.32, 0.0202),
            "vulnerable_records": review(0.0, 0.0, 0.0, 0.0, 1.0, 0.03),
            "groups_compared": Leaf(84, "P3", "attack suite"),
            "groups": [
                {
                    "attack": Leaf("membership", "P3", "attack suite"),
                    "group": Leaf("age: 60 to 65", "P3", "attack suite"),
                    "persons": Leaf(212, "P3", "attack suite"),
                    "exposed": Leaf(31, "P3", "attack suite"),
                    "difference": internal_number(0.081, 0.05),
                }
            ],
            "utility": {
                "tv1": internal_number(0.0107, n=None),
                "tv2": internal_number(0.0288, n=None),
                "columns": [{"name": Leaf("age", "P3", "real rows"), "tv": Leaf(0.0107, "P3", "real rows")}],
                "pairs": [
                    {
                        "first": Leaf("age", "P3", "real rows"),
                        "second": Leaf("coins", "P3", "real rows"),
                        "tv": Leaf(0.0511, "P3", "real rows"),
                    }
                ],
                "groups": [
                    {
                        "group": Leaf("coins: 50", "P3", "real rows"),
                        "rows": Leaf(158, "P3", "real rows"),
                        "true": Leaf(0.0131, "P3", "real rows"),
                        "synthetic": Leaf(0.0142, "P3", "real rows"),
                        "within": Leaf(0.112, "P3", "real rows"),
                    }
                ],
            },
        },
    }


def schema() -> Schema:
    """The schema that the evidence above follows from."""
    shapes = {
        "ordinal": lambda size: {"values": [str(n) for n in range(size)]},
        "category": lambda size: {"values": [str(n) for n in range(size)]},
        "boolean": lambda size: {"true": ["1"], "false": ["0"], "missing": size == 3},
        "number": lambda size: {"minimum": 0, "maximum": 100, "bins": size},
    }
    basis = "published study design, or a round bound chosen without looking"
    entries = [
        {"name": name, "type": kind, "role": role, "basis": basis} | shapes[kind](size)
        for name, kind, role, size, _, _ in COLUMNS
    ]
    entries.append({"name": "zper", "type": "identifier", "role": "direct_identifier"})
    rule = {"implies": {"if": "physlm == true", "then": "mdvis >= 1"}, "basis": "how the study was coded"}
    lines = [
        'schema = "dpsynth.schema/1"',
        'table = "rand-hie"',
        'neighbours = "add_remove"',
        'unit = { entity = "person", column = "zper", max_rows = 5 }',
        f'basis = "{basis}"',
    ]
    for title, blocks in (("column", entries), ("constraint", [rule])):
        for block in blocks:
            lines += [f"[[{title}]]", *(f"{key} = {toml_value(value)}" for key, value in block.items())]
    return Schema.parse("\n".join(lines) + "\n")


def manifest(evidence: Evidence) -> dict[str, Any]:
    """What the manifest of a release with this evidence says, but for its files."""
    value = evidence.value
    return {
        "release_id": value("release.release_id"),
        "created_at": value("created_at"),
        "dpsynth": value("tool.version"),
        "table": value("source.table"),
        "unit": {name: value(f"unit.{name}") for name in ("entity", "max_rows", "neighbours")},
        "epsilon": "1",
        "delta": "1/1000000",
        "cost": COST.to_json(),
        "synthesizer": value("release.synthesizer"),
        "rows": value("release.rows"),
        "published": value("release.published"),
        "ledger": {name: value(f"ledger.{name}") for name in ("ledger_id", "seq", "head")}
        | {"population": value("source.population")},
        "other_ledgers": [
            {name: row[name].value for name in ("ledger_id", "population")} for row in evidence.rows("ledger.others")
        ],
    }


def misled(tv: float, columns: int = len(COLUMNS)) -> dict[str, Leaf | None]:
    """Leaves of a release whose columns are all that far off."""
    changed: dict[str, Leaf | None] = {"utility.tv1": Leaf(tv, "P1", "mean")}
    return changed | {f"utility.columns[{n}].tv": Leaf(tv, "P1", "rows") for n in range(columns)}


@cache
def _whole() -> Evidence:
    return Evidence(tree())


def opened(tree: dict[str, Any]) -> dict[str, Any]:
    """The same release, had the schema left the values of its first column open."""
    column, chance = tree["columns"][0], declared(8.2e-9)
    column |= {"type": declared("category"), "source": declared("discover"), "size": formula(5)}
    tree["guarantee"] |= {"definition": declared("approximate zCDP"), "delta0": chance}
    cost = COST + Cost.zcdp(Fraction(0), delta0=Fraction("8.2e-9"))
    for row in tree["guarantee"]["profile"]:
        row["epsilon"] = formula(float(cost.epsilon(row["delta"].value)))
    tree["discovery"] = [
        {
            "column": column["name"],
            "facts": declared("values"),
            "mechanism": declared("partition selection, exact discrete Gaussian noise"),
            "sigma": declared(22.7),
            "least": declared("a value is published from a noisy count of 134 units on"),
            "rho": formula(float(COST.rho) * 0.1),
            "delta0": chance,
        }
    ]
    return tree


def claimed(tree: dict[str, Any]) -> dict[str, Any]:
    """The same release, had another program claimed its cost: no rho, a claim, and a step of zCDP."""
    cost = Cost.approximate("0.1", "1e-8") + Cost.zcdp(COST.rho / 10)
    blank = Leaf(None, "P1", "formula of rho", missing="not zCDP")
    tree["guarantee"] |= {
        "definition": declared("approximate DP, claimed by another tool"),
        "rho": blank,
        "claim": {"epsilon": declared(0.1), "delta": declared(1e-8)},
        "profile": [{"epsilon": formula(float(cost.epsilon("1e-6"))), "delta": formula(1e-6)}],
        "shares": [
            {"purpose": declared("another program's claim"), "rho": blank},
            {"purpose": declared("attack counts"), "rho": formula(float(COST.rho / 10))},
        ],
        "unprotected_quantities": declared(("whether the program ran to its end",)),
    }
    tree["implementation"]["claimed_by"] = declared("smartnoise-synth 1.0.8")
    return tree


def curved(tree: dict[str, Any]) -> dict[str, Any]:
    """The same release, had a step of it a Renyi curve, too small for any figure to show."""
    tree["guarantee"] |= {
        "definition": declared("zCDP and a Renyi curve"),
        "curve": [{"order": declared(float(order)), "nano": formula(1)} for order in ORDERS],
    }
    return tree


def audited(tree: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """The same release, had an audit of its program and a self-test come with it; `changed` is of the first item."""
    games = {"worst_case.alone": (196, 2.79), "one_run": (8, 1.89)}
    items = [
        {"id": f"{game}.{who}", "status": "pass", "low": 0.31, "confidence": 0.9995, "n": fits, "ceiling": ceiling}
        for game, (fits, ceiling) in games.items()
        for who in ("noisy_counts", "rows")
    ]
    items[1]["small_leak"] = True
    items[0] |= changed
    head = {"schema": "ab" * 32, "version": "0.1.0", "made_on": "2026-11-20"}
    states = [item["status"] for item in items if not str(item["id"]).startswith("one_run")]
    verdict = "fail" if "fail" in [i["status"] for i in items] else "pass" if set(states) == {"pass"} else "incomplete"

    def rate(seen: int, runs: int) -> Leaf:
        found = clopper_pearson(seen, runs, confidence=0.95)
        return Leaf(seen / runs, "P0", "exact interval", low=found.low, high=found.high, confidence=0.95, n=runs)

    def counted(seen: int, runs: int, **more: Any) -> dict[str, Leaf]:
        return {name: declared(value) for name, value in (more | {"seen": seen, "runs": runs}).items()} | {
            "rate": rate(seen, runs)
        }

    settings: dict[str, Any] = {
        **head,
        "verdict": verdict,
        "epsilon_lower_bound": max(item["low"] for item in items),
        "confidence": 0.999,
        "claim_epsilon": 1.0,
        "claim_delta": 1e-6,
        "powered": verdict != "incomplete",
        "synthesizer": "mst",
        "fits": 204,
        "left_out": ("nobody_else",),
        "differs": ("the audited runs learned from small tables that were made up from the schema",),
    }
    sizes = {**head, "verdict": "pass", "persons_fit": 1000, "persons_control": 1000, "rows": 3000, "fits": 196}
    tree["audit"] = {name: declared(value) for name, value in settings.items()} | {
        "items": [{name: declared(value) for name, value in item.items()} for item in items],
        "selftest": {name: declared(value) for name, value in sizes.items()}
        | {
            "false_alarms": rate(1, 40),
            "leaks": [
                counted(1, 20, leak="one leaked outlier", status="incomplete"),
                counted(20, 20, leak="a copy of 100 % of the persons", status="pass"),
            ],
            "mechanisms": [counted(0, 20, factor=1.0), counted(20, 20, factor=100.0)],
        },
    }
    return tree


def with_audit(changed: Mapping[str, Any] | None = None, **item: Any) -> Evidence:
    """Evidence of that release; `changed` values by path, None for a lost leaf, and `item` of the first item."""
    found = Evidence(audited(tree(), **item))
    for path, value in (changed or {}).items():
        leaf = found.get(path)
        assert leaf is not None, path
        found = found.with_leaf(path, None if value is None else replace(leaf, value=value))
    return found


def anchored(tree: dict[str, Any], *anchors: tuple[int, str]) -> dict[str, Any]:
    """The same release, had these heads been seen in its ledger."""
    tree["ledger"]["anchors"] = [{"seq": ledger_fact(seq), "head": ledger_fact(head)} for seq, head in anchors]
    return tree


def joined(tree: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    """The same release, had it been charged to these ledgers too."""
    blank = {"ledger_id": "other", "population": "others", "genesis": "2026-11-19", "signed": ()}
    tree["ledger"]["ledgers"] = ledger_fact(1 + len(others))
    tree["ledger"]["others"] = [
        {name: ledger_fact(value) for name, value in (blank | {"raised": len(other.get("signed", ()))} | other).items()}
        for other in others
    ]
    return tree


def amended(tree: dict[str, Any], *signed: str) -> dict[str, Any]:
    """The same release, had the limit come to its 2 in equal steps, each with such a signature."""
    steps = len(signed)
    tree["ledger"]["raised"] = ledger_fact(steps)
    tree["ledger"]["amendments"] = [
        {
            "seq": ledger_fact(1),
            "from_epsilon": ledger_fact(1.0 + number / steps),
            "to_epsilon": ledger_fact(1.0 + (number + 1) / steps),
            "reason": ledger_fact("a second study"),
            "approver": ledger_fact("privacy office"),
            "signed": ledger_fact(by),
        }
        for number, by in enumerate(signed)
    ]
    return tree


def internal(changed: dict[str, Leaf | None] | None = None, **more: Any) -> Evidence:
    """Internal evidence of a release that passes, with leaves changed or (None) removed by path."""
    evidence = Evidence(tree(**more)) if more else _whole()
    for path, leaf in (changed or {}).items():
        evidence = evidence.with_leaf(path, leaf)
    return evidence.with_disclosure()


def shareable(changed: dict[str, Leaf | None] | None = None, **more: Any) -> Evidence:
    return internal(changed, **more).shareable()


@cache
def policy() -> Policy:
    return Policy.load("internal-test")


def release_verdict(evidence: Evidence, on: date = TODAY) -> Verdict:
    return decide(policy(), evidence, stage="release", on=on)


def review_verdict(evidence: Evidence, on: date = TODAY) -> Verdict:
    return decide(policy(), evidence, stage="review", on=on)


HOSTILE = (
    '<script>alert("x")</script>',
    "<img src=x onerror=alert(1)>",
    "&lt;b&gt; &amp; \"quotes\" 'single' `ticks`",
    "=cmd|'/C calc'!A0",
    "+SUM(1+1)*cmd|' /C calc'!A0",
    "| a | b |\n|---|---|\n# heading",
    "[click](javascript:alert(1)) ![x](https://example.invalid/x.png)",
    "https://example.invalid www.example.invalid a@example.invalid @someone",
    "\x1b[31mred\x1b[0m\x07\x08\x00",
    "abc\u202edef\u2066ghi\u200b\ufeff",
    "]]><![CDATA[ --> <!-- {{ 7*7 }} {% raw %} %s %n",
    "</title></style></svg></text>",
    "x" * 10_240,
    "\u05e9\u05dc\u05d5\u05dd",
    "caf\u00e9 \u6570\u636e",
)
"""Column names that want to do harm; the schema refuses some of them, and the pages do not rely on that."""


def hostile_columns() -> tuple[tuple[str, str, str, int, float, float], ...]:
    return tuple((name, "category", "other", 3, 0.01, 0.008) for name in HOSTILE)
