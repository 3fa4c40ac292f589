"""Torch, operator by operator: the same scores as ONNX Runtime's, from the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch.nn import functional

from calibration.backbones import Backbone, load_backbone
from calibration.backbones.resnet import SHAPES, ResNet
from calibration.eager import CHOICES, EagerRuntime, open_eager
from calibration.graph import ScoringGraph, export_onnx
from calibration.projected import ProjectedHead, Projection, every_eighth, every_fourth
from calibration.scorers.protoad import PublishedHead, RewrittenHead
from inspectd.cli.bench_setup import TORCH
from inspectd.core.bundle import Graph
from inspectd.core.errors import InferenceError, RuntimeUnavailableError
from inspectd.runtimes import open_runtime

SIZE = (64, 96)
PICTURES = [np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8) for seed in range(3)]

GRIDS = {"projected": every_fourth, "compact": every_eighth}


def head_of(kind: str, channels: tuple[int, ...]) -> torch.nn.Module:
    """With 70 prototypes, in three tiles."""
    drawn = torch.manual_seed(0)
    if kind in GRIDS:
        matrix = torch.rand((sum(channels), 12), generator=drawn).numpy()
        kernels = functional.normalize(torch.rand((70, 12), generator=drawn)).numpy()
        return ProjectedHead(Projection(matrix, 0.9), kernels, channels, GRIDS[kind], 32)
    kernels = functional.normalize(torch.rand((70, sum(channels)), generator=drawn))
    return PublishedHead(kernels) if kind == "published" else RewrittenHead(kernels, channels, 32)


@pytest.fixture(scope="module", params=["filterbank", "resnet18"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    """Filters, or a network of random weights."""
    if request.param == "filterbank":
        return load_backbone("filterbank")
    torch.manual_seed(0)
    network = ResNet(SHAPES["resnet18"]).eval().requires_grad_(False)
    return Backbone("resnet18", network, "0" * 64)


@pytest.fixture(scope="module", params=["rewritten", "published", *GRIDS])
def graph(
    request: pytest.FixtureRequest, backbone: Backbone, tmp_path_factory: pytest.TempPathFactory
) -> Graph:
    """An exported graph of each head."""
    path = tmp_path_factory.mktemp("eager") / "model.onnx"
    head = head_of(request.param, backbone.network.channels)
    export_onnx(ScoringGraph(backbone, head, SIZE), path)
    return Graph(path, SIZE)


def test_it_gives_onnx_runtimes_scores(graph: Graph) -> None:
    """Maps and scores, also from the second picture on, when shapes aren't computed any more."""
    with open_eager(graph, "torch-cpu", 1) as eager, open_runtime(graph, "onnxruntime", 1) as other:
        for picture in PICTURES:
            found, expected = eager.infer(picture), other.infer(picture)
            assert found.score == pytest.approx(expected.score, abs=1e-5)
            np.testing.assert_allclose(found.values, expected.values, atol=1e-5)


def test_half_precision_stays_within_its_rounding(graph: Graph) -> None:
    """Weights and activations in 16 bits; lengths are summed in 32."""
    with (
        EagerRuntime(graph, 1, "cpu", "fp16") as eager,
        open_runtime(graph, "onnxruntime", 1) as other,
    ):
        found = eager.infer(PICTURES[0])
        assert found.values.dtype == np.float32
        assert found.score == pytest.approx(other.infer(PICTURES[0]).score, abs=eager.rounding)


def test_leaving_restores_the_threads(graph: Graph) -> None:
    """Torch's number of threads is the process's."""
    before = torch.get_num_threads()
    with EagerRuntime(graph, before + 1, "cpu", "fp32"):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    """One graph for what doesn't depend on it."""
    backbone = load_backbone("filterbank")
    path = tmp_path_factory.mktemp("eager") / "small.onnx"
    head = head_of("published", backbone.network.channels)
    export_onnx(ScoringGraph(backbone, head, SIZE), path)
    return Graph(path, SIZE)


@pytest.mark.parametrize(
    "image", [np.zeros((96, 64, 3), np.uint8), np.zeros((*SIZE, 3), np.float32)]
)
def test_a_bad_picture_fails_alone(small: Graph, image: np.ndarray) -> None:
    """The next one scores."""
    with open_eager(small, "torch-cpu", 1) as eager:
        with pytest.raises(InferenceError, match="torch-"):
            eager.infer(image)
        eager.infer(PICTURES[0])
    with pytest.raises(InferenceError, match="not entered"):
        eager.infer(PICTURES[0])


def test_an_operator_that_is_not_known(small: Graph, tmp_path: Path) -> None:
    """It is named when the graph is loaded."""
    model = onnx.load(small.path)
    next(node for node in model.graph.node if node.op_type == "Sqrt").op_type = "Erf"
    path = tmp_path / "strange.onnx"
    onnx.save(model, path)
    with pytest.raises(RuntimeUnavailableError, match="operator Erf"):
        open_eager(Graph(path, SIZE), "torch-cpu", 1).__enter__()


@pytest.mark.parametrize("content", [None, b"no model"])
def test_a_bad_file_is_unavailable(tmp_path: Path, content: bytes | None) -> None:
    """Missing or damaged."""
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RuntimeUnavailableError, match=r"model\.onnx"):
        open_eager(Graph(path, SIZE), "torch-cpu", 1).__enter__()


@pytest.mark.parametrize("choice", CHOICES[1:])
def test_without_a_gpu(small: Graph, choice: str) -> None:
    """Those for a GPU say that torch sees none."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeUnavailableError, match="sees no GPU"):
        open_eager(small, choice, 1)


def test_the_command_lines_names_are_these(small: Graph) -> None:
    """It may not import torch to know them."""
    assert TORCH == CHOICES
    with pytest.raises(RuntimeUnavailableError, match="known: torch-cpu"):
        open_eager(small, "jax", 1)
