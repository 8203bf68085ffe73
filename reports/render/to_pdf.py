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
from reports.render.to_html import to_html
from reports.report import Report

ATTACHED: Final = "evidence.json"
_LEVEL: Final = "pdf/a-3b"
_RELATION: Final = "Data"  # ISO 19005-3, Annex E: what the pages were made from


def to_pdf(report: Report) -> bytes:
    """The report as PDF bytes, the same for the same report, fonts and version of WeasyPrint; nothing is fetched.

    No clock is read: the document's identifier comes from the page, and its dates are the day of the verdict.

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
        made = document.write_pdf(
            pdf_variant=_LEVEL,
            pdf_tags=True,
            pdf_identifier=hashlib.sha256((page + evidence).encode()).digest()[:16],
            attachments=[attachment],
            finisher=_without_empty_resources,
        )
    return bytes(made)


def _without_empty_resources(_: object, pdf: Any) -> None:
    """Takes out lists of patterns and shadings that hold none: a strict checker cannot approve what it has not seen."""
    for item in pdf.objects:
        if isinstance(item, dict):
            for kind in ("Pattern", "Shading"):
                if item.get(kind) == {}:
                    del item[kind]


def _fetch_nothing(url: str, *_: object, **__: object) -> dict[str, Any]:
    raise ValueError("a report refers to nothing outside itself")
