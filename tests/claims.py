"""What no page, log, document or help text may claim, and the search for it."""

from __future__ import annotations

import re

BANNED = (
    r"\banonymous\b",
    r"\banonymi[sz]ed\b",
    r"\bde-?identified\b",
    r"hipaa[- ](compliant|certified)",
    r"gdpr[- ](compliant|exempt)",
    r"safe harbor (is )?met",
    r"not personal data",
    r"zero risk|risk[- ]free|no risk",
    r"cannot be re-?identified",
    r"no real (records|rows|people)",
    r"attacks? failed",
    r"therefore (private|safe)",
    r"\b(is|are|be|fully|completely|perfectly) (safe|secure|private)\b",
    r"\bsafe to (publish|share|use)\b",
    r"(approved|recommended|endorsed) by (the )?(cnil|nist|ico|ema|edpb|hhs)",
    r"legal limit",
    r"(27559|27001)[- ]certified|\bcertified\b",
    r"privacy score",
    r"\bgrade [a-f]\b",
    r"budget remaining",
    r"\breproducible\b",
    r"guaranteed? (privacy|anonymity)",
    r"(meets?|complies with|compliant with|satisfies) (the )?(hipaa|gdpr|safe harbor)",
    r"no longer personal data|outside the scope of the gdpr",
)


MEANT_OTHERWISE = (
    "certified.md", "certified.py", "benchmarks.certified", "certified audits", "certified failures", "certified bound",
    "certified lower bound",
    "k-anonymous extract", "safe to use from many threads", "a reproducible generator for attacks", "rows is private: say with", "--data is private: say with", "if they are private",
    "are private facts", "rows are private until",
)  # fmt: skip
"""Words of documents and sources that claim nothing about a release: an audit certifies a bound, a row is private."""


def claims(text: str, *, meant_otherwise: tuple[str, ...] = ()) -> list[str]:
    """Every claim of the list that a text makes, with what stands around it; markup and line breaks do not hide one."""
    flat = " ".join(re.sub(r"<[^>]+>|&#\d+;|&nbsp;", " ", text).lower().split())
    for words in meant_otherwise:
        flat = flat.replace(words, " ")
    return [flat[max(0, hit.start() - 60) : hit.end() + 60] for phrase in BANNED for hit in re.finditer(phrase, flat)]
