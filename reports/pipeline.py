"""The whole job: from a private table to a release that was attacked, judged and written, or to nothing at all.

The order is the point. What can be refused without looking at a row is refused first; then the budget is reserved;
only then is the first row read. What may be shared is complete before any attack on real rows runs, and nothing that
such an attack finds, or fails to find, can change a byte of it, the exit code or the messages.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from itertools import chain, cycle
from pathlib import Path

import numpy as np
import numpy.typing as npt

import attacks
import dpsynth
from attacks import About, AuditFile
from dpsynth import (
    Anchor,
    AttackCounts,
    Cap,
    Cost,
    Curator,
    DiscreteGaussian,
    IntegrityError,
    Ledger,
    Marginals,
    Model,
    PersonRecords,
    Records,
    Reservation,
    Schema,
    Synthesizer,
    Table,
    UsageError,
    discovery,
    reserve_all,
)
from dpsynth.counting.engines import checked_source
from dpsynth.fakes import check_fakes
from dpsynth.ledger import Entry
from dpsynth.models.graphical import check_constraints
from dpsynth.models.rows import RowsOnly
from dpsynth.persons import SHARE, UnitSizes
from dpsynth.privacy import Number, exact
from dpsynth.randomness import sampling_generator
from dpsynth.rehearsal import most_rows, rows_to_sample
from dpsynth.release import Release, Staging, check_free, commitment, write_json, write_manifest
from dpsynth.silence import no_warnings
from dpsynth.synthesizers import seasons
from dpsynth.synthesizers.registry import Choice, chosen_for, settings_of
from dpsynth.synthesizers.registry import synthesizer as synthesizer_named
from dpsynth.synthetic import Drawn, parts_of
from dpsynth.table import Part, write_parts
from dpsynth.trial import MOST_ROWS, check_rows
from reports import intoto
from reports.collect import ChargedAttack, Run, advised, audited, collect, with_review
from reports.collect.ledger import by_loss
from reports.evidence import Evidence
from reports.gate import Verdict
from reports.policy import Pinned, Policy
from reports.render.to_html import to_html
from reports.report import Report
from reports.safe_harbor import scan
from reports.utility import Tally, against_rows

Progress = Callable[[str], None]

ATTACK_SHARE = Fraction(1, 10)
_CONTROL_PERSONS = 20_000  # at most so many model rows serve to show that an attack has power
_LEAST_SHARE = Fraction(1, 1000)
_ATTACK_SEED = 20261121


@dataclass(frozen=True, kw_only=True)
class Published:
    """What came out.

    Args:
        folder: DIR, with `release/` and `internal/`.
        verdict: The release gate's, or None when no gate was asked for.
        choice: Which synthesizer was used, and why.
    """

    folder: Path
    verdict: Verdict | None
    choice: Choice


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a person chooses about one release; checked when made.

    Args:
        epsilon, delta: The promise, everything included.
        synthesizer: A name in the registry; None for the one that suits the schema.
        command: The program that the synthesizer `external` runs.
        rows: Synthetic rows; None takes the noisy number of rows of the fit side, or where another program makes the rows
            the schema's `rows_at_most`.
        holdout: Chance of each unit to be held back from the fit and used to attack the release, in [0, 1).
        attack_share: Part of the budget for publishing attack counts; None means 10 % with a holdout, else 0.
        discovery_share: Part of the budget for what the schema leaves open; None means 2 % an open column, at most 30 %.
        policy: The policy that the gate applies; None for no gate.
        purpose: Fixed words for the ledger and the report.
        job_id: A name for this job: the same name never runs twice.
        engine: Who holds and counts the rows: memory, duckdb or spark.
        audits: Audits of the synthesizer and self-tests that the report shall carry, by the names of their files.
    """

    epsilon: Number
    delta: Number
    synthesizer: str | None = None
    command: str | None = None
    rows: int | None = None
    holdout: Number = 0
    attack_share: Number | None = None
    discovery_share: Number | None = None
    policy: Policy | None = None
    purpose: str = "synthetic table"
    job_id: str | None = None
    engine: str = "memory"
    audits: Sequence[tuple[str, AuditFile]] = ()

    def __post_init__(self) -> None:
        check_rows(self.rows, most=MOST_ROWS)
        if not 0 <= self.held_back < 1:
            raise UsageError("--holdout must be at least 0 and below 1")
        if self.share and not _LEAST_SHARE <= self.share <= 1 - _LEAST_SHARE:
            raise UsageError("--attack-share must be 0, or at least 0.001 and at most 0.999")
        if self.share and not self.held_back:
            raise UsageError("--attack-share needs a --holdout: without persons held back there is nothing to compare")

    @property
    def promise(self) -> Cap:
        """The (epsilon, delta) and the cost that stands for it."""
        return Cap.of(self.epsilon, self.delta)

    @property
    def held_back(self) -> Fraction:
        """`holdout`, exact."""
        return exact(self.holdout, name="--holdout")

    def recipe(self, name: str) -> Synthesizer:
        """The synthesizer of that name, told the command and the number of rows."""
        return synthesizer_named(name, command=self.command, rows=self.rows)

    @property
    def share(self) -> Fraction:
        """`attack_share`, exact, with its default filled in."""
        if self.attack_share is None:
            return ATTACK_SHARE if self.held_back else Fraction(0)
        return exact(self.attack_share, name="--attack-share")

    def for_discovery(self, schema: Schema) -> Fraction:
        """`discovery_share`, exact, with its default filled in; none where nothing is open.

        Raises:
            UsageError: it is asked for where nothing is open, or leaves too little to learn with.
        """
        if self.discovery_share is None:
            wanted = discovery.share_for(schema)
        elif not schema.is_open:
            raise UsageError('--discovery-share needs a schema that says "discover" somewhere')
        else:
            wanted = exact(self.discovery_share, name="--discovery-share")
            if not _LEAST_SHARE <= wanted <= 1 - _LEAST_SHARE:
                raise UsageError("--discovery-share must be at least 0.001 and at most 0.999")
        if wanted and self.share + wanted > 1 - _LEAST_SHARE:
            raise UsageError(
                f"--attack-share ({float(self.share):g}) and --discovery-share ({float(wanted):g}) together must be at most "
                "0.999: leave something to learn with"
            )
        return wanted


def publish(
    data: Path | str,
    *,
    schema: Schema,
    ledger: Ledger,
    others: Sequence[Ledger] = (),
    settings: Settings,
    out: Path,
    progress: Progress = lambda stage: None,
) -> Published:
    """Makes one release.

    Args:
        data: The private table: a `.csv` or `.parquet` file, or the address of a database table (`dpsynth.sources`).
        ledger: The account of the population.
        others: Further accounts that are charged in full as well: of all parents, where the table was joined or derived.
        out: A path that does not exist; it appears whole or not at all.
        progress: Told the name of each stage; never a number from the data.
    Raises:
        UsageError, PrivacyRefusal, Contradicted: refused before the reservation; nothing was charged or written.
        IntegrityError: the ledger is damaged, or lacks the head that the policy names; nothing was charged or written.
        DpsynthError: afterwards; the charge stays.
    Privacy: (epsilon, delta)-DP for the schema's unit and neighbouring relation, of everything under `out/release`.
    """
    promise = settings.promise
    if settings.synthesizer is not None or settings.command is not None:
        settings.recipe(settings.synthesizer or "")
    check_free(out)
    with checked_source(data, schema, engine=settings.engine):
        return _published(
            data,
            schema=schema,
            ledgers=(ledger, *others),
            settings=settings,
            promise=promise,
            out=out,
            progress=progress,
        )


def _published(
    data: Path | str,
    *,
    schema: Schema,
    ledgers: Sequence[Ledger],
    settings: Settings,
    promise: Cap,
    out: Path,
    progress: Progress,
) -> Published:
    """The same, of a source that was checked."""
    schema.require_complete()
    schema = schema.distrusted()
    widest = schema.widest()
    if not widest.sizes:
        raise UsageError("the schema has no column that can be modelled: declare at least one")
    for_discovery = settings.for_discovery(schema)
    check_constraints(widest)
    check_fakes(schema, settings.rows or most_rows(schema))
    choice = chosen_for(widest)
    if settings.synthesizer is not None:
        choice = Choice(name=settings.synthesizer, reason="asked for")
    name = choice.name
    synthesizer = settings.recipe(name)
    synthesizer.check(widest)
    if settings.engine != "memory" and not isinstance(synthesizer, Marginals):
        raise UsageError(f"{name} learns from rows, not from counts: use --engine memory, or another synthesizer")
    searching = discovery.budget_for(
        schema,
        promise=promise,
        share=for_discovery,
        most_delta0=min(book.extract().cap.delta0 for book in ledgers),
    )
    carried = audited(
        settings.audits,
        about=About.of(
            schema,
            synthesizer=name,
            settings=settings_of(synthesizer) | discovery.setting(for_discovery),
            epsilon=promise.epsilon,
            delta=promise.delta,
        ),
        schema=schema,
        on=datetime.now(UTC).date(),
        beside=settings.share > 0,
        engine=settings.engine,
    )
    beside = settings.share + for_discovery
    unit_share = SHARE * (1 - beside) if schema.synthetic_units else Fraction(0)
    cycles = seasons.part_for(schema, synthesizer) * (1 - beside - unit_share)
    budget = synthesizer.cost(widest, promise=promise, share=1 - beside - unit_share - cycles)
    cost = budget + searching + promise.cost.share(settings.share + unit_share + cycles)
    anchors = _anchors(ledgers, settings.policy)
    found = [book.verify([anchor for anchor, holder in anchors if holder is book]) for book in ledgers]
    for problem in (problem for report in found for problem in report.problems):
        raise IntegrityError(f"nothing was charged: {problem}")
    created_at = datetime.now(UTC)
    progress("reserving the budget")
    with (
        no_warnings(),
        reserve_all(
            ledgers,
            cost,
            unit=schema.unit,
            purpose=settings.purpose,
            basis=synthesizer.implementation.basis,
            job_id=settings.job_id,
        ) as reservation,
        ExitStack() as held,
    ):
        with Staging(out) as staging:
            progress("reading")
            curator = held.enter_context(
                closing(Curator.open(data, schema, reservation, holdout=settings.held_back, engine=settings.engine))
            )
            discovered = discovery.discover(curator, budget=searching, progress=progress)
            schema = curator.schema
            model = synthesizer.fit(
                curator,
                budget=budget,
                progress=lambda step: progress(f"learning with {name}: {step}"),
            )
            model = seasons.with_cycles(model, curator, rho=promise.cost.rho * cycles)
            progress("sampling")
            sizes = UnitSizes.measured(curator, rho=promise.cost.rho * unit_share) if unit_share else None
            (staging.folder / "release").mkdir()
            rows = settings.rows or rows_to_sample(model, schema)
            written = _written(model, rows, schema, sizes, staging.folder / "release" / "synthetic.parquet")
            records = written.first.records
            charged: tuple[ChargedAttack, ...] = ()
            if settings.share:
                progress("counting attacks that may be published")
                charged = _charged(curator, model, records, rho=promise.cost.rho * settings.share)
            shown, *beside_it = by_loss([book.extract(running=reservation) for book in ledgers])
            run = Run(
                release_id=str(uuid.uuid4()),
                created_at=created_at,
                schema=schema,
                synthesizer=synthesizer.name,
                choice=choice.reason,
                rows=written.tally.rows,
                looked_at=len(records),
                purpose=settings.purpose,
                published="gate" if settings.policy else "no gate: this release must not be published",
                holdout=settings.held_back,
                promise=promise,
                cost=cost,
                implementation=synthesizer.implementation,
                spending=_spending(reservation),
                discovered=discovered,
                seq=reservation.seqs[shown.ledger_id],
                ledger=shown,
                other_ledgers=beside_it,
                ledger_verified=all(report.ok for report in found),
                anchors=[anchor for anchor, _ in anchors],
                distances=written.tally.distances(model.total),
                groups=written.tally.groups(model.total),
                attacks=charged,
                claim=model.claim if isinstance(model, RowsOnly) else None,
                unit_distance=None if sizes is None else sizes.distance(written.units),
                scan=scan(schema, records, on=created_at.date()),
                audited=carried,
            )
            progress("writing the release")
            evidence = collect(run).with_disclosure()
            verdict, manifest = _write_release(staging.folder, run, evidence, settings.policy, model)
            if sizes is not None:
                sizes.save(staging.folder / "release" / "model")
            _write_internal(
                staging.folder,
                evidence,
                settings.policy,
                curator,
                written.first,
                focal=_measured(model, schema),
                cost=cost,
                entries=next(b for b in ledgers if b.ledger_id == shown.ledger_id).entries()[: shown.seq + 1],
                progress=progress,
                created_at=created_at,
            )
            digest = _seal(staging.folder, manifest)
            if verdict is not None:
                intoto.write(Release.open(staging.folder), verdict.to_json())
            progress("putting it in place")
            staging.place(created_at)
        reservation.commit(digest)
    return Published(folder=out, verdict=verdict, choice=choice)


def _anchors(ledgers: Sequence[Ledger], policy: Policy | None) -> list[tuple[Anchor, Ledger]]:
    """The head that the policy wants to see, with the ledger that has to hold it; nothing where it names none.

    Raises:
        UsageError: no ledger is that of the people whom the policy is for.
    """
    pin = policy.ledger if policy is not None else Pinned()
    meant = [book for book in ledgers if pin.population in ("", book.population)]
    if not meant:
        raise UsageError(
            f"the policy is for the population {pin.population}, and this ledger is that of {ledgers[0].population}: name "
            "the right ledger or the right policy"
        )
    if pin.anchor is None:
        return []
    return [(pin.anchor, next((book for book in meant if book.ledger_id == pin.anchor.ledger_id), meant[0]))]


def _measured(model: Model, schema: Schema) -> tuple[tuple[str, ...], ...]:
    """The sets of columns that the model was built from, by name: anyone can read them off the release."""
    sources = [*range(len(schema.names)), *(made.column for made in model.coarse)]
    sets = {tuple(sorted({schema.names[sources[column]] for column in m.columns})) for m in model.measurements}
    return tuple(sorted(names for names in sets if len(names) > 1))


def _spending(reservation: Reservation) -> dict[str, Cost]:
    out: dict[str, Cost] = {}
    for purpose, cost in reservation.events:
        out[purpose] = out.get(purpose, Cost.zero()) + cost
    return out


# ---- attacks whose counts are charged ----------------------------------------------------------------------------


def _charged(curator: Curator, model: Model, records: Records, *, rho: Fraction) -> tuple[ChargedAttack, ...]:
    tests = attacks.qualified_tests(records)
    mechanism = DiscreteGaussian.calibrated(rho=rho, l2_squared=curator.unit.touched(len(tests) + 1))
    counts = curator.count_successes(tests, mechanism)
    rng = sampling_generator()
    made = _persons_of(model, rng=rng)
    found, control = attacks.charged_results(counts), attacks.charged_results(_leaky_control(made, counts))
    seen = attacks.sights(made, counts, rng=rng)
    return tuple(
        ChargedAttack(
            id=test.id,
            success=test.success,
            persons=counts.persons_fit + counts.persons_control,
            found=real,
            control=leaky,
            sights=seen[test.id],
        )
        for test, real, leaky in zip(tests, found, control, strict=True)
    )


def _persons_of(model: Model, *, rng: np.random.Generator) -> Callable[[int], PersonRecords]:
    """Persons with a row each who never were in anybody's data: fresh model rows.

    Where there is no model the synthetic rows serve, shuffled and cut into thirds, one after the other, so that no row
    plays two parts in one game; there are then no more of them than a third holds.
    """
    if not isinstance(model, RowsOnly):
        return lambda persons: _rows_as_persons(model.sample(persons, rng=rng).decode(rng=rng))
    order = rng.permutation(len(model.records))
    third = len(order) // 3  # of equal length: `sights` takes two of them row by row
    thirds = cycle([order[n * third : (n + 1) * third] for n in range(3)] if third else [order])
    return lambda persons: _rows_as_persons(model.records.take(next(thirds)[:persons]))


def _leaky_control(made: Callable[[int], PersonRecords], counts: AttackCounts) -> AttackCounts:
    """The counts that the same attacks would see if model rows had been copied into the synthetic table: class P1.

    Model rows play the persons, as many as the noisy counts say, and fresh model rows the control persons.
    """
    members, others = (
        made(min(max(1, persons), _CONTROL_PERSONS)) for persons in (counts.persons_fit, counts.persons_control)
    )
    tests = attacks.qualified_tests(members.records)
    return AttackCounts(
        tests=tuple(test.id for test in tests),
        hits_fit=np.array([test.succeeds(members).sum() for test in tests]),
        hits_control=np.array([test.succeeds(others).sum() for test in tests]),
        persons_fit=members.persons,
        persons_control=others.persons,
        sigma=counts.sigma,
    )


def _rows_as_persons(records: Records) -> PersonRecords:
    return PersonRecords(records=records, person=np.arange(len(records)), persons=len(records))


# ---- writing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Written:
    """The synthetic rows that a file holds by now.

    Args:
        first: The first part of them: all, unless there are very many.
        tally: All of them, counted.
        units: How many synthetic units have 1, 2, ... max_rows rows; shape (max_rows,).
    """

    first: Drawn
    tally: Tally
    units: npt.NDArray[np.int64]


def _written(model: Model, rows: int, schema: Schema, sizes: UnitSizes | None, path: Path) -> _Written:
    """Draws rows and writes them, part by part."""
    tally = Tally(schema, model.measurements, coarse=model.coarse)
    units = np.zeros(schema.unit.max_rows, dtype=np.int64)
    parts = parts_of(model, rows, schema=schema, sizes=sizes)
    first = next(parts)

    def counted() -> Iterator[Part]:
        for part in chain([first], parts):
            tally.add(part.cells)
            if part.dealt is not None:
                units[:] += part.dealt.counts(len(units))
            yield part.written(schema)

    write_parts(counted(), path)
    return _Written(first=first, tally=tally, units=units)


def _write_release(
    folder: Path,
    run: Run,
    evidence: Evidence,
    policy: Policy | None,
    model: Model,
) -> tuple[Verdict | None, dict[str, object]]:
    """Writes everything under `release/` but rows and manifest; returns the verdict and the manifest's facts."""
    target = folder / "release"
    shareable = evidence.shareable()
    model.save(target / "model")
    _write_text(target / "schema.toml", run.schema.to_toml())
    _write_text(target / "evidence.json", shareable.to_json())
    verdict = None
    if policy is not None:
        report = Report.of(policy, shareable, on=run.created_at.date())
        verdict = report.verdict
        _write_text(target / "policy.toml", policy.text)
        _write_text(target / "verdict.json", verdict.to_text())
        _write_text(target / "report.html", to_html(report))
    unit, ledger = run.schema.unit, run.ledger
    facts: dict[str, object] = {
        "release_id": run.release_id,
        "created_at": run.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "dpsynth": dpsynth.__version__,
        "table": run.schema.table,
        "unit": {"entity": unit.entity, "max_rows": unit.max_rows, "neighbours": unit.neighbours},
        "epsilon": str(run.promise.epsilon),
        "delta": str(run.promise.delta),
        "cost": run.cost.to_json(),
        "synthesizer": run.synthesizer,
        "rows": run.rows,
        "holdout": str(run.holdout),
        "published": run.published,
        "ledger": ledger.anchor.to_json() | {"population": ledger.population},
        "other_ledgers": [other.anchor.to_json() | {"population": other.population} for other in run.other_ledgers],
    }
    return verdict, facts


def _write_internal(
    folder: Path,
    evidence: Evidence,
    policy: Policy | None,
    curator: Curator,
    synthetic: Drawn,
    *,
    focal: Sequence[tuple[str, ...]],
    cost: Cost,
    entries: Sequence[Entry],
    progress: Progress,
    created_at: datetime,
) -> None:
    """Writes everything under `internal/`. Whatever the real rows do to the attacks or to a page, this returns."""
    target = folder / "internal"
    target.mkdir(mode=0o700)
    progress("attacking the release, for internal eyes")
    try:
        sample = curator.review_sample()
        found = None
        if sample.control.persons:
            found = attacks.run_suite(sample, synthetic.records, focal=focal, cost=cost, seed=_ATTACK_SEED)
            found = found if policy is None else advised(found, policy)
        utility = against_rows(synthetic.cells, Table.encode(sample.fit.records)) if len(sample.fit.records) else None
        pages = _internal_pages(
            with_review(evidence, found, utility=utility, schema=synthetic.cells.schema, entries=entries),
            policy,
            created_at,
        )
    except Exception as error:  # what fails on some rows must not change what anyone outside can see
        failed = f"the internal review failed ({type(error).__name__})"
        pages = {"evidence.json": with_review(evidence, None, failed=failed).to_json()}
    for name, text in pages.items():
        _write_text(target / name, text)


def _internal_pages(evidence: Evidence, policy: Policy | None, created_at: datetime) -> dict[str, str]:
    """The internal files by name."""
    pages = {"evidence.json": evidence.to_json()}
    if policy is not None:
        report = Report.of(policy, evidence, on=created_at.date(), edition="internal")
        if report.review is not None:
            pages["verdict.json"] = report.review.to_text()
        pages["report.html"] = to_html(report)
    return pages


def _seal(folder: Path, facts: dict[str, object]) -> str:
    """Commits to the internal files with a salt that stays inside, then writes the manifest; returns its digest."""
    salt = os.urandom(32)
    committed = commitment(folder / "internal", salt)
    write_json(folder / "internal" / "commitment.json", {"salt": salt.hex(), "commitment": committed})
    return write_manifest(folder / "release", facts | {"internal_commitment": committed})


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
