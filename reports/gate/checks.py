"""The checks of the release stage that no policy can remove."""

from __future__ import annotations

from typing import Final

from reports.gate.attacks import within_bound
from reports.gate.audit import not_contradicted, tested
from reports.gate.base import Check, flag, no_texts, word
from reports.gate.completeness import complete, dated
from reports.gate.consistency import consistent
from reports.gate.guarantee import OWN, known, unit
from reports.gate.knowledge import CLAIM, NOISE, UNPROTECTED, VIOLATIONS, learned, unless_learned
from reports.gate.ledger import amended, anchored, pinned

CHECKS: Final[tuple[Check, ...]] = (
    complete,
    dated,
    consistent,
    within_bound,
    not_contradicted,
    tested,
    flag(
        "ledger.integrity",
        "ledger.verified",
        good=True,
        state="integrity",
        message="The ledger did not verify.",
        fine="The ledger's chain of entries verified when this evidence was written.",
        reason="Without its ledger nobody can say how much of the budget is spent.",
    ),
    flag(
        "disclosure.edition",
        "disclosure.edition_ok",
        good=True,
        state="integrity",
        message="The evidence itself says that it cannot be shared.",
        fine="The shareable edition holds only the classes P0 to P2.",
        reason="A report is a release too: one exact number about real rows would void the guarantee.",
    ),
    pinned,
    anchored,
    amended,
    unit,
    word(
        "domain.declared",
        "domain.basis",
        good="stated",
        message="Some columns are declared without saying where their values and bounds come from.",
        fine="Each declared domain says where it comes from.",
        reason="A bound or a category that was read off the data is outside the guarantee.",
    ),
    word(
        "domain.source",
        "domain.from_data",
        good="none",
        message="Some domains were read off the data, which the guarantee does not cover.",
        fine="No domain was read off the data.",
        reason="A bound or a category that was read off the data is outside the guarantee.",
    ),
    unless_learned(
        UNPROTECTED,
        no_texts(
            "guarantee.covered",
            UNPROTECTED,
            message="Something that depends on the rows is published outside the guarantee.",
            fine="Nothing that depends on the rows is published outside the guarantee.",
            reason="The guarantee says nothing about quantities that it does not cover.",
        ),
    ),
    unless_learned(
        NOISE,
        flag(
            "implementation.exact_noise",
            NOISE,
            good=False,
            state="needs_human",
            message="The noise is made in floating-point arithmetic, for which the proof does not hold exactly.",
            fine="The noise is made in exact arithmetic.",
            reason="Floating-point noise can give away more than the proof allows (Mironov 2012).",
        ),
    ),
    known,
    learned,
    unless_learned(
        CLAIM,
        word(
            "guarantee.claimed",
            CLAIM,
            good=OWN,
            message="The loss is what another tool claims; nobody here has proved it.",
            fine="The loss is computed from our own mechanisms.",
            reason="A claim is worth as much as the program that makes it.",
        ),
    ),
    unless_learned(
        VIOLATIONS,
        no_texts(
            "implementation.sound",
            VIOLATIONS,
            message="The program used has documented violations of its promise.",
            fine="No violation of its promise is known for the synthesizer used.",
            reason="A guarantee is worth as much as the program that is to keep it.",
        ),
    ),
    word(
        "ledger.all_dp",
        "ledger.imports_not_dp",
        good=0,
        message="An earlier release about the same people had no differential privacy, and no number covers it.",
        fine="No earlier release without differential privacy is recorded for these people.",
        reason="What was released before adds to what can be learned now.",
    ),
    word(
        "ledger.all_proven",
        "ledger.claimed",
        good=0,
        message="Another release about the same people is charged by what another tool claims, so that what they lose in all is a claim too.",
        fine="No other release about these people is charged by another tool's claim.",
        reason="A sum is worth no more than what it adds up.",
    ),
    word(
        "ledger.all_exact",
        "ledger.floating_point",
        good=0,
        message="Another release about the same people had floating-point noise, for which the proof of the sum does not hold exactly.",
        fine="No other release about these people had floating-point noise.",
        reason="A sum is worth no more than what it adds up.",
    ),
    word(
        "release.gated",
        "release.published",
        good="gate",
        message="This release was made without a gate; its manifest says that it must not be published.",
        fine="The release was made with a gate.",
        reason="Leaving out the gate is a decision that someone has to answer for.",
    ),
)
"""Checks of the release stage that are code: each gives what always blocks, or always needs a person."""
