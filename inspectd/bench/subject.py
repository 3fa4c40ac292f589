"""What is measured: a model with pictures for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspectd.core.bundle import Bundle, Graph, ModelPart
from inspectd.core.errors import BundleError, ConfigError
from inspectd.core.records import ImageArray
from inspectd.core.scope import WHOLE, Scope
from inspectd.pipeline.tiles import windows

TOLERANCE = 1e-3
"""Of a score, for a model that no manifest states one for."""
DRAWN = 8
"""Pictures for a model that comes without."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model, and what it is tried on."""

    title: str
    graph: Graph
    pictures: tuple[ImageArray, ...]
    """(H, W, 3), prepared."""
    names: tuple[str, ...]
    """Of the pictures, for messages."""
    threshold: float
    """Of a score; NaN where the model decides nothing, so that no verdict can change."""
    tolerance: float
    """Largest difference of a score between fp32 runtimes."""
    scope: Scope = WHOLE
    """What of a picture counts: scores are compared by it."""

    @property
    def inputs(self) -> tuple[ImageArray, ...]:
        """(H, W, 3) of the model's input, to take times on: of tiled pictures their first tile."""
        tiles, roi = self.scope.tiles, self.scope.roi
        if tiles is None:
            return self.pictures
        first = (windows((one.shape[0], one.shape[1]), tiles, roi)[0] for one in self.pictures)
        return tuple(
            np.ascontiguousarray(picture[window])
            for picture, window in zip(self.pictures, first, strict=True)
        )


def of_bundle(bundle: Bundle) -> Subject:
    """A product's revision, on its golden pictures.

    Raises:
        BundleError: it has none.
    """
    manifest = bundle.manifest
    golden = list(bundle.golden_images())
    if not golden:
        raise BundleError(bundle.path, "has no golden picture to measure with; calibrate anew")
    return Subject(
        title=f"{manifest.product} {manifest.revision}",
        graph=bundle.graph,
        pictures=tuple(image for _, image in golden),
        names=tuple(part.file for part, _ in golden),
        threshold=manifest.threshold.image,
        tolerance=manifest.golden_tolerance,
        scope=bundle.scope(),
    )


def read_graph(path: Path) -> Graph:
    """An ONNX file that keeps the contract of a bundle's model.

    Raises:
        ConfigError: it doesn't exist, can't be read, or has other inputs and outputs.
    """
    import onnxruntime

    names = ModelPart()
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base but Exception
        raise ConfigError(f"{path}: no model that ONNX Runtime reads ({error})") from error
    there = [one.name for one in (*session.get_inputs(), *session.get_outputs())]
    if there != [names.input, names.anomaly_map, names.score]:
        wanted = f"{names.input}, {names.anomaly_map} and {names.score}"
        raise ConfigError(f"{path}: has {', '.join(there)}; a model has {wanted}")
    shape, kind = session.get_inputs()[0].shape, session.get_inputs()[0].type
    if kind != "tensor(uint8)" or len(shape) != 4 or not isinstance(shape[1], int) or shape[3] != 3:
        raise ConfigError(f"{path}: its picture is {kind} {shape}, not uint8 (batch, H, W, 3)")
    return Graph(path, (shape[1], shape[2]))


def of_graph(graph: Graph, title: str, seed: int = 0) -> Subject:
    """Any model that keeps the contract, on pictures of noise."""
    drawn = np.random.default_rng(seed)
    pictures = [drawn.integers(0, 256, (*graph.size, 3), np.uint8) for _ in range(DRAWN)]
    names = tuple(f"noise {index}" for index in range(DRAWN))
    return Subject(title, graph, tuple(pictures), names, math.nan, TOLERANCE)
