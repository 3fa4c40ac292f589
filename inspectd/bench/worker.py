"""The process in which one contender lives: its memory, threads and crashes are its own.

The host sends a request, the worker answers with what the request's `run` gives, or with a
`Failure`. A picture's latency is taken here, so that pipes are outside of it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import numpy as np

from inspectd.bench.contenders import Contender
from inspectd.bench.machine import device_memory
from inspectd.core.bundle import Graph
from inspectd.core.contracts import Batched, Runtime
from inspectd.core.errors import InferenceError, InspectdError
from inspectd.core.records import ImageArray

WARM_UP = 3
"""Pictures before anything is measured."""
MIB = 2**20


@runtime_checkable
class _Captured(Protocol):
    is_captured: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request came to nothing."""

    message: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A contender that is open."""

    label: str
    """The runtime's own name."""
    rounding: float
    is_captured: bool
    """Whether a picture runs as one CUDA graph."""
    load_s: float
    """From a process that has nothing of it to a runtime that is entered, packages included."""
    first_ms: float
    """The first picture, which may still compile or allocate."""
    resident_mib: float
    """Of the process, after a few pictures."""
    before_mib: float
    """Of the process, before the runtime's packages were imported."""
    device_mib: float | None
    """By which the GPU's used memory grew; None without one."""
    largest_batch: int = 1
    """Pictures that it takes in one go."""


class Bench:
    """An entered runtime and the pictures that it is given in turn."""

    def __init__(
        self, contender: Contender, threads: int, pictures: Sequence[ImageArray], batch: int = 1
    ) -> None:
        self.contender = contender
        self.threads = threads
        self.batch = batch
        self.pictures = pictures
        self._next = cycle(pictures)
        self._runtime: Runtime | None = None
        self._probe: Runtime | None = None
        self._entered: list[Runtime] = []

    def load(self) -> Loaded:
        """Opens the contender, and lets it run in."""
        before, device = resident_mib(), device_memory()
        started = perf_counter()
        runtime = self.contender.open(self.contender.graph, self.threads, self.batch)
        self._runtime = runtime.__enter__()
        self._entered.append(runtime)
        load_s = perf_counter() - started
        first_ms = self.picture()
        for _ in range(WARM_UP):
            self.picture()
        after = device_memory()
        return Loaded(
            label=runtime.name,
            rounding=runtime.rounding,
            is_captured=isinstance(runtime, _Captured) and runtime.is_captured,
            load_s=load_s,
            first_ms=first_ms,
            resident_mib=resident_mib(),
            before_mib=before,
            device_mib=None if device is None or after is None else (after - device) / MIB,
            largest_batch=runtime.largest_batch if isinstance(runtime, Batched) else 1,
        )

    @property
    def runtime(self) -> Runtime:
        """The entered runtime."""
        if self._runtime is None:
            raise InspectdError("the contender isn't loaded")
        return self._runtime

    def picture(self) -> float:
        """Scores the next picture; milliseconds."""
        return seconds_of(self.runtime, next(self._next)) * 1e3

    def pictures_at_once(self) -> float:
        """Scores a whole batch of next pictures; milliseconds.

        Raises:
            InferenceError: the runtime takes one at a time.
        """
        images = [next(self._next) for _ in range(self.batch)]
        if not isinstance(self.runtime, Batched):
            raise InferenceError("the contender takes one picture at a time")
        started = perf_counter()
        self.runtime.infer_batch(images)
        return (perf_counter() - started) * 1e3

    def opened_probe(self, probe: Graph) -> Runtime:
        """The contender on another graph, entered and run in; opened once.

        Raises:
            InspectdError: it can't run that one.
        """
        if self._probe is None:
            opened = self.contender.open(probe, self.threads).__enter__()
            self._entered.append(opened)
            opened.infer(np.full((*probe.size, 3), 127, np.uint8))
            self._probe = opened
        return self._probe

    def close(self) -> None:
        """Leaves what was entered."""
        while self._entered:
            self._entered.pop().__exit__(None, None, None)


class Request(Protocol):
    """What a worker can be asked."""

    def run(self, bench: Bench) -> Any:
        """The answer; anything that can be pickled."""
        ...


def seconds_of(runtime: Runtime, image: ImageArray) -> float:
    """That it takes to score one picture."""
    started = perf_counter()
    runtime.infer(image)
    return perf_counter() - started


def serve(
    connection: Connection,
    contender: Contender,
    threads: int,
    pictures: Sequence[ImageArray],
    batch: int,
) -> None:
    """Loads, and answers until the host hangs up: the process's main function."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C strikes the group; the host ends us
    # OpenMP's threads (torch's) would spin while they wait: on a busy machine that costs many times
    # the work, and disturbs whoever comes next. ONNX Runtime's don't spin in our runtime either.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    bench = Bench(contender, threads, pictures, batch)
    try:
        connection.send(_answered(bench.load))
        with suppress(EOFError):
            while True:
                request: Request = connection.recv()
                connection.send(_answered(partial(request.run, bench)))
        bench.close()
    except BrokenPipeError:
        pass  # the host is gone
    connection.close()


def _answered(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except ImportError as error:
        return Failure(f"{error.name or error} isn't installed; inspectd doctor says what to do")
    except (InspectdError, OSError, ValueError) as error:
        return Failure(" ".join(str(error).split()))


def resident_mib() -> float:
    """Memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / MIB


def peak_mib() -> float:
    """The most that it ever held."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return resident_mib()
