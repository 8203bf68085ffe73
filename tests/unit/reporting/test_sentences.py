"""Every sentence that states a bound, at the edges of its numbers: nothing that is printed is better than what is proven."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import Leaf, Policy, Report
from reports.explain import explained
from reports.registry import Publisher
from reports.render import to_html, to_markdown
from reports.render.numbers import MINUS, dots, hundred, number, percent
from reports.render.to_registry import to_registry

shares = st.one_of(st.floats(0, 1), st.integers(0, 1000).map(lambda n: n / 1000), st.floats(0, 1e-3))
sizes = st.one_of(st.floats(1e-12, 1e9), st.integers(0, 10**9).map(float), st.floats(0.9, 1.1))


def read(text: str) -> Decimal:
    return Decimal(text.replace(MINUS, "-").replace(",", "").removesuffix("%"))


@given(value=shares)
def test_a_share_is_never_printed_better_than_it_is(value: float) -> None:
    exact = Decimal(repr(value)) * 100
    up, down = read(hundred(value)), read(hundred(value, "down"))
    assert down <= exact <= up
    assert up - down <= max(Decimal("0.1"), exact / 1)
    assert read(percent(value, "up")) == up
    assert exact <= dots(value) <= exact + 1 or dots(value) == 100


@given(value=sizes)
def test_a_number_is_never_printed_better_than_it_is(value: float) -> None:
    exact = Decimal(repr(value))
    assert read(number(value, "down")) <= exact <= read(number(value, "up"))
    assert read(number(-value, "down")) <= -exact <= read(number(-value, "up"))


EDGES = [
    (0.04, "4"),
    (0.040000001, "4.1"),
    (0.041, "4.1"),
    (0.0409999999, "4.1"),
    (0.0410000001, "4.2"),
    (0.00999999, "1"),
    (0.009900001, "1"),
    (0.0099, "0.99"),
    (0.001, "0.1"),
    (0.0009999, "0.1"),
    (0.9990000001, "100"),
    (1.0, "100"),
]
"""A bound, and how many of 100 its sentence has to say."""


def words(text: str) -> str:
    """A page as one reads it: without its markup."""
    return " ".join(re.sub(r"<style.*?</style>|<[^>]+>", "", text.replace("><", "> <"), flags=re.DOTALL).split())


def valued(builder: ModuleType, values: dict[str, float]) -> dict[str, Any]:
    """The leaves at these paths with other values."""
    return {path: replace(builder.internal().get(path), value=value) for path, value in values.items()}


def pages(builder: ModuleType, changed: dict[str, Any]) -> tuple[str, str]:
    report = Report.of(builder.policy(), builder.internal(changed), on=builder.TODAY)
    return words(to_html(report)), to_markdown(report)


@pytest.mark.slow
@pytest.mark.parametrize(("bound", "shown"), EDGES)
def test_the_two_worlds(builder: ModuleType, bound: float, shown: str) -> None:
    """ "... in at most 4.1 of 100 tries", in the sentence, the figure, its description, the table, and markdown."""
    rows = [{"fpr": builder.formula(0.01), "release": builder.formula(bound), "cumulative": builder.formula(bound)}]
    tree = builder.tree()
    tree["risk"]["table"], tree["risk"]["tpr_at_fpr"] = rows, builder.formula(bound)
    report = Report.of(builder.policy(), type(builder.internal())(tree), on=builder.TODAY)
    page, summary = words(to_html(report)), to_markdown(report)
    assert f"they detect Alex in at most {shown} of 100 tries. Pure guessing would be right in 1 of 100." in page
    assert f"With Alex, at most {shown} of 100 tries do so rightly." in page
    assert f"at most {shown} of 100" in page
    assert f"1 of 100 {shown} of 100 {shown} of 100" in page
    assert f"was used in at most **{shown}** of 100 tries" in summary
    drawn = to_html(report)
    figure = drawn[drawn.index('aria-labelledby="fig-worlds"') :]
    filled = len(re.findall(r'<circle [^>]*fill="#9a3412"', figure[: figure.index("</svg>")]))
    assert filled == 1 + dots(bound)
    assert filled - 1 >= bound * 100 - 1e-9


@pytest.mark.parametrize(
    ("baseline", "bound", "said"),
    [
        (0.05, 0.148, "5 of 100 14.8 of 100"),
        (0.05, 0.1480000001, "5 of 100 14.9 of 100"),
        (0.0509999, 0.148, "5 of 100 14.8 of 100"),
        (0.0500001, 0.9999, "5 of 100 100 of 100"),
        (0.001, 0.00226, "0.1 of 100 0.23 of 100"),
    ],
)
def test_a_guess_with_and_without_the_record(builder: ModuleType, baseline: float, bound: float, said: str) -> None:
    """The condition is rounded down and the bound up: with both up, a guess in between would have a bound that is not its own."""
    tree = builder.tree()
    tree["risk"]["success"] = [{"baseline": builder.formula(baseline), "bound": builder.formula(bound)}]
    evidence = type(builder.internal())(tree)
    page = words(to_html(Report.of(builder.policy(), evidence, on=builder.TODAY)))
    assert said in page
    without, with_it = said.removesuffix(" of 100").split(" of 100 ")
    assert (
        f"whoever would succeed {without} times in 100 without the record of Alex succeeds at most {with_it} times"
        in page
    )
    annex = words(to_html(Report.of(Policy.load("hipaa-expert"), evidence, on=builder.TODAY)))
    assert f"{without} of 100 without the record" in annex
    assert f"at most {with_it} of 100 with it" in annex


@pytest.mark.parametrize(
    ("epsilon", "delta", "said"),
    [
        (1.0, 1e-6, "(1, 1e-6)"),
        (1.0000001, 1e-6, "(1.001, 1e-6)"),
        (0.99999, 1.0000001e-6, "(1, 1.001e-6)"),
        (1.5, 9.9999e-7, "(1.5, 1e-6)"),
    ],
)
def test_what_is_promised(builder: ModuleType, epsilon: float, delta: float, said: str) -> None:
    page, summary = pages(builder, valued(builder, {"guarantee.epsilon": epsilon, "guarantee.delta": delta}))
    assert page.count(f"{said}-differential privacy per person") == 2
    assert f"The release satisfies {said}-differential privacy per person" in summary


def test_spent_is_rounded_up_and_what_is_left_down(builder: ModuleType) -> None:
    exact = {"spent_before_epsilon": 0.10001, "spent_epsilon": 0.90001, "cap_epsilon": 1.99999, "remaining": 1.09999}
    shown = ("0.1001", "0.9001", "1.999", "1.099")
    page, summary = pages(builder, valued(builder, {f"ledger.{key}": value for key, value in exact.items()}))
    titles = ("Spent before this release", "Spent with this release", "Lifetime limit", "One more release could use")
    for title, value in zip(titles, shown, strict=True):
        assert f"{title} {value}" in page
        assert f" {value} |" in summary
    assert "0.1001 before this release, 0.9001 with it, and a limit of 1.999" in page


@pytest.mark.parametrize("high", [0.05, 0.0500001])
def test_an_interval_is_rounded_to_the_outside(builder: ModuleType, high: float) -> None:
    leaf = Leaf(0.01, "P2", "made up", low=-0.0200001, high=high, confidence=0.9996, n=100, ledger_seq=(2,))
    page, summary = pages(
        builder, {"attacks.linkage.excess": leaf, "attacks.linkage.bound": builder.charged(0.1700001)}
    )
    worse = "+5" if high == 0.05 else "+5.1"
    assert f"+1 points [{MINUS}2.1, {worse}]" in page
    assert f"+1 ({MINUS}2.1 to {worse})" in summary
    assert "99.9% interval" in page, "no interval is said to be surer than it is"
    assert "100% interval" not in page
    assert "proven ceiling 17.1%" in page
    assert "| 17.1% |" in summary


def test_a_rule_at_length_rounds_its_confidence_down(builder: ModuleType) -> None:
    leaf = Leaf(0.01, "P2", "made up", low=-0.02, high=0.05, confidence=0.9996, n=100, ledger_seq=(2,))
    report = Report.of(builder.policy(), builder.internal({"attacks.linkage.excess": leaf}), on=builder.TODAY)
    assert any("99.9% interval" in line for line in explained(report, "attacks.linkage"))


@pytest.mark.parametrize(("bound", "shown"), EDGES[:5])
def test_the_record_of_the_registry_rounds_up_too(builder: ModuleType, bound: float, shown: str) -> None:
    report = Report.of(
        builder.policy(), builder.internal({"risk.tpr_at_fpr": builder.formula(bound)}), on=builder.TODAY
    )
    publisher = Publisher(curator="C", curator_type="Industry", region="R", authors=("A",))
    assert f"at most {shown}% are detected at 1% false alarms" in to_registry(report, publisher)
