"""Other programs as synthesizers: what they claim is charged, and the report says whose claim it is.

A claim is about one row more or less. For a unit of several rows it grows by group privacy, so the program is told an
epsilon and a delta that are small enough for the whole promise to hold (`RowPromise.within`).
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from dpsynth.curator import Curator
from dpsynth.errors import UsageError
from dpsynth.external import Program, words_of
from dpsynth.models.rows import RowsOnly
from dpsynth.privacy import ORDERS, Cap, Cost, RowPromise
from dpsynth.schema import Schema
from dpsynth.synthesizers.base import Implementation, Progress, silent
from dpsynth.trial import check_rows

LONGEST = 24 * 3600.0
"""Seconds that a program may take in a release, unless told otherwise."""
RELEASES = 10
"""A claim takes this part of the delta that a cap sets aside: so many releases fit under one cap, if their epsilons do."""
SMARTNOISE = "smartnoise-synth 1.0.8"
SCRIPT = Path(__file__).parents[1] / "adapters" / "smartnoise.py"
ENVIRONMENT = ".venv-smartnoise"
PLACE = "DPSYNTH_SMARTNOISE"
"""Name of the variable that says where `make smartnoise` has put its environment, if not beside the packages."""


@dataclass(frozen=True, kw_only=True)
class External:
    """A program behind the protocol of `dpsynth.external`.

    Args:
        name: What it is called here.
        command: Its name and first arguments; empty until somebody says it.
        implementation: What is known of how it keeps its promise.
        pure: Whether its promise has no delta.
        fewest_columns: It cannot do with fewer.
        rows: Synthetic rows to ask for: a public number; None for the schema's `rows_at_most`.
        timeout: Seconds that a run may take.
    """

    name: str
    command: str
    implementation: Implementation
    pure: bool = False
    fewest_columns: int = 1
    rows: int | None = None
    timeout: float = LONGEST

    def check(self, schema: Schema) -> None:
        """Refuses what this program cannot do, or could do only after a look at the rows.

        Raises:
            UsageError: the program is not there, too few columns, constraints, or no public number of rows.
        """
        if not self.command:
            raise UsageError("--synthesizer external needs the program: say it with --command")
        words_of(self.command)
        if len(schema.sizes) < self.fewest_columns:
            raise UsageError(f"{self.name} needs at least {self.fewest_columns} columns: choose another --synthesizer")
        if schema.constraints:
            raise UsageError(
                f"{self.name} does not keep the schema's constraints: take them out, or choose one of ours"
            )
        self._wanted(schema)

    def _wanted(self, schema: Schema) -> int:
        check_rows(self.rows)
        rows = self.rows or schema.rows_at_most
        if rows is None:
            raise UsageError("the number of private rows is private: say with --rows how many the program shall write")
        return rows

    def cost(self, schema: Schema, *, promise: Cap, share: Fraction) -> Cost:
        """The cost of the weakest claim with which the whole promise still holds."""
        rest = promise.cost.share(1 - share)
        claim = RowPromise.within(
            schema.unit,
            order=promise.order,
            nano=promise.nano - rest.at(promise.order),
            delta0=promise.delta0 / RELEASES,
            pure=self.pure,
        )
        return claim.cost(schema.unit)

    def claimed(self, schema: Schema, *, epsilon: Fraction, delta: Fraction) -> Cost:
        """For an audit: the cost of the very (epsilon, delta) for a unit, with nothing lost in conversions."""
        return Cost.approximate(epsilon, 0 if self.pure else delta)

    def fit(self, curator: Curator, *, budget: Cost, progress: Progress = silent) -> RowsOnly:
        """Runs the program on the curator's rows, with the weakest claim that fits the budget."""
        schema, unit = curator.schema, curator.unit
        top = ORDERS[-1]  # where the loss of a claim is all but its epsilon
        claim = RowPromise.within(unit, order=top, nano=budget.at(top), delta0=budget.delta0, pure=self.pure)
        if not claim.cost(unit).fits(budget):
            raise ValueError("the budget of another program must be the cost of a claim")
        program = Program(
            self.command,
            schema.released(),
            epsilon=claim.epsilon,
            delta=claim.delta,
            rows=self._wanted(schema),
            timeout=self.timeout,
        )
        progress("running the program")
        wrote = curator.ask(program)
        return RowsOnly(schema=schema, records=type(wrote)(schema, wrote.columns), claim=claim.of_unit(unit))


@dataclass(frozen=True, kw_only=True)
class SmartNoise(External):
    """One of SmartNoise's synthesizers, through `dpsynth/adapters/smartnoise.py` in an environment of its own."""

    def check(self, schema: Schema) -> None:
        """Refuses, too, where that environment is missing."""
        if not python().is_file():
            raise UsageError(f"{self.name} needs SmartNoise: run `make smartnoise`, or set {PLACE} to its environment")
        super().check(schema)


def python() -> Path:
    """The interpreter of SmartNoise's environment."""
    beside = Path(__file__).parents[2] / ENVIRONMENT
    return Path(os.environ.get(PLACE) or beside) / "bin" / "python"


ANY = Implementation(
    noise="not known: another program makes it; taken for floating-point arithmetic",
    selection="not known",
    randomness="not known; the program is given a fresh seed from the system's entropy, which is not kept",
    floating_point=True,
    claimed_by="the program that was named with --command",
)

_OPENDP = "Gaussian noise of OpenDP around 0, then added to float64 counts"
_DRAWS = "NumPy's generator and a floating-point softmax"
_OPENDP_S = "OpenDP's own for its noise; NumPy's, seeded by the system, for the rest"
_ROWS_FIRST = (
    "trains on real rows that are chosen by exact, uncharged category frequencies (data_sampler.py:75-80, 160-168)"
)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of one of SmartNoise's methods (docs/smartnoise.md).

    Args:
        noise, selection, randomness: As in `Implementation`.
        violations: The documented ways in which it breaks its promise.
    """

    noise: str
    selection: str
    randomness: str
    violations: tuple[str, ...] = ()


FACTS: dict[str, Facts] = {
    "mst": Facts(
        noise=_OPENDP,
        selection=_DRAWS,
        randomness=_OPENDP_S,
        violations=("estimates from the exact number of rows, which it takes for public (mst/mst.py:113, 126, 191)",),
    ),
    "aim": Facts(noise=_OPENDP, selection=_DRAWS, randomness=_OPENDP_S),
    "mwem": Facts(
        noise="Laplace noise of OpenDP around 0, then added to float64 counts",
        selection="Python's and NumPy's generators and floating-point sums of exponentials",
        randomness="OpenDP's own for its noise; NumPy's and Python's, seeded by the system, for the rest",
        violations=(
            "starts and scales from the exact number of rows, uncharged (mwem.py:535, 657)",
            "draws anew, up to ten times and uncharged, when it selects what it has measured (mwem.py:611-627)",
        ),
    ),
    "pacsynth": Facts(
        noise="floating-point noise of pac-synth 0.0.8",
        selection="thresholds on noisy counts, in floating point",
        randomness="pac-synth's own, which is compiled and was not read",
    ),
    "patectgan": Facts(
        noise="Laplace noise on the votes of one teacher, NumPy's generator",
        selection="none",
        randomness="NumPy's, seeded by the system, for its noise and its choice of rows; torch's, seeded with 0 by the "
        "program itself, for the networks and what goes into them",
        violations=(
            "all PATE teachers, and the student, are one network, which is trained on real rows without noise "
            "(pytorch/nn/patectgan.py:252, 255)",
            f"{_ROWS_FIRST}, and conditions each synthetic row on a real one (patectgan.py:532, data_sampler.py:140-146)",
            "seeds torch with 0, so that anyone can draw again what goes into the networks, though not the noise on the "
            "votes (patectgan.py:33-34)",
            "stops after the round that passes the budget, and counts votes of real rows in its data-dependent bound "
            "(patectgan.py:304-315, 432)",
        ),
    ),
    "dpctgan": Facts(
        noise="Gaussian noise of Opacus 0.14 on gradients, in floating point, torch's generator",
        selection="none",
        randomness="torch's, seeded by Opacus with 64 bits from the system, for its noise; NumPy's, seeded by the system, "
        "for its choice of rows",
        violations=(
            f"{_ROWS_FIRST}, and generates from those frequencies (dpctgan.py:493)",
            "batches of fixed size, drawn with replacement within categories, are accounted for as Poisson samples "
            "(dpctgan.py:282-290, 352)",
            "stops after the epoch that passes the budget (dpctgan.py:321-335)",
        ),
    ),
}


def smartnoise(method: str) -> SmartNoise:
    """SmartNoise's synthesizer of that name, with its default settings."""
    facts = FACTS[method]
    return SmartNoise(
        name=f"smartnoise-{method}",
        command=shlex.join([str(python()), str(SCRIPT), method]),
        implementation=Implementation(
            noise=facts.noise,
            selection=facts.selection,
            randomness=facts.randomness,
            floating_point=True,
            known_violations=facts.violations,
            claimed_by=SMARTNOISE,
        ),
        pure=method == "mwem",
        fewest_columns=2 if method in ("mst", "aim") else 1,
    )
