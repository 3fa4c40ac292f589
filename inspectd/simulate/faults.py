"""What can be done to a plant: for each kind of fault how it begins and how it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from inspectd.simulate.account import FaultSpan
from inspectd.simulate.plant import Plant
from inspectd.simulate.scenario import Fault, Kind, Planned

Act = Callable[[Plant, Fault], None]

FEW, MANY = 3, 20
"""How often something happens where the scenario doesn't say."""


def _nothing(plant: Plant, fault: Fault) -> None:
    """For faults that are over at once."""


def _always(plant: Plant, fault: Fault) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Deed:
    """One kind of fault."""

    begin: Act
    end: Act = _nothing
    is_over: Callable[[Plant, Fault], bool] = _always
    """Whether the line can be itself again, asked after `end`."""


def _kill_camera_process(plant: Plant, _: Fault) -> None:
    if (pid := plant.daemon.camera_pid) is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _broker(act: str) -> Act:
    def run(plant: Plant, _: Fault) -> None:
        if plant.broker is not None:
            getattr(plant.broker, act)()

    return run


def _camera(text: str) -> Act:
    return lambda plant, fault: plant.conveyor.command(text)


def _frames(name: str) -> Act:
    return lambda plant, fault: plant.conveyor.command(f"{name} {fault.count or FEW}")


DEEDS: dict[Kind, Deed] = {
    "broker-kill": Deed(_broker("kill"), _broker("restart")),
    "broker-pause": Deed(_broker("pause"), _broker("resume")),
    "network-cut": Deed(
        lambda plant, _: plant.network.cut(), lambda plant, _: plant.network.join()
    ),
    "camera-cut": Deed(_camera("cut"), _camera("join")),
    "camera-unplug": Deed(_camera("unplug"), lambda plant, _: plant.conveyor.plug()),
    "camera-child-kill": Deed(_kill_camera_process),
    "camera-freeze": Deed(_camera("freeze on"), _camera("freeze off")),
    "frame-drop": Deed(_frames("drop")),
    "frame-incomplete": Deed(_frames("incomplete")),
    "frame-wrong-size": Deed(_frames("wrong-size")),
    "no-frame": Deed(_frames("no-frame")),
    "daemon-kill": Deed(
        lambda plant, _: plant.daemon.kill(), is_over=lambda plant, _: plant.daemon.is_ready
    ),
    "disk-full": Deed(lambda plant, _: plant.fill_disk(), lambda plant, _: plant.free_disk()),
    "slow-inference": Deed(
        lambda plant, fault: plant.plan.delay(fault.delay_ms), lambda plant, _: plant.plan.delay(0)
    ),
    "inference-fail": Deed(lambda plant, fault: plant.plan.fail(fault.count or FEW)),
    "inference-hang": Deed(
        lambda plant, _: plant.plan.hang(), lambda plant, _: plant.plan.resume()
    ),
    "clock-jump": Deed(
        lambda plant, fault: plant.clock.shift(fault.jump_s), lambda plant, _: plant.clock.shift(0)
    ),
    "burst": Deed(lambda plant, fault: plant.conveyor.burst(fault.count or MANY, fault.rate)),
    "changeover": Deed(lambda plant, fault: plant.change_over(fault.how)),
}


@dataclass(slots=True)
class _Running:
    planned: Planned
    part: int
    began_s: float
    has_ended: bool = False


class Schedule:
    """Begins and ends the faults in their time; `step` is called often, by one thread."""

    def __init__(self, plant: Plant, planned: Iterable[Planned]) -> None:
        self._plant = plant
        self._waiting = list(planned)[::-1]
        self._running: list[_Running] = []
        self.spans: list[FaultSpan] = []
        """Those that are over, in the order of their ends."""

    @property
    def is_quiet(self) -> bool:
        """Whether none is going on."""
        return not self._running

    def step(self) -> list[str]:
        """Returns a line for each that began or ended."""
        told = []
        passed = self._plant.conveyor.passed
        while self._waiting and self._waiting[-1].at_part <= passed:
            told.append(self._begin(self._waiting.pop(), passed))
        for running in list(self._running):
            told += self._advance(running, passed)
        return told

    def end_all(self) -> None:
        """Sets everything right again, whatever the plan says, and begins nothing more."""
        self._waiting.clear()
        for running in list(self._running):
            self._end(running)
            self._note(running)

    def _begin(self, planned: Planned, passed: int) -> str:
        DEEDS[planned.kind].begin(self._plant, planned.details)
        self._running.append(_Running(planned, passed, monotonic()))
        return f"part {passed}: {planned.kind}"

    def _advance(self, running: _Running, passed: int) -> list[str]:
        planned = running.planned
        if not running.has_ended and self._is_due(running, passed):
            self._end(running)
        deed = DEEDS[planned.kind]
        if not running.has_ended or not deed.is_over(self._plant, planned.details):
            return []
        lasted = monotonic() - running.began_s
        self._note(running)
        return [f"part {passed}: {planned.kind} over after {lasted:.1f} s"] if lasted > 0.1 else []

    def _is_due(self, running: _Running, passed: int) -> bool:
        if self._plant.conveyor.ended.is_set():
            return True
        if (parts := running.planned.details.for_parts) is not None:
            return passed >= running.part + parts
        return monotonic() >= running.began_s + (running.planned.for_s or 0.0)

    def _end(self, running: _Running) -> None:
        if not running.has_ended:
            running.has_ended = True
            DEEDS[running.planned.kind].end(self._plant, running.planned.details)

    def _note(self, running: _Running) -> None:
        self._running.remove(running)
        self.spans.append(
            FaultSpan(running.planned.kind, running.part, running.began_s, monotonic())
        )
