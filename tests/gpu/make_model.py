"""Makes ``model.onnx``, the same in fp16 and int8, and ``expected.npz``, where torch is.

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
from calibration.precision import write_fp16, write_int8
from calibration.scorers.protoad import RewrittenHead

HERE = Path(__file__).parent
SIZE = (64, 96)


def make(folder: Path) -> None:
    """Writes the files."""
    backbone = load_backbone("filterbank")
    channels = backbone.network.channels
    prototypes = torch.rand((70, sum(channels)), generator=torch.manual_seed(0))
    head = RewrittenHead(torch.nn.functional.normalize(prototypes), channels, 40)
    export_onnx(ScoringGraph(backbone, head, SIZE), folder / "model.onnx")
    pictures = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), dtype=np.uint8)
    pictures[1:] //= np.array([2, 4, 8], np.uint8)[:, None, None, None]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    write_fp16(folder / "model.onnx", folder / "model.fp16.onnx")
    write_int8(folder / "model.onnx", folder / "model.int8.onnx", list(pictures))
    results = {}
    for name, ending in (("model.onnx", ""), ("model.int8.onnx", "_int8")):
        session = onnxruntime.InferenceSession(
            folder / name, options, providers=["CPUExecutionProvider"]
        )
        found = session.run(["anomaly_map", "score"], {"image": pictures})
        results |= {f"maps{ending}": found[0], f"scores{ending}": found[1]}
    np.savez_compressed(folder / "expected.npz", pictures=pictures, **results)


if __name__ == "__main__":
    make(HERE)
