"""The benchmark tables: which file, which declared domain, and what the protocol asks of each.

The domains are the TOML files beside this module: public facts, the same for every synthesizer. The data are not part of
the repository; every function takes the folder that holds them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dpsynth import Records, Schema, Table
from dpsynth.reading import read_frame

Codes = npt.NDArray[np.int32]

TRAIN_SHARE = 0.8
CHAPTERS = {
    139: "infections", 239: "neoplasms", 279: "endocrine", 289: "blood", 319: "mental", 389: "nervous",
    459: "circulatory", 519: "respiratory", 579: "digestive", 629: "genitourinary", 679: "pregnancy", 709: "skin",
    739: "musculoskeletal", 759: "congenital", 779: "perinatal", 799: "symptoms", 999: "injury",
}  # fmt: skip
"""The last three-digit code of each chapter of ICD-9-CM."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a table comes from and how it is judged.

    Args:
        file: Path of the Parquet file inside the data folder.
        schema: The declared domain: a file beside this module.
        target: A column, and which of its labels the classifier has to find; None where the table has no such column.
        k_marginal: Whether NIST's k-marginal score is part of its protocol.
    """

    file: str
    schema: str
    target: tuple[str, str] | None = None
    k_marginal: bool = False


SOURCES = {
    "adult": Source(file="adult/adult.parquet", schema="adult.toml", target=("income", ">50K")),
    "bank": Source(file="bank_marketing/bank.parquet", schema="bank.toml", target=("y", "true")),
    "diabetes130": Source(
        file="diabetes130/diabetic_data.parquet", schema="diabetes130.toml", target=("readmitted", "<30")
    ),
    "nist_ma2019": Source(file="nist_acs_excerpts/ma2019.parquet", schema="nist_acs.toml", k_marginal=True),
    "nist_tx2019": Source(file="nist_acs_excerpts/tx2019.parquet", schema="nist_acs.toml", k_marginal=True),
    "nist_national2019": Source(file="nist_acs_excerpts/national2019.parquet", schema="nist_acs.toml", k_marginal=True),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """A table as cell codes, parted into rows to learn from and rows to test on.

    Args:
        name: Its key in `SOURCES`.
        schema: The modelled columns.
        train, holdout: Cell codes, shapes (rows, columns): 80 % and 20 % of the rows, chosen by seed 0.
    """

    name: str
    schema: Schema
    train: Codes
    holdout: Codes

    @property
    def sizes(self) -> tuple[int, ...]:
        """Cells of each column, the missing value included."""
        return self.schema.sizes


def declared(name: str) -> Schema:
    """The declared domain of a table; KeyError for a name that is not in `SOURCES`."""
    return Schema.load(Path(__file__).with_name(SOURCES[name].schema))


def raw(name: str, data: Path) -> pd.DataFrame:
    """The rows as the file has them, but for diagnoses, which are given by chapter.

    Raises:
        FileNotFoundError: the folder does not hold it.
    """
    frame = pd.read_parquet(data / SOURCES[name].file)
    if name == "diabetes130":
        frame = frame.assign(**{f"diag_{n}": frame[f"diag_{n}"].map(icd9_chapter) for n in (1, 2, 3)})
    return frame


def load(name: str, data: Path) -> Split:
    """A benchmark table from the folder `data`.

    Raises:
        FileNotFoundError: the folder does not hold it.
        ValueError: a row does not fit the declared domain, so that rows would be lost.
    """
    rows = records(name, data)
    codes = Table.encode(rows).codes
    order = np.random.default_rng(0).permutation(len(codes))
    cut = int(TRAIN_SHARE * len(codes))
    return Split(name=name, schema=rows.schema.released(), train=codes[order[:cut]], holdout=codes[order[cut:]])


def records(name: str, data: Path) -> Records:
    """All rows of a benchmark table, as values.

    Raises:
        FileNotFoundError, ValueError: as `load`.
    """
    schema, frame = declared(name), raw(name, data)
    rows = read_frame(frame, schema).records
    if len(rows) != len(frame):
        raise ValueError(f"{name}: {len(frame) - len(rows)} rows do not fit {SOURCES[name].schema}")
    return rows


def icd9_chapter(code: Any) -> str | None:
    """The chapter of an ICD-9-CM diagnosis, with diabetes (250) apart; None for a missing one.

    Source: the chapters of ICD-9-CM; Strack et al. 2014, table 2, group the same codes and also set diabetes apart.
    """
    if not isinstance(code, str):
        return None
    if code[0] in "EV":
        return "external" if code[0] == "E" else "supplementary"
    number = int(float(code))
    return "diabetes" if number == 250 else next(name for last, name in CHAPTERS.items() if number <= last)
