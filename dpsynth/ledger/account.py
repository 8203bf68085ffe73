"""What the entries of a ledger add up to, and which entry may follow: one set of rules for writing and verifying."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Final, Literal, TypeAlias

from dpsynth.canonical import canonical
from dpsynth.errors import UsageError
from dpsynth.ledger.amendment import Amendment
from dpsynth.ledger.entries import (
    BASES,
    FORMAT,
    NO_HASH,
    SHA256,
    TIME,
    Anchor,
    Basis,
    Draft,
    Entry,
    broken,
    cap_of,
    cost_of,
    fraction,
    hash_of,
    is_text,
    parse,
    require,
    unit_of,
    whole,
)
from dpsynth.ledger.store import Row
from dpsynth.privacy import Cap, Cost, Neighbours, PrivacyUnit
from dpsynth.signing import PublicKey
from dpsynth.version import __version__

State: TypeAlias = Literal["reserved", "started", "committed", "forfeited", "released"]


@dataclass
class Claim:
    """One RESERVE entry and what became of it."""

    seq: int
    job_id: str
    cost: Cost
    charge: int  # nano-units at the cap's order
    unit: PrivacyUnit
    purpose: str
    basis: Basis
    time: str = ""  # of the entry, as its writer's clock told it
    state: State = "reserved"


@dataclass
class Account:
    """What the entries so far add up to. `take` is the only way to change it and refuses an illegal entry.

    An account that raised in `take` may be half changed and must be thrown away.
    """

    ledger_id: str = ""
    population: str = ""
    entity: str = ""
    neighbours: Neighbours = "add_remove"
    parents: tuple[tuple[str, str], ...] = ()  # (ledger id, population)
    approvers: tuple[str, ...] = ()  # public keys; where there are none, caps are raised without a signature
    genesis_time: str = ""
    heads: list[str] = field(default_factory=list)  # hash of every entry
    caps: list[Cap] = field(default_factory=list)  # the last one holds
    nano: int = 0  # charged, at the cap's order
    delta0: Fraction = Fraction(0)
    claims: dict[int, Claim] = field(default_factory=dict)
    jobs: dict[str, Claim] = field(default_factory=dict)  # the latest claim of each job id
    imported: list[Cost | None] = field(default_factory=list)  # None: not differentially private
    amendments: list[Mapping[str, Any]] = field(default_factory=list)
    deposits: list[tuple[Anchor, str]] = field(default_factory=list)  # heads known to lie elsewhere, and where
    denied: int = 0

    @property
    def seq(self) -> int:
        return len(self.heads) - 1

    @property
    def head(self) -> str:
        return self.heads[-1] if self.heads else NO_HASH

    @property
    def cap(self) -> Cap:
        return self.caps[-1]

    @property
    def anchor(self) -> Anchor:
        return Anchor(ledger_id=self.ledger_id, seq=self.seq, head=self.head)

    def contains(self, anchor: Anchor) -> bool:
        """Whether the entry that the anchor names is part of this history."""
        return anchor.ledger_id == self.ledger_id and anchor.seq <= self.seq and self.heads[anchor.seq] == anchor.head

    def unclosed(self) -> set[int]:
        """Reservations that nothing closed; seen from outside, running and crashed ones look the same."""
        return {claim.seq for claim in self.claims.values() if claim.state in ("reserved", "started")}

    def protects(self, unit: PrivacyUnit) -> bool:
        """Whether the unit is this ledger's; max_rows may differ, as each release bounds for itself."""
        return (unit.entity, unit.neighbours) == (self.entity, self.neighbours)

    def sums(self, nano: int, delta0: Fraction) -> dict[str, Any]:
        """What an entry that charges, or gives back, says about the totals before and after it."""
        before = str(self.delta0)
        after = str(self.delta0 + delta0) if delta0 else before
        return {
            "charged_before": {"nano": str(self.nano), "delta0": before},
            "charged_after": {"nano": str(self.nano + nano), "delta0": after},
        }

    def row(self, draft: Draft) -> Row:
        """The database row of a new entry."""
        kind, fields = draft
        body = {
            "ledger_id": self.ledger_id or fields.pop("ledger_id"),
            "seq": self.seq + 1,
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "kind": kind,
            "prev_hash": self.head,
            "tool_version": __version__,
        }
        text = canonical(body | fields)
        return self.seq + 1, text, hash_of(text).encode()

    def take(self, row: Row) -> Entry:
        """Check one row against the chain and the rules, and count it.

        Raises:
            IntegrityError: the row could not have been written by this program after the rows before it.
        """
        seq, body, digest = row
        if seq != self.seq + 1:
            raise broken(self.seq + 1, "it is missing")
        if not isinstance(body, bytes) or not isinstance(digest, bytes) or hash_of(body).encode() != digest:
            raise broken(seq, "its hash does not match its content")
        entry, ledger_id = parse(seq, body, digest.decode())
        if entry.prev_hash != self.head:
            raise broken(seq, "it does not follow from the entry before it")
        try:
            require((entry.kind == "GENESIS") == (seq == 0), "GENESIS stands first and only there")
            require(seq == 0 or ledger_id == self.ledger_id, "it belongs to another ledger")
            if entry.kind == "GENESIS":
                self._genesis(ledger_id, entry.time, entry.fields)
            else:
                _RULES[entry.kind](self, seq, entry.fields)
            if entry.kind == "RESERVE":
                self.claims[seq].time = entry.time
        except (UsageError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as wrong:
            raise broken(seq, f"it breaks a rule of its kind ({entry.kind})") from wrong
        self.heads.append(entry.hash)
        return entry

    def _genesis(self, ledger_id: str, time: str, fields: Mapping[str, Any]) -> None:
        require(fields["format"] == FORMAT, "unknown format")
        require(is_text(ledger_id) and is_text(fields["population"]) and is_text(fields["entity"]), "text")
        require(fields["neighbours"] in ("add_remove", "replace"), "neighbours")
        require(all(p.keys() == {"ledger_id", "population"} for p in fields["parents"]), "parents")
        require(all(is_text(name) for p in fields["parents"] for name in p.values()), "parents")
        self.ledger_id, self.population = ledger_id, fields["population"]
        self.entity, self.neighbours = fields["entity"], fields["neighbours"]
        self.parents = tuple((p["ledger_id"], p["population"]) for p in fields["parents"])
        approvers = fields.get("approvers", [])
        require(all(PublicKey.parse(key).text == key for key in approvers), "approvers")
        require(len(set(approvers)) == len(approvers), "approvers")
        require(bool(TIME.fullmatch(time)), "time")
        self.approvers, self.genesis_time = tuple(approvers), time
        self.caps.append(cap_of(fields["cap"]))

    def _reserve(self, seq: int, fields: Mapping[str, Any]) -> None:
        cost, unit, job_id = cost_of(fields["cost"]), unit_of(fields["unit"]), fields["job_id"]
        require(is_text(job_id) and is_text(fields["purpose"]), "text")
        require(is_text(fields["requested_by"], empty=True), "text")
        require(type(fields["attempt"]) is int and fields["attempt"] == len(self.claims) + 1, "attempts are counted")
        require(self.protects(unit), "unit")
        require(job_id not in self.jobs or self.jobs[job_id].state == "released", "a job is charged once")
        require(self.cap.admits(self.nano, self.delta0, cost), "the cap is passed")
        charge = cost.at(self.cap.order)
        require(whole(fields["charge"]) == charge, "charge")
        self._count(charge, cost.delta0, fields)
        basis = fields.get("basis", "claimed")
        require(basis in BASES, "basis")
        claim = Claim(seq, job_id, cost, charge, unit, fields["purpose"], basis)
        self.claims[seq] = self.jobs[job_id] = claim

    def _start(self, seq: int, fields: Mapping[str, Any]) -> None:
        self._move(fields, "reserved", "started")

    def _commit(self, seq: int, fields: Mapping[str, Any]) -> None:
        claim, spent = self._move(fields, "started", "committed"), fields["spent"]
        require(spent.keys() == {"nano", "delta0"}, "spent")
        require(whole(spent["nano"]) <= claim.charge, "spent more than reserved")
        require(fraction(spent["delta0"]) <= claim.cost.delta0, "spent more than reserved")
        require(type(fields["spends"]) is int and fields["spends"] >= 0, "spends")
        artifact = fields["artifact_sha256"]
        require(artifact is None or bool(SHA256.fullmatch(artifact)), "artifact")

    def _forfeit(self, seq: int, fields: Mapping[str, Any]) -> None:
        self._move(fields, "started", "forfeited")

    def _release_unused(self, seq: int, fields: Mapping[str, Any]) -> None:
        claim = self._move(fields, "reserved", "released")
        self._count(-claim.charge, -claim.cost.delta0, fields)

    def amendment(self, cap: Cap, *, reason: str, approver: str, requested_by: str) -> Amendment:
        """What an approver would sign to raise the cap after the present head."""
        return Amendment(
            population=self.population,
            after=self.anchor,
            before=self.cap,
            cap=cap,
            reason=reason,
            approver=approver,
            requested_by=requested_by,
        )

    def _amend(self, seq: int, fields: Mapping[str, Any]) -> None:
        before, after = cap_of(fields["cap_before"]), cap_of(fields["cap"])
        require(before == self.cap, "a cap only goes up, from the one that holds")
        key, signature = fields.get("key", ""), fields.get("signature", "")
        words = {name: fields.get(name, "") for name in ("reason", "approver", "requested_by")}
        amendment = self.amendment(after, **words)
        if self.approvers:
            require(key in self.approvers and amendment.signer(signature, [key]) == key, "signature")
        else:
            require(key == signature == "", "a signature that nothing vouches for")
        self.caps.append(after)
        epsilons = {"from_epsilon": str(before.epsilon), "to_epsilon": str(after.epsilon)}
        self.amendments.append({"seq": seq} | epsilons | words | {"key": key})

    def _deny(self, seq: int, fields: Mapping[str, Any]) -> None:
        cost, unit = cost_of(fields["cost"]), unit_of(fields["unit"])
        require(is_text(fields["job_id"]) and is_text(fields["purpose"]), "text")
        require(is_text(fields["requested_by"], empty=True), "text")
        require(whole(fields["charge"]) == cost.at(self.cap.order), "charge")
        fits = self.cap.admits(self.nano, self.delta0, cost)
        require(fields["refusal"] == ("budget" if self.protects(unit) else "unit"), "refusal")
        require(fields["refusal"] == "unit" or not fits, "denied what fits")
        self.denied += 1

    def _import_external(self, seq: int, fields: Mapping[str, Any]) -> None:
        cost = None if fields["cost"] is None else cost_of(fields["cost"])
        require(is_text(fields["note"]), "text")
        self._count(cost.at(self.cap.order) if cost else 0, cost.delta0 if cost else Fraction(0), fields)
        self.imported.append(cost)

    def _anchor(self, seq: int, fields: Mapping[str, Any]) -> None:
        anchored = fields["anchored_seq"]
        require(type(anchored) is int and 0 <= anchored < seq, "it names a later entry")
        require(fields["anchored_head"] == self.heads[anchored] and is_text(fields["witness"]), "anchor")
        self.deposits.append((Anchor(self.ledger_id, anchored, self.heads[anchored]), fields["witness"]))

    def _move(self, fields: Mapping[str, Any], before: State, after: State) -> Claim:
        require(type(fields["reservation"]) is int, "reservation")
        claim = self.claims[fields["reservation"]]
        require(claim.state == before, "order of kinds")
        claim.state = after
        return claim

    def _count(self, nano: int, delta0: Fraction, fields: Mapping[str, Any]) -> None:
        """Add a charge; the entry's own sums must agree."""
        expected = self.sums(nano, delta0)
        require(all(fields[key] == value for key, value in expected.items()), "sums")
        self.nano, self.delta0 = self.nano + nano, self.delta0 + delta0


_RULES: Final[Mapping[str, Callable[[Account, int, Mapping[str, Any]], None]]] = {
    "RESERVE": Account._reserve,
    "START": Account._start,
    "COMMIT": Account._commit,
    "FORFEIT": Account._forfeit,
    "RELEASE_UNUSED": Account._release_unused,
    "AMEND": Account._amend,
    "DENY": Account._deny,
    "IMPORT_EXTERNAL": Account._import_external,
    "ANCHOR": Account._anchor,
}


def refusal(account: Account, cost: Cost) -> str:
    """Why a cost does not fit; facts about the ledger only."""
    cap = account.cap
    needed, left = cost.at(cap.order), max(0, cap.nano - account.nano)
    what = f"{_percent(needed, cap.nano, up=True)} of its cap where {_percent(left, cap.nano, up=False)} is left"
    advice = "ask for less epsilon, or have the cap raised with dpsynth ledger amend"
    if needed <= left:
        what = f"delta {float(cost.delta0):.3g} where {float(cap.delta0 - account.delta0):.3g} is left"
        advice = (
            "ask for less delta, or for a release that takes none of it: declare what the schema leaves to discover"
        )
    return f"the ledger of {account.population} cannot pay for this, which needs {what}: {advice}"


def _percent(part: int, whole: int, *, up: bool) -> str:
    hundredths = Fraction(10_000 * part, whole)
    return f"{(math.ceil if up else math.floor)(hundredths) / 100:.2f} %"


@dataclass(frozen=True, kw_only=True)
class LedgerExtract:
    """The totals of a ledger at one entry; no purposes, no job ids, no names of requesters.

    Args:
        ledger_id, seq, head: The entry after which the totals hold; fit for an `Anchor`.
        cap: The cap after all amendments.
        charged_nano: Renyi loss charged at the cap's order, in nano-units; over the cap only through imports.
        charged: The charged costs added up: the lifetime loss of a person who took part in everything.
        attempts: Reservations ever made, released ones included.
        denied: Requests refused.
        orphans: Reservations that were neither closed nor given back: crashed, or running in this moment elsewhere.
        orphans_since: When the oldest of them was reserved (UTC, as its writer's clock told it); "" if there is none.
        amendments: seq, from_epsilon, to_epsilon, reason, approver, requested_by and key of each; the key is the public
            one that signed, "" if nobody did.
        claimed, floating_point: Charges that stay and rest on a claim that nobody here has proved (releases declared by
            hand among them), or on noise in floating-point arithmetic; the caller's own is not counted.
        imports: External releases declared; `imports_not_dp` of them without differential privacy.
        approvers: Public keys of those who may raise the cap; none where anyone who can write may.
        genesis_time: When the ledger was made (UTC, as its maker's clock told it).
        parents: Ids of the ledgers that every release of this one is charged to as well.
    """

    ledger_id: str
    seq: int
    head: str
    population: str
    entity: str
    neighbours: Neighbours
    cap: Cap
    charged_nano: int
    charged: Cost
    attempts: int
    denied: int
    orphans: int
    orphans_since: str
    amendments: tuple[Mapping[str, Any], ...]
    claimed: int
    floating_point: int
    imports: int
    imports_not_dp: int
    approvers: tuple[str, ...]
    genesis_time: str
    parents: tuple[str, ...] = ()

    @property
    def cap_epsilon(self) -> Fraction:
        return self.cap.epsilon

    @property
    def cap_delta(self) -> Fraction:
        return self.cap.delta

    @property
    def cap_nano(self) -> int:
        return self.cap.nano

    @property
    def order(self) -> Fraction:
        return self.cap.order

    @property
    def remaining_nano(self) -> int:
        """What a new release may still cost at the cap's order, in nano-units."""
        return max(0, self.cap.nano - self.charged_nano)

    @property
    def anchor(self) -> Anchor:
        return Anchor(self.ledger_id, self.seq, self.head)
