"""Names, reasons and notes that want to do harm, through the commands: to a terminal, a PDF, a spreadsheet, a pipeline's page."""

from __future__ import annotations

import csv
import io
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import labels
import numpy as np
import pytest
import signers
import structure

from dpsynth import Column, Schema
from dpsynth.cli import talk
from dpsynth.table import Records
from reports import Leaf, Policy

NASTY = "<img src=x onerror=y> [l](javascript:z) | `c` =cmd|'/C calc'!A0 {{7*7}} %s \u200b\u202e\x1b[31m\n| a |\n"
PRINTABLE = "<script>x</script> =cmd|'/C calc'!A0 | [l](http://x.invalid) **b** {{7*7}}"
"""What a ledger and an attestation take: both refuse what cannot be seen."""


def folder_of(builder: ModuleType, place: Path, text: str) -> Path:
    """A release on disk whose evidence and policy say this text wherever they are free to, signed by that name."""
    evidence, rules = labels.evidence(builder, text), labels.policy(text)
    signers.release(place, evidence, rules, builder.TODAY)
    return place


@pytest.mark.parametrize(
    "words", [["gate"], ["gate", "--explain", "words"], ["gate", "--explain", "utility.tv1"], ["verify"]]
)
def test_a_terminal_shows_the_same_lines_whatever_they_say(case: Any, builder: ModuleType, words: list[str]) -> None:
    seen = []
    for text in ("calm", NASTY):
        folder = folder_of(builder, case.folder / f"r{len(seen)}", text)
        code = case(words[0], folder, *words[1:])
        seen.append((code, structure.terminal(case.stdout), structure.terminal(case.stderr)))
    assert seen[0] == seen[1]
    assert seen[0][0] in (0, 1, 5)


@pytest.mark.parametrize("key", ["/JS", "/URI", "/Launch"])
def test_an_action_in_a_pdf_is_seen(key: str) -> None:
    """`test_canaries.py` makes a PDF with hostile labels and looks for them."""
    pikepdf = pytest.importorskip("pikepdf", reason="pikepdf makes the PDF that the search is tried on")
    document = pikepdf.new()
    document.add_blank_page()
    out = io.BytesIO()
    document.save(out)
    assert structure.pdf(out.getvalue()) == []
    action = pikepdf.Dictionary({"/S": pikepdf.Name(key if key != "/JS" else "/JavaScript"), key: pikepdf.String("x")})
    document.pages[0].Annots = pikepdf.Array(
        [pikepdf.Dictionary(Type=pikepdf.Name.Annot, A=document.make_indirect(action))]
    )
    out = io.BytesIO()
    document.save(out)
    assert key in {found for found, _ in structure.pdf(out.getvalue())}


def test_a_ledger_takes_what_can_be_seen_and_shows_it_on_its_line(case: Any) -> None:
    calm = re.sub(r"\S", "c", PRINTABLE)  # as long, so that lines break at the same places
    for name, text in (("calm", calm), ("nasty", PRINTABLE)):
        place = case.folder / f"{name}.ledger"
        assert case("ledger", "create", place, "--population", text, "--epsilon", 1, "--delta", "1e-6") == 0
        assert case("ledger", "amend", place, "--epsilon", 2, "--reason", text, "--approver", text) == 0
        assert case("ledger", "import", place, "--not-dp", "--note", text) == 0
    shown = []
    for name in ("calm", "nasty"):
        assert case("ledger", "show", case.folder / f"{name}.ledger") == 0
        shown.append((structure.terminal(case.stdout), structure.terminal(case.stderr)))
    assert shown[0] == shown[1]
    for option in (
        ["create", case.folder / "x.ledger", "--epsilon", 1, "--delta", "1e-6", "--population"],
        ["amend", case.folder / "nasty.ledger", "--epsilon", 3, "--approver", "A", "--reason"],
        ["amend", case.folder / "nasty.ledger", "--epsilon", 3, "--reason", "r", "--approver"],
        ["import", case.folder / "nasty.ledger", "--not-dp", "--note"],
    ):
        assert case("ledger", *option, NASTY) == 2
        structure.terminal(case.stderr)


@pytest.mark.parametrize(
    "words",
    [
        ["gate"],
        ["report", "--out", "x.html"],
        ["ledger", "show"],
        ["schema", "check"],
        ["nonsense"],
        ["gate", "--policy"],
    ],
)
def test_a_mistake_is_told_without_obeying_it(case: Any, words: list[str]) -> None:
    for text in (NASTY, "a\ud800b", "x" * 10_240):
        assert case(*words, text) in (2, 6)
        structure.terminal(case.stderr)
        assert len(case.stderr) < 25_000


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("name", ["a[/b]", "[red]x[/red]", "[link=http://x.invalid]y", "a\x1b[31mb\u202ec"])
def test_progress_on_a_terminal_takes_a_name_as_it_is(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A name in brackets is no markup: rich would colour it, link it, or fail in the middle of a release that is charged."""
    said = Terminal()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setenv("TERM", "xterm")  # on a terminal without colours and cursor no spinner turns
    monkeypatch.setenv("COLUMNS", "100")
    with talk.progress() as report:
        report(f"discovering values of {name}")  # shown at the latest when the spinner ends
    assert f"discovering values of {talk.clean(name)} ..." in said.getvalue()
    assert "\x1b]8" not in said.getvalue()


LABELS = ("=cmd|'/C calc'!A0", "+1+cmd", "@SUM(1)", "-2+3", 'a"b,c', "<script>", " x ", "'q", "\u202fd")


def test_a_csv_file_holds_the_labels_and_no_row_or_cell_more(tmp_path: Path) -> None:
    """A label is never altered, so that the file can be read back; what a spreadsheet makes of it is told by `sample`."""
    schema = Schema(
        table="t",
        columns=(
            Column(name="=1+1", type="category", values=LABELS, basis="test"),
            Column(name="n", type="integer", minimum=0, maximum=9, basis="test"),
        ),
    )
    records = Records(
        schema=schema, columns={"=1+1": np.arange(len(LABELS), dtype=np.int32), "n": np.full(len(LABELS), 3.0)}
    )
    records.write(tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.reader(file))
    assert found == [["=1+1", "n"], *([label, "3"] for label in LABELS)]


def test_sample_says_which_labels_a_spreadsheet_would_run(case: Any) -> None:
    text = case.schema.read_text(encoding="utf-8").replace('["A", "B", "C", "D"]', '["=A1", "B", "C", "D"]')
    case.schema.write_text(text, encoding="utf-8")
    case.data.write_text(case.data.read_text(encoding="utf-8").replace(",A,", ",=A1,"), encoding="utf-8")
    assert case.release("--no-gate", "--synthesizer", "independent", "--rows", 20) == 0, case.stderr
    assert case("sample", case.out, "--rows", 5, "--out", case.folder / "a.csv") == 0
    assert "a spreadsheet would take values of 'town' for formulas" in case.stderr
    assert case("sample", case.out, "--rows", 5, "--out", case.folder / "a.parquet") == 0
    assert "spreadsheet" not in case.stderr


def test_the_builder_is_as_nasty_as_it_says(builder: ModuleType) -> None:
    assert isinstance(labels.policy(NASTY), Policy)
    leaf = labels.evidence(builder, NASTY).get("source.table")
    assert leaf == Leaf(NASTY, "P0", NASTY)
