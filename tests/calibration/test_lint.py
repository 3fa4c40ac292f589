"""Every exported graph can be read by every runtime; a graph that can't is refused."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from calibration.backbones import Backbone, load_backbone
from calibration.backbones.resnet import SHAPES, ResNet
from calibration.graph import ScoringGraph, export_onnx
from calibration.lint import lint, require_portable
from calibration.projected import ProjectedHead, every_eighth, every_fourth, learn_projection
from calibration.scorers.protoad import HEADS, PublishedHead, RewrittenHead
from inspectd.core.errors import BundleError

SIZE = (64, 64)
RTX = "onnxruntime_ep_nv_tensorrt_rtx"


def exported(backbone: Backbone, head: str, path: Path) -> onnx.ModelProto:
    """A graph of every part there is, with a few prototypes; export lints it already."""
    channels = backbone.network.channels
    rows = torch.rand((8, sum(channels)), generator=torch.manual_seed(0))
    prototypes = torch.nn.functional.normalize(rows)
    made: torch.nn.Module
    if head == "published":
        made = PublishedHead(prototypes)
    elif head == "rewritten":
        made = RewrittenHead(prototypes, channels, 4)
    else:
        patches = torch.rand((64, sum(channels)), generator=torch.manual_seed(1)).numpy()
        projection = learn_projection(patches, 16)
        grid = every_eighth if head == "compact" else every_fourth
        rows = projection(prototypes.numpy())
        made = ProjectedHead(projection, rows, channels, grid, 4)
    export_onnx(ScoringGraph(backbone, made, SIZE), path)
    return onnx.load(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """A sound graph."""
    path = tmp_path_factory.mktemp("lint") / "model.onnx"
    return exported(load_backbone("filterbank"), "rewritten", path)


def untrained(name: str) -> Backbone:
    """A network with random weights: its graph is the same."""
    return Backbone(name, ResNet(SHAPES[name]).eval().requires_grad_(False), "0" * 64)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("backbone", ["filterbank", "resnet18", "resnet50"])
def test_every_exported_graph_is_portable(backbone: str, head: str, tmp_path: Path) -> None:
    """Each kind of backbone with each head."""
    network = load_backbone("filterbank") if backbone == "filterbank" else untrained(backbone)
    assert lint(exported(network, head, tmp_path / "model.onnx")) == []


def _newer(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 18


def _newer_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 9


def _foreign(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _unknown(model: onnx.ModelProto) -> None:
    model.graph.node[-1].op_type = "GridSample"


def _bytes_transposed(model: onnx.ModelProto) -> None:
    cast = next(node for node in model.graph.node if "image" in node.input)
    transpose = next(node for node in model.graph.node if cast.output[0] in node.input)
    cast.op_type, transpose.op_type = "Transpose", "Cast"


def _not_bytes(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def _fixed_batch(model: onnx.ModelProto) -> None:
    model.graph.output[1].type.tensor_type.shape.dim[0].dim_value = 1


def _int32_bias(model: onnx.ModelProto) -> None:
    bias = helper.make_tensor("bias", TensorProto.INT32, [1], [1])
    model.graph.initializer.append(bias)
    node = helper.make_node("DequantizeLinear", ["bias", "s", "z"], ["b"], name="dq")
    model.graph.node.append(node)


def _doubles(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.DOUBLE, [1], [1.0]))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_newer, "opset 18, at most 17"),
        (_newer_ir, "IR version 9"),
        (_foreign, "operators of com.microsoft"),
        (_unknown, "operator GridSample"),
        (_bytes_transposed, "goes into Transpose, not into one Cast"),
        (_not_bytes, "image is FLOAT"),
        (_fixed_batch, "score has a batch of fixed length"),
        (_int32_bias, "dq has a bias quantised to int32"),
        (_doubles, "weights w are float64"),
    ],
)
def test_what_a_runtime_refuses_is_named(
    model: onnx.ModelProto, spoil: Callable[[onnx.ModelProto], None], said: str
) -> None:
    """Each fault is said, and the export fails on it."""
    spoilt = onnx.ModelProto()
    spoilt.CopyFrom(model)
    spoil(spoilt)
    assert any(said in problem for problem in lint(spoilt))
    with pytest.raises(BundleError, match="not every runtime can read"):
        require_portable(spoilt, Path("model.onnx"))


@pytest.mark.parametrize("target", ["sm86", "sm89"])
@pytest.mark.parametrize("head", HEADS)
def test_tensorrt_rtx_builds_it(target: str, head: str, tmp_path: Path) -> None:
    """Its parser takes the graph and builds an engine; skipped where it isn't installed."""
    if importlib.util.find_spec(RTX) is None:
        pytest.skip(f"not installed: pip install {RTX.replace('_', '-')}-cu13")
    import onnxruntime

    plugin = importlib.import_module(RTX)
    name = plugin.get_ep_name()
    try:
        onnxruntime.register_execution_provider_library(name, plugin.get_library_path())
    except Exception as error:  # noqa: BLE001 - without a driver's libraries it doesn't load
        if "already" not in str(error):
            pytest.skip(f"the plug-in doesn't load here: {error}")
    devices = [one for one in onnxruntime.get_ep_devices() if one.ep_name == name]
    if not devices:
        pytest.skip("the plug-in sees no GPU, and Python can't describe one to it")
    path = tmp_path / "model.onnx"
    exported(load_backbone("filterbank"), head, path)
    options = onnxruntime.SessionOptions()
    options.add_provider_for_devices(devices[:1], {"nv_target_sm": target})
    compiled = tmp_path / "compiled.onnx"
    onnxruntime.ModelCompiler(options, path).compile_to_file(str(compiled))
    kinds = {node.op_type for node in onnx.load(compiled).graph.node}
    assert kinds == {"EPContext"}
