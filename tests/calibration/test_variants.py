"""fp16 and int8 models of a product: kept where they decide alike, and only there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from calibration import variants
from calibration.backbones import Backbone
from calibration.backbones.resnet import SHAPES, ResNet
from calibration.evaluate import Scored, score_one
from calibration.graph import ScoringGraph, export_onnx
from calibration.holdout import Holdout
from calibration.projected import ProjectedHead, every_fourth, learn_projection
from calibration.scorers import Labelled
from calibration.variants import KEPT, PRECISIONS, Variants, make_variants
from inspectd.core.bundle import Graph, ModelPart
from inspectd.core.errors import RuntimeUnavailableError
from inspectd.core.records import ImageArray
from inspectd.core.scope import WHOLE
from inspectd.runtimes import open_runtime

SIZE = (64, 64)
CHANNELS = (64, 128, 256)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 with random weights."""
    torch.manual_seed(1)
    network = ResNet(SHAPES["resnet18"]).eval().requires_grad_(False)
    rows = torch.nn.functional.normalize(torch.rand(100, sum(CHANNELS))).numpy()
    projection = learn_projection(rows, 32)
    head = ProjectedHead(projection, projection(rows[:20]), CHANNELS, every_fourth, 16)
    path = tmp_path_factory.mktemp("variants") / "model.onnx"
    export_onnx(ScoringGraph(Backbone("resnet18", network, "0" * 64), head, SIZE), path)
    return path


@pytest.fixture
def graph(model: Path, tmp_path: Path) -> Graph:
    """The model in a folder of its own."""
    target = tmp_path / "model.onnx"
    target.write_bytes(model.read_bytes())
    return Graph(target, SIZE, ModelPart(), "flange", "r0001-00000000")


@pytest.fixture(scope="module")
def images() -> list[ImageArray]:
    """Smooth pictures, (64, 64, 3)."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    return [np.kron(one, np.ones((8, 8, 1), np.uint8)) for one in coarse]


def scored(graph: Graph, images: Sequence[ImageArray]) -> list[Scored]:
    """By the reference; every other part counts as defective."""
    mask = np.zeros(SIZE, np.uint8)
    with open_runtime(graph, "onnxruntime", 1) as runtime:
        return [
            score_one(f"{at}.png", "dent" if at % 2 else "good", image, mask, WHOLE, runtime)
            for at, image in enumerate(images)
        ]


def made(
    graph: Graph, images: Sequence[ImageArray], threshold: float, wanted: Sequence[str] = PRECISIONS
) -> Variants:
    """With progress thrown away."""
    holdout = Holdout(tuple(scored(graph, images)), "real")
    return make_variants(
        graph, wanted, images, holdout, labelled(images), threshold, 1e-3, 1, lambda *_: None
    )


def labelled(images: Sequence[ImageArray]) -> list[Labelled]:
    """As a hold-out set gives them."""
    return [Labelled(f"{at}.png", "good", image, None) for at, image in enumerate(images)]


def test_both_are_written_and_what_was_compared_is_told(
    graph: Graph, images: list[ImageArray]
) -> None:
    """Far from the threshold every verdict is equal; the report has a line for each."""
    found = made(graph, images, threshold=1.0)
    assert set(found.parts) == {"fp16", "int8"}
    for precision, part in found.parts.items():
        assert (graph.path.parent / part.file).is_file()
        assert part.n_compared == len(images)
        assert 0 < part.difference <= {"fp16": 2e-3, "int8": 5e-3}[precision]
        assert f"{precision} model" in found.facts
    ((runtime, parity),) = found.proven
    assert parity.passed
    assert runtime == found.parts["int8"].runtime
    slim = Graph(graph.path, SIZE, precisions={"int8": graph.path.with_name("model.int8.onnx")})
    with open_runtime(slim, f"{runtime.partition('-')[0]}-int8", 1) as opened:
        assert opened.name == runtime


def test_what_is_not_wanted_is_not_made(graph: Graph, images: list[ImageArray]) -> None:
    """fp32 alone writes nothing beside it."""
    assert made(graph, images, 1.0, ()) == Variants()
    assert [path.name for path in graph.path.parent.iterdir()] == ["model.onnx"]


def test_a_model_that_is_too_far_off_is_not_kept(
    graph: Graph, images: list[ImageArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first stages go back to fp32 step by step; in the end there is none, and why is told."""
    kept: list[Sequence[str]] = []
    real = variants.write_int8

    def noted(model: Path, path: Path, pictures: Sequence[ImageArray], keep: Sequence[str]) -> None:
        kept.append(keep)
        real(model, path, pictures, keep)

    monkeypatch.setattr(variants, "write_int8", noted)
    monkeypatch.setitem(variants.ROUNDING, "int8", 1e-9)
    holdout = Holdout(tuple(scored(graph, images)), "real")
    found = make_variants(
        graph, ("int8",), images, holdout, labelled(images), 1.0, 0.0, 1, lambda *_: None
    )
    assert tuple(kept) == KEPT
    assert not found.parts
    assert not found.proven
    assert "apart" in found.facts["int8 model"]
    assert not graph.path.with_name("model.int8.onnx").exists()


def test_a_verdict_that_changes_beyond_the_margin_is_a_failure(
    graph: Graph, images: list[ImageArray]
) -> None:
    """A reference that lies on the wrong side of the threshold."""
    holdout = scored(graph, images)
    lowest = min(one.score for one in holdout)
    moved = Holdout(tuple(_moved(one) for one in holdout), "real")
    found = make_variants(
        graph, ("fp16",), images, moved, labelled(images), lowest + 0.02, 1.0, 1, lambda *_: None
    )
    assert not found.parts
    assert "verdict(s) changed" in found.facts["fp16 model"]


def test_a_revision_without_int8_says_what_to_do(graph: Graph) -> None:
    """The runtime can't be opened."""
    with pytest.raises(RuntimeUnavailableError, match=r"no int8 model.*calibrate flange anew"):
        open_runtime(graph, "openvino-int8")


def _moved(one: Scored) -> Scored:
    """As if the reference had scored it higher."""
    return replace(one, score=one.score + 0.04)
