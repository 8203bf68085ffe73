"""The report as PDF, made from the same HTML page. Needs the extra `pdf` (WeasyPrint) and the system's Pango."""

from __future__ import annotations

import hashlib
from typing import Any

from dpsynth.errors import OperationError
from reports.render.to_html import to_html
from reports.report import Report


def to_pdf(report: Report) -> bytes:
    """The report as PDF bytes, tagged for screen readers; nothing is fetched while it is made.

    Raises:
        OperationError: WeasyPrint or a system library that it needs is not installed.
    """
    try:
        import weasyprint  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except (ImportError, OSError):
        raise OperationError(
            "a PDF needs WeasyPrint and Pango: install dpsynth[pdf] and the system's Pango, or ask for html"
        ) from None
    page = to_html(report)
    identifier = hashlib.sha256(page.encode()).digest()[:16]
    document: Any = weasyprint.HTML(string=page, url_fetcher=_fetch_nothing)
    return bytes(document.write_pdf(pdf_identifier=identifier, pdf_tags=True))


def _fetch_nothing(url: str, *_: object, **__: object) -> dict[str, Any]:
    raise ValueError("a report refers to nothing outside itself")
