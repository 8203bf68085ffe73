"""Evidence: frozen leaves, each with its value, its privacy class and where it came from; JSON in and out.

A number without a class cannot exist here. The shareable edition is built from a filtered object, never by hiding
something on a page: `Evidence.shareable` is an allow-list on path, class and kind (`reports.paths`), and anything that
the list does not know is an error.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, cast

from dpsynth.errors import IntegrityError
from reports.paths import CLASSES, LARGEST, PATHS, SHAREABLE, PrivacyClass, Value, declared, is_internal, is_number

Edition: TypeAlias = Literal["internal", "shareable"]
Node: TypeAlias = "Leaf | Mapping[str, Node] | tuple[Mapping[str, Leaf], ...]"

SCHEMA: Final = "dpsynth.evidence/1"
_HEAD: Final = frozenset({"schema", "edition"})
_KEY = re.compile(r"(?!cls$)[a-z][a-z0-9_]{0,79}")  # in JSON an object with `cls` is a leaf
_STEP = re.compile(r"([a-z][a-z0-9_]*)((?:\[\d+\])?)")
_NO_NUMBER: Final = f"a number must be finite, and not beyond {LARGEST:.0e}"
_LEAF_KEYS: Final = frozenset({"v", "cls", "src", "ledger_seq", "ci", "conf", "n", "missing"})


@dataclass(frozen=True)
class Leaf:
    """One value of the evidence.

    Args:
        value: A number up to `LARGEST`, a flag, a text, a tuple of texts, or None when the value could not be had.
        cls: Privacy class P0 to P4 (`reports.paths`).
        src: How the value was made, in a few words for a reader.
        ledger_seq: Ledger entries that paid for it. A P2 value must name one.
        low, high: Ends of its interval; both or neither.
        confidence: Confidence of that interval after all corrections, in (0, 1).
        n: How many trials (persons) it rests on, of the same class as the value; not below 0.
        missing: Why there is no value, one sentence of the same class.
    Raises:
        ValueError: the leaf breaks one of these rules.
    """

    value: Value
    cls: PrivacyClass
    src: str
    _: KW_ONLY
    ledger_seq: tuple[int, ...] = ()
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    n: int | None = None
    missing: str = ""

    def __post_init__(self) -> None:
        if self.cls not in CLASSES:
            raise ValueError("a leaf needs a privacy class, P0 to P4")
        if not isinstance(self.src, str) or not self.src.strip():
            raise ValueError("a leaf must say where its value comes from")
        object.__setattr__(self, "value", _plain(self.value))
        object.__setattr__(self, "ledger_seq", tuple(self.ledger_seq))
        if not all(_is_count(seq) for seq in self.ledger_seq):
            raise ValueError("ledger entries are counted from 0")
        if self.cls == "P2" and self.value is not None and not self.ledger_seq:
            raise ValueError("a P2 value must name the ledger entry that paid for it")
        if (self.low is None) != (self.high is None) or (self.low is None) != (self.confidence is None):
            raise ValueError("an interval has two ends and a confidence")
        if self.low is not None and self.high is not None and self.confidence is not None:
            for name in ("low", "high", "confidence"):
                object.__setattr__(self, name, _finite(getattr(self, name)))
            if self.value is None or isinstance(self.value, bool | str | tuple):
                raise ValueError("only a number has an interval")
            if self.low > self.high or not 0 < self.confidence < 1:
                raise ValueError("an interval runs from low to high with a confidence between 0 and 1")
        if self.n is not None and not _is_count(self.n):
            raise ValueError("n is a whole number, not below 0")
        if self.missing and self.value is not None:
            raise ValueError("only a value that is not there can have a reason to be missing")
        for text in (self.src, self.missing):
            _utf8(text)

    @property
    def number(self) -> float | None:
        """The value as a number; None where it is none."""
        return float(self.value) if is_number(self.value) else None

    def to_json(self) -> dict[str, Any]:
        """The leaf as a JSON object; a P4 leaf has none."""
        if self.cls == "P4":
            raise IntegrityError("a value about one record (class P4) is never written")
        out: dict[str, Any] = {
            "v": list(self.value) if isinstance(self.value, tuple) else self.value,
            "cls": self.cls,
            "src": self.src,
        }
        if self.ledger_seq:
            out["ledger_seq"] = list(self.ledger_seq)
        if self.low is not None:
            out |= {"ci": [self.low, self.high], "conf": self.confidence}
        if self.n is not None:
            out["n"] = self.n
        return out | ({"missing": self.missing} if self.missing else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Leaf:
        """The inverse of `to_json`, strict about keys and types."""
        if not {"v", "cls", "src"} <= data.keys() <= _LEAF_KEYS:
            raise ValueError("a leaf has v, cls and src, and no key that is not known")
        value, interval, seq = data["v"], data.get("ci"), data.get("ledger_seq", [])
        if not isinstance(seq, list) or (
            interval is not None and (not isinstance(interval, list) or len(interval) != 2)
        ):
            raise ValueError("ledger_seq is a list and ci a pair")
        low, high = interval if interval is not None else (None, None)
        missing = data.get("missing", "")
        if not isinstance(missing, str):
            raise ValueError("missing is a text")
        return cls(
            tuple(value) if isinstance(value, list) else value,
            data["cls"],
            data["src"],
            ledger_seq=tuple(seq),
            low=low,
            high=high,
            confidence=data.get("conf"),
            n=data.get("n"),
            missing=missing,
        )


def _finite(value: object) -> float:
    if not is_number(value):
        raise ValueError(_NO_NUMBER)
    return float(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and is_number(value) and value >= 0


def _utf8(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError("a text must be valid Unicode") from None
    return text


def _plain(value: object) -> Value:
    """The value as a plain Python one, checked."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not is_number(value):
            raise ValueError(_NO_NUMBER)
        return int(value)
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, str):
        return _utf8(str(value))
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(_utf8(str(item)) for item in value)
    raise ValueError("a leaf holds a finite number, a flag, a text, texts, or None")


@dataclass(frozen=True, init=False, eq=False)
class Evidence:
    """A tree of leaves under short names; immutable.

    Sections are mappings, tables are sequences of mappings from name to leaf. A path joins names with dots and counts
    rows from 0: `guarantee.epsilon`, `columns[2].name`.

    Args:
        tree: Nested mappings whose ends are leaves.
        edition: "internal" may hold P3; "shareable" holds nothing that `shareable` would refuse or drop.
    Raises:
        ValueError: the tree holds something that is neither leaf, section nor table, or a name that is no name.
        IntegrityError: the edition is "shareable" and a leaf may not be shared.
    """

    tree: Mapping[str, Node]
    edition: Edition

    def __init__(self, tree: Mapping[str, object], *, edition: Edition = "internal") -> None:
        if edition not in ("internal", "shareable"):
            raise ValueError('the edition is "internal" or "shareable"')
        if isinstance(tree, Mapping) and not _HEAD.isdisjoint(tree):
            raise ValueError("schema and edition are not sections of the evidence")
        object.__setattr__(self, "tree", _frozen_section(tree))
        object.__setattr__(self, "edition", edition)
        if edition == "shareable":
            for problem in self.problems():
                raise IntegrityError(problem)
            if "review" in self.tree:
                raise IntegrityError("the shareable edition cannot hold a review section")

    # ---- reading -------------------------------------------------------------------------------------------------

    def get(self, path: str) -> Leaf | None:
        """The leaf at a path, or None when there is none."""
        node = self._node(path)
        return node if isinstance(node, Leaf) else None

    def value(self, path: str) -> Value:
        """The value at a path, or None when there is no leaf or no value."""
        leaf = self.get(path)
        return leaf.value if leaf else None

    def number(self, path: str) -> float | None:
        """The number at a path, or None when there is no leaf, or no number in it."""
        leaf = self.get(path)
        return leaf.number if leaf else None

    def rows(self, path: str) -> tuple[Mapping[str, Leaf], ...]:
        """The rows of a table, or none."""
        node = self._node(path)
        return node if isinstance(node, tuple) else ()

    def section(self, path: str) -> Mapping[str, Node]:
        """A section, or an empty one."""
        node = self._node(path)
        return node if isinstance(node, Mapping) else MappingProxyType({})

    def leaves(self) -> Iterator[tuple[str, Leaf]]:
        """All leaves with their paths, in the order of the paths' names."""
        yield from self._leaves

    @cached_property
    def _leaves(self) -> tuple[tuple[str, Leaf], ...]:
        return tuple(_walk("", self.tree))

    def _node(self, path: str) -> Node | None:
        node: Node | None = self.tree
        for step in path.split("."):
            match = _STEP.fullmatch(step)
            if match is None or not isinstance(node, Mapping):
                return None
            node = node.get(match[1])
            if match[2]:
                row = int(match[2][1:-1])
                node = node[row] if isinstance(node, tuple) and row < len(node) else None
        return node

    # ---- changing: always a new object ---------------------------------------------------------------------------

    def with_leaf(self, path: str, leaf: Leaf | None) -> Evidence:
        """A copy with the leaf at `path` set, or removed when `leaf` is None; sections are made as needed."""
        return Evidence(_replaced(self.tree, path.split("."), leaf), edition=self.edition)

    def with_disclosure(self) -> Evidence:
        """A copy that says of itself whether it can be shared: `disclosure.edition_ok` and `disclosure.leaves`.

        Only leaves of the shareable edition are counted, because the number of internal ones may depend on the rows.
        """
        problems = self.with_leaf("disclosure", None).problems()
        src = "allow-list on path, class and kind"
        marked = self.with_leaf("disclosure.edition_ok", Leaf(not problems, "P0", src))
        if problems:
            return marked
        count = Counter(leaf.cls for path, leaf in marked.leaves() if not is_internal(path))
        count["P0"] += 1  # the line below
        text = ", ".join(f"{cls}: {count[cls]}" for cls in CLASSES if cls in SHAREABLE)
        return marked.with_leaf("disclosure.leaves", Leaf(text, "P0", src))

    # ---- sharing -------------------------------------------------------------------------------------------------

    def problems(self) -> tuple[str, ...]:
        """Why this evidence cannot be shared, one sentence each; empty when it can. Quotes declared names only."""
        return self._problems

    @cached_property
    def _problems(self) -> tuple[str, ...]:
        found = []
        for path, leaf in self.leaves():
            rule = declared(path)
            if leaf.cls == "P4":
                found.append("the evidence holds a value about one record (class P4)")
            elif is_internal(path):
                continue
            elif rule is None:
                found.append(f"a leaf under {_known_part(path)} is not on the list of what may be shared")
            elif leaf.cls not in rule.classes or leaf.cls not in SHAREABLE:
                allowed = " or ".join(sorted(rule.classes & SHAREABLE))
                found.append(f"{path} is of class {leaf.cls}, and only {allowed} may stand there")
            elif not rule.holds(leaf.value):
                found.append(f"{path} does not look like a value of its kind ({rule.kind})")
        return tuple(found)

    def shareable(self) -> Evidence:
        """The edition that may leave the house: classes P0 to P2 at listed paths; the review section is left out.

        Raises:
            IntegrityError: a leaf outside the review section is not listed, or its class or kind is not the listed one.
        """
        if self.edition == "shareable":
            return self
        for problem in self.problems():
            raise IntegrityError(f"this evidence cannot be shared: {problem}")
        return Evidence({key: node for key, node in self.tree.items() if key != "review"}, edition="shareable")

    # ---- JSON ----------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """The evidence as JSON text, the same bytes for the same evidence; only ASCII, so that it can be printed.

        Raises:
            IntegrityError: a leaf is about one record (class P4).
        """
        head = {"edition": _encode(self.edition), "schema": _encode(SCHEMA)}
        body = {key: _written(node, 1) for key, node in self.tree.items()}
        return _object(dict(sorted((head | body).items())), 0) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Evidence:
        """The inverse of `to_json`: strict, and a damaged file is never half read.

        Raises:
            IntegrityError: the text is not evidence of this version, or breaks a rule of a leaf or of its edition.
        """
        try:
            data = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
            if not isinstance(data, dict) or data.pop("schema", None) != SCHEMA:
                raise ValueError(f"its schema is not {SCHEMA}")
            edition = data.pop("edition", None)
            return cls(cast(Mapping[str, object], _from_json(data)), edition=edition)
        except (ValueError, TypeError, RecursionError) as error:
            raise IntegrityError(f"this is not an evidence file that can be trusted: {_first_line(error)}") from None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the text that `to_json` gives, which is that of the file written from it."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Evidence) and self.edition == other.edition and self.tree == other.tree

    def __hash__(self) -> int:
        return hash((self.edition, tuple(self.leaves())))


def _first_line(error: Exception) -> str:
    """The reason without any text of the file: our own sentences hold none, the reader's may."""
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON from line {error.lineno} on"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return out


def _refuse(_: str) -> object:
    raise ValueError(_NO_NUMBER)


def _frozen_section(tree: object) -> Mapping[str, Node]:
    if not isinstance(tree, Mapping):
        raise ValueError("evidence is made of sections, tables and leaves")
    if not all(isinstance(key, str) and _KEY.fullmatch(key) for key in tree):
        raise ValueError("a name in the evidence is made of small letters, digits and _")
    return MappingProxyType({key: _frozen(tree[key]) for key in sorted(tree)})


def _frozen(node: object) -> Node:
    if isinstance(node, Leaf):
        return node
    if isinstance(node, Mapping):
        return _frozen_section(node)
    if isinstance(node, Sequence) and not isinstance(node, str | bytes):
        rows = tuple(_frozen_section(row) for row in node)
        if not all(isinstance(leaf, Leaf) for row in rows for leaf in row.values()):
            raise ValueError("a table's rows hold leaves only")
        return cast(tuple[Mapping[str, Leaf], ...], rows)
    raise ValueError("a value without a privacy class cannot be evidence: wrap it in a Leaf")


def _walk(path: str, node: Node) -> Iterator[tuple[str, Leaf]]:
    if isinstance(node, Leaf):
        yield path, node
    elif isinstance(node, tuple):
        for number, row in enumerate(node):
            yield from _walk(f"{path}[{number}]", row)
    else:
        for key, child in node.items():
            yield from _walk(f"{path}.{key}" if path else key, child)


def _replaced(node: Mapping[str, Node], steps: Sequence[str], leaf: Leaf | None) -> dict[str, object]:
    match = _STEP.fullmatch(steps[0])
    if match is None:
        raise ValueError("this is not a path of evidence")
    key, out = match[1], cast(dict[str, object], dict(node))
    if match[2]:
        table, row = list(cast(tuple[Mapping[str, Leaf], ...], node.get(key, ()))), int(match[2][1:-1])
        if row >= len(table) or len(steps) != 2:
            raise ValueError("this table has no such row")
        table[row] = cast(Mapping[str, Leaf], _replaced(table[row], steps[1:], leaf))
        out[key] = table
    elif len(steps) > 1:
        child = node.get(key, {})
        if not isinstance(child, Mapping):
            raise ValueError("this path leads through a leaf")
        out[key] = _replaced(child, steps[1:], leaf)
    elif leaf is None:
        out.pop(key, None)
    else:
        out[key] = leaf
    return out


_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=True, allow_nan=False).encode


def _written(node: Node, depth: int) -> str:
    """A node as JSON, with one leaf a line, so that two versions of a file can be compared by eye."""
    if isinstance(node, Leaf):
        return _encode(node.to_json())
    if isinstance(node, tuple):
        rows = [_object({key: _written(leaf, depth + 2) for key, leaf in row.items()}, depth + 1) for row in node]
        return "[" + ", ".join(rows) + "]"
    return _object({key: _written(child, depth + 1) for key, child in node.items()}, depth)


def _object(parts: Mapping[str, str], depth: int) -> str:
    if not parts:
        return "{}"
    pad = "\n" + " " * (depth + 1)
    return "{" + ",".join(f"{pad}{_encode(key)}: {text}" for key, text in parts.items()) + "\n" + " " * depth + "}"


def _from_json(node: object) -> object:
    if isinstance(node, list):
        return [_from_json(row) for row in node]
    if isinstance(node, dict):
        return Leaf.from_json(node) if "cls" in node else {key: _from_json(child) for key, child in node.items()}
    raise ValueError("a value without a privacy class cannot be evidence")


def _known_part(path: str) -> str:
    """The longest beginning of a path that some declared path shares: never a name made from data."""
    steps: list[str] = []
    for step in path.split("."):
        prefix = ".".join([*steps, step])
        if not any(known == prefix or known.startswith((prefix + ".", prefix + "[")) for known in PATHS):
            break
        steps.append(step)
    return f"`{'.'.join(steps)}`" if steps else "the top"
