"""Asks a GenTL producer something in a process of its own: it may hang or crash without harm.

A process per producer also because a second Harvester in one process sees no devices. The child
(``python -m inspectd.cli.probe FOLDER QUESTION``) writes its answer to a file: what a producer
prints must not get into it. It ends itself by an alarm should its parent have been killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

from inspectd.acquisition.device import Device, DeviceEntry, entries, harvester
from inspectd.acquisition.features import (
    EXECUTE,
    SELECTED,
    Feature,
    Value,
    apply_features,
    describe,
    find,
    read,
)
from inspectd.core.errors import CameraError

ANSWER_S = 15.0
"""For one producer; enumeration of GigE cameras takes its time."""
ANSWER, ERRORS = "answer.json", "stderr.txt"
NO_DEVICE = "sees no camera: check cable, power and, for GigE, the network addresses"


@dataclass(frozen=True, slots=True)
class ProducerEntry:
    """One .cti and what it sees."""

    producer: Path
    devices: tuple[DeviceEntry, ...]
    problem: str
    """Why there is no device; empty where there is one."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        devices = [device.as_dict() for device in self.devices]
        return {"producer": str(self.producer), "problem": self.problem or None, "devices": devices}


@dataclass(frozen=True, slots=True)
class Written:
    """One feature that was written."""

    feature: str
    wanted: Value
    got: Value | None
    """As read back; None for a command, or where it can't be read."""
    problem: str
    """Why it isn't what was wanted; empty where it is."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "problem": self.problem or None}


@dataclass(frozen=True, slots=True)
class CameraReport:
    """What a camera can do, and what came of writing to it."""

    written: tuple[Written, ...]
    features: tuple[Feature, ...]


def producers_seen(files: Sequence[Path]) -> list[ProducerEntry]:
    """Every producer with its cameras, all asked at the same time.

    Raises:
        CameraError: harvesters isn't installed.
    """
    found = []
    for path, answer in zip(files, _ask([{"cti": str(path)} for path in files]), strict=True):
        devices = tuple(DeviceEntry(**fields) for fields in answer.get("devices", ()))
        problem = answer.get("problem") or ("" if devices else NO_DEVICE)
        found.append(ProducerEntry(path, devices, problem))
    return found


def camera_report(camera: DeviceEntry, write: Sequence[tuple[str, Value]] = ()) -> CameraReport:
    """Writes features to a camera, each read back, then reads all that it has.

    Raises:
        CameraError: it can't be opened or doesn't answer.
    """
    (answer,) = _ask([{"cti": camera.producer, "device": camera.id, "write": list(write)}])
    if problem := answer.get("problem"):
        raise CameraError(f"{camera.serial or camera.id}: {problem}")
    return CameraReport(
        tuple(Written(**fields) for fields in answer["written"]),
        tuple(
            Feature(**{**fields, "choices": tuple(fields["choices"])})
            for fields in answer["features"]
        ),
    )


# --- the asking side ----------------------------------------------------------------------------


def _ask(questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    if find_spec("harvesters") is None:
        raise CameraError("harvesters isn't installed; pip install 'inspectd[genicam]'")
    deadline = monotonic() + ANSWER_S
    with tempfile.TemporaryDirectory(prefix="inspectd-probe-") as base, ExitStack() as stack:
        folders = [Path(base) / str(index) for index in range(len(questions))]
        children = [
            stack.enter_context(_child(folder, question))
            for folder, question in zip(folders, questions, strict=True)
        ]
        return [
            _answer(child, folder, deadline)
            for child, folder in zip(children, folders, strict=True)
        ]


@contextmanager
def _child(folder: Path, question: Mapping[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir()
    with (folder / ERRORS).open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-m", "inspectd.cli.probe", str(folder), json.dumps(question)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    try:
        yield child
    finally:
        child.kill()
        with suppress(subprocess.TimeoutExpired):  # the kernel keeps it: a driver hangs
            child.wait(1.0)


def _answer(child: subprocess.Popen[bytes], folder: Path, deadline: float) -> dict[str, Any]:
    """What the child wrote, also where it hung or crashed only afterwards, or else its problem."""
    with suppress(subprocess.TimeoutExpired):
        child.wait(max(0.0, deadline - monotonic()))
    said = (folder / ERRORS).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if (folder / ANSWER).is_file():
        answer: dict[str, Any] = json.loads((folder / ANSWER).read_text(encoding="utf-8"))
        if answer.get("problem") and said:
            answer["problem"] += f" ({said[-1]})"
        return answer
    why = f" ({said[-1]})" if said else ""
    if child.returncode is None:
        return {"problem": f"doesn't answer within {ANSWER_S:g} s and was stopped{why}"}
    if child.returncode < 0:
        return {"problem": f"crashed ({signal.Signals(-child.returncode).name}){why}"}
    return {"problem": f"failed{why}"}


# --- the child's side ---------------------------------------------------------------------------


def main() -> None:
    """Answers one question."""
    signal.alarm(int(ANSWER_S) + 5)  # ends this process whatever a producer is doing
    folder, question = Path(sys.argv[1]), json.loads(sys.argv[2])
    try:
        _reply(folder, question)
    except CameraError as error:
        _write(folder, {"problem": str(error)})
    except Exception as error:  # noqa: BLE001 - whatever a producer does is an answer
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        _write(folder, {"problem": text})
    os._exit(0)  # a producer's library may crash when it is unloaded


def _reply(folder: Path, question: Mapping[str, Any]) -> None:
    path = Path(question["cti"])
    _require_loadable(path)
    with harvester([path]) as found:
        seen = entries(found)
        if "device" not in question:
            _write(folder, {"devices": [entry.as_dict() for entry in seen]})
            return
        index = next((i for i, entry in enumerate(seen) if entry.id == question["device"]), None)
        if index is None:
            raise CameraError("the camera has gone; `inspectd camera list` shows those there are")
        with Device(found, index) as camera:
            written = [_written(camera.nodes, *pair) for pair in question["write"]]
            features = [feature.as_dict() for feature in describe(camera.nodes)]
            _write(folder, {"written": [w.as_dict() for w in written], "features": features})


def _require_loadable(path: Path) -> None:
    """harvesters would pass over a file that it can't load, and crash on one of something else.

    Raises:
        CameraError: it can't be loaded, or is no producer.
    """
    import ctypes

    if not path.is_file():
        raise CameraError("no such file")
    try:
        library = ctypes.CDLL(str(path.resolve()))
    except OSError as error:
        raise CameraError(f"can't be loaded: {error}") from error
    if not hasattr(library, "GCInitLib"):
        raise CameraError("is no GenTL producer: it has no GCInitLib")


def _written(nodes: Any, name: str, wanted: Value) -> Written:
    from genicam import genapi

    problem = ""
    try:
        apply_features(nodes, [(name, wanted)])
    except CameraError as error:
        problem = str(error)
    selected = SELECTED.match(name)
    plain = selected.group(1) if selected else name
    if wanted == EXECUTE or isinstance(find(nodes, plain), genapi.ICommand):
        return Written(name, wanted, None, problem)
    try:
        return Written(name, wanted, read(nodes, plain), problem)
    except genapi.GenericException:
        return Written(name, wanted, None, problem or "it can't be read back")


def _write(folder: Path, answer: Mapping[str, Any]) -> None:
    """At once: the parent reads a whole answer or none."""
    partial = folder / "partial"
    partial.write_text(json.dumps(answer), encoding="utf-8")
    partial.rename(folder / ANSWER)


if __name__ == "__main__":
    main()
