"""Policies: rules about evidence, read from TOML and checked strictly before anything is judged.

A policy is an organisation's choice, with a reason for each rule. Which verdict outranks which, and what always needs a
person, is code (`reports.gate`) and not for a policy to say. A rule of the release stage can only be about a path
whose declared classes are P0 to P2; that is checked here, and once more when a leaf is judged.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

from dpsynth.errors import UsageError
from dpsynth.ledger import Anchor
from dpsynth.signing import PublicKey
from reports.paths import LARGEST, NUMERIC, SHAREABLE, declared, fits_kind, is_internal, is_number

Stage: TypeAlias = Literal["release", "review"]
Op: TypeAlias = Literal["at_most", "at_least", "equals", "one_of"]
Side: TypeAlias = Literal["low", "high", "estimate"]
Threshold: TypeAlias = bool | int | float | str | tuple[str, ...]

SCHEMA: Final = "dpsynth.policy/1"
OPS: Final[tuple[Op, ...]] = ("at_most", "at_least", "equals", "one_of")
COVERABLE: Final = frozenset(
    {
        "unit.person",
        "domain.declared",
        "domain.source",
        "guarantee.covered",
        "implementation.exact_noise",
        "guarantee.claimed",
        "implementation.sound",
        "implementation.known",
        "ledger.all_dp",
        "ledger.all_proven",
        "ledger.all_exact",
        "ledger.pinned",
        "ledger.amended",
    }
)
"""Checks in code whose finding a person may accept, where a policy says so by name. A release made without a gate is not
among them: it says of itself that it must not be published."""
NEVER_WAIVED: Final = frozenset(
    {"ledger.verified", "disclosure.edition_ok", "guarantee.definition", "audit.epsilon_lower_bound"}
)
"""Evidence about which no rule can be waived, whatever a policy says: without it no other number means anything."""
_MOST_DAYS: Final = 36_525  # a hundred years
ANNEXES: Final = ("dpia", "hipaa-expert", "safe-harbor", "ema-hc", "hazards", "iso27559", "registry", "questions")
"""Annexes of the report that a policy can ask for, in the order in which they stand there."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One threshold for one path.

    Args:
        id: Its name, unique in the policy.
        evidence: The path that it judges.
        stage: "release" reads P0 to P2 only; "review" may read P3.
        op, threshold: What must hold of the value.
        side: Which end of an interval is judged; None means the unfavourable one, or the value when there is none.
            The favourable end makes a rule that can only fail a release, never pass one.
        reason: Why the threshold is what it is; printed in the report.
    """

    id: str
    evidence: str
    stage: Stage
    op: Op
    threshold: Threshold
    side: Side | None
    reason: str

    @property
    def is_fail_only(self) -> bool:
        """Whether the favourable end is judged: such a rule may fail a release and never passes one."""
        return (self.op, self.side) in (("at_most", "low"), ("at_least", "high"))


@dataclass(frozen=True, kw_only=True)
class Human:
    """A decision that only a person can make, and must have signed.

    Args:
        role, statement: Who decides what.
        keys: The public keys that may sign it, each of which is enough; without one nobody can.
        covers: Findings that need a person, by the id of their rule or check, which this decision also accepts.
    """

    role: str
    statement: str
    keys: tuple[PublicKey, ...] = ()
    covers: tuple[str, ...] = ()

    @property
    def rule_id(self) -> str:
        """The name of the rule that asks for it."""
        return f"human.{self.role}.{self.statement}"


@dataclass(frozen=True, kw_only=True)
class Waiver:
    """A rule that may be broken for a while, once its approver has signed.

    Args:
        rule: The id of a rule of the release stage.
        reason: Why; printed in the report.
        approver: The role that has to sign.
        granted, expires: The first and the last day on which it holds.
    """

    rule: str
    reason: str
    approver: str
    granted: date
    expires: date

    @property
    def statement(self) -> str:
        """What the approver signs."""
        return f"waiver.{self.rule}"


@dataclass(frozen=True, kw_only=True)
class Waivers:
    """Whether, by whom and for how long a rule may be waived, which rules never, and which rules are.

    Args:
        keys: The public keys that may sign for an approver, by role.
        rules: The waivers.
    """

    allowed: bool = False
    max_days: int = 0
    approvers: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    keys: tuple[tuple[str, tuple[PublicKey, ...]], ...] = ()
    rules: tuple[Waiver, ...] = ()

    def keys_of(self, role: str) -> tuple[PublicKey, ...]:
        """The keys that may sign for a role."""
        return dict(self.keys).get(role, ())


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """Which ledger holds the budget of the population that the policy is for.

    Args:
        required: Whether a policy that names no ledger leaves that for a person to decide.
        id, population: The ledger and whose it is; both or neither, empty where the policy names none.
        anchor: A head of that ledger that every release has to lie behind; None where the policy names none.
        amenders: The public keys that may raise its limit; without one every raise is for a person to accept.
    """

    required: bool = False
    id: str = ""
    population: str = ""
    anchor: Anchor | None = None
    amenders: tuple[PublicKey, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A checked policy; `text` is the file as it was written, and the digest is the file's. `signers` may sign releases.

    `ledger` says which ledger a release has to be charged to. `catalog` names the catalogues of controls that the report shows, `annexes` its annexes.

    Use `Policy.load` or `Policy.parse`.
    """

    name: str
    version: str
    reason: str
    catalog: tuple[str, ...]
    annexes: tuple[str, ...]
    rules: tuple[Rule, ...]
    human: tuple[Human, ...]
    waivers: Waivers
    signers: tuple[PublicKey, ...]
    ledger: Pinned
    text: str

    @classmethod
    def load(cls, name_or_path: str | Path) -> Policy:
        """A policy from a file, or one that ships with the product, by its name.

        Raises:
            UsageError: there is no such policy, or it breaks a rule; the message says which.
        """
        if isinstance(name_or_path, str) and name_or_path in shipped():
            return cls.parse((files("reports") / "policies" / f"{name_or_path}.toml").read_text(encoding="utf-8"))
        try:
            text = Path(name_or_path).read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError, ValueError):
            names = ", ".join(shipped())
            raise UsageError(f"no policy can be read there: name a TOML file or one of {names}") from None
        return cls.parse(text)

    @classmethod
    def parse(cls, text: str) -> Policy:
        """A policy from TOML text.

        Raises:
            UsageError: it is not TOML, a key is unknown or missing, or a value is not allowed.
        """
        try:
            data = tomllib.loads(text)
        except (ValueError, RecursionError):  # ValueError: also a whole number of thousands of digits
            raise UsageError("the policy is not valid TOML") from None
        top = _Section(data, "the policy")
        top.known(
            "schema", "name", "version", "reason", "catalog", "annexes", "signers", "ledger", "rule", "human", "waivers"
        )
        if top.text("schema") != SCHEMA:
            raise UsageError(f'the policy must say schema = "{SCHEMA}"')
        rules = tuple(_rule(section) for section in top.tables("rule"))
        ids = [rule.id for rule in rules]
        if not rules:
            raise UsageError("the policy has no rule, and would judge nothing")
        if len(set(ids)) != len(ids):
            raise UsageError("two rules of the policy have the same id")
        human = tuple(_human(section, ids) for section in top.tables("human"))
        if len({(asked.role, asked.statement) for asked in human}) != len(human):
            raise UsageError("the policy asks the same role for the same statement twice")
        waivers = _waivers(top.table("waivers"), rules)
        _check_hands(human, waivers)
        annexes = top.texts("annexes")
        if not set(annexes) <= set(ANNEXES):
            raise UsageError(f"the policy: annexes are some of {', '.join(ANNEXES)}")
        return cls(
            name=top.name("name"),
            version=top.text("version"),
            reason=top.text("reason"),
            catalog=top.texts("catalog"),
            annexes=tuple(name for name in ANNEXES if name in annexes),
            rules=rules,
            human=human,
            waivers=waivers,
            signers=top.keys("signers"),
            ledger=_pinned(top.table("ledger")),
            text=text,
        )

    def stage(self, stage: Stage) -> tuple[Rule, ...]:
        """The rules of one stage, in the order of the file."""
        return tuple(rule for rule in self.rules if rule.stage == stage)

    @property
    def digest(self) -> str:
        """SHA-256 of the policy file."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def impersonates(self) -> bool:
        """Whether it has the name of a policy that ships with the product and is another file."""
        bare = {re.sub(r"[^a-z0-9]", "", name): name for name in shipped()}
        name = bare.get(re.sub(r"[^a-z0-9]", "", self.name.lower()))
        return name is not None and self.digest != Policy.load(name).digest


def shipped() -> tuple[str, ...]:
    """The names of the policies that ship with the product."""
    found = (files("reports") / "policies").iterdir()
    return tuple(sorted(item.name.removesuffix(".toml") for item in found if item.name.endswith(".toml")))


@dataclass(frozen=True)
class _Section:
    """One table of the file: typed access, with messages that name the table and the key."""

    data: Mapping[str, Any]
    title: str

    def known(self, *keys: str) -> None:
        unknown = sorted(self.data.keys() - set(keys))
        if unknown:
            raise UsageError(f"{self.title} has a key that is not known: {unknown[0]!r:.60}")

    def text(self, key: str) -> str:
        value = self.data.get(key)
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"{self.title} needs {key}, a text")
        return value

    def name(self, key: str) -> str:
        value = self.text(key)
        if not _NAME.fullmatch(value):
            raise UsageError(f"{self.title}: {key} is made of letters, digits, dots, _ and -")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"{self.title}: {key} is a list of texts")
        return tuple(value)

    def day(self, key: str) -> date:
        value = self.data.get(key)
        if not isinstance(value, date) or isinstance(value, datetime):
            raise UsageError(f"{self.title}: {key} is a date such as 2026-12-31, without quotes")
        return value

    def keys(self, key: str) -> tuple[PublicKey, ...]:
        value = self.data.get(key, [])
        try:
            found = tuple(PublicKey.parse(item) for item in (value if isinstance(value, list) else [value]))
        except ValueError:
            raise UsageError(
                f"{self.title}: {key} is a public key as `dpsynth key create` prints it, or several"
            ) from None
        if len(set(found)) != len(found):
            raise UsageError(f"{self.title}: {key} names a key twice")
        return found

    def table(self, key: str) -> _Section:
        value = self.data.get(key, {})
        if not isinstance(value, dict):
            raise UsageError(f"{self.title}: {key} is a table")
        return _Section(value, key)

    def tables(self, key: str) -> tuple[_Section, ...]:
        value = self.data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise UsageError(f"{self.title}: {key} is written [[{key}]]")
        return tuple(_Section(item, f"{key} {number}") for number, item in enumerate(value, start=1))


def _rule(section: _Section) -> Rule:
    section.known("id", "evidence", "stage", "side", "reason", *OPS)
    rule_id = section.name("id")
    named = _Section(section.data, f"rule {rule_id}")
    path, stage, reason = named.text("evidence"), named.text("stage"), named.text("reason")
    if stage not in ("release", "review"):
        raise UsageError(f'rule {rule_id}: stage is "release" or "review"')
    ops = [op for op in OPS if op in section.data]
    if len(ops) != 1:
        raise UsageError(f"rule {rule_id} needs exactly one of at_most, at_least, equals, one_of")
    rule = declared(path)
    if rule is None or "[" in path:
        raise UsageError(f"rule {rule_id}: there is no evidence at the path {path!r:.80}")
    if stage == "release" and (is_internal(path) or not rule.classes <= SHAREABLE):
        raise UsageError(
            f"rule {rule_id}: a rule of the release stage cannot read {path}, which holds internal numbers"
        )
    op, side = ops[0], section.data.get("side")
    if side is not None and (side not in ("low", "high", "estimate") or op not in ("at_most", "at_least")):
        raise UsageError(f"rule {rule_id}: side is low, high or estimate, and goes with at_most or at_least")
    return Rule(
        id=rule_id,
        evidence=path,
        stage=cast(Stage, stage),
        op=op,
        threshold=_threshold(rule_id, op, section.data[op], rule.kind),
        side=side,
        reason=reason,
    )


def _threshold(rule_id: str, op: Op, value: object, kind: str) -> Threshold:
    if op in ("at_most", "at_least"):
        if kind not in NUMERIC:
            raise UsageError(f"rule {rule_id}: {op} goes with a number, and this evidence is none")
        if not is_number(value):
            raise UsageError(f"rule {rule_id}: {op} must be a finite number, and not beyond {LARGEST:.0e}")
        return value
    if op == "one_of":
        if kind != "text" or not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise UsageError(f"rule {rule_id}: one_of is a list of texts, for evidence that is a text")
        return tuple(value)
    wanted = "number" if kind in NUMERIC else kind
    if wanted not in ("number", "text", "flag") or not fits_kind(cast(Any, value), cast(Any, wanted)):
        raise UsageError(f"rule {rule_id}: equals must be of the kind of the evidence ({kind})")
    return cast(Threshold, value)


def _human(section: _Section, rules: Collection[str]) -> Human:
    section.known("role", "statement", "key", "covers")
    covers = section.texts("covers")
    for finding in covers:
        if finding not in COVERABLE and finding not in rules:
            raise UsageError(f"{section.title}: covers names {finding!r:.60}, which no person's decision can cover")
    return Human(
        role=section.name("role"), statement=section.name("statement"), keys=section.keys("key"), covers=covers
    )


def _pinned(section: _Section) -> Pinned:
    section.known("required", "id", "population", "anchor", "amenders")
    required, anchor = section.data.get("required", False), None
    if not isinstance(required, bool):
        raise UsageError("ledger: required is true or false")
    if ("id" in section.data) != ("population" in section.data):
        raise UsageError("ledger: id and population go together: whose budget it is, and which ledger holds it")
    named = "id" in section.data
    ledger_id, population = (section.text("id"), section.text("population")) if named else ("", "")
    if "anchor" in section.data:
        if not named:
            raise UsageError("ledger: an anchor needs the id and the population of the ledger that it is a head of")
        head = section.table("anchor")
        head.known("seq", "head")
        try:
            anchor = Anchor(ledger_id, head.data.get("seq", -1), head.text("head"))
        except UsageError:
            raise UsageError(
                'ledger: an anchor is { seq = 12, head = "..." }: the number of an entry and its 64 hexadecimal digits'
            ) from None
    amenders = section.keys("amenders")
    return Pinned(required=required, id=ledger_id, population=population, anchor=anchor, amenders=amenders)


def _check_hands(human: Collection[Human], waivers: Waivers) -> None:
    """Refuses one key for two roles: a second pair of eyes would be the first one again."""
    roles: dict[PublicKey, str] = {}
    for role, keys in [*((asked.role, asked.keys) for asked in human), *waivers.keys]:
        for key in keys:
            if roles.setdefault(key, role) != role:
                raise UsageError(
                    f"the policy gives one key to two roles, {roles[key]} and {role}: each role needs a key of its own, or "
                    "nobody looks twice"
                )


def _waivers(section: _Section, rules: Collection[Rule]) -> Waivers:
    section.known("allowed", "max_days", "approvers", "never", "keys", "rule")
    allowed, days = section.data.get("allowed", False), section.data.get("max_days", 0)
    if not isinstance(allowed, bool):
        raise UsageError("waivers: allowed is true or false")
    if isinstance(days, bool) or not isinstance(days, int) or not 0 <= days <= _MOST_DAYS:
        raise UsageError(f"waivers: max_days is a whole number of days, at most {_MOST_DAYS}")
    approvers, named = section.texts("approvers"), section.table("keys")
    if not named.data.keys() <= set(approvers):
        raise UsageError("waivers: keys names a role that is not among the approvers")
    made = Waivers(
        allowed=allowed,
        max_days=days,
        approvers=approvers,
        never=section.texts("never"),
        keys=tuple((role, named.keys(role)) for role in named.data),
        rules=tuple(_waiver(waiver) for waiver in section.tables("rule")),
    )
    stages = {rule.id: rule for rule in rules if rule.stage == "release"}
    for waiver in made.rules:
        title = f"the waiver of {waiver.rule}"
        if not allowed:
            raise UsageError(f"{title}: this policy does not allow waivers")
        if waiver.rule not in stages:
            raise UsageError(f"{title}: there is no such rule of the release stage")
        if waiver.rule in made.never or stages[waiver.rule].evidence in NEVER_WAIVED:
            raise UsageError(f"{title}: this rule is never waived")
        if waiver.approver not in approvers:
            raise UsageError(f"{title}: {waiver.approver} is not among the approvers")
        if not 0 <= (waiver.expires - waiver.granted).days <= days:
            raise UsageError(f"{title}: it lasts longer than max_days, or ends before it begins")
    if len({waiver.rule for waiver in made.rules}) != len(made.rules):
        raise UsageError("waivers: a rule is waived twice")
    return made


def _waiver(section: _Section) -> Waiver:
    section.known("id", "reason", "approver", "granted", "expires")
    return Waiver(
        rule=section.name("id"),
        reason=section.text("reason"),
        approver=section.name("approver"),
        granted=section.day("granted"),
        expires=section.day("expires"),
    )
