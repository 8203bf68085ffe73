"""Policies, annexes and the record for the registry, on a release that was really made."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.slow

PUBLISHER = ("--curator", "Clinic", "--curator-type", "Nonprofit", "--region", "Finland", "--author", "A. Person")


@pytest.fixture
def released(case):  # type: ignore[no-untyped-def]
    """A release under a policy of a regime, by its name."""
    assert case.release("--holdout", "0.4", "--synthesizer", "independent", "--policy", "gdpr-controlled") in (
        1,
        3,
        4,
    ), case.stderr
    return case


def test_a_release_is_searched_judged_and_recorded(released, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """One release, all that a regime asks of it: one fit serves every check below."""
    found = json.loads((released.out / "release" / "evidence.json").read_text())["deid_scan"]
    by_letter = {row["letter"]["v"]: row for row in found["safe_harbor"]}
    assert len(by_letter) == 18
    assert by_letter["B"]["columns"]["v"] == ["town"]
    assert by_letter["C"]["columns"]["v"] == ["age"], "its declared bounds reach beyond 89"
    assert {row["status"]["cls"] for row in by_letter.values()} == {"P1"}
    assert found["direct"]["v"] == 0
    page = (released.out / "release" / "report.html").read_text()
    assert 'id="annex-dpia"' in page
    assert 'id="annex-hipaa-expert"' not in page

    for policy in ("hipaa-expert", "open-data"):  # whose limits this ledger does not keep
        assert released("gate", released.out, "--policy", policy) == 1
        assert "risk.tpr_at_fpr" in released.stderr
    summary = tmp_path / "summary.md"
    assert released("report", released.out, "--policy", "hipaa-expert", "--format", "md", "--out", summary) == 0
    assert "## Annex B2: " in summary.read_text()

    record = tmp_path / "record.yaml"
    asked = ("report", released.out, "--format", "registry", "--out", record)
    assert released(*asked) == 2, "only a person can say who publishes"
    assert not record.exists()
    assert released(*asked, *PUBLISHER, "--edition", "internal") == 2
    assert released(*asked, *PUBLISHER[:2], "--curator-type", "Bank", *PUBLISHER[4:]) == 2
    assert "data_curators" in released.stderr
    assert released("report", released.out, "--curator", "Clinic", "--out", record) == 2
    assert not record.exists()
    assert released(*asked, *PUBLISHER) == 0, released.stderr
    assert '      - data_curator_name: "Clinic"' in record.read_text()
