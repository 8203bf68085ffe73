"""The gate: a pure function from (policy, evidence, date) to a verdict. Only pass passes.

States, worst first (compliance.md 5.3, design.md 7):

    integrity     5   the evidence or the ledger is not what it says
    fail          1   a rule is broken
    incomplete    4   evidence is missing, empty, out of date, or too weak to tell
    needs_human   3   nothing is broken, and something is left that only a person may accept
    pass          0   every rule was checked against evidence, and holds

A person's signed decision settles what is needs_human, and nothing that is worse: it is shown as `accepted`, never as a
pass. A broken rule that the policy waives is needs_human until its approver has signed, and then `waived`.

The verdict is the worst state of all rules: of the policy, and of `CHECKS` (checks.py), which are code so that no policy can remove
them. What is not there is never taken for good: a rule without a leaf, a leaf without a value, a value of the wrong
kind, an interval without width, and a policy without rules are all incomplete. A leaf of class P3 never feeds a rule of
the release stage: the policy refuses such a path when it is read, and the class is looked at again here.

    verdict.py       the states; RuleResult, Decided, Verdict
    deciding.py      decide: the whole verdict of one stage
    rules.py         one rule of a policy
    people.py        statements, waivers and signatures
    checks.py        the list of what no policy can remove; base.py: what such a check is
    completeness.py  nothing is blank or out of date
    consistency.py   the figures agree with one another
    guarantee.py     no figure is better than the native measure implies
    knowledge.py     what is known today against the synthesizer used
    ledger.py        the ledger, its limit and its raises
    attacks.py       ceilings and positive controls
    audit.py         audits of the program, and self-tests
    leaves.py        leaves as numbers, texts and intervals
"""

from reports.gate.deciding import decide
from reports.gate.verdict import RuleResult, Verdict

__all__ = ["RuleResult", "Verdict", "decide"]
