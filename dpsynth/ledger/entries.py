"""What stands in an entry of the ledger: its kinds and their fields, the values they may hold, its canonical text."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

from dpsynth.canonical import from_canonical
from dpsynth.errors import IntegrityError, UsageError
from dpsynth.privacy import Cap, Cost, Neighbours, PrivacyUnit

Kind: TypeAlias = Literal[
    "GENESIS",
    "RESERVE",
    "START",
    "COMMIT",
    "FORFEIT",
    "RELEASE_UNUSED",
    "AMEND",
    "DENY",
    "IMPORT_EXTERNAL",
    "ANCHOR",
]
Basis: TypeAlias = Literal["proven", "floating_point", "claimed"]
"""What a charge rests on: our proof and exact noise, our proof and noise in floating-point arithmetic, or a claim."""
Draft: TypeAlias = tuple[Kind, dict[str, Any]]

FORMAT: Final = "dpsynth.ledger/1"
NO_HASH: Final = "0" * 64  # what GENESIS names as the entry before it


def hash_of(body: bytes) -> str:
    """The hash of an entry: SHA-256 of its text, in hexadecimal digits."""
    return hashlib.sha256(body).hexdigest()


WHOLE: Final = re.compile(r"0|[1-9][0-9]{0,999}")
FRACTION: Final = re.compile(r"(0|[1-9][0-9]{0,999})(/[1-9][0-9]{0,999})?")
SHA256: Final = re.compile(r"[0-9a-f]{64}")
TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
LONGEST_TEXT: Final = 2000  # characters


def require(condition: bool, broken_rule: str) -> None:
    """Refuse an entry that breaks a rule.

    Raises:
        ValueError: the condition does not hold.
    """
    if not condition:
        raise ValueError(broken_rule)


def whole(text: object) -> int:
    """The non-negative integer that an entry holds as text."""
    if not isinstance(text, str) or not WHOLE.fullmatch(text):
        raise ValueError("not an integer")
    return int(text)


def fraction(text: object) -> Fraction:
    """The non-negative fraction that an entry holds as text; exponents are refused, which could take for ever."""
    if not isinstance(text, str):
        raise ValueError("not a fraction")
    return _cached_fraction(text)


@lru_cache(maxsize=4096)
def _cached_fraction(text: str) -> Fraction:
    if not FRACTION.fullmatch(text):
        raise ValueError("not a fraction")
    return Fraction(text)


def is_text(value: object, *, empty: bool = False) -> bool:
    """Whether a person's words may stand in the ledger: short and printable, so that no terminal obeys them."""
    return isinstance(value, str) and value.isprintable() and (empty or bool(value)) and len(value) <= LONGEST_TEXT


def rounded_up(value: Fraction, digits: int) -> Fraction:
    """The smallest multiple of 10^-digits that is not below `value`."""
    return Fraction(math.ceil(value * 10**digits), 10**digits)


def recordable(cost: Cost) -> Cost:
    """The cost as an entry can hold it, rounded up where sums of its fractions could grow without end.

    rho stays exact unless its denominator has more than 100 digits; delta0 is kept to 40 digits after the point.
    """
    rho = cost.rho if cost.rho.denominator < 10**100 else rounded_up(cost.rho, 100)
    if rho > 10**30 or any(loss > 10**30 for loss in cost.extra) or cost.delta0 > 1 - Fraction(1, 10**40):
        raise UsageError("a cost this large protects nobody: declare the release as not differentially private")
    return Cost(rho, cost.extra, rounded_up(cost.delta0, 40))


def recordable_cap(cap: Cap) -> Cap:
    """The cap, if an entry can hold it."""
    numbers = (cap.epsilon, cap.delta)
    if any(max(number.numerator, number.denominator) >= 10**100 for number in numbers):
        raise UsageError("epsilon and delta must be numbers of at most 100 digits")
    return cap


def check_texts(**texts: str) -> None:
    """Refuse words that may not stand in an entry.

    Raises:
        UsageError: one is empty, too long or not printable; only `requested_by` may be empty.
    """
    for name, value in texts.items():
        if not is_text(value, empty=name == "requested_by"):
            raise UsageError(f"{name} must be printable text of 1 to {LONGEST_TEXT} characters")


@lru_cache(maxsize=4096)
def _cached_cost(rho: str, delta0: str, extra: tuple[int | str, ...]) -> Cost:
    losses = tuple(loss if isinstance(loss, int) else whole(loss) for loss in extra)
    return Cost.from_json({"rho": str(fraction(rho)), "delta0": str(fraction(delta0)), "extra": list(losses)})


def cost_of(data: Any) -> Cost:
    """The cost that an entry holds: `Cost.to_json` after `canonical`."""
    if not data.keys() <= {"rho", "delta0", "extra"} or any(type(loss) is bool for loss in data.get("extra", ())):
        raise ValueError("not a cost")
    return _cached_cost(data["rho"], data["delta0"], tuple(data.get("extra", ())))


def cap_of(data: Any) -> Cap:
    """The cap that an entry holds: `Cap.to_json` after `canonical`."""
    for key in ("epsilon", "delta", "order", "delta0"):
        fraction(data[key])
    whole(data["nano"])
    return Cap.from_json(data)


def unit_of(data: Any) -> PrivacyUnit:
    """The unit that an entry holds."""
    if data.keys() != {"entity", "max_rows", "neighbours"} or type(data["max_rows"]) is not int:
        raise ValueError("not a unit")
    return _cached_unit(data["entity"], data["max_rows"], data["neighbours"])


@lru_cache(maxsize=64)
def _cached_unit(entity: str, max_rows: int, neighbours: Neighbours) -> PrivacyUnit:
    if not is_text(entity):
        raise ValueError("not an entity")
    return PrivacyUnit(entity=entity, max_rows=max_rows, neighbours=neighbours)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the ledger; `fields` holds what its kind adds."""

    seq: int
    time: str  # UTC, told by the writer's clock: informative, the order is `seq`
    kind: Kind
    fields: Mapping[str, Any]
    prev_hash: str
    hash: str


COMMON: Final = frozenset({"ledger_id", "seq", "time", "kind", "prev_hash", "tool_version"})
BASES: Final[tuple[Basis, ...]] = ("proven", "floating_point", "claimed")
FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "GENESIS": frozenset({"format", "population", "entity", "neighbours", "cap", "parents", "approvers"}),
    "RESERVE": frozenset(
        {
            *("job_id", "attempt", "purpose", "requested_by", "unit", "cost", "basis", "charge"),
            *("charged_before", "charged_after"),
        }
    ),
    "START": frozenset({"reservation"}),
    "COMMIT": frozenset({"reservation", "spent", "spends", "artifact_sha256"}),
    "FORFEIT": frozenset({"reservation"}),  # and nothing about why: an exception may depend on the rows
    "RELEASE_UNUSED": frozenset({"reservation", "charged_before", "charged_after"}),
    "AMEND": frozenset({"cap_before", "cap", "reason", "approver", "requested_by", "key", "signature"}),
    "DENY": frozenset({"refusal", "job_id", "purpose", "requested_by", "unit", "cost", "charge"}),
    "IMPORT_EXTERNAL": frozenset({"cost", "note", "charged_before", "charged_after"}),
    "ANCHOR": frozenset({"witness", "anchored_seq", "anchored_head"}),
}
LATER: Final[Mapping[str, frozenset[str]]] = {
    "GENESIS": frozenset({"approvers"}),
    "RESERVE": frozenset({"basis"}),
    "AMEND": frozenset({"requested_by", "key", "signature"}),
}
"""Fields that older entries lack; there they mean none, and a charge without a basis is no more than a claim."""
_FORMS: Final = {
    kind: (COMMON | fields, (COMMON | fields) - LATER.get(kind, frozenset())) for kind, fields in FIELDS.items()
}


def broken(seq: int, what: str) -> IntegrityError:
    """What is said of an entry that this program cannot have written."""
    return IntegrityError(
        f"the ledger was damaged or changed at entry {seq} ({what}): do not use it, and compare it with issued releases"
    )


def parse(seq: int, body: bytes, digest: str) -> tuple[Entry, str]:
    """The entry that a body holds, and its ledger's id; the body must be the canonical text of its content."""
    try:
        data = from_canonical(body)
        kind = data["kind"]
        require(data.keys() in _FORMS[kind], "fields")
        number, time, prev_hash, ledger_id = data["seq"], data["time"], data["prev_hash"], data["ledger_id"]
        require(type(number) is int and number == seq, "seq")
        texts = isinstance(time, str) and isinstance(prev_hash, str) and isinstance(ledger_id, str)
        require(texts and isinstance(kind, str) and isinstance(data["tool_version"], str), "text")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as wrong:
        raise broken(seq, "it is not an entry in canonical form") from wrong
    for key in COMMON:
        del data[key]
    return Entry(seq=seq, time=time, kind=kind, fields=data, prev_hash=prev_hash, hash=digest), ledger_id


@dataclass(frozen=True)
class Anchor:
    """The head of a ledger as somebody outside it keeps it: a witness against cutting, rewriting and restoring."""

    ledger_id: str
    seq: int
    head: str

    def __post_init__(self) -> None:
        if type(self.seq) is not int or self.seq < 0 or not SHA256.fullmatch(self.head):
            raise UsageError("an anchor is a ledger id, the number of an entry and 64 lower-case hexadecimal digits")

    def to_json(self) -> dict[str, Any]:
        """What a manifest says under "ledger"."""
        return {"ledger_id": self.ledger_id, "seq": self.seq, "head": self.head}

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Anchor:
        """The anchor that a release carries, from its manifest.json.

        Raises:
            UsageError: the manifest names no ledger head.
        """
        match manifest.get("ledger"):
            case {"ledger_id": str(ledger_id), "seq": int(seq), "head": str(head)}:
                return cls(ledger_id, seq, head)
            case _:
                raise UsageError("the manifest names no ledger head: give the manifest.json of a release")
