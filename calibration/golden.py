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

PARITY = 1e-4
"""Largest difference between torch's score and the runtime's that is called the same model."""
GOLDEN_TOLERANCE = 1e-3
GOLDEN_EACH = 4
"""Golden pictures of good parts, and as many of defects."""


def choose_golden(scored: Sequence[Scored]) -> list[Scored]:
    """Pictures over the whole range of scores of good parts and of defects."""
    chosen = []
    for wanted in (False, True):
        ranked = sorted((s for s in scored if s.is_defect is wanted), key=lambda s: s.score)
        if not ranked:
            continue
        picks = np.unique(np.linspace(0, len(ranked) - 1, GOLDEN_EACH, dtype=int))
        chosen += [ranked[pick] for pick in picks]
    return chosen


def check_parity(graph: ScoringGraph, golden: Sequence[Scored], folder: Path) -> float:
    """Largest difference in score between torch and the runtime on the golden pictures.

    Raises:
        BundleError: it is more than `PARITY`.
    """
    worst = 0.0
    with torch.inference_mode():
        for one in golden:
            _, score = graph(torch.tensor(one.image[None]))  # a copy: pictures are read-only
            worst = max(worst, abs(float(score) - one.score))
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
        cv2.imwrite(str(folder / name), cv2.cvtColor(one.image, cv2.COLOR_RGB2BGR))
        parts.append(GoldenPart(file=name, label=one.label, score=one.score))
    return tuple(parts)
