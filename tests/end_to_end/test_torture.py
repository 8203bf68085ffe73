"""A hostile table from draft to release: every column comes out in its declared type, and no identifier comes out at all.

The table has 63 columns: identities in many scripts, dates in three spellings, sentinels, infinities, a name that is a
keyword, another that ends in a blank, text that looks like a formula. It is no part of the repository; where it is not
there, the test is skipped.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dpsynth import Schema
from dpsynth.cli.main import run
from dpsynth.reading import read
from dpsynth.schema.to_toml import toml_value

ROOT = Path(__file__).parents[2]
TABLE = ROOT.parent / "shared" / "data" / "torture_pii" / "torture.parquet"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TABLE.is_file(), reason="needs ../shared/data/torture_pii/torture.parquet"),
]

IDENTIFIERS = ("Full Name", "e-mail", "SSN", "phone", "home address", "iban", "card number", "mrn", "ip_addr")
SHORTEST = 6  # characters of an identifier that is looked for
SHORTEST_NUMBER = 16  # digits of one that is all digits: millions of noisy ones hold one of twelve once in 1,000 runs

Fact = dict[str, object]


def number(minimum: float, maximum: float, **more: object) -> Fact:
    return {"type": "number", "minimum": minimum, "maximum": maximum, "bins": 16, **more}


def integer(minimum: int, maximum: int, **more: object) -> Fact:
    return {"type": "integer", "minimum": minimum, "maximum": maximum, **more}


def category(*values: str, **more: object) -> Fact:
    return {"type": "category", "values": list(values), **more}


STATES = [
    "AK",
    "AL",
    "AR",
    "AZ",
    "CA",
    "CO",
    "CT",
    "DC",
    "DE",
    "FL",
    "GA",
    "HI",
    "IA",
    "ID",
    "IL",
    "IN",
    "KS",
    "KY",
    "LA",
    "MA",
    "MD",
    "ME",
    "MI",
    "MN",
    "MO",
    "MS",
    "MT",
    "NC",
    "ND",
    "NE",
    "NH",
    "NJ",
    "NM",
    "NV",
    "NY",
    "OH",
    "OK",
    "OR",
    "PA",
    "RI",
    "SC",
    "SD",
    "TN",
    "TX",
    "UT",
    "VA",
    "VT",
    "WA",
    "WI",
    "WV",
    "WY",
]
PURPOSES = [
    "car",
    "credit_card",
    "debt_consolidation",
    "home_improvement",
    "house",
    "major_purchase",
    "medical",
    "moving",
    "other",
    "renewable_energy",
    "small_business",
    "vacation",
    "wedding",
]
FACTS: dict[str, Fact] = {
    "ZIP": category(*"0123456789", prefix=1),  # what the Postal Service calls the national area
    "epoch_ms": integer(1_500_000_000_000, 1_800_000_000_000, bins=20),
    "state": category(*STATES),
    "homeownership": category("MORTGAGE", "OWN", "RENT"),
    "annual_income": number(0, 300_000, decimals=2),
    "verified_income": category("Not Verified", "Source Verified", "Verified"),
    "debt_to_income": number(0, 100, decimals=2),
    "annual_income_joint": number(0, 500_000, decimals=2),
    "months_since_last_delinq": integer(0, 240),
    "earliest_credit_line": integer(1950, 2020, bins=14),
    "total_credit_utilized": integer(0, 500_000, bins=16),
    "num_historical_failed_to_pay": integer(0, 20),
    "account_never_delinq_percent": number(0, 100),
    "public_record_bankrupt": integer(0, 5),
    "loan_purpose": category(*PURPOSES),
    "application_type": category("individual", "joint"),
    "loan_amount": integer(0, 40_000, bins=16),
    "term": integer(36, 60, edges=[36, 37, 60]),
    "interest_rate": number(5, 31, decimals=2),
    "grade": {"type": "ordinal", "values": list("ABCDEFG")},
    "sub_grade": {"type": "ordinal", "values": [f"{letter}{n}" for letter in "ABCDEFG" for n in range(1, 6)]},
    "issue_month": category("Jan-2018", "Feb-2018", "Mar-2018"),
    "loan_status": category(
        "Charged Off", "Current", "Fully Paid", "In Grace Period", "Late (16-30 days)", "Late (31-120 days)"
    ),
    "balance": number(0, 40_000, decimals=2),
    "paid_late_fees": number(0, 100, decimals=2),
    "icd_code": category(*"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", prefix=1),
    "amount_str": number(0, 50_000),
    "pct_str": number(0, 40),
    "zero_inflated": {"type": "number", "edges": [0, 0.01, 10, 100, 1000, 1_000_000], "decimals": 2},
    "heavy_tail": {"type": "number", "edges": [0, 1, 10, 100, 1000, 10_000, 1_000_000]},
    "with_inf": number(-5, 5),
    "sentinel_-999": {"type": "integer", "edges": [-999, -998, 0, 50, 100, 150, 200]},
    "tiny": number(-1e-8, 1e-8),
    "constant": category("A"),
    "all_null": category("anything"),
    "near_constant": category("common", "rare"),
    "nullable_int": integer(0, 10),
    "unicode_cat": category("=1+1", "NULL", "None", "nan", "naïve", 'quote"d', "日本", "العربية", unknown="other"),
    "select": integer(0, 2),
    "Select ": number(-5, 5),
    "größe(cm)": number(100, 250, decimals=1),
}
"""What a codebook would say: bounds, values. A column that no fact is given for stays as drafted."""

RIGHT = {
    "identifier": [
        "person_id", "Full Name", "e-mail", "SSN", "phone", "home address", "ip_addr", "iban", "card number", "mrn",
        "big_int",  # beyond what a float64 keeps apart: a code
        "gps",  # two numbers in one text, and where somebody is
    ],
    "text": ["free_text_note", "user_agent"],
    "date": ["dob", "event_date_str"],
    "datetime": ["event_time", "event_utc"],
    "integer": [
        "epoch_ms", "months_since_last_delinq", "earliest_credit_line", "total_credit_utilized",
        "num_historical_failed_to_pay", "public_record_bankrupt", "loan_amount", "term", "sentinel_-999", "nullable_int",
        "select",
    ],
    "number": [
        "annual_income", "debt_to_income", "annual_income_joint", "account_never_delinq_percent", "interest_rate",
        "balance", "paid_late_fees", "amount_str", "pct_str", "zero_inflated", "heavy_tail", "with_inf", "tiny",
        "Select ", "größe(cm)",
    ],
    "ordinal": ["grade", "sub_grade"],
    "boolean": ["bool", "bool_yn"],
    "category": [
        "ZIP", "emp_title", "state", "homeownership", "verified_income", "loan_purpose", "application_type", "issue_month",
        "loan_status", "icd_code", "constant", "all_null", "near_constant", "unicode_cat", "mixed_type",
    ],
}  # fmt: skip
"""What each of the 63 columns is. None is dropped that is neither an identifier nor free text."""
FILLED = {"SSN": "ssn", "iban": "iban", "card number": "card", "ip_addr": "ip"}
"""Identifiers that get fakes, which by construction are nobody's; a name or a record number could be drawn that exists."""

RULES = ("balance <= 40000", "annual_income_joint is missing or application_type == 'joint'")


def edited(draft: str) -> str:
    """The draft after one pass: blanks filled in with facts, fakes asked for, the status line removed, two rules added."""
    head, *blocks = draft.split("[[column]]")
    head = re.sub(r"^status .*\n", "", head, flags=re.MULTILINE)
    head = head.replace('column = "person_id" }', 'column = "person_id", max_rows = 3 }')
    out = [head + 'basis = "codebook of the torture table"\n\n']
    for block in blocks:
        lines = [line for line in block.strip().splitlines() if not line.startswith("#")]
        entry = {key.strip(): value.split("#")[0].strip() for key, value in (line.split("=", 1) for line in lines)}
        fact = FACTS.get(json.loads(entry["name"]), {})
        if entry["name"].strip('"') in FILLED:
            assert f'# format = "{FILLED[json.loads(entry["name"])]}"' in block
            entry["format"] = toml_value(FILLED[json.loads(entry["name"])])
        if fact:
            entry = {key: value for key, value in entry.items() if value != '"discover"'}
        entry |= {key: toml_value(value) for key, value in fact.items()}
        out.append("\n".join(["[[column]]", *(f"{key} = {value}" for key, value in entry.items())]) + "\n\n")
    return "".join(out) + "".join(f'[[constraint]]\nrule = "{rule}"\n\n' for rule in RULES)


def command(*words: object) -> tuple[str, str]:
    """What the command line writes to stdout and to stderr."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr):
        code = run([str(word) for word in words])
    assert code == 0, stderr.getvalue()
    return stdout.getvalue(), stderr.getvalue()


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with all that was written, and all that was said."""
    folder = tmp_path_factory.mktemp("torture")
    schema, ledger, out = folder / "torture.toml", folder / "torture.ledger", folder / "out"
    drafted = command("schema", "draft", TABLE, "--unit", "person_id")
    schema.write_text(edited(drafted[0]), encoding="utf-8")
    made = command(
        "ledger", "create", ledger, "--population", "torture", "--epsilon", 1, "--delta", "1e-6", "--unit", "person"
    )
    released = subprocess.run(  # in a process of its own, so that whatever it says is heard
        [
            sys.executable, "-m", "dpsynth.cli", "release", TABLE, "--schema", schema, "--ledger", ledger,
            "--epsilon", "1", "--delta", "1e-6", "--out", out, "--no-gate",
        ],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert released.returncode == 0, released.stderr
    reported = command("report", out, "--policy", "internal-test", "--out", folder / "report.html")
    return folder, "\n".join([*drafted, *made, released.stdout, released.stderr, *reported])


# ---- types -----------------------------------------------------------------------------------------------------------

# The release is a process of its own, with fresh noise. Over 40 of them no figure that is judged below came nearer to its
# limit than six standard deviations: ZIP 0.07 +- 0.02, yes 0.00 +- 0.02, missing 0.00 +- 0.02, amount +7 % +- 6 %, percent
# +1 % +- 3 %, dates missing 0.01 +- 0.02, zeros 0.00 +- 0.02, logs of the quantiles -0.02 +- 0.05 and -0.01 +- 0.13.

STORED = {
    "integer": "int64", "number": "double", "boolean": "bool", "category": "string", "ordinal": "string",
    "date": "date32[day]", "datetime": "timestamp[ms]",
}  # fmt: skip


def test_every_released_column_has_its_declared_type_and_stays_in_its_domain(released: tuple[Path, str]) -> None:
    folder, _ = released
    assert Schema.load(folder / "torture.toml").is_open, "the dates"
    schema = Schema.load(folder / "out" / "release" / "schema.toml")
    file = folder / "out" / "release" / "synthetic.parquet"
    table, numbers = pq.read_table(file), read(file, schema.written()).records.columns
    right = {name: kind for kind, names in RIGHT.items() for name in names}
    assert right == {column.name: column.type for column in schema.columns}
    dropped = {*RIGHT["identifier"], *RIGHT["text"]} - FILLED.keys()
    assert table.column_names == [column.name for column in schema.columns if column.name not in dropped]
    assert {str(table.column(name).type) for name in FILLED} == {"large_string"}
    assert {column.type for column in schema.modelled} == STORED.keys()
    assert len(table) > 1000
    for column in schema.modelled:
        values = table.column(column.name)
        assert str(values.type) == STORED[column.type], column.name
        there = values.to_pandas().dropna().to_numpy()
        assert column.missing or len(there) == len(table), column.name
        if column.is_numeric:
            edges = column.binning.edges
            if column.is_time:
                there = np.asarray(numbers[column.name])[~np.isnan(numbers[column.name])]
            assert np.isfinite(there.astype(float)).all(), column.name
            assert len(there) == 0 or (edges[0] <= there.min() and there.max() <= edges[-1]), column.name
        elif column.type != "boolean":
            assert set(there) <= set(column.labels), column.name


def test_the_draft_says_the_right_type_of_every_column(released: tuple[Path, str]) -> None:
    """The person fills in facts, and corrects none of the 63 guesses."""
    drafted = Schema.parse(command("schema", "draft", TABLE, "--unit", "person_id")[0])
    assert {column.name: column.type for column in drafted.columns} == {
        name: kind for kind, names in RIGHT.items() for name in names
    }
    shown = {name: drafted.column(name).decimals for name in ("interest_rate", "größe(cm)", "tiny", "balance")}
    assert shown == {"interest_rate": 2, "größe(cm)": 1, "tiny": None, "balance": 2}


def test_codes_keep_their_leading_zeros_and_spellings_of_yes_are_one(released: tuple[Path, str]) -> None:
    frame = pd.read_parquet(released[0] / "out" / "release" / "synthetic.parquet")
    true = pd.read_parquet(TABLE, columns=["ZIP", "bool_yn"])
    for name in ("ZIP", "icd_code"):
        assert set(frame[name].dropna().str.len()) == {1}
    shares = [f["ZIP"].str[0].value_counts(normalize=True) for f in (true, frame)]
    assert abs(shares[1].sub(shares[0], fill_value=0)).sum() / 2 < 0.35
    assert "0" in set(frame["ZIP"])
    evidence = (released[0] / "out" / "release" / "evidence.json").read_text(encoding="utf-8")
    assert evidence.count("modelled by its first character") == 2
    answers = true["bool_yn"].str.strip().str[:1].str.upper()
    assert frame["bool_yn"].mean() == pytest.approx((answers[answers != ""] == "Y").mean(), abs=0.12)
    assert frame["bool_yn"].isna().mean() == pytest.approx((answers == "").mean(), abs=0.12)


def test_numbers_with_signs_and_dates_in_three_spellings_are_read(released: tuple[Path, str]) -> None:
    """The draft says how they are written; what comes back is typed, and near the truth.

    A sign or a spelling that is not read makes a mean a thousand times smaller, or a third of the dates missing.
    """
    schema = Schema.load(released[0] / "out" / "release" / "schema.toml")
    frame = pd.read_parquet(released[0] / "out" / "release" / "synthetic.parquet")
    assert (schema.column("amount_str").format, schema.column("pct_str").format) == ("$1,234.00", "1234.00%")
    assert sorted(schema.column("event_date_str").formats or ()) == ["%Y-%m-%d", "%b %d, %Y", "%d/%m/%Y"]
    true = pd.read_parquet(TABLE, columns=["loan_amount", "interest_rate"])
    assert frame["amount_str"].mean() == pytest.approx(true["loan_amount"].mean(), rel=0.6)
    assert frame["pct_str"].mean() == pytest.approx(true["interest_rate"].mean(), rel=0.3)
    assert frame["event_date_str"].isna().mean() < 0.25


def test_zeros_and_a_heavy_tail_are_kept(released: tuple[Path, str]) -> None:
    """Drawn evenly between its bounds, the tail would have quantiles a thousand times larger."""
    frame = pd.read_parquet(released[0] / "out" / "release" / "synthetic.parquet")
    true = pd.read_parquet(TABLE, columns=["zero_inflated", "heavy_tail"])
    zeros = [(f["zero_inflated"].dropna() == 0).mean() for f in (true, frame)]
    assert zeros[1] == pytest.approx(zeros[0], abs=0.12)
    tails = [f["heavy_tail"].quantile([0.5, 0.9]).to_numpy() for f in (true, frame)]
    assert np.all(np.abs(np.log10(tails[1] / tails[0])) < [0.5, 1]), tails


def test_every_released_row_keeps_the_rules(released: tuple[Path, str]) -> None:
    frame = pd.read_parquet(released[0] / "out" / "release" / "synthetic.parquet")
    assert ((frame.balance <= 40_000) | frame.balance.isna()).all()
    assert (
        frame.annual_income_joint.isna() | (frame.application_type == "joint") | frame.application_type.isna()
    ).all()


# ---- identifiers -----------------------------------------------------------------------------------------------------


class Needles:
    """Texts that must not be found, by their first bytes, so that a whole file is searched in one pass."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.by_start: dict[bytes, list[bytes]] = {}
        for text in texts:
            needle = text.encode()
            self.by_start.setdefault(needle[:SHORTEST], []).append(needle)

    def found_in(self, content: bytes) -> list[bytes]:
        starts = self.by_start
        return [
            needle
            for place in range(len(content) - SHORTEST + 1)
            for needle in starts.get(content[place : place + SHORTEST], ())
            if content.startswith(needle, place)
        ]


def contents(path: Path) -> list[bytes]:
    """A file as it lies there, and what a reader makes of it."""
    raw = path.read_bytes()
    out = [raw]
    if path.suffix == ".parquet":
        out += [pd.read_parquet(path).to_csv(index=False).encode(), str(pq.read_metadata(path).metadata).encode()]
    elif path.suffix == ".json":
        out.append(json.dumps(json.loads(raw), ensure_ascii=False).encode())
    elif path.suffix == ".npz":
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            out += [archive.read(name) for name in archive.namelist()]
    return out


def is_looked_for(text: str) -> bool:
    return len(text) >= (SHORTEST_NUMBER if text.isdigit() else SHORTEST)


@pytest.fixture(scope="module")
def identifiers() -> Needles:
    frame = pd.read_parquet(TABLE, columns=list(IDENTIFIERS))
    found = {str(text) for name in IDENTIFIERS for text in frame[name].dropna().unique()}
    long = {text for text in found if is_looked_for(text)}
    assert len(long) > 20_000
    return Needles(long)


def test_no_identifier_is_in_any_file_or_message(released: tuple[Path, str], identifiers: Needles) -> None:
    folder, said = released
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert {"synthetic.parquet", "model.npz", "evidence.json", "report.html", "torture.ledger"} <= {
        f.name for f in files
    }
    for path in files:
        for content in contents(path):
            assert not identifiers.found_in(content), path.name
    assert said
    assert not identifiers.found_in(said.encode())


@pytest.mark.parametrize("name", IDENTIFIERS)
def test_a_planted_identifier_would_be_found(
    released: tuple[Path, str], identifiers: Needles, name: str, tmp_path: Path
) -> None:
    """In a Parquet file, where compression hides it from a search of raw bytes, and in JSON with its escapes."""
    text = next(str(v) for v in pd.read_parquet(TABLE, columns=[name])[name].dropna() if is_looked_for(str(v)))
    frame = pd.read_parquet(released[0] / "out" / "release" / "synthetic.parquet").head(50)
    frame["state"] = frame["state"].astype(object)
    frame.loc[17, "state"] = text
    frame.to_parquet(tmp_path / "planted.parquet", compression="zstd")
    (tmp_path / "planted.json").write_text(json.dumps({"a": text}))
    for path in tmp_path.iterdir():
        assert text.encode() in {needle for content in contents(path) for needle in identifiers.found_in(content)}
