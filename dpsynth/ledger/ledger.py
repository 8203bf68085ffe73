"""Ledger: the account of one population; reserve_all: one charge to several."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Final, TypeVar

from dpsynth.errors import AlreadyRan, BudgetExceeded, IntegrityError, PrivacyRefusal, UnitMismatch, UsageError
from dpsynth.ledger import places, witness
from dpsynth.ledger.account import Account, LedgerExtract, refusal
from dpsynth.ledger.amendment import KIND, Amendment, is_same_person
from dpsynth.ledger.entries import (
    BASES,
    FORMAT,
    Anchor,
    Basis,
    Draft,
    Entry,
    broken,
    cap_of,
    check_texts,
    hash_of,
    parse,
    recordable,
    recordable_cap,
    rounded_up,
)
from dpsynth.ledger.reservation import Hold, Reservation
from dpsynth.ledger.store import TIMEOUT, Store, Transaction
from dpsynth.ledger.verification import VerifyReport, first_id, judge, missing, replay
from dpsynth.privacy import LARGEST_EPSILON, Cap, Cost, Neighbours, Number, PrivacyUnit, exact
from dpsynth.signing import PublicKey, SigningKey

T = TypeVar("T")


class Ledger:
    """The account of one population. `create` makes it, `open` verifies and opens it.

    Safe to use from many threads and after a fork: every call is a transaction of its own, and all writers queue at the
    store's lock, where one transaction both checks and appends.
    """

    def __init__(self, store: Store) -> None:
        """Use `open` or `create`."""
        self.store: Final = store
        self._account: Account | None = None  # verified so far; None: start again from the first entry
        self._seen: Anchor | None = None  # the newest head seen: history may grow from here, never change
        self._witnessed = False  # whether the newest head that was seen is noted outside the store

        def work(entries: Transaction) -> Account:
            account = self._caught_up(entries)
            entries.check()
            self._keep(account)
            return account

        account = store.run(work, write=False)
        self.ledger_id: Final = account.ledger_id
        self.population: Final = account.population
        self.entity: Final = account.entity
        self.neighbours: Final = account.neighbours
        self.parents: Final = account.parents

    @classmethod
    def open(cls, place: str | os.PathLike[str], *, anchors: Sequence[Anchor] = (), timeout: float = TIMEOUT) -> Ledger:
        """An existing ledger, its whole chain verified.

        Args:
            place: The file, or the address (`postgresql://...?ledger=NAME`).
            anchors: Heads kept elsewhere, which it has to contain.
            timeout: Seconds to wait, in this and every later call, for a lock that another process holds.
        Raises:
            UsageError: there is no such ledger, or the address is refused.
            IntegrityError: it is not a ledger, damaged, or an entry breaks the chain or a rule; or it does not contain
                an anchor, or the newest head that was noted on this machine.
            LedgerLocked, OperationError: another process holds it; the disk failed.
        """
        ledger = cls(places.existing(place, timeout=timeout))

        def work(account: Account) -> None:
            for anchor in anchors:
                if not account.contains(anchor):
                    raise IntegrityError(f"{ledger.store.place} is not to be used: {missing(account, anchor)}")

        ledger._look(work)  # also asks the witness, now that the id is known
        ledger._note()
        return ledger

    @classmethod
    def create(
        cls,
        place: str | os.PathLike[str],
        *,
        population: str,
        epsilon: Number,
        delta: Number,
        entity: str = "row",
        neighbours: Neighbours = "add_remove",
        parents: Sequence[Ledger] = (),
        approvers: Sequence[str] = (),
        timeout: float = TIMEOUT,
    ) -> Ledger:
        """A new ledger; the file (mode 0600) or the database's schema appears whole or not at all.

        Args:
            place: Where it shall lie: a file on a local disk, or an address (`postgresql://...?ledger=NAME`).
            population: The people it protects, by a name that outlives any file.
            epsilon, delta: The cap on everything that is ever released about one unit.
            entity, neighbours: The unit of privacy and the relation, as in the schema.
            parents: Ledgers of the populations that this one was derived or joined from; every release must then
                charge them too, through `reserve_all`.
            approvers: Public keys ("ed25519:BASE64"). With any, the cap is raised only by a signature of one of them,
                for ever: no entry adds, removes or replaces a key.
        Raises:
            UsageError: the file exists, or a value is out of range, or a text is no public key.
            OperationError: the disk failed.
        """
        check_texts(population=population, entity=entity)
        PrivacyUnit(entity=entity, max_rows=1, neighbours=neighbours)
        genesis: Draft = (
            "GENESIS",
            {
                "ledger_id": str(uuid.uuid4()),
                "format": FORMAT,
                "population": population,
                "entity": entity,
                "neighbours": neighbours,
                "cap": recordable_cap(Cap.of(epsilon, delta)).to_json(),
                "parents": [{"ledger_id": p.ledger_id, "population": p.population} for p in parents],
                "approvers": _keys(approvers),
            },
        )
        account = Account()
        row = account.row(genesis)
        account.take(row)
        ledger = cls(places.made(place, row, timeout=timeout))
        ledger._note()
        return ledger

    def __repr__(self) -> str:
        return f"Ledger({self.store.place!r}, population={self.population!r})"

    # -- reading

    @property
    def head(self) -> tuple[int, str]:
        """Sequence number and hash of the last entry."""
        anchor = self.anchor
        return anchor.seq, anchor.head

    @property
    def anchor(self) -> Anchor:
        """The head in the form in which a witness keeps it."""
        return self._look(lambda account: account.anchor)

    @property
    def cap(self) -> Cap:
        """The cap after all amendments."""
        return self._look(lambda account: account.cap)

    @property
    def is_witnessed(self) -> bool:
        """Whether the newest head seen is noted outside the ledger, so that going back behind it would be noticed."""
        return self._witnessed

    def entries(self) -> tuple[Entry, ...]:
        """All entries, the oldest first."""

        seen, noted = self._seen, witness.noted(self.ledger_id)

        def work(entries: Transaction) -> tuple[Entry, ...]:
            self._keep(self._caught_up(entries, seen, noted))
            return tuple(parse(seq, body, digest.decode())[0] for seq, body, digest in entries.rows())

        return self.store.run(work, write=False)

    def orphans(self) -> tuple[Entry, ...]:
        """The RESERVE entries that were neither closed nor given back; they stay charged."""
        unclosed = self._look(Account.unclosed)
        return tuple(entry for entry in self.entries() if entry.seq in unclosed)

    def extract(self, *, running: Reservation | None = None) -> LedgerExtract:
        """The totals, from one snapshot.

        Args:
            running: The caller's own reservation, which is charged but no orphan.
        """
        own = {hold.seq for hold in running._holds if hold.ledger.ledger_id == self.ledger_id} if running else set()

        def work(account: Account) -> LedgerExtract:
            charged = Cost.zero()
            for cost in (claim.cost for claim in account.claims.values() if claim.state != "released"):
                charged += cost
            for imported in account.imported:
                charged += imported or Cost.zero()
            unclosed = account.unclosed() - own
            bases = [c.basis for c in account.claims.values() if c.state != "released" and c.seq not in own]
            return LedgerExtract(
                ledger_id=account.ledger_id,
                seq=account.seq,
                head=account.head,
                population=account.population,
                entity=account.entity,
                neighbours=account.neighbours,
                cap=account.cap,
                charged_nano=account.nano,
                charged=charged,
                attempts=len(account.claims),
                denied=account.denied,
                orphans=len(unclosed),
                orphans_since=account.claims[min(unclosed)].time if unclosed else "",
                amendments=tuple(account.amendments),
                claimed=bases.count("claimed") + sum(cost is not None for cost in account.imported),
                floating_point=bases.count("floating_point"),
                imports=len(account.imported),
                imports_not_dp=account.imported.count(None),
                approvers=account.approvers,
                genesis_time=account.genesis_time,
                parents=tuple(ledger_id for ledger_id, _ in account.parents),
            )

        return self._look(work)

    def verify(self, against: Sequence[Anchor] = ()) -> VerifyReport:
        """As `inspect`, and whether the file still continues what this object has seen of it."""
        seen, noted = self._seen, witness.noted(self.ledger_id)
        return judge(*replay(self.store), against, seen=seen, noted=noted)

    @staticmethod
    def inspect(
        place: str | os.PathLike[str], against: Sequence[Anchor] = (), *, timeout: float = TIMEOUT
    ) -> VerifyReport:
        """What a ledger is worth, also one that is too damaged to open.

        Args:
            place: The file.
            against: Heads kept elsewhere, for example in the manifests of issued releases. Without them a chain that
                was cut short, recomputed or restored from a backup looks whole.
            timeout: Seconds to wait for a lock.
        Raises:
            UsageError: there is no such file.
            LedgerLocked, OperationError: another process holds it; the disk failed.
        """
        store = places.existing(place, timeout=timeout)
        noted = witness.noted(first_id(store))  # before the replay: what was noted by then must be in it
        return judge(*replay(store), against, noted=noted)

    @staticmethod
    def id_at(place: str | os.PathLike[str], *, timeout: float = TIMEOUT) -> str:
        """The id of the ledger at a place, by its first entry alone; "" where that is damaged.

        Raises:
            UsageError, LedgerLocked, OperationError: as `inspect`.
        """
        return first_id(places.existing(place, timeout=timeout))

    # -- writing

    def reserve(
        self,
        cost: Cost,
        *,
        unit: PrivacyUnit,
        purpose: str,
        basis: Basis = "proven",
        job_id: str | None = None,
        requested_by: str = "",
    ) -> Reservation:
        """Charge a whole release, durably, before its data is touched.

        Args:
            cost: Everything that the release may spend.
            unit: The unit and relation that the release protects; they must be the ledger's.
            purpose: Why, in words that owe nothing to the data.
            basis: What the cost rests on: "proven" for our own mechanisms with exact noise, "floating_point" for such with
                noise in floating-point arithmetic, "claimed" for another program's promise. Every later release on this
                ledger says so, because its sums are worth no more than what they add up.
            job_id: Names the job across retries. The same id with the same cost, unit, purpose and basis gets the same
                reservation without a second charge, until the job has started once. Default: a fresh one.
            requested_by: Who asked.
        Raises:
            BudgetExceeded, UnitMismatch: refused, and the refusal is in the ledger.
            AlreadyRan: the job has started before.
            UsageError: a text is not printable, the job id was used for other terms, or the ledger has parents
                (then use `reserve_all`).
            LedgerLocked, OperationError, IntegrityError: as `open`. The charge may then stand or not: try again with
                the same job id.
        Privacy: the filter adds up Renyi losses at the one order that the cap fixed when the ledger was made.
        """
        return reserve_all(
            [self], cost, unit=unit, purpose=purpose, basis=basis, job_id=job_id, requested_by=requested_by
        )

    def amend(
        self,
        epsilon: Number,
        *,
        reason: str,
        approver: str,
        requested_by: str = "",
        key: SigningKey | None = None,
        signature: str | None = None,
    ) -> Cap:
        """Raise the cap; returns the new one.

        Args:
            epsilon: The new cap, above the old one, at the same delta.
            reason: Printed in every later report.
            approver: The person who answers for it.
            requested_by: Who asked; another person.
            key: The approver's, where this ledger names approvers.
            signature: Instead of `key`: made elsewhere, of the text that `amendment` gives now for the same arguments.
        Raises:
            UsageError: epsilon is not higher, a text is empty or not printable, or a signature is given where the
                ledger names nobody who could vouch for it.
            PrivacyRefusal: one person asks and approves; or this ledger names approvers, and none of them signed this.
        """
        if key is not None and signature is not None:
            raise UsageError("give a key or a signature, not both")

        def decide(account: Account) -> Draft:
            asked = _amendment(account, epsilon, reason=reason, approver=approver, requested_by=requested_by)
            made = signature if key is None else key.sign(kind=KIND, body=asked.body)
            fields = {
                "cap_before": asked.before.to_json(),
                "cap": asked.cap.to_json(),
                "reason": reason,
                "approver": approver,
                "requested_by": requested_by,
            }
            return "AMEND", fields | {"key": _signer(account, asked, made), "signature": made or ""}

        entry = self._append(decide)
        assert entry is not None
        return cap_of(entry.fields["cap"])

    def amendment(self, epsilon: Number, *, reason: str, approver: str, requested_by: str = "") -> Amendment:
        """What an approver elsewhere has to sign for `amend`; it holds until the next entry of this ledger.

        Raises:
            UsageError, PrivacyRefusal: as `amend`.
        """

        def work(account: Account) -> Amendment:
            return _amendment(account, epsilon, reason=reason, approver=approver, requested_by=requested_by)

        return self._look(work)

    def import_external(self, *, cost: Cost | None, note: str) -> Entry:
        """Declare an earlier release of the same people; it is charged even where it passes the cap.

        Args:
            cost: Its cost for this ledger's unit and relation; None for a release that was not differentially
                private: that one has no number and leaves a mark instead.
            note: What was released, when, to whom.
        """
        check_texts(note=note)
        charged = None if cost is None else recordable(cost)

        def decide(account: Account) -> Draft:
            nano, delta0 = (charged.at(account.cap.order), charged.delta0) if charged else (0, Fraction(0))
            fields = {"cost": charged.to_json() if charged else None, "note": note}
            return "IMPORT_EXTERNAL", fields | account.sums(nano, delta0)

        entry = self._append(decide)
        assert entry is not None
        return entry

    def record_anchor(self, anchor: Anchor, *, witness: str) -> Entry:
        """Note that a head of this ledger was handed to a witness, so that `verify` can ask for it.

        Args:
            anchor: A head of this ledger, see `anchor`.
            witness: Who keeps the copy, or where it lies.
        Raises:
            UsageError: the anchor is not of this ledger.
        """
        check_texts(witness=witness)

        def decide(account: Account) -> Draft:
            if not account.contains(anchor):
                raise UsageError("the anchor names no entry of this ledger: take it from the ledger's own head")
            return "ANCHOR", {"witness": witness, "anchored_seq": anchor.seq, "anchored_head": anchor.head}

        entry = self._append(decide)
        assert entry is not None
        return entry

    # -- within the module

    def _look(self, work: Callable[[Account], T]) -> T:
        """What `work` says about the account as it stands on the disk now."""
        # before the snapshot: it must hold what was known by then
        seen, noted = self._seen, witness.noted(self.ledger_id)

        def read(entries: Transaction) -> T:
            account = self._caught_up(entries, seen, noted)
            try:
                return work(account)
            finally:
                self._keep(account)

        return self.store.run(read, write=False)

    def _append(self, decide: Callable[[Account], Draft | None]) -> Entry | None:
        """Check and insert in one write transaction; the entry is on the disk when this returns.

        Its head is noted with the witness after the commit: a crash in between leaves a note that is one entry older,
        while a note of an entry that was never committed would shut the ledger for ever.

        Args:
            decide: Gets the account under the write lock and returns the next entry, or None for none; it may raise.
        """
        seen, noted = self._seen, witness.noted(self.ledger_id)

        def work(entries: Transaction) -> Entry | None:
            account = self._caught_up(entries, seen, noted)
            draft = None
            try:
                draft = decide(account)
            finally:
                if draft is None:
                    self._keep(account)
            if draft is None:
                return None
            try:  # until the commit has succeeded, nothing may remember the entry
                row = account.row(draft)
                entry = account.take(row)
            except (IntegrityError, ValueError, TypeError) as unfit:
                raise UsageError("the ledger cannot record these values: use shorter texts and numbers") from unfit
            entries.append(row)
            self._keep(account)
            return entry

        entry = self.store.run(work, write=True)
        if entry is not None:
            self._note()
        return entry

    def _note(self) -> None:
        """Tell the witness the newest head seen."""
        seen = self._seen
        self._witnessed = seen is not None and witness.note(seen)

    def _keep(self, account: Account) -> None:
        """Remember an account that is as the disk is; until then it belongs to one transaction alone."""
        if self._seen is None or self._seen.seq <= account.seq:
            self._seen = account.anchor
        self._account = account

    def _caught_up(self, entries: Transaction, seen: Anchor | None = None, noted: Anchor | None = None) -> Account:
        """The account including what others appended since the last call, each new entry verified.

        No other thread has it until `_keep`: on a server, reading and writing threads work at the same time.

        Args:
            seen, noted: The newest heads known here before the transaction began, which the ledger has to contain.
        """
        account, self._account = self._account, None  # an interrupt leaves None, never a half-counted account
        if account is None or not _ends_at(entries, account.seq, account.head):
            account = Account()
        for row in entries.rows(after=account.seq):
            account.take(row)
        if account.seq < 0:
            raise broken(0, "it is missing")
        if seen is not None and not account.contains(seen):
            raise IntegrityError(
                f"{self.store.place} no longer holds entries that were seen in it: it was cut or replaced"
            )
        if noted is not None and not account.contains(noted):
            raise IntegrityError(
                f"{self.store.place} does not hold entry {noted.seq}, which was seen in it before: it was cut, rewritten or "
                "restored from a backup, so put the newest file back in its place"
            )
        return account

    def _claim(
        self, cost: Cost, unit: PrivacyUnit, purpose: str, basis: Basis, job_id: str, requested_by: str
    ) -> Anchor:
        """The RESERVE entry of a job, written now or, by a retried call, found."""
        cost = recordable(cost)
        found: list[Anchor] = []

        def decide(account: Account) -> Draft | None:
            earlier = account.jobs.get(job_id)
            if earlier is not None and earlier.state != "released":
                if earlier.state != "reserved":
                    raise AlreadyRan(f"job {job_id} has started before and stays charged: use a new job id")
                if (earlier.cost, earlier.unit, earlier.purpose, earlier.basis) != (cost, unit, purpose, basis):
                    raise UsageError(
                        f"job {job_id} was reserved with another cost, unit, purpose or basis: use a new job id"
                    )
                found.append(Anchor(account.ledger_id, earlier.seq, account.heads[earlier.seq]))
                return None
            request = {
                "job_id": job_id,
                "purpose": purpose,
                "requested_by": requested_by,
                "unit": {"entity": unit.entity, "max_rows": unit.max_rows, "neighbours": unit.neighbours},
                "cost": cost.to_json(),
                "charge": str(cost.at(account.cap.order)),
            }
            if not account.protects(unit):
                return "DENY", request | {"refusal": "unit"}
            if not account.cap.admits(account.nano, account.delta0, cost):
                refused.append(refusal(account, cost))
                return "DENY", request | {"refusal": "budget"}
            sums = account.sums(cost.at(account.cap.order), cost.delta0)
            return "RESERVE", request | {"attempt": len(account.claims) + 1, "basis": basis} | sums

        refused: list[str] = []
        entry = self._append(decide)
        if entry is None:
            return found[-1]
        if entry.kind == "RESERVE":
            return Anchor(self.ledger_id, entry.seq, entry.hash)
        if entry.fields["refusal"] == "unit":
            raise UnitMismatch(
                f"the ledger of {self.population} protects one {self.entity} under {self.neighbours}, not one "
                f"{unit.entity} under {unit.neighbours}: change the schema's unit or neighbours, or use another ledger"
            )
        raise BudgetExceeded(refused[-1])  # `decide` may have been called again

    def _start(self, seq: int) -> Anchor:
        """Append START; the write lock makes sure that this happens once for each reservation."""

        def decide(account: Account) -> Draft:
            claim = account.claims[seq]
            if claim.state == "released":
                raise AlreadyRan(f"job {claim.job_id} was given up by another holder: reserve it again")
            if claim.state != "reserved":
                raise AlreadyRan(f"job {claim.job_id} has started before and stays charged: use a new job id")
            return "START", {"reservation": seq}

        entry = self._append(decide)
        assert entry is not None
        return Anchor(self.ledger_id, entry.seq, entry.hash)

    def _commit(self, seq: int, spent: Cost, spends: int, artifact_sha256: str | None) -> None:
        """Append COMMIT of a reservation that the caller has started."""

        def decide(account: Account) -> Draft:
            delta0 = min(rounded_up(spent.delta0, 40), account.claims[seq].cost.delta0)
            used = {"nano": str(spent.at(account.cap.order)), "delta0": str(delta0)}
            fields = {"reservation": seq, "spent": used, "spends": spends, "artifact_sha256": artifact_sha256}
            return "COMMIT", fields

        self._append(decide)

    def _forfeit(self, seq: int) -> None:
        """Append FORFEIT of a reservation that the caller has started."""
        self._append(lambda account: ("FORFEIT", {"reservation": seq}))

    def _release(self, seq: int) -> bool:
        """Give a charge back; False if the job has started, or was given back, elsewhere."""

        def decide(account: Account) -> Draft | None:
            claim = account.claims[seq]
            if claim.state != "reserved":
                return None
            return "RELEASE_UNUSED", {"reservation": seq} | account.sums(-claim.charge, -claim.cost.delta0)

        return self._append(decide) is not None


def _keys(texts: Sequence[str]) -> list[str]:
    """Public keys as GENESIS holds them.

    Raises:
        UsageError: one is none, or stands there twice.
    """
    try:
        keys = [PublicKey.parse(text).text for text in texts]
    except ValueError as error:
        raise UsageError(f"this is no approver's public key: {error}") from None
    if len(set(keys)) < len(keys):
        raise UsageError("give each approver's key once")
    return keys


def _amendment(account: Account, epsilon: Number, *, reason: str, approver: str, requested_by: str) -> Amendment:
    """The amendment that these words ask for, after the present head."""
    check_texts(reason=reason, approver=approver, requested_by=requested_by)
    if is_same_person(approver, requested_by):
        raise PrivacyRefusal("a cap is raised by a second person: the one who asks cannot be the one who approves")
    wanted = exact(epsilon, name="epsilon")
    if wanted > LARGEST_EPSILON:  # not asked of entries: a ledger that was raised beyond it is not damaged
        raise UsageError(f"epsilon must be at most {LARGEST_EPSILON}")
    cap = recordable_cap(account.cap.raised(wanted))
    if float(cap.epsilon) <= float(account.cap.epsilon):  # no report could tell the two limits apart
        raise UsageError("the new limit is higher by less than a report can show: raise it by more")
    return account.amendment(cap, reason=reason, approver=approver, requested_by=requested_by)


def _signer(account: Account, amendment: Amendment, signature: str | None) -> str:
    """The approver's key that signed; "" where this ledger names no approvers and nobody signed."""
    if not account.approvers:
        if signature is not None:
            raise UsageError(
                "this ledger names no approvers, so a signature proves nothing in it: amend it without one"
            )
        return ""
    if signature is None:
        raise PrivacyRefusal(
            "the cap of this ledger is raised only by the signature of an approver whom it names: have one sign it"
        )
    key = amendment.signer(signature, account.approvers)
    if not key:
        raise PrivacyRefusal(
            "this is no signature of an approver of this ledger under this amendment at its present head: have one of them "
            "sign the text as it is now"
        )
    return key


def _ends_at(entries: Transaction, seq: int, head: str) -> bool:
    """Whether the store still holds the entry up to which it was verified."""
    row = entries.row(seq)
    return row is not None and row[2] == head.encode() and isinstance(row[1], bytes) and hash_of(row[1]) == head


def reserve_all(
    ledgers: Sequence[Ledger],
    cost: Cost,
    *,
    unit: PrivacyUnit,
    purpose: str,
    basis: Basis = "proven",
    job_id: str | None = None,
    requested_by: str = "",
) -> Reservation:
    """One reservation that charges several populations, as a release from joined tables must.

    All are charged or none: the first refusal gives the charges before it back. A crash in between leaves orphans,
    which stay charged; the same job id finds them again. Arguments and errors are those of `Ledger.reserve`.

    Raises:
        UsageError: no ledger, one ledger twice, or a parent of one of them is not among them.
    """
    check_texts(purpose=purpose, requested_by=requested_by)
    if basis not in BASES:
        raise UsageError(f"a charge rests on one of: {', '.join(BASES)}")
    job = str(uuid.uuid4()) if job_id is None else job_id
    check_texts(job_id=job)
    names = {ledger.ledger_id for ledger in ledgers}
    if not ledgers or len(names) < len(ledgers):
        raise UsageError("give each ledger that the release has to charge, once")
    for parent, population in (parent for ledger in ledgers for parent in ledger.parents):
        if parent not in names:
            raise UsageError(
                f"the table derives from population {population}: its ledger has to be charged too (one --ledger more, or "
                "reserve_all)"
            )
    holds: list[Hold] = []
    anchors: list[Anchor] = []
    try:
        for ledger in ledgers:
            anchors.append(ledger._claim(cost, unit, purpose, basis, job, requested_by))
            holds.append(Hold(ledger, anchors[-1].seq))
    except BaseException as refusal:
        for hold in holds:
            try:
                hold.ledger._release(hold.seq)
            except Exception as failure:
                refusal.add_note(f"A charge for job {job} could not be given back; it stays: {failure}")
        raise
    return Reservation(holds, anchors, limit=cost, unit=unit, basis=basis, job_id=job)
