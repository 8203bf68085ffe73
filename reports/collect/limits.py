"""What the release does not promise, in sentences."""

from __future__ import annotations

from dpsynth.counting.base import MOST_PERSONS
from reports.collect.run import Run


def limits_of(run: Run) -> tuple[str, ...]:
    """The sentences, in the order of the report."""
    unit = run.schema.unit.entity
    dropped = [column.name for column in run.schema.lost]
    out = [
        "This does not promise that nothing can be learned about groups. What the data show about people like someone "
        "may be concluded about that person even if their record was never used.",
        f"The guarantee is for one {unit}. Facts shared by many are protected less than facts about one.",
        "Small groups carry the most noise: do not use the synthetic table for decisions about rare categories.",
        "What the other program learned of relations between columns was not measured."
        if run.claim is not None
        else "What a network learned of relations between columns was not measured: only single columns were."
        if run.cost.extra
        else "Relations that the model did not measure are reproduced only as far as the measured ones imply them.",
        "A synthetic row can equal a real one by chance; that is neither proof of a leak nor, absent, proof of safety.",
        "Attacks can refute a claim of privacy; they cannot prove one. Those in this report notice when some percent of "
        "the rows are copied, as the tables of what they could have seen say; a few copied rows, or noise that is too "
        "small, takes an audit of the program by many repeated fits (`dpsynth audit`). "
        + (
            "No audit came with this release."
            if run.audited.audit is None
            else "The one in this report ran beforehand, on tables that were made up, and says nothing of others."
        ),
    ]
    if any(extract.amendments for extract in (run.ledger, *run.other_ledgers)):
        out.append(
            "The lifetime limit was raised. The lifetime bound is that of the raised limit, and supposes that the "
            "decision to raise it did not rest on what earlier releases showed."
        )
    if run.other_ledgers:
        out.append(
            f"The release was charged in full to {1 + len(run.other_ledgers)} ledgers, of all populations that its people "
            "come from. The budget shown is that of the one in the worst state, and what is left is the smallest remainder. "
            "What a person may lose in a lifetime is added up, for a person may be in each of them."
        )
    if run.claim is not None:
        out.append(
            f"What the release costs is what {run.implementation.claimed_by} claims for its part. Nobody here has proved "
            "it; `dpsynth audit` can refute it."
        )
    if run.attacks:
        out.append(
            f"Attacks look at {MOST_PERSONS:,} {unit}s of each side at most, chosen by secret coins: of a larger table the "
            "numbers are of that sample."
        )
    if run.looked_at is not None and run.looked_at < run.rows:
        out.append(
            f"Attacks, and comparisons with real rows, look at the first {run.looked_at:,} synthetic rows, drawn as all "
            "others are; more rows say no more than the model in this release."
        )
    if not run.attacks:
        out.append("No attack was run: the release was made without a holdout.")
    if run.schema.synthetic_units:
        constant = [column.name for column in run.schema.modelled if column.per_unit]
        out.append(
            f"Rows of one synthetic {unit} belong together in how many they are"
            + (f", and in being equal in {', '.join(constant)}" if constant else "")
            + f". In all else they are independent: nothing can be learned from them about how a {unit} changes from row "
            "to row, or about columns that are alike in all rows of one without being declared so."
        )
    if dropped:
        out.append(f"Not in the synthetic table: {', '.join(dropped)}.")
    return tuple(out)
