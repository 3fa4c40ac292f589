"""``inspectd gate`` and a real broker: silence closes the gate, and noise doesn't end it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from inspectd.core.config import MqttSection
from inspectd.gate import Action, GateKeeper, watch

Broker = Collector = Any
"""See conftest.py."""
Make = Callable[..., Any]
BASE = "inspectd/v1/site/area/line/station"


def verdict(seq: int, word: str = "pass", **more: Any) -> str:
    """A fresh verdict."""
    content = {
        "schema": "inspectd/verdict/1",
        "result_id": f"result-{seq}",
        "seq": seq,
        "part_id": f"part-{seq}",
        "verdict": word,
        "late": False,
        "captured_at": datetime.now(UTC).isoformat(),
        "deadline_ms": 60_000,
        "is_simulated": False,
        **more,
    }
    return json.dumps(content)


class Watcher:
    """A gate in a thread."""

    def __init__(self, port: int) -> None:
        self.actions: list[Action] = []
        self.troubles: list[str] = []
        self._stop = threading.Event()
        self._settings = MqttSection(host="127.0.0.1", port=port)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._thread.join()

    def why(self) -> list[str]:
        """What the gate did, in order."""
        return [action.why for action in list(self.actions)]

    def _run(self) -> None:
        keeper = GateKeeper()
        for action in watch(self._settings, BASE, keeper, self._stop, self.troubles.append):
            self.actions.append(action)


@pytest.fixture
def start_watcher() -> Iterator[Callable[[int], Watcher]]:
    """Starts a gate at a port."""
    started: list[Watcher] = []

    def start(port: int) -> Watcher:
        started.append(Watcher(port))
        return started[-1]

    yield start
    for watcher in started:
        watcher.close()


def test_a_lost_broker_closes_the_gate(
    make_broker: Make, collect: Make, start_watcher: Callable[[int], Watcher], wait: Make
) -> None:
    """Nothing heard is no pass: it rejects, says why, and opens again when the station is back."""
    broker = make_broker().start()
    collector = collect(broker)
    watcher = start_watcher(broker.port)
    collector.client.publish(f"{BASE}/availability", "online", qos=1, retain=True)
    wait(lambda: watcher.why() == ["available"])
    collector.client.publish(f"{BASE}/verdict", verdict(1), qos=1)
    wait(lambda: watcher.why() == ["available", "pass"])
    broker.kill()
    wait(lambda: watcher.why()[2:] == ["unavailable"])
    assert watcher.actions[-1].rejects
    assert watcher.troubles
    broker.start()
    collector.wait_subscribed()
    collector.client.publish(f"{BASE}/availability", "online", qos=1, retain=True)
    wait(lambda: watcher.why()[3:] == ["available"])
    collector.client.publish(f"{BASE}/verdict", verdict(4), qos=1)
    wait(lambda: watcher.why()[4:] == ["gap", "gap", "pass"])


@pytest.mark.parametrize(
    ("options", "counted"),
    [([], {"available": 1, "simulated": 1}), (["--accept-simulated"], {"available": 1, "pass": 1})],
    ids=["production", "commissioning"],
)
def test_simulated_verdicts_need_permission(
    broker: Broker, collect: Make, wait: Make, options: list[str], counted: dict[str, int]
) -> None:
    """Without --accept-simulated they are rejects, as at the PLC."""
    collector = collect(broker)
    collector.client.publish(f"{BASE}/availability", "online", qos=1, retain=True)
    gate = subprocess.Popen(
        [
            *(sys.executable, "-m", "inspectd", "gate", "--broker", f"127.0.0.1:{broker.port}"),
            *("--topic", BASE, "--count", "1", *options),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait(lambda: broker.has_subscriber(3))
        collector.client.publish(f"{BASE}/verdict", verdict(1, is_simulated=True), qos=1)
        output, _ = gate.communicate(timeout=40)
    finally:
        gate.kill()
        gate.wait()
    assert gate.returncode == 0
    assert ", ".join(f"{n} {why}" for why, n in sorted(counted.items())) in output


def test_hostile_names_do_not_end_the_gate(
    broker: Broker, collect: Make, tmp_path: Path, wait: Make
) -> None:
    """A part's name may hold what neither a terminal nor an environment nor a file name takes."""
    collector = collect(broker)
    gate = subprocess.Popen(
        [
            *(sys.executable, "-m", "inspectd", "gate", "--broker", f"127.0.0.1:{broker.port}"),
            *("--topic", BASE, "--count", "4", "--on-reject", "env"),
            *("--reject-dir", tmp_path / "rejects", "--json", tmp_path / "counts.json"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        collector.client.publish(f"{BASE}/availability", "online", qos=1, retain=True)
        wait(lambda: (tmp_path / "rejects").is_dir())
        wait(lambda: broker.has_subscriber(2))
        names = ["a\x00b", "\ud800", "\x1b[31mred", "../../etc/passwd"]
        for seq, name in enumerate(names, start=1):
            hostile = verdict(seq, "fail", part_id=name, result_id=f"{name}-{seq}")
            collector.client.publish(f"{BASE}/verdict", hostile, qos=1)
        output, errors = gate.communicate(timeout=40)
    finally:
        gate.kill()
        gate.wait()
    assert gate.returncode == 0, errors
    assert "\x1b[31mred" not in output
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert counts["fail"] == 4
    assert len(list((tmp_path / "rejects").iterdir())) == 4
