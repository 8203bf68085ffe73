"""The report as one HTML page: no script, no network, nothing outside the file; both editions from one template.

Everything dynamic is escaped by the template engine, after `visible` has taken out what a reader could not see. The
page's policy forbids all content but its own style sheet, which it names by digest.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import pairwise

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports.controls import STATUS_WORDS, evaluate, not_shipped
from reports.evidence import Evidence, Leaf
from reports.gate import RuleResult, Verdict
from reports.paths import ATTACK_TITLES, CHARGED_ATTACKS, PATHS, REVIEW_PATHS, is_number
from reports.render import audits, figures, numbers, words
from reports.render.annexes import CHAPTERS, annexes
from reports.render.describe import asked, observed
from reports.render.text import name, visible
from reports.report import Report


def to_html(report: Report) -> str:
    """The report as an HTML document, the same bytes for the same report."""
    style = (files("reports.render") / "templates" / "report.css").read_text(encoding="utf-8").strip()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = _environment().get_template("report.html.jinja")
    page: str = template.render(
        report=report,
        evidence=report.evidence,
        verdict=report.verdict,
        review=report.review,
        policy=report.policy,
        internal=report.is_internal,
        meaning=words.meaning(report.verdict),
        statements=[(asked, _result(report.verdict, asked.rule_id)) for asked in report.policy.human],
        controls=evaluate(report.evidence, catalogs=report.policy.catalog),
        not_shipped=not_shipped(report.policy.catalog),
        annexes=annexes(report),
        chapters=[part for part in words.CHAPTERS if part.id != "review" or report.is_internal],
        style=Markup(style),
        csp=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        show=_Shown(report.evidence),
        rules=_by_path(report.verdict),
        review_rules=_by_path(report.review) if report.review else {},
        strongest=_strongest(report.evidence),
    )
    return page


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reports.render", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_harmless,
    )
    environment.filters.update(
        name=name,
        plain=numbers.plain,
        percent=numbers.percent,
        points=numbers.points,
        hundred=numbers.hundred,
        number=numbers.number,
        asked=asked,
        observed=observed,
    )
    environment.globals.update(
        ABSENT=numbers.ABSENT,
        ATTACKS=CHARGED_ATTACKS,
        CHAPTERS=CHAPTERS,
        ATTACK_TITLES=ATTACK_TITLES,
        audits=audits,
        CLASS_WORDS=words.CLASS_WORDS,
        CONTROL_WORDS=STATUS_WORDS,
        CRITERIA=words.CRITERIA,
        DECISION_WORDS=words.DECISION_WORDS,
        MEANINGS=words.MEANINGS,
        NOT_DECIDED=words.NOT_DECIDED,
        NUMBERS={part.id: part.number for part in words.CHAPTERS},
        PATHS=PATHS,
        REVIEW_MEANINGS=words.REVIEW_MEANINGS,
        TITLES={path: rule.title for path, rule in (*PATHS.items(), *REVIEW_PATHS.items())},
        STATE_WORDS=words.STATE_WORDS,
        TRIGGERS=words.TRIGGERS,
    )
    return environment


def _harmless(value: object) -> object:
    """What each expression of a template passes through: text that is not markup of ours is made visible."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _by_path(verdict: Verdict) -> dict[str, RuleResult]:
    return {rule.path: rule for rule in verdict.rules if rule.origin == "policy" and rule.path}


def _result(verdict: Verdict, rule_id: str) -> RuleResult:
    return next(rule for rule in verdict.rules if rule.id == rule_id and rule.origin == "policy")


def _strongest(evidence: Evidence) -> str | None:
    """The charged attack whose interval reaches highest, or None when there is none."""
    found = {attack: evidence.get(f"attacks.{attack}.excess") for attack in CHARGED_ATTACKS}
    measured = {attack: leaf.high for attack, leaf in found.items() if leaf is not None and leaf.high is not None}
    return max(measured, key=lambda attack: measured[attack]) if measured else None


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The ledger after one entry: what is charged as a lifetime epsilon, None where it is not told, and the limit."""

    entry: int
    spent: float | None
    limit: float
    day: str = ""


class _Shown:
    """What a template may ask of the evidence: values by path, and figures whose numbers are all there."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    def leaf(self, path: str) -> Leaf | None:
        """The leaf at a path when it has a value."""
        leaf = self._evidence.get(path)
        return leaf if leaf is not None and leaf.value is not None else None

    def missing(self, path: str) -> str:
        """Why there is no value at a path, when the evidence says so."""
        leaf = self._evidence.get(path)
        return leaf.missing if leaf is not None else ""

    def number(self, path: str) -> float | None:
        """The number at a path, or None."""
        value = self._evidence.value(path)
        return None if value is None or isinstance(value, bool | str | tuple) else float(value)

    def rows(self, path: str, *fields: str) -> list[Mapping[str, Leaf]]:
        """The rows of a table in which all these fields have a value; a gap is for the gate to judge, not to draw."""
        rows = self._evidence.rows(path)
        return [row for row in rows if all(field in row and row[field].value is not None for field in fields)]

    def measured(self, path: str, labels: tuple[str, ...], shares: tuple[str, ...]) -> list[Mapping[str, Leaf]]:
        """The rows of a table whose labels are texts and whose shares are numbers."""
        return [
            row
            for row in self.rows(path, *labels, *shares)
            if all(isinstance(row[label].value, str) for label in labels)
            and all(is_number(row[s].value) for s in shares)
        ]

    def texts(self, path: str) -> tuple[str, ...] | None:
        """The texts at a path, or None when the evidence does not say."""
        value = self._evidence.value(path)
        return value if isinstance(value, tuple) else None

    def subject(self) -> str:
        """What the person of the two worlds is called."""
        return "the row" if self._evidence.value("unit.entity") == "row" else "Alex"

    def worlds(self) -> Markup | None:
        bound = self.number("risk.tpr_at_fpr")
        return None if bound is None else figures.worlds(fpr=0.01, bound=bound, subject=self.subject())

    def budget(self) -> Markup | None:
        before, after, cap = (
            self.number(f"ledger.{key}") for key in ("spent_before_epsilon", "spent_epsilon", "cap_epsilon")
        )
        if before is None or after is None or cap is None:
            return None
        return figures.budget(before=before, after=after, cap=cap)

    def moments(self) -> list[Moment]:
        """The ledger entry by entry where the internal evidence tells it, else what its shareable totals say."""
        before, after, last, limit = (
            self.number(f"ledger.{key}") for key in ("spent_before_epsilon", "spent_epsilon", "seq", "cap_epsilon")
        )
        if before is None or after is None or last is None or limit is None:
            return []
        if told := self.measured("review.lifetime", ("time",), ("seq", "limit")):
            return [
                Moment(
                    entry=int(_as_float(row["seq"])),
                    day=str(row["time"].value)[:10],
                    spent=_as_float(row["epsilon"]) if "epsilon" in row and is_number(row["epsilon"].value) else None,
                    limit=_as_float(row["limit"]),
                )
                for row in told
            ]
        raised = self.measured("ledger.amendments", (), ("seq", "from_epsilon", "to_epsilon"))
        return [
            Moment(entry=0, spent=0.0, limit=_as_float(raised[0]["from_epsilon"]) if raised else limit),
            *(
                Moment(entry=int(_as_float(row["seq"])), spent=None, limit=_as_float(row["to_epsilon"]))
                for row in raised
            ),
            Moment(entry=int(last), spent=after, limit=limit),
        ]

    def lifetime(self) -> Markup | None:
        moments = self.moments()
        if not moments:
            return None
        limits = [moments[0], *(new for old, new in pairwise(moments) if new.limit != old.limit)]
        return figures.lifetime(
            [figures.Level(entry=m.entry, epsilon=m.spent, day=m.day) for m in moments if m.spent is not None],
            [figures.Level(entry=m.entry, epsilon=m.limit) for m in limits],
            before=self.number("ledger.spent_before_epsilon") or 0.0,
            after=self.number("ledger.spent_epsilon") or 0.0,
            last=int(self.number("ledger.seq") or 0),
            every=self.tells_every_charge(),
        )

    def tells_every_charge(self) -> bool:
        """Whether the budget over time shows each charge; only the internal edition does."""
        return bool(moments := self.moments()) and all(m.day and m.spent is not None for m in moments)

    def sights(self) -> list[figures.Sight]:
        """What each charged attack could have seen."""
        found = {attack: self.measured(f"attacks.{attack}.power", (), ("share", "seen")) for attack in CHARGED_ATTACKS}
        return [
            figures.Sight(
                label=ATTACK_TITLES[attack], seen={_as_float(row["share"]): _as_float(row["seen"]) for row in rows}
            )
            for attack, rows in found.items()
            if rows
        ]

    def shares_copied(self) -> list[float]:
        """The leaks that were tried, as shares of the people, nobody first."""
        return sorted({share for sight in self.sights() for share in sight.seen})

    def power(self) -> Markup | None:
        sights = self.sights()
        return figures.power(sights) if sights else None

    def bound(self, attack: str) -> float | None:
        """The ceiling of a charged attack; none where the noise left no success without the person's rows above zero.

        Nobody's success is bounded by zero, so a ceiling of zero says that its baseline was lost in the noise.
        """
        bound = self.number(f"attacks.{attack}.bound")
        return bound if bound else None

    def ceiling(self, attack: str) -> Markup | None:
        marks = [
            self._mark(f"attacks.{attack}.{field}", label)
            for field, label in (("fit_rate", "rows were used"), ("control_rate", "rows were never used"))
        ]
        if any(mark is not None and mark.low is None for mark in marks):
            marks.append(self._mark(f"attacks.{attack}.excess", "difference"))
        known = [mark for mark in marks if mark is not None]
        if len(known) < len(marks):
            return None
        return figures.ceiling(f"ceiling-{attack}", known, bound=self.bound(attack))

    def _mark(self, path: str, label: str) -> figures.Mark | None:
        leaf, value = self.leaf(path), self.number(path)
        if leaf is None or value is None:
            return None
        return figures.Mark(label=label, value=value, low=leaf.low, high=leaf.high)

    def utility_columns(self) -> list[tuple[str, float, float | None]]:
        """Name, distance and expected noise of each column, worst first."""
        out = []
        for row in self._evidence.rows("utility.columns"):
            label, value, noise = (row[key].value if key in row else None for key in ("name", "tv", "noise"))
            if isinstance(label, str) and isinstance(value, int | float):
                out.append((label, float(value), float(noise) if isinstance(noise, int | float) else None))
        return sorted(out, key=lambda column: (-column[1], column[0]))

    def utility(self) -> Markup | None:
        columns = self.utility_columns()
        return figures.utility(columns) if columns else None

    def groups(self) -> list[figures.Group]:
        """Groups of people, where the noise weighs most first."""
        shares = ("measured", "synthetic", "noise")
        out = [
            figures.Group(
                label=f"{row['column'].value}: {row['value'].value}",
                **{share: _as_float(row[share]) for share in shares},
                inflation=_as_float(row["inflation"])
                if "inflation" in row and is_number(row["inflation"].value)
                else None,
                drowned="drowned" in row and row["drowned"].value is True,
            )
            for row in self.measured("utility.groups", ("column", "value"), shares)
        ]
        return sorted(out, key=lambda group: (group.measured / group.noise if group.noise else 0.0, group.label))

    def groups_figure(self) -> Markup | None:
        groups = self.groups()
        return figures.groups(groups) if groups else None

    def review_numbers(self, section: str) -> list[tuple[str, Leaf, numbers.Direction]]:
        """All leaves directly under an internal section with titles and how to round, for the internal edition."""
        found = self._evidence.section(f"review.{section}" if section else "review")
        order = list(words.REVIEW_WORDS)
        keys = sorted(found, key=lambda key: (order.index(key) if key in order else len(order), key))
        leaves = [(key, found[key]) for key in keys]
        return [
            (words.REVIEW_WORDS.get(key, key.replace("_", " ")), leaf, words.REVIEW_ROUNDED.get(key, "nearest"))
            for key, leaf in leaves
            if isinstance(leaf, Leaf)
        ]


def _as_float(leaf: Leaf) -> float:
    if not is_number(leaf.value):
        raise AssertionError("only numbers come here")
    return float(leaf.value)
