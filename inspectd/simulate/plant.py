"""The whole plant: broker, network, camera, daemon, gate and recorder, and the ways to harm it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self

from inspectd.core.config import MqttSection
from inspectd.core.errors import InspectdError
from inspectd.ledger import State
from inspectd.runtimes.simulated import FaultPlan
from inspectd.simulate.account import Row
from inspectd.simulate.broker import Broker
from inspectd.simulate.clock import ShiftedClock, clock_problem
from inspectd.simulate.conveyor import Conveyor
from inspectd.simulate.daemon import START_S, Daemon, own_path, python_command
from inspectd.simulate.ears import Gate, Recorder
from inspectd.simulate.network import Direct, Network, network_for
from inspectd.simulate.scenario import Scenario
from inspectd.simulate.stage import PRODUCTS, Stage

RATE_SHARE = 0.5
"""Of the line's rate: what the daemon is told to expect while its camera is away. Rather too few:
the camera's count adds the rest."""
LEDGER_BYTES = 2048
"""Of disk for each part, where the disk is one that can be filled."""
LEDGER_LEAST = 16 * 2**20
REPLY_S = 15.0
"""How long a command's reply is waited for."""
LINE = "line"


class Plant:
    """Entering puts everything up and waits until the daemon takes parts; leaving clears away."""

    def __init__(self, folder: Path, scenario: Scenario, stage: Stage) -> None:
        """`folder` is this run's own, and empty."""
        self.folder = folder.resolve()
        self.scenario = scenario
        self.stage = stage
        self.station = f"sim-{os.getpid()}"
        self.base = f"inspectd/v1/site/area/{LINE}/{self.station}"
        self.product = PRODUCTS[0]
        """What the line was last asked to inspect."""
        self.notes: list[str] = []
        """What went otherwise than the scenario wanted."""
        self._stack = ExitStack()
        self._waiting: deque[tuple[str, float, str]] = deque()
        """Commands that weren't answered yet: verb, until when, product."""
        self._filler = self.ledger_folder / "filler"
        self.broker: Broker | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._put_up(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def ledger_folder(self) -> Path:
        """Where the daemon writes."""
        return self.folder / "state" / "ledger"

    @property
    def ledger(self) -> Path:
        """The daemon's ledger."""
        return self.ledger_folder / f"{LINE}-{self.station}.sqlite3"

    def look_after(self) -> None:
        """What has to be done again and again, by the thread that put the plant up."""
        self.daemon.look_after()
        self._hear_replies()

    def waiting(self) -> int | None:
        """Parts whose verdict isn't with the broker, as the ledger says; None where it can't."""
        found = self._query("SELECT count(*) FROM part WHERE state < 3")
        return None if found is None else int(found[0][0])

    def rows(self) -> list[Row]:
        """The whole ledger."""
        found = self._query("SELECT result_id, seq, trigger_count, state FROM part") or []
        return [
            Row(result_id, seq, count, state == State.DELIVERED)
            for result_id, seq, count, state in found
        ]

    # --- what faults do ---------------------------------------------------------------------

    def fill_disk(self) -> None:
        """Not a byte is left for the ledger."""
        if os.geteuid() != 0:
            self.daemon.limit_files(0)
            return
        block = b"\0" * 65_536
        with self._filler.open("ab", buffering=0) as file:
            for size in (len(block), 4096, 1):
                with suppress(OSError):
                    while file.write(block[:size]):
                        pass

    def free_disk(self) -> None:
        """After `fill_disk`."""
        if os.geteuid() != 0:
            self.daemon.limit_files(-1)
            return
        self._filler.unlink(missing_ok=True)

    def change_over(self, how: str) -> None:
        """To the other product."""
        self.product = PRODUCTS[1 - PRODUCTS.index(self.product)]
        self._configure()  # a daemon that is started anew takes the new one too
        if how == "sighup":
            self.daemon.reload()
            return
        self.recorder.command("prepare_product", {"product": self.product})
        self._waiting.append(("prepare_product", monotonic() + REPLY_S, self.product))

    # --- putting up -------------------------------------------------------------------------

    def _put_up(self, stack: ExitStack) -> None:
        scenario, kinds = self.scenario, self.scenario.kinds
        self.clock = ShiftedClock(self.folder / "clock")
        cuts = "network-cut" in kinds
        self.network: Network = stack.enter_context(
            network_for(scenario.network) if cuts else Direct()
        )
        here = self._broker(stack)
        host, port = self.network.route(here.host, here.port)
        self._mqtt = here.model_copy(update={"host": host, "port": port})
        self.recorder = stack.enter_context(Recorder(here, self.base, f"{self.station}-recorder"))
        self.gate = stack.enter_context(Gate(here, self.base, f"{self.station}-gate"))
        self.conveyor = stack.enter_context(
            Conveyor(self.folder / "rig", self.stage.images(), scenario.parts, scenario.rate)
        )
        self._prepare_state(stack, "disk-full" in kinds)
        self._configure()
        self.plan = FaultPlan(self.folder / "runtime")
        command = self.network.command(python_command(self.folder / "inspectd.toml"))
        if "disk-full" in kinds and os.geteuid() != 0:
            # The limit is for the ledger: the log goes through a pipe, as under systemd.
            log = self.folder / "daemon.log"
            command = ["sh", "-c", f'exec "$@" 2>&1 | cat >> {log}', "sh", *command]
        self.daemon = stack.enter_context(
            Daemon(
                command,
                self.folder / "daemon.log",
                {
                    **own_path(),
                    **(self.clock.environment() if "clock-jump" in kinds else {}),
                    **self.conveyor.rig.environment(),
                    **self.plan.environment(),
                },
                restart_s=scenario.restart_s,
                watchdog_s=scenario.watchdog_s,
            )
        )
        self._await_daemon()

    def _broker(self, stack: ExitStack) -> MqttSection:
        """Where this process finds the broker."""
        kind = self.scenario.broker
        if kind not in ("mosquitto", "embedded"):
            host, _, port = kind.rpartition(":")
            return MqttSection(
                host=host, port=int(port), version="5", keepalive_s=self.scenario.keepalive_s
            )
        self.broker = stack.enter_context(Broker(self.folder, kind, self.network.address))
        return self.broker.section(self.scenario.keepalive_s)

    def _prepare_state(self, stack: ExitStack, can_fill: bool) -> None:
        self.ledger_folder.mkdir(parents=True)
        (self.folder / "state" / "products").symlink_to(self.stage.products.resolve())
        if not can_fill or os.geteuid() != 0:
            return
        size = max(LEDGER_LEAST, self.scenario.parts * LEDGER_BYTES)
        options = ["-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(self.ledger_folder)]
        ended = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
        if ended.returncode:
            raise InspectdError(f"disk-full: a small disk can't be mounted: {ended.stderr.strip()}")
        stack.callback(self._unmount)

    def _unmount(self) -> None:
        """Keeps the ledger, not the disk."""
        self._filler.unlink(missing_ok=True)
        kept = self.folder / "ledger-kept"
        with suppress(OSError):
            shutil.copytree(self.ledger_folder, kept)
        subprocess.run(["umount", "-l", str(self.ledger_folder)], check=False)

    def _configure(self) -> None:
        """The daemon's configuration, as a user would write it."""
        scenario, mqtt = self.scenario, self._mqtt
        expected_rate = scenario.rate * RATE_SHARE
        text = f"""# Written by `inspectd simulate`.
product = "{self.product}"
state_dir = {json.dumps(str(self.folder / "state"))}
runtime = "simulated"
threads = 1
queue = {scenario.queue}
simulation = true

[station]
line = "{LINE}"
station = "{self.station}"

{self.conveyor.configuration(expected_rate)}
[mqtt]
host = "{mqtt.host}"
port = {mqtt.port}
version = "{mqtt.version}"
keepalive_s = {mqtt.keepalive_s}

[ledger]
max_rows = {max(200_000, 2 * scenario.parts)}
"""
        products = self.folder / "products.d"
        products.mkdir(exist_ok=True)
        for product in PRODUCTS:
            own = f"deadline_ms = {scenario.deadline_ms}\n"
            (products / f"{product}.toml").write_text(own, encoding="utf-8")
        config = self.folder / "inspectd.toml"
        config.with_suffix(".new").write_text(text, encoding="utf-8")
        config.with_suffix(".new").replace(config)

    def _await_daemon(self) -> None:
        limit = monotonic() + START_S
        while not self.daemon.is_ready:
            self.daemon.require_alive()
            if monotonic() > limit:
                raise InspectdError(
                    f"the daemon wasn't ready within {START_S:g} s; its log is "
                    f"{self.folder / 'daemon.log'}"
                )
            self.daemon.look_after()
            sleep(0.02)

    # --- meanwhile --------------------------------------------------------------------------

    def _hear_replies(self) -> None:
        try:
            while True:
                verb, reply = self.recorder.replies.get_nowait()
                self._heed(verb, reply)
        except Empty:
            pass
        if self._waiting and monotonic() > self._waiting[0][1]:
            verb, _, product = self._waiting.popleft()
            self.notes.append(f"{verb} {product}: no reply within {REPLY_S:g} s")

    def _heed(self, verb: str, reply: dict[str, Any]) -> None:
        waiting = next((one for one in self._waiting if one[0] == verb), None)
        if waiting is None:
            return
        self._waiting.remove(waiting)
        if reply.get("ok") is not True:
            self.notes.append(f"{verb} {waiting[2]}: {reply}")
        elif verb == "prepare_product":
            self.recorder.command("activate", {"product": waiting[2]})
            self._waiting.append(("activate", monotonic() + REPLY_S, waiting[2]))

    def _query(self, statement: str) -> list[Any] | None:
        try:
            connection = sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=1.0)
        except sqlite3.Error:
            return None
        try:
            return connection.execute(statement).fetchall()
        except sqlite3.Error:
            return None
        finally:
            connection.close()


def problems(scenario: Scenario) -> list[str]:
    """What the scenario needs and this machine hasn't."""
    problem = clock_problem() if "clock-jump" in scenario.kinds else None
    return [problem] if problem is not None else []
