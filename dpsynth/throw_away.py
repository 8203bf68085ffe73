"""The purse of rehearsals and benchmarks: a limit that no ledger knows.

Besides a `Reservation` it is the only thing that a `Curator` spends from.
"""

from __future__ import annotations

import threading

from dpsynth.errors import BudgetExceeded, PrivacyRefusal
from dpsynth.ledger import Basis
from dpsynth.privacy import Cost, PrivacyUnit
from dpsynth.randomness import Private


class ThrowAway(Private):
    """A limit in memory, in place of a reservation where no ledger is charged; refuses what would pass it.

    Good for one start. Anybody can make one and open a `Curator` on it. What that curator measures says so
    (`Measurement.throw_away`), and a model made of such measurements refuses `save`, so none becomes a release by the
    means of this library. It holds nobody back who copies numbers or rows out by hand: what is fitted on real rows is
    as private as they are, wherever it lies.
    """

    def __init__(self, limit: Cost, *, unit: PrivacyUnit) -> None:
        super().__init__()
        self._limit = limit
        self._unit = unit
        self._spent = Cost.zero()
        self._started = self._closed = False
        self._lock = threading.Lock()

    @property
    def unit(self) -> PrivacyUnit:
        return self._unit

    @property
    def spent(self) -> Cost:
        """What was spent so far."""
        return self._spent

    def start(self) -> None:
        self._here()
        with self._lock:
            if self._started:
                raise PrivacyRefusal("a throw-away reservation starts once: make a new one")
            self._started = True

    def require_started(self) -> None:
        self._here()
        if not self._started or self._closed:
            raise PrivacyRefusal("the throw-away reservation is not open: start it first, and end it last")

    def spend(self, cost: Cost, *, purpose: str, basis: Basis = "proven") -> None:
        self.require_started()
        with self._lock:
            total = self._spent + cost
            if not total.fits(self._limit):
                raise BudgetExceeded("this step costs more than is left of the rehearsal's budget: spend less on it")
            self._spent = total

    def close(self) -> None:
        """Nothing can be asked any more."""
        self._closed = True
