"""What rules that are true by meaning give the fit: TV1, TV2 and TV3 of a synthesizer with them in the schema and without.

    python -m benchmarks.constraints --data DIR [--tables bank diabetes130 nist_ma2019] [--synthesizers mst] [--seeds 5]

Rules come from the meaning of the columns, as the documentation of each table explains them, and not from its rows. "broken"
is the share of synthetic rows that break one of them. Noise is end-to-end exact, and no ledger is charged.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.protocol import marginals, mean_distance
from benchmarks.run import DELTA
from benchmarks.tables import Split, load
from dpsynth import SYNTHESIZERS, Cap, Constraint, Curator, Schema, Table
from dpsynth.throw_away import ThrowAway

TABLES = ("bank", "diabetes130", "nist_ma2019")
DEAD = "discharge_disposition_id in ('11', '19', '20', '21')"
DOSES = ("No", "Down", "Steady", "Up")
GROUP_QUARTERS = "HOUSING_TYPE != '1'"


def same(one: str, other: str) -> list[str]:
    """One is true where the other is."""
    return [f"({one}) and ({other}) or not ({one}) and not ({other})"]


def rules_of(table: str, schema: Schema) -> list[str]:
    """Rules of a table, in the language of constraints."""
    if table == "bank":  # -1 stands for a client who was never called before
        return [*same("pdays == -1", "previous == 0"), "previous > 0 or poutcome == 'unknown'"]
    if table == "diabetes130":  # the dead do not come back, and who takes no drug for diabetes takes none of the 23
        drugs = [f"`{column.name}`" for column in schema.modelled if column.values == DOSES]
        return [
            f"not {DEAD} or readmitted == 'NO'",
            *(f"diabetesMed == true or {drug} == 'No'" for drug in drugs),
            *(f"{drug} not in ('Up', 'Down') or change == 'Ch'" for drug in drugs),
        ]
    ages = {"MSP": 15, "PINCP": 15, "PINCP_DECILE": 15, "EDU": 3, "DREM": 5, "DPHY": 5}
    return [
        *(rule for name, age in ages.items() for rule in same(f"AGEP < {age}", f"{name} is missing")),
        "AGEP >= 16 or INDP is missing",
        "AGEP >= 17 or DVET is missing",
        *same("INDP is missing", "INDP_CAT is missing"),
        *same(GROUP_QUARTERS, "OWN_RENT == '0'"),
        *same(GROUP_QUARTERS, "NOC is missing"),
        *same(GROUP_QUARTERS, "WGTP == 0"),
        f"not {GROUP_QUARTERS} or NPF is missing",
        "NOC < NPF",
    ]


def fitted(split: Split, schema: Schema, synthesizer: str, epsilon: str, *, seed: int) -> Table:
    """Synthetic rows of one fit with exact noise."""
    cap = Cap.of(epsilon, DELTA)
    records = Table(split.schema, split.train).decode(rng=np.random.default_rng(0))
    purse = ThrowAway(cap.cost, unit=schema.unit)
    curator = Curator.of_frame(records.to_arrow().to_pandas(), schema, purse)
    model = SYNTHESIZERS[synthesizer]().fit(curator, budget=cap.cost)
    return model.sample(len(split.train), rng=np.random.default_rng(seed))


def scores(split: Split, ruled: Schema, table: Table, *, seed: int) -> list[float]:
    """TV1, TV2, TV3, and the share of rows that break a rule."""
    found = [
        mean_distance(split.train, table.codes, split.sizes, sets) for sets in marginals(len(split.sizes)).values()
    ]
    kept = ruled.rules.holds(table.decode(rng=np.random.default_rng(seed)).columns)
    return [*found, 1 - float(kept.mean())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the tables, as `tables.py` names them")
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    parser.add_argument("--synthesizers", nargs="+", default=["mst"], choices=SYNTHESIZERS)
    parser.add_argument("--epsilon", default="1")
    parser.add_argument("--seeds", type=int, default=5, help="how many fits; the noise itself has no seed")
    arguments = parser.parse_args()
    print("| table | synthesizer | rules | TV1 | TV2 | TV3 | broken |\n|---|---|---|---|---|---|---|")
    for name in arguments.tables:
        split = load(name, arguments.data)
        rules = rules_of(name, split.schema)
        ruled = replace(split.schema, constraints=tuple(Constraint(rule=rule) for rule in rules))
        for synthesizer in arguments.synthesizers:
            for schema, count in ((split.schema, 0), (ruled, len(rules))):
                with threadpool_limits(1):
                    runs = [
                        scores(
                            split, ruled, fitted(split, schema, synthesizer, arguments.epsilon, seed=seed), seed=seed
                        )
                        for seed in range(arguments.seeds)
                    ]
                mean, spread = np.mean(runs, axis=0), np.std(runs, axis=0, ddof=1) if len(runs) > 1 else np.zeros(4)
                cells = " | ".join(f"{m:.4f} ± {s:.4f}" for m, s in zip(mean[:3], spread[:3], strict=True))
                print(f"| {name} | {synthesizer} | {count} | {cells} | {mean[3]:.1%} |", flush=True)


if __name__ == "__main__":
    main()
