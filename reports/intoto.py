"""The verdict as in-toto statements, for the tools of a software supply chain.

Two Statements v1 (in-toto/attestation, spec/v1/statement.md) about the same files: `test-result` v0.1 says how every rule
came out (spec/predicates/test-result.md), `svr` v0.1, a simple verification result, what was verified and nothing else
(spec/predicates/svr.md). Their subjects are the manifest and every file that it lists.

Each stands in a DSSE envelope (secure-systems-lab/dsse, envelope.md) on a line of its own in a bundle
(spec/v1/bundle.md), beside the release like its signature. Until the release is signed the envelopes hold no signature.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dpsynth.errors import IntegrityError
from dpsynth.release import STATEMENTS, Release, put_beside, sha256
from dpsynth.signing import PublicKey, SigningKey, to_base64

PAYLOAD: Final = "application/vnd.in-toto+json"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
TEST_RESULT: Final = "https://in-toto.io/attestation/test-result/v0.1"
SVR: Final = "https://in-toto.io/attestation/svr/v0.1"
_PASSED: Final = ("pass",)
_WARNED: Final = ("needs_human", "accepted", "waived")
_FAILED: Final = ("fail", "incomplete", "integrity")
_PREFIX: Final = "DPSYNTH_"


def statements(release: Release, verdict: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The test result and the simple verification result of a release.

    Args:
        release: Its manifest names the files, the version of the program, and the time.
        verdict: What `Verdict.to_json` gives.
    """
    files = release.manifest["files"] | {"manifest.json": sha256(release.folder / "manifest.json")}
    subject = [{"name": path, "digest": {"sha256": digest}} for path, digest in sorted(files.items())]
    found = tested(verdict)
    head = {"_type": STATEMENT, "subject": subject}
    return (
        head | {"predicateType": TEST_RESULT, "predicate": found},
        head | {"predicateType": SVR, "predicate": _verified(release, verdict, found)},
    )


def tested(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """The predicate that says how every rule came out.

    PASSED is said only where every rule was checked and holds; WARNED where something is, or was, for a person to accept.
    """

    def tests(states: tuple[str, ...]) -> list[str]:
        return [f"{rule['origin']}:{rule['id']}" for rule in verdict["rules"] if rule["status"] in states]

    state = verdict["verdict"]
    result = "FAILED" if state in _FAILED else "WARNED" if state != "pass" or tests(_WARNED) else "PASSED"
    return {
        "result": result,
        "configuration": [_policy(verdict)],
        "passedTests": tests(_PASSED),
        "warnedTests": tests(_WARNED),
        "failedTests": tests(_FAILED),
    }


def _verified(release: Release, verdict: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The predicate that names what passed: the verdict, where every rule was checked and holds, and each rule.

    Its time is that of the release: how long the run took is nobody's business.
    """
    whole = [f"{_PREFIX}VERDICT_PASS"] if found["result"] == "PASSED" else []
    return {
        "verifier": {"id": f"pkg:generic/dpsynth@{release.manifest['dpsynth']}", "policy": _policy(verdict)},
        "timeCreated": release.manifest["created_at"],
        "properties": whole + [f"{_PREFIX}PASS:{name}" for name in found["passedTests"]],
    }


def _policy(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """The policy as a resource descriptor."""
    policy = verdict["policy"]
    return {
        "name": "policy.toml",
        "digest": {"sha256": policy["sha256"]},
        "annotations": {"policy": policy["name"], "version": policy["version"]},
    }


def write(release: Release, verdict: Mapping[str, Any], *, key: SigningKey | None = None) -> None:
    """Puts both envelopes beside a release, signed with a key or unsigned.

    Raises:
        OperationError: the disk refuses.
    """
    payloads = _payloads(release, verdict)
    sigs = [] if key is None else [key.sign(kind=PAYLOAD, body=payload) for payload in payloads]
    put_beside(release, STATEMENTS, _bundle(payloads, sigs, None if key is None else key.public))


def check(release: Release, verdict: Mapping[str, Any], key: PublicKey | None) -> bool:
    """Whether the envelopes beside a release are signed, once they were seen to state its files and its verdict.

    Args:
        key: Whoever signed the manifest; the statements have to be signed with the same key.
    Raises:
        IntegrityError: they state something else, or are signed otherwise.
        OSError, ValueError, LookupError, TypeError: there is no bundle that can be read.
    """
    text, payloads = (release.folder / STATEMENTS).read_text(encoding="ascii"), _payloads(release, verdict)
    if text == _bundle(payloads, [], None):
        return False
    sigs = [json.loads(line)["signatures"][0]["sig"] for line in text.splitlines()] if key is not None else []
    if key is None or len(sigs) != len(payloads) or text != _bundle(payloads, sigs, key):
        raise IntegrityError(
            f"{STATEMENTS} does not state the files of the manifest and the verdict, or is not signed like the manifest"
        )
    if not all(key.verifies(sig, kind=PAYLOAD, body=body) for sig, body in zip(sigs, payloads, strict=True)):
        raise IntegrityError(f"a signature in {STATEMENTS} is not of its statement by the key that signed the manifest")
    return True


def _payloads(release: Release, verdict: Mapping[str, Any]) -> list[bytes]:
    """The bytes that are signed: the same for the same release; only ASCII."""
    return [
        json.dumps(statement, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")
        for statement in statements(release, verdict)
    ]


def _bundle(payloads: Sequence[bytes], sigs: Sequence[str], key: PublicKey | None) -> str:
    """One envelope a line; the key id is a hint that no check relies on."""
    lines = []
    for number, payload in enumerate(payloads):
        signed = [] if key is None else [{"keyid": key.fingerprint, "sig": sigs[number]}]
        envelope = {"payload": to_base64(payload), "payloadType": PAYLOAD, "signatures": signed}
        lines.append(json.dumps(envelope, ensure_ascii=True, allow_nan=False) + "\n")
    return "".join(lines)
