"""Strings that stand nowhere but in undeclared values, names of files and folders, user and host come out nowhere.

Every byte of what may be shown is searched, streams of PDF, Parquet and npz files included, for each string as it is, in
other encodings, and as a plain digest, which would be a dictionary look-up away from the string.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import socket
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import structure
from claims import claims

from dpsynth import Curator
from dpsynth.cli.report import _RENDERERS

SCHEMA = """\
schema     = "dpsynth.schema/1"
table      = "<script>x</script> | =cmd [l](javascript:z) **b** <!-- visits"
unit       = { entity = "person", column = "who", max_rows = 3 }
basis      = "made for the tests"

[[column]]
name    = "age"
type    = "integer"
minimum = 0
maximum = 99
bins    = 5
role    = "quasi_identifier"

[[column]]
name   = "town"
type   = "category"
values = ["A", "B", "C", "D", "=cmd|'/C calc'!A0", "<img src=x onerror=y> [l](http://x.invalid)"]
role   = "quasi_identifier"

[[column]]
name   = "ward"
type   = "category"
values = "discover"
role   = "quasi_identifier"

[[column]]
name    = "cost"
type    = "number"
minimum = 0
maximum = "discover"
bins    = 4
missing = true
role    = "sensitive"

[[column]]
name    = "stage"
type    = "ordinal"
values  = ["1", "2", "3"]
unknown = "other"

[[column]]
name    = "seen"
type    = "date"
minimum = 2018-01-01
maximum = 2019-12-31
bins    = 4
missing = true

[[column]]
name    = "told"
type    = "datetime"
minimum = 2018-01-01
maximum = 2019-12-31
bins    = 4
missing = true

[[column]]
name  = "ill"
type  = "boolean"
true  = ["yes"]
false = ["no"]
role  = "sensitive"

[[column]]
name   = "mail"
type   = "identifier"
format = "MRN#######"

[[column]]
name = "note"
type = "text"
"""
HEADER = ("who", "age", "town", "ward", "cost", "stage", "seen", "told", "ill", "mail", "note")
WORD = "Zq7canary"
"""The beginning of every text that is planted: what follows it says where."""
VALUES = {
    "who": f"{WORD}-who",
    "age": "86753094178675",
    "town": f"{WORD}-town",
    "ward": f"{WORD}-ward",
    "cost": "77345112867530.25",
    "stage": f"{WORD}-stage",
    "seen": "1871-07-23",
    "told": "1872-08-24T11:22:33",
    "ill": f"{WORD}-ill",
    "mail": f"{WORD}@mail.invalid",
    "note": f"{WORD} called about the bill",
}
"""A row that nobody else is like: each cell is undeclared, out of bounds, or dropped.

A million noisy digits are searched, so numbers are as long as a float holds: twelve digits come up by chance once in a
million runs, eight would once in a hundred.
"""
PLACES = {"folder": "folder", "file": "file", "user": "user", "home": "home", "host": "host", "temporary": "temporary"}


def place(name: str) -> str:
    return f"{WORD}-{PLACES[name]}"


def written(texts: tuple[str, ...]) -> dict[str, bytes]:
    """Each text in every way that is looked for, by what it is."""
    out = {}
    for text in texts:
        raw = text.encode()
        out |= {f"{text} as {name}": text.encode(name) for name in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")}
        out[f"{text} as hexadecimal"] = raw.hex().encode()
        for skipped in range(3):  # where it starts within three bytes decides how base64 spells it
            found = base64.b64encode(b"\0" * skipped + raw)[4 * ((skipped + 2) // 3) : -4]
            out[f"{text} as base64, {skipped}"] = found
        for kind in ("md5", "sha1", "sha256"):
            digest = hashlib.new(kind, raw)
            out[f"{kind} of {text}"] = digest.hexdigest().encode()
            out[f"{kind} of {text}, raw"] = digest.digest()
    return {what: spelled for what, spelled in out.items() if len(spelled) >= 8}


def opened(name: str, content: bytes) -> Iterator[bytes]:
    """The bytes of a file, and everything that is packed in it."""
    yield content
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            for entry in packed.infolist():
                yield entry.filename.encode() + entry.extra + entry.comment
                yield packed.read(entry)
    elif content.startswith(b"PAR1"):
        file = pq.ParquetFile(io.BytesIO(content))
        yield repr((file.metadata.to_dict(), file.schema_arrow.metadata)).encode()
        table = file.read()
        for column in table.column_names:
            yield "\n".join(map(str, table.column(column).cast(pa.string()).to_pylist())).encode()
    elif content.startswith(b"%PDF"):
        pikepdf = pytest.importorskip("pikepdf", reason="pikepdf unpacks the streams of a PDF")
        with pikepdf.open(io.BytesIO(content)) as document:
            yield repr(dict(document.docinfo)).encode()
            for item in document.objects:
                if isinstance(item, pikepdf.Stream):
                    with_filters = item.get("/Filter") in ("/DCTDecode", "/JPXDecode")
                    yield item.read_raw_bytes() if with_filters else item.read_bytes()
                yield repr(item).encode()
    elif name.endswith(".json") and content.startswith(b"{"):
        yield "\n".join(_texts(json.loads(content))).encode()


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from _texts(value)
    elif isinstance(node, list):
        for item in node:
            yield from _texts(item)
    else:
        yield str(node)


def seen(texts: tuple[str, ...], files: dict[str, bytes]) -> list[str]:
    """What is found of the texts, and in which file."""
    needles = written(texts)
    return [
        f"{what} in {name}"
        for name, content in files.items()
        for part in opened(name, content)
        for what, needle in needles.items()
        if needle in part
    ]


ROW = (WORD, *(text for text in VALUES.values() if WORD not in text), VALUES["age"][:12], VALUES["cost"][:12])
SURROUNDINGS = tuple(place(name) for name in PLACES)


def lines(table_rows: Callable[..., list[str]]) -> list[str]:
    """700 ordinary people, and one whose every cell is a canary; and one canary cell in an ordinary row each."""
    rng = np.random.default_rng(3)
    out = []
    for line in table_rows(350):
        who, age, town, cost, ill = line.split(",")
        day = f"{2018 + int(rng.integers(2))}-0{1 + int(rng.integers(9))}-1{int(rng.integers(9))}"
        ward = "north" if rng.random() < 0.5 else "south"
        out.append(
            [
                who,
                age,
                town,
                ward,
                cost,
                str(int(rng.integers(1, 4))),
                day,
                f"{day}T10:00:00",
                ill,
                f"{who}@x.invalid",
                "ok",
            ]
        )
    ordinary = list(out)
    out += [list(VALUES.values())] * 2
    for at, column in enumerate(HEADER):
        out.append([*ordinary[at * 7][:at], VALUES[column], *ordinary[at * 7][at + 1 :]])
    return [",".join(row) for row in out]


class Desk:
    """The case, moved to a folder, a user, a host and a temporary folder whose names are canaries; and all that was said."""

    def __init__(self, case: Any, monkeypatch: pytest.MonkeyPatch, table_rows: Callable[..., list[str]]) -> None:
        self.case = case
        self.folder = case.folder / place("folder")
        for name in ("home", "temporary"):
            (self.folder / place(name)).mkdir(parents=True)
        for name in ("USER", "LOGNAME", "USERNAME"):
            monkeypatch.setenv(name, place("user"))
        for name in ("TMPDIR", "TEMP", "TMP"):
            monkeypatch.setenv(name, str(self.folder / place("temporary")))
        monkeypatch.setattr(tempfile, "tempdir", None)
        monkeypatch.setenv("HOME", str(self.folder / place("home")))
        monkeypatch.setenv("HOSTNAME", place("host"))
        monkeypatch.setattr(socket, "gethostname", lambda: place("host"))
        monkeypatch.setattr("platform.node", lambda: place("host"))
        monkeypatch.chdir(self.folder)
        Path("schema.toml").write_text(SCHEMA, encoding="utf-8")
        self.csv, self.parquet = f"{place('file')}.csv", f"{place('file')}.parquet"
        Path(self.csv).write_text("\n".join([",".join(HEADER), *lines(table_rows)]) + "\n", encoding="utf-8")
        texts = pa.csv.ConvertOptions(column_types=dict.fromkeys(HEADER, pa.string()))
        pq.write_table(pa.csv.read_csv(self.csv, convert_options=texts), self.parquet)
        self.said: dict[str, bytes] = {}
        assert self("ledger create book.ledger --population test --epsilon 3 --delta 1e-6 --unit person") == 0

    def __call__(self, line: str) -> int:
        code = self.case(*line.split())
        self.said[f"{len(self.said)}: {line}"] = f"{self.case.stdout}\n{self.case.stderr}".encode()
        return int(code)

    def release(self, data: str, out: str, *more: str) -> int:
        words = "--schema schema.toml --ledger book.ledger --delta 1e-6 --synthesizer independent --rows 40"
        return self(f"release {data} {words} --out {out} {' '.join(more)}")

    def files(self, *places: str) -> dict[str, bytes]:
        found = [
            path for place in places for path in ([Path(place)] if Path(place).is_file() else Path(place).rglob("*"))
        ]
        return {str(path): path.read_bytes() for path in found if path.is_file()}


@pytest.fixture
def desk(case: Any, monkeypatch: pytest.MonkeyPatch, table_rows: Callable[..., list[str]]) -> Desk:
    return Desk(case, monkeypatch, table_rows)


def without_typed(said: dict[str, bytes]) -> dict[str, bytes]:
    """What was said, but for words that whoever typed the command had typed: a mistake is told by naming them.

    A draft calls the table what its file is called.
    """
    out = {}
    for line, text in said.items():
        words = line.split(": ", 1)[1].split()
        for word in words + ([Path(words[2]).stem] if words[:2] == ["schema", "draft"] else []):
            text = text.replace(word.encode(), b"")
        out[line] = text
    return out


@pytest.mark.slow
def test_canaries_appear_in_nothing_that_may_be_shown(desk: Desk) -> None:
    pdf = _has_pdf()
    made = []
    for data, engine, out, more in (
        (desk.csv, "memory", "r1", "--epsilon 1 --holdout 0.4"),
        (desk.parquet, "duckdb", "r2", "--epsilon 1"),
    ):
        assert desk.release(data, out, more, f"--engine {engine}") in (1, 3, 4), desk.case.stderr
        record = "--format registry --curator C --curator-type Nonprofit --region R --author A"
        reports = {f"{out}.{kind}": f"--format {kind}" for kind in ("html", "md", "json")} | {f"{out}.yaml": record}
        if pdf and out == "r1":
            reports[f"{out}.pdf"] = "--format pdf"
        for name, words in reports.items():
            assert desk(f"report {out} {words} --out {name}") == 0, desk.case.stderr
        for kind in ("html", "md", "json"):
            assert desk(f"report {out} --format {kind} --edition internal --out {out}-internal.{kind}") == 0
        assert desk(f"gate {out} --junit {out}.xml --sarif {out}.sarif") in (1, 3, 4)
        assert desk(f"gate {out} --json") in (1, 3, 4)
        assert desk(f"gate {out} --policy gdpr-controlled --explain domain.basis") in (1, 3, 4)
        assert desk(f"verify {out} --against {out}.html") == 0
        for kind in ("csv", "parquet"):
            assert desk(f"sample {out} --rows 30 --out {out}-more.{kind}") == 0
        assert desk(f"ledger verify book.ledger --against {out}/release/manifest.json") == 0
        made += [*reports, f"{out}.xml", f"{out}.sarif", f"{out}-more.csv", f"{out}-more.parquet", f"{out}/release"]
    assert desk("ledger show book.ledger") == 0
    assert desk("ledger show book.ledger --json") == 0
    assert desk(f"schema draft {desk.csv} --unit who") == 0
    assert desk(f"schema draft {desk.parquet}") == 0
    _failing(desk)

    canaries = (*ROW, *SURROUNDINGS)
    shareable = desk.files(*made)
    assert {Path(name).suffix for name in shareable} >= {
        ".parquet",
        ".npz",
        ".json",
        ".html",
        ".toml",
        ".xml",
        ".sarif",
    }
    assert all(Path(name).exists() for name in made)
    assert seen(canaries, shareable) == []
    assert seen(canaries, without_typed(desk.said)) == []
    inside = desk.files(
        "r1/internal",
        "r2/internal",
        "broken-review_sample",
        *(f"r{n}-internal.{kind}" for n in (1, 2) for kind in ("html", "md", "json")),
    )
    assert b"ValueError" in inside["broken-review_sample/internal/evidence.json"], "what broke is told by its kind"
    assert seen(canaries, inside) == [], "not even the internal files hold a value of a row, or a place"
    assert seen(canaries, desk.files("book.ledger")) == []
    _no_label_does_harm(shareable)
    for name, content in {**shareable, **inside, **desk.said}.items():
        assert claims(content.decode("utf-8", "ignore")) == [], name
    if not pdf:
        pytest.skip("searched everything but PDF: it needs dpsynth[pdf], Pango and pikepdf")


def _no_label_does_harm(files: dict[str, bytes]) -> None:
    """The table's name and a category's values are markup, formula and link: nothing takes them for that."""
    for name, content in files.items():
        if name.endswith(".html"):
            assert not {"script", "img", "comment"} & {tag for tag, _ in structure.html(content.decode())}
        elif name.endswith(".md"):
            found = structure.markdown(content.decode())
            assert not [kind for kind in found if re.match("link|image|html|strike|fence", kind)], name
        elif name.endswith(".pdf"):
            assert structure.pdf(content) == []


def _has_pdf() -> bool:
    try:
        import pikepdf  # noqa: F401
        import weasyprint  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def _failing(desk: Desk) -> None:
    """Runs that are refused or break, before and after rows are read."""
    name, book = place("file"), "--schema schema.toml --ledger book.ledger --epsilon 0.1 --delta 1e-6"
    for method, code in (("measure", 6), ("review_sample", 1)):

        def breaks(*_: object, **__: object) -> None:
            raise ValueError(f"cell {VALUES['town']} of {VALUES['who']}")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Curator, method, breaks)
            assert desk.release(desk.csv, f"broken-{method}", "--epsilon 0.1") == code, desk.case.stderr
    assert desk.release(desk.csv, "refused", "--epsilon 3") == 7
    draft = Path("schema.toml").read_text(encoding="utf-8").replace("table ", 'status = "draft"\ntable ', 1)
    Path("draft.toml").write_text(draft, encoding="utf-8")
    assert desk(f"release {desk.csv} {book.replace('schema.toml', 'draft.toml')} --out drafted") == 7
    whole, text = Path(desk.parquet).read_bytes(), Path(desk.csv).read_bytes()
    Path(f"{name}-cut.parquet").write_bytes(whole[: len(whole) // 2])
    assert desk.release(f"{name}-cut.parquet", "cut", "--epsilon 0.1") == 2
    Path(f"{name}-odd.csv").write_bytes(text + b'"' + VALUES["note"].encode() + b"\x00\xff,,\n" + text[-900:])
    assert desk.release(f"{name}-odd.csv", "odd", "--epsilon 0.1 --no-gate") == 0, desk.case.stderr
    Path(f"{name}-bare.csv").write_bytes(b"\n".join(text.split(b"\n")[-3:]))
    assert desk.release(f"{name}-bare.csv", "bare", "--epsilon 0.1") == 2, "the first line is a row"
    assert desk(f"schema draft {name}-bare.csv") == 2
    assert desk.release(desk.csv, "no-such-folder/out", "--epsilon 0.1") == 2
    assert desk(f"release {name}.txt {book} --out x") == 2
    assert desk(f"gate {place('folder')}") == 2


# ---- the search can fail ---------------------------------------------------------------------------------------------


def _npz(text: str) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, labels=np.array([text]))
    return out.getvalue()


def _parquet(text: str, *, in_metadata: bool) -> bytes:
    table = pa.table({"a": ["x" if in_metadata else text] * 50})
    out = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"made": text}) if in_metadata else table, out, compression="zstd")
    return out.getvalue()


def _pdf(text: str, *, in_metadata: bool) -> bytes:
    pikepdf = pytest.importorskip("pikepdf", reason="pikepdf makes the PDF that the search is tried on")
    document = pikepdf.new()
    document.add_blank_page()
    if in_metadata:
        document.docinfo["/Author"] = text
    else:
        document.pages[0].Contents = pikepdf.Stream(
            document, zlib.compress(f"({text}) Tj".encode()), Filter=pikepdf.Name.FlateDecode
        )
    out = io.BytesIO()
    document.save(out, object_stream_mode=pikepdf.ObjectStreamMode.generate)
    return out.getvalue()


TEXT = VALUES["town"]
PLANTED: dict[str, Callable[[], bytes]] = {
    "page.html": lambda: f"<!-- {TEXT} -->".encode(),
    "wide.txt": lambda: TEXT.encode("utf-16"),
    "attached.html": lambda: base64.b64encode(f"..{TEXT}..".encode()),
    "token.json": lambda: json.dumps({"id": hashlib.sha256(TEXT.encode()).hexdigest()}).encode(),
    "escaped.json": lambda: ('{"a": "' + "".join(f"\\u{ord(char):04x}" for char in TEXT) + '"}').encode(),
    "model.npz": lambda: _npz(TEXT),
    "rows.parquet": lambda: _parquet(TEXT, in_metadata=False),
    "made.parquet": lambda: _parquet(TEXT, in_metadata=True),
    "stream.pdf": lambda: _pdf(TEXT, in_metadata=False),
    "author.pdf": lambda: _pdf(TEXT, in_metadata=True),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_search_sees_a_canary_wherever_it_is_packed(name: str) -> None:
    assert seen((TEXT,), {name: PLANTED[name]()})
    assert not seen(("Zq8other",), {name: PLANTED[name]()})


@pytest.mark.parametrize("kind", ["html", "md", "json"])
def test_a_renderer_that_leaks_is_seen(desk: Desk, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A copy of a renderer that signs its page with the user and the folder, as many tools do."""
    assert desk.release(desk.csv, "r1", "--epsilon 1") in (1, 3, 4)
    honest = _RENDERERS[kind]

    def leaky(report: Any) -> str:
        text = str(honest(report))
        return (
            text.replace("}", f', "made_by": "{place("user")} in {Path.cwd()}"}}', 1)
            if kind == "json"
            else text + f"<!-- {place('user')} -->"
        )

    monkeypatch.setitem(_RENDERERS, kind, leaky)
    assert desk(f"report r1 --format {kind} --out leaky.{kind}") == 0
    content = Path(f"leaky.{kind}").read_bytes()
    assert seen(SURROUNDINGS, {"page": content})
    assert not re.search(re.escape(place("user")).encode(), Path("r1/release/report.html").read_bytes())
