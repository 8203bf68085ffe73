"""Reservations: a charge that was paid, and the only thing to spend from."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, NoReturn, Self

from dpsynth.errors import AlreadyRan, BoundToProcess, BudgetExceeded, PrivacyRefusal, UsageError
from dpsynth.ledger.account import State
from dpsynth.ledger.entries import BASES, SHA256, Anchor, Basis
from dpsynth.privacy import Cost, PrivacyUnit

if TYPE_CHECKING:
    from dpsynth.ledger.ledger import Ledger


@dataclass(frozen=True)
class Hold:
    """One RESERVE entry that a reservation stands on."""

    ledger: Ledger
    seq: int


class Reservation:
    """A charge that was paid, and the only thing from which a curator may spend.

    A context manager. Between `start` and the end of the block raw rows may be read; what is spent is counted in
    memory against `limit`. A clean end appends COMMIT, an exception FORFEIT; an end without `start` gives the charge
    back. If the end cannot be recorded the charge stays, a clean end raises, and an exception goes on unchanged.

    Thread-safe. Bound to the process that made it; cannot be copied or pickled.
    """

    def __init__(
        self,
        holds: Sequence[Hold],
        anchors: Sequence[Anchor],
        *,
        limit: Cost,
        unit: PrivacyUnit,
        basis: Basis,
        job_id: str,
    ) -> None:
        """Use `Ledger.reserve` or `reserve_all`."""
        self.limit: Final = limit
        self.unit: Final = unit
        self.basis: Final = basis
        self.job_id: Final = job_id
        self._holds: Final = tuple(holds)
        self._anchors = list(anchors)
        self._events: list[tuple[str, Cost]] = []
        self._spent = Cost.zero()
        self._state: State = "reserved"
        self._started: set[Hold] = set()
        self._open = True
        self._artifact: str | None = None
        self._process: Final = os.getpid()
        self._lock: Final = threading.Lock()

    @property
    def seq(self) -> int:
        """Sequence number of the RESERVE entry (in the first ledger)."""
        return self._holds[0].seq

    @property
    def seqs(self) -> dict[str, int]:
        """Sequence number of the RESERVE entry, by ledger id."""
        return {hold.ledger.ledger_id: hold.seq for hold in self._holds}

    @property
    def state(self) -> State:
        """The last state that this object recorded, in every ledger."""
        return self._state

    @property
    def spent(self) -> Cost:
        """What was spent so far."""
        return self._spent

    @property
    def remaining(self) -> Cost | None:
        """What is left, where limit and spending are pure zCDP; None where a difference of curves has no meaning."""
        limit, spent = self.limit, self._spent
        if not (limit.is_zcdp and spent.is_zcdp):
            return None
        return Cost.zcdp(limit.rho - spent.rho, delta0=limit.delta0 - spent.delta0)

    @property
    def events(self) -> list[tuple[str, Cost]]:
        """Purpose and cost of everything spent, in order."""
        return list(self._events)

    @property
    def anchors(self) -> tuple[Anchor, ...]:
        """For each ledger the head after the last entry about this reservation: what a release carries away."""
        return tuple(self._anchors)

    @property
    def anchor(self) -> Anchor:
        """The anchor in the first ledger."""
        return self._anchors[0]

    def start(self) -> None:
        """Record that rows may be read from now on. Once, over all processes that hold the same job.

        Raises:
            AlreadyRan: the job was started before, here or elsewhere.
            BoundToProcess: this is another process.
            LedgerLocked, OperationError, IntegrityError: it could not be recorded, so do not read.
        """
        with self._mine():
            if self._state != "reserved":
                raise AlreadyRan(f"job {self.job_id} has started before and stays charged: use a new job id")
            for place, hold in enumerate(self._holds):
                self._anchors[place] = hold.ledger._start(hold.seq)
                self._started.add(hold)
            self._state = "started"

    def spend(self, cost: Cost, *, purpose: str, basis: Basis = "proven") -> None:
        """Count a step before it is computed.

        Args:
            basis: What the step's cost rests on.
        Raises:
            BudgetExceeded: it does not fit what is left of `limit`; nothing was counted.
            PrivacyRefusal: the reservation was not started, or the ledger was told that the charge rests on more.
            BoundToProcess: this is another process.
        """
        with self._mine():
            self._check_started()
            if BASES.index(basis) > BASES.index(self.basis):
                raise PrivacyRefusal(
                    f'the ledger was told that this charge is "{self.basis}", and this step is no more than "{basis}": '
                    f'reserve with basis="{basis}"'
                )
            total = self._spent + cost
            if not total.fits(self.limit):
                raise BudgetExceeded("this step costs more than is left of the reservation: spend less on it")
            self._spent = total
            self._events.append((purpose, cost))

    def commit(self, artifact_sha256: str) -> None:
        """Name the artifact, by the SHA-256 of its manifest, that the clean end of the block will record."""
        if not SHA256.fullmatch(artifact_sha256):
            raise UsageError("artifact_sha256 must be 64 lower-case hexadecimal digits")
        with self._mine():
            self._check_started()
            self._artifact = artifact_sha256

    def __enter__(self) -> Self:
        with self._mine():
            return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if os.getpid() != self._process:
            if error is None:
                raise _elsewhere()
            return  # a forked child unwinds: the end of the job is the parent's to record
        with self._lock:
            self._open = False
            whole = self._state == "started"
            end: State = "released" if not self._started else "committed" if whole and error is None else "forfeited"
            failures: list[Exception] = []
            recorded = True
            for hold in self._holds:  # every ledger gets its turn, whatever happens to another
                try:
                    recorded &= self._end(hold, end)
                except Exception as failure:
                    failures.append(failure)
            if recorded and not failures:
                self._state = end
        if failures and error is None:
            raise failures[0]
        if failures and error is not None:
            error.add_note(
                f"The end of job {self.job_id} could not be recorded either, it stays charged: {failures[0]}"
            )

    def _end(self, hold: Hold, end: State) -> bool:
        """Record the end in one ledger; False if the entry's fate was decided by another holder of the job."""
        if hold not in self._started:
            return hold.ledger._release(hold.seq)
        if end == "committed":
            hold.ledger._commit(hold.seq, self._spent, len(self._events), self._artifact)
        else:
            hold.ledger._forfeit(hold.seq)
        return True

    @contextmanager
    def _mine(self) -> Iterator[None]:
        """Refuse other processes and closed reservations, then keep other threads out."""
        if os.getpid() != self._process:
            raise _elsewhere()
        with self._lock:
            if not self._open:
                raise PrivacyRefusal(f"the reservation of job {self.job_id} is closed: reserve again")
            yield

    def require_started(self) -> None:
        """Refuse unless rows may be read now.

        Raises:
            PrivacyRefusal: the reservation was not started, or is closed.
            BoundToProcess: this is another process.
        """
        with self._mine():
            self._check_started()

    def _check_started(self) -> None:
        if self._state != "started":
            raise PrivacyRefusal(f"the reservation of job {self.job_id} was not started: call start() first")

    def __copy__(self) -> NoReturn:
        raise BoundToProcess("a reservation cannot be copied: pass the reservation itself")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise BoundToProcess("a reservation cannot be copied: pass the reservation itself")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise BoundToProcess("a reservation cannot be pickled: reserve in the process that does the work")


def _elsewhere() -> BoundToProcess:
    return BoundToProcess("this reservation belongs to the process that made it: reserve in the one that does the work")
