"""A release with what lies beside it: signed, checked as a whole, and every change found."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import signers
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from signers import CONTROLLER, DEPUTY, STRANGER

from dpsynth.cli.main import run
from dpsynth.errors import IntegrityError
from dpsynth.release import STATEMENTS, Checked, Release, sha256
from reports import Policy, bundle, intoto
from reports.attestation import Record, add


@pytest.fixture
def release(builder: ModuleType, tmp_path: Path) -> Release:
    return signers.release(tmp_path / "one", builder.internal(), signers.policy(), builder.TODAY)


def attest(builder: ModuleType, release: Release, by: Any = CONTROLLER, **changes: Any) -> None:
    fields = {"manifest": Record.read(release).manifest} | changes
    add(release, signers.draft(builder.internal(), signers.policy(), **fields), by)


def verify(release: Release, policy: Policy | None = None, **more: Any) -> Checked:
    return bundle.verify(Release.open(release.folder), policy=policy, on=more.pop("on", date(2026, 11, 22)), **more)


def seal(release: Release) -> None:
    """Writes the digests of changed files into the manifest, as whoever changed them would."""
    data = json.loads((release.folder / "manifest.json").read_text())
    data["files"] = {path: sha256(release.folder / path) for path in data["files"]}
    (release.folder / "manifest.json").write_text(json.dumps(data, indent=1) + "\n")


def said(lines: tuple[str, ...]) -> str:
    return "\n".join(lines)


def test_an_unsigned_release_says_so(release: Release) -> None:
    found = verify(release)
    assert found.problems == ()
    assert "the release is unsigned" in said(found.not_checked)
    assert "the policy inside the release" in said(found.not_checked)
    for words in (
        "digests of 6 files",
        "ledger head in the manifest",
        "in-toto statements",
        "columns, unit, cost",
        "verdict of the release day",
    ):
        assert words in said(found.checked)


def test_a_signed_release(release: Release) -> None:
    before = (release.folder / "manifest.json").stat().st_mtime_ns
    assert bundle.sign(release, CONTROLLER) == CONTROLLER.public
    assert bundle.signer(release) == CONTROLLER.public
    for path in (release.folder, release.folder / "signature"):
        assert path.stat().st_mtime_ns == before, "no file tells how long the release took"
    found = verify(release)
    assert found.problems == ()
    assert f"the signature of the manifest with {CONTROLLER.public.text}" in found.checked
    assert "whose key signed the manifest" in said(found.not_checked)
    found = verify(release, keys=(CONTROLLER.public,))
    assert "which --key names" in said(found.checked)
    assert "whose key signed" not in said(found.not_checked)


def test_the_signature_has_to_be_by_a_named_key(builder: ModuleType, release: Release, tmp_path: Path) -> None:
    assert "is unsigned, and --key names" in said(verify(release, keys=(CONTROLLER.public,)).problems)
    bundle.sign(release, STRANGER)
    assert "--key does not name" in said(verify(release, keys=(CONTROLLER.public,)).problems)
    named = Policy.parse(signers.HEAD + f'signers = ["{CONTROLLER.public.text}"]\n' + signers.RULES + signers.ASKS)
    other = signers.release(tmp_path / "two", builder.internal(), named, builder.TODAY)
    assert "unsigned, and the policy names" in said(verify(other).problems)
    bundle.sign(other, STRANGER)
    assert "the policy does not name" in said(verify(other).problems)
    bundle.sign(other, CONTROLLER)
    assert verify(other).problems == ()
    assert verify(other, named).problems == ()


def test_a_changed_release_is_not_signed(release: Release) -> None:
    (release.folder / "synthetic.parquet").write_bytes(b"other rows")
    with pytest.raises(IntegrityError, match="not whole"):
        bundle.sign(release, CONTROLLER)


@pytest.mark.slow
def test_every_file_counts(builder: ModuleType, release: Release) -> None:
    """A byte of any file, at its beginning, middle or end; with and without a manifest that was made to fit."""
    attest(builder, release)
    bundle.sign(release, CONTROLLER)
    assert verify(release).problems == ()
    tried = 0
    for path in sorted(p for p in release.folder.rglob("*") if p.is_file()):
        good = path.read_bytes()
        for place in (0, len(good) // 2, len(good) - 2):
            path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
            try:
                assert verify(release).problems, (path, place)
            except IntegrityError:
                assert path.name == "manifest.json"
            if path.name not in ("manifest.json", "signature", STATEMENTS) and path.parent.name != "attestations":
                manifest = (release.folder / "manifest.json").read_bytes()
                seal(release)
                assert "not of this manifest" in said(verify(release).problems), (path, place)
                (release.folder / "manifest.json").write_bytes(manifest)
            tried += 1
        path.write_bytes(good)
    assert tried == 30
    assert verify(release).problems == ()


def test_what_is_not_signed_is_still_held_together(builder: ModuleType, release: Release, tmp_path: Path) -> None:
    """A manifest made to fit: the files contradict one another all the same."""
    changes = {
        "evidence.json": ('"v": 2', '"v": 3'),
        "policy.toml": ("at_most = 2.0", "at_most = 9.0"),
        "verdict.json": ('"needs_human"', '"pass"'),
    }
    for name, (old, new) in changes.items():
        copy = tmp_path / name
        shutil.copytree(release.folder, copy)
        text = (copy / name).read_text()
        assert old in text
        (copy / name).write_text(text.replace(old, new))
        changed = Release(folder=copy, manifest=release.manifest)
        seal(changed)
        assert verify(changed).problems, name


def test_damaged_json_is_a_problem_and_no_error(release: Release) -> None:
    for name in ("evidence.json", "verdict.json", "schema.toml", "policy.toml", "signature", STATEMENTS):
        path = release.folder / name
        good, manifest = path.read_bytes(), (release.folder / "manifest.json").read_bytes()
        for bad in (b"", b"null", b"[]", b"[" * 50_000, b"\xff", b'{"policy": 1, "evidence": [], "predicate": null}'):
            path.write_bytes(bad)
            seal(release)
            assert verify(release).problems, (name, bad[:20])
        path.write_bytes(good)
        (release.folder / "manifest.json").write_bytes(manifest)
    assert verify(release).problems == ()


@pytest.mark.parametrize(
    "text",
    [
        '{"schema": "dpsynth.signature/1", "signature": {"key": "x", "sig": "y"}}',
        '{"schema": "dpsynth.signature/1"}',
        '{"schema": "dpsynth.signature/2", "signature": null}',
    ],
)
def test_a_signature_file_of_another_form(release: Release, text: str) -> None:
    (release.folder / "signature").write_text(text)
    assert verify(release).problems


def test_a_signature_by_no_key(release: Release) -> None:
    for key in ("x", CONTROLLER.public.text):
        data = {"schema": "dpsynth.signature/1", "signature": {"key": key, "sig": "y"}}
        (release.folder / "signature").write_text(json.dumps(data, indent=1) + "\n")
        assert "names" in said(verify(release).problems)
        with pytest.raises(IntegrityError):
            bundle.signer(release)


# ---- attestations ----------------------------------------------------------------------------------------------------


def test_what_counts_is_checked_and_what_does_not_is_said(builder: ModuleType, release: Release) -> None:
    attest(builder, release)
    attest(builder, release, DEPUTY, expires=date(2026, 11, 21))
    found = verify(release)
    assert found.problems == ()
    assert "the approval by A. Lee (Clinic) as controller (release-decision): signed with a key" in said(found.checked)
    assert "does not count: expired on 2026-11-21" in said(found.not_checked)


def test_a_strange_key_is_a_problem(builder: ModuleType, release: Release) -> None:
    attest(builder, release, STRANGER)
    assert "a key that the policy does not name" in said(verify(release).problems)
    other = signers.policy(signers.ASKS_TWO)
    assert verify(release, other).problems == ()
    assert "does not count" in said(verify(release, other).not_checked)


def test_an_attestation_of_another_release_is_a_problem(builder: ModuleType, release: Release, tmp_path: Path) -> None:
    attest(builder, release)
    same = signers.release(tmp_path / "two", builder.internal(), signers.policy(), builder.TODAY)
    (same.folder / "synthetic.parquet").write_bytes(b"other rows")
    seal(same)
    shutil.copytree(release.folder / "attestations", same.folder / "attestations")
    assert "was signed for another release" in said(verify(same).problems)


def test_without_a_policy_nobody_can_say_who_may_sign(builder: ModuleType, release: Release) -> None:
    attest(builder, release)
    manifest = release.folder / "manifest.json"
    data = json.loads(manifest.read_text())
    (release.folder / STATEMENTS).unlink()
    for name in ("policy.toml", "verdict.json"):
        (release.folder / name).unlink()
        del data["files"][name]
    manifest.write_text(json.dumps(data))
    found = verify(release)
    assert "was signed for another release" in said(found.problems)
    assert "there is no policy" in said(found.not_checked)
    assert "it carries none" in said(found.not_checked) or "carries none" in said(found.not_checked)


def test_a_policy_under_a_shipped_name_is_not_believed(builder: ModuleType, tmp_path: Path) -> None:
    text = (signers.HEAD + signers.RULES + signers.ASKS).replace('"ours"', '"internal-test"')
    release = signers.release(tmp_path / "two", builder.internal(), Policy.parse(text), builder.TODAY)
    assert "calls itself internal-test" in said(verify(release).problems)


def test_the_policy_that_another_version_shipped_is_not_taken_for_a_forgery(
    builder: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A word in a shipped policy may change later: a release of its day stays honest, and is judged by one that is named."""
    text = (signers.HEAD + signers.RULES).replace('"ours"', '"internal-test"')
    old = builder.internal({"tool.version": builder.declared("0.0.9")})
    release = signers.release(tmp_path / "two", old, Policy.parse(text), builder.TODAY)
    found = verify(release)
    assert found.problems == ()
    assert "called internal-test, and another version of this program" in said(found.not_checked)
    assert run(["gate", str(release.folder)]) == 2
    assert "give --policy" in capsys.readouterr().err
    assert run(["gate", str(release.folder), "--policy", "internal-test"]) in (0, 1, 4)
    assert "not checked: what the evidence says in the program's own words" in capsys.readouterr().err


# ---- in-toto ---------------------------------------------------------------------------------------------------------


def envelopes(release: Release) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (release.folder / STATEMENTS).read_text().splitlines()]


def statement(envelope: dict[str, Any]) -> dict[str, Any]:
    return json.loads(base64.b64decode(envelope["payload"], validate=True))


def test_the_statements_are_in_toto_s(release: Release) -> None:
    """Field names as in in-toto/attestation, spec/v1/statement.md, spec/predicates/test-result.md and svr.md."""
    result, verified = (statement(envelope) for envelope in envelopes(release))
    files = release.manifest["files"] | {"manifest.json": sha256(release.folder / "manifest.json")}
    for found in (result, verified):
        assert found.keys() == {"_type", "subject", "predicateType", "predicate"}
        assert found["_type"] == "https://in-toto.io/Statement/v1"
        assert {item["name"]: item["digest"] for item in found["subject"]} == {
            path: {"sha256": digest} for path, digest in files.items()
        }
    assert result["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    predicate = result["predicate"]
    assert predicate.keys() == {"result", "configuration", "passedTests", "warnedTests", "failedTests"}
    assert predicate["result"] == "WARNED"
    assert predicate["configuration"][0]["digest"] == {"sha256": signers.policy().digest}
    assert predicate["warnedTests"] == ["policy:human.controller.release-decision"]
    assert predicate["failedTests"] == []
    assert "policy:guarantee.epsilon" in predicate["passedTests"]
    assert "code:evidence.complete" in predicate["passedTests"]
    assert verified["predicateType"] == "https://in-toto.io/attestation/svr/v0.1"
    predicate = verified["predicate"]
    assert predicate.keys() == {"verifier", "timeCreated", "properties"}
    assert predicate["verifier"]["id"] == f"pkg:generic/dpsynth@{release.manifest['dpsynth']}"
    assert predicate["verifier"]["policy"] == result["predicate"]["configuration"][0]
    assert predicate["timeCreated"] == "2026-11-21T09:14:05Z"
    passed = [f"DPSYNTH_PASS:{name}" for name in result["predicate"]["passedTests"]]
    assert predicate["properties"] == passed, "the verdict is not a pass, and no property says so"


def test_a_pass_is_a_verified_property_and_nothing_less_is(builder: ModuleType, tmp_path: Path) -> None:
    plain = Policy.parse(signers.HEAD + signers.RULES)
    for name, changed, passes in (("one", {}, True), ("two", builder.misled(0.2), False)):
        made = signers.release(tmp_path / name, builder.internal(changed), plain, builder.TODAY)
        properties = statement(envelopes(made)[1])["predicate"]["properties"]
        assert ("DPSYNTH_VERDICT_PASS" in properties) is passes
        assert ("DPSYNTH_PASS:policy:utility.tv1" in properties) is passes
        assert "DPSYNTH_PASS:policy:guarantee.epsilon" in properties


def test_the_envelopes_are_dsse_s(release: Release) -> None:
    """Checked by another reading of secure-systems-lab/dsse, protocol.md and envelope.md, than the one that signs."""
    for envelope in envelopes(release):
        assert envelope.keys() == {"payload", "payloadType", "signatures"}
        assert (envelope["payloadType"], envelope["signatures"]) == ("application/vnd.in-toto+json", [])
    found = verify(release)
    assert found.problems == ()
    assert "who made the in-toto statements: they are unsigned" in found.not_checked
    unsigned = [envelope["payload"] for envelope in envelopes(release)]
    bundle.sign(release, CONTROLLER)
    assert "in-toto statements in release.intoto.jsonl, with their signatures" in said(verify(release).checked)
    key = Ed25519PublicKey.from_public_bytes(CONTROLLER.public.raw)
    for envelope, before in zip(envelopes(release), unsigned, strict=True):
        assert envelope["payload"] == before, "a signature changes no statement"
        (signature,) = envelope["signatures"]
        body, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
        encoded = b" ".join([b"DSSEv1", str(len(kind)).encode(), kind, str(len(body)).encode(), body])
        key.verify(base64.b64decode(signature["sig"]), encoded)
        assert signature["keyid"] == hashlib.sha256(CONTROLLER.public.raw).hexdigest()


def test_statements_that_say_something_else_are_found(release: Release, tmp_path: Path) -> None:
    place = release.folder / STATEMENTS
    lines = place.read_text().splitlines(keepends=True)
    bundle.sign(release, STRANGER)
    strange = place.read_text()
    bundle.sign(release, CONTROLLER)
    signed = place.read_text().splitlines(keepends=True)
    better = statement(json.loads(lines[1]))
    better["predicate"]["properties"].append("DPSYNTH_VERDICT_PASS")
    forged = json.loads(lines[1]) | {"payload": base64.b64encode(json.dumps(better).encode()).decode()}
    bad = {
        "another key's": strange,
        "one signed, one not": signed[0] + lines[1],
        "swapped": signed[1] + signed[0],
        "one alone": signed[0],
        "one more": "".join([*signed, signed[1]]),
        "a property more": signed[0] + json.dumps(forged | {"signatures": json.loads(signed[1])["signatures"]}) + "\n",
        "empty": "",
    }
    for name, text in bad.items():
        place.write_text(text)
        assert STATEMENTS in said(verify(release).problems), name
    place.write_text("".join(lines))
    assert verify(release).problems == ()
    assert "they are unsigned" in said(verify(release).not_checked)
    place.unlink()
    assert "in-toto statements: the release carries none" in verify(release).not_checked
    (release.folder / "signature").write_text('{\n "schema": "dpsynth.signature/1",\n "signature": null\n}\n')
    place.write_text("".join(signed))
    assert "not signed like the manifest" in said(verify(release).problems)


def test_the_result_is_the_verdict_s(builder: ModuleType) -> None:
    from reports import decide

    signed = signers.record(signers.signed(builder.internal(), signers.policy()))
    plain = Policy.parse(signers.HEAD + signers.RULES)
    cases: list[tuple[Policy, dict[str, Any], Any, str]] = [
        (plain, {}, signers.record(), "PASSED"),
        (signers.policy(), {}, signers.record(), "WARNED"),
        (signers.policy(), {}, signed, "WARNED"),
        (plain, builder.misled(0.2), signers.record(), "FAILED"),
        (plain, {"utility.tv1": None}, signers.record(), "FAILED"),
        (plain, {"ledger.verified": builder.ledger_fact(False)}, signers.record(), "FAILED"),
    ]
    for policy, changed, record, result in cases:
        verdict = decide(policy, builder.internal(changed), stage="release", on=builder.TODAY, record=record)
        assert intoto.tested(verdict.to_json())["result"] == result
