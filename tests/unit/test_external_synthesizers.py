"""Other programs as synthesizers: what their claims cost, when they are charged, and what the program gets to see."""

from __future__ import annotations

import math
import sys
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dpsynth import Cap, Cost, OperationError, PrivacyUnit, Program, Rehearsal, Schema, UsageError
from dpsynth.models.rows import RowsOnly, drawn
from dpsynth.privacy import ORDERS, RowPromise
from dpsynth.synthesizers import external
from dpsynth.synthesizers.external import ANY, FACTS, External, SmartNoise
from dpsynth.synthesizers.registry import EXTERNAL, SYNTHESIZERS, synthesizer

MakeSchema = Callable[..., Schema]
Write = Callable[[str], str]
COPY = "pd.read_parquet(train).sample(int(args['--rows']), replace=True).to_parquet(out, index=False)"


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A Python program with these lines in the place of its work; returns the command."""

    def work(body: str) -> str:
        path = tmp_path / "program.py"
        head = """
            import os, shutil, sys
            args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
            train, out = args["--train"], args["--out"]
        """
        pandas = "import pandas as pd\n" if "pd." in body else ""
        path.write_text(pandas + textwrap.dedent(head) + textwrap.dedent(body), encoding="utf-8")
        return f"'{sys.executable}' '{path}'"

    return work


def recipe(command: str, **words: Any) -> External:
    return External(**{"name": "external", "command": command, "implementation": ANY, "rows": 5} | words)


def unit(rows: int = 1, neighbours: Any = "add_remove") -> PrivacyUnit:
    return PrivacyUnit(entity="person" if rows > 1 else "row", max_rows=rows, neighbours=neighbours)


# ---- what a claim costs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "neighbours", "steps"), [(1, "add_remove", 1), (3, "add_remove", 3), (1, "replace", 2), (3, "replace", 6)]
)
def test_a_claim_for_a_row_grows_with_the_steps_of_a_unit(rows: int, neighbours: str, steps: int) -> None:
    """k epsilon, and delta times k e^((k-1) epsilon): by hand, against floats."""
    epsilon, delta = RowPromise(epsilon=Fraction(1, 2), delta=Fraction(1, 10**6)).of_unit(unit(rows, neighbours))
    assert epsilon == Fraction(steps, 2)
    assert float(delta) == pytest.approx(steps * math.exp((steps - 1) / 2) * 1e-6, rel=1e-12)
    assert float(delta) >= steps * math.exp((steps - 1) / 2) * 1e-6 * (1 - 1e-15), "rounded up"


def test_known_answers_of_group_privacy() -> None:
    pure = RowPromise(epsilon=Fraction(1), delta=Fraction(0))
    assert pure.of_unit(unit(4)) == (4, 0)
    assert pure.cost(unit(4)) == Cost.approximate(4, 0)
    hopeless = RowPromise(epsilon=Fraction(100), delta=Fraction(1, 10**6))
    assert hopeless.of_unit(unit(1000)) == (100_000, 1)
    with pytest.raises(UsageError, match="says nothing"):
        hopeless.cost(unit(1000))
    for bad in ({"epsilon": Fraction(0)}, {"epsilon": Fraction(10**10)}, {"delta": Fraction(1)}):
        with pytest.raises(UsageError):
            RowPromise(**{"epsilon": Fraction(1), "delta": Fraction(0)} | bad)


@pytest.mark.slow
@pytest.mark.parametrize("order", [ORDERS[0], ORDERS[30], ORDERS[70], ORDERS[-1]])
@pytest.mark.parametrize("who", [unit(), unit(3), unit(2, "replace")])
@pytest.mark.parametrize("pure", [True, False])
def test_the_weakest_promise_within_a_limit(order: Fraction, who: PrivacyUnit, pure: bool) -> None:
    """It fits, and one that is weaker by a billionth does not."""
    found = RowPromise.within(who, order=order, nano=10**9, delta0=Fraction(1, 10**7), pure=pure)
    cost = found.cost(who)
    assert cost.at(order) <= 10**9
    assert cost.delta0 <= Fraction(1, 10**7)
    weaker = RowPromise(epsilon=found.epsilon + Fraction(2, 10**9), delta=Fraction(0))
    assert weaker.cost(who).at(order) > 10**9
    assert (found.delta == 0) is pure
    if not pure:
        assert cost.delta0 > Fraction(99, 10**9), "no more than rounding is given away"


def test_a_limit_that_leaves_nothing_is_a_user_s_mistake() -> None:
    for words in ({"nano": 0}, {"nano": -5}, {"delta0": Fraction(0)}):
        with pytest.raises(UsageError, match="leaves nothing"):
            RowPromise.within(
                unit(), **{"order": ORDERS[60], "nano": 10**9, "delta0": Fraction(1, 10**7), "pure": False} | words
            )


@pytest.mark.parametrize("share", [Fraction(1), Fraction(9, 10)])
@pytest.mark.parametrize("words", [{}, {"max_rows": 3}, {"neighbours": "replace"}])
@pytest.mark.parametrize("pure", [True, False])
def test_a_release_keeps_its_promise(
    share: Fraction, words: dict[str, Any], pure: bool, make_schema: MakeSchema
) -> None:
    """Claim and attack counts together fit a fresh cap of the same (epsilon, delta), and imply it."""
    schema, promise = make_schema((3, 2), **words), Cap.of(1, "1e-6")
    claimed = recipe("x", pure=pure).cost(schema, promise=promise, share=share)
    whole = claimed + promise.cost.share(1 - share)
    assert promise.admits(0, Fraction(0), whole)
    assert whole.epsilon("1e-6") <= 1
    assert whole.at(promise.order) > promise.nano * Fraction(999, 1000), "next to nothing is given away"
    assert (claimed.delta0 == 0) is pure


# ---- the door ----------------------------------------------------------------------------------------------------


def test_the_claim_is_charged_before_a_row_is_handed_out(
    write: Write, make_schema: MakeSchema, make_frame: Any, open_curator: Any, book: Any, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"

    class Refuses(book):  # type: ignore[misc]
        def spend(self, cost: Cost, *, purpose: str, basis: str = "proven") -> None:
            super().spend(cost, purpose=purpose)
            raise UsageError("no")

    schema = make_schema((3, 2), max_rows=2)
    frame = make_frame([[0, 1], [2, 0], [1, 1]], columns=2, who=["a", "b", "b"])
    purse = Refuses()
    curator = open_curator(frame, schema, seed=1, reservation=purse)
    budget = recipe("x").cost(schema, promise=Cap.of(1, "1e-6"), share=Fraction(1))
    with pytest.raises(UsageError, match="no"):
        recipe(write(f"open({str(seen)!r}, 'w')")).fit(curator, budget=budget)
    assert purse.spent == [budget]
    assert not seen.exists()


def test_a_failed_program_stays_charged(
    write: Write, make_schema: MakeSchema, make_frame: Any, open_curator: Any
) -> None:
    schema = make_schema((3, 2))
    curator = open_curator(make_frame([[0, 1]], columns=2), schema, seed=1)
    budget = recipe("x").cost(schema, promise=Cap.of(1, "1e-6"), share=Fraction(1))
    with pytest.raises(OperationError, match="the program failed"):
        recipe(write("sys.exit(3)")).fit(curator, budget=budget)
    assert curator._reservation.spent == [budget]


def test_what_the_program_sees(
    write: Write,
    make_schema: MakeSchema,
    make_frame: Any,
    open_curator: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At most `max_rows` rows of a person, nobody's name, the fit side alone, and numbers that keep the promise."""
    note, temp = tmp_path / "note", tmp_path / "temp"
    temp.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temp))
    schema = replace(make_schema((3, 2), max_rows=2), rows_at_most=7)
    frame = make_frame([[0, 1]] * 9 + [[2, 0]], columns=2, who=["CANARY"] * 9 + ["b"])
    command = write(f"""
        table = pd.read_parquet(train)
        told = [list(table.columns), len(table), args["--rows"], args["--epsilon"], args["--delta"]]
        open({str(note)!r}, "w").write(repr(told) + open(args["--schema"]).read())
        table.to_parquet(out)
    """)
    one = recipe(command, rows=None)
    one.check(schema)
    budget = one.cost(schema, promise=Cap.of(1, "1e-6"), share=Fraction(1))
    model = one.fit(open_curator(frame, schema, seed=1), budget=budget)
    told = note.read_text()
    claim = RowPromise.within(
        schema.unit, order=ORDERS[-1], nano=budget.at(ORDERS[-1]), delta0=budget.delta0, pure=False
    )
    assert claim.cost(schema.unit) == budget, "the claim is found again"
    expected = [["c0", "c1"], 3, "7", repr(float(claim.epsilon)), repr(float(claim.delta))]
    assert told.startswith(repr(expected))
    assert "CANARY" not in told
    assert "who" not in told
    assert Schema.parse(told.removeprefix(repr(expected))) == schema.released()
    assert model.claim == claim.of_unit(schema.unit)
    assert model.records.schema == schema
    assert len(model.records) == 3
    assert list(temp.iterdir()) == []


def test_rows_go_to_a_program_and_to_nothing_else(
    write: Write, make_schema: MakeSchema, make_frame: Any, open_curator: Any
) -> None:
    schema = make_schema((3, 2), max_rows=2)
    curator = open_curator(make_frame([[0, 1]], columns=2, who=["a"]), schema, seed=1)

    class Thief:
        schema = make_schema((3, 2)).released()
        promise = RowPromise(epsilon=Fraction(1), delta=Fraction(0))

        def run(self, frame: pd.DataFrame) -> None:
            raise AssertionError("it got the rows")

    for program in (Thief(), Program(write(COPY), schema, epsilon=1, delta=0, rows=1)):
        with pytest.raises(TypeError):
            curator.ask(program)
    assert curator._reservation.spent == []


def test_another_budget_than_a_claim_s_is_refused(
    write: Write, make_schema: MakeSchema, make_frame: Any, open_curator: Any
) -> None:
    schema = make_schema((3, 2))
    curator = open_curator(make_frame([[0, 1]], columns=2), schema, seed=1)
    limit = Cost(rho=Fraction(1, 100), delta0=Fraction(1, 10**7))
    with pytest.raises(ValueError, match="cost of a claim"):
        recipe(write(COPY)).fit(curator, budget=limit)
    assert curator._reservation.spent == []


# ---- rows and no model -------------------------------------------------------------------------------------------


def test_rows_are_no_model(write: Write, make_schema: MakeSchema, make_frame: Any, open_curator: Any) -> None:
    schema = make_schema((3, 2))
    budget = recipe("x").cost(schema, promise=Cap.of(1, "1e-6"), share=Fraction(1))
    model = recipe(write(COPY)).fit(
        open_curator(make_frame([[0, 1], [2, 0]], columns=2), schema, seed=1), budget=budget
    )
    assert isinstance(model, RowsOnly)
    assert (model.measurements, model.coarse, model.total) == ((), (), 5.0)
    rng = np.random.default_rng(1)
    with pytest.raises(UsageError, match="no model"):
        model.sample(3, rng=rng)
    table, records = drawn(model, 99, rng=rng)
    assert records is model.records
    assert len(table) == 5


def test_the_model_folder_says_that_there_is_none(make_schema: MakeSchema, tmp_path: Path) -> None:
    from dpsynth import Records
    from dpsynth.models.rows import refuse_rows_only

    schema = make_schema((3, 2))
    model = RowsOnly(schema=schema, records=Records.empty(schema), claim=(Fraction(1), Fraction(0)))
    model.save(tmp_path / "model")
    assert '"kind": "rows only"' in (tmp_path / "model" / "model.json").read_text()
    with pytest.raises(UsageError, match="no model") as caught:
        refuse_rows_only(tmp_path / "model")
    assert caught.value.exit_code == 2
    (tmp_path / "model" / "model.json").write_text('{"format": "dpsynth.model/2"}')
    refuse_rows_only(tmp_path / "model")


# ---- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXTERNAL)
def test_an_external_synthesizer_is_settings_only(name: str) -> None:
    one = synthesizer(name, rows=7)
    assert isinstance(one, External)
    assert one == synthesizer(name, rows=7)
    assert hash(one) == hash(synthesizer(name, rows=7))
    assert (one.name, one.rows) == (name, 7)
    assert one.implementation.claimed_by
    assert one.implementation.floating_point
    with pytest.raises(FrozenInstanceError):
        one.name = "else"  # type: ignore[misc]


def test_the_two_lists_share_no_name() -> None:
    assert not SYNTHESIZERS.keys() & EXTERNAL.keys()
    assert EXTERNAL.keys() == {"external", *(f"smartnoise-{method}" for method in FACTS)}
    with pytest.raises(UsageError, match="smartnoise-mst"):
        synthesizer("magic")
    for name in ("mst", "smartnoise-mst"):
        with pytest.raises(UsageError, match="--command goes with"):
            synthesizer(name, command="true")


def test_documented_violations_are_carried() -> None:
    for method in ("patectgan", "dpctgan"):
        assert len(synthesizer(f"smartnoise-{method}").implementation.known_violations) >= 3
    assert synthesizer("smartnoise-mst").implementation.claimed_by == "smartnoise-synth 1.0.8"


def test_what_a_program_cannot_do_is_refused_from_the_schema(write: Write, make_schema: MakeSchema) -> None:
    from dpsynth import Constraint

    command, schema = write(COPY), make_schema((3, 2))
    recipe(command).check(schema)
    recipe(command, rows=None).check(replace(schema, rows_at_most=9))
    for one, where, words in (
        (recipe(""), schema, "--command"),
        (recipe("no-such-program-anywhere"), schema, "does not exist"),
        (recipe(command, rows=None), schema, "say with --rows"),
        (recipe(command, rows=0), schema, "--rows must be"),
        (recipe(command, fewest_columns=3), schema, "at least 3 columns"),
        (recipe(command), replace(schema, constraints=(Constraint(rule="c0 == '0'"),)), "constraints"),
    ):
        with pytest.raises(UsageError, match=words):
            one.check(where)


def test_smartnoise_says_how_it_is_installed(
    make_schema: MakeSchema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(external.PLACE, str(tmp_path / "nowhere"))
    one = synthesizer("smartnoise-mst", rows=5)
    assert isinstance(one, SmartNoise)
    with pytest.raises(UsageError, match="make smartnoise"):
        one.check(make_schema((3, 2)))
    place = tmp_path / "here" / "bin"
    place.mkdir(parents=True)
    (place / "python").symlink_to(sys.executable)
    monkeypatch.setenv(external.PLACE, str(tmp_path / "here"))
    again = synthesizer("smartnoise-mst", rows=5)
    assert isinstance(again, SmartNoise)
    assert again.command.startswith(str(place / "python"))
    again.check(make_schema((3, 2)))


# ---- an audit ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "pure", "told"),
    [
        ({}, False, ("1.0", "1e-06")),
        ({}, True, ("1.0", "0.0")),
        ({"max_rows": 2}, False, ("0.5", f"{1e-6 / (2 * math.exp(0.5)):.5e}")),
    ],
)
def test_an_audit_tests_the_very_claim(
    words: dict[str, Any],
    pure: bool,
    told: tuple[str, str],
    write: Write,
    make_schema: MakeSchema,
    make_frame: Any,
    tmp_path: Path,
) -> None:
    note = tmp_path / "note"
    command = write(f"open({str(note)!r}, 'w').write(args['--epsilon'] + ' ' + args['--delta']); {COPY}")
    schema = make_schema((3, 2), **words)
    game = Rehearsal(schema, synthesizer=recipe(command, pure=pure), epsilon=1, delta="1e-6")
    assert (game.cost, game.epsilon, game.delta) == (None, 1.0, 0.0 if pure else 1e-6)
    trial = game.run(make_frame([[0, 1]] * 3, columns=2, who=None if not words else ["a"] * 3))
    assert len(trial.rows) == 5
    assert trial.rows.schema == schema.released()
    epsilon, delta = note.read_text().split()
    assert epsilon == told[0]
    assert float(delta) == pytest.approx(float(told[1]), rel=1e-4)
    assert float(delta) <= float(told[1]) * (1 + 1e-5)


# ---- the attack counts' control ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 3, 900])
def test_no_row_plays_two_parts(rows: int) -> None:
    """Without a model, parts of the synthetic rows stand for persons: any three that follow each other share no row."""
    from dpsynth import Column, Records
    from reports.pipeline import _persons_of

    column = Column(name="x", type="number", minimum=0, maximum=1, basis="test")
    schema = Schema(table="t", columns=(column,))
    records = Records(schema, {"x": np.arange(rows) / rows})
    model = RowsOnly(schema=schema, records=records, claim=(Fraction(1), Fraction(0)))
    made = _persons_of(model, rng=np.random.default_rng(1))
    parts = [made(wanted) for wanted in (200, 250, 10**6, 200)]
    values = [set(part.records.columns["x"].tolist()) for part in parts]
    assert all(part.persons == len(part.records) >= 1 for part in parts)
    if rows >= 3:
        pairs = ((0, 1), (1, 2), (0, 2), (2, 3))
        assert not any(values[one] & values[other] for one, other in pairs)
    if rows == 900:
        assert [part.persons for part in parts] == [200, 250, 300, 200]


@pytest.mark.parametrize("method", FACTS)
def test_what_is_said_of_noise_and_of_its_source_agrees(method: str) -> None:
    """OpenDP's noise is OpenDP's in both sentences, and a seed of 0 stands in both or in neither."""
    facts = FACTS[method]
    assert ("OpenDP" in facts.noise) == ("OpenDP" in facts.randomness)
    assert ("seeded with 0" in facts.randomness) == any("torch with 0" in text for text in facts.violations)
