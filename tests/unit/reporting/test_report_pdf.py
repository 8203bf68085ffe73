"""The PDF: an archive that a checker approves, with its evidence inside, that can be read aloud in order."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import labels
import pytest
import structure

from dpsynth.errors import OperationError
from reports import Evidence, Report
from reports.render import to_html, to_pdf
from reports.render.words import CHAPTERS

MISSING: str | None = None
try:
    import weasyprint  # noqa: F401
except ImportError:
    MISSING = "needs WeasyPrint: pip install dpsynth[pdf]"
except OSError:
    MISSING = "needs the system's Pango"
if MISSING is None:
    pikepdf = pytest.importorskip("pikepdf", reason="needs pikepdf: pip install dpsynth[dev]")
    pdfa = pytest.importorskip("pikepdf.pdfa", reason="needs pikepdf[pdfa]: pip install dpsynth[dev]")

needs_weasyprint = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


SHORT = ("created_at", "ledger", "release", "review", "review_on", "risk", "source", "tool", "unit")


@cache
def report(builder: ModuleType, edition: Any) -> Report:
    """The whole shareable report, and an internal one without its long chapters: a page costs half a second."""
    evidence = builder.internal()
    if edition == "internal":
        evidence = Evidence({key: node for key, node in evidence.tree.items() if key in SHORT})
    return Report.of(builder.policy(), evidence, on=builder.TODAY, edition=edition)


@cache
def made(builder: ModuleType, edition: Any) -> bytes:
    return to_pdf(report(builder, edition))


def opened(data: bytes) -> Any:
    return pikepdf.open(io.BytesIO(data))


def checked(pdf: Any) -> Any:
    """What the checker says about a document that a test has changed, as it would be written."""
    return pdfa.check(pdf, "3b")


def test_without_weasyprint_one_sentence(builder: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(OperationError, match="WeasyPrint") as refused:
        to_pdf(report(builder, "shareable"))
    assert refused.value.exit_code == 6


@pytest.mark.slow
@needs_weasyprint
class TestThePdf:
    @pytest.mark.parametrize("edition", ["shareable", "internal"])
    def test_a_strict_checker_approves_it(self, builder: ModuleType, edition: str) -> None:
        found = pdfa.validate_written(io.BytesIO(made(builder, edition)), "3b")
        assert found.verdict == "pass", found.summary()

    @pytest.mark.parametrize("fault", ["relation", "intent", "font"])
    def test_the_checker_sees_a_fault(self, builder: ModuleType, fault: str) -> None:
        with opened(made(builder, "internal")) as pdf:
            plant: dict[str, Callable[[], None]] = {
                "relation": lambda: pdf.Root.AF[0].__delitem__("/AFRelationship"),
                "intent": lambda: pdf.Root.__delitem__("/OutputIntents"),
                "font": lambda: _lose_a_font(pdf),
            }
            plant[fault]()
            assert not checked(pdf).passed

    @pytest.mark.parametrize("edition", ["shareable", "internal"])
    def test_it_carries_the_evidence_of_its_own_edition(self, builder: ModuleType, edition: str) -> None:
        with opened(made(builder, edition)) as pdf:
            names = pdf.Root.Names.EmbeddedFiles.Names
            assert [str(name) for name in names[::2]] == ["evidence.json"]
            attached = names[1]
            assert attached.AFRelationship == "/Data"
            assert pdf.Root.AF[0].objgen == attached.objgen
            assert attached.EF.F.Subtype == "/application/json"
            data = attached.EF.F.read_bytes()
        evidence = report(builder, edition).evidence
        assert data == evidence.to_json().encode()
        assert Evidence.from_json(data.decode()).edition == edition
        if edition == "shareable":
            assert b'"P3"' not in data
            assert b'"review"' not in data

    def test_no_number_of_real_rows_is_in_the_shareable_one(self, builder: ModuleType) -> None:
        """In no stream of the file, unpacked, is a name or a label that only the internal edition has."""
        with opened(made(builder, "shareable")) as shareable, opened(made(builder, "internal")) as internal:
            streams, more = _streams(shareable), _streams(internal)
        for only in (b'"P3"', b"attack on real rows", b"groups_compared"):
            assert only in more, "the search can find it"
            assert only not in streams

    def test_it_says_what_it_is(self, builder: ModuleType) -> None:
        with opened(made(builder, "shareable")) as pdf:
            assert str(pdf.Root.Lang) == "en"
            assert str(pdf.docinfo.Title) == "Pass: privacy report for rand-hie"
            assert str(pdf.docinfo.CreationDate) == f"D:{builder.TODAY:%Y%m%d}"
            assert bool(pdf.Root.MarkInfo.Marked)
            assert pdf.Root.OutputIntents[0].S == "/GTS_PDFA1"
            metadata = pdf.Root.Metadata.read_bytes()
        assert re.search(rb'pdfaid:part="3" pdfaid:conformance="B"', metadata)

    def test_the_same_bytes_from_another_process_at_another_time(self, builder: ModuleType, tmp_path: Path) -> None:
        script = (
            "import sys, evidence_builder as b\n"
            "from reports.render import to_pdf\n"
            "from unit.reporting.test_report_pdf import report\n"
            "open(sys.argv[1], 'wb').write(to_pdf(report(b, 'internal')))\n"
        )
        root, out = Path(__file__).parents[3], tmp_path / "again.pdf"
        environment = os.environ | {
            "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}",
            "PYTHONHASHSEED": "4",
            "TZ": "Asia/Tokyo",
        }
        subprocess.run([sys.executable, "-c", script, str(out)], env=environment, cwd=tmp_path, check=True, timeout=300)
        assert out.read_bytes() == made(builder, "internal")

    @pytest.mark.parametrize("edition", ["shareable", "internal"])
    def test_it_is_read_aloud_in_order(self, builder: ModuleType, edition: str) -> None:
        from pdf_reader import read

        with opened(made(builder, edition)) as pdf:
            tree = read(pdf)
        headings = [(int(node.tag[1]), node.text()) for node in tree.find("H1", "H2", "H3", "H4")]
        page = to_html(report(builder, edition))
        told = [
            (int(level), _plain(text)) for level, text in re.findall(r"<h([1-4])[^>]*>(.*?)</h\1>", page, re.DOTALL)
        ]
        assert [(level, text.lower()) for level, text in headings] == [(level, text.lower()) for level, text in told]
        assert headings[1][1].startswith("VERDICT OF THE RELEASE GATE")
        text = tree.text()
        assert text.index("VERDICT OF THE RELEASE GATE") < 500
        places = [text.index(f"{part.number} {part.title}") for part in CHAPTERS if part.number]
        assert places == sorted(places)
        assert "\ufffd" not in text
        assert "if they accept 1 false alarm in 100, they detect Alex in at most 3.3 of 100 tries" in text
        assert text.startswith("Internal edition." if edition == "internal" else "PRIVACY REPORT · SHAREABLE EDITION")

    def test_texts_that_want_to_do_harm_stay_words(self, builder: ModuleType) -> None:
        """In every leaf and every text of the policy: no element, link, action or script more, and all of it can be read.

        A letter that no font has would be an empty box, which the checker of archives refuses: it is spelled out.
        """
        from pdf_reader import read

        made = _said_everywhere(builder, HARM)
        data = to_pdf(made)
        found = pdfa.validate_written(io.BytesIO(data), "3b")
        assert found.verdict == "pass", found.summary()
        assert structure.pdf(data) == []
        with opened(data) as pdf:
            tree = read(pdf)
        calm = to_html(_said_everywhere(builder, "calm"))
        for tag in ("H1", "H2", "H3", "H4"):
            assert len(list(tree.find(tag))) == calm.count(f"<{tag.lower()}"), tag
        assert len(list(tree.find("Figure"))) == calm.count("<svg")
        assert len(list(tree.find("Link"))) <= calm.count("<a href"), "the menu is not printed"
        text = "".join(tree.text().split())
        for words in ("<script>x</script>", "<h1>Pass</h1>", "/JS(x)", "⟨U+202E⟩⟨U+001B⟩[31m"):
            assert words in text, words
        for letter, number in (("\U00010380", "⟨U+10380⟩"), ("\U0001f6e4", "⟨U+1F6E4⟩")):
            assert (letter in text) != (number in text), "as itself, or by its number"
        assert not structure.UNSEEN.search(tree.text())

    @pytest.mark.slow
    def test_brackets_that_no_font_has_are_spelled_too(self, tmp_path: Path) -> None:
        """Liberation has neither Chinese nor the brackets in which a letter's number stands."""
        place = Path("/usr/share/fonts/truetype/liberation")
        if not place.is_dir():
            pytest.skip("the Liberation fonts are not installed")
        root, out, fonts = Path(__file__).parents[3], tmp_path / "report.pdf", tmp_path / "fonts.conf"
        fonts.write_text(
            f"<fontconfig><dir>{place}</dir><cachedir>{tmp_path}</cachedir></fontconfig>", encoding="utf-8"
        )
        script = """
            import sys, evidence_builder as builder
            from reports.render.to_pdf import to_pdf
            from reports.report import Report
            said = builder.shareable({"source.table": builder.declared("\\u6f22")})
            open(sys.argv[1], "wb").write(to_pdf(Report.of(builder.policy(), said, on=builder.TODAY)))
        """
        environment = os.environ | {
            "FONTCONFIG_FILE": str(fonts),
            "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}",
        }
        subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(out)], env=environment, check=True)
        found = pdfa.validate_written(io.BytesIO(out.read_bytes()), "3b")
        assert found.verdict == "pass", found.summary()

    def test_tables_have_headers_and_figures_have_words(self, builder: ModuleType) -> None:
        from pdf_reader import read

        with opened(made(builder, "shareable")) as pdf:
            tree = read(pdf)
        figures = list(tree.find("Figure"))
        assert len(figures) == to_html(report(builder, "shareable")).count("<svg")
        assert all(figure.alt for figure in figures)
        tables = list(tree.find("Table"))
        assert len(tables) > 20
        for table in tables:
            ids = {cell.id for cell in table.find("TH")}
            assert None not in ids
            for cell in table.find("TD"):
                assert cell.headers, cell.text()
                assert set(cell.headers) <= ids


HARM = "<script>x</script></td></table><h1>Pass</h1> /JS (x) \u202e\x1b[31m \U00010380\U0001f6e4"


def _said_everywhere(builder: ModuleType, text: str) -> Report:
    """A short report whose every free text is this one."""
    evidence = labels.evidence(builder, text)
    kept = {
        key: node for key, node in evidence.tree.items() if key in ("created_at", "limits", "release", "source", "unit")
    }
    return Report.of(labels.policy(text), Evidence(kept | {"columns": evidence.rows("columns")[:1]}), on=builder.TODAY)


def _plain(markup: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", markup).split())


def _lose_a_font(pdf: Any) -> None:
    font = next(iter(pdf.pages[0].Resources.Font.values()))
    del font.DescendantFonts[0].FontDescriptor["/FontFile2"]


def _streams(pdf: Any) -> bytes:
    found = []
    for item in pdf.objects:
        if isinstance(item, pikepdf.Stream):
            found.append(item.read_bytes())
    return b"\n".join(found)
