"""The model in fp16 and int8: what is converted, what is left, and that every runtime reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from calibration.backbones import Backbone
from calibration.backbones.resnet import SHAPES, ResNet
from calibration.graph import ScoringGraph, export_onnx
from calibration.lint import lint
from calibration.precision import STAGES, write_fp16, write_int8
from calibration.projected import ProjectedHead, every_eighth, every_fourth, learn_projection
from calibration.scorers.protoad import RewrittenHead
from inspectd.core.bundle import Graph
from inspectd.core.records import ImageArray
from inspectd.runtimes import open_runtime

SIZE = (64, 96)
CHANNELS = (64, 128, 256)


@pytest.fixture(scope="module")
def images() -> list[ImageArray]:
    """Smooth coloured pictures, (64, 96, 3)."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 8, 12, 3), np.uint8)
    return [np.kron(one, np.ones((8, 8, 1), np.uint8)) for one in coarse]


@pytest.fixture(scope="module", params=["rewritten", "projected", "compact"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 with random weights and a head."""
    torch.manual_seed(0)
    network = ResNet(SHAPES["resnet18"]).eval().requires_grad_(False)
    backbone = Backbone("resnet18", network, "0" * 64)
    rows = torch.nn.functional.normalize(torch.rand(300, sum(CHANNELS)))
    head: torch.nn.Module = RewrittenHead(rows[:40], CHANNELS, 16)
    if request.param != "rewritten":
        projection = learn_projection(rows.numpy(), 32)
        grid = every_fourth if request.param == "projected" else every_eighth
        head = ProjectedHead(projection, projection(rows[:40].numpy()), CHANNELS, grid, 16)
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    export_onnx(ScoringGraph(backbone, head, SIZE), path)
    return path


def _scores(path: Path, runtime: str, images: list[ImageArray]) -> list[float]:
    with open_runtime(Graph(path, SIZE), runtime, 1) as opened:
        return [opened.infer(image).score for image in images]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_fp16_moves_no_score_by_more_than_its_bound(
    runtime: str, model: Path, images: list[ImageArray], tmp_path: Path
) -> None:
    """On both CPU runtimes, which emulate it; and it is not the same to the bit."""
    write_fp16(model, tmp_path / "half.onnx")
    half, full = (_scores(path, runtime, images) for path in (tmp_path / "half.onnx", model))
    np.testing.assert_allclose(half, full, atol=2e-3)
    assert half != full


def test_fp16_types_the_convolutions_and_leaves_lengths_and_output(
    model: Path, tmp_path: Path
) -> None:
    """The way in, the sum of squares and the smoothing stay in fp32."""
    write_fp16(model, tmp_path / "half.onnx")
    made = onnx.load(tmp_path / "half.onnx")
    kinds = {tensor.name: tensor.data_type for tensor in made.graph.initializer}
    convolutions = [node for node in made.graph.node if node.op_type == "Conv"]
    inside = [n for n in convolutions if n.name.startswith(("/network/", "/head/"))]
    outside = [n for n in convolutions if n not in inside]
    assert {kinds[node.input[1]] for node in inside} == {TensorProto.FLOAT16}
    assert {kinds[node.input[1]] for node in outside} == {TensorProto.FLOAT}
    types = _types(made)
    lengths = [node for node in made.graph.node if node.op_type == "ReduceL2"]
    assert lengths
    assert all(types[node.input[0]] == TensorProto.FLOAT for node in lengths)
    assert not lint(made)
    assert (tmp_path / "half.onnx").stat().st_size < 0.6 * model.stat().st_size


@pytest.mark.parametrize("runtime", ["onnxruntime-int8", "openvino-int8"])
def test_int8_is_near_and_the_same_file_serves_both_runtimes(
    runtime: str, model: Path, images: list[ImageArray], tmp_path: Path
) -> None:
    """A random network's scores lie close together, so the bound is relative to none of them."""
    path = tmp_path / "int8.onnx"
    write_int8(model, path, images)
    graph = Graph(model, SIZE, precisions={"int8": path})
    with open_runtime(graph, runtime, 1) as opened:
        found = [opened.infer(image).score for image in images]
        assert " int8 CPU (model " in opened.name
    np.testing.assert_allclose(found, _scores(model, "onnxruntime", images), atol=0.02)
    assert path.stat().st_size < 0.4 * model.stat().st_size


def test_int8_is_symmetric_per_channel_and_has_no_quantised_bias(
    model: Path, images: list[ImageArray], tmp_path: Path
) -> None:
    """As TensorRT wants it."""
    path = tmp_path / "int8.onnx"
    write_int8(model, path, images)
    made = onnx.load(path)
    weights = {tensor.name: tensor for tensor in made.graph.initializer}
    makers = {name: node for node in made.graph.node for name in node.output}
    points = [n for n in made.graph.node if n.op_type == "QuantizeLinear"]
    zeros = [numpy_helper.to_array(weights[node.input[2]]) for node in points]
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    convolutions = [n for n in made.graph.node if n.op_type == "Conv"]
    quantised = [n for n in convolutions if n.name.startswith(("/network/", "/head/"))]
    for node in quantised:
        weight = makers[node.input[1]]
        assert weight.op_type == "DequantizeLinear"
        scales = numpy_helper.to_array(weights[weight.input[1]])
        assert scales.shape == (numpy_helper.to_array(weights[weight.input[0]]).shape[0],)
    assert not lint(made)


def test_cosines_go_into_the_maximum_unrounded(
    model: Path, images: list[ImageArray], tmp_path: Path
) -> None:
    """Steps of 1/127 would show in the score; so do sums of squares."""
    path = tmp_path / "int8.onnx"
    write_int8(model, path, images)
    made = onnx.load(path)
    makers = {name: node.op_type for node in made.graph.node for name in node.output}
    readers = [n for n in made.graph.node if n.op_type in ("ReduceMax", "ReduceL2", "Resize")]
    assert readers
    assert all(makers.get(node.input[0]) != "DequantizeLinear" for node in readers)


def test_what_is_kept_stays_in_fp32(model: Path, images: list[ImageArray], tmp_path: Path) -> None:
    """The first stages, whose rounding every later one would see."""
    path = tmp_path / "int8.onnx"
    write_int8(model, path, images, STAGES[:2])
    made = onnx.load(path)
    weights = {tensor.name for tensor in made.graph.initializer}
    plain = [n.name for n in made.graph.node if n.op_type == "Conv" and n.input[1] in weights]
    assert any(name.startswith("/network/conv1/") for name in plain)
    assert any(name.startswith("/network/layer1/") for name in plain)
    assert not any(name.startswith(("/network/layer2/", "/head/")) for name in plain)


def _types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    known = (*inferred.value_info, *inferred.input, *inferred.output)
    return {value.name: value.type.tensor_type.elem_type for value in known}
