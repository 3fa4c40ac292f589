"""Trained heads in fp16 and int8: valid graphs that both CPU runtimes run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from calibration.backbones import Backbone
from calibration.backbones.resnet import SHAPES, ResNet
from calibration.discriminator import Discriminating, MPFHead, no_scaling
from calibration.fusion import PrototypeFusion
from calibration.graph import ScoringGraph, export_onnx
from calibration.lint import lint
from calibration.precision import write_fp16, write_int8
from calibration.prn.network import PRN, Head, Modules, stage_sizes
from calibration.prototypes import Prototypes
from inspectd.core.bundle import Graph
from inspectd.core.records import ImageArray
from inspectd.runtimes import open_runtime

SIZE = (64, 96)
CHANNELS = (64, 128, 256)
SIZES = stage_sizes(SIZE, (4, 8, 16))


def _prn() -> torch.nn.Module:
    shapes = zip(CHANNELS, SIZES, strict=True)
    known = [Prototypes(torch.rand(3, c, *hw), "absolute") for c, hw in shapes]
    return Head(known, PRN(CHANNELS, SIZES, Modules())).eval().requires_grad_(False)


def _mpfnet() -> torch.nn.Module:
    two, three = (torch.rand(3, c, *hw) for c, hw in zip(CHANNELS[1:], SIZES[1:], strict=True))
    fusion = PrototypeFusion("residual", (CHANNELS[1], CHANNELS[2]), (two, three), seed=0)
    width = sum(fusion.widths)
    scaling = no_scaling(np.zeros((1, width), np.float32))
    return MPFHead(fusion, scaling, Discriminating(width).eval()).eval()


@pytest.fixture(scope="module", params=[_prn, _mpfnet], ids=["prn", "mpfnet"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 with random weights and the head of a trained scorer."""
    torch.manual_seed(0)
    network = ResNet(SHAPES["resnet18"]).eval().requires_grad_(False)
    backbone = Backbone("resnet18", network, "0" * 64)
    path = tmp_path_factory.mktemp("trained") / "model.onnx"
    export_onnx(ScoringGraph(backbone, request.param(), SIZE, sigma=0.0, top_pixels=5), path)
    return path


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_both_cpu_runtimes_run_it(model: Path, precision: str, tmp_path: Path) -> None:
    """The graph keeps the contract, scores are numbers, and both runtimes compute the same."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (4, 8, 12, 3), np.uint8)
    images: list[ImageArray] = [np.kron(one, np.ones((8, 8, 1), np.uint8)) for one in coarse]
    made = tmp_path / "made.onnx"
    if precision == "fp16":
        write_fp16(model, made)
    else:
        write_int8(model, made, images)
    graph = onnx.load(made)
    assert not lint(graph)
    kinds = Counter(node.op_type for node in graph.graph.node)
    assert kinds["Cast" if precision == "fp16" else "QuantizeLinear"] > 1
    scores = []
    for runtime in ("onnxruntime", "openvino"):
        with open_runtime(Graph(made, SIZE), runtime, 1) as opened:
            scores.append([opened.infer(image).score for image in images])
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores[0], scores[1], atol=0.05 * max(1.0, np.abs(scores).max()))
