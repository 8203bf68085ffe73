"""Rules and conditions: what each word means, and what is refused, in one sentence that names place and word."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from dpsynth.contradictions import has_row
from dpsynth.errors import SchemaError, UsageError
from dpsynth.expressions import MAX_DEPTH, MAX_TEXT, parse
from dpsynth.linear import MAX_MASK
from dpsynth.models.graphical import check_constraints
from dpsynth.schema import Column, Constraint, Schema
from dpsynth.table import Records, Table

COLUMNS = (
    Column(name="age", type="integer", minimum=0, maximum=99, bins=10),
    Column(name="paid", type="number", minimum=0, maximum=100, bins=4, missing=True),
    Column(name="owed", type="number", minimum=0, maximum=100, bins=4),
    Column(name="town", type="category", values=("A", "B", "C"), missing=True),
    Column(name="home-town", type="category", values=("A", "B", "D")),
    Column(name="stage", type="ordinal", values=("low", "mid", "high"), unknown="other"),
    Column(name="ill", type="boolean", missing=True),
    Column(name="years", type="integer", minimum=0, maximum=20),
    Column(name="who", type="identifier"),
)
SCHEMA = Schema(table="t", columns=COLUMNS, basis="test")


def ruled(*rules: str | dict[str, str]) -> Schema:
    made = [Constraint(rule=rule) if isinstance(rule, str) else Constraint(implies=rule) for rule in rules]
    return replace(SCHEMA, constraints=tuple(made))


# ---- the language --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("age==43", "age == 43"),
        ("43 <= age", "age >= 43"),
        ("age >= years+1.50", "age >= years + 1.5"),
        ("age - 2 < years - 1e1", "age - 2 < years - 10"),
        ('town == "it\'s"', "town == 'it''s'"),
        ('town in ("a""b")', "town in ('a\"b')"),
        ("`home-town` not in ('A', 'B')", "`home-town` not in ('A', 'B')"),
        ("`in` is not missing", "`in` is not missing"),
        ("not (a == 1 or b == 2) and ill == true", "not (a == 1 or b == 2) and ill == true"),
        ("not not a == -2.5", "not not a == -2.5"),
        ("a\n == \t1", "a == 1"),
        ("a+b -`c d`+1 <= 2", "a + b - `c d` + 1 <= 2"),
        ("100 >= a - b", "a - b <= 100"),
    ],
)
def test_an_expression_has_one_spelling(text: str, spelled: str) -> None:
    assert str(parse(text)) == spelled
    assert parse(spelled) == parse(text)


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        ("age = 1", "'=' at character 5", "write =="),
        ("age == 'x", "at character 8", "not closed"),
        ("1 == 2", "'==' at character 3", "must be a column"),
        ("18 <= age <= 65", "'<=' at character 11", "with and"),
        ("age in ()", "')' at character 9", "expected a value"),
        ("(age == 1", "the end at character 10", "expected )"),
        ("age == 1 2", "'2' at character 10", "expected and, or"),
        ("", "the end at character 1", "expected a value"),
        ("age + 'x' <= 3", "'x' at character 7", "only a column or a number"),
        ("age + 3 + years <= 3", "'+' at character 9", "comes last"),
        ("age + years in (3)", "'in' at character 13", "expected a comparison"),
        ("a <= " + " + ".join("bcdefghij"), "'j' at character 38", "at most 8 columns"),
        ("in == 3", "'in' at character 1", "backticks"),
        ("age", "the end at character 4", "expected a comparison"),
        ("age & 1", "'&' at character 5", "write and"),
        ("age is 3", "'3' at character 8", "expected missing"),
        ("age == -'x'", "'x' at character 9", "expected a value"),
        ("age == __import__('os')", "'(' at character 18", "expected and, or"),
    ],
)
def test_a_misspelled_expression_is_refused_by_place(text: str, place: str, why: str) -> None:
    with pytest.raises(UsageError, match="character") as caught:
        parse(text)
    assert place in str(caught.value)
    assert why in str(caught.value)


def test_length_and_depth_are_bounded() -> None:
    assert parse("(" * (MAX_DEPTH - 1) + "a == 1" + ")" * (MAX_DEPTH - 1)) == parse("a == 1")
    for opening, closing in (("(", ")"), ("not ", "")):
        with pytest.raises(UsageError, match="deeper"):
            parse(opening * 2_000 + "a == 1" + closing * 2_000)
    with pytest.raises(UsageError, match="longer"):
        parse("a == 1 or " * MAX_TEXT)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("agee == 1", "'agee' at character 1 is not a declared column"),
        ("who == 'x'", "'who' at character 1 is a column that synthetic rows do not have"),
        ("age == 'x'", "is an integer and compares with numbers"),
        ("age == true", "is an integer and compares with numbers"),
        ("town == 'X'", "has no declared value 'X'"),
        ("town < 'B'", "has no order"),
        ("town == 3", "compares with texts in quotes"),
        ("town + 1 == 'A'", "numeric column only"),
        ("stage >= 'top'", "has no declared value"),
        ("ill == 'yes'", "compares with true and false"),
        ("ill > true", "has no order"),
        ("town == stage", "different types"),
        ("age == town", "different types"),
        ("age <= paid", "same type and decimals"),
        ("age == age", "compared with itself"),
        ("town == town", "compared with itself"),
        ("paid == owed + 1", "needs integers or declared decimals"),
        ("stage == ill", "different types"),
        ("age + years == age", "comes twice in one comparison"),
        ("age + town <= 3", "only numbers can be added"),
        ("town + age <= 3", "only numbers can be added"),
        ("age + paid <= 3", "same type and decimals"),
        ("age + years <= 'x'", "compares with numbers"),
        ("age + agee <= 3", "is not a declared column"),
        ("paid + owed == 30", "needs one column alone"),
    ],
)
def test_an_expression_has_to_fit_the_columns(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        SCHEMA.rules.given(text, SCHEMA)
    assert why in str(caught.value)
    with pytest.raises(SchemaError) as caught:
        ruled("age >= 0", text)
    assert str(caught.value).startswith("constraint 2: ")
    assert why in str(caught.value)


# ---- in the schema -------------------------------------------------------------------------------------------------

TOML = (
    SCHEMA.to_toml()
    + """
[[constraint]]
rule = "years <= age"
basis = "time goes one way"

[[constraint]]
implies = { if = "town == 'A'", then = 'ill == false and `home-town` != "D"' }
"""
)


def test_constraints_are_read_and_written() -> None:
    schema = Schema.parse(TOML)
    assert Schema.parse(schema.to_toml()) == schema
    assert Schema.parse(schema.to_toml()).digest == schema.digest
    assert schema.digest != SCHEMA.digest
    assert (
        schema.digest == Schema.parse(TOML.replace("years <= age", "years  <=\\tage")).digest
    )  # the same, spelled loosely
    assert schema.constraints[0].basis == "time goes one way"
    assert schema.released().constraints == schema.constraints
    assert schema.basis_gaps() == []
    assert replace(schema, basis=None).basis_gaps()[-1] == "constraint 2"


@pytest.mark.parametrize(
    ("block", "why"),
    [
        ("[[constraint]]\nrul = 'age > 1'", "constraint 1: unknown key 'rul'"),
        ("[[constraint]]", "either a rule or implies"),
        (
            "[[constraint]]\nrule = 'age > 1'\nimplies = { if = 'age > 1', then = 'age > 0' }",
            "either a rule or implies",
        ),
        ("[[constraint]]\nrule = 3", "rule must be text"),
        ("[[constraint]]\nrule = 'age >'", "constraint 1: rule: the end at character 6"),
        ("[[constraint]]\nimplies = 'age > 1'", "implies: it must be a table"),
        ("[[constraint]]\nimplies = { if = 'age > 1' }", "then must be declared"),
        ("[[constraint]]\nimplies = { if = 'age > 1', then = 'age > 0', else = 'age > 2' }", "unknown key 'else'"),
        ("[[constraint]]\nrule = 'age > 1'\nbasis = 3", "basis must be text"),
        ("[constraint]\nrule = 'age > 1'", "double brackets"),
    ],
)
def test_a_wrong_constraint_is_refused(block: str, why: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Schema.parse(SCHEMA.to_toml() + "\n" + block + "\n")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_draft_with_blanks_may_have_constraints_that_cannot_be_checked_yet() -> None:
    columns = (replace(COLUMNS[0], maximum=None, bins=None), *COLUMNS[1:])
    schema = Schema(table="t", columns=columns, status="draft", constraints=(Constraint(rule="age >= yeers"),))
    assert schema.blanks()
    with pytest.raises(SchemaError, match="yeers"):
        replace(schema, columns=COLUMNS)


@pytest.mark.parametrize(
    ("rules", "guilty"),
    [
        (("age > 99",), "no row can keep constraint 1:"),
        (("age >= 0", "age == 1.5"), "no row can keep constraint 2:"),
        (("age == 0", "age != 0"), "constraint 1 and constraint 2 contradict"),  # in one bin, of which each leaves some
        (("age < 50", "years > 3", "age >= 50"), "constraint 1 and constraint 3 contradict"),
        (
            ("town is not missing", "town == 'A'", "town == 'B'"),
            "constraint 1, constraint 2 and constraint 3 contradict",
        ),
        (("town == 'A' and town is not missing", "town == 'B'", "age > 2"), "constraint 1 and constraint 2 contradict"),
        (
            ("paid < owed", "paid is not missing", "owed < paid and paid is not missing"),
            "constraint 1 and constraint 3",
        ),
        (("years == 3", "age < 3", "years <= age"), "constraint 1, constraint 2 and constraint 3 contradict"),
        (("age + years <= 30", "age > 15", "years > 15", "age > 40"), "constraint 1 and constraint 4 contradict"),
        (("age + years <= 30", "age > 15", "ill == true", "years > 15"), "constraint 1, constraint 2 and constraint 4"),
    ],
)
def test_rules_that_no_row_can_keep_are_refused_by_number(rules: tuple[str, ...], guilty: str) -> None:
    with pytest.raises(SchemaError, match="no row can keep") as caught:
        ruled(*rules)
    assert guilty in str(caught.value)


def test_rules_that_contradict_each_other_around_a_circle_are_refused() -> None:
    """Each pair of rules can be kept, all three together cannot."""
    columns = tuple(Column(name=name, type="boolean") for name in "abcd")
    rules = tuple(Constraint(rule=text) for text in ("a != b", "c == d", "b != c", "a != c"))
    with pytest.raises(
        SchemaError, match="constraint 1, constraint 3 and constraint 4 contradict each other"
    ) as caught:
        Schema(table="t", columns=columns, constraints=rules)
    assert "no row can keep all of them" in str(caught.value)
    for left_out in (0, 2, 3):
        check_constraints(Schema(table="t", columns=columns, constraints=rules[:left_out] + rules[left_out + 1 :]))


def test_a_pair_is_named_although_three_others_contradict_each_other_too() -> None:
    columns = tuple(Column(name=name, type="boolean") for name in "abcd")
    texts = ("a != b", "b != c", "a != c", "c == true", "d == true", "c == false")
    with pytest.raises(SchemaError, match="constraint 4 and constraint 6 contradict each other: no row can keep both"):
        Schema(table="t", columns=columns, constraints=tuple(Constraint(rule=text) for text in texts))


def test_rules_over_too_many_cells_to_decide_are_left_to_the_model_which_refuses_them() -> None:
    columns = tuple(Column(name=f"x{i}", type="category", values=tuple(map(str, range(40)))) for i in range(6))
    pairs = [(i, j) for i in range(6) for j in range(i)]
    schema = Schema(table="t", columns=columns, constraints=tuple(Constraint(rule=f"x{i} != x{j}") for i, j in pairs))
    assert has_row(schema.rules.masks) is None
    with pytest.raises(SchemaError, match="tie too many columns together"):
        check_constraints(schema)


def test_a_rule_over_too_many_cells_is_refused() -> None:
    columns = tuple(Column(name=f"x{i}", type="number", minimum=0, maximum=1, bins=200) for i in range(3))
    with pytest.raises(SchemaError, match=f"more than {MAX_MASK}") as caught:
        Schema(table="t", columns=columns, constraints=(Constraint(rule="x0 <= x1 or x1 <= x2"),))
    assert "constraint 1" in str(caught.value)
    chain = (Constraint(rule="x0 < x1"), Constraint(rule="x1 < x2"))
    with pytest.raises(SchemaError, match="constraint 1 and constraint 2 together"):
        Schema(table="t", columns=columns, constraints=chain)
    numbers = ", ".join(f"0.{n:05d}" for n in range(1, 500))
    small = Schema(table="t", columns=(columns[0], replace(columns[1], bins=2), replace(columns[2], bins=2)))
    several = f"(x1 in ({numbers}) or x1 < x2) and (x1 in ({numbers}) or x2 < x1) or x2 == 2"
    with pytest.raises(UsageError, match="more than 4096 ways"):
        small.rules.given(several, small)


def test_many_implications_between_two_columns_make_one_mask() -> None:
    schema = ruled(*({"if": f"years == {n}", "then": f"stage == '{'low' if n < 10 else 'high'}'"} for n in range(21)))
    ((columns, mask),) = schema.rules.masks
    assert [schema.names[column] for column in columns] == ["stage", "years"]
    assert mask.sum() == 21


# ---- values --------------------------------------------------------------------------------------------------------


def test_a_chain_in_one_bin_keeps_its_pairwise_masks() -> None:
    columns = tuple(Column(name=name, type="number", minimum=0, maximum=1, bins=4) for name in "abc")
    schema = Schema(table="t", columns=columns, constraints=(Constraint(rule="a <= b"), Constraint(rule="b <= c")))
    assert sorted(columns for columns, _ in schema.rules.masks) == [(0, 1), (1, 2)]
    codes = np.zeros((20_000, 3), dtype=np.int32)
    values = Table(schema, codes).decode(rng=np.random.default_rng(1)).columns
    assert np.all(values["a"] <= values["b"])
    assert np.all(values["b"] <= values["c"])
    means = [
        float(values[name].mean()) for name in "abc"
    ]  # uniform over the part that keeps the rules: 1, 2, 3 quarters
    assert means == pytest.approx([0.25 / 4, 0.5 / 4, 0.75 / 4], abs=5 * 0.06 / np.sqrt(20_000))


@pytest.mark.parametrize("rules", [("t == a + b", "a <= b"), ("t == a + b or a == 3 and b == 1",)])
def test_values_are_uniform_over_what_keeps_a_sum(rules: tuple[str, ...]) -> None:
    """One cell for each column, so that every row of values that keeps the rules is as likely as every other."""
    columns = tuple(Column(name=name, type="integer", minimum=0, maximum=5, bins=1) for name in "abt")
    schema = Schema(table="t", columns=columns, constraints=tuple(Constraint(rule=rule) for rule in rules))
    grid = np.stack(np.meshgrid(*[np.arange(6.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    kept = schema.rules.holds(dict(zip("abt", grid.T, strict=True)))
    values = Table(schema, np.zeros((20_000, 3), dtype=np.int32)).decode(rng=np.random.default_rng(1)).columns
    found = np.bincount((values["a"] * 36 + values["b"] * 6 + values["t"]).astype(int), minlength=216)
    assert not found[~kept].any()
    assert stats.chisquare(found[kept]).pvalue > 1e-6  # chance of a false alarm, on a fresh seed
    uneven = found[kept] + np.where(np.arange(kept.sum()) % 2, 0.15, -0.15) * found[kept].mean()
    assert stats.chisquare(uneven * found.sum() / uneven.sum()).pvalue < 1e-6  # 15 % more of every second is noticed


def test_equal_continuous_columns_are_equal() -> None:
    schema = ruled("paid == owed")
    codes = np.zeros((1000, len(schema.modelled)), dtype=np.int32)
    codes[:, 1] = codes[:, 2] = np.arange(1000) % 4
    codes[::5, 1] = 4  # missing: the rule has nothing to say
    values = Table(schema, codes).decode(rng=np.random.default_rng(1)).columns
    there = ~np.isnan(values["paid"])
    assert there.sum() == 800
    assert np.array_equal(values["paid"][there], values["owed"][there])
    assert len(np.unique(values["owed"])) == 1000


def test_bins_that_a_rule_cuts_are_drawn_in_the_part_that_is_left() -> None:
    schema = ruled("age >= 43 or age == 7", "paid == 30 or paid > 80 and not paid == 90 or paid is missing")
    codes = np.zeros((3000, len(schema.modelled)), dtype=np.int32)
    codes[:, 0] = np.arange(3000) % 3 * 2  # bins 0-9, 20-29 (impossible: any value), 40-49
    codes[:, 1] = np.arange(3000) % 4
    values = Table(schema, codes).decode(rng=np.random.default_rng(1)).columns
    assert set(values["age"][codes[:, 0] == 0]) == {7}
    assert set(values["age"][codes[:, 0] == 4]) == set(range(43, 50))
    assert set(values["paid"][codes[:, 1] == 1]) == {30}
    assert values["paid"][codes[:, 1] == 3].min() > 80


def test_rows_that_break_a_rule_are_read_as_they_are() -> None:
    """Dirty data: encoding and decoding stay total."""
    schema = ruled("years <= age")
    arrays = {column.name: Records.empty(schema).columns[column.name] for column in schema.modelled}
    arrays = {name: np.zeros(2, dtype=array.dtype) for name, array in arrays.items()}
    arrays["years"] = np.array([20.0, 0.0])
    records = Records(schema, arrays)
    assert schema.rules.holds(records.columns).tolist() == [False, True]
    again = Table.encode(records).decode(rng=np.random.default_rng(1))
    assert np.array_equal(Table.encode(again).codes, Table.encode(records).codes)
