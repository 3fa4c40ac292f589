"""The half of the fake machine that runs engines: plans, execution contexts, profiles."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

if TYPE_CHECKING:
    from inspectd.runtimes.nvidia.fake import FakeContext, FakeMachine, FakeStream


class FakeError(Exception):
    """Like pycuda's: what went wrong is only in its text."""


class Held:
    """Something that is made under a context and must be given back under the same."""

    kind = ""

    def __init__(self, machine: FakeMachine, call: str) -> None:
        self._context: FakeContext | None = None
        self._machine = machine
        self._context = machine.current(call)
        machine.live[self.kind] += 1

    def free(self) -> None:
        """Gives it back; under another context it leaks in silence, as with pycuda."""
        context, self._context = self._context, None
        stack = self._machine.stack
        if context is None or not stack or stack[-1] is not context:
            return
        self._machine.live[self.kind] -= 1
        self._machine.released.append(self.kind)
        self._freed()

    def __del__(self) -> None:
        self.free()

    def _freed(self) -> None:
        """What else goes with it."""


class FakeEngine(Held):
    """Its plan is a line of JSON and the model."""

    kind = "engine"

    def __init__(self, machine: FakeMachine, header: dict[str, Any], model: bytes) -> None:
        super().__init__(machine, "deserialize")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        self.shift = machine.shift.get(header["precision"], 0.0)
        self.profiles = [
            (tuple(least), tuple(most)) for least, _, most in map(tuple, header["profiles"])
        ]
        self.num_optimization_profiles = len(self.profiles)
        self.executions: WeakSet[FakeExecution] = WeakSet()
        self.names: list[str] = [
            one.name for one in (*self.session.get_inputs(), *self.session.get_outputs())
        ]
        self.num_io_tensors = len(self.names)
        self.device_memory_size = machine.workspace

    def get_tensor_name(self, index: int) -> str:
        """See TensorRT."""
        return self.names[index]

    def get_tensor_dtype(self, name: str) -> Any:
        """See TensorRT."""
        return SimpleNamespace(name="UINT8" if name == self.names[0] else "FLOAT")

    def create_execution_context(self, *strategy: Any) -> FakeExecution | None:
        """See TensorRT; the strategy is known from 10 on."""
        if strategy and self._machine.vendor.major < 10:
            raise TypeError("create_execution_context(): incompatible function arguments")
        if self._machine.failure("create_execution_context"):
            return None
        managed = bool(strategy) and strategy[0].name == "USER_MANAGED"
        memory = 0 if managed else self.device_memory_size
        kind = FakeNewExecution if self._machine.vendor.major >= 10 else FakeOldExecution
        return kind(self._machine, self, memory)

    def create_execution_context_without_device_memory(self) -> FakeExecution | None:
        """See TensorRT; gone after 10."""
        if self._machine.vendor.major >= 10:
            raise AttributeError("create_execution_context_without_device_memory")
        if self._machine.failure("create_execution_context"):
            return None
        return FakeOldExecution(self._machine, self, 0)


class FakeExecution(Held):
    """An execution context.

    The first one has the first profile; others have none until they are given one. Up to 8.6 no
    two have the same.
    """

    kind = "execution"

    def __init__(self, machine: FakeMachine, engine: FakeEngine, memory: int) -> None:
        super().__init__(machine, "create_execution_context")
        self._memory = 0
        machine.take(memory)
        self._memory = memory
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.profile: int | None = None if engine.executions else 0
        self.is_selecting = False
        """A profile is on its way: the stream must be waited for."""
        self.is_flushed = False
        """Whether it ran with its shape, as it must have before a capture."""
        self.changes = 0
        """Of its shape, profile, addresses or memory: what was captured before is void."""
        self.workspace: int | None = None
        """Address of the memory that it was given, where it has none of its own."""
        engine.executions.add(self)

    def give_memory(self, address: int, size: int) -> None:
        """Takes memory to work in, if it is enough."""
        if size < self.engine.device_memory_size or len(self._machine.memory[address]) < size:
            raise FakeError("the memory is too small")
        self.workspace = address
        self.changes += 1

    def set_optimization_profile_async(self, index: int, handle: int) -> bool:
        """See TensorRT."""
        machine = self._machine
        machine.current("set_optimization_profile_async")
        others = [one.profile for one in self.engine.executions if one is not self]
        if not 0 <= index < self.engine.num_optimization_profiles or (
            machine.vendor.major < 10 and index in others
        ):
            machine.vendor.log.log(machine.vendor.trt.ILogger.ERROR, f"no profile {index} is free")
            return False
        self.profile, self.shape, self.is_selecting = index, (), True
        self.changes += 1
        machine.streams[handle].put(self._selected)
        return True

    def _selected(self) -> None:
        self.is_selecting = False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        """Only what the profile allows will do."""
        if self.profile is None or name != self.engine.names[0]:
            return False
        least, most = self.engine.profiles[self.profile]
        if len(shape) != len(least) or not all(
            low <= here <= high for low, here, high in zip(least, shape, most, strict=True)
        ):
            return False
        self.shape, self.is_flushed = shape, False
        self.changes += 1
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """See TensorRT."""
        shapes = (self.shape, self.shape[:3], self.shape[:1])
        return shapes[self.engine.names.index(name)]

    def set_tensor_address(self, name: str, address: int) -> bool:
        """See TensorRT."""
        self.addresses[name] = address
        self.changes += 1
        return True

    def execute_async_v3(self, handle: int) -> bool:
        """Enqueues the engine."""
        machine = self._machine
        machine.current("execute")
        if message := machine.failure("enqueue"):
            machine.vendor.log.log(machine.vendor.trt.ILogger.ERROR, message)
            return False
        stream = machine.streams[handle]
        if problem := self._unready(stream):
            machine.vendor.log.log(machine.vendor.trt.ILogger.ERROR, problem)
            return False
        self.is_flushed = True
        changes = self.changes
        stream.put(lambda: self._execute(changes))
        return True

    def _unready(self, stream: FakeStream) -> str:
        """Why it can't run; empty where it can."""
        if self.profile is None or self.is_selecting:
            return "no optimization profile is set"
        if not self.shape or set(self.addresses) != set(self.engine.names):
            return "shapes or addresses are missing"
        if not self._memory and self.workspace not in self._machine.memory:
            return "it has no memory to work in"
        if stream.captured is not None and not self.is_flushed:
            return "it must run once with a new shape before it is captured"
        return ""

    def _execute(self, changes: int) -> None:
        if changes != self.changes:
            raise FakeError("cuGraphLaunch failed: the context changed since it was captured")
        memory = self._machine.memory
        picture, *outputs = self.engine.names
        size = int(np.prod(self.shape))
        image = memory[self.addresses[picture]][:size].reshape(self.shape)
        results = self.engine.session.run(outputs, {picture: image})
        for name, values in zip(outputs, results, strict=True):
            moved = np.ascontiguousarray(values + np.float32(self.engine.shift))
            copy(memory[self.addresses[name]], moved)

    def _freed(self) -> None:
        self._machine.used -= self._memory


class FakeOldExecution(FakeExecution):
    """Of TensorRT 8."""

    @property
    def device_memory(self) -> int | None:
        """See TensorRT."""
        return self.workspace

    @device_memory.setter
    def device_memory(self, address: int) -> None:
        self.give_memory(address, self.engine.device_memory_size)


class FakeNewExecution(FakeExecution):
    """Of TensorRT 10 and later."""

    def set_device_memory(self, memory: int, size: int) -> None:
        """See TensorRT."""
        self.give_memory(memory, size)


def copy(target: Any, source: Any) -> None:
    """As many bytes as the smaller has: the one on the host says how many."""
    there = np.asarray(target).reshape(-1).view(np.uint8)
    here = np.asarray(source).reshape(-1).view(np.uint8)
    size = min(len(there), len(here))
    there[:size] = here[:size]
