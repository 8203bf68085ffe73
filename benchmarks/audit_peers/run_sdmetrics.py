"""sdmetrics: its single-table privacy metrics; scores of 1 are best, so their distance from 1 is given.

DCRBaselineProtection is left out: it compares with random rows, and takes as long as the others together.
"""

from __future__ import annotations

from sdmetrics.single_table import DCROverfittingProtection, DisclosureProtection, NewRowSynthesis
from serving import Case, serve


def check(case: Case) -> tuple[dict[str, float], None]:
    types = {**dict.fromkeys(case.numbers, "numerical"), **dict.fromkeys(case.categories, "categorical")}
    table = {"columns": {name: {"sdtype": kind} for name, kind in types.items()}}
    metadata = {"tables": {"t": table}}
    overfitting = DCROverfittingProtection.compute_breakdown(
        real_training_data=case.fit,
        synthetic_data=case.synthetic,
        real_validation_data=case.control,
        metadata=metadata,
        table_name="t",
    )
    disclosure = DisclosureProtection.compute(
        real_data=case.fit,
        synthetic_data=case.synthetic,
        known_column_names=case.known,
        sensitive_column_names=case.secret,
        continuous_column_names=[name for name in case.numbers if name in case.known + case.secret],
    )
    few = min(len(case.synthetic), 300)  # it takes 10 ms a row
    new = NewRowSynthesis.compute(
        real_data=case.fit, synthetic_data=case.synthetic, metadata=table, synthetic_sample_size=few
    )
    return {
        "DCROverfittingProtection": overfitting["synthetic_data_percentages"]["closer_to_training"],
        "DisclosureProtection": 1 - float(disclosure),
        "NewRowSynthesis": 1 - float(new),
    }, None


if __name__ == "__main__":
    serve(check)
