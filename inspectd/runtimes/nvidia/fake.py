"""A machine with a GPU and NVIDIA's packages, without either: for tests of the runtime's logic.

It stands in for the three packages as `inspectd.runtimes.nvidia` uses them, and is as strict as
they are: a call without a current context fails; what is freed under another context object than it
was made under leaks in silence, as with pycuda; work on a stream is done when the stream is waited
for, not before; a stream that is captured does nothing. An engine's results are those of ONNX
Runtime on the CPU, moved by `shift` for the precision. What differs between TensorRT 8, 10 and 11
is there or not, by version.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from types import SimpleNamespace
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from inspectd.runtimes.nvidia.driver import Device, Driver
from inspectd.runtimes.nvidia.fake_engine import FakeEngine, FakeError, Held, copy
from inspectd.runtimes.nvidia.vendor import Vendor

MAGIC = b"FAKE PLAN "
Operation = Callable[[], None]


class FakeMachine:
    """One GPU, what lives on it, and the failures to come."""

    def __init__(
        self,
        version: str = "10.3.0",
        *,
        has_graphs: bool = True,
        memory: int = 2**30,
        name: str = "Fake GPU",
        capability: tuple[int, int] = (8, 9),
    ) -> None:
        self.driver = Driver((12, 6), (Device(0, name, capability, memory),))
        self.version = version
        self.workspace = 2**20
        """Bytes in which an engine works."""
        self.shift: dict[str, float] = {}
        """Added to map and score, by precision."""
        self.used = 0
        """Bytes of the GPU's memory that are taken."""
        self.live: Counter[str] = Counter()
        """What exists: contexts, streams, buffers, engines, graphs."""
        self.released: list[str] = []
        """Kinds of what was given back, in order."""
        self.calls: Counter[str] = Counter()
        self.streams: WeakValueDictionary[int, FakeStream] = WeakValueDictionary()
        self.memory: dict[int, np.ndarray[Any, Any]] = {}
        self.handles = itertools.count(4096, 4096)
        self.last_build: Any = None
        """(network, configuration)."""
        self._failures: dict[str, list[str]] = {}
        self._local = threading.local()
        self.vendor = Vendor(
            _tensorrt(self), _pycuda(self), _bindings(self) if has_graphs else None
        )

    @property
    def stack(self) -> list[FakeContext]:
        """The calling thread's contexts."""
        if not hasattr(self._local, "stack"):
            self._local.stack = []
        stack: list[FakeContext] = self._local.stack
        return stack

    def fail(self, call: str, *messages: str) -> None:
        """Lets the next calls of that name fail."""
        self._failures.setdefault(call, []).extend(messages)

    def failure(self, call: str) -> str:
        """Counts a call; what is to go wrong with it, empty where nothing is."""
        self.calls[call] += 1
        waiting = self._failures.get(call)
        return waiting.pop(0) if waiting else ""

    def current(self, call: str) -> FakeContext:
        """The context under which a call is made.

        Raises:
            FakeError: there is none, or the call is to fail.
        """
        if not self.stack:
            raise FakeError(f"{call} failed: invalid device context")
        if message := self.failure(call):
            raise FakeError(f"{call} failed: {message}")
        return self.stack[-1]

    def take(self, size: int) -> None:
        """Takes memory of the GPU."""
        if self.used + size > self.driver.devices[0].memory:
            raise FakeError("cuMemAlloc failed: out of memory")
        self.used += size


class FakeContext:
    """A primary context; every `retain` makes another object of it."""

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine
        machine.live["context"] += 1

    def push(self) -> None:
        """Makes it current in this thread."""
        self._machine.stack.append(self)


class FakeStream(Held):
    """Work is done when it is waited for."""

    kind = "stream"

    def __init__(self, machine: FakeMachine) -> None:
        super().__init__(machine, "cuStreamCreate")
        self.handle = next(machine.handles)
        self.waiting: list[Operation] = []
        self.captured: list[Operation] | None = None
        machine.streams[self.handle] = self

    def put(self, operation: Operation) -> None:
        """Enqueues work, or records it."""
        (self.waiting if self.captured is None else self.captured).append(operation)

    def synchronize(self) -> None:
        """Does all that waits."""
        self._machine.current("cuStreamSynchronize")
        while self.waiting:
            self.waiting.pop(0)()


class FakeAllocation(Held):
    """Memory of the GPU."""

    kind = "device"

    def __init__(self, machine: FakeMachine, size: int) -> None:
        super().__init__(machine, "cuMemAlloc")
        self._size = 0
        machine.take(size)
        self._size = size
        self._address = next(machine.handles)
        machine.memory[self._address] = np.zeros(size, np.uint8)

    def __int__(self) -> int:
        return self._address

    def _freed(self) -> None:
        self._machine.used -= self._size
        if self._size:
            self._machine.memory.pop(self._address)


class FakePinned(Held):
    """Pinned memory; the arrays on it have it as their base."""

    kind = "pinned"

    def __init__(self, machine: FakeMachine) -> None:
        super().__init__(machine, "cuMemHostAlloc")


class _PinnedArray(np.ndarray[Any, Any]):
    """NumPy won't let a plain array have a base of our choice."""

    _base: Any = None

    @property
    def base(self) -> Any:
        return self._base


def _pycuda(machine: FakeMachine) -> Any:
    """The module ``pycuda.driver``."""

    def pagelocked_empty(shape: tuple[int, ...], dtype: Any) -> Any:
        array = np.full(shape, 77, dtype).view(_PinnedArray)
        array._base = FakePinned(machine)
        return array

    def to_device(target: FakeAllocation, source: Any, stream: FakeStream) -> None:
        machine.current("cuMemcpyHtoDAsync")
        address = int(target)
        stream.put(lambda: copy(machine.memory[address], source))

    def to_host(target: Any, source: FakeAllocation, stream: FakeStream) -> None:
        machine.current("cuMemcpyDtoHAsync")
        address = int(source)
        stream.put(lambda: copy(target, machine.memory[address]))

    def mem_get_info() -> tuple[int, int]:
        machine.current("cuMemGetInfo")
        total = machine.driver.devices[0].memory
        return total - machine.used, total

    return SimpleNamespace(
        Device=lambda index: SimpleNamespace(retain_primary_context=lambda: FakeContext(machine)),
        Context=SimpleNamespace(
            pop=lambda: machine.stack.pop(),
            synchronize=lambda: machine.current("cuCtxSynchronize"),
        ),
        Stream=lambda flags=0: FakeStream(machine),
        mem_alloc=lambda size: FakeAllocation(machine, size),
        mem_get_info=mem_get_info,
        pagelocked_empty=pagelocked_empty,
        memcpy_htod_async=to_device,
        memcpy_dtoh_async=to_host,
        Error=FakeError,
    )


class _Status(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_LAUNCH_FAILED = 719
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901


class FakeGraph(Held):
    """A graph, and what was recorded."""

    kind = "graph"

    def __init__(self, machine: FakeMachine, operations: list[Operation]) -> None:
        super().__init__(machine, "cuGraphInstantiate")
        self.operations = operations


def _bindings(machine: FakeMachine) -> Any:
    """The module ``cuda.bindings.driver``."""

    def status(call: str) -> _Status:
        if not machine.stack:
            return _Status.CUDA_ERROR_LAUNCH_FAILED
        message = machine.failure(call)
        return _Status[message] if message else _Status.CUDA_SUCCESS

    def begin(stream: int, mode: str) -> tuple[_Status]:
        found = status("cuStreamBeginCapture")
        if not found:
            machine.streams[stream].captured = []
        return (found,)

    def end(stream: int) -> tuple[Any, ...]:
        recorded, machine.streams[stream].captured = machine.streams[stream].captured, None
        return status("cuStreamEndCapture"), recorded

    def instantiate(recorded: list[Operation], flags: int) -> tuple[Any, ...]:
        found = status("cuGraphInstantiate")
        return found, None if found else FakeGraph(machine, recorded)

    def launch(graph: FakeGraph, stream: int) -> tuple[_Status]:
        found = status("cuGraphLaunch")
        if not found:
            machine.streams[stream].waiting.extend(graph.operations)
        return (found,)

    def destroy(graph: FakeGraph) -> tuple[_Status]:
        graph.free()
        return (_Status.CUDA_SUCCESS,)

    return SimpleNamespace(
        CUstream=lambda handle: handle,
        CUstreamCaptureMode=SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL="thread"),
        cuStreamBeginCapture=begin,
        cuStreamEndCapture=end,
        cuGraphInstantiate=instantiate,
        cuGraphLaunch=launch,
        cuGraphDestroy=lambda graph: (status("cuGraphDestroy"),),
        cuGraphExecDestroy=destroy,
    )


def _tensorrt(machine: FakeMachine) -> Any:
    """The module ``tensorrt``."""
    from inspectd.runtimes.nvidia.fake_builder import builder_module

    def deserialize(log: Any, plan: bytes) -> FakeEngine | None:
        head, _, model = plan.partition(b"\n")
        if message := machine.failure("deserialize_cuda_engine"):
            log.log(module.ILogger.ERROR, message)
            return None
        if not head.startswith(MAGIC):
            log.log(module.ILogger.ERROR, "Serialization assertion magicTag failed")
            return None
        header = json.loads(head.removeprefix(MAGIC))
        if header["version"] != machine.version:
            log.log(module.ILogger.ERROR, "Version tag does not match")
            return None
        return FakeEngine(machine, header, model)

    module = builder_module(machine, MAGIC)
    module.Runtime = lambda log: SimpleNamespace(
        deserialize_cuda_engine=lambda plan: deserialize(log, plan)
    )
    return module
