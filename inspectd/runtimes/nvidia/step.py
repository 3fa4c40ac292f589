"""One picture on the GPU: copy in, engine, copy out, on one stream, captured into one CUDA graph.

All of it is to be called with the GPU's context current; see `Vendor.current`.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from inspectd.core.errors import InferenceError, RuntimeUnavailableError
from inspectd.core.records import ImageArray, MapArray
from inspectd.runtimes.nvidia.vendor import Vendor

NUMPY_TYPES = {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8}
"""Names of TensorRT's types that the graph's inputs and outputs may have."""
NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING."""
MIB = 2**20


class Step:
    """Engine, buffers, stream and graph of one model. `close` gives all of it back."""

    def __init__(
        self, vendor: Vendor, plan: bytes, names: tuple[str, str, str], size: tuple[int, int]
    ) -> None:
        """`names` are those of picture, map and score; `size` is the picture's (H, W).

        Raises:
            RuntimeUnavailableError: the engine can't be loaded here; nothing is left behind.
        """
        self._vendor = vendor
        self._names = names
        self._release: list[Callable[[], object]] = []
        """What gives back what was made, oldest first."""
        self._host: dict[str, npt.NDArray[Any]] = {}
        self._device: dict[str, Any] = {}
        self._engine: Any = None
        self._execution: Any = None
        self._stream: Any = None
        self._graph: Any = None
        try:
            self._load(plan)
            self._allocate(size)
            self._warm_up()
        except BaseException as error:
            # What the failed calls still hold must go now, under the current context: see `vendor`.
            traceback.clear_frames(error.__traceback__)
            self.close()
            raise

    @property
    def is_captured(self) -> bool:
        """Whether pictures run as one CUDA graph."""
        return self._graph is not None

    def run(self, image: ImageArray) -> tuple[MapArray, float]:
        """(H, W, 3) uint8 to the map (H, W) and the score."""
        picture, anomaly_map, score = (self._host[name] for name in self._names)
        if image.dtype != np.uint8 or image.shape != picture.shape[1:]:
            raise InferenceError(
                f"the picture is {image.dtype} {image.shape}, the engine takes uint8 "
                f"{picture.shape[1:]}"
            )
        np.copyto(picture[0], image)
        self.run_again()
        return np.array(anomaly_map[0], np.float32), float(score[0])

    def run_again(self) -> None:
        """The picture that is there already."""
        if self._graph is None:
            self._enqueue()
        else:
            self._call(self._vendor.graphs.cuGraphLaunch(self._graph, self._graph_stream))
        self._stream.synchronize()

    def close(self) -> None:
        """Gives everything back; the newest first. On a lost GPU there is nothing to give back."""
        if self._stream is not None:
            self._release.append(self._stream.synchronize)  # a copy may be under way
        self._graph = None
        while self._release:
            with contextlib.suppress(Exception):  # the rest must be given back all the same
                self._release.pop()()
        self._host.clear()
        self._device.clear()

    def _load(self, plan: bytes) -> None:
        vendor = self._vendor
        vendor.log.kept.clear()
        runtime = vendor.trt.Runtime(vendor.log)
        engine = None if runtime is None else runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise RuntimeUnavailableError(f"TensorRT refuses the engine: {vendor.log.taken()}")
        self._require_memory(engine)
        execution = engine.create_execution_context()
        if execution is None:
            raise RuntimeUnavailableError(f"no execution context: {vendor.log.taken()}")
        self._engine, self._execution = engine, execution
        self._release.append(self._drop_engine)

    def _drop_engine(self) -> None:
        self._execution = None
        self._engine = None

    def _drop_stream(self) -> None:
        self._stream = None

    def _require_memory(self, engine: Any) -> None:
        """TensorRT's own message on a full GPU comes late and doesn't say how much is missing."""
        needed = getattr(engine, "device_memory_size_v2", None) or engine.device_memory_size
        free, _ = self._vendor.cuda.mem_get_info()
        if needed > free:
            raise RuntimeUnavailableError(
                f"out of memory: the engine works in {needed / MIB:.0f} MiB, "
                f"{free / MIB:.0f} MiB are free"
            )

    def _allocate(self, size: tuple[int, int]) -> None:
        cuda, engine = self._vendor.cuda, self._engine
        # This stream doesn't wait for the default one, or a capture here would break a copy on that
        # elsewhere; so what loading put on that must be done.
        cuda.Context.synchronize()
        self._stream = cuda.Stream(NON_BLOCKING)
        self._release.append(self._drop_stream)
        found = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        if found != set(self._names):
            raise RuntimeUnavailableError(
                f"the engine has {', '.join(sorted(found))}, not {', '.join(self._names)}"
            )
        shape = (1, *size, 3)
        if not self._execution.set_input_shape(self._names[0], shape):
            raise RuntimeUnavailableError(
                f"the engine refuses a picture of {shape}: {self._vendor.log.taken()}"
            )
        for name in self._names:
            self._buffer(name)

    def _buffer(self, name: str) -> None:
        """Pinned memory and device memory of one tensor."""
        cuda = self._vendor.cuda
        kind = self._engine.get_tensor_dtype(name).name
        shape = tuple(self._execution.get_tensor_shape(name))
        if kind not in NUMPY_TYPES or -1 in shape:
            raise RuntimeUnavailableError(f"{name} is {kind} {shape}, which isn't handled")
        host = cuda.pagelocked_empty(shape, NUMPY_TYPES[kind])
        self._release.append(host.base.free)
        host[...] = 0
        device = cuda.mem_alloc(host.nbytes)
        self._release.append(device.free)
        self._execution.set_tensor_address(name, int(device))
        self._host[name], self._device[name] = host, device

    def _enqueue(self) -> None:
        cuda = self._vendor.cuda
        picture, *results = self._names
        cuda.memcpy_htod_async(self._device[picture], self._host[picture], self._stream)
        if not self._execution.execute_async_v3(self._stream.handle):
            raise InferenceError(f"the engine failed: {self._vendor.log.taken()}")
        for name in results:
            cuda.memcpy_dtoh_async(self._host[name], self._device[name], self._stream)

    def _warm_up(self) -> None:
        """Runs once as it is, which sets up what a capture must not, then captures and compares."""
        rng = np.random.default_rng(0)
        picture = self._host[self._names[0]]
        picture[...] = rng.integers(0, 256, picture.shape, np.uint8)
        self.run_again()
        if self._vendor.graphs is None:
            return
        plain = [self._host[name].copy() for name in self._names[1:]]
        self._capture()
        for name in self._names[1:]:
            self._host[name][...] = 0
        self.run_again()
        replayed = [self._host[name] for name in self._names[1:]]
        if not all(map(_same, plain, replayed)):
            raise RuntimeUnavailableError(
                "the CUDA graph gives other results than the engine by itself; report this, and "
                "uninstall cuda-bindings to run without graphs"
            )

    def _capture(self) -> None:
        driver = self._vendor.graphs
        stream = driver.CUstream(self._stream.handle)
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call(driver.cuStreamBeginCapture(stream, mode))
        try:
            self._enqueue()
        finally:
            ended = driver.cuStreamEndCapture(stream)
        graph = self._call(ended)
        try:
            instance = self._call(driver.cuGraphInstantiate(graph, 0))
        finally:
            self._call(driver.cuGraphDestroy(graph))
        self._release.append(lambda: driver.cuGraphExecDestroy(instance))
        self._graph, self._graph_stream = instance, stream

    def _call(self, result: tuple[Any, ...]) -> Any:
        """What a function of cuda.bindings gives: (status, value)."""
        status, *values = result
        if int(status):
            raise InferenceError(f"CUDA: {getattr(status, 'name', status)}")
        return values[0] if values else None


def _same(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
    """But for the order of sums, which some kernels leave open."""
    return np.allclose(one, other, rtol=1e-3, atol=1e-3, equal_nan=True)
