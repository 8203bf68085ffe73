"""Fakes and synthetic persons in a release: in the file, in what `sample` draws, and in nothing that judges."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

HEADER = "who,name,email,mrn,note,age,town,cost,ill"
SYNTHETIC = """
[[column]]
name   = "name"
type   = "identifier"
format = "name"
per_unit = true

[[column]]
name   = "email"
type   = "identifier"
format = "email"
unique = true

[[column]]
name   = "mrn"
type   = "identifier"
format = "MRN#########"
unique = true

[[column]]
name = "note"
type = "text"
"""


@pytest.fixture
def written(case, table_rows):  # type: ignore[no-untyped-def]
    lines = [line.split(",") for line in table_rows(1200)]
    case.write([",".join([w, f"Real {w}", f"{w}@real.test", f"MRN{n}", "secret words", *rest]) for n, (w, *rest) in enumerate(lines)], header=HEADER)  # fmt: skip
    text = case.schema.read_text().replace("max_rows = 3 }", "max_rows = 3, synthetic = true }") + SYNTHETIC
    text = text.replace('name   = "town"\n', 'name   = "town"\nper_unit = true\n')
    case.schema.write_text(text.replace("bins    = 10\n", "bins    = 10\nper_unit = true\n"))
    return case


def check(frame: pd.DataFrame) -> None:
    assert list(frame.columns) == ["who", "age", "town", "cost", "ill", "name", "email", "mrn"]
    persons = frame.groupby("who")
    assert persons.size().max() <= 3
    assert (persons[["age", "town", "name"]].nunique() == 1).all().all()
    assert frame["email"].is_unique
    assert frame["mrn"].is_unique
    assert not frame["email"].str.contains("@real.test").any()
    assert not frame["name"].str.contains("Real").any()
    first = frame["name"].str.split().str[0].str.lower()
    assert all(mail.startswith(name) for mail, name in zip(frame["email"], first, strict=True))


def test_a_release_with_fakes_and_persons(written):
    verdict = written.release("--holdout", "0.4", "--rows", 900, "--synthesizer", "mst")
    assert verdict in (0, 1, 3, 4), written.stderr  # by the noise: of so few persons the attacks can say little
    check(pd.read_parquet(written.out / "release" / "synthetic.parquet"))
    assert written("verify", written.out) == 0
    assert written("gate", written.out) == verdict
    assert written("report", written.out, "--format", "html", "--out", written.folder / "again.html") == 0
    page = (written.folder / "again.html").read_text()
    assert "filled with fakes of format MRN#########" in page
    assert "fresh ids of synthetic units" in page
    assert "the same in all rows of a synthetic unit" in page
    assert "Rows per synthetic unit" in page
    assert "Not in the synthetic table: note." in page
    evidence = json.loads((written.out / "release" / "evidence.json").read_text())
    assert any(share["purpose"]["v"] == "rows per unit" for share in evidence["guarantee"]["shares"])
    sizes = json.loads((written.out / "release" / "model" / "persons.json").read_text())
    truth = np.full(3, 240)  # 1 to 3 rows a person, of 1200 persons three fifths are fitted
    assert np.abs(np.array(sizes["counts"]) - truth).max() < 6 * (sizes["sigma"] + np.sqrt(240))
    # what `sample` draws has them too, and other ones
    for name in ("more.parquet", "more.csv"):
        assert (
            written("sample", written.out, "--rows", 600, "--where", "age >= 43", "--out", written.folder / name) == 0
        )
        more = (pd.read_parquet if name.endswith("parquet") else pd.read_csv)(written.folder / name)
        check(more.astype({"town": "string"}))
        assert more["age"].min() >= 43
    # `dpsynth attack` reads such a file, and one without the fakes
    frame = pd.read_csv(written.data, dtype=str)
    train = frame["who"].str[-1].isin(list("01234"))
    frame[train].to_csv(written.folder / "t.csv", index=False)
    frame[~train].to_csv(written.folder / "c.csv", index=False)
    synthetic = written.out / "release" / "synthetic.parquet"
    bare = pd.read_parquet(synthetic)[["age", "town", "cost", "ill"]]
    bare.to_parquet(written.folder / "bare.parquet")
    files = ("--train", written.folder / "t.csv", "--control", written.folder / "c.csv", "--schema", written.schema)
    estimates, notes = [], []
    for path in (synthetic, written.folder / "bare.parquet"):
        assert written("attack", *files, "--synthetic", path, "--json") in (0, 1, 3, 4), written.stderr
        found = json.loads(written.stdout)
        notes.append(found["note"])
        estimates.append([(a["id"], a["estimate"]) for a in found["attacks"] if a["id"] == "exact_match"])
    assert estimates[0] == estimates[1]
    assert notes == ["the release's 3 measured column sets and its cost were used", ""]  # a tree over four columns


RULE = """
[[constraint]]
implies = { if = "town == 'A'", then = "ill == false" }
"""


def test_a_release_of_many_rows_is_made_in_parts(written, monkeypatch):
    """What holds over all rows holds over all parts; attacks say that they look at the first of them."""
    written.schema.write_text(written.schema.read_text() + RULE)
    monkeypatch.setattr("dpsynth.synthetic.AT_ONCE", 350)
    verdict = written.release("--holdout", "0.4", "--rows", 1000, "--synthesizer", "mst")
    assert verdict in (0, 1, 3, 4), written.stderr
    path = written.out / "release" / "synthetic.parquet"
    assert pq.ParquetFile(path).num_row_groups == 3
    frame = pd.read_parquet(path)
    assert len(frame) == 1000
    check(frame)
    assert not frame.loc[frame["town"] == "A", "ill"].any()
    assert sorted(set(frame["who"])) == list(range(1, frame["who"].nunique() + 1))
    evidence = json.loads((written.out / "release" / "evidence.json").read_text())
    assert evidence["release"]["rows"]["v"] == 1000
    assert any("look at the first 350 synthetic rows" in text for text in evidence["limits"]["v"])
    ones = {town: (frame["town"] == town).mean() for town in "ABCD"}
    groups = {g["value"]["v"]: g["synthetic"]["v"] for g in evidence["utility"]["groups"] if g["column"]["v"] == "town"}
    assert groups == pytest.approx(ones)
    assert evidence["utility"]["unit_rows"]["v"] < 0.1
    assert written("verify", written.out) == 0


def test_fakes_that_cannot_be_made_are_refused_before_anything_is_charged(written):
    short = written.schema.read_text().replace("MRN#########", "MRN##")
    written.schema.write_text(short)
    assert written.release("--rows", 101) == 2
    assert "fewer texts than the 101 rows" in written.stderr
    assert written.release() == 2
    assert written.extract().attempts == 0
    assert not written.out.exists()
