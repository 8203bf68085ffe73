"""Longer audits of every registered synthesizer, and of the same with a mistake planted, as a dated table.

    nice python -m benchmarks.certified [--fits 2000] [--mistake-fits 400] [--out docs/certified.md]

The whole pipeline runs each time, from a data frame to synthetic rows, with fresh entropy (`dpsynth.Rehearsal`), on tables
made from a schema: nobody's data. Noisy counts and synthetic rows are attacked on the same fits. Each line is one audit;
its bounds hold with 99.9 % each. The command fails if an honest synthesizer is contradicted or a mistake is not.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from attacks.canary import CanaryResult, Claim, Conjunctions, NoisyCounts, play_all
from attacks.neighbours import worst_cases
from attacks.one_run import OneRunResult, audit_one_run
from benchmarks import mistakes
from dpsynth import SYNTHESIZERS, Column, Rehearsal, Schema, __version__

if TYPE_CHECKING:
    import pandas as pd

OUT = Path(__file__).parent.parent / "docs" / "certified.md"
DELTA = "1e-6"
NARROW, WIDE = (3, 2, 3, 2), (300, 300, 300)
ROWS, MOST_ROWS = 60, 3


def schema(sizes: Iterable[int], *, persons: bool) -> Schema:
    """A table of category columns, with up to three rows a person or with rows that stand for themselves."""
    columns = tuple(
        Column(name=f"c{i}", type="category", values=tuple(map(str, range(size))), basis="made up")
        for i, size in enumerate(sizes)
    )
    unit: dict[str, Any] = {"entity": "person", "unit_column": "who", "max_rows": MOST_ROWS} if persons else {}
    return Schema(table="made-up", columns=columns, **unit)


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is audited, and how.

    Args:
        mistake: What is planted; "" for the synthesizer as it is.
        audit: A pair of `worst_cases`, or "one run".
        epsilon: Of the claim. Small claims are contradicted by few fits only if much is wrong.
        plant: Makes the mistake, for a rehearsal.
        exact_rows: As many synthetic rows as rows in the file.
        times: So many times as many fits as usual, where less is wrong than elsewhere.
    """

    mistake: str = ""
    audit: str = "alone"
    epsilon: str = "8"
    persons: bool = False
    plant: Callable[[Rehearsal], AbstractContextManager[Any]] = lambda _: nullcontext()
    exact_rows: bool = False
    times: int = 1


HONEST = (
    *(Case(audit=audit, epsilon=epsilon) for epsilon in ("1", "8") for audit in ("alone", "nobody else", "torn")),
    Case(audit="crowd", persons=True),
    Case(audit="one run", epsilon="1"),
)
OF_NETWORKS = tuple(Case(epsilon=epsilon) for epsilon in ("1", "8"))
"""Networks take a second a fit, and their mistakes are others: `tests/statistical/attacking/test_network_mistakes.py`."""
PLANTED = (
    Case(mistake="noise / 10", plant=lambda _: mistakes.tenth_of_the_noise()),
    Case(mistake="noise / 10", audit="one run", epsilon="1", plant=lambda _: mistakes.tenth_of_the_noise()),
    Case(
        mistake="composition forgotten",
        plant=lambda r: mistakes.forgotten_composition(_rho(r), r.schema.unit),
        times=3,
    ),
    Case(mistake="domain from data", audit="nobody else", epsilon="1", plant=lambda _: mistakes.domain_from_data()),
    Case(mistake="domain from data", audit="one run", epsilon="1", plant=lambda _: mistakes.domain_from_data()),
    Case(
        mistake="a third of the sensitivity",
        plant=lambda _: mistakes.wrong_sensitivity(l2_squared=Fraction(1, 9)),
    ),
    Case(mistake="noise reused", plant=lambda _: mistakes.reused_noise(), times=6),
    Case(mistake="per row, not per person", persons=True, plant=lambda _: mistakes.per_row(MOST_ROWS)),
    Case(
        mistake="rows of a person not bounded",
        audit="crowd",
        persons=True,
        plant=lambda _: mistakes.rows_not_bounded(),
    ),
    Case(mistake="exact row count", epsilon="1", exact_rows=True),
)


def is_network(name: str) -> bool:
    """Whether a synthesizer trains on rows, and has no noisy counts to show."""
    return SYNTHESIZERS[name]().implementation.floating_point


def _rho(rehearsal: Rehearsal) -> Any:
    assert rehearsal.cost is not None
    return rehearsal.cost.rho


def results(name: str, case: Case, fits: int) -> dict[str, CanaryResult | OneRunResult]:
    """One audit, by attacker."""
    one_run = case.audit == "one run"
    table = schema(WIDE if one_run else NARROW, persons=case.persons)
    rehearsal = Rehearsal(table, synthesizer=name, epsilon=case.epsilon, delta=DELTA)
    claim = Claim(epsilon=rehearsal.epsilon, delta=rehearsal.delta, cost=rehearsal.cost)

    def run(frame: pd.DataFrame) -> Any:
        if case.exact_rows:
            count = len(frame)
            return Rehearsal(table, synthesizer=name, epsilon=case.epsilon, delta=DELTA, rows=count).run(frame)
        return rehearsal.run(frame)

    with case.plant(rehearsal):
        if one_run:
            return dict(audit_one_run(table, run, claim=claim))
        pair = next(pair for pair in worst_cases(table, rows=ROWS) if pair.name == case.audit)
        attackers: dict[str, Any] = {"synthetic rows": Conjunctions(pair)}
        if not is_network(name):
            attackers = {"noisy counts": NoisyCounts(pair)} | attackers
        return dict(play_all(pair, run, attackers, claim=claim, fits=case.times * fits))


def lines(name: str, case: Case, fits: int) -> Iterator[tuple[str, bool]]:
    """One line of the table for each attacker, and whether he contradicted the claim."""
    start = perf_counter()
    found = results(name, case, fits)
    each = (perf_counter() - start) / max(result.fits for result in found.values())
    for attacker, result in found.items():
        if isinstance(result, OneRunResult):
            counts = f"{result.best} of {result.guesses} guesses right"
            rho = mu = ""
        else:
            counts = f"{result.hits}, {result.false_alarms} of {result.trials}"
            rho, mu = f"{result.rho:.3f}", f"{result.mu:.2f}"
        cost = result.claim.cost
        claimed = f" ({float(cost.rho):.3f})" if cost is not None and cost.is_zcdp else ""
        cells = [
            case.mistake or "none",
            f"`{name}`",
            f"{case.epsilon}{claimed}",
            case.audit + (", persons" if case.persons else ""),
            attacker,
            str(result.fits),
            counts,
            f"{result.estimate:.2f}",
            f"{result.epsilon:.2f}",
            rho,
            mu,
            f"{result.ceiling:.2f}",
            "**contradicted**" if result.exceeds else "not contradicted" if result.conclusive else "too few fits",
        ]
        print(f"{each * 1e3:6.1f} ms a fit  {' | '.join(cells)}", file=sys.stderr, flush=True)
        yield "| " + " | ".join(cells) + " |", result.exceeds


HEAD = f"""# Certified audits of our own synthesizers

Made by `python -m benchmarks.certified` ({{fits}} fits an honest audit, {{mistake_fits}} a planted mistake) on {{date}},
dpsynth {__version__}, delta {DELTA}. Do not edit by hand.

Every line is one audit of the whole pipeline on tables made from a schema of at most 100 rows ("one run": 300 planted
persons), with fresh entropy. Counts are hits and false alarms of the fits that count. Lower bounds on epsilon (at delta)
and rho hold with 99.9 % each, for any mechanism; the one on mu assumes Gaussian noise and decides nothing. The estimate
is of epsilon at delta, from the same guesses. "Ceiling" is the epsilon that an attacker who never errs would have shown. "Not
contradicted" is no proof: nobody can certify an upper bound this way. Mistakes are caught if at least one of the audits in
their rows contradicts the claim. Networks show synthetic rows alone; what is planted in them stands in
`tests/statistical/attacking/test_network_mistakes.py`.

| mistake | synthesizer | epsilon (rho) | audit | attacker sees | fits | counts | estimate | epsilon ≥ | rho ≥ | mu ≥ | ceiling | claim |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="audit every synthesizer, honest and with mistakes planted")
    parser.add_argument("--fits", type=int, default=2_000)
    parser.add_argument("--mistake-fits", type=int, default=400)
    parser.add_argument("--synthesizers", nargs="+", default=list(SYNTHESIZERS), choices=list(SYNTHESIZERS))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    wrong: list[str] = []
    table: list[str] = []
    for name in options.synthesizers:
        for case in OF_NETWORKS if is_network(name) else HONEST:
            for line, contradicted in lines(name, case, options.fits):
                table.append(line)
                wrong += [line] if contradicted else []
        caught: dict[str, bool] = {}
        for case in () if is_network(name) else PLANTED:
            for line, contradicted in lines(name, case, options.mistake_fits):
                table.append(line)
                caught[case.mistake] = caught.get(case.mistake, False) or contradicted
        wrong += [f"{name}: {mistake} was not caught" for mistake, was in caught.items() if not was]
    head = HEAD.format(fits=options.fits, mistake_fits=options.mistake_fits, date=datetime.date.today().isoformat())
    options.out.write_text(head + "\n".join(table) + "\n", encoding="utf-8")
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
