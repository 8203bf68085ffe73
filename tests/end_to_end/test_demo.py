"""The demo is the main job: it has to end with a pass."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from dpsynth.cli.main import run


@pytest.mark.slow
@pytest.mark.usefixtures("seeded_noise")
def test_demo_passes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On fresh noise each run ends otherwise about once in 10,000 times: an attack's interval reaches its limit of 0.10."""
    pytest.importorskip("statsmodels", reason="the demo's data ship inside statsmodels")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run(["demo"]) == 0
        time.sleep(1.1)
    folders = sorted(tmp_path.glob("dpsynth-demo-*"))
    assert len(folders) == 2
    shown = capsys.readouterr()
    for folder in folders:
        verdict = json.loads((folder / "release-1" / "release" / "verdict.json").read_text())
        assert verdict["verdict"] == "pass", [rule for rule in verdict["rules"] if rule["status"] != "pass"]
        for name in ("release/report.html", "internal/report.html", "release/manifest.json"):
            assert (folder / "release-1" / name).is_file()
            assert f"{folder.name}/release-1/{name}" in shown.out
    assert "dpsynth sample" in shown.out
