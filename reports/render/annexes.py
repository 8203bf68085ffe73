"""Annexes of the report, one for each regime that the policy names: data (`regimes/*.toml`) beside the evidence.

What an annex asks for is written in its file; what is known stands in the evidence; what only people can write is a
blank line, and nothing here ever writes on it. Every view renders the same `Annex`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from reports.evidence import Evidence, Leaf
from reports.gate import Verdict
from reports.gate.knowledge import ANSWERED, LEARNED
from reports.paths import PATHS, Value, is_number
from reports.registry import entries, fields
from reports.render import words
from reports.render.numbers import ABSENT, Direction, hundred, number, percent, plain, points
from reports.render.text import name
from reports.report import Report
from reports.safe_harbor import alphabet

Tone: TypeAlias = Literal["pass", "fail", "incomplete", "needs_human", "not_applicable"]

SCHEMA: Final = "dpsynth.annex/1"
CHAPTERS: Final[Mapping[str, str]] = MappingProxyType(
    {part.id: part.title for part in (*words.CHAPTERS, *words.CRITERIA) if part.id != "review"}
)
"""Chapters of both editions, which an annex can point to, by their anchor."""

_ROUNDED_DOWN: Final = frozenset({"ledger.remaining"})
_WORST: Final[tuple[Tone, ...]] = ("fail", "incomplete", "needs_human", "pass")
_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "pass": "pass",
        "fail": "fail",
        "incomplete": "incomplete",
        "needs_human": "for a person",
    }
)
_SCANNED: Final[Mapping[str, Tone]] = MappingProxyType(
    {
        "pattern not found": "not_applicable",
        "filled with fakes": "not_applicable",
        "pattern found": "incomplete",
        "for a person": "needs_human",
    }
)


@dataclass(frozen=True, kw_only=True)
class Status:
    """A word in a box, and how the box looks; a search that found nothing never looks like a pass."""

    words: str
    tone: Tone


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A value of the evidence in words, a text or several, and its path; `known` is false where there is none."""

    title: str
    texts: tuple[str, ...]
    path: str = ""
    known: bool = True


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of an annex.

    Args:
        code, title, text: What is asked, by which clause.
        status: Of a hazard or of a letter; None where nothing is judged.
        facts: From the evidence.
        notes: What a reader should know beside them.
        see: Anchors of chapters that say more.
        blanks: What only a person can write.
    """

    title: str
    code: str = ""
    text: str = ""
    status: Status | None = None
    facts: tuple[Fact, ...] = ()
    notes: tuple[str, ...] = ()
    see: tuple[str, ...] = ()
    blanks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Part:
    """A table of an annex; `judged` says whether its lines have a status."""

    title: str
    text: str
    lines: tuple[Line, ...]

    @property
    def judged(self) -> bool:
        return any(line.status is not None for line in self.lines)


@dataclass(frozen=True, kw_only=True)
class Annex:
    """One annex: id, letter and title; the version and source of its text; an introduction; its parts."""

    id: str
    letter: str
    title: str
    version: str
    source: str
    text: str
    parts: tuple[Part, ...]

    def to_json(self) -> dict[str, Any]:
        """The annex as a JSON object; blanks are names of fields without a value."""
        return {
            "id": self.id,
            "letter": self.letter,
            "title": self.title,
            "version": self.version,
            "source": self.source,
            "parts": [{"title": part.title, "lines": [_line_json(line) for line in part.lines]} for part in self.parts],
        }


def _line_json(line: Line) -> dict[str, Any]:
    return {
        "code": line.code or None,
        "title": line.title,
        "status": line.status.words if line.status else None,
        "facts": [
            {"title": fact.title, "value": list(fact.texts) if fact.known else None, "path": fact.path or None}
            for fact in line.facts
        ],
        "notes": list(line.notes),
        "see": list(line.see),
        "for_a_person": dict.fromkeys(line.blanks),
    }


def annexes(report: Report) -> tuple[Annex, ...]:
    """The annexes that the report's policy names, in their order."""
    return tuple(_annex(_file(annex), report) for annex in report.policy.annexes)


@cache
def _file(annex: str) -> Mapping[str, Any]:
    """The file of an annex."""
    data = tomllib.loads((files("reports") / "regimes" / f"{annex}.toml").read_text(encoding="utf-8"))
    if data["schema"] != SCHEMA or data["id"] != annex:
        raise AssertionError(f"regimes/{annex}.toml is not an annex of this version")
    return data


def _annex(data: Mapping[str, Any], report: Report) -> Annex:
    parts = [_part(part, report) for part in data.get("part", ())]
    if data["id"] == "registry":
        parts += _registry(report)
    return Annex(
        **{key: data[key] for key in ("id", "letter", "title", "version", "source", "text")},
        parts=tuple(part for part in parts if part.lines),
    )


def _part(part: Mapping[str, Any], report: Report) -> Part:
    lines: Iterable[Line] = (_line(line, report) for line in part.get("line", ()))
    if part.get("each") == "quasi_identifier":
        lines = _quasi_identifiers(report.evidence, tuple(part["blanks"]))
    elif part.get("each") == "letter":
        lines = _letters(report.evidence)
    return Part(title=part["title"], text=part.get("text", ""), lines=tuple(lines))


def _line(line: Mapping[str, Any], report: Report) -> Line:
    judged = tuple(line.get("judged", ()))
    status: Status | None = None
    notes: tuple[str, ...] = ()
    if judged or line.get("person"):
        status, notes = _judged(judged, report.verdict, person=line.get("person", False))
    return Line(
        code=line.get("code", ""),
        title=line["title"],
        text=line.get("text", ""),
        status=status,
        facts=(
            *(_fact(report.evidence, path) for path in line.get("evidence", ())),
            *(_successes(report.evidence) if line.get("each") == "success" else ()),
        ),
        notes=notes,
        see=tuple(line.get("see", ())),
        blanks=tuple(line.get("blanks", ())),
    )


# ---- hazards ---------------------------------------------------------------------------------------------------------


def _judged(names: Sequence[str], verdict: Verdict, *, person: bool) -> tuple[Status, tuple[str, ...]]:
    """The worst of what the gate found; never a pass where one of the names was not judged.

    A name is the id of a check that is code, or the path that a rule of the policy reads: what a policy calls its rules
    decides nothing.
    """
    tones: list[Tone] = ["needs_human"] if person or not names else []
    checked, missing = [], []
    for check in names:
        found: list[Tone] = [
            _tone(rule.state) for rule in verdict.rules if check == (rule.id if rule.origin == "code" else rule.path)
        ]
        known = [_tone(rule.state) for rule in verdict.rules if rule.id == LEARNED and check in ANSWERED]
        if not found and known:
            found = known
            checked.append(f"{check}, which {LEARNED} answers: {_WORDS[_worst(found)]}")
        elif found:
            checked.append(f"{check}: {_WORDS[_worst(found)]}")
        else:
            missing.append(check)
        tones.append(_worst(found))
    worst = _worst(tones)
    notes = [f"Checked: {', '.join(checked)}."] if checked else []
    notes += [f"No rule of this policy, and no check, looked at {', '.join(missing)}."] if missing else []
    return Status(words=_WORDS[worst], tone=worst), tuple(notes)


def _tone(state: str) -> Tone:
    """How a rule's state looks here; a state that is not known is for a person."""
    known: Mapping[str, Tone] = {
        "pass": "pass", "fail": "fail", "waived": "fail", "integrity": "fail", "incomplete": "incomplete",
    }  # fmt: skip
    return known.get(state, "needs_human")


def _worst(tones: Collection[Tone]) -> Tone:
    """The worst of some, and a person's matter where there is none."""
    return next((tone for tone in _WORST if tone in tones), "needs_human")


# ---- lines made from evidence ------------------------------------------------------------------------------------


def _fact(evidence: Evidence, path: str) -> Fact:
    title, leaf = PATHS[path].title, evidence.get(path)
    if leaf is None or leaf.value is None:
        return Fact(title=title, texts=((leaf.missing if leaf else "") or ABSENT,), path=path, known=False)
    if isinstance(leaf.value, tuple):
        return Fact(title=title, texts=leaf.value or ("none",), path=path)
    return Fact(title=title, texts=(_shown(path, leaf),), path=path)


def _shown(path: str, leaf: Leaf) -> str:
    """A value as a reader sees it: shares in per cent, ceilings rounded up, an interval to the outside."""
    value = leaf.value
    if not is_number(value):
        return plain(value)
    if path.endswith(".excess"):
        low, high = leaf.low, leaf.high
        ends = "" if low is None or high is None else f" [{points(low, 'down')}, {points(high, 'up')}]"
        return f"{points(value)} points{ends}"
    direction: Direction = "down" if path in _ROUNDED_DOWN else "up"
    return percent(value, direction) if PATHS[path].kind == "share" else number(value, direction)


def _successes(evidence: Evidence) -> Iterator[Fact]:
    for row in evidence.rows("risk.success"):
        baseline, bound = (row[key].value if key in row else None for key in ("baseline", "bound"))
        if is_number(baseline) and is_number(bound):
            yield Fact(
                title=f"{hundred(baseline, 'down')} of 100 without the record",
                texts=(f"at most {hundred(bound)} of 100 with it",),
                path="risk.success",
            )


def _quasi_identifiers(evidence: Evidence, blanks: tuple[str, ...]) -> Iterator[Line]:
    for row in evidence.rows("columns"):
        if _cell(row, "role") == "quasi_identifier":
            told = {key: _cell(row, key) for key in ("type", "treatment")}
            facts = tuple(
                Fact(title=PATHS[f"columns[].{key}"].title, texts=(text,)) for key, text in told.items() if text
            )
            yield Line(title=name(_cell(row, "name")), facts=facts, blanks=blanks)


def _cell(row: Mapping[str, Leaf], key: str) -> str:
    value: Value = row[key].value if key in row else None
    return "" if value is None else plain(value)


def _letters(evidence: Evidence) -> Iterator[Line]:
    """All 18 letters, whatever the evidence holds: a letter that nobody looked at says so."""
    seen = {_cell(row, "letter"): row for row in evidence.rows("deid_scan.safe_harbor")}
    for letter in alphabet():
        row = seen.get(letter.id, {})
        found = _cell(row, "status")
        status = (
            Status(words=found, tone=_SCANNED[found])
            if found in _SCANNED
            else Status(words="not looked at", tone="incomplete")
        )
        columns, signs = (row[key].value if key in row else () for key in ("columns", "signs"))
        pairs = zip(columns, signs, strict=False) if isinstance(columns, tuple) and isinstance(signs, tuple) else ()
        yield Line(
            code=f"({letter.id})",
            title=letter.title,
            status=status,
            facts=tuple(
                Fact(title=name(column), texts=(name(sign),), path="deid_scan.safe_harbor") for column, sign in pairs
            ),
            notes=("Looked at: names of columns and their values.",)
            if letter.looks_at_values
            else ("Looked at: names of columns.",),
        )


def _registry(report: Report) -> Iterator[Part]:
    """The record's fields, without what a publisher has to state."""
    known = entries(report)
    by_section: dict[str, list[Line]] = {}
    for field in fields():
        section, _, key = field.path.removeprefix("deployment.").rpartition(".")
        section = section.partition(".")[0] or "record"
        value, blank = known.get(field.path), field.person or (field.path not in known and field.required)
        by_section.setdefault(section, []).append(
            Line(
                title=key,
                facts=() if value is None else (Fact(title="", texts=tuple(str(value).split("\n"))),),
                notes=(f"One of: {', '.join(field.one_of)}.",) if field.one_of and blank else (),
                blanks=("To be stated by a person",) if blank else (),
            )
        )
    for section, lines in by_section.items():
        yield Part(title=section, text="", lines=tuple(line for line in lines if line.facts or line.blanks))
