"""Makes ``model.onnx`` and ``expected.npz``: ``python tests/gpu/make_model.py`` where torch is.

A small graph with everything in it (built-in backbone, prototypes in two tiles, upsampling,
smoothing), and what ONNX Runtime computes of four pictures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch

from calibration.backbones import load_backbone
from calibration.graph import ScoringGraph, export_onnx
from calibration.scorers.protoad import RewrittenHead

HERE = Path(__file__).parent
SIZE = (64, 96)


def make(folder: Path) -> None:
    """Writes both files."""
    backbone = load_backbone("builtin")
    channels = backbone.network.channels
    prototypes = torch.rand((70, sum(channels)), generator=torch.manual_seed(0))
    head = RewrittenHead(torch.nn.functional.normalize(prototypes), channels, 40)
    export_onnx(ScoringGraph(backbone, head, SIZE), folder / "model.onnx")
    pictures = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), dtype=np.uint8)
    pictures[1:] //= np.array([2, 4, 8], np.uint8)[:, None, None, None]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    maps, scores = session.run(["anomaly_map", "score"], {"image": pictures})
    np.savez_compressed(folder / "expected.npz", pictures=pictures, maps=maps, scores=scores)


if __name__ == "__main__":
    make(HERE)
