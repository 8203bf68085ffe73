"""People with keys, a policy that names them, and a folder that looks like a release, for the tests of signing."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import evidence_builder
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dpsynth.release import Release, write_manifest
from dpsynth.signing import SigningKey
from reports import Evidence, Policy, decide, intoto
from reports.attestation import Attestation, Draft, Record

MOMENT = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)
MANIFEST = "ab" * 32


def key(number: int) -> SigningKey:
    """A key that follows from a number: for tests only."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


CONTROLLER, OFFICER, OFFICE, STRANGER, DEPUTY = key(1), key(2), key(3), key(4), key(5)

HEAD = 'schema = "dpsynth.policy/1"\nname = "ours"\nversion = "3"\nreason = "for the tests"\n'
RULES = """
[[rule]]
id = "guarantee.epsilon"
evidence = "guarantee.epsilon"
stage = "release"
at_most = 2.0
reason = "a test"

[[rule]]
id = "utility.tv1"
evidence = "utility.tv1"
stage = "release"
at_most = 0.05
reason = "another test"
"""


def human(role: str, statement: str, *keys: SigningKey, covers: tuple[str, ...] = ()) -> str:
    names = json.dumps([key.public.text for key in keys])
    return f'[[human]]\nrole = "{role}"\nstatement = "{statement}"\nkey = {names}\ncovers = {json.dumps(covers)}\n'


def waiver(rule: str = "utility.tv1", *, granted: str = "2026-11-01", expires: str = "2026-12-31", **top: str) -> str:
    keys = {
        "allowed": "true",
        "max_days": "90",
        "approvers": '["privacy-office"]',
        "never": '["ledger.remaining"]',
    } | top
    return (
        "[waivers]\n"
        + "".join(f"{name} = {value}\n" for name, value in keys.items())
        + f'[waivers.keys]\nprivacy-office = "{OFFICE.public.text}"\n'
        + f'[[waivers.rule]]\nid = "{rule}"\nreason = "one more month"\napprover = "privacy-office"\n'
        + f"granted = {granted}\nexpires = {expires}\n"
    )


ASKS = human("controller", "release-decision", CONTROLLER, DEPUTY, covers=("domain.source", "unit.person"))
ASKS_TWO = ASKS + human("officer", "advice", OFFICER)


def policy(*parts: str) -> Policy:
    return Policy.parse(HEAD + RULES + "\n".join(parts or (ASKS,)))


def draft(evidence: Evidence, policy: Policy, /, **changes: Any) -> Draft:
    fields: dict[str, Any] = {
        "role": "controller",
        "name": "A. Lee",
        "organisation": "Clinic",
        "statement": "release-decision",
        "decision": "approve",
        "signed_at": MOMENT,
        "expires": date(2027, 5, 31),
        "evidence": evidence.shareable().digest,
        "policy": policy.digest,
        "manifest": MANIFEST,
    }
    return Draft(**(fields | changes))


def signed(evidence: Evidence, policy: Policy, by: SigningKey = CONTROLLER, /, **changes: Any) -> Attestation:
    return draft(evidence, policy, **changes).sign(by)


def record(*attestations: Attestation, problems: tuple[str, ...] = ()) -> Record:
    return Record(manifest=MANIFEST, attestations=attestations, problems=problems)


def release(folder: Path, evidence: Evidence, policy: Policy, on: date) -> Release:
    """A folder with all that `verify` and `gate` look at; its rows and its model are of no interest here."""
    target = folder / "release"
    (target / "model").mkdir(parents=True)
    shareable = evidence.shareable()
    verdict = decide(policy, shareable, stage="release", on=on)
    (target / "synthetic.parquet").write_bytes(b"rows")
    (target / "model" / "model.json").write_text("{}")
    (target / "evidence.json").write_text(shareable.to_json())
    (target / "policy.toml").write_text(policy.text)
    (target / "verdict.json").write_text(verdict.to_text())
    (target / "schema.toml").write_text(evidence_builder.schema().to_toml())
    write_manifest(target, evidence_builder.manifest(shareable))
    made = Release.open(folder)
    intoto.write(made, verdict.to_json())
    return made
