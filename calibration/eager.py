"""Torch, operator by operator, as a runtime: what the others are measured beside.

The graph is the exported one (`calibration.program` runs it), so nothing is compared but the
execution; its batch normalisations are folded into the convolutions already, which makes this a
little faster than the module that it was exported from.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from calibration.program import Program
from inspectd.core.bundle import Graph
from inspectd.core.errors import InferenceError, RuntimeUnavailableError
from inspectd.core.records import AnomalyMap, ImageArray

ROUNDING = {"fp32": 0.0, "fp16": 2e-3}
WARM_UP = 3
"""Pictures before a capture, as torch's documentation wants it."""


class EagerRuntime:
    """Torch on the CPU or on the first GPU, without a compiler."""

    is_captured = False

    def __init__(self, graph: Graph, threads: int, device: str, precision: str) -> None:
        """`device` is ``cpu`` or ``cuda``, `precision` fp32 or fp16.

        Raises:
            RuntimeUnavailableError: there is no GPU that torch could use.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeUnavailableError(
                f"torch {torch.__version__} sees no GPU; install the one for CUDA, see nvidia-smi"
            )
        where = torch.cuda.get_device_name() if device == "cuda" else "CPU"
        self.name = f"torch-{torch.__version__} eager {precision} {where}"
        self.rounding = ROUNDING[precision]
        self._graph = graph
        self._threads = threads
        self._device = torch.device(device)
        self._precision = precision
        self._before = torch.get_num_threads()
        self._program: Program | None = None

    def __enter__(self) -> Self:
        self._before = torch.get_num_threads()
        if self._threads:
            torch.set_num_threads(self._threads)
        # Left on, fp32 on a GPU would be TF32: another precision, and another floor.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        try:
            self._program = Program(str(self._graph.path), self._device, self._precision)
        except RuntimeUnavailableError:
            raise
        except Exception as error:  # protobuf's, onnx's and torch's share no base but Exception
            raise RuntimeUnavailableError(
                f"{self.name} can't load {self._graph.path}: {error}"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._program = None
        torch.set_num_threads(self._before)

    def infer(self, image: ImageArray) -> AnomalyMap:
        """Scores one (H, W, 3) uint8 RGB picture; see `Runtime.infer`."""
        if image.dtype != np.uint8 or image.shape != (*self._graph.size, 3):
            raise InferenceError(f"{self.name}: {image.dtype} {image.shape} is no picture for it")
        try:
            with torch.inference_mode():
                return self._scored(np.ascontiguousarray(image))
        except Exception as error:  # torch raises RuntimeError, and others from below it
            raise InferenceError(f"{self.name}: {error}") from error

    def _scored(self, image: ImageArray) -> AnomalyMap:
        names = self._graph.names
        found = self._run(torch.tensor(image)[None].to(self._device))
        values = found[names.anomaly_map][0].float().cpu().numpy()
        return AnomalyMap(values, float(found[names.score][0]))

    def _run(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        if self._program is None:
            raise InferenceError("not entered")
        return self._program(self._graph.names.input, image)


class CapturedRuntime(EagerRuntime):
    """The same on a GPU, with copies, kernels and all in one CUDA graph that is replayed."""

    is_captured = True

    def __init__(self, graph: Graph, threads: int, precision: str) -> None:
        super().__init__(graph, threads, "cuda", precision)
        self.name = self.name.replace(" eager ", " CUDA graph ")
        self._replay: Any = None

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            with torch.inference_mode():
                self._capture()
        except Exception as error:  # torch raises RuntimeError, and others from below it
            self.__exit__(None, None, None)
            raise RuntimeUnavailableError(f"{self.name} can't be captured: {error}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._replay = None
        super().__exit__(kind, error, trace)

    def _capture(self) -> None:
        size = self._graph.size
        self._image = torch.zeros((1, *size, 3), dtype=torch.uint8, pin_memory=True)
        self._map = torch.zeros((1, *size), pin_memory=True)
        self._score = torch.zeros(1, pin_memory=True)
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._step()
        aside.synchronize()
        replay = torch.cuda.CUDAGraph()
        with torch.cuda.graph(replay):
            self._step()
        self._replay = replay

    def _step(self) -> None:
        """Copy in, graph, copy out."""
        found = self._run(self._image.to(self._device, non_blocking=True))
        self._map.copy_(found[self._graph.names.anomaly_map], non_blocking=True)
        self._score.copy_(found[self._graph.names.score], non_blocking=True)

    def _scored(self, image: ImageArray) -> AnomalyMap:
        if self._replay is None:
            raise InferenceError("not entered")
        self._image.copy_(torch.tensor(image)[None])
        self._replay.replay()
        torch.cuda.synchronize()
        return AnomalyMap(self._map[0].numpy().copy(), float(self._score[0]))


CHOICES = ("torch-cpu", "torch-cuda-fp32", "torch-cuda-fp16", "torch-graph-fp16")
"""What `open_eager` knows."""


def open_eager(graph: Graph, choice: str, threads: int, batch: int = 1) -> EagerRuntime:
    """A runtime of torch by name, not yet entered; it takes one picture at a time at any `batch`.

    Raises:
        RuntimeUnavailableError: no such name, or no GPU.
    """
    if choice not in CHOICES:
        raise RuntimeUnavailableError(f"no runtime {choice!r}; known: {', '.join(CHOICES)}")
    if choice == "torch-graph-fp16":
        return CapturedRuntime(graph, threads, "fp16")
    if choice == "torch-cpu":
        return EagerRuntime(graph, threads, "cpu", "fp32")
    return EagerRuntime(graph, threads, "cuda", choice.removeprefix("torch-cuda-"))
