"""One batch size on the GPU: copy in, engine, copy out, on one stream, captured into a CUDA graph.

A step has an execution context of its own, whose shape never changes: a captured graph holds good
only for the shape that its context had, and for as long as nobody touches that context.

All of it is to be called with the GPU's context current; see `Vendor.current`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from inspectd.core.errors import InferenceError, RuntimeUnavailableError
from inspectd.runtimes.nvidia.vendor import Vendor


@dataclass(frozen=True, slots=True)
class Tensor:
    """One of the graph's inputs and outputs, with room for the largest batch."""

    name: str
    host: npt.NDArray[Any]
    """Pinned, (B, ...)."""
    device: Any
    """The GPU's memory."""


class Step:
    """So many pictures at once; the first so many of each tensor. `close` gives the graph back."""

    def __init__(
        self, vendor: Vendor, execution: Any, stream: Any, tensors: tuple[Tensor, ...], count: int
    ) -> None:
        """`execution` has its shape and addresses already; `tensors` begin with the pictures."""
        self._vendor = vendor
        self._execution = execution
        self._stream = stream
        self._input, *self._results = tensors
        self._count = count
        self._graph: Any = None
        self._graph_stream: Any = None

    @property
    def is_captured(self) -> bool:
        """Whether it runs as one CUDA graph."""
        return self._graph is not None

    def run(self) -> None:
        """Scores the pictures that are in the host's memory; returns when the results are there."""
        if self._graph is None:
            self._enqueue()
        else:
            self._call(self._vendor.graphs.cuGraphLaunch(self._graph, self._graph_stream))
        self._stream.synchronize()

    def warm_up(self) -> None:
        """Runs once as it is, which sets up what a capture must not, then captures and compares."""
        rng = np.random.default_rng(0)
        pictures = self._of(self._input)
        pictures[...] = rng.integers(0, 256, pictures.shape, np.uint8)
        self.run()
        if self._vendor.graphs is None:
            return
        plain = [self._of(tensor).copy() for tensor in self._results]
        self._capture()
        for tensor in self._results:
            self._of(tensor)[...] = 0
        self.run()
        if not all(map(_same, plain, map(self._of, self._results))):
            raise RuntimeUnavailableError(
                "the CUDA graph gives other results than the engine by itself; report this, and "
                "uninstall cuda-bindings to run without graphs"
            )

    def close(self) -> None:
        """Gives the graph back, and lets go of what others will give back after it."""
        graph, self._graph = self._graph, None
        self._execution = self._stream = self._graph_stream = None
        if graph is not None:
            self._vendor.graphs.cuGraphExecDestroy(graph)

    def _of(self, tensor: Tensor) -> npt.NDArray[Any]:
        return tensor.host[: self._count]

    def _enqueue(self) -> None:
        cuda = self._vendor.cuda
        cuda.memcpy_htod_async(self._input.device, self._of(self._input), self._stream)
        if not self._execution.execute_async_v3(self._stream.handle):
            raise InferenceError(f"the engine failed: {self._vendor.log.taken()}")
        for tensor in self._results:
            cuda.memcpy_dtoh_async(self._of(tensor), tensor.device, self._stream)

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
