"""The report's fixed words: what each verdict means, and what is asked, and not tested, under each criterion.

Kept apart from the templates so that every page says the same. No sentence here claims more than was shown: a verdict
speaks about a policy, an attack that found nothing proves nothing, and the status of the data in law is not decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from reports.attestation import Decision
from reports.gate import Verdict
from reports.gate.verdict import RuleState, State
from reports.render.numbers import Direction


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """A part of the report that can be pointed to: its anchor, its title, and its number unless it is on the cover."""

    id: str
    title: str
    number: str = ""


CHAPTERS: Final = (
    Chapter(id="verdict", title="Verdict"),
    Chapter(id="review", title="Internal review verdict"),
    Chapter(id="worlds", title="Two worlds"),
    Chapter(id="glance", title="At a glance"),
    Chapter(id="not-decided", title="What this report does not decide"),
    Chapter(id="sign", title="Signatures"),
    Chapter(id="plain", title="In plain words", number="1"),
    Chapter(id="release", title="What was released", number="2"),
    Chapter(id="data", title="Source and unit of privacy", number="3"),
    Chapter(id="guarantee", title="The guarantee", number="4"),
    Chapter(id="ledger", title="The budget", number="5"),
    Chapter(id="criteria", title="Risk by criterion", number="6"),
    Chapter(id="audit", title="Audit of the implementation", number="7"),
    Chapter(id="utility", title="Utility and fairness", number="8"),
    Chapter(id="limits", title="Residual risk and limits", number="9"),
    Chapter(id="gate", title="The gate", number="10"),
    Chapter(id="decisions", title="Human decisions", number="11"),
    Chapter(id="method", title="Method"),
    Chapter(id="controls", title="Controls"),
)
"""All parts in their order, the cover first; the annexes that a policy names stand before the last two."""


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """A verdict in words: its name, what it says about the {policy}, and what a reader should do."""

    title: str
    says: str
    do: str


MEANINGS: Final[Mapping[State, Meaning]] = MappingProxyType(
    {
        "pass": Meaning(
            title="Pass",
            says="This release meets the policy {policy}.",
            do="Every rule was checked against evidence, and holds. Whether to publish is a decision for a person: "
            "sign below, or do not.",
        ),
        "needs_human": Meaning(
            title="Needs a person",
            says="Something is left that only a person may accept under the policy {policy}; no rule is broken but those that it "
            "waives.",
            do="Publish only after someone who may decide has accepted each point below in writing.",
        ),
        "incomplete": Meaning(
            title="Incomplete",
            says="Evidence that the policy {policy} asks for is missing, out of date, or too weak to tell.",
            do="Nothing can be concluded. Do not publish this release under this policy until the points below are "
            "settled.",
        ),
        "fail": Meaning(
            title="Fail",
            says="This release does not meet the policy {policy}.",
            do="Do not publish it under this policy. What it spent from the budget stays spent.",
        ),
        "integrity": Meaning(
            title="Integrity failure",
            says="The ledger or the evidence is not what it says it is, so the policy {policy} cannot be applied.",
            do="Rely on no number of this page, and publish nothing, until this is explained.",
        ),
    }
)

_SIGNED: Final = Meaning(
    title="Pass",
    says="This release meets the policy {policy}, together with what people signed.",
    do="The points below were let through by signature, not by evidence; every other rule was checked against evidence, "
    "and holds. Whether to publish is a decision for a person.",
)


def meaning(verdict: Verdict) -> Meaning:
    """What a verdict of the release gate says; a pass that rests on signatures says so."""
    if verdict.state == "pass" and verdict.settled_by_people:
        return _SIGNED
    return MEANINGS[verdict.state]


REVIEW_MEANINGS: Final[Mapping[State, str]] = MappingProxyType(
    {
        "pass": "The attacks on real rows stayed within the policy’s review rules.",
        "needs_human": "A person has to look at the attacks on real rows.",
        "incomplete": "The attacks on real rows were not made, or cannot tell.",
        "fail": "An attack on real rows went beyond what the policy’s review rules allow.",
        "integrity": "The internal evidence is not what it says it is.",
    }
)

STATE_WORDS: Final[Mapping[RuleState, str]] = MappingProxyType(
    {
        "pass": "pass",
        "fail": "fail",
        "incomplete": "incomplete",
        "needs_human": "needs a person",
        "integrity": "integrity",
        "not_applicable": "not failed",
        "accepted": "signed",
        "waived": "waived",
    }
)

DECISION_WORDS: Final[Mapping[Decision, str]] = MappingProxyType({"approve": "approved", "reject": "rejected"})

CLASS_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "P0": "Declared settings and public knowledge. Nothing in it comes from the rows.",
        "P1": "Computed from differentially private output: synthetic rows, noisy tables, formulas of the cost. Costs "
        "nothing more.",
        "P2": "A differentially private query made for this report and charged to the ledger.",
        "P3": "Computed from real rows without noise. Internal for ever, and treated like the source data.",
        "P4": "About one record. Never written anywhere.",
    }
)


REVIEW_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "measure": "What is measured",
        "knows": "What the attacker knows",
        "attack": "On people whose rows were used",
        "control": "On people whose rows were never used",
        "ceiling": "Most that the guarantee allows on people whose rows were used",
        "no_ceiling": "No ceiling, because",
        "baseline": "The same attacker without the release",
        "excess": "Difference that is judged",
        "most": "Most that the guarantee allows the difference to be",
        "least": "Least that it allows",
        "p_value": "p-value, corrected for the number of attacks",
        "positive_control": "Positive control: a deliberately leaky copy",
        "detected": "Leaky copy caught",
        "n": "People judged",
        "trials": "Trials",
        "status": "Status",
        "note": "Note",
        "needs": "What would be needed",
        "tv1": "Single columns, mean distance",
        "tv2": "Pairs of columns, mean distance",
    }
)
"""Names of internal figures, in the order in which a reader wants them; others follow under their own names."""
REVIEW_ROUNDED: Final[Mapping[str, Direction]] = MappingProxyType({"ceiling": "up", "most": "up", "least": "down"})
"""What is allowed is never printed better than it was proven."""


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One question of a reviewer, and where its answers stand in the evidence.

    Args:
        id: Its anchor on the page.
        title, question: In plain words.
        charged: The attack whose noisy counts may be shown to anyone, if there is one.
        reviews: The attacks on real rows that bear on it, for the internal edition.
        note: Why there is no shareable measurement, when there is none; else what to keep in mind.
        untested: What was not tried.
    """

    id: str
    title: str
    question: str
    charged: str
    reviews: tuple[str, ...]
    note: str
    untested: tuple[str, ...]


CRITERIA: Final = (
    Criterion(
        id="singling-out",
        title="Singling out",
        question="Can someone write down, from the synthetic rows, a description that fits exactly one person of the "
        "source?",
        charged="",
        reviews=("singling_out",),
        note="Whether a description fits exactly one person depends on everybody’s rows, so this attack has no noisy "
        "count that could be shown here. It is run on real rows and judged in the internal report. The ceiling "
        "above holds for it as for every attack.",
        untested=(
            "Descriptions that use facts which are not columns of this table.",
            "Attackers who can have the generator run again.",
        ),
    ),
    Criterion(
        id="linkability",
        title="Linkability",
        question="Can someone who knows a few facts about a person find what this table adds to them?",
        charged="linkage",
        reviews=("linkage", "record_linkage"),
        note="",
        untested=(
            "Linking through facts that are not columns of this table.",
            "Linking several releases about the same people; their common budget bounds all of them together.",
        ),
    ),
    Criterion(
        id="inference",
        title="Inference",
        question="Can someone infer a sensitive value of a person better because that person’s rows were used?",
        charged="attribute_inference",
        reviews=("attribute_inference", "reconstruction"),
        note="What can be inferred about a person from the others alone is not counted here: it would be learned if "
        "that person had taken part in nothing.",
        untested=(
            "Attackers who know more about a person than the other columns of this table.",
            "Stronger learners than the ones tried.",
        ),
    ),
    Criterion(
        id="membership",
        title="Membership",
        question="Can someone who knows all about a person tell whether that person’s rows were used?",
        charged="membership",
        reviews=("membership",),
        note="",
        untested=(
            "Attackers who can have the generator run again, or who planted rows before it ran.",
            "Attackers who know which tables the generator measured, and with how much noise.",
        ),
    ),
    Criterion(
        id="copies",
        title="Copies",
        question="Do real rows come back as synthetic ones more often than chance would have it?",
        charged="exact_match",
        reviews=("exact_match", "nearest_record"),
        note="A synthetic row can equal a real one by chance, and is never removed for it: a removal would itself say "
        "something about the real row. That no row is equal would not show protection either.",
        untested=("Copies that were changed in a way which the distance between rows does not see.",),
    ),
    Criterion(
        id="outliers",
        title="Outliers and small groups",
        question="Are unusual people, or people of small groups, easier to find than others?",
        charged="",
        reviews=(),
        note="No attack of this version aims at unusual people or small groups alone. The proven ceiling is the same for "
        "each of them as for everybody else: it does not average over people.",
        untested=("Attacks that aim at the most unusual people.", "Attacks on each small group by itself."),
    ),
)

NOT_DECIDED: Final = (
    "What these data are in law, for you or for any recipient. That depends on who holds them and with what means, and "
    "is for the controller to assess.",
    "Whether the thresholds of the policy are right for this use. No law sets them; they are this organisation’s choice, "
    "with a reason beside each.",
    "Whether the purpose, the legal basis and the recipients are right.",
    "Whether the data are good enough for your question. See Utility and Limits.",
)

TRIGGERS: Final = (
    "a new kind of attack is published",
    "new data that could be joined to these become available",
    "the lifetime limit of the ledger is raised",
    "the source data or the purpose change",
)
