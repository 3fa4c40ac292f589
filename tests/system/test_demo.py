"""``inspectd demo``: from nothing to rejected parts, with nothing but what pip installs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

KEYS = {
    "triggers", "answered", "unanswered", "duplicates", "passed", "failed", "undecided",
    "escapes", "overkill", "latency_ms_p50", "latency_ms_p99",
}  # fmt: skip


def test_the_demo_answers_every_trigger(tmp_path: Path) -> None:
    """Embedded broker, real daemon, real gate: exit status 0, a summary, a report, overlays."""
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "inspectd", "demo", "--parts", "12", "--rate", "4"),
            *("--json", "summary.json", "--out", "out"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary) == KEYS
    assert summary["triggers"] == summary["answered"] == 12
    assert summary["unanswered"] == summary["duplicates"] == 0
    assert summary["passed"] + summary["failed"] + summary["undecided"] == 12
    assert summary["passed"] > 0
    assert summary["failed"] > 0
    assert summary["latency_ms_p50"] <= summary["latency_ms_p99"]
    assert "<html" in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "overlays.png").read_bytes().startswith(b"\x89PNG")
    assert "every trigger" not in ended.stderr
