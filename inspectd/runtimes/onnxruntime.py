"""ONNX Runtime on the CPU: the reference that every other runtime is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import onnxruntime

from inspectd.core.bundle import Graph
from inspectd.core.errors import InferenceError, RuntimeUnavailableError
from inspectd.core.precisions import model_of
from inspectd.core.records import AnomalyMap, ImageArray


class OnnxRuntime:
    """A session for one graph; entering loads the graph."""

    def __init__(
        self, graph: Graph, threads: int = 0, precision: str = "fp32", batch: int = 1
    ) -> None:
        """`precision` is `fp32`, or `int8` where the graph has such a model.

        Raises:
            RuntimeUnavailableError: it hasn't.
        """
        model = model_of(graph, f"onnxruntime-{onnxruntime.__version__}", precision)
        self.name = model.runtime
        self.rounding = model.rounding
        self.proof_command = model.proof_command
        self._path = model.path
        self.largest_batch = batch
        self._graph = graph
        self._threads = threads
        self._session: Any = None

    def __enter__(self) -> Self:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        # Spinning threads would starve the camera and the publisher on a small machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                self._path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no base but Exception
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
        self._session = None

    def infer(self, image: ImageArray) -> AnomalyMap:
        """Scores one (H, W, 3) uint8 RGB picture; see `Runtime.infer`."""
        return self.infer_batch((image,))[0]

    def infer_batch(self, images: Sequence[ImageArray]) -> list[AnomalyMap]:
        """Scores several pictures at once; see `Batched`."""
        names = self._graph.names
        try:
            pictures = images[0][np.newaxis] if len(images) == 1 else np.stack(images)
            values, scores = self._session.run(
                [names.anomaly_map, names.score], {names.input: pictures}
            )
        except Exception as error:  # its exceptions share no base but Exception
            raise InferenceError(f"{self.name}: {error}") from error
        return [AnomalyMap(one, float(score)) for one, score in zip(values, scores, strict=True)]
