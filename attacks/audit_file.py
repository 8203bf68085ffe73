"""The file of an audit: what was found beside what it is about, so that a release can tell whether it is about that release.

`dpsynth audit --out` writes it and `dpsynth release --audit` reads it. A file is read into the objects that wrote it, and
must be what they would write again: verdicts, and the intervals and sentences of a self-test, are made anew and never
believed. What an item says (its status, its bounds) is believed where it is possible, and so are counts: that somebody made
them up, no file without a signature can show.

    2   unreadable, not such a file, of another version, schema, generator, setting or promise, or not whole
    7   class P3: the rows of real persons are in it
    1   the claim is contradicted, or the self-test raises too many false alarms
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any

from attacks.audit import ONE_RUN, WEAK_LEAK, Audit, AuditItem, Plan, SmallLeak, Status, games_of, plan_of
from attacks.canary import Claim
from attacks.planted import GRADED
from attacks.power import FACTORS, AuditPower, Caught, Detection, Power
from attacks.selftest import FACTOR, HONEST, PREFIX, SelfTest
from attacks.staging import stage_for
from dpsynth import SYNTHESIZERS, Contradicted, PrivacyRefusal, Schema, UsageError, __version__

FORMAT = "dpsynth.audit/1"
_LARGEST = 1e18  # no larger number can stand in evidence
_EXACT = re.compile(r"\d{1,400}(/\d{1,400})?")
_ROUNDING = 1e-9  # relative; another machine may compute an interval with another last digit
_MAKE_ANEW = "run `dpsynth audit` for this release"
_STATUS: Mapping[str, Status] = {"pass": "pass", "fail": "fail", "incomplete": "incomplete"}


@dataclass(frozen=True, kw_only=True)
class About:
    """What an audit is about, or a release: the two must be equal, but for what a self-test has none of.

    Args:
        schema: `Schema.digest` of the schema as a release takes it (`Schema.distrusted`).
        synthesizer: Name of the generator; empty where none was run.
        settings: Its settings by name, in words.
        epsilon, delta: What was promised, exact.
    """

    schema: str
    synthesizer: str
    settings: Mapping[str, str]
    epsilon: Fraction
    delta: Fraction

    @classmethod
    def of(
        cls, schema: Schema, *, synthesizer: str, settings: Mapping[str, str], epsilon: Fraction, delta: Fraction
    ) -> About:
        """About a generator with this schema, or about none."""
        return cls(
            schema=schema.distrusted().digest,
            synthesizer=synthesizer,
            settings=settings,
            epsilon=epsilon,
            delta=delta,
        )

    def to_json(self) -> dict[str, Any]:
        """For the file."""
        return {
            "schema": self.schema,
            "synthesizer": self.synthesizer,
            "settings": dict(self.settings),
            "epsilon": str(self.epsilon),
            "delta": str(self.delta),
        }


@dataclass(frozen=True, kw_only=True)
class AuditFile:
    """What one run of `dpsynth audit` found.

    Args:
        about: What it is about.
        made_on: The day of the run, UTC.
        version: Of dpsynth.
        fits: Runs of the generator that were asked for, over all games together; None where nobody asked.
        rows: Synthetic rows of each run; None for as many as a release has.
        audit, selftest: What was found; at least one of them.
    """

    about: About
    made_on: date
    fits: int | None
    rows: int | None
    audit: Audit | None
    selftest: SelfTest | None
    version: str = __version__

    def to_json(self) -> dict[str, Any]:
        """The result for machines: of the audit, with the self-test's beside it or in its place."""
        out = {} if self.audit is None else self.audit.to_json()
        if self.selftest is not None:
            out = self.selftest.to_json() if self.audit is None else out | {"selftest": self.selftest.to_json()}
        return out | {
            "schema": FORMAT,
            "about": self.about.to_json(),
            "made_on": self.made_on.isoformat(),
            "version": self.version,
            "asked": {"fits": self.fits, "rows": self.rows},
        }

    def require_about(self, release: About, schema: Schema, *, name: str, on: date) -> None:
        """Refuses a result that is not about a release, that is not whole, or that contradicts what is promised.

        Args:
            release: What the release is about.
            schema: Its schema, before anything is discovered.
            name: Of the file, for messages.
            on: The day of the release, UTC.
        Raises:
            UsageError: it is about something else, or an item is missing.
            Contradicted: the claim is contradicted, or the self-test raises too many false alarms.
        """
        mine = self.about
        if self.made_on > on:
            raise UsageError(f"{name} says that it was made after today: look at the clocks, and {_MAKE_ANEW}")
        if mine.schema != release.schema:
            raise UsageError(f"{name} is about another schema than this release: {_MAKE_ANEW}")
        if (mine.epsilon, mine.delta) != (release.epsilon, release.delta):
            raise UsageError(
                f"{name} is about a promise of epsilon {float(mine.epsilon):g} and delta {float(mine.delta):g}, and this "
                f"release promises {float(release.epsilon):g} and {float(release.delta):g}: {_MAKE_ANEW}"
            )
        if self.audit is not None:
            if mine.synthesizer != release.synthesizer:
                raise UsageError(
                    f"{name} is an audit of another synthesizer than {release.synthesizer}, which this release uses: "
                    f"{_MAKE_ANEW}"
                )
            if mine.settings != release.settings:
                raise UsageError(
                    f"{name} is an audit of {release.synthesizer} with other settings than this release has: {_MAKE_ANEW}"
                )
            self._require_whole(self.audit, schema, name)
        if self.selftest is not None and not _is_whole(self.selftest, schema):
            raise UsageError(f"{name} lacks a part of its self-test: {_MAKE_ANEW}")
        if self.audit is not None and self.audit.verdict == "fail":
            raise Contradicted(f"{name} contradicts what this release would promise: mend the program first")
        if self.selftest is not None and self.selftest.verdict == "fail":
            raise Contradicted(f"the self-test in {name} raises more false alarms than it allows itself: look for why")

    def _require_whole(self, audit: Audit, schema: Schema, name: str) -> None:
        """Refuses an audit that is not the whole plan for this schema and so many fits."""
        stage = stage_for(schema)
        with_counts = self.about.synthesizer in SYNTHESIZERS and not schema.is_open
        unread = ["noisy_counts"] if schema.is_open else []
        skip = [game for game in audit.plan.left_out if game not in unread]
        pairs, left_out = games_of(stage, skip=skip)
        plan = plan_of(pairs, fits=self.fits or 0, with_counts=with_counts, left_out=left_out + unread)
        attackers = ("noisy_counts", "rows") if with_counts else ("rows",)
        expected = {
            f"{game if game == ONE_RUN else f'worst_case.{game}'}.{who}": game
            for game in plan.fits
            for who in attackers
        }
        found = {item.id: item for item in audit.items}
        whole = (
            found.keys() == expected.keys()
            and len(found) == len(audit.items)
            and (audit.plan.fits, audit.plan.left_out) == (plan.fits, plan.left_out)
            and all(
                found[id].n == plan.fits[game]
                and found[id].claim == audit.claim.epsilon
                and math.isclose(found[id].confidence, plan.confidence(game), rel_tol=_ROUNDING)
                for id, game in expected.items()
            )
        )
        if not whole:
            raise UsageError(f"{name} is not the whole of an audit: {_MAKE_ANEW}")


def read(path: Path) -> AuditFile:
    """What `dpsynth audit --out` wrote.

    Raises:
        UsageError: it cannot be read, is no such file, or another version of dpsynth wrote it.
        PrivacyRefusal: real rows are behind it (class P3).
    """
    foreign = UsageError(f"{path.name} is not a result that `dpsynth audit --out` wrote")
    try:
        data = json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
        private = _is_private(data)
    except OSError:
        raise UsageError(f"{path.name} cannot be read: name a file that `dpsynth audit --out` wrote") from None
    except (ValueError, RecursionError):
        raise foreign from None
    if not isinstance(data, dict) or data.get("schema") != FORMAT:
        raise foreign
    if private:
        raise PrivacyRefusal(
            f"{path.name} comes from real rows (class P3) and must not enter what is shared: audit without --data"
        )
    if data.get("version") != __version__:
        raise UsageError(f"another version of dpsynth made {path.name}, and its program is not this one: {_MAKE_ANEW}")
    try:
        found = _file(data)
        same = _same(found.to_json(), data)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError):
        raise foreign from None
    if not same:
        raise foreign
    return found


def _is_private(data: object) -> bool:
    """Whether anything in it says that it is of another class than P0, or counts real persons."""
    if isinstance(data, list):
        return any(map(_is_private, data))
    if not isinstance(data, dict):
        return False
    return data.get("class", "P0") != "P0" or any(map(_is_private, data.values()))


def _file(data: Mapping[str, Any]) -> AuditFile:
    about, asked = data["about"], data["asked"]
    with_audit = "generator" in data
    planted = data.get("selftest") if with_audit else data
    found = AuditFile(
        about=About(
            schema=about["schema"],
            synthesizer=about["synthesizer"],
            settings=about["settings"],
            epsilon=_fraction(about["epsilon"]),
            delta=_fraction(about["delta"]),
        ),
        made_on=date.fromisoformat(data["made_on"]),
        fits=None if asked["fits"] is None else _count(asked["fits"]),
        rows=None if asked["rows"] is None else _count(asked["rows"]),
        audit=_audit(data) if with_audit else None,
        selftest=None if planted is None else _selftest(planted),
        version=data["version"],
    )
    for claim in [part.claim for part in (found.audit, found.selftest and found.selftest.audit) if part]:
        if claim.epsilon != float(found.about.epsilon) or not 0 <= claim.delta <= float(found.about.delta):
            raise ValueError("the claim is not the promise")
    return found


def _audit(data: Mapping[str, Any]) -> Audit:
    plan = Plan(
        fits={game: _count(fits) for game, fits in data["fits"].items()},
        left_out=tuple(data["left_out"]),
        errors={},
        attackers=1,
    )
    if not all(isinstance(game, str) for game in plan.left_out):
        raise ValueError("not the name of a game")
    claim = Claim.from_json(data["claim"])
    items = tuple(_item(item) for item in data["audits"])
    if data["persons"] or any(item.status != "fail" and item.low > claim.epsilon for item in items):
        raise ValueError("a bound beyond the claim contradicts it")
    if any(not 0 <= item.low <= item.ceiling * (1 + _ROUNDING) for item in items):
        raise ValueError("so many fits cannot show that")
    return Audit(generator=data["generator"], claim=claim, plan=plan, items=items)


def _item(data: Mapping[str, Any]) -> AuditItem:
    power = data["power"]
    return AuditItem(
        id=data["id"],
        privacy_class="P0",
        status=_STATUS[data["status"]],
        estimate=None if data["estimate"] is None else _number(data["estimate"]),
        low=_number(data["low"]),
        confidence=_share(data["confidence"]),
        n=_count(data["n"]),
        claim=_number(data["claim"]),
        ceiling=_number(data["ceiling"]),
        needs=None if data["needs"] is None else _count(data["needs"]),
        sentence=data["sentence"],
        power=None
        if power is None
        else SmallLeak(leak=WEAK_LEAK, seen=power["seen"] is True, low=_number(power["low"])),
    )


def _selftest(data: Mapping[str, Any]) -> SelfTest:
    fit, control = map(_count, data["persons"])
    if not min(fit, control):
        raise ValueError("nobody was attacked")
    titles = {planted.id: planted.title for planted in GRADED}
    detections, caught = [], []
    for item in data["audits"]:
        name, runs = item["id"].removeprefix(PREFIX), _count(item["n"])
        seen = round(_share(item["estimate"]) * runs)
        if name.startswith(FACTOR):
            caught.append(Caught(factor=float(name.removeprefix(FACTOR)), audits=runs, caught=seen))
        else:
            leaks = name != HONEST
            title = titles[name] if leaks else HONEST
            found = Detection(id=name, title=title, leaks=leaks, runs=runs, seen=seen, listed=_count(item["listed"]))
            detections.append(found)
    games, audit = data["games"], None
    if games is not None:
        audit = AuditPower(
            kind="fits",
            trials=_count(games["fits"]),
            claim=Claim.from_json(games["claim"]),
            confidence=_share(games["confidence"]),
            caught=tuple(caught),
        )
    suite = Power(
        detections=tuple(detections),
        fit=fit,
        control=control,
        rows=_count(data["rows"]),
        asked=(fit, control),
        seed=0,
        privacy_class="P0",
    )
    return SelfTest(suite=suite, audit=audit)


def _is_whole(found: SelfTest, schema: Schema) -> bool:
    """Whether each leak that can be planted with a schema was, as often as the others, and each mechanism was played."""
    stage = stage_for(schema)
    planted = [leak.id for leak in found.suite.leaks]
    factors = None if found.audit is None else [one.factor for one in found.audit.caught]
    return (
        planted == [one.id for one in GRADED if one.applies(stage)]
        and found.suite.honest != ()
        and len({leak.runs for leak in found.suite.leaks}) == 1
        and factors in (None, list(FACTORS))
    )


def _same(one: object, other: object) -> bool:
    """Whether two JSON values are equal, but for the last digits of numbers that are computed."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, str):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_ROUNDING, abs_tol=_ROUNDING)
    return type(one) is type(other) and one == other


def _refuse(_: str) -> object:
    raise ValueError("a number must be finite")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return out


def _fraction(value: str) -> Fraction:
    if not _EXACT.fullmatch(value):
        raise ValueError("not a fraction")
    return Fraction(value)


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= _LARGEST:
        raise ValueError("not a number")
    return float(value)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        raise ValueError("not a count")
    return value


def _share(value: object) -> float:
    if not 0 <= (number := _number(value)) <= 1:
        raise ValueError("not a share")
    return number
