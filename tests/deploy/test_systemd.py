"""The unit under a real systemd, with all its restrictions; skipped where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from inspectd.core.store import ProductStore

PATIENCE_S = 60.0
UNITS = Path("/run/systemd/system")


def systemctl(*arguments: str, check: bool = True) -> str:
    """Its output."""
    command = ["systemctl", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0 or not check, result.stderr
    return result.stdout.strip()


def until(condition: Callable[[], object], what: str) -> None:
    """Waits for it."""
    deadline = monotonic() + PATIENCE_S
    while not condition():
        assert monotonic() < deadline, f"waited in vain for {what}"
        sleep(0.1)


@pytest.fixture
def service(tree: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The shipped unit under a name of its own, as nobody, with a station that replays pictures."""
    if not UNITS.is_dir() or os.geteuid() != 0:
        pytest.skip("needs root on a machine that systemd runs")
    if sys.base_prefix.startswith(("/root/", "/home/")):
        pytest.skip("this Python lies in a home directory, which the unit may not read")
    tiny_store: ProductStore = request.getfixturevalue("tiny_store")  # not before the skips
    tiny_data: Path = request.getfixturevalue("tiny_data")
    name = f"inspectd-test-{uuid.uuid4().hex[:8]}"
    state = Path("/var/lib") / name
    for package in ("inspectd", "calibration"):
        shutil.copytree(tree / package, state / "code" / package)
    shutil.copytree(tiny_store.root, state / "products", symlinks=True)
    shutil.copytree(tiny_data / "holdout" / "good", state / "pictures")
    station = 'product = "tiny"\nthreads = 1\n[mqtt]\nport = 1\n'
    station += f'[camera]\npath = "{state}/pictures"\nloop = true\nrate = 20\n'
    (state / "one.toml").write_text(station)
    (state / "wrong.toml").write_text("nonsense = 1\n" + station)
    path = [str(state / "code"), *(entry for entry in sys.path if "site-packages" in entry)]
    for instance in ("one", "wrong"):
        (state / f"{instance}.env").write_text(f"PYTHONPATH={':'.join(path)}\n")
    shutil.chown(state, "nobody")
    text = (tree / "systemd" / "inspectd@.service").read_text()
    text = text.replace("/opt/inspectd/current/bin/inspectd", f"{sys.executable} -m inspectd")
    text = text.replace("/etc/inspectd", str(state)).replace("WatchdogSec=30", "WatchdogSec=5")
    text = text.replace("User=inspectd", "User=nobody").replace("Group=inspectd", "Group=nogroup")
    text = text.replace("Directory=inspectd", f"Directory={name}")
    (UNITS / f"{name}@.service").write_text(text)
    systemctl("daemon-reload")
    yield name
    systemctl("stop", f"{name}@*", check=False)
    systemctl("reset-failed", f"{name}@*", check=False)
    (UNITS / f"{name}@.service").unlink()
    systemctl("daemon-reload")
    shutil.rmtree(state)


def shown(unit: str, field: str) -> str:
    """What systemd knows of a unit."""
    return systemctl("show", "--value", "-p", field, unit)


def test_it_starts_and_stops(service: str) -> None:
    """Ready once warm, its status counts parts, and SIGTERM ends it well before the time-out."""
    unit = f"{service}@one"
    systemctl("start", unit)
    assert shown(unit, "ActiveState") == "active"
    until(lambda: " pass" in shown(unit, "StatusText"), "a part")
    systemctl("stop", unit)
    assert shown(unit, "Result") == "success"


def test_it_is_started_again(service: str) -> None:
    """After it was killed, and after the watchdog found it stuck."""
    unit = f"{service}@one"
    systemctl("start", unit)
    for restarts, signal in (("1", "KILL"), ("2", "STOP")):
        systemctl("kill", "--kill-whom=main", f"--signal={signal}", unit)
        until(lambda restarts=restarts: shown(unit, "NRestarts") == restarts, signal)
        until(lambda: shown(unit, "ActiveState") == "active", "the restart")


def test_a_wrong_configuration_ends_it(service: str) -> None:
    """It isn't tried again, and the status says that it is the configuration."""
    unit = f"{service}@wrong"
    systemctl("start", unit, check=False)
    assert shown(unit, "ActiveState") == "failed"
    assert shown(unit, "ExecMainStatus") == "2"
    assert shown(unit, "NRestarts") == "0"
