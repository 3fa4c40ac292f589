"""An engine on the GPU, ready to run: its buffers, its stream, and a step for each batch size.

Where an engine takes batches each size has a profile of its own (`builder`), and here an execution
context of its own. These contexts work in one piece of memory that they share: they run in turns.

All of it is to be called with the GPU's context current; see `Vendor.current`.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from inspectd.core.errors import InferenceError, RuntimeUnavailableError
from inspectd.core.records import ImageArray, MapArray
from inspectd.runtimes.nvidia.step import Step, Tensor
from inspectd.runtimes.nvidia.vendor import Vendor

NUMPY_TYPES = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8}
"""Names of TensorRT's types that the graph's inputs and outputs may have."""
NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING."""
MIB = 2**20


class Loaded:
    """See the module. `close` gives all of it back."""

    def __init__(
        self,
        vendor: Vendor,
        plan: bytes,
        names: tuple[str, str, str],
        size: tuple[int, int],
        counts: tuple[int, ...] = (1,),
    ) -> None:
        """Loads the engine and captures every step.

        Args:
            vendor: the packages.
            plan: the engine.
            names: of picture, map and score.
            size: (H, W) of the pictures.
            counts: batch sizes to be made ready, ascending: those of the engine's first profiles.

        Raises:
            RuntimeUnavailableError: the engine can't be loaded here; nothing is left behind.
        """
        self._vendor = vendor
        self._names = names
        self._release: list[Callable[[], object]] = []
        """What gives back what was made, oldest first."""
        self._steps: dict[int, Step] = {}
        """By batch size, ascending."""
        self._tensors: tuple[Tensor, ...] = ()
        self._engine: Any = None
        self._executions: list[Any] = []
        self._stream: Any = None
        try:
            self._load(plan)
            self._create_executions(len(counts))
            self._open_stream()
            self._allocate(size, counts)
            self._prepare(counts)
        except BaseException as error:
            # What the failed calls still hold must go now, under the current context: see `vendor`.
            traceback.clear_frames(error.__traceback__)
            self.close()
            raise

    @property
    def is_captured(self) -> bool:
        """Whether pictures run as one CUDA graph."""
        return all(step.is_captured for step in self._steps.values())

    def run(self, images: Sequence[ImageArray]) -> list[tuple[MapArray, float]]:
        """(H, W, 3) uint8 each, to the map (H, W) and the score of each.

        They run in the smallest batch size that they fit in; what is left of it scores what lay
        there before.
        """
        pictures, maps, scores = (tensor.host for tensor in self._tensors)
        for image in images:
            if image.dtype != np.uint8 or image.shape != pictures.shape[1:]:
                raise InferenceError(
                    f"the picture is {image.dtype} {image.shape}, the engine takes uint8 "
                    f"{pictures.shape[1:]}"
                )
        fitting = [step for count, step in self._steps.items() if count >= len(images)]
        if not fitting:
            raise InferenceError(f"{len(images)} pictures are more than {max(self._steps)}")
        for place, image in enumerate(images):
            np.copyto(pictures[place], image)
        fitting[0].run()
        return [(np.array(maps[at], np.float32), float(scores[at])) for at in range(len(images))]

    def run_again(self) -> None:
        """The picture that is there already."""
        self._steps[1].run()

    def close(self) -> None:
        """Gives everything back; the newest first. On a lost GPU there is nothing to give back."""
        if self._stream is not None:
            self._release.append(self._stream.synchronize)  # a copy may be under way
        while self._release:
            with contextlib.suppress(Exception):  # the rest must be given back all the same
                self._release.pop()()
        self._steps.clear()
        self._tensors = ()

    def _load(self, plan: bytes) -> None:
        vendor = self._vendor
        vendor.log.kept.clear()
        runtime = vendor.trt.Runtime(vendor.log)
        self._engine = None if runtime is None else runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise RuntimeUnavailableError(f"TensorRT refuses the engine: {vendor.log.taken()}")
        self._release.append(self._drop_engine)
        names, engine = self._names, self._engine
        found = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        if found != set(names):
            raise RuntimeUnavailableError(
                f"the engine has {', '.join(sorted(found))}, not {', '.join(names)}"
            )

    def _create_executions(self, count: int) -> None:
        """One has its own memory; several share one piece, as big as the largest needs."""
        engine, size = self._engine, self._workspace()
        memory = None
        if count > 1:
            memory = self._vendor.cuda.mem_alloc(max(size, 1))
            self._release.append(memory.free)
        self._release.append(self._executions.clear)
        for _ in range(count):
            execution = (
                engine.create_execution_context()
                if memory is None
                else _without_memory(self._vendor.trt, engine)
            )
            if execution is None:
                raise RuntimeUnavailableError(f"no execution context: {self._vendor.log.taken()}")
            if memory is not None:
                _give_memory(execution, int(memory), size)
            self._executions.append(execution)

    def _workspace(self) -> int:
        """Bytes in which the engine works; there must be so many, for TensorRT's own message comes
        late and doesn't say how much is missing.
        """
        engine = self._engine
        needed = getattr(engine, "device_memory_size_v2", None) or engine.device_memory_size
        free, _ = self._vendor.cuda.mem_get_info()
        if needed > free:
            raise RuntimeUnavailableError(
                f"out of memory: the engine works in {needed / MIB:.0f} MiB, "
                f"{free / MIB:.0f} MiB are free"
            )
        return int(needed)

    def _open_stream(self) -> None:
        cuda = self._vendor.cuda
        # This stream doesn't wait for the default one, or a capture here would break a copy on that
        # elsewhere; so what loading put on that must be done.
        cuda.Context.synchronize()
        self._stream = cuda.Stream(NON_BLOCKING)
        self._release.append(self._drop_stream)

    def _allocate(self, size: tuple[int, int], counts: tuple[int, ...]) -> None:
        """Shapes of all batch sizes, and the buffers, which the largest one fits in."""
        self._select_profiles()
        for execution, count in zip(self._executions, counts, strict=True):
            shape = (count, *size, 3)
            if not execution.set_input_shape(self._names[0], shape):
                raise RuntimeUnavailableError(
                    f"the engine refuses pictures of {shape}: {self._vendor.log.taken()}"
                )
        self._tensors = tuple(self._tensor(name) for name in self._names)

    def _select_profiles(self) -> None:
        """Each context has the profile of its batch size; one alone has the first by itself."""
        if len(self._executions) == 1:
            return
        for index, execution in enumerate(self._executions):
            if not execution.set_optimization_profile_async(index, self._stream.handle):
                raise RuntimeUnavailableError(
                    f"the engine has no profile {index}: {self._vendor.log.taken()}"
                )
        self._stream.synchronize()

    def _tensor(self, name: str) -> Tensor:
        """Pinned memory and device memory of one tensor."""
        cuda = self._vendor.cuda
        kind = self._engine.get_tensor_dtype(name).name
        shape = tuple(self._executions[-1].get_tensor_shape(name))
        if kind not in NUMPY_TYPES or -1 in shape:
            raise RuntimeUnavailableError(f"{name} is {kind} {shape}, which isn't handled")
        host = cuda.pagelocked_empty(shape, NUMPY_TYPES[kind])
        self._release.append(host.base.free)
        host[...] = 0
        device = cuda.mem_alloc(host.nbytes)
        self._release.append(device.free)
        for execution in self._executions:
            execution.set_tensor_address(name, int(device))
        return Tensor(name, host, device)

    def _prepare(self, counts: tuple[int, ...]) -> None:
        for execution, count in zip(self._executions, counts, strict=True):
            step = Step(self._vendor, execution, self._stream, self._tensors, count)
            self._release.append(step.close)
            self._steps[count] = step
            step.warm_up()

    def _drop_engine(self) -> None:
        self._engine = None

    def _drop_stream(self) -> None:
        self._stream = None


def _without_memory(trt: Any, engine: Any) -> Any:
    """A context that is given its memory; from TensorRT 10 on it is asked for by a strategy."""
    strategy = getattr(trt, "ExecutionContextAllocationStrategy", None)
    if strategy is None:
        return engine.create_execution_context_without_device_memory()
    return engine.create_execution_context(strategy.USER_MANAGED)


def _give_memory(execution: Any, address: int, size: int) -> None:
    if hasattr(execution, "set_device_memory"):  # from TensorRT 10.1 on
        execution.set_device_memory(address, size)
    else:
        execution.device_memory = address
