"""Turns what a run left behind into evidence; no other room of `reports` sees ledgers, models or attack results.

`Run` holds facts that are public or already private (P0 to P2); `collect` makes the tree that may be shared. Results on
real rows come in by `with_review` alone and end up under `review`, which the shareable edition leaves out.

    run.py          Run: what one release left behind
    collecting.py   collect: the evidence, chapter by chapter
    columns.py guarantee.py ledger.py risk.py utility.py attacks.py audit.py identifiers.py limits.py     one chapter each
    review.py       results on real rows
    leaves.py       leaves of class P0; rounding up
"""

from reports.collect.audit import Audited, audited
from reports.collect.collecting import collect
from reports.collect.review import advised, review_evidence, with_review
from reports.collect.run import ChargedAttack, Run

__all__ = ["Audited", "ChargedAttack", "Run", "advised", "audited", "collect", "review_evidence", "with_review"]
