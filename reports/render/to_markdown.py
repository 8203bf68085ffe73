"""The report in short as markdown, for the summary of a pipeline's job or a ticket."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reports.evidence import Evidence, Leaf
from reports.gate import RuleResult, Verdict
from reports.paths import ATTACK_TITLES, CHARGED_ATTACKS, PATHS, REVIEW_ATTACKS
from reports.render import audits, words
from reports.render.annexes import Line, annexes
from reports.render.describe import asked, observed
from reports.render.numbers import ABSENT, Direction, hundred, number, percent, plain, points
from reports.render.text import NAME, markdown
from reports.report import Report


def to_markdown(report: Report) -> str:
    """The verdict, what stands in its way, the bound, the attacks, the gate and the annexes, the same bytes for a report."""
    evidence, verdict = report.evidence, report.verdict
    meaning = words.meaning(verdict)
    policy = f"{markdown(verdict.policy_name, NAME)}, version {markdown(verdict.policy_version, NAME)}"
    lines = [f"# Verdict: {meaning.title}", ""]
    if report.is_internal:
        lines += [
            "> **Internal edition.** It holds statistics of real people without noise. Treat it like the source data.",
            "",
        ]
    lines += [
        meaning.says.replace("{policy}", policy),
        "",
        f"{meaning.do} Day of the verdict: {verdict.on.isoformat()}.",
        "",
        *_open(verdict),
        *_settled(verdict),
        *_worlds(evidence),
        *_attacks(evidence),
        *_audit(evidence),
        *_budget(evidence),
        "## Gate",
        "",
        *_gate(verdict.rules),
        *_decisions(verdict),
    ]
    if report.review is not None:
        lines += [
            f"## Internal review verdict: {words.MEANINGS[report.review.state].title}",
            "",
            words.REVIEW_MEANINGS[report.review.state],
            "",
            *_open(report.review),
            *_gate(report.review.rules),
        ]
    if report.is_internal:
        lines += _figures(evidence)
    lines += _annexes(report)
    lines += [
        "## What this report does not decide",
        "",
        *(f"- {text}" for text in words.NOT_DECIDED),
        "",
        f"Policy SHA-256 `{verdict.policy_sha256}`, shareable evidence SHA-256 `{verdict.evidence_sha256}`.",
    ]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    out = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*out, *(f"| {' | '.join(row)} |" for row in rows), ""]


def _open(verdict: Verdict) -> list[str]:
    return _listed("## Why not", verdict.open)


def _settled(verdict: Verdict) -> list[str]:
    return _listed("## Let through by signature", verdict.settled_by_people)


def _listed(title: str, rules: Sequence[RuleResult]) -> list[str]:
    if not rules:
        return []
    found = []
    for rule in rules:
        detail = f" Asked: {markdown(asked(rule))}; observed: {markdown(observed(rule))}." if rule.op else ""
        found.append(
            f"- **{words.STATE_WORDS[rule.state]}** {markdown(rule.id, NAME)}: {markdown(rule.message)}{detail}"
        )
    return [title, "", *found, ""]


def _decisions(verdict: Verdict) -> list[str]:
    out = ["## Human decisions and signatures", ""]
    if not verdict.decisions:
        return [*out, "No decision signed with a key is recorded.", ""]
    head = ("Name", "Role", "Statement", "Decision", "Signed", "Until", "Counts", "Key")
    rows = [
        (
            markdown(made.who, NAME),
            markdown(made.role, NAME),
            markdown(made.statement, NAME),
            words.DECISION_WORDS[made.decision],
            made.signed_on.isoformat(),
            made.expires.isoformat(),
            markdown(f"no: {decided.why_not}" if decided.why_not else "yes"),
            f"`{made.key.fingerprint}`",
        )
        for decided in verdict.decisions
        for made in [decided.attestation]
    ]
    return [*out, *_table(head, rows)]


def _worlds(evidence: Evidence) -> list[str]:
    bound = evidence.value("risk.tpr_at_fpr")
    out = ["## The bound", ""]
    if evidence.get("guarantee.claim.epsilon") is not None:
        claimant = _word(evidence, "implementation.claimed_by")
        out += [f"**What follows holds only if the claim of {claimant} is true**, which nobody here has proved.", ""]
    if isinstance(bound, int | float) and not isinstance(bound, bool):
        out += [
            "Whatever anyone does with this release, together with every other release that its ledger can ever allow: "
            f"if they accept 1 false alarm in 100, they detect that one {_word(evidence, 'unit.entity')} was used in at most **{hundred(bound)}** of 100 "
            "tries. Pure guessing would be right in 1 of 100.",
            "",
        ]
    epsilon, delta = evidence.value("guarantee.epsilon"), evidence.value("guarantee.delta")
    if isinstance(epsilon, int | float) and isinstance(delta, int | float):
        out += [
            f"The release satisfies ({number(epsilon, 'up')}, {number(delta, 'up')})-differential privacy per "
            f"{_word(evidence, 'guarantee.unit')}.",
            "",
        ]
    return out


def _attacks(evidence: Evidence) -> list[str]:
    rows = []
    for attack in CHARGED_ATTACKS:
        base = f"attacks.{attack}"
        excess = evidence.get(f"{base}.excess")
        rows.append(
            (
                ATTACK_TITLES[attack],
                _share(evidence.get(f"{base}.bound")) if evidence.value(f"{base}.bound") else ABSENT,
                _share(evidence.get(f"{base}.fit_rate")),
                _share(evidence.get(f"{base}.control_rate")),
                _difference(excess),
            )
        )
    head = ("Attack", "Proven ceiling", "Rows used", "Rows never used", "Difference in points")
    return ["## Ceiling and measured attack", "", *_table(head, rows)]


def _audit(evidence: Evidence) -> list[str]:
    """What an audit of the program found, and what a self-test saw; how to have them where there are none."""
    out = ["## Audit of the program", ""]
    if found := audits.found(evidence):
        out += [line for sentence in audits.said(evidence, markdown) for line in (sentence, "")]
        head = (
            "Game, and the attacker",
            "Epsilon at least",
            "Claimed",
            "Could have shown",
            "Fits",
            "Confidence",
            "Claim",
        )
        rows = [
            (markdown(row.game, NAME), row.low, row.claim, row.ceiling, row.fits, row.confidence, row.result)
            for row in found
        ]
        out += [f"{audits.CAPTION}:", "", *_table(head, rows)]
        if differs := audits.differs(evidence):
            out += [audits.DIFFERS, "", *(f"- {markdown(text)}" for text in differs), ""]
    else:
        out += [audits.NO_AUDIT, ""]
    if seen := audits.seen(evidence):
        lines = [(markdown(row.planted, NAME), row.seen, row.interval, row.note) for row in seen]
        out += [audits.selftest(evidence, markdown), "", f"{audits.SELFTEST_CAPTION}:", ""]
        return [*out, *_table(("Planted", "Seen", "Chance, exact interval", "What it says"), lines)]
    return [*out, audits.NO_SELFTEST, ""]


def _share(leaf: Leaf | None) -> str:
    if leaf is None or leaf.value is None or isinstance(leaf.value, bool | str | tuple):
        return ABSENT
    if leaf.low is None or leaf.high is None:
        return percent(leaf.value, "up")
    return f"{percent(leaf.value)} ({percent(leaf.low, 'down')} to {percent(leaf.high, 'up')})"


def _difference(leaf: Leaf | None) -> str:
    if leaf is None or leaf.value is None or isinstance(leaf.value, bool | str | tuple):
        return markdown(leaf.missing) if leaf is not None and leaf.missing else ABSENT
    if leaf.low is None or leaf.high is None:
        return points(leaf.value)
    return f"{points(leaf.value)} ({points(leaf.low, 'down')} to {points(leaf.high, 'up')})"


def _budget(evidence: Evidence) -> list[str]:
    paths: dict[str, Direction] = {
        "ledger.spent_before_epsilon": "up",
        "ledger.spent_epsilon": "up",
        "ledger.cap_epsilon": "down",
        "ledger.remaining": "down",
    }
    rows = []
    for path, direction in paths.items():
        value = evidence.value(path)
        shown = number(value, direction) if isinstance(value, int | float) else ABSENT
        rows.append((PATHS[path].title, shown))
    made, raised = _word(evidence, "ledger.genesis"), _word(evidence, "ledger.raised")
    said = f"The ledger was made on {made}. Times that its limit was raised: {raised}."
    return ["## Budget over the population's lifetime", "", said, "", *_table(("What", "Epsilon"), rows)]


def _gate(rules: Iterable[RuleResult]) -> list[str]:
    rows = (
        (
            markdown(rule.id, NAME),
            markdown(asked(rule), 200),
            markdown(observed(rule), 200),
            words.STATE_WORDS[rule.state],
        )
        for rule in rules
    )
    return _table(("Rule", "Asked", "Observed", "Result"), rows)


def _figures(evidence: Evidence) -> list[str]:
    """What the attacks on real rows report besides and nobody judges, for the internal edition."""
    rows = [
        (ATTACK_TITLES[attack], markdown(plain(row["name"].value)), *(_measured(row.get(key)) for key in _FIGURE_KEYS))
        for attack in REVIEW_ATTACKS
        for row in evidence.rows(f"review.{attack}.figures")
        if "name" in row
    ]
    head = ("Attack", "Figure", "Rows used", "Rows never used", "Difference, or the figure")
    return (
        ["## Further figures of the attacks on real rows, which decide nothing", "", *_table(head, rows)]
        if rows
        else []
    )


_FIGURE_KEYS = ("attack", "control", "value")


def _measured(leaf: Leaf | None) -> str:
    if leaf is None or leaf.number is None:
        return markdown(leaf.missing) if leaf is not None and leaf.missing else ""
    if leaf.low is None or leaf.high is None:
        return number(leaf.number, digits=3)
    ends = number(leaf.low, "down", 3), number(leaf.high, "up", 3)
    return f"{number(leaf.number, digits=3)} ({' to '.join(ends)})"


def _annexes(report: Report) -> list[str]:
    """The annexes in short tables; what people have to write is named and left open."""
    out: list[str] = []
    for annex in annexes(report):
        out += [f"## Annex {annex.letter}: {annex.title}", "", annex.text, ""]
        out += [f"Text of this annex: version {annex.version}. Source: {annex.source}.", ""]
        for part in annex.parts:
            out += [f"### {part.title}", "", *([part.text, ""] if part.text else [])]
            head = ("Asked", "In this report", "Left for a person", *(("Result",) if part.judged else ()))
            out += _table(head, (_annex_row(line, judged=part.judged) for line in part.lines))
    return out


def _annex_row(line: Line, *, judged: bool) -> tuple[str, ...]:
    facts = [f"{fact.title}: {' '.join(fact.texts)}".removeprefix(": ") for fact in line.facts]
    row = (
        markdown(f"{line.code} {line.title}".strip(), 200),
        markdown("; ".join([*facts, *line.notes])),
        markdown("; ".join(line.blanks)),
    )
    return (*row, line.status.words if line.status else "") if judged else row


def _word(evidence: Evidence, path: str) -> str:
    return markdown(plain(evidence.value(path)), NAME)
