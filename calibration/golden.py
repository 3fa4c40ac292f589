"""Golden pictures: scored once, kept in the revision, and scored again wherever it is opened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from calibration.evaluate import Scored
from calibration.graph import ScoringGraph
from inspectd.core.bundle import GoldenPart
from inspectd.core.errors import BundleError
from inspectd.core.records import AnomalyMap, ImageArray
from inspectd.core.scope import WHOLE, Scope
from inspectd.pipeline.score import examine

PARITY = 1e-4
"""Largest difference between torch's score and the runtime's that is called the same model."""
GOLDEN_TOLERANCE = 1e-3
GOLDEN_EACH = 4
"""Golden pictures of good parts, and as many of defects."""
GOLDEN_TILED = 1
"""The same of tiled pictures: each runs the graph as often as it has tiles."""


def choose_golden(scored: Sequence[Scored], each: int = GOLDEN_EACH) -> list[Scored]:
    """Pictures over the whole range of scores of good parts and of defects.

    Of large pictures only those that `let_go` kept.
    """
    chosen = []
    kept = [s for s in scored if s.full is not None] or scored
    for wanted in (False, True):
        ranked = sorted((s for s in kept if s.is_defect is wanted), key=lambda s: s.score)
        if not ranked:
            continue
        picks = np.unique(np.linspace(0, len(ranked) - 1, each, dtype=int))
        chosen += [ranked[pick] for pick in picks]
    return chosen


class _InTorch:
    """The graph as it was learned, scored like a runtime."""

    def __init__(self, graph: ScoringGraph) -> None:
        self._graph = graph

    def infer(self, image: ImageArray) -> AnomalyMap:
        """One (H, W, 3) input."""
        values, score = self._graph(torch.tensor(image[None]))  # a copy: pictures are read-only
        return AnomalyMap(values[0].numpy(), float(score))


def check_parity(
    graph: ScoringGraph, golden: Sequence[Scored], folder: Path, scope: Scope = WHOLE
) -> float:
    """Largest difference in score between torch and the runtime on the golden pictures.

    Raises:
        BundleError: it is more than `PARITY`.
    """
    worst = 0.0
    with torch.inference_mode():
        for one in golden:
            score = examine(_InTorch(graph), one.input, scope).score
            worst = max(worst, abs(score - one.score))
    if worst > PARITY:
        raise BundleError(
            folder,
            f"the exported graph's scores differ from torch's by {worst:.1e} (at most "
            f"{PARITY:.0e} is allowed); calibrate with --runtime onnxruntime and report this",
        )
    return worst


def write_golden(folder: Path, golden: Sequence[Scored]) -> tuple[GoldenPart, ...]:
    """Writes them as they are scored, and says what is to be expected of them."""
    (folder / "golden").mkdir()
    parts = []
    for index, one in enumerate(golden):
        name = f"golden/{index:02d}.png"
        cv2.imwrite(str(folder / name), cv2.cvtColor(one.input, cv2.COLOR_RGB2BGR))
        parts.append(GoldenPart(file=name, label=one.label, score=one.score))
    return tuple(parts)
