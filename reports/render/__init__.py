"""Pages from a report: evidence and verdict to text. No number is computed here; rounding is towards the worse side."""

from __future__ import annotations

from reports.render.to_html import to_html
from reports.render.to_json import to_json
from reports.render.to_junit import to_junit
from reports.render.to_markdown import to_markdown
from reports.render.to_pdf import to_pdf
from reports.render.to_sarif import to_sarif

__all__ = ["to_html", "to_json", "to_junit", "to_markdown", "to_pdf", "to_sarif"]
