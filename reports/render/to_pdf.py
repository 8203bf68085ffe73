"""The report as an archival PDF (PDF/A-3b), from the same HTML page, with the evidence behind it attached.

Needs the extra `pdf` (WeasyPrint) and the system's Pango. The file holds all that it needs for the years it is kept:
fonts, a colour profile, tags for screen readers, and `evidence.json` of its own edition as an associated file.
"""

from __future__ import annotations

import hashlib
import warnings
from datetime import UTC, datetime, time
from typing import Any, Final

from dpsynth.errors import OperationError
from reports.render.text import spelled
from reports.render.to_html import to_html
from reports.report import Report

ATTACHED: Final = "evidence.json"
_LEVEL: Final = "pdf/a-3b"
_LAST_ASCII: Final = 127
_PLAIN: Final = {ord("⟨"): "(", ord("⟩"): ")"}
_RELATION: Final = "Data"  # ISO 19005-3, Annex E: what the pages were made from


def to_pdf(report: Report) -> bytes:
    """The report as PDF bytes, the same for the same report, fonts and version of WeasyPrint; nothing is fetched.

    No clock is read: the document's identifier comes from the page, and its dates are the day of the verdict. A character
    that no installed font has is spelled out (⟨U+6F22⟩): an empty box would be read by nobody, and no archive may hold one.

    Raises:
        OperationError: WeasyPrint or a system library that it needs is not installed.
    """
    try:
        import weasyprint  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except (ImportError, OSError):
        raise OperationError(
            "a PDF needs WeasyPrint and Pango: install dpsynth[pdf] and the system's Pango, or ask for html"
        ) from None
    page, evidence = to_html(report), report.evidence.to_json()
    dated = datetime.combine(report.verdict.on, time(), tzinfo=UTC)
    without_glyph: set[int] = set()

    def finish(document: Any, pdf: Any) -> None:
        _drop_empty_resources(pdf)
        without_glyph.update(code for font in document.fonts.values() for code in font.missing)

    def made(page: str) -> bytes:
        attachment = weasyprint.Attachment(
            string=evidence,
            name=ATTACHED,
            description=f"The evidence of this report, {report.evidence.edition} edition",
            created=dated,
            modified=dated,
            relationship=_RELATION,
        )
        document: Any = weasyprint.HTML(string=page, url_fetcher=_fetch_nothing)
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # its colour profile's file stays open
            pdf = document.write_pdf(
                pdf_variant=_LEVEL,
                pdf_tags=True,
                pdf_identifier=hashlib.sha256((page + evidence).encode()).digest()[:16],
                attachments=[attachment],
                finisher=finish,
            )
        return bytes(pdf)

    said: dict[int, str] = {}
    while True:  # what spells a letter out has to be in a font too: the brackets are not in every one
        pdf = made(page.translate(said))
        new = {code for code in without_glyph - said.keys() if code > _LAST_ASCII}
        if not new:
            return pdf
        said |= {code: _PLAIN.get(code, spelled(code)) for code in new}
        plain = {code: mark for code, mark in _PLAIN.items() if code in said}
        said = {code: text.translate(plain) for code, text in said.items()}


def _drop_empty_resources(pdf: Any) -> None:
    """Takes out lists of patterns and shadings that hold none: a strict checker cannot approve what it has not seen."""
    for item in pdf.objects:
        if isinstance(item, dict):
            for kind in ("Pattern", "Shading"):
                if item.get(kind) == {}:
                    del item[kind]


def _fetch_nothing(url: str, *_: object, **__: object) -> dict[str, Any]:
    raise ValueError("a report refers to nothing outside itself")
