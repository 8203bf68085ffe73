"""Imports point one way: reports -> attacks -> dpsynth, and inside dpsynth down a list."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib import metadata
from pathlib import Path

import pytest

import dpsynth

ROOT = Path(__file__).parents[2]
ALLOWED = {"dpsynth": {"dpsynth"}, "attacks": {"attacks", "dpsynth"}, "reports": {"reports", "attacks", "dpsynth"}}
LAYERS = (
    ("version", "errors", "canonical", "keeper", "scratch", "silence", "signing", "addresses", "adapters"),
    ("randomness", "privacy"),
    ("binning", "coarsening", "patterns", "dates", "figures", "density"),
    ("schema", "expressions", "formulas", "linear", "contradictions", "constraints"),
    ("table",),
    ("reading",),
    ("identifiers", "fakes"),
    ("sources",),
    ("drafting", "checking"),
    ("ledger", "throw_away", "split"),
    ("mechanisms",),
    ("counting",),
    ("trial",),
    ("external",),
    ("curator",),
    ("models", "discovery"),
    ("synthesizers", "neural"),
    ("persons",),
    ("synthetic",),
    ("rehearsal",),
    ("release",),
)
"""Rooms of dpsynth from the ground up: each imports from those before it and from its own line only."""


def modules() -> list[Path]:
    return [path for name in ALLOWED for path in sorted((ROOT / name).rglob("*.py")) if "cli" not in path.parts]


def imported(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes), "relative import"
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    names = imported(path)
    mine = path.relative_to(ROOT).parts[0]
    assert {name.split(".")[0] for name in names} & ALLOWED.keys() <= ALLOWED[mine]
    assert not any(name.startswith("dpsynth.cli") for name in names), "nothing imports the roof"


@pytest.mark.parametrize("path", sorted((ROOT / "dpsynth").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_of_dpsynth_import_down(path: Path) -> None:
    level = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    parts = path.relative_to(ROOT / "dpsynth").with_suffix("").parts
    if parts[0] in ("cli", "__init__"):
        return
    assert parts[0] in level, f"{parts[0]} has no place in LAYERS"
    for name in imported(path):
        room = name.split(".")[1] if name.startswith("dpsynth.") else ""
        if room in level:
            assert level[room] <= level[parts[0]], f"{parts[0]} imports {room}"


def imported_at_once(path: Path) -> set[str]:
    """The modules of the three packages that a module imports when it is imported: not in a function, not for types."""
    out: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            out |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            out |= {name if is_module(name) else node.module for name in below}
    return {name for name in out if name.split(".")[0] in ALLOWED}


def is_module(name: str) -> bool:
    place = ROOT.joinpath(*name.split("."))
    return place.is_dir() or place.with_suffix(".py").is_file()


def cycle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Names of which each leads to the next and the last to the first; none where there is no such ring."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(name) for name in error.args[1]]
    return []


def test_no_modules_import_one_another_in_a_ring() -> None:
    """A package's own `__init__` shows what its rooms hold, so that a room may not import it."""
    graph = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): imported_at_once(path)
        for path in modules()
    }
    assert len(graph) > 150
    assert sum(map(len, graph.values())) > 500
    assert cycle(graph) == []
    assert cycle({**graph, "dpsynth.errors": {"dpsynth.curator"}})


def test_attacks_use_the_public_names_only() -> None:
    for path in sorted((ROOT / "attacks").rglob("*.py")):
        private = {name for name in imported(path) if name.startswith("dpsynth.") and name.count(".") > 1}
        assert not private, f"{path.name} reaches into {private}"


RAW = frozenset(
    ("read", "read_open", "read_frame", "read_open_frame", "read_blocks", "gather", "blocks", "batch_block", "frame_block",
     "glance")
)  # fmt: skip
"""What `dpsynth.reading` and `dpsynth.sources` give raw rows by."""
READERS = ("dpsynth.reading", "dpsynth.sources")


def takes_raw_rows(source: str) -> bool:
    """Whether a module names something of `RAW`: imported from a reader, or as an attribute of one."""
    nodes = list(ast.walk(ast.parse(source)))
    readers = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            readers |= {alias.asname or alias.name for alias in node.names if alias.name.startswith(READERS)}
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if alias.name in RAW and node.module.startswith(READERS):
                    return True
                if f"{node.module}.{alias.name}".startswith(READERS):
                    readers.add(alias.asname or alias.name)
    return any(
        isinstance(node, ast.Attribute) and node.attr in RAW and ast.unparse(node.value) in readers for node in nodes
    )


@pytest.mark.parametrize(
    "source",
    [
        "from dpsynth import reading\nreading.read(path, schema)",
        "from dpsynth.reading import files as f\nf.blocks(path, schema)",
        "from dpsynth.reading.rows import read as look",
        "import dpsynth.sources\ndpsynth.sources.read_open(data, schema)",
    ],
)
def test_any_way_to_raw_rows_is_noticed(source: str) -> None:
    assert takes_raw_rows(source)
    assert not takes_raw_rows("from dpsynth import reading\nreading.check_header(path, schema)")


def test_private_rows_are_read_in_few_places() -> None:
    """The curator, the schema tools, `dpsynth attack` and `audit` only.

    An external program's output is read there too, by the same reader.
    """
    callers = {
        str(path.relative_to(ROOT))
        for name in ALLOWED
        for path in (ROOT / name).rglob("*.py")
        if path.parent != ROOT / "dpsynth" / "reading" and takes_raw_rows(path.read_text(encoding="utf-8"))
    }
    assert callers <= {
        "dpsynth/curator.py",
        "dpsynth/checking.py",
        "dpsynth/counting/engines.py",
        "dpsynth/counting/spark_store.py",
        "dpsynth/drafting.py",
        "dpsynth/external.py",
        "dpsynth/sources.py",
        "dpsynth/cli/attack.py",
        "dpsynth/cli/audit.py",
    }
    assert "dpsynth/curator.py" in callers


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_randomness_is_made_in_one_place(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name == "randomness.py" or "adapters" in path.parts:  # adapters run elsewhere, after another tool's noise
        return
    for banned in ("np.random.seed", "np.random.rand", "random.seed", "import random", "from random"):
        assert banned not in text
    assert "default_rng(" not in text, "generators are made in dpsynth/randomness.py"


@pytest.mark.slow
def test_no_pickle_no_eval() -> None:
    for path in modules():
        names = imported(path)
        assert not {name.split(".")[0] for name in names} & {"pickle", "joblib", "dill", "shelve", "marshal"}
        calls = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert not calls & {"eval", "exec"}


def test_import_is_light() -> None:
    """Heavy libraries are imported where they are used, not by `import dpsynth`."""
    import subprocess

    script = "import dpsynth, sys; print(*[m for m in ('sklearn','torch','opendp.prelude','statsmodels','jinja2','faker','stdnum','phonenumbers','duckdb','pyspark','psycopg','cryptography','importlib.metadata','numpy.ma') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_the_version_is_the_one_that_is_installed() -> None:
    """It stands in `dpsynth/version.py` alone, as a word that a build can read."""
    assert dpsynth.__version__ == metadata.version("dpsynth")
