"""The verdict as an in-toto statement, for the tools of a software supply chain.

Statement v1 with the predicate test-result v0.1 (in-toto/attestation, spec/v1/statement.md and
spec/predicates/test-result.md): its subjects are the released files by digest, its configuration is the policy. It is not
signed by itself: the manifest lists it, and the signature of the manifest covers it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dpsynth.release import digests
from reports.gate import Verdict

FILE: Final = "intoto.json"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://in-toto.io/attestation/test-result/v0.1"
_PASSED: Final = ("pass",)
_WARNED: Final = ("needs_human", "accepted", "waived")
_FAILED: Final = ("fail", "incomplete", "integrity")


def statement(files: Mapping[str, str], verdict: Mapping[str, Any]) -> dict[str, Any]:
    """The statement about some files.

    PASSED is said only where every rule was checked and holds; WARNED where something is, or was, for a person to accept.

    Args:
        files: SHA-256 by path.
        verdict: What `Verdict.to_json` gives.
    """

    def tests(states: tuple[str, ...]) -> list[str]:
        return [f"{rule['origin']}:{rule['id']}" for rule in verdict["rules"] if rule["status"] in states]

    policy, state = verdict["policy"], verdict["verdict"]
    result = "FAILED" if state in _FAILED else "WARNED" if state != "pass" or tests(_WARNED) else "PASSED"
    return {
        "_type": STATEMENT,
        "subject": [{"name": path, "digest": {"sha256": digest}} for path, digest in sorted(files.items())],
        "predicateType": PREDICATE,
        "predicate": {
            "result": result,
            "configuration": [
                {
                    "name": "policy.toml",
                    "digest": {"sha256": policy["sha256"]},
                    "annotations": {"policy": policy["name"], "version": policy["version"]},
                }
            ],
            "passedTests": tests(_PASSED),
            "warnedTests": tests(_WARNED),
            "failedTests": tests(_FAILED),
        },
    }


def to_text(found: Mapping[str, Any]) -> str:
    """A statement as JSON text, the same bytes for the same statement; only ASCII."""
    return json.dumps(found, ensure_ascii=True, allow_nan=False, indent=1) + "\n"


def write(folder: Path, verdict: Verdict) -> None:
    """Writes the statement about all files that are in the folder of a release."""
    (folder / FILE).write_text(to_text(statement(digests(folder), verdict.to_json())), encoding="ascii")
