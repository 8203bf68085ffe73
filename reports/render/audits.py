"""The tables of the chapter on audits, in words, for every page: what an audit found, and what a self-test saw.

Rows with a gap are left out: what is missing is for the gate to judge (`reports/gate/audit.py`), and not for a page to fill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from reports.evidence import Evidence, Leaf
from reports.paths import is_number
from reports.render.numbers import number, percent, plain

CAPTION: Final = "What an audit of this program found"
SELFTEST_CAPTION: Final = "What the attacks on one table could have seen"
DIFFERS: Final = "How the audited runs differ from this release:"
NO_AUDIT: Final = (
    "No audit of the program came with this release. To have one here: run `dpsynth audit --synthesizer NAME … --out FILE` "
    "with the schema, epsilon and delta of the release, and give `dpsynth release` the option `--audit FILE`."
)
NO_SELFTEST: Final = (
    "No self-test came with this release. To have one here: `dpsynth audit --selftest … --out FILE`, and "
    "`dpsynth release --audit FILE`."
)
RESULTS: Final[Mapping[str, str]] = MappingProxyType(
    {"pass": "not contradicted", "fail": "contradicted", "incomplete": "could not have told"}
)
_VERDICTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "pass": "The claim is not contradicted. No audit can prove one: a leak on other tables, or one that these attackers "
        "do not look for, is not seen.",
        "fail": "The claim is contradicted: the program does not keep its promise.",
        "incomplete": "Nothing contradicts the claim, and the audit is incomplete: in some game so many fits could not have "
        "told, or a planted leak was not seen.",
    }
)
_ATTACKERS: Final = {"noisy_counts": "reads the noisy counts", "rows": "reads the synthetic rows"}
_LEAK: Final[Mapping[bool | None, str]] = MappingProxyType({True: "seen", False: "not seen", None: "not tried"})
_RATE: Final = ("seen", "runs", "rate")


@dataclass(frozen=True, kw_only=True)
class Found:
    """One attacker in one game: numbers as a reader sees them."""

    game: str
    low: str
    claim: str
    ceiling: str
    fits: str
    confidence: str
    result: str
    small_leak: str


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One thing that was planted: how often it was seen, and where that chance lies."""

    planted: str
    seen: str
    interval: str
    note: str


def said(evidence: Evidence, quote: Callable[[str], str] = str) -> tuple[str, ...]:
    """The audit in sentences, the verdict first; none where there is no audit.

    Args:
        quote: What texts of the evidence pass through.
    """
    verdict, bound = evidence.value("audit.verdict"), evidence.number("audit.epsilon_lower_bound")
    if not found(evidence) or bound is None:
        return ()
    fits, day = evidence.value("audit.fits"), evidence.value("audit.made_on")
    claim = " at delta ".join(number(n) for n in _claim(evidence))
    confidence = evidence.number("audit.confidence")
    sure = "" if confidence is None else f", all bounds together with a confidence of {percent(confidence, 'down')}"
    ran = f"run {number(fits)} times" if is_number(fits) else "run again and again"
    return (
        f"Epsilon is at least {number(bound, 'down')} by what attackers could tell{sure}; claimed is epsilon {claim}. "
        + _VERDICTS.get(str(verdict), "The verdict of the audit is lost."),
        f"Audited was the synthesizer {quote(plain(evidence.value('audit.synthesizer')))}, {ran} on tables that differ in "
        f"one person{f', on {quote(day)}' if isinstance(day, str) else ''}.",
    )


def differs(evidence: Evidence) -> tuple[str, ...]:
    """How the audited runs differ from the release, and what was left out."""
    texts, left_out = evidence.value("audit.differs"), evidence.value("audit.left_out")
    out = texts if isinstance(texts, tuple) else ()
    return (*out, *([f"left out: {', '.join(left_out)}"] if isinstance(left_out, tuple) and left_out else []))


def found(evidence: Evidence) -> list[Found]:
    """What each attacker of the audit showed, beside the claim and beside what he could have shown."""
    claim = " at delta ".join(number(n) for n in _claim(evidence)[:1])
    return [
        Found(
            game=_game(str(row["id"].value)),
            low=number(low, "down"),
            claim=claim,
            ceiling=number(ceiling, "down"),
            fits=number(n),
            confidence=percent(confidence, "down"),
            result=RESULTS.get(str(row["status"].value), "lost"),
            small_leak=_LEAK[_flag(row, "small_leak")],
        )
        for row in evidence.rows("audit.items")
        if {"id", "status"} <= row.keys()
        and (numbers := _numbers(row, "low", "ceiling", "n", "confidence")) is not None
        for low, ceiling, n, confidence in [numbers]
    ]


def selftest(evidence: Evidence, quote: Callable[[str], str] = str) -> str:
    """The sizes of the self-test in a sentence; empty where there is none."""
    sizes = [evidence.number(f"audit.selftest.{name}") for name in ("persons_fit", "persons_control", "rows")]
    known = [number(size) for size in sizes if size is not None]
    if len(known) < len(sizes):
        return ""
    fits, day = evidence.number("audit.selftest.fits"), evidence.value("audit.selftest.made_on")
    return (
        f"Made up from the schema were {known[0]} people whose rows were used, {known[1]} held back, and tables of up to "
        f"{known[2]} synthetic rows"
        + (f"; each game of an audit had {number(fits)} fits" if fits is not None else "")
        + f". These sizes were chosen for the self-test{f' of {quote(day)}' if isinstance(day, str) else ''}, and need not be "
        "those of the release."
    )


def seen(evidence: Evidence) -> list[Seen]:
    """The self-test: false alarms first, then leaks in growing dose, then mechanisms of known loss."""
    out = []
    alarms = evidence.get("audit.selftest.false_alarms")
    if alarms is not None and alarms.number is not None and alarms.n:
        out.append(
            Seen(
                planted="nothing: tables that leak nothing",
                seen=f"{number(round(alarms.number * alarms.n))} of {number(alarms.n)}",
                interval=_ends(alarms),
                note="false alarms",
            )
        )
    for row in evidence.rows("audit.selftest.leaks"):
        if "leak" in row and (counts := _numbers(row, *_RATE)) is not None:
            by_chance = "status" not in row or row["status"].value != "pass"
            note = "not more than false alarms explain" if by_chance else "seen by these attacks"
            out.append(_planted(str(row["leak"].value), counts, row["rate"], note))
    for row in evidence.rows("audit.selftest.mechanisms"):
        if (counts := _numbers(row, "seen", "runs", "rate", "factor")) is not None:
            factor = counts[3]
            planted = (
                "a mechanism that keeps its claim"
                if factor == 1
                else f"a mechanism that loses {number(factor)} times its claim"
            )
            out.append(_planted(planted, counts, row["rate"], "by one game of an audit"))
    return out


def _planted(planted: str, counts: tuple[float, ...], rate: Leaf, note: str) -> Seen:
    return Seen(planted=planted, seen=f"{number(counts[0])} of {number(counts[1])}", interval=_ends(rate), note=note)


def _ends(leaf: Leaf) -> str:
    if leaf.low is None or leaf.high is None:
        return "no interval"
    sure = "" if leaf.confidence is None else f" ({percent(leaf.confidence, 'down')})"
    return f"{percent(leaf.low, 'down')} to {percent(leaf.high, 'up')}{sure}"


def _claim(evidence: Evidence) -> tuple[float, ...]:
    found = [evidence.number(f"audit.claim_{name}") for name in ("epsilon", "delta")]
    return tuple(value for value in found if value is not None)


def _game(id: str) -> str:
    kind, _, attacker = id.rpartition(".")
    who = _ATTACKERS.get(attacker)
    name = kind.removeprefix("worst_case.").replace("_", " ")
    return id if who is None else f"{name}: {who}"


def _numbers(row: Mapping[str, Leaf], *fields: str) -> tuple[float, ...] | None:
    values = [row[field].number if field in row else None for field in fields]
    known = tuple(value for value in values if value is not None)
    return known if len(known) == len(values) else None


def _flag(row: Mapping[str, Leaf], field: str) -> bool | None:
    value = row[field].value if field in row else None
    return value if isinstance(value, bool) else None
