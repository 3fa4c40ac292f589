"""The daemon's own clock: UTC jumps, time goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import time

import pytest

from inspectd.core.errors import InspectdError
from inspectd.simulate import clock
from inspectd.simulate.clock import ShiftedClock, clock_problem

PROGRAM = """
import queue, sys, time
from datetime import UTC, datetime
before = time.monotonic()
time.sleep(0.01)
try:
    queue.SimpleQueue().get(timeout=0.01)
except queue.Empty:
    pass
for line in sys.stdin:
    print(time.time(), datetime.now(UTC).timestamp(), time.monotonic() - before, flush=True)
"""
NEAR_S = 60.0

needs_compiler = pytest.mark.skipif(clock_problem() is not None, reason=str(clock_problem()))


@needs_compiler
@pytest.mark.parametrize("ahead_s", [3600.0, -3600.0])
def test_utc_jumps_and_nothing_else(tmp_path: Path, ahead_s: float) -> None:
    """While a process runs; its monotonic clock goes on, and its waits work."""
    own = ShiftedClock(tmp_path / "clock")
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **own.environment()},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for expected in (0.0, ahead_s, 0.0):
            own.shift(expected)
            process.stdin.write("\n")
            process.stdin.flush()
            utc, other_utc, lasted = map(float, process.stdout.readline().split())
            assert utc - time() == pytest.approx(expected, abs=NEAR_S)
            assert other_utc - time() == pytest.approx(expected, abs=NEAR_S)
            assert 0 < lasted < NEAR_S
        process.stdin.close()
    assert process.returncode == 0


def test_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install."""
    monkeypatch.setenv("INSPECTD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InspectdError, match="apt-get install gcc"):
        clock.library_path()
    assert "no gcc" in str(clock_problem())
