"""Sign-off by the command line: keys, a release that needs a person, a signature, a pass, and what undoes it."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from dpsynth.release import STATEMENTS, sha256

POLICY = """\
schema  = "dpsynth.policy/1"
name    = "ours"
version = "1"
reason  = "for the tests"
{signers}

[[rule]]
id       = "guarantee.epsilon"
evidence = "guarantee.epsilon"
stage    = "release"
at_most  = 2.0
reason   = "a test"

[[human]]
role      = "controller"
statement = "release-decision"
key       = "{key}"
covers    = ["domain.declared"]
"""
EXPIRES = "2199-12-31"


@pytest.fixture
def signing(case: Any) -> Any:
    """A key, a policy that names it, and a release that needs a person: its schema gives no basis."""
    case.key, case.policy = case.folder / "controller.pem", case.folder / "ours.toml"
    assert case("key", "create", case.key) == 0
    case.public = case.stdout.strip()
    case.policy.write_text(POLICY.format(key=case.public, signers=""), encoding="utf-8")
    schema = case.schema.read_text(encoding="utf-8").replace('basis      = "made for the tests"', "")
    case.schema.write_text(schema, encoding="utf-8")
    assert case.release("--synthesizer", "independent", "--policy", case.policy) == 3, case.stderr
    return case


def attest(case: Any, *more: object, decision: str = "approve", key: Path | None = None) -> int:
    return case(
        "attest", case.out, "--role", "controller", "--statement", "release-decision", "--decision", decision,
        "--name", "A. Lee", "--organisation", "Clinic", "--expires", EXPIRES, "--key", key or case.key, *more,
    )  # fmt: skip


def test_from_needs_a_person_to_a_pass_and_to_a_change_that_is_found(signing: Any) -> None:
    assert stat.S_IMODE(signing.key.stat().st_mode) == 0o600
    assert signing("gate", signing.out) == 3
    assert "human.controller.release-decision" in signing.stderr
    assert attest(signing) == 0, signing.stderr
    assert "the gate now says pass" in signing.stderr
    assert signing("gate", signing.out) == 0
    assert signing.stdout == "pass\n"
    assert "accepted: domain.declared" in signing.stderr
    assert "--policy judges by your own copy" in signing.stderr
    assert signing("gate", signing.out, "--policy", signing.policy) == 0
    assert signing("verify", signing.out) == 0
    assert "checked: the approval by A. Lee (Clinic) as controller" in signing.stdout
    assert signing("report", signing.out, "--out", signing.folder / "page.html") == 0
    assert "A. Lee" in (signing.folder / "page.html").read_text(encoding="utf-8")

    evidence = signing.out / "release" / "evidence.json"
    good = evidence.read_bytes()
    evidence.write_bytes(good.replace(b'"visits"', b'"visitz"'))
    assert signing("gate", signing.out) == 5
    assert signing("verify", signing.out) == 5
    manifest = signing.out / "release" / "manifest.json"
    data = json.loads(manifest.read_text(encoding="utf-8"))
    data["files"]["evidence.json"] = sha256(evidence)
    manifest.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    assert signing("gate", signing.out) == 5
    assert "verdict.json speaks of other evidence" in signing.stderr
    assert signing("verify", signing.out) == 5


def test_a_rejection_and_a_lost_attestation(signing: Any) -> None:
    assert attest(signing) == 0
    assert attest(signing, decision="reject") == 0
    assert "replaces the decision to approve by A. Lee" in signing.stderr
    assert signing("gate", signing.out) == 3
    assert "Rejected by A. Lee" in signing.stderr
    (found,) = (signing.out / "release" / "attestations").iterdir()
    found.write_text(found.read_text().replace('"reject"', '"approve"'))
    assert signing("gate", signing.out) == 5
    assert signing("verify", signing.out) == 5
    found.unlink()
    assert signing("gate", signing.out) == 3


def test_what_cannot_be_signed(signing: Any) -> None:
    other = signing.folder / "other.pem"
    assert signing("key", "create", other) == 0
    assert attest(signing, key=other) == 2
    assert "does not name this key" in signing.stderr
    assert attest(signing, "--role", "officer") == 2
    assert "asks for no such statement" in signing.stderr
    assert attest(signing, "--name", "A\u202eB") == 2
    assert attest(signing, "--expires", "2020-01-01") == 2
    assert attest(signing, "--expires", "soon") == 2
    assert attest(signing, "--decision", "maybe") == 2
    assert attest(signing, key=signing.folder / "missing.pem") == 2
    assert "dpsynth key create" in signing.stderr
    assert signing("key", "create", other) == 2
    assert not (signing.out / "release" / "attestations").exists()
    (signing.out / "release" / "schema.toml").write_text("x")
    assert attest(signing) == 5
    assert not any(path.suffix == ".pem" for path in signing.out.rglob("*"))


def test_an_attestation_is_worth_nothing_beside_another_release(signing: Any) -> None:
    assert attest(signing) == 0
    twin = signing.folder / "twin"
    assert signing.release("--synthesizer", "independent", "--policy", signing.policy, epsilon="0.5", out=twin) == 3
    shutil.copytree(signing.out / "release" / "attestations", twin / "release" / "attestations")
    assert signing("gate", twin) == 3
    assert "signed for other evidence" in signing.stderr
    assert signing("verify", twin) == 5


def test_a_release_is_signed_on_request_and_by_a_named_key(signing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert signing("verify", signing.out) == 0
    assert signing.stdout.splitlines()[-1] == "unsigned"
    assert signing("verify", signing.out, "--key", signing.public) == 5
    assert signing("sign", signing.out, "--key", signing.key) == 0
    assert signing.stdout.strip() == signing.public
    assert signing("verify", signing.out, "--key", signing.public) == 0
    assert signing.stdout.splitlines()[-1] == f"signed {signing.public}"
    assert signing("verify", signing.out, "--key", "nonsense") == 2
    signature = signing.out / "release" / "signature"
    text = signature.read_text()
    signature.write_text(text.replace('"sig": "', '"sig": "A'))
    assert signing("gate", signing.out) == 5
    assert signing("verify", signing.out) == 5

    sealed = signing.folder / "pipeline.pem"
    monkeypatch.setenv("DPSYNTH_KEY_PASSPHRASE", "correct horse")
    assert signing("key", "create", sealed) == 0
    public = signing.stdout.strip()
    assert "ENCRYPTED" in sealed.read_text()
    assert signing("key", "show", sealed) == 0
    assert signing.stdout.startswith(public)
    twin = signing.folder / "twin"
    words = ("--synthesizer", "independent", "--policy", signing.policy, "--key")
    before = signing.extract().attempts
    assert signing.release(*words, signing.folder / "missing.pem", epsilon="0.5", out=twin) == 2
    assert signing.extract().attempts == before, "a key that cannot be read costs nothing"
    assert signing.release(*words, sealed, epsilon="0.5", out=twin) == 3
    assert signing("verify", twin, "--key", public) == 0
    times = {path.stat().st_mtime_ns for path in [twin / "release", *(twin / "release").iterdir()]}
    assert len(times) == 1, "no file tells how long the release took"
    assert signing("ledger", "verify", signing.ledger, "--against", twin / "release" / "manifest.json") == 0


def test_a_rule_is_explained(signing: Any) -> None:
    assert signing("gate", signing.out, "--explain", "guarantee.epsilon") == 3
    said = signing.stdout
    for words in (
        "path       guarantee.epsilon",
        "value      ",
        "threshold  at most 2",
        "reason     a test",
        "clause     ",
    ):
        assert words in said
    assert "says nothing about whether a clause is met" in said
    assert signing("gate", signing.out, "--explain", "human.controller.release-decision") == 3
    assert "result     needs a person" in signing.stdout
    assert signing("gate", signing.out, "--explain", "domain.declared") == 3
    assert "code, which no policy can remove" in signing.stdout
    assert signing("gate", signing.out, "--explain", "no.such.rule") == 2


def test_a_forged_verdict_is_not_signed(signing: Any) -> None:
    """Nor is any other file that was made to fit a manifest that was made to fit it."""
    folder = signing.out / "release"
    verdict = json.loads((folder / "verdict.json").read_text())
    verdict |= {"verdict": "pass", "exit_code": 0}
    for rule in verdict["rules"]:
        rule["status"] = "pass"
    (folder / "verdict.json").write_text(json.dumps(verdict))
    assert signing("sign", signing.out, "--key", signing.key) == 5
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["verdict.json"] = sha256(folder / "verdict.json")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for words in (("sign", signing.out, "--key", signing.key), ("gate", signing.out), ("report", signing.out)):
        more = ("--out", signing.folder / "page.html") if words[0] == "report" else ()
        assert signing(*words, *more) == 5
        assert "verdict.json is not what this policy says" in signing.stderr
    assert attest(signing) == 5
    assert json.loads((folder / "signature").read_text())["signature"] is None
    assert not (folder / "attestations").exists()
    assert not (signing.folder / "page.html").exists()


def test_the_gate_insists_on_the_signers_that_a_policy_names(signing: Any) -> None:
    """Unsigned, signed by somebody else, signed by the one who is named; and nothing lets the others through."""
    strict = signing.folder / "strict.toml"
    assert signing("key", "create", signing.folder / "pipeline.pem") == 0
    signers = f'signers = ["{signing.stdout.strip()}"]'
    text = POLICY.partition("[[human]]")[0].format(signers=signers)
    strict.write_text(text.replace('name    = "ours"', 'name    = "strict"'), encoding="utf-8")
    gate = ("gate", signing.out, "--policy", strict, "--allow", "needs_human")
    assert signing(*gate) == 5
    assert signing("sign", signing.out, "--key", signing.key) == 0
    assert signing(*gate) == 5
    assert "not signed with a key that the policy names" in signing.stderr
    assert signing("sign", signing.out, "--key", signing.folder / "pipeline.pem") == 0
    assert signing(*gate) == 0, signing.stderr
    (signing.out / "release" / "signature").write_text('{\n "schema": "dpsynth.signature/1",\n "signature": null\n}\n')
    assert signing(*gate) == 5


def test_the_statements_are_signed_with_the_release(signing: Any) -> None:
    place = signing.out / "release" / STATEMENTS
    assert signing("verify", signing.out) == 0
    assert "who made the in-toto statements: they are unsigned" in signing.stdout
    assert signing("sign", signing.out, "--key", signing.key) == 0
    signed = place.read_text()
    assert signing("verify", signing.out) == 0
    assert "unsigned" not in signing.stdout
    assert signing("key", "create", signing.folder / "other.pem") == 0
    assert signing("sign", signing.out, "--key", signing.folder / "other.pem") == 0
    assert place.read_text() != signed
    place.write_text(signed)
    assert signing("verify", signing.out) == 5
