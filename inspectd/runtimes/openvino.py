"""OpenVINO on the CPU, in fp32, or in bfloat16 where that was asked for and the CPU computes it.

Left alone OpenVINO takes bfloat16 on CPUs that have it, and scores move; so it is never left alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np

from inspectd.core.batches import sizes, split
from inspectd.core.bundle import Graph
from inspectd.core.errors import InferenceError, RuntimeUnavailableError
from inspectd.core.precisions import model_of
from inspectd.core.records import AnomalyMap, ImageArray

# Importing openvino would report to its maker over the network, from a thread that delays the exit
# where there is none; without this package it uses its own stub, which does nothing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
import openvino  # noqa: E402

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""Of what isn't quantised."""


class OpenVinoRuntime:
    """A compiled model for one graph; entering compiles it, once for each batch size.

    A shape that is fixed runs faster than one left open, and a size that was first seen while the
    line runs would be a slow part. Batches for other sizes are split, as a CPU gains nothing from
    padding.
    """

    def __init__(
        self, graph: Graph, threads: int = 0, precision: str = "fp32", batch: int = 1
    ) -> None:
        """`precision` is `fp32`, `bf16`, or `int8` where the graph has such a model.

        Raises:
            RuntimeUnavailableError: it hasn't.
        """
        version = openvino.__version__.split("-")[0]
        model = model_of(graph, f"openvino-{version}", precision)
        self.name = model.runtime
        self.rounding = model.rounding
        self.proof_command = model.proof_command
        self._path = model.path
        self._hint = HINTS[precision]
        self._graph = graph
        self._threads = threads
        self.largest_batch = batch
        self._requests: dict[int, Any] = {}
        """By batch size."""

    def __enter__(self) -> Self:
        names = self._graph.names
        settings: dict[str, object] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": self._hint,
        }
        if self._threads:
            settings["INFERENCE_NUM_THREADS"] = self._threads
        try:
            core = openvino.Core()
            if self._hint == "bf16" and "BF16" not in core.get_property(
                "CPU", "OPTIMIZATION_CAPABILITIES"
            ):
                raise RuntimeError("this CPU doesn't compute bfloat16; use runtime openvino")
            model = core.read_model(self._path)
            requests = {}
            for size in sizes(self.largest_batch):
                model.reshape({names.input: [size, *self._graph.size, 3]})
                compiled = core.compile_model(model, "CPU", settings)
                requests[size] = compiled.create_infer_request()
            self._requests = requests
        except Exception as error:  # it raises plain RuntimeError and pybind's own kinds
            raise RuntimeUnavailableError(
                f"{self.name} can't load {self._path}: {error}"
            ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._requests = {}

    def infer(self, image: ImageArray) -> AnomalyMap:
        """Scores one (H, W, 3) uint8 RGB picture; see `Runtime.infer`."""
        return self.infer_batch((image,))[0]

    def infer_batch(self, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        """Scores several pictures at once; see `Batched`."""
        for image in images:  # it would convert, and wrap what doesn't fit
            if image.dtype != np.uint8:
                raise InferenceError(f"{self.name}: the picture is {image.dtype}, not uint8")
        found: list[AnomalyMap] = []
        try:
            if not self._requests:
                raise RuntimeError("not entered")
            for size in split(len(images), tuple(self._requests)):
                found += self._run(images[len(found) : len(found) + size])
        except Exception as error:  # it raises plain RuntimeError and pybind's own kinds
            raise InferenceError(f"{self.name}: {error}") from error
        return found

    def _run(self, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        names, request = self._graph.names, self._requests[len(images)]
        pictures = images[0][np.newaxis] if len(images) == 1 else np.stack(images)
        request.infer({names.input: pictures}, share_inputs=True)
        values = request.get_tensor(names.anomaly_map).data
        scores = request.get_tensor(names.score).data
        return [AnomalyMap(values[i].copy(), float(scores[i])) for i in range(len(images))]
