"""The budget over time: what the ledger's history says, and how both editions draw it."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dpsynth.ledger import Ledger
from dpsynth.privacy import Cap, Cost, PrivacyUnit
from reports import Evidence, Leaf, Report
from reports.collect import with_review
from reports.render import to_html

PERSON = PrivacyUnit(entity="person", max_rows=1, neighbours="add_remove")
QUARTER = Cap.of("0.25", "1e-6").cost


def a_ledger(tmp_path: Path) -> Ledger:
    """One release, one refused, one given back, a raised limit, an import, and the release of the report."""
    ledger = Ledger.create(tmp_path / "l.db", population="p", epsilon=1, delta="1e-6", entity="person")
    for spends in (True, False, True):
        with ledger.reserve(QUARTER, unit=PERSON, purpose="secret purpose") as reservation:
            if spends:
                reservation.start()
    ledger.amend(2, reason="a second study", approver="privacy office")
    ledger.import_external(cost=QUARTER, note="secret note")
    return ledger


def history(ledger: Ledger) -> list[tuple[Any, ...]]:
    evidence = with_review(Evidence({}), None, entries=ledger.entries())
    return [tuple(row[key].value for key in ("seq", "epsilon", "limit")) for row in evidence.rows("review.lifetime")]


def test_each_charge_moves_the_sum_and_what_is_given_back_comes_off(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    kinds = [entry.kind for entry in ledger.entries()]
    found = history(ledger)
    sums = [(Cost.zero() + sum((QUARTER,) * n, Cost.zero())).epsilon(ledger.cap.delta) if n else 0 for n in range(4)]
    times = [0, 1, 2, 1, 2, 2, 3]
    expected = [float(sums[n]) for n in times]
    assert [kinds[seq] for seq, _, _ in found] == [
        "GENESIS", "RESERVE", "RESERVE", "RELEASE_UNUSED", "RESERVE", "AMEND", "IMPORT_EXTERNAL",
    ]  # fmt: skip
    for (_, epsilon, _), about in zip(found, expected, strict=True):
        assert about <= epsilon <= about + 1e-9
    assert [limit for _, _, limit in found] == [1.0] * 5 + [2.0] * 2
    charged = ledger.extract().charged.epsilon(ledger.cap.delta)
    assert found[-1][1] == pytest.approx(float(charged))


def test_history_is_internal_and_tells_no_purpose(tmp_path: Path) -> None:
    evidence = with_review(Evidence({}), None, entries=a_ledger(tmp_path).entries()).with_disclosure()
    assert evidence.rows("review.lifetime")
    assert "secret" not in evidence.to_json()
    assert not evidence.shareable().rows("review.lifetime")
    assert {leaf.cls for path, leaf in evidence.leaves() if path.startswith("review.lifetime")} == {"P0"}


def test_without_an_epsilon_none_is_told(tmp_path: Path) -> None:
    ledger = a_ledger(tmp_path)
    ledger.import_external(cost=None, note="an old extract")
    assert history(ledger)[-1][1] is None
    row = with_review(Evidence({}), None, entries=ledger.entries()).rows("review.lifetime")[-1]
    assert row["epsilon"].missing


def drawn(builder: ModuleType, changed: dict[str, Any], edition: Any = "shareable", told: object = None) -> str:
    tree = builder.tree()
    for key, value in changed.items():
        tree["ledger"][key] = value if isinstance(value, list) else builder.ledger_fact(value)
    if told is not None:
        tree["review"]["lifetime"] = told
    text = to_html(Report.of(builder.policy(), Evidence(tree).with_disclosure(), on=builder.TODAY, edition=edition))
    return text[text.index('<section id="ledger"') : text.index('<section id="criteria"')]


def test_the_shareable_edition_draws_totals_alone(builder: ModuleType) -> None:
    raised = {"seq": 3, "from_epsilon": 1.0, "to_epsilon": 2.0, "reason": "r", "approver": "a"}
    part = drawn(
        builder,
        {
            "seq": 9,
            "spent_before_epsilon": 0.7,
            "amendments": [{key: builder.ledger_fact(value) for key, value in raised.items()}],
        },
    )
    assert "0.7 before this release, 1 with it, below a limit of 2, raised once" in part
    assert 'stroke-dasharray="4 4"' in part
    assert "only the internal edition tells" in part
    assert re.findall(r"limit \d", part)[:2] == ["limit 1", "limit 2"]
    assert "not told" in part
    first = drawn(builder, {})
    assert "stroke-dasharray" not in first, "before the first release nothing was charged, and nothing is hidden"
    assert "only the internal edition tells" not in first


def test_the_internal_edition_draws_every_charge(builder: ModuleType) -> None:
    told = [
        {
            "seq": builder.ledger_fact(seq),
            "time": builder.ledger_fact(f"2026-0{1 + seq}-01T00:00:00.000000Z"),
            "epsilon": builder.ledger_fact(epsilon),
            "limit": builder.ledger_fact(2.0),
        }
        for seq, epsilon in ((0, 0.0), (1, 0.5), (3, 0.7), (5, 1.0))
    ]
    part = drawn(builder, {"seq": 6, "spent_before_epsilon": 0.7}, "internal", told)
    assert "stroke-dasharray" not in part
    assert "2026-02-01" in part
    assert part.count('fill="#1d4f7c"') >= 1
    unknown = [*told[:-1], told[-1] | {"epsilon": Leaf(None, "P0", "ledger", missing="no epsilon holds")}]
    assert "stroke-dasharray" in drawn(builder, {"seq": 6, "spent_before_epsilon": 0.7}, "internal", unknown)


def test_of_a_long_ledger_the_latest_entries_stand_at_their_own_numbers(builder: ModuleType) -> None:
    """The history is cut to its latest moments: the day of the first one shown must not stand under entry 0."""
    told = [
        {
            "seq": builder.ledger_fact(seq),
            "time": builder.ledger_fact(f"2026-0{day}-01T00:00:00.000000Z"),
            "epsilon": builder.ledger_fact(epsilon),
            "limit": builder.ledger_fact(2.0),
        }
        for seq, day, epsilon in ((1200, 3, 0.5), (1300, 4, 0.7), (1400, 5, 1.0))
    ]
    part = drawn(builder, {"seq": 1400, "spent_before_epsilon": 0.7}, "internal", told)
    assert "from entry 1,200 to entry 1,400" in part
    edges = re.findall(r'<text x="([\d.]+)"[^>]*>(entry [\d,]+|2026-\d\d-\d\d)</text>', part)
    assert [words for _, words in edges] == ["entry 1,200", "2026-03-01", "entry 1,400", "2026-05-01"]
    assert edges[0][0] == edges[1][0] == "12"
    steps = [
        float(x)
        for x in re.findall(r'<rect x="([\d.]+)" y="[\d.]+" width="[\d.]+" height="[\d.]+" fill="#c9d9e8"', part)
    ]
    assert 12.0 in steps
    assert 153.0 in steps, "the middle of the three stands in the middle"


@pytest.mark.parametrize("changed", [{"seq": 0}, {"cap_epsilon": 1e-6}, {"spent_epsilon": 3.0}, {"seq": 10**6}])
def test_odd_ledgers_are_drawn_inside_their_frame(builder: ModuleType, changed: dict[str, Any]) -> None:
    part = drawn(builder, changed)
    picture = part[part.index("<svg") : part.index("</svg>")]
    places = [float(value) for value in re.findall(r' (?:x|x1|x2|y|y1|y2)="([^"]*)"', picture)]
    assert places
    assert all(0 <= place <= 360 for place in places)
    assert "-" not in "".join(re.findall(r' (?:width|height)="([^"]*)"', picture))


def test_a_lost_sum_leaves_the_table_and_no_picture(builder: ModuleType) -> None:
    part = drawn(builder, {"spent_epsilon": None})
    assert "<svg" not in part
    assert "Lifetime limit on epsilon" in part
