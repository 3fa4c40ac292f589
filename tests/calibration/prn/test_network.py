"""PRN as a whole: shapes, switches, learning, and its exported graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

from calibration.backbones import load_backbone
from calibration.graph import ScoringGraph, export_onnx
from calibration.prn.attention import MultiSizeAttention
from calibration.prn.fusion import Fusion
from calibration.prn.losses import total_loss
from calibration.prn.network import PRN, Head, Modules, stage_sizes
from calibration.prn.norm import Norm
from calibration.prototypes import Prototypes

CHANNELS = (8, 12, 16)
STRIDES = (4, 8, 16)
SIZE = (64, 96)
TOP_PIXELS = 9
ALL = Modules()


def _head(
    channels: tuple[int, ...] = CHANNELS,
    size: tuple[int, int] = SIZE,
    modules: Modules = ALL,
) -> Head:
    sizes = stage_sizes(size, STRIDES)
    torch.manual_seed(0)
    known = [
        Prototypes(torch.rand(3, c, *hw), "absolute") for c, hw in zip(channels, sizes, strict=True)
    ]
    torch.manual_seed(1)
    network = PRN(channels, sizes, modules)
    return Head(known if modules.prototypes else [], network)


def _stages(batch: int = 2, size: tuple[int, int] = SIZE) -> list[torch.Tensor]:
    torch.manual_seed(2)
    sizes = stage_sizes(size, STRIDES)
    return [torch.rand(batch, c, *hw) for c, hw in zip(CHANNELS, sizes, strict=True)]


@pytest.mark.parametrize("size", [(64, 96), (224, 224), (100, 60)])
def test_the_map_has_half_the_inputs_size(size: tuple[int, int]) -> None:
    """Probabilities, (B, 1, H/2, W/2)."""
    found = _head(size=size)(_stages(size=size))
    finest = stage_sizes(size, STRIDES)[0]
    assert found.shape == (2, 1, 2 * finest[0], 2 * finest[1])
    assert found.min() > 0
    assert found.max() < 1


@pytest.mark.parametrize(
    "modules",
    [
        Modules(prototypes=False, fusion=False, attention=False),
        Modules(attention=False),
        Modules(prototypes=False),
        Modules(fusion=False),
        Modules(),
    ],
)
def test_each_row_of_table_4_is_a_network(modules: Modules) -> None:
    """What is switched off isn't there; the map's shape stays."""
    head = _head(modules=modules)
    kinds = [type(module) for module in head.modules()]
    assert kinds.count(Prototypes) == (3 if modules.prototypes else 0)
    assert kinds.count(Fusion) == ((3 if modules.prototypes else 2) if modules.fusion else 0)
    assert kinds.count(MultiSizeAttention) == (9 if modules.attention else 0)
    assert head(_stages()).shape == (2, 1, 32, 48)


def test_only_prototypes_are_not_learned() -> None:
    """Everything else gets a gradient from the loss; prototypes are buffers (section 3.1)."""
    head = _head()
    for layer in head.modules():  # attention's last weights begin at zero and would hide it
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
    head(_stages()).square().mean().backward()
    assert [n for n, p in head.named_parameters() if p.grad is None] == []
    assert not any("prototypes" in name for name, _ in head.named_parameters())


def test_a_few_steps_on_a_tiny_set_lower_the_loss() -> None:
    """Two maps with a bright square each are learned by heart."""
    network = _head(modules=Modules(prototypes=False)).network
    stages = _stages()
    mask = torch.zeros(2, 1, 32, 48)
    mask[:, :, 8:20, 8:20] = 1
    for stage, stride in zip(stages, (2, 4, 8), strict=True):
        stage += 2 * functional.avg_pool2d(mask, stride)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-2)
    losses = []
    for _ in range(25):
        loss = total_loss(network(stages, []), mask)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[ScoringGraph, Path]:
    """A small PRN on the built-in backbone, with batch statistics, exported once."""
    backbone = load_backbone("filterbank")
    network = _head(backbone.network.channels)
    torch.manual_seed(3)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
    graph = ScoringGraph(backbone, network, SIZE, sigma=0.0, top_pixels=TOP_PIXELS)
    path = tmp_path_factory.mktemp("prn") / "model.onnx"
    export_onnx(graph, path)
    return graph, path


def _pictures(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_onnx_runtime_agrees_with_torch(exported: tuple[ScoringGraph, Path], batch: int) -> None:
    """Whatever the batch: attention's reshapes leave its axis free."""
    graph, path = exported
    pictures = _pictures(batch)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    maps, scores = session.run(None, {"image": pictures})
    _assert_torch_agrees(graph, pictures, maps, scores)


@pytest.fixture(scope="module")
def compiled(exported: tuple[ScoringGraph, Path]) -> Any:
    """The same in OpenVINO, in single precision; its threads live as long as the module."""
    openvino = pytest.importorskip("openvino")
    return openvino.Core().compile_model(exported[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


@pytest.mark.parametrize("batch", [1, 2])
def test_openvino_agrees_with_torch(
    exported: tuple[ScoringGraph, Path], compiled: Any, batch: int
) -> None:
    """Whatever the batch, too."""
    pictures = _pictures(batch)
    found = compiled({"image": pictures})
    _assert_torch_agrees(exported[0], pictures, found["anomaly_map"], found["score"])


def _assert_torch_agrees(
    graph: ScoringGraph, pictures: np.ndarray, maps: np.ndarray, scores: np.ndarray
) -> None:
    with torch.inference_mode():
        expected, score = graph(torch.from_numpy(pictures))
    assert expected.std() > 1e-3  # a constant map would agree by itself
    np.testing.assert_allclose(maps, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(scores, score.numpy(), atol=1e-5)


def test_no_batch_normalisation_is_left_in_the_graph(exported: tuple[ScoringGraph, Path]) -> None:
    """Folded into convolutions, or a product and a sum."""
    kinds = {node.op_type for node in onnx.load(exported[1]).graph.node}
    assert "BatchNormalization" not in kinds


@pytest.mark.parametrize("is_learning", [True, False])
def test_the_exported_normalisation_is_torchs(is_learning: bool) -> None:
    """With a batch's statistics while it learns, with those learned afterwards."""
    ours, torchs = Norm(5), nn.BatchNorm2d(5)
    x = 2 + 3 * torch.randn(4, 5, 6, 6, generator=torch.manual_seed(4))
    for norm in (ours, torchs):
        nn.init.constant_(norm.weight, 1.5)
        norm(x)
        norm.train(is_learning)
    torch.testing.assert_close(ours(x), torchs(x))
    torch.testing.assert_close(ours.running_var, torchs.running_var)


def test_the_file_holds_the_prototypes_once(exported: tuple[ScoringGraph, Path]) -> None:
    """Distances and the nearest map come from one copy: they are most of the file."""
    graph, path = exported
    shapes = [m.maps.shape for m in graph.modules() if isinstance(m, Prototypes)]
    sizes = [int(np.prod(weights.dims)) for weights in onnx.load(path).graph.initializer]
    for shape in shapes:
        assert sizes.count(shape.numel()) == 1
