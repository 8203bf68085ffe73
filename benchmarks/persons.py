"""Synthetic persons on two real tables: rows per person, and how constant columns are within a person.

    python -m benchmarks.persons --data DIR [--epsilon 1]

One fit of `mst` a table and variant, with exact noise and 2 % of the budget for rows per person, as `release` does it; no
ledger is charged. Prints the tables of docs/persons.md. RAND HIE ships with statsmodels; DIR holds `diabetes130/`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

import dpsynth as package
from benchmarks.run import DELTA
from benchmarks.tables import declared, icd9_chapter
from dpsynth import Cap, Curator, Records, Schema, Table
from dpsynth.models.rows import drawn
from dpsynth.persons import SHARE, UnitSizes, deal
from dpsynth.randomness import sampling_generator
from dpsynth.synthesizers.mst import Mst
from dpsynth.throw_away import ThrowAway

IntVector = npt.NDArray[np.int64]

CONSTANT = {"rand_hie": ("site", "female", "educdec"), "diabetes130": ("race", "gender")}
"""Columns declared `per_unit`, from what they mean."""
SHOWN = {
    "rand_hie": (*CONSTANT["rand_hie"], "coins", "physlm"),
    "diabetes130": (*CONSTANT["diabetes130"], "age", "payer_code"),
}


def rand_hie() -> tuple[Schema, pd.DataFrame]:
    import statsmodels.datasets.randhie as source

    schema = Schema.load(Path(package.__file__).with_name("examples") / "rand_hie.toml")
    frame = pd.read_csv(Path(source.__file__).with_name("src") / "randhie.csv", dtype=str, keep_default_na=False)
    return schema, frame[list(schema.file_names)]


def diabetes130(data: Path) -> tuple[Schema, pd.DataFrame]:
    schema = replace(
        declared("diabetes130"), entity="person", unit_column="patient_nbr", max_rows=10, rows_at_most=None
    )
    frame = pd.read_parquet(data / "diabetes130" / "diabetic_data.parquet")
    return schema, frame.assign(**{f"diag_{n}": frame[f"diag_{n}"].map(icd9_chapter) for n in (1, 2, 3)})


def with_persons(schema: Schema, constant: tuple[str, ...]) -> Schema:
    """The same schema with synthetic units and these columns constant in each."""
    columns = tuple(replace(column, per_unit=True) if column.name in constant else column for column in schema.columns)
    return replace(schema, columns=columns, synthetic_units=True)


def shares_of_sizes(person: IntVector, most: int) -> npt.NDArray[np.float64]:
    sizes = np.bincount(person)
    counts = np.bincount(sizes[sizes > 0], minlength=most + 1)[1 : most + 1]
    return counts / counts.sum()


def constancy(records: Records, person: IntVector, name: str) -> float:
    """Share of persons with two rows or more who are in one cell of a column in all of them."""
    cell = Table.encode(records).codes[:, records.schema.index(name)]
    sizes = np.bincount(person)
    low, high = np.full(len(sizes), cell.max()), np.zeros(len(sizes), dtype=cell.dtype)
    np.minimum.at(low, person, cell)
    np.maximum.at(high, person, cell)
    return float((low == high)[sizes > 1].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds diabetes130/")
    parser.add_argument("--epsilon", default="1")
    arguments = parser.parse_args()
    cap = Cap.of(arguments.epsilon, DELTA)
    sizes_lines, constant_lines = [], []
    for name, (schema, frame) in {"rand_hie": rand_hie(), "diabetes130": diabetes130(arguments.data)}.items():
        schema = with_persons(schema, CONSTANT[name])
        purse = ThrowAway(cap.cost, unit=schema.unit)
        curator = Curator.of_frame(frame, schema, purse)
        sizes = UnitSizes.measured(curator, rho=cap.cost.rho * SHARE)
        model = Mst().fit(curator, budget=cap.cost.share(Fraction(1) - SHARE))
        truth = curator.review_sample().fit
        _, records = drawn(model, len(truth.records), rng=sampling_generator())
        dealt = {
            which: deal(Records(made, records.columns), sizes, rng=sampling_generator())
            for which, made in (("declared", schema), ("none", replace(schema, columns=plain(schema))))
        }
        real = shares_of_sizes(truth.person, schema.unit.max_rows)
        for which, found in (("declared", dealt["declared"]), ("none", dealt["none"])):
            made = shares_of_sizes(found.person, schema.unit.max_rows)
            away = float(np.abs(made - real).sum() / 2)
            few = " / ".join(f"{share:.3f}" for share in real[:5])
            few_made = " / ".join(f"{share:.3f}" for share in made[:5])
            columns = ", ".join(CONSTANT[name]) if which == "declared" else "none"
            sizes_lines.append(
                f"| {name} | {columns} | {truth.persons} | {len(found.sizes)} | {sizes.sigma:.0f} | {few} | {few_made} | {away:.4f} |"
            )
        for column in SHOWN[name]:
            cells = [constancy(truth.records, truth.person, column)]
            cells += [constancy(dealt[which].records, dealt[which].person, column) for which in ("declared", "none")]
            mark = "yes" if column in CONSTANT[name] else "no"
            constant_lines.append(
                f"| {name} | {column} | {mark} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |"
            )
    print(
        "| table | `per_unit` | persons | synthetic persons | sigma | persons with 1 / 2 / 3 / 4 / 5 rows | synthetic | TV |"
    )
    print("|---|---|---|---|---|---|---|---|", *sizes_lines, sep="\n")
    print("\n| table | column | declared `per_unit` | real | synthetic | synthetic, none declared |")
    print("|---|---|---|---|---|---|", *constant_lines, sep="\n")


def plain(schema: Schema) -> tuple[package.Column, ...]:
    return tuple(replace(column, per_unit=None) for column in schema.columns)


if __name__ == "__main__":
    main()
