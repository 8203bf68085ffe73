"""Evidence and a policy in which every text that somebody is free to choose is one and the same, for tests of hostile texts."""

from __future__ import annotations

from types import ModuleType

import signers

from reports import Evidence, Leaf, Policy

JUDGED = (
    "created_at",
    "review_on",
    "unit.neighbours",
    "disclosure.leaves",
    "domain.basis",
    "domain.from_data",
    "release.published",
    "ledger.ledger_id",
    "ledger.head",
    "ledger.genesis",
)
"""Texts that code compares: another one changes the verdict, and so the page."""


def policy(text: str) -> Policy:
    """A policy whose every free text is this one, with a waiver for a rule that is broken."""
    spelled = "".join(char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08X}" for char in text)
    quoted = f'"{spelled}"'
    made = signers.HEAD.replace('"3"', quoted).replace('"for the tests"', quoted) + f"catalog = [{quoted}]\n"
    rules = signers.RULES.replace('"a test"', quoted).replace('"another test"', quoted)
    rules += f'\n[[rule]]\nid = "words"\nevidence = "source.table"\nstage = "release"\none_of = [{quoted}]\nreason = {quoted}\n'
    waiver = signers.waiver().replace('"one more month"', quoted)
    return Policy.parse(made + rules + signers.ASKS + waiver)


def evidence(builder: ModuleType, text: str) -> Evidence:
    """Internal evidence in which every free text is this one, and a rule is broken."""
    found = builder.internal({"utility.tv1": Leaf(0.5, "P1", "made up")})
    for path, leaf in list(found.leaves()):
        if isinstance(leaf.value, str) and path not in JUDGED and not path.startswith("deid_scan"):
            found = found.with_leaf(path, Leaf(text, leaf.cls, text, ledger_seq=leaf.ledger_seq))
        elif leaf.value is None and leaf.missing:
            found = found.with_leaf(path, Leaf(None, leaf.cls, text, missing=text))
    assert isinstance(found, Evidence)
    return found
