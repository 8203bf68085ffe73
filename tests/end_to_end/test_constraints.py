"""Constraints and conditions by the command line: every released row keeps the rules, and `sample` asks for more."""

from __future__ import annotations

import pandas as pd
import pytest

RULES = """
[[constraint]]
implies = { if = "town == 'A'", then = "ill == false" }
basis   = "made for the tests"

[[constraint]]
rule = "age >= 5 or cost is missing"
"""


def keeps(frame: pd.DataFrame) -> bool:
    return not ((frame.town == "A") & frame.ill).any() and not ((frame.age < 5) & frame.cost.notna()).any()


@pytest.fixture
def ruled(case):  # type: ignore[no-untyped-def]
    case.schema.write_text(case.schema.read_text(encoding="utf-8") + RULES, encoding="utf-8")
    assert case.release("--no-gate") == 0, case.stderr
    return case


def test_every_released_row_keeps_the_constraints_although_real_rows_do_not(ruled) -> None:  # type: ignore[no-untyped-def]
    real = pd.read_csv(ruled.data)
    assert ((real.town == "A") & (real.ill == "yes")).any()
    synthetic = pd.read_parquet(ruled.out / "release" / "synthetic.parquet")
    assert len(synthetic) > 100
    assert (synthetic.town == "A").any()
    assert (synthetic.age < 10).any()
    assert keeps(synthetic)


def test_the_report_lists_the_rules(ruled) -> None:  # type: ignore[no-untyped-def]
    page = ruled.folder / "report.html"
    assert ruled("report", ruled.out, "--policy", "internal-test", "--out", page) == 0, ruled.stderr
    text = page.read_text(encoding="utf-8")
    assert "if town == &#39;A&#39; then ill == false" in text
    assert "made for the tests" in text
    assert "age &gt;= 5 or cost is missing" in text


def test_sample_draws_rows_that_meet_a_condition(ruled) -> None:  # type: ignore[no-untyped-def]
    out = ruled.folder / "some.parquet"
    words = ("sample", ruled.out, "--rows", 400, "--where", "age >= 43 and town in ('A', 'B')", "--out", out)
    assert ruled(*words) == 0, ruled.stderr
    frame = pd.read_parquet(out)
    assert len(frame) == 400
    assert frame.age.min() >= 43
    assert set(frame.town) == {"A", "B"}
    assert keeps(frame)


def test_sample_balances_a_column(ruled) -> None:  # type: ignore[no-untyped-def]
    out = ruled.folder / "even.csv"
    assert ruled("sample", ruled.out, "--rows", 402, "--balance", "town", "--out", out) == 0, ruled.stderr
    frame = pd.read_csv(out)
    assert set(frame.town.value_counts()) == {100, 101}
    assert not ((frame.town == "A") & (frame.ill == "yes")).any()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--where", "age >="), "character 7"),
        (("--where", "agee >= 3"), "'agee' at character 1 is not a declared column"),
        (("--where", "who == 'p1'"), "'who' at character 1 is not a declared column"),
        (("--where", "town == 'A' and ill == true"), "no row of the model"),
        (("--where", "__import__('os').system('id')"), "character"),
        (("--balance", "age"), "is a number"),
        (("--balance", "nobody"), "not a column"),
    ],
)
def test_a_wrong_condition_is_refused_and_nothing_is_written(ruled, options, why) -> None:  # type: ignore[no-untyped-def]
    before = ruled.listing()
    assert ruled("sample", ruled.out, "--rows", 10, *options, "--out", ruled.folder / "none.csv") == 2
    assert why in ruled.stderr
    assert "Traceback" not in ruled.stderr
    assert ruled.listing() == before


def test_constraints_that_contradict_each_other_are_refused_before_anything_is_charged(case) -> None:  # type: ignore[no-untyped-def]
    rules = ("town == 'A' or ill == true", "town != 'A'", "ill == false or cost is missing", "cost is not missing")
    text = "".join(f'\n[[constraint]]\nrule = "{rule}"\n' for rule in rules)
    case.schema.write_text(case.schema.read_text(encoding="utf-8") + text, encoding="utf-8")
    before = case.extract().seq
    assert case.release() == 2
    assert "constraint 1, constraint 2, constraint 3 and constraint 4 contradict each other" in case.stderr
    assert case.extract().seq == before
